import pytest

import nbcore as nb
from nbcore.physics.integrators import INTEGRATORS
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


def test_criteria_cite_their_laws():
    known = {
        name
        for name, row in CRITERIA.items()
        if references_of(row.pair or row.body or row.time_scale)
    }
    assert known == set(CRITERIA) - {"free_fall"}
