"""Movies of runs, from memory or straight from disk, in constant memory; and of trainings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import imageio_ffmpeg
import numpy as np
from matplotlib import rcParams
from matplotlib.figure import Figure
from tqdm import tqdm

from nbcore.atomic import replacing
from nbcore.errors import InputError, entry
from nbcore.views.encoder import checked_codec, checked_target, encoder, frame_of
from nbcore.views.motion import Frame, Motion
from nbcore.views.scene import Camera, Scene
from nbcore.views.style import LOOKS, style
from nbcore.views.training_film import training

if TYPE_CHECKING:
    from nbcore.simulation.trajectory import Trajectory

__all__ = ["movie", "stills", "training"]

LEAST = {"max_frames": 2, "frames_per_second": 1, "width": 64, "height": 64, "trail": 1}


def movie(
    trajectory: Trajectory | str | Path | Sequence[Trajectory | str | Path],
    path: str | Path,
    *,
    system: int = 0,
    max_frames: int = 300,
    frames_per_second: int = 30,
    width: int = 1200,
    height: int = 720,
    trail: int = 60,
    panels: Sequence[str] = ("errors", "dt"),
    frame: Frame = "inertial",
    pace: str = "time",
    azimuth: float = -60.0,
    elevation: float = 25.0,
    turn: float = 0.0,
    look: str = "light",
    codec: str = "libx264",
    progress: bool = False,
) -> Path:
    """Write an mp4 or a GIF of one system, or of several runs of it side by side.

    Frames are equidistant in time, so that pericentre passages, where records are dense, don't
    slow the picture down; between records positions are interpolated. The file appears under its
    name only when it is complete. FFMPEG comes with the install; the environment variable
    IMAGEIO_FFMPEG_EXE names another one.

    Parameters
    ----------
    trajectory
        A run with 2 records or more, or the path of a stored one, which is read as the film goes
        on; or several, to be seen side by side.
    path
        Target, ending in .mp4 or .gif; its folder must exist.
    system
        Which of a batch.
    max_frames
        Most frames; there are never more than records.
    frames_per_second
        Of the film.
    width, height
        Pixels of a frame; writing grows with the height.
    trail
        Length of the trails in frames.
    panels
        What is drawn beside the orbits: names in `plots.PANELS`, or none.
    frame
        "inertial"; the number of the body to follow; "rotating" with bodies 0 and 1.
    pace
        "time", or "steps": as many frames for each step.
    azimuth, elevation, turn
        Of the camera in three dimensions [degrees]; `turn` is how far it goes round.
    look
        "light" or "dark".
    codec
        Of an mp4: an encoder of FFMPEG.
    progress
        Whether to show a bar.

    Returns
    -------
    The path of the file.

    Raises
    ------
    InputError
        A setting out of range, too few records, a target that can't be written.
    RuntimeError
        FFMPEG failed; the message ends with its last lines.

    Examples
    --------
    >>> nb.movies.movie(trajectory, "orbit.mp4", frame=0, look="dark")
    """
    given = (max_frames, frames_per_second, width, height, trail)
    for (name, limit), value in zip(LEAST.items(), given, strict=True):
        if not isinstance(value, (int, np.integer)) or value < limit:
            raise InputError(f"{name} is {value!r}; give a whole number, {limit} or more")
    if not isinstance(system, (int, np.integer)):
        raise InputError(f"system is {system!r}; give the number of one of the batch")
    entry("look", look, LOOKS)
    target = checked_target(path)
    if codec != "libx264":
        checked_codec(codec)
    motions = [Motion(_opened(each), system) for each in _several(trajectory)]
    with style(look), replacing(target) as unfinished:
        scene = Scene(
            motions,
            (width, height),
            max_frames=max_frames,
            trail=trail,
            panels=panels,
            frame=frame,
            pace=pace,
            camera=Camera(azimuth, elevation, turn),
        )
        frames: Iterable[int] = range(len(scene.times))
        if progress:
            frames = tqdm(frames, desc=target.name, unit="frame")
        size = scene.canvas.get_width_height(physical=True)
        paper = rcParams["figure.facecolor"]
        with encoder(unfinished, size, frames_per_second, codec, paper) as pipe:
            for number in frames:
                pipe.write(scene.draw(number))
    return target


def stills(path: str | Path, figure: Figure, count: int = 4) -> Figure:
    """Frames of a film, from the first to the last, in two columns.

    Parameters
    ----------
    figure
        Empty figure to draw in.
    count
        How many.
    """
    n_frames = imageio_ffmpeg.count_frames_and_secs(str(path))[0] or 1
    axes = list(figure.subplots(-(-count // 2), 2, squeeze=False).flat)
    for ax in axes:
        ax.set_axis_off()
    chosen = np.linspace(0, n_frames - 1, count).round().astype(int)
    for ax, number in zip(axes, chosen, strict=False):
        ax.imshow(frame_of(path, int(number)))
    return figure


def _several(trajectory: Any) -> Sequence[Any]:
    return trajectory if isinstance(trajectory, (list, tuple)) else [trajectory]


def _opened(trajectory: Trajectory | str | Path) -> Trajectory:
    from nbcore.simulation.trajectory import Trajectory

    found = Trajectory.load(trajectory) if isinstance(trajectory, (str, Path)) else trajectory
    if not isinstance(found, Trajectory):
        raise InputError(
            f"trajectory is of type {type(found).__name__!r}; give what nb.simulate returned, or "
            "the path of a stored run"
        )
    return found
