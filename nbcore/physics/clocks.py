"""Transformed time: dt = ds/Ω(x), so that equal steps in s are short where bodies are close.

A clock is Ω = (Σ w r^−p)^(1/p) over all pairs, with weights w of their masses and softened
distances r. With p = 2 the closest pair alone sets the pace, and feels the others in second order;
Σ 1/r feels them in first order, which costs three bodies twice the steps.

A further variable W, which begins as Ω, follows it by dW/dt = v·∂Ω/∂x. Drifts take dt = ds/W and
kicks dt = ds/Ω(x), so that both are explicit, and drift-kick-drift keeps every two-body orbit but
for its phase.

The laws `term` and `slowness` serve arrays and the compiled engine alike; `roots` is a tuple of as
many zeros as p has factors of 2, whose length the compiler knows.

References
----------
Preto & Tremaine (1999), AJ 118, 2532; Mikkola & Tanikawa (1999), MNRAS 310, 745; Mikkola & Aarseth
(2002), Celest. Mech. Dyn. Astron. 84, 343.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from nbcore.errors import InputError, entry
from nbcore.physics import gravity
from nbcore.physics.arrays import Array, PerSystem, dot, namespace
from nbcore.physics.elementwise import inverse_root, root
from nbcore.physics.pair_law import pair_weight
from nbcore.physics.state import State

__all__ = ["CLOCKS", "Clock", "Pull", "get_clock", "slowness", "term"]

POWERS = (1, 2, 4)


def term(roots, inverse):
    """r^−p, from 1/r."""
    for _ in range(len(roots)):
        inverse = inverse * inverse
    return inverse


def slowness(roots, total):
    """1/Ω, from the sum of all terms."""
    if len(roots) == 0:
        return 1 / total
    for _ in range(len(roots) - 1):
        total = root(total)
    return inverse_root(total)


def both(first, second):
    """Sum of both, m + m'."""
    return first + second


def either(first, second):
    """1 where one of the two has mass."""
    return 1.0 * ((first + second) > 0)


def product(first, second):
    """Product of both, m m', as in the potential energy."""
    return first * second


class Pull(NamedTuple):
    """What all pairs do in some places.

    Attributes
    ----------
    acceleration
        (B, N, D) [L/T²].
    terms
        (B,) Σ w r^−p [1/L^p].
    slope
        (B, N, D) ∂/∂x of it, over p [1/L^(p+1)].
    """

    acceleration: Array
    terms: PerSystem
    slope: Array


@dataclass(frozen=True)
class Clock:
    """Ω = (Σ w r^−p)^(1/p), in units of one over length.

    Attributes
    ----------
    power
        p: 1, 2 or 4.
    weight
        w of two masses, symmetric, of arrays; 0 for two without mass.

    Raises
    ------
    InputError
        The power is another one.

    Examples
    --------
    >>> nb.simulate("pythagorean", 60, integrator=nb.Extrapolation(clock=nb.Clock(power=1)))
    """

    power: int = 2
    weight: Callable[[Array, Array], Array] = both

    def __post_init__(self) -> None:
        if type(self.power) is not int or self.power not in POWERS:
            raise InputError(f"power of a clock is {self.power!r}; it must be 1, 2 or 4")
        if not callable(self.weight):
            raise InputError(
                f"weight of a clock is {self.weight!r}; give a function of the masses of two bodies"
            )

    def __str__(self) -> str:
        known = (name for name, clock in CLOCKS.items() if clock == self)
        weight = getattr(self.weight, "__name__", type(self.weight).__name__)
        return next(known, f"of power {self.power} with weights {weight}")

    @property
    def roots(self) -> tuple[int, ...]:
        """As many zeros as the power has factors of 2."""
        return (0,) * POWERS.index(self.power)

    def weights(self, mass: Array) -> Array:
        """Weights of all pairs, (B, P), in units of the largest.

        Raises
        ------
        InputError
            In some system no pair has any.
        """
        i, j = gravity.pair_indices(mass.shape[1], mass)
        w = self.weight(mass[:, i], mass[:, j])
        if not bool((w >= 0).all()) or not bool((w == self.weight(mass[:, j], mass[:, i])).all()):
            raise InputError(
                "the weight of a clock is negative, no number, or another one for (m', m) than for "
                "(m, m'); give one such as m + m'"
            )
        most = namespace(mass).max(w, axis=1, keepdims=True)
        if not bool((most > 0).all()):
            raise InputError(
                "no two bodies of some system pull each other, so that their time can't be "
                "transformed; give one of them a mass, or use an integrator such as 'blanes_moan6'"
            )
        return w / most

    def pull(self, apart: Array, mass: Array, weights: Array, G: float, softening: float) -> Pull:
        """What all pairs do.

        Parameters
        ----------
        apart
            (B, P, D) separations x_j − x_i [L].
        weights
            (B, P) from `weights`.
        """
        xp, n = namespace(apart), mass.shape[1]
        i, j = gravity.pair_indices(n, mass)
        massless = (mass[:, i] + mass[:, j]) == 0
        r2 = dot(apart, apart) + softening**2 + massless  # two without mass may be at one place
        inverse = inverse_root(r2)
        share = weights * term(self.roots, inverse)
        body = xp.arange(n, device=mass.device)
        first, second = (xp.astype(each[:, None] == body, r2.dtype) for each in (i, j))
        pulled = first * mass[:, j, None] - second * mass[:, i, None]  # (B, P, N)
        towards = (G * pair_weight(r2))[..., None] * apart
        along = (share * inverse * inverse)[..., None] * apart
        return Pull(pulled.mT @ towards, share.sum(axis=1), (first - second).mT @ along)

    def rate(self, state: State) -> PerSystem:
        """Ω (B,) [1/L]."""
        i, j = gravity.pair_indices(state.n_bodies, state.mass)
        apart = state.position[:, j] - state.position[:, i]
        weights = self.weights(state.mass)
        terms = self.pull(apart, state.mass, weights, state.G, state.softening).terms
        return 1 / slowness(self.roots, terms)


def get_clock(given: str | Clock) -> Clock:
    """Clock by its name in the table, or one that is given as a value.

    Raises
    ------
    InputError
        There is none of this name, or the value is no clock.
    """
    if isinstance(given, str):
        return entry("clock", given, CLOCKS)
    if not isinstance(given, Clock):
        raise InputError(f"clock is {given!r}; give a name such as 'regularised', or a Clock")
    return given


CLOCKS: dict[str, Clock] = {
    "regularised": Clock(),
    "inverse": Clock(1, either),
    "logarithmic": Clock(1, product),
}
