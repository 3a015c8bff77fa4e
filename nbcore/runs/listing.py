"""The runs in a folder, at a glance."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from nbcore.errors import InputError
from nbcore.jsonfiles import flat
from nbcore.runs import provenance, records
from nbcore.runs.records import Run

__all__ = ["Row", "as_text", "headline", "listed"]

# What is shown of a run's metrics, the first few that it has.
HEADLINES = (
    *("best", "trials", "loss", "epochs", "max_energy_error.median", "energy_error"),
    *("n_steps.median", "n_force_evaluations.median", "median_ratio"),
)


class Row(NamedTuple):
    """A run."""

    name: str
    notebook: str
    state: str
    age: str
    headline: str


def listed(folder: str | Path | None = None) -> list[Row]:
    """Runs of a folder, the newest last.

    Raises
    ------
    InputError
        There is no such folder.
    """
    root = records.OUTPUTS if folder is None else Path(folder)
    if folder is None and not root.exists():  # it is made with the first run
        return []
    if not root.is_dir():
        raise InputError(
            f"folder {str(root)!r} does not exist; runs are in {str(records.OUTPUTS)!r}"
        )
    paths = [path for path in root.glob("*/") if (path / "config.toml").exists()]
    return [_row(Run(path)) for path in sorted(paths, key=_changed)]


def as_text(rows: list[Row]) -> str:
    """Rows in columns, or that there are none."""
    if not rows:
        return "no runs yet"
    table = [Row(*(name.lower() for name in Row._fields)), *rows]
    widths = [max(len(row[k]) for row in table) for k in range(len(Row._fields))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    )


def headline(metrics: Mapping[str, Any]) -> str:
    """The few numbers that say most of a run."""
    numbers = dict(flat(metrics))
    shown = [name for name in HEADLINES if name in numbers][:3] or list(numbers)[:3]
    return "  ".join(f"{name} {numbers[name]:.4g}" for name in shown)


def _row(run: Run) -> Row:
    if (run.path / "array.json").exists():
        from nbcore.runs.arrays import Array, states

        array, found = Array(run), states(Array(run))
        made_by = f"{array.index['notebook']} × {len(found)}"
        state = ", ".join(f"{found.count(each)} {each}" for each in dict.fromkeys(found))
    else:
        made_by, state = provenance.made_by(run) or "–", provenance.state(run)
    return Row(
        run.path.name,
        made_by,
        state,
        _age(time.time() - _changed(run.path)),
        headline(run.load_metrics()),
    )


def _changed(path: Path) -> float:
    known = (path / f"{name}.json" for name in ("provenance", "metrics", "array"))
    made = path.stat().st_mtime
    return max([made, *(file.stat().st_mtime for file in known if file.exists())])


def _age(seconds: float) -> str:
    """How long ago; none below 0, which a clock that was set back would give."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{math.floor(seconds / size)} {unit}"
    return f"{max(0, math.floor(seconds))} s"
