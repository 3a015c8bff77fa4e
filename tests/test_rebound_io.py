import sys

import numpy as np
import pytest
import rebound

from nbcore.errors import InputError
from nbcore.physics import gravity, scenarios
from nbcore.physics.fields import TidalField
from nbcore.physics.integrators import get_integrator
from nbcore.physics.rebound_io import from_rebound, to_rebound
from nbcore.physics.state import State


def cluster(n_bodies=5, n_dimensions=3, softening=0.03):
    """Random bodies, the last a test particle, in units of their own."""
    rng = np.random.default_rng(7)
    mass = np.r_[rng.uniform(0.1, 1.0, n_bodies - 1), 0.0]
    position, velocity = rng.normal(size=(2, n_bodies, n_dimensions))
    return State.from_arrays(mass, position, velocity, 39.47, softening, time=-1.7)


def simulation():
    sim = rebound.Simulation()
    sim.add(m=1.0)
    sim.add(m=1e-3, a=1.0, e=0.1, inc=0.2)
    sim.add(a=2.5, r=1e-4, name="moon")
    sim.dt = 0.01
    return sim


def same(state, other):
    values = zip(state.to_arrays().values(), other.to_arrays().values(), strict=True)
    return all(np.array_equal(a, b) for a, b in values) and (
        (state.G, state.softening, state.batched) == (other.G, other.softening, other.batched)
    )


def test_a_state_comes_back_from_rebound_bit_for_bit():
    assert same(from_rebound(to_rebound(cluster())), cluster())


def test_a_simulation_comes_back_bit_for_bit():
    sim = simulation()
    sim.G, sim.softening, sim.t = 2.0, 1e-3, 12.5
    again = to_rebound(from_rebound(sim))
    assert (again.G, again.softening, again.t, again.N) == (2.0, 1e-3, 12.5, 3)
    for ours, theirs in zip(again.particles, sim.particles, strict=True):
        assert (ours.m, *ours.xyz, *ours.vxyz) == (theirs.m, *theirs.xyz, *theirs.vxyz)


def test_a_planar_system_lies_at_z_0():
    planar = cluster(n_dimensions=2)
    spatial = from_rebound(to_rebound(planar))
    for name in ("position", "velocity"):
        expected = np.pad(getattr(planar, name)[0], ((0, 0), (0, 1)))
        assert np.array_equal(getattr(spatial, name)[0], expected)


def test_both_codes_have_the_same_energy():
    state = cluster(softening=0.0)
    scale = gravity.energy_scale(state).item()
    assert abs(to_rebound(state).energy() - gravity.energy(state).item()) < 1e-14 * scale


def test_softened_motion_in_rebound_keeps_our_energy():
    # sim.energy() can't be the oracle: it leaves the softening out that the forces have.
    state = scenarios.make("pythagorean", softening=0.5)
    sim = to_rebound(state)
    sim.integrate(5.0)
    now, start = gravity.energy(from_rebound(sim)), gravity.energy(state)
    assert abs(now - start) < 1e-13 * gravity.energy_scale(state)
    assert abs(sim.energy() - start) > 1e-2 * gravity.energy_scale(state)


def test_both_codes_make_the_same_leapfrog_steps():
    # REBOUND drifts first and we kick first: half a kick and half a drift before n − 1 of its
    # steps, and half a drift after, are the positions after n of ours.
    start, n_steps, h = scenarios.make("figure_eight", softening=0.01), 200, 0.01
    ours = start
    for _ in range(n_steps):
        ours = get_integrator("leapfrog").step(ours, np.array([h]))
    velocity = start.velocity + h / 2 * gravity.acceleration(start)
    sim = to_rebound(start.replace(velocity=velocity, position=start.position + h / 2 * velocity))
    sim.integrator, sim.dt = "leapfrog", h
    sim.steps(n_steps - 1)
    end = from_rebound(sim)
    theirs = end.position + h / 2 * end.velocity
    # Rounding of 200 steps on an orbit that is not chaotic.
    assert np.abs(theirs[..., :2] - ours.position).max() < 1e-12


def set_integrator(sim, name, **options):
    sim.integrator = name
    for option, value in options.items():
        setattr(sim.integrator, option, value)


def use_test_particles(sim):
    sim.N_active = 1


def use_ghosts(sim):
    sim.N_ghost_y = 1


def use_extras(sim):
    sim.extras = 1


FOREIGN = {
    "additional_forces": lambda sim: setattr(sim, "additional_forces", lambda _: None),
    "pre_timestep_modifications": lambda sim: setattr(
        sim, "pre_timestep_modifications", lambda _: None
    ),
    "post_timestep_modifications": lambda sim: setattr(
        sim, "post_timestep_modifications", lambda _: None
    ),
    "REBOUNDx": use_extras,
    "ODEs": lambda sim: sim.create_ode(length=2),
    "gravity": lambda sim: setattr(sim, "gravity", "tree"),
    "collision": lambda sim: setattr(sim, "collision", "direct"),
    "boundary": lambda sim: setattr(sim, "boundary", "open"),
    "N_ghost": use_ghosts,
    "exit_min_distance": lambda sim: setattr(sim, "exit_min_distance", 0.1),
    "exit_max_distance": lambda sim: setattr(sim, "exit_max_distance", 100.0),
    "variational particles": lambda sim: sim.add_variation(),
    "MEGNO": lambda sim: sim.init_megno(seed=1),
    "N_active": use_test_particles,
    "dt < 0": lambda sim: setattr(sim, "dt", -0.01),
    "integrator none": lambda sim: set_integrator(sim, "none"),
    "rotating frame": lambda sim: set_integrator(sim, "sei"),
    "gr_potential": lambda sim: set_integrator(sim, "whfast512", gr_potential=1),
    "N_systems": lambda sim: set_integrator(sim, "whfast512", N_systems=2),
    "unsynchronized": lambda sim: setattr(sim, "is_synchronized", 0),
}


def test_a_simulation_that_runs_backward_is_taken_as_the_message_says():
    sim = simulation()
    sim.dt = -0.01
    sim.integrate(-1.0)
    with pytest.raises(InputError, match=r"dt < 0.*reverse all velocities"):
        from_rebound(sim)
    sim.dt = 0.01
    assert from_rebound(sim).time.item() == -1.0


@pytest.mark.parametrize("name", FOREIGN)
def test_what_a_state_can_not_hold_is_named(name):
    sim = simulation()
    FOREIGN[name](sim)
    with pytest.raises(InputError, match=name):
        from_rebound(sim)


def test_all_that_a_state_can_not_hold_is_named_at_once():
    sim = simulation()
    sim.boundary, sim.collision = "open", "direct"
    with pytest.raises(InputError, match=r"collision .*; boundary "):
        from_rebound(sim)


def test_the_copy_that_the_message_offers_is_accepted():
    sim = simulation()
    sim.additional_forces = lambda _: None
    sim.create_ode(length=2)
    sim.extras = 1
    with pytest.raises(InputError, match=r"sim.copy\(\) is without"):
        from_rebound(sim)
    with pytest.warns(RuntimeWarning, match="reset function pointers"):
        copy = sim.copy()
    assert same(from_rebound(copy), from_rebound(simulation()))


def test_a_heartbeat_and_massless_test_particles_are_no_obstacle():
    sim = simulation()
    sim.heartbeat = lambda _: None
    sim.N_active, sim.testparticle_type = 2, 1
    assert same(from_rebound(sim), from_rebound(simulation()))


@pytest.mark.parametrize(
    "name", ["ias15", "bs", "leapfrog", "whfast", "saba", "eos", "mercurius", "trace", "janus"]
)
def test_a_simulation_can_be_taken_over_in_mid_run(name):
    sim = simulation()
    sim.integrator = name
    sim.integrate(0.5)
    assert np.array_equal(from_rebound(sim).position[0], [p.xyz for p in sim.particles])


def test_something_else_than_a_simulation_is_refused():
    with pytest.raises(InputError, match="'dict'"):
        from_rebound({})  # type: ignore[arg-type]


def test_a_batch_of_several_systems_is_refused_and_of_one_is_not():
    batch = scenarios.make("few_body", n_systems=2, n_bodies=3)
    with pytest.raises(InputError, match=r"2 systems .* state.select"):
        to_rebound(batch)
    one = to_rebound(batch.select([1]))
    assert one.particles[2].x == batch.position[1, 2, 0]


def test_an_external_field_is_refused():
    state = scenarios.make("kepler", field=TidalField(mass=1.0, position=(9.0, 0.0)))
    with pytest.raises(InputError, match="external field"):
        to_rebound(state)


@pytest.mark.parametrize(("convert", "value"), [(to_rebound, cluster), (from_rebound, simulation)])
def test_a_missing_rebound_is_named_with_the_remedy(monkeypatch, convert, value):
    value = value()
    monkeypatch.setitem(sys.modules, "rebound", None)
    with pytest.raises(InputError, match=r"'rebound'.* pip install \"aitimestepper\[peers\]\""):
        convert(value)
