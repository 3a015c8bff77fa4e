"""Accelerations and their time derivatives, and the energy of all pairs."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from nbcore.physics.compiled import LAW
from nbcore.simulation.kernels.blocks import BLOCK, block, others
from nbcore.simulation.kernels.estimates import has_estimates
from nbcore.simulation.kernels.lanes import load, store, total
from nbcore.simulation.kernels.laws import (
    pair_alpha,
    pair_beta,
    pair_first,
    pair_gamma,
    pair_potential,
    pair_second,
    pair_third,
    pair_weight,
)
from nbcore.simulation.kernels.ring import apart, kept, meet, rejoin, rounds, separation2
from nbcore.simulation.kernels.shapes import Shared, active, either, is_a, is_known, size

__all__ = ["LARGEST_UNROLLED", "SHARED", "accelerate", "derivative", "potential_energy"]

LARGEST_UNROLLED = 16  # bodies up to which N is a constant of the compiled code
SHARED = 512  # bodies from which the cores share one system


@njit(**LAW)
def _in_rounds(bodies, axes, m, x, G, eps2, a, phi):
    """Every pair once, one vector of pairs after the other."""
    mass = load(bodies, m, 0)
    nothing = mass * 0.0
    a0, a1, a2, potential = rounds(
        _attract,
        bodies,
        axes,
        (0,),
        (mass, G * mass, x, eps2),
        (nothing, nothing, nothing, nothing),
    )
    store(bodies, a, 0, a0)
    store(bodies, a, 1, a1)
    store(bodies, a, 2, a2)
    return total(potential)


@njit(**LAW)
def _attract(bodies, axes, turn, known, sums):
    """Add the accelerations and energies of a round of pairs."""
    m, Gm, x, eps2 = known
    a0, a1, a2, potential = sums
    R0, R1, R2 = apart(bodies, turn, x, 0), apart(bodies, turn, x, 1), apart(bodies, turn, x, 2)
    r2 = separation2(bodies, turn, x, eps2)
    weight = pair_weight(r2)
    other = kept(bodies, turn, meet(bodies, turn, Gm))
    ours, yours = other * weight, kept(bodies, turn, Gm) * weight
    a0 = a0 + ours * R0 - rejoin(bodies, turn, yours * R0)
    a1 = a1 + ours * R1 - rejoin(bodies, turn, yours * R1)
    if size(axes) == 3:
        a2 = a2 + ours * R2 - rejoin(bodies, turn, yours * R2)
    return a0, a1, a2, potential + m * other * pair_potential(r2)


@njit(**LAW)
def _one_by_one(i, n, m, x, G, eps2, a):
    a0 = a1 = a2 = phi = 0.0
    x0, x1, x2 = x[0, i], x[1, i], x[2, i]
    for j in range(n):
        R0, R1, R2 = x[0, j] - x0, x[1, j] - x1, x[2, j] - x2
        other = 0.0 if i == j else 1.0
        r2 = R0 * R0 + R1 * R1 + R2 * R2 + eps2 + (1.0 - other)
        w = m[j] * pair_weight(r2) * other
        phi += w * r2
        a0 += w * R0
        a1 += w * R1
        a2 += w * R2
    a[0, i] = G * a0
    a[1, i] = G * a1
    a[2, i] = G * a2
    return phi


@njit(**LAW)
def _in_blocks(i, n, m, x, G, eps2, a):
    nothing, whole = block(m, 0, 0, 0), n - n % BLOCK
    sums = (nothing, nothing, nothing, nothing)
    for j in range(0, whole, BLOCK):
        sums = _pulled(i, j, BLOCK, m, x, eps2, sums)
    a0, a1, a2, phi = _pulled(i, whole, n - whole, m, x, eps2, sums)
    a[0, i] = G * total(a0)
    a[1, i] = G * total(a1)
    a[2, i] = G * total(a2)
    return total(phi)


@njit(**LAW)
def _pulled(i, j, count, m, x, eps2, sums):
    """Add the pull of a block of bodies on one."""
    a0, a1, a2, phi = sums
    R0 = block(x, 0, j, count) - x[0, i]
    R1 = block(x, 1, j, count) - x[1, i]
    R2 = block(x, 2, j, count) - x[2, i]
    r2 = others(R0 * R0 + R1 * R1 + R2 * R2 + eps2, i, j, count, 1.0)
    w = others(block(m, 0, j, count) * pair_weight(r2), i, j, count, 0.0)
    return a0 + w * R0, a1 + w * R1, a2 + w * R2, phi + w * r2


# Acceleration of one body by the first n; returns Σ m/r of them. Without estimates the compiler's
# own vectors are as quick: blocks took 0.92 to 1.11 of their time.
_of_body = either(has_estimates, _in_blocks, _one_by_one)


@njit(parallel=True, error_model="numpy", fastmath=LAW["fastmath"])
def _shared(n, n_active, m, x, G, eps2, a, phi):
    for k in prange(n):
        i = np.int64(k)  # prange counts without a sign, and such numbers don't compare quickly
        phi[i] = _of_body(i, n_active, m, x, G, eps2, a)


@njit(**LAW)
def _alone(bodies, m, x, G, eps2, a, phi):
    for i in range(size(bodies)):
        phi[i] = _of_body(i, active(bodies), m, x, G, eps2, a)


@njit(**LAW)
def _together(bodies, m, x, G, eps2, a, phi):
    _shared(bodies.n_bodies, bodies.n_active, m, x, G, eps2, a, phi)


# Accelerations of all bodies, and Σ m/r of the others.
pull = either(is_a(Shared), _together, _alone)


@njit(**LAW)
def _square(bodies, axes, m, x, G, eps2, a, phi):
    """Every pair twice, body by body: the loop over the others vectorises, the cores can share."""
    pull(bodies, m, x, G, eps2, a, phi)
    potential = 0.0
    for i in range(active(bodies)):
        potential -= m[i] * phi[i]
    return 0.5 * G * potential


# Accelerations by the other bodies into a (3, N); returns the potential energy.
accelerate = either(is_known, _in_rounds, _square)


@njit(**LAW)
def potential_energy(bodies, axes, m, x, G, eps2):
    """Energy of all pairs."""
    total = 0.0
    for i in range(active(bodies)):
        for j in range(i + 1, active(bodies)):
            r2 = eps2
            for d in range(size(axes)):
                r2 += (x[d, j] - x[d, i]) ** 2
            total -= m[i] * m[j] * pair_weight(r2) * r2
    return G * total


@njit(**LAW)
def derivative(bodies, m, x, v, a, jerk, snap, G, eps2, order, out):
    """Jerk (order 2), snap (3) or crackle (4) by the other bodies, from those before it."""
    for d in range(3):
        for i in range(size(bodies)):
            out[d, i] = 0.0
    for i in range(size(bodies)):
        for j in range(active(bodies)):
            if i == j:
                continue
            r2, v2, rv, ra, va, rj = eps2, 0.0, 0.0, 0.0, 0.0, 0.0
            for d in range(3):
                R, V = x[d, j] - x[d, i], v[d, j] - v[d, i]
                r2 += R * R
                v2 += V * V
                rv += R * V
                if order > 2:
                    A = a[d, j] - a[d, i]
                    ra += R * A
                    va += V * A
                if order > 3:
                    rj += R * (jerk[d, j] - jerk[d, i])
            weight, alpha = pair_weight(r2), pair_alpha(rv, r2)
            beta = pair_beta(v2, ra, r2, alpha)
            gamma = pair_gamma(va, rj, r2, alpha, beta)
            for d in range(3):
                A0 = (x[d, j] - x[d, i]) * weight
                term = pair_first(v[d, j] - v[d, i], weight, alpha, A0)
                if order > 2:
                    A1 = term
                    term = pair_second(a[d, j] - a[d, i], weight, alpha, beta, A0, A1)
                    if order > 3:
                        J = jerk[d, j] - jerk[d, i]
                        term = pair_third(J, weight, alpha, beta, gamma, A0, A1, term)
                out[d, i] += G * m[j] * term
