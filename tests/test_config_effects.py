"""Every setting changes something; a setting that nobody tests here fails."""

import subprocess
import tempfile
import typing
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from pydantic import BaseModel
from tiny_training import HISTORY, TINY, weights_of
from wandb_log import attempts

import nbcore as nb
from nbcore.analysis import engine_speed, equal_errors, work_precision
from nbcore.analysis.benchmark import run_benchmark
from nbcore.analysis.comparison import at_equal_cost
from nbcore.config import Config, load_config
from nbcore.errors import InputError
from nbcore.learning.losses import LOSSES
from nbcore.learning.training import make_policy, train
from nbcore.runs import cluster
from nbcore.runs.records import Run
from nbcore.runs.sweeps import sweep
from nbcore.runs.tracking import mirrored
from nbcore.simulation.setup import setup
from nbcore.stepping.features import Measures
from nbcore.views.movies import movie

RUN = {
    "simulate.scenario.source": "kepler_orbits",
    "simulate.scenario.parameters": {"n_systems": 2, "eccentricity": (0.3, 0.5)},
    "simulate.integrator": "leapfrog",
    "simulate.t_end": 1.0,
    "simulate.progress": False,
}
SMALL_BENCHMARK = {
    "benchmark.families": ("two_body_e50",),
    "benchmark.systems": 2,
    "benchmark.peer_systems": 1,
    "benchmark.run_length": 0.1,
    "benchmark.integrators": ("leapfrog",),
    "benchmark.criteria": ("boekholt",),
    "benchmark.policies": (),
    "benchmark.steppings": ("plain",),
    "benchmark.peers": (),
    "benchmark.settings": 2,
    "benchmark.repeats": 1,
    "benchmark.engine_speed": (),
    "benchmark.progress": False,
}
SMALL_MOVIE = {
    "movie.max_frames": 3,
    "movie.width": 200,
    "movie.height": 120,
    "movie.trail": 2,
}
SMALL_SWEEP = {
    "sweep.trials": 2,
    "sweep.levels": (1e-2,),
    "sweep.asked": 1e-3,
    "sweep.systems": 2,
    "sweep.progress": False,
}
SMALL = {**TINY, **RUN, **SMALL_BENCHMARK, **SMALL_MOVIE, **SMALL_SWEEP}


def leaves(section: type[BaseModel] = Config, prefix: str = ""):
    """Dotted path of every setting that holds no further settings."""
    for name, field in section.model_fields.items():
        many = typing.get_origin(field.annotation) is tuple  # of sections: one setting
        options = (field.annotation, *(() if many else typing.get_args(field.annotation)))
        inner = [o for o in options if isinstance(o, type) and issubclass(o, BaseModel)]
        if inner:
            yield from leaves(inner[0], f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


@cache
def _trained(settings: str):
    return train(Config.model_validate_json(settings))


def trained(config: Config):
    return _trained(config.model_dump_json(include={"network", "train"}))


def weights(config: Config) -> str:
    return weights_of(trained(config).policy)


def epochs(config: Config) -> int:
    return len(trained(config).history)


def refusal(config: Config) -> str:
    """What the user is told, or that all is well."""
    try:
        train(config)
        setup(config.simulate).run()
    except InputError as error:
        return str(error)
    return "runs"


def inputs(config: Config) -> list[float]:
    """What a policy sees of a state, in its units."""
    state = nb.scenarios.make("kepler_orbits", n_systems=2)
    policy = make_policy(config.network)
    memory = policy.begin(state)
    measures = Measures(state, memory["scales"])
    return policy.inputs(measures, np.full_like(state.time, 1e-5), memory).flatten().tolist()


def predicts_an_error(config: Config) -> bool:
    state = nb.scenarios.make("kepler")
    policy = make_policy(config.network)
    return policy.predict(state, state.time + 1e-5, policy.begin(state)).log10_error is not None


def kind_of_policy(config: Config) -> str:
    return type(train(config).policy).__name__


def calibrated(config: Config) -> bool:
    return train(config).policy.calibration is not None


def anomaly_is_on(config: Config) -> bool:
    seen = []

    def look(r, config):
        seen.append(torch.is_anomaly_enabled())
        return r.stretch.sum(dim=0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(LOSSES, "step_size", look)
        train(config)
    return seen[0]


def simulated(config: Config):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # systems that stop early are meant to
        return setup(config.simulate, trained=make_policy(config.network, "leapfrog")).run()


def path_of_bodies(config: Config) -> bytes:
    run = simulated(config)
    return b"".join(np.ascontiguousarray(a).tobytes() for a in (run.time, run.position))


def records(config: Config) -> int:
    return int(simulated(config).n_records.max())


def longest_step(config: Config) -> float:
    return float(np.nanmax(simulated(config).dt))


def status(config: Config) -> list[int]:
    return simulated(config).status.tolist()


def ends(config: Config) -> list[float]:
    return simulated(config).final.time.tolist()


def compared(config: Config) -> str:
    table = at_equal_cost(
        setup(config.simulate), config.compare.criteria, config.compare.tuning_runs
    )
    return table.to_csv()


def benchmarked(config: Config) -> str:
    """All but the times."""
    table = run_benchmark(config.benchmark)
    return table.drop(columns=["cpu_seconds", "setup_seconds"]).to_csv()


def judged(config: Config) -> str:
    found = equal_errors.at_equal_errors(run_benchmark(config.benchmark))
    return found[["pair", "rival"]].to_csv()


def timings(config: Config) -> int:
    calls = []

    def simulate(*arguments, **options):
        calls.append(1)
        return nb.simulate(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(work_precision, "simulate", simulate)
        run_benchmark(config.benchmark)
    return len(calls)


def timed_steps(config: Config) -> list[str]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MOST_STEPS", "PAIR_FORCES"):
            patch.setattr(engine_speed, name, 200)
        patch.setattr(engine_speed, "SYSTEMS", 2)
        return engine_speed.ratios(config.benchmark.engine_speed, repeats=1)["what"].tolist()


def kept(config: Config) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        train(config, folder)
        return sorted(path.name for path in Path(folder).glob("policies/*"))


class Film(NamedTuple):
    """What a player finds in a file."""

    n_frames: int
    seconds: float
    pixels: bytes


def filmed(config: Config) -> Film:
    settings = config.movie.settings()
    with tempfile.TemporaryDirectory() as folder:
        path = str(movie(setup(config.simulate).run(), Path(folder) / "movie.mp4", **settings))
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-i", path]
        raw = subprocess.run(
            [*command, "-f", "rawvideo", "-pix_fmt", "gray", "-"], capture_output=True, check=True
        )
        return Film(*imageio_ffmpeg.count_frames_and_secs(path), raw.stdout)


def n_frames(config: Config) -> int:
    return filmed(config).n_frames


def seconds(config: Config) -> float:
    return filmed(config).seconds


def n_pixels(config: Config) -> int:
    return len(filmed(config).pixels)


def pictures(config: Config) -> bytes:
    return filmed(config).pixels


def in_wandb(config: Config) -> list[tuple[str, str]]:
    """Where whole mirrors of an empty run are shown."""
    with tempfile.TemporaryDirectory() as folder:
        with mirrored(Run(Path(folder)), config.tracking, progress=False):
            pass
        kept = [each for each in attempts(Path(folder)) if each.exit_code == 0]
        return [(each.run.project, each.run.run_group) for each in kept]


def script(config: Config) -> str:
    return cluster.batch_script(config.cluster, "stars", 3000)


def requeues(config: Config) -> int:
    with tempfile.TemporaryDirectory() as folder:
        made = cluster.submitit_executor(Path(folder), config.cluster, "local", "stars")
        return made.max_num_timeout


def searched(config: Config) -> tuple[list[str], str, list[str]]:
    """Files that a sweep leaves, its trials, and what its best preset trains."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # few systems to hold out
        run = Run(Path(folder) / "sweep")
        run.path.mkdir()
        found = sweep(config, run.path)
        trials = found.trials.drop(columns="seconds").to_csv(index=False)
        files = sorted(path.name for path in run.path.glob("*[a-z]"))
        return files, trials, list(found.study.user_attrs["objectives"])


class Row(NamedTuple):
    """Two values of a setting, what shows the difference, and the other settings."""

    a: Any
    b: Any
    shows: Callable[[Config], Any]
    base: dict[str, Any] = {}  # noqa: RUF012


BASIC = {"network.features": ("basic",)}
MANUAL = {**BASIC, "network.normalisation": "manual"}
FIELD = {"mass": 1.0, "position": (4.0, 0.0), "velocity": (0.0, 0.5)}
IN_FIELD = {"train.scenario.field": FIELD, "simulate.scenario.field": FIELD}
TWO_PHASE = {"train.scheme": "two_phase"}
EVOLUTION = {
    "train.scheme": "evolution",
    "train.orbit_time": 3.0,
    "train.optimiser": "sgd",
    "train.gradient_clip": None,
}
LEARNED = {"simulate.policy": "trained"}
DEEP = {"simulate.scenario.parameters": {"n_systems": 2, "dimensions": 3}}
LONG = {"train.epochs": 12, "train.batches": 1}
SLURM = {"cluster.executor": "slurm"}
SEEDS = {"train.seed": {"choices": [1, 2, 3]}}
CALIBRATION = {"sweep.objectives": ("calibration",)}
OFFLINE = {"tracking.wandb": "offline"}


def only(loss: str) -> dict[str, Any]:
    return {"train.loss.weights": {loss: 1.0}}


STRICT = only("energy_band") | {"train.loss.energy_upper": 1e-6}


def scenario(section: str, shows: Callable[[Config], Any]) -> dict[str, Row]:
    """Rows of the scenario of a section."""
    start = f"{section}.scenario."
    return {
        start + "source": Row(
            "kepler_orbits", "hierarchical_triple", shows, {start + "parameters": {}}
        ),
        start + "parameters": Row({"n_systems": 2}, {"n_systems": 2, "seed": 1}, shows),
        start + "G": Row(1.0, 2.0, shows),
        start + "softening": Row(0.0, 0.1, shows),
        start + "field.mass": Row(1.0, 2.0, shows, IN_FIELD),
        start + "field.position": Row((4.0, 0.0), (0.0, 4.0), shows, IN_FIELD),
        start + "field.velocity": Row(None, (0.0, 2.0), shows, IN_FIELD),
    }


EFFECTS: dict[str, Row] = {
    "network.features": Row(("scale_free",), ("basic",), weights),
    "network.history": Row(1, 2, weights, HISTORY),
    "network.history_padding": Row("zero", "oldest", weights, HISTORY),
    "network.normalisation": Row("raw", "automatic", weights, BASIC),
    "network.length_scale": Row(1.0, 2.0, inputs, MANUAL),
    "network.velocity_scale": Row(1.0, 2.0, inputs, MANUAL),
    "network.acceleration_scale": Row(None, 2.0, inputs, MANUAL),
    "network.hidden": Row((6,), (5, 4), weights),
    "network.activation": Row("softsign", "tanh", weights),
    "network.dropout": Row(0.0, 0.5, weights),
    "network.fourier_features": Row(0, 4, weights),
    "network.fourier_scale": Row(1.0, 0.1, weights, {"network.fourier_features": 4}),
    "network.predict_error": Row(False, True, predicts_an_error),
    "network.largest_correction": Row(20.0, 1.0001, weights),
    "network.precision": Row("float32", "float64", weights),
    **scenario("train", weights),
    "train.loss.weights": Row({"energy_band": 1.0}, {"step_size": 1.0}, weights),
    "train.loss.error_at": Row("next", "max", weights, STRICT),
    "train.loss.energy_upper": Row(1e-3, 1e-2, weights, only("energy_band")),
    "train.loss.body_upper": Row(1e-3, 1e-2, weights, only("body_band")),
    "train.loss.momentum_upper": Row(1e-12, 1e-4, weights, only("momentum_band") | IN_FIELD),
    "train.loss.angular_momentum_upper": Row(
        1e-10, 1e-4, weights, only("angular_momentum_band") | IN_FIELD
    ),
    "train.scheme": Row("batched", "two_phase", weights),
    "train.families": Row((), ({"source": "few_body", "t_end": 1.0},), weights),
    "train.stepping": Row("plain", "reversible", weights, EVOLUTION),
    "train.members": Row((), ({"integrator": "yoshida4"},), kind_of_policy, EVOLUTION),
    "train.start": Row(None, "no such policy", refusal),
    "train.evolution.method": Row("slope", "cma", weights, EVOLUTION),
    "train.evolution.pairs": Row(2, 3, weights, EVOLUTION),
    "train.evolution.noise": Row(0.05, 0.1, weights, EVOLUTION),
    "train.evolution.systems": Row(3, 2, weights, EVOLUTION),
    "train.evolution.final_share": Row(0.0, 1.0, weights, EVOLUTION),
    "train.evolution.keep_to_tolerance": Row(0.0, 1.0, weights, EVOLUTION),
    "train.evolution.calibration_systems": Row(0, 4, calibrated, EVOLUTION),
    "train.integrator": Row("leapfrog", "yoshida4", weights),
    "train.tolerances": Row((1e-4, 1e-3), (1e-3, 1e-2), weights),
    "train.n_steps": Row(2, 3, weights),
    "train.orbit_time": Row(0.5, 1.0, weights),
    "train.pool_size": Row(64, 16, weights),
    "train.batch_size": Row(8, 4, weights),
    "train.batches": Row(2, 3, weights),
    "train.steps_per_epoch": Row(3, 2, weights, TWO_PHASE),
    "train.energy_threshold": Row(1e-4, 100.0, weights, TWO_PHASE),
    "train.max_retrain_steps": Row(0, 2, weights, TWO_PHASE | {"train.energy_threshold": 1e-4}),
    "train.replay_batch_size": Row(4, 64, weights, TWO_PHASE | {"train.energy_threshold": 1.0}),
    "train.min_replay_size": Row(2, 1000, weights, TWO_PHASE | {"train.energy_threshold": 1.0}),
    "train.replay_steps": Row(
        1, 3, weights, TWO_PHASE | {"train.learning_rate": 0.3, "train.energy_threshold": 1e-3}
    ),
    "train.keep_every": Row(0, 1, kept),
    "train.epochs": Row(3, 2, epochs),
    "train.max_seconds": Row(None, 1e-9, epochs),
    "train.patience": Row(None, 1, epochs, LONG),
    "train.optimiser": Row("adam", "sgd", weights),
    "train.learning_rate": Row(1e-3, 1e-2, weights),
    "train.weight_decay": Row(0.0, 0.1, weights),
    "train.momentum": Row(0.0, 0.9, weights, {"train.optimiser": "sgd"}),
    "train.schedule": Row("cosine", "constant", weights),
    "train.lbfgs_epochs": Row(0, 1, weights),
    "train.gradient_clip": Row(None, 1e-3, weights, {"train.optimiser": "sgd"}),
    "train.seed": Row(0, 1, weights),
    "train.device": Row("cpu", "cuda", refusal),
    "train.anomaly": Row(False, True, anomaly_is_on),
    **scenario("simulate", path_of_bodies),
    "simulate.policy": Row("boekholt", "fixed", path_of_bodies),
    "simulate.eta": Row(0.05, 0.1, longest_step),
    "simulate.dt": Row(1e-2, 2e-2, longest_step, {"simulate.policy": "fixed"}),
    "simulate.integrator": Row("leapfrog", None, path_of_bodies),
    "simulate.tolerance": Row(1e-5, 1e-3, longest_step, LEARNED),
    "simulate.guard": Row(None, True, path_of_bodies, {"simulate.eta": 1.0}),
    "simulate.keep": Row(
        None,
        "aim",
        path_of_bodies,
        {"simulate.policy": "auto", "simulate.integrator": "gbs", "simulate.t_end": 20.0},
    ),
    "simulate.stepping": Row("plain", "reversible", path_of_bodies),
    "simulate.clock": Row(None, "regularised", path_of_bodies),
    "simulate.engine": Row("auto", "unheard-of", refusal),
    "simulate.t_end": Row(1.0, 0.5, ends),
    "simulate.periods": Row(0.5, 0.25, ends, {"simulate.t_end": None}),
    "simulate.record_every": Row(1, 3, records),
    "simulate.record_times": Row(0, 5, records),
    "simulate.max_steps": Row(None, 5, status),
    "simulate.collision_distance": Row(None, 10.0, status),
    "simulate.escape_distance": Row(None, 1e-3, status),
    "compare.criteria": Row(("boekholt",), ("free_fall",), compared),
    "compare.tuning_runs": Row(1, 2, compared, {"compare.criteria": ("free_fall",)}),
    "benchmark.families": Row(("two_body_e50",), ("two_body_e90",), benchmarked),
    "benchmark.systems": Row(2, 3, benchmarked),
    "benchmark.peer_systems": Row(1, 2, benchmarked, {"benchmark.peers": ("bs",)}),
    "benchmark.seed": Row(0, 1, benchmarked),
    "benchmark.run_length": Row(0.1, 0.2, benchmarked),
    "benchmark.integrators": Row(("leapfrog",), ("mclachlan4",), benchmarked),
    "benchmark.criteria": Row((), ("boekholt",), benchmarked),
    "benchmark.policies": Row((), ("untrained",), benchmarked),
    "benchmark.steppings": Row(("plain",), ("reversible",), benchmarked),
    "benchmark.peers": Row((), ("bs",), benchmarked),
    "benchmark.judged": Row("leapfrog fixed", "leapfrog boekholt", judged),
    "benchmark.baseline": Row(
        ("classical",), ("fixed",), judged, {"benchmark.judged": "leapfrog fixed"}
    ),
    "benchmark.settings": Row(2, 3, benchmarked),
    "benchmark.max_evaluations": Row(100, 10_000, benchmarked),
    "benchmark.repeats": Row(1, 2, timings),
    "benchmark.engine_speed": Row((), (3,), timed_steps),
    "movie.system": Row(0, 1, pictures),
    "movie.max_frames": Row(3, 4, n_frames),
    "movie.frames_per_second": Row(30, 10, seconds),
    "movie.width": Row(200, 240, n_pixels),
    "movie.height": Row(120, 160, n_pixels),
    "movie.panels": Row([], ["energy"], pictures),
    "movie.frame": Row("inertial", 1, pictures),
    "movie.pace": Row("time", "steps", pictures),
    "movie.azimuth": Row(-60.0, 10.0, pictures, DEEP),
    "movie.elevation": Row(25.0, 60.0, pictures, DEEP),
    "movie.turn": Row(0.0, 90.0, pictures, DEEP),
    "movie.look": Row("light", "dark", pictures),
    "movie.codec": Row("libx264", "mpeg4", pictures),
    "movie.trail": Row(1, 3, pictures),
    "sweep.space": Row(
        {"train.seed": {"low": 0, "high": 99}}, {"train.seed": {"choices": [1]}}, searched
    ),
    "sweep.objectives": Row(("cost_ratio",), ("loss",), searched),
    "sweep.levels": Row((1e-2,), (1e-4,), searched),
    "sweep.asked": Row(1e-3, 1e-4, searched, CALIBRATION),
    "sweep.systems": Row(1, 2, searched),
    "sweep.trials": Row(1, 2, searched),
    "sweep.sampler": Row("random", "grid", searched, {"sweep.space": SEEDS}),
    "sweep.pruner": Row(None, "median", searched, {"sweep.trials": 9, "train.epochs": 2}),
    "sweep.workers": Row(1, 2, searched, {"cluster.executor": "local"}),
    "sweep.storage": Row(None, f"sqlite:///{tempfile.mkdtemp()}/study.db", searched),
    "sweep.seed": Row(0, 1, searched),
    "cluster.executor": Row("slurm", "local", script),
    "cluster.partition": Row(None, "gpu", script, SLURM),
    "cluster.account": Row(None, "astro", script, SLURM),
    "cluster.qos": Row(None, "short", script, SLURM),
    "cluster.minutes": Row(60, 30, script, SLURM),
    "cluster.cpus": Row(1, 2, script, SLURM),
    "cluster.gpus": Row(0, 1, script, SLURM),
    "cluster.memory": Row(None, 8.0, script, SLURM),
    "cluster.parallel": Row(None, 10, script, SLURM),
    "cluster.jobs": Row(1000, 2000, script, SLURM),
    "cluster.grace": Row(90, 120, script, SLURM),
    "cluster.requeues": Row(100, 3, requeues),
    "cluster.setup": Row((), ("module load cuda",), script, SLURM),
    "tracking.wandb": Row(None, "offline", in_wandb),
    "tracking.project": Row("orbits", "others", in_wandb, OFFLINE),
    "tracking.group": Row(None, "all", in_wandb, OFFLINE),
    "tracking.patience": Row(60.0, 0.01, in_wandb, OFFLINE),
}
PROGRESS = {
    "train.progress": train,
    "simulate.progress": simulated,
    "benchmark.progress": benchmarked,
    "sweep.progress": searched,
}


def test_every_setting_is_tested_for_its_effect():
    assert set(leaves()) == set(EFFECTS) | set(PROGRESS)


@pytest.mark.parametrize("path", EFFECTS)
def test_a_setting_has_an_effect(path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    row = EFFECTS[path]
    results = [
        row.shows(load_config(None, {**SMALL, **row.base, path: value})) for value in (row.a, row.b)
    ]
    assert results[0] != results[1]


@pytest.mark.parametrize("path", PROGRESS)
@pytest.mark.parametrize("wanted", [True, False])
def test_a_progress_bar_is_shown_where_it_is_wanted(path, wanted, capfd):
    PROGRESS[path](load_config(None, {**SMALL, path: wanted}))
    assert bool(capfd.readouterr().err) == wanted


@pytest.mark.parametrize("shows", [weights, path_of_bodies, compared, benchmarked, pictures])
def test_what_shows_an_effect_shows_none_without_a_change(shows):
    config = load_config(None, {**SMALL, "compare.tuning_runs": 1})
    first = shows(config)
    _trained.cache_clear()
    assert shows(config) == first
