"""What training minimises: named losses of a few steps forward, (B,) each.

Every loss is zero, or as small as it gets, on an exact orbit, and has a finite gradient with
respect to the steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from nbcore.config import LossConfig
from nbcore.errors import InputError, unknown_name
from nbcore.physics import gravity
from nbcore.physics.arrays import PerSystem
from nbcore.physics.body_errors import BodyErrors
from nbcore.physics.integrators import Integrator
from nbcore.physics.state import State
from nbcore.simulation.engine import Monitor
from nbcore.stepping.answers import per_system
from nbcore.stepping.policies import LearnedPolicy, Memory

__all__ = ["LOSSES", "Rollout", "check_finite", "check_weights", "loss_parts", "rollout"]

ROUNDING = 1e-17  # relative errors below this are not told apart


@dataclass(frozen=True)
class Rollout:
    """K steps forward from a batch of states, with gradients.

    Attributes
    ----------
    tolerance
        (B,) relative energy error that was asked for.
    energy, momentum, angular_momentum
        (K, B) relative errors after each step, against the first state.
    dt
        (K, B) [T].
    stretch
        (K, B) dt over that of the untrained policy.
    predicted
        (B,) log₁₀ of the energy error that the policy predicted for the first step, or None.
    follow
        Makes `body`.
    """

    tolerance: PerSystem
    energy: Tensor
    momentum: Tensor
    angular_momentum: Tensor
    dt: Tensor
    stretch: Tensor
    predicted: PerSystem | None
    follow: Callable[[], Tensor]

    @cached_property
    def body(self) -> Tensor:
        """(K, B) largest error of any body's orbit after each step.

        Unless body_band has a weight, which has the orbits followed from the beginning, who asks
        for it takes the steps once more.
        """
        return self.follow()


def rollout(
    policy: LearnedPolicy,
    integrator: Integrator,
    state: State,
    tolerance: PerSystem,
    memory: Memory,
    n_steps: int,
    follow: bool = False,
) -> Rollout:
    """Take `n_steps` differentiable steps of the policy's choice from a batch of states.

    Parameters
    ----------
    follow
        Whether to follow the bodies' orbits at once, and not when `body` is asked for.
    """
    monitor, orbits = Monitor(state), BodyErrors.begin(state) if follow else None
    if state.acceleration is None:
        state = state.replace(acceleration=gravity.acceleration(state))
    errors, bodies, states, steps, stretches, predicted = [], [], [], [], [], None
    for k in range(n_steps):
        said = policy.predict(state, tolerance, memory)
        if k == 0:
            predicted = said.log10_error
        told = None if orbits is None else orbits.watch(state)
        after = integrator.step(state, said.dt, told)
        if orbits is not None and told is not None:
            orbits, _ = orbits.after(after, told)
            bodies.append(orbits.error.amax(dim=1))
        memory = policy.advance(memory, state, after, said.dt)
        errors.append(torch.stack(monitor.errors(after)))
        states.append(state)
        steps.append(said.dt)
        stretches.append(said.correction)
        state = after
    energy, momentum, angular = torch.stack(errors, dim=1)
    dt, stretch = torch.stack(steps), torch.stack(stretches)

    def body() -> Tensor:
        return torch.stack(bodies) if follow else _followed(integrator, states, steps)

    return Rollout(tolerance, energy, momentum, angular, dt, stretch, predicted, body)


def _followed(integrator: Integrator, states: list[State], steps: list[PerSystem]) -> Tensor:
    """Errors (K, B) of the worst body's orbit, by taking the steps (B,) from the states again."""
    orbits, errors = BodyErrors.begin(states[0]), []
    for state, dt in zip(states, steps, strict=True):
        told = orbits.watch(state)
        orbits, _ = orbits.after(integrator.step(state, dt, told), told)
        errors.append(orbits.error.amax(dim=1))
    return torch.stack(errors)


def energy_error(r: Rollout, config: LossConfig) -> PerSystem:
    """Relative energy error of the next, last, mean or worst state, (B,)."""
    return _at(r.energy, config)


def _at(errors: Tensor, config: LossConfig) -> PerSystem:
    """Errors (K, B) of the next, last, mean or worst state."""
    if config.error_at == "next":
        return errors[0]
    if config.error_at == "last":
        return errors[-1]
    return errors.mean(dim=0) if config.error_at == "mean" else errors.amax(dim=0)


def energy_band(r: Rollout, config: LossConfig) -> PerSystem:
    """Square of the decades by which the energy error exceeds its band; zero below it."""
    return _above(energy_error(r, config), config.energy_upper * r.tolerance)


def body_band(r: Rollout, config: LossConfig) -> PerSystem:
    """Square of the decades by which the error of any body's orbit exceeds its band.

    It sees what light bodies suffer, which the energy doesn't.
    """
    return _above(_at(r.body, config), config.body_upper * r.tolerance)


def momentum_band(r: Rollout, config: LossConfig) -> PerSystem:
    """Square of the decades by which the worst momentum error exceeds its band."""
    return _above(r.momentum.amax(dim=0), config.momentum_upper)


def angular_momentum_band(r: Rollout, config: LossConfig) -> PerSystem:
    """Square of the decades by which the worst angular momentum error exceeds its band."""
    return _above(r.angular_momentum.amax(dim=0), config.angular_momentum_upper)


def step_size(r: Rollout, config: LossConfig) -> PerSystem:
    """Reward for large steps: mean decades by which they fall short of the classical step."""
    return -r.stretch.log10().mean(dim=0)


def error_calibration(r: Rollout, config: LossConfig) -> PerSystem:
    """Square of the decades between the predicted and the achieved energy error."""
    if r.predicted is None:
        return torch.zeros_like(r.tolerance)
    achieved = energy_error(r, config).detach().clamp(min=ROUNDING).log10()
    return (r.predicted - achieved) ** 2


def _above(value: Tensor, edge: Tensor | float) -> Tensor:
    return (value.clamp(min=ROUNDING) / edge).log10().clamp(min=0) ** 2


def loss_parts(r: Rollout, config: LossConfig) -> dict[str, PerSystem]:
    """Every loss that has a weight, before it is weighted."""
    return {
        name: per_system(f"loss {name!r}", LOSSES[name](r, config), r.tolerance)
        for name, weight in config.weights.items()
        if weight > 0
    }


def check_finite(r: Rollout, parts: Mapping[str, PerSystem]) -> None:
    """Raise InputError for a loss that is not finite where all that it is made of is."""
    finite = torch.ones_like(r.tolerance, dtype=torch.bool)
    for value in vars(r).values():
        if isinstance(value, Tensor):
            finite &= torch.isfinite(value.reshape(-1, len(finite))).all(dim=0)
    for name, part in parts.items():
        bad = part[finite & ~torch.isfinite(part)]
        if len(bad):
            raise InputError(
                f"loss {name!r} is {float(bad[0])} for {len(bad)} of {len(part)} systems, of which "
                "all steps and errors are finite; make it finite for them, with a finite gradient, "
                f"or leave it out with train.loss.weights.{name}=0"
            )


def check_weights(config: LossConfig, predicts_error: bool) -> None:
    """Raise InputError for an unknown loss, or one that has nothing to work on."""
    for name in config.weights:
        if name not in LOSSES:
            raise unknown_name("loss", name, LOSSES)
    if not any(config.weights.values()):
        raise InputError(
            f"the weights of the loss are {config.weights}, so there is nothing to minimise; "
            "give one a positive weight, such as energy_band = 1.0"
        )
    if (config.weights.get("error_calibration", 0) > 0) != predicts_error:
        raise InputError(
            f"network.predict_error is {predicts_error} and the weight of loss "
            f"'error_calibration' is {config.weights.get('error_calibration', 0)}; "
            "use both or neither"
        )


LOSSES: dict[str, Callable[[Rollout, LossConfig], PerSystem]] = {
    "energy_band": energy_band,
    "body_band": body_band,
    "momentum_band": momentum_band,
    "angular_momentum_band": angular_momentum_band,
    "step_size": step_size,
    "error_calibration": error_calibration,
}
