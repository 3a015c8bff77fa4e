"""Tables of benchmarks whose methods follow power laws: error = (cost / unit)^-order."""

import numpy as np
import pandas as pd

COLUMNS = ["family", "method", "kind", "setting", "system", "status"]
MACHINE = {
    "processor": "abacus",
    "cores": 2,
    "versions": {"numpy": "2.0", "heyoka": None},
    "commit": "abc",
    "dirty": True,
    "date": "2026-01-31",
}


def rows(
    family, method, kind, unit, order, costs, systems=5, scatter=1.0, position=np.nan, n_bodies=3
):
    """One method on one family; costs spread by a factor `scatter` around the middle system."""
    made = []
    for setting, cost in zip(range(len(costs), 0, -1), costs, strict=True):
        for system in range(systems):
            spread = scatter ** (system - systems // 2)
            made.append(
                {
                    "family": family,
                    "n_bodies": n_bodies,
                    "method": method,
                    "kind": kind,
                    "setting": float(setting),
                    "system": system,
                    "status": "SUCCESS",
                    "n_force_evaluations": np.nan if method == "heyoka" else 1e6 * cost * spread,
                    "cpu_seconds": cost * spread,
                    "max_energy_error": (cost / unit) ** -order,
                    "final_energy_error": 0.1 * (cost / unit) ** -order,
                    "max_body_error": (cost / unit) ** -order,
                    "final_body_error": 0.1 * (cost / unit) ** -order,
                    "position_error": position,
                }
            )
    return made


def table(*parts, left_out=None, **config):
    made = pd.DataFrame([row for part in parts for row in part])
    made.attrs = {"machine": MACHINE, "left_out": left_out or {}, "config": config}
    return made


WIDE = np.geomspace(1e-4, 1, 9)


def ours_and_theirs():
    """Two families: on the first we are 4 times quicker than heyoka, on the second 2 times slower.

    At 4th order an error of 1e-4 costs 10 units.
    """
    return table(
        rows("two_body_e50", "kahan_li8 boekholt", "classical", 1e-4, 4, WIDE),
        rows("two_body_e50", "leapfrog fixed", "fixed", 3e-4, 2, WIDE),
        rows("two_body_e50", "kahan_li8 untrained", "learned", 2e-4, 4, WIDE, position=1e-3),
        rows("two_body_e50", "heyoka", "peer", 4e-4, 4, WIDE, systems=3),
        rows("two_body_e50", "bs", "peer", 8e-4, 4, WIDE, systems=3),
        rows("five_body", "kahan_li8 boekholt", "classical", 2e-4, 4, WIDE),
        rows("five_body", "kahan_li8 untrained", "learned", 3e-4, 4, WIDE),
        rows("five_body", "heyoka", "peer", 1e-4, 4, WIDE, systems=3),
        left_out={"dop853": "the package 'scipy' is not installed"},
    )
