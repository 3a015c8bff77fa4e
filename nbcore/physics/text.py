"""Tables of bodies in text: one row a body, with or without names of the columns."""

from __future__ import annotations

import csv
import math
import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nbcore.errors import InputError
from nbcore.physics.columns import Unknown, by_name, is_known

__all__ = ["LAYOUT", "read_table"]

LAYOUT = "5 columns (mass, x, y, vx, vy) or 7 (mass, x, y, z, vx, vy, vz)"

_FORTRAN = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))[dD]([+-]?\d+)")
_KEYS = {
    **dict.fromkeys(("g", "gravitationalconstant"), "G"),
    **dict.fromkeys(("softening", "softeninglength", "eps", "epsilon"), "softening"),
    **dict.fromkeys(("time", "t"), "time"),
}
# «G = 1», «softening: 0.1», «G = M = 1» and what follows
_SETTING = re.compile(
    r"(?<!\w)(?P<key>G|t(?=\s*=)|"
    r"(?i:gravitational[ _]constant|softening(?:[ _]length)?|eps(?:ilon)?|time))\s*(?P<sign>[=:])"
    r"\s*(?:[A-Za-z]\w*\s*=\s*)*(?P<value>[^,;#)\]]*?)"
    r"(?=\s+and\b|\s+\w+\s*[=:]|[,;#)\]]|\.?\s*$)"
)
_UNITS = re.compile(r"(?i)\bunits?\b(?:\s+(?:of|for)\s+\w+)?\s*(?:[:=]|\bare\b)\s*(?P<units>\S.*)")
_WITHOUT_UNITS = re.compile(r"(?i)(n-?body|h[eé]non|code|natural|dimensionless|arbitrary|none)\b")
_LEAD = re.compile(r"(?i)^\s*(?:columns?|header|fields?|format|layout)\b\s*[:=]?")


@dataclass
class _Table:
    """What was found in the lines so far."""

    header: tuple[int, list[str]] | None = None
    comments: list[tuple[int, list[str]]] = field(default_factory=list)  # words above all rows
    rows: list[tuple[int, list[str]]] = field(default_factory=list)
    settings: dict[str, float] = field(default_factory=dict)
    units: str | None = None


def read_table(text: str) -> dict[str, Any]:
    """Mass, position, velocity, and G, softening, time and units as far as comments have them.

    Raises
    ------
    InputError
        With the line and the remedy.
    """
    table = _Table()
    for number, line in enumerate(text.splitlines(), start=1):
        data, _, comment = line.partition("#")
        if data.strip():
            _take(table, number, data)
        elif not table.rows:
            table.comments.append((number, _words(_LEAD.sub("", comment))))
        _heed(table, number, comment)
    if not table.rows:
        raise InputError(f"there are no bodies in it; give one row a body with {LAYOUT}")
    header = _header(table)
    content = _by_place(table.rows) if header is None else _named(header, table.rows)
    for name, value in table.settings.items():
        if name in content and (content[name] != value).any():
            raise InputError(f"{name} is {content[name]} in a column and {value} in a comment")
        content[name] = value
    return content if table.units is None else {**content, "units": table.units}


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
    comment = _joined(comment)
    separator = next((mark for mark in ";,\t" if mark in comment), None)
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
    for number, words in table.comments:
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


def _by_place(rows: list[tuple[int, list[str]]]) -> dict[str, Any]:
    numbers = []
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
    table, split = np.array(numbers), (len(numbers[0]) + 1) // 2
    return {"mass": table[:, 0], "position": table[:, 1:split], "velocity": table[:, split:]}


def _heed(table: _Table, number: int, comment: str) -> None:
    """Take G, softening, time and the units from a comment."""
    for found in _SETTING.finditer(comment):
        name = _KEYS[re.sub(r"[ _]", "", found["key"].lower())]
        leads = not re.search(r"\w", re.split(r"[,;]", comment[: found.start()])[-1])
        if found["sign"] == ":" and not leads:
            continue
        decimals = re.match(r",\d+(?![\w.]|\s*[=:])", comment[found.end() :])
        value = found["value"].strip() + (decimals[0] if decimals else "")
        loose = name == "time" and (found["key"] == "t" or found["sign"] == ":")
        if loose and not _is_number(value.split(" ")[0]):
            continue  # when the file was written, or what was plotted
        read = _cell(value, number)
        if table.settings.setdefault(name, read) != read:
            raise InputError(f"line {number}: {name} is {read}, and {table.settings[name]} above")
    units = _UNITS.search(comment)
    if units and not _WITHOUT_UNITS.match(units["units"]):
        table.units = units["units"].strip()


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
    if re.fullmatch(r"[+-]?[\d.]*,\d+(?:[eE][+-]?\d+)?", cell):
        raise InputError(f"line {number}: {cell!r} has a decimal comma; write a decimal point")
    if not _is_number(cell) or not math.isfinite(_number(cell)):
        raise InputError(f"line {number}: {cell!r} is not a finite number; mend the cell")
    return _number(cell)
