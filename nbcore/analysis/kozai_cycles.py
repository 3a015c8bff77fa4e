"""Kozai cycles of inclined triples over 100,000 periods of the inner pair, method by method.

`python -m nbcore.analysis.kozai_cycles [periods] [tolerance …]` runs extrapolation as it is and
with each way to keep its tolerance, the shipped policy with its reversible steps, a classical rule
tuned to the policy's cost, and equal steps in transformed time at that of `gbs`. The reference is
short steps of the last kind, whose energy and phase are off least; extrapolation at 1e-12, which
shares nothing with them, shows how far they can be trusted: where the two part, motion is chaotic,
and statistics alone can be matched.

Energy alone can't rank methods: two bodies in transformed time keep it whatever their steps are. So
orbits, positions and the cycles themselves stand beside it. An error grows as the eccentricity
does, which is no drift: its growth is from the largest one of the first 100 periods, and of the
first 10 and 100 cycles. Records are thinned to some 40,000 a run.
"""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nbcore.analysis.families import position_errors
from nbcore.analysis.triples import TRIPLES, Cycles, inner_orbit, maxima, triples
from nbcore.physics.arrays import to_numpy
from nbcore.physics.orbits import two_body_period
from nbcore.physics.state import State
from nbcore.simulation.simulate import simulate
from nbcore.simulation.trajectory import Trajectory
from nbcore.stepping.policies import Criterion, FixedStep
from nbcore.tables import markdown_head, markdown_row

__all__ = ["Judge", "Run", "Runs", "Verdict", "summed_up", "table"]

Array = NDArray[np.float64]

PERIODS, TOLERANCES = 100_000, (1e-6, 1e-8)
EVERY = (3 + 5**0.5) / 2  # periods between records, which so come from every phase
EQUAL = {"integrator": "kahan_li8", "clock": "regularised"}
SHORT = 0.1  # step of the reference, in radians of a circular orbit
SECOND = {"integrator": "gbs", "tolerance": 1e-12}
RULE = "boekholt"
TUNING = 1000  # periods in which costs are made equal, most of them a whole cycle
TUNING_RUNS = 3
GROWTH = 2.0  # more is a drift
BLOCKS = 12  # of cycles, for the error of their mean; fewer cycles have none
APART = 3.0  # standard errors that count as a difference, among some fifty that are looked at


@dataclass(frozen=True)
class Run:
    """One triple with one method; times are in periods of the inner pair at the start.

    Attributes
    ----------
    method
        What made it.
    keeps
        Whether its energy is said not to drift.
    time, energy, e, inclination, position
        Records: (T,), errors of the energy (T,), the inner orbit (T,) and [degrees], (T, 3, 3).
    cost, largest, body
        Force evaluations a period; the largest errors of the energy and of a body's orbit.
    """

    method: str
    keeps: bool
    time: Array
    energy: Array
    e: Array
    inclination: Array
    position: Array
    cost: float
    largest: float
    body: float

    def cycles(self, levels: tuple[float, float]) -> Cycles:
        """Maxima of e."""
        return maxima(self.time, self.e, *levels)

    def growth(self, until: float) -> float:
        """Largest error of the energy over the largest until then; NaN for no longer a run."""
        if not until < self.time[-1]:
            return np.nan
        return float(self.energy.max() / self.energy[self.time <= until].max())


class Runs:
    """All methods on all triples.

    Parameters
    ----------
    periods
        Of the inner pair at the start.
    """

    def __init__(self, periods: int = PERIODS) -> None:
        self.state, self.periods = triples(), periods
        pair = State.from_arrays(
            *(each[:, :2] for each in (self.state.mass, self.state.position, self.state.velocity))
        )
        self.period = to_numpy(two_body_period(pair))
        self.truth = self.run("reference", True, policy=self.steps(SHORT), **EQUAL)
        self.check = self.run("second reference", **SECOND)

    def steps(self, size: float | Array) -> FixedStep:
        """Steps in transformed time, by the first of them in radians of a circular orbit."""
        return FixedStep(size * self.period / (2 * np.pi))

    def simulated(self, periods: int, record: Any = "ends", **options: Any) -> Trajectory:
        """A run so long."""
        return simulate(self.state, periods * self.period, record=record, **options)

    def run(self, method: str, keeps: bool = False, **options: Any) -> list[Run]:
        """One run of each triple."""
        turns = np.arange(0, self.periods, EVERY)
        # Periods are alike but for rounding, so that one list of times serves all.
        made = self.simulated(self.periods, record=turns * self.period.min(), **options)
        runs = []
        for k, period in enumerate(self.period):
            count = made.n_records[k]
            position, velocity = (each[k, :count] for each in (made.position, made.velocity))
            runs.append(
                Run(
                    method,
                    keeps,
                    made.time[k, :count] / period,
                    made.energy_error[k, :count],
                    *inner_orbit(to_numpy(made.final.mass[k]), position, velocity),
                    position,
                    float(made.n_force_evaluations[k]) / self.periods,
                    float(made.summary["max_energy_error"][k]),
                    float(made.max_body_error[k].max()),
                )
            )
        return runs

    def at(self, tolerance: float) -> Iterator[list[Run]]:
        """Every method at a tolerance, or at the cost of one that has it."""
        gbs = {"integrator": "gbs", "tolerance": tolerance}
        plain = self.run("gbs", **gbs)
        yield plain
        for keep in ("aim", "bound"):
            yield self.run(f"gbs, keep={keep}", keep=keep, **gbs)
        ours = self.simulated(TUNING, tolerance=tolerance)
        yield self.run("default, reversible", True, tolerance=tolerance)
        how = {"integrator": ours.integrator, "stepping": "reversible"}
        eta = self._tuned(
            ours.n_force_evaluations / TUNING, 0.1, lambda x: Criterion(RULE, x), **how
        )
        yield self.run(f"{RULE}, reversible", True, policy=Criterion(RULE, eta), **how)
        cost = np.array([each.cost for each in plain])
        size = self._tuned(cost, 0.3, self.steps, **EQUAL)
        yield self.run("kahan_li8 in s", True, policy=self.steps(size), **EQUAL)

    def _tuned(self, cost: Array, first: float, policy: Any, **options: Any) -> Array:
        """Size of the steps of each triple that makes the cost a period this."""
        size = np.full(len(self.period), first)
        for _ in range(TUNING_RUNS):
            run = self.simulated(TUNING, policy=policy(size), **options)
            size = size * run.n_force_evaluations / (TUNING * cost)
        return size


def _error_of_mean(values: Array) -> float:
    """By the means of blocks, because a cycle is not independent of those before it."""
    means = [block.mean() for block in np.array_split(values, BLOCKS)]
    return float(np.std(means, ddof=1) / BLOCKS**0.5)


HEAD = (
    *("method", "evaluations a period", "energy", "÷ 100 periods", "÷ 10 cycles", "÷ 100 cycles"),
    *("orbits", "positions, 1000 periods", "positions", "e", "inclination, °"),
    *("maxima", "when, periods", "largest e", "one every, periods", "heights"),
)


class Judge:
    """Columns of a triple's methods, beside the reference.

    Parameters
    ----------
    truth
        Of the triple.
    """

    def __init__(self, truth: Run) -> None:
        self.truth = truth
        least, most = truth.e.min(), truth.e.max()
        self.levels = tuple(least + share * (most - least) for share in (0.4, 0.6))
        self.cycles = truth.cycles(self.levels)

    def growths(self, run: Run) -> list[float]:
        """Of the energy's error, since 100 periods, 10 cycles and 100 cycles."""
        times = [self.cycles.time[n] if len(self.cycles.time) > n else np.inf for n in (10, 100)]
        return [run.growth(until) for until in (100, *times)]

    def off(self, run: Run) -> tuple[Array, float, float]:
        """Errors of positions (T,), and the largest of e and of the inclination [degrees]."""
        count = min(len(run.time), len(self.truth.time))
        e, tilt = (
            float(np.abs(mine[:count] - true[:count]).max())
            for mine, true in (
                (run.e, self.truth.e),
                (run.inclination, self.truth.inclination),
            )
        )
        return position_errors(run.position[:count], self.truth.position[:count]), e, tilt

    def apart(self, run: Run) -> float:
        """How far the mean wait and the mean height are off, in standard errors, the larger."""
        mine = run.cycles(self.levels)
        far = []
        for ours, theirs in ((mine.waits, self.cycles.waits), (mine.height, self.cycles.height)):
            if min(len(ours), len(theirs)) < BLOCKS:
                return np.nan
            off = abs(float(ours.mean() - theirs.mean()))
            far.append(off and off / math.hypot(_error_of_mean(ours), _error_of_mean(theirs)))
        return max(far)

    def row(self, run: Run) -> str:
        """A line of the table."""
        places, e, tilt = self.off(run)
        mine = run.cycles(self.levels)
        both = min(len(mine.time), len(self.cycles.time))
        shift = np.abs(mine.time[:both] - self.cycles.time[:both]).max(initial=0.0)
        heights = np.quantile(mine.height, (0.1, 0.5, 0.9)) if len(mine.height) else [np.nan]
        waits = mine.waits if len(mine.waits) else np.array([np.nan])
        return markdown_row(
            *(run.method, f"{run.cost:.0f}", f"{run.largest:.1e}"),
            *("–" if np.isnan(each) else f"{each:.1f}" for each in self.growths(run)),
            f"{run.body:.1e}",
            *(f"{each.max():.1e}" for each in (places[run.time[: len(places)] <= 1000], places)),
            *(f"{e:.1e}", f"{tilt:.1e}", str(len(mine.time)), f"{shift:.2g}"),
            f"{run.e.max():.6f}",
            f"{waits.mean():.1f} ± {waits.std():.1f}",
            ", ".join(f"{each:.4f}" for each in heights),
        )


class Verdict(NamedTuple):
    """What one run comes to; `growths` as of `Judge.growths`, `apart` as of `Judge.apart`."""

    triple: str
    method: str
    keeps: bool
    growths: list[float]
    apart: float


def table(runs: Runs, tolerance: float) -> tuple[dict[str, list[str]], list[Verdict]]:
    """Lines of each triple, one a method, and what they come to."""
    judges = [Judge(each) for each in runs.truth]
    lines: dict[str, list[str]] = {title: [] for title in TRIPLES}
    verdicts = []
    for made in (runs.truth, runs.check, *runs.at(tolerance)):
        for (title, rows), judge, run in zip(lines.items(), judges, made, strict=True):
            rows.append(judge.row(run))
            growths, apart = judge.growths(run), judge.apart(run)
            verdicts.append(Verdict(title, run.method, run.keeps, growths, apart))
    return lines, verdicts


def summed_up(verdicts: list[Verdict]) -> list[str]:
    """How energies grow, whose should not, and whose cycles are others, a line a method."""
    lines = []
    for method in dict.fromkeys(each.method for each in verdicts):
        mine = [each for each in verdicts if each.method == method]
        told = "the energy's error over that of the first 100 periods, 10 and 100 cycles: "
        told += ", ".join(
            _largest(each) for each in zip(*(one.growths for one in mine), strict=True)
        )
        drifts = [each.triple for each in mine if each.growths[2] > GROWTH]
        if mine[0].keeps:
            told += f" (the last beyond {GROWTH:g}: {', '.join(drifts) or 'none'})"
        others = [each.triple for each in mine if each.apart > APART]
        told += f"; means of the cycles off by {_largest([each.apart for each in mine])} standard "
        told += f"errors (beyond {APART:g}: {', '.join(others) or 'none'})"
        lines.append(f"- {method}: {told}")
    return lines


def _largest(values: Iterable[float]) -> str:
    known = [each for each in values if not np.isnan(each)]
    return f"{max(known):.1f}" if known else "–"


def main(periods: int = PERIODS, tolerances: tuple[float, ...] = TOLERANCES) -> None:
    """Print a table for each tolerance and triple."""
    runs = Runs(periods)
    for tolerance in tolerances:
        lines, verdicts = table(runs, tolerance)
        for title, rows in lines.items():
            print(f"\n{title}, {periods} periods, tolerance {tolerance:g}\n")
            print("\n".join([*markdown_head(*HEAD), *rows]))
        print("\n".join(["", f"At {tolerance:g}:", *summed_up(verdicts)]), flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore", RuntimeWarning)  # the table tells what is missed
    asked = sys.argv[1:]
    main(
        int(asked[0]) if asked else PERIODS,
        tuple(map(float, asked[1:])) or TOLERANCES,
    )
