"""A scene of a film: what stays is drawn once, what moves in front of it for every frame."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from itertools import pairwise
from math import lcm
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from nbcore.errors import InputError, unknown_name
from nbcore.views.motion import Frame, Motion, fine_times, in_frame, project
from nbcore.views.plots import PANELS
from nbcore.views.style import GREY, Floats, colour_of, counted, look_through, window

if TYPE_CHECKING:
    from nbcore.simulation.trajectory import Trajectory

__all__ = ["Camera", "Scene"]

INCHES = 6.0  # height of the picture, whatever its pixels: so large is its writing
FADES = 12  # pieces of a trail, each with its own opacity
MOST_PIECES = 1200  # of all trails together; with more, drawing is slower than encoding
MOST_ON_CURVES = 4000  # records
SAMPLES = 400  # frames that the window is taken from
MOST_ACROSS = 4  # panels in a row below several runs
BLOCK = 2_000_000  # numbers of a path that are read at once


class Camera(NamedTuple):
    """Where three dimensions are seen from, orthographically.

    Attributes
    ----------
    azimuth, elevation
        Of the first frame [degrees].
    turn
        By how much the azimuth has grown at the last [degrees].
    """

    azimuth: float = -60.0
    elevation: float = 25.0
    turn: float = 0.0

    def at(self, share: float) -> tuple[float, float]:
        """Azimuth and elevation when a share of the film is over."""
        return self.azimuth + share * self.turn, self.elevation

    def __str__(self) -> str:
        seen = f"orthographic, azimuth {self.azimuth:g}°, elevation {self.elevation:g}°"
        return (seen + (f", turning by {self.turn:g}°" if self.turn else "")).replace("-", "−")


class Scene:
    """A canvas with its static background, and what moves in front of it.

    Parameters
    ----------
    motions
        What is seen, side by side.
    size
        Width and height [pixels].
    max_frames
        Most frames; there are never more than records.
    trail
        Length of the trails in frames.
    panels
        Names in `plots.PANELS`.
    frame
        See `motion.in_frame`.
    pace
        "time": frames equidistant in time; "steps": in records.
    camera
        For three dimensions.

    Attributes
    ----------
    times
        (F,) of the frames [T].
    """

    def __init__(
        self,
        motions: Sequence[Motion],
        size: tuple[int, int],
        *,
        max_frames: int = 300,
        trail: int = 60,
        panels: Sequence[str] = (),
        frame: Frame = "inertial",
        pace: str = "time",
        camera: Camera | None = None,
    ) -> None:
        for name in panels:
            if name not in PANELS:
                raise unknown_name("panel", name, PANELS)
        self.times = _times_of(motions, max_frames, pace)
        dpi = size[1] / INCHES
        figure = Figure(figsize=(size[0] / dpi, INCHES), dpi=dpi, layout="constrained")
        self.canvas = FigureCanvasAgg(figure)
        axes = _lay_out(figure, len(motions), panels)
        curves = [each.take(MOST_ON_CURVES) for each in motions]
        for name in panels:
            PANELS[name](curves, axes[name])
        self.cursors = [axes[name].axvline(self.times[0], color=GREY, lw=1.0) for name in panels]
        self.sides = [
            _Side(motion, self.times, axes[f"orbits {k}"], trail, frame, camera or Camera())
            for k, motion in enumerate(motions)
        ]
        figure.suptitle(_title(motions[0].about) if len(motions) == 1 else "", fontsize=10)
        if len(motions) > 1:
            _share_window(self.sides)
            for k, side in enumerate(self.sides):
                side.title = f"{_title(side.motion.about)}\n"
                side.colour = colour_of(k)
        self.moving: list[Artist] = [*self.cursors]
        for side in self.sides:
            self.moving += [side.trails, side.dots, side.caption]
        for artist in self.moving:
            artist.set_animated(True)
        for side in self.sides:
            side.draw(0)  # so that the captions have their height in the layout
        self._draw_background(len(panels))
        self.background = self.canvas.copy_from_bbox(figure.bbox)

    def _draw_background(self, n_panels: int) -> None:
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("error", message="constrained_layout not applied")
                self.canvas.draw()
        except UserWarning:
            raise InputError(
                f"{n_panels} panels do not fit beside {len(self.sides)} run(s); name fewer"
            ) from None
        self.canvas.figure.set_layout_engine("none")

    def draw(self, frame: int) -> memoryview:
        """RGBA bytes of a frame, valid until the next one is drawn."""
        now = self.times[frame]
        for side in self.sides:
            side.draw(frame)
        for cursor in self.cursors:
            cursor.set_xdata([now, now])
        self.canvas.restore_region(self.background)
        for artist in self.moving:
            self.canvas.figure.draw_artist(artist)
        return self.canvas.buffer_rgba()


class _Side:
    """The orbits of one motion."""

    def __init__(
        self, motion: Motion, times: Floats, ax: Axes, trail: int, frame: Frame, camera: Camera
    ) -> None:
        self.motion, self.times, self.ax, self.trail = motion, times, ax, trail
        self.title = ""
        self.colour: str | None = None
        self._camera, self._flat = camera, motion.n_dimensions == 2
        self.path = _Path(motion, times, frame)
        n_bodies = motion.n_bodies
        colours = np.array([to_rgba(colour_of(body)) for body in range(n_bodies)])
        self.fades = int(np.clip(MOST_PIECES // n_bodies, 2, FADES))
        faded = np.repeat(colours, self.fades, axis=0)
        faded[:, 3] = np.tile(np.arange(1, self.fades + 1) / self.fades, n_bodies) * 0.9
        self.trails = LineCollection([], colors=faded, linewidths=1.4, capstyle="butt")
        ax.add_collection(self.trails, autolim=False)
        look = {"edgecolors": ax.get_facecolor(), "lw": 0.5, "zorder": 3}
        self.dots = ax.scatter(
            *np.zeros((2, n_bodies)), s=dot_sizes(motion.about.mass), c=colours, **look
        )
        self.caption = ax.set_title("", loc="left")
        self.corners = window(self._samples())
        look_through(ax, *self.corners)
        if self._flat:
            ax.set(xlabel="x [L]", ylabel="y [L]")
        else:
            ax.set(xlabel=f"across the view [L] ({camera})", ylabel="up the view [L]")

    def _seen(self, position: Floats, share: float) -> Floats:
        return position if self._flat else project(position, *self._camera.at(share))

    def _samples(self) -> Floats:
        """Positions on the screen of some frames."""
        chosen = np.unique(np.linspace(0, len(self.times) - 1, SAMPLES).astype(int))
        position = self.path.at(self.times[chosen])
        if self._flat:
            return position
        shares = chosen / max(1, len(self.times) - 1)
        azimuth = self._camera.azimuth + shares * self._camera.turn
        return project(position, azimuth[:, None], self._camera.elevation)

    def draw(self, frame: int) -> None:
        """Put trails, bodies and caption where they are at a frame."""
        ages = np.linspace(self.trail, 0, self.fades + 1)
        frames = np.maximum(0, np.round(frame - ages).astype(int))
        ends = self.path.at_frame[frames]
        share = frame / max(1, len(self.times) - 1)
        seen = self._seen(self.path.stretch(ends[0], ends[-1]), share)
        pieces = [(start - ends[0], end - ends[0]) for start, end in pairwise(ends)]
        self.trails.set_segments(
            [seen[start : end + 1, body] for body in range(seen.shape[1]) for start, end in pieces]
        )
        self.dots.set_offsets(seen[-1])
        step = caption_of(self.motion, self.times[frame])
        self.caption.set_text(f"{self.title}t = {self.times[frame]:#.5g} [T]   {step}")
        if self.colour is not None:
            self.caption.set_color(self.colour)


class _Path:
    """Positions at the times through which trails pass, a few blocks of them in memory."""

    def __init__(self, motion: Motion, times: Floats, frame: Frame) -> None:
        self._motion = motion
        self._frame: Frame = frame
        self.times = fine_times(motion.time, times)
        self.at_frame = np.searchsorted(self.times, times)
        self._rows = max(16, BLOCK // (motion.n_bodies * motion.n_dimensions))
        self._blocks: dict[int, Floats] = {}

    def at(self, times: Floats) -> Floats:
        return in_frame(self._motion.at(times), self._frame, self._motion.about.mass)

    def stretch(self, first: int, last: int) -> Floats:
        """Positions from one of the times to another, that included."""
        wanted = range(first // self._rows, last // self._rows + 1)
        self._blocks = {k: self._blocks[k] if k in self._blocks else self._read(k) for k in wanted}
        parts = [
            block[max(0, first - k * self._rows) : last + 1 - k * self._rows]
            for k, block in self._blocks.items()
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _read(self, k: int) -> Floats:
        return self.at(self.times[k * self._rows : (k + 1) * self._rows])


def _times_of(motions: Sequence[Motion], max_frames: int, pace: str) -> Floats:
    time = motions[0].time
    count = min(max_frames, max(len(each.time) for each in motions))
    if pace == "steps":
        return time[np.linspace(0, len(time) - 1, min(count, len(time))).round().astype(int)]
    if pace != "time":
        raise unknown_name("pace", pace, ("time", "steps"))
    first, last = min(each.time[0] for each in motions), max(each.time[-1] for each in motions)
    return np.linspace(first, last, count)


def _lay_out(figure: Figure, sides: int, panels: Sequence[str]) -> dict[str, Axes]:
    """Orbits beside a column of panels, or several orbits above a row of them."""
    orbits = [f"orbits {k}" for k in range(sides)]
    if sides == 1 and panels:
        rows: Any = [[orbits[0], name] for name in panels]
        return figure.subplot_mosaic(rows, width_ratios=[1.45, 1])
    across = min(len(panels), MOST_ACROSS) or 1
    columns = lcm(sides, across)
    rows = [[name for name in orbits for _ in range(columns // sides)]]
    for first in range(0, len(panels), across):
        names = [*panels[first : first + across], *["."] * across][:across]
        rows.append([name for name in names for _ in range(columns // across)])
    return figure.subplot_mosaic(rows, height_ratios=[1.9, *[1.0] * (len(rows) - 1)])


def _share_window(sides: Sequence[_Side]) -> None:
    low = np.min([side.corners[0] for side in sides], axis=0)
    high = np.max([side.corners[1] for side in sides], axis=0)
    middle, half = (low + high) / 2, (high - low).max() / 2
    for side in sides:
        look_through(side.ax, middle - half, middle + half)


def _title(trajectory: Trajectory) -> str:
    return f"{trajectory.integrator}, {trajectory.policy}, {trajectory.stepping}"


def caption_of(motion: Motion, time: float) -> str:
    """Which step or record a time has come to."""
    record = motion.records[max(0, np.searchsorted(motion.time, time, side="right") - 1)]
    made, last = counted(motion.about.n_steps), motion.n_records - 1
    if last == motion.about.n_steps:
        return f"step {record:,} of {made}"
    return f"record {record:,} of {last:,} ({made} steps)"


def dot_sizes(mass: Floats) -> Floats:
    """Areas [pt²] of spheres of one density, with a floor so that test particles are seen."""
    largest = 160.0 / (1 + len(mass) / 16)
    share = mass / mass.max() if mass.max() > 0 else np.ones_like(mass)
    return np.maximum(largest * share ** (2 / 3), largest / 12)
