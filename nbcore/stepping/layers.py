"""What networks are made of: the activations between their layers, and the layers' names.

Activations use only operators and `elementwise`, and serve arrays, tensors and compiled code.
"""

from __future__ import annotations

from collections.abc import Iterable

from nbcore.errors import unknown_name
from nbcore.physics import elementwise
from nbcore.physics.elementwise import absolute, erf, exp, maximum, minimum

__all__ = ["ACTIVATIONS", "LARGEST_INPUT", "beyond", "check_activation", "places_of"]

LARGEST_INPUT = 8.0  # standard deviations; beyond it the training data say nothing anyway


def softsign(x):
    """x/(1 + |x|)."""
    return x / (absolute(x) + 1)


def tanh(x):
    """Hyperbolic tangent."""
    return elementwise.tanh(x)


def relu(x):
    """Max(x, 0)."""
    return maximum(x, 0 * x)


def gelu(x):
    """X Φ(x), Φ the normal distribution."""
    return 0.5 * x * (erf(x * 0.5**0.5) + 1)


def silu(x):
    """x/(1 + e^−x)."""
    return x / (exp(minimum(-x, 80.0)) + 1)  # beyond, it is zero in any case


def beyond(network, inputs, first: int = 0):
    """How far inputs from the `first` on lie outside a network's typical range, in deviations."""
    own = slice(first, first + inputs.shape[1])
    outside = maximum(network.least[own] - inputs, inputs - network.most[own]).clip(min=0)
    return outside / network.deviation[own]


def check_activation(name: str) -> None:
    """Raise InputError for an activation that is not in the table."""
    if name not in ACTIVATIONS:
        raise unknown_name("activation", name, ACTIVATIONS)


def places_of(state: Iterable[str]) -> tuple[int, ...]:
    """Places of the layers among the names in a checkpoint, where activations count."""
    numbers = (name.split(".")[1] for name in state if name.startswith("layers."))
    return tuple(sorted(set(map(int, numbers))))


ACTIVATIONS = {"softsign": softsign, "tanh": tanh, "relu": relu, "gelu": gelu, "silu": silu}
