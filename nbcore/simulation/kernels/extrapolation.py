"""Steps in transformed time, extrapolated; see `physics.extrapolation`."""

from __future__ import annotations

import math

from numba import njit

from nbcore.physics import extrapolation
from nbcore.physics.compiled import LAW, PLAIN, compiled
from nbcore.physics.elementwise import inverse_root
from nbcore.physics.extrapolation import (
    BEYOND,
    LANDED,
    LANDINGS,
    LEAST_COLUMNS,
    NARROW,
    OVERLOOKED,
    RETRIES,
    SMALLEST,
    TOUCHED,
)
from nbcore.simulation.kernels.chains import across, chains, rate, separate, slowest
from nbcore.simulation.kernels.orbits import beside, dot, orbit_changes, plus, span
from nbcore.simulation.kernels.passages import overlooks
from nbcore.simulation.kernels.shapes import size

__all__ = ["advance", "land"]

# Called now and then, from several places: not to be compiled into each of them.
OUTSIDE = {**PLAIN, "forceinline": False}

pair_errors, noise_sizes, energy_share, growth, cut, rounding = (
    compiled(getattr(extrapolation, name))
    for name in ("pair_errors", "noise_sizes", "energy_share", "growth", "cut", "rounding")
)


@njit(**LAW)
def norm_of(axes, flat, i):
    """Size of the vector of body i."""
    total = 0.0
    for p in range(size(axes) * i, size(axes) * (i + 1)):
        total += flat[p] * flat[p]
    return math.sqrt(total)


@njit(**LAW)
def estimated(bodies, axes, orbits, m, energy, aim, x, v, new, change, noise, closest, eps2):
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
        moved, faster = norm_of(axes, new, i), norm_of(axes, new, n + i)
        by_place, by_speed = noise_sizes(moved, faster, V, mu, inverse, closest)
        share = energy_share(m[i], m[j], V, mu, inverse, energy, aim, noise)
        over = max(of_place - noise * by_place, of_speed - noise * by_speed)
        worst = max(worst, share * over)
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


@njit(**OUTSIDE)
def land(
    bodies, axes, scheme, room, field, b, m, x, v, lows, time, ds, gone, length, G, eps2, orbits
):  # fmt: skip
    """Go to a time, by parts of a step of ds, none of which errs by more than steps may.

    Parameters
    ----------
    gone, length
        Since `time`: where they are, and where they go, forward or back.

    Returns
    -------
    The work of a moving field, evaluations. Where they don't get there, nothing is a number.
    """
    wide, made, work, aim = size(axes) * size(bodies), 0, 0.0, scheme.budget.aim[b]
    low = high = 0.0  # of s, between which the time lies
    for _ in range(LANDINGS):
        rest = length - gone
        if abs(rest) <= LANDED * (abs(time + length) + abs(length)):
            return work, made
        separate(bodies, x, lows[0], room.apart)
        omega = rate(bodies, axes, scheme.roots, b, room.apart, scheme.weights, eps2)
        part = rest * omega
        if high - low < NARROW * min(abs(part), ds):  # not yet known, or lost by errors of parts
            low, high = (0.0, BEYOND * ds) if rest > 0 else (-BEYOND * ds, 0.0)
        if not low < part < high:  # as Newton's method may, where Ω changes by much
            part = (low + high) / 2
        columns = columns_for(abs(part) / ds, scheme.columns[b], aim)
        for tries in range(RETRIES):
            chains(
                bodies, axes, columns, scheme, field, b, m, x, v, time + gone, omega, part, room,
                G, eps2, False,
            )  # fmt: skip
            made += columns * (columns + 1)
            closest = slowest(scheme.roots, room)
            error = estimated(
                bodies, axes, orbits, m, math.inf, aim, x, v, room.new, room.change,
                rounding(columns), closest, eps2,
            )  # fmt: skip
            if error <= aim or tries + 1 == RETRIES:
                break
            columns = scheme.columns[b]
            part *= cut(error / aim, columns)
        move(bodies, axes, x, v, lows, room.new)
        gone += room.new[2 * wide]
        work += room.new[2 * wide + 1]
        low, high = (0.0, high - part) if gone < length else (low - part, 0.0)
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
    wide, columns, roots, spent = (
        size(axes) * size(bodies), scheme.columns[b], scheme.roots, scheme.budget.spent
    )  # fmt: skip
    aim, target, energy = scheme.budget.aim[b], scheme.budget.target[b], scheme.energy[b]
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
        closest = slowest(roots, room)
        error = estimated(
            bodies, axes, orbits, m, energy, aim, x, v, new, change, noise, closest, eps2
        )
        error /= aim
        if abs(change[2 * wide + 1]) > error * aim * energy:
            error = abs(change[2 * wide + 1]) / (aim * energy)
        if error <= 1.0 and overlooks(
            bodies, axes, field, m, x, v, time, room, columns, orbits, aim, G, eps2
        ):
            error = OVERLOOKED
    if orbits.followed:
        span(bodies, orbits, x, eps2, orbits.now)
    move(bodies, axes, x, v, lows, new)
    if orbits.followed:
        note(bodies, axes, orbits, x, v, change, eps2)
    error = max(error, 0.0) * aim
    spent[b] += error
    gone, work, ahead = new[2 * wide], new[2 * wide + 1], H * growth(error / target, columns)
    if gone < (1 - TOUCHED) * remaining:  # of a run without an end, too
        return gone, False, work, ahead, H, made
    more, made_more = land(
        bodies, axes, scheme, room, field, b, m, x, v, lows, time, H, gone, remaining, G, eps2,
        orbits,
    )  # fmt: skip
    return remaining, True, work + more, ahead, H, made + made_more
