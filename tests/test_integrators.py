import math
from functools import lru_cache, partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from symmetries import KINDS, assert_same_as_tensors, differentiable

from nbcore.errors import InputError
from nbcore.physics import gravity, scenarios
from nbcore.physics.body_errors import BodyErrors
from nbcore.physics.extrapolation import Extrapolation
from nbcore.physics.fields import TidalField
from nbcore.physics.integrators import (
    INTEGRATORS,
    Splitting,
    composition,
    get_integrator,
    name_of,
)
from nbcore.physics.wisdom_holman import WisdomHolman

SPLITTINGS = [name for name, rule in INTEGRATORS.items() if isinstance(rule, Splitting)]
# Of planets alone, which are tested elsewhere, is the splitting of Wisdom and Holman.
ALL = [name for name, rule in INTEGRATORS.items() if not isinstance(rule, WisdomHolman)]
REVERSIBLE = [name for name in ALL if INTEGRATORS[name].reversible]
EVERY = pytest.mark.parametrize("name", ALL)


def is_composition(name):
    """Whether it is one of leapfrogs."""
    rule = INTEGRATORS[name]
    if not (isinstance(rule, Splitting) and rule.reversible and len(rule.drifts) % 2):
        return False
    leapfrogs = composition(rule.order, *rule.drifts[: len(rule.drifts) // 2 + 1])
    return rule.kicks == pytest.approx(leapfrogs.kicks, abs=1e-14)


def run(state, name, dt, n_steps):
    step, dt = get_integrator(name).step, 0 * state.time + dt
    for _ in range(n_steps):
        state = step(state, dt)
    return state


def position_error(name, n_steps):
    """At 0.7 periods, for at whole or half ones a symmetric method flatters itself."""
    start = scenarios.make("kepler", eccentricity=0.5)
    exact = scenarios.make("kepler", eccentricity=0.5, phase=0.5 + 0.7)
    dt = 0.7 * scenarios.two_body_period(start).item() / n_steps
    return np.linalg.norm(run(start, name, dt, n_steps).position - exact.position)


@EVERY
@pytest.mark.parametrize("kind", KINDS)
def test_a_step_of_arrays_is_that_of_tensors(name, kind):
    scheme, state = get_integrator(name), KINDS[kind]()
    motion = (0.3, 0.1, 0.2)[: state.n_dimensions] if scheme.reversible else None
    state = state.replace(field=TidalField(5.0, (4.0, 3.0, -5.0)[: state.n_dimensions], motion))

    def after(state):
        end = scheme.step(scheme.step(state, 0.02 + 0 * state.time), 0.03 + 0 * state.time)
        told = [end.position, end.velocity, end.time, end.work, end.acceleration, end.jerk]
        return [each for each in told if each is not None]

    assert_same_as_tensors(after, state)


def tells_errors(name):
    """Whether a step tells of its kicks."""
    state = scenarios.make("kepler")
    errors = BodyErrors.begin(state)
    told = errors.watch(state)
    after = INTEGRATORS[name].step(state, 0.1 + 0 * state.time, told)
    return np.isfinite(errors.after(after, told)[1]).all()


@pytest.mark.parametrize("name", [name for name in ALL if tells_errors(name)])
@pytest.mark.parametrize("kind", KINDS)
def test_errors_of_bodies_are_those_of_tensors(name, kind):
    scheme = get_integrator(name)

    def errors(state):
        errors = BodyErrors.begin(state)
        for _ in range(2):
            told = errors.watch(state)
            state = scheme.step(state, 0.2 + 0 * state.time, told)
            errors, own = errors.after(state, told)
            errors = errors.look(state, state.time > 0)
        return [*vars(errors).values(), own]

    assert_same_as_tensors(errors, KINDS[kind](), rounding=1e-13)


# Few enough steps for the error to stand above rounding, enough to be in its power law.
STEPS = {2: 400, 4: 300, 6: 80, 8: 40}


# Of what chooses steps within dt nothing but rounding is left.
@pytest.mark.parametrize(
    "name", [name for name in ALL if not isinstance(INTEGRATORS[name], Extrapolation)]
)
def test_error_shrinks_at_the_declared_order(name):
    order = get_integrator(name).order
    n_steps = STEPS.get(order + order % 2, 40)
    coarse, fine = (position_error(name, n) for n in (n_steps, 2 * n_steps))
    if name == "blanes_moan4":
        # Its error of 4th order is so small that the one of 6th is all there is until rounding.
        coarse, fine = (position_error(name, n) for n in (40, 80))
        order = 6
    measured = math.log2(coarse / fine)
    assert measured > order - 0.2
    # Of an odd order, what shows may be an error of the next order that adds up.
    assert measured < order + (1.2 if order % 2 else 0.2)


@pytest.mark.parametrize("name", REVERSIBLE)
@pytest.mark.parametrize("field", [None, TidalField(5.0, (4.0, 3.0), (0.3, 0.1))])
def test_a_step_forward_and_a_step_back_return_to_the_start(name, field):
    start = scenarios.make("few_body", n_systems=4, seed=2, field=field)
    dt = np.array([0.01, 0.02, 0.03, 0.04])
    step = get_integrator(name).step
    back = step(step(start, dt), -dt)
    # Rounding of a handful of stages.
    assert np.abs(back.position - start.position).max() < 1e-14
    assert np.abs(back.velocity - start.velocity).max() < 1e-13
    assert np.abs(back.work - start.work).max() < 1e-14


def test_hermite_is_not_reversible_and_says_so():
    start = scenarios.make("few_body", n_systems=4, seed=2)
    dt = np.full(4, 0.05)
    step = get_integrator("hermite4").step
    assert np.abs(step(step(start, dt), -dt).position - start.position).max() > 1e-10
    assert not get_integrator("hermite4").reversible


@EVERY
def test_momentum_is_kept(name):
    start = scenarios.make("few_body", n_systems=4, n_bodies=5, mass_range=(0.2, 2), seed=3)
    end = run(start, name, 0.01, 50)
    change = np.abs(gravity.momentum(end) - gravity.momentum(start)).max()
    assert change < 1e-14 * 50


@pytest.mark.parametrize("name", SPLITTINGS)
def test_angular_momentum_is_kept_by_every_splitting(name):
    start = scenarios.make("few_body", n_systems=4, dimensions=3, seed=3)
    end = run(start, name, 0.01, 50)
    change = np.abs(gravity.angular_momentum(end) - gravity.angular_momentum(start)).max()
    assert change < 1e-14 * 50


@pytest.mark.parametrize("name", SPLITTINGS)
def test_splittings_are_symmetric_and_whole_to_rounding(name):
    rule = INTEGRATORS[name]
    assert isinstance(rule, Splitting)
    for row in (rule.kicks, rule.drifts):
        assert not rule.reversible or row == pytest.approx(row[::-1], abs=1e-15)
        assert math.fsum(row) == pytest.approx(1, abs=1e-15)


@pytest.mark.parametrize("name", SPLITTINGS)
def test_splittings_meet_the_order_conditions_to_rounding(name):
    """Of quadrature to the order, and of the trees of 3rd and 4th order with two kicks.

    Hairer, Nørsett & Wanner (1993), II.14.
    """
    rule = INTEGRATORS[name]
    assert isinstance(rule, Splitting)
    b, c = np.array(rule.kicks), np.concatenate([[0.0], np.cumsum(rule.drifts)])
    for power in range(rule.order):
        assert b @ c**power == pytest.approx(1 / (power + 1), abs=1e-15)
    each = np.tril(c[:, None] - c, -1) * b
    if rule.order > 2:
        assert b @ each @ np.ones_like(b) == pytest.approx(1 / 6, abs=1e-15)
    if rule.order > 3:
        assert (b * c) @ each @ np.ones_like(b) == pytest.approx(1 / 8, abs=1e-15)
        assert b @ each @ c == pytest.approx(1 / 24, abs=1e-15)


@pytest.mark.parametrize("name", [name for name in INTEGRATORS if is_composition(name)])
def test_compositions_of_leapfrogs_meet_the_order_conditions_to_rounding(name):
    """Sums of odd powers below the order vanish: a wrong digit shows here, not in an order.

    Hairer, Lubich & Wanner (2006), V.3.
    """
    rule = INTEGRATORS[name]
    assert isinstance(rule, Splitting)
    for power in range(3, rule.order, 2):
        assert math.fsum(stage**power for stage in rule.drifts) == pytest.approx(0, abs=1e-15)


@EVERY
def test_a_step_costs_as_many_force_evaluations_as_declared(name, monkeypatch):
    calls = {"force": 0}
    force, derivatives = gravity.pair_accelerations, gravity.derivatives

    def counted(*arguments):
        calls["force"] += 1
        return force(*arguments)

    def counted_derivatives(state, order):
        # The acceleration is counted where it is evaluated.
        calls["force"] += order - 1
        return derivatives(state, order)

    monkeypatch.setattr(gravity, "pair_accelerations", counted)
    monkeypatch.setattr(gravity, "derivatives", counted_derivatives)
    state = run(scenarios.make("figure_eight"), name, 0.01, 1)
    for _ in range(3):
        state = state.replace(acceleration=gravity.acceleration(state))
        calls["force"] = 0
        state = run(state, name, 0.01, 1)
        assert calls["force"] == get_integrator(name).evaluations


@EVERY
def test_what_a_step_hands_on_is_what_holds_at_its_end(name):
    end = run(scenarios.make("few_body", n_systems=2), name, 0.01, 2)
    fresh = end.replace(acceleration=None, jerk=None)
    # Hermite hands on the derivatives of its prediction, as is usual: right to 4th order.
    tolerance = 1e-6 if name == "hermite4" else 1e-13
    np.testing.assert_allclose(
        gravity.acceleration(end), gravity.acceleration(fresh), rtol=tolerance, atol=tolerance
    )


@EVERY
def test_a_step_of_zero_changes_nothing(name):
    start = scenarios.make("few_body", n_systems=2)
    dt = np.array([0.0, 0.02])
    end = get_integrator(name).step(start, dt)
    for ours, before in ((end.position, start.position), (end.velocity, start.velocity)):
        assert np.array_equal(ours[0], before[0])
        assert not np.array_equal(ours[1], before[1])
    assert end.time.tolist() == [0.0, 0.02]


@EVERY
def test_each_system_takes_its_own_step(name):
    start = scenarios.make("few_body", n_systems=3)
    dt = np.array([0.01, 0.02, 0.03])
    together = get_integrator(name).step(start, dt)
    for k in range(3):
        alone = get_integrator(name).step(start.select([k]), dt[k : k + 1])
        np.testing.assert_allclose(alone.position[0], together.position[k], rtol=1e-14, atol=1e-15)


@EVERY
def test_a_body_without_mass_leaves_the_others_alone(name):
    # 50 steps from rounding; the probe stays far from the pair.
    pair = scenarios.make("kepler", eccentricity=0.3)
    probed = run(
        type(pair).from_arrays(
            [*pair.mass[0], 0.0],
            [*pair.position[0], [2.0, 1.0]],
            [*pair.velocity[0], [0.3, -0.2]],
        ),
        name,
        0.02,
        50,
    )
    alone = run(pair, name, 0.02, 50)
    np.testing.assert_allclose(probed.position[:, :2], alone.position, rtol=1e-13, atol=1e-13)


@EVERY
@pytest.mark.parametrize("softening", [0.0, 0.2])
@pytest.mark.parametrize("field", [None, TidalField(5.0, (4.0, 3.0))], ids=["free", "field"])
def test_gradient_through_ten_steps_is_the_finite_difference(name, softening, field):
    given = scenarios.make("few_body", n_systems=1, softening=softening, field=field)
    start, leaves = differentiable(given, "position", "mass")
    weight = torch.linspace(-1, 1, 6, dtype=torch.float64).view(3, 2)

    def end(position, mass):
        final = run(start.replace(position=position, mass=mass), name, 0.02, 10)
        return ((final.position + 2 * final.velocity) * weight).sum() + gravity.energy(final).sum()

    # Central differences of 1e-5 are good to about 1e-10 by truncation and by rounding.
    assert torch.autograd.gradcheck(end, leaves, eps=1e-5, atol=1e-6, rtol=1e-6)


@lru_cache
def outer_solar_system(name):
    """1000 steps of a 58th of a year: final state and largest relative energy error."""
    state = scenarios.make("outer_solar_system")
    step, dt = get_integrator(name).step, np.ones(1)
    initial, largest = gravity.energy(state), 0.0
    for _ in range(1000):
        state = step(state, dt)
        largest = max(largest, abs((gravity.energy(state) - initial) / initial).item())
    return state, largest


@pytest.mark.parametrize(
    ("name", "bar"),
    [
        # The bars of REBOUND's unit tests for orders 2, 4, 6, 8.
        ("leapfrog", 1e-3),
        ("suzuki4", 3e-6),
        ("kahan_li6", 1e-9),
        pytest.param("kahan_li8", 1e-13, marks=pytest.mark.xdist_group("outer")),
    ],
)
def test_energy_of_the_outer_solar_system_stays_under_the_bar(name, bar):
    assert outer_solar_system(name)[1] <= bar


@pytest.mark.xdist_group("outer")
def test_the_outer_solar_system_ends_where_rebound_ends():
    end, reference = outer_solar_system("kahan_li8")[0], scenarios.reference("outer_solar_system")
    assert end.time.item() == reference.t_end
    assert np.abs(end.position - reference.state.position).max() < 1e-8
    assert np.abs(end.velocity - reference.state.velocity).max() < 1e-8


def follow(state, t_end, eta):
    """8th order with steps of eta times the shortest time scale of a pair."""
    step = get_integrator("kahan_li8").step
    i, j = gravity.pair_indices(state.n_bodies, state.mass)
    mu = state.G * (state.mass[:, i] + state.mass[:, j])
    while state.time.item() < t_end:
        r, v = (
            np.linalg.norm(value[:, i] - value[:, j], axis=-1)
            for value in (state.position, state.velocity)
        )
        shortest = (mu**2 / r**6 + v**4 / r**4).max(axis=1) ** -0.25
        state = step(state, np.minimum(eta * shortest, t_end - state.time))
    return state


@pytest.mark.parametrize(
    ("name", "eta", "tolerance"),
    [
        # Regular problems: eta halved makes the error a few hundred times smaller, as 8th order
        # should; the tolerance is several times the error at this eta.
        ("figure_eight", 0.2, 1e-9),
        ("hierarchical_triple", 0.3, 3e-6),
        pytest.param("solar_system", 0.3, 1e-4, marks=pytest.mark.long),
        # Encounters multiply errors: 1e-11 in energy is 1e-7 in position by t = 50.
        ("many_encounters", 0.2, 1e-6),
        # 1e-9 in energy by the first encounters (r = 0.01) is 1e-6 at t = 40, and the reference's
        # own energy error is 3e-11.
        pytest.param("pythagorean", 0.07, 1e-4, marks=pytest.mark.long),
    ],
)
def test_known_problems_end_where_rebound_ends(name, eta, tolerance):
    reference = scenarios.reference(name)
    end = follow(scenarios.make(name), reference.t_end, eta)
    assert np.abs(end.position - reference.state.position).max() < tolerance
    assert np.abs(end.velocity - reference.state.velocity).max() < tolerance


def test_the_figure_eight_returns_after_one_period():
    start = scenarios.make("figure_eight")
    end = run(start, "kahan_li8", 6.32591398 / 200, 200)
    # Its initial conditions are known to 8 digits.
    assert np.abs(end.position - start.position).max() < 1e-6
    assert np.abs(end.velocity - start.velocity).max() < 1e-6


def test_an_unknown_integrator_is_named_with_the_nearest_one():
    with pytest.raises(InputError, match="did you mean 'leapfrog'"):
        get_integrator("leepfrog")


@pytest.mark.parametrize(
    ("order", "kicks", "drifts", "words"),
    [
        (2, (0.5, 0.4), (1.0,), r"kicks of a splitting are \(0.5, 0.4\) and sum to 0.9; they must"),
        (2, (0.5, 0.5), (1.0 + 1e-11,), "drifts of a splitting are .* must sum to 1"),
        (2, (0.5, 0.5), (), r"drifts of a splitting are \(\) and sum to 0"),
        (2, (0.5, 0.5), (0.5, 0.5), "2 kicks and 2 drifts; give one kick more"),
        (
            2,
            (0.3, 0.7),
            (1.0,),
            "are not symmetric and the order is 2; of such a splitting it is odd",
        ),
        (3, (0.5, 0.5), (1.0,), "are symmetric and the order is 3; of such a splitting it is even"),
        (0, (0.5, 0.5), (1.0,), "order of a splitting is 0; it must be a whole number, 1 or more"),
        (2.0, (0.5, 0.5), (1.0,), "order of a splitting is 2.0"),
        ("2", (0.5, 0.5), (1.0,), "order of a splitting is '2'"),
        (2, (0.5, 0.5), (math.nan,), r"drifts of a splitting are \(nan,\); give fractions"),
        (2, ("0.5", "0.5"), (1.0,), "kicks of a splitting are .*finite numbers such as"),
        (2, "0.5", (1.0,), "kicks of a splitting are '0.5'"),
        (2, None, (1.0,), "kicks of a splitting are None"),
    ],
)
def test_what_is_no_splitting_is_told_where_it_is_written(order, kicks, drifts, words):
    with pytest.raises(InputError, match=words):
        Splitting(order, kicks, drifts)


def test_coefficients_may_be_any_numbers_and_need_no_mirror_image():
    assert Splitting(2, [0.5, 0.5], np.ones(1)) == INTEGRATORS["leapfrog"]
    euler = Splitting(1, (1, 0), (1,))
    assert not euler.reversible
    state = scenarios.make("kepler")
    after = euler.step(state, np.array([0.1]))
    velocity = state.velocity + 0.1 * gravity.acceleration(state)
    np.testing.assert_array_equal(after.velocity, velocity)
    np.testing.assert_array_equal(after.position, state.position + 0.1 * velocity)


class Own:
    """An integrator of one's own, of which some attributes are wrong."""

    order, evaluations, evaluations_at_start, reversible = 2, 1, 0, False

    def __init__(self, **wrong):
        vars(self).update(wrong)

    def step(self, state, dt, errors=None):
        return state


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (Own(order="2"), "order of the integrator 'Own' is '2'; it must be a whole number, 1 or"),
        (Own(evaluations=-1), "evaluations of the integrator 'Own' is -1; .* number, 0 or more"),
        (Own(evaluations_at_start=True), "evaluations_at_start of the integrator 'Own' is True"),
        (Own(step=3), "step of the integrator 'Own' takes no call: 3; it must be called as"),
        (
            SimpleNamespace(step=Own.step),
            "integrator is SimpleNamespace, which is none .it has no order, ev",
        ),
        (partial(Own, order=3), "integrator is partial, which is none .it has no order"),
    ],
)
def test_integrators_are_told_by_a_readable_name_and_what_they_lack(given, words):
    with pytest.raises(InputError, match=words):
        get_integrator(given)


def test_only_what_is_in_the_table_has_a_name_of_the_table():
    assert name_of(Splitting(2, (0.5, 0.5), (1.0,))) == "leapfrog"
    assert name_of(type("leapfrog", (Own,), {})()) == "own leapfrog"
    assert name_of(Own()) == "Own"
