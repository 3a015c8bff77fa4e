"""What systems with a close encounter cost: by equal steps and `gbs`, by that alone, by REBOUND."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbcore.analysis.families import position_errors
from nbcore.analysis.frontiers import cost_of
from nbcore.analysis.meetings import Meeting
from nbcore.analysis.planet_steps import TRUTH
from nbcore.analysis.planetary_peers import PLANETARY
from nbcore.analysis.timing import clock
from nbcore.physics.arrays import to_numpy
from nbcore.physics.state import State
from nbcore.physics.wisdom_holman import WisdomHolman
from nbcore.simulation.simulate import simulate

__all__ = ["LONG", "MOST_STEPS", "PEERS", "Costs"]

Array = NDArray[np.float64]
Points = list[tuple[float, float]]  # error and seconds at each setting

MANY, REPEATS = 64, 3  # systems, so that set-up does not matter
GBS = 10.0 ** -np.arange(3.0, 12.1)
LONG = 1000  # orbits
PEERS = ("trace", "mercurius")
MOST_STEPS = 10_000_000


class Costs:
    """All systems of a family, to be timed.

    Copies go through their steps one after the other; what one step and all that is done before
    it take is left out, as of REBOUND.

    Parameters
    ----------
    found
        From `meetings`.
    """

    def __init__(self, found: list[Meeting]) -> None:
        self.found = found
        self.state = State.concatenate([each.state for each in found])
        self.t_end = np.array([each.t_end for each in found])
        self.truth = self.end("gbs", TRUTH)
        self.gbs = [self.point("gbs", tolerance) for tolerance in GBS]
        self.peers = {name: self.peer(name) for name in PEERS}

    def end(self, integrator: Any, tolerance: float) -> Array:
        """Where bodies are at the end, (B, N, 3)."""
        run = simulate(
            self.state, self.t_end, integrator=integrator, tolerance=tolerance, record="ends"
        )
        return to_numpy(run.final.position)

    def point(self, integrator: Any, tolerance: float) -> tuple[float, float]:
        """Median error of the positions, and CPU seconds of a system."""
        error = position_errors(self.end(integrator, tolerance), self.truth)
        copies = -(-MANY // len(self.found))
        many, ends = State.concatenate([self.state] * copies), np.tile(self.t_end, copies)
        set_up = least_seconds(many, ends, integrator, tolerance, most=1)
        whole = least_seconds(many, ends, integrator, tolerance)
        return float(np.median(error)), (whole - set_up) / len(ends)

    def peer(self, name: str) -> Points:
        """Likewise of a peer, at its settings."""
        points = []
        for setting in PLANETARY[name].settings:
            errors, seconds = [], 0.0
            for at, truth in zip(self.found, self.truth, strict=True):
                ready = PLANETARY[name].prepare(at.state, at.t_end, setting)
                run = ready.measure(MOST_STEPS)
                errors.append(position_errors(run.position[None], truth[None])[0])
                seconds += min(ready.time() for _ in range(REPEATS))
            points.append((float(np.median(errors)), seconds / len(errors)))
        return points

    def at(self, tolerance: float) -> dict[str, float]:
        """Costs at a tolerance.

        Returns
        -------
        `position`, the error of positions at the end; `own` CPU seconds; those of others over
        them at the same error, by name, NaN where it is not reached; `call` and `call_gbs`,
        seconds of a call of one system, ours and of `gbs`; `long`, those of `gbs` over ours where
        all systems go on for LONG orbits.
        """
        ours = WisdomHolman(side_by_side=False)
        error, own = self.point(ours, tolerance)
        others = {"gbs": self.gbs, **self.peers}
        ratios = {}
        for name, points in others.items():
            errors, seconds = np.transpose(points)
            ratios[name] = cost_of(errors, seconds, error) / own
        one, end = self.state.select([0]), self.t_end[:1]
        far = np.array([each.closest + LONG * each.period for each in self.found])
        calls = [least_seconds(one, end, method, tolerance) for method in (ours, "gbs")]
        long = [least_seconds(self.state, far, method, tolerance) for method in (ours, "gbs")]
        named = {"call": calls[0], "call_gbs": calls[1], "long": long[1] / long[0]}
        return {"position": error, "own": own, **ratios, **named}


def least_seconds(
    state: State, t_end: Array, integrator: Any, tolerance: float, most: int | None = None
) -> float:
    """CPU seconds of a call, the least of REPEATS."""
    seconds = []
    for _ in range(REPEATS):
        start = clock()
        simulate(
            *(state, t_end),
            integrator=integrator,
            tolerance=tolerance,
            record="ends",
            max_steps=most,
        )
        seconds.append(clock() - start)
    return min(seconds)
