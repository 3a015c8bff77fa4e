"""How near to their tolerance runs of gbs err, measured, with `keep="aim"` and without.

`python -m nbcore.analysis.kept_tolerances [SYSTEMS [SEED]]` runs every family of the benchmark at
four tolerances and prints, of the error of each run (of its energy or of a body's orbit, whichever
is more) over its tolerance: the share within a factor of 3 and of 10, the median, and the share of
runs that missed it by more; and what `keep="aim"` costs in evaluations. The systems are none of
those that the rule in `stepping.budget` was found with.
"""

from __future__ import annotations

import sys
import warnings
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nbcore.analysis.families import FAMILIES, problem
from nbcore.learning.systems import Problem
from nbcore.simulation.simulate import simulate

__all__ = ["TOLERANCES", "Kept", "kept"]

Array = NDArray[np.float64]

TOLERANCES = (1e-4, 1e-6, 1e-8, 1e-10)


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


def kept(at: Problem, keep: str | None) -> Kept:
    """Run a problem at each tolerance."""
    errors, evaluations = [], []
    for tolerance in TOLERANCES:
        run = simulate(
            at.state, at.t_end, integrator="gbs", tolerance=tolerance, keep=keep, record="ends"
        )
        summary = run.summary
        errors.append(np.maximum(summary["max_body_error"], summary["max_energy_error"]))
        errors[-1] /= tolerance
        evaluations.append(summary["n_force_evaluations"].astype(float))
    return Kept(np.array(errors), np.array(evaluations))


def main(n_systems: int, seed: int) -> None:
    """Print a line for each family and one for all, of both kinds of run."""
    print("error over tolerance: within 3, within 10, median, above 10")
    print(f"{'':28}{'as it is':^31}{'keep=aim':^31} evaluations")
    every: list[tuple[Kept, Kept]] = []
    for name in FAMILIES:
        at = problem(name, "held_out", n_systems, seed)
        runs = kept(at, None), kept(at, "aim")
        every.append(runs)
        print(_line(name, *runs))
    together = (
        Kept(*(np.concatenate([each.ravel() for each in of]) for of in zip(*runs, strict=True)))
        for runs in zip(*every, strict=True)
    )
    print(_line("all", *together))


def _line(name: str, plain: Kept, aimed: Kept) -> str:
    cost = np.median(aimed.evaluations / plain.evaluations)
    return f"{name:28}{plain.line():31}{aimed.line():31}{cost:6.2f}"


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    given = [int(each) for each in sys.argv[1:3]]
    main(*given, *(16, 1)[len(given) :])
