"""A search for settings: how it went, which settings matter, and between what one must choose."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from nbcore.errors import InputError
from nbcore.views.style import COLOURS, GREY, HIGHLIGHT

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

__all__ = ["history", "importance", "pareto"]


def history(study: Study, ax: Axes, objective: int = 0) -> list[Artist]:
    """An objective of each trial, and the least so far.

    Parameters
    ----------
    study
        Optuna's.
    objective
        Its number.
    """
    trials, name = _complete(study, 1), _names(study)[objective]
    number = [trial.number for trial in trials]
    value = np.array([trial.values[objective] for trial in trials])
    artists: list[Artist] = [ax.scatter(number, value, s=14, color=GREY, label="trial")]
    least = np.minimum.accumulate(value)
    artists += ax.plot(number, least, color=HIGHLIGHT, drawstyle="steps-post", label="least so far")
    ax.set(xlabel="trial", ylabel=name, title="The search")
    artists.append(ax.legend(loc="best"))
    return artists


def importance(study: Study, ax: Axes, objective: int = 0) -> list[Artist]:
    """How much each setting decides over an objective.

    References
    ----------
    Watanabe, Bansal & Hutter (2023), PED-ANOVA, IJCAI.
    """
    import warnings

    from optuna.exceptions import ExperimentalWarning
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    _complete(study, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        warnings.simplefilter("ignore", UserWarning)  # that less is better, as it is here
        found = get_param_importances(
            study,
            evaluator=PedAnovaImportanceEvaluator(target_quantile=0.25),
            target=lambda trial: trial.values[objective],
        )
    names = list(found)[::-1]
    bars = ax.barh(names, [found[name] for name in names], color=COLOURS[0])
    ax.set(xlabel="importance", title=f"What decides over {_names(study)[objective]}")
    return list(bars)


def pareto(study: Study, ax: Axes) -> list[Artist]:
    """The first two objectives of all trials; those that no other beats in both are joined.

    Raises
    ------
    InputError
        The study has one objective, or no complete trial.
    """
    names = _names(study)
    if len(names) < 2:
        raise InputError(f"the study has one objective, {names[0]!r}; a front needs two")
    points = np.array([trial.values[:2] for trial in _complete(study, 1)])
    order = points[np.lexsort((points[:, 1], points[:, 0]))]
    front = order[order[:, 1] < np.minimum.accumulate(np.append(np.inf, order[:-1, 1]))]
    artists: list[Artist] = [ax.scatter(*points.T, s=14, color=GREY, label="trial")]
    artists += ax.plot(*front.T, "o-", color=HIGHLIGHT, label="beaten by none")
    ax.set(xlabel=names[0], ylabel=names[1], title="What is given up for what")
    artists.append(ax.legend(loc="best"))
    return artists


def _names(study: Study) -> list[str]:
    known = study.user_attrs.get("objectives")
    return known or [f"objective {k}" for k in range(len(study.directions))]


def _complete(study: Study, least: int) -> list[FrozenTrial]:
    trials = [trial for trial in study.get_trials(deepcopy=False) if trial.state.name == "COMPLETE"]
    if len(trials) < least:
        raise InputError(f"the study has {len(trials)} complete trials; this needs {least}")
    return trials
