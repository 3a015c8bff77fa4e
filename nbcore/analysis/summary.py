"""What a benchmark says: the cost of an error with us and with the best peer, in Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import fmean, median
from typing import Any, NamedTuple

import pandas as pd

from nbcore.analysis import equal_errors
from nbcore.analysis.families import FAMILIES
from nbcore.analysis.frontiers import LEVELS, Costs, cheapest, costs
from nbcore.analysis.methods import KINDS as OURS
from nbcore.atomic import replacing
from nbcore.tables import markdown_head, markdown_row, write_table

__all__ = [
    "SUMMARY_FILE",
    "Contest",
    "about",
    "as_markdown",
    "contests",
    "engine_table",
    "metrics",
    "one_for_all",
    "save",
    "short_table",
    "where_peers_win",
]

SUMMARY_FILE = "summary.md"  # in a run folder
TIE = 0.05
PEER = ("peer",)


class Contest(NamedTuple):
    """The cheapest of our methods and the cheapest peer on a family at an error.

    Attributes
    ----------
    method, cost, peer, peer_cost
        "" and NaN where the error is not reached.
    ratio
        The peer's cost over ours.
    """

    family: str
    error: float
    method: str
    cost: float
    peer: str
    peer_cost: float
    ratio: float


def contests(found: Iterable[Costs]) -> list[Contest]:
    """Compare the cheapest of ours with the cheapest peer, on each family at each level."""
    made = []
    for family, group in _by_family(found).items():
        for k, error in enumerate(LEVELS):
            (method, cost), (peer, peer_cost) = (cheapest(group, s, k) for s in (OURS, PEER))
            made.append(Contest(family, error, method, cost, peer, peer_cost, peer_cost / cost))
    return made


def one_for_all(found: Iterable[Costs]) -> list[tuple[str, float]]:
    """For each level the one method of ours that is cheapest over all families together.

    The cheapest of many on each family is a choice that nobody can make beforehand; this one is.

    Returns
    -------
    (method, median over the families of the best peer's cost over its own) for each level; the
    method has the least geometric mean of the costs, and is "" if none reaches the level on every
    family.
    """
    families = _by_family(found)
    made = []
    for k in range(len(LEVELS)):
        by_method: dict[str, list[float]] = {}
        for group in families.values():
            for each in group:
                if each.kind in OURS and math.isfinite(each.at[k]):
                    by_method.setdefault(each.method, []).append(each.at[k])
        whole = {
            m: fmean(map(math.log, c)) for m, c in by_method.items() if len(c) == len(families)
        }
        method = min(whole, key=whole.__getitem__, default="")
        peers = [cheapest(group, PEER, k)[1] for group in families.values()]
        own = by_method.get(method, [])
        made.append((method, _median(p / c for p, c in zip(peers, own, strict=False))))
    return made


def short_table(table: pd.DataFrame) -> str:
    """Markdown for README: CPU times of a system with our best method and with the best peer.

    Parameters
    ----------
    table
        From `benchmark.run_benchmark`.
    """
    found = costs(table)
    rows: dict[str, list[Contest]] = {}
    for contest in contests(found):
        rows.setdefault(contest.family, []).append(contest)
    lines = markdown_head("max energy error", *(f"{error:.0e}" for error in LEVELS))
    lines += [markdown_row(_title(family), *map(_cell, row)) for family, row in rows.items()]
    medians = (_median(c.ratio for c in level) for level in zip(*rows.values(), strict=True))
    lines.append(markdown_row("**median of the ratios**", *map(_times, medians)))
    single = (f"{_times(ratio)} {method}" for method, ratio in one_for_all(found))
    lines.append(markdown_row("**with one method for all**", *single))
    return "\n".join(lines)


def where_peers_win(table: pd.DataFrame) -> str:
    """Markdown list of the families and errors at which a peer is quicker than all of ours.

    A few percent are a tie.
    """
    if "peer" not in set(table["kind"]):
        return "- no peer was run"
    wins: dict[str, list[str]] = {}
    for c in contests(costs(table)):
        if c.ratio < 1 - TIE:
            win = f"at {c.error:.0e} {c.peer} is {c.cost / c.peer_cost:.1f}× quicker"
        elif c.peer and not c.method:
            win = f"only {c.peer} reaches {c.error:.0e}"
        else:
            continue
        wins.setdefault(c.family, []).append(win)
    lines = (f"- {_title(family)}: {', '.join(each)}" for family, each in wins.items())
    return "\n".join(lines) or "- nowhere here"


def engine_table(ratios: pd.DataFrame) -> str:
    """Markdown of the times of a step, from `engine_speed.ratios`."""
    lines = markdown_head("time of a step", "ours", "beside", "ratio", "at most")
    for row in ratios.to_dict("records"):
        times = (_seconds(row[name]) for name in ("ours", "beside"))
        shares = (f"{row[name]:.2f}" if row[name] > 0 else "–" for name in ("ratio", "target"))
        lines.append(markdown_row(row["what"], *times, *shares))
    return "\n".join(lines)


def metrics(table: pd.DataFrame, ratios: pd.DataFrame) -> dict[str, Any]:
    """Plain values for metrics.json: what the tables show, and with what they were made."""
    found = costs(table)
    single = zip(LEVELS, one_for_all(found), strict=True)
    return {
        "benchmark": [contest._asdict() for contest in contests(found)],
        "one_for_all": [{"error": e, "method": m, "ratio": r} for e, (m, r) in single],
        "engine_speed": ratios.to_dict("records"),
        **{name: table.attrs[name] for name in ("machine", "left_out")},
    }


def save(table: pd.DataFrame, ratios: pd.DataFrame, folder: str | Path) -> Path:
    """Write `as_markdown` into a folder, and the costs at equal error if a method is judged."""
    if _judges(table):
        write_table(equal_errors.at_equal_errors(table), Path(folder) / equal_errors.FILE)
    path = Path(folder) / SUMMARY_FILE
    with replacing(path) as part:
        part.write_text(as_markdown(table, ratios), encoding="utf-8")
    return path


def as_markdown(table: pd.DataFrame, ratios: pd.DataFrame) -> str:
    """The whole summary: tables, where peers win, what could not run, and on which machine.

    Parameters
    ----------
    table
        From `benchmark.run_benchmark`.
    ratios
        From `engine_speed.ratios`.
    """
    parts = [
        "# What an accuracy costs",
        about(table.attrs["machine"]),
        "## Our best method and the best peer",
        "CPU time of a system on one core at a maximum energy error over every step, medians, and "
        "how many times as long the best peer takes.",
        short_table(table),
        "## Where peers are quicker",
        where_peers_win(table),
        "## CPU time [ms] at a maximum energy error",
        _long_table(costs(table), 1e3),
        "## CPU time [ms] at a final energy error",
        _long_table(costs(table, error="final_energy_error"), 1e3),
        "## Force evaluations at a maximum energy error",
        _long_table(costs(table, cost="n_force_evaluations"), 1.0),
    ]
    if _judges(table):
        parts += ["## At equal error", equal_errors.as_markdown(table)]
        parts += ["### By family", equal_errors.by_family(table)]
    if len(ratios):
        parts += ["## Speed of the engine", engine_table(ratios)]
    if table.attrs["left_out"]:
        parts += ["## What could not run", _left_out(table.attrs["left_out"])]
    return "\n\n".join(parts) + "\n"


def _judges(table: pd.DataFrame) -> bool:
    return bool(table.attrs["config"].get("judged"))


def _by_family(found: Iterable[Costs]) -> dict[str, list[Costs]]:
    families: dict[str, list[Costs]] = {}
    for each in found:
        families.setdefault(each.family, []).append(each)
    return families


def _median(values: Iterable[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    return median(known) if known else math.nan


def _long_table(found: Iterable[Costs], scale: float) -> str:
    """Best classical, learned and fixed steps and every peer, by family."""
    levels = range(len(LEVELS))
    lines = markdown_head("family", "method", *(f"{error:.0e}" for error in LEVELS))
    for family, group in _by_family(found).items():
        for label, kinds in ((f"best {kind}", (kind,)) for kind in OURS):
            best = [cheapest(group, kinds, k) for k in levels]
            if any(name for name, _ in best):
                cells = (f"{_number(cost * scale)} {name}".strip() for name, cost in best)
                lines.append(markdown_row(_title(family), label, *cells))
        for peer in group:
            if peer.kind in PEER and any(map(math.isfinite, peer.at)):
                lines.append(
                    markdown_row(
                        _title(family), peer.method, *(_number(c * scale) for c in peer.at)
                    )
                )
    return "\n".join(lines)


def about(machine: Mapping[str, Any]) -> str:
    """When, on which processor, of which code and with what a table was made, as a sentence."""
    known = ", ".join(f"{name} {v}" for name, v in machine["versions"].items() if v)
    changed = " with uncommitted changes" if machine["dirty"] else ""
    return (
        f"Made on {machine['date']} on {machine['processor']} ({machine['cores']} cores) at commit "
        f"{machine['commit']}{changed}: {known}."
    )


def _left_out(left_out: Mapping[str, str]) -> str:
    """One line a reason; methods that share a word are named by it."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in left_out.items():
        by_reason.setdefault(reason, []).append(name)
    lines = []
    for reason, names in by_reason.items():
        shared = [word for word in names[0].split() if all(word in n.split() for n in names)]
        if len(names) > 1 and shared:
            names = [f"{' '.join(shared)} (all {len(names)} methods)"]
        lines.append(f"- {', '.join(names)}: {reason}")
    return "\n".join(lines)


def _cell(contest: Contest) -> str:
    c = contest
    ours = f"{c.cost * 1e3:.2g} ms {c.method}" if c.method else "not reached"
    peer = f"{c.peer_cost * 1e3:.2g} ms {c.peer}" if c.peer else "no peer"
    return f"**{_times(c.ratio)}** {ours} / {peer}"


def _title(family: str) -> str:
    return FAMILIES[family].title if family in FAMILIES else family


def _times(ratio: float) -> str:
    return f"{ratio:.1f}×" if math.isfinite(ratio) else "–"


def _number(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}" if math.isfinite(value) else "–"


def _seconds(value: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value / 1e-9:.3g} ns" if value > 0 else "–"
