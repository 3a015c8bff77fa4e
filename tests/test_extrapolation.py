"""Extrapolated steps in transformed time, which the integrator chooses itself, in both engines."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from symmetries import OF_SPACE, random_states, with_clones

from nbcore.errors import InputError
from nbcore.physics import gravity, scenarios
from nbcore.physics.clocks import CLOCKS, Clock
from nbcore.physics.extrapolation import (
    MOST_COLUMNS,
    Extrapolation,
    chain_lengths,
    column_weights,
    error_weights,
)
from nbcore.physics.fields import TidalField
from nbcore.physics.state import State
from nbcore.simulation import compiled_engine, storage
from nbcore.simulation.kernels.chains import schedule
from nbcore.simulation.simulate import simulate
from nbcore.simulation.status import Status
from nbcore.simulation.storage import RECORDED, SUMMARY
from nbcore.stepping.policies import Criterion, FixedStep

ENGINES = pytest.mark.parametrize("engine", ["compiled", "torch"])
COLUMNS = range(2, MOST_COLUMNS + 1)
YEAR = 2 * math.pi

WATCHED = pytest.mark.filterwarnings("ignore:.*did not reach")
# Some ask for less than rounding leaves room for.
pytestmark = pytest.mark.filterwarnings("ignore:.* times the tolerance")


def run(state, t_end, tolerance=1e-10, record="ends", **options):
    options = {"integrator": "gbs"} | options
    return simulate(state, t_end, tolerance=tolerance, record=record, **options)


def eight():
    return scenarios.make("figure_eight", dimensions=3)


def two(**parameters):
    return scenarios.make("kepler", dimensions=3, inclination=40.0, **parameters)


def star_and_moon():
    """A star, a planet at distance 1, and its moon of 27 days."""
    apart, mass = 0.00257, (1.0, 3e-6, 3.7e-8)
    speed = math.sqrt((mass[1] + mass[2]) / apart)
    position = [[0, 0, 0], [1, 0, 0], [1 + 0.8 * apart, 0, 0.6 * apart]]
    return State.from_arrays(mass, position, [[0, 0, 0], [0, 1, 0], [0, 1 + speed, 0]])


def two_pairs():
    """Two pairs on circles of radius 0.005, across each other, about each other at distance 1."""
    apart = 0.01
    speed = math.sqrt(1 / apart)
    place, pace = np.array([apart / 2, 0, 0]), np.array([0, speed / 2, 0])
    centre, drift = np.array([0.5, 0, 0]), np.array([0, 0.7, 0])
    position = [-centre - place, -centre + place, centre - place, centre + place]
    turned = pace[[0, 2, 1]]
    velocity = [-drift - pace, -drift + pace, drift - turned, drift + turned]
    return State.from_arrays([0.5] * 4, position, velocity)


def separations(state):
    return state.position[:, 1:] - state.position[:, :1]


def assert_same(one, other):
    for name in RECORDED:
        assert np.array_equal(getattr(one, name), getattr(other, name), equal_nan=True), name
    for name in SUMMARY:
        assert np.array_equal(one.summary[name], other.summary[name], equal_nan=True), name
    assert_same_end(one, other)


def assert_same_end(one, other):
    for name in ("position", "velocity", "time", "work"):
        assert np.array_equal(getattr(one.final, name), getattr(other.final, name)), name


# What a step is made of


@pytest.mark.parametrize("columns", COLUMNS)
def test_weights_sum_to_one_and_those_of_the_error_to_none(columns):
    assert math.fsum(column_weights(columns)) == pytest.approx(1, abs=1e-12)
    assert math.fsum(error_weights(columns)) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("columns", COLUMNS)
@given(data=some.data())
def test_a_polynomial_in_squares_of_the_step_is_extrapolated_to_its_value_at_none(columns, data):
    numbers = some.floats(-1, 1)
    terms = data.draw(some.lists(numbers, min_size=columns, max_size=columns))
    squares = 1 / np.array(chain_lengths(columns)) ** 2
    chains = sum(term * squares**power for power, term in enumerate(terms))
    rounding = 1e-15 * sum(map(abs, column_weights(columns))) * columns
    assert column_weights(columns) @ chains == pytest.approx(terms[0], abs=rounding)
    # The estimate sees the one term that the result without the first chain gets wrong.
    known = sum(term * squares**power for power, term in enumerate(terms[:-1]))
    assert error_weights(columns) @ known == pytest.approx(0, abs=2 * rounding)


@pytest.mark.parametrize("columns", COLUMNS)
def test_every_chain_goes_through_the_whole_step_in_one_lane_and_counts_once(columns):
    plan, made = schedule(MOST_COLUMNS), []
    gone, taken = np.zeros_like(plan.part[0]), np.zeros_like(plan.part[0])
    for row in itertools.count(plan.begin[columns]):
        if plan.steps[row] == 0:
            break
        gone[plan.fresh[row] == 1] = taken[plan.fresh[row] == 1] = 0
        gone += plan.steps[row] * plan.part[row]
        taken += plan.steps[row] * (plan.part[row] > 0)
        for lane in np.flatnonzero(plan.result[row]):
            assert gone[lane] == pytest.approx(1, abs=1e-14)
            made.append((taken[lane], plan.result[row][lane], plan.error[row][lane]))
    known = zip(
        chain_lengths(columns), column_weights(columns), error_weights(columns), strict=True
    )
    assert sorted(made) == sorted(known)


@given(seed=some.integers(0, 99), power=some.sampled_from([1, 2, 4]))
@pytest.mark.parametrize("weight", [clock.weight for clock in CLOCKS.values()])
def test_the_slope_of_a_clock_is_its_derivative(weight, seed, power):
    clock, state = Clock(power, weight), random_states(seed, n_bodies=3, softening=0.1)
    way = np.random.default_rng(seed).normal(size=state.position.shape)

    def rate(h):
        return clock.rate(state.replace(position=state.position + h * way))

    apart = np.stack(
        [state.position[:, j] - state.position[:, i] for i, j in ((0, 1), (0, 2), (1, 2))], axis=1
    )
    pull = clock.pull(apart, state.mass, clock.weights(state.mass), state.G, state.softening)
    assert rate(0) == pytest.approx(pull.terms ** (1 / power), rel=1e-12)
    slope = rate(0) ** (1 - power) * (pull.slope * way).sum(axis=(1, 2))
    h = 1e-4
    measured = (8 * (rate(h) - rate(-h)) - (rate(2 * h) - rate(-2 * h))) / (12 * h)
    assert measured == pytest.approx(slope, rel=1e-7, abs=1e-7 * rate(0).max())


def test_a_step_of_a_given_length_is_exact_to_rounding():
    state = two(eccentricity=0.5, phase=0.1)
    for part in (1e-9, 0.01, 0.7, 2.4):
        after = Extrapolation().step(state, np.array([part * YEAR]))
        exact = two(eccentricity=0.5, phase=0.1 + part)
        assert after.position == pytest.approx(exact.position, abs=3e-14)
        assert after.time == part * YEAR


def test_a_system_that_can_make_no_step_leaves_the_others_alone():
    both = State.concatenate([two(eccentricity=0.9), two(eccentricity=0.5)])
    both = both.replace(position=both.position * np.array([0.0, 1.0])[:, None, None])
    with np.errstate(all="ignore"):
        after = Extrapolation().step(both, np.array([1.0, 1.0]))
    assert not np.isfinite(after.position[0]).any()
    alone = Extrapolation().step(two(eccentricity=0.5), np.array([1.0]))
    assert after.position[1] == pytest.approx(alone.position[0], abs=1e-14)


class Estimates:
    """Hears of a step's own estimate of its error."""

    def estimate(self, after, place, speed):
        self.place = place


@pytest.mark.parametrize("columns", [3, 4, 5])
def test_error_and_estimate_of_a_step_fall_with_its_length_as_the_columns_say(columns):
    state, gbs = two(eccentricity=0.5, phase=0.1), Extrapolation(columns)
    endless, loose = np.array([math.inf]), np.array([0.99])

    def errors(ds):
        told = Estimates()
        made = gbs.advance(state, np.array([ds]), endless, loose, told)
        assert made.used == ds
        exact = two(eccentricity=0.5, phase=0.1 + made.dt.item() / YEAR)
        off = made.after.position - exact.position
        return np.array([np.linalg.norm(off), np.linalg.norm(told.place)])

    order, order_of_estimate = np.log2(errors(1.2) / errors(0.6))
    assert order == pytest.approx(2 * columns + 1, abs=0.7)
    assert order_of_estimate == pytest.approx(2 * columns - 1, abs=0.7)


# Two engines


def with_field(velocity=None, n_dimensions=3, **kind):
    field = TidalField(3.0, (4.0, 1.0, -2.0)[:n_dimensions], velocity)
    return random_states(5, 2, 3, n_dimensions, field=field, **kind)


SYSTEMS = {
    "unequal": lambda: random_states(2, 2, 3, G=1.7),
    "softened": lambda: random_states(3, 2, 3, softening=0.2),
    "massless": lambda: with_clones().replace(batched=True),
    "planets": lambda: scenarios.make("planetary_system", n_planets=3, dimensions=3, seed=1),
    "tide": with_field,
    "moving tide": lambda: with_field((-0.5, 0.2, 0.1), G=0.8),
    "moving tide in a plane": lambda: with_field((-0.5, 0.2), 2, softening=0.1),
}


@pytest.mark.parametrize("name", SYSTEMS)
def test_both_engines_go_the_same_way(name):
    state, t_end = SYSTEMS[name](), 1.0
    # Loose, so that errors are not those of rounding, which the engines don't share.
    one, other = (
        run(state, t_end, 1e-4, engine=engine, record=1) for engine in ("compiled", "torch")
    )
    size = np.abs(one.final.position).max()
    assert one.final.position == pytest.approx(other.final.position, abs=1e-7 * size)
    assert one.final.work == pytest.approx(other.final.work, abs=1e-7)
    for name in ("status", "n_steps", "n_force_evaluations"):
        ours, theirs = one.summary[name], other.summary[name]
        # Of parts of steps at the end the compiled engine takes fewer columns.
        allowed = {"status": 0, "n_steps": 1, "n_force_evaluations": 250}[name]
        assert np.abs(ours - theirs).max() <= allowed, name
    assert np.nanmax(one.energy_error) < 1e-3
    assert (one.summary["max_body_error"] < 1e-3).all()
    for k, n_steps in enumerate(one.summary["n_steps"]):
        before = slice(int(n_steps))  # those parts
        ours, theirs = one.body_error[k, before], other.body_error[k, before]
        assert theirs == pytest.approx(ours, rel=0.05, abs=1e-12)
        assert other.dt[k, 1:n_steps] == pytest.approx(one.dt[k, 1:n_steps], rel=1e-3)


def test_every_evaluation_is_counted(monkeypatch):
    made = []

    def counting(function, cost):
        def counted(*arguments):
            made.append(cost)
            return function(*arguments)

        return counted

    pulls = gravity.pair_accelerations
    monkeypatch.setattr(gravity, "pair_accelerations", counting(pulls, 1))
    # Chains of 2, 4, …, 10 kicks.
    monkeypatch.setattr(Extrapolation, "_chains", counting(Extrapolation._chains, 30))
    one = run(eight(), 3.0, integrator=Extrapolation(5), engine="torch")
    assert one.n_force_evaluations == sum(made)
    other = run(eight(), 3.0, integrator=Extrapolation(5))
    assert one.n_force_evaluations - 3 * 30 < other.n_force_evaluations <= one.n_force_evaluations


# What physics must not depend on


def in_si(state):
    """The same in units of 1e-30 of the mass and 1e-11 of the length; and how times grow."""
    G, mass, length = 6.674e-11, 1e30, 1e11
    time = math.sqrt(length**3 / (G * mass))
    made = State.from_arrays(
        state.mass * mass, state.position * length, state.velocity * length / time, G=G
    )
    return made, time


FAR = np.array([1e3, -1e3, 1e3])


@pytest.mark.parametrize("name", [*OF_SPACE, "far translation", "SI"])
def test_steps_depend_on_no_frame_no_order_and_no_unit(name):
    state, t_end = random_states(2, 2, 3), 3.0
    if name == "SI":
        (made, factor), back = in_si(state), lambda final: in_si(final)[0]
    elif name == "far translation":
        made, factor, back = state.replace(position=state.position + FAR), 1.0, lambda final: final
    else:
        back, factor = OF_SPACE[name]
        made = back(state)
    one, other = run(state, t_end), run(made, t_end * factor)
    assert np.array_equal(one.n_steps, other.n_steps)
    assert np.array_equal(one.n_force_evaluations, other.n_force_evaluations)
    known, found = separations(back(one.final)), separations(other.final)
    # Rounding of what is handed in, which an encounter makes more of.
    digits = 1e-9 if name == "far translation" else 1e-11
    assert found == pytest.approx(known, abs=digits * np.abs(known).max())


# Orbits


@pytest.mark.parametrize("mass_ratio", [1.0, 1e-3, 1e-12, 0.0])
@pytest.mark.parametrize("eccentricity", [0.0, 0.9, 0.999, 1 - 1e-6])
def test_two_bodies_are_back_after_whole_periods(eccentricity, mass_ratio):
    state = two(eccentricity=eccentricity, mass_ratio=mass_ratio)
    # At the pericentre rounding changes the energy by so much, and that the phase.
    rounding = 1e-13 / (1 - eccentricity)
    for tolerance, allowed in ((1e-6, 1e-6), (1e-12, 1e-12)):
        made = run(state, 3 * YEAR, tolerance)
        off = separations(made.final) - separations(state)
        assert np.linalg.norm(off) < 10 * allowed + rounding
        assert made.max_body_error < 3 * allowed + rounding
        assert made.n_steps < 150


@pytest.mark.parametrize("name", ["figure_eight", "pythagorean"])
def test_a_tolerance_below_rounding_costs_little_more_than_the_least_that_can_be_had(name):
    state, t_end = scenarios.make(name, dimensions=3), 6.0
    known = run(state, t_end, 1e-11)
    for tolerance in (1e-13, 1e-14, 1e-15, 1e-16):
        made = run(state, t_end, tolerance)
        assert made.n_force_evaluations < 3 * known.n_force_evaluations
        assert made.energy_error[-1] < 1e-12


def test_a_light_moon_keeps_its_planet():
    state = star_and_moon()

    def moon(tolerance):
        made = run(state, YEAR, tolerance)
        return (made.final.position[0, 2] - made.final.position[0, 1]) / 0.00257, made

    exact, _ = moon(1e-12)
    for tolerance in (1e-4, 1e-6):
        found, made = moon(tolerance)
        assert np.linalg.norm(found - exact) < 30 * tolerance
        assert made.max_body_error < tolerance
    assert made.n_force_evaluations < 5000


def test_pairs_that_circle_each_other_keep_their_orbits():
    state = two_pairs()
    exact = run(state, 1.0, 1e-12)
    made = run(state, 1.0, 1e-6)
    apart = made.final.position - exact.final.position
    assert np.abs(apart).max() < 1e-3 * 0.01  # of 16 turns, whose phases are off the most
    assert made.max_body_error < 1e-5


@pytest.mark.parametrize("still", [0.0, 1e-3])
@ENGINES
def test_bodies_that_fall_onto_each_other_end_with_a_status(engine, still):
    position = [[-1, 0, 0], [1, 0, 0], [0.3, still, 0]]
    state = State.from_arrays([1.0, 1.0, 0.5], position, np.zeros((3, 3)))
    with np.errstate(all="ignore"):
        made = run(state, 5.0, 1e-6, max_steps=2000, engine=engine)
    assert made.status in (Status.SUCCESS, Status.DT_UNDERFLOW, Status.NON_FINITE)
    assert made.n_steps < 500
    assert np.isfinite(made.final.position).all()


@ENGINES
def test_two_bodies_pass_through_each_other_along_a_line(engine):
    """The limit of orbits of e = 1: both are back where they fell from after a period."""
    state = State.from_arrays([0.5, 0.5], [[-1, 0, 0], [1, 0, 0]], np.zeros((2, 3)))
    made = run(state, YEAR, 1e-8, engine=engine)
    assert made.status is Status.SUCCESS
    assert made.final.position == pytest.approx(state.position, abs=1e-5)


# Output times


OUTPUTS = {
    "every step": 1,
    "points on its way, too": None,
    "seven": np.linspace(0.0, 6.0, 7),
    "five hundred": np.sort(np.random.default_rng(1).uniform(0, 7.0, 500)),
    "close": 3.0 + np.array([0.0, 1e-14, 1e-9, 1e-5]),
    "end": np.array([7.0]),
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_output_times_change_no_step_and_lie_on_the_orbit(name):
    plain, made = run(eight(), 7.0), run(eight(), 7.0, record=OUTPUTS[name])
    assert_same_end(plain, made)
    for number in ("n_steps", "n_force_evaluations", "max_body_error", "max_energy_error"):
        assert made.summary[number] == plain.summary[number], number
    exact = run(eight(), 7.0, 1e-13, record=made.time)
    assert made.time == pytest.approx(exact.time, abs=0)
    assert made.position == pytest.approx(exact.position, abs=1e-9)
    assert made.velocity == pytest.approx(exact.velocity, abs=1e-9)
    # The last errors are those that the run is told to have made at its ends.
    within = made.body_error[made.time > 0]
    assert within.max() < 2 * made.max_body_error
    assert (made.energy_error < 1e-10).all()


@pytest.mark.parametrize(
    "record", [np.array([0.0, 0.1, 1.0, 1.3, 2.0]), None], ids=["times", "points"]
)
def test_records_of_the_torch_engine_lie_on_the_orbit_of_the_compiled_one(record):
    one, other = (run(eight(), 2.0, record=record, engine=e) for e in ("compiled", "torch"))
    assert other.time == pytest.approx(one.time, abs=1e-4)  # points are as the steps come out
    exact = run(eight(), 2.0, 1e-13, record=other.time)
    assert other.position == pytest.approx(exact.position, abs=1e-9)
    assert other.body_error == pytest.approx(one.body_error, abs=1e-10)
    assert_same_end(other, run(eight(), 2.0, engine="torch"))


@ENGINES
@pytest.mark.parametrize("eccentricity", [0.0, 0.9])
def test_points_on_the_way_make_round_pictures_of_long_steps(engine, eccentricity):
    made = run(two(eccentricity=eccentricity), 2 * YEAR, 1e-6, record=None, engine=engine)
    assert made.n_steps < 12 < 60 < len(made.time)
    middles = (made.time[1:] + made.time[:-1]) / 2
    between = run(two(eccentricity=eccentricity), 2 * YEAR, 1e-6, record=middles, engine=engine)
    way, off = (each.position[:, 1] - each.position[:, 0] for each in (made, between))
    chords = np.diff(way, axis=0)
    lengths = np.linalg.norm(chords, axis=1)
    apart = np.linalg.norm(np.cross(off - way[:-1], chords), axis=1) / lengths
    assert apart.max() < 0.01


@WATCHED
@ENGINES
def test_points_on_the_way_end_with_what_ends_the_run(engine):
    made = run(two(eccentricity=0.9), YEAR, record=None, collision_distance=0.2, engine=engine)
    (event,) = made.events.to_dict("records")
    assert made.time[-1] == event["time"]
    assert (np.diff(made.time) > 0).all()


def test_the_work_of_a_moving_field_is_known_at_output_times():
    times = np.linspace(0.0, 3.0, 31)
    made = run(with_field((-0.5, 0.2, 0.1)), 3.0, record=times)
    assert np.abs(made.final.work).min() > 1e-4
    assert made.energy_error.max() < 1e-9


@given(t_end=some.floats(1e-9, 7.0))
@settings(max_examples=15)
def test_the_end_is_reached_exactly_and_on_the_orbit(t_end):
    made = run(eight(), t_end)
    assert made.final.time == t_end
    assert made.status is Status.SUCCESS
    exact = run(eight(), 7.0, 1e-13, record=[t_end])
    assert made.final.position[0] == pytest.approx(exact.position[0], abs=1e-9)


# Ends


def eccentric():
    """Orbits that a step of a loose tolerance takes a large part of; 40 times to stop at, each."""
    eccentricity = np.repeat([0.9, 0.97, 0.99, 0.996], 40)
    ends = np.tile(np.linspace(1.0, 4.0, 41)[1:] * 2 * np.pi, 4)
    states = [two(eccentricity=each, mass_ratio=1e-6) for each in eccentricity]
    names = ("mass", "position", "velocity")
    values = (np.concatenate([getattr(each, name) for each in states]) for name in names)
    return State.from_arrays(*values), ends


@ENGINES
@pytest.mark.parametrize("tolerance", [1e-2, 1e-4])
def test_steps_over_half_an_orbit_end_anywhere(engine, tolerance):
    state, ends = eccentric()
    made = run(state, ends, tolerance=tolerance, engine=engine)
    assert (made.status == Status.SUCCESS).all()
    assert (made.max_body_error < 10 * tolerance).all()


def test_who_is_watched_errs_by_no_more():
    state, ends = eccentric()
    alone, watched = (
        run(state, ends, tolerance=1e-3, collision_distance=distance) for distance in (None, 1e-4)
    )
    assert np.array_equal(watched.final.position, alone.final.position)
    assert np.array_equal(watched.max_body_error, alone.max_body_error)


@WATCHED
def test_contacts_are_found_where_they_are_in_steps_of_a_loose_tolerance():
    state, ends = eccentric()
    q = 1 - np.repeat([0.9, 0.97, 0.99, 0.996], 40)
    for share, status in ((0.9, Status.SUCCESS), (1.1, Status.COLLISION)):
        for k in range(0, 160, 40):
            made = run(state.select([k]), ends[k], tolerance=1e-3, collision_distance=share * q[k])
            assert made.status == status


@ENGINES
@pytest.mark.parametrize("t_end", [1e-3, 1e-9, 1e-15])
def test_a_run_much_shorter_than_a_step_costs_one(engine, t_end):
    made = run(eight(), t_end, engine=engine)
    assert (made.n_steps, made.final.time) == (1, t_end)
    assert made.n_force_evaluations < 200  # three of six columns


@ENGINES
@pytest.mark.filterwarnings("ignore:.*did not reach")
def test_a_run_without_an_end_stops_at_its_last_step(engine):
    made = run(eight(), math.inf, max_steps=4, engine=engine)
    assert (made.status, made.n_steps) == (Status.MAX_STEPS, 4)
    known = run(eight(), 7.0, max_steps=4, engine=engine)
    assert_same_end(made, known)


@ENGINES
@pytest.mark.filterwarnings("ignore:.*did not reach")
def test_a_run_of_one_step(engine):
    made = run(eight(), 7.0, max_steps=1, engine=engine, record=1)
    assert (made.status, made.n_steps, len(made.time)) == (Status.MAX_STEPS, 1, 2)
    exact = run(eight(), float(made.time[-1]), 1e-13)
    assert made.position[-1] == pytest.approx(exact.final.position[0], abs=1e-10)


@ENGINES
def test_time_may_begin_late(engine):
    begun = eight().replace(time=np.array([1e6]))
    made = run(begun, 1e6 + 1, engine=engine)
    assert made.final.time == 1e6 + 1
    assert made.final.position == pytest.approx(run(eight(), 1.0).final.position, abs=1e-9)


# Events


@ENGINES
@WATCHED
@pytest.mark.parametrize("distance", [0.2, 0.1001, 1.0])
def test_a_contact_is_told_at_its_time(engine, distance):
    e = 0.9
    made = run(two(eccentricity=e), YEAR, 1e-11, collision_distance=distance, engine=engine)
    assert made.status is Status.COLLISION
    (event,) = made.events.to_dict("records")
    E = math.acos((1 - distance) / e)
    assert event["time"] == pytest.approx(math.pi - (E - e * math.sin(E)), abs=1e-8)
    assert event["distance"] == pytest.approx(distance, rel=1e-8)
    assert event["bodies"] == (0, 1)
    assert made.final.time == event["time"]
    assert np.linalg.norm(separations(made.final)) == pytest.approx(distance, rel=1e-8)
    assert made.max_body_error < 1e-9


@ENGINES
@WATCHED
@pytest.mark.parametrize("distance", [1e-7, 1e-12])
def test_a_contact_shorter_than_time_can_tell_is_one(engine, distance):
    """Two suns that fall on each other from a parsec apart are 2e-8 of that wide."""
    state = State.from_arrays([1.0, 1e-3], [[0, 0], [1.0, 0]], [[0, 0], [0, 0]])
    made = run(state, 3.0, tolerance=1e-6, collision_distance=distance, engine=engine)
    assert made.status == Status.COLLISION
    assert made.summary["event_distance"][0] < distance
    free_fall = np.pi / np.sqrt(8 * 1.001)
    assert made.summary["event_time"][0] == pytest.approx(free_fall, rel=1e-6)


def test_records_in_steps_of_half_an_orbit_and_more_are_all_there():
    """Bounds of Newton's method that errors of parts have made wrong are drawn anew."""
    rng, n = np.random.default_rng(0), 400
    e, E = 1 - 10 ** rng.uniform(-8, -0.3, n), rng.uniform(0, 2 * np.pi, n)
    b, r = np.sqrt(1 - e * e), 1 - e * np.cos(E)
    x = np.stack([np.cos(E) - e, b * np.sin(E)], axis=1)
    v = np.stack([-np.sin(E), b * np.cos(E)], axis=1) / r[:, None]
    at_rest = 0 * x
    state = State.from_arrays(
        np.tile([1.0, 0.0], (n, 1)), np.stack([at_rest, x], 1), np.stack([at_rest, v], 1)
    )
    made = run(state, 20.0, tolerance=1e-2, record=np.linspace(0.0, 20.0, 200))
    assert (made.status == Status.SUCCESS).all()
    assert np.isfinite(made.position).all()


@ENGINES
@WATCHED
def test_an_escape_is_told_at_its_time(engine):
    e, distance = 0.9, 0.75
    state = two(eccentricity=e, phase=0.0)
    made = run(state, YEAR, 1e-11, escape_distance=distance, engine=engine)
    assert made.status is Status.ESCAPE
    (event,) = made.events.to_dict("records")
    E = math.acos((1 - 2 * distance) / e)  # each is half as far from the centre of mass
    assert event["time"] == pytest.approx(E - e * math.sin(E), abs=1e-8)


@ENGINES
def test_what_is_looked_for_in_vain_changes_nothing(engine):
    plain = run(eight(), 3.0, engine=engine, record=1)
    watched = run(
        eight(), 3.0, engine=engine, record=1, collision_distance=0.5, escape_distance=1.2
    )
    # To the last bits, because the watched loop is compiled apart.
    assert np.array_equal(watched.n_steps, plain.n_steps)
    assert watched.position == pytest.approx(plain.position, abs=1e-12)
    assert watched.summary["max_body_error"] == pytest.approx(
        plain.summary["max_body_error"], abs=1e-13
    )


@WATCHED
def test_a_system_that_meets_nothing_goes_on_beside_one_that_does():
    apart = two(eccentricity=0.1)
    both = State.concatenate([two(eccentricity=0.9), apart])
    for engine in ("compiled", "torch"):
        made = run(both, YEAR, collision_distance=0.2, engine=engine)
        assert made.summary["status"].tolist() == [Status.COLLISION, Status.SUCCESS]
        assert separations(made.final)[1] == pytest.approx(separations(apart)[0], abs=1e-8)


# Turns, batches and going on


@pytest.fixture
def many_turns(monkeypatch):
    """Small chunks, and an engine that looks around every step or two."""
    monkeypatch.setattr(storage, "CHUNK_BYTES", 1)
    monkeypatch.setattr(compiled_engine, "FIRST_PAIRS", 1)
    monkeypatch.setattr(compiled_engine, "TURN", 0.0)


@pytest.mark.parametrize("record", [1, 3, None, np.linspace(0, 3.0, 40)])
def test_a_run_in_many_turns_is_that_in_one(many_turns, monkeypatch, record):
    state = random_states(2, 3, 3)
    turned = run(state, 3.0, record=record)
    monkeypatch.undo()
    assert_same(turned, run(state, 3.0, record=record))


@ENGINES
def test_a_batch_is_made_of_its_systems(engine):
    batch, tolerance = random_states(2, 3, 3), np.array([1e-4, 1e-8, 1e-12])
    whole = run(batch, 2.0, tolerance, engine=engine)
    for k in range(3):
        single = run(batch.select([k]), 2.0, tolerance[k], engine=engine)
        assert single.n_steps == whole.n_steps[k]
        of_batch = whole.final.position[k]
        if engine == "compiled":
            assert np.array_equal(single.final.position[0], of_batch)
        else:  # whose sums run over as many columns as the strictest of a batch has
            assert single.final.position[0] == pytest.approx(of_batch, abs=1e-9)


def after(n):
    """Stop at the n-th time of asking."""
    calls = itertools.count(1)
    return lambda: next(calls) >= n


@ENGINES
@pytest.mark.filterwarnings("ignore:.*did not reach")
@pytest.mark.parametrize("record", [1, None, np.linspace(0, 1.0, 30), "ends"])
def test_interruptions_and_a_later_end_leave_no_trace(many_turns, engine, record, tmp_path):
    state, path = random_states(2, 2, 3), tmp_path / "run.zarr"
    given = {"record": record, "engine": engine}
    stopped = run(state, 1.0, path=path, stop=after(2), **given)
    assert Status.INTERRUPTED in stopped.summary["status"]
    simulate(resume=path, stop=after(2))
    made = run(state, 1.0, resume=path, **given)
    assert_same(made, run(state, 1.0, **given))
    assert_same(simulate(resume=path, t_end=1.7), run(state, 1.7, **given))


@ENGINES
def test_columns_and_clock_can_be_chosen(engine):
    plain, exact = run(eight(), 3.0), run(eight(), 3.0, 1e-13)
    own = Extrapolation(columns=8, clock=Clock(power=1))
    made = run(eight(), 3.0, integrator=own, engine=engine)
    assert made.final.position == pytest.approx(exact.final.position, abs=1e-9)
    assert made.n_steps != plain.n_steps
    assert made.integrator == "extrapolation with 8 columns in time of power 1 with weights both"


@ENGINES
@pytest.mark.filterwarnings("ignore:.*did not reach")
def test_a_run_of_chosen_columns_and_clock_goes_on_if_they_are_given_again(
    many_turns, engine, tmp_path
):
    state, path = eight(), tmp_path / "run.zarr"
    own = Extrapolation(columns=8, clock=Clock(power=1))
    run(state, 3.0, integrator=own, engine=engine, path=path, stop=after(2))
    with pytest.raises(InputError, match="give it again, by integrator="):
        simulate(resume=path)
    for other in (Extrapolation(columns=7, clock=Clock(power=1)), Extrapolation(columns=8), "gbs"):
        with pytest.raises(InputError, match="was begun with integrator"):
            simulate(resume=path, integrator=other)
    made = simulate(resume=path, integrator=own)
    assert made.status is Status.SUCCESS
    assert_same(made, run(state, 3.0, integrator=own, engine=engine))


# What can't be


def test_a_policy_beside_it_is_refused():
    for policy in (FixedStep(0.1), Criterion("boekholt", 0.1), "fixed", "boekholt"):
        with pytest.raises(InputError, match=r"'gbs' chooses its own steps.*leave the policy out"):
            run(eight(), 1.0, policy=policy)


def test_its_steps_are_not_reversible():
    with pytest.raises(InputError, match=r"'gbs' is not reversible; use stepping='plain'"):
        run(eight(), 1.0, stepping="reversible")


@pytest.mark.parametrize("columns", [2, 11, 0, -4, 3.5, "6"])
def test_columns_that_are_none_are_refused(columns):
    with pytest.raises(InputError, match=r"columns are .*; give 3 to 10, or None"):
        Extrapolation(columns)


@pytest.mark.parametrize("power", [3, 0, -2, 8, "2"])
def test_powers_that_are_none_are_refused(power):
    with pytest.raises(InputError, match=r"power of a clock is .*; it must be 1, 2 or 4"):
        Clock(power)


@ENGINES
def test_a_clock_that_no_pair_moves_is_refused(engine):
    star = two(mass_ratio=0.0)
    own = Extrapolation(clock=CLOCKS["logarithmic"])
    with pytest.raises(InputError, match=r"no two bodies.*give one of them a mass, or use"):
        run(star, 1.0, integrator=own, engine=engine)


# Gradients


def test_a_step_can_be_differentiated():
    state, dt = two(eccentricity=0.3).to("cpu"), torch.tensor([0.7], dtype=torch.float64)
    velocity = state.velocity.clone().requires_grad_()
    way = torch.linspace(-1, 1, velocity.numel(), dtype=torch.float64).reshape(velocity.shape)

    def end(velocity):
        after = Extrapolation().step(state.replace(velocity=velocity), dt)
        assert after.time.item() == pytest.approx(0.7, abs=1e-15)
        return (after.position * way.flip(-1)).sum()

    (slope,) = torch.autograd.grad(end(velocity), velocity)
    h = 1e-4
    with torch.no_grad():
        ends = [end(state.velocity + k * h * way) for k in (-2, -1, 1, 2)]
    measured = (8 * (ends[2] - ends[1]) - (ends[3] - ends[0])) / (12 * h)
    assert (slope * way).sum() == pytest.approx(measured.item(), rel=1e-8)


@ENGINES
def test_a_star_at_rest_with_massless_bodies_has_no_energy_and_goes_on(engine):
    star, comet = [0.0, 0, 0], [1.0, 0, 0]
    state = State.from_arrays([1.0, 0.0], [star, comet], [star, [0.0, 1, 0]])
    assert gravity.energy(state) == 0
    made = run(state, YEAR, engine=engine)
    assert made.status is Status.SUCCESS
    assert made.final.position[0, 1] == pytest.approx(comet, abs=1e-8)


# Between the points of its chains


@ENGINES
def test_a_fast_passage_is_not_gone_over_unseen(engine):
    """Of a star through a pair, from so far that the first step would lead beyond it."""
    state = State.from_arrays(
        [1.0, 0.5, 1.0],
        [[0, 0, 0], [1, 0, 0], [-2e5, 1.4, 0]],
        [[0, 0, 0], [0, 1.2247, 0], [1e5, 0, 0]],
    )
    rule = Criterion("free_fall", 0.03)
    known = simulate(state, 4.0, rule, integrator="blanes_moan6", record="ends", engine="torch")
    made = run(state, 4.0, 1e-6, engine=engine)
    assert made.final.position[:2] == pytest.approx(known.final.position[:2], abs=1e-6)


@pytest.mark.filterwarnings("ignore:.*did not reach")
@pytest.mark.parametrize(
    ("engine", "eccentricity", "systems"),
    [("compiled", 0.99, 25), ("compiled", 0.99999, 25), ("torch", 0.99, 2)],
)
def test_no_contact_within_a_long_step_is_missed(engine, eccentricity, systems):
    pericentre = 1 - eccentricity
    phases = np.linspace(0.05, 0.95, systems)
    states = [two(eccentricity=eccentricity, mass_ratio=0.3, phase=each) for each in phases]
    for contact in (1.01 * pericentre, 10 * pericentre):
        made = run(State.concatenate(states), YEAR, 1e-4, engine=engine, collision_distance=contact)
        assert (np.asarray(made.status) == Status.COLLISION).all()
        assert made.summary["event_distance"] == pytest.approx(contact, rel=1e-6)
