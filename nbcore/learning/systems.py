"""What training starts from: systems, the states along their orbits, and tolerances."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nbcore.config import FamilyConfig, ScenarioConfig, Training
from nbcore.errors import InputError
from nbcore.physics import gravity, scenarios
from nbcore.physics.arrays import PerSystem
from nbcore.physics.seeds import stream
from nbcore.physics.state import State
from nbcore.simulation.ends import Ends, run_to_end
from nbcore.simulation.setup import initial_state
from nbcore.simulation.simulate import simulate
from nbcore.stepping.policies import LearnedPolicy

__all__ = ["Problem", "draw_tolerances", "enough", "run_of", "training_problems", "visited_states"]

LEAST_SYSTEMS = 4
LEAST_TO_SPLIT = 8  # systems of a file
# A binary that hardens in a chaotic system would fill the memory with one and the same orbit.
MOST_STEPS = 20_000


@dataclass(frozen=True, eq=False)
class Problem:
    """Systems of one shape, and when their runs end.

    Attributes
    ----------
    state
        Initial state, a batch.
    t_end
        (B,) [T].
    """

    state: State
    t_end: PerSystem

    def to(self, device: str) -> Problem:
        """The same on a device."""
        return Problem(self.state.to(device), self.t_end.to(device))

    def select(self, index: Any) -> Problem:
        """Some of the systems."""
        return Problem(self.state.select(index), self.t_end[index])


def training_problems(config: Training, split: str = "train") -> list[Problem]:
    """Systems of all families, those of the same shape together.

    Parameters
    ----------
    split
        "train", or "calibration" and "held_out" for others of the same kind: scenarios draw them
        with other random numbers than any seed gives, and of a file with eight systems or more the
        last quarter is held out. Where there are no others to hold out, a warning says so and the
        same are taken.

    Raises
    ------
    InputError
        A scenario can't be used, or none of its systems is bound.
    """
    if not config.families:
        scenario = config.scenario
        state = _systems(scenario, split)
        return [_bound(Problem(state, state.time + config.orbit_time), scenario.source)]
    found = [_bound(_problem(family, split), family.source) for family in config.families]
    alike: dict[tuple, list[Problem]] = {}
    for each in found:
        key = (*each.state.position.shape[1:], each.state.G, each.state.softening)
        alike.setdefault(key, []).append(each)
    return [_together(each) for each in alike.values()]


def _systems(scenario: ScenarioConfig, split: str) -> State:
    if PurePath(scenario.source).suffix:
        state = initial_state(scenario).replace(batched=True)
        if state.n_systems >= LEAST_TO_SPLIT:
            index, last = torch.arange(state.n_systems), state.n_systems // 4
            state = state.select(index[-last:] if split == "held_out" else index[:-last])
        else:
            _warn_if_held_out(split, scenario)
        return state.to("cpu")
    parameters = dict(scenario.parameters)
    if scenarios.takes_seed(scenario.source):
        parameters["seed"] = stream(parameters.get("seed", 0), split)
    else:
        _warn_if_held_out(split, scenario)
    state = initial_state(scenario.model_copy(update={"parameters": parameters}))
    return state.replace(batched=True).to("cpu")


def _warn_if_held_out(split: str, scenario: ScenarioConfig) -> None:
    if split == "held_out":
        warnings.warn(
            f"{scenario.source!r} has no other systems to hold out (a scenario with a seed, or a "
            f"file with {LEAST_TO_SPLIT} or more, has); those of the training are taken",
            RuntimeWarning,
            stacklevel=4,
        )


def _problem(family: FamilyConfig, split: str) -> Problem:
    state = _systems(family, split)
    if family.t_end is not None:
        return Problem(state, state.time + family.t_end)
    assert family.periods is not None
    period = scenarios.two_body_period(state)
    return Problem(state, state.time + family.periods * period)


def _bound(problem: Problem, source: str) -> Problem:
    """Those of the systems that are bound: others fly apart, and teach nothing for long."""
    # None at all is that of massless bodies about a star.
    bound = gravity.energy(problem.state) <= 0
    if not bool(bound.any()):
        raise InputError(
            f"none of the {len(bound)} systems of {source!r} is bound, so they would fly apart; "
            "training needs systems with no positive energy"
        )
    return problem if bool(bound.all()) else problem.select(bound)


def _together(problems: list[Problem]) -> Problem:
    return Problem(
        State.concatenate([each.state for each in problems]),
        torch.cat([each.t_end for each in problems]),
    )


def enough(count: int) -> None:
    """Raise InputError where whole runs of so few systems teach nothing."""
    if count < LEAST_SYSTEMS:
        raise InputError(
            f"the training has {count} systems, and what is learned from so few fits no "
            f"other; give {LEAST_SYSTEMS} or more, such as the same with other phases"
        )


def draw_tolerances(config: Training, like: PerSystem) -> PerSystem:
    """Tolerances uniform in the logarithm over the configured range, (B,)."""
    low, high = (math.log(tolerance) for tolerance in config.tolerances)
    return (low + (high - low) * torch.rand_like(like)).exp()


def run_of(policy: LearnedPolicy, problem: Problem, tolerance: PerSystem, max_steps: int) -> Ends:
    """Run all systems as the policy is meant to be run."""
    spec = policy.spec
    return run_to_end(
        problem.state,
        problem.t_end,
        policy,
        tolerance,
        max_steps,
        spec.integrator,
        spec.stepping,
    )


def visited_states(
    problems: Iterable[Problem], policy: LearnedPolicy, config: Training
) -> list[State]:
    """States along the orbits of all training systems, as often as steps fall there.

    Parameters
    ----------
    policy
        Untrained: it asks the same error of every state.

    Returns
    -------
    A batch for each of the problems.
    """
    return [_visited(problem, policy, config) for problem in problems]


def _visited(problem: Problem, policy: LearnedPolicy, config: Training) -> State:
    systems = problem.state
    with warnings.catch_warnings():
        # A system that ends early is a fit object of training up to there.
        warnings.simplefilter("ignore", RuntimeWarning)
        run = simulate(
            systems,
            problem.t_end,
            policy,
            tolerance=draw_tolerances(config, systems.time),
            max_steps=MOST_STEPS,
        )
    system, record = np.nonzero(np.isfinite(run.time))
    chosen = torch.randperm(len(system))[: config.pool_size].numpy()
    if len(chosen) < 2:
        raise InputError(
            f"the training systems left {len(chosen)} states; give more systems, "
            "or a longer train.orbit_time"
        )
    system, record = system[chosen], record[chosen]

    def take(values: np.ndarray) -> Tensor:
        return torch.as_tensor(values[system, record], device=systems.time.device)

    return systems.select(torch.as_tensor(system)).replace(
        position=take(run.position), velocity=take(run.velocity), time=take(run.time)
    )
