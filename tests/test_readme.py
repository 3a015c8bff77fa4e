import math

import pytest
from power_laws import WIDE, ours_and_theirs, rows, table
from test_gains import TABLE

from nbcore.analysis.benchmark import TABLE_FILE
from nbcore.errors import InputError
from nbcore.runs.readme import (
    BEGIN,
    BENCHMARK_BEGIN,
    BENCHMARK_END,
    END,
    benchmark_table,
    write_ablation,
    write_benchmark,
    write_equal_errors,
    write_gains,
    write_results,
)
from nbcore.runs.records import Run
from nbcore.tables import write_table

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


def test_the_benchmark_fills_its_own_marks_and_leaves_the_other_table(run, tmp_path):
    write_table(ours_and_theirs(), run.path / TABLE_FILE)
    readme = tmp_path / "README.md"
    other = f"{BEGIN}\nother\n{END}"
    readme.write_text(f"{other}\nbetween\n{BENCHMARK_BEGIN}\nold\n{BENCHMARK_END}\nafter\n")
    for _ in range(2):
        write_benchmark(run, readme)
    text = readme.read_text()
    assert text.startswith(f"{other}\nbetween\n{BENCHMARK_BEGIN}\n| max energy error |")
    assert " on abacus (2 cores) " in text
    assert text.endswith(f"{BENCHMARK_END}\nafter\n")
    assert "old" not in text
    assert "**4.0×** 1 ms kahan_li8 boekholt / 4 ms heyoka" in text
    assert "- 5 unequal bodies: at 1e-04 heyoka is 2.0× quicker" in text


def test_the_benchmark_says_nothing_of_planets_nor_of_short_runs(run):
    made = table(
        *(
            rows(family, method, kind, unit, 4, WIDE)
            for family in ("five_body", "five_body_short", "planets_quiet")
            for method, kind, unit in (("kahan_li8", "fixed", 1e-4), ("heyoka", "peer", 3e-4))
        )
    )
    write_table(made, run.path / TABLE_FILE)
    text = benchmark_table(run)
    assert "| 5 unequal bodies |" in text
    assert "planets" not in text
    assert "short" not in text


def test_a_run_without_a_benchmark_is_named(run, tmp_path):
    with pytest.raises(InputError, match="make it with `nbcore benchmark`"):
        write_benchmark(run, tmp_path / "README.md")


def test_a_judged_method_fills_its_own_marks_without_planets(run, tmp_path):
    made = table(
        *(
            rows(family, method, kind, unit, 4, WIDE)
            for family in ("five_body", "planets_quiet")
            for method, kind, unit in (("a", "classical", 3e-4), ("b", "adaptive", 1e-4))
        ),
        judged="b",
        baseline=["classical"],
    )
    write_table(made, run.path / TABLE_FILE)
    readme = tmp_path / "README.md"
    begin = "<!-- equal_errors: python -m nbcore.runs.readme outputs/RUN -->"
    readme.write_text(f"before\n{begin}\nold\n<!-- end of equal_errors -->\nafter\n")
    write_equal_errors(run, readme)
    text = readme.read_text()
    assert "| baseline ÷ b, median | 1 | 3.0× |" in text
    assert "planets" not in text
    assert "old" not in text


def test_the_shipped_policies_tables_go_to_readme_and_card(run, tmp_path):
    write_table(TABLE, run.path / TABLE_FILE)
    files = tmp_path / "README.md", tmp_path / "card.md"
    for file in files:
        begin, end = "<!-- {}: python -m nbcore.runs.readme outputs/RUN -->", "<!-- end of {} -->"
        marks = (
            f"{begin}\nold\n{end}".format(name, name)
            for name in ("gains", "energy", "end", "shares")
        )
        file.write_text("\n".join(marks))
    picture = tmp_path / "figures" / "gains.png"
    write_gains(run, *files, picture)
    readme, card = (file.read_text() for file in files)
    assert (readme.count("old"), card.count("old")) == (3, 0)
    for text in (readme, card):
        assert "| 3 equal bodies, planar | 0.75 | 0.75 |" in text
    assert "| blanes_moan4 default reversible |" in card
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_table_of_an_ablation_goes_into_the_card(tmp_path):
    card = tmp_path / "card.md"
    begin = "<!-- ablation: python -m nbcore.runs.readme ablation -->"
    card.write_text(f"before\n{begin}\nold\n<!-- end of ablation -->\nafter\n")
    write_ablation("new", card)
    assert card.read_text() == f"before\n{begin}\nnew\n<!-- end of ablation -->\nafter\n"
