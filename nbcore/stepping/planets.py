"""The equal steps of planets, from the tolerance.

A step is f of `pericentre_period`, and f the largest at which no body's orbit is expected to be
off by more than the tolerance at any time of the run. The energy is off by no more. What is
expected is made of four terms, from what an `Outlook` knows at the start:

- without the corrector, what its first term changes orbits by, as f²; on long runs more, where
  others change an orbit much, for what errs in phase are their places, too;
- with it, what the lazy implementer's kick changes orbits by, as f², growing with time;
- with that kick, the same as f⁴;
- always, what comes of too few steps from one alignment or pericentre to the next: body by body
  that first term at f = steepness, times (1 + x) exp(−x) with x = steepness/f; and what steps miss
  of passages of planets whose orbits cross. It limits f where tolerances are loose.

The constants are such that 9 of 10 runs keep the tolerance. `python -m
nbcore.analysis.planet_steps` measures them, and what comes of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from nbcore.physics.arrays import PerSystem, beside, namespace, to_numpy
from nbcore.physics.elementwise import TINY
from nbcore.physics.orbits import orbital_period, pericentre_distance
from nbcore.physics.state import State
from nbcore.physics.wisdom_holman import SETTINGS, WisdomHolman, about_star, jacobi_order
from nbcore.stepping.encounters import nearest, neighbours, unseen
from nbcore.stepping.outlook import Outlook, look_ahead
from nbcore.stepping.policies import FixedStep, OwnStep, Policy

__all__ = ["PlanetSteps", "bound", "expected_error", "limits_of", "longest_step", "too_few"]

Array = NDArray[np.float64]

BOUNDARY, COUPLED = 2.8, 0.3
SECOND, FOURTH, GROWTH = 5.0, 9.0, 50.0  # the last one in periods
FEW_STEPS, SPREAD, PASSED = 7.0, 30.0, 1.0  # the middle one in periods, too
NEVER = 100.0  # exponents from which on nothing is missed
# The corrector diverges beyond about 0.15. Without it errors are within four times what is expected
# up to 0.5 in most systems, and within twelve in all that were measured.
LONGEST = {"plain": 0.4, "corrected": 0.12, "lazy": 0.12}
PERICENTRES = 0.9  # of its first pericentre, nearer than which a planet may come to the star
# Microseconds of a step for each body, and of one of extrapolation for each pair; and how many of
# the latter an orbit takes.
STEP, EXTRAPOLATED, A_PERIOD = 0.02, 0.11, 4.0
SHORTEST = 0.002  # for tolerances that are out of reach
HALVINGS = 17  # which leave 4e-5 of f
ENDLESS = 1000.0  # periods that a run without an end is taken for
# Costs in plain steps: of one step, and of the corrector, which comes once at each end of a run and
# twice where a run is looked at in between.
WORK = {"plain": 1.0, "corrected": 1.0, "lazy": 1.4}
CORRECTION, STEPS_TO_LOOK = 130.0, 1024.0


@dataclass(frozen=True, eq=False)
class PlanetSteps(FixedStep):
    """Equal steps of a run of planets.

    Attributes
    ----------
    rule
        What chose them: own steps, or a fixed one.
    outlook
        What was known of the planets at the start.
    are_dear
        (B,) whether they are so short that extrapolation costs less.
    """

    rule: Policy = field(default_factory=OwnStep)
    outlook: Outlook | None = None
    are_dear: NDArray[np.bool_] | None = None


def bound(
    scheme: WisdomHolman, policy: Policy, state: State, t_end: PerSystem, tolerance: PerSystem
) -> tuple[WisdomHolman, PlanetSteps]:
    """Splitting with its setting and the order of the bodies, and the equal steps of a run.

    Parameters
    ----------
    scheme
        Of whose setting None the one is chosen that costs all systems least.
    policy
        `OwnStep` for steps by the tolerance; of others the first step is taken.
    state
        Where the run begins, of NumPy arrays.
    t_end
        (B,) [T]; of a run that ends, steps are a whole number.
    tolerance
        (B,).

    Notes
    -----
    On 1472 runs of systems that nothing here was fitted to (`python -m
    nbcore.analysis.planet_steps`), at tolerances of 1e-3 to 1e-10, of 15 to 1000 periods, the
    largest true error of a body's orbit was 0.24 tolerances in the median, at most 1 in 90 % and at
    most 10 in 99 %. Errors of close planets and of comets grow faster than is expected here over
    1000 periods and more: to 10 and, seldom, to 300 tolerances.
    """
    state, like = state.numpy(), state.time
    t_end, tolerance = to_numpy(t_end), to_numpy(tolerance)
    order = jacobi_order(state)
    outlook = look_ahead(state, order, t_end, ENDLESS)
    are_dear = np.zeros(len(order), dtype=bool)
    if isinstance(policy, OwnStep):
        setting, dt, most = _by_tolerance(scheme, outlook, tolerance)
        are_dear = cost_more(state, order, t_end, most * outlook.period)
    else:
        setting, dt = (
            scheme.setting or "corrected",
            to_numpy(policy(state, tolerance, policy.begin(state))),
        )
    span = t_end - state.time
    ends = np.isfinite(span)
    count = np.ceil(np.where(ends, span, dt) / dt * (1 - 1e-12)).clip(min=1)
    dt = np.where(ends, span / count, dt)
    index = namespace(like).asarray(order, device=like.device)
    steps = PlanetSteps(beside(dt, like), policy, outlook, are_dear)
    return replace(scheme, setting=setting, bodies=index), steps


def _by_tolerance(
    scheme: WisdomHolman, outlook: Outlook, tolerance: Array
) -> tuple[str, Array, Array]:
    """Setting and steps (B,) [T] that cost least; and the longest of any setting, as f (B,)."""
    names = SETTINGS if scheme.setting is None else (scheme.setting,)
    steps = {name: longest_step(name, outlook, tolerance) for name in names}
    cost = {name: _cost(name, outlook.periods / f).sum() for name, f in steps.items()}
    setting = min(names, key=cost.__getitem__)
    return setting, steps[setting] * outlook.period, np.max(list(steps.values()), axis=0)


def cost_more(
    state: State, order: NDArray[np.int64], t_end: PerSystem, dt: Array
) -> NDArray[np.bool_]:
    """Whether equal steps of dt (B,) cost more than extrapolation would, (B,).

    They are as short as the smallest pericentre asks for, all the time.
    """
    return relative_cost(state, order, t_end, dt) > 1


def relative_cost(state: State, order: NDArray[np.int64], t_end: PerSystem, dt: Array) -> Array:
    """Cost of equal steps of dt (B,) over that of extrapolation, roughly, (B,)."""
    star, (R, V) = order[:, :1], about_star(state, order)
    mass = state.G * (state.mass + np.take_along_axis(state.mass, star, axis=1))
    rate = 1 / orbital_period(mass, R, V)
    shortest = 1 / np.maximum(rate.max(axis=1), TINY)
    span = np.where(np.isfinite(t_end), t_end - state.time, shortest)
    turns = span * rate.sum(axis=1) + state.n_bodies
    pairs = state.n_bodies * (state.n_bodies - 1) / 2
    ours = STEP * state.n_bodies * span / np.maximum(dt, TINY)
    return ours / (EXTRAPOLATED * pairs * A_PERIOD * turns)


def _cost(setting: str, n_steps: Array) -> Array:
    if setting == "plain":
        return n_steps
    return CORRECTION + n_steps * (WORK[setting] + CORRECTION / STEPS_TO_LOOK)


def longest_step(setting: str, outlook: Outlook, tolerance: Array) -> Array:
    """Largest f (B,), steps over `pericentre_period`, by which the tolerance (B,) is kept.

    It is at least `SHORTEST`, and at most as in `LONGEST`.
    """
    low = np.full_like(outlook.period, np.log(SHORTEST))
    high = np.full_like(low, np.log(LONGEST[setting]))
    keeps = expected_error(setting, outlook, np.exp(high)) <= tolerance
    low = np.where(keeps, high, low)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        keeps = expected_error(setting, outlook, np.exp(middle)) <= tolerance
        low, high = np.where(keeps, middle, low), np.where(keeps, high, middle)
    return np.exp(low)


def expected_error(setting: str, outlook: Outlook, f: Array) -> Array:
    """Largest error (B,) of a body's orbit in a run, which only 1 of 10 regular ones exceeds.

    Parameters
    ----------
    setting
        A name in `SETTINGS`.
    f
        (B,) steps over `pericentre_period`.
    """
    periods = outlook.periods
    regular, passages = too_few(outlook, f)
    few = np.maximum(FEW_STEPS * regular, PASSED * passages)
    if setting == "plain":
        return few + BOUNDARY * outlook.boundary * f**2 * (1 + COUPLED * outlook.coupling * periods)
    growth = outlook.second * (1 + periods / GROWTH)
    return few + growth * (FOURTH * f**4 if setting == "lazy" else SECOND * f**2)


def too_few(outlook: Outlook, f: Array) -> tuple[Array, Array]:
    """What comes of too few steps, (B,) each without its constant: regularly, and by passages.

    Parameters
    ----------
    f
        (B,) steps over `pericentre_period`.
    """
    f, periods = f[:, None], outlook.periods[:, None]
    x = np.minimum(outlook.steepness / f, NEVER)
    own = outlook.boundaries * (x * f) ** 2  # at steps that are as long as the force is steep
    regular = (own * (1 + x) * np.exp(-x) * (1 + periods / SPREAD)).max(axis=1)
    if not outlook.turns.any():
        return regular, 0 * regular
    return regular, (outlook.turns * unseen(np.minimum(outlook.passing / f, NEVER))).max(axis=1)


def limits_of(
    scheme: WisdomHolman, state: State, dt: PerSystem, tolerance: PerSystem, least: float = 0.0
) -> tuple[Array, Array]:
    """Distances of planets from each other and from the star, nearer than which steps don't hold.

    Parameters
    ----------
    scheme
        That knows its setting and the order of the bodies.
    state
        Of NumPy arrays.
    dt, tolerance
        (B,) [T], (B,).
    least
        Distance that is to be noticed anyhow [L], also of a body that passes it within a step.

    Returns
    -------
    (B, N − 1, N − 1) and (B, N − 1) [L], planets in that order.
    """
    order = to_numpy(scheme.bodies)
    pair = neighbours(state, order)
    n = order.shape[1] - 1
    apart = np.zeros((len(dt), n, n))
    apart[:, pair.first, pair.second] = nearest(
        pair, dt, tolerance, scheme.setting == "lazy", least
    )
    mass = state.G * np.take_along_axis(state.mass, order, axis=1)
    q = np.take_along_axis(pericentre_distance(state), order, axis=1)[:, 1:]
    most = dt / (2 * np.pi * LONGEST[scheme.setting or "plain"])
    mu = mass[:, :1] + mass[:, 1:]
    needed = np.minimum(np.cbrt(mu * most[:, None] ** 2), PERICENTRES * q)
    if least > 0:
        # As far out as a step that leads there may begin: farther in it would be faster.
        bodies = order[:, 1:, None]
        R, V = (np.take_along_axis(each, bodies, axis=1) for each in about_star(state, order))
        r = np.sqrt((R * R).sum(axis=2))
        speed2 = (V * V).sum(axis=2) + 2 * mu * (1 / least - 1 / r)
        reach = least + np.sqrt(np.maximum(speed2, 0.0)) * dt[:, None]
        needed = np.maximum(needed, np.where(q < least, reach, least))
    return np.maximum(apart, apart.transpose(0, 2, 1)), needed
