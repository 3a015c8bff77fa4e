"""Functions that laws of physics, criteria and features call, for the compiler.

Each is the same as for tensors, in numba's words.
"""

from __future__ import annotations

import math

from numba.extending import overload

from nbcore.physics import body_errors, elementwise
from nbcore.simulation.kernels.shapes import LAW
from nbcore.stepping import criteria

# A power of −½ would bring a branch for −∞, which keeps loops from being vectorised.
overload(elementwise.inverse_root, jit_options=LAW)(
    lambda value: lambda value: 1 / math.sqrt(value)
)
overload(elementwise.root, jit_options=LAW)(lambda value: lambda value: math.sqrt(value))
overload(elementwise.absolute, jit_options=LAW)(lambda value: lambda value: abs(value))
overload(elementwise.maximum, jit_options=LAW)(lambda a, b: lambda a, b: a if a >= b else b)
overload(criteria.pair_rate4, jit_options=LAW)(lambda w, v2, mu: criteria.pair_rate4)
overload(body_errors.dot, jit_options=LAW)(lambda a, b: body_errors.dot)
overload(body_errors.plus, jit_options=LAW)(lambda a, b, scale: body_errors.plus)
overload(elementwise.where, jit_options=LAW)(
    lambda condition, a, b: lambda condition, a, b: a if condition else b
)
overload(elementwise.log, jit_options=LAW)(lambda value: lambda value: math.log(value))
overload(elementwise.minimum, jit_options=LAW)(lambda a, b: lambda a, b: a if a <= b else b)
overload(elementwise.clamp, jit_options=LAW)(
    lambda value, least, most: lambda value, least, most: min(max(value, least), most)
)
overload(elementwise.quotient, jit_options=LAW)(
    lambda numerator, denominator, otherwise: (
        lambda numerator, denominator, otherwise: (
            numerator / denominator if denominator > 0 else otherwise
        )
    )
)
