"""Random numbers by seed and purpose."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from tiny_training import tiny

import nbcore as nb
from nbcore.analysis.families import problem
from nbcore.errors import InputError
from nbcore.physics.seeds import PURPOSES, stream

SEEDS = some.integers(0, 2**300)


def words(seed):
    return np.random.default_rng(seed).integers(0, 2**63, 4).tolist()


@given(SEEDS, SEEDS, some.permutations(sorted(PURPOSES)))
def test_no_seed_of_one_purpose_has_the_numbers_of_any_seed_of_another(one, other, purposes):
    assert words(stream(one, purposes[0])) != words(stream(other, purposes[1]))
    assert words(stream(one, purposes[0])) != words(stream(one, purposes[1]))


@pytest.mark.parametrize("purpose", [name for name in PURPOSES if name != "train"])
@pytest.mark.parametrize("seed", [0, 1, 2**31, 2**127])
def test_no_larger_seed_spells_a_seed_and_its_purpose(seed, purpose):
    """A sequence hashes the 32-bit words of seed and purpose one after the other."""
    judged = words(stream(seed, purpose))
    for key in (PURPOSES[purpose], PURPOSES[purpose][:1]):
        spelt = seed + sum(word << 32 * (4 + k) for k, word in enumerate(key))
        assert words(spelt) != judged


def test_training_seeds_keep_their_meaning():
    for seed in (0, 5, 700_000_000, 2**40, 2**200):
        assert words(stream(seed, "train")) == words(seed)


@pytest.mark.parametrize("seed", [500_000_000, 700_000_000, 1_000_000_000])
@pytest.mark.parametrize("split", ["calibration", "held_out"])
def test_seeds_that_used_to_meet_the_held_out_systems_do_not(seed, split):
    def systems(seed, split):
        scenario = {"source": "few_body", "parameters": {"n_systems": 2, "seed": seed}}
        return nb.training_problems(tiny(scenario=scenario).train, split)[0].state.position

    trained = systems(seed, "train")
    assert np.array_equal(trained, nb.scenarios.make("few_body", n_systems=2, seed=seed).position)
    for judged in (systems(0, split), problem("three_body_planar", "held_out", 2).state.position):
        assert not np.isin(judged, trained).any()


@pytest.mark.parametrize("seed", [-1, 1.5, "1", None, True])
def test_what_is_no_seed_is_named(seed):
    with pytest.raises(InputError, match=f"seed is {seed!r}; it must be a whole number"):
        stream(seed, "train")


def test_an_unknown_purpose_is_named():
    with pytest.raises(InputError, match="did you mean 'held_out'"):
        stream(0, "heldout")
