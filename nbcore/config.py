"""Configuration: frozen, validated sections; a TOML preset, then dotted overrides.

Nothing here knows the rest of nbcore: names of scenarios, features, losses and so on are checked
by the tables that hold them, when a run starts. Every field has a default, a meaning and an effect.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable, Mapping
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from nbcore.atomic import replacing
from nbcore.errors import InputError, unknown_name
from nbcore.places import SHIPPED

__all__ = [
    "Benchmark",
    "Cluster",
    "Comparison",
    "Config",
    "Evolution",
    "FamilyConfig",
    "FieldConfig",
    "LossConfig",
    "Movie",
    "Network",
    "ScenarioConfig",
    "Simulation",
    "Sweep",
    "Tracking",
    "Training",
    "load_config",
    "make_config",
    "parse_value",
    "parsed",
    "preset_comment",
    "preset_names",
    "save_config",
    "with_settings",
]

PRESETS = SHIPPED / "configs"

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Tolerance = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
CountOrZero = Annotated[int, Field(ge=0)]
Widths = tuple[Count, ...]


class Section(BaseModel):
    """A group of settings that can't be changed once made."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        validate_default=True,
        allow_inf_nan=True,
    )


class FieldConfig(Section):
    """External tidal field of a point mass."""

    mass: Positive
    """Mass of the distant point [M]."""
    position: tuple[float, ...]
    """Where it is at time 0, 2 or 3 numbers [L]."""
    velocity: tuple[float, ...] | None = None
    """How it moves, on a straight line [L/T]; without it, it stays."""


class ScenarioConfig(Section):
    """Initial conditions."""

    source: str = "few_body"
    """Name of a scenario, or path of a file (.npy .npz .txt .csv .dat .tsv .json)."""
    parameters: dict[str, Any] = {}
    """Arguments of the scenario, such as n_systems, n_bodies, seed; none for a file."""
    G: Positive | None = None
    """Gravitational constant; without it the file's own, or 1."""
    softening: NotNegative | None = None
    """Plummer softening length [L]; without it the file's own, or 0."""
    field: FieldConfig | None = None
    """External tidal field."""


class FamilyConfig(ScenarioConfig):
    """Systems to train on, one of several kinds."""

    t_end: Positive | None = None
    """How long each of them is followed [T]."""
    periods: Positive | None = None
    """The same in periods of each two-body orbit, instead of t_end."""

    @model_validator(mode="after")
    def _one_end(self) -> FamilyConfig:
        if (self.t_end is None) == (self.periods is None):
            raise ValueError(f"family {self.source!r}: give either t_end or periods")
        return self


class Network(Section):
    """The network of a learned policy and what it sees."""

    features: tuple[str, ...] = ("scale_free",)
    """Names of features or feature sets, in order."""
    history: CountOrZero = 0
    """Past transitions that the history features look back on; needed by delta_mag."""
    history_padding: Literal["zero", "oldest"] = "zero"
    """What fills the history before enough steps are made."""
    normalisation: Literal["raw", "automatic", "manual"] = "raw"
    """Units of dimensional features: as they are, from the initial state, or given below."""
    length_scale: Positive = 1.0
    """L0 of manual normalisation [L]."""
    velocity_scale: Positive = 1.0
    """V0 of manual normalisation [L/T]."""
    acceleration_scale: Positive | None = None
    """A0 of manual normalisation [L/T²]; V0²/L0 unless given."""
    hidden: Widths = (16, 16)
    """Widths of the hidden layers."""
    activation: str = "softsign"
    """Between the layers: softsign, tanh, relu, gelu, silu."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of hidden units dropped in training; never in use."""
    fourier_features: CountOrZero = 0
    """Random Fourier features of the input; 0 for none."""
    fourier_scale: Positive = 1.0
    """Standard deviation of their frequencies."""
    predict_error: bool = False
    """Whether a second output predicts the relative energy error."""
    largest_correction: Annotated[float, Field(gt=1, allow_inf_nan=False)] = 20.0
    """The network changes the classical step by at most this factor, either way."""
    precision: Literal["float32", "float64"] = "float32"
    """Of the network; the dynamics are always float64."""


class LossConfig(Section):
    """Weights of the loss and where its bands lie."""

    weights: dict[str, NotNegative] = {"energy_band": 1.0, "step_size": 0.3}
    """Weight of each named loss; one that is not named is not used. To set one, such as
    train.loss.weights.body_band, leaves the others as they are."""
    error_at: Literal["next", "last", "mean", "max"] = "max"
    """Which of the states forward the errors of the energy and of the bodies are taken from."""
    energy_upper: Positive = 0.1
    """Upper edge of the energy band, in units of the tolerance; there is no lower edge."""
    body_upper: Positive = 0.1
    """Upper edge of the band of every body's error, in units of the tolerance."""
    momentum_upper: Positive = 1e-12
    """Upper edge of the momentum band, relative."""
    angular_momentum_upper: Positive = 1e-10
    """Upper edge of the angular momentum band, relative."""


class Evolution(Section):
    """Training on whole runs, by evolution strategies."""

    method: Literal["slope", "cma"] = "slope"
    """How the weights follow what is tried: by the optimiser, down the slope between pairs; or by
    CMA-ES, which has steps of its own and heeds neither optimiser nor learning rate; of gbs by
    CMA-ES always."""
    pairs: Count = 8
    """Pairs of networks that are tried in an epoch, each a step of noise to either side; of cma
    twice as many networks, drawn freely."""
    noise: Positive = 0.05
    """Standard deviation of that step in every weight; of cma at the start."""
    systems: Count = 24
    """Systems of each number of bodies and dimensions that all of them run in an epoch."""
    final_share: Annotated[float, Field(ge=0, le=1)] = 0.25
    """Share of the error at the end in the error that counts; the rest is the maximum."""
    keep_to_tolerance: NotNegative = 0.15
    """Weight of the square of the decades between maximum error and tolerance."""
    calibration_systems: CountOrZero = 64
    """Systems of each family by which the tolerance is calibrated at the end; 0 for none."""


class Training(Section):
    """How a policy is trained."""

    scenario: ScenarioConfig = ScenarioConfig()
    """Systems to train on."""
    loss: LossConfig = LossConfig()
    """What is minimised."""
    families: tuple[FamilyConfig, ...] = ()
    """Kinds of systems to train on, instead of `scenario`; they may differ in all but units."""
    evolution: Evolution = Evolution()
    """Settings of that scheme."""
    scheme: Literal["batched", "two_phase", "oracle", "evolution"] = "batched"
    """Batches of states along many orbits; collect with accept/reject and replay; regression on
    the largest steps that keep within the tolerance; or whole runs, by evolution strategies."""
    start: str | None = None
    """Policy whose network, or law, training starts from; none for an untrained one."""
    integrator: str = "suzuki4"
    """Integrator that the policy is trained for; of gbs, by evolution, the law by which its runs
    spend their tolerance, for which `network`, stepping and the optimiser have no meaning."""
    stepping: Literal["plain", "reversible"] = "plain"
    """How the policy will step; evolution trains it as it will be run."""
    members: tuple[dict[str, Any], ...] = ()
    """Settings in which several trainings differ whose policies make a suite, such as integrator
    and tolerances; none for a single policy."""
    tolerances: tuple[Tolerance, Tolerance] = (1e-8, 1e-3)
    """Range from which tolerances are drawn, uniform in the logarithm."""
    n_steps: Count = 4
    """Steps forward through the differentiable engine for each loss."""
    orbit_time: Positive = 10.0
    """How long each training system is followed before it starts again [T]."""
    pool_size: Count = 4096
    """States along the orbits that batched training draws from."""
    batch_size: Count = 256
    """States in each optimiser step of batched training."""
    batches: Count = 8
    """Optimiser steps in an epoch of batched training."""
    steps_per_epoch: Count = 16
    """Accepted steps of each system in part 1 of a two-phase epoch."""
    energy_threshold: Positive = 1.0
    """A step passes when its relative energy change is below so many tolerances."""
    max_retrain_steps: CountOrZero = 20
    """Optimiser steps on rejected states before the systems still rejected start again."""
    replay_batch_size: Count = 512
    """States in a minibatch of part 2."""
    min_replay_size: Count = 2
    """Part 2 is left out when fewer states were collected."""
    replay_steps: Count = 20
    """Most passes of part 2 over the collected states; it ends when all pass the threshold."""
    epochs: Count = 100
    """Most epochs."""
    max_seconds: Positive | None = None
    """Most wall time; the epoch that passes it is the last."""
    patience: Count | None = None
    """Epochs without a better loss before training stops early."""
    optimiser: str = "adam"
    """adam, adamw, sgd, lbfgs."""
    learning_rate: Positive = 3e-3
    """At the start of the schedule."""
    weight_decay: NotNegative = 0.0
    """Of the optimiser; lbfgs takes none."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Of sgd."""
    schedule: str = "cosine"
    """Learning rate over the epochs: constant, cosine, exponential, linear."""
    lbfgs_epochs: CountOrZero = 0
    """The last so many epochs are run with LBFGS."""
    gradient_clip: Positive | None = 1.0
    """Largest norm of the gradient."""
    keep_every: CountOrZero = 0
    """Keep the policy after every so many epochs, for a film of the training; 0 for none."""
    seed: CountOrZero = 0
    """Of the weights, the batches, the noise and the dropout."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes a GPU if there is one."""
    anomaly: bool = False
    """Let torch name the operation that made a gradient NaN; slow."""
    progress: bool = True
    """Show a progress bar with loss, dt and energy error."""

    @model_validator(mode="after")
    def _ordered(self) -> Training:
        low, high = self.tolerances
        if low > high:
            raise ValueError(f"tolerances ({low}, {high}) must be ordered from small to large")
        if self.lbfgs_epochs > self.epochs:
            raise ValueError(
                f"lbfgs_epochs ({self.lbfgs_epochs}) must not exceed epochs ({self.epochs})"
            )
        return self


class Simulation(Section):
    """A run with a policy."""

    scenario: ScenarioConfig = ScenarioConfig()
    """Systems to run; a checkpoint's own training systems if source is 'checkpoint'."""
    policy: str = "boekholt"
    """'auto', which leaves method and steps to the run; 'default' or another shipped policy, path
    of a checkpoint, name of a criterion, 'fixed', 'untrained', or 'trained' for the run's own."""
    eta: Positive = 0.05
    """η of a criterion."""
    dt: Positive = 1e-3
    """Step of the policy 'fixed' [T]."""
    integrator: str | None = None
    """Integrator, such as 'gbs' with the policy 'auto'; without it the checkpoint's, or suzuki4;
    'auto' lets a suite of policies choose."""
    tolerance: Tolerance = 1e-5
    """Relative energy error that is accepted."""
    stepping: Literal["plain", "reversible"] | None = None
    """Plain steps, or steps that run backward the way they came; without it as the policy was
    trained, otherwise plain."""
    clock: str | None = None
    """Transformed time in which steps are equal, such as 'regularised', and the policy says how
    long the first one is; without it physical time."""
    guard: bool | None = None
    """Redo steps that change the energy by too much; without it for learned policies alone."""
    keep: Literal["aim", "bound"] | None = None
    """'aim': a run of gbs errs by about its tolerance, by what it has erred by so far; 'bound': no
    body errs by more, as systems that do are gone over."""
    engine: str = "auto"
    """What runs the loop: auto, ready (at once), compiled, any_number (of bodies), torch."""
    t_end: Annotated[float, Field(gt=0)] | None = 10.0
    """End of the run [T]; inf together with max_steps."""
    periods: Positive | None = None
    """End of the run in periods of each two-body orbit, instead of t_end."""
    record_every: CountOrZero | None = None
    """Record every so many steps; 0 for the two ends only; none: each, and points within gbs's."""
    record_times: CountOrZero = 0
    """Record at so many equidistant times instead of at steps."""
    max_steps: Count | None = None
    """Most steps of each system."""
    collision_distance: Positive | None = None
    """A system stops with COLLISION where two bodies come closer, within a step, too [L]."""
    escape_distance: Positive | None = None
    """A system stops with ESCAPE where a body is farther from the centre of mass [L]."""
    progress: bool = True
    """Show a progress bar."""

    @model_validator(mode="after")
    def _one_end(self) -> Simulation:
        if (self.t_end is None) == (self.periods is None):
            raise ValueError("give either t_end or periods (set the other to 'none')")
        if self.t_end == math.inf and self.max_steps is None:
            raise ValueError("t_end = inf never ends; give max_steps, too")
        return self


class Comparison(Section):
    """Learned against classical steps at equal cost."""

    criteria: tuple[str, ...] = ("boekholt", "free_fall", "huayno", "prs23")
    """Classical criteria to compare with; each is tuned to the same cost, system by system."""
    tuning_runs: Count = 3
    """Runs in which η of each criterion is adapted to that cost."""


class Benchmark(Section):
    """Cost against error, over families of problems, methods and accuracy settings.

    A list of names that is none stands for all that there are.
    """

    families: tuple[str, ...] | None = None
    """Families of problems."""
    systems: Count = 16
    """Systems of each family; dear families run a share of them."""
    peer_systems: Count = 8
    """The first so many of them are run with the peers, too, and compared with theirs."""
    seed: CountOrZero = 0
    """Of the systems, which are held out: no seed of a training gives them."""
    run_length: Positive = 1.0
    """Length of the runs, in units of each family's own."""
    integrators: tuple[str, ...] | None = None
    """Integrators; 'auto', and those that choose their own steps, run without a rule."""
    criteria: tuple[str, ...] | None = None
    """Classical criteria."""
    policies: tuple[str, ...] | None = None
    """Learned policies: shipped names, paths, and 'untrained' for the network before training."""
    steppings: tuple[Literal["plain", "reversible"], ...] = ("plain", "reversible")
    """How criteria and policies step."""
    peers: tuple[str, ...] | None = None
    """Other codes; one that is not installed is named in the result."""
    judged: str | None = None
    """A method, such as 'auto', that is set beside the baseline at equal errors."""
    baseline: tuple[str, ...] = ("classical", "fixed", "learned")
    """Methods, by name or by kind, of which the cheapest counts."""
    settings: Annotated[int, Field(ge=2)] = 6
    """Accuracy settings of each method, from loose to strict; at most so many of each peer."""
    max_evaluations: Annotated[int, Field(ge=100)] = 200_000
    """Most force evaluations that a system may cost; a system that needs more is lost."""
    repeats: Count = 3
    """How often each run is timed, by turns with all others; the quickest counts."""
    engine_speed: tuple[Annotated[int, Field(ge=2)], ...] = (3, 10, 100, 1000, 4000)
    """Numbers of bodies for which a step is timed against REBOUND's; none leaves that part out."""
    progress: bool = True
    """Show a progress bar."""


class Movie(Section):
    """A movie of a trajectory."""

    system: CountOrZero = 0
    """Which system of a batch."""
    max_frames: Annotated[int, Field(ge=2)] = 300
    """Most frames; the records are thinned to as many."""
    frames_per_second: Count = 30
    """Frames a second."""
    width: Annotated[int, Field(ge=64)] = 1200
    """Pixels of a frame."""
    height: Annotated[int, Field(ge=64)] = 720
    """Pixels of a frame, with which writing grows."""
    trail: Count = 60
    """Length of the trails in frames."""
    panels: tuple[str, ...] = ("errors", "dt")
    """What is drawn beside the orbits: errors, energy, energy_error, body_error, momentum_error,
    angular_momentum_error, dt, separation."""
    frame: CountOrZero | Literal["inertial", "rotating"] = "inertial"
    """What is at rest: nothing that moves, the bodies 0 and 1, or the body of a number."""
    pace: Literal["time", "steps"] = "time"
    """Frames equidistant in time, or in steps."""
    azimuth: float = -60.0
    """Of the camera in three dimensions [degrees]."""
    elevation: float = 25.0
    """Of the camera in three dimensions [degrees]."""
    turn: float = 0.0
    """How far the camera goes round in the film [degrees]."""
    look: Literal["light", "dark"] = "light"
    """Colours."""
    codec: str = "libx264"
    """Encoder of FFMPEG."""

    def settings(self) -> dict[str, Any]:
        """Arguments of `views.movies.movie`."""
        return self.model_dump()


class Sweep(Section):
    """A search for the settings of a training that serve best."""

    space: dict[str, dict[str, Any]] = {
        "train.learning_rate": {"low": 1e-3, "high": 1e-1, "log": True}
    }
    """What is searched: dotted keys, each with low and high (and log, or step), or choices."""
    objectives: tuple[Literal["cost_ratio", "calibration", "spread", "loss"], ...] = ("cost_ratio",)
    """What is made small: force evaluations over those of the best classical rule at equal error;
    decades from the tolerance to the error; decades between errors; the loss of the training."""
    levels: tuple[Tolerance, ...] = (1e-4, 1e-6)
    """Maximum errors at which costs are compared."""
    asked: Tolerance = 1e-5
    """Tolerance at which the errors are looked at."""
    systems: Count = 64
    """Held-out systems of each shape that a policy is judged by."""
    trials: Count = 40
    """Trainings in all; a grid has its own number."""
    sampler: Literal["tpe", "random", "grid"] = "tpe"
    """How settings are drawn; a grid tries all combinations."""
    pruner: Literal["median", "hyperband"] | None = None
    """What ends trainings early whose loss promises little; for a single objective."""
    workers: Count = 1
    """Processes, or jobs of a cluster, that make trials at the same time."""
    storage: str | None = None
    """URL of a database; without it a journal in the run folder, which may be a shared one."""
    seed: CountOrZero = 0
    """Of the sampler."""
    progress: bool = True
    """Show a progress bar of trials."""

    @model_validator(mode="after")
    def _one_objective_to_prune(self) -> Sweep:
        if not self.objectives or not self.space:
            raise ValueError("give at least one of objectives, and one key in space")
        if self.pruner is not None and len(self.objectives) > 1:
            raise ValueError(
                f"pruner {self.pruner!r} goes with one objective, not with {len(self.objectives)}; "
                "use 'none'"
            )
        return self


class Cluster(Section):
    """Where the members of an array run, and what a job may use."""

    executor: Literal["auto", "slurm", "local"] = "auto"
    """SLURM, processes on this machine, or SLURM if there is one."""
    partition: str | None = None
    """Of SLURM."""
    account: str | None = None
    """That is charged."""
    qos: str | None = None
    """Quality of service."""
    minutes: Count = 60
    """Time limit of a job [min]; one that reaches it is queued again and goes on."""
    cpus: Count = 1
    """Cores of a job."""
    gpus: CountOrZero = 0
    """GPUs of a job."""
    memory: Positive | None = None
    """Of a job [GB]."""
    parallel: Count | None = None
    """Most jobs at once; without it what the scheduler allows, or what the cores here allow."""
    jobs: Count = 1000
    """Most jobs of an array in SLURM; more members are dealt out to them."""
    grace: Count = 90
    """How long before its time limit a job is told to save [s]."""
    requeues: CountOrZero = 100
    """How often a job that ran out of time is queued again."""
    setup: tuple[str, ...] = ()
    """Lines of shell before each job, such as module load."""

    @model_validator(mode="after")
    def _time_to_save(self) -> Cluster:
        if self.grace >= 60 * self.minutes:
            raise ValueError(
                f"cluster.grace is {self.grace} s, which a limit of cluster.minutes = "
                f"{self.minutes} does not hold"
            )
        return self


class Tracking(Section):
    """A mirror of the run's record in Weights & Biases; the run needs none."""

    wandb: Literal["auto", "online", "offline"] | None = "auto"
    """Sent as the run goes, or kept to be sent later, or sent if this user is logged in; none
    leaves W&B out."""
    project: Annotated[str, Field(pattern=r"^[^/\\#?%:]{1,128}$")] = "aitimestepper"
    """Of W&B, where the run is shown."""
    group: str | None = None
    """Of W&B, under which runs are shown together."""
    patience: Positive = 15.0
    """How long the run waits for its mirror at the end [s]."""


class Config(Section):
    """Everything that a run needs."""

    network: Network = Network()
    """The learned policy."""
    train: Training = Training()
    """Its training."""
    simulate: Simulation = Simulation()
    """The simulation."""
    compare: Comparison = Comparison()
    """The comparison at equal cost."""
    benchmark: Benchmark = Benchmark()
    """The benchmark."""
    movie: Movie = Movie()
    """The movie."""
    sweep: Sweep = Sweep()
    """The search for settings."""
    cluster: Cluster = Cluster()
    """Jobs of an array."""
    tracking: Tracking = Tracking()
    """The mirror in Weights & Biases."""


def preset_names() -> list[str]:
    """Names of the presets in configs/."""
    return sorted(path.stem for path in PRESETS.glob("*.toml"))


def preset_comment(name: str) -> str:
    """First sentence of the comment that a preset begins with."""
    lines = (PRESETS / f"{name}.toml").read_text(encoding="utf-8").splitlines()
    comment = takewhile(lambda line: line.startswith("#"), lines)
    return " ".join(line.lstrip("# ") for line in comment).partition(". ")[0].removesuffix(".")


def load_config(
    preset: str | Path | None = None, overrides: Iterable[str] | Mapping[str, Any] = ()
) -> Config:
    """Read a preset and apply overrides.

    Parameters
    ----------
    preset
        Path of a TOML file, or name of one in configs/; None for the defaults.
    overrides
        Dotted keys and values: «train.epochs=100» or {"train.epochs": 100}; the second of the
        families to train on is train.families.1. A value is read as TOML, as plain text where it
        is not TOML, and `none` clears an optional field. A key within a table, such as
        train.loss.weights.body_band, leaves the others there, set or default, as they are; the
        table itself is replaced. See `with_settings`.

    Raises
    ------
    InputError
        The file is missing or not TOML; a key is unknown; a value is of the wrong type or out of
        range.
    """
    return make_config(with_settings({} if preset is None else _read(preset), overrides))


def with_settings(
    table: Mapping[str, Any], overrides: Iterable[str] | Mapping[str, Any]
) -> dict[str, Any]:
    """A copy of a nested table with dotted settings, sharing what they leave alone.

    A new source of a scenario drops what the old one left: its parameters, units and field, the
    length of the run in its periods, the choice of what a movie shows of it, and, of a training,
    the families that stood in the scenario's place. What the same overrides set stays, in whatever
    order they come.

    Raises
    ------
    InputError
        An override can't be read.
    """
    items = list(parsed(overrides))
    changed = _applied(table, items)
    cleared = _cleared(table, changed, {key for key, _ in items})
    return changed if cleared is table else _applied(cleared, items)


def _applied(table: Mapping[str, Any], items: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    copy = dict(table)
    for key, value in items:
        _set(copy, key, value)
    return copy


def _cleared(
    table: Mapping[str, Any], changed: Mapping[str, Any], given: set[str]
) -> Mapping[str, Any]:
    """The table without what depends on sources of scenarios that are others now."""
    count = len(_at(table, "train.families") or ())
    sections = ["simulate.scenario", "train.scenario"]
    for section in [*sections, *(f"train.families.{k}" for k in range(count))]:
        keys = [f"{section}.{name}" for name in ScenarioConfig.model_fields]
        if _source(table, section) != _source(changed, section):
            table = _without(table, keys)
            if section == "simulate.scenario":
                table = _without(table, ("movie.system", "movie.frame"))
                if _at(table, "simulate.periods") is not None:
                    table = _without(table, ("simulate.periods", "simulate.t_end"))
    number = "simulate.scenario.parameters.n_systems"
    if _at(table, number) != _at(changed, number):
        table = _without(table, ("movie.system",))
    if "train.scenario.source" in given or "train.scenario" in given:
        table = _without(table, ("train.families",))
    return table


def _source(table: Mapping[str, Any], section: str) -> Any:
    return _at(table, f"{section}.source") or ScenarioConfig().source


def _at(table: Any, key: str) -> Any:
    """Value at a dotted key, or None."""
    for name in key.split("."):
        if isinstance(table, (list, tuple)) and name.isdigit() and int(name) < len(table):
            table = table[int(name)]
        else:
            table = table.get(name) if isinstance(table, Mapping) else None
    return table


def _without(table: Mapping[str, Any], keys: Iterable[str]) -> Mapping[str, Any]:
    """A copy without some dotted keys."""
    for key in keys:
        section, _, last = key.rpartition(".")
        inner = _at(table, section)
        if isinstance(inner, Mapping) and last in inner:
            rest = {name: value for name, value in inner.items() if name != last}
            table = _applied(table, [(section, rest)])
    return table


def make_config(table: Mapping[str, Any]) -> Config:
    """Config from a nested table, with errors that name the nearest valid key or range."""
    try:
        return Config.model_validate(table)
    except ValidationError as error:
        raise InputError("; ".join(_explain(problem) for problem in error.errors())) from None


def save_config(config: Config, path: str | Path) -> None:
    """Write as TOML; optional fields that are None are left out or written as «none»."""
    with replacing(path) as part:
        part.write_text(tomli_w.dumps(_to_table(config)), encoding="utf-8")


def _to_table(section: Section) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items()}
        if isinstance(value, (tuple, list)):
            return [plain(v) for v in value]
        return "none" if value is None else value

    return plain(section.model_dump())


def _read(preset: str | Path) -> dict[str, Any]:
    path = Path(preset)
    if not path.suffix and not path.is_file():  # a folder may have the name of a preset
        path = PRESETS / f"{preset}.toml"
        if not path.exists():
            raise unknown_name("preset", preset, preset_names())
    elif not path.exists() and path.parent == Path("configs"):  # as in a checkout, from elsewhere
        path = PRESETS / path.name
    if not path.is_file():
        raise InputError(
            f"config {str(path)!r} does not exist; presets in configs/ are: "
            + ", ".join(preset_names())
        )
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"config {str(path)!r} is not valid TOML: {error}") from None
    return _clear_none(table)


def _clear_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _clear_none(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_clear_none(v) for v in value]
    return None if value == "none" else value


def parsed(overrides: Iterable[str] | Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    """Dotted keys with their values, «none» as None.

    Raises
    ------
    InputError
        One does not read key=value.
    """
    if isinstance(overrides, Mapping):
        yield from ((key, _clear_none(value)) for key, value in overrides.items())
        return
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise InputError(f"override {text!r} must read key=value, such as train.epochs=100")
        yield key.strip(), parse_value(value.strip())


def parse_value(text: str) -> Any:
    """Value written as TOML, plain text where it is not TOML, None for «none»."""
    if text.lower() == "none":
        return None
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _set(table: dict[str, Any], key: str, value: Any) -> None:
    inner: Any = table
    default: Any = Config()
    names = key.split(".")
    for name, below in pairwise(names):
        default = getattr(default, name, None)
        old = inner[_place(inner, name, key)] if _has(inner, name) else default
        if isinstance(old, (list, tuple)) and old and below.isdigit():
            new: Any = list(old)
        else:
            new = dict(old) if isinstance(old, dict) else {}
        inner[_place(inner, name, key)] = new
        inner = new
    inner[_place(inner, names[-1], key)] = value


def _has(inner: Any, name: str) -> bool:
    return isinstance(inner, list) or name in inner


def _place(inner: Any, name: str, key: str) -> Any:
    """Index in a list, or key in a table."""
    if not isinstance(inner, list):
        return name
    if not name.isdigit() or int(name) >= len(inner):
        raise InputError(f"override {key!r}: there are {len(inner)}, numbered from 0")
    return int(name)


def _explain(problem: Any) -> str:
    location = [part for part in problem["loc"] if isinstance(part, str)]
    key = ".".join(location)
    if problem["type"] == "extra_forbidden":
        return str(unknown_name("config key", key, _keys_beside(location)))
    if problem["type"] == "value_error":
        return f"{key}: {problem['ctx']['error']}" if key else str(problem["ctx"]["error"])
    message = problem["msg"][0].lower() + problem["msg"][1:]
    return f"config key {key!r} is {problem['input']!r}; {message}"


def _keys_beside(location: list[str]) -> list[str]:
    section: type[BaseModel] = Config
    for name in location[:-1]:
        annotation = section.model_fields[name].annotation
        options = [annotation, *getattr(annotation, "__args__", ())]
        section = next(o for o in options if isinstance(o, type) and issubclass(o, BaseModel))
    prefix = ".".join(location[:-1])
    return [f"{prefix}.{name}" if prefix else name for name in section.model_fields]
