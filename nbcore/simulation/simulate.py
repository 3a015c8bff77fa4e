"""`simulate`, the one entry point to a run."""

from __future__ import annotations

import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from nbcore.errors import InputError, unknown_name
from nbcore.physics.body_errors import BodyErrors
from nbcore.physics.integrators import Hermite, Integrator, get_integrator
from nbcore.physics.plain import check_plain
from nbcore.physics.state import PerSystem, State
from nbcore.simulation import torch_engine
from nbcore.simulation.frame import Frame
from nbcore.simulation.inputs import (
    DEFAULT_INTEGRATOR,
    check_kinds,
    policy_of,
    state_of,
    warn_of_untrained,
    why_no_step,
)
from nbcore.simulation.missed import warn_of_error
from nbcore.simulation.novelty import warn_of_novelty
from nbcore.simulation.status import Status
from nbcore.simulation.storage import SUMMARY
from nbcore.simulation.threads import threads_for
from nbcore.simulation.torch_engine import Limits, Monitor
from nbcore.simulation.trajectory import Recorder, Trajectory
from nbcore.stepping.control import ErrorControl, get_control, guard_of
from nbcore.stepping.policies import LearnedPolicy, Policy

__all__ = ["ENGINES", "check", "simulate"]

DEFAULT_MAX_STEPS = 10_000_000


def simulate(
    state: State | Any,
    t_end: float | Any = None,
    policy: object = None,
    *,
    integrator: str | None = None,
    tolerance: float | Any = 1e-6,
    stepping: str | None = None,
    engine: str = "auto",
    record: int | str | Any | None = None,
    max_steps: int | None = None,
    collision_distance: float | None = None,
    escape_distance: float | None = None,
    guard: bool | None = None,
    error_control: bool = False,
    follow: bool = True,
    progress: bool = False,
    path: str | Path | None = None,
    stop: Callable[[], bool] | None = None,
) -> Trajectory:
    """Integrate every system of a state to its end.

    Parameters
    ----------
    state
        Initial state, single or a batch; or the name of a scenario, the path of a file of initial
        conditions, a rebound.Simulation, (mass, position, velocity), or a dict of the arguments of
        `State.from_arrays`.
    t_end
        End of the run [T], one number or (B,); reached exactly. inf with `max_steps`.
    policy
        What chooses the steps: FixedStep, Criterion, a learned policy or a suite of them, or a
        plain function (state, tolerance) -> dt, one number or (B,). By name: a criterion, with the
        η of the configuration; a shipped policy; "untrained"; the path of a checkpoint or of a
        run's folder. None takes the shipped suite "default", or, with a warning, an untrained
        policy where that has none for the integrator.
    integrator
        Name in the table of integrators. None takes the one that the policy was trained for,
        otherwise suzuki4; of a suite, None and "auto" take the cheapest for the tolerance, of a
        batch for the strictest one.
    tolerance
        Relative error that is accepted, in (0, 1), of the energy and of every body's orbit (see
        `Trajectory.body_error`); one number or (B,). Learned policies aim at it with the maximum
        over every step; other policies don't heed it, save by `error_control`.
    stepping
        "plain" or "reversible"; None takes what a learned policy was trained for, otherwise plain.
    engine
        "compiled", "torch", or "auto", which is the compiled one where it can do the run.
    record
        None: every step; n: every n-th step and both ends; array: these times, by a step of part
        length aside, so that the steps do not change; "ends": start and end only.
    max_steps
        Most steps of each system; 10 million unless given.
    collision_distance, escape_distance
        Stop a system where two bodies come closer, or one is farther from the centre of mass [L]:
        at that time, also within a step, where the step then ends and is recorded like the end of
        a run; and before the first step where it is so at the start. Which bodies, when and how far
        is `Trajectory.events`. Two bodies without mass don't see each other, and so don't meet.
    guard
        Redo, once, a step that changes the energy, or a body's orbit, by more than ten tolerances,
        with a step of the smooth pair criterion; where that happens often, that criterion makes
        all further steps. Evaluations of what is redone count. None guards learned policies alone.
    error_control
        Now and then make all further steps longer or shorter, so that the largest error comes
        near the tolerance; first after 32 steps, then whenever an eighth more are made. Steps
        are then reversible only between one change and the next.
    follow
        Follow the orbit of every body. Without that, which saves a tenth to a third of the time of
        a few bodies, `body_error` is NaN, and guard and error control see the energy alone.
    progress
        Show a progress bar.
    path
        Stream the records to a Zarr group here, so that memory does not grow with the run.
    stop
        Asked between steps, by the compiled engine some twenty times a second; where it says so,
        the run ends as by Ctrl-C: INTERRUPTED, with what was recorded. For runs on a thread, which
        Ctrl-C does not reach.

    Returns
    -------
    Trajectory

    Raises
    ------
    InputError
        An argument can't be used. A system that fails while it is integrated is a status, and a
        warning names how many there are.
    """
    check_kinds(
        integrator=integrator,
        stepping=stepping,
        engine=engine,
        max_steps=max_steps,
        collision_distance=collision_distance,
        escape_distance=escape_distance,
        guard=guard,
        error_control=error_control,
        progress=progress,
        path=path,
        stop=stop,
    )
    state = state_of(state)
    plan = _plan(state, t_end, policy, integrator, tolerance, stepping, max_steps)
    end, accepted, chosen, learned, stepping, name, scheme = plan
    warn_of_untrained(policy, chosen, name)
    for what, limit in (("collision", collision_distance), ("escape", escape_distance)):
        check_plain(f"{what}_distance", limit)
        if limit is not None and not limit > 0:
            raise InputError(f"{what}_distance is {limit}; it must be positive, or None")
    engine, run = _engine(engine, state, chosen, scheme)
    given = state.detach().replace(acceleration=None, jerk=None)
    frame = Frame.of(given)
    state = frame.enter(given)
    if learned:
        _check_calibrated(learned, accepted, stepping)
    guarded = learned is not None if guard is None else guard
    watch = guard_of(state, accepted, scheme.order) if guarded else None
    steering = ErrorControl(accepted, scheme.order) if error_control else None
    most = max_steps or DEFAULT_MAX_STEPS
    limits = Limits(end, most, collision_distance, escape_distance, stop)
    rows = _record(record, state, end)
    observer = _Observer(state, frame, scheme, limits, rows, progress, path)
    try:
        with threads_for(*state.position.shape):
            outcome = run(
                state, chosen, scheme, accepted, stepping, limits, observer, watch, steering, follow
            )
    except BaseException:
        observer.abandon()
        raise
    counts = (outcome.n_steps, outcome.n_redone, outcome.n_force_evaluations)
    largest, worst = outcome.max_body_errors.max(dim=1)
    numbers = (outcome.status, *counts, *outcome.max_errors, largest, worst, *outcome.events)
    about = {
        "integrator": name,
        "policy": str(chosen),
        "stepping": stepping,
        "tolerance": accepted.cpu().numpy(),
        "expected_error": _expected(learned, accepted),
        "engine": engine,
    }
    trajectory = observer.finish(
        dict(zip(SUMMARY, (number.cpu().numpy() for number in numbers), strict=True)),
        outcome.state.detach().replace(acceleration=None, jerk=None),
        outcome.body_errors,
        about,
    )
    failed = (outcome.status == Status.NON_FINITE) | (outcome.status == Status.DT_UNDERFLOW)
    _warn(outcome.status, why_no_step(chosen, outcome.state, accepted, failed))
    if learned or error_control:
        warn_of_error(trajectory)
    if learned:
        warn_of_novelty(learned, given, trajectory)
    return trajectory


def check(
    state: State,
    t_end: float | Any,
    policy: object = None,
    *,
    integrator: str | None = None,
    tolerance: float | Any = 1e-6,
    stepping: str | None = None,
    engine: str = "auto",
    record: int | str | Any | None = None,
    max_steps: int | None = None,
    **_: Any,
) -> None:
    """Raise InputError where `simulate` would refuse to run; nothing is compiled or run."""
    plan = _plan(state, t_end, policy, integrator, tolerance, stepping, max_steps)
    scheme = plan.scheme
    if isinstance(scheme, Hermite):
        scheme.check(state)
    if state.field is not None:
        state.field.acceleration(state.position, state.time, state.G)  # which asks for dimensions
    _record(record, state, plan.t_end)
    if engine != "auto":  # which always finds one, and to look for it imports the compiler
        _engine(engine, state, plan.policy, scheme)


class _Plan(NamedTuple):
    """What a run is to be, as far as its arguments say."""

    t_end: PerSystem
    tolerance: PerSystem
    policy: Policy
    learned: LearnedPolicy | None
    stepping: str
    integrator: str
    scheme: Integrator


def _plan(
    state: State,
    t_end: Any,
    policy: Any,
    integrator: str | None,
    tolerance: Any,
    stepping: str | None,
    max_steps: int | None,
) -> _Plan:
    check_plain("max_steps", max_steps)
    if max_steps is not None and max_steps < 1:
        raise InputError(f"max_steps is {max_steps}; it must be 1 or more")
    end = _t_end(state, t_end, max_steps)
    accepted = _per_system(state, "tolerance", tolerance)
    if not bool(((accepted > 0) & (accepted < 1)).all()):
        raise InputError(f"tolerance is {tolerance}; it must lie between 0 and 1, such as 1e-6")
    chosen, integrator = policy_of(policy, integrator, float(accepted.min()))
    learned = chosen if isinstance(chosen, LearnedPolicy) else None
    stepping = stepping or (learned.spec.stepping if learned else "plain")
    return _Plan(
        end, accepted, chosen, learned, stepping, *_integrator(integrator, chosen, stepping)
    )


class _Observer:
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
    ) -> None:
        self._integrator, self._limits, self.record = integrator, limits, record
        self._times = record if isinstance(record, Tensor) else None
        if self._times is not None:
            rows = len(self._times)
        elif self.record > 0:
            rows = None
        else:
            rows = 2  # both ends
        self.recorder, self._frame = Recorder(state, frame, path, rows), frame
        self.monitor = Monitor(state)
        self._start, self._steps = state.time, 0
        self._made = np.zeros(state.n_systems, dtype=np.int64)
        self.row = np.zeros(state.n_systems, dtype=np.int64)
        self._bar = tqdm(total=1.0, desc="simulate", disable=not progress, bar_format=_BAR)
        self._shown = 0.0
        self._dt = torch.full_like(state.time, torch.nan)
        self._written = torch.full_like(state.time, -torch.inf)
        unchanged, no_error = (torch.zeros_like(state.time),) * 3, torch.zeros_like(state.mass)
        if self._times is None:
            self._write(state, self._dt, unchanged, no_error, state.time > self._written)
            self.row += 1
        else:
            at_start = self._times[0] == state.time
            self._write(state, self._dt, unchanged, no_error, at_start)
            self.row += at_start.cpu().numpy()

    def __call__(self, before, after, h, errors, orbits, status) -> None:
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
        self._bar.close()
        self.recorder.abandon()

    def finish(self, summary, final: State, of_bodies: Tensor, about) -> Trajectory:
        if self._times is None:
            # last steps that were not due
            self._write(final, self._dt, None, of_bodies, final.time > self._written)
        if not self._bar.disable:
            self._show(final.time, torch.as_tensor(summary["status"]))
        self._bar.close()
        return self.recorder.finish(summary, self._frame.leave(final), about)


_BAR = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining} {postfix}"


def _check_calibrated(policy: LearnedPolicy, tolerance: PerSystem, stepping: str) -> None:
    known = policy.calibration
    if known is None:
        return
    if stepping != policy.spec.stepping:
        warnings.warn(
            f"the policy was calibrated with {policy.spec.stepping} steps; with {stepping} ones "
            "the error may miss the tolerance",
            RuntimeWarning,
            stacklevel=3,
        )
    for value in (float(tolerance.min()), float(tolerance.max())):
        if not known.covers(value):
            least, most = known.range
            warnings.warn(
                f"tolerance {value:.1e} lies outside the range {least:.1e} to {most:.1e} that the "
                f"policy for {policy.spec.integrator!r} was calibrated for; the error may miss it",
                RuntimeWarning,
                stacklevel=3,
            )
            return


def _expected(policy: LearnedPolicy | None, tolerance: PerSystem) -> list[list[float]] | None:
    """10th percentile, median and 90th percentile (B, 3) of the errors of such runs."""
    if policy is None or policy.calibration is None:
        return None
    band = policy.calibration.band
    return [[band(each)[0], each, band(each)[1]] for each in tolerance.tolist()]


def _integrator(name: str | None, policy: Policy, stepping: str) -> tuple[str, Integrator]:
    learned = policy if isinstance(policy, LearnedPolicy) else None
    name = name or (learned.spec.integrator if learned else DEFAULT_INTEGRATOR)
    integrator = get_integrator(name)
    if learned and learned.spec.order != integrator.order:
        raise InputError(
            f"the policy was trained for {learned.spec.integrator!r} of order "
            f"{learned.spec.order}, and {name!r} has order {integrator.order}; "
            f"use integrator={learned.spec.integrator!r}"
        )
    get_control(stepping)
    if stepping == "reversible" and not integrator.reversible:
        raise InputError(
            f"integrator {name!r} is not reversible; use stepping='plain' or another integrator, "
            "such as 'suzuki4'"
        )
    if stepping == "reversible" and policy.looks_back:
        raise InputError(
            "history features depend on the past, so the steps can't be reversible; "
            "use stepping='plain'"
        )
    return name, integrator


def _per_system(state: State, name: str, value: Any) -> PerSystem:
    check_plain(name, value)
    try:
        # with the dtype at once: a Python float would pass through float32
        tensor = torch.as_tensor(value, dtype=state.time.dtype, device=state.time.device)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"{name} is {value!r}; it must be a number, or one a system") from None
    if tensor.ndim > 1 or (tensor.ndim == 1 and len(tensor) != state.n_systems):
        raise InputError(
            f"{name} has shape {tuple(tensor.shape)} for {state.n_systems} systems; "
            "give one number, or one a system"
        )
    return tensor.expand(state.n_systems).clone()


def _t_end(state: State, t_end: Any, max_steps: int | None) -> PerSystem:
    if t_end is None:
        raise InputError("t_end is not given; say when the run ends, such as simulate(state, 10.0)")
    end = _per_system(state, "t_end", t_end)
    if bool((end <= state.time).any()) or bool(end.isnan().any()):
        raise InputError(
            f"t_end is {t_end} and the state is at time {float(state.time.max())}; "
            "t_end must be later"
        )
    if max_steps is None and not bool(torch.isfinite(end).all()):
        raise InputError("t_end is infinite; give max_steps, or the run never ends")
    return end


def _record(record: Any, state: State, t_end: PerSystem) -> int | Tensor:
    """Every how many steps to record (0: ends only), or the output times (T,)."""
    check_plain("record", record)
    if record is None:
        return 1
    if isinstance(record, str):
        if record != "ends":
            raise InputError(f"record is {record!r}; give None, a number, times, or 'ends'")
        return 0
    if isinstance(record, (int, np.integer)):
        if record < 1:
            raise InputError(f"record is {record}; it must be 1 or more, or 'ends'")
        return int(record)
    try:
        times = torch.as_tensor(np.array(record, dtype=np.float64), device=state.time.device)
    except (TypeError, ValueError):
        raise InputError(f"record is {record!r}; give None, a number, times, or 'ends'") from None
    increasing = times.ndim == 1 and bool((times.diff() > 0).all())
    if not increasing or not len(times) or not bool(torch.isfinite(times).all()):
        raise InputError(
            f"record is {record!r}; times must be one increasing list of finite numbers, not empty"
        )
    if bool((times[0] < state.time).any()) or bool((times[-1] > t_end).any()):
        raise InputError(
            f"record times from {float(times[0])} to {float(times[-1])} reach beyond the run, "
            f"{float(state.time.max())} to {float(t_end.min())}"
        )
    return times


def _warn(status: Tensor, why: str = "") -> None:
    counts = Counter(Status(int(s)).name for s in status.tolist() if s != Status.SUCCESS)
    if counts:
        what = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
        warnings.warn(
            f"{sum(counts.values())} of {len(status)} systems did not reach t_end: {what}; "
            f"see trajectory.status{why}",
            RuntimeWarning,
            stacklevel=3,
        )


def _engine(name: str, state: State, policy: Policy, integrator: Integrator):
    """Name of an engine and its `integrate`."""
    if name not in ENGINES:
        raise unknown_name("engine", name, ENGINES)
    if name == "torch":
        return name, torch_engine.integrate
    from nbcore.simulation import compiled_engine

    obstacle = compiled_engine.obstacle(state, policy, integrator)
    if obstacle is None:
        return "compiled", compiled_engine.integrate
    if name == "compiled":
        raise InputError(f"the compiled engine does not take {obstacle}; use engine='torch'")
    return "torch", torch_engine.integrate


ENGINES = ("auto", "compiled", "torch")
