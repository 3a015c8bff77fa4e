"""What the choice of a method costs beside the best, and the laws that it is learned by."""

import math
import sys

import numpy as np
import pytest

import nbcore as nb
from nbcore.analysis import choices, choosing
from nbcore.analysis.choices import costs_of, judged, summary
from nbcore.physics import scenarios
from nbcore.simulation import choice
from nbcore.stepping.choosing import LAWS, Law, learned


def row(method, setting, system, evaluations, error, seconds=None, status="SUCCESS"):
    return {
        "method": method,
        "setting": setting,
        "system": system,
        "status": status,
        "n_force_evaluations": evaluations,
        "cpu_seconds": 1e-7 * evaluations if seconds is None else seconds,
        "max_energy_error": error,
        "max_body_error": error / 2,
    }


def test_costs_are_interpolated_between_errors_and_end_where_they_are_not_reached():
    rows = [row("gbs", 10.0**-k, b, 100 * k, 10.0**-k) for k in range(3, 8) for b in range(3)]
    rows.append(row("gbs", 1e-8, 0, math.inf, math.inf, 0.0, "MAX_STEPS"))
    found = costs_of([r for r in rows if r["setting"] > 1e-8], (1e-4, 1e-9))["gbs"]
    assert found[0] == pytest.approx(4e-5)
    assert np.isnan(found[1])


def test_an_evaluation_counts_as_it_does_in_the_median_so_that_one_timing_harms_nothing():
    rows = [row("gbs", 10.0**-k, 0, 100 * k, 10.0**-k) for k in range(3, 8)]
    rows[1]["cpu_seconds"] *= 10
    assert costs_of(rows, (1e-4,))["gbs"][0] == pytest.approx(4e-5)


def test_what_is_taken_is_set_beside_the_best_that_reaches_the_error():
    costs = {"gbs": np.array([2.0, 1, 1, np.nan]), "shipped": np.array([1.0, 3, 3, np.nan])}
    found = judged("some", costs, ["gbs", "gbs", "shipped", "gbs"])
    assert [each.ratio for each in found] == [2.0, 1.0, 3.0]
    assert found[0].best == "shipped"
    assert summary(found) == (
        "cost over the best: median 2.00, mean 2.000, worst 3.00, at most 1.10 in 33% of 3"
    )
    unreached = judged("some", {"gbs": np.array([1.0] * 4)}, ["shipped"] * 4)
    assert all(math.isinf(each.ratio) for each in unreached)


def test_the_command_measures_a_family(monkeypatch, capsys):
    monkeypatch.setattr(choices, "REPEATS", 1)
    monkeypatch.setattr(sys, "argv", ["choices", "two_body_e90", "--systems", "2"])
    choices.main()
    *lines, last = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["two_body_e90", error] for error in ("1e-04", "1e-06", "1e-08", "1e-10")
    ]
    assert last.startswith("cost over the best: median 1.")


def test_numbers_of_systems_know_no_units_no_frame_and_no_numbering():
    state = scenarios.make("planetary_system", seed=3, planet_mass=[1e-5, 1e-3])
    t_end = np.array([50.0])
    known = choice.seen(state, t_end, 1e-6)
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    order = [2, 0, 4, 1, 3]
    other = nb.State.from_arrays(
        7 * state.mass[0, order],
        2 * state.position[0, order] @ turn + 3.0,
        np.sqrt(7 / 2) * state.velocity[0, order] @ turn + 0.1,
    )
    again = choice.seen(other, t_end * np.sqrt(8 / 7), 1e-6)
    for name, value in known.numbers.items():
        assert value == pytest.approx(again.numbers[name], rel=1e-6, abs=1e-9), name


def test_runs_without_an_end_and_massless_bodies_have_numbers_too():
    state = nb.State.from_arrays([1.0, 0, 0], [[0, 0], [1, 0], [1, 0]], [[0, 0], [0, 1], [0, 1]])
    for t_end in (np.inf, 1.0):
        numbers = choice.seen(state.numpy(), np.array([t_end]), 1e-6, equal_steps=False).numbers
        assert all(np.isfinite(value).all() for value in numbers.values())


def test_a_law_goes_on_as_at_its_bounds():
    law = Law(np.array([0.0]), np.array([2.0]), np.array([1.0, 2.0, 3.0]))
    assert law.of(np.array([[0.0], [1.0], [2.0], [9.0]])) == pytest.approx([2, 1, 6, 6])


def test_the_laws_that_come_with_the_package_are_of_their_numbers():
    for name, law in learned().items():
        n = len(LAWS[name])
        assert law.low.shape == law.high.shape == (n,)
        assert law.coefficients.shape == ((n + 1) * (n + 2) // 2,)
        assert (law.low <= law.high).all()
        assert np.isfinite(law.coefficients).all()


def test_laws_are_learned_from_costs():
    # Extrapolation costs less below a tolerance that falls with the number of bodies.
    points = []
    for group in choosing.groups()[-20:]:
        n = np.log2(group.parameters["n_bodies"])
        costs = {"gbs": [1.0] * 10, "wisdom_holman": [np.nan] * 10}
        costs["shipped"] = [10 ** (-0.3 * (np.log10(e) + 2 + n)) for e in choosing.ERRORS]
        points += choosing.points_of(group, costs)
    costs = {"gbs": [1.0] * 10, "shipped": [9.0] * 10, "wisdom_holman": [0.1] * 10}
    quiet = [each for each in choosing.groups() if each.parameters.get("spacing") == 12.0]
    points += choosing.points_of(quiet[0], costs)
    found = choosing.ratios(points, choosing.fitted(points))
    assert np.mean([each.ratio <= 1.1 for each in found]) > 0.9
