import warnings

import numpy as np
import pytest

from nbcore.physics import gravity, scenarios
from nbcore.physics.integrators import get_integrator
from nbcore.physics.orbits import two_body_period
from nbcore.physics.state import State
from nbcore.simulation.simulate import simulate
from nbcore.stepping.control import guard_of, takes_over
from nbcore.stepping.criteria import get_criterion
from nbcore.stepping.policies import Criterion, FixedStep, LearnedPolicy, PolicySpec, untrained


def reckless(stretch=40.0):
    """A policy whose steps are far too long for its tolerance."""
    return LearnedPolicy(PolicySpec(integrator="blanes_moan4", order=4, stretch=stretch))


def eccentric():
    return scenarios.make("kepler_orbits", n_systems=4, eccentricity=(0.8, 0.95), seed=1)


def run(policy, **settings):
    options = {"tolerance": 1e-6, "record": "ends", "max_steps": 3000, **settings}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return simulate(eccentric(), 8.0, policy, **options)


def test_limits_are_ten_tolerances_and_half_a_step():
    state = scenarios.make("kepler", eccentricity=0.5)
    tolerance = np.full_like(state.time, 1e-4)
    guard = guard_of(state, tolerance, order=4)
    assert guard.largest_change.item() == pytest.approx(1e-3 * abs(gravity.energy(state).item()))
    assert guard.eta.item() == pytest.approx(0.1)
    scale = get_criterion("boekholt").time_scale(state)
    assert guard.again(state, 100 * scale).item() == pytest.approx(0.1 * scale.item())
    assert guard.again(state, 0.1 * scale).item() == pytest.approx(0.05 * scale.item())


@pytest.mark.parametrize("stepping", ["plain", "reversible"])
def test_a_guarded_run_with_reckless_steps_is_far_less_wrong(stepping):
    guarded = run(reckless(), stepping=stepping)
    free = run(reckless(), stepping=stepping, guard=False)
    assert (guarded.n_redone > 0).all()
    assert (free.n_redone == 0).all()
    assert (guarded.max_energy_error < 0.1 * free.max_energy_error).all()


def test_redone_steps_cost_their_evaluations_and_are_no_steps():
    made = run(reckless())
    each = get_integrator("blanes_moan4").evaluations
    assert made.n_force_evaluations.tolist() == (1 + each * (made.n_steps + made.n_redone)).tolist()


@pytest.mark.parametrize("stepping", ["plain", "reversible"])
@pytest.mark.parametrize("integrator", ["blanes_moan4", "hermite4"])
def test_both_engines_redo_the_same_steps(stepping, integrator):
    if integrator == "hermite4" and stepping == "reversible":
        return
    settings = {"stepping": stepping, "integrator": integrator, "max_steps": 60}
    compiled, torch_ = (run(reckless(), engine=e, **settings) for e in ("compiled", "torch"))
    assert (compiled.n_redone > 0).any()
    assert compiled.n_redone.tolist() == torch_.n_redone.tolist()
    assert compiled.n_force_evaluations.tolist() == torch_.n_force_evaluations.tolist()
    assert compiled.final.position == pytest.approx(torch_.final.position, rel=1e-6, abs=1e-6)


def with_light_companions():
    """Two stars on a wide orbit, one with a light body on a close one, ever more eccentric."""
    eccentricity = np.array([0.0, 0.2, 0.3, 0.4])
    apocentre = 0.1 * (1 + eccentricity)
    speed = np.sqrt(10 * (1 - eccentricity) / (1 + eccentricity))
    position, velocity = np.zeros((2, 4, 3, 2))
    position[:, 0, 0], position[:, 1, 0], position[:, 2, 0] = -1, 1, 1 + apocentre
    velocity[:, 0, 1], velocity[:, 1, 1], velocity[:, 2, 1] = -0.5, 0.5, 0.5 + speed
    return State.from_arrays([[1, 1, 1e-9]] * 4, position, velocity)


@pytest.mark.filterwarnings("ignore:.* missed their tolerance")
@pytest.mark.parametrize("integrator", ["suzuki4", "hermite4"])
def test_both_engines_redo_steps_for_a_light_body_that_the_energy_does_not_show(
    integrator,
):
    def made(engine, follow=True):
        return simulate(
            with_light_companions(),
            0.5,
            FixedStep(0.0075),
            integrator=integrator,
            tolerance=1e-5,
            guard=True,
            follow=follow,
            engine=engine,
            record="ends",
        )

    compiled, torch_ = made("compiled"), made("torch")
    assert (compiled.n_redone > 0).tolist() == [False, integrator == "hermite4", True, True]
    assert compiled.n_redone.tolist() == torch_.n_redone.tolist()
    assert compiled.n_steps.tolist() == torch_.n_steps.tolist()
    assert compiled.final.position == pytest.approx(torch_.final.position, rel=1e-9, abs=1e-9)
    for engine in ("compiled", "torch"):
        assert made(engine, follow=False).n_redone.tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("record", [1, 3])
def test_a_redone_step_leaves_no_gap_in_the_records_of_either_engine(record):
    compiled, torch_ = (
        run(reckless(11.3), engine=engine, record=record, max_steps=60)
        for engine in ("compiled", "torch")
    )
    assert len(set(torch_.n_redone.tolist())) > 1  # systems fall out of step with each other
    assert compiled.n_records.tolist() == torch_.n_records.tolist()
    for k, count in enumerate(torch_.n_records):
        assert np.isfinite(torch_.time[k, :count]).all()
        assert torch_.time[k, :count] == pytest.approx(compiled.time[k, :count], rel=1e-6)


def test_records_change_no_guarded_step():
    ends = run(reckless())
    every = run(reckless(), record=1)
    times = run(reckless(), record=np.linspace(0, 8, 50))
    for other in (every, times):
        assert np.array_equal(ends.final.position, other.final.position)
        assert other.n_redone.tolist() == ends.n_redone.tolist()


def test_a_good_policy_is_left_alone():
    cautious = run(untrained("kahan_li6"), tolerance=1e-6)
    assert (cautious.n_redone == 0).all()


def test_criteria_are_guarded_only_on_demand():
    loose = Criterion("free_fall", 2.0)
    assert (run(loose, integrator="suzuki4").n_redone == 0).all()
    assert (run(loose, integrator="suzuki4", guard=True).n_redone > 0).all()


@pytest.mark.parametrize("engine", ["compiled", "torch"])
def test_a_last_step_that_is_cut_to_the_end_is_halved_from_what_was_made(engine):
    """So that both engines redo the same step, however long the policy's own was."""
    state = scenarios.make("kepler", eccentricity=0.95, phase=0.95)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        made = simulate(
            state, 0.4, reckless(), tolerance=1e-6, stepping="plain", engine=engine, record=1
        )
    assert made.n_redone > 0
    assert made.dt[1] <= 0.2


def test_a_policy_that_loses_its_way_costs_little_more_than_the_fall_back():
    tolerance = 1e-6
    made = run(reckless(1000.0), stepping="reversible", integrator=None, max_steps=100_000)
    own = Criterion("boekholt", tolerance ** (1 / 4))
    plain = run(own, stepping="reversible", integrator="blanes_moan4", max_steps=100_000)
    assert (made.n_force_evaluations < 1.4 * plain.n_force_evaluations).all()


def two_bodies(eccentricity, mass_ratio):
    state = scenarios.make("kepler", eccentricity=eccentricity, mass_ratio=mass_ratio)
    return state, 100 * two_body_period(state).item()


HURTS = {
    "figure-eight": lambda: (scenarios.make("figure_eight"), 600.0),
    "e = 0.999": lambda: two_bodies(0.999, 1.0),
    **{
        f"e = {e}, mass ratio {q:g}": lambda e=e, q=q: two_bodies(e, q)
        for e in (0.5, 0.9, 0.999)
        for q in (0.1, 0.01, 1e-3, 1e-6)
    },
}


@pytest.mark.parametrize("tolerance", [1e-4, 1e-6, 1e-8])
@pytest.mark.parametrize("name", HURTS)
def test_where_it_hurts_the_shipped_policy_costs_no_more_than_its_fall_back(name, tolerance):
    """Prints (pytest -s) the cost over the fall-back's, and the maximum error in tolerances."""
    state, t_end = HURTS[name]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # unlike what was trained on
        made = simulate(state, t_end, tolerance=tolerance, record="ends")
    integrator = get_integrator(made.integrator)
    own = simulate(
        state,
        t_end,
        Criterion("boekholt", tolerance ** (1 / integrator.order)),
        integrator=made.integrator,
        stepping="reversible",
        record="ends",
    )
    cost = made.n_force_evaluations / own.n_force_evaluations
    error = made.max_energy_error / tolerance
    print(f"{name}, tolerance {tolerance:g}: cost {cost:.2f}, error {error:.1f} tolerances")
    assert cost <= 1.1


def test_the_guard_takes_over_after_eight_redone_steps_and_a_share_of_all():
    n_redone, n_steps = np.array([8, 9, 9, 20]), np.array([1, 31, 32, 400])
    assert takes_over(n_redone, n_steps).tolist() == [False, True, False, False]


@pytest.mark.parametrize("engine", ["compiled", "torch"])
def test_the_guard_does_not_hand_back(engine):
    made = run(reckless(1000.0), engine=engine, max_steps=400)
    assert (made.n_redone <= 16).all()
