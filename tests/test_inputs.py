"""What `simulate` takes for a state and for a policy."""

from pathlib import Path

import numpy as np
import pytest
import torch

import nbcore as nb
from nbcore.config import Simulation
from nbcore.errors import InputError
from nbcore.physics.integrators import get_integrator
from nbcore.simulation.inputs import named_policy, state_of
from nbcore.stepping.policies import UNTRAINED, Criterion, untrained

MASS, POSITION, VELOCITY = [1.0, 0.5], [[0.0, 0.0], [1.0, 0.0]], [[0.0, -0.4], [0.0, 0.8]]
ARRAYS = {"mass": MASS, "position": POSITION, "velocity": VELOCITY}
ROWS = "mass,x,y,vx,vy\n1.0,0,0,0,-0.4\n0.5,1,0,0,0.8\n"


def run(state=(MASS, POSITION, VELOCITY), t_end=0.2, policy="boekholt", **options):
    return nb.simulate(state, t_end, policy, engine="torch", **options)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text(ROWS)
    return path


def test_a_state_is_taken_as_arrays_as_a_dict_and_from_a_file(file):
    expected = run(nb.State.from_arrays(**ARRAYS))
    for given in ((MASS, POSITION, VELOCITY), [MASS, POSITION, VELOCITY], ARRAYS, file, str(file)):
        np.testing.assert_array_equal(run(given).position, expected.position)


def test_a_dict_brings_units_and_time():
    state = state_of({**ARRAYS, "G": 2.0, "softening": 0.1, "time": 3.0})
    assert (state.G, state.softening, state.time.tolist()) == (2.0, 0.1, [3.0])


def test_a_name_is_a_scenario_even_where_a_folder_is_called_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("figure_eight").mkdir()
    Path("boekholt").mkdir()
    expected = nb.scenarios.make("figure_eight").position
    assert np.array_equal(state_of("figure_eight").position, expected)
    assert named_policy("boekholt").name == "boekholt"


def test_a_simulation_of_rebound_is_taken():
    rebound = pytest.importorskip("rebound")
    sim = rebound.Simulation()
    sim.add(m=1.0)
    sim.add(m=1e-3, a=1.0, e=0.1)
    assert np.array_equal(state_of(sim).position, nb.from_rebound(sim).position)
    with pytest.raises(InputError, match=r"rebound.Simulation was expected, not 'Particle'"):
        run(sim.particles[0])


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ("pythagoraen", "did you mean 'pythagorean'.*or give the path of a file"),
        ("gone.csv", "does not exist"),
        ((MASS, POSITION), "a tuple of 2; give .mass, position, velocity."),
        ([], "a list of 0"),
        ({"mass": MASS}, "no 'position', 'velocity'"),
        ({**ARRAYS, "masses": MASS}, "did you mean 'mass'"),
        (np.zeros((2, 5)), "of type 'ndarray'; give a State, the name of a scenario"),
        (None, "give a state and t_end, or resume="),
        (5, "of type 'int'"),
        ((MASS, POSITION, "abc"), "velocity can't be read"),
        ([nb.State.from_arrays(**ARRAYS)] * 3, "State.concatenate"),
        ((None, POSITION, VELOCITY), "mass is None; give an array or a list of numbers"),
    ],
    ids=str,
)
def test_what_is_no_state_is_told_with_what_is_taken(state, message):
    with pytest.raises(InputError, match=message):
        run(state)


def test_a_trajectory_is_no_state_but_its_end_is():
    with pytest.raises(InputError, match=r"give trajectory\.final"):
        run(run(), 0.4)
    assert run(run().final, 0.4).final.time.tolist() == [0.4]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"t_end": None}, "t_end is not given"),
        ({"t_end": "5"}, "t_end is '5'; it must be a number"),
        ({"t_end": -1.0}, "t_end must be later"),
        ({"t_end": float("nan")}, "t_end must be later"),
        ({"t_end": object()}, "it must be a number"),
        ({"tolerance": "1e-6"}, "tolerance is '1e-6'; it must be a number"),
        ({"integrator": ["leapfrog"]}, "integrator is .*give a name"),
        ({"stepping": 5}, "stepping is 5; give a name"),
        ({"engine": 5}, "engine is 5; give a name"),
        ({"max_steps": "5"}, "max_steps is '5'; give a whole number"),
        ({"max_steps": 2.5}, "max_steps is 2.5; give a whole number"),
        ({"collision_distance": "1"}, "collision_distance is '1'; give a number"),
        ({"escape_distance": [1]}, "escape_distance is .*give a number"),
        ({"guard": "yes"}, "guard is 'yes'; give True or False"),
        ({"keep": True}, "keep is True; give a name, or leave it out"),
        ({"path": 5}, "path is 5; give a path"),
        ({"stop": 5}, "stop is 5; give a function"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_an_argument_of_a_wrong_type_is_told_with_the_remedy(options, message):
    if "engine" in options:
        with pytest.raises(InputError, match=message):
            nb.simulate(ARRAYS, 0.2, "boekholt", **options)
        return
    with pytest.raises(InputError, match=message):
        run(**options)


def test_a_criterion_by_name_has_the_eta_of_the_configuration():
    expected = run(policy=nb.Criterion("huayno", Simulation().eta))
    assert run(policy="huayno").n_steps == expected.n_steps


def test_a_shipped_policy_by_name_is_the_one_that_no_name_stands_for():
    named, unnamed = run(policy="default", tolerance=1e-3), run(policy=None, tolerance=1e-3)
    assert named.integrator == unnamed.integrator == "blanes_moan4"
    np.testing.assert_array_equal(named.time, unnamed.time)


def test_a_policy_is_read_from_a_file_and_from_a_run_s_folder(tmp_path):
    path = nb.save_policy(untrained("leapfrog"), tmp_path / "policy.safetensors")
    for given in (path, str(path), tmp_path):
        assert run(policy=given, tolerance=1e-2).integrator == "leapfrog"


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("boekhold", "policy 'boekhold' is unknown; did you mean 'boekholt'"),
        ("fixed", r"needs its step; give nb.FixedStep\(dt\)"),
        ("gone.safetensors", "there is no policy at"),
        (nb.FixedStep, "is the class 'FixedStep'; make an object of it"),
        (0.01, "is not a policy; give FixedStep"),
        (lambda state: 0.1, r"must be called as rule\(state, tolerance\), and it takes \(state\)"),
        (lambda state, tolerance: "x", "returned 'x'; it must return one number"),
        (lambda state, tolerance: None, "returned None"),
        (lambda state, tolerance: [0.1, 0.2], r"returned shape \(2,\) for 1 systems"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_is_no_policy_is_told_with_the_remedy(policy, message):
    with pytest.raises(InputError, match=message):
        run(policy=policy)


def test_a_configuration_names_policies_by_the_same_table():
    with pytest.raises(InputError, match=r"simulate.policy 'boekhold' is unknown.*trained"):
        nb.setup(Simulation(policy="boekhold", t_end=1.0))
    prepared = nb.setup(Simulation(policy=UNTRAINED, integrator="leapfrog", t_end=1.0))
    assert prepared.policy.spec.integrator == "leapfrog"


@pytest.mark.parametrize(
    "options",
    [
        {"policy": None, "integrator": "leapfrog", "tolerance": 1e-2},
        {"max_steps": 1},
        {"policy": "default", "stepping": "plain"},
        {"policy": "default", "tolerance": 1e-20},
    ],
    ids=["untrained", "steps", "stepping", "tolerance"],
)
def test_a_warning_points_to_the_line_that_asked_for_the_run(options):
    with pytest.warns(RuntimeWarning) as told:
        nb.simulate(ARRAYS, **{"t_end": 0.2, "policy": "boekholt", **options})
    assert {each.filename for each in told} == {__file__}


def test_untrained_steps_that_nobody_asked_for_are_told():
    with pytest.warns(RuntimeWarning, match="no trained policy is shipped for 'leapfrog'.*'auto'"):
        unasked = run(policy=None, integrator="leapfrog", tolerance=1e-2)
    asked = run(policy=UNTRAINED, integrator="leapfrog", tolerance=1e-2)
    assert asked.policy == unasked.policy == UNTRAINED
    np.testing.assert_array_equal(asked.time, unasked.time)


@pytest.mark.parametrize("dt", [0.1, 1, np.float32(0.125), torch.tensor(0.1), np.array(0.1)])
def test_a_rule_that_returns_one_number_steps_every_system_alike(dt):
    batch = nb.scenarios.make("few_body", n_systems=3)
    here = nb.simulate(batch, 2.0, lambda state, tolerance: dt)
    there = nb.simulate(batch, 2.0, nb.FixedStep(float(dt)), engine="torch")
    np.testing.assert_allclose(here.time, there.time, rtol=1e-7)
    assert here.n_steps.tolist() == there.n_steps.tolist()


@pytest.mark.parametrize(("dt", "told"), [(-0.125, "-0.125"), (0, "0.0"), (float("nan"), "nan")])
def test_a_rule_without_a_step_is_told_with_what_it_returned(dt, told):
    def mine(state, tolerance):
        return torch.where(state.time < 0.1, 0.05, dt)

    with pytest.warns(RuntimeWarning, match=f"the rule 'mine' returned dt = {told} for system 0"):
        stopped = run(policy=mine)
    assert stopped.status in (nb.Status.DT_UNDERFLOW, nb.Status.NON_FINITE)


def test_the_explorer_and_movies_say_what_they_take(tmp_path):
    for call, message in [
        (lambda: nb.explore(5), "source is of type 'int'"),
        (lambda: nb.explore(settings=nb.Config()), "settings is of type 'Config'"),
        (lambda: nb.explore("kepler", versus=nb.FixedStep(0.1)), "versus is of type 'FixedStep'"),
        (lambda: nb.movies.movie(5, tmp_path / "a.mp4"), "trajectory is of type 'int'"),
        (lambda: nb.movies.movie(run(), 5), "path is of type 'int'"),
        (lambda: nb.movies.movie(run(), tmp_path / "a.mp4", system="b"), "system is 'b'"),
        (lambda: nb.movies.movie(run(), tmp_path / "a.mp4", trail=0.5), "trail is 0.5"),
        (lambda: nb.load_policy(5), "is a int"),
        (lambda: nb.Criterion("boekholt", "x"), "eta is 'x'; it must be a number"),
        (lambda: nb.FixedStep(None), "dt is None; it must be a number"),
    ]:
        with pytest.raises(InputError, match=message):
            call()


@pytest.mark.parametrize("name", [["kepler"], {"a": 1}, 5, None, b"kepler"], ids=repr)
def test_a_name_that_is_no_text_is_told_like_an_unknown_one(name):
    for ask in (lambda: nb.scenarios.make(name), lambda: Criterion(name, 0.1)):
        with pytest.raises(InputError, match=r"is unknown.*Known: "):
            ask()
    with pytest.raises(
        InputError, match=r"integrator is .*, which is none .*; give a name such as"
    ):
        get_integrator(name)
    with pytest.raises(InputError, match=r"give the path of a file|is unknown"):
        nb.scenarios.load(name)
