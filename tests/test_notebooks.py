import json
import tempfile
from pathlib import Path

import jupytext
import nbformat
import pytest
from papermill.engines import NotebookExecutionManager

from nbcore.config import preset_names
from nbcore.errors import InputError
from nbcore.runs import execution, notebooks, provenance
from nbcore.runs.notebooks import NotebookError
from nbcore.runs.records import Run

HEADER = """\
# ---
# jupyter:
#   jupytext: {formats: 'py:percent,ipynb', text_representation: {extension: .py, format_name: percent}}
#   kernelspec: {display_name: Python 3 (ipykernel), language: python, name: python3}
# ---
# %% [markdown]
# # Does it run?
"""  # noqa: E501

STUBS = {
    "20_simulate": """\
# %% tags=["parameters"]
preset = "smoke"  # a name = a file in configs/
overrides = ["train.epochs=1"]
run_dir = None
# %%
import sys
from pathlib import Path
from IPython.display import Markdown, display
from nbcore.runs.records import Run
run = Run.open(run_dir)
run.trajectory_file.mkdir()
print("a warning", file=sys.stderr)
print("not the headline")
# %% tags=["headline"]
print(preset, overrides, run_dir == str(run.path))
print("noise", file=sys.stderr)
display(Markdown("**bold**"))
1 + 1
""",
    "30_diagnose": """\
# %% tags=["parameters"]
run_dir = None
# %%
from nbcore.runs.records import Run
Run.open(run_dir).trajectory_file.exists()
""",
    "50_benchmark": """\
# %% tags=["parameters"]
preset = "benchmark"
overrides = []
run_dir = None
# %%
print(preset, overrides)
""",
    "90_fails": """\
# %% tags=["parameters"]
preset = "smoke"
overrides = []
run_dir = None
# %%
print("before")
# %%
numerator = 1
numerator / 0
# %%
print("after")
""",
    "91_refuses": """\
# %% tags=["parameters"]
preset = "smoke"
overrides = []
run_dir = None
# %%
from nbcore.errors import unknown_name
raise unknown_name("scenario", "keppler", ["kepler", "plummer"])
""",
    "92_dies": """\
# %% tags=["parameters"]
run_dir = None
# %%
import os
os._exit(1)
""",
    "93_tells_its_kernel": """\
# %% tags=["parameters"]
run_dir = None
# %%
import json
import ipykernel
print(json.loads(ipykernel.get_connection_info())["transport"], ipykernel.get_connection_file())
""",
}

REAL = notebooks.names()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of stub notebooks in the place of notebooks/."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    for name, text in STUBS.items():
        (folder / f"{name}.py").write_text(HEADER + text, encoding="utf-8")
    monkeypatch.setattr(notebooks, "NOTEBOOKS", folder)
    return folder


@pytest.fixture
def run(tmp_path):
    return Run.create("run", root=tmp_path)


def cells(path, kind="code"):
    return [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == kind]


@pytest.mark.parametrize("name", REAL)
def test_each_notebook_and_its_pair_are_one(name):
    assert notebooks.out_of_sync(name) is None


@pytest.mark.parametrize("name", REAL)
def test_each_notebook_has_literal_parameters(name):
    assert "run_dir" in notebooks.default_parameters(name)


def test_parameters_reach_the_notebook_and_the_headline_comes_back(folder, run, capfd):
    path = notebooks.execute("20_simulate", run, "quickstart", ["train.epochs=3"])
    assert path == run.path / "20_simulate.ipynb"
    shown = notebooks.headline(path)
    assert shown.splitlines() == ["quickstart ['train.epochs=3'] True", "**bold**", "2"]
    output = capfd.readouterr()
    assert output.out == ""
    assert "a warning" in output.err
    assert "encryption" not in output.err


def test_a_notebook_keeps_its_own_defaults_and_is_silent_without_progress(folder, run, capfd):
    path = notebooks.execute("20_simulate", run, progress=False)
    assert notebooks.headline(path).startswith("smoke ['train.epochs=1'] True")
    assert capfd.readouterr() == ("", "")


def test_a_folder_with_braces_in_its_name_is_left_as_it_is(folder, tmp_path):
    run = Run.create("run", root=tmp_path / "{odd} folder")
    (run.path / "trajectory.zarr").mkdir()
    assert notebooks.execute("30_diagnose", run, progress=False).exists()


def test_default_parameters_are_literals_of_the_tagged_cell(folder):
    assert notebooks.default_parameters("20_simulate") == {
        "preset": "smoke",
        "overrides": ["train.epochs=1"],
        "run_dir": None,
    }


@pytest.mark.parametrize(
    "cell",
    ['# %% tags=["parameters"]\nrun_dir = None\nn = 2 * int("3")\n', "# %%\nrun_dir = None\n"],
)
def test_a_notebook_without_literal_parameters_is_refused(folder, cell):
    (folder / "10_train.py").write_text(HEADER + cell, encoding="utf-8")
    with pytest.raises(ValueError, match="parameters"):
        notebooks.default_parameters("10_train")


def test_an_unknown_notebook_is_an_error_that_names_the_nearest(folder, run):
    with pytest.raises(InputError, match="did you mean '20_simulate'"):
        notebooks.execute("20_simulat", run)


@pytest.mark.parametrize(
    ("name", "preset", "parameters", "message"),
    [
        ("20_simulate", "smoke", {"overides": []}, "did you mean 'overrides'"),
        ("30_diagnose", "smoke", {}, "parameter of 30_diagnose 'preset' is unknown"),
    ],
)
def test_an_unknown_parameter_is_an_error_before_anything_runs(
    folder, run, name, preset, parameters, message
):
    with pytest.raises(InputError, match=message):
        notebooks.execute(name, run, preset, parameters=parameters)
    assert not any(run.path.iterdir())


def test_a_failing_cell_is_an_error_that_keeps_the_notebook_up_to_there(folder, run):
    with pytest.raises(NotebookError, match="ZeroDivisionError: division by zero") as caught:
        notebooks.execute("90_fails", run, progress=False)
    error = caught.value
    assert (error.ename, error.evalue) == ("ZeroDivisionError", "division by zero")
    assert error.cell_line == "numerator / 0"
    assert "\x1b" not in error.traceback
    assert not error.is_input_error
    *_, before, failed, after = cells(error.notebook)
    assert before.outputs[0].text == "before\n"
    assert failed.outputs[0].ename == "ZeroDivisionError"
    assert after.outputs == []


def test_wrong_input_found_in_a_cell_is_told_from_a_failure(folder, run):
    with pytest.raises(NotebookError, match="did you mean 'kepler'") as caught:
        notebooks.execute("91_refuses", run, progress=False)
    assert caught.value.is_input_error


def test_a_kernel_that_dies_is_an_error(folder, run):
    with pytest.raises(NotebookError, match="the kernel died") as caught:
        notebooks.execute("92_dies", run, progress=False)
    assert caught.value.notebook.exists()


def test_kernels_that_start_together_do_not_meet_at_a_port(folder, run, tmp_path, monkeypatch):
    """Of a port that was free a moment ago, a training of an array died."""
    notebook = notebooks.execute("93_tells_its_kernel", run, progress=False)
    transport, file = cells(notebook)[-1].outputs[0].text.split()
    assert transport == "ipc"
    assert not Path(file).parent.exists()  # nothing is left of it

    long = tmp_path / ("of a long name" * 8)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))  # sockets can't lie in it
    notebook = notebooks.execute("93_tells_its_kernel", run, progress=False)
    assert cells(notebook)[-1].outputs[0].text.startswith("tcp ")
    assert not list(long.iterdir())


def test_a_save_that_fails_within_a_cell_is_told_when_the_cell_ends(folder, run, monkeypatch):
    """An error among the messages of a kernel ended what takes them, and left tasks behind."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(NotebookExecutionManager, "autosave_cell", full)
    notebook = notebooks.execute("20_simulate", run, progress=False)
    assert cells(notebook)[-1].outputs[-1].data["text/plain"] == "2"

    monkeypatch.setattr(NotebookExecutionManager, "save", full)
    with pytest.raises(NotebookError, match=r"can't be written .* No space left"):
        notebooks.execute("20_simulate", run, progress=False)


def test_a_kernel_that_never_answers_is_an_error(folder, run, monkeypatch):
    monkeypatch.setattr(execution, "AT_THE_START", ("__import__('time').sleep(600)",))
    monkeypatch.setattr(execution, "START_SECONDS", 1)
    with pytest.raises(NotebookError, match="did not start in 1 s; is this machine"):
        notebooks.execute("20_simulate", run, progress=False)
    assert provenance.state(run) == "failed"


def test_sync_writes_pairs_that_match_and_carry_outputs(folder):
    names = ["20_simulate", "30_diagnose"]
    assert notebooks.sync(names) == [folder / f"{name}.ipynb" for name in names]
    assert [notebooks.out_of_sync(name) for name in names] == [None, None]

    simulated = folder / "20_simulate.ipynb"
    *_, first, last = cells(simulated)
    assert [output.get("name") for output in first.outputs] == ["stdout"]
    overrides = notebooks.SMOKE_OVERRIDES["20_simulate"]
    assert last.outputs[0].text == f"smoke {overrides} True\n"
    assert [cell.execution_count for cell in cells(simulated)] == [1, 2, 3]
    assert "injected-parameters" not in simulated.read_text(encoding="utf-8")
    assert "papermill" not in simulated.read_text(encoding="utf-8")
    assert cells(folder / "30_diagnose.ipynb")[-1].outputs[0].data["text/plain"] == "True"


def test_sync_takes_the_smoke_preset_of_a_notebook_that_has_its_own(folder):
    (written,) = notebooks.sync(["50_benchmark"])
    assert cells(written)[-1].outputs[0].text == "benchmark_smoke []\n"
    assert set(notebooks.SMOKE_PRESETS) <= set(REAL)
    assert set(notebooks.SMOKE_PRESETS.values()) <= set(preset_names())


@pytest.mark.parametrize(
    ("output", "kept"),
    [
        ({"name": "stderr", "text": "50%"}, False),
        ({"name": "stdout", "text": "done"}, True),
        ({"data": {notebooks.WIDGET: {}, "text/plain": "Explorer(…)"}}, False),
        ({"data": {"image/png": "…"}}, True),
    ],
)
def test_a_pair_keeps_what_can_be_read_without_a_kernel(output, kept):
    assert notebooks._is_for_readers(output) is kept


def test_sync_needs_a_run_for_a_notebook_that_reads_one(folder):
    with pytest.raises(InputError, match="30_diagnose reads a run"):
        notebooks.sync(["30_diagnose"])


@pytest.fixture
def pair(folder):
    """The two files of a notebook in sync, without having run it."""
    source = folder / "30_diagnose.py"
    notebook = jupytext.read(source)
    paired = source.with_suffix(".ipynb")
    nbformat.write(notebook, paired)
    return source, paired


def test_a_pair_without_ipynb_is_out_of_sync(folder):
    assert "30_diagnose.ipynb is missing" in (notebooks.out_of_sync("30_diagnose") or "")


def test_a_pair_is_out_of_sync_when_the_source_is_edited(pair):
    source, _ = pair
    assert notebooks.out_of_sync("30_diagnose") is None
    text = source.read_text(encoding="utf-8")
    source.write_text(text.replace("Run.open(run_dir)", "Run.open(run)"), encoding="utf-8")
    assert "cell 3 of 30_diagnose differs" in (notebooks.out_of_sync("30_diagnose") or "")


@pytest.mark.parametrize("where", ["source", "tags", "more"])
def test_a_pair_is_out_of_sync_when_the_notebook_is_edited(pair, where):
    _, paired = pair
    content = json.loads(paired.read_text(encoding="utf-8"))
    if where == "source":
        content["cells"][1]["source"] = "run_dir = 'elsewhere'"
    elif where == "tags":
        content["cells"][1]["metadata"]["tags"] = []
    else:
        content["cells"].append({**content["cells"][2], "id": "another"})
    paired.write_text(json.dumps(content), encoding="utf-8")
    assert notebooks.out_of_sync("30_diagnose") is not None
