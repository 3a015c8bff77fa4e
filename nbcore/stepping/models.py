"""Networks of NumPy arrays, which is all that a run needs; what is trained is in `torch_models`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from nbcore.physics.arrays import Array, to_numpy
from nbcore.physics.elementwise import clamp
from nbcore.stepping.layers import ACTIVATIONS, LARGEST_INPUT, places_of
from nbcore.stepping.spec import PolicySpec

__all__ = ["ArrayNetwork", "Network"]


class Network(Protocol):
    """MLP from standardised inputs to the logarithm of a correction and, optionally, an error.

    Attributes
    ----------
    mean, deviation
        (F,) of the inputs.
    least, most
        (F,) ends of the typical range of the inputs.
    frequencies
        (F, n) of the Fourier features that replace the inputs, or None.
    weights, biases
        Layer by layer, (outputs, inputs) and (outputs,).
    """

    @property
    def mean(self) -> Array: ...  # noqa: D102

    @property
    def deviation(self) -> Array: ...  # noqa: D102

    @property
    def least(self) -> Array: ...  # noqa: D102

    @property
    def most(self) -> Array: ...  # noqa: D102

    @property
    def frequencies(self) -> Array | None: ...  # noqa: D102

    @property
    def weights(self) -> Sequence[Array]: ...  # noqa: D102

    @property
    def biases(self) -> Sequence[Array]: ...  # noqa: D102

    def __call__(self, inputs: Array) -> Array:
        """(B, F) to (B, n_outputs), finite for any finite input."""
        ...

    def state(self) -> dict[str, Array]:
        """All that it consists of, by the names in a checkpoint."""
        ...

    def to(self, device: Any) -> Network:
        """The same in torch, on a device."""
        ...


@dataclass(frozen=True, eq=False)
class ArrayNetwork:
    """A `Network` of NumPy arrays."""

    mean: np.ndarray
    deviation: np.ndarray
    least: np.ndarray
    most: np.ndarray
    frequencies: np.ndarray | None
    weights: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]
    activation: str
    places: tuple[int, ...]  # of the layers in a checkpoint, where activations count

    @classmethod
    def of(cls, state: Mapping[str, Array], activation: str) -> ArrayNetwork:
        """Network of what `state` returns."""
        # Copies, or it would change with what is trained.
        arrays = {name: to_numpy(value).copy() for name, value in state.items()}
        places = places_of(state)
        return cls(
            arrays["mean"],
            arrays["deviation"],
            arrays["least"],
            arrays["most"],
            arrays.get("frequencies"),
            tuple(arrays[f"layers.{k}.weight"] for k in places),
            tuple(arrays[f"layers.{k}.bias"] for k in places),
            activation,
            places,
        )

    @classmethod
    def without_effect(cls, spec: PolicySpec) -> ArrayNetwork:
        """A network of that shape which corrects nothing."""
        widths, n_inputs = widths_of(spec), spec.n_inputs
        apart = 3 if spec.dropout else 2  # in a checkpoint
        return cls(
            np.zeros(n_inputs),
            np.ones(n_inputs),
            np.full(n_inputs, -np.inf),
            np.full(n_inputs, np.inf),
            np.zeros((n_inputs, spec.fourier_features), spec.precision)
            if spec.fourier_features
            else None,
            tuple(np.zeros((there, here), spec.precision) for here, there in pairwise(widths)),
            tuple(np.zeros(width, spec.precision) for width in widths[1:]),
            spec.activation,
            tuple(range(0, apart * (len(widths) - 1), apart)),
        )

    def check(self, spec: PolicySpec) -> None:
        """Raise ValueError where the parts are not of the shape that a policy has."""
        known = ArrayNetwork.without_effect(spec).state()
        mine = self.state()
        for name in sorted({*known, *mine}):
            have, want = mine.get(name), known.get(name)
            if have is None or want is None or (have.shape, have.dtype) != (want.shape, want.dtype):
                raise ValueError(
                    f"its network does not fit its settings: {name} is "
                    f"{_shape(have)}, and must be {_shape(want)}"
                )

    def state(self) -> dict[str, Array]:  # noqa: D102
        found = {name: getattr(self, name) for name in ("mean", "deviation", "least", "most")}
        if self.frequencies is not None:
            found["frequencies"] = self.frequencies
        for k, weight, bias in zip(self.places, self.weights, self.biases, strict=True):
            found |= {f"layers.{k}.weight": weight, f"layers.{k}.bias": bias}
        return found

    def to(self, device: Any) -> Network:  # noqa: D102
        from nbcore.stepping.torch_models import StepNetwork

        return StepNetwork.of_state(self.state(), self.activation).to(device)

    def __call__(self, inputs: Array) -> Array:  # noqa: D102
        x = clamp((inputs - self.mean) / self.deviation, -LARGEST_INPUT, LARGEST_INPUT)
        x = x.astype(self.weights[0].dtype)
        if self.frequencies is not None:
            phase = 2 * math.pi * x @ self.frequencies
            x = np.concat([np.sin(phase), np.cos(phase)], axis=1)
        law, last = ACTIVATIONS[self.activation], len(self.weights) - 1
        for k, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = x @ weight.T + bias
            x = x if k == last else law(x)
        return x


def widths_of(spec: PolicySpec) -> list[int]:
    """Numbers between the layers, from the first one's inputs to the outputs."""
    first = 2 * spec.fourier_features or spec.n_inputs
    return [first, *spec.hidden, spec.n_outputs]


def _shape(array: np.ndarray | None) -> str:
    return "missing" if array is None else f"{array.shape} of {array.dtype}"
