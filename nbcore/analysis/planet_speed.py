"""Time of a step of planets: against WHFast and WHFast512 of REBOUND, and side by side.

`python -m nbcore.analysis.planet_speed` prints both tables, in minutes. `python -m
nbcore.analysis.planet_speed --solar-system YEARS` runs Sun and eight planets through all three
codes at the same step, and prints their times, energies and eccentricities of Mercury; with
`--outer` Sun and the four outer ones, whose steps are twelve times as long.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from functools import partial

import numpy as np
import pandas as pd

from nbcore.analysis import planet_systems
from nbcore.analysis.engine_speed import Side, seconds_a_step
from nbcore.analysis.planetary_peers import PLANETARY
from nbcore.analysis.timing import clock, on_threads
from nbcore.errors import InputError
from nbcore.physics import gravity, scenarios
from nbcore.physics.body_errors import dot, orbit, triple
from nbcore.physics.orbits import pericentre_period
from nbcore.physics.state import State
from nbcore.physics.wisdom_holman import WisdomHolman
from nbcore.simulation.simulate import simulate
from nbcore.stepping.policies import FixedStep

__all__ = ["batches", "solar_system", "steps"]

F = 0.05  # steps, in shortest `pericentre_period`s
STEPS = 400_000  # of a long run of one system
SYSTEM_STEPS = 2_000_000  # of all systems of a batch,
FEWEST = 2_000  # and of each at least: several looks at every system
BODIES = (3, 4, 5, 8, 9)
APART = {"planet_mass": (1e-6, 1e-4), "spacing": 20.0}
BATCHES, OF_BODIES = (10, 100, 1000), range(2, 10)
TO_WHFAST = {4: 0.2, 5: 0.2, 8: 0.2, 9: 0.2}  # ratio that shall not be exceeded, by bodies
TO_WHFAST512 = {3: 0.6, 4: 0.6, 5: 0.6, 8: 1.05, 9: 1.05}
TO_ONE_BY_ONE = 0.5
PEERS = {  # the same scheme
    "plain": {"whfast": TO_WHFAST, "whfast512": TO_WHFAST512},
    "corrected": {"whfast c17": TO_WHFAST, "whfast512 c17": TO_WHFAST512},
    "lazy": {"whfast c17 lazy": {}},
}
STEPS_A_YEAR, OUTER_STEPS_A_YEAR = 125, 10
EPOCHS = 100  # at which the energy is taken
TOLD = (  # of such a run: column, what it is, and its digits
    ("energy_error", "energy error", "%.2e"),
    ("eccentricity", "eccentricity of the innermost planet", "%.12f"),
)
YEAR = 2 * np.pi  # in units of the state


def steps(n_bodies: Iterable[int] = BODIES, repeats: int = 5) -> pd.DataFrame:
    """Compare times of a step, of the Sun and its outermost planets, all on one core.

    Returns
    -------
    DataFrame with a row for each number of bodies, setting and code of REBOUND: `n_bodies`,
    `setting`, `peer`; `ours` and `beside`, seconds a step; their `ratio`; `target`, the ratio that
    it shall not exceed, or NaN. Times of a code that does not run here are NaN, too.
    """
    rows, sides = [], []
    for n in n_bodies:
        state = planet_systems.solar_system(n_systems=1, seed=1, first=9 - n)
        for setting, peers in PEERS.items():
            ours = len(sides)
            sides.append(Side(partial(_ours, state, WisdomHolman(setting)), STEPS))
            for name, targets in peers.items():
                rows.append((n, setting, name, ours, len(sides), targets.get(n, np.nan)))
                sides.append(Side(partial(_theirs, state, name), STEPS))
    return _compared(rows, ["n_bodies", "setting", "peer"], seconds_a_step(sides, repeats))


def batches(
    n_bodies: Iterable[int] = OF_BODIES, n_systems: Iterable[int] = BATCHES, repeats: int = 3
) -> pd.DataFrame:
    """Compare systems side by side with the same ones one after the other, all on one core.

    Returns
    -------
    DataFrame as of `steps`, of seconds a step and system, with `n_systems` for setting and peer.
    """
    rows, times = [], []
    for n in n_bodies:
        for count in n_systems:
            state = scenarios.make("planetary_system", n_systems=count, n_planets=n - 1, **APART)
            made = max(SYSTEM_STEPS // count, FEWEST)
            schemes = (WisdomHolman("corrected", side_by_side=each) for each in (True, False))
            pair = [Side(partial(_ours, state, scheme), made) for scheme in schemes]
            rows.append((n, count, len(times), len(times) + 1, TO_ONE_BY_ONE))
            times += [seconds / count for seconds in seconds_a_step(pair, repeats)]
    return _compared(rows, ["n_bodies", "n_systems"], times)


def _compared(rows: list[tuple], what: list[str], times: list[float]) -> pd.DataFrame:
    """Table of rows: what is compared, numbers of the two times, and a target."""
    table = pd.DataFrame(rows, columns=[*what, "ours", "beside", "target"])
    for name in ("ours", "beside"):
        table[name] = [times[k] for k in table[name]]
    target = table.pop("target")
    return table.assign(ratio=table["ours"] / table["beside"], target=target)


def _ours(state: State, scheme: WisdomHolman, n_steps: int) -> float:
    """CPU seconds from the end of the first turn on, without the law's look at each system."""
    dt, turns = F * pericentre_period(state), []

    def noted() -> bool:
        turns.append(clock())
        return False

    t_end = (n_steps - 0.5) * dt
    simulate(state, t_end, FixedStep(dt), integrator=scheme, record="ends", stop=noted)
    return turns[-1] - turns[0]


def _theirs(state: State, name: str, n_steps: int) -> float:
    t_end = float((n_steps - 0.5) * F * pericentre_period(state)[0])
    try:
        return PLANETARY[name].prepare(state, t_end, F).time()
    except InputError:
        return np.nan


def solar_system(years: float, *, outer: bool = False) -> pd.DataFrame:
    """Run Sun and eight planets, without relativity, with correctors and 125 steps a year.

    Parameters
    ----------
    outer
        Take the four outer planets alone, and 10 steps a year.

    Returns
    -------
    DataFrame with a row for each code that runs here and each of EPOCHS epochs: `code`; `years`;
    `seconds`, CPU time of the run until then, of ours to its end; `energy_error`, |E − E0|/|E0|;
    `eccentricity`, of the innermost planet's orbit about the Sun.
    """
    steps_a_year = OUTER_STEPS_A_YEAR if outer else STEPS_A_YEAR
    state = scenarios.make("outer_solar_system" if outer else "solar_system")
    dt, n_steps = YEAR / steps_a_year, max(EPOCHS, round(years * steps_a_year))
    marks = np.linspace(0, n_steps, EPOCHS + 1).round().astype(int)[1:]
    t_end, setting = n_steps * dt, dt / float(pericentre_period(state)[0])
    options = {"integrator": WisdomHolman("corrected"), "max_steps": n_steps}
    simulate(state, dt, FixedStep(dt), record=[dt], **options)  # compiles
    with on_threads(1):
        start = clock()
        run = simulate(state, t_end, FixedStep(dt), record=marks * dt, **options)
        seconds = clock() - start
    made = {"ours": []}
    for place, velocity in zip(run.position, run.velocity, strict=True):
        made["ours"].append((seconds, state.replace(position=place[None], velocity=velocity[None])))
    for name in PEERS["corrected"]:
        try:
            prepared = PLANETARY[name].prepare(state, t_end, setting * (1 + 1e-12))
            made[name] = list(prepared.follow(marks))
        except InputError:
            made[name] = []
    rows = [
        (code, mark / steps_a_year, spent, _energy_error(state, now), _eccentricity(now))
        for code, states in made.items()
        for mark, (spent, now) in zip(marks, states, strict=False)
    ]
    columns = ["code", "years", "seconds", "energy_error", "eccentricity"]
    return pd.DataFrame(rows, columns=columns)


def _energy_error(before: State, now: State) -> float:
    first = gravity.energy(before)
    return float(abs(gravity.energy(now) - first)[0] / abs(first)[0])


def _eccentricity(state: State) -> float:
    """Of the second body's orbit about the first."""
    R, V = (triple(each[:, 1] - each[:, 0]) for each in (state.position, state.velocity))
    mu = state.G * (state.mass[:, 0] + state.mass[:, 1])
    _, shape = orbit(R, V, mu, 1 / np.sqrt(dot(R, R)))
    return float(np.sqrt(dot(shape, shape))[0])


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m nbcore.analysis.planet_speed")
    parser.add_argument("--solar-system", metavar="YEARS", type=float, nargs="?", const=50_000.0)
    parser.add_argument("--outer", action="store_true")
    parser.add_argument("--systems", type=int, nargs="*", default=BATCHES)
    asked = parser.parse_args()
    if asked.outer and asked.solar_system is None:
        parser.error("--outer says which planets --solar-system takes; give both")
    if asked.solar_system is None:
        for table in (steps(), batches(n_systems=asked.systems)):
            table[["ours", "beside"]] *= 1e9
            print(table.to_string(index=False, float_format="%.3g"))
            print("ours, beside: ns a step and system\n")
    else:
        table = solar_system(asked.solar_system, outer=asked.outer)
        print(table.groupby("code").agg({"seconds": "max", "energy_error": "max"}))
        for what, title, digits in TOLD:
            found = table.pivot(index="years", columns="code", values=what)
            print(f"\n{title}")
            print(found[EPOCHS // 5 - 1 :: EPOCHS // 5].to_string(float_format=digits))
    print("\nWhat is missing REBOUND does not run here: WHFast512 needs AVX-512.")


if __name__ == "__main__":
    main()
