import matplotlib.pyplot as plt
import numpy as np
import optuna
import pytest

from nbcore.errors import InputError
from nbcore.views import search

optuna.logging.set_verbosity(optuna.logging.WARNING)


def study(objectives=("cost_ratio", "calibration"), trials=24):
    made = optuna.create_study(
        directions=["minimize"] * len(objectives), sampler=optuna.samplers.RandomSampler(seed=1)
    )
    made.set_user_attr("objectives", list(objectives))
    for _ in range(trials):
        trial = made.ask()
        matters, idle = trial.suggest_float("matters", 0, 1), trial.suggest_float("idle", 0, 1)
        made.tell(trial, [matters, 1 - matters + idle][: len(objectives)])
    made.tell(made.ask(), state=optuna.trial.TrialState.FAIL)
    return made


@pytest.fixture
def ax():
    figure, ax = plt.subplots()
    yield ax
    plt.close(figure)


def test_the_least_so_far_never_rises_and_ends_at_the_best(ax):
    made = study()
    _, line, _ = search.history(made, ax, objective=1)
    least = line.get_ydata()
    assert (np.diff(least) <= 0).all()
    assert least[-1] == min(trial.values[1] for trial in made.best_trials)
    assert ax.get_ylabel() == "calibration"


def test_a_front_is_beaten_by_no_trial(ax):
    made = study()
    _, front, _ = search.pareto(made, ax)
    joined = set(zip(*front.get_data(), strict=True))
    assert joined == {tuple(trial.values) for trial in made.best_trials}


def test_what_decides_comes_first(ax):
    search.importance(study(), ax)
    assert [label.get_text() for label in ax.get_yticklabels()][-1] == "matters"


def test_one_objective_has_no_front_and_few_trials_no_importance(ax):
    with pytest.raises(InputError, match="a front needs two"):
        search.pareto(study(["loss"]), ax)
    with pytest.raises(InputError, match="has 2 complete trials; this needs 4"):
        search.importance(study(trials=2), ax)
