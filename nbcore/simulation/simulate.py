"""`simulate`, the one entry point to a run."""

from __future__ import annotations

import time
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from nbcore.errors import InputError, unknown_name
from nbcore.physics.integrators import Integrator, get_integrator
from nbcore.physics.state import PerSystem, State
from nbcore.simulation import torch_engine
from nbcore.simulation.novelty import warn_of_novelty
from nbcore.simulation.resumption import Begun, Keeper, begin, equal, refuse
from nbcore.simulation.status import Status
from nbcore.simulation.storage import SUMMARY
from nbcore.simulation.threads import threads_for
from nbcore.simulation.torch_engine import Limits, Monitor
from nbcore.simulation.trajectory import Recorder, Trajectory
from nbcore.stepping.checkpoints import load_policy
from nbcore.stepping.control import ErrorControl, get_control, guard_of
from nbcore.stepping.policies import LearnedPolicy, Policy, as_policy, untrained
from nbcore.stepping.suites import Suite

__all__ = ["ENGINES", "simulate"]

DEFAULT_INTEGRATOR = "suzuki4"
DEFAULT_POLICY = "default"  # among those that are shipped
AUTO = "auto"
DEFAULT_TOLERANCE = 1e-6
DEFAULT_MAX_STEPS = 10_000_000


def simulate(
    state: State | None = None,
    t_end: float | Any = None,
    policy: object = None,
    *,
    integrator: str | None = None,
    tolerance: float | Any = None,
    stepping: str | None = None,
    engine: str = "auto",
    record: int | str | Any | None = None,
    max_steps: int | None = None,
    collision_distance: float | None = None,
    escape_distance: float | None = None,
    guard: bool | None = None,
    error_control: bool | None = None,
    progress: bool = False,
    path: str | Path | None = None,
    stop: Callable[[], bool] | None = None,
    resume: str | Path | None = None,
) -> Trajectory:
    """Integrate every system of a state to its end.

    Parameters
    ----------
    state
        Initial state, single or a batch.
    t_end
        End of the run [T], one number or (B,); reached exactly. inf with `max_steps`.
    policy
        What chooses the steps: FixedStep, Criterion, a learned policy or a suite of them, or a
        plain function (state, tolerance) -> dt (B,). None takes the shipped suite "default", or
        an untrained policy where that has none for the integrator.
    integrator
        Name in the table of integrators. None takes the one that the policy was trained for,
        otherwise suzuki4; of a suite, None and "auto" take the cheapest for the tolerance, of a
        batch for the strictest one.
    tolerance
        Relative energy error that is accepted, in (0, 1); one number or (B,); 1e-6 unless given.
        Learned policies aim at it with the maximum over every step; other policies don't heed it,
        save by `error_control`.
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
        Stop a system where two bodies come closer, or one is farther from the centre of mass [L].
    guard
        Redo, once, a step that changes the energy by more than ten tolerances, with a step of the
        smooth pair criterion; where that happens often, that criterion makes all further steps.
        Evaluations of what is redone count. None guards learned policies alone.
    error_control
        Now and then make all further steps longer or shorter, so that the largest energy error
        comes near the tolerance; first after 32 steps, then whenever an eighth more are made. Steps
        are then reversible only between one change and the next.
    progress
        Show a progress bar.
    path
        Stream the records to a Zarr group here, so that memory does not grow with the run.
    stop
        Asked between steps, by the compiled engine some twenty times a second; where it says so,
        the run ends as by Ctrl-C: INTERRUPTED, with what was recorded. For runs on a thread, which
        Ctrl-C does not reach.
    resume
        Path of a stored run to go on with, bit for bit as if it had never stopped: interrupted,
        killed or at its end. All that is not given is taken from there, and what is given must
        agree, save t_end and max_steps, which may be later, engine="auto", progress and stop; a
        policy of your own has to be given again. With a state, and nothing at the path yet, the run
        begins there, so that a script that is run again goes on.

    Returns
    -------
    Trajectory

    Raises
    ------
    InputError
        An argument can't be used. A system that fails while it is integrated is a status, and a
        warning names how many there are.
    """
    begun = None
    if resume is not None:
        if path is not None:
            raise InputError(
                f"resume is {str(resume)!r} and path {str(path)!r}; a run goes on where it is "
                "stored: leave path out"
            )
        path = resume
        begun = Begun(resume) if state is None or Path(resume).exists() else None
    if begun is not None:
        given = (state, policy, integrator, tolerance, stepping, engine, record)
        limits = (collision_distance, escape_distance, guard, error_control)
        asked = _same(begun, given, limits)
        state, policy, integrator, tolerance, stepping, engine, record = asked[:7]
        collision_distance, escape_distance, guard, error_control = asked[7:]
        t_end = begun.asked["t_end"] if t_end is None else t_end
        max_steps = begun.asked["max_steps"] if max_steps is None else max_steps
    if state is None or t_end is None:
        raise InputError("give a state and t_end, or resume= with the path of a stored run")
    tolerance = DEFAULT_TOLERANCE if tolerance is None else tolerance
    end = _t_end(state, t_end, max_steps)
    accepted = _per_system(state, "tolerance", tolerance)
    if not bool(((accepted > 0) & (accepted < 1)).all()):
        raise InputError(f"tolerance is {tolerance}; it must lie between 0 and 1, such as 1e-6")
    chosen, integrator = _policy(policy, integrator, float(accepted.min()))
    learned = chosen if isinstance(chosen, LearnedPolicy) else None
    stepping = stepping or (learned.spec.stepping if learned else "plain")
    name, scheme = _integrator(integrator, chosen, stepping)
    if max_steps is not None and max_steps < 1:
        raise InputError(f"max_steps is {max_steps}; it must be 1 or more")
    for what, limit in (("collision", collision_distance), ("escape", escape_distance)):
        if limit is not None and not limit > 0:
            raise InputError(f"{what}_distance is {limit}; it must be positive, or None")
    engine, run = _engine(engine, state, chosen, scheme)
    state = state.detach().replace(acceleration=None, jerk=None)
    if learned:
        _check_calibrated(learned, accepted, stepping)
    guarded = learned is not None if guard is None else guard
    watch = guard_of(state, accepted, scheme.order) if guarded else None
    steering = ErrorControl(accepted, scheme.order) if error_control else None
    most = max_steps or DEFAULT_MAX_STEPS
    limits = Limits(end, most, collision_distance, escape_distance, stop)
    recorded = _record(record, state, end)
    if begun is not None and begun.has_ended and begun.stays(end, most):
        return Trajectory.load(begun.path)
    observer = _Observer(state, scheme, limits, recorded, progress, path, begun)
    if path is not None and begun is None:
        asked = {
            "integrator": name,
            "tolerance": accepted,
            "stepping": stepping,
            "engine": engine,
            "record": recorded,
            "max_steps": most,
            "t_end": end,
            "collision_distance": collision_distance,
            "escape_distance": escape_distance,
            "guard": guarded,
            "error_control": steering is not None,
        }
        begin(Path(path), state, chosen, asked)
    run = partial(run, keeper=observer.keeper)
    try:
        with threads_for(*state.position.shape):
            outcome = run(
                state, chosen, scheme, accepted, stepping, limits, observer, watch, steering
            )
    except BaseException:
        observer.abandon()
        raise
    counts = (outcome.n_steps, outcome.n_redone, outcome.n_force_evaluations)
    numbers = (outcome.status, *counts, *outcome.max_errors)
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
        about,
    )
    _warn(outcome.status)
    if learned:
        warn_of_novelty(learned, state, trajectory)
    return trajectory


class _Observer:
    """Records what was asked for and moves the progress bar."""

    def __init__(
        self,
        state: State,
        integrator: Integrator,
        limits: Limits,
        record: int | Tensor,
        progress: bool,
        path: str | Path | None,
        begun: Begun | None = None,
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
        self.recorder = Recorder(state, path, rows, goes_on)
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
        unchanged = (torch.zeros_like(state.time),) * 3
        if self._times is None:
            self._write(state, self._dt, unchanged, state.time > self._written)
            self.row += 1
        else:
            at_start = self._times[0] == state.time
            self._write(state, self._dt, unchanged, at_start)
            self.row += at_start.cpu().numpy()

    def _beside(self) -> dict[str, Any]:
        """What the records go on by, beside the engine."""
        return {
            "record.row": self.row.copy(),
            "record.made": self._made.copy(),
            "record.dt": self._dt,
            "record.written": self._written,
        }

    def __call__(self, before, after, h, errors, status) -> None:
        self._steps += 1
        if self._times is None:
            self._dt = torch.where(h > 0, h, self._dt)
            moved = (h > 0).cpu().numpy()
            self._made += moved
            if self.record > 0:
                going = (status == Status.RUNNING).cpu().numpy()
                due = moved & ((self._made % self.record == 0) | ~going)
                self._write(after, self._dt, errors, torch.as_tensor(due, device=h.device))
                self.row += due
                self.recorder.close(int(self.row[going].min() if going.any() else self.row.max()))
        else:
            self._write_times(before, after, h)
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

    def _write_times(self, before: State, after: State, h: PerSystem) -> None:
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
            at = self._integrator.step(before, part).replace(
                time=torch.where(due, wanted, before.time)
            )
            self._write(at, h, None, due)
            self.row += due.cpu().numpy()
        self.recorder.close(int(self.row.min()))

    def _write(self, state: State, dt: PerSystem, errors, systems: Tensor) -> None:
        if not bool(systems.any()):
            return
        energy, momentum, angular = self.monitor.errors(state) if errors is None else errors
        values = {
            "time": state.time,
            "dt": dt,
            "energy_error": energy,
            "momentum_error": momentum,
            "angular_momentum_error": angular,
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
        if not self.recorder.abandon() and self.keeper is not None:
            with suppress(Exception):  # such as a full disk, which is told of already
                self.keeper.save()

    def finish(self, summary, final: State, about) -> Trajectory:
        if self._times is None:
            # last steps that were not due
            due = final.time > self._written
            due &= torch.as_tensor(self.recorder.holds(self.row), device=due.device)
            self._write(final, self._dt, None, due)
        if not self._bar.disable:
            self._show(final.time, torch.as_tensor(summary["status"]))
        self._bar.close()
        trajectory = self.recorder.finish(summary, final, about)
        if self.keeper is not None:
            self.keeper.save(records=False)
        return trajectory


def _same(begun: Begun, given: tuple[Any, ...], limits: tuple[Any, ...]) -> tuple[Any, ...]:
    """Arguments of a run that goes on, in the order in which they are given, once they agree."""
    stored, path = begun.asked, begun.path
    state, policy, integrator, tolerance, stepping, engine, record = given
    if state is not None and (different := _difference(begun.state, state)):
        refuse(path, *different)
    accepted = stored["tolerance"]
    if tolerance is not None:
        asked = _per_system(begun.state, "tolerance", tolerance)
        if not torch.equal(asked.cpu(), accepted):
            refuse(path, "tolerance", _short(accepted), _short(asked))
    if policy is not None:
        policy, integrator = _policy(policy, integrator, float(accepted.min()))
    if record is not None:
        recorded = _record(record, begun.state, torch.full_like(begun.state.time, torch.inf))
        if not equal(recorded, stored["record"]):
            refuse(path, "record", _recorded(stored["record"]), _recorded(recorded))
    chosen = {
        "integrator": None if integrator == AUTO else integrator,
        "stepping": stepping,
        "engine": None if engine == "auto" else engine,
    }
    names = ("collision_distance", "escape_distance", "guard", "error_control")
    for name, value in {**chosen, **dict(zip(names, limits, strict=True))}.items():
        if value is not None and value != stored[name]:
            refuse(path, name, stored[name], value)
    every = stored["record"]
    recorded = every.numpy() if isinstance(every, Tensor) else every or "ends"
    return (
        begun.state,
        begun.policy(policy),  # pyright: ignore[reportArgumentType]
        stored["integrator"],
        accepted,
        stored["stepping"],
        stored["engine"],
        recorded,
        *(stored[name] for name in names),
    )


def _difference(one: State, other: State) -> tuple[str, Any, Any] | None:
    """First attribute in which two initial states differ, and its two values."""
    for name in ("G", "softening", "field"):
        if getattr(one, name) != getattr(other, name):
            return name, getattr(one, name), getattr(other, name)
    for name in ("mass", "position", "velocity", "time"):
        mine, theirs = (getattr(state, name).detach().cpu() for state in (one, other))
        if mine.shape != theirs.shape:
            return f"a {name} of shape", tuple(mine.shape), tuple(theirs.shape)
        if not torch.equal(mine, theirs):
            where = tuple((mine != theirs).nonzero()[0].tolist())
            return f"{name}{list(where)}", float(mine[where]), float(theirs[where])
    return None


def _short(values: Tensor) -> float | list[float]:
    return float(values[0]) if bool((values == values[0]).all()) else values.tolist()


def _recorded(record: int | Tensor) -> str:
    if isinstance(record, Tensor):
        return f"{len(record)} times from {float(record[0])} to {float(record[-1])}"
    return f"every {record} steps" if record else "ends"


_BAR = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining} {postfix}"


def _policy(policy: object, integrator: str | None, tolerance: float) -> tuple[Policy, str | None]:
    """Policy of a run, and its integrator if one is named or chosen by now."""
    if policy is None:
        policy = _default_policy(integrator)
    if isinstance(policy, Suite):
        if integrator in (None, AUTO):
            return policy.best(tolerance), None
        member = policy.of(integrator)
        if member is None:
            names = ", ".join(repr(m.spec.integrator) for m in policy.members)
            raise InputError(
                f"the policies of the suite were trained for {names}, not for {integrator!r}; "
                "use one of these, or integrator='auto'"
            )
        return member, integrator
    if integrator == AUTO:
        raise InputError(
            f"integrator is 'auto' and the policy {policy} can't choose one; "
            "name an integrator, or use nb.load_policy('default')"
        )
    return as_policy(policy), integrator


def _default_policy(integrator: str | None) -> Suite | LearnedPolicy:
    shipped = load_policy(DEFAULT_POLICY)
    if integrator in (None, AUTO) or (isinstance(shipped, Suite) and shipped.of(integrator)):
        return shipped
    return untrained(integrator)


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


def _warn(status: Tensor) -> None:
    counts = Counter(Status(int(s)).name for s in status.tolist() if s != Status.SUCCESS)
    if counts:
        what = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
        warnings.warn(
            f"{sum(counts.values())} of {len(status)} systems did not reach t_end: {what}; "
            "see trajectory.status",
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
