"""The error of every body's orbit, beside what is known of it."""

import numpy as np
import pytest

from nbcore.physics import gravity, scenarios
from nbcore.physics.body_errors import BodyErrors, partners
from nbcore.physics.integrators import INTEGRATORS, Hermite, get_integrator
from nbcore.physics.state import State
from nbcore.physics.wisdom_holman import WisdomHolman
from nbcore.simulation.simulate import simulate
from nbcore.stepping.policies import Criterion, FixedStep

# Errors of planets' equal steps are none of a step's.
REVERSIBLE = [
    name
    for name, each in INTEGRATORS.items()
    if each.reversible and not isinstance(each, WisdomHolman)
]


def orbits(n_systems=1, **parameters):
    return scenarios.make("kepler_orbits", n_systems=n_systems, phase=(0.0, 1.0), **parameters)


def energy_and_shape(position, velocity, mu):
    """Of the relative motion of two bodies, from positions and velocities (…, 2, D)."""
    R, V = position[..., 1, :] - position[..., 0, :], velocity[..., 1, :] - velocity[..., 0, :]
    r, v2, rv = np.linalg.norm(R, axis=-1), (V * V).sum(-1), (R * V).sum(-1)
    e = (v2[..., None] * R - rv[..., None] * V) / mu - R / r[..., None]
    return v2 / 2 - mu / r, e, v2 / 2 + mu / r


@pytest.mark.parametrize("mass_ratio", [1.0, 1e-3, 0.0])
@pytest.mark.parametrize("integrator", ["leapfrog", "suzuki4", "blanes_moan6"])
def test_of_a_lone_pair_it_is_what_energy_and_shape_are_off_by(integrator, mass_ratio):
    state = scenarios.make("kepler", eccentricity=0.6, mass_ratio=mass_ratio, phase=0.3)
    run = simulate(state, 20.0, Criterion("boekholt", 0.3), integrator=integrator)
    mu = float(state.mass.sum())
    energy, shape, size = energy_and_shape(run.position, run.velocity, mu)
    off = np.maximum(
        np.abs(energy - energy[0]) / size,
        np.linalg.norm(shape - shape[0], axis=-1) / (1 + np.linalg.norm(shape, axis=-1)),
    )
    np.testing.assert_allclose(run.body_error[:, 1], off, rtol=1e-6, atol=1e-12)
    assert run.max_body_error == run.body_error.max()


def test_of_hermite_which_evaluates_forces_at_predictions_it_is_that_within_a_factor_of_a_few():
    state = scenarios.make("kepler", eccentricity=0.6, mass_ratio=0.1, phase=0.3)
    run = simulate(state, 20.0, Criterion("boekholt", 0.2), integrator="hermite4")
    energy, _, size = energy_and_shape(run.position, run.velocity, 1.0)
    off = np.abs(energy - energy[0]) / size
    assert 0.2 < run.max_body_error / off.max() < 5


def test_a_circular_orbit_that_lost_its_phase_is_found_where_energy_sees_nothing():
    state = scenarios.make("kepler", mass_ratio=1.0)
    run = simulate(state, 20 * np.pi, FixedStep(0.4), integrator="suzuki4")
    moved = np.linalg.norm(run.position[-1] - run.position[0], axis=-1).max()
    assert run.max_energy_error < 1e-4 * moved
    assert moved / 100 < run.max_body_error < moved


@pytest.mark.parametrize("name", REVERSIBLE)
def test_it_shrinks_at_least_at_the_order_of_the_integrator(name):
    state, order = orbits(4, eccentricity=(0.2, 0.4), seed=1), get_integrator(name).order
    length = 0.16 if order < 8 else 0.24
    coarse, fine = (
        simulate(state, 6.0, FixedStep(length / k), integrator=name, record="ends").max_body_error
        for k in (1, 2)
    )
    assert order - 0.6 < np.log2(coarse / fine).mean() < order + 2


@pytest.mark.parametrize("engine", ["compiled", "torch"])
def test_a_massless_body_errs_as_a_light_one_does(engine):
    runs = [
        simulate(
            scenarios.make("kepler", eccentricity=0.5, mass_ratio=ratio),
            10.0,
            FixedStep(0.05),
            integrator="suzuki4",
            engine=engine,
        )
        for ratio in (1e-12, 0.0)
    ]
    light, massless = (run.body_error[:, 1] for run in runs)
    np.testing.assert_allclose(massless, light, rtol=1e-6, atol=1e-13)
    # Nothing acts on the star, or nothing that counts.
    assert runs[1].body_error[:, 0].max() == 0.0


SYSTEMS = {
    "solar_system": lambda: scenarios.make("solar_system"),
    "few_bodies": lambda: scenarios.make("few_body", n_systems=3, n_bodies=9, dimensions=3, seed=3),
    "many": lambda: scenarios.make("plummer", n_bodies=20, seed=1),
    "softened": lambda: scenarios.make("plummer", n_bodies=9, seed=1, softening=0.3),
    "massless": lambda: scenarios.make("planetary_system", planet_mass=0.0, n_systems=2),
    "planar": lambda: scenarios.make("few_body", n_systems=2, seed=1),
}


@pytest.mark.parametrize("record", [1, [0.11, 0.4, 0.83]], ids=["steps", "times"])
@pytest.mark.parametrize("integrator", ["blanes_moan4", "hermite4"])
@pytest.mark.parametrize("system", SYSTEMS)
def test_both_engines_find_the_same(system, integrator, record):
    state = SYSTEMS[system]()
    compiled, torch_ = (
        simulate(state, 0.9, FixedStep(0.02), integrator=integrator, record=record, engine=engine)
        for engine in ("compiled", "torch")
    )
    found, expected = (np.atleast_3d(run.body_error) for run in (compiled, torch_))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-12)
    largest = compiled.max_body_error, torch_.max_body_error
    np.testing.assert_allclose(*largest, rtol=1e-5, atol=1e-12)
    assert np.array_equal(compiled.worst_body, torch_.worst_body)


def test_it_is_free_of_the_frame():
    state = scenarios.make("solar_system")
    far = state.replace(position=state.position + 1e3, velocity=state.velocity - 30.0)
    policy = Criterion("boekholt", 0.3)
    here, there = (simulate(each, 3.0, policy, integrator="blanes_moan4") for each in (state, far))
    assert there.n_steps == here.n_steps
    np.testing.assert_allclose(there.body_error, here.body_error, rtol=1e-3, atol=1e-11)


def test_a_moon_is_followed_beside_its_planet_and_a_comet_beside_the_star():
    position = [[0, 0], [1, 0], [1.002, 0], [9, 3]]
    state = State.from_arrays([1, 3e-6, 4e-8, 0], position, np.zeros((4, 2)))
    # of all others the star is pulled hardest by the planet
    assert partners(state).tolist() == [[1, 2, 1, 0]]


def test_partners_that_change_keep_the_errors_so_far():
    # A massless body passes from the one of two heavy ones to the other, in either engine.
    state = State.from_arrays(
        [1.0, 1.0, 0.0], [[-5, 0], [5, 0], [-3, 0.1]], [[0, -0.3], [0, 0.3], [1.6, 0.2]]
    )
    runs = [
        simulate(state, 8.0, FixedStep(0.02), integrator="leapfrog", engine=engine)
        for engine in ("compiled", "torch")
    ]
    first, last = (
        partners(state.replace(position=runs[0].position[None, k]))[0, 2] for k in (0, -1)
    )
    assert (first, last) == (0, 1)
    np.testing.assert_allclose(runs[0].body_error, runs[1].body_error, rtol=1e-6, atol=1e-14)
    assert (np.abs(np.diff(runs[0].body_error[:, 2])) < 1e-3).all()


def test_two_massless_bodies_do_not_count_as_partners():
    state = State.from_arrays([1, 0, 0], [[0, 0], [1, 0], [1.0001, 0]], [[0, 0], [0, 1], [0, 1]])
    assert partners(state).tolist() == [[0, 0, 0]]


@pytest.mark.parametrize("name", ["suzuki4", "hermite4"])
def test_it_is_asked_for_no_force_and_changes_no_step(name):
    state = orbits(2, eccentricity=(0.3, 0.6))
    followed, free = (
        simulate(state, 5.0, Criterion("boekholt", 0.2), integrator=name, follow=follow)
        for follow in (True, False)
    )
    # but by the order of rounding within the compiled code
    np.testing.assert_allclose(followed.dt, free.dt, rtol=1e-9)
    np.testing.assert_allclose(followed.position, free.position, rtol=1e-9)
    assert (followed.n_force_evaluations == free.n_force_evaluations).all()
    assert np.isnan(free.body_error).all()
    assert np.isnan(free.max_body_error).all()


def test_an_integrator_that_tells_nothing_leaves_no_error_but_none_that_is_known():
    state = scenarios.make("kepler")
    step = BodyErrors.begin(state).watch(state)
    after, _ = BodyErrors.begin(state).after(state, step)
    assert np.isnan(after.error).all()


@pytest.mark.parametrize("integrator", [get_integrator("suzuki4"), Hermite()])
def test_it_is_differentiable(integrator):
    state = orbits(2, eccentricity=(0.3, 0.6)).to("cpu")
    acceleration, jerk = gravity.derivatives(state, 2)
    state = state.replace(acceleration=acceleration, jerk=jerk)
    dt = (0 * state.time + 0.05).requires_grad_()
    errors = BodyErrors.begin(state)
    told = errors.watch(state)
    after = integrator.step(state, dt, told)
    _, erred = errors.after(after, told)
    erred.sum().backward()
    assert (dt.grad > 0).all()
