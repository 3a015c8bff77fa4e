"""One step of any scheme, as the loop takes it: in time, or in s."""

from __future__ import annotations

import math
from typing import Any

from numba import njit
from numba.extending import overload

from nbcore.physics.compiled import PLAIN, compiled, holding
from nbcore.simulation.kernels import chains, extrapolation, fields, transformed
from nbcore.simulation.kernels.chains import ExtrapolatedSteps
from nbcore.simulation.kernels.forces import accelerate
from nbcore.simulation.kernels.orbits import measure, span, survey
from nbcore.simulation.kernels.rules import smooth
from nbcore.simulation.kernels.shapes import either, is_a, vectors
from nbcore.simulation.kernels.steps import HermiteSteps, step
from nbcore.simulation.kernels.transformed import TransformedSteps
from nbcore.stepping import control

__all__ = ["advance", "again", "goes_on", "note_points", "refresh", "room_for", "within"]

is_last = compiled(control.is_last, PLAIN)
is_extrapolated = is_a(ExtrapolatedSteps)


def in_s(scheme: Any) -> bool:
    """Whether a scheme, or its numba type, makes steps in transformed time."""
    return is_extrapolated(scheme) or is_a(TransformedSteps)(scheme)


made_in_s = either(
    is_extrapolated, extrapolation.advance, transformed.advance, place=2, options=PLAIN
)
landed_in_s = either(is_extrapolated, extrapolation.land, transformed.land, place=2, options=PLAIN)


@njit(**PLAIN)
def _pull(bodies, axes, field, m, x, time, G, eps2, a, phi):
    """Accelerations; returns the potential energy."""
    potential = accelerate(bodies, axes, m, x, G, eps2, a, phi)
    fields.add_acceleration(bodies, axes, field, x, time, a)
    return potential + fields.energy(bodies, axes, field, m, x, time)


@njit(**PLAIN)
def _advance_in_s(
    bodies, axes, scheme, room, field, b, m, x, v, a, jerk, lows, time, ds, t_end, G, eps2, phi,
    orbits,
):  # fmt: skip
    h, ends, done, ahead, ds, made = made_in_s(
        bodies, axes, scheme, room, field, b, m, x, v, lows, time, ds, t_end, G, eps2, orbits
    )
    potential, erred = survey(bodies, axes, m, x, G, eps2, orbits), 0.0
    potential += fields.energy(bodies, axes, field, m, x, time + h)
    if orbits.followed:
        erred = measure(bodies, orbits, x, v, eps2)
    return h, ends, potential, done, ahead, ds, made + 1, erred


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
            bodies, axes, scheme, room, field, m, x, v, a, jerk, lows, time, h, G, eps2, phi, orbits
        )
        if orbits.followed:
            erred = measure(bodies, orbits, x, v, eps2)
    return h, ends, potential, done, dt, dt, 0, erred


# Advance by one step that does not go beyond t_end.
#
# Returns
# -------
# Its length in time; whether it ends the run; the potential energy after it and the work of a
# moving field; what is proposed for the next one, where the scheme does so, and what this one was;
# evaluations beyond those that every step needs; the largest error of any body's orbit.
advance = either(in_s, _advance_in_s, _advance_in_time, place=2, options=PLAIN)


@njit(**PLAIN)
def _within_s(
    bodies, axes, scheme, room, field, b, m, x, v, a, jerk, lows, before, ds, length, G, eps2, phi,
    orbits,
):  # fmt: skip
    if orbits.followed:
        span(bodies, orbits, x, eps2, orbits.now)
    work, _ = landed_in_s(
        bodies, axes, scheme, room, field, b, m, x, v, lows, before, ds, 0.0, length, G, eps2,
        orbits,
    )  # fmt: skip
    potential = _pull(bodies, axes, field, m, x, before + length, G, eps2, a, phi)
    return potential, work


@njit(**PLAIN)
def _within_time(
    bodies, axes, scheme, room, field, b, m, x, v, a, jerk, lows, before, dt, length, G, eps2, phi,
    orbits,
):  # fmt: skip
    return step(
        bodies, axes, scheme, room, field, m, x, v, a, jerk, lows, before, length, G, eps2, phi,
        orbits,
    )  # fmt: skip


# Advance by a part of a step, of a length in time; returns potential energy and work.
within = either(in_s, _within_s, _within_time, place=2, options=PLAIN)


@njit(**PLAIN)
def _yes(scheme):
    return True


@njit(**PLAIN)
def _no(scheme):
    return False


# Whether a part of a step may begin where another has ended.
goes_on = either(is_extrapolated, _yes, _no)


@njit(**PLAIN)
def _refresh_in_s(bodies, axes, scheme, field, m, x, time, G, eps2, a, phi):
    _pull(bodies, axes, field, m, x, time, G, eps2, a, phi)


@njit(**PLAIN)
def _nothing(bodies, axes, scheme, field, m, x, time, G, eps2, a, phi):
    pass


# Make accelerations known where a step does not leave them.
refresh = either(in_s, _refresh_in_s, _nothing, place=2, options=PLAIN)


@njit(**PLAIN)
def _again_in_s(bodies, axes, scheme, rule, memory, field, b, m, x, v, a, time, h, ds, G, eps2):
    return ds / 2


@njit(**PLAIN)
def _again_in_time(bodies, axes, scheme, rule, memory, field, b, m, x, v, a, time, h, dt, G, eps2):
    return min(smooth(bodies, axes, rule, memory, field, b, m, x, v, a, time, G, eps2), h / 2)


# Step by which the guard has one redone.
again = either(in_s, _again_in_s, _again_in_time, place=2, options=PLAIN)


@njit(**PLAIN)
def _points_of_a_trail(scheme, room, b, before, time, points):
    made = 0
    for s in range(1, 2 * scheme.columns[b] + 1):
        later = before + room.trail[s, room.trail.shape[1] - 1]
        if before < later < time:
            points[made] = later
            made += 1
    points[made] = math.inf


@njit(**PLAIN)
def _no_points(scheme, room, b, before, time, points):
    points[0] = math.inf


# Note the times of the points on the way of a step, and inf after them.
note_points = either(is_extrapolated, _points_of_a_trail, _no_points, options=PLAIN)


@njit(**holding(PLAIN))
def _room_in_s(bodies, axes, scheme):
    return chains.room(bodies, axes)


@njit(**holding(PLAIN))
def _room_of_transformed(bodies, axes, scheme):
    return transformed.room(bodies, axes)


@njit(**holding(PLAIN))
def _room_of_hermite(bodies, axes, scheme):
    return vectors(bodies), vectors(bodies), vectors(bodies), vectors(bodies)


@njit(**holding(PLAIN))
def _no_room(bodies, axes, scheme):
    return 0


ROOMS = {
    ExtrapolatedSteps: _room_in_s,
    TransformedSteps: _room_of_transformed,
    HermiteSteps: _room_of_hermite,
}


def room_for(bodies, axes, scheme):
    """Scratch that a scheme needs beyond that of the loop."""
    return ROOMS.get(type(scheme), _no_room)(bodies, axes, scheme)


@overload(room_for, jit_options=holding(PLAIN))
def _room_for(bodies, axes, scheme):
    return ROOMS.get(scheme.instance_class, _no_room).py_func
