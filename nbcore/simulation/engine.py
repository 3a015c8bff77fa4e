"""The contract of an engine: what it is told, what it tells meanwhile, and what it leaves.

An engine is one function, `Engine`. It takes a `Task`, tells an `Observer` how it gets on, and
returns an `Outcome`. None knows another one, and whoever calls an engine needs to know no more of
it than this.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from nbcore.physics import gravity
from nbcore.physics.arrays import Array, PerSystem, norm
from nbcore.physics.body_errors import BodyErrors
from nbcore.physics.elementwise import root, where
from nbcore.physics.extrapolation import MOST_COLUMNS, Extrapolation
from nbcore.physics.integrators import Integrator
from nbcore.physics.passages import Trail
from nbcore.physics.state import State
from nbcore.simulation.events import Events, Watch
from nbcore.simulation.resumption import Keeper
from nbcore.stepping.budget import LAW, Budget, Own, shares
from nbcore.stepping.control import Guard
from nbcore.stepping.policies import OwnStep, Policy

__all__ = [
    "CLOSE_BY",
    "DEAR",
    "LEAVING",
    "POINTS",
    "ROWS_WITH_POINTS",
    "Engine",
    "Limits",
    "Monitor",
    "Observer",
    "Outcome",
    "Room",
    "Standing",
    "Step",
    "Task",
]

POINTS = -1  # in the place of «every so many steps»: every one, and points on its way
CLOSE_BY, DEAR, LEAVING = 1, 2, 3  # why another integrator goes on with a system
ROWS_WITH_POINTS = 2 * MOST_COLUMNS + 1  # of such a step, at most


@dataclass(frozen=True)
class Limits:
    """When a system stops.

    Attributes
    ----------
    t_end
        (B,) [T].
    max_steps
        Steps of each system.
    collision_distance, escape_distance
        [L], or None.
    stop
        Asked now and then; all systems are interrupted when it says so.
    """

    t_end: PerSystem
    max_steps: int
    collision_distance: float | None = None
    escape_distance: float | None = None
    stop: Callable[[], bool] | None = None

    @property
    def watch(self) -> Watch:
        """What ends a system before its end."""
        return Watch(self.collision_distance or 0.0, self.escape_distance or math.inf)


@dataclass(frozen=True)
class Task:
    """A run that is asked for.

    Attributes
    ----------
    state
        Where it starts.
    policy, integrator
        What chooses the steps, and what makes them.
    tolerance
        (B,).
    stepping
        Name of the control, "plain" or "reversible".
    limits
        When a system stops.
    guard
        Redoes steps that went wrong; None for no such.
    follow
        Whether the orbits of the bodies are followed.
    interruptible
        Whether Ctrl-C ends the run in good order; otherwise it is left to the caller.
    keeps
        Whether extrapolated steps err by what is left of the tolerance.
    """

    state: State
    policy: Policy
    integrator: Integrator
    tolerance: PerSystem
    stepping: str
    limits: Limits
    guard: Guard | None = None
    follow: bool = True
    interruptible: bool = True
    keeps: bool = False

    @property
    def is_reversible(self) -> bool:
        """Whether the steps are."""
        return self.stepping == "reversible"

    @cached_property
    def budget(self) -> Budget | None:
        """The errors that steps may make to begin with; None of those that estimate none."""
        if not isinstance(self.integrator, Extrapolation):
            return None
        tolerance, integrator = self.tolerance, self.integrator
        aim, least, none = integrator.aim(tolerance), integrator.least(tolerance), 0 * tolerance
        if not (self.keeps and isinstance(self.policy, OwnStep)):
            same = Own(none + 1, none + 1, none)
            return Budget(none, self.state.time, least, aim, aim, none, same, LAW)
        law = self.policy.law or LAW
        own = law.of(self.state, tolerance)
        ds = self.policy(self.state, tolerance) * integrator.reach(aim, tolerance)
        way = (self.limits.t_end - self.state.time) * integrator.clock.rate(self.state)
        target, aim = shares(law, own, tolerance, least, none, none, way / ds)
        return Budget(tolerance, self.state.time, least, target, aim, none, own, law)

    def propose(self, state: State, memory: dict[str, Array]) -> PerSystem:
        """Step that the policy proposes, (B,) [T]; of extrapolation the first one, in s."""
        step = self.policy(state, self.tolerance, memory)
        budget = self.budget
        if budget is None or not isinstance(self.integrator, Extrapolation):
            return step
        return step * self.integrator.reach(budget.target, self.tolerance)

    def force_evaluations(self, n_steps: Array, n_redone: Array) -> Array:
        """Evaluations (B,) of so many steps (B,), of which others had been redone.

        A policy is asked for every step, and twice more for the first of a reversible run.
        """
        made = (
            self.integrator.evaluations_at_start + 2 * self.policy.evaluations * self.is_reversible
        )
        made = made + n_steps * (self.integrator.evaluations + self.policy.evaluations)
        return made + n_redone * self.integrator.evaluations


class Monitor:
    """Errors of conserved quantities relative to an initial state.

    Attributes
    ----------
    initial
        Energy (B,), momentum (B, D) and angular momentum (B, 1 or 3) of that state.
    scales
        (B,) what changes of each are relative to: its size, or a typical value where that is
        rounding; of the energy see `gravity.energy_size`.
    """

    def __init__(self, initial: State) -> None:
        self.initial = self._quantities(initial)
        momentum = gravity.momentum_scale(initial, gravity.energy_scale(initial))
        offset = initial.position - gravity.centre_of_mass(initial)[0]
        size = root((offset * offset).sum(axis=-1).mean(axis=1))
        sizes = (
            gravity.energy_size(initial),
            gravity.relative_size(self.initial[1], momentum),
            gravity.relative_size(self.initial[2], size * momentum),
        )
        # Where nothing moves and nothing pulls, any change is infinite.
        self.scales: tuple[PerSystem, ...] = tuple(where(each > 0, each, 1.0) for each in sizes)

    @staticmethod
    def _quantities(state: State) -> tuple[Array, Array, Array]:
        return gravity.energy(state), gravity.momentum(state), gravity.angular_momentum(state)

    def errors(self, state: State) -> tuple[PerSystem, PerSystem, PerSystem]:
        """Relative errors of energy, momentum and angular momentum, (B,) each."""
        now = zip(self._quantities(state), self.initial, self.scales, strict=True)
        energy, momentum, angular = (
            norm((value - start).reshape(len(scale), -1)) / scale for value, start, scale in now
        )
        return energy, momentum, angular


class Step(NamedTuple):
    """A step of every system that still runs.

    Attributes
    ----------
    before, after
        The states.
    dt
        (B,) [T]; 0 where no step was made.
    errors
        Of energy, momentum and angular momentum after it, (B,) each.
    orbits_before, orbits_after
        Errors of the bodies' orbits, if they are followed.
    status
        (B,) numbers of `Status` after it.
    trail
        Points on the way, of long steps.
    """

    before: State
    after: State
    dt: PerSystem
    errors: tuple[PerSystem, PerSystem, PerSystem]
    orbits_before: BodyErrors | None
    orbits_after: BodyErrors | None
    status: Array
    trail: Trail | None = None


class Room(NamedTuple):
    """Where an engine puts records that it writes itself; row k is k − offset of the arrays.

    Attributes
    ----------
    every
        Steps from record to record; 0: only those at `times`, and of what has ended the last.
    rows_a_step
        Rows that a step may fill; more than one where points on its way are recorded.
    times
        (T,) output times [T].
    row
        (B,) next row of each system, which the engine moves on.
    offset
        Row that the arrays begin with.
    arrays
        (B, rows, …) by the names of `storage.RECORDED`.
    """

    every: int
    rows_a_step: int
    times: NDArray[np.float64]
    row: NDArray[np.int64]
    offset: int
    arrays: Mapping[str, NDArray[np.float64]]


class Standing(NamedTuple):
    """How far the systems are, (B,) each.

    Attributes
    ----------
    n_steps
        So far.
    dt
        Of the last step [T]; NaN before the first.
    time
        [T].
    status
        Numbers of `Status`.
    """

    n_steps: NDArray[np.int64]
    dt: NDArray[np.float64]
    time: NDArray[np.float64]
    status: NDArray[np.int64]


class Observer(Protocol):
    """Whom an engine tells how a run gets on.

    It tells of every step by `stepped`, or it writes the records into `room` and says now and then
    how far it is, by `filled`.
    """

    @property
    def monitor(self) -> Monitor:
        """Errors relative to where the run began."""
        ...

    def stepped(self, step: Step) -> None:
        """Take note of a step."""
        ...

    def room(self) -> Room:
        """Where the next records go; to be asked for anew after each `filled`."""
        ...

    def filled(self, standing: Standing) -> None:
        """Take note of what the engine has put there."""
        ...


@dataclass
class Outcome:
    """Where a run of the engine stands.

    Attributes
    ----------
    state
        Of every system; systems that have ended keep their last state.
    status
        (B,) numbers of `Status`.
    n_steps
        (B,).
    n_redone
        (B,) steps that the guard had redone, which are none of n_steps.
    n_force_evaluations
        (B,).
    max_errors
        (3, B) largest errors of energy, momentum and angular momentum over every step.
    body_errors
        (B, N) errors of the bodies' orbits as they are at the end, NaN if they were not followed.
    max_body_errors
        (B, N) the largest of them over every step.
    events
        Contacts and escapes.
    handed_over
        (B,) when another integrator first went on with a system, NaN where none did [T]; None where
        none could.
    why_handed_over
        (B,) CLOSE_BY where two bodies came too near each other, DEAR where equal steps would cost
        more, LEAVING where a body is about to escape; 0 where none went on.
    """

    state: State
    status: Array
    n_steps: Array
    n_redone: Array
    n_force_evaluations: Array
    max_errors: Array
    body_errors: Array
    max_body_errors: Array
    events: Events
    handed_over: Array | None = None
    why_handed_over: Array | None = None


class Engine(Protocol):
    """Runs every system of a task to its end."""

    def __call__(self, task: Task, observer: Observer, keeper: Keeper | None = None) -> Outcome:
        """An interrupt ends the run and keeps what was done.

        Parameters
        ----------
        keeper
            Knows where a stored run goes on, and keeps where it stands.
        """
        ...
