"""Which steps keep the orbits of planets, measured: constants of `stepping.planets`, and quality.

`python -m nbcore.analysis.planet_steps` runs systems at fixed steps, and prints the largest true
error of a body's orbit over each term of the law without its constant; then, on systems of other
random numbers, what the law makes of tolerances. Truth is extrapolation at 1e-13.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbcore.analysis.families import SPLITS, problem
from nbcore.learning.systems import Problem
from nbcore.physics import scenarios
from nbcore.physics.arrays import taken
from nbcore.physics.body_errors import orbit, orbit_sizes, partners, triple
from nbcore.physics.orbits import pericentre_period
from nbcore.physics.seeds import stream
from nbcore.physics.state import State
from nbcore.physics.wisdom_holman import WisdomHolman, jacobi_order
from nbcore.simulation.simulate import simulate
from nbcore.simulation.trajectory import Trajectory
from nbcore.stepping.outlook import Outlook, look_ahead
from nbcore.stepping.planets import ENDLESS, FEW_STEPS, GROWTH, PASSED, too_few
from nbcore.stepping.policies import FixedStep

__all__ = ["orbit_errors", "orbits_apart", "quality", "systems", "terms"]

Array = NDArray[np.float64]

RECORDS = 100
TRUTH = 1e-13
LEAST = 1e-11  # error that the truth can tell
TOLERANCES = 10.0 ** -np.arange(3.0, 10.1)
AS_THEY_ARE = (
    *("planets_quiet", "planets_light", "outer_planets"),
    *("solar_system", "resonant_chain", "comet_giants"),
)
DRAWN = {  # number of planets, range of masses, spacing, eccentricity, length in 2π
    "2 light": (2, (1e-9, 1e-6), 10.0, 0.001, 1000),
    "2 heavy": (2, (1e-5, 1e-3), 12.0, 0.05, 300),
    "2 apart": (2, (1e-6, 1e-3), 25.0, 0.2, 100),
    "4 close": (4, (1e-6, 1e-5), 10.0, 0.01, 300),
    "4 apart": (4, (1e-5, 1e-3), 20.0, 0.1, 100),
    "8 light": (8, (1e-8, 1e-6), 12.0, 0.01, 100),
    "8 mixed": (8, (1e-7, 1e-4), 14.0, 0.01, 300),
}
TERMS = {  # setting, and f at which a term is measured
    "plain": ("plain", 0.02),
    "corrected": ("corrected", 0.02),
    "lazy": ("lazy", 0.035),
    "few steps": ("lazy", 0.09),
    "passages": ("lazy", 0.09),
}


def systems(split: str, n_systems: int, seed: int = 0) -> Iterator[tuple[str, Problem]]:
    """Planets of all kinds, by name."""
    for name in AS_THEY_ARE:
        yield name, problem(name, split, n_systems, seed)
    for k, (name, (n, mass, spacing, e, length)) in enumerate(DRAWN.items()):
        drawn = stream(k + len(DRAWN) * seed, SPLITS[split])
        state = scenarios.make(
            "planetary_system",
            n_systems=n_systems,
            n_planets=n,
            planet_mass=mass,
            spacing=spacing,
            eccentricity=e,
            seed=drawn,
        )
        yield name, Problem(state, state.time + 2 * np.pi * length)


def orbit_errors(state: State, run: Trajectory, truth: Trajectory) -> Array:
    """Largest difference of the orbits of two runs, (B,): as `Trajectory.body_error` is meant."""
    places = (run.position, run.velocity), (truth.position, truth.velocity)
    return orbits_apart(state, *places).max(axis=1)


def orbits_apart(state: State, run: tuple[Array, Array], truth: tuple[Array, Array]) -> Array:
    """Difference of the orbits of two runs at each time, of the body that is off most.

    Parameters
    ----------
    state
        At the start, which tells beside whom each body is seen.
    run, truth
        Positions and velocities (B, T, N, D).

    Returns
    -------
    (B, T), relative.
    """
    partner = partners(state)
    mu = (state.G * (state.mass + taken(state.mass, partner)))[:, None]

    def beside(vectors: Array) -> Any:
        index = np.broadcast_to(partner[:, None, :, None], vectors.shape)
        return triple(np.take_along_axis(vectors, index, axis=2) - vectors)

    def seen(position: Array, velocity: Array) -> Any:
        R, V = beside(position), beside(velocity)
        inverse = 1 / np.sqrt(sum(x * x for x in R))
        return orbit(R, V, mu, inverse), orbit_sizes(R, V, mu, inverse)

    (energy, shape), _ = seen(*run)
    (true_energy, true_shape), (depth, size) = seen(*truth)
    apart = np.sqrt(sum((a - b) ** 2 for a, b in zip(shape, true_shape, strict=True)))
    return np.maximum(np.abs(energy - true_energy) / depth, apart / size).max(axis=2)


def terms(outlook: Outlook) -> dict[str, Array]:
    """Terms of the law without their constants, at the f of each, (B,).

    Of those for too few steps there is the one that counts, and NaN for the other.
    """
    grown = outlook.second * (1 + outlook.periods / GROWTH)
    f = {name: np.full_like(grown, each) for name, (_, each) in TERMS.items()}
    few, passages = too_few(outlook, f["few steps"])
    is_regular = FEW_STEPS * few > PASSED * passages
    return {
        "plain": outlook.boundary * f["plain"] ** 2,
        "corrected": grown * f["corrected"] ** 2,
        "lazy": grown * f["lazy"] ** 4,
        "few steps": np.where(is_regular, few, np.nan),
        "passages": np.where(is_regular, np.nan, passages),
    }


def _times(at: Problem) -> Array:
    start, end = at.state.time[0], at.t_end[0]
    return start + (end - start) * np.arange(1, RECORDS + 1) / RECORDS


def _truth(at: Problem) -> Trajectory:
    return simulate(at.state, at.t_end, integrator="gbs", tolerance=TRUTH, record=_times(at))


def ratios(at: Problem) -> dict[str, Array]:
    """True errors over terms, (B,); NaN where the truth can't tell."""
    truth, period = _truth(at), pericentre_period(at.state)
    outlook = look_ahead(at.state, jacobi_order(at.state), at.t_end, ENDLESS)
    found = {}
    for name, term in terms(outlook).items():
        setting, f = TERMS[name]
        policy = FixedStep(f * period)
        run = simulate(
            at.state, at.t_end, policy, integrator=WisdomHolman(setting), record=_times(at)
        )
        error = orbit_errors(at.state, run, truth)
        found[name] = np.where(error > LEAST, error / term, np.nan)
    return found


def quality(at: Problem) -> Array:
    """True errors over `TOLERANCES` by the law, (B, tolerances)."""
    truth, found = _truth(at), []
    for tolerance in TOLERANCES:
        run = simulate(
            at.state,
            at.t_end,
            integrator=WisdomHolman(),
            tolerance=float(tolerance),
            record=_times(at),
        )
        found.append(orbit_errors(at.state, run, truth) / tolerance)
    return np.stack(found, axis=1)


def main(n_systems: int, seed: int) -> None:
    """Print both tables; the seed is that of the systems by which the law is judged."""
    print("true error over the term without its constant: median, 90 %, largest")
    every: dict[str, list[Array]] = {name: [] for name in TERMS}
    for kind, at in systems("train", n_systems):
        found = ratios(at)
        print(f"{kind:15}", "  ".join(f"{name} {_spread(found[name])}" for name in TERMS))
        for name in TERMS:
            every[name].append(found[name])
    for name in TERMS:
        print(f"{name:15}", _spread(np.concatenate(every[name])))
    print("\ntrue error over the tolerance: median, and share of runs within 10 tolerances")
    print(" " * 15, "  ".join(f"{tolerance:11.0e}" for tolerance in TOLERANCES))
    total = []
    for kind, at in systems("held_out", n_systems, seed):
        found = quality(at)
        total.append(found.ravel())
        cells = (f"{np.median(x):5.2g} {100 * (x <= 10).mean():4.0f}%" for x in found.T)
        print(f"{kind:15}", "  ".join(f"{cell:>11}" for cell in cells))
    every_run = np.concatenate(total)
    shares = ", ".join(f"{100 * (every_run <= most).mean():.1f} % up to {most}" for most in (1, 10))
    print(f"all: median {np.median(every_run):.2g}, {shares} tolerances, of {len(every_run)} runs")


def _spread(values: Array) -> str:
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return "–"
    return " ".join(f"{x:.2g}" for x in np.percentile(values, (50, 90, 100)))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    given = [int(each) for each in sys.argv[1:3]]
    main(*given, *(16, 1)[len(given) :])
