"""Random states and what physics must not depend on, for the tests of several modules.

The transformations take states of either kind of array and keep it.
"""

import math

import numpy as np

from nbcore.physics import scenarios
from nbcore.physics.arrays import beside, is_tensor, to_numpy
from nbcore.physics.state import State

LENGTH, MASS, G = 3.7e3, 2.1e-2, 6.7e-4
TIME = math.sqrt(LENGTH**3 / (G * MASS))


def random_states(seed=0, n_systems=4, n_bodies=4, n_dimensions=3, **kind):
    rng = np.random.default_rng(seed)
    shape = (n_systems, n_bodies, n_dimensions)
    mass = rng.uniform(0.2, 2, shape[:2])
    return State.from_arrays(mass, rng.normal(size=shape), rng.normal(size=shape), **kind)


def restless_test_particles(approach=0.0):
    """A star and two massless bodies that approach each other; at mutual rest by default."""
    position = [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.5, 0.0]]
    velocity = [[0.0, 0.0, 0.0], [0.1, 0.2, 0.0], [0.1 + approach, 0.2 - approach, 0.0]]
    return State.from_arrays([1.0, 0.0, 0.0], position, velocity)


def with_clones(**kind):
    """A star and a planet of mass, and massless bodies of which three are at one place."""
    rng = np.random.default_rng(11)
    position, velocity = rng.normal(size=(2, 6, 3))
    position[3:5] = position[2]
    return State.from_arrays([1.0, 0.5, 0, 0, 0, 0], position, velocity, **kind)


# Each of a kind for which the code has a branch of its own.
KINDS = {
    "plane": lambda: random_states(32, n_dimensions=2),
    "space": lambda: random_states(2, n_bodies=6, G=1.7),
    "softened": lambda: random_states(3, softening=0.2),
    "at rest": lambda: scenarios.make("pythagorean"),
    "massless": restless_test_particles,
    "clones": with_clones,
}


def differentiable(state, *names):
    """The state as tensors, of which some are leaves, and these."""
    state = state.to("cpu")
    leaves = [getattr(state, name).clone().requires_grad_() for name in names]
    return state.replace(**dict(zip(names, leaves, strict=True))), leaves


def assert_same_as_tensors(function, state, rounding=0.0):
    """Check that a function of states gives as many arrays as tensors, and the same numbers.

    To 1e-13 of the largest, beside a rounding that those have which are differences.
    """
    pairs = zip(function(state), function(state.to("cpu")), strict=True)
    for of_arrays, of_tensors in pairs:
        assert isinstance(of_arrays, np.ndarray)
        assert is_tensor(of_tensors)
        assert str(of_tensors.dtype) == f"torch.{of_arrays.dtype}"
        assert np.isfinite(of_arrays).all()
        atol = 1e-13 * np.abs(of_arrays).max() + rounding
        np.testing.assert_allclose(to_numpy(of_tensors), of_arrays, rtol=1e-13, atol=atol)


def translated(state):
    offset = np.arange(1.0, 1 + state.n_dimensions)
    return state.replace(position=state.position + beside(offset, state.position))


def boosted(state):
    velocity = np.linspace(0.7, -1.1, state.n_dimensions)
    return state.replace(velocity=state.velocity + beside(velocity, state.velocity))


def rotated(state):
    D = state.n_dimensions
    rotation, _ = np.linalg.qr(np.random.default_rng(5).normal(size=(D, D)))
    rotation[0] *= np.linalg.det(rotation)
    R = beside(rotation, state.position)
    return state.replace(position=state.position @ R.T, velocity=state.velocity @ R.T)


def permuted(state):
    order = np.roll(np.arange(state.n_bodies), 1).tolist()
    return state.replace(
        mass=state.mass[:, order],
        position=state.position[:, order],
        velocity=state.velocity[:, order],
    )


def time_reversed(state):
    return state.replace(velocity=-state.velocity)


def in_other_units(state):
    """The same system with other units of length, mass and G; the unit of time is 1/TIME."""
    return state.replace(
        mass=state.mass * MASS,
        position=state.position * LENGTH,
        velocity=state.velocity * (LENGTH / TIME),
        time=state.time * TIME,
        G=state.G * G,
        softening=state.softening * LENGTH,
    )


# name: transformation, and the factor by which times grow
OF_SPACE = {
    "translation": (translated, 1.0),
    "boost": (boosted, 1.0),
    "rotation": (rotated, 1.0),
    "permutation": (permuted, 1.0),
    "units": (in_other_units, TIME),
}
SYMMETRIES = OF_SPACE | {"time reversal": (time_reversed, 1.0)}
