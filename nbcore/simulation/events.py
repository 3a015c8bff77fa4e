"""Contacts and escapes: what ends a run between two states that are a step apart.

Between them a body moves nearly on the cubic that has its positions and velocities at both ends,
and the accelerations there tell how nearly. Where that leaves a contact or an escape possible, the
step is gone through in parts, halved as long as it does and longer again afterwards. The state at
the end of a part is the integrator's, from the state before the step; so an event is found as
exactly as the integrator knows the motion, and however short it is.

Steps in transformed time may lead round a whole pericentre, of which a cubic knows nothing. They
leave points on their way, and are gone through from point to point. Where two bodies pass each
other within a contact for less than time can tell, their orbit does.

Bodies without mass don't act on each other, and so don't meet either.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from nbcore.physics import gravity
from nbcore.physics.arrays import Array, PerSystem, dot, namespace, norm
from nbcore.physics.body_errors import dot as product
from nbcore.physics.body_errors import plus, triple
from nbcore.physics.elementwise import (
    TINY,
    absolute,
    clamp,
    inverse_root,
    maximum,
    minimum,
    root,
    where,
)
from nbcore.simulation.status import Status

if TYPE_CHECKING:
    from nbcore.physics.integrators import Integrator
    from nbcore.physics.passages import Trail
    from nbcore.physics.state import State

__all__ = [
    "COARSEST",
    "DEPTH",
    "FINEST",
    "MISSES",
    "NEAR",
    "PATIENCE",
    "PLUNGE",
    "Events",
    "Watch",
    "at_start",
    "first_event",
    "least_distance",
    "pericentre",
    "square_coefficients",
]

# Beyond a distance, as a share of it, what counts within a step: more than rounding, so that the
# state of an event is on the far side however its distance is summed up.
DEPTH = 1e-12
FINEST = 2.0**-50  # of the step: part that is halved no more, in whose end an event is told
# Parts after which those where an event is possible are halved to this and no farther: a pair that
# stays at the very distance at which it would meet can't hold up a run.
PATIENCE, COARSEST = 4096, 2.0**-12
# The quintic that has the accelerations, too, is off the cubic by no more than 1/32 of what the
# second derivatives differ by (over s²(1 − s)² ≤ 1/16), here twice that for what it misses itself.
MISSES = 1 / 16
# A curve is off its chord by an eighth of its second difference; four times that for the rest.
BEND = 0.5
PLUNGE = 1.5  # contacts: pericentre of an orbit that others may have turned a little
NEAR = 2.0  # contacts: a part of a pericentre passage between such distances is nearly a cubic


class Events(NamedTuple):
    """What ended the runs of a batch, (B,) each.

    Attributes
    ----------
    time
        [T]; NaN where nothing was met.
    first, second
        Bodies of a contact; of an escape the body and −1; −1 for none.
    distance
        [L] between the two, or from the centre of mass.
    """

    time: Array
    first: Array
    second: Array
    distance: Array

    def where(self, condition: Array, other: Events) -> Events:
        """Take each system from here where the condition (B,) holds, otherwise from the other."""
        pairs = zip(self, other, strict=True)
        return Events(*(where(condition, here, there) for here, there in pairs))

    def ends(self, status: Array) -> Array:
        """Status (B,), or that of the event where there is one."""
        kind = where(
            self.second >= 0, 0 * status + int(Status.COLLISION), 0 * status + int(Status.ESCAPE)
        )
        return where(self.first >= 0, kind, status)


class Watch(NamedTuple):
    """What to look for.

    Attributes
    ----------
    contact
        Two bodies are in contact when they are closer [L]; 0: never.
    beyond
        A body has escaped when it is farther from the centre of mass [L]; inf: never.
    """

    contact: float
    beyond: float

    @property
    def is_on(self) -> bool:
        """Whether anything is looked for."""
        return self.contact > 0 or self.beyond < math.inf

    def within_a_step(self) -> Watch:
        """The same by more than rounding."""
        return Watch(self.contact * (1 - DEPTH), self.beyond * (1 + DEPTH))


def at_start(state: State, watch: Watch) -> Events:
    """What is so before any step is made."""
    return _happens(state, watch)


def first_event(
    before: State,
    after: State,
    dt: PerSystem,
    integrator: Integrator,
    watch: Watch,
    trail: Trail | None = None,
) -> tuple[State, PerSystem, Events]:
    """First contact or escape within a step.

    Parameters
    ----------
    before, after
        States at the ends of the step.
    dt
        (B,) [T]; systems with a step of 0 are left alone.
    trail
        Points on the way, of steps that are too long for a cubic.

    Returns
    -------
    State at the event, or after the step where there is none; the time (B,) until then; the events.
    """
    watch = watch.within_a_step()
    none, unknown, xp = _none(before), math.nan * dt, namespace(dt)
    events = Events(unknown, none, none, unknown)
    if trail is None:
        possible = _is_possible(before, after, dt, watch)
    else:
        possible = _is_possible_between(before, trail, watch)
    index = xp.nonzero((dt > 0) & possible)[0]
    if not len(index):
        return after, dt, events
    start, length, high = before.select(index), dt[index], after.select(index)
    times = None if trail is None else trail.time[:, index]
    low, part, width = start, 0 * length, length
    end, going, tries = length, length > 0, 0
    if times is not None:  # no further than to the next point
        width = minimum(_until(times, part), length)
        end = width
        high = integrator.step(start, end)
    while True:
        least = FINEST if tries < PATIENCE else COARSEST
        is_finest = width <= FINEST * length
        found = _happens(high, watch)
        possible = _is_possible(low, high, width, watch) & (width > least * length)
        if trail is not None and watch.contact > 0:
            passage = _closest_passage(low, high, NEAR * watch.contact)
            possible = possible | ~is_finest & (passage.distance < PLUNGE * watch.contact)
            unseen = is_finest & (found.first < 0) & (passage.distance < watch.contact)
            found = passage.where(unseen, found)
        certain = found.first >= 0
        clear = ~certain & ~possible
        told = certain & is_finest
        low, part = high.where(clear, low), where(clear, end, part)
        going = going & ~told & ~(clear & (end >= length))
        if not bool(going.any()):
            break
        width = where(clear, 2 * width, width / 2)
        if times is not None:
            width = minimum(width, _until(times, part))
        new_end = where(width >= length - part, length, part + width)
        end = where(going, new_end, end)
        width = where(going, end - part, width)
        high = integrator.step(start, end).where(going, high)
        tries += 1
    met = index[certain]
    after = _put(after, met, high.select(certain))
    dt = _with(dt, met, end[certain])
    found = Events(*(each[certain] for each in found))
    pairs = zip(events, found, strict=True)
    return after, dt, Events(*(_with(whole, met, some) for whole, some in pairs))


def least_distance(R, C, bend):
    """How close two may come between two points, less what their way bends by.

    Parameters
    ----------
    R, C
        Triples: from one to the other at the first point, and what is added until the second one.
    bend
        Size of the second differences of such vectors.
    """
    along = clamp(-product(R, C) / (product(C, C) + TINY), 0.0, 1.0)
    closest = plus(R, C, along)
    return root(product(closest, closest)) - BEND * bend


def pericentre(R, V, mu, inverse):
    """Closest that a pair comes on its orbit, or on a straight line where nothing pulls."""
    v2, rv = product(V, V), product(R, V)
    h2 = product(R, R) * v2 - rv * rv
    pull = mu * mu + h2 * (v2 - 2 * mu * inverse)  # (μ e)²
    return absolute(h2) / (mu + root(absolute(pull)) + TINY)


def _closest_passage(low: State, high: State, beyond: float) -> Events:
    """The pair that passes its pericentre nearest, of those that came or go farther than that."""
    xp, (i, j) = namespace(low.time), gravity.acting_pairs(low.mass)
    (R, V), (S, U) = (
        (triple(x[:, j] - x[:, i]) for x in (at.position, at.velocity)) for at in (low, high)
    )
    mu = low.G * (low.mass[:, i] + low.mass[:, j])
    r2 = product(R, R)
    distance = pericentre(R, V, mu, inverse_root(r2 + low.softening**2))
    turns = (product(R, V) < 0) & (product(S, U) > 0) & (mu > 0)
    turns = turns & (maximum(r2, product(S, S)) > beyond * beyond)
    distance = where(turns, distance, math.inf)
    pair = xp.argmin(distance, axis=1)
    return Events(high.time, i[pair], j[pair], xp.min(distance, axis=1))


def _is_possible_between(state: State, trail: Trail, watch: Watch) -> Array:
    """Whether a contact or an escape may lie between points on the way, (B,)."""
    xp, possible = namespace(state.time), state.time != state.time
    places = state.position + trail.displacement

    def bent(vectors: Array) -> tuple[Array, Array, Array]:
        steps = vectors[1:] - vectors[:-1]
        turns = norm(steps[1:] - steps[:-1])
        edge = xp.concat([turns[:1], turns]), xp.concat([turns, turns[-1:]])
        return vectors[:-1], steps, maximum(*edge)

    if watch.contact > 0:
        i, j = gravity.acting_pairs(state.mass)
        R, C, bend = bent(places[:, :, j] - places[:, :, i])
        least = xp.min(least_distance(triple(R), triple(C), bend), axis=0)
        acts = (state.mass[:, i] > 0) | (state.mass[:, j] > 0)
        possible = possible | (acts & (least < watch.contact)).any(axis=1)
    if watch.beyond < math.inf:
        share = (state.mass / state.mass.sum(axis=1, keepdims=True))[..., None]
        R, C, bend = bent(places - (share * places).sum(axis=2, keepdims=True))
        most = maximum(norm(R), norm(R + C)) + bend
        possible = possible | (most > watch.beyond).any(axis=0).any(axis=1)
    return possible


def _until(times: Array, part: PerSystem) -> PerSystem:
    """Time from a part of a step to the next of its points, (b,)."""
    later = where(times > part * (1 + DEPTH), times - part, math.inf)
    return namespace(part).min(later, axis=0)


def _none(state: State) -> Array:
    """−1, for no body, of every system."""
    return namespace(state.time).astype(0 * state.time - 1, namespace(state.time).int64)


def _with(whole: Array, index: Array, some: Array) -> Array:
    """An array with some rows replaced."""
    whole = namespace(whole).asarray(whole, copy=True)
    whole[index] = some
    return whole


def _put(whole: State, index: Array, some: State) -> State:
    """The batch with the systems at an index (b,) replaced by those of another."""
    names = ("position", "velocity", "time", "work", "acceleration", "jerk")
    pairs = {name: (getattr(whole, name), getattr(some, name)) for name in names}
    return whole.replace(
        **{
            name: None if there is None or here is None else _with(there, index, here)
            for name, (there, here) in pairs.items()
        }
    )


def _happens(state: State, watch: Watch) -> Events:
    """The closest pair in contact, otherwise the farthest body that has escaped."""
    xp, first, second, distance = (
        namespace(state.time),
        _none(state),
        _none(state),
        math.nan * state.time,
    )
    if watch.beyond < math.inf:
        offset = state.position - gravity.centre_of_mass(state)[0]
        size = norm(offset)
        most, body = xp.max(size, axis=1), xp.argmax(size, axis=1)
        escaped = most > watch.beyond
        first = where(escaped, body, first)
        distance = where(escaped, most, distance)
    if watch.contact > 0:
        least, i, j = _closest(state)
        meet = least < watch.contact
        first, second = where(meet, i, first), where(meet, j, second)
        distance = where(meet, least, distance)
    return Events(where(first >= 0, state.time, math.nan), first, second, distance)


def _closest(state: State) -> tuple[PerSystem, Array, Array]:
    """Separation and bodies of the closest pair that acts on each other, body by body."""
    xp, least = namespace(state.time), 0 * state.time + math.inf
    first, second = _none(state), _none(state)
    for i in range(state.n_bodies - 1):
        offset = state.position[:, i + 1 :] - state.position[:, i : i + 1]
        unseen = (state.mass[:, i + 1 :] == 0) & (state.mass[:, i : i + 1] == 0)
        r = where(unseen, math.inf, norm(offset))
        near, j = xp.min(r, axis=1), xp.argmin(r, axis=1)
        closer = near < least
        least = where(closer, near, least)
        first, second = where(closer, i, first), where(closer, i + 1 + j, second)
    return least, first, second


def _is_possible(low: State, high: State, dt: PerSystem, watch: Watch) -> Array:
    """Whether a contact or an escape may lie between two states, (B,)."""
    h = dt[:, None, None]
    x, y = low.position, high.position
    points = (x, x + h / 3 * low.velocity, y - h / 3 * high.velocity, y)
    misses = _misses(points, h * h * gravity.acceleration(low), h * h * gravity.acceleration(high))
    xp, possible = namespace(dt), dt != dt
    if watch.contact > 0:
        i, j = gravity.acting_pairs(low.mass)
        least = xp.min(_squares([p[:, j] - p[:, i] for p in points]), axis=0)
        near = least < (watch.contact + misses[:, i] + misses[:, j]) ** 2
        possible = possible | (near & ((low.mass[:, i] > 0) | (low.mass[:, j] > 0))).any(axis=1)
    if watch.beyond < math.inf:
        share = low.mass / low.mass.sum(axis=1, keepdims=True)
        centred = [p - (share[..., None] * p).sum(axis=1, keepdims=True) for p in points]
        misses = misses + (share * misses).sum(axis=1, keepdims=True)
        far = xp.max(_squares(centred), axis=0) > clamp(watch.beyond - misses, 0, math.inf) ** 2
        possible = possible | far.any(axis=1)
    return possible


def _misses(points: tuple[Array, ...], early: Array, late: Array) -> Array:
    """How far a body may be from its cubic, (B, N) [L], from h² times its accelerations."""
    first, second, third, last = points
    early = early - 6 * (first - 2 * second + third)
    late = late - 6 * (second - 2 * third + last)
    sizes = (norm(each) for each in (early, late))
    return MISSES * maximum(*sizes)


def _squares(points: list[Array]) -> Array:
    """Bernstein coefficients of r² on cubics with these control points, (7, B, …)."""
    products = [dot(points[i], points[j]) for i in range(4) for j in range(i, 4)]
    return namespace(points[0]).stack(square_coefficients(*products))


def square_coefficients(p00, p01, p02, p03, p11, p12, p13, p22, p23, p33):
    """Bernstein coefficients of the square of a cubic, which lies between the least and the most.

    Parameters
    ----------
    p00, …
        Scalar products of its control points.
    """
    return (
        p00,
        p01,
        (2 * p02 + 3 * p11) / 5,
        (p03 + 9 * p12) / 10,
        (2 * p13 + 3 * p22) / 5,
        p23,
        p33,
    )
