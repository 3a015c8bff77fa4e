import numpy as np
import pandas as pd
import pytest

from nbcore.analysis import gains
from nbcore.errors import InputError


def row(method, kind, setting, system, error, cost, family="three_body_planar", final=None):
    integrator, rule, *rest = method.split()
    return {
        "family": family,
        "method": method,
        "kind": kind,
        "rule": rule,
        "integrator": integrator,
        "stepping": "reversible" if rest else "plain",
        "setting": setting,
        "system": system,
        "status": "SUCCESS",
        "n_force_evaluations": float(cost),
        "max_energy_error": error,
        "final_energy_error": error / 10 if final is None else final,
        "max_body_error": error,
        "final_body_error": error / 10 if final is None else final,
        "position_error": np.nan,
        "cpu_seconds": 1.0,
    }


def frontier(method, kind, cost, **more):
    """Errors of 10⁻² to 10⁻⁸ at a cost that doubles with each two decades."""
    errors = [10.0 ** (-2 - 2 * k) for k in range(4)]
    return [
        row(method, kind, error if kind == "learned" else 0.5**k, 0, error, cost * 2**k, **more)
        for k, error in enumerate(errors)
    ]


TABLE = pd.DataFrame(
    [
        *frontier("blanes_moan4 boekholt", "classical", 100),
        *frontier("blanes_moan4 free_fall reversible", "classical", 80),
        *frontier("kahan_li8 boekholt", "classical", 10),
        *frontier("suzuki4 boekholt", "classical", 20),
        *frontier("blanes_moan4 default reversible", "learned", 60),
        *frontier("blanes_moan4 untrained", "learned", 90),
    ]
)


def test_ratio_is_to_the_best_classical_rule_with_the_same_integrator():
    found = gains.gains(TABLE).set_index(["method", "error"])
    mine = found.loc["blanes_moan4 default reversible"]
    assert list(mine.index) == [1e-4, 1e-6]
    assert mine["ratio"].tolist() == pytest.approx([0.75, 0.75])
    assert set(mine["rule"]) == {"blanes_moan4 free_fall reversible"}
    assert mine["learned"].tolist() == pytest.approx([120, 240])


def test_the_way_to_step_of_the_classical_rules_may_be_set():
    found = gains.gains(TABLE, "final_energy_error", stepping="plain").set_index("method")
    mine = found.loc["blanes_moan4 default reversible"]
    assert set(mine["rule"]) == {"blanes_moan4 boekholt"}
    assert mine["ratio"].tolist() == pytest.approx([0.6, 0.6])


def test_an_error_that_is_not_reached_has_no_ratio():
    only = [*frontier("kahan_li8 mine", "learned", 5), *frontier("kahan_li8 prs23", "classical", 9)]
    found = gains.gains(pd.DataFrame(only))
    assert found["error"].tolist() == [1e-8, 1e-10]
    assert found["ratio"][0] == pytest.approx(5 / 9)
    assert np.isnan(found["ratio"][1])


def test_a_benchmark_without_a_learned_policy_is_an_error():
    with pytest.raises(InputError, match="ran no learned policy"):
        gains.gains(TABLE[TABLE["kind"] == "classical"])


def test_shares_are_of_the_tolerance_for_learned_and_of_the_median_for_classical_rules():
    off = (1.0, 2.0, 5.0, 50.0)
    runs = [row("blanes_moan4 default", "learned", 1e-5, k, 1e-5 * f, 9) for k, f in enumerate(off)]
    runs += [row("blanes_moan4 prs23", "classical", 0.1, k, 1e-6 * f, 9) for k, f in enumerate(off)]
    shares = gains.calibration_shares(pd.DataFrame(runs))
    assert shares.loc["blanes_moan4 default"].tolist() == [0.5, 0.75, 4]
    # The median is 3.5e-6.
    assert shares.loc["blanes_moan4 prs23"].tolist() == [0.5, 0.75, 4]
    lost = pd.DataFrame(runs).assign(status="MAX_STEPS")
    assert (gains.calibration_shares(lost)["within 10"] == 0).all()


def test_tables_have_a_row_a_family_and_the_medians():
    text = gains.as_markdown(gains.gains(TABLE)).splitlines()
    assert text[0].startswith("| family | blanes_moan4 default reversible, 1e-04 |")
    assert "untrained" not in text[0]  # plain ones are left out
    assert text[2] == "| 3 equal bodies, planar | 0.75 | 0.75 |"
    assert text[-2:] == ["| **median** | 0.75 | 0.75 |", "| **worst** | 0.75 | 0.75 |"]
    shares = gains.shares_as_markdown(gains.calibration_shares(TABLE))
    assert "| blanes_moan4 default reversible |" in shares
