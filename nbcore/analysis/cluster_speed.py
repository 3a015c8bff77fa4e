"""CPU time of the shipped policies in clusters, over that of the best classical rule.

`python -m nbcore.analysis.cluster_speed [bodies …]` runs Plummer spheres of 16, 64 and 256 bodies
with every classical criterion, plain and reversible, over a range of η, and with the shipped
policies over a range of tolerances, with the same integrators. It says what a step takes of each
rule beside equal steps, and what an error costs with the cheapest of either kind: CPU time and
force evaluations, by the largest error of any body's orbit and by that of the energy. What is not
compiled yet is, which takes minutes; the rest some ten more, most of them for 256 bodies.
"""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Iterable
from functools import partial
from typing import Any

import pandas as pd

from nbcore.analysis.benchmark import run_benchmark
from nbcore.analysis.engine_speed import Side, seconds_a_step
from nbcore.analysis.families import get_family, problem
from nbcore.analysis.frontiers import COSTS, ERRORS, cheapest, costs
from nbcore.analysis.timing import clock
from nbcore.config import Benchmark
from nbcore.physics.integrators import get_integrator
from nbcore.physics.state import State
from nbcore.simulation.simulate import simulate
from nbcore.stepping.checkpoints import load_policy
from nbcore.stepping.policies import Criterion, FixedStep
from nbcore.stepping.suites import Suite
from nbcore.tables import markdown_head, markdown_row

__all__ = ["as_markdown", "ratios", "steps"]

BODIES = (16, 64, 256)
LEVELS = (1e-4, 1e-6)
MEASURES = ("max_body_error", "max_energy_error")
CRITERIA = ("boekholt", "free_fall", "huayno", "zemp", "tidal")
INTEGRATORS = ("blanes_moan4", "blanes_moan6")
SYSTEMS = 64  # of which the families give their shares: 16, 4 and 2
SETTINGS = 6
MOST_EVALUATIONS = 20_000
TARGET = 0.9
PAIRS = 2e7  # of a run that is timed
ETA, TOLERANCE = 1e-3, 1e-6
REPEATS = 5


def settings(bodies: Iterable[int] = BODIES, **others: Any) -> Benchmark:
    """What is run; `others` are fields of a benchmark's configuration."""
    table: dict[str, Any] = {
        "families": tuple(f"plummer_{n}" for n in bodies),
        "systems": SYSTEMS,
        "integrators": INTEGRATORS,
        "criteria": CRITERIA,
        "policies": ("default",),
        "peers": (),
        "settings": SETTINGS,
        "max_evaluations": MOST_EVALUATIONS,
        "repeats": 2,
        "engine_speed": (),
    }
    return Benchmark(**{**table, **others})


def ratios(table: pd.DataFrame, levels: Iterable[float] = LEVELS) -> pd.DataFrame:
    """Cost of the cheapest learned policy over that of the cheapest classical rule.

    Parameters
    ----------
    table
        From `run_benchmark`.
    levels
        Errors at which costs are compared.

    Returns
    -------
    DataFrame with a row for each family, measure of the error and level: `family`, `measure`,
    `error`; `learned` and `rule`, the two methods; `seconds` and `beside`, their median CPU times
    of a system; `ratio` of these and of the force evaluations, `evaluations`, of which each is that
    of the methods that are cheapest in it. NaN where an error is not reached.
    """
    levels, rows = tuple(levels), list[dict[str, Any]]()
    for measure in MEASURES:
        found = {cost: costs(table, measure, cost, levels) for cost in COSTS}
        for family in dict.fromkeys(table["family"]):
            for k, level in enumerate(levels):
                best = {
                    (cost, kind): cheapest([x for x in all_ if x.family == family], (kind,), k)
                    for cost, all_ in found.items()
                    for kind in ("learned", "classical")
                }
                (learned, ours), (rule, theirs) = (
                    best["cpu_seconds", kind] for kind in ("learned", "classical")
                )
                counts = [best["n_force_evaluations", kind][1] for kind in ("learned", "classical")]
                rows.append(
                    {
                        "family": family,
                        "measure": measure,
                        "error": level,
                        "learned": learned,
                        "rule": rule,
                        "seconds": ours,
                        "beside": theirs,
                        "ratio": ours / theirs,
                        "evaluations": counts[0] / counts[1],
                    }
                )
    return pd.DataFrame(rows)


def as_markdown(found: pd.DataFrame) -> str:
    """The ratios as a table, and how many reach the target."""
    lines = markdown_head(
        *("family", "error", "of", "CPU time", "evaluations", "ms", "learned", "best rule")
    )
    for row in found.to_dict("records"):
        lines.append(
            markdown_row(
                *(get_family(row["family"]).title, f"{row['error']:.0e}", ERRORS[row["measure"]]),
                *(_number(row[name]) for name in ("ratio", "evaluations")),
                *(_number(row["seconds"] * 1e3), row["learned"], row["rule"]),
            )
        )
    reached = (found["ratio"] <= TARGET).sum()
    lines += [
        "",
        f"CPU time at most {TARGET} times that of the best rule: {reached} of {len(found)}",
    ]
    return "\n".join(lines)


def _number(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else "–"


def steps(bodies: Iterable[int] = BODIES, repeats: int = REPEATS) -> pd.DataFrame:
    """CPU time of a step with each rule, of one system, by turns.

    Returns
    -------
    DataFrame with a row for each number of bodies and integrator: `n_bodies`, `integrator`,
    `evaluations` of a step; `equal`, seconds of a step that is given; what a rule adds to it, in
    evaluations of such a step: a column for each criterion and `learned`, and `guard`, that of a
    policy which is guarded.
    """
    rows = []
    for n in bodies:
        state = problem(f"plummer_{n}", "held_out", 1).state
        suite = load_policy("default")
        assert isinstance(suite, Suite)
        for member in suite.members:
            rules: dict[str, Any] = {"equal": FixedStep(1e-9)}
            rules |= {name: Criterion(name, ETA) for name in CRITERIA}
            rules |= {"learned": member, "guard": member}
            integrator = get_integrator(member.spec.integrator)
            count = int(max(20, PAIRS / (n * (n - 1) / 2) / integrator.evaluations))
            sides = [
                Side(partial(_seconds, state, rule, member.spec.integrator, name == "guard"), count)
                for name, rule in rules.items()
            ]
            found = dict(zip(rules, seconds_a_step(sides, repeats), strict=True))
            equal = found.pop("equal")
            row = {"n_bodies": n, "integrator": member.spec.integrator}
            row |= {"evaluations": integrator.evaluations, "equal": equal}
            each = equal / integrator.evaluations
            rows.append(row | {name: (spent - equal) / each for name, spent in found.items()})
    return pd.DataFrame(rows)


def _seconds(state: State, rule: Any, integrator: str, guard: bool, n_steps: int) -> float:
    """CPU seconds of a call that makes so many steps."""
    how = {"stepping": "reversible", "integrator": integrator, "tolerance": TOLERANCE}
    start = clock()
    simulate(state, 1e3, rule, guard=guard, record="ends", max_steps=n_steps, **how)
    return clock() - start


def main(bodies: tuple[int, ...] = BODIES) -> None:
    """Print the tables."""
    print(steps(bodies).to_string(index=False, float_format="%.3g"))
    print("equal: seconds of a step; the others: what they add, in its evaluations\n")
    print(as_markdown(ratios(run_benchmark(settings(bodies)))))


if __name__ == "__main__":
    warnings.simplefilter("ignore", RuntimeWarning)  # runs that are cut short
    main(tuple(map(int, sys.argv[1:])) or BODIES)
