"""The widget that shows orbits in the browser: it is sent a run once, and animates it there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
import numpy as np
import traitlets

from nbcore.analysis.diagnostics import closest_separation
from nbcore.views.motion import Motion, fine_times
from nbcore.views.style import COLOURS, Floats, counted, one_system, window

if TYPE_CHECKING:
    from nbcore.simulation.trajectory import Trajectory

__all__ = ["OrbitView"]

HERE = Path(__file__).parent

FRAMES = 1000  # equidistant times among those of the path
MOST_POINTS = 300_000  # of all bodies on the path: 3.6 MB for the browser
MOST_STEPS = 100_000  # of all bodies where steps fall
MOST_ON_CURVES = 1600  # records, among them the extremes
RADII = (2.0, 9.0)  # of a body on the screen [pixels], least and most


class OrbitView(anywidget.AnyWidget):
    """Orbits with trails, and error, step and closest pair along them; play, scrub, rotate, zoom.

    Attributes
    ----------
    runs
        What is drawn side by side, as packed by `show`.
    """

    _esm = HERE / "orbit_view.js"
    _css = HERE / "orbit_view.css"

    runs = traitlets.List().tag(sync=True)
    dimensions = traitlets.Int(2).tag(sync=True)
    centre = traitlets.List([0.0, 0.0, 0.0]).tag(sync=True)
    half = traitlets.Float(1.0).tag(sync=True)
    tolerance = traitlets.Float(None, allow_none=True).tag(sync=True)
    colours = traitlets.List(list(COLOURS)).tag(sync=True)

    def show(self, trajectories: Sequence[Trajectory]) -> None:
        """Show one run, or several of the same system side by side.

        Parameters
        ----------
        trajectories
            One system each, with 2 records or more.

        Raises
        ------
        InputError
            A batch, or too few records.
        """
        packed = [_packed(one_system(each)) for each in trajectories]
        corners = np.array([corner for _, corner in packed])
        low, high = corners[:, 0].min(axis=0), corners[:, 1].max(axis=0)
        asked = trajectories[0].tolerance
        with self.hold_sync():
            self.dimensions = trajectories[0].position.shape[-1]
            self.centre = [float(each) for each in (low + high) / 2]
            self.half = float((high - low).max() / 2)
            self.tolerance = float(asked) if asked and np.isfinite(asked) else None
            self.runs = [run for run, _ in packed]


def _packed(trajectory: Trajectory) -> tuple[dict[str, Any], Floats]:
    """What the browser needs of a run, and the corners of its window, (2, 3)."""
    motion = Motion(trajectory, picture="an animation")
    n_bodies = motion.n_bodies
    frames = np.linspace(motion.time[0], motion.time[-1], FRAMES)
    times = fine_times(motion.time, frames, most=max(FRAMES, MOST_POINTS // n_bodies - FRAMES))
    thin = max(1, -(-len(motion.records) * n_bodies // MOST_STEPS))
    stops = trajectory.take(motion.records[::thin])
    shown = motion.take(MOST_ON_CURVES)
    curves = {
        "time": shown.time,
        "energy_error": shown.energy_error,
        "dt": shown.dt,
        "closest": closest_separation(shown),
    }
    largest = float(trajectory.mass.max()) or 1.0
    size = RADII[0] + (RADII[1] - RADII[0]) * (trajectory.mass / largest) ** (1 / 3)
    run = {
        "label": f"{trajectory.policy}, {trajectory.integrator}, {trajectory.stepping}",
        "cost": (
            f"{counted(trajectory.n_steps)} steps, "
            f"{counted(trajectory.n_force_evaluations)} force evaluations, "
            f"max energy error {trajectory.max_energy_error:.1e}"
        ),
        "mass": trajectory.mass.tolist(),
        "radii": (size / (1 + n_bodies / 30)).clip(min=1.5).tolist(),
        "time": _bytes(times, "<f8"),
        "path": _bytes(_deep(motion.at(times)), "<f4"),
        "step_time": _bytes(stops.time, "<f8"),
        "step_path": _bytes(_deep(stops.position), "<f4"),
        "curves": {name: _bytes(values, "<f8") for name, values in curves.items()},
    }
    return run, _corners(motion.at(frames))


def _corners(position: Floats) -> Floats:
    """Corners of a cube in which the motion is seen from any side, (2, 3)."""
    deep = _deep(position)
    sides = [window(deep[..., pair]) for pair in ([0, 1], [2, 0], [1, 2])]
    low = [sides[0][0][0], sides[0][0][1], sides[2][0][1]]
    high = [sides[0][1][0], sides[0][1][1], sides[2][1][1]]
    return np.array([low, high])


def _deep(position: Floats) -> Floats:
    """Positions in three dimensions."""
    missing = 3 - position.shape[-1]
    return np.pad(position, [(0, 0)] * (position.ndim - 1) + [(0, missing)])


def _bytes(values: Floats, kind: str) -> bytes:
    return np.ascontiguousarray(values, dtype=kind).tobytes()
