"""The splitting of Wisdom and Holman: Kepler orbits, Jacobi coordinates, corrector, whole steps."""

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some
from symmetries import G, in_other_units, random_states

from nbcore.errors import InputError
from nbcore.physics import gravity, scenarios
from nbcore.physics.arrays import is_tensor, to_numpy
from nbcore.physics.fields import TidalField
from nbcore.physics.integrators import get_integrator
from nbcore.physics.kepler import drift
from nbcore.physics.orbits import orbit
from nbcore.physics.rebound_io import to_rebound
from nbcore.physics.state import State
from nbcore.physics.wisdom_holman import (
    SETTINGS,
    WisdomHolman,
    corrector,
    from_jacobi,
    interaction,
    jacobi_order,
    lazy_interaction,
    to_jacobi,
)

MU = 1.7
EVERY = pytest.mark.parametrize("setting", SETTINGS)


def conic(e, anomaly, mu=MU):
    """Position and velocity (1, 3) on an orbit with pericentre 1, at a true anomaly."""
    r, speed = (1 + e) / (1 + e * np.cos(anomaly)), np.sqrt(mu / (1 + e))
    position = r * np.array([np.cos(anomaly), 0.6 * np.sin(anomaly), 0.8 * np.sin(anomaly)])
    forward = speed * (e + np.cos(anomaly))
    velocity = np.array([-speed * np.sin(anomaly), 0.6 * forward, 0.8 * forward])
    return position[None], velocity[None]


def moved(position, velocity, h, mu=MU):
    """The same on its Kepler orbit after h, in numbers of 50 digits, by halving alone."""
    with mpmath.workdps(50):
        mu, h = mpmath.mpf(mu), mpmath.mpf(h)
        x, v = mpmath.matrix(position.tolist()), mpmath.matrix(velocity.tolist())
        r, eta = mpmath.norm(x), (x.T * v)[0]
        beta = 2 * mu / r - (v.T * v)[0]

        def G(s):
            w = mpmath.sqrt(mpmath.mpc(beta)) * s
            if abs(w) < mpmath.mpf(10) ** -12:
                return 1 - beta * s**2 / 2, s - beta * s**3 / 6, s**2 / 2, s**3 / 6
            G0, G1 = mpmath.re(mpmath.cos(w)), mpmath.re(s * mpmath.sin(w) / w)
            return G0, G1, (1 - G0) / beta, (s - G1) / beta

        def late(s):
            return r * s + eta * G(s)[2] + (mu - beta * r) * G(s)[3] - h

        low, high = -mpmath.mpf(1), mpmath.mpf(1)
        while late(low) > 0:
            low *= 2
        while late(high) < 0:
            high *= 2
        for _ in range(110):
            middle = (low + high) / 2
            low, high = (low, middle) if late(middle) > 0 else (middle, high)
        _, G1, G2, G3 = G(low)
        after = r + eta * G1 + (mu - beta * r) * G2
        place = (1 - mu * G2 / r) * x + (h - mu * G3) * v
        speed = -mu * G1 / (r * after) * x + (1 - mu * G2 / after) * v
        return np.array(list(map(float, place))), np.array(list(map(float, speed)))


@pytest.mark.parametrize("h", [0.01, -0.3, 3.0, -40.0, 1000.0])
@pytest.mark.parametrize("e", [0, 0.5, 0.99, 1, 3])
@pytest.mark.parametrize("anomaly", [0.0, 1.5, -1.5])
def test_a_drift_is_right_to_rounding_on_orbits_of_any_shape(e, anomaly, h):
    position, velocity = conic(e, anomaly)
    after = drift(np.array([MU]), position, velocity, np.array([h]))
    # Orbits round off their period, and so their phase, by every period that is gone through.
    periods = abs(h) * np.sqrt(MU * max(1 - e, 0) ** 3) / (2 * np.pi)
    for ours, exact in zip(after, moved(position[0], velocity[0], h), strict=True):
        off = np.linalg.norm(ours[0] - exact) / np.linalg.norm(exact)
        assert off < 2e-14 * (1 + periods)


def test_orbits_of_all_kinds_drift_in_one_batch_each_for_a_time_of_its_own():
    shapes, times = [0.2, 0.999, 1, 1.5, 40], np.array([7.0, -1e3, 50.0, 0.1, -1e4])
    starts = map(conic, shapes, [2.0, 2.0, 0.5, 0.5, 0.5])
    position, velocity = map(np.stack, zip(*starts, strict=True))
    both = drift(np.full((5, 1), MU), position, velocity, times[:, None])
    for k in range(5):
        alone = drift(np.array([MU]), position[k], velocity[k], times[k])
        for one, other in zip(both, alone, strict=True):
            np.testing.assert_allclose(one[k], other, rtol=1e-13)


def test_a_drift_for_no_time_changes_nothing():
    for e in (0, 0.99, 1, 3):
        before = conic(e, 1.2)
        after = drift(np.array([MU]), *before, np.array([0.0]))
        assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


NORMAL = {"allow_subnormal": False}  # which other libraries in the process may have switched off


@given(
    e=some.floats(0, 20, **NORMAL),
    turn=some.floats(-0.95, 0.95, **NORMAL),
    h=some.floats(-6, 6, **NORMAL).map(lambda x: np.sinh(2 * x)),
    size=some.floats(-8, 8, **NORMAL),
)
def test_a_drift_comes_back_in_any_units(e, turn, h, size):
    anomaly = turn * np.arccos(-1 / max(e, 1)) if e > 0 else turn * np.pi
    position, velocity = conic(e, anomaly)
    length, mu = 10**size, np.array([MU * 10 ** (3 * size)])
    there = drift(mu, length * position, length * velocity, np.array([h]))
    back = drift(mu, *there, np.array([-h]))
    # What a start far from its pericentre is off by depends on the phase, of which little is kept.
    far = (np.linalg.norm(there[0]) / length + abs(h) * np.linalg.norm(velocity)) ** 1.5
    for one, other in zip(back, (length * position, length * velocity), strict=True):
        assert np.abs(one - other).max() < 1e-13 * length * (1 + far) * (1 + np.abs(h))


@pytest.mark.parametrize("e", [0, 0.6, 1, 2.5])
@pytest.mark.parametrize("h", [0.1, -9.0])
def test_gradients_of_a_drift_are_those_of_finite_differences(e, h):
    position, velocity = conic(e, 0.8)
    leaves = [
        torch.tensor(value, dtype=torch.float64, requires_grad=True)
        for value in ([MU], position, velocity, [h])
    ]
    assert torch.autograd.gradcheck(drift, leaves, eps=1e-6, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("n_dimensions", [2, 3])
def test_jacobi_coordinates_lead_back_and_hold_the_energy_of_the_orbits(n_dimensions):
    state = random_states(5, n_dimensions=n_dimensions, G=G)
    state = state.replace(mass=state.mass * np.array([1, 0, 1, 1.0]))
    order = jacobi_order(state)
    jacobi = to_jacobi(state, order)
    for one, other in zip(from_jacobi(jacobi), (state.position, state.velocity), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-14)
    centre = jacobi.centre, jacobi.centre_velocity
    for one, other in zip(centre, gravity.centre_of_mass(state), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-14)
    # The kinetic energy is that of the centre and of masses m_i M_(i−1)/M_i.
    within = np.cumsum(jacobi.mass, axis=1)
    reduced = jacobi.mass[:, 1:] * within[:, :-1] / within[:, 1:]
    kinetic = (reduced * (jacobi.velocity**2).sum(axis=2)).sum(axis=1)
    kinetic += within[:, -1] * (jacobi.centre_velocity**2).sum(axis=(1, 2))
    np.testing.assert_allclose(kinetic / 2, gravity.kinetic_energy(state), rtol=1e-13)


def planets(a, e, mass, phase=0.3, star=1.0):
    """A star and bodies on orbits about it, bound or not; where e > 1, a is the pericentre."""
    position, velocity = [np.zeros(3)], [np.zeros(3)]
    for k, (size, shape) in enumerate(zip(a, e, strict=True)):
        if shape >= 1:
            place, speed = conic(shape, -1.0 - k, star)
            position.append(size * place[0])
            velocity.append(speed[0] / np.sqrt(size))
        else:
            place, speed = orbit(star, size, shape, phase + 0.37 * k, 3.0 * k)
            position.append(place)
            velocity.append(speed)
    return State.from_arrays([star, *mass], position, velocity)


def test_the_heaviest_body_goes_first_and_the_others_by_their_pericentre():
    # pericentres 5, 1, 2, 0.5, 3
    state = planets([5, 10, 2, 5, 3], [0.0, 0.9, 0.0, 0.9, 1.4], [1e-3, 0, 1e-3, 1e-9, 0])
    assert jacobi_order(state).tolist() == [[0, 4, 2, 3, 5, 1]]
    last = [1, 2, 3, 4, 5, 0]
    turned = state.replace(
        mass=state.mass[:, last],
        position=state.position[:, last],
        velocity=state.velocity[:, last],
    )
    assert jacobi_order(turned).tolist() == [[5, 3, 1, 2, 4, 0]]
    assert jacobi_order(turned.to("cpu")).tolist() == [[5, 3, 1, 2, 4, 0]]


def test_of_equals_the_first_goes_first():
    position = [[0.0, 0], [1, 0], [-1, 0], [0, 1]]
    state = State.from_arrays([1.0, 0, 0, 1], position, [[0, 0], [0, 1], [0, -1], [-1, 0]])
    assert jacobi_order(state)[0, 0] == 0
    light = State.from_arrays([1.0, 0, 0], position[:3], [[0.0, 0], [0, 1], [0, -1]])
    assert jacobi_order(light).tolist() == [[0, 1, 2]]


# b_1 … b_8 as REBOUND tabulates them
DIGITS = [
    0.093056103771425958591541059067553547100903397724386,
    -0.065192863576377893658290760803725762027864651086787,
    0.032422198864713580293681523029577130832258806467604,
    -0.012071760822342291062449751726959664253913904872527,
    0.0033132577069380655655490196833451994080066801611459,
    -0.00063599983075817658983166881625078545864140848560259,
    0.000076436355227935738363241846979413475106795392377415,
    -0.0000043347415473373580190650223498124944896789841432241,
]


def test_the_corrector_is_the_published_one():
    drifts, kicks = map(np.array, corrector())
    assert len(drifts) == len(kicks) + 1 == 33
    np.testing.assert_allclose(kicks[17::2], DIGITS, rtol=4e-16)
    np.testing.assert_allclose(kicks[16::2], -np.array(DIGITS), rtol=4e-16)
    np.testing.assert_array_equal(kicks[:16], kicks[:15:-1])
    np.testing.assert_allclose(drifts[-1], 8 * 0.41833001326703777, rtol=4e-16)
    assert abs(drifts.sum()) < 1e-14
    assert abs(kicks.sum()) < 1e-16


def test_the_corrector_takes_away_all_of_the_first_order_in_the_kicks():
    # A kick at time t acts as e^(tD); D = i x is a force that oscillates.
    drifts, kicks = map(np.array, corrector())
    at = np.cumsum(drifts)[:-1]
    x = np.array([0.5, 0.8])
    corrected = (kicks * np.exp(1j * x[:, None] * at)).sum(axis=1)
    wanted = 1j * (1 / x - 0.5 / np.sin(x / 2))
    left = np.abs(np.abs(corrected) - np.abs(wanted))
    assert (left < 1e-3 * x**17 + 1e-16).all()


def outer(h, n_steps, setting):
    """The outer Solar System after steps of its own splitting."""
    state = scenarios.make("outer_solar_system")
    splitting = WisdomHolman(setting).with_order(jacobi_order(state))
    for _ in range(n_steps):
        state = splitting.step(state, np.array([h]))
    return state


@pytest.mark.parametrize(
    ("setting", "order", "kernel", "tolerance"),
    [
        ("plain", 0, "default", 1e-13),
        ("corrected", 17, "default", 2e-12),
        ("lazy", 17, "lazy", 1e-11),
    ],
)
def test_steps_are_those_of_whfast(setting, order, kernel, tolerance):
    # Those of the lazy kernel differ by its displacements, see `lazy_interaction`.
    sim = to_rebound(scenarios.make("outer_solar_system"))
    sim.integrator, sim.dt = "whfast", 3.0
    sim.integrator.corrector, sim.integrator.kernel = order, kernel
    sim.integrator.safe_mode = 0
    sim.steps(50)
    sim.synchronize()
    place, speed = np.empty((5, 3)), np.empty((5, 3))
    sim.serialize_particle_data(xyz=place, vxvyvz=speed)
    ours = outer(3.0, 50, setting)
    for one, other in ((ours.position[0], place), (ours.velocity[0], speed)):
        size = np.linalg.norm(other, axis=1).max()
        assert np.abs(one - other).max() < tolerance * size
    assert ours.time == pytest.approx(sim.t)


def test_the_lazy_kick_is_the_modified_kick_up_to_the_fourth_order():
    jacobi = to_jacobi(planets([1, 2], [0.1, 0.0], [0.02, 0.05]), np.array([[0, 1, 2]]))
    pull = interaction(jacobi.mass, jacobi.position, 1.0)

    def along(size):
        return interaction(jacobi.mass, jacobi.position + size * pull, 1.0)

    change = (along(1e-3) - along(-1e-3)) / 2e-3

    def off(h):
        return np.abs(
            lazy_interaction(jacobi.mass, jacobi.position, 1.0, h) - pull - h * h / 12 * change
        )

    assert np.log2(off(0.4).max() / off(0.2).max()) == pytest.approx(4, abs=0.2)
    assert off(0.2).max() < 1e-2 * np.abs(0.2**2 / 12 * change).max()


def test_forces_are_those_between_bodies_less_the_orbits():
    state = random_states(7, G=G)
    order = jacobi_order(state)
    jacobi = to_jacobi(state, order)
    both = to_jacobi(state.replace(velocity=gravity.acceleration(state)), order).velocity
    r3 = np.linalg.norm(jacobi.position, axis=2, keepdims=True) ** 3
    left = both + jacobi.mu[..., None] * jacobi.position / r3
    np.testing.assert_allclose(interaction(jacobi.mass, jacobi.position, G), left, atol=1e-15)
    # The first orbit's own force is no perturbation of it, as there is none of two bodies.
    two = to_jacobi(
        state.replace(mass=state.mass * np.array([1, 1, 0, 0])), np.array([[0, 1, 2, 3]] * 4)
    )
    np.testing.assert_allclose(interaction(two.mass, two.position, G)[:, 0], 0, atol=1e-15)


def quiet(n_dimensions=3):
    """A star with two planets and a massless body between them, and the same in a plane."""
    state = planets([1.0, 2.9, 1.7], [0.05, 0.02, 0.1], [1e-3, 5e-4, 0.0])
    place, speed = state.position[..., :2], state.velocity[..., :2]
    if n_dimensions == 2:
        return state.replace(position=place, velocity=speed)
    flat = ((0, 0), (0, 0), (0, 1))
    return state.replace(position=np.pad(place, flat), velocity=np.pad(speed, flat))


def advanced(state, dt, n_steps, setting):
    splitting = WisdomHolman(setting).with_order(jacobi_order(state))
    h = 0 * state.time + dt
    for _ in range(n_steps):
        state = splitting.step(state, h)
    return state


@EVERY
def test_a_system_in_a_plane_moves_as_it_does_in_space(setting):
    plane, space = (advanced(quiet(D), 0.3, 3, setting) for D in (2, 3))
    np.testing.assert_allclose(plane.position, space.position[..., :2], rtol=0, atol=1e-13)
    assert np.array_equal(space.position[..., 2], np.zeros((1, 4)))


@EVERY
def test_tensors_move_as_arrays_do_and_have_gradients(setting):
    state = State.concatenate([quiet(), quiet().replace(position=1.1 * quiet().position)])
    tensors = state.to("cpu")
    place = tensors.position.clone().requires_grad_()
    ours = advanced(state, 0.3, 1, setting)
    theirs = advanced(tensors.replace(position=place), 0.3, 1, setting)
    assert is_tensor(theirs.position)
    np.testing.assert_allclose(to_numpy(theirs.position), ours.position, rtol=0, atol=1e-13)
    (gradient,) = torch.autograd.grad(theirs.position[0, 1, 0], place)
    shift = np.zeros_like(state.position)
    shift[0, 1, 1] = 1e-6
    ahead, behind = (
        advanced(state.replace(position=state.position + way * shift), 0.3, 1, setting).position
        for way in (1, -1)
    )
    found = (ahead - behind)[0, 1, 0] / 2e-6
    assert float(gradient[0, 1, 1]) == pytest.approx(found, rel=1e-6)


@EVERY
def test_steps_lead_out_and_back_and_a_step_of_no_time_changes_nothing(setting):
    state = quiet()
    out = advanced(state, 0.3, 4, setting)
    back = advanced(out, -0.3, 4, setting)
    for name in ("position", "velocity"):
        assert np.abs(getattr(back, name) - getattr(state, name)).max() < 1e-12
        same = getattr(advanced(state, 0.0, 1, setting), name)
        assert np.array_equal(same, getattr(state, name))
    assert back.time == pytest.approx(0, abs=1e-15)


@EVERY
def test_neither_units_nor_the_numbers_of_bodies_matter(setting):
    state = quiet()
    after = advanced(state, 0.3, 2, setting)
    other = in_other_units(state)
    length = np.linalg.norm(other.position) / np.linalg.norm(state.position)
    ratio = other.G * other.mass[0, 0] / (state.G * state.mass[0, 0])
    scaled = advanced(other, 0.3 * np.sqrt(length**3 / ratio), 2, setting)
    np.testing.assert_allclose(scaled.position / length, after.position, rtol=0, atol=1e-12)
    last = [3, 1, 2, 0]
    turned = state.replace(
        mass=state.mass[:, last],
        position=state.position[:, last],
        velocity=state.velocity[:, last],
    )
    turned = advanced(turned, 0.3, 2, setting)
    np.testing.assert_allclose(turned.position[:, last], after.position, rtol=0, atol=1e-13)


def test_a_massless_body_moves_nothing():
    state = quiet()
    # The heavier bodies without it
    left = state.replace(**{k: getattr(state, k)[:, :3] for k in ("mass", "position", "velocity")})
    with_it, without = (advanced(each, 0.3, 5, "lazy") for each in (state, left))
    np.testing.assert_allclose(with_it.position[:, :3], without.position, rtol=0, atol=1e-13)
    np.testing.assert_array_less(1e-3, np.abs(with_it.position[:, 3] - state.position[:, 3]).max())


def test_the_centre_of_mass_goes_straight_on():
    state = quiet()
    state = state.replace(velocity=state.velocity + 0.3, position=state.position + 50.0)
    after = advanced(state, 0.3, 5, "corrected")
    (x0, v0), (x1, v1) = map(gravity.centre_of_mass, (state, after))
    np.testing.assert_allclose(x1, x0 + 1.5 * v0, rtol=0, atol=1e-13)
    np.testing.assert_allclose(v1, v0, rtol=0, atol=1e-14)


def test_errors_shrink_with_the_square_of_the_step_and_with_every_refinement():
    state = quiet()
    exact = advanced(state, 0.05, 32, "lazy").position

    def error(setting, n_steps):
        return np.abs(advanced(state, 1.6 / n_steps, n_steps, setting).position - exact).max()

    coarse, fine = ({name: error(name, n) for name in SETTINGS} for n in (6, 12))
    for name in ("plain", "corrected"):
        assert np.log2(coarse[name] / fine[name]) == pytest.approx(2, abs=0.35)
    assert fine["lazy"] < fine["corrected"] / 10 < fine["plain"] / 100


def test_it_is_an_integrator():
    splitting = get_integrator(WisdomHolman("lazy"))
    assert (splitting.order, splitting.evaluations, splitting.reversible) == (2, 2, True)
    assert WisdomHolman("plain").evaluations == WisdomHolman().evaluations == 1
    assert WisdomHolman("lazy") == splitting.with_order(np.array([[0, 1]]))
    with pytest.raises(InputError, match="did you mean 'corrected'"):
        WisdomHolman("correct")
    steps = (WisdomHolman(each).step(quiet(), np.array([0.1])) for each in (None, "plain"))
    assert np.array_equal(*(step.position for step in steps))  # by itself it knows no tolerance


def test_what_it_cant_follow_is_refused_with_a_remedy():
    state = quiet()
    WisdomHolman.check(state)
    WisdomHolman.check(state.to("cpu"))
    refused = {
        "there are 129 bodies": State.from_arrays(
            [1.0, *[0.0] * 128], np.eye(129, 3), np.zeros((129, 3))
        ),
        "softening is 0.1": state.replace(softening=0.1),
        "external field": state.replace(field=TidalField(1.0, (9.0, 0.0, 0.0))),
        "no body of system 0 has mass": state.replace(mass=0 * state.mass),
        "system 0 has 0.417 of its mass.*more than 0.9": scenarios.make("pythagorean"),
    }
    for words, given_state in refused.items():
        with pytest.raises(InputError, match=f"{words}.*use another integrator"):
            WisdomHolman.check(given_state)
