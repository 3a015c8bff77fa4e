"""One function a picture: a trajectory, a history or a table in, artists out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nbcore.analysis.diagnostics import closest_separation, energies_along
from nbcore.errors import InputError, entry
from nbcore.views.style import (
    COLOURS,
    GREY,
    HIGHLIGHT,
    Floats,
    colour_of,
    counted,
    look_through,
    one_system,
    style,
    window,
)

if TYPE_CHECKING:
    from nbcore.simulation.trajectory import Trajectory

__all__ = [
    "PANELS",
    "QUANTITIES",
    "along_time",
    "cost_comparison",
    "energies",
    "errors",
    "orbits",
    "step_against_separation",
    "step_histogram",
    "steps",
    "style",
    "summary_figure",
    "training",
]

MOST_NAMED_BODIES = 8
MOST_PAIR_RECORDS = 4000  # a scatter of more is a blot, and pairs cost N² each
STEP_BINS = 40
EQUIDISTANT = 1000  # samples in time that the window of a picture is taken from


def orbits(trajectory: Trajectory, ax: Axes) -> list[Artist]:
    """Paths of the bodies, from open circles to dots; three dimensions seen along z.

    Bodies that leave run out of the frame, so that they don't shrink the rest (`style.window`).
    """
    one_system(trajectory)
    plane = trajectory.position[..., :2]
    artists: list[Artist] = []
    for body in range(plane.shape[1]):
        x, y = plane[:, body, 0], plane[:, body, 1]
        colour = colour_of(body)
        artists += ax.plot(x, y, color=colour, lw=1.0, alpha=0.8, label=f"body {body}")
        artists += ax.plot(x[0], y[0], "o", mfc="white", mec=colour, ms=5, zorder=3)
        artists += ax.plot(x[-1], y[-1], "o", color=colour, ms=5, zorder=4)
    look_through(ax, *window(_equidistant(trajectory.time, plane)))
    ax.set(xlabel="x [L]", ylabel="y [L]")
    seen = " (seen along z)" if trajectory.position.shape[-1] > 2 else ""
    ax.set_title(f"Orbits{seen}, from ○ to ●")
    if plane.shape[1] <= MOST_NAMED_BODIES:
        artists.append(ax.legend(loc="best"))
    return artists


def errors(trajectory: Trajectory, ax: Axes) -> list[Artist]:
    """Errors of the worst body's orbit and of the conserved quantities, and the tolerance.

    Records without any error (the first one, at least) have no place on a log axis and are left
    out.
    """
    one_system(trajectory)
    curves = {
        "energy": (trajectory.energy_error, COLOURS[0]),
        "angular momentum": (trajectory.angular_momentum_error, COLOURS[2]),
        "momentum": (trajectory.momentum_error, COLOURS[3]),
        "worst orbit": (worst_orbit(trajectory), COLOURS[1]),
    }
    artists: list[Artist] = []
    for label, (values, colour) in curves.items():
        label += "" if (values > 0).any() else " (zero)"
        artists += _log_curve(ax, trajectory.time, values, color=colour, lw=1.0, label=label)
    _energy_on_top(artists)
    tolerance = trajectory.tolerance
    if tolerance is not None and np.isfinite(tolerance) and tolerance > 0:
        label = f"tolerance {tolerance:.3g}"
        artists.append(ax.axhline(tolerance, color=colour_of(6), ls="--", lw=1.0, label=label))
    _log_axis(ax, artists, empty="no errors above zero")
    _time_axis(ax, trajectory)
    ax.set(ylabel="relative error")
    # in the place of a title: inside, it hides curves
    artists.append(ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2))
    return artists


def steps(trajectory: Trajectory, ax: Axes) -> list[Artist]:
    """The step that led to each record, against time."""
    one_system(trajectory)
    artists = _log_curve(ax, trajectory.time, trajectory.dt, color=COLOURS[0], lw=1.0)
    _log_axis(ax, artists, empty="no steps recorded")
    _time_axis(ax, trajectory)
    ax.set(ylabel="dt [T]", title=f"Steps ({counted(trajectory.n_steps)} in all)")
    return artists


def along_time(trajectories: Sequence[Trajectory], ax: Axes, quantity: str) -> list[Artist]:
    """One positive quantity of one or several runs along time.

    Parameters
    ----------
    trajectories
        One system each.
    quantity
        Name in QUANTITIES.
    """
    label, values = entry("quantity", quantity, QUANTITIES)
    artists: list[Artist] = []
    for k, each in enumerate(trajectories):
        named = f"{one_system(each).policy}, {each.integrator}"
        look: dict[str, Any] = {"color": colour_of(k), "lw": 1.0, "label": named}
        artists += _log_curve(ax, each.time, values(each), **look)
    asked = trajectories[0].tolerance
    if (
        quantity in ("energy_error", "body_error")
        and asked is not None
        and np.isfinite(asked)
        and asked > 0
    ):
        artists.append(ax.axhline(asked, color=colour_of(6), ls="--", lw=1.0, label="tolerance"))
    _log_axis(ax, artists, empty=f"no {label} above zero")
    _time_axis(ax, max(trajectories, key=lambda each: each.time[-1]))
    ax.set(ylabel=label)
    if len(trajectories) > 1:
        artists.append(ax.legend(loc="best"))
    return artists


def energies(trajectories: Sequence[Trajectory], ax: Axes) -> list[Artist]:
    """Kinetic, potential and total energy of one run along time; of several the total ones."""
    artists: list[Artist] = []
    for k, each in enumerate(trajectories):
        parts = energies_along(one_system(each))
        if len(trajectories) > 1:
            parts = {f"total, {each.policy}": parts["total"]}
        for i, (name, values) in enumerate(parts.items()):
            artists += ax.plot(each.time, values, color=colour_of(k + i), lw=1.0, label=name)
    _time_axis(ax, max(trajectories, key=lambda each: each.time[-1]))
    ax.set(ylabel="energy [M L²/T²]")
    artists.append(ax.legend(loc="best"))
    return artists


def step_against_separation(trajectory: Trajectory, ax: Axes) -> list[Artist]:
    """The step that led to each record against the closest pair's distance there.

    The dashed line has the slope of a free fall, dt ∝ r^(3/2). Long records are thinned.
    """
    one_system(trajectory)
    thin = np.arange(1, len(trajectory.time), max(1, len(trajectory.time) // MOST_PAIR_RECORDS))
    some = trajectory.take(thin)
    distance, dt = closest_separation(some), some.dt
    shown = np.isfinite(dt) & (dt > 0) & np.isfinite(distance) & (distance > 0)
    distance, dt = distance[shown], dt[shown]
    artists: list[Artist] = [
        *ax.plot(distance, dt, ".", color=COLOURS[0], ms=3, alpha=0.5, label="steps")
    ]
    if len(dt):
        ends = np.array([distance.min(), distance.max()])
        level = np.exp(np.median(np.log(dt) - 1.5 * np.log(distance)))
        fall = level * ends**1.5
        artists += ax.plot(
            ends, fall, color=HIGHLIGHT, ls="--", zorder=3, label="free fall, $r^{3/2}$"
        )
    ax.set_xscale("log")
    _log_axis(ax, artists, empty="no steps recorded")
    ax.set(xlabel="closest pair's distance [L]", ylabel="dt [T]", title="Step against separation")
    artists.append(ax.legend(loc="best"))
    return artists


def step_histogram(trajectory: Trajectory, ax: Axes) -> list[Artist]:
    """How many of the recorded steps are how long."""
    dt = one_system(trajectory).dt
    dt = dt[np.isfinite(dt) & (dt > 0)]
    artists: list[Artist] = []
    if len(dt):
        low, high = np.log10(dt.min()), np.log10(dt.max())
        edges = np.logspace(low - 0.01, high + 0.01, STEP_BINS + 1)
        _, _, bars = ax.hist(dt, bins=edges, color=COLOURS[0])  # pyright: ignore[reportArgumentType]
        artists += list(bars)  # pyright: ignore[reportArgumentType]
    ax.set_xscale("log")
    ax.set(xlabel="dt [T]", ylabel="steps", title=f"Lengths of {len(dt):,} steps")
    return artists


def training(history: Sequence[Mapping[str, Any]], ax: Axes) -> list[Artist]:
    """Loss and its parts on the left; energy error and dt, where known, on a second axis.

    Parameters
    ----------
    history
        One mapping an epoch, as `nbcore.train` returns it: `loss`, and where known `epoch`, the
        named losses that it is the weighted sum of, `energy_error`, `dt`. An epoch may lack any.
    ax
        Left axis; the second is made on top of it.
    """
    from nbcore.learning.losses import LOSSES

    known = {name for row in history for name in row}
    if "loss" not in known:
        raise InputError(
            f"a history of {len(history)} epochs without 'loss' (known: {sorted(known)}); "
            "train for at least one epoch"
        )
    epoch = _column(history, "epoch") if "epoch" in known else np.arange(float(len(history)))
    losses = {name: _column(history, name) for name in ["loss", *LOSSES] if name in known}
    artists: list[Artist] = []
    for i, (name, values) in enumerate(losses.items()):
        look: dict[str, Any] = {"lw": 1.8 if i == 0 else 1.0, "color": colour_of(6 - i)}
        artists += _curve(ax, epoch, values, np.isfinite(values), label=_words(name), **look)
    # NaN is neither: an epoch without a loss doesn't decide
    negative = any((values < 0).any() for values in losses.values())
    if not negative and not (losses["loss"] == 0).any():
        ax.set_yscale("log")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    ax.set(xlabel="epoch", ylabel="loss and its parts", title="Training")
    labels = {"energy_error": "energy error", "dt": "dt [T]"}
    labels = {name: label for name, label in labels.items() if name in known}
    if labels:
        beside = ax.twinx()
        beside.grid(visible=False)
        beside.spines["right"].set_visible(True)
        for i, (name, label) in enumerate(labels.items()):
            look = {"lw": 1.0, "ls": "--", "color": colour_of(i)}
            artists += _log_curve(beside, epoch, _column(history, name), label=label, **look)
        _log_axis(beside, artists, empty="")
        beside.set_ylabel(", ".join(labels.values()) + " (dashed)")
    artists.append(
        ax.legend(handles=artists, loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=3)
    )
    return artists


def cost_comparison(
    rows: Sequence[Mapping[str, Any]], ax: Axes, highlight: str = "learned"
) -> list[Artist]:
    """Largest energy errors of several methods at equal cost, the most accurate on top.

    Parameters
    ----------
    rows
        One mapping a method: `method`, and `median`, `p10`, `p90` of max |E − E0| / |E0|; a run
        that was lost may count as inf and ends at the right edge.
    ax
        Where to draw.
    highlight
        Methods whose name contains this are set off in colour.
    """
    if not rows:
        raise InputError("there are no rows to compare; give at least one method")
    rows = sorted(rows, key=lambda row: (np.isnan(row["median"]), row["median"]), reverse=True)
    values = np.array([[row["p10"], row["median"], row["p90"]] for row in rows], dtype=float)
    drawn = values[np.isfinite(values) & (values > 0)]
    low, high = (drawn.min() / 2, drawn.max() * 2) if len(drawn) else (1e-16, 1.0)
    artists: list[Artist] = []
    for y, (row, (p10, median, p90)) in enumerate(zip(rows, values, strict=True)):
        colour = HIGHLIGHT if highlight.lower() in str(row["method"]).lower() else GREY
        # a lost run sits on the right edge
        start, middle, end = np.clip(np.nan_to_num([p10, median, p90], nan=np.inf), low, high)
        artists += ax.plot([start, end], [y, y], color=colour, lw=2.5, alpha=0.55)
        artists += ax.plot(middle, y, "o", color=colour, ms=7, zorder=3, clip_on=False)
        text = f"{median:.1e}" if np.isfinite(median) else "lost"
        above: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "va": "bottom"}
        artists.append(ax.annotate(text, (middle, y), (0, 6), color=colour, fontsize=8, **above))
    ax.set_xscale("log")
    ax.set(xlim=(low, high), ylim=(-0.6, len(rows) - 0.3))
    ax.set_yticks(range(len(rows)), [str(row["method"]) for row in rows])
    for tick, row in zip(ax.get_yticklabels(), rows, strict=True):
        if highlight.lower() in str(row["method"]).lower():
            tick.set(color=HIGHLIGHT, fontweight="bold")
    ax.set(xlabel="max energy error, median and 10th–90th percentile", title="Error at equal cost")
    ax.grid(visible=False, axis="y")
    return artists


def summary_figure(trajectory: Trajectory, figure: Figure | None = None) -> Figure:
    """Orbits, errors and steps of one system in one figure.

    Parameters
    ----------
    figure
        Empty figure to draw in, such as `plt.figure(...)`, which a notebook shows by itself; a new
        one without it.
    """
    one_system(trajectory)
    with style():
        figure = figure or Figure(figsize=(10, 5), layout="constrained")
        panels = figure.subplot_mosaic([["orbits", "errors"], ["orbits", "steps"]])
        orbits(trajectory, panels["orbits"])
        errors(trajectory, panels["errors"])
        steps(trajectory, panels["steps"])
        panels["errors"].set_xlabel("")
        panels["errors"].tick_params(labelbottom=False)
        figure.suptitle(
            f"{trajectory.integrator}, {trajectory.policy}, {trajectory.stepping}: "
            f"max error of energy {trajectory.max_energy_error:.1e}, of a body's orbit "
            f"{trajectory.max_body_error:.1e}, with "
            f"{counted(trajectory.n_force_evaluations)} force evaluations",
            fontsize=10,
        )
    return figure


def _equidistant(time: Floats, plane: Floats) -> Floats:
    times = np.linspace(time[0], time[-1], EQUIDISTANT)
    flat = plane.reshape(len(time), -1)
    columns = [np.interp(times, time, column) for column in flat.T]
    return np.stack(columns, axis=-1).reshape(EQUIDISTANT, *plane.shape[1:])


def _curve(ax: Axes, x: Floats, y: Floats, shown: np.ndarray, **look: Any) -> list[Artist]:
    marker = "." if shown.sum() == 1 else ""
    return [*ax.plot(x[shown], y[shown], marker=marker, **look)]


def _log_curve(ax: Axes, x: Floats, y: Floats, **look: Any) -> list[Artist]:
    return _curve(ax, x, y, np.isfinite(y) & (y > 0), **look)


def _energy_on_top(curves: list[Artist]) -> None:
    for height, curve in enumerate(reversed(curves)):
        curve.set_zorder(2 + 0.1 * height)


def _log_axis(ax: Axes, artists: list[Artist], empty: str) -> None:
    ax.set_yscale("log")
    if not any(np.size(line.get_ydata()) for line in ax.lines):
        ax.set_ylim(1e-16, 1)
        artists.append(
            ax.text(0.5, 0.5, empty, transform=ax.transAxes, ha="center", va="center", color=GREY)
        )


def _time_axis(ax: Axes, trajectory: Trajectory) -> None:
    ax.set_xlabel("time [T]")
    if trajectory.time[-1] > trajectory.time[0]:
        ax.set_xlim(trajectory.time[0], trajectory.time[-1])


def _column(history: Sequence[Mapping[str, Any]], name: str) -> Floats:
    return np.array([row.get(name, np.nan) for row in history], dtype=float)


def worst_orbit(trajectory: Trajectory) -> Floats:
    """(T,) error of the body whose orbit is worst at each record."""
    return trajectory.body_error.max(axis=-1)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _errors(trajectories: Sequence[Trajectory], ax: Axes) -> list[Artist]:
    if len(trajectories) == 1:
        return errors(trajectories[0], ax)
    return along_time(trajectories, ax, "energy_error")


# Quantities of a trajectory that are positive: label of the axis, and values (T,).
QUANTITIES: dict[str, tuple[str, Callable[[Trajectory], Floats]]] = {
    "energy_error": ("energy error", lambda t: t.energy_error),
    "body_error": ("error of the worst orbit", worst_orbit),
    "momentum_error": ("momentum error", lambda t: t.momentum_error),
    "angular_momentum_error": ("angular momentum error", lambda t: t.angular_momentum_error),
    "dt": ("dt [T]", lambda t: t.dt),
    "separation": ("closest pair's distance [L]", closest_separation),
}

# Pictures along time, of one or several trajectories.
PANELS: dict[str, Callable[[Sequence[Trajectory], Axes], list[Artist]]] = {
    "errors": _errors,
    "energy": energies,
    **{name: partial(along_time, quantity=name) for name in QUANTITIES},
}
