"""Steps equal in transformed time, drift-kick-drift; see `physics.transformed`.

Where the number of bodies is known to the compiler all pairs of a round of the ring kick at once,
otherwise one pair after the other.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from nbcore.physics import clocks
from nbcore.physics.compiled import LAW, PLAIN, compiled, holding
from nbcore.physics.elementwise import inverse_root
from nbcore.physics.transformed import ENDS, LANDED, LANDINGS
from nbcore.simulation.kernels import fields
from nbcore.simulation.kernels.lanes import load, store, total
from nbcore.simulation.kernels.orbits import add_kick
from nbcore.simulation.kernels.ring import (
    apart,
    kept,
    meet,
    once,
    places,
    rejoin,
    rounds,
    separation2,
)
from nbcore.simulation.kernels.shapes import (
    active,
    either,
    is_a,
    is_known,
    padded,
    rounded_up,
    size,
)
from nbcore.simulation.kernels.steps import clear, copy, push

__all__ = ["Room", "TransformedSteps", "advance", "enter", "in_ring", "land", "leave", "room"]

Array = NDArray[np.float64]

term, slowness = compiled(clocks.term), compiled(clocks.slowness)


class TransformedSteps(NamedTuple):
    """A composition of leapfrogs in the time of a clock."""

    roots: tuple  # of the clock, as a length
    kicks: Array  # fractions of a step
    drifts: Array
    weights: Array  # (B, P) of the clock; (B, rounds, lanes) where the number of bodies is known
    pace: Array  # (B, 2) W, and what rounding left of it


class Room(NamedTuple):
    """Scratch of one system."""

    x: Array  # where a step began
    v: Array
    xl: Array
    vl: Array
    a: Array
    slope: Array  # ∂/∂x of Σ w r^−p, over p
    pace: Array  # (2, 2) W in two parts, now and where the step began


@njit(**holding(PLAIN))
def room(bodies, axes):
    """Scratch for systems of so many bodies."""
    wide = padded(bodies)
    return Room(
        np.zeros((3, wide)),
        np.zeros((3, wide)),
        np.zeros((3, wide)),
        np.zeros((3, wide)),
        np.zeros((3, wide)),
        np.zeros((3, wide)),
        np.zeros((2, 2)),
    )


def in_ring(weights: Array, n_bodies: int) -> Array:
    """Weights of pairs (B, P) as (B, rounds, lanes), zero where a pair was met already."""
    i, j = np.triu_indices(n_bodies, 1)
    square = np.zeros((len(weights), n_bodies, n_bodies))
    square[:, i, j] = square[:, j, i] = weights
    lanes = np.zeros((len(weights), n_bodies // 2, rounded_up(n_bodies)))
    for turn in range(1, n_bodies // 2 + 1):
        own = np.flatnonzero(once(n_bodies, turn))
        lanes[:, turn - 1, own] = square[:, own, np.array(places(n_bodies, turn))[own]]
    return lanes


@njit(**PLAIN)
def _enter(scheme, room, b):
    pace = room.pace
    pace[0, 0], pace[0, 1] = scheme.pace[b, 0], scheme.pace[b, 1]


@njit(**PLAIN)
def _leave(scheme, room, b):
    pace = scheme.pace
    pace[b, 0], pace[b, 1] = room.pace[0, 0], room.pace[0, 1]


@njit(**PLAIN)
def _nothing(scheme, room, b):
    pass


# Take from the scheme what a system goes on by, beside the bodies; and put it back.
enter = either(is_a(TransformedSteps), _enter, _nothing, options=PLAIN)
leave = either(is_a(TransformedSteps), _leave, _nothing, options=PLAIN)


@njit(**LAW)
def _in_rounds(bodies, axes, roots, weights, m, x, G, eps2, a, slope):
    mass = load(bodies, m, 0)
    no = mass * 0.0
    a0, a1, a2, e0, e1, e2, terms = rounds(
        _meet, bodies, axes, (0,), (G * mass, x, weights, roots, eps2), (no, no, no, no, no, no, no)
    )
    store(bodies, a, 0, a0)
    store(bodies, a, 1, a1)
    store(bodies, a, 2, a2)
    store(bodies, slope, 0, e0)
    store(bodies, slope, 1, e1)
    store(bodies, slope, 2, e2)
    return total(terms)


@njit(**LAW)
def _meet(bodies, axes, turn, known, sums):
    """Add what a round of pairs does."""
    Gm, x, weights, roots, eps2 = known
    a0, a1, a2, e0, e1, e2, terms = sums
    R0, R1, R2 = apart(bodies, turn, x, 0), apart(bodies, turn, x, 1), apart(bodies, turn, x, 2)
    inverse = inverse_root(separation2(bodies, turn, x, eps2))
    part = load(bodies, weights, len(turn) - 1) * term(roots, inverse)
    u = inverse * inverse
    f, g = u * inverse, part * u
    ours, yours = kept(bodies, turn, meet(bodies, turn, Gm)) * f, kept(bodies, turn, Gm) * f
    a0 = a0 + ours * R0 - rejoin(bodies, turn, yours * R0)
    a1 = a1 + ours * R1 - rejoin(bodies, turn, yours * R1)
    e0 = e0 + g * R0 - rejoin(bodies, turn, g * R0)
    e1 = e1 + g * R1 - rejoin(bodies, turn, g * R1)
    if size(axes) == 3:
        a2 = a2 + ours * R2 - rejoin(bodies, turn, yours * R2)
        e2 = e2 + g * R2 - rejoin(bodies, turn, g * R2)
    return a0, a1, a2, e0, e1, e2, terms + part


@njit(**LAW)
def _pair_by_pair(bodies, axes, roots, weights, m, x, G, eps2, a, slope):
    clear(bodies, a)
    clear(bodies, slope)
    terms, k = 0.0, 0
    for i in range(active(bodies)):
        mi, x0, x1, x2 = G * m[i], x[0, i], x[1, i], x[2, i]
        a0 = a1 = a2 = e0 = e1 = e2 = 0.0
        for j in range(i + 1, size(bodies)):
            R0, R1, R2 = x[0, j] - x0, x[1, j] - x1, x[2, j] - x2
            inverse = inverse_root(R0 * R0 + R1 * R1 + R2 * R2 + eps2)
            part = weights[k] * term(roots, inverse)
            terms += part
            u = inverse * inverse
            f, g = u * inverse, part * u
            ours, yours = G * m[j] * f, mi * f
            a0 += ours * R0
            a1 += ours * R1
            a2 += ours * R2
            e0 += g * R0
            e1 += g * R1
            e2 += g * R2
            a[0, j] -= yours * R0
            a[1, j] -= yours * R1
            a[2, j] -= yours * R2
            slope[0, j] -= g * R0
            slope[1, j] -= g * R1
            slope[2, j] -= g * R2
            k += 1
        a[0, i] += a0
        a[1, i] += a1
        a[2, i] += a2
        slope[0, i] += e0
        slope[1, i] += e1
        slope[2, i] += e2
    return terms


# Accelerations and the slope of the clock, into (3, N) each; returns Σ w r^−p.
pull = either(is_known, _in_rounds, _pair_by_pair)


@njit(**LAW)
def _along_lanes(bodies, slope, v):
    along = load(bodies, slope, 0) * load(bodies, v, 0)
    along = along + load(bodies, slope, 1) * load(bodies, v, 1)
    return total(along + load(bodies, slope, 2) * load(bodies, v, 2))


@njit(**LAW)
def _along_arrays(bodies, slope, v):
    along = 0.0
    for d in range(3):
        for i in range(size(bodies)):
            along += slope[d, i] * v[d, i]
    return along


# Sum of the scalar products of all bodies.
along = either(is_known, _along_lanes, _along_arrays)


@njit(**PLAIN)
def composed(
    bodies, axes, scheme, room, field, b, m, x, v, lows, time, ds, G, eps2, orbits
):  # fmt: skip
    """Advance by ds in s; returns by how much time, and the work of a moving field."""
    kicks, drifts, roots, weights = scheme.kicks, scheme.drifts, scheme.roots, scheme.weights[b]
    a, slope, pace, last = room.a, room.slope, room.pace, len(scheme.kicks)
    W, low, t, work = pace[0, 0], pace[0, 1], 0.0, 0.0
    for k in range(last):
        dt = drifts[k] * ds / W
        t += dt
        for d in range(size(axes)):
            push(bodies, d, x, lows[0], dt, v)
        terms = pull(bodies, axes, roots, weights, m, x, G, eps2, a, slope)
        fields.add_acceleration(bodies, axes, field, x, time + t, a)
        # Apart from each other, so that neither waits for the length of the kick.
        fast, faster = along(bodies, slope, v), along(bodies, slope, a)
        slow, h = slowness(roots, terms), kicks[k] * ds
        dt = h * slow
        work += dt * fields.power(bodies, axes, field, m, x, time + t)
        due = h * term(roots, slow) * (fast + 0.5 * dt * faster) + low
        before, W = W, W + due
        low = due - (W - before)
        for d in range(size(axes)):
            push(bodies, d, v, lows[1], dt, a)
        if orbits.followed:
            add_kick(bodies, orbits, x, v, a, dt, eps2)
    dt = drifts[last] * ds / W
    for d in range(size(axes)):
        push(bodies, d, x, lows[0], dt, v)
    pace[0, 0], pace[0, 1] = W, low
    return t + dt, work


@njit(**PLAIN)
def go(
    bodies, axes, scheme, room, field, b, m, x, v, lows, time, ds, length, ends, G, eps2, orbits
):  # fmt: skip
    """One step, of ds unless that goes beyond a time or is to end there.

    Parameters
    ----------
    length
        Time until then.
    ends
        Whether the step is to end there in any case.

    Returns
    -------
    Its length in time; whether it ends there; the work of a moving field; how often the step was
    made. Where that took no time, or it could not be made to end there (NaN), none was made.
    """
    pace, gone, made, short, far = room.pace, orbits.gone, 0, 0.0, math.inf
    copy(bodies, x, room.x)
    copy(bodies, v, room.v)
    copy(bodies, lows[0], room.xl)
    copy(bodies, lows[1], room.vl)
    pace[1, 0], pace[1, 1] = pace[0, 0], pace[0, 1]
    while True:
        t, work = composed(
            bodies, axes, scheme, room, field, b, m, x, v, lows, time, ds, G, eps2, orbits
        )
        made += 1
        if not ends:
            if not t >= length * (1 - ENDS):
                if not time + t > time:
                    put_back(bodies, room, x, v, lows)
                return t, False, work, made
            ends, new = True, ds * (length / t)
        else:
            rest = length - t
            if abs(rest) <= LANDED * abs(length):
                return length, True, work, made
            if made > LANDINGS:
                put_back(bodies, room, x, v, lows)
                return math.nan, True, work, made
            if rest > 0:
                short = ds
            else:
                far = ds  # for NaN, too
            new = ds + rest * pace[0, 0]
            if not short < new < far:
                new = (short + far) / 2 if far < math.inf else 2 * short
        ds = new
        put_back(bodies, room, x, v, lows)
        if orbits.followed:
            clear(bodies, gone)


@njit(**PLAIN)
def put_back(bodies, room, x, v, lows):
    """Go back to where a step began."""
    copy(bodies, room.x, x)
    copy(bodies, room.v, v)
    copy(bodies, room.xl, lows[0])
    copy(bodies, room.vl, lows[1])
    pace = room.pace
    pace[0, 0], pace[0, 1] = pace[1, 0], pace[1, 1]


@njit(**PLAIN)
def advance(
    bodies, axes, scheme, room, field, b, m, x, v, lows, time, ds, t_end, G, eps2, orbits
):  # fmt: skip
    """One step of ds, or the last one, which ends at t_end; see `extrapolation.advance`."""
    h, ends, work, made = go(
        bodies, axes, scheme, room, field, b, m, x, v, lows, time, ds, t_end - time, False, G, eps2,
        orbits,
    )  # fmt: skip
    return h, ends, work, ds, ds, (made - 1) * len(scheme.kicks)


@njit(**PLAIN)
def land(
    bodies, axes, scheme, room, field, b, m, x, v, lows, time, ds, gone, length, G, eps2, orbits
):  # fmt: skip
    """Go to a time by a part of the step that was made last; see `extrapolation.land`."""
    pace = room.pace
    W, low = pace[0, 0], pace[0, 1]
    pace[0, 0], pace[0, 1] = pace[1, 0], pace[1, 1]
    h, _, work, made = go(
        bodies, axes, scheme, room, field, b, m, x, v, lows, time, min(length * pace[1, 0], ds),
        length, True, G, eps2, orbits,
    )  # fmt: skip
    pace[0, 0], pace[0, 1] = W, low
    if not math.isfinite(h):
        x[0, 0] = math.nan
    return work, made * len(scheme.kicks)
