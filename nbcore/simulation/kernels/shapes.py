"""Numbers of bodies and axes known to the compiler, and scratch arrays on the stack."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import extending, types
from numba.extending import overload
from numba.np import numpy_support

from nbcore.physics.compiled import LAW, PLAIN

__all__ = [
    "LANES",
    "Many",
    "Shared",
    "active",
    "either",
    "intrinsic",
    "is_a",
    "is_known",
    "padded",
    "rounded_up",
    "scratch",
    "size",
    "vectors",
    "with_active",
]

LANES = 4  # float64 numbers in a vector register of AVX2


carray: Any = numpy_support.carray
intrinsic: Any = extending.intrinsic  # what it makes takes one argument less


class Many(NamedTuple):
    """A number of bodies that the compiler does not know; those with mass come first."""

    n_bodies: int
    n_active: int


class Shared(NamedTuple):
    """Likewise, and so many bodies that the cores share every system."""

    n_bodies: int
    n_active: int


def is_known(shape: Any) -> bool:
    """Whether a shape, or the numba type of one, is a plain tuple, so that its length is known."""
    if isinstance(shape, types.Type):
        return isinstance(shape, types.UniTuple)
    return type(shape) is tuple


def either(
    test: Callable[[Any], bool],
    one: Callable,
    other: Callable,
    place: int = 0,
    options: Any = LAW,
) -> Any:
    """Make a function that is `one` where a test holds of an argument, otherwise `other`.

    The choice falls by the type of the argument, when a loop is compiled.

    Parameters
    ----------
    test
        Of an argument, or of its numba type.
    one, other
        Compiled functions of the same arguments.
    place
        Of the argument that decides.
    options
        Of numba's, for both.
    """

    def function(*arguments):
        return (one if test(arguments[place]) else other)(*arguments)

    @overload(function, strict=False, jit_options=options)
    def _(*kinds):
        chosen: Any = one if test(kinds[place]) else other
        return chosen.py_func

    return function


def is_a(kind: type) -> Callable[[Any], bool]:
    """Test whether a value, or its numba type, is of a class of named tuples."""
    return lambda value: getattr(value, "instance_class", type(value)) is kind


def size(shape):
    """N or D, from what stands for it."""
    return len(shape) if is_known(shape) else shape.n_bodies


@overload(size, jit_options=PLAIN)
def _size(shape):
    if is_known(shape):
        count = len(shape)
        return lambda shape: count
    return lambda shape: shape.n_bodies


def active(shape):
    """Number of the bodies that act; those after them are test particles."""
    return len(shape) if is_known(shape) else shape.n_active


@overload(active, jit_options=PLAIN)
def _active(shape):
    if is_known(shape):
        count = len(shape)
        return lambda shape: count
    return lambda shape: shape.n_active


def with_active(shape, n_active):
    """The same shape for a system in which so many bodies act."""
    return shape if is_known(shape) else type(shape)(shape.n_bodies, n_active)


@overload(with_active, jit_options=PLAIN)
def _with_active(shape, n_active):
    if is_known(shape):
        return lambda shape, n_active: shape
    kind = shape.instance_class
    return lambda shape, n_active: kind(shape.n_bodies, n_active)


def rounded_up(count: int) -> int:
    """Numbers that whole vector registers hold; few of them by powers of two, to be shuffled."""
    few = [LANES, 2 * LANES, 4 * LANES]
    return next((most for most in few if count <= most), -(-count // LANES) * LANES)


def padded(shape):
    """N rounded up to whole vector registers where it is known."""
    return rounded_up(len(shape)) if is_known(shape) else size(shape)


@overload(padded, jit_options=PLAIN)
def _padded(shape):
    if is_known(shape):
        count = rounded_up(len(shape))
        return lambda shape: count
    return lambda shape: size(shape)


def scratch(shape, rows, like):
    """A (rows, padded N) of the type of `like`: the padding is zero, the rest is not initialised.

    It is on the stack where N is known.

    There the compiler keeps what it can in registers, and knows that no two arrays overlap.
    `rows` must be a literal.
    """
    made = np.empty((rows, padded(shape)), dtype=np.asarray(like).dtype)
    made[:, size(shape) :] = 0.0
    return made


@overload(scratch, inline="always", prefer_literal=True)
def _scratch(shape, rows, like):
    if is_known(shape):
        width = rounded_up(len(shape))
        return lambda shape, rows, like: carray(_on_stack(shape, rows, like), (rows, width))
    dtype = numpy_support.as_dtype(like)
    return lambda shape, rows, like: np.empty((rows, size(shape)), dtype=dtype)


def vectors(bodies):
    """A (3, padded N): the padding is zero, the rest is not initialised."""
    return scratch(bodies, 3, 0.0)


@overload(vectors, inline="always")
def _vectors(bodies):
    return lambda bodies: scratch(bodies, 3, 0.0)


@intrinsic(prefer_literal=True)
def _on_stack(_context, shape, rows, like):
    """Pointer to numbers in the frame of the function that this is inlined in."""
    n, width, n_rows = len(shape), rounded_up(len(shape)), rows.literal_value
    number = ir.DoubleType() if like.bitwidth == 64 else ir.FloatType()

    def codegen(_, builder, signature, arguments):
        with builder.goto_entry_block():
            place = builder.alloca(ir.ArrayType(number, n_rows * width))
            place.align = 32
            numbers = builder.bitcast(place, number.as_pointer())
            for row in range(n_rows):
                for lane in range(n, width):
                    at = ir.Constant(ir.IntType(32), row * width + lane)
                    builder.store(ir.Constant(number, 0.0), builder.gep(numbers, [at]))
            return numbers

    kind = types.float64 if like.bitwidth == 64 else types.float32
    return types.CPointer(kind)(shape, rows, like), codegen
