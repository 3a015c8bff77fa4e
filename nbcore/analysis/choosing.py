"""The laws by which "auto" chooses a method, learned from what methods cost on other systems.

`python -m nbcore.analysis.choosing FILE` runs extrapolation, Wisdom and Holman's steps and the
shipped policies on the systems of `groups`: those that the shipped policies were trained on, and
variations of them with 2 to 96 bodies; none is of a family of the benchmark. FILE keeps what is
measured, a line a group, so that a second call goes on with it. Ridge regression, which weighs
those costs most that are near each other, makes `stepping/pretrained/choice.json`. What choices
cost over the best is printed for groups that are left out of the fit by turns, and for all.
"""

from __future__ import annotations

import argparse
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nbcore.analysis.choices import METHODS, Judged, costs_of, rows_on, summary
from nbcore.analysis.timing import on_threads, stamp
from nbcore.config import FamilyConfig
from nbcore.jsonfiles import append_line, read_lines, write_json
from nbcore.learning.systems import Problem
from nbcore.physics import scenarios
from nbcore.simulation.choice import EXTRAPOLATION, PLANETS, Seen, chosen, seen
from nbcore.simulation.setup import initial_state
from nbcore.stepping.choosing import FILE, LAWS, Law, stacked

__all__ = ["ERRORS", "Point", "fitted", "groups", "points_of", "problem_of"]

Array = NDArray[np.float64]
Kind = tuple[str, float, dict[str, Any]]

ERRORS = (1e-3, 3e-4, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-11)
REPEATS = 2
SEED = 1000  # of the first group
RIDGE = 0.02  # of the weights' sum
NEAR = 0.3  # decades, beyond which costs differ so much that the choice is clear
FOLDS = 8
ENOUGH_PLANETS = 3  # bodies from which the law of equal steps is learned


class Point(NamedTuple):
    """One group at one error.

    Attributes
    ----------
    costs
        CPU seconds of a system, of the methods that reach the error.
    """

    group: str
    error: float
    costs: Mapping[str, float]
    seen: Seen


def problem_of(group: FamilyConfig) -> Problem:
    """Systems of a group."""
    state = initial_state(group)
    length = group.t_end
    if length is None:
        length = (group.periods or math.nan) * scenarios.two_body_period(state)
    return Problem(state, state.time + length)


def points_of(group: FamilyConfig, costs: Mapping[str, Sequence[float]]) -> list[Point]:
    """A group at all ERRORS, with what its methods cost there."""
    at, made = problem_of(group), list[Point]()
    for k, error in enumerate(ERRORS):
        known = {name: float(cost[k]) for name, cost in costs.items() if np.isfinite(cost[k])}
        if at.state.n_bodies < ENOUGH_PLANETS:
            known.pop(PLANETS, None)
        if known:
            made.append(Point(str(group), error, known, seen(at.state, at.t_end, error)))
    return made


def fitted(points: Iterable[Point]) -> dict[str, Law]:
    """Laws of what methods cost over extrapolation."""
    return {name: _law(name, list(points)) for name in LAWS}


def ratios(points: Iterable[Point], laws: Mapping[str, Law]) -> list[Judged]:
    """What the choice by such laws costs beside the best."""
    made = list[Judged]()
    for point in points:
        name = chosen(point.seen, laws)
        if name == PLANETS not in point.costs:  # it hands over at the start
            name = EXTRAPOLATION
        made.append(Judged(point.group, point.error, point.costs, name))
    return made


def left_out(points: Sequence[Point]) -> list[Judged]:
    """Likewise, each group by laws that it was left out of."""
    names, made = sorted({point.group for point in points}), list[Judged]()
    for fold in range(FOLDS):
        out = set(names[fold::FOLDS])
        laws = fitted([point for point in points if point.group not in out])
        made += ratios([point for point in points if point.group in out], laws)
    return made


def measured(path: str) -> list[Point]:
    """Points of all groups, those that are not in the file yet measured and added to it."""
    known = {row["group"]: row["costs"] for row in read_lines(path)}
    points = list[Point]()
    for group in groups():
        name = str(group)
        if name not in known:
            costs = costs_of(rows_on(problem_of(group), METHODS, REPEATS), ERRORS)
            append_line(path, {"group": name, "costs": costs})
            known[name] = costs
        points += points_of(group, known[name])
        print(f"{len(points):4} {name}", flush=True)
    return points


def main() -> None:
    """Measure, fit, and write the laws."""
    words = argparse.ArgumentParser(prog="python -m nbcore.analysis.choosing")
    words.add_argument("file", help="of what is measured, *.jsonl")
    asked = words.parse_args()
    with warnings.catch_warnings(), on_threads(1):
        warnings.simplefilter("ignore")
        points = measured(asked.file)
    laws = fitted(points)
    apart, fit = summary(left_out(points)), summary(ratios(points, laws))
    print(f"groups left out by turns: {apart}\nall groups: {fit}")
    about = {
        "made_by": "python -m nbcore.analysis.choosing",
        "groups": len({point.group for point in points}),
        "left_out_by_turns": apart,
        "all_groups": fit,
        **stamp(),
    }
    write_json(FILE, {"about": about, "laws": {name: _plain(name, laws[name]) for name in laws}})


def _plain(name: str, law: Law) -> dict[str, Any]:
    """A law as it is written: the bounds of its numbers, by their names, and its coefficients."""
    bounds = zip(law.low, law.high, strict=True)
    return {
        "numbers": dict(zip(LAWS[name], bounds, strict=True)),
        "coefficients": law.coefficients,
    }


def _law(name: str, points: Sequence[Point]) -> Law:
    numbers, costs = list[Array](), list[float]()
    for point in points:
        if not {name, EXTRAPOLATION} <= set(point.costs):
            continue
        counts = point.seen.apart if name == PLANETS else np.ones_like(point.seen.apart)
        if counts.mean() < 0.5:
            continue
        numbers.append(np.median(stacked(name, point.seen.numbers)[counts], axis=0))
        costs.append(math.log10(point.costs[name] / point.costs[EXTRAPOLATION]))
    x, y = np.array(numbers), np.array(costs)
    law = Law(x.min(axis=0), x.max(axis=0), np.zeros(0))
    terms, weight = law.terms(x), 1 / (1 + (y / NEAR) ** 2)
    ridge = RIDGE * weight.sum() * np.eye(terms.shape[1])
    ridge[0, 0] = 0
    solved = np.linalg.solve(terms.T * weight @ terms + ridge, terms.T * weight @ y)
    return law._replace(coefficients=solved)


def groups() -> list[FamilyConfig]:
    """Systems to learn from, each with a seed of its own."""
    made = list[FamilyConfig]()
    for k, (source, length, given) in enumerate((*FEW, *_planets(), *_many())):
        n_bodies = given.get("n_bodies", 3)
        n_systems = 8 if n_bodies < 10 else 4 if n_bodies < 48 else 2
        parameters = {**given, "n_systems": n_systems, "seed": SEED + k}
        if source == "kepler_orbits":
            made.append(FamilyConfig(source=source, parameters=parameters, periods=length))
        else:
            made.append(FamilyConfig(source=source, parameters=parameters, t_end=length))
    return made


def _planets() -> Iterator[Kind]:
    """Planets that meet, that nearly do, and that stay apart, light and heavy."""
    for n in (3, 5, 9):
        crowded = n == 9
        heavy = (1e-5, 3e-4) if crowded else (1e-4, 1e-3)
        giants = (1e-5, 1e-4) if crowded else (1e-5, 1e-3)
        for length, mass, spacing, eccentricity in (
            (60.0, heavy if crowded else (1e-4, 2e-3), 3.5, 0.05),
            (60.0, heavy, 2.5, 0.02),
            (60.0, (1e-9, 1e-4), 7.0, 0.2),
            (60.0, (1e-8, 1e-6), 12.0, 0.02),
            (20.0, giants, 9.0, 0.05),
            (500.0, giants, 9.0, 0.05),
            (100.0, (1e-7, 1e-5), 20.0 if crowded else 40.0, 0.5),
        ):
            given = {"n_planets": n, "planet_mass": mass, "spacing": spacing}
            yield "planetary_system", length, {**given, "eccentricity": eccentricity}


def _many() -> Iterator[Kind]:
    """More bodies than the policies were trained on: equal, unequal, and cold."""
    for n, lengths in LENGTHS.items():
        for t_end in lengths:
            for mass_range, virial_ratio in (
                ((1.0, 1.0), 0.5),
                ((0.1, 1.0), 0.3),
                ((0.3, 1.0), 0.05),
            ):
                cold = virial_ratio < 0.1
                if cold and n > 10 and t_end == max(lengths):
                    continue
                given = {"n_bodies": n, "mass_range": mass_range, "virial_ratio": virial_ratio}
                yield "few_body", min(t_end, 3.0) if cold else t_end, {"dimensions": 3, **given}
    for n in (64, 96):
        for t_end, mass_range in ((0.5, (1.0, 1.0)), (1.5, (0.1, 1.0))):
            given = {"n_bodies": n, "mass_range": mass_range, "virial_ratio": 0.4}
            yield "few_body", t_end, {"dimensions": 3, **given}
    for n, t_end, mass_range, virial_ratio in MORE:
        given = {"n_bodies": n, "mass_range": mass_range, "virial_ratio": virial_ratio}
        yield "few_body", t_end, {"dimensions": 3, **given}


def _two_planets(mass: Any, spacing: float, e: float, tilt: float | None = None) -> dict[str, Any]:
    given = {"n_planets": 2, "planet_mass": mass, "spacing": spacing, "eccentricity": e}
    return given if tilt is None else {**given, "inclination": tilt}


def _pairs(mass: Any, ratio: Any, tilt: float) -> dict[str, Any]:
    return {"pair_mass": mass, "mass_ratio": ratio, "inclination": tilt}


# Bodies, length, range of the masses, and virial ratio.
MORE = (
    (8, 2.0, (0.5, 1.0), 0.4),
    (8, 2.0, (0.1, 1.0), 0.3),
    (8, 6.0, (0.1, 1.0), 0.4),
    (8, 2.0, (0.3, 1.0), 0.05),
    (5, 2.0, (0.05, 1.0), 0.3),
    (5, 8.0, (0.05, 1.0), 0.4),
    (4, 1.0, (0.1, 1.0), 0.4),
    (3, 1.0, (0.05, 1.0), 0.4),
    (3, 5.0, (0.05, 1.0), 0.3),
    (12, 1.0, (0.5, 1.0), 0.4),
    (12, 4.0, (0.1, 1.0), 0.4),
)
LENGTHS = {
    6: (2.0, 8.0),
    10: (2.0, 8.0),
    16: (1.0, 4.0),
    24: (1.0, 3.0),
    32: (0.7, 2.0),
    48: (0.7,),
}

ANY_PHASE = {"phase": (0.0, 1.0)}
SPATIAL = {"dimensions": 3}
# Scenario, length of the runs (of two bodies in periods), and parameters.
FEW: tuple[Kind, ...] = (
    *(
        ("kepler_orbits", 6.0, {"eccentricity": e, "mass_ratio": ratio, **ANY_PHASE})
        for e in ((0, 0.3), (0.3, 0.7), (0.7, 0.95), (0.95, 0.99))
        for ratio in ((1e-9, 0.01), (0.05, 1.0))
    ),
    ("kepler_orbits", 200.0, {"eccentricity": (0.0, 0.9), "mass_ratio": (0.001, 1.0), **ANY_PHASE}),
    ("few_body", 15.0, {"mass_range": (0.05, 1.0), "virial_ratio": 0.35}),
    ("few_body", 4.0, {"mass_range": (0.3, 1.0), "virial_ratio": 0.05}),
    ("few_body", 3.0, {"mass_range": (0.001, 1.0), "virial_ratio": 0.0}),
    ("planetary_system", 80.0, _two_planets((0.01, 0.1), 4.0, 0.3, 0.0) | {"dimensions": 2}),
    ("few_body", 15.0, {"mass_range": (0.05, 1.0), "virial_ratio": 0.45, **SPATIAL}),
    ("few_body", 3.0, {"mass_range": (0.05, 1.0), "virial_ratio": 0.45, **SPATIAL}),
    ("planetary_system", 80.0, _two_planets((0.01, 0.1), 4.5, 0.3, 60.0)),
    ("planetary_system", 60.0, _two_planets((1e-9, 0.001), 6.0, 0.6, 30.0)),
    ("planetary_system", 60.0, _two_planets((0.0001, 0.001), 3.0, 0.1)),
    ("planetary_system", 600.0, _two_planets((1e-6, 0.0001), 8.0, 0.2)),
    ("hierarchies", 8.0, _pairs((0.001, 10.0), (0.0001, 1.0), 180.0)),
    ("hierarchies", 8.0, _pairs((1e-9, 0.01), (1e-9, 1.0), 30.0)),
    ("hierarchies", 8.0, _pairs((1e-6, 1.0), 0.0, 30.0)),
    ("hierarchies", 80.0, _pairs((0.001, 1.0), (0.01, 1.0), 90.0) | {"size": (0.1, 0.2)}),
    ("few_body", 10.0, {"n_bodies": 4, "mass_range": (0.1, 1.0), "virial_ratio": 0.4, **SPATIAL}),
    ("few_body", 3.0, {"n_bodies": 4, "mass_range": (0.1, 1.0), "virial_ratio": 0.1, **SPATIAL}),
)


if __name__ == "__main__":
    main()
