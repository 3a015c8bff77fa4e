"""Learned against classical steps at equal cost."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd

from nbcore.errors import InputError
from nbcore.physics.arrays import to_numpy
from nbcore.physics.integrators import get_integrator
from nbcore.simulation.setup import Setup
from nbcore.simulation.status import Status
from nbcore.simulation.trajectory import Trajectory
from nbcore.stepping.criteria import AnyCriterion, get_criterion, name_of
from nbcore.stepping.policies import Criterion, FixedStep, Policy

__all__ = ["as_text", "at_equal_cost", "headline"]

FIRST_ETA = 0.1


def at_equal_cost(
    setup: Setup,
    criteria: Sequence[AnyCriterion],
    tuning_runs: int = 3,
    mine: Trajectory | None = None,
) -> pd.DataFrame:
    """Run a policy, and classical rules tuned to the same force evaluations, system by system.

    All with the integrator and the way to step of the policy.

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

    def other(policy: Policy) -> Trajectory:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # the table counts what is lost
            return setup.with_policy(policy).run(
                record="ends",
                progress=False,
                max_steps=limit,
                integrator=integrator,
                stepping=mine.stepping,
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
    return table.to_string(formatters={**short, "cost_ratio": "{:.2f}".format})


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
