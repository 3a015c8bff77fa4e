import warnings

import numpy as np
import pytest
import torch

from nbcore.physics import scenarios
from nbcore.physics.state import State
from nbcore.simulation.novelty import novelty
from nbcore.simulation.simulate import simulate
from nbcore.stepping.layers import beyond
from nbcore.stepping.policies import trainable, untrained


@pytest.fixture(scope="module")
def on_circles():
    """A policy that has seen nearly circular orbits of equal masses."""
    policy = trainable(untrained("leapfrog").spec)
    seen = scenarios.make(
        "kepler_orbits", n_systems=400, eccentricity=(0.0, 0.3), phase=(0.0, 1.0), seed=3
    ).to("cpu")
    tolerance = torch.logspace(-5, -2, 400, dtype=torch.float64)
    inputs = policy.inputs(policy.measures(seen, policy.begin(seen)), tolerance, {})
    policy.network.standardise(inputs)
    return policy


def run(policy, state, **settings):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return simulate(state, 6.0, policy, tolerance=1e-3, **settings)


def orbits(*eccentricities):
    return State.concatenate([scenarios.make("kepler", eccentricity=e) for e in eccentricities])


def test_familiar_states_lie_within_the_range_and_others_beyond_it(on_circles):
    state = orbits(0.1, 0.95)
    worst = novelty(on_circles, state, run(on_circles, state))
    assert worst.shape == (2, len(on_circles.names))
    assert worst[0].max() < 0.5
    assert worst[1, on_circles.names.index("depth")] > 1


def test_what_lies_between_the_ends_of_a_run_is_seen_when_it_is_recorded(on_circles):
    """From apocentre to apocentre the ends look alike, and the pericentre does not."""
    state = scenarios.make("kepler", eccentricity=0.9)
    depth = on_circles.names.index("depth")
    period = 2 * np.pi
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        ends, every = (
            simulate(state, period, on_circles, tolerance=1e-4, record=record)
            for record in ("ends", 1)
        )
    seen = [novelty(on_circles, state, each)[0, depth] for each in (ends, every)]
    assert seen[1] > seen[0] + 1


def test_novelty_is_in_standard_deviations(on_circles):
    for network in (on_circles.network, on_circles.numpy().network):
        inputs = network.most + 2 * network.deviation
        assert beyond(network, inputs[None])[0].tolist() == pytest.approx([2.0] * len(inputs))
        assert not beyond(network, network.mean[None]).any()


def test_a_run_warns_of_strange_states_and_names_the_features(on_circles):
    with pytest.warns(RuntimeWarning, match=r"1 of 2 systems .*depth by .*compare with a criter"):
        simulate(orbits(0.1, 0.97), 6.0, on_circles, tolerance=1e-3)


def test_familiar_systems_and_untrained_policies_run_without_a_warning(on_circles):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        simulate(orbits(0.1), 6.0, on_circles, tolerance=1e-3)
        simulate(orbits(0.97), 1.0, untrained("leapfrog"), tolerance=1e-3)
