"""How many threads torch uses."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

__all__ = ["threads_for"]

# Below so many numbers in the largest tensor a second thread brought nothing on a quiet machine
# and, waiting for its turn on a busy one, made a run of 48 systems 12 times slower.
WORTH_A_THREAD = 200_000


@contextlib.contextmanager
def threads_for(n_systems: int, n_bodies: int, n_dimensions: int) -> Iterator[None]:
    """Keep torch on one thread where the pairs of all systems are few; as it was, afterwards."""
    before = torch.get_num_threads()
    few = n_systems * n_bodies**2 * n_dimensions < WORTH_A_THREAD
    torch.set_num_threads(1 if few else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
