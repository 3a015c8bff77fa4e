"""Learned policies of the scale-free features: one pass over the pairs, and the network.

See `stepping.features`, whose laws are wrapped here, and `stepping.policies.LearnedPolicy`. The
first layer has a row for every feature, with zeros where the policy does not see it, and the
layers are padded to one width that the compiler knows.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from nbcore.physics import elementwise
from nbcore.physics.compiled import LAW, compiled, holding, one_of
from nbcore.simulation.kernels.blocks import BLOCK, block, others
from nbcore.simulation.kernels.estimates import has_estimates
from nbcore.simulation.kernels.lanes import (
    as_numbers,
    clamped,
    held,
    load,
    of_numbers,
    store,
    total,
    totals,
)
from nbcore.simulation.kernels.ring import apart, kept, meet, rounds, separation2
from nbcore.simulation.kernels.shapes import active, either, is_known, scratch, size
from nbcore.stepping import criteria, features
from nbcore.stepping.layers import ACTIVATIONS, LARGEST_INPUT

__all__ = ["INPUTS", "OF_PAIRS", "SEEN", "Learned", "activate", "learned"]

Array = NDArray[np.float64]

share, fly_by, binding, radial, heaviness, asymmetry, perturbation = (
    compiled(getattr(features, name))
    for name in ("share", "fly_by", "binding", "radial", "heaviness", "asymmetry", "perturbation")
)
crowding, rate_contrast, depth, compactness, virial = (
    compiled(getattr(features, name))
    for name in ("crowding", "rate_contrast", "depth", "compactness", "virial")
)


class Seen(NamedTuple):
    """What `weigh` computes: a name is here only with its number, or nothing would compile."""

    log_tolerance: float
    fly_by: float
    binding: float
    radial: float
    heaviness: float
    asymmetry: float
    perturbation: float
    crowding: float
    rate_contrast: float
    depth: float
    compactness: float
    virial: float


SEEN = Seen._fields
OF_PAIRS = 8  # of these, rounded up to fours, that no feature of the whole system is among
LEAST_WHOLE = 1e-300
INPUTS = 16  # inputs of the network: those above, and zeros
assert len(SEEN) <= INPUTS
_Inputs = (0,) * INPUTS


class Learned(NamedTuple):
    """A policy whose network is a plain MLP of scale-free features, or a crowd of such."""

    factor: Array  # (B,) c tol^(1/p)
    order: int  # p
    unit4: Array  # (B,) of P⁴, so that no unit overflows
    energy_unit: Array  # (B,) G/|E|
    log_tolerance: Array  # (B,)
    mean: Array  # (INPUTS,)
    sharpness: Array  # (INPUTS,) 1/deviation
    member: NDArray[np.int64]  # (B,) which network steps a system
    sees: tuple[int, ...]  # its length is 2 if features of the whole system are seen, otherwise 1
    hidden: tuple[int, ...]  # its length is the width W of all layers
    weights: NDArray[Any]  # (networks × layers × W, W) from input to output, of the hidden layers
    biases: NDArray[Any]  # (networks × layers, W)
    last: NDArray[Any]  # (networks, W)
    last_bias: Array  # (networks,)
    activation: int  # its place in ACTIVATIONS
    bound: float  # logarithm of the largest correction


@njit(**LAW)
def terms(known, mine, yours, r2, inverse, v2, rv, excess2, mu, rate4):
    """What one pair, or one vector of pairs, adds to the sums: parts, wholes, and the rest."""
    order, energy_unit, total_mass = known
    part = share(inverse, mine, yours, v2, rv, excess2, mu, energy_unit)
    rate2 = elementwise.root(rate4)
    q = part * rate2
    if order > 2:  # no loop, or that over the pairs would not be made one over vectors
        q = q * rate2
    if order > 4:
        q = q * rate2
    if order > 6:
        q = q * rate2
    motion = (inverse, v2, rv, mu)
    pairs = (
        fly_by(*motion),
        binding(*motion),
        radial(*motion),
        heaviness(mine, yours, total_mass),
        asymmetry(mine, yours, total_mass),
        perturbation(excess2, inverse, mu),
    )
    (p1, w1), (p2, w2), (p3, w3), (p4, w4), (p5, w5), (p6, w6) = pairs
    parts = (q * p1, q * p2, q * p3, q * p4, q * p5, q * p6)
    wholes = (q * w1, q * w2, q * w3, q * w4, q * w5, q * w6)
    return parts, wholes, (q, q * rate4, q * q, q * part)


@njit(**LAW)
def more(sums, terms):
    """Sums of three tuples, element by element."""
    (a1, a2, a3, a4, a5, a6), (b1, b2, b3, b4, b5, b6), (c1, c2, c3, c4) = sums
    (p1, p2, p3, p4, p5, p6), (w1, w2, w3, w4, w5, w6), (q1, q2, q3, q4) = terms
    return (
        (a1 + p1, a2 + p2, a3 + p3, a4 + p4, a5 + p5, a6 + p6),
        (b1 + w1, b2 + w2, b3 + w3, b4 + w4, b5 + w5, b6 + w6),
        (c1 + q1, c2 + q2, c3 + q3, c4 + q4),
    )


@njit(**LAW)
def nothing(zero):
    """Sums to begin with."""
    six = (zero, zero, zero, zero, zero, zero)
    return six, six, (zero, zero, zero, zero)


@njit(**LAW)
def _sums_of_pairs(bodies, axes, known, m, x, v, a, G, unit4, eps2):
    sums = nothing(0.0)
    sum_r2 = sum_v2 = sum_inverse = sum_rate4 = 0.0
    for i in range(active(bodies)):
        for j in range(i + 1, size(bodies)):
            r2, v2, rv, excess2 = eps2, 0.0, 0.0, 0.0
            for d in range(size(axes)):
                R, V = x[d, j] - x[d, i], v[d, j] - v[d, i]
                r2 += R * R
                v2 += V * V
                rv += R * V
            inverse, mu = elementwise.inverse_root(r2), G * (m[i] + m[j])
            own = mu * (inverse * inverse * inverse)
            for d in range(size(axes)):
                excess2 += (a[d, j] - a[d, i] + own * (x[d, j] - x[d, i])) ** 2
            rate4 = unit4 * criteria.pair_rate4(inverse * inverse, v2, mu)
            sums = more(sums, terms(known, m[i], m[j], r2, inverse, v2, rv, excess2, mu, rate4))
            sum_r2 += r2
            sum_v2 += v2
            sum_inverse += inverse
            sum_rate4 += rate4
    return sums, (sum_r2, sum_v2, sum_inverse, sum_rate4)


@njit(**LAW)
def _sums_in_blocks(bodies, axes, known, m, x, v, a, G, unit4, eps2):
    zero, n = block(m, 0, 0, 0), size(bodies)
    sums, means = nothing(zero), (zero, zero, zero, zero)
    for i in range(active(bodies)):
        for j in range(i + 1, n, BLOCK):
            count = min(BLOCK, n - j)
            r2, v2, rv, excess2 = zero + eps2, zero, zero, zero
            for d in range(size(axes)):
                R, V = block(x, d, j, count) - x[d, i], block(v, d, j, count) - v[d, i]
                r2 = r2 + R * R
                v2 = v2 + V * V
                rv = rv + R * V
            r2, yours = others(r2, i, j, count, 1.0), block(m, 0, j, count)
            inverse, mu = elementwise.inverse_root(r2), G * (m[i] + yours)
            own = mu * (inverse * inverse * inverse)
            for d in range(size(axes)):
                R, A = block(x, d, j, count) - x[d, i], block(a, d, j, count) - a[d, i]
                excess = A + own * R
                excess2 = excess2 + excess * excess
            rate4 = criteria.pair_rate4(inverse * inverse, v2, mu) * unit4
            rate4 = others(rate4, i, j, count, 0.0)
            mine = zero + m[i]
            sums = more(sums, terms(known, mine, yours, r2, inverse, v2, rv, excess2, mu, rate4))
            sum_r2, sum_v2, sum_inverse, sum_rate4 = means
            means = (
                sum_r2 + others(r2, i, j, count, 0.0),
                sum_v2 + others(v2, i, j, count, 0.0),
                sum_inverse + others(inverse, i, j, count, 0.0),
                sum_rate4 + rate4,
            )
    return _totals_of(sums, means)


@njit(**LAW)
def _totals_of(sums, means):
    """Sums over the lanes of all sums."""
    (a1, a2, a3, a4, a5, a6), (b1, b2, b3, b4, b5, b6), rates = sums
    p1, p2, p3, p4 = totals(a1, a2, a3, a4)
    w1, w2, w3, w4 = totals(b1, b2, b3, b4)
    p5, p6, w5, w6 = totals(a5, a6, b5, b6)
    parts, wholes = (p1, p2, p3, p4, p5, p6), (w1, w2, w3, w4, w5, w6)
    return (parts, wholes, totals(*rates)), totals(*means)


@njit(**LAW)
def _sums_in_rounds(bodies, axes, known, m, x, v, a, G, unit4, eps2):
    mass = load(bodies, m, 0)
    zero = mass * 0.0
    sums, means = rounds(
        _features,
        bodies,
        axes,
        (0,),
        (known, mass, x, v, a, G, unit4, eps2),
        (nothing(zero), (zero, zero, zero, zero)),
    )
    return _totals_of(sums, means)


@njit(**LAW)
def _features(bodies, axes, turn, given, sums):
    """Add a round of pairs to all sums."""
    known, mass, x, v, a, G, unit4, eps2 = given
    zero = mass * 0.0
    v2, rv, excess2 = zero, zero, zero
    for d in range(size(axes)):
        R, V = apart(bodies, turn, x, d), apart(bodies, turn, v, d)
        v2 = v2 + V * V
        rv = rv + R * V
    yours = meet(bodies, turn, mass)
    r2 = separation2(bodies, turn, x, eps2)
    inverse = elementwise.inverse_root(r2)
    mu = held(bodies, G * (mass + yours))
    own = mu * (inverse * inverse * inverse)
    for d in range(size(axes)):
        excess = apart(bodies, turn, a, d) + own * apart(bodies, turn, x, d)
        excess2 = excess2 + excess * excess
    rate4 = kept(bodies, turn, criteria.pair_rate4(inverse * inverse, v2, mu) * unit4)
    added = more(sums[0], terms(known, mass, yours, r2, inverse, v2, rv, excess2, mu, rate4))
    sum_r2, sum_v2, sum_inverse, sum_rate4 = sums[1]
    return added, (
        sum_r2 + kept(bodies, turn, r2),
        sum_v2 + kept(bodies, turn, v2),
        sum_inverse + kept(bodies, turn, inverse),
        sum_rate4 + rate4,
    )


_sums_of_many = either(has_estimates, _sums_in_blocks, _sums_of_pairs)


@njit(**LAW)
def _sums_in_turn(bodies, axes, known, m, x, v, a, G, unit4, eps2):
    return _sums_of_many(bodies, axes, known, m, x, v, a, G, unit4, eps2)


# All sums over pairs that features need.
sums_of = either(is_known, _sums_in_rounds, _sums_in_turn)


@njit(**LAW)
def weigh(sees, n_pairs, log_tolerance, G, total_mass, unit4, sums):
    """Sum of the weights and features from the sums over all pairs that see each other."""
    (parts, wholes, weights), (sum_r2, sum_v2, sum_inverse, sum_rate4) = sums
    q, q_rate4, q2, q_share = weights
    each = 1.0 / n_pairs
    p1, p2, p3, p4, p5, p6 = parts
    w1, w2, w3, w4, w5, w6 = wholes
    whole = (0.0, 0.0, 0.0, 0.0, 0.0)
    if size(sees) > 1:
        mean_rate4, mean_r2 = sum_rate4 * each, sum_r2 * each
        whole = (
            crowding(q, q2),
            rate_contrast(q_rate4 / q, mean_rate4),
            depth(q_share / q),
            compactness(mean_rate4 / unit4, G * total_mass, mean_r2),
            virial(sum_v2 * each, G * total_mass, sum_inverse * each),
        )
    seen = (
        log_tolerance,
        ratio(p1, w1),
        ratio(p2, w2),
        ratio(p3, w3),
        ratio(p4, w4),
        ratio(p5, w5),
        ratio(p6, w6),
    )
    return q, Seen(*(*seen, *whole))


@njit(**LAW)
def ratio(part, whole):
    """Part over whole, 0 where there is none; without a branch, so that several go at once."""
    return part / max(whole, LEAST_WHOLE)


@njit(**LAW)
def see(bodies, axes, rule, b, m, x, v, a, G, eps2):
    """Logarithm of the time scale, and the features in the order of SEEN."""
    total_mass, unit4 = 0.0, rule.unit4[b]
    for i in range(size(bodies)):
        total_mass += m[i]
    known = (rule.order, rule.energy_unit[b], total_mass)
    sums = sums_of(bodies, axes, known, m, x, v, a, G, unit4, eps2)
    n_pairs = 0.5 * active(bodies) * (2 * size(bodies) - 1 - active(bodies))
    q, seen = weigh(rule.sees, n_pairs, rule.log_tolerance[b], G, total_mass, unit4, sums)
    return 0.25 * math.log(unit4) - math.log(q) / rule.order, seen


activation = one_of(list(ACTIVATIONS.values()))
softsign, SOFTSIGN = compiled(ACTIVATIONS["softsign"]), list(ACTIVATIONS).index("softsign")


@njit(**LAW)
def activate(kind, values, count):
    """Activation by its place in ACTIVATIONS, in place."""
    for k in range(count):
        values[k] = activation(kind, values[k])


@njit(**LAW)
def layer(hidden, count, k, rule, here):
    """Make the next layer's values of those of one layer, in place."""
    # No slices, whose references would be counted in the loop.
    weights, biases = rule.weights, load(hidden, rule.biases, k)
    first = k * size(hidden)
    # Four chains of additions, or each would wait for the one before.
    sum0, sum1, sum2, sum3 = biases, biases * 0, biases * 0, biases * 0
    for i in range(0, count, 4):
        sum0 = sum0 + here[0, i] * load(hidden, weights, first + i)
        sum1 = sum1 + here[0, i + 1] * load(hidden, weights, first + i + 1)
        sum2 = sum2 + here[0, i + 2] * load(hidden, weights, first + i + 2)
        sum3 = sum3 + here[0, i + 3] * load(hidden, weights, first + i + 3)
    total = (sum0 + sum1) + (sum2 + sum3)
    if rule.activation == SOFTSIGN:
        total = softsign(total)
    store(hidden, here, 0, total)
    if rule.activation != SOFTSIGN:
        activate(rule.activation, here[0], size(hidden))


@njit(**holding(LAW))
def learned(bodies, axes, rule, memory, field, b, m, x, v, a, time, G, eps2):
    """Factor τ exp(correction)."""
    hidden, like = rule.hidden, rule.last.dtype.type(0)
    here = scratch(hidden, 1, like)
    log_tau, seen = see(bodies, axes, rule, b, m, x, v, a, G, eps2)
    for k in range(INPUTS, size(hidden)):
        here[0, k] = like
    z = (of_numbers(_Inputs, seen) - load(_Inputs, rule.mean, 0)) * load(_Inputs, rule.sharpness, 0)
    store(_Inputs, here, 0, as_numbers(clamped(z, LARGEST_INPUT), like))
    own, n_layers = rule.member[b], len(rule.biases) // len(rule.last)
    for k in range(n_layers):
        first = len(SEEN) if size(rule.sees) > 1 else OF_PAIRS
        layer(hidden, first if k == 0 else size(hidden), own * n_layers + k, rule, here)
    out = total(load(hidden, here, 0) * load(hidden, rule.last, own)) + rule.last_bias[own]
    return rule.factor[b] * math.exp(log_tau + min(max(out, -rule.bound), rule.bound))
