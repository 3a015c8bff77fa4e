import numpy as np
import pandas as pd
import pytest

from nbcore.analysis import cluster_speed
from nbcore.analysis.benchmark import run_benchmark
from nbcore.analysis.cluster_speed import as_markdown, ratios, settings, steps


def rows(method, kind, factor, seconds=1e-6, families=("plummer_16",)):
    """Errors of 10⁻² to 10⁻⁶ at evaluations that double with each decade."""
    return [
        {
            "family": family,
            "method": method,
            "kind": kind,
            "setting": 0.5**k,
            "system": 0,
            "status": "SUCCESS",
            "max_body_error": 10.0 ** (-2 - k),
            "max_energy_error": 10.0 ** (-3 - k),
            "n_force_evaluations": factor * 2.0**k,
            "cpu_seconds": factor * 2.0**k * seconds,
        }
        for family in families
        for k in range(5)
    ]


def test_the_cheapest_of_either_kind_is_found_for_time_and_for_evaluations():
    table = pd.DataFrame(
        [
            *rows("blanes_moan4 a", "classical", 100.0),
            *rows("blanes_moan6 b reversible", "classical", 80.0, 2e-6),  # fewer but slower
            *rows("blanes_moan4 default", "learned", 60.0, 1.4e-6),
        ]
    )
    found = ratios(table, (1e-4, 1e-8))
    by_body = found[found["measure"] == "max_body_error"].set_index("error")
    assert by_body.loc[1e-4, "rule"] == "blanes_moan4 a"
    assert by_body.loc[1e-4, "ratio"] == pytest.approx(0.84)
    assert by_body.loc[1e-4, "evaluations"] == pytest.approx(0.75)
    assert by_body.loc[1e-4, "seconds"] == pytest.approx(60e-6 * 1.4 * 4)
    assert np.isnan(by_body.loc[1e-8, "ratio"])
    told = as_markdown(found)
    assert "| Plummer, N = 16 | 1e-04 | max error of a body's orbit | 0.84 | 0.75 |" in told
    assert told.endswith("2 of 4")  # nothing reaches 1e-8


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:1 of 1 systems did not reach t_end")
def test_clusters_are_run_with_both_kinds_and_their_steps_are_timed(monkeypatch):
    monkeypatch.setattr(cluster_speed, "PAIRS", 1.0)
    monkeypatch.setattr(cluster_speed, "CRITERIA", ("boekholt",))
    chosen = settings((16,), systems=2, settings=2, run_length=0.01, integrators=("blanes_moan4",))
    table = run_benchmark(chosen)
    assert set(table["kind"]) == {"classical", "fixed", "learned"}
    assert set(table["stepping"]) == {"plain", "reversible"}
    assert len(ratios(table, (1e3,))) == 2
    timed = steps((16,), repeats=1)
    assert timed["evaluations"].tolist() == [6, 11]
    assert np.isfinite(timed[["equal", "boekholt", "learned", "guard"]]).all(axis=None)
