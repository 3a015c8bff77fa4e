import math
import os
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

import nbcore as nb
from nbcore.config import Network
from nbcore.errors import InputError
from nbcore.learning.trainer import _tensors
from nbcore.learning.training import make_policy
from nbcore.stepping import checkpoints, features
from nbcore.stepping.checkpoints import (
    OLD_SETS,
    load_policy,
    load_tree,
    model_card,
    save_policy,
    save_tree,
    shipped_policies,
    training_systems,
)
from nbcore.stepping.features import FEATURE_SETS
from nbcore.stepping.policies import PolicySpec


def random_policy(**network):
    torch.manual_seed(3)
    policy = make_policy(Network(hidden=(5, 4), **network), "leapfrog")
    with torch.no_grad():
        for parameter in policy.network.parameters():
            parameter.copy_(torch.randn_like(parameter))
        policy.network.mean.normal_()
    return policy


@pytest.fixture
def policy():
    return random_policy()


@pytest.fixture
def saved(tmp_path, policy):
    return save_policy(policy, tmp_path / "policy.safetensors")


def message_of(path, load=load_policy):
    """What a user is told of a bad file, having checked that it is short and names the file."""
    with pytest.raises(InputError) as caught:
        load(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


@pytest.mark.parametrize(
    "network",
    [
        {},
        {"precision": "float64", "predict_error": True},
        {"features": ("basic",), "normalisation": "manual", "acceleration_scale": 2.0},
        {"features": ("rich", "delta_mag"), "history": 2, "history_padding": "oldest"},
        {"fourier_features": 6, "dropout": 0.5, "activation": "tanh", "largest_correction": 3.0},
    ],
)
def test_a_policy_makes_bitwise_the_same_steps_when_it_comes_back(network, tmp_path):
    policy = random_policy(**network)
    again = load_policy(save_policy(policy, tmp_path / "p.safetensors"))
    state = nb.scenarios.make("few_body", n_systems=8)
    for of_one_kind in (state, state.to("cpu")):
        steps = [p(of_one_kind, 0 * of_one_kind.time + 1e-5) for p in (policy, again)]
        assert (steps[0] == steps[1]).all()
    assert again.spec == policy.spec
    runs = [nb.simulate(state, 0.05, p, tolerance=1e-3) for p in (policy, again)]
    np.testing.assert_array_equal(runs[0].position, runs[1].position)


def test_a_checkpoint_keeps_its_config_and_metrics(tmp_path, policy):
    config = {"train": {"epochs": 3, "tolerances": [1e-8, 1e-3], "patience": None}}
    metrics = {"loss": 0.5, "worst": math.inf}
    path = save_policy(policy, tmp_path / "p.safetensors", config=config, metrics=metrics)
    tree = load_tree(path, kind="policy")
    assert tree["config"] == config
    assert tree["metrics"] == metrics
    assert set(tree["versions"]) == {"python", "numpy", "torch"}


def test_a_checkpoint_keeps_the_systems_that_it_was_trained_on(tmp_path, policy):
    field = nb.TidalField(mass=5.0, position=(30.0, 1.0), velocity=(0.0, 0.1))
    state = nb.scenarios.make("few_body", n_systems=3, G=2.0, softening=0.1, field=field)
    state = state.replace(time=np.arange(3.0))
    path = save_policy(policy, tmp_path / "p.safetensors", systems=state)
    again = training_systems(path)
    for name in ("mass", "position", "velocity", "time"):
        assert np.array_equal(getattr(again, name), getattr(state, name)), name
    assert (again.G, again.softening, again.field) == (2.0, 0.1, field)


def test_a_single_training_system_comes_back_as_a_batch_of_one(tmp_path, policy):
    state = nb.scenarios.make("pythagorean")
    path = save_policy(policy, tmp_path / "p.safetensors", systems=state)
    assert training_systems(path).batched
    assert np.array_equal(training_systems(path).position, state.position)


def test_systems_that_were_not_stored_are_missed_with_a_remedy(saved):
    assert "name a scenario or a file" in message_of(saved, training_systems)


def test_a_run_folder_stands_for_the_policy_in_it(saved, policy):
    assert load_policy(saved.parent).spec == policy.spec


def test_a_shipped_policy_is_found_by_its_name(saved, policy, monkeypatch):
    monkeypatch.setattr(checkpoints, "SHIPPED", saved.parent)
    assert load_policy("policy").spec == policy.spec
    assert "did you mean 'policy'?" in message_of("polcy")
    assert "give the path of a checkpoint" in message_of("polcy")


def test_a_set_of_features_that_grows_breaks_no_stored_policy(tmp_path, monkeypatch):
    """Nor one that was stored by the name of the set, as policies once were."""
    policy = random_policy(features=("pairs", "basic"))
    path = save_policy(policy, tmp_path / "new.safetensors")
    tree = load_tree(path, kind="policy")
    assert tree["members"][0]["spec"]["features"] == policy.names
    tree["members"][0]["spec"]["features"] = ("pairs", "basic")
    old = save_tree(tree, tmp_path / "old.safetensors", kind="policy")
    grown = {name: ("softening", *names, "depth") for name, names in FEATURE_SETS.items()}
    monkeypatch.setattr(features, "FEATURE_SETS", grown)
    assert PolicySpec(features=("pairs",)).features == grown["pairs"]
    for each in (path, old):
        assert load_policy(each).names == policy.names
    assert all(set(member.names) <= set(OLD_SETS["pairs"]) for member in shipped().members)


def shipped():
    """The shipped policy as its file has it now."""
    checkpoints._read_once.cache_clear()
    return load_policy("default")


def test_the_sets_of_old_files_are_as_they_were():
    counts = {name: len(set(names)) for name, names in OLD_SETS.items()}
    assert counts == {"scale_free": 11, "pairs": 6, "basic": 11, "rich": 23}


def test_a_shipped_policy_is_read_once_and_is_nobody_else_s_to_change(monkeypatch):
    first = load_policy("default")
    stretch = first.members[0].spec.stretch
    monkeypatch.setattr(checkpoints, "load_tree", None)  # whoever reads again falls over it
    first.members[0].calibration = None
    first.members[0].stretch(2.0)
    for weight in first.members[0].network.weights:
        weight[:] = 0
    second = load_policy("default")
    assert second.members[0].calibration is not None
    assert second.members[0].spec.stretch == stretch
    assert all(weight.any() for weight in second.members[0].network.weights)


def test_reading_a_shipped_policy_draws_no_random_numbers():
    before = torch.get_rng_state()
    shipped()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("where", ["gone.safetensors", "folder/gone", "."])
def test_a_path_without_a_policy_is_told_with_a_remedy(where, tmp_path):
    assert "train one, or check the path" in message_of(tmp_path / where)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.3, 0.6, 0.9, 0.999])
def test_a_truncated_file_is_told_with_a_remedy(share, saved):
    data = saved.read_bytes()
    saved.write_bytes(data[: int(share * len(data))])
    assert "truncated" in message_of(saved)
    assert "take another copy" in message_of(saved)


@given(data=st.data())
def test_a_damaged_header_is_told_or_does_no_harm(data, tmp_path_factory):
    path = save_policy(random_policy(), tmp_path_factory.mktemp("damaged") / "p.safetensors")
    content = bytearray(path.read_bytes())
    length = 8 + int.from_bytes(content[:8], "little")
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, length - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    message = ""
    try:
        load_policy(path)
    except InputError as error:
        message = str(error)
    assert not message or str(path) in message
    assert "\n" not in message


class Bomb:
    """Unpickled, it makes the file `evidence`."""

    evidence = ""

    def __reduce__(self):
        return os.mkdir, (self.evidence,)


@pytest.mark.parametrize("protocol", [0, 2, 5, "torch"])
def test_a_pickle_is_refused_and_never_runs(protocol, tmp_path, monkeypatch):
    evidence, path = tmp_path / "evidence", tmp_path / "p.safetensors"
    monkeypatch.setattr(Bomb, "evidence", str(evidence))
    if protocol == "torch":
        torch.save({"weights": Bomb()}, path)
    else:
        path.write_bytes(pickle.dumps({"weights": Bomb()}, protocol=protocol))
    message = message_of(path)
    assert "save the policy with nb.save_policy" in message or "take another copy" in message
    assert not evidence.exists()


def test_a_pickle_of_todays_kinds_is_called_by_its_name(tmp_path, policy):
    path = tmp_path / "p.pt"
    torch.save(policy.network.state_dict(), path)
    assert "is a pickle" in message_of(path)
    path.write_bytes(pickle.dumps({}))
    assert "is a pickle" in message_of(path)


@pytest.mark.parametrize("metadata", [None, {"nbcore": "{"}, {"nbcore": "[1]"}, {"nbcore": "{}"}])
def test_safetensors_of_others_are_told_apart(metadata, tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(3)}, path, metadata=metadata)
    assert "was not written by nbcore" in message_of(path)


def test_a_checkpoint_of_another_version_is_told_with_a_remedy(tmp_path, policy, monkeypatch):
    monkeypatch.setattr(checkpoints, "VERSION", 99)
    path = save_policy(policy, tmp_path / "p.safetensors")
    monkeypatch.undo()
    assert "is of version 99" in message_of(path)
    assert "install the version that wrote it" in message_of(path)


def test_a_training_state_is_not_taken_for_a_policy(tmp_path):
    path = save_tree({"weights": {}}, tmp_path / "training.safetensors", kind="training")
    assert "holds a training, not a policy; check the path" in message_of(path)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("name", ["layers.0.weight", "deviation"])
def test_a_value_that_is_not_finite_is_named(value, name, tmp_path, policy):
    policy.network.state_dict()[name].view(-1)[0] = value
    path = save_policy(policy, tmp_path / "p.safetensors")
    assert f"network.{name} holds a value that is not finite" in message_of(path)
    assert "train it again" in message_of(path)


@pytest.mark.parametrize(
    ("spec", "what"),
    [
        ({"hidden": (3,)}, "does not fit its settings"),
        ({"features": ("fly_by",)}, "does not fit its settings"),
        ({"predict_error": True}, "must be (2,)"),
        ({"features": ("unheard_of",)}, "feature 'unheard_of' is unknown"),
        ({"features": 3}, "can't be used"),
        ({"colour": "red"}, "setting 'colour' is unknown"),
    ],
)
def test_settings_that_do_not_fit_are_told(spec, what, saved):
    tree = load_tree(saved, kind="policy")
    (member,) = tree["members"]
    changed = {**member, "spec": {**member["spec"], **spec}}
    save_tree({**tree, "members": [changed]}, saved, kind="policy")
    assert what in message_of(saved)


@pytest.mark.parametrize("missing", ["spec", "weights", "calibration"])
def test_a_checkpoint_without_a_part_is_told(missing, saved):
    tree = load_tree(saved, kind="policy")
    del tree["members"][0][missing]
    save_tree(tree, saved, kind="policy")
    assert "can't be used" in message_of(saved)


@pytest.mark.parametrize("length", [0x80, 0x280, ord("P") + 256 * ord("K")])
def test_a_header_whose_length_looks_like_the_start_of_a_pickle_is_read(length, tmp_path):
    path = tmp_path / "t.safetensors"
    save_tree({"a": ""}, path, kind="x")
    now = int.from_bytes(path.read_bytes()[:8], "little")
    save_tree({"a": "-" * (length - now)}, path, kind="x")
    assert int.from_bytes(path.read_bytes()[:8], "little") == length
    assert load_tree(path, kind="x") == {"a": "-" * (length - now)}


@pytest.mark.parametrize("broken", ["write", "fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(
    broken, saved, policy, monkeypatch
):
    before = saved.read_bytes()

    def fail(*_, **__):
        raise OSError("the disk is full")

    if broken == "write":
        monkeypatch.setattr(checkpoints, "to_bytes", fail)
    else:
        monkeypatch.setattr(os, broken, fail)
    with pytest.raises(OSError, match="disk is full"):
        save_policy(policy, saved, metrics={"loss": 1.0})
    monkeypatch.undo()
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


TREES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8"), max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.integers() | st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(tree=st.dictionaries(st.text(max_size=3) | st.integers(), TREES, max_size=3))
def test_nested_values_come_back_as_they_were(tree, tmp_path_factory):
    path = save_tree(tree, tmp_path_factory.mktemp("tree") / "t.safetensors", kind="training")
    again = load_tree(path, kind="training")
    assert again == tree
    assert repr(again) == repr(tree)  # 1, 1.0 and True are equal and are told apart


@pytest.mark.parametrize("of_kind", [np.asarray, torch.from_numpy])
def test_arrays_and_tensors_come_back_as_arrays_of_their_type_and_shape(of_kind, tmp_path):
    shared = np.arange(6.0).reshape(2, 3)
    arrays = {
        "empty": np.zeros((0, 3), np.float32),
        "number": np.array(2.5),
        "turned": shared.T,
        "mask": np.array([True, False]),
        "bytes": torch.get_rng_state().numpy(),
    }
    tree = {name: of_kind(array) for name, array in arrays.items()}
    tree |= {0: [of_kind(shared), (of_kind(shared), None)], "nan": math.nan}
    again = load_tree(save_tree(tree, tmp_path / "t.safetensors", kind="x"), kind="x")
    for name, array in arrays.items():
        assert isinstance(again[name], np.ndarray)
        assert again[name].dtype == array.dtype
        assert np.array_equal(again[name], array)
    assert np.array_equal(again[0][1][0], shared)
    assert again[0][1][1] is None
    assert math.isnan(again["nan"])


def test_what_is_trained_on_comes_back_in_aligned_memory(tmp_path):
    # Kernels that sum in vectors round differently elsewhere; fresh arrays and tensors are aligned.
    tree = {"a": [torch.ones(7) for _ in range(9)]}
    again = load_tree(save_tree(tree, tmp_path / "t.safetensors", kind="x"), kind="x")
    assert all(array.ctypes.data % 16 == 0 for array in again["a"])
    assert all(tensor.data_ptr() % 64 == 0 for tensor in _tensors(again)["a"])


def test_what_can_not_be_stored_is_refused_before_the_file_is_touched(tmp_path):
    path = save_tree({"a": 1}, tmp_path / "t.safetensors", kind="x")
    with pytest.raises(TypeError, match="can't be stored"):
        save_tree({"a": object()}, path, kind="x")
    assert load_tree(path, kind="x") == {"a": 1}


def test_every_shipped_policy_has_a_card_whose_parts_can_be_asked_for():
    for name in shipped_policies():
        card = model_card(name)
        assert card.startswith("# ")
        part = model_card(name, "What each part buys")
        assert part in card
        assert "## " not in part
    with pytest.raises(InputError, match="did you mean 'default'"):
        model_card("defualt")
    with pytest.raises(InputError, match="did you mean 'What each part buys'"):
        model_card("default", "What each part buy")
