"""Ctrl-C that waits until it can't do harm."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["noted"]


@contextmanager
def noted(wanted: bool = True, words: str | None = None) -> Iterator[Callable[[], bool]]:
    """Note Ctrl-C instead of raising it, on the main thread; gives whether it came.

    Parameters
    ----------
    wanted
        Otherwise it is left as it is.
    words
        Said at the first one, after which a second one is raised; None never raises any.
    """
    came = threading.Event()
    if not wanted or threading.current_thread() is not threading.main_thread():
        yield came.is_set
        return

    def note(*_: object) -> None:
        if words is not None:
            if came.is_set():
                raise KeyboardInterrupt
            print(words, file=sys.stderr, flush=True)
        came.set()

    before = signal.signal(signal.SIGINT, note)
    try:
        yield came.is_set
    finally:
        signal.signal(signal.SIGINT, before)
