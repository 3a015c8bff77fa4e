"""Transformed time: dt = ds/Ω(x), so that equal steps in s are short where bodies are close.

A clock is Ω = (Σ w r^−p)^(1/p) over all pairs, with weights w of their masses and softened
distances r. With p = 2 the closest pair alone sets the pace, and feels the others in second order;
Σ 1/r feels them in first order, which costs three bodies twice the steps.

A further variable W, which begins as Ω, follows it by dW/dt = v·∂Ω/∂x. Drifts take dt = ds/W and
kicks dt = ds/Ω(x), so that drifts and kicks are explicit, and drift-kick-drift keeps every two-body
orbit but for its phase.

References
----------
Preto & Tremaine (1999), AJ 118, 2532; Mikkola & Tanikawa (1999), MNRAS 310, 745; Mikkola & Aarseth
(2002), Celest. Mech. Dyn. Astron. 84, 343.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nbcore.errors import entry
from nbcore.physics import gravity
from nbcore.physics.arrays import Array, PerSystem, namespace
from nbcore.physics.elementwise import inverse_root
from nbcore.physics.state import State

__all__ = ["CLOCKS", "Clock", "get_clock"]


def both(first, second):
    """m + m', so that a radian of every pair counts alike."""
    return first + second


def alike(first, second):
    """1 where either has mass."""
    return 1.0 * ((first + second) > 0)


def product(first, second):
    """m m', as in the potential energy."""
    return first * second


@dataclass(frozen=True)
class Clock:
    """Ω = (Σ w r^−p)^(1/p).

    Attributes
    ----------
    power
        p, 1 to 4.
    weight
        w of two masses.
    """

    power: int = 2
    weight: Callable = both

    def weights(self, mass: Array) -> Array:
        """w of all pairs (B, P), in units of the largest; 0 for two massless bodies."""
        i, j = gravity.pair_indices(mass.shape[1], mass)
        w = self.weight(mass[:, i], mass[:, j])
        most = namespace(mass).max(w, axis=1, keepdims=True)
        return w / (most + 1.0 * (most == 0))

    def rate(self, state: State, weights: Array) -> tuple[PerSystem, Array]:
        """Ω (B,) and its gradient (B, N, D), of the positions of a state."""
        xp = namespace(state.position)
        i, j = gravity.pair_indices(state.n_bodies, state.position)
        R = state.position[:, j] - state.position[:, i]
        inverse = inverse_root((R * R).sum(axis=-1) + state.softening**2)
        term = weights * inverse**self.power
        omega = term.sum(axis=1) ** (1 / self.power)
        slope = (term * inverse * inverse)[..., None] * R
        gradient = xp.zeros_like(state.position)
        raise NotImplementedError(gradient, slope, omega)


def get_clock(given: str | Clock) -> Clock:
    """Clock by its name in the table, or one that is given as a value."""
    return entry("clock", given, CLOCKS) if isinstance(given, str) else given


CLOCKS: dict[str, Clock] = {
    "regularised": Clock(),
    "inverse": Clock(1, alike),
    "logarithmic": Clock(1, product),
}
