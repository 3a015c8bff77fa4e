"""Who follows a run: one that records what was asked for, and one that keeps the ends alone."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from nbcore.physics.integrators import Integrator
from nbcore.physics.state import PerSystem, State
from nbcore.simulation.engine import Limits, Monitor, Room, Standing, Step
from nbcore.simulation.frame import Frame
from nbcore.simulation.resumption import Begun, Keeper
from nbcore.simulation.status import Status
from nbcore.simulation.storage import shapes
from nbcore.simulation.trajectory import Recorder, Trajectory

__all__ = ["EndsOnly", "Recording"]

_BAR = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining} {postfix}"


class Recording:
    """Records what was asked for, moves the progress bar, and knows where the run goes on."""

    def __init__(
        self,
        state: State,
        frame: Frame,
        integrator: Integrator,
        limits: Limits,
        record: int | Tensor,
        progress: bool,
        path: str | Path | None,
        begun: Begun | None = None,
        follow: bool = True,
    ) -> None:
        self._integrator, self._limits, self.record = integrator, limits, record
        self._times = record if isinstance(record, Tensor) else None
        if self._times is not None:
            rows = len(self._times)
        elif self.record > 0:
            rows = None
        else:
            rows = 2  # both ends
        known = begun.arrays(limits.t_end, limits.max_steps) if begun is not None else {}
        self.row = np.zeros(state.n_systems, dtype=np.int64)
        going = np.ones(state.n_systems, dtype=bool)
        if known:
            self.row, going = known["record.row"].copy(), known["status"] == Status.RUNNING
        goes_on = None if begun is None else (self.row, going)
        self.recorder, self._frame = Recorder(state, frame, path, rows, goes_on), frame
        ends = {"t_end": limits.t_end, "max_steps": limits.max_steps}
        self.keeper = (
            None
            if path is None
            else Keeper(Path(path), ends, begun, known, self.recorder.put, self._beside)
        )
        self.monitor = Monitor(state)
        self._start, self._steps = state.time, 0
        self._made = np.zeros(state.n_systems, dtype=np.int64)
        self._bar = tqdm(total=1.0, desc="simulate", disable=not progress, bar_format=_BAR)
        self._shown = 0.0
        self._dt = torch.full_like(state.time, torch.nan)
        self._written = torch.full_like(state.time, -torch.inf)
        if known:
            self._made = known["record.made"].copy()
            self._dt, self._written = (
                torch.as_tensor(known[name].copy()).to(state.time.device)
                for name in ("record.dt", "record.written")
            )
            return
        unchanged, no_error = (torch.zeros_like(state.time),) * 3, torch.zeros_like(state.mass)
        if not follow:
            no_error = torch.nan * no_error
        if self._times is None:
            self._write(state, self._dt, unchanged, no_error, state.time > self._written)
            self.row += 1
        else:
            at_start = self._times[0] == state.time
            self._write(state, self._dt, unchanged, no_error, at_start)
            self.row += at_start.cpu().numpy()

    def _beside(self) -> dict[str, Any]:
        """What the records go on by, beside the engine."""
        return {
            "record.row": self.row.copy(),
            "record.made": self._made.copy(),
            "record.dt": self._dt,
            "record.written": self._written,
        }

    def stepped(self, step: Step) -> None:
        """Take note of a step."""
        self._steps += 1
        if self._times is None:
            moved = (step.dt > 0).cpu().numpy()
            self._dt = torch.where(step.dt > 0, step.dt, self._dt)
            self._made += moved
            if self.record > 0:
                going = (step.status == Status.RUNNING).cpu().numpy()
                due = moved & ((self._made % self.record == 0) | ~going)
                of_bodies = None if step.orbits_after is None else step.orbits_after.error
                which = torch.as_tensor(due, device=step.dt.device)
                self._write(step.after, self._dt, step.errors, of_bodies, which)
                self.row += due
                self.recorder.close(int(self.row[going].min() if going.any() else self.row.max()))
        else:
            self._write_times(step)
        if not self._bar.disable and monotonic() - self._shown > 0.2:
            self._show(step.after.time, step.status)

    def room(self) -> Room:
        """Rows of the recorder's buffer."""
        offset, arrays = self.recorder.buffer
        if self._times is None:
            return Room(int(self.record), np.empty(0), self.row, offset, arrays)
        times = np.array(self._times.cpu().numpy(), dtype=np.float64)
        return Room(0, times, self.row, offset, arrays)

    def filled(self, standing: Standing) -> None:
        """Take note of what an engine wrote into the room."""
        n_steps, made, at, status = standing
        self.recorder.filled(self.row)
        going = status == Status.RUNNING
        self.recorder.close(int(self.row[going].min() if going.any() else self.row.max()))
        self._steps = int(n_steps.max())
        self._dt = torch.as_tensor(made.copy())
        every = 0 if self._times is not None else int(self.record)
        # The engine writes the last record of what has ended; of what is interrupted, `finish`.
        missing = going & (n_steps % every != 0 if every else n_steps > 0)
        self._written = torch.as_tensor(np.where(missing, -np.inf, np.inf))
        if not self._bar.disable and monotonic() - self._shown > 0.2:
            self._show(torch.as_tensor(at), torch.as_tensor(status))

    def _write_times(self, step: Step) -> None:
        """Records at output times, each by a step of part length from the state before it."""
        times, before, after, h = self._times, step.before, step.after, step.dt
        orbits = step.orbits_before
        assert times is not None
        while True:
            row = torch.as_tensor(self.row, device=times.device)
            wanted = times[row.clamp(max=len(times) - 1)]
            due = (row < len(times)) & (h > 0) & (wanted <= after.time)
            if not bool(due.any()):
                break
            part = torch.where(due, wanted - before.time, 0.0)
            told = None if orbits is None else orbits.watch(before)
            at = self._integrator.step(before, part, told)
            of_bodies = None
            if orbits is not None and told is not None:
                of_bodies = orbits.after(at, told)[0].error
            at = at.replace(time=torch.where(due, wanted, before.time))
            self._write(at, h, None, of_bodies, due)
            self.row += due.cpu().numpy()
        self.recorder.close(int(self.row.min()))

    def _write(
        self, state: State, dt: PerSystem, errors, of_bodies: Tensor | None, systems: Tensor
    ) -> None:
        if not bool(systems.any()):
            return
        energy, momentum, angular = self.monitor.errors(state) if errors is None else errors
        values = {
            "time": state.time,
            "dt": dt,
            "energy_error": energy,
            "momentum_error": momentum,
            "angular_momentum_error": angular,
            "body_error": torch.nan * state.mass if of_bodies is None else of_bodies,
            "position": state.position,
            "velocity": state.velocity,
        }
        arrays = {name: value.cpu().numpy() for name, value in values.items()}
        self.recorder.write(arrays, systems.cpu().numpy(), self.row)
        self._written = torch.where(systems, state.time, self._written)

    def _show(self, at: Tensor, status: Tensor) -> None:
        self._shown = monotonic()
        done = (at - self._start) / (self._limits.t_end - self._start)
        steps = torch.tensor(self._steps / self._limits.max_steps, dtype=done.dtype)
        done = torch.where(status == Status.RUNNING, torch.maximum(done, steps), 1.0)
        self._bar.n = float(done.mean())
        self._bar.set_postfix_str(f"{self._steps} steps", refresh=True)

    def abandon(self) -> None:
        """Leave a run that failed in good order."""
        self._bar.close()
        if not self.recorder.abandon() and self.keeper is not None:
            with suppress(Exception):  # such as a full disk, which is told of already
                self.keeper.save()

    def finish(self, summary, final: State, of_bodies: Tensor, about) -> Trajectory:
        """Complete the records, and hand over what the run leaves."""
        if self._times is None:
            # last steps that were not due
            due = final.time > self._written
            due &= torch.as_tensor(self.recorder.holds(self.row), device=due.device)
            self._write(final, self._dt, None, of_bodies, due)
        if not self._bar.disable:
            self._show(final.time, torch.as_tensor(summary["status"]))
        self._bar.close()
        trajectory = self.recorder.finish(summary, self._frame.leave(final), about)
        if self.keeper is not None:
            self.keeper.save(records=False)
        return trajectory


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
        moved = (step.dt > 0).cpu().numpy()
        self.energy_error[moved] = step.errors[0].cpu().numpy()[moved]
        if step.orbits_after is not None:
            self.body_error[moved] = step.orbits_after.error.cpu().numpy()[moved]

    def room(self) -> Room:
        """One row, which the engine fills at the end."""
        return Room(0, np.empty(0), self._row, 0, self._arrays)

    def filled(self, standing: Standing) -> None:
        """Nothing to do."""
