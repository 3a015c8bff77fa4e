"""Runs that stay below their tolerance, by going over those that did not."""

import itertools

import numpy as np
import pytest

from nbcore.errors import InputError
from nbcore.physics import scenarios
from nbcore.simulation import passes
from nbcore.simulation.simulate import check, simulate
from nbcore.simulation.status import Status
from nbcore.simulation.trajectory import Trajectory
from nbcore.stepping.policies import Criterion, FixedStep

GBS = {"integrator": "gbs", "tolerance": 1e-6}


def some(n_systems=12):
    return scenarios.make("few_body", n_bodies=3, n_systems=n_systems, seed=4)


def planets():
    return scenarios.make("planetary_system", n_systems=3, n_planets=2, spacing=9.0, seed=3)


KINDS = {
    "gbs": (some, 8.0, GBS),
    "learned": (some, 2.0, {"policy": "default", "tolerance": 1e-5}),
    "planets": (planets, 200.0, {"integrator": "wisdom_holman", "tolerance": 1e-5}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_no_body_errs_by_more_and_every_run_counts(kind, monkeypatch):
    state, t_end, given = KINDS[kind]
    runs, go = [], passes.Asked.go

    def counted(asked, *given):
        runs.append(go(asked, *given))
        return runs[-1]

    monkeypatch.setattr(passes.Asked, "go", counted)
    made = simulate(state(), t_end, keep="bound", record="ends", **given)
    assert (passes.errors_of(made) <= given["tolerance"]).all()
    assert np.array_equal(made.tolerance, np.full(len(made.n_records), given["tolerance"]))
    assert (np.array(made.about["inner_tolerance"]) < made.tolerance).all()
    of_runs = sum(run.outcome.n_force_evaluations.sum() for run in runs)
    assert made.n_force_evaluations.sum() == of_runs
    assert 1 <= len(runs) <= passes.MOST
    if kind == "gbs":
        assert len(runs) > 1


def test_records_are_those_of_the_run_that_was_taken():
    made = simulate(some(), 8.0, keep="bound", **GBS)
    inner = np.array(made.about["inner_tolerance"])
    assert len(set(inner)) > 2
    for b in np.argsort(inner)[:3]:
        given = {**GBS, "tolerance": inner[b], "keep": "aim"}
        own, ours = simulate(some().select([b]), 8.0, **given).system(0), made.system(b)
        assert own.n_records == ours.n_records
        for name in ("time", "position", "energy_error", "body_error", "dt"):
            np.testing.assert_array_equal(getattr(own, name), getattr(ours, name))
        assert own.n_steps == ours.n_steps
        assert ours.about["inner_tolerance"] == [inner[b]]
        assert ours.n_force_evaluations >= own.n_force_evaluations
    width = int(made.n_records.max())
    beyond = np.arange(width) >= made.n_records[:, None]
    assert np.isnan(made.time[beyond]).all()
    assert not np.isnan(made.time[~beyond]).any()


def test_a_single_system_and_tensors_come_back_as_they_were_given():
    single = simulate(some().select([0]).replace(batched=False), 8.0, keep="bound", **GBS)
    assert isinstance(single.n_steps, int)
    assert single.position.ndim == 3
    tensors = simulate(some(3).to("cpu"), 2.0, keep="bound", **GBS)
    assert tensors.final.position.dim() == 3


def test_what_can_not_be_had_is_told():
    state = scenarios.make("few_body", n_bodies=3, n_systems=8, seed=4)
    with pytest.warns(RuntimeWarning, match="that is the least of all runs that were made"):
        made = simulate(state, 30.0, integrator="gbs", tolerance=2e-13, keep="bound", record="ends")
    assert (passes.errors_of(made) > 2e-13).any()


@pytest.fixture
def many_turns(monkeypatch):
    """Ask whether to stop every few steps."""
    monkeypatch.setattr("nbcore.simulation.compiled_engine.FIRST_PAIRS", 1)
    monkeypatch.setattr("nbcore.simulation.compiled_engine.MOST_QUOTA", 3)


def after(n):
    """Stop at the n-th time of asking."""
    calls = itertools.count(1)
    return lambda: next(calls) >= n


@pytest.mark.filterwarnings("ignore:.*(did not reach|the least of all runs)")
def test_who_stops_it_gets_what_was_done(many_turns):
    made = simulate(some(), 8.0, keep="bound", stop=after(2), **GBS)
    assert Status.INTERRUPTED in made.status
    assert (made.n_steps > 0).all()


@pytest.mark.filterwarnings("ignore:.*(did not reach|the least of all runs)")
@pytest.mark.parametrize("stored", [False, True])
def test_who_stops_a_later_pass_keeps_what_the_first_one_made(stored, monkeypatch, tmp_path):
    runs, go = [], passes.Asked.go

    def stopped(asked, *of_run):
        if len(runs) == 1:
            asked = passes.replace(asked, stop=lambda: True)
        runs.append(go(asked, *of_run))
        return runs[-1]

    monkeypatch.setattr("nbcore.simulation.compiled_engine.FIRST_PAIRS", 1)
    monkeypatch.setattr("nbcore.simulation.compiled_engine.MOST_QUOTA", 3)
    monkeypatch.setattr(passes.Asked, "go", stopped)
    path = tmp_path / "run.zarr" if stored else None
    made = simulate(some(), 8.0, keep="bound", path=path, **GBS)
    assert len(runs) == 2 + stored
    if not stored:
        # A run that broke off errs by less, and is not taken for it.
        assert (made.status == Status.SUCCESS).all()
        assert (passes.errors_of(made) > 1e-6).any()
        return
    assert (made.status == Status.INTERRUPTED).all()
    monkeypatch.setattr(passes.Asked, "go", go)
    with pytest.warns(RuntimeWarning, match="the least of all runs"):
        gone_on = simulate(resume=path)
    assert (gone_on.status == Status.SUCCESS).all()
    assert (gone_on.n_force_evaluations > runs[0].outcome.n_force_evaluations).all()


@pytest.mark.filterwarnings("ignore:.*times the tolerance")
def test_a_run_that_breaks_off_is_not_taken_for_a_better_one():
    """As it does where smaller steps are more than may be made."""
    first = simulate(some(), 8.0, **GBS | {"tolerance": 4e-7, "keep": "aim", "record": "ends"})
    missed = int(np.argmax(passes.errors_of(first)))
    one, most = some().select([missed]), int(first.n_steps[missed])
    with pytest.warns(RuntimeWarning, match="the least of all runs that were made"):
        made = simulate(one, 8.0, keep="bound", max_steps=most + 1, record="ends", **GBS)
    assert made.status.tolist() == [Status.SUCCESS]
    assert made.n_force_evaluations > 2 * first.n_force_evaluations[missed]


@pytest.mark.filterwarnings("ignore:.*did not reach")
def test_stored_it_is_the_same_and_goes_on(many_turns, tmp_path, monkeypatch):
    path, given = tmp_path / "run.zarr", {**GBS, "keep": "bound", "record": 1}
    whole = simulate(some(), 8.0, path=path, **given)
    assert (passes.errors_of(whole) <= 1e-6).all()
    found = simulate(some(), 8.0, **given)
    assert whole.about["inner_tolerance"] == found.about["inner_tolerance"]
    assert (whole.n_force_evaluations > found.n_force_evaluations).all()
    stored = Trajectory.load(path)
    assert stored.about["keep"] == "bound"
    assert np.array_equal(stored.n_force_evaluations, whole.n_force_evaluations)
    assert simulate(some(), 8.0, resume=path, **given).n_steps.tolist() == whole.n_steps.tolist()
    with pytest.raises(InputError, match="tolerance = 1e-06, not 1e-07"):
        simulate(resume=path, tolerance=1e-7)
    with pytest.raises(InputError, match="keep = bound, not aim"):
        simulate(resume=path, keep="aim")
    with pytest.raises(InputError, match="was begun with t_end"):
        simulate(resume=path, t_end=9.0)
    # Killed while it records.
    cut = tmp_path / "cut.zarr"
    go = passes.Asked.go

    def killed(asked, *of_run):
        if len(of_run) == 3:  # without a path
            return go(asked, *of_run)
        return go(passes.replace(asked, stop=after(2)), *of_run)

    monkeypatch.setattr(passes.Asked, "go", killed)
    assert Status.INTERRUPTED in simulate(some(), 8.0, path=cut, **given).status
    monkeypatch.setattr(passes.Asked, "go", go)
    gone_on = simulate(resume=cut)
    assert np.array_equal(gone_on.final.position, whole.final.position)
    assert np.array_equal(gone_on.n_force_evaluations, whole.n_force_evaluations)
    assert np.array_equal(gone_on.tolerance, whole.tolerance)


@pytest.mark.parametrize("policy", [Criterion("boekholt", 0.05), FixedStep(0.01)])
@pytest.mark.parametrize("integrator", ["suzuki4", "wisdom_holman"])
def test_steps_that_heed_no_tolerance_can_not_be_bound(policy, integrator):
    for refuses in (simulate, check):
        with pytest.raises(InputError, match=r"heeds no tolerance|takes no policy|FixedStep"):
            refuses(planets(), 1.0, policy, integrator=integrator, keep="bound")
