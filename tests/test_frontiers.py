import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from power_laws import WIDE, ours_and_theirs, rows, table

from nbcore.analysis.frontiers import (
    COSTS,
    ERRORS,
    cheapest,
    cost_of,
    costs,
    frontiers,
)


def of(found, method, family="two_body_e50"):
    (one,) = [each for each in found if (each.family, each.method) == (family, method)]
    return one


@pytest.mark.parametrize("order", [2, 4, 8])
@pytest.mark.parametrize("wanted", [1e-3, 3e-5, 1e-8])
def test_a_power_law_is_interpolated_exactly(order, wanted):
    cost = np.geomspace(1.0, 1e6, 5)
    assert cost_of(cost**-order, cost, wanted) == pytest.approx(wanted ** (-1 / order), rel=1e-12)


def test_an_error_that_is_not_reached_has_no_cost():
    assert math.isnan(cost_of([1e-2, 1e-5], [1.0, 2.0], 0.99e-5))
    assert math.isnan(cost_of([], [], 1e-4))


def test_an_error_that_the_cheapest_betters_costs_as_much_as_that():
    assert cost_of([1e-6, 1e-9], [3.0, 5.0], 1e-4) == pytest.approx(3.0)


def test_points_that_cost_more_and_err_more_are_passed_over():
    error, cost = [1e-2, 1e-6, 1e-4, 1e-8], [1.0, 2.0, 3.0, 4.0]
    without = cost_of([1e-2, 1e-6, 1e-8], [1.0, 2.0, 4.0], 1e-7)
    assert cost_of(error, cost, 1e-7) == without
    assert cost_of(error, cost, 1e-5) < 2.0


def test_an_error_of_zero_counts_as_the_most_accurate():
    assert 1.0 < cost_of([1e-2, 0.0], [1.0, 2.0], 1e-10) < 2.0


positive = st.floats(1e-12, 1e3)


@given(st.lists(st.tuples(positive, positive), min_size=1), positive, positive)
def test_more_accuracy_never_costs_less(points, one, other):
    error, cost = zip(*points, strict=True)
    loose, strict = (cost_of(error, cost, level) for level in sorted((one, other), reverse=True))
    assert math.isnan(strict) or loose <= strict * (1 + 1e-12)


@given(st.lists(st.tuples(positive, positive), min_size=1), positive)
def test_the_order_of_the_settings_does_not_matter(points, wanted):
    there, back = (cost_of(*zip(*p, strict=True), wanted) for p in (points, points[::-1]))
    assert there == back or (math.isnan(there) and math.isnan(back))


def test_a_frontier_holds_medians_and_bands_from_loose_to_strict():
    one = of(frontiers(table(rows("f", "m", "classical", 1.0, 2, [1, 10], scatter=2.0))), "m", "f")
    assert one.setting.tolist() == [2.0, 1.0]
    assert one.cost[:, 1].tolist() == [1, 10]
    assert (one.cost[:, 0] < one.cost[:, 1]).all()
    assert (one.cost[:, 1] < one.cost[:, 2]).all()
    np.testing.assert_allclose(one.error, [[1] * 3, [1e-2] * 3])


def test_lost_systems_have_no_bound_and_a_lost_majority_leaves_no_point():
    made = table(rows("f", "m", "classical", 1.0, 2, [1, 10]))
    lost = (made["setting"] == 2) & (made["system"] < 3) | (made["system"] == 0)
    made.loc[lost, "status"] = "MAX_STEPS"
    one = of(frontiers(made), "m", "f")
    assert one.setting.tolist() == [1.0]
    assert np.isinf(one.error[0, 2])
    assert np.isinf(one.cost[0, 2])
    assert np.isfinite([one.error[0, :2], one.cost[0, :2]]).all()


def test_all_methods_are_compared_on_the_systems_that_every_one_ran():
    ours = rows("f", "m", "classical", 1.0, 2, [1.0], systems=9)
    for row in ours:
        row["cpu_seconds"] = 1.0 + row["system"]
    peer = rows("f", "heyoka", "peer", 1.0, 2, [1.0], systems=3)
    assert of(frontiers(table(ours)), "m", "f").cost[0, 1] == 5.0
    assert of(frontiers(table(ours, peer)), "m", "f").cost[0, 1] == 2.0
    beside = rows("g", "heyoka", "peer", 1.0, 2, [1.0], systems=1)
    assert of(frontiers(table(ours, peer, beside)), "m", "f").cost[0, 1] == 2.0


def test_what_has_no_such_error_or_cost_has_no_frontier():
    made = ours_and_theirs()
    methods = {f.method for f in frontiers(made, cost="n_force_evaluations")}
    assert "heyoka" not in methods
    assert "bs" in methods
    assert {f.method for f in frontiers(made, error="position_error")} == {"kahan_li8 untrained"}


def test_a_system_without_a_reference_is_left_out():
    made = table(rows("f", "m", "classical", 1.0, 2, [1.0], position=1e-3))
    made.loc[made["system"] > 2, "position_error"] = np.nan
    made["cpu_seconds"] = 1.0 + made["system"]
    assert of(frontiers(made, "position_error"), "m", "f").cost[0, 1] == 2.0
    assert of(frontiers(made), "m", "f").cost[0, 1] == 3.0


def test_short_runs_are_judged_by_positions_alone():
    made = table(rows("five_body_short", "m", "classical", 1.0, 2, [1.0], position=1e-3))
    assert frontiers(made) == []
    assert len(frontiers(made, "position_error")) == 1


def test_the_cheapest_is_found_by_names_or_kinds():
    found = costs(ours_and_theirs())[:5]  # of the first family
    assert cheapest(found, ("peer",), 0) == ("heyoka", pytest.approx(4e-3))
    assert cheapest(found, ("bs", "learned"), 0) == ("kahan_li8 untrained", pytest.approx(2e-3))
    assert cheapest(found, ("fixed",), 3)[0] == ""


def test_costs_are_those_of_the_power_law():
    found = costs(ours_and_theirs(), levels=(1e-4, 1e-8))
    assert of(found, "kahan_li8 boekholt").at == pytest.approx((1e-3, 1e-2))
    assert of(found, "heyoka").at == pytest.approx((4e-3, 4e-2))
    assert of(found, "leapfrog fixed").at == pytest.approx((3e-2, np.nan), nan_ok=True)


def test_every_column_that_can_be_asked_for_is_in_a_table():
    assert set(COSTS) | set(ERRORS) <= set(table(rows("f", "m", "fixed", 1, 2, WIDE)).columns)
