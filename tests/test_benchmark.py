import math
import subprocess
import sys
from dataclasses import dataclass, field

import numba
import numpy as np
import pandas as pd
import pytest

from nbcore.analysis import benchmark, peers, work_precision
from nbcore.analysis import methods as method_table
from nbcore.analysis.benchmark import load_table, run_benchmark
from nbcore.analysis.families import problem
from nbcore.analysis.frontiers import frontiers
from nbcore.analysis.methods import methods
from nbcore.analysis.peers import PeerRun
from nbcore.analysis.timing import on_threads, stamp
from nbcore.config import Benchmark
from nbcore.errors import InputError
from nbcore.physics.extrapolation import Extrapolation
from nbcore.physics.integrators import INTEGRATORS, get_integrator
from nbcore.physics.wisdom_holman import WisdomHolman
from nbcore.stepping.criteria import CRITERIA
from nbcore.stepping.policies import FixedStep

SMALL = {
    "families": ("two_body_e50",),
    "systems": 3,
    "peer_systems": 2,
    "integrators": ("leapfrog",),
    "criteria": ("boekholt",),
    "policies": (),
    "steppings": ("plain",),
    "peers": (),
    "settings": 3,
    "repeats": 1,
    "progress": False,
}


def small(**changes):
    return Benchmark(**{**SMALL, **changes})


@dataclass
class Fake:
    """A peer that needs the times it is given, with the errors of its settings."""

    log: list[str]
    name: str = "fake"
    times: tuple[float, ...] = (1e-6,)
    status: str = "SUCCESS"
    package: str = "numpy"
    evaluations: int = 20
    settings: tuple[float, ...] = (1e-3, 1e-6, 1e-9)
    starts: list[float] = field(default_factory=list)

    def prepare(self, state, t_end, setting):
        self.starts.append(float(state.position[0, 0, 0]))
        return FakeRun(self, state, setting)


class FakeRun:
    setup_seconds = 7.0

    def __init__(self, peer, state, setting):
        self.peer, self.state, self.setting, self.count = peer, state, setting, 0

    def measure(self, max_steps):
        at, error = self.state, self.setting
        return PeerRun(
            error, error / 2, at.position[0], at.velocity[0], math.nan, 10, self.peer.status
        )

    def time(self):
        self.peer.log.append(self.peer.name)
        self.count += 1
        return self.peer.times[(self.count - 1) % len(self.peer.times)]


@pytest.fixture
def fakes(monkeypatch):
    """Two peers that share a log of their timings."""
    log = []
    made = {name: Fake(log, name) for name in ("one", "two")}
    monkeypatch.setattr(peers, "PEERS", made)
    return made


def test_every_system_has_a_row_for_each_method_and_setting():
    table = run_benchmark(small(max_evaluations=1_000_000))
    assert sorted(table["method"].unique()) == ["leapfrog boekholt", "leapfrog fixed"]
    counts = table.groupby(["method", "setting"])["system"].agg(list)
    assert all(systems == [0, 1, 2] for systems in counts)
    assert len(counts) == 6
    assert (table["kind"] == np.where(table["rule"] == "fixed", "fixed", "classical")).all()
    assert (table["status"] == "SUCCESS").all()
    assert (table["cpu_seconds"] > 0).all()
    assert (table["final_energy_error"] <= table["max_energy_error"]).all()


@pytest.mark.parametrize("integrator", ["leapfrog", "mclachlan4", "kahan_li6"])
@pytest.mark.parametrize("error", ["max_energy_error", "position_error"])
def test_errors_shrink_with_the_cost_at_the_order_of_the_integrator(integrator, error):
    table = run_benchmark(
        small(integrators=(integrator,), steppings=("reversible",), settings=6, systems=1)
    )
    found = frontiers(table, error, "n_force_evaluations")
    (one,) = [each for each in found if each.kind == "classical"]
    cost, wrong = one.cost[:, 1], one.error[:, 1]
    # Above, steps are too coarse for the law; below, rounding takes over.
    seen = (wrong < 1e-3) & (wrong > 1e-10)
    slope = np.polyfit(np.log(cost[seen]), np.log(wrong[seen]), 1)[0]
    assert -slope == pytest.approx(get_integrator(integrator).order, abs=0.1)


def test_time_is_shared_out_by_the_numbers_of_evaluations():
    table = run_benchmark(small(families=("three_body_planar",), run_length=0.05))
    for _, one in table.groupby(["method", "setting"]):
        each = one["cpu_seconds"] / one["n_force_evaluations"]
        np.testing.assert_allclose(each, each.iloc[0])


def test_runs_that_can_not_be_afforded_err_without_bound_and_no_stricter_one_is_tried():
    table = run_benchmark(small(max_evaluations=400, settings=6, criteria=()))
    lost = table["status"] == "MAX_STEPS"
    errors = ["max_energy_error", "final_energy_error", "position_error"]
    assert np.isinf(table.loc[lost, errors]).all(axis=None)
    assert np.isfinite(table.loc[~lost, errors]).all(axis=None)
    share = lost.groupby(table["setting"], sort=False).mean()
    assert (share.iloc[:-1] <= 0.5).all()
    assert share.iloc[-1] > 0.5
    assert len(share) < 6


def test_positions_at_the_end_of_chaotic_motion_are_not_judged():
    table = run_benchmark(small(families=("three_body_planar",), run_length=0.05, systems=1))
    assert table["position_error"].isna().all()
    assert np.isfinite(table["max_energy_error"]).all()


def test_peers_run_the_first_systems_and_their_set_up_stands_apart(fakes):
    table = run_benchmark(small(peers=("two",)))
    peer, ours = table[table["kind"] == "peer"], table[table["kind"] != "peer"]
    assert sorted(set(peer["system"])) == [0, 1]
    assert len(set(fakes["two"].starts)) == 2
    assert (peer["setup_seconds"] == 7.0).all()
    assert (peer["cpu_seconds"] == 1e-6).all()
    assert (peer["max_energy_error"] == peer["setting"]).all()
    assert peer["n_force_evaluations"].isna().all()
    # The fake stands still; two bodies come back to where they were.
    assert (peer["position_error"] == 0).all()
    assert set(ours["system"]) == {0, 1, 2}


def test_as_many_settings_of_a_peer_are_run_as_are_asked_for(fakes):
    table = run_benchmark(small(peers=("one",), settings=2))
    assert table.loc[table["kind"] == "peer", "setting"].unique().tolist() == [1e-3, 1e-9]


def test_timings_take_turns_and_the_quickest_counts(fakes):
    fakes["one"].times = fakes["two"].times = (3e-6, 1e-6, 2e-6)
    table = run_benchmark(small(peers=("one", "two"), repeats=3, settings=2, peer_systems=1))
    assert fakes["one"].log == ["one", "one", "two", "two"] * 3
    assert (table.loc[table["kind"] == "peer", "cpu_seconds"] == 1e-6).all()


def test_what_is_far_from_any_contest_is_timed_once(fakes):
    fakes["two"].times = (1.0,)
    run_benchmark(small(peers=("one", "two"), repeats=3, settings=2, peer_systems=1))
    assert fakes["one"].log.count("two") == 2
    assert fakes["one"].log.count("one") == 6


def test_contests_are_by_energy_or_by_position():
    class Timed:
        def __init__(self, energy, position, cost):
            errors = {"max_energy_error": energy, "position_error": position}
            self.rows = [{"status": "SUCCESS", "max_body_error": math.nan, **errors}]
            self.cost = cost

        def seconds(self):
            return np.array([self.cost])

    by_energy, by_position = Timed(1e-9, 1e-3, 1.0), Timed(1e-6, 1e-6, 9.0)
    timed = [by_energy, by_position, Timed(1e-6, 1e-3, 9.0)]
    assert work_precision._contenders(timed) == [by_energy, by_position]


def test_few_steps_are_timed_with_copies_of_the_systems():
    copies = [work_precision._copies_worth(1.0 + steps, 1.0) for steps in (9.0, 2.0, 0.6, 0.0)]
    assert copies == [1, 1, 4, 32]
    at = problem("two_body_e50", "held_out", 2)
    many = work_precision._copied(at, 3)
    assert np.array_equal(many.state.position, np.tile(at.state.position, (3, 1, 1)))
    assert many.t_end.tolist() == 3 * at.t_end.tolist()


def test_what_chooses_its_own_steps_runs_by_the_tolerance_alone(monkeypatch):
    policy_of = method_table.policy_of

    def own_steps(policy, integrator, tolerance):
        if integrator == "leapfrog":
            return FixedStep(0.1), integrator
        return policy_of(policy, integrator, tolerance)

    monkeypatch.setattr(method_table, "policy_of", own_steps)
    made = methods(small(integrators=("leapfrog", "suzuki4", "auto")))
    assert [m.name for m in made] == ["suzuki4 fixed", "suzuki4 boekholt", "leapfrog", "auto"]
    for method in made[2:]:
        assert method.kind == "adaptive"
        assert [method.tolerance(setting) for setting in method.settings] == [*method.settings]


def test_auto_errs_by_what_it_is_asked_for():
    table = run_benchmark(small(integrators=("leapfrog", "auto"), criteria=(), settings=4))
    auto = table[table["method"] == "auto"]
    asked = auto[auto["setting"].between(1e-10, 1e-4)]
    assert len(asked)
    # To the factor of ten that makes `kept_tolerance`; two bodies are easier than most systems.
    assert (asked["max_body_error"] < 10 * asked["setting"]).all()
    assert (asked["max_body_error"] > 1e-3 * asked["setting"]).all()


def test_a_peer_that_gave_up_is_lost_and_not_timed(fakes):
    fakes["one"].status = "no convergence"
    table = run_benchmark(small(peers=("one",)))
    peer = table[table["kind"] == "peer"]
    assert (peer["status"] == "no convergence").all()
    assert np.isinf(peer["max_energy_error"]).all()
    assert peer["cpu_seconds"].isna().all()
    assert fakes["one"].log == []


def test_a_peer_that_is_not_installed_is_named(fakes, monkeypatch):
    monkeypatch.setattr(peers, "missing", lambda: {"one": "numpie"})
    table = run_benchmark(small(peers=("one", "two")))
    assert "two" in set(table["method"])
    assert table.attrs["left_out"] == {"one": "the package 'numpie' is not installed"}


def test_a_method_that_does_not_apply_is_named_with_the_reason():
    table = run_benchmark(small(criteria=("boekholt", "softened_acceleration")))
    assert not table["method"].str.contains("softened").any()
    (name, reason), *others = table.attrs["left_out"].items()
    assert name == "leapfrog softened_acceleration"
    assert "needs softening > 0" in reason
    assert not others


def test_a_peer_that_does_not_take_such_systems_is_named_with_the_reason():
    table = run_benchmark(small(peers=("whfast", "bs")))
    assert "bs" in set(table["method"])
    (name, reason), *others = table.attrs["left_out"].items()
    assert name == "whfast"
    assert "give 3 or more" in reason
    assert not others


def test_the_table_is_stamped_and_comes_back_from_disk(tmp_path):
    config = small()
    table = run_benchmark(config, tmp_path)
    loaded = load_table(tmp_path)
    pd.testing.assert_frame_equal(loaded, table, check_exact=True)
    assert loaded.attrs == table.attrs
    assert Benchmark.model_validate(loaded.attrs["config"]) == config
    assert loaded.attrs["machine"]["versions"]["numba"] == numba.__version__


def test_finished_families_are_kept_when_the_run_is_interrupted(tmp_path, monkeypatch):
    def measured(family, *rest):
        if family == "two_body_e99":
            raise KeyboardInterrupt
        return work_precision.measured(family, *rest)

    monkeypatch.setattr(benchmark, "measured", measured)
    config = small(families=("two_body_e50", "two_body_e99", "two_body_e90"))
    with pytest.raises(KeyboardInterrupt):
        run_benchmark(config, tmp_path)
    assert load_table(tmp_path)["family"].unique().tolist() == ["two_body_e50"]
    assert [path.name for path in tmp_path.iterdir()] == [benchmark.TABLE_FILE]


def test_a_folder_without_a_table_is_named(tmp_path):
    with pytest.raises(InputError, match=r"holds no benchmark\.csv; make it with"):
        load_table(tmp_path)


WITHOUT_PYARROW = """
import sys
sys.modules["pyarrow"] = None
from nbcore.tables import read_table, write_table
write_table(read_table(sys.argv[1]), sys.argv[2])
"""


def test_the_table_is_read_and_written_without_what_writes_parquet(tmp_path):
    run_benchmark(small(), tmp_path)
    written, again = tmp_path / benchmark.TABLE_FILE, tmp_path / "again.csv"
    subprocess.run([sys.executable, "-c", WITHOUT_PYARROW, written, again], check=True)
    assert again.read_bytes() == written.read_bytes()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"families": ("plumer_16",)}, "did you mean 'plummer_16'"),
        ({"integrators": ("leapfog",)}, "did you mean 'leapfrog'"),
        ({"criteria": ("hyano",)}, "did you mean 'huayno'"),
        ({"peers": ("heyok",)}, "did you mean 'heyoka'"),
        ({"policies": ("best",)}, "policy 'best' is unknown"),
        ({"judged": "leapfrog fix"}, "did you mean 'leapfrog fixed'"),
        ({"judged": "leapfrog fixed", "baseline": ("clasical",)}, "did you mean 'classical'"),
    ],
)
def test_an_unknown_name_is_told_before_anything_runs(changes, message, monkeypatch):
    monkeypatch.setattr(benchmark, "measured", None)
    with pytest.raises(InputError, match=message):
        run_benchmark(small(**changes))


def test_by_default_everything_that_there_is_takes_part():
    names = {method.name for method in methods(Benchmark())}
    for integrator, scheme in INTEGRATORS.items():
        if isinstance(scheme, (Extrapolation, WisdomHolman)):  # which take no rule
            assert integrator in names
            continue
        for rule in (*CRITERIA, "untrained"):
            assert f"{integrator} {rule}" in names
            reversible = get_integrator(integrator).reversible
            assert (f"{integrator} {rule} reversible" in names) == reversible
        assert f"{integrator} fixed" in names
    assert len(names) == len(methods(Benchmark()))


@pytest.mark.parametrize(
    "method", methods(small(policies=("untrained",), criteria=None)), ids=lambda method: method.name
)
def test_a_stricter_setting_makes_shorter_steps(method):
    at = problem("two_body_e50", "train", 2)
    state = at.state.replace(softening=0.1)
    steps = []
    for setting in method.settings:
        tolerance = state.time + method.tolerance(setting)
        policy = method.policy(setting, state, at.t_end)
        steps.append(policy(state, tolerance, policy.begin(state)))
    ratio = steps[0] / steps[1]
    # Equal steps are cut so that a whole number of them reaches the end.
    expected = method.settings[0] / method.settings[1]
    if method.kind == "learned":
        expected **= 1 / get_integrator(method.integrator).order
    assert (ratio / expected).tolist() == pytest.approx([1, 1], rel=0.1)


def test_equal_steps_reach_the_end_in_a_whole_number():
    table = run_benchmark(small(criteria=()))
    for _, row in table.iterrows():
        assert row["n_force_evaluations"] == row["n_steps"] + 1


def test_the_number_of_threads_is_as_it_was_afterwards():
    before = numba.get_num_threads()
    with on_threads(1):
        assert numba.get_num_threads() == 1
    assert numba.get_num_threads() == before


def test_the_stamp_says_what_ran_where(monkeypatch, tmp_path):
    made = stamp()
    assert made["cores"] >= 1
    assert made["processor"]
    assert made["versions"]["numpy"] == np.__version__
    monkeypatch.setattr("nbcore.surroundings.CHECKOUT", tmp_path)
    assert stamp()["commit"] is None
    assert stamp()["dirty"] is None


def test_what_git_does_not_know_counts_as_code_in_the_package_alone(monkeypatch, tmp_path):
    monkeypatch.setattr("nbcore.surroundings.CHECKOUT", tmp_path)
    (tmp_path / "nbcore").mkdir()
    (tmp_path / "nbcore/known.py").write_text("")
    for command in ("init", "add nbcore", "-c user.name=n -c user.email=e commit -m first"):
        subprocess.run(["git", "-C", tmp_path, *command.split()], check=True, capture_output=True)
    (tmp_path / "mine.csv").write_text("")
    assert not stamp()["dirty"]
    (tmp_path / "nbcore/new.py").write_text("")
    assert stamp()["dirty"]
