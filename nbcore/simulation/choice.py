"""What makes the steps of a run that names neither a policy nor an integrator.

Of planets that stay apart Wisdom and Holman's steps cost least. Otherwise extrapolation in
regularised time does, by the errors that a tolerance is of, those of the energy and of the bodies'
orbits, but where

- motion is planetary, and the tolerance loose: steps of the shipped policies are long there;
- bodies are more than a few, as all of them take part in the steps of the closest two, unless the
  tolerance is so strict that the order pays;
- a run is very long: reversible steps keep the energy for as long as one likes.

Measured by `nbcore benchmark --config configs/regularised.toml` and `configs/planets.toml`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nbcore.physics.body_errors import partners
from nbcore.physics.orbits import orbital_period, pericentre_period
from nbcore.physics.state import State
from nbcore.physics.wisdom_holman import jacobi_order
from nbcore.stepping.encounters import are_apart, longest_between, nearest, neighbours
from nbcore.stepping.planets import cost_more

__all__ = ["method"]

PLANETS, EXTRAPOLATION = "wisdom_holman", "gbs"

FEW, MOST = 6, 32  # bodies: up to which at any tolerance, and up to which at all
STRICT, FALL = 1e-7, 6  # tolerance that more than a few must be below: of 8 bodies; and its power
LOOSE = 3e-6  # tolerance from which planets are left to the policies
DOMINANT = 0.9  # share of the mass that makes a star
LEAST_PLANETS = 3  # bodies with mass beside it
LONG = 1e4  # shortest periods
TYPICAL = 0.05  # step of planets over that of a circle at the smallest pericentre
LAZY = 1e-7  # tolerance below which their kicks are those of the lazy implementer
RARE = 0.1  # of the distance from the star, within which planets that may meet rarely do


def method(
    state: State, t_end: NDArray[np.float64], tolerance: float, equal_steps: bool = True
) -> str | None:
    """Integrator of a run, or None for those of the shipped policies.

    Of a batch it is the one that suits half of the systems.

    Parameters
    ----------
    state
        Of NumPy arrays.
    tolerance
        The strictest one.
    equal_steps
        Whether those of planets will do.
    """
    if equal_steps and _stays_apart(state, t_end, tolerance):
        return PLANETS
    return EXTRAPOLATION if _is_extrapolated(state, t_end, tolerance) else None


def _stays_apart(state: State, t_end: NDArray[np.float64], tolerance: float) -> bool:
    """Whether planets of most systems come no nearer each other than equal steps follow."""
    alone = state.softening == 0 and state.field is None and state.n_bodies <= MOST
    if not alone or state.n_bodies < 3 or not (state.mass.sum(axis=1) > 0).all():
        return False
    planetary = _is_planetary(state)
    if planetary.mean() < 0.5:
        return False
    order = jacobi_order(state)
    pair, each = neighbours(state, order), np.full(state.n_systems, tolerance)
    dt = TYPICAL * pericentre_period(state)
    lazy = tolerance < LAZY
    limit, away = nearest(pair, dt, each, lazy), pair.distance.min(axis=(2, 3))
    apart = np.where(pair.gap > 0, are_apart(pair), limit < RARE * away).all(axis=1)
    steps = longest_between(pair, dt, each, lazy=True)
    apart &= ~cost_more(state, order, t_end, steps)
    return bool((planetary & apart & (dt > 0)).mean() >= 0.5)


def _is_extrapolated(state: State, t_end: NDArray[np.float64], tolerance: float) -> bool:
    """Whether extrapolation suits half of the systems."""
    acts = (state.mass > 0).sum(axis=1)
    if not 1 < state.n_bodies <= MOST:
        return False
    if state.n_bodies > FEW and tolerance > STRICT * (8 / state.n_bodies) ** FALL:
        return False
    suits = ((t_end - state.time) <= LONG * _shortest_period(state)) & np.isfinite(t_end)
    if tolerance > LOOSE:
        suits &= ~(_is_planetary(state) & (acts > LEAST_PLANETS))
    return bool(suits.mean() >= 0.5)


def _is_planetary(state: State) -> NDArray[np.bool_]:
    """Whether one body has most of the mass, and pulls every other one most, (B,)."""
    star = state.mass.argmax(axis=1)[:, None]
    share = state.mass.max(axis=1) / state.mass.sum(axis=1)
    others = np.arange(state.n_bodies) != star
    return (share > DOMINANT) & ((partners(state) == star) | ~others).all(axis=1)


def _shortest_period(state: State) -> NDArray[np.float64]:
    """Shortest period of a body on a bound orbit about its partner, (B,) [T]; inf if none is."""
    partner = partners(state)
    index = np.broadcast_to(partner[..., None], state.position.shape)
    R, V = (np.take_along_axis(x, index, axis=1) - x for x in (state.position, state.velocity))
    mu = state.G * (state.mass + np.take_along_axis(state.mass, partner, axis=1))
    alone = partner == np.arange(state.n_bodies)
    return np.where(alone, np.inf, orbital_period(mu, R, V, state.softening)).min(axis=1)
