"""Work against precision: what an error costs, a panel a family."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nbcore.analysis.families import FAMILIES
from nbcore.analysis.frontiers import COSTS, ERRORS, Frontier, cost_of, frontiers
from nbcore.analysis.planetary_peers import PLANETARY
from nbcore.errors import InputError
from nbcore.views.style import COLOURS, GREY, Floats, style

__all__ = ["frontier_panel", "frontiers_figure", "leaders"]

MOST_LEADERS = 3
LEVELS = 10.0 ** -np.arange(2, 13)  # errors at which methods win or lose
COLUMNS = 3  # of panels
SMALLEST, LARGEST = 1e-15, 1.0  # errors that are shown
ACCURATE = 1e-2  # whose cheapest sets the costs that are shown, up to so many times
SPREAD = 300.0


def leaders(found: Sequence[Frontier]) -> list[str]:
    """Those of our methods that are the cheapest most often, over families and errors."""
    won: Counter[str] = Counter()
    for family in dict.fromkeys(each.family for each in found):
        ours = [each for each in found if each.family == family and each.kind != "peer"]
        for level in LEVELS:
            cost = [cost_of(_errors(each), _costs(each), level) for each in ours]
            if not np.isnan(cost).all():
                won[ours[int(np.nanargmin(cost))].method] += 1
    return [name for name, _ in won.most_common(MOST_LEADERS)]


def frontier_panel(found: Sequence[Frontier], ax: Axes, highlight: Sequence[str]) -> list[Artist]:
    """Cost against error of all methods on one family; the error shrinks to the right.

    Our methods are lines: those of `highlight` in colour, with the band from the 10th to the 90th
    percentile of the error, the others thin and grey. Peers have markers.

    Parameters
    ----------
    found
        Of one family.
    ax
        Where to draw.
    highlight
        Names of methods.
    """
    families = sorted({each.family for each in found})
    if len(families) != 1:
        raise InputError(
            f"a panel shows one family, and these frontiers are of {len(families)} "
            f"({', '.join(families)}); choose those of one"
        )
    colours = dict(zip(highlight, COLOURS, strict=False))
    artists: list[Artist] = []
    for each in found:
        shown = _errors(each) < LARGEST
        low, middle, high = np.maximum(each.error[shown].T, SMALLEST)
        cost = _costs(each)[shown]
        look: dict[str, Any] = {"lw": 0.6, "color": GREY, "alpha": 0.25}
        if each.kind == "peer":
            look = {"lw": 0.8, "ls": "--", "ms": 5, "zorder": 3, **_peer_look(each.method)}
        elif each.method in colours:
            colour = colours[each.method]
            look = {"lw": 1.8, "color": colour, "zorder": 4}
            whole = np.isfinite(high)  # no system in ten was lost
            band = ax.fill_betweenx(cost, low, high, whole, color=colour, alpha=0.12, lw=0)
            artists.append(band)
        artists += ax.plot(middle, cost, label=each.method, **look)
    ax.set(xscale="log", yscale="log", xlim=(LARGEST, SMALLEST), title=_title(families[0]))
    error, cost = (np.concatenate([pick(each) for each in found]) for pick in (_errors, _costs))
    accurate = cost[error <= max(ACCURATE, error.min())]
    ax.set_ylim(accurate.min() / 2, min(accurate.max() * 2, SPREAD * accurate.min()))
    return artists


def frontiers_figure(
    table: pd.DataFrame,
    figure: Figure | None = None,
    cost: str = "cpu_seconds",
    error: str = "max_energy_error",
) -> Figure:
    """A panel a family, with one legend; families that have no such error are left out.

    Parameters
    ----------
    table
        From `nbcore.analysis.benchmark.run_benchmark`.
    figure
        Empty figure to draw in, which gets the size that the panels need; a new one without it.
    cost, error
        Columns of the table, see COSTS and ERRORS of `nbcore.analysis.frontiers`.
    """
    found = frontiers(table, error, cost)
    families = list(dict.fromkeys(each.family for each in found))
    highlight = leaders(found)
    columns = min(COLUMNS, max(1, len(families)))
    rows = max(1, -(-len(families) // columns))
    with style():
        figure = figure or Figure(layout="constrained")
        figure.set_size_inches(3.8 * columns, 2.9 * rows + 1.2)
        panels = figure.subplots(rows, columns, squeeze=False)
        shown: dict[str, Artist] = {}
        for ax, family in zip(panels.flat, families, strict=False):
            artists = frontier_panel([f for f in found if f.family == family], ax, highlight)
            shown |= {str(artist.get_label()): artist for artist in artists}
        for ax in panels.flat[len(families) :]:
            ax.set_axis_off()
        for ax in panels[-1]:
            ax.set_xlabel(ERRORS[error])
        for ax in panels[:, 0]:
            ax.set_ylabel(COSTS[cost])
        if families:
            _legend(figure, shown, highlight, 1 + columns)
        else:
            panels[0, 0].text(0.5, 0.5, f"no family has a {ERRORS[error]}", ha="center", color=GREY)
    return figure


def _errors(frontier: Frontier) -> Floats:
    return frontier.error[:, 1]


def _costs(frontier: Frontier) -> Floats:
    return frontier.cost[:, 1]


def _legend(figure: Figure, shown: dict[str, Artist], highlight: list[str], columns: int) -> None:
    """Ours in colour, the peers, and one grey line for all other methods."""
    named = [name for name in (*highlight, *PEER_LOOKS) if name in shown]
    handles, labels = [shown[name] for name in named], list(named)
    others = [a for name, a in shown.items() if name not in named and not name.startswith("_")]
    if others:
        handles.append(others[0])
        labels.append("our other methods")
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)


def _title(family: str) -> str:
    return FAMILIES[family].title if family in FAMILIES else family


def _peer_look(name: str) -> dict[str, Any]:
    return PEER_LOOKS.get(name, {"marker": ".", "color": COLOURS[6]})


PEER_LOOKS: dict[str, dict[str, Any]] = {
    "heyoka": {"marker": "o", "color": COLOURS[3]},
    "ias15 prs23": {"marker": "^", "color": COLOURS[6]},
    "ias15 aarseth85": {"marker": "v", "color": COLOURS[6], "mfc": "white"},
    "bs": {"marker": "s", "color": COLOURS[4]},
    "dop853": {"marker": "D", "color": COLOURS[5]},
    **{
        f"rebound leapfrog{order}": {"marker": f"${order}$", "color": GREY, "lw": 0.4}
        for order in (2, 4, 6, 8)
    },
    **{
        name: {"marker": f"${letter}$", "color": COLOURS[6], "lw": 0.4}
        for letter, name in zip("abcdefghijk", PLANETARY, strict=True)
    },
}
