from functools import partial

import pytest

import nbcore as nb
from nbcore.physics import scenarios
from nbcore.physics.integrators import INTEGRATORS, Splitting
from nbcore.simulation.citations import references_of
from nbcore.simulation.trajectory import Trajectory
from nbcore.stepping.criteria import CRITERIA


@pytest.mark.parametrize("name", INTEGRATORS)
def test_every_integrator_has_a_reference(name):
    (reference,) = references_of(INTEGRATORS[name])
    assert any(str(year) in reference for year in range(1960, 2030))


def test_a_run_says_what_to_cite():
    run = nb.simulate("pythagorean", 0.1, "aarseth85", integrator="kahan_li6")
    assert run.cite().splitlines() == [
        f"AITimeStepper {nb.__version__}, see its CITATION.cff",
        "Kahan & Li (1997), Math. Comp. 66, 1089",
        "Aarseth (1985), in Multiple Time Scales, p. 377",
        "Burrau (1913); Szebehely & Peters (1967), AJ 72, 876",
    ]


def test_a_learned_run_cites_its_rates_and_its_control_and_so_it_does_when_read_back(tmp_path):
    run = nb.simulate("figure_eight", 0.5)
    for words in ("Blanes & Moan", "Holder, Leimkuhler", "Boekholt", "Chenciner"):
        assert words in run.cite()
    assert Trajectory.load(run.save(tmp_path / "run.zarr")).cite() == run.cite()


def test_what_has_no_source_is_left_out():
    state = nb.State.from_arrays([1, 1], [[-1, 0], [1, 0]], [[0, -0.3], [0, 0.3]])
    run = nb.simulate(state, 0.1, nb.FixedStep(0.05), integrator="leapfrog")
    assert len(run.cite().splitlines()) == 2


@pytest.mark.parametrize("name", CRITERIA)
def test_a_criterion_cites_what_its_law_names(name):
    row = CRITERIA[name]
    law = row.pair or row.body or row.time_scale
    assert bool(references_of(law)) == ("References" in (law.__doc__ or ""))


def cited(*arguments, **named):
    """What a run cites beside this package."""
    return nb.simulate(*arguments, **named).cite().splitlines()[1:]


def boekholt(state):
    """Time scale of one's own that is called like one in the table.

    References
    ----------
    Own (2024), criterion.
    """
    return 0 * state.time + 1


class leapfrog:
    """Integrator of one's own that is called so.

    References
    ----------
    Own (2024), integrator.
    """

    order, evaluations, evaluations_at_start, reversible = 1, 0, 1, False

    def step(self, state, dt, errors=None):
        position = state.position + dt[:, None, None] * state.velocity
        return state.replace(position=position, time=state.time + dt, acceleration=None)


class Trap:
    """Field of one's own.

    References
    ----------
    Own (2024), field.
    """

    moving = False

    def acceleration(self, position, time, G):
        return -position

    def potential_energy(self, position, mass, time, G):
        return (mass * position.square().sum(-1)).sum(-1) / 2


def pythagorean():
    """Scenario of one's own that is called so."""
    return [1, 1], [[-1, 0], [1, 0]], [[0, -0.3], [0, 0.3]]


def test_methods_of_one_s_own_are_cited_as_they_say_and_not_by_their_names(tmp_path):
    state = nb.State.from_arrays(*pythagorean(), field=Trap())
    run = nb.simulate(state, 0.1, nb.Criterion(boekholt, eta=0.05), integrator=leapfrog())
    own = [f"Own (2024), {what}" for what in ("integrator", "criterion", "field")]
    assert run.cite().splitlines()[1:] == own
    with pytest.warns(RuntimeWarning, match="only the name is stored"):
        path = run.save(tmp_path / "run.zarr")
    assert Trajectory.load(path).cite() == run.cite()
    verlet = ["Verlet (1967), Phys. Rev. 159, 98"]
    assert cited(pythagorean, 0.1, nb.FixedStep(0.05), integrator="leapfrog") == verlet
    rule = partial(lambda law, state, tolerance: 0.05, boekholt)
    assert cited(pythagorean, 0.1, rule, integrator="leapfrog") == verlet


def weighed(weight, state, tolerance=None):
    """Rule or time scale of one's own that takes a number of its own.

    References
    ----------
    Own (2024), weighed.
    """
    return weight + 0 * state.time


@pytest.mark.parametrize(
    "policy", [nb.Criterion(partial(weighed, 1.0), eta=0.05), partial(weighed, 0.05)]
)
def test_a_partial_is_cited_as_its_function(policy):
    own = cited(pythagorean, 0.1, policy, integrator="leapfrog")
    assert own == ["Verlet (1967), Phys. Rev. 159, 98", "Own (2024), weighed"]


def test_coefficients_are_cited_by_their_reference_or_as_those_in_the_table():
    for reference, expected in (("Own (2024)", "Own (2024)"), ("", "Verlet (1967), ")):
        given = Splitting(2, (0.5, 0.5), (1.0,), reference)
        (found,) = cited(pythagorean, 0.1, nb.FixedStep(0.05), integrator=given)
        assert found.startswith(expected)


def test_a_run_that_was_stored_without_references_says_so():
    run = nb.simulate("pythagorean", 0.1, "aarseth85")
    del run.about["references"]
    assert run.cite().splitlines()[1:] == [
        "(no references were stored with this run; see those of 'suzuki4', 'aarseth85', "
        "'pythagorean')"
    ]


def test_a_partial_of_a_known_scenario_is_cited_as_that():
    table = nb.simulate("pythagorean", 0.1).cite()
    known = partial(scenarios.SCENARIOS["pythagorean"])
    assert nb.simulate(known, 0.1).cite() == table
