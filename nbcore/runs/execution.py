"""A notebook, run by papermill: with a kernel that signals reach, and files that are always whole.

The kernel is started first, and imports what every notebook needs while papermill is imported here.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from nbcore.atomic import replacing
from nbcore.runs.signals import Signals

if TYPE_CHECKING:
    from nbformat import NotebookNode

__all__ = ["CellError", "KernelDied", "run"]

START_SECONDS = 900  # nbclient gives 60, in which a kernel that imports torch may not be there
LONGEST_BESIDE_SOCKETS = 95  # characters of a path, where the system allows sockets 104
WHOLE = "whole:"  # what marks a path that papermill hands to _WholeFiles
AT_THE_START = (
    # A batch system signals all processes of a job; the one that runs the notebook passes it on.
    # Not SIG_IGN, which the kernel's own subprocesses would inherit.
    "[s.signal(n, lambda *_: None) for s in [__import__('signal')] "
    "for n in (s.SIGTERM, s.SIGUSR1, s.SIGUSR2)]",
    # Held back until now; see `Signals.held_back`.
    "[s.pthread_sigmask(s.SIG_SETMASK, ()) for s in [__import__('signal')]]",
    "__import__('torch')",
    "__import__('matplotlib.pyplot')",
)


class CellError(RuntimeError):
    """A cell raised an exception.

    Attributes
    ----------
    ename, evalue, traceback
        Its name, its message, and its traceback without colours.
    """

    def __init__(self, ename: str, evalue: str, traceback: str) -> None:
        super().__init__(f"{ename}: {evalue}")
        self.ename, self.evalue, self.traceback = ename, evalue, traceback


class KernelDied(RuntimeError):
    """The process of the kernel ended, or never answered; says so with the likely reason."""

    def __init__(self, words: str = "the kernel died; did it run out of memory?") -> None:
        super().__init__(words)


def run(
    read: Callable[[], NotebookNode],
    path: Path,
    parameters: Mapping[str, Any],
    signals: Signals,
    progress: bool,
) -> None:
    """Run the notebook that `read` returns, writing what is done so far to a path.

    Raises
    ------
    CellError, KernelDied
        It ended before its end.
    """
    with _kernel(signals) as kernel:
        import papermill
        from nbclient.exceptions import DeadKernelError
        from papermill.exceptions import PapermillExecutionError, strip_color

        bar: Any = {"desc": path.stem, "leave": False, "file": sys.stderr} if progress else False
        logging.getLogger("papermill").setLevel(logging.ERROR)
        try:
            papermill.execute_notebook(
                read(),
                # papermill formats its paths
                WHOLE + str(path).replace("{", "{{").replace("}", "}}"),
                parameters,
                engine_name=_engine(),
                kernel_name="python3",
                language="python",
                progress_bar=bar,
                stderr_file=sys.stderr if progress else None,
                coalesce_streams=True,  # or every refresh of a progress bar stays in the notebook
                kernel=kernel,
                on_cell_start=signals.check,
            )
        except PapermillExecutionError as error:
            traceback = strip_color("\n".join(error.traceback))
            raise CellError(error.ename, error.evalue, traceback) from None
        except DeadKernelError:
            raise KernelDied from None
        except RuntimeError as error:
            if str(error).startswith("Kernel died"):  # before its first cell
                raise KernelDied from None
            if str(error).startswith("Kernel didn't respond"):
                raise KernelDied(
                    f"the kernel did not start in {START_SECONDS} s; is this machine, or the disk "
                    "that Python lies on, overloaded?"
                ) from None
            raise


@contextmanager
def _kernel(signals: Signals) -> Iterator[Any]:
    """Start a kernel that is spoken to by sockets that are files, which no other can be given.

    A port is looked for, let go, and opened by the kernel seconds later, when another that was
    started beside it may have it.
    """
    from jupyter_client.manager import AsyncKernelManager
    from jupyter_core.utils import ensure_event_loop
    from zmq.asyncio import Context

    with TemporaryDirectory(prefix="nbcore-") as folder:
        file = f"{folder}/kernel.json"
        fits = os.name == "posix" and len(file) <= LONGEST_BESIDE_SOCKETS
        # Without the setting, ipykernel warns of TCP without encryption.
        spoken = {"transport": "ipc"} if fits else {"transport_encryption": "auto"}
        # A context of the manager's own is ended with it, which may wait for ever for a socket that
        # the thread of the heartbeat opens meanwhile (jupyter_client issue 771); that of the
        # process is not.
        kernel: Any = AsyncKernelManager(
            kernel_name="python3", connection_file=file, context=Context.instance(), **spoken
        )
        lines = [f"--IPKernelApp.exec_lines={line}" for line in AT_THE_START]
        quiet = ["--IPKernelApp.log_level=CRITICAL", "--HistoryManager.hist_file=:memory:"]
        with signals.held_back():
            starting = kernel.start_kernel(extra_arguments=[*quiet, *lines])
            ensure_event_loop().run_until_complete(starting)
        signals.kernel = kernel
        try:
            yield kernel
        finally:
            if kernel.has_kernel:  # papermill, which ends it, was not come to
                ensure_event_loop().run_until_complete(kernel.shutdown_kernel(now=True))


@cache
def _engine() -> str:
    """Register what papermill runs notebooks and writes files with; the engine's name."""
    from papermill.clientwrap import PapermillNotebookClient
    from papermill.engines import NBClientEngine, papermill_engines
    from papermill.iorw import papermill_io

    class Client(PapermillNotebookClient):
        """papermill's own client, which takes messages even where the notebook can't be saved.

        It saves at a message now and then; an error there would end the task that takes them, and
        leave others behind. The save at the end of the cell tells it.
        """

        def process_message(self, *arg: Any, **kwargs: Any) -> Any:
            with suppress(OSError):
                return super().process_message(*arg, **kwargs)
            return None

    class OwnKernel(NBClientEngine):
        """papermill's own engine, with a kernel that has been started before."""

        @classmethod
        def execute_managed_notebook(  # pyright: ignore[reportIncompatibleMethodOverride]
            cls, nb_man: Any, kernel_name: str, **settings: Any
        ) -> Any:
            taken = ("coalesce_streams", "on_cell_start", "stderr_file")
            client = Client(
                nb_man,
                km=settings["kernel"],
                kernel_name=kernel_name,
                shutdown_kernel="immediate",  # all it wrote is whole; to be polite costs 0.6 s
                startup_timeout=START_SECONDS,
                **{name: settings[name] for name in taken},
            )
            client.owns_km = True  # so that it is shut down
            return client.execute()

    papermill_io.register(WHOLE, _WholeFiles)
    papermill_engines.register("own kernel", OwnKernel)
    return "own kernel"


class _WholeFiles:
    """Where papermill writes a notebook: each time the whole file, or nothing."""

    @staticmethod
    def write(text: str, path: str) -> None:
        with replacing(path.removeprefix(WHOLE)) as part:
            part.write_text(text, encoding="utf-8")

    @staticmethod
    def pretty_path(path: str) -> str:
        return path
