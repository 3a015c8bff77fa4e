"""What a policy has learned: its steps beside classical time scales, and along an orbit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nbcore.analysis.comparison import runs_by_budgets
from nbcore.analysis.diagnostics import states_along
from nbcore.config import Config
from nbcore.errors import InputError
from nbcore.physics import scenarios
from nbcore.physics.arrays import to_numpy
from nbcore.physics.state import State
from nbcore.simulation.trajectory import Trajectory
from nbcore.stepping.criteria import AnyCriterion, get_criterion, name_of
from nbcore.stepping.policies import LearnedPolicy, OwnStep
from nbcore.stepping.suites import Suite
from nbcore.views.style import COLOURS, GREY, one_system

__all__ = [
    "calibration",
    "errors_by_budgets",
    "of_training",
    "policy_map",
    "steps_beside_time_scales",
    "steps_on_an_orbit",
]

CRITERIA = ("boekholt", "free_fall", "prs23")
MOST_RECORDS = 2000
PHASES = 400
MAP = (40, 60)  # eccentricities and phases


def of_training(
    config: Config,
    policy: LearnedPolicy | Suite | OwnStep,
    trajectory: Trajectory,
    figure: Figure,
) -> list[Artist]:
    """What a training taught: steps in classical time scales, and what else there is to see.

    Of a network its steps along an eccentric orbit, and where on orbits they are longer than a
    criterion's; of the law of a budget the errors that runs come to.

    Parameters
    ----------
    config
        Of the training.
    trajectory
        Of one system, stepped by the policy, with every step recorded.
    figure
        Empty.
    """
    if isinstance(policy, OwnStep):
        left, right = figure.subplots(1, 2)
        artists = steps_beside_time_scales(trajectory, left)
        return artists + errors_by_budgets(runs_by_budgets(config.train, policy), right)
    low, high = config.train.tolerances
    tolerance = (low * high) ** 0.5
    left, middle, right = figure.subplots(1, 3)
    artists = steps_beside_time_scales(trajectory, left)
    artists += steps_on_an_orbit(policy, middle, tolerances=sorted({low, tolerance, high}))
    return artists + policy_map(policy, right, tolerance)


def errors_by_budgets(runs: pd.DataFrame, ax: Axes) -> list[Artist]:
    """Share of the runs that err by less than so many tolerances, for each way to spend them.

    Parameters
    ----------
    runs
        From `nbcore.analysis.comparison.runs_by_budgets`.
    """
    artists: list[Artist] = [ax.axvspan(1 / 3, 3, color=GREY, alpha=0.2, label="within 3", lw=0)]
    for colour, (method, some) in zip(COLOURS, runs.groupby("method", sort=False), strict=False):
        error = np.sort(some["error"].to_numpy())
        share = np.arange(1, len(error) + 1) / len(error)
        artists += ax.step(error, share, where="post", color=colour, label=str(method))
    ax.set_xscale("log")
    ax.set(
        xlabel="error / tolerance",
        ylabel="share of the runs",
        title="Errors beside tolerances, of other systems",
        ylim=(0, 1),
    )
    artists.append(ax.legend(loc="upper left"))
    return artists


def steps_beside_time_scales(
    trajectory: Trajectory,
    ax: Axes,
    criteria: Sequence[AnyCriterion] = CRITERIA,
) -> list[Artist]:
    """The steps of a run over classical time scales at the same states, against time.

    Where a criterion had chosen them the curve would be level: at its η.

    Parameters
    ----------
    trajectory
        Of one system, with every step recorded.
    """
    one_system(trajectory)
    every = max(1, len(trajectory.time) // MOST_RECORDS)
    some = trajectory.take(np.arange(1, len(trajectory.time), every))
    time, dt, states = some.time, some.dt, states_along(some)
    artists: list[Artist] = []
    for colour, name in zip(COLOURS, criteria, strict=False):
        scale = to_numpy(get_criterion(name).time_scale(states))
        artists += ax.plot(time, dt / scale, color=colour, lw=1, label=name_of(name))
    ax.set_yscale("log")
    ax.set(xlabel="time [T]", ylabel="dt / τ", title="Steps in classical time scales")
    artists.append(ax.legend(loc="best"))
    return artists


def steps_on_an_orbit(
    policy: LearnedPolicy | Suite,
    ax: Axes,
    tolerances: Sequence[float] = (1e-4, 1e-6, 1e-8),
    eccentricity: float = 0.9,
) -> list[Artist]:
    """Steps that a policy proposes along a Kepler orbit, against the distance.

    In periods. Outward and inward the curves coincide, because the steps are even in the
    velocity; the dashed line has the slope of a free fall, dt ∝ r^(3/2).
    """
    if not 0 < eccentricity < 1:
        raise InputError(f"eccentricity is {eccentricity}; it must lie between 0 and 1")
    phase = np.linspace(0, 0.5, PHASES)
    orbits = State.concatenate(
        [scenarios.make("kepler", eccentricity=eccentricity, phase=float(p)) for p in phase]
    )
    x = orbits.position
    distance = np.linalg.norm(x[:, 1] - x[:, 0], axis=-1)
    period = np.asarray(scenarios.two_body_period(orbits))
    artists: list[Artist] = []
    level = 1.0
    for colour, tolerance in zip(COLOURS, tolerances, strict=False):
        member = policy.best(tolerance) if isinstance(policy, Suite) else policy
        dt = member.numpy()(orbits, np.full_like(orbits.time, tolerance)) / period
        label = f"{tolerance:.0e}, {member.spec.integrator}"
        artists += ax.plot(distance, dt, color=colour, label=label)
        level = float(dt[-1] / distance[-1] ** 1.5)
    fall = level * distance**1.5
    artists += ax.plot(distance, fall, color=GREY, ls="--", label="free fall, $r^{3/2}$")
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set(
        xlabel="distance [semi-major axes]",
        ylabel="dt [periods]",
        title=f"Steps on a Kepler orbit, e = {eccentricity}",
    )
    artists.append(ax.legend(loc="best"))
    return artists


def policy_map(
    policy: LearnedPolicy | Suite, ax: Axes, tolerance: float = 1e-6, criterion: str = "boekholt"
) -> list[Artist]:
    """By how much a policy's steps on Kepler orbits differ from a criterion's, over e and phase.

    Relative to the median, so that it shows where the policy goes slower or faster than the rule
    would at the same cost.
    """
    eccentricity = np.linspace(0.0, 0.98, MAP[0])
    phase = np.linspace(0, 0.5, MAP[1])
    orbits = State.concatenate(
        [
            scenarios.make("kepler", eccentricity=float(e), phase=float(p))
            for e in eccentricity
            for p in phase
        ]
    )
    member = policy.best(tolerance) if isinstance(policy, Suite) else policy
    dt = member.numpy()(orbits, np.full_like(orbits.time, tolerance))
    ratio = (dt / get_criterion(criterion).time_scale(orbits)).reshape(MAP)
    decades = np.log10(ratio / np.median(ratio))
    most = float(np.abs(decades).max()) or 1.0
    mesh = ax.pcolormesh(
        phase, eccentricity, decades, cmap="RdBu_r", vmin=-most, vmax=most, rasterized=True
    )
    ax.set(
        xlabel="phase from pericentre [periods]",
        ylabel="eccentricity",
        title=f"Steps over those of {criterion}, {member.spec.integrator}, {tolerance:.0e}",
    )
    ax.grid(visible=False)
    assert ax.figure is not None
    ax.figure.colorbar(mesh, ax=ax, label="decades about the median")
    return [mesh]


def calibration(policy: LearnedPolicy | Suite, ax: Axes) -> list[Artist]:
    """The error that comes of a tolerance: median, and 10th to 90th percentile of the systems."""
    members = policy.members if isinstance(policy, Suite) else (policy,)
    artists: list[Artist] = []
    for colour, member in zip(COLOURS, members, strict=False):
        known = member.calibration
        if known is None:
            raise InputError(
                f"the policy for {member.spec.integrator!r} is not calibrated; train it with the "
                "scheme 'evolution'"
            )
        error, low, high = (np.asarray(each) for each in (known.error, known.low, known.high))
        asked = 10**error
        artists += ax.plot(asked, asked, color=colour, label=member.spec.integrator)
        artists.append(
            ax.fill_between(
                asked, 10 ** (error + low), 10 ** (error + high), color=colour, alpha=0.2
            )
        )
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set(
        xlabel="tolerance",
        ylabel="max energy error",
        title="Error of a tolerance, 10th–90th percentile",
    )
    artists.append(ax.legend(loc="best"))
    return artists
