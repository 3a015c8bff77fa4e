"""Extrapolation to steps of no length: the weights of the columns.

K symmetric chains of n = 2, 4, …, 2K equal steps go through one interval H. Their results differ
by even powers of H/n, so that the polynomial through them at H/n = 0 is right to order 2K (Gragg
1965; Bulirsch & Stoer 1966; Hairer, Nørsett & Wanner 1993, II.9). That polynomial is a sum of the
chains with fixed weights. Without the first chain it is right to order 2K − 2, and the difference
of both tells the error.
"""

from __future__ import annotations

import math
from functools import cache

__all__ = ["chain_lengths", "column_weights", "error_weights"]


MOST_COLUMNS = 10


def chain_lengths(columns: int) -> tuple[int, ...]:
    """Steps of each chain."""
    return tuple(2 * k for k in range(1, columns + 1))


@cache
def column_weights(columns: int, first: int = 0) -> tuple[float, ...]:
    """Weights of the chains, from the `first` on, in the extrapolated result; they sum to 1."""
    n2 = [n * n for n in chain_lengths(columns)]

    def weight(k: int) -> float:
        others = (n2[k] / (n2[k] - n2[j]) for j in range(first, columns) if j != k)
        return math.prod(others) if k >= first else 0.0

    return tuple(weight(k) for k in range(columns))


@cache
def error_weights(columns: int, first: int = 0) -> tuple[float, ...]:
    """Weights of the chains, from the `first` on, in the estimate of the error; they sum to 0."""
    pairs = zip(column_weights(columns, first), column_weights(columns, first + 1), strict=True)
    return tuple(full - less for full, less in pairs)
