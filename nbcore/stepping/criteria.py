"""Classical step criteria: time scales τ of a state, to be multiplied by η.

Each returns (B,) [T], positive. Where a body or pair sets no scale (no force on it, no mass in it)
its scale is infinite, so that the minimum passes over it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from nbcore.errors import InputError, unknown_name
from nbcore.physics import gravity
from nbcore.physics.state import PerSystem, State

__all__ = ["CRITERIA", "CriterionRow", "Pairs", "get_criterion", "pairs_of"]

LARGEST_ENHANCEMENT = 100.0  # of the density in Zemp's rule, which diverges at e = 1


@dataclass(frozen=True)
class Pairs:
    """Relative motion of all pairs; (B, P) each.

    Attributes
    ----------
    r2, v2
        Squared distance (softened) and speed.
    rv
        Separation times velocity, R·V.
    mu
        G (m_i + m_j).
    """

    r2: Tensor
    v2: Tensor
    rv: Tensor
    mu: Tensor


def pairs_of(state: State) -> Pairs:
    """Relative motion of all pairs of a state."""
    i, j = gravity.pair_indices(state.n_bodies, state.position.device)
    R = state.position[:, j] - state.position[:, i]
    V = state.velocity[:, j] - state.velocity[:, i]
    return Pairs(
        r2=torch.linalg.vecdot(R, R) + state.softening**2,
        v2=torch.linalg.vecdot(V, V),
        rv=torch.linalg.vecdot(R, V),
        mu=state.G * (state.mass[:, i] + state.mass[:, j]),
    )


def pair_rate4(r2, v2, mu):
    """P⁴ = μ²/r⁶ + v⁴/r⁴: fourth power of a pair's rate, smooth and even in v."""
    w = 1 / r2
    return mu * mu * (w * w * w) + v2 * v2 * (w * w)


def free_fall(state: State) -> PerSystem:
    """Shortest of all pairs' r/v and √(r³/μ), as in the AMUSE Hermite code (there η = 0.03)."""
    p = pairs_of(state)
    fall2 = p.r2**1.5 / p.mu
    fly2 = p.r2 / p.v2
    return torch.minimum(fall2, fly2).amin(dim=1).sqrt()


def huayno(state: State) -> PerSystem:
    """Free-fall and fly-by time of all pairs, each looking ahead by its own time derivative.

    References
    ----------
    Pelupessy, Jänes & Portegies Zwart (2012), New Astronomy 17, 711.
    """
    p = pairs_of(state)
    r = p.r2**0.5
    fall = (p.r2 * r / p.mu / 2) ** 0.5
    # A pair without mass never falls: likewise.
    fall_rate = torch.where(p.mu > 0, 1.5 * fall * p.rv / p.r2, 0.0)
    fly = (p.r2 / p.v2) ** 0.5
    # A pair at rest never flies by: infinite time, whose rate does not matter.
    fly_rate = torch.where(p.v2 > 0, fly * p.rv / p.r2 * (1 + p.mu / (p.v2 * r)), 0.0)
    ahead = [
        scale / (1 - rate.clamp(max=1) / 2) for scale, rate in ((fall, fall_rate), (fly, fly_rate))
    ]
    return torch.minimum(*ahead).amin(dim=1)


def aarseth85(state: State) -> PerSystem:
    """√((a s + j²)/(j c + s²)) of the body that needs the shortest.

    References
    ----------
    Aarseth (1985), in Multiple Time Scales, p. 377.
    """
    a, j, s, c = _norms(state, 4)
    return _shortest(a * s + j**2, j * c + s**2)


def prs23(state: State) -> PerSystem:
    """√(2 a²/(j² + a s)) of the body that needs the shortest.

    Vanishes where an acceleration passes through zero, as on the figure-eight.

    References
    ----------
    Pham, Rein & Spiegel (2024), Open Journal of Astrophysics 7, 1.
    """
    a, j, s = _norms(state, 3)
    return _shortest(2 * a**2, j**2 + a * s)


def softened_acceleration(state: State) -> PerSystem:
    """√(2 ε/a) of the most accelerated body; needs softening ε > 0. Here dt = √η τ.

    References
    ----------
    Springel (2005), MNRAS 364, 1105 (GADGET-2), eq. 34.
    """
    if state.softening == 0:
        raise InputError(
            "criterion 'softened_acceleration' needs softening > 0, and it is 0; "
            "set a softening or take another criterion, such as 'boekholt'"
        )
    (a,) = _norms(state, 1)
    return (2 * state.softening / a.amax(dim=1)).sqrt()


def tidal(state: State) -> PerSystem:
    """√(√6/‖∇a‖) of the body in the strongest tide.

    References
    ----------
    Grudić & Hopkins (2020), MNRAS 495, 4306.
    """
    gradient = gravity.tidal_tensor(state)
    norm = torch.linalg.vector_norm(gradient, dim=(-2, -1)).amax(dim=1)
    return (math.sqrt(6) / norm).sqrt()


def zemp(state: State) -> PerSystem:
    """1/√(G ρ) with the highest dynamical density of a pair, raised by its eccentricity.

    ρ = (m_i + m_j)/r³ · max(1, (1 + 2e)/|1 − e|), the last factor at most 100.

    References
    ----------
    Zemp, Stadel, Moore & Carollo (2007), MNRAS 376, 273.
    """
    p = pairs_of(state)
    r = p.r2**0.5
    orbital = (p.v2 / 2 - p.mu / r) * (p.r2 * p.v2 - p.rv**2)
    e = (1 + 2 * orbital / p.mu**2).clamp(min=0).sqrt()
    enhancement = ((1 + 2 * e) / (1 - e).abs()).clamp(1, LARGEST_ENHANCEMENT)
    density = torch.where(p.mu > 0, p.mu / (p.r2 * r) * enhancement, 0.0)
    return density.amax(dim=1).rsqrt()


def boekholt(state: State) -> PerSystem:
    """√(ΣP⁸/ΣP¹⁰) over all pairs' rates P: smooth, and even in velocity (there η = 1/16).

    References
    ----------
    Boekholt, Vaillant & Correia (2023), MNRAS 519, 5281.
    """
    p = pairs_of(state)
    return smooth_time_scale(pair_rate4(p.r2, p.v2, p.mu))


def smooth_time_scale(rate4: Tensor) -> PerSystem:
    """√(ΣP⁸/ΣP¹⁰) from P⁴ (B, P); the largest rate is taken out so that no unit overflows."""
    largest4 = rate4.amax(dim=1, keepdim=True).detach()
    share = rate4 / largest4
    ratio = (share**2).sum(dim=1) / (share**2.5).sum(dim=1)
    return ratio.sqrt() / largest4[:, 0] ** 0.25


def _norms(state: State, order: int) -> list[Tensor]:
    return [torch.linalg.vector_norm(d, dim=-1) for d in gravity.derivatives(state, order)]


def _shortest(numerator: Tensor, denominator: Tensor) -> PerSystem:
    """√(numerator/denominator), the least over bodies; a body that feels nothing sets none."""
    moved = denominator > 0
    ratio = numerator / torch.where(moved, denominator, 1.0)
    return torch.where(moved, ratio, math.inf).amin(dim=1).sqrt()


@dataclass(frozen=True)
class CriterionRow:
    """A criterion as it stands in the table.

    Attributes
    ----------
    time_scale
        State to τ (B,).
    evaluations
        Force-like evaluations that one call costs beyond the acceleration at hand.
    eta_power
        dt = η^eta_power τ.
    """

    time_scale: Callable[[State], PerSystem]
    evaluations: int = 0
    eta_power: float = 1.0


def get_criterion(name: str) -> CriterionRow:
    """Criterion by its name in the table, or an error with the nearest name."""
    if name not in CRITERIA:
        raise unknown_name("criterion", name, CRITERIA)
    return CRITERIA[name]


CRITERIA: dict[str, CriterionRow] = {
    "free_fall": CriterionRow(free_fall),
    "huayno": CriterionRow(huayno),
    "aarseth85": CriterionRow(aarseth85, evaluations=3),
    "prs23": CriterionRow(prs23, evaluations=2),
    "softened_acceleration": CriterionRow(softened_acceleration, eta_power=0.5),
    "tidal": CriterionRow(tidal, evaluations=1),
    "zemp": CriterionRow(zemp),
    "boekholt": CriterionRow(boekholt),
}
