"""Shapes of planets' orbits, and how fast the spectra of what they do to each other fall.

Equal steps of dt take for slow what of a force's spectrum lies beyond 2π/dt. That falls as
exp(−2π s/dt), with s the imaginary time at which the force is singular: where a planet comes to the
star, or two to each other, wherever on their orbits they are.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nbcore.physics.elementwise import TINY
from nbcore.physics.wisdom_holman import Jacobi

__all__ = ["Orbits", "cross", "dot", "imaginary_times", "orbits_of"]

Array = NDArray[Any]

SMALLEST = 1e-8  # e, and 1 − e, that are told from 0
NEARLY_ONE = 1 - 1e-5  # ratio of axes: orbits of one size have the limit of it
PARABOLIC = 2 * math.sqrt(2) / 3  # imaginary time, over √(q³/μ), of a parabola


class Orbits(NamedTuple):
    """Jacobi orbits (B, N − 1): shape and where planets are."""

    is_bound: NDArray[np.bool_]
    axis: Array
    shape: Array  # e
    pericentre: Array  # (B, N − 1, 3) towards it, e long
    motion: Array  # 2π/period [1/T]
    anomaly: Array  # mean
    longitude: Array  # mean, from any direction


def dot(a: Array, b: Array) -> Array:
    """Product of vectors (…, 3), (…)."""
    return (a * b).sum(axis=-1)


def orbits_of(jacobi: Jacobi) -> Orbits:
    """Osculating orbits of systems in space, from their Jacobi coordinates."""
    x, v, mu = jacobi.position, jacobi.velocity, jacobi.mu
    r, rv = np.sqrt(dot(x, x)), dot(x, v)
    inverse = 2 / r - dot(v, v) / mu
    is_bound = inverse > 0
    inverse = np.where(is_bound, inverse, 1 / r)
    motion = np.sqrt(mu * inverse**3)
    sine, cosine = rv * np.sqrt(inverse / mu), 1 - r * inverse  # e times those of E
    e = np.minimum(np.hypot(sine, cosine), 1.0)
    pericentre = (dot(v, v) / mu - 1 / r)[..., None] * x - (rv / mu)[..., None] * v
    E = np.arctan2(sine, cosine)
    true = 2 * np.arctan2(np.sqrt(1 + e) * np.sin(E / 2), np.sqrt(1 - e) * np.cos(E / 2))
    # Longitudes are those in the plane of the mean orbit.
    pole = np.cross(x, v)
    pole = (pole / (np.sqrt(dot(pole, pole)) + TINY)[..., None]).sum(axis=1)
    axis = np.eye(3)[np.abs(pole).argmin(axis=1)]
    ahead = np.cross(axis, pole)
    aside = np.cross(pole, ahead) / (np.sqrt(dot(pole, pole)) + TINY)[:, None]
    place = np.arctan2(dot(x, aside[:, None]), dot(x, ahead[:, None]))
    mean = E - sine
    return Orbits(is_bound, 1 / inverse, e, pericentre, motion, mean, place - true + mean)


def cross(orbits: Orbits) -> NDArray[np.bool_]:
    """Which pairs of planets (B, P) come as near to the star as each other."""
    near = orbits.axis * (1 - orbits.shape)
    far = np.where(orbits.is_bound, orbits.axis * (1 + orbits.shape), np.inf)
    i, j = np.triu_indices(near.shape[1], 1)
    return np.asarray((near[:, i] < far[:, j]) & (near[:, j] < far[:, i]))


def imaginary_times(
    orbits: Orbits, mass: Array, crossing: NDArray[np.bool_], shortest: Array
) -> Array:
    """Least imaginary time (B, N − 1) [T] at which a planet comes to the star or to another.

    Parameters
    ----------
    mass
        (B, N − 1), as those without pull at nobody.
    crossing
        (B, P) pairs that are left out.
    shortest
        (B,) √(q³/μ) [T] that is taken for orbits that are not closed.

    Notes
    -----
    At the star e cos E is 1. Two planets meet where ln r + iθ is the same for both: after ln(a'/a)
    over the difference of their motions n if they go in circles. In the first order of e there
    comes e C(n t) to ln r for a pericentre in line, with C(z) = e^z/2 − 3 e^−z/2, and the worst is
    where these differ most: Newton's method takes one step there.
    """
    e = np.clip(orbits.shape, SMALLEST, 1 - SMALLEST)
    alone = (np.arccosh(1 / e) - np.sqrt(1 - e * e)) / orbits.motion
    least = np.where(orbits.is_bound, alone, PARABOLIC * shortest[:, None])
    i, j = np.triu_indices(e.shape[1], 1)
    is_inner = orbits.axis[:, i] <= orbits.axis[:, j]

    def of_pairs(values: Array) -> tuple[Array, Array]:
        own = is_inner.reshape(is_inner.shape + (1,) * (values.ndim - 2))
        return np.where(own, values[:, i], values[:, j]), np.where(own, values[:, j], values[:, i])

    (axis, outer), (motion, slower), (shape, other) = (
        of_pairs(each) for each in (orbits.axis, orbits.motion, orbits.pericentre)
    )
    ratio = np.minimum(axis / outer, NEARLY_ONE)
    faster = motion * (1 - ratio**1.5)
    time = -np.log(ratio) / faster

    def grown(rate: Array, sign: float) -> Array:
        z = (rate * time)[..., None]
        return np.exp(z) / 2 + sign * 1.5 * np.exp(-z)

    nearer = grown(motion, -1) * shape - grown(slower, -1) * other
    by = motion[..., None] * grown(motion, 1) * shape - slower[..., None] * grown(slower, 1) * other
    much = np.sqrt(dot(nearer, nearer)) + TINY
    time = time - much / (faster + np.maximum(dot(nearer, by) / much, 0.0))
    closed = orbits.is_bound[:, i] & orbits.is_bound[:, j] & ~crossing
    time = np.where(closed, np.maximum(time, 0.0), np.inf)
    met = np.full((*e.shape, e.shape[1]), np.inf)  # of each planet, by whom
    met[:, i, j] = met[:, j, i] = time
    return np.minimum(least, np.where(mass[:, None] > 0, met, np.inf).min(axis=2))
