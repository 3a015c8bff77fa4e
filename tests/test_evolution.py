import copy

import numpy as np
import pytest
import torch
from tiny_training import tiny, weights_of

import nbcore as nb
from nbcore.config import Evolution as Settings
from nbcore.errors import InputError
from nbcore.learning.evolution import beside_median, cheaper, price
from nbcore.learning.systems import run_of, training_problems
from nbcore.simulation.ends import Ends, run_to_end
from nbcore.stepping.policies import Criterion, Crowd, trainable, untrained

FAMILIES = (
    {
        "source": "kepler_orbits",
        "parameters": {"n_systems": 4, "eccentricity": (0.3, 0.6), "seed": 1},
        "periods": 1,
    },
    {"source": "few_body", "parameters": {"n_systems": 3, "seed": 2}, "t_end": 1.0},
    {
        "source": "few_body",
        "parameters": {"n_systems": 2, "seed": 3, "virial_ratio": 0.2},
        "t_end": 0.5,
    },
)


def ends(max_error, evaluations, final_error=None, lost=False):
    each = (max_error, max_error if final_error is None else final_error, max_error, evaluations)
    return Ends(*(np.atleast_1d(np.array(x, dtype=float)) for x in each), np.atleast_1d(lost))


def decades(max_error, evaluations, tolerance=1e-4, order=4, **settings):
    chosen = Settings(**{"final_share": 0.0, "keep_to_tolerance": 0.0, **settings})
    tolerance = torch.tensor([tolerance], dtype=torch.float64)
    return price(ends(max_error, evaluations), tolerance, order, chosen)[0]


def test_price_is_level_along_a_frontier_and_lower_for_a_better_method():
    assert decades(1e-4, 1e3) == pytest.approx(decades(1e-9, 1e4))  # p + 1 = 5
    assert decades(1e-4, 5e2) < decades(1e-4, 1e3)
    assert decades(1e-5, 1e3) < decades(1e-4, 1e3)


def test_price_of_missing_the_tolerance_is_the_square_of_the_decades_up_to_three():
    bare = decades(1e-6, 1e3)
    assert decades(1e-6, 1e3, keep_to_tolerance=0.5) == pytest.approx(bare + 0.5 * 4)
    assert decades(1e-12, 1e3, keep_to_tolerance=0.5) == pytest.approx(
        decades(1e-12, 1e3) + 0.5 * 9
    )


def test_the_final_error_has_its_share():
    settings = Settings(final_share=0.5, keep_to_tolerance=0.0)
    tolerance = torch.tensor([1e-4], dtype=torch.float64)
    mixed = price(ends(1e-4, 1e3, 1e-6), tolerance, 4, settings)[0]
    assert mixed == pytest.approx(decades(1e-5, 1e3))


def test_a_lost_run_is_dearer_than_any_other_and_one_run_can_t_decide():
    prices = np.array([1.0, 100.0, 5.0])
    kept, lost = np.array([False] * 3), np.array([True, False, False])
    assert cheaper((prices, kept), (prices - [0.3, 50.0, 0.0], kept)) == pytest.approx(1.3 / 3)
    assert cheaper((prices, lost), (prices, kept)) == pytest.approx(1 / 3)
    assert cheaper((prices, kept), (prices, lost)) == pytest.approx(-1 / 3)
    assert cheaper((prices, lost), (prices, lost)) == 0


def test_networks_are_ranked_beside_the_median_of_the_same_runs():
    prices = np.array([[1.0, 9.0, 7.0, 3.0], [1.2, 8.8, 1.0, 4.0], [1.6, 0.0, 2.0, 5.0]])
    lost = np.array([[False, False, True, True], [False] * 3 + [True], [False] * 3 + [True]])
    # The last run, which all have lost, tells nothing, and one run no more than a decade.
    assert beside_median(prices, lost) == pytest.approx(
        np.array([-0.2 + 0.2 + 1.0, 0.0 + 0.0 - 1.0, 0.4 - 1.0 + 0.0]) / 4
    )
    most_lost = np.array([[True], [True], [False]])
    assert beside_median(prices[:, :1], most_lost).tolist() == [1, 1, -1]


def test_systems_of_one_shape_go_together_with_their_own_ends():
    kepler, few = training_problems(tiny(families=FAMILIES).train)
    assert (kepler.state.n_systems, few.state.n_systems) == (4, 5)
    assert few.t_end.tolist() == [1.0, 1.0, 1.0, 0.5, 0.5]
    period = nb.scenarios.two_body_period(kepler.state)
    torch.testing.assert_close(kepler.t_end, period)
    other = training_problems(tiny(families=FAMILIES).train, "held_out")[1]
    assert not torch.equal(other.state.position, few.state.position)


def test_held_out_systems_are_others_and_where_there_are_none_a_warning_says_so(tmp_path):
    for parameters in ({"n_systems": 4}, {"n_systems": 4, "seed": 2}):
        config = tiny(scenario={"source": "few_body", "parameters": parameters}).train
        mine, theirs = (training_problems(config, split)[0] for split in ("train", "held_out"))
        assert not torch.equal(mine.state.position, theirs.state.position)
    state = nb.scenarios.make("few_body", n_systems=12, seed=3)
    path = tmp_path / "twelve.npz"
    np.savez(path, mass=state.mass, position=state.position, velocity=state.velocity)
    config = tiny(scenario={"source": str(path)}).train
    parts = [training_problems(config, s)[0].state for s in ("train", "calibration", "held_out")]
    assert [part.n_systems for part in parts] == [9, 9, 3]
    assert np.array_equal(parts[0].position, state.position[:9])
    assert np.array_equal(parts[2].position, state.position[9:])
    single = tiny(scenario={"source": "pythagorean"}).train
    with pytest.warns(RuntimeWarning, match="'pythagorean' has no other systems to hold out"):
        training_problems(single, "held_out")


def test_families_without_bound_systems_are_an_error_before_any_training(tmp_path):
    path = tmp_path / "unbound.npz"
    np.savez(
        path,
        mass=np.ones((3, 2)),
        position=np.tile([[0.0, 0.0], [1.0, 0.0]], (3, 1, 1)),
        velocity=np.tile([[0.0, 5.0], [0.0, -5.0]], (3, 1, 1)),
    )
    config = tiny(families=({"source": str(path), "t_end": 1.0},), scheme="evolution")
    with pytest.raises(InputError, match=r"none of the 3 systems of .*npz' is bound"):
        nb.train(config)


def test_a_crowd_steps_each_share_of_a_batch_with_its_own_network():
    policy = trainable(untrained("leapfrog", stepping="reversible", hidden=(6,)).spec)
    generator = torch.Generator().manual_seed(9)
    policy.network.standardise(3 + 2 * torch.randn(100, 12, generator=generator))
    networks = []
    for seed in range(3):
        networks.append(copy.deepcopy(policy.network))
        generator = torch.Generator().manual_seed(seed)
        for weight in networks[-1].layers.parameters():
            weight.data.normal_(std=0.2, generator=generator)
    problem = training_problems(tiny(families=FAMILIES).train)[1]
    tolerance = torch.full_like(problem.t_end, 1e-3)
    everyone = problem.select(torch.arange(5).repeat(3))
    together = run_of(Crowd(policy, networks), everyone, tolerance.repeat(3), 5000)
    alone = []
    for network in networks:
        policy.network = network
        alone.append(run_of(policy, problem, tolerance, 5000))
    for name in Ends._fields:
        apart = np.concatenate([getattr(each, name) for each in alone])
        # The first step is NumPy's, whose float32 rounds otherwise for other sizes of a batch.
        assert getattr(together, name) == pytest.approx(apart, rel=1e-4)
    assert len(set(together.evaluations.tolist())) > 5


def test_ends_are_those_of_simulate():
    problem = training_problems(tiny(families=FAMILIES).train)[1]
    tolerance = torch.full_like(problem.t_end, 1e-4)
    for policy in (untrained("leapfrog"), Criterion("prs23", 0.05)):
        quick = run_to_end(problem.state, problem.t_end, policy, tolerance, 5000, "leapfrog")
        run = nb.simulate(
            problem.state, problem.t_end, policy, integrator="leapfrog", tolerance=1e-4
        )
        largest = np.maximum(run.max_energy_error, run.max_body_error)
        assert quick.max_error == pytest.approx(largest, rel=1e-6)
        assert quick.max_energy_error == pytest.approx(run.max_energy_error, rel=1e-6)
        assert np.array_equal(quick.evaluations, run.n_force_evaluations)
        last = run.n_records - 1
        of_bodies = run.body_error[np.arange(5), last].max(axis=1)
        final = np.maximum(run.energy_error[np.arange(5), last], of_bodies)
        assert quick.final_error == pytest.approx(final, rel=1e-6, abs=1e-13)
        assert not quick.lost.any()


@pytest.mark.long
@pytest.mark.parametrize("method", ["slope", "cma"])
def test_evolution_makes_runs_cheaper_and_calibrates(method):
    config = tiny(
        families=FAMILIES[1:],
        scheme="evolution",
        stepping="reversible",
        integrator="blanes_moan4",
        tolerances=(1e-5, 1e-5),
        epochs=40,
        learning_rate=0.05,
        evolution={"method": method, "pairs": 8, "systems": 5, "calibration_systems": 8},
    )
    result = nb.train(config)
    loss = [epoch["loss"] for epoch in result.history]
    assert np.mean(loss[-5:]) < np.mean(loss[:5]) - 0.05
    known = result.policy.calibration
    assert known is not None
    assert known.covers(1e-5)
    again = nb.train(config)
    assert weights_of(again.policy) == weights_of(result.policy)
    assert again.policy.calibration == known


def test_too_few_systems_are_an_error_before_any_training():
    few = tiny(scenario={"source": "kepler_orbits", "parameters": {"n_systems": 3}})
    config = few.model_copy(update={"train": few.train.model_copy(update={"scheme": "evolution"})})
    with pytest.raises(InputError, match="the training has 3 systems"):
        nb.train(config)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"train.optimiser": "lbfgs"}, "no loss that lbfgs could follow"),
        ({"network.features": ("basic",)}, "takes the scale-free features alone"),
        ({"network.fourier_features": 4}, "fourier_features = 4"),
    ],
)
def test_what_evolution_can_t_do_is_an_error(change, words):
    with pytest.raises(InputError, match=words):
        nb.train(tiny(change, scheme="evolution"))
