"""What should stay the same during a run."""

from __future__ import annotations

from numba import njit

from nbcore.physics.compiled import LAW, PLAIN
from nbcore.simulation.kernels.lanes import load, total
from nbcore.simulation.kernels.shapes import either, is_known, size

__all__ = ["all_finite", "changes", "kinetic_energy"]


@njit(**LAW)
def _kinetic_of_lanes(bodies, axes, m, v):
    v0, v1, v2 = load(bodies, v, 0), load(bodies, v, 1), load(bodies, v, 2)
    return 0.5 * total(load(bodies, m, 0) * (v0 * v0 + v1 * v1 + v2 * v2))


@njit(**LAW)
def _kinetic_of_arrays(bodies, axes, m, v):
    twice = 0.0
    for i in range(size(bodies)):
        twice += m[i] * (v[0, i] * v[0, i] + v[1, i] * v[1, i] + v[2, i] * v[2, i])
    return 0.5 * twice


# ½ Σ m v².
kinetic_energy = either(is_known, _kinetic_of_lanes, _kinetic_of_arrays)


@njit(**LAW)
def _momenta_of_lanes(bodies, axes, m, x, v):
    mass = load(bodies, m, 0)
    x0, x1, p0, p1 = load(bodies, x, 0), load(bodies, x, 1), load(bodies, v, 0), load(bodies, v, 1)
    p0, p1 = mass * p0, mass * p1
    if size(axes) == 2:
        return total(p0), total(p1), 0.0, 0.0, 0.0, total(x0 * p1 - x1 * p0)
    x2, p2 = load(bodies, x, 2), mass * load(bodies, v, 2)
    l0, l1, l2 = x1 * p2 - x2 * p1, x2 * p0 - x0 * p2, x0 * p1 - x1 * p0
    return total(p0), total(p1), total(p2), total(l0), total(l1), total(l2)


@njit(**LAW)
def _momenta_of_arrays(bodies, axes, m, x, v):
    p0 = p1 = p2 = l0 = l1 = l2 = 0.0
    for i in range(size(bodies)):
        u0, u1, u2 = m[i] * v[0, i], m[i] * v[1, i], m[i] * v[2, i]
        p0 += u0
        p1 += u1
        p2 += u2
        l0 += x[1, i] * u2 - x[2, i] * u1
        l1 += x[2, i] * u0 - x[0, i] * u2
        l2 += x[0, i] * u1 - x[1, i] * u0
    return p0, p1, p2, l0, l1, l2


# Σ m v and Σ m x × v, three numbers each.
momenta = either(is_known, _momenta_of_lanes, _momenta_of_arrays)


@njit(**LAW)
def changes(bodies, axes, m, x, v, energy, initial):
    """|ΔE|, |ΔP|² and |ΔL|² since the start."""
    p0, p1, p2, l0, l1, l2 = momenta(bodies, axes, m, x, v)
    p0, p1, p2 = p0 - initial[1], p1 - initial[2], p2 - initial[3]
    l0, l1, l2 = l0 - initial[4], l1 - initial[5], l2 - initial[6]
    momentum2, angular2 = p0 * p0 + p1 * p1 + p2 * p2, l0 * l0 + l1 * l1 + l2 * l2
    return abs(energy - initial[0]), momentum2, angular2


@njit(**PLAIN)
def all_finite(bodies, axes, x, v):
    """Whether every coordinate is a finite number."""
    total = 0.0
    for d in range(size(axes)):
        for i in range(size(bodies)):
            total += (x[d, i] - x[d, i]) + (v[d, i] - v[d, i])
    return total == 0.0
