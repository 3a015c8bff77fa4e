"""THE pair law of gravity: on tensors broadcast over pairs, and on numbers in a compiled loop.

The functions use only operators and `elementwise`, so that one function object serves both. With
R = x_j − x_i and likewise V, A, J for the relative velocity, acceleration and jerk,
r² = R·R + softening²:

    A0 = R/r³            A2 = A/r³ − 6α A1 − 3β A0
    A1 = V/r³ − 3α A0    A3 = J/r³ − 9α A2 − 9β A1 − 3γ A0

and G m_j A0 … A3 are what a body j adds to acceleration, jerk, snap and crackle (Nitadori & Makino
2008, New Astronomy 13, 498).
"""

from __future__ import annotations

from nbcore.physics.elementwise import inverse_root

__all__ = [
    "pair_alpha",
    "pair_beta",
    "pair_first",
    "pair_gamma",
    "pair_potential",
    "pair_second",
    "pair_third",
    "pair_weight",
]


def pair_weight(r2):
    """1/r³ from r²."""
    inverse = inverse_root(r2)
    return inverse * inverse * inverse


def pair_potential(r2):
    """−1/r from r²."""
    return -inverse_root(r2)


def pair_alpha(rv, r2):
    """R·V/r²."""
    return rv / r2


def pair_beta(v2, ra, r2, alpha):
    """(V² + R·A)/r² + α²."""
    return (v2 + ra) / r2 + alpha * alpha


def pair_gamma(va, rj, r2, alpha, beta):
    """(3 V·A + R·J)/r² + α(3β − 4α²)."""
    return (3 * va + rj) / r2 + alpha * (3 * beta - 4 * alpha * alpha)


def pair_first(V, weight, alpha, A0):
    """A1, component by component."""
    return V * weight - 3 * alpha * A0


def pair_second(A, weight, alpha, beta, A0, A1):
    """A2, component by component."""
    return A * weight - 6 * alpha * A1 - 3 * beta * A0


def pair_third(J, weight, alpha, beta, gamma, A0, A1, A2):
    """A3, component by component."""
    return J * weight - 9 * alpha * A2 - 9 * beta * A1 - 3 * gamma * A0
