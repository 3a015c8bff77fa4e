"""Plain numbers, without a unit or a mask: what the physics takes.

To read an array as numbers drops what else it carries: 1 km would become 1, and a masked value
some number that is none. Such input is known by its attributes, whichever package it is from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from nbcore.errors import InputError
from nbcore.physics.arrays import is_tensor

__all__ = ["check_plain"]

_REMEDY = {
    "a unit": "give plain numbers in consistent units, such as q.to_value(…) of astropy or "
    "q.m_as(…) of pint, and G in these units",
    "a mask": "give plain numbers without masked or missing values, such as a.filled(…) or rows "
    "that are whole",
    "an imaginary part": "give real numbers",
}
_NO_UNIT = ("", "1", "dimensionless")


def check_plain(name: str, value: Any) -> None:
    """Refuse what carries a unit, a mask or an imaginary part, in nested lists and tuples, too.

    Parameters
    ----------
    name
        What the value is, for the message.

    Raises
    ------
    InputError
        With the remedy.
    """
    found = _carried(value)
    if found is not None:
        what, which = found
        raise InputError(f"{name} carries {what} ({which}); {_REMEDY[what]}")


def _carried(value: Any) -> tuple[str, str] | None:
    """What a value carries beside numbers, and which."""
    if value is None or type(value) in (bool, int, float, str, bytes):
        return None
    if isinstance(value, (list, tuple)):
        return next((found for item in value if (found := _carried(item))), None)
    for unit in _units(value):
        return "a unit", unit
    if _has_mask(value):
        return "a mask", type(value).__name__
    if any(getattr(each, "kind", "") == "O" for each in _dtypes(value)):
        return _carried(np.asarray(value).ravel().tolist())
    if isinstance(value, complex) or _is_complex(value):
        return "an imaginary part", "complex numbers"
    return None


def _units(value: Any) -> Iterator[str]:
    """Names of the units that a value, its data, its columns or its attributes carry."""
    types = _dtypes(value)
    for holder in (*types, *_parts(value)):
        for attribute in ("unit", "units"):
            unit = getattr(holder, attribute, None)
            if unit is not None and str(unit).strip() not in _NO_UNIT:
                yield str(unit)
        attributes = getattr(holder, "attrs", None)  # of xarray and pandas
        if isinstance(attributes, Mapping):
            for key, unit in attributes.items():
                named = str(key).lower() in ("unit", "units")
                if named and unit is not None and str(unit).strip() not in _NO_UNIT:
                    yield str(unit)
    for each in types:
        if getattr(each, "kind", "") in ("m", "M"):  # a time of numpy or pandas
            yield str(each)


def _dtypes(value: Any) -> list[Any]:
    """Types of the numbers, of a table of pandas column by column."""
    if hasattr(value, "columns"):
        return list(value.dtypes)
    return [getattr(value, "dtype", None)]


def _parts(value: Any) -> list[Any]:
    """A value, and what it wraps: numbers of xarray may be a quantity."""
    return [value, getattr(value, "data", None)] if hasattr(value, "attrs") else [value]


def _has_mask(value: Any) -> bool:
    """Whether a value has a mask, or lacks a value where pandas says so."""
    if is_tensor(value):
        return hasattr(value, "get_mask")
    mask = getattr(value, "mask", None)  # a method in pandas
    if mask is not None and not callable(mask):
        return mask is not np.ma.nomask
    missing = getattr(value, "isna", None)  # of pandas
    if callable(missing):
        return bool(np.asarray(missing()).any())
    return type(value).__name__ == "NAType"


def _is_complex(value: Any) -> bool:
    if is_tensor(value):
        return value.is_complex()
    return getattr(getattr(value, "dtype", None), "kind", "") == "c"
