"""The first part of a run, made to see what all of it will cost.

A pilot is the run itself, which ends after so many steps: it knows how long the whole is, and so
makes the very steps that this would begin with.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nbcore.physics.arrays import to_numpy
from nbcore.physics.state import State
from nbcore.simulation.passes import ENDS, errors_of
from nbcore.simulation.simulate import simulate
from nbcore.simulation.status import Status
from nbcore.simulation.trajectory import Trajectory

__all__ = ["ROUNDING", "SHARE", "Pilot", "Pilots", "made"]

Array = NDArray[np.float64]

SHARE = 0.1  # of a run, that a pilot may make
LEAST_STEPS = 2  # of the last pilot, however short the run
ENOUGH = 0.6  # of that share, which need not be gone beyond
FASTER = 8  # times the steps of a pilot that the next one makes, at most
LONGEST = 0.5  # [s] of steps, after which no longer pilot is made
REPEATS, LONG_ENOUGH = 7, 0.3  # of a timing; [s] that all of them take, at most
SEEN = 0.5  # of what a call itself takes, that steps must take to be timed beside it
LOOKS = 1000  # at the error of the last pilot, to see how it grows
LOOKED_AT = 16  # records that are looked at for strange states, when a run is over
ROUNDING = 1e-15  # smallest error that is seen
COPIES, EVALUATIONS = 2048, 400_000  # of systems that are timed together; of all of them


class Pilot(NamedTuple):
    """A first part of a run.

    Attributes
    ----------
    steps
        Of each system, at most.
    share
        (B,) of the run; 1 of one that has ended by itself.
    evaluations
        (B,) of the forces.
    error
        (B,) largest error of the energy or of a body's orbit.
    status
        (B,) how it ended.
    """

    steps: int
    share: Array
    evaluations: Array
    error: Array
    status: NDArray[np.int64]

    @property
    def failed(self) -> bool:
        """Whether some system can't be gone on with."""
        return bool(np.isin(self.status, (Status.NON_FINITE, Status.DT_UNDERFLOW)).any())


class Pilots(NamedTuple):
    """What was made of a run, each pilot longer than that before.

    Attributes
    ----------
    made
        At least one; the first makes one step.
    first
        Number of the one that is timed beside the last.
    call
        Seconds of it, nearly all of which the call takes and not its steps.
    rate
        Seconds of an evaluation.
    slope
        (B,) power of time with which the error grew in the second half of the last pilot.
    about
        Of the run: see `Trajectory.about`.
    """

    made: list[Pilot]
    first: int
    call: float
    rate: float
    slope: Array
    about: dict[str, Any]

    @property
    def evaluations(self) -> Array:
        """Those (B,) of the whole run, at the pace of its first part."""
        first, last = self.made[0], self.made[-1]
        gone = last.share - first.share
        steady = gone > 0
        some = np.where(steady, last.evaluations - first.evaluations, last.evaluations)
        pace = some / np.where(steady, gone, last.share)
        return last.evaluations + pace * (1 - last.share)

    def seconds(self, evaluations: Array) -> float:
        """Those of a run that takes so many evaluations (B,)."""
        begun = self.made[self.first].evaluations
        return self.call + self.rate * float((evaluations - begun).sum())


def made(state: State, t_end: Array, given: Mapping[str, Any], timed: bool = True) -> Pilots:
    """Make pilots of a run, until they tell what it costs or are a tenth of it.

    Parameters
    ----------
    state
        (B, …)
    t_end
        (B,) [T], finite.
    given
        The other arguments of `simulate`.
    timed
        Whether seconds are to be known, for which runs are repeated.
    """
    begun, most = to_numpy(state.time), given.get("max_steps")

    def go(steps: int) -> tuple[Pilot, Trajectory, float]:
        run, seconds = _run(state, t_end, given, steps)
        share = (to_numpy(run.final.time) - begun) / (t_end - begun)
        status = run.summary["status"]
        if most is not None:
            share = np.maximum(share, min(steps / most, 1.0))
        share = np.where(np.isin(status, ENDS), 1.0, share)
        counted = run.summary["n_force_evaluations"].astype(float)
        return Pilot(steps, share, counted, errors_of(run), status), run, seconds

    if timed:
        go(1)  # which compiles
    pilot, run, call = go(1)
    every, spent = [pilot], call
    while not pilot.failed and spent - call < LONGEST and (more := _more(pilot)) is not None:
        pilot, run, spent = go(more)
        every.append(pilot)
    first = _first(every)
    call = rate = math.nan
    if timed:
        call, rate = _timed(state, t_end, given, every[first], pilot)
    looked = {**given, "record": max(1, pilot.steps // LOOKS)}
    slope = _slope(_run(state, t_end, looked, pilot.steps)[0])
    return Pilots(every, first, call, rate, slope, run.about)


def _first(every: list[Pilot]) -> int:
    """Number of the pilot to time beside the last: one after whose steps a call looks, if any."""
    known = (k for k, each in enumerate(every) if LOOKED_AT <= each.steps <= every[-1].steps / 2)
    return next(known, 0)


def _slope(run: Trajectory) -> Array:
    """Power of time (B,) with which the largest error so far grew in the second half."""
    energy, orbits = (np.asarray(run.arrays[name]) for name in ("energy_error", "body_error"))
    off = np.fmax(energy, np.fmax.reduce(orbits, axis=2))
    off = np.maximum.accumulate(np.fmax(off, ROUNDING), axis=1)
    at = np.asarray(run.arrays["time"])
    slope = np.zeros(len(at))
    for b, rows in enumerate(run.n_records):
        gone = at[b, :rows] - at[b, 0]
        half = np.searchsorted(gone, gone[-1] / 2, side="right") - 1
        if half > 0:
            slope[b] = np.log2(off[b, rows - 1] / off[b, half])
    return slope


def _more(last: Pilot) -> int | None:
    """Steps of the next pilot; None where those made are enough."""
    share = float(np.median(last.share))
    if share >= 1 or (last.steps >= LEAST_STEPS and share >= ENOUGH * SHARE):
        return None
    to_go = SHARE / share if share > 0 else FASTER
    steps = max(int(last.steps * min(to_go, FASTER)), LEAST_STEPS)
    return steps if steps > last.steps else None


def _run(
    state: State, t_end: Array, given: Mapping[str, Any], steps: int
) -> tuple[Trajectory, float]:
    """So many steps, and their seconds: those that were waited, or those worked if fewer."""
    waited, worked = time.perf_counter(), time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = simulate(state, t_end, **{**given, "max_steps": steps, "progress": False})
    if (run.summary["status"] == Status.INTERRUPTED).any():
        raise KeyboardInterrupt
    return run, min(time.perf_counter() - waited, time.process_time() - worked)


def _timed(
    state: State, t_end: Array, given: Mapping[str, Any], first: Pilot, last: Pilot
) -> tuple[float, float]:
    """Seconds of a call, and of an evaluation."""
    count = float((last.evaluations - first.evaluations).sum())
    call, whole = _least(state, t_end, given, first.steps, last.steps)
    if count <= 0:
        return call, 0.0
    if whole - call > SEEN * call:
        return call, (whole - call) / count
    # Steps are lost beside what the call itself takes, and are seen where many systems make them.
    copies = int(np.clip(EVALUATIONS / count, 1, COPIES))
    many = np.tile(np.arange(state.n_systems), copies)
    some, asked = state.select(many.tolist()), {**_alone(given, state), "record": "ends"}
    if np.ndim(asked["tolerance"]):
        asked["tolerance"] = np.tile(asked["tolerance"], copies)
    few, lot = _least(some, t_end[many], asked, first.steps, last.steps)
    return call, max(lot - few, 0.0) / (copies * count)


def _alone(given: Mapping[str, Any], state: State) -> Mapping[str, Any]:
    """The same, and systems of planets are not run side by side where they would not be."""
    if given.get("integrator") != "wisdom_holman" or state.n_systems > 1:
        return given
    from nbcore.physics.wisdom_holman import WisdomHolman

    return {**given, "integrator": WisdomHolman(side_by_side=False)}


def _least(
    state: State, t_end: Array, given: Mapping[str, Any], few: int, many: int
) -> tuple[float, float]:
    """Seconds of few and of many steps, in turn, the least of several times."""

    def go(steps: int) -> float:
        return _run(state, t_end, given, steps)[1]

    spent = [(go(few), go(many))]
    while len(spent) < REPEATS and np.sum(spent) < LONG_ENOUGH:
        spent.append((go(few), go(many)))
    least = np.min(spent, axis=0)
    return float(least[0]), float(least[1])
