"""The engine that compiles its whole loop with numba and spreads systems over the cores.

The compiled loop (`kernels.loop.run`) advances each system by some steps at a time and leaves all
that it needs to go on in arrays, so that between two such turns Python can store records, move the
progress bar and heed an interrupt; how long the turns are changes no step.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numba
import numpy as np
from numba.core import event, types
from numpy.typing import NDArray

from nbcore.interrupts import noted
from nbcore.physics import gravity
from nbcore.physics.arrays import PerSystem, is_tensor, to_numpy
from nbcore.physics.body_errors import partners
from nbcore.physics.external import name_of
from nbcore.physics.extrapolation import MOST_COLUMNS, Extrapolation
from nbcore.physics.fields import TidalField
from nbcore.physics.integrators import Hermite, Integrator, Splitting
from nbcore.physics.integrators import name_of as integrator_name
from nbcore.physics.state import State
from nbcore.physics.transformed import Transformed
from nbcore.physics.wisdom_holman import WisdomHolman
from nbcore.simulation.compile_cache import CompileCache
from nbcore.simulation.engine import Limits, Monitor, Observer, Outcome, Room, Standing, Task
from nbcore.simulation.events import Events, at_start
from nbcore.simulation.kernels import forces, loop, planetary
from nbcore.simulation.kernels.chains import ExtrapolatedSteps, schedule
from nbcore.simulation.kernels.events import Unwatched, Watched
from nbcore.simulation.kernels.fields import NoField, Tide
from nbcore.simulation.kernels.general import KNOWN, MEMORY, General
from nbcore.simulation.kernels.learned import INPUTS, OF_PAIRS, SEEN, Learned
from nbcore.simulation.kernels.loop import Records, Settings, Systems
from nbcore.simulation.kernels.orbits import ERROR, WORST
from nbcore.simulation.kernels.planetary import Planetary
from nbcore.simulation.kernels.rules import FixedSteps, OwnSteps, SmoothRate, rule_of
from nbcore.simulation.kernels.shapes import Many, Shared, is_a, is_known
from nbcore.simulation.kernels.steps import HermiteSteps, SplittingSteps
from nbcore.simulation.kernels.transformed import TransformedSteps, in_ring
from nbcore.simulation.resumption import Keeper
from nbcore.simulation.status import Status
from nbcore.stepping.budget import Budget, Own
from nbcore.stepping.control import FALL_BACK, Guard, first_step
from nbcore.stepping.criteria import CRITERIA
from nbcore.stepping.features import DELTA_FEATURES, energy_unit, scales_of
from nbcore.stepping.layers import ACTIVATIONS
from nbcore.stepping.models import Network
from nbcore.stepping.policies import (
    Criterion,
    Crowd,
    EqualSteps,
    FixedStep,
    LearnedPolicy,
    OwnStep,
    Policy,
    shares_of,
)

__all__ = [
    "adapted",
    "as_array",
    "compile_for",
    "given_for",
    "integrate",
    "integrate_any_number",
    "loop_of",
    "obstacle",
    "outcome_of",
    "records_in",
    "says_when_it_compiles",
    "types_of",
    "workers",
]

TURN = 0.05  # seconds that the compiled loop runs before Python looks around
FIRST_PAIRS = 200_000  # bodies squared, steps and systems of the first turn
MOST_QUOTA = 1 << 40
ORDERS = (2, 4, 6, 8)  # p, for which `kernels.learned.terms` has the powers of a pair's rate


def obstacle(state: State, policy: Policy, integrator: Integrator) -> str | None:
    """What keeps a run from this engine, or None."""
    # By their very classes: one that is derived from them may do anything.
    if is_tensor(state.time) and state.time.device.type != "cpu":
        return f"states on {state.time.device}"
    if state.field is not None and type(state.field) is not TidalField:
        return f"the field {name_of(state.field)!r}"
    if type(integrator) not in (Splitting, Hermite, Extrapolation, Transformed, WisdomHolman):
        return f"the integrator {integrator_name(integrator)!r}"
    if type(policy) not in (OwnStep, FixedStep, Criterion, LearnedPolicy, Crowd):
        return f"the policy '{policy}'"
    if isinstance(policy, Criterion) and not _is_known(policy):
        return f"the criterion '{policy.name}'"
    if isinstance(policy, LearnedPolicy):
        if policy.spec.order not in ORDERS:
            return f"a learned policy of order {policy.spec.order}"
        return next((f"the feature '{name}'" for name in policy.names if name not in KNOWN), None)
    return None


def _is_known(policy: Criterion) -> bool:
    """Whether there is a rule for a criterion, which may be called like one that there is."""
    nothing, row = np.empty(0), CRITERIA.get(policy.name)
    same = row is not None and row.time_scale is policy.row.time_scale
    return same and rule_of(policy.name, nothing, nothing) is not None


def integrate(
    task: Task, observer: Observer, keeper: Keeper | None = None, any_number: bool = False
) -> Outcome:
    """Run every system to its end; see `engine.Engine`. The state is one of NumPy arrays.

    Parameters
    ----------
    any_number
        Whether the loop is to be the one that is compiled for any number of bodies.
    """
    state, limits = task.state, task.limits
    if isinstance(task.integrator, (Extrapolation, Hermite, Transformed)):
        task.integrator.check(state)
    given, order = given_for(task, observer.monitor, any_number)
    bodies, axes, systems, scheme, field, settings, rule = given
    arrays = {name: array for name, array in systems._asdict().items() if name != "t_end"}
    if isinstance(rule, General):
        arrays |= {name: getattr(rule, name) for name in MEMORY}
    if isinstance(scheme, TransformedSteps):
        arrays["pace"] = scheme.pace
    if isinstance(scheme, ExtrapolatedSteps):
        arrays |= {f"budget.{name}": array for name, array in scheme.budget.arrays.items()}
    if keeper is not None:
        keeper.restore(arrays)

    def turn(first: int, last: int, quota: int) -> None:
        loop.run(bodies, axes, systems, scheme, field, settings, rule, records, first, last, quota)

    quota = max(1, FIRST_PAIRS // (state.n_bodies**2 * len(systems.status)))
    with (
        noted(task.interruptible) as interrupted,
        says_when_it_compiles(bodies),
        workers(isinstance(bodies, Shared)) as spread,
    ):
        while (systems.status == Status.RUNNING).any():
            records = records_in(observer.room())
            start = time.perf_counter()
            spread(turn, len(systems.status), quota)
            spent = time.perf_counter() - start
            observer.filled(Standing(systems.n_steps, systems.made, systems.time, systems.status))
            if keeper is not None:
                keeper.note(arrays)
            if interrupted() or (limits.stop is not None and limits.stop()):
                systems.status[systems.status == Status.RUNNING] = Status.INTERRUPTED
            quota = adapted(quota, spent)
    return outcome_of(task, systems, order)


def integrate_any_number(task: Task, observer: Observer, keeper: Keeper | None = None) -> Outcome:
    """Likewise, in the loop that is compiled for any number of bodies."""
    return integrate(task, observer, keeper, any_number=True)


def adapted(quota: int, spent: float) -> int:
    """Steps of a turn, from those of a turn that took so many seconds."""
    if spent < TURN / 2:
        return min(2 * quota, MOST_QUOTA)
    return max(quota // 2, 1) if spent > 2 * TURN else quota


def outcome_of(task: Task, systems: Systems, order: np.ndarray) -> Outcome:
    """Where the loop has left a run, bodies in the order of the user's state."""
    state = task.state
    evaluations = task.force_evaluations(systems.n_steps, systems.n_redone) + systems.n_more
    d, back = state.n_dimensions, np.argsort(order, axis=1)

    def of_bodies(row: int) -> NDArray[np.float64]:
        kept = _body_by_body(systems.off[:, row : row + 1], back)[..., 0]
        return kept if task.follow else np.full_like(kept, np.nan)

    final = state.replace(
        position=_body_by_body(systems.position, back)[..., :d],
        velocity=_body_by_body(systems.velocity, back)[..., :d],
        time=systems.time,
        work=systems.work,
    )
    return Outcome(
        final,
        systems.status,
        systems.n_steps,
        systems.n_redone,
        evaluations,
        systems.max_errors.T,
        of_bodies(ERROR),
        of_bodies(WORST),
        _events(systems, order),
    )


def types_of(task: Task, observer: Observer, any_number: bool = False) -> tuple[types.Type, ...]:
    """Types of numba's that the loop is compiled for to make a run; arguments as of `integrate`."""
    given, _ = given_for(task, observer.monitor, any_number)
    arguments = (*given, records_in(observer.room()), 0, 1, 1)
    return tuple(map(numba.typeof, arguments))


def compile_for(kinds: tuple[types.Type, ...]) -> None:
    """Compile the loop that takes such types of arguments, unless that was done."""
    if not CACHE.holds(run := loop_of(kinds), kinds):
        run.compile(kinds)


def loop_of(kinds: tuple[types.Type, ...]) -> Any:
    """The loop that takes such types of arguments."""
    return planetary.run if any(map(is_a(Planetary), kinds)) else loop.run


def given_for(task: Task, monitor: Monitor, any_number: bool) -> tuple[tuple[Any, ...], np.ndarray]:
    """What the loop takes, up to the records; and the order (B, N) of the bodies."""
    state, limits = task.state, task.limits
    bodies, order = _bodies(state, task.integrator)
    axes = (0,) * state.n_dimensions
    systems = _systems(task, monitor, order)
    settings = Settings(
        state.G,
        state.softening,
        task.is_reversible,
        limits.max_steps,
        _watch(limits),
        task.follow,
        *_guard(task.guard, state),
    )
    rule = _rule(task.policy, state, task.tolerance)
    if any_number and is_known(bodies):
        bodies = Many(state.n_bodies, state.n_bodies)
        systems.n_active[:] = state.n_bodies  # in their order, a massless one may be amidst them
        if not isinstance(rule, General):  # which may see the number of dimensions
            axes = (0, 0, 0)
    scheme = _scheme(task, np.take_along_axis(state.mass, order, axis=1), bodies)
    return (bodies, axes, systems, scheme, _field(state), settings, rule), order


def records_in(room: Room) -> Records:
    """Where the loop puts records."""
    return Records(room.every, room.rows_a_step, room.times, room.row, room.offset, **room.arrays)


def _events(systems: Systems, order: np.ndarray) -> Events:
    """What ended the runs; here the numbers of bodies leave the engine."""
    time, first, second, distance = systems.event.T
    first, second = _renamed(first, order), _renamed(second, order)
    swapped = (second >= 0) & (second < first)
    pair = np.where(swapped, second, first), np.where(swapped, first, second)
    return Events(time, *pair, distance)


def _renamed(bodies: np.ndarray, names: np.ndarray) -> np.ndarray:
    """Bodies (B,) by their names (B, N); −1, which is none, stays."""
    index = bodies.astype(np.int64).clip(min=0)[:, None]
    return np.where(bodies >= 0, np.take_along_axis(names, index, axis=1)[:, 0], -1)


def _systems(task: Task, monitor: Monitor, order: np.ndarray) -> Systems:
    state, policy = task.state, task.policy
    known = gravity.derivatives(state, max(task.integrator.evaluations_at_start, 1))
    state = state.replace(acceleration=known[0])
    memory = policy.begin(state)

    def propose(at: State) -> PerSystem:
        return task.propose(at, memory)

    dt = first_step(state, propose) if task.is_reversible else propose(state)
    energy, momentum, angular = (each.reshape(len(dt), -1) for each in monitor.initial)
    events = at_start(state, task.limits.watch)
    n_systems = state.n_systems
    place, off = np.argsort(order, axis=1), np.zeros((n_systems, 11, state.n_bodies))
    if not task.follow:
        off[:, ERROR] = np.nan
    met, other = _renamed(events.first, place), _renamed(events.second, place)
    events = events._replace(first=met, second=other)
    partner = np.take_along_axis(place, partners(state), axis=1)
    initial = np.zeros((n_systems, 7))
    initial[:, 0] = energy[:, 0]
    initial[:, 1 : 1 + momentum.shape[1]] = momentum
    initial[:, 7 - angular.shape[1] :] = angular  # in the plane the third axis alone
    return Systems(
        order=order,
        n_active=(state.mass > 0).sum(axis=1),
        mass=np.take_along_axis(state.mass, order, axis=1),
        position=_axis_by_axis(state.position, order),
        velocity=_axis_by_axis(state.velocity, order),
        acceleration=_axis_by_axis(known[0], order),
        jerk=_axis_by_axis(known[-1], order),
        position_low=np.zeros((state.n_systems, 3, state.n_bodies)),
        velocity_low=np.zeros((state.n_systems, 3, state.n_bodies)),
        time=as_array(state.time),
        dt=as_array(dt),
        made=np.full(n_systems, np.nan),
        work=as_array(state.work),
        status=events.ends(np.full(n_systems, int(Status.RUNNING))),
        n_steps=np.zeros(n_systems, dtype=np.int64),
        n_redone=np.zeros(n_systems, dtype=np.int64),
        n_more=np.zeros(n_systems, dtype=np.int64),
        energy=initial[:, 0].copy(),
        taken_over=np.zeros(n_systems, dtype=bool),
        partner=np.take_along_axis(partner, order, axis=1),
        off=off,
        max_errors=np.zeros((n_systems, 3)),
        initial=initial,
        scale=np.stack(monitor.scales, axis=1),
        t_end=as_array(task.limits.t_end),
        event=np.stack([each.astype(float) for each in events], axis=1),
    )


def _watch(limits: Limits) -> Watched | Unwatched:
    """What `loop.Settings` says of contacts and escapes."""
    collision, escape = limits.watch
    return Watched(collision, escape) if collision > 0 or escape < np.inf else Unwatched(0)


def _guard(guard: Guard | None, state: State) -> tuple[bool, np.ndarray, np.ndarray, SmoothRate]:
    """What `loop.Settings` says of the guard."""
    if guard is None:
        nothing = np.zeros(state.n_systems)
        return False, nothing, nothing, SmoothRate(nothing, nothing)
    fall_back = rule_of(FALL_BACK, as_array(guard.eta), _unit4(state))
    assert isinstance(fall_back, SmoothRate)
    return True, as_array(guard.largest_change), as_array(guard.largest_error), fall_back


def _bodies(state: State, integrator: Integrator) -> tuple[Any, np.ndarray]:
    """What stands for N in the compiled code, and the order (B, N) in which bodies stand there."""
    n, massless = state.n_bodies, state.mass == 0
    few = n <= forces.LARGEST_UNROLLED and int(massless.sum(axis=1).max()) < 2
    in_s = isinstance(integrator, (Extrapolation, Transformed))
    if few and not isinstance(integrator, Extrapolation):  # whose lanes are chains, not bodies
        return (0,) * n, np.tile(np.arange(n), (state.n_systems, 1))
    # Two massless bodies don't see each other: those with mass come first, to be looped over.
    order = np.argsort(massless, axis=1, kind="stable")
    # Cores are worth sharing a system by its pairs, which test particles have few of.
    pairs = n * int((~massless).sum(axis=1).max())
    shared = pairs >= forces.SHARED**2 and not in_s
    return (Shared(n, n) if shared else Many(n, n)), order


def _scheme(
    task: Task, mass: np.ndarray, bodies: Any
) -> SplittingSteps | HermiteSteps | ExtrapolatedSteps | TransformedSteps:
    """What makes the steps; masses (B, N) in the order of the loop, and what stands for N."""
    integrator, tolerance = task.integrator, task.tolerance
    if isinstance(integrator, Extrapolation) and (budget := task.budget) is not None:
        return ExtrapolatedSteps(
            integrator.clock.roots,
            np.array([integrator.columns_for(each) for each in tolerance]),
            _copied(budget),
            as_array(gravity.energy_size(task.state)),
            np.ascontiguousarray(integrator.clock.weights(mass)),
            schedule(MOST_COLUMNS),
        )
    if isinstance(integrator, Transformed):
        clock, pace = integrator.clock, np.zeros((len(mass), 2))
        weights = np.ascontiguousarray(clock.weights(mass))
        pace[:, 0] = clock.rate(task.state)
        return TransformedSteps(
            clock.roots,
            np.array(integrator.kicks),
            np.array(integrator.drifts),
            in_ring(weights, mass.shape[1]) if is_known(bodies) else weights,
            pace,
        )
    if isinstance(integrator, Splitting):
        return SplittingSteps(np.array(integrator.kicks), np.array(integrator.drifts))
    assert isinstance(integrator, Hermite)
    return HermiteSteps(integrator.order)


def _copied(budget: Budget) -> Budget:
    """The same in arrays of its own."""
    *numbers, own, law = budget
    return Budget(*(as_array(each) for each in numbers), own=Own(*map(as_array, own)), law=law)


def _field(state: State) -> NoField | Tide:
    field = state.field
    if field is None:
        return NoField(0)
    assert isinstance(field, TidalField)
    position, velocity = np.zeros(3), np.zeros(3)
    position[: state.n_dimensions] = field.position
    velocity[: state.n_dimensions] = field.velocity or 0.0
    return Tide(state.G * field.mass, position, velocity)


def _rule(policy: Policy, state: State, tolerance: PerSystem) -> Any:
    if isinstance(policy, OwnStep):
        return OwnSteps(0)
    if isinstance(policy, EqualSteps):
        return FixedSteps(as_array(policy(state, tolerance)))
    if isinstance(policy, FixedStep):
        return FixedSteps(_each(policy.dt, state))
    unit4 = _unit4(state)
    if isinstance(policy, LearnedPolicy):
        plain = all(name in SEEN for name in policy.names) and not policy.spec.fourier_features
        if plain and not policy.looks_back:
            return _learned(policy, state, tolerance, unit4)
        return _general(policy, state, tolerance, unit4)
    assert isinstance(policy, Criterion)
    factor = _each(policy.eta, state) ** policy.row.eta_power
    return rule_of(policy.name, factor, unit4)


def _unit4(state: State) -> np.ndarray:
    """Fourth power of the time √(R³/G M) of a system, R its rms size; see `SmoothRate`."""
    offset = state.position - gravity.centre_of_mass(state)[0]
    mean_r2 = (offset * offset).sum(axis=-1).mean(axis=1) + state.softening**2
    return as_array(mean_r2**3 / (state.G * state.mass.sum(axis=1)) ** 2)


def _learned(
    policy: LearnedPolicy, state: State, tolerance: PerSystem, unit4: np.ndarray
) -> Learned:
    """The policy's own weights, spread over all that the loop sees and padded to one width."""
    places = [0, *(SEEN.index(name) for name in policy.names)]
    mean, sharpness = np.zeros(INPUTS), np.zeros(INPUTS)
    mean[places] = as_array(policy.network.mean)
    sharpness[places] = 1 / as_array(policy.network.deviation)
    packed = [_packed(network, places) for network in policy.networks]
    weights, biases, last, last_bias = (np.stack(each) for each in zip(*packed, strict=True))
    width = last.shape[1]
    shares = shares_of(state.n_systems, len(packed))
    return Learned(
        factor=as_array(policy.factor(tolerance)),
        order=policy.spec.order,
        unit4=unit4,
        energy_unit=as_array(energy_unit(state)),
        log_tolerance=as_array(policy.log_tolerance(tolerance)),
        mean=mean,
        sharpness=sharpness,
        member=np.repeat(np.arange(len(packed)), [share.stop - share.start for share in shares]),
        sees=(0,) * (2 if max(places) >= OF_PAIRS - 1 else 1),
        hidden=(0,) * width,
        weights=weights.reshape(-1, width),
        biases=biases.reshape(-1, width),
        last=last,
        last_bias=last_bias,
        activation=list(ACTIVATIONS).index(policy.spec.activation),
        bound=policy.bound,
    )


def _packed(network: Network, places: list[int]) -> tuple[np.ndarray, ...]:
    """Weights (layers, W, W), biases (layers, W), and the last layer's (W,) and ()."""
    *hidden, last = network.weights
    width = -(-max(INPUTS, *(len(weight) for weight in network.weights)) // 8) * 8
    weights = np.zeros((len(hidden), width, width), last.dtype)
    biases, final = np.zeros((len(hidden), width), last.dtype), np.zeros(width, last.dtype)
    rows = places
    for k, weight in enumerate(hidden):
        weights[k][rows, : len(weight)] = weight.T
        biases[k, : len(weight)] = network.biases[k]
        rows = list(range(len(weight)))
    final[rows] = last[0]
    return weights, biases, final, np.array(float(network.biases[-1][0]))


def _general(policy: LearnedPolicy, state: State, tolerance: PerSystem, unit4: Any) -> General:
    network, spec = policy.network, policy.spec
    layers = zip(network.weights, network.biases, strict=True)
    parts = [part.ravel() for weight, bias in layers for part in (weight.T, bias)]
    waves = network.frequencies
    n_inputs = len(network.mean)
    memory = policy.begin(state)
    raw = scales_of(state, "raw")
    return General(
        factor=as_array(policy.factor(tolerance)),
        order=spec.order,
        unit4=unit4,
        energy_unit=as_array(energy_unit(state)),
        log_tolerance=as_array(policy.log_tolerance(tolerance)),
        sees=(0, 0),
        features=np.array([0, *(KNOWN.index(name) for name in policy.names)]),
        scales=as_array(memory.get("scales", raw)),
        history=spec.history,
        oldest=spec.history_padding == "oldest",
        deltas=np.zeros((state.n_systems, spec.history, len(DELTA_FEATURES))),
        remembered=np.zeros((state.n_systems, 1)),
        mean=as_array(network.mean),
        deviation=as_array(network.deviation),
        frequencies=np.empty((n_inputs, 0)) if waves is None else waves.copy(),
        widths=np.array([network.weights[0].shape[1], *map(len, network.biases)]),
        weights=np.concatenate(parts),
        activation=list(ACTIVATIONS).index(spec.activation),
        bound=policy.bound,
    )


def as_array(value: Any) -> NDArray[np.float64]:
    """An array of numbers that is the loop's own."""
    return np.array(to_numpy(value), dtype=np.float64, order="C")


def _each(value: Any, state: State) -> np.ndarray:
    return as_array(np.broadcast_to(to_numpy(value), state.n_systems))


def _axis_by_axis(vectors: np.ndarray, order: np.ndarray) -> np.ndarray:
    """(B, N, D) to (B, 3, N), bodies in this order, with zeros for the axis that a plane lacks."""
    n_systems, n_bodies, n_dimensions = vectors.shape
    array = np.zeros((n_systems, 3, n_bodies))
    ordered = np.take_along_axis(vectors, order[..., None], axis=1)
    array[:, :n_dimensions] = ordered.transpose(0, 2, 1)
    return array


def _body_by_body(array: np.ndarray, back: np.ndarray) -> np.ndarray:
    """(B, k, N) to (B, N, k), bodies in the user's order."""
    return np.take_along_axis(array, back[:, None, :], axis=2).transpose(0, 2, 1).copy()


@contextmanager
def workers(
    shared: bool,
) -> Iterator[Callable[[Callable[[int, int, int], None], int, int], None]]:
    """Spread systems over as many threads as numba may use, unless they share every system."""
    threads = numba.get_num_threads()
    with ThreadPoolExecutor(threads) as pool:

        def spread(turn: Callable[[int, int, int], None], n_systems: int, quota: int) -> None:
            parts = min(n_systems, 8 * threads)
            if threads == 1 or parts == 1 or shared:
                turn(0, n_systems, quota)
                return
            edges = [n_systems * k // parts for k in range(parts + 1)]
            for _ in pool.map(turn, edges[:-1], edges[1:], [quota] * parts):
                pass

        yield spread


class _Announcement(event.Listener):
    def __init__(self, text: str) -> None:
        self._text = text

    def on_start(self, event: Any) -> None:
        if self._text:
            print(self._text, file=sys.stderr, flush=True)
            self._text = ""

    def on_end(self, event: Any) -> None:
        pass


@contextmanager
def says_when_it_compiles(bodies: Any) -> Iterator[None]:
    """Tell once that a loop is compiled, for what stands for its number of bodies."""
    what = f"{len(bodies)} bodies" if is_known(bodies) else "many bodies"
    text = f"nbcore: compiling the engine for {what}, once; kept in {CACHE.folder}"
    with event.install_listener("numba:compile", _Announcement(text)):
        yield


CACHE = CompileCache()
CACHE.keep(loop.run)
CACHE.keep(planetary.run)  # here, as its code is part of what the cache goes by
