"""Kozai cycles: inclined triples, the orbit of their inner pair, and the maxima of its e."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nbcore.physics import scenarios
from nbcore.physics.state import State

__all__ = ["TRIPLES", "Cycles", "inner_orbit", "maxima", "triples"]

Array = NDArray[np.float64]

MASSES = (1.0, 0.5, 0.7)
TRIPLES = {
    "a circular outer orbit": {"outer_semi_major_axis": 6.0, "mutual_inclination": 50.0},
    "a wide one": {"outer_semi_major_axis": 8.0, "mutual_inclination": 55.0},
    "up to e = 0.88": {
        "outer_semi_major_axis": 8.0,
        "mutual_inclination": 65.0,
        "inner_eccentricity": 0.3,
        "outer_eccentricity": 0.3,
    },
    "chaotic": {
        "outer_semi_major_axis": 6.0,
        "mutual_inclination": 60.0,
        "outer_eccentricity": 0.2,
    },
}


def triples() -> State:
    """The systems, one for each of TRIPLES."""
    rest = {"masses": MASSES, "inner_eccentricity": 0.1}
    made = (scenarios.make("hierarchical_triple", **{**rest, **each}) for each in TRIPLES.values())
    return State.concatenate(list(made))


def inner_orbit(mass: Array, position: Array, velocity: Array) -> tuple[Array, Array]:
    """Eccentricity of the first two bodies' orbit, and its angle with that of the third, (T,) each.

    Parameters
    ----------
    mass, position, velocity
        (3,), (T, 3, 3) and (T, 3, 3), for G = 1; the angle is in degrees.
    """
    mu = mass[:2].sum()
    R, V = (each[:, 1] - each[:, 0] for each in (position, velocity))
    pole = np.cross(R, V)
    shape = np.cross(V, pole) / mu - R / np.linalg.norm(R, axis=1, keepdims=True)
    far = [each[:, 2] - mass[:2] @ each[:, :2] / mu for each in (position, velocity)]
    other = np.cross(*far)
    lengths = np.linalg.norm(pole, axis=1) * np.linalg.norm(other, axis=1)
    return np.linalg.norm(shape, axis=1), np.degrees(np.arccos((pole * other).sum(1) / lengths))


class Cycles(NamedTuple):
    """Maxima of an eccentricity: when, as that of the middle between rise and fall, and how high.

    Attributes
    ----------
    time, height
        (M,) each.
    """

    time: Array
    height: Array

    @property
    def waits(self) -> Array:
        """Times from each maximum to the next, (M − 1,)."""
        return np.diff(self.time)


def maxima(time: Array, e: Array, low: float, high: float) -> Cycles:
    """Whole cycles of a series: it is up from where it comes above `high` until it is below `low`.

    Rise and fall are where it passes `high` for the first and for the last time; what is up at the
    start or at the end is left out.
    """
    levels = np.where(e > high, 1, np.where(e < low, -1, 0))
    last = np.maximum.accumulate(np.where(levels != 0, np.arange(len(e)), 0))
    up = levels[last] > 0
    turns = np.flatnonzero(up[1:] != up[:-1]) + 1
    if up[0]:
        turns = turns[1:]
    found = []
    for rise, fall in zip(turns[:-1:2], turns[1::2], strict=False):
        above = rise + np.flatnonzero(e[rise:fall] > high)
        ends = [_crossing(time, e, k, high) for k in (above[0] - 1, above[-1])]
        found.append((np.mean(ends), e[rise:fall].max()))
    return Cycles(*np.array(found, dtype=float).reshape(-1, 2).T)


def _crossing(time: Array, e: Array, k: int, level: float) -> float:
    """When a series passes a level between its k-th value and the next."""
    share = (level - e[k]) / (e[k + 1] - e[k])
    return float(time[k] + share * (time[k + 1] - time[k]))
