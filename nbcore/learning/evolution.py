"""Training on whole runs, by evolution strategies.

Networks to either side of the present one make the same runs at the same tolerances, and the
difference of what they cost, at the same error, is the slope along the noise between them (Salimans
et al. 2017, arXiv 1703.03864). No gradient has to pass through chaos, and what counts is what users
pay for: force evaluations, maximum and final error, and how near to the tolerance that error is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from nbcore.config import Evolution as Settings
from nbcore.learning.optimisation import Learner, Tally
from nbcore.learning.systems import Problem, draw_tolerances, run_of
from nbcore.physics.state import PerSystem, State
from nbcore.simulation.ends import Ends

__all__ = ["Evolution", "cheaper"]

Array = NDArray[np.float64]

MOST_STEPS = 20_000  # of a run; one that needs more is lost
ERRORS = (1e-16, 1e2)  # beyond these errors are not told apart
FARTHEST = 3.0  # decades between error and tolerance that count
LARGEST_GAIN = 1.0  # of one run, so that a few chaotic ones don't decide


def price(ends: Ends, tolerance: PerSystem, order: int, settings: Settings) -> Array:
    """What a run cost, in decades, (B,).

    Along the frontier of a method of order p the error goes as evaluations^−p, and as a higher
    power where steps are long, so a smaller sum of both logarithms is a better method. The square
    of the decades between maximum error and tolerance is added, because users ask for an error.
    """
    most, last = (np.log10(np.clip(error, *ERRORS)) for error in (ends.max_error, ends.final_error))
    beside = np.clip(most - np.log10(tolerance.numpy()), -FARTHEST, FARTHEST)
    error = (1 - settings.final_share) * most + settings.final_share * last
    return (
        error
        + (order + 1) * np.log10(ends.evaluations)
        + settings.keep_to_tolerance * beside * beside
    )


def cheaper(first: tuple[Array, Array], second: tuple[Array, Array]) -> float:
    """Mean over the runs of what the second saves against the first.

    Parameters
    ----------
    first, second
        Prices (B,), and whether a run was lost, which is dearer than any that was not.
    """
    (dear, lost), (cheap, also_lost) = first, second
    gain = np.clip(dear - cheap, -LARGEST_GAIN, LARGEST_GAIN)
    gain = np.where(lost & ~also_lost, LARGEST_GAIN, gain)
    gain = np.where(also_lost & ~lost, -LARGEST_GAIN, gain)
    return float(np.where(lost & also_lost, 0.0, gain).mean())


class Evolution:
    """An epoch is one step down the slope that the pairs of networks find."""

    def __init__(self, learner: Learner, problems: list[Problem], pools: list[State]) -> None:
        self._learner, self._problems = learner, problems
        self._weights = list(learner.policy.network.layers.parameters())

    def epoch(self) -> dict[str, float]:
        """Draw systems and tolerances, try the pairs on them, and let the optimiser step."""
        settings, tally = self._learner.config.evolution, Tally()
        runs = [self._draw(problem) for problem in self._problems]
        centre = parameters_to_vector(self._weights).detach().clone()
        slope = torch.zeros_like(centre)
        for _ in range(settings.pairs):
            noise = settings.noise * torch.randn_like(centre)
            tried = [self._try(centre + side * noise, runs, tally) for side in (1, -1)]
            gain = np.mean([cheaper(*both) for both in zip(*tried, strict=True)])
            slope += noise * float(gain) / (2 * settings.noise**2 * settings.pairs)
        vector_to_parameters(centre, self._weights)
        self._learner.descend(self._weights, slope)
        return tally.means()

    def _draw(self, problem: Problem) -> tuple[Problem, PerSystem]:
        count = self._learner.config.evolution.systems
        chosen = problem.select(torch.randperm(problem.state.n_systems)[:count])
        return chosen, draw_tolerances(self._learner.config, chosen.t_end)

    def _try(
        self, weights: Tensor, runs: list[tuple[Problem, PerSystem]], tally: Tally
    ) -> list[tuple[Array, Array]]:
        """Prices, and what was lost, of all runs with these weights."""
        policy, config = self._learner.policy, self._learner.config
        vector_to_parameters(weights, self._weights)
        found = []
        for problem, tolerance in runs:
            ends = run_of(policy, problem, tolerance, MOST_STEPS)
            prices = price(ends, tolerance, policy.spec.order, config.evolution)
            found.append((prices, ends.lost))
            kept = ~ends.lost
            tally.add(
                loss=float(prices[kept].mean()) if kept.any() else float("nan"),
                lost=float(ends.lost.mean()),
                energy_error=float(np.median(ends.max_error)),
                over_tolerance=float(np.median(ends.max_error / tolerance.numpy())),
                evaluations=float(np.median(ends.evaluations)),
            )
        return found

    def get(self) -> dict[str, Any]:
        """Nothing but the weights and the random numbers carries over."""
        return {}

    def set(self, saved: dict[str, Any]) -> None:
        """Nothing to do."""
