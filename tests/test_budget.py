"""Errors that steps may make: shares of the energy, and runs that keep to their tolerance."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from symmetries import random_states

from nbcore.analysis import kept_tolerances
from nbcore.config import Config
from nbcore.errors import InputError
from nbcore.physics import scenarios
from nbcore.physics.extrapolation import Extrapolation
from nbcore.physics.fields import TidalField
from nbcore.physics.state import State
from nbcore.simulation.setup import setup
from nbcore.simulation.simulate import check, simulate
from nbcore.simulation.status import Status
from nbcore.stepping.budget import LAW, LEAST_LEFT, LEAST_PULL, Budget, Own, pull_of_others, shares
from nbcore.stepping.policies import FixedStep, OwnStep

# Chaotic ones may miss it, which is told.
pytestmark = pytest.mark.filterwarnings("ignore:.*times the tolerance")
ENGINES = pytest.mark.parametrize("engine", ["compiled", "torch"])
OWN = {"integrator": "gbs", "record": "ends"}
AIM = {**OWN, "keep": "aim"}


def eight():
    return scenarios.make("figure_eight")


def error(run):
    """Largest error of each run over its tolerance, of a body or of the energy."""
    made = np.maximum(run.summary["max_body_error"], run.summary["max_energy_error"])
    return made / run.about["tolerance"]


# The energy


@ENGINES
@pytest.mark.parametrize("eccentricity", [0.99, 0.999, 0.9999])
def test_bodies_that_pass_deep_keep_their_energy(engine, eccentricity):
    """There potential and kinetic energy are far more than what is left of both."""
    state = scenarios.make("kepler", eccentricity=eccentricity)
    made = simulate(state, 20.0, tolerance=1e-4, engine=engine, **OWN)
    assert error(made) < 1


@ENGINES
def test_a_star_that_two_planets_fall_to_keeps_its_energy(engine):
    state = State.from_arrays(
        [1.0, 1e-3, 1e-3],
        [[0, 0, 0], [1, 0, 0], [-3, 0.2, 0.1]],
        [[0, 0, 0], [0, 0.01, 0], [0.0, 0.5, 0]],
    )
    for tolerance in (1e-4, 1e-6):
        assert error(simulate(state, 20.0, tolerance=tolerance, engine=engine, **OWN)) < 3


# The rule


def own(state, tolerance=1e-8):
    """Numbers of the rule of one system."""
    return Own(*(float(each[0]) for each in LAW.of(state, np.full(1, tolerance))))


@given(
    some.sampled_from(["kepler", "figure_eight", "pythagorean"]),
    some.floats(0, 10),
    some.floats(0, 100),
    some.floats(0, 1e6),
    some.sampled_from([1e-10, 1e-4]),
)
def test_no_step_errs_by_more_than_a_part_of_what_is_left(name, error, spent, due, tolerance):
    of = LAW, own(scenarios.make(name), tolerance)
    given = tolerance, 1e-3 * tolerance, error * tolerance, spent * tolerance, due
    target, aim = shares(*of, *given)
    left = max(tolerance - error * tolerance, LEAST_LEFT * tolerance)
    assert 1e-3 * tolerance <= aim <= max(LAW.limit * left, 1e-3 * tolerance)
    assert aim <= target
    # The more has been lost, the less is left for each.
    assert shares(*of, *given[:2], given[2] + 0.1 * tolerance, *given[3:])[0] <= target
    assert shares(*of, *given[:3], 2 * given[3], due)[0] >= target


def test_the_more_is_to_come_the_less_is_left_for_each():
    of = LAW, own(eight())
    for due in (1, 10, 100, 1e5):
        few, many = (shares(*of, 1e-8, 1e-20, 1e-9, 2e-9, n)[0] for n in (due, 2 * due))
        assert many <= few


def test_of_arrays_it_is_that_of_each():
    of_each = [(1e-6, 1e-9, 3e-7, 2e-6, 40.0), (1e-8, 1e-10, 0.0, 0.0, 0.3)]
    owns = own(eight()), own(scenarios.make("kepler"))
    both = Own(*np.array(owns).T)
    together = np.array(shares(LAW, both, *np.array(of_each).T))
    each = [shares(LAW, mine, *one) for mine, one in zip(owns, of_each, strict=True)]
    np.testing.assert_allclose(together.T, each, rtol=1e-14)


def test_a_run_that_keeps_to_nothing_has_steps_of_one_kind():
    of_one = [np.array([each]) for each in (0.0, 2.0, 1e-9, 1e-8, 1e-8, 0.0)]
    budget = Budget(*of_one, Own(*np.ones((3, 1))), LAW)
    budget = budget.after(*(np.array([each]) for each in (1e-9, 1.0, 5, 3.0, 9.0)))
    assert (budget.target, budget.aim, budget.spent) == (1e-8, 1e-8, 1e-9)


@pytest.mark.parametrize("n_bodies", [2, 3, 6])
def test_how_strongly_others_pull_is_free_of_frame_scale_and_order(n_bodies):
    state = random_states(n_bodies=n_bodies)
    pull = pull_of_others(state)
    assert ((pull >= LEAST_PULL) & (pull <= 1)).all()
    turned = state.replace(position=3.0 * state.position[..., ::-1].copy(), mass=7 * state.mass)
    np.testing.assert_allclose(pull_of_others(turned), pull, rtol=1e-9)
    reverse = state.replace(
        mass=state.mass[:, ::-1].copy(),
        position=state.position[:, ::-1].copy(),
        velocity=state.velocity[:, ::-1].copy(),
    )
    np.testing.assert_allclose(pull_of_others(reverse), pull, rtol=1e-9)
    np.testing.assert_allclose(pull_of_others(state.to("cpu")).numpy(), pull, rtol=1e-12)


def test_others_pull_hardest_where_motion_is_chaotic():
    two, planets, three = (
        float(pull_of_others(scenarios.make(name))[0])
        for name in ("kepler", "planetary_system", "pythagorean")
    )
    assert two == pytest.approx(LEAST_PULL)
    assert two < planets < 0.01 < three


def test_a_law_of_ones_own_is_gone_by():
    careful = OwnStep(law=LAW._replace(goal=1e-3))
    theirs, ours = (
        simulate(eight(), 20.0, policy, tolerance=1e-7, **AIM) for policy in (None, careful)
    )
    assert error(ours) < 0.3 * error(theirs)
    assert ours.n_force_evaluations > theirs.n_force_evaluations


# Runs that keep to it


@pytest.mark.parametrize("tolerance", [1e-4, 1e-7, 1e-10])
def test_runs_err_by_about_what_they_may_and_cost_less(tolerance):
    state = scenarios.make("few_body", n_bodies=3, n_systems=64, seed=4)
    given = {"tolerance": tolerance, **OWN}
    made, plain = simulate(state, 8.0, keep="aim", **given), simulate(state, 8.0, **given)
    ours, theirs = error(made), error(plain)
    assert 0.5 < np.median(ours) < 2
    assert np.mean((ours > 0.1) & (ours < 10)) > 0.85  # of chaotic ones; of all, see README
    assert np.median(theirs) < 0.5 * np.median(ours)
    assert made.n_force_evaluations.sum() < plain.n_force_evaluations.sum()


def test_the_command_says_how_near_runs_err_to_their_tolerance(monkeypatch, capsys):
    monkeypatch.setattr(kept_tolerances, "FAMILIES", ["two_body_massless", "kozai_triple"])
    monkeypatch.setattr(kept_tolerances, "TOLERANCES", (1e-6,))
    kept_tolerances.main(4, 1)
    lines = capsys.readouterr().out.splitlines()[2:]
    assert [line.split()[0] for line in lines] == ["two_body_massless", "kozai_triple", "all"]
    assert all(line.split()[-2] == "100.0%" for line in lines)
    assert all(1 <= float(line.split()[-1]) < 3 for line in lines)
    made = kept_tolerances.Kept(np.array([[0.5, 2.0], [0.2, 20.0]]), np.ones((2, 2)))
    assert made.line().split() == ["50%", "75%", "1.2", "25.0%"]


SYSTEMS = {
    "three bodies": lambda: random_states(2, 2, 3, G=1.7),
    "a softened one": lambda: random_states(3, 2, 3, softening=0.2),
    "a moving field": lambda: random_states(
        5, 2, 3, 3, field=TidalField(3.0, (4.0, 1.0, -2.0), (-0.5, 0.2, 0.1))
    ),
    "two": lambda: scenarios.make("kepler", eccentricity=0.9),
}


@pytest.mark.parametrize("name", SYSTEMS)
def test_both_engines_spend_alike(name):
    one, other = (
        simulate(SYSTEMS[name](), 3.0, tolerance=1e-4, engine=engine, **AIM)
        for engine in ("compiled", "torch")
    )
    assert np.abs(one.summary["n_steps"] - other.summary["n_steps"]).max() <= 1
    assert other.final.position == pytest.approx(one.final.position, abs=1e-4)
    ours, theirs = (np.log10(np.maximum(error(each), 1e-3)) for each in (one, other))
    assert ours == pytest.approx(theirs, abs=0.3)


@pytest.mark.parametrize("many", [1, 3])
def test_of_a_batch_each_has_its_own_budget(many):
    state, tolerance = random_states(2, 3, 3), np.array([1e-4, 1e-6, 1e-8])
    t_end = np.array([1.0, 4.0, 9.0])
    batch = simulate(state, t_end, tolerance=tolerance, **AIM)
    for b in range(3)[:many]:
        single = simulate(state.select([b]), t_end[b], tolerance=tolerance[b], **AIM)
        assert np.array_equal(single.final.position[0], batch.final.position[b])


def test_output_times_change_no_step():
    times = np.linspace(0, 6.0, 25)
    made = simulate(eight(), 6.0, tolerance=1e-8, **AIM | {"record": times})
    assert np.array_equal(
        made.final.position, simulate(eight(), 6.0, tolerance=1e-8, **AIM).final.position
    )


def after(n):
    """Stop at the n-th time of asking."""
    calls = itertools.count(1)
    return lambda: next(calls) >= n


@ENGINES
@pytest.mark.filterwarnings("ignore:.*did not reach")
def test_an_interruption_leaves_no_trace_and_a_later_end_is_refused(engine, tmp_path, monkeypatch):
    monkeypatch.setattr("nbcore.simulation.compiled_engine.FIRST_PAIRS", 18)
    monkeypatch.setattr("nbcore.simulation.compiled_engine.MOST_QUOTA", 2)
    path, given = tmp_path / "run.zarr", {"tolerance": 1e-9, "engine": engine, **AIM}
    stopped = simulate(eight(), 9.0, path=path, stop=after(3), **given)
    assert stopped.status is Status.INTERRUPTED
    made, whole = simulate(resume=path), simulate(eight(), 9.0, **given)
    assert made.about["keep"] == "aim"
    assert made.n_steps == whole.n_steps
    assert np.array_equal(made.final.position, whole.final.position)
    with pytest.raises(InputError, match="was begun with t_end"):
        simulate(resume=path, t_end=12.0)
    other = tmp_path / "other.zarr"
    simulate(eight(), 1.0, path=other, **{**given, "keep": None})
    with pytest.raises(InputError, match="was begun with keep = None, not aim"):
        simulate(resume=other, keep="aim")


@pytest.mark.parametrize(
    "given", [{"integrator": "auto"}, {"integrator": Extrapolation(columns=6)}]
)
def test_who_leaves_the_method_to_the_run_gets_one_that_keeps_to_it(given):
    made = simulate(scenarios.make("planetary_system", seed=1), 30.0, **AIM | given)
    assert made.about["keep"] == "aim"
    assert made.integrator.startswith(("gbs", "extrapolation with 6"))
    assert 0.01 < error(made).max() < 10


def test_a_configuration_asks_for_it():
    settings = {"scenario": {"source": "figure_eight"}, "integrator": "gbs", "policy": "auto"}
    made = setup(Config(simulate={**settings, "keep": "aim", "t_end": 1.0}).simulate).run()
    assert made.about["keep"] == "aim"


REFUSED = {
    "is unknown; did you mean 'aim'": {"keep": "aims"},
    "steps of 'suzuki4' are chosen without a look": {"policy": FixedStep(0.1), "integrator": None},
    "follow is False": {"follow": False},
    "a run without an end": {"t_end": math.inf, "max_steps": 5},
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_can_keep_to_nothing_is_refused(words):
    given = {"t_end": 1.0, "policy": None, **AIM, **REFUSED[words]}
    t_end, policy = given.pop("t_end"), given.pop("policy")
    for refuses in (simulate, check):
        with pytest.raises(InputError, match=words):
            refuses(eight(), t_end, policy, **given)


@pytest.mark.filterwarnings("ignore:.*did not reach")
def test_a_run_goes_on_by_a_law_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr("nbcore.simulation.compiled_engine.FIRST_PAIRS", 18)
    monkeypatch.setattr("nbcore.simulation.compiled_engine.MOST_QUOTA", 2)
    policy = OwnStep(law=LAW._replace(goal=0.01))
    given = {"tolerance": 1e-7, **AIM | {"record": 1}}
    path = tmp_path / "own.zarr"
    stopped = simulate(eight(), 9.0, policy, path=path, stop=after(3), **given)
    assert stopped.status is Status.INTERRUPTED
    made, whole = simulate(resume=path), simulate(eight(), 9.0, policy, **given)
    assert np.array_equal(made.final.position, whole.final.position)
    assert made.n_steps > simulate(eight(), 9.0, **given).n_steps
    with pytest.raises(InputError, match="policy"):
        simulate(eight(), 9.0, OwnStep(), resume=path)
