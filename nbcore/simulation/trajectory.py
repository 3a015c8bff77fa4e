"""What a run leaves behind: records and errors over every step."""

from __future__ import annotations

import dataclasses
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nbcore.errors import InputError
from nbcore.physics.arrays import to_numpy
from nbcore.physics.state import State
from nbcore.simulation import storage
from nbcore.simulation.citations import citations
from nbcore.simulation.frame import Frame
from nbcore.simulation.status import Status
from nbcore.simulation.storage import RECORDED, Store

__all__ = ["MARGIN", "Recorder", "Status", "Trajectory"]

OF_EACH = ("expected_error", "inner_tolerance", "handed_over")  # lists in `about`; some may lack
MARGIN = 10.0  # tolerances, beyond which one counts as missed


@dataclass(eq=False, repr=False)
class Trajectory:
    """A run of B systems; attributes of a single system come without the leading B.

    Attributes
    ----------
    arrays
        Records by name, (B, T, …), in memory or in a Zarr group; see the properties.
    n_records
        (B,) number of records of each system; the rest of its row is NaN.
    summary
        (B,) numbers of each system over every step, recorded or not.
    final
        State at the end.
    about
        How it was made: integrator, policy, stepping, clock, tolerance (B,), engine, scenario.
    """

    arrays: Mapping[str, Any]
    n_records: np.ndarray
    summary: dict[str, np.ndarray]
    final: State
    about: dict[str, Any]

    def __repr__(self) -> str:
        return (
            f"Trajectory(B={len(self.n_records)}, N={self.final.n_bodies}, "
            f"T={int(self.n_records.max(initial=0))}, {self.integrator}, {self.policy}, "
            f"{self.stepping})"
        )

    @property
    def batched(self) -> bool:
        """Whether there is a leading B."""
        return self.final.batched

    def _records(self, name: str) -> np.ndarray:
        width = int(self.n_records.max(initial=0))
        values = np.asarray(self.arrays[name][:, :width])
        return values if self.batched else values[0]

    def _number(self, name: str) -> Any:
        return self._of_systems(self.summary[name])

    def _of_systems(self, values: np.ndarray, unknown: Any = False) -> Any:
        """Values (B,), or the one of a single system; None where they are unknown."""
        if np.any(unknown):
            values = np.where(unknown, np.array(None), values)
        return values if self.batched else values.tolist()[0]

    @property
    def time(self) -> np.ndarray:
        """(T,) [T]."""
        return self._records("time")

    @property
    def position(self) -> np.ndarray:
        """(T, N, D) [L]."""
        return self._records("position")

    @property
    def velocity(self) -> np.ndarray:
        """(T, N, D) [L/T]."""
        return self._records("velocity")

    @property
    def dt(self) -> np.ndarray:
        """(T,) [T] the step that led to the record; NaN at the start."""
        return self._records("dt")

    @property
    def energy_error(self) -> np.ndarray:
        """(T,) |E − E0| over |E0| about the centre of mass, at least a thousandth of K + |U|."""
        return self._records("energy_error")

    @property
    def momentum_error(self) -> np.ndarray:
        """(T,) |P − P0|/|P0|, or over √(2M(K + |U|)) where P0 is zero to rounding."""
        return self._records("momentum_error")

    @property
    def angular_momentum_error(self) -> np.ndarray:
        """(T,) |L − L0|/|L0|, or over rms size × √(2M(K + |U|)) where L0 is zero to rounding."""
        return self._records("angular_momentum_error")

    @property
    def body_error(self) -> np.ndarray:
        """(T, N) error of every body's orbit beside the body that pulls hardest there.

        What the orbit's energy or its eccentricity vector is off by, whichever is more, relative to
        V²/2 + μ/r and to 1 + e, with the work of the others taken off. It is free of the frame and
        valid for massless bodies; a body that nothing acts on has none. In chaos, where errors grow
        by themselves, it says what the steps have done, and not where the bodies would have been.
        See `physics.body_errors`.
        """
        return self._records("body_error")

    @property
    def max_body_error(self) -> Any:
        """Largest error of any body's orbit over every step, recorded or not.

        NaN, for unknown, where orbits are not followed: with follow=False, and with an integrator
        of one's own that tells no errors.
        """
        return self._number("max_body_error")

    @property
    def worst_body(self) -> Any:
        """Body of that error; None where it is unknown."""
        unknown = np.isnan(self.summary["max_body_error"])
        return self._of_systems(self.summary["worst_body"], unknown)

    @property
    def kept_tolerance(self) -> Any:
        """Whether neither the energy nor any body's orbit was ever off by over ten tolerances.

        None where one of the two errors is unknown, see `max_body_error`, and the other was not
        over, and where not a step was made.
        """
        errors = np.array([self.summary["max_energy_error"], self.summary["max_body_error"]])
        over = errors > MARGIN * np.asarray(self.about["tolerance"])
        kept = np.logical_not(over.any(axis=0))
        unknown = np.isnan(errors).any(axis=0) | (self.summary["n_steps"] == 0)
        return self._of_systems(kept, kept & unknown)

    @property
    def max_energy_error(self) -> Any:
        """Largest energy error over every step, recorded or not."""
        return self._number("max_energy_error")

    @property
    def max_momentum_error(self) -> Any:
        """Largest momentum error over every step."""
        return self._number("max_momentum_error")

    @property
    def max_angular_momentum_error(self) -> Any:
        """Largest angular momentum error over every step."""
        return self._number("max_angular_momentum_error")

    @property
    def n_steps(self) -> Any:
        """Steps that were made."""
        return self._number("n_steps")

    @property
    def n_redone(self) -> Any:
        """Steps that the guard had redone; their evaluations count, they are none of n_steps."""
        return self._number("n_redone")

    @property
    def n_force_evaluations(self) -> Any:
        """Force evaluations of the steps and of the criterion; each derivative counts as one.

        Interpolation to output times and the search for contacts and escapes are not part of it.
        """
        return self._number("n_force_evaluations")

    @property
    def status(self) -> Any:
        """How the run ended: a `Status`, or (B,) of their numbers for a batch."""
        values = self.summary["status"]
        return values if self.batched else Status(int(values[0]))

    @property
    def events(self):
        """Contacts and escapes, a pandas.DataFrame with a row for each.

        Columns are `system`, `time` [T], `kind` ("collision" or "escape"), `bodies` (a tuple: two
        of a collision, one of an escape) and `distance` [L], between the two or from the centre
        of mass.
        """
        import pandas as pd

        names = ("time", "first", "second", "distance")
        time, first, second, distance = (self.summary[f"event_{name}"] for name in names)
        met = np.flatnonzero(np.isfinite(time))
        pairs = [(int(first[k]), int(second[k])) for k in met]
        columns = {
            "system": met,
            "time": time[met],
            "kind": ["collision" if j >= 0 else "escape" for _, j in pairs],
            "bodies": [(i, j) if j >= 0 else (i,) for i, j in pairs],
            "distance": distance[met],
        }
        return pd.DataFrame(columns).astype({"kind": object, "bodies": object})

    @property
    def mass(self) -> np.ndarray:
        """(N,) [M]."""
        mass = to_numpy(self.final.mass)
        return mass if self.batched else mass[0]

    @property
    def tolerance(self) -> Any:
        """Error that was asked for."""
        values = np.asarray(self.about["tolerance"])
        return values if self.batched else float(values[0])

    @property
    def expected_error(self) -> Any:
        """Maximum error to expect: 10th percentile, median, 90th; (3,), or None.

        Of the energy or of a body's orbit, whichever is more, as measured when the policy was
        calibrated; other policies than learned ones tell nothing.
        """
        known = self.about.get("expected_error")
        if known is None:
            return None
        return np.asarray(known) if self.batched else np.asarray(known[0])

    @property
    def integrator(self) -> str:
        """Name of the integrator."""
        return self.about["integrator"]

    @property
    def policy(self) -> str:
        """What chose the steps, in a word or two."""
        return self.about["policy"]

    @property
    def stepping(self) -> str:
        """Plain or reversible."""
        return self.about["stepping"]

    def cite(self) -> str:
        """What to cite of this run, a reference a line: integrator, steps, policy, scenario.

        Examples
        --------
        >>> print(nb.simulate("pythagorean", 1.0).cite())
        """
        return "\n".join(citations(self.about))

    def system(self, index: int) -> Trajectory:
        """One system of a batch, as a trajectory without the leading B."""
        return self.take(slice(None), index)

    def take(self, records: np.ndarray | slice, system: int = 0) -> Trajectory:
        """Some records of one system, as a trajectory without the leading B.

        Of a stored one, no others are read. What was measured over every step stays.
        """
        n_systems = len(self.n_records)
        if not -n_systems <= system < n_systems:
            raise InputError(f"system {system} is not among the {n_systems} systems of the run")
        system %= n_systems
        one = slice(system, system + 1)
        if isinstance(records, slice):
            records = slice(*records.indices(int(self.n_records[system])))
        arrays = {name: _records_of(each, one, records) for name, each in self.arrays.items()}
        return Trajectory(
            arrays=arrays,
            n_records=np.array([arrays["time"].shape[1]]),
            summary={k: v[one] for k, v in self.summary.items()},
            final=dataclasses.replace(
                self.final.select([system]),
                batched=False,
            ),
            about={**self.about, **self._asked(one)},
        )

    def _asked(self, one: slice) -> dict[str, Any]:
        known = {name: self.about.get(name) for name in OF_EACH}
        some = {name: each[one] for name, each in known.items() if each is not None}
        return {"tolerance": np.asarray(self.about["tolerance"])[one], **some}

    def with_systems(
        self, systems: np.ndarray, other: Trajectory, theirs: np.ndarray
    ) -> Trajectory:
        """The same batch with some systems replaced by systems of another run, in memory.

        Parameters
        ----------
        systems, theirs
            (K,) numbers of those that are replaced, and of what comes in their place.
        """
        index = np.arange(len(self.n_records))
        index[systems] = len(index) + theirs
        width = max(int(each.n_records.max(initial=0)) for each in (self, other))

        def joined(name: str) -> np.ndarray:
            pair = (_filled_up(np.asarray(each.arrays[name]), width) for each in (self, other))
            return np.concatenate(list(pair))[index]

        final = State.concatenate([self.final, other.final]).select(index.tolist())
        told = {}
        for name in OF_EACH:
            ours, others = self.about.get(name), other.about.get(name)
            if ours is not None and others is not None:
                told[name] = [[*ours, *others][k] for k in index]
        return Trajectory(
            arrays={name: joined(name) for name in self.arrays},
            n_records=np.concatenate([self.n_records, other.n_records])[index],
            summary={
                name: np.concatenate([values, other.summary[name]])[index]
                for name, values in self.summary.items()
            },
            final=final.replace(batched=self.batched),
            about={**self.about, **told},
        )

    def save(self, path: str | Path) -> Path:
        """Write as a Zarr group, complete or not at all.

        Raises
        ------
        InputError
            Something is at `path` already.
        """
        path = storage.free(path)
        # A name of its own: what another process or a killed one has left there is not ours.
        part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
        width = int(self.n_records.max(initial=0))
        store = Store(part, self.final, {k: v.shape[2:] for k, v in self.arrays.items()})
        for start in range(0, width, store.rows):
            rows = slice(start, min(start + store.rows, width))
            store.append({k: np.asarray(v[:, rows]) for k, v in self.arrays.items()})
        store.finish(self.n_records, self.summary, self.final, self.about)
        part.rename(path)
        return path

    @classmethod
    def load(cls, path: str | Path) -> Trajectory:
        """Open a stored trajectory; its records are read from disk when asked for.

        Raises
        ------
        InputError
            There is no trajectory at `path`, or one of another version.
        """
        return cls(*storage.read(path))

    def to_xarray(self):
        """As an xarray.Dataset with dimensions system, record, body, axis."""
        import xarray

        width = int(self.n_records.max(initial=0))
        data = {
            name: (storage.dimensions(name), np.asarray(values[:, :width]))
            for name, values in self.arrays.items()
        }
        data |= {name: (("system",), values) for name, values in self.summary.items()}
        data["mass"] = (("system", "body"), to_numpy(self.final.mass))
        about = {k: v for k, v in self.about.items() if isinstance(v, str)}
        return xarray.Dataset(data, attrs={"G": self.final.G, **about})


def _records_of(values: Any, one: slice, records: np.ndarray | slice) -> np.ndarray:
    """Records of one system from an array in memory or on disk, (1, R, …)."""
    return values[one, records] if isinstance(values, np.ndarray) else values.oindex[one, records]


def _filled_up(values: np.ndarray, rows: int) -> np.ndarray:
    """Records (B, T, …) of so many rows; those beyond are NaN."""
    missing = max(rows - values.shape[1], 0)
    blank = np.full((len(values), missing, *values.shape[2:]), np.nan)
    return np.concatenate([values[:, :rows], blank], axis=1)


class Recorder:
    """Collects records of a batch, in memory or chunk by chunk on disk.

    Parameters
    ----------
    initial
        State at the start, in the frame in which the run is made.
    frame
        That frame; records leave the buffer in the user's.
    path
        Where to stream to; None keeps the records in memory.
    rows
        Rows of the buffer: with output times as many as there are, otherwise None.
    goes_on
        Of a run that is at the path already: (B,) the next row of each system, all before which are
        there, and (B,) whether it has not ended.
    rows_a_step
        Most rows that one step fills.
    """

    def __init__(
        self,
        initial: State,
        frame: Frame,
        path: str | Path | None = None,
        rows: int | None = None,
        goes_on: tuple[np.ndarray, np.ndarray] | None = None,
        rows_a_step: int = 1,
    ):
        self._shapes = storage.shapes(initial)
        self.n_records = np.zeros(initial.n_systems, dtype=np.int64)
        self._n_systems, self._frame = initial.n_systems, frame
        self._chunk = storage.chunk_rows(initial)
        self._offset = self._complete = 0
        self._on_disk: np.ndarray | None = None
        self._store = None
        if goes_on is not None and path is not None:
            self._reopen(Path(path), *goes_on)
        elif path is not None:
            self._store = Store(storage.free(path), initial, self._shapes)
        self._buffer = self._block(self._offset, rows or self._chunk + rows_a_step)
        self._blocks: list[dict[str, np.ndarray]] = []

    def _reopen(self, path: Path, row: np.ndarray, going: np.ndarray) -> None:
        self._complete = int(row[going].min() if going.any() else row.max())
        self._chunk = storage.rows_of(path)
        self._offset = self._complete // self._chunk * self._chunk
        self._store = Store.reopen(path, self._offset, self._complete)
        self.n_records, self._on_disk = row.copy(), row.copy()

    def _block(self, first: int, rows: int) -> dict[str, np.ndarray]:
        """Rows that nothing was put in yet, but for what is on disk of a run that goes on."""
        if self._store is None or self._on_disk is None or first >= self._on_disk.max():
            return self._blank(rows)
        block = self._store.take(first, rows)
        beyond = np.arange(first, first + rows) >= self._on_disk[:, None]
        for values in block.values():
            values[beyond] = np.nan
        return block

    @property
    def _capacity(self) -> int:
        return self._buffer["time"].shape[1]

    def _blank(self, rows: int) -> dict[str, np.ndarray]:
        return {
            name: np.full((self._n_systems, rows, *shape), np.nan)
            for name, shape in self._shapes.items()
        }

    def write(self, values: Mapping[str, Any], systems: np.ndarray, row: np.ndarray) -> None:
        """Put values (B, …) of the systems (B,) mask into their rows (B,)."""
        at = row[systems] - self._offset
        # Systems whose steps were redone lag behind, and so do those that go on after their end.
        if (lacking := at.max(initial=0) + 1 - self._capacity) > 0:
            more = self._block(self._offset + self._capacity, lacking)
            self._buffer = {k: np.append(v, more[k], axis=1) for k, v in self._buffer.items()}
        for name, value in values.items():
            self._buffer[name][systems, at] = np.asarray(value)[systems]
        self.n_records[systems] = np.maximum(self.n_records[systems], row[systems] + 1)

    @property
    def buffer(self) -> tuple[int, dict[str, np.ndarray]]:
        """First row of the buffer and its arrays (B, rows, …), for a writer of its own."""
        return self._offset, self._buffer

    def filled(self, row: np.ndarray) -> None:
        """Say that the rows of every system before its own (B,) have been put in the buffer."""
        self.n_records = np.maximum(self.n_records, row)

    def close(self, row: int) -> None:
        """Say that rows before this one are complete; full chunks leave the buffer."""
        self._complete = row
        while row - self._offset >= self._chunk:
            self._flush(self._chunk)

    def _flush(self, rows: int) -> None:
        block = self._in_users_frame(rows)
        if self._store is None:
            self._blocks.append(block)
        else:
            self._append(self._store, block)
        coming = self._block(self._offset + self._capacity, rows)
        for name, values in self._buffer.items():
            values[:, :-rows] = values[:, rows:].copy()
            values[:, -rows:] = coming[name]
        self._offset += rows

    def _in_users_frame(self, rows: int) -> dict[str, np.ndarray]:
        """Copy of the first rows of the buffer; what came from disk is in that frame already."""
        block = {name: values[:, :rows].copy() for name, values in self._buffer.items()}
        new = np.ones((self._n_systems, rows), dtype=bool)
        if self._on_disk is not None:
            new = np.arange(self._offset, self._offset + rows) >= self._on_disk[:, None]
        self._frame.put_back(block, new)
        return block

    def holds(self, row: np.ndarray) -> np.ndarray:
        """Whether a row (B,) of each system is one of the buffer; others are on disk already."""
        return row < self._offset + self._capacity

    def put(self) -> None:
        """Have on disk all there is, so that a run can go on from here."""
        rows = min(int(self.n_records.max(initial=0)) - self._offset, self._capacity)
        if self._store is not None and rows > 0:
            block = self._in_users_frame(rows)
            complete = min(self._complete - self._offset, rows)
            with self._told(self._store):
                self._store.put(block, complete)

    def _append(self, store: Store, block: dict[str, np.ndarray]) -> None:
        with self._told(store):
            store.append(block)

    @contextmanager
    def _told(self, store: Store) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InputError(
                f"records can't be written to {str(store.path)!r}: {error.strerror or error}; the "
                f"first {self._offset} records of each system are complete there and open with "
                "Trajectory.load; make room, or give another path"
            ) from error

    def abandon(self) -> bool:
        """Leave nothing behind of a run that did not begin; whether it did not."""
        if self._on_disk is not None or self.n_records.max(initial=0) > 1:
            return False
        if self._store is not None:
            shutil.rmtree(self._store.path)
        return True

    def finish(self, summary: dict[str, np.ndarray], final: State, about: dict) -> Trajectory:
        """Complete the records and hand over the trajectory."""
        rest = min(int(self.n_records.max(initial=0)) - self._offset, self._capacity)
        if rest > 0:
            self._flush(rest)
        if self._store is not None:
            arrays: Mapping[str, Any] = self._store.arrays
        else:
            blocks = self._blocks or [self._blank(0)]
            arrays = {
                name: np.concatenate([block[name] for block in blocks], axis=1) for name in RECORDED
            }
        trajectory = Trajectory(arrays, self.n_records, summary, final, about)
        if self._store is not None:
            self._store.finish(self.n_records, summary, final, about)
        return trajectory
