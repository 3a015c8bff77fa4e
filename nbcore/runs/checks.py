"""What can be known of a run before it is made, so that nothing is made in vain.

`check` is what the commands, `submit` and the members of an array ask; each notebook has its parts
in the table at the end.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from nbcore.config import Config, Movie, Simulation, make_config, with_settings
from nbcore.errors import InputError, unknown_name
from nbcore.runs.records import Run

if TYPE_CHECKING:
    from nbcore.physics.state import State

__all__ = ["check", "check_members"]


class Planned(NamedTuple):
    """What a notebook is about to do.

    Attributes
    ----------
    config
        Its configuration.
    run
        The run that it goes on with or looks at; None for a new one.
    parameters
        Of the notebook.
    """

    config: Config
    run: Run | None
    parameters: Mapping[str, Any]


def check(
    notebook: str,
    config: Config,
    run: Run | None = None,
    parameters: Mapping[str, Any] | None = None,
) -> None:
    """Raise InputError for whatever would fail later, before a folder, a kernel or a job is made.

    Parameters
    ----------
    notebook
        Its name; one that the table does not have is not checked.
    config
        What it runs with.
    run
        Run that it goes on with or looks at, if any.
    parameters
        Others of the notebook.
    """
    part = CHECKS.get(notebook)
    if part is not None:
        part(Planned(config, run, parameters or {}))


def check_members(
    notebook: str, table: dict[str, Any], members: Iterable[Mapping[str, Any]]
) -> None:
    """Check the members of an array, each kind once.

    Parameters
    ----------
    table
        What they share.
    members
        Dotted settings of each.

    Raises
    ------
    InputError
        The first member that would fail, and why.
    """
    seen: set[str] = set()
    for number, settings in enumerate(members):
        try:
            config = make_config(with_settings(table, settings))
            kind = json.dumps(_kind("", settings), default=repr)
            if kind not in seen:
                seen.add(kind)
                check(notebook, config)
        except InputError as error:
            raise InputError(f"member {number} ({dict(settings)}): {error}") from None


# Whatever value these have that a config takes, it fails no check that another value passes.
HARMLESS = ("learning_rate", "tolerance", "eta", "dt", "weight_decay", "momentum", "noise")


def _kind(key: str, value: Any) -> Any:
    """A setting as far as a check depends on it: seeds are alike, and so are learning rates."""
    if isinstance(value, Mapping):
        return {name: _kind(f"{key}.{name}", inner) for name, inner in value.items()}
    last = key.rpartition(".")[2]
    if last == "seed" and isinstance(value, int) and value >= 0:
        return "a seed"
    return "a number" if last in HARMLESS and "parameters" not in key else value


def _training(planned: Planned) -> None:
    from nbcore.learning.training import check_training

    check_training(planned.config, planned.run and planned.run.path)
    _comparison(planned.config)


def _simulation(planned: Planned) -> None:
    trained = planned.run and planned.run.policy()
    state = _checked(planned.config.simulate, [trained] if trained else [])
    _movie(planned.config.movie, state.n_systems, state.n_bodies)


def _both(planned: Planned) -> None:
    from nbcore.learning.training import check_training

    trained = check_training(planned.config, planned.run and planned.run.path)
    _comparison(planned.config)
    if planned.config.train.members:
        trained = _of_suite(planned.config.simulate, trained)
    state = _checked(planned.config.simulate, trained)
    _movie(planned.config.movie, state.n_systems, state.n_bodies)


def _of_suite(config: Simulation, trained: Sequence[Any]) -> Sequence[Any]:
    """Those of the policies that a run could take."""
    if config.integrator in (None, "auto"):
        return trained
    names = [each.spec.integrator for each in trained]
    if config.policy == "trained" and config.integrator not in names:
        raise InputError(
            f"simulate.integrator is {config.integrator!r}, and the policies will be trained for "
            f"{', '.join(names)}; use one of these, or 'auto'"
        )
    return [each for each in trained if each.spec.integrator == config.integrator]


def _checked(config: Simulation, trained: Iterable[Any]) -> State:
    """Prepare a run with each policy that 'trained' may stand for; its initial state."""
    from nbcore.simulation.setup import setup

    trained = list(trained) if config.policy == "trained" else []
    many = len(trained) > 1 and config.integrator == "auto"
    ready = None
    for policy in trained or [None]:
        ready = setup(config, policy)
        if many:  # each is asked as if the suite had chosen it
            ready.options["integrator"] = None
        ready.check()
    assert ready is not None
    return ready.state


def _comparison(config: Config) -> None:
    from nbcore.stepping.criteria import get_criterion

    if not config.compare.criteria:
        raise InputError("compare.criteria names no classical criterion; name one")
    for name in config.compare.criteria:
        get_criterion(name)


def _movie(config: Movie, n_systems: int, n_bodies: int) -> None:
    """Raise InputError for a movie that would fail once the run is made."""
    if config.system >= n_systems:
        raise InputError(
            f"movie.system is {config.system}, and the systems of the run are 0 to "
            f"{n_systems - 1}; choose one of these"
        )
    if isinstance(config.frame, int) and config.frame >= n_bodies:
        raise InputError(
            f"movie.frame is {config.frame}, and the bodies are 0 to {n_bodies - 1}; "
            "choose one, 'inertial' or 'rotating'"
        )
    if config.panels != Movie().panels:
        from nbcore.views.plots import PANELS

        for name in config.panels:
            if name not in PANELS:
                raise unknown_name("panel", name, PANELS)
    if config.codec != Movie().codec:
        from nbcore.views.encoder import checked_codec

        checked_codec(config.codec)


def _sweep(planned: Planned) -> None:
    from nbcore.runs.sweeps import check_sweep

    check_sweep(planned.config)


def _benchmark(planned: Planned) -> None:
    from nbcore.analysis.benchmark import check_benchmark

    _, ours, _, _ = check_benchmark(planned.config.benchmark)
    if all(method.kind != "learned" for method in ours):
        raise InputError(
            "the benchmark runs no learned policy with these integrators; name one in "
            "benchmark.policies: 'untrained', a shipped one, or the path of yours"
        )


def _exploration(planned: Planned) -> None:
    state = _checked(planned.config.simulate, [])
    versus = planned.parameters.get("versus")
    if isinstance(versus, str):
        _checked(planned.config.simulate.model_copy(update={"policy": versus}), [])
    _movie(Movie(), state.n_systems, state.n_bodies)


def _film(planned: Planned) -> None:
    n_systems, n_bodies = _stored(planned.run)
    _movie(planned.config.movie, n_systems, n_bodies)


def _diagnosis(planned: Planned) -> None:
    n_systems, _ = _stored(planned.run)
    system = planned.parameters.get("system", 0)
    if not isinstance(system, int) or not 0 <= system < n_systems:
        raise InputError(
            f"system is {system!r}, and the systems of the run are 0 to {n_systems - 1}; "
            "choose one of these"
        )


def _stored(run: Run | None) -> tuple[int, int]:
    """Systems and bodies of a run's trajectory."""
    from nbcore.simulation.trajectory import Trajectory

    assert run is not None
    if not run.trajectory_file.exists():
        raise InputError(
            f"run {str(run.path)!r} holds no trajectory; make one with nbcore simulate, or choose "
            "another run"
        )
    final = Trajectory.load(run.trajectory_file).final
    return final.n_systems, final.n_bodies


CHECKS: dict[str, Callable[[Planned], None]] = {
    "00_quickstart": _both,
    "10_train": _training,
    "20_simulate": _simulation,
    "30_diagnose": _diagnosis,
    "40_sweep": _sweep,
    "50_benchmark": _benchmark,
    "60_orbit_explorer": _exploration,
    "70_movie": _film,
}
