import math
import sys

import numpy as np
import pytest

from nbcore.analysis.peers import PEERS, missing
from nbcore.errors import InputError
from nbcore.physics import gravity, scenarios
from nbcore.physics.fields import TidalField
from nbcore.physics.state import State
from nbcore.stepping.criteria import get_criterion

KEPLER = scenarios.make("kepler", eccentricity=0.5)
END = scenarios.make("kepler", eccentricity=0.5, phase=0.5 + 3.3)
T_END = 3.3 * 2 * math.pi
LEAPFROGS = {"leapfrog2": 1, "leapfrog4": 3, "leapfrog6": 9, "leapfrog8": 17}

each_peer = pytest.mark.parametrize("name", PEERS)


def kepler(name, place):
    """One of a peer's settings, ready to run; the same few settings in all tests."""
    peer = PEERS[name]
    return peer.prepare(KEPLER, T_END, peer.settings[place])


@each_peer
def test_a_tighter_setting_keeps_the_energy_better(name):
    loose, strict = (kepler(name, place).measure(100_000) for place in (0, -1))
    assert loose.status == strict.status == "SUCCESS"
    assert strict.max_energy_error < 1e-3 * loose.max_energy_error
    assert strict.final_energy_error <= strict.max_energy_error < 1e-5


@each_peer
def test_the_strictest_setting_ends_on_the_analytic_orbit(name):
    run = kepler(name, -1).measure(100_000)
    # An error of the energy goes over to the period, and here to 60 times as much of the phase;
    # rounding of thousands of steps is the rest.
    tolerance = 100 * run.max_energy_error + 1e-11
    assert np.abs(run.position - END.position[0]).max() < tolerance
    assert np.abs(run.velocity - END.velocity[0]).max() < 3 * tolerance


@each_peer
def test_the_energy_error_is_that_of_our_own_runs(name):
    run = kepler(name, 0).measure(100_000)
    end = State.from_arrays(KEPLER.mass[0], run.position, run.velocity)
    before, after = (gravity.energy(state).item() for state in (KEPLER, end))
    error = abs(after / before - 1)
    assert run.final_energy_error == pytest.approx(error, rel=1e-9)


@each_peer
def test_every_run_starts_afresh(name):
    prepared = kepler(name, 0)
    first = prepared.measure(100_000)
    assert prepared.time() > 0
    again = prepared.measure(100_000)
    assert np.array_equal(again.position, first.position)
    assert (again.n_steps, again.max_energy_error) == (first.n_steps, first.max_energy_error)
    assert prepared.setup_seconds > 0


@pytest.mark.parametrize("name", [name for name in PEERS if PEERS[name].package == "rebound"])
def test_watching_rebound_does_not_change_a_bit_of_the_motion(name):
    prepared = kepler(name, 0)
    sim = prepared.fresh()
    sim.integrate(T_END)
    run = prepared.measure(100_000)
    assert np.array_equal(run.position, [p.xyz[:2] for p in sim.particles])
    assert run.n_steps == sim.steps_done


@each_peer
def test_the_last_step_allowed_ends_a_run_with_a_status(name):
    prepared = kepler(name, 0)
    n_steps = prepared.measure(100_000).n_steps
    assert prepared.measure(n_steps).status == "SUCCESS"
    cut = prepared.measure(7)
    assert (cut.status, cut.n_steps) == ("MAX_STEPS", 7)
    assert np.isfinite(cut.position).all()


@each_peer
def test_a_head_on_collision_neither_hangs_nor_passes_for_a_good_run(name):
    state = State.from_arrays([0.5, 0.5], [[-0.5, 0.0], [0.5, 0.0]], np.zeros((2, 2)))
    peer = PEERS[name]
    run = peer.prepare(state, 3.0, peer.settings[0]).measure(5000)
    assert run.n_steps <= 5000
    assert run.status != "SUCCESS" or run.max_energy_error > 1


@each_peer
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
            kepler(name, 1)


@pytest.mark.parametrize("name", ["bs", "heyoka", "dop853"])
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


@each_peer
def test_settings_go_from_loose_to_strict(name):
    settings = PEERS[name].settings
    assert list(settings) == sorted(settings, reverse=True)
