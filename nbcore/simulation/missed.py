"""Tolerances that were missed, told in one warning."""

from __future__ import annotations

import math
import warnings

import numpy as np

from nbcore.simulation.trajectory import MARGIN, Trajectory

__all__ = ["warn_of_error"]

LEAST = 1e-13  # tolerance that rounding leaves room for


def warn_of_error(trajectory: Trajectory) -> None:
    """Warn of systems whose energy, or orbit of a body, was off by over ten tolerances.

    Named is the one that missed its own by most, with its error and what to ask for.
    """
    summary, asked = trajectory.summary, np.asarray(trajectory.about["tolerance"])
    errors = np.array([summary["max_energy_error"], summary["max_body_error"]])
    over = np.where(np.isnan(errors), 0.0, errors) / asked  # NaN where bodies were not followed
    missed = np.atleast_1d((over > MARGIN).any(axis=0))
    if not missed.any():
        return
    system = int(over.max(axis=0).argmax())
    kind, most = int(over[:, system].argmax()), over[:, system].max()
    what = ("the energy", f"the orbit of body {int(summary['worst_body'][system])}")[kind]
    many = f"{missed.sum()} of {len(missed)} systems missed their tolerance; in system {system} "
    smaller = asked[system] / 10 ** math.ceil(math.log10(most))
    remedy = f"ask for less, such as tolerance={smaller:.0e}, and compare"
    if smaller < LEAST:
        remedy = (
            "double precision keeps no smaller one; where bodies come too close, stop at contacts "
            "with collision_distance, or soften the forces"
        )
    warnings.warn(
        f"{many if len(missed) > 1 else ''}{what} was off by up to {errors[kind, system]:.1e}, "
        f"{most:.0f} times the tolerance of {asked[system]:.0e}; {remedy}",
        RuntimeWarning,
        stacklevel=3,
    )
