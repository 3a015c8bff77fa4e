"""Write a run's results into README: `python -m nbcore.runs.readme outputs/RUN`."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

from nbcore.atomic import replacing
from nbcore.errors import InputError
from nbcore.runs.records import Run

__all__ = ["results_table", "write_results"]

ROOT = Path(__file__).resolve().parents[2]
BEGIN, END = "<!-- results: python -m nbcore.runs.readme outputs/RUN -->", "<!-- end of results -->"
PICTURE = ROOT / "notebooks" / "figures" / "comparison.png"


def results_table(comparison: dict[str, dict[str, Any]]) -> str:
    """Markdown table of a comparison at equal cost, as it stands in metrics.json."""
    lines = [
        "| method | median | p10 | p90 | final | evaluations | lost |",
        "|---|---|---|---|---|---|---|",
    ]
    for method, row in comparison.items():
        errors = " | ".join(f"{row[name]:.1e}" for name in ("median", "p10", "p90", "final"))
        lines.append(f"| {method} | {errors} | {row['evaluations']} | {row['lost']} |")
    return "\n".join(lines)


def write_results(run: Run, readme: Path = ROOT / "README.md", picture: Path = PICTURE) -> None:
    """Replace the table between README's marks, and the picture, by those of a run."""
    metrics = run.load_metrics()
    if "comparison" not in metrics:
        raise InputError(f"{run} holds no comparison; make it with `nbcore both`")
    before, begin, rest = readme.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise InputError(f"{readme} has no marks {BEGIN!r} and {END!r}; put them back")
    table = results_table(metrics["comparison"])
    with replacing(readme) as part:
        part.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")
    picture.parent.mkdir(exist_ok=True)
    shutil.copyfile(run.figures / "comparison.png", picture)


if __name__ == "__main__":
    write_results(Run.open(sys.argv[1]))
