"""What the arguments of `simulate` say, checked."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nbcore.errors import InputError, unknown_name
from nbcore.physics.arrays import Array, numbers, to_numpy
from nbcore.physics.clocks import Clock, get_clock
from nbcore.physics.extrapolation import Extrapolation
from nbcore.physics.integrators import Integrator, Splitting, get_integrator, name_of
from nbcore.physics.plain import check_plain
from nbcore.physics.state import State
from nbcore.physics.transformed import Transformed, not_composed
from nbcore.physics.wisdom_holman import WisdomHolman
from nbcore.simulation.choice import method
from nbcore.simulation.engine import POINTS
from nbcore.simulation.inputs import (
    AUTO,
    DEFAULT_INTEGRATOR,
    EXTRAPOLATION,
    asked_for,
    is_left,
    is_path,
    policy_of,
)
from nbcore.simulation.resumption import Begun, equal, refuse
from nbcore.stepping.checkpoints import load_policy, shipped_policies
from nbcore.stepping.control import get_control
from nbcore.stepping.criteria import CRITERIA
from nbcore.stepping.policies import UNTRAINED, LearnedPolicy, OwnStep, Policy

__all__ = [
    "AIM",
    "BOUND",
    "Plan",
    "agreed",
    "by_law",
    "check_keep",
    "per_system",
    "plan_of",
    "rows_of",
]

DEFAULT_TOLERANCE = 1e-6
READY = "ready"
# What steps in the time of a clock are; equal ones run backward the way they came.
CLOCKED = {Extrapolation: "plain", Transformed: "reversible"}
AIM, BOUND = KEEPS = ("aim", "bound")  # what a run may do about its tolerance
CHOICES = ("auto", READY)  # names of engines that leave it to the run which one it takes


class Plan(NamedTuple):
    """What a run is to be, as far as its arguments say."""

    t_end: NDArray[np.float64]
    tolerance: NDArray[np.float64]
    policy: Policy
    learned: LearnedPolicy | None
    stepping: str
    integrator: str
    scheme: Integrator

    @property
    def clock(self) -> Clock | None:
        """In whose time the steps are made; None in physical time."""
        in_s = isinstance(self.scheme, (Extrapolation, Transformed))
        return self.scheme.clock if in_s else None  # pyright: ignore[reportAttributeAccessIssue]


def by_law(
    policy: Any, integrator: str | Integrator | None, keep: str | None
) -> tuple[Any, str | Integrator | None, str | None]:
    """Policy, integrator and what is kept to, of which a law of one's own says the last two.

    Parameters
    ----------
    policy, integrator, keep
        As `simulate` takes them; a policy that is stored is read.
    """
    if isinstance(policy, (str, os.PathLike)):
        known = policy in ("fixed", UNTRAINED, AUTO, *shipped_policies(), *CRITERIA)
        policy = load_policy(Path(policy)) if not known and is_path(policy) else policy
    if isinstance(policy, OwnStep) and policy.law is not None:
        integrator = EXTRAPOLATION if asked_for(integrator) is None else integrator
        keep = AIM if keep is None else keep
    return policy, integrator, keep


def plan_of(
    state: State,
    t_end: Any,
    policy: Any,
    integrator: str | Integrator | None,
    tolerance: Any,
    stepping: str | None,
    max_steps: int | None,
    clock: str | Clock | None = None,
    equal_steps: bool = True,
    keep: str | None = None,
) -> Plan:
    """What a run is to be, or an InputError of what it can't.

    Parameters
    ----------
    equal_steps
        Whether those of planets may be chosen; the others are `simulate`'s.
    """
    if keep is not None and keep not in KEEPS:
        raise unknown_name("keep", keep, KEEPS)
    if max_steps is not None and max_steps < 1:
        raise InputError(f"max_steps is {max_steps}; it must be 1 or more")
    end = _t_end(state, t_end, max_steps)
    tolerance = DEFAULT_TOLERANCE if tolerance is None else tolerance
    accepted = per_system(state, "tolerance", tolerance)
    if not ((accepted > 0) & (accepted < 1)).all():
        raise InputError(f"tolerance is {tolerance}; it must lie between 0 and 1, such as 1e-6")
    strictest, clock = float(accepted.min()), None if clock is None else get_clock(clock)
    if is_left(policy, integrator):
        policy, integrator = None, None
        if stepping != "reversible":
            # Those of planets are equal in time, and none is redone.
            equal_steps &= clock is None
            integrator = EXTRAPOLATION
            if keep is None:
                integrator = method(state.numpy(), end, strictest, equal_steps)
    elif isinstance(policy, str) and policy == AUTO:
        policy = None
    chosen, integrator = policy_of(policy, integrator, strictest, clock)
    learned = chosen if isinstance(chosen, LearnedPolicy) else None
    stepping = stepping or (learned.spec.stepping if learned else None)
    if clock is not None:
        name, scheme = _in_time_of(clock, integrator, stepping)
        return Plan(end, accepted, chosen, None, CLOCKED[type(scheme)], name, scheme)
    stepping = stepping or "plain"
    return Plan(
        end, accepted, chosen, learned, stepping, *_integrator(integrator, chosen, stepping)
    )


def check_keep(keep: str | None, plan: Plan, follow: bool) -> None:
    """Raise InputError where a run can't keep to its tolerance by what it has erred by so far."""
    if keep is None:
        return
    heeds = isinstance(plan.scheme, Extrapolation)
    if keep == BOUND and not heeds:
        own = isinstance(plan.scheme, WisdomHolman) and isinstance(plan.policy, OwnStep)
        if not own and plan.learned is None:
            raise InputError(
                f"keep is {keep!r}, and the policy '{plan.policy}' heeds no tolerance; use "
                f"integrator={EXTRAPOLATION!r} or a learned policy, or leave keep out"
            )
    elif not heeds:
        raise InputError(
            f"keep is {keep!r}, and steps of {plan.integrator!r} are chosen without a look at what "
            f"the run has erred by; use integrator={EXTRAPOLATION!r}, or leave keep out"
        )
    if not follow:
        raise InputError(
            f"keep is {keep!r} and follow is False, so that no error of a body is known; leave one "
            "of the two out"
        )
    if heeds and not np.isfinite(plan.t_end).all():
        raise InputError(
            f"keep is {keep!r} and t_end {float(plan.t_end.max())}; the tolerance of a run without "
            "an end can't be shared out: give t_end, or leave keep out"
        )


def _in_time_of(
    clock: Clock, given: str | Integrator | None, stepping: str | None
) -> tuple[str, Integrator]:
    """An integrator by its name, in the time of a clock."""
    given = DEFAULT_INTEGRATOR if given is None else given
    integrator, name = get_integrator(given), name_of(given)
    if isinstance(integrator, Extrapolation):
        if integrator.clock not in (Clock(), clock):
            raise InputError(
                f"clock is '{clock}' and that of the integrator '{integrator.clock}'; give one of "
                "the two"
            )
        scheme: Any = replace(integrator, clock=clock)
    elif isinstance(integrator, Splitting):
        scheme = Transformed(integrator, clock)
    else:
        raise not_composed(name)
    if stepping not in (None, CLOCKED[type(scheme)]):
        get_control(stepping)
        raise InputError(
            f"stepping is {stepping!r}, and steps of {name!r} in the time of a clock are "
            f"{CLOCKED[type(scheme)]} as they are; leave stepping out, or the clock"
        )
    return name, scheme


def _integrator(
    given: str | Integrator | None, policy: Policy, stepping: str
) -> tuple[str, Integrator]:
    learned = policy if isinstance(policy, LearnedPolicy) else None
    if given is None:
        given = learned.spec.integrator if learned else DEFAULT_INTEGRATOR
    integrator, name = get_integrator(given), name_of(given)
    if learned and learned.spec.order != integrator.order:
        raise InputError(
            f"the policy was trained for {learned.spec.integrator!r} of order "
            f"{learned.spec.order}, and {name!r} has order {integrator.order}; "
            f"use integrator={learned.spec.integrator!r}"
        )
    get_control(stepping)
    if stepping == "reversible" and isinstance(integrator, WisdomHolman):
        raise InputError(
            f"stepping is {stepping!r}, and the steps of {name!r} are equal, so that they run "
            "backward the way they came; leave stepping out"
        )
    if stepping == "reversible" and not integrator.reversible:
        raise InputError(
            f"integrator {name!r} is not reversible; use stepping='plain' or another integrator, "
            "such as 'suzuki4'"
        )
    if stepping == "reversible" and policy.looks_back:
        raise InputError(
            "history features depend on the past, so the steps can't be reversible; "
            "use stepping='plain'"
        )
    return name, integrator


def per_system(state: State, name: str, value: Any) -> NDArray[np.float64]:
    """One number, or one a system, as (B,), or an InputError that names it."""
    check_plain(name, value)
    try:
        found = numbers(value)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"{name} is {value!r}; it must be a number, or one a system") from None
    if found.ndim > 1 or (found.ndim == 1 and len(found) != state.n_systems):
        raise InputError(
            f"{name} has shape {found.shape} for {state.n_systems} systems; "
            "give one number, or one a system"
        )
    return np.broadcast_to(found, state.n_systems).copy()


def _t_end(state: State, t_end: Any, max_steps: int | None) -> NDArray[np.float64]:
    if t_end is None:
        raise InputError("t_end is not given; say when the run ends, such as simulate(state, 10.0)")
    end = per_system(state, "t_end", t_end)
    if not (end > to_numpy(state.time)).all():
        raise InputError(
            f"t_end is {t_end} and the state is at time {float(state.time.max())}; "
            "t_end must be later"
        )
    if max_steps is None and not np.isfinite(end).all():
        raise InputError("t_end is infinite; give max_steps, or the run never ends")
    return end


def rows_of(
    record: Any, state: State, t_end: NDArray[np.float64], scheme: object = None
) -> int | NDArray[np.float64]:
    """Every how many steps to record (0: ends only; POINTS), or the output times (T,)."""
    check_plain("record", record)
    if record is None:
        return POINTS if isinstance(scheme, Extrapolation) else 1
    if isinstance(record, str):
        if record != "ends":
            raise InputError(f"record is {record!r}; give None, a number, times, or 'ends'")
        return 0
    if isinstance(record, (int, np.integer)):
        if record < 1:
            raise InputError(f"record is {record}; it must be 1 or more, or 'ends'")
        return int(record)
    try:
        times = numbers(record)
    except (TypeError, ValueError):
        raise InputError(f"record is {record!r}; give None, a number, times, or 'ends'") from None
    increasing = times.ndim == 1 and bool((np.diff(times) > 0).all())
    if not increasing or not len(times) or not np.isfinite(times).all():
        raise InputError(
            f"record is {record!r}; times must be one increasing list of finite numbers, not empty"
        )
    begun = to_numpy(state.time)
    if (times[0] < begun).any() or (times[-1] > t_end).any():
        raise InputError(
            f"record times from {float(times[0])} to {float(times[-1])} reach beyond the run, "
            f"{float(state.time.max())} to {float(t_end.min())}"
        )
    return times


def agreed(begun: Begun, given: tuple[Any, ...], limits: tuple[Any, ...]) -> tuple[Any, ...]:
    """Arguments of a run that goes on, in the order in which they are given, once they agree."""
    stored, path = begun.asked, begun.path
    state, policy, integrator, tolerance, stepping, engine, record, clock = given
    known = begun.clock(clock)
    if state is not None and (different := _difference(begun.state, state)):
        refuse(path, *different)
    accepted = stored["tolerance"]
    if tolerance is not None:
        asked = per_system(begun.state, "tolerance", tolerance)
        told = accepted if stored["bound"] is None else stored["bound"]
        if not np.array_equal(asked, told):
            refuse(path, "tolerance", _short(told), _short(asked))
    if policy is not None:
        policy, integrator = policy_of(policy, integrator, float(accepted.min()), known)
    if record is not None:
        recorded = rows_of(record, begun.state, np.full(begun.state.n_systems, np.inf))
        if not equal(recorded, stored["record"]):
            refuse(path, "record", _recorded(stored["record"]), _recorded(recorded))
    is_auto = isinstance(integrator, str) and integrator == AUTO
    chosen = {
        "stepping": stepping,
        "engine": None if engine in CHOICES else engine,
    }
    names = ("collision_distance", "escape_distance", "guard", "follow", "keep")
    for name, value in {**chosen, **dict(zip(names, limits, strict=True))}.items():
        if value is not None and value != stored[name]:
            refuse(path, name, stored[name], value)
    every = stored["record"]
    if not isinstance(every, np.ndarray):
        every = {0: "ends", POINTS: None}.get(every, every)
    return (
        begun.state,
        begun.policy(policy),  # pyright: ignore[reportArgumentType]
        begun.integrator(None if is_auto else integrator),
        accepted,
        stored["stepping"],
        stored["engine"],
        every,
        known,
        *(stored[name] for name in names),
    )


def _difference(one: State, other: State) -> tuple[str, Any, Any] | None:
    """First attribute in which two initial states differ, and its two values."""
    for name in ("G", "softening", "field"):
        if getattr(one, name) != getattr(other, name):
            return name, getattr(one, name), getattr(other, name)
    for name in ("mass", "position", "velocity", "time"):
        mine, theirs = (to_numpy(getattr(state, name)) for state in (one, other))
        if mine.shape != theirs.shape:
            return f"a {name} of shape", tuple(mine.shape), tuple(theirs.shape)
        if not np.array_equal(mine, theirs):
            where = tuple(np.argwhere(mine != theirs)[0].tolist())
            return f"{name}{list(where)}", float(mine[where]), float(theirs[where])
    return None


def _short(values: Array) -> float | list[float]:
    return float(values[0]) if bool((values == values[0]).all()) else values.tolist()


def _recorded(record: int | NDArray[np.float64]) -> str:
    if isinstance(record, np.ndarray):
        return f"{len(record)} times from {float(record[0])} to {float(record[-1])}"
    special = {0: "ends", POINTS: "every step and points on its way"}
    return special.get(record, f"every {record} steps")
