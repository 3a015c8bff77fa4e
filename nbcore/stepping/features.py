"""What a learned policy sees of a state: named numbers, (B,) each.

The scale-free set does not depend on units, place, orientation, motion of the frame, order of the
bodies or direction of time, and is smooth. It weighs every pair by what its error does to the
energy and to the orbits of its own bodies, however light; two massless bodies don't see each other.
The classical statistics (`basic`, `rich`) are kept in
the units of `Scales`; the history features (`delta_mag`) compare the last states that were kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

from nbcore.errors import InputError, unknown_name
from nbcore.physics import gravity, pair_law
from nbcore.physics.arrays import Array, PerSystem, detached, namespace, norm
from nbcore.physics.elementwise import absolute, inverse_root, log, quotient, root, where
from nbcore.physics.state import State
from nbcore.stepping.answers import per_system
from nbcore.stepping.criteria import pair_rate4, pairs_of

__all__ = [
    "DELTA_FEATURES",
    "FEATURES",
    "FEATURE_SETS",
    "SCALE_FREE",
    "Measures",
    "delta_features",
    "energy_unit",
    "expand_names",
    "scales_of",
    "state_features",
]

LEAST_BOUND = 0.05  # of |V² − 2μ/r|/(V² + 2μ/r), for pairs near to a parabola
LEAST_EXCESS = 1e-30  # squared, in units of the own pull
LEAST_SHARE = 1e-300  # third power, so that nothing over nothing is nothing

DELTA_FEATURES = (
    *(f"{kind}_d{what}" for what in "xva" for kind in ("mean", "max", "rms")),
    "dt",
)


class Measures:
    """Quantities of a state that features share, each computed once when first asked for.

    Parameters
    ----------
    state
        The state; its acceleration is used if it carries one.
    scales
        (B, 4): units of length, speed, acceleration and time for dimensional features; None
        leaves them in the units of the state.
    unit_of_energy
        (B,) G/|E| of the run; None takes `energy_unit` of this state.
    order
        p of the integrator, as whose error energy the pairs are weighed.
    """

    def __init__(
        self,
        state: State,
        scales: Array | None = None,
        unit_of_energy: PerSystem | None = None,
        order: int = 4,
    ) -> None:
        self.state, self.order = state, order
        self._scales = scales_of(state, "raw") if scales is None else scales
        self._energy = energy_unit(state) if unit_of_energy is None else unit_of_energy

    def unit(self, k: int) -> Array:
        """Unit of length (0), speed (1), acceleration (2), time (3); (B, 1)."""
        return self._scales[:, k : k + 1]

    @cached_property
    def pairs(self):
        """Relative motion of all pairs."""
        return pairs_of(self.state)

    @cached_property
    def seen(self) -> Array:
        """(B, P) 1, or 0 for two massless bodies."""
        first, second = self.masses
        return namespace(first).astype(first + second > 0, first.dtype)

    def mean(self, value: Array) -> PerSystem:
        """Mean of a quantity (B, P) over all pairs that see each other."""
        return (self.seen * value).sum(axis=1) / self.seen.sum(axis=1)

    @cached_property
    def rate4(self) -> Array:
        """(B, P) fourth power of each pair's rate [1/T⁴]."""
        return self.seen * pair_rate4(1 / self.pairs.r2, self.pairs.v2, self.pairs.mu)

    @cached_property
    def excess2(self) -> Array:
        """(B, P) squared relative acceleration of each pair less that by the pair itself."""
        p = self.pairs
        i, j = p.i, p.j
        R = self.state.position[:, j] - self.state.position[:, i]
        A = self.acceleration[:, j] - self.acceleration[:, i]
        excess = A + (p.mu * pair_law.pair_weight(p.r2))[..., None] * R
        return (excess * excess).sum(axis=-1)

    @cached_property
    def inverse(self) -> Array:
        """(B, P) 1/r of each pair [1/L]."""
        return self.pairs.r2**-0.5

    @cached_property
    def masses(self) -> tuple[Array, Array]:
        """(B, P) masses of the two bodies of each pair [M]."""
        return self.state.mass[:, self.pairs.i], self.state.mass[:, self.pairs.j]

    @cached_property
    def share(self) -> Array:
        """(B, P) what the error of each pair weighs."""
        p = self.pairs
        # Two massless bodies weigh nothing, and must not be divided by.
        mu = p.mu + (1 - self.seen)
        weights = share(
            self.inverse, *self.masses, p.v2, p.rv, self.excess2, mu, self._energy[:, None]
        )
        return self.seen * weights

    @cached_property
    def fastest(self) -> Array:
        """(B, 1) largest P⁴ of all pairs [1/T⁴]."""
        return detached(namespace(self.rate4).max(self.rate4, axis=1, keepdims=True))

    @cached_property
    def weight(self) -> Array:
        """(B, P) share of each pair times P^p, P in units of the largest."""
        return self.share * (self.rate4 / self.fastest) ** (self.order / 4)

    @cached_property
    def time_scale(self) -> PerSystem:
        """τ = (Σ share P^p)^(−1/p) [T], with which dt^p/τ^p goes as the error."""
        return self.fastest[:, 0] ** -0.25 * self.weight.sum(axis=1) ** (-1 / self.order)

    @cached_property
    def acceleration(self) -> Array:
        """(B, N, D) [L/T²]."""
        return gravity.acceleration(self.state)

    @cached_property
    def centre(self) -> tuple[Array, Array]:
        """Position and velocity of the centre of mass."""
        return gravity.centre_of_mass(self.state)

    @cached_property
    def distance(self) -> Array:
        """(B, N) distance from the centre of mass in units of L0."""
        return norm(self.state.position - self.centre[0]) / self.unit(0)

    @cached_property
    def speed(self) -> Array:
        """(B, N) speed about the centre of mass in units of V0."""
        return norm(self.state.velocity - self.centre[1]) / self.unit(1)

    @cached_property
    def pull(self) -> Array:
        """(B, N) size of the acceleration in units of A0."""
        return norm(self.acceleration) / self.unit(2)

    @cached_property
    def separation(self) -> Array:
        """(B, all pairs) distances in units of L0."""
        i, j = gravity.pair_indices(self.state.n_bodies, self.state.position)
        return norm(self.state.position[:, j] - self.state.position[:, i]) / self.unit(0)

    def of_fastest(self, part: Array, whole: Array) -> PerSystem:
        """Sum of a part over all pairs over that of its whole, both weighted."""
        total = (self.weight * whole).sum(axis=1)
        return quotient((self.weight * part).sum(axis=1), total, 0.0)


Feature = Callable[[Measures], PerSystem]


def share(inverse, first, second, v2, rv, excess2, mu, unit):
    """What the error of a pair weighs: its share in the energy, in its own orbit, or as it passes.

    The error of a pair goes with its pull, and so with μ/r. In units of the energy of the system
    that is G m m'/(r |E|), and in units of the energy of the pair's own orbit, as far as the pair
    is one and not torn by others, 2(μ/r)/|V² − 2μ/r|, which is 2a/r on an ellipse. So the orbits of
    light and massless bodies weigh as much as those of heavy ones; of two bodies alone both are
    the same.

    Two that pass each other fast weigh little in either until they are so close that a step is too
    long to notice. So unbound pairs weigh up to 1 if the line on which they move leads to where
    they would pull harder at each other than others do, at (μ r/δ)^(1/3), with δ the relative
    acceleration by others: about the Hill radius of a planet.

    Parameters
    ----------
    inverse
        1/r [1/L].
    first, second
        Masses [M].
    v2, rv, excess2
        Squared relative velocity, R·V, and squared relative acceleration less that by the pair
        itself.
    mu
        G (m + m'), positive.
    unit
        G/|E| [L/M²].
    """
    depth = mu * inverse
    own = depth * inverse
    own2 = own * own
    part = 1 / (v2 + 2 * depth)
    bound = (v2 - 2 * depth) * part
    orbit = 2 * depth * part * inverse_root(bound * bound + LEAST_BOUND**2)
    orbit = orbit * (own2 / (own2 + excess2))
    energy = first * second * inverse * unit
    # Squared sine of the angle under which the one passes the other.
    aside = absolute(1 - rv * rv * (inverse * inverse) / (v2 + LEAST_SHARE))
    free = v2 * part
    passing = free * free * own / (own + aside * root(aside * excess2 + LEAST_EXCESS * own2))
    # The largest of them, rounded off: steps that are not smooth drift, even if reversible.
    orbit2, energy2, passing2 = orbit * orbit, energy * energy, passing * passing
    all_of_them = orbit2 * orbit + energy2 * energy + passing2 * passing + LEAST_SHARE
    return (orbit2 * orbit2 + energy2 * energy2 + passing2 * passing2) / all_of_them


# Laws of pairs: a part and a whole, each to be summed over all pairs with the weights share × P^p
# before the one is divided by the other. So a feature is smooth, is dominated by the pairs that
# spoil the energy, and costs one division however many pairs there are. With w = 1/r² and
# inverse = 1/r:


def fly_by(inverse, v2, rv, mu):
    """Share of the speed in the rates of pairs, 0 (at rest) to 1 (passing by)."""
    w = inverse * inverse
    return v2 * v2 * (w * w), pair_rate4(w, v2, mu)


def binding(inverse, v2, rv, mu):
    """v²/(v² + 2μ/r) of pairs: 0 at rest, ½ parabolic, 1 unbound."""
    return v2, v2 + 2 * mu * inverse


def radial(inverse, v2, rv, mu):
    """(R·V)²/(r² v² + μ r) of pairs: 0 at the apsides, even in v."""
    w = inverse * inverse
    return rv * rv * w, v2 + mu * inverse


def heaviness(first, second, total):
    """Share of pairs in the total mass, 0 to 1."""
    return first + second, total


def asymmetry(first, second, total):
    """4 m_i m_j/(m_i + m_j)² of pairs: 1 for equal masses, 0 for a test particle."""
    both = first + second
    return 4 * first * second, both * both


def perturbation(excess2, inverse, mu):
    """δ²/(1 + δ²) of pairs, δ the pull of all others over the pair's own.

    Parameters
    ----------
    excess2
        Squared relative acceleration less that by the pair itself.
    """
    own = mu * (inverse * inverse)
    return excess2, excess2 + own * own


# Laws of sums over all pairs.


def crowding(sum1, sum2):
    """1 − Σq²/(Σq)² of the weights q: 0 for one pair that counts, 1 − 1/k for k equal ones."""
    return 1 - sum2 / (sum1 * sum1)


def rate_contrast(weighted_rate4, mean_rate4):
    """1 − ⟨P⁴⟩ over its weighted mean: 0 where all pairs have the same rate."""
    return 1 - mean_rate4 / weighted_rate4


def depth(weighted_share):
    """Logarithm of the weighted mean of the pairs' shares."""
    return log(weighted_share)


def compactness(mean_rate4, total, mean_r2):
    """Logarithm of the pairs' time scale over that of the system: ¼ ln((GM)²/(R⁶⟨P⁴⟩)).

    R is the rms pair distance.
    """
    return 0.25 * log(total * total / (mean_rate4 * (mean_r2 * mean_r2 * mean_r2)))


def virial(mean_v2, total, mean_inverse):
    """Mean v² of all pairs over itself and 2GM times their mean 1/r: 0 cold, 1 unbound."""
    return quotient(mean_v2, mean_v2 + 2 * total * mean_inverse, 0.0)


def _of_motion(law: Callable) -> Feature:
    return lambda m: m.of_fastest(*law(m.inverse, m.pairs.v2, m.pairs.rv, m.pairs.mu))


def _of_masses(law: Callable) -> Feature:
    def feature(m: Measures) -> PerSystem:
        return m.of_fastest(*law(*m.masses, m.state.mass.sum(axis=1, keepdims=True)))

    return feature


def _perturbation(m: Measures) -> PerSystem:
    return m.of_fastest(*perturbation(m.excess2, m.inverse, m.pairs.mu))


def _total(m: Measures) -> PerSystem:
    return m.state.G * m.state.mass.sum(axis=1)


def _mean(value: Array) -> PerSystem:
    return value.mean(axis=1)


def _min(value: Array) -> PerSystem:
    return namespace(value).min(value, axis=1)


def _max(value: Array) -> PerSystem:
    return namespace(value).max(value, axis=1)


def _rms(value: Array) -> PerSystem:
    return norm(value) / value.shape[1] ** 0.5


def _ones(value: Array) -> Array:
    return namespace(value).ones_like(value)


def _constant(value: Callable[[State], float]) -> Callable[[Measures], PerSystem]:
    return lambda m: namespace(m.state.time).full_like(m.state.time, value(m.state))


def energy_unit(state: State) -> PerSystem:
    """G/|E| [L/M²], (B,), with the size of the energy as in `gravity.energy_size`.

    0 where there is no energy, as of test particles about a star at rest.
    """
    return detached(quotient(state.G, gravity.energy_size(state), 0.0))


def state_features(names: Sequence[str], measures: Measures) -> Array:
    """Named features of a state, (B, F)."""
    time = measures.state.time
    columns = [per_system(f"feature {name!r}", FEATURES[name](measures), time) for name in names]
    return namespace(time).stack(columns, axis=1)


def delta_features(before: State, after: State, dt: PerSystem, scales: Array) -> Array:
    """Sizes of the change between two kept states and the dt between them, (B, 10).

    Mean, maximum and root mean square over the bodies of |Δx|, |Δv|, |Δa|, in units of `scales`.
    """
    changes = (
        after.position - before.position,
        after.velocity - before.velocity,
        gravity.acceleration(after) - gravity.acceleration(before),
    )
    columns = []
    for k, change in enumerate(changes):
        size = norm(change) / scales[:, k : k + 1]
        columns += [_mean(size), _max(size), _rms(size)]
    return namespace(dt).stack([*columns, dt / scales[:, 3]], axis=1)


def scales_of(
    state: State,
    normalisation: str,
    length: float = 1.0,
    velocity: float = 1.0,
    acceleration: float | None = None,
) -> Array:
    """Units L0, V0, A0, T0 = L0/V0 of dimensional features, (B, 4).

    Parameters
    ----------
    normalisation
        "raw": 1 each; "manual": as given, A0 = V0²/L0 unless given; "automatic": mean pair
        distance, rms speed and rms acceleration of this state.
    """
    xp = namespace(state.time)
    if normalisation != "automatic":
        if normalisation == "raw":
            length = velocity = acceleration = 1.0
        pull = velocity**2 / length if acceleration is None else acceleration
        units = [length, velocity, pull, length / velocity]
        units = xp.asarray(units, dtype=state.time.dtype, device=state.time.device)
        return xp.broadcast_to(units, (state.n_systems, 4))
    m = Measures(state)
    l0, v0, a0 = _mean(m.separation), _rms(m.speed), _rms(m.pull)
    # A system that starts at rest has no speed of its own: it falls.
    v0 = where(v0 > 0, v0, root(a0 * l0))
    # What is zero in all bodies is a unit of nothing.
    l0, v0, a0 = (where(unit > 0, unit, 1.0) for unit in (l0, v0, a0))
    return detached(xp.stack([l0, v0, a0, l0 / v0], axis=1))


def expand_names(names: Sequence[str], history: int) -> tuple[tuple[str, ...], bool]:
    """Feature names with every set written out, and whether the history features are among them.

    Raises
    ------
    InputError
        A name is unknown, or `history` and delta_mag don't go together.
    """
    if isinstance(names, str):
        raise InputError(f"features is {names!r}; give a list of names, such as [{names!r}]")
    plain: list[str] = []
    for name in names:
        if name == "delta_mag":
            continue
        if name not in FEATURES and name not in FEATURE_SETS:
            raise unknown_name("feature", name, [*FEATURES, *FEATURE_SETS, "delta_mag"])
        plain += FEATURE_SETS.get(name, (name,))
    with_history = "delta_mag" in names
    if with_history != (history > 0):
        raise InputError(
            f"feature 'delta_mag' and history = {history} don't go together; "
            "list 'delta_mag' in features and set history to 1 or more, or neither"
        )
    plain = list(dict.fromkeys(plain))
    if not plain and not with_history:
        raise InputError("features is empty; name at least one, such as 'scale_free'")
    return tuple(plain), with_history


def _statistics(prefix: str, values: Callable[[Measures], Array]) -> dict:
    kinds = {"mean": _mean, "min": _min, "max": _max, "rms": _rms}
    return {f"{k}_{prefix}": lambda m, f=f: f(values(m)) for k, f in kinds.items()}


SCALE_FREE: dict[str, Feature] = {
    "fly_by": _of_motion(fly_by),
    "binding": _of_motion(binding),
    "radial": _of_motion(radial),
    "heaviness": _of_masses(heaviness),
    "asymmetry": _of_masses(asymmetry),
    "crowding": lambda m: crowding(m.weight.sum(axis=1), (m.weight**2).sum(axis=1)),
    "rate_contrast": lambda m: rate_contrast(
        m.of_fastest(m.rate4, _ones(m.rate4)), m.mean(m.rate4)
    ),
    "depth": lambda m: depth(m.of_fastest(m.share, _ones(m.share))),
    "compactness": lambda m: compactness(m.mean(m.rate4), _total(m), m.mean(m.pairs.r2)),
    "virial": lambda m: virial(m.mean(m.pairs.v2), _total(m), m.mean(m.inverse)),
    "perturbation": _perturbation,
}

STATISTICS: dict[str, Feature] = {
    "n_bodies": _constant(lambda s: s.n_bodies),
    "n_dimensions": _constant(lambda s: s.n_dimensions),
    "total_mass": lambda m: m.state.mass.sum(axis=1),
    **_statistics("mass", lambda m: m.state.mass),
    **_statistics("distance", lambda m: m.distance),
    **_statistics("speed", lambda m: m.speed),
    **_statistics("acceleration", lambda m: m.pull),
    **_statistics("separation", lambda m: m.separation),
    "softening": lambda m: m.state.softening / m.unit(0)[:, 0],
}

FEATURES: dict[str, Feature] = {**SCALE_FREE, **STATISTICS}

_PAIRS = ("fly_by", "binding", "radial", "heaviness", "asymmetry")
_FOUR = ("mean", "min", "max", "rms")
# Name by name, for policies are defined by them: a feature more in a table is in no set.
FEATURE_SETS: dict[str, tuple[str, ...]] = {
    "scale_free": (
        *_PAIRS,
        *("crowding", "rate_contrast", "depth", "compactness", "virial", "perturbation"),
    ),
    "pairs": (*_PAIRS, "perturbation"),
    "basic": (
        *("n_bodies", "n_dimensions", "total_mass", "mean_distance", "max_distance"),
        *("mean_speed", "max_speed", "mean_acceleration", "max_acceleration"),
        *("min_separation", "mean_separation"),
    ),
    "rich": (
        *("n_bodies", "n_dimensions", "total_mass"),
        *(f"{k}_{w}" for w in ("mass", "distance", "speed", "acceleration") for k in _FOUR),
        *("mean_separation", "min_separation", "max_separation", "softening"),
    ),
}
