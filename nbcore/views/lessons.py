"""What a policy has learned: its steps beside classical time scales, and along an orbit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from nbcore.errors import InputError
from nbcore.physics import scenarios
from nbcore.physics.state import State
from nbcore.simulation.trajectory import Trajectory
from nbcore.stepping.criteria import get_criterion
from nbcore.stepping.policies import LearnedPolicy
from nbcore.stepping.suites import Suite
from nbcore.views.style import COLOURS, GREY, one_system

__all__ = ["steps_beside_time_scales", "steps_on_an_orbit"]

CRITERIA = ("boekholt", "free_fall", "prs23")
MOST_RECORDS = 2000
PHASES = 400


def steps_beside_time_scales(
    trajectory: Trajectory, ax: Axes, criteria: Sequence[str] = CRITERIA
) -> list[Artist]:
    """The steps of a run over classical time scales at the same states, against time.

    Where a criterion had chosen them the curve would be level: at its η.

    Parameters
    ----------
    trajectory
        Of one system, with every step recorded.
    """
    one_system(trajectory)
    thin = slice(1, None, max(1, len(trajectory.time) // MOST_RECORDS))
    time, dt = trajectory.time[thin], trajectory.dt[thin]
    states = _along(trajectory, thin)
    artists: list[Artist] = []
    for colour, name in zip(COLOURS, criteria, strict=False):
        scale = get_criterion(name).time_scale(states).numpy()
        artists += ax.plot(time, dt / scale, color=colour, lw=1, label=name)
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
    distance = torch.linalg.vector_norm(x[:, 1] - x[:, 0], dim=-1).numpy()
    period = np.asarray(scenarios.two_body_period(orbits))
    artists: list[Artist] = []
    level = 1.0
    for colour, tolerance in zip(COLOURS, tolerances, strict=False):
        member = policy.best(tolerance) if isinstance(policy, Suite) else policy
        with torch.no_grad():
            dt = member(orbits, torch.full_like(orbits.time, tolerance)).numpy() / period
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


def _along(trajectory: Trajectory, rows: slice) -> State:
    """States of the records, as a batch."""
    position = torch.as_tensor(trajectory.position[rows])
    systems = trajectory.final.select(torch.zeros(len(position), dtype=torch.int64))
    return systems.replace(
        batched=True,
        position=position,
        velocity=torch.as_tensor(trajectory.velocity[rows]),
        time=torch.as_tensor(trajectory.time[rows]),
        acceleration=None,
        jerk=None,
    )
