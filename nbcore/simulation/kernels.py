"""The compiled loop: steps, forces, conserved quantities and records of one system after another.

Everything here is compiled by numba. Vectors are stored (3, N), axis by axis, so that loops over
bodies vectorise; planar systems have zeros for the third axis. `bodies` stands for N: a tuple of
that length makes N a constant of the compiled code, whose loops then are unrolled; a plain integer
leaves it open. The pair laws are those of `physics.gravity`, wrapped and not written again.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit, types
from numba.extending import overload
from numpy.typing import NDArray

from nbcore.physics import elementwise, gravity
from nbcore.simulation.status import Status
from nbcore.stepping import criteria, features
from nbcore.stepping.control import LARGEST_JUMP
from nbcore.stepping.criteria import CRITERIA
from nbcore.stepping.models import ACTIVATIONS as _ACTIVATIONS
from nbcore.stepping.models import LARGEST_INPUT

__all__ = [
    "ACTIVATIONS",
    "FIXED",
    "LEARNED",
    "RULES",
    "UNROLLED",
    "Method",
    "Network",
    "Records",
    "Rule",
    "Systems",
    "run",
]

Array = NDArray[np.float64]

# 1/√r² rather than a power, sums in any order, fused multiply-adds: the last bits may differ from
# torch's, and are the same in every run.
_LAW: Any = {"error_model": "numpy", "fastmath": {"afn", "contract", "nsz", "reassoc"}}
_PLAIN: Any = {"error_model": "numpy", "fastmath": {"contract"}}

pair_weight, pair_alpha, pair_beta, pair_gamma, pair_first, pair_second, pair_third = (
    njit(**_LAW)(getattr(gravity, f"pair_{name}"))
    for name in ("weight", "alpha", "beta", "gamma", "first", "second", "third")
)
pair_rate4 = njit(**_LAW)(criteria.pair_rate4)

overload(elementwise.where, jit_options=_LAW)(
    lambda condition, a, b: lambda condition, a, b: a if condition else b
)
overload(elementwise.log, jit_options=_LAW)(lambda value: lambda value: math.log(value))
overload(elementwise.minimum, jit_options=_LAW)(lambda a, b: lambda a, b: a if a <= b else b)
overload(elementwise.clamp, jit_options=_LAW)(
    lambda value, least, most: lambda value, least, most: min(max(value, least), most)
)
overload(elementwise.quotient, jit_options=_LAW)(
    lambda numerator, denominator, otherwise: (
        lambda numerator, denominator, otherwise: (
            numerator / denominator if denominator > 0 else otherwise
        )
    )
)

RUNNING, SUCCESS = int(Status.RUNNING), int(Status.SUCCESS)
MAX_STEPS, DT_UNDERFLOW = int(Status.MAX_STEPS), int(Status.DT_UNDERFLOW)
NON_FINITE = int(Status.NON_FINITE)
COLLISION, ESCAPE = int(Status.COLLISION), int(Status.ESCAPE)

FIXED, LEARNED = -1, -2
UNROLLED = 8  # bodies up to which N is a constant of the compiled code


class Systems(NamedTuple):
    """Where every system of a batch stands; all that a run needs to go on from here."""

    mass: Array  # (B, N)
    position: Array  # (B, 3, N)
    velocity: Array
    acceleration: Array
    time: Array  # (B,)
    dt: Array  # of the step to come
    made: Array  # the step before; NaN at the start
    status: NDArray[np.int64]
    n_steps: NDArray[np.int64]
    max_errors: Array  # (B, 3)
    initial: Array  # (B, 7) energy, momentum, angular momentum
    scale: Array  # (B, 3) of their errors
    t_end: Array


class Method(NamedTuple):
    """How steps are made."""

    kicks: Array
    drifts: Array
    G: float
    softening: float
    reversible: bool
    max_steps: int
    collision_distance: float  # 0: none
    escape_distance: float  # inf: none


class Rule(NamedTuple):
    """What chooses the steps."""

    kind: int  # FIXED, LEARNED, or a number of RULES
    order: int  # derivatives of the position that it needs, less one
    factor: Array  # (B,) dt, or what multiplies τ


class Network(NamedTuple):
    """A learned policy; see `stepping.policies.LearnedPolicy` and `stepping.models`."""

    features: NDArray[np.int64]  # places in SCALE_FREE
    log_tolerance: Array  # (B,)
    mean: Array  # (F,) of the inputs
    deviation: Array
    widths: NDArray[np.int64]  # of the layers, inputs and output among them
    weights: NDArray  # layer by layer, each (inputs, outputs) and then its biases
    activation: int
    bound: float  # logarithm of the largest correction


class Records(NamedTuple):
    """Where records go; row k of the run is row k − offset of the arrays."""

    every: int  # 0: none but those at `times`
    times: Array
    row: NDArray[np.int64]  # (B,) next row
    offset: int
    time: Array  # (B, rows)
    dt: Array
    energy_error: Array
    momentum_error: Array
    angular_momentum_error: Array
    position: Array  # (B, rows, N, D)
    velocity: Array


def size(bodies):
    """N, from what stands for it."""
    return len(bodies) if isinstance(bodies, tuple) else bodies


@overload(size)
def _size(bodies):
    if isinstance(bodies, types.BaseTuple):
        count = len(bodies)
        return lambda bodies: count
    return lambda bodies: bodies


def accelerate(bodies, m, x, G, softening, a):
    """Accelerations into a (3, N); returns the potential energy."""
    return _triangle(bodies, m, x, G, softening, a)


@overload(accelerate, jit_options=_LAW)
def _accelerate(bodies, m, x, G, softening, a):
    return _triangle.py_func if isinstance(bodies, types.BaseTuple) else _square.py_func


@njit(**_LAW)
def _triangle(bodies, m, x, G, softening, a):
    """Every pair once: the quickest way for few bodies."""
    eps2, potential = softening * softening, 0.0
    for d in range(3):
        for i in range(size(bodies)):
            a[d, i] = 0.0
    for i in range(size(bodies)):
        a0 = a1 = a2 = phi = 0.0
        for j in range(i + 1, size(bodies)):
            R0, R1, R2 = x[0, j] - x[0, i], x[1, j] - x[1, i], x[2, j] - x[2, i]
            r2 = R0 * R0 + R1 * R1 + R2 * R2 + eps2
            w = G * pair_weight(r2)
            phi += m[j] * w * r2
            ours, theirs = m[j] * w, m[i] * w
            a0 += ours * R0
            a1 += ours * R1
            a2 += ours * R2
            a[0, j] -= theirs * R0
            a[1, j] -= theirs * R1
            a[2, j] -= theirs * R2
        a[0, i] += a0
        a[1, i] += a1
        a[2, i] += a2
        potential -= m[i] * phi
    return potential


@njit(**_LAW)
def _square(bodies, m, x, G, softening, a):
    """Every pair twice, body by body: the loop over the others vectorises."""
    eps2, potential = softening * softening, 0.0
    for i in range(size(bodies)):
        a0 = a1 = a2 = phi = 0.0
        x0, x1, x2 = x[0, i], x[1, i], x[2, i]
        for j in range(size(bodies)):
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
        potential -= m[i] * phi
    return 0.5 * G * potential


@njit(**_PLAIN)
def step(bodies, m, x, v, a, h, kicks, drifts, G, softening):
    """Splitting step of length h in place; returns the potential energy at its end."""
    potential = 0.0
    for k in range(len(drifts)):
        kick, drift = kicks[k] * h, drifts[k] * h
        for d in range(3):
            for i in range(size(bodies)):
                v[d, i] += kick * a[d, i]
                x[d, i] += drift * v[d, i]
        potential = accelerate(bodies, m, x, G, softening, a)
    kick = kicks[len(drifts)] * h
    for d in range(3):
        for i in range(size(bodies)):
            v[d, i] += kick * a[d, i]
    return potential


@njit(**_PLAIN)
def kinetic_energy(bodies, m, v):
    """½ Σ m v²."""
    total = 0.0
    for i in range(size(bodies)):
        total += m[i] * (v[0, i] * v[0, i] + v[1, i] * v[1, i] + v[2, i] * v[2, i])
    return 0.5 * total


@njit(**_PLAIN)
def changes(bodies, m, x, v, energy, initial):
    """|ΔE|, |ΔP|² and |ΔL|² since the start."""
    momentum2 = angular2 = 0.0
    for d in range(3):
        e, f = (d + 1) % 3, (d + 2) % 3
        momentum, angular = -initial[1 + d], -initial[4 + d]
        for i in range(size(bodies)):
            momentum += m[i] * v[d, i]
            angular += m[i] * (x[e, i] * v[f, i] - x[f, i] * v[e, i])
        momentum2 += momentum * momentum
        angular2 += angular * angular
    return abs(energy - initial[0]), momentum2, angular2


@njit(**_PLAIN)
def all_finite(bodies, x, v):
    """Whether every coordinate is a finite number."""
    total = 0.0
    for d in range(3):
        for i in range(size(bodies)):
            total += (x[d, i] - x[d, i]) + (v[d, i] - v[d, i])
    return total == 0.0


@njit(**_PLAIN)
def closest(bodies, x):
    """Smallest separation of two bodies."""
    least = math.inf
    for i in range(size(bodies)):
        for j in range(i + 1, size(bodies)):
            r2 = 0.0
            for d in range(3):
                r2 += (x[d, j] - x[d, i]) ** 2
            least = min(least, r2)
    return least**0.5


@njit(**_PLAIN)
def farthest(bodies, m, x):
    """Largest distance from the centre of mass."""
    mass = 0.0
    for i in range(size(bodies)):
        mass += m[i]
    most = 0.0
    for i in range(size(bodies)):
        r2 = 0.0
        for d in range(3):
            centre = 0.0
            for k in range(size(bodies)):
                centre += m[k] / mass * x[d, k]
            r2 += (x[d, i] - centre) ** 2
        most = max(most, r2)
    return most**0.5


@njit(**_LAW)
def smooth_time_scale(bodies, m, x, v, G, softening, rate4):
    """√(ΣP⁸/ΣP¹⁰), the largest rate taken out so that no unit overflows."""
    eps2, largest4, pair = softening * softening, 0.0, 0
    for i in range(size(bodies)):
        for j in range(i + 1, size(bodies)):
            r2, v2 = eps2, 0.0
            for d in range(3):
                r2 += (x[d, j] - x[d, i]) ** 2
                v2 += (v[d, j] - v[d, i]) ** 2
            rate4[pair] = pair_rate4(r2, v2, G * (m[i] + m[j]))
            largest4 = max(largest4, rate4[pair])
            pair += 1
    eighth, tenth = 0.0, 0.0
    for k in range(pair):
        share = rate4[k] / largest4
        eighth += share * share
        tenth += share * share * share**0.5
    return (eighth / tenth) ** 0.5 / (largest4**0.5) ** 0.5


def _one_of(laws):
    """A compiled function (k, *arguments) that calls the k-th law."""
    first = njit(**_LAW)(laws[0])
    if len(laws) == 1:
        return njit(**_LAW)(lambda k, a, b, c, d: first(a, b, c, d))
    others = _one_of(laws[1:])
    return njit(**_LAW)(
        lambda k, a, b, c, d: first(a, b, c, d) if k == 0 else others(k - 1, a, b, c, d)
    )


_PAIRS = [name for name, row in CRITERIA.items() if row.pair]
_BODIES = [name for name, row in CRITERIA.items() if row.body]
_WHOLE = ["boekholt", "tidal", "softened_acceleration"]
RULES = {name: k for k, name in enumerate((*_PAIRS, *_BODIES, *_WHOLE))}
FIRST_BODY, BOEKHOLT = len(_PAIRS), RULES["boekholt"]
TIDAL = RULES["tidal"]
pair_law = _one_of([CRITERIA[name].pair for name in _PAIRS])
body_law = _one_of([CRITERIA[name].body for name in _BODIES])


@njit(**_LAW)
def least_of_pairs(bodies, m, x, v, G, softening, kind):
    """√ of the least τ² of a law of pairs."""
    eps2, least = softening * softening, math.inf
    for i in range(size(bodies)):
        for j in range(i + 1, size(bodies)):
            r2, v2, rv = eps2, 0.0, 0.0
            for d in range(3):
                R, V = x[d, j] - x[d, i], v[d, j] - v[d, i]
                r2 += R * R
                v2 += V * V
                rv += R * V
            least = elementwise.minimum(pair_law(kind, r2, v2, rv, G * (m[i] + m[j])), least)
    return least**0.5


@njit(**_LAW)
def derivative(bodies, m, x, v, a, jerk, snap, G, softening, order, out):
    """Jerk (order 2), snap (3) or crackle (4) into (3, N), from those before it."""
    eps2 = softening * softening
    for d in range(3):
        for i in range(size(bodies)):
            out[d, i] = 0.0
    for i in range(size(bodies)):
        for j in range(size(bodies)):
            if i == j:
                continue
            r2, v2, rv, ra, va, rj = eps2, 0.0, 0.0, 0.0, 0.0, 0.0
            for d in range(3):
                R, V = x[d, j] - x[d, i], v[d, j] - v[d, i]
                A, J = a[d, j] - a[d, i], jerk[d, j] - jerk[d, i]
                r2 += R * R
                v2 += V * V
                rv += R * V
                ra += R * A
                va += V * A
                rj += R * J
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


@njit(**_PLAIN)
def length(vectors, i):
    """Size of the vector of body i."""
    return (vectors[0, i] ** 2 + vectors[1, i] ** 2 + vectors[2, i] ** 2) ** 0.5


@njit(**_LAW)
def least_of_bodies(bodies, m, x, v, a, G, softening, kind, order):
    """√ of the least τ² of a law of bodies, from the derivatives of the acceleration."""
    n = size(bodies)
    jerk, snap, crackle = np.zeros((3, n)), np.zeros((3, n)), np.zeros((3, n))
    derivative(bodies, m, x, v, a, jerk, snap, G, softening, 2, jerk)
    derivative(bodies, m, x, v, a, jerk, snap, G, softening, 3, snap)
    if order > 3:
        derivative(bodies, m, x, v, a, jerk, snap, G, softening, 4, crackle)
    least = math.inf
    for i in range(n):
        tau2 = body_law(kind, length(a, i), length(jerk, i), length(snap, i), length(crackle, i))
        least = elementwise.minimum(tau2, least)
    return least**0.5


@njit(**_LAW)
def tidal_time(bodies, m, x, G, softening, n_dimensions):
    """√(√6/‖∇a‖) of the body in the strongest tide; see `criteria.tidal`."""
    eps2, strongest = softening * softening, 0.0
    for i in range(size(bodies)):
        norm2 = 0.0
        for d in range(n_dimensions):
            for e in range(n_dimensions):
                T = 0.0
                for j in range(size(bodies)):
                    if i == j:
                        continue
                    r2 = eps2
                    for f in range(3):
                        r2 += (x[f, j] - x[f, i]) ** 2
                    stretch = 3 * (x[d, j] - x[d, i]) * (x[e, j] - x[e, i]) / r2
                    T += m[j] * pair_weight(r2) * (stretch - (1.0 if d == e else 0.0))
                norm2 += T * T
        strongest = max(strongest, norm2)
    return (6**0.5 / (G * strongest**0.5)) ** 0.5


@njit(**_LAW)
def softened_time(bodies, a, softening):
    """√(2 ε/a) of the most accelerated body."""
    most = 0.0
    for i in range(size(bodies)):
        most = max(most, length(a, i))
    return (2 * softening / most) ** 0.5


@njit(**_PLAIN)
def time_scale(bodies, m, x, v, a, G, softening, kind, order, n_dimensions, scratch):
    """τ of a criterion."""
    if kind == BOEKHOLT:
        return smooth_time_scale(bodies, m, x, v, G, softening, scratch)
    if kind < FIRST_BODY:
        return least_of_pairs(bodies, m, x, v, G, softening, kind)
    if kind < BOEKHOLT:
        return least_of_bodies(bodies, m, x, v, a, G, softening, kind - FIRST_BODY, order)
    if kind == TIDAL:
        return tidal_time(bodies, m, x, G, softening, n_dimensions)
    return softened_time(bodies, a, softening)


_LAWS = ("fly_by", "binding", "radial", "heaviness", "asymmetry", "perturbation")
_LOGS = ("crowding", "rate_contrast", "compactness", "virial")
fly_by, binding, radial, heaviness, asymmetry, perturbation = (
    njit(**_LAW)(getattr(features, name)) for name in _LAWS
)
crowding, rate_contrast, compactness, virial = (
    njit(**_LAW)(getattr(features, name)) for name in _LOGS
)
ACTIVATIONS = {name: k for k, name in enumerate(_ACTIVATIONS)}
SCALE_FREE = {name: k for k, name in enumerate((*_LAWS, *_LOGS))}


@njit(**_LAW)
def scale_free(bodies, m, x, v, a, G, softening, rate4, out):
    """Features by their place in SCALE_FREE into `out`; returns the smooth time scale."""
    tau = smooth_time_scale(bodies, m, x, v, G, softening, rate4)
    n_pairs = size(bodies) * (size(bodies) - 1) // 2
    largest4, total = 0.0, 0.0
    for k in range(n_pairs):
        largest4 = max(largest4, rate4[k])
    for i in range(size(bodies)):
        total += m[i]
    for k in range(6):
        out[k] = 0.0
    eps2, pair, sum1, sum2 = softening * softening, 0, 0.0, 0.0
    mean_r2 = mean_v2 = mean_inverse = mean_rate4 = 0.0
    for i in range(size(bodies)):
        for j in range(i + 1, size(bodies)):
            r2, v2, rv, excess2 = eps2, 0.0, 0.0, 0.0
            for d in range(3):
                R, V = x[d, j] - x[d, i], v[d, j] - v[d, i]
                r2 += R * R
                v2 += V * V
                rv += R * V
            mu = G * (m[i] + m[j])
            own = mu * pair_weight(r2)
            for d in range(3):
                excess = a[d, j] - a[d, i] + own * (x[d, j] - x[d, i])
                excess2 += excess * excess
            share = (rate4[pair] / largest4) ** 2
            sum1 += share
            sum2 += share * share
            out[0] += share * fly_by(r2, v2, rv, mu)
            out[1] += share * binding(r2, v2, rv, mu)
            out[2] += share * radial(r2, v2, rv, mu)
            out[3] += share * heaviness(m[i], m[j], total)
            out[4] += share * asymmetry(m[i], m[j], total)
            out[5] += share * math.log1p(perturbation(excess2, r2, mu))
            mean_r2 += r2 / n_pairs
            mean_v2 += v2 / n_pairs
            mean_inverse += 1 / r2**0.5 / n_pairs
            mean_rate4 += rate4[pair] / n_pairs
            pair += 1
    for k in range(6):
        out[k] /= sum1
    out[6] = crowding(sum2 / (sum1 * sum1))
    out[7] = rate_contrast(tau, mean_rate4)
    out[8] = compactness(tau, G * total, mean_r2)
    out[9] = virial(mean_v2, G * total, mean_inverse)
    return tau


@njit(**_LAW)
def activate(kind, values, count):
    """Activation by its place in ACTIVATIONS, in place."""
    one = values.dtype.type(1)
    half = values.dtype.type(0.5)
    for k in range(count):
        x = values[k]
        if kind == 0:
            values[k] = x / (one + abs(x))
        elif kind == 1:
            values[k] = math.tanh(x)
        elif kind == 2:
            values[k] = max(x, x - x)
        elif kind == 3:
            values[k] = half * x * (one + math.erf(x * values.dtype.type(0.5**0.5)))
        else:
            values[k] = x / (one + math.exp(-x))


@njit(**_LAW)
def infer(network, log_tolerance, seen, here, there):
    """Logarithm of the correction; `here` and `there` hold the values of two layers."""
    names, _, mean, deviation, widths, weights, activation, bound = network
    for k in range(widths[0]):
        raw = log_tolerance if k == 0 else seen[names[k - 1]]
        z = (raw - mean[k]) / deviation[k]
        here[k] = min(max(z, -LARGEST_INPUT), LARGEST_INPUT)
    place, n_layers = 0, len(widths) - 1
    for layer in range(n_layers):
        n_in, n_out = widths[layer], widths[layer + 1]
        biases = place + n_in * n_out
        for o in range(n_out):
            there[o] = weights[biases + o]
        for i in range(n_in):
            value = here[i]
            for o in range(n_out):
                there[o] += value * weights[place + o]
            place += n_out
        place += n_out
        if layer < n_layers - 1:
            activate(activation, there, n_out)
        for o in range(n_out):
            here[o] = there[o]
    return bound * math.tanh(here[0] / bound)


@njit(**_PLAIN)
def reversible(previous, proposed):
    """Step that follows `previous`; see `stepping.control.reversible`."""
    inverse = 2 / proposed - 1 / previous
    ratio = 1 / (previous * inverse)
    steady = inverse > 0 and ratio < LARGEST_JUMP and ratio > 1 / LARGEST_JUMP
    return 1 / inverse if steady else proposed


@njit(**_PLAIN)
def copy(bodies, source, target):
    """Copy (3, N)."""
    for d in range(3):
        for i in range(size(bodies)):
            target[d, i] = source[d, i]


@njit(**_PLAIN)
def write(bodies, records, b, row, time, dt, de, dp2, dl2, scale, x, v):
    """Put a record into a row of a system."""
    k = row - records.offset
    records.time[b, k], records.dt[b, k] = time, dt
    records.energy_error[b, k] = de / scale[0]
    records.momentum_error[b, k] = dp2**0.5 / scale[1]
    records.angular_momentum_error[b, k] = dl2**0.5 / scale[2]
    for d in range(records.position.shape[3]):
        for i in range(size(bodies)):
            records.position[b, k, i, d] = x[d, i]
            records.velocity[b, k, i, d] = v[d, i]


@njit(**_PLAIN)
def judge(bodies, m, x, collision, escape, status):
    """Status after a step where bodies may meet or escape; of several reasons the first counts."""
    if collision > 0 and closest(bodies, x) < collision:
        return COLLISION
    if escape < math.inf and farthest(bodies, m, x) > escape:
        return ESCAPE
    return status


@njit(nogil=True, **_PLAIN)
def run(bodies, systems, method, rule, network, records, first, last, quota):
    """Advance systems first … last − 1 by at most `quota` steps each, or until rows run out."""
    n = size(bodies)
    x, v, a = np.empty((3, n)), np.empty((3, n)), np.empty((3, n))
    x0, v0, a0 = np.empty((3, n)), np.empty((3, n)), np.empty((3, n))
    xt, vt, at = np.empty((3, n)), np.empty((3, n)), np.empty((3, n))
    seen, widest = np.empty(10), network.widths.max()
    here, there = np.empty(widest, network.weights.dtype), np.empty(widest, network.weights.dtype)
    # Out of their tuples, so that no reference is counted in the loop.
    kicks, drifts, G, softening, is_reversible, max_steps, collision, escape = method
    kind, order, factors = rule
    scratch = np.empty(0 if kind == FIXED else n * (n - 1) // 2)
    n_dimensions = records.position.shape[3]
    times, rows, n_times = records.times, records.row, len(records.times)
    every, full = records.every, records.offset + records.time.shape[1]
    watched = collision > 0 or escape < math.inf
    for b in range(first, last):
        if systems.status[b] != RUNNING:
            continue
        m, initial, scale = systems.mass[b], systems.initial[b], systems.scale[b]
        copy(bodies, systems.position[b], x)
        copy(bodies, systems.velocity[b], v)
        copy(bodies, systems.acceleration[b], a)
        time, dt, t_end = systems.time[b], systems.dt[b], systems.t_end[b]
        n_steps, status, factor = systems.n_steps[b], RUNNING, factors[b]
        worst0, worst1, worst2 = 0.0, 0.0, 0.0
        made, row = systems.made[b], rows[b]
        next_time = times[row] if row < n_times else math.inf
        for _ in range(quota):
            if row >= full and (every > 0 or row < n_times):
                break
            remaining = t_end - time
            # A remainder of rounding size is not worth a step of its own.
            is_last = dt >= remaining * (1 - 1e-12)
            h = remaining if is_last else dt
            if not time + h > time:  # true for NaN, too
                status = DT_UNDERFLOW if math.isfinite(h) else NON_FINITE
                break
            copy(bodies, x, x0)
            copy(bodies, v, v0)
            copy(bodies, a, a0)
            potential = step(bodies, m, x, v, a, h, kicks, drifts, G, softening)
            energy = kinetic_energy(bodies, m, v) + potential
            if not math.isfinite(energy) and not all_finite(bodies, x, v):
                copy(bodies, x0, x)
                copy(bodies, v0, v)
                copy(bodies, a0, a)
                status = NON_FINITE
                break
            before, time = time, t_end if is_last else time + h
            n_steps += 1
            de, dp2, dl2 = changes(bodies, m, x, v, energy, initial)
            worst0, worst1, worst2 = max(worst0, de), max(worst1, dp2), max(worst2, dl2)
            if is_last:
                status = SUCCESS
            elif n_steps >= max_steps:
                status = MAX_STEPS
            if watched:
                status = judge(bodies, m, x, collision, escape, status)
            made = h
            if every > 0 and n_steps % every == 0:
                write(bodies, records, b, row, time, h, de, dp2, dl2, scale, x, v)
                row += 1
            while next_time <= time:
                copy(bodies, x0, xt)
                copy(bodies, v0, vt)
                copy(bodies, a0, at)
                part = next_time - before
                potential = step(bodies, m, xt, vt, at, part, kicks, drifts, G, softening)
                energy = kinetic_energy(bodies, m, vt) + potential
                de, dp2, dl2 = changes(bodies, m, xt, vt, energy, initial)
                write(bodies, records, b, row, next_time, h, de, dp2, dl2, scale, xt, vt)
                row += 1
                next_time = times[row] if row < n_times else math.inf
            if status != RUNNING:
                break
            if kind == LEARNED:
                tau = scale_free(bodies, m, x, v, a, G, softening, scratch, seen)
                correction = infer(network, network.log_tolerance[b], seen, here, there)
                dt = factor * tau * math.exp(correction)
            elif kind != FIXED:
                tau = time_scale(
                    bodies, m, x, v, a, G, softening, kind, order, n_dimensions, scratch
                )
                dt = factor * tau
            else:
                dt = factor
            if is_reversible:
                dt = reversible(h, dt)
        due = n_steps % every != 0 if every > 0 else n_steps > 0 and n_times == 0
        if status != RUNNING and due:
            potential = accelerate(bodies, m, x, G, softening, at)
            energy = kinetic_energy(bodies, m, v) + potential
            de, dp2, dl2 = changes(bodies, m, x, v, energy, initial)
            write(bodies, records, b, row, time, made, de, dp2, dl2, scale, x, v)
            row += 1
        copy(bodies, x, systems.position[b])
        copy(bodies, v, systems.velocity[b])
        copy(bodies, a, systems.acceleration[b])
        systems.time[b], systems.dt[b], systems.made[b] = time, dt, made
        systems.n_steps[b], systems.status[b], rows[b] = n_steps, status, row
        worst = systems.max_errors[b]
        worst[0] = max(worst[0], worst0 / scale[0])
        worst[1] = max(worst[1], worst1**0.5 / scale[1])
        worst[2] = max(worst[2], worst2**0.5 / scale[2])
