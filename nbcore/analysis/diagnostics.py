"""From a trajectory to numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from nbcore.physics import gravity
from nbcore.physics.arrays import to_numpy
from nbcore.physics.state import State
from nbcore.simulation.status import Status
from nbcore.simulation.trajectory import Trajectory

__all__ = [
    "closest_separation",
    "conserved_quantities",
    "energies_along",
    "metrics",
    "states_along",
]

MOST_PAIRS = 1_000_000  # whose distances are in memory at once


def closest_separation(trajectory: Trajectory) -> np.ndarray:
    """Distance of the closest pair at each record, (T,) or (B, T) [L]."""
    position = trajectory.position
    i, j = np.triu_indices(position.shape[-2], 1)
    # In blocks: the pairs of many bodies at all records would not fit the memory.
    rows = max(1, MOST_PAIRS // (len(i) * (len(position) if trajectory.batched else 1)))
    parts = []
    for start in range(0, position.shape[-3], rows):
        block = position[..., start : start + rows, :, :]
        apart = block[..., i, :] - block[..., j, :]
        parts.append(np.linalg.norm(apart, axis=-1).min(axis=-1))
    return np.concatenate(parts, axis=-1)


def conserved_quantities(trajectory: Trajectory) -> dict[str, np.ndarray]:
    """Energy, momentum and angular momentum at the first record and the end, and the change.

    Returns
    -------
    dict of (2,) and (2, k) arrays, with a leading B for a batch; names ending in `_change` hold
    the last minus the first. The work of a moving field is not part of the energy.
    """
    end, values = trajectory.final.numpy(), {}
    end = end.replace(work=0 * end.time)
    first = {
        name: np.asarray(trajectory.arrays[name])[:, 0] for name in ("position", "velocity", "time")
    }
    ends = (end.replace(**first), end)
    for name in ("energy", "momentum", "angular_momentum"):
        first, later = (to_numpy(getattr(gravity, name)(state)) for state in ends)
        values[name] = np.stack([first, later], axis=1)
        values[f"{name}_change"] = later - first
    return values if trajectory.batched else {k: v[0] for k, v in values.items()}


def states_along(trajectory: Trajectory) -> State:
    """States of one system at its records, as a batch."""
    systems = trajectory.final.numpy().select([0] * len(trajectory.time))
    return systems.replace(
        batched=True,
        **{name: getattr(trajectory, name) for name in ("position", "velocity", "time")},
        acceleration=None,
        jerk=None,
    )


def energies_along(trajectory: Trajectory) -> dict[str, np.ndarray]:
    """Kinetic, potential and total energy of one system at each record, (T,) [M L²/T²].

    Those of the bodies alone: the work of a moving field is not part of them.
    """
    everywhere = states_along(trajectory)
    everywhere = everywhere.replace(work=0 * everywhere.time)
    total, kinetic = (
        to_numpy(each(everywhere)) for each in (gravity.energy, gravity.kinetic_energy)
    )
    return {"kinetic": kinetic, "potential": total - kinetic, "total": total}


def metrics(trajectory: Trajectory) -> dict[str, Any]:
    """Headline numbers of a run; medians and 90th percentiles over the systems of a batch.

    A status is counted under its name; errors and costs of systems that did not reach the end
    are part of the medians.
    """
    summary = trajectory.summary
    out: dict[str, Any] = {"n_systems": len(trajectory.n_records)}
    numbers, counts = np.unique(summary["status"], return_counts=True)
    for number, count in zip(numbers, counts, strict=True):
        out[f"status_{Status(int(number)).name.lower()}"] = int(count)
    for name in (
        "n_steps",
        "n_force_evaluations",
        "max_energy_error",
        "max_body_error",
        "max_angular_momentum_error",
    ):
        out[f"{name}_median"] = float(np.median(summary[name]))
        out[f"{name}_p90"] = float(np.quantile(summary[name], 0.9))
    last = trajectory.n_records - 1
    error = np.asarray(trajectory.arrays["energy_error"])[np.arange(len(last)), last]
    out["final_energy_error_median"] = float(np.median(error))
    kept = np.atleast_1d(trajectory.kept_tolerance).tolist()
    if None not in kept:
        out["kept_tolerance"] = float(np.mean(kept))
    about = trajectory.about
    out |= {name: about[name] for name in ("integrator", "policy", "stepping")}
    out["tolerance"] = float(np.median(about["tolerance"]))
    return out
