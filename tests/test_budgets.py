"""The law of a budget learned from whole runs, and what other choices of steps cost."""

from functools import partial

import numpy as np
import pytest

from nbcore.analysis import step_choices
from nbcore.analysis.families import FAMILIES
from nbcore.analysis.step_choices import controller, digital_filter, fitted, run_by
from nbcore.config import load_config
from nbcore.learning import budgets
from nbcore.learning.budgets import law_of, learn, misses, tried
from nbcore.learning.systems import Problem
from nbcore.physics import scenarios
from nbcore.stepping.budget import Law

pytestmark = pytest.mark.filterwarnings("ignore:.*times the tolerance")


def some(n_systems=6, t_end=4.0, seed=3):
    state = scenarios.make("few_body", n_systems=n_systems, seed=seed)
    return Problem(state, state.time + t_end)


def test_numbers_may_be_anything_and_make_a_law():
    for x in np.random.default_rng(1).normal(scale=3, size=(100, len(Law._fields))):
        law = law_of(x)
        assert min(law.goal, law.largest, law.weight, law.most_excess) > 0
        assert max(law.limit, law.least_excess) <= 1
    by_hand = law_of(np.zeros(len(Law._fields)))
    assert (by_hand.goal, by_hand.goal_by_pull, by_hand.excess) == (0.5, 0.0, 4.0)


def test_what_is_off_by_more_counts_by_more():
    off = misses(np.array([1.0, 2.0, 4.0, 20.0, 1e4]))
    assert (np.diff(off) > 0).all()
    np.testing.assert_allclose(misses(np.array([0.05])), misses(np.array([20.0])))
    assert off[0] < 0.2 < off[2] / 10
    assert np.isfinite(misses(np.array([0.0, np.inf]))).all()


def test_what_is_learned_is_better_than_where_it_began():
    careful = law_of(np.zeros(len(Law._fields)))._replace(goal=1e-3)
    at, generations = [some()], []
    best = learn(at, (1e-8, 1e-6), 60.0, 1, lambda n, best: generations.append(best), most=4)
    assert len(generations) == 5
    assert best.price < generations[0].price
    tolerance = [np.full(6, 1e-7)]
    assert tried(best.law, at, tolerance).near > tried(careful, at, tolerance).near


def test_the_command_prints_a_law(monkeypatch, capsys, tmp_path):
    file = tmp_path / "own.toml"
    file.write_text(
        """
        [train]
        tolerances = [1e-8, 1e-6]
        [[train.families]]
        source = "few_body"
        parameters = { n_systems = 4, seed = 2 }
        t_end = 2.0
        """
    )
    budgets.main(str(file), 0.0, 1)
    law = eval(capsys.readouterr().out.splitlines()[-1], {"Law": Law})
    assert isinstance(law, Law)


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


def test_the_command_sets_rules_beside_the_controller(monkeypatch, capsys):
    monkeypatch.setattr(step_choices, "FAMILIES", ("two_body_massless",))
    monkeypatch.setattr(step_choices, "TOLERANCES", (1e-4, 1e-5, 1e-6, 1e-7))
    monkeypatch.setattr(step_choices, "training", lambda: [some(4, 3.0)])
    step_choices.main(2)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[-2:]] == ["two_body_massless", "median"]
    assert "controller 1.00 1.00" in lines[-1]
