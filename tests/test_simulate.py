import math

import numpy as np
import pytest
import torch
from symmetries import random_states

from nbcore.errors import InputError
from nbcore.physics import gravity, scenarios
from nbcore.physics.arrays import is_tensor
from nbcore.physics.extrapolation import Extrapolation
from nbcore.physics.fields import TidalField
from nbcore.physics.integrators import INTEGRATORS
from nbcore.physics.state import State
from nbcore.physics.wisdom_holman import WisdomHolman
from nbcore.simulation.simulate import simulate
from nbcore.simulation.status import Status
from nbcore.simulation.trajectory import Trajectory
from nbcore.stepping.checkpoints import load_policy
from nbcore.stepping.policies import Criterion, FixedStep, LearnedPolicy, PolicySpec, untrained

RULE = Criterion("boekholt", 0.1)


def few(n_systems=4, **kind):
    return scenarios.make("few_body", n_systems=n_systems, seed=1, **kind)


def orbit(**kind):
    return scenarios.make("kepler", eccentricity=0.5, **kind)


def member(state, k):
    return state.select([k])


def four_ends(**options):
    return simulate(few(), [1.0, 1.1, 1.2, 1.3], RULE, **options)


def same_end(a, b):
    return np.array_equal(a.final.position, b.final.position) and np.array_equal(
        a.final.velocity, b.final.velocity
    )


# The end


@pytest.mark.parametrize("stepping", ["plain", "reversible"])
@pytest.mark.parametrize("start", [0.0, 1e6])
def test_every_member_ends_at_its_own_end_to_the_last_bit(start, stepping):
    state = few()
    state = state.replace(time=state.time + start)
    t_end = start + np.array([0.1, 1 / 3, 0.7, math.e])
    run = simulate(state, t_end, RULE, stepping=stepping)
    assert np.array_equal(run.final.time, t_end)
    assert run.status.tolist() == [Status.SUCCESS] * 4
    for k in range(4):
        assert run.system(k).time[-1] == t_end[k]


def test_the_end_is_not_the_rounded_sum_of_the_last_step():
    rng = np.random.default_rng(0)
    start, end = rng.random(64), 1 + rng.random(64)
    assert (start + (end - start) != end).any()
    run = simulate(few(64).replace(time=start), end, FixedStep(5.0), integrator="leapfrog")
    assert np.array_equal(run.final.time, end)


def test_a_step_longer_than_the_run_is_cut():
    run = simulate(orbit(), 0.1, FixedStep(5.0))
    assert (run.n_steps, run.time.tolist()) == (1, [0.0, 0.1])


def test_no_step_of_rounding_size_is_left_for_the_end():
    run = simulate(orbit(), 0.3, FixedStep(0.1))
    assert run.n_steps == 3
    assert run.dt[1:] == pytest.approx([0.1] * 3, rel=1e-12)


@pytest.mark.filterwarnings("ignore:.*unlike those:RuntimeWarning")
def test_the_default_policy_is_the_shipped_suite_which_chooses_the_integrator():
    loose, strict = (simulate(few(), 0.5, tolerance=tolerance) for tolerance in (1e-3, 1e-9))
    assert (loose.integrator, strict.integrator) == ("blanes_moan4", "blanes_moan6")
    assert loose.stepping == strict.stepping == "reversible"
    named = simulate(few(), 0.5, integrator="auto", policy=load_policy("default"), tolerance=1e-3)
    assert named.n_steps.tolist() == loose.n_steps.tolist()
    assert (strict.n_force_evaluations > loose.n_force_evaluations).all()


def test_an_integrator_without_a_trained_policy_takes_an_untrained_one():
    with pytest.warns(RuntimeWarning, match="no trained policy is shipped for 'kahan_li8'"):
        run = simulate(few(), 0.5, integrator="kahan_li8", tolerance=1e-8)
    expected = simulate(few(), 0.5, untrained("kahan_li8"), tolerance=1e-8)
    assert run.n_steps.tolist() == expected.n_steps.tolist()
    assert run.stepping == "plain"


def test_only_a_suite_can_choose_an_integrator():
    with pytest.raises(InputError, match="'auto' and the policy boekholt can't choose"):
        simulate(few(), 0.5, Criterion("boekholt", 0.1), integrator="auto")
    with pytest.raises(InputError, match="'blanes_moan4', 'blanes_moan6', not for 'leapfrog'"):
        simulate(few(), 0.5, load_policy("default"), integrator="leapfrog")


# Independence


@pytest.mark.parametrize("stepping", ["plain", "reversible"])
@pytest.mark.parametrize("name", ["boekholt", "prs23"])
def test_a_member_does_the_same_alone_and_in_a_batch(name, stepping):
    state, t_end = few(), [0.2, 0.4, 0.6, 0.8]
    together = simulate(state, t_end, Criterion(name, 0.1), stepping=stepping)
    for k in range(4):
        alone = simulate(member(state, k), t_end[k], Criterion(name, 0.1), stepping=stepping)
        assert alone.n_steps[0] == together.n_steps[k]
        assert alone.n_force_evaluations[0] == together.n_force_evaluations[k]
        # The same bits on most machines; a vectorised root may round the last one otherwise.
        assert alone.system(0).position == pytest.approx(together.system(k).position, abs=1e-11)
        assert alone.max_energy_error[0] == pytest.approx(together.max_energy_error[k], abs=1e-13)


def test_a_single_system_comes_without_a_leading_b():
    run = simulate(orbit(), 0.5, RULE)
    assert run.position.shape == (run.n_steps + 1, 2, 2)
    assert run.time.shape == run.dt.shape == run.energy_error.shape == (run.n_steps + 1,)
    assert isinstance(run.n_steps, int)
    assert run.status is Status.SUCCESS
    assert run.final.batched is False


def test_a_state_that_has_run_can_run_on():
    """To a rounding: what compensated sums had kept back is not part of a state."""
    halfway = simulate(orbit(), 1.0, FixedStep(0.125)).final
    on, through = simulate(halfway, 2.0, FixedStep(0.125)), simulate(orbit(), 2.0, FixedStep(0.125))
    assert np.array_equal(on.final.time, through.final.time)
    for name in ("position", "velocity"):
        there, here = getattr(through.final, name), getattr(on.final, name)
        np.testing.assert_allclose(here, there, rtol=0, atol=2e-15)


def test_the_initial_state_is_left_as_it_was():
    state = orbit()
    before = state.position.copy()
    simulate(state, 0.5, RULE)
    assert np.array_equal(state.position, before)
    assert state.acceleration is None


@pytest.mark.parametrize("engine", ["compiled", "torch"])
def test_the_end_is_of_the_kind_of_array_that_was_given(engine):
    state = few()
    arrays, tensors = (
        simulate(each, 0.5, RULE, engine=engine) for each in (state, state.to("cpu"))
    )
    assert isinstance(arrays.final.position, np.ndarray)
    assert is_tensor(tensors.final.position)
    assert same_end(arrays, tensors)


RECORDS = [None, 1, 3, 1000, "ends", np.array([0.0, 0.1, 0.55, 1.0]), [0.3], np.linspace(0, 1, 57)]


@pytest.mark.parametrize("record", RECORDS, ids=lambda r: str(r)[:12])
@pytest.mark.parametrize("stream", [False, True])
def test_what_is_recorded_changes_no_step(record, stream, tmp_path):
    base = four_ends()
    path = tmp_path / "run.zarr" if stream else None
    run = four_ends(record=record, path=path)
    assert same_end(run, base)
    for name, value in base.summary.items():
        assert np.array_equal(run.summary[name], value, equal_nan=True), name


def test_all_steps_are_recorded_unless_asked_otherwise():
    run = four_ends()
    assert (run.n_records == run.n_steps + 1).all()
    for k in range(4):
        one = run.system(k)
        assert math.isnan(one.dt[0])
        assert np.diff(one.time) == pytest.approx(one.dt[1:], rel=1e-9)
        assert one.energy_error[0] == 0
        assert one.energy_error.max() == one.max_energy_error


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_every_nth_step_is_recorded_and_both_ends(n):
    every, some = (four_ends(record=r) for r in (None, n))
    for k in range(4):
        steps = every.n_steps[k]
        rows = sorted({*range(0, steps, n), steps})
        one = some.system(k)
        assert one.time.tolist() == every.system(k).time[rows].tolist()
        assert np.array_equal(one.position, every.system(k).position[rows])
        assert np.array_equal(one.dt, every.system(k).dt[rows], equal_nan=True)


def test_ends_are_two_records_and_the_largest_error_is_that_of_every_step():
    every, ends = (simulate(orbit(), 2 * math.pi, RULE, record=r) for r in (None, "ends"))
    assert ends.time.tolist() == [0.0, 2 * math.pi]
    assert ends.max_energy_error == every.energy_error.max()
    # The peak at pericentre, far above what is left at the end of an orbit.
    assert ends.max_energy_error > 5 * ends.energy_error.max()


# Output times


def position_errors(times, n_steps):
    period = 2 * math.pi
    run = simulate(orbit(phase=0.0), period, FixedStep(period / n_steps), record=period * times)
    assert np.array_equal(run.time, period * times)
    exact = [orbit(phase=float(t)).position[0] for t in times]
    return np.abs(run.position - np.stack(exact)).max(axis=(1, 2))


def test_output_times_are_hit_exactly_and_to_the_order_of_the_integrator():
    times = np.array([0.0, 0.123, 0.1234, 0.377, 0.611, 0.95, 1.0])
    coarse, fine = (position_errors(times, n).max() for n in (300, 600))
    assert math.log2(coarse / fine) == pytest.approx(4, abs=0.3)


def test_several_output_times_may_fall_into_one_step():
    times = np.linspace(0.01, 0.09, 9)
    run = simulate(orbit(), 0.1, FixedStep(0.1), record=times)
    assert run.n_steps == 1
    assert np.array_equal(run.time, times)
    assert (run.dt == 0.1).all()


@pytest.mark.parametrize("start", [0.0, 1e6])
def test_the_end_is_an_output_time_like_any_other(start):
    """At 10⁶ the time itself is rounded by 10⁻¹⁰, more than the steps are long to rounding."""
    state = few()
    state = state.replace(time=state.time + start)
    times = start + np.array([0.05, 0.1, 0.3, 0.5])
    run = simulate(state, times[-1], FixedStep(0.013), record=times)
    assert run.n_records.tolist() == [4] * 4
    assert (run.time == times).all()
    np.testing.assert_allclose(run.position[:, -1], run.final.position, rtol=1e-7, atol=1e-7)


def test_records_end_where_a_system_does():
    state = State.concatenate([orbit(), scenarios.make("kepler", eccentricity=0.95)])
    times = np.linspace(0, 6, 13)
    with pytest.warns(RuntimeWarning, match="1 COLLISION"):
        run = simulate(state, 6.0, RULE, record=times, collision_distance=0.1)
    collided = run.final.time[1].item()
    assert run.n_records.tolist() == [13, (times <= collided).sum()]
    assert run.time[0].tolist() == times.tolist()
    assert np.isnan(run.time[1, run.n_records[1] :]).all()


# Status


def of_one(k, usual, special, after=0.0):
    """A rule that is special for one member once its time has come."""

    def rule(state, tolerance):
        dt = np.full(state.n_systems, usual)
        dt[k] = special if state.time[k] >= after else usual
        return dt

    return rule


@pytest.mark.parametrize(
    ("special", "status"),
    [
        (0.0, Status.DT_UNDERFLOW),
        (1e-20, Status.DT_UNDERFLOW),
        (-0.1, Status.DT_UNDERFLOW),
        (math.nan, Status.NON_FINITE),
        (-math.inf, Status.NON_FINITE),
    ],
)
@pytest.mark.parametrize("record", [None, "ends", 4])
def test_a_bad_step_ends_its_member_only(special, status, record):
    state, usual = few(3), FixedStep(0.05)
    rule = of_one(1, 0.05, special, after=0.29)
    with pytest.warns(RuntimeWarning, match=f"1 of 3 systems .* 1 {status.name}"):
        run = simulate(state, 1.0, rule, record=record)
    good = simulate(state, 1.0, usual, record=record, engine="torch")  # as that of a rule
    assert run.status.tolist() == [Status.SUCCESS, status, Status.SUCCESS]
    assert run.n_steps.tolist() == [20, 6, 20]
    for k in (0, 2):
        assert np.array_equal(run.system(k).position, good.system(k).position)
    # The last good state is kept, and is the last record.
    assert run.final.time[1].item() == pytest.approx(0.3)
    assert run.system(1).time[-1] == run.final.time[1]
    assert np.array_equal(run.system(1).position[-1], run.final.position[1])


def test_a_step_that_overflows_ends_its_member_only():
    state = few(3)
    t_end = [1.0, math.inf, 1.0]
    with pytest.warns(RuntimeWarning, match="1 NON_FINITE"):
        run = simulate(state, t_end, of_one(1, 0.05, 1e308, after=0.29), max_steps=100)
    assert run.status.tolist() == [Status.SUCCESS, Status.NON_FINITE, Status.SUCCESS]
    assert run.n_steps.tolist() == [20, 6, 20]
    assert np.isfinite(run.final.position).all()
    assert np.isfinite(run.summary["max_energy_error"]).all()


def test_too_many_steps_end_their_member_only():
    with pytest.warns(RuntimeWarning, match="1 MAX_STEPS"):
        run = simulate(few(3), 1.0, of_one(1, 0.05, 0.01), max_steps=30)
    assert run.status.tolist() == [Status.SUCCESS, Status.MAX_STEPS, Status.SUCCESS]
    assert run.n_steps.tolist() == [20, 30, 20]


def test_a_run_that_just_makes_it_is_a_success():
    assert simulate(orbit(), 1.0, FixedStep(0.1), max_steps=10).status is Status.SUCCESS


def test_a_collision_ends_its_member_only():
    parts = [scenarios.make("kepler", eccentricity=e) for e in (0.0, 0.95)]
    with pytest.warns(RuntimeWarning, match="1 COLLISION"):
        run = simulate(State.concatenate(parts), 6.0, RULE, collision_distance=0.1)
    assert run.status.tolist() == [Status.SUCCESS, Status.COLLISION]
    R = run.system(1).position[:, 1] - run.system(1).position[:, 0]
    distance = np.linalg.norm(R, axis=-1)
    assert distance[-1] == pytest.approx(0.1, rel=1e-10)
    assert distance[-1] < 0.1 < distance[-2]


def test_an_escape_ends_its_member_only():
    bound = scenarios.make("kepler")
    state = State.concatenate([bound, bound.replace(velocity=2 * bound.velocity)])
    # From the centre of mass, wherever that is and goes.
    state = state.replace(position=state.position + 100, velocity=state.velocity + 3)
    with pytest.warns(RuntimeWarning, match="1 ESCAPE"):
        run = simulate(state, 6.0, RULE, escape_distance=2.0)
    assert run.status.tolist() == [Status.SUCCESS, Status.ESCAPE]
    x = run.system(1).position
    distance = np.linalg.norm(x - x.mean(axis=1, keepdims=True), axis=-1).max(axis=-1)
    assert distance[-1] == pytest.approx(2.0, rel=1e-10)
    assert distance[-2] < 2.0 < distance[-1]


def test_prs23_on_the_figure_eight_underflows_and_says_so():
    with pytest.warns(RuntimeWarning, match="DT_UNDERFLOW|MAX_STEPS"):
        run = simulate(scenarios.make("figure_eight"), 1.0, Criterion("prs23", 0.1), max_steps=50)
    assert run.status is not Status.SUCCESS


def interrupted_at(call, dt=0.05):
    calls = iter(range(1, 10**6))

    def rule(state, tolerance):
        if next(calls) == call:
            raise KeyboardInterrupt
        return dt

    return rule


@pytest.mark.parametrize("record", [None, 3, "ends"])
@pytest.mark.parametrize("stream", [False, True])
def test_an_interrupt_keeps_what_was_done(record, stream, tmp_path):
    path = tmp_path / "run.zarr" if stream else None
    with pytest.warns(RuntimeWarning, match="2 INTERRUPTED"):
        run = simulate(few(3), [1.0, 0.2, 1.0], interrupted_at(9), record=record, path=path)
    assert run.status.tolist() == [Status.INTERRUPTED, Status.SUCCESS, Status.INTERRUPTED]
    # The ninth proposal is for the step after the eighth.
    assert run.n_steps.tolist() == [8, 4, 8]
    good = simulate(few(3), [0.4, 0.2, 0.4], FixedStep(0.05), record=record)
    assert run.n_records.tolist() == good.n_records.tolist()
    assert run.position == pytest.approx(good.position, abs=1e-13, nan_ok=True)
    assert np.array_equal(run.final.position[0], run.system(0).position[-1])
    assert run.final.time.tolist() == pytest.approx([0.4, 0.2, 0.4])
    if stream:
        assert Trajectory.load(path).status.tolist() == run.status.tolist()


@pytest.mark.parametrize("engine", ["compiled", "torch"])
def test_what_may_stop_a_run_is_asked_and_heeded(engine):
    answers = iter([False, False, True])
    with pytest.warns(RuntimeWarning, match="INTERRUPTED"):
        run = simulate(orbit(), 1e5, FixedStep(1e-3), engine=engine, stop=lambda: next(answers))
    assert run.status == Status.INTERRUPTED
    assert run.n_steps >= 2
    assert len(run.time) == run.n_steps + 1


def test_an_interrupt_before_the_first_step_leaves_the_start():
    with pytest.warns(RuntimeWarning, match="1 INTERRUPTED"):
        run = simulate(orbit(), 1.0, interrupted_at(1))
    assert (run.status, run.n_steps, run.time.tolist()) == (Status.INTERRUPTED, 0, [0.0])


# Counting


@pytest.fixture
def counted(monkeypatch):
    """Evaluations of forces and, beyond them, of their derivatives."""
    seen = {"evaluations": 0}
    accelerations, derivatives, tide = (
        gravity.pair_accelerations,
        gravity.derivatives,
        gravity.tidal_tensor,
    )

    def count(function, cost):
        def counting(*arguments):
            seen["evaluations"] += cost(*arguments)
            return function(*arguments)

        return counting

    monkeypatch.setattr(gravity, "pair_accelerations", count(accelerations, lambda *_: 1))
    # The acceleration, if the state has none, is counted by the function above.
    monkeypatch.setattr(gravity, "derivatives", count(derivatives, lambda _, order: order - 1))
    monkeypatch.setattr(gravity, "tidal_tensor", count(tide, lambda _: 1))
    return seen


@pytest.mark.parametrize(
    ("integrator", "stepping"),
    [
        (name, stepping)
        for name, rule in INTEGRATORS.items()
        if not isinstance(rule, (Extrapolation, WisdomHolman))  # which take no such policy
        for stepping in (("plain", "reversible") if rule.reversible else ("plain",))
    ],
)
@pytest.mark.parametrize("policy", ["fixed", "boekholt", "prs23", "aarseth85", "tidal", "learned"])
def test_every_evaluation_is_counted_and_none_made_twice(integrator, policy, stepping, counted):
    if policy == "fixed":
        chosen = FixedStep(0.05)
    elif policy == "learned":
        chosen = LearnedPolicy(PolicySpec(integrator, INTEGRATORS[integrator].order))
    else:
        chosen = Criterion(policy, 0.1)
    run = simulate(
        orbit(),
        0.5,
        chosen,
        integrator=integrator,
        stepping=stepping,
        record="ends",
        tolerance=1e-3,
        engine="torch",  # in which calls can be counted; the compiled one is held to its numbers
    )
    assert run.n_force_evaluations == counted["evaluations"]


@pytest.mark.parametrize(
    ("integrator", "start", "a_step"), [("leapfrog", 1, 1), ("suzuki4", 1, 5), ("hermite4", 2, 2)]
)
def test_a_run_costs_a_start_and_its_steps(integrator, start, a_step):
    run = simulate(orbit(), 1.0, FixedStep(0.1), integrator=integrator)
    assert run.n_force_evaluations == start + 10 * a_step
    dear = simulate(orbit(), 1.0, Criterion("prs23", 0.1), integrator=integrator)
    assert dear.n_force_evaluations == start + dear.n_steps * (a_step + 2)


# Conservation


@pytest.mark.parametrize("velocity", [None, (-1.0, 0.4)])
def test_energy_is_kept_in_an_external_field(velocity):
    field = TidalField(5.0, (4.0, 3.0), velocity)
    state = scenarios.make("kepler_orbits", eccentricity=(0.2, 0.6), n_systems=4, field=field)
    coarse, fine = (simulate(state, 5.0, FixedStep(dt)) for dt in (0.04, 0.02))
    ratio = coarse.max_energy_error / fine.max_energy_error
    assert np.log2(ratio) == pytest.approx(4, abs=0.3)
    assert (fine.max_energy_error < 1e-5).all()
    if velocity:
        # The bodies' own energy does change.
        assert (np.abs(fine.final.work) > 1e-2 * np.abs(gravity.energy(state))).all()


def test_momentum_and_angular_momentum_are_kept():
    run = simulate(few(), 1.0, RULE)
    # Rounding of some hundred kicks.
    assert (run.max_momentum_error < 1e-13).all()
    assert (run.max_angular_momentum_error < 1e-13).all()


# Arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"t_end": 0.0}, "t_end is 0.0 and the state is at time 0.0"),
        ({"t_end": -1.0}, "must be later"),
        ({"t_end": math.nan}, "t_end is nan"),
        ({"t_end": math.inf}, "give max_steps"),
        ({"t_end": "1e-3"}, "t_end is '1e-3'; it must be a number"),
        ({"t_end": [1.0, 2.0, 3.0]}, r"shape \(3,\) for 1 systems"),
        ({"tolerance": 0.0}, "tolerance is 0.0; it must lie between 0 and 1"),
        ({"tolerance": 1.0}, "tolerance is 1.0"),
        ({"tolerance": math.nan}, "tolerance is nan"),
        ({"tolerance": "1e-6"}, "tolerance is '1e-6'"),
        ({"tolerance": [1e-6, 1e-3]}, r"shape \(2,\) for 1 systems"),
        ({"record": 0}, "record is 0; it must be 1 or more"),
        ({"record": -1}, "record is -1"),
        ({"record": "all"}, "record is 'all'"),
        ({"record": [0.5, 0.2]}, r"record is \[0.5, 0.2\]; times must be one increasing"),
        ({"record": [0.2, 0.2]}, "increasing"),
        ({"record": []}, "not empty"),
        ({"record": [math.nan]}, "finite"),
        ({"record": [[0.1, 0.2]]}, "one increasing"),
        ({"record": ["soon"]}, r"record is \['soon'\]"),
        ({"record": [-0.1, 0.2]}, "from -0.1 to 0.2 reach beyond the run"),
        ({"record": [0.1, 1.2]}, "from 0.1 to 1.2 reach beyond the run"),
        ({"max_steps": 0}, "max_steps is 0"),
        ({"collision_distance": 0.0}, "collision_distance is 0.0"),
        ({"escape_distance": -1.0}, "escape_distance is -1.0"),
        ({"escape_distance": math.nan}, "escape_distance is nan"),
        ({"integrator": "suzuki"}, "did you mean 'suzuki4'"),
        ({"stepping": "reversable"}, "did you mean 'reversible'"),
        ({"engine": "torhc"}, "did you mean 'torch'"),
        ({"policy": "boekhold"}, "did you mean 'boekholt'"),
        ({"policy": Criterion("softened_acceleration", 0.1)}, "needs softening > 0"),
        ({"policy": FixedStep([0.1, 0.2])}, r"dt has shape \(2,\) for 1 systems"),
    ],
    ids=str,
)
def test_a_bad_argument_is_an_error_that_names_it(arguments, message):
    with pytest.raises(InputError, match=message):
        simulate(orbit(), **{"t_end": 1.0} | arguments)


def test_the_end_must_be_later_for_every_member():
    state = few(2).replace(time=np.array([0.0, 2.0]))
    with pytest.raises(InputError, match="t_end must be later"):
        simulate(state, 1.0)


def test_a_policy_for_another_order_is_an_error():
    policy = LearnedPolicy(PolicySpec("kahan_li6", 6))
    with pytest.raises(InputError, match="of order 6, and 'suzuki4' has order 4"):
        simulate(orbit(), 1.0, policy, integrator="suzuki4")
    assert simulate(orbit(), 0.1, policy).integrator == "kahan_li6"


def test_numbers_may_differ_between_members():
    state = random_states(0, 2)
    run = simulate(state, [0.1, 0.2], tolerance=[1e-3, 1e-9])
    assert run.tolerance.tolist() == [1e-3, 1e-9]
    assert run.final.time.tolist() == [0.1, 0.2]


@pytest.mark.parametrize("engine", ["compiled", "torch"])
@pytest.mark.parametrize("kind", [np.array, lambda numbers: torch.tensor(numbers).double()])
def test_numbers_are_taken_as_arrays_and_as_tensors(kind, engine):
    t_end, steps, tolerance = [0.5, 0.75], [0.125, 0.25], [1e-4, 1e-2]
    for policy in (FixedStep, lambda eta: Criterion("boekholt", eta)):
        expected, found = (
            simulate(
                few(2),
                as_kind(t_end),
                policy(as_kind(steps)),
                tolerance=as_kind(tolerance),
                engine=engine,
            )
            for as_kind in (list, kind)
        )
        assert same_end(found, expected)
        assert found.tolerance.tolist() == pytest.approx(tolerance)


def test_the_progress_bar_reaches_its_end(capsys):
    simulate(orbit(), 1.0, FixedStep(0.1), progress=True)
    assert "100%" in capsys.readouterr().err
    simulate(orbit(), 1.0, FixedStep(0.1))
    assert capsys.readouterr().err == ""
