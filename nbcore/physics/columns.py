"""Columns of a table by their names: which of them hold mass, position and velocity."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbcore.errors import InputError

__all__ = ["VECTORS", "Unknown", "by_name", "in_another_order", "is_known", "leads", "uncounted"]

Array = NDArray[np.float64]

_EXPECTED = "mass, x, y, vx, vy, in space z and vz, too, in any order"
_UNIT = re.compile(r"\s*[\[({](?P<unit>[^\])}]*)[\])}]\s*$")
_LEAD = re.compile(r"(?i)^\s*(?:col(?:umn)?s?|header|fields?|format|layout)\b\s*(?:[:=]|are\b)?")
_COUNT = re.compile(r"[\s(\[:=]*(?<![\w.+-])(\d+)(?!\w|\.\d)[)\]:.=\s-]*")
_AXIS = re.compile(r"[cdpqruv]{0,2}(?:[xyz]\d?|xyz?)")  # «px», «x0», «xyz»: meant, if not known
_NO_UNIT = ("", "-", "1", "dimensionless", "code", "code units", "nbody", "n-body")


def _unit_in(name: str) -> str | None:
    """Unit in brackets behind a name, or None."""
    found = _UNIT.search(name)
    if found is None or found["unit"].strip().lower() in _NO_UNIT:
        return None
    return found["unit"].strip()


def _plain(name: str) -> str:
    """Name without case, brackets and what parts its words: «Pos_X (-)» is posx."""
    return re.sub(r"[\s_.\-]+", "", _UNIT.sub("", name)).lower()


def is_known(name: str) -> bool:
    """Whether a name is that of a column, of one that does not matter, or of an orbital element."""
    plain = _plain(name)
    return plain in COLUMNS or plain in HARMLESS or plain in ELEMENTS


def uncounted(comment: str) -> str:
    """Comment without its lead, «columns: », and the numbers of its words, if these count up."""
    comment = _LEAD.sub("", comment)
    counts = list(map(int, _COUNT.findall(comment)))
    words = _COUNT.sub(" ", comment)
    n = len(re.findall(r"[^\s,;|]+", words))
    count_up = n > 1 and counts in (list(range(n)), list(range(1, n + 1)))
    return words if count_up else comment


def leads(comment: str) -> str | None:
    """Name of a column at the start of a comment, with the number before it, if there is one."""
    found = re.match(r"\W*(?:\d+\W+)?([^\W\d]\w*)", comment)
    return found[0] if found and _meaning(found[1]) else None


def in_another_order(comment: str, width: int) -> bool:
    """Whether a comment seems to name columns, other than as rows of a width are read by place."""
    words = re.findall(r"[^\W\d]\w*", comment)
    plain = {_plain(word) for word in words}
    meant = list(dict.fromkeys(filter(None, map(_meaning, words))))
    all_named = len(words) >= 3 and all(is_known(word) or _meaning(word) for word in words)
    elements = {
        _plain(word) for word in re.findall(r"([^\W\d]\w*)(?!\w|\s*[=:])", comment)
    } & ELEMENTS
    several = len(meant) >= 3 or len(elements) + len(meant) >= 5
    if not several and not (meant and all_named):
        return False
    axes = "xyz"[: (width - 1) // 2]
    usual = meant == ["mass", *axes, *(f"v{axis}" for axis in axes)] or (
        meant == ["mass", "position", "velocity"] and not plain & HARMLESS
    )
    return not usual or re.search(r"(?<!\w)\d+(?!\w)", comment) is not None


def _meaning(word: str) -> str | None:
    """What a word of a comment means as the name of a column, a unit at its end or not."""
    for plain in (_plain(word), word.split("_")[0].lower()):
        meant = COLUMNS.get(plain) or VECTORS.get(plain) or (_AXIS.fullmatch(plain) and plain)
        if meant:
            return None if meant == "time" else meant
    return None


class Unknown(InputError):
    """Names of columns that can't be used."""


def by_name(names: Sequence[str], column: Callable[[int], Array]) -> dict[str, Any]:
    """Mass, position and velocity, and the time where a column has it.

    Parameters
    ----------
    names
        Of all columns.
    column
        The k-th column as numbers (…, N); asked only for those that matter.

    Raises
    ------
    Unknown
        A name is unknown, doubled, missing, carries a unit or is an orbital element.
    """
    places = _places(names)
    axes = "xyz" if "z" in places else "xy"
    content: dict[str, Any] = {
        "mass": column(places["mass"]),
        "position": np.stack([column(places[axis]) for axis in axes], axis=-1),
        "velocity": np.stack([column(places[f"v{axis}"]) for axis in axes], axis=-1),
    }
    if "time" in places:
        content["time"] = _one_time(column(places["time"]))
    return content


def _places(names: Sequence[str]) -> dict[str, int]:
    """Place of every column that matters."""
    for name in names:
        if unit := _unit_in(name):
            raise Unknown(
                f"column {name!r} carries the unit {unit!r}; give plain numbers in consistent "
                "units, G in them, and names without units"
            )
    places: dict[str, int] = {}
    are_elements, unknown = _are_elements(names), []
    for k, name in enumerate(names):
        plain = _plain(name)
        if plain in COLUMNS:
            meant = COLUMNS[plain]
            if meant in places and not are_elements:
                raise Unknown(
                    f"columns {names[places[meant]]!r} and {name!r} both mean {meant!r}; leave one"
                )
            places[meant] = k
        elif plain not in HARMLESS and (plain or k > 0):  # pandas leaves its index without a name
            unknown.append(name)
    if are_elements:
        raise Unknown(
            f"columns {_listed(unknown)} are orbital elements; give positions and velocities, "
            "converted by REBOUND, for example: sim.add(m=…, a=…, e=…) and nb.from_rebound(sim)"
        )
    if unknown:
        raise Unknown(
            f"column {_listed(unknown)} is unknown; columns are {_EXPECTED}, and names such as "
            "id, name and radius are passed over: rename it or leave it out"
        )
    needed = ["mass", "x", "y", "vx", "vy", *(["z", "vz"] if {"z", "vz"} & {*places} else [])]
    if missing := [name for name in needed if name not in places]:
        raise Unknown(f"column {_listed(missing)} is missing; columns are {_EXPECTED}")
    return places


def _are_elements(names: Sequence[str]) -> bool:
    """Whether columns describe orbits instead of places."""
    plain = [_plain(name) for name in names]
    cartesian = {COLUMNS[name] for name in plain if name in COLUMNS}
    return sum(name in ELEMENTS for name in plain) >= 2 and not {"x", "y", "vx", "vy"} <= cartesian


def _one_time(times: Array) -> Any:
    first = times[..., :1]
    if (times != first).any():
        raise Unknown(
            f"column 'time' goes from {times.min()} to {times.max()}; give all bodies at one time"
        )
    return first[..., 0]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))


def _spellings() -> dict[str, str]:
    known = {"m": "mass", "mass": "mass", "masses": "mass", "t": "time", "time": "time"}
    for axis in "xyz":
        for word in ("", "pos", "position", "r"):
            known[f"{word}{axis}"] = axis
        for word in ("pos", "position"):
            known[f"{axis}{word}"] = axis
        for word in ("v", "vel", "velocity"):
            known[f"{word}{axis}"] = known[f"{axis}{word}"] = f"v{axis}"
        known[f"{axis}dot"] = known[f"d{axis}/dt"] = known[f"d{axis}dt"] = f"v{axis}"
    return known


COLUMNS = _spellings()
VECTORS = {
    **dict.fromkeys(("pos", "position", "positions", "coordinates"), "position"),
    **dict.fromkeys(("v", "vel", "velocity", "velocities"), "velocity"),
}
# What can't change the motion of point masses.
HARMLESS = {
    *("#", "body", "bodies", "color", "colour", "hash", "i", "id", "ids", "idx", "index", "label"),
    *("n", "name", "names", "no", "num", "number", "object", "particle", "particleid"),
    *("r", "radii", "radius", "unnamed:0"),
}
ELEMENTS = {
    *("a", "sma", "semimajoraxis", "e", "ecc", "eccentricity", "i", "inc", "incl", "inclination"),
    *("omega", "bigomega", "node", "lan", "raan", "longitudeofascendingnode", "peri", "pomega"),
    *("argp", "argperi", "argumentofperiapsis", "argumentofpericenter", "varpi", "ω", "ϖ"),
    *("f", "nu", "trueanomaly", "meananomaly", "m0", "ma", "ta", "theta", "l", "lambda"),
    *("meanlongitude", "p", "period", "q", "tp"),
}
