"""What the commands share: settings to a run, a run to a report, and errors to exit codes."""

from __future__ import annotations

import traceback as tracebacks
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from nbcore.errors import InputError

if TYPE_CHECKING:
    from nbcore.runs.notebooks import NotebookError
    from nbcore.runs.records import Run

__all__ = [
    "advice_of",
    "complain",
    "errors_reported",
    "parse_parameters",
    "resume_notebook",
    "run_notebook",
    "settings_of",
    "short",
    "warn",
]


def settings_of(
    config: str | None, overrides: list[str] | None, preset: str = "quickstart"
) -> dict[str, Any]:
    """Parameters of a notebook from the options of a command."""
    return {"preset": config or preset, "overrides": overrides or []}


def advice_of(preset: str, overrides: list[str]) -> str:
    """Table of the methods for the simulation that a configuration describes."""
    from nbcore.config import load_config
    from nbcore.simulation.setup import setup

    return str(setup(load_config(preset, overrides).simulate).advise())


def resume_notebook(notebook: str, resume: str, settings: list[str] | None, *, quiet: bool) -> None:
    """Go on with a run, by the notebook that made it."""
    from nbcore.runs.provenance import made_by
    from nbcore.runs.records import Run

    run = Run.open(resume)
    if not run.config_file.is_file():
        raise InputError(f"run {str(run.path)!r} has no config.toml to go on with")
    if made_by(run) not in (None, notebook):
        raise InputError(
            f"run {str(run.path)!r} was made by notebook {made_by(run)}, not {notebook}; "
            "resume it with the command that made it"
        )
    parameters = {**settings_of(str(run.config_file), settings), "run_dir": str(run.path)}
    run_notebook(notebook, parameters, None, quiet=quiet, resume=True)


def run_notebook(
    name: str,
    parameters: Mapping[str, Any],
    run_name: str | None,
    *,
    quiet: bool,
    resume: bool = False,
) -> None:
    """Check everything that can be checked, then make or open the folder, then run."""
    from nbcore.config import Config, load_config, preset_comment, preset_names
    from nbcore.runs import notebooks
    from nbcore.runs.checks import check
    from nbcore.runs.provenance import command_line
    from nbcore.runs.records import Run, checked_name

    defaults = notebooks.default_parameters(name)
    notebooks.check_parameters(name, parameters)
    given = {key: value for key, value in parameters.items() if key != "run_dir"}
    if "preset" in given:
        given["preset"] = _absolute(given["preset"])
    known = {**defaults, **given}
    run_dir = parameters.get("run_dir")
    run = None if run_dir is None else Run.open(run_dir)
    if run is not None and run_name is not None:
        raise InputError("--run names a new folder; leave it out where a run_dir is given")
    if run is None and notebooks.reads_a_run(name):
        raise InputError(f"notebook {name} looks at a run; say which: -p run=outputs/NAME")
    if run_name is not None:
        checked_name(run_name)
    config = Config()
    overrides = known.get("overrides") or []
    if "preset" in known:
        config = load_config(known["preset"], overrides)
    elif run is not None and (overrides or run.config_file.is_file()):
        config = load_config(run.config_file, overrides)
    check(name, config, run, known)

    if not quiet and run is None and known.get("preset") in preset_names():
        typer.echo(f"{known['preset']}: {preset_comment(known['preset'])}", err=True)
    if run is None:
        run = Run.create(run_name, label=name.lstrip("0123456789_") or name)

    executed = notebooks.execute(
        name,
        run,
        parameters=given,
        progress=not quiet,
        command=command_line(),
        resume=resume,
    )
    _report(run, executed)


def _absolute(preset: object) -> object:
    """Keep the name of a preset; a file is named so that any working directory finds it."""
    if isinstance(preset, str) and Path(preset).is_file():
        return str(Path(preset).resolve())
    return preset


def parse_parameters(texts: list[str]) -> dict[str, Any]:
    """Parameters from «key=value»; run is short for run_dir."""
    from nbcore.config import parse_value

    parameters = {}
    for text in texts:
        key, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not key:
            raise InputError(f"parameter {text!r} must read key=value, such as run=outputs/NAME")
        key = "run_dir" if key == "run" else key
        parameters[key] = value if key in ("run_dir", "preset") else parse_value(value)
    return parameters


def _report(run: Run, executed: Path) -> None:
    from nbcore.runs.notebooks import headline

    shown = headline(executed)
    if shown:
        typer.echo(f"{shown}\n")
    typer.echo(f"run       {short(run.path)}")
    typer.echo(f"notebook  {short(executed)}")
    figures = sorted((run.path / "figures").glob("*.png"))
    if figures:
        typer.echo(f"figures   {short(figures[0].parent)} ({len(figures)})")
    if run.movie_file.exists():
        typer.echo(f"movie     {short(run.movie_file)}")


def short(path: Path) -> str:
    """A path as seen from the working directory."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


@contextmanager
def errors_reported(traceback: bool) -> Iterator[None]:
    """Turn errors into lines on stderr and exit codes."""
    try:
        yield
    except InputError as error:
        if traceback:
            tracebacks.print_exc()
        complain(error)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        complain("interrupted")
        raise typer.Exit(130) from None
    except RuntimeError as error:
        from nbcore.runs.notebooks import NotebookError
        from nbcore.runs.signals import Interrupted

        if isinstance(error, Interrupted):
            complain(f"{error}; what was done is kept, --resume goes on")
            raise typer.Exit(error.exit_code) from None
        if not isinstance(error, NotebookError):
            raise
        _report_failure(error, traceback)
        raise typer.Exit(2 if error.is_input_error else 1) from None


def _report_failure(error: NotebookError, traceback: bool) -> None:
    if traceback and error.traceback:
        typer.echo(error.traceback, err=True)
    kept = short(error.notebook)
    if error.is_input_error:
        complain(f"{error.evalue} (notebook: {kept})")
        return
    typer.echo(f"error: {error.ename}: {error.evalue}", err=True)
    if error.cell_line:
        typer.echo(f"  in the cell's line: {error.cell_line}", err=True)
    typer.echo(f"  the notebook up to there: {kept}", err=True)


def warn(message: object) -> None:
    """One line on stderr."""
    typer.echo(f"warning: {' '.join(str(message).split())}", err=True)


def complain(message: object) -> None:
    """One line on stderr, of an error."""
    typer.echo(f"error: {' '.join(str(message).split())}", err=True)
