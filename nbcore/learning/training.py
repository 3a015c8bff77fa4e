"""`train`: from a configuration to a learned policy."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nbcore.config import Config, Network, make_config
from nbcore.errors import InputError
from nbcore.jsonfiles import append_line, write_lines
from nbcore.learning.budgets import Budgets, of_budget
from nbcore.learning.calibration import calibrate, stretch_to_tolerance
from nbcore.learning.optimisation import Learner
from nbcore.learning.schemes import SCHEMES, Scheme, warm_up
from nbcore.learning.systems import draw_tolerances, training_problems, visited_states
from nbcore.learning.trainer import (
    HISTORY_FILE,
    POLICY_FILE,
    TRAINING_FILE,
    History,
    Trainer,
    Watch,
    begun,
    settings_of,
)
from nbcore.physics.state import State
from nbcore.simulation.simulate import check
from nbcore.simulation.threads import threads_for
from nbcore.stepping.checkpoints import load_policy, policy_tree, save_tree
from nbcore.stepping.policies import LearnedPolicy, OwnStep, trainable, untrained
from nbcore.stepping.suites import Suite

__all__ = ["TrainingResult", "check_training", "make_policy", "train"]


@dataclass(frozen=True)
class TrainingResult:
    """What training leaves.

    Attributes
    ----------
    policy
        Trained, ready for use; a suite if the training has members. Of the integrator "gbs" an
        `OwnStep`, by whose law runs spend their tolerance.
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

    policy: LearnedPolicy | Suite | OwnStep
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
    members = [_member(config, settings) for settings in config.train.members]
    for k, member in enumerate(members):
        own = None if folder is None else folder / f"member_{k}"
        if own is not None:
            own.mkdir(exist_ok=True)
        before = tuple(history)

        def watch_all(rows: History, k: int = k, before: History = before) -> bool:
            return watch is not None and watch([*before, *_of_member(k, rows, len(before))])

        parts.append(_train_one(member, own, watch_all))
        history += _of_member(k, parts[-1].history, len(before))
    suite = Suite(tuple(part.policy for part in parts if isinstance(part.policy, LearnedPolicy)))
    if folder is not None:
        metrics = {f"member_{k}": part.history[-1] for k, part in enumerate(parts) if part.history}
        tree = policy_tree(suite, settings_of(config), metrics)
        save_tree(tree, folder / POLICY_FILE, kind="policy")
    return TrainingResult(suite, history, parts[0].systems, folder)


def check_training(
    config: Config, run_dir: str | Path | None = None
) -> list[LearnedPolicy | OwnStep]:
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


def _check_one(config: Config, run_dir: Path | None) -> LearnedPolicy | OwnStep:
    c = config.train
    _device(c.device)
    if run_dir is not None and (run_dir / TRAINING_FILE).exists():
        begun(run_dir / TRAINING_FILE, config)
    with torch.random.fork_rng():
        if of_budget(c):
            return Budgets.check(c)
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
    if not isinstance(found, LearnedPolicy) or found.names != policy.names:
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
    member = make_config(table)
    if of_budget(member.train):
        raise InputError(
            "train.members make a suite of learned steps, and those of the member "
            f"{dict(settings)} are the integrator's own; train it alone"
        )
    return member


def _of_member(k: int, history: History, done: int) -> list[dict[str, float]]:
    return [{**row, "member": k, "epoch": done + row["epoch"]} for row in history]


def _train_one(config: Config, run_dir: Path | None, watch: Watch | None) -> TrainingResult:
    with torch.random.fork_rng(), _anomalies(config.train.anomaly):
        c = config.train
        pupil = Budgets(c) if of_budget(c) else _Networks(config)
        trainer, systems = Trainer(config, pupil, run_dir), pupil.problems[0].state
        largest = max(c.batch_size, c.replay_batch_size, systems.n_systems)
        with threads_for(largest, systems.n_bodies, systems.n_dimensions):
            trainer.run(watch)
    policy = pupil.policy
    policy = policy.to("cpu") if isinstance(policy, LearnedPolicy) else policy
    return TrainingResult(policy, trainer.history, systems.to("cpu"), run_dir)


class _Networks:
    """Networks that choose steps, learned by any scheme."""

    def __init__(self, config: Config) -> None:
        c = config.train
        on_whole_runs = c.scheme in ("oracle", "evolution")  # which the compiled engine makes
        device = "cpu" if on_whole_runs else _device(c.device)
        torch.manual_seed(c.seed)
        self.config, self.problems = c, [each.to(device) for each in training_problems(c)]
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

    def epoch(self, number: int) -> dict[str, float]:
        """One epoch of the scheme."""
        self.learner.start_epoch(number)
        means = self.scheme.epoch()
        return {"learning_rate": self.learner.learning_rate, **means}

    def end(self) -> bool:
        """Calibrate the policy that was learned on whole runs; whether that was asked for."""
        c = self.config
        if c.scheme != "evolution" or not c.evolution.calibration_systems:
            return False
        self.policy.calibration = calibrate(self.policy, c)
        return True

    def get(self) -> dict[str, Any]:
        """Weights and all that the next epoch depends on."""
        return {
            "stretch": self.policy.spec.stretch,
            "weights": self.policy.weights(),
            "optimiser": self.learner.optimiser.state_dict(),
            "optimiser_name": self.learner.optimiser_name,
            "scheme": self.scheme.get(),
        }

    def set(self, saved: dict[str, Any], epochs: int) -> None:
        """Go on from there, after so many epochs."""
        _load(self.policy, saved["weights"])
        self.policy.stretch(saved["stretch"] / self.policy.spec.stretch)
        if epochs:
            self.learner.start_epoch(epochs - 1)
        if self.learner.optimiser_name == saved["optimiser_name"]:
            self.learner.optimiser.load_state_dict(saved["optimiser"])
        self.scheme.set(_to(saved["scheme"], self.problems[0].t_end.device))


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


def _device(name: str) -> str:
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise InputError("train.device is 'cuda' and there is no GPU; use 'auto' or 'cpu'")
    return "cuda" if name != "cpu" and available else "cpu"


@contextlib.contextmanager
def _anomalies(wanted: bool) -> Iterator[None]:
    with torch.autograd.set_detect_anomaly(True) if wanted else contextlib.nullcontext():
        yield


def _to(value: Any, device: torch.device) -> Any:
    if isinstance(value, dict):
        return {k: _to(v, device) for k, v in value.items()}
    return value.to(device) if isinstance(value, torch.Tensor) else value
