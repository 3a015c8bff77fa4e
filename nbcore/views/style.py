"""What all pictures share: colours, fonts, and the window through which bodies are seen."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from numpy.typing import NDArray

from nbcore.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from nbcore.simulation.trajectory import Trajectory

__all__ = [
    "COLOURS",
    "GREY",
    "HIGHLIGHT",
    "LOOKS",
    "colour_of",
    "counted",
    "look_through",
    "one_system",
    "style",
    "window",
]

Floats = NDArray[np.float64]

# Okabe & Ito (2008); yellow is left out, it vanishes on white paper
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
GREY = "#6F6F6F"
HIGHLIGHT = COLOURS[1]

RC = {
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.labelsize": 9.0,
    "legend.fontsize": 8.0,
    "legend.frameon": True,
    "legend.framealpha": 0.9,
    "legend.edgecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.2,
    "savefig.dpi": 150,
    "agg.path.chunksize": 10_000,  # runs of 1e6 records exceed Agg's cell limit otherwise
}

INK, PAPER, LINES = "#E8E8E8", "#14161A", "#33373E"  # of the dark look
LOOKS: dict[str, dict[str, object]] = {
    "light": {"figure.facecolor": "white", "grid.color": "#E3E3E3"},
    "dark": {
        **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor"), INK),
        **dict.fromkeys(("xtick.color", "ytick.color"), INK),
        **dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), PAPER),
        "legend.facecolor": PAPER,
        "grid.color": LINES,
    },
}


def style(look: str = "light") -> AbstractContextManager[None]:
    """Context in which figures get the project's look; make the axes inside it.

    Parameters
    ----------
    look
        One of LOOKS.

    Examples
    --------
    >>> with style():
    ...     figure, ax = plt.subplots()
    ...     orbits(trajectory, ax)
    """
    return matplotlib.rc_context(RC | LOOKS[look])  # pyright: ignore[reportArgumentType]


def colour_of(body: int) -> str:
    """Colour of a body; the palette repeats after its end, and its black is the look's ink."""
    colour = COLOURS[body % len(COLOURS)]
    return matplotlib.rcParams["text.color"] if colour == "#000000" else colour


def counted(number: float) -> str:
    """A count with thousands set off; «?» where a run was killed before it could be counted."""
    return f"{number:,}" if np.isfinite(number) else "?"


def one_system(trajectory: Trajectory) -> Trajectory:
    """The trajectory itself, or an error when it is a batch."""
    if trajectory.batched:
        raise InputError(
            f"a picture shows one system, and this trajectory is a batch of "
            f"{len(trajectory.mass)}; give trajectory.system(0), or another of them"
        )
    return trajectory


def look_through(ax: Axes, lower: Floats, upper: Floats) -> None:
    """Show this window, to one scale."""
    ax.set(xlim=(lower[0], upper[0]), ylim=(lower[1], upper[1]))
    ax.set_aspect("equal", adjustable="box")


def window(points: Floats, margin: float = 0.06) -> tuple[Floats, Floats]:
    """Lower and upper corner of a square that shows the motion, but no escaper to its end.

    A body that goes farther than 3.5 times the distance from the median position within which it
    spends a quarter of the time escapes (a straight flight goes to 4 times, a bound two-body
    orbit only to 2). It is followed to 3 times the reach of those that don't escape, or, if all
    do, to the end, so that no picture is empty. And no body is followed farther than 3 times 9
    of 10.

    Parameters
    ----------
    points
        (T, N, 2) positions at equidistant times [L]; not finite ones are ignored.
    margin
        Free room on each side, as a share of the square's side.

    Returns
    -------
    (2,), (2,) [L].
    """
    points = points[np.isfinite(points).all(axis=(1, 2))]
    # a median: what escapes doesn't take it along
    distance = np.linalg.norm(points - np.median(points, axis=(0, 1)), axis=-1)
    reach, quarter = distance.max(axis=0), np.quantile(distance, 0.25, axis=0)
    escapes = reach > 3.5 * quarter
    if escapes.any() and not escapes.all():
        reach[escapes] = np.minimum(reach, 3 * reach[~escapes].max())[escapes]
    reach = np.minimum(reach, 3 * np.quantile(reach, 0.9))
    seen = points[distance <= reach * (1 + 1e-9)]
    lower, upper = seen.min(axis=0), seen.max(axis=0)
    side = max(float((upper - lower).max()), 1e-9 * float(np.abs(seen).max()), 1e-300)
    middle, half = (lower + upper) / 2, (0.5 + margin) * side
    return middle - half, middle + half
