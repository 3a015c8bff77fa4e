"""Fast passages between the points of a step; see `physics.passages`."""

from __future__ import annotations

import math

from numba import njit

from nbcore.physics import passages
from nbcore.physics.compiled import LAW, compiled
from nbcore.physics.elementwise import inverse_root
from nbcore.simulation.kernels import fields
from nbcore.simulation.kernels.chains import across
from nbcore.simulation.kernels.orbits import beside, dot, plus
from nbcore.simulation.kernels.shapes import active, either, is_a, size

__all__ = ["overlooks"]

is_fast, is_overlooked = compiled(passages.is_fast), compiled(passages.is_overlooked)


@njit(**LAW)
def pace_of(bodies, orbits, x, v, i, eps2):
    """√(V² + 2μ/r) of a body beside its partner, at the start of a step."""
    R, V = beside(i, orbits, x), beside(i, orbits, v)
    return math.sqrt(dot(V, V) + 2 * orbits.pair[1, i] * inverse_root(dot(R, R) + eps2))


@njit(**LAW)
def overlooks(bodies, axes, field, m, x, v, time, room, columns, orbits, aim, G, eps2):
    """Whether a step may have gone over a fast passage that no chain has seen."""
    n, last, trail, new = size(bodies), 2 * columns + 1, room.trail, room.new
    wide = size(axes) * size(bodies)
    for q in range(wide):
        trail[0, q], trail[last, q] = 0.0, new[q]
    trail[0, wide], trail[last, wide] = 0.0, new[2 * wide]
    k = 0
    for i in range(active(bodies)):
        for j in range(i + 1, n):
            mu = G * (m[i] + m[j])
            apart = (room.apart[k, 0], room.apart[k, 1], room.apart[k, 2])
            k += 1
            V = (v[0, j] - v[0, i], v[1, j] - v[1, i], v[2, j] - v[2, i])
            after = plus(apart, across(axes, new, i, j), 1.0)
            U = plus(V, across(axes, new, n + i, n + j), 1.0)
            if not (is_fast(apart, V, mu, eps2) or is_fast(after, U, mu, eps2)):
                continue
            pull = max(m[i], m[j]) * G
            pulled = i if m[i] <= m[j] else j
            pace = pace_of(bodies, orbits, x, v, pulled, eps2)
            R = apart
            for s in range(last):
                there = plus(apart, across(axes, trail[s + 1], i, j), 1.0)
                C, T = plus(there, R, -1.0), trail[s + 1, wide] - trail[s, wide]
                if is_overlooked(R, C, T, mu, pull, pace, aim, eps2):
                    return True
                R = there
    return overlooks_field(bodies, axes, field, m, x, v, time, trail, last, orbits, aim, G, eps2)


@njit(**LAW)
def _overlooks_tide(bodies, axes, field, m, x, v, time, trail, last, orbits, aim, G, eps2):
    wide = size(axes) * size(bodies)
    for i in range(size(bodies)):
        pace, R = pace_of(bodies, orbits, x, v, i, eps2), (0.0, 0.0, 0.0)
        for s in range(last + 1):
            t, p = time + trail[s, wide], size(axes) * i
            x2 = trail[s, p + 2] if size(axes) == 3 else 0.0
            there = fields.apart(
                field, x[0, i] + trail[s, p], x[1, i] + trail[s, p + 1], x[2, i] + x2, t
            )
            C, T = plus(there, R, -1.0), trail[s, wide] - trail[max(s - 1, 0), wide]
            if s > 0 and is_overlooked(R, C, T, field.Gm, field.Gm, pace, aim, 0.0):
                return True
            R = there
    return False


@njit(**LAW)
def _overlooks_nothing(bodies, axes, field, m, x, v, time, trail, last, orbits, aim, G, eps2):
    return False


overlooks_field = either(is_a(fields.Tide), _overlooks_tide, _overlooks_nothing, place=2)
