"""What runs of gbs cost in the time of other clocks.

    python -m nbcore.analysis.clock_choices [SYSTEMS]

makes runs of the families of `analysis.step_choices` with clocks of all powers and with weights
that heed the masses more or less. Printed are force evaluations over those in the time of the
shipped clock, at equal errors of the positions at the end, and what an oracle would save that takes
the best of them for each family: the most that a clock can gain which is chosen by what is known of
a system beforehand.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbcore.analysis.families import position_errors, problem
from nbcore.analysis.step_choices import FAMILIES, TOLERANCES, TRUE, Ladder, beside
from nbcore.errors import InputError
from nbcore.learning.systems import Problem
from nbcore.physics.arrays import Array, to_numpy
from nbcore.physics.clocks import Clock, both, either, product
from nbcore.physics.extrapolation import Extrapolation
from nbcore.simulation.simulate import simulate

__all__ = ["CLOCKS", "costs", "main"]


def _root_of_both(first: Array, second: Array) -> Array:
    return (first + second) ** 0.5


def _both_squared(first: Array, second: Array) -> Array:
    return (first + second) ** 2


def _root_of_product(first: Array, second: Array) -> Array:
    return (first * second) ** 0.5


SHIPPED = "p = 2, m + m'"
CLOCKS: Mapping[str, Clock] = {
    SHIPPED: Clock(),
    "p = 1, m + m'": Clock(1),
    "p = 4, m + m'": Clock(4),
    "p = 2, 1": Clock(2, either),
    "p = 4, 1": Clock(4, either),
    "p = 2, (m + m')^(1/2)": Clock(2, _root_of_both),
    "p = 2, (m + m')^2": Clock(2, _both_squared),
    "p = 4, (m + m')^2": Clock(4, _both_squared),
    "p = 2, m m'": Clock(2, product),
    "p = 2, (m m')^(1/2)": Clock(2, _root_of_product),
}
assert CLOCKS[SHIPPED] == Clock(weight=both)


def costs(at: Problem, tolerances: tuple[float, ...] = TOLERANCES) -> dict[str, float]:
    """Evaluations over those in the time of the shipped clock at equal errors; NaN without any."""
    how: dict[str, Any] = {"record": "ends", "engine": "any_number"}
    truth = simulate(at.state, at.t_end, integrator="gbs", tolerance=TRUE, **how).final.position
    ladders = {}
    for name, clock in CLOCKS.items():
        rungs = []
        for tolerance in tolerances:
            integrator = Extrapolation(clock=clock)
            try:
                run = simulate(
                    at.state, at.t_end, integrator=integrator, tolerance=tolerance, **how
                )
            except InputError:  # no pair has any weight
                break
            error = np.nanmedian(position_errors(run.final.position, truth))
            evaluations = np.exp(np.log(run.summary["n_force_evaluations"]).mean())
            rungs.append((error, evaluations, 0.0))
        if rungs:
            ladders[name] = Ladder(*np.array(rungs).T)
    base = ladders[SHIPPED]
    return {name: beside(ladders[name], base)[0] if name in ladders else np.nan for name in CLOCKS}


def main(n_systems: int) -> None:
    """Print a line for each family."""
    print("evaluations over those in the time of the shipped clock, at equal errors:")
    for k, name in enumerate(CLOCKS):
        print(f"{k}: Ω with {name}")
    print(f"{'':28}" + "".join(f"{k:6}" for k in range(len(CLOCKS))) + "  best")
    every = []
    for family in FAMILIES:
        at = problem(family, "held_out", n_systems)
        found = np.array(list(costs(Problem(at.state.numpy(), to_numpy(at.t_end))).values()))
        every.append([*found, np.nanmin(found)])
        print(f"{family:28}" + _line(every[-1]), flush=True)
    print(f"{'median':28}" + _line(np.nanmedian(every, axis=0)))


def _line(values: NDArray[np.float64] | list[float]) -> str:
    return "".join(f"{value:6.2f}" for value in values)


if __name__ == "__main__":
    warnings.simplefilter("ignore", RuntimeWarning)  # runs that miss their tolerance
    main(int(sys.argv[1]) if sys.argv[1:] else 8)
