"""Policies: what chooses the next step of every system of a batch.

A policy is a callable (state, tolerance) -> dt (B,). One that looks back gets its memory, a dict
of tensors with a leading B, from `begin` and `advance`, so that it holds no state of its own and
any system of a batch can be taken out or put back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from inspect import signature
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from nbcore.errors import InputError
from nbcore.physics.integrators import get_integrator
from nbcore.physics.plain import check_plain
from nbcore.physics.state import PerSystem, State
from nbcore.stepping.calibration import Calibration
from nbcore.stepping.criteria import get_criterion
from nbcore.stepping.features import (
    DELTA_FEATURES,
    Measures,
    delta_features,
    energy_unit,
    expand_names,
    scales_of,
    state_features,
)
from nbcore.stepping.models import StepNetwork

__all__ = [
    "Criterion",
    "Crowd",
    "Custom",
    "FixedStep",
    "LearnedPolicy",
    "Memory",
    "Policy",
    "Prediction",
    "as_policy",
    "untrained",
]

Memory = dict[str, Tensor]
SMALLEST_TOLERANCE = 1e-16
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

    dt: float | Tensor

    def __post_init__(self) -> None:
        _check_positive("dt", self.dt)

    def __call__(self, state: State, tolerance: PerSystem, memory: Memory | None = None):
        """Dt as given, (B,)."""
        return _for_each("dt", self.dt, state).expand_as(state.time)

    def __str__(self) -> str:
        return "fixed step"


@dataclass(frozen=True, eq=False)
class Criterion(_Forgetful):
    """A classical criterion with its η; the tolerance plays no part.

    Attributes
    ----------
    name
        Name in the table of criteria.
    eta
        One number, or (B,), positive.
    """

    name: str
    eta: float | Tensor

    def __post_init__(self) -> None:
        get_criterion(self.name)
        _check_positive("eta", self.eta)

    @property
    def evaluations(self) -> int:
        """As the table says."""
        return get_criterion(self.name).evaluations

    def __call__(self, state: State, tolerance: PerSystem, memory: Memory | None = None):
        """η τ of the state, (B,)."""
        row = get_criterion(self.name)
        return _for_each("eta", self.eta, state) ** row.eta_power * row.time_scale(state)

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
        check_plain(f"what the rule {self} returned", said)
        try:
            dt = torch.as_tensor(said, dtype=state.time.dtype, device=state.time.device)
        except (TypeError, ValueError, RuntimeError):
            raise InputError(
                f"the rule {self} returned {said!r}; it must return one number, or one a system"
            ) from None
        if dt.shape not in ((), state.time.shape):
            raise InputError(
                f"the rule {self} returned shape {tuple(dt.shape)} for {state.n_systems} systems; "
                f"it must return one number, or one dt each, ({state.n_systems},)"
            )
        return dt.expand_as(state.time)

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


@dataclass(frozen=True)
class PolicySpec:
    """Everything that shapes a learned policy apart from its weights; stored with them.

    Attributes
    ----------
    integrator
        Name of the integrator that it was trained for.
    order
        p of that integrator.
    stepping
        How it was trained to step: "plain" or "reversible".
    stretch
        c: step of the untrained policy in units of τ tol^(1/p); see `untrained`.
    features
        Written out one by one where a set is named, so that a set may grow.
    The others are those of `config.Network`.
    """

    integrator: str = "suzuki4"
    order: int = 4
    stepping: str = "plain"
    stretch: float = 1.0
    features: tuple[str, ...] = ("scale_free",)
    history: int = 0
    history_padding: str = "zero"
    normalisation: str = "raw"
    length_scale: float = 1.0
    velocity_scale: float = 1.0
    acceleration_scale: float | None = None
    hidden: tuple[int, ...] = (16, 16)
    activation: str = "softsign"
    dropout: float = 0.0
    fourier_features: int = 0
    fourier_scale: float = 1.0
    predict_error: bool = False
    largest_correction: float = 20.0
    precision: str = "float32"

    def __post_init__(self) -> None:
        names, looks_back = expand_names(self.features, self.history)
        object.__setattr__(self, "features", (*names, *["delta_mag"] * looks_back))


class LearnedPolicy(nn.Module):
    """dt = c · τ(x) · tol^(1/p) · exp(network(features(x), ln tol)).

    τ = (Σ share P^p)^(−1/p) over all pairs, where p is the integrator's order, P the pair's rate
    (Boekholt et al. 2023) and its share G m m′/(r |E|) what its error weighs in the energy, so
    that the untrained policy asks of every state the same error of the energy. Positive and
    bounded: the network changes that step by at most the factor `largest_correction`.

    Parameters
    ----------
    spec
        Shape of the policy.

    Attributes
    ----------
    calibration
        What became of tolerances after training; None takes them as they are.
    """

    evaluations = 0
    calibration: Calibration | None = None

    def __init__(self, spec: PolicySpec) -> None:
        super().__init__()
        self.spec = spec
        self.names, self.looks_back = expand_names(spec.features, spec.history)
        n_inputs = len(self.names) + 1 + spec.history * len(DELTA_FEATURES)
        self.network = StepNetwork(
            n_inputs,
            spec.hidden,
            spec.activation,
            spec.dropout,
            spec.fourier_features,
            spec.fourier_scale,
            n_outputs=2 if spec.predict_error else 1,
        )
        self.network.layers.to(getattr(torch, spec.precision))
        if self.network.frequencies is not None:
            self.network.frequencies = self.network.frequencies.to(getattr(torch, spec.precision))
        for name in ("mean", "deviation", "least", "most"):
            setattr(self.network, name, getattr(self.network, name).double())
        self.eval()

    @property
    def networks(self) -> tuple[StepNetwork, ...]:
        """Networks that step equal shares of the systems of a batch: one, but for a `Crowd`."""
        return (self.network,)

    @property
    def bound(self) -> float:
        """Logarithm of the largest correction."""
        return math.log(self.spec.largest_correction)

    def __str__(self) -> str:
        last = self.network.layers[-1]
        assert isinstance(last, nn.Linear)
        # The last layer starts at zero.
        return "learned" if bool(torch.any(last.weight != 0)) else "untrained"

    def begin(self, state: State) -> Memory:
        """The energy, units of the features and, for history features, an empty history."""
        s = self.spec
        memory = {"energy_unit": energy_unit(state)}
        if s.normalisation != "raw":
            memory["scales"] = scales_of(
                state, s.normalisation, s.length_scale, s.velocity_scale, s.acceleration_scale
            )
        if self.looks_back:
            memory["deltas"] = state.time.new_zeros(state.n_systems, s.history, len(DELTA_FEATURES))
            memory["steps"] = torch.zeros_like(state.time)
        return memory

    def advance(self, memory: Memory, before: State, after: State, dt: PerSystem) -> Memory:
        """History with the newest transition first, where a step was made (dt > 0)."""
        if not self.looks_back:
            return memory
        newest = delta_features(before, after, dt, self._scales(memory, after))[:, None]
        deltas = torch.cat([newest, memory["deltas"][:, :-1]], dim=1)
        moved = dt > 0
        return {
            **memory,
            "deltas": torch.where(moved[:, None, None], deltas, memory["deltas"]),
            "steps": memory["steps"] + moved,
        }

    def _scales(self, memory: Memory, state: State) -> Tensor:
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
        return self.given(tolerance).clamp(min=SMALLEST_TOLERANCE).log()

    def novelty(self, state: State, memory: Memory) -> Tensor:
        """How far features lie beyond those of the training states, in deviations, (B, F)."""
        features = state_features(self.names, self.measures(state, memory))
        return self.network.beyond(features, first=1)

    def factor(self, tolerance: PerSystem) -> PerSystem:
        """Step in units of the time scale, c tol^(1/p), (B,)."""
        return self.spec.stretch * self.given(tolerance) ** (1 / self.spec.order)

    def inputs(self, measures: Measures, tolerance: PerSystem, memory: Memory) -> Tensor:
        """Inputs of the network before they are standardised, (B, F)."""
        parts = [self.log_tolerance(tolerance)[:, None]]
        if self.names:
            parts.append(state_features(self.names, measures))
        if self.looks_back:
            deltas = memory["deltas"]
            if self.spec.history_padding == "oldest":
                last = (memory["steps"].clamp(min=1) - 1).clamp(max=self.spec.history - 1)
                known = torch.arange(self.spec.history, device=deltas.device)
                source = torch.minimum(known[None, :], last[:, None].long())
                deltas = deltas.gather(1, source[:, :, None].expand_as(deltas))
            parts.append(deltas.flatten(1))
        return torch.cat(parts, dim=1)

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
        shares = self.inputs(measures, tolerance, memory).tensor_split(len(self.networks))
        answers = [network(each) for network, each in zip(self.networks, shares, strict=True)]
        out = torch.cat(answers).to(state.time.dtype)
        correction = out[:, 0].clamp(-self.bound, self.bound).exp()
        dt = self.factor(tolerance) * measures.time_scale * correction
        if not self.spec.predict_error:
            return Prediction(dt, correction, None)
        # At first the tolerance; at most 8 decades from it, either way.
        error = tolerance.log10() + 8 * torch.tanh(out[:, 1] / 8)
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

    def __init__(self, policy: LearnedPolicy, networks: Sequence[StepNetwork]) -> None:
        super().__init__(policy.spec)
        self.network, self._networks = networks[0], tuple(networks)

    @property
    def networks(self) -> tuple[StepNetwork, ...]:
        """All of them."""
        return self._networks


def untrained(integrator: str, **settings: Any) -> LearnedPolicy:
    """Policy of an integrator before training: it asks the same energy error of every state.

    Parameters
    ----------
    settings
        Others of `PolicySpec`.
    """
    return LearnedPolicy(
        PolicySpec(
            integrator=integrator,
            order=get_integrator(integrator).order,
            stretch=STRETCH.get(integrator, 1.0),
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
        _check_arguments(policy)
        return Custom(policy)
    raise InputError(
        f"policy {policy!r} is not a policy; give FixedStep, Criterion, a learned policy, a name "
        "such as 'boekholt', or a function (state, tolerance) -> dt"
    )


def _check_arguments(rule: Callable) -> None:
    try:
        signature(rule).bind(None, None)
    except TypeError:
        raise InputError(
            f"the rule {Custom(rule)} must be called as rule(state, tolerance), and it takes "
            f"{signature(rule)}"
        ) from None
    except ValueError:  # some that are not written in Python don't tell
        return


def _for_each(name: str, value: float | Tensor, state: State) -> Tensor:
    """One number, or one a system, beside the state."""
    tensor = torch.as_tensor(value, dtype=state.time.dtype, device=state.time.device)
    if tensor.shape not in ((), state.time.shape):
        raise InputError(
            f"{name} has shape {tuple(tensor.shape)} for {state.n_systems} systems; "
            "give one number, or one a system"
        )
    return tensor


def _check_positive(name: str, value: float | Tensor | Sequence[float]) -> None:
    check_plain(name, value)
    try:
        number = torch.as_tensor(value, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"{name} is {value!r}; it must be a number, or one a system") from None
    if not bool((torch.isfinite(number) & (number > 0)).all()):
        raise InputError(f"{name} is {value}; it must be positive and finite")
