"""From the table of a benchmark to frontiers, and the cost of an error along them."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nbcore.analysis.families import FAMILIES
from nbcore.simulation.status import Status

__all__ = [
    "COSTS",
    "ERRORS",
    "LEVELS",
    "Costs",
    "Frontier",
    "cheapest",
    "cost_of",
    "costs",
    "frontiers",
    "is_among",
    "judged_by",
]

Array = NDArray[np.float64]

LEVELS = (1e-4, 1e-6, 1e-8, 1e-10)
POSITION = "position_error"
SMALLEST_ERROR = 1e-17  # stands for an error of zero, which has no logarithm
QUANTILES = (0.1, 0.5, 0.9)


class Frontier(NamedTuple):
    """One method on one family, at all settings whose medians are finite.

    Attributes
    ----------
    family, method, kind
        As in the table.
    setting
        (S,) from loose to strict.
    error, cost
        (S, 3) 10th percentile, median and 90th percentile over the systems; a system that was lost
        has an infinite error and an infinite cost.
    """

    family: str
    method: str
    kind: str
    setting: Array
    error: Array
    cost: Array


class Costs(NamedTuple):
    """What one method costs on one family.

    Attributes
    ----------
    at
        At each level of error; NaN where it is not reached.
    """

    family: str
    method: str
    kind: str
    at: tuple[float, ...]


def judged_by(error: str, table: pd.DataFrame) -> pd.DataFrame:
    """Rows in which an error is known; those of short runs are judged by positions alone."""
    known = table[error].notna()
    if error != POSITION:
        known &= ~table["family"].isin([name for name in FAMILIES if FAMILIES[name].is_short])
    return table.loc[known]


def frontiers(
    table: pd.DataFrame, error: str = "max_energy_error", cost: str = "cpu_seconds"
) -> list[Frontier]:
    """Frontier of each method on each family, over the systems that all methods ran there.

    So peers, which may have run fewer systems, are compared on the same ones. A system whose error
    is not known, for want of a reference, is left out.

    Parameters
    ----------
    table
        From `benchmark.run_benchmark`.
    error, cost
        Columns of it, see ERRORS and COSTS.
    """
    table = judged_by(error, table)
    column = {name: table[name].to_numpy() for name in ("system", "status", error, cost)}
    in_common = column["system"] < _systems_in_common(table)
    lost = column["status"] != Status.SUCCESS.name
    errors = np.where(lost, np.inf, column[error])
    costs = np.where(lost, np.inf, column[cost])
    points: dict[tuple[str, str, str], list[tuple[float, Array, Array]]] = {}
    groups: Any = table.groupby(["family", "method", "kind", "setting"], sort=False).indices
    for (family, method, kind, setting), rows in groups.items():
        rows = rows[in_common[rows]]
        bands = _band(costs[rows]), _band(errors[rows])
        if all(np.isfinite(band[1]) for band in bands):
            points.setdefault((family, method, kind), []).append((setting, *bands))
    made = []
    for key, rows in points.items():
        rows.sort(key=lambda row: -row[0])
        setting, cost_band, error_band = (np.array(each) for each in zip(*rows, strict=True))
        made.append(Frontier(*key, setting, error_band, cost_band))
    return made


def cost_of(error: Iterable[float], cost: Iterable[float], wanted: float) -> float:
    """Least cost at which the error is as wanted or smaller.

    Between points of the frontier (those more accurate than all that are cheaper) both logarithms
    are interpolated linearly. Nothing is extrapolated: an error that is not reached has the cost
    NaN, and one that already the cheapest point betters has that point's.

    Parameters
    ----------
    error, cost
        Of one method at its settings; costs are positive.
    """
    kept: list[tuple[float, float]] = []
    for dear, wrong in sorted(zip(cost, error, strict=True)):
        wrong = max(wrong, SMALLEST_ERROR)
        if not kept or wrong < kept[-1][1]:
            kept.append((dear, wrong))
    if not kept or kept[-1][1] > wanted:
        return np.nan
    log_cost, log_error = np.log(kept).T
    return float(np.exp(np.interp(-np.log(wanted), -log_error, log_cost)))


def costs(
    table: pd.DataFrame,
    error: str = "max_energy_error",
    cost: str = "cpu_seconds",
    levels: Iterable[float] = LEVELS,
) -> list[Costs]:
    """Median cost of each level of error, of each method on each family."""
    levels = tuple(levels)
    return [
        Costs(
            each.family,
            each.method,
            each.kind,
            tuple(cost_of(each.error[:, 1], each.cost[:, 1], level) for level in levels),
        )
        for each in frontiers(table, error, cost)
    ]


def is_among(names: Container[str], each: Frontier | Costs) -> bool:
    """Whether names of methods, or of kinds of them, stand for a method."""
    return each.method in names or each.kind in names


def cheapest(found: Iterable[Costs], names: Container[str], level: int) -> tuple[str, float]:
    """Method that reaches a level at the least cost, and that cost; "" and NaN if none does.

    Parameters
    ----------
    found
        Of one family.
    names
        See `is_among`.
    level
        Number of the level.
    """
    reaching = (each for each in found if is_among(names, each) and np.isfinite(each.at[level]))
    best = min(reaching, key=lambda each: each.at[level], default=None)
    return ("", np.nan) if best is None else (best.method, best.at[level])


def _systems_in_common(table: pd.DataFrame) -> Array:
    """How many systems every method of the row's family ran, for each row."""
    ran: dict[str, dict[str, int]] = {}
    columns = (table[name].tolist() for name in ("family", "method", "system"))
    for family, method, system in zip(*columns, strict=True):
        most = ran.setdefault(family, {})
        most[method] = max(most.get(method, 0), system + 1)
    common = {family: min(most.values()) for family, most in ran.items()}
    return np.array([common[family] for family in table["family"].tolist()])


def _band(values: Array) -> Array:
    # A percentile between a finite number and infinity would be neither.
    return np.quantile(values, QUANTILES, method="inverted_cdf")


COSTS = {"cpu_seconds": "CPU time of a system [s]", "n_force_evaluations": "force evaluations"}
ERRORS = {
    "max_energy_error": "max energy error",
    "final_energy_error": "final energy error",
    "max_body_error": "max error of a body's orbit",
    "final_body_error": "error of a body's orbit at the end",
    POSITION: "position error at the end",
}
