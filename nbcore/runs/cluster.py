"""Jobs, sent by submitit to SLURM or to processes of this machine, with the same semantics.

A job is a function object that can be called again and goes on where it was; submitit pickles it
into a folder that only the user can write to. Before its time limit it gets a signal, and is queued
again.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import psutil

from nbcore.config import Cluster
from nbcore.errors import InputError
from nbcore.runs import local_jobs, records
from nbcore.runs.provenance import one_line
from nbcore.surroundings import cores

__all__ = [
    "alive",
    "batch_script",
    "executor_of",
    "interrupt",
    "leaving_at_sigterm",
    "n_jobs",
    "on_cpus",
    "requeue",
    "send",
]

Executor = Literal["slurm", "local"]

WORDLESS = 1.0  # s, after which a process without a command line is one that has none


def executor_of(cluster: Cluster, *, dry: bool = False) -> Executor:
    """Where jobs go.

    Raises
    ------
    InputError
        SLURM is asked for, and is not here.
    """
    has_slurm = shutil.which("sbatch") is not None
    if cluster.executor == "slurm" and not has_slurm and not dry:
        raise InputError(
            "cluster.executor is 'slurm', and there is no sbatch on this machine; submit from a "
            "login node, or use --cluster local"
        )
    if cluster.executor == "auto":
        return "slurm" if has_slurm else "local"
    return cluster.executor


def n_jobs(cluster: Cluster, executor: Executor, n_members: int) -> int:
    """Jobs for so many members; here as many as may run at once."""
    if executor == "slurm":
        return min(n_members, cluster.jobs)
    return min(n_members, cluster.parallel or max(1, cores() // cluster.cpus))


def send(
    jobs: Sequence[Any], folder: Path, cluster: Cluster, executor: Executor, name: str
) -> list[str]:
    """Hand jobs to submitit, which keeps its files in a folder for the user alone.

    Returns
    -------
    Their numbers in SLURM, or of processes here.

    Raises
    ------
    InputError
        SLURM refuses them.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    try:
        sent = submitit_executor(folder, cluster, executor, name).submit_array(jobs)
    except Exception as error:  # submitit's own, of what sbatch says
        raise InputError(
            f"{executor} refused the jobs: {one_line(error)}; change the section [cluster], or run "
            "them on this machine with --set cluster.executor=local"
        ) from None
    for job in sent:
        if executor == "local":
            job._process.returncode = 0  # it outlives this process, of which Python would warn
    return [job.job_id for job in sent]


def submitit_executor(folder: Path, cluster: Cluster, executor: Executor, name: str) -> Any:
    """What submitit sends jobs with."""
    from submitit import LocalExecutor, SlurmExecutor

    if executor == "slurm":
        slurm = SlurmExecutor(folder, max_num_timeout=cluster.requeues)
        slurm.update_parameters(**_sbatch(cluster, name))
        return slurm
    local = LocalExecutor(folder, max_num_timeout=cluster.requeues)
    setup = [*cluster.setup, local_jobs.instead_of_submitits(folder)]
    local.update_parameters(timeout_min=cluster.minutes, signal_delay_s=cluster.grace, setup=setup)
    return local


def batch_script(cluster: Cluster, name: str, n_members: int) -> str:
    """The script that `submit` would hand to sbatch, or what it would start here."""
    executor = executor_of(cluster, dry=True)
    jobs = n_jobs(cluster, executor, n_members)
    folder = records.OUTPUTS / name / "jobs"
    command = f"{sys.executable} -u -m submitit.core._submit {folder}"
    if executor == "local":
        return f"# {jobs} processes on this machine, for {n_members} members\n{command}"
    # submitit has no public way to make the script without sending it.
    from submitit.slurm.slurm import _make_sbatch_string

    return _make_sbatch_string(command, folder, map_count=jobs, **_sbatch(cluster, name))


@contextmanager
def leaving_at_sigterm() -> Iterator[None]:
    """In a job: SIGTERM ends it, which submitit leaves to SLURM."""

    def leave(signum: int, _: object) -> None:
        raise SystemExit(128 + signum)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def on_cpus(count: int) -> Iterator[None]:
    """In a job: whatever it starts uses so many cores, unless the user has said how many."""
    names = {"OMP_NUM_THREADS", "NUMBA_NUM_THREADS"} - os.environ.keys()
    os.environ.update(dict.fromkeys(names, str(count)))
    try:
        yield
    finally:
        for name in names:
            del os.environ[name]


def requeue(signum: int) -> None:
    """In a job that a scheduler's signal ended: have submitit queue it again, and exit."""
    answer = signal.getsignal(signal.SIGUSR2)
    if signum in (signal.SIGUSR1, signal.SIGUSR2) and callable(answer):
        answer(signum, None)


def alive(ids: Sequence[str], executor: Executor) -> set[int] | None:
    """Which of the jobs wait or run, counted from 0; None if the scheduler does not say."""
    if executor == "local":
        return {number for number, pid in enumerate(ids) if _controllers(int(pid))}
    first = ids[0].partition("_")[0]
    command = ["squeue", "-h", "-r", "-j", first, "-o", "%K"]
    try:
        made = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if made.returncode != 0:
        return set() if "Invalid job id" in made.stderr else None
    listed = [line.strip() for line in made.stdout.splitlines()]
    return {int(line) if line.isdigit() else 0 for line in listed}  # one job alone is no array


def interrupt(ids: Sequence[str], executor: Executor) -> None:
    """End jobs; their notebooks get a signal first, at which they save."""
    if executor == "slurm":
        subprocess.run(["scancel", ids[0].partition("_")[0]], check=False)
        return
    for each in ids:
        for process in _controllers(int(each)):
            with suppress(psutil.NoSuchProcess):
                process.terminate()


def _controllers(pid: int) -> list[psutil.Process]:
    """The process that runs a job, if it has this number.

    It hands signals on to the job. None if it has ended, or the number is somebody else's by now.
    """
    with suppress(psutil.NoSuchProcess, ChildProcessError):
        if os.waitpid(pid, os.WNOHANG)[0] == pid:  # our own, which ended and waits to be seen
            return []
    with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        process = psutil.Process(pid)
        # Among the words of a shell, as long as that runs the lines of `setup`.
        return [process] if local_jobs.NAME in " ".join(_words(process)) else []
    return []


def _words(process: psutil.Process) -> list[str]:
    """Its command line, which Linux does not have for the moment in which it becomes another's."""
    end = time.monotonic() + WORDLESS
    while not (words := process.cmdline()) and time.monotonic() < end:
        time.sleep(0.001)
    return words


def _sbatch(cluster: Cluster, name: str) -> dict[str, Any]:
    """Parameters of submitit's SLURM executor."""
    return {
        "job_name": name,
        "partition": cluster.partition,
        "account": cluster.account,
        "qos": cluster.qos,
        "time": cluster.minutes,
        "cpus_per_task": cluster.cpus,
        "gpus_per_node": cluster.gpus or None,
        "mem": None if cluster.memory is None else f"{round(cluster.memory * 1024)}M",
        "array_parallelism": cluster.parallel or cluster.jobs,
        "signal_delay_s": cluster.grace,
        "setup": list(cluster.setup) or None,
        "additional_parameters": {"requeue": True},
    }
