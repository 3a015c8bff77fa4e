import math

import pytest
from power_laws import WIDE, rows, table
from test_summary import SPEED

from nbcore.analysis import equal_errors, summary

ASKED = {"judged": "gbs", "baseline": ["classical", "fixed"]}


def made():
    """gbs is 2 and 3 times quicker than others of ours, half as quick on chaotic positions."""
    whole = {
        "two_body_e50": (("boekholt", 2e-4), ("fixed", 4e-4), ("heyoka", 5e-4)),
        "five_body": (("boekholt", 3e-4), ("fixed", 9e-4), ("heyoka", 4e-4)),
        "plummer_16": (("boekholt", 1e-5), ("fixed", 9e-4), ("heyoka", 7e-4)),
    }
    kinds = {"boekholt": "classical", "fixed": "fixed", "heyoka": "peer"}
    parts = []
    for family, others in whole.items():
        bodies = 16 if family == "plummer_16" else 5
        parts += [rows(family, n, kinds[n], unit, 4, WIDE, n_bodies=bodies) for n, unit in others]
        parts.append(rows(family, "gbs", "adaptive", 1e-4, 4, WIDE, n_bodies=bodies))
        parts.append(rows(family, "auto", "adaptive", 1.25e-4, 4, WIDE, n_bodies=bodies))
    parts.append(rows("five_body_short", "boekholt", "classical", 1, 4, [1.0], position=1e-9))
    parts.append(rows("five_body_short", "gbs", "adaptive", 1, 4, [2.0], position=1e-9))
    found = table(*parts, **ASKED)
    found.loc[(found["family"] == "five_body_short") & (found["system"] == 4), "position_error"] = (
        math.nan
    )
    found.loc[found["kind"] == "peer", "max_body_error"] = math.nan
    return found


def ratios(found, measure, pair):
    rows = found[(found["measure"] == measure) & (found["pair"] == pair)]
    return {f: r["ratio"].tolist() for f, r in rows.groupby("family")}


def test_the_cheapest_of_the_baseline_is_set_beside_the_judged_method():
    found = ratios(equal_errors.at_equal_errors(made()), "max energy error", "baseline ÷ gbs")
    # Sixteen bodies don't count.
    assert found == {
        "two_body_e50": pytest.approx([2] * 4),
        "five_body": pytest.approx([3] * 4),
    }


def test_peers_are_beside_the_best_of_ours_and_auto_beside_the_best_other_one():
    found = equal_errors.at_equal_errors(made())
    peers = ratios(found, "max energy error", "heyoka ÷ our best")
    assert {f: r[0] for f, r in peers.items()} == {
        "two_body_e50": pytest.approx(5),
        "five_body": pytest.approx(4),
        "plummer_16": pytest.approx(70),
    }
    auto = ratios(found, "max energy error", "our best single method ÷ auto")
    assert auto["five_body"] == pytest.approx([0.8] * 4)


def test_positions_of_chaotic_motion_are_those_of_short_runs_and_what_has_none_is_counted():
    found = equal_errors.at_equal_errors(made())
    short = found[found["measure"].str.contains("short")]
    assert set(short["family"]) == {"five_body_short"}
    assert (short[["systems", "unknown"]] == [4, 1]).all(axis=None)
    assert short["ratio"].tolist()[:3] == [0.5] * 3
    assert "5 unequal bodies, short (1 of 5)." in equal_errors.as_markdown(made())


def test_a_peer_whose_orbits_nobody_follows_has_no_ratio_of_them():
    found = equal_errors.at_equal_errors(made())
    pairs = found.loc[found["measure"].str.contains("orbit"), "pair"]
    assert set(pairs) == {"baseline ÷ gbs", "our best single method ÷ auto"}


def test_an_error_that_one_side_alone_reaches_counts():
    coarse = rows("five_body", "gbs", "adaptive", 1e-4, 4, WIDE[:5])
    found = table(coarse, rows("five_body", "m", "fixed", 1e-4, 4, WIDE), **ASKED)
    only = ratios(equal_errors.at_equal_errors(found), "max energy error", "baseline ÷ gbs")
    assert only["five_body"] == [*([pytest.approx(1)] * 3), 0]
    assert "| … worst family |  | 1.0× 5 unequal bodies |" in equal_errors.as_markdown(found)
    assert "not reached 5 unequal bodies" in equal_errors.as_markdown(found)
    found["method"] = found["method"].map({"gbs": "m", "m": "gbs"})
    found["kind"] = found["kind"].map({"adaptive": "fixed", "fixed": "adaptive"})
    only = ratios(equal_errors.at_equal_errors(found), "max energy error", "baseline ÷ gbs")
    assert only["five_body"] == [*([pytest.approx(1)] * 3), math.inf]


def test_the_smallest_errors_are_medians_over_the_systems():
    found = equal_errors.floors(made()).set_index(["measure", "family", "group"])["error"]
    assert found["max energy error", "five_body", "gbs"] == pytest.approx(1e-16)
    assert found["max energy error", "five_body", "heyoka"] == pytest.approx((4e-4) ** 4)
    assert "our best" not in found.index.get_level_values("group")


def test_the_summary_shows_them_by_family_and_keeps_them_as_a_table(tmp_path):
    text = summary.as_markdown(made(), SPEED)
    assert "| baseline ÷ gbs, median | 2 | 2.0× |" in text
    assert "| 5 unequal bodies, short (1 left out) | **0.5×** 1000000 µs boekholt" in text
    summary.save(made(), SPEED, tmp_path)
    assert (tmp_path / equal_errors.FILE).exists()
