"""Gravity of all bodies: accelerations and their derivatives, conserved quantities.

Acceleration, jerk, snap, crackle are the sums over the other bodies of G m_j A0 … A3, as in
`pair_law`, beside what an external field adds.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from nbcore.physics.arrays import Array, PerSystem, components, dot, namespace, norm
from nbcore.physics.elementwise import maximum, root, where
from nbcore.physics.external import answer_of
from nbcore.physics.pair_law import (
    pair_alpha,
    pair_beta,
    pair_first,
    pair_gamma,
    pair_potential,
    pair_second,
    pair_third,
    pair_weight,
)
from nbcore.physics.state import State

__all__ = [
    "acceleration",
    "acting",
    "acting_pairs",
    "angular_momentum",
    "blocks",
    "centre_of_mass",
    "derivatives",
    "energy",
    "energy_scale",
    "energy_size",
    "kinetic_energy",
    "momentum",
    "momentum_scale",
    "pair_indices",
    "potential_energy",
    "tidal_tensor",
]


LEAST_ENERGY = 1e-3  # of K + |U|, for systems that are neither bound nor unbound
MANY = 256  # bodies beyond which pairs are taken block by block


def pair_indices(n_bodies: int, like: Array) -> tuple[Array, Array]:
    """Indices i < j of all pairs, (P,) each, beside an array."""
    return _pair_indices(n_bodies, namespace(like), like.device)


@lru_cache(maxsize=64)
def _pair_indices(n_bodies: int, xp: Any, device: Any) -> tuple[Array, Array]:
    i, j = np.triu_indices(n_bodies, 1)
    return xp.asarray(i, device=device), xp.asarray(j, device=device)


def acting(mass: Array) -> Array | slice:
    """Bodies that have mass in any system of (B, N), and so act on others: an index of bodies."""
    acts = (mass > 0).any(axis=0)
    return slice(None) if bool(acts.all()) else namespace(mass).nonzero(acts)[0]


def acting_pairs(mass: Array) -> tuple[Array, Array]:
    """Indices i < j of all pairs, (P,) each, but those without mass in every system of (B, N).

    Their number goes as the number of bodies that act times that of all.
    """
    n_bodies, which = mass.shape[1], acting(mass)
    if isinstance(which, slice) or len(which) == n_bodies - 1:
        return pair_indices(n_bodies, mass)
    xp = namespace(mass)
    every = xp.arange(n_bodies, device=mass.device)
    passive = ~(mass > 0).any(axis=0)
    # each pair once: with a body that follows, or with a passive one
    wanted = (every > which[:, None]) | (passive & (every != which[:, None]))
    one = xp.broadcast_to(which[:, None], wanted.shape)[wanted]
    other = xp.broadcast_to(every, wanted.shape)[wanted]
    rank = xp.sort(xp.minimum(one, other) * n_bodies + xp.maximum(one, other))
    return rank // n_bodies, rank % n_bodies


def _identity(n_bodies: int, like: Array) -> Array:
    return _identity_of(n_bodies, namespace(like), like.device)


@lru_cache(maxsize=64)
def _identity_of(n_bodies: int, xp: Any, device: Any) -> Array:
    return xp.eye(n_bodies, dtype=xp.float64, device=device)


def _apart(mass: Array) -> Array:
    """What is added to r² (B, N, N) or (N, N): 1 of pairs that exert nothing, else 0.

    These are a body with itself and two bodies without mass, which may be at one place; value and
    gradient stay finite (and zero) there.
    """
    itself = _identity(mass.shape[1], mass)
    massless = mass == 0
    if not bool(massless.any()):
        return itself
    xp = namespace(mass)
    return xp.maximum(itself, xp.astype(massless[:, :, None] & massless[:, None], itself.dtype))


def _relative(value: Array) -> Array:
    """(B, N, N, D): value of body j as seen from body i."""
    return value[:, None] - value[:, :, None]


def pair_accelerations(position: Array, mass: Array, G: float, softening: float) -> Array:
    """Accelerations by the other bodies alone, (B, N, D) [L/T²]."""
    if position.shape[1] > MANY:
        parts = [_pulls_on(r, position, mass, G, softening) for r in blocks(position)]
        return namespace(position).concat(parts, axis=1)
    R = _relative(position)
    r2 = dot(R, R) + (softening**2 + _apart(mass))
    weight = (G * mass)[:, None, :] * pair_weight(r2)
    return (weight[:, :, None, :] @ R)[:, :, 0]


def blocks(position: Array) -> list[slice]:
    """Slices of the bodies, each with about a million pairs, so that memory does not go as N²."""
    n_systems, n_bodies, _ = position.shape
    rows = max(1, 1_000_000 // (n_systems * n_bodies))
    return [slice(k, min(k + rows, n_bodies)) for k in range(0, n_bodies, rows)]


def _seen_from(
    rows: slice, position: Array, mass: Array, softening: float
) -> tuple[Array | slice, list[Array], Array, Array]:
    """Bodies K that act, seen from others.

    Returns
    -------
    index of K; separations axis by axis, (B, rows, K) each; r²; and 1 where a pair exerts nothing.
    """
    which = acting(mass)
    xp = namespace(position)
    R = [x[:, None, which] - x[:, rows, None] for x in components(position)]
    itself = xp.arange(position.shape[1], device=position.device)
    massless = mass == 0
    idle = itself[rows, None] == itself[which]
    idle = xp.astype(idle | (massless[:, rows, None] & massless[:, None, which]), position.dtype)
    r2 = softening**2 + idle
    for difference in R:
        r2 = r2 + difference * difference
    return which, R, r2, idle


def _pulls_on(rows: slice, position: Array, mass: Array, G: float, softening: float) -> Array:
    which, R, r2, _ = _seen_from(rows, position, mass, softening)
    weight = (G * mass[:, which])[:, None, :] * pair_weight(r2)
    return namespace(position).stack([dot(weight, difference) for difference in R], axis=-1)


def _energy_of(rows: slice, state: State) -> PerSystem:
    """Twice the energy of the pairs that some bodies are in."""
    which, _, r2, idle = _seen_from(rows, state.position, state.mass, state.softening)
    phi = (state.mass[:, None, which] * pair_potential(r2) * (1 - idle)).sum(axis=2)
    return state.G * (state.mass[:, rows] * phi).sum(axis=1)


def acceleration(state: State) -> Array:
    """Acceleration of every body by the others and the field, (B, N, D) [L/T²].

    The one that the state carries is used if it has one.
    """
    if state.acceleration is not None:
        return state.acceleration
    total = pair_accelerations(state.position, state.mass, state.G, state.softening)
    if state.field is not None:
        given = state.position, state.time, state.G
        total = total + answer_of(state.field, "acceleration", total, *given)
    return total


def derivatives(state: State, order: int) -> list[Array]:
    """Acceleration, jerk, snap, crackle: the first `order` of them.

    Returns
    -------
    list of (B, N, D) [L/T²], [L/T³], [L/T⁴], [L/T⁵].

    References
    ----------
    Nitadori & Makino (2008), New Astronomy 13, 498.
    """
    known = [acceleration(state)]
    if order == 1:
        return known
    R, V = _relative(state.position), _relative(state.velocity)
    r2 = dot(R, R) + (state.softening**2 + _apart(state.mass))
    weight = pair_weight(r2)[..., None]
    alpha = pair_alpha(dot(R, V), r2)
    wide = alpha[..., None]
    Gm = (state.G * state.mass)[:, None, :]

    def total(pairs: Array) -> Array:
        return (Gm[:, :, None, :] @ pairs)[:, :, 0]

    A0 = weight * R
    A1 = pair_first(V, weight, wide, A0)
    known.append(total(A1) + _field(state, known))
    if order == 2:
        return known
    A = _relative(known[0])
    beta = pair_beta(dot(V, V), dot(R, A), r2, alpha)
    A2 = pair_second(A, weight, wide, beta[..., None], A0, A1)
    known.append(total(A2) + _field(state, known))
    if order == 3:
        return known
    J = _relative(known[1])
    gamma = pair_gamma(dot(V, A), dot(R, J), r2, alpha, beta)
    A3 = pair_third(J, weight, wide, beta[..., None], gamma[..., None], A0, A1, A2)
    known.append(total(A3) + _field(state, known))
    return known


def _field(state: State, known: list[Array]) -> Array | float:
    if state.field is None:
        return 0.0
    given = state.position, state.velocity, known, state.time, state.G
    who = "a method that takes derivatives of forces"
    return answer_of(state.field, "derivative", known[0], *given, who=who)


def tidal_tensor(state: State) -> Array:
    """∂a/∂x at every body, (B, N, D, D) [1/T²]."""
    R = _relative(state.position)
    r2 = dot(R, R) + (state.softening**2 + _apart(state.mass))
    weight = (state.G * state.mass)[:, None, :] * pair_weight(r2)
    stretch = ((3 * weight / r2)[..., None] * R).mT @ R
    others = weight * (1 - _identity(state.n_bodies, R))
    unit = _identity(state.n_dimensions, R)
    total = stretch - others.sum(axis=2)[..., None, None] * unit
    if state.field is not None:
        given, who = (state.position, state.time, state.G), "the tidal tensor"
        total = total + answer_of(state.field, "tidal_tensor", total, *given, who=who)
    return total


def kinetic_energy(state: State) -> PerSystem:
    """½ Σ m v², (B,) [E]."""
    return 0.5 * (state.mass * dot(state.velocity, state.velocity)).sum(axis=1)


def _pair_energy(state: State) -> PerSystem:
    if state.n_bodies > MANY:
        return sum((_energy_of(r, state) for r in blocks(state.position)), 0 * state.time) / 2
    i, j = acting_pairs(state.mass)
    R = state.position[:, j] - state.position[:, i]
    first, second = state.mass[:, i], state.mass[:, j]
    r2 = dot(R, R) + state.softening**2 + ((first == 0) & (second == 0))
    return state.G * (first * second * pair_potential(r2)).sum(axis=1)


def potential_energy(state: State) -> PerSystem:
    """Energy of all pairs and of the external field, (B,) [E]."""
    total = _pair_energy(state)
    if state.field is not None:
        given = state.position, state.mass, state.time, state.G
        total = total + answer_of(state.field, "potential_energy", total, *given)
    return total


def energy(state: State) -> PerSystem:
    """Conserved energy, (B,) [E]: kinetic + potential − work of a moving field."""
    return kinetic_energy(state) + potential_energy(state) - state.work


def momentum(state: State) -> Array:
    """Σ m v, (B, D) [M L/T]."""
    return (state.mass[..., None] * state.velocity).sum(axis=1)


def angular_momentum(state: State) -> Array:
    """Σ m x × v about the origin, (B, 1) in 2D and (B, 3) in 3D [M L²/T]."""
    xp = namespace(state.position)
    x, v = components(state.position), components(state.velocity)
    axes = [(0, 1)] if len(x) == 2 else [(1, 2), (2, 0), (0, 1)]
    return xp.stack(
        [(state.mass * (x[a] * v[b] - x[b] * v[a])).sum(axis=1) for a, b in axes], axis=1
    )


def centre_of_mass(state: State) -> tuple[Array, Array]:
    """Position and velocity of the centre of mass, (B, 1, D) each."""
    share = (state.mass / state.mass.sum(axis=1, keepdims=True))[..., None]
    return (
        (share * state.position).sum(axis=1, keepdims=True),
        (share * state.velocity).sum(axis=1, keepdims=True),
    )


def energy_scale(state: State) -> PerSystem:
    """K + |U|, (B,) [E]: what the energy is made of, positive even where the energy is zero."""
    return kinetic_energy(state) + abs(potential_energy(state))


def energy_size(state: State) -> PerSystem:
    """What errors of the energy are relative to, (B,) [E].

    Its size about the centre of mass, at least a thousandth of K + |U| there: where the one nearly
    cancels the other the energy is near zero, and says nothing of what is right.
    """
    total = momentum(state)
    motion = (total * total).sum(axis=-1) / (2 * state.mass.sum(axis=1))
    return maximum(abs(energy(state) - motion), LEAST_ENERGY * (energy_scale(state) - motion))


def momentum_scale(state: State, energy: PerSystem) -> PerSystem:
    """√(2 M (K + |U|)), (B,) [M L/T]: a momentum that is never zero, unlike the total one.

    Parameters
    ----------
    energy
        From `energy_scale`.
    """
    return root(2 * state.mass.sum(axis=1) * energy)


def relative_size(initial: Array, scale: Array) -> PerSystem:
    """Size (B,) of a quantity (B, k), or its scale (B,) where that size is rounding."""
    size = norm(initial)
    return where(size > 1e-12 * scale, size, scale)
