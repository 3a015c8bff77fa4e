"""The first contact or escape within a step; see `simulation.events`."""

from __future__ import annotations

import math
from typing import NamedTuple

from numba import njit

from nbcore.physics.compiled import APART, LAW, PLAIN, compiled, holding
from nbcore.physics.elementwise import inverse_root
from nbcore.simulation import events
from nbcore.simulation.events import (
    COARSEST,
    DEPTH,
    FINEST,
    MISSES,
    NEAR,
    PATIENCE,
    PLUNGE,
)
from nbcore.simulation.kernels.advance import within
from nbcore.simulation.kernels.chains import ExtrapolatedSteps, across
from nbcore.simulation.kernels.orbits import dot, plus
from nbcore.simulation.kernels.shapes import active, either, is_a, scratch, size, vectors
from nbcore.simulation.kernels.steps import clear, copy

__all__ = ["Unwatched", "Watched", "first_event", "is_watched", "tell"]

square_coefficients = compiled(events.square_coefficients, PLAIN)
least_distance, pericentre = compiled(events.least_distance), compiled(events.pericentre)


class Watched(NamedTuple):
    """What ends a run before its end."""

    collision: float  # distance; 0: none
    escape: float  # inf: none


class Unwatched(NamedTuple):
    """Nothing does, and the compiler is spared what looks for it."""

    unused: int


@njit(**APART)
def _first_event(
    bodies, axes, scheme, room, field, b, m, x0, v0, a0, j0, before, dt, h, x, v, a, jerk,
    G, eps2, orbits, watch,
):  # fmt: skip
    """Find the event and put its state in the place of that after the step.

    Returns
    -------
    Time until then, its bodies and distance, the potential energy and the work of a moving field;
    −1 for the bodies, and nothing that counts for the rest, where there is none. `orbits` is told
    anew of the time until an event.
    """
    contact, beyond = watch.collision * (1 - DEPTH), watch.escape * (1 + DEPTH)
    if not is_possible_in(
        bodies, axes, scheme, room, b, m, x0, v0, a0, x, v, a, h, contact, beyond
    ):
        return h, -1, -1, math.nan, 0.0, 0.0
    xs, vs, as_ = vectors(bodies), vectors(bodies), vectors(bodies)  # at the start of a part
    xl, vl, phi = vectors(bodies), vectors(bodies), scratch(bodies, 1, 0.0)[0]
    lows, told, spans = (xl, vl), scratch(bodies, 4, 0.0), scratch(bodies, 4, 0.0)
    tell(bodies, orbits.gone, told)
    tell(bodies, orbits.now, spans)
    copy(bodies, x0, xs)
    copy(bodies, v0, vs)
    copy(bodies, a0, as_)
    part, width, tries = 0.0, min(h, until(scheme, room, b, 0.0)), 0
    end, potential, done = width, 0.0, 0.0
    if width < h:
        potential, done = go_anew(
            bodies, axes, scheme, room, field, b, m, x0, v0, a0, j0, x, v, a, jerk, lows, before,
            dt, end, G, eps2, phi, orbits,
        )  # fmt: skip
    while True:
        first, second, distance = happens(bodies, axes, m, x, contact, beyond)
        possible = False
        if first < 0 and width > (FINEST if tries < PATIENCE else COARSEST) * h:
            possible = is_possible(bodies, axes, m, xs, vs, as_, x, v, a, width, contact, beyond)
        if first < 0 and not possible:
            i, j, least = closest_passage(bodies, axes, scheme, m, xs, vs, x, v, G, eps2, contact)
            if width > FINEST * h:
                possible = least < PLUNGE * contact
            elif least < contact:  # for less than time can tell
                first, second, distance = i, j, least
        if first >= 0 and width <= FINEST * h:
            return end, first, second, distance, potential, done
        if first >= 0 or possible:
            width /= 2
        elif end >= h:
            tell(bodies, told, orbits.gone)
            tell(bodies, spans, orbits.now)
            return h, -1, -1, math.nan, potential, done
        else:
            copy(bodies, x, xs)
            copy(bodies, v, vs)
            copy(bodies, a, as_)
            part, width = end, min(2 * width, until(scheme, room, b, end))
        end = h if width >= h - part else part + width
        width = end - part
        potential, done = go_anew(
            bodies, axes, scheme, room, field, b, m, x0, v0, a0, j0, x, v, a, jerk, lows, before,
            dt, end, G, eps2, phi, orbits,
        )  # fmt: skip
        tries += 1


@njit(**PLAIN)
def go_anew(
    bodies, axes, scheme, room, field, b, m, x0, v0, a0, j0, x, v, a, jerk, lows, before, dt,
    length, G, eps2, phi, orbits,
):  # fmt: skip
    """Go through a part of a step from the state before it; returns potential energy and work."""
    copy(bodies, x0, x)
    copy(bodies, v0, v)
    copy(bodies, a0, a)
    copy(bodies, j0, jerk)
    clear(bodies, lows[0])
    clear(bodies, lows[1])
    clear(bodies, orbits.gone)
    return within(
        bodies, axes, scheme, room, field, b, m, x, v, a, jerk, lows, before, dt, length, G, eps2,
        phi, orbits,
    )  # fmt: skip


@njit(**PLAIN)
def tell(bodies, source, target):
    """Copy what is told of all orbits, (4, N)."""
    for d in range(4):
        for i in range(size(bodies)):
            target[d, i] = source[d, i]


@njit(**LAW)
def _is_possible_between(
    bodies, axes, scheme, room, b, m, x0, v0, a0, x, v, a, h, contact, beyond
):  # fmt: skip
    """Whether one may lie between points on the way; see `simulation.events`."""
    trail, last, D = room.trail, 2 * scheme.columns[b] + 1, size(axes)
    if contact > 0:
        for i in range(active(bodies)):
            for j in range(i + 1, size(bodies)):
                apart = (x0[0, j] - x0[0, i], x0[1, j] - x0[1, i], x0[2, j] - x0[2, i])
                for s in range(last):
                    R = plus(apart, across(axes, trail[s], i, j), 1.0)
                    C = plus(across(axes, trail[s + 1], i, j), across(axes, trail[s], i, j), -1.0)
                    bend = max(
                        bend_of(axes, trail, max(s, 1), i, j),
                        bend_of(axes, trail, min(s + 1, last - 1), i, j),
                    )
                    if least_distance(R, C, bend) < contact:
                        return True
    if beyond == math.inf:
        return False
    mass = 0.0
    for i in range(size(bodies)):
        mass += m[i]
    for s in range(last + 1):
        for i in range(size(bodies)):
            r2 = path2 = 0.0
            for d in range(D):
                centre = 0.0
                for j in range(size(bodies)):
                    centre += m[j] / mass * (x0[d, j] + trail[s, D * j + d])
                r2 += (x0[d, i] + trail[s, D * i + d] - centre) ** 2
                path2 += (trail[s, D * i + d] - trail[max(s - 1, 0), D * i + d]) ** 2
            if math.sqrt(r2) + math.sqrt(path2) > beyond:
                return True
    return False


@njit(**LAW)
def bend_of(axes, trail, s, i, j):
    """Size of the second difference of a pair's separation at a point."""
    early = plus(across(axes, trail[s], i, j), across(axes, trail[s - 1], i, j), -1.0)
    late = plus(across(axes, trail[s + 1], i, j), across(axes, trail[s], i, j), -1.0)
    turn = plus(late, early, -1.0)
    return math.sqrt(turn[0] * turn[0] + turn[1] * turn[1] + turn[2] * turn[2])


@njit(**PLAIN)
def _is_possible_in_time(
    bodies, axes, scheme, room, b, m, x0, v0, a0, x, v, a, h, contact, beyond
):  # fmt: skip
    return is_possible(bodies, axes, m, x0, v0, a0, x, v, a, h, contact, beyond)


is_extrapolated = is_a(ExtrapolatedSteps)
# Whether an event may lie within a step.
is_possible_in = either(
    is_extrapolated,
    _is_possible_between,
    _is_possible_in_time,
    place=2,
    options=holding(LAW),
)


@njit(**LAW)
def _closest_passage(bodies, axes, scheme, m, x0, v0, x, v, G, eps2, contact):
    """The pair that passes its pericentre nearest, and how near; see `simulation.events`."""
    first, second, least = -1, -1, math.inf
    for i in range(active(bodies)):
        for j in range(i + 1, size(bodies)):
            R = (x0[0, j] - x0[0, i], x0[1, j] - x0[1, i], x0[2, j] - x0[2, i])
            V = (v0[0, j] - v0[0, i], v0[1, j] - v0[1, i], v0[2, j] - v0[2, i])
            S = (x[0, j] - x[0, i], x[1, j] - x[1, i], x[2, j] - x[2, i])
            U = (v[0, j] - v[0, i], v[1, j] - v[1, i], v[2, j] - v[2, i])
            if not (dot(R, V) < 0 and dot(S, U) > 0):
                continue
            r2 = dot(R, R)
            if max(r2, dot(S, S)) > (NEAR * contact) ** 2:
                distance = pericentre(R, V, G * (m[i] + m[j]), inverse_root(r2 + eps2))
                if distance < least:
                    first, second, least = i, j, distance
    return first, second, least


@njit(**PLAIN)
def _no_passage(bodies, axes, scheme, m, x0, v0, x, v, G, eps2, contact):
    return -1, -1, math.inf


closest_passage = either(is_extrapolated, _closest_passage, _no_passage, place=2)


@njit(**PLAIN)
def _until_a_point(scheme, room, b, part):
    trail, last = room.trail, 2 * scheme.columns[b] + 1
    for s in range(1, last + 1):
        later = trail[s, trail.shape[1] - 1]
        if later > part * (1 + DEPTH):
            return later - part
    return math.inf


@njit(**PLAIN)
def _without_end(scheme, room, b, part):
    return math.inf


# Time from a part of a step to the next point on its way; inf where there are none.
until = either(is_extrapolated, _until_a_point, _without_end, options=PLAIN)


@njit(**PLAIN)
def _no_event(
    bodies, axes, scheme, room, field, b, m, x0, v0, a0, j0, before, dt, h, x, v, a, jerk,
    G, eps2, orbits, watch,
):  # fmt: skip
    return h, -1, -1, math.nan, 0.0, 0.0


is_of_watched = is_a(Watched)
first_event = either(is_of_watched, _first_event, _no_event, place=21, options=holding(PLAIN))


@njit(**PLAIN)
def _yes(watch):
    return True


@njit(**PLAIN)
def _no(watch):
    return False


is_watched = either(is_of_watched, _yes, _no)


@njit(**APART)
def happens(bodies, axes, m, x, contact, beyond):
    """Bodies and distance of the closest contact, otherwise of the farthest escape, or −1."""
    first, second, bound2 = -1, -1, contact * contact
    if contact > 0:
        for i in range(active(bodies)):
            for j in range(i + 1, size(bodies)):
                r2 = 0.0
                for d in range(size(axes)):
                    r2 += (x[d, j] - x[d, i]) ** 2
                if r2 < bound2 and (m[i] > 0 or m[j] > 0):
                    first, second, bound2 = i, j, r2
    if first >= 0 or beyond == math.inf:
        return first, second, math.sqrt(bound2)
    centre, bound2 = vectors((0,)), beyond * beyond
    weigh(bodies, axes, m, x, centre)
    for i in range(size(bodies)):
        r2 = 0.0
        for d in range(size(axes)):
            r2 += (x[d, i] - centre[d, 0]) ** 2
        if r2 > bound2:
            first, bound2 = i, r2
    return first, second, math.sqrt(bound2)


@njit(**PLAIN)
def weigh(bodies, axes, m, x, centre):
    """Put the centre of mass into a (3, 1)."""
    mass = 0.0
    for i in range(size(bodies)):
        mass += m[i]
    for d in range(size(axes)):
        total = 0.0
        for i in range(size(bodies)):
            total += m[i] / mass * x[d, i]
        centre[d, 0] = total


@njit(**APART)
def is_possible(bodies, axes, m, x0, v0, a0, x, v, a, h, contact, beyond):
    """Whether a contact or an escape may lie between two states."""
    # the inner control points of the cubics
    p, q = vectors(bodies), vectors(bodies)
    misses, reach = scratch(bodies, 1, 0.0)[0], scratch(bodies, 1, 0.0)[0]
    for i in range(size(bodies)):
        early = late = one = two = three = 0.0
        for d in range(size(axes)):
            P, Q = x0[d, i] + h / 3 * v0[d, i], x[d, i] - h / 3 * v[d, i]
            p[d, i], q[d, i] = P, Q
            early += (h * h * a0[d, i] - 6 * (x0[d, i] - 2 * P + Q)) ** 2
            late += (h * h * a[d, i] - 6 * (P - 2 * Q + x[d, i])) ** 2
            one += (P - x0[d, i]) ** 2
            two += (Q - x0[d, i]) ** 2
            three += (x[d, i] - x0[d, i]) ** 2
        misses[i] = MISSES * math.sqrt(max(early, late))
        reach[i] = misses[i] + math.sqrt(max(one, two, three))
    if contact > 0:
        for i in range(active(bodies)):
            for j in range(i + 1, size(bodies)):
                r2 = 0.0
                for d in range(size(axes)):
                    r2 += (x0[d, j] - x0[d, i]) ** 2
                # Most pairs are too far apart to meet, wherever they go.
                if r2 > (contact + reach[i] + reach[j]) ** 2 or (m[i] == 0 and m[j] == 0):
                    continue
                least = bounds(axes, x0, p, q, x, i, x0, p, q, x, j)[0]
                if least < (contact + misses[i] + misses[j]) ** 2:
                    return True
    if beyond == math.inf:
        return False
    c0, c1, c2, c3 = vectors((0,)), vectors((0,)), vectors((0,)), vectors((0,))
    weigh(bodies, axes, m, x0, c0)
    weigh(bodies, axes, m, p, c1)
    weigh(bodies, axes, m, q, c2)
    weigh(bodies, axes, m, x, c3)
    mass, centre_misses = 0.0, 0.0
    for i in range(size(bodies)):
        mass += m[i]
        centre_misses += m[i] * misses[i]
    for i in range(size(bodies)):
        most = bounds(axes, x0, p, q, x, i, c0, c1, c2, c3, 0)[1]
        if most > max(beyond - misses[i] - centre_misses / mass, 0.0) ** 2:
            return True
    return False


@njit(**PLAIN)
def bounds(axes, p0, p1, p2, p3, i, q0, q1, q2, q3, j):
    """Bounds of r² between two that move on cubics, from their control points (3, …)."""
    p00 = p01 = p02 = p03 = p11 = p12 = p13 = p22 = p23 = p33 = 0.0
    for d in range(size(axes)):
        A, B = p0[d, i] - q0[d, j], p1[d, i] - q1[d, j]
        C, D = p2[d, i] - q2[d, j], p3[d, i] - q3[d, j]
        p00 += A * A
        p01 += A * B
        p02 += A * C
        p03 += A * D
        p11 += B * B
        p12 += B * C
        p13 += B * D
        p22 += C * C
        p23 += C * D
        p33 += D * D
    each = square_coefficients(p00, p01, p02, p03, p11, p12, p13, p22, p23, p33)
    return min(each), max(each)
