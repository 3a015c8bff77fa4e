import math

import numpy as np
import pytest
import zarr
from symmetries import assert_same_as_tensors

from nbcore.physics import scenarios
from nbcore.physics.integrators import get_integrator
from nbcore.physics.state import State
from nbcore.simulation import events
from nbcore.simulation.simulate import simulate
from nbcore.simulation.status import Status
from nbcore.simulation.trajectory import Trajectory
from nbcore.stepping.policies import Criterion, FixedStep

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*did not reach"),
    pytest.mark.filterwarnings("ignore:.*unlike those that the policy was trained on"),
]

RULE = Criterion("boekholt", 0.1)
ENGINES = pytest.mark.parametrize("engine", ["torch", "compiled"])
LIGHT = 1e-14  # mass that bends no orbit by more than rounding


def passing(offset=0.05):
    """Two bodies, the second of which passes the first at t = 10."""
    return State.from_arrays([LIGHT, LIGHT], [[0, 0, 0], [-10, offset, 0]], [[0, 0, 0], [1, 0, 0]])


def when_closer_than(distance, offset=0.05):
    return 10 - math.sqrt(distance**2 - offset**2)


def falling(eccentricity=0.9, mass_ratio=0.5, G=1.0):
    """Two bodies at the apocentre of an orbit of a = 1 and period 2π/√G."""
    e, share = eccentricity, np.array([-mass_ratio / (1 + mass_ratio), 1 / (1 + mass_ratio)])
    speed = math.sqrt(G * (1 - e) / (1 + e))
    return State.from_arrays(
        [share[1], -share[0]],
        share[:, None] * np.array([1 + e, 0.0, 0.0]),
        share[:, None] * np.array([0.0, 0.6, 0.8]) * speed,
        G=G,
    )


def when_fallen_to(r, eccentricity=0.9, G=1.0):
    """By Kepler's equation, from the apocentre."""
    E = math.acos((1 - r) / eccentricity)
    return (math.pi - (E - eccentricity * math.sin(E))) / math.sqrt(G)


def the_event(run):
    (event,) = run.events.to_dict("records")
    return event


def as_told(run):
    return run.events.drop(columns=["time", "distance"]).to_dict("list")


# The time


@ENGINES
@pytest.mark.parametrize("policy", [RULE, FixedStep(7.0), FixedStep(1e3), None])
def test_a_contact_shorter_than_a_step_is_told_at_its_time(engine, policy):
    run = simulate(passing(), 20.0, policy, collision_distance=0.06, engine=engine)
    assert run.status is Status.COLLISION
    event = the_event(run)
    assert event["time"] == pytest.approx(when_closer_than(0.06), abs=1e-10)
    assert event["distance"] == pytest.approx(0.06, rel=1e-10)
    assert (event["kind"], event["bodies"]) == ("collision", (0, 1))
    # The run ends there.
    assert run.final.time.item() == run.time[-1] == event["time"]
    assert run.n_steps == len(run.time) - 1
    assert run.position[-1, 1, 0] == pytest.approx(-math.sqrt(0.06**2 - 0.05**2), abs=1e-10)
    assert np.array_equal(run.position[-1], run.final.position[0])


@ENGINES
@pytest.mark.parametrize("share", [1e-3, 1e-6, 1e-9])
@pytest.mark.parametrize("policy", [RULE, FixedStep(0.7)])
def test_a_graze_is_told_and_a_near_miss_is_not(engine, share, policy):
    for offset, met in ((0.05 * (1 - share), True), (0.05 * (1 + share), False)):
        run = simulate(passing(offset), 20.0, policy, collision_distance=0.05, engine=engine)
        assert run.status is (Status.COLLISION if met else Status.SUCCESS)
        if met:
            # Where r' is small, the time is uncertain by a rounding of r over r'.
            expected = when_closer_than(0.05, offset)
            assert the_event(run)["time"] == pytest.approx(expected, abs=2e-12 * share**-0.5)


@ENGINES
@pytest.mark.parametrize("G", [1.0, 39.5])
@pytest.mark.parametrize("distance", [1.0, 0.3, 0.1001])
def test_a_contact_on_an_orbit_is_at_the_time_of_kepler(engine, G, distance):
    run = simulate(
        falling(G=G), 6.0 / math.sqrt(G), Criterion("boekholt", 0.05), integrator="kahan_li8",
        collision_distance=distance, engine=engine,
    )  # fmt: skip
    expected = when_fallen_to(distance, G=G)
    assert the_event(run)["time"] == pytest.approx(expected, abs=1e-9 / math.sqrt(G))


@ENGINES
def test_a_pericentre_between_two_steps_that_both_lie_outside_is_found(engine):
    state, distance = falling(), 0.1003
    far = simulate(state, 6.0, Criterion("boekholt", 0.3), integrator="kahan_li8", engine=engine)
    outside = np.linalg.norm(far.position[:, 1] - far.position[:, 0], axis=-1)
    assert outside.min() > distance
    run = simulate(
        state, 6.0, Criterion("boekholt", 0.3), integrator="kahan_li8",
        collision_distance=distance, engine=engine,
    )  # fmt: skip
    assert run.status is Status.COLLISION
    assert the_event(run)["time"] == pytest.approx(when_fallen_to(distance), abs=1e-6)


@pytest.mark.parametrize("integrator", ["leapfrog", "hermite4", "blanes_moan6"])
def test_the_time_is_as_good_as_the_integrator(integrator):
    runs = (
        simulate(
            falling(), 6.0, FixedStep(dt), integrator=integrator, collision_distance=0.2,
            record="ends",
        )
        for dt in (3e-3, 3e-5)
    )  # fmt: skip
    times = [the_event(run)["time"] for run in runs]
    error = abs(times[0] - when_fallen_to(0.2))
    assert error == pytest.approx(abs(times[0] - times[1]), rel=0.01, abs=1e-9)
    assert error < {"leapfrog": 1e-4, "hermite4": 1e-6, "blanes_moan6": 1e-7}[integrator]


@ENGINES
def test_softened_bodies_meet_in_the_place_where_they_are(engine):
    """From rest at a distance much below the softening, the motion is a cosine."""
    x = [[-1e-6, 0, 0], [1e-6, 0, 0]]
    state = State.from_arrays([1, 1], x, np.zeros((2, 3)), softening=1.0)
    run = simulate(
        state, 2.0, FixedStep(0.01), integrator="kahan_li8", collision_distance=1e-6, engine=engine
    )
    assert the_event(run)["time"] == pytest.approx(math.acos(0.5) / math.sqrt(2), abs=1e-10)


@ENGINES
@pytest.mark.parametrize("policy", [RULE, FixedStep(7.0), None])
def test_an_escape_is_told_at_the_crossing(engine, policy):
    """The first moves away from the centre of mass after it came nearer; the second stays."""
    state = State.from_arrays(
        [LIGHT, 1.0], [[-3, 4, 0], [0, 0, 0]], [[1000, 0, 0], [0, 0, 0]], G=1e-9
    )
    run = simulate(state, 1.0, policy, escape_distance=8.0, engine=engine)
    assert run.status is Status.ESCAPE
    event = the_event(run)
    assert event["time"] == pytest.approx((3 + math.sqrt(48)) / 1000, abs=1e-10)
    assert event["distance"] == pytest.approx(8.0, rel=1e-10)
    assert (event["kind"], event["bodies"]) == ("escape", (0,))
    assert run.final.time.item() == run.time[-1] == event["time"]


@ENGINES
@pytest.mark.parametrize("speed", [0.0, 300.0])
def test_the_frame_changes_no_event(engine, speed):
    state = falling(0.9, mass_ratio=0.1)
    state = state.replace(velocity=state.velocity + speed)
    contact = simulate(state, 6.0, RULE, collision_distance=0.2, engine=engine)
    expected = simulate(state.replace(velocity=state.velocity - speed), 6.0, RULE,
                        collision_distance=0.2, engine=engine)  # fmt: skip
    time = the_event(expected)["time"]
    assert the_event(contact)["time"] == pytest.approx(time, abs=1e-9)
    assert contact.n_steps == expected.n_steps


# The start


@ENGINES
@pytest.mark.parametrize("record", [None, 3, "ends", [1.0, 1.5]])
def test_bodies_that_overlap_at_the_start_make_no_step(engine, record):
    state = falling().replace(time=np.ones(1))
    run = simulate(state, 2.0, RULE, collision_distance=2.0, record=record, engine=engine)
    assert (run.status, run.n_steps, run.time.tolist()) == (Status.COLLISION, 0, [1.0])
    event = the_event(run)
    assert (event["time"], event["distance"]) == (1.0, pytest.approx(1.9))
    assert np.array_equal(run.final.position, state.position)
    assert run.max_energy_error == 0


@ENGINES
def test_a_body_that_is_far_at_the_start_makes_no_step(engine):
    parts = [falling(), falling(0.1)]
    run = simulate(State.concatenate(parts), 1.0, RULE, escape_distance=1.2, engine=engine)
    assert run.status.tolist() == [Status.ESCAPE, Status.SUCCESS]
    assert run.n_steps[0] == 0 < run.n_steps[1]
    event = the_event(run)
    assert (event["system"], event["time"], event["bodies"]) == (0, 0.0, (1,))
    assert event["distance"] == pytest.approx(1.9 / 1.5)


@ENGINES
def test_bodies_that_touch_at_the_start_meet_if_they_approach(engine):
    def run(speed):
        x, v = [[0, 0, 0], [0.5, 0, 0]], [[0, 0, 0], [speed, 0, 0]]
        state = State.from_arrays([LIGHT] * 2, x, v)
        return simulate(state, 0.5, FixedStep(0.1), collision_distance=0.5, engine=engine)

    assert run(1.0).status is Status.SUCCESS
    met = run(-1.0)
    assert met.status is Status.COLLISION
    assert the_event(met)["time"] == pytest.approx(0.0, abs=1e-11)


# Which one


@ENGINES
@pytest.mark.parametrize("dt", [30.0, 0.3])
def test_of_several_in_one_step_the_first_counts(engine, dt):
    def run(x, v, **limits):
        state = State.from_arrays([LIGHT, LIGHT, 1.0], x, v, G=LIGHT)
        return simulate(state, 30.0, FixedStep(dt), engine=engine, **limits)

    # The first passes the second at t = 20 and the third at t = 25, and escapes at t = 27.
    x, v = [[-20, 0], [0, 0.1], [5, 0.2]], [[1, 0], [0, 0], [0, 0]]
    met = run(x, v, collision_distance=0.5, escape_distance=25.5)
    assert the_event(met)["bodies"] == (0, 1)
    assert the_event(met)["time"] == pytest.approx(20 - math.sqrt(0.25 - 0.01), abs=1e-9)
    # The first escapes before the second, which is farther at the end of the step.
    x, v = [[-8, 0], [1, 1], [0, 0]], [[-1, 0], [2, 0], [0, 0]]
    gone = run(x, v, escape_distance=10.0)
    assert the_event(gone)["bodies"] == (0,)
    assert the_event(gone)["time"] == pytest.approx(2, abs=1e-9)


@ENGINES
def test_bodies_without_mass_meet_those_with_mass_alone(engine):
    x = [[0.0, 0.0], [-1.0, 0.0], [5.0, 0.0]]
    v = [[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0]]

    def run(mass):
        state = State.from_arrays(mass, x, v)
        return simulate(state, 6.0, FixedStep(0.17), collision_distance=0.25, engine=engine)

    # The third passes through both of the others, at t = 3 and 5.
    apart = run([0.0, 0.0, LIGHT])
    assert the_event(apart)["bodies"] == (1, 2)
    assert the_event(apart)["time"] == pytest.approx(2.875, abs=1e-9)
    assert the_event(run([LIGHT, 0.0, 0.0]))["time"] == pytest.approx(0.75, abs=1e-9)
    assert the_event(run([0.0, LIGHT, LIGHT]))["bodies"] == (0, 1)


# With what else ends or records a run


@ENGINES
@pytest.mark.parametrize(("t_end", "met"), [(9.97, True), (9.96, False), (1e4, True)])
def test_a_contact_in_the_last_step_counts_if_it_is_before_the_end(engine, t_end, met):
    run = simulate(passing(), t_end, FixedStep(9.9), collision_distance=0.06, engine=engine)
    assert run.status is (Status.COLLISION if met else Status.SUCCESS)
    assert len(run.events) == met
    assert run.n_steps == 2


@ENGINES
def test_an_event_in_the_last_step_that_is_allowed_is_told(engine):
    def run(most):
        return simulate(
            passing(), 20.0, FixedStep(9.9), max_steps=most, collision_distance=0.06, engine=engine
        )

    assert (run(2).status, run(2).n_steps) == (Status.COLLISION, 2)
    assert (run(1).status, len(run(1).events)) == (Status.MAX_STEPS, 0)


@ENGINES
@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (None, [0, 3, 6, 9, "met"]),
        (2, [0, 6, "met"]),
        (3, [0, 9, "met"]),
        ("ends", [0, "met"]),
        ([0.0, 4.0, 9.5, 9.99, 15.0], [0, 4, 9.5]),
    ],
)
def test_records_go_up_to_the_event(engine, record, expected):
    run = simulate(
        passing(), 20.0, FixedStep(3.0), record=record, collision_distance=0.06, engine=engine
    )
    time = when_closer_than(0.06)
    assert run.time == pytest.approx([time if t == "met" else t for t in expected], abs=1e-9)
    assert run.final.time.item() == pytest.approx(time, abs=1e-9)
    if expected[-1] == "met":
        assert run.dt[-1] == pytest.approx(time - 9, abs=1e-9)


@ENGINES
def test_errors_end_with_the_run(engine):
    """What the bodies would have done after they met is no error."""
    state = State.from_arrays([1, 1], [[-1, 0, 0], [1, 1e-3, 0]], np.zeros((2, 3)))
    free = simulate(state, 3.0, FixedStep(0.1), engine=engine)
    run = simulate(state, 3.0, FixedStep(0.1), collision_distance=0.5, engine=engine)
    assert run.status is Status.COLLISION
    assert run.max_energy_error == run.energy_error.max() < 1e-3 * free.max_energy_error


def alike(kind):
    """States of a batch, a policy and distances that some of it meet."""
    if kind == "pairs":
        states = [falling(e, 0.3) for e in (0.1, 0.8, 0.9, 0.95)]
        return State.concatenate(states), FixedStep(0.003), (0.15, 1.45)
    plane = kind == "plane"
    state = scenarios.make(
        "few_body", n_systems=6, n_bodies=3 if plane else 20, dimensions=2 if plane else 3, seed=2
    )
    distances = (0.12, 2.0) if plane else (0.03, 1.8)
    return state.replace(softening=0.02, G=1.5), Criterion("boekholt", 0.05), distances


@pytest.mark.parametrize(
    ("integrator", "kind"),
    [("leapfrog", "plane"), ("kahan_li8", "plane"), ("suzuki4", "many"), ("hermite4", "pairs")],
)
@pytest.mark.parametrize("record", [None, np.linspace(0, 2, 9)])
def test_both_engines_tell_the_same(integrator, kind, record):
    state, policy, (contact, beyond) = alike(kind)
    runs = [
        simulate(
            state, 3.0, policy, integrator=integrator, record=record, engine=engine,
            collision_distance=contact, escape_distance=beyond,
        )
        for engine in ("torch", "compiled")
    ]  # fmt: skip
    there, here = runs
    assert len(there.events) > 1
    assert as_told(here) == as_told(there)
    assert here.status.tolist() == there.status.tolist()
    assert here.n_steps.tolist() == there.n_steps.tolist()
    assert here.n_records.tolist() == there.n_records.tolist()
    for name in ("time", "distance"):
        assert here.events[name].to_numpy() == pytest.approx(there.events[name], abs=1e-9)
    np.testing.assert_allclose(here.final.position, there.final.position, rtol=0, atol=1e-8)
    assert here.final.time.tolist() == pytest.approx(there.final.time.tolist(), abs=1e-9)
    assert here.max_energy_error == pytest.approx(there.max_energy_error, rel=1e-4, abs=1e-12)


@pytest.mark.parametrize("integrator", ["leapfrog", "hermite4"])
def test_arrays_and_tensors_meet_alike(integrator):
    scheme, watch = get_integrator(integrator), events.Watch(0.06, 8.0)
    state = State.concatenate([passing(), passing(0.2), passing(0.03)])
    state = state.replace(mass=np.array([LIGHT, 2 * LIGHT]) * np.ones((3, 1)))

    def met(state):
        dt = 25.0 + 0 * state.time
        end, until, found = events.first_event(state, scheme.step(state, dt), dt, scheme, watch)
        return [end.position, end.velocity, end.time, until, *found, found.ends(found.first)]

    assert_same_as_tensors(met, state, rounding=1e-11)
    assert met(state)[-1].tolist() == [Status.COLLISION, Status.ESCAPE, Status.COLLISION]


@pytest.mark.parametrize(("scale", "status"), [(7, Status.ESCAPE), (1e-3, Status.COLLISION)])
def test_arrays_and_tensors_that_end_at_the_start_do_so_alike(scale, status):
    def found(state):
        found = events.at_start(state, events.Watch(0.06, 8.0))
        return [*found, found.ends(found.first)]

    state = falling(mass_ratio=0.5)
    state = state.replace(position=scale * state.position)
    assert_same_as_tensors(found, state)
    assert found(state)[-1] == status


@pytest.mark.filterwarnings("ignore:.*missed their tolerance")
@pytest.mark.parametrize("guard", [False, True])
@ENGINES
def test_looking_for_events_that_do_not_come_changes_no_bit(engine, guard):
    state = scenarios.make("few_body", n_systems=3, seed=1, dimensions=2)

    def run(least=None, most=None):
        return simulate(
            state, 1.0, RULE, engine=engine, guard=guard,
            collision_distance=least, escape_distance=most,
        )  # fmt: skip

    free, watched = run(), run(1e-7, 1e7)
    assert np.array_equal(free.position, watched.position, equal_nan=True)
    assert free.n_force_evaluations.tolist() == watched.n_force_evaluations.tolist()
    assert watched.events.empty


@ENGINES
def test_a_pair_that_stays_at_the_distance_holds_up_no_run(engine, monkeypatch):
    """A circular orbit at the very distance of a contact."""
    monkeypatch.setattr(events, "PATIENCE", 64)
    state = falling(0.0)
    for distance in (1.0, 1 - 1e-12, 1 - 1e-9, 1 - 1e-6):
        run = simulate(
            state, 1.0, FixedStep(0.05), integrator="kahan_li8", collision_distance=distance,
            engine=engine,
        )  # fmt: skip
        assert run.status in (Status.SUCCESS, Status.COLLISION)
    assert run.status is Status.SUCCESS


# What is told of a batch


def two_of_three(**options):
    parts = [passing(), passing(0.2), passing(0.03)]
    return simulate(State.concatenate(parts), 20.0, RULE, collision_distance=0.06, **options)


def test_events_are_a_table_with_a_row_for_each():
    table = two_of_three().events
    assert list(table.columns) == ["system", "time", "kind", "bodies", "distance"]
    assert table["system"].tolist() == [0, 2]
    assert table["bodies"].tolist() == [(0, 1), (0, 1)]
    expected = [when_closer_than(0.06), when_closer_than(0.06, 0.03)]
    assert table["time"].to_numpy() == pytest.approx(expected, abs=1e-10)
    nothing = simulate(passing(), 1.0, RULE).events
    assert nothing.empty
    assert nothing.dtypes.tolist() == table.dtypes.tolist()
    assert list(nothing.columns) == list(table.columns)


def test_events_of_one_system_are_its_own():
    run = two_of_three()
    assert run.system(1).events.empty
    assert run.system(2).events["time"].tolist() == [run.events["time"][1]]
    assert run.take(np.array([0]), 2).events["system"].tolist() == [0]


def test_events_are_stored(tmp_path):
    run = two_of_three(path=tmp_path / "streamed")
    run.save(tmp_path / "saved")
    for name in ("streamed", "saved"):
        assert Trajectory.load(tmp_path / name).events.equals(run.events)


def test_a_stored_run_without_events_still_opens(tmp_path):
    """As earlier versions wrote them."""
    two_of_three().save(tmp_path / "run")
    group = zarr.open_group(tmp_path / "run")
    for name in ("time", "first", "second", "distance"):
        del group[f"event_{name}"]
    run = Trajectory.load(tmp_path / "run")
    assert run.status.tolist() == [Status.COLLISION, Status.SUCCESS, Status.COLLISION]
    assert run.events.empty
