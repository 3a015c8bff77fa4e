import math

import numpy as np
import pytest
import torch
from symmetries import (
    KINDS,
    SYMMETRIES,
    assert_same_as_tensors,
    differentiable,
    in_other_units,
    random_states,
    restless_test_particles,
)

from nbcore.errors import InputError
from nbcore.physics import scenarios
from nbcore.physics.state import State
from nbcore.stepping.features import (
    DELTA_FEATURES,
    FEATURE_SETS,
    FEATURES,
    LEAST_BOUND,
    SCALE_FREE,
    Measures,
    delta_features,
    energy_unit,
    expand_names,
    scales_of,
    state_features,
)
from nbcore.stepping.spec import PolicySpec

EVERY = pytest.mark.parametrize("name", FEATURES)


def feature(name, state, scales=None):
    return state_features([name], Measures(state, scales))[:, 0]


@pytest.mark.parametrize("name", SCALE_FREE)
@pytest.mark.parametrize("symmetry", SYMMETRIES)
@pytest.mark.parametrize("n_dimensions", [2, 3])
def test_scale_free_feature_is_invariant(name, symmetry, n_dimensions):
    change, _ = SYMMETRIES[symmetry]
    state = random_states(1, 16, 4, n_dimensions, softening=0.1)
    # Features are of order 1; some are differences of logarithms.
    np.testing.assert_allclose(
        feature(name, change(state)), feature(name, state), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("normalisation", ["raw", "automatic", "manual"])
def test_arrays_and_tensors_have_the_same_features(kind, normalisation):
    def every_feature(state):
        scales = scales_of(state, normalisation, 4.0, 2.0, 7.0)
        measures = Measures(state, scales)
        return [scales, energy_unit(state), *(state_features([n], measures) for n in FEATURES)]

    assert_same_as_tensors(every_feature, KINDS[kind]())


@pytest.mark.parametrize("kind", KINDS)
def test_arrays_and_tensors_have_the_same_history(kind):
    def history(state):
        after = state.replace(position=state.position + 0.1 * state.velocity)
        dt = 0.1 + state.time
        return [*delta_features(state, after, dt, scales_of(state, "raw")).T]

    assert_same_as_tensors(history, KINDS[kind]())


# Of the pair in the energy, 2a/r = 2, and in its own orbit, which is rounded off to less; and as
# one that passes, (1/3)².
OWN, PASSING = 2 / math.hypot(1, 3 * LEAST_BOUND), 1 / 9
SHARE = (2**4 + OWN**4 + PASSING**4) / (2**3 + OWN**3 + PASSING**3)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("fly_by", 1 / 2),
        ("binding", 1 / 3),
        ("radial", 0.0),
        ("heaviness", 1.0),
        ("asymmetry", 0.75),
        ("crowding", 0.0),
        ("rate_contrast", 0.0),
        ("depth", math.log(SHARE)),
        ("compactness", -math.log(2) / 4),
        ("virial", 1 / 3),
        ("perturbation", 0.0),
    ],
)
def test_value_on_a_circular_orbit(name, value):
    """v² = μ/r, τ = 2^(−1/4)/ω, and masses 1 : 3."""
    state = scenarios.make("kepler", semi_major_axis=2.0, total_mass=3.0, mass_ratio=1 / 3)
    assert feature(name, state).item() == pytest.approx(value, abs=1e-14)


def test_crowding_counts_the_fastest_pairs():
    angle = 2 * np.pi / 3 * np.arange(3)
    corners = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    triangle = State.from_arrays(np.ones(3), corners, 0.3 * corners[:, ::-1])
    at_rest = triangle.replace(velocity=np.zeros_like(triangle.velocity))
    assert feature("crowding", at_rest).item() == pytest.approx(2 / 3, abs=1e-14)


def test_perturbation_is_the_pull_of_the_others_over_the_pair_s_own():
    """A close pair of masses 1 at distance 1, and a mass of 8 in line, 4 from the nearer one."""
    state = State.from_arrays([1.0, 1.0, 8.0], [[0, 0], [1, 0], [5.0, 0]], np.zeros((3, 2)))
    delta = (8 / 16 - 8 / 25) / 2
    # At 8th order the next pair weighs (P/P')⁸ = (9/4³/2)⁴ = 2e-5 times twice the share in the
    # energy, and has a feature of 1.6.
    value = state_features(["perturbation"], Measures(state, order=8)).item()
    assert value == pytest.approx(delta**2 / (1 + delta**2), rel=0.02)


def assert_finite(name, state):
    """A feature's numbers, and its gradient where it has one."""
    assert np.isfinite(feature(name, state)).all()
    state, leaves = differentiable(state, "position", "velocity")
    value = feature(name, state)
    assert bool(torch.isfinite(value).all())
    if value.requires_grad:
        gradients = torch.autograd.grad(value.sum(), leaves, allow_unused=True)
        assert all(g is None or bool(torch.isfinite(g).all()) for g in gradients)


@EVERY
@pytest.mark.parametrize("approach", [0.0, 0.3, -0.3])
def test_value_and_gradient_are_finite_with_test_particles(name, approach):
    assert_finite(name, restless_test_particles(approach))


@EVERY
@pytest.mark.parametrize("scenario", ["pythagorean", "kepler"])
def test_value_and_gradient_are_finite_at_rest_and_for_two_bodies(name, scenario):
    assert_finite(name, scenarios.make(scenario))


def statistics_by_hand(state):
    """The classical statistics of one system, body by body."""
    m, x, v = (y[0] for y in (state.mass, state.position, state.velocity))
    n, dimensions = x.shape
    pull = np.zeros_like(x)
    separation = []
    for i in range(n):
        for j in range(n):
            if i != j:
                d = x[j] - x[i]
                pull[i] += state.G * m[j] * d / (d @ d + state.softening**2) ** 1.5
            if i < j:
                separation.append(np.linalg.norm(x[j] - x[i]))
    values = {
        "mass": m,
        "distance": np.linalg.norm(x - np.average(x, axis=0, weights=m), axis=1),
        "speed": np.linalg.norm(v - np.average(v, axis=0, weights=m), axis=1),
        "acceleration": np.linalg.norm(pull, axis=1),
        "separation": np.array(separation),
    }
    found = {"n_bodies": n, "n_dimensions": dimensions, "total_mass": m.sum()}
    found["softening"] = state.softening
    for what, value in values.items():
        found[f"mean_{what}"] = value.mean()
        found[f"min_{what}"] = value.min()
        found[f"max_{what}"] = value.max()
        found[f"rms_{what}"] = np.sqrt((value**2).mean())
    return found


BASIC = (
    "n_bodies n_dimensions total_mass mean_distance max_distance mean_speed max_speed "
    "mean_acceleration max_acceleration min_separation mean_separation"
)


def test_sets_hold_the_features_by_which_policies_are_defined_however_many_more_there_are():
    assert set(FEATURE_SETS["pairs"]) < set(FEATURE_SETS["scale_free"]) <= set(SCALE_FREE)
    kinds = ("mean", "min", "max", "rms")
    rich = {"n_bodies", "n_dimensions", "total_mass", "softening"}
    rich |= {f"{k}_{w}" for k in kinds for w in ("mass", "distance", "speed", "acceleration")}
    rich |= {f"{k}_separation" for k in ("mean", "min", "max")}
    assert FEATURE_SETS["basic"] == tuple(BASIC.split())
    assert sorted(FEATURE_SETS["rich"]) == sorted(rich)


FIVE = random_states(4, 1, 5, softening=0.2, G=1.7)
BY_HAND = statistics_by_hand(FIVE)


def test_every_statistic_of_the_sets_is_known_by_hand():
    assert {*FEATURE_SETS["basic"], *FEATURE_SETS["rich"]} <= set(BY_HAND)


@pytest.mark.parametrize("name", BY_HAND)
def test_statistic_agrees_with_one_by_hand(name):
    assert feature(name, FIVE).item() == pytest.approx(BY_HAND[name], rel=1e-13)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda m: m.speed, r"feature 'mine' returned shape \(3, 4\) for 3 systems; .*\(3,\)"),
        (lambda m: 1.0, r"feature 'mine' returned shape \(\) for 3 systems"),
        (lambda m: None, "feature 'mine' returned None; it must return one number a system"),
    ],
)
@pytest.mark.parametrize("tensors", [False, True], ids=["arrays", "tensors"])
def test_a_feature_that_is_not_one_number_a_system_is_told(answer, message, tensors, monkeypatch):
    monkeypatch.setitem(FEATURES, "mine", answer)
    state = random_states(n_systems=3)
    with pytest.raises(InputError, match=message):
        feature("mine", state.to("cpu") if tensors else state)


UNITS = {"distance": 0, "separation": 0, "speed": 1, "acceleration": 2}
WITH_UNIT = [name for name in FEATURE_SETS["rich"] if name.split("_")[-1] in UNITS]


def test_automatic_units_are_those_of_the_state():
    state = random_states(4, 1, 5)
    found = statistics_by_hand(state)
    length, speed, pull, time = scales_of(state, "automatic")[0].tolist()
    assert length == pytest.approx(found["mean_separation"], rel=1e-13)
    assert speed == pytest.approx(found["rms_speed"], rel=1e-13)
    assert pull == pytest.approx(found["rms_acceleration"], rel=1e-13)
    assert time == pytest.approx(length / speed, rel=1e-15)


@pytest.mark.parametrize("name", [*WITH_UNIT, "softening"])
def test_a_statistic_in_automatic_units_does_not_depend_on_units(name):
    state = random_states(4, 8, 5, softening=0.1)
    other = in_other_units(state)
    np.testing.assert_allclose(
        feature(name, other, scales_of(other, "automatic")),
        feature(name, state, scales_of(state, "automatic")),
        rtol=1e-12,
    )


def test_automatic_units_are_finite_at_rest():
    scales = scales_of(scenarios.make("pythagorean"), "automatic")
    assert (np.isfinite(scales) & (scales > 0)).all()


def test_manual_units_take_acceleration_from_speed_and_length_unless_given():
    state = random_states(n_systems=2)
    assert scales_of(state, "manual", 4.0, 2.0).tolist() == [[4.0, 2.0, 1.0, 2.0]] * 2
    assert scales_of(state, "manual", 4.0, 2.0, 7.0).tolist() == [[4.0, 2.0, 7.0, 2.0]] * 2
    assert scales_of(state, "raw").tolist() == [[1.0] * 4] * 2


@pytest.mark.parametrize("name", WITH_UNIT)
def test_a_statistic_is_divided_by_its_unit(name):
    state = random_states(4, 3)
    scales = scales_of(state, "manual", 4.0, 2.0, 7.0)
    unit = scales[:, UNITS[name.split("_")[-1]]]
    np.testing.assert_allclose(feature(name, state, scales) * unit, feature(name, state))


def test_delta_features_agree_with_those_by_hand():
    before, after = random_states(1, 3, softening=0.1), random_states(2, 3, softening=0.1)
    after = after.replace(mass=before.mass)
    dt = np.array([0.1, 0.2, 0.3])
    scales = scales_of(before, "manual", 4.0, 2.0, 7.0)
    found = delta_features(before, after, dt, scales)
    assert found.shape == (3, len(DELTA_FEATURES)) == (3, 10)
    for k in range(3):
        expected = {"dt": dt[k].item() / 2.0}
        for what, unit in (("x", 4.0), ("v", 2.0), ("a", 7.0)):
            change = quantity(after, what, k) - quantity(before, what, k)
            size = np.sqrt((change**2).sum(axis=1)) / unit
            expected[f"mean_d{what}"] = size.mean()
            expected[f"max_d{what}"] = size.max()
            expected[f"rms_d{what}"] = np.sqrt((size**2).mean())
        assert found[k].tolist() == pytest.approx([expected[n] for n in DELTA_FEATURES], rel=1e-13)


def quantity(state, what, k):
    m, x, v = (y[k] for y in (state.mass, state.position, state.velocity))
    if what != "a":
        return {"x": x, "v": v}[what]
    R = x[None] - x[:, None]
    weight = m[None] / ((R**2).sum(-1) + state.softening**2) ** 1.5
    return (weight[..., None] * R).sum(axis=1)


def test_sets_are_written_out_once_and_history_is_set_aside():
    names, looks_back = expand_names(["basic", "mean_speed", "virial", "delta_mag"], 3)
    assert names == (*FEATURE_SETS["basic"], "virial")
    assert looks_back
    assert expand_names(["scale_free"], 0) == (FEATURE_SETS["scale_free"], False)


def test_unknown_feature_is_an_error_with_the_nearest_name():
    with pytest.raises(InputError, match="'mean_sped' is unknown; did you mean 'mean_speed'"):
        expand_names(["mean_sped"], 0)


@pytest.mark.parametrize(("names", "history"), [(["delta_mag"], 0), (["basic"], 2)])
def test_history_features_and_history_go_together(names, history):
    with pytest.raises(InputError, match=f"history = {history} don't go together"):
        expand_names(names, history)


def test_no_features_is_an_error():
    with pytest.raises(InputError, match="features is empty"):
        expand_names([], 0)


def test_a_name_alone_is_no_list_of_names():
    with pytest.raises(InputError, match=r"features is 'virial'; give a list of names"):
        PolicySpec(features="virial")
