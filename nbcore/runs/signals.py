"""Signals for a notebook that runs headless: its kernel ends the cell, and what is done is kept.

Ctrl-C, SIGTERM and the signals of batch systems (SIGUSR1, SIGUSR2) all mean: stop soon. A second
one means at once, a third kills the kernel.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

__all__ = ["Interrupted", "Signals"]

ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
SECONDS_UNTIL_AGAIN = 20.0  # a kernel between two cells ignores interrupts


class Interrupted(RuntimeError):
    """A run was asked to stop, and did.

    Attributes
    ----------
    signum
        The first signal that came.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(signum).name}")
        self.signum = signum

    @property
    def exit_code(self) -> int:
        """128 and the signal's number, as shells have it."""
        return 128 + self.signum


class Signals:
    """Runs work on a thread, and hands signals to the kernel that it has started.

    Work runs on a thread because nbclient, on the main one, kills the kernel at a signal.

    Attributes
    ----------
    came
        Signals that came so far.
    kernel
        Manager of the kernel, once there is one.
    """

    def __init__(self) -> None:
        self.came: list[int] = []
        self.kernel: Any = None

    def check(self, *_: object, **__: object) -> None:
        """Raise Interrupted if a signal came; called before each cell."""
        if self.came:
            raise Interrupted(self.came[0])

    def run(self, work: Callable[[], None]) -> None:
        """Run to the end; errors are raised here."""
        if threading.current_thread() is not threading.main_thread():
            return work()
        from jupyter_core.utils import ensure_event_loop

        errors: list[BaseException] = []

        def kept() -> None:
            try:
                work()
            except BaseException as error:
                errors.append(error)
            finally:
                ensure_event_loop().close()  # that of this thread, which jupyter_client has made

        before = {number: signal.signal(number, self._pass_on) for number in ENDINGS}
        thread = threading.Thread(target=kept, daemon=True)
        try:
            thread.start()
            due = None
            while thread.is_alive():
                thread.join(0.5)
                if self.came and due is None:
                    due = time.monotonic() + SECONDS_UNTIL_AGAIN
                if due is not None and time.monotonic() > due:
                    self._send(signal.SIGINT)
                    due += SECONDS_UNTIL_AGAIN
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if errors:
            raise errors[0]
        return None

    @staticmethod
    @contextmanager
    def held_back() -> Iterator[None]:
        """Hold signals back from a process that is started: one that isn't ready would die of them.

        It inherits the mask, and lifts it when it is.
        """
        before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDINGS)
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _pass_on(self, signum: int, _: object) -> None:
        self.came.append(signum)
        self._send(signal.SIGINT if len(self.came) < 3 else signal.SIGKILL)

    def _send(self, signum: int) -> None:
        pid = getattr(getattr(self.kernel, "provisioner", None), "pid", None)
        if pid:
            with suppress(ProcessLookupError):
                os.kill(pid, signum)
