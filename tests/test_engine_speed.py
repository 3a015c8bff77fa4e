import math

import numba
import pytest

from nbcore.analysis import engine_speed
from nbcore.analysis.engine_speed import TARGETS, Side, ratios


@pytest.fixture
def short(monkeypatch):
    """Runs of a few steps, which measure nothing."""
    for name, value in {"MOST_STEPS": 200, "PAIR_FORCES": 600, "SYSTEMS": 4}.items():
        monkeypatch.setattr(engine_speed, name, value)


@pytest.mark.long
def test_every_number_of_bodies_and_every_kind_of_step_is_compared(short):
    table = ratios((3,), repeats=1)
    assert table["what"].str.contains("N = 3, one core / REBOUND's").sum() == 1
    for part in ("boekholt / fixed", "learned (untrained) / fixed", "all cores / one core"):
        assert table["what"].str.contains(part, regex=False).sum() == 1
    assert table["target"].notna().all()
    assert table.columns.tolist() == ["what", "ours", "beside", "ratio", "target"]


def test_what_a_call_costs_is_no_part_of_the_time_of_a_step(monkeypatch):
    calls = []

    def seconds(steps):
        calls.append(steps)
        # the machine is slower at first
        return 5.0 + 2.0 * steps + 100.0 * (len(calls) <= 4)

    pair = Side(seconds, 50), Side(lambda steps: 7.0 + 8.0 * steps, 30)
    monkeypatch.setattr(engine_speed, "_against_rebound", lambda _: {"a / b": pair})
    for name in ("_step_control", "_cores"):
        monkeypatch.setattr(engine_speed, name, dict)
    table = ratios((3,), repeats=3)
    assert table.loc[0, "ours"] == pytest.approx(2.0)
    assert table.loc[0, "beside"] == pytest.approx(8.0)
    assert table.loc[0, "ratio"] == pytest.approx(0.25)
    assert math.isnan(table.loc[0, "target"])
    assert calls == [50, 5] * 3


def test_threads_are_those_of_each_side(monkeypatch):
    seen = []
    all_of_them = numba.get_num_threads()
    sides = [
        Side(lambda s: float(seen.append(numba.get_num_threads()) or s), 10, n) for n in (1, 1)
    ]
    monkeypatch.setattr(engine_speed, "_against_rebound", lambda _: {"a": tuple(sides)})
    for name in ("_step_control", "_cores"):
        monkeypatch.setattr(engine_speed, name, dict)
    ratios((3,), repeats=1)
    assert set(seen) == {1}
    assert numba.get_num_threads() == all_of_them


def test_without_rebound_its_time_is_unknown(short, monkeypatch):
    monkeypatch.setattr(engine_speed, "find_spec", lambda name: None)
    table = ratios((3,), repeats=1)
    against = table["what"].str.contains("REBOUND")
    assert table.loc[against, ["beside", "ratio"]].isna().all(axis=None)
    assert table.loc[~against, "ratio"].notna().all()


def test_without_bodies_nothing_is_compared():
    assert len(ratios(())) == 0


def test_many_bodies_are_shared_out_to_the_cores_and_their_target_is_known():
    assert engine_speed._leapfrog(4000) in TARGETS
    assert "all cores" in engine_speed._leapfrog(4000)
    assert "one core" in engine_speed._leapfrog(1000)
