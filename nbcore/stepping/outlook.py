"""What planets are about to do to each other, as far as their orbits at the start tell.

Every planet is moved along its own orbit to the times at which most is to be expected: when
neighbours are in line with the star, when one of them is at its pericentre, and a few more. There
the forces between planets say how large the terms are that Wisdom and Holman's splitting errs by.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nbcore.physics.arrays import taken
from nbcore.physics.body_errors import orbit_changes, orbit_sizes, partners, triple
from nbcore.physics.elementwise import TINY
from nbcore.physics.orbits import pericentre_period
from nbcore.physics.state import State
from nbcore.physics.wisdom_holman import Jacobi, drift, from_jacobi, interaction, to_jacobi

__all__ = ["Outlook", "look_ahead", "terms_at"]

Array = NDArray[Any]

OTHERS, OTHERS_CROSSED = 4, 64  # further times, spread over the run; and where orbits cross
REACH = 0.5  # r/v, up to which times are moved to where planets are nearest
CLOSEST = 3  # of all these times, at which forces are looked at; and the start
GOLDEN = 0.6180339887498949  # whose multiples fill an interval evenly
SMALL = 1e-5  # displacement that derivatives are taken by, relative: rounding is below 1e-10
NEARLY_PARABOLIC = 0.94  # imaginary part of the time, 2√2/3, at which a parabola comes to r = 0
PASSING = 0.75  # likewise of two planets that pass each other, in d/v; as measured


class Outlook(NamedTuple):
    """Systems as the law of their steps sees them; (B,) where nothing else is said.

    Attributes
    ----------
    period
        `pericentre_period` [T].
    periods
        Length of the run, in these.
    boundaries
        (B, N) largest change of each body's orbit by the first term of the corrector, at f = 1: by
        which steps that are not corrected are off. Of first order in the planets' masses.
    seconds
        (B, N) largest rate at which the lazy implementer's kick changes a body's orbit, times r/v,
        at f = 1: of second order in the masses.
    coupling
        Largest rate at which others change a body's orbit, times r/v.
    steepness
        How fast the error falls that comes of too few steps from alignment to alignment, or from
        pericentre to pericentre: as exp(−steepness/f).
    """

    period: Array
    periods: Array
    boundaries: Array
    seconds: Array
    coupling: Array
    steepness: Array

    @property
    def boundary(self) -> Array:
        """Largest of `boundaries`, (B,)."""
        return self.boundaries.max(axis=1)

    @property
    def second(self) -> Array:
        """Largest of `seconds`, (B,)."""
        return self.seconds.max(axis=1)


class Orbits(NamedTuple):
    """Jacobi orbits (B, N − 1): shape and where planets are."""

    is_bound: NDArray[np.bool_]
    axis: Array
    shape: Array  # e
    motion: Array  # 2π/period [1/T]
    anomaly: Array  # mean
    longitude: Array  # mean, from any direction


def look_ahead(state: State, order: NDArray[np.int64], t_end: Array, endless: float) -> Outlook:
    """See how planets fare.

    Parameters
    ----------
    state
        Of NumPy arrays.
    order
        (B, N) from `jacobi_order`.
    t_end
        (B,) [T].
    endless
        What runs without an end are taken for, in periods.
    """
    state = _in_space(state)
    period = pericentre_period(state)
    period = np.where(period > 0, period, TINY)
    if state.n_bodies < 3:  # alone with its star, a planet is never off
        none, periods = 0 * state.mass, (t_end - state.time) / period
        return Outlook(period, periods, none, none, 0 * period, 0 * period + NEARLY_PARABOLIC)
    with np.errstate(all="ignore"):
        span = np.where(np.isfinite(t_end), t_end - state.time, endless * period)
        jacobi = to_jacobi(state, order)
        orbits = _orbits(jacobi)
        crossed = _cross(orbits)
        terms, passing = np.empty((3, *state.mass.shape)), np.empty_like(period)
        for systems, others in ((~crossed, OTHERS), (crossed, OTHERS_CROSSED)):
            if systems.any():
                some = Jacobi(*(value[systems] for value in jacobi))
                moved, passing[systems] = _at_their_closest(
                    some, Orbits(*(value[systems] for value in orbits)), span[systems], others
                )
                acts = (some.mass[:, 1:] > 0).any(axis=1)[:, None]  # otherwise terms are rounding
                found = _terms(state.select(systems), some, moved, period[systems])
                terms[:, systems] = [acts * term for term in found]
    boundaries, seconds, coupling = (terms[k] for k in range(3))
    alignment = _alignment(orbits, period)
    passing = PASSING * 2 * math.pi * passing / period
    steepness = np.minimum(np.minimum(alignment, passing), NEARLY_PARABOLIC)
    coupling = coupling.max(axis=1)
    return Outlook(period, span / period, boundaries, seconds, coupling, steepness)


def terms_at(state: State, order: NDArray[np.int64], period: Array) -> tuple[Array, Array]:
    """`boundaries` and `seconds` of an outlook where planets are, (B, N) each.

    Parameters
    ----------
    period
        `Outlook.period`, (B,) [T].
    """
    state = _in_space(state)
    with np.errstate(all="ignore"):
        jacobi = to_jacobi(state, order)
        here = jacobi.position[:, None], jacobi.velocity[:, None]
        boundaries, seconds, _ = _terms(state, jacobi, here, period)
    acts = (jacobi.mass[:, 1:] > 0).any(axis=1)[:, None]
    return acts * boundaries, acts * seconds


def _in_space(state: State) -> State:
    flat = ((0, 0), (0, 0), (0, 3 - state.n_dimensions))
    position, velocity = (np.pad(x, flat) for x in (state.position, state.velocity))
    return state.replace(position=position, velocity=velocity, acceleration=None, jerk=None)


def _dot(a: Array, b: Array) -> Array:
    return (a * b).sum(axis=-1)


def _orbits(jacobi: Jacobi) -> Orbits:
    x, v, mu = jacobi.position, jacobi.velocity, jacobi.mu
    r, rv = np.sqrt(_dot(x, x)), _dot(x, v)
    inverse = 2 / r - _dot(v, v) / mu
    is_bound = inverse > 0
    inverse = np.where(is_bound, inverse, 1 / r)
    motion = np.sqrt(mu * inverse**3)
    sine, cosine = rv * np.sqrt(inverse / mu), 1 - r * inverse  # e times those of E
    e = np.minimum(np.hypot(sine, cosine), 1.0)
    E = np.arctan2(sine, cosine)
    true = 2 * np.arctan2(np.sqrt(1 + e) * np.sin(E / 2), np.sqrt(1 - e) * np.cos(E / 2))
    # Longitudes are those in the plane of the mean orbit.
    pole = np.cross(x, v)
    pole = (pole / (np.sqrt(_dot(pole, pole)) + TINY)[..., None]).sum(axis=1)
    axis = np.eye(3)[np.abs(pole).argmin(axis=1)]
    ahead = np.cross(axis, pole)
    aside = np.cross(pole, ahead) / (np.sqrt(_dot(pole, pole)) + TINY)[:, None]
    place = np.arctan2(_dot(x, aside[:, None]), _dot(x, ahead[:, None]))
    return Orbits(is_bound, 1 / inverse, e, motion, E - sine, place - true + E - sine)


def _at_their_closest(
    jacobi: Jacobi, orbits: Orbits, span: Array, others: int
) -> tuple[tuple[Array, Array], Array]:
    """Places and velocities (B, S, N − 1, 3) at the start and when most is to be expected.

    Returns
    -------
    These, and the least d/v (B,) [T] of planets that pass each other.
    """
    n_systems, n = orbits.motion.shape
    motion, longitude = orbits.motion, orbits.longitude
    faster = motion[:, :-1] - motion[:, 1:]
    apart = np.sign(faster) * (longitude[:, 1:] - longitude[:, :-1])
    aligned = np.mod(apart, 2 * math.pi) / (np.abs(faster) + TINY)
    free = np.full((n_systems, others), np.inf)
    to_pericentre = np.where(orbits.is_bound, np.mod(-orbits.anomaly, 2 * math.pi), np.inf) / motion
    times = np.concatenate([aligned, free, to_pericentre], axis=1)
    spread = np.arange(1, times.shape[1] + 1) * GOLDEN % 1
    times = np.where(times <= span[:, None], times, spread * span[:, None])
    near, at_pericentre = times[:, :-n], times[:, -n:]
    start = np.zeros((n_systems, 1))
    near = np.clip(near + _encounters(jacobi, *_moved(jacobi, near))[1], 0, span[:, None])
    x, v = _moved(jacobi, np.concatenate([start, near, at_pericentre], axis=1))
    strength, _, passing = _encounters(jacobi, x, v)
    strength[:, 0] = np.inf
    chosen = np.argsort(-strength, axis=1, stable=True)[:, : CLOSEST + 1, None, None]
    x, v = (np.take_along_axis(value, chosen, axis=1) for value in (x, v))
    return (x, v), passing.min(axis=1)


def _moved(jacobi: Jacobi, times: Array) -> tuple[Array, Array]:
    """Places and velocities (B, S, N − 1, 3) along the orbits at times (B, S)."""
    wide = (*times.shape, jacobi.mu.shape[1])
    x, v = (
        np.broadcast_to(value[:, None], (*wide, 3)) for value in (jacobi.position, jacobi.velocity)
    )
    mu, h = (np.broadcast_to(value, wide) for value in (jacobi.mu[:, None], times[..., None]))
    return drift(mu, x, v, h)


def _encounters(jacobi: Jacobi, x: Array, v: Array) -> tuple[Array, Array, Array]:
    """How strongly planets pull at each other, when they are nearest, and their least d/v.

    Returns
    -------
    (B, S) each: the largest m (v/d³)/V of a pair, where it is nearest; how far ahead that is [T];
    and [T].
    """
    n = jacobi.mu.shape[1]
    i, j = np.triu_indices(n, 1)
    R, V = x[:, :, j] - x[:, :, i], v[:, :, j] - v[:, :, i]
    speed = np.sqrt(_dot(v, v))
    while_ = np.sqrt(_dot(x, x)) / speed
    v2 = _dot(V, V) + TINY
    reach = REACH * np.minimum(while_[..., i], while_[..., j])
    ahead = np.clip(-_dot(R, V) / v2, -reach, reach)
    nearest = R + ahead[..., None] * V
    d2 = _dot(nearest, nearest) + TINY
    mass = np.maximum(jacobi.mass[:, 1 + i], jacobi.mass[:, 1 + j])[:, None]
    strength = mass * np.sqrt(v2 / d2**3) / np.minimum(speed[..., i], speed[..., j])
    pair = strength.argmax(axis=-1)[..., None]
    passing = np.where(mass > 0, np.sqrt(_dot(R, R) / v2), np.inf)
    return (
        np.take_along_axis(strength, pair, axis=-1)[..., 0],
        np.take_along_axis(ahead, pair, axis=-1)[..., 0],
        passing.min(axis=-1),
    )


def _terms(
    state: State, jacobi: Jacobi, moved: tuple[Array, Array], period: Array
) -> tuple[Array, Array, Array]:
    """`boundaries`, `seconds` and `coupling` of an outlook, (B, N) each."""
    n_systems, n_times = moved[0].shape[:2]
    x, v = (value.reshape(-1, *value.shape[2:]) for value in moved)
    each = np.repeat(np.arange(n_systems), n_times)
    state, h = state.select(each), period[each][:, None, None]
    there = Jacobi(*(value[each] for value in jacobi))._replace(position=x, velocity=v)
    size, speed = (np.sqrt(_dot(value, value)) for value in (x, v))
    pull = interaction(there.mass, x, state.G)
    little = SMALL * (size / speed).min(axis=1)[:, None, None]
    change = (interaction(there.mass, x + little * v, state.G) - pull) / little
    strongest = np.sqrt(_dot(pull, pull)).max(axis=1)[:, None, None] + TINY
    little = SMALL * size.min(axis=1)[:, None, None] / strongest
    second = (interaction(there.mass, x + little * pull, state.G) - pull) / little

    def of_bodies(places: Array, velocities: Array) -> tuple[Array, Array]:
        none = 0 * there.centre
        parts = there._replace(
            position=places, velocity=velocities, centre=none, centre_velocity=none
        )
        return from_jacobi(parts)

    partner = partners(state)
    index = np.broadcast_to(partner[..., None], state.position.shape)

    def beside(vectors: Array):
        return triple(np.take_along_axis(vectors, index, axis=1) - vectors)

    R, V = (beside(each) for each in from_jacobi(there))
    mu = state.G * (state.mass + taken(state.mass, partner))
    r = np.sqrt(sum(part * part for part in R))
    inverse = 1 / np.where(r > 0, r, 1.0)
    energy_size, shape_size = orbit_sizes(R, V, mu, inverse)
    while_ = r / np.sqrt(sum(part * part for part in V) + TINY)

    def largest(places: Array, velocities: Array, times: Array | float = 1.0) -> Array:
        dR, dV = (beside(each) for each in of_bodies(places, velocities))
        energy, shape = orbit_changes(R, V, dR, dV, mu, inverse)
        shape = np.sqrt(sum(part * part for part in shape))
        change = np.maximum(np.abs(energy) / energy_size, shape / shape_size) * times
        return np.nan_to_num(change).reshape(n_systems, n_times, -1).max(axis=1)

    still = 0 * pull
    return (
        largest(-h * h / 24 * pull, h * h / 24 * change),
        largest(still, h * h / 12 * second, while_),
        largest(still, pull, while_),
    )


def _cross(orbits: Orbits) -> Array:
    """Whether two planets come as near to the star as each other, (B,)."""
    near = orbits.axis * (1 - orbits.shape)
    far = np.where(orbits.is_bound, orbits.axis * (1 + orbits.shape), np.inf)
    overlap: Array = (near[:, :, None] < far[:, None]) & (near[:, None] < far[:, :, None])
    i, j = np.triu_indices(near.shape[1], 1)
    return np.any(np.asarray(overlap)[:, i, j], axis=1)


def _alignment(orbits: Orbits, period: Array) -> Array:
    """Least steepness of neighbours on orbits that don't cross, (B,).

    The k-th harmonic of two planets falls as α^k with the ratio α of their axes, and its frequency
    is k times the difference of their motions.
    """
    by_size = np.argsort(np.where(orbits.is_bound, orbits.axis, np.inf), axis=1)
    axis, bound = (np.take_along_axis(x, by_size, axis=1) for x in (orbits.axis, orbits.is_bound))
    motion = np.take_along_axis(orbits.motion, by_size, axis=1)
    ratio = np.minimum(axis[:, :-1] / axis[:, 1:], 1 - SMALL)
    steepness = -np.log(ratio) / (1 - ratio**1.5) * 2 * math.pi / (motion[:, :-1] * period[:, None])
    return np.where(bound[:, 1:], steepness, np.inf).min(axis=1, initial=np.inf)
