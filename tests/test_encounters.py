"""Where equal steps of planets don't hold: which passages those are, and who goes on."""

import warnings

import numpy as np
import pytest

import nbcore as nb
from nbcore.physics import scenarios
from nbcore.physics.orbits import orbit, pericentre_period
from nbcore.physics.state import State
from nbcore.physics.wisdom_holman import WisdomHolman, jacobi_order
from nbcore.simulation import compiled_engine
from nbcore.simulation.simulate import simulate
from nbcore.simulation.status import Status
from nbcore.stepping.encounters import are_apart, longest_between, nearest, neighbours

HANDED = "two bodies come too near"


def pair(mass=(1e-5, 1e-5), size=(1.0, 1.1), e=(0.0, 0.0), phase=(0.0, 0.5)):
    """A star of mass 1 and two planets in a plane, in space, as most loops are compiled for."""
    places, speeds = [[0.0, 0.0, 0.0]], [[0.0, 0.0, 0.0]]
    for m, a, e_, when in zip(mass, size, e, phase, strict=True):
        place, speed = orbit(1.0 + m, a, e_, when)
        places.append(place)
        speeds.append(speed)
    return State.from_arrays([1.0, *mass], places, speeds)


def limit(state, tolerance=1e-6, f=0.05, lazy=False):
    found = neighbours(state, jacobi_order(state))
    return nearest(found, f * pericentre_period(state), np.array([tolerance]), lazy).item()


def test_nearer_passages_are_followed_by_shorter_steps_lighter_planets_and_the_lazy_kick():
    crossing = pair(size=(1.0, 1.05), e=(0.1, 0.1))
    limits = [limit(crossing, tolerance) for tolerance in (1e-3, 1e-5, 1e-7)]
    assert limits == sorted(limits)
    assert limit(crossing, f=0.02) < limit(crossing, f=0.05)
    assert limit(pair((1e-7, 1e-7), (1.0, 1.05), (0.1, 0.1))) < limits[1]
    assert limit(crossing, 1e-8, lazy=True) < limit(crossing, 1e-8)


def test_bodies_without_mass_follow_each_other_anyhow():
    assert limit(pair((0.0, 0.0), (1.0, 1.05), (0.1, 0.1))) == 0
    assert limit(pair((0.0, 1e-4), (1.0, 1.05), (0.1, 0.1))) > 0


def test_regular_passages_limit_the_step_and_don_t_end_it():
    apart, close = pair(size=(1.0, 1.4)), pair((1e-3, 1e-3), (1.0, 1.4))
    for state in (apart, close):
        found = neighbours(state, jacobi_order(state))
        assert are_apart(found).all()
        assert limit(state, 1e-10) <= 0.8 * found.gap.item() < 0.4
    assert not are_apart(neighbours(pair((1e-3, 1e-3), (1.0, 1.2)), np.array([[0, 1, 2]]))).any()
    dt, strict = np.array([0.3]), np.array([1e-9])
    steps = [
        longest_between(neighbours(state, np.array([[0, 1, 2]])), dt, strict, lazy=True).item()
        for state in (apart, close)
    ]
    assert steps[1] < steps[0] <= 0.3


def passing():
    """A light body that comes from afar, meets a planet and leaves; from twelve units before."""
    met = State.from_arrays(
        [1.0, 1e-4, 1e-6, 1e-5],
        [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 0.03, 0.0], [-2.0, 1.0, 0.0]],
        [[0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [-1.2, 1.1, 0.0], [-0.3, -0.6, 0.0]],
    )
    back = simulate(met.replace(velocity=-met.velocity), 12.0, integrator="gbs", tolerance=1e-12)
    return back.final.replace(velocity=-back.final.velocity, time=0 * met.time)


@pytest.mark.parametrize("engine", ["compiled", "any_number"])
@pytest.mark.parametrize("setting", ["plain", "corrected", "lazy"])
@pytest.mark.filterwarnings("ignore:.*the orbit of body")
def test_an_encounter_is_handed_over_before_it_and_taken_back_after(setting, engine):
    state, t_end, dt = passing(), 12_000.0, 0.1
    options = {"record": "ends", "tolerance": 1e-6}
    steps = nb.FixedStep(dt)
    with pytest.warns(RuntimeWarning, match=HANDED):
        made, short = (
            simulate(
                state, end, steps, integrator=WisdomHolman(setting), engine=engine, **options
            )
            for end in (t_end, 20.0)
        )  # fmt: skip
    assert made.status is Status.SUCCESS
    (when,) = made.about["handed_over"]
    assert 9 < when < 12
    # On orbits that depend on the last bit: steps of 0.09 to 0.11 err by 7e-6 to 1.3e-5.
    assert made.max_energy_error < 4e-5
    # Most of the run is equal steps again.
    assert made.n_steps > 0.5 * t_end / dt
    assert made.dt[-1] == pytest.approx(dt, rel=0.01)
    exact = simulate(state, 20.0, integrator="gbs", tolerance=1e-12, record="ends")
    assert np.abs(short.final.position - exact.final.position).max() < 1e-4


def test_a_close_family_errs_by_its_tolerance():
    state = scenarios.make(
        "planetary_system", planet_mass=1e-3, spacing=3.0, n_systems=4, dimensions=3
    )
    t_end = 4.0  # as long as it takes to meet, and no longer than errors grow little
    exact = simulate(state, t_end, integrator="gbs", tolerance=1e-13, record="ends")
    for tolerance in (1e-4, 1e-6, 1e-8):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            made = simulate(
                state, t_end, integrator="wisdom_holman", tolerance=tolerance, record="ends"
            )
        off = np.abs(made.final.position - exact.final.position).max(axis=(1, 2))
        assert np.median(off) < 100 * tolerance
        assert made.summary["max_energy_error"].max() < tolerance


def colliding():
    """Two planets on one orbit that run into each other."""
    return pair((1e-3, 1e-3), (1.0, 1.0), (0.0, 0.4), (0.0, 0.3))


@pytest.mark.parametrize("engine", ["compiled", "any_number"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_contacts_and_escapes_are_those_of_extrapolation(engine):
    leaving = pair((1e-3, 1e-3), (1.0, 1.0), (0.0, 0.8), (0.0, 0.02))
    for state, limits, status in (
        (colliding(), {"collision_distance": 0.1}, Status.COLLISION),
        (leaving, {"escape_distance": 1.5}, Status.ESCAPE),
    ):
        known, made = (
            simulate(state, 200.0, integrator=each, tolerance=1e-9, engine=engine, **limits)
            for each in ("gbs", "wisdom_holman")
        )
        assert known.status is made.status is status
        assert made.summary["event_first"] == known.summary["event_first"]
        assert made.summary["event_second"] == known.summary["event_second"]
        when, known = (run.summary["event_time"] for run in (made, known))
        assert when == pytest.approx(known, rel=1e-5)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_no_contact_with_the_star_is_stepped_over():
    """Of bodies so light that a step leads from far before the one to far behind it."""
    # The straight line at speed 1 comes as near as 0.05, at t = 10.
    state = State.from_arrays([1e-6, 1e-6], [[0, 0], [-10, 0.05]], [[0, 0], [1.0, 0]])
    for distance in (0.06, 0.3, 2.0):
        made = simulate(
            state, 20.0, integrator="wisdom_holman", tolerance=1e-6, collision_distance=distance
        )
        assert made.status is Status.COLLISION
        assert made.summary["event_time"] == pytest.approx(
            10 - np.sqrt(distance**2 - 0.05**2), rel=1e-4
        )
    # It passes where nothing is near enough.
    made = simulate(state, 20.0, integrator="wisdom_holman", collision_distance=0.04)
    assert made.status is Status.SUCCESS


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_no_equal_steps_are_begun_for_what_little_is_left():
    """2000 steps of extrapolation come first, of some 2.8 units each."""
    options = {"integrator": "wisdom_holman", "tolerance": 1e-6, "record": "ends"}
    short, long = (simulate(passing(), t_end, nb.FixedStep(0.1), **options) for t_end in (8e3, 2e4))
    assert short.status is Status.SUCCESS
    assert 2000 < short.n_steps < 4000
    assert long.n_steps > 100_000


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_run_with_encounters_goes_on_bit_for_bit(tmp_path):
    state = passing()
    options = {"integrator": "wisdom_holman", "tolerance": 1e-7, "record": 50}
    whole = simulate(state, 20_000.0, **options)
    path = tmp_path / "run.zarr"
    simulate(state, 20_000.0, path=path, max_steps=700, **options)
    made = simulate(resume=path, max_steps=10_000_000)
    assert np.array_equal(made.position, whole.position)
    assert np.array_equal(made.body_error, whole.body_error)
    assert made.about["handed_over"] == whole.about["handed_over"]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_batch_hands_over_those_that_meet():
    quiet = pair((1e-5, 1e-5), (1.0, 1.8))
    meeting = pair((1e-3, 1e-3), (1.0, 1.2))
    batch = State.concatenate([meeting, quiet] * 4)
    made = simulate(batch, 500.0, nb.FixedStep(0.1), integrator="wisdom_holman", record="ends")
    handed = [each is not None for each in made.about["handed_over"]]
    assert handed == [True, False] * 4
    alone = simulate(quiet, 500.0, nb.FixedStep(0.1), integrator="wisdom_holman", record="ends")
    np.testing.assert_allclose(made.final.position[1], alone.final.position[0], atol=1e-10)


def test_planets_that_pass_another_s_orbit_far_from_it_are_not_handed_over():
    """A comet that crosses the plane of the giants where they never are."""
    quiet = pair((1e-3, 1e-6), (5.0, 20.0), (0.0, 0.9), (0.0, 0.5))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        simulate(quiet, 100.0, integrator="wisdom_holman", tolerance=1e-5, record="ends")


@pytest.mark.parametrize("side_by_side", [True, False])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_no_encounter_is_missed_where_a_run_is_halted(side_by_side, monkeypatch):
    """Planets that fly by each other head on are near for a kick or two."""
    states = []
    for phase in np.linspace(0.1, 0.9, 8):
        state = pair((1e-4, 1e-5), (1.0, 1.01), (0.02, 0.05), (0.0, phase))
        state.velocity[:, 2] *= -1
        states.append(state)
    batch, scheme = State.concatenate(states), WisdomHolman("plain", side_by_side=side_by_side)

    def handed(record):
        options = {"integrator": scheme, "tolerance": 1e-4, "record": record}
        made = simulate(batch, 30.0, nb.FixedStep(0.2), **options)
        assert (np.diff(made.time, axis=-1)[np.isfinite(np.diff(made.time, axis=-1))] > 0).all()
        return made.about["handed_over"]

    known = handed("ends")
    assert any(each is not None for each in known)
    assert handed(3) == handed(7) == known
    monkeypatch.setattr(compiled_engine, "FIRST_PAIRS", 1)
    monkeypatch.setattr(compiled_engine, "adapted", lambda quota, spent: 1)
    assert handed("ends") == known
