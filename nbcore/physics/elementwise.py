"""Functions that take tensors and plain numbers alike, for laws that serve both engines."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "absolute",
    "clamp",
    "inverse_root",
    "log",
    "maximum",
    "minimum",
    "quotient",
    "root",
    "where",
]


def where(condition, a, b):
    """Take `a` where the condition holds, otherwise `b`."""
    if isinstance(condition, Tensor):
        return torch.where(condition, a, b)
    return a if condition else b


def minimum(a, b):
    """Smaller of two values; b may be a plain number."""
    if isinstance(a, Tensor):
        return torch.minimum(a, b) if isinstance(b, Tensor) else a.clamp(max=b)
    return a if a <= b else b


def maximum(a, b):
    """Larger of two values of one kind."""
    return torch.maximum(a, b) if isinstance(a, Tensor) else np.maximum(a, b)


def clamp(value, least, most):
    """Value within two plain numbers."""
    if isinstance(value, Tensor):
        return value.clamp(least, most)
    return min(max(value, least), most)


def quotient(numerator: Any, denominator: Any, otherwise: float) -> Any:
    """Quotient where the denominator is positive; its gradient is finite elsewhere, too."""
    if isinstance(denominator, Tensor):
        positive = denominator > 0
        return torch.where(positive, numerator / torch.where(positive, denominator, 1), otherwise)
    return numerator / denominator if denominator > 0 else otherwise


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
    return torch.log(value) if isinstance(value, Tensor) else math.log(value)
