"""Laws of physics for compiled code: how they are compiled, and `elementwise` in numba's words.

A law is written once, as a function of operators and `elementwise`; `compiled(law)` is the same
law for a compiled loop.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from numba import njit
from numba.extending import overload

from nbcore.physics import elementwise

__all__ = [
    "APART",
    "LAW",
    "LAWS",
    "ORDERS",
    "PLAIN",
    "callable_by_laws",
    "compiled",
    "holding",
    "one_of",
]

# What is called by compiled code alone: the wrappers for Python take a third of compiling. From
# Python call its `py_func`.
APART: Any = {
    "error_model": "numpy",
    "fastmath": {"contract"},
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
    "_nrt": True,
}
# Who holds each array is not counted, which takes a third of the time of a few bodies' steps.
PLAIN: Any = {**APART, "forceinline": True, "_nrt": False}
# 1/√r² rather than a power, sums in any order, fused multiply-adds: the last bits may differ from
# torch's, and are the same in every run.
LAW: Any = {**PLAIN, "fastmath": {"afn", "arcp", "contract", "nsz", "reassoc"}}


def holding(options: Any) -> Any:
    """The same options for a function that makes arrays, and must count who holds them."""
    return {**options, "_nrt": True}


# All that were compiled, and the orders in which they are known by number: by these to tell whether
# anything has changed.
LAWS: set[Callable] = set()
ORDERS: list[tuple[Callable, ...]] = []


def compiled(law: Callable, options: Any = LAW) -> Any:
    """Compile a law, to be called by compiled code; from Python call the law itself."""
    LAWS.add(law)
    return njit(**options)(law)


def callable_by_laws(law: Callable) -> None:
    """Let compiled laws call a law by the name that it has in their own module."""
    LAWS.add(law)
    overload(law, strict=False, jit_options=LAW)(lambda *_: law)


def one_of(laws: Sequence[Callable]) -> Any:
    """Compile (k, *arguments), which calls the k-th law."""
    ORDERS.append(tuple(laws))
    return _one_of(laws)


def _one_of(laws: Sequence[Callable]) -> Any:
    first = compiled(laws[0])
    if len(laws) == 1:
        return njit(**LAW)(lambda k, *arguments: first(*arguments))
    others = _one_of(laws[1:])
    return njit(**LAW)(
        lambda k, *arguments: first(*arguments) if k == 0 else others(k - 1, *arguments)
    )


# A power of −½ would bring a branch for −∞, which keeps loops from being vectorised.
overload(elementwise.inverse_root, jit_options=LAW)(
    lambda value: lambda value: 1 / math.sqrt(value)
)
overload(elementwise.root, jit_options=LAW)(lambda value: lambda value: math.sqrt(value))
overload(elementwise.absolute, jit_options=LAW)(lambda value: lambda value: abs(value))
overload(elementwise.maximum, jit_options=LAW)(lambda a, b: lambda a, b: a if a >= b else b)
overload(elementwise.where, jit_options=LAW)(
    lambda condition, a, b: lambda condition, a, b: a if condition else b
)
overload(elementwise.log, jit_options=LAW)(lambda value: lambda value: math.log(value))
overload(elementwise.exp, jit_options=LAW)(lambda value: lambda value: math.exp(value))
overload(elementwise.tanh, jit_options=LAW)(lambda value: lambda value: math.tanh(value))
overload(elementwise.erf, jit_options=LAW)(lambda value: lambda value: math.erf(value))
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
