"""What chooses a step: classical criteria; see `stepping.criteria`.

A rule is a named tuple, told apart by its class, so that each is compiled into a loop of its own.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from nbcore.physics import elementwise
from nbcore.physics.compiled import LAW, PLAIN, holding, one_of
from nbcore.simulation.kernels import fields
from nbcore.simulation.kernels.forces import derivative
from nbcore.simulation.kernels.lanes import load, total
from nbcore.simulation.kernels.laws import pair_weight
from nbcore.simulation.kernels.ring import apart, kept, meet, rounds, separation2
from nbcore.simulation.kernels.shapes import active, either, is_a, is_known, size, vectors
from nbcore.stepping import criteria
from nbcore.stepping.criteria import CRITERIA

__all__ = [
    "FixedSteps",
    "LeastOfBodies",
    "LeastOfPairs",
    "OwnSteps",
    "SmoothRate",
    "WholeState",
    "proposes",
    "rule_of",
    "smooth",
]

Array = NDArray[np.float64]


class FixedSteps(NamedTuple):
    """The same step always."""

    factor: Array  # (B,) dt


class OwnSteps(NamedTuple):
    """None: the scheme proposes its own steps."""

    unused: int


class SmoothRate(NamedTuple):
    """√(ΣP⁸/ΣP¹⁰) over all pairs."""

    factor: Array  # (B,) what multiplies τ
    unit4: Array  # (B,) of P⁴, so that no unit overflows


class LeastOfPairs(NamedTuple):
    """The least of a law of pairs."""

    factor: Array
    law: int


class LeastOfBodies(NamedTuple):
    """The least of a law of bodies."""

    factor: Array
    law: int
    order: int  # of the highest derivative of the position, less one


class WholeState(NamedTuple):
    """A criterion of the whole state."""

    factor: Array
    law: int


PAIR_LAWS = {name: row.pair for name, row in CRITERIA.items() if row.pair}
BODY_LAWS = {name: row.body for name, row in CRITERIA.items() if row.body}
WHOLE_LAWS = ("tidal", "softened_acceleration")


def rule_of(name: str, factor: Array, unit4: Array):
    """Rule of a criterion, or None if there is none here."""
    if name == "boekholt":
        return SmoothRate(factor, unit4)
    if name in PAIR_LAWS:
        return LeastOfPairs(factor, list(PAIR_LAWS).index(name))
    if name in BODY_LAWS:
        return LeastOfBodies(factor, list(BODY_LAWS).index(name), CRITERIA[name].evaluations + 1)
    return WholeState(factor, WHOLE_LAWS.index(name)) if name in WHOLE_LAWS else None


pair_law = one_of(list(PAIR_LAWS.values()))
body_law = one_of(list(BODY_LAWS.values()))


@njit(**PLAIN)
def fixed(bodies, axes, rule, memory, field, b, m, x, v, a, time, G, eps2):
    """Dt as given."""
    return rule.factor[b]


@njit(**LAW)
def _rates_of_pairs(bodies, axes, rule, memory, field, b, m, x, v, a, time, G, eps2):
    unit4, eighth, tenth = rule.unit4[b], 0.0, 0.0
    for i in range(active(bodies)):
        for j in range(i + 1, size(bodies)):
            r2, v2 = eps2, 0.0
            for d in range(size(axes)):
                R, V = x[d, j] - x[d, i], v[d, j] - v[d, i]
                r2 += R * R
                v2 += V * V
            rate4 = unit4 * criteria.pair_rate4(1 / r2, v2, G * (m[i] + m[j]))
            eighth += rate4 * rate4
            tenth += rate4 * rate4 * math.sqrt(rate4)
    return rule.factor[b] * math.sqrt(eighth / tenth * math.sqrt(unit4))


@njit(**LAW)
def _rates_in_rounds(bodies, axes, rule, memory, field, b, m, x, v, a, time, G, eps2):
    mass, unit4 = load(bodies, m, 0), rule.unit4[b]
    sums = rounds(
        _rates, bodies, axes, (0,), (mass, x, v, G, unit4, eps2), (mass * 0.0, mass * 0.0)
    )
    eighth, tenth = total(sums[0]), total(sums[1])
    return rule.factor[b] * math.sqrt(eighth / tenth * math.sqrt(unit4))


@njit(**LAW)
def _rates(bodies, axes, turn, known, sums):
    """Add P⁸ and P¹⁰ of a round of pairs."""
    mass, x, v, G, unit4, eps2 = known
    v2 = mass * 0.0
    for d in range(size(axes)):
        V = apart(bodies, turn, v, d)
        v2 = v2 + V * V
    mu = G * (mass + meet(bodies, turn, mass))
    inverse = elementwise.inverse_root(separation2(bodies, turn, x, eps2))
    rate4 = criteria.pair_rate4(inverse * inverse, v2, mu) * unit4
    rate4 = kept(bodies, turn, rate4)
    eighth = rate4 * rate4
    return sums[0] + eighth, sums[1] + eighth * elementwise.root(rate4)


# Factor √(ΣP⁸/ΣP¹⁰).
smooth = either(is_known, _rates_in_rounds, _rates_of_pairs)


@njit(**LAW)
def least_of_pairs(bodies, axes, rule, memory, field, b, m, x, v, a, time, G, eps2):
    """Factor √ of the least τ² of all pairs."""
    least = math.inf
    for i in range(active(bodies)):
        for j in range(i + 1, size(bodies)):
            r2, v2, rv = eps2, 0.0, 0.0
            for d in range(size(axes)):
                R, V = x[d, j] - x[d, i], v[d, j] - v[d, i]
                r2 += R * R
                v2 += V * V
                rv += R * V
            least = elementwise.minimum(pair_law(rule.law, r2, v2, rv, G * (m[i] + m[j])), least)
    return rule.factor[b] * math.sqrt(least)


@njit(**PLAIN)
def length(vectors, i):
    """Size of the vector of body i."""
    return (vectors[0, i] ** 2 + vectors[1, i] ** 2 + vectors[2, i] ** 2) ** 0.5


@njit(**holding(LAW))
def least_of_bodies(bodies, axes, rule, memory, field, b, m, x, v, a, time, G, eps2):
    """Factor √ of the least τ² of all bodies, from the derivatives of the acceleration."""
    jerk, snap, crackle = vectors(bodies), vectors(bodies), vectors(bodies)
    derivative(bodies, m, x, v, a, jerk, snap, G, eps2, 2, jerk)
    fields.add_derivative(bodies, axes, field, x, v, a, jerk, snap, time, 2, jerk)
    derivative(bodies, m, x, v, a, jerk, snap, G, eps2, 3, snap)
    fields.add_derivative(bodies, axes, field, x, v, a, jerk, snap, time, 3, snap)
    if rule.order > 3:
        derivative(bodies, m, x, v, a, jerk, snap, G, eps2, 4, crackle)
        fields.add_derivative(bodies, axes, field, x, v, a, jerk, snap, time, 4, crackle)
    least = math.inf
    for i in range(size(bodies)):
        c = length(crackle, i) if rule.order > 3 else 0.0
        tau2 = body_law(rule.law, length(a, i), length(jerk, i), length(snap, i), c)
        least = elementwise.minimum(tau2, least)
    return rule.factor[b] * math.sqrt(least)


@njit(**LAW)
def tidal_time(bodies, axes, field, m, x, time, G, eps2):
    """√(√6/‖∇a‖) of the body in the strongest tide; see `criteria.tidal`."""
    strongest = 0.0
    for i in range(size(bodies)):
        norm2 = 0.0
        for d in range(size(axes)):
            for e in range(size(axes)):
                T = 0.0
                for j in range(active(bodies)):
                    if i == j:
                        continue
                    r2 = eps2
                    for f in range(size(axes)):
                        r2 += (x[f, j] - x[f, i]) ** 2
                    stretch = 3 * (x[d, j] - x[d, i]) * (x[e, j] - x[e, i]) / r2
                    T += m[j] * pair_weight(r2) * (stretch - (1.0 if d == e else 0.0))
                T = G * T + fields.tidal_element(axes, field, x, i, d, e, time)
                norm2 += T * T
        strongest = max(strongest, norm2)
    return (6**0.5 / strongest**0.5) ** 0.5


@njit(**LAW)
def softened_time(bodies, a, eps2):
    """√(2 ε/a) of the most accelerated body."""
    most = 0.0
    for i in range(size(bodies)):
        most = max(most, length(a, i))
    return (2 * eps2**0.5 / most) ** 0.5


@njit(**PLAIN)
def whole(bodies, axes, rule, memory, field, b, m, x, v, a, time, G, eps2):
    """Factor τ of a criterion of the whole state."""
    if rule.law == 0:
        return rule.factor[b] * tidal_time(bodies, axes, field, m, x, time, G, eps2)
    return rule.factor[b] * softened_time(bodies, a, eps2)


@njit(**PLAIN)
def nothing(bodies, axes, rule, memory, field, b, m, x, v, a, time, G, eps2):
    """No step."""
    return math.nan


@njit(**PLAIN)
def _yes(rule):
    return True


@njit(**PLAIN)
def _no(rule):
    return False


# Whether the scheme proposes its own steps.
proposes = either(is_a(OwnSteps), _yes, _no)

CLASSICAL = {
    OwnSteps: nothing,
    FixedSteps: fixed,
    SmoothRate: smooth,
    LeastOfPairs: least_of_pairs,
    LeastOfBodies: least_of_bodies,
    WholeState: whole,
}
