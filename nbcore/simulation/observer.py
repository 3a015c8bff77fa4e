"""Who follows a run: one that records what was asked for, and one that keeps the ends alone."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbcore.physics.arrays import Array, PerSystem, beside, to_numpy
from nbcore.physics.state import State
from nbcore.simulation.engine import POINTS, ROWS_WITH_POINTS, Monitor, Room, Standing, Step, Task
from nbcore.simulation.frame import Frame
from nbcore.simulation.resumption import Begun, Keeper
from nbcore.simulation.status import Status
from nbcore.simulation.storage import shapes
from nbcore.simulation.trajectory import Recorder, Trajectory

__all__ = ["EndsOnly", "Recording"]

SECONDS_BETWEEN_LOOKS = 0.2  # at the progress bar
_BAR = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining} {postfix}"


class Recording:
    """Records what was asked for, moves the progress bar, and knows where the run goes on.

    Parameters
    ----------
    task
        The run, in the frame in which it is made.
    frame
        That frame.
    record
        Every so many steps (0: both ends; POINTS), or the output times (T,).
    path
        Where to stream to.
    begun
        The stored run that goes on.
    """

    def __init__(
        self,
        task: Task,
        frame: Frame,
        record: int | NDArray[np.float64],
        progress: bool = False,
        path: str | Path | None = None,
        begun: Begun | None = None,
    ) -> None:
        state, limits = task.state, task.limits
        self._integrator, self._limits = task.integrator, limits
        self._times = record if isinstance(record, np.ndarray) else None
        self._every, self._rows_a_step = 0, 1
        if self._times is not None:
            rows = len(self._times)
        elif record == POINTS:
            self._every, self._rows_a_step, rows = 1, ROWS_WITH_POINTS, None
        else:
            self._every, rows = int(record), None if record else 2  # both ends
        known = begun.arrays(to_numpy(limits.t_end), limits.max_steps) if begun is not None else {}
        self.row = np.zeros(state.n_systems, dtype=np.int64)
        going = np.ones(state.n_systems, dtype=bool)
        if known:
            self.row, going = known["record.row"].copy(), known["status"] == Status.RUNNING
        goes_on = None if begun is None else (self.row, going)
        self.recorder = Recorder(state, frame, path, rows, goes_on, self._rows_a_step)
        self._frame = frame
        ends = {"t_end": to_numpy(limits.t_end), "max_steps": limits.max_steps}
        self.keeper = (
            None
            if path is None
            else Keeper(Path(path), ends, begun, known, self.recorder.put, self._beside)
        )
        self.monitor = Monitor(state)
        self._start, self._steps = to_numpy(state.time), 0
        self._made = np.zeros(state.n_systems, dtype=np.int64)
        self._bar = _bar() if progress else None
        self._shown = 0.0
        self._dt = np.full(state.n_systems, np.nan)
        self._written = np.full(state.n_systems, -np.inf)
        if known:
            self._made = known["record.made"].copy()
            self._dt, self._written = (known[f"record.{name}"].copy() for name in ("dt", "written"))
            return
        unchanged, no_error = (0 * state.time,) * 3, 0 * state.mass
        if not task.follow:
            no_error = np.nan * no_error
        at_start = np.ones(state.n_systems, dtype=bool)
        if self._times is not None:
            at_start = self._times[0] == self._start
        self._write(state, self._dt, unchanged, no_error, at_start)
        self.row += at_start

    def _beside(self) -> dict[str, Any]:
        """What the records go on by, beside the engine."""
        return {
            "record.row": self.row.copy(),
            "record.made": self._made.copy(),
            "record.dt": self._dt.copy(),
            "record.written": self._written.copy(),
        }

    def stepped(self, step: Step) -> None:
        """Take note of a step."""
        self._steps += 1
        if self._times is None:
            dt, status = to_numpy(step.dt), to_numpy(step.status)
            moved = dt > 0
            self._dt = np.where(moved, dt, self._dt)
            self._made += moved
            if self._every > 0:
                if self._rows_a_step > 1:
                    self._write_points(step)
                going = status == Status.RUNNING
                due = moved & ((self._made % self._every == 0) | ~going)
                of_bodies = None if step.orbits_after is None else step.orbits_after.error
                self._write(step.after, self._dt, step.errors, of_bodies, due)
                self.row += due
                self.recorder.close(int(self.row[going].min() if going.any() else self.row.max()))
        else:
            self._write_times(step)
        self._show(step.after.time, step.status)

    def room(self) -> Room:
        """Rows of the recorder's buffer."""
        offset, arrays = self.recorder.buffer
        if self._times is None:
            return Room(self._every, self._rows_a_step, np.empty(0), self.row, offset, arrays)
        return Room(0, 1, self._times, self.row, offset, arrays)

    def filled(self, standing: Standing) -> None:
        """Take note of what an engine wrote into the room."""
        n_steps, made, at, status = standing
        self.recorder.filled(self.row)
        going = status == Status.RUNNING
        self.recorder.close(int(self.row[going].min() if going.any() else self.row.max()))
        self._steps = int(n_steps.max())
        self._dt = made.copy()
        every = self._every
        # The engine writes the last record of what has ended; of what is interrupted, `finish`.
        missing = going & (n_steps % every != 0 if every else n_steps > 0)
        self._written = np.where(missing, -np.inf, np.inf)
        self._show(at, status)

    def _write_times(self, step: Step) -> None:
        """Records at output times within a step."""
        times, h, ended = self._times, to_numpy(step.dt), to_numpy(step.after.time)
        assert times is not None
        while True:
            wanted = times[self.row.clip(max=len(times) - 1)]
            due = (self.row < len(times)) & (h > 0) & (wanted <= ended)
            if not due.any():
                break
            self._write_within(step, wanted, due)
        self.recorder.close(int(self.row.min()))

    def _write_points(self, step: Step) -> None:
        """Records at the points on the way of a step."""
        if step.trail is None:
            return
        begun, ended = to_numpy(step.before.time), to_numpy(step.after.time)
        moved, latest = to_numpy(step.dt) > 0, begun
        for passed in to_numpy(step.trail.time)[1:-1]:
            wanted = begun + passed
            due = moved & (latest < wanted) & (wanted < ended)
            self._write_within(step, wanted, due)
            latest = np.where(due, wanted, latest)

    def _write_within(
        self, step: Step, times: NDArray[np.float64], systems: NDArray[np.bool_]
    ) -> None:
        """A record of some systems at times (B,), by a step of part length from the one before."""
        before, orbits, begun = step.before, step.orbits_before, to_numpy(step.before.time)
        part = beside(np.where(systems, times - begun, 0.0), before.time)
        told = None if orbits is None else orbits.watch(before)
        at = self._integrator.step(before, part, told)
        of_bodies = None
        if orbits is not None and told is not None:
            of_bodies = orbits.after(at, told)[0].error
        reached = beside(np.where(systems, times, begun), before.time)
        self._write(at.replace(time=reached), to_numpy(step.dt), None, of_bodies, systems)
        self.row += systems

    def _write(
        self,
        state: State,
        dt: NDArray[np.float64],
        errors: tuple[PerSystem, ...] | None,
        of_bodies: Array | None,
        systems: NDArray[np.bool_],
    ) -> None:
        if not systems.any():
            return
        energy, momentum, angular = self.monitor.errors(state) if errors is None else errors
        values = {
            "time": state.time,
            "dt": dt,
            "energy_error": energy,
            "momentum_error": momentum,
            "angular_momentum_error": angular,
            "body_error": np.nan * state.mass if of_bodies is None else of_bodies,
            "position": state.position,
            "velocity": state.velocity,
        }
        arrays = {name: to_numpy(value) for name, value in values.items()}
        self.recorder.write(arrays, systems, self.row)
        self._written = np.where(systems, arrays["time"], self._written)

    def _show(self, at: Array, status: Array, now: bool = False) -> None:
        if self._bar is None or not (now or monotonic() - self._shown > SECONDS_BETWEEN_LOOKS):
            return
        self._shown = monotonic()
        span = to_numpy(self._limits.t_end) - self._start
        done = np.maximum((to_numpy(at) - self._start) / span, self._steps / self._limits.max_steps)
        done = np.where(to_numpy(status) == Status.RUNNING, done, 1.0)
        self._bar.n = float(done.mean())
        self._bar.set_postfix_str(f"{self._steps} steps", refresh=True)

    def abandon(self) -> None:
        """Leave a run that failed in good order."""
        if self._bar is not None:
            self._bar.close()
        if not self.recorder.abandon() and self.keeper is not None:
            with suppress(Exception):  # such as a full disk, which is told of already
                self.keeper.save()

    def finish(
        self, summary: dict[str, np.ndarray], final: State, of_bodies: Array, about: dict[str, Any]
    ) -> Trajectory:
        """Complete the records, and hand over what the run leaves."""
        if self._times is None:
            # last steps that were not due
            due = (to_numpy(final.time) > self._written) & self.recorder.holds(self.row)
            self._write(final, self._dt, None, of_bodies, due)
        if self._bar is not None:
            self._show(final.time, summary["status"], now=True)
            self._bar.close()
        trajectory = self.recorder.finish(summary, self._frame.leave(final), about)
        if self.keeper is not None:
            self.keeper.save(records=False)
        return trajectory


def _bar() -> Any:
    from tqdm import tqdm

    return tqdm(total=1.0, desc="simulate", bar_format=_BAR)


class EndsOnly:
    """Keeps the errors at the end, for runs that are many and short.

    Attributes
    ----------
    energy_error
        (B,).
    body_error
        (B, N).
    """

    def __init__(self, state: State) -> None:
        self.monitor = Monitor(state)
        n_systems = state.n_systems
        self._row = np.zeros(n_systems, dtype=np.int64)
        self._arrays = {k: np.empty((n_systems, 1, *shape)) for k, shape in shapes(state).items()}

    @property
    def energy_error(self) -> NDArray[np.float64]:  # noqa: D102
        return self._arrays["energy_error"][:, 0]

    @property
    def body_error(self) -> NDArray[np.float64]:  # noqa: D102
        return self._arrays["body_error"][:, 0]

    def stepped(self, step: Step) -> None:
        """Keep the errors after a step."""
        moved = to_numpy(step.dt) > 0
        self.energy_error[moved] = to_numpy(step.errors[0])[moved]
        if step.orbits_after is not None:
            self.body_error[moved] = to_numpy(step.orbits_after.error)[moved]

    def room(self) -> Room:
        """One row, which the engine fills at the end."""
        return Room(0, 1, np.empty(0), self._row, 0, self._arrays)

    def filled(self, standing: Standing) -> None:
        """Nothing to do."""
