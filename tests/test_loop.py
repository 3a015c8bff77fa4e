"""The torch engine's loop by itself: stubs choose and make the steps, and no gravity is needed."""

import re
from dataclasses import replace
from inspect import signature

import numpy as np
import pytest
import torch

from nbcore.errors import InputError
from nbcore.physics import gravity
from nbcore.physics.state import State
from nbcore.simulation import torch_engine
from nbcore.simulation.engine import Limits, Monitor, Task
from nbcore.simulation.observer import EndsOnly
from nbcore.simulation.simulate import simulate
from nbcore.simulation.status import Status
from nbcore.stepping.policies import Criterion, FixedStep


class Straight:
    """An integrator that drifts, and counts how often."""

    order, evaluations, evaluations_at_start, reversible = 1, 3, 5, True

    def __init__(self):
        self.steps = 0

    def step(self, state, dt, errors=None):
        self.steps += 1
        moved = state.position + dt[:, None, None] * state.velocity
        return state.replace(position=moved, time=state.time + dt)


class Told:
    """A policy that gives steps from lists, one a system."""

    evaluations, looks_back = 7, False

    def __init__(self, *steps):
        self.steps, self.asked = torch.tensor(steps, dtype=torch.float64), 0

    def begin(self, state):
        return {"calls": torch.zeros_like(state.time)}

    def advance(self, memory, before, after, dt):
        return {"calls": memory["calls"] + (dt > 0)}

    def __call__(self, state, tolerance, memory=None):
        self.asked += 1
        place = memory["calls"].long().clamp(max=self.steps.shape[1] - 1)
        return self.steps.gather(1, place[:, None])[:, 0]


class Log:
    """An observer that keeps what it is told."""

    def __init__(self, state):
        self.monitor, self.steps = Monitor(state), []

    def stepped(self, step):
        self.steps.append(step)


def task(policy, t_end, stepping="plain", max_steps=100, **limits):
    n_systems = len(policy.steps)
    mass = torch.ones(n_systems, 2, dtype=torch.float64)
    position = torch.tensor([[[0.0, 0.0], [1.0, 0.0]]], dtype=torch.float64).repeat(n_systems, 1, 1)
    state = State.from_arrays(mass, position, torch.zeros_like(position))
    ends = torch.as_tensor(t_end, dtype=torch.float64).expand(n_systems)
    limits = Limits(ends, max_steps, **limits)
    return Task(state, policy, Straight(), torch.ones(n_systems), stepping, limits, follow=False)


def run(given):
    log = Log(given.state)
    return torch_engine.integrate(given, log), log


def test_steps_are_those_of_the_policy_and_the_last_one_ends_the_run():
    outcome, log = run(task(Told([0.5, 0.25]), 1.1))
    assert [float(step.dt[0]) for step in log.steps] == pytest.approx([0.5, 0.25, 0.25, 0.1])
    assert float(outcome.state.time[0]) == 1.1
    assert outcome.status.tolist() == [Status.SUCCESS]


def test_systems_go_each_their_own_way_and_wait_for_nobody():
    outcome, log = run(task(Told([1.0], [0.25]), 1.0))
    assert outcome.n_steps.tolist() == [1, 4]
    assert [float(step.dt[0]) for step in log.steps] == [1.0, 0.0, 0.0, 0.0]
    assert log.steps[0].status.tolist() == [Status.SUCCESS, Status.RUNNING]


@pytest.mark.parametrize(
    ("steps", "status"),
    [
        ([0.1, 1e-30], Status.DT_UNDERFLOW),
        ([0.1, 0.0], Status.DT_UNDERFLOW),
        ([0.1, -1.0], Status.DT_UNDERFLOW),
        ([0.1, float("nan")], Status.NON_FINITE),
        ([0.1, 0.1], Status.SUCCESS),
    ],
)
def test_what_is_no_step_ends_its_own_system_alone(steps, status):
    outcome, _ = run(task(Told(steps, [0.5, 0.5]), 1.0))
    assert outcome.status.tolist() == [status, Status.SUCCESS]


def test_a_run_ends_at_the_most_steps():
    outcome, _ = run(task(Told([0.1]), 10.0, max_steps=3))
    assert (outcome.n_steps.tolist(), outcome.status.tolist()) == ([3], [Status.MAX_STEPS])


def test_evaluations_are_counted_as_integrator_and_policy_say():
    given = task(Told([0.25]), 1.0)
    outcome, _ = run(given)
    assert outcome.n_force_evaluations.tolist() == [5 + 4 * (3 + 7)]
    assert given.integrator.steps == 4
    assert given.policy.asked == 4
    reversible = task(Told([0.25]), 1.0, stepping="reversible")
    outcome, _ = run(reversible)
    assert outcome.n_force_evaluations.tolist() == [5 + 2 * 7 + 4 * (3 + 7)]
    assert reversible.policy.asked == 4 + 2


class Forgetful(Straight):
    """Which hands on no acceleration."""

    evaluations_at_start = 0

    def step(self, state, dt, errors=None):
        return super().step(state, dt).replace(acceleration=None)


def test_an_acceleration_that_a_step_does_not_hand_on_is_evaluated_once_and_counted(monkeypatch):
    given = replace(task(Told([0.25], [0.5]), 1.0), integrator=Forgetful())
    calls, force = [], gravity.pair_accelerations
    monkeypatch.setattr(gravity, "pair_accelerations", lambda *a: calls.append(a) or force(*a))
    outcome, log = run(given)
    # Before each step of a system, and none after its last one.
    assert outcome.n_force_evaluations.tolist() == [4 * (3 + 7 + 1), 2 * (3 + 7 + 1)]
    assert len(calls) == 4
    assert all(step.before.acceleration is not None for step in log.steps)


class Answer(Straight):
    """Which returns what is made of the right state."""

    def __init__(self, change):
        super().__init__()
        self.change = change

    def step(self, state, dt, errors=None):
        return self.change(super().step(state, dt))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: None, r"returned NoneType; it must return a State, such as state.replace\("),
        (lambda s: (s.position, s.velocity), "returned tuple; it must return a State"),
        (lambda s: s.position, "returned Tensor; it must return a State"),
        (
            lambda s: s.replace(position=s.position[0]),
            r"as position, returned \(2, 2\) of torch.float64; it must be of shape \(1, 2, 2\)",
        ),
        (
            lambda s: s.replace(velocity=s.velocity.float()),
            "as velocity, returned .* torch.float32",
        ),
        (lambda s: s.replace(velocity=s.velocity.numpy()), r"\) of float64; .*, of torch.float64"),
        (lambda s: s.replace(velocity=None), "as velocity, returned NoneType"),
        (lambda s: s.replace(acceleration=s.time), "as acceleration, returned"),
        (lambda s: s.replace(time=0.1), "as time, returned float"),
        (
            lambda s: s.replace(time=0 * s.time),
            "left the time as it was; it must return time=state.time",
        ),
    ],
)
def test_a_step_that_returns_something_else_is_told(change, words):
    given = replace(task(Told([0.25]), 1.0), integrator=Answer(change))
    with pytest.raises(InputError, match=f"the step of the integrator 'Answer'.*{words}"):
        run(given)


def test_reversible_steps_keep_the_harmonic_mean():
    _, log = run(task(Told([0.1, 0.1, 0.11, 0.11]), 1.0, stepping="reversible"))
    steps = [float(step.dt[0]) for step in log.steps]
    assert 1 / steps[1] + 1 / steps[2] == pytest.approx(2 / 0.11)


def test_a_stop_ends_the_run_between_two_steps():
    asked = iter([False, False, True])
    outcome, log = run(task(Told([0.1]), 1.0, stop=lambda: next(asked)))
    assert outcome.status.tolist() == [Status.INTERRUPTED]
    assert len(log.steps) == 2


def test_an_interrupt_that_is_not_the_engine_s_is_handed_on():
    given = task(Told([0.1]), 1.0, stop=lambda: True)
    with pytest.raises(KeyboardInterrupt):
        torch_engine.integrate(
            Task(**{**vars(given), "interruptible": False}), EndsOnly(given.state)
        )


def test_an_observer_that_keeps_the_ends_is_told_by_steps_or_by_room():
    given = task(Told([0.25], [0.5]), 1.0)
    observer = EndsOnly(given.state)
    torch_engine.integrate(given, observer)
    assert np.array_equal(observer.energy_error, [0.0, 0.0])
    room = observer.room()
    assert (room.every, room.offset, len(room.times)) == (0, 0, 0)
    assert set(room.arrays) >= {"energy_error", "body_error", "position"}


def lost(state):
    """Time scale that is a number at the start alone."""
    return torch.where(state.time > 0, torch.nan, 1.0)


HEAD_ON = ([1, 1], [[-1, 0], [1, 0]], [[0, 0], [0, 0]])
STEP = FixedStep(0.05)
# By status: what stops a run so, and of the remedy what `simulate` takes.
STOPPED = {
    Status.MAX_STEPS: ("pythagorean", STEP, {"max_steps": 3}, {"max_steps", "resume", "tolerance"}),
    Status.DT_UNDERFLOW: (HEAD_ON, Criterion("boekholt", 0.05), {}, {"collision_distance"}),
    Status.NON_FINITE: ("pythagorean", Criterion(lost, 0.05), {}, {"collision_distance"}),
    Status.INTERRUPTED: ("pythagorean", STEP, {"stop": lambda: True}, {"resume", "path"}),
}


def test_every_status_that_stops_short_has_a_remedy():
    short = {Status.MAX_STEPS, Status.DT_UNDERFLOW, Status.NON_FINITE, Status.INTERRUPTED}
    assert {status for status in Status if status.remedy} == short
    assert set(STOPPED) == short


@pytest.mark.parametrize("status", STOPPED)
def test_a_run_that_stops_short_warns_with_the_remedy(status):
    state, policy, options, named = STOPPED[status]
    with pytest.warns(RuntimeWarning, match=f"1 {status.name}; .*; {re.escape(status.remedy)}$"):
        made = simulate(state, 10.0, policy, engine="torch", **options)
    assert made.status == status
    assert set(re.findall(r"\w+", status.remedy)) & set(signature(simulate).parameters) >= named
