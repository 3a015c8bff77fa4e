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
    "energy",
    "power",
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
    origin = pair_weight(_squares(axes, field, time))
    for i in range(size(bodies)):
        S2 = 0.0
        for d in range(size(axes)):
            S = field.position[d] + field.velocity[d] * time - x[d, i]
            S2 += S * S
        weight = pair_weight(S2)
        for d in range(size(axes)):
            R = field.position[d] + field.velocity[d] * time
            a[d, i] += field.Gm * ((R - x[d, i]) * weight - R * origin)


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
    R2, total, RV = _squares(axes, field, time), 0.0, 0.0
    for d in range(size(axes)):
        RV += (field.position[d] + field.velocity[d] * time) * field.velocity[d]
    weight = pair_weight(R2)
    for i in range(size(bodies)):
        S2 = SV = xR = xV = 0.0
        for d in range(size(axes)):
            V = field.velocity[d]
            R = field.position[d] + V * time
            S = R - x[d, i]
            S2 += S * S
            SV += S * V
            xR += x[d, i] * R
            xV += x[d, i] * V
        total += m[i] * (SV * pair_weight(S2) + weight * (xV - 3 * xR * RV / R2 - RV))
    return field.Gm * total


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
