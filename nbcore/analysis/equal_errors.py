"""What a method costs beside others at equal errors: of the energy, of positions, of orbits.

Energy alone can't rank methods: two bodies in transformed time keep it whatever their steps are.
Which method is judged, and beside which, the table's configuration says.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from nbcore.analysis.families import Family, get_family
from nbcore.analysis.frontiers import LEVELS, cheapest, costs, frontiers, is_among, judged_by
from nbcore.analysis.methods import AUTO, KINDS
from nbcore.tables import markdown_head, markdown_row

__all__ = ["FILE", "as_markdown", "at_equal_errors", "beside_baseline", "by_family", "floors"]

FILE = "equal_errors.csv"  # in a run folder
OURS = "our best"
FEW_BODIES = 9  # for as many the judged methods are made


class Pair(NamedTuple):
    """Two groups of methods, of each of which the cheapest counts.

    Attributes
    ----------
    names
        Of methods, or of kinds.
    most_bodies
        Families of more don't count.
    """

    rival: str
    rival_names: tuple[str, ...]
    ours: str
    names: tuple[str, ...]
    most_bodies: float = math.inf

    def __str__(self) -> str:
        return f"{self.rival} ÷ {self.ours}"

    def ran(self, table: pd.DataFrame) -> bool:
        """Whether there are runs of both."""
        names = {*table["method"], *table["kind"]}
        return not (names.isdisjoint(self.names) or names.isdisjoint(self.rival_names))


def at_equal_errors(table: pd.DataFrame) -> pd.DataFrame:
    """Costs of the judged method and its baseline, of peers and ours, of ours and «auto».

    Parameters
    ----------
    table
        From `benchmark.run_benchmark`, with a method to judge in its configuration.

    Returns
    -------
    DataFrame with a row for each measure of the error, pair, family and level: `measure`, `family`,
    `systems` that all methods ran, `unknown` ones that are left out for want of a reference,
    `pair`, `error`; `method` and `cost`, `rival` and `rival_cost` (medians of CPU seconds,
    interpolated along the frontiers; "" and NaN where the error is not reached); `ratio` of the
    rival's cost to the method's, 0 where only the rival reaches the error and infinite where only
    the method does.
    """
    pairs, rows = _pairs(table), list[dict[str, Any]]()
    families: Any = table.groupby("family")
    bodies, systems = families["n_bodies"].first(), families["system"].nunique()
    for measure, (error, counts) in MEASURES.items():
        found = costs(table, error)
        for family, here in _families(table, error, counts):
            group = [each for each in found if each.family == family]
            about = {
                "measure": measure,
                "family": family,
                "systems": here.groupby("method")["system"].nunique().min(),
                "unknown": systems[family] - here["system"].nunique(),
            }
            for pair in pairs:
                if bodies[family] > pair.most_bodies or not pair.ran(here):
                    continue
                for level, wanted in enumerate(LEVELS):
                    method, cost = cheapest(group, pair.names, level)
                    rival, rival_cost = cheapest(group, pair.rival_names, level)
                    rows.append(
                        {
                            **about,
                            "pair": str(pair),
                            "error": wanted,
                            "method": method,
                            "cost": cost,
                            "rival": rival,
                            "rival_cost": rival_cost,
                            "ratio": _ratio(rival_cost, cost),
                        }
                    )
    return pd.DataFrame(rows)


def floors(table: pd.DataFrame) -> pd.DataFrame:
    """Smallest error that baseline, judged method and peers reach, the median over the systems.

    Returns
    -------
    DataFrame with the columns `measure`, `family`, `group` and `error`; infinite where most systems
    are lost at any setting.
    """
    first, *others = _pairs(table)
    groups = {first.rival: first.rival_names, first.ours: first.names}
    groups |= {pair.rival: pair.rival_names for pair in others if pair.ours == OURS}
    rows = list[dict[str, Any]]()
    for measure, (error, counts) in MEASURES.items():
        found = frontiers(table, error)
        for family, here in _families(table, error, counts):
            ran = {*here["method"], *here["kind"]}
            for group, names in groups.items():
                reached = [
                    each.error[:, 1].min()
                    for each in found
                    if each.family == family and is_among(names, each)
                ]
                if not ran.isdisjoint(names):
                    row = {"measure": measure, "family": family, "group": group}
                    rows.append({**row, "error": min(reached, default=math.inf)})
    return pd.DataFrame(rows)


def as_markdown(table: pd.DataFrame) -> str:
    """Ratios, medians over the families and the worst of them; then the smallest errors."""
    parts = _ratios(at_equal_errors(table)), _floors(floors(table)), _legend(table)
    return "\n\n".join(parts)


def by_family(table: pd.DataFrame) -> str:
    """Costs of the judged method and of its baseline on each family, a table a measure."""
    found, judged = at_equal_errors(table), str(_pairs(table)[0])
    parts = []
    measures: Any = found[found["pair"] == judged].groupby("measure", sort=False)
    for measure, group in measures:
        lines = markdown_head(measure, *_heads())
        for family, rows in group.groupby("family", sort=False):
            name = get_family(family).title
            if unknown := rows["unknown"].iloc[0]:
                name += f" ({unknown} left out)"
            lines.append(markdown_row(name, *map(_cell, rows.to_dict("records"))))
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def beside_baseline(table: pd.DataFrame) -> str:
    """The judged method beside its baseline: medians over the families, and each of them."""
    found, judged = at_equal_errors(table), str(_pairs(table)[0])
    of_judged: Any = found[found["pair"] == judged]
    parts = _ratios(of_judged), by_family(table), _legend(table)
    return "\n\n".join(parts)


def _pairs(table: pd.DataFrame) -> list[Pair]:
    asked = table.attrs["config"]
    judged, baseline = asked["judged"], tuple(asked["baseline"])
    methods = table.drop_duplicates("method")
    kind_of: dict[str, str] = dict(zip(methods["method"], methods["kind"], strict=True))
    ours = tuple(name for name, kind in kind_of.items() if kind in KINDS)
    pairs = [Pair("baseline", baseline, judged, (judged,), FEW_BODIES)]
    pairs += [Pair(name, (name,), OURS, ours) for name in kind_of if name not in ours]
    if AUTO in ours:
        single = tuple(name for name in ours if name != AUTO)
        pairs.append(Pair("our best single method", single, AUTO, (AUTO,)))
    return pairs


def _families(
    table: pd.DataFrame, error: str, counts: Callable[[Family], bool]
) -> Iterator[tuple[str, pd.DataFrame]]:
    """Families that count, each with its rows in which the error is known."""
    for family, rows in judged_by(error, table).groupby("family", sort=False):
        if counts(get_family(str(family))):
            yield str(family), rows


def _ratio(rival: float, own: float) -> float:
    if math.isnan(own):
        return math.nan if math.isnan(rival) else 0.0
    return math.inf if math.isnan(rival) else rival / own


def _middle(values: np.ndarray) -> float:
    """Median that is one of the values, of which some may be infinite."""
    return float(np.quantile(values, 0.5, method="inverted_cdf")) if len(values) else math.nan


def _ratios(found: pd.DataFrame) -> str:
    lines = markdown_head("CPU time at equal error", "families", *_heads())
    measures: Any = found.groupby("measure", sort=False)
    for measure, group in measures:
        lines.append(markdown_row(f"**{measure}**", *("",) * (1 + len(LEVELS))))
        for pair, rows in group.groupby("pair", sort=False):
            wide = rows.pivot(index="family", columns="error", values="ratio")
            known = [wide[level].dropna() for level in LEVELS]
            medians = (_times(_middle(each.to_numpy())) for each in known)
            lines.append(markdown_row(f"{pair}, median", str(len(wide)), *medians))
            lines.append(markdown_row("… worst family", "", *map(_worst, known)))
    return "\n".join(lines)


def _worst(ratios: Any) -> str:
    if not len(ratios):
        return "–"
    return f"{_times(ratios.min())} {get_family(ratios.idxmin()).title}"


def _floors(found: pd.DataFrame) -> str:
    """Median over the families, and the largest."""
    groups = list(found["group"].unique())
    lines = markdown_head("smallest error reached, median (worst family)", *groups)
    for measure, rows in found.groupby("measure", sort=False):
        errors = (rows.loc[rows["group"] == group, "error"].to_numpy() for group in groups)
        cells = (f"{_middle(e):.0e} ({e.max():.0e})" if len(e) else "–" for e in errors)
        lines.append(markdown_row(str(measure), *cells))
    return "\n".join(lines)


def _legend(table: pd.DataFrame) -> str:
    """What the groups are, and which systems are left out."""
    words = (
        f"Baseline: {', '.join(table.attrs['config']['baseline'])}; on families of up to "
        f"{FEW_BODIES} bodies. Of each group the cheapest counts, on each family at each error."
    )
    known = judged_by("position_error", table)
    families: Any = table.groupby("family", sort=False)["system"]
    left_out = [
        f"{get_family(family).title} ({lost} of {systems})"
        for family, systems in families.nunique().items()
        if (lost := systems - known.loc[known["family"] == family, "system"].nunique())
        and get_family(family).has_ends
    ]
    if left_out:
        words += f" Without a converged reference, and left out: {', '.join(left_out)}."
    return words


def _cell(row: dict[str, Any]) -> str:
    rival = f"{row['rival_cost'] * 1e6:.0f} µs {row['rival']}" if row["rival"] else "not reached"
    own = f"{row['cost'] * 1e6:.0f} µs" if row["method"] else "not reached"
    return f"**{_times(row['ratio'])}** {rival} / {own}"


def _heads() -> list[str]:
    return [f"{error:.0e}" for error in LEVELS]


def _times(ratio: float) -> str:
    if math.isnan(ratio):
        return "–"
    return "not reached" if ratio == 0 else "∞" if math.isinf(ratio) else f"{ratio:.1f}×"


# The error's column, and the families that count for it.
MEASURES: dict[str, tuple[str, Callable[[Family], bool]]] = {
    "max energy error": ("max_energy_error", lambda family: True),
    "position error at the end, regular motion": (
        "position_error",
        lambda family: not family.is_short,
    ),
    "position error at the end, short runs of chaotic motion": (
        "position_error",
        lambda family: family.is_short,
    ),
    "max error of a body's orbit": ("max_body_error", lambda family: True),
}
