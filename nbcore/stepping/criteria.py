"""Classical step criteria: time scales τ of a state, to be multiplied by η.

A criterion is a law of pairs or of bodies, of which the least counts, or a function of the whole
state that returns (B,) [T], positive. Where a body or pair sets no scale (no force on it, no mass
in it) its scale is infinite, so that the minimum passes over it: two bodies without mass don't see
each other, however close or fast they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from nbcore.errors import InputError, entry, unknown_name
from nbcore.physics import gravity
from nbcore.physics.arrays import Array, PerSystem, detached, dot, namespace, norm
from nbcore.physics.elementwise import clamp, minimum, quotient, root, where
from nbcore.physics.state import State

__all__ = [
    "CRITERIA",
    "AnyCriterion",
    "CriterionRow",
    "Pairs",
    "get_criterion",
    "name_of",
    "of_bodies",
    "of_pairs",
    "pairs_of",
]

COINCIDENT = 1e-100  # r² below which powers of massless pairs would overflow
LARGEST_ENHANCEMENT = 100.0  # of the density in Zemp's rule, which diverges at e = 1


@dataclass(frozen=True)
class Pairs:
    """Relative motion of pairs; (B, P) each.

    Attributes
    ----------
    i, j
        The bodies, (P,) each.
    r2, v2
        Squared distance (softened) and speed.
    rv
        Separation times velocity, R·V.
    mu
        G (m_i + m_j).
    """

    i: Array
    j: Array
    r2: Array
    v2: Array
    rv: Array
    mu: Array


def pairs_of(state: State) -> Pairs:
    """Relative motion of all pairs of a state that act; see `gravity.acting_pairs`.

    Two massless bodies at one place are taken apart, for the sake of finite numbers and gradients.
    """
    i, j = gravity.acting_pairs(state.mass)
    R = state.position[:, j] - state.position[:, i]
    V = state.velocity[:, j] - state.velocity[:, i]
    mu = state.G * (state.mass[:, i] + state.mass[:, j])
    r2 = dot(R, R) + state.softening**2
    return Pairs(
        i=i,
        j=j,
        r2=r2 + ((mu == 0) & (r2 < COINCIDENT)),
        v2=dot(V, V),
        rv=dot(R, V),
        mu=mu,
    )


def pair_rate4(w, v2, mu):
    """P⁴ = μ²/r⁶ + v⁴/r⁴, w = 1/r²: fourth power of a pair's rate, smooth and even in v."""
    return mu * mu * (w * w * w) + v2 * v2 * (w * w)


def free_fall(r2, v2, rv, mu):
    """τ² of a pair: the shorter of r/v and √(r³/μ), as in the AMUSE Hermite code (η = 0.03)."""
    massive = where(mu > 0, mu, 1.0)
    shorter = minimum(r2**1.5 / massive, quotient(r2, v2, math.inf))
    return where(mu > 0, shorter, math.inf)


def huayno(r2, v2, rv, mu):
    """τ² of a pair: free-fall or fly-by time, each looking ahead by its own time derivative.

    References
    ----------
    Pelupessy, Jänes & Portegies Zwart (2012), New Astronomy 17, 711.
    """
    r, massive = r2**0.5, where(mu > 0, mu, 1.0)
    fall = (r2 * r / massive / 2) ** 0.5
    fall_rate = 1.5 * fall * rv / r2
    # A pair at rest never flies by: infinite time, whose rate does not matter.
    moving = where(v2 > 0, v2, 1.0)
    fly = where(v2 > 0, (r2 / moving) ** 0.5, math.inf)
    fly_rate = where(v2 > 0, rv / (r * moving**0.5) * (1 + massive / (moving * r)), 0.0)
    ahead = minimum(
        fall / (1 - minimum(fall_rate, 1.0) / 2), fly / (1 - minimum(fly_rate, 1.0) / 2)
    )
    return where(mu > 0, ahead * ahead, math.inf)


def zemp(r2, v2, rv, mu):
    """τ² of a pair: 1/(G ρ) with the dynamical density, raised by the pair's eccentricity.

    ρ = (m_i + m_j)/r³ · max(1, (1 + 2e)/|1 − e|), the last factor at most 100.

    References
    ----------
    Zemp, Stadel, Moore & Carollo (2007), MNRAS 376, 273.
    """
    r, massive = r2**0.5, where(mu > 0, mu, 1.0)
    orbital = (v2 / 2 - massive / r) * (r2 * v2 - rv * rv)
    # Of a circle 1e-15, for the root of zero has no gradient.
    e = clamp(1 + 2 * orbital / (massive * massive), 1e-30, math.inf) ** 0.5
    # Nearer to a parabola the enhancement is the largest in any case.
    off = clamp(abs(1 - e), 1 / LARGEST_ENHANCEMENT, math.inf)
    enhancement = clamp((1 + 2 * e) / off, 1.0, LARGEST_ENHANCEMENT)
    return where(mu > 0, r2 * r / (massive * enhancement), math.inf)


def aarseth85(a, j, s, c):
    """τ² of a body: (a s + j²)/(j c + s²).

    References
    ----------
    Aarseth (1985), in Multiple Time Scales, p. 377.
    """
    return quotient(a * s + j * j, j * c + s * s, math.inf)


def prs23(a, j, s, c):
    """τ² of a body: 2 a²/(j² + a s).

    Vanishes where an acceleration passes through zero, as on the figure-eight.

    References
    ----------
    Pham, Rein & Spiegel (2024), Open Journal of Astrophysics 7, 1.
    """
    return quotient(2 * a * a, j * j + a * s, math.inf)


def softened_acceleration(state: State) -> PerSystem:
    """√(2 ε/a) of the most accelerated body; needs softening ε > 0. Here dt = √η τ.

    References
    ----------
    Springel (2005), MNRAS 364, 1105 (GADGET-2), eq. 34.
    """
    if state.softening == 0:
        raise InputError(
            "criterion 'softened_acceleration' needs softening > 0, and it is 0; "
            "set a softening or take another criterion, such as 'boekholt'"
        )
    (a,) = _norms(state, 1)
    return root(quotient(2 * state.softening, namespace(a).max(a, axis=1), math.inf))


def tidal(state: State) -> PerSystem:
    """√(√6/‖∇a‖) of the body in the strongest tide.

    References
    ----------
    Grudić & Hopkins (2020), MNRAS 495, 4306.
    """
    gradient = gravity.tidal_tensor(state)
    xp = namespace(gradient)
    strongest = xp.max(xp.linalg.vector_norm(gradient, axis=(-2, -1)), axis=1)
    return root(math.sqrt(6) / strongest)


def boekholt(state: State) -> PerSystem:
    """√(ΣP⁸/ΣP¹⁰) over all pairs' rates P: smooth, and even in velocity (there η = 1/16).

    References
    ----------
    Boekholt, Vaillant & Correia (2023), MNRAS 519, 5281.
    """
    p = pairs_of(state)
    rate4 = pair_rate4(1 / p.r2, p.v2, p.mu)
    return smooth_time_scale(where(p.mu > 0, rate4, 0.0))


def smooth_time_scale(rate4: Array) -> PerSystem:
    """√(ΣP⁸/ΣP¹⁰) from P⁴ (B, P); the largest rate is taken out so that no unit overflows."""
    largest4 = detached(namespace(rate4).max(rate4, axis=1, keepdims=True))
    share = rate4 / largest4
    ratio = (share**2).sum(axis=1) / (share**2.5).sum(axis=1)
    return root(ratio) / largest4[:, 0] ** 0.25


def _norms(state: State, order: int) -> list[Array]:
    return [norm(d) for d in gravity.derivatives(state, order)]


def _least(values: Array) -> PerSystem:
    return namespace(values).min(values, axis=1)


@dataclass(frozen=True)
class CriterionRow:
    """A criterion as it stands in the table, and as it can be given to `nb.Criterion`.

    Attributes
    ----------
    time_scale
        State to τ (B,).
    evaluations
        Force-like evaluations that one call costs beyond the acceleration at hand.
    eta_power
        dt = η^eta_power τ.
    pair, body
        The law as τ² from r², v², R·V, μ of a pair or from the sizes of acceleration, jerk, snap
        and crackle of a body, for a criterion that is the least over them. The compiled engine
        takes it from here; any other criterion it must know by name.
    """

    time_scale: Callable[[State], PerSystem]
    evaluations: int = 0
    eta_power: float = 1.0
    pair: Callable | None = None
    body: Callable | None = None


AnyCriterion = str | CriterionRow | Callable[[State], PerSystem]  # a time scale (B,) [T]


def of_pairs(pair: Callable) -> CriterionRow:
    """Criterion of a law of pairs: the least of all.

    Parameters
    ----------
    pair
        τ² from r², v², R·V and μ of a pair, by operators and `physics.elementwise` alone.

    Examples
    --------
    >>> def passing(r2, v2, rv, mu):
    ...     return where(mu > 0, quotient(r2, v2 + mu * inverse_root(r2), math.inf), math.inf)
    >>> nb.Criterion(of_pairs(passing), eta=0.02)
    """

    def time_scale(state: State) -> PerSystem:
        p = pairs_of(state)
        return root(_least(pair(p.r2, p.v2, p.rv, p.mu)))

    return CriterionRow(time_scale, pair=pair)


def of_bodies(body: Callable, order: int) -> CriterionRow:
    """Criterion of a law of bodies: the least of all.

    Parameters
    ----------
    body
        τ² from the sizes of acceleration, jerk, snap and crackle of a body.
    order
        How many of these it needs; the others are zero.
    """

    def time_scale(state: State) -> PerSystem:
        norms = _norms(state, order)
        return root(_least(body(*norms, *[0.0] * (4 - order))))

    return CriterionRow(time_scale, evaluations=order - 1, body=body)


def get_criterion(given: AnyCriterion) -> CriterionRow:
    """Criterion by its name in the table, or one that is given as a row or as its time scale."""
    if isinstance(given, CriterionRow):
        return given
    if isinstance(given, str):
        return entry("criterion", given, CRITERIA)
    if isinstance(given, type):
        raise InputError(
            f"criterion is the class {given.__name__!r}; give an object of it that is called with "
            "a state, or a name such as 'boekholt'"
        )
    if callable(given):
        return CriterionRow(given)
    unknown = unknown_name("criterion", given, CRITERIA)
    raise InputError(f"{unknown}; or give a function of a state, or of_pairs(law)")


def name_of(given: AnyCriterion) -> str:
    """Name of a criterion in the table, or that of its function, which is no name in there."""
    if isinstance(given, str):
        return given
    row = get_criterion(given)
    law = row.pair or row.body or row.time_scale
    known = (name for name, each in CRITERIA.items() if each.time_scale is row.time_scale)
    own = getattr(law, "__name__", type(law).__name__)
    return next(known, f"own {own}" if own in CRITERIA else own)


CRITERIA: dict[str, CriterionRow] = {
    "free_fall": of_pairs(free_fall),
    "huayno": of_pairs(huayno),
    "aarseth85": of_bodies(aarseth85, 4),
    "prs23": of_bodies(prs23, 3),
    "softened_acceleration": CriterionRow(softened_acceleration, eta_power=0.5),
    "tidal": CriterionRow(tidal, evaluations=1),
    "zemp": of_pairs(zemp),
    "boekholt": CriterionRow(boekholt),
}
