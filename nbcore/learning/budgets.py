"""Learning how runs of gbs spend their tolerance: the numbers of `stepping.budget.Law`.

What the evolution strategy CMA-ES proposes makes whole runs, and the numbers whose runs err most
often by about their tolerance are kept. It is what `train` does of the scheme "evolution" and the
integrator "gbs": by configs/default_budget.toml, whose families are none of the benchmark's, the
shipped numbers were found.

References
----------
Hansen & Ostermeier (2001), Evol. Comput. 9, 159.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from nbcore.config import Training
from nbcore.errors import InputError
from nbcore.learning.covariance import Search
from nbcore.learning.systems import Problem, draw_tolerances, enough, training_problems
from nbcore.physics.arrays import to_numpy
from nbcore.physics.extrapolation import Extrapolation
from nbcore.physics.integrators import get_integrator
from nbcore.physics.seeds import stream
from nbcore.simulation.passes import errors_of
from nbcore.simulation.simulate import check, simulate
from nbcore.simulation.status import Status
from nbcore.stepping.budget import LAW, Law
from nbcore.stepping.checkpoints import load_policy
from nbcore.stepping.policies import OwnStep

__all__ = [
    "BY_HAND",
    "Budgets",
    "Tried",
    "drawn",
    "law_of",
    "misses",
    "numbers_of",
    "of_budget",
    "tried",
]

Array = NDArray[np.float64]
Runs = list[tuple[Problem, Array]]  # with a tolerance (B,) for each of the systems

NEAR, NEARLY = np.log10([3.0, 10.0])  # decades between error and tolerance
MISSED, MISSED_NEARLY = 0.15, 0.06  # shares of runs that may be farther off; what a miss counts by
OFF = 2.0  # what a decade counts by, so that errors are about the tolerance and not at an edge
ROUNDED = 0.1  # decades, over which a miss is rounded off
STEP = 0.5  # of the first trials
MOST_STEPS = 200_000  # of a run; one that needs more is lost
FAR = 0.01  # price of numbers that are all one off


class Tried(NamedTuple):
    """How far runs by a law were from their tolerances.

    Attributes
    ----------
    law
        The law.
    price
        What is minimised.
    near, nearly
        Shares of the runs whose error is within a factor of 3, and of 10, of the tolerance.
    """

    law: Law
    price: float
    near: float
    nearly: float


def law_of(x: Sequence[float] | Array) -> Law:
    """Numbers of the rule from as many that may be anything; zeros are a rule made by hand."""
    x = np.asarray(x, float)
    law = Law(
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
    return Law(*map(float, law))


BY_HAND = law_of(np.zeros(len(Law._fields)))


def numbers_of(law: Law) -> Array:
    """What `law_of` makes a law of."""
    return np.array(
        [
            np.log(law.goal / 0.5),
            law.goal_by_pull / 0.1,
            0.4 + np.log(law.limit / (1 - law.limit)),
            np.log(law.largest / 20) / 2,
            np.log(law.excess / 4) / 2,
            law.excess_by_pull / 0.2,
            law.excess_by_tolerance / 0.1,
            law.excess_by_length / 0.3,
            law.length_by_pull / 0.1,
            np.log(law.weight / 0.03) / 2,
            2 + np.log(-np.log(law.least_excess)),
            np.log(law.most_excess / 30),
        ]
    )


def misses(error: Array) -> Array:
    """What runs that err by so many tolerances (B,) count by: 0 near 1, more and more beyond."""
    off = np.abs(np.log10(np.clip(error, 1e-12, 1e12)))
    return _step(off - NEAR) / MISSED + _step(off - NEARLY) / MISSED_NEARLY + OFF * off.clip(max=1)


def _step(x: Array) -> Array:
    return 1 / (1 + np.exp(-np.clip(x / ROUNDED, -40, 40)))


def tried(law: Law, runs: Runs) -> Tried:
    """Make runs by a law."""
    errors = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # runs that miss their tolerance
        for at, tolerance in runs:
            run = simulate(
                at.state,
                at.t_end,
                OwnStep(law=law),
                integrator="gbs",
                tolerance=tolerance,
                record="ends",
                keep="aim",
                max_steps=MOST_STEPS,
            )
            there = run.summary["status"] == Status.SUCCESS
            errors.append(np.where(there, errors_of(run) / tolerance, np.inf))
    of_all = np.concatenate(errors)
    off = np.abs(np.log10(np.clip(of_all, 1e-12, 1e12)))
    near, nearly = (float(np.mean(off < limit)) for limit in (NEAR, NEARLY))
    return Tried(law, float(misses(of_all).mean()), near, nearly)


def of_budget(config: Training) -> bool:
    """Whether the integrator is one whose steps are its own, and what is learned is its budget."""
    return isinstance(get_integrator(config.integrator), Extrapolation)


def start_of(config: Training) -> Law:
    """Law that a training begins from.

    Raises
    ------
    InputError
        The scheme learns no law, or what it is to start from is none.
    """
    if config.scheme != "evolution":
        raise InputError(
            f"train.integrator is {config.integrator!r}, which chooses its own steps, and what "
            "there is to learn is how runs spend their tolerance; use train.scheme = 'evolution', "
            f"not {config.scheme!r}, or another integrator"
        )
    if config.start is None:
        return BY_HAND
    if config.start == "default":
        return LAW
    found = load_policy(config.start)
    if not isinstance(found, OwnStep):
        raise InputError(
            f"train.start is {config.start!r}, a policy of another integrator; start from "
            "'default' or from a training of 'gbs'"
        )
    return found.law or LAW


def _problems(config: Training) -> list[Problem]:
    problems = training_problems(config)
    enough(sum(each.state.n_systems for each in problems))
    return problems


def drawn(problems: Sequence[Problem], config: Training, most: int) -> Runs:
    """So many systems of each number of bodies at most, and a tolerance for each of them."""
    runs = []
    for each in problems:
        some = each.select(torch.randperm(each.state.n_systems)[:most])
        tolerance = to_numpy(draw_tolerances(config, some.t_end))
        runs.append((Problem(some.state.numpy(), to_numpy(some.t_end)), tolerance))
    return runs


class Budgets:
    """An epoch is a generation of laws, all of which make the same runs."""

    def __init__(self, config: Training) -> None:
        self._config = config
        torch.manual_seed(config.seed)
        self._start = start_of(config)
        self.problems = _problems(config)
        self._runs = drawn(self.problems, config, config.evolution.systems)
        self._centre = numbers_of(self._start)
        self._search = Search(self._centre, STEP, 2 * config.evolution.pairs)
        self._best: Tried | None = None
        self._goes_back = False

    @staticmethod
    def check(config: Training) -> OwnStep:
        """Raise InputError where it can't be trained; nothing is run."""
        policy = OwnStep(law=start_of(config))
        for each in _problems(config):
            check(each.state, each.t_end, policy, integrator="gbs", keep="aim")
        return policy

    @property
    def policy(self) -> OwnStep:
        """By the best law so far."""
        if self._best is None or self._goes_back:
            return OwnStep(law=self._start)
        return OwnStep(law=self._best.law)

    def epoch(self, number: int) -> dict[str, float]:
        """One generation; what counts is where the strategy goes, not its luckiest trial."""
        if self._best is None:
            self._best = tried(self._start, self._runs)
        asked = self._search.ask()
        found = [tried(law_of(x), self._runs) for x in asked]
        # What makes no difference stays where it was.
        far = FAR * np.mean((asked - self._centre) ** 2, axis=1)
        self._search.tell(np.array([each.price for each in found]) + far)
        middle = tried(law_of(self._search.mean), self._runs)
        self._best = min(self._best, middle, key=lambda each: each.price)
        return {"loss": middle.price, "within_3": middle.near, "within_10": middle.nearly}

    def end(self) -> bool:
        """Go back to where it started unless other systems of the kind are better off.

        Of a file they are the same, with other tolerances.
        """
        most = self._config.evolution.calibration_systems
        if not most or self._best is None:
            return False
        # The same, however often the training was stopped.
        seed = stream(self._config.seed, "calibration")
        torch.manual_seed(int(np.random.default_rng(seed).integers(2**31)))
        others = drawn(training_problems(self._config, "calibration"), self._config, most)
        before, after = (tried(law, others) for law in (self._start, self._best.law))
        self._goes_back = before.price <= after.price
        return True

    def get(self) -> dict[str, Any]:
        """What the trials came to, and the best law."""
        best = self._best
        known = None if best is None else {**best._asdict(), "law": best.law._asdict()}
        return {"scheme": self._search.get(), "best": known}

    def set(self, saved: dict[str, Any], epochs: int) -> None:
        """Go on from there."""
        self._search.set(saved["scheme"])
        if (best := saved["best"]) is not None:
            self._best = Tried(**{**best, "law": Law(**best["law"])})
