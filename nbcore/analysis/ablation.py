"""What each part of a learned policy buys: `python -m nbcore.runs.readme ablation`, 20 minutes.

The 4th-order member of the shipped policies is trained again and again, each time with one part
taken away, changed or added and for a fifth of the epochs, and compared with the best classical
rule on systems of the same families that it was not trained on. The table goes into the model card.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from nbcore.analysis.scoring import Judge, Score
from nbcore.config import load_config
from nbcore.learning.training import train
from nbcore.stepping.checkpoints import POLICY_FILE, save_policy
from nbcore.stepping.features import FEATURE_SETS
from nbcore.stepping.policies import LearnedPolicy
from nbcore.tables import markdown_head, markdown_row

__all__ = ["VARIANTS", "ablation", "as_markdown"]

EPOCHS = 60
SYSTEMS = 64  # of each shape, of those held out
LEVELS = (1e-4, 1e-6)
ASKED = 1e-5
UNTRAINED, LABELS = "no training", "regression on the largest steps within a budget, alone"
BLIND = 1e30  # deviation of an input that the network shall not see


Settings = dict[str, Any]


Variant = Callable[[Settings, dict[str, LearnedPolicy]], LearnedPolicy]


def ablation(epochs: int = EPOCHS, systems: int = SYSTEMS) -> dict[str, Score]:
    """Train and score every variant.

    Parameters
    ----------
    epochs
        Of each training.
    systems
        Held-out systems of each shape.
    """
    settings = _settings(epochs)
    judge = Judge(load_config("default_policy", settings).train, LEVELS, ASKED, systems)
    made: dict[str, LearnedPolicy] = {}
    for name, variant in tqdm(VARIANTS.items(), desc="ablation"):
        made[name] = variant(settings, made)
    return {name: judge(policy) for name, policy in made.items()}


def as_markdown(scores: dict[str, Score]) -> str:
    """The scores as a table, a row a variant."""
    levels = (f"evaluations at {level:.0e}" for level in LEVELS)
    head = ["variant", "weights", *levels, f"decades of error at {ASKED:.0e}"]
    lines = markdown_head(*head)
    for name, score in scores.items():
        ratios = (f"{ratio:.2f}" if np.isfinite(ratio) else "–" for ratio in score.ratios)
        lines.append(markdown_row(name, str(score.weights), *ratios, f"{score.spread:.1f}"))
    return "\n".join(lines)


def _settings(epochs: int) -> Settings:
    """Of the preset, what makes it a quick training of its 4th-order member alone."""
    member = load_config("default_policy").train.members[0]
    return {
        **{f"train.{name}": value for name, value in member.items()},
        "train.members": (),
        "train.epochs": epochs,
        "train.evolution.calibration_systems": 0,
        "train.progress": False,
    }


def _trained(settings: Settings) -> LearnedPolicy:
    policy = train(load_config("default_policy", settings)).policy
    assert isinstance(policy, LearnedPolicy)
    return policy


def _with(**changes: object) -> Variant:
    """The same with other settings; «train__stepping» stands for «train.stepping»."""
    named = {name.replace("__", "."): value for name, value in changes.items()}
    return lambda settings, made: _trained(settings | named)


def _without(*names: str) -> Variant:
    return _with(network__features=[name for name in FEATURE_SETS["pairs"] if name not in names])


def _started_from(policy: LearnedPolicy, settings: Settings) -> LearnedPolicy:
    with tempfile.TemporaryDirectory() as folder:
        path = save_policy(policy, Path(folder) / POLICY_FILE)
        return _trained(settings | {"train.start": str(path)})


def _after_labels(settings: Settings, made: dict[str, LearnedPolicy]) -> LearnedPolicy:
    return _started_from(made[LABELS], settings)


def _blind_to_the_tolerance(settings: Settings, made: dict[str, LearnedPolicy]) -> LearnedPolicy:
    start = copy.deepcopy(made[UNTRAINED])
    start.network.deviation[0] = BLIND
    return _started_from(start, settings)


VARIANTS: dict[str, Variant] = {
    "as shipped": _with(),
    UNTRAINED: _with(train__epochs=1, train__learning_rate=1e-12),
    "by CMA-ES": _with(train__evolution__method="cma"),
    "gradients through a few steps": _with(train__scheme="batched", train__learning_rate=3e-3),
    LABELS: _with(train__scheme="oracle", train__learning_rate=3e-3),
    "whole runs, from that regression": _after_labels,
    "the maximum error alone counts": _with(train__evolution__final_share=0.0),
    "not kept to the tolerance": _with(train__evolution__keep_to_tolerance=0.0),
    "does not see the tolerance": _blind_to_the_tolerance,
    "does not see how pairs move": _without("fly_by", "binding", "radial"),
    "does not see masses": _without("heaviness", "asymmetry"),
    "does not see what perturbs": _without("perturbation"),
    "sees the whole system, too": _with(network__features=["scale_free"]),
    "not smooth (relu)": _with(network__activation="relu"),
    "plain steps": _with(train__stepping="plain"),
    "8 wide": _with(network__hidden=[8]),
    "32 wide": _with(network__hidden=[32]),
    "two layers": _with(network__hidden=[16, 16]),
}
