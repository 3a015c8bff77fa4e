import os
import signal
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from nbcore import config, surroundings
from nbcore.runs import checks, cli, notebooks, provenance, records

HEADER = """\
# ---
# jupyter:
#   kernelspec: {display_name: Python 3 (ipykernel), language: python, name: python3}
# ---
# %% [markdown]
# # Does it run?
"""

START = """\
# %% tags=["parameters"]
preset = "smoke"
overrides = []
run_dir = None
# %%
from nbcore.runs.provenance import start_run
config, run = start_run(preset, overrides, run_dir, label="stub")
"""

STUBS = {
    "00_quickstart": START,
    "10_train": START
    + """\
# %% tags=["headline"]
print("epochs", config.train.epochs, "resumed", run.training_file.exists())
# %%
run.training_file.touch()
run.movie_file.touch()
(run.figures / "loss.png").touch()
""",
    "20_simulate": START
    + """\
# %%
steps = 0
1 / steps
""",
    "30_diagnose": """\
# %% tags=["parameters"]
run_dir = None
count = 3
# %% tags=["headline"]
from nbcore.runs.records import Run
print(Run.open(run_dir).load_config().train.epochs, count + 1)
""",
    "70_movie": """\
# %% tags=["parameters"]
run_dir = None
overrides = []
# %% tags=["headline"]
from nbcore.runs.records import Run
from nbcore.config import load_config
print(load_config(Run.open(run_dir).config_file, overrides).movie.look)
""",
    "50_benchmark": START + '# %% tags=["headline"]\nprint("benchmark", config.train.epochs)\n',
    "91_refuses": START
    + """\
# %%
from nbcore.errors import unknown_name
raise unknown_name("scenario", "keppler", ["kepler", "plummer"])
""",
}


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    """A project of stub notebooks; its presets are given by path, as kernels see the real ones."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notebooks").mkdir()
    for name, text in STUBS.items():
        (tmp_path / "notebooks" / f"{name}.py").write_text(HEADER + text, encoding="utf-8")
    small = "# Small.\n[train]\nepochs = 2\n[tracking]\nwandb = 'none'\n"
    (tmp_path / "small.toml").write_text(small, encoding="utf-8")
    monkeypatch.setattr(notebooks, "NOTEBOOKS", tmp_path / "notebooks")
    monkeypatch.setattr(records, "OUTPUTS", tmp_path / "outputs")
    monkeypatch.setattr(config, "PRESETS", tmp_path)
    monkeypatch.setattr(checks, "CHECKS", {})  # of the real notebooks
    return tmp_path


def nbcore(*arguments):
    return CliRunner().invoke(cli.app, list(arguments))


def existing_run(name="first", epochs=5):
    run = records.Run.create(name)
    run.save_config(config.load_config(None, [f"train.epochs={epochs}", "tracking.wandb=none"]))
    return run


def test_a_run_prints_the_headline_and_where_everything_lies(project):
    result = nbcore("train", "--config", "small.toml", "--run", "first", "--quiet")
    assert result.exit_code == 0
    assert result.stderr == ""
    assert result.stdout.splitlines() == [
        "epochs 2 resumed False",
        "",
        "run       outputs/first",
        "notebook  outputs/first/10_train.ipynb",
        "figures   outputs/first/figures (1)",
        "movie     outputs/first/movie.mp4",
    ]
    assert (project / "outputs/first/config.toml").exists()


def test_a_benchmark_runs_its_own_notebook():
    result = nbcore("benchmark", "--config", "small.toml", "--run", "first", "-q")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0] == "benchmark 2"
    assert "notebook  outputs/first/50_benchmark.ipynb" in result.stdout


def test_settings_reach_the_run_and_progress_goes_to_stderr(project):
    result = nbcore("train", "--config", "small.toml", "--set", "train.epochs=4")
    assert result.exit_code == 0
    assert "epochs 4 resumed False" in result.stdout
    assert "10_train" in result.stderr
    (folder,) = (project / "outputs").iterdir()
    assert folder.name.startswith("train-")


def test_resume_goes_on_in_the_same_folder_with_its_own_config():
    run = existing_run()
    run.training_file.touch()
    result = nbcore("train", "--resume", "first", "--set", "train.seed=9")
    assert result.exit_code == 0
    assert "epochs 5 resumed True" in result.stdout
    assert run.load_config().train.seed == 9


@pytest.mark.parametrize("option", [["--config", "small.toml"], ["--run", "second"]])
def test_resume_takes_neither_a_config_nor_a_name(option):
    existing_run()
    assert_refused(nbcore("train", "--resume", "first", *option), "leave out --config and --run")


def test_resume_of_a_run_that_is_not_there_is_refused():
    assert_refused(nbcore("train", "--resume", "first"), "run 'first' is neither a folder")


def test_resume_needs_the_config_of_the_run():
    records.Run.create("first")
    assert_refused(nbcore("train", "--resume", "first"), "no config.toml")


def assert_refused(result, message):
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr


SMALL = ["--config", "small.toml"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", *SMALL, "--set", "train.epoch=4"], "did you mean 'train.epochs'"),
        (["train", *SMALL, "--set", "train.epochs=-4"], "'train.epochs' is -4"),
        (["train", *SMALL, "--set", "train.epochs"], "must read key=value"),
        (["both", "--config", "smal"], "preset 'smal' is unknown; did you mean 'small'"),
        (["both", "--config", "small.tml"], "does not exist"),
        (["both"], "preset 'quickstart' is unknown"),
        (["benchmark"], "preset 'benchmark' is unknown"),
        (["train", *SMALL, "--run", "../x"], "must be one plain folder"),
        (["train", *SMALL, "--run", "a/b"], "must be one plain folder"),
        (["train", *SMALL, "--run", ""], "must be one plain folder"),
        (["notebook", "30_diagnos"], "did you mean '30_diagnose'"),
        (["notebook", "30_diagnose"], "say which: -p run=outputs/NAME"),
        (["notebook", "30_diagnose", "-p", "run=nowhere"], "run 'nowhere' is neither"),
        (["notebook", "30_diagnose", "-p", "cuont=1"], "did you mean 'count'"),
        (["notebook", "10_train", "-p", 'overrides=["train.epoch=1"]', "-p", "preset=small"],
         "did you mean 'train.epochs'"),
        (["notebook", "10_train", "-p", "preset"], "must read key=value"),
    ],
)  # fmt: skip
def test_wrong_input_is_one_line_and_makes_nothing(project, arguments, message):
    assert_refused(nbcore(*arguments), message)
    assert not (project / "outputs").exists()


def test_the_folder_of_another_run_is_never_taken():
    run = existing_run()
    assert_refused(nbcore("train", *SMALL, "--run", "first"), "run 'first' exists already")
    assert [path.name for path in run.path.iterdir()] == ["config.toml"]


def test_the_traceback_of_wrong_input_is_shown_on_demand():
    result = nbcore("train", *SMALL, "--set", "train.epoch=4", "--traceback")
    assert result.exit_code == 2
    assert "Traceback" in result.stderr
    assert "\nerror: config key 'train.epoch' is unknown" in result.stderr


def test_a_failing_cell_ends_with_1_and_keeps_the_notebook(project):
    result = nbcore("simulate", *SMALL, "--run", "first", "--quiet")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        "error: ZeroDivisionError: division by zero",
        "  in the cell's line: 1 / steps",
        "  the notebook up to there: outputs/first/20_simulate.ipynb",
    ]
    assert (project / "outputs/first/20_simulate.ipynb").exists()


def test_the_traceback_of_a_failing_cell_is_shown_on_demand():
    result = nbcore("simulate", *SMALL, "--quiet", "--traceback")
    assert result.exit_code == 1
    assert "Traceback" in result.stderr


def test_wrong_input_found_in_a_cell_is_one_line_and_names_the_notebook():
    result = nbcore("notebook", "91_refuses", "-p", "preset=small.toml", "--run", "r", "--quiet")
    assert_refused(result, "scenario 'keppler' is unknown; did you mean 'kepler'?")
    assert "(notebook: outputs/r/91_refuses.ipynb)" in result.stderr


def test_a_notebook_that_reads_a_run_writes_beside_it():
    run = existing_run(epochs=6)
    result = nbcore("notebook", "30_diagnose", "-p", "run=outputs/first", "-p", "count=7", "-q")
    assert result.exit_code == 0
    assert result.stdout.startswith("6 8\n")
    assert (run.path / "30_diagnose.ipynb").exists()


def test_presets_are_listed_with_what_they_are_for():
    assert nbcore("presets").stdout == "small          Small\n"


def test_the_version_is_that_of_the_package():
    result = nbcore("--version")
    assert result.exit_code == 0
    assert result.stdout == "nbcore 0.1.0\n"


def test_a_wrong_option_ends_with_2():
    assert nbcore("train", "--epochs", "3").exit_code == 2


def test_help_imports_nothing_slow():
    script = (
        "import sys; from nbcore.runs import cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit as end: assert not end.code\n"
        "slow = {'torch', 'papermill', 'jupytext', 'matplotlib', 'numba'} & set(sys.modules)\n"
        "assert not slow, slow"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "simulate" in done.stdout


def test_an_interrupt_ends_with_130_and_one_line(project):
    started = project / "started"
    stub = HEADER + START + f"# %%\nopen({str(started)!r}, 'w')\nimport time\ntime.sleep(60)\n"
    (project / "notebooks/40_waits.py").write_text(stub, encoding="utf-8")
    script = (
        "from pathlib import Path; from nbcore.runs import cli, notebooks, provenance, records\n"
        "notebooks.NOTEBOOKS = Path('notebooks'); records.OUTPUTS = Path('outputs')\n"
        "cli.main(['notebook', '40_waits', '-p', 'preset=small.toml', '-q'])"
    )
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while not started.exists() and process.poll() is None:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGINT)
        _, error = process.communicate()
    assert error == "error: interrupted by SIGINT; what was done is kept, --resume goes on\n"
    assert process.returncode == 130


def test_a_movie_of_a_run_takes_settings_and_refuses_unknown_ones():
    existing_run()
    result = nbcore("movie", "first", "--set", "movie.look=dark", "-q")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0] == "dark"
    result = nbcore("movie", "first", "--set", "movie.lok=dark", "-q")
    assert result.exit_code == 2
    assert "did you mean 'movie.look'" in result.stderr


def test_a_run_says_where_it_came_from_and_how_it_ended(project):
    nbcore("train", "-c", "small.toml", "--run", "first", "-q", "--set", "train.seed=7")
    kept = provenance.provenance(records.Run.open("first"))
    assert kept["notebook"] == "10_train"
    assert kept["parameters"]["overrides"] == ["train.seed=7"]
    assert kept["seeds"]["train.seed"] == 7
    assert kept["packages"]["torch"]
    assert set(kept["code"]) == {"commit", "dirty"}
    (attempt,) = kept["attempts"]
    assert (attempt["state"], attempt["exit_code"]) == ("done", 0)
    assert attempt["pid"] == os.getpid()


@pytest.mark.parametrize(
    ("command", "state", "code"), [("simulate", "failed", 1), ("train", "done", 0)]
)
def test_the_state_of_a_run_is_listed(command, state, code):
    result = nbcore(command, "-c", "small.toml", "--run", "first", "-q")
    assert result.exit_code == code
    listed = nbcore("runs").stdout
    assert f"  {state}" in listed
    assert "first" in listed


def test_no_secret_of_the_environment_is_kept(project, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "42")
    monkeypatch.setenv("MY_API_KEY", "hunter2")
    nbcore("train", "-c", "small.toml", "--run", "first", "-q")
    text = records.Run.open("first").provenance_file.read_text()
    assert '"SLURM_JOB_ID": "42"' in text
    assert "hunter2" not in text


def test_a_run_is_repeated_with_its_configuration():
    nbcore("train", "-c", "small.toml", "--run", "first", "-q", "--set", "train.epochs=4")
    result = nbcore("rerun", "first", "--run", "second", "-q")
    assert result.exit_code == 0
    assert "epochs 4 resumed False" in result.stdout
    assert "outputs/second/10_train.ipynb" in result.stdout


def test_a_run_of_other_code_is_repeated_with_a_warning(monkeypatch):
    nbcore("train", "-c", "small.toml", "--run", "first", "-q")
    monkeypatch.setattr(surroundings, "code", lambda: {"commit": "another", "dirty": False})
    result = nbcore("rerun", "first", "-q")
    assert result.exit_code == 0
    assert "warning: the code is another" in result.stderr


def test_what_no_command_made_is_not_repeated():
    existing_run()
    result = nbcore("rerun", "first")
    assert result.exit_code == 2
    assert "no command of nbcore made it" in result.stderr
    _, run = provenance.start_run("small.toml")
    result = nbcore("rerun", str(run.path))
    assert result.exit_code == 2
    assert "begun by hand in a notebook" in result.stderr


def test_a_run_is_resumed_by_the_command_that_made_it():
    nbcore("train", "-c", "small.toml", "--run", "first", "-q")
    result = nbcore("benchmark", "--resume", "first", "-q")
    assert result.exit_code == 2
    assert "made by notebook 10_train" in result.stderr


def test_no_runs_are_no_error(project):
    (project / "outputs").mkdir()
    assert nbcore("runs").stdout == "no runs yet\n"
    assert nbcore("runs", "nowhere").exit_code == 2
