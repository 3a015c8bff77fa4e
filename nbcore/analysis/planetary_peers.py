"""REBOUND's integrators for planets of a star, see `peers`."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbcore.analysis.peer_runs import PeerRun, Watch, run_length
from nbcore.analysis.rebound_peers import use
from nbcore.analysis.timing import clock
from nbcore.errors import InputError
from nbcore.physics.arrays import to_numpy
from nbcore.physics.orbits import pericentre_distance, pericentre_period
from nbcore.physics.rebound_io import import_peer, one_system, to_rebound
from nbcore.physics.state import State

__all__ = ["PLANETARY", "Planetary", "PlanetaryRun"]

Array = NDArray[np.float64]
Options = Mapping[str, int | str]

SAMPLES = 240  # of the energy
NONE: Options = {}


@dataclass(frozen=True)
class Planetary:
    """An integrator of REBOUND that moves planets along Kepler orbits, in equal steps.

    The setting is their length in units of the shortest `pericentre_period` at the start. Bodies
    are handed over in order of pericentre, the star first: errors depend on it where orbits cross,
    and this order is the best.

    Between synchronisations bodies are out of step with each other, which makes these codes quick.
    So `time` and the end of `measure` are those of a run that is synchronised once, at its end. The
    energy is taken at SAMPLES times of another run, which moves like the first bit for bit where
    REBOUND can synchronise a copy (WHFast, SABA), else up to rounding.

    Attributes
    ----------
    integrator, options
        As REBOUND names them.
    sampled
        More options, for the run whose energy is taken.
    """

    integrator: str
    options: Options
    settings: tuple[float, ...]
    evaluations: int = 1
    sampled: Options = field(default_factory=dict)
    package: str = "rebound"

    def prepare(self, state: State, t_end: float, setting: float) -> PlanetaryRun:
        """See Peer.

        Raises
        ------
        InputError
            Also for two bodies, for softening, without a body that outweighs all others, with one
            that falls straight onto it, and for what REBOUND itself refuses, such as more than 9
            bodies in WHFast512.
        """
        start = clock()
        refusals = (RuntimeError, import_peer(self.package).GenericError)
        mass, _, _ = one_system(state)
        span = run_length(state, t_end)
        n_steps = math.ceil(span / (setting * _time_scale(state, mass)))
        order = np.argsort(to_numpy(pericentre_distance(state))[0], kind="stable")
        ordered = state.replace(
            mass=state.mass[:, order],
            position=state.position[:, order],
            velocity=state.velocity[:, order],
        )

        def fresh(options: Options = NONE) -> Any:
            sim: Any = to_rebound(ordered)
            use(sim, span / n_steps, self.integrator, **{**self.options, **options})
            sim.exact_finish_time = 0  # WHFast512 refuses single steps without
            return sim

        try:
            _advance(fresh(), 1)
        except refusals as error:
            raise InputError(f"REBOUND does not run it: {error}") from None
        seconds = clock() - start
        return PlanetaryRun(seconds, state, n_steps, order, fresh, self.sampled, refusals)


@dataclass(frozen=True)
class PlanetaryRun:
    """A system that is ready to run, see `peer_runs.Prepared`."""

    setup_seconds: float
    state: State
    n_steps: int
    order: NDArray[np.intp]
    fresh: Callable[..., Any]
    sampled: Options
    refusals: tuple[type[Exception], ...]

    def measure(self, max_steps: int) -> PeerRun:
        """See Prepared."""
        watch, sim = Watch(self.state, max_steps), self.fresh(self.sampled)
        count = min(self.n_steps, max_steps)
        marks = np.unique(np.linspace(0, count, SAMPLES + 1).round().astype(int)).tolist()
        try:
            if all(
                watch(*self._bodies(sim, after - before), True, after - before)
                for before, after in pairwise(marks[:-1])
            ):
                sim = self.fresh()
                end = self._bodies(sim, count)
                watch(*end, count < self.n_steps, count - marks[-2])
        except self.refusals as error:
            watch.status = str(error)
        return watch.report(*self._bodies(sim, 0), math.nan)

    def time(self) -> float:
        """See Prepared."""
        sim = self.fresh()
        start = clock()
        _advance(sim, self.n_steps)
        return clock() - start

    def follow(self, marks: Iterable[int]) -> Iterator[tuple[float, State]]:
        """Run with the bodies brought in step on the way.

        Parameters
        ----------
        marks
            Numbers of steps after which that is done, growing.

        Yields
        ------
        CPU seconds spent until then, and the system.
        """
        sim, spent, made = self.fresh(self.sampled), 0.0, 0
        for mark in marks:
            start = clock()
            _advance(sim, int(mark) - made)
            spent, made = spent + clock() - start, int(mark)
            position, velocity = self._bodies(sim, 0)
            yield spent, self.state.replace(position=position[None], velocity=velocity[None])

    def _bodies(self, sim: Any, steps: int) -> tuple[Array, Array]:
        """Position and velocity (N, 3) after so many steps, in the state's order."""
        if steps > 0:
            _advance(sim, steps)
        given, (position, velocity) = np.empty((2, sim.N, 3)), np.empty((2, sim.N, 3))
        sim.serialize_particle_data(xyz=given[0], vxvyvz=given[1])
        position[self.order], velocity[self.order] = given
        return position, velocity


def _advance(sim: Any, steps: int) -> None:
    """Make steps, and bring the bodies in step."""
    if str(sim.integrator) == "whfast512":
        # It makes so many as one: single ones cost 50 % more at 5 bodies.
        sim.integrator.concatenate_steps, steps = steps, 1
    with warnings.catch_warnings():
        # Such as a step longer than an orbit: the errors tell.
        warnings.simplefilter("ignore", RuntimeWarning)
        sim.steps(steps)
        sim.synchronize()


def _time_scale(state: State, mass: Array) -> float:
    """Time that steps are counted in, of a system that these codes are made for."""
    if state.n_bodies == 2:
        raise InputError("planetary integrators know the orbit of 2 bodies; give 3 or more")
    if state.softening != 0:
        raise InputError(
            f"planetary integrators know no softening, and it is {state.softening}; set it to 0"
        )
    if not mass.max() >= mass.sum() / 2 > 0:
        raise InputError(
            "planetary integrators need a body that outweighs all others together; of "
            f"{mass.sum():.3g} the heaviest has {mass.max():.3g}"
        )
    tau = float(pericentre_period(state)[0])
    if not tau > 0:
        raise InputError("a body falls straight onto the heaviest; give it some sideways motion")
    return tau


def _whfast(settings: tuple[float, ...], evaluations: int = 1, **options: int | str) -> Planetary:
    return Planetary("whfast", {"safe_mode": 0, **options}, settings, evaluations, KEEP)


def _saba(kind: str, stages: int) -> Planetary:
    return Planetary("saba", {"safe_mode": 0, "type": kind}, LONG, stages, KEEP)


KEEP: Options = {"keep_unsynchronized": 1}

PLAIN = (0.4, 0.2, 0.1, 0.05, 0.02, 0.01, 0.004)
# The corrector of order 17 diverges above 0.15.
CORRECTED = (0.13, 0.1, 0.07, 0.05, 0.035, 0.02, 0.01, 0.005)
LONG = (0.8, 0.5, 0.3, 0.2, 0.1, 0.06, 0.03)  # steps of several stages
HYBRID = (0.2, 0.1, 0.05, 0.02, 0.01, 0.004)

PLANETARY: dict[str, Planetary] = {
    "whfast": _whfast(PLAIN),
    "whfast c5": _whfast(PLAIN, corrector=5),
    "whfast c17": _whfast(CORRECTED, corrector=17),
    "whfast c17 lazy": _whfast(CORRECTED, 2, corrector=17, kernel="LAZY"),
    "whfast512": Planetary("whfast512", {}, PLAIN),
    "whfast512 c17": Planetary("whfast512", {"corrector": 17}, CORRECTED),
    "saba2": _saba("2", 2),
    "saba4": _saba("4", 4),
    "saba10_6_4": _saba("10_6_4", 8),
    # Steps in close encounters are dearer, by how much is not known beforehand.
    "trace": Planetary("trace", {}, HYBRID, 4),
    # Stopped out of safe mode, REBOUND 5.2.2 goes on with wrong coordinates: 17 au off after 1000
    # years of the outer planets.
    "mercurius": Planetary("mercurius", {"safe_mode": 0}, HYBRID, 4, {"safe_mode": 1}),
}
