"""Time of a step: against REBOUND's leapfrog, with step control, and on several cores.

The time of a step is the difference of a long and a short run over the difference of their steps,
so that what a call costs is no part of it. All runs take turns, and the quickest of each counts.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from importlib.util import find_spec
from typing import NamedTuple

import numba
import pandas as pd
from tqdm import tqdm

from nbcore.analysis.methods import learned_policies
from nbcore.analysis.timing import on_threads
from nbcore.physics import scenarios
from nbcore.physics.rebound_io import to_rebound
from nbcore.physics.state import State
from nbcore.simulation.simulate import simulate
from nbcore.stepping.policies import Criterion, FixedStep, Policy

__all__ = ["TARGETS", "Side", "ratios", "seconds_a_step"]

DT, ETA = 1e-5, 1e-4  # so small that a run gets nowhere
PAIR_FORCES = 2e7  # of a long run, a good tenth of a second
SHORTER = 10  # times fewer steps in the short run
MOST_STEPS = 1_000_000
SHARED_OUT = 4000  # bodies from which on all cores work on one system
SYSTEMS = 1000


class Side(NamedTuple):
    """One of two runs that are compared.

    Attributes
    ----------
    seconds
        Steps -> seconds of one run.
    steps
        Of the long run.
    threads
        That it may use.
    """

    seconds: Callable[[int], float]
    steps: int
    threads: int = 1


def ratios(n_bodies: Iterable[int], repeats: int = 5, progress: bool = False) -> pd.DataFrame:
    """Compare times of a step.

    Parameters
    ----------
    n_bodies
        For which the leapfrog is compared with REBOUND's; without any nothing is compared.
    repeats
        How often each run is timed.
    progress
        Show a progress bar.

    Returns
    -------
    DataFrame with a row for each comparison: `what`; `ours` and `beside`, seconds a step, NaN
    where REBOUND is not installed; their `ratio`; `target`, the ratio that it shall not exceed, or
    NaN.
    """
    contests = _against_rebound(n_bodies)
    if contests:
        contests |= {**_step_control(), **_cores()}
    sides = [side for pair in contests.values() for side in pair]
    times = seconds_a_step(sides, repeats, progress)
    rows = zip(contests, times[::2], times[1::2], strict=True)
    table = pd.DataFrame(rows, columns=["what", "ours", "beside"])
    table["ratio"] = table["ours"] / table["beside"]
    table["target"] = [_target(what) for what in contests]
    return table


def seconds_a_step(sides: Sequence[Side], repeats: int, progress: bool = False) -> list[float]:
    """Time runs in turns, see above.

    Returns
    -------
    Seconds a step of each.
    """
    best = {}
    rounds = tqdm(range(repeats), desc="engine speed", disable=not progress)
    for _ in rounds:
        for i, side in enumerate(sides):
            for steps in (side.steps, side.steps // SHORTER):
                with on_threads(side.threads):
                    seconds = side.seconds(steps)
                best[i, steps] = min(seconds, best.get((i, steps), math.inf))
    times = []
    for i, side in enumerate(sides):
        short = side.steps // SHORTER
        times.append((best[i, side.steps] - best[i, short]) / (side.steps - short))
    return times


def _against_rebound(n_bodies: Iterable[int]) -> dict[str, tuple[Side, Side]]:
    contests = {}
    for n in n_bodies:
        state = _state(n)
        steps = int(min(MOST_STEPS, max(SHORTER, PAIR_FORCES / (n * (n - 1) / 2))))
        threads = numba.get_num_threads() if n >= SHARED_OUT else 1
        ours = Side(partial(_ours, state, FixedStep(DT), "leapfrog"), steps, threads)
        contests[_leapfrog(n)] = ours, Side(partial(_rebound, state), steps)
    return contests


def _step_control() -> dict[str, tuple[Side, Side]]:
    """Adaptive and learned steps over fixed ones, for three bodies."""
    state, contests = _state(3), {}
    steps = MOST_STEPS // 5

    def contest(policy: Policy, integrator: str) -> tuple[Side, Side]:
        fixed = Side(partial(_ours, state, FixedStep(DT), integrator), steps)
        return Side(partial(_ours, state, policy, integrator), steps), fixed

    contests[ADAPTIVE] = contest(Criterion("boekholt", ETA), "suzuki4")
    for name, policy in learned_policies(None, ["suzuki4"]):
        integrator = policy.spec.integrator
        contests[_learned(name, integrator)] = contest(policy, integrator)
    return contests


def _cores() -> dict[str, tuple[Side, Side]]:
    """Many systems on all cores over one."""
    state = scenarios.make("few_body", n_systems=SYSTEMS, dimensions=3)
    seconds = partial(_ours, state, Criterion("boekholt", ETA), "suzuki4")
    steps = MOST_STEPS // SYSTEMS
    return {ALL_CORES: (Side(seconds, steps, numba.get_num_threads()), Side(seconds, steps))}


def _state(n_bodies: int) -> State:
    if n_bodies <= 16:
        return scenarios.make("few_body", n_systems=1, n_bodies=n_bodies, dimensions=3)
    return scenarios.make("plummer", n_bodies=n_bodies)


def _ours(state: State, policy: Policy, integrator: str, steps: int) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # it ends by its number of steps
        start = time.perf_counter()
        simulate(
            state,
            math.inf,
            policy,
            integrator=integrator,
            engine="compiled",
            record="ends",
            max_steps=steps,
        )
        return time.perf_counter() - start


def _rebound(state: State, steps: int) -> float:
    if find_spec("rebound") is None:
        return math.nan
    sim = to_rebound(state)
    sim.integrator, sim.dt = "leapfrog", DT
    start = time.perf_counter()
    sim.steps(steps)
    return time.perf_counter() - start


def _leapfrog(n_bodies: int) -> str:
    where = "all cores" if n_bodies >= SHARED_OUT else "one core"
    return f"leapfrog, N = {n_bodies}, {where} / REBOUND's, one core"


def _learned(name: str, integrator: str) -> str:
    return f"learned ({name}) / fixed step, {integrator}, N = 3"


ADAPTIVE = "boekholt / fixed step, suzuki4, N = 3"
ALL_CORES = f"{SYSTEMS} systems, all cores / one core"


def _target(what: str) -> float:
    return TARGETS.get(what, LEARNED_TARGET if what.startswith("learned") else math.nan)


LEARNED_TARGET = 1.5  # over fixed steps, of any policy
TARGETS = {
    _leapfrog(3): 0.4,
    _leapfrog(10): 0.7,
    _leapfrog(100): 1.0,
    _leapfrog(1000): 1.0,
    _leapfrog(4000): 0.6,
    ADAPTIVE: 1.3,
    ALL_CORES: 1 / 1.8,
}
