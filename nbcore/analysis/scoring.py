"""How good a learned policy is: its cost beside the best classical rule's, and its calibration."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from nbcore.analysis.frontiers import cost_of
from nbcore.config import Training
from nbcore.learning.systems import Problem, training_problems
from nbcore.physics.arrays import to_numpy
from nbcore.simulation.ends import run_to_end
from nbcore.stepping.policies import Criterion, LearnedPolicy, Policy

__all__ = ["Judge", "Score"]

SETTINGS = 10
MOST_STEPS = 50_000
RULES = ("boekholt", "free_fall", "huayno", "zemp", "tidal")
STEPPINGS = ("plain", "reversible")


class Score(NamedTuple):
    """A policy on held-out systems.

    Attributes
    ----------
    ratios
        Force evaluations over those of the best classical rule at each level of error, the
        geometric mean over the shapes of systems; NaN where an error is not reached.
    spread
        Decades between the 10th and the 90th percentile of the maximum error at one tolerance.
    calibration
        Decades from that tolerance to the maximum error, root mean square.
    weights
        Number of weights.
    """

    ratios: tuple[float, ...]
    spread: float
    calibration: float
    weights: int


class Judge:
    """Scores policies on systems like those of a training, which it did not see.

    The classical rules are run once, when the judge is made.

    Parameters
    ----------
    training
        Whose held-out systems and integrator are taken.
    levels
        Maximum errors at which costs are compared.
    asked
        Tolerance at which the errors are looked at.
    systems
        Of each shape.
    """

    def __init__(
        self, training: Training, levels: Sequence[float], asked: float, systems: int
    ) -> None:
        self.integrator, self.levels, self.asked = training.integrator, tuple(levels), asked
        held_out = training_problems(training, "held_out")
        self.problems = [_spread_systems(each, systems) for each in held_out]
        self.best = [[self._best_rule(each, level) for level in levels] for each in self.problems]

    def __call__(self, policy: LearnedPolicy) -> Score:
        """Score a policy that was trained for the judge's integrator."""
        tolerances = np.geomspace(1e-8, 1e-2, SETTINGS)
        asked = [(policy, float(tolerance)) for tolerance in tolerances]
        stepping = policy.spec.stepping
        reached = [
            [self._cost(each, asked, stepping, level) for level in self.levels]
            for each in self.problems
        ]
        runs = (self._run(each, policy, self.asked, stepping)[0] for each in self.problems)
        errors = np.concatenate(list(runs))
        low, high = np.quantile(errors, (0.1, 0.9), method="inverted_cdf")
        means = np.exp(np.mean(np.log(np.divide(reached, self.best)), axis=0))
        decades = np.log10(np.maximum(errors, 1e-16) / self.asked)
        return Score(
            tuple(map(float, means)),
            float(np.log10(high / low)),
            float(np.sqrt(np.mean(decades**2))),
            sum(to_numpy(x).size for x in (*policy.network.weights, *policy.network.biases)),
        )

    def _best_rule(self, problem: Problem, level: float) -> float:
        """Least median cost of an error, of all criteria and both ways to step."""
        etas = np.geomspace(0.02, 2.0, SETTINGS)
        found = [
            self._cost(problem, [(Criterion(rule, float(eta)), 1.0) for eta in etas], how, level)
            for rule in RULES
            for how in STEPPINGS
        ]
        return float(np.nanmin(found))

    def _cost(
        self, problem: Problem, asked: Iterable[tuple[Policy, float]], stepping: str, level: float
    ) -> float:
        runs = [self._run(problem, *each, stepping) for each in asked]
        errors, costs = (np.median(each, axis=1) for each in zip(*runs, strict=True))
        return cost_of(errors, costs, level)

    def _run(self, problem: Problem, policy: Policy, tolerance: float, stepping: str):
        """Maximum errors and force evaluations, infinite where a run was lost."""
        asked = np.full(problem.state.n_systems, tolerance)
        rest = (policy, asked, MOST_STEPS, self.integrator, stepping)
        ends = run_to_end(problem.state, problem.t_end, *rest)
        return np.where(ends.lost, np.inf, (ends.max_error, ends.evaluations))


def _spread_systems(problem: Problem, count: int) -> Problem:
    n_systems = problem.state.n_systems
    return problem.select(np.linspace(0, n_systems - 1, min(count, n_systems)).astype(int))
