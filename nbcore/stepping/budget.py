"""What is left of the error that a run may make, and how large the next step's may be.

A tolerance is of a whole run. How the errors of its steps add up is not known beforehand: over
quiet orbits they cancel, in a chaotic system each is multiplied by all that follows. So a run looks
at what it has erred by so far, how much larger the estimates of its steps were than that, and how
many steps are to come. It makes these by so much less or more than a fixed share of the tolerance.
"""

from __future__ import annotations

from typing import NamedTuple

from nbcore.physics import gravity
from nbcore.physics.arrays import Array, PerSystem, dot, namespace, norm, taken
from nbcore.physics.body_errors import partners
from nbcore.physics.elementwise import TINY, clamp, inverse_root, maximum, minimum, where
from nbcore.physics.state import State

__all__ = ["LAW", "Budget", "Law", "Own", "pull_of_others", "shares"]

TYPICAL = 0.024  # error of a step, of what it is chosen by: 0.75 (its safety) to the power 13
LEAST_LEFT = 0.03  # of the tolerance, which there always is
LEAST_PULL = 1e-4  # of others, below which a body and its partner are as good as alone
MOST_DUE = 1e6  # steps


class Law(NamedTuple):
    """Numbers of the rule, learned from whole runs (`nbcore train --config default_budget`).

    A run is told apart from others by how strongly its bodies are pulled away from their partners
    at the start: hardly at all where orbits are regular, and hard where motion is chaotic, so that
    errors grow after they were made. What goes with a power of that has the power beside it.

    Attributes
    ----------
    goal, goal_by_pull
        Of what is left, to be spent by the steps to come.
    limit
        Of what is left, which no step may err by.
    largest
        Target of a step, of what is left: typical steps err by less.
    excess, excess_by_pull, excess_by_tolerance, excess_by_length, length_by_pull
        Estimates are larger than what they add up to by so much before there is anything to see:
        with powers of the tolerance, too, and of the steps to come, which itself goes with the
        logarithm of the pull.
    weight
        What that counts like: a run that has erred by so much of the tolerance.
    least_excess, most_excess
        Bounds of what is seen.
    """

    goal: float
    goal_by_pull: float
    limit: float
    largest: float
    excess: float
    excess_by_pull: float
    excess_by_tolerance: float
    excess_by_length: float
    length_by_pull: float
    weight: float
    least_excess: float
    most_excess: float

    def of(self, state: State, tolerance: PerSystem) -> Own:
        """What it is for systems at their start."""
        pull = pull_of_others(state)
        return Own(
            self.goal * pull**self.goal_by_pull,
            self.excess * pull**self.excess_by_pull * tolerance**self.excess_by_tolerance,
            self.excess_by_length + self.length_by_pull * namespace(pull).log10(pull),
        )


class Own(NamedTuple):
    """Numbers of the rule that are each system's own, (B,)."""

    goal: PerSystem
    excess: PerSystem
    by_length: PerSystem


# Of other systems of the kinds that it was learned from 77 % err by their tolerance within a factor
# of 3, and 68 % by the rule made by hand that the search begins at.
LAW = Law(
    goal=0.115,
    goal_by_pull=-0.235,
    limit=0.973,
    largest=224.0,
    excess=213.0,
    excess_by_pull=-0.673,
    excess_by_tolerance=0.206,
    excess_by_length=-1.11,
    length_by_pull=-0.142,
    weight=0.00733,
    least_excess=0.953,
    most_excess=6.38,
)


def pull_of_others(state: State) -> PerSystem:
    """How strongly others pull bodies away from their partners, over what holds them, (B,).

    The geometric mean over the bodies, of which each counts by 1 at most and `LEAST_PULL` at least.
    """
    partner = partners(state)
    index = namespace(state.mass).broadcast_to(partner[..., None], state.position.shape)
    apart = taken(state.position, index) - state.position
    alone = partner == namespace(partner).arange(partner.shape[1], device=partner.device)
    inverse = inverse_root(dot(apart, apart) + state.softening**2 + alone)
    towards = (state.G * inverse * inverse)[..., None] * (inverse[..., None] * apart)
    ours = taken(state.mass, partner)[..., None] * towards
    theirs = -state.mass[..., None] * towards
    a = gravity.acceleration(state)
    away = norm((a - ours) - (taken(a, index) - theirs)) / (norm(ours - theirs) + TINY)
    away = where(alone, LEAST_PULL, clamp(away, LEAST_PULL, 1.0))
    return namespace(away).exp(namespace(away).log(away).mean(axis=1))


def shares(law, own, tolerance, least, error, spent, due):
    """Largest error of the next step: what it is chosen by, and what is refused.

    Parameters
    ----------
    law, own
        Numbers of the rule.
    tolerance, least
        Of the run; what no step need be better than.
    error
        Of the run so far, the largest of any body and of the energy.
    spent
        Sum of the estimated errors of its steps.
    due
        Steps to come.
    """
    due = clamp(due, 1.0, MOST_DUE)
    left = maximum(tolerance - error, LEAST_LEFT * tolerance)
    more = law.weight * tolerance
    usual = own.excess * due**own.by_length
    excess = clamp((spent + more) / (error + more / usual), law.least_excess, law.most_excess)
    target = left * minimum(own.goal * excess / (TYPICAL * due), law.largest)
    return maximum(target, least), maximum(minimum(target, law.limit * left), least)


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
    own, law
        By which they are made.
    """

    tolerance: PerSystem
    begun: PerSystem
    least: PerSystem
    target: PerSystem
    aim: PerSystem
    spent: PerSystem
    own: Own
    law: Law

    @property
    def arrays(self) -> dict[str, PerSystem]:
        """All that steps change, by name."""
        return {name: getattr(self, name) for name in ("target", "aim", "spent")}

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
        target, aim = shares(self.law, self.own, self.tolerance, self.least, error, spent, due)
        return self._replace(
            target=where(spends, target, self.target), aim=where(spends, aim, self.aim), spent=spent
        )
