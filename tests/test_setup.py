import numpy as np
import pytest

import nbcore as nb
from nbcore.config import Network, load_config
from nbcore.errors import InputError
from nbcore.learning.training import make_policy
from nbcore.simulation.setup import setup
from nbcore.stepping.checkpoints import save_policy

TWO_ORBITS = {
    "scenario.source": "kepler_orbits",
    "scenario.parameters": {"n_systems": 2, "semi_major_axis": (0.5, 2.0), "seed": 3},
}


def prepared(changes=None, trained=None, **settings):
    """Setup of a run; keywords are settings of the section `simulate`."""
    table = {"progress": False, **settings, **(changes or {})}
    config = load_config(None, {f"simulate.{name}": value for name, value in table.items()})
    return setup(config.simulate, trained)


@pytest.fixture
def checkpoint(tmp_path):
    """A run's folder with a policy in it that was trained on three triples."""
    policy = make_policy(Network(hidden=(3,)), "leapfrog")
    systems = nb.scenarios.make("few_body", n_systems=3, seed=9)
    save_policy(policy, tmp_path / "policy.safetensors", systems=systems)
    return tmp_path


def test_a_scenario_is_made_by_its_name_with_its_parameters_and_units():
    run = prepared(
        {
            "scenario.source": "few_body",
            "scenario.parameters": {"n_systems": 2, "n_bodies": 4, "seed": 5},
            "scenario.G": 2.0,
            "scenario.softening": 0.1,
            "scenario.field": {"mass": 3.0, "position": [9.0, 0.0]},
        }
    )
    field = nb.TidalField(mass=3.0, position=(9.0, 0.0))
    expected = nb.scenarios.make(
        "few_body", n_systems=2, n_bodies=4, seed=5, G=2.0, softening=0.1, field=field
    )
    assert np.array_equal(run.state.position, expected.position)
    assert np.array_equal(run.state.velocity, expected.velocity)
    assert (run.state.G, run.state.softening, run.state.field) == (2.0, 0.1, field)


def test_a_file_is_read_by_its_path(tmp_path):
    path = tmp_path / "pair.csv"
    rows = [[1.0, -0.5, 0.0, 0.0, -0.5], [1.0, 0.5, 0.0, 0.0, 0.5]]
    np.savetxt(path, rows, delimiter=",")
    state = prepared({"scenario.source": str(path)}).state
    assert state.mass.tolist() == [[1.0, 1.0]]
    assert state.position.tolist() == [[[-0.5, 0.0], [0.5, 0.0]]]
    assert state.velocity.tolist() == [[[0.0, -0.5], [0.0, 0.5]]]


def test_a_file_takes_no_parameters():
    with pytest.raises(InputError, match=r"takes no parameters, and 'pair\.csv' was given seed"):
        prepared({"scenario.source": "pair.csv", "scenario.parameters.seed": 1})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scenario.source": "few_bdy"}, "did you mean 'few_body'"),
        ({"scenario.source": "gone.npy"}, r"gone\.npy"),
        ({"scenario.parameters": {"n_bodys": 3}}, "did you mean 'n_bodies'"),
        ({"policy": "bokholt"}, "did you mean 'boekholt'"),
        ({"policy": "gone.safetensors"}, "there is no policy at 'gone.safetensors'"),
        ({"policy": "trained"}, "nothing was trained in this run"),
    ],
)
def test_a_name_that_can_not_be_used_is_told_before_the_run(changes, message):
    with pytest.raises(InputError, match=message):
        prepared(changes)


@pytest.mark.parametrize("name", ["integrator", "engine"])
def test_a_name_for_the_loop_is_checked_when_it_runs(name):
    with pytest.raises(InputError, match=f"{name} 'nothing' is unknown"):
        prepared({name: "nothing"}, t_end=0.1).run()


def test_a_policy_s_own_training_systems_can_be_run(checkpoint):
    run = prepared({"scenario.source": "checkpoint"}, policy=str(checkpoint))
    expected = nb.scenarios.make("few_body", n_systems=3, seed=9)
    assert np.array_equal(run.state.position, expected.position)


def test_a_policy_is_a_criterion_or_fixed_or_a_path_or_a_run_or_the_trained_one(checkpoint):
    criterion = prepared(policy="huayno", eta=0.02).policy
    assert (criterion.name, criterion.eta) == ("huayno", 0.02)
    assert prepared(policy="fixed", dt=0.25).policy.dt == 0.25
    for path in (checkpoint, checkpoint / "policy.safetensors"):
        assert prepared(policy=str(path)).policy.spec.integrator == "leapfrog"
    mine = make_policy(Network())
    assert prepared(policy="trained", trained=mine).policy is mine


def test_without_an_integrator_a_learned_policy_runs_with_its_own(checkpoint):
    run = prepared(policy=str(checkpoint), t_end=0.01, tolerance=1e-3).run()
    assert run.integrator == "leapfrog"


def test_each_orbit_stops_at_its_own_period():
    run = prepared(TWO_ORBITS, t_end=None, periods=1.0)
    period = nb.scenarios.two_body_period(run.state)
    assert period[0] != period[1]
    trajectory = run.run()
    np.testing.assert_array_equal(trajectory.final.time, period)
    # After a period each body is where it was, to the accuracy of the run.
    end, start = trajectory.final.position, run.state.position
    np.testing.assert_allclose(end, start, atol=1e-3)
    half = prepared(TWO_ORBITS, t_end=None, periods=0.5)
    np.testing.assert_allclose(half.t_end, period / 2, rtol=1e-15)


@pytest.mark.parametrize("t_end", [0.1, 1 / 3])
def test_numbers_reach_the_run_in_double_precision(t_end):
    run = prepared(TWO_ORBITS, t_end=t_end, policy="fixed", dt=t_end / 4, tolerance=0.1).run()
    assert run.final.time.tolist() == [t_end, t_end]
    assert run.tolerance.tolist() == [0.1, 0.1]
    # four steps, and not a fifth of rounding size
    assert run.n_steps.tolist() == [4, 4]
    assert run.dt[:, 1].tolist() == [t_end / 4, t_end / 4]


def test_every_so_many_steps_are_recorded_and_both_ends():
    one = {"scenario.source": "kepler", "scenario.parameters": {"eccentricity": 0.3}}
    fixed = {"policy": "fixed", "dt": 0.125, "t_end": 1.25}
    every = prepared(one, **fixed).run()
    third = prepared(one, **fixed, record_every=3).run()
    both = prepared(one, **fixed, record_every=0).run()
    np.testing.assert_array_equal(every.time, np.linspace(0, 1.25, 11))
    np.testing.assert_array_equal(third.time, [0, 0.375, 0.75, 1.125, 1.25])
    np.testing.assert_array_equal(both.time, [0, 1.25])
    np.testing.assert_array_equal(third.position, every.position[[0, 3, 6, 9, 10]])


def test_equidistant_times_are_recorded_and_change_no_step():
    steps = prepared(TWO_ORBITS, t_end=1.0).run()
    times = prepared(TWO_ORBITS, t_end=1.0, record_times=4).run()
    np.testing.assert_array_equal(times.time, [np.linspace(0, 1, 5)] * 2)
    np.testing.assert_array_equal(times.n_steps, steps.n_steps)
    assert np.array_equal(times.final.position, steps.final.position)


def test_the_other_options_reach_the_run():
    with pytest.warns(RuntimeWarning, match="2 MAX_STEPS"):
        assert prepared(TWO_ORBITS, max_steps=3).run().n_steps.tolist() == [3, 3]
    with pytest.warns(RuntimeWarning, match="2 COLLISION"):
        prepared(TWO_ORBITS, collision_distance=100.0).run()
    with pytest.warns(RuntimeWarning, match="2 ESCAPE"):
        prepared(TWO_ORBITS, escape_distance=1e-3).run()
    assert prepared(TWO_ORBITS, t_end=0.1, stepping="reversible").run().stepping == "reversible"


def test_a_run_can_be_made_with_other_options_and_with_another_policy():
    run = prepared(TWO_ORBITS, t_end=0.5, policy="boekholt")
    assert run.run(record="ends").time.shape == (2, 2)
    other = run.with_policy(nb.FixedStep(0.125))
    assert other.run().n_steps.tolist() == [4, 4]
    assert str(run.policy) == "boekholt"
