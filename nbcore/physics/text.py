"""Tables of bodies in text: one row a body, with or without names of the columns."""

from __future__ import annotations

import csv
import math
import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nbcore.errors import InputError
from nbcore.physics.columns import (
    Unknown,
    by_name,
    in_another_order,
    is_known,
    leads,
    uncounted,
)

__all__ = ["LAYOUT", "read_table"]

LAYOUT = "5 columns (mass, x, y, vx, vy) or 7 (mass, x, y, z, vx, vy, vz)"

_FORTRAN = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))[dD]([+-]?\d+)")
_KEYS = {
    **dict.fromkeys(("g", "gravitationalconstant"), "G"),
    **dict.fromkeys(("softening", "softeninglength", "eps", "epsilon"), "softening"),
    **dict.fromkeys(("time", "t"), "time"),
}
_DATA = re.compile(r'(?:(?<![^\s,;])"[^"]*"|[^#])*')
# «G = 1», «softening: 0.1», «G = M = 1» and what follows
_SETTING = re.compile(
    r"(?<!\w)(?P<key>G|t(?=\s*=)|"
    r"(?i:gravitational[ _]constant|softening(?:[ _]length)?|eps(?:ilon)?|time))[\"']?"
    r"\s*(?P<sign>[=:])\s*(?:[A-Za-z]\w*\s*=\s*)*(?P<value>[^,;#)\]]*?)"
    r"(?=\s+and\b|\s+\w+\s*[=:]|[,;#)\]]|\.?\s*$)"
)
# «G is 1», «g = 1», «GM: 1», «soft = .1»: told, but not in a way that can be read for sure
_TOLD = (
    r"(?!\w)[\"')\]]*(?:\s*[(\[][^)\]]*[)\]])?"
    r"[\s=:~≈^*]*(?:\b(?:is|was|of|equals)\b[\s=:~≈]*)?[+-]?\.?\d\S*"
)
_HINTS = {
    "G": re.compile(
        r"(?i)(?<!\w)(?:g|gm_?[a-z]*|g_?(?:n|0|const\w*|newton|grav\w*)|grav(?:ity)?(?=\s*[=:])|"
        rf"(?:grav\w*|newton\S*)[ _]const\w*){_TOLD}"
    ),
    "softening": re.compile(
        r"(?i)(?<!\w)(?:soft(?:en(?:ing)?)?(?:[ _]?(?:length|len|parameter|radius|scale))?|"
        rf"eps\w*|[εϵ]){_TOLD}"
    ),
}
_UNITS = re.compile(
    r"(?i)\bunits?(?:\s+system)?\b(?:\s+(?:of|for)\s+\w+)?\s*(?:[:=]|\bare\b)\s*(?P<units>\S.*)"
)
_WITHOUT_UNITS = r"(?i)\b(?:n-?body|h[eé]non|code|natural|dimensionless|arbitrary|none)\b"
_MAYBE_UNIT = r"(?:au|pc|[msgd]|(?:day|year|hour|second|met(?:er|re)|gram)s?)"
_UNIT = re.compile(
    r"(?<!\w)(?:SI|AU|[kMG]?pc|[kMG]?yrs?|kg|[kc]m|ly|m ?/ ?s|a\.u|M_?[☉⊙]|M_?\{?\\odot|"
    r"(?i:cgs|mks|[mrl]_?(?:sun|sol|solar|jup\w*|earth)|(?:solar|earth|jupiter)[ -]mass(?:es)?|"
    r"(?:physical|solar|astronomical|gaussian|metric|galactic)[ -]units?|"
    r"(?:kilo|mega)?parsecs?|light[ -]?years?|(?:kilo|centi)(?:met(?:er|re)|gram)s?))(?!\w)|"
    rf"\bin {_MAYBE_UNIT}(?![\w-])|\[\s*{_MAYBE_UNIT}\s*\]|\d\s*au\b"
)


@dataclass
class _Table:
    """What was found in the lines so far."""

    header: tuple[int, list[str]] | None = None
    comments: list[tuple[int, str]] = field(default_factory=list)
    above: int = 0  # as many of them stand above all rows
    rows: list[tuple[int, list[str]]] = field(default_factory=list)
    settings: dict[str, float] = field(default_factory=dict)
    hints: dict[str, str] = field(default_factory=dict)


def read_table(text: str) -> dict[str, Any]:
    """Mass, position, velocity, and G, softening and time as far as comments have them.

    «hints» holds what comments tell of G, units for one, and of softening, and can't be read.

    Raises
    ------
    InputError
        With the line and the remedy.
    """
    table = _Table()
    for number, line in enumerate(text.splitlines(), start=1):
        if number == 1 and re.fullmatch(r'"?sep=."?\s*', line):
            continue  # for Excel
        data, comment = _parted(line)
        if data.strip(' \t,;"'):
            _take(table, number, data)
        if not table.rows:
            table.above = len(table.comments) + 1
        if comment.strip():
            table.comments.append((number, uncounted(_heed(table, number, comment))))
    if not table.rows:
        raise InputError(f"there are no bodies in it; give one row a body with {LAYOUT}")
    header = _header(table)
    content = _by_place(table) if header is None else _named(header, table.rows)
    for name, value in table.settings.items():
        if name in content and (content[name] != value).any():
            raise InputError(f"{name} is {content[name]} in a column and {value} in a comment")
        content[name] = value
    return {**content, "hints": table.hints}


def _parted(line: str) -> tuple[str, str]:
    """Cells and comment of a line; a «#» within a cell in quotes starts none."""
    data = _DATA.match(line)
    return (line, "") if data is None else (data[0], line[data.end() + 1 :])


def _take(table: _Table, number: int, data: str) -> None:
    """Take a line as the names of columns or as a row."""
    cells = _cells(data, number)
    is_row = any(_is_number(cell.replace(",", ".")) for cell in cells)
    if not table.rows and table.header is None and not is_row:
        table.header = number, _without_last(_cells(_joined(data), number))
    else:
        table.rows.append((number, cells))


def _joined(line: str) -> str:
    """Names between spaces with the units behind them as one word each."""
    if any(mark in line for mark in ";,\t"):
        return line
    return re.sub(r"\s+([\[({])", r"\1", line)


def _words(comment: str) -> list[str]:
    """Words of a comment that may name the columns."""
    comment = _joined(comment).strip(" \t,;|")
    separator = next((mark for mark in ";,\t|" if mark in comment), None)
    words = [word.strip(" \t\"'") for word in comment.split(separator)]
    return [word for word in words if word]


def _cells(line: str, number: int) -> list[str]:
    """Cells of a line; semicolons go before commas, commas before tabs and spaces."""
    line = line.strip(" ")
    separator = next((mark for mark in ";,\t" if mark in line), " ")
    if separator == "\t" and any(map(_has_several, line.split("\t"))):
        line, separator = " ".join(line.split()), " "
    try:
        cells = next(
            csv.reader([line], delimiter=separator, skipinitialspace=True, strict=True), []
        )
    except csv.Error as error:
        raise InputError(f"line {number} can't be read ({error}); mend its quotes") from None
    return [cell.strip() for cell in cells]


def _has_several(cell: str) -> bool:
    """Whether spaces part columns within a cell, as names of bodies don't."""
    words = cell.split()
    return len(words) > 1 and all(_is_number(word) or is_known(word) for word in words)


def _without_last(cells: list[str]) -> list[str]:
    """Cells without the empty one that a separator at the end of a line makes."""
    return cells[:-1] if len(cells) > 1 and not cells[-1] else cells


def _header(table: _Table) -> tuple[int, list[str]] | None:
    """Names of the columns and their line; a comment counts if its words are such names."""
    width = len(_without_last(table.rows[0][1]))
    for number, comment in table.comments[: table.above]:
        words = _words(comment)
        known = sum(map(is_known, words))
        if len(words) < 5 or not (
            known == len(words) or (len(words) == width and 2 * known > len(words))
        ):
            continue
        if table.header is not None and table.header[1] != words:
            raise InputError(
                f"lines {number} and {table.header[0]} name other columns; leave one of them"
            )
        table.header = table.header or (number, words)
    return table.header


def _named(header: tuple[int, list[str]], rows: list[tuple[int, list[str]]]) -> dict[str, Any]:
    line, names = header
    taken = []
    for number, cells in rows:
        cells = _without_last(cells) if len(cells) > len(names) else cells
        if len(cells) != len(names):
            raise InputError(
                f"line {number} has {len(cells)} columns and line {line} names {len(names)}; "
                "all rows must have as many"
            )
        taken.append((number, cells))

    def column(k: int) -> np.ndarray:
        return np.array([_cell(cells[k], number) for number, cells in taken])

    try:
        return by_name(names, column)
    except Unknown as error:
        raise InputError(f"line {line}: {error}") from None


def _by_place(table: _Table) -> dict[str, Any]:
    rows, numbers = table.rows, []
    for number, cells in rows:
        row = [_cell(cell, number) for cell in _without_last(cells)]
        if len(row) not in (5, 7):
            raise InputError(f"line {number} has {len(row)} columns; a row must have {LAYOUT}")
        if numbers and len(row) != len(numbers[0]):
            raise InputError(
                f"line {number} has {len(row)} columns and the first row {len(numbers[0])}; "
                "all rows must have as many"
            )
        numbers.append(row)
    if numbers[0] == list(range(len(numbers[0]))):
        raise InputError(
            f"line {rows[0][0]} counts the columns, as pandas writes it; "
            "replace it by their names, or leave it out"
        )
    _check_order(table, len(numbers[0]))
    array, split = np.array(numbers), (len(numbers[0]) + 1) // 2
    return {"mass": array[:, 0], "position": array[:, 1:split], "velocity": array[:, split:]}


def _check_order(table: _Table, width: int) -> None:
    """Refuse comments which seem to name the columns, in a line or down the lines."""
    down = [(number, word) for number, comment in table.comments if (word := leads(comment))]
    at_once = [(number, uncounted(" ".join(word for _, word in down))) for number, _ in down[:1]]
    for number, comment in [*table.comments, *at_once]:
        if in_another_order(comment, width):
            raise InputError(
                f"line {number}: the comment {comment.strip()!r} seems to name the columns; put "
                "their names in a line of their own without «#», such as mass,x,y,vx,vy"
            )


def _heed(table: _Table, number: int, comment: str) -> str:
    """Take G, softening, time and hints from a comment; what is left of it."""
    left = comment
    for found in _SETTING.finditer(comment):
        name = _KEYS[re.sub(r"[ _]", "", found["key"].lower())]
        first = not re.search(r"\w", re.split(r"[,;]", comment[: found.start()])[-1])
        decimals = re.match(r",\d[\w.+-]*", comment[found.end() :])
        value = found["value"].strip() + (decimals[0].rstrip(".") if decimals else "")
        starts_as_number = _is_number(value.split(" ")[0].replace(",", "."))
        if found["sign"] == ":" and not first and (name == "time" or not starts_as_number):
            continue
        loose = name == "time" and (found["key"] == "t" or found["sign"] == ":")
        if loose and not starts_as_number:
            continue  # when the file was written, or what was plotted
        read = _cell(value, number)
        if table.settings.setdefault(name, read) != read:
            raise InputError(f"line {number}: {name} is {read}, and {table.settings[name]} above")
        left = left.replace(found[0], " ", 1)
    for name, pattern in _HINTS.items():
        if told := pattern.search(left):
            table.hints.setdefault(name, told[0].strip())
    if units := _units(left):
        table.hints.setdefault("G", units)
    return left


def _units(comment: str) -> str | None:
    """What a comment tells of units, if they may need another G than 1."""
    if units := _UNITS.search(comment):
        return None if re.match(_WITHOUT_UNITS, units["units"]) else units["units"].strip()
    if re.search(_WITHOUT_UNITS + r"[ -]units?\b", comment) or not _UNIT.search(comment):
        return None
    return comment.strip()


def _is_number(cell: str) -> bool:
    try:
        _number(cell)
    except ValueError:
        return False
    return True


def _number(cell: str) -> float:
    """Number in a cell; exponents of Fortran's double precision are read, too."""
    if "_" in cell:
        raise ValueError
    return float(_FORTRAN.sub(r"\1e\2", cell))


def _cell(cell: str, number: int) -> float:
    if re.fullmatch(r"[+-]?[\d.]*,\d+(?:[eEdD][+-]?\d+)?", cell):
        raise InputError(f"line {number}: {cell!r} has a decimal comma; write a decimal point")
    if not _is_number(cell) or not math.isfinite(_number(cell)):
        raise InputError(f"line {number}: {cell!r} is not a finite number; mend the cell")
    return _number(cell)
