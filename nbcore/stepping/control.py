"""From the steps that a policy proposes to the steps that are made.

Plain control makes the proposed step. Reversible control keeps the harmonic mean of the step
before and the step after a state at the proposal for that state, so that the same steps are found
backward in time and the energy does not drift (Holder, Leimkuhler & Reich 2001, Appl. Numer.
Math. 39, 367). It costs no force evaluation.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from nbcore.errors import unknown_name
from nbcore.physics import gravity
from nbcore.physics.state import PerSystem, State

__all__ = ["CONTROLS", "first_step", "get_control"]

LARGEST_JUMP = 4.0  # of consecutive steps; beyond it the control starts anew (Boekholt et al. 2023)

Proposal = Callable[[State], PerSystem]


def plain(previous: PerSystem, proposed: PerSystem) -> PerSystem:
    """Take the proposal."""
    return proposed


def reversible(previous: PerSystem, proposed: PerSystem) -> PerSystem:
    """1/dt = 2/τ − 1/dt_previous; the proposal where that would jump by more than a factor 4."""
    inverse = 2 / proposed - 1 / previous
    ratio = 1 / (previous * inverse)
    steady = (inverse > 0) & (ratio < LARGEST_JUMP) & (ratio > 1 / LARGEST_JUMP)
    return torch.where(steady, 1 / torch.where(steady, inverse, 1.0), proposed)


def first_step(state: State, propose: Proposal) -> PerSystem:
    """First step of a reversible run, τ (1 + ½ τ̇) as if it had come from a step before.

    τ̇ is a central difference of the proposals a little before and after, drifted and kicked
    with the acceleration at hand: no force is evaluated for it.
    """
    proposed = propose(state)
    acceleration = gravity.acceleration(state)
    ahead = 1e-3 * proposed[:, None, None]
    after, before = (
        propose(
            state.replace(
                position=state.position + h * state.velocity,
                velocity=state.velocity + h * acceleration,
            )
        )
        for h in (ahead, -ahead)
    )
    rate = (after - before) / (2e-3 * proposed)
    return proposed * (1 + rate / 2).clamp(1 / LARGEST_JUMP, LARGEST_JUMP)


def get_control(name: str) -> Callable[[PerSystem, PerSystem], PerSystem]:
    """Control by its name, or an error with the nearest name."""
    if name not in CONTROLS:
        raise unknown_name("stepping", name, CONTROLS)
    return CONTROLS[name]


CONTROLS = {"plain": plain, "reversible": reversible}
