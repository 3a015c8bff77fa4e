"""Trajectories known in closed form, so that pictures are tested without a run."""

import numpy as np

from nbcore.physics.state import State
from nbcore.simulation.trajectory import Trajectory


def on_circles(
    n_bodies: int = 2,
    n_records: int = 60,
    n_dimensions: int = 2,
    n_systems: int | None = None,
    time: np.ndarray | None = None,
    tolerance: float = 1e-6,
) -> Trajectory:
    """Bodies on circles of radius 1, 2, … about the origin, body i once round in i + 1 [T]."""
    if time is None:
        time = np.linspace(0.0, 2.0, n_records)
    rate = 2 * np.pi / np.arange(1, n_bodies + 1)
    radius = np.arange(1.0, n_bodies + 1)
    angle = time[:, None] * rate
    position = np.zeros((len(time), n_bodies, n_dimensions))
    velocity = np.zeros_like(position)
    position[..., 0], position[..., 1] = radius * np.cos(angle), radius * np.sin(angle)
    velocity[..., 0] = -radius * rate * np.sin(angle)
    velocity[..., 1] = radius * rate * np.cos(angle)
    if n_dimensions == 3:
        position[..., 2] = 0.5 * position[..., 0]
        velocity[..., 2] = 0.5 * velocity[..., 0]
    copies = n_systems or 1
    records = {
        "time": time,
        "position": position,
        "velocity": velocity,
        "dt": np.r_[np.nan, np.diff(time)],
        "energy_error": 1e-8 * (1 - np.cos(angle[:, 0])),
        "momentum_error": np.zeros(len(time)),
        "angular_momentum_error": 1e-15 * np.arange(len(time)),
        "body_error": 1e-8 * (1 - np.cos(angle)),
    }
    summary = {
        "status": 0,
        "n_steps": len(time) - 1,
        "n_redone": 0,
        "n_force_evaluations": 5 * (len(time) - 1),
        "max_energy_error": 2e-8,
        "max_momentum_error": 0.0,
        "max_angular_momentum_error": 1e-15 * len(time),
        "max_body_error": 2e-8,
        "worst_body": 0,
        "event_time": np.nan,
        "event_first": -1,
        "event_second": -1,
        "event_distance": np.nan,
    }
    final = State.from_arrays(
        np.tile(np.arange(1.0, n_bodies + 1), (copies, 1)),
        np.tile(position[-1], (copies, 1, 1)),
        np.tile(velocity[-1], (copies, 1, 1)),
    ).replace(batched=n_systems is not None)
    return Trajectory(
        arrays={k: np.stack([v] * copies) for k, v in records.items()},
        n_records=np.full(copies, len(time)),
        summary={k: np.full(copies, v) for k, v in summary.items()},
        final=final,
        about={
            "integrator": "suzuki4",
            "policy": "boekholt",
            "stepping": "plain",
            "tolerance": np.full(copies, tolerance),
        },
    )
