"""The orbit explorer: change a setting, and the run is made again beside the notebook.

It is a `config.Simulation` that widgets edit. Runs are made on a thread, of which the newest
request alone counts: one under way is stopped, and neither the notebook nor a slider waits.
"""

from __future__ import annotations

import dataclasses
import threading
import warnings
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from nbcore.config import Config, ScenarioConfig, Simulation, make_config, save_config
from nbcore.errors import InputError
from nbcore.physics import scenarios
from nbcore.simulation.engine import ROWS_WITH_POINTS
from nbcore.simulation.setup import Setup, setup
from nbcore.simulation.status import Status
from nbcore.views.background import Newest
from nbcore.views.controls import LOOK, Parameters, Steps
from nbcore.views.orbit_view import OrbitView

if TYPE_CHECKING:
    from nbcore.simulation.trajectory import Trajectory

__all__ = ["Explorer", "explore"]

MOST_RECORDED = 20_000_000  # numbers of positions and velocities that a run may record
MOST_STEPS = 100_000
FOLDER = "outputs/explorer"
PATIENCE = 1.0  # seconds
PATIENCE_WORDS = "computing (the engine is compiled once for each kind of run) …"


def explore(
    source: str | Path | None = None,
    *,
    settings: Simulation | None = None,
    versus: str | Path | None = None,
    **parameters: Any,
) -> Explorer:
    """Explorer of a scenario or a file, ready to be shown.

    Parameters
    ----------
    source
        Name of a scenario, or path of a file of initial conditions; figure_eight unless given.
    settings
        A whole configuration to start from instead, such as `nb.load_config("simulate").simulate`;
        without it the shipped policy.
    versus
        A second policy to run the same system with, side by side.
    parameters
        Arguments of the scenario.

    Raises
    ------
    InputError
        Both a source or parameters and settings are given, or one is of a wrong type.

    Examples
    --------
    >>> nb.explore("kepler", eccentricity=0.9, versus="boekholt")
    """
    if settings is not None and (source is not None or parameters):
        raise InputError("settings hold a scenario already; leave source and parameters out")
    if settings is not None and not isinstance(settings, Simulation):
        raise InputError(
            f"settings is of type {type(settings).__name__!r}; give those of a simulation, such as "
            "nb.load_config('simulate').simulate"
        )
    for what, value in (("source", source), ("versus", versus)):
        if not isinstance(value, (str, Path, type(None))):
            raise InputError(
                f"{what} is of type {type(value).__name__!r}; give a name or a path, because the "
                "explorer stores its settings"
            )
    versus = None if versus is None else str(versus)
    if settings is None:
        scenario = ScenarioConfig(source=str(source or "figure_eight"), parameters=parameters)
        settings = Simulation(scenario=scenario, policy="default", tolerance=1e-6, t_end=20.0)
    return Explorer(settings, versus)


class Explorer(widgets.VBox):
    """Settings, orbits, and what the run cost; see `explore`.

    Parameters
    ----------
    settings
        To start from.
    versus
        Second policy, or None.

    Attributes
    ----------
    trajectories
        Of the last run that worked: one, or two where policies are compared.
    view
        The picture.
    """

    def __init__(self, settings: Simulation, versus: str | None = None) -> None:
        self._base = settings
        self.trajectories: list[Trajectory] = []
        self.view = OrbitView()
        self._message = widgets.HTML(layout={"min_height": "2em"})
        self._background = Newest(self._make, self._show, self._excuse)
        self._build(settings, versus)
        super().__init__([widgets.HBox([self._controls, self._picture])])
        self.run()

    def _build(self, settings: Simulation, versus: str | None) -> None:
        self._source = widgets.Combobox(
            value=settings.scenario.source,
            options=scenarios.names(),
            description="system",
            continuous_update=False,
            tooltip="name of a scenario, or path of a file",
            **LOOK,
        )
        self._parameters = Parameters(settings.scenario, self.run)
        self._number = widgets.BoundedIntText(
            value=0, min=0, max=10**6, description="of a batch", **LOOK
        )
        self._end = widgets.FloatText(
            value=settings.periods or settings.t_end,
            description="periods" if settings.periods else "t_end [T]",
            **LOOK,
        )
        self._steps = Steps(settings, self.run)
        other = settings.model_copy(update={"policy": versus or "boekholt"})
        self._other = Steps(other, self.run)
        self._side_by_side = widgets.Checkbox(
            value=versus is not None, description="compare with", indent=False
        )
        self._source.observe(self._change_source, "value")
        for control in (self._number, self._end, self._side_by_side):
            control.observe(lambda _: self.run(), "value")
        self._side_by_side.observe(lambda _: self._lay_out(), "value")
        self._folder = widgets.Text(value=FOLDER, description="save in", **LOOK)
        self._save_run = widgets.Button(description="run", icon="save")
        self._save_settings = widgets.Button(description="settings", icon="save")
        self._save_run.on_click(lambda _: self._saved(self.save_runs))
        self._save_settings.on_click(lambda _: self._saved(self.save_settings))
        self._controls = widgets.VBox(layout={"width": "360px", "flex": "0 0 360px"})
        self._picture = widgets.VBox(
            [self._message, self.view], layout={"flex": "1 1 auto", "min_width": "0"}
        )
        self._lay_out()

    def _lay_out(self) -> None:
        self._controls.children = [
            self._source,
            self._parameters.box,
            *([self._number] if self._parameters.may_be_many else []),
            self._end,
            self._steps.box,
            self._side_by_side,
            *([self._other.box] if self._side_by_side.value else []),
            self._folder,
            widgets.HBox([self._save_run, self._save_settings]),
        ]

    def _change_source(self, change: dict[str, Any]) -> None:
        scenario = ScenarioConfig(source=change["new"])
        self._base = self._base.model_copy(update={"scenario": scenario})
        self._parameters = Parameters(scenario, self.run)
        self._lay_out()
        self.run()

    @property
    def settings(self) -> Simulation:
        """What the controls say, of the first policy.

        Raises
        ------
        InputError
            A value is out of range.
        """
        return self._settings_with(self._steps)

    def _settings_with(self, steps: Steps) -> Simulation:
        scenario = self._base.scenario.model_copy(
            update={"source": self._source.value, "parameters": self._parameters.values()}
        )
        end = "t_end" if self._base.periods is None else "periods"
        table = self._base.model_dump() | {"scenario": scenario.model_dump()}
        return make_config({"simulate": table | steps.values() | {end: self._end.value}}).simulate

    def run(self) -> None:
        """Make the run again, in the background; `wait` waits for it."""
        chosen = [self._steps, *([self._other] if self._side_by_side.value else [])]
        try:
            wanted = [self._settings_with(each) for each in chosen]
        except InputError as error:
            self._background.drop()
            self._excuse(error)
            return
        self._background.submit((wanted, self._number.value))

    def wait(self, seconds: float | None = None) -> None:
        """Wait until the newest request is drawn, or the time is over."""
        self._background.wait(seconds)

    def _make(
        self, wanted: tuple[list[Simulation], int], stop: Callable[[], bool]
    ) -> tuple[list[Trajectory], list[str]]:
        patience = threading.Timer(PATIENCE, self._say, [PATIENCE_WORDS])
        patience.start()
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                found = [run_one(settings, wanted[1], stop) for settings in wanted[0]]
        finally:
            patience.cancel()
        notes = [str(each.message) for each in caught if each.category is RuntimeWarning]
        return found, list(dict.fromkeys(notes))

    def _show(self, made: tuple[list[Trajectory], list[str]]) -> None:
        trajectories, notes = made
        self.view.show(trajectories)
        self.trajectories = trajectories
        self._say("; ".join(filter(None, [*notes, *map(_ending, trajectories)])))

    def _excuse(self, error: Exception) -> None:
        kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
        self._say(f"{kind}{error}")

    def _say(self, words: str) -> None:
        self._message.value = f'<span class="nb-message">{escape(words)}</span>' if words else ""

    def save_runs(self, folder: str | Path | None = None) -> list[Path]:
        """Write the trajectories as run.zarr, and versus.zarr where two are compared."""
        names = ("run.zarr", "versus.zarr")
        pairs = zip(self.trajectories, names, strict=False)
        target = self._target(folder)
        return [each.save(target / name) for each, name in pairs]

    def save_settings(self, folder: str | Path | None = None) -> list[Path]:
        """Write the settings as settings.toml, which `nbcore simulate --config` takes."""
        path = self._target(folder) / "settings.toml"
        save_config(Config(simulate=self.settings), path)
        return [path]

    def _target(self, folder: str | Path | None) -> Path:
        target = Path(folder or self._folder.value)
        try:
            target.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"folder {str(target)!r} can't be made ({error.strerror}); choose another"
            ) from None
        return target

    def _saved(self, save: Callable[[], list[Path]]) -> None:
        try:
            self._say("saved " + ", ".join(map(str, save())))
        except (InputError, OSError) as error:
            self._excuse(error)


def run_one(
    settings: Simulation, number: int = 0, stop: Callable[[], bool] | None = None
) -> Trajectory:
    """Run one system of a configuration, recording every step, within bounds for a picture.

    Raises
    ------
    InputError
        As `setup` and `simulate`, or the batch has no such system.
    """
    ready = _one_of(setup(settings), number)
    numbers = 2 * ready.state.n_bodies * ready.state.n_dimensions
    if {"gbs", "auto"} & {settings.integrator, settings.policy}:
        numbers *= ROWS_WITH_POINTS
    bound = min(settings.max_steps or MOST_STEPS, MOST_RECORDED // numbers)
    engine = "ready" if settings.engine == "auto" else settings.engine
    options = {"max_steps": bound, "engine": engine, "stop": stop}
    return ready.run(record=None, progress=False, **options).system(0)


def _one_of(ready: Setup, number: int) -> Setup:
    count = ready.state.n_systems
    if number >= count:
        raise InputError(f"system {number} of a batch of {count}; choose 0 to {count - 1}")
    one = ready.state.select([number])
    return dataclasses.replace(ready, state=one, t_end=ready.t_end.reshape(-1)[[number]])


def _ending(trajectory: Trajectory) -> str:
    if trajectory.status == Status.SUCCESS:
        return ""
    status = Status(trajectory.status).name
    words = f"{trajectory.policy} stopped at t = {trajectory.time[-1]:.5g}: {status}"
    if trajectory.status == Status.MAX_STEPS:
        words += f" ({trajectory.n_steps:,}); ask for a shorter time or a looser accuracy"
    return words
