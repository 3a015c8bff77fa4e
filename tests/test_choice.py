"""What a run takes that leaves its method open."""

import numpy as np
import pytest

import nbcore as nb
from nbcore.errors import InputError
from nbcore.physics import scenarios
from nbcore.simulation.choice import method


def chosen(scenario, t_end, tolerance=1e-6, **parameters):
    state = scenarios.make(scenario, **parameters)
    return method(state, np.broadcast_to(float(t_end), state.n_systems), tolerance)


def test_few_bodies_are_extrapolated_at_any_tolerance():
    for tolerance in (1e-3, 1e-6, 1e-10):
        assert chosen("pythagorean", 60.0, tolerance) == "gbs"
        assert chosen("kepler", 60.0, tolerance, eccentricity=0.9, mass_ratio=1e-3) == "gbs"


def test_planets_that_stay_apart_take_equal_steps_at_any_tolerance_and_length():
    for tolerance in (1e-3, 1e-6, 1e-10):
        assert chosen("planetary_system", 60.0, tolerance) == "wisdom_holman"
        assert chosen("outer_solar_system", 1e7, tolerance) == "wisdom_holman"
        assert chosen("solar_system", 10.0, tolerance) == "wisdom_holman"
    for other in ({"softening": 0.01}, {"field": nb.TidalField(0.1, (50.0, 0.0))}):
        assert chosen("planetary_system", 60.0, 1e-6, **other) != "wisdom_holman"


def test_planets_that_meet_take_no_equal_steps():
    close = {"planet_mass": 1e-3, "spacing": 3.0}
    assert chosen("planetary_system", 60.0, 1e-4, **close) != "wisdom_holman"
    assert chosen("planetary_system", 60.0, 1e-6, **close) == "gbs"


def test_a_moon_is_no_planet():
    star, planet, moon = [0.0, 0.0], [1.0, 0.0], [1.0025, 0.0]
    speed = [[0.0, 0.0], [0.0, 1.0], [0.0, 1.0 + (3e-6 / 0.0025) ** 0.5]]
    others = [[2.0, 0.0], [0.0, 3.0]], [[0.0, 0.7], [-0.577, 0.0]]
    with_moon = nb.State.from_arrays(
        [1.0, 3e-6, 4e-8, 1e-6, 1e-6], [star, planet, moon, *others[0]], [*speed, *others[1]]
    )
    assert method(with_moon, np.array([60.0]), 1e-4) == "gbs"
    alone = nb.State.from_arrays(
        [1.0, 3e-6, 1e-6, 1e-6], [star, planet, *others[0]], [*speed[:2], *others[1]]
    )
    assert method(alone, np.array([60.0]), 1e-4) == "wisdom_holman"


def test_more_bodies_are_left_to_the_policies_unless_the_tolerance_is_strict():
    assert chosen("plummer", 1.0, 1e-3, n_bodies=8) is None
    assert chosen("plummer", 1.0, 1e-8, n_bodies=8) == "gbs"
    assert chosen("plummer", 1.0, 1e-3, n_bodies=16) is None
    assert chosen("plummer", 1.0, 1e-9, n_bodies=16) == "gbs"
    assert chosen("plummer", 1.0, 1e-4, n_bodies=64) is None
    assert chosen("plummer", 1.0, 1e-9, n_bodies=64) == "gbs"
    assert chosen("plummer", 1.0, 1e-10, n_bodies=97) is None


def test_ten_thousand_periods_are_long():
    period = 2 * np.pi
    assert chosen("kepler", 0.9e4 * period) == "gbs"
    assert chosen("kepler", 1.1e4 * period) is None


def test_a_batch_goes_by_most_of_its_systems():
    one, many = scenarios.make("kepler"), scenarios.make("kepler", eccentricity=0.5)
    batch = nb.State.concatenate([one, many, many])
    long = 2e4 * 2 * np.pi
    assert method(batch, np.array([long, 1.0, 1.0]), 1e-6) == "gbs"
    assert method(batch, np.array([long, long, 1.0]), 1e-6) is None


@pytest.mark.parametrize("left", [{"integrator": "auto"}, {"policy": "auto"}])
def test_auto_takes_it_and_none_takes_the_shipped_policies(left):
    run = nb.simulate("pythagorean", 0.1, engine="torch", record="ends", **left)
    assert run.about["integrator"] == "gbs"
    run = nb.simulate("pythagorean", 0.1, engine="torch", record="ends")
    assert run.about["integrator"].startswith("blanes_moan")


def test_reversible_steps_are_those_of_the_policies():
    run = nb.simulate(
        "pythagorean", 0.1, integrator="auto", stepping="reversible", engine="torch", record="ends"
    )
    assert run.about["integrator"].startswith("blanes_moan")


def test_a_policy_of_one_s_own_can_choose_no_integrator():
    with pytest.raises(InputError, match="can't choose one"):
        nb.simulate("pythagorean", 0.1, nb.FixedStep(0.01), integrator="auto")
