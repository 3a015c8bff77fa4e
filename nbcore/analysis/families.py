"""Families of problems for benchmarks: what is integrated, for how long, and the true end.

A family draws any number of systems from a seed. Systems to train on and systems to judge by come
from random numbers that never meet, so that no system is in both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbcore.analysis import planet_systems
from nbcore.errors import entry
from nbcore.learning.systems import Problem
from nbcore.physics import scenarios
from nbcore.physics.arrays import to_numpy
from nbcore.physics.orbits import at_rest, orbit
from nbcore.physics.seeds import stream
from nbcore.physics.state import State
from nbcore.simulation.simulate import simulate
from nbcore.stepping.policies import Criterion

__all__ = [
    "DEAR",
    "FAMILIES",
    "SPLITS",
    "Family",
    "Problem",
    "end_positions",
    "get_family",
    "problem",
]

Array = NDArray[np.float64]

# Integrator and η of the reference, and of the run that it is checked with. On the benchmark's
# systems IAS15 agrees with both wherever they agree with each other.
REFERENCES = (("kahan_li8", 0.02), ("blanes_moan6", 0.01))
LARGEST_DOUBT = 1e-10  # two references that differ by more are none


@dataclass(frozen=True)
class Family:
    """A kind of problem.

    Attributes
    ----------
    title
        For pictures and tables.
    make
        (n_systems, seed) -> State, as keywords; the seed is a number or a SeedSequence.
    t_end
        Length of a run [T], or in periods of each two-body orbit.
    in_periods
        Whether `t_end` counts periods; then it is a whole number, and bodies end where they began.
    regular
        Whether motion is regular, so that positions at the end can be judged.
    short
        Where it is chaotic: a length [T] at whose end they can be judged yet. Such runs are a
        family of their own, for positions alone.
    share
        Share of the systems asked for that are run, below 1 for families that are dear.
    """

    title: str
    make: Callable[..., State]
    t_end: float
    in_periods: bool = False
    regular: bool = False
    short: float | None = None
    share: float = 1.0

    @property
    def is_short(self) -> bool:
        """Whether runs are so short that they are judged by positions alone."""
        return self.t_end == self.short

    @property
    def has_ends(self) -> bool:
        """Whether positions at the end can be judged."""
        return self.regular or self.is_short


def problem(
    name: str, split: str, n_systems: int, seed: int = 0, run_length: float = 1.0
) -> Problem:
    """Draw systems of a family.

    Parameters
    ----------
    name
        In FAMILIES.
    split
        "train" or "held_out".
    n_systems
        How many are asked for; a dear family gives its share of them, and 2 at least.
    seed
        Of the random numbers, 0 or more.
    run_length
        In units of the family's own; whole periods stay whole.

    Raises
    ------
    InputError
        The family or the split is unknown, or the seed is out of range.
    """
    family = get_family(name)
    purpose = entry("split", split, SPLITS)
    n_systems = min(n_systems, max(2, round(n_systems * family.share)))
    state = family.make(n_systems=n_systems, seed=stream(seed, purpose))
    length = np.full_like(state.time, family.t_end * run_length)
    if family.in_periods:
        periods = length.round().clip(min=1)
        length = periods * scenarios.two_body_period(state)
    return Problem(state, state.time + length)


def get_family(name: str) -> Family:
    """Family by its name in the table, or an error with the nearest name."""
    return entry("family", name, FAMILIES | DEAR)


def end_positions(name: str, at: Problem) -> Array | None:
    """Where the bodies are at the end of regular motion, or of a short run.

    Two-body orbits end where they began. Otherwise they are integrated by two methods: a system on
    which these don't agree has no reference.

    Returns
    -------
    (B, N, D) [L], NaN without a reference; None for a family of long runs that are chaotic.
    """
    family = get_family(name)
    if not family.has_ends:
        return None
    if family.in_periods:
        return to_numpy(at.state.position)
    truth, other = (_integrated(at, *reference) for reference in REFERENCES)
    agree = position_errors(other, truth) <= LARGEST_DOUBT
    return np.where(agree[:, None, None], truth, np.nan)


def position_errors(position: Array, truth: Array) -> Array:
    """Largest distance of a body from its true place over the rms size of the system, (B,).

    Infinite for a position that is no number, and NaN where the true one is not known.
    """
    size = np.sqrt((truth**2).sum(axis=-1).mean(axis=-1))
    errors = np.linalg.norm(position - truth, axis=-1).max(axis=-1) / size
    return np.where(np.isnan(errors) & ~np.isnan(size), np.inf, errors)


def _integrated(at: Problem, integrator: str, eta: float) -> Array:
    policy = Criterion("boekholt", eta)
    run = simulate(
        at.state,
        at.t_end,
        policy,
        integrator=integrator,
        record="ends",
        engine="any_number",  # compiled once for all families
    )
    return to_numpy(run.final.position)


def _kozai_triples(*, n_systems: int, seed: int | np.random.SeedSequence) -> State:
    """Pairs that an inclined third body drives through von Zeipel–Lidov–Kozai cycles."""
    rng = np.random.default_rng(seed)
    triples = []
    for _ in range(n_systems):
        draws: dict[str, Any] = {
            "masses": (1.0, float(10 ** rng.uniform(-3, 0)), float(rng.uniform(0.5, 1.5))),
            "inner_eccentricity": float(rng.uniform(0, 0.2)),
            "inner_phase": float(rng.random()),
            "outer_semi_major_axis": float(rng.uniform(5, 6)),
            "outer_eccentricity": float(rng.uniform(0, 0.2)),
            "outer_phase": float(rng.random()),
            "mutual_inclination": float(rng.uniform(65, 85)),
        }
        triples.append(scenarios.make("hierarchical_triple", **draws))
    return State.concatenate(triples)


def _comets(*, n_systems: int, seed: int | np.random.SeedSequence) -> State:
    """Massless comets of a star with a giant planet, from far out on orbits that cross its own."""
    rng = np.random.default_rng(seed)
    a, e, when, where, planet = rng.uniform(
        (2, 0.9, 0.4, 0, 0), (4, 0.97, 0.6, 360, 1), (n_systems, 5)
    ).T
    mass = np.tile([1.0, 1e-3, 0.0], (n_systems, 1))
    star = np.zeros((n_systems, 2))
    giant = orbit(1 + 1e-3, 1.0, 0.05, planet)
    comet = orbit(1.0, a, e, when, 0.0, where)
    position, velocity = (
        at_rest(mass, np.stack([star, near[..., :2], far[..., :2]], axis=1))
        for near, far in zip(giant, comet, strict=True)
    )
    return State.from_arrays(mass, position, velocity)


def _two_bodies(eccentricity: float) -> Family:
    """Masses from 1 : 10 to 1 : 1, from any phase of the orbit."""
    make = _drawn(
        "kepler_orbits", eccentricity=eccentricity, mass_ratio=(0.1, 1.0), phase=(0.0, 1.0)
    )
    return Family(f"two bodies, e = {eccentricity}", make, 10, in_periods=True, regular=True)


def _drawn(scenario: str, **parameters: Any) -> Callable[..., State]:
    return partial(scenarios.make, scenario, **parameters)


YEAR = 2 * np.pi  # in units of au and solar mass

SPLITS = {"train": "train", "held_out": "benchmark"}  # purposes of random numbers

# Few shapes (N, D), because the engine compiles a program for each. Masses are equal where the
# bodies are many, because heyoka compiles one for each set of masses.
FAMILIES: dict[str, Family] = {
    "two_body_e50": _two_bodies(0.5),
    "two_body_e90": _two_bodies(0.9),
    "two_body_e99": _two_bodies(0.99),
    "three_body_planar": Family("3 equal bodies, planar", _drawn("few_body"), 20.0, short=5.0),
    "three_body_spatial": Family(
        "3 unequal bodies",
        _drawn("few_body", dimensions=3, mass_range=(0.2, 1.0)),
        20.0,
        short=5.0,
    ),
    "three_body_from_rest": Family(
        "3 bodies from rest",
        _drawn("few_body", mass_range=(0.5, 1.0), virial_ratio=0.0),
        5.0,
        short=0.7,
    ),
    "two_body_massless": Family(
        "a massless body, e = 0.7",
        _drawn("kepler_orbits", eccentricity=0.7, mass_ratio=0.0, phase=(0.0, 1.0)),
        10,
        in_periods=True,
        regular=True,
    ),
    "comets": Family("massless comets, a giant planet", _comets, 60.0, short=15.0),
    "moons": Family(
        "planets with light moons",
        _drawn("hierarchies", pair_mass=(1e-6, 1e-3), mass_ratio=(1e-8, 1e-2), size=(0.1, 0.2)),
        12.0,
        short=3.0,
    ),
    "planets_light": Family(
        "4 light planets, e up to 0.3",
        _drawn("planetary_system", planet_mass=(1e-9, 1e-5), spacing=30.0, eccentricity=0.3),
        120.0,
        regular=True,
    ),
    "kozai_triple": Family("Kozai triples", _kozai_triples, 300.0, regular=True),
    "planets_quiet": Family("4 planets, quiet", _drawn("planetary_system"), 120.0, regular=True),
    "planets_close": Family(
        "4 planets, close encounters",
        _drawn("planetary_system", planet_mass=1e-3, spacing=3.0),
        120.0,
        short=30.0,
    ),
    "outer_planets": Family(
        "Sun, 4 outer planets, 1000 years",
        partial(planet_systems.solar_system, first=4),
        1000 * YEAR,
        regular=True,
    ),
    "solar_system": Family(
        "Sun, 8 planets, 100 years",
        planet_systems.solar_system,
        100 * YEAR,
        regular=True,
        share=0.25,
    ),
    "resonant_chain": Family(
        "7 planets as of TRAPPIST-1",
        planet_systems.resonant_chain,
        242 * YEAR,  # periods of the innermost
        regular=True,
        share=0.25,
    ),
    "comet_giants": Family(
        "a comet, e = 0.9, Jupiter, Saturn", planet_systems.comet, 300 * YEAR, regular=True
    ),
    "circumbinary": Family(
        "a planet of two stars",
        planet_systems.circumbinary,
        31 * YEAR,  # 50 periods of the planet, 276 of the stars
        regular=True,
        share=0.25,
    ),
    "moons_of_jupiter": Family(
        "Sun, Jupiter, 4 moons",
        planet_systems.moons_of_jupiter,
        1 * YEAR,  # 206 periods of Io
        regular=True,
        share=0.25,
    ),
    "five_body": Family(
        "5 unequal bodies",
        _drawn("few_body", n_bodies=5, dimensions=3, mass_range=(0.2, 1.0)),
        10.0,
        short=3.0,
    ),
    "eight_body": Family(
        "8 bodies", _drawn("few_body", n_bodies=8, dimensions=3), 8.0, short=3.0, share=0.5
    ),
    "plummer_16": Family(
        "Plummer, N = 16", _drawn("plummer", n_bodies=16), 4.0, short=2.0, share=0.25
    ),
    "plummer_64": Family("Plummer, N = 64", _drawn("plummer", n_bodies=64), 1.0, share=0.0625),
}
# Families too dear for what goes through all of them: they are run where they are named.
DEAR: dict[str, Family] = {
    "plummer_256": Family("Plummer, N = 256", _drawn("plummer", n_bodies=256), 0.25, share=0.03125),
}
FAMILIES |= {
    f"{name}_short": replace(family, title=f"{family.title}, short", t_end=family.short)
    for name, family in FAMILIES.items()
    if family.short is not None
}
