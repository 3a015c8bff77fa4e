"""Records what was asked for of a run, moves its progress bar, and knows where it goes on."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from nbcore.physics.body_errors import BodyErrors
from nbcore.physics.integrators import Integrator
from nbcore.physics.state import PerSystem, State
from nbcore.simulation.frame import Frame
from nbcore.simulation.resumption import Begun, Keeper
from nbcore.simulation.status import Status
from nbcore.simulation.torch_engine import Limits, Monitor
from nbcore.simulation.trajectory import Recorder, Trajectory

__all__ = ["Observer"]

_BAR = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining} {postfix}"


class Observer:
    """Records what was asked for and moves the progress bar."""

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

    def __call__(self, before, after, h, errors, orbits, status) -> None:
        """Take note of a step; see `torch_engine.Observer`."""
        self._steps += 1
        if self._times is None:
            self._dt = torch.where(h > 0, h, self._dt)
            moved = (h > 0).cpu().numpy()
            self._made += moved
            if self.record > 0:
                going = (status == Status.RUNNING).cpu().numpy()
                due = moved & ((self._made % self.record == 0) | ~going)
                of_bodies = None if orbits[1] is None else orbits[1].error
                which = torch.as_tensor(due, device=h.device)
                self._write(after, self._dt, errors, of_bodies, which)
                self.row += due
                self.recorder.close(int(self.row[going].min() if going.any() else self.row.max()))
        else:
            self._write_times(before, after, h, orbits[0])
        if not self._bar.disable and time.monotonic() - self._shown > 0.2:
            self._show(after.time, status)

    def follow(self, n_steps, made, at, status) -> None:
        """Take note of where an engine stands that fills the recorder's buffer by itself.

        Parameters
        ----------
        n_steps, made, at, status
            (B,) each; `made` is the last step and `at` the time.
        """
        self.recorder.filled(self.row)
        going = status == Status.RUNNING
        self.recorder.close(int(self.row[going].min() if going.any() else self.row.max()))
        self._steps = int(n_steps.max())
        self._dt = torch.as_tensor(made.copy())
        every = 0 if self._times is not None else int(self.record)
        # The engine writes the last record of what has ended; of what is interrupted, `finish`.
        missing = going & (n_steps % every != 0 if every else n_steps > 0)
        self._written = torch.as_tensor(np.where(missing, -np.inf, np.inf))
        if not self._bar.disable and time.monotonic() - self._shown > 0.2:
            self._show(torch.as_tensor(at), torch.as_tensor(status))

    def _write_times(
        self, before: State, after: State, h: PerSystem, orbits: BodyErrors | None
    ) -> None:
        """Records at output times, each by a step of part length from the state before it."""
        times = self._times
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
        self._shown = time.monotonic()
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
