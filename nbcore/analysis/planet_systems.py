"""Planets and moons as they are, at random phases: systems of `families`.

Units are au, solar mass and year/2π, so that G = 1; those of `resonant_chain` are its own.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nbcore.physics import scenarios
from nbcore.physics.orbits import about_barycentre, at_rest, orbit
from nbcore.physics.state import State

__all__ = ["circumbinary", "comet", "moons_of_jupiter", "resonant_chain", "solar_system"]

Array = NDArray[np.float64]
Seed = int | np.random.SeedSequence


def solar_system(*, n_systems: int, seed: Seed, first: int = 0) -> State:
    """Sun and planets from the first of those taken, such as 4 for Jupiter, on their mean orbits.

    References
    ----------
    Standish & Williams, Keplerian elements for approximate positions of the major planets (JPL),
    for J2000.
    """
    planets = _planets()[first:]
    return _about_star(1.0, planets, _phases(seed, n_systems, len(planets)))


def comet(*, n_systems: int, seed: Seed) -> State:
    """Sun, Jupiter, Saturn and a comet of e = 0.9 that comes as near as the Earth.

    It goes through the planets' plane at 1 and 19 au, far from both.
    """
    bodies = np.concatenate([_planets()[4:6], [[1e-6, 10.0, 0.9, 30.0, 0.0, 0.0]]])
    return _about_star(1.0, bodies, _phases(seed, n_systems, len(bodies)))


def resonant_chain(*, n_systems: int, seed: Seed) -> State:
    """Seven planets like those of TRAPPIST-1; star's mass and innermost orbit are of size 1.

    Periods are next to resonances, without the phases that would hold them there.

    References
    ----------
    Agol et al. (2021), Planetary Science Journal 2, 1: masses, periods, inclinations; Grimm et al.
    (2018), A&A 613, A68: eccentricities and pericentres.
    """
    earths, days, e, tilt, argument = np.array(CHAIN).T
    axis = (days / days[0]) ** (2 / 3)
    planets = np.stack([EARTH / CHAIN_STAR * earths, axis, e, tilt, argument, 0 * e], axis=1)
    return _about_star(1.0, planets, _phases(seed, n_systems, len(planets)))


def circumbinary(*, n_systems: int, seed: Seed) -> State:
    """Two stars with a planet of both, like Kepler-16.

    References
    ----------
    Doyle et al. (2011), Science 333, 1602.
    """
    pairs = [
        scenarios.make(
            "hierarchical_triple",
            masses=(0.69, 0.20, 1e-3),
            inner_semi_major_axis=0.224,
            inner_eccentricity=0.16,
            inner_phase=float(inner),
            outer_semi_major_axis=0.70,
            outer_eccentricity=0.01,
            outer_phase=float(outer),
            mutual_inclination=0.3,
        )
        for inner, outer in _phases(seed, n_systems, 2)
    ]
    return State.concatenate(pairs)


def moons_of_jupiter(*, n_systems: int, seed: Seed) -> State:
    """Sun, Jupiter, Io, Europa, Ganymede and Callisto.

    References
    ----------
    Planetary satellite mean elements (JPL).
    """
    jupiter, a, e, inclination, argument, node = _planets()[4]
    phase = _phases(seed, n_systems, 1 + len(MOONS))
    near = _about_star(jupiter, np.array(MOONS), phase[:, 1:])
    mass = near.mass.sum(axis=1)
    far = orbit(1 + mass, a, e, phase[:, 0], inclination, argument, node)
    pair = np.stack([np.ones_like(mass), mass], axis=1)
    masses = np.concatenate([pair[:, :1], near.mass], axis=1)
    position, velocity = (
        np.concatenate([both[:, :1], both[:, 1:] + close], axis=1)
        for both, close in zip(
            (about_barycentre(pair, x) for x in far), (near.position, near.velocity), strict=True
        )
    )
    return State.from_arrays(masses, at_rest(masses, position), at_rest(masses, velocity))


def _phases(seed: Seed, n_systems: int, n_orbits: int) -> Array:
    return np.random.default_rng(seed).random((n_systems, n_orbits))


def _about_star(star: float, bodies: Array, phase: Array) -> State:
    """Bodies (N − 1, 6), of which each row is mass, a, e, inclination, argument, node."""
    mass, a, e, inclination, argument, node = bodies.T
    vectors = orbit(star + mass, a, e, phase, inclination, argument, node)
    masses = np.tile([star, *mass], (len(phase), 1))
    position, velocity = (
        at_rest(masses, np.concatenate([np.zeros_like(x[:, :1]), x], axis=1)) for x in vectors
    )
    return State.from_arrays(masses, position, velocity)


def _planets() -> Array:
    """Eight planets, rows as `_about_star` takes them."""
    mass = scenarios.make("solar_system").mass[0, 1:]
    a, e, inclination, pericentre, node = np.array(PLANETS).T
    return np.stack([mass, a, e, inclination, pericentre - node, node], axis=1)


EARTH = 3.0035e-6  # solar masses
CHAIN_STAR = 0.0898  # solar masses

# a [au], e, inclination, longitudes of the pericentre and of the node
PLANETS = (
    (0.38709927, 0.20563593, 7.00497902, 77.45779628, 48.33076593),
    (0.72333566, 0.00677672, 3.39467605, 131.60246718, 76.67984255),
    (1.00000261, 0.01671123, 0.0, 102.93768193, 0.0),
    (1.52371034, 0.09339410, 1.84969142, -23.94362959, 49.55953891),
    (5.20288700, 0.04838624, 1.30439695, 14.72847983, 100.47390909),
    (9.53667594, 0.05386179, 2.48599187, 92.59887831, 113.66242448),
    (19.18916464, 0.04725744, 0.77263783, 170.95427630, 74.01692503),
    (30.06992276, 0.00859048, 1.77004347, 44.96476227, 131.78422574),
)

# mass [Earth's], period [days], e, inclination, argument of the pericentre
CHAIN = (
    (1.374, 1.510826, 0.00622, 0.272, 336.86),
    (1.308, 2.421937, 0.00654, 0.222, 282.45),
    (0.388, 4.049219, 0.00837, 0.104, 351.27),
    (0.692, 6.101013, 0.00510, 0.207, 108.37),
    (1.039, 9.207540, 0.01007, 0.260, 8.81),
    (1.321, 12.352446, 0.00208, 0.258, 191.34),
    (0.326, 18.772866, 0.00567, 0.195, 338.92),
)

# mass [solar], a [au], e, inclination, argument, node
MOONS = (
    (4.491e-8, 2.8195e-3, 0.0041, 0.04, 84.1, 44.0),
    (2.413e-8, 4.4861e-3, 0.0094, 0.47, 89.0, 219.1),
    (7.450e-8, 7.1552e-3, 0.0013, 0.20, 192.4, 63.6),
    (5.409e-8, 1.25852e-2, 0.0074, 0.19, 52.6, 298.8),
)
