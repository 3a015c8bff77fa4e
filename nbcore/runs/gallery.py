"""notebooks/README.md: what each notebook asks, with a small picture of its answer."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

from PIL import Image

from nbcore.atomic import replacing

__all__ = ["write_gallery"]

WIDTH = 480  # of a thumbnail [pixels]
HEAD = """# The notebooks

Each is a percent script paired with an .ipynb that holds the pictures of a small run.
`python -m nbcore.runs.notebooks` makes all of them, and this page, anew.

| notebook | question | |
|---|---|---|
"""


def write_gallery(folder: Path) -> Path:
    """Write the page and its thumbnails for all executed notebooks of a folder.

    Parameters
    ----------
    folder
        With the .ipynb files; thumbnails go to figures/ in it.
    """
    import nbformat

    rows = []
    for path in sorted(folder.glob("*.ipynb")):
        cells = nbformat.read(path, as_version=4).cells
        small = f"figures/{path.stem}.png"
        picture = _first_picture(cells)
        if picture is not None:
            _write_thumbnail(picture, folder / small)
        shown = "" if picture is None else f"![{path.stem}]({small})"
        rows.append(f"| [{path.stem}]({path.name}) | {_question(cells)} | {shown} |")
    with replacing(folder / "README.md") as part:
        part.write_text(HEAD + "\n".join(rows) + "\n", encoding="utf-8")
    return folder / "README.md"


def _question(cells: list[Any]) -> str:
    """The heading that a notebook opens with."""
    lines = (line for cell in cells for line in cell.source.splitlines())
    return next((line.removeprefix("# ") for line in lines if line.startswith("# ")), "")


def _first_picture(cells: list[Any]) -> bytes | None:
    for cell in cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {}).get("image/png")
            if data:
                return base64.b64decode(data)
    return None


def _write_thumbnail(picture: bytes, path: Path) -> None:
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    image.thumbnail((WIDTH, 4 * WIDTH))
    path.parent.mkdir(exist_ok=True)
    with replacing(path) as part:
        # By the colours there are, not by how much of each: thin lines keep theirs.
        image.quantize(256, Image.Quantize.MAXCOVERAGE).save(part, optimize=True)
