"""Work on a thread of which only the newest request counts."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

__all__ = ["Newest"]


class Newest:
    """Works on a thread; a request that is overtaken is dropped, and work on it may stop.

    Parameters
    ----------
    work
        Makes a result of a request; its second argument tells whether that was overtaken.
    deliver
        Takes the result of a request that is still the newest.
    excuse
        Takes the exception that came instead.
    """

    def __init__(
        self,
        work: Callable[[Any, Callable[[], bool]], Any],
        deliver: Callable[[Any], None],
        excuse: Callable[[Exception], None],
    ) -> None:
        self._work, self._deliver, self._excuse = work, deliver, excuse
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="explorer")
        self._waiting: Future | None = None
        self._newest, self._lock = 0, threading.Lock()

    def submit(self, request: Any) -> None:
        """Work on this next, instead of on all that waits."""
        with self._lock:
            self._newest += 1
            if self._waiting is not None:
                self._waiting.cancel()
            self._waiting = self._pool.submit(self._answer, self._newest, request)

    def drop(self) -> None:
        """Ask for nothing: what is under way or waits is answered no more."""
        with self._lock:
            self._newest += 1
            if self._waiting is not None:
                self._waiting.cancel()

    def wait(self, seconds: float | None) -> None:
        """Wait until the newest request is answered, or the time is over."""
        if self._waiting is not None:
            wait([self._waiting], seconds)

    def _answer(self, number: int, request: Any) -> None:
        try:
            result = self._work(request, lambda: number != self._newest)
            if number == self._newest:
                self._deliver(result)
        except Exception as error:  # none may vanish with the thread
            if number == self._newest:
                self._excuse(error)
