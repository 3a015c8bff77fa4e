"""Chains of drift-kick-drift steps in transformed time, and their weighted sums.

The chains of a step don't depend on each other: `CHAINS` of them go through it at once, each in a
lane of the vectors. Within a step positions are displacements from its start, and separations at
its start come from positions in two parts. See `physics.extrapolation` and `physics.clocks`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from nbcore.physics import clocks
from nbcore.physics.compiled import LAW, PLAIN, compiled, holding
from nbcore.physics.elementwise import inverse_root, maximum
from nbcore.physics.extrapolation import (
    MOST_COLUMNS,
    chain_lengths,
    column_weights,
    error_weights,
)
from nbcore.simulation.kernels import fields
from nbcore.simulation.kernels.lanes import chosen, largest, load, store, total
from nbcore.simulation.kernels.shapes import LANES, active, either, is_a, size
from nbcore.stepping.budget import Budget

__all__ = [
    "ExtrapolatedSteps",
    "Room",
    "across",
    "chains",
    "rate",
    "room",
    "schedule",
    "separate",
    "slowest",
]

Array = NDArray[np.float64]

CHAINS = (0,) * LANES

term, slowness = compiled(clocks.term), compiled(clocks.slowness)


class Schedule(NamedTuple):
    """Which chain goes in which lane: rows of segments, between which lanes may change hands."""

    begin: NDArray[np.int64]  # (columns + 1,) first row for each number of columns
    steps: NDArray[np.int64]  # (rows,) steps of each segment; 0: the end
    fresh: Array  # (rows, lanes) 1 where a chain begins
    part: Array  # one over the steps of the chain; 0 where a lane stands still
    result: Array  # weight of a chain that ends in the result
    error: Array  # and in the estimate of its error


class ExtrapolatedSteps(NamedTuple):
    """Gragg–Bulirsch–Stoer with a number of columns for each system."""

    roots: tuple  # of the clock, as a length
    columns: NDArray[np.int64]  # (B,)
    budget: Budget  # of errors of steps
    energy: Array  # (B,) what that of the work is relative to
    weights: Array  # (B, P) of the clock
    schedule: Schedule


class Room(NamedTuple):
    """Scratch of one system."""

    apart: Array  # (P, 3) separations at the start of the step
    X: Array  # (D N, lanes) displacements
    U: Array  # changes of the velocities
    A: Array
    E: Array  # slope of the clock
    Q: Array  # (5, lanes) time, W, step in s, largest Σ w r^−p, work
    result: Array  # (2 D N + 2, lanes) weighted sums of the chains
    error: Array
    new: Array  # (2 D N + 2,) displacements, changes of the velocities, time, work
    change: Array  # estimates of their errors
    trail: Array  # (2 K + 2, D N + 1) displacements and times along the longest chain


def schedule(most: int) -> Schedule:
    """Schedules for up to so many columns: longest chains first, each where it is free first."""
    begin, rows = [0, 0], []
    for columns in range(2, most + 1):
        begin.append(len(rows))
        due, lengths = list(range(columns)), chain_lengths(columns)
        weights, errors = column_weights(columns), error_weights(columns)
        left, chain = [0] * LANES, [0] * LANES
        while due or any(left):
            fresh, part, result, error = np.zeros((4, LANES))
            for lane in range(LANES):
                if left[lane] == 0 and due:
                    chain[lane] = due.pop()
                    left[lane] = lengths[chain[lane]]
                    fresh[lane] = 1.0
                part[lane] = 1 / lengths[chain[lane]] if left[lane] else 0.0
            count = min(each for each in left if each)
            for lane in range(LANES):
                if left[lane] == count:
                    result[lane], error[lane] = weights[chain[lane]], errors[chain[lane]]
                left[lane] = max(left[lane] - count, 0)
            rows.append((count, fresh, part, result, error))
        rows.append((0, *np.zeros((4, LANES))))
    return Schedule(np.array(begin), *map(np.array, zip(*rows, strict=True)))


@njit(**holding(PLAIN))
def room(bodies, axes):
    """Scratch for systems of so many bodies."""
    n, wide = size(bodies), size(axes) * size(bodies)
    return Room(
        np.empty((n * (n - 1) // 2, 3)),
        np.empty((wide, LANES)),
        np.empty((wide, LANES)),
        np.empty((wide, LANES)),
        np.empty((wide, LANES)),
        np.empty((5, LANES)),
        np.empty((2 * wide + 2, LANES)),
        np.empty((2 * wide + 2, LANES)),
        np.empty(2 * wide + 2),
        np.empty(2 * wide + 2),
        np.zeros((2 * MOST_COLUMNS + 2, wide + 1)),
    )


@njit(**PLAIN)
def separate(bodies, x, xl, apart):
    """Separations of all pairs that see each other, from positions in two parts."""
    k = 0
    for i in range(active(bodies)):
        for j in range(i + 1, size(bodies)):
            for d in range(3):
                apart[k, d] = (x[d, j] - x[d, i]) + (xl[d, j] - xl[d, i])
            k += 1


@njit(**LAW)
def rate(bodies, axes, roots, b, apart, weights, eps2):
    """Ω."""
    terms, k = 0.0, 0
    for i in range(active(bodies)):
        for _ in range(i + 1, size(bodies)):
            r2 = eps2
            for d in range(size(axes)):
                r2 += apart[k, d] * apart[k, d]
            terms += weights[b, k] * term(roots, inverse_root(r2))
            k += 1
    return 1 / slowness(roots, terms)


@njit(**PLAIN)
def _tug(bodies, axes, field, m, x, time, X, A, t):
    at, power = t + time, t * 0.0
    for i in range(size(bodies)):
        p = size(axes) * i
        x0, x1, x2 = load(CHAINS, X, p) + x[0, i], load(CHAINS, X, p + 1) + x[1, i], t * 0.0
        if size(axes) == 3:
            x2 = load(CHAINS, X, p + 2) + x[2, i]
        a0, a1, a2 = fields.pull(field, x0, x1, x2, at)
        store(CHAINS, A, p, load(CHAINS, A, p) + a0)
        store(CHAINS, A, p + 1, load(CHAINS, A, p + 1) + a1)
        if size(axes) == 3:
            store(CHAINS, A, p + 2, load(CHAINS, A, p + 2) + a2)
        power = power + m[i] * fields.push(field, x0, x1, x2, at)
    return power


@njit(**PLAIN)
def _no_tug(bodies, axes, field, m, x, time, X, A, t):
    return t * 0.0


# Add what a field does to all bodies of all chains; returns the rate of its work.
tug = either(is_a(fields.Tide), _tug, _no_tug, place=2, options=PLAIN)


@njit(**PLAIN)
def substeps(
    bodies, axes, roots, field, b, m, weights, x, v, time, room, G, eps2, count, point
):  # fmt: skip
    """So many kicks, each with a drift after it, of all chains.

    Places of the chain in the first lane go into `trail`, from a point on; none if that is 0.
    """
    n, D = size(bodies), size(axes)
    apart, X, U, A, E, Q = room.apart, room.X, room.U, room.A, room.E, room.Q
    t, W, h = load(CHAINS, Q, 0), load(CHAINS, Q, 1), load(CHAINS, Q, 2)
    zero, most, work = h * 0.0, load(CHAINS, Q, 3), load(CHAINS, Q, 4)
    for step in range(count):
        if point > 0:
            store(CHAINS, Q, 0, t)
            for q in range(D * n):
                room.trail[point + step, q] = X[q, 0]
            room.trail[point + step, D * n] = Q[0, 0]
        for q in range(D * n):
            store(CHAINS, A, q, zero)
            store(CHAINS, E, q, zero)
        terms, k = zero, 0
        for i in range(active(bodies)):
            mi, p = G * m[i], D * i
            x0, x1 = load(CHAINS, X, p), load(CHAINS, X, p + 1)
            a0, a1 = load(CHAINS, A, p), load(CHAINS, A, p + 1)
            e0, e1 = load(CHAINS, E, p), load(CHAINS, E, p + 1)
            x2 = a2 = e2 = zero
            if D == 3:
                x2, a2, e2 = load(CHAINS, X, p + 2), load(CHAINS, A, p + 2), load(CHAINS, E, p + 2)
            for j in range(i + 1, n):
                mj, q = G * m[j], D * j
                R0 = (load(CHAINS, X, q) - x0) + apart[k, 0]
                R1 = (load(CHAINS, X, q + 1) - x1) + apart[k, 1]
                R2, r2 = zero, R0 * R0 + R1 * R1 + eps2
                if D == 3:
                    R2 = (load(CHAINS, X, q + 2) - x2) + apart[k, 2]
                    r2 = r2 + R2 * R2
                inverse = inverse_root(r2)
                u = inverse * inverse
                part = weights[b, k] * term(roots, inverse)
                terms = terms + part
                f, g = u * inverse, part * u
                ours, yours = mj * f, mi * f
                a0, a1 = a0 + ours * R0, a1 + ours * R1
                e0, e1 = e0 + g * R0, e1 + g * R1
                store(CHAINS, A, q, load(CHAINS, A, q) - yours * R0)
                store(CHAINS, A, q + 1, load(CHAINS, A, q + 1) - yours * R1)
                store(CHAINS, E, q, load(CHAINS, E, q) - g * R0)
                store(CHAINS, E, q + 1, load(CHAINS, E, q + 1) - g * R1)
                if D == 3:
                    a2, e2 = a2 + ours * R2, e2 + g * R2
                    store(CHAINS, A, q + 2, load(CHAINS, A, q + 2) - yours * R2)
                    store(CHAINS, E, q + 2, load(CHAINS, E, q + 2) - g * R2)
                k += 1
            store(CHAINS, A, p, a0)
            store(CHAINS, A, p + 1, a1)
            store(CHAINS, E, p, e0)
            store(CHAINS, E, p + 1, e1)
            if D == 3:
                store(CHAINS, A, p + 2, a2)
                store(CHAINS, E, p + 2, e2)
        slow = slowness(roots, terms)
        most = maximum(most, terms)
        dt, along = h * slow, zero
        work = work + dt * tug(bodies, axes, field, m, x, time, X, A, t)
        for i in range(n):
            for d in range(D):
                q = D * i + d
                kick, u = dt * load(CHAINS, A, q), load(CHAINS, U, q)
                along = along + ((u + 0.5 * kick) + v[d, i]) * load(CHAINS, E, q)
                store(CHAINS, U, q, u + kick)
        W = W + h * term(roots, slow) * along
        dt = h / W
        t = t + dt
        for i in range(n):
            for d in range(D):
                q = D * i + d
                store(CHAINS, X, q, load(CHAINS, X, q) + dt * (load(CHAINS, U, q) + v[d, i]))
    store(CHAINS, Q, 0, t)
    store(CHAINS, Q, 1, W)
    store(CHAINS, Q, 3, most)
    store(CHAINS, Q, 4, work)


@njit(**PLAIN)
def chains(
    bodies, axes, columns, scheme, field, b, m, x, v, time, omega, H, room, G, eps2, trails
):  # fmt: skip
    """Take all chains through a step of H, and sum them up; `trails`: keep where one went."""
    n, D = size(bodies), size(axes)
    schedule = scheme.schedule
    X, U, Q, result, error = room.X, room.U, room.Q, room.result, room.error
    wide, row, point, longest = D * n, schedule.begin[columns], int(trails), 2 * columns
    nothing = load(CHAINS, schedule.part, row) * 0.0
    store(CHAINS, Q, 3, nothing)
    for q in range(2 * wide + 2):
        store(CHAINS, result, q, nothing)
        store(CHAINS, error, q, nothing)
    while schedule.steps[row] > 0:
        fresh = load(CHAINS, schedule.fresh, row)
        h = H * load(CHAINS, schedule.part, row)
        start = h * (0.5 / omega)
        for i in range(n):
            for d in range(D):
                q = D * i + d
                store(CHAINS, X, q, chosen(fresh, start * v[d, i], load(CHAINS, X, q)))
                store(CHAINS, U, q, chosen(fresh, nothing, load(CHAINS, U, q)))
        store(CHAINS, Q, 0, chosen(fresh, start, load(CHAINS, Q, 0)))
        store(CHAINS, Q, 1, chosen(fresh, nothing + omega, load(CHAINS, Q, 1)))
        store(CHAINS, Q, 2, h)
        store(CHAINS, Q, 4, chosen(fresh, nothing, load(CHAINS, Q, 4)))
        substeps(
            bodies, axes, scheme.roots, field, b, m, scheme.weights, x, v, time, room, G, eps2,
            schedule.steps[row], point,
        )  # fmt: skip
        if point > 0:
            point = point + schedule.steps[row] if point + schedule.steps[row] <= longest else 0
        weight = load(CHAINS, schedule.result, row)
        of_error = load(CHAINS, schedule.error, row)
        # The last drift was twice too long.
        over = 0.5 * h / load(CHAINS, Q, 1)
        for i in range(n):
            for d in range(D):
                q = D * i + d
                p, u = wide + q, load(CHAINS, U, q)
                moved = load(CHAINS, X, q) - over * (u + v[d, i])
                store(CHAINS, result, q, load(CHAINS, result, q) + weight * moved)
                store(CHAINS, error, q, load(CHAINS, error, q) + of_error * moved)
                store(CHAINS, result, p, load(CHAINS, result, p) + weight * u)
                store(CHAINS, error, p, load(CHAINS, error, p) + of_error * u)
        gone, work = load(CHAINS, Q, 0) - over, load(CHAINS, Q, 4)
        q = 2 * wide
        store(CHAINS, result, q, load(CHAINS, result, q) + weight * gone)
        store(CHAINS, error, q, load(CHAINS, error, q) + of_error * gone)
        store(CHAINS, result, q + 1, load(CHAINS, result, q + 1) + weight * work)
        store(CHAINS, error, q + 1, load(CHAINS, error, q + 1) + of_error * work)
        row += 1
    for q in range(2 * wide + 2):
        room.new[q] = total(load(CHAINS, result, q))
        room.change[q] = total(load(CHAINS, error, q))


@njit(**LAW)
def slowest(roots, room):
    """Largest Ω that the chains have met."""
    return 1 / slowness(roots, largest(load(CHAINS, room.Q, 3)))


@njit(**LAW)
def across(axes, flat, i, j):
    """Triple of the vector of body j less that of body i, from an array of bodies' vectors."""
    p, q = size(axes) * i, size(axes) * j
    last = flat[q + 2] - flat[p + 2] if size(axes) == 3 else 0.0
    return flat[q] - flat[p], flat[q + 1] - flat[p + 1], last
