"""One step of any scheme, as the loop takes it: in time, or in s."""

from __future__ import annotations

import math

from numba import njit

from nbcore.physics.compiled import PLAIN, compiled
from nbcore.simulation.kernels import extrapolation
from nbcore.simulation.kernels.extrapolation import ExtrapolatedSteps
from nbcore.simulation.kernels.orbits import measure
from nbcore.simulation.kernels.rules import smooth
from nbcore.simulation.kernels.shapes import either, is_a
from nbcore.simulation.kernels.steps import step
from nbcore.stepping import control

__all__ = ["advance", "again", "room_for", "within"]

is_last = compiled(control.is_last, PLAIN)
in_s = is_a(ExtrapolatedSteps)


@njit(**PLAIN)
def _advance_in_s(
    bodies, axes, scheme, room, field, b, m, x, v, a, jerk, lows, time, ds, t_end, G, eps2, phi,
    orbits,
):  # fmt: skip
    h, ends, potential, ahead, made, in_vain, erred = extrapolation.advance(
        bodies, axes, scheme, room, field, b, m, x, v, lows, time, ds, t_end, G, eps2, orbits
    )
    return h, ends, potential, 0.0, ahead, made, in_vain, erred


@njit(**PLAIN)
def _advance_in_time(
    bodies, axes, scheme, room, field, b, m, x, v, a, jerk, lows, time, dt, t_end, G, eps2, phi,
    orbits,
):  # fmt: skip
    remaining = t_end - time
    ends = is_last(dt, remaining)
    h = remaining if ends else dt
    potential, done, erred = math.nan, 0.0, 0.0
    if time + h > time:
        potential, done = step(
            bodies, axes, scheme, field, m, x, v, a, jerk, lows, time, h, G, eps2, phi, orbits
        )
        if orbits.followed:
            erred = measure(bodies, orbits, x, v, eps2)
    return h, ends, potential, done, dt, 0, 0, erred


# Advance by one step that does not go beyond t_end.
#
# Returns
# -------
# Its length in time; whether it ends the run; the potential energy after it and the work of a
# moving field; what is proposed for the next one, where the scheme does so; evaluations beyond
# those that every step needs, and those in vain; the largest error of any body's orbit.
advance = either(in_s, _advance_in_s, _advance_in_time, place=2, options=PLAIN)


@njit(**PLAIN)
def _within_s(
    bodies, axes, scheme, room, field, b, m, x, v, a, jerk, lows, before, ds, length, G, eps2, phi,
    orbits,
):  # fmt: skip
    gone, potential, ends = 0.0, 0.0, False
    while not ends:
        h, ends, potential, ds, _, _, _ = extrapolation.advance(
            bodies, axes, scheme, room, field, b, m, x, v, lows, before + gone, ds,
            before + length, G, eps2, orbits,
        )  # fmt: skip
        gone += h
        if not h > 0:
            break
    return potential, 0.0


@njit(**PLAIN)
def _within_time(
    bodies, axes, scheme, room, field, b, m, x, v, a, jerk, lows, before, dt, length, G, eps2, phi,
    orbits,
):  # fmt: skip
    potential, done = step(
        bodies, axes, scheme, field, m, x, v, a, jerk, lows, before, length, G, eps2, phi, orbits
    )
    if orbits.followed:
        measure(bodies, orbits, x, v, eps2)
    return potential, done


# Advance by a part of a step, of a length in time; returns potential energy and work.
within = either(in_s, _within_s, _within_time, place=2, options=PLAIN)


@njit(**PLAIN)
def _again_in_s(bodies, axes, scheme, rule, memory, field, b, m, x, v, a, time, h, ds, G, eps2):
    return ds / 2


@njit(**PLAIN)
def _again_in_time(bodies, axes, scheme, rule, memory, field, b, m, x, v, a, time, h, dt, G, eps2):
    return min(smooth(bodies, axes, rule, memory, field, b, m, x, v, a, time, G, eps2), h / 2)


# Step by which the guard has one redone.
again = either(in_s, _again_in_s, _again_in_time, place=2, options=PLAIN)


@njit(**PLAIN)
def _no_room(bodies, axes, scheme):
    return 0


@njit(**PLAIN)
def _room_in_s(bodies, axes, scheme):
    return extrapolation.room(bodies, axes)


# Scratch that a scheme needs beyond that of the loop.
room_for = either(in_s, _room_in_s, _no_room, place=2, options=PLAIN)
