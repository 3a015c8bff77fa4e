"""The loop: one system after another, step after step."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numba.extending import overload
from numpy.typing import NDArray

from nbcore.physics import body_errors
from nbcore.physics.compiled import APART, PLAIN, compiled
from nbcore.physics.extrapolation import MOST_COLUMNS
from nbcore.simulation.kernels import fields
from nbcore.simulation.kernels.advance import (
    advance,
    again,
    goes_on,
    note_points,
    refresh,
    room_for,
    within,
)
from nbcore.simulation.kernels.budget import spend
from nbcore.simulation.kernels.conserved import (
    all_finite,
    changes,
    kinetic_energy,
)
from nbcore.simulation.kernels.events import Unwatched, Watched, first_event, is_watched, tell
from nbcore.simulation.kernels.forces import potential_energy
from nbcore.simulation.kernels.general import (
    General,
    general,
    keep,
    looks_back,
    memory_of,
    recall,
    remember,
)
from nbcore.simulation.kernels.learned import Learned, learned
from nbcore.simulation.kernels.orbits import (
    ERROR,
    Orbits,
    commit,
    look_for_partners,
    measure,
    pair_up,
    span,
    take_partners,
)
from nbcore.simulation.kernels.rules import (
    CLASSICAL,
    SmoothRate,
    proposes,
    smooth,
)
from nbcore.simulation.kernels.shapes import padded, scratch, size, vectors, with_active
from nbcore.simulation.kernels.steps import clear, copy
from nbcore.simulation.kernels.transformed import enter, leave
from nbcore.simulation.kernels.whole import as_a_whole
from nbcore.simulation.status import Status
from nbcore.stepping import control

__all__ = ["Records", "Settings", "Systems", "run"]

Array = NDArray[np.float64]

RUNNING, SUCCESS = int(Status.RUNNING), int(Status.SUCCESS)
MAX_STEPS, DT_UNDERFLOW = int(Status.MAX_STEPS), int(Status.DT_UNDERFLOW)
NON_FINITE = int(Status.NON_FINITE)
COLLISION, ESCAPE = int(Status.COLLISION), int(Status.ESCAPE)

reversible, takes_over, steps_between_looks = (
    compiled(rule, PLAIN)
    for rule in (control.reversible, control.takes_over, body_errors.steps_between_looks)
)

CALLED: Any = {
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"contract"},
    "no_cfunc_wrapper": True,
}

RULES = {**CLASSICAL, Learned: learned, General: general}


class Systems(NamedTuple):
    """Where every system of a batch stands; all that a run needs to go on from here.

    Bodies stand in the order `order`, those that act before test particles.
    """

    order: NDArray[np.int64]  # (B, N) number of each body in the user's state
    n_active: NDArray[np.int64]  # (B,)
    mass: Array  # (B, N)
    position: Array  # (B, 3, N)
    velocity: Array
    acceleration: Array
    jerk: Array
    position_low: Array  # what was lost to rounding, and waits to be added
    velocity_low: Array
    time: Array  # (B,)
    dt: Array  # of the step to come
    made: Array  # the step before; NaN at the start
    work: Array  # of a moving field
    status: NDArray[np.int64]
    n_steps: NDArray[np.int64]
    n_redone: NDArray[np.int64]
    n_more: NDArray[np.int64]  # evaluations beyond those that every step needs
    energy: Array  # after the last step, for the guard
    taken_over: NDArray[np.bool_]  # by the guard
    partner: NDArray[np.int64]  # (B, N) whom each body is followed beside
    off: Array  # (B, 11, N) rows of `orbits.Orbits`: errors of orbits, 1/r and R/r
    max_errors: Array  # (B, 3)
    initial: Array  # (B, 7) energy, momentum, angular momentum
    scale: Array  # (B, 3) of their errors
    t_end: Array
    event: Array  # (B, 4) time, bodies (−1: none), distance; NaN: nothing was met


class Settings(NamedTuple):
    """What holds for all systems of a batch."""

    G: float
    softening: float
    reversible: bool
    max_steps: int
    watch: Watched | Unwatched
    followed: bool  # whether the bodies' orbits are
    guarded: bool
    largest_change: Array  # (B,) of the energy in a step that is not redone
    largest_error: Array  # (B,) that such a step makes in any body's orbit
    fall_back: SmoothRate  # by which it is redone


class Records(NamedTuple):
    """Where records go; row k of the run is row k − offset of the arrays."""

    every: int  # 0: none but those at `times`
    rows_a_step: int  # more than one: points on its way, too
    times: Array
    row: NDArray[np.int64]  # (B,) next row
    offset: int
    time: Array  # (B, rows)
    dt: Array
    energy_error: Array
    momentum_error: Array
    angular_momentum_error: Array
    body_error: Array  # (B, rows, N)
    position: Array  # (B, rows, N, D)
    velocity: Array


def choose(bodies, axes, rule, memory, field, b, m, x, v, a, time, G, eps2):
    """Step that a rule proposes."""
    return RULES[type(rule)](bodies, axes, rule, memory, field, b, m, x, v, a, time, G, eps2)


@overload(choose, jit_options=PLAIN)
def _choose(bodies, axes, rule, memory, field, b, m, x, v, a, time, G, eps2):
    chosen = RULES[rule.instance_class]
    return lambda bodies, axes, rule, memory, field, b, m, x, v, a, time, G, eps2: chosen(
        bodies, axes, rule, memory, field, b, m, x, v, a, time, G, eps2
    )


@njit(**APART)
def write(bodies, records, order, b, row, time, dt, de, dp2, dl2, scale, off, x, v):
    """Put a record into a row of a system, its bodies in the order of the user's state."""
    k = row - records.offset
    records.time[b, k], records.dt[b, k] = time, dt
    records.energy_error[b, k] = de / scale[0]
    records.momentum_error[b, k] = dp2**0.5 / scale[1]
    records.angular_momentum_error[b, k] = dl2**0.5 / scale[2]
    for i in range(size(bodies)):
        own = order[b, i]
        records.body_error[b, k, own] = off[ERROR, i]
        for d in range(records.position.shape[3]):
            records.position[b, k, own, d] = x[d, i]
            records.velocity[b, k, own, d] = v[d, i]


@njit(**PLAIN)
def pad(bodies, orbits):
    """Followed numbers of the padding: bodies without a partner."""
    for i in range(padded(bodies)):
        orbits.who[i] = i
        orbits.pair[0, i] = orbits.pair[1, i] = 1.0


@as_a_whole
@njit(**CALLED)
def run(bodies, axes, systems, scheme, field, settings, rule, records, first, last, quota):
    """Advance systems first … last − 1 by at most `quota` steps each, or until rows run out."""
    known = (vectors(bodies), vectors(bodies), vectors(bodies), vectors(bodies))
    before = (vectors(bodies), vectors(bodies), vectors(bodies), vectors(bodies))
    aside = (vectors(bodies), vectors(bodies), vectors(bodies), vectors(bodies))
    lows = (vectors(bodies), vectors(bodies), vectors(bodies), vectors(bodies))
    mass, phis = scratch(bodies, 1, 0.0), scratch(bodies, 1, 0.0)
    orbits = Orbits(
        settings.followed, np.zeros(padded(bodies), dtype=np.int64),
        np.zeros(padded(bodies), dtype=np.int64), scratch(bodies, 2, 0.0),
        scratch(bodies, 3, 0.0), scratch(bodies, 4, 0.0), scratch(bodies, 4, 0.0),
        scratch(bodies, 4, 0.0), scratch(bodies, 2, 0.0), scratch(bodies, 7, 0.0),
    )  # fmt: skip
    _run(
        bodies, axes, systems, scheme, field, settings, rule, records, first, last, quota, known,
        before, aside, lows, mass, phis, orbits, room_for(bodies, axes, scheme), memory_of(rule),
        np.empty(2 * MOST_COLUMNS + 1),
    )  # fmt: skip


@njit(**PLAIN)
def _run(
    bodies, axes, systems, scheme, field, settings, rule, records, first, last, quota, known, start,
    aside, rest, mass, phis, orbits, room, memory, points,
):  # fmt: skip
    x, v, a, jerk = known
    x0, v0, a0, j0 = start
    xw, vw, aw, jw = aside
    xl, vl, xl0, vl0 = rest
    lows, gone, was, off, who = (xl, vl), orbits.gone, orbits.was, orbits.off, orbits.who
    (
        G, softening, is_reversible, max_steps, watch, followed, guarded, most, largest, fall_back,
    ) = settings  # fmt: skip
    whole, between_looks = bodies, steps_between_looks(size(bodies))
    eps2, m, phi = softening * softening, mass[0], phis[0]
    times, rows, n_times = records.times, records.row, len(records.times)
    every, full = records.every, records.offset + records.time.shape[1]
    on_the_way = records.rows_a_step > 1
    wanted = points if on_the_way else times
    watched = is_watched(watch)
    # Padding has no mass and stays at rest in the origin, as `scratch` has it.
    pad(bodies, orbits)
    for b in range(first, last):
        if systems.status[b] != RUNNING:
            continue
        bodies = with_active(whole, systems.n_active[b])
        for i in range(size(bodies)):
            m[i] = systems.mass[b, i]
        initial, scale, t_end = systems.initial[b], systems.scale[b], systems.t_end[b]
        allowed, failed = quota, False
        while True:
            copy(bodies, systems.position[b], x)
            copy(bodies, systems.velocity[b], v)
            copy(bodies, systems.acceleration[b], a)
            copy(bodies, systems.jerk[b], jerk)
            copy(bodies, systems.position_low[b], xl)
            copy(bodies, systems.velocity_low[b], vl)
            for i in range(size(bodies)):
                # By their own names: set through `orbits`, numba would take them for unused.
                who[i] = systems.partner[b, i]
                for d in range(7):
                    off[d, i] = systems.off[b, d, i]
            pair_up(bodies, orbits, m, G)
            span(bodies, orbits, x, eps2, orbits.was)  # of the padding, too
            if systems.n_steps[b] > 0:
                for d in range(4):
                    for i in range(size(bodies)):
                        was[d, i] = systems.off[b, 7 + d, i]
            recall(rule, b, memory)
            enter(scheme, room, b)
            time, dt, work = systems.time[b], systems.dt[b], systems.work[b]
            n_steps, made, row = systems.n_steps[b], systems.made[b], rows[b]
            n_redone, level, retried = systems.n_redone[b], systems.energy[b], False
            n_more = 0
            own, status, good = systems.taken_over[b], RUNNING, 0
            met, other = -1, -1  # bodies of a contact, or one that has escaped
            worst0, worst1, worst2 = 0.0, 0.0, 0.0
            next_time = times[row] if row < n_times else math.inf
            while good < allowed:
                if row + records.rows_a_step > full and (every > 0 or row < n_times):
                    break
                if next_time < math.inf or looks_back(rule) or guarded or watched or on_the_way:
                    copy(bodies, x, x0)
                    copy(bodies, v, v0)
                    copy(bodies, a, a0)
                    copy(bodies, jerk, j0)
                    if guarded:
                        copy(bodies, xl, xl0)
                        copy(bodies, vl, vl0)
                clear(bodies, gone)
                h, ends, potential, done, ahead, dt, made_more, erred = advance(
                    bodies, axes, scheme, room, field, b, m, x, v, a, jerk, lows, time, dt, t_end,
                    G, eps2, phi, orbits,
                )  # fmt: skip
                n_more += made_more
                if watched:
                    refresh(bodies, axes, scheme, field, m, x, time + h, G, eps2, a, phi)
                if not time + h > time:  # true for NaN, too
                    status = DT_UNDERFLOW if math.isfinite(h) else NON_FINITE
                    break
                before, time = time, t_end if ends else time + h
                energy = kinetic_energy(bodies, axes, m, v) + potential - (work + done)
                if guarded:
                    kept = abs(energy - level) <= most[b] and erred <= largest[b]
                    if not retried and not kept:  # NaN, too
                        copy(bodies, x0, x)
                        copy(bodies, v0, v)
                        copy(bodies, a0, a)
                        copy(bodies, j0, jerk)
                        copy(bodies, xl0, xl)
                        copy(bodies, vl0, vl)
                        time, retried = before, True
                        n_redone += 1
                        dt = again(
                            bodies, axes, scheme, fall_back, memory, field, b, m, x, v, a, time, h,
                            dt, G, eps2,
                        )  # fmt: skip
                        continue
                    retried, level = False, energy
                if not math.isfinite(energy):
                    if not all_finite(bodies, axes, x, v):
                        failed = True
                        break
                    energy = math.inf
                if watched:
                    # Copies, because what is handed to a function can't stay in registers.
                    copy(bodies, x, xw)
                    copy(bodies, v, vw)
                    copy(bodies, a, aw)
                    copy(bodies, jerk, jw)
                    part, met, other, distance, potential, part_done = first_event(
                        bodies, axes, scheme, room, field, b, m, x0, v0, a0, j0, before, dt, h,
                        xw, vw, aw, jw, G, eps2, orbits, watch,
                    )  # fmt: skip
                    if met >= 0:  # the step ends there
                        copy(bodies, xw, x)
                        copy(bodies, vw, v)
                        copy(bodies, aw, a)
                        copy(bodies, jw, jerk)
                        if part < h:
                            time = before + part
                        h, done = part, part_done
                        energy = kinetic_energy(bodies, axes, m, v) + potential - (work + done)
                        event = systems.event[b]
                        event[0], event[1], event[2], event[3] = time, met, other, distance
                        if followed:
                            measure(bodies, orbits, x, v, eps2)
                n_steps += 1
                good += 1
                de, dp2, dl2 = changes(bodies, axes, m, x, v, energy, initial)
                worst0, worst1, worst2 = max(worst0, de), max(worst1, dp2), max(worst2, dl2)
                if ends:
                    status = SUCCESS
                elif n_steps >= max_steps:
                    status = MAX_STEPS
                if met >= 0:
                    status = COLLISION if other >= 0 else ESCAPE
                made = h
                at = row
                if on_the_way:
                    note_points(scheme, room, b, before, time, points)
                    next_time, at = points[0], 0
                if next_time <= time:
                    row = between(
                        bodies, axes, scheme, room, field, b, m, x0, v0, a0, j0, before, time, dt,
                        h, work, G, eps2, records, wanted, at, systems.order, row, initial, scale,
                        orbits,
                    )  # fmt: skip
                    next_time = times[row] if row < n_times else math.inf
                if followed:
                    commit(bodies, orbits, off)
                if every > 0 and n_steps % every == 0:
                    # Copies, because what is handed to a function can't stay in registers.
                    copy(bodies, x, xw)
                    copy(bodies, v, vw)
                    write(
                        bodies, records, systems.order, b, row, time, h, de, dp2, dl2, scale, off,
                        xw, vw,
                    )  # fmt: skip
                    row += 1
                work += done
                if status != RUNNING:
                    break
                if proposes(rule):  # by the errors beside them, too
                    take_partners(bodies, orbits, m, x, G, eps2)
                elif followed and n_steps % between_looks == 0:
                    look_for_partners(bodies, orbits, m, x, G, eps2)
                remember(bodies, rule, b, memory, x0, v0, a0, x, v, a, h)
                if guarded and takes_over(n_redone, n_steps):
                    own = True
                if proposes(rule):
                    dt = spend(
                        bodies, scheme, b, off, max(worst0 / scale[0], systems.max_errors[b, 0]),
                        n_steps, time, t_end, ahead,
                    )  # fmt: skip
                elif own:
                    dt = smooth(
                        bodies, axes, fall_back, memory, field, b, m, x, v, a, time, G, eps2
                    )
                else:
                    dt = choose(bodies, axes, rule, memory, field, b, m, x, v, a, time, G, eps2)
                if is_reversible:
                    dt = reversible(h, dt)
            if not failed:
                break
            if good == allowed:
                status = NON_FINITE
                break
            # A step failed, which is rare: go there again and stop before it. To keep the state
            # before every step would cost a fifth of the time of three bodies.
            allowed = good
        due = n_steps % every != 0 if every > 0 else n_steps > 0 and n_times == 0
        if status != RUNNING and due:
            potential = potential_energy(bodies, axes, m, x, G, eps2)
            potential += fields.energy(bodies, axes, field, m, x, time)
            energy = kinetic_energy(bodies, axes, m, v) + potential - work
            de, dp2, dl2 = changes(bodies, axes, m, x, v, energy, initial)
            copy(bodies, x, xw)
            copy(bodies, v, vw)
            write(
                bodies, records, systems.order, b, row, time, made, de, dp2, dl2, scale, off, xw, vw
            )
            row += 1
        copy(bodies, x, systems.position[b])
        copy(bodies, v, systems.velocity[b])
        copy(bodies, a, systems.acceleration[b])
        copy(bodies, jerk, systems.jerk[b])
        copy(bodies, xl, systems.position_low[b])
        copy(bodies, vl, systems.velocity_low[b])
        for i in range(size(bodies)):
            systems.partner[b, i] = who[i]
            for d in range(7):
                systems.off[b, d, i] = off[d, i]
            for d in range(4):
                systems.off[b, 7 + d, i] = was[d, i]
        systems.time[b], systems.dt[b], systems.made[b] = time, dt, made
        systems.work[b] = work
        keep(rule, b, memory)
        leave(scheme, room, b)
        systems.n_steps[b], systems.status[b], rows[b] = n_steps, status, row
        systems.n_redone[b], systems.energy[b], systems.taken_over[b] = n_redone, level, own
        systems.n_more[b] += n_more
        worst = systems.max_errors[b]
        worst[0] = max(worst[0], worst0 / scale[0])
        worst[1] = max(worst[1], worst1**0.5 / scale[1])
        worst[2] = max(worst[2], worst2**0.5 / scale[2])


@njit(**APART)
def between(
    bodies, axes, scheme, room, field, b, m, x0, v0, a0, j0, before, time, dt, h, work,
    G, eps2, records, times, due, order, row, initial, scale, orbits,
):  # fmt: skip
    """Records at those times, from one on, which lie within a step, by parts of it.

    Returns the next row.

    `orbits` is left as the whole step left it, but for the errors at hand.
    """
    x, v, a, jerk = vectors(bodies), vectors(bodies), vectors(bodies), vectors(bodies)
    xl, vl, phi = vectors(bodies), vectors(bodies), scratch(bodies, 1, 0.0)[0]
    mean, sizes = scratch(bodies, 3, 0.0), scratch(bodies, 2, 0.0)
    gone, was, now, told = (
        scratch(bodies, 4, 0.0), scratch(bodies, 4, 0.0), scratch(bodies, 4, 0.0),
        scratch(bodies, 4, 0.0),
    )  # fmt: skip
    lows, off = (xl, vl), scratch(bodies, 7, 0.0)
    followed, who, pair = orbits.followed, orbits.who, orbits.pair
    part = Orbits(followed, who, orbits.found, pair, mean, gone, was, now, sizes, off)
    clear(bodies, xl)
    clear(bodies, vl)
    clear(bodies, told)
    at, done, begins = before, 0.0, True
    while due < len(times) and times[due] <= time:
        if begins or not goes_on(scheme):
            copy(bodies, x0, x)
            copy(bodies, v0, v)
            copy(bodies, a0, a)
            copy(bodies, j0, jerk)
            at, done, begins = before, 0.0, False
        span(bodies, part, x0, eps2, part.was)
        wanted = times[due]
        tell(bodies, told, gone)
        potential, part_done = within(
            bodies, axes, scheme, room, field, b, m, x, v, a, jerk, lows, at, dt, wanted - at, G,
            eps2, phi, part,
        )  # fmt: skip
        done += part_done
        if goes_on(scheme):
            at = wanted
            tell(bodies, gone, told)
        energy = kinetic_energy(bodies, axes, m, v) + potential - (work + done)
        de, dp2, dl2 = changes(bodies, axes, m, x, v, energy, initial)
        for d in range(7):
            for i in range(size(bodies)):
                off[d, i] = orbits.off[d, i]
        if part.followed:
            measure(bodies, part, x, v, eps2)
            commit(bodies, part, off)
        write(bodies, records, order, b, row, wanted, h, de, dp2, dl2, scale, off, x, v)
        row, due = row + 1, due + 1
    return row
