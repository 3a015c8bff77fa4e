import base64
import io

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from nbcore.runs import notebooks
from nbcore.runs.gallery import WIDTH, write_gallery


def picture(width, height):
    page = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(page, "png")
    return base64.b64encode(page.getvalue()).decode()


def write(path, *cells):
    nbformat.write(new_notebook(cells=list(cells)), path)


def test_the_page_lists_questions_and_small_pictures(tmp_path):
    output = new_output("display_data", {"image/png": picture(1000, 500)})
    heading = new_markdown_cell("# What falls?\n\nEverything.")
    write(tmp_path / "10_fall.ipynb", heading, new_code_cell("1", outputs=[output]))
    write(tmp_path / "20_dull.ipynb", new_markdown_cell("# And now?"))
    text = write_gallery(tmp_path).read_text()
    fall = "| [10_fall](10_fall.ipynb) | What falls? | ![10_fall](figures/10_fall.png) |"
    assert text.splitlines()[-2:] == [fall, "| [20_dull](20_dull.ipynb) | And now? |  |"]
    with Image.open(tmp_path / "figures" / "10_fall.png") as small:
        assert small.size == (WIDTH, WIDTH // 2)


@pytest.mark.parametrize("name", notebooks.names())
def test_every_notebook_of_the_project_is_on_its_page(name):
    page = (notebooks.NOTEBOOKS / "README.md").read_text(encoding="utf-8")
    assert f"[{name}]({name}.ipynb)" in page
    assert f"figures/{name}.png" in page
    assert (notebooks.NOTEBOOKS / "figures" / f"{name}.png").is_file()
    assert (notebooks.NOTEBOOKS / f"{name}.ipynb").stat().st_size < 500_000
