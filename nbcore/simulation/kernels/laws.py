"""The laws that the kernels share, compiled; laws that laws call, in numba's words."""

from __future__ import annotations

from numba.extending import overload

from nbcore.physics import body_errors, pair_law
from nbcore.physics.compiled import LAW, compiled
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

overload(criteria.pair_rate4, jit_options=LAW)(lambda w, v2, mu: criteria.pair_rate4)
overload(body_errors.dot, jit_options=LAW)(lambda a, b: body_errors.dot)
overload(body_errors.plus, jit_options=LAW)(lambda a, b, scale: body_errors.plus)
