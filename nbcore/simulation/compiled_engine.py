"""The engine that compiles its whole loop with numba and spreads systems over the cores.

The compiled loop (`kernels.loop.run`) advances each system by some steps at a time and leaves all
that it needs to go on in arrays, so that between two such turns Python can store records, move the
progress bar and heed an interrupt; how long the turns are changes no step.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numba
import numpy as np
import torch
from numba.core import event

from nbcore.physics import gravity
from nbcore.physics.body_errors import partners
from nbcore.physics.external import name_of
from nbcore.physics.fields import TidalField
from nbcore.physics.integrators import Hermite, Integrator, Splitting
from nbcore.physics.state import PerSystem, State
from nbcore.simulation.compile_cache import CompileCache
from nbcore.simulation.engine import Limits, Monitor, Observer, Outcome, Standing, Task
from nbcore.simulation.events import Events, at_start
from nbcore.simulation.kernels import forces, loop
from nbcore.simulation.kernels.events import Unwatched, Watched
from nbcore.simulation.kernels.fields import NoField, Tide
from nbcore.simulation.kernels.general import KNOWN, MEMORY, General
from nbcore.simulation.kernels.learned import INPUTS, OF_PAIRS, SEEN, Learned
from nbcore.simulation.kernels.loop import Records, Settings, Systems
from nbcore.simulation.kernels.orbits import ERROR, WORST
from nbcore.simulation.kernels.rules import FixedSteps, SmoothRate, rule_of
from nbcore.simulation.kernels.shapes import Many, Shared
from nbcore.simulation.kernels.steps import HermiteSteps, SplittingSteps
from nbcore.simulation.resumption import Keeper
from nbcore.simulation.status import Status
from nbcore.stepping.control import FALL_BACK, Guard, first_step
from nbcore.stepping.criteria import get_criterion
from nbcore.stepping.features import DELTA_FEATURES, energy_unit, scales_of
from nbcore.stepping.models import ACTIVATIONS, StepNetwork
from nbcore.stepping.policies import Criterion, Crowd, FixedStep, LearnedPolicy, Policy

__all__ = ["integrate", "obstacle"]

TURN = 0.05  # seconds that the compiled loop runs before Python looks around
FIRST_PAIRS = 200_000  # bodies squared, steps and systems of the first turn
MOST_QUOTA = 1 << 40


def obstacle(state: State, policy: Policy, integrator: Integrator) -> str | None:
    """What keeps a run from this engine, or None."""
    # By their very classes: one that is derived from them may do anything.
    if state.position.device.type != "cpu":
        return f"states on {state.position.device}"
    if state.field is not None and type(state.field) is not TidalField:
        return f"the field {name_of(state.field)!r}"
    if type(integrator) not in (Splitting, Hermite):
        return f"the integrator {integrator}"
    if type(policy) not in (FixedStep, Criterion, LearnedPolicy, Crowd):
        return f"the policy '{policy}'"
    nothing = np.empty(0)
    if isinstance(policy, Criterion) and rule_of(policy.name, nothing, nothing) is None:
        return f"the criterion '{policy.name}'"
    if isinstance(policy, LearnedPolicy):
        return next((f"the feature '{name}'" for name in policy.names if name not in KNOWN), None)
    return None


@torch.no_grad()
def integrate(task: Task, observer: Observer, keeper: Keeper | None = None) -> Outcome:
    """Run every system to its end; see `engine.Engine`."""
    state, policy, integrator, limits = task.state, task.policy, task.integrator, task.limits
    if isinstance(integrator, Hermite):
        integrator.check(state)
    bodies, order = _bodies(state)
    systems = _systems(task, observer.monitor, order)
    settings = Settings(
        state.G,
        state.softening,
        task.is_reversible,
        limits.max_steps,
        _watch(limits),
        task.follow,
        *_guard(task.guard, state),
    )
    scheme, field = _scheme(integrator), _field(state)
    rule = _rule(policy, state, task.tolerance)
    arrays = {name: array for name, array in systems._asdict().items() if name != "t_end"}
    if isinstance(rule, General):
        arrays |= {name: getattr(rule, name) for name in MEMORY}
    if keeper is not None:
        keeper.restore(arrays)
    n, axes = state.n_bodies, (0,) * state.n_dimensions

    def turn(first: int, last: int, quota: int) -> None:
        loop.run(bodies, axes, systems, scheme, field, settings, rule, records, first, last, quota)

    quota = max(1, FIRST_PAIRS // (n * n * len(systems.status)))
    with (
        _interrupts(task.interruptible) as interrupted,
        _says_when_it_compiles(n),
        _workers(isinstance(bodies, Shared)) as spread,
    ):
        while (systems.status == Status.RUNNING).any():
            room = observer.room()
            records = Records(room.every, room.times, room.row, room.offset, **room.arrays)
            start = time.perf_counter()
            spread(turn, len(systems.status), quota)
            spent = time.perf_counter() - start
            observer.filled(Standing(systems.n_steps, systems.made, systems.time, systems.status))
            if keeper is not None:
                keeper.note(arrays)
            if interrupted() or (limits.stop is not None and limits.stop()):
                systems.status[systems.status == Status.RUNNING] = Status.INTERRUPTED
            if spent < TURN / 2:
                quota = min(2 * quota, MOST_QUOTA)
            elif spent > 2 * TURN:
                quota = max(quota // 2, 1)
    evaluations = task.force_evaluations(systems.n_steps, systems.n_redone)
    d, back = state.n_dimensions, np.argsort(order, axis=1)

    def of_bodies(row: int) -> torch.Tensor:
        kept = _body_by_body(systems.off[:, row : row + 1], back)[..., 0]
        return kept if task.follow else torch.full_like(kept, torch.nan)

    final = state.replace(
        position=_body_by_body(systems.position, back)[..., :d].contiguous(),
        velocity=_body_by_body(systems.velocity, back)[..., :d].contiguous(),
        time=torch.as_tensor(systems.time),
        work=torch.as_tensor(systems.work),
    )
    return Outcome(
        final,
        torch.as_tensor(systems.status),
        torch.as_tensor(systems.n_steps),
        torch.as_tensor(systems.n_redone),
        torch.as_tensor(evaluations),
        torch.as_tensor(systems.max_errors.T.copy()),
        of_bodies(ERROR),
        of_bodies(WORST),
        _events(systems, order),
    )


def _events(systems: Systems, order: np.ndarray) -> Events:
    """What ended the runs; here the numbers of bodies leave the engine."""
    time, first, second, distance = torch.as_tensor(systems.event.T.copy())
    first, second = _renamed(first, order), _renamed(second, order)
    swapped = (second >= 0) & (second < first)
    pair = torch.where(swapped, second, first), torch.where(swapped, first, second)
    return Events(time, *pair, distance)


def _renamed(bodies: torch.Tensor, names: np.ndarray) -> torch.Tensor:
    """Bodies (B,) by their names (B, N); −1, which is none, stays."""
    whom = torch.as_tensor(names).gather(1, bodies.long().clamp(min=0)[:, None])[:, 0]
    return torch.where(bodies >= 0, whom, -1)


def _systems(task: Task, monitor: Monitor, order: np.ndarray) -> Systems:
    state, policy = task.state, task.policy
    known = gravity.derivatives(state, task.integrator.evaluations_at_start)
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
    partner = np.take_along_axis(place, partners(state).numpy(), axis=1)
    initial = np.zeros((n_systems, 7))
    initial[:, 0] = energy[:, 0]
    initial[:, 1 : 1 + momentum.shape[1]] = momentum
    initial[:, 7 - angular.shape[1] :] = angular  # in the plane the third axis alone
    return Systems(
        order=order,
        n_active=(state.mass > 0).sum(dim=1).numpy(),
        mass=np.take_along_axis(_array(state.mass), order, axis=1),
        position=_axis_by_axis(state.position, order),
        velocity=_axis_by_axis(state.velocity, order),
        acceleration=_axis_by_axis(known[0], order),
        jerk=_axis_by_axis(known[-1], order),
        position_low=np.zeros((state.n_systems, 3, state.n_bodies)),
        velocity_low=np.zeros((state.n_systems, 3, state.n_bodies)),
        time=_array(state.time),
        dt=_array(dt),
        made=np.full(n_systems, np.nan),
        work=_array(state.work),
        status=events.ends(torch.full((n_systems,), int(Status.RUNNING))).numpy(),
        n_steps=np.zeros(n_systems, dtype=np.int64),
        n_redone=np.zeros(n_systems, dtype=np.int64),
        energy=initial[:, 0].copy(),
        taken_over=np.zeros(n_systems, dtype=bool),
        partner=np.take_along_axis(partner, order, axis=1),
        off=off,
        max_errors=np.zeros((n_systems, 3)),
        initial=initial,
        scale=_array(torch.stack(monitor.scales, dim=1)),
        t_end=_array(task.limits.t_end),
        event=_array(torch.stack([each.double() for each in events], dim=1)),
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
    fall_back = rule_of(FALL_BACK, _array(guard.eta), _unit4(state))
    assert isinstance(fall_back, SmoothRate)
    return True, _array(guard.largest_change), _array(guard.largest_error), fall_back


def _bodies(state: State) -> tuple[Any, np.ndarray]:
    """What stands for N in the compiled code, and the order (B, N) in which bodies stand there."""
    n, massless = state.n_bodies, state.mass == 0
    if n <= forces.LARGEST_UNROLLED and int(massless.sum(dim=1).max()) < 2:
        return (0,) * n, np.tile(np.arange(n), (state.n_systems, 1))
    # Two massless bodies don't see each other: those with mass come first, to be looped over.
    order = np.argsort(massless.numpy(), axis=1, kind="stable")
    # Cores are worth sharing a system by its pairs, which test particles have few of.
    pairs = n * int((~massless).sum(dim=1).max())
    return (Shared(n, n) if pairs >= forces.SHARED**2 else Many(n, n)), order


def _scheme(integrator: Integrator) -> SplittingSteps | HermiteSteps:
    if isinstance(integrator, Splitting):
        return SplittingSteps(np.array(integrator.kicks), np.array(integrator.drifts))
    return HermiteSteps(integrator.order)


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
    if isinstance(policy, FixedStep):
        return FixedSteps(_each(policy.dt, state))
    unit4 = _unit4(state)
    if isinstance(policy, LearnedPolicy):
        plain = all(name in SEEN for name in policy.names) and not policy.spec.fourier_features
        if plain and not policy.looks_back:
            return _learned(policy, state, tolerance, unit4)
        return _general(policy, state, tolerance, unit4)
    assert isinstance(policy, Criterion)
    factor = _each(policy.eta, state) ** get_criterion(policy.name).eta_power
    return rule_of(policy.name, factor, unit4)


def _unit4(state: State) -> np.ndarray:
    """Fourth power of the time √(R³/G M) of a system, R its rms size; see `SmoothRate`."""
    offset = state.position - gravity.centre_of_mass(state)[0]
    mean_r2 = (offset * offset).sum(dim=-1).mean(dim=1) + state.softening**2
    return _array(mean_r2**3 / (state.G * state.mass.sum(dim=1)) ** 2)


def _learned(
    policy: LearnedPolicy, state: State, tolerance: PerSystem, unit4: np.ndarray
) -> Learned:
    """The policy's own weights, spread over all that the loop sees and padded to one width."""
    places = [0, *(SEEN.index(name) for name in policy.names)]
    mean, sharpness = np.zeros(INPUTS), np.zeros(INPUTS)
    mean[places] = _array(policy.network.mean)
    sharpness[places] = 1 / _array(policy.network.deviation)
    packed = [_packed(network, places) for network in policy.networks]
    weights, biases, last, last_bias = (np.stack(each) for each in zip(*packed, strict=True))
    width = last.shape[1]
    shares = np.array_split(np.arange(state.n_systems), len(packed))
    return Learned(
        factor=_array(policy.factor(tolerance)),
        order=policy.spec.order,
        unit4=unit4,
        energy_unit=_array(energy_unit(state)),
        log_tolerance=_array(policy.log_tolerance(tolerance)),
        mean=mean,
        sharpness=sharpness,
        member=np.repeat(np.arange(len(packed)), [len(share) for share in shares]),
        sees=(0,) * (2 if max(places) >= OF_PAIRS - 1 else 1),
        hidden=(0,) * width,
        weights=weights.reshape(-1, width),
        biases=biases.reshape(-1, width),
        last=last,
        last_bias=last_bias,
        activation=list(ACTIVATIONS).index(policy.spec.activation),
        bound=policy.bound,
    )


def _packed(network: StepNetwork, places: list[int]) -> tuple[np.ndarray, ...]:
    """Weights (layers, W, W), biases (layers, W), and the last layer's (W,) and ()."""
    *hidden, last = [layer for layer in network.layers if isinstance(layer, torch.nn.Linear)]
    width = -(-max(INPUTS, *(layer.out_features for layer in [*hidden, last])) // 8) * 8
    dtype = last.weight.detach().numpy().dtype
    weights = np.zeros((len(hidden), width, width), dtype)
    biases, final = np.zeros((len(hidden), width), dtype), np.zeros(width, dtype)
    rows = places
    for k, layer in enumerate(hidden):
        weights[k][rows, : layer.out_features] = layer.weight.detach().numpy().T
        biases[k, : layer.out_features] = layer.bias.detach().numpy()
        rows = list(range(layer.out_features))
    final[rows] = last.weight.detach().numpy()[0]
    return weights, biases, final, np.array(float(last.bias[0]))


def _general(policy: LearnedPolicy, state: State, tolerance: PerSystem, unit4: Any) -> General:
    network, spec = policy.network, policy.spec
    layers = [layer for layer in network.layers if isinstance(layer, torch.nn.Linear)]
    parts = [part.flatten() for layer in layers for part in (layer.weight.T, layer.bias)]
    waves = network.frequencies
    n_inputs = len(network.mean)
    memory = policy.begin(state)
    raw = scales_of(state, "raw")
    return General(
        factor=_array(policy.factor(tolerance)),
        order=spec.order,
        unit4=unit4,
        energy_unit=_array(energy_unit(state)),
        log_tolerance=_array(policy.log_tolerance(tolerance)),
        sees=(0, 0),
        features=np.array([0, *(KNOWN.index(name) for name in policy.names)]),
        scales=_array(memory.get("scales", raw)),
        history=spec.history,
        oldest=spec.history_padding == "oldest",
        deltas=np.zeros((state.n_systems, spec.history, len(DELTA_FEATURES))),
        remembered=np.zeros((state.n_systems, 1)),
        mean=_array(network.mean),
        deviation=_array(network.deviation),
        frequencies=np.empty((n_inputs, 0)) if waves is None else waves.numpy().copy(),
        widths=np.array([layers[0].in_features, *(layer.out_features for layer in layers)]),
        weights=torch.cat(parts).detach().numpy(),
        activation=list(ACTIVATIONS).index(spec.activation),
        bound=policy.bound,
    )


def _array(tensor: torch.Tensor) -> np.ndarray:
    return np.array(tensor.detach().numpy(), dtype=np.float64, order="C")


def _each(value: Any, state: State) -> np.ndarray:
    tensor = torch.as_tensor(value, dtype=torch.float64)
    return _array(tensor.expand(state.n_systems))


def _axis_by_axis(vectors: torch.Tensor, order: np.ndarray) -> np.ndarray:
    """(B, N, D) to (B, 3, N), bodies in this order, with zeros for the axis that a plane lacks."""
    n_systems, n_bodies, n_dimensions = vectors.shape
    array = np.zeros((n_systems, 3, n_bodies))
    ordered = np.take_along_axis(vectors.detach().numpy(), order[..., None], axis=1)
    array[:, :n_dimensions] = ordered.transpose(0, 2, 1)
    return array


def _body_by_body(array: np.ndarray, back: np.ndarray) -> torch.Tensor:
    """(B, k, N) to (B, N, k), bodies in the user's order."""
    return torch.as_tensor(np.take_along_axis(array, back[:, None, :], axis=2).transpose(0, 2, 1))


@contextmanager
def _workers(
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


@contextmanager
def _interrupts(wanted: bool) -> Iterator[Callable[[], bool]]:
    """Note Ctrl-C instead of raising it, so that it can't fall into the middle of a record."""
    came = threading.Event()
    if not wanted or threading.current_thread() is not threading.main_thread():
        yield came.is_set
        return
    before = signal.signal(signal.SIGINT, lambda *_: came.set())
    try:
        yield came.is_set
    finally:
        signal.signal(signal.SIGINT, before)


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
def _says_when_it_compiles(n_bodies: int) -> Iterator[None]:
    what = f"{n_bodies} bodies" if n_bodies <= forces.LARGEST_UNROLLED else "many bodies"
    text = f"nbcore: compiling the engine for {what}, once; kept in {CACHE.folder}"
    with event.install_listener("numba:compile", _Announcement(text)):
        yield


CACHE = CompileCache()
CACHE.keep(loop.run)
