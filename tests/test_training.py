import itertools
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_training import HISTORY, tiny, weights_of

import nbcore as nb
from nbcore.errors import InputError
from nbcore.learning import losses, trainer
from nbcore.learning.optimisation import OPTIMISERS, SCHEDULES, Learner
from nbcore.learning.schemes import SCHEMES
from nbcore.learning.trainer import HISTORY_FILE, POLICY_FILE, TRAINING_FILE, Trainer
from nbcore.learning.training import make_policy, train
from nbcore.stepping.checkpoints import load_policy, load_tree, training_systems
from nbcore.stepping.features import FEATURES, SCALE_FREE, STATISTICS

SCHEME_NAMES = list(SCHEMES)


def untrained(config):
    """The policy that a training starts from."""
    with torch.random.fork_rng():
        torch.manual_seed(config.train.seed)
        return make_policy(config.network, config.train.integrator)


def without_seconds(history):
    return [{k: v for k, v in epoch.items() if k != "seconds"} for epoch in history]


@pytest.mark.parametrize("scheme", ["batched", "two_phase"])
def test_training_lowers_the_loss(scheme):
    # One tolerance, so that epochs differ by the weights and not by the luck of the draw.
    config = tiny(
        scheme=scheme,
        tolerances=(1e-3, 1e-3),
        epochs=30,
        learning_rate=0.03,
        energy_threshold=100.0,
        loss={"weights": {"energy_band": 1.0}, "energy_upper": 1e-3},
    )
    loss = [epoch["loss"] for epoch in train(config).history]
    assert np.mean(loss[-5:]) < 0.5 * np.mean(loss[:5])


def test_training_changes_the_steps():
    config = tiny()
    state = nb.scenarios.make("kepler", eccentricity=0.5)
    tolerance = np.full_like(state.time, 1e-3)
    before, after = (p(state, tolerance) for p in (untrained(config), train(config).policy))
    assert not np.array_equal(before, after)


@pytest.mark.parametrize("scheme", SCHEME_NAMES)
def test_the_same_seed_gives_the_same_weights_and_another_seed_does_not(scheme):
    config = tiny(scheme=scheme)
    torch.manual_seed(1)
    first = train(config)
    torch.manual_seed(2)
    second = train(config)
    assert weights_of(first.policy) == weights_of(second.policy)
    assert without_seconds(first.history) == without_seconds(second.history)
    assert weights_of(train(tiny(scheme=scheme, seed=1)).policy) != weights_of(first.policy)


def test_training_leaves_the_random_numbers_of_the_session_alone():
    torch.manual_seed(5)
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    train(tiny())
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    np.testing.assert_array_equal(np.random.get_state()[1], before[2])  # noqa: NPY002


VARIANTS = {
    **{name: {"train.optimiser": name} for name in OPTIMISERS},
    **{name: {"train.schedule": name} for name in SCHEDULES},
    "then lbfgs": {"train.lbfgs_epochs": 1},
    "unclipped": {"train.gradient_clip": None},
    "dropout": {"network.dropout": 0.3},
    "float64": {"network.precision": "float64"},
    "fourier": {"network.fourier_features": 5},
    "basic": {"network.features": ("basic",), "network.normalisation": "automatic"},
    "rich": {"network.features": ("rich",), "network.normalisation": "manual"},
    "history": HISTORY,
    "only history": {**HISTORY, "network.features": ("delta_mag",)},
    "predicts error": {
        "network.predict_error": True,
        "train.loss.weights": {"energy_band": 1.0, "error_calibration": 1.0},
    },
    "linear": {"network.hidden": ()},
    "hermite": {"train.integrator": "hermite4"},
    "three bodies": {
        "train.scenario.source": "hierarchical_triple",
        "train.scenario.parameters": {},
        "train.scenario.softening": 0.1,
    },
}


# It follows no gradient, and takes the scale-free features of several systems.
NOT_BY_EVOLUTION = {
    *("lbfgs", "then lbfgs", "fourier", "basic", "rich", "history", "only history"),
    "three bodies",
}


@pytest.mark.parametrize("scheme", SCHEME_NAMES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_way_of_training_moves_the_weights_and_ends_in_a_usable_policy(variant, scheme):
    config = tiny(VARIANTS[variant], scheme=scheme, epochs=2, orbit_time=3.0)
    if scheme == "evolution" and variant in NOT_BY_EVOLUTION:
        with pytest.raises(nb.InputError, match=r"the scheme 'evolution'|the training has 1 sys"):
            train(config)
        return
    result = train(config)
    assert len(result.history) == 2
    last = [p.network.layers[-1].weight for p in (untrained(config), result.policy)]
    assert not torch.equal(last[0], last[1])
    assert all(bool(torch.isfinite(p).all()) for p in result.policy.network.parameters())
    low, high = config.train.tolerances
    run = nb.simulate(result.systems, 0.2, result.policy, tolerance=(low * high) ** 0.5)
    assert np.all(run.status == nb.Status.SUCCESS)


def test_members_are_trained_one_after_the_other_and_make_a_suite_that_goes_on(tmp_path):
    config = tiny(
        scheme="evolution",
        orbit_time=3.0,
        epochs=2,
        members=({"integrator": "leapfrog"}, {"integrator": "suzuki4", "epochs": 3}),
    )
    result = train(config, tmp_path)
    assert [m.spec.integrator for m in result.policy.members] == ["leapfrog", "suzuki4"]
    assert [row["epoch"] for row in result.history] == [0, 1, 2, 3, 4]
    assert [row["member"] for row in result.history] == [0, 0, 1, 1, 1]
    stored = nb.load_policy(tmp_path)
    assert weights_of(stored.members[1]) == weights_of(result.policy.members[1])
    again = train(config, tmp_path)  # there is nothing left to do
    assert without_seconds(again.history) == without_seconds(result.history)
    assert weights_of(again.policy.members[0]) == weights_of(result.policy.members[0])


def test_dropout_plays_no_part_in_use():
    result = train(tiny({"network.dropout": 0.5}))
    tolerance = torch.full_like(result.systems.time, 1e-3)
    steps = [result.policy(result.systems, tolerance) for _ in range(3)]
    assert torch.equal(steps[0], steps[1])
    assert torch.equal(steps[0], steps[2])


def test_the_gradient_is_clipped_to_its_norm():
    config = tiny(optimiser="sgd", learning_rate=1.0, gradient_clip=1e-3, batches=1, epochs=1)
    before, after = (p.network.parameters() for p in (untrained(config), train(config).policy))
    pairs = zip(before, after, strict=True)
    moved = float(torch.cat([(b - a).detach().flatten() for a, b in pairs]).norm())
    assert moved == pytest.approx(1e-3, rel=1e-4)  # float32 weights of order 1e-3


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_learning_rate_starts_as_given_and_never_grows(schedule):
    rates = [h["learning_rate"] for h in train(tiny(schedule=schedule, batches=1)).history]
    assert rates[0] == pytest.approx(3e-3)
    assert all(later <= earlier for earlier, later in itertools.pairwise(rates))
    assert (rates[-1] < rates[0]) == (schedule != "constant")


def test_the_history_says_how_each_epoch_went():
    batched = train(tiny()).history[-1]
    common = {"epoch", "learning_rate", "seconds", "loss", "dt", "energy_error", "lost_gradients"}
    assert set(batched) == common | {"energy_band", "step_size"}
    two_phase = train(tiny(scheme="two_phase")).history[-1]
    rates = {"acceptance_rate", "given_up", "pass_rate"}
    assert set(two_phase) == set(batched) | rates | {"retrain_steps", "collected"}
    assert all(0 <= two_phase[name] <= 1 for name in rates)


def interrupt(monkeypatch, owner, name, call):
    """Make a method raise KeyboardInterrupt at a call, counted from 0."""
    original, calls = getattr(owner, name), itertools.count()

    def method(*arguments):
        if next(calls) == call:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(owner, name, method)


RESUMED = {
    "batched": {},
    "batched with history": HISTORY,
    "two-phase": {"train.scheme": "two_phase"},
    "two-phase with history": {
        **HISTORY,
        "train.scheme": "two_phase",
        "network.normalisation": "automatic",
    },
    "two-phase with hermite": {"train.scheme": "two_phase", "train.integrator": "hermite4"},
    "two-phase in a moving field": {
        "train.scheme": "two_phase",
        "train.scenario.field": {"mass": 1.0, "position": (5.0, 0.0), "velocity": (0.0, 1.0)},
    },
    "adam, then lbfgs": {"train.lbfgs_epochs": 2},
    "lbfgs": {"train.optimiser": "lbfgs"},
    "momentum": {"train.optimiser": "sgd", "train.momentum": 0.9},
    "dropout": {"network.dropout": 0.3, "network.fourier_features": 4},
    "CMA-ES": {
        "train.scheme": "evolution",
        "train.orbit_time": 3.0,
        "train.evolution.method": "cma",
    },
}


@pytest.mark.parametrize("done", [2, 4])
@pytest.mark.parametrize("way", RESUMED)
def test_a_training_that_was_stopped_goes_on_to_bitwise_the_same_weights(
    way, done, tmp_path, monkeypatch
):
    config = tiny(RESUMED[way], epochs=5)
    whole = train(config)
    monkeypatch.setattr(trainer, "SECONDS_BETWEEN_SAVES", 0.0)
    with monkeypatch.context() as patch:
        interrupt(patch, SCHEMES[config.train.scheme], "epoch", call=done)
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path)
    rest = train(config, tmp_path)
    assert weights_of(rest.policy) == weights_of(whole.policy)
    assert without_seconds(rest.history) == without_seconds(whole.history)
    assert weights_of(load_policy(tmp_path)) == weights_of(whole.policy)


def test_a_training_stopped_within_an_epoch_repeats_that_epoch(tmp_path, monkeypatch):
    config = tiny(epochs=4)
    monkeypatch.setattr(trainer, "SECONDS_BETWEEN_SAVES", 0.0)
    with monkeypatch.context() as patch:
        interrupt(patch, Learner, "learn", call=5)  # the second batch of the third epoch
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path)
    assert weights_of(train(config, tmp_path).policy) == weights_of(train(config).policy)


@pytest.mark.parametrize("moment", ["_finished", "_keep", "_save_now_and_then"])
def test_no_epoch_is_lost_to_an_interrupt_wherever_it_falls(moment, tmp_path, monkeypatch):
    original, calls = getattr(Trainer, moment), itertools.count()

    def interrupted(trainer):
        if next(calls) == 2:
            signal.raise_signal(signal.SIGINT)
        return original(trainer)

    monkeypatch.setattr(Trainer, moment, interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(tiny(epochs=9), tmp_path)
    kept = load_tree(tmp_path / TRAINING_FILE, kind="training")["history"]
    made = len((tmp_path / HISTORY_FILE).read_text().splitlines())
    assert [row["epoch"] for row in kept] == list(range(made))
    assert made in (3, 4)


def test_a_training_that_ran_out_of_time_can_be_given_more(tmp_path):
    short = train(tiny(epochs=5, max_seconds=1e-9), tmp_path)
    assert len(short.history) == 1
    rest = train(tiny(epochs=5), tmp_path)
    assert weights_of(rest.policy) == weights_of(train(tiny(epochs=5)).policy)


def test_a_finished_training_is_not_trained_again(tmp_path):
    first, second = (train(tiny(), tmp_path) for _ in range(2))
    assert weights_of(first.policy) == weights_of(second.policy)
    assert second.history == first.history
    assert len(train(tiny(epochs=4), tmp_path).history) == 4


SCRIPT = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[1])
from tiny_training import HISTORY, tiny
from nbcore.learning import trainer, training
trainer.SECONDS_BETWEEN_SAVES = 0.0
changes = {**HISTORY, "train.scheme": "two_phase", "train.lbfgs_epochs": 10}
training.train(tiny(changes, epochs=50), Path(sys.argv[2]))
"""


@pytest.mark.long
def test_a_training_killed_again_and_again_ends_in_bitwise_the_same_weights(tmp_path):
    chance = random.Random(1)

    def start(folder):
        return subprocess.Popen([sys.executable, "-c", SCRIPT, Path(__file__).parent, folder])

    def stamp(path):
        return path.stat().st_mtime_ns if path.exists() else 0

    with start(tmp_path / "whole") as whole:
        killed = 0
        for _ in range(3):
            file = tmp_path / "killed" / TRAINING_FILE
            before = stamp(file)
            with start(file.parent) as process:
                while stamp(file) == before and process.poll() is None:
                    time.sleep(0.001)
                time.sleep(chance.uniform(0, 0.15))
                process.send_signal(signal.SIGKILL)
                killed += process.wait() == -signal.SIGKILL
        assert killed == 3
        with start(file.parent) as process:
            assert process.wait() == 0
        assert whole.wait() == 0
    policies = [load_policy(tmp_path / name / POLICY_FILE) for name in ("whole", "killed")]
    assert weights_of(policies[0]) == weights_of(policies[1])


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"train.learning_rate": 0.5}, r"train\.learning_rate = 0\.003, not 0\.5"),
        ({"train.seed": 7}, r"train\.seed = 0, not 7"),
        ({"network.hidden": (3,)}, r"network\.hidden"),
        ({"train.scenario.G": 2.0}, r"train\.scenario"),
        ({"train.scheme": "two_phase"}, r"train\.scheme"),
    ],
)
def test_a_training_does_not_go_on_with_other_settings(change, key, tmp_path):
    train(tiny(epochs=1), tmp_path)
    with pytest.raises(InputError, match=rf"begun with {key}.*start a new run"):
        train(tiny(change, epochs=1), tmp_path)


def test_a_damaged_training_file_is_told_and_not_overwritten(tmp_path):
    train(tiny(epochs=1), tmp_path)
    file = tmp_path / TRAINING_FILE
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(InputError, match="truncated"):
        train(tiny(epochs=1), tmp_path)
    assert file.stat().st_size == 200


def test_the_run_folder_keeps_the_policy_with_its_systems(tmp_path):
    result = train(tiny(), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {HISTORY_FILE, TRAINING_FILE, POLICY_FILE}
    assert weights_of(load_policy(tmp_path)) == weights_of(result.policy)
    assert np.array_equal(training_systems(tmp_path).position, result.systems.position)


def test_a_run_folder_that_is_removed_does_not_come_back(tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "SECONDS_BETWEEN_SAVES", -1.0)
    folder, made = tmp_path / "run", []

    def remove(history):
        made.append(len(history))
        if len(history) == 2:  # between the row of the epoch and what is saved after it
            shutil.rmtree(folder)
        return False

    with pytest.raises(FileNotFoundError):
        train(tiny(epochs=50), folder, watch=remove)
    assert made == [1, 2]
    assert not folder.exists()


def test_without_a_run_folder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert train(tiny(epochs=1)).run_dir is None
    assert not list(tmp_path.iterdir())


def test_training_stops_when_patience_is_over():
    history = train(tiny(epochs=100, patience=2, batches=1)).history
    loss = [epoch["loss"] for epoch in history]
    assert len(history) < 100
    assert len(loss) - 1 - int(np.argmin(loss)) == 2


def test_training_stops_after_the_epoch_that_passes_the_time():
    assert len(train(tiny(max_seconds=1e-9)).history) == 1


def test_a_missing_gpu_is_told(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="there is no GPU; use 'auto' or 'cpu'"):
        train(tiny(device="cuda"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train.optimiser": "adm"}, "optimiser 'adm' is unknown; did you mean 'adam'"),
        ({"train.schedule": "cosin"}, "did you mean 'cosine'"),
        ({"train.integrator": "leepfrog"}, "did you mean 'leapfrog'"),
        ({"train.scenario.source": "kepler_orbit"}, "did you mean 'kepler_orbits'"),
        ({"network.activation": "tan"}, "did you mean 'tanh'"),
        ({"network.features": ("scale_fre",)}, "did you mean 'scale_free'"),
        ({"network.features": ("delta_mag",)}, "set history to 1 or more"),
        ({"train.loss.weights": {"enrgy_band": 1.0}}, "did you mean 'energy_band'"),
        ({"train.pool_size": 1}, "left 1 states"),
    ],
)
def test_a_setting_that_can_not_be_used_is_told_before_anything_is_written(
    change, message, tmp_path
):
    with pytest.raises(InputError, match=message):
        train(tiny(change), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def broken_loss(monkeypatch):
    """A loss whose gradient is 0 · ∞."""

    def broken(r, config):
        return (0 * r.dt).sqrt().sum(dim=0)

    monkeypatch.setitem(losses.LOSSES, "step_size", broken)


def test_a_gradient_that_is_not_finite_teaches_nothing_and_is_counted(broken_loss):
    result = train(tiny(epochs=1))
    assert result.history[0]["lost_gradients"] == 1
    assert (
        train(tiny({"train.loss.weights": {"energy_band": 1.0}}, epochs=1)).history[0][
            "lost_gradients"
        ]
        == 0
    )
    assert all(bool(torch.isfinite(p).all()) for p in result.policy.network.parameters())


@pytest.mark.parametrize("table", [SCALE_FREE, STATISTICS], ids=["scale-free", "statistics"])
def test_whole_runs_are_not_trained_on_with_a_feature_that_has_no_kernel(table, monkeypatch):
    for each in (FEATURES, table):
        monkeypatch.setitem(each, "mine", lambda m: m.state.time)
    with pytest.raises(InputError, match=r"evolution.*'mine'.*use the scheme 'batched'"):
        train(tiny({"train.scheme": "evolution", "network.features": ("virial", "mine")}))


@pytest.mark.parametrize("scheme", ["batched", "two_phase", "oracle"])
def test_a_feature_that_is_not_finite_is_told(scheme, monkeypatch):
    monkeypatch.setitem(FEATURES, "mine", lambda m: 0 * m.state.time / 0)
    with pytest.raises(InputError, match=r"feature 'mine' is nan for \d+ of \d+ training states"):
        train(tiny({"train.scheme": scheme, "network.features": ("virial", "mine")}))


@pytest.mark.parametrize("scheme", ["batched", "two_phase"])
def test_a_loss_that_is_not_finite_is_told(scheme, monkeypatch):
    monkeypatch.setitem(losses.LOSSES, "mine", lambda r, config: (r.dt - r.dt).log().sum(dim=0))
    with pytest.raises(InputError, match="loss 'mine' is -inf for"):
        train(tiny({"train.scheme": scheme, "train.loss.weights.mine": 0.1}))


def test_what_is_no_network_is_told():
    with pytest.raises(InputError, match=r"network is a PolicySpec; .*nb.LearnedPolicy\(spec\)"):
        make_policy(nb.PolicySpec())


def test_anomaly_names_the_operation_that_made_a_gradient_nan(broken_loss):
    with (
        pytest.warns(UserWarning, match="Error detected in MulBackward0"),
        pytest.raises(RuntimeError, match=r"MulBackward0.*nan"),
    ):
        train(tiny(anomaly=True))
    assert not torch.is_anomaly_enabled()


def test_the_progress_bar_shows_loss_step_and_energy_error(capfd):
    train(tiny())
    assert capfd.readouterr().err == ""
    last = train(tiny(progress=True)).history[-1]
    shown = capfd.readouterr().err
    assert "3/3" in shown
    for name in ("loss", "dt", "energy_error"):
        assert f"{name}={last[name]:.3g}" in shown
