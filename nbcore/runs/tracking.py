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
import signal
import subprocess
import sys
import threading
import traceback
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from shlex import join
from typing import TYPE_CHECKING, Any

from nbcore.atomic import replacing
from nbcore.config import Tracking, load_config
from nbcore.errors import InputError
from nbcore.runs.provenance import one_line, provenance, state
from nbcore.runs.records import Run
from nbcore.runs.wandb_files import mark_sent, n_rows, unsent

if TYPE_CHECKING:
    import wandb

__all__ = ["main", "mirrored"]

MODULE = "nbcore.runs.tracking"  # this one, which is __main__ in the process of the mirror
SECONDS = 2.0  # between two looks at the folder
UNREACHABLE = 3  # exit code: all is kept, but W&B was asked for and did not answer
REASON = "reason: "  # begins the line of the log that the user is shown
# A batch system signals all processes of a job; the run is what saves, and what ends the mirror.
IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


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
            print(f"W&B was offline; send it with: {_sync(folder)}", file=sys.stderr)
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


class _Process:
    """What works on the run, as its mirror sees it; nothing does if there is no number.

    Attributes
    ----------
    exit_code
        Of the run, once it has ended.
    """

    def __init__(self, run: Run, number: int | None) -> None:
        self.run, self.number, self.exit_code = run, number, 1
        self._told = threading.Event()
        if number is None:
            self.exit_code = self._last().get("exit_code", 0)
        else:
            threading.Thread(target=self._listen, daemon=True).start()

    def has_ended(self, within: float) -> bool:
        """Whether it has, or does within so many seconds."""
        if self.number is None or self._told.wait(within):
            return True
        last = self._last()
        if last.get("pid") == self.number and state(self.run) != "running":
            self.exit_code = last.get("exit_code", 1)
            return True
        return not _lives(self.number)

    def _listen(self) -> None:
        # Not sys.stdin, whose lock a thread would hold when the interpreter ends.
        with suppress(OSError, ValueError):
            self.exit_code = int(os.read(0, 16))
            self._told.set()

    def _last(self) -> dict[str, Any]:
        with suppress(InputError):
            return provenance(self.run)["attempts"][-1]
        return {}


def _lives(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _mirror(run: Run, tracking: Tracking, process: _Process) -> str | None:
    """Copy a run to W&B until it ends; why W&B was not reached, though it was asked for."""
    from filelock import FileLock

    folder = run.path / "wandb"
    folder.mkdir(exist_ok=True)
    with FileLock(folder / ".lock", timeout=tracking.patience):
        begun, problem = _begin(run, tracking, bounded=process.number is not None)
        _follow(run, begun, process, n_rows(folder) if begun.offline else begun.starting_step)
        begun.summary.update(run.load_metrics())
        _log_files(run, begun)
        begun.finish(process.exit_code)
        if not begun.offline:
            mark_sent(folder)  # which W&B now has from the local record
    return problem


def _begin(run: Run, tracking: Tracking, bounded: bool) -> tuple[wandb.Run, str | None]:
    """Begin or go on with the run in W&B; without it, offline."""
    import wandb
    from wandb.errors import Error, UsageError

    settings = wandb.Settings(
        # Neither code nor command, machine, packages, output or environment.
        save_code=False,
        disable_code=True,
        disable_git=True,
        console="off",
        host="",
        x_disable_meta=True,
        x_disable_machine_info=True,
        x_disable_stats=True,
        x_disable_viewer=True,
        x_save_requirements=False,
        silent=True,
        symlink=False,
        init_timeout=tracking.patience / 2,
        finish_timeout=tracking.patience if bounded else 0.0,
        finish_timeout_raises=True,
        x_transaction_log_flush_interval=1.0,  # what a kill costs
    )

    def init(mode: Any) -> wandb.Run:
        return wandb.init(
            dir=run.path,
            id=_name_in_wandb(run),
            name=run.path.name,
            project=tracking.project,
            group=tracking.group,
            mode=mode,
            resume="allow",
            settings=settings.model_copy(),
        )

    problem = None
    if tracking.wandb != "offline":
        try:
            return init("online"), None
        except UsageError as error:  # nobody is logged in
            problem = None if tracking.wandb == "auto" else one_line(error)
        except Error as error:
            problem = one_line(error)
        wandb.teardown()  # or the id would be in use
    return init("offline"), problem


def _name_in_wandb(run: Run) -> str:
    """The id in W&B, the same for all attempts."""
    path = run.path / "wandb" / "id.txt"
    if not path.exists():
        with replacing(path) as part:
            part.write_text(f"{uuid.uuid4().hex[:12]}\n")
    return path.read_text().strip()


def _follow(run: Run, begun: wandb.Run, process: _Process, n_logged: int) -> None:
    """Copy settings and rows as they appear, except for rows that were copied before."""
    config, has_ended, seconds = None, False, 0.0
    while not has_ended:
        has_ended, seconds = process.has_ended(within=seconds), SECONDS
        if run.config_file.exists() and config != (config := run.load_config()):
            # Where jobs run, and as whom, is nobody else's business.
            begun.config.update(config.model_dump(exclude={"cluster"}), allow_val_change=True)
        for row in run.load_history()[n_logged:]:
            begun.log(row, step=n_logged, commit=True)
            n_logged += 1


def _log_files(run: Run, begun: wandb.Run) -> None:
    import wandb

    for path, kind in ((run.checkpoint_file, "model"), (run.movie_file, "movie")):
        if path.exists():
            artifact = wandb.Artifact(f"{begun.id}-{path.stem}", type=kind)
            artifact.add_file(str(path), skip_cache=True)
            begun.log_artifact(artifact)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description="Mirror a run.")
    parser.add_argument("folder", help="path of the run, or its name in outputs/")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="such as tracking.project")
    parser.add_argument(
        "--follow", type=int, metavar="PID", help="the process that works on it; none unless given"
    )
    given = parser.parse_args(arguments)
    if given.follow is not None:
        for number in IGNORED:
            signal.signal(number, signal.SIG_IGN)
    try:
        run = Run.open(given.folder)
        preset = run.config_file if run.config_file.exists() else None
        tracking = load_config(preset, given.settings).tracking
        if tracking.wandb is None:
            raise InputError("tracking.wandb is none; add tracking.wandb=online, or offline")
        _keep_to(run)
        problem = _mirror(run, tracking, _Process(run, given.follow))
    except InputError as error:
        problem, exit_code = one_line(error), 2
    except Exception as error:
        traceback.print_exc()
        problem, exit_code = one_line(f"{type(error).__name__}: {error}"), 1
    else:
        exit_code = 0 if problem is None else UNREACHABLE
    if problem is not None:
        print(f"{REASON}{problem}", file=sys.stderr, flush=True)
    return exit_code


def _keep_to(run: Run) -> None:
    """Keep W&B from asking, from reporting its own errors, and from the user's home."""
    sys.stdin = open(os.devnull)  # noqa: SIM115
    os.environ["WANDB_ERROR_REPORTING"] = "false"
    for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR"):
        os.environ[name] = str(run.path / "wandb" / "files")


if __name__ == "__main__":
    raise SystemExit(main())
