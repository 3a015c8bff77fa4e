"""What makes the steps of a run that names neither a policy nor an integrator.

The method that is expected to cost least at the error that is asked for, of the energy and of the
bodies' orbits: extrapolation in regularised time, Wisdom and Holman's steps, or those of the
shipped policies. What each costs beside the others is learned (`stepping.choosing`). Rules say only
what may be taken at all:

- Wisdom and Holman's steps of planets alone that stay apart, without softening or a field;
- extrapolation of no more bodies than it was measured with;
- and not in very long runs: reversible steps keep the energy for as long as one likes.

`python -m nbcore.analysis.choices` measures what the choice costs over the best one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nbcore.physics.body_errors import partners
from nbcore.physics.orbits import pericentre_period
from nbcore.physics.state import State
from nbcore.physics.wisdom_holman import jacobi_order
from nbcore.stepping.choosing import Law, described, learned, planets_described, rates, stacked
from nbcore.stepping.encounters import are_apart, longest_between, nearest, neighbours
from nbcore.stepping.planets import relative_cost

__all__ = ["EXTRAPOLATION", "PLANETS", "SHIPPED", "Seen", "chosen", "method", "seen"]

PLANETS, EXTRAPOLATION, SHIPPED = "wisdom_holman", "gbs", "shipped"

MOST, MOST_PLANETS = 96, 32  # bodies
DOMINANT = 0.9  # share of the mass that makes a star
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
    if not 1 < state.n_bodies <= MOST:
        return None
    name = chosen(seen(state, t_end, tolerance, equal_steps), learned())
    return None if name == SHIPPED else name


class Seen(NamedTuple):
    """What the choice goes by.

    Attributes
    ----------
    numbers
        (B,) each, as `stepping.choosing` describes systems; those of planets where there are any.
    apart
        (B,) whether they are planets that stay apart.
    short
        (B,) whether the run is not very long.
    """

    numbers: dict[str, NDArray[np.float64]]
    apart: NDArray[np.bool_]
    short: NDArray[np.bool_]


def seen(
    state: State, t_end: NDArray[np.float64], tolerance: float, equal_steps: bool = True
) -> Seen:
    """Look at systems; the parameters are those of `method`."""
    span = t_end - state.time
    partner = partners(state)
    rate = rates(state, partner)
    fastest = rate.max(axis=1)
    short = np.isfinite(span) & (np.where(np.isfinite(span), span, 0.0) * fastest <= LONG)
    numbers = described(state, t_end, tolerance, partner, rate)
    apart = np.zeros(state.n_systems, dtype=bool)
    if equal_steps and _are_alone(state):
        planetary = _is_planetary(state, partner)
        if planetary.mean() >= 0.5:
            apart, more = _planets(state, t_end, tolerance)
            apart &= planetary
            numbers |= more
    return Seen(numbers, apart, short)


def chosen(of: Seen, laws: Mapping[str, Law]) -> str:
    """Method that is expected to cost least, of the most systems."""
    shipped = laws[SHIPPED].of(stacked(SHIPPED, of.numbers))
    extrapolated = np.where(of.short, 0.0, np.inf)
    if of.apart.any():
        equal = laws[PLANETS].of(stacked(PLANETS, of.numbers))
        if np.mean(of.apart & (equal <= np.minimum(shipped, extrapolated))) >= 0.5:
            return PLANETS
    return EXTRAPOLATION if np.mean(extrapolated <= shipped) >= 0.5 else SHIPPED


def _are_alone(state: State) -> bool:
    """Whether nothing but gravity of a few bodies acts, so that equal steps may be taken."""
    few = 3 <= state.n_bodies <= MOST_PLANETS
    alone = few and state.softening == 0 and state.field is None
    return alone and bool((state.mass.sum(axis=1) > 0).all())


def _planets(
    state: State, t_end: NDArray[np.float64], tolerance: float
) -> tuple[NDArray[np.bool_], dict[str, NDArray[np.float64]]]:
    """Where planets come no nearer each other than equal steps follow, (B,); and their numbers."""
    order = jacobi_order(state)
    pair, each = neighbours(state, order), np.full(state.n_systems, tolerance)
    dt = TYPICAL * pericentre_period(state)
    lazy = tolerance < LAZY
    limit, away = nearest(pair, dt, each, lazy), pair.distance.min(axis=(2, 3))
    apart = np.where(pair.gap > 0, are_apart(pair), limit < RARE * away).all(axis=1)
    steps = longest_between(pair, dt, each, lazy=True)
    numbers = planets_described(state, t_end, pair, relative_cost(state, order, t_end, steps))
    return apart & (dt > 0), numbers


def _is_planetary(state: State, partner: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether one body has most of the mass, and pulls every other one most, (B,)."""
    star = state.mass.argmax(axis=1)[:, None]
    share = state.mass.max(axis=1) / state.mass.sum(axis=1)
    others = np.arange(state.n_bodies) != star
    return (share > DOMINANT) & ((partner == star) | ~others).all(axis=1)
