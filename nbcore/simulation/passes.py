"""A run of the engine, and runs that are gone over until they stay below their tolerance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nbcore.physics.arrays import PerSystem, beside, is_tensor, to_numpy
from nbcore.physics.extrapolation import Extrapolation
from nbcore.physics.integrators import Integrator
from nbcore.physics.state import State
from nbcore.physics.transformed import Transformed
from nbcore.physics.wisdom_holman import WisdomHolman
from nbcore.simulation.arguments import READY, Plan
from nbcore.simulation.citations import references
from nbcore.simulation.engine import Engine, Limits, Outcome, Task
from nbcore.simulation.frame import Frame
from nbcore.simulation.missed import LEAST
from nbcore.simulation.observer import Recording
from nbcore.simulation.resumption import Begun, begin
from nbcore.simulation.status import Status
from nbcore.simulation.storage import SUMMARY
from nbcore.simulation.trajectory import Trajectory
from nbcore.stepping.control import guard_of
from nbcore.stepping.planets import bound
from nbcore.stepping.policies import EqualSteps, LearnedPolicy, Policy

__all__ = ["Asked", "Made", "as_given", "errors_of", "go_over"]

INNER = 0.4  # of the tolerance, that a run which is to stay below it begins with
AGAIN = 0.5  # of what would do if errors went with the tolerance, for a run that did not
LEAST_CUT = 0.3  # of the tolerance of such a run, at least
MOST = 5  # times that a system is gone through
ENDS = (Status.SUCCESS, Status.COLLISION, Status.ESCAPE)  # of runs that went all the way


@dataclass(frozen=True)
class Asked:
    """What runs are asked to be, whichever systems they have.

    Attributes
    ----------
    plan
        Policy, integrator, and what they are called.
    engine, run
        Name of the engine, and the engine.
    record
        Every so many steps, or times, as `rows_of` has it.
    max_steps, collision_distance, escape_distance, stop
        See `simulate`.
    guarded, follow, progress
        Whether there is a guard, orbits are followed, and a bar is shown.
    keep
        What is done about the tolerance; None for nothing.
    """

    plan: Plan
    engine: str
    run: Engine
    record: int | NDArray[np.float64]
    max_steps: int
    collision_distance: float | None
    escape_distance: float | None
    stop: Callable[[], bool] | None
    guarded: bool
    follow: bool
    progress: bool
    keep: str | None

    def go(
        self,
        state: State,
        t_end: NDArray[np.float64],
        tolerance: NDArray[np.float64],
        path: Path | None = None,
        begun: Begun | None = None,
        stored: dict[str, Any] | None = None,
        promise: Promise | None = None,
    ) -> Made:
        """Run systems to their end (B,), with a tolerance (B,) each.

        Parameters
        ----------
        path
            Where records are streamed to.
        begun
            The stored run there that goes on.
        stored
            What is kept of the arguments there, beside the engine and the tolerance.
        promise
            What the run is to stay below, where its tolerance is another one.
        """
        plan, engine, run = self.plan, self.engine, self.run
        policy, scheme = plan.policy, plan.scheme
        given = state.detach().replace(acceleration=None, jerk=None, pace=None)
        start, until, accepted = _as_taken_by(engine, given, t_end, tolerance)
        made_by: tuple[Integrator, Policy] = scheme, policy
        if isinstance(scheme, WisdomHolman):
            made_by = bound(scheme, policy, start, until, accepted)
        frame = Frame.of(start)
        start = frame.enter(start)
        task = Task(
            start,
            _policy_for(engine, made_by[1], start, scheme),
            made_by[0],
            accepted,
            "plain" if isinstance(scheme, Transformed) else plan.stepping,
            Limits(until, self.max_steps, self.collision_distance, self.escape_distance, self.stop),
            guard_of(start, accepted, scheme.order) if self.guarded else None,
            self.follow,
            keeps=self.keep is not None and isinstance(scheme, Extrapolation),
        )
        observer = Recording(task, frame, self.record, self.progress, path, begun)
        if engine == READY:
            from nbcore.simulation.loops_at_hand import ready

            engine, run = ready(task, observer)
        if path is not None and begun is None and stored is not None:
            promised = (None, None) if promise is None else promise
            stored = stored | dict(zip(("bound", "searched"), promised, strict=True))
            begin(path, given, policy, {**stored, "engine": engine, "tolerance": tolerance})
        try:
            outcome = run(task, observer, observer.keeper)
        except BaseException:
            observer.abandon()
            raise
        evaluations = outcome.n_force_evaluations
        if promise is not None:
            evaluations = to_numpy(evaluations) + promise.evaluations
        counts = (outcome.n_steps, outcome.n_redone, evaluations)
        largest, worst = _worst(to_numpy(outcome.max_body_errors), to_numpy(state.mass))
        numbers = (
            *(outcome.status, *counts, *outcome.max_errors),
            *(largest, worst, *outcome.events),
        )
        about = {
            "integrator": plan.integrator,
            "policy": str(policy),
            "stepping": plan.stepping,
            "clock": None if plan.clock is None else str(plan.clock),
            "tolerance": tolerance if promise is None else promise.tolerance,
            "inner_tolerance": tolerance.tolist(),
            "keep": self.keep,
            "expected_error": _expected(plan.learned, tolerance),
            "engine": engine,
            "handed_over": _times(outcome.handed_over),
            "scenario": state.scenario,
            "references": references(scheme, policy, plan.stepping, state),
        }
        trajectory = observer.finish(
            dict(zip(SUMMARY, map(to_numpy, numbers), strict=True)),
            outcome.state.detach().replace(acceleration=None, jerk=None, pace=None),
            outcome.body_errors,
            about,
        )
        return Made(as_given(trajectory, state), outcome, task)

    def below(
        self,
        state: State,
        path: Path | None = None,
        begun: Begun | None = None,
        stored: dict[str, Any] | None = None,
    ) -> Made:
        """Run systems so that each stays below its tolerance; see `go_over` and `go`.

        With a path tolerances are found first, by runs that record nothing.
        """
        end, tolerance = self.plan.t_end, self.plan.tolerance
        if begun is not None:
            promise = Promise(begun.asked["bound"], begun.asked["searched"])
            return self.go(state, end, tolerance, path, begun, stored, promise)
        runs: list[Made] = []
        finding = self if path is None else replace(self, record=0)

        def go(systems: NDArray[np.int64], inner: NDArray[np.float64]) -> Trajectory:
            some = state if len(systems) == len(tolerance) else state.select(systems.tolist())
            runs.append(finding.go(some, end[systems], inner))
            return runs[-1].trajectory

        best, inner = go_over(go, tolerance)
        if path is None:
            best.about["tolerance"] = tolerance
            return runs[0]._replace(trajectory=best)
        if any(was_interrupted(run.trajectory) for run in runs):
            # What was found is stored, and the run goes on by it another time.
            asked = replace(self, stop=lambda: True)
        else:
            asked = self
        promise = Promise(tolerance, best.summary["n_force_evaluations"])
        return asked.go(state, end, inner, path, None, stored, promise)


class Promise(NamedTuple):
    """What a run is to stay below, (B,), and the evaluations (B,) that it took to find out how."""

    tolerance: NDArray[np.float64]
    evaluations: NDArray[np.int64]


class Made(NamedTuple):
    """A run of the engine: what it leaves, what the engine told, and what it was told."""

    trajectory: Trajectory
    outcome: Outcome
    task: Task


def errors_of(trajectory: Trajectory) -> NDArray[np.float64]:
    """Largest error (B,) of each system, of its energy or of a body's orbit."""
    summary = trajectory.summary
    return np.fmax(summary["max_energy_error"], summary["max_body_error"])


def go_over(
    go: Callable[[NDArray[np.int64], NDArray[np.float64]], Trajectory],
    tolerance: NDArray[np.float64],
) -> tuple[Trajectory, NDArray[np.float64]]:
    """Run systems, and once more with less those that erred by more than their tolerance.

    Parameters
    ----------
    go
        Runs systems of such numbers with a tolerance each.
    tolerance
        (B,).

    Returns
    -------
    The run of each system that erred by least of those made, with the evaluations of all of them;
    and the tolerance (B,) that it was made with. One that broke off erred by less for no merit of
    its own, and is taken where none went all the way. Systems that were not brought below theirs
    were gone through `MOST` times, or as exactly as rounding allows, or an interrupt came first.
    """
    inner = np.maximum(INNER * tolerance, LEAST)
    tried = inner.copy()
    best = last = go(np.arange(len(tolerance)), inner)
    evaluations = best.summary["n_force_evaluations"].copy()
    for _ in range(MOST - 1):
        error = errors_of(best)
        missed = np.flatnonzero((error > tolerance) & (tried > LEAST))
        if not len(missed) or was_interrupted(last):
            break
        less = np.minimum(AGAIN * tolerance[missed] / error[missed], LEAST_CUT)
        tried[missed] = np.maximum(tried[missed] * less, LEAST)
        last = go(missed, tried[missed])
        evaluations[missed] += last.summary["n_force_evaluations"]
        before, now = (np.isin(run.summary["status"], ENDS) for run in (best, last))
        before = before[missed]
        better = (now & ~before) | ((now == before) & (errors_of(last) < error[missed]))
        inner[missed[better]] = tried[missed[better]]
        best = best.with_systems(missed[better], last, np.flatnonzero(better))
    best.summary["n_force_evaluations"] = evaluations
    return best, inner


def was_interrupted(run: Trajectory) -> bool:
    """Whether a run, or some system of it, was."""
    return bool((run.summary["status"] == Status.INTERRUPTED).any())


def _as_taken_by(engine: str, state: State, *numbers: PerSystem) -> tuple[Any, ...]:
    """State and numbers (B,) as tensors for the torch engine, and as NumPy arrays otherwise."""
    if engine != "torch":
        return state.numpy(), *numbers
    state = state if is_tensor(state.time) else state.to("cpu")
    return state, *(beside(each, state.time) for each in numbers)


def as_given(trajectory: Trajectory, state: State) -> Trajectory:
    """Trajectory whose last state is of the kind of arrays that a run was given."""
    final, tensors = trajectory.final, is_tensor(state.time)
    if tensors != is_tensor(final.time):
        trajectory.final = final.to(state.time.device) if tensors else final.numpy()
    return trajectory


def _policy_for(engine: str, policy: Policy, state: State, scheme: Integrator) -> Policy:
    """Policy with its network where the state is, or of whose steps the first counts alone."""
    if isinstance(scheme, Transformed):
        return EqualSteps(policy, scheme.clock)
    if not isinstance(policy, LearnedPolicy):
        return policy
    return policy.to(state.time.device) if engine == "torch" else policy.numpy()


def _worst(
    errors: NDArray[np.float64], mass: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Largest error (B,) of any body, and which: of two that share it, the lighter one."""
    largest = errors.max(axis=1, keepdims=True)
    shared = ~(errors < 0.99 * largest)  # of NaN, all
    return largest[:, 0], np.where(shared, mass, np.inf).argmin(axis=1)


def _expected(policy: LearnedPolicy | None, tolerance: PerSystem) -> list[list[float]] | None:
    """10th percentile, median and 90th percentile (B, 3) of the errors of such runs."""
    if policy is None or policy.calibration is None:
        return None
    band = policy.calibration.band
    return [[band(each)[0], each, band(each)[1]] for each in tolerance.tolist()]


def _times(handed_over: NDArray[np.float64] | None) -> list[float | None] | None:
    """When another integrator went on with each system, for those that it went on with."""
    if handed_over is None:
        return None
    return [float(when) if np.isfinite(when) else None for when in handed_over]
