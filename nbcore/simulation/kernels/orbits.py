"""The error of every body's orbit; see `physics.body_errors`, whose laws are wrapped here.

All bodies at once where their number is known to the compiler, each a lane beside its partner,
otherwise one after the other.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import njit
from numba.extending import overload
from numpy.typing import NDArray

from nbcore.physics import body_errors
from nbcore.physics.compiled import LAW, PLAIN, compiled
from nbcore.physics.elementwise import absolute, inverse_root, maximum, root
from nbcore.simulation.kernels.lanes import Lanes, largest, load, place_in, store
from nbcore.simulation.kernels.laws import pair_weight
from nbcore.simulation.kernels.shapes import (
    active,
    either,
    intrinsic,
    is_known,
    rounded_up,
    size,
)

__all__ = [
    "ERROR",
    "WORST",
    "Orbits",
    "add_kick",
    "commit",
    "look_for_partners",
    "measure",
    "pair_up",
    "span",
    "survey",
    "take_partners",
]

Array = NDArray[np.float64]

dot, plus, kick_rates, orbit_sizes, orbit, orbit_rates, orbit_changes = (
    compiled(getattr(body_errors, name))
    for name in (
        *("dot", "plus", "kick_rates", "orbit_sizes", "orbit", "orbit_rates"),
        "orbit_changes",
    )
)


class Orbits(NamedTuple):
    """Room for what is followed of one system, (rows, padded N) each.

    Rows of `gone`, `was`, `now` and of the first four of `off` are of 1/r and R/r.
    """

    followed: bool
    who: NDArray[np.int64]  # (padded N,) partner of each body, itself where there is none
    found: NDArray[np.int64]  # the same, to be taken
    pair: Array  # (2, …) 1 for a body without a partner, otherwise 0; and μ, 1 for such a body
    mean: Array  # (3, …) velocities in the middle of a kick
    gone: Array  # (4, …) Σ h d/dt of the kicks of a step; what the step erred by, once measured
    was: Array  # (4, …) at its start
    now: Array  # (4, …) at its end
    sizes: Array  # (2, …) what errors of energy and shape are relative to
    off: Array  # (7, …) errors of energy and shape (3), shape before; error now, and the largest


ENERGY, KEPT, ERROR, WORST = 0, 4, 5, 6  # rows of `off`


def across(bodies, array, row, who):
    """A row of the partners, less the bodies' own."""
    own = load(bodies, array, row)
    return np.atleast_2d(array)[row][who] - own


@intrinsic
def _across(_context, bodies, array, row, who):
    lanes = Lanes(rounded_up(len(bodies)), array.dtype)

    def codegen(context, builder, made, arguments):
        place = place_in(context, builder, array, arguments[1], arguments[2], lanes)
        first = builder.bitcast(place, lanes.llvm_number.as_pointer())
        index = context.make_array(who)(context, builder, arguments[3]).data
        own = builder.load(place, align=8)
        vector = ir.Constant(lanes.llvm, ir.Undefined)
        for k in range(lanes.width):
            lane = ir.Constant(ir.IntType(32), k)
            if k < len(bodies):
                whom = builder.load(builder.gep(index, [lane], inbounds=True))
                number = builder.load(builder.gep(first, [whom], inbounds=True))
            else:
                number = builder.extract_element(own, lane)
            vector = builder.insert_element(vector, number, lane)
        return builder.fsub(vector, own)

    return lanes(bodies, array, row, who), codegen


@overload(across, jit_options=LAW)
def _across_of(bodies, array, row, who):
    return lambda bodies, array, row, who: _across(bodies, array, row, who)


@njit(**LAW)
def _beside_of_lanes(bodies, orbits, array):
    who = orbits.who
    return (
        across(bodies, array, 0, who),
        across(bodies, array, 1, who),
        across(bodies, array, 2, who),
    )


@njit(**LAW)
def beside(i, orbits, array):
    """Vector from a body to its partner."""
    j = orbits.who[i]
    return array[0, j] - array[0, i], array[1, j] - array[1, i], array[2, j] - array[2, i]


@njit(**LAW)
def _span_of_lanes(bodies, orbits, x, eps2, out):
    R = _beside_of_lanes(bodies, orbits, x)
    inverse = inverse_root(dot(R, R) + (load(bodies, orbits.pair, 0) + eps2))
    store(bodies, out, 0, inverse)
    store(bodies, out, 1, inverse * R[0])
    store(bodies, out, 2, inverse * R[1])
    store(bodies, out, 3, inverse * R[2])


@njit(**LAW)
def _span_of_arrays(bodies, orbits, x, eps2, out):
    for i in range(size(bodies)):
        R = beside(i, orbits, x)
        inverse = inverse_root(dot(R, R) + (orbits.pair[0, i] + eps2))
        out[0, i] = inverse
        for d in range(3):
            out[d + 1, i] = inverse * R[d]


# 1/r and R/r of all bodies beside their partners.
span = either(is_known, _span_of_lanes, _span_of_arrays)


@njit(**LAW)
def _kick_of_lanes(bodies, orbits, x, v, a, kick, eps2):
    half, mean, gone = 0.5 * kick, orbits.mean, orbits.gone
    store(bodies, mean, 0, load(bodies, v, 0) - half * load(bodies, a, 0))
    store(bodies, mean, 1, load(bodies, v, 1) - half * load(bodies, a, 1))
    store(bodies, mean, 2, load(bodies, v, 2) - half * load(bodies, a, 2))
    R, V = _beside_of_lanes(bodies, orbits, x), _beside_of_lanes(bodies, orbits, mean)
    inverse = inverse_root(dot(R, R) + (load(bodies, orbits.pair, 0) + eps2))
    rate, turn = kick_rates(R, V, inverse)
    store(bodies, gone, 0, load(bodies, gone, 0) + kick * rate)
    store(bodies, gone, 1, load(bodies, gone, 1) + kick * turn[0])
    store(bodies, gone, 2, load(bodies, gone, 2) + kick * turn[1])
    store(bodies, gone, 3, load(bodies, gone, 3) + kick * turn[2])


@njit(**LAW)
def _kick_of_arrays(bodies, orbits, x, v, a, kick, eps2):
    half, gone = 0.5 * kick, orbits.gone
    for i in range(size(bodies)):
        R, V, A = beside(i, orbits, x), beside(i, orbits, v), beside(i, orbits, a)
        inverse = inverse_root(dot(R, R) + (orbits.pair[0, i] + eps2))
        rate, turn = kick_rates(R, plus(V, A, -half), inverse)
        gone[0, i] += kick * rate
        for d in range(3):
            gone[d + 1, i] += kick * turn[d]


# Take note of a kick that gave the bodies their velocities, at rest in their positions.
add_kick = either(is_known, _kick_of_lanes, _kick_of_arrays)


@njit(**LAW)
def _measure_of_lanes(bodies, orbits, x, v, eps2):
    span(bodies, orbits, x, eps2, orbits.now)
    R, V = _beside_of_lanes(bodies, orbits, x), _beside_of_lanes(bodies, orbits, v)
    mu, gone, was, now = load(bodies, orbits.pair, 1), orbits.gone, orbits.was, orbits.now
    of_energy, of_shape = orbit_sizes(R, V, mu, load(bodies, now, 0))
    store(bodies, orbits.sizes, 0, of_energy)
    store(bodies, orbits.sizes, 1, of_shape)
    energy = mu * (load(bodies, gone, 0) - (load(bodies, now, 0) - load(bodies, was, 0)))
    e0 = load(bodies, gone, 1) - (load(bodies, now, 1) - load(bodies, was, 1))
    e1 = load(bodies, gone, 2) - (load(bodies, now, 2) - load(bodies, was, 2))
    e2 = load(bodies, gone, 3) - (load(bodies, now, 3) - load(bodies, was, 3))
    store(bodies, gone, 0, energy)
    store(bodies, gone, 1, e0)
    store(bodies, gone, 2, e1)
    store(bodies, gone, 3, e2)
    e = (e0, e1, e2)
    return largest(maximum(absolute(energy) / of_energy, root(dot(e, e)) / of_shape))


@njit(**LAW)
def _measure_of_arrays(bodies, orbits, x, v, eps2):
    span(bodies, orbits, x, eps2, orbits.now)
    gone, was, now, most = orbits.gone, orbits.was, orbits.now, 0.0
    for i in range(size(bodies)):
        mu = orbits.pair[1, i]
        sizes = orbit_sizes(beside(i, orbits, x), beside(i, orbits, v), mu, now[0, i])
        orbits.sizes[0, i], orbits.sizes[1, i] = sizes
        gone[0, i] = mu * (gone[0, i] - (now[0, i] - was[0, i]))
        for d in range(1, 4):
            gone[d, i] -= now[d, i] - was[d, i]
        e = (gone[1, i], gone[2, i], gone[3, i])
        most = max(most, abs(gone[0, i]) / sizes[0], math.sqrt(dot(e, e)) / sizes[1])
    return most


# What a step erred by, into `gone`; returns the largest of it, relative.
measure = either(is_known, _measure_of_lanes, _measure_of_arrays)


@njit(**LAW)
def _commit_of_lanes(bodies, orbits, off):
    gone, now, was = orbits.gone, orbits.now, orbits.was
    energy = load(bodies, off, 0) + load(bodies, gone, 0)
    e0 = load(bodies, off, 1) + load(bodies, gone, 1)
    e1 = load(bodies, off, 2) + load(bodies, gone, 2)
    e2 = load(bodies, off, 3) + load(bodies, gone, 3)
    e = (e0, e1, e2)
    shape = load(bodies, off, KEPT) + root(dot(e, e)) / load(bodies, orbits.sizes, 1)
    error = maximum(absolute(energy) / load(bodies, orbits.sizes, 0), shape)
    store(bodies, off, 0, energy)
    store(bodies, off, 1, e0)
    store(bodies, off, 2, e1)
    store(bodies, off, 3, e2)
    store(bodies, off, ERROR, error)
    store(bodies, off, WORST, maximum(load(bodies, off, WORST), error))
    store(bodies, was, 0, load(bodies, now, 0))
    store(bodies, was, 1, load(bodies, now, 1))
    store(bodies, was, 2, load(bodies, now, 2))
    store(bodies, was, 3, load(bodies, now, 3))


@njit(**LAW)
def _commit_of_arrays(bodies, orbits, off):
    gone, now, was, sizes = orbits.gone, orbits.now, orbits.was, orbits.sizes
    for i in range(size(bodies)):
        for d in range(4):
            off[d, i] += gone[d, i]
            was[d, i] = now[d, i]
        e = (off[1, i], off[2, i], off[3, i])
        shape = off[KEPT, i] + math.sqrt(dot(e, e)) / sizes[1, i]
        off[ERROR, i] = max(abs(off[0, i]) / sizes[0, i], shape)
        off[WORST, i] = max(off[WORST, i], off[ERROR, i])


# Add what a step erred by to what was wrong before.
commit = either(is_known, _commit_of_lanes, _commit_of_arrays)


@njit(**PLAIN)
def pair_up(bodies, orbits, m, G):
    """Make ready for the partners that `who` names."""
    for i in range(size(bodies)):
        j = orbits.who[i]
        orbits.pair[0, i] = 1.0 if j == i else 0.0
        orbits.pair[1, i] = 1.0 if j == i else G * (m[i] + m[j])


@njit(**LAW)
def look_for_partners(bodies, orbits, m, x, G, eps2):
    """Look for partners anew; see `body_errors.partners` and `BodyErrors.look`."""
    pulls, found = orbits.mean, orbits.found  # `mean` is free now
    for i in range(size(bodies)):
        # Apart from the search, which the compiler does not make one over vectors.
        for j in range(active(bodies)):
            r2 = eps2
            for d in range(3):
                r2 += (x[d, j] - x[d, i]) ** 2
            pulls[0, j] = m[j] * pair_weight(r2 if j != i else 1.0)
        pulls[0, i] = 0.0
        most, best = 0.0, i
        for j in range(active(bodies)):
            if pulls[0, j] > most:
                most, best = pulls[0, j], j
        found[i] = best
    take_partners(bodies, orbits, m, x, G, eps2)


@njit(**LAW)
def survey(bodies, axes, m, x, G, eps2, orbits):
    """Potential energy of all pairs; and who pulls each body most, into `found`."""
    potential, most, found = 0.0, orbits.mean, orbits.found
    for i in range(size(bodies)):
        most[0, i], found[i] = 0.0, i
    for i in range(active(bodies)):
        for j in range(i + 1, size(bodies)):
            r2 = eps2
            for d in range(size(axes)):
                r2 += (x[d, j] - x[d, i]) ** 2
            inverse = inverse_root(r2)
            weight = inverse * inverse * inverse
            potential -= m[i] * m[j] * inverse
            if m[j] * weight > most[0, i]:
                most[0, i], found[i] = m[j] * weight, j
            if m[i] * weight > most[0, j]:
                most[0, j], found[j] = m[i] * weight, i
    return G * potential


@njit(**LAW)
def take_partners(bodies, orbits, m, x, G, eps2):
    """Follow all bodies beside those that were found."""
    changed, who, off, found = False, orbits.who, orbits.off, orbits.found
    for i in range(size(bodies)):
        if found[i] != who[i]:
            changed, who[i] = True, found[i]
            e = (off[1, i], off[2, i], off[3, i])
            off[KEPT, i] += math.sqrt(dot(e, e)) / orbits.sizes[1, i]
            off[1, i] = off[2, i] = off[3, i] = 0.0
    if changed:
        pair_up(bodies, orbits, m, G)
        span(bodies, orbits, x, eps2, orbits.was)


@njit(**LAW)
def smooth(bodies, orbits, before, after, h, eps2):
    """Take note of a step that knows acceleration and jerk, (x, v, a, j) each, at both ends."""
    half, twelfth, gone = 0.5 * h, h * h / 12, orbits.gone
    span(bodies, orbits, after[0], eps2, orbits.now)
    for i in range(size(bodies)):
        if orbits.pair[0, i] > 0:
            continue
        mu, was, now = orbits.pair[1, i], orbits.was[0, i], orbits.now[0, i]
        R, V = beside(i, orbits, before[0]), beside(i, orbits, before[1])
        w0, e0 = orbit(R, V, mu, was)
        A, J = beside(i, orbits, before[2]), beside(i, orbits, before[3])
        a0, b0, c0, d0 = orbit_rates(R, V, A, J, mu, was, eps2)
        R, V = beside(i, orbits, after[0]), beside(i, orbits, after[1])
        w1, e1 = orbit(R, V, mu, now)
        A, J = beside(i, orbits, after[2]), beside(i, orbits, after[3])
        a1, b1, c1, d1 = orbit_rates(R, V, A, J, mu, now, eps2)
        energy = w1 - w0 - half * (a0 + a1) - twelfth * (b0 - b1)
        # As if it had been the kicks of a splitting.
        gone[0, i] = (now - was) + energy / mu
        for d in range(3):
            shape = e1[d] - e0[d] - half * (c0[d] + c1[d]) - twelfth * (d0[d] - d1[d])
            gone[d + 1, i] = (orbits.now[d + 1, i] - orbits.was[d + 1, i]) + shape
