"""Runs of which only the ends matter, many and short: for training and calibration."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nbcore.physics.arrays import PerSystem, to_numpy
from nbcore.physics.integrators import get_integrator
from nbcore.physics.state import State
from nbcore.simulation import compiled_engine
from nbcore.simulation.engine import Limits, Task
from nbcore.simulation.observer import EndsOnly
from nbcore.simulation.status import Status
from nbcore.stepping.control import guard_of
from nbcore.stepping.policies import LearnedPolicy, Policy

__all__ = ["Ends", "run_to_end"]

Array = NDArray[np.float64]


class Ends(NamedTuple):
    """How runs ended, (B,) each.

    Attributes
    ----------
    max_error, final_error
        Relative errors, of the energy or of a body's orbit, whichever is more: the maximum over
        every step, and that at the end.
    max_energy_error
        Of the energy alone.
    evaluations
        Force evaluations.
    lost
        Whether a run did not reach its end.
    """

    max_error: Array
    final_error: Array
    max_energy_error: Array
    evaluations: Array
    lost: NDArray[np.bool_]


@np.errstate(all="ignore")
def run_to_end(
    state: State,
    t_end: PerSystem,
    policy: Policy,
    tolerance: PerSystem,
    max_steps: int,
    integrator: str,
    stepping: str = "plain",
) -> Ends:
    """Run as `simulate` does, without checks, records and warnings.

    Those would cost more than runs as short as these. Learned policies are guarded, as there.

    Parameters
    ----------
    state
        A batch.
    t_end, tolerance
        (B,).
    max_steps
        Most steps of a system; one that needs more is lost.
    integrator, stepping
        Their names.
    """
    state, policy = state.numpy(), policy.numpy() if isinstance(policy, LearnedPolicy) else policy
    t_end, tolerance = to_numpy(t_end), to_numpy(tolerance)
    scheme, observer = get_integrator(integrator), EndsOnly(state)
    guarded = isinstance(policy, LearnedPolicy)
    task = Task(
        state,
        policy,
        scheme,
        tolerance,
        stepping,
        Limits(t_end, max_steps),
        guard_of(state, tolerance, scheme.order) if guarded else None,
        interruptible=False,  # half-made runs would pass for lost ones
    )
    outcome = compiled_engine.integrate(task, observer)
    return Ends(
        np.maximum(outcome.max_errors[0], outcome.max_body_errors.max(axis=1)),
        np.maximum(observer.energy_error, observer.body_error.max(axis=1)),
        outcome.max_errors[0],
        outcome.n_force_evaluations.astype(float),
        outcome.status != Status.SUCCESS,
    )
