"""REBOUND's integrators for any bodies, see `peers`."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from nbcore.analysis.peer_runs import (
    EVALUATIONS_PER_STEP,
    Peer,
    PeerRun,
    Prepared,
    Watch,
    run_length,
)
from nbcore.analysis.timing import clock
from nbcore.physics.rebound_io import import_peer, to_rebound
from nbcore.physics.state import State
from nbcore.stepping.criteria import get_criterion

__all__ = ["ADAPTIVE", "LEAPFROGS", "Rebound", "use"]

FIRST_STEP = 0.01  # of the pair time scale, for adaptive integrators; the rest they find


@dataclass(frozen=True)
class Rebound:
    """An integrator of REBOUND, run by its own compiled loop.

    `measure` watches that same loop through a heartbeat, and counts the force evaluations through
    `additional_forces`, which REBOUND calls after each; neither changes a bit of the motion.

    Attributes
    ----------
    configure
        (simulation, setting, run length, pair time scale at the start) -> None.
    """

    configure: Callable[[Any, float, float, float], None]
    settings: tuple[float, ...]
    package: str = "rebound"
    evaluations: int = EVALUATIONS_PER_STEP

    def prepare(self, state: State, t_end: float, setting: float) -> Prepared:
        """See Peer."""
        start = clock()
        import_peer(self.package)
        span = run_length(state, t_end)
        tau = float(get_criterion("boekholt").time_scale(state)[0])

        def fresh() -> Any:
            sim = to_rebound(state)
            self.configure(sim, setting, span, tau)
            return sim

        fresh()
        return _ReboundRun(clock() - start, state, t_end, fresh)


def _ias15(sim: Any, setting: float, span: float, tau: float, adaptive_mode: str) -> None:
    """Use IAS15; the setting is its epsilon.

    References
    ----------
    Rein & Spiegel (2015), MNRAS 446, 1424; Pham, Rein & Spiegel (2024), Open Journal of
    Astrophysics 7, 1 (PRS23, the default); Aarseth (1985), in Multiple Time Scales, p. 377.
    """
    use(sim, FIRST_STEP * tau, "ias15", epsilon=setting, adaptive_mode=adaptive_mode)


def _bulirsch_stoer(sim: Any, setting: float, span: float, tau: float) -> None:
    """Use Gragg, Bulirsch & Stoer; the setting is its tolerance, relative and absolute."""
    use(sim, FIRST_STEP * tau, "bs", eps_rel=setting, eps_abs=setting)


def _leapfrog(sim: Any, setting: float, span: float, tau: float, order: int) -> None:
    """Use equal steps; the setting is their length in units of the pair time scale at the start."""
    use(sim, span / math.ceil(span / (setting * tau)), "leapfrog", order=order)


def use(sim: Any, dt: float, integrator: str, **options: float | str) -> None:
    """Set an integrator of REBOUND, with its options by name."""
    sim.dt, sim.integrator = dt, integrator
    for name, value in options.items():
        setattr(sim.integrator, name, value)


@dataclass(frozen=True)
class _ReboundRun:
    setup_seconds: float
    state: State
    t_end: float
    fresh: Callable[[], Any]

    def measure(self, max_steps: int) -> PeerRun:
        watch, sim, evaluations = Watch(self.state, max_steps), self.fresh(), 0
        position, velocity = np.empty((2, sim.N, 3))
        # Steps of equal length reach the end up to rounding.
        rounding = 1e-12 * (abs(self.t_end) + abs(sim.t))

        def count(_: Any) -> None:
            nonlocal evaluations
            evaluations += 1

        def heartbeat(pointer: Any) -> None:
            now = pointer.contents
            if now.steps_done == 0:
                return
            now.serialize_particle_data(xyz=position, vxvyvz=velocity)
            if not watch(position, velocity, self.t_end - now.t > rounding):
                now.stop()

        sim.additional_forces, sim.heartbeat = count, heartbeat
        try:
            _integrate(sim, self.t_end)
        except (RuntimeError, import_peer("rebound").GenericError) as error:
            watch.status = str(error)
        sim.serialize_particle_data(xyz=position, vxvyvz=velocity)
        return watch.report(position, velocity, evaluations)

    def time(self) -> float:
        sim = self.fresh()
        start = clock()
        _integrate(sim, self.t_end)
        return clock() - start


def _integrate(sim: Any, t_end: float) -> None:
    with warnings.catch_warnings():
        # Such as an iteration of IAS15 that does not converge: the energy error tells.
        warnings.simplefilter("ignore", RuntimeWarning)
        sim.integrate(t_end)


ADAPTIVE: dict[str, Peer] = {
    "ias15 prs23": Rebound(
        partial(_ias15, adaptive_mode="PRS23"), (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-9)
    ),
    "ias15 aarseth85": Rebound(
        partial(_ias15, adaptive_mode="AARSETH85"), (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
    ),
    "bs": Rebound(_bulirsch_stoer, (1e-4, 1e-6, 1e-8, 1e-10, 1e-12)),
}
LEAPFROGS: dict[str, Peer] = {
    "rebound leapfrog2": Rebound(partial(_leapfrog, order=2), (0.1, 0.03, 0.01, 0.003, 0.001)),
    "rebound leapfrog4": Rebound(partial(_leapfrog, order=4), (0.1, 0.03, 0.01, 0.003, 0.001)),
    "rebound leapfrog6": Rebound(partial(_leapfrog, order=6), (0.3, 0.1, 0.03, 0.01, 0.003)),
    "rebound leapfrog8": Rebound(partial(_leapfrog, order=8), (0.3, 0.1, 0.03, 0.01, 0.003)),
}
