import numpy as np
import pytest
import torch
from tiny_training import tiny

import nbcore as nb
from nbcore.learning.labels import largest_steps
from nbcore.simulation.ends import run_to_end
from nbcore.stepping.policies import FixedStep


def states():
    orbits = {"eccentricity": (0.1, 0.9), "phase": (0.05, 0.45)}
    return nb.scenarios.make("kepler_orbits", n_systems=32, seed=2, **orbits).to("cpu")


def error_of(state, dt, integrator="leapfrog"):
    tolerance = torch.full_like(dt, 1e-3)
    ends = run_to_end(state, state.time + dt, FixedStep(dt), tolerance, 1, integrator)
    return ends.max_error


@pytest.mark.parametrize("guess", [1e-3, 1e-2, 0.1])
def test_the_largest_step_reaches_the_budget_and_no_longer_one_keeps_it(guess):
    state = states()
    budget = torch.full_like(state.time, 1e-5)
    dt = largest_steps(state, torch.full_like(budget, guess), budget, "leapfrog")
    within = (dt > guess / 60) & (dt < guess * 60)
    assert within.sum() > 10
    assert (error_of(state, dt)[within] <= 1e-5).all()
    assert (error_of(state, 1.01 * dt)[within] > 1e-5).all()


def test_at_order_two_an_eighth_of_the_budget_halves_the_step():
    state = states()
    budget = torch.full_like(state.time, 1e-9)
    guess = torch.full_like(budget, 3e-3)
    long, short = (largest_steps(state, guess, b, "leapfrog") for b in (budget, budget / 8))
    assert np.median((long / short).numpy()) == pytest.approx(2.0, rel=0.02)


@pytest.mark.long
def test_regression_on_the_oracle_learns_where_steps_may_be_longer():
    config = tiny(
        scheme="oracle",
        epochs=60,
        batches=8,
        batch_size=64,
        pool_size=512,
        orbit_time=6.0,
        tolerances=(1e-5, 1e-4),
        learning_rate=0.02,
    )
    result = nb.train(config)
    loss = [epoch["loss"] for epoch in result.history]
    assert np.mean(loss[-5:]) < 0.5 * loss[0]


def test_training_may_start_from_another_policy(tmp_path):
    first = nb.train(tiny(scheme="oracle", epochs=2))
    path = nb.save_policy(first.policy, tmp_path / "first.safetensors")
    config = tiny(start=str(path), scheme="evolution", epochs=1, learning_rate=1e-12)
    second = nb.train(config)
    for before, after in zip(
        first.policy.network.layers.parameters(),
        second.policy.network.layers.parameters(),
        strict=True,
    ):
        torch.testing.assert_close(before, after, rtol=0, atol=1e-9)
    wider = tiny({"network.hidden": (7,)}, start=str(path))
    with pytest.raises(nb.InputError, match=r"whose network has widths \(6,\)"):
        nb.train(wider)
    other = tiny({"network.features": ("basic",)}, start=str(path))
    with pytest.raises(nb.InputError, match="no policy for 'leapfrog' with the same features"):
        nb.train(other)
