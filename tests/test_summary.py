import math

import pandas as pd
import pytest
from power_laws import WIDE, ours_and_theirs, rows, table

from nbcore.analysis import summary
from nbcore.analysis.frontiers import LEVELS, costs

SPEED = pd.DataFrame(
    [("leapfrog", 3e-8, 1e-7, 0.3, 0.4), ("other", 2e-3, math.nan, math.nan, math.nan)],
    columns=["what", "ours", "beside", "ratio", "target"],
)


def lines(markdown):
    return [line for line in markdown.splitlines() if line.startswith("|")]


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_best_of_ours_meets_the_best_peer():
    first, *_ = summary.contests(costs(ours_and_theirs()))
    assert (first.family, first.error) == ("two_body_e50", 1e-4)
    assert (first.method, first.peer) == ("kahan_li8 boekholt", "heyoka")
    assert (first.cost, first.peer_cost) == pytest.approx((1e-3, 4e-3))
    assert first.ratio == pytest.approx(4)


def test_each_family_meets_at_each_error():
    found = summary.contests(costs(ours_and_theirs()))
    assert [(c.family, c.error) for c in found] == [
        (family, error) for family in ("two_body_e50", "five_body") for error in LEVELS
    ]


def test_without_a_peer_or_without_one_of_ours_there_is_no_ratio():
    ours = rows("f", "m", "classical", 1e-4, 4, WIDE[:5])
    theirs = rows("f", "bs", "peer", 1e-4, 4, WIDE)
    *_, last = summary.contests(costs(table(ours, theirs)))
    assert (last.method, last.peer) == ("", "bs")
    assert math.isnan(last.ratio)
    *_, last = summary.contests(costs(table(ours)))
    assert (last.method, last.peer) == ("", "")


def test_one_method_for_all_is_the_least_by_geometric_mean():
    a = [rows("f", "a", "classical", 1.0e-4, 4, WIDE), rows("g", "a", "learned", 9e-4, 4, WIDE)]
    b = [rows("f", "b", "classical", 2.0e-4, 4, WIDE), rows("g", "b", "learned", 3e-4, 4, WIDE)]
    c = [rows("f", "c", "classical", 0.1e-4, 4, WIDE)]
    peers = [rows(name, "bs", "peer", 4e-4, 4, WIDE) for name in "fg"]
    method, ratio = summary.one_for_all(costs(table(*a, *b, *c, *peers)))[0]
    assert method == "b"
    assert ratio == pytest.approx((2 + 4 / 3) / 2)


def test_no_method_for_all_is_named_where_none_reaches_the_error():
    parts = [rows("f", "a", "classical", 1e-4, 4, WIDE), rows("g", "b", "classical", 1e-4, 4, WIDE)]
    assert all(m == "" and math.isnan(r) for m, r in summary.one_for_all(costs(table(*parts))))


def test_the_short_table_has_a_row_a_family_and_a_cell_an_error():
    head, _, first, second, medians, single = lines(summary.short_table(ours_and_theirs()))
    assert cells(head) == ["max energy error", "1e-04", "1e-06", "1e-08", "1e-10"]
    assert cells(first)[0] == "two bodies, e = 0.5"
    assert cells(first)[1] == "**4.0×** 1 ms kahan_li8 boekholt / 4 ms heyoka"
    assert cells(second)[1] == "**0.5×** 2 ms kahan_li8 boekholt / 1 ms heyoka"
    assert cells(medians)[1] == "2.2×"
    assert cells(single)[1] == "2.2× kahan_li8 boekholt"


def test_where_peers_win_is_told_by_family_and_error():
    (line,) = summary.where_peers_win(ours_and_theirs()).splitlines()
    assert line.startswith("- 5 unequal bodies: at 1e-04 heyoka is 2.0× quicker, at 1e-06")
    ours = rows("f", "m", "classical", 1e-4, 4, WIDE[:5])
    text = summary.where_peers_win(table(ours, rows("f", "bs", "peer", 9e-4, 4, WIDE)))
    assert "only bs reaches 1e-10" in text
    assert summary.where_peers_win(table(ours)) == "- no peer was run"


def test_a_few_percent_are_a_tie():
    ours = rows("f", "m", "classical", 1.03e-4, 4, WIDE)
    theirs = rows("f", "bs", "peer", 1e-4, 4, WIDE)
    assert summary.where_peers_win(table(ours, theirs)) == "- nowhere here"


def test_the_whole_summary_names_every_peer_what_was_left_out_and_the_machine():
    text = summary.as_markdown(ours_and_theirs(), SPEED)
    for part in ("heyoka", "bs", "best learned", "abacus", "uncommitted", "numpy 2.0", "leapfrog"):
        assert part in text
    assert "- dop853: the package 'scipy' is not installed" in text
    assert "heyoka None" not in text
    for before, after in zip(lines(text), lines(text)[1:], strict=False):
        if after.startswith("|---"):
            assert after.count("|") == before.count("|")


def test_methods_left_out_for_one_reason_are_named_by_the_word_that_they_share():
    left_out = {"leapfrog soft": "needs it", "suzuki4 soft reversible": "needs it", "bs": "gone"}
    parts = rows("f", "m", "classical", 1e-4, 4, WIDE)
    text = summary.as_markdown(table(parts, left_out=left_out), SPEED[:0])
    assert "- soft (all 2 methods): needs it\n- bs: gone" in text
    assert "Speed of the engine" not in text


def test_times_of_a_step_have_units_and_what_is_unknown_a_dash():
    _, _, first, second = lines(summary.engine_table(SPEED))
    assert cells(first) == ["leapfrog", "30 ns", "100 ns", "0.30", "0.40"]
    assert cells(second) == ["other", "2 ms", "–", "–", "–"]


def test_metrics_are_plain_values_of_the_same_contests(tmp_path):
    made = ours_and_theirs()
    values = summary.metrics(made, SPEED)
    assert values["benchmark"][0]["ratio"] == pytest.approx(4)
    assert values["one_for_all"][0]["method"] == "kahan_li8 boekholt"
    assert values["engine_speed"][0]["ratio"] == 0.3
    assert values["left_out"] == made.attrs["left_out"]
    path = summary.save(made, SPEED, tmp_path)
    assert path.read_text(encoding="utf-8") == summary.as_markdown(made, SPEED)
