"""What steps of gbs cost that are chosen by other means than its own controller.

    python -m nbcore.analysis.step_choices [SYSTEMS]

makes runs of families that nothing was fitted to with

- the controller of `Extrapolation`: the next step by the estimated error of the last;
- a digital filter of the last two errors (Söderlind 2003, ACM Trans. Math. Softw. 29, 1);
- a law learned from labels, the longest step that errs by what is allowed, with features of the
  state: classical time scales over the last step, and how the closest pairs move; a quadratic form
  of them, fitted to the families of configs/default_budget.toml;
- an oracle: the longest step that is accepted, found by trying, which costs it nothing.

Printed are evaluations over those of the controller, at equal errors of the positions at the end,
and, to be compared with what others publish, at equal tolerances; and steps that were made anew.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nbcore.analysis.families import position_errors, problem
from nbcore.config import load_config
from nbcore.learning.systems import Problem, training_problems
from nbcore.physics.arrays import to_numpy
from nbcore.physics.extrapolation import Extrapolation
from nbcore.physics.state import State
from nbcore.simulation.simulate import simulate
from nbcore.stepping.criteria import get_criterion
from nbcore.stepping.features import Measures, expand_names, state_features
from nbcore.stepping.policies import OwnStep

__all__ = ["FAMILIES", "Ladder", "Seen", "StepLaw", "beside", "fitted", "main", "run_by"]

Array = NDArray[np.float64]

FAMILIES = (
    *("two_body_e90", "two_body_massless", "kozai_triple", "comets_short", "moons_short"),
    *("three_body_planar_short", "three_body_spatial_short", "three_body_from_rest_short"),
    *("planets_close_short", "five_body_short", "eight_body_short"),
)
TOLERANCES = tuple(10.0**-k for k in range(3, 11))
ERRORS = tuple(10.0**-k for k in range(3, 10))  # at which costs are compared
SCALES = ("boekholt", "free_fall", "tidal", "prs23", "zemp", "huayno")  # criteria
SCHEME = Extrapolation()
COLUMNS = 7
ORDER = 2 * COLUMNS - 1  # of the estimate
EACH = COLUMNS * (COLUMNS + 1)  # evaluations of a step
TRUE = 1e-13  # tolerance of what positions are compared with
LEAST_SEEN = 1e-4  # error of a step, in what it may err by, that still tells how long it may be
LARGEST = 8.0  # features, beyond which they are cut off
RIDGE = 1e-4
EVERY = 4  # systems, of which one is fitted to
SHRINKS, GROWS = 0.2, 4.0
MARGIN = 0.15  # of the logarithm of a step: what learned ones are shorter by
TRIES, FARTHER = 9, 1.35  # of the oracle
FILTER = (0.25, 0.25, 0.25)  # H211b with b = 4
SAFETY = 0.8  # of its steps


class Seen(NamedTuple):
    """What the next step is chosen by, (B,) each.

    Attributes
    ----------
    state
        Where it begins.
    ds, error
        The last step, and its error over what it may err by.
    before
        The same of the step before; None at first.
    ahead
        What the controller proposes.
    aim
        What a step may err by.
    """

    state: State
    ds: Array
    error: Array
    before: tuple[Array, Array] | None
    ahead: Array
    aim: Array


Rule = Callable[[Seen], Array]


class Run(NamedTuple):
    """A run: where it ends, and evaluations (B,); what was seen after each step."""

    state: State
    evaluations: Array
    steps: Array
    seen: list[Seen]


def controller(seen: Seen) -> Array:
    """Next step by the error of the last."""
    return seen.ahead


def digital_filter(seen: Seen) -> Array:
    """Next step by the errors of the last two."""
    error = np.maximum(seen.error, LEAST_SEEN) / SAFETY**ORDER
    if seen.before is None:
        return seen.ds * np.clip(error ** (-1 / ORDER), SHRINKS, GROWS)
    ds, last = seen.before
    last = np.maximum(last, LEAST_SEEN) / SAFETY**ORDER
    b1, b2, a = FILTER
    factor = error ** (-b1 / ORDER) * last ** (-b2 / ORDER) * (seen.ds / ds) ** -a
    return seen.ds * np.clip(factor, SHRINKS, GROWS)


class StepLaw:
    """Next step by features of the state where it begins."""

    def __init__(self, weights: Array) -> None:
        self.weights = weights

    def __call__(self, seen: Seen) -> Array:
        """Steps in s, (B,)."""
        change = np.clip(designed(seen) @ self.weights - MARGIN, np.log(SHRINKS), np.log(GROWS))
        return np.exp(longest(seen) + change)


def longest(seen: Seen) -> Array:
    """Logarithm of what the last step might have been."""
    return np.log(seen.ds) - np.log(np.maximum(seen.error, LEAST_SEEN)) / ORDER


def designed(seen: Seen) -> Array:
    """Features of a quadratic form, (B, F)."""
    state, rate, last = seen.state, SCHEME.clock.rate(seen.state), longest(seen)
    scales = [np.log(rate * get_criterion(name).time_scale(state)) for name in SCALES]
    reached = last - np.log(seen.aim) / ORDER
    names, _ = expand_names(["pairs"], 0)
    shape = state_features(names, Measures(state))
    rows = np.stack([*(scale - reached for scale in scales), *shape.T], axis=1)
    rows = np.clip(np.nan_to_num(rows), -LARGEST, LARGEST)
    i, j = np.triu_indices(rows.shape[1])
    return np.concatenate([np.ones((len(rows), 1)), rows, rows[:, i] * rows[:, j]], axis=1)


@np.errstate(all="ignore")  # systems that have ended make no step
def fitted(problems: list[Problem], tolerances: tuple[float, ...]) -> StepLaw:
    """Law of steps, by ridge regression on the steps of the controller's runs."""
    rows, labels = [], []
    for at in problems:
        for tolerance in tolerances:
            seen = run_by(controller, at, tolerance).seen
            for one, other in pairwise(seen):
                goes = (one.error > LEAST_SEEN) & (other.error > LEAST_SEEN)
                rows.append(designed(one)[goes])
                labels.append((longest(other) - longest(one))[goes])
    X, y = np.concatenate(rows), np.concatenate(labels)
    known = np.isfinite(X).all(axis=1) & np.isfinite(y)
    X, y = X[known], y[known]
    weights = np.linalg.solve(X.T @ X + RIDGE * len(X) * np.eye(X.shape[1]), X.T @ y)
    return StepLaw(np.asarray(weights, np.float64))


@np.errstate(all="ignore")
def run_by(rule: Rule | None, at: Problem, tolerance: float) -> Run:
    """Run systems to their end with steps by a rule; None is the oracle, who tries for nothing."""
    state, end = at.state.replace(acceleration=None, jerk=None), to_numpy(at.t_end)
    each = np.full(len(end), tolerance)
    aim = SCHEME.aim(each)
    ds = OwnStep()(state, each) * SCHEME.reach(aim, each)
    evaluations, steps, seen = np.zeros(len(end)), np.zeros(len(end)), []
    before = None
    while ((remaining := end - state.time) > 0).any():
        free = rule is None
        if free:
            ds = _longest_accepted(state, ds, remaining, each)
        made = SCHEME.advance(state, ds, remaining, each)
        goes = made.dt > 0
        last = made.dt == remaining
        steps += goes
        # Of what a last step takes, to end where it should, is no choice.
        evaluations += np.where(free & ~last, EACH * goes, made.evaluations)
        assert made.error is not None
        error = np.maximum(made.error / aim, 1e-30)
        told = Seen(made.after, made.used, error, before, made.ds, aim)
        seen.append(told._replace(error=np.where(goes & ~last, error, 0.0)))
        before = made.used, error
        chosen = made.ds if rule is None else rule(told)
        state, ds = made.after, np.where(np.isfinite(chosen) & goes, chosen, made.ds)
    return Run(state, evaluations, steps, seen)


def _longest_accepted(state: State, ds: Array, remaining: Array, tolerance: Array) -> Array:
    """Longest step that is accepted as it is, (B,), to within a few in a hundred."""
    low, high, tried = 0 * ds, np.full_like(ds, np.inf), ds
    far = np.where(remaining > 0, 1e9 * np.abs(remaining), remaining)
    made = None
    for _ in range(TRIES):
        made = SCHEME.advance(state, tried, far, tolerance)
        accepted = made.evaluations <= EACH
        low = np.where(accepted, np.maximum(low, tried), low)
        high = np.where(accepted, high, np.minimum(high, tried))
        between = np.where(low > 0, np.sqrt(low * high), made.used)
        tried = np.where(np.isinf(high), FARTHER * tried, between)
    assert made is not None
    return np.where(low > 0, low, made.used)


def training() -> list[Problem]:
    """Systems that a law of steps is fitted to."""
    some = (
        at.select(slice(None, None, EVERY))
        for at in training_problems(load_config("default_budget").train)
    )
    return [Problem(at.state.numpy(), to_numpy(at.t_end)) for at in some]


def main(n_systems: int) -> None:
    """Print a line for each family and rule."""
    rules: dict[str, Rule | None] = {
        "controller": controller,
        "filter": digital_filter,
        "learned": fitted(training(), TOLERANCES[1::2]),
        "oracle": None,
    }
    print("evaluations over those of the controller at equal errors, median; at equal tolerances;")
    print("steps made anew, of all")
    every: dict[str, list[tuple[float, float, float]]] = {name: [] for name in rules}
    for family in FAMILIES:
        at = problem(family, "held_out", n_systems)
        at = Problem(at.state.numpy(), to_numpy(at.t_end))
        truth = simulate(at.state, at.t_end, integrator="gbs", tolerance=TRUE, record="ends").final
        found = {name: _ladder(rule, at, truth.position) for name, rule in rules.items()}
        base = found["controller"]
        words = []
        for name, ladder in found.items():
            every[name].append(beside(ladder, base))
            words.append(f"{name} " + " ".join(f"{value:.2f}" for value in every[name][-1]))
        print(f"{family:28}" + "   ".join(words), flush=True)
    medians = (
        f"{name} " + " ".join(f"{value:.2f}" for value in np.nanmedian(rows, axis=0))
        for name, rows in every.items()
    )
    print(f"{'median':28}" + "   ".join(medians))


class Ladder(NamedTuple):
    """Runs of a rule from loose to strict, (tolerances,): medians over the systems."""

    error: Array
    evaluations: Array
    anew: Array


def _ladder(rule: Rule | None, at: Problem, truth: Array) -> Ladder:
    rungs = []
    for tolerance in TOLERANCES:
        run = run_by(rule, at, tolerance)
        error = np.nanmedian(position_errors(run.state.position, truth))
        evaluations = np.exp(np.log(run.evaluations).mean())
        rungs.append((error, evaluations, np.mean(run.evaluations / (EACH * run.steps) - 1)))
    return Ladder(*np.array(rungs).T)


def beside(ladder: Ladder, base: Ladder) -> tuple[float, float, float]:
    """Cost over that of another ladder at equal errors, and at equal tolerances; and anew."""
    lines = []
    for each in (ladder, base):
        order = np.argsort(each.error)
        lines.append((np.log(each.error[order]), np.log(each.evaluations[order])))
    (mine, cost), (theirs, beside) = lines
    low, high = max(mine[0], theirs[0]), min(mine[-1], theirs[-1])
    at = [x for x in np.log(ERRORS) if low <= x <= high]
    equal = np.exp(np.interp(at, mine, cost) - np.interp(at, theirs, beside))
    same = np.exp(np.mean(np.log(ladder.evaluations / base.evaluations)))
    return float(np.mean(equal)) if at else np.nan, float(same), float(np.mean(ladder.anew))


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 8)
