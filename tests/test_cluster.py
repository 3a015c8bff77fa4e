"""Arrays of runs: on a real SLURM where there is one (.ci/run installs it), else in processes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import slurm_node
from submitit.local.local import LOCAL_REQUEUE_RETURN_CODE
from typer.testing import CliRunner

from nbcore.config import Cluster, load_config
from nbcore.errors import InputError
from nbcore.learning.training import train
from nbcore.physics.arrays import to_numpy
from nbcore.runs import arrays, cli, cluster, local_jobs, provenance, records, reports
from nbcore.runs import members as members_module
from nbcore.runs.records import Run
from nbcore.simulation.setup import setup
from nbcore.simulation.storage import RECORDED, SUMMARY
from nbcore.simulation.trajectory import Trajectory
from nbcore.stepping.checkpoints import load_policy
from nbcore.tables import read_table

TINY = [
    *("train.epochs=2", "train.pool_size=64", "train.batch_size=16", "train.batches=2"),
    *("train.scenario.parameters.n_systems=4", "compare.criteria=['boekholt']"),
]


@pytest.fixture(autouse=True)
def outputs(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "OUTPUTS", tmp_path / "outputs")
    return tmp_path / "outputs"


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory):
    """Name of the executor that jobs are sent to."""
    if not slurm_node.is_installed():
        yield "local"
        return
    base = tmp_path_factory.mktemp("slurm")
    conf = slurm_node.start(base)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(conf))
        yield "slurm"
        slurm_node.stop(base)


def nbcore(*arguments):
    return CliRunner().invoke(cli.app, list(arguments))


def until(condition, seconds=1500):
    """Wait for something; if it does not come to pass, say what the jobs printed."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.1)
    queue = (
        subprocess.run(["squeue"], capture_output=True, text=True).stdout
        if shutil.which("squeue")
        else ""
    )
    logs = sorted(records.OUTPUTS.glob("*/jobs/*_log.*"))
    printed = "\n".join(f"{path.name}: {path.read_text()[-2000:]}" for path in logs)
    raise AssertionError(f"it did not come to pass\n{queue}\n{printed}")


def made_array(members, root, **index):
    """An array whose jobs are never sent."""
    run = Run.create("made", root=root)
    run.save_config(load_config())
    table = {
        "command": "train",
        "notebook": "10_train",
        "members": members,
        "executor": "local",
        "n_jobs": len(members),
        "cluster": Cluster().model_dump(),
        "jobs": [],
    }
    records.write_json(run.path / "array.json", table | index)
    return arrays.Array(run)


@pytest.mark.parametrize(
    ("over", "members"),
    [
        ([], [{}]),
        (["train.seed=0:3"], [{"train.seed": 0}, {"train.seed": 1}, {"train.seed": 2}]),
        (["a=1e-3,1e-4"], [{"a": 1e-3}, {"a": 1e-4}]),
        (["a=[[8], [16]]"], [{"a": [8]}, {"a": [16]}]),
        (["a=x,y", "b=0:4:2"], [{"a": i, "b": j} for i in "xy" for j in (0, 2)]),
        (["a=none,2"], [{"a": None}, {"a": 2}]),
    ],
)
def test_values_after_over_make_a_grid(over, members):
    assert members_module.grid(over) == members


@pytest.mark.parametrize(
    ("over", "words"),
    [
        ("train.seed", "must read key=values"),
        ("train.seed=", "must read key=values"),
        ("train.seed=0:x", "start:stop"),
        ("train.seed=3:3", "no number in it"),
        ("train.seed=[1, 2", "no TOML array"),
    ],
)
def test_values_that_make_none_are_named(over, words):
    with pytest.raises(InputError, match=words):
        members_module.grid([over])


def test_a_key_is_given_once():
    with pytest.raises(InputError, match="twice"):
        members_module.grid(["a=1", "a=2"])


def test_the_rows_of_a_table_are_members_too(tmp_path):
    path = tmp_path / "members.csv"
    path.write_text("train.seed,train.learning_rate\n1,0.1\n2,0.2\n")
    made = members_module.members_of(["train.epochs=1,2"], path)
    assert len(made) == 4
    assert made[1] == {"train.seed": 1, "train.learning_rate": 0.1, "train.epochs": 2}
    with pytest.raises(InputError, match="can't be read"):
        members_module.members_of([], tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("train", "--over", "train.sed=0:2"), "did you mean 'train.seed'"),
        (("train", "--over", "train.epochs=0,1"), "member 0"),
        (("trian",), "did you mean 'train'"),
        ((), "submit what?"),
        (("train", "--cluster", "slrm"), "'slurm'"),
        (("train", "--config", "nope"), "preset 'nope' is unknown"),
        (("train", "--run", "a/b"), "must be one plain folder"),
        (("train", "--over", "train.integrator=leapfrog,leepfrog"), "member 1"),
        (("simulate", "--over", "simulate.scenario.parameters.n_bodies=3,1"), "member 1"),
        (("simulate", "--over", "simulate.scenario.source=kepler,gone.csv"), "'gone.csv' does not"),
        (("simulate", "--over", "simulate.policy=default,trained", "--dry-run"), "member 1"),
        (("both", "--over", "simulate.integrator=suzuki4,leapfrog"), "has order 2"),
        (("sweep", "--over", "train.optimiser=adam,adm"), "did you mean 'adam'"),
        (("benchmark", "--over", 'benchmark.families=[["five_body"], ["x"]]'), "family 'x'"),
    ],
)
def test_wrong_input_is_one_line_and_sends_nothing(arguments, words, outputs):
    result = nbcore("submit", *arguments)
    assert result.exit_code == 2
    assert words in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not outputs.exists() or not list(outputs.iterdir())


def test_what_is_set_for_all_stays_beside_the_source_of_a_member(tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "again", lambda _: 1)
    settings = ["simulate.scenario.parameters={n_systems=2}", "movie.system=1", "movie.look=dark"]
    array = arrays.submit(
        *("simulate", "20_simulate", "simulate", settings),
        members=members_module.grid(["simulate.scenario.source=few_body,kepler_orbits"]),
        root=tmp_path,
    )
    for number, source in enumerate(("few_body", "kepler_orbits")):
        given = array.parameters(number)
        config = load_config(given["preset"], given["overrides"])
        assert config.simulate.scenario.source == source
        assert config.simulate.scenario.parameters == {"n_systems": 2}
        assert (config.movie.system, config.movie.look) == (1, "dark")


def test_without_slurm_it_says_what_to_use(monkeypatch):
    monkeypatch.setattr(cluster.shutil, "which", lambda _: None)
    with pytest.raises(InputError, match="--cluster local"):
        cluster.executor_of(Cluster(executor="slurm"))
    assert cluster.executor_of(Cluster()) == "local"


def test_a_dry_run_prints_the_script_and_sends_nothing(outputs):
    settings = ("cluster.partition=gpu", "cluster.minutes=30", "cluster.gpus=1", "cluster.memory=8")
    settings += (
        'cluster.setup=["module load cuda"]',
        "cluster.parallel=5",
        "cluster.account=astro",
    )
    options = [part for setting in settings for part in ("-s", setting)]
    result = nbcore(
        *("submit", "train", "--cluster", "slurm", "--over", "train.seed=0:100", "--dry-run"),
        *options,
    )
    assert result.exit_code == 0
    for line in ("--array=0-99%5", "--partition=gpu", "--time=30", "--gpus-per-node=1"):
        assert f"#SBATCH {line}\n" in result.stdout
    for line in ("--mem=8192M", "--account=astro", "--requeue", "--signal=USR2@90"):
        assert f"#SBATCH {line}\n" in result.stdout
    assert "\nmodule load cuda\n" in result.stdout
    assert not outputs.exists()


def test_more_members_than_jobs_are_dealt_out(tmp_path):
    assert cluster.n_jobs(Cluster(jobs=1000), "slurm", 10_000) == 1000
    assert cluster.n_jobs(Cluster(parallel=3), "local", 10) == 3
    array = made_array([{"train.seed": k} for k in range(7)], tmp_path, n_jobs=3)
    dealt = [list(arrays.Job(str(array.run.path), k).members(array)) for k in range(3)]
    assert dealt == [[0, 3, 6], [1, 4], [2, 5]]


def test_no_payload_is_large():
    import cloudpickle
    from submitit.core.utils import DelayedSubmission, cloudpickle_dump  # noqa: F401

    assert len(cloudpickle.dumps(arrays.Job("/a/folder", 3))) < 500


def test_collecting_gathers_what_there_is_and_names_the_rest(tmp_path):
    members = [{"train.seed": k, "network.hidden": [8]} for k in range(4)]
    array = made_array(members, tmp_path)
    for k in (0, 1):
        run = array.member(k)
        run.path.mkdir(parents=True)
        try:
            with provenance.attempt(run, "10_train", {}):
                run.save_metrics(loss=0.5 + k, nested={"ratio": 2.0}, name="x")
                if k == 1:
                    raise ValueError("no such\nthing")
        except ValueError:
            pass
    text = reports.collected(array)
    assert "1 of 4 done" in text
    assert "ValueError: no such thing" in text
    table = read_table(array.run.path / "table.csv")
    assert list(table["state"]) == ["done", "failed", "stopped", "stopped"]
    assert list(table["train.seed"]) == [0, 1, 2, 3]
    assert table["loss"].tolist()[:2] == [0.5, 1.5]
    assert table["nested.ratio"][0] == 2.0
    assert "4 members: 1 done, 1 failed, 2 stopped" in reports.standing(array)


def test_a_process_that_is_none_of_ours_is_not_taken_for_a_job():
    """Numbers of processes come again."""
    assert cluster.alive([str(os.getpid()), "999999999"], "local") == set()


def test_nothing_is_left_of_an_array_that_slurm_refuses(outputs, monkeypatch):
    def refuse(*_):
        raise RuntimeError("sbatch: error: invalid partition specified: nope")

    monkeypatch.setattr(cluster, "submitit_executor", refuse)
    result = nbcore("submit", "train", "-c", "smoke", "--run", "one", "--cluster", "local")
    assert result.exit_code == 2
    assert "invalid partition specified: nope" in result.stderr
    assert not (outputs / "one").exists()


def test_a_run_is_no_array(outputs):
    Run.create("one")
    for command in ("status", "logs", "collect", "cancel"):
        result = nbcore(command, "one")
        assert result.exit_code == 2
        assert "is no array" in result.stderr


def test_an_array_that_still_has_jobs_is_not_sent_again(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "alive", lambda *_: {0})
    array = made_array([{}], tmp_path, jobs=[["1"]])
    with pytest.raises(InputError, match="still has jobs"):
        arrays.again(array)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.xdist_group("cluster")
def test_four_trainings_one_preempted_and_one_wrong(scheduler, outputs, tmp_path):
    """What a cluster does to an array, and how it comes out."""
    table = tmp_path / "members.csv"
    # A pool of one state is too small, which shows once the orbits are run.
    rows = [f"{k},{1 if k == 3 else 64},{400 if k == 2 else 2}" for k in range(4)]
    table.write_text("\n".join(["train.seed,train.pool_size,train.epochs", *rows]))
    options = [part for setting in TINY for part in ("-s", setting)]
    result = nbcore(
        *("submit", "train", "-c", "smoke", "--table", str(table), "--run", "four", *options),
        *("--cluster", scheduler, "-s", "cluster.grace=10", "-s", "cluster.parallel=2"),
    )
    assert result.exit_code == 0, result.output
    assert "4 in" in result.stdout
    array = arrays.opened("four")
    preempted = array.member(2)
    until(lambda: len(preempted.load_history()) > 20)
    (attempt,) = attempts(preempted)
    preempt(attempt, scheduler)
    done = until(lambda: (s := arrays.states(array)).count("done") == 3 and s)
    assert done == ["failed" if k == 3 else "done" for k in range(4)]

    # SLURM 22.05 may send the signal once more soon after it has queued a job again.
    *before, last = attempts(preempted)
    assert [(a["state"], a["exit_code"]) for a in before] == [("interrupted", 140)] * len(before)
    assert before
    assert last["state"] == "done"
    settings = {"train.seed": 2, "train.pool_size": 64, "train.epochs": 400}
    alone = train(load_config("smoke", [*TINY, *(f"{k}={v}" for k, v in settings.items())]))
    trained = load_policy(preempted.checkpoint_file).weights()
    for name, value in alone.policy.weights().items():
        assert trained[name].tobytes() == to_numpy(value).tobytes()
    assert [row["epoch"] for row in preempted.load_history()] == list(range(400))

    standing = nbcore("status", "four").stdout
    assert "4 members: 3 done, 1 failed" in standing
    assert "left 1 states" in standing
    printed = nbcore("logs", "four").stdout
    assert "member 3 failed: InputError: the training systems left 1 states" in printed
    collected = nbcore("collect", "four").stdout
    assert "3 of 4 done" in collected
    assert "left 1 states" in collected
    frame = read_table(outputs / "four/table.csv")
    assert frame["loss"].notna().sum() == 3
    assert frame["attempts"].tolist() == [len(before) + 1 if k == 2 else 1 for k in range(4)]


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.xdist_group("cluster")
def test_a_cancelled_array_keeps_what_is_done_and_goes_on(scheduler, outputs):
    options = [part for setting in TINY for part in ("-s", setting)]
    result = nbcore(
        *("submit", "train", "-c", "smoke", "--run", "stops", "--cluster", scheduler, *options),
        *("-s", "train.epochs=300"),
    )
    assert result.exit_code == 0, result.output
    array = arrays.opened("stops")
    until(lambda: len(array.member(0).load_history()) > 10)
    assert nbcore("cancel", "stops").exit_code == 0
    until(lambda: arrays.states(array)[0].endswith("stopped"))
    kept = len(array.member(0).load_history())
    assert "stopped" in nbcore("status", "stops").stdout
    assert nbcore("submit", "--resume", "stops").exit_code == 0
    until(lambda: arrays.states(arrays.opened("stops")) == ["done"])
    history = array.member(0).load_history()
    assert [row["epoch"] for row in history] == list(range(300))
    assert kept < 300


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.xdist_group("cluster")
def test_a_job_that_reaches_its_time_limit_is_queued_again_and_goes_on(outputs):
    """Here, where a limit of a minute means one; SLURM counts in steps of half a minute.

    The training takes so many seconds, whatever else the machine does, which is more than a job is
    given and less than two of them are, once they have begun.
    """
    options = [part for setting in TINY if "epochs" not in setting for part in ("-s", setting)]
    result = nbcore(
        *("submit", "train", "-c", "smoke", "--run", "limit", "--cluster", "local", *options),
        *("-s", "train.epochs=1000000", "-s", "train.max_seconds=91"),
        *("-s", "cluster.minutes=2", "-s", "cluster.grace=30"),
    )
    assert result.exit_code == 0, result.output
    array = arrays.opened("limit")
    until(lambda: arrays.states(array) == ["done"])
    *before, last = attempts(array.member(0))
    assert before
    assert {each["error"] for each in before} == {"interrupted by SIGUSR2"}
    assert last["state"] == "done"
    history = array.member(0).load_history()
    assert [row["epoch"] for row in history] == list(range(len(history)))


SIMULATED = [
    *("simulate.policy=fixed", "simulate.integrator=leapfrog", "simulate.dt=1e-8"),
    *("simulate.record_every=100000", "simulate.max_steps=30_000_000", "movie.max_frames=2"),
]


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.xdist_group("cluster")
@pytest.mark.filterwarnings("ignore:12 of 12 systems did not reach t_end")
def test_a_simulation_queued_again_and_again_ends_as_if_it_had_not_been(scheduler, outputs):
    """Some seconds' work, of which each job does a part before it is signalled."""
    options = [part for setting in SIMULATED for part in ("-s", setting)]
    result = nbcore(
        *("submit", "simulate", "-c", "smoke", "--run", "long", "--cluster", scheduler, *options)
    )
    assert result.exit_code == 0, result.output
    member = arrays.opened("long").member(0)
    for _ in range(3):
        preempt_once_it_has_gone_on(member, scheduler)
    until(lambda: arrays.states(arrays.opened("long")) == ["done"])
    *before, last = attempts(member)
    assert len(before) >= 3
    assert {each["error"] for each in before} == {"interrupted by SIGUSR2"}
    assert last["state"] == "done"
    made = Trajectory.load(member.trajectory_file)
    whole = setup(load_config("smoke", SIMULATED).simulate).run(progress=False)
    for name in RECORDED:
        assert np.array_equal(getattr(made, name), getattr(whole, name), equal_nan=True), name
    for name in SUMMARY:
        assert np.array_equal(made.summary[name], whole.summary[name], equal_nan=True), name


def preempt_once_it_has_gone_on(run, scheduler):
    known, count = n_records(run), max(len(attempts(run)), 1)
    until(lambda: len(attempts(run)) >= count and n_records(run) > known)
    preempt(attempts(run)[-1], scheduler)
    until(lambda: len(attempts(run)) > count)


def attempts(run):
    """What is known of every time that a run was started; none before the first."""
    try:
        return provenance.provenance(run)["attempts"]
    except (InputError, OSError):
        return []


def n_records(run):
    """Of the trajectory, as it is; none before its first chunk is complete."""
    try:
        return Trajectory.load(run.trajectory_file).n_records.min()
    except (InputError, OSError):
        return 0


def preempt(attempt, scheduler):
    """Send the signal that a scheduler sends before it takes the node."""
    if scheduler != "slurm":
        os.kill(attempt["pid"], signal.SIGUSR2)
        return
    command = ["scancel", "--signal=USR2", attempt["environment"]["SLURM_JOB_ID"]]
    # A busy SLURM says that the job can not be altered now, and to try again later.
    until(lambda: subprocess.run(command, capture_output=True).returncode == 0)


@pytest.mark.long
@pytest.mark.parametrize("setup_lines", [(), ("export SOME=thing",)])
def test_a_job_of_this_machine_is_started_again_as_often_as_it_asks_for(setup_lines, tmp_path):
    started, again = tmp_path / "started", LOCAL_REQUEUE_RETURN_CODE

    def count():
        with started.open("a") as file:
            file.write(os.environ.get("SOME", "") + "\n")
        if len(started.read_text().splitlines()) < 9:
            raise SystemExit(again)

    ids = cluster.send([count], tmp_path / "jobs", Cluster(setup=setup_lines), "local", "often")
    until(lambda: cluster.alive(ids, "local") == set())
    line = "thing" if setup_lines else ""
    assert started.read_text().splitlines() == [line] * 9


def test_a_job_that_is_just_taking_the_shells_place_is_alive():
    command = ["bash", "-c", f"exec {sys.executable} -c pass {local_jobs.NAME}"]
    for _ in range(40):
        process = subprocess.Popen(command)
        while cluster.alive([str(process.pid)], "local"):
            pass
        with suppress(ChildProcessError):  # gone, and seen so
            assert os.waitpid(process.pid, os.WNOHANG)[0] == process.pid
        process.returncode = 0


def test_a_grace_that_the_limit_does_not_hold_is_refused():
    with pytest.raises(InputError, match="grace is 90"):
        load_config(None, {"cluster.minutes": 1})


@pytest.mark.long
@pytest.mark.xdist_group("cluster")
def test_two_submissions_with_one_name_at_once_make_one_array(outputs, tmp_path):
    script = (
        "import sys; from pathlib import Path; from nbcore.runs import arrays, cli, records\n"
        "records.OUTPUTS = Path(sys.argv[1]); arrays.again = lambda array: 1\n"
        "cli.main(['submit', 'train', '--cluster', 'local', '--run', 'same'])"
    )
    command = [sys.executable, "-c", script, str(outputs)]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    errors = [process.communicate()[1] for process in both]
    assert sorted(process.returncode for process in both) == [0, 2]
    assert "choose another name" in "".join(errors)
    assert json.loads((Path(outputs) / "same/array.json").read_text())["members"] == [{}]
