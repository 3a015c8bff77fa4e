"""How far advice is off, measured: what was expected of runs, and what they took and erred by.

`python -m nbcore.analysis.advised [SYSTEMS [SEED [LENGTH [FAMILY …]]]]` asks `advise` about systems
of the benchmark's families, all but the short ones and the dearest unless some are named, of the
split "held_out", one by one, at four tolerances, and makes the runs with each method that it names;
of LENGTH times their usual one. It prints the shares of runs whose error is within factors of 3 and
10 of the expected one, and between the percentiles that were told, and whose seconds and
evaluations are within 1.5. Seconds are those of the processor, of the whole call, the least of some
calls. The laws of `simulation.forecasts` were found with none of these families.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbcore.analysis.families import FAMILIES, problem
from nbcore.errors import InputError
from nbcore.learning.systems import Problem
from nbcore.simulation.advice import METHODS, Advice, advise
from nbcore.simulation.passes import errors_of

__all__ = ["HEAD", "TOLERANCES", "judged", "line"]

Array = NDArray[np.float64]

TOLERANCES = (1e-4, 1e-6, 1e-8, 1e-10)
LEFT_OUT = "plummer_64"  # which costs more than all others together
NAMES = tuple(name for name in FAMILIES if name != LEFT_OUT and not name.endswith("_short"))
REPEATS, LONG = 5, 0.2  # of a run that is timed; [s] that all of them take, at most
ROUNDING = 1e-15  # errors below are all alike
HEAD = ("runs", "within 3", "within 10", "in band", "median", "seconds", "evaluations")


def judged(at: Problem, method: Mapping[str, Any], tolerance: float) -> Array:
    """What runs of each system came to, over what was expected of them.

    Returns
    -------
    (R, 5) decades: of the error, of its 10th and 90th percentile that were told, of the seconds,
    and of the evaluations. R is 0 where the method is not for such systems.
    """
    rows = []
    for b in range(at.state.n_systems):
        one = at.select([b])
        try:
            advice = advise(one.state, one.t_end, tolerance, methods=[method])
        except InputError:
            continue
        told = advice.methods[0]
        made = np.array(_made(advice))
        over = np.array([told.error, told.seconds, told.evaluations])
        error, seconds, evaluations = np.log10(np.fmax(made, ROUNDING) / np.fmax(over, ROUNDING))
        band = np.log10(np.fmax([told.low, told.high], ROUNDING) / max(told.error, ROUNDING))
        rows.append([error, *band, seconds, evaluations])
    return np.array(rows).reshape(-1, 5)


def _made(advice: Advice) -> tuple[float, float, float]:
    """Error, seconds and evaluations of a run."""
    spent: list[float] = []
    while True:
        begun = time.process_time()
        run = advice.run()
        spent.append(time.process_time() - begun)
        if len(spent) == REPEATS or sum(spent) > LONG:
            counted = float(run.summary["n_force_evaluations"].sum())
            return float(errors_of(run).max()), min(spent), counted


def line(name: str, off: Array) -> str:
    """Shares of runs, as `HEAD` names them; and the median of the error over the expected one."""
    error, low, high, seconds, evaluations = off.T
    shares = [np.abs(error) <= np.log10(3), np.abs(error) <= 1, (low <= error) & (error <= high)]
    costs = [np.abs(each) <= np.log10(1.5) for each in (seconds, evaluations)]
    cells = [f"{np.mean(each):.0%}" for each in (*shares, *costs)]
    cells.insert(3, f"{10 ** np.median(error):.2g}")
    return f"{name:36}{len(off):6}{''.join(f'{cell:>12}' for cell in cells)}"


def main(families: Iterable[str], n_systems: int, seed: int, length: int) -> None:
    """Print a line for each method on each family, for each method, each family, and all."""
    print(f"{'':36}{HEAD[0]:>6}{''.join(f'{each:>12}' for each in HEAD[1:])}")
    of_methods: dict[str, list[Array]] = {}
    of_families: dict[str, list[Array]] = {}
    for family in families:
        at = problem(family, "held_out", n_systems, seed, length)
        for method in METHODS:
            off = np.concatenate([judged(at, method, tolerance) for tolerance in TOLERANCES])
            if len(off):
                name = " ".join(method.values())
                print(line(f"{family}, {name}", off), flush=True)
                of_methods.setdefault(name, []).append(off)
                of_families.setdefault(family, []).append(off)
    for table in (of_families, of_methods):
        print()
        for name, runs in table.items():
            print(line(name, np.concatenate(runs)))
    print(line("all", np.concatenate([each for runs in of_methods.values() for each in runs])))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    given = [int(each) for each in sys.argv[1:4]]
    names = sys.argv[4:] or NAMES
    main(names, *given, *(2, 1, 1)[len(given) :])
