"""The laws that the kernels share, compiled; laws that laws call, in numba's words."""

from __future__ import annotations

from nbcore.physics import body_errors, pair_law
from nbcore.physics.compiled import callable_by_laws, compiled
from nbcore.stepping import criteria

__all__ = [
    "pair_alpha",
    "pair_beta",
    "pair_first",
    "pair_gamma",
    "pair_potential",
    "pair_second",
    "pair_third",
    "pair_weight",
]

(
    pair_weight,
    pair_potential,
    pair_alpha,
    pair_beta,
    pair_gamma,
    pair_first,
    pair_second,
    pair_third,
) = (
    compiled(getattr(pair_law, f"pair_{name}"))
    for name in ("weight", "potential", "alpha", "beta", "gamma", "first", "second", "third")
)

for law in (criteria.pair_rate4, body_errors.dot, body_errors.plus):
    callable_by_laws(law)
