"""Which error comes of a tolerance, as measured after training."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nbcore.physics.arrays import PerSystem, beside, to_numpy

__all__ = ["Calibration", "calibration_of"]


class Calibration(NamedTuple):
    """What runs with a policy cost and how wrong they were, against the tolerance it was given.

    All are (K,) and logarithms to base 10; `given` and `error` increase.

    Attributes
    ----------
    given
        Tolerance that the policy saw.
    error
        Median of the maximum energy error over the systems.
    low, high
        10th and 90th percentile of the error, over the median.
    cost
        Mean over the systems of the force evaluations.
    """

    given: tuple[float, ...]
    error: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    cost: tuple[float, ...]

    @property
    def range(self) -> tuple[float, float]:
        """Smallest and largest error that was measured."""
        return 10 ** self.error[0], 10 ** self.error[-1]

    def covers(self, tolerance: float) -> bool:
        """Whether the tolerance lies within what was measured."""
        least, most = self.range
        return least * (1 - 1e-9) <= tolerance <= most * (1 + 1e-9)

    def given_for(self, tolerance: PerSystem) -> PerSystem:
        """Tolerance to give to the policy, so that this error is the median, (B,)."""
        wanted = np.log10(to_numpy(tolerance))
        nearest = np.clip(wanted, self.error[0], self.error[-1])
        # Beyond what was measured the error is taken to go as the tolerance.
        given = np.interp(nearest, self.error, self.given) + (wanted - nearest)
        return beside(10**given, tolerance)

    def cost_at(self, tolerance: float) -> float:
        """Logarithm of the force evaluations that an error takes."""
        return float(np.interp(np.log10(tolerance), self.error, self.cost))

    def band(self, tolerance: float) -> tuple[float, float]:
        """10th and 90th percentile of the maximum energy error of a run."""
        at = np.log10(tolerance)
        spread = (float(np.interp(at, self.error, each)) for each in (self.low, self.high))
        low, high = (tolerance * 10**part for part in spread)
        return low, high


def calibration_of(
    given: NDArray[np.float64], error: NDArray[np.float64], cost: NDArray[np.float64]
) -> Calibration:
    """Calibration from runs.

    Parameters
    ----------
    given
        (K,) tolerances, increasing.
    error, cost
        (K, S) maximum energy errors and force evaluations of the same S systems; a run that was
        lost has an error of infinity.
    """
    quantiles: Any = np.quantile(error, (0.1, 0.5, 0.9), axis=1, method="inverted_cdf")
    usable = np.isfinite(quantiles).all(axis=0) & (quantiles > 0).all(axis=0)
    low, median, high = np.log10(quantiles[:, usable])
    rising = np.concatenate([[True], median[1:] > np.maximum.accumulate(median)[:-1]])
    columns = (np.log10(given[usable]), median, low - median, high - median)
    columns = (*columns, np.log10(cost[usable]).mean(axis=1))
    return Calibration(*(tuple(column[rising].tolist()) for column in columns))
