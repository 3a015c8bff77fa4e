"""The frame in which a run is made: about the centre of mass, which is at rest there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nbcore.physics import gravity
from nbcore.physics.arrays import Array, namespace, taken, to_numpy
from nbcore.physics.elementwise import where
from nbcore.physics.state import State

__all__ = ["Frame"]


ROUNDING = 1e-13  # of the vectors; a smaller mean of theirs is left where it is


@dataclass(frozen=True)
class Frame:
    """What was taken off the positions and velocities of every system.

    Attributes
    ----------
    time
        (B,) at which it was taken off.
    position, velocity
        (B, 1, D), of the centre of mass.
    """

    time: Array
    position: Array
    velocity: Array

    @classmethod
    def of(cls, state: State) -> Frame:
        """Frame of the centre of mass; where a field acts, which has a place, that of the user."""
        if state.field is not None:
            nothing = 0 * state.position[:, :1]
            return cls(state.time, nothing, nothing)
        # Beside the heaviest body first: far from the origin a mean would lose what differences,
        # which are exact, keep.
        position, velocity = _heaviest(state, state.position), _heaviest(state, state.velocity)
        beside = state.replace(
            position=state.position - position, velocity=state.velocity - velocity
        )
        rest = gravity.centre_of_mass(beside)
        return cls(
            state.time,
            _beyond_rounding(position + rest[0], state.position),
            _beyond_rounding(velocity + rest[1], state.velocity),
        )

    def enter(self, state: State) -> State:
        """State of the user's frame in this one."""

        def taken_off(vectors: Array, offset: Array) -> Array:
            one = _heaviest(state, vectors)
            return where(offset == 0, vectors, (vectors - one) - (offset - one))

        return state.replace(
            position=taken_off(state.position, self.position),
            velocity=taken_off(state.velocity, self.velocity),
        )

    def leave(self, state: State) -> State:
        """State of this frame in the user's."""
        passed = (state.time - self.time)[:, None, None]
        return state.replace(
            position=state.position + (self.position + passed * self.velocity),
            velocity=state.velocity + self.velocity,
        )

    def put_back(self, records: Mapping[str, np.ndarray], which: np.ndarray) -> None:
        """Take some of the records (B, T, …), by a mask (B, T), to the user's frame, in place."""
        position, velocity = to_numpy(self.position), to_numpy(self.velocity)
        passed = records["time"] - to_numpy(self.time)[:, None]
        for name, offset in (
            ("position", position + passed[..., None] * velocity),
            ("velocity", np.broadcast_to(velocity, (*passed.shape, velocity.shape[-1]))),
        ):
            records[name][which] += offset[which][:, None]


def _heaviest(state: State, vectors: Array) -> Array:
    """Vectors (B, 1, D) of the heaviest body of each system."""
    xp = namespace(vectors)
    index = xp.argmax(state.mass, axis=1)[:, None, None]
    return taken(vectors, xp.broadcast_to(index, vectors[:, :1].shape))


def _beyond_rounding(offset: Array, vectors: Array) -> Array:
    xp = namespace(offset)
    size = xp.max(abs(vectors), axis=(1, 2), keepdims=True)
    return where(xp.max(abs(offset), axis=2, keepdims=True) > ROUNDING * size, offset, 0.0)
