"""Integrators as coefficient tables, each with one `step(state, dt)`.

A splitting alternates kicks (velocity += h·acceleration) and drifts (position += h·velocity).
The last acceleration of a step is the first one of the next, so a step costs one force evaluation
for each drift.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from inspect import signature
from itertools import pairwise
from numbers import Integral, Real
from typing import Any, Protocol

from nbcore.errors import InputError, entry
from nbcore.physics import gravity
from nbcore.physics.arrays import PerSystem
from nbcore.physics.body_errors import StepErrors
from nbcore.physics.external import answer_of, is_like, unlike
from nbcore.physics.extrapolation import Extrapolation
from nbcore.physics.state import State
from nbcore.physics.wisdom_holman import WisdomHolman

__all__ = [
    "INTEGRATORS",
    "Hermite",
    "Integrator",
    "Splitting",
    "checked_step",
    "get_integrator",
    "name_of",
]

ROUNDING = 1e-12  # of coefficients


class Integrator(Protocol):
    """One step of a given order; any object with these will do where the name of one does.

    The compiled engine takes `Splitting` and `Hermite` of any coefficients; others run in torch.

    Examples
    --------
    >>> class Midpoint:
    ...     order, evaluations, evaluations_at_start, reversible = 2, 1, 0, False
    ...
    ...     def step(self, state, dt, errors=None):
    ...         h = dt[:, None, None]
    ...         half = state.position + h / 2 * state.velocity
    ...         a = gravity.acceleration(state.replace(position=half, acceleration=None))
    ...         return state.replace(
    ...             position=state.position + h * state.velocity + h**2 / 2 * a,
    ...             velocity=state.velocity + h * a,
    ...             time=state.time + dt,
    ...             acceleration=None,
    ...             jerk=None,
    ...         )
    >>> nb.simulate("figure_eight", 1.0, nb.FixedStep(0.01), integrator=Midpoint())
    """

    @property
    def order(self) -> int:
        """p: the error of a run shrinks as dt^p."""
        ...

    @property
    def evaluations(self) -> int:
        """Force evaluations a step, from a state that has its acceleration.

        Each further derivative counts as one. Where a step hands on no acceleration, the loop
        evaluates and counts it.
        """
        ...

    @property
    def evaluations_at_start(self) -> int:
        """Those before the first step; of the acceleration one is made and counted anyway."""
        ...

    @property
    def reversible(self) -> bool:
        """Whether a step forward and a step back return to the start."""
        ...

    def step(self, state: State, dt: PerSystem, errors: StepErrors | None = None) -> State:
        """Advance every system by its own dt (B,); a dt of 0 leaves a system as it is.

        `errors`, if any, is told what the step did to the orbits of the bodies; where it is not,
        their errors are NaN.
        """
        ...


@dataclass(frozen=True)
class Splitting:
    """Kick-drift-…-kick splitting.

    Attributes
    ----------
    order
        Even if the coefficients are their own mirror image, and odd otherwise.
    kicks, drifts
        Fractions of dt, one kick more than drifts; each sums to 1. A first or last one may be 0.
    reference
        Where they were published.

    Raises
    ------
    InputError
        It is none of these.
    """

    order: int
    kicks: tuple[float, ...]
    drifts: tuple[float, ...]
    reference: str = field(default="", compare=False)

    evaluations_at_start = 1

    def __post_init__(self) -> None:
        _check_count("order of a splitting", self.order, 1)
        object.__setattr__(self, "order", int(self.order))
        for name in ("kicks", "drifts"):
            object.__setattr__(self, name, _fractions(name, getattr(self, name)))
        if len(self.kicks) != len(self.drifts) + 1:
            raise InputError(
                f"a splitting has {len(self.kicks)} kicks and {len(self.drifts)} drifts; give one "
                "kick more than drifts, the first or last of which may be 0"
            )
        if self.reversible == self.order % 2:
            is_not, remedy = ("", "even") if self.reversible else ("not ", "odd")
            raise InputError(
                f"kicks {self.kicks} and drifts {self.drifts} are {is_not}symmetric and the order "
                f"is {self.order}; of such a splitting it is {remedy}: mend the order or a number"
            )

    def __str__(self) -> str:
        return f"splitting of order {self.order} with {len(self.drifts)} drifts"

    @property
    def evaluations(self) -> int:
        """One for each drift."""
        return len(self.drifts)

    @property
    def reversible(self) -> bool:
        """Whether the coefficients are their own mirror image."""
        return all(
            abs(a - b) < ROUNDING
            for row in (self.kicks, self.drifts)
            for a, b in zip(row, row[::-1], strict=True)
        )

    def step(self, state: State, dt: PerSystem, errors: StepErrors | None = None) -> State:
        """Advance by dt (B,)."""
        mass, G, softening, outer = state.mass, state.G, state.softening, state.field
        position, velocity, work = state.position, state.velocity, state.work
        acceleration, time = gravity.acceleration(state), state.time
        h = dt[:, None, None]
        for k in range(len(self.kicks)):
            before, velocity = velocity, velocity + (self.kicks[k] * h) * acceleration
            if errors is not None:
                errors.kick(position, (before + velocity) / 2, self.kicks[k] * dt)
            if outer is not None and outer.moving:
                # The energy's conjugate, time, is kicked along: see the extended phase space of
                # Hairer, Lubich & Wanner (2006), VIII.2.
                power = answer_of(outer, "power", work, position, mass, time, G)
                work = work + self.kicks[k] * dt * power
            if k == len(self.drifts):
                break
            position = position + (self.drifts[k] * h) * velocity
            acceleration = gravity.pair_accelerations(position, mass, G, softening)
            if outer is not None:
                time = time + self.drifts[k] * dt
                pull = answer_of(outer, "acceleration", acceleration, position, time, G)
                acceleration = acceleration + pull
        if errors is not None:
            errors.end(position)
        return state.replace(
            position=position,
            velocity=velocity,
            time=state.time + dt,
            work=work,
            acceleration=acceleration,
            jerk=None,
        )


@dataclass(frozen=True)
class Hermite:
    """Hermite scheme of 4th order, predict-evaluate-correct.

    Not reversible and not symplectic; here as a reference for collisional codes.

    References
    ----------
    Makino & Aarseth (1992), PASJ 44, 141.
    """

    order = 4
    evaluations = evaluations_at_start = 2
    reversible = False

    @staticmethod
    def check(state: State) -> None:
        """Raise InputError for a state that this scheme can't take."""
        if state.field is not None and state.field.moving:
            raise InputError(
                "hermite4 can't account for the work of a moving field to 4th order; "
                "use 'suzuki4', or hold the field still"
            )

    def step(self, state: State, dt: PerSystem, errors: StepErrors | None = None) -> State:
        """Advance by dt (B,)."""
        self.check(state)
        if state.acceleration is not None and state.jerk is not None:
            a0, j0 = state.acceleration, state.jerk
        else:
            a0, j0 = gravity.derivatives(state, 2)
        h = dt[:, None, None]
        x0, v0 = state.position, state.velocity
        predicted = state.replace(
            position=x0 + h * (v0 + h / 2 * (a0 + h / 3 * j0)),
            velocity=v0 + h * (a0 + h / 2 * j0),
            time=state.time + dt,
            acceleration=None,
            jerk=None,
        )
        a1, j1 = gravity.derivatives(predicted, 2)
        velocity = v0 + h / 2 * (a0 + a1) + h**2 / 12 * (j0 - j1)
        position = x0 + h / 2 * (v0 + velocity) + h**2 / 12 * (a0 - a1)
        after = predicted.replace(position=position, velocity=velocity, acceleration=a1, jerk=j1)
        if errors is not None:
            errors.smooth(state.replace(acceleration=a0, jerk=j0), after, dt)
        return after


def _fractions(name: str, given: Any) -> tuple[float, ...]:
    """Coefficients of a splitting as numbers that sum to 1."""
    values = tuple(given) if isinstance(given, Iterable) else (given,)
    if not all(isinstance(x, Real) and math.isfinite(x) for x in values):
        raise InputError(
            f"{name} of a splitting are {given!r}; give fractions of the step, finite numbers such "
            "as (0.5, 0.5)"
        )
    total = math.fsum(values)
    if abs(total - 1) > ROUNDING:
        raise InputError(
            f"{name} of a splitting are {given!r} and sum to {total}; they must sum to 1, to "
            "rounding: give all digits, or fractions"
        )
    return tuple(map(float, values))


def _check_count(what: str, value: Any, least: int) -> None:
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise InputError(f"{what} is {value!r}; it must be a whole number, {least} or more")


def composition(order: int, *stages: float) -> Splitting:
    """Symmetric composition of leapfrogs, written as a splitting.

    Parameters
    ----------
    stages
        Lengths of the leapfrogs up to and with the middle one; the rest mirrors them.
    """
    lengths = (*stages, *stages[-2::-1])
    ends = (0.0, *lengths, 0.0)
    kicks = tuple((a + b) / 2 for a, b in pairwise(ends))
    return Splitting(order, kicks, lengths)


def nystrom(order: int, kicks: tuple[float, ...], drifts: tuple[float, ...]) -> Splitting:
    """Symmetric splitting for kinetic energies that are quadratic in the velocities.

    Parameters
    ----------
    kicks, drifts
        The first ones up to the middle; those in the middle follow from the sums, and the rest
        mirrors them.
    """
    last_kick, last_drift = 0.5 - sum(kicks), 0.5 - sum(drifts)
    if len(kicks) > len(drifts):
        return Splitting(
            order,
            (*kicks, 2 * last_kick, *kicks[::-1]),
            (*drifts, last_drift, last_drift, *drifts[::-1]),
        )
    return Splitting(
        order,
        (*kicks, last_kick, last_kick, *kicks[::-1]),
        (*drifts, 2 * last_drift, *drifts[::-1]),
    )


def _mclachlan4() -> Splitting:
    """5 stages."""
    z = math.sqrt(19)
    kicks = ((14 - z) / 108, (20 - 7 * z) / 108, (20 + 8 * z) / 108)
    return Splitting(4, (*kicks, *kicks[::-1]), (2 / 5, -1 / 10, 2 / 5, -1 / 10, 2 / 5))


_yoshida = 1 / (2 - 2 ** (1 / 3))
_suzuki = 1 / (4 - 4 ** (1 / 3))


def get_integrator(given: str | Integrator) -> Integrator:
    """Integrator by its name in the table, or one that is given as a value.

    Raises
    ------
    InputError
        There is none of this name, or the value is no integrator.
    """
    if isinstance(given, str):
        return entry("integrator", given, INTEGRATORS)
    name = name_of(given)
    counts = {"order": 1, "evaluations": 0, "evaluations_at_start": 0}
    missing = [part for part in (*counts, "reversible", "step") if not hasattr(given, part)]
    lacks = "it is a class" if isinstance(given, type) else f"it has no {', '.join(missing)}"
    if isinstance(given, type) or missing:
        raise InputError(
            f"integrator is {name}, which is none ({lacks}); give a name such as 'suzuki4', or an "
            "object with all that nbcore.physics.integrators.Integrator names"
        )
    for part, least in counts.items():
        _check_count(f"{part} of the integrator {name!r}", getattr(given, part), least)
    try:
        signature(given.step).bind(None, None, None)
    except TypeError:
        takes = signature(given.step) if callable(given.step) else f"no call: {given.step!r}"
        raise InputError(
            f"the step of the integrator {name!r} takes {takes}; it must be called as "
            "step(state, dt, errors)"
        ) from None
    except ValueError:  # some that are not written in Python don't tell
        pass
    return given


def name_of(given: str | Integrator) -> str:
    """Name of an integrator in the table, or what it calls itself, which is no name in there."""
    if isinstance(given, str):
        return given
    kind, words = type(given), str(given)
    alike = (name for name, known in INTEGRATORS.items() if type(known) is kind)
    # Words such as <… at 0x…> are other ones in the next process.
    own = getattr(given, "__name__", kind.__name__ if "<" in words else words)
    own = f"own {own}" if own in INTEGRATORS else own
    return next((name for name in alike if INTEGRATORS[name] == given), own)


def checked_step(
    integrator: Integrator, state: State, dt: PerSystem, errors: StepErrors | None = None
) -> State:
    """A step of an integrator that may be one's own.

    Raises
    ------
    InputError
        What it returned is no state, of another shape or type, or no later.
    """
    after = integrator.step(state, dt, errors)
    if not isinstance(after, State):
        raise InputError(
            f"the step of the integrator {name_of(integrator)!r} returned {type(after).__name__}; "
            "it must return a State, such as state.replace(position=…, velocity=…, "
            "time=state.time + dt, acceleration=None, jerk=None)"
        )
    right = dict.fromkeys(("position", "velocity", "acceleration", "jerk"), state.position)
    for name, like in (right | {"time": state.time, "work": state.time}).items():
        value = getattr(after, name)
        is_unknown = value is None and name in ("acceleration", "jerk")
        if not is_unknown and not is_like(value, like):
            what = f"the step of the integrator {name_of(integrator)!r}, as {name},"
            raise unlike(what, value, like)
    if bool(((dt > 0) & ~(after.time > state.time)).any()):
        raise InputError(
            f"the step of the integrator {name_of(integrator)!r} left the time as it was; "
            "it must return time=state.time + dt"
        )
    return after


BLANES_MOAN = "Blanes & Moan (2002), J. Comput. Appl. Math. 142, 313"
KAHAN_LI = "Kahan & Li (1997), Math. Comp. 66, 1089"


def _of(reference: str, splitting: Splitting) -> Splitting:
    return replace(splitting, reference=reference)


INTEGRATORS: dict[str, Integrator] = {
    "leapfrog": _of("Verlet (1967), Phys. Rev. 159, 98", composition(2, 1.0)),
    "yoshida4": _of(
        "Yoshida (1990), Phys. Lett. A 150, 262", composition(4, _yoshida, 1 - 2 * _yoshida)
    ),
    "suzuki4": _of(
        "Suzuki (1990), Phys. Lett. A 146, 319", composition(4, _suzuki, _suzuki, 1 - 4 * _suzuki)
    ),
    "mclachlan4": _of("McLachlan (1995), SIAM J. Sci. Comput. 16, 151", _mclachlan4()),
    # SRKN 6 and 11, the quickest by far
    "blanes_moan4": _of(
        BLANES_MOAN,
        nystrom(
            4,
            (0.0829844064174052, 0.396309801498368, -0.0390563049223486),
            (0.245298957184271, 0.604872665711080),
        ),
    ),
    "blanes_moan6": _of(
        BLANES_MOAN,
        nystrom(
            6,
            (
                0.0414649985182624,
                0.198128671918067,
                -0.0400061921041533,
                0.0752539843015807,
                -0.0115113874206879,
            ),
            (
                0.123229775946271,
                0.290553797799558,
                -0.127049212625417,
                -0.246331761062075,
                0.357208872795928,
            ),
        ),
    ),
    "kahan_li6": _of(
        KAHAN_LI,
        composition(
            6,
            0.39216144400731413928,
            0.33259913678935943860,
            -0.70624617255763935981,
            0.08221359629355080023,
            0.79854399093482996340,
        ),
    ),
    # ss11_6
    "sofroniou_spaletta6": _of(
        "Sofroniou & Spaletta (2005), Optim. Methods Softw. 20, 597",
        composition(
            6,
            0.21375583945878254555518066964857,
            0.18329381407425713911385974425217,
            0.17692819473098943794898811709929,
            -0.44329082681170215849622829626258,
            0.11728560432865935385403585669136,
            0.50405474843802736404832781714239,
        ),
    ),
    "kahan_li8": _of(
        KAHAN_LI,
        composition(
            8,
            0.13020248308889008087881763,
            0.56116298177510838456196441,
            -0.38947496264484728640807860,
            0.15884190655515560089621075,
            -0.39590389413323757733623154,
            0.18453964097831570709183254,
            0.25837438768632204729397911,
            0.29501172360931029887096624,
            -0.60550853383003451169892108,
        ),
    ),
    "hermite4": Hermite(),
    "gbs": Extrapolation(),
    "wisdom_holman": WisdomHolman(),
}
