"""Bodies eight at a time, as lanes, where the compiler does not know how many there are."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import overload

from nbcore.physics.compiled import LAW
from nbcore.simulation.kernels.lanes import Lanes, place_of
from nbcore.simulation.kernels.shapes import intrinsic

__all__ = ["BLOCK", "block", "others"]

BLOCK = 8  # float64 numbers in a vector register of AVX-512; two of AVX2's


def block(array, row, first, count):
    """Row of an array from the body `first` on; zero after the first `count` of a block."""
    lanes = np.zeros(BLOCK)
    lanes[:count] = np.atleast_2d(array)[row, first : first + count]
    return lanes


@intrinsic
def _block(_context, array, start, count):
    lanes = Lanes(BLOCK)

    def codegen(context, builder, made, arguments):
        place = place_of(context, builder, array, arguments[0], arguments[1], lanes)
        inside = builder.icmp_signed("<", _numbers(builder), _many(builder, arguments[2]))
        kind = ir.FunctionType(lanes.llvm, [place.type, ir.IntType(32), inside.type, lanes.llvm])
        load = cgutils.get_or_insert_function(
            builder.module, kind, f"llvm.masked.load.{lanes.suffix}.p0"
        )
        zeros = ir.Constant(lanes.llvm, [0.0] * BLOCK)
        return builder.call(load, [place, ir.Constant(ir.IntType(32), 8), inside, zeros])

    return lanes(array, types.intp, types.intp), codegen


@overload(block, jit_options=LAW)
def _block_of(array, row, first, count):
    return lambda array, row, first, count: _block(array, row * array.shape[-1] + first, count)


def others(lanes, i, first, count, otherwise):
    """Lanes of a block, with another number where body i is and after the first `count`."""
    k = np.arange(BLOCK)
    return np.where((k < count) & (first + k != i), lanes, otherwise)


@intrinsic
def _others(_context, lanes, i, count, otherwise):
    def codegen(context, builder, made, arguments):
        value, own, most, number = arguments
        k = _numbers(builder)
        kept = builder.and_(
            builder.icmp_signed("<", k, _many(builder, most)),
            builder.icmp_signed("!=", k, _many(builder, own)),
        )
        return builder.select(kept, value, _many(builder, number))

    return lanes(lanes, types.intp, types.intp, types.float64), codegen


@overload(others, jit_options=LAW)
def _others_of(lanes, i, first, count, otherwise):
    return lambda lanes, i, first, count, otherwise: _others(lanes, i - first, count, otherwise)


def _numbers(builder: Any) -> Any:
    return ir.Constant(ir.VectorType(ir.IntType(64), BLOCK), [*range(BLOCK)])


def _many(builder: Any, number: Any) -> Any:
    """A number in every lane."""
    undefined = ir.Constant(ir.VectorType(number.type, BLOCK), ir.Undefined)
    one = builder.insert_element(undefined, number, ir.Constant(ir.IntType(32), 0))
    mask = ir.Constant(ir.VectorType(ir.IntType(32), BLOCK), [0] * BLOCK)
    return builder.shuffle_vector(one, undefined, mask)
