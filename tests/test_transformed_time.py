"""Compositions of leapfrogs in the time of a clock: equal steps in s, in both engines."""

import itertools
import math

import numpy as np
import pytest
import torch
from symmetries import KINDS, assert_same_as_tensors, differentiable

from nbcore.config import Simulation
from nbcore.errors import InputError
from nbcore.physics import scenarios
from nbcore.physics.clocks import CLOCKS, Clock
from nbcore.physics.extrapolation import Extrapolation
from nbcore.physics.fields import TidalField
from nbcore.physics.integrators import INTEGRATORS, Splitting
from nbcore.physics.state import State
from nbcore.physics.transformed import Transformed, is_composition
from nbcore.simulation import compiled_engine
from nbcore.simulation.engine import Limits, Task
from nbcore.simulation.observer import EndsOnly
from nbcore.simulation.setup import setup
from nbcore.simulation.simulate import check, simulate
from nbcore.simulation.status import Status
from nbcore.simulation.storage import RECORDED
from nbcore.simulation.trajectory import Trajectory
from nbcore.stepping.policies import Criterion, EqualSteps, FixedStep

COMPOSITIONS = ("leapfrog", "yoshida4", "suzuki4", "kahan_li6", "sofroniou_spaletta6", "kahan_li8")
EVERY = pytest.mark.parametrize("name", COMPOSITIONS)
IN_S = {"clock": "regularised", "integrator": "kahan_li8"}


def perturbed(**kind):
    """A binary that goes round twice, and a third body."""
    return State.from_arrays(
        [1.0, 0.5, 0.3],
        [[0.5, 0, 0], [-0.5, 0.1, 0.05], [3.0, 0.5, -0.2]],
        [[0, 0.5, 0.1], [0.05, -0.8, 0], [-0.1, 0.4, 0.05]],
        **kind,
    )


def planets():
    return State.from_arrays(
        [1.0, 1e-3, 2e-3],
        [[0, 0, 0], [1.0, 0, 0.02], [-2.2, 0.3, 0]],
        [[0, 0, 0], [0, 1.1, 0], [-0.05, -0.65, 0.03]],
    )


def test_particles():
    """A star, a planet, and two bodies without mass at one place, the first ones."""
    position = [[2.0, 0.5, 0.1], [2.0, 0.5, 0.1], [0, 0, 0], [-1.0, 0.2, 0]]
    velocity = [[-0.2, 0.6, 0], [-0.1, 0.7, 0], [0, 0, 0], [-0.1, -0.9, 0.1]]
    return State.from_arrays([0, 0, 1.0, 0.01], position, velocity)


test_particles.__test__ = False  # pyright: ignore[reportFunctionMemberAccess]


def after(state, scheme, ds, n_steps):
    state, ds = scheme.begin(state), ds + 0 * state.time
    for _ in range(n_steps):
        state, _ = scheme.composed(state, ds)
    return state


def in_s(name, clock="regularised"):
    return Transformed(INTEGRATORS[name], CLOCKS[clock])


# What a step is


def test_compositions_are_told_from_other_splittings():
    found = [name for name, each in INTEGRATORS.items() if isinstance(each, Splitting)]
    assert [name for name in found if is_composition(INTEGRATORS[name])] == list(COMPOSITIONS)
    assert not is_composition(Splitting(1, (1.0, 0.0), (1.0,)))


# Few enough for the error to stand above rounding, enough to be in its power law.
STEPS = {2: (50, 100), 4: (20, 40), 6: (16, 64), 8: (8, 16)}


@EVERY
def test_error_shrinks_at_the_order_in_s(name):
    """The median of some triples: where the error of one changes sign it has no order."""
    start = scenarios.make("few_body", n_systems=16, seed=1)
    exact = after(start, in_s("kahan_li8"), 2.5 / 200, 200).position
    few, many = STEPS[INTEGRATORS[name].order]
    ends = [after(start, in_s(name), 2.5 / n, n).position for n in (few, many)]
    errors = [np.median(np.abs(end - exact).max(axis=(1, 2))) for end in ends]
    measured = math.log(errors[0] / errors[1]) / math.log(many / few)
    assert measured == pytest.approx(INTEGRATORS[name].order, abs=0.2)


@EVERY
def test_two_bodies_keep_their_orbit_at_any_step(name):
    """All that is off is where they are on it."""
    state = scenarios.make("kepler", eccentricity=0.9)
    period = scenarios.two_body_period(state).item()
    runs = [
        simulate(state, 3.3 * period, FixedStep(period / n), integrator=name, clock="regularised")
        for n in (4, 8)
    ]
    exact = scenarios.make("kepler", eccentricity=0.9, phase=0.5 + 3.3).position
    off = [np.abs(run.final.position - exact).max() for run in runs]
    assert off[0] > 2 * off[1]
    assert off[0] > 1e-8
    for run in runs:
        assert run.max_energy_error < 2e-13
        assert run.max_body_error < 2e-13


@pytest.mark.parametrize("name", ["leapfrog", "kahan_li8"])
@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("start", [perturbed, lambda: scenarios.make("kepler", eccentricity=0.9)])
def test_out_and_back_is_the_start(name, clock, start):
    scheme = in_s(name, clock)
    start = scheme.begin(start())
    far = after(start, scheme, 0.1, 200)
    # W is not Ω, and set to Ω it would not lead back.
    assert (far.pace != scheme.clock.rate(far)).all()
    back = far.replace(velocity=-far.velocity)
    for _ in range(200):
        back, _ = scheme.composed(back, 0.1 + 0 * back.time)
    assert np.abs(far.position - start.position).max() > 0.1
    np.testing.assert_allclose(back.position, start.position, atol=1e-12)
    np.testing.assert_allclose(back.velocity, -start.velocity, atol=1e-12)
    np.testing.assert_allclose(back.pace, start.pace, rtol=1e-12)


class Turned:
    """Has an engine begin where a run has ended, with all velocities turned round."""

    def __init__(self):
        self.last = {}

    def restore(self, arrays):
        for name, value in self.last.items():
            sign = -1 if name in ("velocity", "velocity_low") else 1
            arrays[name][...] = sign * value
        if self.last:
            arrays["status"][...] = int(Status.RUNNING)

    def note(self, arrays):
        self.last = {name: value.copy() for name, value in arrays.items()}


@pytest.mark.parametrize("start", [planets, lambda: scenarios.make("hierarchical_triple")])
def test_out_and_back_is_the_start_in_the_compiled_engine(start):
    state, keeper = start().replace(acceleration=None), Turned()
    scheme, ends = in_s("kahan_li8"), []
    for most in (500, 1000):
        task = Task(
            state,
            EqualSteps(FixedStep(0.1), scheme.clock),
            scheme,
            np.array([1e-6]),
            "plain",
            Limits(np.array([np.inf]), most),
        )
        ends.append(compiled_engine.integrate(task, EndsOnly(state), keeper))
    out, back = ends
    assert np.abs(out.state.position - state.position).max() > 0.1
    assert back.n_steps == 2 * out.n_steps
    np.testing.assert_allclose(back.state.position, state.position, atol=1e-12)
    np.testing.assert_allclose(back.state.velocity, -state.velocity, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("clock", [Clock(), Clock(4), CLOCKS["inverse"]], ids=str)
def test_a_step_of_arrays_is_that_of_tensors(kind, clock):
    scheme, state = Transformed(INTEGRATORS["suzuki4"], clock), KINDS[kind]()
    motion = (0.3, 0.1, 0.2)[: state.n_dimensions]
    state = state.replace(field=TidalField(5.0, (4.0, 3.0, -5.0)[: state.n_dimensions], motion))

    def stepped(state):
        end = scheme.step(scheme.step(state, 0.02 + 0 * state.time), 0.03 + 0 * state.time)
        return [end.position, end.velocity, end.time, end.work, end.pace]

    assert_same_as_tensors(stepped, state, rounding=1e-15)


def test_a_step_ends_where_it_is_to_end_and_leads_back():
    scheme, start = in_s("suzuki4"), in_s("suzuki4").begin(perturbed())
    there = scheme.step(start, np.array([0.3]))
    assert there.time == 0.3
    back = scheme.step(there, np.array([-0.3]))
    np.testing.assert_allclose(back.position, start.position, atol=1e-13)
    still = scheme.step(start, np.array([0.0]))
    assert np.array_equal(still.position, start.position)


def test_a_step_has_a_gradient():
    scheme = in_s("suzuki4")
    state, (position, velocity) = differentiable(perturbed(), "position", "velocity")
    dt = torch.tensor([0.3], dtype=torch.float64, requires_grad=True)

    def end(position, velocity, dt):
        return scheme.step(state.replace(position=position, velocity=velocity), dt).position

    assert torch.autograd.gradcheck(end, (position, velocity, dt), rtol=1e-6)


# Both engines


def both(state, t_end, policy, engine="compiled", **options):
    return [simulate(state, t_end, policy, engine=each, **options) for each in ("torch", engine)]


def assert_same(there, here):
    for name in ("n_steps", "n_force_evaluations", "status"):
        assert np.array_equal(there.summary[name], here.summary[name]), name
    for name in ("position", "velocity", "time", "dt"):
        np.testing.assert_allclose(
            getattr(here, name), getattr(there, name), rtol=1e-11, atol=1e-12, err_msg=name
        )
    for name in ("energy_error", "body_error"):
        np.testing.assert_allclose(
            getattr(here, name), getattr(there, name), rtol=1e-6, atol=1e-12, err_msg=name
        )


STILL = TidalField(5.0, (4.0, 3.0, -5.0))
MOVING = TidalField(5.0, (4.0, 3.0, -5.0), (0.3, 0.1, 0.2))
RUNS = {
    "three bodies": (perturbed, {}),
    "softened": (lambda: perturbed(softening=0.3, G=1.3), {}),
    "at times": (perturbed, {"record": np.linspace(0.0, 1.9, 8)}),
    "unfollowed": (perturbed, {"follow": False, "record": 3}),
    "any number": (perturbed, {"engine": "any_number"}),
    "without mass": (test_particles, {}),
    "plane": (lambda: scenarios.make("figure_eight"), {"engine": "any_number"}),
    "still field": (lambda: perturbed(field=STILL), {}),
    "moving field": (lambda: perturbed(field=MOVING), {}),
}


@pytest.mark.parametrize("kind", RUNS)
def test_engines_agree(kind):
    start, options = RUNS[kind]
    runs = both(start(), 2.0, FixedStep(0.1), clock="regularised", **options)
    assert_same(*runs)
    assert runs[1].status == Status.SUCCESS
    assert runs[1].max_energy_error < 1e-4


def test_systems_of_a_batch_run_as_they_do_alone():
    batch = State.concatenate([perturbed(), planets()])
    rule, t_end = FixedStep([0.1, 0.2]), np.array([2.0, 3.0])
    for engine in ("compiled", "torch"):
        options = {"engine": engine, "record": "ends", **IN_S}
        together = simulate(batch, t_end, rule, **options)
        assert together.final.time.tolist() == t_end.tolist()
        for k in range(2):
            alone = simulate(batch.select(k), t_end[k], FixedStep(rule.dt[k]), **options)
            assert np.array_equal(alone.final.position[0], together.final.position[k])
            assert alone.n_force_evaluations[0] == together.n_force_evaluations[k]


@pytest.mark.filterwarnings("ignore:.*did not reach")
@pytest.mark.parametrize("engine", ["compiled", "torch"])
def test_a_system_that_fails_fails_alone(engine):
    """Whose step is so long that it has no end."""
    batch = State.concatenate([perturbed()] * 3)
    rule = FixedStep([0.1, 1e200, 0.05])
    run = simulate(batch, 200.0, rule, engine=engine, max_steps=40, clock="regularised")
    known = [Status.MAX_STEPS, Status.NON_FINITE, Status.MAX_STEPS]
    assert run.status.tolist() == known
    assert np.isfinite(run.final.position).all()


# A run


def test_the_policy_says_the_first_step_and_all_are_equal_in_s():
    state = scenarios.make("kepler", eccentricity=0.6)
    run = simulate(state, 3.0, FixedStep(1e-3), integrator="suzuki4", clock="regularised")
    assert run.dt[1] == pytest.approx(1e-3, rel=1e-3)
    middle = state.replace(position=(run.position[1:-2] + run.position[2:-1]) / 2)
    middle = middle.replace(mass=np.broadcast_to(state.mass, middle.position.shape[:2]))
    ds = run.dt[2:-1] * CLOCKS["regularised"].rate(middle)
    assert run.dt[1:-1].max() > 2 * run.dt[1:-1].min()
    np.testing.assert_allclose(ds, ds[0], rtol=1e-4)


def test_without_a_policy_the_configured_criterion_says_the_first_step():
    eta = Simulation.model_fields["eta"].default
    run = simulate(perturbed(), 0.5, clock="regularised")
    named = simulate(perturbed(), 0.5, Criterion("boekholt", eta), clock="regularised")
    assert (run.policy, run.integrator) == ("boekholt", "suzuki4")
    assert np.array_equal(run.position, named.position)


def test_records_are_at_their_times_and_change_no_step():
    times = np.linspace(0.0, 4.0, 9)
    exact = simulate(perturbed(), 4.0, integrator="gbs", tolerance=1e-12, record=times)
    ends = simulate(perturbed(), 4.0, FixedStep(0.1), record="ends", **IN_S)
    run = simulate(perturbed(), 4.0, FixedStep(0.1), record=times, **IN_S)
    assert run.time.tolist() == times.tolist()
    np.testing.assert_allclose(run.position, exact.position, atol=1e-10)
    np.testing.assert_allclose(run.velocity, exact.velocity, atol=1e-10)
    assert run.energy_error.max() < 1e-11
    assert np.array_equal(run.final.position, ends.final.position)
    assert run.n_force_evaluations == ends.n_force_evaluations
    # The last step is made some times over, and those count.
    per_step = len(INTEGRATORS["kahan_li8"].drifts) + 1
    assert 0 < run.n_force_evaluations - per_step * run.n_steps < 8 * per_step


@pytest.mark.parametrize("engine", ["compiled", "torch"])
@pytest.mark.filterwarnings("ignore:.*did not reach")
def test_a_contact_is_found_within_a_step(engine):
    options = {"collision_distance": 0.7, "engine": engine, **IN_S}
    known = {"integrator": "gbs", "tolerance": 1e-12, "engine": "torch"}
    exact = simulate(perturbed(), 9.0, collision_distance=0.7, **known)
    run = simulate(perturbed(), 9.0, FixedStep(0.3), **options)
    assert run.status == exact.status == Status.COLLISION
    event, known = run.events.iloc[0], exact.events.iloc[0]
    assert event.bodies == known.bodies
    assert event.time == pytest.approx(known.time, rel=1e-7)
    assert run.time[-1] == event.time
    np.testing.assert_allclose(run.final.position, exact.final.position, atol=1e-6)


@pytest.mark.parametrize(("name", "dt"), [("leapfrog", 0.02), ("suzuki4", 0.1), ("kahan_li8", 0.4)])
def test_errors_of_bodies_are_what_their_orbits_are_off_by(name, dt):
    def orbit(state):
        R, V = (each[0, 1] - each[0, 0] for each in (state.position, state.velocity))
        mu, r, v2 = 1.001, np.linalg.norm(R), V @ V
        return v2 / 2 - mu / r, ((v2 - mu / r) * R - (R @ V) * V) / mu, v2 / 2 + mu / r

    run = simulate(planets(), 5.0, FixedStep(dt), integrator=name, clock="regularised")
    exact = simulate(planets(), 5.0, integrator="gbs", tolerance=1e-13, record="ends").final
    (energy, shape, _), (known, right, size) = orbit(run.final), orbit(exact)
    of_shape = np.linalg.norm(shape - right) / (1 + np.linalg.norm(right))
    off = max(abs(energy - known) / size, of_shape)
    assert off > 1e-11
    assert run.body_error[-1, 1] == pytest.approx(off, rel=0.1)


@pytest.mark.filterwarnings("ignore:the orbit")
def test_errors_of_the_energy_do_not_grow():
    """As those of an extrapolation do, which costs as much."""
    state = scenarios.make("kepler", eccentricity=0.9)
    t_end = 1000 * scenarios.two_body_period(state).item()
    dt = FixedStep(t_end / 5000)
    run = simulate(state, t_end, dt, record="ends", **IN_S)
    other = simulate(state, t_end, integrator="gbs", tolerance=1e-6, record="ends")
    assert other.n_force_evaluations == pytest.approx(run.n_force_evaluations, rel=0.2)
    assert run.max_energy_error < 1e-11
    assert other.max_energy_error > 1e-7


# What is stored


@pytest.mark.parametrize("engine", ["compiled", "torch"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_run_that_was_stopped_goes_on_bit_for_bit(engine, tmp_path, monkeypatch):
    monkeypatch.setattr(compiled_engine, "FIRST_PAIRS", 9)
    monkeypatch.setattr(compiled_engine, "TURN", 0.0)

    def stop(n):
        calls = itertools.count(1)
        return lambda: next(calls) >= n

    given = {"engine": engine, "policy": FixedStep(0.05), **IN_S}
    whole = simulate(perturbed(), 1.5, **given)
    path = tmp_path / "run.zarr"
    simulate(perturbed(), 1.0, path=path, stop=stop(3), **given)
    simulate(resume=path)  # to its end, beyond which it goes on from before its last step
    run = simulate(perturbed(), 1.5, resume=path, **given)
    for name in RECORDED:
        assert np.array_equal(getattr(run, name), getattr(whole, name), equal_nan=True), name
    assert run.n_force_evaluations == whole.n_force_evaluations
    assert Trajectory.load(path).about["clock"] == "regularised"
    with pytest.raises(InputError, match="was begun with clock = regularised, not inverse"):
        simulate(resume=path, clock="inverse", t_end=2.0)


def test_a_clock_of_ones_own_is_given_again(tmp_path):
    own, path = Clock(power=4), tmp_path / "run.zarr"
    given = {"policy": FixedStep(0.1), "engine": "torch", "clock": own}
    simulate(perturbed(), 0.3, path=path, **given)
    with pytest.raises(InputError, match=r"give it again, by clock="):
        simulate(resume=path, t_end=0.5)
    run = simulate(resume=path, t_end=0.5, clock=own)
    assert np.array_equal(run.position, simulate(perturbed(), 0.5, **given).position)


def test_a_run_without_a_clock_goes_on_without(tmp_path):
    path = tmp_path / "run.zarr"
    simulate(perturbed(), 0.3, FixedStep(0.1), engine="torch", path=path)
    assert simulate(resume=path).about["clock"] is None
    with pytest.raises(InputError, match="was begun with clock = None, not regularised"):
        simulate(resume=path, clock="regularised", t_end=0.5)


def test_what_a_run_says_of_itself():
    run = simulate(perturbed(), 0.1, FixedStep(0.1), engine="torch", **IN_S)
    assert (run.integrator, run.stepping, run.about["clock"]) == (
        "kahan_li8",
        "reversible",
        "regularised",
    )
    assert "Mikkola & Aarseth (2002)" in run.cite()
    assert "Kahan & Li (1997)" in run.cite()
    assert "Holder" not in run.cite()  # whose steps are not equal
    assert run.final.pace is None


def test_the_clock_of_gbs_is_the_one_that_is_given():
    options = {"tolerance": 1e-9, "record": "ends"}
    run = simulate(perturbed(), 3.0, integrator="gbs", clock="inverse", **options)
    own = simulate(perturbed(), 3.0, integrator=Extrapolation(clock=CLOCKS["inverse"]), **options)
    usual = simulate(perturbed(), 3.0, integrator="gbs", **options)
    assert (run.integrator, run.stepping) == ("gbs", "plain")
    assert (run.about["clock"], usual.about["clock"]) == ("inverse", "regularised")
    assert np.array_equal(run.final.position, own.final.position)
    assert not np.array_equal(run.final.position, usual.final.position)


def test_a_configuration_has_a_clock():
    config = Simulation(t_end=1.0, clock="inverse", progress=False, engine="torch")
    planned = setup(config)
    planned.check()
    assert planned.run().about["clock"] == "inverse"


class Own:
    order, evaluations, evaluations_at_start, reversible = 2, 1, 0, True

    def step(self, state, dt, errors=None):
        raise AssertionError


REFUSED = {
    "'blanes_moan6' can't run in the time": {"integrator": "blanes_moan6"},
    "'hermite4' can't run in the time": {"integrator": "hermite4"},
    "'Own' can't run in the time": {"integrator": Own()},
    "'splitting of order 1 with 1 drifts' can't": {"integrator": Splitting(1, (1.0, 0.0), (1.0,))},
    "guard is True and a clock is given": {"guard": True},
    "policy is learned and a clock": {"policy": "default", "integrator": "suzuki4"},
    "policy is untrained and a clock": {"policy": "untrained"},
    "integrator is 'auto' and a clock": {"integrator": "auto"},
    "stepping is 'plain', and steps of 'suzuki4'": {"stepping": "plain"},
    "stepping 'revers' is unknown": {"stepping": "revers"},
    "clock 'regular' is unknown; did you mean 'regularised'": {"clock": "regular"},
    "clock is 5; give a name such as 'regularised'": {"clock": 5},
    "clock is 'inverse' and that of the integrator": {
        "clock": "inverse",
        "policy": None,
        "integrator": Extrapolation(clock=Clock(power=4)),
    },
    "no two bodies of some system pull each other": {
        "clock": "logarithmic",
        "state": State.from_arrays([1.0, 0.0], np.eye(2), 0 * np.eye(2)),
    },
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_can_not_be_is_refused(words):
    given = {"state": perturbed(), "t_end": 1.0, "policy": FixedStep(0.1), "clock": "regularised"}
    for refuses in (check, simulate):
        with pytest.raises(InputError) as refusal:
            refuses(**{**given, **REFUSED[words]})
        assert words in str(refusal.value)


def test_steps_may_be_called_reversible():
    run = simulate(perturbed(), 0.2, FixedStep(0.1), engine="torch", stepping="reversible", **IN_S)
    other = simulate(perturbed(), 0.2, FixedStep(0.1), engine="torch", **IN_S)
    assert np.array_equal(run.position, other.position)
