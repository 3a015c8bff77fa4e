"""The tide of a point mass far away; see `physics.fields.TidalField`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from nbcore.physics.compiled import LAW
from nbcore.simulation.kernels.laws import (
    pair_alpha,
    pair_beta,
    pair_first,
    pair_gamma,
    pair_potential,
    pair_second,
    pair_third,
    pair_weight,
)
from nbcore.simulation.kernels.shapes import either, is_a, size

__all__ = [
    "NoField",
    "Tide",
    "add_acceleration",
    "add_derivative",
    "apart",
    "energy",
    "power",
    "pull",
    "push",
    "tidal_element",
]


class NoField(NamedTuple):
    """Nothing outside."""

    nothing: int


class Tide(NamedTuple):
    """A point mass on a straight line."""

    Gm: float
    position: NDArray[np.float64]  # (3,) at time 0
    velocity: NDArray[np.float64]  # (3,)


@njit(**LAW)
def _squares(axes, field, time):
    """R² of the distant mass."""
    R2 = 0.0
    for d in range(size(axes)):
        R = field.position[d] + field.velocity[d] * time
        R2 += R * R
    return R2


@njit(**LAW)
def _add_acceleration(bodies, axes, field, x, time, a):
    for i in range(size(bodies)):
        a0, a1, a2 = pull(field, x[0, i], x[1, i], x[2, i], time)
        a[0, i] += a0
        a[1, i] += a1
        a[2, i] += a2


@njit(**LAW)
def pull(field, x0, x1, x2, time):
    """Acceleration of a body, for numbers and lanes alike."""
    R0, R1, R2, S0, S1, S2 = _seen(field, x0, x1, x2, time)
    near, far = pair_weight(S0 * S0 + S1 * S1 + S2 * S2), pair_weight(R0 * R0 + R1 * R1 + R2 * R2)
    Gm = field.Gm
    return Gm * (S0 * near - R0 * far), Gm * (S1 * near - R1 * far), Gm * (S2 * near - R2 * far)


@njit(**LAW)
def push(field, x0, x1, x2, time):
    """Power on a body, over its mass, for numbers and lanes alike."""
    V0, V1, V2 = field.velocity[0], field.velocity[1], field.velocity[2]
    R0, R1, R2, S0, S1, S2 = _seen(field, x0, x1, x2, time)
    r2, SV = R0 * R0 + R1 * R1 + R2 * R2, S0 * V0 + S1 * V1 + S2 * V2
    RV, xV = R0 * V0 + R1 * V1 + R2 * V2, x0 * V0 + x1 * V1 + x2 * V2
    xR, near = x0 * R0 + x1 * R1 + x2 * R2, pair_weight(S0 * S0 + S1 * S1 + S2 * S2)
    return field.Gm * (SV * near + pair_weight(r2) * (xV - 3 * xR * RV / r2 - RV))


@njit(**LAW)
def apart(field, x0, x1, x2, time):
    """Vector from a body to the distant mass."""
    _, _, _, S0, S1, S2 = _seen(field, x0, x1, x2, time)
    return S0, S1, S2


@njit(**LAW)
def _seen(field, x0, x1, x2, time):
    """The distant mass from the origin and from a body."""
    R0 = time * field.velocity[0] + field.position[0]
    R1 = time * field.velocity[1] + field.position[1]
    R2 = time * field.velocity[2] + field.position[2]
    return R0, R1, R2, R0 - x0, R1 - x1, R2 - x2


@njit(**LAW)
def _energy(bodies, axes, field, m, x, time):
    R2, total = _squares(axes, field, time), 0.0
    origin = pair_potential(R2)
    for i in range(size(bodies)):
        S2, xR = 0.0, 0.0
        for d in range(size(axes)):
            R = field.position[d] + field.velocity[d] * time
            S2 += (R - x[d, i]) ** 2
            xR += x[d, i] * R
        total += m[i] * (pair_potential(S2) - origin + xR * pair_weight(R2))
    return field.Gm * total


@njit(**LAW)
def _power(bodies, axes, field, m, x, time):
    total = 0.0
    for i in range(size(bodies)):
        total += m[i] * push(field, x[0, i], x[1, i], x[2, i], time)
    return total


@njit(**LAW)
def _tidal_element(axes, field, x, i, d, e, time):
    S2 = 0.0
    for f in range(size(axes)):
        S2 += (field.position[f] + field.velocity[f] * time - x[f, i]) ** 2
    Sd = field.position[d] + field.velocity[d] * time - x[d, i]
    Se = field.position[e] + field.velocity[e] * time - x[e, i]
    stretch = 3 * Sd * Se / S2 - (1.0 if d == e else 0.0)
    return field.Gm * pair_weight(S2) * stretch


@njit(**LAW)
def _add_derivative(bodies, axes, field, x, v, a, jerk, snap, time, order, out):
    for i in range(size(bodies)):
        for nearer in (True, False):  # as seen from the body, less as seen from the origin
            sign, part = (1.0, 1.0) if nearer else (-1.0, 0.0)
            r2 = v2 = rv = ra = va = rj = 0.0
            for d in range(size(axes)):
                R = field.position[d] + field.velocity[d] * time - part * x[d, i]
                V = field.velocity[d] - part * v[d, i]
                r2 += R * R
                v2 += V * V
                rv += R * V
                if order > 2:
                    ra -= R * part * a[d, i]
                    va -= V * part * a[d, i]
                if order > 3:
                    rj -= R * part * jerk[d, i]
            weight, alpha = pair_weight(r2), pair_alpha(rv, r2)
            beta = pair_beta(v2, ra, r2, alpha)
            gamma = pair_gamma(va, rj, r2, alpha, beta)
            for d in range(size(axes)):
                R = field.position[d] + field.velocity[d] * time - part * x[d, i]
                A0 = R * weight
                term = pair_first(field.velocity[d] - part * v[d, i], weight, alpha, A0)
                if order > 2:
                    A1, A = term, -part * a[d, i]
                    term = pair_second(A, weight, alpha, beta, A0, A1)
                    if order > 3:
                        J = -part * jerk[d, i]
                        term = pair_third(J, weight, alpha, beta, gamma, A0, A1, term)
                out[d, i] += sign * field.Gm * term


@njit(**LAW)
def _nothing(*_):
    pass


@njit(**LAW)
def _zero(*_):
    return 0.0


is_tide = is_a(Tide)
add_acceleration = either(is_tide, _add_acceleration, _nothing, place=2)
energy = either(is_tide, _energy, _zero, place=2)  # Σ m Φ
power = either(is_tide, _power, _zero, place=2)  # Σ m ∂Φ/∂t
tidal_element = either(is_tide, _tidal_element, _zero, place=1)  # ∂a_d/∂x_e at body i
# the field's jerk (order 2), snap (3) or crackle (4)
add_derivative = either(is_tide, _add_derivative, _nothing, place=2)
