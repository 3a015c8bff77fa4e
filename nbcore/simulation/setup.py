"""From the configuration to a run: initial state, policy, end, and what to record."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np

from nbcore.config import ScenarioConfig, Simulation
from nbcore.errors import InputError
from nbcore.physics import scenarios
from nbcore.physics.arrays import PerSystem
from nbcore.physics.fields import TidalField
from nbcore.physics.state import State
from nbcore.simulation.advice import METHODS, OF_METHODS, Advice, advise
from nbcore.simulation.inputs import AUTO, DEFAULT_POLICY, named_policy
from nbcore.simulation.simulate import check, simulate
from nbcore.simulation.trajectory import Trajectory
from nbcore.stepping.checkpoints import training_systems
from nbcore.stepping.policies import Policy
from nbcore.stepping.suites import Suite

__all__ = ["Setup", "initial_state", "setup"]

OWN_STEPS = ("gbs", "wisdom_holman")  # integrators that choose steps where no policy is named


@dataclass(frozen=True, eq=False)
class Setup:
    """A run, ready to go.

    Attributes
    ----------
    state
        Initial state.
    t_end
        (B,) [T].
    policy
        What chooses the steps; "auto" leaves it to the run.
    options
        The other arguments of `simulate`.
    """

    state: State
    t_end: PerSystem
    policy: Policy | Suite | str
    options: dict[str, Any]

    def run(self, **changes: Any) -> Trajectory:
        """Simulate; keyword arguments replace those of the setup (see `simulate`)."""
        return simulate(self.state, self.t_end, self.policy, **{**self.options, **changes})

    def check(self) -> None:
        """Raise InputError where `run` would refuse to; nothing is compiled or run."""
        check(self.state, self.t_end, self.policy, **self.options)

    def advise(self) -> Advice:
        """Say what this run takes and what other methods would; see `simulation.advice.advise`."""
        own = {
            name: self.options[name] for name in OF_METHODS if self.options.get(name) is not None
        }
        left = (*OF_METHODS, "progress")
        options = {name: value for name, value in self.options.items() if name not in left}
        methods = (*METHODS, {"policy": self.policy, **own})
        return advise(self.state, self.t_end, methods=methods, **options)

    def with_policy(self, policy: Policy | Suite) -> Setup:
        """Make the same run with another choice of steps."""
        return dataclasses.replace(self, policy=policy)


def setup(config: Simulation, trained: Policy | Suite | None = None) -> Setup:
    """Prepare the run that a configuration describes.

    Parameters
    ----------
    trained
        The policy that `policy = "trained"` stands for.

    Raises
    ------
    InputError
        A scenario, parameter, file, policy or name can't be used.
    """
    if config.scenario.source == "checkpoint":
        if config.scenario != ScenarioConfig(source="checkpoint"):
            raise InputError(
                "the source 'checkpoint' brings everything with it; "
                "leave scenario.parameters, G, softening and field out"
            )
        state = training_systems(config.policy)
    else:
        state = initial_state(config.scenario)
    t_end = state.time
    if config.t_end is not None:
        t_end = t_end + config.t_end
    if config.periods is not None:
        t_end = t_end + config.periods * _periods(state)
    return Setup(
        state=state,
        t_end=t_end,
        policy=_policy(config, trained),
        options={
            "integrator": config.integrator,
            "tolerance": config.tolerance,
            "stepping": config.stepping,
            "clock": config.clock,
            "guard": config.guard,
            "keep": config.keep,
            "engine": config.engine,
            "record": _record(config, state, t_end),
            "max_steps": config.max_steps,
            "collision_distance": config.collision_distance,
            "escape_distance": config.escape_distance,
            "progress": config.progress,
        },
    )


def _periods(state: State) -> PerSystem:
    try:
        return scenarios.two_body_period(state)
    except InputError as error:
        raise InputError(
            f"simulate.periods: {error} (simulate.t_end=…, with simulate.periods=none)"
        ) from None


def initial_state(scenario: ScenarioConfig) -> State:
    """State of a scenario or a file.

    Raises
    ------
    InputError
        The scenario, a parameter or the file can't be used.
    """
    field = None
    if scenario.field is not None:
        field = TidalField(**scenario.field.model_dump())
    given = {"G": scenario.G, "softening": scenario.softening, "field": field}
    units = {name: value for name, value in given.items() if value is not None}
    for name in scenario.parameters:
        if name in given:
            raise InputError(
                f"{name!r} stands among the scenario's parameters; it belongs beside source"
            )
    if not PurePath(scenario.source).suffix:
        return scenarios.make(scenario.source, **units, **scenario.parameters)
    if scenario.parameters:
        raise InputError(
            f"a file takes no parameters, and {scenario.source!r} was given "
            f"{', '.join(scenario.parameters)}; remove them"
        )
    return scenarios.load(scenario.source, **units)


def _policy(config: Simulation, trained: Policy | Suite | None) -> Policy | Suite | str:
    if config.policy == AUTO:
        return AUTO
    if config.policy == DEFAULT_POLICY and config.integrator in OWN_STEPS:
        return DEFAULT_POLICY
    if config.policy == "trained":
        if trained is None:
            raise InputError(
                "simulate.policy is 'trained' and nothing was trained in this run; name 'default', "
                "the folder of a training, or a criterion, or train first with `nbcore both`"
            )
        return trained
    return named_policy(
        config.policy,
        eta=config.eta,
        dt=config.dt,
        integrator=config.integrator,
        setting="simulate.policy",
        others=("trained", AUTO),
    )


def _record(config: Simulation, state: State, t_end: PerSystem) -> Any:
    if config.record_times:
        return np.linspace(float(state.time.max()), float(t_end.min()), config.record_times + 1)
    return "ends" if config.record_every == 0 else config.record_every
