import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some
from symmetries import (
    KINDS,
    OF_SPACE,
    assert_same_as_tensors,
    differentiable,
    random_states,
    restless_test_particles,
)

from nbcore.errors import InputError
from nbcore.physics import scenarios
from nbcore.physics.elementwise import inverse_root, quotient, where
from nbcore.physics.state import State
from nbcore.simulation.simulate import simulate
from nbcore.simulation.status import Status
from nbcore.stepping.criteria import (
    CRITERIA,
    free_fall,
    get_criterion,
    name_of,
    of_pairs,
    pair_rate4,
    smooth_time_scale,
)
from nbcore.stepping.policies import Criterion

EVERY = pytest.mark.parametrize("name", CRITERIA)
UNSOFTENED = pytest.mark.parametrize("name", [n for n in CRITERIA if n != "softened_acceleration"])
SEEDS = some.integers(0, 2**32 - 1)


def softening(name):
    return 0.05 if name == "softened_acceleration" else 0.0


def tau(name, state):
    return get_criterion(name).time_scale(state)


def circular(**kind):
    """Circular orbit with ω = √(3/8), unlike any power of the other numbers."""
    return scenarios.make("kepler", semi_major_axis=2.0, total_mass=3.0, **kind), math.sqrt(3 / 8)


@EVERY
@given(seed=SEEDS, n_bodies=some.integers(2, 6), n_dimensions=some.sampled_from([2, 3]))
def test_time_scale_is_positive_and_finite(name, seed, n_bodies, n_dimensions):
    for eps in {0.1, softening(name)}:
        value = tau(name, random_states(seed, 4, n_bodies, n_dimensions, softening=eps))
        assert value.shape == (4,)
        assert (np.isfinite(value) & (value > 0)).all()


@EVERY
@pytest.mark.parametrize("kind", KINDS)
def test_arrays_and_tensors_have_the_same_time_scale(name, kind):
    state = KINDS[kind]()
    state = state.replace(softening=state.softening or softening(name))
    assert_same_as_tensors(lambda state: [tau(name, state)], state)


@EVERY
@pytest.mark.parametrize("symmetry", OF_SPACE)
@pytest.mark.parametrize("n_dimensions", [2, 3])
def test_time_scale_depends_on_neither_frame_nor_order_nor_units(name, symmetry, n_dimensions):
    change, factor = OF_SPACE[symmetry]
    state = random_states(1, 16, 4, n_dimensions, softening=softening(name))
    # Rounding of the positions, some 1e-16, times the steepness of the snap and the crackle.
    np.testing.assert_allclose(tau(name, change(state)) / factor, tau(name, state), rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("free_fall", 1.0),
        ("huayno", 1 / math.sqrt(2)),
        ("aarseth85", 1.0),  # |d^k a/dt^k| = ω^k a
        ("prs23", 1.0),
        ("zemp", 1.0),
        ("boekholt", 2**-0.25),  # P⁴ = ω⁴ + ω⁴
    ],
)
@pytest.mark.parametrize("mass_ratio", [1.0, 0.1, 0.0])
def test_value_on_a_circular_orbit(name, value, mass_ratio):
    state, omega = circular(mass_ratio=mass_ratio)
    # The eccentricity in Zemp's rule is the root of a difference that is zero to rounding.
    rounding = 1e-7 if name == "zemp" else 1e-14
    assert tau(name, state).item() * omega == pytest.approx(value, rel=rounding)


@pytest.mark.parametrize("mass_ratio", [1.0, 0.1, 0.0])
def test_the_strongest_tide_is_the_heavier_body_s(mass_ratio):
    state, omega = circular(mass_ratio=mass_ratio, dimensions=3)
    # Eigenvalues 2, −1, −1 times G m/r³, and m = M/(1 + q).
    assert tau("tidal", state).item() * omega == pytest.approx(math.sqrt(1 + mass_ratio), rel=1e-14)


def test_softened_acceleration_is_that_of_gadget():
    state, _ = circular(softening=0.3)
    a = 1.5 * 2 / (2**2 + 0.3**2) ** 1.5
    value = tau("softened_acceleration", state).item()
    assert value == pytest.approx(math.sqrt(2 * 0.3 / a), rel=1e-14)
    assert get_criterion("softened_acceleration").eta_power == 0.5


def test_a_fast_fly_by_is_as_long_as_the_passage():
    state = random_states(3, n_bodies=2)
    fast = state.replace(velocity=1e4 * state.velocity)
    R, V = (x[:, 1] - x[:, 0] for x in (fast.position, fast.velocity))
    passage = np.linalg.norm(R, axis=-1) / np.linalg.norm(V, axis=-1)
    np.testing.assert_allclose(tau("free_fall", fast), passage, rtol=1e-14)
    # P = v/r up to (μ/(r v²))², at most 1e-14 here
    np.testing.assert_allclose(tau("boekholt", fast), passage, rtol=1e-13)


@pytest.mark.parametrize("phase", [0.1, 0.3, 0.7, 0.95])
def test_huayno_looks_ahead_by_the_rate_along_the_orbit(phase):
    def at(phase):
        state = scenarios.make("kepler", eccentricity=0.6, phase=phase)
        R, V = (np.linalg.norm(x[0, 1] - x[0, 0]) for x in (state.position, state.velocity))
        return state, (math.sqrt(R**3 / 2), R / V)

    h = 1e-5
    state, here = at(phase)
    scales = []
    for now, after, before in zip(here, at(phase + h)[1], at(phase - h)[1], strict=True):
        rate = (after - before) / (2 * h * 2 * math.pi)
        scales.append(now / (1 - min(rate, 1) / 2))
    # A central difference is good to h².
    assert tau("huayno", state).item() == pytest.approx(min(scales), rel=1e-8)


@pytest.mark.parametrize("phase", [0.0, 0.2, 0.5])
def test_zemp_raises_the_density_by_the_orbit_s_eccentricity(phase):
    state = scenarios.make("kepler", eccentricity=0.9, phase=phase)
    r = np.linalg.norm(state.position[0, 1] - state.position[0, 0])
    expected = math.sqrt(r**3 / (2.8 / 0.1))
    assert tau("zemp", state).item() == pytest.approx(expected, rel=1e-12)


def test_zemp_is_finite_on_a_parabolic_orbit():
    state, omega = circular()
    parabolic = state.replace(velocity=math.sqrt(2) * state.velocity)
    assert tau("zemp", parabolic).item() * omega == pytest.approx(0.1, rel=1e-12)


def test_smooth_time_scale_tends_to_the_fastest_pair_s():
    rate4 = np.array([[1.0, 16.0**4, 1e-3]])
    # The others count by the eighth power of 1/16.
    assert smooth_time_scale(rate4).item() == pytest.approx(1 / 16, rel=16**-8)


@EVERY
@pytest.mark.parametrize("approach", [0.0, 0.3, -0.3])
def test_test_particles_set_no_scale_of_each_other(name, approach):
    state = restless_test_particles(approach).replace(softening=softening(name))
    value = tau(name, state)
    assert (np.isfinite(value) & (value > 0)).all()


OF_PAIRS = ["free_fall", "huayno", "zemp", "boekholt", "tidal", "aarseth85", "prs23"]


@pytest.mark.parametrize("name", OF_PAIRS)
@pytest.mark.parametrize("distance", [0.0, 1e-120, 1e-9, 0.1])
def test_two_massless_bodies_do_not_see_each_other(name, distance):
    position = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, distance]])
    velocity = np.array([[0.0, 0.0], [0.0, 0.7], [0.0, -0.6]])
    both = State.from_arrays([1.0, 0.0, 0.0], position, velocity)
    ones = [State.from_arrays([1.0, 0.0], position[[0, k]], velocity[[0, k]]) for k in (1, 2)]
    least = min(tau(name, one).item() for one in ones)
    if name == "boekholt":
        rates = [pair_rate4(w, v * v, 1.0) for w, v in ((1.0, 0.7), (1 / (1 + distance**2), 0.6))]
        least = smooth_time_scale(np.array([rates])).item()
    assert tau(name, both).item() == pytest.approx(least, rel=1e-13)
    both, leaves = differentiable(both, "position", "velocity")
    value = tau(name, both)
    assert value.item() == pytest.approx(least, rel=1e-13)
    value.sum().backward()
    for leaf in leaves:
        assert leaf.grad is None or bool(torch.isfinite(leaf.grad).all())


@pytest.mark.parametrize("name", OF_PAIRS)
def test_massless_bodies_at_mutual_rest_leave_gradients_finite(name):
    state, (position,) = differentiable(restless_test_particles(), "position")
    tau(name, state).sum().backward()
    assert position.grad is not None
    assert bool(torch.isfinite(position.grad).all())


@pytest.mark.parametrize("name", OF_PAIRS)
def test_massless_clones_and_one_that_comes_across_them_keep_their_circle(name):
    position = [[0.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]
    velocity = [[0.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]]
    state = State.from_arrays([1.0, 0.0, 0.0, 0.0], position, velocity)
    one = State.from_arrays([1.0, 0.0], position[:2], velocity[:2])
    runs = [
        simulate(each, 2 * math.pi, Criterion(name, 0.1), engine="torch", record="ends")
        for each in (state, one)
    ]
    # The steps are those of a body alone; of sums over pairs, nearly so.
    assert runs[0].n_steps == pytest.approx(runs[1].n_steps, rel=0.01)
    moved = runs[0].final.position - state.position
    assert np.linalg.norm(moved, axis=-1).max() < 1e-4


def test_prs23_vanishes_where_an_acceleration_does_and_aarseth_does_not():
    start = scenarios.make("figure_eight")
    assert tau("prs23", start).item() < 1e-6
    assert tau("aarseth85", start).item() > 0.1


@pytest.mark.parametrize("name", ["free_fall", "huayno", "boekholt", "zemp", "tidal"])
def test_a_state_at_rest_falls(name):
    start = scenarios.make("pythagorean")
    assert 0 < tau(name, start).item() < 10


def test_unknown_criterion_is_an_error_with_the_nearest_name():
    with pytest.raises(InputError, match="'bokholt' is unknown; did you mean 'boekholt'"):
        get_criterion("bokholt")


def test_softened_acceleration_without_softening_is_an_error():
    with pytest.raises(InputError, match="needs softening > 0"):
        tau("softened_acceleration", random_states())


@UNSOFTENED
def test_each_system_of_a_batch_has_its_own(name):
    state = random_states(2, 5)
    alone = np.concatenate([tau(name, state.select([k])) for k in range(5)])
    # Sums over bodies may be taken in another order.
    np.testing.assert_allclose(tau(name, state), alone, rtol=1e-14)


def passing(r2, v2, rv, mu):
    """τ² of a pair: 1/(v²/r² + μ/r³), as a user would write it."""
    return where(mu > 0, quotient(r2, v2 + mu * inverse_root(r2), math.inf), math.inf)


def test_a_law_of_pairs_is_a_criterion_of_its_name():
    row = of_pairs(passing)
    assert (row.pair, name_of(row)) == (passing, "passing")
    state, omega = circular()
    assert row.time_scale(state).item() * omega == pytest.approx(2**-0.5, rel=1e-14)
    assert (of_pairs(free_fall).time_scale(state) == tau("free_fall", state)).all()
    run = simulate("pythagorean", 1.0, Criterion(row, eta=0.02))
    assert (run.policy, run.status) == ("passing", Status.SUCCESS)
    assert run.n_steps > 20


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda s: s.position, r"'<lambda>' returned shape \(3, 4, 3\) for 3 systems; .*\(3,\)"),
        (lambda s: None, "criterion '<lambda>' returned None; it must return one number a system"),
        (lambda s: 1.0, r"returned shape \(\) for 3 systems"),
    ],
)
@pytest.mark.parametrize("tensors", [False, True], ids=["arrays", "tensors"])
def test_a_criterion_that_is_not_one_number_a_system_is_told(answer, message, tensors):
    state = random_states(n_systems=3)
    state = state.to("cpu") if tensors else state
    with pytest.raises(InputError, match=message):
        Criterion(answer, eta=0.1)(state, state.time)


def blind(r2, v2, rv, mu):
    """τ² of a pair: (r/v)², infinite at rest."""
    return where(mu > 0, quotient(r2, v2, math.inf), math.inf)


@pytest.mark.parametrize("engine", ["auto", "torch"])
@pytest.mark.parametrize("stepping", ["plain", "reversible"])
def test_a_criterion_that_is_blind_to_what_moves_the_bodies_is_told(engine, stepping):
    policy = Criterion(of_pairs(blind), eta=0.02)
    with pytest.raises(InputError, match="criterion 'blind' gives inf for system 0 at the start"):
        simulate("pythagorean", 1.0, policy, stepping=stepping, engine=engine)


@pytest.mark.parametrize("tau", [math.nan, 0.0, -0.1])
def test_a_criterion_that_gives_no_time_at_the_start_is_told(tau):
    policy = Criterion(lambda state: 0 * state.time + tau, eta=0.02)
    with pytest.raises(InputError, match=f"gives {tau} for system 0 at the start"):
        simulate("pythagorean", 1.0, policy)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Criterion(dict, eta=0.1), "criterion is the class 'dict'; give an object of it"),
        (lambda: Criterion(None, eta=0.1), r"criterion None is unknown.*or of_pairs\(law\)"),
        (lambda: Criterion("boekholt"), "criterion 'boekholt' needs its eta, such as eta=0.05"),
        (lambda: Criterion("boekhold"), "did you mean 'boekholt'"),
        (
            lambda: Criterion(passing, eta=0.1),
            r"takes \(r2, v2, rv, mu\); a law of pairs is given as of_pairs\(law\)",
        ),
    ],
)
def test_what_is_no_criterion_is_told_with_the_remedy(make, message):
    with pytest.raises(InputError, match=message) as told:
        make()
    assert "\n" not in str(told.value)
