"""`train`: from a configuration to a learned policy."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from nbcore.config import Config, Network
from nbcore.errors import InputError
from nbcore.learning.optimisation import Learner
from nbcore.learning.schemes import SCHEMES, Scheme, draw_tolerances, visited_states, warm_up
from nbcore.physics.integrators import get_integrator
from nbcore.physics.state import State
from nbcore.simulation.setup import initial_state
from nbcore.simulation.threads import threads_for
from nbcore.stepping.checkpoints import POLICY_FILE, load_tree, save_policy, save_tree
from nbcore.stepping.policies import LearnedPolicy, PolicySpec

__all__ = ["POLICY_FILE", "TRAINING_FILE", "TrainingResult", "make_policy", "train"]

TRAINING_FILE = "training.safetensors"
SECONDS_BETWEEN_SAVES = 1.0
# What may change when a training goes on: how long it goes, and what it shows.
FREE_TO_CHANGE = ("epochs", "max_seconds", "patience", "progress")


@dataclass(frozen=True)
class TrainingResult:
    """What training leaves.

    Attributes
    ----------
    policy
        Trained, ready for use.
    history
        One dict an epoch: loss and its parts, dt, energy_error, learning_rate, seconds, and
        acceptance and pass rates of the two-phase scheme; lost_gradients is the share of optimiser
        steps whose gradient was not finite and was left out.
    systems
        Initial states that it was trained on.
    run_dir
        Folder with the checkpoint, or None.
    """

    policy: LearnedPolicy
    history: list[dict[str, float]]
    systems: State
    run_dir: Path | None


def make_policy(network: Network, integrator: str = "suzuki4") -> LearnedPolicy:
    """Untrained policy of a configuration: a classical criterion until it is trained."""
    settings = network.model_dump()
    order = get_integrator(integrator).order
    return LearnedPolicy(PolicySpec(integrator=integrator, order=order, **settings))


def train(config: Config, run_dir: str | Path | None = None) -> TrainingResult:
    """Train a policy, or go on with a training that was stopped.

    The same seed gives the same weights, bit for bit, on one machine, whether or not the training
    was stopped in between.

    Parameters
    ----------
    config
        Its sections `network` and `train` are used.
    run_dir
        Folder for the checkpoint; a training that was begun there goes on where it was. None
        keeps nothing on disk.

    Raises
    ------
    InputError
        A name in the configuration is unknown, the device is missing, or the training in
        `run_dir` was begun with other settings.
    """
    with torch.random.fork_rng(), _anomalies(config.train.anomaly):
        trainer = _Trainer(config, None if run_dir is None else Path(run_dir))
        c, systems = config.train, trainer.systems
        largest = max(c.batch_size, c.replay_batch_size, systems.n_systems)
        with threads_for(largest, systems.n_bodies, systems.n_dimensions):
            trainer.run()
    return TrainingResult(
        trainer.policy.cpu(), trainer.history, trainer.systems.to("cpu"), trainer.run_dir
    )


class _Trainer:
    def __init__(self, config: Config, run_dir: Path | None) -> None:
        self.config, self.run_dir = config, run_dir
        c = config.train
        device = _device(c.device)
        torch.manual_seed(c.seed)
        self.systems = initial_state(c.scenario).to(device)
        self.policy = make_policy(config.network, c.integrator).to(device)
        learner = Learner(self.policy, c)
        pool = visited_states(self.systems, self.policy, c)
        tolerance = draw_tolerances(c, pool.time)
        seen, memory = warm_up(learner, pool, tolerance)
        measures = self.policy.measures(seen, memory)
        self.policy.network.standardise(self.policy.inputs(measures, tolerance, memory))
        self.learner = learner
        self.scheme: Scheme = SCHEMES[c.scheme](learner, self.systems, pool)
        self.history: list[dict[str, float]] = []
        self._seconds, self._saved = 0.0, 0.0
        if run_dir is not None and (run_dir / TRAINING_FILE).exists():
            self._resume(run_dir / TRAINING_FILE)

    def run(self) -> None:
        """Epoch after epoch until a limit is reached; the checkpoint is written at the end."""
        c, begun = self.config.train, time.monotonic() - self._seconds
        first = len(self.history)
        bar = tqdm(total=c.epochs, initial=first, desc="train", disable=not c.progress)
        for epoch in range(first, c.epochs):
            if self._finished():
                break
            self.learner.start_epoch(epoch)
            means = self.scheme.epoch()
            self._seconds = time.monotonic() - begun
            rate = self.learner.learning_rate
            self.history.append(
                {"epoch": epoch, "learning_rate": rate, "seconds": self._seconds, **means}
            )
            shown = {k: f"{means[k]:.3g}" for k in ("loss", "dt", "energy_error") if k in means}
            bar.set_postfix(shown, refresh=False)
            bar.update()
            self._save_now_and_then()
        bar.close()
        self._save()

    def _finished(self) -> bool:
        c = self.config.train
        if c.max_seconds is not None and self._seconds >= c.max_seconds:
            return True
        losses = [h["loss"] for h in self.history if "loss" in h]
        if c.patience is None or not losses:
            return False
        return len(losses) - 1 - losses.index(min(losses)) >= c.patience

    def _save_now_and_then(self) -> None:
        if time.monotonic() - self._saved > SECONDS_BETWEEN_SAVES:
            self._save()

    def _save(self) -> None:
        if self.run_dir is None:
            return
        settings = self.config.model_dump(mode="json")
        tree = {
            "settings": settings,
            "weights": self.policy.state_dict(),
            "optimiser": self.learner.optimiser.state_dict(),
            "optimiser_name": self.learner.optimiser_name,
            "scheme": self.scheme.get(),
            "random": _random_state(),
            "history": self.history,
            "seconds": self._seconds,
        }
        save_tree(tree, self.run_dir / TRAINING_FILE, kind="training")
        save_policy(
            self.policy,
            self.run_dir / POLICY_FILE,
            config={k: settings[k] for k in ("network", "train")},
            metrics=self.history[-1] if self.history else {},
            systems=self.systems,
        )
        self._saved = time.monotonic()

    def _resume(self, path: Path) -> None:
        tree = load_tree(path, kind="training")
        now = self.config.model_dump(mode="json")
        for section in ("network", "train"):
            for key, value in now[section].items():
                before = tree["settings"][section].get(key)
                if before != value and key not in FREE_TO_CHANGE:
                    raise InputError(
                        f"the training in {str(path.parent)!r} was begun with {section}.{key} = "
                        f"{before}, not {value}; go on with the same settings, or start a new run"
                    )
        self.policy.load_state_dict(tree["weights"])
        self.history, self._seconds = tree["history"], tree["seconds"]
        if self.history:
            self.learner.start_epoch(int(self.history[-1]["epoch"]))
        if self.learner.optimiser_name == tree["optimiser_name"]:
            self.learner.optimiser.load_state_dict(tree["optimiser"])
        device = self.systems.time.device
        self.scheme.set(_to(tree["scheme"], device))
        _set_random_state(tree["random"])


def _device(name: str) -> str:
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise InputError("train.device is 'cuda' and there is no GPU; use 'auto' or 'cpu'")
    return "cuda" if name != "cpu" and available else "cpu"


@contextlib.contextmanager
def _anomalies(wanted: bool) -> Iterator[None]:
    with torch.autograd.set_detect_anomaly(True) if wanted else contextlib.nullcontext():
        yield


def _random_state() -> dict[str, Any]:
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def _set_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def _to(value: Any, device: torch.device) -> Any:
    if isinstance(value, dict):
        return {k: _to(v, device) for k, v in value.items()}
    return value.to(device) if isinstance(value, torch.Tensor) else value
