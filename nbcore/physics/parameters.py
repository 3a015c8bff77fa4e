"""Types of scenario parameters, and calls that check them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import signature
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationError,
    WrapValidator,
    validate_call,
)

from nbcore.errors import InputError, unknown_name
from nbcore.physics.plain import check_plain

__all__ = ["checked_call"]


def _both_ends(value: Any) -> Any:
    return (value, value) if isinstance(value, (int, float)) else value


def _unless_a_stream(value: Any, check: Callable[[Any], Any]) -> Any:
    return value if isinstance(value, np.random.SeedSequence) else check(value)


def _ordered(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] > value[1]:
        raise ValueError("a range must go from small to large")
    return value


# Strict, for a parameter comes from TOML, where "3" and true are mistakes.
Real = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Positive = Annotated[Real, Field(gt=0)]
NotNegative = Annotated[Real, Field(ge=0)]
BelowOne = Annotated[Real, Field(ge=0, lt=1)]
Count = Annotated[int, Field(strict=True, ge=1)]
AtLeastTwo = Annotated[int, Field(strict=True, ge=2)]
# Also what `seeds.stream` makes of a seed and a purpose.
Seed = Annotated[int, Field(strict=True, ge=0), WrapValidator(_unless_a_stream)]
Dimensions = Literal[2, 3]
# A range also takes a single number, for both ends.
_Number, _Pair = BeforeValidator(_both_ends), AfterValidator(_ordered)
RealRange = Annotated[tuple[Real, Real], _Number, _Pair]
PositiveRange = Annotated[tuple[Positive, Positive], _Number, _Pair]
NotNegativeRange = Annotated[tuple[NotNegative, NotNegative], _Number, _Pair]
BelowOneRange = Annotated[tuple[BelowOne, BelowOne], _Number, _Pair]


def checked_call(owner: str, function: Callable[..., Any], given: Mapping[str, Any]) -> Any:
    """Call a function after a check of its keyword arguments against its annotations.

    Parameters
    ----------
    owner
        What the parameters belong to, for messages: «scenario 'kepler'».

    Raises
    ------
    InputError
        A parameter is unknown, missing, of the wrong type or out of range, or the annotations
        are no types.
    """
    arguments = signature(function)
    known = arguments.parameters
    takes_any = any(each.kind is each.VAR_KEYWORD for each in known.values())
    for name in given:
        if not known:
            raise InputError(f"{owner} takes no parameters; leave out {name!r}")
        if name not in known and not takes_any:
            raise unknown_name(f"parameter of {owner}", name, known)
        check_plain(f"{name} of {owner}", given[name])
    try:
        arguments.bind(**given)
    except TypeError as error:
        raise InputError(
            f"{owner}: {error}; parameters are given by name, and those without a default must be"
        ) from None
    plain = {k: v.item() if isinstance(v, np.generic) else v for k, v in given.items()}
    try:
        checked = validate_call(function)
    except Exception as error:  # of any kind, for annotations are evaluated here
        raise InputError(
            f"the annotations of {owner} can't be checked ({str(error).partition('. ')[0]}); "
            "annotate with types such as float, or not at all"
        ) from None
    try:
        return checked(**plain)
    except ValidationError as error:
        raise InputError("; ".join(_explain(owner, item) for item in error.errors())) from None


def _explain(owner: str, problem: Any) -> str:
    name, *inner = problem["loc"]
    where = "".join([str(name), *(f"[{part}]" for part in inner)])
    message = problem["msg"].removeprefix("Value error, ")
    return f"{where} of {owner} is {problem['input']!r}; {message[0].lower()}{message[1:]}"
