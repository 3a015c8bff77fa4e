"""Whether a run stayed among states like those that its policy was trained on."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from nbcore.physics.arrays import beside, is_tensor, to_numpy
from nbcore.physics.state import State
from nbcore.simulation.trajectory import Trajectory
from nbcore.stepping.policies import LearnedPolicy

__all__ = ["NOVEL", "novelty", "warn_of_novelty"]

NOVEL = 1.0  # standard deviations beyond the training states, above which a state is strange
LOOKS = 16  # records of a system that are looked at
MANY_BODIES = 64  # beyond so many only both ends are


@np.errstate(all="ignore")  # rows that a system has no record for are NaN
def novelty(policy: LearnedPolicy, initial: State, trajectory: Trajectory) -> NDArray[np.float64]:
    """Farthest that each feature lay beyond the training states, (B, F), in deviations.

    Looks at both ends and at some records in between.

    Parameters
    ----------
    initial
        Where the run began.
    """
    memory = policy.begin(initial)

    def beyond(state: State) -> NDArray[np.float64]:
        return to_numpy(policy.novelty(state, memory))

    final = trajectory.final
    if is_tensor(final.time) != is_tensor(initial.time):
        final = final.to(initial.time.device) if is_tensor(initial.time) else final.numpy()
    farthest = np.maximum(beyond(initial), beyond(final))
    n_rows = int(trajectory.n_records.max(initial=0))
    looks = LOOKS if initial.n_bodies <= MANY_BODIES else 2
    for row in np.linspace(0, n_rows - 1, min(looks, n_rows)).astype(int)[1:-1]:
        at = {
            name: np.asarray(trajectory.arrays[name][:, row])
            for name in ("position", "velocity", "time")
        }
        # Rows that a system has no record for are NaN, and tell nothing.
        known = np.isfinite(at["time"])[:, None]
        state = initial.replace(**{k: beside(value, initial.time) for k, value in at.items()})
        farthest = np.where(known, np.maximum(farthest, beyond(state)), farthest)
    return farthest


def warn_of_novelty(policy: LearnedPolicy, initial: State, trajectory: Trajectory) -> None:
    """Warn of systems that went through strange states, and say what was strange."""
    if not policy.names or not np.isfinite(to_numpy(policy.network.most)).any():
        return
    worst = novelty(policy, initial, trajectory)
    strange = np.atleast_1d((worst > NOVEL).any(axis=1))
    if strange.any():
        most = worst.max(axis=0)
        names = ", ".join(
            f"{name} by {value:.1f}"
            for name, value in zip(policy.names, most, strict=True)
            if value > NOVEL
        )
        warnings.warn(
            f"{strange.sum()} of {len(strange)} systems went through states unlike those that the "
            f"policy was trained on (standard deviations beyond them: {names}); compare with a "
            "criterion, or train on such systems",
            RuntimeWarning,
            stacklevel=3,
        )
