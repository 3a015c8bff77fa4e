import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from symmetries import KINDS, assert_same_as_tensors

from nbcore.errors import InputError
from nbcore.physics import scenarios
from nbcore.physics.integrators import get_integrator
from nbcore.simulation.simulate import simulate
from nbcore.stepping.control import (
    CONTROLS,
    first_step,
    get_control,
    guard_of,
    is_last,
    plain,
    reversible,
)
from nbcore.stepping.policies import Criterion, LearnedPolicy, PolicySpec


def numbers(*values):
    return np.array(values)


POSITIVE = some.floats(1e-6, 1e6)


def test_plain_control_makes_the_proposed_step():
    assert plain(numbers(1.0, 2.0), numbers(5.0, 6.0)).tolist() == [5.0, 6.0]


@given(proposed=POSITIVE, jump=some.floats(math.log(0.2501), math.log(3.999)))
def test_reversible_control_keeps_the_harmonic_mean_both_ways(proposed, jump):
    # With 1/dt + 1/dt' = 2/τ and dt'/dt = e^jump
    tau = numbers(proposed)
    before = tau * (1 + math.exp(-jump)) / 2
    after = reversible(before, tau)
    assert (2 / (1 / before + 1 / after)).item() == pytest.approx(proposed, rel=1e-13)
    assert (after / before).item() == pytest.approx(math.exp(jump), rel=1e-13)
    assert reversible(after, tau).item() == pytest.approx(before.item(), rel=1e-13)


@pytest.mark.parametrize("previous", [1e-3, 0.4, 0.5, 0.6249, 2.51, 1e3])
def test_reversible_control_starts_anew_beyond_a_factor_of_four(previous):
    """dt' = dt/(2 dt/τ − 1) leaves [dt/4, 4 dt] where dt is outside [5τ/8, 5τ/2]."""
    assert reversible(numbers(previous), numbers(1.0)).item() == 1.0


@pytest.mark.parametrize("previous", [0.6251, 1.0, 2.49])
def test_within_a_factor_of_four_it_does_not(previous):
    after = reversible(numbers(previous), numbers(1.0)).item()
    assert after == pytest.approx(1 / (2 - 1 / previous), rel=1e-14)


def test_each_system_is_controlled_by_itself():
    after = reversible(numbers(1.0, 10.0, 2.0), numbers(1.0, 1.0, float("nan")))
    assert after[:2].tolist() == [1.0, 1.0]
    assert np.isnan(after[2])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CONTROLS)
def test_arrays_and_tensors_are_controlled_alike(name, kind):
    policy = Criterion("boekholt", 0.1)

    def control(state):
        proposed = policy(state, None)
        first, tolerance = first_step(state, lambda at: policy(at, None)), 1e-6 + 0 * state.time
        guard = guard_of(state, tolerance, 4)
        steps = [get_control(name)(first * factor, proposed) for factor in (0.1, 0.8, 2.0, 9.0)]
        return [first, *steps, *guard, guard.again(state, first), guard.own(state)]

    assert_same_as_tensors(control, KINDS[kind]())


def test_a_remainder_of_rounding_size_gets_no_step_of_its_own():
    assert is_last(numbers(2.0, 1.0, 1 - 1e-13, 1 - 1e-11), 1.0).tolist() == [True] * 3 + [False]


def test_unknown_stepping_is_an_error_with_the_nearest_name():
    with pytest.raises(InputError, match="'reversable' is unknown; did you mean 'reversible'"):
        get_control("reversable")


@pytest.mark.parametrize("phase", [0.2, 0.5, 0.8])
def test_first_step_leans_by_half_the_rate_of_the_proposals(phase):
    """On √(r³/μ)·η: τ̇ = (3/2) η √(r/μ) ṙ."""
    eta = 0.01
    state = scenarios.make("kepler", eccentricity=0.6, phase=phase)
    R, V = (x[0, 1] - x[0, 0] for x in (state.position, state.velocity))
    r = np.linalg.norm(R)
    rate = 1.5 * eta * math.sqrt(r) * (R @ V / r)

    def propose(state):
        return eta * np.linalg.norm(state.position[:, 1] - state.position[:, 0], axis=1) ** 1.5

    step = first_step(state, propose).item()
    # The central difference is good to the square of 1e-3 dt.
    assert step == pytest.approx(eta * r**1.5 * (1 + rate / 2), rel=1e-8)


def test_first_step_stays_within_a_factor_of_four():
    start = scenarios.make("kepler", eccentricity=0.5, phase=0.2)

    def steep(sign):
        def propose(state):
            moved = (state.position[:, 1] - start.position[:, 1]) @ start.velocity[0, 1]
            return 0.1 * np.exp(sign * 1e3 * moved)

        return propose

    assert first_step(start, steep(+1)).item() == pytest.approx(0.1 * 4)
    assert first_step(start, steep(-1)).item() == pytest.approx(0.1 / 4)


def test_the_same_steps_are_found_backward_in_time():
    policy, step = Criterion("boekholt", 0.1), get_integrator("leapfrog").step
    state = start = scenarios.make("kepler", eccentricity=0.7, phase=0.3)

    def tau(state):
        return policy(state, None)

    forward = [first_step(state, tau)]
    for _ in range(80):
        state = step(state, forward[-1])
        forward.append(reversible(forward[-1], tau(state)))
    state = state.replace(velocity=-state.velocity)
    backward = [reversible(forward[-1], tau(state))]
    for _ in range(79):
        state = step(state, backward[-1])
        backward.append(reversible(backward[-1], tau(state)))
    state = step(state, backward[-1])
    # Rounding; a neighbouring step differs by some per cent.
    np.testing.assert_allclose(backward, forward[-2::-1], rtol=1e-9)
    np.testing.assert_allclose(state.position, start.position, rtol=0, atol=1e-9)


def errors_at_apocentre(stepping, orbits):
    state = scenarios.make("kepler", eccentricity=0.9)
    run = simulate(
        state,
        2 * np.pi * orbits[-1],
        Criterion("boekholt", 0.07),
        integrator="leapfrog",
        stepping=stepping,
        record=2 * np.pi * np.array(orbits),
    )
    return run.energy_error


@pytest.mark.long
def test_reversible_steps_do_not_let_the_energy_drift_and_plain_steps_do():
    drifting = errors_at_apocentre("plain", [5, 25])
    steady = errors_at_apocentre("reversible", [5, 25])
    # Plain steps err the same way every orbit: five times as far after five times as many.
    assert drifting[1] / drifting[0] == pytest.approx(5, rel=0.2)
    # What is left is the part of an orbit by which the phase is off.
    assert steady[1] < drifting[1] / 1000


@pytest.mark.parametrize("name", ["leapfrog", "suzuki4"])
def test_first_steps_of_both_steppings_are_near_each_other(name):
    state = scenarios.make("few_body", n_systems=3, seed=1)
    first = {
        stepping: simulate(
            state, 0.5, Criterion("boekholt", 0.05), integrator=name, stepping=stepping
        ).dt[:, 1]
        for stepping in ("plain", "reversible")
    }
    assert first["reversible"] == pytest.approx(first["plain"], rel=0.1)


def test_hermite_can_not_be_reversible():
    state = scenarios.make("kepler")
    with pytest.raises(InputError, match="'hermite4' is not reversible"):
        simulate(state, 1.0, integrator="hermite4", stepping="reversible")


def test_a_policy_that_looks_back_can_not_be_reversible():
    state = scenarios.make("kepler")
    policy = LearnedPolicy(PolicySpec(features=("delta_mag",), history=2))
    with pytest.raises(InputError, match="can't be reversible"):
        simulate(state, 1.0, policy, stepping="reversible")
