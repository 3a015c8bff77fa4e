"""Weights by CMA-ES: trials from a normal distribution that follows those which were cheapest.

The library `cma` keeps a state of its own, which it can only write by pickling. It is the outcome
of random numbers from a seed and of what the trials came to, so these are what is kept, and to go
on it is asked and told once more: bit for bit the same, and nothing is unpickled.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["Search"]

Array = NDArray[np.float64]


class Search:
    """The library's strategy, with random numbers of its own.

    Parameters
    ----------
    start
        (W,) where it begins.
    deviation
        Of the first trials, in every weight.
    count
        Trials at a time.

    References
    ----------
    Hansen & Ostermeier (2001), Evol. Comput. 9, 159; the library is Hansen, Akimoto & Baudis,
    doi:10.5281/zenodo.2559634.
    """

    def __init__(self, start: Array, deviation: float, count: int) -> None:
        import cma  # here, as it brings SciPy and matplotlib with it

        random = torch.Generator().manual_seed(int(torch.randint(2**31, ())))

        def normal(*shape: int) -> Array:
            return torch.randn(*shape, generator=random, dtype=torch.float64).numpy()

        options = {"popsize": count, "randn": normal, "seed": np.nan, "verbose": -9}
        self._strategy: Any = cma.CMAEvolutionStrategy(start, deviation, options)
        self._trials: list[Array] = []
        self._told: list[Array] = []

    @property
    def mean(self) -> Array:
        """(W,) best guess so far."""
        return self._strategy.mean

    def ask(self) -> Array:
        """Weights to try, (count, W)."""
        self._trials = self._strategy.ask()
        return np.array(self._trials)

    def tell(self, costs: Array) -> None:
        """What they came to, (count,), the less the better."""
        self._strategy.tell(self._trials, costs.tolist())
        self._told.append(np.array(costs))

    def get(self) -> dict[str, Any]:
        """All that was told, (epochs, count)."""
        return {"told": np.array(self._told)}

    def set(self, saved: dict[str, Any]) -> None:
        """Ask and be told the same again."""
        for costs in saved["told"]:
            self.ask()
            self.tell(np.asarray(costs))
