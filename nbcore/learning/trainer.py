"""Epoch after epoch until a limit is reached, kept on disk so that it goes on where it was."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from tqdm import tqdm

from nbcore.config import Config
from nbcore.errors import InputError
from nbcore.interrupts import noted
from nbcore.learning.systems import Problem
from nbcore.stepping.checkpoints import POLICY_FILE, load_tree, policy_tree, save_tree
from nbcore.stepping.policies import LearnedPolicy, OwnStep

__all__ = [
    "HISTORY_FILE",
    "KEPT_FOLDER",
    "POLICY_FILE",
    "TRAINING_FILE",
    "History",
    "Pupil",
    "Trainer",
    "Watch",
    "begun",
    "settings_of",
]

TRAINING_FILE = "training.safetensors"
HISTORY_FILE = "metrics.jsonl"
KEPT_FOLDER = "policies"  # as they were after so many epochs
SECONDS_BETWEEN_SAVES = 1.0
STOPPING = "the training stops after this epoch; interrupt again to stop at once"
# What may change when a training goes on: how long it goes, and what it shows.
FREE_TO_CHANGE = ("epochs", "max_seconds", "patience", "progress", "keep_every")
SHOWN = ("loss", "dt", "energy_error", "within_3")

History = Sequence[dict[str, float]]
Watch = Callable[[History], bool]


class Pupil(Protocol):
    """What is trained.

    Attributes
    ----------
    problems
        Systems that it learns from.
    """

    problems: list[Problem]

    @property
    def policy(self) -> LearnedPolicy | OwnStep:
        """As learned by now."""
        ...

    def epoch(self, number: int) -> dict[str, float]:
        """Learn for an epoch and say how it went."""
        ...

    def end(self) -> bool:
        """Do what comes after the last epoch; whether that changed the policy."""
        ...

    def get(self) -> dict[str, Any]:
        """Everything that the next epoch depends on, besides the session's random numbers."""
        ...

    def set(self, saved: dict[str, Any], epochs: int) -> None:
        """Go on from there, after so many epochs."""
        ...


class Trainer:
    """Has a pupil learn.

    Attributes
    ----------
    history
        A row an epoch.
    """

    def __init__(self, config: Config, pupil: Pupil, run_dir: Path | None) -> None:
        self.config, self.pupil, self.run_dir = config, pupil, run_dir
        self.history: list[dict[str, float]] = []
        self._seconds, self._saved = 0.0, 0.0
        if run_dir is not None and (run_dir / TRAINING_FILE).exists():
            self._resume(run_dir / TRAINING_FILE)

    def run(self, watch: Watch | None) -> None:
        """Epoch after epoch until a limit is reached; the checkpoint is written at the end."""
        c, since = self.config.train, time.monotonic() - self._seconds
        first = len(self.history)
        bar = tqdm(total=c.epochs, initial=first, desc="train", disable=not c.progress)
        with noted(words=STOPPING) as interrupted:
            for epoch in range(first, c.epochs):
                if self._finished():
                    break
                means = self.pupil.epoch(epoch)
                self._seconds = time.monotonic() - since
                self.history.append({"epoch": epoch, "seconds": self._seconds, **means})
                shown = {k: f"{means[k]:.3g}" for k in SHOWN if k in means}
                bar.set_postfix(shown, refresh=False)
                bar.update()
                self._keep()
                is_last = watch is not None and watch(self.history)
                if interrupted() or is_last:
                    break
                self._save_now_and_then()
            self._save()
            if interrupted():
                raise KeyboardInterrupt
        bar.close()
        if self.pupil.end():
            self._save()

    def _keep(self) -> None:
        every, done = self.config.train.keep_every, len(self.history)
        if self.run_dir is not None and every and done % every == 0:
            folder = self.run_dir / KEPT_FOLDER
            folder.mkdir(exist_ok=True)
            tree = policy_tree(self.pupil.policy, metrics=self.history[-1])
            save_tree(tree, folder / f"{done:06d}.safetensors", kind="policy")

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
        settings, problems = settings_of(self.config), self.pupil.problems
        tree = {
            "settings": settings,
            **self.pupil.get(),
            "random": _random_state(),
            "history": self.history,
            "seconds": self._seconds,
        }
        policy = policy_tree(
            self.pupil.policy,
            config=settings,
            metrics=self.history[-1] if self.history else {},
            systems=problems[0].state if len(problems) == 1 else None,
        )
        save_tree(tree, self.run_dir / TRAINING_FILE, kind="training")
        save_tree(policy, self.run_dir / POLICY_FILE, kind="policy")
        self._saved = time.monotonic()

    def _resume(self, path: Path) -> None:
        tree = _tensors(begun(path, self.config))
        self.history, self._seconds = tree["history"], tree["seconds"]
        self.pupil.set(tree, len(self.history))
        _set_random_state(tree["random"])


def begun(path: Path, config: Config) -> dict[str, Any]:
    """What a training left, if it was begun with the same settings."""
    tree = load_tree(path, kind="training")
    now = settings_of(config)
    for section in ("network", "train"):
        for key, value in now[section].items():
            before = tree["settings"][section].get(key)
            if before != value and key not in FREE_TO_CHANGE:
                raise InputError(
                    f"the training in {str(path.parent)!r} was begun with {section}.{key} = "
                    f"{before}, not {value}; go on with the same settings, or start a new run"
                )
    return tree


def settings_of(config: Config) -> dict[str, Any]:
    """What a training is made of."""
    settings = config.model_dump(mode="json")
    return {name: settings[name] for name in ("network", "train")}


def _tensors(value: Any) -> Any:
    """What was stored, with tensors for arrays: copies, whose memory is aligned as torch's is.

    Otherwise the last bits of a dot product change, and a training that goes on must make the same.
    """
    if isinstance(value, dict):
        return {name: _tensors(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_tensors(each) for each in value)
    return torch.tensor(value) if isinstance(value, np.ndarray) else value


def _random_state() -> dict[str, Any]:
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def _set_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
