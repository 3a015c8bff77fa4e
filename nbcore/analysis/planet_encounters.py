"""What a close encounter of planets costs, and what their orbits lose, in every family of them.

`python -m nbcore.analysis.planet_encounters [systems]` gives each system a visitor, of no mass or
of that of the Earth or of Neptune, that passes one of the planets within a Hill radius some orbits
after the start. It prints, as the median with the least and the largest,

- how many orbits of the planet before that a system is handed over, and how far the two are then;
- what the worst orbit is off by then, an orbit after and at the end; and the last two over the
  tolerance times what the encounter makes of any small error until then;
- what the same equal steps without a hand-over would be off by after it;
- what a system costs, set-up left out, and extrapolation alone and REBOUND over that at the same
  error of the positions at the end; what a call of one system costs, ours and that of `gbs` at the
  same tolerance, set-up and all; and calls of all systems over LONG orbits, likewise.

Families that are refused or left to `gbs` as a whole are named with what is said. Truth is
extrapolation at 1e-13.
"""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbcore.analysis.encounter_costs import LONG, MOST_STEPS, PEERS, Costs
from nbcore.analysis.families import get_family, problem
from nbcore.analysis.meetings import Meeting, meetings
from nbcore.analysis.planet_steps import TRUTH, orbits_apart
from nbcore.analysis.planetary_peers import PLANETARY
from nbcore.analysis.timing import on_threads
from nbcore.errors import InputError
from nbcore.physics.arrays import to_numpy
from nbcore.physics.orbits import pericentre_period
from nbcore.physics.state import State
from nbcore.physics.wisdom_holman import WisdomHolman
from nbcore.simulation.simulate import simulate
from nbcore.simulation.trajectory import Trajectory
from nbcore.stepping.planets import bound
from nbcore.stepping.policies import OwnStep
from nbcore.tables import markdown_head, markdown_row

__all__ = ["amplification", "losses", "refusal", "rows", "unwatched"]

Array = NDArray[np.float64]

KINDS = (
    *("planets_quiet", "planets_close", "planets_light", "outer_planets", "solar_system"),
    *("resonant_chain", "comet_giants", "comets", "circumbinary", "moons", "moons_of_jupiter"),
)
TOLERANCES = (1e-4, 1e-6, 1e-8)
DISPLACED, DRAWS = 1e-10, 3  # relative
SETTINGS = {"plain": "whfast", "corrected": "whfast c17", "lazy": "whfast c17 lazy"}


def refusal(family: str, n_systems: int) -> str:
    """What is said of a family's systems that are not taken, or all of them left to `gbs`."""
    at = problem(family, "held_out", n_systems)
    try:
        WisdomHolman.check(at.state)
        if not all(_are_dear(at.state, at.t_end, tolerance) for tolerance in TOLERANCES):
            return ""
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            simulate(at.state, at.t_end, integrator="wisdom_holman", max_steps=1)
        return str(said[0].message)
    except InputError as error:
        return str(error)


def _are_dear(state: State, t_end: Any, tolerance: float) -> bool:
    steps = bound(WisdomHolman(), OwnStep(), state, t_end, np.full(state.n_systems, tolerance))[1]
    return steps.are_dear is not None and bool(steps.are_dear.all())


def run_of(at: Meeting, times: Array, tolerance: float, integrator: Any = "gbs") -> Trajectory:
    """A run with records at these times."""
    return simulate(at.state, times[-1], integrator=integrator, tolerance=tolerance, record=times)


def placed(run: Trajectory) -> tuple[Array, Array]:
    """Positions and velocities (1, T, N, 3) of one system."""
    return run.position, run.velocity


def amplification(at: Meeting, times: Array, truth: Trajectory) -> Array:
    """How many times a small error of the orbits at the start it is at these times, (T,)."""
    rng, found = np.random.default_rng(0), []
    R = np.linalg.norm(at.state.position, axis=2, keepdims=True)
    for _ in range(DRAWS):
        moved = at.state.position + DISPLACED * R * rng.normal(size=at.state.position.shape)
        other = at._replace(state=at.state.replace(position=moved, acceleration=None))
        starts = (each.state for each in (other, at))
        begun = orbits_apart(
            at.state, *((each.position[:, None], each.velocity[:, None]) for each in starts)
        )
        apart = orbits_apart(at.state, placed(run_of(other, times, TRUTH)), placed(truth))
        found.append(apart[0] / begun[0])
    return np.max(found, axis=0).clip(min=1.0)


def losses(at: Meeting, tolerance: float) -> dict[str, float]:
    """When a system is handed over, and its errors before, after and at the end.

    Returns
    -------
    `handed`, how many orbits of the planet before the visitor is nearest, and `handed_at` [T], NaN
    where never; `distance` of the two then, in Hill radii; errors of the worst orbit, relative:
    `before` that, `after` the encounter, and at the `end`; what a small error is multiplied by
    until then, `amplified` and `amplified_end`; the largest error of the `energy`; `unwatched`.
    """
    whole = simulate(
        at.state, at.t_end, integrator="wisdom_holman", tolerance=tolerance, record="ends"
    )
    (when,) = whole.about["handed_over"]
    before = at.closest if when is None else when
    times = np.array([np.clip(before, 1e-6 * at.period, at.closest), at.after, at.t_end])
    run, truth = run_of(at, times, tolerance, "wisdom_holman"), run_of(at, times, TRUTH)
    errors = orbits_apart(at.state, placed(run), placed(truth))[0]
    grown = amplification(at, times, truth)
    apart = np.linalg.norm(truth.position[0, 0, at.planet] - truth.position[0, 0, -1])
    return {
        "handed": math.nan if when is None else (at.closest - when) / at.period,
        "handed_at": math.nan if when is None else when,
        "distance": float(apart) / at.hill,
        **dict(zip(("before", "after", "end"), errors.tolist(), strict=True)),
        **dict(zip(("amplified", "amplified_end"), grown[1:].tolist(), strict=True)),
        "energy": float(whole.summary["max_energy_error"][0]),
        "unwatched": unwatched(at, tolerance, truth),
    }


def unwatched(at: Meeting, tolerance: float, truth: Trajectory) -> float:
    """Error of the worst orbit after the encounter if the same equal steps went on through it.

    They are REBOUND's, which are the same to rounding; truth has its second record then.
    """
    end, accepted = np.array([at.t_end]), np.array([tolerance])
    scheme, steps = bound(WisdomHolman(), OwnStep(), at.state, end, accepted)
    f = float((to_numpy(steps.dt) / pericentre_period(at.state))[0])
    peer = PLANETARY[SETTINGS[scheme.setting or "plain"]]
    run = peer.prepare(at.state, at.after, f).measure(MOST_STEPS)
    places = run.position[None, None], run.velocity[None, None]
    known = truth.position[:, 1:2], truth.velocity[:, 1:2]
    return float(orbits_apart(at.state, places, known)[0, 0])


RIVALS = ("gbs", *PEERS)
HEAD = (
    *("family", "tolerance", "handed over", "orbits before", "Hill radii then", "before"),
    *("amplified after", "end", "after", "end", "after ÷", "end ÷", "energy", "not handed over"),
    *("positions", "µs", *(f"{name} ÷ ours" for name in RIVALS)),
    *("a call", f"{LONG} orbits, gbs ÷ ours"),
)


def rows(family: str, n_systems: int, seen: list[dict[str, Array]]) -> Iterator[str]:
    """Lines of the table; their numbers, one a system, are added to `seen`."""
    title = get_family(family).title
    if said := refusal(family, n_systems):
        yield markdown_row(title, "", f"not: {said}", *("",) * (len(HEAD) - 3))
        return
    found = meetings(family, n_systems)
    costs = Costs(found)
    for tolerance in TOLERANCES:
        each = [losses(at, tolerance) for at in found]
        of = {name: np.array([one[name] for one in each]) for name in each[0]}
        of["after ÷"] = of["after"] / (tolerance * of["amplified"])
        of["end ÷"] = of["end"] / (tolerance * of["amplified_end"])
        at_start, cost = of["handed_at"] == 0, costs.at(tolerance)
        on_the_way = np.isfinite(of["handed"]) & ~at_start
        counts = f"{on_the_way.sum()} of {len(each)}"
        if at_start.any():
            counts += f", {at_start.sum()} left to gbs"
        everywhere = "amplified", "amplified_end", "after", "end", "after ÷", "end ÷"
        late = on_the_way & (of["handed"] < 0) | np.isnan(of["handed"])
        seen.append(
            {
                **of,
                "on the way": on_the_way,
                "late": late,
                "cost": np.array([cost[name] for name in (*RIVALS, "long")]),
            }
        )
        yield markdown_row(
            *(title, f"{tolerance:.0e}", counts),
            *(_spread(of[name][on_the_way]) for name in ("handed", "distance", "before")),
            *(_spread(of[name]) for name in (*everywhere, "energy", "unwatched")),
            *(f"{cost['position']:.2g}", f"{cost['own'] * 1e6:.0f}"),
            *(_ratio(cost[name]) for name in RIVALS),
            f"{cost['call'] * 1e3:.0f}, {cost['call_gbs'] * 1e3:.0f} ms",
            _ratio(cost["long"]),
        )


def _ratio(value: float) -> str:
    return f"{value:.1f}" if math.isfinite(value) else "not reached"


def _spread(values: Array) -> str:
    if not len(values):
        return "–"
    middle, *ends = (f"{x:.2g}" for x in (np.median(values), values.min(), values.max()))
    return f"{middle} ({'…'.join(ends)})"


def summed_up(seen: list[dict[str, Array]]) -> str:
    """What all of it comes to."""
    of = {name: np.concatenate([each[name] for each in seen]) for name in seen[0]}
    costs = np.stack([each["cost"] for each in seen])
    handed = of["on the way"].astype(bool)
    return (
        f"all: {handed.sum()} of {len(handed)} runs handed over on the way, {of['late'].sum():.0f} "
        "after the encounter or never, the others left to gbs as a whole; the worst orbit over the "
        f"tolerance times what is amplified: at most {of['after ÷'].max():.2g} after the "
        f"encounter, {of['end ÷'].max():.2g} at the end; without a hand-over "
        f"{np.median((of['unwatched'] / of['after'])[handed]):.2g} times as much after the "
        "encounter, in the median; CPU time over ours: "
        + ", ".join(
            f"{name} {_spread(ratio[np.isfinite(ratio)])}"
            for name, ratio in zip((*RIVALS, f"gbs in {LONG} orbits"), costs.T, strict=True)
        )
    )


def main(n_systems: int, families: tuple[str, ...] = KINDS) -> None:
    """Print the table, family by family, and what it comes to."""
    seen: list[dict[str, Array]] = []
    print("\n".join(markdown_head(*HEAD)), flush=True)
    for family in families:
        for line in rows(family, n_systems, seen):
            print(line, flush=True)
    if seen:
        print(f"\n{summed_up(seen)}")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    with on_threads(1):
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 6)
