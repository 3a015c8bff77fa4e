"""NumPy arrays and torch tensors alike, by the operations that both have.

Methods that both know (`sum(axis=…)`, `any`, `all`, operators, indexing) are called as they are.
All others are taken from the namespace of the array, which for tensors is that of array-api-compat:
`xp = namespace(x)`, then `xp.where(…)`. torch is imported by whoever has tensors, not here.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Array",
    "PerSystem",
    "beside",
    "components",
    "detached",
    "dot",
    "is_tensor",
    "namespace",
    "norm",
    "numbers",
    "taken",
    "to_numpy",
]

Array: TypeAlias = Any  # of NumPy or torch, for which there is no type that checkers know
PerSystem: TypeAlias = Array  # (B,), one number for each system of a batch


def is_tensor(value: Any) -> bool:
    """Whether a value is a tensor of torch, which nobody has who has not imported it."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def namespace(value: Any) -> Any:
    """Functions of the Array API standard for arrays of this kind."""
    return _of_tensors() if is_tensor(value) else np


@cache
def _of_tensors() -> Any:
    import array_api_compat.torch

    return array_api_compat.torch


def beside(value: Any, like: Array) -> Array:
    """A number, list or array as an array of the same kind and type as another, and beside it."""
    if not is_tensor(like):
        return numbers(value).astype(like.dtype, copy=False)
    # Not every array of NumPy can be taken as it is, such as one that is read backwards.
    value = np.array(value) if isinstance(value, np.ndarray) else value
    return sys.modules["torch"].as_tensor(value, dtype=like.dtype, device=like.device)


def dot(a: Array, b: Array) -> Array:
    """Scalar products of vectors (…, D)."""
    # Like the two below not by array-api-compat, whose checks take longer than few bodies do.
    return sys.modules["torch"].linalg.vecdot(a, b) if is_tensor(a) else np.vecdot(a, b)


def components(vectors: Array) -> tuple[Array, ...]:
    """Vectors (…, D) axis by axis, D of (…)."""
    return vectors.unbind(-1) if is_tensor(vectors) else tuple(np.moveaxis(vectors, -1, 0))


def taken(values: Array, index: Array) -> Array:
    """Values (B, N, …) of the bodies at an index (B, M, …), of as many axes."""
    if is_tensor(values):
        return values.gather(1, index)
    return np.take_along_axis(values, index, axis=1)


def norm(vectors: Array) -> Array:
    """Sizes of vectors (…, D)."""
    return namespace(vectors).linalg.vector_norm(vectors, axis=-1)


def detached(value: Array) -> Array:
    """The same without its gradient."""
    return value.detach() if is_tensor(value) else value


def numbers(value: Any) -> NDArray[np.float64]:
    """Numbers as an array of NumPy; TypeError for what is none, such as text."""
    found = to_numpy(value)
    if found.dtype.kind not in "biuf":
        raise TypeError(f"{value!r} is no number")
    return found.astype(np.float64)


def to_numpy(value: Any) -> NDArray[Any]:
    """The same as an array of NumPy, without gradient, on the CPU."""
    return value.detach().cpu().numpy() if is_tensor(value) else np.asarray(value)
