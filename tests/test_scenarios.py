import json
import math
from functools import partial
from inspect import signature

import mpmath
import numpy as np
import pytest

from nbcore.errors import InputError
from nbcore.physics import gravity, scenarios
from nbcore.physics.arrays import norm
from nbcore.physics.fields import TidalField
from nbcore.physics.integrators import get_integrator
from nbcore.physics.orbits import (
    at_rest,
    eccentric_anomaly,
    orbit,
    pericentre_distance,
    pericentre_period,
)
from nbcore.physics.scenarios import SCENARIOS, make
from nbcore.physics.state import State

EVERY = pytest.mark.parametrize("name", SCENARIOS)
NEED_NOT_BE_BOUND: set[str] = set()  # a scenario that may fly apart goes in here
SEEDED = [name for name, make_it in SCENARIOS.items() if "seed" in signature(make_it).parameters]


def test_names_lists_the_table():
    assert scenarios.names() == sorted(SCENARIOS)


@EVERY
def test_centre_of_mass_rests_at_the_origin(name):
    position, velocity = gravity.centre_of_mass(make(name))
    assert np.abs(position).max() < 1e-14
    assert np.abs(velocity).max() < 1e-14


@EVERY
def test_same_call_gives_the_same_state_bit_for_bit(name):
    first, second = make(name), make(name)
    for key in ("mass", "position", "velocity"):
        assert np.array_equal(getattr(first, key), getattr(second, key))


@pytest.mark.parametrize("name", SEEDED)
def test_another_seed_gives_another_state(name):
    assert not np.array_equal(make(name, seed=1).position, make(name, seed=2).position)


@EVERY
def test_scenarios_that_take_n_systems_give_batches(name):
    takes = "n_systems" in signature(SCENARIOS[name]).parameters
    state = make(name, **({"n_systems": 5} if takes else {}))
    assert state.batched == takes
    assert state.n_systems == (5 if takes else 1)


@EVERY
def test_another_G_leaves_the_orbits_as_they_are(name):
    one, other = make(name), make(name, G=39.5)
    assert other.G == 39.5
    assert np.array_equal(one.position, other.position)
    for energy in (gravity.kinetic_energy, gravity.potential_energy):
        np.testing.assert_allclose(energy(other), 39.5 * energy(one), rtol=1e-12)


@pytest.mark.parametrize("name", [name for name in SCENARIOS if name not in NEED_NOT_BE_BOUND])
def test_scenarios_are_bound(name):
    assert (gravity.energy(make(name)) < 0).all()


@EVERY
def test_every_parameter_has_a_default_a_type_and_a_word(name):
    documented = SCENARIOS[name].__doc__ or ""
    for parameter in signature(SCENARIOS[name]).parameters.values():
        assert parameter.kind is parameter.KEYWORD_ONLY
        assert parameter.default is not parameter.empty
        assert parameter.annotation is not parameter.empty
        assert parameter.name in documented or parameter.name == "dimensions"


def test_softening_and_field_reach_the_state():
    field = TidalField(1.0, (9.0, 0.0))
    state = make("pythagorean", softening=0.1, field=field)
    assert (state.softening, state.field) == (0.1, field)


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("name", ["kepler", "kepler_orbits", "few_body", "pythagorean"])
def test_dimensions_are_as_asked_for(name, dimensions):
    assert make(name, dimensions=dimensions).n_dimensions == dimensions


def elements(state):
    """Semi-major axis, eccentricity and energy per reduced mass of two-body systems."""
    mu = state.G * state.mass.sum(axis=1)
    r, v = (x[:, 1] - x[:, 0] for x in (state.position, state.velocity))
    energy = 0.5 * (v * v).sum(1) - mu / norm(r)
    # The Laplace-Runge-Lenz vector is as long as the eccentricity.
    lenz = ((v * v).sum(1) / mu - 1 / norm(r))[:, None] * r
    lenz = lenz - ((r * v).sum(1) / mu)[:, None] * v
    return -mu / (2 * energy), norm(lenz)


@pytest.mark.parametrize("eccentricity", [0.0, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("phase", [0.0, 0.2, 0.5, 0.9, -3.3])
def test_kepler_has_the_elements_asked_for_at_any_phase(eccentricity, phase):
    state = make(
        "kepler",
        semi_major_axis=2.5,
        eccentricity=eccentricity,
        phase=phase,
        mass_ratio=0.3,
        total_mass=1.7,
        inclination=40.0,
        dimensions=3,
        G=3.0,
    )
    a, e = elements(state)
    # Near pericentre cos E − e loses 1/(1 − e) in digits, and 1/r − v²/2 as many once more.
    rounding = 1e-14 + 1e-15 / (1 - eccentricity) ** 2
    assert a.item() == pytest.approx(2.5, rel=rounding)
    assert e.item() == pytest.approx(eccentricity, abs=rounding)
    assert state.mass[0].tolist() == pytest.approx([1.7 / 1.3, 1.7 * 0.3 / 1.3])
    spin = gravity.angular_momentum(state)[0]
    assert spin[2] / norm(spin) == pytest.approx(math.cos(math.radians(40)), rel=1e-9)


def test_kepler_starts_at_apocentre_with_the_first_body_ahead():
    state = make("kepler", eccentricity=0.5, total_mass=2.0)
    speed = math.sqrt(2 * 0.5 / 1.5)
    assert state.position[0] == pytest.approx(np.array([[0.75, 0], [-0.75, 0]]), abs=1e-15)
    expected = np.array([[0, speed / 2], [0, -speed / 2]])
    assert state.velocity[0] == pytest.approx(expected, abs=1e-15)


def test_kepler_takes_a_test_particle():
    state = make("kepler", mass_ratio=0.0)
    assert state.mass[0].tolist() == [1.0, 0.0]
    assert not state.position[0, 0].any()


RATIOS = [10.0**-k for k in range(17)] + [0.0, 0.3, 1e16]


@pytest.mark.parametrize("ratio", RATIOS)
def test_masses_have_the_ratio_asked_for_to_rounding(ratio):
    pairs = [make("kepler", mass_ratio=ratio, total_mass=3.0)]
    pairs.append(make("kepler_orbits", n_systems=2, mass_ratio=ratio, total_mass=3.0))
    for state in pairs:
        first, second = state.mass.T
        assert (second / first).tolist() == pytest.approx([ratio] * len(first), rel=1e-15, abs=0)
        assert (first + second).tolist() == pytest.approx([3.0] * len(first), rel=1e-15)


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("name", ["kepler", "kepler_orbits"])
def test_the_heavier_body_moves_by_the_lighter_one_s_share_to_rounding(name, ratio):
    one = {"n_systems": 1} if name == "kepler_orbits" else {}
    state = make(name, mass_ratio=ratio, eccentricity=0.5, phase=0.3, **one)
    for value in (state.position[0], state.velocity[0]):
        np.testing.assert_allclose(value[0], -ratio * value[1], rtol=1e-14)


@pytest.mark.parametrize("light", [1e-6, 1e-12, 1e-16, 0.0])
def test_a_light_body_of_a_triple_moves_the_heavy_one_by_its_share(light):
    state = make("hierarchical_triple", masses=(1.0, light, 0.0))
    np.testing.assert_allclose(
        state.position[0, 0], -light * state.position[0, 1], rtol=1e-14, atol=1e-15 * light
    )


@pytest.mark.parametrize("e", [0.9, 1 - 1e-8, 1 - 1e-12])
@pytest.mark.parametrize("phase", [0.0, 1e-14, 1e-9, 1e-4, 0.3])
def test_places_near_the_pericentre_keep_their_digits_up_to_the_parabola(e, phase):
    x, v = orbit(1.0, 1.0, np.array(e), phase)
    with mpmath.workdps(50):
        e, M = mpmath.mpf(e), 2 * mpmath.pi * mpmath.mpf(phase)
        guess = min((6 * M) ** (mpmath.mpf(1) / 3), M / (1 - e)) if phase else mpmath.mpf(0)
        E = mpmath.findroot(lambda E: E - e * mpmath.sin(E) - M, guess) if phase else guess
        cos, b = mpmath.cos(E), mpmath.sqrt(1 - e * e)
        right = [cos - e, b * mpmath.sin(E), b * cos / (1 - e * cos)]
        found = [x[0], x[1], v[1]]
        for value, expected in zip(found, right, strict=True):
            assert value == pytest.approx(float(expected), rel=1e-13, abs=0)


def test_phase_is_time_in_periods():
    start = make("kepler", eccentricity=0.6)
    dt = 0.3 * scenarios.two_body_period(start) / 200
    end = start
    for _ in range(200):
        end = get_integrator("kahan_li8").step(end, dt)
    expected = make("kepler", eccentricity=0.6, phase=0.8)
    np.testing.assert_allclose(end.position, expected.position, rtol=0, atol=1e-11)
    np.testing.assert_allclose(end.velocity, expected.velocity, rtol=0, atol=1e-11)


def test_keplers_equation_is_solved_up_to_the_parabola():
    e = np.array([0, 0.3, 0.9, 0.999, 1 - 1e-9])[:, None]
    M = np.linspace(-np.pi, np.pi, 101)[1:-1]
    E = eccentric_anomaly(np.broadcast_to(M, (5, 99)), e)
    assert np.abs(E - e * np.sin(E) - M).max() < 1e-14


def test_velocity_is_the_derivative_of_position_on_an_inclined_orbit():
    given = (1.3, 0.9, np.array(0.4))
    angles = (30.0, 70.0, 110.0)
    period, h = 2 * np.pi * math.sqrt(0.9**3 / 1.3), 1e-5
    ahead, behind = (orbit(*given, 0.17 + s * h, *angles)[0] for s in (1, -1))
    velocity = orbit(*given, 0.17, *angles)[1]
    assert (ahead - behind) / (2 * h * period) == pytest.approx(velocity, rel=1e-7)


def test_kepler_orbits_fill_their_ranges():
    state = make("kepler_orbits", n_systems=400, mass_ratio=(0.1, 1.0), phase=(0, 1), seed=5)
    a, e = elements(state)
    ratio = state.mass[:, 1] / state.mass[:, 0]
    for value, low, high in ((a, 0.8, 1.2), (e, 0.6, 0.95), (ratio, 0.1, 1.0)):
        # 400 draws leave more than 5 % free at an end once in a billion times.
        assert low - 1e-9 <= value.min() <= low + 0.05 * (high - low)
        assert high - 0.05 * (high - low) <= value.max() <= high + 1e-9
    np.testing.assert_allclose(state.mass.sum(axis=1), 1, rtol=1e-14)


def test_a_single_number_serves_as_a_range():
    _, e = elements(make("kepler_orbits", eccentricity=0.7))
    np.testing.assert_allclose(e, 0.7, rtol=1e-13)


def test_period_is_keplers_third_law():
    state = make("kepler_orbits", G=2.0, total_mass=3.0, phase=(0.0, 1.0))
    a, _ = elements(state)
    expected = 2 * np.pi * np.sqrt(a**3 / (2.0 * 3.0))
    np.testing.assert_allclose(scenarios.two_body_period(state), expected, rtol=1e-12)


def test_period_needs_two_bound_bodies():
    with pytest.raises(InputError, match="2 bodies, not 3"):
        scenarios.two_body_period(make("pythagorean"))
    state = make("kepler_orbits", n_systems=3)
    fast = state.velocity.copy()
    fast[1] *= 30
    with pytest.raises(InputError, match="system 1 is not bound"):
        scenarios.two_body_period(state.replace(velocity=fast))


def two_planets(e, phase, mass=(1e-3, 3.0, 0.0), G=1.0):
    """Orbits of the first and the last body about the second, a = 1 and 4."""
    mass = np.array(mass)
    inner, outer = (
        orbit(mass[1] + m, a, e, when, 20.0, 30.0)
        for m, a, when in ((mass[0], 1.0, phase), (mass[2], 4.0, 0.7))
    )
    position, velocity = (
        at_rest(mass, np.stack([near, 0 * near, far]))
        for near, far in zip(inner, outer, strict=True)
    )
    return State.from_arrays(mass, position, velocity * np.sqrt(G), G)


@pytest.mark.parametrize("e", [0.0, 0.3, 0.99])
@pytest.mark.parametrize("phase", [0.0, 0.1, 0.5])
def test_pericentres_are_about_the_heaviest_body_from_anywhere_on_the_orbit(e, phase):
    state = two_planets(e, phase, G=2.0)
    q = (1 - e) * np.array([[1.0, 0.0, 4.0]])
    # The angular momentum of an orbit of e = 0.99 is a difference of numbers 100 times as large.
    np.testing.assert_allclose(pericentre_distance(state), q, rtol=1e-11)
    period = 2 * np.pi * np.sqrt((1 - e) ** 3 / (2.0 * 3.001))
    np.testing.assert_allclose(pericentre_period(state), period, rtol=1e-11)


def test_open_orbits_have_pericentres_and_those_that_fall_straight_have_none():
    # At pericentre, where r = q, twice as fast as on a circle.
    fast = State.from_arrays([3.0, 1.0], [[0, 0], [2.0, 0]], [[0, 0], [0, 2 * 2**0.5]])
    assert pericentre_distance(fast).tolist() == [[0.0, 2.0]]
    assert pericentre_period(fast).item() == pytest.approx(2 * np.pi * 2**0.5, rel=1e-15)
    falling = State.from_arrays([3.0, 1.0], [[0, 0], [2.0, 1.0]], np.zeros((2, 2)))
    assert pericentre_period(falling).item() == 0


def test_pericentres_of_a_batch_are_those_of_its_systems():
    states = [two_planets(0.3, 0.2), two_planets(0.9, 0.4, mass=(2.0, 3.0, 5.0))]
    batch = State.concatenate(states)
    for measure in (pericentre_distance, pericentre_period):
        expected = np.concatenate([measure(state) for state in states])
        assert np.array_equal(measure(batch), expected)
        assert np.array_equal(measure(batch.to("cpu")).numpy(), expected)


@pytest.mark.parametrize(("n_bodies", "dimensions"), [(2, 2), (3, 2), (3, 3), (20, 2), (100, 3)])
def test_few_body_systems_are_bound_in_the_units_promised(n_bodies, dimensions):
    state = make(
        "few_body",
        n_systems=50,
        n_bodies=n_bodies,
        dimensions=dimensions,
        mass_range=(0.1, 1.0),
        total_mass=3.0,
        virial_radius=2.0,
        virial_ratio=0.3,
        G=1.5,
    )
    U, K = gravity.potential_energy(state), gravity.kinetic_energy(state)
    unit = 1.5 * 3.0**2 / (2 * 2.0)
    np.testing.assert_allclose(U, -unit, rtol=1e-12)
    np.testing.assert_allclose(K, 0.3 * unit, rtol=1e-12)
    np.testing.assert_allclose(state.mass.sum(axis=1), 3.0, rtol=1e-14)
    assert (state.mass.max(axis=1) / state.mass.min(axis=1) <= 10).all()


def test_few_body_systems_may_start_at_rest():
    assert not make("few_body", virial_ratio=0.0).velocity.any()


def test_few_body_starts_leave_room_between_the_bodies():
    state = make("few_body", n_systems=2000, mass_range=(0.05, 1.0))
    i, j = gravity.pair_indices(3, state.position)
    distance = norm(state.position[:, i] - state.position[:, j])
    # The crossing length is about 1; a pair at 0.03 takes 0.005 of a crossing time to fall.
    assert distance.min() > 0.03


def test_masses_are_equal_unless_a_range_is_given():
    assert np.array_equal(make("few_body").mass, np.full((16, 3), 1 / 3))


def test_plummer_is_in_henon_units():
    state = make("plummer", n_systems=3, n_bodies=64)
    np.testing.assert_allclose(gravity.energy(state), [-0.25] * 3, rtol=1e-12)
    np.testing.assert_allclose(gravity.kinetic_energy(state), [0.25] * 3, rtol=1e-12)
    np.testing.assert_allclose(state.mass.sum(axis=1), [1.0] * 3, rtol=1e-14)


def test_plummer_has_the_profile_and_the_speeds_of_a_plummer_sphere():
    state = make("plummer", n_bodies=2000, seed=1)
    a = 3 * math.pi / 16
    radius, speed = norm(state.position[0]), norm(state.velocity[0])
    for share in (0.1, 0.25, 0.5, 0.75, 0.9):
        exact = a / math.sqrt(share ** (-2 / 3) - 1)
        # The number inside scatters by √(N share (1 − share)) < 23; four times that.
        assert (radius < exact).sum().item() == pytest.approx(2000 * share, abs=92)
    # Jeans: <v²> = 1/(2 √(r² + a²)) at every radius; sums over 500 bodies scatter by some 3 %.
    for some in np.split(radius.argsort(), 4):
        expected = (0.5 / np.sqrt(radius[some] ** 2 + a**2)).mean()
        assert (speed[some] ** 2).mean() == pytest.approx(expected, rel=0.1)
    assert (speed < math.sqrt(2) * (radius**2 + a**2) ** -0.25 * 1.1).all()


def test_hierarchical_triple_has_the_orbits_asked_for():
    state = make(
        "hierarchical_triple",
        masses=(1.0, 0.5, 2.0),
        inner_eccentricity=0.3,
        inner_phase=0.2,
        outer_semi_major_axis=20.0,
        outer_eccentricity=0.4,
        outer_phase=0.6,
        mutual_inclination=60.0,
    )
    mass, x, v = state.mass[0], state.position[0], state.velocity[0]
    inner = State.from_arrays(mass[:2], x[:2], v[:2])
    share = (mass[:2] / mass[:2].sum())[:, None]
    pair = [(share * value[:2]).sum(axis=0) for value in (x, v)]
    outer = State.from_arrays([1.5, 2.0], [pair[0], x[2]], [pair[1], v[2]])
    for two, a, e in ((inner, 1.0, 0.3), (outer, 20.0, 0.4)):
        found = elements(two)
        assert found[0].item() == pytest.approx(a, rel=1e-12)
        assert found[1].item() == pytest.approx(e, rel=1e-12)
    normals = [
        np.linalg.cross(y[0, 1] - y[0, 0], w[0, 1] - w[0, 0])
        for y, w in ((s.position, s.velocity) for s in (inner, outer))
    ]
    cosine = normals[0] @ normals[1] / norm(normals[0]) / norm(normals[1])
    assert math.degrees(math.acos(cosine)) == pytest.approx(60, rel=1e-12)


def test_planets_keep_the_spacing_asked_for():
    state = make(
        "planetary_system", n_systems=3, n_planets=5, spacing=8.0, planet_mass=(1e-6, 1e-4)
    )
    mass = state.mass[:, 1:]
    assert 1e-6 <= mass.min() < mass.max() <= 1e-4
    a, e = [], []
    for k in range(1, 6):
        two = State.from_arrays(
            state.mass[:, [0, k]], state.position[:, [0, k]], state.velocity[:, [0, k]]
        )
        found = elements(two)
        a.append(found[0])
        e.append(found[1])
    a, e = np.stack(a, axis=1), np.stack(e, axis=1)
    hill = ((mass[:, 1:] + mass[:, :-1]) / 3) ** (1 / 3) * (a[:, 1:] + a[:, :-1]) / 2
    spacing = (a[:, 1:] - a[:, :-1]) / hill
    np.testing.assert_allclose(spacing, 8.0, rtol=1e-9)
    np.testing.assert_allclose(a[:, 0], 1.0, rtol=1e-10)
    assert e.max() < 0.01


def test_planar_planets_stay_in_the_plane():
    assert make("planetary_system", inclination=0.0, dimensions=2).n_dimensions == 2
    assert not make("planetary_system", inclination=0.0).position[..., 2].any()
    assert make("planetary_system").position[..., 2].any()


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("keppler", {}, "scenario 'keppler' is unknown; did you mean 'kepler'"),
        ("few_body", {"n_body": 3}, "did you mean 'n_bodies'"),
        ("solar_system", {"n_bodies": 3}, "takes no parameters; leave out 'n_bodies'"),
        ("kepler", {"eccentricity": 1.0}, "eccentricity .* is 1.0; .*less than 1"),
        ("kepler", {"eccentricity": -0.1}, "eccentricity .* is -0.1; .*greater than or equal"),
        ("kepler", {"eccentricity": "0.5"}, "eccentricity .* is '0.5'; .*valid number"),
        ("kepler", {"eccentricity": True}, "eccentricity .* is True"),
        ("kepler", {"eccentricity": math.nan}, "eccentricity .* is nan"),
        ("kepler", {"semi_major_axis": 0}, "semi_major_axis .* is 0"),
        ("kepler", {"semi_major_axis": math.inf}, "semi_major_axis .* is inf"),
        ("kepler", {"phase": None}, "phase .* is None"),
        ("kepler", {"dimensions": 4}, "dimensions .* is 4; .*2 or 3"),
        ("kepler", {"inclination": 10.0}, "inclination is 10.0 in 2 dimensions"),
        ("planetary_system", {"dimensions": 2}, "in 2 dimensions"),
        ("planetary_system", {"spacing": 1e3}, "spacing .* is 1000.0; .*allow less than 106"),
        ("few_body", {"n_bodies": 1}, "n_bodies .* is 1; .*greater than or equal to 2"),
        ("few_body", {"n_bodies": 2.5}, "n_bodies .* is 2.5"),
        ("few_body", {"n_systems": 0}, "n_systems .* is 0"),
        ("few_body", {"seed": -1}, "seed .* is -1"),
        ("few_body", {"virial_ratio": 1.0}, "virial_ratio .* is 1.0"),
        ("few_body", {"mass_range": [2.0, 1.0]}, "mass_range .* small to large"),
        ("few_body", {"mass_range": [0.0, 1.0]}, r"mass_range\[0\] .* is 0.0; .*greater than 0"),
        ("kepler_orbits", {"eccentricity": (0.5, 1.5)}, r"eccentricity\[1\] .* is 1.5"),
        ("hierarchical_triple", {"masses": [0.0, 0.0, 1.0]}, "pair has no mass"),
        ("hierarchical_triple", {"masses": [1.0, 1.0]}, r"masses\[2\]"),
        ("kepler", {"G": 0.0}, "G of the system is 0.0"),
        ("kepler", {"G": "1"}, "G of the system is '1'"),
        ("kepler", {"softening": -1.0}, "softening of the system is -1.0"),
    ],
)
def test_bad_parameters_are_named_with_their_range(name, parameters, message):
    with pytest.raises(InputError, match=message):
        make(name, **parameters)


def test_numbers_of_numpy_are_numbers():
    state = make("few_body", n_systems=np.int64(2), virial_ratio=np.float32(0.5))
    assert state.n_systems == 2


def test_references_end_later_and_keep_the_energy():
    for name in (
        "outer_solar_system",
        "solar_system",
        "figure_eight",
        "pythagorean",
        "hierarchical_triple",
        "many_encounters",
    ):
        reference, start = scenarios.reference(name), make(name)
        assert reference.t_end == reference.state.time.item() > 0
        assert reference.state.position.shape == start.position.shape
        energy = gravity.energy(start)
        # The massless planet aside, IAS15 keeps the energy to 1e-10 or better.
        np.testing.assert_allclose(gravity.energy(reference.state), energy, rtol=1e-10)


def test_a_missing_reference_is_named():
    with pytest.raises(InputError, match="reference 'figure_ate' is unknown; did you mean"):
        scenarios.reference("figure_ate")


# --- files


def one_system(dimensions=3):
    state = make("kepler", eccentricity=0.3, dimensions=dimensions, G=2.5, softening=0.1)
    return state.replace(time=state.time + 1.25)


def same(one, other):
    return all(
        np.array_equal(getattr(one, key), getattr(other, key))
        for key in ("mass", "position", "velocity")
    )


@pytest.mark.parametrize("suffix", ["npy", "npz", "json", "csv", "txt"])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_files_hold_a_system_bit_for_bit(tmp_path, suffix, dimensions):
    state, path = one_system(dimensions), tmp_path / f"system.{suffix}"
    scenarios.save(state, path)
    units = {"G": 2.5, "softening": 0.1} if suffix == "npy" else {}
    loaded = scenarios.load(path, **units)
    assert same(loaded, state)
    assert not loaded.batched
    assert (loaded.G, loaded.softening) == (2.5, 0.1)
    assert loaded.time.item() == (0.0 if suffix == "npy" else 1.25)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", ["npy", "npz", "json"])
def test_files_hold_a_batch_bit_for_bit(tmp_path, suffix):
    batch = make("few_body", n_systems=3)
    batch = batch.replace(time=np.arange(3.0))
    scenarios.save(batch, tmp_path / f"batch.{suffix}")
    loaded = scenarios.load(tmp_path / f"batch.{suffix}")
    assert loaded.batched
    assert same(loaded, batch)
    if suffix != "npy":
        assert np.array_equal(loaded.time, batch.time)


@pytest.mark.parametrize("suffix", ["csv", "txt"])
def test_text_holds_no_batch(tmp_path, suffix):
    with pytest.raises(InputError, match=r"batch of 16 systems .*use \.npy"):
        scenarios.save(make("few_body"), tmp_path / f"batch.{suffix}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "text",
    [
        "1 0 0 0 0\n1 1 0 0 1\n",
        "# two bodies\n\n1, 0, 0, 0, 0\n1, 1, 0, 0, 1  # the second\n",
        "mass,x,y,vx,vy\r\n1,0,0,0,0\r\n1,1,0,0,1\r\n",
        "\ufeffm x y vx vy\n1.0\t0e0 0 0 0\n+1 1 0 0 1",
    ],
    ids=["plain", "comments", "header", "byte order mark"],
)
def test_text_may_have_comments_a_header_and_any_spacing(tmp_path, text):
    path = tmp_path / "pair.txt"
    path.write_text(text, encoding="utf-8", newline="")
    expected = State.from_arrays([1, 1], [[0, 0], [1, 0]], [[0, 0], [0, 1]])
    assert same(scenarios.load(path), expected)


def test_units_asked_for_must_be_those_of_the_file(tmp_path):
    path = tmp_path / "system.json"
    scenarios.save(one_system(), path)
    assert scenarios.load(path, G=2.5).G == 2.5
    with pytest.raises(InputError, match=r"holds G=2.5, not G=1.0"):
        scenarios.load(path, G=1.0)
    with pytest.raises(InputError, match=r"holds softening=0.1"):
        scenarios.load(path, softening=0.0)


GOOD = {"mass": [1, 1], "position": [[0, 0], [1, 0]], "velocity": [[0, 0], [0, 1]]}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"", "no bodies"),
        ("a.csv", b"mass,x,y,vx,vy\n", "no bodies"),
        ("a.txt", b"1 0 0 0 0\n1 1 0 0\n", "line 2 has 4 columns"),
        ("a.txt", b"1 0 0 0 0\n1 1 0 0 0 0 0\n", "line 2 has 7 columns and the first row 5"),
        ("a.csv", b"1,0,0,0,0\n1,1,zero,0,0\n", "line 2: 'zero' is not a finite number"),
        ("a.csv", b"1,0,0,0,0\n1,1,,0,0\n", "line 2: '' is not a finite number"),
        ("a.csv", b"1,0,0,0,0\n1,nan,0,0,0\n", "line 2: 'nan' is not a finite number"),
        ("a.txt", b"m x y vx vy\nm x y vx vy\n1 0 0 0 0\n", "line 2: 'm' is not"),
        ("a.txt", b"1 0 0 0 0\n", "N = 1"),
        ("a.txt", b"1 0 0 0 0\n-1 1 0 0 0\n", "masses must be zero or positive"),
        ("a.txt", b"\x93NUMPY\xff", "not UTF-8 text"),
        ("a.txt", b"# G = two\n1 0 0 0 0\n1 1 0 0 1\n", "line 1: 'two'"),
        ("a.npy", b"", "it is empty"),
        ("a.npy", b"nonsense", "numpy can't read it"),
        ("a.npz", b"", "it is empty"),
        ("a.npz", b"PK nonsense", "numpy can't read it"),
        ("a.json", b"", "line 1 is not JSON"),
        ("a.json", b'{\n"mass": [1,\n}', "line 3 is not JSON"),
        ("a.json", b"[1, 2]", "no object"),
        ("a.json", b'{"mass": [1, 1]}', "key 'position' is missing"),
        ("a.json", json.dumps({**GOOD, "masss": 1}).encode(), "did you mean 'mass'"),
        ("a.json", json.dumps({**GOOD, "mass": [1, "x"]}).encode(), "mass can't be read"),
        ("a.json", json.dumps({**GOOD, "position": [[0], [1, 0]]}).encode(), "position can't"),
        ("a.json", json.dumps({**GOOD, "G": "1"}).encode(), "G is '1'; it must be one number"),
        ("a.json", json.dumps({**GOOD, "softening": -1}).encode(), "softening is -1"),
    ],
)
def test_a_bad_file_is_named_with_the_place_and_the_remedy(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        scenarios.load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 6)), r"shape is \(2, 6\)"),
        (np.zeros(5), r"shape is \(5,\)"),
        (np.zeros((2, 5), dtype=complex), "complex128"),
        (np.full((2, 5), "1"), "not real numbers"),
        (np.array([{"mass": 1}], dtype=object), "pickled objects are not opened"),
    ],
)
def test_a_bad_array_is_named(tmp_path, array, message):
    path = tmp_path / "a.npy"
    np.save(path, array, allow_pickle=True)
    with pytest.raises(InputError, match=message) as caught:
        scenarios.load(path)
    assert str(path) in str(caught.value)


def test_an_archive_of_objects_is_not_opened(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, mass=np.array([{}], dtype=object))
    with pytest.raises(InputError, match="pickled objects are not opened"):
        scenarios.load(path)


def test_an_archive_and_an_array_are_not_mixed_up(tmp_path):
    np.savez(tmp_path / "a.npz", mass=np.ones(2))
    (tmp_path / "a.npz").rename(tmp_path / "a.npy")
    with pytest.raises(InputError, match=r"\.npz archive; rename"):
        scenarios.load(tmp_path / "a.npy")
    np.save(tmp_path / "b.npy", np.ones((2, 5)))
    (tmp_path / "b.npy").rename(tmp_path / "b.npz")
    with pytest.raises(InputError, match=r"single \.npy array; rename"):
        scenarios.load(tmp_path / "b.npz")


def test_a_missing_file_or_folder_or_an_unknown_suffix_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.csv' does not exist"):
        scenarios.load(tmp_path / "none.csv")
    with pytest.raises(InputError, match=r"suffix .* '\.jsn' is unknown; did you mean '\.json'"):
        scenarios.load(tmp_path / "a.jsn")
    with pytest.raises(InputError, match=r"suffix .* '' is unknown"):
        scenarios.save(one_system(), tmp_path / "a")
    with pytest.raises(InputError, match=r"nowhere' does not exist; make it first"):
        scenarios.save(one_system(), tmp_path / "nowhere" / "a.json")


def test_a_save_that_fails_leaves_the_old_file_whole(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    scenarios.save(one_system(), path)
    before = path.read_bytes()

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        scenarios.save(make("pythagorean"), path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize(
    ("bound", "message"),
    [
        ({"eccentricity": "a"}, "eccentricity"),
        ({"eccentricty": 0.5}, "did you mean 'eccentricity'"),
        ({"eccentricity": 2.0}, "eccentricity"),
    ],
)
def test_what_a_partial_holds_is_checked_like_any_parameter(bound, message):
    with pytest.raises(InputError, match=message):
        scenarios.make(partial(scenarios.SCENARIOS["kepler"], **bound))
