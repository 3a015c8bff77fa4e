import math

import pytest

from nbcore.errors import InputError
from nbcore.runs.readme import BEGIN, END, write_results
from nbcore.runs.records import Run

ROW = {"median": 1e-4, "p10": 2e-5, "p90": math.inf, "final": 3e-5, "evaluations": 12, "lost": 1}


@pytest.fixture
def run(tmp_path):
    run = Run.create("one", root=tmp_path)
    (run.figures / "comparison.png").write_bytes(b"picture")
    return run


def test_the_table_between_the_marks_and_the_picture_are_replaced(run, tmp_path):
    readme, picture = tmp_path / "README.md", tmp_path / "figures" / "comparison.png"
    readme.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    run.save_metrics(comparison={"learned": ROW})
    write_results(run, readme, picture)
    text = readme.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "| learned | 1.0e-04 | 2.0e-05 | inf | 3.0e-05 | 12 | 1 |" in text
    assert picture.read_bytes() == b"picture"


def test_a_run_without_a_comparison_is_named(run, tmp_path):
    with pytest.raises(InputError, match="holds no comparison"):
        write_results(run, tmp_path / "README.md")


def test_a_readme_without_marks_is_left_as_it_is(run, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("nothing to replace")
    run.save_metrics(comparison={"learned": ROW})
    with pytest.raises(InputError, match="no marks"):
        write_results(run, readme, tmp_path / "picture.png")
    assert readme.read_text() == "nothing to replace"
