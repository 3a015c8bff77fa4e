"""1/√ from the processor's own estimate of 14 bits, where it has one (AVX-512).

Roots and divisions keep one unit busy for ten times as long as a multiplication does.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils
from numba.core.registry import cpu_target

__all__ = ["called", "has_estimates", "inverse_root"]

REGISTER = 8  # float64 numbers of which the processor estimates 1/√ at once


def has_estimates(_: Any = None) -> bool:
    """Whether the processor that is compiled for has them; numba's cache tells it from others."""
    target: Any = cpu_target.target_context
    *_, features = target.codegen().magic_tuple()
    return "+avx512vl" in features.split(",")


def called(builder: Any, name: str, *arguments: Any, **how: Any) -> Any:
    """What a function of LLVM's makes of its arguments: one like the first."""
    kind = ir.FunctionType(arguments[0].type, [argument.type for argument in arguments])
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}")
    return builder.call(function, arguments, **how)


def inverse_root(builder: Any, x: Any) -> Any:
    """1/√ of 4, 8 or 16 numbers, as exact as by root and division, and of 0, ∞ and NaN the same.

    With e = 1 - x y² of an estimate y, 1/√x = y (1 - e)^(-1/2) = y (1 + e/2 + 3e²/8 + 5e³/16 + …),
    of which 35e⁴/128, with |e| < 2^-13, is the first that is left out (Householder 1970).
    """
    width = x.type.count
    if width > REGISTER:
        low, high = (_part(builder, x, k, width // 2) for k in (0, width // 2))
        low, high = inverse_root(builder, low), inverse_root(builder, high)
        return builder.shuffle_vector(low, high, _places(0, width))

    def many(number: float) -> Any:
        return ir.Constant(x.type, [number] * width)

    def fma(a: Any, b: Any, c: Any) -> Any:
        return called(builder, f"fma.v{width}f64", a, b, c)

    all_of_them = ir.Constant(ir.IntType(8), -1)
    y = called(builder, f"x86.avx512.rsqrt14.pd.{64 * width}", x, many(0.0), all_of_them)
    e = fma(builder.fneg(builder.fmul(x, y)), y, many(1.0))
    # A term less would leave 2⁻⁵⁵ of one sign, by which the energy of long runs drifts.
    first, second = fma(e, many(3 / 8), many(1 / 2)), fma(e, many(35 / 128), many(5 / 16))
    series = fma(builder.fmul(e, e), second, first)
    finer = fma(builder.fmul(y, e), series, y)
    return builder.select(builder.fcmp_ordered("ord", e, e), finer, y)


def _part(builder: Any, x: Any, first: int, width: int) -> Any:
    return builder.shuffle_vector(x, x, _places(first, width))


def _places(first: int, width: int) -> Any:
    return ir.Constant(ir.VectorType(ir.IntType(32), width), [*range(first, first + width)])
