"""Which compiled loop a run takes, and those that are compiled beside and ahead."""

import io
import pickle
import subprocess
import sys
from types import SimpleNamespace

import numba
import numpy as np
import pytest
from typer.testing import CliRunner

import nbcore as nb
from nbcore.errors import InputError
from nbcore.runs import cli, warming
from nbcore.simulation import compile_beside, compiled_engine, loops_at_hand
from nbcore.simulation.kernels import loop
from nbcore.simulation.resumption import Begun
from nbcore.simulation.status import Status

STEP = nb.FixedStep(0.01)


def planar():
    """Three bodies in a plane, one of them without mass amidst the others."""
    position = np.array([[1.0, 0.0], [0.2, 2.0], [-1.0, 0.1]])
    velocity = np.array([[0.0, 0.5], [0.7, 0.0], [0.1, -0.5]])
    return nb.State.from_arrays(np.array([1.0, 0.0, 0.8]), position, velocity)


def run(engine, **options):
    options = {"integrator": "leapfrog", "engine": engine, **options}
    return nb.simulate(planar(), 2.0, STEP, **options)


def engine_of(trajectory):
    return trajectory.about["engine"]


@pytest.fixture
def there(monkeypatch):
    """Kinds of loops that are said to be compiled, and those that were asked for beside."""
    held, asked = set(), []

    def kind(types):
        return loops_at_hand.described(types).partition(",")[0]

    monkeypatch.setattr(loops_at_hand, "CHOSEN", {})
    monkeypatch.setattr(compiled_engine.CACHE, "holds", lambda _, types: kind(types) in held)
    monkeypatch.setattr(
        compile_beside, "compile_beside", lambda types, folder: asked.append(kind(types))
    )
    return SimpleNamespace(held=held, asked=asked)


@pytest.mark.parametrize(
    "method",
    [
        {"integrator": "gbs"},
        {"integrator": "gbs", "record": None, "collision_distance": 0.1},
        {"integrator": "kahan_li8", "clock": "regularised", "policy": STEP},
        {"integrator": "kahan_li8", "clock": "regularised", "engine": "any_number"},
        {"integrator": "hermite4", "policy": nb.Criterion("aarseth85", 0.02)},
        {"policy": "default"},
        {"policy": "default", "engine": "any_number"},
        {"policy": "untrained", "integrator": "suzuki4", "stepping": "plain"},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:the untrained")
def test_one_loop_serves_a_system_and_batches(method, monkeypatch):
    taken = set()

    def end(*arguments):
        taken.add(tuple(map(numba.typeof, arguments)))
        arguments[2].status[:] = Status.SUCCESS

    monkeypatch.setattr(loop, "run", end)
    state, scalar = (
        planar(),
        nb.State.from_arrays([1, 0, 2], [[1, 0], [0, 2], [-1, 0]], [[0, 1]] * 3),
    )
    for each in (state, scalar, nb.State.concatenate([state, state, state])):
        nb.simulate(each, 1.0, **{"record": "ends", **method})
    assert len(taken) == 1


def test_the_loop_for_any_number_finds_what_their_own_does():
    own, any_number = run("compiled"), run("any_number")
    assert (engine_of(own), engine_of(any_number)) == ("compiled", "any_number")
    for name in ("position", "velocity", "energy_error", "angular_momentum_error", "body_error"):
        ours, theirs = getattr(own, name), getattr(any_number, name)
        np.testing.assert_allclose(theirs, ours, rtol=1e-9, atol=1e-12, err_msg=name)


def test_types_are_those_that_the_loop_is_compiled_for(monkeypatch):
    found = []

    integrate = compiled_engine.integrate

    def noted(task, observer, keeper=None):
        found.append(compiled_engine.types_of(task, observer))
        return integrate(task, observer, keeper)

    run("compiled")
    monkeypatch.setattr(compiled_engine, "integrate", noted)
    run("ready")
    assert found[0] in loop.run.overloads
    assert compiled_engine.CACHE.holds(loop.run, found[0])
    assert found[0] in compiled_engine.CACHE.signatures(loop.run)
    assert loops_at_hand.described(found[0]) == "3 bodies, planar: splitting, fixed"
    assert "3 bodies, planar: splitting, fixed" in loops_at_hand.kept_loops()


def test_a_run_takes_its_own_loop_if_that_is_there(there):
    there.held |= {"3 bodies", "any number of bodies"}
    assert engine_of(run("ready")) == "compiled"
    assert there.asked == []


def test_one_that_is_not_to_wait_takes_that_for_any_number_and_its_own_is_made(there, capsys):
    there.held.add("any number of bodies")
    first = run("ready")
    assert engine_of(first) == "any_number"
    assert there.asked == ["3 bodies"]
    assert "in the loop for any number" in capsys.readouterr().err
    there.held.add("3 bodies")
    again = run("ready")  # a process stays with what it took
    np.testing.assert_array_equal(again.position, first.position)
    assert there.asked == ["3 bodies"]
    assert capsys.readouterr().err == ""


def test_where_there_is_none_a_run_waits_for_its_own_and_that_for_any_number_is_made(there):
    assert engine_of(run("ready")) == "compiled"
    assert there.asked == ["any number of bodies"]


def test_nothing_is_made_where_nothing_is_kept(there, monkeypatch):
    monkeypatch.setattr(compiled_engine.CACHE, "keeps", lambda _: False)
    assert engine_of(run("ready")) == "compiled"
    assert there.asked == []


@pytest.mark.parametrize("engine", ["auto", "compiled"])
def test_unless_it_is_asked_for_a_run_waits_for_its_own(there, engine):
    there.held.add("any number of bodies")
    assert engine_of(run(engine)) == "compiled"
    assert there.asked == []


def test_what_only_torch_can_do_it_does(there):
    assert (
        engine_of(nb.simulate(planar(), 0.1, lambda state, tolerance: 0.05, engine="ready"))
        == "torch"
    )


def test_a_stored_run_goes_on_in_the_loop_that_it_began_in(there, tmp_path):
    there.held.add("any number of bodies")
    whole, path = run("ready"), tmp_path / "run.zarr"
    run("ready", path=path, stop=lambda: True)
    there.held.add("3 bodies")
    loops_at_hand.CHOSEN.clear()  # as in another process
    assert Begun(path).asked["engine"] == "any_number"
    with pytest.raises(InputError, match="begun with engine = any_number"):
        run("compiled", resume=path)
    resumed = run("ready", resume=path)
    np.testing.assert_array_equal(resumed.position, whole.position)
    assert engine_of(resumed) == "any_number"


def test_a_process_beside_compiles_what_it_is_asked_for_in_its_turn(tmp_path, monkeypatch):
    function, nice = numba.njit(lambda x: 2 * x), []
    types = (numba.float64,)
    monkeypatch.setattr(loop, "run", function)
    monkeypatch.setattr(compiled_engine.CACHE, "holds", lambda f, types: types in f.overloads)
    monkeypatch.setattr(compile_beside.os, "nice", nice.append)
    for _ in range(2):
        asked = SimpleNamespace(buffer=io.BytesIO(pickle.dumps(types)))
        monkeypatch.setattr(compile_beside.sys, "stdin", asked)
        compile_beside._compile(str(tmp_path))
    assert list(function.overloads) == [types]
    assert nice == [compile_beside.LEAST] * 2


ONE = """
import sys, nbcore as nb
from nbcore.simulation import compile_beside
state = nb.scenarios.make("plummer", n_bodies=int(sys.argv[1]))
run = nb.simulate(state, 0.1, nb.FixedStep(0.01), integrator="leapfrog", engine="ready")
print(run.about["engine"])
[each.wait() for each in compile_beside.STARTED if sys.argv[2:]]
"""


@pytest.mark.long
def test_on_a_new_machine_the_second_number_of_bodies_need_not_wait(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def said(*arguments):
        command = [sys.executable, "-c", ONE, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True)

    first, second = said("2", "wait"), said("3", "wait")
    assert (first.stdout, second.stdout) == ("compiled\n", "any_number\n")
    assert "compiling" in first.stderr
    assert "compiling" not in second.stderr
    third = said("3")
    assert (third.stdout, third.stderr) == ("compiled\n", "")


@pytest.fixture
def begun(monkeypatch):
    """Processes that stand for those that compile: seven bodies fail, eight take for ever."""
    code = {7: "import sys; sys.exit('no room')", 8: "import time; time.sleep(600)"}
    processes = []

    def begin(kind):
        command = [sys.executable, "-c", code.get(kind[1], "")]
        processes.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
        return processes[-1]

    monkeypatch.setattr(warming, "_begun", begin)
    return processes


def test_warming_tells_of_each_kind_and_of_what_went_wrong(begun):
    lines = []
    assert not warming.warm(lines.append, (("any_number", 2, 3), ("compiled", 7, 2)))
    told = sorted(line.rpartition(",")[0] for line in lines)
    assert told == ["7 bodies, planar: no room", "any number of bodies: ready"]
    assert warming.warm(lines.append, (("compiled", 2, 3),))


def test_warming_that_is_stopped_leaves_no_process(begun, monkeypatch):
    monkeypatch.setattr(warming, "cores", lambda: 2)

    def stop(line):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        warming.warm(stop, (("compiled", 8, 3), ("compiled", 2, 3), ("compiled", 3, 3)))
    assert len(begun) == 2
    assert all(each.returncode is not None for each in begun)


def test_the_command_warms_and_can_be_stopped(monkeypatch):
    def stopped(say):
        say("2 bodies, planar: ready, 1 s")
        raise KeyboardInterrupt

    for warm, code in ((lambda say: True, 0), (lambda say: False, 1), (stopped, 130)):
        monkeypatch.setattr(warming, "warm", warm)
        assert CliRunner().invoke(cli.app, ["cache", "--warm"]).exit_code == code
    assert CliRunner().invoke(cli.app, ["cache", "--warm", "--clear"]).exit_code == 2


def test_the_usual_kinds_are_compiled_by_runs_of_one_step(monkeypatch):
    made = []

    def simulate(state, *_, **options):
        made.append((state.n_bodies, state.n_dimensions, options["integrator"], options["engine"]))

    monkeypatch.setattr(nb, "simulate", simulate)
    warming.compile_kind("compiled", 4, 2)
    suite = nb.load_policy("default")
    assert made == [(4, 2, each.spec.integrator, "compiled") for each in suite.members]
