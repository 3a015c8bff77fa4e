import pytest
from tiny_training import tiny, weights_of

from nbcore.learning.trainer import POLICY_FILE
from nbcore.learning.training import train
from nbcore.stepping.checkpoints import load_policy
from nbcore.views.live import TrainingView, watch_training


def test_a_stop_ends_the_epoch_saves_and_returns(tmp_path):
    lengths = []

    def watch(history):
        lengths.append(len(history))
        return len(history) == 3

    result = train(tiny(epochs=8), tmp_path, watch=watch)
    assert lengths == [1, 2, 3]
    assert len(result.history) == 3
    assert weights_of(load_policy(tmp_path / POLICY_FILE)) == weights_of(result.policy)


def test_a_stopped_training_goes_on_to_the_same_weights(tmp_path):
    config = tiny(epochs=4)
    train(config, tmp_path, watch=lambda history: len(history) == 2)
    assert weights_of(train(config, tmp_path).policy) == weights_of(train(config).policy)


def test_watching_members_counts_their_epochs_on_and_stops_all():
    members = ({"integrator": "leapfrog"}, {"integrator": "suzuki4"})
    config = tiny(scheme="evolution", orbit_time=3.0, epochs=4, members=members)
    seen = []

    def watch(history):
        seen.append([row["epoch"] for row in history])
        return len(history) >= 2

    result = train(config, watch=watch)
    assert seen[-1] == [0, 1, 2]
    assert [row["member"] for row in result.history] == [0, 0, 1]


def test_watching_changes_no_weight():
    config = tiny(epochs=3)
    with watch_training() as watch:
        watched = train(config, watch=watch)
    assert weights_of(watched.policy) == weights_of(train(config).policy)
    assert watch.figure.axes[0].get_xlabel() == "epoch"


def test_the_button_stops():
    view = TrainingView()
    assert not view([{"epoch": 0, "loss": 1.0}])
    view._button.click()
    assert view([{"epoch": 0, "loss": 1.0}])


@pytest.mark.parametrize("history", [[], [{"epoch": 0}]])
def test_a_history_without_a_loss_draws_nothing(history):
    with TrainingView() as view:
        view(history)
    assert view.figure is None
