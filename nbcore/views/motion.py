"""From records to motion: usable records, positions between them, and the view of a camera."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from nbcore.errors import InputError
from nbcore.views.style import Floats

if TYPE_CHECKING:
    from nbcore.simulation.trajectory import Trajectory

__all__ = ["Frame", "Indices", "Motion", "fine_times", "in_frame", "positions_between", "project"]

Indices = NDArray[np.intp]
Frame = Literal["inertial", "rotating"] | int

ROWS = 4096  # of the records that are read at once
POINTS_PER_FRAME = 20  # one frame's stretch of a trail may round a whole pericentre


class Motion:
    """Where the bodies of one system are at any time, read from a trajectory as far as needed.

    Parameters
    ----------
    trajectory
        In memory or on disk.
    system
        Which of a batch.
    picture
        What needs the motion, for messages.

    Attributes
    ----------
    records
        (R,) those that are finite and later than the one before; 2 or more.
    time
        (R,) theirs [T].

    Raises
    ------
    InputError
        There is no such system, or it has too few records.
    """

    def __init__(self, trajectory: Trajectory, system: int = 0, picture: str = "a movie") -> None:
        self.system = system
        self.about = trajectory.take(np.array([0]), system)
        self._trajectory = trajectory
        time = np.asarray(trajectory.arrays["time"][system, : self.n_records])
        records = np.flatnonzero(self._finite() & np.isfinite(time))
        self.records = records[np.diff(time[records], prepend=-np.inf) > 0]
        self.time = time[self.records]
        if len(records) < 2 or len(self.records) < 2:
            raise InputError(
                f"the trajectory has {len(self.records)} finite record(s) at different times, and "
                f"{picture} needs 2; simulate with record=None or with output times"
            )

    def _finite(self) -> NDArray[np.bool_]:
        width = self.n_records
        position, finite = self._trajectory.arrays["position"], np.empty(width, dtype=bool)
        for start in range(0, width, ROWS):
            rows = slice(start, min(start + ROWS, width))
            finite[rows] = np.isfinite(position[self.system, rows]).all(axis=(1, 2))
        return finite

    @property
    def n_records(self) -> int:
        """Of the trajectory, those left out among them."""
        return int(self._trajectory.n_records[self.system])

    @property
    def n_bodies(self) -> int:
        """N."""
        return len(self.about.mass)

    @property
    def n_dimensions(self) -> int:
        """D."""
        return self.about.position.shape[-1]

    def at(self, times: Floats) -> Floats:
        """Positions at increasing times, (K, N, D), the first or the last where there are none."""
        times = times.clip(self.time[0], self.time[-1])
        start = np.searchsorted(self.time, times, side="right") - 1
        needed = np.unique(np.concatenate([start, start + 1]).clip(0, len(self.time) - 1))
        part = self._trajectory.take(self.records[needed], self.system)
        return positions_between(part.time, part.position, part.velocity, times)

    def take(self, most: int) -> Trajectory:
        """About so many of the records, for curves: in each stretch the extremes."""
        return self._trajectory.take(self.telling(most), self.system)

    def telling(self, most: int) -> Indices:
        """Records with the largest energy error and the smallest step of each stretch of time."""
        if len(self.records) <= most:
            return self.records
        error, dt = (
            np.asarray(self._trajectory.arrays[name][self.system, : self.records[-1] + 1])
            for name in ("energy_error", "dt")
        )
        error, dt = np.nan_to_num(error), np.nan_to_num(dt, nan=np.inf)
        kept = [self.records[:1], self.records[-1:]]
        for part in np.array_split(self.records, most // 2):
            kept.append(part[[np.argmax(error[part]), np.argmin(dt[part])]])
        return np.unique(np.concatenate(kept))


def fine_times(time: Floats, frames: Floats, most: int | None = None) -> Floats:
    """Times through which trails pass: those of frames, and of records between them.

    So trails stay round where a frame spans many records.

    Parameters
    ----------
    time
        (T,) of the records.
    frames
        (K,) of the frames.
    most
        About so many records; 20 for each frame unless given.
    """
    most = POINTS_PER_FRAME * len(frames) if most is None else most
    return np.union1d(time[:: max(1, -(-len(time) // most))], frames)


def positions_between(time: Floats, position: Floats, velocity: Floats, times: Floats) -> Floats:
    """Cubic Hermite, or linear where the records are so far apart that a cubic would overshoot."""
    start = np.clip(np.searchsorted(time, times, side="right") - 1, 0, len(time) - 2)
    h = (time[start + 1] - time[start])[:, None, None]
    u = (times - time[start])[:, None, None] / h
    chord = position[start + 1] - position[start]
    v0, v1 = velocity[start] * h, velocity[start + 1] * h
    bend = u * (1 - u) * ((1 - u) * (v0 - chord) - u * (v1 - chord))
    way = np.maximum(np.linalg.norm(v0, axis=-1), np.linalg.norm(v1, axis=-1))
    # half a circle between two records has a way of π/2 chords
    smooth = (way <= 2 * np.linalg.norm(chord, axis=-1))[..., None]
    return position[start] + u * chord + np.where(smooth, bend, 0.0)


def in_frame(position: Floats, frame: Frame, mass: Floats) -> Floats:
    """Positions (K, N, D) as seen from a frame.

    Parameters
    ----------
    frame
        "inertial"; the number of the body that stays at the origin; or "rotating": about the
        centre of mass of bodies 0 and 1, which stay on the first axis.
    mass
        (N,) [M].
    """
    if frame == "inertial":
        return position
    if isinstance(frame, int):
        if not 0 <= frame < len(mass):
            raise InputError(f"frame is {frame}, and the bodies are 0 to {len(mass) - 1}")
        return position - position[:, frame, None]
    if frame != "rotating":
        raise InputError(f"frame is {frame!r}; give 'inertial', 'rotating' or a body's number")
    both = mass[0] + mass[1]
    share = mass[1] / both if both > 0 else 0.5
    apart = position[:, 1] - position[:, 0]
    moved = position - (position[:, 0] + share * apart)[:, None]
    distance = np.hypot(apart[:, 0], apart[:, 1])
    turned = distance > 0
    cos = np.where(turned, apart[:, 0], 1.0) / np.where(turned, distance, 1.0)
    sin = np.where(turned, apart[:, 1], 0.0) / np.where(turned, distance, 1.0)
    x, y = moved[..., 0].copy(), moved[..., 1].copy()
    moved[..., 0] = cos[:, None] * x + sin[:, None] * y
    moved[..., 1] = cos[:, None] * y - sin[:, None] * x
    return moved


def project(position: Floats, azimuth: Any, elevation: Any) -> Floats:
    """Positions (..., 3) as an orthographic camera sees them: across and up the view, (..., 2).

    Parameters
    ----------
    azimuth, elevation
        Of the camera [degrees], one number each or an array that broadcasts with (...).
    """
    azimuth, elevation = np.radians(azimuth), np.radians(elevation)
    x, y, z = np.moveaxis(position, -1, 0)
    across = -x * np.sin(azimuth) + y * np.cos(azimuth)
    toward = x * np.cos(azimuth) + y * np.sin(azimuth)
    return np.stack([across, z * np.cos(elevation) - toward * np.sin(elevation)], axis=-1)
