"""Runs by the hundred: an array of members, on SLURM or in processes of this machine.

An array is one folder: `array.json` (what every member is: one file, however many they are),
`members/00042/` (run folders like any other, made when they start) and `jobs/` (submitit's scripts,
logs and payloads; only the user may write there, since payloads are pickles).

What bounds it, so that 10,000 members are no more trouble than ten:

- Jobs: at most `cluster.jobs` (1,000, what SLURM takes for an array unless it is told otherwise);
  more members are dealt out, member k to job k modulo jobs, and a job runs its own one after
  another. A payload is a number and a path, about 250 bytes.
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

import random
import shutil
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbcore.config import load_config, make_config, parsed, with_settings
from nbcore.errors import InputError, unknown_name
from nbcore.jsonfiles import flat, read_json, write_json
from nbcore.runs import cluster, notebooks, provenance
from nbcore.runs.checks import check_members
from nbcore.runs.records import Run
from nbcore.runs.signals import Interrupted
from nbcore.tables import write_table

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Array",
    "Job",
    "again",
    "collect",
    "known_command",
    "last_lines",
    "logs",
    "opened",
    "outcome",
    "script",
    "states",
    "stop",
    "submit",
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

    @property
    def jobs_folder(self) -> Path:
        """What submitit keeps: scripts, payloads, logs."""
        return self.run.path / "jobs"

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
        with cluster.leaving_at_sigterm(), cluster.on_cpus(array.index["cluster"]["cpus"]):
            self._work(array)

    def _work(self, array: Array) -> None:
        apart = min(MOST_SECONDS_APART, SECONDS_PER_JOB * array.n_jobs)
        time.sleep(random.random() * apart)
        failed = 0
        for number in self.members(array):
            failed += not run_member(array, number)
        if failed:
            raise SystemExit(1)

    def members(self, array: Array) -> range:
        """Its share."""
        return range(self.number, len(array.members), array.n_jobs)

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
    except InputError as error:  # another process works on it
        print(f"member {number}: {error}", file=sys.stderr, flush=True)
        return False
    except Interrupted as error:
        print(f"member {number}: {error}", file=sys.stderr, flush=True)
        cluster.requeue(error.signum)
        raise SystemExit(error.exit_code) from None
    return True


def opened(array: str | Path) -> Array:
    """Array by its path, or by its name in outputs/.

    Raises
    ------
    InputError
        There is none.
    """
    return Array(Run.open(array))


def known_command(command: str | None, known: Iterable[str]) -> str:
    """Check the name of a command that can be submitted.

    Raises
    ------
    InputError
        It can't.
    """
    known = list(known)
    if command is None:
        raise InputError(f"submit what? One of: {', '.join(known)}; such as nbcore submit train")
    if command not in known:
        raise unknown_name("command", command, known)
    return command


def script(
    notebook: str,
    preset: str | Path | None,
    overrides: Sequence[str],
    members: Sequence[Mapping[str, Any]],
    name: str,
) -> str:
    """What `submit` would hand to the scheduler, with all that it checks."""
    config = load_config(preset, overrides)
    check_members(notebook, config.model_dump(), _beside(overrides, members))
    return cluster.batch_script(config.cluster, name, len(members))


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
        A member would fail, the name is taken, or there is no such scheduler; nothing is sent.
    """
    config = load_config(preset, overrides)
    executor = cluster.executor_of(config.cluster)
    table = config.model_dump()
    members = _beside(overrides, members)
    check_members(notebook, table, members)
    run = Run.create(name, label=command, root=root)
    group = config.tracking.group or run.path.name
    run.save_config(make_config(with_settings(table, {"tracking.group": group})))
    index = {
        "command": command,
        "notebook": notebook,
        "members": members,
        "n_jobs": cluster.n_jobs(config.cluster, executor, len(members)),
        "executor": executor,
        "cluster": config.cluster.model_dump(),
        "jobs": [],
    }
    write_json(run.path / "array.json", index)
    array = Array(run)
    try:
        again(array)
    except InputError:
        shutil.rmtree(run.path)  # nothing was sent, and the name is free again
        raise
    return array


def _beside(overrides: Sequence[str], members: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Members, with what was set for all where a member's own source would drop it."""
    found = []
    for settings in members:
        sections = [key.removesuffix("source") for key in settings if key.endswith(".source")]
        kept = (*sections, "movie.", "simulate.periods", "simulate.t_end") if sections else ()
        beside = {key: value for key, value in parsed(overrides) if key.startswith(kept)}
        found.append({**beside, **settings})
    return found


def again(array: Array) -> int:
    """Send the jobs of an array: members that are done are left, those that failed run again.

    Returns
    -------
    How many jobs.

    Raises
    ------
    InputError
        Jobs of it still wait or run.
    """
    now = states(array)
    if array.index["jobs"] and any(state in ("waiting", "running") for state in now):
        raise InputError(
            f"array {str(array.run.path)!r} still has jobs; wait for them, or `nbcore cancel` it"
        )
    for number, state in enumerate(now):
        if state == "failed":
            provenance.reopen(array.member(number))
    jobs = [Job(str(array.run.path), number) for number in range(array.n_jobs)]
    settings = make_config({"cluster": array.index["cluster"]}).cluster
    sent = cluster.send(
        jobs, array.jobs_folder, settings, array.index["executor"], array.run.path.name
    )
    array.index["jobs"].append(sent)
    write_json(array.run.path / "array.json", array.index)
    return len(jobs)


def states(array: Array) -> list[str]:
    """How each member stands: waiting, running, done, failed, interrupted, lost.

    A member that waits, was interrupted or lost, and whose job is gone from the queue, is «stopped»
    until the array is submitted again.
    """
    jobs = array.index["jobs"]
    alive = cluster.alive(jobs[-1], array.index["executor"]) if jobs else set()
    found = []
    for number in range(len(array.members)):
        run = array.member(number)
        state = provenance.state(run) if run.provenance_file.exists() else "waiting"
        unfinished = state in ("waiting", "interrupted", "lost", "open")
        if unfinished and alive is not None and number % array.n_jobs not in alive:
            state = "stopped" if state in ("waiting", "open") else f"{state}, stopped"
        found.append(state)
    return found


def stop(array: Array) -> None:
    """Ask the jobs to stop; what is done is kept."""
    for ids in array.index["jobs"][-1:]:
        cluster.interrupt(ids, array.index["executor"])


def logs(array: Array, number: int) -> list[Path]:
    """Files that hold what the job of a member printed, the newest jobs first."""
    if not 0 <= number < len(array.members):
        raise InputError(f"member {number} is none of 0 … {len(array.members) - 1}")
    ids = [sent[number % array.n_jobs] for sent in reversed(array.index["jobs"])]
    found = (array.jobs_folder / f"{each}_0_log.{kind}" for each in ids for kind in ("out", "err"))
    return [path for path in found if path.exists()]


def last_lines(path: Path, most: int) -> list[str]:
    """Last lines of a file, without reading all of it."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 500 * most))
        return file.read().decode(errors="replace").splitlines()[-most:]


def collect(array: Array) -> pd.DataFrame:
    """One row a member: its settings, how it stands, how long it took, its metrics, its error.

    Written to table.csv in the array's folder, too.
    """
    import pandas as pd

    rows = []
    for number, state in enumerate(states(array)):
        run = array.member(number)
        row: dict[str, Any] = {"member": number}
        row |= {key: _cell(value) for key, value in array.members[number].items()}
        row["state"] = state
        if run.path.exists():
            row |= outcome(run)
            row |= dict(flat(run.load_metrics()))
        if state.startswith("lost") and (found := logs(array, number)):
            errors = [path for path in found if path.suffix == ".err"]
            row["error"] = next(iter(last_lines(errors[0], 1)), None) if errors else None
        rows.append(row)
    table = pd.DataFrame(rows)
    write_table(table, array.run.path / "table.csv")
    return table


def _cell(value: Any) -> Any:
    return value if isinstance(value, (bool, int, float, str, type(None))) else str(value)


def outcome(run: Run) -> dict[str, Any]:
    """How long the attempts at a run took, how many there were, and how the last one failed."""
    with suppress(InputError):
        attempts = provenance.provenance(run).get("attempts", [])
        if attempts:
            return {
                "wall_seconds": sum(row.get("seconds", 0.0) for row in attempts),
                "attempts": len(attempts),
                "error": attempts[-1].get("error"),
            }
    return {}
