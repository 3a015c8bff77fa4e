"""What is measured of close encounters: the systems, what they lose, and who is not taken."""

import numpy as np
import pytest

from nbcore.analysis.encounter_costs import Costs
from nbcore.analysis.meetings import NEAREST, meetings
from nbcore.analysis.planet_encounters import losses, refusal
from nbcore.simulation.simulate import simulate

QUIET = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@pytest.fixture(scope="module")
def comets():
    """The second is handed over at 1e-4; of four bodies, as other tests compile for."""
    return meetings("comet_giants", 2)


def test_a_visitor_passes_a_planet_within_a_hill_radius(comets):
    for at in comets:
        times = at.closest + np.linspace(-0.02, 0.02, 201) * at.period
        run = simulate(at.state, times[-1], integrator="gbs", tolerance=1e-11, record=times)
        apart = run.position[0, :, at.planet] - run.position[0, :, -1]
        apart = np.linalg.norm(apart, axis=1) / at.hill
        assert NEAREST[0] < apart.min() < NEAREST[1]
        assert times[apart.argmin()] == pytest.approx(at.closest, abs=1e-3 * at.period)


@QUIET
def test_orbits_lose_no_more_than_the_encounter_makes_of_the_tolerance(comets):
    found = losses(comets[1], 1e-4)
    assert 0 < found["handed"] < 0.5
    assert found["before"] < 1e-4
    assert found["before"] <= found["after"] < 10 * 1e-4 * found["amplified"]
    assert found["amplified"] > 10
    assert found["energy"] < 1e-4


@QUIET
def test_those_that_are_left_to_gbs_are_told(comets):
    assert refusal("comet_giants", 2) == ""
    assert "of its mass" in refusal("circumbinary", 1)
    assert refusal("planets_quiet", 2) == ""


@QUIET
@pytest.mark.long
def test_costs_are_those_of_the_same_error(comets):
    costs = Costs(comets[1:])
    found = costs.at(1e-4)
    errors, seconds = np.transpose(costs.gbs)
    assert errors[-1] < 1e-3 * errors[0] < 1e-3
    assert errors[-1] < found["position"] < errors[0]
    assert found["own"] > 0
    # Between what the neighbouring settings cost.
    assert seconds.min() <= found["gbs"] * found["own"] <= seconds.max()
