"""Initial conditions by name and from files.

A scenario is a plain function with typed keyword parameters that returns mass, position and
velocity for G = 1; `make` multiplies the velocities by √G, which leaves every orbit as it is.
Degrees for angles. The centre of mass rests at the origin unless the scenario says otherwise.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from functools import lru_cache, partial
from importlib import resources
from inspect import signature
from types import FunctionType, MethodType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nbcore.errors import InputError, entry
from nbcore.physics.external import Field, check_field
from nbcore.physics.files import load, save
from nbcore.physics.orbits import about_barycentre, at_rest, orbit, two_body_period
from nbcore.physics.parameters import (
    AtLeastTwo,
    BelowOne,
    BelowOneRange,
    Count,
    Dimensions,
    NotNegative,
    NotNegativeRange,
    Positive,
    PositiveRange,
    Real,
    RealRange,
    Seed,
    checked_call,
)
from nbcore.physics.state import State, doubles

__all__ = [
    "SCENARIOS",
    "Reference",
    "load",
    "make",
    "names",
    "reference",
    "save",
    "two_body_period",
]

Array = NDArray[np.float64]
Arrays = tuple[Array, Array, Array]


PARTS = ("mass", "position", "velocity")


class Reference(NamedTuple):
    """End of a known problem, from REBOUND's IAS15 at its default accuracy."""

    t_end: float
    """When the reference ends [T]."""
    state: State
    """The end state, for G = 1 and the scenario's default parameters."""


def names() -> list[str]:
    """Names of the scenarios."""
    return sorted(SCENARIOS)


def takes_seed(name: str) -> bool:
    """Whether a scenario draws its systems at random."""
    return name in SCENARIOS and "seed" in signature(SCENARIOS[name]).parameters


def make(
    scenario: str | Callable[..., Any],
    /,
    *,
    G: float = 1.0,
    softening: float = 0.0,
    field: Field | None = None,
    **parameters: Any,
) -> State:
    """Initial state of a scenario.

    Parameters
    ----------
    scenario
        One of `names()`, or a function of your own that returns mass, position and velocity for
        G = 1, as `State.from_arrays` takes them; or a functools.partial of one.
    G, softening, field
        As in State; velocities are scaled by √G, so that bound stays bound.
    parameters
        Keyword arguments of the function, checked against its annotations.

    Returns
    -------
    A batch for scenarios with `n_systems`, otherwise a single system.

    Raises
    ------
    InputError
        The name or a parameter is unknown, a value is of the wrong type or out of range, or a
        function returns something else.
    """
    name, function, bound = _function(scenario)
    made = checked_call(f"scenario {name!r}", function, bound | parameters)
    if not (isinstance(made, (tuple, list)) and len(made) == len(PARTS)):
        many = f" of {len(made)}" if isinstance(made, (tuple, list)) else ""
        raise InputError(
            f"the scenario {name!r} returned {type(made).__name__}{many}; it must return "
            f"{', '.join(PARTS)}"
        )
    units = checked_call("the system", _units, {"G": G, "softening": softening})
    check_field(field)
    try:
        mass, position, velocity = (doubles(*each) for each in zip(PARTS, made, strict=True))
        scaled = velocity if units["G"] == 1 else velocity * np.sqrt(G)
        state = State.from_arrays(mass, position, scaled, **units, field=field)
    except InputError as error:
        raise InputError(f"the scenario {name!r} returned what is no state: {error}") from None
    return state.replace(scenario=name)


def _function(
    scenario: str | Callable[..., Any],
) -> tuple[str, Callable[..., Any], dict[str, Any]]:
    """Name and function of a scenario, and keywords that a partial of one holds."""
    if not callable(scenario):
        return scenario, entry("scenario", scenario, SCENARIOS), {}
    function, bound = scenario, {}
    while isinstance(function, partial):
        names = signature(function.func).parameters
        if len(function.args) > len(names):
            raise InputError(
                f"the scenario {scenario} holds {len(function.args)} arguments, and it takes "
                f"{len(names)}; give parameters by name"
            )
        by_place = dict(zip(names, function.args, strict=False))
        function, bound = function.func, by_place | function.keywords | bound
    name = getattr(function, "__name__", type(function).__name__)
    if not isinstance(function, (FunctionType, MethodType)):
        raise InputError(
            f"the scenario {name!r} is no function, but of type {type(function).__name__!r}; give "
            f"a function that returns {', '.join(PARTS)}"
        )
    if taken := {"G", "softening", "field"} & signature(function).parameters.keys():
        raise InputError(
            f"the scenario {name!r} has a parameter {min(taken)!r}, which is the state's; write it "
            f"for G = 1, and give {min(taken)} to scenarios.make"
        )
    is_own = name in SCENARIOS and function is not SCENARIOS[name]
    return f"own {name}" if is_own else name, function, bound


def _units(G: Positive, softening: NotNegative) -> dict[str, float]:
    return {"G": G, "softening": softening}


def reference(name: str) -> Reference:
    """End state that `make(name)` must reach, where one is shipped.

    Raises
    ------
    InputError
        There is no reference of that name.
    """
    problem = entry("reference", name, _problems())
    mass, _, _ = SCENARIOS[name]()
    end = problem["end"]
    t_end = problem["t_end"]
    return Reference(t_end, State.from_arrays(mass, end["position"], end["velocity"], time=t_end))


def kepler(
    *,
    semi_major_axis: Positive = 1.0,
    eccentricity: BelowOne = 0.0,
    mass_ratio: NotNegative = 1.0,
    total_mass: Positive = 1.0,
    phase: Real = 0.5,
    inclination: Real = 0.0,
    dimensions: Dimensions = 2,
) -> Arrays:
    """Two bodies on a bound orbit.

    The second body's pericentre lies on +x of the first; both move against the clock.

    Parameters
    ----------
    semi_major_axis
        Of the relative orbit [L].
    eccentricity
        0 ≤ e < 1.
    mass_ratio
        Second mass over the first, 0 for a test particle.
    total_mass
        Sum of both [M]; the period is 2π √(a³/(G total_mass)).
    phase
        Time since pericentre in periods: 0 starts at pericentre, 0.5 at apocentre.
    inclination
        Of the orbit about the x axis [degrees], in 3 dimensions.
    dimensions
        2 or 3.
    """
    _needs_depth(inclination, dimensions)
    mass = _shared(total_mass, mass_ratio)
    vectors = orbit(total_mass, semi_major_axis, eccentricity, phase, inclination)
    position, velocity = (about_barycentre(mass, x) for x in vectors)
    return _cut(mass, position, velocity, dimensions)


def kepler_orbits(
    *,
    n_systems: Count = 16,
    eccentricity: BelowOneRange = (0.6, 0.95),
    semi_major_axis: PositiveRange = (0.8, 1.2),
    mass_ratio: NotNegativeRange = (1.0, 1.0),
    phase: RealRange = (0.5, 0.5),
    total_mass: Positive = 1.0,
    seed: Seed = 0,
    dimensions: Dimensions = 2,
) -> Arrays:
    """Batch of two-body orbits, each quantity drawn uniformly from its range.

    Parameters
    ----------
    n_systems
        B.
    eccentricity, semi_major_axis, mass_ratio, phase, total_mass, dimensions
        As in kepler; a single number instead of a range is kept fixed.
    seed
        Of the random numbers.
    """
    ranges = np.array([eccentricity, semi_major_axis, mass_ratio, phase])
    draws = np.random.default_rng(seed).uniform(ranges[:, 0], ranges[:, 1], (n_systems, 4))
    e, a, ratio, when = draws.T
    mass = _shared(total_mass, ratio)
    vectors = orbit(total_mass, a, e, when)
    position, velocity = (about_barycentre(mass, x) for x in vectors)
    return _cut(mass, position, velocity, dimensions)


def hierarchical_triple(
    *,
    masses: tuple[NotNegative, NotNegative, NotNegative] = (1.0, 0.0, 1.0),
    inner_semi_major_axis: Positive = 1.0,
    inner_eccentricity: BelowOne = 0.0,
    inner_phase: Real = 0.0,
    outer_semi_major_axis: Positive = 10.0,
    outer_eccentricity: BelowOne = 0.0,
    outer_phase: Real = 0.0,
    mutual_inclination: Real = 89.9,
) -> Arrays:
    """Close pair in the x-y plane with a distant, inclined third body.

    The defaults are a test planet of a star on a von Zeipel–Lidov–Kozai cycle. The outer orbit is
    about the first body, which is the centre of the pair when the second is massless.

    Parameters
    ----------
    masses
        Of the pair and of the third body [M].
    inner_semi_major_axis, inner_eccentricity, inner_phase
        Orbit of the second body about the first, as in kepler.
    outer_semi_major_axis, outer_eccentricity, outer_phase
        Orbit of the third body about the centre of mass of the pair.
    mutual_inclination
        Angle between both orbits [degrees].
    """
    m1, m2, m3 = masses
    if m1 + m2 == 0:
        raise InputError("masses of scenario 'hierarchical_triple': the pair has no mass")
    mass = np.array(masses, dtype=float)
    inner = orbit(m1 + m2, inner_semi_major_axis, inner_eccentricity, inner_phase)
    outer = orbit(
        m1 + m2 + m3,
        outer_semi_major_axis,
        outer_eccentricity,
        outer_phase,
        mutual_inclination,
    )
    bodies = []
    for near, far in zip(inner, outer, strict=True):
        pair = about_barycentre(mass[:2], near)
        bodies.append(at_rest(mass, np.concatenate([pair, far[None]])))
    return mass, bodies[0], bodies[1]


def hierarchies(
    *,
    n_systems: Count = 16,
    pair_mass: PositiveRange = (1e-6, 1.0),
    mass_ratio: NotNegativeRange = (1e-3, 1.0),
    size: PositiveRange = (0.1, 0.3),
    pair_eccentricity: BelowOne = 0.3,
    eccentricity: BelowOne = 0.3,
    inclination: NotNegative = 30.0,
    seed: Seed = 0,
    dimensions: Dimensions = 3,
) -> Arrays:
    """Close pairs in orbit with a third body of mass 1: moons, light binaries, triples.

    The third body is the last; the semi-major axis of its orbit with the pair is 1.

    Parameters
    ----------
    n_systems
        B.
    pair_mass
        Of the pair [mass of the third body]; range, uniform in the logarithm.
    mass_ratio
        Within the pair; range, uniform in the logarithm; 0 for a massless moon.
    size
        Semi-major axis of the pair in units of its Hill radius; a range. Stable up to about 0.4,
        retrograde or eccentric ones less or more.
    pair_eccentricity, eccentricity
        Of the pair's orbit and of that with the third body: upper ends of uniform ranges.
    inclination
        Of the pair's orbit, upper end of a uniform range [degrees]; 0 for a planar system.
    seed
        Of the random numbers.
    dimensions
        2 or 3; 2 needs inclination 0.
    """
    _needs_depth(inclination, dimensions)
    rng = np.random.default_rng(seed)
    both = _logarithmic(rng, "pair_mass", pair_mass, (n_systems,))
    ratio = _logarithmic(rng, "mass_ratio", mass_ratio, (n_systems,))
    hill = np.cbrt(both / (3 * (1 + both)))
    near, far, tilt, a = rng.uniform(
        (0, 0, 0, size[0]), (pair_eccentricity, eccentricity, inclination, size[1]), (n_systems, 4)
    ).T
    phases, angles = rng.uniform(0, 1, (2, n_systems)), rng.uniform(0, 360, (3, n_systems))
    pair = both[:, None] * _shared(1.0, ratio)
    inner = orbit(both, a * hill * (1 - far), near, phases[0], tilt, angles[0], angles[1])
    outer = orbit(1 + both, 1.0, far, phases[1], 0.0, angles[2], 0.0)
    mass = np.concatenate([pair, np.ones((n_systems, 1))], axis=1)
    position, velocity = (
        at_rest(mass, np.concatenate([about_barycentre(pair, close), wide[:, None]], axis=1))
        for close, wide in zip(inner, outer, strict=True)
    )
    return _cut(mass, position, velocity, dimensions)


def planetary_system(
    *,
    n_systems: Count = 1,
    n_planets: Count = 4,
    planet_mass: NotNegativeRange = (1e-5, 1e-5),
    spacing: Positive = 10.0,
    innermost: Positive = 1.0,
    eccentricity: BelowOne = 0.01,
    inclination: NotNegative = 0.5,
    seed: Seed = 0,
    dimensions: Dimensions = 3,
) -> Arrays:
    """Star of mass 1 with planets at equal spacing, at random phases and orientations.

    Parameters
    ----------
    n_systems, n_planets
        B and N − 1.
    planet_mass
        Range, uniform in the logarithm [star's mass]; 0 for massless planets.
    spacing
        Between neighbours in mutual Hill radii; below about 8 systems go unstable soon.
    innermost
        Semi-major axis of the first planet [L].
    eccentricity
        Upper end of a uniform range.
    inclination
        Upper end of a uniform range [degrees]; 0 for a planar system.
    seed
        Of the random numbers.
    dimensions
        2 or 3; 2 needs inclination 0.

    References
    ----------
    Chambers, Wetherill & Boss (1996), Icarus 119, 261.
    """
    _needs_depth(inclination, dimensions)
    rng = np.random.default_rng(seed)
    shape = (n_systems, n_planets)
    planets = _logarithmic(rng, "planet_mass", planet_mass, shape)
    e, tilt = rng.uniform(0, eccentricity, shape), rng.uniform(0, inclination, shape)
    phase, argument, node = rng.uniform(0, 1, (3, *shape))
    half_gap = spacing / 2 * np.cbrt((planets[:, 1:] + planets[:, :-1]) / 3)
    if (half_gap >= 1).any():
        raise InputError(
            f"spacing of scenario 'planetary_system' is {spacing}; planets of mass {planet_mass} "
            f"allow less than {spacing / half_gap.max():.3g} mutual Hill radii"
        )
    ratio = np.concatenate([np.ones((n_systems, 1)), (1 + half_gap) / (1 - half_gap)], axis=1)
    a = innermost * ratio.cumprod(axis=1)
    vectors = orbit(1 + planets, a, e, phase, tilt, 360 * argument, 360 * node)
    mass = np.concatenate([np.ones((n_systems, 1)), planets], axis=1)
    position, velocity = (
        at_rest(mass, np.concatenate([np.zeros_like(x[:, :1]), x], axis=1)) for x in vectors
    )
    return _cut(mass, position, velocity, dimensions)


def few_body(
    *,
    n_systems: Count = 16,
    n_bodies: AtLeastTwo = 3,
    dimensions: Dimensions = 2,
    mass_range: PositiveRange = (1.0, 1.0),
    total_mass: Positive = 1.0,
    virial_radius: Positive = 1.0,
    virial_ratio: BelowOne = 0.5,
    seed: Seed = 0,
) -> Arrays:
    """Random bound systems, homogeneous in a disc or ball.

    At softening 0 the energy is −(1 − virial_ratio) G M²/(2 virial_radius): −1/4 by default, and
    the crossing time is 2√2.

    Parameters
    ----------
    n_systems, n_bodies, dimensions
        B, N, D.
    mass_range
        Range of relative masses, uniform; equal ones by default.
    total_mass
        M, to which the masses are scaled [M].
    virial_radius
        G M²/(2|U|) [L], to which positions are scaled.
    virial_ratio
        K/|U|, to which velocities are scaled: 0 starts at rest, 1 would be unbound.
    seed
        Of the random numbers.
    """
    rng = np.random.default_rng(seed)
    mass = rng.uniform(mass_range[0], mass_range[1], (n_systems, n_bodies))
    mass *= total_mass / mass.sum(axis=1, keepdims=True)
    shape = (n_systems, n_bodies, dimensions)
    position, velocity = np.zeros(shape), rng.normal(size=shape)
    # Pairs closer than this would start in mid-encounter; few systems are, at any N.
    closest = 0.3 * n_bodies ** (-2 / dimensions)
    redraw = np.ones(n_systems, dtype=bool)
    while redraw.any():
        count = (int(redraw.sum()), n_bodies)
        radius = rng.random((*count, 1)) ** (1 / dimensions)
        position[redraw] = radius * _directions(rng, (*count, dimensions))
        redraw = _distances(position).min(axis=1) < closest
    return _virialised(mass, position, velocity, virial_radius, virial_ratio)


def plummer(*, n_systems: Count = 1, n_bodies: AtLeastTwo = 32, seed: Seed = 0) -> Arrays:
    """Plummer spheres of equal masses in Hénon units: G = M = 1, E = −1/4, K = |U|/2.

    Every system is scaled to these values exactly, without softening.

    Parameters
    ----------
    n_systems, n_bodies
        B and N.
    seed
        Of the random numbers.

    References
    ----------
    Aarseth, Hénon & Wielen (1974), A&A 37, 183.
    """
    rng = np.random.default_rng(seed)
    shape = (n_systems, n_bodies, 3)
    # The outermost 0.1 % of the mass is left out, else one body in a thousand is far away.
    share = rng.uniform(0, 0.999, (*shape[:2], 1))
    radius = 1 / np.sqrt(share ** (-2 / 3) - 1)
    escape = np.sqrt(2) * (1 + radius**2) ** -0.25
    # g(q) ∝ q² (1 − q²)^(7/2) is a beta distribution of q².
    speed = escape * np.sqrt(rng.beta(1.5, 4.5, radius.shape))
    position, velocity = radius * _directions(rng, shape), speed * _directions(rng, shape)
    mass = np.full(shape[:2], 1 / n_bodies)
    return _virialised(mass, position, velocity, 1.0, 0.5)


def figure_eight(*, dimensions: Dimensions = 2) -> Arrays:
    """Three equal masses chasing each other on one closed curve; period 6.32591398.

    References
    ----------
    Chenciner & Montgomery (2000), Ann. Math. 152, 881; numbers by C. Simó.
    """
    return _stored("figure_eight", dimensions)


def pythagorean(*, dimensions: Dimensions = 2) -> Arrays:
    """Masses 3, 4, 5 at rest at the corners of a right-angled triangle of sides 3, 4, 5.

    Chaotic, with very close encounters; near t = 60 body 0 escapes from a binary of the others.

    References
    ----------
    Burrau (1913); Szebehely & Peters (1967), AJ 72, 876.
    """
    return _stored("pythagorean", dimensions)


def outer_solar_system() -> Arrays:
    """Sun and four outer planets [au, solar mass, year/2π], as REBOUND has them built in."""
    return _stored("outer_solar_system", 3)


def solar_system() -> Arrays:
    """Sun and eight planets [au, solar mass, year/2π], as REBOUND has them built in."""
    return _stored("solar_system", 3)


def many_encounters(*, dimensions: Dimensions = 2) -> Arrays:
    """Star and six planets of mass 1e-4 that keep meeting; from a unit test of REBOUND."""
    return _stored("many_encounters", dimensions)


@lru_cache(maxsize=1)
def _problems() -> dict[str, Any]:
    text = resources.files("nbcore.physics").joinpath("problems.toml").read_text("utf-8")
    return tomllib.loads(text)


def _stored(name: str, dimensions: int) -> Arrays:
    problem = _problems()[name]
    mass, position, velocity = (
        np.array(problem[key], dtype=float) for key in ("mass", "position", "velocity")
    )
    depth = ((0, 0), (0, dimensions - position.shape[1]))
    return mass, np.pad(position, depth), np.pad(velocity, depth)


def _logarithmic(
    rng: np.random.Generator, name: str, ends: tuple[float, float], shape: tuple[int, ...]
) -> Array:
    """Draws from a range, uniform in the logarithm; zeros where both ends are 0."""
    if ends == (0.0, 0.0):
        return np.zeros(shape)
    if ends[0] == 0:
        raise InputError(f"{name} is {ends}; give a range of positive numbers, or 0 alone")
    return np.exp(rng.uniform(np.log(ends[0]), np.log(ends[1]), shape))


def _needs_depth(inclination: float, dimensions: int) -> None:
    if dimensions == 2 and inclination != 0:
        raise InputError(
            f"inclination is {inclination} in 2 dimensions; set dimensions=3 or inclination=0"
        )


def _shared(total: float, ratio: float | Array) -> Array:
    """Masses (…, 2) of a pair; a difference from the total would lose the lighter one's digits."""
    one = np.ones_like(ratio, dtype=float)
    return total * np.stack([one, ratio], axis=-1) / (1 + np.asarray(ratio))[..., None]


def _cut(mass: Array, position: Array, velocity: Array, dimensions: int) -> Arrays:
    return mass, position[..., :dimensions], velocity[..., :dimensions]


def _directions(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    vector = rng.normal(size=shape)
    return vector / np.linalg.norm(vector, axis=-1, keepdims=True)


def _distances(position: Array) -> Array:
    i, j = np.triu_indices(position.shape[1], 1)
    return np.linalg.norm(position[:, i] - position[:, j], axis=-1)


def _virialised(
    mass: Array, position: Array, velocity: Array, radius: float, ratio: float
) -> Arrays:
    """Scale to virial radius M²/(2|U|) and K/|U| = ratio, about the centre of mass (G = 1)."""
    position, velocity = at_rest(mass, position), at_rest(mass, velocity)
    i, j = np.triu_indices(mass.shape[1], 1)
    target = mass.sum(axis=1) ** 2 / (2 * radius)
    U = (mass[:, i] * mass[:, j] / _distances(position)).sum(axis=1)
    K = 0.5 * (mass[..., None] * velocity**2).sum(axis=(1, 2))
    stretch, speed = U / target, np.sqrt(ratio * target / K)
    return mass, position * stretch[:, None, None], velocity * speed[:, None, None]


SCENARIOS: dict[str, Callable[..., Arrays]] = {
    "kepler": kepler,
    "kepler_orbits": kepler_orbits,
    "hierarchical_triple": hierarchical_triple,
    "hierarchies": hierarchies,
    "planetary_system": planetary_system,
    "few_body": few_body,
    "plummer": plummer,
    "figure_eight": figure_eight,
    "pythagorean": pythagorean,
    "outer_solar_system": outer_solar_system,
    "solar_system": solar_system,
    "many_encounters": many_encounters,
}
