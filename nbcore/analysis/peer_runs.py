"""What a run of another code is asked for and what it answers; see `peers`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numba import njit
from numpy.typing import NDArray

from nbcore.errors import InputError
from nbcore.physics import gravity, pair_law
from nbcore.physics.compiled import compiled
from nbcore.physics.rebound_io import one_system
from nbcore.physics.state import State
from nbcore.simulation.status import Status

__all__ = ["EVALUATIONS_PER_STEP", "Peer", "PeerRun", "Prepared", "Watch", "run_length"]

# A step of what chooses its own counts as many, whether or not it works in these.
EVALUATIONS_PER_STEP = 20

Array = NDArray[np.float64]
pair_potential = compiled(pair_law.pair_potential)


@dataclass(frozen=True)
class PeerRun:
    """How a run of another code went.

    Attributes
    ----------
    max_energy_error, final_energy_error
        |E − E0|/|E0| over every step, or over many times where bodies are not in step at every one,
        and at the end; infinite where it is not a number.
    position, velocity
        (N, D) at the end [L], [L/T].
    n_force_evaluations
        All of them, rejected steps among them; NaN for a code that does not work in these.
    n_steps
        Accepted steps.
    status
        A name of `Status`, or what the code said when it gave up.
    """

    max_energy_error: float
    final_energy_error: float
    position: Array
    velocity: Array
    n_force_evaluations: float
    n_steps: int
    status: str


class Prepared(Protocol):
    """A system that is ready to run, as often as asked for and always from its initial state."""

    @property
    def setup_seconds(self) -> float:
        """CPU seconds of this preparation, compilation among them; run time excluded."""
        ...

    def measure(self, max_steps: int) -> PeerRun:
        """Run with the energy taken on the way, at most so many steps."""
        ...

    def time(self) -> float:
        """CPU seconds of a run that nothing watches, set-up excluded, and nothing stops early.

        Call it where `measure` ended with SUCCESS.
        """
        ...


class Peer(Protocol):
    """Another code."""

    @property
    def package(self) -> str:
        """Name on PyPI."""
        ...

    @property
    def settings(self) -> tuple[float, ...]:
        """Accuracy settings from loose to strict."""
        ...

    @property
    def evaluations(self) -> int:
        """Force evaluations that a step counts as where a run is cut off."""
        ...

    def prepare(self, state: State, t_end: float, setting: float) -> Prepared:
        """Make ready to run one system from its time to t_end.

        Raises
        ------
        InputError
            The package is not installed, there are several systems or an external field, t_end is
            not later than the state, or the code does not take such a system.
        """
        ...


class Watch:
    """Takes the energy after steps of a run, and says whether to go on."""

    def __init__(self, state: State, max_steps: int) -> None:
        self.state, self.max_steps = state, max_steps
        self.mass, position, velocity = one_system(state)
        self.initial = self._energy(position, velocity)
        # Bodies without mass have no energy, and then none is lost.
        self.size = float(gravity.energy_size(state)[0]) or 1.0
        self.largest = self.final = 0.0
        self.n_steps, self.status = 0, Status.SUCCESS.name

    def _energy(self, position: Array, velocity: Array) -> float:
        return _energy(self.mass, position, velocity, self.state.G, self.state.softening)

    def __call__(self, position: Array, velocity: Array, more: bool, steps: int = 1) -> bool:
        """Take steps to (N, 3) each; `more` says whether the end is still ahead."""
        self.n_steps += steps
        error = abs(self._energy(position, velocity) - self.initial) / self.size
        self.final = error if math.isfinite(error) else math.inf
        self.largest = max(self.largest, self.final)
        if not math.isfinite(error):
            self.status = Status.NON_FINITE.name
        elif more and self.n_steps >= self.max_steps:
            self.status = Status.MAX_STEPS.name
        return self.status == Status.SUCCESS.name

    def report(self, position: Array, velocity: Array, evaluations: float) -> PeerRun:
        """Sum up at the end of the run."""
        depth = self.state.n_dimensions
        return PeerRun(
            max_energy_error=self.largest,
            final_energy_error=self.final,
            position=position[:, :depth].copy(),
            velocity=velocity[:, :depth].copy(),
            n_force_evaluations=float(evaluations),
            n_steps=self.n_steps,
            status=self.status,
        )


def run_length(state: State, t_end: float) -> float:
    """Length of a run, checked."""
    span = t_end - float(state.time[0])
    if not (math.isfinite(span) and span > 0):
        raise InputError(
            f"t_end is {t_end} and the state's time {float(state.time[0])}; "
            "t_end must be a later, finite time"
        )
    return span


@njit(error_model="numpy")
def _energy(mass, x, v, G, softening):
    """Kinetic and potential energy of (N, 3) positions and velocities."""
    total = 0.0
    for i in range(len(mass)):
        total += 0.5 * mass[i] * (v[i, 0] ** 2 + v[i, 1] ** 2 + v[i, 2] ** 2)
        for j in range(i + 1, len(mass)):
            r2 = softening * softening
            for d in range(3):
                r2 += (x[j, d] - x[i, d]) ** 2
            total += G * mass[i] * mass[j] * pair_potential(r2)
    return total
