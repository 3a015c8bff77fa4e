"""Cost and error of every method at every setting on the systems of one family."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nbcore.analysis import peers as others
from nbcore.analysis.families import Problem, end_positions, position_errors, problem
from nbcore.analysis.methods import Method
from nbcore.analysis.peer_runs import EVALUATIONS_PER_STEP
from nbcore.analysis.timing import clock
from nbcore.config import Benchmark
from nbcore.errors import InputError
from nbcore.physics.arrays import to_numpy
from nbcore.physics.integrators import get_integrator
from nbcore.physics.state import State
from nbcore.physics.wisdom_holman import WisdomHolman
from nbcore.simulation.simulate import simulate
from nbcore.simulation.status import Status
from nbcore.simulation.trajectory import Trajectory

__all__ = ["measured", "measured_on"]

Array = NDArray[np.float64]
Row = dict[str, Any]

# Runs so many times dearer than others as accurate are timed once: a few percent are nothing there.
NO_CONTEST = 3.0
MEASURES = ("max_energy_error", "max_body_error", "position_error")  # to be as accurate by
SET_UPS = 2.0  # that steps are worth, if at most so many copies of the systems suffice
MOST_COPIES = 64
EQUAL_STEPS = "wisdom_holman"
LOOKS = 240  # at energy and orbits, of what does not look at every step
LEAST_SHARE = 0.1  # of a call that its steps take; less can't be told from the noise of its set-up


def measured(
    family: str,
    config: Benchmark,
    ours: Iterable[Method],
    peers: Iterable[str],
    advance: Callable[[], object],
) -> tuple[list[Row], dict[str, str]]:
    """Run every method on the held-out systems of a family.

    Parameters
    ----------
    ours, peers
        Methods, and names of peers that are installed.
    advance
        Called after each of them.

    Returns
    -------
    A row a run of one system, see `benchmark.run_benchmark`, and the methods and peers that don't
    apply to these systems with the reason.
    """
    at = problem(family, "held_out", config.systems, config.seed, config.run_length)
    truth = end_positions(family, at)
    if truth is None:
        truth = np.full(at.state.position.shape, np.nan)
    limit = config.max_evaluations
    timed, unfit = _run_ours(ours, at, truth, limit, advance)
    for name in peers:
        settings = _thinned(others.PEERS[name].settings, config.settings)
        runs = (
            _OneByOne(name, setting, at, truth, limit, config.peer_systems) for setting in settings
        )
        try:
            timed += _until_exhausted(runs)
        except InputError as error:
            unfit[name] = str(error)
        advance()
    about = {"family": family, "n_bodies": at.state.n_bodies}
    return [{**about, **row} for row in _timed_by_turns(timed, config.repeats)], unfit


def measured_on(at: Problem, ours: Iterable[Method], limit: int, repeats: int) -> list[Row]:
    """Run our methods on any systems; those that don't apply to them have no rows.

    Parameters
    ----------
    limit
        Most force evaluations of a system.
    repeats
        How often each run is timed.

    Returns
    -------
    Rows as of `measured`, without a family; no position at the end is known.
    """
    unknown = np.full(at.state.position.shape, np.nan)
    timed, _ = _run_ours(ours, at, unknown, limit, lambda: None)
    return _timed_by_turns(timed, repeats)


def _run_ours(
    ours: Iterable[Method],
    at: Problem,
    truth: Array,
    limit: int,
    advance: Callable[[], object],
) -> tuple[list[_Timed], dict[str, str]]:
    """Runs of our methods, and those that don't apply with the reason."""
    timed, unfit = list[_Timed](), dict[str, str]()
    for method in ours:
        reason = _obstacle(method, at)
        if reason is None:
            setups = dict[str, _Setup]()
            runs = (
                _Batch(method, setting, at, truth, limit, setups) for setting in method.settings
            )
            timed += _until_exhausted(runs)
        else:
            unfit[method.name] = reason
        advance()
    return timed, unfit


def _timed_by_turns(timed: list[_Timed], repeats: int) -> list[Row]:
    """Rows of runs, those that others are not much quicker than timed so often, by turns."""
    contenders = _contenders(timed)
    for _ in range(repeats - 1):
        for runs in contenders:
            runs.time_again()
    return [row for runs in timed for row in runs.timed_rows()]


class _Quickest:
    """The least of repeated timings, of which one may be known."""

    def __init__(self, measure: Callable[[], float], seconds: float = math.inf) -> None:
        self.measure = measure
        self.seconds = seconds

    def again(self) -> None:
        self.seconds = min(self.seconds, self.measure())


class _Setup:
    """Calls of a method that make one step in each system, or in each of several copies of it.

    Attributes
    ----------
    evaluations
        Of the steps of all systems.
    """

    def __init__(self, method: Method, at: Problem, setting: float) -> None:
        self._method, self._at, self._setting = method, at, setting
        self._timed: dict[int, _Quickest] = {}
        self.evaluations = float(self._call(1)[0].summary["n_force_evaluations"].sum())

    def _call(self, copies: int) -> tuple[Trajectory, float]:
        method = self._method
        return _simulate(method, self._setting, _copied(self._at, copies), max_steps=1)

    def of(self, copies: int) -> _Quickest:
        if copies not in self._timed:
            self._timed[copies] = _Quickest(lambda: self._call(copies)[1])
        return self._timed[copies]


class _Timed(Protocol):
    """Runs of one method at one setting, timed once or more."""

    rows: list[Row]

    def time_again(self) -> None:
        """Run once more; the quickest counts."""
        ...

    def seconds(self) -> Array:
        """(B,) of a run, NaN for one that is not timed."""
        ...

    def timed_rows(self) -> list[Row]:
        """Rows with all columns but the family."""
        ...


class _Batch:
    """One of our methods: all systems in one call.

    Evaluations cost the same in every system, so the time of the call without its set-up is shared
    out by their numbers. The set-up, a call that makes one step, is timed by turns with the call;
    it is the quickest over all settings, so that noise makes us slower rather than quicker, of
    "auto" over those that it makes the same steps by. What it takes off counts as that of its own
    evaluations, of which some methods make many in a step. Where it is most of the call, a call
    with several copies of the systems is timed.

    Parameters
    ----------
    limit
        Most force evaluations of a system.
    setups
        Shared by all settings of the method: by what makes the steps, which "auto" chooses.
    """

    def __init__(
        self,
        method: Method,
        setting: float,
        at: Problem,
        truth: Array,
        limit: int,
        setups: dict[str, _Setup],
    ) -> None:
        policy = method.policy(setting, at.state, at.t_end)
        each = EVALUATIONS_PER_STEP if method.integrator != EQUAL_STEPS else 1
        if policy is not None:
            each = get_integrator(method.integrator).evaluations + policy.evaluations
        most = limit // each
        named, (run, seconds) = method, _simulate(method, setting, at, most)
        if run.about["integrator"] == EQUAL_STEPS != method.integrator:
            # What "auto" takes goes through its systems one after the other, like all the others.
            method = replace(method, integrator=EQUAL_STEPS)
            run, seconds = _simulate(method, setting, at, most)
        position = position_errors(to_numpy(run.final.position), truth)
        summary, evaluations = run.summary, run.summary["n_force_evaluations"]
        made_by = str(run.about["integrator"])
        if made_by == EQUAL_STEPS:  # which are timed without looking at them
            every = max(int(summary["n_steps"].min()) // LOOKS, 1)
            run, _ = _simulate(method, setting, at, most, record=every)
            summary = run.summary
        last = run.n_records - 1
        ends = np.arange(len(last)), last
        final = np.asarray(run.arrays["energy_error"])[ends]
        final_body = np.asarray(run.arrays["body_error"])[ends].max(axis=1)
        about = {
            "method": named.name,
            "kind": named.kind,
            "rule": named.rule,
            "integrator": named.integrator,
            "stepping": named.stepping,
            "setting": setting,
        }
        self.rows = [
            {
                **about,
                "system": k,
                **_outcome(
                    Status(int(summary["status"][k])).name,
                    int(summary["n_steps"][k]),
                    float(evaluations[k]),
                    {
                        "max_energy_error": summary["max_energy_error"][k],
                        "final_energy_error": final[k],
                        "max_body_error": summary["max_body_error"][k],
                        "final_body_error": final_body[k],
                        "position_error": position[k],
                    },
                ),
            }
            for k in range(at.state.n_systems)
        ]
        if made_by not in setups:
            setups[made_by] = _Setup(method, at, setting)
        setup = setups[made_by]
        setup.of(1).again()
        copies = _copies_worth(seconds, setup.of(1).seconds)
        many = _copied(at, copies)
        self._alone, self._setup = setup.of(1), setup.of(copies)
        self._whole = _Quickest(lambda: _simulate(method, setting, many, most)[1], seconds)
        if copies > 1:
            self._whole.seconds = math.inf
            self.time_again()
        beyond = max(1 - setup.evaluations / evaluations.sum(), LEAST_SHARE)
        self._share = evaluations / evaluations.sum() / beyond / copies

    def time_again(self) -> None:
        self._setup.again()
        self._whole.again()

    def seconds(self) -> Array:
        whole = self._whole.seconds
        return max(whole - self._setup.seconds, LEAST_SHARE * whole) * self._share

    def timed_rows(self) -> list[Row]:
        each = self._alone.seconds / len(self.rows)
        return [
            {**row, "cpu_seconds": float(seconds), "setup_seconds": each}
            for row, seconds in zip(self.rows, self.seconds(), strict=True)
        ]


class _OneByOne:
    """A peer: system by system, each set up before it is run."""

    def __init__(
        self, name: str, setting: float, at: Problem, truth: Array, limit: int, n_systems: int
    ) -> None:
        self.rows: list[Row] = []
        peer = others.PEERS[name]
        self._setup, self._runs = list[float](), list[_Quickest | None]()
        about = {"method": name, "kind": "peer", "rule": "", "integrator": "", "stepping": ""}
        for k in range(min(n_systems, at.state.n_systems)):
            one = at.state.select([k])
            prepared = peer.prepare(one, float(at.t_end[k]), setting)
            run = prepared.measure(limit // peer.evaluations)
            (position,) = position_errors(run.position[None], truth[k : k + 1])
            errors = {
                "max_energy_error": run.max_energy_error,
                "final_energy_error": run.final_energy_error,
                "max_body_error": math.nan,
                "final_body_error": math.nan,
                "position_error": position,
            }
            outcome = _outcome(run.status, run.n_steps, run.n_force_evaluations, errors)
            self.rows.append({**about, "setting": setting, "system": k, **outcome})
            self._setup.append(prepared.setup_seconds)
            finished = run.status == Status.SUCCESS.name
            self._runs.append(_Quickest(prepared.time) if finished else None)
        self.time_again()

    def time_again(self) -> None:
        for run in self._runs:
            if run is not None:
                run.again()

    def seconds(self) -> Array:
        return np.array([math.nan if run is None else run.seconds for run in self._runs])

    def timed_rows(self) -> list[Row]:
        return [
            {**row, "cpu_seconds": float(seconds), "setup_seconds": setup}
            for row, seconds, setup in zip(self.rows, self.seconds(), self._setup, strict=True)
        ]


def _copies_worth(seconds: float, setup: float) -> int:
    """Copies, a power of 2, with which steps take longer than the set-up."""
    steps = max(seconds - setup, LEAST_SHARE * seconds)
    return min(2 ** max(0, math.ceil(math.log2(SET_UPS * setup / steps))), MOST_COPIES)


def _copied(at: Problem, copies: int) -> Problem:
    return Problem(State.concatenate([at.state] * copies), np.tile(at.t_end, copies))


def _most(runs: _Timed, status: Status) -> bool:
    """Whether most systems ended so."""
    return 2 * sum(row["status"] == status.name for row in runs.rows) > len(runs.rows)


def _until_exhausted(runs: Iterable[_Timed]) -> list[_Timed]:
    """Take runs from loose to strict, none stricter than one that most systems can't afford."""
    taken = []
    for each in runs:
        taken.append(each)
        if _most(each, Status.MAX_STEPS):
            break
    return taken


def _contenders(timed: Iterable[_Timed]) -> list[_Timed]:
    """Those that ended and, by some measure, are not much dearer than any that is as accurate."""
    ended = [runs for runs in timed if _most(runs, Status.SUCCESS)]
    cost = np.array([np.nanmedian(runs.seconds()) for runs in ended])
    near = np.zeros(len(ended), bool)
    for measure in MEASURES:
        error = np.array([_median(runs, measure) for runs in ended])
        for k in np.flatnonzero(~np.isnan(error)):
            near[k] |= cost[k] <= NO_CONTEST * cost[error <= error[k]].min()
    return [runs for runs, is_near in zip(ended, near, strict=True) if is_near]


def _median(runs: _Timed, measure: str) -> float:
    known = [row[measure] for row in runs.rows if not math.isnan(row[measure])]
    return median(known) if known else math.nan


def _obstacle(method: Method, at: Problem) -> str | None:
    """Why a method can't run on these systems, or None; what it needs is compiled hereby."""
    try:
        _simulate(method, method.settings[0], at, max_steps=1)
    except InputError as error:
        return str(error)
    return None


def _simulate(
    method: Method, setting: float, at: Problem, max_steps: int, record: str | int = "ends"
) -> tuple[Trajectory, float]:
    """Run a batch, and the CPU seconds that the call took."""
    integrator: Any = method.integrator or None
    if integrator == EQUAL_STEPS:  # one after the other, as all the others
        integrator = WisdomHolman(side_by_side=False)
    policy = method.policy(setting, at.state, at.t_end)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the table tells what is lost
        start = clock()
        run = simulate(
            at.state,
            at.t_end,
            policy,
            integrator=integrator,
            tolerance=method.tolerance(setting),
            stepping=method.stepping or None,
            engine="compiled",
            record=record,
            max_steps=max_steps,
        )
        return run, clock() - start


def _outcome(status: str, n_steps: int, evaluations: float, errors: Mapping[str, float]) -> Row:
    """Columns of how a run ended; what did not reach the end has errors without bound."""
    lost = status != Status.SUCCESS.name
    return {
        "status": status,
        "n_steps": n_steps,
        "n_force_evaluations": evaluations,
        # What is not known of a method stays so.
        **{k: math.inf if lost and not math.isnan(v) else float(v) for k, v in errors.items()},
    }


def _thinned(settings: Sequence[float], most: int) -> list[float]:
    """At most so many of the settings, evenly from the loosest to the strictest."""
    index = np.linspace(0, len(settings) - 1, min(most, len(settings))).round().astype(int)
    return [settings[i] for i in index]
