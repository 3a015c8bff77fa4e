"""External fields: the tide of a point mass far away, and how fields are stored.

What a field of one's own must offer stands in `external.Field`.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from nbcore.errors import InputError
from nbcore.physics import pair_law
from nbcore.physics.arrays import Array, PerSystem, namespace
from nbcore.physics.external import Field, name_of
from nbcore.physics.plain import check_plain

__all__ = ["TidalField", "field_from", "field_to_store"]


@dataclass(frozen=True)
class TidalField:
    """Tide of a point mass M at R(t), in the frame that falls with the origin.

    a(x) = G M [(R − x)/|R − x|³ − R/|R|³], and the matching potential with Φ(0) = 0.

    Attributes
    ----------
    mass
        M [M], positive.
    position
        (D,) R at time 0 [L], not the origin.
    velocity
        (D,) of the point mass [L/T]; None holds it still. It moves on a straight line.
    """

    mass: float
    position: tuple[float, ...]
    velocity: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("mass", "position", "velocity"):
            value = getattr(self, name)
            check_plain(f"field {name}", value)
            if value is not None and name != "mass":
                object.__setattr__(self, name, tuple(float(x) for x in value))
        numbers = [self.mass, *self.position, *(self.velocity or ())]
        if not all(map(math.isfinite, numbers)):
            raise InputError(f"field {self} holds a value that is not a finite number")
        if self.mass <= 0:
            raise InputError(f"field mass is {self.mass}; it must be positive")
        if len(self.position) not in (2, 3) or not any(self.position):
            raise InputError(
                f"field position is {self.position}; it needs 2 or 3 numbers, not all zero"
            )
        if self.velocity is not None and len(self.velocity) != len(self.position):
            raise InputError(
                f"field velocity {self.velocity} must have as many numbers as its position"
            )

    @property
    def moving(self) -> bool:
        """Whether the energy of the bodies alone is not conserved."""
        return self.velocity is not None and any(self.velocity)

    def _motion(self, like: Array, time: Array) -> tuple[Array, Array]:
        if like.shape[-1] != len(self.position):
            raise InputError(
                f"the field's position has {len(self.position)} numbers and the system "
                f"{like.shape[-1]} dimensions; they must agree"
            )
        xp, where = namespace(like), {"dtype": like.dtype, "device": like.device}
        R = xp.asarray(self.position, **where)
        V = xp.asarray(self.velocity, **where) if self.velocity else xp.zeros_like(R)
        return R + V * time[:, None, None], xp.broadcast_to(V, (len(time), 1, len(V)))

    def apart(self, position: Array, time: Array) -> Array:
        """Vectors from the bodies to the point mass, (B, N, D) [L]."""
        return self._motion(position, time)[0] - position

    def acceleration(self, position: Array, time: Array, G: float) -> Array:
        """(B, N, D) [L/T²]."""
        R, _ = self._motion(position, time)
        S = R - position
        towards = S * pair_law.pair_weight(_square(S)) - R * pair_law.pair_weight(_square(R))
        return G * self.mass * towards

    def derivative(
        self,
        position: Array,
        velocity: Array,
        known: Sequence[Array],
        time: Array,
        G: float,
    ) -> Array:
        """Next time derivative of this field's acceleration along the motion, (B, N, D).

        Parameters
        ----------
        known
            Total acceleration of the bodies, then their jerk, then their snap, as far as known:
            one gives this field's jerk, two its snap, three its crackle.
        """
        R, V = self._motion(position, time)
        still = namespace(R).zeros_like(R)
        nearer = _derivative([R - position, V - velocity, *(-value for value in known)])
        origin = _derivative([R, V, *(still for _ in known)])
        return G * self.mass * (nearer - origin)

    def tidal_tensor(self, position: Array, time: Array, G: float) -> Array:
        """∂a/∂x, (B, N, D, D) [1/T²]."""
        R, _ = self._motion(position, time)
        S = R - position
        r2 = _square(S)[..., None]
        unit = namespace(S).eye(S.shape[-1], dtype=S.dtype, device=S.device)
        stretch = 3 * S[..., :, None] * S[..., None, :] / r2 - unit
        return G * self.mass * pair_law.pair_weight(r2) * stretch

    def potential_energy(self, position: Array, mass: Array, time: Array, G: float) -> PerSystem:
        """Σ m Φ(x), (B,) [E]."""
        R, _ = self._motion(position, time)
        S, R2 = R - position, _square(R)
        tilt = (position * R).sum(axis=-1, keepdims=True) * pair_law.pair_weight(R2)
        potential = pair_law.pair_potential(_square(S)) - pair_law.pair_potential(R2) + tilt
        return G * self.mass * (mass * potential[..., 0]).sum(axis=1)

    def power(self, position: Array, mass: Array, time: Array, G: float) -> PerSystem:
        """Σ m ∂Φ/∂t, (B,) [E/T]: the rate at which the moving mass changes the energy."""
        R, V = self._motion(position, time)
        S, R2 = R - position, _square(R)
        weight, RV = pair_law.pair_weight(R2), (R * V).sum(axis=-1, keepdims=True)
        xR, xV = ((position * other).sum(axis=-1, keepdims=True) for other in (R, V))
        rate = (S * V).sum(axis=-1, keepdims=True) * pair_law.pair_weight(_square(S))
        rate = rate + weight * (xV - 3 * xR * RV / R2 - RV)
        return G * self.mass * (mass * rate[..., 0]).sum(axis=1)


@dataclass(frozen=True)
class LostField:
    """Stands for a field that was not stored: everything but its name raises InputError."""

    name: str
    moving: bool

    def _lost(self, *_: Any, **__: Any) -> NoReturn:
        raise InputError(
            f"the field {self.name!r} of this run was not stored; "
            "give it back with state.replace(field=…)"
        )

    acceleration = potential_energy = power = derivative = tidal_tensor = _lost


def field_to_store(field: Field | None) -> dict[str, Any] | None:
    """Plain values of a field; of one's own field, its name and a warning."""
    if isinstance(field, LostField):
        return {"lost": field.name, "moving": field.moving}
    if field is None or type(field) is TidalField:
        return None if field is None else dataclasses.asdict(field)
    warnings.warn(
        f"of the field {name_of(field)!r} only the name is stored, everything else is; whoever "
        "reads it back must give the field to the state: state.replace(field=…)",
        RuntimeWarning,
        stacklevel=2,
    )
    return {"lost": name_of(field), "moving": bool(field.moving)}


def field_from(stored: dict[str, Any] | None) -> Field | None:
    """Field of plain values that `field_to_store` made."""
    if stored is None:
        return None
    if "lost" in stored:
        lost: Any = LostField(stored["lost"], stored["moving"])
        return lost
    return TidalField(**stored)


def _square(vector: Array) -> Array:
    return (vector * vector).sum(axis=-1, keepdims=True)


def _derivative(motion: Sequence[Array]) -> Array:
    """A1, A2 or A3 of a separation and its derivatives (see pair_law), as many as are given."""
    R, V, *higher = motion
    r2 = _square(R)
    weight = pair_law.pair_weight(r2)
    alpha = pair_law.pair_alpha((R * V).sum(axis=-1, keepdims=True), r2)
    A0 = R * weight
    A1 = pair_law.pair_first(V, weight, alpha, A0)
    if len(higher) == 1:
        return A1
    A = higher[0]
    beta = pair_law.pair_beta(_square(V), (R * A).sum(axis=-1, keepdims=True), r2, alpha)
    A2 = pair_law.pair_second(A, weight, alpha, beta, A0, A1)
    if len(higher) == 2:
        return A2
    J = higher[1]
    va, rj = (V * A).sum(axis=-1, keepdims=True), (R * J).sum(axis=-1, keepdims=True)
    gamma = pair_law.pair_gamma(va, rj, r2, alpha, beta)
    return pair_law.pair_third(J, weight, alpha, beta, gamma, A0, A1, A2)
