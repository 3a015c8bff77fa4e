"""Methods are values: whatever has a name can be handed in as an object, and is the same then."""

from functools import partial

import numpy as np
import pytest
import torch

import nbcore as nb
from nbcore.errors import InputError
from nbcore.physics import gravity, scenarios
from nbcore.physics.arrays import is_tensor, to_numpy
from nbcore.physics.extrapolation import Extrapolation
from nbcore.physics.integrators import (
    INTEGRATORS,
    Hermite,
    Splitting,
    composition,
    get_integrator,
    name_of,
)
from nbcore.physics.scenarios import SCENARIOS
from nbcore.physics.wisdom_holman import WisdomHolman
from nbcore.simulation import simulate as entry
from nbcore.stepping.criteria import CRITERIA, CriterionRow, get_criterion
from nbcore.stepping.policies import Crowd, Custom, Policy, trainable, untrained
from nbcore.stepping.spec import PolicySpec

FIXED = nb.FixedStep(0.02)


class Midpoint:
    """An integrator as a user would write one."""

    order, evaluations, evaluations_at_start, reversible = 2, 1, 0, False

    def step(self, state, dt, errors=None):
        h = dt[:, None, None]
        half = state.position + h / 2 * state.velocity
        a = gravity.acceleration(state.replace(position=half, acceleration=None))
        return state.replace(
            position=state.position + h * state.velocity + h**2 / 2 * a,
            velocity=state.velocity + h * a,
            time=state.time + dt,
            acceleration=None,
            jerk=None,
        )


def fall(state):
    """A time scale as a user would write one."""
    return 1 / gravity.acceleration(state).std(axis=(1, 2))


def pair(*, distance: scenarios.Positive = 2.0):
    """A scenario as a user would write one."""
    x, v = distance / 2, 0.5 * (2 / distance) ** 0.5
    return np.ones(2), np.array([[-x, 0, 0], [x, 0, 0]]), np.array([[0, v, 0], [0, -v, 0]])


class Trap:
    """A field as a user would write one."""

    moving = False

    def acceleration(self, position, time, G):
        return -position

    def potential_energy(self, position, mass, time, G):
        return (mass * position.square().sum(-1)).sum(-1) / 2


def same(one, other):
    assert np.array_equal(one.position, other.position)
    assert (one.integrator, one.policy) == (other.integrator, other.policy)
    assert one.n_force_evaluations == other.n_force_evaluations


@pytest.mark.parametrize("name", INTEGRATORS)
def test_an_integrator_is_as_good_as_its_name(name):
    policy = None if isinstance(INTEGRATORS[name], Extrapolation) else FIXED  # its own steps
    planets = isinstance(INTEGRATORS[name], WisdomHolman)
    runs = [
        nb.simulate(
            "outer_solar_system" if planets else "figure_eight", 0.5, policy, integrator=each
        )
        for each in (name, INTEGRATORS[name])
    ]
    same(*runs)
    compiled = (Splitting, Hermite, Extrapolation, WisdomHolman)
    is_compiled = isinstance(INTEGRATORS[name], compiled)
    assert runs[1].about["engine"] == ("compiled" if is_compiled else "torch")


@pytest.mark.parametrize("name", CRITERIA)
def test_a_criterion_is_as_good_as_its_name(name):
    state = nb.scenarios.make("pythagorean", softening=0.01)
    runs = [nb.simulate(state, 0.5, nb.Criterion(c, eta=0.05)) for c in (name, CRITERIA[name])]
    same(*runs)
    assert runs[1].about["engine"] == "compiled"
    same(nb.simulate(state, 0.1, name), nb.simulate(state, 0.1, CRITERIA[name]))


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_is_as_good_as_its_name(name):
    one, other = scenarios.make(name), scenarios.make(SCENARIOS[name])
    assert np.array_equal(one.position, other.position)
    assert (one.scenario, other.scenario) == (name, name)


POLICIES = {
    "fixed": FIXED,
    "criterion": nb.Criterion("boekholt", eta=0.1),
    "criterion of one's own": nb.Criterion(fall, eta=0.1),
    "rule of one's own": Custom(lambda state, tolerance: 0.01 * tolerance**0),
    "untrained": untrained("suzuki4"),
    "shipped": nb.load_policy("default").best(1e-6),
    "to be trained": trainable(PolicySpec()),
    "history": trainable(PolicySpec(features=("scale_free", "delta_mag"), history=2)),
}
POLICIES["crowd"] = Crowd(POLICIES["untrained"], [POLICIES["untrained"].network])


@pytest.mark.parametrize("kind", POLICIES)
@pytest.mark.parametrize("tensors", [False, True], ids=["arrays", "tensors"])
def test_every_policy_answers_alike(kind, tensors):
    policy, state = POLICIES[kind], scenarios.make("figure_eight")
    state = state.to("cpu") if tensors else state
    assert isinstance(policy, Policy)
    assert policy.evaluations >= 0
    memory = policy.begin(state)
    dt = policy(state, 0 * state.time + 1e-6, memory)
    assert is_tensor(dt) == tensors
    assert dt.shape == (1,)
    assert to_numpy(dt)[0] > 0
    after = get_integrator("leapfrog").step(state, dt)
    assert set(policy.advance(memory, state, after, dt)) == set(memory)
    assert bool(policy.looks_back) == bool(set(memory) & {"deltas"})


@pytest.mark.parametrize("kind", POLICIES)
def test_every_policy_makes_a_run(kind):
    run = nb.simulate("figure_eight", 0.2, POLICIES[kind])
    assert run.status == nb.Status.SUCCESS


def test_an_integrator_of_one_s_own_runs_in_torch_and_says_so(capfd):
    entry._say.cache_clear()
    runs = [nb.simulate("figure_eight", 1.0, FIXED, integrator=Midpoint()) for _ in range(2)]
    said = capfd.readouterr().err
    assert said == (
        "nbcore: the integrator 'Midpoint' runs in the torch engine, which is slower than the "
        "compiled one\n"
    )
    assert runs[0].integrator == "Midpoint"
    assert runs[0].n_force_evaluations == 2 * runs[0].n_steps  # one by the loop
    assert np.isnan(runs[0].max_body_error)
    assert (runs[0].kept_tolerance, runs[0].worst_body) == (False, None)
    assert nb.simulate("kepler", 0.1, FIXED, integrator=Midpoint()).kept_tolerance is None
    errors = [
        nb.simulate("figure_eight", 1.0, nb.FixedStep(dt), integrator=Midpoint()).max_energy_error
        for dt in (0.02, 0.01)
    ]
    assert np.log2(errors[0] / errors[1]) > 1.8
    with pytest.raises(InputError, match="does not take the integrator 'Midpoint'"):
        nb.simulate("figure_eight", 1.0, FIXED, integrator=Midpoint(), engine="compiled")


def test_a_guard_leaves_an_integrator_alone_that_tells_nothing_of_orbits():
    policy = nb.Criterion("boekholt", eta=0.02)
    run = nb.simulate("figure_eight", 1.0, policy, integrator=Midpoint(), guard=True)
    assert run.n_redone == 0


def test_coefficients_of_one_s_own_are_compiled_and_learned_policies_step_them():
    own = composition(4, *INTEGRATORS["suzuki4"].drifts[:3])
    assert name_of(own) == "suzuki4"
    other = Splitting(2, (0.25, 0.5, 0.25), (0.5, 0.5))
    run = nb.simulate("figure_eight", 1.0, untrained(other), integrator=other)
    assert run.about["engine"] == "compiled"
    assert run.integrator == "splitting of order 2 with 2 drifts"


def test_criteria_of_one_s_own_run_by_function_and_by_row():
    for criterion in (fall, CriterionRow(fall)):
        run = nb.simulate("figure_eight", 0.5, nb.Criterion(criterion, eta=0.02))
        assert (run.policy, run.about["engine"]) == ("fall", "torch")


def test_a_criterion_that_is_called_like_one_in_the_table_is_not_taken_for_it():
    def boekholt(state):
        return 0 * state.time + 0.5

    run = nb.simulate("figure_eight", 0.5, nb.Criterion(boekholt, eta=0.1))
    assert run.about["engine"] == "torch"
    assert run.dt[1] == 0.05


def test_a_scenario_of_one_s_own_is_checked_like_the_others():
    run = nb.simulate(pair, 4 * np.pi, nb.Criterion("boekholt", eta=0.02))
    assert np.allclose(run.position[-1], run.position[0], atol=1e-2)
    assert scenarios.make(pair, distance=4.0).position[0, 1, 0] == 2
    assert scenarios.make(pair, G=4.0).velocity[0, 0, 1] == 1.0
    with pytest.raises(InputError, match="distance of scenario 'pair' is -1"):
        scenarios.make(pair, distance=-1.0)
    run = nb.simulate(partial(pair, distance=4.0), 0.1, FIXED)
    assert (run.about["scenario"], run.position[0, 1, 0]) == ("pair", 2)


@pytest.mark.parametrize(
    "function",
    [
        lambda distance=2.0: pair(distance=distance),
        lambda *, distance: pair(distance=distance),
        lambda *others, distance=2.0, **more: pair(distance=distance),
        lambda distance: tuple(each.tolist() for each in pair(distance=distance)),
        lambda distance: [torch.tensor(each) for each in pair(distance=distance)],
        partial(lambda n, distance: pair(distance=distance), 3),
    ],
)
@pytest.mark.parametrize("G", [1.0, 4.0])
def test_a_scenario_needs_no_annotations_and_may_return_lists_or_tensors(function, G):
    state, expected = (scenarios.make(each, distance=4.0, G=G) for each in (function, pair))
    for name in ("mass", "position", "velocity"):
        assert np.array_equal(getattr(state, name), getattr(expected, name))
    assert state.scenario == "<lambda>"


def annotated(*, distance: 5 = 2.0):
    return pair(distance=distance)


def undefined(*, distance: "Gone" = 2.0):  # noqa: F821
    return pair(distance=distance)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda n: pair(), r"'<lambda>': missing a required argument: 'n'; .*by name"),
        (lambda *, n, m: pair(), "missing a required argument: 'n'"),
        (lambda n, /: pair(), "missing a required argument: 'n'"),
        (partial(lambda n, m: pair(), 3), "missing a required argument: 'm'"),
        (annotated, "annotations of scenario 'annotated' can't be checked .*; annotate with types"),
        (undefined, "annotations of scenario 'undefined' .*'Gone' is not defined"),
        (Trap, "'Trap' is no function, but of type 'type'; give a function that returns mass"),
        (FIXED, "'FixedStep' is no function"),
        (lambda G=1.0: pair(), "has a parameter 'G', which is the state's; write it for G = 1"),
        (lambda: None, "'<lambda>' returned NoneType; it must return mass, position, velocity"),
        (lambda: 3, "returned int; it must return mass, position, velocity"),
        (lambda: pair()[:2], "returned tuple of 2; it must return mass, position, velocity"),
        (lambda: (np.ones(3), *pair()[1:]), r"'<lambda>' returned .*: mass has shape \(3,\) for 2"),
        (lambda: (*pair()[:2], np.nan * pair()[2]), r"returned .*: velocity\[0, 0, 0\] is nan"),
        (lambda: ("a", "b", "c"), "'<lambda>' returned what is no state: mass can't be read"),
    ],
)
def test_what_is_no_scenario_is_told_with_its_name_and_what_is_right(function, words):
    for ask in (lambda: scenarios.make(function), lambda: nb.simulate(function, 1.0, FIXED)):
        with pytest.raises(InputError, match=words):
            ask()


def test_a_field_of_one_s_own_is_a_value_in_a_state():
    state = nb.State.from_arrays([1, 0], [[0, 0], [1, 0]], [[0, 0], [0, 1.4]], field=Trap())
    run = nb.simulate(state, 1.0, nb.Criterion("boekholt", eta=0.02))
    assert run.about["engine"] == "torch"
    assert run.max_energy_error < 1e-6


class Incomplete:
    order, evaluations = 2, 1


class Strict(Midpoint):
    def step(self, state, dt):
        return state


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (Midpoint, "it is a class"),
        (Incomplete(), "it has no evaluations_at_start, reversible, step"),
        (Strict(), r"must be called as step\(state, dt, errors\)"),
        (4, "it has no order"),
        ("suzuki", "did you mean 'suzuki4'"),
    ],
)
def test_what_is_no_integrator_is_told(given, words):
    with pytest.raises(InputError, match=words):
        nb.simulate("figure_eight", 1.0, FIXED, integrator=given)


@pytest.mark.parametrize("given", [CriterionRow, 3, "boekhold"])
def test_what_is_no_criterion_is_told(given):
    with pytest.raises(InputError, match="criterion"):
        get_criterion(given)


def test_tensors_and_arrays_give_the_same_run():
    state = scenarios.make("pythagorean")
    runs = [nb.simulate(each, 1.0, "boekholt") for each in (state, state.to("cpu"))]
    same(*runs)
    assert isinstance(runs[1].final.position, torch.Tensor)
    assert isinstance(runs[0].final.position, np.ndarray)
    assert nb.simulate(state, 0.1, FIXED, engine="torch").final.position.dtype == np.float64


def test_a_learned_policy_of_an_order_without_a_kernel_runs_in_torch():
    ruth = Splitting(3, (7 / 24, 3 / 4, -1 / 24, 0.0), (2 / 3, -2 / 3, 1.0))
    runs = [
        nb.simulate("figure_eight", 1.0, "untrained", integrator=ruth, engine=engine)
        for engine in ("auto", "torch")
    ]
    assert runs[0].n_steps == runs[1].n_steps
