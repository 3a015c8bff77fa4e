"""Random states and what physics must not depend on, for the tests of several modules."""

import math

import numpy as np
import torch

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


def translated(state):
    offset = torch.arange(1.0, 1 + state.n_dimensions, dtype=torch.float64)
    return state.replace(position=state.position + offset)


def boosted(state):
    velocity = torch.linspace(0.7, -1.1, state.n_dimensions, dtype=torch.float64)
    return state.replace(velocity=state.velocity + velocity)


def rotated(state):
    D = state.n_dimensions
    rotation, _ = np.linalg.qr(np.random.default_rng(5).normal(size=(D, D)))
    rotation[0] *= np.linalg.det(rotation)
    R = torch.as_tensor(rotation)
    return state.replace(position=state.position @ R.T, velocity=state.velocity @ R.T)


def permuted(state):
    order = torch.arange(state.n_bodies).roll(1)
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
