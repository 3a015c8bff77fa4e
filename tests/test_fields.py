import math

import numpy as np
import pytest
import torch

from nbcore.errors import InputError
from nbcore.physics import gravity, scenarios
from nbcore.physics.fields import TidalField
from nbcore.physics.integrators import get_integrator
from nbcore.physics.state import State

STILL = TidalField(5.0, (3.0, 4.0, -2.0))
MOVING = TidalField(5.0, (3.0, 4.0, -2.0), (0.4, -0.2, 0.3))
BOTH = pytest.mark.parametrize("field", [STILL, MOVING], ids=["still", "moving"])


def triple(field, seed=3):
    rng = np.random.default_rng(seed)
    position, velocity = rng.normal(size=(2, 3, 3))
    return State.from_arrays(
        [1.0, 2.0, 0.5], 0.5 * position, velocity, G=1.3, field=field, time=0.7
    )


@BOTH
def test_tide_is_minus_the_gradient_of_its_potential(field):
    state = triple(field)
    position = state.position.clone().requires_grad_()
    field.potential_energy(position, state.mass, state.time, state.G).sum().backward()
    force = state.mass[..., None] * field.acceleration(state.position, state.time, state.G)
    assert torch.allclose(force, -position.grad, rtol=1e-12, atol=1e-13)


@BOTH
def test_tide_is_the_pull_of_the_mass_less_its_pull_at_the_origin(field):
    """Oracle: the same mass as a fourth body, and a probe without mass at the origin."""
    state = triple(field)
    time = state.time.item()
    far = torch.as_tensor(np.array(field.position) + time * np.array(field.velocity or (0, 0, 0)))
    zero = torch.zeros(1, 3, dtype=torch.float64)
    full = State.from_arrays(
        torch.cat([state.mass[0], torch.tensor([field.mass, 0.0])]),
        torch.cat([state.position[0], far[None], zero]),
        torch.zeros(5, 3),
        G=state.G,
    )
    alone = state.replace(field=None)
    bodies = gravity.pair_accelerations(alone.position, alone.mass, alone.G, 0.0)
    of_bodies_at_origin = State.from_arrays(
        torch.cat([state.mass[0], torch.zeros(1)]),
        torch.cat([state.position[0], zero]),
        torch.zeros(4, 3),
        G=state.G,
    )
    pulled = gravity.acceleration(full)[0]
    at_origin = pulled[4] - gravity.acceleration(of_bodies_at_origin)[0, 3]
    expected = pulled[:3] - bodies[0] - at_origin
    ours = field.acceleration(state.position, state.time, state.G)[0]
    assert torch.allclose(ours, expected, rtol=1e-11, atol=1e-12)


@BOTH
def test_nothing_is_felt_at_the_origin(field):
    origin, mass = torch.zeros(1, 1, 3, dtype=torch.float64), torch.ones(1, 1).double()
    time = torch.tensor([0.7], dtype=torch.float64)
    assert not field.acceleration(origin, time, 1.0).any()
    assert not field.potential_energy(origin, mass, time, 1.0).any()


def test_power_is_the_change_of_the_potential_while_the_bodies_hold_still():
    state = triple(MOVING)
    time = state.time.clone().requires_grad_()
    MOVING.potential_energy(state.position, state.mass, time, state.G).sum().backward()
    ours = MOVING.power(state.position, state.mass, state.time, state.G)
    assert torch.allclose(ours, time.grad, rtol=1e-12)


def largest_energy_error(field, integrator, n_steps):
    state, step = binary(field), get_integrator(integrator).step
    dt = torch.full((1,), 6.0 / n_steps, dtype=torch.float64)
    initial, errors = gravity.energy(state), []
    for _ in range(n_steps):
        state = step(state, dt)
        errors.append(((gravity.energy(state) - initial) / initial).abs().item())
    return max(errors)


def binary(field):
    return scenarios.make("kepler", eccentricity=0.3, dimensions=3, field=field)


@BOTH
@pytest.mark.parametrize(
    ("integrator", "n_steps"), [("leapfrog", 200), ("suzuki4", 80), ("kahan_li6", 80)]
)
def test_energy_less_the_work_is_kept_to_the_order_of_the_integrator(field, integrator, n_steps):
    coarse = largest_energy_error(field, integrator, n_steps)
    fine = largest_energy_error(field, integrator, 2 * n_steps)
    assert math.log2(coarse / fine) == pytest.approx(get_integrator(integrator).order, abs=0.1)


def test_hermite_keeps_the_energy_in_a_still_field_to_fourth_order():
    coarse, fine = (largest_energy_error(STILL, "hermite4", n) for n in (200, 400))
    assert math.log2(coarse / fine) == pytest.approx(4, abs=0.1)


def test_hermite_refuses_a_moving_field():
    with pytest.raises(InputError, match="hermite4"):
        get_integrator("hermite4").step(binary(MOVING), torch.ones(1, dtype=torch.float64))


def test_a_moving_field_does_work():
    state, dt = binary(MOVING), torch.full((1,), 0.02, dtype=torch.float64)
    start = gravity.energy(state)
    for _ in range(300):
        state = get_integrator("kahan_li6").step(state, dt)
    assert abs(state.work.item()) > 1e-3
    bodies = gravity.kinetic_energy(state) + gravity.potential_energy(state)
    assert abs((bodies - start).item()) > 1e-3


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((0.0, (1.0, 0.0)), "field mass is 0"),
        ((-1.0, (1.0, 0.0)), "field mass is -1"),
        ((math.nan, (1.0, 0.0)), "not a finite number"),
        ((1.0, (math.inf, 0.0)), "not a finite number"),
        ((1.0, (0.0, 0.0)), "not all zero"),
        ((1.0, (1.0,)), "2 or 3 numbers"),
        ((1.0, (1.0, 0.0, 0.0, 0.0)), "2 or 3 numbers"),
        ((1.0, (1.0, 0.0), (1.0, 0.0, 0.0)), "as many numbers"),
        ((1.0, (1.0, 0.0), (math.nan, 0.0)), "not a finite number"),
    ],
)
def test_bad_fields_are_named(given, message):
    with pytest.raises(InputError, match=message):
        TidalField(*given)


def test_field_and_system_must_have_the_same_dimensions():
    state = scenarios.make("kepler", field=STILL)
    with pytest.raises(InputError, match="3 numbers and the system 2 dimensions"):
        gravity.acceleration(state)


def test_only_a_velocity_other_than_zero_moves():
    assert MOVING.moving
    assert not STILL.moving
    assert not TidalField(1.0, (1.0, 0.0), (0.0, 0.0)).moving
