"""Other codes under one interface, for work-precision comparisons.

All run in 3 dimensions; a planar system gets z = 0 and is as dear as a spatial one. Forces and
times are theirs; the energy error is judged alike for all, by `physics.pair_law`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from nbcore.analysis.peer_runs import (
    EVALUATIONS_PER_STEP,
    Peer,
    PeerRun,
    Prepared,
    Watch,
    run_length,
)
from nbcore.analysis.planetary_peers import PLANETARY
from nbcore.analysis.rebound_peers import ADAPTIVE, LEAPFROGS
from nbcore.analysis.timing import clock
from nbcore.physics import pair_law
from nbcore.physics.compiled import compiled
from nbcore.physics.rebound_io import import_peer, one_system
from nbcore.physics.state import State
from nbcore.simulation.status import Status

__all__ = ["PEERS", "Peer", "PeerRun", "Prepared", "missing"]

Array = NDArray[np.float64]
pair_weight = compiled(pair_law.pair_weight)

MOST_UNROLLED = 8  # bodies; heyoka takes 3 s to compile as many, and ten times as long for 12


def missing() -> dict[str, str]:
    """Peers that can't run, with the package that is not installed."""
    return {name: peer.package for name, peer in PEERS.items() if find_spec(peer.package) is None}


@dataclass(frozen=True)
class Heyoka:
    """Taylor series of heyoka, compiled for each number of bodies, masses and tolerance.

    The setting is the tolerance. A compiled integrator is kept for the next system alike, and by
    heyoka itself on disk: setup_seconds is what this preparation took.

    References
    ----------
    Biscani & Izzo (2021), MNRAS 504, 2614.
    """

    settings: tuple[float, ...]
    package: str = "heyoka"
    evaluations: int = EVALUATIONS_PER_STEP

    def prepare(self, state: State, t_end: float, setting: float) -> Prepared:
        """See Peer."""
        start = clock()
        mass, position, velocity = one_system(state)
        run_length(state, t_end)
        integrator = _taylor(tuple((state.G * mass).tolist()), state.softening, setting)
        initial = np.concatenate([position, velocity]).ravel()
        return _HeyokaRun(clock() - start, state, t_end, integrator, initial)


@dataclass(frozen=True)
class _HeyokaRun:
    setup_seconds: float
    state: State
    t_end: float
    integrator: Any
    initial: Array

    def _reset(self) -> None:
        self.integrator.time = float(self.state.time[0])
        self.integrator.state[:] = self.initial

    def measure(self, max_steps: int) -> PeerRun:
        watch = Watch(self.state, max_steps)
        self._reset()
        outcome, *_ = self.integrator.propagate_until(
            self.t_end,
            callback=lambda now: watch(*_halves(now.state), now.time != self.t_end),
        )
        if outcome == import_peer("heyoka").taylor_outcome.err_nf_state:
            watch.status = Status.NON_FINITE.name  # there is no call back after such a step
        return watch.report(*_halves(self.integrator.state), math.nan)

    def time(self) -> float:
        self._reset()
        start = clock()
        self.integrator.propagate_until(self.t_end)
        return clock() - start


@lru_cache(maxsize=64)
def _taylor(gm: tuple[float, ...], softening: float, tolerance: float) -> Any:
    """Compile an integrator for given G m.

    Masses that are constants of the compiled code make runs 12 to 20 % quicker than masses that
    are parameters of a run.
    """
    hy = import_peer("heyoka")
    n_bodies = len(gm)
    position = [[hy.make_vars(f"{x}{i}") for x in "xyz"] for i in range(n_bodies)]
    velocity = [[hy.make_vars(f"v{x}{i}") for x in "xyz"] for i in range(n_bodies)]
    terms: list[list[list[Any]]] = [[[] for _ in "xyz"] for _ in range(n_bodies)]
    eps2 = [] if softening == 0 else [hy.expression(softening**2)]
    for i in range(n_bodies):
        for j in range(i + 1, n_bodies):
            R = [b - a for a, b in zip(position[i], position[j], strict=True)]
            # The pair law as one power: `pair_law.pair_weight` needs three series for it and makes
            # runs 25 % longer. With this, three bodies are up to 7 % quicker than heyoka's own
            # `model.nbody`, which knows no softening, and 16 bodies 5 % slower.
            weight = hy.sum([x**2.0 for x in R] + eps2) ** -1.5
            for d in range(3):
                terms[i][d].append(gm[j] * (weight * R[d]))
                terms[j][d].append(-gm[i] * (weight * R[d]))
    bodies, axes = range(n_bodies), range(3)
    equations = [(position[i][d], velocity[i][d]) for i in bodies for d in axes]
    equations += [(velocity[i][d], hy.sum(terms[i][d])) for i in bodies for d in axes]
    return hy.taylor_adaptive(
        equations,
        state=np.zeros(6 * n_bodies),
        tol=tolerance,
        compact_mode=n_bodies > MOST_UNROLLED,
    )


@dataclass(frozen=True)
class Dop853:
    """Dormand & Prince's method of order 8 in SciPy, on a compiled right-hand side.

    The setting is the tolerance, relative and absolute. SciPy steps in Python: of the 7 µs that an
    evaluation at three bodies costs, the compiled force takes 1 µs and the rest is NumPy on small
    arrays. So this shows what a general solver in Python costs, not what the method could.

    References
    ----------
    Hairer, Nørsett & Wanner (1993), Solving Ordinary Differential Equations I, II.10.
    """

    settings: tuple[float, ...]
    package: str = "scipy"
    evaluations: int = EVALUATIONS_PER_STEP

    def prepare(self, state: State, t_end: float, setting: float) -> Prepared:
        """See Peer."""
        start = clock()
        solver = import_peer(self.package).integrate.DOP853
        mass, position, velocity = one_system(state)
        initial, begin = np.concatenate([position, velocity]).ravel(), float(state.time[0])
        run_length(state, t_end)

        def rates(_: float, y: Array) -> Array:
            return _rates(mass, y, state.G, state.softening)

        def fresh() -> Any:
            return solver(rates, begin, initial, t_end, rtol=setting, atol=setting)

        fresh()
        return _Dop853Run(clock() - start, state, fresh)


@dataclass(frozen=True)
class _Dop853Run:
    setup_seconds: float
    state: State
    fresh: Callable[[], Any]

    def measure(self, max_steps: int) -> PeerRun:
        watch, solver, going = Watch(self.state, max_steps), self.fresh(), True
        while going and solver.status == "running":
            solver.step()
            if solver.status == "failed":
                watch.status = Status.DT_UNDERFLOW.name
            else:
                going = watch(*_halves(solver.y), solver.status == "running")
        return watch.report(*_halves(solver.y), solver.nfev)

    def time(self) -> float:
        start = clock()
        solver = self.fresh()  # chooses the first step by two evaluations: part of the run
        while solver.status == "running":
            solver.step()
        return clock() - start


def _halves(y: Array) -> tuple[Array, Array]:
    """Position and velocity (N, 3) of a flat state."""
    position, velocity = y.reshape(2, -1, 3)
    return position, velocity


@njit(error_model="numpy")
def _rates(mass, y, G, softening):
    """Velocities and accelerations, flat, of positions and velocities, flat."""
    half, out = 3 * len(mass), np.zeros(len(y))
    for k in range(half):
        out[k] = y[half + k]
    for i in range(len(mass)):
        for j in range(i + 1, len(mass)):
            r2 = softening * softening
            for d in range(3):
                r2 += (y[3 * j + d] - y[3 * i + d]) ** 2
            weight = G * pair_weight(r2)
            for d in range(3):
                R = y[3 * j + d] - y[3 * i + d]
                out[half + 3 * i + d] += mass[j] * weight * R
                out[half + 3 * j + d] -= mass[i] * weight * R
    return out


PEERS: dict[str, Peer] = {
    **ADAPTIVE,
    **LEAPFROGS,
    **PLANETARY,
    "heyoka": Heyoka((1e-4, 1e-6, 1e-8, 1e-10, 1e-12, 1e-15)),
    "dop853": Dop853((1e-4, 1e-6, 1e-8, 1e-10, 1e-12, 1e-13)),
}
