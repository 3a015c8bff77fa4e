"""How runs end, and what can be done about it."""

from enum import IntEnum

__all__ = ["Status"]


class Status(IntEnum):
    """How the run of a system ended.

    Examples
    --------
    >>> nb.Status.MAX_STEPS.remedy
    'raise max_steps, go on with resume=, or ask for a larger tolerance'
    """

    SUCCESS = 0
    RUNNING = 1
    MAX_STEPS = 2
    DT_UNDERFLOW = 3
    NON_FINITE = 4
    COLLISION = 5
    ESCAPE = 6
    INTERRUPTED = 7

    def __str__(self) -> str:
        return self.name

    @property
    def remedy(self) -> str:
        """What to do where the run should have gone on; empty where it did all that was asked."""
        return REMEDIES.get(self, "")


_CLOSE = "stop at contacts with collision_distance, or soften the forces"
REMEDIES = {
    Status.MAX_STEPS: "raise max_steps, go on with resume=, or ask for a larger tolerance",
    Status.DT_UNDERFLOW: f"where bodies came too close, {_CLOSE}",
    Status.NON_FINITE: f"where bodies came too close, {_CLOSE}",
    Status.INTERRUPTED: "go on with resume=, if it was stored with path=",
}
