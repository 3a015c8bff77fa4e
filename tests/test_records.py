import json
import math
import re

import numpy as np
import pytest

from nbcore.config import load_config
from nbcore.errors import InputError
from nbcore.runs import records
from nbcore.runs.provenance import start_run
from nbcore.runs.records import Run


@pytest.fixture(autouse=True)
def outputs(tmp_path, monkeypatch):
    folder = tmp_path / "outputs"
    monkeypatch.setattr(records, "OUTPUTS", folder)
    return folder


def test_a_new_run_is_a_new_folder_in_outputs(outputs):
    run = Run.create("first")
    assert run.path == outputs / "first"
    assert run.path.is_dir()


def test_an_automatic_name_says_what_and_when(outputs):
    run = Run.create(label="train")
    assert re.fullmatch(r"train-\d{8}-\d{6}", run.path.name)


def test_runs_of_the_same_second_get_folders_of_their_own(outputs):
    paths = {Run.create(label="train").path for _ in range(5)}
    assert len(paths) == 5
    assert all(path.is_dir() for path in paths)


def test_a_run_never_takes_a_folder_that_exists(outputs):
    kept = Run.create("first")
    kept.save_metrics(steps=1)
    with pytest.raises(InputError, match="run 'first' exists already"):
        Run.create("first")
    assert kept.load_metrics() == {"steps": 1}


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "a\\b", "/x", "-x", ".hidden", "a\n", "a b", "x" * 121]
)
def test_a_name_that_is_no_plain_folder_is_refused_before_anything_is_made(name, outputs):
    with pytest.raises(InputError, match="must be one plain folder"):
        Run.create(name)
    assert not outputs.exists()


def test_a_run_is_found_by_path_and_by_name():
    run = Run.create("first")
    assert Run.open(run.path).path == run.path
    assert Run.open(str(run.path)).path == run.path
    assert Run.open("first").path == run.path


@pytest.mark.parametrize("path", ["secnd", ""])
def test_a_run_that_is_not_there_is_named_beside_those_that_are(path):
    Run.create("first")
    with pytest.raises(InputError, match=rf"run '{path}' is neither .* there: first"):
        Run.open(path)


def test_everything_of_a_run_lies_in_its_folder():
    run = Run.create("first")
    places = {
        run.config_file: "config.toml",
        run.metrics_file: "metrics.json",
        run.trajectory_file: "trajectory.zarr",
        run.checkpoint_file: "policy.safetensors",
        run.training_file: "training.safetensors",
        run.movie_file: "movie.mp4",
    }
    assert {path.name for path in places} == set(places.values())
    assert {path.parent for path in places} == {run.path}
    assert not any(run.path.iterdir())
    assert run.figures.is_dir()


def test_the_config_comes_back_as_it_was():
    run = Run.create()
    config = load_config(None, ["train.epochs=7", "simulate.max_steps=none"])
    run.save_config(config)
    assert run.load_config() == config


def test_metrics_are_merged():
    run = Run.create()
    assert run.load_metrics() == {}
    run.save_metrics(steps=1, error=0.5)
    run.save_metrics(error=0.25, status="SUCCESS")
    assert run.load_metrics() == {"steps": 1, "error": 0.25, "status": "SUCCESS"}


def test_metrics_take_what_numpy_makes():
    run = Run.create()
    run.save_metrics(
        a=np.float64(0.5),
        n=np.int32(3),
        ok=np.bool_(True),
        v=np.arange(3),
        t=(1, 2),
        where=run.path,
    )
    expected = {"a": 0.5, "n": 3, "ok": True, "v": [0, 1, 2], "t": [1, 2], "where": str(run.path)}
    assert run.load_metrics() == expected


def test_numbers_that_are_not_finite_pass_a_strict_parser_and_come_back():
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    run = Run.create()
    run.save_metrics(worst={"errors": np.array([np.nan, np.inf, -np.inf, 1.0])})
    strict = json.loads(run.metrics_file.read_text(encoding="utf-8"), parse_constant=refuse)
    assert strict["worst"]["errors"] == ["NaN", "Infinity", "-Infinity", 1.0]
    nan, *others = run.load_metrics()["worst"]["errors"]
    assert math.isnan(nan)
    assert others == [math.inf, -math.inf, 1.0]


def test_metrics_that_cannot_be_written_leave_the_file_as_it_was():
    run = Run.create()
    run.save_metrics(steps=1)
    with pytest.raises(TypeError):
        run.save_metrics(broken=object())
    assert run.load_metrics() == {"steps": 1}
    assert [path.name for path in run.path.iterdir()] == ["metrics.json"]


def test_a_figure_is_a_png_of_150_dots_per_inch():
    from matplotlib.figure import Figure

    path = Run.create().save_figure(Figure(figsize=(2, 1)), "energy")
    header = path.read_bytes()[:24]
    assert path.name == "energy.png"
    assert header[1:4] == b"PNG"
    assert (int.from_bytes(header[16:20]), int.from_bytes(header[20:24])) == (300, 150)


def test_a_notebook_opened_by_hand_gets_a_new_run(outputs):
    config, run = start_run(None, ["train.epochs=7"], None, label="train")
    assert config.train.epochs == 7
    assert run.path.parent == outputs
    assert run.path.name.startswith("train-")
    assert run.load_config() == config


def test_a_notebook_run_headless_writes_its_config_into_the_run_it_is_given():
    run = Run.create("first")
    config, same = start_run(None, [], str(run.path), label="train")
    assert same.path == run.path
    assert run.load_config() == config


def test_a_wrong_config_makes_no_folder(outputs):
    with pytest.raises(InputError, match=r"did you mean 'train\.epochs'"):
        start_run(None, ["train.epoch=7"], None, label="train")
    assert not outputs.exists()


def test_a_run_names_its_files_as_training_writes_them(tmp_path):
    from nbcore.learning.trainer import POLICY_FILE, TRAINING_FILE

    run = Run.create("one", root=tmp_path)
    assert run.checkpoint_file == run.path / POLICY_FILE
    assert run.training_file == run.path / TRAINING_FILE
