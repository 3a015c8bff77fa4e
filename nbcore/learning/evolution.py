"""Training on whole runs, by evolution strategies.

Networks to either side of the present one make the same runs at the same tolerances, and the
difference of what they cost, at the same error, is the slope along the noise between them (Salimans
et al. 2017, arXiv 1703.03864); or the distribution that networks are drawn from follows the
cheapest (CMA-ES). No gradient has to pass through chaos, and what counts is what users pay for:
force evaluations, maximum and final error, and how near to the tolerance that error is.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from nbcore.config import Evolution as Settings
from nbcore.errors import InputError
from nbcore.learning.covariance import Search
from nbcore.learning.optimisation import Learner, Tally
from nbcore.learning.systems import Problem, draw_tolerances, enough, run_of
from nbcore.physics.arrays import PerSystem
from nbcore.physics.state import State
from nbcore.simulation.compiled_engine import obstacle
from nbcore.simulation.ends import Ends
from nbcore.stepping.features import SCALE_FREE
from nbcore.stepping.policies import Crowd

__all__ = ["Evolution", "beside_median", "cheaper"]

Array = NDArray[np.float64]
Priced = tuple[Array, NDArray[np.bool_]]  # what runs cost, and which of them were lost

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


def cheaper(first: Priced, second: Priced) -> float:
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


def beside_median(prices: Array, lost: NDArray[np.bool_]) -> Array:
    """What each of several networks cost in the same runs beside their median, in decades.

    Parameters
    ----------
    prices, lost
        (networks, B); a lost run is dearer than any that was not.

    Returns
    -------
    (networks,) mean over the runs; one that all lost tells nothing.
    """
    middle = np.quantile(np.where(lost, np.inf, prices), 0.5, axis=0, method="inverted_cdf")
    beside = np.clip(prices - middle, -LARGEST_GAIN, LARGEST_GAIN)
    beside = np.where(lost, LARGEST_GAIN, beside)
    return np.where(lost.all(axis=0), 0.0, beside).mean(axis=1)


class Evolution:
    """An epoch tries networks in the same runs, and goes to where they are cheaper.

    That is a step down the slope that pairs of them find, or one of CMA-ES.
    """

    def __init__(self, learner: Learner, problems: list[Problem], pools: list[State]) -> None:
        self._learner, self._problems = learner, problems
        self._weights = list(learner.network.layers.parameters())
        config, policy = learner.config, learner.policy
        enough(sum(problem.state.n_systems for problem in problems))
        if config.optimiser == "lbfgs" or config.lbfgs_epochs:
            raise InputError(
                "the scheme 'evolution' finds a noisy slope and no loss that lbfgs could follow; "
                "use train.optimiser = 'adam' and train.lbfgs_epochs = 0"
            )
        known = set(policy.names) <= set(SCALE_FREE)
        if policy.looks_back or policy.spec.fourier_features or not known:
            raise InputError(
                f"the scheme 'evolution' takes the scale-free features alone, not {policy.names} "
                f"with history = {policy.spec.history} and fourier_features = "
                f"{policy.spec.fourier_features}; use the scheme 'batched'"
            )
        for problem in problems:
            if found := obstacle(problem.state, policy, learner.integrator):
                raise InputError(
                    f"the scheme 'evolution' makes its runs in the compiled engine, which does "
                    f"not take {found}; use the scheme 'batched'"
                )

        self._search = None
        if config.evolution.method == "cma":
            start = parameters_to_vector(self._weights).detach().double().numpy()
            self._search = Search(start, config.evolution.noise, 2 * config.evolution.pairs)

    def epoch(self) -> dict[str, float]:
        """Draw systems and tolerances, try networks on them, and move the weights."""
        tally = Tally()
        runs = [self._draw(problem) for problem in self._problems]
        if self._search is None:
            self._descend(runs, tally)
        else:
            self._follow(self._search, runs, tally)
        return tally.means()

    def _follow(self, search: Search, runs: list[tuple[Problem, PerSystem]], tally: Tally) -> None:
        """One generation of CMA-ES."""
        like = self._weights[0]
        tried = torch.as_tensor(search.ask(), dtype=like.dtype)
        costs = [beside_median(*self._try(tried, *each, tally)) for each in runs]
        search.tell(np.mean(costs, axis=0))
        mean = torch.as_tensor(search.mean, dtype=like.dtype)
        vector_to_parameters(mean, self._weights)

    def _descend(self, runs: list[tuple[Problem, PerSystem]], tally: Tally) -> None:
        """Try pairs, and let the optimiser step."""
        settings = self._learner.config.evolution
        centre = parameters_to_vector(self._weights).detach()
        noise = settings.noise * torch.randn(settings.pairs, len(centre), dtype=centre.dtype)
        tried = torch.cat([centre + noise, centre - noise])
        gains = np.zeros(settings.pairs)
        for problem, tolerance in runs:
            prices, lost = self._try(tried, problem, tolerance, tally)
            for k in range(settings.pairs):
                both = ((prices[i], lost[i]) for i in (k, settings.pairs + k))
                gains[k] += cheaper(*both) / len(runs)
        share = torch.as_tensor(gains, dtype=noise.dtype)
        slope = (share[:, None] * noise).mean(dim=0) / (2 * settings.noise**2)
        self._learner.descend(self._weights, slope)

    def _draw(self, problem: Problem) -> tuple[Problem, PerSystem]:
        count = self._learner.config.evolution.systems
        chosen = problem.select(torch.randperm(problem.state.n_systems)[:count])
        return chosen, draw_tolerances(self._learner.config, chosen.t_end)

    def _try(
        self, tried: Tensor, problem: Problem, tolerance: PerSystem, tally: Tally
    ) -> tuple[Array, NDArray[np.bool_]]:
        """Prices of all systems with all networks, and what was lost, (networks, B)."""
        policy, config = self._learner.policy, self._learner.config
        networks = []
        for weights in tried:
            networks.append(copy.deepcopy(self._learner.network))
            vector_to_parameters(weights, networks[-1].layers.parameters())
        count, tolerances = len(tried), tolerance.repeat(len(tried))
        everyone = problem.select(torch.arange(len(tolerance)).repeat(count))
        ends = run_of(Crowd(policy, networks), everyone, tolerances, MOST_STEPS)
        prices, kept = price(ends, tolerances, policy.spec.order, config.evolution), ~ends.lost
        tally.add(
            loss=float(prices[kept].mean()) if kept.any() else float("nan"),
            lost=float(ends.lost.mean()),
            energy_error=float(np.median(ends.max_error)),
            over_tolerance=float(np.median(ends.max_error / tolerances.numpy())),
            evaluations=float(np.median(ends.evaluations)),
        )
        return prices.reshape(count, -1), ends.lost.reshape(count, -1)

    def get(self) -> dict[str, Any]:
        """What carries over besides the weights and the random numbers: of CMA-ES."""
        return {} if self._search is None else self._search.get()

    def set(self, saved: dict[str, Any]) -> None:
        """Go on from there."""
        if self._search is not None:
            self._search.set(saved)
