"""By which clock a timing was made, on and with what, and on how many threads."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import numba
import torch

from nbcore.surroundings import code, machine, versions

__all__ = ["clock", "on_threads", "stamp"]

clock = time.process_time  # [s]; what else runs on the machine does not count
PACKAGES = ("aitimestepper", "numpy", "numba", "torch", "rebound", "heyoka", "scipy")


@contextmanager
def on_threads(count: int) -> Iterator[None]:
    """Let numba and torch use so many threads; as it was, afterwards."""
    before = numba.get_num_threads(), torch.get_num_threads()
    numba.set_num_threads(count)
    torch.set_num_threads(count)
    try:
        yield
    finally:
        numba.set_num_threads(before[0])
        torch.set_num_threads(before[1])


def stamp() -> dict[str, Any]:
    """Processor, cores that this process may use, versions, commit, and date, as plain values.

    A package that is not installed has the version None, and so has the commit where the sources
    are not in a git repository.
    """
    return {
        **machine(),
        **code(),
        "versions": versions(PACKAGES),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
