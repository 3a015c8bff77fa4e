"""Contacts and escapes: what ends a run between two states that are a step apart.

Between them a body moves nearly on the cubic that has its positions and velocities at both ends,
and the accelerations there tell how nearly. Where that leaves a contact or an escape possible, the
step is gone through in parts, halved as long as it does and longer again afterwards. The state at
the end of a part is the integrator's, from the state before the step; so an event is found as
exactly as the integrator knows the motion, and however short it is.

Bodies without mass don't act on each other, and so don't meet either.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from nbcore.physics import gravity
from nbcore.physics.arrays import Array, PerSystem, dot, namespace, norm
from nbcore.physics.elementwise import clamp, maximum, where
from nbcore.simulation.status import Status

if TYPE_CHECKING:
    from nbcore.physics.integrators import Integrator
    from nbcore.physics.state import State

__all__ = [
    "COARSEST",
    "DEPTH",
    "FINEST",
    "MISSES",
    "NARROWEST",
    "PATIENCE",
    "Events",
    "Watch",
    "at_start",
    "first_event",
    "square_coefficients",
]

# Beyond a distance, as a share of it, what counts within a step: more than rounding, so that the
# state of an event is on the far side however its distance is summed up.
DEPTH = 1e-12
FINEST = 2.0**-50  # of the step: part in whose end an event is told
NARROWEST = 2.0**-30  # part that is halved only if an event is certain
# Parts after which the narrowest is as coarse as this: a pair that stays at the very distance at
# which it would meet can't hold up a run.
PATIENCE, COARSEST = 4096, 2.0**-12
# The quintic that has the accelerations, too, is off the cubic by no more than 1/32 of what the
# second derivatives differ by (over s²(1 − s)² ≤ 1/16), here twice that for what it misses itself.
MISSES = 1 / 16


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
    before: State, after: State, dt: PerSystem, integrator: Integrator, watch: Watch
) -> tuple[State, PerSystem, Events]:
    """First contact or escape within a step.

    Parameters
    ----------
    before, after
        States at the ends of the step.
    dt
        (B,) [T]; systems with a step of 0 are left alone.

    Returns
    -------
    State at the event, or after the step where there is none; the time (B,) until then; the events.
    """
    watch = watch.within_a_step()
    none, unknown, xp = _none(before), math.nan * dt, namespace(dt)
    events = Events(unknown, none, none, unknown)
    index = xp.nonzero((dt > 0) & _is_possible(before, after, dt, watch))[0]
    if not len(index):
        return after, dt, events
    start, length, high = before.select(index), dt[index], after.select(index)
    low, part, width = start, 0 * length, length
    end, going, tries = length, length > 0, 0
    while True:
        least = NARROWEST if tries < PATIENCE else COARSEST
        found = _happens(high, watch)
        certain = found.first >= 0
        possible = _is_possible(low, high, width, watch) & (width > least * length)
        clear = ~certain & ~possible
        told = certain & (width <= FINEST * length)
        low, part = high.where(clear, low), where(clear, end, part)
        going = going & ~told & ~(clear & (end >= length))
        if not bool(going.any()):
            break
        width = where(clear, 2 * width, width / 2)
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
