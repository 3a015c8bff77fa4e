import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import nbcore as nb
from nbcore.config import LossConfig, Network
from nbcore.errors import InputError
from nbcore.learning.losses import (
    LOSSES,
    Rollout,
    check_finite,
    check_weights,
    energy_error,
    loss_parts,
    rollout,
)
from nbcore.learning.training import make_policy
from nbcore.physics import gravity
from nbcore.physics.integrators import get_integrator
from nbcore.simulation.engine import Monitor

LEAPFROG = get_integrator("leapfrog")
TOLERANCE = torch.tensor([1e-6, 1e-4], dtype=torch.float64)
CONFIG = LossConfig()
# edges below rounding, so that no loss is at its flat bottom
STRICT = LossConfig(
    weights=dict.fromkeys(LOSSES, 1.0),
    energy_upper=1e-6,
    body_upper=1e-6,
    momentum_upper=1e-17,
    angular_momentum_upper=1e-17,
)


def stub(energy=0.0, momentum=0.0, angular_momentum=0.0, stretch=1.0, predicted=None, body=0.0):
    """Three steps of two systems with these errors: a number for all, or (3, 2)."""

    def table(value):
        return torch.as_tensor(value, dtype=torch.float64).expand(3, 2)

    return Rollout(
        tolerance=TOLERANCE,
        energy=table(energy),
        momentum=table(momentum),
        angular_momentum=table(angular_momentum),
        dt=table(1e-2 * torch.as_tensor(stretch)),
        stretch=table(stretch),
        predicted=predicted,
        follow=lambda: table(body),
    )


def random_policy(seed=0, **network):
    """Policy with random last layer, as if somewhat trained."""
    torch.manual_seed(seed)
    policy = make_policy(
        Network(hidden=(6,), precision="float64", predict_error=True, **network), "leapfrog"
    )
    with torch.no_grad():
        for parameter in policy.network.parameters():
            parameter.copy_(0.3 * torch.randn_like(parameter))
    return policy


def forward(policy, state, n_steps=3, tolerance=1e-4):
    tolerance = torch.full_like(state.time, tolerance)
    return rollout(policy, LEAPFROG, state, tolerance, policy.begin(state), n_steps, follow=True)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("n_bodies", [2, 3, 5])
def test_the_gradient_with_respect_to_the_weights_is_finite(name, n_bodies):
    masses = {"n_bodies": n_bodies, "mass_range": (0.5, 1.0)}
    state = nb.scenarios.make("few_body", n_systems=8, **masses).to("cpu")
    policy = random_policy()
    value = LOSSES[name](forward(policy, state, tolerance=1e-2), STRICT)
    assert value.shape == (8,)
    value.mean().backward()
    gradients = [p.grad for p in policy.network.parameters() if p.grad is not None]
    assert gradients
    assert all(bool(torch.isfinite(g).all()) for g in gradients)
    assert any(bool((g != 0).any()) for g in gradients)


# What a loss needs to be as small as it gets on an exact orbit, beside errors of zero.
AT_BEST = {"error_calibration": {"predicted": torch.full((2,), -17.0, dtype=torch.float64)}}
ERRORS = ("energy", "momentum", "angular_momentum", "body")


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_least_on_an_exact_orbit(name):
    best = AT_BEST.get(name, {})
    least = LOSSES[name](stub(**best), CONFIG)
    assert least.shape == (2,)
    for error in (1e-14, 1e-6, 1e-1):
        worse = stub(**best, **dict.fromkeys(ERRORS, error))
        assert bool((LOSSES[name](worse, CONFIG) >= least).all())


@pytest.mark.parametrize("name", LOSSES)
def test_the_gradient_stays_finite_where_every_error_is_exactly_zero(name, monkeypatch):
    state = nb.scenarios.make("few_body", n_systems=4).to("cpu")
    monkeypatch.setattr(gravity, "energy", lambda state: state.position.sum(dim=(1, 2)) * 0 + 1)
    policy = random_policy()
    r = forward(policy, state)
    assert not bool(r.energy.any())
    loss = LOSSES[name](r, CONFIG).mean()
    assert bool(torch.isfinite(loss))
    loss.backward()
    for parameter in policy.network.parameters():
        assert parameter.grad is None or bool(torch.isfinite(parameter.grad).all())


def test_a_step_of_length_zero_has_zero_errors_with_finite_gradients():
    state = nb.scenarios.make("few_body", n_systems=4).to("cpu")
    zero = torch.zeros_like(state.time, requires_grad=True)
    errors = torch.stack(Monitor(state).errors(LEAPFROG.step(state, zero)))
    assert not bool(errors.any())
    errors.sum().backward()
    assert zero.grad is not None
    assert bool(torch.isfinite(zero.grad).all())


@pytest.mark.parametrize("name", [name for name in LOSSES if name.endswith("_band")])
def test_a_band_is_zero_on_an_exact_orbit(name):
    assert LOSSES[name](stub(), CONFIG).tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("name", "error", "edge"),
    [
        ("energy_band", "energy", CONFIG.energy_upper * TOLERANCE),
        ("body_band", "body", CONFIG.body_upper * TOLERANCE),
        ("momentum_band", "momentum", CONFIG.momentum_upper * torch.ones(2)),
        (
            "angular_momentum_band",
            "angular_momentum",
            CONFIG.angular_momentum_upper * torch.ones(2),
        ),
    ],
)
def test_a_band_does_not_punish_accuracy_and_grows_with_the_square_of_the_decades_above(
    name, error, edge
):
    def at(decades):
        return LOSSES[name](stub(**{error: edge * 10.0**decades}), CONFIG).numpy()

    for decades in (-4, -2, -0.1):
        assert at(decades).tolist() == [0.0, 0.0]
    for decades in (0.5, 1, 3):
        np.testing.assert_allclose(at(decades), decades**2, rtol=1e-6)


def test_a_calibrated_prediction_costs_nothing_and_a_wrong_one_the_square_of_its_decades():
    achieved = torch.tensor([1e-7, 3e-5], dtype=torch.float64)
    for decades in (0.0, 1.0, -2.0):
        r = stub(energy=achieved, predicted=achieved.log10() + decades)
        np.testing.assert_allclose(
            LOSSES["error_calibration"](r, CONFIG).numpy(), decades**2, atol=1e-12
        )


@given(stretch=st.floats(0.05, 10), factor=st.floats(1.01, 2))
def test_the_step_size_loss_falls_when_the_steps_grow(stretch, factor):
    small, large = (
        LOSSES["step_size"](stub(stretch=s), CONFIG) for s in (stretch, factor * stretch)
    )
    # by exactly the decades that the steps grow
    np.testing.assert_allclose((small - large).numpy(), math.log10(factor), rtol=1e-9, atol=1e-12)


def test_the_energy_error_is_taken_from_where_the_config_says():
    rows = torch.tensor([[1e-6, 4e-6], [8e-6, 1e-6], [3e-6, 1e-6]], dtype=torch.float64)
    expected = {
        "next": [1e-6, 4e-6],
        "last": [3e-6, 1e-6],
        "mean": [4e-6, 2e-6],
        "max": [8e-6, 4e-6],
    }
    for where, values in expected.items():
        found = energy_error(stub(energy=rows), LossConfig(error_at=where))
        np.testing.assert_allclose(found.numpy(), values, rtol=1e-14)


def test_a_rollout_takes_the_steps_that_the_engine_takes():
    state = nb.scenarios.make("few_body", n_systems=3).to("cpu")
    policy = random_policy()
    r = forward(policy, state, n_steps=4)
    with pytest.warns(RuntimeWarning, match="MAX_STEPS"):
        run = nb.simulate(state, 100.0, policy, tolerance=1e-4, max_steps=4, engine="torch")
    # the same operations in the same order
    np.testing.assert_array_equal(r.dt.detach().numpy().T, run.dt[:, 1:])
    np.testing.assert_allclose(r.energy.detach().numpy().T, run.energy_error[:, 1:], rtol=1e-9)
    worst = run.body_error[:, 1:].max(axis=-1)
    np.testing.assert_allclose(r.body.detach().numpy().T, worst, rtol=1e-9)


def test_a_loss_may_ask_for_the_bodies_errors_where_nobody_followed_them():
    state = nb.scenarios.make("few_body", n_systems=3).to("cpu")
    policy, tolerance = random_policy(), torch.full_like(state.time, 1e-4)
    found = []
    for follow in (True, False):
        begun = policy.begin(state)
        body = rollout(policy, LEAPFROG, state, tolerance, begun, 3, follow=follow).body
        policy.network.zero_grad()
        body.sum().backward()
        found.append([body.detach()] + [p.grad.clone() for p in policy.network.parameters()])
    for once, again in zip(*found, strict=True):
        # gradients are summed in another order
        torch.testing.assert_close(again, once, rtol=1e-9, atol=0)
    assert torch.equal(found[0][0], found[1][0])


@pytest.mark.parametrize("history", [0, 2])
def test_the_gradient_of_the_loss_agrees_with_central_differences(history):
    names = ("scale_free", "delta_mag") if history else ("scale_free",)
    policy = random_policy(features=names, history=history)
    state = nb.scenarios.make("few_body", n_systems=4, seed=5).to("cpu")
    config = LossConfig(
        weights={"energy_band": 1.0, "step_size": 0.3, "error_calibration": 0.0}, energy_upper=1e-9
    )

    def loss():
        parts = loss_parts(forward(policy, state, tolerance=1e-2), config)
        return sum(config.weights[name] * part for name, part in parts.items()).mean()

    loss().backward()
    # Rounding, 1e-16 in energy errors of 1e-5 and more, leaves 1e-11/h; truncation goes as h².
    h = 1e-4
    for parameter in policy.network.parameters():
        flat, gradient = parameter.data.view(-1), parameter.grad.view(-1)
        index = int(gradient.abs().argmax())
        before, values = float(flat[index]), []
        for shift in (h, -h):
            flat[index] = before + shift
            with torch.no_grad():
                values.append(float(loss()))
        flat[index] = before
        numeric = (values[0] - values[1]) / (2 * h)
        assert float(gradient[index]) == pytest.approx(numeric, rel=1e-6, abs=1e-8)


def test_losses_without_weight_are_not_computed():
    assert list(loss_parts(stub(), LossConfig(weights={"step_size": 1.0}))) == ["step_size"]
    parts = loss_parts(stub(), LossConfig(weights={"step_size": 1.0, "energy_band": 0.0}))
    assert list(parts) == ["step_size"]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda r, config: r.dt, r"loss 'mine' returned shape \(3, 2\) for 2 systems; .*\(2,\)"),
        (lambda r, config: r.dt.mean(), r"loss 'mine' returned shape \(\) for 2 systems"),
        (lambda r, config: None, "loss 'mine' returned None; it must return one number a system"),
    ],
)
def test_a_loss_that_is_not_one_number_a_system_is_told(answer, message, monkeypatch):
    monkeypatch.setitem(LOSSES, "mine", answer)
    with pytest.raises(InputError, match=message):
        loss_parts(stub(), LossConfig(weights={"mine": 1.0}))


def test_a_loss_that_is_not_finite_is_told_unless_the_orbit_itself_was_lost():
    nan, fine = (torch.tensor([1.0, last]) for last in (math.nan, 2.0))
    check_finite(stub(), {"fine": fine})
    with pytest.raises(InputError, match=r"loss 'mine' is nan for 1 of 2 systems.*weights.mine=0"):
        check_finite(stub(), {"fine": fine, "mine": nan})
    check_finite(stub(energy=[0.0, math.inf]), {"mine": nan})


def test_an_unknown_loss_is_told_with_the_nearest_name():
    with pytest.raises(
        InputError, match="loss 'energy_bnd' is unknown; did you mean 'energy_band'"
    ):
        check_weights(LossConfig(weights={"energy_bnd": 1.0}), predicts_error=False)


@pytest.mark.parametrize("weights", [{}, {"energy_band": 0.0}])
def test_a_loss_without_any_weight_is_refused(weights):
    with pytest.raises(InputError, match="nothing to minimise; give one a positive weight"):
        check_weights(LossConfig(weights=weights), predicts_error=False)


@pytest.mark.parametrize("predicts", [True, False])
def test_a_predicted_error_and_its_calibration_need_each_other(predicts):
    weights = {"energy_band": 1.0} | ({} if predicts else {"error_calibration": 1.0})
    with pytest.raises(InputError, match="use both or neither"):
        check_weights(LossConfig(weights=weights), predicts_error=predicts)
    both = LossConfig(weights={"energy_band": 1.0, "error_calibration": 1.0})
    check_weights(both, predicts_error=True)
