import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some
from symmetries import KINDS, OF_SPACE, SYMMETRIES, assert_same_as_tensors, random_states

from nbcore.errors import InputError
from nbcore.physics import scenarios
from nbcore.physics.state import State
from nbcore.simulation.simulate import simulate
from nbcore.stepping.criteria import CRITERIA, get_criterion
from nbcore.stepping.features import DELTA_FEATURES, FEATURE_SETS, Measures
from nbcore.stepping.layers import ACTIVATIONS
from nbcore.stepping.policies import (
    Criterion,
    Custom,
    FixedStep,
    LearnedPolicy,
    Policy,
    PolicySpec,
    as_policy,
    trainable,
    untrained,
)
from nbcore.stepping.torch_models import StepNetwork

HISTORY = PolicySpec(features=("virial", "delta_mag"), history=3)


def tolerances(state, value=1e-6):
    return 0 * state.time + value


def random_policy(seed=0, spread=1.0, **settings):
    """A policy with normal weights, so that the network matters."""
    policy = trainable(PolicySpec(**settings))
    generator = torch.Generator().manual_seed(seed)
    for weight in policy.network.parameters():
        weight.data.normal_(std=spread, generator=generator)
    return policy


# The untrained policy


def time_scale_by_hand(state, order):
    """τ of every system, pair by pair: Σ share P^p = τ^−p."""
    G, found = state.G, []
    for m, x, v in zip(state.mass, state.position, state.velocity, strict=True):
        v = v - m @ v / m.sum()
        pairs = [(i, j) for i in range(len(m)) for j in range(i)]
        apart = {(i, j): (x[i] - x[j], np.linalg.norm(x[i] - x[j])) for i, j in pairs}
        pull = np.zeros_like(x)
        for (i, j), (R, r) in apart.items():
            pull[i] -= G * m[j] * R / r**3
            pull[j] += G * m[i] * R / r**3
        potential = {(i, j): G * m[i] * m[j] / r for (i, j), (_, r) in apart.items()}
        kinetic, bound = 0.5 * m @ (v**2).sum(axis=1), sum(potential.values())
        energy = max(abs(kinetic - bound), 1e-3 * (kinetic + bound))
        total = 0.0
        for (i, j), (R, r) in apart.items():
            v2, mu = ((v[i] - v[j]) ** 2).sum(), G * (m[i] + m[j])
            torn = np.linalg.norm(pull[i] - pull[j] + mu * R / r**3) * r**2 / mu
            orbit = 2 * mu / r / math.hypot(v2 - 2 * mu / r, 0.05 * (v2 + 2 * mu / r))
            aside = 1 - (R @ (v[i] - v[j])) ** 2 / (r**2 * v2 or 1.0)
            free = v2 / (v2 + 2 * mu / r)
            passing = free**2 / (1 + aside**1.5 * torn)
            each = np.array([potential[i, j] / energy, orbit / (1 + torn**2), passing])
            share = (each**4).sum() / (each**3).sum()  # about the largest of them
            total += share * (mu**2 / r**6 + v2**2 / r**4) ** (order / 4)
        found.append(total ** (-1 / order))
    return np.array(found)


@pytest.mark.parametrize("order", [2, 4, 6, 8])
@pytest.mark.parametrize(
    "features", [("scale_free",), ("basic",), ("rich",), ("scale_free", "rich")]
)
def test_untrained_policy_asks_the_same_energy_error_of_every_state(order, features):
    state = random_states(0, 5)
    policy = LearnedPolicy(PolicySpec(order=order, features=features, stretch=3.0))
    tolerance = np.logspace(-12, -1, 5)
    expected = 3 * time_scale_by_hand(state, order) * tolerance ** (1 / order)
    np.testing.assert_allclose(policy(state, tolerance), expected, rtol=1e-13)


def test_an_untrained_policy_comes_with_the_stretch_of_its_integrator():
    assert untrained("blanes_moan4").spec.stretch > untrained("leapfrog").spec.stretch
    policy = untrained("kahan_li8", hidden=(4,))
    assert policy.spec.order == 8
    assert str(policy) == "untrained"
    assert str(random_policy()) == "learned"


@pytest.mark.parametrize("output", [-100.0, -1.0, -0.01, 0.0, 0.01, 1.0, 100.0])
def test_the_network_s_output_is_the_logarithm_of_the_correction(output):
    state = random_states()
    policy = trainable(PolicySpec(largest_correction=50.0, precision="float64")).numpy()
    policy.network.biases[-1][:] = output
    prediction = policy.predict(state, tolerances(state), policy.begin(state))
    bound = math.log(50)
    expected = min(max(output, -bound), bound)
    assert np.log(prediction.correction).tolist() == pytest.approx([expected] * 4, abs=1e-12)


def test_untrained_policy_expects_the_tolerance_as_its_error():
    state = random_states()
    policy = LearnedPolicy(PolicySpec(predict_error=True))
    prediction = policy.predict(state, tolerances(state, 1e-5), policy.begin(state))
    assert prediction.log10_error.tolist() == pytest.approx([-5.0] * 4)
    assert prediction.correction.tolist() == pytest.approx([1.0] * 4)


def test_network_of_zeros_has_the_shape_that_was_asked_for():
    torch.manual_seed(0)
    network = StepNetwork(5, hidden=(7, 3), fourier_features=6, n_outputs=2)
    shapes = [tuple(w.shape) for w in network.parameters() if w.ndim == 2]
    assert shapes == [(7, 12), (3, 7), (2, 3)]
    assert bool((network(torch.randn(4, 5)) == 0).all())


def test_standardised_inputs_have_mean_zero_and_deviation_one():
    torch.manual_seed(0)
    samples = 3 + 2 * torch.randn(50, 2)
    samples[:, 1] = 7.0
    network = StepNetwork(2, hidden=())
    network.standardise(samples)
    scaled = (samples - network.mean) / network.deviation
    assert scaled[:, 0].mean().item() == pytest.approx(0, abs=1e-6)
    assert scaled[:, 0].std(correction=0).item() == pytest.approx(1, rel=1e-6)
    assert scaled[:, 1].tolist() == [0.0] * 50  # never varies: centred and left alone


# Any policy at any state


@given(
    seed=some.integers(0, 2**32 - 1),
    spread=some.sampled_from([0.1, 1.0, 30.0, 1e3]),
    activation=some.sampled_from(sorted(ACTIVATIONS)),
    features=some.sampled_from(["scale_free", "basic", "rich"]),
    normalisation=some.sampled_from(["raw", "manual", "automatic"]),
    fourier_features=some.sampled_from([0, 8]),
    precision=some.sampled_from(["float32", "float64"]),
    length=some.floats(-25, 25),
    mass=some.floats(-25, 25),
    G=some.floats(-15, 15),
    slow=some.sampled_from([0.0, 1e-12, 1.0, 1e6]),
    tolerance=some.floats(1e-16, 0.99),
)
def test_learned_step_is_positive_finite_and_near_the_classical_one(
    seed, spread, activation, features, normalisation, fourier_features, precision,
    length, mass, G, slow, tolerance,
):  # fmt: skip
    start = random_states(seed % 1000, 2)
    # cgs to megaparsecs, at rest to far beyond escape
    length, mass, G = 10.0**length, 10.0**mass, 10.0**G
    speed = slow * (G * mass / length) ** 0.5
    state = start.replace(
        position=length * start.position,
        mass=mass * start.mass,
        velocity=speed * start.velocity,
        G=G,
    )
    policy = random_policy(
        seed,
        spread,
        features=(features, "delta_mag"),
        history=2,
        normalisation=normalisation,
        activation=activation,
        fourier_features=fourier_features,
        dropout=0.5,
        precision=precision,
        predict_error=True,
    )
    wanted = tolerances(state, tolerance)
    memory = policy.begin(state)
    for _ in range(2):
        prediction = policy.predict(state, wanted, memory)
        plain = time_scale_by_hand(state, 4) * tolerance**0.25
        ratio = prediction.dt / plain
        assert (np.isfinite(prediction.dt) & (prediction.dt > 0)).all()
        assert ((ratio > 0.99 / 20) & (ratio < 1.01 * 20)).all()
        assert (np.abs(prediction.log10_error - np.log10(wanted)) <= 8 + 1e-13).all()
        after = state.replace(
            position=state.position + prediction.dt[:, None, None] * state.velocity
        )
        memory = policy.advance(memory, state, after, prediction.dt)


def test_dropout_is_off_in_use():
    policy = random_policy(dropout=0.5)
    for state in (random_states(), random_states().to("cpu")):
        once, again = (policy(state, tolerances(state)) for _ in range(2))
        assert (once == again).all()


@pytest.mark.parametrize("symmetry", SYMMETRIES)
def test_a_learned_step_is_invariant(symmetry):
    change, factor = SYMMETRIES[symmetry]
    state = random_states(1, 16, softening=0.1)
    policy = random_policy(precision="float64")
    dt, other = (policy(s, tolerances(s)) for s in (state, change(state)))
    np.testing.assert_allclose(other / factor, dt, rtol=1e-12)


OF_EVERY_SORT = {
    "a number": FixedStep(0.1),
    "a list": FixedStep([0.1, 0.2, 0.3, 0.4]),
    "an array": Criterion("boekholt", np.array([0.1, 0.2, 0.3, 0.4])),
    "tensors": Criterion("boekholt", torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)),
    "a rule": Custom(lambda state, tolerance: tolerance),
    "a rule of one number": Custom(lambda state, tolerance: 0.1),
    "untrained": untrained("kahan_li8"),
    "raw": random_policy(precision="float64"),
    "automatic": random_policy(precision="float64", features=("rich",), normalisation="automatic"),
    "manual": random_policy(precision="float64", features=("rich",), normalisation="manual"),
    "waves": random_policy(precision="float64", fourier_features=8),
    "linear": random_policy(precision="float64", hidden=()),
    "history": random_policy(precision="float64", features=("virial", "delta_mag"), history=3),
    "oldest": random_policy(
        precision="float64", features=("delta_mag",), history=3, history_padding="oldest"
    ),
    **{name: random_policy(precision="float64", activation=name) for name in ACTIVATIONS},
}


@pytest.mark.parametrize("sort", OF_EVERY_SORT)
@pytest.mark.parametrize("kind", KINDS)
def test_arrays_and_tensors_have_the_same_steps(kind, sort):
    policy = OF_EVERY_SORT[sort]

    def two_steps(state):
        state = State.concatenate([state] * (4 // state.n_systems))
        wanted, memory = tolerances(state), policy.begin(state)
        dt = policy(state, wanted, memory)
        after = state.replace(position=state.position + 0.1 * state.velocity)
        memory = policy.advance(memory, state, after, 0 * wanted + 0.1)
        return dt, policy(after, wanted, memory)

    assert_same_as_tensors(two_steps, KINDS[kind]())


def test_predicted_errors_of_arrays_and_tensors_are_the_same():
    policy = random_policy(precision="float64", predict_error=True)

    def prediction(state):
        return policy.predict(state, tolerances(state), policy.begin(state))

    assert_same_as_tensors(prediction, random_states())


# Whole runs that must not depend on frame, order or units

RUNS = {
    # A regular triple, and a quarter of an orbit: what rounding does to a step grows by powers of
    # the time and not exponentially, so that 1e-16 in the start stays below 1e-12.
    "triple": lambda: scenarios.make(
        "hierarchical_triple", masses=(1.0, 0.5, 0.8), inner_eccentricity=0.3, mutual_inclination=40
    ),
    "two bodies": lambda: scenarios.make("kepler", eccentricity=0.5, mass_ratio=0.3),
}


def sequence_of_steps(state, policy, stepping, n_steps=100):
    with pytest.warns(RuntimeWarning, match="1 MAX_STEPS"):
        run = simulate(
            state, float("inf"), policy, max_steps=n_steps, tolerance=1e-7, stepping=stepping
        )
    return run.dt[1:]


@pytest.mark.parametrize("stepping", ["plain", "reversible"])
@pytest.mark.parametrize("problem", RUNS)
def test_frame_order_and_units_leave_the_sequence_of_steps_unchanged(problem, stepping):
    start = RUNS[problem]()
    policy = random_policy(3, 0.4, precision="float64")
    steps = sequence_of_steps(start, policy, stepping)
    # The weights matter, and so the test does.
    untrained = sequence_of_steps(start, LearnedPolicy(PolicySpec()), stepping)
    assert (np.abs(np.log(steps / untrained))[:-1] > 0.1).any()
    for change, factor in OF_SPACE.values():
        other = sequence_of_steps(change(start), policy, stepping)
        np.testing.assert_allclose(other / factor, steps, rtol=1e-12)


@pytest.mark.parametrize("problem", RUNS)
def test_with_a_float32_network_the_steps_agree_to_its_rounding(problem):
    """An input that rounds to the neighbouring float32 moves a step by some 1e-7 of itself."""
    start = RUNS[problem]()
    policy = random_policy(3, 0.4)
    steps = sequence_of_steps(start, policy, "plain")
    for change, factor in OF_SPACE.values():
        other = sequence_of_steps(change(start), policy, "plain")
        np.testing.assert_allclose(other / factor, steps, rtol=1e-5)


# Memory


def steps_made(policy, n_steps, dt=None):
    """States and memory after steps of a batch of 2."""
    state = random_states(0, 2)
    memory, states = policy.begin(state), [state]
    for k in range(n_steps):
        after = random_states(k + 1, 2).replace(mass=state.mass)
        step = np.full(2, 0.1 * (k + 1)) if dt is None else dt[k]
        memory = policy.advance(memory, states[-1], after, step)
        states.append(after)
    return states, memory


def history_of(policy, state, memory):
    """The history as the network sees it, (B, K, 10)."""
    inputs = policy.inputs(Measures(state), tolerances(state), memory)
    return inputs[:, 2:].reshape(-1, policy.spec.history, len(DELTA_FEATURES))


def test_history_holds_the_newest_transition_first():
    policy = LearnedPolicy(HISTORY)
    states, memory = steps_made(policy, 5)
    seen = history_of(policy, states[-1], memory)
    assert seen[:, :, -1].tolist() == [pytest.approx([0.5, 0.4, 0.3])] * 2
    moved = np.linalg.norm(states[-1].position - states[-2].position, axis=-1).mean(axis=1)
    np.testing.assert_allclose(seen[:, 0, 0], moved)


@pytest.mark.parametrize(
    ("padding", "dts"),
    [
        ("zero", [[0, 0, 0], [0.1, 0, 0], [0.2, 0.1, 0], [0.3, 0.2, 0.1]]),
        ("oldest", [[0, 0, 0], [0.1, 0.1, 0.1], [0.2, 0.1, 0.1], [0.3, 0.2, 0.1]]),
    ],
)
def test_a_short_history_is_padded(padding, dts):
    policy = LearnedPolicy(dataclasses.replace(HISTORY, history_padding=padding))
    for n_steps, expected in enumerate(dts):
        states, memory = steps_made(policy, n_steps)
        seen = history_of(policy, states[-1], memory)
        assert seen[0, :, -1].tolist() == pytest.approx(expected)


def test_each_member_of_a_batch_has_its_own_history():
    policy = LearnedPolicy(HISTORY)
    steps = np.array([[0.1, 0.4], [0.2, 0.0], [0.3, 0.6]])
    states, memory = steps_made(policy, 3, steps)
    seen = history_of(policy, states[-1], memory)[:, :, -1]
    # The second member made no step the second time.
    assert seen.tolist() == [pytest.approx([0.3, 0.2, 0.1]), pytest.approx([0.6, 0.4, 0.0])]
    assert memory["steps"].tolist() == [3.0, 2.0]


def test_a_policy_with_history_runs_the_same_alone_and_in_a_batch():
    state = scenarios.make("few_body", n_systems=3, seed=4)
    policy = random_policy(1, 0.3, features=("scale_free", "delta_mag"), history=2)
    together = simulate(state, 0.2, policy)
    for k in range(3):
        alone = simulate(state.select([k]).replace(batched=False), 0.2, policy)
        assert alone.n_steps == together.n_steps[k]
        # In float32 a sum of another length may round otherwise, by some 1e-7 of a step.
        assert alone.time == pytest.approx(together.system(k).time, rel=1e-5)


def test_units_of_a_run_are_those_of_its_start():
    policy = LearnedPolicy(PolicySpec(features=("basic",), normalisation="automatic"))
    state = random_states(0, 2)
    memory = policy.begin(state)
    assert policy.advance(memory, state, random_states(1, 2), state.time + 1) is memory
    assert memory["scales"].shape == (2, 4)


# The other policies


def test_fixed_step_is_the_same_always_or_one_a_system():
    state = random_states(0, 3)
    assert FixedStep(0.1)(state, tolerances(state)).tolist() == [0.1] * 3
    each = np.array([0.1, 0.2, 0.3])
    assert FixedStep(each)(state, tolerances(state)).tolist() == pytest.approx([0.1, 0.2, 0.3])


@pytest.mark.parametrize("name", CRITERIA)
def test_criterion_multiplies_the_time_scale_by_eta(name):
    state = random_states(0, 3, softening=0.1)
    row = get_criterion(name)
    expected = 0.09**row.eta_power * row.time_scale(state)
    np.testing.assert_allclose(Criterion(name, 0.09)(state, tolerances(state)), expected)
    each = np.array([0.01, 0.04, 0.09])
    dt = Criterion(name, each)(state, tolerances(state))
    np.testing.assert_allclose(dt, each**row.eta_power * row.time_scale(state))


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_a_step_or_eta_that_is_not_positive_is_an_error(value):
    with pytest.raises(InputError, match=f"dt is {value}"):
        FixedStep(value)
    with pytest.raises(InputError, match=f"eta is {value}"):
        Criterion("boekholt", value)
    with pytest.raises(InputError, match="dt is"):
        FixedStep(np.array([0.1, value]))
    with pytest.raises(InputError, match="dt is"):
        FixedStep(torch.tensor([0.1, value]))


@pytest.mark.parametrize("policy", [FixedStep(np.ones(2)), Criterion("tidal", np.ones(2))])
def test_numbers_for_another_batch_are_an_error(policy):
    state = random_states(0, 3)
    with pytest.raises(InputError, match=r"has shape \(2,\) for 3 systems"):
        policy(state, tolerances(state))


def test_unknown_names_are_errors_with_the_nearest_name():
    with pytest.raises(InputError, match="did you mean 'aarseth85'"):
        Criterion("aarseth", 0.1)
    with pytest.raises(InputError, match="did you mean 'softsign'"):
        LearnedPolicy(PolicySpec(activation="softsin"))
    with pytest.raises(InputError, match="did you mean 'virial'"):
        LearnedPolicy(PolicySpec(features=("virail",)))


def test_a_function_is_a_policy():
    state = random_states(0, 3)

    def tenth_of_the_tolerance(state, tolerance):
        return 0.1 * tolerance

    policy = as_policy(tenth_of_the_tolerance)
    assert isinstance(policy, Custom)
    assert str(policy) == "tenth_of_the_tolerance"
    assert policy(state, tolerances(state, 0.5)).tolist() == pytest.approx([0.05] * 3)


def test_a_function_of_the_wrong_shape_is_an_error():
    state = random_states(0, 3)
    with pytest.raises(InputError, match=r"returned shape \(2,\) for 3 systems"):
        as_policy(lambda state, tolerance: [0.1, 0.2])(state, tolerances(state), {})


def test_a_specification_writes_sets_of_features_out():
    spec = PolicySpec(features=("pairs", "delta_mag", "fly_by", "virial"), history=1)
    assert spec.features == (*FEATURE_SETS["pairs"], "virial", "delta_mag")
    assert spec == PolicySpec(features=spec.features, history=1)


@pytest.mark.parametrize(
    "policy",
    [FixedStep(0.1), Criterion("tidal", 0.1), Custom(print), LearnedPolicy(PolicySpec())],
    ids=str,
)
def test_a_policy_is_taken_as_it_is(policy):
    assert isinstance(policy, Policy)
    assert as_policy(policy) is policy


@pytest.mark.parametrize("thing", ["boekholt", 0.1, object()])
def test_anything_else_is_an_error(thing):
    with pytest.raises(InputError, match="is not a policy"):
        as_policy(thing)


def test_number_of_inputs_is_that_of_the_features():
    spec = PolicySpec(features=("rich", "delta_mag"), history=4)
    expected = 1 + len(FEATURE_SETS["rich"]) + 4 * len(DELTA_FEATURES)
    for policy in (LearnedPolicy(spec), trainable(spec)):
        assert policy.network.weights[0].shape[1] == spec.n_inputs == expected


def test_a_network_that_goes_to_a_device_is_not_the_caller_s():
    policy = trainable(PolicySpec())
    assert policy.to("cpu").network is not policy.network
