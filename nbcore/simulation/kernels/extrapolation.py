"""Steps in regularised time, extrapolated; see `physics.clocks` and `physics.extrapolation`.

The chains of a step don't depend on each other: `CHAINS` of them go through it at once, each in a
lane of the vectors. Within a step positions are displacements from its start, and separations at
its start come from positions in two parts, so that close pairs lose no digits.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from nbcore.physics.compiled import LAW, PLAIN
from nbcore.physics.elementwise import inverse_root, maximum
from nbcore.physics.extrapolation import chain_lengths, column_weights, error_weights
from nbcore.simulation.kernels.lanes import chosen, largest, load, store, total
from nbcore.simulation.kernels.orbits import estimated, note
from nbcore.simulation.kernels.shapes import LANES, active, size

__all__ = ["ExtrapolatedSteps", "Room", "advance", "room"]

Array = NDArray[np.float64]

CHAINS = (0,) * LANES
SAFETY = 0.75
LARGEST_GROWTH, LEAST_GROWTH = 4.0, 0.2
LARGEST_CUT, LEAST_CUT = 0.1, 0.85  # of a step that is redone
FIRST_STEP = 1.0  # about a radian of a pair
LANDINGS = 8  # tries to reach the end
BEYOND = 1.02  # of what is left, which the last step but one goes for
NOISE = 4e-16
UNHEEDED = 1e-14  # relative rounding, times 2^columns, in units of which an error is small
ROUNDING = 1e-12
CLOSE, CLOSER = 5e-2, 1e-3  # lengths, in steps, for which fewer columns do
SMALLEST = 1e-14  # step in s


class Schedule(NamedTuple):
    """Which chain goes in which lane: rows of segments, between which lanes may change hands."""

    begin: NDArray[np.int64]  # (columns + 1,) first row for each number of columns
    count: NDArray[np.int64]  # (rows,) steps of each segment; 0: the end
    fresh: Array  # (rows, lanes) 1 where a chain begins
    part: Array  # one over the steps of the chain; 0 where a lane stands still
    result: Array  # weight of a chain that ends in the result
    error: Array  # and in the estimate of its error


class ExtrapolatedSteps(NamedTuple):
    """Gragg–Bulirsch–Stoer with a number of columns for each system."""

    power: tuple  # of the clock, as a length
    columns: NDArray[np.int64]  # (B,)
    tolerance: Array  # (B,)
    weights: Array  # (B, P) of the clock
    schedule: Schedule


class Room(NamedTuple):
    """Scratch of one system."""

    apart: Array  # (P, 3) separations at the start of the step
    X: Array  # (D N, lanes) displacements
    U: Array  # changes of the velocities
    A: Array
    E: Array  # gradient of the clock
    Q: Array  # (4, lanes) time, W, step in s, largest Ω^p
    result: Array  # (2 D N + 1, lanes) weighted sums of the chains
    error: Array
    new: Array  # (2 D N + 1,) displacements, changes of the velocities, and the time
    change: Array  # estimate of their errors


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


@njit(**PLAIN)
def room(bodies, axes):
    """Scratch for systems of so many bodies."""
    n, wide = size(bodies), size(axes) * size(bodies)
    return Room(
        np.empty((n * (n - 1) // 2, 3)),
        np.empty((wide, LANES)),
        np.empty((wide, LANES)),
        np.empty((wide, LANES)),
        np.empty((wide, LANES)),
        np.empty((4, LANES)),
        np.empty((2 * wide + 1, LANES)),
        np.empty((2 * wide + 1, LANES)),
        np.empty(2 * wide + 1),
        np.empty(2 * wide + 1),
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
def term(power, inverse):
    """r^−p."""
    if len(power) == 2:
        return inverse * inverse
    if len(power) == 1:
        return inverse
    return inverse * inverse * inverse


@njit(**LAW)
def rate_of(power, total):
    """Ω from the sum of its terms."""
    if len(power) == 2:
        return math.sqrt(total)
    if len(power) == 1:
        return total
    return total ** (1 / 3)


@njit(**LAW)
def look(bodies, axes, power, b, m, apart, weights, G, eps2):
    """Potential energy of all pairs, and Ω."""
    potential, total, k = 0.0, 0.0, 0
    for i in range(active(bodies)):
        for j in range(i + 1, size(bodies)):
            r2 = eps2
            for d in range(size(axes)):
                r2 += apart[k, d] * apart[k, d]
            inverse = 1 / math.sqrt(r2)
            potential -= m[i] * m[j] * inverse
            total += weights[b, k] * term(power, inverse)
            k += 1
    return G * potential, rate_of(power, total)


@njit(**PLAIN)
def substeps(bodies, axes, power, b, m, weights, v, room, G, eps2, count):
    """So many kicks, each with a drift after it, of all chains."""
    n, D = size(bodies), size(axes)
    apart, X, U, A, E, Q = room.apart, room.X, room.U, room.A, room.E, room.Q
    t, W, h = load(CHAINS, Q, 0), load(CHAINS, Q, 1), load(CHAINS, Q, 2)
    zero, most = h * 0.0, load(CHAINS, Q, 3)
    for _ in range(count):
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
                part = weights[b, k] * term(power, inverse)
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
        slow = inverse_root(terms)  # 1/Ω
        most = maximum(most, terms)
        dt, along = h * slow, zero
        for i in range(n):
            for d in range(D):
                q = D * i + d
                kick, u = dt * load(CHAINS, A, q), load(CHAINS, U, q)
                along = along + ((u + 0.5 * kick) + v[d, i]) * load(CHAINS, E, q)
                store(CHAINS, U, q, u + kick)
        W = W + dt * slow * along
        dt = h / W
        t = t + dt
        for i in range(n):
            for d in range(D):
                q = D * i + d
                store(CHAINS, X, q, load(CHAINS, X, q) + dt * (load(CHAINS, U, q) + v[d, i]))
    store(CHAINS, Q, 0, t)
    store(CHAINS, Q, 1, W)
    store(CHAINS, Q, 3, most)


@njit(**PLAIN)
def chains(bodies, axes, columns, scheme, b, m, v, omega, H, room, G, eps2):
    """Take all chains through a step of H, and sum them up."""
    n, D = size(bodies), size(axes)
    schedule = scheme.schedule
    X, U, Q, result, error = room.X, room.U, room.Q, room.result, room.error
    wide, row = D * n, schedule.begin[columns]
    nothing = load(CHAINS, schedule.part, row) * 0.0
    store(CHAINS, Q, 3, nothing)
    for q in range(2 * wide + 1):
        store(CHAINS, result, q, nothing)
        store(CHAINS, error, q, nothing)
    while schedule.count[row] > 0:
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
        substeps(
            bodies, axes, scheme.power, b, m, scheme.weights, v, room, G, eps2, schedule.count[row]
        )
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
        gone = load(CHAINS, Q, 0) - over
        store(CHAINS, result, 2 * wide, load(CHAINS, result, 2 * wide) + weight * gone)
        store(CHAINS, error, 2 * wide, load(CHAINS, error, 2 * wide) + of_error * gone)
        row += 1
    for q in range(2 * wide + 1):
        room.new[q] = total(load(CHAINS, result, q))
        room.change[q] = total(load(CHAINS, error, q))


@njit(**PLAIN)
def advance(
    bodies, axes, scheme, room, field, b, m, x, v, lows, time, H, t_end, G, eps2, orbits
):  # fmt: skip
    """One step in s that is accepted, or the last one, which ends at t_end.

    Returns
    -------
    Its length in time, 0 where none can be made; whether it ends the run; the potential energy; the
    next step in s; evaluations, and how many of them were in vain; the error of any body's orbit.
    """
    n, D = size(bodies), size(axes)
    xl, vl = lows
    power, weights, tolerance, most = (
        scheme.power, scheme.weights, scheme.tolerance[b], scheme.columns[b]
    )  # fmt: skip
    exponent, noise, new, change = -1.0 / (2 * most - 1), UNHEEDED * 2.0**most, room.new, room.change
    separate(bodies, x, xl, room.apart)
    potential, omega = look(bodies, axes, power, b, m, room.apart, weights, G, eps2)
    made, in_vain, ahead, gone, landing = 0, 0, H, 0.0, 0
    remaining, whole = t_end - time, H
    while True:
        columns = most
        if landing > 0:
            columns = 2 if abs(H) < CLOSER * whole else 4 if abs(H) < CLOSE * whole else most
        chains(bodies, axes, columns, scheme, b, m, v, omega, H, room, G, eps2)
        made += columns * (columns + 1)
        if landing == 0:
            closest = rate_of(power, largest(load(CHAINS, room.Q, 3)))
            e = estimated(
                bodies, axes, orbits, x, v, new, change, tolerance, noise, closest, eps2
            )
            factor = SAFETY * max(e, 1e-30) ** exponent
            if not e <= 1.0:
                in_vain += columns * (columns + 1)
                H *= min(max(factor, LARGEST_CUT), LEAST_CUT) if e < 1e200 else LARGEST_CUT
                if not H > SMALLEST:
                    return 0.0, False, potential, H, made, in_vain, 0.0
                continue
            whole = H
            ahead = H * min(max(factor, LEAST_GROWTH), LARGEST_GROWTH)
        for i in range(n):
            for d in range(D):
                q = D * i + d
                place, due = x[d, i], new[q] + xl[d, i]
                x[d, i] = place + due
                xl[d, i] = due - (x[d, i] - place)
                speed, due = v[d, i], new[D * n + q] + vl[d, i]
                v[d, i] = speed + due
                vl[d, i] = due - (v[d, i] - speed)
        gone += new[2 * D * n]
        erred = note(bodies, axes, orbits, x, v, change, eps2) if orbits.followed else 0.0
        separate(bodies, x, xl, room.apart)
        potential, omega = look(bodies, axes, power, b, m, room.apart, weights, G, eps2)
        rest = remaining - gone
        if landing == 0 and rest > ROUNDING * remaining:
            # Not far beyond the end, from where it is a long way back.
            if ahead > 1.5 * BEYOND * rest * omega:
                ahead = BEYOND * rest * omega
            return gone, False, potential, ahead, made, in_vain, erred
        if abs(rest) <= NOISE * (abs(t_end) + remaining) or landing == LANDINGS:
            return remaining, True, potential, ahead, made, in_vain, erred
        landing += 1
        H = rest * omega
