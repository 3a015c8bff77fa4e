"""Learning how runs spend their tolerance: the numbers of `stepping.budget.Law`, by whole runs.

    python -m nbcore.learning.budgets [CONFIG [SECONDS [SEED]]]

takes the families and tolerances of a configuration (configs/default_budget.toml), runs them with
every set of numbers that the evolution strategy CMA-ES proposes, and prints the numbers whose runs
err most often by about their tolerance. No family of the benchmark is among them.

References
----------
Hansen & Ostermeier (2001), Evol. Comput. 9, 159.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import cma
import numpy as np
from numpy.typing import NDArray

from nbcore.config import load_config
from nbcore.learning.systems import Problem, training_problems
from nbcore.physics.arrays import to_numpy
from nbcore.simulation.passes import errors_of
from nbcore.simulation.simulate import simulate
from nbcore.stepping.budget import Law
from nbcore.stepping.policies import OwnStep

__all__ = ["Learned", "law_of", "learn", "misses", "tried"]

Array = NDArray[np.float64]

NEAR, NEARLY = np.log10([3.0, 10.0])  # decades between error and tolerance
MISSED, MISSED_NEARLY = 0.15, 0.06  # shares of runs that may be farther off; what a miss counts by
OFF = 2.0  # what a decade counts by, so that errors are about the tolerance and not at an edge
ROUNDED = 0.1  # decades, over which a miss is rounded off
STEP, POPULATION = 0.5, 12
FAR = 0.01  # price of numbers that are all one off


class Learned(NamedTuple):
    """Numbers of the rule, and how far runs with them were from their tolerances.

    Attributes
    ----------
    law
        The numbers.
    price
        What was minimised.
    near, nearly
        Shares of the runs whose error is within a factor of 3, and of 10, of the tolerance.
    """

    law: Law
    price: float
    near: float
    nearly: float


def law_of(x: Sequence[float] | Array) -> Law:
    """Numbers of the rule from as many that may be anything; zeros are a rule made by hand."""
    x = [float(each) for each in x]
    return Law(
        goal=0.5 * np.exp(x[0]),
        goal_by_pull=0.1 * x[1],
        limit=1 / (1 + np.exp(0.4 - x[2])),
        largest=20 * np.exp(2 * x[3]),
        excess=4 * np.exp(2 * x[4]),
        excess_by_pull=0.2 * x[5],
        excess_by_tolerance=0.1 * x[6],
        excess_by_length=0.3 * x[7],
        length_by_pull=0.1 * x[8],
        weight=0.03 * np.exp(2 * x[9]),
        least_excess=np.exp(-np.exp(x[10] - 2)),
        most_excess=30 * np.exp(x[11]),
    )


def misses(error: Array) -> Array:
    """What runs that err by so many tolerances (B,) count by: 0 near 1, more and more beyond."""
    off = np.abs(np.log10(np.clip(error, 1e-12, 1e12)))
    return _step(off - NEAR) / MISSED + _step(off - NEARLY) / MISSED_NEARLY + OFF * off.clip(max=1)


def _step(x: Array) -> Array:
    return 1 / (1 + np.exp(-np.clip(x / ROUNDED, -40, 40)))


def tried(law: Law, problems: Sequence[Problem], tolerances: Sequence[Array]) -> Learned:
    """Run problems with a tolerance (B,) for each of their systems."""
    errors = []
    for at, tolerance in zip(problems, tolerances, strict=True):
        run = simulate(
            at.state,
            at.t_end,
            OwnStep(law=law),
            integrator="gbs",
            tolerance=tolerance,
            record="ends",
            keep="aim",
        )
        errors.append(errors_of(run) / tolerance)
    of_all = np.concatenate(errors)
    off = np.abs(np.log10(np.clip(of_all, 1e-12, 1e12)))
    near, nearly = (float(np.mean(off < limit)) for limit in (NEAR, NEARLY))
    return Learned(law, float(misses(of_all).mean()), near, nearly)


def learn(
    problems: Sequence[Problem],
    tolerances: tuple[float, float],
    seconds: float,
    seed: int = 0,
    told: Callable[[int, Learned], None] = lambda generation, best: None,
    most: int = 10_000,
) -> Learned:
    """Learn the numbers of the rule.

    Parameters
    ----------
    tolerances
        Least and largest; those of the runs are drawn between them, uniform in the logarithm, the
        same for all that is tried.
    seconds
        Time after which no further generation begins.
    told
        Called after each generation, with its number and the best so far.
    most
        Generations.

    Returns
    -------
    The mean of what the strategy proposes at last, or the best that was tried where that is better.
    """
    rng = np.random.default_rng(seed)
    low, high = np.log(tolerances)
    drawn = [np.exp(rng.uniform(low, high, at.state.n_systems)) for at in problems]
    options = {"popsize": POPULATION, "seed": seed + 1, "verbose": -9}
    strategy = cma.CMAEvolutionStrategy(np.zeros(len(Law._fields)), STEP, options)
    begun, generation = time.monotonic(), 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # runs that miss their tolerance
        best = tried(law_of(strategy.mean), problems, drawn)
        told(generation, best)
        while generation < most and time.monotonic() - begun < seconds and not strategy.stop():
            asked = strategy.ask()
            found = [tried(law_of(x), problems, drawn) for x in asked]
            # What makes no difference stays where it was.
            held = [FAR * float(np.mean(x * x)) for x in asked]
            prices = [each.price + near for each, near in zip(found, held, strict=True)]
            strategy.tell(asked, prices)
            best = min([best, *found], key=lambda each: each.price)
            generation += 1
            told(generation, best)
        last = tried(law_of(strategy.mean), problems, drawn)
    return min([best, last], key=lambda each: each.price)


def main(config: str, seconds: float, seed: int) -> None:
    """Learn the numbers of a configuration and print them."""
    train = load_config(config).train
    problems = [Problem(at.state.numpy(), to_numpy(at.t_end)) for at in training_problems(train)]

    def told(generation: int, best: Learned) -> None:
        print(f"{generation}: {best.near:.1%} within 3, {best.nearly:.1%} within 10", flush=True)

    best = learn(problems, train.tolerances, seconds, seed, told)
    numbers = ", ".join(f"{name}={value:.3g}" for name, value in best.law._asdict().items())
    print(f"Law({numbers})")


if __name__ == "__main__":
    given = sys.argv[1:]
    config, seconds, seed = (*given, *("default_budget", "600", "1")[len(given) :])
    main(config, float(seconds), int(seed))
