"""The command line: each command runs a notebook headless and leaves a folder in outputs/.

Exit codes: 0 done; 1 a cell failed; 2 the input is wrong, one line on stderr; 128 + the signal's
number if one ended the run, 130 for Ctrl-C.
What is slow to import is imported where it is used, so that --help answers at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from nbcore.errors import InputError
from nbcore.runs.commands import (
    complain,
    errors_reported,
    parse_parameters,
    resume_notebook,
    run_notebook,
    settings_of,
    short,
    warn,
)

__all__ = ["app", "main"]

MOVIE = "70_movie"


class OneLine(TyperGroup):
    """The commands; one that is not understood is answered in a line."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the options before the command."""
        if not args:
            return super().parse_args(ctx, args)  # shows the help
        with _in_one_line():
            return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Find the command, read its options and run it."""
        with _in_one_line():
            return super().invoke(ctx)


@contextmanager
def _in_one_line() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if not hasattr(error, "format_message"):  # of click, which typer may have its own copy of
            raise
        refused: Any = error
        asked = getattr(refused.ctx, "command_path", "nbcore")
        message = refused.format_message().rstrip(".?").replace(". Did you", "; did you")
        complain(f"{message[:1].lower()}{message[1:]}; {_remedy(message)}see {asked} -h")
        raise typer.Exit(2) from None


def _remedy(message: str) -> str:
    """What helps where something is missing."""
    if "'RUN'" in message or "'ARRAY'" in message:
        return "`nbcore runs` lists what there is; "
    if "'NAME'" in message:
        from nbcore.runs.notebooks import names

        return f"one of {', '.join(names())}; "
    return "settings are changed by --set KEY=VALUE; " if "such option" in message else ""


app = typer.Typer(
    cls=OneLine,
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
        "[default: quickstart; of simulate, sweep and benchmark that of the same name]",
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
        with errors_reported(traceback):
            if resume is None:
                run_notebook(notebook, settings_of(config, settings, preset), run, quiet=quiet)
            elif config is not None or run is not None:
                raise InputError(
                    "--resume goes on in the run's own folder, with its own config; "
                    "leave out --config and --run"
                )
            else:
                resume_notebook(notebook, resume, settings, quiet=quiet)

    return command


# command: notebook, preset, what it does
HEADLESS = {
    "train": ("10_train", "quickstart", "Train a policy"),
    "simulate": ("20_simulate", "simulate", "Simulate with a policy"),
    "both": ("00_quickstart", "quickstart", "Train a policy, then simulate with it"),
    "sweep": ("40_sweep", "sweep", "Search for the best settings of a training"),
    "benchmark": ("50_benchmark", "benchmark", "Compare what an accuracy costs with other codes"),
}
for _name, (_notebook, _preset, _help) in HEADLESS.items():
    app.command(_name, help=f"{_help} (notebook {_notebook}).")(_headless(_notebook, _preset))


RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="A run: its path, or its name in outputs/.")
]


@app.command()
def advise(
    config: ConfigOption = None, settings: SetOption = None, traceback: TracebackOption = False
) -> None:
    """Say which methods can make a simulation, how long they take, and how far they are off."""
    with errors_reported(traceback):
        from nbcore.runs.commands import advice_of

        typer.echo(advice_of(**settings_of(config, settings, "simulate")))


@app.command()
def movie(
    run: RunArgument,
    settings: SetOption = None,
    traceback: TracebackOption = False,
    quiet: QuietOption = False,
) -> None:
    """Make a movie of a run that was simulated (notebook 70_movie)."""
    with errors_reported(traceback):
        parameters = {"run_dir": run, "overrides": settings or []}
        run_notebook(MOVIE, parameters, None, quiet=quiet)


@app.command()
def notebook(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name in notebooks/, such as 30_diagnose.")
    ],
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
    with errors_reported(traceback):
        run_notebook(name, parse_parameters(parameters or []), run, quiet=quiet)


@app.command()
def runs(
    folder: Annotated[
        str | None, typer.Argument(help="Folder of runs. [default: outputs/]")
    ] = None,
) -> None:
    """List the runs there are: how they stand, how old they are, and what came out."""
    with errors_reported(False):
        from nbcore.runs.listing import as_text, listed

        typer.echo(as_text(listed(folder)))


@app.command()
def rerun(
    run: RunArgument,
    new: RunOption = None,
    traceback: TracebackOption = False,
    quiet: QuietOption = False,
) -> None:
    """Repeat a run in a new folder, with the configuration that it was made with."""
    with errors_reported(traceback):
        from nbcore import surroundings
        from nbcore.runs.provenance import provenance
        from nbcore.runs.records import Run

        old = Run.open(run)
        origin = provenance(old)
        if origin["notebook"] is None:
            raise InputError(
                f"run {str(old.path)!r} was begun by hand in a notebook; repeat it with the "
                f"command of that notebook and --config {short(old.config_file)}"
            )
        if (now := surroundings.code()) != origin["code"]:
            warn(f"the code is another than the run was made with: {origin['code']}, now {now}")
        if not old.config_file.is_file():
            raise InputError(f"run {str(old.path)!r} has no config.toml to be repeated with")
        parameters = settings_of(str(old.config_file), None)
        run_notebook(origin["notebook"], parameters, new, quiet=quiet)


ArrayArgument = Annotated[
    str, typer.Argument(metavar="ARRAY", help="An array: its path, or its name in outputs/.")
]


@app.command()
def submit(
    command: Annotated[
        str | None, typer.Argument(help="What each member does: train, simulate, both, …")
    ] = None,
    config: ConfigOption = None,
    settings: SetOption = None,
    over: Annotated[
        list[str] | None,
        typer.Option(
            "--over",
            "-o",
            metavar="KEY=VALUES",
            help="A member for each value: train.seed=0:8, train.learning_rate=1e-3,1e-4. "
            "Several are crossed.",
        ),
    ] = None,
    table: Annotated[
        str | None,
        typer.Option(
            "--table", metavar="FILE.csv", help="A member for each row; a column for each key."
        ),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option("--cluster", help="slurm, or local; short for --set cluster.executor=…"),
    ] = None,
    run: RunOption = None,
    resume: Annotated[
        str | None,
        typer.Option(
            "--resume", metavar="ARRAY", help="Send what has not ended, or failed, once more."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the batch script; send nothing.")
    ] = False,
    traceback: TracebackOption = False,
) -> None:
    """Send runs to SLURM, or to processes on this machine; one folder holds them all."""
    with errors_reported(traceback):
        from nbcore.runs import arrays, members

        if resume is not None:
            array = arrays.opened(resume)
            cluster_jobs = arrays.again(array)
        else:
            chosen = [*(settings or []), *([f"cluster.executor={cluster}"] if cluster else [])]
            chosen_members = members.members_of(over or [], table)
            command = arrays.known_command(command, HEADLESS)
            notebook, preset, _ = HEADLESS[command]
            given = settings_of(config, chosen, preset)
            if dry_run:
                name = run or command
                typer.echo(arrays.script(notebook, members=chosen_members, name=name, **given))
                return
            array = arrays.submit(command, notebook, members=chosen_members, name=run, **given)
            cluster_jobs = array.n_jobs
        where = "SLURM" if array.index["executor"] == "slurm" else "this machine"
        name = short(array.run.path)
        typer.echo(f"array     {name}")
        typer.echo(f"members   {len(array.members)} in {cluster_jobs} jobs on {where}")
        typer.echo(f"then      nbcore status {name}   (or logs, cancel, collect)")


@app.command()
def status(array: ArrayArgument, every: Annotated[bool, typer.Option("--all")] = False) -> None:
    """How the members of an array stand."""
    with errors_reported(False):
        from nbcore.runs import arrays, reports

        typer.echo(reports.standing(arrays.opened(array), every=every))


@app.command()
def logs(
    array: ArrayArgument,
    member: Annotated[
        int | None, typer.Argument(help="Its number; without one, those that failed.")
    ] = None,
    lines: Annotated[int, typer.Option("--lines", "-n", help="Last lines of each file.")] = 20,
) -> None:
    """What the jobs of an array printed."""
    with errors_reported(False):
        from nbcore.runs import arrays, reports

        typer.echo(reports.printed(arrays.opened(array), member, lines))


@app.command()
def cancel(array: ArrayArgument) -> None:
    """Stop the jobs of an array; what is done is kept, and `submit --resume` goes on."""
    with errors_reported(False):
        from nbcore.runs import arrays

        arrays.stop(arrays.opened(array))


@app.command()
def collect(array: ArrayArgument) -> None:
    """Gather the members of an array into one table (CSV), and name those that failed."""
    with errors_reported(False):
        from nbcore.runs import arrays, reports

        typer.echo(reports.collected(arrays.opened(array)))


@app.command()
def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Drop it; it is compiled again.")] = False,
    warm: Annotated[
        bool,
        typer.Option(
            "--warm",
            help="Compile ahead, on all cores, what the shipped policies take for 2 to 8 and 16 "
            "bodies.",
        ),
    ] = False,
) -> None:
    """List the compiled code that is kept, and what it takes; or drop it, or make it ahead."""
    from nbcore.simulation.compiled_engine import CACHE

    if clear and warm:
        complain("--clear drops what --warm makes; give one of them")
        raise typer.Exit(2)
    if warm:
        from nbcore.runs import warming

        try:
            warmed = warming.warm(typer.echo)
        except KeyboardInterrupt:
            complain("stopped; what is done is kept, and `nbcore cache --warm` goes on")
            raise typer.Exit(130) from None
        raise typer.Exit(0 if warmed else 1)
    used = CACHE.usage()
    what = (
        f"{used.kernels} compiled loops, {used.megabytes:.1f} MB; "
        f"of other versions {used.others} folders, {used.other_megabytes:.1f} MB"
    )
    if clear:
        CACHE.clear()
        typer.echo(f"dropped from {CACHE.root}: {what}")
    else:
        from nbcore.simulation.loops_at_hand import kept_loops

        typer.echo("\n".join([str(CACHE.folder), what, *kept_loops()]))


@app.command()
def presets() -> None:
    """List the presets in configs/, with the comment that each begins with."""
    from nbcore import config

    for name in config.preset_names():
        typer.echo(f"{name:<14} {config.preset_comment(name)}".rstrip())


if __name__ == "__main__":
    main()
