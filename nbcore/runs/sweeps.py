"""Searches for the settings of a training: Optuna's studies, made by one worker or by many.

A sweep is a run folder: the study (a journal file, which a shared file system can hold, or any
database), a folder for each trial in `trials/`, `trials.csv`, and `best.toml`, a configuration
that `nbcore train` takes. Workers may come, go and die: a trial whose worker has died is noted as
failed, and its settings are tried again.

Watch it with `optuna-dashboard outputs/RUN/journal.log`, which serves to this machine alone.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock
from tqdm import tqdm

from nbcore.analysis.scoring import Judge
from nbcore.config import Config, Sweep, make_config, save_config, with_settings
from nbcore.errors import InputError
from nbcore.jsonfiles import write_lines
from nbcore.learning.training import check_training, train
from nbcore.runs import cluster, provenance
from nbcore.runs.records import Run
from nbcore.stepping.policies import LearnedPolicy, OwnStep
from nbcore.tables import write_table

if TYPE_CHECKING:
    import optuna
    import pandas as pd

__all__ = ["JOURNAL", "SweepResult", "check_sweep", "open_study", "sweep", "trials_of"]

JOURNAL = "journal.log"
LOOK_EVERY = 0.5  # seconds


@dataclass(frozen=True)
class SweepResult:
    """What a sweep leaves.

    Attributes
    ----------
    study
        Optuna's.
    trials
        A row a trial: its number, state, settings, objectives, seconds.
    best
        Configuration of the best trial; of several objectives, the least of the first.
    best_file
        Where it is kept.
    """

    study: optuna.Study
    trials: pd.DataFrame
    best: Config
    best_file: Path


class Worker:
    """Makes trials until there are enough; sent as a pickle: a path and a number."""

    def __init__(self, folder: str, number: int) -> None:
        self.folder, self.number = folder, number

    def __call__(self) -> None:
        """Work, here and now."""
        with cluster.leaving_at_sigterm():
            run = Run(Path(self.folder))
            _work(run, run.load_config(), self.number)

    def checkpoint(self, *_: object) -> Any:
        """What is queued again when time is up: the trial that was cut off is tried again."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def sweep(config: Config, run_dir: str | Path) -> SweepResult:
    """Search for the settings of a training, or go on with a search that was stopped.

    Parameters
    ----------
    config
        `sweep` says what is searched; the trials vary the rest.
    run_dir
        Run folder.

    Raises
    ------
    InputError
        The space can't be searched, or the study was begun with other objectives.
    RuntimeError
        No trial succeeded, or the workers ended before there were enough.
    """
    run = Run(Path(run_dir))
    run.save_config(config)
    check_sweep(config)
    study = open_study(config.sweep, run)
    if config.sweep.sampler == "grid" and not study.trials:
        for settings in _grid(config.sweep):
            study.enqueue_trial(settings)
    wanted = _wanted(config.sweep)
    with tqdm(total=wanted, desc="trials", disable=not config.sweep.progress) as bar:

        def follow() -> None:
            rows = trials_of(study)
            write_lines(run.history_file, rows.to_dict("records"))
            bar.n = len(rows.query("state in ('complete', 'pruned', 'failed')"))
            bar.refresh()

        if config.sweep.workers == 1:
            _work(run, config, 0, follow)
        else:
            _let_work(run, config, follow)
        follow()
    return _result(study, config, run)


def _let_work(run: Run, config: Config, follow: Any) -> None:
    """Send workers, and follow them until all have gone."""
    executor = cluster.executor_of(config.cluster)
    jobs = [Worker(str(run.path), k) for k in range(config.sweep.workers)]
    ids = cluster.send(jobs, run.path / "jobs", config.cluster, executor, run.path.name)
    try:
        while cluster.alive(ids, executor) != set():
            time.sleep(LOOK_EVERY)
            follow()
    except BaseException:
        cluster.interrupt(ids, executor)
        raise


def open_study(sweep: Sweep, run: Run) -> optuna.Study:
    """Study of a run folder, made if there is none.

    Raises
    ------
    InputError
        It was begun with another number of objectives, or the database can't be used.
    """
    import optuna
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        storage = (
            optuna.storages.JournalStorage(JournalFileBackend(str(run.path / JOURNAL)))
            if sweep.storage is None
            else optuna.storages.get_storage(sweep.storage)
        )
    except Exception as error:  # of whatever database driver
        raise InputError(
            f"sweep.storage {sweep.storage!r} can't be used: {provenance.one_line(error)}; "
            "give the URL of a database, such as sqlite:////scratch/me/study.db, or none"
        ) from None
    study = optuna.create_study(
        study_name=run.path.name,
        storage=storage,
        sampler=_sampler(sweep),
        pruner=_pruner(sweep),
        directions=[optuna.study.StudyDirection.MINIMIZE for _ in sweep.objectives],
        load_if_exists=True,
    )
    begun = study.user_attrs.get("objectives")
    if begun is None:
        study.set_user_attr("objectives", list(sweep.objectives))
    elif begun != list(sweep.objectives):
        raise InputError(
            f"the study was begun with the objectives {begun}, not {list(sweep.objectives)}; go on "
            "with the same, or start a new run"
        )
    return study


def trials_of(study: optuna.Study) -> pd.DataFrame:
    """A row a trial: number, state, settings, objectives, seconds; an error if it failed."""
    import pandas as pd

    names = study.user_attrs["objectives"]
    rows = []
    for trial in study.get_trials(deepcopy=False):
        row: dict[str, Any] = {"trial": trial.number, "state": _state_of(trial), **trial.params}
        row |= dict(zip(names, trial.values or [None] * len(names), strict=True))
        if trial.duration is not None:
            row["seconds"] = trial.duration.total_seconds()
        rows.append(row | {k: v for k, v in trial.user_attrs.items() if k == "error"})
    return pd.DataFrame(rows, columns=None if rows else ["trial", "state"])


def _state_of(trial: optuna.trial.FrozenTrial) -> str:
    """Complete, pruned, running, waiting, failed; lost if its worker died."""
    name = trial.state.name.lower()
    return name if name != "fail" else "failed" if "error" in trial.user_attrs else "lost"


def _work(run: Run, config: Config, number: int, after_each: Any = lambda: None) -> None:
    """Make trials until there are enough."""
    study = open_study(_seeded(config.sweep, number), run)
    judge: Judge | None = None
    with _quiet_optuna():
        while True:
            with ExitStack() as held:
                trial = _next(study, config, run, held)
                if trial is None:
                    return
                settings = {key: _decoded(value) for key, value in trial.params.items()}
                own = make_config(with_settings(config.model_dump(), settings))
                judge = judge or _judge(config)
                _try(study, trial, own, judge, _folder(run, trial.number))
            after_each()


def _next(
    study: optuna.Study, config: Config, run: Run, held: ExitStack
) -> optuna.trial.Trial | None:
    """The next trial, its folder held; None if there are enough."""
    with FileLock(run.path / ".trials.lock"):
        counted = 0
        for trial in study.get_trials(deepcopy=False):
            state = _state_of(trial)
            if state == "running" and provenance.state(_folder(run, trial.number)) != "running":
                _give_up(study, trial)
                state = "lost"
            counted += state in ("complete", "pruned", "failed", "running")
        if counted >= _wanted(config.sweep):
            return None
        trial = study.ask()
        for key, where in config.sweep.space.items():
            _suggest(trial, key, where)
        folder = _folder(run, trial.number)
        folder.path.mkdir(parents=True, exist_ok=True)
        held.enter_context(
            provenance.attempt(folder, "40_sweep", {"trial": trial.number, **trial.params})
        )
        return trial


def _give_up(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
    """Note a trial whose worker died, and have its settings tried again."""
    import optuna

    study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    study.enqueue_trial(trial.params)


def _try(
    study: optuna.Study, trial: optuna.trial.Trial, config: Config, judge: Judge, folder: Run
) -> None:
    """Train, judge and tell; what goes wrong in one trial is told, too."""
    import optuna

    prunes = config.sweep.pruner is not None

    def watch(history: Any) -> bool:
        if prunes and np.isfinite(loss := history[-1].get("loss", np.nan)):
            trial.report(loss, len(history))
            if trial.should_prune():
                raise optuna.TrialPruned
        return False

    try:
        folder.save_config(config)
        result = train(config, folder.path, watch=watch)
        assert isinstance(result.policy, LearnedPolicy)
        score = judge(result.policy)
        loss = min((row["loss"] for row in result.history if "loss" in row), default=np.nan)
        ratio = float(np.exp(np.mean(np.log(score.ratios))))
        known = {"cost_ratio": ratio, "loss": loss}
        known |= {"calibration": score.calibration, "spread": score.spread}
        folder.save_metrics(**known, ratios=score.ratios, epochs=len(result.history))
        values = [known[name] for name in config.sweep.objectives]
        if not np.isfinite(values).all():
            raise ValueError(f"{dict(zip(config.sweep.objectives, values, strict=True))}")
        study.tell(trial, values)
    except optuna.TrialPruned:
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    except Exception as error:
        trial.set_user_attr("error", provenance.one_line(f"{type(error).__name__}: {error}"))
        study.tell(trial, state=optuna.trial.TrialState.FAIL)


def _judge(config: Config) -> Judge:
    s = config.sweep
    judge = Judge(config.train, s.levels, s.asked, s.systems)
    if not np.isfinite(judge.best).all():
        raise InputError(
            f"no classical rule reaches the errors sweep.levels = {s.levels} on these systems; "
            "compare at larger ones"
        )
    return judge


def _result(study: optuna.Study, config: Config, run: Run) -> SweepResult:
    table = trials_of(study)
    write_table(table, run.path / "trials.csv")
    ended = table.query("state in ('complete', 'pruned', 'failed')")
    if len(ended) < _wanted(config.sweep):
        raise RuntimeError(
            f"the workers ended after {len(ended)} of {_wanted(config.sweep)} trials; what they "
            f"printed is in {str(run.path / 'jobs')!r}, and the sweep can be resumed"
        )
    complete = table.query("state == 'complete'")
    if complete.empty:
        errors = [] if "error" not in table else table["error"].dropna().to_list()
        raise RuntimeError(f"no trial of the sweep succeeded; the last error: {errors[-1:]}")
    least = complete.loc[complete[config.sweep.objectives[0]].idxmin()]
    settings = {key: _decoded(least[key]) for key in config.sweep.space}
    best = make_config(with_settings(config.model_dump(), settings))
    save_config(best, run.path / "best.toml")
    return SweepResult(study, table, best, run.path / "best.toml")


def check_sweep(config: Config) -> None:
    """Raise InputError for a search that can't be made, before anything is run.

    Every choice and both ends of every range are tried, each with the other settings as they are.
    """
    table = config.model_dump()
    if config.train.members:
        raise InputError("a sweep trains single policies; set train.members to []")
    if config.sweep.workers > 1:
        cluster.executor_of(config.cluster)
    _check_learned(config)
    for key, where in config.sweep.space.items():
        if key.split(".")[0] not in ("train", "network"):
            raise InputError(
                f"sweep.space has {key!r}; what is searched are settings of a training: train.… "
                "or network.…"
            )
        known = {"choices"} if "choices" in where else {"low", "high", "log", "step"}
        if set(where) - known or ("choices" not in where and not {"low", "high"} <= set(where)):
            raise InputError(
                f"sweep.space.{key} = {where} must have choices, or low and high (and log or step)"
            )
        ends = where["choices"] if "choices" in where else (where["low"], where["high"])
        if not ends or ("choices" not in where and not where["low"] < where["high"]):
            raise InputError(f"sweep.space.{key} = {where} leaves nothing to choose from")
        for value in ends:
            own = make_config(with_settings(table, {key: value}))
            try:
                _check_learned(own)
            except InputError as error:
                raise InputError(f"sweep.space.{key}, {value!r}: {error}") from None
        if config.sweep.sampler == "grid" and "choices" not in where and "step" not in where:
            raise InputError(f"sweep.space.{key}: a grid needs choices, or low, high and step")


def _check_learned(config: Config) -> None:
    if any(isinstance(each, OwnStep) for each in check_training(config)):
        raise InputError(
            f"a sweep searches the settings of networks, and train.integrator is "
            f"{config.train.integrator!r}, which chooses its own steps; train it by itself"
        )


def _suggest(trial: optuna.trial.Trial, key: str, where: Mapping[str, Any]) -> None:
    if "choices" in where:
        trial.suggest_categorical(key, [_encoded(choice) for choice in where["choices"]])
        return
    whole = isinstance(where["low"], int) and isinstance(where["high"], int)
    kind = trial.suggest_int if whole else trial.suggest_float
    kind(key, **{name: value for name, value in where.items() if value is not None})


def _encoded(choice: Any) -> Any:
    """Choices that are lists as text, which every storage of a study takes."""
    if isinstance(choice, (str, bool, int, float, type(None))):
        return choice
    return json.dumps(choice)


def _decoded(value: Any) -> Any:
    if isinstance(value, str) and value[:1] in "[{":
        return json.loads(value)
    return value.item() if isinstance(value, np.generic) else value


def _grid(sweep: Sweep) -> Iterator[dict[str, Any]]:
    def values(where: Mapping[str, Any]) -> list[Any]:
        if "choices" in where:
            return [_encoded(choice) for choice in where["choices"]]
        count = int((where["high"] - where["low"]) / where["step"] + 1e-9) + 1
        return [where["low"] + k * where["step"] for k in range(count)]

    axes = [values(where) for where in sweep.space.values()]
    return (dict(zip(sweep.space, each, strict=True)) for each in itertools.product(*axes))


def _wanted(sweep: Sweep) -> int:
    return sum(1 for _ in _grid(sweep)) if sweep.sampler == "grid" else sweep.trials


def _seeded(sweep: Sweep, number: int) -> Sweep:
    """Each worker draws on its own, or all would draw the same."""
    return sweep.model_copy(update={"seed": sweep.seed + 1000 * number})


def _sampler(sweep: Sweep) -> optuna.samplers.BaseSampler:
    import optuna

    if sweep.sampler == "tpe":
        # what runs elsewhere is taken into account, so that workers do not try the same
        return optuna.samplers.TPESampler(
            seed=sweep.seed, constant_liar=sweep.workers > 1, multivariate=True
        )
    return optuna.samplers.RandomSampler(seed=sweep.seed)


def _pruner(sweep: Sweep) -> optuna.pruners.BasePruner:
    import optuna

    if sweep.pruner == "median":
        return optuna.pruners.MedianPruner()
    if sweep.pruner == "hyperband":
        return optuna.pruners.HyperbandPruner()
    return optuna.pruners.NopPruner()


def _folder(run: Run, number: int) -> Run:
    return Run(run.path / "trials" / f"{number:05d}")


@contextmanager
def _quiet_optuna() -> Iterator[None]:
    import warnings

    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield
