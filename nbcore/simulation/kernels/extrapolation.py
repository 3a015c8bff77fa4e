"""Steps in transformed time, extrapolated; see `physics.extrapolation` and `physics.clocks`.

The chains of a step don't depend on each other: `CHAINS` of them go through it at once, each in a
lane of the vectors. Within a step positions are displacements from its start, and separations at
its start come from positions in two parts.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from nbcore.physics import clocks, extrapolation
from nbcore.physics.compiled import LAW, PLAIN, compiled, holding
from nbcore.physics.elementwise import inverse_root, maximum
from nbcore.physics.extrapolation import (
    BEYOND,
    LANDED,
    LANDINGS,
    LEAST_COLUMNS,
    MOST_COLUMNS,
    OVERLOOKED,
    SMALLEST,
    TOUCHED,
    chain_lengths,
    column_weights,
    error_weights,
)
from nbcore.simulation.kernels import fields
from nbcore.simulation.kernels.lanes import chosen, largest, load, store, total
from nbcore.simulation.kernels.orbits import beside, dot, orbit_changes, plus, span
from nbcore.simulation.kernels.shapes import LANES, active, either, is_a, size

__all__ = ["ExtrapolatedSteps", "Room", "advance", "land", "room", "schedule", "survey"]

Array = NDArray[np.float64]

CHAINS = (0,) * LANES

term, slowness, pair_errors, noise_sizes, growth, cut, rounding, is_fast, is_overlooked = (
    compiled(law)
    for law in (
        *(clocks.term, clocks.slowness, extrapolation.pair_errors, extrapolation.noise_sizes),
        *(extrapolation.growth, extrapolation.cut, extrapolation.rounding),
        *(extrapolation.is_fast, extrapolation.is_overlooked),
    )
)


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
    aim: Array  # (B,) largest error of a step
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


@njit(**LAW)
def survey(bodies, axes, m, x, G, eps2, orbits):
    """Potential energy of all pairs; and who pulls each body most, into `found`."""
    potential, most, found = 0.0, orbits.mean, orbits.found
    for i in range(size(bodies)):
        most[0, i], found[i] = 0.0, i
    for i in range(active(bodies)):
        for j in range(i + 1, size(bodies)):
            r2 = eps2
            for d in range(size(axes)):
                r2 += (x[d, j] - x[d, i]) ** 2
            inverse = inverse_root(r2)
            weight = inverse * inverse * inverse
            potential -= m[i] * m[j] * inverse
            if m[j] * weight > most[0, i]:
                most[0, i], found[i] = m[j] * weight, j
            if m[i] * weight > most[0, j]:
                most[0, j], found[j] = m[i] * weight, i
    return G * potential


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
def across(axes, flat, i, j):
    """Triple of the vector of body j less that of body i, from an array of bodies' vectors."""
    p, q = size(axes) * i, size(axes) * j
    last = flat[q + 2] - flat[p + 2] if size(axes) == 3 else 0.0
    return flat[q] - flat[p], flat[q + 1] - flat[p + 1], last


@njit(**LAW)
def length(axes, flat, i):
    """Size of the vector of body i."""
    total = 0.0
    for p in range(size(axes) * i, size(axes) * (i + 1)):
        total += flat[p] * flat[p]
    return math.sqrt(total)


@njit(**LAW)
def estimated(bodies, axes, orbits, x, v, new, change, noise, closest, eps2):
    """Error of a step beyond rounding, relative: of each body beside its partner, and of all.

    NaN where there is none.
    """
    n, wide, worst = size(bodies), size(axes) * size(bodies), 0.0
    late = change[2 * wide]
    for i in range(n):
        j, mu = orbits.who[i], orbits.pair[1, i]
        if j == i:
            continue
        R = plus(beside(i, orbits, x), across(axes, new, i, j), 1.0)
        V = plus(beside(i, orbits, v), across(axes, new, n + i, n + j), 1.0)
        dR, dV = across(axes, change, i, j), across(axes, change, n + i, n + j)
        inverse = inverse_root(dot(R, R) + eps2)
        of_place, of_speed = pair_errors(R, V, dR, dV, late, mu, inverse)
        moved, faster = length(axes, new, i), length(axes, new, n + i)
        by_place, by_speed = noise_sizes(moved, faster, V, mu, inverse, closest)
        worst = max(worst, of_place - noise * by_place, of_speed - noise * by_speed)
    size2 = off2 = 0.0
    for d in range(size(axes)):
        centre = drift = 0.0
        for i in range(n):
            centre += (x[d, i] + new[size(axes) * i + d]) / n
            drift += (v[d, i] + new[wide + size(axes) * i + d]) / n
        for i in range(n):
            size2 += (x[d, i] + new[size(axes) * i + d] - centre) ** 2
            off2 += (change[size(axes) * i + d] - drift * late) ** 2
    whole = math.sqrt(off2 / size2) - noise
    return whole if not worst >= whole else worst


@njit(**LAW)
def pace_of(bodies, orbits, x, v, i, eps2):
    """√(V² + 2μ/r) of a body beside its partner, at the start of a step."""
    R, V = beside(i, orbits, x), beside(i, orbits, v)
    return math.sqrt(dot(V, V) + 2 * orbits.pair[1, i] * inverse_root(dot(R, R) + eps2))


@njit(**LAW)
def overlooks(bodies, axes, field, m, x, v, time, room, columns, orbits, aim, G, eps2):
    """Whether a step may have gone over a fast passage that no chain has seen."""
    n, last, trail, new = size(bodies), 2 * columns + 1, room.trail, room.new
    wide = size(axes) * size(bodies)
    for q in range(wide):
        trail[0, q], trail[last, q] = 0.0, new[q]
    trail[0, wide], trail[last, wide] = 0.0, new[2 * wide]
    k = 0
    for i in range(active(bodies)):
        for j in range(i + 1, n):
            mu = G * (m[i] + m[j])
            apart = (room.apart[k, 0], room.apart[k, 1], room.apart[k, 2])
            k += 1
            V = (v[0, j] - v[0, i], v[1, j] - v[1, i], v[2, j] - v[2, i])
            after = plus(apart, across(axes, new, i, j), 1.0)
            U = plus(V, across(axes, new, n + i, n + j), 1.0)
            if not (is_fast(apart, V, mu, eps2) or is_fast(after, U, mu, eps2)):
                continue
            pull = max(m[i], m[j]) * G
            pulled = i if m[i] <= m[j] else j
            pace = pace_of(bodies, orbits, x, v, pulled, eps2)
            R = apart
            for s in range(last):
                there = plus(apart, across(axes, trail[s + 1], i, j), 1.0)
                C, T = plus(there, R, -1.0), trail[s + 1, wide] - trail[s, wide]
                if is_overlooked(R, C, T, mu, pull, pace, aim, eps2):
                    return True
                R = there
    return overlooks_field(bodies, axes, field, m, x, v, time, trail, last, orbits, aim, G, eps2)


@njit(**LAW)
def _overlooks_tide(bodies, axes, field, m, x, v, time, trail, last, orbits, aim, G, eps2):
    wide = size(axes) * size(bodies)
    for i in range(size(bodies)):
        pace, R = pace_of(bodies, orbits, x, v, i, eps2), (0.0, 0.0, 0.0)
        for s in range(last + 1):
            t, p = time + trail[s, wide], size(axes) * i
            x2 = trail[s, p + 2] if size(axes) == 3 else 0.0
            there = fields.apart(
                field, x[0, i] + trail[s, p], x[1, i] + trail[s, p + 1], x[2, i] + x2, t
            )
            C, T = plus(there, R, -1.0), trail[s, wide] - trail[max(s - 1, 0), wide]
            if s > 0 and is_overlooked(R, C, T, field.Gm, field.Gm, pace, aim, 0.0):
                return True
            R = there
    return False


@njit(**LAW)
def _overlooks_nothing(bodies, axes, field, m, x, v, time, trail, last, orbits, aim, G, eps2):
    return False


overlooks_field = either(is_a(fields.Tide), _overlooks_tide, _overlooks_nothing, place=2)


@njit(**LAW)
def note(bodies, axes, orbits, x, v, change, eps2):
    """Add an estimate of what a part of a step erred by to `gone`, as if it had been kicks."""
    n, gone, now = size(bodies), orbits.gone, orbits.now
    for i in range(n):
        j, mu = orbits.who[i], orbits.pair[1, i]
        if j == i:
            continue
        R, V = beside(i, orbits, x), beside(i, orbits, v)
        dR, dV = across(axes, change, i, j), across(axes, change, n + i, n + j)
        inverse = inverse_root(dot(R, R) + eps2)
        energy, shape = orbit_changes(R, V, dR, dV, mu, inverse)
        gone[0, i] += (inverse - now[0, i]) + energy / mu
        now[0, i] = inverse
        for d in range(3):
            along = inverse * R[d]
            gone[d + 1, i] += (along - now[d + 1, i]) + shape[d]
            now[d + 1, i] = along


@njit(**PLAIN)
def move(bodies, axes, x, v, lows, new):
    """Add the displacements and the changes of the velocities, in two parts."""
    n, D = size(bodies), size(axes)
    xl, vl = lows
    for i in range(n):
        for d in range(D):
            q = D * i + d
            place, due = x[d, i], new[q] + xl[d, i]
            x[d, i] = place + due
            xl[d, i] = due - (x[d, i] - place)
            speed, due = v[d, i], new[D * n + q] + vl[d, i]
            v[d, i] = speed + due
            vl[d, i] = due - (v[d, i] - speed)


@njit(**PLAIN)
def columns_for(part, most, aim):
    """Columns that do for a part of a step of `most` columns that erred by `aim` at most.

    As if each column lessened the error of the whole step by the same factor.
    """
    if part >= 1:
        return most
    wanted, lessened = math.log(aim / part), math.log(aim) / most + 2 * math.log(part)
    return min(max(math.ceil(wanted / lessened) + 2, LEAST_COLUMNS), most)


@njit(**PLAIN)
def land(
    bodies, axes, scheme, room, field, b, m, x, v, lows, time, ds, gone, length, G, eps2, orbits
):  # fmt: skip
    """Go to a time, by parts of a step of ds.

    Parameters
    ----------
    gone, length
        Since `time`: where they are, and where they go, forward or back.

    Returns
    -------
    The work of a moving field, evaluations. Where they don't get there, nothing is a number.
    """
    wide, made, work = size(axes) * size(bodies), 0, 0.0
    for _ in range(LANDINGS):
        rest = length - gone
        if abs(rest) <= LANDED * (abs(time + length) + abs(length)):
            return work, made
        separate(bodies, x, lows[0], room.apart)
        omega = rate(bodies, axes, scheme.roots, b, room.apart, scheme.weights, eps2)
        part = min(max(rest * omega, -ds), ds)
        columns = columns_for(abs(part) / ds, scheme.columns[b], scheme.aim[b])
        chains(
            bodies, axes, columns, scheme, field, b, m, x, v, time + gone, omega, part, room, G,
            eps2, False,
        )  # fmt: skip
        made += columns * (columns + 1)
        move(bodies, axes, x, v, lows, room.new)
        gone += room.new[2 * wide]
        work += room.new[2 * wide + 1]
        if orbits.followed:
            note(bodies, axes, orbits, x, v, room.change, eps2)
    x[0, 0] = math.nan
    return work, made


@njit(**PLAIN)
def advance(
    bodies, axes, scheme, room, field, b, m, x, v, lows, time, H, t_end, G, eps2, orbits
):  # fmt: skip
    """One step in s that is accepted, or the last one, which ends at t_end.

    Returns
    -------
    Its length in time, 0 where none can be made; whether it ends the run; the work of a moving
    field; the next step in s, and this one; evaluations.
    """
    wide, columns, aim, roots = (
        size(axes) * size(bodies), scheme.columns[b], scheme.aim[b], scheme.roots
    )  # fmt: skip
    noise, new, change, remaining = rounding(columns), room.new, room.change, t_end - time
    separate(bodies, x, lows[0], room.apart)
    omega = rate(bodies, axes, roots, b, room.apart, scheme.weights, eps2)
    # Not far beyond the end, from where it is a long way back.
    most = BEYOND * remaining * omega
    if 1.5 * most < H:
        H = most
    made, first, error = 0, H, math.inf
    while not error <= 1.0:
        if not first * SMALLEST < H:
            return 0.0 * H, False, 0.0, H, H, made
        if made > 0:
            H *= cut(error, columns)
        chains(
            bodies, axes, columns, scheme, field, b, m, x, v, time, omega, H, room, G, eps2, True
        )
        made += columns * (columns + 1)
        closest = 1 / slowness(roots, largest(load(CHAINS, room.Q, 3)))
        error = estimated(bodies, axes, orbits, x, v, new, change, noise, closest, eps2) / aim
        if abs(change[2 * wide + 1]) > error * aim * scheme.energy[b]:
            error = abs(change[2 * wide + 1]) / (aim * scheme.energy[b])
        if error <= 1.0 and overlooks(
            bodies, axes, field, m, x, v, time, room, columns, orbits, aim, G, eps2
        ):
            error = OVERLOOKED
    if orbits.followed:
        span(bodies, orbits, x, eps2, orbits.now)
    move(bodies, axes, x, v, lows, new)
    if orbits.followed:
        note(bodies, axes, orbits, x, v, change, eps2)
    gone, work, ahead = new[2 * wide], new[2 * wide + 1], H * growth(max(error, 0.0), columns)
    if gone < (1 - TOUCHED) * remaining:  # of a run without an end, too
        return gone, False, work, ahead, H, made
    more, made_more = land(
        bodies, axes, scheme, room, field, b, m, x, v, lows, time, H, gone, remaining, G, eps2,
        orbits,
    )  # fmt: skip
    return remaining, True, work + more, ahead, H, made + made_more
