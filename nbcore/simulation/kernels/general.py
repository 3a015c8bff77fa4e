"""Learned policies that see more: statistics of the state, past steps, Fourier features.

Nothing is known to the compiler here but the number of bodies; see `learned` for the quick way.
"""

from __future__ import annotations

import math
from collections import namedtuple
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from nbcore.physics.compiled import LAW, PLAIN, holding
from nbcore.simulation.kernels.learned import SEEN, activate, see
from nbcore.simulation.kernels.rules import length
from nbcore.simulation.kernels.shapes import either, is_a, size, vectors
from nbcore.stepping.features import DELTA_FEATURES
from nbcore.stepping.layers import LARGEST_INPUT

__all__ = ["KNOWN", "MEMORY", "General", "general", "keep", "looks_back", "recall", "remember"]

Array = NDArray[np.float64]

# What `describe` computes: a name is here only with its number, or nothing would compile.
Described = namedtuple(
    "Described",
    [
        *("n_bodies", "n_dimensions", "total_mass"),
        *(
            f"{kind}_{what}"
            for what in ("mass", "distance", "speed", "acceleration", "separation")
            for kind in ("mean", "min", "max", "rms")
        ),
        "softening",
    ],
)
KNOWN = (*SEEN, *Described._fields)
N_DELTAS = len(DELTA_FEATURES)
MEMORY = ("deltas", "remembered")  # of a `General`, that a run changes


class General(NamedTuple):
    """A policy of any features."""

    factor: Array  # (B,) c tol^(1/p)
    order: int  # p
    unit4: Array  # (B,) of P⁴, so that no unit overflows
    energy_unit: Array  # (B,) G/|E|
    log_tolerance: Array  # (B,)
    sees: tuple[int, ...]  # as of `Learned`: the whole system
    features: NDArray[np.int64]  # places in KNOWN
    scales: Array  # (B, 4) units of length, speed, acceleration and time
    history: int  # past steps that it looks back on
    oldest: bool  # whether the oldest one fills the history before there are enough
    deltas: Array  # (B, history, 10), the newest first
    remembered: Array  # (B, 1) steps so far
    mean: Array  # (F,) of the inputs
    deviation: Array
    frequencies: NDArray[Any]  # (F, n) of Fourier features; n = 0: none
    widths: NDArray[np.int64]  # of the layers, inputs and output among them
    weights: NDArray[Any]  # layer by layer, each (inputs, outputs) and then its biases
    activation: int
    bound: float


@njit(**PLAIN)
def _has_history(rule):
    return rule.history > 0


@njit(**holding(PLAIN))
def _room(rule):
    return np.empty(rule.deltas.shape[1:]), np.empty(1)


@njit(**PLAIN)
def _recall(rule, b, memory):
    # Number by number: to copy an array takes one that is held.
    deltas, remembered = memory
    for k in range(rule.history):
        for f in range(N_DELTAS):
            deltas[k, f] = rule.deltas[b, k, f]
    remembered[0] = rule.remembered[b, 0]


@njit(**PLAIN)
def _keep(rule, b, memory):
    deltas, remembered = memory
    for k in range(rule.history):
        for f in range(N_DELTAS):
            rule.deltas[b, k, f] = deltas[k, f]
    rule.remembered[b, 0] = remembered[0]


@njit(**holding(LAW))
def _remember(bodies, rule, b, memory, x0, v0, a0, x, v, a, h):
    if rule.history == 0:
        return
    deltas, remembered = memory
    for k in range(rule.history - 1, 0, -1):
        for f in range(N_DELTAS):
            deltas[k, f] = deltas[k - 1, f]
    change, place = vectors(bodies), 0
    for before, after, unit in ((x0, x, 0), (v0, v, 1), (a0, a, 2)):
        for d in range(3):
            for i in range(size(bodies)):
                change[d, i] = after[d, i] - before[d, i]
        mean, most, square = 0.0, 0.0, 0.0
        for i in range(size(bodies)):
            one = length(change, i) / rule.scales[b, unit]
            mean += one
            most = max(most, one)
            square += one * one
        deltas[0, place] = mean / size(bodies)
        deltas[0, place + 1] = most
        deltas[0, place + 2] = (square / size(bodies)) ** 0.5
        place += 3
    deltas[0, place] = h / rule.scales[b, 3]
    remembered[0] += 1


@njit(**PLAIN)
def _no(*_):
    return False


is_general = is_a(General)
looks_back = either(is_general, _has_history, _no)  # whether a rule must be told of every step
memory_of = either(is_general, _room, _no, options=holding(LAW))  # room for what it remembers
recall = either(is_general, _recall, _no)  # puts there what it remembers of a system
keep = either(is_general, _keep, _no)  # stores that
remember = either(is_general, _remember, _no, place=1, options=holding(LAW))  # adds a step to it


@njit(**PLAIN)
def four(values, count):
    """Mean, minimum, maximum and root mean square."""
    mean, least, most, square = 0.0, math.inf, -math.inf, 0.0
    for k in range(count):
        mean += values[k]
        least, most = min(least, values[k]), max(most, values[k])
        square += values[k] * values[k]
    return mean / count, least, most, (square / count) ** 0.5


@njit(**PLAIN)
def sizes(vector, origin, unit, count, values):
    """Distances of vectors from an origin, in a unit: their `four`; `values` is room for them."""
    for i in range(count):
        r2 = 0.0
        for d in range(3):
            r2 += (vector[d, i] - origin[d]) ** 2
        values[i] = r2**0.5 / unit
    return four(values, count)


@njit(**holding(PLAIN))
def describe(bodies, axes, scales, m, x, v, a, eps2):
    """Statistics of a state."""
    n = size(bodies)
    values = np.empty(n * (n - 1) // 2 + n)
    centre, drift, mass = np.zeros(3), np.zeros(3), 0.0
    for i in range(n):
        mass += m[i]
    for d in range(3):
        for i in range(n):
            centre[d] += m[i] / mass * x[d, i]
            drift[d] += m[i] / mass * v[d, i]
    distances = sizes(x, centre, scales[0], n, values)
    speeds = sizes(v, drift, scales[1], n, values)
    pulls = sizes(a, np.zeros(3), scales[2], n, values)
    pair = 0
    for i in range(n):
        for j in range(i + 1, n):
            r2 = 0.0
            for d in range(3):
                r2 += (x[d, j] - x[d, i]) ** 2
            values[pair] = r2**0.5 / scales[0]
            pair += 1
    separations = four(values, pair)
    first = (float(n), float(size(axes)), mass)
    numbers = first + four(m, n) + distances + speeds + pulls + separations
    return Described(*(*numbers, eps2**0.5 / scales[0]))


@njit(**holding(LAW))
def general(bodies, axes, rule, memory, field, b, m, x, v, a, time, G, eps2):
    """Factor τ exp(correction)."""
    log_tau, seen = see(bodies, axes, rule, b, m, x, v, a, G, eps2)
    described = describe(bodies, axes, rule.scales[b], m, x, v, a, eps2)
    known = np.empty(len(seen) + len(described))
    for k in range(len(seen)):
        known[k] = seen[k]
    for k in range(len(described)):
        known[len(seen) + k] = described[k]
    inputs = np.empty(len(rule.mean))
    for k in range(len(rule.features)):
        inputs[k] = known[rule.features[k]]
    place, deltas, filled = len(rule.features), memory[0], memory[1][0]
    for k in range(rule.history):
        row = min(k, int(max(filled, 1.0)) - 1) if rule.oldest else k
        for f in range(N_DELTAS):
            inputs[place] = deltas[row, f]
            place += 1
    return rule.factor[b] * math.exp(log_tau + infer(rule, inputs))


@njit(**holding(LAW))
def infer(rule, inputs):
    """Logarithm of the correction."""
    number, widths, weights = rule.weights.dtype.type, rule.widths, rule.weights
    widest = max(widths.max(), len(inputs))
    here, there = np.empty(widest, weights.dtype), np.empty(widest, weights.dtype)
    for k in range(len(inputs)):
        z = (inputs[k] - rule.mean[k]) / rule.deviation[k]
        here[k] = min(max(z, -LARGEST_INPUT), LARGEST_INPUT)
    n_waves = rule.frequencies.shape[1]
    if n_waves:
        for w in range(n_waves):
            phase = number(0)
            for k in range(len(inputs)):
                phase += number(2 * math.pi) * here[k] * rule.frequencies[k, w]
            there[w], there[n_waves + w] = math.sin(phase), math.cos(phase)
        here, there = there, here
    place, n_layers = 0, len(widths) - 1
    for k in range(n_layers):
        n_in, n_out = widths[k], widths[k + 1]
        for o in range(n_out):
            there[o] = weights[place + n_in * n_out + o]
        for i in range(n_in):
            for o in range(n_out):
                there[o] += here[i] * weights[place + i * n_out + o]
        place += (n_in + 1) * n_out
        if k < n_layers - 1:
            activate(rule.activation, there, n_out)
        here, there = there, here
    return min(max(float(here[0]), -rule.bound), rule.bound)
