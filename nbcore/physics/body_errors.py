"""The error of every body's orbit, from the steps alone: no second run, no further force.

A body is followed beside its partner: of all others the one that pulls hardest at its
neighbourhood, the largest m/r³ (the Moon beside Earth, Earth beside the Sun, a massless comet
beside the Sun and, near it, beside Jupiter). With R, V the relative motion, r² = R·R + softening²
and μ = G(m_i + m_j), a lone pair keeps its energy w and its eccentricity vector e,

    w = V²/2 − μ/r        e = V×(R×V)/μ − R/r

and the pull F of all others changes them by F·V and (2(F·V)R − (R·V)F − (R·F)V)/μ. That is added
up in the kicks, with V the mean of before and after, which is exact for positions at rest. Kicks
and drifts then telescope, F drops out, and what is left of the changes of w and e is the error:

    Δw = −μ ([1/r] − Σ h d(1/r)/dt)        Δe = −([R/r] − Σ h d(R/r)/dt)

with the brackets over a step and the sums over its kicks of length h. It is in units of w and e
that it counts: max(|Σ Δw|/(V²/2 + μ/r), |Σ Δe|/(1 + e)) is what the orbit's energy and shape are
off by. It is free of the frame, of units and of the body's mass.

The functions of triples use only operators and `elementwise`, and serve tensors, numbers and the
compiled engine's vectors alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from nbcore.physics import gravity, pair_law
from nbcore.physics.arrays import Array, PerSystem, components, namespace, norm, taken
from nbcore.physics.arrays import dot as product
from nbcore.physics.elementwise import absolute, inverse_root, maximum, root, where
from nbcore.physics.state import State

__all__ = ["BodyErrors", "StepErrors"]


def steps_between_looks(n_bodies: int) -> int:
    """After how many steps to look for partners anew, which takes a look at all pairs."""
    return min(max(n_bodies, 8), 32)


def dot(a, b):
    """Scalar product of two triples."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def plus(a, b, scale):
    """A + scale · b."""
    return a[0] + scale * b[0], a[1] + scale * b[1], a[2] + scale * b[2]


def kick_rates(R, V, inverse):
    """d(1/r)/dt and d(R/r)/dt of a pair, from 1/r."""
    rate = dot(R, V) * (inverse * inverse)
    turn = plus(V, R, -rate)
    return -inverse * rate, (inverse * turn[0], inverse * turn[1], inverse * turn[2])


def orbit_sizes(R, V, mu, inverse):
    """V²/2 + μ/r and 1 + e of a pair: what errors of its orbit are measured in."""
    r2, v2, rv, depth = dot(R, R), dot(V, V), dot(R, V), mu * inverse
    e2 = 1 + (v2 - 2 * depth) * (r2 * v2 - rv * rv) / (mu * mu)
    # Below zero by rounding alone.
    return 0.5 * v2 + depth, 1 + root(absolute(e2))


def orbit(R, V, mu, inverse):
    """Energy and eccentricity vector of a pair."""
    v2, rv = dot(V, V), dot(R, V)
    along, across = v2 / mu - inverse, -rv / mu
    return 0.5 * v2 - mu * inverse, plus((along * R[0], along * R[1], along * R[2]), V, across)


def orbit_rates(R, V, A, J, mu, inverse, eps2):
    """What others change a pair's energy and eccentricity vector by, and how that changes.

    Returns
    -------
    d/dt and d²/dt² of the energy, and of the eccentricity vector; A, J the relative acceleration
    and jerk.
    """
    w = inverse * inverse * inverse
    alpha = dot(R, V) * inverse * inverse
    F = plus(A, R, mu * w)
    K = plus(plus(J, V, mu * w), R, -3 * alpha * mu * w)  # dF/dt
    FV, RV, RF, V2 = dot(F, V), dot(R, V), dot(R, F), dot(V, V)
    first = plus(plus(plus((0, 0, 0), R, 2 * FV / mu), F, -RV / mu), V, -RF / mu - eps2 * w)
    FV1 = dot(K, V) + dot(F, A)
    second = plus(plus((0, 0, 0), R, 2 * FV1 / mu), V, 2 * FV / mu - (FV + dot(R, K)) / mu)
    second = plus(plus(second, F, -(V2 + dot(R, A)) / mu), K, -RV / mu)
    second = plus(second, A, -RF / mu - eps2 * w)
    return FV, FV1, first, plus(second, V, 3 * alpha * eps2 * w)


def orbit_changes(R, V, dR, dV, mu, inverse):
    """Changes of a pair's energy and eccentricity vector by small changes of R and V."""
    w = inverse * inverse * inverse
    rv, along = dot(R, V), dot(V, dV) / mu + dot(R, dR) * w
    energy = mu * along
    ahead, across = dot(V, V) / mu - inverse, (dot(dR, V) + dot(R, dV)) / mu
    shape = plus(plus((0, 0, 0), R, along + dot(V, dV) / mu), dR, ahead)
    return energy, plus(plus(shape, dV, -rv / mu), V, -across)


def triple(vectors: Array) -> tuple[Any, Any, Any]:
    """(…, D) as three components; zero for the axis that a plane lacks."""
    parts = components(vectors)
    return parts if len(parts) == 3 else (*parts, 0.0)  # type: ignore[return-value]


def partners(state: State) -> Array:
    """Whom each body is followed beside, (B, N); itself where no other has mass.

    Not the mass of both counts but that of the other: with both, a star would be given a moon.
    """
    xp = namespace(state.mass)
    own = xp.arange(state.n_bodies, device=state.mass.device)
    which = gravity.acting(state.mass)
    place, mass, others = state.position[:, None, which], state.mass[:, None, which], own[which]
    found = []
    for rows in gravity.blocks(state.position):
        R = place - state.position[:, rows, None]
        r2 = product(R, R) + state.softening**2
        other = (others != own[rows, None]) & (mass > 0)
        # Of a body and one without mass, where they are the same place, the one is not met.
        pull = where(other, mass * pair_law.pair_weight(where(other, r2, 1.0)), -1.0)
        whom = xp.argmax(pull, axis=2)
        found.append(where(xp.max(pull, axis=2) > 0, others[whom], own[rows]))
    return xp.concat(found, axis=1)


def _alone(partner: Array) -> Array:
    """Which bodies have no partner but themselves, (B, N)."""
    return partner == namespace(partner).arange(partner.shape[1], device=partner.device)


def _beside(vectors: Array, partner: Array) -> Array:
    """(B, N, D) of the partner less the body's own."""
    index = namespace(vectors).broadcast_to(partner[..., None], vectors.shape)
    return taken(vectors, index) - vectors


class StepErrors:
    """What one step adds to the errors of all bodies; an integrator tells of its kicks.

    Parameters
    ----------
    state
        Before the step.
    partner
        (B, N) from `partners`.

    Attributes
    ----------
    is_told
        Whether an integrator told anything.
    energy, shape
        (B, N) and three of (B, N): errors of w [L²/T²] and e; NaN if it did not.
    """

    def __init__(self, state: State, partner: Array) -> None:
        self._partner, self._alone = partner, _alone(partner)
        self._eps2 = state.softening**2
        self._safe = self._eps2 + namespace(state.mass).astype(self._alone, state.mass.dtype)
        mass = state.mass
        both = state.G * (mass + taken(mass, partner))
        self._mu = where(self._alone, 1.0, both)
        self._begun = self._along(state.position)
        self._gone: Any = None
        self.is_told = False
        self.energy: Array = math.nan * mass
        self.shape: Array = math.nan * state.position

    def _inverse(self, R: Any) -> Array:
        # A body without a partner meets itself, and errs by nothing.
        return inverse_root(dot(R, R) + self._safe)

    def _along(self, position: Array) -> tuple[Array, Any]:
        R = triple(_beside(position, self._partner))
        inverse = self._inverse(R)
        return inverse, (inverse * R[0], inverse * R[1], inverse * R[2])

    def kick(self, position: Array, velocity: Array, h: Array) -> None:
        """Take note of a kick of length h (B,), with the mean velocity of before and after."""
        R, V = (triple(_beside(value, self._partner)) for value in (position, velocity))
        rate, turn = kick_rates(R, V, self._inverse(R))
        length = h[:, None]
        if self._gone is None:
            self._gone = (length * 0.0, (length * 0.0,) * 3)
        gone, turned = self._gone
        self._gone = (gone + length * rate, plus(turned, turn, length))

    def forget(self) -> None:
        """Forget the kicks so far, of a step that is made anew."""
        self._gone = None

    def estimate(self, after: State, place: Array, speed: Array) -> None:
        """Take note of a part of a step whose errors of place and velocity, (B, N, D), are told."""
        R, V, dR, dV = (
            triple(_beside(each, self._partner))
            for each in (after.position, after.velocity, place, speed)
        )
        energy, shape = orbit_changes(R, V, dR, dV, self._mu, self._inverse(R))
        if not self.is_told:
            self.energy, self.shape = 0 * self._mu, 0 * place
        self.is_told = True
        self.energy = self.energy + where(self._alone, 0.0, energy)
        parts = namespace(place).stack(shape[: place.shape[-1]], axis=-1)
        self.shape = self.shape + where(self._alone[..., None], 0.0, parts)

    def end(self, position: Array) -> None:
        """Take note of the end of a step that was made of kicks and drifts."""
        self.is_told = True
        (inverse, along), (before, was), (gone, turned) = (
            self._along(position),
            self._begun,
            self._gone,
        )
        self.energy = -self._mu * (inverse - before - gone)
        parts = [-(a - b - c) for a, b, c in zip(along, was, turned, strict=True)]
        self.shape = namespace(position).stack(parts[: position.shape[-1]], axis=-1)

    def smooth(self, before: State, after: State, h: Array) -> None:
        """Take note of a step of an integrator that knows acceleration and jerk at both ends."""
        self.is_told = True
        (w0, e0), rates0 = self._orbit_of(before)
        (w1, e1), rates1 = self._orbit_of(after)
        half, twelfth = h[:, None] / 2, h[:, None] ** 2 / 12

        def work(first0: Array, first1: Array, second0: Array, second1: Array) -> Array:
            return half * (first0 + first1) + twelfth * (second0 - second1)

        self.energy = w1 - w0 - work(rates0[0], rates1[0], rates0[1], rates1[1])
        parts = [
            e1[d] - e0[d] - work(rates0[2][d], rates1[2][d], rates0[3][d], rates1[3][d])
            for d in range(before.n_dimensions)
        ]
        self.shape = namespace(h).stack(parts, axis=-1)
        nothing = self._alone
        self.energy = where(nothing, 0.0, self.energy)
        self.shape = where(nothing[..., None], 0.0, self.shape)

    def _orbit_of(self, state: State) -> tuple[Any, Any]:
        assert state.acceleration is not None
        assert state.jerk is not None
        R, V, A, J = (
            triple(_beside(value, self._partner))
            for value in (state.position, state.velocity, state.acceleration, state.jerk)
        )
        inverse = self._inverse(R)
        rates = orbit_rates(R, V, A, J, self._mu, inverse, self._eps2)
        return orbit(R, V, self._mu, inverse), rates


@dataclass(frozen=True)
class BodyErrors:
    """How far the orbit of every body is off, since a start.

    Attributes
    ----------
    partner
        (B, N) whom each body is followed beside.
    energy
        (B, N) error of the energy beside the partner [L²/T²].
    shape
        (B, N, D) error of the eccentricity vector since the partner is the same.
    kept
        (B, N) size of what that error was with the partners before, in units of 1 + e.
    error
        (B, N) as it is now: of energy or shape, whichever is larger, relative.
    worst
        (B, N) the largest so far.
    """

    partner: Array
    energy: Array
    shape: Array
    kept: Array
    error: Array
    worst: Array

    @classmethod
    def begin(cls, state: State) -> BodyErrors:
        """Start with no error."""
        nothing, shape = 0 * state.mass, 0 * state.position
        return cls(partners(state), nothing, shape, nothing, nothing, nothing)

    def watch(self, state: State) -> StepErrors:
        """What an integrator is to tell of a step from a state."""
        return StepErrors(state, self.partner)

    def after(self, state: State, step: StepErrors) -> tuple[BodyErrors, PerSystem]:
        """Errors at the end of a step, and the largest that the step made by itself, (B,)."""
        of_energy, of_shape = self._sizes(state)
        energy, shape = self.energy + step.energy, self.shape + step.shape

        def size(energy: Array, shape: Array, kept: Array) -> Array:
            return maximum(abs(energy) / of_energy, kept + norm(shape) / of_shape)

        error = size(energy, shape, self.kept)
        own = size(step.energy, step.shape, 0 * self.kept)
        worst = maximum(self.worst, error)
        return replace(self, energy=energy, shape=shape, error=error, worst=worst), namespace(
            own
        ).max(own, axis=1)

    def _sizes(self, state: State) -> tuple[Array, Array]:
        R, V = (triple(_beside(each, self.partner)) for each in (state.position, state.velocity))
        alone = _alone(self.partner)
        mu = state.G * (state.mass + taken(state.mass, self.partner))
        mu: Array = where(alone, 1.0, mu)
        safe = state.softening**2 + namespace(mu).astype(alone, mu.dtype)
        return orbit_sizes(R, V, mu, inverse_root(dot(R, R) + safe))

    def look(self, state: State, systems: Array) -> BodyErrors:
        """Look for partners anew in some systems, (B,) mask.

        Where one changes, the error of the energy is handed on in full, and that of the shape as
        a number.
        """
        new = where(systems[:, None], partners(state), self.partner)
        changed = new != self.partner
        if not bool(changed.any()):
            return self
        size = norm(self.shape) / self._sizes(state)[1]
        return replace(
            self,
            partner=new,
            shape=where(changed[..., None], 0.0, self.shape),
            kept=where(changed, self.kept + size, self.kept),
        )

    def where(self, condition: Array, other: BodyErrors) -> BodyErrors:
        """Take each system from here where the condition (B,) holds, otherwise from the other."""

        def choose(name: str) -> Array:
            here, there = getattr(self, name), getattr(other, name)
            return where(condition.reshape(-1, *[1] * (here.ndim - 1)), here, there)

        names = ("partner", "energy", "shape", "kept", "error", "worst")
        return BodyErrors(*(choose(name) for name in names))
