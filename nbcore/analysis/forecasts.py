"""What the beginnings of runs tell of their ends, from runs of training systems.

`python -m nbcore.analysis.forecasts [SYSTEMS [KIND …]]` makes pilots and whole runs of systems that
`analysis.choosing` learns from, none of a family of the benchmark, by each kind of method at four
tolerances, and finds the law of each kind by regression: `simulation/forecasts.json`. It prints how
much of the runs each law tells within factors of 3 and 10 of a group that was left out when it was
found.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nbcore import simulation
from nbcore.analysis.choosing import groups, problem_of
from nbcore.analysis.timing import stamp
from nbcore.errors import InputError
from nbcore.jsonfiles import read_json, write_json
from nbcore.learning.systems import Problem
from nbcore.simulation.forecasts import BAND, FILE, OTHER, Law, scale_of, terms
from nbcore.simulation.passes import errors_of
from nbcore.simulation.pilots import made
from nbcore.simulation.simulate import simulate
from nbcore.simulation.status import Status
from nbcore.stepping.policies import Criterion

__all__ = ["KINDS", "TOLERANCES", "Known", "law_of", "median_fit", "runs_of", "systems", "told"]

Array = NDArray[np.float64]

TOLERANCES = (1e-4, 1e-6, 1e-8, 1e-10)
KINDS: dict[str, tuple[Mapping[str, Any], ...]] = {
    "gbs": ({"integrator": "gbs"},),
    "gbs aim": ({"integrator": "gbs", "keep": "aim"},),
    "gbs bound": ({"integrator": "gbs", "keep": "bound"},),
    "wisdom_holman": ({"integrator": "wisdom_holman"},),
    "learned": ({"policy": "default"},),
    OTHER: tuple(
        {"policy": Criterion("boekholt", eta), "integrator": "suzuki4", "stepping": stepping}
        for eta in (0.1, 0.02)
        for stepping in ("plain", "reversible")
    ),
}
MOST = 16  # bodies
LONGER = 10  # times their length, that systems are run for, too, whose motion is regular
IRREGULAR = "few_body"
HOW = {"record": "ends", "engine": "any_number"}  # which is compiled once
FLOOR = 0.03  # of a decade, below which misses all count alike
ROUNDS = 50


class Known(NamedTuple):
    """Runs of a kind, (R,) each or as is said.

    Attributes
    ----------
    group
        Name.
    terms
        (R, K) of `simulation.forecasts.terms`.
    error
        Decades of the run's error over its scale.
    evaluations
        Decades of its evaluations over those at the pace of the first part.
    """

    group: NDArray[np.str_]
    terms: Array
    error: Array
    evaluations: Array

    def select(self, runs: NDArray[np.bool_]) -> Known:
        """Some of the runs."""
        return Known(self.group[runs], self.terms[runs], self.error[runs], self.evaluations[runs])


def runs_of(kind: str, given: Mapping[str, Problem]) -> Known:
    """Runs of all systems of some groups, and what their first parts tell."""
    rows = [
        (name, *row)
        for name, at in given.items()
        for method in KINDS[kind]
        for tolerance in (TOLERANCES[:1] if kind == OTHER else TOLERANCES)
        for row in _rows(kind, at, {**method, "tolerance": tolerance, **HOW})
    ]
    return Known(*map(np.array, zip(*rows, strict=True)))


def _rows(kind: str, at: Problem, given: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
    for b in range(at.state.n_systems):
        one, end = at.state.select([b]), at.t_end[b : b + 1]
        try:
            pilots = made(one, end, given, timed=False)
        except InputError:  # no planets
            return
        handed = pilots.about["handed_over"]
        if handed is not None and handed[0] is not None and handed[0] <= one.time[0]:
            continue
        run = simulate(one, end, **given)
        error = float(errors_of(run)[0])
        if run.summary["status"][0] != Status.SUCCESS or not error > 0:
            continue
        scale = scale_of(kind, pilots, np.array([given["tolerance"]]))
        yield (
            terms(pilots, scale)[0],
            np.log10(error / scale[0]),
            np.log10(run.summary["n_force_evaluations"][0] / pilots.evaluations[0]),
        )


def law_of(known: Known) -> Law:
    """Law by which runs of a kind err least from what is told, in the median."""
    weights = median_fit(known.terms, known.error)
    left = known.error - known.terms @ weights
    paced = float(np.median(known.evaluations))
    low, high = np.quantile(left, BAND)
    return Law(tuple(weights.tolist()), float(low), float(high), paced)


def median_fit(x: Array, y: Array) -> Array:
    """Weights with the least sum of distances, by squares that are weighed anew."""
    weigh = np.ones(len(y))
    weights: Array = np.zeros(x.shape[1])
    for _ in range(ROUNDS):
        weights = np.linalg.lstsq(x * weigh[:, None], y * weigh, rcond=None)[0].astype(float)
        weigh = np.maximum(np.abs(y - x @ weights), FLOOR) ** -0.5
    return weights


def told(known: Known) -> tuple[float, float]:
    """Shares of runs told within factors of 3 and 10, by laws found without their group."""
    off = np.full(len(known.error), np.nan)
    for name in np.unique(known.group):
        theirs = known.group == name
        weights = np.array(law_of(known.select(~theirs)).error)
        off[theirs] = known.error[theirs] - known.terms[theirs] @ weights
    off = np.abs(off)
    return float(np.mean(off < np.log10(3))), float(np.mean(off < 1))


def systems(n_systems: int) -> dict[str, Problem]:
    """So many systems of each group at most, by what they are called."""
    found: dict[str, Problem] = {}
    for group in groups():
        at = problem_of(group)
        if at.state.n_bodies > MOST:
            continue
        some = at.select(list(range(min(n_systems, at.state.n_systems))))
        found[str(group)] = some
        if group.source != IRREGULAR:
            begun = some.state.time
            longer = Problem(some.state, begun + LONGER * (some.t_end - begun))
            found[f"{group}, {LONGER} times as long"] = longer
    return found


def main(kinds: Iterable[str], n_systems: int) -> None:
    """Find laws, print how much they tell, and store each as it is found."""
    given = systems(n_systems)
    how = {"systems": n_systems, "groups": len(given), "tolerances": TOLERANCES}
    print(f"{'':16}{'runs':>6}{'within 3':>10}{'within 10':>10}   weights")
    for kind in kinds:
        known = runs_of(kind, given)
        law, (near, far) = law_of(known), told(known)
        if kind == OTHER:  # some of which make equal steps, whose number is known
            law = law._replace(evaluations=0.0)
        weights = "  ".join(f"{each:6.2f}" for each in law.error)
        print(f"{kind:16}{len(known.error):6}{near:10.0%}{far:10.0%}   {weights}", flush=True)
        shares = {"runs": len(known.error), "within 3": near, "within 10": far}
        path = Path(simulation.__path__[0]) / FILE
        stored = read_json(path) if path.exists() else {}
        about = {**how, **shares, **stamp()}
        write_json(path, {**stored, kind: {"law": law._asdict(), "about": about}})


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(sys.argv[2:] or KINDS, int(sys.argv[1]) if sys.argv[1:] else 3)
