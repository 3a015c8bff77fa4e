"""Which error and how many evaluations a run comes to, by what its first part tells.

Both are powers of a few numbers. The exponents were found by regression on runs of training
systems: `python -m nbcore.analysis.forecasts` makes `forecasts.json` anew.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nbcore.jsonfiles import read_json
from nbcore.physics.extrapolation import Extrapolation
from nbcore.physics.wisdom_holman import WisdomHolman
from nbcore.simulation.arguments import Plan
from nbcore.simulation.pilots import ROUNDING, Pilots

__all__ = ["FILE", "Forecast", "Law", "forecast", "kind_of", "laws", "scale_of", "terms"]

Array = NDArray[np.float64]

FILE = "forecasts.json"
LEAST = -4.0  # decades over the tolerance, below which an error so far tells no more
FEW = 6.0  # steps, whose error tells half of what that of many does
OTHER = "other"  # methods that heed no tolerance
STEEPEST = 2.0  # power of time
BAND = (0.1, 0.9)


class Law(NamedTuple):
    """Logarithms to base 10 of what a run comes to.

    Attributes
    ----------
    error
        Weights of `terms` in its error over `scale_of`.
    low, high
        10th and 90th percentile of the error, over what is expected.
    evaluations
        Of the forces, over those at the pace of the first part.
    """

    error: tuple[float, ...]
    low: float
    high: float
    evaluations: float


class Forecast(NamedTuple):
    """What is expected of a run, (B,) each.

    Attributes
    ----------
    evaluations
        Of the forces.
    error
        Largest of the energy or of a body's orbit: the median.
    low, high
        10th and 90th percentile of it.
    """

    evaluations: Array
    error: Array
    low: Array
    high: Array


def forecast(kind: str, pilots: Pilots, tolerance: Array) -> Forecast:
    """What the whole run comes to.

    Parameters
    ----------
    kind
        From `kind_of`.
    tolerance
        (B,).
    """
    law, last = laws()[kind], pilots.made[-1]
    scale = scale_of(kind, pilots, tolerance)
    over = terms(pilots, scale) @ np.array(law.error)
    paced = pilots.evaluations * 10 ** (law.evaluations * (1 - last.share))
    ended = last.share >= 1
    error, low, high = (
        # What has been erred is not taken back.
        np.where(ended, last.error, np.fmax(scale * 10 ** (over + each), last.error))
        for each in (0.0, law.low, law.high)
    )
    return Forecast(np.where(ended, last.evaluations, paced), error, low, high)


def scale_of(kind: str, pilots: Pilots, tolerance: Array) -> Array:
    """What errors (B,) are measured by: what is aimed at, or that of the first part."""
    heeds = kind != OTHER
    return tolerance if heeds else np.fmax(pilots.made[-1].error, ROUNDING)


def terms(pilots: Pilots, scale: Array) -> Array:
    """What goes, each with its weight, into decades of a run's error over its scale, (B, K).

    They are 1; how far the error grows in proportion to time; that of the first part; the same as
    far as this has steps enough to tell anything; the scale; the evaluations; and how far the
    error grows by the power of time with which it did.
    """
    last = pilots.made[-1]
    off = np.log10(np.fmax(last.error, ROUNDING) / scale).clip(LEAST)
    known, to_go = last.steps / (last.steps + FEW), -np.log10(last.share)
    grows = pilots.slope.clip(0, STEEPEST) * to_go
    count = np.log10(pilots.evaluations)
    every = (1 + 0 * off, known * to_go, off, known * off, np.log10(scale), count, grows)
    return np.stack(every, axis=-1)


def kind_of(plan: Plan, keep: str | None) -> str:
    """Name of the law that a run goes by."""
    if isinstance(plan.scheme, Extrapolation):
        return "gbs" if keep is None else f"gbs {keep}"
    if isinstance(plan.scheme, WisdomHolman):
        return "wisdom_holman"
    return OTHER if plan.learned is None else "learned"


@cache
def laws() -> dict[str, Law]:
    """Laws by the kind of a method."""
    with resources.as_file(resources.files("nbcore.simulation").joinpath(FILE)) as path:
        stored: dict[str, Any] = read_json(path)
    found = {kind: each["law"] for kind, each in stored.items()}
    return {kind: Law(**{**law, "error": tuple(law["error"])}) for kind, law in found.items()}
