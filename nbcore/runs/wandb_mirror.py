"""The process that mirrors a run: it reads the folder, and tells W&B what it finds there."""

from __future__ import annotations

import fcntl
import os
import signal
import threading
import uuid
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from nbcore.atomic import replacing
from nbcore.config import Tracking
from nbcore.errors import InputError
from nbcore.runs.provenance import one_line, provenance, state
from nbcore.runs.records import Run
from nbcore.runs.wandb_files import mark_sent, n_rows

if TYPE_CHECKING:
    import wandb

__all__ = ["Worker", "mirror"]

SECONDS = 2.0  # between two looks at the folder
# A batch system signals all processes of a job; the run is what saves, and what ends the mirror.
IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


class Worker:
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
            last = self._last()
            self.exit_code = last.get("exit_code", 1 if last else 0)
        else:
            # Not sys.stdin, whose lock a thread would hold when the interpreter ends.
            threading.Thread(target=self._listen, args=(os.dup(0),), daemon=True).start()

    def has_ended(self, within: float) -> bool:
        """Whether it has, or does within so many seconds."""
        if self.number is None or self._told.wait(within):
            return True
        last = self._last()
        if last.get("pid") == self.number and state(self.run) != "running":
            self.exit_code = last.get("exit_code", 1)
            return True
        return not _lives(self.number)

    def _listen(self, stdin: int) -> None:
        with suppress(OSError, ValueError):
            self.exit_code = int(os.read(stdin, 16))
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


def mirror(run: Run, tracking: Tracking, worker: Worker) -> str | None:
    """Copy a run to W&B until it ends.

    Returns
    -------
    Why W&B was not reached, in which case all is kept offline; None if it was, or was not asked.
    """
    if worker.number is not None:
        for number in IGNORED:
            signal.signal(number, signal.SIG_IGN)
    _stay_in(run)
    folder = run.path / "wandb"
    folder.mkdir(exist_ok=True)
    with FileLock(folder / ".lock", timeout=tracking.patience):
        _wait_for_writers(folder)
        begun, problem = _begin(run, tracking, bounded=worker.number is not None)
        _follow(run, begun, worker, n_rows(folder) if begun.offline else begun.starting_step)
        begun.summary.update(run.load_metrics())
        _log_files(run, begun)
        begun.finish(worker.exit_code)
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


def _follow(run: Run, begun: wandb.Run, worker: Worker, n_logged: int) -> None:
    """Copy settings and rows as they appear, except for rows that were copied before."""
    config, has_ended, seconds = None, False, 0.0
    while not has_ended:
        has_ended, seconds = worker.has_ended(within=seconds), SECONDS
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


def _stay_in(run: Run) -> None:
    """Keep W&B from reporting its own errors, and from the user's home."""
    os.environ["WANDB_ERROR_REPORTING"] = "false"
    for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR"):
        os.environ[name] = str(run.path / "wandb" / "files")


def _wait_for_writers(folder: Path) -> None:
    """Wait until nothing writes for a mirror that was killed.

    W&B writes from a process of its own, which outlives the mirror by some seconds. It inherits the
    standard input; a lock on that is held for as long as it lives.
    """
    descriptor = os.open(folder / ".writer", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    os.dup2(descriptor, 0)  # an empty file, too, should W&B ask anything
    os.close(descriptor)
