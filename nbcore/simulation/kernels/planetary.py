"""The loop of Wisdom–Holman runs: many equal steps from one look at a system to the next.

A look brings a copy of the system to one time, which changes no step: there errors are taken and
records written. The steps are those of `planets`, of one system whose planets lie in the lanes, and
of `beside`, of several systems that lie in the lanes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from nbcore.physics.compiled import PLAIN, holding
from nbcore.simulation.kernels import beside, planets
from nbcore.simulation.kernels.beside import SYSTEMS
from nbcore.simulation.kernels.conserved import all_finite, changes, kinetic_energy
from nbcore.simulation.kernels.forces import potential_energy
from nbcore.simulation.kernels.loop import (
    CALLED,
    MAX_STEPS,
    NON_FINITE,
    RUNNING,
    SUCCESS,
    write,
)
from nbcore.simulation.kernels.shapes import either, is_known, size, with_active
from nbcore.simulation.kernels.whole import as_a_whole

__all__ = ["NEAR", "OVER", "ROUNDED", "TOUCHED", "Planetary", "run"]

Array = NDArray[np.float64]

REACH = 3  # steps that the corrector looks ahead and back
TOUCHED = 1e-12  # of a step, and no more of it, is no part of one;
ROUNDED = 1e-15  # nor is this of a time, which is more than that in long runs
NEAR, OVER = 1, 2  # two bodies came near; the equal steps are made and the run has not ended


class Planetary(NamedTuple):
    """What makes Wisdom–Holman steps, and where every system stands; planets in their own order.

    Of one system at a time rows of `known` are those of `planets`, otherwise of `beside`.
    """

    order: NDArray[np.int64]  # (B, N) places of star and planets among the bodies
    dt: Array  # (B,)
    corrected: NDArray[np.bool_]  # (B,) whether there is a corrector
    lazy: NDArray[np.bool_]  # (B,) whether kicks are those of the lazy implementer
    look: NDArray[np.int64]  # (B,) steps from look to look
    begin: Array  # (B,) time at which equal steps begin
    last: NDArray[np.int64]  # (B,) number of the step that ends the run
    done: NDArray[np.int64]  # (B,) steps since then
    ahead: Array  # (B,) first drift in steps; 0 where none was made yet
    halted: NDArray[np.int64]  # (B,) why no steps are made: 0, NEAR or OVER
    handed_over: Array  # (B,) time at which another integrator first went on; NaN where none did
    why: NDArray[np.int64]  # (B,) as in `engine.Outcome`
    since: NDArray[np.int64]  # (B,) steps after which it did so the last time
    stretch: NDArray[np.int64]  # (B,) steps that it makes until equal ones are tried again
    Gm0: Array  # (B,)
    known: Array  # (B, rows, lanes), or (B, rows, 1)
    Y: Array  # (B, 8, lanes), or (B, 6 n, 1)
    low: Array  # (B, 6, lanes), or (B, 6 n, 1)
    centre: Array  # (B, 6) of mass, place and velocity, when the steps begin
    drifts: Array  # of the corrector, in steps
    kicks: Array
    drifts_back: Array  # and of its inverse
    kicks_back: Array


class Control(NamedTuple):
    """What systems that are taken together are to do, a lane each."""

    who: NDArray[np.int64]  # (lanes,)
    asked: NDArray[np.int64]  # steps
    allowed: NDArray[np.int64]
    stops: NDArray[np.bool_]
    back: NDArray[np.int64]  # steps to undo
    dt: Array  # (1, lanes)
    ahead: Array
    counts: Array
    last: Array
    lazy: Array
    plain: Array  # zero


@njit(**holding(PLAIN))
def _control(wide):
    return Control(
        np.zeros(wide, dtype=np.int64), np.zeros(wide, dtype=np.int64),
        np.zeros(wide, dtype=np.int64), np.zeros(wide, dtype=np.bool_),
        np.zeros(wide, dtype=np.int64), np.zeros((1, wide)),
        np.zeros((1, wide)), np.zeros((1, wide)), np.zeros((1, wide)), np.zeros((1, wide)),
        np.zeros((1, wide)),
    )  # fmt: skip


@njit(**PLAIN)
def _one(shape):
    return 1


@njit(**PLAIN)
def _several(shape):
    return len(SYSTEMS)


systems_at_a_time = either(is_known, _one, _several, options=PLAIN)
room_for = either(is_known, planets.room, beside.room, options=holding(PLAIN))
go, copy, take, give, coordinate, share = (
    either(is_known, getattr(planets, name), getattr(beside, name), options=PLAIN)
    for name in ("go", "copy", "take", "give", "coordinate", "share")
)


@njit(**PLAIN)
def until_stop(b, systems, steps, max_steps, records):
    """Steps to make before the next look, record or end."""
    done, look, made, every = steps.done[b], steps.look[b], systems.n_steps[b], records.every
    stop = min(steps.last[b], (done // look + 1) * look)
    stop = min(stop, done + max_steps - made)
    if every > 0:
        stop = min(stop, done + every - made % every)
    row = records.row[b]
    if row < len(records.times):
        when = (records.times[row] - steps.begin[b]) / steps.dt[b]
        stop = min(stop, max(int(when * (1.0 + ROUNDED) + TOUCHED), done))
    return stop - done


@njit(**PLAIN)
def to_bodies(shape, lot, w, n, own, systems, steps, t, m, x, v):
    """Masses, places and velocities of the bodies of a system in a lane, t after the begin."""
    order, centre = steps.order[own], steps.centre[own]
    for i in range(n + 1):
        m[i] = systems.mass[own, i]
    for d in range(6):
        known, axis = (x, d) if d < 3 else (v, d - 3)
        mean = 0.0  # of star and planets so far, relative to the star
        for p in range(n):
            alone = coordinate(shape, lot, w, p, d)
            known[axis, order[p + 1]] = alone + mean
            mean += share(shape, lot, w, p) * alone
        at = centre[d] - mean
        if d < 3:
            at += t * centre[d + 3]
        known[axis, order[0]] = at
        for p in range(n):
            known[axis, order[p + 1]] += at


@njit(**PLAIN)
def conclude(bodies, axes, b, systems, steps, settings, records, m, x, v, time):
    """Take errors of a system at a time, and write what is due then."""
    dt, whole = steps.dt[b], systems.time[b] == time
    order, rows, times = systems.order, records.row, records.times
    every, n_steps, scale, off = records.every, systems.n_steps[b], systems.scale[b], systems.off[b]
    eps2 = settings.softening * settings.softening
    energy = kinetic_energy(bodies, axes, m, v)
    energy += potential_energy(bodies, axes, m, x, settings.G, eps2)
    de, dp2, dl2 = changes(bodies, axes, m, x, v, energy, systems.initial[b])
    worst = systems.max_errors[b]
    worst[0] = max(worst[0], de / scale[0])
    worst[1] = max(worst[1], dp2**0.5 / scale[1])
    worst[2] = max(worst[2], dl2**0.5 / scale[2])
    due = n_steps % every == 0 if every > 0 else False
    due = due or (systems.status[b] != RUNNING and len(times) == 0)
    room = min(len(times), records.offset + records.time.shape[1])
    late = time + TOUCHED * dt + ROUNDED * abs(time)
    while rows[b] < room and times[rows[b]] <= late:
        write(
            bodies, records, order, b, rows[b], times[rows[b]], dt, de, dp2, dl2, scale, off, x, v
        )
        rows[b] += 1
    if due and whole:
        write(bodies, records, order, b, rows[b], time, dt, de, dp2, dl2, scale, off, x, v)
        rows[b] += 1


@as_a_whole
@njit(**CALLED)
def run(shape, bodies, axes, systems, steps, settings, records, first, last, quota):
    """Advance systems first … last − 1 by at most `quota` steps each, or until rows run out."""
    n, wide = size(bodies) - 1, systems_at_a_time(shape)
    _run(
        shape, bodies, axes, systems, steps, settings, records, first, last, quota,
        room_for(shape, n), (room_for(shape, n), room_for(shape, n)), _control(wide),
        np.zeros(size(bodies)), np.zeros((3, size(bodies))), np.zeros((3, size(bodies))),
    )  # fmt: skip


@njit(**PLAIN)
def _run(
    shape, bodies, axes, systems, steps, settings, records, first, last, quota, lot, copies,
    control, m, x, v,
):  # fmt: skip
    whole, n, wide, b = bodies, size(bodies) - 1, systems_at_a_time(shape), first
    full = records.offset + records.time.shape[1]
    who, asked, allowed, stops = control.who, control.asked, control.allowed, control.stops
    while b < last:
        count = 0
        while b < last and count < wide:
            if systems.status[b] == RUNNING and steps.halted[b] == 0:
                who[count], allowed[count] = b, quota
                count += 1
            b += 1
        if count == 0:
            break
        for w in range(wide):
            own = who[min(w, count - 1)]
            take(shape, lot, w, steps.Gm0[own], steps.known[own], steps.Y[own], steps.low[own])
            control.dt[0, w], control.lazy[0, w] = steps.dt[own], 1.0 * steps.lazy[own]
            stops[w] = w < count and steps.ahead[own] == 0.0
            if stops[w]:
                steps.ahead[own] = 0.5
                systems.n_more[own] += len(steps.kicks) * steps.corrected[own]
        correct(shape, n, lot, steps, control, steps.drifts, steps.kicks)
        going = True
        while going:
            going = False
            for w in range(wide):
                asked[w], stops[w] = 0, False
                control.last[0, w] = 0.0
                if w < count:
                    own = who[w]
                    room = records.row[own] < full or not (
                        records.every > 0 or records.row[own] < len(records.times)
                    )
                    if systems.status[own] == RUNNING and steps.halted[own] == 0 and room:
                        due = until_stop(own, systems, steps, settings.max_steps, records)
                        asked[w] = min(due, allowed[w])
                        stops[w] = due <= allowed[w]
                        going = going or asked[w] > 0 or stops[w]
                control.counts[0, w] = asked[w]
                control.ahead[0, w] = steps.ahead[who[min(w, count - 1)]]
            if not going:
                break
            go(
                shape, n, lot, control.dt, control.ahead, WHOLE, WHOLE, control.counts,
                control.last, control.lazy, True,
            )  # fmt: skip
            stopped, undoes = False, False
            for w in range(count):
                own = who[w]
                made = asked[w] - int(control.counts[0, w])
                if made > 0:
                    steps.ahead[own] = 1.0
                steps.done[own] += made
                systems.n_steps[own] += made
                allowed[w] -= made
                control.back[w] = 0
                if control.counts[0, w] > 0:
                    steps.halted[own], stops[w] = NEAR, True
                    control.back[w] = REACH
                    undoes = True
                stopped = stopped or stops[w]
            if stopped:
                undoes = look_ahead(shape, n, steps, count, lot, copies[0], control) or undoes
            if undoes:
                undo(shape, n, systems, steps, count, lot, control)
            if stopped:
                look(
                    shape, whole, axes, n, systems, steps, settings, records, count, lot, copies,
                    control, m, x, v,
                )  # fmt: skip
        for w in range(count):
            give(shape, lot, w, steps.Y[who[w]], steps.low[who[w]])


@njit(**PLAIN)
def look_ahead(shape, n, steps, count, lot, aside, control):
    """See whether those that stop come near another as far ahead as a corrector reaches.

    If so they go back to where it does not, and a look is not spoilt by what is to come. Returns
    whether one does.
    """
    who, stops, undoes = control.who, control.stops, False
    copy(shape, lot, aside)
    for w in range(len(stops)):
        control.counts[0, w] = control.last[0, w] = 0.0
        if w < count and stops[w] and steps.halted[who[w]] == 0:
            control.counts[0, w] = REACH
            control.ahead[0, w] = steps.ahead[who[w]]
    go(
        shape, n, aside, control.dt, control.ahead, WHOLE, WHOLE, control.counts, control.last,
        control.lazy, True,
    )  # fmt: skip
    for w in range(count):
        if control.counts[0, w] > 0:
            steps.halted[who[w]], undoes = NEAR, True
            control.back[w] = int(control.counts[0, w])
    return undoes


@njit(**PLAIN)
def undo(shape, n, systems, steps, count, lot, control):
    """Undo the last steps of systems that have halted."""
    for w in range(len(control.back)):
        control.counts[0, w] = control.ahead[0, w] = control.last[0, w] = 0.0
        if w < count and control.back[w] > 0:
            own = control.who[w]
            made = min(control.back[w], steps.done[own])
            if made > 0:
                steps.done[own] -= made
                systems.n_steps[own] -= made
                control.counts[0, w], control.last[0, w] = made, -1.0
                if steps.done[own] == 0:
                    steps.ahead[own], control.last[0, w] = 0.5, -0.5
    go(
        shape, n, lot, control.dt, control.ahead, BACK, BACK, control.counts, control.last,
        control.lazy, False,
    )  # fmt: skip


@njit(**PLAIN)
def look(
    shape, whole, axes, n, systems, steps, settings, records, count, lot, copies, control, m, x, v
):  # fmt: skip
    """Look at copies of the systems that stop, and write what is due before they go on."""
    (aside, other), who, stops = copies, control.who, control.stops
    copy(shape, lot, aside)
    for w in range(len(stops)):
        control.counts[0, w] = control.last[0, w] = 0.0
        if stops[w]:
            control.last[0, w] = control.ahead[0, w] = steps.ahead[who[w]] - 0.5
    go(
        shape, n, aside, control.dt, control.ahead, WHOLE, WHOLE, control.counts, control.last,
        control.plain, False,
    )  # fmt: skip
    correct(shape, n, aside, steps, control, steps.drifts_back, steps.kicks_back)
    for w in range(count):
        if stops[w]:
            own = who[w]
            t, t_end = steps.done[own] * steps.dt[own], systems.t_end[own]
            time = steps.begin[own] + t
            is_over = steps.done[own] == steps.last[own]
            rounding = ROUNDED * max(abs(t_end), abs(steps.begin[own]))
            ends = is_over and abs(t_end - time) <= TOUCHED * steps.dt[own] + rounding
            if ends:
                time = t_end
            elif is_over:
                steps.halted[own] = OVER
            to_bodies(shape, aside, w, n, own, systems, steps, t, m, x, v)
            for i in range(n + 1):
                for d in range(3):
                    systems.position[own, d, i], systems.velocity[own, d, i] = x[d, i], v[d, i]
            # Where it went back to a look that was taken, all is written.
            again = steps.halted[own] == NEAR and systems.time[own] == time
            systems.time[own], systems.made[own] = time, steps.dt[own]
            systems.n_more[own] += len(steps.kicks) * steps.corrected[own]
            if not all_finite(whole, axes, x, v):
                systems.status[own] = NON_FINITE
            elif ends:
                systems.status[own] = SUCCESS
            elif systems.n_steps[own] >= settings.max_steps:
                systems.status[own] = MAX_STEPS
            bodies = with_active(whole, systems.n_active[own])
            if not again:
                conclude(bodies, axes, own, systems, steps, settings, records, m, x, v, time)
            missing = records.row[own] < len(records.times)  # for which there was no room
            if systems.status[own] == SUCCESS and missing:
                systems.status[own] = RUNNING
    # Records within the step to come, from where it begins.
    while True:
        some = False
        for w in range(count):
            stops[w] = stops[w] and within(who[w], systems, steps, records)
            some = some or stops[w]
        if not some:
            break
        copy(shape, aside, other)
        for w in range(len(stops)):
            control.dt[0, w] = 0.0
            if stops[w]:
                own = who[w]
                begins = steps.begin[own] + steps.done[own] * steps.dt[own]
                control.dt[0, w] = records.times[records.row[own]] - begins
        correct(shape, n, other, steps, control, steps.drifts, steps.kicks)
        for w in range(len(stops)):
            control.counts[0, w], control.ahead[0, w], control.last[0, w] = 0.0, 0.0, 0.0
            if stops[w]:
                control.counts[0, w], control.ahead[0, w], control.last[0, w] = 1.0, 0.5, 0.5
        go(
            shape, n, other, control.dt, control.ahead, WHOLE, WHOLE, control.counts, control.last,
            control.lazy, False,
        )  # fmt: skip
        correct(shape, n, other, steps, control, steps.drifts_back, steps.kicks_back)
        for w in range(count):
            if stops[w]:
                own = who[w]
                time = records.times[records.row[own]]
                t = time - steps.begin[own]
                systems.n_more[own] += 1 + steps.lazy[own]
                systems.n_more[own] += 2 * len(steps.kicks) * steps.corrected[own]
                to_bodies(shape, other, w, n, own, systems, steps, t, m, x, v)
                bodies = with_active(whole, systems.n_active[own])
                conclude(bodies, axes, own, systems, steps, settings, records, m, x, v, time)
    for w in range(len(stops)):
        control.dt[0, w] = steps.dt[who[min(w, count - 1)]]


@njit(**PLAIN)
def correct(shape, n, lot, steps, control, drifts, kicks):
    """Correct those that stop, by steps of their own length; see `physics.wisdom_holman`."""
    last = len(kicks)
    for w in range(len(control.stops)):
        is_due = control.stops[w] and steps.corrected[control.who[w]]
        control.counts[0, w] = 1.0 * last * is_due
        control.ahead[0, w], control.last[0, w] = drifts[0] * is_due, drifts[last] * is_due
    go(
        shape, n, lot, control.dt, control.ahead, drifts, kicks, control.counts, control.last,
        control.plain, False,
    )  # fmt: skip


@njit(**PLAIN)
def within(b, systems, steps, records):
    """Whether a record is due before the end of the step to come."""
    row = records.row[b]
    if systems.status[b] != RUNNING or steps.halted[b] != 0:
        return False
    if row >= len(records.times) or row >= records.offset + records.time.shape[1]:
        return False
    rest = (records.times[row] - steps.begin[b]) / steps.dt[b] - steps.done[b]
    return rest < 1.0 - TOUCHED - ROUNDED * steps.done[b]


WHOLE, BACK = np.ones(1), -np.ones(1)
