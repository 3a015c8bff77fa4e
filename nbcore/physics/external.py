"""What an external field must offer, so that bodies can move in it."""

from __future__ import annotations

from typing import Any, Protocol

from nbcore.errors import InputError
from nbcore.physics.arrays import Array

__all__ = ["Field", "answer_of", "check_field", "is_like", "name_of", "part_of", "unlike"]


class Field(Protocol):
    """An external field; `TidalField` is one, and any object with these will do.

    Runs in a field of one's own are made by the torch engine, which calls it with float64 tensors.
    Some methods need more, and say so where it is missing:

    - `power(position, mass, time, G)`, Σ m ∂Φ/∂t (B,) [E/T], where the field is moving: with it
      the energy less the work of the field is what is conserved;
    - `derivative(position, velocity, known, time, G)` for hermite4 and for the criteria of bodies,
      and `tidal_tensor(position, time, G)` for the criterion 'tidal', as of `TidalField`.

    Examples
    --------
    >>> class Trap:
    ...     moving = False
    ...
    ...     def acceleration(self, position, time, G):
    ...         return -position
    ...
    ...     def potential_energy(self, position, mass, time, G):
    ...         return (mass * position.square().sum(-1)).sum(-1) / 2
    """

    @property
    def moving(self) -> bool:
        """Whether it depends on time, so that the energy of the bodies alone is not conserved."""
        ...

    def acceleration(self, position: Array, time: Array, G: float) -> Array:
        """Of bodies at positions (B, N, D) and times (B,): (B, N, D) [L/T²]."""
        ...

    def potential_energy(self, position: Array, mass: Array, time: Array, G: float) -> Array:
        """Σ m Φ over the bodies, masses (B, N): (B,) [E]."""
        ...


def check_field(field: Any) -> None:
    """Raise InputError for what is neither None nor a field."""
    if field is None:
        return
    needed = ["moving", "acceleration", "potential_energy"]
    if getattr(field, "moving", False):
        needed.append("power")
    missing = [name for name in needed if not hasattr(field, name)]
    lacks = "it is a class" if isinstance(field, type) else f"it has no {', '.join(missing)}"
    if isinstance(field, type) or missing:
        raise InputError(
            f"field is {field!r}, which is no external field ({lacks}); give a TidalField, or an "
            "object with all that nbcore.physics.external.Field names"
        )


def part_of(field: Any, name: str, who: str) -> Any:
    """Method of a field that not every field has, or InputError that says who needs it."""
    found = getattr(field, name, None)
    if found is None:
        raise InputError(
            f"{who} needs {name!r} of a field, which {name_of(field)!r} has not; write it as "
            "TidalField has it, or choose another integrator or criterion"
        )
    return found


def answer_of(field: Any, name: str, like: Array, *given: Any, who: str = "a run") -> Array:
    """What a method of a field says, which may be one's own, once it can be added to `like`.

    Parameters
    ----------
    given
        What the method takes.
    who
        Needs it, for the message.
    """
    answer = part_of(field, name, who)(*given)
    if not is_like(answer, like):
        raise unlike(f"{name} of the field {name_of(field)!r}", answer, like)
    return answer


def is_like(answer: Any, like: Array) -> bool:
    """Whether this is an array of the shape and type of another one."""
    found = (getattr(answer, name, None) for name in ("shape", "dtype"))
    return tuple(found) == (like.shape, like.dtype)


def unlike(what: str, answer: Any, like: Array) -> InputError:
    """Error for what is not."""
    is_array = hasattr(answer, "shape") and hasattr(answer, "dtype")
    found = f"{tuple(answer.shape)} of {answer.dtype}" if is_array else type(answer).__name__
    return InputError(
        f"{what} returned {found}; it must be of shape {tuple(like.shape)}, of {like.dtype}"
    )


def name_of(field: Any) -> str:
    """Name of a field for messages."""
    return type(field).__name__
