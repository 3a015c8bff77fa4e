"""Two-body orbits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nbcore.errors import InputError
from nbcore.physics.arrays import PerSystem, detached, dot, namespace, norm, taken
from nbcore.physics.elementwise import maximum, root, where
from nbcore.physics.state import State

__all__ = [
    "about_barycentre",
    "at_rest",
    "orbit",
    "orbital_period",
    "pericentre_distance",
    "pericentre_period",
    "two_body_period",
]

Array = NDArray[np.float64]


def two_body_period(state: State) -> PerSystem:
    """Period of two-body systems, (B,) [T], by Kepler's third law.

    Of the osculating orbit: softening and an external field are left out.

    Raises
    ------
    InputError
        A system has more than two bodies or is not bound.
    """
    if state.n_bodies != 2:
        raise InputError(
            f"a period needs systems of 2 bodies, not {state.n_bodies}; give t_end instead"
        )
    mu = state.G * state.mass.sum(axis=1)
    R, V = (value[:, 1] - value[:, 0] for value in (state.position, state.velocity))
    energy = 0.5 * (V * V).sum(axis=1) - mu / root((R * R).sum(axis=1))
    if (energy >= 0).any():
        index = int(namespace(energy).nonzero(energy >= 0)[0][0])
        raise InputError(
            f"system {index} is not bound (energy {float(detached(energy[index])):.3g} per unit "
            "of reduced mass) and has no period; give t_end instead"
        )
    return 2 * np.pi * mu / (-2 * energy) ** 1.5


def orbital_period(mu: Array, R: Array, V: Array, softening: float = 0.0) -> Array:
    """Period of osculating orbits, (…) [T] for R, V (…, D) and mu (…); infinite of open ones.

    So it is where there is no orbit, with mu or R zero.
    """
    r2, v2 = (R * R).sum(axis=-1) + softening**2, (V * V).sum(axis=-1)
    is_orbit = (mu > 0) & (r2 > 0)
    mu, r = np.where(is_orbit, mu, 1.0), np.sqrt(np.where(is_orbit, r2, 1.0))
    inverse = 2 / r - v2 / mu  # 1/a
    is_bound = is_orbit & (inverse > 0)
    inverse = np.where(is_bound, inverse, 1.0)
    return np.where(is_bound, 2 * np.pi / np.sqrt(inverse**3 * mu), np.inf)


def pericentre_period(state: State) -> PerSystem:
    """Shortest period of a circular orbit at a pericentre about the heaviest body.

    2π √(q³/(G M)) with q of `pericentre_distance` and both masses in M: what an orbit needs its
    steps for, also an open one. Blind to encounters of the lighter bodies.

    Returns
    -------
    (B,) [T]; 0 if a body falls straight onto the heaviest.
    """
    q, mu = _pericentres(state)
    xp, heaviest = namespace(q), _heaviest(state)
    own = heaviest == xp.arange(state.n_bodies, device=heaviest.device)
    return 2 * np.pi * root(xp.min(where(own, np.inf, q * q * q / mu), axis=1))


def pericentre_distance(state: State) -> Array:
    """Pericentre of each body's osculating orbit about the heaviest body.

    Softening and an external field are left out.

    Returns
    -------
    (B, N) [L], 0 for the heaviest body itself.
    """
    return _pericentres(state)[0]


def _pericentres(state: State) -> tuple[Array, Array]:
    """Pericentre distances and G (m + m of the heaviest), (B, N) each."""
    xp, index = namespace(state.mass), _heaviest(state)
    mu = state.G * (state.mass + taken(state.mass, index))
    which = xp.broadcast_to(index[..., None], state.position[:, :1].shape)
    R, V = (value - taken(value, which) for value in (state.position, state.velocity))
    r2, v2, rv = dot(R, R), dot(V, V), dot(R, V)
    r = root(where(r2 == 0, 1.0, r2))
    # e from its vector: from the energy it would be the root of a difference at e → 0.
    e = norm((v2 / mu - 1 / r)[..., None] * R - (rv / mu)[..., None] * V)
    return maximum(r2 * v2 - rv * rv, 0.0) / (mu * (1 + e)), mu


def _heaviest(state: State) -> Array:
    """Index of the heaviest body, (B, 1)."""
    return namespace(state.mass).argmax(state.mass, axis=1)[:, None]


def orbit(
    mu: float | Array,
    a: float | Array,
    e: float | Array,
    phase: float | Array,
    inclination: float | Array = 0.0,
    argument: float | Array = 0.0,
    node: float | Array = 0.0,
) -> tuple[Array, Array]:
    """Relative position and velocity (…, 3) on Kepler orbits; angles in degrees."""
    e = np.asarray(e, dtype=float)
    turns = np.asarray(phase, dtype=float)
    E = eccentric_anomaly(2 * np.pi * (turns - np.floor(turns + 0.5)), e)
    b, versine = np.sqrt((1 - e) * (1 + e)), 2 * np.sin(E / 2) ** 2
    # 1 − e cos E and cos E − e, without the differences of nearly equal numbers at e → 1
    speed = np.sqrt(mu / a) / (1 - e + e * versine)
    in_plane = (
        (a * (1 - e - versine), a * b * np.sin(E)),
        (-speed * np.sin(E), speed * b * np.cos(E)),
    )
    (cw, sw), (ci, si), (cn, sn) = (
        (np.cos(angle), np.sin(angle)) for angle in map(np.radians, (argument, inclination, node))
    )
    vectors = []
    for x, y in in_plane:
        x, y = cw * x - sw * y, sw * x + cw * y
        y, z = ci * y, si * y
        x, y = cn * x - sn * y, sn * x + cn * y
        vectors.append(np.stack(np.broadcast_arrays(x, y, z), axis=-1))
    return vectors[0], vectors[1]


def eccentric_anomaly(M: Array, e: Array) -> Array:
    """Solve E − e sin E = M."""
    M = M - 2 * np.pi * np.floor(M / (2 * np.pi) + 0.5)
    # The equation is convex between 0 and π: Newton from π comes down to the root without fail.
    E = np.pi * np.where(M < 0, -1.0, 1.0)
    for _ in range(100):
        change = ((1 - e) * E + e * _beyond_sine(E) - M) / (1 - e + 2 * e * np.sin(E / 2) ** 2)
        E = E - change
        if (np.abs(change) <= 1e-15 * np.abs(E)).all():
            break
    return E


def _beyond_sine(E: Array) -> Array:
    """E − sin E, by its series where the two are nearly equal."""
    E2, series = E * E, 1.0
    for k in (19, 17, 15, 13, 11, 9, 7, 5):
        series = 1 - E2 / (k * (k - 1)) * series
    return np.where(np.abs(E) < 1, E * E2 / 6 * series, E - np.sin(E))


def about_barycentre(mass: Array, relative: Array) -> Array:
    """Both bodies (…, 2, 3) about their centre of mass from second minus first (…, 3)."""
    share = (mass / mass.sum(axis=-1, keepdims=True))[..., None]
    return np.stack([-share[..., 1, :] * relative, share[..., 0, :] * relative], axis=-2)


def at_rest(mass: Array, value: Array) -> Array:
    """Positions or velocities (…, N, D) about those of the centre of mass."""
    share = (mass / mass.sum(axis=-1, keepdims=True))[..., None]
    return value - (share * value).sum(axis=-2, keepdims=True)
