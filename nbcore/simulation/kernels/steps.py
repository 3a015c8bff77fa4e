"""One step of an integrator, in place; see `physics.integrators`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from nbcore.physics.compiled import PLAIN
from nbcore.simulation.kernels import fields
from nbcore.simulation.kernels.forces import accelerate, derivative, potential_energy
from nbcore.simulation.kernels.lanes import accumulate, load
from nbcore.simulation.kernels.orbits import add_kick, smooth
from nbcore.simulation.kernels.shapes import either, is_a, is_known, size

__all__ = ["HermiteSteps", "SplittingSteps", "clear", "copy", "push", "step"]


class SplittingSteps(NamedTuple):
    """Kicks and drifts as fractions of a step."""

    kicks: NDArray[np.float64]
    drifts: NDArray[np.float64]


class HermiteSteps(NamedTuple):
    """Predict, evaluate, correct, to 4th order."""

    order: int


@njit(**PLAIN)
def copy(bodies, source, target):
    """Copy (3, N)."""
    for d in range(3):
        for i in range(size(bodies)):
            target[d, i] = source[d, i]


@njit(**PLAIN)
def clear(bodies, target):
    """Set every row to zero, padding and all."""
    for d in range(target.shape[0]):
        for i in range(target.shape[1]):
            target[d, i] = 0.0


@njit(**PLAIN)
def _push_of_lanes(bodies, d, target, low, factor, source):
    accumulate(bodies, target, low, d, factor * load(bodies, source, d))


@njit(**PLAIN)
def _push_of_arrays(bodies, d, target, low, factor, source):
    for i in range(size(bodies)):
        before, due = target[d, i], factor * source[d, i] + low[d, i]
        target[d, i] = before + due
        low[d, i] = due - (target[d, i] - before)


# Add factor × source to an axis of the target, whose rounding errors are kept in `low`.
push = either(is_known, _push_of_lanes, _push_of_arrays, options=PLAIN)


@njit(**PLAIN)
def _splitting(
    bodies, axes, scheme, room, field, m, x, v, a, jerk, lows, time, h, G, eps2, phi, orbits
):  # fmt: skip
    kicks, drifts = scheme
    work, last = 0.0, len(drifts) - 1
    for k in range(last):
        work += kicks[k] * h * fields.power(bodies, axes, field, m, x, time)
        time += drifts[k] * h
        kick, drift = kicks[k] * h, drifts[k] * h
        stage(bodies, axes, field, m, x, v, a, lows, time, kick, drift, G, eps2, phi, orbits)
    # Apart from the others, so that a rule can take the distances from it.
    work += kicks[last] * h * fields.power(bodies, axes, field, m, x, time)
    time += drifts[last] * h
    kick, drift = kicks[last] * h, drifts[last] * h
    potential = stage(
        bodies, axes, field, m, x, v, a, lows, time, kick, drift, G, eps2, phi, orbits
    )
    kick = kicks[last + 1] * h
    work += kick * fields.power(bodies, axes, field, m, x, time)
    for d in range(size(axes)):
        push(bodies, d, v, lows[1], kick, a)
    if orbits.followed:
        add_kick(bodies, orbits, x, v, a, kick, eps2)
    return potential + fields.energy(bodies, axes, field, m, x, time), work


@njit(**PLAIN)
def stage(bodies, axes, field, m, x, v, a, lows, time, kick, drift, G, eps2, phi, orbits):
    """Kick, drift and new accelerations; returns the energy of all pairs."""
    for d in range(size(axes)):
        push(bodies, d, v, lows[1], kick, a)
    if orbits.followed:
        add_kick(bodies, orbits, x, v, a, kick, eps2)
    for d in range(size(axes)):
        push(bodies, d, x, lows[0], drift, v)
    potential = accelerate(bodies, axes, m, x, G, eps2, a, phi)
    fields.add_acceleration(bodies, axes, field, x, time, a)
    return potential


@njit(**PLAIN)
def _hermite(
    bodies, axes, scheme, room, field, m, x, v, a, jerk, lows, time, h, G, eps2, phi, orbits
):  # fmt: skip
    x0, v0, a0, j0 = room
    copy(bodies, x, x0)
    copy(bodies, v, v0)
    copy(bodies, a, a0)
    copy(bodies, jerk, j0)
    for d in range(size(axes)):
        for i in range(size(bodies)):
            x[d, i] += h * (v0[d, i] + h / 2 * (a0[d, i] + h / 3 * j0[d, i]))
            v[d, i] += h * (a0[d, i] + h / 2 * j0[d, i])
    time += h
    accelerate(bodies, axes, m, x, G, eps2, a, phi)
    fields.add_acceleration(bodies, axes, field, x, time, a)
    derivative(bodies, m, x, v, a, jerk, jerk, G, eps2, 2, jerk)
    fields.add_derivative(bodies, axes, field, x, v, a, jerk, jerk, time, 2, jerk)
    for d in range(size(axes)):
        for i in range(size(bodies)):
            v[d, i] = v0[d, i] + h / 2 * (a0[d, i] + a[d, i]) + h * h / 12 * (j0[d, i] - jerk[d, i])
            x[d, i] = x0[d, i] + h / 2 * (v0[d, i] + v[d, i]) + h * h / 12 * (a0[d, i] - a[d, i])
    if orbits.followed:
        smooth(bodies, orbits, (x0, v0, a0, j0), (x, v, a, jerk), h, eps2)
    potential = potential_energy(bodies, axes, m, x, G, eps2)
    return potential + fields.energy(bodies, axes, field, m, x, time), 0.0


# Advance by h; returns the potential energy at the end and the work of a moving field. `orbits` is
# told of it, where they are followed.
step = either(is_a(SplittingSteps), _splitting, _hermite, place=2, options=PLAIN)
