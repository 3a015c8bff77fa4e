"""JSON on disk: whole files, and files of one row a line that grow.

JSON has no NaN and no infinity: they are written as the strings "NaN", "Infinity", "-Infinity",
which Python's float() and JavaScript's Number() read, and which are turned back here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from nbcore.atomic import replacing

__all__ = [
    "append_line",
    "flat",
    "numbers",
    "plain",
    "read_json",
    "read_lines",
    "write_json",
    "write_lines",
]

NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def write_json(path: str | Path, value: Any) -> None:
    """Write a value in one atomic replacement; NumPy, torch and paths are accepted."""
    text = json.dumps(plain(value), indent=2, allow_nan=False, ensure_ascii=False)
    with replacing(path) as part:
        part.write_text(text + "\n", encoding="utf-8")


def read_json(path: str | Path) -> Any:
    """Read what `write_json` wrote."""
    return numbers(json.loads(Path(path).read_text(encoding="utf-8")))


def write_lines(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a file of lines in one atomic replacement."""
    with replacing(path) as part:
        part.write_text("".join(map(_line, rows)), encoding="utf-8")


def append_line(path: str | Path, row: Mapping[str, Any]) -> None:
    """Add a row at the end of a file of lines."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(_line(row))


def read_lines(path: str | Path) -> list[dict[str, Any]]:
    """Rows of a file of lines; none of a file that is missing, and none that a kill cut off."""
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    whole = text[: text.rfind("\n") + 1]
    return [numbers(json.loads(line)) for line in whole.splitlines()]


def flat(metrics: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Numbers of nested tables, by dotted names."""
    for key, value in metrics.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        elif isinstance(value, (bool, int, float)):
            yield f"{prefix}{key}", value


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(plain(row), allow_nan=False, ensure_ascii=False) + "\n"


def plain(value: Any) -> Any:
    """Value as JSON has it; see `numbers`."""
    if hasattr(value, "tolist"):  # NumPy and torch, neither of which is imported here
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return str(value) if isinstance(value, Path) else value


def numbers(value: Any) -> Any:
    """What `plain` made of a value, with its numbers that are not finite."""
    if isinstance(value, dict):
        return {key: numbers(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [numbers(inner) for inner in value]
    return NOT_FINITE.get(value, value) if isinstance(value, str) else value
