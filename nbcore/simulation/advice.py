"""Which method to take for a run, how long it will take, and how far it will be off."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbcore.errors import InputError, unknown_name
from nbcore.physics.state import State
from nbcore.physics.wisdom_holman import WisdomHolman
from nbcore.simulation.arguments import Plan, by_law, plan_of
from nbcore.simulation.forecasts import forecast, kind_of, laws
from nbcore.simulation.inputs import DEFAULT_POLICY, EXTRAPOLATION, check_kinds, state_of
from nbcore.simulation.pilots import Pilots, made
from nbcore.simulation.simulate import check, simulate
from nbcore.simulation.status import Status
from nbcore.simulation.trajectory import Trajectory
from nbcore.stepping.policies import FixedStep, OwnStep

__all__ = ["METHODS", "Advice", "Method", "advise"]

NEAR = 2.0  # tolerances up to which an expected error, known to about that, meets it

METHODS: tuple[Mapping[str, Any], ...] = (
    {"integrator": EXTRAPOLATION, "keep": "aim"},
    {"integrator": EXTRAPOLATION, "keep": "bound"},
    {"integrator": EXTRAPOLATION},
    {"integrator": "wisdom_holman"},
    {"policy": DEFAULT_POLICY},
)
OF_METHODS = ("policy", "integrator", "stepping", "clock", "guard", "keep")


@dataclass(frozen=True)
class Method:
    """A way to make a run, and what is expected of it; of a batch all systems together.

    Attributes
    ----------
    name
        What it is called in the table.
    arguments
        Of `simulate`.
    evaluations
        Of the forces, NaN of a method that can't make the run.
    seconds
        That the run takes, without what is compiled before.
    error
        Largest error of the energy or of a body's orbit: the median of such runs, and of a batch
        that of its systems.
    low, high
        10th and 90th percentile of it.
    worst
        Expected error of the worst system.
    meets
        Whether the expected error is near the tolerance, or below.
    why
        What stands against it, or nothing.
    """

    name: str
    arguments: Mapping[str, Any]
    evaluations: float = math.nan
    seconds: float = math.nan
    error: float = math.nan
    low: float = math.nan
    high: float = math.nan
    worst: float = math.nan
    meets: bool = False
    why: str = ""

    @property
    def runs(self) -> bool:
        """Whether it can make the run."""
        return not math.isnan(self.seconds)

    def __str__(self) -> str:
        if not self.runs:
            return f"{self.name}: {self.why}"
        return (
            f"{self.name}: {_duration(self.seconds)}, {_count(self.evaluations)} force "
            f"evaluations, error about {self.error:.0e} ({self.low:.0e} … {self.high:.0e})"
        )


@dataclass(frozen=True, eq=False)
class Advice:
    """Methods of a run, best first: those that meet the tolerance, by the time that they take.

    Then those that don't, by their error, and those that can't make the run.

    Attributes
    ----------
    methods
        At least one, the first of which can make it.
    state, t_end
        Of the run.
    options
        Of `simulate`, whichever method makes it.
    """

    methods: tuple[Method, ...]
    state: State
    t_end: NDArray[np.float64]
    options: Mapping[str, Any]

    @property
    def best(self) -> dict[str, Any]:
        """Arguments of `simulate` for the first method, the tolerance among them."""
        return dict(self.methods[0].arguments)

    def run(self, **changes: Any) -> Trajectory:
        """Simulate by the first method; keyword arguments as of `simulate` replace its own."""
        return simulate(self.state, self.t_end, **{**self.options, **self.best, **changes})

    def to_pandas(self):
        """As a pandas.DataFrame with a row for each method, best first."""
        import pandas as pd

        names = ("name", "seconds", "evaluations", "error", "low", "high", "worst", "meets", "why")
        rows = [{name: getattr(method, name) for name in names} for method in self.methods]
        return pd.DataFrame(rows).rename(columns={"name": "method"})

    def __str__(self) -> str:
        rows = [_HEAD, *(_cells(method) for method in self.methods)]
        if self.state.n_systems == 1:
            rows = [row[:5] + row[6:] for row in rows]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = (
            "  ".join(
                cell.ljust(width) if k in (0, len(row) - 1) else cell.rjust(width)
                for k, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        )
        return "\n".join([str(self.methods[0]), "", *lines])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        head, *rows = (_HEAD, *(_cells(method) for method in self.methods))
        table = "".join(
            f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in row)}</tr>"
            for tag, some in (("th", [head]), ("td", rows))
            for row in some
        )
        return f"<p>{escape(str(self.methods[0]))}</p><table>{table}</table>"


def advise(
    state: State | Any,
    t_end: float | Any,
    tolerance: float | Any = None,
    *,
    methods: Iterable[Mapping[str, Any]] = METHODS,
    engine: str = "auto",
    record: int | str | Any | None = "ends",
    max_steps: int | None = None,
    collision_distance: float | None = None,
    escape_distance: float | None = None,
    follow: bool | None = None,
) -> Advice:
    """Say which methods can make a run, what they take, and how far they will be off.

    Each makes the first part of the run, as it would make it, a tenth at most or half a second of
    steps, or two steps where a tenth is less; what the rest comes to is known from such runs of
    other systems. What is compiled before the first step of its kind is not counted.

    Parameters
    ----------
    state, t_end, tolerance
        As of `simulate`; the run has an end.
    methods
        Arguments of `simulate` for each: policy, integrator, stepping, clock, guard, keep.
    engine, record, max_steps, collision_distance, escape_distance, follow
        As of `simulate`. Of records the ends alone are made, and timed, unless others are asked
        for.

    Returns
    -------
    Advice
        Which prints as a table.

    Raises
    ------
    InputError
        An argument can't be used, the run has no end, or no method can make it.

    Notes
    -----
    Seconds are those of this machine when nothing else runs on it. On systems that nothing was
    fitted to `python -m nbcore.analysis.advised` measures how far all this is off.

    Examples
    --------
    >>> advice = nb.advise("outer_solar_system", 1e4, 1e-8)
    >>> print(advice)
    >>> nb.simulate("outer_solar_system", 1e4, **advice.best)
    """
    limits = {"max_steps": max_steps, "follow": follow, "engine": engine}
    limits |= {"collision_distance": collision_distance, "escape_distance": escape_distance}
    check_kinds(**limits)
    state = state_of(state)
    plan = plan_of(state, t_end, FixedStep(1.0), None, tolerance, None, max_steps)
    if not np.isfinite(plan.t_end).all():
        raise InputError(
            f"t_end is {float(plan.t_end.max())}; what a run without an end takes can't be told: "
            "give t_end"
        )
    options = {**limits, "record": record}
    asked = plan.tolerance if state.batched else float(plan.tolerance[0])
    given = [{**_checked(each), "tolerance": asked} for each in methods]
    if not given:
        raise InputError(
            "methods are none; name one, such as {'integrator': 'gbs'}, or leave them out"
        )
    seen: set[Any] = set()
    every = (_of(each, state, plan, options, seen) for each in given)
    found = [method for method in every if method is not None]
    if not any(method.runs for method in found):
        raise InputError(f"no method can make the run: {found[0].why}")
    return Advice(tuple(sorted(found, key=_rank)), state, plan.t_end, options)


def _checked(method: Any) -> dict[str, Any]:
    """Arguments that stand for a method."""
    if not isinstance(method, Mapping):
        raise InputError(
            f"a method is {method!r}; give arguments of simulate, such as {{'integrator': 'gbs'}}"
        )
    for name in method:
        if name not in OF_METHODS:
            raise unknown_name("argument of a method", name, OF_METHODS)
    policy, *how = by_law(method.get("policy"), method.get("integrator"), method.get("keep"))
    if isinstance(policy, OwnStep) and policy.law is not None:
        return {**method, "policy": policy, "integrator": how[0], "keep": how[1]}
    return dict(method)


def _of(
    arguments: dict[str, Any], state: State, asked: Plan, options: Mapping[str, Any], seen: set[Any]
) -> Method | None:
    """What is expected of a method, or why it can't make the run; None if it was seen before."""
    whole = {**options, **arguments}
    try:
        check(state, asked.t_end, **whole)
        plan = _plan(state, asked, whole)
        name, kind = _name_of(plan, arguments), kind_of(plan, arguments.get("keep"))
        if (same := _same(plan, arguments)) in seen:
            return None
        seen.add(same)
        if kind not in laws():
            raise InputError(f"what keep={arguments['keep']!r} costs with it is not known")
        pilots = made(state, asked.t_end, whole)
    except InputError as error:
        return Method(_called(arguments), arguments, why=str(error))
    if why := _obstacle(plan, pilots, state):
        return Method(name, arguments, why=why)
    told = forecast(kind, pilots, asked.tolerance)
    over = float(np.median(told.error / asked.tolerance))
    return Method(
        name,
        arguments,
        evaluations=float(told.evaluations.sum()),
        seconds=pilots.seconds(told.evaluations),
        error=float(np.median(told.error)),
        low=float(np.median(told.low)),
        high=float(np.median(told.high)),
        worst=float(told.error.max()),
        meets=over <= NEAR,
        why="" if over <= NEAR else f"errs by about {over:.2g} tolerances",
    )


def _plan(state: State, asked: Plan, whole: Mapping[str, Any]) -> Plan:
    """As `simulate` makes it."""
    names = ("policy", "integrator", "tolerance", "stepping", "max_steps", "clock")
    policy, integrator, tolerance, stepping, max_steps, clock = map(whole.get, names)
    how = policy, integrator, tolerance, stepping, max_steps, clock
    watched = not whole.get("guard") and whole["engine"] != "torch"
    return plan_of(state, asked.t_end, *how, watched, whole.get("keep"))


def _same(plan: Plan, arguments: Mapping[str, Any]) -> tuple[Any, ...]:
    """What two ways to ask for the same steps have in common."""
    calibration = None if plan.learned is None else plan.learned.calibration
    law = plan.policy.law if isinstance(plan.policy, OwnStep) else None
    how = plan.integrator, plan.stepping, str(plan.clock), str(plan.policy), calibration, law
    return (*how, arguments.get("keep"), arguments.get("guard"))


def _obstacle(plan: Plan, pilots: Pilots, state: State) -> str:
    """Why a method does not make a run that it could begin, or nothing."""
    last, handed = pilots.made[-1], pilots.about["handed_over"]
    if last.failed:
        broken = [Status(int(each)) for each in last.status]
        kind = next(each for each in broken if each in (Status.NON_FINITE, Status.DT_UNDERFLOW))
        return f"{broken.count(kind)} of {len(broken)} systems break off: {kind.name}"
    at_once = handed is not None and all(
        when is not None and when <= begun
        for when, begun in zip(handed, state.time.tolist(), strict=True)
    )
    if isinstance(plan.scheme, WisdomHolman) and at_once:
        return "gbs makes it from the start: bodies are too near each other, or steps too short"
    return ""


def _name_of(plan: Plan, arguments: Mapping[str, Any]) -> str:
    """What a method is called in the table."""
    words = [plan.integrator]
    if not isinstance(plan.policy, OwnStep):
        named = arguments.get("policy")
        policy = named if isinstance(named, str) and plan.learned else str(plan.policy)
        words.append(f"{plan.stepping} steps of “{policy}”")
    extra = {name: arguments.get(name) for name in ("keep", "clock", "guard")}
    return ", ".join([*words, *_given(extra)])


def _called(arguments: Mapping[str, Any]) -> str:
    """Likewise, of one that can't be taken."""
    known = {name: arguments[name] for name in OF_METHODS if arguments.get(name) is not None}
    first = known.pop("integrator", None) or known.pop("policy", "default")
    return ", ".join([str(first), *_given(known)])


def _given(arguments: Mapping[str, Any]) -> list[str]:
    """Arguments as they are written in a call."""
    return [
        f'{name}="{value}"' if isinstance(value, str) else f"{name}={value}"
        for name, value in arguments.items()
        if value is not None
    ]


def _rank(method: Method) -> tuple[Any, ...]:
    """Order of the table."""
    return (
        not method.runs,
        not method.meets,
        method.seconds if method.meets else method.error if method.runs else 0.0,
    )


_HEAD = ("method", "time", "evaluations", "error", "10 … 90 %", "worst", "tolerance")


def _cells(method: Method) -> tuple[str, ...]:
    """A row of the table."""
    if not method.runs:
        return (method.name, *("–",) * 5, method.why.partition("; ")[0])
    return (
        method.name,
        _duration(method.seconds),
        _count(method.evaluations),
        f"{method.error:.0e}",
        f"{method.low:.0e} … {method.high:.0e}",
        f"{method.worst:.0e}",
        "met" if method.meets else method.why,
    )


def _duration(seconds: float) -> str:
    for unit, name in ((86400.0, "days"), (3600.0, "h"), (60.0, "min"), (1.0, "s")):
        if seconds >= (2 * unit if unit > 1 else unit):
            return f"{_digits(seconds / unit)} {name}"
    return f"{_digits(seconds * 1e3)} ms"


def _count(evaluations: float) -> str:
    return _digits(evaluations)


def _digits(value: float) -> str:
    """Two digits."""
    if value >= 10:
        rounded = round(value, 1 - math.floor(math.log10(value)))
        return f"{rounded:,.0f}"
    return f"{value:.2g}"
