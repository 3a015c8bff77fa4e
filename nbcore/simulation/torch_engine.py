"""The batched engine in torch: every system with its own step, time and status."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from nbcore.physics import gravity
from nbcore.physics.arrays import PerSystem
from nbcore.physics.body_errors import BodyErrors, StepErrors, steps_between_looks
from nbcore.physics.extrapolation import Extrapolation
from nbcore.physics.integrators import Hermite, Splitting, checked_step
from nbcore.physics.passages import Trail
from nbcore.physics.state import State
from nbcore.physics.transformed import Transformed
from nbcore.simulation.engine import Limits, Observer, Outcome, Step, Task
from nbcore.simulation.events import Events, at_start, first_event
from nbcore.simulation.resumption import Keeper
from nbcore.simulation.status import Status
from nbcore.simulation.threads import threads_for
from nbcore.stepping.budget import Budget
from nbcore.stepping.control import first_step, get_control, is_last, takes_over

__all__ = ["integrate"]


def integrate(task: Task, observer: Observer, keeper: Keeper | None = None) -> Outcome:
    """Run every system to its end; see `engine.Engine`. The state is one of tensors."""
    with torch.no_grad(), threads_for(*task.state.position.shape):
        return _integrate(task, observer, keeper)


def _integrate(task: Task, observer: Observer, keeper: Keeper | None) -> Outcome:
    policy, integrator, limits, guard = task.policy, task.integrator, task.limits, task.guard
    control, state = get_control(task.stepping), task.state
    in_s = isinstance(integrator, (Extrapolation, Transformed))
    take = partial(_in_s if in_s else _in_time, task)
    budget = task.budget
    if isinstance(integrator, Transformed):
        state = integrator.begin(state)
    state = state.replace(acceleration=gravity.acceleration(state), jerk=None)
    memory = policy.begin(state)

    def propose(at: State) -> PerSystem:
        return task.propose(at, memory)

    events = at_start(state, limits.watch)
    status = events.ends(torch.full_like(state.time, int(Status.RUNNING), dtype=torch.int64))
    n_steps, n_redone = torch.zeros_like(status), torch.zeros_like(status)
    retried, energy = torch.zeros_like(status, dtype=torch.bool), gravity.energy(state)
    own = torch.zeros_like(retried)  # whether the guard has taken over
    # Evaluations that no step tells of beforehand: accelerations that the loop had to evaluate, and
    # those of steps that an integrator chooses itself.
    n_filled = torch.full_like(n_steps, int(integrator.evaluations_at_start == 0))
    max_errors = torch.zeros(3, state.n_systems, dtype=state.time.dtype, device=state.time.device)
    orbits = BodyErrors.begin(state) if task.follow else None
    between_looks = steps_between_looks(state.n_bodies)

    def stand() -> dict[str, Tensor]:
        """All that the run goes on by, (B, …) each."""
        values = {"position": state.position, "velocity": state.velocity, "time": state.time}
        values |= {"work": state.work, "acceleration": state.acceleration, "jerk": state.jerk}
        values |= {"pace": state.pace}
        values |= {"status": status, "n_steps": n_steps, "n_redone": n_redone, "dt": dt}
        values |= {"n_filled": n_filled}
        values |= {"retried": retried, "energy": energy, "own": own, "max_errors": max_errors.T}
        values |= {f"memory.{name}": value for name, value in memory.items()}
        values |= {f"event.{name}": value for name, value in events._asdict().items()}
        if budget is not None:
            values |= {f"budget.{name}": value for name, value in budget.arrays.items()}
        if orbits is not None:
            values |= {f"orbit.{name}": value for name, value in vars(orbits).items()}
        return {name: value for name, value in values.items() if value is not None}

    known = {} if keeper is None else keeper.beside(state.time)
    if known:
        names = ("position", "velocity", "time", "work", "acceleration", "jerk", "pace")
        state = state.replace(**{name: known.get(name) for name in names})
        state = state.replace(acceleration=gravity.acceleration(state))  # if it ended without

        def part(name: str) -> dict[str, Tensor]:
            return {k.removeprefix(name): v for k, v in known.items() if k.startswith(name)}

        memory, events = part("memory."), Events(**part("event."))
        orbits = BodyErrors(**part("orbit.")) if task.follow else None
        budget = None if budget is None else budget._replace(**part("budget."))
        status, n_steps, n_redone = known["status"], known["n_steps"], known["n_redone"]
        n_filled = known["n_filled"]
        retried, energy, own = known["retried"], known["energy"], known["own"]
        max_errors = known["max_errors"].T.contiguous()
    running = status == Status.RUNNING
    try:
        if known:
            dt = known["dt"]
        else:
            dt = first_step(state, propose) if task.is_reversible else propose(state)
        while True:
            if keeper is not None:
                keeper.note(stand())
            if not bool(running.any()):
                break
            if limits.stop is not None and limits.stop():
                raise KeyboardInterrupt
            remaining = limits.t_end - state.time
            told = None if orbits is None else orbits.watch(state)
            after, h, last, taken = take(state, dt, remaining, running, told, budget)
            status = status.where(~running | (state.time + h > state.time), _why_not(h))
            running = status == Status.RUNNING
            h, dt, n_filled = torch.where(running, h, 0.0), taken.this, n_filled + taken.evaluations
            after = after.replace(time=torch.where(running & last, limits.t_end, after.time))
            redo, again = torch.zeros_like(retried), dt
            erred, followed = torch.zeros_like(h), orbits
            if orbits is not None and told is not None:
                followed, erred = orbits.after(after, told)
                followed = followed.where(h > 0, orbits)
            if guard is not None:
                now = gravity.energy(after)
                kept = (now - energy).abs() <= guard.largest_change  # false for NaN, too
                if told is not None and told.is_told:
                    kept &= erred <= guard.largest_error
                redo = (h > 0) & ~retried & ~kept
                if bool(redo.any()):
                    again = guard.again(state, h) if taken.next is None else dt / 2
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
                after, h, found = first_event(
                    state, after, h, integrator, limits.watch, taken.trail
                )
                ends = found.first >= 0
                met = found.where(ends, events)
                if orbits is not None and followed is not None and bool(ends.any()):
                    told = orbits.watch(state)
                    integrator.step(state, h, told)
                    followed = orbits.after(after, told)[0].where(ends, followed)
            errors = observer.monitor.errors(after)
            count = n_steps + (running & finite & ~redo)
            judged = _judge(status, met, count, last, limits)
            before, worst = state, torch.maximum(max_errors, torch.stack(errors))
            # All at once, so that an interrupt finds a step made or not made.
            step = Step(before, after, h, errors, orbits, followed, judged, taken.trail)
            state, status, n_steps, max_errors = after, judged, count, worst
            events, orbits = met, followed
            observer.stepped(step)
            running = status == Status.RUNNING
            if not bool(running.any()):
                continue
            if state.acceleration is None:
                state = state.replace(acceleration=gravity.acceleration(state))
                n_filled = n_filled + running
            memory = policy.advance(memory, before, state, h)
            if orbits is not None:
                # Who chooses its own steps does so by the errors beside partners.
                each = isinstance(integrator, Extrapolation)
                looks = n_steps % (1 if each else between_looks) == 0
                orbits = orbits.look(state, (h > 0) & looks)
            proposed = propose(state) if taken.next is None else taken.next
            if isinstance(integrator, Extrapolation) and budget is not None:
                error, target = max_errors[0], budget.target
                if orbits is not None:
                    of_bodies = orbits.worst.amax(dim=1)
                    error = torch.where(of_bodies > error, of_bodies, error)  # false for NaN
                assert taken.error is not None
                made = torch.where(h > 0, taken.error, 0.0)
                budget = budget.after(made, error, n_steps, state.time, limits.t_end)
                proposed = integrator.retargeted(proposed, target, budget.target, task.tolerance)
            if guard is not None and taken.next is None:
                own = own | takes_over(n_redone, n_steps)
                proposed = guard.own(state).where(own, proposed) if bool(own.any()) else proposed
            dt = torch.where(redo, again, control(dt, proposed))
            retried = redo
    except KeyboardInterrupt:
        if not task.interruptible:
            raise
        status = status.where(status != Status.RUNNING, int(Status.INTERRUPTED))
    evaluations = task.force_evaluations(n_steps, n_redone) + n_filled
    unknown = torch.full_like(state.mass, torch.nan)
    of_bodies = (unknown, unknown) if orbits is None else (orbits.error, orbits.worst)
    return Outcome(state, status, n_steps, n_redone, evaluations, max_errors, *of_bodies, events)


class _Taken(NamedTuple):
    """What is known of a step beside where it led."""

    this: PerSystem  # itself, as it was proposed or as it came out
    next: PerSystem | None  # proposed by the integrator; None where the policy does
    evaluations: Tensor | int  # that no step needs of itself
    trail: Trail | None = None  # points on the way, of long steps
    error: PerSystem | None = None  # estimated


def _in_time(
    task: Task,
    state: State,
    dt: PerSystem,
    remaining: PerSystem,
    running: Tensor,
    told: StepErrors | None,
    _budget: Budget | None,
) -> tuple[State, PerSystem, Tensor, _Taken]:
    """A step of dt, or of what remains; its length in time, and whether it ends the run."""
    integrator, last = task.integrator, is_last(dt, remaining)
    h = torch.where(last, remaining, dt)
    made = torch.where(running & (state.time + h > state.time), h, 0.0)
    is_ours = type(integrator) in (Splitting, Hermite)
    step = integrator.step if is_ours else partial(checked_step, integrator)
    return step(state, made, told), h, last, _Taken(dt, None, 0)


def _in_s(
    task: Task,
    state: State,
    ds: PerSystem,
    remaining: PerSystem,
    running: Tensor,
    told: StepErrors | None,
    budget: Budget | None,
) -> tuple[State, PerSystem, Tensor, _Taken]:
    """The same of an integrator that makes its steps in transformed time."""
    integrator = task.integrator
    assert isinstance(integrator, (Extrapolation, Transformed))
    given = state, ds, remaining.where(running, 0.0), task.tolerance, told
    if isinstance(integrator, Extrapolation) and budget is not None:
        energy = gravity.energy_size(task.state)
        made = integrator.advance(*given, energy, budget.aim, budget.target)
    else:
        made = integrator.advance(*given)
    last = (made.dt == remaining) & running
    evaluations = made.evaluations.to(torch.int64)
    return (
        made.after,
        made.dt,
        last,
        _Taken(made.used, made.ds, evaluations, made.trail, made.error),
    )


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
