import math

import numpy as np
import pytest
import torch

from nbcore.physics import scenarios
from nbcore.simulation import compiled_engine
from nbcore.simulation.kernels.loop import stretched
from nbcore.simulation.simulate import simulate
from nbcore.stepping.checkpoints import load_policy
from nbcore.stepping.control import FIRST_LOOK, ErrorControl
from nbcore.stepping.policies import Criterion, untrained

TOLERANCE = 1e-4
# error and the error at the last look, in tolerances -> decades of the error that are made good
LOOKED = {
    "near_enough": (0.5, 0.1, 0.0),
    "at_the_aim": (0.6, 0.1, 0.0),
    "too_accurate": (0.06, 0.06, 0.3),
    "far_too_accurate": (6e-5, 6e-5, 0.3),
    "no_error_at_all": (0.0, 0.0, 0.3),
    "too_wrong_and_growing": (6.0, 3.0, -0.4),
    "too_wrong_once_and_for_all": (6.0, 5.9, 0.0),
    "not_finite": (math.inf, 1.0, -1.0),
}


@pytest.mark.parametrize("order", [4, 6])
@pytest.mark.parametrize(("error", "seen", "decades"), LOOKED.values(), ids=LOOKED)
def test_what_a_look_changes_in_both_engines(error, seen, decades, order):
    numbers = torch.tensor([TOLERANCE, 1.1, error * TOLERANCE, seen * TOLERANCE]).double()
    tolerance, stretch, error, seen = (number[None] for number in numbers)
    stretch = 10 ** (0.1 / order) * torch.ones_like(stretch)  # 0.3 of 0.4 decades are left
    found = ErrorControl(tolerance, order).stretched(stretch, error, seen).item()
    assert found == pytest.approx(10 ** ((0.1 + decades) / order))
    args = (stretch.item(), error.item(), seen.item(), tolerance.item(), order)
    assert stretched.py_func(*args) == pytest.approx(found, rel=1e-14)


def test_all_changes_together_shorten_by_two_decades_and_lengthen_by_less_than_a_factor_3():
    stretch, tolerance = torch.ones(1).double(), torch.ones(1).double()
    for error, most in ((1e-9, 10**0.1), (1e9, 10**-0.5)):
        for k in range(9):
            error_now = torch.tensor([error * 2**k]).double()
            stretch = ErrorControl(tolerance, 4).stretched(stretch, error_now, error_now / 2)
        assert stretch.item() == pytest.approx(most)


def quiet(n_systems=4):
    return scenarios.make(
        "planetary_system", n_systems=n_systems, n_planets=2, planet_mass=(1e-5, 1e-4), seed=3
    )


def wrong_by(trajectory):
    largest = np.maximum(trajectory.max_energy_error, trajectory.max_body_error)
    return np.abs(np.log10(largest / trajectory.tolerance))


@pytest.mark.parametrize("integrator", ["blanes_moan4", "blanes_moan6"])
def test_quiet_planets_come_nearer_to_the_tolerance_for_fewer_evaluations(integrator):
    # An untrained policy is more careful than it need be.
    state, policy = quiet(16), untrained(integrator, stepping="reversible")
    policy.stretch(0.7)
    options = {"tolerance": 1e-6, "record": "ends"}
    steered = simulate(state, 100.0, policy, error_control=True, **options)
    free = simulate(state, 100.0, policy, **options)
    assert (free.max_body_error < 0.3e-6).all()
    assert np.median(wrong_by(steered)) < np.median(wrong_by(free)) - 0.2
    assert (steered.n_force_evaluations < free.n_force_evaluations).all()


@pytest.mark.filterwarnings("ignore:.*missed their tolerance")
def test_encounters_come_nearer_to_the_tolerance():
    state = scenarios.make("few_body", n_systems=100, virial_ratio=0.3, dimensions=3, seed=99)
    options = {"tolerance": 1e-5, "record": "ends", "max_steps": 50_000}
    steered = simulate(state, 10.0, error_control=True, **options)
    free = simulate(state, 10.0, **options)
    within = [(wrong_by(each) < np.log10(3)).mean() for each in (steered, free)]
    assert within[0] > within[1]


def test_the_first_steps_are_as_without():
    policy = load_policy("default").of("blanes_moan4")
    options = {"tolerance": 1e-6, "engine": "compiled"}
    steered = simulate(quiet(), 50.0, policy, error_control=True, **options)
    free = simulate(quiet(), 50.0, policy, **options)
    rows = min(steered.dt.shape[1], free.dt.shape[1])
    same = steered.dt[:, 1:rows] == free.dt[:, 1:rows]
    assert same[:, :FIRST_LOOK].all()
    assert not same.all(axis=1).any()


@pytest.mark.parametrize("stepping", ["plain", "reversible"])
@pytest.mark.filterwarnings("ignore:.*MAX_STEPS", "ignore:.*calibrated with")
def test_both_engines_make_the_same_changes(stepping):
    state, policy = quiet(), load_policy("default").of("blanes_moan6")
    options = {"tolerance": 1e-8, "stepping": stepping, "max_steps": 150, "error_control": True}
    compiled, torch_ = (
        simulate(state, 1e3, policy, engine=e, **options) for e in ("compiled", "torch")
    )
    np.testing.assert_allclose(compiled.dt, torch_.dt, rtol=1e-5)
    assert compiled.n_force_evaluations.tolist() == torch_.n_force_evaluations.tolist()


@pytest.mark.parametrize("turn", [0.0, 1e-4, 1.0])
def test_the_length_of_a_turn_changes_nothing(monkeypatch, turn):
    options = {"tolerance": 1e-6, "engine": "compiled", "error_control": True}
    expected = simulate(quiet(), 50.0, **options)
    monkeypatch.setattr(compiled_engine, "TURN", turn)
    again = simulate(quiet(), 50.0, **options)
    assert np.array_equal(again.dt, expected.dt, equal_nan=True)


@pytest.mark.parametrize(
    "policy", [Criterion("boekholt", 0.05), untrained("suzuki4")], ids=["classical", "untrained"]
)
def test_any_policy_may_be_controlled(policy):
    free, steered = (
        simulate(quiet(), 20.0, policy, tolerance=1e-3, error_control=how) for how in (False, True)
    )
    assert (wrong_by(steered) < wrong_by(free)).all()
    assert (steered.n_steps < free.n_steps).all()
