"""The law of planets' steps: what it looks at, what it chooses, and that it keeps the tolerance."""

import numpy as np
import pytest
from symmetries import OF_SPACE

from nbcore.analysis.families import problem
from nbcore.analysis.planet_steps import orbit_errors
from nbcore.physics import scenarios
from nbcore.physics.orbits import orbit, pericentre_period
from nbcore.physics.state import State
from nbcore.physics.wisdom_holman import SETTINGS, WisdomHolman, jacobi_order
from nbcore.simulation.simulate import simulate
from nbcore.stepping.outlook import look_ahead
from nbcore.stepping.planets import LONGEST, SHORTEST, bound, expected_error, longest_step
from nbcore.stepping.policies import FixedStep, OwnStep

EVERY = pytest.mark.parametrize("setting", SETTINGS)


def planets(n_systems=1, **parameters):
    return scenarios.make("planetary_system", n_systems=n_systems, seed=3, **parameters)


def seen(state, length=100.0):
    return look_ahead(state, jacobi_order(state), state.time + length, 1000.0)


def chosen(state, tolerance, length=100.0, setting=None, policy=None):
    scheme, steps = bound(
        WisdomHolman(setting),
        policy or OwnStep(),
        state,
        state.time + length,
        np.broadcast_to(tolerance, state.n_systems),
    )
    return scheme.setting, steps(state, None, None)


def test_terms_are_of_the_first_and_second_order_in_the_masses():
    heavy = planets(planet_mass=1e-5)
    light = heavy.replace(mass=np.where(heavy.mass < 0.5, 1e-2 * heavy.mass, heavy.mass))
    more, less = seen(heavy), seen(light)
    assert more.boundary / less.boundary == pytest.approx(100, rel=0.03)
    assert more.coupling / less.coupling == pytest.approx(100, rel=0.03)
    assert more.second / less.second == pytest.approx(1e4, rel=0.03)


def test_the_boundary_term_is_what_plain_steps_err_by():
    state = planets(8)
    period, end = pericentre_period(state), state.time + 120.0
    times = np.linspace(0, 120, 101)[1:]
    truth = simulate(state, end, integrator="gbs", tolerance=1e-13, record=times)
    policy = FixedStep(0.02 * period)
    run = simulate(state, end, policy, integrator=WisdomHolman("plain"), record=times)
    ratio = orbit_errors(state, run, truth) / (seen(state, 120.0).boundary * 0.02**2)
    assert ((ratio > 0.3) & (ratio < 6)).all()  # once at the start and once now, and a little more


def test_an_alignment_is_found_wherever_planets_begin():
    # Of two planets on circles the terms are largest when they are in line, whenever that is.
    found = []
    for phase in (0.1, 0.3, 0.6, 0.9):
        mass = np.array([[1.0, 1e-5, 1e-5]])
        x, v = orbit(1 + 1e-5, np.array([1.0, 1.3]), 0.0, np.array([0.0, phase]))
        state = State.from_arrays(
            mass, np.pad(x, ((1, 0), (0, 0)))[None], np.pad(v, ((1, 0), (0, 0)))[None]
        )
        found.append(seen(state).boundary[0])
    assert max(found) < 1.1 * min(found)


def test_passages_of_orbits_that_cross_need_shorter_steps():
    regular, crossed = (seen(planets(8, eccentricity=e)) for e in (0.01, 0.2))
    assert (regular.turns == 0).all()
    assert np.isinf(regular.passing).all()
    assert (crossed.turns.max(axis=1) > 0).any()
    assert crossed.passing.min() < 0.2
    assert crossed.boundary.max() > 10 * regular.boundary.max()


def fall(values):
    """s of harmonics that fall as k^p exp(−s k), of a function over a whole period."""
    size = np.abs(np.fft.rfft(values)) / len(values)
    k = np.flatnonzero(size > 1e-11 * size[1])[1:]
    k = k[k > 0.2 * k[-1]]
    terms = np.stack([-k, np.log(k), np.ones(len(k))], axis=1)
    return np.linalg.lstsq(terms, np.log(size[k]), rcond=None)[0][0]


def two(e, axes, mass):
    """A planet on an ellipse, and one on a circle."""
    x, v = orbit(1.0, np.array(axes), np.array([e, 0.0]), np.array([0.1, 0.6]))
    still = np.zeros((1, 3))
    state = np.array([[1.0, mass, mass]]), np.concatenate([still, x]), np.concatenate([still, v])
    return State.from_arrays(state[0], state[1][None], state[2][None])


@pytest.mark.parametrize("e", [0.1, 0.3, 0.6, 0.9])
def test_a_lone_orbit_is_as_steep_as_its_harmonics_fall(e):
    x, _ = orbit(1.0, 1.0, e, np.arange(4096) / 4096)
    steepness = seen(two(e, (1.0, 1e3), 0.0)).steepness[0, 1]
    assert steepness * (1 - e) ** 1.5 == pytest.approx(fall(x[:, 0]), rel=0.04)


@pytest.mark.parametrize(("e", "within"), [(0.0, 0.02), (0.1, 0.04), (0.2, 0.12)])  # beyond e
def test_a_pair_is_as_steep_as_the_harmonics_of_its_force_fall(e, within):
    outer, turns = 2 ** (2 / 3), np.arange(4096) / 4096  # of the outer one; the inner one makes two
    inner, _ = orbit(1.0, 1.0, e, 2 * turns)
    slower, _ = orbit(1.0, outer, 0.0, turns)
    falls = 2 * fall(1 / np.linalg.norm(inner - slower, axis=1))
    steepness = seen(two(e, (1.0, outer), 1e-9)).steepness[0, 1]
    assert steepness * (1 - e) ** 1.5 == pytest.approx(falls, rel=within)


@pytest.mark.parametrize("transform", OF_SPACE)
def test_an_outlook_is_free_of_frame_and_units(transform):
    change, slower = OF_SPACE[transform]
    state = planets(4, eccentricity=0.05)
    moved = change(state)
    before, after = seen(state), seen(moved, 100.0 * slower)
    assert after.period == pytest.approx(slower * before.period, rel=1e-9)
    for name in ("periods", "boundary", "second", "coupling"):
        assert getattr(after, name) == pytest.approx(getattr(before, name), rel=0.02)
    for name in ("steepness", "turns", "passing"):  # of bodies, whose order may be another
        there, here = (np.sort(getattr(each, name), axis=1) for each in (after, before))
        assert there == pytest.approx(here, rel=0.02)


@EVERY
def test_errors_grow_with_the_step_and_a_stricter_tolerance_takes_shorter_ones(setting):
    outlook = seen(planets(4))
    steps = np.geomspace(SHORTEST, LONGEST[setting], 40)
    errors = [expected_error(setting, outlook, np.full(4, f)) for f in steps]
    assert (np.diff(errors, axis=0) > 0).all()
    f = [longest_step(setting, outlook, np.full(4, 10.0**-k)) for k in range(2, 16)]
    assert (np.diff(f, axis=0) <= 0).all()
    assert (f[0] <= LONGEST[setting] * (1 + 1e-12)).all()
    assert (f[-1] >= SHORTEST * (1 - 1e-12)).all()
    reached = expected_error(setting, outlook, f[4])
    assert reached == pytest.approx(1e-6, rel=1e-4) or setting != "plain"


def test_settings_follow_the_tolerance():
    state = planets(4)
    assert [chosen(state, tolerance, 300)[0] for tolerance in (1e-3, 1e-6, 1e-10)] == list(SETTINGS)
    # A corrector is not worth its price in a short run.
    assert chosen(state, 1e-6, 10.0)[0] == "plain"
    assert chosen(state, 1e-6, 10.0, setting="lazy")[0] == "lazy"


def test_steps_are_a_whole_number_and_do_not_depend_on_other_systems():
    state = planets(5, eccentricity=0.1)
    dt = chosen(state, 1e-6, 100.0, "corrected")[1]
    assert 100.0 / dt == pytest.approx(np.round(100.0 / dt), rel=1e-12)
    for b in range(5):
        assert chosen(state.select([b]), 1e-6, 100.0, "corrected")[1] == pytest.approx(dt[b])
    flat = planets(3, inclination=0.0, dimensions=2)
    assert (chosen(flat, 1e-6)[1] > 0).all()


def test_massless_bodies_and_lone_planets_have_steps():
    nothing = planets(planet_mass=0.0)
    assert seen(nothing).boundary == 0
    period = pericentre_period(nothing)
    assert chosen(nothing, 1e-10)[1] == pytest.approx(LONGEST["plain"] * period, rel=0.02)
    lone = planets(n_planets=1)
    most = LONGEST["plain"] * pericentre_period(lone)
    assert chosen(lone, 1e-10)[1] == pytest.approx(most, rel=0.02)
    endless = chosen(planets(), 1e-6, np.inf)[1]
    assert np.isfinite(endless).all()
    assert (endless > 0).all()


def test_other_policies_choose_for_themselves():
    state = planets(2)
    setting, dt = chosen(state, 1e-6, 10.0, policy=FixedStep(0.3))
    assert setting == "corrected"
    assert dt == pytest.approx(10 / 34)


@pytest.mark.parametrize("name", ["planets_quiet", "outer_planets"])
@pytest.mark.parametrize("tolerance", [1e-4, 1e-7, 1e-10])
def test_the_tolerance_is_kept_and_nearly_used_up(name, tolerance):
    at = problem(name, "held_out", 8)
    start, end = at.state.time[0], at.t_end[0]
    times = start + (end - start) * np.arange(1, 51) / 50
    truth = simulate(at.state, at.t_end, integrator="gbs", tolerance=1e-13, record=times)
    run = simulate(at.state, at.t_end, integrator=WisdomHolman(), tolerance=tolerance, record=times)
    error = orbit_errors(at.state, run, truth) / tolerance
    assert (error < 10).all()
    assert np.median(error) > 0.03
