"""The compiled engine of Wisdom–Holman runs, which hands systems on to `gbs` where it must.

Steps are equal as long as no two bodies come near each other. Where they do, extrapolation goes on
with the system.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import Any

import numba
import numpy as np
from numba.core import types
from numpy.typing import NDArray

from nbcore.interrupts import noted
from nbcore.physics import gravity
from nbcore.physics.arrays import to_numpy
from nbcore.physics.body_errors import partners
from nbcore.physics.extrapolation import Extrapolation
from nbcore.physics.state import State
from nbcore.physics.wisdom_holman import WisdomHolman, about_star, corrector, to_jacobi
from nbcore.simulation import compiled_engine
from nbcore.simulation.engine import (
    CLOSE_BY,
    DEAR,
    LEAVING,
    Observer,
    Outcome,
    Standing,
    Task,
)
from nbcore.simulation.kernels import loop, planetary
from nbcore.simulation.kernels.beside import ROWS, SYSTEMS
from nbcore.simulation.kernels.loop import Records, Systems
from nbcore.simulation.kernels.orbits import ERROR, WORST
from nbcore.simulation.kernels.orbits import KEPT as KEPT_ERROR
from nbcore.simulation.kernels.planetary import NEAR, OVER, ROUNDED, TOUCHED, Planetary
from nbcore.simulation.kernels.planets import KNOWN, rows_of_pairs
from nbcore.simulation.kernels.ring import places
from nbcore.simulation.kernels.shapes import Many, is_known, rounded_up
from nbcore.simulation.resumption import Keeper
from nbcore.simulation.status import Status
from nbcore.stepping.planet_errors import PlanetErrors
from nbcore.stepping.planets import PlanetSteps, bound, limits_of
from nbcore.stepping.policies import FixedStep, OwnStep

__all__ = ["integrate", "integrate_any_number", "types_of"]

Array = NDArray[np.float64]

MOST_IN_LANES = 16  # planets
BESIDE = 0.1, 0.9  # of a system alone, what each lane costs for each of its bodies, and at most
LOOKS = {False: 512, True: 1024}  # steps from look to look, without and with a corrector
ENDLESS = 1 << 62  # steps
AT_A_TIME = 4096  # records whose errors are found together
WAITING = -1  # status of a system while the other loop is at work
ALL_BUT = 0.9  # of the distance of an escape, at which extrapolation looks out for it
CLOSE = 2.0  # collision distances, likewise
# Steps of extrapolation until equal ones are tried, some 250 to 900 periods: to begin those costs
# as much. Where fewer are left it is not worth it.
STRETCH = 2000


def integrate(
    task: Task, observer: Observer, keeper: Keeper | None = None, any_number: bool = False
) -> Outcome:
    """Run every system to its end; see `engine.Engine`. The state is one of NumPy arrays.

    Parameters
    ----------
    task
        Its integrator is a `WisdomHolman` that knows its setting and the order of the bodies, and
        its policy `PlanetSteps`.
    any_number
        Whether the loop is to be the one that is compiled for any number of planets.
    """
    state, limits = task.state, task.limits
    given, order = _given(task, observer, any_number)
    bodies, axes, systems, scheme, field, settings, rule = given
    run = _Run(task, systems, order, any_number)
    shape, steps = run.shape, run.steps
    arrays = {name: array for name, array in systems._asdict().items() if name != "t_end"}
    arrays |= {f"planetary.{name}": getattr(steps, name) for name in KEPT}
    arrays |= {f"planet_errors.{name}": each for name, each in run.errors._asdict().items()}
    if keeper is not None:
        keeper.restore(arrays)
        run.take_setting()
    # Who goes on to a later end keeps the step, of which that end need not be a whole number.
    count = (limits.t_end - steps.begin) / steps.dt * (1 + ROUNDED) + TOUCHED
    steps.last[:] = np.minimum(np.floor(count), ENDLESS)
    together = 1 if is_known(shape) else len(SYSTEMS)
    groups = -(-state.n_systems // together)

    def turn(first: int, last: int, quota: int) -> None:
        first, last = first * together, min(last * together, state.n_systems)
        planetary.run(shape, bodies, axes, systems, steps, settings, records, first, last, quota)

    def extrapolate(first: int, last: int, quota: int) -> None:
        def go(first: int, last: int, quota: int) -> None:
            loop.run(
                *(bodies, axes, systems, scheme, field, settings, rule, records),
                *(first, last, quota),
            )

        # Together where they may, as a call costs as much as thirty steps.
        some = slice(first, last)
        status, left = systems.status[some], (steps.since + steps.stretch - systems.n_steps)[some]
        together = (status == Status.RUNNING) & (left >= quota)
        for b in np.flatnonzero((status == Status.RUNNING) & (left > 0) & ~together):
            go(first + int(b), first + int(b) + 1, int(left[b]))
        if together.any():
            others = (status == Status.RUNNING) & ~together
            status[others] = WAITING
            go(first, last, quota)
            status[others] = Status.RUNNING

    quota = max(1, compiled_engine.FIRST_PAIRS // (state.n_bodies**2 * state.n_systems))
    with (
        noted(task.interruptible) as interrupted,
        compiled_engine.says_when_it_compiles((*shape, 0) if is_known(shape) else shape),
        compiled_engine.workers(False) as spread,
    ):
        while (running := systems.status == Status.RUNNING).any():
            records = compiled_engine.records_in(observer.room())
            start = time.perf_counter()
            if (going := running & (steps.halted == 0)).any():
                rows = records.row.copy()
                spread(turn, groups, quota)
                run.note_errors(going, records, rows)
            run.go_on_or_hand_over()
            if (near := (systems.status == Status.RUNNING) & (steps.halted == NEAR)).any():
                others = (systems.status == Status.RUNNING) & ~near
                systems.status[others] = WAITING
                spread(extrapolate, state.n_systems, quota)
                systems.status[others] = Status.RUNNING
            spent = time.perf_counter() - start
            observer.filled(Standing(systems.n_steps, systems.made, systems.time, systems.status))
            if keeper is not None:
                keeper.note(arrays)
            if interrupted() or (limits.stop is not None and limits.stop()):
                records = compiled_engine.records_in(observer.room())
                rows, going = records.row.copy(), running & (steps.halted == 0)
                _halt(systems, steps)
                spread(turn, groups, 0)
                run.note_errors(going, records, rows)
                systems.status[systems.status == Status.RUNNING] = Status.INTERRUPTED
            quota = compiled_engine.adapted(quota, spent)
    outcome = compiled_engine.outcome_of(task, systems, order)
    outcome.handed_over, outcome.why_handed_over = steps.handed_over, steps.why
    return outcome


def integrate_any_number(task: Task, observer: Observer, keeper: Keeper | None = None) -> Outcome:
    """Likewise, in the loop that is compiled for any number of planets."""
    return integrate(task, observer, keeper, any_number=True)


def types_of(task: Task, observer: Observer, any_number: bool = False) -> tuple[types.Type, ...]:
    """Types of numba's that the loop is compiled for to make a run; arguments as of `integrate`."""
    (bodies, axes, systems, _, _, settings, _), order = _given(task, observer, any_number)
    run = _Run(task, systems, order, any_number)
    records = compiled_engine.records_in(observer.room())
    arguments = (run.shape, bodies, axes, systems, run.steps, settings, records, 0, 1, 1)
    return tuple(map(numba.typeof, arguments))


def _given(task: Task, observer: Observer, any_number: bool) -> tuple[tuple[Any, ...], Any]:
    """What the loop of extrapolation takes, which goes on with systems that are handed over."""
    extrapolated = replace(task, integrator=Extrapolation(), policy=OwnStep())
    return compiled_engine.given_for(extrapolated, observer.monitor, any_number)


def _halt(systems: Systems, steps: Planetary) -> None:
    """Have systems that went on since their last look looked at where they stand."""
    reached = steps.begin + (steps.done - 0.5) * steps.dt
    behind = (systems.status == Status.RUNNING) & (steps.halted == 0) & (systems.time < reached)
    steps.last[behind] = steps.done[behind]
    steps.halted[~behind] = OVER


KEPT = (
    *("order", "dt", "corrected", "lazy", "look", "begin", "last", "done", "ahead", "halted"),
    *("handed_over", "why", "since", "stretch", "Gm0", "known", "Y", "low", "centre"),
)


class _Run:
    """Systems of a run, and the equal steps that they are on.

    Attributes
    ----------
    shape
        What stands for the number of planets.
    steps
        What the compiled loop takes.
    errors
        Of the bodies' orbits, in the order of the user's state.
    """

    def __init__(
        self, task: Task, systems: Systems, order: NDArray[np.int64], any_number: bool
    ) -> None:
        state, scheme = task.state, task.integrator
        assert isinstance(scheme, WisdomHolman)
        self._task, self._systems, self._order, self._scheme = task, systems, order, scheme
        n_systems, n = state.n_systems, state.n_bodies - 1
        together = scheme.side_by_side
        if together is None:
            together = _pays_side_by_side(n_systems, n + 1)
        alone = not any_number and n <= MOST_IN_LANES and not together
        self.shape: Any = (0,) * n if alone else Many(n, n)
        wide = rounded_up(n) if alone else 1
        rows = KNOWN + rows_of_pairs(n) if alone else ROWS * n + n * (n - 1) + 1
        self.errors = PlanetErrors.none(n_systems, n + 1)
        self._dear = np.zeros(n_systems, dtype=bool)
        is_corrected = scheme.setting != "plain"
        drifts, kicks = (np.array(each) for each in corrector())

        def each(value: Any, dtype: Any) -> NDArray[Any]:
            return np.full(n_systems, value, dtype=dtype)

        self.steps = Planetary(
            order=np.zeros((n_systems, n + 1), dtype=np.int64),
            dt=each(0.0, float),
            corrected=each(is_corrected, bool),
            lazy=each(scheme.setting == "lazy", bool),
            look=each(LOOKS[is_corrected], np.int64),
            begin=each(0.0, float),
            last=each(0, np.int64),
            done=each(0, np.int64),
            ahead=each(0.0, float),
            halted=each(0, np.int64),
            handed_over=each(np.nan, float),
            why=each(0, np.int64),
            since=each(-1, np.int64),
            stretch=each(STRETCH, np.int64),
            Gm0=each(0.0, float),
            known=np.zeros((n_systems, rows, wide)),
            Y=np.zeros((n_systems, 8 if alone else 6 * n, wide)),
            low=np.zeros((n_systems, 6 if alone else 6 * n, wide)),
            centre=np.zeros((n_systems, 6)),
            drifts=drifts,
            kicks=kicks,
            drifts_back=-drifts[::-1].copy(),
            kicks_back=-kicks[::-1].copy(),
        )
        assert isinstance(task.policy, PlanetSteps)
        self._begin(np.arange(n_systems), state, scheme, task.policy)
        self.go_on_or_hand_over()

    def take_setting(self) -> None:
        """Go on with the setting that a run was begun with, whatever another end would ask for."""
        corrected, lazy = self.steps.corrected[0], self.steps.lazy[0]
        setting = "lazy" if lazy else "corrected" if corrected else "plain"
        self._scheme = replace(self._scheme, setting=setting)

    def go_on_or_hand_over(self) -> None:
        """Begin equal steps anew where it is time, and make ready for `gbs` who came near."""
        steps, systems = self.steps, self._systems
        running = systems.status == Status.RUNNING
        near, handed = steps.halted == NEAR, steps.since >= 0
        quiet = near & handed & (systems.n_steps - steps.since >= steps.stretch)
        few = quiet & (self._task.limits.t_end - systems.time < STRETCH * systems.made)
        steps.stretch[few] *= 2
        quiet &= ~few
        over = np.flatnonzero(running & ((steps.halted == OVER) | quiet))
        if len(over):
            steps.since[over] = -1
            policy, state = self._task.policy, self._now(over)
            assert isinstance(policy, PlanetSteps)
            own = isinstance(policy.rule, OwnStep)
            rule = policy.rule if own else FixedStep(to_numpy(policy.dt)[over])
            limits, tolerance = self._task.limits, self._task.tolerance
            scheme, policy = bound(self._scheme, rule, state, limits.t_end[over], tolerance[over])
            self._begin(over, state, scheme, policy)
        near = np.flatnonzero(running & (steps.halted == NEAR) & (steps.since < 0))
        if len(near):
            self._hand_over(near, self._now(near))

    def note_errors(
        self, systems: NDArray[np.bool_], records: Records, rows: NDArray[np.int64]
    ) -> None:
        """Errors of the bodies in records since `rows`, and as systems are now."""
        if not self._task.follow:
            return
        index = np.repeat(np.arange(len(rows)), records.row - rows)
        first = np.repeat(np.cumsum(records.row - rows) - (records.row - rows), records.row - rows)
        k = np.arange(len(index)) - first + rows[index] - records.offset
        for some in np.array_split(np.arange(len(index)), len(index) // AT_A_TIME + 1):
            b, row = index[some], k[some]
            if len(b):
                records.body_error[b, row] = self._errors(
                    b,
                    self._task.state.select(b).replace(
                        position=records.position[b, row],
                        velocity=records.velocity[b, row],
                        time=records.time[b, row],
                    ),
                    records.energy_error[b, row],
                )
        # No turn is to change what is told: so of systems on their way nothing but records counts.
        status, halted = self._systems.status, self.steps.halted
        ended = systems & ((status != Status.RUNNING) | (halted != 0))
        recorded = ended & (records.row > rows)
        last = (records.row - records.offset - 1).clip(min=0)
        recorded &= records.time[np.arange(len(rows)), last] == self._systems.time
        off, now = self._systems.off, np.flatnonzero(ended & ~recorded)
        error = self.errors.error.copy()
        if len(now):
            energy = self._systems.max_errors[now, 0]
            error[now] = self._errors(now, self._now(now), energy)
        now = np.flatnonzero(ended)
        error, loop_order = error[now], self._order[now]
        off[now, ERROR] = np.take_along_axis(error, loop_order, axis=1)
        off[now, WORST] = np.maximum(off[now, WORST], off[now, ERROR])

    def _errors(self, index: NDArray[np.int64], state: State, energy: Array) -> Array:
        return self.errors.look(index, state, self._bodies(index), self._setting, energy)

    @property
    def _setting(self) -> str:
        return self._scheme.setting or "plain"

    def _bodies(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        """Star and planets as they are numbered in the user's state."""
        return np.take_along_axis(self._order[index], self.steps.order[index], axis=1)

    def _now(self, index: NDArray[np.int64]) -> State:
        """Systems as they are, bodies in the order of the user's state."""
        state, systems = self._task.state, self._systems
        back = np.argsort(self._order[index], axis=1)
        place, velocity = (
            np.take_along_axis(each[index], back[:, None], axis=2).transpose(0, 2, 1)
            for each in (systems.position, systems.velocity)
        )
        d = state.n_dimensions
        return state.select(index).replace(
            position=place[..., :d].copy(),
            velocity=velocity[..., :d].copy(),
            time=systems.time[index].copy(),
        )

    def _hand_over(self, index: NDArray[np.int64], state: State) -> None:
        """What extrapolation begins with: a first step, and partners for the errors of orbits."""
        systems, order = self._systems, self._order[index]
        steps = self.steps
        first = np.isnan(steps.handed_over[index])
        early = ~first & (steps.done[index] < steps.stretch[index])
        steps.handed_over[index] = np.where(first, state.time, steps.handed_over[index])
        steps.since[index] = systems.n_steps[index]
        steps.stretch[index] = np.where(early, 2 * steps.stretch[index], STRETCH)
        limits = self._task.limits
        R, _ = about_star(state, self._bodies(index))
        far = np.linalg.norm(R, axis=2).max(axis=1)
        leaves = far > 0.99 * ALL_BUT * (limits.escape_distance or math.inf)
        why = np.where(leaves, LEAVING, np.where(self._dear[index], DEAR, CLOSE_BY))
        steps.why[index] = np.where(steps.why[index] == CLOSE_BY, CLOSE_BY, why)
        tolerance, scheme = self._task.tolerance[index], Extrapolation()
        radian = OwnStep()(state, tolerance)
        systems.dt[index] = radian * scheme.reach(scheme.aim(tolerance), tolerance)
        acceleration = gravity.acceleration(state.replace(acceleration=None))
        systems.acceleration[index, : state.n_dimensions] = np.take_along_axis(
            acceleration, order[..., None], axis=1
        ).transpose(0, 2, 1)
        systems.position_low[index] = systems.velocity_low[index] = 0.0
        place = np.argsort(order, axis=1)
        partner = np.take_along_axis(
            np.take_along_axis(place, partners(state), axis=1), order, axis=1
        )
        systems.partner[index] = partner
        R = np.take_along_axis(systems.position[index], partner[:, None], axis=2)
        R -= systems.position[index]
        systems.off[index, :KEPT_ERROR] = 0.0  # of energy and shape; what was wrong before stays
        systems.off[index, KEPT_ERROR] = systems.off[index, ERROR]
        alone = partner == np.arange(partner.shape[1])
        inverse = 1 / np.sqrt((R**2).sum(axis=1) + alone)
        systems.off[index, 7] = inverse
        systems.off[index, 8:11] = inverse[:, None] * R

    def _begin(
        self, index: NDArray[np.int64], state: State, scheme: WisdomHolman, policy: PlanetSteps
    ) -> None:
        """Begin equal steps in some systems, or see that they would be dear."""
        dt = to_numpy(policy.dt)
        before = np.take_along_axis(
            self._systems.off[index, ERROR], np.argsort(self._order[index], axis=1), axis=1
        )
        assert policy.outlook is not None
        assert policy.are_dear is not None
        own, steps, limits = to_numpy(scheme.bodies), self.steps, self._task.limits
        self.errors.start(index, state.time, policy.outlook, dt, before)
        n_systems, n, d = state.n_systems, state.n_bodies - 1, state.n_dimensions
        jacobi = to_jacobi(state, own)
        Gm, within = state.G * jacobi.mass, state.G * np.cumsum(jacobi.mass, axis=1)
        contact = CLOSE * (limits.collision_distance or 0.0)
        apart, star = limits_of(scheme, state, dt, self._task.tolerance[index], contact)
        escape = ALL_BUT * (limits.escape_distance or math.inf)
        massless = jacobi.mass[:, 1:] == 0
        void = (massless[:, :, None] & massless[:, None, :]).astype(float)
        apart = np.where(void > 0, 0.0, apart) ** 2
        rows = np.stack(
            [
                Gm[:, 1:],
                Gm[:, 1:] / within[:, 1:],
                1 / within[:, :-1],
                jacobi.mu,
                star**2,
                np.full((n_systems, n), escape**-2.0),
            ],
            axis=1,
        )
        coordinates = np.zeros((n_systems, 2, 3, n))
        coordinates[:, 0, :d] = jacobi.position.transpose(0, 2, 1)
        coordinates[:, 1, :d] = jacobi.velocity.transpose(0, 2, 1)
        coordinates = coordinates.reshape(n_systems, 6, n)
        if is_known(self.shape):
            steps.known[index], steps.Y[index, 6:] = _in_lanes(rows, void, apart), 0.0
            steps.Y[index, :6] = _padded(coordinates)
        else:
            steps.known[index] = _side_by_side(rows, void, apart)
            steps.Y[index] = coordinates.transpose(0, 2, 1).reshape(n_systems, 6 * n, 1)
        steps.low[index] = 0.0
        steps.order[index] = np.take_along_axis(np.argsort(self._order[index], axis=1), own, axis=1)
        span, ends = limits.t_end[index] - state.time, np.isfinite(limits.t_end[index])
        steps.dt[index] = dt
        count = np.rint(np.where(ends, span, 0.0) / dt)
        steps.last[index] = np.where(ends, np.minimum(count, ENDLESS), ENDLESS)
        steps.begin[index], steps.Gm0[index] = state.time, Gm[:, 0]
        steps.done[index], steps.ahead[index] = 0, 0.0
        steps.halted[index] = np.where(policy.are_dear, NEAR, 0)
        self._dear[index] = policy.are_dear
        steps.centre[index, :d] = jacobi.centre[:, 0]
        steps.centre[index, 3 : 3 + d] = jacobi.centre_velocity[:, 0]


def _pays_side_by_side(n_systems: int, n_bodies: int) -> bool:
    """Whether systems in as many lanes as whole vectors have cost less than one after another."""
    share, most = BESIDE
    lanes = -(-n_systems // len(SYSTEMS)) * len(SYSTEMS)
    return lanes * min(share * n_bodies, most) < n_systems


def _padded(rows: Array) -> Array:
    """Rows (B, k, n) in whole lanes; what fills them is like the last planet."""
    n = rows.shape[2]
    more = np.repeat(rows[:, :, -1:], rounded_up(n) - n, axis=2)
    return np.concatenate([rows, more], axis=2)


def _in_lanes(rows: Array, void: Array, apart: Array) -> Array:
    """Rows of `planets`: those of planets, 1 for each of them, and those of pairs."""
    n_systems, count, n = rows.shape
    known = np.zeros((n_systems, KNOWN + rows_of_pairs(n), rounded_up(n)))
    known[:, :count] = _padded(rows)
    known[:, :2, n:] = known[:, 4:6, n:] = 0.0  # padding has no mass and goes nowhere
    known[:, count, :n] = 1.0
    own = np.arange(n)
    for turn in range(1, n // 2 + 1):
        other = np.array(places(n, turn))[:n]
        known[:, KNOWN + 2 * turn - 2, :n] = void[:, own, other]
        known[:, KNOWN + 2 * turn - 1, :n] = apart[:, own, other]
    return known


def _side_by_side(rows: Array, void: Array, apart: Array) -> Array:
    """Rows of `beside`: those of planets, one planet after the other, and those of pairs."""
    n_systems, _, n = rows.shape
    i, j = np.triu_indices(n, 1)
    pairs = np.stack([void[:, i, j], apart[:, i, j]], axis=2).reshape(n_systems, -1)
    rest = np.zeros((n_systems, 1))  # as numba takes no array without rows
    known = np.concatenate([rows.transpose(0, 2, 1).reshape(n_systems, -1), pairs, rest], axis=1)
    return known[:, :, None]
