"""How runs end."""

from enum import IntEnum

__all__ = ["Status"]


class Status(IntEnum):
    """How the run of a system ended."""

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
