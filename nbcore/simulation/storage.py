"""Runs on disk.

A trajectory is a Zarr group that xarray opens. Records are appended in chunks, and the group's
attribute `records` is set after each chunk is complete, so that a run that was killed at any
moment leaves a trajectory that loads up to there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nbcore.errors import InputError
from nbcore.physics.arrays import to_numpy
from nbcore.physics.fields import field_from, field_to_store
from nbcore.physics.state import State
from nbcore.simulation.status import Status

if TYPE_CHECKING:  # it takes as long to import as the compiler
    import zarr

__all__ = [
    "RECORDED",
    "SUMMARY",
    "Store",
    "Stored",
    "chunk_rows",
    "dimensions",
    "free",
    "read",
    "rows_of",
    "shapes",
]

Summary = dict[str, np.ndarray]

FORMAT = 3
CHUNK_BYTES = 4 << 20
_DIMENSIONS = ("system", "record", "body", "axis")
_PER_RECORD = ("time", "dt", "energy_error", "momentum_error", "angular_momentum_error")
_AXES = {"body_error": 3, "position": 4, "velocity": 4}  # of what is recorded of every body
RECORDED = (*_PER_RECORD, *_AXES)
_MAXIMA = ("max_energy_error", "max_momentum_error", "max_angular_momentum_error")
_FINAL = ("position", "velocity", "time", "work")
_EVENTS = ("event_time", "event_first", "event_second", "event_distance")
SUMMARY = (
    *("status", "n_steps", "n_redone", "n_force_evaluations"),
    *(*_MAXIMA, "max_body_error", "worst_body", *_EVENTS),
)


class Store:
    """A growing Zarr group.

    Parameters
    ----------
    path
        A new folder.
    state
        Of the run, at any time.
    shapes
        Shape of each quantity beyond system and record.
    """

    def __init__(self, path: Path, state: State, shapes: Mapping[str, tuple[int, ...]]) -> None:
        import zarr

        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.rows = chunk_rows(state)
        self.group = zarr.create_group(path, overwrite=False)
        n_systems = state.n_systems
        self.arrays = {
            name: self.group.create_array(
                name,
                shape=(n_systems, 0, *shape),
                chunks=(n_systems, self.rows, *shape),
                dtype="float64",
                fill_value=float("nan"),
                dimension_names=dimensions(name),
            )
            for name, shape in shapes.items()
        }
        _put(self.group, "mass", to_numpy(state.mass), ("system", "body"))
        self._records = 0
        # All at once, so that who reads meanwhile finds all or none; `attrs.update` would not be.
        self.group.update_attributes(
            {
                "nbcore_trajectory": FORMAT,
                "records": 0,
                "complete": False,
                "batched": state.batched,
                "G": state.G,
                "softening": state.softening,
                "field": field_to_store(state.field),
            }
        )

    @classmethod
    def reopen(cls, path: Path, first: int, complete: int) -> Store:
        """Store of a run that goes on.

        Parameters
        ----------
        first
            Row that the next block begins with.
        complete
            Rows that stay as they are. What follows is made again, alike, save the last records of
            systems that were interrupted between two.
        """
        import zarr

        store = cls.__new__(cls)
        store.path, store.group = path, zarr.open_group(path, mode="r+")
        arrays = {name: store.group[name] for name in RECORDED}
        store.arrays = {k: v for k, v in arrays.items() if isinstance(v, zarr.Array)}
        store.rows, store._records = store.arrays["time"].chunks[1], first
        if store.group.attrs["complete"]:
            store.group.update_attributes({"complete": False, "records": complete})
        return store

    def append(self, block: Mapping[str, np.ndarray]) -> None:
        """Add records (B, rows, …) of every quantity."""
        rows = next(iter(block.values())).shape[1]
        self.put(block, rows)
        self._records += rows

    def put(self, block: Mapping[str, np.ndarray], complete: int) -> None:
        """Write records (B, rows, …) of every quantity that will come again with more.

        Parameters
        ----------
        complete
            How many of them every system that goes on has by now.
        """
        first, rows = self._records, next(iter(block.values())).shape[1]
        for name, values in block.items():
            array = self.arrays[name]
            if array.shape[1] < first + rows:
                array.resize((array.shape[0], first + rows, *array.shape[2:]))
            array[:, first : first + rows] = values
        # A run that goes on may have been farther.
        self.group.attrs["records"] = max(first + complete, int(self.group.attrs["records"]))  # pyright: ignore[reportArgumentType]

    def take(self, first: int, rows: int) -> dict[str, np.ndarray]:
        """Records (B, rows, …) from a row on; NaN where there are none."""
        block = {}
        for name, array in self.arrays.items():
            found = np.asarray(array[:, first : first + rows])
            lacking = [(0, 0), (0, rows - found.shape[1]), *[(0, 0)] * (found.ndim - 2)]
            block[name] = np.pad(found, lacking, constant_values=np.nan)
        return block

    def finish(
        self, n_records: np.ndarray, summary: Summary, final: State, about: dict[str, Any]
    ) -> None:
        """Add what is known at the end of a run."""
        for name, values in summary.items():
            _put(self.group, name, values, ("system",))
        _put(self.group, "n_records", n_records, ("system",))
        for name in _FINAL:
            values = to_numpy(getattr(final, name))
            _put(self.group, f"final_{name}", values, ("system", "body", "axis")[: values.ndim])
        about = {**about, "tolerance": np.asarray(about["tolerance"]).tolist()}
        self.group.update_attributes({"about": about, "complete": True})


def _put(group: zarr.Group, name: str, values: np.ndarray, dimensions: tuple[str, ...]) -> None:
    array = group.create_array(
        name,
        shape=values.shape,
        dtype=values.dtype,
        dimension_names=dimensions,
        overwrite=True,  # by a run that went on
    )
    array[...] = values


class Stored(NamedTuple):
    """What is on disk; see `Trajectory`."""

    arrays: Mapping[str, Any]
    n_records: np.ndarray
    summary: Summary
    final: State
    about: dict[str, Any]


def read(path: str | Path) -> Stored:
    """Open a stored run; of one that was cut off, the records of its complete chunks."""
    import zarr

    try:
        group = zarr.open_group(Path(path), mode="r")
    except (ValueError, FileNotFoundError, NotADirectoryError):  # an array, no JSON, nothing
        raise InputError(f"there is no trajectory at {str(path)!r}") from None
    attributes = dict(group.attrs)
    if attributes.get("nbcore_trajectory") != FORMAT:
        raise InputError(
            f"{str(path)!r} is not a trajectory of version {FORMAT} (it says "
            f"{attributes.get('nbcore_trajectory')}); write it again with this version"
        )
    return _read(group, attributes)


def _read(group: zarr.Group, attributes: dict[str, Any]) -> Stored:
    records = attributes["records"]
    arrays: dict[str, Any] = {name: group[name] for name in RECORDED}
    mass = np.asarray(group["mass"])
    n_systems = len(mass)
    field = field_from(attributes["field"])
    if attributes["complete"]:
        n_records = np.asarray(group["n_records"])
        # Runs that were stored before a number was measured don't have it.
        unknown = np.full(n_systems, np.nan)
        summary = {name: np.asarray(group[name]) if name in group else unknown for name in SUMMARY}
        end = {name: np.asarray(group[f"final_{name}"]) for name in _FINAL}
    else:
        if records == 0:
            raise InputError(
                f"the trajectory at {str(group.store)!r} was cut off before its first chunk"
            )
        time = np.asarray(arrays["time"][:, :records])
        n_records = np.isfinite(time).sum(axis=1)
        last = (np.arange(n_systems), n_records - 1)
        end = {
            name: np.asarray(arrays[name][:, :records])[last]
            for name in ("position", "velocity", "time")
        }
        # What was summed over every step is lost with the run; the records are not.
        unknown = np.full(n_systems, np.nan)
        # Likewise the work of a moving field; without one there is none.
        end["work"] = unknown if field is not None and field.moving else np.zeros(n_systems)
        summary: Summary = dict.fromkeys(SUMMARY, unknown)
        summary["status"] = np.full(n_systems, int(Status.INTERRUPTED))
    final = State.from_arrays(
        mass,
        end["position"],
        end["velocity"],
        G=attributes["G"],
        softening=attributes["softening"],
        field=field,
        time=end["time"],
    ).replace(work=end["work"], batched=attributes["batched"])
    nothing = {"integrator": "", "policy": "", "stepping": "", "tolerance": [np.nan] * n_systems}
    return Stored(arrays, n_records, summary, final, attributes.get("about", nothing))


def dimensions(name: str) -> tuple[str, ...]:
    """Names of the axes of a quantity."""
    return _DIMENSIONS[: _AXES.get(name, 2)]


def shapes(state: State) -> dict[str, tuple[int, ...]]:
    """Shape of every quantity that is recorded, beyond system and record."""
    body = (state.n_bodies, state.n_dimensions)
    return {name: body[: _AXES.get(name, 2) - 2] for name in RECORDED}


def chunk_rows(state: State) -> int:
    """Records of a chunk, so that it takes a few megabytes."""
    row = 8 * state.n_systems * sum(math.prod(shape) for shape in shapes(state).values())
    return int(np.clip(CHUNK_BYTES // row, 16, 4096))


def rows_of(path: Path) -> int:
    """Records of a chunk of a stored run."""
    import zarr

    time = zarr.open_group(path, mode="r")["time"]
    assert isinstance(time, zarr.Array)
    return time.chunks[1]


def free(path: str | Path) -> Path:
    """Path that nothing is at yet."""
    path = Path(path)
    if path.exists():
        raise InputError(f"{str(path)!r} exists already; choose another path or remove it first")
    return path
