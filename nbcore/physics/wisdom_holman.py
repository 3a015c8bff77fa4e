"""Planetary systems by Kepler orbits that kick each other (Wisdom & Holman), in Jacobi coordinates.

Each body but the heaviest is placed relative to the centre of mass of those before it. The energy
is then one of N − 1 Kepler orbits, each with μ_i = G (m_0 + … + m_i), and a small rest of the order
of the planets' masses. A step drifts along the exact orbits for h/2, kicks by the rest for h and
drifts for h/2. Its error is of the order of that rest times h², however long the orbits are.

Two refinements make that error smaller at the same steps. The corrector is a change of variables
at both ends of a run, which takes away what is of the first order in the rest, up to h^17. What is
left is of the second order in it, and the lazy implementer's kick takes away most of that, by a
second look at the forces: where the bodies are displaced by h²/12 of their acceleration.

The order of the bodies is by pericentre and not by size of the orbit: a comet that comes from far
to the inner planets would otherwise be placed relative to centres that outer planets shift.

References
----------
Wisdom & Holman (1991), AJ 102, 1528; Kinoshita, Yoshida & Nakai (1991), Celest. Mech. Dyn. Astron.
50, 59; Wisdom, Holman & Touma (1996), Fields Inst. Commun. 10, 217; Wisdom (2006), AJ 131, 2294;
Rein & Tamayo (2015), MNRAS 452, 376; Hernandez & Dehnen (2017), MNRAS 468, 2614; Rein, Tamayo &
Brown (2019), MNRAS 489, 4632.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cache
from typing import Any, NamedTuple

from nbcore.errors import InputError, unknown_name
from nbcore.physics import gravity
from nbcore.physics.arrays import Array, PerSystem, detached, dot, namespace, taken
from nbcore.physics.body_errors import StepErrors, orbit, triple
from nbcore.physics.body_errors import dot as product
from nbcore.physics.elementwise import inverse_root, root, where
from nbcore.physics.kepler import drift
from nbcore.physics.state import State

__all__ = [
    "SETTINGS",
    "Jacobi",
    "WisdomHolman",
    "about_star",
    "corrector",
    "from_jacobi",
    "interaction",
    "jacobi_order",
    "lazy_interaction",
    "to_jacobi",
]

SETTINGS = ("plain", "corrected", "lazy")
LEAST_SHARE = 0.9  # of the total mass, that the heaviest body has
MOST_BODIES = 128  # whose pairs are all looked at beforehand
STAGES = 8  # pairs of the corrector; its order is twice that and one more
SPACING = Fraction(7, 40)  # square of the distance of its kicks, in steps: Wisdom (2006)


class Jacobi(NamedTuple):
    """Systems in Jacobi coordinates.

    Attributes
    ----------
    order
        (B, N) bodies as they are numbered in the state, in the order that is meant here.
    mass
        (B, N) [M], in that order.
    mu
        (B, N − 1) G (m_0 + … + m_i) [L³/T²] of the orbits, i = 1 … N − 1.
    position, velocity
        (B, N − 1, D) [L], [L/T] relative to the centre of mass of all bodies before.
    centre, centre_velocity
        (B, 1, D) [L], [L/T] of the centre of mass of all.
    """

    order: Array
    mass: Array
    mu: Array
    position: Array
    velocity: Array
    centre: Array
    centre_velocity: Array


def jacobi_order(state: State) -> Array:
    """Order in which bodies go into Jacobi coordinates: the heaviest, the others by pericentre.

    Pericentres are those of the osculating orbits about the heaviest body. Of equals the one that
    is numbered first goes first.

    Returns
    -------
    (B, N) numbers of the bodies.

    Examples
    --------
    >>> jacobi_order(nb.make("outer_solar_system"))
    array([[0, 1, 2, 3, 4]])
    """
    xp = namespace(state.mass)
    mass = detached(state.mass)
    heaviest = xp.argmax(mass, axis=1)[:, None]
    itself = heaviest == xp.arange(state.n_bodies, device=mass.device)
    R, V = (detached(x) for x in about_star(state, heaviest))
    mu = state.G * (mass + taken(mass, heaviest))
    inverse = inverse_root(where(itself, 1.0, dot(R, R)))
    R, V = triple(R), triple(V)
    _, shape = orbit(R, V, mu, inverse)
    turn = product(R, V) * inverse * inverse
    across = tuple(v - turn * x for x, v in zip(R, V, strict=True))
    # (R×V)² = R² V_⊥², free of differences on an orbit that is nearly straight
    parameter = product(across, across) / (mu * inverse * inverse)
    pericentre = parameter / (1 + root(product(shape, shape)))
    return xp.argsort(where(itself, -1.0, pericentre), axis=1, stable=True)


def about_star(state: State, order: Array) -> tuple[Array, Array]:
    """Position and velocity (B, N, D) [L], [L/T] of the bodies relative to the first of an order.

    Parameters
    ----------
    order
        (B, 1) or more, numbers of bodies, as from `jacobi_order`.
    """
    star = order[:, :1]
    R, V = (value - _in_order(value, star) for value in (state.position, state.velocity))
    return R, V


def to_jacobi(state: State, order: Array) -> Jacobi:
    """Jacobi coordinates of systems; their bodies may be massless, but for the first.

    Parameters
    ----------
    order
        (B, N) from `jacobi_order`.

    References
    ----------
    Rein & Tamayo (2015).
    """
    mass = taken(state.mass, order)
    within = _within(mass)
    position, centre = _placed(_in_order(state.position, order), mass)
    velocity, centre_velocity = _placed(_in_order(state.velocity, order), mass)
    mu = state.G * within[:, 1:]
    return Jacobi(order, mass, mu, position, velocity, centre, centre_velocity)


def from_jacobi(jacobi: Jacobi) -> tuple[Array, Array]:
    """Position and velocity (B, N, D) [L], [L/T] of the bodies, numbered as in the state.

    Linear in the coordinates: of their changes it makes those of the bodies.
    """
    back = namespace(jacobi.order).argsort(jacobi.order, axis=1)
    position = jacobi.centre + _about_centre(jacobi.position, jacobi.mass)
    velocity = jacobi.centre_velocity + _about_centre(jacobi.velocity, jacobi.mass)
    return _in_order(position, back), _in_order(velocity, back)


def _in_order(vectors: Array, order: Array) -> Array:
    """Vectors (B, N, D) of the bodies at an index (B, M)."""
    wide = (*order.shape, vectors.shape[2])
    return taken(vectors, namespace(vectors).broadcast_to(order[..., None], wide))


def _within(mass: Array) -> Array:
    """Mass (B, N) of each body and those before it."""
    return namespace(mass).cumulative_sum(mass, axis=1)


def _placed(vectors: Array, mass: Array) -> tuple[Array, Array]:
    """Vectors (B, N, D) relative to the mean of those before, and the mean of all (B, 1, D)."""
    first = vectors[:, :1]
    apart = vectors - first  # far from the origin, no digits more than these are lost
    mean = _within(mass[..., None] * apart) / _within(mass)[..., None]
    return apart[:, 1:] - mean[:, :-1], first + mean[:, -1:]


def _apart(vectors: Array, mass: Array) -> tuple[Array, Array]:
    """Vectors (B, N, D) relative to the first body from Jacobi ones, and their mean (B, 1, D)."""
    xp = namespace(vectors)
    shifts = (mass / _within(mass))[:, 1:, None] * vectors
    means = xp.concat([0 * shifts[:, :1], xp.cumulative_sum(shifts, axis=1)], axis=1)
    return xp.concat([means[:, :1], vectors + means[:, :-1]], axis=1), means[:, -1:]


def _about_centre(vectors: Array, mass: Array) -> Array:
    """Vectors (B, N, D) about the centre of mass from Jacobi ones (B, N − 1, D)."""
    apart, mean = _apart(vectors, mass)
    return apart - mean


def interaction(mass: Array, position: Array, G: float) -> Array:
    """Acceleration of Jacobi coordinates by what their Kepler orbits leave out.

    Parameters
    ----------
    mass, position
        (B, N), (B, N − 1, D), as in `Jacobi`.

    Returns
    -------
    (B, N − 1, D) [L/T²]: all forces between bodies, less those along the orbits.

    References
    ----------
    Rein & Tamayo (2015); Hernandez & Dehnen (2017) for the masses of the orbits.
    """
    pulls = gravity.pair_accelerations(_apart(position, mass)[0], mass, G, 0.0)
    mu = G * _within(mass)[:, 1:]
    weight = mu * dot(position, position) ** -1.5
    return _placed(pulls, mass)[0] + weight[..., None] * position


def lazy_interaction(mass: Array, position: Array, G: float, h: Array) -> Array:
    """Acceleration of the lazy implementer's kick: where it displaces the bodies by h²/12 of it.

    Parameters
    ----------
    mass, position, G
        As in `interaction`.
    h
        Length of the kick [T], broadcastable to (B, N − 1, D).

    Returns
    -------
    (B, N − 1, D) [L/T²].

    Notes
    -----
    Up to h² it is the modified kick a + h²/12 (a·∇) a, that of REBOUND to rounding. REBOUND 5.2
    leaves the first body's acceleration out of the displacement in its own lazy kernel, which
    changes what the kernel corrects by a part as small as the planets' masses.

    References
    ----------
    Wisdom, Holman & Touma (1996), eq. 10.6; Rein, Tamayo & Brown (2019).
    """
    displaced = position + (h * h / 12) * interaction(mass, position, G)
    return interaction(mass, displaced, G)


@cache
def corrector() -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Symplectic corrector of 17th order: drifts and kicks in turn, from real coordinates.

    The same in the opposite order with the opposite signs leads back.

    Returns
    -------
    drifts, kicks
        Fractions of a step; one drift more than kicks, each adds up to 0.

    Notes
    -----
    In the first order of the kick, and with D what the drift does to it in a step, all kicks in the
    middle of steps act as (D/2)/sinh(D/2) of themselves. Z(a, b), which drifts a, kicks −b, drifts
    −2a, kicks b and drifts a, changes coordinates by 2b sinh(aD). The corrector is the product of
    Z(−k a, −b_k), k = 8 … 1, and Z(k a, b_k), k = 1 … 8, with a = √(7/40), and so

        4 Σ_k b_k sinh(k a D) = 1/D − (1/2)/sinh(D/2)

    up to D^15. The b_k/a are rational.

    References
    ----------
    Wisdom, Holman & Touma (1996); Wisdom (2006), AJ 131, 2294.
    """
    spacing = math.sqrt(SPACING)
    kicked = [spacing * float(each) for each in _corrector_kicks()]
    pairs = [(k * spacing, b) for k, b in enumerate(kicked, start=1)]
    drifts, kicks = [0.0], []
    for a, b in [(-a, -b) for a, b in reversed(pairs)] + pairs:
        drifts[-1] += a
        kicks += [-b, b]
        drifts += [-2 * a, a]
    return tuple(drifts), tuple(kicks)


def _corrector_kicks() -> list[Fraction]:
    """b_k/a, k = 1 … 8.

    With β_k = b_k/a the powers of D say that Σ_k k β_k (k²)^j is a known number for j < 8. What is
    linear in powers of k² is thereby known of any polynomial, and of Lagrange's it is k β_k.
    """
    sinh = [Fraction(1, 4**j * math.factorial(2 * j + 1)) for j in range(STAGES + 1)]
    inverse = [Fraction(1)]  # of sinh(D/2)/(D/2), in powers of D²
    for j in range(1, STAGES + 1):
        terms = (sinh[i] * inverse[j - i] for i in range(1, j + 1))
        inverse.append(-sum(terms, Fraction(0)))
    known = [
        -inverse[j] * math.factorial(2 * j - 1) / (4 * SPACING**j) for j in range(1, STAGES + 1)
    ]
    numbers = range(1, STAGES + 1)
    found = []
    for k in numbers:
        powers = [Fraction(1)]
        for i in numbers:
            if i != k:  # times (y − i²)/(k² − i²)
                pairs = zip([0, *powers], [*powers, 0], strict=True)
                powers = [(high - i * i * low) / Fraction(k * k - i * i) for high, low in pairs]
        terms = (power * c for power, c in zip(powers, known, strict=True))
        found.append(sum(terms, Fraction(0)) / k)
    return found


@dataclass(frozen=True)
class WisdomHolman:
    """Wisdom–Holman splitting in Jacobi coordinates, for planets about one star.

    Attributes
    ----------
    setting
        A name in `SETTINGS`: "plain"; "corrected", with the corrector of 17th order; or "lazy",
        with the corrector and the lazy implementer's kick. None leaves it to the tolerance of a
        run.
    side_by_side
        Whether systems of a batch go through their steps together in the compiled engine, one in
        each lane of its vectors, which rounds otherwise; None: where that is quicker than one after
        the other, for many systems and few bodies most of all.
    bodies
        (B, N) order of the bodies, from `jacobi_order`, which a run must keep from its start;
        None takes that of each step's start.

    Raises
    ------
    InputError
        The setting is none of these.

    Notes
    -----
    A step here is a whole one: with a corrector it costs 64 further evaluations of forces, which
    in a run of equal steps come once and not at every step.

    The corrector needs steps of less than about an eighth of 2π √(q³/(G M)), with q the smallest
    pericentre: it diverges at longer ones.

    Examples
    --------
    >>> state = nb.make("outer_solar_system")
    >>> WisdomHolman("corrected").step(state, np.array([1.0]))
    """

    setting: str | None = None
    side_by_side: bool | None = None
    bodies: Array | None = field(default=None, compare=False, repr=False)

    order = 2
    reversible = True
    evaluations_at_start = 0
    reference = "Wisdom & Holman (1991), AJ 102, 1528"

    def __post_init__(self) -> None:
        if self.setting is not None and self.setting not in SETTINGS:
            raise unknown_name("setting of Wisdom and Holman's splitting", self.setting, SETTINGS)

    def __str__(self) -> str:
        setting = "setting by the tolerance" if self.setting is None else self.setting
        return f"splitting of Wisdom and Holman, {setting}"

    @property
    def evaluations(self) -> int:
        """Of forces a step, in a run of equal steps."""
        return 2 if self.setting == "lazy" else 1

    def with_order(self, order: Array) -> WisdomHolman:
        """The same with an order of the bodies (B, N) that does not change."""
        return replace(self, bodies=order)

    @staticmethod
    def check(state: State) -> None:
        """Raise InputError for a state that this splitting can't take.

        It has too many bodies, softening or a field, or a system whose heaviest body has less than
        nine tenths of the mass.
        """
        remedy = "use another integrator, such as 'gbs' or 'suzuki4'"
        if state.n_bodies > MOST_BODIES:
            raise InputError(
                f"there are {state.n_bodies} bodies, and Wisdom and Holman's splitting takes "
                f"{MOST_BODIES} at most; {remedy}, or run test particles in several runs"
            )
        if state.softening != 0:
            raise InputError(
                f"softening is {state.softening:g}, and Wisdom and Holman's splitting follows "
                f"Kepler orbits, which have none; set it to 0, or {remedy}"
            )
        if state.field is not None:
            raise InputError(
                f"Wisdom and Holman's splitting can't account for the external field "
                f"{state.field}; leave it out, or {remedy}"
            )
        mass = detached(state.mass)
        heaviest, total = namespace(mass).max(mass, axis=1), mass.sum(axis=1)
        # Two bodies are one orbit, whatever their masses.
        few = ~(heaviest > (LEAST_SHARE * total if state.n_bodies > 2 else 0 * total))
        if bool(few.any()):
            system = int(namespace(mass).argmax(few * 1))
            most, every = float(heaviest[system]), float(total[system])
            lacks = (
                f"the heaviest body of system {system} has {most / every:.3g} of its mass"
                if every > 0
                else f"no body of system {system} has mass"
            )
            raise InputError(
                f"{lacks}, and Wisdom and Holman's splitting is for planets about a star that has "
                f"more than {LEAST_SHARE:g} of it; {remedy}"
            )

    def step(self, state: State, dt: PerSystem, errors: StepErrors | None = None) -> State:
        """Advance by dt (B,) [T]; `errors` is told nothing.

        Where the setting is left to a tolerance, which a step by itself does not know, it is plain.
        """
        start = to_jacobi(state, jacobi_order(state) if self.bodies is None else self.bodies)
        is_plain = self.setting in (None, "plain")
        drifts, kicks = ((0.0,), ()) if is_plain else corrector()
        h = dt[:, None]
        moving = _alternate(start, start.position, start.velocity, h, state.G, drifts, kicks)
        position, velocity = drift(start.mu, *moving, h / 2)
        if self.setting == "lazy":
            pull = lazy_interaction(start.mass, position, state.G, h[..., None])
        else:
            pull = interaction(start.mass, position, state.G)
        moving = drift(start.mu, position, velocity + h[..., None] * pull, h / 2)
        drifts, kicks = (tuple(-each for each in reversed(row)) for row in (drifts, kicks))
        position, velocity = _alternate(start, *moving, h, state.G, drifts, kicks)
        moved, sped = from_jacobi(
            start._replace(
                position=position - start.position,
                velocity=velocity - start.velocity,
                centre=h[..., None] * start.centre_velocity,
                centre_velocity=0 * start.centre_velocity,
            )
        )
        return state.replace(
            position=state.position + moved,
            velocity=state.velocity + sped,
            time=state.time + dt,
            acceleration=None,
            jerk=None,
        )


def _alternate(
    jacobi: Jacobi,
    position: Array,
    velocity: Array,
    h: Array,
    G: float,
    drifts: tuple[float, ...],
    kicks: tuple[float, ...],
) -> tuple[Any, Any]:
    """Drifts and kicks in turn, in fractions of h (B, 1)."""
    for k, length in enumerate(drifts):
        if length != 0:
            position, velocity = drift(jacobi.mu, position, velocity, length * h)
        if k < len(kicks):
            pull = interaction(jacobi.mass, position, G)
            velocity = velocity + (kicks[k] * h)[..., None] * pull
    return position, velocity
