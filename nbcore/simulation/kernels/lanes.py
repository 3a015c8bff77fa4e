"""Vectors of one number a body, kept in registers: `Lanes`.

The compiler is handed whole vector operations instead of loops that it may or may not vectorise.
Operators, and the laws that are written with them, take lanes as they take numbers and tensors.
Without numba (NUMBA_DISABLE_JIT=1) lanes are NumPy arrays.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing import templates
from numba.core.typing.templates import AbstractTemplate, signature
from numba.extending import lower_builtin, models, overload, register_model

from nbcore.physics import elementwise
from nbcore.physics.compiled import LAW, PLAIN
from nbcore.simulation.kernels import estimates
from nbcore.simulation.kernels.estimates import has_estimates
from nbcore.simulation.kernels.shapes import LANES, intrinsic, rounded_up

__all__ = [
    "Lanes",
    "accumulate",
    "as_numbers",
    "carried",
    "chosen",
    "clamped",
    "exact_sum",
    "held",
    "largest",
    "load",
    "of_numbers",
    "place_in",
    "place_of",
    "preceding",
    "store",
    "total",
    "totals",
    "whole_part",
]

infer_global: Any = templates.infer_global

FLAGS = ("afn", "arcp", "contract", "nsz", "reassoc")


class Lanes(types.Type):
    """Type of a vector of `width` numbers of a numba type."""

    def __init__(self, width: int, number: Any = types.float64) -> None:
        super().__init__(name=f"Lanes({width}, {number})")
        self.width, self.number = width, number

    @property
    def llvm_number(self) -> Any:
        """Type of a number, for LLVM."""
        return ir.DoubleType() if self.number == types.float64 else ir.FloatType()

    @property
    def llvm(self) -> Any:
        """Type of the vector, for LLVM."""
        return ir.VectorType(self.llvm_number, self.width)

    @property
    def suffix(self) -> str:
        """How LLVM names functions of such vectors."""
        return f"v{self.width}f{self.number.bitwidth}"


@register_model(Lanes)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Lanes) -> None:
        super().__init__(manager, kind, kind.llvm)


OPERATORS = {
    operator.add: "fadd",
    operator.sub: "fsub",
    operator.mul: "fmul",
    operator.truediv: "fdiv",
}


def _spread(context: Any, builder: Any, value: Any, kind: Any, lanes: Lanes) -> Any:
    """Give every lane the same number, unless they are lanes already."""
    if isinstance(kind, Lanes):
        return value
    number, vector = context.cast(builder, value, kind, lanes.number), lanes.llvm
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), number, _index(0))
    mask = ir.Constant(ir.VectorType(ir.IntType(32), lanes.width), [0] * lanes.width)
    return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), mask)


def _index(place: int) -> Any:
    return ir.Constant(ir.IntType(32), place)


def _typed(operation: Any) -> None:
    @infer_global(operation)
    class _Template(AbstractTemplate):
        def generic(self, arguments: Any, keywords: Any) -> Any:
            lanes = [kind for kind in arguments if isinstance(kind, Lanes)]
            numbers = all(isinstance(kind, (Lanes, types.Number)) for kind in arguments)
            if len(arguments) == 2 and lanes and numbers:
                return signature(lanes[0], *arguments)
            return None


def _lowered(operation: Any, name: str) -> None:
    def lower(context: Any, builder: Any, made: Any, arguments: Any) -> Any:
        a, b = (
            _spread(context, builder, value, kind, made.return_type)
            for value, kind in zip(arguments, made.args, strict=True)
        )
        return getattr(builder, name)(a, b, flags=FLAGS)

    for first, second in ((Lanes, Lanes), (Lanes, types.Number), (types.Number, Lanes)):
        lower_builtin(operation, first, second)(lower)


for _operation, _name in OPERATORS.items():
    _typed(_operation)
    _lowered(_operation, _name)


@infer_global(operator.neg)
class _Negative(AbstractTemplate):
    def generic(self, arguments: Any, keywords: Any) -> Any:
        return signature(arguments[0], arguments[0]) if isinstance(arguments[0], Lanes) else None


@lower_builtin(operator.neg, Lanes)
def _negate(context: Any, builder: Any, made: Any, arguments: Any) -> Any:
    return builder.fneg(arguments[0])


def _vector_function(name: str) -> Any:
    """Intrinsic that calls LLVM's function of this name on lanes."""

    @intrinsic
    def function(_context, value):
        def codegen(context, builder, made, arguments):
            kind = arguments[0].type
            called = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(kind, [kind]), f"llvm.{name}.{value.suffix}"
            )
            return builder.call(called, arguments, fastmath=FLAGS)

        return value(value), codegen

    return function


_root, _size = _vector_function("sqrt"), _vector_function("fabs")
_whole = _vector_function("rint")


def _exact(name: str) -> Any:
    """Intrinsic that adds or subtracts lanes with no liberty to reorder."""

    @intrinsic
    def function(_context, a, b):
        def codegen(context, builder, made, arguments):
            return getattr(builder, name)(*arguments)

        return a(a, b), codegen

    return function


_plus, _minus = _exact("fadd"), _exact("fsub")


def exact_sum(a, b):
    """Sum of two lanes that is rounded once, as it stands."""
    return a + b


overload(exact_sum, jit_options=PLAIN)(lambda a, b: lambda a, b: _plus(a, b))


@intrinsic
def _inverse_root(_context, lanes):
    def codegen(context, builder, made, arguments):
        (value,) = arguments
        if lanes.number == types.float64 and lanes.width in (4, 8, 16) and has_estimates():
            return estimates.inverse_root(builder, value)
        root = estimates.called(builder, f"sqrt.{lanes.suffix}", value, fastmath=FLAGS)
        return builder.fdiv(ir.Constant(value.type, [1.0] * lanes.width), root, flags=FLAGS)

    return lanes(lanes), codegen


def carried(before, low, change):
    """Sum of a number and a change, and what is lost to rounding, with what was lost (Kahan 1965).

    `low` is what was lost so far.
    """
    due = change + low
    after = before + due
    return after, due - (after - before)


@overload(carried, jit_options=PLAIN)  # in any order, nothing would be lost and nothing kept
def _carried(before, low, change):
    def compensated(before, low, change):
        due = _plus(change, low)
        after = _plus(before, due)
        return after, _minus(due, _minus(after, before))

    return compensated


def accumulate(bodies, array, low, row, change):
    """Add a change to a row of an array whose rounding errors are kept in `low` (Kahan 1965)."""
    change = change + low[row]
    before = array[row].copy()
    array[row] = before + change
    low[row] = change - (array[row] - before)


@overload(accumulate, jit_options=PLAIN)
def _accumulate(bodies, array, low, row, change):
    def compensated(bodies, array, low, row, change):
        after, rest = carried(load(bodies, array, row), load(bodies, low, row), change)
        store(bodies, array, row, after)
        store(bodies, low, row, rest)

    return compensated


@overload(elementwise.root, jit_options=LAW)
def _square_root(value):
    return (lambda value: _root(value)) if isinstance(value, Lanes) else None


@overload(elementwise.absolute, jit_options=LAW)
def _absolute(value):
    return (lambda value: _size(value)) if isinstance(value, Lanes) else None


@overload(elementwise.inverse_root, jit_options=LAW)
def _inverse_root_of(value):
    return (lambda value: _inverse_root(value)) if isinstance(value, Lanes) else None


def load(bodies, array, row):
    """Row of an array as lanes."""
    return np.atleast_2d(array)[row].copy()


def store(bodies, array, row, lanes):
    """Lanes into the row of an array."""
    array[row] = lanes


def place_in(context: Any, builder: Any, kind: Any, array: Any, row: Any, lanes: Lanes) -> Any:
    """Where a row of an array lies, for a load or a store of lanes."""
    start = builder.mul(row, ir.Constant(row.type, lanes.width))
    return place_of(context, builder, kind, array, start, lanes)


def place_of(context: Any, builder: Any, kind: Any, array: Any, start: Any, lanes: Lanes) -> Any:
    """Where the numbers of an array from one on lie, likewise."""
    data = context.make_array(kind)(context, builder, array).data
    place = builder.gep(data, [start], inbounds=True)
    return builder.bitcast(place, lanes.llvm.as_pointer())


@intrinsic
def _load(_context, bodies, array, row):
    lanes = Lanes(rounded_up(len(bodies)), array.dtype)

    def codegen(context, builder, made, arguments):
        place = place_in(context, builder, array, arguments[1], arguments[2], lanes)
        return builder.load(place, align=lanes.number.bitwidth // 8)

    return lanes(bodies, array, types.intp), codegen


@intrinsic
def _store(_context, bodies, array, row, lanes):
    def codegen(context, builder, made, arguments):
        place = place_in(context, builder, array, arguments[1], arguments[2], lanes)
        builder.store(arguments[3], place, align=lanes.number.bitwidth // 8)
        return context.get_dummy_value()

    return types.none(bodies, array, types.intp, lanes), codegen


overload(load, jit_options=LAW)(
    lambda bodies, array, row: lambda bodies, array, row: _load(bodies, array, row)
)
overload(store, jit_options=LAW)(
    lambda bodies, array, row, lanes: (
        lambda bodies, array, row, lanes: _store(bodies, array, row, lanes)
    )
)


def of_numbers(shape, numbers):
    """Lanes of a tuple of numbers, zero in the padding."""
    return np.array([*numbers, *[0.0] * (rounded_up(len(shape)) - len(numbers))])


@intrinsic
def _of_numbers(_context, shape, numbers):
    lanes = Lanes(rounded_up(len(shape)))

    def codegen(context, builder, made, arguments):
        vector = ir.Constant(lanes.llvm, [0.0] * lanes.width)
        for place in range(len(numbers)):
            number = builder.extract_value(arguments[1], place)
            vector = builder.insert_element(vector, number, _index(place))
        return vector

    return lanes(shape, numbers), codegen


overload(of_numbers, jit_options=LAW)(
    lambda shape, numbers: lambda shape, numbers: _of_numbers(shape, numbers)
)


def held(bodies, lanes):
    """Lanes of the bodies; one in the padding, to divide by."""
    return np.where(np.arange(len(lanes)) < len(bodies), lanes, 1.0)


@intrinsic
def _held(_context, bodies, lanes):
    def codegen(context, builder, made, arguments):
        value = arguments[1]
        inside = [i < len(bodies) for i in range(lanes.width)]
        mask = ir.Constant(ir.VectorType(ir.IntType(1), lanes.width), inside)
        return builder.select(mask, value, ir.Constant(value.type, [1.0] * lanes.width))

    return lanes(bodies, lanes), codegen


overload(held, jit_options=LAW)(lambda bodies, lanes: lambda bodies, lanes: _held(bodies, lanes))


def chosen(flags, lanes, others):
    """Lanes where the flags are positive, otherwise the others."""
    return np.where(flags > 0, lanes, others)


@intrinsic
def _chosen(_context, flags, lanes, others):
    def codegen(context, builder, made, arguments):
        flag, value, other = arguments
        positive = builder.fcmp_ordered(">", flag, ir.Constant(flag.type, [0.0] * flags.width))
        return builder.select(positive, value, other)

    return lanes(flags, lanes, others), codegen


overload(chosen, jit_options=LAW)(
    lambda flags, lanes, others: lambda flags, lanes, others: _chosen(flags, lanes, others)
)


def clamped(lanes, bound):
    """Lanes within ± a number."""
    return np.clip(lanes, -bound, bound)


@intrinsic
def _between(_context, low, lanes, high):
    def codegen(context, builder, made, arguments):
        least, value, most = arguments
        raised = builder.select(builder.fcmp_ordered("<", value, least), least, value)
        return builder.select(builder.fcmp_ordered(">", raised, most), most, raised)

    return lanes(low, lanes, high), codegen


@overload(clamped, jit_options=LAW)
def _clamped(lanes, bound):
    return lambda lanes, bound: _between(lanes * 0.0 - bound, lanes, lanes * 0.0 + bound)


@intrinsic
def _larger(_context, a, b):
    def codegen(context, builder, made, arguments):
        first, second = arguments
        return builder.select(builder.fcmp_ordered(">=", first, second), first, second)

    return a(a, b), codegen


@overload(elementwise.maximum, jit_options=LAW)
def _maximum(a, b):
    return (lambda a, b: _larger(a, b)) if isinstance(a, Lanes) else None


def whole_part(lanes):
    """Nearest whole numbers."""
    return np.rint(lanes)


overload(whole_part, jit_options=LAW)(lambda lanes: lambda lanes: _whole(lanes))


def preceding(lanes):
    """Of every lane the sum of those before it."""
    return np.concatenate([[0.0], np.cumsum(lanes)[:-1]])


@intrinsic
def _preceding(_context, lanes):
    def codegen(context, builder, made, arguments):
        zero = ir.Constant(arguments[0].type, [0.0] * lanes.width)

        def moved(value, places):
            order = [(i - places) % (2 * lanes.width) for i in range(lanes.width)]
            mask = ir.Constant(ir.VectorType(ir.IntType(32), lanes.width), order)
            return builder.shuffle_vector(value, zero, mask)

        def add(a, b):
            return builder.fadd(a, b, flags=FLAGS)

        once = moved(arguments[0], 1)
        if lanes.width == 4:  # all at once, which none waits for
            return add(add(once, moved(arguments[0], 2)), moved(arguments[0], 3))
        sums, places = once, 1
        while places < lanes.width - 1:
            sums, places = add(sums, moved(sums, places)), 2 * places
        return sums

    return lanes(lanes), codegen


overload(preceding, jit_options=LAW)(lambda lanes: lambda lanes: _preceding(lanes))


def largest(lanes):
    """Largest of all lanes."""
    return lanes.max()


@intrinsic
def _largest(_context, lanes):
    def codegen(context, builder, made, arguments):
        number = lanes.llvm_number
        function = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(number, [lanes.llvm]),
            f"llvm.vector.reduce.fmax.{lanes.suffix}",
        )
        return builder.call(function, arguments, fastmath=("nnan", *FLAGS))

    return lanes.number(lanes), codegen


overload(largest, jit_options=LAW)(lambda lanes: lambda lanes: _largest(lanes))


def as_numbers(lanes, like):
    """Lanes of the same numbers in the type of `like`."""
    return lanes.astype(np.asarray(like).dtype)


@intrinsic
def _as_numbers(_context, lanes, like):
    made_of = Lanes(lanes.width, like)

    def codegen(context, builder, made, arguments):
        value = arguments[0]
        return value if like == lanes.number else builder.fptrunc(value, made_of.llvm)

    return made_of(lanes, like), codegen


overload(as_numbers, jit_options=LAW)(
    lambda lanes, like: lambda lanes, like: _as_numbers(lanes, like)
)


def total(lanes):
    """Sum of all lanes."""
    return lanes.sum()


@intrinsic
def _total(_context, lanes):
    def codegen(context, builder, made, arguments):
        number = lanes.llvm_number
        function = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(number, [number, lanes.llvm]),
            f"llvm.vector.reduce.fadd.{lanes.suffix}",
        )
        return builder.call(function, [ir.Constant(number, -0.0), arguments[0]], fastmath=FLAGS)

    return lanes.number(lanes), codegen


overload(total, jit_options=LAW)(lambda lanes: lambda lanes: _total(lanes))


def totals(a, b, c, d):
    """Sums of all lanes of four vectors, for less than four single sums."""
    return a.sum(), b.sum(), c.sum(), d.sum()


@intrinsic
def _totals(_context, a, b, c, d):
    four = types.UniTuple(types.float64, 4)

    def codegen(context, builder, made, arguments):
        def shuffle(x, y, order):
            mask = ir.Constant(ir.VectorType(ir.IntType(32), len(order)), order)
            return builder.shuffle_vector(x, y, mask)

        def add(x, y):
            return builder.fadd(x, y, flags=FLAGS)

        def folded(x):
            width = a.width
            while width > LANES:
                width //= 2
                low, high = range(width), range(width, 2 * width)
                x = add(shuffle(x, x, [*low]), shuffle(x, x, [*high]))
            return x

        a4, b4, c4, d4 = map(folded, arguments)
        ab = add(shuffle(a4, b4, [0, 4, 2, 6]), shuffle(a4, b4, [1, 5, 3, 7]))
        cd = add(shuffle(c4, d4, [0, 4, 2, 6]), shuffle(c4, d4, [1, 5, 3, 7]))
        sums = add(shuffle(ab, cd, [0, 1, 4, 5]), shuffle(ab, cd, [2, 3, 6, 7]))
        numbers = [builder.extract_element(sums, _index(k)) for k in range(4)]
        return context.make_tuple(builder, four, numbers)

    return four(a, b, c, d), codegen


overload(totals, jit_options=LAW)(lambda a, b, c, d: lambda a, b, c, d: _totals(a, b, c, d))
