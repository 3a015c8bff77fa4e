"""Fast passages: what points along a step can't see of what happens between them.

A clock goes slowly where bodies are close, so that a step in its time has points there. Two that
pass each other much faster than they fall, however, may meet between two points so far apart that
every one of them sees a pull of nothing, and an estimate of the error with them. So the way of each
fast pair is gone along from point to point.
"""

from __future__ import annotations

from typing import NamedTuple

from nbcore.physics import gravity
from nbcore.physics.arrays import Array, PerSystem, namespace, taken
from nbcore.physics.body_errors import dot as product
from nbcore.physics.body_errors import plus, triple
from nbcore.physics.elementwise import TINY, clamp, inverse_root, maximum, root, where
from nbcore.physics.fields import TidalField
from nbcore.physics.state import State

__all__ = ["Trail", "is_fast", "is_overlooked", "overlooks"]

UNSEEN = 0.5  # of the way between two points: closest approach that they don't see
FAST = 8.0  # v² r/μ


class Trail(NamedTuple):
    """Points along the longest chain of a step, both ends among them."""

    displacement: Array  # (S, B, N, D)
    time: Array  # (S, B)


def is_fast(R, V, mu, eps2):
    """Whether a pair passes much faster than it falls, so that no clock is slow for it."""
    return product(V, V) * root(product(R, R) + eps2) > FAST * mu


def is_overlooked(R, C, T, mu, pull, pace, aim, eps2):
    """Whether a fast pair may have passed between two points of a chain, too close to be left out.

    Parameters
    ----------
    R, C
        Triples: the pair at the first point, and its way to the second one, in a time T.
    mu, pull
        G (m + m'), and G times the mass that pulls.
    pace
        Speed of the body that is pulled, by which a change of it is judged.
    aim
        Smallest change that counts, relative.
    """
    c2 = product(C, C)
    along = clamp(-product(R, C) / (c2 + TINY), 0.0, 1.0)
    closest = plus(R, C, along)
    d2 = product(closest, closest) + eps2
    unseen = d2 < UNSEEN * UNSEEN * c2
    fast = c2 * root(d2 + c2) > FAST * mu * T * T
    # A passage at a distance d and a speed c/T changes that of the body by 2 pull T/(d c).
    counts = 4 * pull * pull * T * T > aim * aim * pace * pace * d2 * c2
    return unseen & fast & counts


def overlooks(
    state: State, partner: Array, moved: Array, change: Array, trail: Trail, aim: PerSystem
) -> PerSystem:
    """Whether a step may have gone over a fast passage that no chain has seen, (B,).

    Parameters
    ----------
    state
        At the start of the step.
    partner
        (B, N) who pulls each body most.
    moved, change
        Of the positions and velocities in the step, (B, N, D).
    trail
        Points on its way.
    aim
        (B,) smallest change of a body's speed that counts, relative.
    """
    xp, eps2, G = namespace(aim), state.softening**2, state.G
    i, j = gravity.pair_indices(state.n_bodies, state.mass)
    first, second = state.mass[:, i], state.mass[:, j]
    index = xp.broadcast_to(partner[..., None], state.position.shape)
    alone = partner == xp.arange(state.n_bodies, device=partner.device)
    R, V = (triple(taken(x, index) - x) for x in (state.position, state.velocity))
    both = G * (state.mass + taken(state.mass, partner))
    inverse = inverse_root(product(R, R) + eps2 + alone)
    pace = root(product(V, V) + 2 * both * inverse)
    T, aim = (trail.time[1:] - trail.time[:-1])[..., None], aim[:, None]

    apart, speed = (x[:, j] - x[:, i] for x in (state.position, state.velocity))
    mu, heavy = G * (first + second), G * maximum(first, second)
    ends = (
        (apart, speed),
        (
            apart + (moved[:, j] - moved[:, i]),
            speed + (change[:, j] - change[:, i]),
        ),
    )
    early, late = (is_fast(triple(x), triple(v), mu, eps2) for x, v in ends)
    fast = (early | late) & (first + second > 0)
    light = where(first <= second, pace[:, i], pace[:, j])
    way = apart + (trail.displacement[:, :, j] - trail.displacement[:, :, i])
    given = triple(way[:-1]), triple(way[1:] - way[:-1]), T, mu, heavy, light, aim, eps2
    found = (fast & is_overlooked(*given)).any(axis=0).any(axis=1)
    if isinstance(state.field, TidalField):
        Gm = G * state.field.mass * xp.ones_like(pace)
        places = (state.position + each for each in trail.displacement)
        times = (state.time + each for each in trail.time)
        to = xp.stack([state.field.apart(*each) for each in zip(places, times, strict=True)])
        given = triple(to[:-1]), triple(to[1:] - to[:-1]), T, Gm, Gm, pace, aim, 0.0
        found = found | is_overlooked(*given).any(axis=0).any(axis=1)
    return found
