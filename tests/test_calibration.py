import warnings

import numpy as np
import pytest
import torch
from tiny_training import tiny

import nbcore as nb
from nbcore.errors import InputError
from nbcore.learning.calibration import calibrate, stretch_to_tolerance
from nbcore.learning.systems import run_of, training_problems
from nbcore.physics.arrays import to_numpy
from nbcore.stepping.calibration import Calibration, calibration_of
from nbcore.stepping.policies import untrained
from nbcore.stepping.suites import Suite

KNOWN = Calibration(
    given=(-8.0, -6.0, -4.0),
    error=(-9.0, -6.0, -3.0),
    low=(-1.0, -0.5, -0.5),
    high=(1.0, 0.5, 0.5),
    cost=(4.0, 3.5, 3.0),
)


@pytest.mark.parametrize("of_kind", [np.asarray, torch.from_numpy])
def test_the_tolerance_given_is_the_one_whose_error_is_asked_for(of_kind):
    tolerance = of_kind(np.array([1e-9, 1e-6, 10**-4.5, 1e-3]))
    given = KNOWN.given_for(tolerance)
    assert type(given) is type(tolerance)
    assert np.log10(to_numpy(given)).tolist() == pytest.approx([-8, -6, -5, -4])


def test_beyond_what_was_measured_the_error_goes_as_the_tolerance():
    given = KNOWN.given_for(np.array([1e-11, 1e-1]))
    assert np.log10(given).tolist() == pytest.approx([-10, -2])
    assert [KNOWN.covers(t) for t in (1e-10, 1e-9, 1e-4, 1e-3, 2e-3)] == [
        *(False, True, True, True, False)
    ]


def test_band_and_cost_are_interpolated():
    assert KNOWN.band(10**-7.5) == pytest.approx((10**-8.25, 10**-6.75))
    assert KNOWN.cost_at(10**-7.5) == pytest.approx(3.75)


def test_calibration_from_runs_leaves_out_what_is_lost_or_not_rising():
    given = np.array([1e-8, 1e-6, 1e-4, 1e-2, 1e-1])
    error = np.outer([1e-9, 1e-6, 1e-7, 1e-3, np.inf], [0.1, 1.0, 1.0, 1.0, 10.0])
    known = calibration_of(given, error, np.full((5, 5), 100.0))
    assert known.given == pytest.approx((-8, -6, -2))
    assert known.error == pytest.approx((-9, -6, -3))
    assert known.low == pytest.approx((-1, -1, -1))
    assert known.high == pytest.approx((1, 1, 1))
    assert known.cost == pytest.approx((2, 2, 2))


@pytest.fixture(scope="module")
def config():
    return tiny(
        scheme="evolution",
        stepping="reversible",
        integrator="blanes_moan4",
        tolerances=(1e-6, 1e-4),
        scenario={"source": "few_body", "parameters": {"n_systems": 512, "seed": 1}},
        orbit_time=2.0,
        evolution={"calibration_systems": 512},
    ).train


def test_stretch_and_calibration_bring_the_error_to_the_tolerance(config):
    policy, problems = untrained("blanes_moan4", stepping="reversible"), training_problems(config)
    policy.stretch(0.2)
    stretch_to_tolerance(policy, problems, config)
    tolerance = torch.full_like(problems[0].t_end, 1e-5)
    error = np.median(run_of(policy, problems[0], tolerance, 10_000).max_error)
    assert abs(np.log10(error / 1e-5)) < 0.5
    policy.calibration = calibrate(policy, config)
    for asked in (1e-4, 1e-6):
        made = run_of(policy, problems[0], torch.full_like(tolerance, asked), 10_000)
        assert abs(np.log10(np.median(made.max_error) / asked)) < 0.15


def test_a_run_tells_which_error_to_expect_and_warns_outside_the_range(tmp_path):
    policy = untrained("blanes_moan4")
    policy.calibration = KNOWN
    state = nb.scenarios.make("few_body", n_systems=2)
    run = nb.simulate(state, 0.5, policy, tolerance=[1e-6, 1e-4])
    assert run.expected_error[0] == pytest.approx([10**-6.5, 1e-6, 10**-5.5])
    assert run.system(1).expected_error[1] == 1e-4
    loaded = nb.Trajectory.load(run.save(tmp_path / "run.zarr"))
    assert loaded.expected_error == pytest.approx(run.expected_error)
    assert nb.simulate(state, 0.5, nb.Criterion("boekholt", 0.1)).expected_error is None
    with pytest.warns(RuntimeWarning, match="tolerance 1.0e-11 lies outside the range 1.0e-09 to"):
        nb.simulate(state, 0.01, policy, tolerance=1e-11)
    with pytest.warns(RuntimeWarning, match="calibrated with plain steps; with reversible ones"):
        nb.simulate(state, 0.1, policy, tolerance=1e-4, stepping="reversible")


def test_a_calibrated_policy_survives_storage(tmp_path):
    policy = untrained("blanes_moan4", stepping="reversible")
    policy.calibration = KNOWN
    policy.stretch(0.5)
    found = nb.load_policy(nb.save_policy(policy, tmp_path / "one.safetensors"))
    assert found.calibration == KNOWN
    assert found.spec == policy.spec


def suite():
    members = [untrained(name) for name in ("blanes_moan4", "blanes_moan6")]
    members[0].calibration = KNOWN
    members[1].calibration = KNOWN._replace(error=(-12.0, -8.0, -4.0), cost=(4.2, 3.65, 3.4))
    return Suite(tuple(members))


def test_a_suite_takes_the_cheapest_member_that_was_measured_at_the_tolerance(tmp_path):
    path = nb.save_policy(suite(), tmp_path / "suite.safetensors")
    for both in (suite(), nb.load_policy(path)):
        chosen = [both.best(t).spec.order for t in (1e-3, 1e-5, 1e-8, 1e-12, 1e-15)]
        assert chosen == [4, 4, 6, 6, 6]
        assert both.of("blanes_moan6").spec.order == 6
        assert both.of("leapfrog") is None


def test_a_suite_of_policies_that_are_not_calibrated_is_an_error():
    with pytest.raises(InputError, match="for 'leapfrog' is not calibrated"):
        Suite((untrained("leapfrog"),))


def test_the_shipped_suite_steps_within_its_range_without_a_warning():
    state = nb.scenarios.make("few_body", n_systems=4, seed=5)
    for tolerance in (1e-3, 1e-6, 1e-10):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            run = nb.simulate(state, 2.0, tolerance=tolerance)
        low, _, high = run.expected_error[0]
        assert low < tolerance < high
        assert (run.max_energy_error < 100 * tolerance).all()
