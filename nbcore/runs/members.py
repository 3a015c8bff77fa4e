"""In what the members of an array differ: a grid of settings, the rows of a table, or both."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from nbcore.config import parse_value
from nbcore.errors import InputError

__all__ = ["grid", "members_of"]


def members_of(over: Sequence[str], table: str | Path | None) -> list[dict[str, Any]]:
    """Settings of each member: a grid, the rows of a table, or their product; one if neither.

    Raises
    ------
    InputError
        A value or the table can't be read.
    """
    crossed = grid(over)
    if table is None:
        return crossed
    import pandas as pd

    try:
        rows = pd.read_csv(table).to_dict("records")
    except (OSError, ValueError) as error:
        raise InputError(f"table {str(table)!r} can't be read: {error}") from None
    if not rows:
        raise InputError(f"table {str(table)!r} has no rows; a member for each is made")
    return [{**{str(k): v for k, v in row.items()}, **more} for row in rows for more in crossed]


def grid(over: Iterable[str]) -> list[dict[str, Any]]:
    """Members of a grid: «train.seed=0:100», «train.learning_rate=1e-3,1e-4», or a TOML list.

    Several are crossed, the last one running quickest.

    Raises
    ------
    InputError
        One can't be read.
    """
    axes: dict[str, list[Any]] = {}
    for text in over:
        key, equals, values = (part.strip() for part in text.partition("="))
        if not equals or not key or not values:
            raise InputError(
                f"--over {text!r} must read key=values: a list (1e-3,1e-4), a range (0:100) or a "
                "TOML array"
            )
        if key in axes:
            raise InputError(f"--over names {key!r} twice; give all its values at once")
        axes[key] = _values(text, values)
    return [dict(zip(axes, chosen, strict=True)) for chosen in product(*axes.values())]


def _values(text: str, values: str) -> list[Any]:
    if values.startswith("["):
        listed = parse_value(values)
        if not isinstance(listed, list) or not listed:
            raise InputError(f"--over {text!r}: this is no TOML array with values in it")
        return listed
    if ":" in values:
        try:
            numbers = range(*(int(part) for part in values.split(":")))
        except (ValueError, TypeError):
            raise InputError(
                f"--over {text!r}: a range is start:stop or start:stop:step, of whole numbers"
            ) from None
        if not numbers:
            raise InputError(f"--over {text!r}: this range has no number in it")
        return list(numbers)
    return [parse_value(part.strip()) for part in values.split(",")]
