import math
import typing

import pytest
from pydantic import BaseModel, ValidationError

from nbcore import config as configuration
from nbcore.config import (
    Config,
    ScenarioConfig,
    load_config,
    make_config,
    preset_names,
    save_config,
    with_settings,
)
from nbcore.errors import InputError, unknown_name


@pytest.fixture
def presets(tmp_path, monkeypatch):
    monkeypatch.setattr(configuration, "PRESETS", tmp_path)
    (tmp_path / "quick.toml").write_text(
        "[train]\nepochs = 7\n[train.scenario]\nsource = 'few_body'\n"
        "[train.scenario.parameters]\nn_bodies = 3\n"
        "[simulate]\nt_end = 'none'\nperiods = 2.5\n",
        encoding="utf-8",
    )
    (tmp_path / "slow.toml").write_text("", encoding="utf-8")
    return tmp_path


def test_without_a_preset_every_field_has_its_default():
    assert load_config() == Config()


def test_presets_are_known_by_name_and_by_path(presets):
    assert preset_names() == ["quick", "slow"]
    by_name = load_config("quick")
    assert by_name.train.epochs == 7
    assert by_name.train.scenario.parameters == {"n_bodies": 3}
    assert by_name.simulate.t_end is None
    assert by_name == load_config(presets / "quick.toml")


@pytest.mark.parametrize(
    ("overrides", "value"),
    [
        (["train.epochs=9"], 9),
        ([" train.epochs = 9 "], 9),
        ({"train.epochs": 9}, 9),
        (["train.epochs=8", "train.epochs=9"], 9),
    ],
)
def test_overrides_win_over_the_preset_and_the_last_one_over_the_first(presets, overrides, value):
    config = load_config("quick", overrides)
    assert config.train.epochs == value
    assert config.train.scenario.parameters == {"n_bodies": 3}


def test_values_are_read_as_toml_or_as_plain_text():
    config = load_config(
        None,
        [
            "train.learning_rate=1e-3",
            "train.tolerances=[1e-7, 1e-2]",
            "network.hidden=[8, 4]",
            "simulate.policy=boekholt",
            "simulate.integrator='leapfrog'",
            "train.progress=false",
            "train.scenario.parameters.n_systems=4",
            "train.max_seconds=none",
        ],
    )
    assert config.train.learning_rate == 1e-3
    assert config.train.tolerances == (1e-7, 1e-2)
    assert config.network.hidden == (8, 4)
    assert (config.simulate.policy, config.simulate.integrator) == ("boekholt", "leapfrog")
    assert config.train.progress is False
    assert config.train.scenario.parameters == {"n_systems": 4}
    assert config.train.max_seconds is None


def test_a_value_may_hold_an_equals_sign():
    assert load_config(None, ["simulate.policy=runs/a=b"]).simulate.policy == "runs/a=b"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epoch=3", r"config key 'train.epoch' is unknown; did you mean 'train.epochs'"),
        ("trian.epochs=3", r"config key 'trian' is unknown; did you mean 'train'"),
        ("train.scenario.sofening=0.1", r"did you mean 'train.scenario.softening'"),
        ("simulate.scenario.field={mass=1.0, positon=[1.0, 0.0]}", "did you mean .*position"),
        ("train.epochs=many", r"config key 'train.epochs' is 'many'"),
        ("train.epochs=2.5", r"config key 'train.epochs' is 2.5"),
        ("train.epochs.fast=1", r"config key 'train.epochs' is"),
        ("train.epochs=0", r"config key 'train.epochs' is 0; .*greater than or equal to 1"),
        ("train.learning_rate=-1.0", r"'train.learning_rate' is -1.0; .*greater than 0"),
        ("train.learning_rate=nan", r"'train.learning_rate' is nan"),
        ("simulate.tolerance=1.0", r"'simulate.tolerance' is 1.0; .*less than 1"),
        ("simulate.stepping=backward", r"'simulate.stepping' is 'backward'; .*'plain'"),
        ("train.tolerances=[1e-3, 1e-8]", "ordered from small to large"),
        ("simulate.periods=3.0", "either t_end or periods"),
        ("simulate.t_end=none", "either t_end or periods"),
        ("simulate.t_end=inf", "give max_steps"),
        ("train.epochs", "must read key=value"),
        ("=3", "must read key=value"),
    ],
)
def test_bad_overrides_are_named_with_the_remedy(override, message):
    with pytest.raises(InputError, match=message):
        load_config(None, [override])


def test_every_problem_is_told_at_once():
    with pytest.raises(InputError, match=r"train\.epochs.*; .*simulate\.tolerance"):
        make_config({"train": {"epochs": 0}, "simulate": {"tolerance": 2.0}})


def test_missing_presets_are_named_with_those_that_exist(presets):
    with pytest.raises(InputError, match="preset 'quik' is unknown; did you mean 'quick'"):
        load_config("quik")
    with pytest.raises(InputError, match=r"none\.toml' does not exist; .*quick, slow"):
        load_config(presets / "none.toml")


@pytest.mark.parametrize("content", [b"[train\nepochs = 3", b"\xff\xfe", b"epochs ="])
def test_a_file_that_is_not_toml_is_named(tmp_path, content):
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"bad\.toml' is not valid TOML"):
        load_config(path)


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["simulate.t_end=none", "simulate.periods=3.0"],
        ["simulate.t_end=inf", "simulate.max_steps=10"],
        ["simulate.scenario.field={mass=2.0, position=[3.0, 4.0]}", "train.gradient_clip=none"],
        ["train.scenario.parameters={n_systems=3, mass_range=[0.5, 1.0]}", "network.hidden=[]"],
        ['train.families=[{source="a.npz", t_end=2.0}]', "train.members=[{epochs=2}]"],
    ],
    ids=["defaults", "cleared", "infinite", "field", "lists", "families"],
)
def test_what_is_saved_is_what_is_loaded(tmp_path, overrides):
    config = load_config(None, overrides)
    save_config(config, tmp_path / "config.toml")
    assert load_config(tmp_path / "config.toml") == config


def test_an_infinite_end_needs_a_number_of_steps():
    config = load_config(None, ["simulate.t_end=inf", "simulate.max_steps=5"])
    assert config.simulate.t_end == math.inf


def test_a_config_can_not_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        Config().train.epochs = 3  # pyright: ignore[reportAttributeAccessIssue]


def sections(section=Config):
    yield section
    for field in section.model_fields.values():
        options = (field.annotation, *typing.get_args(field.annotation))
        for option in options:
            if isinstance(option, type) and issubclass(option, BaseModel):
                yield from sections(option)


def test_every_field_has_a_meaning():
    for section in set(sections()):
        for name, field in section.model_fields.items():
            assert field.description, f"{section.__name__}.{name}"


def test_an_unknown_name_is_told_with_the_nearest_or_with_all():
    assert "did you mean 'leapfrog'?" in str(unknown_name("integrator", "leepfrog", ["leapfrog"]))
    assert str(unknown_name("x", "q", ["b", "a"])) == "x 'q' is unknown. Known: a, b"


OWN = {
    "simulate": {
        "scenario": {
            "source": "kepler",
            "parameters": {"eccentricity": 0.9},
            "G": 4.0,
            "softening": 0.1,
            "field": {"mass": 1.0, "position": [9.0, 0.0]},
        },
        "t_end": None,
        "periods": 3.0,
        "tolerance": 1e-7,
    },
    "movie": {"system": 3, "frame": 1, "look": "dark"},
    "train": {
        "epochs": 7,
        "families": [
            {"source": "few_body", "parameters": {"seed": 1}, "t_end": 2.0},
            {"source": "kepler", "parameters": {"eccentricity": 0.5}, "periods": 4.0},
        ],
    },
}
SOURCE = "simulate.scenario.source=mine.csv"


@pytest.mark.parametrize("overrides", [[SOURCE], ["simulate.scenario={source='mine.csv'}"]])
def test_a_new_source_drops_what_belonged_to_the_old_one(overrides):
    config = make_config(with_settings(OWN, overrides))
    assert config.simulate.scenario == ScenarioConfig(source="mine.csv")
    assert (config.simulate.t_end, config.simulate.periods) == (10.0, None)
    assert (config.movie.system, config.movie.frame) == (0, "inertial")
    kept = (config.simulate.tolerance, config.movie.look, config.train.epochs)
    assert kept == (1e-7, "dark", 7)
    assert len(config.train.families) == 2


@pytest.mark.parametrize("order", [1, -1])
def test_what_is_set_beside_a_new_source_stays_in_either_order(order):
    source = "simulate.scenario.source=few_body"
    beside = ["simulate.scenario.parameters.n_bodies=4", "simulate.scenario.G=2.0"]
    beside += ["movie.system=2", "simulate.t_end=none", "simulate.periods=5.0"]
    config = make_config(with_settings(OWN, [source, *beside][::order]))
    scenario = config.simulate.scenario
    assert (scenario.source, scenario.parameters) == ("few_body", {"n_bodies": 4})
    assert (scenario.G, scenario.softening, scenario.field) == (2.0, None, None)
    assert (config.movie.system, config.simulate.periods) == (2, 5.0)


def test_the_same_source_drops_nothing():
    for overrides in (["simulate.scenario.source=kepler"], ["simulate.scenario.G=2.0"]):
        config = make_config(with_settings(OWN, overrides))
        assert config.simulate.scenario.parameters == {"eccentricity": 0.9}
        assert (config.simulate.periods, config.movie.system) == (3.0, 3)
    # The source that a table does not name is the default one.
    table = {"simulate": {"scenario": {"parameters": {"n_bodies": 5}}}}
    config = make_config(with_settings(table, ["simulate.scenario.source=few_body"]))
    assert config.simulate.scenario.parameters == {"n_bodies": 5}


def test_another_number_of_systems_drops_the_choice_of_one():
    config = load_config("quickstart", ["simulate.scenario.parameters.n_systems=2"])
    assert config.movie.system == 0
    assert load_config("quickstart", ["simulate.scenario.parameters.seed=2"]).movie.system == 3


def test_a_family_is_changed_by_its_number():
    config = make_config(with_settings(OWN, ["train.families.1.source=mine.csv"]))
    first, second = config.train.families
    assert first.parameters == {"seed": 1}
    assert (second.source, second.parameters, second.periods) == ("mine.csv", {}, 4.0)
    with pytest.raises(InputError, match="there are 2, numbered from 0"):
        with_settings(OWN, ["train.families.2.source=mine.csv"])


@pytest.mark.parametrize(
    ("overrides", "weights"),
    [
        ([], {"energy_band": 1.0, "step_size": 0.3}),
        (["train.loss.weights.mine=2"], {"energy_band": 1.0, "step_size": 0.3, "mine": 2}),
        (["train.loss.weights.step_size=0"], {"energy_band": 1.0, "step_size": 0.0}),
        (["train.loss.weights={mine=2}"], {"mine": 2}),
        (["train.loss.weights={mine=2}", "train.loss.weights.other=1"], {"mine": 2, "other": 1}),
    ],
    ids=str,
)
def test_one_weight_leaves_the_others_as_they_are_and_a_table_replaces_them(overrides, weights):
    assert load_config(None, overrides).train.loss.weights == weights
    assert make_config(with_settings(OWN, overrides)).train.loss.weights == weights


def test_one_of_several_values_leaves_the_others_as_they_are():
    assert load_config(None, ["train.tolerances.0=1e-6"]).train.tolerances == (1e-6, 1e-3)


def test_a_new_scenario_to_train_on_takes_the_place_of_families():
    config = make_config(with_settings(OWN, ["train.scenario.source=mine.csv"]))
    assert (config.train.scenario.source, config.train.families) == ("mine.csv", ())


def test_settings_leave_the_table_that_they_change_as_it_was():
    before = repr(OWN)
    with_settings(OWN, [SOURCE, "train.families.0.source=b.csv", "train.epochs=1"])
    assert repr(OWN) == before


def test_a_shipped_preset_is_found_by_its_path_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config("configs/smoke.toml") == load_config("smoke")
    (tmp_path / "smoke").mkdir()
    assert load_config("smoke") == load_config("configs/smoke.toml")
    with pytest.raises(InputError, match="does not exist"):
        load_config("configs/smok.toml")
