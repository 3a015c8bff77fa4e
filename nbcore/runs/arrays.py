"""Runs by the hundred: an array of members, on SLURM or in processes of this machine.

An array is one folder: `array.json` (what every member is: one file, however many they are),
`members/00042/` (run folders like any other, made when they start) and `jobs/` (submitit's scripts,
logs and payloads; only the user may write there, since payloads are pickles).

What bounds it, so that 10,000 members are no more trouble than ten:

- Jobs: at most `cluster.jobs` (1,000, what SLURM takes for an array unless it is told otherwise);
  more members are dealt out, member k to job k modulo jobs, and a job runs its own one after
  another. A payload is two numbers and a path, about 200 bytes.
- Files: a member writes in its own folder alone, and nothing is written by two. A job reads the
  index once (10,000 members of three settings: 1 MB), and looks at its own members' states.
- The shared file system: jobs that start together wait a while at random first, up to half a
  minute in a large array, before they import anything.
- Memory: jobs at once, bounded by the scheduler, by `cluster.parallel`, and here by the cores.
- Looking: `status` and `collect` read one small file a member, a second for some thousands.

A job that gets a signal (time limit, preemption) interrupts its notebook, which saves, and has
itself queued again; a job that starts looks at its members, leaves those that ended, and goes on
with the one that did not. So a job may die at any moment.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nbcore.atomic import replacing
from nbcore.config import Cluster, load_config, make_config, parse_value
from nbcore.errors import InputError
from nbcore.jsonfiles import read_json, write_json
from nbcore.runs import notebooks, provenance
from nbcore.runs.listing import flat
from nbcore.runs.records import Run
from nbcore.runs.signals import Interrupted

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Array",
    "batch_script",
    "collect",
    "grid",
    "last_lines",
    "launch",
    "states",
    "stop",
    "submit",
    "wait",
]

ENDED = ("done", "failed")
MOST_SECONDS_APART = 30.0  # of the starts of jobs that could start together
SECONDS_PER_JOB = 0.05


class Array:
    """A folder of members that share everything but some settings.

    Attributes
    ----------
    run
        Its folder.
    index
        Contents of array.json: notebook, members (the settings of each), cluster, jobs.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        try:
            self.index: dict[str, Any] = read_json(run.path / "array.json")
        except FileNotFoundError:
            raise InputError(
                f"run {str(run.path)!r} is no array; `nbcore submit` makes one"
            ) from None

    @property
    def members(self) -> list[dict[str, Any]]:
        """Settings of each member, by dotted keys."""
        return self.index["members"]

    @property
    def n_jobs(self) -> int:
        """Jobs that the members are dealt out to."""
        return self.index["n_jobs"]

    def member(self, number: int) -> Run:
        """Folder of a member, which may not exist yet."""
        return Run(self.run.path / "members" / f"{number:05d}")

    def parameters(self, number: int) -> dict[str, Any]:
        """Parameters of a member's notebook."""
        return {"preset": str(self.run.config_file), "overrides": self.members[number]}


class Job:
    """What one job does: its share of the members. Sent as a pickle: a path and a number."""

    def __init__(self, folder: str, number: int) -> None:
        self.folder, self.number = folder, number

    def __call__(self) -> None:
        """Run the members that have not ended."""
        array = Array(Run(Path(self.folder)))
        apart = min(MOST_SECONDS_APART, SECONDS_PER_JOB * array.n_jobs)
        time.sleep(random.random() * apart)
        cpus = str(array.index["cluster"]["cpus"])
        for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
            os.environ.setdefault(name, cpus)
        failed = 0
        for number in range(self.number, len(array.members), array.n_jobs):
            failed += not run_member(array, number)
        if failed:
            raise SystemExit(1)

    def checkpoint(self, *_: object) -> Any:
        """What submitit queues again: the same, which goes on where this one ended."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def run_member(array: Array, number: int) -> bool:
    """Run one member, or go on with it; whether it is done.

    A signal that a scheduler sends is answered as submitit does it: the job is queued again.
    """
    run = array.member(number)
    run.path.mkdir(parents=True, exist_ok=True)
    if (state := provenance.state(run)) in ENDED:
        return state == "done"
    command = f"nbcore submit {array.index['command']}, member {number}"
    print(f"member {number}: {array.members[number]}", flush=True)
    try:
        parameters = array.parameters(number)
        name = array.index["notebook"]
        notebooks.execute(name, run, parameters=parameters, progress=False, command=command)
    except notebooks.NotebookError as error:
        print(f"member {number} failed: {error.ename}: {error.evalue}", file=sys.stderr, flush=True)
        return False
    except Interrupted as error:
        print(f"member {number}: {error}", file=sys.stderr, flush=True)
        if error.signum in (signal.SIGUSR1, signal.SIGUSR2):
            answer = signal.getsignal(signal.SIGUSR2)
            if callable(answer):
                answer(error.signum, None)
        raise SystemExit(error.exit_code) from None
    return True


def grid(over: Iterable[str]) -> list[dict[str, Any]]:
    """Members of a grid: «train.seed=0:100», «train.learning_rate=1e-3,1e-4», or a TOML list.

    Several are crossed, the last one running quickest.

    Raises
    ------
    InputError
        One can't be read.
    """
    axes: dict[str, list[Any]] = {}
    for text in over:
        key, equals, values = (part.strip() for part in text.partition("="))
        if not equals or not key or not values:
            raise InputError(
                f"--over {text!r} must read key=values: a list (1e-3,1e-4), a range (0:100) or a "
                "TOML array"
            )
        if key in axes:
            raise InputError(f"--over names {key!r} twice; give all its values at once")
        axes[key] = _values(text, values)
    return [dict(zip(axes, chosen, strict=True)) for chosen in product(*axes.values())]


def _values(text: str, values: str) -> list[Any]:
    if values.startswith("["):
        listed = parse_value(values)
        if not isinstance(listed, list) or not listed:
            raise InputError(f"--over {text!r}: this is no TOML array with values in it")
        return listed
    if ":" in values:
        try:
            numbers = range(*(int(part) for part in values.split(":")))
        except (ValueError, TypeError):
            raise InputError(
                f"--over {text!r}: a range is start:stop or start:stop:step, of whole numbers"
            ) from None
        if not numbers:
            raise InputError(f"--over {text!r}: this range has no number in it")
        return list(numbers)
    return [parse_value(part.strip()) for part in values.split(",")]


def submit(
    command: str,
    notebook: str,
    preset: str | Path | None,
    overrides: Sequence[str] = (),
    members: Sequence[Mapping[str, Any]] = ({},),
    *,
    name: str | None = None,
    root: str | Path | None = None,
) -> Array:
    """Make an array and send its jobs.

    Parameters
    ----------
    command
        What the user calls it: train, simulate, …
    notebook
        That each member runs.
    preset, overrides
        Of all of them; the section `cluster` says where they run.
    members
        Dotted settings of each.
    name, root
        Of the new folder, as in `Run.create`.

    Raises
    ------
    InputError
        The configuration of a member is wrong, the name is taken, or there is no such scheduler;
        nothing is sent.
    """
    config = load_config(preset, overrides)
    executor = executor_of(config.cluster)
    table = config.model_dump()
    for number, settings in enumerate(members):
        try:
            make_config(_with(table, settings))
        except InputError as error:
            raise InputError(f"member {number} ({dict(settings)}): {error}") from None
    run = Run.create(name, label=command, root=root)
    run.save_config(config)
    index = {
        "command": command,
        "notebook": notebook,
        "members": [dict(settings) for settings in members],
        "n_jobs": _n_jobs(config.cluster, executor, len(members)),
        "executor": executor,
        "cluster": config.cluster.model_dump(),
        "jobs": [],
    }
    write_json(run.path / "array.json", index)
    array = Array(run)
    launch(array)
    return array


def launch(array: Array) -> None:
    """Send the jobs of an array, or send them again: members that ended in good order are left."""
    for number in range(len(array.members)):
        run = array.member(number)
        if run.provenance_file.exists() and provenance.state(run) == "failed":
            provenance.reopen(run)
    jobs = [Job(str(array.run.path), number) for number in range(array.n_jobs)]
    array.index["jobs"] += [send(array, jobs)]
    write_json(array.run.path / "array.json", array.index)


def send(array: Array, jobs: Sequence[Any]) -> list[str]:
    """Hand jobs to submitit; their numbers there."""
    from submitit import LocalExecutor, SlurmExecutor

    cluster = make_config({"cluster": array.index["cluster"]}).cluster
    folder = jobs_folder(array)
    if array.index["executor"] == "slurm":
        executor = SlurmExecutor(folder, max_num_timeout=cluster.requeues)
        executor.update_parameters(**sbatch(cluster, array.run.path.name))
        try:
            return [job.job_id for job in executor.submit_array(jobs)]
        except Exception as error:  # submitit's own, of what sbatch says
            raise InputError(
                f"SLURM refused the array: {provenance.one_line(error)}; see the section cluster "
                f"of {str(array.run.config_file)!r}"
            ) from None
    executor = LocalExecutor(folder, max_num_timeout=cluster.requeues)
    executor.update_parameters(
        timeout_min=cluster.minutes, signal_delay_s=cluster.grace, setup=list(cluster.setup)
    )
    with warnings.catch_warnings():
        # The processes are meant to outlive this one.
        warnings.simplefilter("ignore", ResourceWarning)
        return [job.job_id for job in executor.submit_array(jobs)]


def jobs_folder(array: Array) -> Path:
    """Where submitit keeps its files; for the user alone."""
    folder = array.run.path / "jobs"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def sbatch(cluster: Cluster, name: str) -> dict[str, Any]:
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


def batch_script(cluster: Cluster, name: str, n_members: int) -> str:
    """The script that `submit` would hand to sbatch, or what it would start here."""
    executor = executor_of(cluster, dry=True)
    n_jobs = _n_jobs(cluster, executor, n_members)
    command = f"{sys.executable} -u -m submitit.core._submit outputs/{name}/jobs"
    if executor == "local":
        return f"# {n_jobs} processes on this machine, for {n_members} members\n{command}"
    # submitit has no public way to make the script without sending it.
    from submitit.slurm.slurm import _make_sbatch_string

    return _make_sbatch_string(
        command, f"outputs/{name}/jobs", map_count=n_jobs, **sbatch(cluster, name)
    )


def executor_of(cluster: Cluster, *, dry: bool = False) -> Literal["slurm", "local"]:
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


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _n_jobs(cluster: Cluster, executor: str, n_members: int) -> int:
    if executor == "slurm":
        return min(n_members, cluster.jobs)
    return min(n_members, cluster.parallel or max(1, cores() // cluster.cpus))


def _with(table: dict[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a nested table with dotted settings, sharing what they leave alone."""
    table = dict(table)
    for key, value in settings.items():
        *sections, last = key.split(".")
        inner = table
        for name in sections:
            below = inner.get(name)
            inner[name] = dict(below) if isinstance(below, dict) else {}
            inner = inner[name]
        inner[last] = value
    return table


def states(array: Array) -> list[str]:
    """How each member stands: waiting, running, done, failed, interrupted, lost.

    A member that waits, was interrupted or lost, and whose job is gone from the queue, is «stopped»
    until the array is submitted again.
    """
    alive = _alive(array)
    found = []
    for number in range(len(array.members)):
        run = array.member(number)
        state = provenance.state(run) if run.provenance_file.exists() else "waiting"
        unfinished = state in ("waiting", "interrupted", "lost", "open")
        if unfinished and alive is not None and number % array.n_jobs not in alive:
            state = "stopped" if state in ("waiting", "open") else f"{state}, stopped"
        found.append(state)
    return found


def _alive(array: Array) -> set[int] | None:
    """Numbers of the jobs that wait or run; None if the scheduler does not say."""
    if not array.index["jobs"]:
        return set()
    ids = array.index["jobs"][-1]
    if array.index["executor"] == "local":
        return {number for number, pid in enumerate(ids) if _is_alive(int(pid))}
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


def _is_alive(pid: int) -> bool:
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)  # one of our own may have ended and wait to be seen
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def wait(array: Array, seconds: float = float("inf"), every: float = 0.5) -> list[str]:
    """Wait until no job waits or runs; how the members stand then."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        now = states(array)
        if all(state in ENDED or state.endswith("stopped") for state in now):
            return now
        time.sleep(every)
    return states(array)


def stop(array: Array) -> None:
    """Ask the jobs to stop; what is done is kept."""
    for ids in array.index["jobs"][-1:]:
        if array.index["executor"] == "slurm":
            # The signal first, so that notebooks can save; then the jobs leave the queue.
            first = ids[0].partition("_")[0]
            subprocess.run(["scancel", first], check=False)
            continue
        for pid in ids:
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGTERM)


def logs(array: Array, number: int) -> list[Path]:
    """Files that hold what the job of a member printed, the newest jobs first."""
    if not 0 <= number < len(array.members):
        raise InputError(f"member {number} is none of 0 … {len(array.members) - 1}")
    ids = [sent[number % array.n_jobs] for sent in reversed(array.index["jobs"])]
    found = (jobs_folder(array) / f"{each}_0_log.{kind}" for each in ids for kind in ("out", "err"))
    return [path for path in found if path.exists()]


def last_lines(path: Path, most: int) -> list[str]:
    """Last lines of a file, without reading all of it."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 500 * most))
        return file.read().decode(errors="replace").splitlines()[-most:]


def collect(array: Array) -> pd.DataFrame:
    """One row a member: its settings, how it stands, how long it took, its metrics, its error.

    Written to table.parquet in the array's folder, too.
    """
    import pandas as pd

    rows = []
    for number, state in enumerate(states(array)):
        run = array.member(number)
        row: dict[str, Any] = {"member": number}
        row |= {key: _cell(value) for key, value in array.members[number].items()}
        row["state"] = state
        if run.path.exists():
            row |= _outcome(run)
            row |= dict(flat(run.load_metrics()))
        if state.startswith("lost") and (found := logs(array, number)):
            errors = [path for path in found if path.suffix == ".err"]
            row["error"] = next(iter(last_lines(errors[0], 1)), None) if errors else None
        rows.append(row)
    table = pd.DataFrame(rows)
    with replacing(array.run.path / "table.parquet") as part:
        table.to_parquet(part, index=False)
    return table


def _cell(value: Any) -> Any:
    return value if isinstance(value, (bool, int, float, str, type(None))) else str(value)


def _outcome(run: Run) -> dict[str, Any]:
    with suppress(InputError):
        attempts = provenance.provenance(run).get("attempts", [])
        if attempts:
            return {
                "seconds": sum(row.get("seconds", 0.0) for row in attempts),
                "attempts": len(attempts),
                "error": attempts[-1].get("error"),
            }
    return {}
