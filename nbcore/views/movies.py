"""Movies: the static parts are drawn once, the rest is blitted and piped to FFMPEG."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import IO, TYPE_CHECKING

import imageio_ffmpeg
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from tqdm import tqdm

from nbcore.atomic import replacing
from nbcore.errors import InputError
from nbcore.views.motion import Indices, fine_times, positions_at, project, usable_records
from nbcore.views.plots import errors, steps
from nbcore.views.style import (
    GREY,
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

__all__ = ["movie"]

SIZE = (10.0, 6.0)  # inches
AZIMUTH, ELEVATION = -60, 25  # degrees, of the camera in three dimensions
FADES = 12  # pieces of a trail, each with its own opacity
MOST_PIECES = 1200  # of all trails together; with more, drawing is slower than encoding


def movie(
    trajectory: Trajectory,
    path: str | Path,
    *,
    max_frames: int = 300,
    frames_per_second: int = 30,
    dpi: int = 120,
    trail: int = 60,
    progress: bool = False,
) -> Path:
    """Write an mp4 of one system: bodies with trails, errors, steps.

    Frames are equidistant in time, so that pericentre passages, where records are dense, don't
    slow the picture down; between records positions are interpolated. The file appears under its
    name only when it is complete.

    Parameters
    ----------
    trajectory
        One system, with 2 records or more.
    path
        Target, ending in .mp4; its folder must exist.
    max_frames
        Most frames; there are never more than records.
    frames_per_second
        Of the film.
    dpi
        Dots per inch of a picture of 10 × 6 inches.
    trail
        Length of the trails in frames.
    progress
        Whether to show a bar.

    Returns
    -------
    The path of the file.

    Raises
    ------
    InputError
        A batch, too few records, a target that can't be written.
    RuntimeError
        FFMPEG failed; the message ends with its last lines.
    """
    least = {"max_frames": 2, "frames_per_second": 1, "dpi": 10, "trail": 1}
    given = (max_frames, frames_per_second, dpi, trail)
    for (name, limit), value in zip(least.items(), given, strict=True):
        if value < limit:
            raise InputError(f"{name} is {value}; give {limit} or more")
    target = _checked_target(path)
    records = usable_records(one_system(trajectory))
    with style(), replacing(target) as unfinished:
        scene = _Scene(trajectory, records, max_frames, dpi, trail)
        frames: Iterable[int] = range(len(scene.times))
        if progress:
            frames = tqdm(frames, desc=target.name, unit="frame")
        with _encoder(unfinished, scene.canvas, frames_per_second) as pipe:
            for frame in frames:
                pipe.write(scene.draw(frame))
    return target


class _Scene:
    """A canvas with its static background, and what moves in front of it."""

    def __init__(
        self, trajectory: Trajectory, records: Indices, max_frames: int, dpi: int, trail: int
    ) -> None:
        time = trajectory.time[records]
        self.times = np.linspace(time[0], time[-1], min(max_frames, len(records)))
        self.trail = trail
        latest = np.searchsorted(time, self.times, side="right") - 1
        self.captions = _captions(trajectory, records[latest])
        self.fine_times = fine_times(time, self.times)
        self.plane = _on_screen(positions_at(trajectory, records, self.fine_times))
        self.at_frame = np.searchsorted(self.fine_times, self.times)

        figure = Figure(figsize=SIZE, dpi=dpi, layout="constrained")
        self.canvas = FigureCanvasAgg(figure)
        panels = figure.subplot_mosaic(
            [["orbits", "errors"], ["orbits", "steps"]], width_ratios=[1.45, 1]
        )
        figure.suptitle(
            f"{trajectory.integrator}, {trajectory.policy}, {trajectory.stepping}", fontsize=10
        )
        errors(trajectory, panels["errors"])
        steps(trajectory, panels["steps"])
        self.cursors = [
            panels[name].axvline(time[0], color=GREY, lw=1.0) for name in ("errors", "steps")
        ]
        self._draw_bodies(panels["orbits"], trajectory)
        self.moving: list[Artist] = [*self.cursors, self.trails, self.dots, self.caption]
        for artist in self.moving:
            artist.set_animated(True)
        self.canvas.draw()
        self.background = self.canvas.copy_from_bbox(figure.bbox)

    def _draw_bodies(self, ax: Axes, trajectory: Trajectory) -> None:
        n_bodies = len(trajectory.mass)
        colours = np.array([to_rgba(colour_of(body)) for body in range(n_bodies)])
        self.fades = int(np.clip(MOST_PIECES // n_bodies, 2, FADES))
        faded = np.repeat(colours, self.fades, axis=0)
        faded[:, 3] = np.tile(np.arange(1, self.fades + 1) / self.fades, n_bodies) * 0.9
        self.trails = LineCollection([], colors=faded, linewidths=1.4, capstyle="butt")
        ax.add_collection(self.trails, autolim=False)
        sizes = _dot_sizes(trajectory.mass)
        look = {"edgecolors": "white", "lw": 0.5, "zorder": 3}
        self.dots = ax.scatter(*self.plane[0].T, s=sizes, c=colours, **look)
        self.caption = ax.set_title(self.captions[0], loc="left")
        look_through(ax, *window(self.plane[self.at_frame]))
        if trajectory.position.shape[-1] == 2:
            ax.set(xlabel="x [L]", ylabel="y [L]")
        else:
            camera = f"orthographic, azimuth {AZIMUTH}°, elevation {ELEVATION}°".replace("-", "−")
            ax.set(xlabel=f"across the view [L] ({camera})", ylabel="up the view [L]")

    def draw(self, frame: int) -> memoryview:
        """RGBA bytes of a frame, valid until the next one is drawn."""
        now = self.times[frame]
        ages = np.linspace(self.trail, 0, self.fades + 1)
        ends = self.at_frame[np.maximum(0, np.round(frame - ages).astype(int))]
        self.trails.set_segments(
            [
                self.plane[start : end + 1, body]
                for body in range(self.plane.shape[1])
                for start, end in pairwise(ends)
            ]
        )
        self.dots.set_offsets(self.plane[self.at_frame[frame]])
        self.caption.set_text(f"t = {now:#.5g} [T]   {self.captions[frame]}")
        for cursor in self.cursors:
            cursor.set_xdata([now, now])
        self.canvas.restore_region(self.background)
        for artist in self.moving:
            self.canvas.figure.draw_artist(artist)
        return self.canvas.buffer_rgba()


def _captions(trajectory: Trajectory, records: Indices) -> list[str]:
    made = counted(trajectory.n_steps)
    last = len(trajectory.time) - 1
    if last == trajectory.n_steps:
        return [f"step {record:,} of {made}" for record in records]
    return [f"record {record:,} of {last:,} ({made} steps)" for record in records]


def _on_screen(position: Floats) -> Floats:
    return position if position.shape[-1] == 2 else project(position, AZIMUTH, ELEVATION)


def _dot_sizes(mass: Floats) -> Floats:
    """Areas [pt²] of spheres of one density, with a floor so that test particles are seen."""
    largest = 160.0 / (1 + len(mass) / 16)
    share = mass / mass.max() if mass.max() > 0 else np.ones_like(mass)
    return np.maximum(largest * share ** (2 / 3), largest / 12)


def _checked_target(path: str | Path) -> Path:
    target = Path(path)
    if target.suffix.lower() != ".mp4":
        raise InputError(f"movie {str(target)!r} must end in .mp4, not {target.suffix!r}")
    if not target.parent.is_dir():
        raise InputError(f"folder {str(target.parent)!r} does not exist; make it first")
    if target.is_dir():
        raise InputError(f"movie {str(target)!r} is a folder; choose another name")
    if not os.access(target.parent, os.W_OK):
        raise InputError(f"folder {str(target.parent)!r} can't be written to; choose another")
    return target


@contextmanager
def _encoder(path: Path, canvas: FigureCanvasAgg, frames_per_second: int) -> Iterator[IO[bytes]]:
    """Standard input of an FFMPEG that encodes raw RGBA frames of the canvas's size."""
    width, height = canvas.get_width_height(physical=True)
    command = [
        *(imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-y"),
        *("-f", "rawvideo", "-pix_fmt", "rgba", "-s", f"{width}x{height}"),
        *("-r", str(frames_per_second), "-i", "pipe:"),
        # yuv420p, which every player knows, needs even sides
        *("-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2:color=white", "-pix_fmt", "yuv420p"),
        *("-c:v", "libx264", "-preset", "veryfast", "-crf", "20", "-movflags", "+faststart"),
        str(path),
    ]
    # a file, not a pipe: nobody reads while frames are written, and a full pipe would block
    with tempfile.TemporaryFile() as messages:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=messages)
        assert process.stdin is not None
        try:
            with suppress(BrokenPipeError):  # FFMPEG gave up; its exit status tells
                yield process.stdin
            with suppress(BrokenPipeError):
                process.stdin.close()
            status = process.wait()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            with suppress(BrokenPipeError):
                process.stdin.close()
        if status:
            messages.seek(0)
            words = messages.read().decode(errors="replace").strip().splitlines()[-5:]
            raise RuntimeError(f"FFMPEG ended with status {status}: " + " / ".join(words))
