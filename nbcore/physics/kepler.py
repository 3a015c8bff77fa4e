"""Kepler orbits of any shape, followed by universal variables.

The time along an orbit is h = r s + η G2 + ζ G3, with s = ∫ dt/r, η = x·v, ζ = μ − β r,
β = 2μ/r − v², and the universal functions G_k of s and β, which are those of ellipses, parabolas
and hyperbolas alike.

References
----------
Stumpff (1962), Himmelsmechanik I; Mikkola & Innanen (1999), Celest. Mech. Dyn. Astron. 74, 59;
Conway (1986), Celest. Mech. 39, 199; Rein & Tamayo (2015), MNRAS 452, 376.
"""

from __future__ import annotations

import math
from functools import reduce

from nbcore.physics.arrays import Array, detached, dot, namespace
from nbcore.physics.elementwise import absolute, maximum, minimum, root, where

__all__ = ["drift"]

SERIES = 4.0  # |β s²| up to which c2 and c3 are summed, from which on they are not differences
TERMS = 11  # which leave out less than 2e-17
ENOUGH = 1e-6  # change of s below which one more step of Newton's is exact
FREE = 8  # iterations before every other one halves the bracket
MOST = 200  # iterations; halving alone takes 2 · 60 from any bracket


def drift(mu: Array, position: Array, velocity: Array, h: Array) -> tuple[Array, Array]:
    """Move along Kepler orbits of any shape, for any time forward or back.

    Right to rounding: that of the result, and that of the period, as x and v tell it, times the
    number of periods. First derivatives are exact, and second ones are not. A time of 0 changes
    nothing.

    Parameters
    ----------
    mu
        (…) [L³/T²], positive.
    position, velocity
        (…, D) [L], [L/T] of the relative motion, not at distance 0.
    h
        [T], broadcastable to (…).

    Returns
    -------
    position, velocity (…, D) after h.

    References
    ----------
    Stumpff (1962), Himmelsmechanik I; Mikkola & Innanen (1999), Celest. Mech. Dyn. Astron. 74, 59;
    Rein & Tamayo (2015).

    Examples
    --------
    A quarter of a circle:

    >>> drift(np.ones(1), np.array([[1.0, 0]]), np.array([[0, 1.0]]), np.pi / 2)
    """
    r, eta = root(dot(position, position)), dot(position, velocity)
    beta = 2 * mu / r - dot(velocity, velocity)
    h = _less_periods(mu, beta, h)
    s = _universal_anomaly(*(detached(value) for value in (mu, r, eta, beta, h)))
    G0, G1, G2, G3 = _universal_functions(s, beta)
    zeta = mu - beta * r
    # The last step of Newton's, by which gradients come in; and Taylor's series takes it along.
    d = -(r * s + eta * G2 + zeta * G3 - h) / (r + eta * G1 + zeta * G2)
    half = d * d / 2
    G1, G2, G3 = (
        G1 + d * G0 - half * beta * G1,
        G2 + d * G1 + half * G0,
        G3 + d * G2 + half * G1,
    )
    after = r + eta * G1 + zeta * G2
    f, g = -mu * G2 / r, h - mu * G3  # less 1 and 0 that they have at h = 0
    df, dg = -mu * G1 / (r * after), -mu * G2 / after
    f, g, df, dg = (value[..., None] for value in (f, g, df, dg))
    return position + (f * position + g * velocity), velocity + (df * position + dg * velocity)


def _less_periods(mu: Array, beta: Array, h: Array) -> Array:
    """Time (…) without whole periods, of orbits that are closed: at most half of one is left."""
    rate = where(beta > 0, beta, 0.0) ** 1.5 / (2 * math.pi * mu)
    turns = namespace(rate).round(detached(rate * h))
    many = turns != 0
    period = 2 * math.pi * mu / where(many, beta, 1.0) ** 1.5
    return where(many, h - turns * period, h + 0 * beta)


def _universal_anomaly(mu: Array, r: Array, eta: Array, beta: Array, h: Array) -> Array:
    """Solve h = r s + η G2 + ζ G3, Kepler's equation, for s = ∫ dt/r, to `ENOUGH`.

    The right side grows with s, by the distance: there is one solution, which a bracket holds.
    Steps are Laguerre's (Conway 1986), and halve the bracket where they leave it or are too many.
    """
    way = where(h < 0, -1.0, 1.0)
    h, eta, zeta = way * h, way * eta, mu - beta * r
    low, high = 0 * h, _largest_anomaly(mu, beta, h)
    first = h / r
    second, third = eta * first / (2 * r), zeta * first * first / (6 * r)
    series = first * (1 - second + 2 * second * second - third)
    near = absolute(second) + absolute(third) < 0.3
    s = where(near, series, where(beta > 0, beta * h / mu, high / 2))
    s = minimum(maximum(s, low), high)
    for k in range(MOST):
        G0, G1, G2, G3 = _universal_functions(s, beta)
        late = r * s + eta * G2 + zeta * G3 - h
        distance, slope = r + eta * G1 + zeta * G2, eta * G0 + zeta * G1
        low, high = where(late > 0, low, s), where(late < 0, high, s)
        bend = root(absolute(16 * distance * distance - 20 * late * slope))
        after = s - 5 * late / (distance + bend)
        halved = k > FREE and k % 2 == 1
        inside = (after >= low) & (after <= high) & (not halved)
        after = where(inside, after, (low + high) / 2)
        change, s = absolute(after - s), after
        if not bool((change > ENOUGH * s).any()):
            break
    return way * s


def _largest_anomaly(mu: Array, beta: Array, h: Array) -> Array:
    """Bound (…) of s for times from 0 to half a period.

    Least time is taken about a pericentre at distance 0: h = (μ/|β|^1.5)(2w − 2 sin w) with
    w = √β s/2, sin w ≤ w − w³/10 up to π, and sinh likewise, where its growth bounds s, too.
    """
    most = (40 * h / mu) ** (1 / 3)
    flies = beta < 0
    rate = root(where(flies, -beta, 1.0))
    # sinh w − w > sinh(w)/3 beyond 2
    growth = namespace(rate).asinh(1.5 * rate**3 * h / mu)
    bound = 2 * where(growth > 2, growth, 2.0) / rate
    return where(flies, minimum(bound, most), most)


def _universal_functions(s: Array, beta: Array) -> tuple[Array, Array, Array, Array]:
    """G0 … G3 (…) of s and β: G_k = s^k c_k(β s²), of which each is the derivative of the next."""
    z = beta * s * s
    far = absolute(z) > SERIES
    near = where(far, 0.0, z)
    c2, c3 = _series(near, 2), _series(near, 3)
    if bool(far.any()):
        turns = z > 0
        w = root(absolute(where(far, z, 1.0)))
        whole = where(turns, w - _sine(w, turns), _sine(w, turns) - w)
        half = _sine(w / 2, turns) / w
        c2, c3 = where(far, 2 * half * half, c2), where(far, whole / (w * w * w), c3)
    G2, G3 = s * s * c2, s * s * s * c3
    return 1 - beta * G2, s - beta * G3, G2, G3


def _sine(w: Array, turns: Array) -> Array:
    """Sine, or the hyperbolic one where it does not turn; only one is evaluated far out."""
    xp = namespace(w)
    return where(turns, xp.sin(w), xp.sinh(where(turns, 0.0, w)))


def _series(z: Array, k: int) -> Array:
    """c_k(z) = Σ (−z)^j / (2j + k)!."""
    c = [(-1) ** j / math.factorial(2 * j + k) for j in range(TERMS)]
    return reduce(lambda total, term: term + z * total, c[-2::-1], c[-1] + 0 * z)
