"""Pairs in vectors: bodies around a ring, where all meet the one some places on.

In round k each body meets the one k places on, so that one vector holds as many pairs as there are
bodies, and n/2 rounds hold every pair once. The number of a round is the length of a tuple, `turn`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.extending import overload

from nbcore.physics.compiled import LAW
from nbcore.simulation.kernels.lanes import Lanes, held, load
from nbcore.simulation.kernels.shapes import intrinsic, rounded_up

__all__ = ["apart", "kept", "meet", "rejoin", "rounds", "separation2"]


def places(n_bodies: int, turn: int) -> list[int]:
    """Whom each body meets in a round of the ring; padding meets itself."""
    return [(i + turn) % n_bodies if i < n_bodies else i for i in range(rounded_up(n_bodies))]


def meet(bodies, turn, lanes):
    """What the body `len(turn)` places on in the ring has, for every body."""
    return lanes[places(len(bodies), len(turn))]


def rejoin(bodies, turn, lanes):
    """What the body `len(turn)` places back in the ring has: undoes `meet`."""
    return lanes[places(len(bodies), -len(turn))]


def _shuffle(lanes: Lanes, order: list[int]) -> Any:
    def codegen(context, builder, made, arguments):
        mask = ir.Constant(ir.VectorType(ir.IntType(32), lanes.width), order)
        value = arguments[-1]
        return builder.shuffle_vector(value, ir.Constant(value.type, ir.Undefined), mask)

    return codegen


@intrinsic
def _meet(_context, bodies, turn, lanes):
    return lanes(bodies, turn, lanes), _shuffle(lanes, places(len(bodies), len(turn)))


@intrinsic
def _rejoin(_context, bodies, turn, lanes):
    return lanes(bodies, turn, lanes), _shuffle(lanes, places(len(bodies), -len(turn)))


overload(meet, jit_options=LAW)(
    lambda bodies, turn, lanes: lambda bodies, turn, lanes: _meet(bodies, turn, lanes)
)
overload(rejoin, jit_options=LAW)(
    lambda bodies, turn, lanes: lambda bodies, turn, lanes: _rejoin(bodies, turn, lanes)
)


def kept(bodies, turn, lanes):
    """Lanes of the pairs of a round, each pair once; zero elsewhere."""
    return np.where(once(len(bodies), len(turn)), lanes, 0.0)


def once(n_bodies: int, turn: int) -> list[bool]:
    """Which lanes of a round hold a pair that no other does."""
    last = n_bodies // 2 if 2 * turn == n_bodies else n_bodies
    return [i < last for i in range(rounded_up(n_bodies))]


@intrinsic
def _kept(_context, bodies, turn, lanes):
    pairs = once(len(bodies), len(turn))

    def codegen(context, builder, made, arguments):
        value = arguments[2]
        mask = ir.Constant(ir.VectorType(ir.IntType(1), lanes.width), pairs)
        return builder.select(mask, value, ir.Constant(value.type, [0.0] * lanes.width))

    return lanes(bodies, turn, lanes), codegen


overload(kept, jit_options=LAW)(
    lambda bodies, turn, lanes: lambda bodies, turn, lanes: _kept(bodies, turn, lanes)
)


def apart(bodies, turn, array, row):
    """A row of the body met, less one's own."""
    lanes = load(bodies, array, row)
    return meet(bodies, turn, lanes) - lanes


@overload(apart, jit_options=LAW)
def _apart(bodies, turn, array, row):
    def difference(bodies, turn, array, row):
        lanes = load(bodies, array, row)
        return meet(bodies, turn, lanes) - lanes

    return difference


def rounds(add, bodies, axes, turn, known, sums):
    """Let all pairs meet, each once, and have `add` add them to the sums.

    Parameters
    ----------
    add
        Compiled (bodies, axes, turn, known, sums) -> sums.
    turn
        A tuple as long as the number of the round, (0,) to begin with.
    """
    while 2 * len(turn) <= len(bodies):
        sums = add(bodies, axes, turn, known, sums)
        turn = (*turn, 0)
    return sums


@overload(rounds, jit_options=LAW)
def _rounds(add, bodies, axes, turn, known, sums):
    if 2 * len(turn) > len(bodies):
        return lambda add, bodies, axes, turn, known, sums: sums

    def on(add, bodies, axes, turn, known, sums):
        sums = add(bodies, axes, turn, known, sums)
        # numba does not know (*turn, 0)
        return rounds(add, bodies, axes, turn + (0,), known, sums)  # noqa: RUF005

    return on


def separation2(bodies, turn, x, eps2):
    """Softened r² of a round of pairs; 1 in the padding."""
    R0, R1, R2 = apart(bodies, turn, x, 0), apart(bodies, turn, x, 1), apart(bodies, turn, x, 2)
    return held(bodies, R0 * R0 + R1 * R1 + R2 * R2 + eps2)


@overload(separation2, jit_options=LAW)
def _separation2(bodies, turn, x, eps2):
    def squares(bodies, turn, x, eps2):
        R0, R1, R2 = apart(bodies, turn, x, 0), apart(bodies, turn, x, 1), apart(bodies, turn, x, 2)
        return held(bodies, R0 * R0 + R1 * R1 + R2 * R2 + eps2)

    return squares
