"""A stored run that goes on is, bit for bit, the run that never stopped."""

import itertools
import os
import shutil
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
import xarray
import zarr

from nbcore.errors import InputError
from nbcore.physics import scenarios
from nbcore.physics.fields import TidalField
from nbcore.simulation import compiled_engine, resumption, storage
from nbcore.simulation.simulate import simulate
from nbcore.simulation.status import Status
from nbcore.simulation.storage import RECORDED, SUMMARY
from nbcore.simulation.trajectory import Trajectory
from nbcore.stepping.checkpoints import load_policy, load_tree, save_tree
from nbcore.stepping.criteria import CRITERIA
from nbcore.stepping.policies import Criterion, FixedStep, trainable, untrained

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

RULE = Criterion("boekholt", 0.05)
T_END = np.array([0.2, 0.35, 0.5])
TIMES = {"compiled": 1.0, "torch": 0.4}  # which is a thousand times slower
STRICT = {"guard": True, "tolerance": 1e-8}


@pytest.fixture(autouse=True)
def many_turns(monkeypatch):
    """Small chunks, and an engine that looks around every few steps."""
    monkeypatch.setattr(storage, "CHUNK_BYTES", 1)
    monkeypatch.setattr(compiled_engine, "FIRST_PAIRS", 3 * 9 * 6)
    monkeypatch.setattr(compiled_engine, "TURN", 0.0)


def three():
    return scenarios.make("few_body", n_systems=3, seed=1)


def one_with_memory():
    torch.manual_seed(1)
    spec = untrained("suzuki4", features=("scale_free", "delta_mag"), history=3).spec
    policy = trainable(spec)
    torch.nn.init.normal_(policy.network.layers[-1].weight, std=0.3)
    return policy


POLICIES = {
    "classical": lambda: RULE,
    "learned": lambda: load_policy("default").of("blanes_moan4"),
    "history": one_with_memory,
    "fixed": lambda: FixedStep([0.005, 0.01, 0.015]),
}
OPTIONS = {
    "every step": {},
    "every third, watched": {"record": 3, **STRICT},
    "times": {"record": np.linspace(0.0, 0.2, 40)},
    "ends": {"record": "ends", "collision_distance": 0.02},
    "reversible": {"record": 2, "stepping": "reversible"},
}


def after(n):
    """Stop at the n-th time of asking."""
    calls = itertools.count(1)
    return lambda: next(calls) >= n


def assert_same(one, other):
    for name in RECORDED:
        assert np.array_equal(getattr(one, name), getattr(other, name), equal_nan=True), name
    for name in SUMMARY:
        assert np.array_equal(one.summary[name], other.summary[name], equal_nan=True), name
    for name in ("mass", "position", "velocity", "time", "work"):
        assert np.array_equal(getattr(one.final, name), getattr(other.final, name)), name
    for name in ("integrator", "policy", "stepping"):
        assert getattr(one, name) == getattr(other, name), name
    assert np.array_equal(one.tolerance, other.tolerance)


def stopped_thrice(state, t_end, policy, path, **options):
    """Interrupted three times, and then brought to its end."""
    simulate(state, t_end, policy, path=path, stop=after(3), **options)
    assert Status.INTERRUPTED in Trajectory.load(path).summary["status"]
    simulate(resume=path, stop=after(4))
    # All that was asked for may be said once more, as a script does that is run again.
    simulate(state, t_end, policy, resume=path, stop=after(5), **options)
    assert Status.INTERRUPTED in Trajectory.load(path).summary["status"]
    return simulate(resume=path)


@pytest.mark.parametrize("engine", ["compiled", "torch"])
@pytest.mark.parametrize(
    ("policy", "options"),
    [
        ("classical", "every step"),
        ("classical", "ends"),
        ("classical", "reversible"),
        ("fixed", "times"),
        ("learned", "every third, watched"),
        ("learned", "times"),
        ("learned", "reversible"),
        ("history", "every step"),
        ("history", "every third, watched"),
    ],
)
def test_three_interruptions_leave_no_trace(engine, policy, options, tmp_path):
    path, chosen = tmp_path / "run.zarr", POLICIES[policy]()
    given = {"engine": engine, **OPTIONS[options]}
    whole = simulate(three(), T_END, chosen, **given)
    assert_same(stopped_thrice(three(), T_END, chosen, path, **given), whole)
    assert_same(Trajectory.load(path), whole)


@pytest.mark.parametrize("engine", ["compiled", "torch"])
@pytest.mark.parametrize("options", OPTIONS)
def test_a_finished_run_goes_on_to_a_later_end(engine, options, tmp_path):
    path, given = tmp_path / "run.zarr", {"engine": engine, **OPTIONS[options]}
    t_end = TIMES[engine] * T_END
    if options == "times":
        given["record"] = TIMES[engine] * given["record"]
    simulate(three(), t_end, RULE, path=path, **given)
    for longer in (1.5, 2.0):
        whole = simulate(three(), longer * t_end, RULE, **given)
        assert_same(simulate(resume=path, t_end=longer * t_end), whole)
    assert_same(Trajectory.load(path), whole)


@pytest.mark.parametrize("engine", ["compiled", "torch"])
def test_an_end_that_is_moved_is_interrupted_and_moved_once_more(engine, tmp_path):
    """While systems that had ended early catch up with those that had not."""
    path, ends = tmp_path / "run.zarr", [0.05, 0.7, 1.0]
    simulate(three(), ends, RULE, path=path, engine=engine)
    simulate(resume=path, t_end=1.5, stop=after(3))
    simulate(resume=path, stop=after(3))
    assert_same(simulate(resume=path), simulate(three(), 1.5, RULE, engine=engine))
    shutil.rmtree(path)
    simulate(three(), ends, RULE, path=path, engine=engine, max_steps=20)
    assert_same(
        simulate(resume=path, t_end=1.5, max_steps=90),
        simulate(three(), 1.5, RULE, engine=engine, max_steps=90),
    )


@pytest.mark.parametrize("engine", ["compiled", "torch"])
@pytest.mark.parametrize(
    ("integrator", "field"),
    [("hermite4", None), ("leapfrog", TidalField(5.0, (4.0, 3.0), (-1.0, 0.4)))],
)
def test_jerks_and_the_work_of_fields_go_on(engine, integrator, field, tmp_path):
    state = scenarios.make("kepler", eccentricity=0.5, field=field)
    given = {"engine": engine, "integrator": integrator}
    whole = simulate(state, 20.0, RULE, **given)
    assert_same(stopped_thrice(state, 20.0, RULE, tmp_path / "run.zarr", **given), whole)


# Kills


def copies(path, monkeypatch, run):
    """What kills would leave of a run, at moments at which a file is about to take its place."""
    put, made, moments, lock = os.replace, [], itertools.count(), threading.Lock()
    others = shutil.ignore_patterns("*.partial", "*.part*")  # that are being written beside it

    def copied_before(source, target):
        with lock:
            if resumption.is_begun(path) and next(moments) % 5 == 0:
                copy = path.with_name(f"copy-{len(made)}")
                made.append(shutil.copytree(path, copy, ignore=others))
            put(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(resumption, "SECONDS", 0.0)
        patch.setattr(resumption, "LARGEST_SHARE", 1e9)
        patch.setattr(os, "replace", copied_before)
        run()
    return made


@pytest.mark.parametrize("engine", ["compiled", "torch"])
@pytest.mark.parametrize("record", [None, 3])
def test_a_kill_at_any_moment_leaves_a_run_that_goes_on(engine, record, monkeypatch, tmp_path):
    path, given = tmp_path / "run.zarr", {"engine": engine, "record": record, **STRICT}
    t_end = TIMES[engine] * T_END

    def twice():
        simulate(three(), t_end, RULE, path=path, stop=after(10), **given)
        simulate(resume=path, stop=after(10))

    left = copies(path, monkeypatch, twice)
    assert len(left) > 12
    whole = simulate(three(), t_end, RULE, **given)
    for copy in left[:: len(left) // 6]:
        readable = records_of(copy)
        assert np.array_equal(readable, whole.time[:, : readable.shape[1]][: len(readable)])
        assert_same(simulate(resume=copy), whole)


def records_of(path):
    """Times that can be read now, of every system."""
    try:
        run = Trajectory.load(path)
    except InputError:
        return np.empty((0, 0))
    return run.time[:, : run.n_records.min() - 1]


KILLED = """
import os, signal, sys
from nbcore.physics import scenarios
from nbcore.simulation import compiled_engine, resumption, storage
from nbcore.simulation.simulate import simulate
from nbcore.stepping.policies import Criterion

storage.CHUNK_BYTES, compiled_engine.FIRST_PAIRS = 1, 100
resumption.SECONDS, resumption.LARGEST_SHARE = 0.0, 1e9
compiled_engine.TURN, calls = 0.0, iter(range(10**6))

def kill():
    if next(calls) == int(sys.argv[2]):
        os.kill(os.getpid(), int(sys.argv[3]))

state = scenarios.make("few_body", n_systems=3, seed=1)
simulate(state, 1.0, Criterion("boekholt", 0.05), resume=sys.argv[1], stop=kill)
"""


@pytest.mark.long
def test_a_script_that_is_killed_and_run_again_goes_on(tmp_path):
    path = tmp_path / "run.zarr"
    steps = []
    for call in (8, 9, 10):
        command = [sys.executable, "-c", KILLED, path, str(call), str(int(signal.SIGKILL))]
        assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
        standing = load_tree(path / "resume/standing.safetensors", "standing of a run")
        steps.append(int(standing["now"]["n_steps"].min()))
    assert 0 < steps[0] < steps[1] < steps[2]
    assert_same(simulate(resume=path), simulate(three(), 1.0, RULE))


# What is asked for


def test_a_run_begins_where_nothing_is_stored_and_is_read_where_it_has_ended(tmp_path):
    path = tmp_path / "deep/run.zarr"
    first = simulate(three(), T_END, RULE, resume=path)
    before = sorted((p, p.stat().st_mtime_ns) for p in path.rglob("*"))
    assert_same(simulate(three(), T_END, RULE, resume=path), first)
    assert_same(simulate(resume=path), first)
    assert sorted((p, p.stat().st_mtime_ns) for p in path.rglob("*")) == before
    with pytest.raises(InputError, match=r"no trajectory at .*nowhere"):
        simulate(resume=tmp_path / "nowhere")
    with pytest.raises(InputError, match="give a state and t_end"):
        simulate()
    with pytest.raises(InputError, match="leave path out"):
        simulate(resume=path, path=path)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"tolerance": 1e-8}, r"tolerance = 1e-06, not 1e-08"),
        ({"policy": Criterion("boekholt", 0.1)}, r"eta = 0.05.*eta = 0.1"),
        ({"policy": FixedStep(0.1)}, r"boekholt.*fixed step"),
        ({"policy": untrained("suzuki4")}, r"boekholt.*untrained"),
        ({"integrator": "leapfrog"}, "suzuki4, not leapfrog"),
        ({"stepping": "reversible"}, "plain, not reversible"),
        ({"guard": True}, "guard = False, not True"),
        ({"record": 5}, "every 1 steps, not every 5 steps"),
        ({"record": [0.1, 0.2]}, "every 1 steps, not 2 times"),
        ({"engine": "torch"}, "compiled, not torch"),
        ({"escape_distance": 3.0}, "None, not 3.0"),
        ({"state": scenarios.make("few_body", n_systems=3, seed=2)}, r"position|mass"),
        ({"state": scenarios.make("few_body", n_systems=3, seed=1, G=2.0)}, "G = 1.0, not 2.0"),
        ({"t_end": 0.01}, r"at time .* already"),
        ({"max_steps": 2}, "has made .* already"),
    ],
)
def test_what_contradicts_the_stored_run_is_refused_with_both_values(given, words, tmp_path):
    path = tmp_path / "run.zarr"
    simulate(three(), T_END, RULE, path=path, stop=after(3))
    before = sorted((p, p.stat().st_mtime_ns) for p in path.rglob("*"))
    with pytest.raises(InputError, match=words) as error:
        simulate(resume=path, **given)
    assert "\n" not in str(error.value)
    assert sorted((p, p.stat().st_mtime_ns) for p in path.rglob("*")) == before


def test_a_rule_of_ones_own_is_given_again(tmp_path):
    def interrupted_at(call):
        calls = itertools.count(1)

        def rule(state, tolerance):
            if next(calls) == call:
                raise KeyboardInterrupt
            return 0.02 + 0.01 * state.position[:, 0, 0].sin()

        return rule

    path = tmp_path / "run.zarr"
    simulate(three(), T_END, interrupted_at(9), path=path)
    with pytest.raises(InputError, match=r"'rule' .* can't be stored; give it again, by policy="):
        simulate(resume=path)
    simulate(resume=path, policy=interrupted_at(7))
    whole = simulate(three(), T_END, interrupted_at(-1))
    assert_same(simulate(resume=path, policy=interrupted_at(-1)), whole)


def test_a_run_that_failed_goes_on_where_it_did(tmp_path):
    def fails_at(call):
        calls = itertools.count(1)

        def rule(state, tolerance):
            if next(calls) == call:
                raise ZeroDivisionError
            return 0.02

        return rule

    path = tmp_path / "run.zarr"
    with pytest.raises(ZeroDivisionError):
        simulate(three(), T_END, fails_at(9), path=path)
    standing = load_tree(path / "resume/standing.safetensors", "standing of a run")
    assert standing["now"]["n_steps"].tolist() == [7] * 3  # the eighth is made once more
    whole = simulate(three(), T_END, fails_at(-1))
    assert_same(simulate(resume=path, policy=fails_at(-1)), whole)


def test_what_can_not_be_gone_on_with_says_so_in_a_line(tmp_path):
    path = tmp_path / "run.zarr"
    run = simulate(three(), T_END, RULE, path=path, stop=after(3))
    start, standing = (path / "resume" / f"{name}.safetensors" for name in ("start", "standing"))
    saved = run.save(tmp_path / "saved.zarr")
    with pytest.raises(InputError, match="does not say where its engine stood"):
        simulate(resume=saved)
    tree = load_tree(start, "start of a run")
    save_tree({**tree, "version": 99}, start, "start of a run")
    with pytest.raises(InputError, match="version 99"):
        simulate(resume=path)
    save_tree({**tree, "code": "other"}, start, "start of a run")
    with pytest.warns(RuntimeWarning, match="begun by other code"):
        simulate(resume=path, stop=after(1))
    stood = load_tree(standing, "standing of a run")
    del stood["now"]["dt"]
    save_tree(stood, standing, "standing of a run")
    with pytest.raises(InputError, match="another version of the engine"):
        simulate(resume=path)
    standing.write_bytes(standing.read_bytes()[:100])
    with pytest.raises(InputError, match="truncated"):
        simulate(resume=path)
    assert len(Trajectory.load(path).time)


def test_what_a_run_goes_on_by_is_not_in_the_way_of_other_readers(tmp_path):
    path = tmp_path / "run.zarr"
    run = simulate(three(), T_END, load_policy("default").of("suzuki4"), path=path)
    data = xarray.open_zarr(path, consolidated=False)
    assert np.array_equal(data.time.values, run.time, equal_nan=True)
    assert "time" in dict(zarr.open_group(path, mode="r").arrays())


def test_saving_leaves_what_is_beside_it_alone(tmp_path):
    other = tmp_path / "run.zarr.part"
    other.mkdir()
    (other / "precious").write_text("")
    simulate(three(), 0.1, RULE).save(tmp_path / "run.zarr")
    assert (other / "precious").exists()


class Half(Criterion):
    """Half the step of a criterion."""

    def __call__(self, *arguments):
        return super().__call__(*arguments) / 2


def boekholt(state):
    """Time scale of one's own that is called like one in the table."""
    return 0.2 + 0 * state.time


def begun(path, policy):
    with pytest.warns(RuntimeWarning, match="did not reach"):
        simulate("pythagorean", 1.0, policy, engine="torch", path=path, max_steps=3)
    return path


@pytest.mark.parametrize(
    ("policy", "other", "words"),
    [
        (Half("boekholt", 0.1), Criterion("boekholt", 0.1), "Half boekholt .*, not boekholt"),
        (Criterion(boekholt, 0.1), Criterion("boekholt", 0.1), "own boekholt .*, not boekholt"),
        (Criterion(boekholt, 0.1), Criterion(boekholt, 0.2), "eta = 0.1.*eta = 0.2"),
        (Criterion(CRITERIA["boekholt"], 0.1), Criterion("boekholt", 0.2), "eta = 0.1.*eta = 0.2"),
    ],
)
def test_a_criterion_of_one_s_own_is_not_taken_for_another(policy, other, words, tmp_path):
    path = begun(tmp_path / "run.zarr", policy)
    with pytest.raises(InputError, match=words):
        simulate(resume=path, policy=other, max_steps=5)
    with pytest.warns(RuntimeWarning, match="did not reach"):
        on = simulate(resume=path, policy=policy, max_steps=5)
    whole = simulate("pythagorean", 1.0, policy, engine="torch")
    np.testing.assert_array_equal(on.dt, whole.dt[:6])


def test_a_row_of_the_table_is_as_good_as_its_name(tmp_path):
    path = begun(tmp_path / "run.zarr", Criterion(CRITERIA["boekholt"], 0.1))
    assert simulate(resume=path, max_steps=10_000).status == Status.SUCCESS
