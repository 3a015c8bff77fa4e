"""Integrators as coefficient tables, each with one `step(state, dt)`.

A splitting alternates kicks (velocity += h·acceleration) and drifts (position += h·velocity).
The last acceleration of a step is the first one of the next, so a step costs one force evaluation
for each drift.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from inspect import signature
from itertools import pairwise
from typing import Protocol

from nbcore.errors import InputError, entry
from nbcore.physics import gravity
from nbcore.physics.arrays import PerSystem
from nbcore.physics.body_errors import StepErrors
from nbcore.physics.external import part_of
from nbcore.physics.state import State

__all__ = ["INTEGRATORS", "Hermite", "Integrator", "Splitting", "get_integrator", "name_of"]


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
        """Force evaluations a step; each further derivative counts as one."""
        ...

    @property
    def evaluations_at_start(self) -> int:
        """Those that the first step needs before it can be made."""
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
    """Symmetric kick-drift-…-kick splitting.

    Attributes
    ----------
    order
        Even for a symmetric splitting.
    kicks, drifts
        Fractions of dt, one kick more than drifts; each sums to 1.
    reference
        Where they were published.
    """

    order: int
    kicks: tuple[float, ...]
    drifts: tuple[float, ...]
    reference: str = field(default="", compare=False)

    reversible = True
    evaluations_at_start = 1

    def __str__(self) -> str:
        return f"splitting of order {self.order} with {len(self.drifts)} drifts"

    @property
    def evaluations(self) -> int:
        """One for each drift."""
        return len(self.drifts)

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
                power = part_of(outer, "power", "a moving field")
                work = work + self.kicks[k] * dt * power(position, mass, time, G)
            if k == len(self.drifts):
                break
            position = position + (self.drifts[k] * h) * velocity
            acceleration = gravity.pair_accelerations(position, mass, G, softening)
            if outer is not None:
                time = time + self.drifts[k] * dt
                acceleration = acceleration + outer.acceleration(position, time, G)
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
    parts = ("order", "evaluations", "evaluations_at_start", "reversible", "step")
    missing = [name for name in parts if not hasattr(given, name)]
    lacks = "it is a class" if isinstance(given, type) else f"it has no {', '.join(missing)}"
    if isinstance(given, type) or missing:
        raise InputError(
            f"integrator is {given!r}, which is none ({lacks}); give a name such as 'suzuki4', or "
            "an object with all that nbcore.physics.integrators.Integrator names"
        )
    try:
        signature(given.step).bind(None, None, None)
    except TypeError:
        raise InputError(
            f"the step of the integrator {given} takes {signature(given.step)}; it must be called "
            "as step(state, dt, errors)"
        ) from None
    return given


def name_of(given: str | Integrator) -> str:
    """Name of an integrator in the table, or what it calls itself."""
    if isinstance(given, str):
        return given
    kind = type(given)
    alike = (name for name, known in INTEGRATORS.items() if type(known) is kind)
    has_words = kind.__str__ is not object.__str__ or kind.__repr__ is not object.__repr__
    own = str(given) if has_words else kind.__name__
    return next((name for name in alike if INTEGRATORS[name] == given), own)


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
}
