import itertools
import math

import numpy as np
import pandas as pd
import pytest

import nbcore as nb
from nbcore.analysis.comparison import at_equal_cost, headline
from nbcore.config import load_config
from nbcore.errors import InputError
from nbcore.simulation.setup import setup
from nbcore.stepping.criteria import CRITERIA


def comparison(criteria, tuning_runs=3, **changes):
    table = {
        "scenario.source": "kepler_orbits",
        "scenario.parameters": {"n_systems": 6, "eccentricity": (0.5, 0.9)},
        "t_end": 6.0,
        "policy": "boekholt",
        "progress": False,
        **changes,
    }
    config = load_config(None, {f"simulate.{name}": value for name, value in table.items()})
    return at_equal_cost(setup(config.simulate), criteria, tuning_runs)


# softened_acceleration needs softening
@pytest.mark.parametrize("name", sorted(set(CRITERIA) - {"softened_acceleration"}))
def test_every_criterion_is_tuned_to_the_same_cost(name):
    table = comparison([name], policy="fixed", dt=0.02, integrator="leapfrog")
    # A step more or less of some hundreds, and the last step, which is cut to the end of the run.
    assert table.loc[name, "cost_ratio"] == pytest.approx(1, abs=0.03)
    assert table.loc[name, "lost"] == 0


def test_a_criterion_with_another_power_of_eta_is_tuned_to_the_same_cost():
    table = comparison(["softened_acceleration"], **{"scenario.softening": 0.1})
    assert table.loc["softened_acceleration", "cost_ratio"] == pytest.approx(1, abs=0.03)


def test_the_cost_comes_closer_with_every_tuning_run():
    away = [
        abs(comparison(["free_fall"], runs).loc["free_fall", "cost_ratio"] - 1)
        for runs in (1, 2, 3)
    ]
    assert away[0] > 0.1
    assert all(later < earlier for earlier, later in itertools.pairwise(away))


@pytest.mark.parametrize("integrator", ["leapfrog", "suzuki4", "hermite4"])
def test_a_fixed_step_costs_at_most_as_much_and_nearly_the_same(integrator):
    table = comparison([], integrator=integrator)
    # whole steps only; the policy's cost is some hundreds of steps
    assert 0.97 <= table.loc["fixed step", "cost_ratio"] <= 1


def test_a_criterion_against_itself_makes_the_same_errors():
    table = comparison(["boekholt"], tuning_runs=4)
    mine, other = table.iloc[0], table.iloc[1]
    # leapfrogs of 4th order: a cost that differs by 1 % is an error that differs by 4 %
    assert other["median"] == pytest.approx(mine["median"], rel=0.2)


def test_rows_are_the_policy_the_criteria_and_the_fixed_step():
    table = comparison(["huayno", "free_fall"], tuning_runs=1)
    assert list(table.index) == ["boekholt", "huayno", "free_fall", "fixed step"]
    assert table.iloc[0]["cost_ratio"] == 1.0
    assert (table["p10"] <= table["median"]).all()
    assert (table["median"] <= table["p90"]).all()


def test_a_system_that_does_not_reach_the_end_has_an_infinite_error():
    with pytest.warns(RuntimeWarning, match="did not reach t_end"):
        table = comparison(["free_fall"], max_steps=20)
    assert table.iloc[0]["lost"] == 6
    assert table.iloc[0][["median", "p10", "p90", "final"]].tolist() == [math.inf] * 4


def test_one_lost_system_is_counted_and_leaves_the_median_finite():
    with pytest.warns(RuntimeWarning, match="1 COLLISION"):
        table = comparison([], collision_distance=_between_the_closest_two())
    assert table.iloc[0]["lost"] == 1
    assert np.isfinite(table.iloc[0]["median"])
    assert math.isinf(table.iloc[0]["p90"])


def _between_the_closest_two():
    """Distance that one of the six orbits comes below, and the others don't."""
    state = nb.scenarios.make("kepler_orbits", n_systems=6, eccentricity=(0.5, 0.9))
    run = nb.simulate(state, 6.0, nb.Criterion("boekholt", 0.05))
    first, second, *_ = np.sort(np.nanmin(nb.diagnostics.closest_separation(run), axis=1))
    assert second > 1.05 * first
    return float(np.sqrt(first * second))


def test_an_unknown_criterion_is_told_before_anything_runs():
    with pytest.raises(InputError, match="criterion 'hayno' is unknown; did you mean 'huayno'"):
        comparison(["hayno"])


def table_of(**medians):
    rows = [{"method": name.replace("_", " "), "median": value} for name, value in medians.items()]
    return pd.DataFrame(rows).set_index("method")


def test_the_headline_names_the_best_criterion_and_what_each_error_is():
    text = headline(table_of(learned=1e-6, huayno=4e-6, free_fall=3e-6, fixed_step=2e-3))
    assert "1.0e-06 with the policy 'learned'" in text
    assert "3.0e-06 with the best classical criterion (free fall)" in text
    assert "2.0e-03 with a fixed step" in text


def test_the_headline_can_tell_of_lost_systems_and_of_rows_of_the_same_name():
    same = pd.DataFrame(
        {"method": ["fixed step", "huayno", "fixed step"], "median": [1e-3, math.inf, 2e-3]}
    ).set_index("method")
    assert "1.0e-03 with the policy 'fixed step', inf with" in headline(same)


def test_a_headline_needs_a_criterion():
    with pytest.raises(InputError, match=r"name one in compare\.criteria"):
        headline(table_of(learned=1e-6, fixed_step=2e-3))
