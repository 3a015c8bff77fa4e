"""Runs are made about the centre of mass: a frame changes no step and no digit beyond rounding."""

import numpy as np
import pytest
from symmetries import KINDS, assert_same_as_tensors

from nbcore.physics import scenarios
from nbcore.physics.fields import TidalField
from nbcore.simulation.frame import Frame
from nbcore.simulation.simulate import simulate
from nbcore.simulation.trajectory import Trajectory

SYSTEMS = {
    "eccentric": (lambda: scenarios.make("kepler", eccentricity=0.9, mass_ratio=0.1), 6 * np.pi),
    "pythagorean": (lambda: scenarios.make("pythagorean"), 1.5),
    "massless": (lambda: scenarios.make("kepler", eccentricity=0.5, mass_ratio=0.0), 6 * np.pi),
    "batch": (
        lambda: scenarios.make("planetary_system", n_systems=3, n_planets=2, spacing=8.0, seed=2),
        6.0,
    ),
}


def moved(state, place, speed):
    return state.replace(position=state.position + place, velocity=state.velocity + speed)


@pytest.mark.parametrize("speed", [0.0, 30.0, -300.0])
@pytest.mark.parametrize("place", [0.0, 1024.0])
@pytest.mark.parametrize("system", SYSTEMS)
def test_bulk_motion_and_a_far_origin_change_no_step(system, place, speed):
    make, t_end = SYSTEMS[system]
    options = {"tolerance": 1e-6}
    here = simulate(make(), t_end, **options)
    there = simulate(moved(make(), place, speed), t_end, **options)
    assert np.array_equal(there.n_steps, here.n_steps)
    # Encounters and boundaries of the control amplify what is rounded on input.
    np.testing.assert_allclose(there.dt, here.dt, rtol=1e-3)
    np.testing.assert_allclose(there.max_energy_error, here.max_energy_error, rtol=1e-2, atol=1e-9)
    back = there.position - place - speed * (there.time - 0.0)[..., None, None]
    size = np.nanmax(np.abs(there.position))
    np.testing.assert_allclose(back, here.position, atol=3e-12 * size + 1e-9)


def test_a_very_far_origin_is_rounded_on_input_and_no_further():
    state = scenarios.make("pythagorean")
    far = moved(state, 1e9, 0.0)
    run = simulate(far, 3.0, tolerance=1e-8)
    assert run.max_energy_error < 1e-7
    near = simulate(moved(far, -1e9, 0.0), 3.0, tolerance=1e-8)
    assert run.n_steps == near.n_steps
    np.testing.assert_allclose(run.position - 1e9, near.position, atol=3e-7)


@pytest.mark.parametrize("engine", ["compiled", "torch"])
@pytest.mark.parametrize("record", [None, 7, "ends", [0.5, 1.5]], ids=str)
def test_records_final_state_and_stored_run_are_in_the_users_frame(engine, record, tmp_path):
    state = moved(scenarios.make("kepler", eccentricity=0.3), 5.0, 2.0)
    path = tmp_path / "run.zarr"
    run = simulate(state, 2.0, "boekholt", record=record, engine=engine, path=path)
    centre = (run.mass[:, None] * run.position).sum(axis=1) / run.mass.sum()
    np.testing.assert_allclose(centre, 5.0 + 2.0 * run.time[:, None] * np.ones(2), atol=1e-12)
    final = run.final.to_arrays()
    if record != [0.5, 1.5]:
        assert np.array_equal(final["position"], run.position[-1])
        assert np.array_equal(run.position[0], state.position[0])
    stored = Trajectory.load(path)
    assert np.array_equal(stored.position, run.position)
    assert np.array_equal(stored.final.position, run.final.position)


def test_a_field_has_a_place_and_keeps_the_users_frame():
    field = TidalField(mass=10.0, position=(20.0, 0.0))
    state = moved(scenarios.make("kepler", field=field), 1.0, 0.1)
    frame = Frame.of(state)
    assert (frame.position == 0).all()
    assert (frame.velocity == 0).all()


def test_what_is_about_its_centre_already_is_left_to_the_bit():
    state = scenarios.make("few_body", n_systems=4, n_bodies=4, dimensions=3, seed=1)
    frame = Frame.of(state)
    assert (frame.enter(state).position == state.position).all()
    assert (frame.leave(state).velocity == state.velocity).all()


@pytest.mark.parametrize("kind", KINDS)
def test_arrays_and_tensors_have_the_same_frame(kind):
    def seen(state):
        frame = Frame.of(state)
        inside = frame.enter(state)
        outside = frame.leave(inside.replace(time=inside.time + 0.5))
        states = (inside, outside)
        return [*vars(frame).values(), *(x for s in states for x in (s.position, s.velocity))]

    assert_same_as_tensors(seen, moved(KINDS[kind](), 5.0, 2.0))
