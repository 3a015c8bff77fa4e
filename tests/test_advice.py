"""What is said of runs beforehand, beside the runs themselves."""

import numpy as np
import pytest
from typer.testing import CliRunner

import nbcore as nb
from nbcore.analysis import advised, forecasts
from nbcore.analysis.families import problem
from nbcore.errors import InputError
from nbcore.physics import scenarios
from nbcore.runs import cli
from nbcore.simulation import advice as told
from nbcore.simulation.advice import advise
from nbcore.simulation.forecasts import laws
from nbcore.simulation.passes import errors_of
from nbcore.simulation.simulate import simulate

AIM, OWN = {"integrator": "gbs", "keep": "aim"}, {"integrator": "gbs"}
FIXED = {"policy": nb.FixedStep(0.01), "integrator": "leapfrog"}


def pair():
    return scenarios.make("kepler", eccentricity=0.5)


def only(state, t_end, tolerance, method, **options):
    """What is said of one method, and the run itself."""
    found = advise(state, t_end, tolerance, methods=[method], **options)
    return found.methods[0], found.run()


@pytest.mark.parametrize("method", [AIM, OWN, {"policy": "default"}, FIXED], ids=str)
def test_evaluations_of_a_regular_run_are_known_beforehand(method):
    method, run = only(pair(), 300.0, 1e-8, method)
    assert 1 / 1.5 < run.n_force_evaluations / method.evaluations < 1.5


def test_equal_steps_are_counted_to_a_percent():
    method, run = only(pair(), 100.0, 1e-6, FIXED)
    assert method.evaluations == pytest.approx(run.n_force_evaluations, rel=0.01)


def test_the_error_of_a_long_run_that_aims_is_its_tolerance():
    method, run = only(pair(), 300.0, 1e-8, AIM)
    assert method.low <= method.error <= method.high
    assert 1 / 3 < errors_of(run)[0] / method.error < 3
    assert method.error == pytest.approx(1e-8, rel=1)


def test_steps_that_heed_no_tolerance_are_told_by_what_they_err_by():
    method, run = only(pair(), 300.0, 1e-12, FIXED)
    assert 1 / 10 < errors_of(run)[0] / method.error < 10
    assert not method.meets
    assert "tolerances" in method.why


def test_a_pilot_makes_at_most_a_tenth_of_the_run(monkeypatch):
    made = []

    def counted(*given, **options):
        run = simulate(*given, **options)
        made.append(float(run.final.time.max()))
        return run

    monkeypatch.setattr("nbcore.simulation.pilots.simulate", counted)
    advise(pair(), 300.0, 1e-6, methods=[AIM])
    assert 0.05 * 300 < max(made) < 0.11 * 300


def test_methods_that_meet_the_tolerance_come_first_by_their_time():
    found = advise(pair(), 100.0, 1e-6)
    rows = [(not each.runs, not each.meets) for each in found.methods]
    assert rows == sorted(rows)
    times = [each.seconds for each in found.methods if each.meets]
    assert times == sorted(times)


def test_the_best_is_what_simulate_takes():
    state = pair()
    found = advise(state, 20.0, 1e-6)
    run = simulate(state, 20.0, **found.best)
    assert run.status == nb.Status.SUCCESS
    assert run.tolerance == 1e-6
    assert found.run(record="ends").n_force_evaluations == run.n_force_evaluations


def test_a_method_that_can_not_take_the_system_says_why():
    found = advise("figure_eight", 20.0, 1e-6, methods=[{"integrator": "wisdom_holman"}, AIM])
    refused = found.methods[-1]
    assert not refused.runs
    assert "planets about a star" in refused.why
    assert "wisdom_holman" in str(found)
    assert refused.why.partition(";")[0] in str(found)


def test_two_names_of_one_method_are_one_row():
    found = advise(pair(), 20.0, 1e-6, methods=[AIM, OWN, {"policy": "auto", "integrator": "gbs"}])
    assert len(found.methods) == 2


def test_a_batch_is_told_all_together():
    state = scenarios.make("kepler_orbits", n_systems=3, eccentricity=0.5, seed=1)
    method, run = only(state, 100.0, [1e-6, 1e-8, 1e-10], OWN)
    assert 1 / 1.5 < run.n_force_evaluations.sum() / method.evaluations < 1.5
    assert method.worst >= method.error


@pytest.mark.filterwarnings("ignore:.*did not reach t_end")
def test_a_run_that_ends_by_itself_is_known_to_the_last_evaluation():
    state = scenarios.make("kepler", eccentricity=0.9)  # from the apocentre
    method, run = only(state, 1000.0, 1e-6, OWN, collision_distance=0.5)
    assert run.status == nb.Status.COLLISION
    assert method.evaluations == run.n_force_evaluations
    assert method.error == errors_of(run)[0]


@pytest.mark.filterwarnings("ignore:.*did not reach t_end")
def test_most_steps_are_the_end_of_a_run():
    method, run = only(pair(), 1e6, 1e-6, FIXED, max_steps=2000)
    assert method.evaluations == pytest.approx(run.n_force_evaluations, rel=0.01)


def test_it_reads_as_a_table():
    found = advise(pair(), 20.0, 1e-6, methods=[AIM, OWN])
    headline, _, head, *rows = str(found).splitlines()
    assert headline.startswith(found.methods[0].name)
    assert "force evaluations, error about" in headline
    assert head.split()[:2] == ["method", "time"]
    assert len(rows) == 2
    assert "<table>" in found._repr_html_()
    table = found.to_pandas()
    assert list(table["method"]) == [each.name for each in found.methods]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.0034, "3.4 ms"), (0.8, "800 ms"), (90.0, "90 s"), (7300.0, "2 h"), (1e6, "12 days")],
)
def test_times_are_told_in_two_digits(seconds, words):
    assert told._duration(seconds) == words


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"t_end": np.inf}, "t_end is inf"),
        ({"t_end": -1.0}, "t_end must be later"),
        ({"tolerance": 2.0}, "tolerance is 2.0"),
        ({"methods": []}, "methods are none"),
        ({"methods": ["gbs"]}, "a method is 'gbs'"),
        ({"methods": [{"integrater": "gbs"}]}, "did you mean 'integrator'"),
        ({"methods": [{"integrator": "gbz"}]}, "no method can make the run: .*'gbz'"),
        ({"engine": "compild"}, "did you mean 'compiled'"),
        ({"max_steps": 1.5}, "max_steps is 1.5"),
    ],
)
def test_what_can_not_be_used_is_named(given, words):
    with pytest.raises(InputError, match=words):
        advise(**{"state": pair(), "t_end": 10.0, "tolerance": 1e-6, "methods": [OWN], **given})


def test_an_interrupt_ends_it(monkeypatch):
    """A pilot that was interrupted is no run to tell anything by."""

    def interrupted(*given, **options):
        run = simulate(*given, **options)
        run.summary["status"][:] = nb.Status.INTERRUPTED
        return run

    monkeypatch.setattr("nbcore.simulation.pilots.simulate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        advise(pair(), 1e6, 1e-6, methods=[OWN])


# The command


@pytest.fixture
def ask(tmp_path, monkeypatch):
    """Call `nbcore advise` in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(*settings):
        given = [part for each in settings for part in ("--set", each)]
        return CliRunner().invoke(cli.app, ["advise", *given])

    return call


def test_the_command_prints_the_table_and_stores_nothing(ask, tmp_path):
    (tmp_path / "mine.csv").write_text("1, 0.5, 0, 0, 0.6\n1, -0.5, 0, 0, -0.6\n")
    found = ask("simulate.scenario.source=mine.csv", "simulate.policy=boekholt")
    assert found.exit_code == 0, found.output
    assert 'gbs, keep="aim"' in found.stdout
    assert "boekholt" in found.stdout  # what is configured is among them
    assert [each.name for each in tmp_path.iterdir()] == ["mine.csv"]


def test_the_command_refuses_what_it_does_not_know(ask):
    found = ask("simulate.polcy=default")
    assert found.exit_code == 2
    assert "did you mean 'simulate.policy'" in found.stderr


def test_the_command_refuses_a_run_without_an_end(ask):
    found = ask("simulate.t_end=inf", "simulate.max_steps=100")
    assert found.exit_code == 2
    assert "give t_end" in found.stderr


# Laws, and how far they are off


def test_laws_are_of_all_kinds_of_methods():
    assert set(laws()) == set(forecasts.KINDS)
    for law in laws().values():
        assert law.low < 0 < law.high


def test_a_law_finds_the_powers_that_errors_follow():
    rng = np.random.default_rng(1)
    x = np.column_stack([np.ones(200), rng.normal(size=200)])
    y = x @ [0.5, 2.0] + 0.01 * rng.normal(size=200)
    y[:20] += 5  # which weigh little
    known = forecasts.Known(np.repeat("a", 200), x, y, np.full(200, 0.1))
    law = forecasts.law_of(known)
    assert law.error == pytest.approx([0.5, 2.0], abs=0.02)
    assert law.evaluations == pytest.approx(0.1)


def test_advice_is_judged_by_the_runs_themselves():
    at = problem("two_body_e50", "held_out", 2)
    off = advised.judged(at, AIM, 1e-6)
    assert off.shape == (2, 5)
    assert np.isfinite(off).all()
    three = problem("three_body_planar", "held_out", 2)
    assert len(advised.judged(three, {"integrator": "wisdom_holman"}, 1e-6)) == 0
    assert advised.line("here", np.zeros((4, 5))).split()[1:4] == ["4", "100%", "100%"]
