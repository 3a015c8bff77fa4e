"""What shapes a learned policy apart from its weights."""

from __future__ import annotations

from dataclasses import dataclass

from nbcore.stepping.features import DELTA_FEATURES, expand_names

__all__ = ["PolicySpec"]


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
        Written out one by one where a set is named.
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

    @property
    def names(self) -> tuple[str, ...]:
        """Features of the state."""
        return tuple(name for name in self.features if name != "delta_mag")

    @property
    def looks_back(self) -> bool:
        """Whether it has history features."""
        return "delta_mag" in self.features

    @property
    def n_inputs(self) -> int:
        """Inputs of the network: the tolerance, the features and the history."""
        return 1 + len(self.names) + self.history * len(DELTA_FEATURES)

    @property
    def n_outputs(self) -> int:
        """Outputs of the network: the correction, and the error if it is predicted."""
        return 2 if self.predict_error else 1
