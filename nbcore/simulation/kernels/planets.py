"""Wisdom–Holman steps of one system, its planets in the lanes; see `physics.wisdom_holman`.

A state is one of Jacobi coordinates after the kick of a step, half a drift short of its end: so
steps go on alike wherever they were halted, and two drifts between kicks are one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numba.extending import overload
from numpy.typing import NDArray

from nbcore.physics.compiled import LAW, PLAIN, holding
from nbcore.physics.elementwise import inverse_root, maximum
from nbcore.simulation.kernels.kepler import drift
from nbcore.simulation.kernels.lanes import (
    carried,
    held,
    largest,
    load,
    preceding,
    store,
    totals,
)
from nbcore.simulation.kernels.ring import kept, meet, rejoin, rounds
from nbcore.simulation.kernels.shapes import padded

__all__ = [
    "KNOWN",
    "Alone",
    "coordinate",
    "copy",
    "copy_rows",
    "give",
    "go",
    "room",
    "rows_of_pairs",
    "share",
    "take",
]

Array = NDArray[np.float64]

# Rows of `known` before those of pairs: Gm, m/η, 1/η of those before, Gη, the square of a limit of
# the distance to the star, 1 over that of another, which is not to be left; 1 for a planet
KNOWN = 7


@njit(**LAW)
def _meet(planets, axes, turn, known, sums):
    """Add what a round of pairs does, and how near they are."""
    q0, q1, q2, Gm, rows = known
    a0, a1, a2, near = sums
    R0, R1, R2 = (
        meet(planets, turn, q0) - q0, meet(planets, turn, q1) - q1, meet(planets, turn, q2) - q2,
    )  # fmt: skip
    k = KNOWN + 2 * (len(turn) - 1)
    r2 = held(planets, R0 * R0 + R1 * R1 + R2 * R2 + load(planets, rows, k))
    inverse = inverse_root(r2)
    u = inverse * inverse
    f = u * inverse
    ours, yours = kept(planets, turn, meet(planets, turn, Gm)) * f, kept(planets, turn, Gm) * f
    a0 = a0 + ours * R0 - rejoin(planets, turn, yours * R0)
    a1 = a1 + ours * R1 - rejoin(planets, turn, yours * R1)
    a2 = a2 + ours * R2 - rejoin(planets, turn, yours * R2)
    return a0, a1, a2, maximum(near, load(planets, rows, k + 1) * u)


@njit(**LAW)
def pull(planets, Gm0, known, x0, x1, x2, near):
    """Accelerations by all but the Kepler motion, in Jacobi coordinates.

    Returns
    -------
    Three of them; by how much limits are passed, squared, where that is above 1; r and 1/r.
    """
    Gm, share, before = load(planets, known, 0), load(planets, known, 1), load(planets, known, 2)
    mu = load(planets, known, 3)
    # Places relative to the star.
    q0, q1, q2 = (
        x0 + preceding(share * x0), x1 + preceding(share * x1), x2 + preceding(share * x2)
    )  # fmt: skip
    r2 = q0 * q0 + q1 * q1 + q2 * q2
    inverse = inverse_root(r2)
    u = inverse * inverse
    near = maximum(near, load(planets, known, 4) * u)
    near = maximum(near, load(planets, known, 5) * r2)
    w = inverse * u
    f = Gm * w
    s0, s1, s2, _ = totals(f * q0, f * q1, f * q2, f)
    w = Gm0 * w
    a0, a1, a2, near = rounds(
        _meet, planets, (0, 0, 0), (0,), (q0, q1, q2, Gm, known),
        (-(w * q0) - s0, -(w * q1) - s1, -(w * q2) - s2, near),
    )  # fmt: skip
    r2 = x0 * x0 + x1 * x1 + x2 * x2
    own = inverse_root(r2)
    w = mu * (own * own * own)
    return (
        w * x0 + (a0 - before * preceding(Gm * a0)),
        w * x1 + (a1 - before * preceding(Gm * a1)),
        w * x2 + (a2 - before * preceding(Gm * a2)),
        near, r2 * own, own,
    )  # fmt: skip


class Alone(NamedTuple):
    """One system, its planets in the lanes."""

    Gm0: Array  # (1,)
    known: Array  # (KNOWN + rows of pairs, lanes)
    Y: Array  # (8, lanes) places and velocities; r and 1/r to the last bit, or 0 where not known
    low: Array  # (6, lanes) what was lost to rounding


@njit(**holding(PLAIN))
def room(planets, n):
    """Room for a system."""
    wide = padded(planets)
    return Alone(
        np.empty(1),
        np.empty((KNOWN + rows_of_pairs(n), wide)),
        np.empty((8, wide)),
        np.empty((6, wide)),
    )


@njit(**PLAIN)
def go(planets, n, system, dt, ahead, drifts, kicks, counts, last, lazy, heeds):
    """So many rounds of drifts and kicks.

    Parameters
    ----------
    dt, ahead, counts, last, lazy
        (1, 1) step; in steps the first drift, kicks to be made, and a drift after all; 1 for kicks
        of the lazy implementer, otherwise 0.
    drifts, kicks
        Of a round, in steps; the first drift follows the round before.
    heeds
        Whether to halt where a limit is passed.

    Returns
    -------
    Nothing; `counts` holds what was left to be made when a limit was passed, and a half more.
    """
    Gm0, known, Y, low = system.Gm0[0], system.known, system.Y, system.low
    step, is_lazy = dt[0, 0], lazy[0, 0] > 0.0
    one, mu = load(planets, known, 6), load(planets, known, 3)
    x0, x1, x2 = load(planets, Y, 0), load(planets, Y, 1), load(planets, Y, 2)
    v0, v1, v2 = load(planets, Y, 3), load(planets, Y, 4), load(planets, Y, 5)
    l0, l1, l2 = load(planets, low, 0), load(planets, low, 1), load(planets, low, 2)
    w0, w1, w2 = load(planets, low, 3), load(planets, low, 4), load(planets, low, 5)
    near, k, left, halted = one * 0.0, 0, int(counts[0, 0]), False
    h = ahead[0, 0] * step if left > 0 else last[0, 0] * step
    r, inverse = load(planets, Y, 6), load(planets, Y, 7)
    if largest(inverse) == 0.0:
        r2 = x0 * x0 + x1 * x1 + x2 * x2
        inverse = inverse_root(r2)
        r = r2 * inverse
    while True:
        if h != 0.0:
            d0, d1, d2, e0, e1, e2 = drift(mu, r, inverse, x0, x1, x2, v0, v1, v2, h * one)
            x0, l0 = carried(x0, l0, d0)
            x1, l1 = carried(x1, l1, d1)
            x2, l2 = carried(x2, l2, d2)
            v0, w0 = carried(v0, w0, e0)
            v1, w1 = carried(v1, w1, e1)
            v2, w2 = carried(v2, w2, e2)
        if left == 0 or halted:
            if h != 0.0:
                inverse = one * 0.0
            break
        g = kicks[k] * step
        c0, c1, c2, near, r, inverse = pull(planets, Gm0, known, x0, x1, x2, near)
        if is_lazy:
            e = g * g * (1 / 12)
            c0, c1, c2, near, _, _ = pull(
                planets, Gm0, known, x0 + e * c0, x1 + e * c1, x2 + e * c2, near
            )
        v0, w0 = carried(v0, w0, (g * one) * c0)
        v1, w1 = carried(v1, w1, (g * one) * c1)
        v2, w2 = carried(v2, w2, (g * one) * c2)
        left -= 1
        k = k + 1 if k + 1 < len(kicks) else 0
        halted = heeds and largest(near) > 1.0
        h = last[0, 0] * step if left == 0 or halted else drifts[k] * step
    counts[0, 0] = left + (0.5 if halted else 0.0)
    store(planets, Y, 0, x0)
    store(planets, Y, 1, x1)
    store(planets, Y, 2, x2)
    store(planets, Y, 3, v0)
    store(planets, Y, 4, v1)
    store(planets, Y, 5, v2)
    store(planets, Y, 6, r)
    store(planets, Y, 7, inverse)
    store(planets, low, 0, l0)
    store(planets, low, 1, l1)
    store(planets, low, 2, l2)
    store(planets, low, 3, w0)
    store(planets, low, 4, w1)
    store(planets, low, 5, w2)


@njit(**PLAIN)
def copy_rows(source, target):
    """Copy an array of rows."""
    for row in range(source.shape[0]):
        for lane in range(source.shape[1]):
            target[row, lane] = source[row, lane]


@njit(**PLAIN)
def take(planets, system, w, Gm0, known, Y, low):
    """Take a system from where it is kept."""
    system.Gm0[0] = Gm0
    copy_rows(known, system.known)
    copy_rows(Y, system.Y)
    copy_rows(low, system.low)


@njit(**PLAIN)
def copy(planets, system, other):
    """Copy a system."""
    other.Gm0[0] = system.Gm0[0]
    copy_rows(system.known, other.known)
    copy_rows(system.Y, other.Y)
    copy_rows(system.low, other.low)


@njit(**PLAIN)
def give(planets, system, w, Y, low):
    """Put a system back."""
    copy_rows(system.Y, Y)
    copy_rows(system.low, low)


@njit(**PLAIN)
def coordinate(planets, system, w, planet, d):
    """Place (d < 3) or velocity of a planet."""
    return system.Y[d, planet]


@njit(**PLAIN)
def share(planets, system, w, planet):
    """m/η of a planet."""
    return system.known[1, planet]


def rows_of_pairs(n_planets):
    """Rows of `known` of pairs: 1 where they don't see each other, and the square of a limit."""
    return 2 * (n_planets // 2)


overload(rows_of_pairs, jit_options=PLAIN)(lambda n_planets: rows_of_pairs)
