"""Running the notebooks headless, and keeping each .py and its .ipynb one notebook.

The .py (percent format) is the source. `python -m nbcore.runs.notebooks [NAME …]` runs the
notebooks at the size of the smoke presets and writes the paired .ipynb with what they show, and
the page that lists them.
"""

from __future__ import annotations

import ast
import re
import sys
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbcore.atomic import replacing
from nbcore.config import Config, load_config
from nbcore.errors import InputError, unknown_name
from nbcore.places import SHIPPED, needs_checkout
from nbcore.runs import execution
from nbcore.runs.gallery import write_gallery
from nbcore.runs.provenance import attempt, seeds_of, state
from nbcore.runs.records import Run
from nbcore.runs.signals import Interrupted, Signals
from nbcore.runs.tracking import mirrored

if TYPE_CHECKING:
    from nbformat import NotebookNode

__all__ = [
    "NotebookError",
    "check_parameters",
    "default_parameters",
    "execute",
    "headline",
    "names",
    "out_of_sync",
    "reads_a_run",
    "sync",
]

NOTEBOOKS = SHIPPED / "notebooks"

WIDGET = "application/vnd.jupyter.widget-view+json"
# What a notebook is run with to be small, where it is not the preset that the others share.
SMOKE_PRESETS = {
    "40_sweep": "sweep_smoke",
    "50_benchmark": "benchmark_smoke",
    "60_orbit_explorer": "explore",
}
# The smoke preset trains first; a notebook that only simulates has no policy of its own.
SMOKE_OVERRIDES = {"20_simulate": ["simulate.policy=boekholt"]}


class NotebookError(RuntimeError):
    """A cell failed, or the kernel died.

    Attributes
    ----------
    notebook
        The executed notebook, up to the failure.
    ename, evalue, traceback
        The exception's name, its message, and its traceback without colours.
    """

    def __init__(self, notebook: Path, ename: str, evalue: str, traceback: str = "") -> None:
        super().__init__(f"{notebook}: {ename}: {evalue}")
        self.notebook = notebook
        self.ename = ename
        self.evalue = evalue
        self.traceback = traceback

    @property
    def is_input_error(self) -> bool:
        """Whether the user's input is what is wrong."""
        return self.ename == InputError.__name__

    @property
    def cell_line(self) -> str:
        """The line of the cell that failed; empty if the kernel did not say."""
        arrow = re.search(r"^-+> *\d+ (.*)$", self.traceback, re.MULTILINE)
        return arrow[1].strip() if arrow else ""


def names() -> list[str]:
    """Notebooks that there are, in the order of work."""
    return sorted(path.stem for path in NOTEBOOKS.glob("*.py"))


def default_parameters(name: str) -> dict[str, Any]:
    """Names and literals in the cell tagged «parameters».

    Parsed here because papermill misses every line that holds a second «=».

    Raises
    ------
    InputError
        There is no such notebook.
    ValueError
        Its parameters are missing, or not literals.
    """
    _check(name)
    text = (NOTEBOOKS / f"{name}.py").read_text(encoding="utf-8")
    # Not by jupytext, whose import costs half a second that a kernel could use to start.
    cells = re.split(r"^# %%", text, flags=re.MULTILINE)
    marked = (cell for cell in cells if re.match(r'.*tags=\[.*"parameters".*\]', cell))
    source = "\n".join(cell.partition("\n")[2] for cell in marked)
    found: dict[str, Any] = {}
    for line in ast.parse(source).body:
        try:
            match line:
                case ast.Assign(targets=[ast.Name(id=key)], value=value):
                    found[key] = ast.literal_eval(value)
                case _:
                    raise ValueError("not an assignment")
        except ValueError:
            text = ast.unparse(line)
            raise ValueError(f"parameters of {name} must be literals, not: {text}") from None
    if "run_dir" not in found:
        raise ValueError(f"notebook {name} must have a cell tagged «parameters» with run_dir")
    return found


def check_parameters(name: str, parameters: Iterable[str]) -> None:
    """Raise InputError for a parameter that the notebook does not have."""
    known = default_parameters(name)
    for key in parameters:
        if key not in known:
            raise unknown_name(f"parameter of {name}", key, known)


def reads_a_run(name: str) -> bool:
    """Whether a notebook looks at a run that exists: it has a run_dir but no preset."""
    return "preset" not in default_parameters(name)


def execute(
    name: str,
    run: Run,
    preset: str | None = None,
    overrides: Iterable[str] | None = None,
    *,
    progress: bool = True,
    parameters: Mapping[str, Any] | None = None,
    command: str | None = None,
    resume: bool = False,
) -> Path:
    """Run a notebook headless, in the caller's working directory.

    A signal (Ctrl-C, SIGTERM, SIGUSR1, SIGUSR2) interrupts the cell that is run. The executed
    notebook is whole at any moment. Where the notebook makes the run, as against looking at one,
    provenance.json says how.

    Parameters
    ----------
    name
        Of a file in notebooks/, without .py.
    run
        Where the executed notebook is written; handed to it as run_dir.
    preset, overrides
        Handed to it as they are; None leaves its own.
    progress
        Show a bar of cells, and what the cells print on stderr, on stderr.
    parameters
        Further parameters.
    command
        What the user typed, for the provenance.
    resume
        Whether a run that is done is to be gone on with, where its end was moved.

    Returns
    -------
    Path of the executed notebook.

    Raises
    ------
    InputError
        The notebook, one of its parameters or the configuration is wrong, or another process works
        on the run; nothing has run.
    NotebookError
        A cell failed; the executed notebook ends there.
    Interrupted
        A signal came; the executed notebook ends there.
    """
    given: dict[str, Any] = {"run_dir": str(run.path), **(parameters or {})}
    if preset is not None:
        given["preset"] = preset
    if overrides is not None:
        given["overrides"] = list(overrides)
    check_parameters(name, given)
    path = run.path / f"{name}.ipynb"
    if reads_a_run(name):
        _run(name, path, given, progress)
        return path
    known = default_parameters(name) | given
    config = load_config(known["preset"], known.get("overrides", []))
    before = state(run)
    with (
        attempt(run, name, given, command, seeds_of(config)) as this,
        mirrored(run, config.tracking, progress=progress),
    ):
        _make_room(run, before, config, resume)
        try:
            _run(name, path, given, progress)
        except Interrupted as error:
            this.end("interrupted", error.exit_code, str(error))
            raise
        except NotebookError as error:
            code = 2 if error.is_input_error else 1
            this.end("failed", code, f"{error.ename}: {error.evalue}")
            raise
    return path


def _make_room(run: Run, before: str, config: Config, resume: bool) -> None:
    """Leave a trajectory where it is for the notebook to go on with, or else keep it beside."""
    old = run.trajectory_file
    if not old.exists():
        return
    from nbcore.simulation.resumption import is_begun

    unfinished = before in ("interrupted", "lost", "failed")
    if is_begun(old) and (unfinished or (resume and _is_longer(run, config))):
        return
    names = (old.with_stem(f"{old.stem}-{number}") for number in count(1))
    kept = old.rename(next(path for path in names if not path.exists()))
    print(f"the trajectory that was there is kept as {kept.name}", file=sys.stderr, flush=True)


def _is_longer(run: Run, config: Config) -> bool:
    """Whether a configuration changes no more of the run's simulation than its end."""

    def fixed(of: Config) -> dict[str, Any]:
        table = of.model_dump(include={"network", "train", "simulate"})
        for key in ("t_end", "periods", "max_steps", "progress"):
            table["simulate"].pop(key)
        table["train"].pop("progress")
        return table

    with suppress(InputError):
        return fixed(run.load_config()) == fixed(config)
    return False


def _run(name: str, path: Path, parameters: dict[str, Any], progress: bool) -> None:
    """Run a notebook to its end, or say in the user's words why it ended before."""
    signals = Signals()
    try:
        signals.run(lambda: execution.run(lambda: _read(name), path, parameters, signals, progress))
    except execution.CellError as error:
        if signals.came and error.ename == KeyboardInterrupt.__name__:
            raise Interrupted(signals.came[0]) from None
        raise NotebookError(path, error.ename, error.evalue, error.traceback) from None
    except execution.KernelDied as error:
        if signals.came:
            raise Interrupted(signals.came[0]) from None
        raise NotebookError(path, "DeadKernelError", str(error)) from None
    except OSError as error:
        if not path.parent.exists():
            message = f"the folder {str(path.parent)!r} was removed while the run went on"
        else:
            message = f"the notebook can't be written to {str(path)!r}: {error.strerror}"
        raise NotebookError(path, type(error).__name__, message) from None


def headline(path: str | Path) -> str:
    """What the cells tagged «headline» of an executed notebook show as text."""
    import nbformat

    cells = nbformat.read(path, as_version=4).cells
    outputs = [output for c in cells if "headline" in _tags(c) for output in c.get("outputs", [])]
    return "\n".join(filter(None, (_text(output).strip("\n") for output in outputs)))


def sync(chosen: Iterable[str] | None = None, *, preset: str = "smoke") -> list[Path]:
    """Run notebooks small and write their paired .ipynb, with outputs.

    Each has a temporary run folder of its own; one that reads a run gets the last one before it
    that holds a trajectory.

    Parameters
    ----------
    chosen
        Names; all notebooks unless given.
    preset
        Preset that they run with, save those with one of their own in SMOKE_PRESETS.
    """
    written = []
    with tempfile.TemporaryDirectory() as folder:
        simulated: Run | None = None
        for name in names() if chosen is None else chosen:
            if reads_a_run(name):
                if simulated is None:
                    raise InputError(f"{name} reads a run; name 20_simulate before it")
                executed = execute(name, simulated)
            else:
                run = Run.create(name, root=folder)
                small = SMOKE_PRESETS.get(name, preset)
                executed = execute(name, run, small, SMOKE_OVERRIDES.get(name, []))
                simulated = run if run.trajectory_file.exists() else simulated
            text = executed.read_text(encoding="utf-8")
            text = text.replace(str(executed.parents[1]), "outputs")
            written.append(_write_pair(name, text))
    return written


def out_of_sync(name: str) -> str | None:
    """How the .py and the .ipynb of a notebook differ in their sources; None if they don't."""
    import nbformat

    remedy = f"run: python -m nbcore.runs.notebooks {name}"
    paired = NOTEBOOKS / f"{name}.ipynb"
    if not paired.exists():
        return f"{paired.name} is missing; {remedy}"
    ours, theirs = _sources(_read(name)), _sources(nbformat.read(paired, as_version=4))
    for index, (our, their) in enumerate(zip(ours, theirs, strict=False), start=1):
        if our != their:
            return f"cell {index} of {name} differs: .py {our}, .ipynb {their}; {remedy}"
    if len(ours) != len(theirs):
        return f"{name}.py has {len(ours)} cells, {paired.name} {len(theirs)}; {remedy}"
    return None


def _check(name: str) -> None:
    if name not in names():
        raise unknown_name("notebook", name, names())


def _read(name: str) -> NotebookNode:
    import jupytext

    _check(name)
    return jupytext.read(NOTEBOOKS / f"{name}.py", fmt="py:percent")


def _tags(cell: NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def _sources(notebook: NotebookNode) -> list[tuple[str, str, list[str]]]:
    return [(c.cell_type, c.source.strip(), list(_tags(c))) for c in notebook.cells]


def _text(output: NotebookNode) -> str:
    if output.output_type == "stream":
        return output.text if output.name == "stdout" else ""
    data = output.get("data", {})
    if any(kind.startswith("image/") for kind in data):
        return ""
    return data.get("text/markdown", data.get("text/plain", ""))


def _is_for_readers(output: NotebookNode) -> bool:
    """Whether an output tells something without its kernel: neither progress nor a live widget."""
    return output.get("name") != "stderr" and WIDGET not in output.get("data", {})


def _write_pair(name: str, executed: str) -> Path:
    """Write the outputs of an executed notebook beside the sources, without what varies by run."""
    import nbformat

    cells = nbformat.reads(executed, as_version=4).cells
    cells = [cell for cell in cells if "injected-parameters" not in _tags(cell)]
    notebook = _read(name)
    number = 0
    for index, (cell, ran) in enumerate(zip(notebook.cells, cells, strict=True)):
        cell.id = f"cell-{index}"
        cell.metadata.pop("lines_to_next_cell", None)
        if cell.cell_type != "code":
            continue
        number += 1
        cell.execution_count = number
        cell.outputs = [output for output in ran.outputs if _is_for_readers(output)]
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = number
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    path = NOTEBOOKS / f"{name}.ipynb"
    with replacing(path) as part:
        nbformat.write(notebook, part)
    return path


if __name__ == "__main__":
    needs_checkout("making the notebooks anew")
    for pair in sync(sys.argv[1:] or None):
        print(pair)
    print(write_gallery(NOTEBOOKS))
