"""Networks that can be trained; see `models`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nbcore.stepping.layers import ACTIVATIONS, LARGEST_INPUT, check_activation, places_of
from nbcore.stepping.spec import PolicySpec

__all__ = ["StepNetwork"]

RARE = 1e-3  # share of typical inputs that lie below, and above, their typical range


class Activation(nn.Module):
    """An activation by its name."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.law = ACTIVATIONS[name]

    def forward(self, x: Tensor) -> Tensor:
        """Element by element."""
        return self.law(x)


class StepNetwork(nn.Module):
    """MLP from standardised inputs to the logarithm of a correction and, optionally, an error.

    The last layer starts at zero, so that an untrained network corrects nothing.

    Parameters
    ----------
    n_inputs
        F.
    hidden
        Widths of the hidden layers; empty for a linear map.
    activation
        Name in `ACTIVATIONS`.
    dropout
        Share of hidden units dropped while training.
    fourier_features, fourier_scale
        Number of random Fourier features that replace the inputs (0: none), and the standard
        deviation of their frequencies (Tancik et al. 2020).
    n_outputs
        1, or 2 with a predicted error.
    """

    mean: Tensor
    deviation: Tensor
    least: Tensor
    most: Tensor
    frequencies: Tensor | None

    def __init__(
        self,
        n_inputs: int,
        hidden: Sequence[int] = (16, 16),
        activation: str = "softsign",
        dropout: float = 0.0,
        fourier_features: int = 0,
        fourier_scale: float = 1.0,
        n_outputs: int = 1,
    ) -> None:
        super().__init__()
        check_activation(activation)
        self.register_buffer("mean", torch.zeros(n_inputs))
        self.register_buffer("deviation", torch.ones(n_inputs))
        self.register_buffer("least", torch.full((n_inputs,), -math.inf))
        self.register_buffer("most", torch.full((n_inputs,), math.inf))
        width = n_inputs
        self.register_buffer("frequencies", None)
        if fourier_features:
            self.register_buffer(
                "frequencies", fourier_scale * torch.randn(n_inputs, fourier_features)
            )
            width = 2 * fourier_features
        layers: list[nn.Module] = []
        for size in hidden:
            layers += [nn.Linear(width, size), Activation(activation)]
            if dropout:
                layers.append(nn.Dropout(dropout))
            width = size
        last = nn.Linear(width, n_outputs)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(*layers, last)

    def standardise(self, inputs: Tensor) -> None:
        """Take mean, standard deviation and range of typical inputs (S, F) as those of inputs."""
        deviation, mean = torch.std_mean(inputs, dim=0, correction=0)
        # An input that never varies in the samples is passed on as it is.
        deviation = torch.where(deviation > 1e-6 * (1 + mean.abs()), deviation, 1.0)
        self.mean.copy_(mean)
        self.deviation.copy_(deviation)
        self.least.copy_(inputs.quantile(RARE, dim=0))
        self.most.copy_(inputs.quantile(1 - RARE, dim=0))

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, F) to (B, n_outputs), finite for any finite input."""
        x = ((inputs - self.mean) / self.deviation).clamp(-LARGEST_INPUT, LARGEST_INPUT)
        x = x.to(next(self.layers.parameters()).dtype)
        if self.frequencies is not None:
            phase = 2 * math.pi * x @ self.frequencies
            x = torch.cat([phase.sin(), phase.cos()], dim=1)
        return self.layers(x)

    @property
    def _linear(self) -> list[nn.Linear]:
        return [layer for layer in self.layers if isinstance(layer, nn.Linear)]

    @property
    def weights(self) -> list[Tensor]:
        """Layer by layer, (outputs, inputs)."""
        return [layer.weight for layer in self._linear]

    @property
    def biases(self) -> list[Tensor]:
        """Layer by layer, (outputs,)."""
        return [layer.bias for layer in self._linear]

    def state(self) -> dict[str, Tensor]:
        """All that it consists of, by the names in a checkpoint."""
        return self.state_dict()

    @classmethod
    def of_state(cls, state: Mapping[str, Any], activation: str) -> StepNetwork:
        """Network of what `state` returns, whatever kind of arrays it is of."""
        arrays = {name: torch.tensor(value) for name, value in state.items()}
        layers = [
            (arrays[f"layers.{k}.weight"], arrays[f"layers.{k}.bias"]) for k in places_of(state)
        ]
        waves = arrays.get("frequencies")
        # Networks draw their first weights; who comes next must find the same random numbers.
        with torch.random.fork_rng(devices=[]):
            made = cls(
                len(arrays["mean"]),
                [len(bias) for _, bias in layers[:-1]],
                activation,
                fourier_features=0 if waves is None else waves.shape[1],
                n_outputs=len(layers[-1][1]),
            )
        for name in ("mean", "deviation", "least", "most"):
            setattr(made, name, arrays[name])
        made.frequencies = waves
        for layer, (weight, bias) in zip(made._linear, layers, strict=True):
            layer.weight, layer.bias = nn.Parameter(weight), nn.Parameter(bias)
        return made.eval()

    @classmethod
    def of(cls, spec: PolicySpec) -> StepNetwork:
        """Network of a policy, with its first weights drawn at random."""
        network = cls(
            spec.n_inputs,
            spec.hidden,
            spec.activation,
            spec.dropout,
            spec.fourier_features,
            spec.fourier_scale,
            n_outputs=spec.n_outputs,
        )
        network.layers.to(getattr(torch, spec.precision))
        if network.frequencies is not None:
            network.frequencies = network.frequencies.to(getattr(torch, spec.precision))
        for name in ("mean", "deviation", "least", "most"):
            setattr(network, name, getattr(network, name).double())
        return network.eval()
