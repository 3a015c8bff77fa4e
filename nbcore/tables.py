"""Tables: in Markdown, and on disk as CSV that any program reads, with what belongs to all rows.

Numbers are written with all digits and read back as they were; text that looks like a number comes
back as one. Parquet would be smaller, and its library would be the largest here after torch.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from nbcore.atomic import replacing
from nbcore.jsonfiles import numbers, plain

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["markdown_head", "markdown_row", "read_table", "write_table"]

MARK = "# "


def write_table(table: pd.DataFrame, path: str | Path) -> None:
    """Write a table and its `attrs` in one atomic replacement; the index is left out."""
    about = json.dumps(plain(table.attrs), ensure_ascii=False)
    with replacing(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        file.write(f"{MARK}{about}\n")
        table.to_csv(file, index=False, na_rep="nan")


def read_table(path: str | Path) -> pd.DataFrame:
    """Read what `write_table` wrote; empty text stays text."""
    import pandas as pd

    with Path(path).open(encoding="utf-8", newline="") as file:
        about = numbers(json.loads(file.readline().removeprefix(MARK)))
        table = pd.read_csv(file, keep_default_na=False, na_values=["nan"])
    table.attrs = about
    return table


def markdown_row(*cells: str) -> str:
    """A row of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def markdown_head(*cells: str) -> list[str]:
    """The first two lines of a Markdown table."""
    return [markdown_row(*cells), "|---" * len(cells) + "|"]
