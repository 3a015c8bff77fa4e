"""The batched engine in torch: every system with its own step, time and status."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from nbcore.physics import gravity
from nbcore.physics.body_errors import BodyErrors, steps_between_looks
from nbcore.physics.integrators import Integrator
from nbcore.physics.state import PerSystem, State
from nbcore.simulation.events import Events, Watch, at_start, first_event
from nbcore.simulation.resumption import Keeper
from nbcore.simulation.status import Status
from nbcore.stepping.control import Guard, first_step, get_control
from nbcore.stepping.policies import Policy

__all__ = ["Limits", "Monitor", "Outcome", "integrate"]


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
        return Watch(self.collision_distance or 0.0, self.escape_distance or torch.inf)


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
        size = (initial.position - gravity.centre_of_mass(initial)[0]).square()
        size = size.sum(dim=-1).mean(dim=1).sqrt()
        sizes = (
            gravity.energy_size(initial),
            gravity.relative_size(self.initial[1], momentum),
            gravity.relative_size(self.initial[2], size * momentum),
        )
        # Where nothing moves and nothing pulls, any change is infinite.
        self.scales = tuple(each.where(each > 0, 1.0) for each in sizes)

    @staticmethod
    def _quantities(state: State) -> tuple[Tensor, Tensor, Tensor]:
        return gravity.energy(state), gravity.momentum(state), gravity.angular_momentum(state)

    def errors(self, state: State) -> tuple[PerSystem, PerSystem, PerSystem]:
        """Relative errors of energy, momentum and angular momentum, (B,) each."""
        now = zip(self._quantities(state), self.initial, self.scales, strict=True)
        energy, momentum, angular = (
            torch.linalg.vector_norm((value - start).reshape(len(scale), -1), dim=1) / scale
            for value, start, scale in now
        )
        return energy, momentum, angular


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
    """

    state: State
    status: Tensor
    n_steps: Tensor
    n_redone: Tensor
    n_force_evaluations: Tensor
    max_errors: Tensor
    body_errors: Tensor
    max_body_errors: Tensor
    events: Events


# called after each step with the states before and after, the steps (0 where a system has ended),
# the errors, those of the bodies before and after, and the status after the step
Orbits = tuple[BodyErrors | None, BodyErrors | None]
Observer = Callable[[State, State, PerSystem, tuple[PerSystem, ...], Orbits, Tensor], None]


@torch.no_grad()
def integrate(
    state: State,
    policy: Policy,
    integrator: Integrator,
    tolerance: PerSystem,
    stepping: str,
    limits: Limits,
    observe: Observer,
    guard: Guard | None = None,
    follow: bool = True,
    keeper: Keeper | None = None,
) -> Outcome:
    """Run every system to its end; an interrupt ends the run and keeps what was done.

    Parameters
    ----------
    tolerance
        (B,).
    stepping
        Name of the control.
    observe
        Called after each step.
    guard
        Redoes steps that went wrong.
    follow
        Whether to follow the bodies' orbits.
    keeper
        Knows where a stored run goes on, and keeps where it stands.
    """
    control = get_control(stepping)
    state = state.replace(acceleration=gravity.acceleration(state), jerk=None)
    memory = policy.begin(state)

    def propose(at: State) -> PerSystem:
        return policy(at, tolerance, memory)

    monitor = Monitor(state)
    is_reversible = stepping == "reversible"
    events = at_start(state, limits.watch)
    status = events.ends(torch.full_like(state.time, int(Status.RUNNING), dtype=torch.int64))
    n_steps, n_redone = torch.zeros_like(status), torch.zeros_like(status)
    retried, energy = torch.zeros_like(status, dtype=torch.bool), gravity.energy(state)
    own = torch.zeros_like(retried)  # whether the guard has taken over
    max_errors = torch.zeros(3, state.n_systems, dtype=state.time.dtype, device=state.time.device)
    orbits = BodyErrors.begin(state) if follow else None
    between_looks = steps_between_looks(state.n_bodies)

    def stand() -> dict[str, Tensor]:
        """All that the run goes on by, (B, …) each."""
        values = {"position": state.position, "velocity": state.velocity, "time": state.time}
        values |= {"work": state.work, "acceleration": state.acceleration, "jerk": state.jerk}
        values |= {"status": status, "n_steps": n_steps, "n_redone": n_redone, "dt": dt}
        values |= {"retried": retried, "energy": energy, "own": own, "max_errors": max_errors.T}
        values |= {f"memory.{name}": value for name, value in memory.items()}
        values |= {f"event.{name}": value for name, value in events._asdict().items()}
        if orbits is not None:
            values |= {f"orbit.{name}": value for name, value in vars(orbits).items()}
        return {name: value for name, value in values.items() if value is not None}

    known = {} if keeper is None else keeper.tensors(state.time)
    if known:
        names = ("position", "velocity", "time", "work", "acceleration", "jerk")
        state = state.replace(**{name: known.get(name) for name in names})

        def part(name: str) -> dict[str, Tensor]:
            return {k.removeprefix(name): v for k, v in known.items() if k.startswith(name)}

        memory, events = part("memory."), Events(**part("event."))
        orbits = BodyErrors(**part("orbit.")) if follow else None
        status, n_steps, n_redone = known["status"], known["n_steps"], known["n_redone"]
        retried, energy, own = known["retried"], known["energy"], known["own"]
        max_errors = known["max_errors"].T.contiguous()
    running = status == Status.RUNNING
    try:
        if known:
            dt = known["dt"]
        else:
            dt = first_step(state, propose) if is_reversible else propose(state)
        while True:
            if keeper is not None:
                keeper.note(stand())
            if not bool(running.any()):
                break
            if limits.stop is not None and limits.stop():
                raise KeyboardInterrupt
            remaining = limits.t_end - state.time
            # A remainder of rounding size is not worth a step of its own.
            last = dt >= remaining * (1 - 1e-12)
            h = torch.where(last, remaining, dt)
            advances = state.time + h > state.time  # false for NaN, too
            status = status.where(~running | advances, _why_not(h))
            running = status == Status.RUNNING
            h = torch.where(running, h, 0.0)
            told = None if orbits is None else orbits.watch(state)
            after = integrator.step(state, h, told)
            after = after.replace(time=torch.where(running & last, limits.t_end, after.time))
            redo, again = torch.zeros_like(retried), dt
            erred, followed = torch.zeros_like(h), orbits
            if orbits is not None and told is not None:
                followed, erred = orbits.after(after, told)
                followed = followed.where(h > 0, orbits)
            if guard is not None:
                now = gravity.energy(after)
                kept = (now - energy).abs() <= guard.largest_change  # false for NaN, too
                kept &= erred <= guard.largest_error
                redo = (h > 0) & ~retried & ~kept
                if bool(redo.any()):
                    again = guard.again(state, h)
                    after = after.where(~redo, state)
                    h, last = torch.where(redo, 0.0, h), last & ~redo
                    if orbits is not None and followed is not None:
                        followed = followed.where(~redo, orbits)
                energy, n_redone = torch.where(redo, energy, now), n_redone + redo
            finite = torch.isfinite(after.position).all(-1).all(-1)
            finite &= torch.isfinite(after.velocity).all(-1).all(-1)
            if not bool(finite.all()):
                after = after.where(finite, state)
                status = status.where(~running | finite, int(Status.NON_FINITE))
                h = torch.where(finite, h, 0.0)
                if orbits is not None and followed is not None:
                    followed = followed.where(finite, orbits)
            met = events
            if limits.watch.is_on:
                after, h, found = first_event(state, after, h, integrator, limits.watch)
                ends = found.first >= 0
                met = found.where(ends, events)
                if orbits is not None and followed is not None and bool(ends.any()):
                    told = orbits.watch(state)
                    integrator.step(state, h, told)
                    followed = orbits.after(after, told)[0].where(ends, followed)
            errors = monitor.errors(after)
            count = n_steps + (running & finite & ~redo)
            judged = _judge(status, met, count, last, limits)
            before, worst = state, torch.maximum(max_errors, torch.stack(errors))
            # All at once, so that an interrupt finds a step made or not made.
            both = orbits, followed
            state, status, n_steps, max_errors = after, judged, count, worst
            events, orbits = met, followed
            observe(before, state, h, errors, both, status)
            running = status == Status.RUNNING
            if not bool(running.any()):
                continue
            memory = policy.advance(memory, before, state, h)
            if orbits is not None:
                orbits = orbits.look(state, (h > 0) & (n_steps % between_looks == 0))
            proposed = propose(state)
            if guard is not None:
                own = own | guard.takes_over(n_redone, n_steps)
                proposed = guard.own(state).where(own, proposed) if bool(own.any()) else proposed
            dt = torch.where(redo, again, control(dt, proposed))
            retried = redo
    except KeyboardInterrupt:
        status = status.where(status != Status.RUNNING, int(Status.INTERRUPTED))
    start = integrator.evaluations if not integrator.reversible else 1
    start += 2 * policy.evaluations * is_reversible
    evaluations = start + n_steps * (integrator.evaluations + policy.evaluations)
    evaluations += n_redone * integrator.evaluations
    unknown = torch.full_like(state.mass, torch.nan)
    of_bodies = (unknown, unknown) if orbits is None else (orbits.error, orbits.worst)
    return Outcome(state, status, n_steps, n_redone, evaluations, max_errors, *of_bodies, events)


def _why_not(h: PerSystem) -> Tensor:
    finite = torch.isfinite(h)
    return torch.where(finite, int(Status.DT_UNDERFLOW), int(Status.NON_FINITE))


def _judge(status: Tensor, met: Events, n_steps: Tensor, last: Tensor, limits: Limits) -> Tensor:
    """Status after a step; of several reasons to stop the first one below counts."""
    status = met.ends(status).where(status == Status.RUNNING, status)

    def end(where: Tensor, as_: Status) -> None:
        nonlocal status
        status = status.where(~where | (status != Status.RUNNING), int(as_))

    end(last, Status.SUCCESS)
    end(n_steps >= limits.max_steps, Status.MAX_STEPS)
    return status
