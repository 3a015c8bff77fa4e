"""The law of a budget learned from whole runs, and what other choices of steps cost."""

from functools import partial

import numpy as np
import pytest
from matplotlib.figure import Figure

import nbcore as nb
from nbcore.analysis import clock_choices, comparison, methods, step_choices
from nbcore.analysis.families import FAMILIES
from nbcore.analysis.step_choices import controller, digital_filter, fitted, run_by
from nbcore.config import load_config
from nbcore.errors import InputError
from nbcore.learning.budgets import BY_HAND, Budgets, Tried, law_of, misses, numbers_of, tried
from nbcore.learning.systems import Problem
from nbcore.learning.training import check_training, train
from nbcore.physics import scenarios
from nbcore.runs.sweeps import check_sweep
from nbcore.stepping.budget import LAW, Law
from nbcore.views import lessons

pytestmark = pytest.mark.filterwarnings("ignore:.*times the tolerance")


def some(n_systems=6, t_end=4.0, seed=3):
    state = scenarios.make("few_body", n_systems=n_systems, seed=seed)
    return Problem(state, state.time + t_end)


def config_of(**changes):
    """Of a training of gbs on a few systems of three bodies."""
    family = {
        "source": "few_body",
        "parameters": {"n_systems": 6, "seed": 3},
        "t_end": 4.0,
    }
    table = {
        "train.scheme": "evolution",
        "train.integrator": "gbs",
        "train.tolerances": (1e-8, 1e-6),
        "train.epochs": 4,
        "train.progress": False,
        "train.families": (family,),
        "train.evolution.pairs": 3,
        "train.evolution.calibration_systems": 6,
    }
    return load_config(None, {**table, **changes})


def test_numbers_may_be_anything_and_make_a_law():
    for x in np.random.default_rng(1).normal(size=(100, len(Law._fields))):
        law = law_of(3 * x)
        assert min(law.goal, law.largest, law.weight, law.most_excess) > 0
        assert max(law.limit, law.least_excess) <= 1
        np.testing.assert_allclose(numbers_of(law_of(x)), x, atol=1e-9)
    assert (BY_HAND.goal, BY_HAND.goal_by_pull, BY_HAND.excess) == (0.5, 0.0, 4.0)


def test_what_is_off_by_more_counts_by_more():
    off = misses(np.array([1.0, 2.0, 4.0, 20.0, 1e4]))
    assert (np.diff(off) > 0).all()
    np.testing.assert_allclose(misses(np.array([0.05])), misses(np.array([20.0])))
    assert off[0] < 0.2 < off[2] / 10
    assert np.isfinite(misses(np.array([0.0, np.inf]))).all()


def test_what_is_learned_is_better_than_where_it_began(tmp_path):
    careful = LAW._replace(goal=LAW.goal / 30)
    path = nb.save_policy(nb.OwnStep(law=careful), tmp_path / "careful.safetensors")
    longer = {"train.epochs": 10, "train.evolution.pairs": 5}
    result = train(config_of(**{"train.start": str(path), **longer}))
    assert [row["epoch"] for row in result.history] == list(range(10))
    others = [(some(24, seed=8), np.full(24, 1e-7))]
    assert tried(result.policy.law, others).price < tried(careful, others).price


def test_a_training_that_was_stopped_goes_on_to_the_same_law(tmp_path):
    whole = train(config_of())
    train(config_of(**{"train.epochs": 2}), tmp_path)
    assert train(config_of(), tmp_path).policy.law == whole.policy.law
    assert nb.load_policy(tmp_path).law == whole.policy.law


def test_it_goes_back_where_other_systems_are_no_better_off(monkeypatch):
    """By laws that gain on what is learned from, and lose on others."""

    def worse_elsewhere(law, runs):
        own, here = law == LAW, len(runs[0][1]) == 6
        return Tried(law, 1.0 if own == here else 0.0, near=0.0, nearly=0.0)

    monkeypatch.setattr("nbcore.learning.budgets.tried", worse_elsewhere)
    settings = {"train.start": "default", "train.evolution.calibration_systems": 5}
    assert train(config_of(**settings)).policy.law == LAW
    settings["train.evolution.calibration_systems"] = 0
    assert train(config_of(**settings)).policy.law != LAW


def test_systems_of_a_file_are_gone_over_with_other_tolerances(tmp_path, monkeypatch):
    state = some(8).state
    np.savez(
        tmp_path / "own.npz", mass=state.mass, position=state.position, velocity=state.velocity
    )
    family = {"source": str(tmp_path / "own.npz"), "t_end": 1.0}
    seen = []

    def tolerances(law, runs):
        seen.append(runs[0][1])
        return Tried(law, 1.0, near=0.0, nearly=0.0)

    monkeypatch.setattr("nbcore.learning.budgets.tried", tolerances)
    train(config_of(**{"train.families": (family,), "train.epochs": 1}))
    assert not set(seen[0]) & set(seen[-1])


def test_a_law_of_one_s_own_is_stored_and_run_by_its_path(tmp_path):
    law = LAW._replace(goal=LAW.goal / 100)
    path = nb.save_policy(nb.OwnStep(law=law), tmp_path / "own.safetensors")
    assert nb.load_policy(path).law == law
    by_path, careless = (nb.simulate("figure_eight", 20.0, p, tolerance=1e-7) for p in (path, None))
    assert (by_path.integrator, by_path.about["keep"]) == ("gbs", "aim")
    by_name = nb.simulate("figure_eight", 20.0, integrator="gbs", keep="aim", tolerance=1e-7)
    assert by_path.n_force_evaluations > by_name.n_force_evaluations
    assert careless.integrator != "gbs"
    config = load_config(None, {"simulate.policy": str(path), "simulate.t_end": 5.0})
    assert nb.setup(config.simulate).run().about["keep"] == "aim"


def test_a_run_by_a_law_of_one_s_own_goes_on_by_it(tmp_path):
    policy = nb.OwnStep(law=LAW._replace(goal=LAW.goal / 10))
    whole = nb.simulate("figure_eight", 20.0, policy, tolerance=1e-7)
    path = tmp_path / "run.zarr"
    with pytest.warns(RuntimeWarning, match="did not reach"):
        nb.simulate("figure_eight", 20.0, policy, tolerance=1e-7, path=path, max_steps=9)
    gone_on = nb.simulate(resume=path, max_steps=10_000)
    np.testing.assert_array_equal(gone_on.position[-1], whole.position[-1])
    with pytest.raises(InputError, match="policy"):
        nb.simulate(resume=path, policy=nb.OwnStep(law=LAW))


def test_advice_tells_a_law_of_one_s_own_from_the_shipped_one():
    own = {"policy": nb.OwnStep(law=LAW._replace(goal=LAW.goal / 100))}
    shipped = {"integrator": "gbs", "keep": "aim"}
    methods = nb.advise("figure_eight", 60.0, 1e-7, methods=[own, shipped]).methods
    assert len(methods) == 2
    assert methods[0].evaluations != methods[1].evaluations


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train.scheme": "batched"}, "chooses its own steps"),
        ({"train.start": "none.safetensors"}, "there is no policy"),
        ({"train.families.0.parameters.n_systems": 2}, "what is learned from so few"),
        ({"train.members": ({"integrator": "gbs"},)}, "train it alone"),
    ],
)
def test_what_can_not_be_trained_is_told_before_anything_runs(changes, words):
    with pytest.raises(InputError, match=words):
        check_training(config_of(**changes))


def test_a_sweep_searches_no_law():
    config = config_of(**{"sweep.space": {"train.seed": {"choices": (1, 2)}}})
    with pytest.raises(InputError, match="settings of networks"):
        check_sweep(config)


def test_classical_rules_are_set_beside_steps_that_an_integrator_chooses():
    state = scenarios.make("kepler_orbits", n_systems=2, eccentricity=0.5)
    how = {"integrator": "gbs", "tolerance": 1e-8, "keep": "aim"}
    setup = nb.Setup(state, state.time + 20.0, "auto", how)
    table = comparison.at_equal_cost(setup, ["boekholt"])
    assert list(table.index) == ["auto", "boekholt", "fixed step"]
    assert 0.5 < table["cost_ratio"]["boekholt"] < 2
    assert table["median"]["boekholt"] > table["median"]["auto"]


def test_a_member_whose_steps_are_its_own_is_not_left_out_in_silence():
    members = ({"integrator": "leapfrog"}, {"integrator": "gbs"})
    with pytest.raises(InputError, match=r"'gbs'.*train it alone"):
        train(config_of(**{"train.members": members}))


def test_a_benchmark_of_policies_says_that_a_law_is_none(tmp_path):
    path = nb.save_policy(nb.OwnStep(law=LAW), tmp_path / "own.safetensors")
    with pytest.raises(InputError, match="which a benchmark does not compare"):
        methods.learned_policies((str(path),), ("leapfrog",))


def test_a_run_that_does_not_end_is_as_far_off_as_can_be(monkeypatch):
    monkeypatch.setattr("nbcore.learning.budgets.MOST_STEPS", 3)
    assert tried(LAW, [(some(), np.full(6, 1e-7))]).nearly == 0


def test_a_network_is_no_law_to_start_from(tmp_path):
    path = nb.save_policy(nb.load_policy("default").members[0], tmp_path / "network.safetensors")
    with pytest.raises(InputError, match="a policy of another integrator"):
        Budgets(config_of(**{"train.start": str(path)}).train)


@pytest.mark.parametrize("options", [{"integrator": "leapfrog"}, {"integrator": "wisdom_holman"}])
def test_a_law_belongs_to_gbs(options):
    with pytest.raises(InputError, match="policy"):
        nb.simulate("outer_solar_system", 1.0, nb.OwnStep(law=LAW), **options)


@pytest.mark.parametrize("change", [{"goal": -1.0}, {"excess": np.nan}, {"none": 1.0}])
def test_a_stored_law_that_is_none_is_told(change, tmp_path, monkeypatch):
    stored = {**LAW._asdict(), **change}
    monkeypatch.setattr(Law, "_asdict", lambda law: stored)
    path = nb.save_policy(nb.OwnStep(law=LAW), tmp_path / "own.safetensors")
    with pytest.raises(InputError, match="can't be used"):
        nb.load_policy(path)


def test_what_a_training_bought_is_told_and_drawn():
    config, policy = config_of(), nb.OwnStep(law=LAW)
    table = comparison.of_training(config, policy)
    assert list(table.index) == ["gbs", "gbs, keep='aim'", "the same by the law learned"]
    kept = table.iloc[1:].drop(columns="cost_ratio")
    assert kept.iloc[0].equals(kept.iloc[1])  # both by the shipped law
    assert table["within_3"].iloc[0] < table["within_3"].iloc[1] <= table["within_10"].iloc[1]
    run = nb.simulate("figure_eight", 3.0, policy, record=1)
    with nb.plots.style():
        figure = Figure()
        lessons.of_training(config, policy, run, figure)
    labels = [text.get_text() for text in figure.axes[1].get_legend().get_texts()]
    assert labels[1:] == list(table.index)


def test_the_families_that_it_learns_from_are_none_of_the_benchmark():
    families = load_config("default_budget").train.families
    assert len(families) > 20
    drawn = [make.keywords for each in FAMILIES.values() if isinstance(make := each.make, partial)]
    assert len(drawn) > 10
    for each in families:
        own = {k: v for k, v in each.parameters.items() if k not in ("n_systems", "seed")}
        assert as_lists(own) not in [as_lists(kind) for kind in drawn]


def as_lists(parameters):
    return {k: list(v) if isinstance(v, tuple) else v for k, v in parameters.items()}


# Other choices


@pytest.mark.parametrize("rule", [controller, digital_filter, None])
def test_a_rule_takes_runs_to_their_end(rule):
    at = some(4, 2.0)
    run = run_by(rule, at, 1e-7)
    np.testing.assert_allclose(run.state.time, at.t_end, rtol=1e-15)
    truth = run_by(controller, at, 1e-12).state.position
    np.testing.assert_allclose(run.state.position, truth, atol=1e-5)
    assert (run.evaluations >= 56 * run.steps).all()


def test_an_oracle_makes_fewer_steps_and_none_anew():
    at = some(4, 4.0)
    plain, oracle = (run_by(rule, at, 1e-8) for rule in (controller, None))
    assert oracle.evaluations.sum() < plain.evaluations.sum()
    assert oracle.steps.sum() < plain.steps.sum()


def test_a_law_of_steps_is_fitted_to_labels_and_gone_by():
    law = fitted([some(8, 4.0, seed=5)], (1e-6, 1e-8))
    run = run_by(law, some(4, 4.0), 1e-7)
    plain = run_by(controller, some(4, 4.0), 1e-7)
    assert run.evaluations.sum() == pytest.approx(plain.evaluations.sum(), rel=0.5)


def test_clocks_are_set_beside_the_shipped_one(monkeypatch, capsys):
    found = clock_choices.costs(some(4, 3.0), (1e-5, 1e-6, 1e-7))
    assert found[clock_choices.SHIPPED] == 1
    assert found["p = 1, m + m'"] > 1.2  # which feels all pairs in first order
    monkeypatch.setattr(clock_choices, "FAMILIES", ("two_body_massless",))
    monkeypatch.setattr(clock_choices, "costs", lambda at: {"a": 1.0, "b": 0.5})
    clock_choices.main(2)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].split() == ["median", "1.00", "0.50", "0.50"]


def test_the_command_sets_rules_beside_the_controller(monkeypatch, capsys):
    monkeypatch.setattr(step_choices, "FAMILIES", ("two_body_massless",))
    monkeypatch.setattr(step_choices, "TOLERANCES", (1e-4, 1e-5, 1e-6, 1e-7))
    monkeypatch.setattr(step_choices, "training", lambda: [some(4, 3.0)])
    step_choices.main(2)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[-2:]] == ["two_body_massless", "median"]
    assert "controller 1.00 1.00" in lines[-1]
