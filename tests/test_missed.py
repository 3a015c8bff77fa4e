"""A tolerance that was missed is told, with the body, the error and what to do."""

import warnings

import numpy as np
import pytest

import nbcore as nb
from nbcore.physics.state import State
from nbcore.simulation.trajectory import MARGIN
from nbcore.stepping.policies import FixedStep

CENTURY = 100 * 2 * np.pi
ECCENTRIC = nb.scenarios.make("kepler", eccentricity=0.9, mass_ratio=0.1)


def elements(trajectory, body):
    """Semi-major axis and eccentricity about body 0, at the end."""
    x, v = trajectory.position[-1], trajectory.velocity[-1]
    mu = trajectory.mass[0] + trajectory.mass[body]
    R, V = x[body] - x[0], v[body] - v[0]
    r = np.linalg.norm(R)
    return 1 / (2 / r - V @ V / mu), np.linalg.norm((V @ V / mu - 1 / r) * R - (R @ V) / mu * V)


@pytest.mark.parametrize("tolerance", [1e-4, 1e-6])
@pytest.mark.filterwarnings("ignore:the orbit of body 1")
def test_mercury_keeps_its_orbit_for_a_century(tolerance):
    run = nb.simulate("solar_system", CENTURY, tolerance=tolerance, record="ends")
    assert elements(run, 1) == pytest.approx((0.38710, 0.20566), abs=2e-5)


def test_a_body_that_lost_its_phase_is_told():
    with pytest.warns(
        RuntimeWarning, match=r"the orbit of body 1 was off by up to .*; ask for less"
    ):
        run = nb.simulate("solar_system", CENTURY, tolerance=1e-6, record="ends")
    assert run.worst_body == 1
    assert not run.kept_tolerance
    assert run.max_body_error > MARGIN * 1e-6


def test_what_was_kept_is_not_told():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = nb.simulate("solar_system", CENTURY, tolerance=1e-8, record="ends")
    assert run.kept_tolerance


def test_whoever_asks_for_the_guard_is_told():
    with pytest.warns(RuntimeWarning, match="times the tolerance of 1e-10"):
        nb.simulate(ECCENTRIC, 10.0, FixedStep(0.1), guard=True, tolerance=1e-10)


@pytest.mark.filterwarnings("ignore:tolerance 1.0e-20 lies outside")
def test_no_tolerance_below_rounding_is_asked_for():
    with pytest.warns(RuntimeWarning, match=r"collision_distance, or soften"):
        nb.simulate("kepler", 0.1, tolerance=1e-20)


def test_bodies_that_fall_onto_each_other_are_told_with_what_to_do():
    state = State.from_arrays([1, 1], [[0, 0], [1, 0]], np.zeros((2, 2)))
    with pytest.warns(
        RuntimeWarning, match=r"did not reach t_end: .* collision_distance, or soften"
    ):
        nb.simulate(state, 5.0)


def test_of_two_that_share_an_error_the_lighter_is_named():
    turned = ECCENTRIC.replace(
        mass=ECCENTRIC.mass[:, ::-1],
        position=ECCENTRIC.position[:, ::-1],
        velocity=ECCENTRIC.velocity[:, ::-1],
    )
    for state in (ECCENTRIC, turned):
        run = nb.simulate(state, 10.0, FixedStep(0.1))
        assert run.worst_body == state.mass[0].argmin()
