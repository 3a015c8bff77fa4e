"""What the method that `integrator="auto"` takes costs beside the best, at equal errors, measured.

`python -m nbcore.analysis.choices [FAMILY …] [--systems N] [--columns]` runs extrapolation, Wisdom
and Holman's steps and the shipped policies on held-out systems of the families, at tolerances from
1e-2 to 1e-12. For each family and error, the largest of the energy and of any body's orbit, it
prints the CPU time of the best of them, what "auto" takes at that tolerance, and the cost of that
over the best; then the median, the mean, the worst and the share of at most 1.10. With `--columns`
the methods are extrapolations of 5 to 8 columns, and "auto" the number that the tolerance chooses.

Times are of steps, without what a call does before its first one. A method that does not reach an
error has no cost there, and a family that no method reaches it on is left out. Systems that
Wisdom and Holman's steps hand over at the start are extrapolation under another name.
"""

from __future__ import annotations

import argparse
import math
import warnings
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nbcore.analysis.families import FAMILIES, problem
from nbcore.analysis.frontiers import LEVELS, cost_of
from nbcore.analysis.methods import Method
from nbcore.analysis.timing import on_threads
from nbcore.analysis.work_precision import Row, measured_on
from nbcore.learning.systems import Problem
from nbcore.physics.arrays import to_numpy
from nbcore.physics.extrapolation import Extrapolation
from nbcore.simulation.choice import method
from nbcore.simulation.status import Status

__all__ = ["COLUMNS", "METHODS", "Judged", "costs_of", "judged", "rows_on", "summary"]

Array = NDArray[np.float64]

LADDER = tuple(np.geomspace(1e-2, 1e-12, 11).tolist())
ROUNDED = 5e-12  # tolerance below which a method makes further evaluations that rounding asks for
MOST_EVALUATIONS = 400_000
REPEATS = 5
NEAR = 1.10  # times the best, that count as the best
SHIPPED, EXTRAPOLATION, PLANETS = "shipped", "gbs", "wisdom_holman"


class Judged(NamedTuple):
    """One family at one error.

    Attributes
    ----------
    costs
        CPU seconds of a system, of the methods that reach the error; medians over the systems.
    taken
        What "auto" takes.
    """

    family: str
    error: float
    costs: Mapping[str, float]
    taken: str

    @property
    def best(self) -> str:
        """The method that costs least."""
        return min(self.costs, key=self.costs.__getitem__)

    @property
    def ratio(self) -> float:
        """Cost of what is taken over the least; infinite where that does not reach the error."""
        return self.costs.get(self.taken, math.inf) / self.costs[self.best]


def rows_on(at: Problem, methods: Iterable[Method], repeats: int = REPEATS) -> list[Row]:
    """Runs of the methods at all tolerances, a row for each system; see `measured_on`."""
    rows = measured_on(at, methods, MOST_EVALUATIONS, repeats)
    return [row for row in rows if row["method"] not in _others(rows)]


def costs_of(rows: Iterable[Row], errors: Iterable[float] = LEVELS) -> dict[str, Array]:
    """CPU seconds at each error, NaN where it is not reached, of each method.

    An evaluation counts as what it takes a method at all tolerances, in the median: steps of short
    runs, less what goes before them, are too few to be timed one by one.
    """
    methods: dict[str, dict[float, list[Row]]] = {}
    for row in rows:
        methods.setdefault(row["method"], {}).setdefault(row["setting"], []).append(row)
    found = dict[str, Array]()
    for name, settings in methods.items():
        each = _seconds_each(settings)
        points = [
            (_middle(_error(row) for row in runs), each * _middle(_work(row) for row in runs))
            for runs in settings.values()
        ]
        error, cost = np.array(
            [point for point in points if np.isfinite(point).all()] or [(1, 1)]
        ).T
        found[name] = np.array([cost_of(error, cost, wanted) for wanted in errors])
    return found


def judged(family: str, costs: Mapping[str, Array], taken: Iterable[str]) -> list[Judged]:
    """What was taken beside the best at each of LEVELS that any method reaches."""
    made = list[Judged]()
    for k, (error, name) in enumerate(zip(LEVELS, taken, strict=True)):
        reached = {each: float(cost[k]) for each, cost in costs.items() if np.isfinite(cost[k])}
        if reached:
            made.append(Judged(family, error, reached, name))
    return made


def summary(found: Iterable[Judged]) -> str:
    """Median, mean, worst, and share of the ratios that are at most `NEAR`."""
    ratios = np.array([each.ratio for each in found])
    return (
        f"cost over the best: median {np.median(ratios):.2f}, mean {ratios.mean():.3f}, "
        f"worst {ratios.max():.2f}, "
        f"at most {NEAR:.2f} in {np.mean(ratios <= NEAR):.0%} of {len(ratios)}"
    )


def taken_by_auto(at: Problem, names: Iterable[str]) -> list[str]:
    """What "auto" takes at each of LEVELS; of what is handed over, whom it is handed to."""
    state, t_end, names = at.state.numpy(), to_numpy(at.t_end), list(names)
    taken = (method(state, t_end, error) or SHIPPED for error in LEVELS)
    return [EXTRAPOLATION if name == PLANETS not in names else name for name in taken]


def main() -> None:
    """Print a line for each family and error, and the summary."""
    words = argparse.ArgumentParser(prog="python -m nbcore.analysis.choices")
    words.add_argument("families", nargs="*", metavar="FAMILY", help=f"of {', '.join(FAMILIES)}")
    words.add_argument("--systems", type=int, default=8, help="of each family")
    words.add_argument("--seed", type=int, default=0, help="of the systems")
    words.add_argument("--columns", action="store_true", help="of extrapolation, instead")
    asked = words.parse_args()
    every = list[Judged]()
    methods = COLUMNS if asked.columns else METHODS
    with warnings.catch_warnings(), on_threads(1):
        warnings.simplefilter("ignore")
        for family in asked.families or FAMILIES:
            at = problem(family, "held_out", asked.systems, asked.seed)
            costs = costs_of(rows_on(at, methods))
            taken = [BY_TOLERANCE] * len(LEVELS) if asked.columns else taken_by_auto(at, costs)
            for each in judged(family, costs, taken):
                every.append(each)
                print(_line(each), flush=True)
    print(summary(every))


def _line(each: Judged) -> str:
    best = each.costs[each.best]
    others = ", ".join(f"{name} {cost / best:.2f}" for name, cost in each.costs.items())
    return (
        f"{each.family:26} {each.error:.0e}  {each.best:13} {best * 1e6:9.0f} µs  "
        f"auto {each.taken:13} {each.ratio:6.2f}  ({others})"
    )


def _others(rows: Iterable[Row]) -> set[str]:
    """Names of methods that are others in most runs."""
    errors: dict[str, dict[tuple[float, int], float]] = {}
    for row in rows:
        errors.setdefault(row["method"], {})[row["setting"], row["system"]] = _error(row)
    own, plain = errors.get(PLANETS, {}), errors.get(EXTRAPOLATION, {})
    same = [plain.get(run) == error for run, error in own.items()]
    return {PLANETS} if same and np.mean(same) > 0.5 else set()


def _seconds_each(settings: Mapping[float, list[Row]]) -> float:
    """Seconds of an evaluation, the median over all evaluations."""
    work, seconds = np.array(
        [
            [sum(row[column] for row in runs) for runs in settings.values()]
            for column in ("n_force_evaluations", "cpu_seconds")
        ]
    )
    work = np.where(np.array(list(settings)) > ROUNDED, work, 0)
    each = seconds / np.maximum(work, 1)
    order = np.argsort(each)
    total = work[order].cumsum()
    return float(each[order][np.searchsorted(total, total[-1] / 2)])


def _error(row: Row) -> float:
    lost = row["status"] != Status.SUCCESS.name
    return math.inf if lost else float(np.fmax(row["max_energy_error"], row["max_body_error"]))


def _work(row: Row) -> float:
    return row["n_force_evaluations"] if row["status"] == Status.SUCCESS.name else math.inf


def _middle(values: Iterable[float]) -> float:
    """Median that is one of the values, of which some may be infinite."""
    return float(np.quantile(np.array(list(values)), 0.5, method="inverted_cdf"))


def _own_steps(setting: float, state: Any, t_end: Any) -> None:
    """No policy: the run chooses its steps."""


def _by_tolerance(rule: str, integrator: Any) -> Method:
    return Method(rule, "adaptive", integrator, "", LADDER, _own_steps)


BY_TOLERANCE = EXTRAPOLATION
METHODS = (
    _by_tolerance("", EXTRAPOLATION),
    _by_tolerance("", PLANETS),
    _by_tolerance(SHIPPED, ""),
)
COLUMNS = (
    _by_tolerance("", EXTRAPOLATION),
    *(_by_tolerance("", Extrapolation(columns=K)) for K in (5, 6, 7, 8)),
)


if __name__ == "__main__":
    main()
