"""Kepler motion of several bodies at once, one in each lane; see `physics.kepler.drift`.

In universal variables: with β = 2μ/r − v² (μ/a of an ellipse) and Stumpff's functions,
G_k(X) = X^k c_k(βX²), the time that belongs to X is r X + (r·v) G₂ + (μ − βr) G₃ = h. It is solved
from a series in h by Chebyshev's iteration, from afar by Laguerre's, and the last correction goes
into G₁ … G₃ by their series.

References
----------
Stumpff (1962), Himmelsmechanik I; Conway (1986), Celest. Mech. 39, 199; Rein & Tamayo (2015), MNRAS
452, 376; Wisdom & Hernandez (2015), MNRAS 453, 3015.
"""

from __future__ import annotations

import math
from fractions import Fraction

from numba import njit

from nbcore.physics.compiled import LAW
from nbcore.physics.elementwise import absolute, inverse_root, maximum, root
from nbcore.simulation.kernels.lanes import chosen, exact_sum, largest, whole_part

__all__ = ["drift"]

SMALL = 0.2  # |βX²| up to which seven terms of the series suffice
NEAR = 0.1  # square of what the series in h adds to its first term, up to which it is taken
HALF = 10.0  # βX² of half an orbit
EXACT = 1e-16  # what the last correction may leave, relative to X
HYPERBOLIC = 1 / 9  # bounds the first X of a hyperbola, and what is added to it, to 3/√−β
FEW, MOST_TRIES = 4, 40
# What rounding takes from the first coefficients of the series: always the same, which would add up
# in the energy of long runs.
LOST_6, LOST_24, LOST_120 = (float(Fraction(1, n) - Fraction(1 / n)) for n in (6, 24, 120))


@njit(**LAW)
def _series(z):
    """c₂ and c₃ of a small z."""
    z2 = z * z
    z4 = z2 * z2
    c2 = (
        z2 * (1 / 720 - z * (1 / 40320))
        + z4 * ((1 / 3628800 - z * (1 / 479001600)) + z2 * (1 / 87178291200))
        - z * LOST_24
    )
    c3 = (
        z2 * (1 / 5040 - z * (1 / 362880))
        + z4 * ((1 / 39916800 - z * (1 / 6227020800)) + z2 * (1 / 1307674368000))
        + (LOST_6 - z * LOST_120)
    )
    c2, c3 = exact_sum(z * (-1 / 24), c2), exact_sum(z * (-1 / 120), c3)
    return exact_sum(c2, z * 0.0 + 1 / 2), exact_sum(c3, z * 0.0 + 1 / 6)


@njit(**LAW)
def stumpff(z):
    """c₂ and c₃; beyond the series from a quarter of z, as often as each lane takes."""
    most, part, quarters = absolute(z), 0.0 * z + 1.0, 0
    while largest(most) > SMALL and quarters < MOST_TRIES:
        over, quarters = most - SMALL, quarters + 1
        most, part = chosen(over, 0.25 * most, most), chosen(over, 0.25 * part, part)
    w = z * part
    c2, c3 = _series(w)
    for _ in range(quarters):
        c0, c1, left = 1.0 - w * c2, 1.0 - w * c3, 1.0 - part
        c2, c3 = chosen(left, 0.5 * (c1 * c1), c2), chosen(left, 0.25 * (c2 + c0 * c3), c3)
        w, part = chosen(left, 4.0 * w, w), chosen(left, 4.0 * part, part)
    return c2, c3


@njit(**LAW)
def _less_periods(mu, beta, h):
    """The times, less whole periods: half of one is left at most."""
    bound = chosen(beta, beta, beta * 0.0 + 1.0)
    rate = bound * root(bound) / ((2 * math.pi) * mu)
    turns = whole_part(chosen(beta, h * rate, beta * 0.0))
    return h - chosen(absolute(turns), turns / rate, turns)


@njit(**LAW)
def _from_afar(mu, beta, h, y):
    """X to begin with where the series in h does not help."""
    return chosen(beta, beta * h / mu, _bounded(beta, y))


@njit(**LAW)
def _bounded(beta, X):
    """X that on a hyperbola leads no farther than where the way back would take many tries."""
    return X * inverse_root(1.0 + maximum(-HYPERBOLIC * beta * X * X, 0.0 * X))


@njit(**LAW)
def drift(mu, r, inverse, x0, x1, x2, v0, v1, v2, h):
    """Changes of place and velocity in a time h; none, exactly, where h is 0.

    `r` and `inverse`, which is 1/r, are to be made together: a compiler that sees how one comes
    from the other rounds r once, and circles keep their energy. A lane has the same bits whatever
    is in the others: so it is left as it is where it is exact, and each has its own way to begin
    and to go on.
    """
    eta = x0 * v0 + x1 * v1 + x2 * v2
    beta = 2.0 * mu * inverse - (v0 * v0 + v1 * v1 + v2 * v2)
    zeta = mu - beta * r
    # y = X + p X² + q X³ + s X⁴ + t X⁵, turned round
    y = h * inverse
    p, q = 0.5 * eta * inverse, (1 / 6) * zeta * inverse
    s, t = (-1 / 12) * beta * p, (-1 / 20) * beta * q
    pp = p * p
    w = y * (
        (2.0 * pp - q) * y
        - p
        + y
        * y
        * (
            (5.0 * (q - pp) * p - s)
            + y * (14.0 * pp * pp - 21.0 * pp * q + 6.0 * p * s + 3.0 * q * q - t)
        )
    )
    X = y + y * w
    near = 1.0 - maximum(w * w * (1 / NEAR), beta * y * y * (1 / HALF))  # where it is positive
    all_near = largest(-near) < 0.0
    if not all_near:
        h = chosen(near, h, _less_periods(mu, beta, h))
        X = chosen(near, X, _from_afar(mu, beta, h, h * inverse))
    tries = 0
    while True:
        c2, c3 = stumpff(beta * X * X)
        G2, G3 = X * X * c2, X * X * X * c3
        G1, G0 = X - beta * G3, 1.0 - beta * G2
        f = r * X + eta * G2 + zeta * G3 - h
        slope = r + eta * G1 + zeta * G2
        bend = eta * G0 + zeta * G1
        # Chebyshev's, which is quicker, as it begins with the division
        over = 1.0 / slope
        u = f * over
        d = -u - 0.5 * u * u * bend * over
        if not all_near:
            spread = root(absolute(16.0 * slope * slope - 20.0 * f * bend))
            d = chosen(near, d, _bounded(beta, -5.0 * f / (slope + spread)))
        turn = zeta * G0 - beta * eta * G1
        left = d * d * (bend * bend + absolute(turn) * slope)
        left = absolute(d) * left - EXACT * absolute(X) * (slope * slope)
        X = chosen(left, X + d, X)
        tries += 1
        if tries == FEW:
            near, all_near = chosen(left, near * 0.0 - 1.0, near), False
            X = chosen(left, _from_afar(mu, beta, h, y), X)
        if not (largest(left) > 0.0 and tries < MOST_TRIES):
            break
    half = 0.5 * d * d
    sixth = (1 / 3) * d * half
    g1 = G1 + d * G0 - beta * (half * G1 + sixth * G0)
    g2 = G2 + d * G1 + half * G0 - beta * sixth * G1
    g3 = G3 + d * G2 + half * G1 + sixth * G0
    after = 1.0 / (r + eta * g1 + zeta * g2)
    a, b = -mu * g2 * inverse, h - mu * g3
    c, g = -mu * g1 * inverse * after, -mu * g2 * after
    return (
        a * x0 + b * v0, a * x1 + b * v1, a * x2 + b * v2,
        c * x0 + g * v0, c * x1 + g * v1, c * x2 + g * v2,
    )  # fmt: skip
