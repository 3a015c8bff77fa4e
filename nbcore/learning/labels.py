"""Labels from the step oracle: the largest step whose energy error keeps within a budget."""

from __future__ import annotations

from typing import Any

import torch

from nbcore.learning.optimisation import Learner, Tally
from nbcore.learning.systems import Problem, draw_tolerances
from nbcore.physics.arrays import PerSystem
from nbcore.physics.state import State
from nbcore.simulation.ends import run_to_end
from nbcore.stepping.policies import FixedStep

__all__ = ["Oracle", "largest_steps"]

DOUBLINGS = 6  # of the first guess, up or down
HALVINGS = 12  # of the bracket


def largest_steps(state: State, guess: PerSystem, budget: PerSystem, integrator: str) -> PerSystem:
    """Step of every system at which its relative energy error reaches a budget, (B,) [T].

    Longer steps may keep within it again by chance; the one found is reached from the guess by
    doubling or halving, and then bisected.

    Parameters
    ----------
    guess
        (B,) [T]; steps are sought within a factor 64 of it.
    budget
        (B,) relative energy error of one step.
    """

    def keeps(dt: PerSystem) -> torch.Tensor:
        ends = run_to_end(state, state.time + dt, FixedStep(dt), budget, 1, integrator)
        return torch.as_tensor(ends.max_error) <= budget

    low, high = guess.clone(), guess.clone()
    for _ in range(DOUBLINGS):
        low = torch.where(keeps(low), low, low / 2)
    for _ in range(DOUBLINGS):
        high = torch.where(keeps(high), high * 2, high)
    low = torch.maximum(low, torch.where(high > guess, high / 2, low))
    high = torch.where(high > guess, high, torch.minimum(2 * low, guess))
    for _ in range(HALVINGS):
        middle = (low * high).sqrt()
        good = keeps(middle)
        low, high = torch.where(good, middle, low), torch.where(good, high, middle)
    return low


class Oracle:
    """Regression of the network on labels that were found once, for the states of the pools.

    The budget of a step is its share of the tolerance, where the untrained policy's steps have
    one: what is learned is where steps may be longer and where they must be shorter.
    """

    def __init__(self, learner: Learner, problems: list[Problem], pools: list[State]) -> None:
        self._learner, policy = learner, learner.policy
        self._inputs, self._labels = [], []
        with torch.no_grad():
            for pool in pools:
                tolerance = draw_tolerances(learner.config, pool.time)
                memory = policy.begin(pool)
                said = policy.predict(pool, tolerance, memory)
                plain = said.dt / said.correction
                longest = largest_steps(pool, plain, tolerance, policy.spec.integrator)
                label = (longest / plain).log()
                measures = policy.measures(pool, memory)
                self._inputs.append(policy.inputs(measures, tolerance, memory))
                self._labels.append(label - label.median())
        self._inputs = torch.cat(self._inputs)
        self._labels = torch.cat(self._labels).clamp(-policy.bound, policy.bound)

    def epoch(self) -> dict[str, float]:
        """As many optimiser steps as there are batches."""
        tally, config = Tally(), self._learner.config
        for _ in range(config.batches):
            chosen = torch.randint(len(self._labels), (config.batch_size,))
            inputs, labels = self._inputs[chosen], self._labels[chosen]

            def loss(inputs=inputs, labels=labels) -> torch.Tensor:
                out = self._learner.network(inputs)[:, 0].to(labels.dtype)
                value = ((out - labels) ** 2).mean()
                tally.add(loss=float(value.detach()))
                return value

            self._learner.minimise(loss)
        return tally.means()

    def get(self) -> dict[str, Any]:
        """Inputs and labels, which were drawn at random."""
        return {"inputs": self._inputs, "labels": self._labels}

    def set(self, saved: dict[str, Any]) -> None:
        """Take those back."""
        self._inputs, self._labels = saved["inputs"], saved["labels"]
