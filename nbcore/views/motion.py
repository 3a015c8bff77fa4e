"""From records to motion: usable records, positions between them, and the view of a camera."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nbcore.errors import InputError
from nbcore.views.style import Floats

if TYPE_CHECKING:
    from nbcore.simulation.trajectory import Trajectory

__all__ = [
    "Indices",
    "closest_separation",
    "fine_times",
    "positions_at",
    "project",
    "usable_records",
]

Indices = NDArray[np.intp]

POINTS_PER_FRAME = 20  # one frame's stretch of a trail may round a whole pericentre


def usable_records(trajectory: Trajectory, picture: str = "a movie") -> Indices:
    """Records that are finite and later than the one before; 2 or more.

    Parameters
    ----------
    picture
        What needs them, for the message.
    """
    finite = np.isfinite(trajectory.position).all(axis=(1, 2))
    records = np.flatnonzero(finite & np.isfinite(trajectory.time))
    later = np.diff(trajectory.time[records], prepend=-np.inf) > 0
    records = records[later]
    if len(records) < 2:
        raise InputError(
            f"the trajectory has {len(records)} finite record(s) at different times, and {picture} "
            "needs 2; simulate with record=None or with output times"
        )
    return records


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


def positions_at(trajectory: Trajectory, records: Indices, times: Floats) -> Floats:
    """Cubic Hermite, or linear where the records are so far apart that a cubic would overshoot."""
    time = trajectory.time[records]
    position, velocity = trajectory.position[records], trajectory.velocity[records]
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


def closest_separation(position: Floats) -> Floats:
    """Distance of the closest pair [L], (T,), of positions (T, N, D)."""
    first, second = np.triu_indices(position.shape[1], k=1)
    # record by record: pairs of many bodies at all records would not fit the memory
    return np.array(
        [np.linalg.norm(each[first] - each[second], axis=-1).min() for each in position]
    )


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
