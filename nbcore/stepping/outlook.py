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
from nbcore.physics.kepler import drift
from nbcore.physics.orbits import pericentre_period
from nbcore.physics.state import State
from nbcore.physics.wisdom_holman import Jacobi, from_jacobi, interaction, to_jacobi
from nbcore.stepping.orbit_shapes import Orbits, cross, dot, imaginary_times, orbits_of

__all__ = ["Outlook", "look_ahead", "terms_at"]

Array = NDArray[Any]

OTHERS, OTHERS_CROSSED = 4, 64  # further times, spread over the run; and where orbits cross
REACH = 0.5  # r/v, up to which times are moved to where planets are nearest
CLOSEST = 3  # of all these times, at which forces are looked at; and the start
GOLDEN = 0.6180339887498949  # whose multiples fill an interval evenly
SMALL = 1e-5  # displacement that derivatives are taken by, relative: rounding is below 1e-10


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
    first
        (B, N) `boundaries` as they are at the start.
    coupling
        Largest rate at which others change a body's orbit, times r/v.
    steepness
        (B, N) how fast the error of a body's orbit falls that comes of too few steps from alignment
        to alignment, or from pericentre to pericentre: as exp(−steepness/f).
    turns
        (B, N) by how much, relative, a passage of a planet whose orbit crosses its own turns a
        body's velocity at most; 0 where there is none.
    passing
        (B, N) d/v of that passage, times 2π, over the period; infinite where there is none.
    """

    period: Array
    periods: Array
    boundaries: Array
    seconds: Array
    first: Array
    coupling: Array
    steepness: Array
    turns: Array
    passing: Array

    @property
    def boundary(self) -> Array:
        """Largest of `boundaries`, (B,)."""
        return self.boundaries.max(axis=1)

    @property
    def second(self) -> Array:
        """Largest of `seconds`, (B,)."""
        return self.seconds.max(axis=1)


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
        never = none + np.inf
        return Outlook(period, periods, none, none, none, 0 * period, never, none, never)
    with np.errstate(all="ignore"):
        span = np.where(np.isfinite(t_end), t_end - state.time, endless * period)
        jacobi = to_jacobi(state, order)
        orbits = orbits_of(jacobi)
        crossing = cross(orbits)
        crossed = crossing.any(axis=1)
        terms, passages = np.empty((4, *state.mass.shape)), np.empty((2, *orbits.axis.shape))
        for systems, others in ((~crossed, OTHERS), (crossed, OTHERS_CROSSED)):
            if systems.any():
                some = Jacobi(*(value[systems] for value in jacobi))
                moved, passages[:, systems] = _at_their_closest(
                    some,
                    Orbits(*(value[systems] for value in orbits)),
                    crossing[systems],
                    span[systems],
                    others,
                )
                acts = (some.mass[:, 1:] > 0).any(axis=1)[:, None]  # otherwise terms are rounding
                found = _terms(state.select(systems), some, moved, period[systems])
                first = found[0][:, 0]
                largest = (term.max(axis=1) for term in found)
                terms[:, systems] = [acts * term for term in (*largest, first)]
        radian = period / (2 * math.pi)
        times = imaginary_times(orbits, jacobi.mass[:, 1:], crossing, radian)
        planets = np.stack([times / radian[:, None], passages[0], passages[1] / radian[:, None]])
    index = order[:, 1:]
    each = np.zeros((3, *state.mass.shape))
    np.put_along_axis(each, index[None], planets, axis=2)
    star = order[:, :1]
    partner = np.take_along_axis(partners(state), star, axis=1)
    np.put_along_axis(each, star[None], np.take_along_axis(each, partner[None], axis=2), axis=2)
    boundaries, seconds, coupling, first = (terms[k] for k in range(4))
    steepness, turns, passing = (each[k] for k in range(3))
    periods, coupling = span / period, coupling.max(axis=1)
    return Outlook(period, periods, boundaries, seconds, first, coupling, steepness, turns, passing)


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
        boundaries, seconds, _ = (term[:, 0] for term in _terms(state, jacobi, here, period))
    acts = (jacobi.mass[:, 1:] > 0).any(axis=1)[:, None]
    return acts * boundaries, acts * seconds


def _in_space(state: State) -> State:
    flat = ((0, 0), (0, 0), (0, 3 - state.n_dimensions))
    position, velocity = (np.pad(x, flat) for x in (state.position, state.velocity))
    return state.replace(position=position, velocity=velocity, acceleration=None, jerk=None)


def _at_their_closest(
    jacobi: Jacobi, orbits: Orbits, crossing: NDArray[np.bool_], span: Array, others: int
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Places and velocities (B, S, N − 1, 3) at the start and when most is to be expected.

    Returns
    -------
    These; and `_passages` at those times.
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
    x, v = _moved(jacobi, near)
    near = np.clip(near + _strongest(jacobi, v, *_closest(x, v))[1], 0, span[:, None])
    x, v = _moved(jacobi, np.concatenate([start, near, at_pericentre], axis=1))
    ahead, d2, v2 = _closest(x, v)
    passages = _passages(jacobi, v, d2, v2, crossing)
    strength = _strongest(jacobi, v, ahead, d2, v2)[0]
    strength[:, 0] = np.inf
    chosen = np.argsort(-strength, axis=1, stable=True)[:, : CLOSEST + 1, None, None]
    x, v = (np.take_along_axis(value, chosen, axis=1) for value in (x, v))
    return (x, v), passages


def _moved(jacobi: Jacobi, times: Array) -> tuple[Array, Array]:
    """Places and velocities (B, S, N − 1, 3) along the orbits at times (B, S)."""
    wide = (*times.shape, jacobi.mu.shape[1])
    x, v = (
        np.broadcast_to(value[:, None], (*wide, 3)) for value in (jacobi.position, jacobi.velocity)
    )
    mu, h = (np.broadcast_to(value, wide) for value in (jacobi.mu[:, None], times[..., None]))
    return drift(mu, x, v, h)


def _closest(x: Array, v: Array) -> tuple[Array, Array, Array]:
    """When pairs of planets are nearest (B, S, P) [T]; squares of distance and speed then."""
    i, j = np.triu_indices(x.shape[2], 1)
    R, V = x[:, :, j] - x[:, :, i], v[:, :, j] - v[:, :, i]
    while_ = np.sqrt(dot(x, x) / dot(v, v))
    v2 = dot(V, V) + TINY
    reach = REACH * np.minimum(while_[..., i], while_[..., j])
    ahead = np.clip(-dot(R, V) / v2, -reach, reach)
    nearest = R + ahead[..., None] * V
    return ahead, dot(nearest, nearest) + TINY, v2


def _strongest(jacobi: Jacobi, v: Array, ahead: Array, d2: Array, v2: Array) -> tuple[Array, Array]:
    """Largest m (v/d³)/V of a pair (B, S), where it is nearest; and how far ahead that is [T]."""
    i, j = np.triu_indices(v.shape[2], 1)
    speed = np.sqrt(dot(v, v))
    mass = np.maximum(jacobi.mass[:, 1 + i], jacobi.mass[:, 1 + j])[:, None]
    strength = mass * np.sqrt(v2 / d2**3) / np.minimum(speed[..., i], speed[..., j])
    pair = strength.argmax(axis=-1)[..., None]
    strength, ahead = (np.take_along_axis(each, pair, axis=-1) for each in (strength, ahead))
    return strength[..., 0], ahead[..., 0]


def _passages(
    jacobi: Jacobi, v: Array, d2: Array, v2: Array, crossing: NDArray[np.bool_]
) -> tuple[Array, Array]:
    """The largest 2 G m/(d v V) of a planet (B, N − 1) by one that it crosses; d/v then [T]."""
    first, second = np.triu_indices(v.shape[2], 1)
    Gm = jacobi.mu[:, :1] / jacobi.mass[:, :2].sum(axis=1, keepdims=True) * jacobi.mass[:, 1:]
    turns, passing = np.zeros_like(Gm), np.full_like(Gm, np.inf)
    if not crossing.any():
        return turns, passing
    time = (d2 * v2).argmin(axis=1)[:, None]
    speed = np.sqrt(dot(v, v))
    d2, v2 = (np.take_along_axis(each, time, axis=1)[:, 0] for each in (d2, v2))
    for p in np.flatnonzero(crossing.any(axis=0)):
        for own, other in ((first[p], second[p]), (second[p], first[p])):
            its = np.take_along_axis(speed[..., own], time[:, 0, p, None], axis=1)[:, 0]
            turn = 2 * Gm[:, other] / (np.sqrt(d2[:, p] * v2[:, p]) * its)
            more = crossing[:, p] & (turn > turns[:, own])
            turns[:, own] = np.where(more, turn, turns[:, own])
            passing[:, own] = np.where(more, np.sqrt(d2[:, p] / v2[:, p]), passing[:, own])
    return turns, passing


def _terms(
    state: State, jacobi: Jacobi, moved: tuple[Array, Array], period: Array
) -> tuple[Array, Array, Array]:
    """What `boundaries`, `seconds` and `coupling` of an outlook are the largest of, (B, S, N)."""
    n_systems, n_times = moved[0].shape[:2]
    x, v = (value.reshape(-1, *value.shape[2:]) for value in moved)
    each = np.repeat(np.arange(n_systems), n_times)
    state, h = state.select(each), period[each][:, None, None]
    there = Jacobi(*(value[each] for value in jacobi))._replace(position=x, velocity=v)
    size, speed = (np.sqrt(dot(value, value)) for value in (x, v))
    pull = interaction(there.mass, x, state.G)
    little = SMALL * (size / speed).min(axis=1)[:, None, None]
    change = (interaction(there.mass, x + little * v, state.G) - pull) / little
    strongest = np.sqrt(dot(pull, pull)).max(axis=1)[:, None, None] + TINY
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

    def relative(places: Array, velocities: Array, times: Array | float = 1.0) -> Array:
        dR, dV = (beside(each) for each in of_bodies(places, velocities))
        energy, shape = orbit_changes(R, V, dR, dV, mu, inverse)
        shape = np.sqrt(sum(part * part for part in shape))
        change = np.maximum(np.abs(energy) / energy_size, shape / shape_size) * times
        return np.nan_to_num(change).reshape(n_systems, n_times, -1)

    still = 0 * pull
    return (
        relative(-h * h / 24 * pull, h * h / 24 * change),
        relative(still, h * h / 12 * second, while_),
        relative(still, pull, while_),
    )
