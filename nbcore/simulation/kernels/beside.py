"""Wisdom–Holman steps of several systems, one in each lane, of any number of planets.

Arrays hold a row of lanes for each planet. See `kernels.planets`, whose steps these are.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from nbcore.physics.compiled import LAW, PLAIN, holding
from nbcore.physics.elementwise import absolute, inverse_root, maximum
from nbcore.simulation.kernels.kepler import drift
from nbcore.simulation.kernels.lanes import carried, chosen, largest, load, store
from nbcore.simulation.kernels.planets import copy_rows

__all__ = ["SYSTEMS", "Group", "coordinate", "copy", "give", "go", "room", "share", "take"]

Array = NDArray[np.float64]

WIDTH = 8  # systems at a time
ROWS = 6  # of `known`, of each planet
SYSTEMS = (0,) * WIDTH


class Group(NamedTuple):
    """Systems side by side; n planets, P pairs."""

    Gm0: Array  # (1, lanes)
    known: Array  # (6 n, lanes) by planets: the first rows of `planets.KNOWN`
    pairs: Array  # (2 P, lanes) 1 where they don't see each other, and the square of a limit
    Y: Array  # (6 n, lanes) places and velocities
    low: Array  # what was lost to rounding
    q: Array  # (3 n, lanes) places relative to the star
    a: Array  # (3 n, lanes)
    c: Array  # (3 n, lanes) accelerations in Jacobi coordinates
    there: Array  # (3 n, lanes) places that the lazy implementer looks at
    own: Array  # (2 n, lanes) r and 1/r of the places
    due: Array  # (3 n, lanes) what the last drift changes velocities by
    near: Array  # (1, lanes)


@njit(**holding(PLAIN))
def room(planets, n):
    """Room for systems of n planets."""
    wide = len(SYSTEMS)
    return Group(
        np.empty((1, wide)), np.empty((ROWS * n, wide)), np.empty((n * (n - 1) + 1, wide)),
        np.empty((6 * n, wide)), np.empty((6 * n, wide)), np.empty((3 * n, wide)),
        np.empty((3 * n, wide)), np.empty((3 * n, wide)), np.empty((3 * n, wide)),
        np.empty((2 * n, wide)), np.empty((3 * n, wide)), np.zeros((1, wide)),
    )  # fmt: skip


@njit(**LAW)
def _vector(rows, first):
    return (
        load(SYSTEMS, rows, first),
        load(SYSTEMS, rows, first + 1),
        load(SYSTEMS, rows, first + 2),
    )


@njit(**LAW)
def _put(rows, first, x0, x1, x2):
    store(SYSTEMS, rows, first, x0)
    store(SYSTEMS, rows, first + 1, x1)
    store(SYSTEMS, rows, first + 2, x2)


@njit(**LAW)
def _pull(n, group, X, step):
    """Accelerations by all but the Kepler motion into `c`, of planets whose rows in X are apart."""
    known, q, a, c, pairs = group.known, group.q, group.a, group.c, group.pairs
    Gm0, near = load(SYSTEMS, group.Gm0, 0), load(SYSTEMS, group.near, 0)
    no = Gm0 * 0.0
    t0, t1, t2, s0, s1, s2 = no, no, no, no, no, no
    for i in range(n):
        Gm, share = load(SYSTEMS, known, ROWS * i), load(SYSTEMS, known, ROWS * i + 1)
        x0, x1, x2 = _vector(X, step * i)
        q0, q1, q2 = x0 + t0, x1 + t1, x2 + t2
        t0, t1, t2 = t0 + share * x0, t1 + share * x1, t2 + share * x2
        _put(q, 3 * i, q0, q1, q2)
        r2 = q0 * q0 + q1 * q1 + q2 * q2
        inverse = inverse_root(r2)
        u = inverse * inverse
        near = maximum(near, load(SYSTEMS, known, ROWS * i + 4) * u)
        near = maximum(near, load(SYSTEMS, known, ROWS * i + 5) * r2)
        f, w = Gm * (inverse * u), Gm0 * (inverse * u)
        s0, s1, s2 = s0 + f * q0, s1 + f * q1, s2 + f * q2
        _put(a, 3 * i, -(w * q0), -(w * q1), -(w * q2))
    k = 0
    for i in range(n):
        Gm = load(SYSTEMS, known, ROWS * i)
        q0, q1, q2 = _vector(q, 3 * i)
        a0, a1, a2 = _vector(a, 3 * i)
        for j in range(i + 1, n):
            R0, R1, R2 = _vector(q, 3 * j)
            R0, R1, R2 = R0 - q0, R1 - q1, R2 - q2
            inverse = inverse_root(R0 * R0 + R1 * R1 + R2 * R2 + load(SYSTEMS, pairs, k))
            u = inverse * inverse
            w = u * inverse
            near = maximum(near, load(SYSTEMS, pairs, k + 1) * u)
            ours, yours = load(SYSTEMS, known, ROWS * j) * w, Gm * w
            a0, a1, a2 = a0 + ours * R0, a1 + ours * R1, a2 + ours * R2
            b0, b1, b2 = _vector(a, 3 * j)
            _put(a, 3 * j, b0 - yours * R0, b1 - yours * R1, b2 - yours * R2)
            k += 2
        # All pairs of this planet are met.
        _put(a, 3 * i, a0, a1, a2)
    p0, p1, p2 = no, no, no
    for i in range(n):
        Gm, before = load(SYSTEMS, known, ROWS * i), load(SYSTEMS, known, ROWS * i + 2)
        x0, x1, x2 = _vector(X, step * i)
        a0, a1, a2 = _vector(a, 3 * i)
        a0, a1, a2 = a0 - s0, a1 - s1, a2 - s2
        own = load(SYSTEMS, group.own, 2 * i + 1)
        inverse = own if step == 6 else inverse_root(x0 * x0 + x1 * x1 + x2 * x2)
        w = load(SYSTEMS, known, ROWS * i + 3) * (inverse * inverse * inverse)
        c0, c1, c2 = a0 - before * p0, a1 - before * p1, a2 - before * p2
        _put(c, 3 * i, w * x0 + c0, w * x1 + c1, w * x2 + c2)
        p0, p1, p2 = p0 + Gm * a0, p1 + Gm * a1, p2 + Gm * a2
    store(SYSTEMS, group.near, 0, near)


@njit(**LAW)
def _measure(group, i, x0, x1, x2):
    """Note how far a planet is."""
    r2 = x0 * x0 + x1 * x1 + x2 * x2
    inverse = inverse_root(r2)
    store(SYSTEMS, group.own, 2 * i, r2 * inverse)
    store(SYSTEMS, group.own, 2 * i + 1, inverse)


@njit(**LAW)
def _drift(n, group, h):
    """Move places; what velocities change by is left in `due`, and goes in with a kick."""
    known, Y, low, own, due = group.known, group.Y, group.low, group.own, group.due
    for i in range(n):
        p = 6 * i
        x0, x1, x2 = _vector(Y, p)
        v0, v1, v2 = _vector(Y, p + 3)
        d0, d1, d2, e0, e1, e2 = drift(
            load(SYSTEMS, known, ROWS * i + 3), load(SYSTEMS, own, 2 * i),
            load(SYSTEMS, own, 2 * i + 1), x0, x1, x2, v0, v1, v2, h,
        )  # fmt: skip
        _put(due, 3 * i, e0, e1, e2)
        x0, x1, x2 = _add(Y, low, p, d0), _add(Y, low, p + 1, d1), _add(Y, low, p + 2, d2)
        _measure(group, i, x0, x1, x2)


@njit(**PLAIN)
def _add(Y, low, row, change):
    value, rest = carried(load(SYSTEMS, Y, row), load(SYSTEMS, low, row), change)
    store(SYSTEMS, Y, row, value)
    store(SYSTEMS, low, row, rest)
    return value


@njit(**PLAIN)
def _kick(n, group, g, lazy):
    """Kick velocities, and add what the drift before has left."""
    Y, low, there, c = group.Y, group.low, group.there, group.c
    _pull(n, group, Y, 6)
    if largest(lazy) > 0.0:
        e = g * g * (1 / 12) * lazy
        for i in range(n):
            for d in range(3):
                x = load(SYSTEMS, Y, 6 * i + d) + e * load(SYSTEMS, c, 3 * i + d)
                store(SYSTEMS, there, 3 * i + d, x)
        _pull(n, group, there, 3)
    for i in range(n):
        for d in range(3):
            change = load(SYSTEMS, group.due, 3 * i + d) + g * load(SYSTEMS, c, 3 * i + d)
            _add(Y, low, 6 * i + 3 + d, change)


@njit(**PLAIN)
def go(planets, n, group, dt, ahead, drifts, kicks, counts, last, lazy, heeds):
    """So many rounds of drifts and kicks of every system; see `planets.go`.

    Where no kick is to be made there is the drift after all alone.
    """
    step, flags = load(SYSTEMS, dt, 0), load(SYSTEMS, lazy, 0)
    left, no = load(SYSTEMS, counts, 0), step * 0.0
    store(SYSTEMS, group.near, 0, no)
    for i in range(n):
        p = 6 * i
        x0, x1, x2 = (
            load(SYSTEMS, group.Y, p), load(SYSTEMS, group.Y, p + 1), load(SYSTEMS, group.Y, p + 2)
        )  # fmt: skip
        _measure(group, i, x0, x1, x2)
    h, k, going = load(SYSTEMS, ahead, 0), 0, left - 0.5
    while largest(going) > 0.0:
        _drift(n, group, chosen(going, h * step, no))
        _kick(n, group, chosen(going, kicks[k] * step, no), flags)
        left = chosen(going, left - 1.0, left)
        halted = load(SYSTEMS, group.near, 0) - 1.0 if heeds else no
        going = chosen(halted, no, left - 0.5)
        k = k + 1 if k + 1 < len(kicks) else 0
        h = no + drifts[k]
    halted = load(SYSTEMS, group.near, 0) - 1.0 if heeds else no
    went = load(SYSTEMS, counts, 0) - 0.5  # of others nothing new is known
    store(SYSTEMS, counts, 0, left + chosen(went, chosen(halted, no + 0.5, no), no))
    after = load(SYSTEMS, last, 0) * step
    if largest(absolute(after)) > 0.0:
        _drift(n, group, after)
        for i in range(n):
            for d in range(3):
                _add(group.Y, group.low, 6 * i + 3 + d, load(SYSTEMS, group.due, 3 * i + d))


@njit(**PLAIN)
def take(planets, group, w, Gm0, known, Y, low):
    """Take a system from where it is kept into a lane."""
    group.Gm0[0, w] = Gm0
    for row in range(len(group.known)):
        group.known[row, w] = known[row, 0]
    for row in range(len(group.pairs)):
        group.pairs[row, w] = known[len(group.known) + row, 0]
    for row in range(len(group.Y)):
        group.Y[row, w], group.low[row, w] = Y[row, 0], low[row, 0]


@njit(**PLAIN)
def copy(planets, group, other):
    """Copy all systems."""
    copy_rows(group.Gm0, other.Gm0)
    copy_rows(group.known, other.known)
    copy_rows(group.pairs, other.pairs)
    copy_rows(group.Y, other.Y)
    copy_rows(group.low, other.low)


@njit(**PLAIN)
def give(planets, group, w, Y, low):
    """Put a system back from a lane."""
    for row in range(len(group.Y)):
        Y[row, 0], low[row, 0] = group.Y[row, w], group.low[row, w]


@njit(**PLAIN)
def coordinate(planets, group, w, planet, d):
    """Place (d < 3) or velocity of a planet."""
    return group.Y[6 * planet + d, w]


@njit(**PLAIN)
def share(planets, group, w, planet):
    """m/η of a planet."""
    return group.known[ROWS * planet + 1, w]
