"""Which error comes of which tolerance, measured on systems beside those of the training.

`python -m nbcore.learning.calibration` measures STRETCH of `stepping.policies`: the stretch of
every integrator's untrained policy on the systems that the shipped policies are trained on.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from nbcore.config import Training, load_config
from nbcore.learning.systems import Problem, run_of, training_problems
from nbcore.physics.integrators import INTEGRATORS, Splitting
from nbcore.stepping.calibration import Calibration, calibration_of
from nbcore.stepping.policies import LearnedPolicy, untrained

__all__ = ["calibrate", "stretch_to_tolerance"]

GRID = 10 ** np.arange(-14.0, 0.01, 0.5)
# Factors beyond the tolerances of the training: above one more of the grid; below more, for errors
# of bodies fall more slowly there than what is asked for.
BELOW, ABOVE = 300.0, 3.5
MOST_STEPS = 200_000


def calibrate(policy: LearnedPolicy, config: Training) -> Calibration:
    """Run the policy at a grid of tolerances on new systems of every family.

    Every family has the same weight, however many systems it has for training.
    """
    problems = [_first_systems(each, config) for each in training_problems(config, "calibration")]
    low, high = config.tolerances
    grid = GRID[(low / BELOW <= GRID) & (high * ABOVE >= GRID)]
    policy.calibration = None
    errors, costs = [], []
    for tolerance in grid:
        ends = [
            run_of(policy, each, torch.full_like(each.t_end, float(tolerance)), MOST_STEPS)
            for each in problems
        ]
        errors.append(
            np.concatenate([np.where(each.lost, np.inf, each.max_error) for each in ends])
        )
        costs.append(np.concatenate([each.evaluations for each in ends]))
    return calibration_of(grid, np.array(errors), np.array(costs))


def stretch_to_tolerance(policy: LearnedPolicy, problems: list[Problem], config: Training) -> float:
    """Stretch with which the untrained policy's errors come out as asked for, in the middle."""
    low, high = config.tolerances
    tolerance = math.sqrt(low * high)
    decades = []
    for _ in range(3):
        decades = []
        for each in (_first_systems(problem, config) for problem in problems):
            given = torch.full_like(each.t_end, tolerance)
            ends = run_of(policy, each, given, MOST_STEPS)
            decades.append(np.log10(np.maximum(ends.max_error, 1e-16) / tolerance))
        off = float(np.median(np.concatenate(decades)))
        policy.stretch(10 ** (-off / policy.spec.order))
    return policy.spec.stretch


def _first_systems(problem: Problem, config: Training) -> Problem:
    count = max(2, config.evolution.calibration_systems)
    return problem.select(torch.arange(min(count, problem.state.n_systems)))


def _print_stretches() -> None:
    config = load_config("default_policy").train
    problems = training_problems(config)
    for name, integrator in INTEGRATORS.items():
        if isinstance(integrator, Splitting) and integrator.reversible:
            middle = MIDDLES[integrator.order]
            policy = untrained(name, stepping="reversible")
            at = config.model_copy(update={"tolerances": (middle, middle)})
            print(f"{name:14} {stretch_to_tolerance(policy, problems, at):.2g}")


MIDDLES = {2: 1e-3, 4: 1e-5, 6: 1e-7, 8: 1e-9}  # of the tolerances that an order is at home with

if __name__ == "__main__":
    _print_stretches()
