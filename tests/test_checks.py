"""Whatever can be checked is told in one line, before a folder or a kernel is made."""

import subprocess
import sys

import pytest
from typer.testing import CliRunner

import nbcore as nb
from nbcore.config import load_config
from nbcore.errors import InputError
from nbcore.runs import checks, cli, execution, records
from nbcore.runs.records import Run


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty working directory, and no kernel."""

    def no_kernel(*_):
        raise AssertionError("a kernel would be started")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(records, "OUTPUTS", tmp_path / "outputs")
    monkeypatch.setattr(execution, "run", no_kernel)
    (tmp_path / "mine.csv").write_text("1,0.5,0,0,0.6\n1,-0.5,0,0,-0.6\n0.1,3,0,0,0.8\n")
    (tmp_path / "bad.csv").write_text("1,0.5\n")
    return tmp_path


def refused(*arguments):
    result = CliRunner().invoke(cli.app, list(arguments))
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1, result.stderr
    assert result.stderr.startswith("error: ")
    return result.stderr


@pytest.mark.parametrize(
    ("command", "setting", "words"),
    [
        ("simulate", "simulate.policy=trained", "nothing was trained in this run"),
        ("simulate", "simulate.policy=bokholt", "did you mean 'boekholt'"),
        ("simulate", "simulate.policy=outputs/none", "there is no policy at 'outputs/none'"),
        ("simulate", "simulate.scenario.source=few_bdy", "did you mean 'few_body'"),
        ("simulate", "simulate.scenario.source=gone.csv", "'gone.csv' does not exist"),
        ("simulate", "simulate.scenario.source=bad.csv", "bad.csv"),
        ("simulate", "simulate.scenario.parameters.n_bodys=3", "did you mean 'n_bodies'"),
        ("simulate", "simulate.scenario.parameters.n_bodies=1", "n_bodies"),
        ("simulate", "simulate.scenario.field={mass=1.0, position=[1.0, 0.0, 0.0]}", "dimensions"),
        ("simulate", "simulate.integrator=leapfrog", "not for 'leapfrog'"),
        ("simulate", "simulate.engine=tortch", "did you mean 'torch'"),
        ("simulate", "movie.system=1", "movie.system is 1"),
        ("simulate", "movie.frame=3", "movie.frame is 3"),
        ("simulate", "movie.panels=['dtt']", "did you mean 'dt'"),
        ("simulate", "movie.codec=libx265x", "codec 'libx265x' is unknown"),
        ("both", "simulate.integrator=leapfrog", "has order 2"),
        ("both", "simulate.scenario.source=gone.csv", "'gone.csv' does not exist"),
        ("both", "compare.criteria=['boekhlt']", "did you mean 'boekholt'"),
        ("both", "compare.criteria=[]", "compare.criteria"),
        ("train", "train.scenario.source=gone.csv", "'gone.csv' does not exist"),
        ("train", "train.families=[{source='few_bdy', t_end=1.0}]", "did you mean 'few_body'"),
        ("train", "train.integrator=leepfrog", "did you mean 'leapfrog'"),
        ("train", "train.optimiser=adm", "did you mean 'adam'"),
        ("train", "train.schedule=cosin", "did you mean 'cosine'"),
        ("train", "train.loss.weights.enrgy_band=1.0", "did you mean 'energy_band'"),
        ("train", "network.features=['scale_fre']", "did you mean 'scale_free'"),
        ("train", "network.activation=tahn", "did you mean 'tanh'"),
        ("train", "train.start=defalt", "did you mean 'default'"),
        ("train", "train.start=default", "with the same features"),
        ("train", "train.members=[{epochs=2}]", "must be calibrated"),
        ("sweep", "sweep.space={'train.optimiser'={choices=['adam', 'adm']}}", "'adm'"),
        ("benchmark", "benchmark.families=['five_bdy']", "did you mean 'five_body'"),
        ("benchmark", "benchmark.policies=[]", "no learned policy"),
        ("benchmark", "benchmark.families=[]", "nothing to run"),
        ("benchmark", "benchmark.peers=['is15']", "peer 'is15' is unknown"),
    ],
)
def test_what_would_fail_is_told_before_anything_is_made(command, setting, words, folder):
    assert words in refused(command, "--set", setting)
    assert not (folder / "outputs").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("simulat",), "did you mean 'simulate'"),
        (("train", "--epochs", "3"), "changed by --set KEY=VALUE"),
        (("movie",), "`nbcore runs` lists"),
        (("status",), "`nbcore runs` lists"),
        (("notebook",), "one of 00_quickstart"),
        (("logs", "a", "b"), "member"),
        (("--nothing",), "no such option"),
        (("notebook", "60_orbit_explorer", "-p", "versus=bokholt"), "did you mean 'boekholt'"),
    ],
)
def test_a_command_that_is_not_understood_is_answered_in_a_line(arguments, words):
    assert words in refused(*arguments)


def test_what_a_stored_run_does_not_hold_is_told_at_once():
    run = Run.create("one")
    run.save_config(load_config("simulate"))
    assert "holds no trajectory" in refused("movie", "one")
    state = nb.scenarios.make("kepler")
    nb.simulate(state, 0.5, nb.FixedStep(0.1), engine="torch").save(run.trajectory_file)
    assert "movie.system is 2" in refused("movie", "one", "--set", "movie.system=2")
    assert "system is 1" in refused("notebook", "30_diagnose", "-p", "run=one", "-p", "system=1")


def test_a_training_is_resumed_with_its_own_settings_or_not_at_all(tmp_path):
    run = Run.create("one")
    overrides = ["train.pool_size=64", "train.scenario.parameters.n_systems=4", "train.epochs=1"]
    config = load_config("smoke", [*overrides, "train.progress=false"])
    run.save_config(config)
    nb.train(config, run.path)
    checks.check("10_train", config, run)
    assert "was begun with train.seed = 0" in refused(
        "train", "--resume", "one", "-s", "train.seed=1"
    )


def test_a_policy_that_will_be_trained_is_what_the_run_is_checked_with():
    config = load_config("smoke", ["train.integrator=leapfrog"])
    checks.check("00_quickstart", config)
    other = load_config("smoke", ["train.integrator=hermite4", "simulate.stepping=reversible"])
    with pytest.raises(InputError, match="not reversible"):
        checks.check("00_quickstart", other)


def test_members_that_differ_in_harmless_numbers_are_checked_once(monkeypatch):
    asked = []
    monkeypatch.setitem(checks.CHECKS, "10_train", asked.append)
    table = load_config("smoke").model_dump()
    seeds = [{"train.seed": k, "train.learning_rate": 0.1 / (k + 1)} for k in range(100)]
    checks.check_members("10_train", table, seeds)
    assert len(asked) == 1
    checks.check_members("10_train", table, [{"train.n_steps": k} for k in (1, 2)])
    assert len(asked) == 3


def test_checks_import_neither_pictures_nor_what_runs_notebooks():
    script = (
        "import sys; from nbcore.config import load_config; from nbcore.runs.checks import check\n"
        "check('20_simulate', load_config('simulate'))\n"
        "check('00_quickstart', load_config('smoke'))\n"
        "slow = {'papermill', 'matplotlib', 'optuna'} & set(sys.modules); assert not slow, slow"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
