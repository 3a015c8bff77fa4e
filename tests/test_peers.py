import math
import sys

import numpy as np
import pytest

from nbcore.analysis.peers import PEERS, missing
from nbcore.analysis.planetary_peers import PLANETARY, SAMPLES
from nbcore.errors import InputError
from nbcore.physics import gravity, scenarios
from nbcore.physics.fields import TidalField
from nbcore.physics.orbits import pericentre_period
from nbcore.physics.state import State
from nbcore.stepping.criteria import get_criterion

KEPLER = scenarios.make("kepler", eccentricity=0.5)
END = scenarios.make("kepler", eccentricity=0.5, phase=0.5 + 3.3)
T_END = 3.3 * 2 * math.pi
LEAPFROGS = {"leapfrog2": 1, "leapfrog4": 3, "leapfrog6": 9, "leapfrog8": 17}

PLANETS = scenarios.make("planetary_system", n_planets=3, planet_mass=1e-4, dimensions=3)
YEARS = 40.0

ANY_BODIES = [name for name in PEERS if name not in PLANETARY]
each_peer = pytest.mark.parametrize("name", PEERS)
each_for_any_bodies = pytest.mark.parametrize("name", ANY_BODIES)
each_planetary = pytest.mark.parametrize("name", PLANETARY)


def kepler(name, place):
    """One of a peer's settings, ready to run; the same few settings in all tests."""
    peer = PEERS[name]
    return peer.prepare(KEPLER, T_END, peer.settings[place])


def planets(name, place, state=PLANETS, t_end=YEARS):
    """The same with planets."""
    peer = PLANETARY[name]
    try:
        return peer.prepare(state, t_end, peer.settings[place])
    except InputError as error:
        if "not supported by your CPU" in str(error):
            pytest.skip(str(error))
        raise


def suited(name, place):
    """The same with a system that the peer is made for."""
    return planets(name, place) if name in PLANETARY else kepler(name, place)


@each_for_any_bodies
def test_a_tighter_setting_keeps_the_energy_better(name):
    loose, strict = (kepler(name, place).measure(100_000) for place in (0, -1))
    assert loose.status == strict.status == "SUCCESS"
    assert strict.max_energy_error < 1e-3 * loose.max_energy_error
    assert strict.final_energy_error <= strict.max_energy_error < 1e-5


@each_for_any_bodies
def test_the_strictest_setting_ends_on_the_analytic_orbit(name):
    run = kepler(name, -1).measure(100_000)
    # An error of the energy goes over to the period, and here to 60 times as much of the phase;
    # rounding of thousands of steps is the rest.
    tolerance = 100 * run.max_energy_error + 1e-11
    assert np.abs(run.position - END.position[0]).max() < tolerance
    assert np.abs(run.velocity - END.velocity[0]).max() < 3 * tolerance


@each_peer
def test_the_energy_error_is_that_of_our_own_runs(name):
    start = PLANETS if name in PLANETARY else KEPLER
    run = suited(name, 0).measure(100_000)
    end = State.from_arrays(start.mass[0], run.position, run.velocity)
    before, after = (gravity.energy(state).item() for state in (start, end))
    error = abs(after / before - 1)
    assert run.final_energy_error == pytest.approx(error, rel=1e-9, abs=1e-15)


@each_peer
def test_every_run_starts_afresh(name):
    prepared = suited(name, 0)
    first = prepared.measure(100_000)
    assert prepared.time() > 0
    again = prepared.measure(100_000)
    assert np.array_equal(again.position, first.position)
    assert (again.n_steps, again.max_energy_error) == (first.n_steps, first.max_energy_error)
    assert prepared.setup_seconds > 0


@pytest.mark.parametrize("name", [name for name in ANY_BODIES if PEERS[name].package == "rebound"])
def test_watching_rebound_does_not_change_a_bit_of_the_motion(name):
    prepared = kepler(name, 0)
    sim = prepared.fresh()
    sim.integrate(T_END)
    run = prepared.measure(100_000)
    assert np.array_equal(run.position, [p.xyz[:2] for p in sim.particles])
    assert run.n_steps == sim.steps_done


@each_peer
def test_the_last_step_allowed_ends_a_run_with_a_status(name):
    prepared = suited(name, 0)
    n_steps = prepared.measure(100_000).n_steps
    assert prepared.measure(n_steps).status == "SUCCESS"
    cut = prepared.measure(7)
    assert (cut.status, cut.n_steps) == ("MAX_STEPS", 7)
    assert np.isfinite(cut.position).all()


@each_for_any_bodies
def test_a_head_on_collision_neither_hangs_nor_passes_for_a_good_run(name):
    state = State.from_arrays([0.5, 0.5], [[-0.5, 0.0], [0.5, 0.0]], np.zeros((2, 2)))
    peer = PEERS[name]
    run = peer.prepare(state, 3.0, peer.settings[0]).measure(5000)
    assert run.n_steps <= 5000
    assert run.status != "SUCCESS" or run.max_energy_error > 1


@each_for_any_bodies
def test_force_evaluations_are_counted_where_a_code_works_in_them(name):
    run = kepler(name, 0).measure(100_000)
    if name == "heyoka":
        assert math.isnan(run.n_force_evaluations)
    elif name.startswith("rebound"):
        assert run.n_force_evaluations == LEAPFROGS[name.split()[1]] * run.n_steps
    elif name.startswith("ias15"):
        # One at the start of a step and seven an iteration, of which there are two at least.
        assert run.n_force_evaluations >= 15 * run.n_steps
    else:
        assert run.n_force_evaluations >= 6 * run.n_steps


@pytest.mark.parametrize("name", [f"rebound {name}" for name in LEAPFROGS])
def test_the_setting_of_a_leapfrog_is_its_step_in_pair_time_scales(name):
    setting = PEERS[name].settings[1]
    tau = get_criterion("boekholt").time_scale(KEPLER).item()
    n_steps = kepler(name, 1).measure(100_000).n_steps
    # REBOUND adds a step of rounding size where the sum of all falls short of the end.
    assert n_steps - math.ceil(T_END / (setting * tau)) in (0, 1)


@pytest.mark.parametrize("name", ["ias15 prs23", "heyoka", "dop853"])
def test_softening_units_and_test_particles_mean_the_same_to_all(name):
    rng = np.random.default_rng(3)
    position, velocity = rng.normal(size=(2, 3, 3))
    state = State.from_arrays([1.0, 0.5, 0.0], position, velocity, 2.5, 0.3, time=4.0)
    oracle = PEERS["bs"].prepare(state, 6.0, 1e-13).measure(10_000)
    run = PEERS[name].prepare(state, 6.0, PEERS[name].settings[-1]).measure(10_000)
    assert run.max_energy_error < 1e-11
    assert np.abs(run.position - oracle.position).max() < 1e-10


@pytest.mark.parametrize("package", ["rebound", "heyoka", "scipy"])
def test_a_missing_package_is_named(monkeypatch, package):
    assert missing() == {}
    monkeypatch.setitem(sys.modules, package, None)
    needing = {name: package for name, peer in PEERS.items() if peer.package == package}
    assert missing() == needing
    for name in needing:
        with pytest.raises(InputError, match=f"'{package}' is not installed; pip install"):
            suited(name, 1)


@pytest.mark.parametrize("name", ["bs", "whfast", "heyoka", "dop853"])
def test_what_a_peer_can_not_run_is_refused(name):
    def prepare(state, t_end=1.0):
        PEERS[name].prepare(state, t_end, PEERS[name].settings[0])

    batch = scenarios.make("kepler_orbits", n_systems=2)
    with pytest.raises(InputError, match="2 systems"):
        prepare(batch)
    with pytest.raises(InputError, match="external field"):
        prepare(KEPLER.replace(field=TidalField(mass=1.0, position=(9.0, 0.0))))
    for t_end in (0.0, math.inf):
        with pytest.raises(InputError, match="t_end"):
            prepare(batch.select([1]), t_end)


@each_planetary
def test_a_strict_setting_of_a_planetary_peer_follows_planets_as_another_code_does(name):
    loose, strict = (planets(name, place).measure(100_000) for place in (0, -1))
    truth = PEERS["ias15 prs23"].prepare(PLANETS, YEARS, 1e-9).measure(100_000).position
    error, smaller = (np.abs(run.position - truth).max() for run in (loose, strict))
    assert strict.status == loose.status == "SUCCESS"
    # Steps shrink by 25 and more, at order 2 at least; TRACE is the better at its loosest for
    # going over to Bulirsch & Stoer there.
    assert smaller < 1e-5
    assert name == "trace" or smaller < error / 100
    assert name == "trace" or strict.max_energy_error < loose.max_energy_error / 100
    assert strict.final_energy_error <= strict.max_energy_error < 1e-6


@each_planetary
def test_a_planetary_peer_ends_where_a_run_that_nobody_watches_ends(name):
    prepared = planets(name, 0)
    run, sim = prepared.measure(100_000), prepared.fresh()
    if name.startswith("whfast512"):
        sim.integrator.concatenate_steps = 1
    sim.steps(run.n_steps)
    sim.synchronize()
    ends = np.array([particle.xyz for particle in sim.particles])[np.argsort(prepared.order)]
    np.testing.assert_allclose(run.position, ends, rtol=0, atol=1e-13)
    assert sim.t == pytest.approx(YEARS, rel=1e-12)


@each_planetary
def test_the_run_whose_energy_is_taken_moves_like_the_one_that_is_not_interrupted(name):
    prepared = planets(name, 1)
    whole, _ = prepared._bodies(prepared.fresh(), 100)
    sampled = prepared.fresh(prepared.sampled)
    for _ in range(4):
        parts, _ = prepared._bodies(sampled, 25)
    from_copies = "keep_unsynchronized" in prepared.sampled
    assert np.abs(parts - whole).max() <= (0 if from_copies else 1e-12)


@each_planetary
def test_the_setting_of_a_planetary_peer_is_its_step_in_units_of_the_shortest_pericentre(name):
    step = PLANETARY[name].settings[0] * pericentre_period(PLANETS).item()
    n_steps = math.ceil(YEARS / step)
    assert n_steps < SAMPLES  # or else the energy is not taken after every one
    assert planets(name, 0).measure(100_000).n_steps == n_steps


@pytest.mark.parametrize("name", ["whfast c17", "saba4", "mercurius"])
def test_planetary_peers_take_bodies_in_any_order(name):
    order = [2, 0, 3, 1]
    turned = PLANETS.replace(
        mass=PLANETS.mass[:, order],
        position=PLANETS.position[:, order],
        velocity=PLANETS.velocity[:, order],
    )
    run, other = (planets(name, 0, state).measure(1000) for state in (PLANETS, turned))
    assert np.array_equal(other.position, run.position[order])
    assert np.array_equal(other.velocity, run.velocity[order])


def test_planetary_peers_refuse_what_they_are_not_made_for():
    equal = scenarios.make("few_body", n_systems=1)
    falling = PLANETS.replace(velocity=0 * PLANETS.velocity)
    many = scenarios.make("planetary_system", n_planets=9)
    for name, state, message in (
        ("whfast", KEPLER, "give 3 or more"),
        ("saba4", PLANETS.replace(softening=0.1), "no softening, and it is 0.1"),
        ("trace", equal, "outweighs all others"),
        ("mercurius", falling, "falls straight"),
        ("whfast512", many, "REBOUND does not run it: .* maximum of 9 particles"),
        ("whfast512 c17", PLANETS.replace(G=2.0), "REBOUND does not run it: .* G=1"),
    ):
        with pytest.raises(InputError, match=message):
            planets(name, 0, state)


@each_peer
def test_settings_go_from_loose_to_strict(name):
    settings = PEERS[name].settings
    assert list(settings) == sorted(settings, reverse=True)
