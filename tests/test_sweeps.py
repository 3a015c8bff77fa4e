import os
import signal
import subprocess
import sys
import time

import pytest
from tiny_training import TINY

from nbcore.config import load_config
from nbcore.errors import InputError
from nbcore.learning.training import train
from nbcore.runs import provenance, sweeps
from nbcore.runs.records import Run
from nbcore.runs.sweeps import sweep
from nbcore.tables import read_table

SMALL = {
    **TINY,
    "sweep.trials": 3,
    "sweep.objectives": ["loss"],
    "sweep.levels": [1e-2],
    "sweep.asked": 1e-3,
    "sweep.systems": 2,
    "sweep.progress": False,
    "cluster.executor": "local",
    "tracking.wandb": None,
}


@pytest.fixture
def run(tmp_path):
    return Run.create("sweep", root=tmp_path)


@pytest.fixture(autouse=True)
def few_systems(recwarn):
    """Tiny trainings have none to hold out, and say so."""


def searched(run, **settings):
    named = {name.replace("__", "."): value for name, value in settings.items()}
    return sweep(load_config(None, {**SMALL, **named}), run.path)


def counted(found):
    return len(found.trials.query("state in ('complete', 'pruned', 'failed')"))


def test_the_best_preset_trains_the_best_policy_again(run):
    found = searched(run)
    assert list(found.trials["state"]) == ["complete"] * 3
    least = found.trials["loss"].min()
    best = load_config(found.best_file)
    again = train(best)
    assert min(row["loss"] for row in again.history) == least
    trial = int(found.trials["loss"].idxmin())
    assert Run(run.path / f"trials/{trial:05d}").load_metrics()["loss"] == least
    assert read_table(run.path / "trials.csv")["loss"].min() == least
    assert [row["trial"] for row in run.load_history()] == [0, 1, 2]


def test_a_sweep_goes_on_where_it_stopped(run):
    first = searched(run, sweep__trials=2).trials
    both = searched(run, sweep__trials=4).trials
    assert len(both) == 4
    assert both["train.learning_rate"][:2].tolist() == first["train.learning_rate"].tolist()


def test_a_grid_tries_every_combination_once(run):
    space = {
        "train.seed": {"choices": [1, 2]},
        "network.hidden": {"choices": [[4], [4, 4]]},
        "train.n_steps": {"low": 1, "high": 3, "step": 2},
    }
    found = searched(run, sweep__sampler="grid", sweep__space=space).trials
    tried = found[list(space)].itertuples(index=False, name=None)
    assert sorted(tried) == [(s, h, n) for s in (1, 2) for h in ("[4, 4]", "[4]") for n in (1, 3)]


def test_unpromising_trainings_are_ended_early(run):
    found = searched(
        run,
        sweep__pruner="median",
        sweep__trials=12,
        train__epochs=4,
        sweep__space={"train.learning_rate": {"choices": [1e-9, 0.03]}},
    )
    pruned = found.trials.query("state == 'pruned'")
    assert len(pruned) > 0
    folder = Run(run.path / f"trials/{pruned['trial'].iloc[0]:05d}")
    assert 0 < len(folder.load_history()) < 4


def test_two_objectives_make_a_front(run):
    found = searched(run, sweep__objectives=["loss", "spread"], sweep__trials=4)
    assert found.trials[["loss", "spread"]].notna().all().all()
    assert found.best.train.learning_rate in found.trials["train.learning_rate"].to_list()


def test_a_trial_that_fails_is_told_and_the_others_go_on(run):
    space = {"train.pool_size": {"choices": [64, 1]}}  # which only shows once it is run
    found = searched(run, sweep__sampler="grid", sweep__space=space)
    assert list(found.trials["state"]) == ["complete", "failed"]
    assert "left 1 states" in found.trials["error"][1]


def test_a_sweep_without_a_success_says_why(run):
    space = {"train.pool_size": {"choices": [1]}}
    with pytest.raises(RuntimeError, match="left 1 states"):
        searched(run, sweep__sampler="grid", sweep__space=space)


def test_a_study_in_a_database(run, tmp_path):
    url = f"sqlite:///{tmp_path}/studies.db"
    assert counted(searched(run, sweep__storage=url)) == 3
    assert not (run.path / sweeps.JOURNAL).exists()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"sweep.space": {"simulate.tolerance": {"choices": [1]}}}, "settings of a training"),
        ({"sweep.space": {"train.epoch": {"choices": [1]}}}, "did you mean 'train.epochs'"),
        ({"sweep.space": {"train.epochs": {"low": 0, "high": 5}}}, "train.epochs"),
        ({"sweep.space": {"train.epochs": {"low": 5, "high": 5}}}, "nothing to choose from"),
        ({"sweep.space": {"train.epochs": {"from": 5}}}, "must have choices"),
        ({"sweep.space": {"train.integrator": {"choices": ["leapfrog", "nonesuch"]}}},
         "train.integrator, 'nonesuch': integrator 'nonesuch' is unknown"),
        ({"sweep.space": {"network.activation": {"choices": ["rellu"]}}}, "did you mean 'relu'"),
        ({"sweep.sampler": "grid"}, "a grid needs choices"),
        ({"sweep.storage": "mysq://x"}, "can't be used.*such as sqlite:"),
        ({"train.members": [{}]}, "set train.members to"),
    ],
)  # fmt: skip
def test_a_space_that_cannot_be_searched_is_named_before_anything_runs(run, settings, words):
    with pytest.raises(InputError, match=words):
        sweep(load_config(None, {**SMALL, **settings}), run.path)
    assert not (run.path / "trials").exists()


def test_pruning_goes_with_one_objective():
    with pytest.raises(InputError, match="one objective, not with 2"):
        load_config(None, {"sweep.pruner": "median", "sweep.objectives": ["loss", "spread"]})


def test_other_objectives_are_refused_when_it_goes_on(run):
    searched(run)
    with pytest.raises(InputError, match="begun with the objectives"):
        searched(run, sweep__objectives=["spread"])


WORKER = """\
import sys
from nbcore.runs.sweeps import Worker
Worker(sys.argv[1], int(sys.argv[2]))()
"""


@pytest.mark.long
def test_eight_workers_at_one_journal_of_which_one_is_killed(run):
    """Each trial is made once, and what the dead one had begun is tried again."""
    config = load_config(None, {**SMALL, "sweep.trials": 40, "train.epochs": 30})
    run.save_config(config)
    sweeps.open_study(config.sweep, run)
    command = [sys.executable, "-W", "ignore", "-c", WORKER, str(run.path)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    workers = [subprocess.Popen([*command, str(k)], **quiet) for k in range(8)]

    def begun_by(worker):
        for folder in run.path.glob("trials/*"):
            if not (folder / "provenance.json").exists():
                continue
            attempts = provenance.provenance(Run(folder))["attempts"]
            if attempts[-1]["pid"] == worker.pid and provenance.state(Run(folder)) == "running":
                return int(folder.name)
        return None

    end = time.monotonic() + 500
    while (cut_off := begun_by(workers[3])) is None and time.monotonic() < end:
        time.sleep(0.02)
    os.kill(workers[3].pid, signal.SIGKILL)
    codes = [worker.wait() for worker in workers]
    for worker in workers:
        worker.stderr.close()
    assert codes == [0, 0, 0, -signal.SIGKILL, 0, 0, 0, 0]
    found = sweep(config, run.path)
    assert counted(found) == 40
    table = found.trials.set_index("trial")
    states = set(table["state"])
    assert states <= {"complete", "lost"}
    if table["state"][cut_off] == "lost":  # else it had just ended
        again = table[table["train.learning_rate"] == table["train.learning_rate"][cut_off]]
        assert list(again["state"]) == ["lost", "complete"]
