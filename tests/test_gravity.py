from functools import lru_cache
from itertools import product

import numpy as np
import pytest
import sympy
import torch
from hypothesis import given
from hypothesis import strategies as some
from symmetries import KINDS, assert_same_as_tensors, differentiable, with_clones

from nbcore.physics import gravity, scenarios
from nbcore.physics.fields import TidalField
from nbcore.physics.state import State

FIELDS = {
    "no field": None,
    "still field": TidalField(30.0, (6.0, -5.0, 4.0)),
    "moving field": TidalField(30.0, (6.0, -5.0, 4.0), (-0.5, 0.3, 0.7)),
}
SEEDS = some.integers(0, 2**32 - 1)


def random_state(seed=0, n_bodies=3, n_dimensions=3, **kind):
    rng = np.random.default_rng(seed)
    return State.from_arrays(
        rng.uniform(0.5, 2, n_bodies),
        rng.normal(size=(n_bodies, n_dimensions)),
        rng.normal(size=(n_bodies, n_dimensions)),
        **kind,
    )


@lru_cache
def attraction_along_motion():
    """R/(R² + ε²)^(3/2) and its first three derivatives in time, by SymPy."""
    t, softening = sympy.symbols("t softening")
    R = [sympy.Function(f"R{axis}")(t) for axis in range(3)]
    motion = [[sympy.diff(x, t, k) for x in R] for k in range(4)]
    plain = [[sympy.Symbol(f"d{k}_{axis}") for axis in range(3)] for k in range(4)]
    # Highest derivatives first, else R would be replaced inside them.
    names = [pair for k in (3, 2, 1, 0) for pair in zip(motion[k], plain[k], strict=True)]
    r2 = sum(x**2 for x in R) + softening**2
    functions = []
    for k in range(4):
        terms = [sympy.diff(x / r2 ** sympy.Rational(3, 2), t, k).subs(names) for x in R]
        functions.append(sympy.lambdify([*plain, softening], terms, cse=True))
    return functions


def derivatives_by_sympy(state):
    """Acceleration to crackle, (4, N, D), built up along the flow."""
    x, v = state.position[0], state.velocity[0]
    known, attraction, field = [x, v], attraction_along_motion(), state.field
    for k in range(4):
        still = [np.zeros_like(x)] * 4
        motion = [*known, *still][: max(4, len(known))]
        total = np.zeros_like(x)
        for i, j in product(range(len(x)), repeat=2):
            if i != j:
                pair = [m[j] - m[i] for m in motion[:4]]
                pull = np.array(attraction[k](*pair, state.softening))
                total[i] += state.G * float(state.mass[0, j]) * pull
        if field is not None:
            zero = np.zeros(3)
            far = [np.array(field.position), np.array(field.velocity or zero), zero, zero]
            for i in range(len(x)):
                near = [f - m[i] for f, m in zip(far, motion[:4], strict=True)]
                tide = np.array(attraction[k](*near, 0)) - attraction[k](*far, 0)
                total[i] += state.G * field.mass * tide
        known.append(total)
    return np.array(known[2:])


@pytest.mark.parametrize("softening", [0.0, 0.3])
@pytest.mark.parametrize("field", FIELDS)
def test_acceleration_jerk_snap_and_crackle_are_the_derivatives_along_the_flow(field, softening):
    state = random_state(1, G=1.7, softening=softening, field=FIELDS[field])
    for ours, expected in zip(
        gravity.derivatives(state, 4), derivatives_by_sympy(state), strict=True
    ):
        assert np.abs(ours[0] - expected).max() <= 1e-12 * np.abs(expected).max()


QUANTITIES = (
    gravity.energy,
    gravity.energy_scale,
    gravity.energy_size,
    gravity.momentum,
    gravity.angular_momentum,
    lambda state: gravity.momentum_scale(state, gravity.energy_scale(state)),
)


@pytest.mark.parametrize("many", [256, 2])
@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("kind", KINDS)
def test_arrays_and_tensors_have_the_same_gravity(monkeypatch, kind, field, many):
    monkeypatch.setattr(gravity, "MANY", many)
    state = KINDS[kind]()
    if (given := FIELDS[field]) is not None:
        place, motion = (x and x[: state.n_dimensions] for x in (given.position, given.velocity))
        state = state.replace(field=TidalField(given.mass, place, motion))

    def gravity_of(state):
        quantities = [quantity(state) for quantity in QUANTITIES]
        tensor, centre = gravity.tidal_tensor(state), gravity.centre_of_mass(state)
        return [*gravity.derivatives(state, 4), tensor, *quantities, *centre]

    assert_same_as_tensors(gravity_of, state)


def test_derivatives_come_one_by_one_as_they_come_together():
    state = random_state(2, softening=0.1)
    together = gravity.derivatives(state, 4)
    for order in range(1, 5):
        for one, other in zip(gravity.derivatives(state, order), together, strict=False):
            assert np.array_equal(one, other)


def test_two_bodies_attract_by_the_inverse_square_law():
    state = State.from_arrays([2.0, 3.0], [[0.0, 0.0], [2.0, 0.0]], np.zeros((2, 2)), G=5.0)
    assert gravity.acceleration(state)[0].tolist() == [[5 * 3 / 4, 0.0], [-5 * 2 / 4, 0.0]]
    assert gravity.potential_energy(state).item() == pytest.approx(-5 * 2 * 3 / 2, rel=1e-15)


@pytest.mark.parametrize("softening", [0.0, 0.4])
def test_force_is_minus_the_gradient_of_the_potential(softening):
    state, (position,) = differentiable(
        random_state(3, n_bodies=5, softening=softening), "position"
    )
    gravity.potential_energy(state).sum().backward()
    force = state.mass[..., None] * gravity.acceleration(state)
    assert position.grad is not None
    assert torch.allclose(force, -position.grad, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("softening", [0.0, 0.4])
@pytest.mark.parametrize("field", FIELDS)
def test_tidal_tensor_is_the_jacobian_of_a_probe_s_acceleration(field, softening):
    state = random_state(4, softening=softening, field=FIELDS[field]).to("cpu")
    ours = gravity.tidal_tensor(state)[0]

    def acceleration(position):
        return gravity.acceleration(state.replace(position=position[None]))[0]

    full = torch.autograd.functional.jacobian(acceleration, state.position[0])
    assert isinstance(full, torch.Tensor)
    for i in range(state.n_bodies):
        assert torch.allclose(ours[i], full[i, :, i], rtol=1e-11, atol=1e-12)


def test_a_body_without_mass_feels_and_does_not_act():
    state = random_state(5, n_bodies=4)
    mass = state.mass.copy()
    mass[0, 3] = 0
    probed = state.replace(mass=mass)
    alone = State.from_arrays(mass[0, :3], state.position[0, :3], state.velocity[0, :3])
    for ours, expected in zip(
        gravity.derivatives(probed, 4), gravity.derivatives(alone, 4), strict=True
    ):
        np.testing.assert_allclose(ours[:, :3], expected, rtol=1e-13, atol=1e-13)
        assert (ours[:, 3] != 0).all()
    for quantity in (gravity.energy, gravity.momentum, gravity.angular_momentum):
        np.testing.assert_allclose(quantity(probed), quantity(alone), rtol=1e-13, atol=1e-13)


def functions_of(state):
    return [*gravity.derivatives(state, 4), gravity.tidal_tensor(state), gravity.energy(state)]


@pytest.mark.parametrize("many", [256, 2])
def test_massless_bodies_at_one_place_exert_nothing_on_each_other(monkeypatch, many):
    monkeypatch.setattr(gravity, "MANY", many)
    state = with_clones()
    for k in range(2, 6):
        index = [0, 1, k]
        arrays = (value[0, index] for value in (state.mass, state.position, state.velocity))
        alone = State.from_arrays(*arrays)
        for ours, expected in zip(functions_of(state), functions_of(alone), strict=True):
            ours = ours[:, index] if ours.ndim > 1 else ours
            np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("many", [256, 2])
def test_gradients_are_finite_where_massless_bodies_coincide(monkeypatch, many):
    monkeypatch.setattr(gravity, "MANY", many)
    state = with_clones()
    for k in range(len(functions_of(state))):
        moved, leaves = differentiable(state, "position", "velocity", "mass")
        functions_of(moved)[k].sum().backward()
        for leaf in leaves:
            assert leaf.grad is None or bool(torch.isfinite(leaf.grad).all())


def test_gradients_are_finite_without_softening():
    state, (position,) = differentiable(random_state(6), "position")
    sum(d.sum() for d in gravity.derivatives(state, 4)).backward()
    assert position.grad is not None
    assert bool(torch.isfinite(position.grad).all())


@given(seed=SEEDS, n_dimensions=some.sampled_from([2, 3]), softening=some.sampled_from([0.0, 0.5]))
def test_energy_and_forces_turn_shift_and_mirror_with_the_system(seed, n_dimensions, softening):
    state = random_state(seed, 4, n_dimensions, softening=softening)
    rng = np.random.default_rng(seed + 1)
    turn = np.linalg.qr(rng.normal(size=(n_dimensions, n_dimensions)))[0]
    shift = rng.normal(size=n_dimensions)
    turned = state.replace(
        position=state.position @ turn.T + shift, velocity=state.velocity @ turn.T
    )
    # A shift costs digits of the closest pair: 1e-16 of the position over its distance.
    np.testing.assert_allclose(gravity.energy(turned), gravity.energy(state), rtol=1e-9, atol=1e-9)
    for ours, expected in zip(
        gravity.derivatives(turned, 2), gravity.derivatives(state, 2), strict=True
    ):
        scale = np.abs(expected).max()
        assert np.abs(ours - expected @ turn.T).max() <= 1e-9 * scale
    size, spin = (
        np.linalg.norm(gravity.angular_momentum(each))
        for each in (state, turned.replace(position=state.position @ turn.T))
    )
    assert spin == pytest.approx(size, rel=1e-9, abs=1e-12)


@given(seed=SEEDS)
def test_bodies_can_change_places(seed):
    state = random_state(seed, 5)
    order = np.random.default_rng(seed).permutation(5)
    moved = state.replace(
        mass=state.mass[:, order],
        position=state.position[:, order],
        velocity=state.velocity[:, order],
    )
    np.testing.assert_allclose(gravity.energy(moved), gravity.energy(state), rtol=1e-12, atol=1e-12)
    expected = gravity.acceleration(state)
    difference = gravity.acceleration(moved) - expected[:, order]
    assert np.abs(difference).max() <= 1e-13 * np.abs(expected).max()


@given(seed=SEEDS, length=some.floats(1e-3, 1e3), heavier=some.floats(1e-3, 1e3))
def test_units_are_free(seed, length, heavier):
    state = random_state(seed, softening=0.2)
    speed = (heavier / length) ** 0.5
    other = state.replace(
        mass=state.mass * heavier,
        position=state.position * length,
        velocity=state.velocity * speed,
        softening=state.softening * length,
    )
    scale = gravity.energy_scale(state) * heavier**2 / length
    difference = gravity.energy(other) - gravity.energy(state) * heavier**2 / length
    assert np.abs(difference) <= 1e-13 * scale


@given(seed=SEEDS)
def test_odd_derivatives_change_sign_when_time_runs_backward(seed):
    state = random_state(seed)
    forward = gravity.derivatives(state, 4)
    backward = gravity.derivatives(state.replace(velocity=-state.velocity), 4)
    for sign, one, other in zip((1, -1, 1, -1), forward, backward, strict=True):
        assert np.array_equal(one, sign * other)


def test_angular_momentum_in_the_plane_is_its_third_component_in_space():
    flat = scenarios.make("pythagorean").replace(velocity=np.ones((1, 3, 2)))
    deep = scenarios.make("pythagorean", dimensions=3)
    velocity = np.pad(flat.velocity, ((0, 0), (0, 0), (0, 1)))
    x, y, z = gravity.angular_momentum(deep.replace(velocity=velocity))[0].tolist()
    assert (x, y) == (0, 0)
    assert gravity.angular_momentum(flat)[0].tolist() == [z]


def test_each_system_of_a_batch_is_alone():
    batch = scenarios.make("few_body", n_systems=3, n_bodies=4)
    for k in range(3):
        one = batch.select([k])
        for ours, expected in zip(
            gravity.derivatives(one, 3), gravity.derivatives(batch, 3), strict=True
        ):
            np.testing.assert_allclose(ours[0], expected[k], rtol=1e-13, atol=1e-13)


def test_a_change_is_measured_against_the_scale_where_the_initial_value_is_rounding():
    scale, zero, vector = np.array([10.0]), np.array([[1e-16]]), np.array([[3.0, 4.0]])
    assert gravity.relative_size(zero, scale).item() == 10.0
    assert gravity.relative_size(vector, scale).item() == 5.0


def test_pairs_block_by_block_give_what_all_at_once_give(monkeypatch):
    state = scenarios.make("plummer", n_bodies=300, n_systems=2, seed=1).replace(softening=0.1)
    monkeypatch.setattr(gravity, "blocks", lambda position: [slice(0, 7), slice(7, 300)])
    blocks = gravity.potential_energy(state), gravity.acceleration(state)
    monkeypatch.setattr(gravity, "MANY", 1000)
    np.testing.assert_allclose(blocks[0], gravity.potential_energy(state), rtol=1e-13)
    np.testing.assert_allclose(blocks[1], gravity.acceleration(state), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_pairs_that_act_are_all_but_those_of_bodies_without_mass(kind):
    mass = kind(np.array([[0.0, 1.0, 0.0, 2.0, 0.0], [0.0, 1.0, 0.0, 0.0, 0.0]]))
    every = zip(*gravity.pair_indices(5, mass), strict=True)
    acting = {(int(i), int(j)) for i, j in every if (mass[0, i] > 0) | (mass[0, j] > 0)}
    i, j = gravity.acting_pairs(mass)
    assert type(i) is type(j) is type(mass)
    assert list(zip(i.tolist(), j.tolist(), strict=True)) == sorted(acting)
