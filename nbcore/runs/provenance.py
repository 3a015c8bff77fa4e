"""Where a run came from and how it ended: provenance.json, and the lock that says it goes on.

A run is held by one process, which locks it. The system gives the lock up when that process dies,
however it dies, so that a run that calls itself running and is not locked has been lost.
"""

from __future__ import annotations

import os
import platform
import socket
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from re import match
from typing import Any

from filelock import FileLock, Timeout

from nbcore import surroundings
from nbcore.config import Config, load_config
from nbcore.errors import InputError
from nbcore.jsonfiles import read_json, write_json
from nbcore.runs.records import Run

__all__ = [
    "Attempt",
    "attempt",
    "command_line",
    "held",
    "made_by",
    "one_line",
    "provenance",
    "reopen",
    "seeds_of",
    "start_run",
    "state",
]


# All that is kept of the environment: what a scheduler says of the job. No secret is among it.
ENVIRONMENT = (
    *("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_CLUSTER_NAME"),
    *("SLURM_JOB_PARTITION", "SLURM_JOB_NUM_NODES", "SLURM_CPUS_PER_TASK", "SLURM_RESTART_COUNT"),
    *("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS"),
)


class Attempt:
    """One go at a run, from its start to its end; of several, each goes on where the last ended.

    Attributes
    ----------
    row
        What is kept of it.
    """

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self.row: dict[str, Any] = {
            "state": "running",
            "started": _now(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "environment": {name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
        }

    def end(self, state: str, exit_code: int, error: str | None = None) -> None:
        """Note how it ended: «done», «failed» or «interrupted»."""
        seconds = round(time.monotonic() - self._begun, 3)  # whatever the clock does
        self.row |= {"state": state, "exit_code": exit_code, "ended": _now(), "seconds": seconds}
        if error is not None:
            self.row["error"] = one_line(error)


@contextmanager
def attempt(
    run: Run,
    notebook: str,
    parameters: Mapping[str, Any],
    command: str | None = None,
    seeds: Mapping[str, int] | None = None,
) -> Iterator[Attempt]:
    """Hold a run while it is worked on, and keep where it came from and how it ended.

    Raises
    ------
    InputError
        Another process works on it.
    """
    with held(run):
        this = Attempt()
        table = _origin(notebook, parameters, command, seeds)
        table["attempts"] = [*_attempts(run), this.row]
        write_json(run.provenance_file, table)
        try:
            yield this
        except BaseException as error:
            if this.row["state"] == "running":
                asked = isinstance(error, (SystemExit, KeyboardInterrupt))
                state = "interrupted" if asked else "failed"
                this.end(state, 1, f"{type(error).__name__}: {error}")
            raise
        else:
            if this.row["state"] == "running":
                this.end("done", 0)
        finally:
            # With the folder gone or the disk full, the state is «lost», which says it, too.
            with suppress(OSError):
                write_json(run.provenance_file, table)


def start_run(
    preset: str | Path | None,
    overrides: Iterable[str] | Mapping[str, Any] = (),
    run_dir: str | Path | None = None,
    label: str = "run",
) -> tuple[Config, Run]:
    """Turn the three literals of a notebook into its configuration and its folder.

    Parameters
    ----------
    preset, overrides
        What `nbcore.config.load_config` takes.
    run_dir
        A run that exists already; None, as when a notebook is opened by hand, makes a new one.
    label
        What the name of a new run begins with.

    Raises
    ------
    InputError
        The configuration is wrong, in which case nothing is made, or there is no such run.
    """
    config = load_config(preset, overrides)
    run = Run.create(label=label) if run_dir is None else Run.open(run_dir)
    run.save_config(config)
    if run_dir is None:
        # How it ends stays open.
        origin = _origin(None, {}, None, seeds_of(config))
        write_json(run.provenance_file, origin | {"attempts": []})
    return config, run


def seeds_of(config: Config) -> dict[str, int]:
    """All seeds of a configuration, by dotted keys."""

    def found(table: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, int]]:
        for key, value in table.items():
            if isinstance(value, Mapping):
                yield from found(value, f"{prefix}{key}.")
            elif isinstance(value, (list, tuple)):
                rows = (each for each in value if isinstance(each, Mapping))
                for k, each in enumerate(rows):
                    yield from found(each, f"{prefix}{key}.{k}.")
            elif key == "seed":
                yield f"{prefix}{key}", value

    return dict(found(config.model_dump(), ""))


@contextmanager
def held(run: Run) -> Iterator[None]:
    """Lock a run's folder.

    Raises
    ------
    InputError
        Another process holds it.
    """
    lock = _lock(run)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        row = (_attempts(run) or [{}])[-1]
        raise InputError(
            f"run {str(run.path)!r} is being worked on by process {row.get('pid', '?')} on "
            f"{row.get('host', '?')!r}; wait for it or stop it, or start a new run"
        ) from None
    try:
        yield
    finally:
        lock.release()


def provenance(run: Run) -> dict[str, Any]:
    """Read provenance.json.

    Raises
    ------
    InputError
        The run has none.
    """
    try:
        return read_json(run.provenance_file)
    except FileNotFoundError:
        raise InputError(
            f"run {str(run.path)!r} has no provenance.json: no command of nbcore made it"
        ) from None


def made_by(run: Run) -> str | None:
    """Notebook that made a run; None if no command of nbcore made it."""
    with suppress(InputError):
        return provenance(run)["notebook"]
    return None


def state(run: Run) -> str:
    """How a run stands: running, done, failed, interrupted; lost if its process died; else open."""
    attempts = _attempts(run)
    if not attempts:
        return "open"
    last = attempts[-1]["state"]
    return "lost" if last == "running" and not _is_held(run) else last


def reopen(run: Run) -> None:
    """Let a run that failed be gone on with."""
    table = provenance(run)
    table["attempts"][-1]["state"] = "interrupted"
    write_json(run.provenance_file, table)


def one_line(text: object, most: int = 300) -> str:
    """A text in one line, its end left out if it is long."""
    line = " ".join(str(text).split())
    return line if len(line) <= most else line[: most - 1] + "…"


def _lock(run: Run) -> FileLock:
    return FileLock(run.path / ".lock")


def _is_held(run: Run) -> bool:
    lock = _lock(run)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def _attempts(run: Run) -> list[dict[str, Any]]:
    with suppress(InputError):
        return provenance(run).get("attempts", [])
    return []


def _origin(
    notebook: str | None,
    parameters: Mapping[str, Any],
    command: str | None,
    seeds: Mapping[str, int] | None,
) -> dict[str, Any]:
    return {
        "notebook": notebook,
        "parameters": dict(parameters),
        "command": command,
        "seeds": dict(seeds or {}),
        "directory": str(Path.cwd()),
        "code": surroundings.code(),
        "packages": _packages(),
        "python": platform.python_version(),
        "machine": {"host": socket.gethostname(), **surroundings.machine()},
    }


def _packages() -> dict[str, str]:
    try:
        wanted = [line for line in requires("aitimestepper") or [] if "extra ==" not in line]
    except PackageNotFoundError:
        return {}
    names = [found[0] for line in wanted if (found := match(r"[\w.-]+", line))]
    return {name: version(name) for name in ("aitimestepper", *names)}


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")


def command_line() -> str:
    """The command that this process was started with."""
    from shlex import join

    return join([Path(sys.argv[0]).name, *sys.argv[1:]])
