"""Policies: what chooses the next step of every system of a batch.

A policy is a callable (state, tolerance) -> dt (B,). One that looks back gets its memory, a dict
of arrays with a leading B, from `begin` and `advance`, so that it holds no state of its own and
any system of a batch can be taken out or put back.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from inspect import signature
from itertools import pairwise
from typing import Any, NamedTuple, Protocol, Self, runtime_checkable

import numpy as np

from nbcore.errors import InputError
from nbcore.physics import gravity
from nbcore.physics.arrays import (
    Array,
    PerSystem,
    beside,
    is_tensor,
    namespace,
    numbers,
    taken,
    to_numpy,
)
from nbcore.physics.clocks import CLOCKS, Clock
from nbcore.physics.elementwise import clamp, exp, log, tanh, where
from nbcore.physics.integrators import Integrator, get_integrator, name_of
from nbcore.physics.plain import check_plain
from nbcore.physics.state import State
from nbcore.stepping import criteria
from nbcore.stepping.answers import per_system
from nbcore.stepping.budget import Law
from nbcore.stepping.calibration import Calibration
from nbcore.stepping.criteria import AnyCriterion, CriterionRow, get_criterion
from nbcore.stepping.features import (
    DELTA_FEATURES,
    Measures,
    delta_features,
    energy_unit,
    scales_of,
    state_features,
)
from nbcore.stepping.layers import beyond, check_activation
from nbcore.stepping.models import ArrayNetwork, Network
from nbcore.stepping.spec import PolicySpec

__all__ = [
    "Criterion",
    "Crowd",
    "Custom",
    "EqualSteps",
    "FixedStep",
    "LearnedPolicy",
    "Memory",
    "OwnStep",
    "Policy",
    "Prediction",
    "as_policy",
    "shares_of",
    "trainable",
    "untrained",
]

Memory = dict[str, Array]
SMALLEST_TOLERANCE = 1e-16
FIRST_STEP = "boekholt"  # criterion that is a radian of a pair
UNTRAINED = "untrained"  # name of what `untrained` makes
# Steps of untrained policies in units of τ tol^(1/p), with which the median error of reversible
# steps comes out as the tolerance in the middle of the range of the order; measured by
# `python -m nbcore.learning.calibration`. For other integrators 1.
STRETCH = {
    "leapfrog": 1.1,
    "yoshida4": 1.1,
    "suzuki4": 1.7,
    "mclachlan4": 3.2,
    "blanes_moan4": 5.4,
    "blanes_moan6": 4.7,
    "kahan_li6": 2.0,
    "kahan_li8": 2.2,
}


@runtime_checkable
class Policy(Protocol):
    """Chooses steps."""

    @property
    def evaluations(self) -> int:
        """Force-like evaluations that a call costs beyond the acceleration at hand."""
        ...

    @property
    def looks_back(self) -> bool:
        """Whether a step depends on earlier states, and so can't be made reversible."""
        ...

    def __call__(self, state: State, tolerance: PerSystem, memory: Memory) -> PerSystem:
        """Next step of every system, (B,) [T], positive."""
        ...

    def begin(self, state: State) -> Memory:
        """Memory at the start of a run."""
        ...

    def advance(self, memory: Memory, before: State, after: State, dt: PerSystem) -> Memory:
        """Memory after a step that was kept."""
        ...


class _Forgetful:
    """A policy without memory."""

    evaluations = 0
    looks_back = False

    def begin(self, state: State) -> Memory:
        return {}

    def advance(self, memory: Memory, before: State, after: State, dt: PerSystem) -> Memory:
        return memory


@dataclass(frozen=True, eq=False)
class FixedStep(_Forgetful):
    """The same step always.

    Attributes
    ----------
    dt
        One number, or (B,) [T], positive.
    """

    dt: float | Array

    def __post_init__(self) -> None:
        _check_positive("dt", self.dt)

    def __call__(self, state: State, tolerance: PerSystem, memory: Memory | None = None):
        """Dt as given, (B,)."""
        return _for_each("dt", self.dt, state)

    def __str__(self) -> str:
        return "fixed step"


@dataclass(frozen=True, eq=False)
class OwnStep(_Forgetful):
    """Steps that an integrator chooses itself, such as `Extrapolation`.

    Attributes
    ----------
    clock
        In whose time they are.
    law
        By which they spend the tolerance of a run that is to keep to it, of `Extrapolation` alone:
        a run by a law of one's own keeps to it. None is the shipped one.
    """

    clock: Clock = CLOCKS["regularised"]
    law: Law | None = None

    def __call__(self, state: State, tolerance: PerSystem, memory: Memory | None = None):
        """A radian of the closest pair in s, (B,), from which the integrator goes on."""
        return self.clock.rate(state) * get_criterion(FIRST_STEP).time_scale(state)

    def __str__(self) -> str:
        return "own steps"


@dataclass(frozen=True, eq=False)
class EqualSteps(_Forgetful):
    """Steps that are equal in the time of a clock.

    Attributes
    ----------
    first
        Chooses the first step [T]; the others follow from it.
    clock
        In whose time they are equal.
    """

    first: Policy
    clock: Clock

    def __call__(self, state: State, tolerance: PerSystem, memory: Memory | None = None):
        """Step in s, Ω dt of the first one, (B,)."""
        return self.clock.rate(state) * self.first(state, tolerance, self.first.begin(state))

    def __str__(self) -> str:
        return f"{self.first}, and equal in time {self.clock}"


@dataclass(frozen=True, eq=False)
class Criterion(_Forgetful):
    """A classical criterion with its η; the tolerance plays no part.

    Attributes
    ----------
    criterion
        Name in the table of criteria, a row of it, a function of a state that returns a time
        scale (B,) [T], or a law of pairs as `criteria.of_pairs(law)`.
    eta
        One number, or (B,), positive; it must be given.

    Examples
    --------
    >>> nb.Criterion("boekholt", eta=0.05)
    >>> nb.Criterion(lambda state: 1 / nb.gravity.acceleration(state).std(axis=(1, 2)), eta=0.01)
    """

    criterion: AnyCriterion
    eta: float | Array | None = None

    def __post_init__(self) -> None:
        _check_call(f"criterion {self.name!r}", self.row.time_scale, "criterion", "state")
        if self.eta is None:
            raise InputError(f"criterion {self.name!r} needs its eta, such as eta=0.05")
        _check_positive("eta", self.eta)

    @property
    def name(self) -> str:
        """As in the table, or of its function."""
        return criteria.name_of(self.criterion)

    @property
    def row(self) -> CriterionRow:
        """As it stands in the table."""
        return get_criterion(self.criterion)

    @property
    def evaluations(self) -> int:
        """As the table says."""
        return self.row.evaluations

    def __call__(self, state: State, tolerance: PerSystem, memory: Memory | None = None):
        """η τ of the state, (B,)."""
        return _for_each("eta", self.eta, state) ** self.row.eta_power * self._time_scale(state)

    def begin(self, state: State) -> Memory:
        """No memory; but a criterion of one's own must see what moves the bodies.

        Raises
        ------
        InputError
            Its time scale is no positive and finite number though a body accelerates: if infinite,
            one step would go over all of it.
        """
        if self.row in criteria.CRITERIA.values():
            return {}
        pulled = (gravity.acceleration(state) != 0).any(axis=-1).any(axis=-1)
        tau = self._time_scale(state)
        blind = to_numpy(pulled & ~((tau > 0) & (tau < math.inf)))  # NaN, too
        if blind.any():
            first = int(blind.argmax())
            raise InputError(
                f"criterion {self.name!r} gives {float(tau[first])} for system {first} at the "
                "start, whose bodies accelerate; make it positive and finite for bodies at rest, "
                "too (infinite, one step would be the whole run), or take 'boekholt'"
            )
        return {}

    def _time_scale(self, state: State) -> PerSystem:
        return per_system(f"criterion {self.name!r}", self.row.time_scale(state), state.time)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, eq=False)
class Custom(_Forgetful):
    """The user's own rule: any function (state, tolerance) -> dt, one number or (B,).

    Attributes
    ----------
    rule
        The function.
    evaluations
        Force-like evaluations that it costs a call.
    """

    rule: Callable[[State, PerSystem], object]
    evaluations: int = 0

    def __call__(self, state: State, tolerance: PerSystem, memory: Memory | None = None):
        """Whatever the rule says, (B,)."""
        said = self.rule(state, tolerance)
        return per_system(f"the rule {self}", said, state.time, one_for_all=True)

    def __str__(self) -> str:
        return getattr(self.rule, "__name__", type(self.rule).__name__)


class Prediction(NamedTuple):
    """What a learned policy says of a state.

    Attributes
    ----------
    dt
        (B,) next step [T].
    correction
        (B,) factor by which the network changed the classical step.
    log10_error
        (B,) predicted log₁₀ of the relative energy error, or None.
    """

    dt: PerSystem
    correction: PerSystem
    log10_error: PerSystem | None


class LearnedPolicy:
    """dt = c · τ(x) · tol^(1/p) · exp(network(features(x), ln tol)).

    τ = (Σ share P^p)^(−1/p) over all pairs, where p is the integrator's order, P the pair's rate
    (Boekholt et al. 2023) and its share G m m′/(r |E|) what its error weighs in the energy, so
    that the untrained policy asks of every state the same error of the energy. Positive and
    bounded: the network changes that step by at most the factor `largest_correction`.

    Parameters
    ----------
    spec
        Shape of the policy.
    network
        Of NumPy arrays, or of torch if it is to be trained (see `trainable`); None
        corrects nothing.

    Attributes
    ----------
    calibration
        What became of tolerances after training; None takes them as they are.
    """

    evaluations = 0
    calibration: Calibration | None = None

    def __init__(self, spec: PolicySpec, network: Network | None = None) -> None:
        check_activation(spec.activation)
        self.spec = spec
        self.names, self.looks_back = spec.names, spec.looks_back
        if network is None:
            network = ArrayNetwork.without_effect(spec)
        self.network: Network = network

    @property
    def networks(self) -> tuple[Network, ...]:
        """Networks that step equal shares of the systems of a batch: one, but for a `Crowd`."""
        return (self.network,)

    @property
    def bound(self) -> float:
        """Logarithm of the largest correction."""
        return math.log(self.spec.largest_correction)

    def __str__(self) -> str:
        # The last layer starts at zero.
        return "learned" if to_numpy(self.network.weights[-1]).any() else "untrained"

    def weights(self) -> dict[str, Array]:
        """All that it has learned, by the names in a checkpoint."""
        return {f"network.{name}": value for name, value in self.network.state().items()}

    def _with(self, change: Callable[[Network], Network]) -> Self:
        """Copy with another network."""
        made = copy.copy(self)
        made.network = change(self.network)
        return made

    def _networks_for(self, inputs: Array) -> tuple[Network, ...]:
        """Networks that take inputs of this kind; see `to` and `numpy` for runs of many steps."""
        if is_tensor(inputs) != isinstance(self.network, ArrayNetwork):
            return self.networks
        return (self.to(inputs.device) if is_tensor(inputs) else self.numpy()).networks

    def numpy(self) -> Self:
        """The same with its network in NumPy arrays."""
        if isinstance(self.network, ArrayNetwork):
            return self
        activation = self.spec.activation
        return self._with(lambda network: ArrayNetwork.of(network.state(), activation))

    def to(self, device: Any) -> Self:
        """The same with a network of its own in torch on a device."""
        return self._with(lambda network: copy.deepcopy(network).to(device))

    def begin(self, state: State) -> Memory:
        """The energy, units of the features and, for history features, an empty history."""
        s = self.spec
        memory = {"energy_unit": energy_unit(state)}
        if s.normalisation != "raw":
            memory["scales"] = scales_of(
                state, s.normalisation, s.length_scale, s.velocity_scale, s.acceleration_scale
            )
        if self.looks_back:
            none = namespace(state.time).zeros(
                (state.n_systems, s.history, len(DELTA_FEATURES)),
                dtype=state.time.dtype,
                device=state.time.device,
            )
            memory |= {"deltas": none, "steps": 0 * state.time}
        return memory

    def advance(self, memory: Memory, before: State, after: State, dt: PerSystem) -> Memory:
        """History with the newest transition first, where a step was made (dt > 0)."""
        if not self.looks_back:
            return memory
        newest = delta_features(before, after, dt, self._scales(memory, after))[:, None]
        deltas = namespace(dt).concat([newest, memory["deltas"][:, :-1]], axis=1)
        moved = dt > 0
        return {
            **memory,
            "deltas": where(moved[:, None, None], deltas, memory["deltas"]),
            "steps": memory["steps"] + moved,
        }

    def _scales(self, memory: Memory, state: State) -> Array:
        return memory["scales"] if "scales" in memory else scales_of(state, "raw")

    def measures(self, state: State, memory: Memory) -> Measures:
        """What features and time scale are taken from."""
        return Measures(state, memory.get("scales"), memory["energy_unit"], self.spec.order)

    def stretch(self, factor: float) -> None:
        """Make all steps longer by a factor."""
        self.spec = replace(self.spec, stretch=self.spec.stretch * factor)

    def given(self, tolerance: PerSystem) -> PerSystem:
        """Tolerance that the network is given, so that the error comes out as asked for, (B,)."""
        return tolerance if self.calibration is None else self.calibration.given_for(tolerance)

    def log_tolerance(self, tolerance: PerSystem) -> PerSystem:
        """Network's first input, (B,)."""
        return log(clamp(self.given(tolerance), SMALLEST_TOLERANCE, math.inf))

    def novelty(self, state: State, memory: Memory) -> Array:
        """How far features lie beyond those of the training states, in deviations, (B, F)."""
        features = state_features(self.names, self.measures(state, memory))
        return beyond(self._networks_for(features)[0], features, first=1)

    def factor(self, tolerance: PerSystem) -> PerSystem:
        """Step in units of the time scale, c tol^(1/p), (B,)."""
        return self.spec.stretch * self.given(tolerance) ** (1 / self.spec.order)

    def inputs(self, measures: Measures, tolerance: PerSystem, memory: Memory) -> Array:
        """Inputs of the network before they are standardised, (B, F)."""
        xp, parts = namespace(tolerance), [self.log_tolerance(tolerance)[:, None]]
        if self.names:
            parts.append(state_features(self.names, measures))
        if self.looks_back:
            deltas = memory["deltas"]
            if self.spec.history_padding == "oldest":
                last = clamp(clamp(memory["steps"], 1, math.inf) - 1, 0, self.spec.history - 1)
                known = xp.arange(self.spec.history, device=deltas.device)
                source = xp.minimum(known[None, :], xp.astype(last, xp.int64)[:, None])
                index = xp.broadcast_to(source[:, :, None], deltas.shape)
                deltas = taken(deltas, index)
            parts.append(deltas.reshape(len(deltas), -1))
        return xp.concat(parts, axis=1)

    def predict(self, state: State, tolerance: PerSystem, memory: Memory) -> Prediction:
        """Step and, if the policy has learned to, its energy error.

        Parameters
        ----------
        tolerance
            (B,) relative energy error that is accepted.
        memory
            From `begin` and `advance`.
        """
        measures = self.measures(state, memory)
        xp, inputs = namespace(tolerance), self.inputs(measures, tolerance, memory)
        networks = self._networks_for(inputs)
        shares = zip(networks, shares_of(len(inputs), len(networks)), strict=True)
        out = xp.concat([network(inputs[share]) for network, share in shares])
        out = xp.astype(out, state.time.dtype)
        correction = exp(clamp(out[:, 0], -self.bound, self.bound))
        dt = self.factor(tolerance) * measures.time_scale * correction
        if not self.spec.predict_error:
            return Prediction(dt, correction, None)
        # At first the tolerance; at most 8 decades from it, either way.
        error = xp.log10(tolerance) + 8 * tanh(out[:, 1] / 8)
        return Prediction(dt, correction, error)

    def __call__(
        self, state: State, tolerance: PerSystem, memory: Memory | None = None
    ) -> PerSystem:
        """Next step, (B,) [T]."""
        return self.predict(state, tolerance, self.begin(state) if memory is None else memory).dt


class Crowd(LearnedPolicy):
    """A policy with several networks, each for an equal share of the systems, in their order.

    So that many networks can be tried in one run.

    Parameters
    ----------
    policy
        What all of them have in common.
    networks
        Of the same shape, with inputs standardised alike.
    """

    def __init__(self, policy: LearnedPolicy, networks: Sequence[Network]) -> None:
        super().__init__(policy.spec, networks[0])
        self._networks = tuple(networks)

    def _with(self, change: Callable[[Network], Network]) -> Self:
        made = copy.copy(self)
        made._networks = tuple(map(change, self._networks))
        made.network = made._networks[0]
        return made

    @property
    def networks(self) -> tuple[Network, ...]:
        """All of them."""
        return self._networks


def trainable(spec: PolicySpec) -> LearnedPolicy:
    """Policy whose network is one of torch, with its first weights drawn at random."""
    from nbcore.stepping.torch_models import StepNetwork

    return LearnedPolicy(spec, StepNetwork.of(spec))


def shares_of(count: int, n_networks: int) -> list[slice]:
    """Systems that each network of a crowd steps: as many for each, or one more for the first."""
    each, more = divmod(count, n_networks)
    return [
        slice(*edges) for edges in pairwise(k * each + min(k, more) for k in range(n_networks + 1))
    ]


def untrained(integrator: str | Integrator, **settings: Any) -> LearnedPolicy:
    """Policy of an integrator before training: it asks the same energy error of every state.

    Parameters
    ----------
    settings
        Others of `PolicySpec`.
    """
    return LearnedPolicy(
        PolicySpec(
            integrator=name_of(integrator),
            order=get_integrator(integrator).order,
            stretch=STRETCH.get(name_of(integrator), 1.0),
            **settings,
        )
    )


def as_policy(policy: object) -> Policy:
    """Take a policy as it is, and a plain function (state, tolerance) -> dt as a `Custom` one."""
    if isinstance(policy, type):
        raise InputError(
            f"policy is the class {policy.__name__!r}; make an object of it, such as "
            "nb.Criterion('boekholt', eta=0.05) or nb.FixedStep(0.01)"
        )
    if isinstance(policy, Policy):
        return policy
    if callable(policy):
        _check_call(f"the rule {Custom(policy)}", policy, "rule", "state", "tolerance")
        return Custom(policy)
    raise InputError(
        f"policy {policy!r} is not a policy; give FixedStep, Criterion, a learned policy, a name "
        "such as 'boekholt', or a function (state, tolerance) -> dt"
    )


def _check_call(what: str, function: Callable, kind: str, *arguments: str) -> None:
    try:
        signature(function).bind(*arguments)
    except TypeError:
        law = "; a law of pairs is given as of_pairs(law)" if kind == "criterion" else ""
        raise InputError(
            f"{what} must be called as {kind}({', '.join(arguments)}), and it takes "
            f"{signature(function)}{law}"
        ) from None
    except ValueError:  # some that are not written in Python don't tell
        return


def _for_each(name: str, value: float | Array, state: State) -> PerSystem:
    """One number, or one a system, beside the state, (B,)."""
    found = beside(value, state.time)
    if found.shape not in ((), state.time.shape):
        raise InputError(
            f"{name} has shape {tuple(found.shape)} for {state.n_systems} systems; "
            "give one number, or one a system"
        )
    return namespace(found).broadcast_to(found, state.time.shape)


def _check_positive(name: str, value: float | Array | Sequence[float]) -> None:
    check_plain(name, value)
    try:
        number = numbers(value)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"{name} is {value!r}; it must be a number, or one a system") from None
    if not bool((np.isfinite(number) & (number > 0)).all()):
        raise InputError(f"{name} is {value}; it must be positive and finite")
