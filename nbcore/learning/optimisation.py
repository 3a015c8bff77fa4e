"""One optimiser step on a batch of states, and how the learning rate goes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from nbcore.config import Training
from nbcore.errors import unknown_name
from nbcore.learning.losses import (
    Rollout,
    check_finite,
    check_weights,
    energy_error,
    loss_parts,
    rollout,
)
from nbcore.physics.arrays import PerSystem
from nbcore.physics.integrators import get_integrator
from nbcore.physics.state import State
from nbcore.stepping.policies import LearnedPolicy, Memory
from nbcore.stepping.torch_models import StepNetwork

__all__ = ["OPTIMISERS", "SCHEDULES", "Learner", "Tally"]


class Tally:
    """Means over an epoch of what each optimiser step reports."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def add(self, **values: float) -> None:
        """Take one more value of each name; what is not finite is left out."""
        for name, value in values.items():
            if math.isfinite(value):
                self._sums[name] = self._sums.get(name, 0.0) + float(value)
                self._counts[name] = self._counts.get(name, 0) + 1

    def means(self) -> dict[str, float]:
        """Mean of each name."""
        return {name: total / self._counts[name] for name, total in self._sums.items()}


class Learner:
    """A policy with its optimiser.

    Parameters
    ----------
    policy
        Trained in place.
    config
        Optimiser, schedule, loss, steps forward.
    """

    def __init__(self, policy: LearnedPolicy, config: Training) -> None:
        for kind, name, table in (
            ("optimiser", config.optimiser, OPTIMISERS),
            ("schedule", config.schedule, SCHEDULES),
        ):
            if name not in table:
                raise unknown_name(kind, name, table)
        check_weights(config.loss, policy.spec.predict_error)
        if not isinstance(policy.network, StepNetwork):
            raise TypeError("what is trained is a network of torch; see policies.trainable")
        self.policy, self.network, self.config = policy, policy.network, config
        self.integrator = get_integrator(config.integrator)
        self.optimiser_name = ""
        self.optimiser: torch.optim.Optimizer
        self.start_epoch(0)

    def start_epoch(self, epoch: int) -> None:
        """Set the epoch's optimiser and learning rate."""
        c = self.config
        name = "lbfgs" if epoch >= c.epochs - c.lbfgs_epochs else c.optimiser
        if name != self.optimiser_name:
            self.optimiser_name = name
            self.optimiser = OPTIMISERS[name](self.network.parameters(), c)
        self.learning_rate = c.learning_rate * SCHEDULES[c.schedule](epoch / c.epochs)
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate

    def look(self, state: State, tolerance: PerSystem, memory: Memory, n_steps: int) -> Rollout:
        """Steps forward without gradients or dropout."""
        with torch.no_grad():
            return self._ahead(state, tolerance, memory, n_steps)

    def _ahead(self, state: State, tolerance: PerSystem, memory: Memory, n_steps: int) -> Rollout:
        follow = self.config.loss.weights.get("body_band", 0) > 0
        return rollout(self.policy, self.integrator, state, tolerance, memory, n_steps, follow)

    def learn(self, state: State, tolerance: PerSystem, memory: Memory, tally: Tally) -> None:
        """Take one optimiser step on these states."""
        c = self.config
        seen: list[tuple[Rollout, dict[str, Tensor], float]] = []

        def loss() -> Tensor:
            r = self._ahead(state, tolerance, memory, c.n_steps)
            parts = loss_parts(r, c.loss)
            total = torch.stack([c.loss.weights[name] * part for name, part in parts.items()])
            mean = total.sum(dim=0).mean()
            if not seen:
                seen.append((r, parts, float(mean.detach())))
            return mean

        finite = self.minimise(loss)
        r, parts, value = seen[0]
        with torch.no_grad():
            check_finite(r, parts)
            tally.add(
                loss=value,
                lost_gradients=float(not finite),
                dt=float(r.dt.log().mean().exp()),
                energy_error=float(energy_error(r, c.loss).median()),
                **{name: float(part.mean()) for name, part in parts.items()},
            )

    def minimise(self, loss: Callable[[], Tensor]) -> bool:
        """Take one optimiser step; returns whether every gradient on the way was finite."""
        lost: list[int] = []

        def closure() -> float:
            self.optimiser.zero_grad()
            value = loss()
            value.backward()
            if not self._tame_gradient():
                lost.append(1)
            return float(value.detach())

        self.network.train()
        self.optimiser.step(closure)  # type: ignore[arg-type]
        self.network.eval()
        return not lost

    def descend(self, weights: Iterable[Tensor], slope: Tensor) -> None:
        """Take one optimiser step down a slope that was found without gradients.

        Parameters
        ----------
        slope
            Of all the weights, one after the other.
        """
        place = 0
        for weight in weights:
            weight.grad = slope[place : place + weight.numel()].view_as(weight).clone()
            place += weight.numel()
        self._tame_gradient()
        self.optimiser.step(lambda: 0.0)  # type: ignore[arg-type]

    def _tame_gradient(self) -> bool:
        """Clip the gradient; one that is not finite (a lost orbit) teaches nothing: False."""
        parameters = [p for p in self.network.parameters() if p.grad is not None]
        limit = self.config.gradient_clip
        norm = torch.nn.utils.clip_grad_norm_(parameters, math.inf if limit is None else limit)
        finite = bool(torch.isfinite(norm))
        if not finite:
            for parameter in parameters:
                parameter.grad = torch.zeros_like(parameter)
        return finite


def _adam(parameters: Iterable, c: Training) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, c.learning_rate, weight_decay=c.weight_decay)


def _adamw(parameters: Iterable, c: Training) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, c.learning_rate, weight_decay=c.weight_decay)


def _sgd(parameters: Iterable, c: Training) -> torch.optim.Optimizer:
    return torch.optim.SGD(
        parameters, c.learning_rate, momentum=c.momentum, weight_decay=c.weight_decay
    )


def _lbfgs(parameters: Iterable, c: Training) -> torch.optim.Optimizer:
    return torch.optim.LBFGS(parameters, c.learning_rate, max_iter=10)


OPTIMISERS: dict[str, Callable[[Iterable, Training], torch.optim.Optimizer]] = {
    "adam": _adam,
    "adamw": _adamw,
    "sgd": _sgd,
    "lbfgs": _lbfgs,
}

# share of the initial learning rate against the share of the epochs done
SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda done: 1.0,
    "cosine": lambda done: 0.01 + 0.99 * (1 + math.cos(math.pi * done)) / 2,
    "exponential": lambda done: 0.01**done,
    "linear": lambda done: 1 - 0.99 * done,
}
