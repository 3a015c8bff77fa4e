import numpy as np
import pytest

from nbcore.analysis import ablation as module
from nbcore.analysis import scoring
from nbcore.analysis.ablation import UNTRAINED, VARIANTS, ablation, as_markdown
from nbcore.analysis.scoring import Score
from nbcore.config import load_config


@pytest.mark.long
def test_variants_are_trained_and_scored_beside_the_best_classical_rule(monkeypatch):
    chosen = (UNTRAINED, "does not see the tolerance", "does not see masses", "plain steps")
    monkeypatch.setattr(module, "VARIANTS", {name: VARIANTS[name] for name in chosen})
    monkeypatch.setattr(scoring, "RULES", ("boekholt",))
    one = load_config("default_policy").train.families[:1]
    shorter = module._settings
    monkeypatch.setattr(module, "_settings", lambda n: shorter(n) | {"train.families": one})
    scores = ablation(epochs=1, systems=3)
    assert list(scores) == list(chosen)
    for score in scores.values():
        assert all(0.2 < ratio < 5 for ratio in score.ratios if np.isfinite(ratio))
        assert 0 < score.spread < 12
    # two features of seven inputs, into 16 units
    assert scores[UNTRAINED].weights - scores["does not see masses"].weights == 2 * 16


def test_scores_read_as_a_table():
    table = as_markdown({"one": Score((0.8, np.nan), 1.23, 0.5, 145)})
    assert table.splitlines()[-1] == "| one | 145 | 0.80 | – | 1.2 |"
