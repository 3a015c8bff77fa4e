"""What machines do to runs: nothing that was complete is lost, and one line says what happened.

`pytest -n 0 -s tests/test_faults.py` prints the table.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import numpy as np
import pytest

from nbcore.config import PRESETS
from nbcore.errors import InputError
from nbcore.jsonfiles import append_line, read_lines, write_lines
from nbcore.runs import listing, provenance
from nbcore.runs.records import Run
from nbcore.simulation.setup import setup
from nbcore.simulation.status import Status
from nbcore.simulation.storage import RECORDED, SUMMARY
from nbcore.simulation.trajectory import Trajectory
from nbcore.stepping.checkpoints import load_policy, load_tree

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("faults")]

NOTEBOOK = """\
# ---
# jupyter:
#   kernelspec: {display_name: Python 3 (ipykernel), language: python, name: python3}
# ---
# %% tags=["parameters"]
preset = "smoke"
overrides = []
run_dir = None
# %%
import nbcore as nb
config, run = nb.start_run(preset, overrides, run_dir, label="train")
# %%
result = nb.train(config, run.path)
# %%
run.save_metrics(epochs=len(result.history))
"""
SIMULATION = NOTEBOOK.replace(
    "result = nb.train(config, run.path)",
    "result = nb.setup(config.simulate).run(resume=run.trajectory_file)",
).replace("epochs=len(result.history)", "steps=int(result.n_steps.sum())")
SETTINGS = [
    *("train.pool_size=64", "train.batch_size=16", "train.batches=2", "train.progress=false"),
    "train.scenario.parameters.n_systems=4",
]
SCRIPT = """\
import sys
from pathlib import Path
from nbcore.runs import cli, notebooks, records
notebooks.NOTEBOOKS = Path(sys.argv[1])
records.OUTPUTS = Path(sys.argv[2])
cli.main(sys.argv[3:])
"""


@pytest.fixture(scope="module")
def books(tmp_path_factory):
    folder = tmp_path_factory.mktemp("notebooks")
    (folder / "10_train.py").write_text(NOTEBOOK)
    (folder / "20_simulate.py").write_text(SIMULATION)
    return folder


@pytest.fixture
def start(books, tmp_path):
    """Start `nbcore …`; its outputs are in tmp_path unless another folder is given."""
    started = []

    def started_with(*arguments, outputs=tmp_path, epochs=1_000_000):
        options = [*SETTINGS, f"train.epochs={epochs}"]
        command = [sys.executable, "-c", SCRIPT, str(books), str(outputs), *arguments, "-q"]
        if "--resume" not in arguments:
            command += ["--config", str(PRESETS / "smoke.toml")]
            command += [part for option in options for part in ("--set", option)]
        else:
            command += ["--set", f"train.epochs={epochs}"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(command, **pipes))
        return started[-1]

    yield started_with
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def row(request):
    """Prints a row of the table."""
    name = request.node.name.removeprefix("test_").replace("_", " ")
    return lambda *cells: print(f"\n| {name} | {' | '.join(map(str, cells))} |")


def until(condition, seconds=500):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError("it did not come to pass")


def training(run, rows=20):
    """Wait until some epochs have been made, and are kept."""
    until(lambda: len(run.load_history()) > rows and run.training_file.exists())
    return run


LONG = [
    *("simulate.policy=fixed", "simulate.integrator=leapfrog", "simulate.progress=false"),
    *("simulate.record_every=1000", "simulate.max_steps=8_000_000", "simulate.dt=1e-7"),
]


LONG_OPTIONS = [
    part for setting in LONG for part in ("--set", setting) if "max_steps" not in setting
]


def n_records(run):
    """Of the trajectory, as it is; none before its first chunk is complete."""
    try:
        return Trajectory.load(run.trajectory_file).n_records.min()
    except (InputError, OSError):
        return 0


def test_a_signal_to_all_processes_while_the_kernel_starts(start, tmp_path):
    process = start("train", "--run", "one")
    kernel = until(lambda: kernel_started_by(process))
    os.kill(kernel, signal.SIGUSR2)  # as a batch system does, which signals all of a job
    process.send_signal(signal.SIGUSR2)
    code, error = end_of(process)
    assert code == 140, error
    assert provenance.state(Run(tmp_path / "one")) == "interrupted"


def kernel_started_by(process):
    with contextlib.suppress(ValueError, OSError):
        return kernel_of(process)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_the_end_of_a_simulation_that_goes_on(start, tmp_path, row, signum):
    options = [part for setting in LONG for part in ("--set", setting)]
    process = start("simulate", "--run", "one", *options)
    run = Run(tmp_path / "one")
    until(lambda: n_records(run) > 0)
    kernel = kernel_of(process)
    process.send_signal(signum)
    code, error = end_of(process)
    until(lambda: not Path(f"/proc/{kernel}").exists())
    ending = "lost" if signum == signal.SIGKILL else "interrupted"
    assert (code, provenance.state(run)) == (-9 if ending == "lost" else 143, ending)
    recorded = Trajectory.load(run.trajectory_file)
    assert (recorded.status == Status.INTERRUPTED).all()

    other = start("simulate", "--resume", str(run.path), "--set", "simulate.dt=0.01")
    code, refusal = end_of_failure(other)
    assert code == 2
    assert "was begun with policy = fixed step (dt = 1e-07), not fixed step (dt = 0.01)" in refusal
    again = start("simulate", "--resume", str(run.path), "--set", "simulate.dt=1e-7")
    assert end_of(again) == (0, "")
    assert provenance.state(run) == "done"
    made = Trajectory.load(run.trajectory_file)
    assert (made.n_records >= recorded.n_records).all()
    whole = whole_run(run)
    for name in RECORDED:
        assert np.array_equal(getattr(made, name), getattr(whole, name), equal_nan=True), name
    for name in SUMMARY:
        assert np.array_equal(made.summary[name], whole.summary[name], equal_nan=True), name
    row("nothing", error or "nothing", code, f"{ending}; resumed: done, as if never stopped")


def whole_run(run):
    """The same simulation, never stopped."""
    with pytest.warns(RuntimeWarning, match="MAX_STEPS"):
        return setup(run.load_config().simulate).run()


def test_a_run_that_an_older_version_stored_is_kept_beside_the_new_one(start, tmp_path):
    short = ["--set", "simulate.max_steps=2000", *LONG_OPTIONS]
    assert end_of(start("simulate", "--run", "one", *short)) == (0, "")
    run = Run(tmp_path / "one")
    shutil.rmtree(run.trajectory_file / "resume")
    before = Trajectory.load(run.trajectory_file).position
    code, said = end_of(start("simulate", "--resume", str(run.path)))
    assert (code, said) == (0, "the trajectory that was there is kept as trajectory-1.zarr")
    for name in ("trajectory", "trajectory-1"):
        assert np.array_equal(Trajectory.load(run.path / f"{name}.zarr").position, before)


def test_the_end_of_a_simulation_that_is_done_is_moved(start, tmp_path):
    short = ["--set", "simulate.max_steps=2000", *LONG_OPTIONS]
    assert end_of(start("simulate", "--run", "one", *short)) == (0, "")
    run = Run(tmp_path / "one")
    more = start("simulate", "--resume", str(run.path), "--set", "simulate.max_steps=5500")
    assert end_of(more) == (0, "")
    assert [path.name for path in run.path.glob("*.zarr")] == ["trajectory.zarr"]
    made, whole = Trajectory.load(run.trajectory_file), whole_run(run)
    assert made.n_steps.tolist() == [5500] * len(made.n_steps)
    assert np.array_equal(made.position, whole.position)


def end_of(process):
    _, error = process.communicate()
    assert len(error.splitlines()) <= 1, error
    return process.returncode, error.strip()


def is_whole(run):
    """Whether all that is there can be read, and belongs together."""
    rows = run.load_history()
    assert [each["epoch"] for each in rows] == list(range(len(rows)))
    kept = load_tree(run.training_file, kind="training")["history"]
    assert kept == rows[: len(kept)]
    load_policy(run.checkpoint_file)
    nbformat.validate(nbformat.read(run.path / "10_train.ipynb", as_version=4))
    json.loads(run.provenance_file.read_text())
    return len(rows), len(kept)


def kernel_of(process):
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    threads = children.parent.parent.glob("*/children")
    pids = [int(pid) for path in threads for pid in path.read_text().split()]
    (kernel,) = (p for p in pids if b"ipykernel" in Path(f"/proc/{p}/cmdline").read_bytes())
    return kernel


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_in_training(start, tmp_path, row, signum):
    process = start("train", "--run", "one")
    run = Run(tmp_path / "one")
    until(run.path.exists)
    training(run)
    process.send_signal(signum)
    code, error = end_of(process)
    assert code == 128 + signum
    name = signal.Signals(signum).name
    assert error == f"error: interrupted by {name}; what was done is kept, --resume goes on"
    assert provenance.state(run) == "interrupted"
    made, kept = is_whole(run)
    assert made == kept  # the epoch that went on was ended, and saved
    resumed = start("train", "--resume", str(run.path), epochs=made + 5)
    assert end_of(resumed) == (0, "")
    assert [r["epoch"] for r in run.load_history()] == list(range(made + 5))
    assert provenance.state(run) == "done"
    row("nothing", error, code, "interrupted; resumed: done")


@pytest.mark.parametrize("rows", [5, 80])
def test_sigkill_of_the_whole_run(start, tmp_path, row, rows):
    """At two moments; papermill saves the notebook, and training its checkpoint, all the time."""
    process = start("train", "--run", "one")
    run = training(Run(tmp_path / "one"), rows)
    kernel = kernel_of(process)
    process.kill()
    assert end_of(process) == (-9, "")
    assert provenance.state(run) == "lost"
    until(lambda: not Path(f"/proc/{kernel}").exists())
    made, kept = is_whole(run)
    assert "lost" in listing.as_text(listing.listed(tmp_path))
    resumed = start("train", "--resume", str(run.path), epochs=made + 5)
    assert end_of(resumed) == (0, "")
    assert [r["epoch"] for r in run.load_history()] == list(range(made + 5))
    row(f"{made - kept} epochs of the last second", "Killed (by the shell)", 137, "lost; resumed")


def test_the_kernel_is_killed_inside_a_cell(start, tmp_path, row):
    process = start("train", "--run", "one")
    run = training(Run(tmp_path / "one"))
    os.kill(kernel_of(process), signal.SIGKILL)
    code, error = end_of_failure(process)
    assert code == 1
    assert "the kernel died" in error
    assert provenance.state(run) == "failed"
    made, kept = is_whole(run)
    row(f"{made - kept} epochs of the last second", error, code, "failed")


def end_of_failure(process):
    """A cell's failure is told in two lines: what, and where the notebook is."""
    _, error = process.communicate()
    what, *where = error.splitlines()
    assert len(where) <= 2, error
    return process.returncode, what


def test_the_run_folder_is_removed_under_a_running_job(start, tmp_path, row):
    process = start("train", "--run", "one")
    run = training(Run(tmp_path / "one"))
    moved = run.path.rename(tmp_path / "trash")
    for path in sorted(moved.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)
    code, error = end_of_failure(process)
    assert code == 1
    assert "one" in error
    assert not run.path.exists()  # and nothing half-made comes back
    row("the folder", error, code, "none: there is no run")


def test_a_full_disk(start, tmp_path, row):
    small = tmp_path / "small"
    small.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(small)]
    subprocess.run(command, check=True)
    try:
        process = start("train", "--run", "one", outputs=small)
        run = Run(small / "one")
        training(run, rows=5)
        (small / "filler").write_bytes(b"")
        with open(small / "filler", "ab", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass
        code, error = end_of_failure(process)
        assert code == 1
        assert "No space left on device" in error
        rows = run.load_history()
        assert [each["epoch"] for each in rows] == list(range(len(rows)))
        kept = load_tree(run.training_file, kind="training")["history"]
        (small / "filler").unlink()
        resumed = start("train", "--resume", str(run.path), epochs=len(rows) + 5, outputs=small)
        assert end_of(resumed) == (0, "")
        row(f"{len(rows) - len(kept)} epochs of the last second", error, code, "failed; resumed")
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


def test_two_processes_at_one_run(start, tmp_path, row):
    process = start("train", "--run", "one")
    run = training(Run(tmp_path / "one"))
    second = start("train", "--resume", str(run.path))
    code, error = end_of(second)
    assert code == 2
    assert f"is being worked on by process {process.pid}" in error
    process.send_signal(signal.SIGTERM)
    assert end_of(process)[0] == 143
    is_whole(run)
    row("nothing", error, code, "of the first: running")


def test_a_kill_inside_a_line_of_metrics(tmp_path, row):
    path = tmp_path / "metrics.jsonl"
    write_lines(path, [{"epoch": 0, "loss": np.nan}])
    append_line(path, {"epoch": 1, "loss": 0.5})
    whole = path.read_bytes()
    for cut in range(1, 20):
        path.write_bytes(whole[:-cut])
        assert [each["epoch"] for each in read_lines(path)] == [0]
    row("that line", "nothing", "–", "–")


def test_a_clock_that_jumps_back(tmp_path, monkeypatch, row):
    run = Run.create("one", root=tmp_path)
    run.save_config(__import__("nbcore").load_config())
    with provenance.attempt(run, "10_train", {}):
        monkeypatch.setattr(time, "time", lambda: 0.0)
        monkeypatch.setattr(provenance, "_now", lambda: "1970-01-01T00:00:00+00:00")
    (attempt,) = provenance.provenance(run)["attempts"]
    assert 0 <= attempt["seconds"] < 60
    assert listing.listed(tmp_path)[0].age == "0 s"
    with pytest.raises(InputError, match="choose another name"):
        Run.create("one", root=tmp_path)
    row("nothing", "an age of 0 s", "–", "done")
