"""What `simulate` takes for a state and for a policy, and how a configuration names a policy."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from nbcore.errors import InputError, unknown_name
from nbcore.physics import gravity, scenarios
from nbcore.physics.arrays import Array, PerSystem, to_numpy
from nbcore.physics.clocks import Clock
from nbcore.physics.external import answer_of, check_field
from nbcore.physics.extrapolation import Extrapolation
from nbcore.physics.fields import TidalField
from nbcore.physics.integrators import Integrator, get_integrator
from nbcore.physics.integrators import name_of as integrator_name
from nbcore.physics.plain import check_plain
from nbcore.physics.rebound_io import from_rebound
from nbcore.physics.state import State
from nbcore.physics.wisdom_holman import WisdomHolman
from nbcore.stepping.checkpoints import load_policy, shipped_policies, shipped_policy
from nbcore.stepping.criteria import CRITERIA, CriterionRow
from nbcore.stepping.policies import (
    FIRST_STEP,
    UNTRAINED,
    Criterion,
    Custom,
    FixedStep,
    LearnedPolicy,
    OwnStep,
    Policy,
    as_policy,
    untrained,
)
from nbcore.stepping.suites import Suite

__all__ = [
    "AUTO",
    "DEFAULT_INTEGRATOR",
    "DEFAULT_POLICY",
    "EXTRAPOLATION",
    "asked_for",
    "check_kinds",
    "is_left",
    "is_path",
    "named_policy",
    "policy_of",
    "state_of",
    "warn_of_untrained",
    "why_no_step",
]

AUTO = "auto"
DEFAULT_INTEGRATOR = "suzuki4"
EXTRAPOLATION = "gbs"
DEFAULT_POLICY = "default"  # among those that are shipped
ARRAYS = ("mass", "position", "velocity")
STATES = (
    "a State, the name of a scenario, the path of a file, a rebound.Simulation, or "
    "(mass, position, velocity)"
)


def state_of(given: Any) -> State:
    """State that is given, named, stored, or made of arrays.

    Parameters
    ----------
    given
        A State; the name of a scenario, or a function that makes one; the path of a file that
        `scenarios.load` reads; a rebound.Simulation; a tuple or list of mass, position and
        velocity; or a dict of these and others of the arguments of `State.from_arrays`.

    Raises
    ------
    InputError
        It is none of these, or can't be used.
    """
    state = given if isinstance(given, State) else _made(given)
    if state.field is not None and type(state.field) is not TidalField:
        _check_field_at(state)
    return state


def _check_field_at(state: State) -> None:
    """Raise InputError where the field of a state gives no numbers of the right shape for it."""
    check_field(state.field)
    gravity.acceleration(state.replace(acceleration=None))
    gravity.potential_energy(state)
    if state.field is not None and state.field.moving:
        given = state.position, state.mass, state.time, state.G
        answer_of(state.field, "power", state.work, *given)


def _made(given: Any) -> State:
    if isinstance(given, (str, os.PathLike)):
        return _named(given)
    if any(kind.__module__.partition(".")[0] == "rebound" for kind in type(given).__mro__):
        return from_rebound(given)
    if callable(given):
        return scenarios.make(given)
    if isinstance(given, Mapping):
        known = (*ARRAYS, "G", "softening", "field", "time")
        for name in given:
            if name not in known:
                raise unknown_name("entry of a state", name, known)
        missing = [repr(name) for name in ARRAYS if name not in given]
        if missing:
            raise InputError(f"the state has no {', '.join(missing)}; give {', '.join(ARRAYS)}")
        return State.from_arrays(**given)
    if isinstance(given, (tuple, list)):
        if any(isinstance(each, State) for each in given):
            raise InputError("state is a list of states; join them with State.concatenate")
        if len(given) != len(ARRAYS):
            raise InputError(
                f"state is a {type(given).__name__} of {len(given)}; give (mass, position, "
                "velocity), or State.from_arrays(…) for more"
            )
        return State.from_arrays(*given)
    if isinstance(getattr(given, "final", None), State):
        raise InputError("state is a trajectory; to start where it ended, give trajectory.final")
    raise InputError(f"state is of type {type(given).__name__!r}; give {STATES}")


def _named(given: str | os.PathLike[str]) -> State:
    if given in scenarios.SCENARIOS:
        return scenarios.make(str(given))
    if isinstance(given, os.PathLike) or PurePath(given).suffix:
        return scenarios.load(Path(given))
    raise InputError(
        f"{unknown_name('scenario', given, scenarios.SCENARIOS)}; or give the path of a file"
    )


def check_kinds(**given: Any) -> None:
    """Raise InputError for an argument of `simulate` that is of the wrong type; None is taken."""
    for name, value in given.items():
        check_plain(name, value)
        kinds, words = KINDS[name]
        if value is not None and not isinstance(value, kinds):
            raise InputError(f"{name} is {value!r}; give {words}, or leave it out")


def named_policy(
    name: str | os.PathLike[str],
    *,
    eta: float | None = None,
    dt: float | None = None,
    integrator: str | Integrator | None = None,
    setting: str = "policy",
    others: Sequence[str] = (),
) -> Policy | Suite:
    """Policy by its name.

    Parameters
    ----------
    name
        Of a criterion or a shipped policy, "fixed", "untrained", or the path of a checkpoint or a
        run's folder.
    eta
        Of a criterion; None takes that of the configuration.
    dt
        Of equal steps; None where they can't be asked for by name.
    integrator
        Of an untrained policy.
    setting, others
        How an error calls the name, and names that the caller knows beside those above.

    Raises
    ------
    InputError
        There is none of this name, or it can't be read.
    """
    if name == "fixed":
        if dt is None:
            raise InputError(f"{setting} 'fixed' needs its step; give nb.FixedStep(dt)")
        return FixedStep(dt)
    if name == UNTRAINED:
        return untrained(asked_for(integrator) or DEFAULT_INTEGRATOR)
    if name in CRITERIA:
        return Criterion(str(name), _default_eta() if eta is None else eta)
    shipped = shipped_policies()
    if name in shipped:
        return load_policy(shipped[str(name)])
    if is_path(name):
        return load_policy(Path(name))
    raise unknown_name(setting, name, ["fixed", UNTRAINED, *others, *shipped, *CRITERIA])


def is_path(name: str | os.PathLike[str]) -> bool:
    """Whether a policy's name is spelt as a path, or is that of a folder."""
    path = PurePath(name)
    spelt = isinstance(name, os.PathLike) or bool(path.suffix) or len(path.parts) > 1
    return spelt or Path(path).is_dir()


def _default_eta() -> float:
    from nbcore.config import Simulation  # which is slow to import

    return Simulation.model_fields["eta"].default


def asked_for(integrator: str | Integrator | None) -> str | Integrator | None:
    """Integrator that is asked for; None where the choice is left to the policy."""
    is_auto = isinstance(integrator, str) and integrator == AUTO
    return None if is_auto else integrator


def is_left(policy: Any, integrator: str | Integrator | None) -> bool:
    """Whether the choice of a method is left to the run: one says "auto", and none another."""
    given = [each for each in (policy, integrator) if each is not None]
    return bool(given) and all(isinstance(each, str) and each == AUTO for each in given)


def policy_of(
    given: Any,
    integrator: str | Integrator | None,
    tolerance: float,
    clock: Clock | None = None,
) -> tuple[Policy, str | Integrator | None]:
    """Policy of a run, and its integrator if one is named or chosen by now.

    Parameters
    ----------
    given
        As `simulate` takes it.
    tolerance
        The strictest one.
    clock
        In whose time the steps are to be; None for that of the integrator.
    """
    asked = asked_for(integrator)
    if asked is not None and isinstance(chosen := get_integrator(asked), Extrapolation):
        if given is None or given == DEFAULT_POLICY or isinstance(given, OwnStep):
            own = given if isinstance(given, OwnStep) else OwnStep()
            return replace(own, clock=clock or chosen.clock), integrator
        raise InputError(
            f"policy is {given!r} and the integrator {integrator_name(asked)!r} chooses its own "
            "steps, by the tolerance; leave the policy out, or name another integrator"
        )
    if asked is not None and isinstance(get_integrator(asked), WisdomHolman):
        return _equal_steps(given, asked), integrator
    if clock is not None:
        return _first_step(given, integrator), integrator
    policy = given
    if policy is None:
        policy = _default_policy(integrator)
    elif isinstance(policy, (str, os.PathLike)):
        policy = named_policy(policy, integrator=integrator)
    elif isinstance(policy, CriterionRow):
        policy = Criterion(policy, _default_eta())
    if isinstance(policy, Suite):
        if (integrator := asked_for(integrator)) is None:
            return policy.best(tolerance), None
        member = policy.of(integrator_name(integrator))
        if member is None:
            raise InputError(
                f"the policies of the suite were trained for {_integrators(policy)}, not for "
                f"{integrator_name(integrator)!r}; use one of these, or integrator='auto'"
            )
        return member, integrator
    policy = as_policy(policy)
    if isinstance(policy, OwnStep):
        raise InputError(
            f"policy is '{policy}' and {integrator_name(asked or DEFAULT_INTEGRATOR)!r} chooses "
            "none; use integrator='gbs' or 'wisdom_holman', or another policy"
        )
    if isinstance(integrator, str) and integrator == AUTO:
        raise InputError(
            f"integrator is 'auto' and the policy {policy} can't choose one; "
            "name an integrator, or use nb.load_policy('default')"
        )
    return policy, integrator


def _equal_steps(given: Any, asked: str | Integrator) -> Policy:
    """What chooses equal steps of planets: the tolerance, or a fixed step."""
    if isinstance(given, OwnStep) and given.law is not None:
        raise InputError(
            f"policy has a law by which runs of 'gbs' spend their tolerance, and the integrator is "
            f"{integrator_name(asked)!r}, whose steps are equal; leave one of the two out"
        )
    if given is None or given == DEFAULT_POLICY or isinstance(given, OwnStep):
        return OwnStep()
    if isinstance(given, FixedStep):
        return given
    raise InputError(
        f"policy is '{given}' and the steps of the integrator {integrator_name(asked)!r} are "
        "equal, by the tolerance; leave the policy out, or give nb.FixedStep(0.01)"
    )


def _first_step(given: Any, integrator: str | Integrator | None) -> Policy:
    """What chooses the first of steps that are equal in the time of a clock."""
    if isinstance(integrator, str) and integrator == AUTO:
        raise InputError(
            "integrator is 'auto' and a clock is given; name the integrator, such as 'kahan_li8'"
        )
    policy = FIRST_STEP if given is None else given
    if isinstance(policy, (str, os.PathLike)):
        policy = named_policy(policy, integrator=integrator)
    elif isinstance(policy, CriterionRow):
        policy = Criterion(policy, _default_eta())
    policy = policy if isinstance(policy, Suite) else as_policy(policy)
    if isinstance(policy, (Suite, LearnedPolicy, OwnStep)):
        raise InputError(
            f"policy is {policy} and a clock is given, in whose time all steps are equal; give "
            "what says how long the first one is, such as nb.Criterion('boekholt', eta=0.5) or "
            "nb.FixedStep(0.01), or leave the clock out"
        )
    return policy


def _default_policy(integrator: str | Integrator | None) -> Suite | LearnedPolicy:
    shipped = shipped_policy(DEFAULT_POLICY)
    if (integrator := asked_for(integrator)) is None:
        return shipped
    if isinstance(shipped, Suite) and shipped.of(integrator_name(integrator)) is not None:
        return shipped
    return untrained(integrator)


def warn_of_untrained(chosen: Policy, integrator: str) -> None:
    """Warn where none that nobody asked for was trained for the integrator."""
    if not isinstance(chosen, LearnedPolicy) or str(chosen) != UNTRAINED:
        return
    shipped = shipped_policy(DEFAULT_POLICY)
    trained = f"one of {_integrators(shipped)}, or " if isinstance(shipped, Suite) else ""
    warnings.warn(
        f"no trained policy is shipped for {integrator!r}, so that an untrained one, which is a "
        f"classical criterion, chooses the steps; use {trained}integrator='auto', or say so with "
        f"policy='{UNTRAINED}'",
        RuntimeWarning,
        stacklevel=3,
    )


def _integrators(suite: Suite) -> str:
    return ", ".join(repr(member.spec.integrator) for member in suite.members)


def why_no_step(policy: Policy, at: State, tolerance: PerSystem, failed: Array) -> str:
    """What a rule of the user's own says of the first system that it gave no step, or nothing.

    Parameters
    ----------
    at, failed
        The end of the run, and the systems (B,) that it stopped for want of a step.
    """
    if not isinstance(policy, Custom) or not bool(failed.any()):
        return ""
    dt = to_numpy(policy(at, tolerance))
    bad = to_numpy(failed) & ~((dt > 0) & np.isfinite(dt))
    if not bad.any():
        return ""
    first = int(bad.argmax())
    return (
        f"; the rule {str(policy)!r} returned dt = {float(dt[first])} for system {first}, "
        "and a step must be positive and finite"
    )


_NAME, _NUMBER = (str, "a name"), ((int, float, np.number), "a number")
_SWITCH = ((bool, np.bool_), "True or False")
KINDS: dict[str, tuple[Any, str]] = {
    "stepping": _NAME,
    "engine": _NAME,
    "max_steps": ((int, np.integer), "a whole number"),
    "collision_distance": _NUMBER,
    "escape_distance": _NUMBER,
    "guard": _SWITCH,
    "keep": _NAME,
    "follow": _SWITCH,
    "progress": _SWITCH,
    "path": ((str, os.PathLike), "a path"),
    "resume": ((str, os.PathLike), "the path of a stored run"),
    "stop": (Callable, "a function"),
}
