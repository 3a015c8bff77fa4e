"""Our ways to step that a benchmark compares, each with its accuracy settings.

A setting goes from loose to strict: η of a criterion; the step itself for equal steps, in units of
the pair time scale at the start; the tolerance of a learned policy, and of what asks for nothing
else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from nbcore.config import Benchmark
from nbcore.errors import InputError
from nbcore.physics.arrays import PerSystem, namespace
from nbcore.physics.integrators import INTEGRATORS, get_integrator
from nbcore.physics.state import State
from nbcore.simulation.inputs import AUTO, policy_of
from nbcore.stepping.checkpoints import load_policy, shipped_policies
from nbcore.stepping.criteria import CRITERIA, get_criterion
from nbcore.stepping.policies import (
    UNTRAINED,
    Criterion,
    FixedStep,
    LearnedPolicy,
    OwnStep,
    Policy,
    untrained,
)
from nbcore.stepping.suites import Suite

__all__ = ["AUTO", "KINDS", "UNTRAINED", "Method", "learned_policies", "methods"]

KINDS = ("classical", "fixed", "learned", "adaptive")

PAIR_TIME_SCALE = "boekholt"
SETTINGS = {2: (0.1, 0.001), 4: (0.5, 0.005), 6: (0.7, 0.01), 8: (0.8, 0.03)}  # by order
TOLERANCES = {2: (1e-1, 1e-6), 4: (1e-2, 1e-8), 6: (1e-3, 1e-12), 8: (1e-4, 1e-13)}
ANY_TOLERANCE = (1e-1, 1e-13)  # of what has no order of its own
UNHEEDED = 1e-6


@dataclass(frozen=True)
class Method:
    """A rule for steps with an integrator, or an integrator that has its own.

    Attributes
    ----------
    rule
        Name of the criterion or of the policy, or "fixed"; "" without one.
    kind
        "classical", "learned", "fixed", or "adaptive": steps that the integrator chooses itself.
    integrator, stepping
        As `simulate` takes them; "" leaves them to it, or to the shipped policies.
    settings
        From loose to strict.
    policy
        (setting, problem's initial state, t_end (B,)) -> policy, or None for what `simulate` takes
        without one.
    """

    rule: str
    kind: str
    integrator: str
    stepping: str
    settings: tuple[float, ...]
    policy: Callable[..., Policy | None]

    @property
    def name(self) -> str:
        """As in «kahan_li8 boekholt reversible» or «auto»; plain steps go without saying."""
        how = " reversible" * (self.stepping == "reversible")
        return f"{self.integrator} {self.rule}{how}".strip()

    def tolerance(self, setting: float) -> float:
        """Tolerance of a run, which criteria and equal steps don't heed."""
        return setting if self.kind in ("learned", "adaptive") else UNHEEDED


def methods(config: Benchmark) -> list[Method]:
    """Every rule with every integrator and stepping that go together.

    A trained policy comes with its own integrator only, and steps as it was calibrated if it was.
    Reversible steps need an integrator that
    is reversible and a policy that does not look back; equal steps are reversible anyway.
    "auto", and an integrator that chooses its own steps, are methods without a rule.

    Raises
    ------
    InputError
        A name in the configuration is unknown.
    """
    named = list((*INTEGRATORS, AUTO) if config.integrators is None else config.integrators)
    tolerances = tuple(np.geomspace(*ANY_TOLERANCE, config.settings).tolist())
    adaptive = [
        Method("", "adaptive", name, "", tolerances, partial(_same, None))
        for name in named
        if _steps_itself(name)
    ]
    integrators = [name for name in named if not _steps_itself(name)]
    criteria = list(CRITERIA if config.criteria is None else config.criteria)
    for name in criteria:
        get_criterion(name)
    made = []
    for integrator in integrators:
        settings = _settings(integrator, config.settings)
        made.append(Method("fixed", "fixed", integrator, "plain", settings, _equal_steps))
        for stepping in _steppings(config, integrator):
            made += [
                Method(name, "classical", integrator, stepping, settings, partial(_criterion, name))
                for name in criteria
            ]
    for name, policy in learned_policies(config.policies, integrators):
        integrator = policy.spec.integrator
        settings = _settings(integrator, config.settings, TOLERANCES)
        made += [
            Method(name, "learned", integrator, stepping, settings, partial(_same, policy))
            for stepping in _steppings(config, integrator)
            if policy.calibration is None or stepping == policy.spec.stepping
            if not (stepping == "reversible" and policy.looks_back)
        ]
    return made + adaptive


def learned_policies(
    names: Iterable[str] | None, integrators: Iterable[str]
) -> list[tuple[str, LearnedPolicy]]:
    """Policies by their names: trained ones once, the untrained one for each of the integrators.

    Parameters
    ----------
    names
        Shipped names, paths, UNTRAINED; None stands for UNTRAINED and all that are shipped.
    """
    if names is None:
        names = (UNTRAINED, *shipped_policies())
    policies = []
    for name in names:
        if name == UNTRAINED:
            policies += [(name, untrained(integrator)) for integrator in integrators]
        else:
            found = load_policy(name)
            if isinstance(found, OwnStep):
                raise InputError(
                    f"policy {name!r} is a law of gbs with keep='aim', which a benchmark does not "
                    "compare; its training's notebook shows what it bought"
                )
            members = found.members if isinstance(found, Suite) else (found,)
            policies += [(Path(name).stem, member) for member in members]
    return policies


def _steps_itself(integrator: str) -> bool:
    """Whether `simulate` needs a tolerance alone: without a policy it takes no learned one."""
    if integrator == AUTO:
        return True
    get_integrator(integrator)
    return not isinstance(policy_of(None, integrator, UNHEEDED)[0], LearnedPolicy)


def _settings(
    integrator: str, count: int, ranges: Mapping[int, tuple[float, float]] = SETTINGS
) -> tuple[float, ...]:
    return tuple(np.geomspace(*ranges[get_integrator(integrator).order], count).tolist())


def _steppings(config: Benchmark, integrator: str) -> list[str]:
    is_reversible = get_integrator(integrator).reversible
    return [name for name in config.steppings if name == "plain" or is_reversible]


def _criterion(name: str, setting: float, state: State, t_end: PerSystem) -> Policy:
    # dt = η^eta_power τ: the setting scales the step of every criterion alike.
    return Criterion(name, setting ** (1 / get_criterion(name).eta_power))


def _same(
    policy: LearnedPolicy | None, setting: float, state: State, t_end: PerSystem
) -> Policy | None:
    return policy


def _equal_steps(setting: float, state: State, t_end: PerSystem) -> Policy:
    span = t_end - state.time
    dt = setting * get_criterion(PAIR_TIME_SCALE).time_scale(state)
    return FixedStep(span / namespace(span).ceil(span / dt))
