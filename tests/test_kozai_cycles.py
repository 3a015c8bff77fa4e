import numpy as np
import pytest

from nbcore.analysis import kozai_cycles
from nbcore.analysis.kozai_cycles import Judge, Run, Runs, Verdict, summed_up
from nbcore.analysis.triples import TRIPLES, inner_orbit, maxima, triples
from nbcore.physics import scenarios
from nbcore.physics.orbits import two_body_period
from nbcore.physics.state import State
from nbcore.simulation.simulate import simulate


def test_maxima_are_told_from_ripples_and_cut_off_ones_are_left_out():
    time = np.linspace(0, 55, 5501)
    slow = 0.5 - 0.4 * np.cos(2 * np.pi * (time - 5) / 10)  # largest at 0, 10, 20 …
    e = slow + 0.05 * np.cos(2 * np.pi * time / 0.7)
    found = maxima(time, e, 0.42, 0.58)
    assert found.time == pytest.approx([10, 20, 30, 40, 50], abs=0.35)
    assert found.waits == pytest.approx([10] * 4, abs=0.7)
    assert found.height == pytest.approx([0.95] * 5, abs=0.01)
    assert len(maxima(time, 0.1 * e, 0.42, 0.58).time) == 0


def test_the_inner_orbit_is_that_of_the_scenario():
    state = triples()
    for k, asked in enumerate(TRIPLES.values()):
        e, tilt = inner_orbit(*(each[k] for each in (state.mass, *_one_record(state))))
        assert e == pytest.approx([asked.get("inner_eccentricity", 0.1)])
        assert tilt == pytest.approx([asked["mutual_inclination"]])


def _one_record(state):
    return state.position[:, None], state.velocity[:, None]


@pytest.mark.filterwarnings("ignore:the orbit of body")
def test_a_test_planet_reaches_the_eccentricity_of_kozai():
    """To the order of the quadrupole e² reaches 1 − 5/3 cos² i, from a circular orbit."""
    start = scenarios.make(
        "hierarchical_triple", outer_semi_major_axis=20.0, mutual_inclination=60.0
    )
    pair = State.from_arrays(*(x[0, :2] for x in (start.mass, start.position, start.velocity)))
    times = np.arange(0, 20_000, 20) * float(two_body_period(pair)[0])
    run = simulate(start, times[-1], integrator="gbs", tolerance=1e-8, record=times)
    e, tilt = inner_orbit(start.mass[0], run.position, run.velocity)
    assert e.max() == pytest.approx(np.sqrt(1 - 5 / 3 * 0.25), rel=0.02)
    # What is kept: the planet's angular momentum along that of the outer orbit.
    along = np.sqrt(1 - e**2) * np.cos(np.radians(tilt))
    assert along == pytest.approx(np.full_like(along, 0.5), abs=0.02)


def made(energy, method="a rule", keeps=True):
    n = len(energy)
    time = np.arange(n, dtype=float)
    e = 0.5 - 0.4 * np.cos(2 * np.pi * time / 20)
    places = np.zeros((n, 3, 3)) + np.arange(3)[:, None]
    return Run(method, keeps, time, energy, e, 50 * e, places, 100.0, energy.max(), 1e-3)


def test_growth_is_over_the_first_cycles_and_a_drift_is_named():
    steady = made(np.full(4000, 1e-6))
    judge = Judge(steady)
    assert len(judge.cycles.time) == 200
    drifting = made(np.linspace(1e-7, 4e-6, 4000))
    assert judge.growths(steady) == [1, 1, 1]
    first, ten, hundred = judge.growths(drifting)
    assert hundred == pytest.approx(2, rel=0.05)
    assert first > ten > hundred
    verdicts = [
        Verdict(
            title, run.method, run.keeps, [*judge.growths(run)[:2], growth], judge.apart(steady)
        )
        for title, run, growth in (("one", steady, 1.0), ("other", drifting, 2.1))
    ]
    assert "(the last beyond 2: other)" in summed_up(verdicts)[0]
    assert "(beyond 3: none)" in summed_up(verdicts)[0]


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:the orbit of body", "ignore:the energy was off")
@pytest.mark.filterwarnings("ignore:.* systems missed their tolerance")
def test_every_method_finds_the_cycles_of_the_reference_and_a_table_says_so(capsys):
    kozai_cycles.main(5000, (1e-8,))
    told = capsys.readouterr().out
    assert told.count("| reference |") == len(TRIPLES)
    runs = Runs(2000)
    judge = Judge(runs.truth[0])
    for made_by in runs.at(1e-8):
        found = made_by[0].cycles(judge.levels)
        # Half a record's distance from the truth, or less.
        assert found.time == pytest.approx(judge.cycles.time, abs=1.5)
        assert len(found.time) > 3
