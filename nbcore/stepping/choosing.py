"""What the method of a run is chosen by: numbers that describe systems, and a learned law of costs.

Of each method a law tells log10 of what it costs over extrapolation at the same error, as a
polynomial of those numbers. The coefficients come with the package, made by
`python -m nbcore.analysis.choosing`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nbcore.jsonfiles import read_json
from nbcore.physics.arrays import taken
from nbcore.physics.elementwise import TINY
from nbcore.physics.orbits import orbital_period, pericentre_period
from nbcore.physics.state import State
from nbcore.stepping.checkpoints import SHIPPED
from nbcore.stepping.encounters import Neighbours, hill_radii

__all__ = [
    "FILE",
    "LAWS",
    "Law",
    "described",
    "learned",
    "planets_described",
    "rates",
    "stacked",
]

Array = NDArray[np.float64]

FILE = SHIPPED / "choice.json"
MANY = 1e6  # turns and periods that runs without an end count as, too
LANES, MOST_IN_LANES = 4, 16  # numbers in a vector register, and bodies that lie in such
COINCIDENT = 1e-200  # square of a distance that is as good as none
WIDE = 100.0  # Hill radii, beyond which a gap is as good as any
LIGHT = 1e-10  # of the star's mass: planets that are as good as massless


class Law(NamedTuple):
    """A polynomial of second degree of numbers between bounds.

    Attributes
    ----------
    low, high
        (F,) of each number.
    coefficients
        (M,) of `terms`.
    """

    low: Array
    high: Array
    coefficients: Array

    def of(self, numbers: Array) -> Array:
        """Its values (B,) for numbers (B, F); those beyond the bounds count as these."""
        return self.terms(numbers) @ self.coefficients

    def terms(self, numbers: Array) -> Array:
        """Products (B, M) of at most two of the numbers, from -1 to 1 within the bounds."""
        width = np.where(self.high > self.low, self.high - self.low, 1.0)
        x = 2 * (np.clip(numbers, self.low, self.high) - self.low) / width - 1
        first, second = np.triu_indices(x.shape[1])
        return np.concatenate([np.ones((len(x), 1)), x, x[:, first] * x[:, second]], axis=1)


def described(
    state: State, t_end: Array, tolerance: float, partner: NDArray[np.int64], rate: Array
) -> dict[str, Array]:
    """Numbers (B,) of any systems that no unit, place, orientation or numbering changes.

    Parameters
    ----------
    state
        Of NumPy arrays.
    t_end
        (B,) [T].
    partner, rate
        (B, N) from `body_errors.partners`, and from `rates`.

    Returns
    -------
    tolerance, bodies
        log10 of it, log2 of their number.
    lanes
        Share of the processor's lanes that so many bodies fill, where they lie in lanes.
    star
        Share of the mass that the heaviest has.
    satellites
        Share of the other bodies that it pulls most.
    turns
        log10 of the periods to come, of a body in the mean, and 1.
    spread
        log10 of the fastest pair's rate, √(G m/r³), over the middle one.
    """
    mass, n = state.mass, state.n_bodies
    star = mass.argmax(axis=1)[:, None]
    others = np.arange(n) != star
    mean = rate.sum(axis=1) / n
    turns = np.minimum(t_end - state.time, MANY / np.maximum(mean, TINY)) * mean
    first, second = np.triu_indices(n, 1)
    R = state.position[:, first] - state.position[:, second]
    rate2 = (mass[:, first] + mass[:, second]) / np.maximum((R * R).sum(axis=2), COINCIDENT) ** 1.5
    middle = np.maximum(np.median(rate2, axis=1), TINY)
    each = np.zeros(state.n_systems)
    return {
        "tolerance": each + np.log10(tolerance),
        "bodies": each + np.log2(n),
        "lanes": each + (n / (-(-n // LANES) * LANES) if n <= MOST_IN_LANES else 1.0),
        "star": mass.max(axis=1) / np.maximum(mass.sum(axis=1), TINY),
        "satellites": ((partner == star) & others).sum(axis=1) / max(n - 1, 1),
        "turns": np.log10(1 + turns),
        "spread": np.log10(np.maximum(rate2.max(axis=1) / middle, 1)) / 2,
    }


def planets_described(
    state: State, t_end: Array, pair: Neighbours, steps: Array
) -> dict[str, Array]:
    """Likewise, of planets.

    Parameters
    ----------
    pair, steps
        From `encounters.neighbours`; and `planets.relative_cost` of typical steps, (B,).

    Returns
    -------
    steps
        log10 of those.
    planets
        log10 of the heaviest planet's mass over the star's.
    gap
        log10 of the narrowest gap between two orbits in mutual Hill radii, and 1.
    periods
        log10 of the run's length in `pericentre_period`, and 1.
    """
    mass = np.sort(state.mass, axis=1)
    hill = hill_radii(pair).max(axis=(2, 3))
    gap = np.where(hill > 0, pair.gap / np.where(hill > 0, hill, 1.0), WIDE).min(axis=1)
    with np.errstate(divide="ignore"):
        periods = (t_end - state.time) / pericentre_period(state)
    return {
        "steps": np.log10(np.clip(steps, 1 / MANY, MANY)),
        "planets": np.log10(np.maximum(mass[:, -2] / mass[:, -1], LIGHT)),
        "gap": np.log10(1 + np.minimum(gap, WIDE)),
        "periods": np.log10(1 + np.minimum(periods, MANY)),
    }


def stacked(name: str, numbers: Mapping[str, Array]) -> Array:
    """The numbers (B, F) that a method's law is of."""
    return np.stack([numbers[each] for each in LAWS[name]], axis=1)


@lru_cache(maxsize=1)
def learned() -> Mapping[str, Law]:
    """The laws that come with the package."""
    found = dict[str, Law]()
    for name, law in read_json(FILE)["laws"].items():
        low, high = np.array([law["numbers"][each] for each in LAWS[name]]).T
        found[name] = Law(low, high, np.array(law["coefficients"]))
    return found


def rates(state: State, partner: NDArray[np.int64]) -> Array:
    """1/period (B, N) of each body on a bound orbit about its partner [1/T]; 0 of the others."""
    index = np.broadcast_to(partner[..., None], state.position.shape)
    R, V = (np.take_along_axis(x, index, axis=1) - x for x in (state.position, state.velocity))
    mu = state.G * (state.mass + taken(state.mass, partner))
    alone = partner == np.arange(state.n_bodies)
    period = np.where(alone, np.inf, orbital_period(mu, R, V, state.softening))
    return 1 / np.maximum(period, TINY)


# Methods beside extrapolation, and the numbers that what they cost over it is a polynomial of.
LAWS: dict[str, tuple[str, ...]] = {
    "shipped": ("tolerance", "bodies", "lanes", "star", "satellites", "turns", "spread"),
    "wisdom_holman": ("tolerance", "bodies", "steps", "planets", "gap", "periods"),
}
