"""Trainings that take a tenth of a second."""

import hashlib

from nbcore.config import Config, load_config
from nbcore.physics.arrays import to_numpy
from nbcore.stepping.policies import LearnedPolicy

TINY = {
    "network.hidden": (6,),
    "train.scenario.source": "kepler_orbits",
    "train.scenario.parameters": {"n_systems": 4, "eccentricity": (0.3, 0.6)},
    "train.integrator": "leapfrog",
    "train.tolerances": (1e-3, 1e-2),
    "train.n_steps": 2,
    "train.orbit_time": 0.5,
    "train.pool_size": 64,
    "train.batch_size": 8,
    "train.batches": 2,
    "train.epochs": 3,
    "train.steps_per_epoch": 3,
    "train.energy_threshold": 0.01,
    "train.max_retrain_steps": 2,
    "train.replay_steps": 2,
    "train.replay_batch_size": 4,
    "train.evolution.pairs": 2,
    "train.evolution.systems": 3,
    "train.evolution.calibration_systems": 4,
    "train.device": "cpu",
    "train.progress": False,
}
HISTORY = {"network.features": ("scale_free", "delta_mag"), "network.history": 2}


def tiny(*changes: dict, **train) -> Config:
    """Config of a tiny training; dotted keys, or names of train settings."""
    table = {f"train.{name}": value for name, value in train.items()}
    for change in changes:
        table = {**change, **table}
    return load_config(None, {**TINY, **table})


def weights_of(policy: LearnedPolicy) -> str:
    """Digest of every bit of a policy's weights and constants."""
    digest = hashlib.sha256()
    for name, value in sorted(policy.weights().items()):
        value = to_numpy(value)
        digest.update(f"{name} {value.dtype} {value.shape}".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()
