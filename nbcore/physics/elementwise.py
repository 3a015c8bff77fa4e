"""Functions of arrays and of plain numbers alike, for laws that serve both engines.

Compiled code has them in numba's words; see `compiled`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nbcore.physics.arrays import is_tensor, namespace

__all__ = [
    "TINY",
    "absolute",
    "clamp",
    "erf",
    "exp",
    "inverse_root",
    "log",
    "maximum",
    "minimum",
    "quotient",
    "root",
    "tanh",
    "where",
]

TINY = 1e-300  # added where nothing might be divided by nothing


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) or is_tensor(value)


def where(condition, a, b):
    """Take `a` where the condition holds, otherwise `b`."""
    if _is_array(condition):
        return namespace(condition).where(condition, a, b)
    return a if condition else b


def minimum(a, b):
    """Smaller of two values; b may be a plain number."""
    if not _is_array(a):
        return a if a <= b else b
    return namespace(a).minimum(a, b) if _is_array(b) else a.clip(max=b)


def maximum(a, b):
    """Larger of two values of one kind."""
    return namespace(a).maximum(a, b)


def clamp(value, least, most):
    """Value within two plain numbers."""
    return value.clip(least, most) if _is_array(value) else min(max(value, least), most)


def quotient(numerator: Any, denominator: Any, otherwise: float) -> Any:
    """Quotient where the denominator is positive; its gradient is finite elsewhere, too."""
    if not _is_array(denominator):
        return numerator / denominator if denominator > 0 else otherwise
    positive = denominator > 0
    return where(positive, numerator / where(positive, denominator, 1.0), otherwise)


def absolute(value: Any) -> Any:
    """|value|."""
    return abs(value)


def root(value: Any) -> Any:
    """√value."""
    return value**0.5


def inverse_root(value: Any) -> Any:
    """1/√value."""
    return value**-0.5


def log(value: Any) -> Any:
    """Natural logarithm."""
    return namespace(value).log(value) if _is_array(value) else math.log(value)


def exp(value: Any) -> Any:
    """e^value."""
    return namespace(value).exp(value) if _is_array(value) else math.exp(value)


def tanh(value: Any) -> Any:
    """Hyperbolic tangent."""
    return namespace(value).tanh(value) if _is_array(value) else math.tanh(value)


def erf(value: Any) -> Any:
    """Error function."""
    if is_tensor(value):
        return value.erf()
    return _erf(value).astype(value.dtype) if isinstance(value, np.ndarray) else math.erf(value)


_erf = np.vectorize(math.erf, otypes=[float])  # NumPy has none, and few runs ask for it
