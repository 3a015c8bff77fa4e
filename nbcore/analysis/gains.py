"""What a learned policy buys against the classical rules, at equal error, from a benchmark."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from nbcore.analysis.families import get_family
from nbcore.analysis.frontiers import cheapest, costs, judged_by
from nbcore.analysis.methods import UNTRAINED
from nbcore.errors import InputError
from nbcore.physics.integrators import get_integrator
from nbcore.simulation.status import Status
from nbcore.tables import markdown_head, markdown_row

__all__ = [
    "LEVELS_OF_ORDER",
    "as_markdown",
    "calibration_shares",
    "gains",
    "metrics",
    "shares_as_markdown",
]

LEVELS_OF_ORDER = {4: (1e-4, 1e-6), 6: (1e-8, 1e-10), 8: (1e-8, 1e-10)}  # where each is at home
WITHIN = (3.0, 10.0)  # factors between error and tolerance
ASKED = (0.99e-10, 1.01e-3)  # errors that count for the shares


def gains(
    table: pd.DataFrame,
    error: str = "max_body_error",
    stepping: str | None = None,
    cost: str = "n_force_evaluations",
) -> pd.DataFrame:
    """Cost of learned policies over that of the best classical rule.

    The classical rule is the best of all criteria and both ways to step, with the same integrator
    and η tuned to the error on each family; the policy takes what tolerance gives that error.

    Parameters
    ----------
    table
        From `benchmark.run_benchmark`.
    error
        One of its columns of errors.
    stepping
        Of the classical rules; None takes the better one.
    cost
        Column of force evaluations or of CPU time.

    Returns
    -------
    DataFrame with a row for each learned method, family and error: `method`, `family`, `error`,
    `learned` and `classical` (median costs; NaN where the error is not reached),
    `rule` (of the classical one), `ratio`.
    """
    if "learned" not in set(table["kind"]):
        raise InputError("the benchmark ran no learned policy; name one in benchmark.policies")
    kinds = table.drop_duplicates("method").set_index("method")
    rows: list[dict[str, Any]] = []
    for order, levels in LEVELS_OF_ORDER.items():
        found = costs(table, error, cost, levels)
        found = [each for each in found if _order(kinds, each.method) == order]
        for mine in found:
            if mine.kind != "learned":
                continue
            integrator = kinds.loc[mine.method, "integrator"]
            rivals = [
                each
                for each in found
                if each.family == mine.family
                and stepping in (None, kinds.loc[each.method, "stepping"])
                and kinds.loc[each.method, "integrator"] == integrator
            ]
            for k, level in enumerate(levels):
                rule, classical = cheapest(rivals, ("classical", "fixed"), k)
                rows.append(
                    {
                        "method": mine.method,
                        "family": mine.family,
                        "error": level,
                        "learned": mine.at[k],
                        "classical": classical,
                        "rule": rule,
                        "ratio": mine.at[k] / classical,
                    }
                )
    return pd.DataFrame(rows)


def _order(kinds: pd.DataFrame, method: str) -> int:
    """Order of a method that steps by a rule, and 0 of others."""
    rule, integrator = kinds.loc[method, ["rule", "integrator"]]
    return get_integrator(str(integrator)).order if rule else 0


def calibration_shares(table: pd.DataFrame) -> pd.DataFrame:
    """How often the maximum error of a run, of the energy or a body, comes near to what was asked.

    A learned policy is asked by its tolerance, and so is what chooses its own steps. A classical
    rule has none: its η is taken to ask for the median error of all runs with it, of all families,
    which is known only afterwards.

    Returns
    -------
    DataFrame indexed by method with the shares of runs within factors of 3 and 10, and their
    number.
    """
    ours = judged_by("max_energy_error", table)
    ours = ours[ours["kind"].isin(["classical", "learned", "adaptive"])]
    rows = {}
    groups: Any = ours.groupby(["method", "kind"])
    for (method, kind), runs in groups:
        beside = []
        for setting, group in runs.groupby("setting"):
            errors = np.fmax(group["max_energy_error"], group["max_body_error"]).to_numpy()
            lost = group["status"].to_numpy() != Status.SUCCESS.name
            asked = float(np.median(errors))
            if kind != "classical" and UNTRAINED not in method:
                asked = float(setting)
            if ASKED[0] <= asked <= ASKED[1]:
                off = np.abs(np.log10(np.maximum(errors, 1e-17) / asked))
                beside.append(np.where(lost, np.inf, off))
        if beside:
            off = np.concatenate(beside)
            rows[method] = {
                **{f"within {f:.0f}": float((off <= np.log10(f)).mean()) for f in WITHIN},
                "runs": len(off),
            }
    return pd.DataFrame.from_dict(rows, orient="index")


def metrics(table: pd.DataFrame) -> dict[str, Any]:
    """Plain values for metrics.json."""
    last = gains(table, "final_body_error", stepping="reversible")
    return {
        "gains": gains(table).to_dict("records"),
        "gains_in_energy": gains(table, "max_energy_error").to_dict("records"),
        "gains_at_the_end": last.to_dict("records"),
        "gains_in_time": gains(table, cost="cpu_seconds").to_dict("records"),
        "calibration": calibration_shares(table).to_dict("index"),
    }


def as_markdown(found: pd.DataFrame) -> str:
    """Ratios as a table: a row a family, a column a method and error, medians below.

    Of the untrained policies only the reversible ones are shown, which are the better ones.
    """
    untrained, reversible = (
        found["method"].str.contains(word) for word in (UNTRAINED, "reversible")
    )
    wide = found.loc[~untrained | reversible].pivot_table(
        index="family", columns=["method", "error"], values="ratio", sort=False
    )
    head = ["family", *(f"{method}, {error:.0e}" for method, error in wide.columns)]
    lines = markdown_head(*head)
    lines += [
        markdown_row(get_family(str(family)).title, *map(_number, values))
        for family, values in zip(wide.index, wide.to_numpy(), strict=True)
    ]
    lines.append(markdown_row("**median**", *map(_number, wide.median().to_numpy())))
    lines.append(markdown_row("**worst**", *map(_number, wide.max().to_numpy())))
    return "\n".join(lines)


def shares_as_markdown(shares: pd.DataFrame) -> str:
    """Shares of runs near to what was asked for, as a table in per cent."""
    head = ["method", *(f"within a factor of {f:.0f}" for f in WITHIN), "runs"]
    lines = markdown_head(*head)
    for method, row in shares.iterrows():
        near = (f"{100 * row[f'within {f:.0f}']:.0f}%" for f in WITHIN)
        lines.append(markdown_row(str(method), *near, f"{row['runs']:.0f}"))
    return "\n".join(lines)


def _number(value: float) -> str:
    return f"{value:.2f}" if np.isfinite(value) else "–"
