"""`train`: from a configuration to a learned policy."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from nbcore.config import Config, Network, make_config
from nbcore.errors import InputError
from nbcore.interrupts import noted
from nbcore.jsonfiles import append_line, write_lines
from nbcore.learning.calibration import calibrate, stretch_to_tolerance
from nbcore.learning.optimisation import Learner
from nbcore.learning.schemes import SCHEMES, Scheme, warm_up
from nbcore.learning.systems import draw_tolerances, training_problems, visited_states
from nbcore.physics.state import State
from nbcore.simulation.simulate import check
from nbcore.simulation.threads import threads_for
from nbcore.stepping.checkpoints import POLICY_FILE, load_policy, load_tree, save_policy, save_tree
from nbcore.stepping.policies import LearnedPolicy, trainable, untrained
from nbcore.stepping.suites import Suite

__all__ = [
    "HISTORY_FILE",
    "KEPT_FOLDER",
    "POLICY_FILE",
    "TRAINING_FILE",
    "TrainingResult",
    "check_training",
    "make_policy",
    "train",
]

TRAINING_FILE = "training.safetensors"
HISTORY_FILE = "metrics.jsonl"
KEPT_FOLDER = "policies"  # as they were after so many epochs
SECONDS_BETWEEN_SAVES = 1.0
STOPPING = "the training stops after this epoch; interrupt again to stop at once"
# What may change when a training goes on: how long it goes, and what it shows.
FREE_TO_CHANGE = ("epochs", "max_seconds", "patience", "progress", "keep_every")

History = Sequence[dict[str, float]]
Watch = Callable[[History], bool]


@dataclass(frozen=True)
class TrainingResult:
    """What training leaves.

    Attributes
    ----------
    policy
        Trained, ready for use; a suite if the training has members.
    history
        One dict an epoch: loss and its parts, dt, energy_error, learning_rate, seconds, and
        what else the scheme reports, such as acceptance and pass rates of the two-phase one;
        lost_gradients is the share of optimiser steps whose gradient was not finite and was left
        out. Of several members, those of one after those of the other, told apart by `member`, with
        epochs counted on.
    systems
        Initial states that it was trained on, of one shape.
    run_dir
        Folder with the checkpoint, or None.
    """

    policy: LearnedPolicy | Suite
    history: list[dict[str, float]]
    systems: State
    run_dir: Path | None


def make_policy(
    network: Network, integrator: str = "suzuki4", stepping: str = "plain"
) -> LearnedPolicy:
    """Untrained policy of a configuration: a classical criterion until it is trained."""
    if not isinstance(network, Network):
        raise InputError(
            f"network is a {type(network).__name__}; give that of a configuration, such as "
            "nb.load_config().network, or take nb.LearnedPolicy(spec) for a PolicySpec"
        )
    return trainable(untrained(integrator, stepping=stepping, **network.model_dump()).spec)


def train(
    config: Config, run_dir: str | Path | None = None, *, watch: Watch | None = None
) -> TrainingResult:
    """Train a policy or a suite of them, or go on with a training that was stopped.

    The same seed gives the same weights, bit for bit, on one machine, whether or not the training
    was stopped in between. An interrupt ends it after the epoch that goes on, and a second one at
    once.

    Parameters
    ----------
    config
        Its sections `network` and `train` are used.
    run_dir
        Folder for the checkpoint, and for the history as it goes, a row a line (metrics.jsonl); a
        training that was begun there goes on where it was. None keeps nothing on disk.
    watch
        Called after each epoch with the history so far; training ends in good order when it
        returns true, and each member that comes after makes one epoch. See `nb.watch_training`.

    Raises
    ------
    InputError
        A name in the configuration is unknown, the device is missing, or the training in
        `run_dir` was begun with other settings.
    KeyboardInterrupt
        It was interrupted; what was learned is saved.
    """
    folder = None if run_dir is None else Path(run_dir)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        watch = _recorded(folder / HISTORY_FILE, watch)
    if not config.train.members:
        return _train_one(config, folder, watch)
    parts = []
    history: list[dict[str, float]] = []
    for k, settings in enumerate(config.train.members):
        own = None if folder is None else folder / f"member_{k}"
        before = tuple(history)

        def watch_all(rows: History, k: int = k, before: History = before) -> bool:
            return watch is not None and watch([*before, *_of_member(k, rows, len(before))])

        parts.append(_train_one(_member(config, settings), own, watch_all))
        history += _of_member(k, parts[-1].history, len(before))
    suite = Suite(tuple(part.policy for part in parts))
    if folder is not None:
        metrics = {f"member_{k}": part.history[-1] for k, part in enumerate(parts) if part.history}
        save_policy(suite, folder / POLICY_FILE, config=_settings(config), metrics=metrics)
    return TrainingResult(suite, history, parts[0].systems, folder)


def check_training(config: Config, run_dir: str | Path | None = None) -> list[LearnedPolicy]:
    """Raise InputError where `train` would, as far as it shows before anything is run.

    Returns
    -------
    The untrained policy, or that of each member.
    """
    folder = None if run_dir is None else Path(run_dir)
    if not config.train.members:
        return [_check_one(config, folder)]
    made = []
    for k, settings in enumerate(config.train.members):
        own = _member(config, settings)
        if own.train.scheme != "evolution" or not own.train.evolution.calibration_systems:
            raise InputError(
                f"train.members make a suite, of which each must be calibrated, and member {k} is "
                "not: use the scheme 'evolution' with evolution.calibration_systems of 1 or more"
            )
        made.append(_check_one(own, None if folder is None else folder / f"member_{k}"))
    return made


def _check_one(config: Config, run_dir: Path | None) -> LearnedPolicy:
    c = config.train
    _device(c.device)
    if run_dir is not None and (run_dir / TRAINING_FILE).exists():
        _begun(run_dir / TRAINING_FILE, config)
    with torch.random.fork_rng():
        policy = make_policy(config.network, c.integrator, c.stepping)
        if c.start is not None:
            _start_from(policy, c.start, c.integrator)
        problems, learner = training_problems(c), Learner(policy, c)
        if c.scheme != "oracle":  # whose labels are many runs
            SCHEMES[c.scheme](learner, problems, [])
        for each in problems:
            check(each.state, each.t_end, policy)
    return policy


def _start_from(policy: LearnedPolicy, path: str, integrator: str) -> None:
    """Take over the network and the stretch of a policy of the same shape."""
    found = load_policy(path)
    if isinstance(found, Suite):
        found = found.of(integrator)
    if found is None or found.names != policy.names:
        raise InputError(
            f"train.start is {path!r}, which has no policy for {integrator!r} with the same "
            "features; train one, or start without"
        )
    try:
        _load(policy, found.weights())
    except RuntimeError:
        raise InputError(
            f"train.start is {path!r}, whose network has widths {found.spec.hidden}; "
            "make network.hidden the same"
        ) from None
    policy.stretch(found.spec.stretch / policy.spec.stretch)


def _begun(path: Path, config: Config) -> dict[str, Any]:
    """What a training left, if it was begun with the same settings."""
    tree = load_tree(path, kind="training")
    now = _settings(config)
    for section in ("network", "train"):
        for key, value in now[section].items():
            before = tree["settings"][section].get(key)
            if before != value and key not in FREE_TO_CHANGE:
                raise InputError(
                    f"the training in {str(path.parent)!r} was begun with {section}.{key} = "
                    f"{before}, not {value}; go on with the same settings, or start a new run"
                )
    return tree


def _recorded(path: Path, watch: Watch | None) -> Watch:
    """Write the history as it goes, and at first what an earlier part of the training left."""
    begun = False

    def record(history: History) -> bool:
        nonlocal begun
        if begun:
            append_line(path, history[-1])
        else:
            write_lines(path, history)
        begun = True
        return watch is not None and watch(history)

    return record


def _member(config: Config, settings: Mapping[str, Any]) -> Config:
    table = config.model_dump()
    table["train"] = {**table["train"], **settings, "members": ()}
    return make_config(table)


def _of_member(k: int, history: History, done: int) -> list[dict[str, float]]:
    return [{**row, "member": k, "epoch": done + row["epoch"]} for row in history]


def _settings(config: Config) -> dict[str, Any]:
    """What a training is made of."""
    settings = config.model_dump(mode="json")
    return {name: settings[name] for name in ("network", "train")}


def _train_one(config: Config, run_dir: Path | None, watch: Watch | None) -> TrainingResult:
    with torch.random.fork_rng(), _anomalies(config.train.anomaly):
        trainer = _Trainer(config, run_dir)
        c, systems = config.train, trainer.problems[0].state
        largest = max(c.batch_size, c.replay_batch_size, systems.n_systems)
        with threads_for(largest, systems.n_bodies, systems.n_dimensions):
            trainer.run(watch)
    return TrainingResult(
        trainer.policy.to("cpu"), trainer.history, trainer.problems[0].state.to("cpu"), run_dir
    )


class _Trainer:
    def __init__(self, config: Config, run_dir: Path | None) -> None:
        self.config, self.run_dir = config, run_dir
        c = config.train
        on_whole_runs = c.scheme in ("oracle", "evolution")  # which the compiled engine makes
        device = "cpu" if on_whole_runs else _device(c.device)
        torch.manual_seed(c.seed)
        self.problems = [each.to(device) for each in training_problems(c)]
        self.policy = make_policy(config.network, c.integrator, c.stepping).to(device)
        if c.start is not None:
            _start_from(self.policy, c.start, c.integrator)
        learner = Learner(self.policy, c)
        if c.scheme == "evolution":
            SCHEMES[c.scheme](learner, self.problems, [])  # refuses what can't be run
            stretch_to_tolerance(self.policy, self.problems, c)
        pools = visited_states(self.problems, self.policy, c)
        inputs = []
        for pool in pools:
            tolerance = draw_tolerances(c, pool.time)
            seen, memory = warm_up(learner, pool, tolerance)
            measures = self.policy.measures(seen, memory)
            inputs.append(self.policy.inputs(measures, tolerance, memory))
        _check_finite(self.policy.names, torch.cat(inputs)[:, 1:])
        if c.start is None:
            learner.network.standardise(torch.cat(inputs))
        self.learner = learner
        self.scheme: Scheme = SCHEMES[c.scheme](learner, self.problems, pools)
        self.history: list[dict[str, float]] = []
        self._seconds, self._saved = 0.0, 0.0
        if run_dir is not None and (run_dir / TRAINING_FILE).exists():
            self._resume(run_dir / TRAINING_FILE)

    def run(self, watch: Watch | None) -> None:
        """Epoch after epoch until a limit is reached; the checkpoint is written at the end."""
        c, begun = self.config.train, time.monotonic() - self._seconds
        first = len(self.history)
        bar = tqdm(total=c.epochs, initial=first, desc="train", disable=not c.progress)
        with noted(words=STOPPING) as interrupted:
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
                self._keep()
                is_last = watch is not None and watch(self.history)
                if interrupted() or is_last:
                    break
                self._save_now_and_then()
            self._save()
            if interrupted():
                raise KeyboardInterrupt
        bar.close()
        if c.scheme == "evolution" and c.evolution.calibration_systems:
            self.policy.calibration = calibrate(self.policy, c)
            self._save()

    def _keep(self) -> None:
        every, done = self.config.train.keep_every, len(self.history)
        if self.run_dir is not None and every and done % every == 0:
            folder = self.run_dir / KEPT_FOLDER
            folder.mkdir(exist_ok=True)
            save_policy(self.policy, folder / f"{done:06d}.safetensors", metrics=self.history[-1])

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
        settings = _settings(self.config)
        tree = {
            "settings": settings,
            "stretch": self.policy.spec.stretch,
            "weights": self.policy.weights(),
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
            config=settings,
            metrics=self.history[-1] if self.history else {},
            systems=self.problems[0].state if len(self.problems) == 1 else None,
        )
        self._saved = time.monotonic()

    def _resume(self, path: Path) -> None:
        tree = _tensors(_begun(path, self.config))
        _load(self.policy, tree["weights"])
        self.policy.stretch(tree["stretch"] / self.policy.spec.stretch)
        self.history, self._seconds = tree["history"], tree["seconds"]
        if self.history:
            self.learner.start_epoch(int(self.history[-1]["epoch"]))
        if self.learner.optimiser_name == tree["optimiser_name"]:
            self.learner.optimiser.load_state_dict(tree["optimiser"])
        device = self.problems[0].t_end.device
        self.scheme.set(_to(tree["scheme"], device))
        _set_random_state(tree["random"])


def _check_finite(names: Sequence[str], features: torch.Tensor) -> None:
    """Raise InputError for a feature (S, F) that is not finite for a state of the training."""
    for name, values in zip(names, features.T, strict=False):  # before the history's
        bad = values[~torch.isfinite(values)]
        if len(bad):
            raise InputError(
                f"feature {name!r} is {float(bad[0])} for {len(bad)} of {len(values)} training "
                "states; make it finite for them, or leave it out of network.features"
            )


def _load(policy: LearnedPolicy, weights: Mapping[str, Any]) -> None:
    """Give a policy that can be trained the weights of another one of the same shape."""
    network: Any = policy.network
    values = {k.removeprefix("network."): torch.as_tensor(v) for k, v in weights.items()}
    network.load_state_dict(values)


def _tensors(value: Any) -> Any:
    """What was stored, with tensors for arrays: copies, whose memory is aligned as torch's is.

    Otherwise the last bits of a dot product change, and a training that goes on must make the same.
    """
    if isinstance(value, dict):
        return {name: _tensors(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_tensors(each) for each in value)
    return torch.tensor(value) if isinstance(value, np.ndarray) else value


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
