"""What was learned beside what was there before: steps at equal cost, budgets by their errors."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd

from nbcore.config import Config, Training
from nbcore.errors import InputError
from nbcore.learning.systems import training_problems
from nbcore.physics.arrays import to_numpy
from nbcore.physics.extrapolation import Extrapolation
from nbcore.physics.integrators import get_integrator
from nbcore.physics.wisdom_holman import WisdomHolman
from nbcore.simulation.passes import errors_of
from nbcore.simulation.setup import Setup
from nbcore.simulation.simulate import simulate
from nbcore.simulation.status import Status
from nbcore.simulation.trajectory import Trajectory
from nbcore.stepping.criteria import AnyCriterion, get_criterion, name_of
from nbcore.stepping.policies import Criterion, FixedStep, LearnedPolicy, OwnStep, Policy
from nbcore.stepping.suites import Suite

__all__ = ["as_text", "at_equal_cost", "budgets", "headline", "of_training", "runs_by_budgets"]

FIRST_ETA = 0.1
COMPOSED = "blanes_moan6"
PLAIN, SHIPPED, OWN = "gbs", "gbs, keep='aim'", "the same by the law learned"
MOST_SYSTEMS = 64  # of each number of bodies


def at_equal_cost(
    setup: Setup,
    criteria: Sequence[AnyCriterion],
    tuning_runs: int = 3,
    mine: Trajectory | None = None,
) -> pd.DataFrame:
    """Run a policy, and classical rules tuned to the same force evaluations, system by system.

    All with the integrator and the way to step of the policy; beside one that chooses its own steps
    the rules step `COMPOSED`, at the same cost.

    The number of steps goes as 1/η, so η of each system is multiplied by the ratio of the costs
    after each run. A fixed step is the run's length over as many steps as the policy took.

    Parameters
    ----------
    setup
        The run with the policy to compare.
    criteria
        Classical criteria, by name or as `nb.Criterion` takes them.
    tuning_runs
        Runs in which η is adapted, each with the η that the one before suggests; the last counts.
    mine
        The setup's own run, if it was made already.

    Returns
    -------
    DataFrame with a row a method: median, p10, p90 of the maximum energy error; median final
    energy error; median force evaluations; median ratio of the cost to the policy's; number of
    systems that did not reach the end, whose error counts as infinite.
    """
    for each in criteria:
        get_criterion(each)
    mine = mine or setup.run(record="ends", progress=False)
    # An orbit that is lost can end in a binary so tight that the run would take for ever.
    limit = 4 * int(mine.summary["n_steps"].max()) + 100
    rows = [_row(str(setup.policy), mine, mine)]
    chosen = setup.options.get("integrator")
    integrator = mine.integrator if chosen in (None, "auto") else chosen
    if isinstance(get_integrator(integrator), (Extrapolation, WisdomHolman)):
        integrator = COMPOSED

    def other(policy: Policy) -> Trajectory:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # the table counts what is lost
            return setup.with_policy(policy).run(
                record="ends",
                progress=False,
                max_steps=limit,
                integrator=integrator,
                stepping=mine.stepping,
                keep=None,
            )

    cost = mine.summary["n_force_evaluations"].astype(float)
    for each in criteria:
        eta, run = np.full_like(cost, FIRST_ETA), None
        for k in range(tuning_runs):
            run = other(Criterion(each, eta))
            if k + 1 < tuning_runs:
                spent = run.summary["n_force_evaluations"].astype(float)
                ratio = spent / cost
                eta = eta * ratio ** (1 / get_criterion(each).eta_power)
        assert run is not None
        rows.append(_row(name_of(each), run, mine))
    steps = np.floor((cost - 1) / get_integrator(integrator).evaluations).clip(min=1)
    span = to_numpy(setup.t_end) - to_numpy(setup.state.time)
    rows.append(_row("fixed step", other(FixedStep(span / steps)), mine))
    return pd.DataFrame(rows).set_index("method")


def of_training(config: Config, policy: LearnedPolicy | Suite | OwnStep) -> pd.DataFrame:
    """What a training bought, on other systems of its kind.

    Steps are set beside classical rules, at a tolerance in the middle of those of the training
    (`at_equal_cost`); the law of a budget beside the shipped one (`budgets`).
    """
    if isinstance(policy, OwnStep):
        return budgets(runs_by_budgets(config.train, policy))
    low, high = config.train.tolerances
    others = training_problems(config.train, "held_out")[0]
    setup = Setup(others.state, others.t_end, policy, {"tolerance": (low * high) ** 0.5})
    return at_equal_cost(setup, config.compare.criteria, config.compare.tuning_runs)


def runs_by_budgets(config: Training, policy: OwnStep) -> pd.DataFrame:
    """Run other systems of a training's kind by gbs as it is, by the shipped law and by its own.

    Returns
    -------
    DataFrame with a row a run: method; tolerance, the ends and the middle of those of the
    training; error, the largest of the energy or of a body's orbit, over the tolerance; evaluations
    of the forces.
    """
    low, high = config.tolerances
    ways = {PLAIN: (OwnStep(), None), SHIPPED: (OwnStep(), "aim"), OWN: (policy, "aim")}
    parts = []
    for at in training_problems(config, "held_out"):
        some = at.select(slice(MOST_SYSTEMS))
        for tolerance in sorted({low, (low * high) ** 0.5, high}):
            for method, (rule, keep) in ways.items():
                how = {"tolerance": tolerance, "keep": keep, "record": "ends"}
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", RuntimeWarning)  # the table tells
                    run = simulate(some.state, some.t_end, rule, integrator="gbs", **how)
                own = {"method": method, "tolerance": tolerance}
                evaluations = run.summary["n_force_evaluations"].astype(float)
                row = {**own, "error": errors_of(run) / tolerance, "evaluations": evaluations}
                parts.append(pd.DataFrame(row))
    return pd.concat(parts, ignore_index=True)


def budgets(runs: pd.DataFrame) -> pd.DataFrame:
    """Sum up runs by budgets (`runs_by_budgets`).

    Returns
    -------
    DataFrame with a row a method: shares of the runs that err by their tolerance within a factor
    of 3 and of 10; median, p10, p90 of error over tolerance; median of the evaluations, and of
    their ratio to those of gbs as it is.
    """
    plain = runs.loc[runs["method"] == PLAIN, "evaluations"].to_numpy()
    rows = []
    for method, some in runs.groupby("method", sort=False):
        error, evaluations = some["error"].to_numpy(), some["evaluations"].to_numpy()
        off = np.abs(np.log10(np.maximum(error, 1e-300)))
        p10, median, p90 = np.quantile(error, (0.1, 0.5, 0.9), method="inverted_cdf")
        rows.append(
            {
                "method": method,
                "within_3": float(np.mean(off < np.log10(3))),
                "within_10": float(np.mean(off < 1)),
                "median": float(median),
                "p10": float(p10),
                "p90": float(p90),
                "evaluations": int(np.median(evaluations)),
                "cost_ratio": float(np.median(evaluations / plain)),
            }
        )
    return pd.DataFrame(rows).set_index("method")


def headline(table: pd.DataFrame) -> str:
    """Say in a sentence what the first method of a comparison bought."""
    if len(table) < 3:
        raise InputError("the comparison has no classical criterion; name one in compare.criteria")
    methods, error = list(table.index), table["median"].to_numpy()
    best = 1 + int(error[1:-1].argmin())
    return (
        f"At equal force evaluations the median of the maximum energy error is {error[0]:.1e} with "
        f"the policy '{methods[0]}', {error[best]:.1e} with the best classical criterion "
        f"({methods[best]}), and {error[-1]:.1e} with a fixed step."
    )


def as_text(table: pd.DataFrame) -> str:
    """Write a comparison for a terminal: errors in two digits, costs in whole evaluations."""
    short = dict.fromkeys(("median", "p10", "p90", "final"), "{:.1e}".format)
    shares = dict.fromkeys(("within_3", "within_10"), "{:.0%}".format)
    return table.to_string(formatters={**short, **shares, "cost_ratio": "{:.2f}".format})


def _row(method: str, run: Trajectory, mine: Trajectory) -> dict[str, float | int | str]:
    lost = run.summary["status"] != Status.SUCCESS
    error = np.where(lost, np.inf, run.summary["max_energy_error"])
    last = run.n_records - 1
    final = np.asarray(run.arrays["energy_error"])[np.arange(len(last)), last]
    evaluations = run.summary["n_force_evaluations"]
    p10, median, p90 = np.quantile(error, (0.1, 0.5, 0.9), method="inverted_cdf")
    return {
        "method": method,
        "median": float(median),
        "p10": float(p10),
        "p90": float(p90),
        "final": float(np.median(np.where(lost, np.inf, final))),
        "evaluations": int(np.median(evaluations)),
        "cost_ratio": float(np.median(evaluations / mine.summary["n_force_evaluations"])),
        "lost": int(lost.sum()),
    }
