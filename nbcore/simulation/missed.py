"""Tolerances that were missed, told in one warning."""

from __future__ import annotations

import math
import warnings
from typing import NamedTuple

import numpy as np

from nbcore.simulation.trajectory import MARGIN, Trajectory

__all__ = ["LEAST", "warn_of_bound", "warn_of_error"]

LEAST = 1e-13  # tolerance that rounding leaves room for


CLOSE = (
    "where bodies come too close, stop at contacts with collision_distance, or soften the forces"
)


class Missed(NamedTuple):
    """The system that missed its tolerance by most: in words, the tolerance, and how many times."""

    words: str
    tolerance: float
    times: float


def warn_of_error(trajectory: Trajectory) -> None:
    """Warn of systems whose energy, or orbit of a body, was off by over ten tolerances.

    Named is the one that missed its own by most, with its error and what to ask for.
    """
    if (missed := _missed(trajectory, MARGIN)) is None:
        return
    smaller = missed.tolerance / 10 ** math.ceil(math.log10(missed.times))
    remedy = f"ask for less, such as tolerance={smaller:.0e}, and compare"
    if smaller < LEAST:
        remedy = f"double precision keeps no smaller one; {CLOSE}"
    warnings.warn(f"{missed.words}; {remedy}", RuntimeWarning, stacklevel=3)


def warn_of_bound(trajectory: Trajectory) -> None:
    """Warn of systems that were off by over their tolerance however exactly they were made."""
    if (missed := _missed(trajectory, 1.0)) is None:
        return
    warnings.warn(
        f"{missed.words}, and that is the least of all runs that were made; ask for "
        f"{2 * missed.times * missed.tolerance:.0e}; {CLOSE}",
        RuntimeWarning,
        stacklevel=3,
    )


def _missed(trajectory: Trajectory, margin: float) -> Missed | None:
    """Which missed it by most, if any did by so many tolerances."""
    summary, asked = trajectory.summary, np.asarray(trajectory.about["tolerance"])
    errors = np.array([summary["max_energy_error"], summary["max_body_error"]])
    over = np.where(np.isnan(errors), 0.0, errors) / asked  # NaN where bodies were not followed
    missed = np.atleast_1d((over > margin).any(axis=0))
    if not missed.any():
        return None
    system = int(over.max(axis=0).argmax())
    kind, most = int(over[:, system].argmax()), over[:, system].max()
    what = ("the energy", f"the orbit of body {int(summary['worst_body'][system])}")[kind]
    many = f"{missed.sum()} of {len(missed)} systems missed their tolerance; in system {system} "
    words = (
        f"{many if len(missed) > 1 else ''}{what} was off by up to {errors[kind, system]:.1e}, "
        f"{most:.{0 if most >= 10 else 1}f} times the tolerance of {asked[system]:.0e}"
    )
    return Missed(words, float(asked[system]), float(most))
