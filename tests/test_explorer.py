import threading

import numpy as np
import pytest

import nbcore as nb
from nbcore.config import ScenarioConfig, Simulation, load_config
from nbcore.simulation import compile_beside
from nbcore.simulation import setup as setups
from nbcore.simulation.status import Status
from nbcore.views import explorer as explorers
from nbcore.views.background import Newest
from nbcore.views.controls import Parameters, Steps
from nbcore.views.explorer import explore, run_one
from nbcore.views.orbit_view import MOST_ON_CURVES, OrbitView


@pytest.fixture(autouse=True)
def nothing_beside(monkeypatch):
    """No loop is compiled beside the tests, which would outlive them."""
    monkeypatch.setattr(compile_beside, "compile_beside", lambda types, folder: None)


def classical(source="kepler", **changes):
    """Settings that need no network and compile little."""
    parameters = changes.pop("parameters", {})
    return Simulation(
        scenario={"source": source, "parameters": parameters},
        **{"policy": "boekholt", "integrator": "leapfrog", "t_end": 7.0, **changes},
    )


def explored(*arguments, **keywords):
    made = explore(*arguments, **keywords)
    made.wait(300)
    return made


def message(explorer):
    return explorer._message.value


def numbers(packed, kind="<f8"):
    return np.frombuffer(packed, kind)


@pytest.mark.parametrize("source", nb.scenarios.names())
def test_every_scenario_has_controls_that_say_its_defaults(source):
    parameters = Parameters(ScenarioConfig(source=source), lambda: None)
    nb.scenarios.make(source, **parameters.values())
    # one system is shown, whatever the default number of a scenario
    assert parameters.values().get("n_systems", 1) == 1


def test_settings_come_back_as_they_were_given():
    given = classical(
        parameters={"eccentricity": 0.3, "semi_major_axis": 7.0, "mass_ratio": 0.5},
        guard=True,
        stepping="reversible",
        eta=0.02,
    )
    explorer = explored(settings=given)
    assert message(explorer) == ""
    settings = explorer.settings
    assert settings.scenario.parameters["semi_major_axis"] == pytest.approx(7.0)
    assert settings.model_copy(update={"scenario": given.scenario}) == given


def test_a_run_is_that_of_simulate_with_the_same_settings(tmp_path):
    explorer = explored(settings=classical(parameters={"eccentricity": 0.6}))
    (path,) = explorer.save_settings(tmp_path)
    again = run_one(load_config(path).simulate)
    np.testing.assert_array_equal(again.position, explorer.trajectories[0].position)
    (path,) = explorer.save_runs(tmp_path)
    assert nb.Trajectory.load(path).n_steps == again.n_steps


def test_nobody_waits_for_a_compiler_unless_the_settings_name_an_engine(monkeypatch):
    asked = []
    monkeypatch.setattr(
        setups, "simulate", lambda *_, engine, **__: asked.append(engine) or nb.simulate(*_, **__)
    )
    for settings in (classical(), classical(engine="compiled")):
        run_one(settings)
    assert asked == ["ready", "compiled"]


def test_a_moved_slider_makes_another_run():
    explorer = explored(settings=classical())
    before = explorer.trajectories[0].n_steps
    explorer._parameters._controls["eccentricity"].value = 0.7
    explorer.wait(300)
    assert explorer.trajectories[0].n_steps > before
    assert explorer.view.runs[0]["cost"].startswith(f"{explorer.trajectories[0].n_steps:,} steps")


def test_two_policies_run_the_same_system_and_show_their_costs():
    explorer = explored(settings=classical(), versus="free_fall")
    first, second = explorer.view.runs
    assert first["label"].startswith("boekholt")
    assert second["label"].startswith("free_fall")
    assert first["cost"] != second["cost"]
    starts = [numbers(run["path"], "<f4")[:6] for run in (first, second)]
    np.testing.assert_array_equal(*starts)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"source": "keppler"}, "kepler"),
        ({"source": "no_such.npy"}, "no_such.npy"),
        ({"t_end": -1.0}, "t_end"),
        ({"policy": "no_such"}, "no_such"),
        ({"inclination": 20.0}, "set dimensions=3"),
    ],
)
def test_what_is_wrong_is_said_in_place_and_put_right_again(change, words):
    explorer = explored(settings=classical())
    ((name, value),) = change.items()
    control = {
        "source": explorer._source,
        "t_end": explorer._end,
        "policy": explorer._steps._policy,
        **explorer._parameters._controls,
    }[name]
    good = control.value
    control.value = value
    explorer.wait(300)
    assert words in message(explorer)
    assert len(explorer.view.runs) == 1  # what was drawn last
    control.value = good
    explorer.wait(300)
    assert message(explorer) == ""


def test_a_run_that_would_not_end_is_cut_off_and_says_so(monkeypatch):
    monkeypatch.setattr(explorers, "MOST_STEPS", 50)
    explorer = explored(settings=classical(t_end=1000.0))
    assert "MAX_STEPS (50)" in message(explorer)
    assert explorer.trajectories[0].n_steps == 50


def test_a_system_of_a_batch_is_chosen_by_its_number():
    settings = classical("few_body", parameters={"n_systems": 3}, t_end=1.0)
    explorer = explored(settings=settings)
    first = explorer.trajectories[0].position[0]
    explorer._number.value = 2
    explorer.wait(300)
    assert not np.array_equal(first, explorer.trajectories[0].position[0])
    explorer._number.value = 3
    explorer.wait(300)
    assert "choose 0 to 2" in message(explorer)


def test_a_folder_that_cannot_be_made_is_said_in_place(tmp_path):
    explorer = explored(settings=classical())
    (tmp_path / "file").write_text("")
    explorer._folder.value = str(tmp_path / "file" / "inside")
    explorer._save_run.click()
    assert "choose another" in message(explorer)


def test_of_many_requests_the_newest_alone_is_drawn():
    drawn, errors, gate, begun = [], [], threading.Event(), threading.Event()

    def work(request, _):
        begun.set()
        gate.wait()
        return request

    newest = Newest(work, drawn.append, errors.append)
    newest.submit(0)
    begun.wait()
    for request in (1, 2, 3):
        newest.submit(request)
    gate.set()
    newest.wait(300)
    assert drawn == [3]
    assert errors == []


def test_what_is_dropped_is_not_drawn():
    drawn, gate, begun = [], threading.Event(), threading.Event()

    def work(request, _):
        begun.set()
        gate.wait()
        return request

    newest = Newest(work, drawn.append, drawn.append)
    newest.submit(0)
    begun.wait()
    newest.drop()
    gate.set()
    newest.wait(300)
    assert drawn == []


@pytest.mark.filterwarnings("ignore:.*INTERRUPTED")
def test_a_run_that_is_overtaken_is_stopped():
    begun, ended, drawn = threading.Event(), [], []

    def work(dt, stop):
        begun.set()
        state = nb.scenarios.make("kepler")
        run = nb.simulate(state, 1e6, nb.FixedStep(dt), record="ends", max_steps=10**9, stop=stop)
        ended.append(run.status)
        return run

    newest = Newest(work, drawn.append, drawn.append)
    newest.submit(1e-4)  # an hour's work
    begun.wait()
    newest.submit(1e4)
    newest.wait(300)
    assert ended == [Status.INTERRUPTED, Status.SUCCESS]
    assert [run.status for run in drawn] == [Status.SUCCESS]


def test_settings_and_a_source_do_not_go_together():
    with pytest.raises(nb.InputError, match="leave source and parameters out"):
        explore("kepler", settings=classical())


def test_a_value_beyond_a_slider_is_kept():
    given = {"eccentricity": 0.9999, "mass_ratio": 1e-6, "inclination": 0.0}
    values = Parameters(ScenarioConfig(source="kepler", parameters=given), lambda: None).values()
    assert values["eccentricity"] == 0.9999
    assert values["mass_ratio"] == pytest.approx(1e-6)


@pytest.mark.parametrize("value", [0.25, 1e-6, 0.0345])
def test_a_slider_has_a_step_at_its_value_for_the_browser_would_move_it(value):
    steps = Steps(classical(eta=value, dt=value, tolerance=value), lambda: None)
    for slider in steps._accuracies.values():
        at = (np.log10(value) - slider.min) / slider.step
        assert at == pytest.approx(round(at), abs=1e-6)
        assert slider.value == value


def test_an_unforeseen_error_is_shown_rather_than_lost():
    errors = []
    newest = Newest(lambda *_: 1 / 0, list, errors.append)
    newest.submit(None)
    newest.wait(300)
    assert isinstance(errors[0], ZeroDivisionError)


def long_run():
    state = nb.scenarios.make("kepler", eccentricity=0.95)
    policy = nb.Criterion("boekholt", 0.003)
    return nb.simulate(state, 100.0, policy, integrator="leapfrog")


def test_curves_keep_their_largest_error_and_their_smallest_step():
    run = long_run()
    assert run.n_steps > 2 * MOST_ON_CURVES
    view = OrbitView()
    view.show([run])
    curves = view.runs[0]["curves"]
    assert len(numbers(curves["time"])) <= MOST_ON_CURVES + 2
    assert numbers(curves["energy_error"]).max() == run.energy_error.max()
    assert numbers(curves["dt"])[1:].min() == run.dt[1:].min()
    assert (np.diff(numbers(curves["time"])) > 0).all()


def test_the_path_keeps_to_the_orbit():
    run = long_run()
    view = OrbitView()
    view.show([run])
    path = numbers(view.runs[0]["path"], "<f4").reshape(-1, 2, 3)
    time = numbers(view.runs[0]["time"])
    assert len(path) == len(time)
    apart = np.linalg.norm(path[:, 1] - path[:, 0], axis=-1)
    assert apart.min() == pytest.approx(0.05, rel=0.1)
    assert apart.max() == pytest.approx(1.95, rel=0.01)
    assert not path[..., 2].any()


def test_the_window_holds_the_orbit():
    view = OrbitView()
    view.show([long_run()])
    path = numbers(view.runs[0]["path"], "<f4").reshape(-1, 3)
    assert (np.abs(path - view.centre).max(axis=0)[:2] <= view.half).all()


def test_a_batch_is_not_one_picture():
    systems = nb.scenarios.make("few_body", n_systems=2)
    with pytest.raises(nb.InputError, match="batch"):
        OrbitView().show([nb.simulate(systems, 0.1, nb.FixedStep(0.1))])
