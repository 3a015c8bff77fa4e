import math

import numpy as np
import pytest

import nbcore as nb
from nbcore.analysis.diagnostics import (
    closest_separation,
    conserved_quantities,
    energies_along,
    metrics,
)
from nbcore.physics import gravity


@pytest.fixture(scope="module")
def single():
    """A period of an orbit with e = 0.5 from apocentre, a = 1, G = M = 1."""
    state = nb.scenarios.make("kepler", eccentricity=0.5, phase=0.5)
    return nb.simulate(state, 2 * math.pi, nb.Criterion("boekholt", 0.01))


@pytest.fixture(scope="module")
def batch():
    """Three orbits of different lengths, so that rows are padded."""
    state = nb.scenarios.make("kepler_orbits", n_systems=3, eccentricity=(0.1, 0.6))
    return nb.simulate(state, np.array([1.0, 2.0, 3.0]), nb.Criterion("boekholt", 0.05))


def test_the_closest_separation_of_an_orbit_runs_from_apocentre_to_pericentre(single):
    separation = closest_separation(single)
    assert separation[0] == pytest.approx(1.5, rel=1e-12)
    # The record nearest to pericentre is off by half a step of 0.6 % of its time scale at most.
    assert separation.min() == pytest.approx(0.5, rel=1e-3)


def test_the_closest_separation_is_that_of_the_closest_pair():
    position = np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 2.0]])
    state = nb.State.from_arrays([1.0, 1.0, 1.0], position, np.zeros((3, 2)))
    run = nb.simulate(state, 1e-9, nb.FixedStep(1e-9), record="ends")
    np.testing.assert_allclose(closest_separation(run), [2.0, 2.0], rtol=1e-12)


def test_the_closest_separation_of_a_batch_is_that_of_each_system(batch):
    separation = closest_separation(batch)
    assert separation.shape == batch.time.shape
    for index in range(3):
        alone = closest_separation(batch.system(index))
        np.testing.assert_array_equal(separation[index, : len(alone)], alone)
        assert np.isnan(separation[index, len(alone) :]).all()


def test_conserved_quantities_are_those_of_the_orbit(single):
    found = conserved_quantities(single)
    # reduced mass 1/4: E = −μ/2a = −1/8, L = μ √(1 − e²), at rest
    np.testing.assert_allclose(found["energy"], -1 / 8, rtol=1e-8)
    np.testing.assert_allclose(found["angular_momentum"][:, 0], math.sqrt(0.75) / 4, rtol=1e-12)
    np.testing.assert_allclose(found["momentum"], 0, atol=1e-15)
    assert found["energy_change"] == found["energy"][1] - found["energy"][0]


def test_the_change_agrees_with_the_energy_error_at_the_end(batch):
    found = conserved_quantities(batch)
    last = batch.energy_error[np.arange(3), batch.n_records - 1]
    change = np.abs(found["energy_change"] / found["energy"][:, 0])
    # both are differences of energies known to 1e-16
    np.testing.assert_allclose(change, last, rtol=1e-6, atol=1e-14)
    for index in range(3):
        alone = conserved_quantities(batch.system(index))
        for name, value in found.items():
            np.testing.assert_array_equal(value[index], alone[name])


def test_the_energy_that_a_moving_field_brings_is_a_change():
    field = nb.TidalField(mass=1.0, position=(5.0, 0.0), velocity=(0.0, 1.0))
    state = nb.scenarios.make("kepler", field=field)
    run = nb.simulate(state, 2.0, nb.Criterion("boekholt", 0.02), record=7)
    found = conserved_quantities(run)
    assert found["energy"][0] == pytest.approx(gravity.energy(state).item(), rel=1e-14)
    work = run.final.work.item()
    assert abs(work) > 1e-4
    # to the accuracy of the run
    assert found["energy_change"] == pytest.approx(work, abs=10 * run.max_energy_error)


def test_metrics_of_a_single_run_are_its_own_numbers(single):
    found = metrics(single)
    assert found["n_systems"] == 1
    assert found["status_success"] == 1
    assert found["n_steps_median"] == found["n_steps_p90"] == single.n_steps
    assert found["n_force_evaluations_median"] == single.n_force_evaluations
    assert found["max_energy_error_median"] == single.max_energy_error
    assert found["final_energy_error_median"] == single.energy_error[-1]
    about = ("suzuki4", "boekholt", "plain", 1e-6)
    assert tuple(found[k] for k in ("integrator", "policy", "stepping", "tolerance")) == about


def test_metrics_of_a_batch_are_medians_and_count_every_status():
    state = nb.scenarios.make("kepler_orbits", n_systems=5)
    with pytest.warns(RuntimeWarning, match="MAX_STEPS"):
        run = nb.simulate(state, np.array([0.1, 0.2, 0.3, 9, 9]), nb.FixedStep(0.1), max_steps=5)
    found = metrics(run)
    assert found["n_systems"] == 5
    assert (found["status_success"], found["status_max_steps"]) == (3, 2)
    assert found["n_steps_median"] == 3
    assert found["n_steps_p90"] == 5
    final = [run.system(k).energy_error[-1] for k in range(5)]
    assert found["final_energy_error_median"] == np.median(final)
    assert found["max_energy_error_p90"] == pytest.approx(np.quantile(run.max_energy_error, 0.9))


def test_metrics_are_plain_values_that_json_takes(single, batch, tmp_path):
    for run in (single, batch):
        assert all(type(value) in (int, float, str) for value in metrics(run).values())


def test_a_stored_run_has_the_same_metrics(batch, tmp_path):
    again = nb.Trajectory.load(batch.save(tmp_path / "run.zarr"))
    assert metrics(again) == metrics(batch)
    np.testing.assert_array_equal(closest_separation(again), closest_separation(batch))
    found, stored = conserved_quantities(batch), conserved_quantities(again)
    assert all(np.array_equal(found[name], stored[name]) for name in found)


def test_energies_add_up_to_what_the_errors_are_measured_on(single):
    parts = energies_along(single)
    np.testing.assert_allclose(parts["kinetic"] + parts["potential"], parts["total"], rtol=1e-13)
    # reduced mass 1/4, semi-major axis 1: E = -G m1 m2 / 2a
    assert parts["total"][0] == pytest.approx(-0.125)
    error = np.abs(parts["total"] / parts["total"][0] - 1)
    np.testing.assert_allclose(error, single.energy_error, atol=1e-14)


class Trap:
    """A field of one's own, which gets tensors."""

    moving = False

    def acceleration(self, position, time, G):
        return -position

    def potential_energy(self, position, mass, time, G):
        return (mass * position.square().sum(-1)).sum(-1) / 2


def test_in_a_field_of_one_s_own_the_values_are_arrays_of_numpy_all_the_same():
    state = nb.State.from_arrays([1.0, 1.0], [[1, 0], [-1, 0]], [[0, 1], [0, -1]], field=Trap())
    run = nb.simulate(state, 0.5, nb.FixedStep(0.01))
    for values in (energies_along(run), conserved_quantities(run)):
        assert all(isinstance(value, (np.ndarray, np.float64)) for value in values.values())
    total = energies_along(run)["total"]
    assert np.ptp(total) < 1e-3 * abs(total[0])
