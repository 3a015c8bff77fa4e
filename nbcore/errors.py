"""Errors that a user can mend."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import TypeVar

__all__ = ["InputError", "entry", "unknown_name"]

Entry = TypeVar("Entry")


class InputError(ValueError):
    """The user's input can't be used; the message names the value and the remedy."""


def unknown_name(kind: str, name: object, known: Iterable[str]) -> InputError:
    """Error for a name outside a table, with the nearest name that exists."""
    known = sorted(known)
    close = get_close_matches(str(name), known, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    return InputError(f"{kind} {name!r} is unknown{hint} Known: {', '.join(known)}")


def entry(kind: str, name: object, table: Mapping[str, Entry]) -> Entry:
    """Entry of a table by its name, or the error of `unknown_name`; a name may be anything."""
    if not isinstance(name, str) or name not in table:
        raise unknown_name(kind, name, table)
    return table[name]
