"""What the functions return that users and contributors hand in: one number a system."""

from __future__ import annotations

from typing import Any

from nbcore.errors import InputError
from nbcore.physics.arrays import PerSystem, beside, namespace
from nbcore.physics.plain import check_plain

__all__ = ["per_system"]


def per_system(what: str, answer: Any, like: PerSystem, one_for_all: bool = False) -> PerSystem:
    """An answer (B,) as an array of the same kind and type as another one, and beside it.

    Parameters
    ----------
    what
        Whose answer it is, for the message.
    like
        (B,)
    one_for_all
        Whether one number will do for all systems.

    Raises
    ------
    InputError
        It is of another shape, or no number at all.
    """
    if type(answer) is type(like) and _kind(answer) == _kind(like):
        return answer
    check_plain(f"what {what} returned", answer)
    right = f"one number a system, ({len(like)},)"
    right = f"one number, or {right}" if one_for_all else right
    try:
        found = beside(answer, like)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"{what} returned {answer!r}; it must return {right}") from None
    if found.shape != like.shape and not (one_for_all and found.shape == ()):
        raise InputError(
            f"{what} returned shape {tuple(found.shape)} for {len(like)} systems; "
            f"it must return {right}"
        )
    return namespace(found).broadcast_to(found, like.shape)


def _kind(array: Any) -> tuple[Any, ...]:
    return array.shape, array.dtype, array.device
