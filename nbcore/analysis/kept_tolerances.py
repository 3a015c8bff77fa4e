"""How near to their tolerance runs of gbs err, measured: as they are, and with `keep=`.

`python -m nbcore.analysis.kept_tolerances [SYSTEMS [SEED]]` runs every family of the benchmark at
four tolerances. Of the error of each run (of its energy or of a body's orbit, whichever is more)
over its tolerance it prints the share within a factor of 3 and of 10, the median, and the share of
runs above 10; what `keep="aim"` costs in evaluations; the share of runs that `keep="bound"` brings
below the tolerance, and what all its runs cost over the cheapest single one that is below it, of
a row of inner tolerances. The systems are none of those that the rule in `stepping.budget` was
found with.
"""

from __future__ import annotations

import sys
import warnings
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nbcore.analysis.families import FAMILIES, problem
from nbcore.learning.systems import Problem
from nbcore.simulation.passes import errors_of
from nbcore.simulation.simulate import simulate

__all__ = ["TOLERANCES", "Kept", "cheapest", "kept"]

Array = NDArray[np.float64]

TOLERANCES = (1e-4, 1e-6, 1e-8, 1e-10)
INNER = (10, 4, 2, 1, 0.5, 0.25, 0.1, 0.03, 0.01, 0.001)  # times the tolerance, of single runs


class Kept(NamedTuple):
    """What runs of a problem erred by and cost, (tolerances, B) each.

    Attributes
    ----------
    error
        Over the tolerance.
    evaluations
        Of the forces.
    """

    error: Array
    evaluations: Array

    def line(self) -> str:
        """Say how near to 1 the errors are."""
        off = np.abs(np.log10(np.maximum(self.error, 1e-300)))
        near = (f"{np.mean(off < np.log10(factor)):7.0%}" for factor in (3, 10))
        return f"{''.join(near)} {np.median(self.error):8.2g} {np.mean(self.error > 10):6.1%}"


def kept(at: Problem, keep: str | None, inner: float = 1.0) -> Kept:
    """Run a problem at each tolerance, or at so many times it."""
    errors, evaluations = [], []
    for tolerance in TOLERANCES:
        given = {"tolerance": inner * tolerance, "keep": keep, "record": "ends"}
        run = simulate(at.state, at.t_end, integrator="gbs", **given)
        errors.append(errors_of(run) / tolerance)
        evaluations.append(run.summary["n_force_evaluations"].astype(float))
    return Kept(np.array(errors), np.array(evaluations))


def cheapest(at: Problem) -> Array:
    """Evaluations of the cheapest single run below each tolerance, (tolerances, B); inf if none."""
    runs = [kept(at, keep, inner) for inner in INNER for keep in (None, "aim")]
    return np.min([np.where(run.error <= 1, run.evaluations, np.inf) for run in runs], axis=0)


def main(n_systems: int, seed: int) -> None:
    """Print a line for each family and one for all."""
    print("error over tolerance: within 3, within 10, median, above 10; bound: below, and its cost")
    print(f"{'':28}{'as it is':^31}{'keep=aim':^31}{'cost':>6} {'keep=bound':>15}")
    every: list[tuple[Kept, Kept, Kept, Array]] = []
    for name in FAMILIES:
        at = problem(name, "held_out", n_systems, seed)
        found = kept(at, None), kept(at, "aim"), kept(at, "bound"), cheapest(at)
        every.append(found)
        print(_line(name, *found), flush=True)
    plain, aimed, bound = (
        Kept(*(np.concatenate([each.ravel() for each in of]) for of in zip(*runs, strict=True)))
        for runs in list(zip(*every, strict=True))[:3]
    )
    print(_line("all", plain, aimed, bound, np.concatenate([each[3].ravel() for each in every])))


def _line(name: str, plain: Kept, aimed: Kept, bound: Kept, least: Array) -> str:
    cost = np.median(aimed.evaluations / plain.evaluations)
    below, single = np.mean(bound.error <= 1), np.isfinite(least)
    dear = np.median(bound.evaluations[single] / least[single]) if single.any() else np.nan
    return f"{name:28}{plain.line():31}{aimed.line():31}{cost:6.2f} {below:8.1%}{dear:7.2f}"


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    given = [int(each) for each in sys.argv[1:3]]
    main(*given, *(16, 1)[len(given) :])
