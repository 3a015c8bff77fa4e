import math

import numpy as np
import pytest
import torch
from symmetries import assert_same_as_tensors, differentiable

from nbcore.errors import InputError
from nbcore.physics import gravity, scenarios
from nbcore.physics.fields import TidalField
from nbcore.physics.integrators import get_integrator
from nbcore.physics.state import State
from nbcore.simulation.simulate import simulate
from nbcore.simulation.trajectory import Trajectory
from nbcore.stepping.policies import FixedStep

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
    state, (position,) = differentiable(triple(field), "position")
    field.potential_energy(position, state.mass, state.time, state.G).sum().backward()
    force = state.mass[..., None] * field.acceleration(state.position, state.time, state.G)
    assert torch.allclose(force, -position.grad, rtol=1e-12, atol=1e-13)


@BOTH
@pytest.mark.parametrize("n_dimensions", [2, 3])
def test_the_tide_of_arrays_is_that_of_tensors(field, n_dimensions):
    cut = slice(n_dimensions)
    field = TidalField(field.mass, field.position[cut], field.velocity and field.velocity[cut])

    def tide(state):
        G, x, v, m, t = state.G, state.position, state.velocity, state.mass, state.time
        known = [field.acceleration(x, t, G)]
        for _ in range(3):
            known.append(field.derivative(x, v, known, t, G))
        of_bodies = (field.potential_energy(x, m, t, G), field.power(x, m, t, G))
        return [*known, field.tidal_tensor(x, t, G), *of_bodies]

    given = triple(None)
    position, velocity = (x[..., cut] for x in (given.position, given.velocity))
    assert_same_as_tensors(tide, given.replace(position=position, velocity=velocity))


@BOTH
def test_tide_is_the_pull_of_the_mass_less_its_pull_at_the_origin(field):
    """Oracle: the same mass as a fourth body, and a probe without mass at the origin."""
    state = triple(field)
    time = state.time.item()
    far = np.array(field.position) + time * np.array(field.velocity or (0, 0, 0))
    zero = np.zeros(3)
    full = State.from_arrays(
        [*state.mass[0], field.mass, 0.0],
        [*state.position[0], far, zero],
        np.zeros((5, 3)),
        G=state.G,
    )
    alone = state.replace(field=None)
    bodies = gravity.pair_accelerations(alone.position, alone.mass, alone.G, 0.0)
    of_bodies_at_origin = State.from_arrays(
        [*state.mass[0], 0.0], [*state.position[0], zero], np.zeros((4, 3)), G=state.G
    )
    pulled = gravity.acceleration(full)[0]
    at_origin = pulled[4] - gravity.acceleration(of_bodies_at_origin)[0, 3]
    expected = pulled[:3] - bodies[0] - at_origin
    ours = field.acceleration(state.position, state.time, state.G)[0]
    np.testing.assert_allclose(ours, expected, rtol=1e-11, atol=1e-12)


@BOTH
def test_nothing_is_felt_at_the_origin(field):
    origin, mass, time = np.zeros((1, 1, 3)), np.ones((1, 1)), np.array([0.7])
    assert not field.acceleration(origin, time, 1.0).any()
    assert not field.potential_energy(origin, mass, time, 1.0).any()


def test_power_is_the_change_of_the_potential_while_the_bodies_hold_still():
    state, (time,) = differentiable(triple(MOVING), "time")
    MOVING.potential_energy(state.position, state.mass, time, state.G).sum().backward()
    ours = MOVING.power(state.position, state.mass, state.time, state.G)
    assert torch.allclose(ours, time.grad, rtol=1e-12)


def largest_energy_error(field, integrator, n_steps):
    state, step = binary(field), get_integrator(integrator).step
    dt = np.full(1, 6.0 / n_steps)
    initial, errors = gravity.energy(state), []
    for _ in range(n_steps):
        state = step(state, dt)
        errors.append(abs((gravity.energy(state) - initial) / initial).item())
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
        get_integrator("hermite4").step(binary(MOVING), np.ones(1))


def test_a_moving_field_does_work():
    state, dt = binary(MOVING), np.full(1, 0.02)
    start = gravity.energy(state)
    for _ in range(300):
        state = get_integrator("kahan_li6").step(state, dt)
    assert abs(state.work.item()) > 1e-3
    bodies = gravity.kinetic_energy(state) + gravity.potential_energy(state)
    assert abs((bodies - start).item()) > 1e-3


class Trap:
    """Harmonic: a = −ω² x."""

    moving = False

    def __init__(self, omega):
        self.omega = omega

    def acceleration(self, position, time, G):
        return -(self.omega**2) * position

    def potential_energy(self, position, mass, time, G):
        return self.omega**2 * (mass * position.square().sum(-1)).sum(-1) / 2


class ShakenTrap(Trap):
    """Whose stiffness grows with time: ω² (1 + t)."""

    moving = True

    def acceleration(self, position, time, G):
        return super().acceleration(position, time, G) * (1 + time[:, None, None])

    def potential_energy(self, position, mass, time, G):
        return super().potential_energy(position, mass, time, G) * (1 + time)

    def power(self, position, mass, time, G):
        return super().potential_energy(position, mass, time, G)


def trapped(field=None):
    """A binary that is thrown across the trap."""
    state = scenarios.make("kepler", eccentricity=0.3, semi_major_axis=0.3)
    start = np.array([1.0, -0.5])
    return state.replace(
        position=state.position + start,
        velocity=state.velocity + start[::-1],
        field=Trap(0.7) if field is None else field,
    )


@pytest.mark.parametrize("policy", ["boekholt", "default"])
def test_in_a_field_of_one_s_own_a_binary_moves_as_its_law_says(policy):
    """Oracle: in a harmonic trap the centre of mass oscillates, whatever the bodies do."""
    state, t_end = trapped(), 3.0
    run = simulate(state, t_end, policy, tolerance=1e-6, record="ends")
    assert run.about["engine"] == "torch"
    where, speed = (x[0, 0].tolist() for x in gravity.centre_of_mass(state))
    found = gravity.centre_of_mass(run.final)[0][0, 0].tolist()
    phase = 0.7 * t_end
    for k in range(2):
        expected = where[k] * math.cos(phase) + speed[k] / 0.7 * math.sin(phase)
        assert found[k] == pytest.approx(expected, abs=1e-5)
    assert run.max_energy_error < 1e-5


def test_the_work_of_a_moving_field_of_one_s_own_is_accounted_for():
    run = simulate(trapped(ShakenTrap(0.7)), 1.0, FixedStep(1e-3), record="ends")
    assert run.max_energy_error < 1e-8
    assert abs(run.final.work.item()) > 0.1


def test_the_compiled_engine_says_that_it_does_not_take_a_field_of_one_s_own():
    with pytest.raises(InputError, match=r"take the field 'Trap'; use engine='torch'"):
        simulate(trapped(), 1.0, FixedStep(0.1), engine="compiled")


@pytest.mark.parametrize(
    ("policy", "integrator"), [("tidal", "suzuki4"), ("aarseth85", "suzuki4"), ("zemp", "hermite4")]
)
def test_what_needs_more_of_a_field_says_so(policy, integrator):
    with pytest.raises(InputError, match=r"of a field, which 'Trap' has not"):
        simulate(trapped(), 0.1, policy, integrator=integrator)


class Flat(Trap):
    """Whose energy has a number for each body."""

    def potential_energy(self, position, mass, time, G):
        return mass * position.square().sum(-1)


class Still(Trap):
    """Which moves and doesn't say how."""

    moving = True


@pytest.mark.parametrize(
    ("field", "message"),
    [
        (5, "no external field .it has no moving, acceleration, potential_energy."),
        (Trap, "it is a class"),
        (Still(1.0), "it has no power"),
        (Flat(1.0), r"potential_energy of the field 'Flat' returned \(1, 2\).*of shape \(1,\)"),
    ],
    ids=["number", "class", "no power", "shape"],
)
def test_what_is_no_field_is_told_before_the_run(field, message):
    with pytest.raises(InputError, match=message):
        simulate(trapped(field), 1.0, FixedStep(0.1))
    if not isinstance(field, Flat):
        with pytest.raises(InputError, match=message):
            State.from_arrays([1.0, 1.0], [[0.0, 0], [1, 0]], [[0.0, 0], [0, 1]], field=field)


class Wrong(Trap):
    """One of whose methods returns something else."""

    def __init__(self, name, answer):
        super().__init__(1.0)
        setattr(self, name, lambda *given: answer)


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("acceleration", gravity.acceleration),
        ("potential_energy", gravity.energy),
        ("derivative", lambda state: gravity.derivatives(state, 2)),
        ("tidal_tensor", gravity.tidal_tensor),
    ],
)
@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (None, "NoneType"),
        (0.0, "float"),
        (torch.ones(2), r"\(2,\) of torch.float32"),
        (np.ones((1, 2, 2)), r"\(1, 2, 2\) of float64"),
    ],
)
def test_what_a_field_answers_is_checked_wherever_it_is_asked(name, asked, answer, found):
    right = r"; it must be of shape \(1,.*\), of torch.float64"
    with pytest.raises(InputError, match=f"{name} of the field 'Wrong' returned {found}{right}"):
        asked(trapped(Wrong(name, answer)))


@pytest.mark.parametrize("name", ["acceleration", "power"])
def test_what_a_field_answers_within_a_step_is_checked(name):
    field = Wrong(name, torch.ones(3))
    field.moving = name == "power"
    state = trapped().replace(acceleration=gravity.acceleration(trapped()), field=field)
    with pytest.raises(InputError, match=rf"{name} of the field 'Wrong' returned \(3,\)"):
        get_integrator("leapfrog").step(state, 0.1 + 0 * state.time)


def test_a_stored_run_names_the_field_that_it_lacks_and_takes_it_back(tmp_path):
    run = simulate(trapped(), 1.0, FixedStep(0.1))
    with pytest.warns(RuntimeWarning, match="of the field 'Trap' only the name is stored"):
        path = run.save(tmp_path / "run.zarr")
    again = Trajectory.load(path)
    np.testing.assert_array_equal(again.position, run.position)
    np.testing.assert_array_equal(again.energy_error, run.energy_error)
    with pytest.raises(InputError, match=r"'Trap' of this run was not stored.*replace\(field=…\)"):
        gravity.energy(again.final)
    given_back = again.final.replace(field=run.final.field)
    # Which is written for tensors.
    energy, expected = (gravity.energy(each.to("cpu")) for each in (given_back, run.final))
    assert torch.equal(energy, expected)
    # What has lost its field already has nothing more to lose.
    assert Trajectory.load(again.save(tmp_path / "copy.zarr")).final.field == again.final.field


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
