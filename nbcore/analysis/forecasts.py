"""What the beginnings of runs tell of their ends, from runs of training systems.

`python -m nbcore.analysis.forecasts [SYSTEMS [SEED]]` makes pilots and whole runs of each family of
the benchmark, of its split "train", by each kind of method at four tolerances, and finds the law
of each kind by regression: `simulation/forecasts.json`. It prints how much of the runs each law
tells within a factor of 3 of a family that was left out when it was found.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nbcore import simulation
from nbcore.analysis.families import FAMILIES, problem
from nbcore.analysis.timing import stamp
from nbcore.errors import InputError
from nbcore.jsonfiles import write_json
from nbcore.learning.systems import Problem
from nbcore.simulation.forecasts import BAND, FILE, Law, terms
from nbcore.simulation.passes import errors_of
from nbcore.simulation.pilots import made
from nbcore.simulation.simulate import simulate
from nbcore.simulation.status import Status

__all__ = ["KINDS", "TOLERANCES", "Known", "law_of", "runs_of"]

Array = NDArray[np.float64]

TOLERANCES = (1e-4, 1e-6, 1e-8, 1e-10)
KINDS: dict[str, tuple[Mapping[str, Any], ...]] = {
    "gbs": ({"integrator": "gbs"},),
    "gbs aim": ({"integrator": "gbs", "keep": "aim"},),
    "gbs bound": ({"integrator": "gbs", "keep": "bound"},),
    "wisdom_holman": ({"integrator": "wisdom_holman"},),
    "learned": ({"policy": "default"},),
    "other": (
        {"policy": "boekholt", "integrator": "suzuki4", "stepping": "plain"},
        {"policy": "boekholt", "integrator": "suzuki4", "stepping": "reversible"},
    ),
}
LEFT_OUT = ("plummer_64",)  # which costs more than all others together
FLOOR = 0.03  # of a decade, below which misses all count alike
ROUNDS = 50


class Known(NamedTuple):
    """Runs of a kind, (R,) each or as is said.

    Attributes
    ----------
    family
        Name.
    terms
        (R, K) of `simulation.forecasts.terms`.
    error
        Decades of the run's error over the tolerance.
    evaluations
        Decades of its evaluations over those at the pace of the first part.
    """

    family: NDArray[np.str_]
    terms: Array
    error: Array
    evaluations: Array


def runs_of(kind: str, families: Mapping[str, Problem]) -> Known:
    """Runs of all systems of some families, and what their first parts tell."""
    rows = [
        (name, *row)
        for name, at in families.items()
        for method in KINDS[kind]
        for tolerance in TOLERANCES
        for row in _rows(at, {**method, "tolerance": tolerance, "record": "ends"})
    ]
    return Known(*map(np.array, zip(*rows, strict=True)))


def _rows(at: Problem, given: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
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
        tolerance = np.array([given["tolerance"]])
        yield (
            terms(pilots, tolerance)[0],
            np.log10(error / tolerance[0]),
            np.log10(run.summary["n_force_evaluations"][0] / pilots.evaluations[0]),
        )


def law_of(known: Known) -> Law:
    """Law by which runs of a kind err least from what is told, in the median."""
    weights = _median_fit(known.terms, known.error)
    left = known.error - known.terms @ weights
    paced = float(np.median(known.evaluations))
    return Law(tuple(weights.tolist()), *map(float, np.quantile(left, BAND)), paced)


def _median_fit(x: Array, y: Array) -> Array:
    """Weights with the least sum of distances, by squares that are weighed anew."""
    weigh = np.ones(len(y))
    weights = np.zeros(x.shape[1])
    for _ in range(ROUNDS):
        weights = np.linalg.lstsq(x * weigh[:, None], y * weigh, rcond=None)[0]
        weigh = np.maximum(np.abs(y - x @ weights), FLOOR) ** -0.5
    return weights


def told(known: Known) -> tuple[float, float]:
    """Shares of runs told within factors of 3 and 10, by laws found without their family."""
    off = np.full(len(known.error), np.nan)
    for name in np.unique(known.family):
        theirs = known.family == name
        others = Known(*(each[~theirs] for each in known))
        off[theirs] = known.error[theirs] - known.terms[theirs] @ np.array(law_of(others).error)
    off = np.abs(off)
    return float(np.mean(off < np.log10(3))), float(np.mean(off < 1))


def main(n_systems: int, seed: int) -> None:
    """Find all laws, print what they tell, and store them."""
    names = [name for name in FAMILIES if name not in LEFT_OUT and not name.endswith("_short")]
    families = {name: problem(name, "train", n_systems, seed) for name in names}
    laws = {}
    print(f"{'':16}{'runs':>6}{'within 3':>10}{'within 10':>10}   law")
    for kind in KINDS:
        known = runs_of(kind, families)
        law = laws[kind] = law_of(known)
        near, far = told(known)
        weights = "  ".join(f"{each:6.2f}" for each in law.error)
        print(f"{kind:16}{len(known.error):6}{near:10.0%}{far:10.0%}   {weights}", flush=True)
    how = {"systems": n_systems, "seed": seed, "families": names, "tolerances": TOLERANCES}
    stored = {
        "about": {**how, **stamp()},
        "laws": {kind: law._asdict() for kind, law in laws.items()},
    }
    path = f"{simulation.__path__[0]}/{FILE}"
    write_json(path, stored)
    print(f"written to {path}")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    given = [int(each) for each in sys.argv[1:3]]
    main(*given, *(4, 1)[len(given) :])
