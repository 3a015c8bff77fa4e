"""Systems of planets with a visitor that passes one of them closely some orbits after the start."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nbcore.analysis.families import problem
from nbcore.physics.orbits import at_rest, orbital_period
from nbcore.physics.seeds import stream
from nbcore.physics.state import State
from nbcore.simulation.simulate import simulate

__all__ = ["Meeting", "meeting", "meetings"]

Array = NDArray[np.float64]

VISITORS = (0.0, 3e-6, 5e-5)  # masses of stars: none, the Earth's, Neptune's
NEAREST = 0.05, 1.0  # Hill radii
SPEED = 0.1, 0.5  # far from the planet, over the planet's own
LEAD = 2.0, 4.0  # orbits of the planet before
AFTER, END = 1.0, 30.0  # and after
SLOWEST = 100.0  # shortest periods of the system, in which a planet that is met goes round


class Meeting(NamedTuple):
    """A system that a visitor comes to.

    Attributes
    ----------
    state
        At time 0, in space; the visitor is the last body.
    planet
        Whom it meets.
    closest
        Time of that [T].
    period
        Of the planet [T].
    hill
        Hill radius of the two [L].
    """

    state: State
    planet: int
    closest: float
    period: float
    hill: float

    @property
    def after(self) -> float:
        """When it is over [T]."""
        return self.closest + AFTER * self.period

    @property
    def t_end(self) -> float:
        """End of the run [T]."""
        return self.closest + END * self.period


def meetings(family: str, n_systems: int) -> list[Meeting]:
    """Held-out systems of a family, and their visitors."""
    at, rng = problem(family, "held_out", n_systems), np.random.default_rng(stream(0, "benchmark"))
    masses = [VISITORS[k % len(VISITORS)] for k in range(at.state.n_systems)]
    return [meeting(at.state.select([k]), mass, rng) for k, mass in enumerate(masses)]


def meeting(state: State, visitor: float, rng: np.random.Generator) -> Meeting:
    """Put a visitor of so many masses of the star beside a planet, and go back to before that.

    A planar system becomes one in space.
    """
    flat = ((0, 0), (0, 0), (0, 3 - state.n_dimensions))
    x, v, mass = np.pad(state.position, flat)[0], np.pad(state.velocity, flat)[0], state.mass[0]
    star = int(mass.argmax())
    period = orbital_period(state.G * (mass + mass[star]), x - x[star], v - v[star])
    fit = np.flatnonzero((mass > 0) & (period <= SLOWEST * period.min()))
    planet, visitor = int(rng.choice(fit)), visitor * mass[star]
    both, orbit_speed = mass[planet] + visitor, float(np.linalg.norm(v[planet] - v[star]))
    hill = np.linalg.norm(x[planet] - x[star]) * np.cbrt(both / (3 * mass[star]))
    near, far = hill * math.exp(rng.uniform(*np.log(NEAREST))), orbit_speed * rng.uniform(*SPEED)
    aside, ahead = np.linalg.qr(rng.normal(size=(3, 2)))[0].T
    speed = math.sqrt(far**2 + 2 * state.G * both / near)
    masses = np.append(mass, visitor)[None]
    met = State.from_arrays(
        masses,
        at_rest(masses, np.vstack([x, x[planet] + near * aside])[None]),
        -at_rest(masses, np.vstack([v, v[planet] + speed * ahead])[None]),
        state.G,
    )
    lead = float(period[planet] * rng.uniform(*LEAD))
    back = simulate(met, lead, integrator="gbs", tolerance=1e-12, record="ends").final
    begin = back.replace(velocity=-back.velocity, time=0 * back.time)
    return Meeting(begin, planet, lead, float(period[planet]), float(hill))
