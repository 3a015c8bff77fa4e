"""A mirror of a run in Weights & Biases.

The local record is the run; the mirror is a process of its own that reads the folder and tells W&B.
Whatever becomes of it, the run goes on as if there were none.

`python -m nbcore.runs.tracking FOLDER` mirrors a run that has ended, or what a mirror that failed
left out.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from shlex import join

from nbcore.config import Tracking, load_config
from nbcore.errors import InputError
from nbcore.runs.provenance import one_line
from nbcore.runs.records import Run
from nbcore.runs.wandb_files import unsent
from nbcore.runs.wandb_mirror import Worker, mirror

__all__ = ["main", "mirrored"]

MODULE = "nbcore.runs.tracking"  # this one, which is __main__ in the process of the mirror
UNREACHABLE = 3  # exit code: all is kept, but W&B was asked for and did not answer
REASON = "reason: "  # begins the line of the log that the user is shown


@contextmanager
def mirrored(run: Run, tracking: Tracking, *, progress: bool = True) -> Iterator[None]:
    """Mirror a run while it is worked on.

    The end waits for the mirror, for `tracking.patience` seconds at most. A mirror that fails costs
    a line on stderr. Nothing of it is raised.

    Parameters
    ----------
    run
        Its config.toml may yet have to be written.
    tracking
        Settings; W&B is not even imported when its `wandb` is None.
    progress
        Say on stderr how to send what is kept for later.
    """
    if tracking.wandb is None:
        yield
        return
    process, exit_code = _start(run, tracking), 1
    try:
        yield
        exit_code = 0
    except BaseException as error:
        exit_code = getattr(error, "exit_code", 1)
        raise
    finally:
        ended = process if isinstance(process, str) else _wait(process, exit_code, run, tracking)
        _report(ended, run, progress)


def _start(run: Run, tracking: Tracking) -> subprocess.Popen[bytes] | str:
    """The process, or why there is none."""
    settings = [
        f"tracking.{key}={'none' if value is None else json.dumps(value)}"
        for key, value in tracking.model_dump().items()
    ]
    command = [sys.executable, "-m", MODULE, str(run.path), *settings]
    try:
        with open(_log(run), "wb") as log:
            return subprocess.Popen(
                [*command, "--follow", str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is meant for the run
            )
    except OSError as error:
        return f"could not be started: {error.strerror}"


def _wait(
    process: subprocess.Popen[bytes], exit_code: int, run: Run, tracking: Tracking
) -> int | str:
    """Tell the mirror that the run has ended; its exit code, or why there is none."""
    try:
        process.communicate(f"{exit_code}\n".encode(), timeout=tracking.patience)
    except subprocess.TimeoutExpired:
        return f"took longer than tracking.patience = {tracking.patience:g} s"
    except KeyboardInterrupt:
        return "was interrupted"
    finally:
        if process.poll() is None:
            process.kill()
            with suppress(subprocess.TimeoutExpired):
                process.wait(1.0)
    if process.returncode in (0, UNREACHABLE):
        return process.returncode
    return f"failed: {_reason(run) or f'exit code {process.returncode}'}"


def _report(ended: int | str, run: Run, progress: bool) -> None:
    folder = run.path / "wandb"
    if ended == 0:
        if progress and unsent(folder):
            _say_how_to_send(folder)
        return
    if ended == UNREACHABLE:
        what, later = f"was not reached ({_reason(run)})", _sync(folder)
    else:
        what = ended
        later = join([sys.executable, "-m", MODULE, str(run.path)])
    print(
        f"warning: W&B {what}; the local record is complete; sync later with: {later}",
        file=sys.stderr,
    )


def _say_how_to_send(folder: Path) -> None:
    print(f"W&B was offline; send it with: {_sync(folder)}", file=sys.stderr)


def _sync(folder: Path) -> str:
    return join(["wandb", "sync", str(folder)])


def _log(run: Run) -> Path:
    return run.path / "wandb.log"


def _reason(run: Run) -> str:
    with suppress(OSError):
        for line in reversed(_log(run).read_text(errors="replace").splitlines()):
            if line.startswith(REASON):
                return line.removeprefix(REASON)
    return ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description="Mirror a run.")
    parser.add_argument("folder", help="path of the run, or its name in outputs/")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="such as tracking.project")
    parser.add_argument(
        "--follow", type=int, metavar="PID", help="the process that works on it; none unless given"
    )
    given = parser.parse_args(arguments)
    try:
        run = Run.open(given.folder)
        preset = run.config_file if run.config_file.exists() else None
        tracking = load_config(preset, given.settings).tracking
        if tracking.wandb is None:
            raise InputError("tracking.wandb is none; add tracking.wandb=online, or offline")
        problem = mirror(run, tracking, Worker(run, given.follow))
    except InputError as error:
        problem, exit_code = one_line(error), 2
    except Exception as error:
        traceback.print_exc()
        problem, exit_code = one_line(f"{type(error).__name__}: {error}"), 1
    else:
        exit_code = 0 if problem is None else UNREACHABLE
        if given.follow is None and unsent(run.path / "wandb"):
            _say_how_to_send(run.path / "wandb")
    if problem is not None:
        print(f"{REASON}{problem}", file=sys.stderr, flush=True)
    return exit_code


if __name__ == "__main__":
    raise SystemExit(main())
