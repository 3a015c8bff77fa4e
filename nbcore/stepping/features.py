"""What a learned policy sees of a state: named numbers, (B,) each.

The scale-free set does not depend on units, place, orientation, motion of the frame, order of the
bodies or direction of time, and is smooth. The classical statistics (`basic`, `rich`) are kept in
the units of `Scales`; the history features (`delta_mag`) compare the last states that were kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import torch
from torch import Tensor

from nbcore.errors import InputError, unknown_name
from nbcore.physics import gravity
from nbcore.physics.state import PerSystem, State
from nbcore.stepping.criteria import pair_rate4, pairs_of, smooth_time_scale

__all__ = [
    "DELTA_FEATURES",
    "FEATURES",
    "FEATURE_SETS",
    "Measures",
    "delta_features",
    "expand_names",
    "scales_of",
    "state_features",
]

DELTA_FEATURES = (
    *(f"{kind}_d{what}" for what in "xva" for kind in ("mean", "max", "rms")),
    "dt",
)


class Measures:
    """Quantities of a state that features share, each computed once when first asked for.

    Parameters
    ----------
    state
        The state; its acceleration is used if it carries one.
    scales
        (B, 4): units of length, speed, acceleration and time for dimensional features; None
        leaves them in the units of the state.
    """

    def __init__(self, state: State, scales: Tensor | None = None) -> None:
        self.state = state
        self._scales = scales_of(state, "raw") if scales is None else scales

    def unit(self, k: int) -> Tensor:
        """Unit of length (0), speed (1), acceleration (2), time (3); (B, 1)."""
        return self._scales[:, k : k + 1]

    @cached_property
    def pairs(self):
        """Relative motion of all pairs."""
        return pairs_of(self.state)

    @cached_property
    def rate4(self) -> Tensor:
        """(B, P) fourth power of each pair's rate [1/T⁴]."""
        return pair_rate4(self.pairs.r2, self.pairs.v2, self.pairs.mu)

    @cached_property
    def weight(self) -> Tensor:
        """(B, P) share of each pair in ΣP⁸: nearly all on the pair that moves fastest."""
        share = (self.rate4 / self.rate4.amax(dim=1, keepdim=True).detach()) ** 2
        return share / share.sum(dim=1, keepdim=True)

    @cached_property
    def time_scale(self) -> PerSystem:
        """τ of Boekholt et al. (2023) [T]."""
        return smooth_time_scale(self.rate4)

    @cached_property
    def acceleration(self) -> Tensor:
        """(B, N, D) [L/T²]."""
        return gravity.acceleration(self.state)

    @cached_property
    def centre(self) -> tuple[Tensor, Tensor]:
        """Position and velocity of the centre of mass."""
        return gravity.centre_of_mass(self.state)

    @cached_property
    def distance(self) -> Tensor:
        """(B, N) distance from the centre of mass in units of L0."""
        return _norm(self.state.position - self.centre[0]) / self.unit(0)

    @cached_property
    def speed(self) -> Tensor:
        """(B, N) speed about the centre of mass in units of V0."""
        return _norm(self.state.velocity - self.centre[1]) / self.unit(1)

    @cached_property
    def pull(self) -> Tensor:
        """(B, N) size of the acceleration in units of A0."""
        return _norm(self.acceleration) / self.unit(2)

    @cached_property
    def separation(self) -> Tensor:
        """(B, P) distance of each pair in units of L0."""
        i, j = gravity.pair_indices(self.state.n_bodies, self.state.position.device)
        return _norm(self.state.position[:, j] - self.state.position[:, i]) / self.unit(0)

    def of_fastest(self, value: Tensor) -> PerSystem:
        """Mean of a pair value (B, P), weighted by the pairs' rates P⁸."""
        return (self.weight * value).sum(dim=1)


def _share(part: Tensor, rest: Tensor) -> Tensor:
    """Part of the whole, 0 where there is nothing to share."""
    whole = part + rest
    return part / torch.where(whole > 0, whole, 1.0)


def fly_by(m: Measures) -> PerSystem:
    """Share of the speed in the rate of the fastest pair, 0 (at rest) to 1 (passing by)."""
    p = m.pairs
    return m.of_fastest(_share(p.v2 * p.v2 * p.r2, p.mu * p.mu))


def binding(m: Measures) -> PerSystem:
    """v²/(v² + 2μ/r) of the fastest pair: 0 at rest, ½ parabolic, 1 unbound."""
    p = m.pairs
    return m.of_fastest(_share(p.v2, 2 * p.mu * p.r2**-0.5))


def radial(m: Measures) -> PerSystem:
    """(R·V)²/(r² v² + μ r) of the fastest pair: 0 at the apsides, even in v."""
    p = m.pairs
    square = p.rv**2
    return m.of_fastest(_share(square, p.r2 * p.v2 - square + p.mu * p.r2**0.5))


def heaviness(m: Measures) -> PerSystem:
    """Share of the fastest pair in the total mass, 0 to 1."""
    total = m.state.G * m.state.mass.sum(dim=1, keepdim=True)
    return m.of_fastest(m.pairs.mu / total)


def crowding(m: Measures) -> PerSystem:
    """Logarithm of the number of pairs that share the fastest rate."""
    return -(m.weight**2).sum(dim=1).log()


def rate_contrast(m: Measures) -> PerSystem:
    """Logarithm of the fastest rate over the mean (of fourth powers) of all pairs' rates."""
    return -m.time_scale.log() - 0.25 * m.rate4.mean(dim=1).log()


def compactness(m: Measures) -> PerSystem:
    """Logarithm of τ over the time scale √(R³/G M) of the system, R the rms pair distance."""
    total = m.state.G * m.state.mass.sum(dim=1)
    return m.time_scale.log() + 0.5 * total.log() - 0.75 * m.pairs.r2.mean(dim=1).log()


def virial(m: Measures) -> PerSystem:
    """Mean v² of all pairs over itself and 2GM times their mean 1/r: 0 cold, 1 unbound."""
    total = m.state.G * m.state.mass.sum(dim=1)
    return _share(m.pairs.v2.mean(dim=1), 2 * total * (m.pairs.r2**-0.5).mean(dim=1))


def perturbation(m: Measures) -> PerSystem:
    """Logarithm of 1 + δ², δ the pull of all others on the fastest pair over the pair's own."""
    p = m.pairs
    i, j = gravity.pair_indices(m.state.n_bodies, m.state.position.device)
    R = m.state.position[:, j] - m.state.position[:, i]
    A = m.acceleration[:, j] - m.acceleration[:, i]
    own = p.mu * p.r2**-1.5
    excess = A + own[..., None] * R
    size = p.mu * p.r2**-1  # own pull without softening's smaller R
    delta2 = (excess * excess).sum(dim=-1) / torch.where(size > 0, size * size, 1.0)
    return m.of_fastest(torch.where(size > 0, delta2, 0.0).log1p())


def asymmetry(m: Measures) -> PerSystem:
    """4 m_i m_j/(m_i + m_j)² of the fastest pair: 1 for equal masses, 0 for a test particle."""
    s = m.state
    i, j = gravity.pair_indices(s.n_bodies, s.position.device)
    mu = m.pairs.mu
    ratio = 4 * s.G**2 * s.mass[:, i] * s.mass[:, j] / torch.where(mu > 0, mu * mu, 1.0)
    return m.of_fastest(ratio)


def _norm(vector: Tensor) -> Tensor:
    return torch.linalg.vector_norm(vector, dim=-1)


def _mean(value: Tensor) -> PerSystem:
    return value.mean(dim=1)


def _min(value: Tensor) -> PerSystem:
    return value.amin(dim=1)


def _max(value: Tensor) -> PerSystem:
    return value.amax(dim=1)


def _rms(value: Tensor) -> PerSystem:
    return torch.linalg.vector_norm(value, dim=1) / value.shape[1] ** 0.5


def _constant(value: Callable[[State], float]) -> Callable[[Measures], PerSystem]:
    return lambda m: torch.full_like(m.state.time, value(m.state))


def state_features(names: Sequence[str], measures: Measures) -> Tensor:
    """Named features of a state, (B, F)."""
    return torch.stack([FEATURES[name](measures) for name in names], dim=1)


def delta_features(before: State, after: State, dt: PerSystem, scales: Tensor) -> Tensor:
    """Sizes of the change between two kept states and the dt between them, (B, 10).

    Mean, maximum and root mean square over the bodies of |Δx|, |Δv|, |Δa|, in units of `scales`.
    """
    changes = (
        after.position - before.position,
        after.velocity - before.velocity,
        gravity.acceleration(after) - gravity.acceleration(before),
    )
    columns = []
    for k, change in enumerate(changes):
        size = _norm(change) / scales[:, k : k + 1]
        columns += [_mean(size), _max(size), _rms(size)]
    return torch.stack([*columns, dt / scales[:, 3]], dim=1)


def scales_of(
    state: State,
    normalisation: str,
    length: float = 1.0,
    velocity: float = 1.0,
    acceleration: float | None = None,
) -> Tensor:
    """Units L0, V0, A0, T0 = L0/V0 of dimensional features, (B, 4).

    Parameters
    ----------
    normalisation
        "raw": 1 each; "manual": as given, A0 = V0²/L0 unless given; "automatic": mean pair
        distance, rms speed and rms acceleration of this state.
    """
    if normalisation == "raw":
        return torch.ones(state.n_systems, 4, dtype=state.time.dtype, device=state.time.device)
    if normalisation == "manual":
        pull = velocity**2 / length if acceleration is None else acceleration
        return state.time.new_tensor([length, velocity, pull, length / velocity]).expand(
            state.n_systems, 4
        )
    m = Measures(state)
    l0, v0, a0 = _mean(m.separation), _rms(m.speed), _rms(m.pull)
    # A system that starts at rest has no speed of its own: it falls.
    v0 = torch.where(v0 > 0, v0, (a0 * l0).sqrt())
    return torch.stack([l0, v0, a0, l0 / v0], dim=1).detach()


def expand_names(names: Sequence[str], history: int) -> tuple[tuple[str, ...], bool]:
    """Feature names with every set written out, and whether the history features are among them.

    Raises
    ------
    InputError
        A name is unknown or double, or `history` and delta_mag don't go together.
    """
    plain: list[str] = []
    for name in names:
        if name == "delta_mag":
            continue
        if name not in FEATURES and name not in FEATURE_SETS:
            raise unknown_name("feature", name, [*FEATURES, *FEATURE_SETS, "delta_mag"])
        plain += FEATURE_SETS.get(name, (name,))
    with_history = "delta_mag" in names
    if with_history != (history > 0):
        raise InputError(
            f"feature 'delta_mag' and history = {history} don't go together; "
            "list 'delta_mag' in features and set history to 1 or more, or neither"
        )
    plain = list(dict.fromkeys(plain))
    if not plain and not with_history:
        raise InputError("features is empty; name at least one, such as 'scale_free'")
    return tuple(plain), with_history


def _statistics(prefix: str, values: Callable[[Measures], Tensor]) -> dict:
    kinds = {"mean": _mean, "min": _min, "max": _max, "rms": _rms}
    return {f"{k}_{prefix}": lambda m, f=f: f(values(m)) for k, f in kinds.items()}


Feature = Callable[[Measures], PerSystem]

SCALE_FREE: dict[str, Feature] = {
    "fly_by": fly_by,
    "binding": binding,
    "radial": radial,
    "heaviness": heaviness,
    "asymmetry": asymmetry,
    "crowding": crowding,
    "rate_contrast": rate_contrast,
    "compactness": compactness,
    "virial": virial,
    "perturbation": perturbation,
}

STATISTICS: dict[str, Feature] = {
    "n_bodies": _constant(lambda s: s.n_bodies),
    "n_dimensions": _constant(lambda s: s.n_dimensions),
    "total_mass": lambda m: m.state.mass.sum(dim=1),
    **_statistics("mass", lambda m: m.state.mass),
    **_statistics("distance", lambda m: m.distance),
    **_statistics("speed", lambda m: m.speed),
    **_statistics("acceleration", lambda m: m.pull),
    **_statistics("separation", lambda m: m.separation),
    "softening": lambda m: m.state.softening / m.unit(0)[:, 0],
}

FEATURES: dict[str, Feature] = {**SCALE_FREE, **STATISTICS}

FEATURE_SETS: dict[str, tuple[str, ...]] = {
    "scale_free": tuple(SCALE_FREE),
    "basic": (
        *("n_bodies", "n_dimensions", "total_mass", "mean_distance", "max_distance"),
        *("mean_speed", "max_speed", "mean_acceleration", "max_acceleration"),
        *("min_separation", "mean_separation"),
    ),
    "rich": tuple(name for name in STATISTICS if name != "rms_separation"),
}
