"""Learned policies of several integrators, of which a run takes one."""

from __future__ import annotations

from dataclasses import dataclass

from nbcore.errors import InputError
from nbcore.stepping.policies import LearnedPolicy

__all__ = ["Suite"]


@dataclass(frozen=True, eq=False)
class Suite:
    """Calibrated policies, each for an integrator of its own.

    Attributes
    ----------
    members
        At least one, all calibrated on the same systems.
    """

    members: tuple[LearnedPolicy, ...]

    def __post_init__(self) -> None:
        for member in self.members:
            if member.calibration is None:
                raise InputError(
                    f"the policy for {member.spec.integrator!r} is not calibrated, so a suite "
                    "can't tell what it costs; train it with calibration"
                )

    def __str__(self) -> str:
        return "learned"

    def best(self, tolerance: float) -> LearnedPolicy:
        """Member that costs the fewest force evaluations at a tolerance.

        Those that were measured at it come first; if none was, the one that comes nearest.
        """

        def rank(member: LearnedPolicy) -> tuple[float, float]:
            known = member.calibration
            assert known is not None
            least, most = known.range
            return max(least / tolerance, tolerance / most, 1.0), known.cost_at(tolerance)

        return min(self.members, key=rank)

    def of(self, integrator: str) -> LearnedPolicy | None:
        """Member that was trained for an integrator, or None."""
        return next((m for m in self.members if m.spec.integrator == integrator), None)
