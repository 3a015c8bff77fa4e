import matplotlib.pyplot as plt
import numpy as np
import pytest

import nbcore as nb
from nbcore.config import Network
from nbcore.views import lessons


@pytest.fixture
def ax():
    figure, ax = plt.subplots()
    yield ax
    plt.close(figure)


def test_steps_of_a_criterion_are_level_at_its_eta(ax):
    state = nb.scenarios.make("kepler", eccentricity=0.6)
    run = nb.simulate(state, 3.0, nb.Criterion("free_fall", 0.1), integrator="suzuki4")
    _, curve, *_ = lessons.steps_beside_time_scales(run, ax)
    # The step that led to a state was chosen at the state before it.
    assert curve.get_ydata()[:-1] == pytest.approx(np.full(len(run.time) - 2, 0.1), rel=0.5)
    assert ax.get_ylabel() == "dt / τ"


def test_an_untrained_policy_steps_along_an_orbit_as_its_law_says(ax):
    policy = nb.load_policy("default").members[0]
    fresh = nb.make_policy(nb.load_config().network, "blanes_moan4")
    first, second, *_ = lessons.steps_on_an_orbit(fresh, ax, tolerances=(1e-4, 1e-8))
    ratio = first.get_ydata() / second.get_ydata()
    assert ratio == pytest.approx(np.full(len(ratio), 10.0))
    distance = first.get_xdata()
    assert (distance.min(), distance.max()) == pytest.approx((0.1, 1.9), rel=1e-3)
    slope = np.diff(np.log(first.get_ydata())) / np.diff(np.log(distance))
    assert (slope > 1.4).all()
    ax.clear()
    assert len(lessons.steps_on_an_orbit(policy, ax)) == 5


def test_an_orbit_must_be_bound(ax):
    with pytest.raises(nb.InputError, match=r"eccentricity is 1\.0; it must lie between 0 and 1"):
        lessons.steps_on_an_orbit(nb.load_policy("default"), ax, eccentricity=1.0)


@pytest.fixture(scope="module")
def shipped():
    return nb.load_policy("default")


def test_the_map_of_an_untrained_policy_on_circles_is_one_colour(ax):
    policy = nb.make_policy(Network(), "blanes_moan4")
    (mesh,) = lessons.policy_map(policy, ax, 1e-5)
    decades = np.asarray(mesh.get_array()).reshape(lessons.MAP)
    assert np.ptp(decades[0]) < 1e-6  # e = 0: every phase is alike
    assert np.ptp(decades[-1]) > 0.1
    assert np.median(decades) == pytest.approx(0, abs=1e-6)


def test_the_calibration_of_a_suite_has_a_line_and_a_band_for_each_member(ax, shipped):
    lessons.calibration(shipped, ax)
    assert len(ax.collections) == len(ax.lines) == len(shipped.members)
    for line in ax.lines:
        np.testing.assert_array_equal(line.get_xdata(), line.get_ydata())


def test_a_policy_without_calibration_is_refused(ax):
    with pytest.raises(nb.InputError, match="not calibrated"):
        lessons.calibration(nb.make_policy(Network(), "leapfrog"), ax)
