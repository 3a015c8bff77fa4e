"""The package as a wheel: it has all that it needs, and writes nothing where it is installed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("wheel")]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Folder that a wheel is installed in; what it depends on is there already."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), str(ROOT)]
    run([*pip, *build], folder)
    (wheel,) = folder.glob("*.whl")
    run([*pip, "install", "--no-deps", "--target", str(folder / "site"), str(wheel)], folder)
    run([sys.executable, "-m", "compileall", "-q", str(folder / "site")], folder)
    return folder / "site"


@pytest.fixture
def elsewhere(installed, tmp_path, monkeypatch):
    """An empty working directory, from which the installed package is what is imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(installed))
    monkeypatch.delenv("NBCORE_OUTPUTS", raising=False)
    before = contents(installed)
    yield tmp_path
    assert contents(installed) == before


def contents(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def run(command, folder):
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def nbcore(folder, *arguments):
    script = "import sys; from nbcore.runs.cli import main; main(sys.argv[1:])"
    return run([sys.executable, "-c", script, *arguments], folder)


SMALL = [
    *("-q", "-s", "simulate.t_end=1", "-s", "tracking.wandb=none"),
    *("-s", "movie.max_frames=3", "-s", "movie.width=200", "-s", "movie.height=120"),
]


def test_a_wheel_runs_from_an_empty_folder_and_writes_there_alone(elsewhere, installed):
    where = run([sys.executable, "-c", "import nbcore; print(nbcore.__file__)"], elsewhere)
    assert Path(where.strip()).is_relative_to(installed)
    assert "simulate" in nbcore(elsewhere, "--help")
    assert nbcore(elsewhere, "runs") == "no runs yet\n"
    assert not list(elsewhere.iterdir())
    nbcore(elsewhere, "simulate", "--run", "first", *SMALL)
    assert [path.name for path in elsewhere.iterdir()] == ["outputs"]
    made = {path.name for path in (elsewhere / "outputs" / "first").iterdir()}
    assert {"20_simulate.ipynb", "trajectory.zarr", "movie.mp4", "metrics.json"} <= made
    origin = (elsewhere / "outputs/first/provenance.json").read_text(encoding="utf-8")
    assert '"commit": null' in origin  # no git says what was installed
    assert "first" in nbcore(elsewhere, "runs")
    nbcore(elsewhere, "notebook", "30_diagnose", "-p", "run=outputs/first", "-q")
    nbcore(elsewhere, "rerun", "first", "--run", "second", "-q")
    assert (elsewhere / "outputs/second/movie.mp4").exists()


def test_a_wheel_has_the_presets_the_notebooks_and_the_policies(elsewhere):
    ours = sorted(path.stem for path in (ROOT / "configs").glob("*.toml"))
    listed = nbcore(elsewhere, "presets").splitlines()
    assert [line.split()[0] for line in listed] == ours
    script = (
        "import nbcore as nb; from nbcore.runs import notebooks\n"
        "print(notebooks.names()); nb.load_policy('default'); nb.model_card()\n"
        "assert nb.load_config('configs/smoke.toml') == nb.load_config('smoke')\n"
    )
    shown = run([sys.executable, "-c", script], elsewhere)
    ours = sorted(path.stem for path in (ROOT / "notebooks").glob("*.py"))
    assert shown.strip() == str(ours)


def test_outputs_go_where_the_environment_says(elsewhere, monkeypatch):
    monkeypatch.setenv("NBCORE_OUTPUTS", str(elsewhere / "mine"))
    script = "from nbcore.runs.records import Run; print(Run.create('one').path)"
    shown = run([sys.executable, "-c", script], elsewhere)
    assert shown.strip() == str(elsewhere / "mine" / "one")


@pytest.mark.parametrize("maker", ["readme", "notebooks"])
def test_what_writes_to_the_sources_says_that_it_needs_them(elsewhere, maker):
    command = [sys.executable, "-m", f"nbcore.runs.{maker}"]
    done = subprocess.run(command, cwd=elsewhere, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "needs a checkout" in done.stderr
