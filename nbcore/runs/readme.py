"""Write a run's results into README: `python -m nbcore.runs.readme outputs/RUN`.

A comparison at equal cost fills one table, a benchmark with peers another, and if it judges a
method that method's, too; a benchmark of planets fills theirs. One without peers fills those of the
shipped policies, in README and in their model card. `python -m nbcore.runs.readme ablation` makes
and fills the card's table of what each part buys.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

from nbcore.atomic import replacing
from nbcore.errors import InputError
from nbcore.places import SHIPPED, needs_checkout
from nbcore.runs.records import Run
from nbcore.tables import markdown_head, markdown_row

__all__ = [
    "benchmark_table",
    "results_table",
    "write_ablation",
    "write_benchmark",
    "write_equal_errors",
    "write_gains",
    "write_planets",
    "write_results",
]

BEGIN, END = "<!-- results: python -m nbcore.runs.readme outputs/RUN -->", "<!-- end of results -->"
BENCHMARK_BEGIN = "<!-- benchmark: python -m nbcore.runs.readme outputs/RUN -->"
BENCHMARK_END = "<!-- end of benchmark -->"
FIGURES = SHIPPED / "notebooks" / "figures"
PICTURE = FIGURES / "comparison.png"
README = SHIPPED / "README.md"
PLANETS = "wisdom_holman"  # the judged method of a benchmark of planets
CARD = Path(__file__).parents[1] / "stepping" / "pretrained" / "default.md"


def results_table(comparison: dict[str, dict[str, Any]]) -> str:
    """Markdown table of a comparison at equal cost, as it stands in metrics.json."""
    lines = markdown_head("method", "median", "p10", "p90", "final", "evaluations", "lost")
    for method, row in comparison.items():
        errors = (f"{row[name]:.1e}" for name in ("median", "p10", "p90", "final"))
        lines.append(markdown_row(method, *errors, str(row["evaluations"]), str(row["lost"])))
    return "\n".join(lines)


def benchmark_table(run: Run) -> str:
    """Markdown of a benchmark: costs with us and the best peer, where peers are quicker, by what.

    Raises
    ------
    InputError
        The run holds no benchmark.
    """
    from nbcore.analysis.benchmark import load_table
    from nbcore.analysis.families import get_family
    from nbcore.analysis.summary import about, short_table, where_peers_win

    table = _claimed(load_table(run.path))
    table = table[~table["family"].map(lambda family: get_family(family).is_short)]
    wins = f"Where peers are quicker:\n\n{where_peers_win(table)}"
    return f"{short_table(table)}\n\n{wins}\n\n{about(table.attrs['machine'])}"


def write_results(run: Run, readme: Path = README, picture: Path = PICTURE) -> None:
    """Replace the table between README's marks, and the picture, by those of a run."""
    metrics = run.load_metrics()
    if "comparison" not in metrics:
        raise InputError(f"{run} holds no comparison; make it with `nbcore both`")
    _replace_between(BEGIN, END, results_table(metrics["comparison"]), readme)
    picture.parent.mkdir(exist_ok=True)
    shutil.copyfile(run.figures / "comparison.png", picture)


def write_benchmark(run: Run, readme: Path = README) -> None:
    """Replace the benchmark's table between README's marks by that of a run."""
    _replace_between(BENCHMARK_BEGIN, BENCHMARK_END, benchmark_table(run), readme)


def write_equal_errors(run: Run, readme: Path = README) -> None:
    """Replace what a benchmark says of the method that it judges between README's marks."""
    from nbcore.analysis import equal_errors
    from nbcore.analysis.benchmark import load_table

    text = equal_errors.as_markdown(_claimed(load_table(run.path)))
    begin = "<!-- equal_errors: python -m nbcore.runs.readme outputs/RUN -->"
    _replace_between(begin, "<!-- end of equal_errors -->", text, readme)


def write_planets(run: Run, readme: Path = README) -> None:
    """Replace what a benchmark of planets says between README's marks."""
    from nbcore.analysis import equal_errors
    from nbcore.analysis.benchmark import load_table
    from nbcore.analysis.summary import about

    table = load_table(run.path)
    text = f"{equal_errors.beside_baseline(table)}\n\n{about(table.attrs['machine'])}"
    begin = "<!-- planets: python -m nbcore.runs.readme outputs/RUN -->"
    _replace_between(begin, "<!-- end of planets -->", text, readme)


def _claimed(table: Any) -> Any:
    """Families that these tables claim something about: planets have a table of their own."""
    return table.loc[~table["family"].str.startswith("planets")]


def write_gains(
    run: Run,
    readme: Path = README,
    card: Path = CARD,
    picture: Path = FIGURES / "gains.png",
) -> None:
    """Replace the tables of the shipped policies, and their picture, by those of a run."""
    from nbcore.analysis import gains
    from nbcore.analysis.benchmark import load_table
    from nbcore.views.frontiers import frontiers_figure

    table = load_table(run.path)
    last = gains.gains(table, "final_body_error", stepping="reversible")
    texts = {
        "gains": gains.as_markdown(gains.gains(table)),
        "energy": gains.as_markdown(gains.gains(table, "max_energy_error")),
        "end": gains.as_markdown(last),
        "shares": gains.shares_as_markdown(gains.calibration_shares(table)),
    }
    for path, names in ((card, texts), (readme, ("gains",))):
        for name in names:
            begin = f"<!-- {name}: python -m nbcore.runs.readme outputs/RUN -->"
            _replace_between(begin, f"<!-- end of {name} -->", texts[name], path)
    # The energy sees no light body, so that orbits are shown, as in the table.
    figure = frontiers_figure(table, cost="n_force_evaluations", error="max_body_error")
    picture.parent.mkdir(exist_ok=True)
    figure.savefig(picture, dpi=80)


def write_ablation(table: str, card: Path = CARD) -> None:
    """Replace the table of what each part buys in the model card."""
    begin = "<!-- ablation: python -m nbcore.runs.readme ablation -->"
    _replace_between(begin, "<!-- end of ablation -->", table, card)


def _replace_between(begin: str, end: str, text: str, readme: Path) -> None:
    before, begins, rest = readme.read_text(encoding="utf-8").partition(begin)
    _, ends, after = rest.partition(end)
    if not (begins and ends):
        raise InputError(f"{readme} has no marks {begin!r} and {end!r}; put them back")
    with replacing(readme) as part:
        part.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


if __name__ == "__main__":
    needs_checkout("writing results into README")
    if len(sys.argv) != 2:
        raise SystemExit("error: name a run, such as outputs/RUN, or ablation")
    if sys.argv[1] == "ablation":
        from nbcore.analysis.ablation import ablation, as_markdown

        write_ablation(as_markdown(ablation()))
        sys.exit()
    chosen = Run.open(sys.argv[1])
    if "benchmark" not in chosen.load_metrics():
        write_results(chosen)
    elif chosen.load_config().benchmark.peers == ():
        write_gains(chosen)
    elif chosen.load_config().benchmark.judged == PLANETS:
        write_planets(chosen)
    else:
        write_benchmark(chosen)
        if chosen.load_config().benchmark.judged is not None:
            write_equal_errors(chosen)
