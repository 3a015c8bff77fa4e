"""From the steps that a policy proposes to the steps that are made.

Plain control makes the proposed step. Reversible control keeps the harmonic mean of the step
before and the step after a state at the proposal for that state, so that the same steps are found
backward in time and the energy does not drift (Holder, Leimkuhler & Reich 2001, Appl. Numer.
Math. 39, 367). It costs no force evaluation.

Around either, a guard redoes a step that went wrong. Where that happens to more than a share of the
steps, it makes all further ones by its own criterion, so that a policy far from its training costs
little more than that criterion does, and errs little more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from nbcore.errors import entry
from nbcore.physics import gravity
from nbcore.physics.arrays import PerSystem
from nbcore.physics.elementwise import clamp, minimum, where
from nbcore.physics.state import State
from nbcore.stepping.criteria import get_criterion

__all__ = [
    "CONTROLS",
    "FALL_BACK",
    "SOME_REDONE",
    "STEPS_TO_ONE_REDONE",
    "Guard",
    "first_step",
    "get_control",
    "guard_of",
    "is_last",
    "plain",
    "reversible",
    "takes_over",
]

ROUNDING = 1e-12  # of what is left of a run
LARGEST_JUMP = 4.0  # of consecutive steps; beyond it the control starts anew (Boekholt et al. 2023)

FALL_BACK = "boekholt"  # criterion of the steps that replace those that went wrong
LARGEST_CHANGE = 10.0  # of the energy and of any body's orbit in one step, in tolerances
# Of good runs hardly one step in a thousand is redone. A guard that has redone more than some, and
# more than a share of all, makes the steps itself.
SOME_REDONE, STEPS_TO_ONE_REDONE = 8, 32

Proposal = Callable[[State], PerSystem]


# Rules of one system's steps. They use only operators and `elementwise`, and serve the batches of
# the torch engine, (B,) each, and the numbers of the compiled one.


def plain(previous, proposed):
    """Take the proposal."""
    return proposed


def reversible(previous, proposed):
    """1/dt = 2/τ − 1/dt_previous; the proposal where that would jump by more than a factor 4.

    References
    ----------
    Holder, Leimkuhler & Reich (2001), Appl. Numer. Math. 39, 367.
    """
    inverse = 2 / proposed - 1 / previous
    jump = previous * inverse  # over the next step; negative if there is none
    steady = (jump > 1 / LARGEST_JUMP) & (jump < LARGEST_JUMP)
    return where(steady, 1 / where(steady, inverse, 1.0), proposed)


def is_last(dt, remaining):
    """Whether a step ends the run; a remainder of rounding size is not worth one of its own."""
    return dt >= remaining * (1 - ROUNDING)


def takes_over(n_redone, n_steps):
    """Whether the guard, which has redone some of so many steps, makes all further ones."""
    return STEPS_TO_ONE_REDONE * (n_redone - SOME_REDONE) > n_steps


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
    return proposed * clamp(1 + rate / 2, 1 / LARGEST_JUMP, LARGEST_JUMP)


class Guard(NamedTuple):
    """Redoes, once, a step that errs by too much, and takes over if they are many.

    Attributes
    ----------
    largest_change
        (B,) of the energy [E].
    largest_error
        (B,) of any body's orbit.
    eta
        (B,) of the criterion FALL_BACK, by which the step is redone, at most half as long.
    """

    largest_change: PerSystem
    largest_error: PerSystem
    eta: PerSystem

    def again(self, state: State, dt: PerSystem) -> PerSystem:
        """Step from a state instead of `dt`, (B,) [T]."""
        return minimum(self.own(state), dt / 2)

    def own(self, state: State) -> PerSystem:
        """Step of the criterion FALL_BACK, (B,) [T]."""
        return self.eta * get_criterion(FALL_BACK).time_scale(state)


def guard_of(state: State, tolerance: PerSystem, order: int) -> Guard:
    """Guard of a run that starts from a state.

    η = tol^(1/p) is a cautious choice: the smooth criterion keeps to the tolerance with 1.3 to 3.4
    times as much at 4th order.
    """
    largest = LARGEST_CHANGE * tolerance
    return Guard(largest * gravity.energy_size(state), largest, tolerance ** (1 / order))


def get_control(name: str) -> Callable[[PerSystem, PerSystem], PerSystem]:
    """Control by its name, or an error with the nearest name."""
    return entry("stepping", name, CONTROLS)


CONTROLS = {"plain": plain, "reversible": reversible}
