"""What is left of the error that a run may make, and how large the next step's may be.

A tolerance is of a whole run. How the errors of its steps add up is not known beforehand: over
quiet orbits they cancel, in a chaotic system each is multiplied by all that follows. So a run looks
at what it has erred by so far, how much larger the estimates of its steps were than that, and how
many steps are to come. It makes these by so much less or more than a fixed share of the tolerance.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from nbcore.physics.arrays import Array, PerSystem
from nbcore.physics.elementwise import clamp, maximum, minimum, where

__all__ = ["Budget", "shares"]

GOAL = 0.5  # of what is left, to be spent by the steps to come
LEAST_LEFT = 0.03  # of the tolerance, which there always is
LIMIT = 0.4  # of what is left, which no step may err by
LARGEST = 20.0  # target of a step, of what is left: typical steps err by half of that
TYPICAL = 0.024  # error of a step, of what it is chosen by: 0.75 (its safety) to the power 13
# Estimates are larger than what they add up to by so much before there is anything to see, which
# counts like a run that has erred by WEIGHT of the tolerance; and at most.
USUAL_EXCESS, WEIGHT, MOST_EXCESS = 4.0, 0.03, 30.0


def shares(tolerance, least, error, spent, due):
    """Largest error of the next step: what it is chosen by, and what is refused.

    Parameters
    ----------
    tolerance, least
        Of the run; what no step need be better than.
    error
        Of the run so far, the largest of any body and of the energy.
    spent
        Sum of the estimated errors of its steps.
    due
        Steps to come.
    """
    left = maximum(tolerance - error, LEAST_LEFT * tolerance)
    more = WEIGHT * tolerance
    excess = clamp((spent + more) / (error + more / USUAL_EXCESS), 1.0, MOST_EXCESS)
    target = left * minimum(GOAL * excess / (TYPICAL * clamp(due, 1.0, math.inf)), LARGEST)
    return maximum(target, least), maximum(minimum(target, LIMIT * left), least)


class Budget(NamedTuple):
    """The errors that steps may make and have made, (B,) each.

    Attributes
    ----------
    tolerance
        Of the run; 0 where every step may err by the same.
    begun
        When the run did [T].
    least
        What no step need be better than.
    target
        Error that the next step is chosen by.
    aim
        Error of a step that is refused.
    spent
        Sum of the estimated errors of the steps.
    """

    tolerance: PerSystem
    begun: PerSystem
    least: PerSystem
    target: PerSystem
    aim: PerSystem
    spent: PerSystem

    def after(
        self, made: PerSystem, error: PerSystem, n_steps: Array, time: PerSystem, t_end: PerSystem
    ) -> Budget:
        """The same after a step.

        Parameters
        ----------
        made
            Estimated error of the step (B,).
        error
            Of the run so far (B,).
        n_steps
            (B,) with this one.
        time, t_end
            (B,) [T].
        """
        spent, gone = self.spent + made, time - self.begun
        spends = (self.tolerance > 0) & (gone > 0)
        due = n_steps * (t_end - time) / where(spends, gone, 1.0)
        target, aim = shares(self.tolerance, self.least, error, spent, due)
        return self._replace(
            target=where(spends, target, self.target), aim=where(spends, aim, self.aim), spent=spent
        )
