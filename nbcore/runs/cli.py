"""The command line: each command runs a notebook headless and leaves a folder in outputs/.

Exit codes: 0 done; 1 a cell failed; 2 the input is wrong, one line on stderr; 128 + the signal's
number if one ended the run, 130 for Ctrl-C.
What is slow to import is imported where it is used, so that --help answers at once.
"""

from __future__ import annotations

import traceback as tracebacks
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nbcore.errors import InputError

if TYPE_CHECKING:
    from nbcore.runs.notebooks import NotebookError
    from nbcore.runs.records import Run

__all__ = ["app", "main"]

MOVIE = "70_movie"

app = typer.Typer(
    help="Learned adaptive time steps for gravitational N-body runs.",
    epilog="Each run lands in a folder of its own in outputs/.",
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ConfigOption = Annotated[
    str | None,
    typer.Option(
        "--config",
        "-c",
        help="Preset in configs/, or path of a TOML file. "
        "[default: quickstart, of a benchmark: benchmark]",
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", metavar="KEY=VALUE", help="Change one setting; repeatable."),
]
RunOption = Annotated[
    str | None, typer.Option("--run", metavar="NAME", help="Name of the new folder in outputs/.")
]
ResumeOption = Annotated[
    str | None,
    typer.Option(
        "--resume",
        metavar="RUN",
        help="Go on with a run that was stopped: its path, or its name in outputs/.",
    ),
]
TracebackOption = Annotated[
    bool, typer.Option("--traceback", help="Show where an error comes from.")
]
QuietOption = Annotated[
    bool, typer.Option("--quiet", "-q", help="No progress; only the result and errors.")
]


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line; raises SystemExit with the exit code."""
    app(args=None if argv is None else list(argv), prog_name="nbcore")


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"nbcore {version('aitimestepper')}")
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None: ...


def _headless(notebook: str, preset: str) -> Callable[..., None]:
    """Command that runs a notebook with a configuration."""

    def command(
        config: ConfigOption = None,
        settings: SetOption = None,
        run: RunOption = None,
        resume: ResumeOption = None,
        traceback: TracebackOption = False,
        quiet: QuietOption = False,
    ) -> None:
        with _errors_reported(traceback):
            if resume is None:
                _run_notebook(notebook, _settings(config, settings, preset), run, quiet=quiet)
            elif config is not None or run is not None:
                raise InputError(
                    "--resume goes on in the run's own folder, with its own config; "
                    "leave out --config and --run"
                )
            else:
                _resume(notebook, resume, settings, quiet=quiet)

    return command


for _name, _notebook, _preset, _help in (
    ("train", "10_train", "quickstart", "Train a policy"),
    ("simulate", "20_simulate", "quickstart", "Simulate with a policy"),
    ("both", "00_quickstart", "quickstart", "Train a policy, then simulate with it"),
    ("benchmark", "50_benchmark", "benchmark", "Compare what an accuracy costs with other codes"),
):
    app.command(_name, help=f"{_help} (notebook {_notebook}).")(_headless(_notebook, _preset))


@app.command()
def movie(
    run: Annotated[str, typer.Argument(help="A run: its path, or its name in outputs/.")],
    settings: SetOption = None,
    traceback: TracebackOption = False,
    quiet: QuietOption = False,
) -> None:
    """Make a movie of a run that was simulated (notebook 70_movie)."""
    with _errors_reported(traceback):
        parameters = {"run_dir": run, "overrides": settings or []}
        _run_notebook(MOVIE, parameters, None, quiet=quiet)


@app.command()
def notebook(
    name: Annotated[str, typer.Argument(help="Name in notebooks/, such as 30_diagnose.")],
    parameters: Annotated[
        list[str] | None,
        typer.Option(
            "-p",
            metavar="KEY=VALUE",
            help="A parameter of the notebook; repeatable. run=… is short for run_dir=….",
        ),
    ] = None,
    run: RunOption = None,
    traceback: TracebackOption = False,
    quiet: QuietOption = False,
) -> None:
    """Run any notebook, in a new folder or in that of the run it is given."""
    with _errors_reported(traceback):
        _run_notebook(name, _parse_parameters(parameters or []), run, quiet=quiet)


@app.command()
def runs(
    folder: Annotated[
        str | None, typer.Argument(help="Folder of runs. [default: the project's outputs/]")
    ] = None,
) -> None:
    """List the runs there are: how they stand, how old they are, and what came out."""
    with _errors_reported(False):
        from nbcore.runs.listing import as_text, listed

        typer.echo(as_text(listed(folder)))


@app.command()
def rerun(
    run: Annotated[str, typer.Argument(help="A run: its path, or its name in outputs/.")],
    new: RunOption = None,
    traceback: TracebackOption = False,
    quiet: QuietOption = False,
) -> None:
    """Repeat a run in a new folder, with the configuration that it was made with."""
    with _errors_reported(traceback):
        from nbcore.runs.provenance import code_of, provenance
        from nbcore.runs.records import Run

        old = Run.open(run)
        origin = provenance(old)
        if (now := code_of()) != origin["code"]:
            _warn(f"the code is another than the run was made with: {origin['code']}, now {now}")
        parameters = _settings(str(old.config_file), None)
        _run_notebook(origin["notebook"], parameters, new, quiet=quiet)


@app.command()
def presets() -> None:
    """List the presets in configs/, with the comment that each begins with."""
    from nbcore import config

    for name in config.preset_names():
        first, *_ = (config.PRESETS / f"{name}.toml").read_text(encoding="utf-8").split("\n")
        comment = first.lstrip("# ") if first.startswith("#") else ""
        typer.echo(f"{name:<14} {comment}".rstrip())


def _settings(
    config: str | None, overrides: list[str] | None, preset: str = "quickstart"
) -> dict[str, Any]:
    return {"preset": config or preset, "overrides": overrides or []}


def _resume(notebook: str, resume: str, settings: list[str] | None, *, quiet: bool) -> None:
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
    parameters = {**_settings(str(run.config_file), settings), "run_dir": str(run.path)}
    _run_notebook(notebook, parameters, None, quiet=quiet)


def _run_notebook(
    name: str,
    parameters: Mapping[str, Any],
    run_name: str | None,
    *,
    quiet: bool,
) -> None:
    """Check everything that can be checked, then make or open the folder, then run."""
    from nbcore.config import load_config
    from nbcore.runs import notebooks
    from nbcore.runs.provenance import command_line
    from nbcore.runs.records import Run

    defaults = notebooks.default_parameters(name)
    notebooks.check_parameters(name, parameters)
    given = {key: value for key, value in parameters.items() if key != "run_dir"}
    if "preset" in given:
        given["preset"] = _absolute(given["preset"])
    known = {**defaults, **given}
    run_dir = parameters.get("run_dir")
    if "preset" in known:
        load_config(known["preset"], known.get("overrides", []))
    elif run_dir is not None and known.get("overrides"):
        load_config(Run.open(run_dir).config_file, known["overrides"])

    if run_dir is not None:
        if run_name is not None:
            raise InputError("--run names a new folder; leave it out where a run_dir is given")
        run = Run.open(run_dir)
    elif notebooks.reads_a_run(name):
        raise InputError(f"notebook {name} looks at a run; say which: -p run=outputs/NAME")
    else:
        run = Run.create(run_name, label=name.lstrip("0123456789_") or name)

    executed = notebooks.execute(
        name, run, parameters=given, progress=not quiet, command=command_line()
    )
    _report(run, executed)


def _absolute(preset: object) -> object:
    """Keep the name of a preset; a file is named so that any working directory finds it."""
    if isinstance(preset, str) and Path(preset).is_file():
        return str(Path(preset).resolve())
    return preset


def _parse_parameters(texts: list[str]) -> dict[str, Any]:
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
    typer.echo(f"run       {_short(run.path)}")
    typer.echo(f"notebook  {_short(executed)}")
    figures = sorted((run.path / "figures").glob("*.png"))
    if figures:
        typer.echo(f"figures   {_short(figures[0].parent)} ({len(figures)})")
    if run.movie_file.exists():
        typer.echo(f"movie     {_short(run.movie_file)}")


def _short(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


@contextmanager
def _errors_reported(traceback: bool) -> Iterator[None]:
    """Turn errors into lines on stderr and exit codes."""
    try:
        yield
    except InputError as error:
        if traceback:
            tracebacks.print_exc()
        _complain(error)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        _complain("interrupted")
        raise typer.Exit(130) from None
    except RuntimeError as error:
        from nbcore.runs.notebooks import NotebookError
        from nbcore.runs.signals import Interrupted

        if isinstance(error, Interrupted):
            _complain(f"{error}; what was done is kept, --resume goes on")
            raise typer.Exit(error.exit_code) from None
        if not isinstance(error, NotebookError):
            raise
        _report_failure(error, traceback)
        raise typer.Exit(2 if error.is_input_error else 1) from None


def _report_failure(error: NotebookError, traceback: bool) -> None:
    if traceback and error.traceback:
        typer.echo(error.traceback, err=True)
    kept = _short(error.notebook)
    if error.is_input_error:
        _complain(f"{error.evalue} (notebook: {kept})")
        return
    typer.echo(f"error: {error.ename}: {error.evalue}", err=True)
    if error.cell_line:
        typer.echo(f"  in the cell's line: {error.cell_line}", err=True)
    typer.echo(f"  the notebook up to there: {kept}", err=True)


def _warn(message: object) -> None:
    typer.echo(f"warning: {' '.join(str(message).split())}", err=True)


def _complain(message: object) -> None:
    typer.echo(f"error: {' '.join(str(message).split())}", err=True)


if __name__ == "__main__":
    main()
