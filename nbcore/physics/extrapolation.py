"""Steps in transformed time, extrapolated to steps of no length (Gragg–Bulirsch–Stoer).

K chains of n = 2, 4, …, 2K equal drift-kick-drift steps go through one interval H of the time s of
a clock. They are symmetric, so that their results differ by even powers of H/n, and the polynomial
through them at H/n = 0 is right to order 2K. That polynomial is a sum of the chains with fixed
weights. Without the first chain it is right to order 2K − 2, and the difference of both tells the
error. Time is one of the variables, and so is the work of a moving field.

Within a step positions are displacements from its start, so that close pairs lose no digits.

References
----------
Gragg (1965), SIAM J. Numer. Anal. 2, 384; Bulirsch & Stoer (1966), Numer. Math. 8, 1; Hairer,
Nørsett & Wanner (1993), Solving Ordinary Differential Equations I, II.9; Mikkola & Merritt (2008),
AJ 135, 2398.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from nbcore.errors import InputError
from nbcore.physics import gravity
from nbcore.physics.arrays import Array, PerSystem, beside, dot, namespace, norm, taken
from nbcore.physics.body_errors import StepErrors, partners, plus, triple
from nbcore.physics.body_errors import dot as product
from nbcore.physics.clocks import CLOCKS, Clock, get_clock, slowness, term
from nbcore.physics.elementwise import TINY, clamp, inverse_root, maximum, minimum, root, where
from nbcore.physics.external import answer_of
from nbcore.physics.passages import Trail, overlooks
from nbcore.physics.state import State

__all__ = [
    "MOST_COLUMNS",
    "Advance",
    "Extrapolation",
    "chain_lengths",
    "column_weights",
    "cut",
    "energy_share",
    "error_weights",
    "growth",
    "noise_sizes",
    "pair_errors",
    "retargeted",
    "rounding",
]

LEAST_COLUMNS, MOST_COLUMNS = 2, 10
SAFETY = 0.75
REACH = 9.0  # radians of the closest pair to a step that errs by one, if the law went on so far
LARGEST_GROWTH, LEAST_GROWTH = 4.0, 0.2
QUIET_GROWTH = 1.25  # of a step whose error is rounding
LARGEST_CUT, LEAST_CUT = 0.1, 0.85  # of a step that is redone
OVERLOOKED = 1e4  # error, in tolerances, of a step that overlooked a passage
SMALLEST = 1e-12  # step that is still redone, in units of what it was to be
ROUNDING = 2e-15  # of an estimate with K columns, over 2^K displacements
STRICT, STRICTEST = 1e-10, 3e-12  # tolerances below which columns are fewer, that round less
SHARE = 0.02  # of the tolerance of a run, which its steps may err by
LEAST_SHARE = 0.1  # of that share, where little is left
COUNTS = 5.0  # of what a step may err by, over rounding: what that may count by, at most
FINEST = 1e-13  # tolerance of steps that are to be exact
TOUCHED = 1e-12  # of what is left of a run, and no more of it
BEYOND = 1.02  # of what is left of a run, which its last step but those that land goes for
LANDINGS = 64  # parts of steps to land at a time
NARROW = 1e-3  # of the next part by Newton's method, and of the step: bounds that can't be right
RETRIES = 8  # of such a part that errs by too much
LANDED = 4e-16  # of the time
NEGLIGIBLE = 1e-30  # error below which all are alike


def chain_lengths(columns: int) -> tuple[int, ...]:
    """Steps of each chain."""
    return tuple(2 * k for k in range(1, columns + 1))


@cache
def column_weights(columns: int, first: int = 0) -> tuple[float, ...]:
    """Weights of the chains, from the `first` on, in the extrapolated result; they sum to 1."""
    n2 = [n * n for n in chain_lengths(columns)]

    def weight(k: int) -> float:
        others = (n2[k] / (n2[k] - n2[j]) for j in range(first, columns) if j != k)
        return math.prod(others) if k >= first else 0.0

    return tuple(weight(k) for k in range(columns))


@cache
def error_weights(columns: int, first: int = 0) -> tuple[float, ...]:
    """Weights of the chains, from the `first` on, in the estimate of the error; they sum to 0."""
    pairs = zip(column_weights(columns, first), column_weights(columns, first + 1), strict=True)
    return tuple(full - less for full, less in pairs)


# Rules of one system's steps. They use only operators and `elementwise`, and serve batches of
# systems and the compiled engine alike.


def rounding(columns):
    """Rounding of an estimate of the error, relative to the displacements of a step."""
    return ROUNDING * 2.0**columns


def pair_errors(R, V, dR, dV, late, mu, inverse):
    """Errors of a body's place and speed beside its partner, relative to r and to √(V² + 2μ/r).

    Parameters
    ----------
    R, V, dR, dV
        Triples: the partner's, and estimates of their errors.
    late
        Error of the time: what is off at another time may be right at this one.
    """
    place = plus(dR, V, -late)
    speed = plus(dV, R, mu * inverse * inverse * inverse * late)
    pace2 = product(V, V) + 2 * mu * inverse
    return root(product(place, place)) * inverse, root(product(speed, speed) / pace2)


def growth(error, columns):
    """What the next step is longer by, from the error of this one in tolerances."""
    factor = SAFETY * (error + NEGLIGIBLE) ** (-1 / (2 * columns - 1))
    return where(error > 0, clamp(factor, LEAST_GROWTH, LARGEST_GROWTH), QUIET_GROWTH + 0 * error)


def retargeted(ds, before, now, columns):
    """Step that errs by as much less or more than one as a target is than before."""
    return ds * (now / before) ** (1 / (2 * columns - 1))


def cut(error, columns):
    """What a step is redone with, from its error in tolerances, which may be no number."""
    factor = SAFETY * (error + NEGLIGIBLE) ** (-1 / (2 * columns - 1))
    smallest = LARGEST_CUT + 0 * columns
    return where(factor > LARGEST_CUT, clamp(factor, LARGEST_CUT, LEAST_CUT), smallest)


def noise_sizes(moved, faster, V, mu, inverse, closest):
    """What rounding of an estimate is relative to: of place and speed.

    Parameters
    ----------
    moved, faster
        Sizes of the displacement and the change of the velocity of the body.
    closest
        Largest Ω on the way, 1/r of the closest pair, whose distance is rounded like what they
        move.
    """
    on_the_way, pace2 = moved * closest, product(V, V) + 2 * mu * inverse
    return on_the_way + moved * inverse, on_the_way + faster * inverse_root(pace2)


def energy_share(m, other, V, mu, inverse, energy, aim, noise):
    """What an error beside a body's partner counts by: 1, or more where the pair holds the energy.

    The energy of a pair is G m₁ m₂ / μ times ½ V² + μ/r, of each of which an error takes its part.
    """
    held = m * other / (m + other + TINY) * (0.5 * product(V, V) + mu * inverse)
    return clamp(minimum(held / (energy + TINY), COUNTS * aim / noise), 1.0, math.inf)


class Advance(NamedTuple):
    """One step of every system.

    Attributes
    ----------
    after
        The states; those that could make no step as they were.
    dt
        (B,) lengths [T]; 0 where none could be made.
    ds
        (B,) steps in s for the next one.
    used
        (B,) of this one.
    evaluations
        (B,).
    trail
        Points on the way, where it is told.
    error
        (B,) estimated, where it is.
    """

    after: State
    dt: PerSystem
    ds: PerSystem
    used: PerSystem
    evaluations: Array
    trail: Trail | None = None
    error: PerSystem | None = None


class _Sums(NamedTuple):
    """Weighted sums of the chains of a step, or of what tells its error."""

    displacement: Array  # (B, N, D)
    change: Array  # of the velocities
    time: PerSystem
    work: PerSystem


@dataclass(frozen=True)
class Extrapolation:
    """Extrapolated drift-kick-drift in transformed time; it chooses its own steps.

    A step is redone until its estimated error, relative for every body beside the one that pulls it
    most, is below a share of the tolerance; it counts by more where such a pair holds more energy
    than all have together. No tolerance below rounding is aimed at.

    Attributes
    ----------
    columns
        K, chains of each step, 3 to 10; None chooses by the tolerance.
    clock
        Transformation of time.

    Raises
    ------
    InputError
        K is none of these.

    Examples
    --------
    >>> nb.simulate("pythagorean", 60, integrator=nb.Extrapolation(columns=6), tolerance=1e-10)
    """

    columns: int | None = None
    clock: Clock = CLOCKS["regularised"]

    evaluations = evaluations_at_start = 0  # a step counts its own
    reversible = False
    reference = "Mikkola & Merritt (2008), AJ 135, 2398"

    def __post_init__(self) -> None:
        object.__setattr__(self, "clock", get_clock(self.clock))
        known = isinstance(self.columns, int) and 3 <= self.columns <= MOST_COLUMNS
        if self.columns is not None and not known:
            raise InputError(
                f"columns are {self.columns!r}; give 3 to {MOST_COLUMNS}, or None for a number "
                "that suits the tolerance"
            )

    def __str__(self) -> str:
        columns = "columns by the tolerance" if self.columns is None else f"{self.columns} columns"
        return f"extrapolation with {columns} in time {self.clock}"

    def check(self, state: State) -> None:
        """Raise InputError for a state that can't be gone on from."""
        self.clock.weights(state.mass)

    @property
    def order(self) -> int:
        """2K."""
        return 2 * self.columns_for(1e-12)

    def columns_for(self, tolerance: float) -> int:
        """K for a tolerance."""
        if self.columns is not None:
            return self.columns
        # Seven fill four lanes with chains that end together, and cost least at any error that
        # they reach. Rounding goes with the sizes of the weights, whose sum is 56 of seven columns,
        # 26 of six and 13 of five.
        return 7 if tolerance >= STRICT else 6 if tolerance >= STRICTEST else 5

    def aim(self, tolerance: PerSystem) -> PerSystem:
        """Largest error of a step, (B,), for tolerances of a run; none below rounding."""
        return maximum(SHARE * tolerance, self._finest(tolerance))

    def least(self, tolerance: PerSystem) -> PerSystem:
        """Least error of a step (B,) that is ever aimed at."""
        return maximum(LEAST_SHARE * SHARE * tolerance, self._finest(tolerance))

    def _finest(self, tolerance: PerSystem) -> PerSystem:
        return rounding(self._columns(tolerance)) / 5

    def _columns(self, tolerance: PerSystem) -> PerSystem:
        return beside([float(self.columns_for(float(each))) for each in tolerance], tolerance)

    def reach(self, target: PerSystem, tolerance: PerSystem) -> PerSystem:
        """First step (B,) that errs by about a target, over a radian of the closest pair."""
        return retargeted(REACH + 0 * target, 1.0, target, self._columns(tolerance))

    def retargeted(
        self, ds: PerSystem, before: PerSystem, now: PerSystem, tolerance: PerSystem
    ) -> PerSystem:
        """Steps in s (B,) that err by as much less or more as one target is than another."""
        return retargeted(ds, before, now, self._columns(tolerance))

    def step(self, state: State, dt: PerSystem, errors: StepErrors | None = None) -> State:
        """Advance by dt (B,) as exactly as rounding allows, in as many steps in s as that takes."""
        xp = namespace(dt)
        tolerance = xp.full_like(dt, FINEST)
        ds, gone, begun = dt * self.clock.rate(state), 0 * dt, state.time
        while bool((gone < dt).any()):
            made = self.advance(state, ds, dt - gone, tolerance, errors)
            lost = (gone < dt) & ~(made.dt > 0)
            nowhere: Array = where(lost, math.nan, 0 * gone)
            place = made.after.position + nowhere[:, None, None]
            state, ds = made.after.replace(position=place), made.ds
            gone = where(lost | (made.dt == dt - gone), dt, gone + made.dt)
        return state.replace(time=begun + dt)

    def advance(
        self,
        state: State,
        ds: PerSystem,
        remaining: PerSystem,
        tolerance: PerSystem,
        errors: StepErrors | None = None,
        energy: PerSystem | None = None,
        aim: PerSystem | None = None,
        target: PerSystem | None = None,
    ) -> Advance:
        """One step of every system that is accepted, or one that ends `remaining` later.

        Parameters
        ----------
        ds
            (B,) steps in s to begin with.
        remaining
            (B,) [T]; systems with 0 are left alone.
        tolerance
            (B,) of a run.
        errors
            Told what the step did to the orbits of the bodies.
        energy
            What errors of the energy are relative to, (B,) [E]; None for the size of the state's.
        aim
            Error (B,) of a step that is redone; None for a share of the tolerance.
        target
            Error (B,) by which the next step is chosen; None for `aim`.
        """
        columns = [self.columns_for(float(each)) for each in tolerance]
        K = self._columns(tolerance)
        noise = rounding(K)
        limit: PerSystem = self.aim(tolerance) if aim is None else aim
        goal: PerSystem = limit if target is None else target
        scale: PerSystem = gravity.energy_size(state) if energy is None else energy
        clock, partner = self.clock, partners(state)
        weights = clock.weights(state.mass)
        rate = clock.rate(state)
        most = BEYOND * remaining * rate
        ds = where(ds > 1.5 * most, most, ds)
        H, first, going = ds, ds, remaining > 0
        nothing = _Sums(0 * state.position, 0 * state.velocity, 0 * ds, 0 * ds)
        evaluations, kept, change, ahead, ways = 0 * ds, nothing, nothing, ds, None
        erred = 0 * ds
        while bool(going.any()):
            sums, wrong, closest, trail = self._chains(
                state, where(going, H, 0.0), weights, columns
            )
            evaluations = evaluations + going * K * (K + 1)
            error = _estimated(state, partner, sums, wrong, noise, closest, scale, limit)
            error = maximum(error, abs(wrong.work) / (scale + TINY)) / limit  # a scale of 0, too
            overlooked = (error <= 1) & overlooks(
                state, partner, sums.displacement, sums.change, trail, limit
            )
            error = where(overlooked, OVERLOOKED, error)
            accepted = going & (error <= 1)
            kept, change = _where(accepted, sums, kept), _where(accepted, wrong, change)
            erred = where(accepted, error * limit, erred)
            ahead = where(accepted, H * growth(error * limit / goal, K), ahead)
            ways = trail if ways is None else _of_trails(accepted, trail, ways)
            going = going & ~accepted
            H = where(going, H * cut(error, K), H)
            going = going & (first * SMALLEST < H)
        after, dt = _moved(state, kept), kept.time
        if errors is not None:
            errors.estimate(after, change.displacement, change.change)
        rest = remaining - dt
        landing = (dt > 0) & (dt >= (1 - TOUCHED) * remaining)  # no run without an end
        low = high = 0 * H  # of s, between which the time lies
        shorter, tries = 0 * H, 0 * H  # the next part, where one erred by too much
        for _ in range(LANDINGS):
            open_ = landing & (abs(rest) > LANDED * (abs(after.time) + remaining))
            if not bool(open_.any()):
                dt = where(landing, remaining, dt)
                return Advance(after, dt, ahead, H, evaluations, ways, erred)
            part = rest * clock.rate(after)
            # Bounds are not yet known, or lost by errors of parts.
            lost = high - low < NARROW * minimum(abs(part), H)
            low = where(lost, where(rest > 0, 0.0, -BEYOND * H), low)
            high = where(lost, where(rest > 0, BEYOND * H, 0.0), high)
            # Newton's method may lead elsewhere, where Ω changes by much.
            part = where((low < part) & (part < high), part, (low + high) / 2)
            part = where(open_, where(tries > 0, shorter, part), 0.0)
            sums, wrong, closest, _ = self._chains(after, part, weights, columns)
            evaluations = evaluations + open_ * K * (K + 1)
            of_parts = after, partner, sums, wrong, noise, closest, scale + math.inf, limit
            error = _estimated(*of_parts) / limit
            good = open_ & ((error <= 1) | (tries + 1 >= RETRIES))
            shorter, tries = part * cut(error, K), where(good, 0.0, tries + open_)
            sums, wrong = _where(good, sums, nothing), _where(good, wrong, nothing)
            after, dt = _moved(after, sums), dt + sums.time
            if errors is not None:
                errors.estimate(after, wrong.displacement, wrong.change)
            rest = rest - sums.time
            part = where(good, part, 0.0)
            low, high = where(rest > 0, 0.0, low - part), where(rest > 0, high - part, 0.0)
        lost = landing & (abs(rest) > LANDED * (abs(after.time) + remaining))
        return Advance(after, where(lost, math.nan, dt), ahead, H, evaluations, ways, erred)

    def _chains(
        self, state: State, ds: PerSystem, weights: Array, columns: list[int]
    ) -> tuple[_Sums, _Sums, PerSystem, Trail]:
        """Take all chains through a step, each as a system of a larger batch.

        Returns
        -------
        Sums; what tells their error; the largest Ω on the way; where the longest chain went.
        """
        xp, most, roots = namespace(ds), max(columns), self.clock.roots
        like = {"dtype": ds.dtype, "device": ds.device}

        def tiled(value: Array) -> Array:
            return xp.concat([value] * most)

        i, j = gravity.pair_indices(state.n_bodies, state.position)
        apart = tiled(state.position[:, j] - state.position[:, i])
        mass, v, w = tiled(state.mass), tiled(state.velocity), tiled(weights)
        start, at, field, G = tiled(state.position), tiled(state.time), state.field, state.G
        n = xp.asarray([float(each) for each in chain_lengths(most)], **like)
        n = (n[:, None] + 0 * ds).reshape(-1)
        length = tiled(ds) / n
        W = tiled(self.clock.rate(state))
        t, work = length / (2 * W), 0 * length
        X, U = t[:, None, None] * v, 0 * v
        closest = 0 * length
        longest = [(count - 1) * len(ds) + system for system, count in enumerate(columns)]
        trail = [(0 * state.position, 0 * ds)]
        for k in range(2 * most):
            trail.append((X[longest], t[longest]))
            h = where(n > k, length, 0.0)
            given = (apart + (X[:, j] - X[:, i]), mass, w, G, state.softening)
            a, terms, slope = self.clock.pull(*given)
            slow = slowness(roots, terms)
            closest = maximum(closest, where(n > k, 1 / slow, 0.0))
            dt = h * slow
            if field is not None:
                a = a + answer_of(field, "acceleration", a, start + X, at + t, G)
                if field.moving:
                    power = answer_of(field, "power", work, start + X, mass, at + t, G)
                    work = work + dt * power
            kick = dt[:, None, None] * a
            along = dot(v + U + kick / 2, slope).sum(axis=1)
            W = W + h * term(roots, slow) * along
            U, dt = U + kick, h / W
            t, X = t + dt, X + dt[:, None, None] * (v + U)
        over = length / (2 * W)  # The last drift was twice too long.
        ends = _Sums(X - over[:, None, None] * (v + U), U, t - over, work)

        def summed(of: Any) -> _Sums:
            rows = [[*of(each), *[0.0] * (most - each)] for each in columns]
            share = xp.asarray(rows, **like).T

            def sum_up(value: Array) -> Array:
                value = value.reshape(most, len(ds), *value.shape[1:])
                return (share.reshape(most, len(ds), *[1] * (value.ndim - 2)) * value).sum(axis=0)

            return _Sums(*map(sum_up, ends))

        closest = xp.max(closest.reshape(most, len(ds)), axis=0)
        sums = summed(column_weights)
        trail.append((sums.displacement, sums.time))
        points = Trail(*(xp.stack(list(each)) for each in zip(*trail, strict=True)))
        return sums, summed(error_weights), closest, points


def _moved(state: State, sums: _Sums) -> State:
    return state.replace(
        position=state.position + sums.displacement,
        velocity=state.velocity + sums.change,
        time=state.time + sums.time,
        work=state.work + sums.work,
        acceleration=None,
        jerk=None,
    )


def _where(condition: Array, here: _Sums, there: _Sums) -> _Sums:
    pairs = zip(here, there, strict=True)
    return _Sums(*(where(condition.reshape(-1, *[1] * (a.ndim - 1)), a, b) for a, b in pairs))


def _of_trails(condition: Array, here: Trail, there: Trail) -> Trail:
    return Trail(
        where(condition[None, :, None, None], here.displacement, there.displacement),
        where(condition[None, :], here.time, there.time),
    )


def _estimated(
    state: State,
    partner: Array,
    sums: _Sums,
    wrong: _Sums,
    noise: Array,
    closest: PerSystem,
    energy: PerSystem,
    aim: PerSystem,
) -> PerSystem:
    """Error of a step (B,) beyond rounding, relative."""
    xp = namespace(closest)
    index = xp.broadcast_to(partner[..., None], state.position.shape)

    def beside(vectors: Array) -> tuple[Array, Array, Array]:
        return triple(taken(vectors, index) - vectors)

    place, speed = state.position + sums.displacement, state.velocity + sums.change
    alone = partner == xp.arange(partner.shape[1], device=partner.device)
    mu = state.G * (state.mass + taken(state.mass, partner))
    R, V = beside(place), beside(speed)
    inverse = inverse_root(product(R, R) + state.softening**2 + alone)
    errors = pair_errors(
        R, V, beside(wrong.displacement), beside(wrong.change), wrong.time[:, None], mu, inverse
    )
    sizes = noise_sizes(
        norm(sums.displacement), norm(sums.change), V, mu, inverse, closest[:, None]
    )
    over = maximum(*(a - noise[:, None] * b for a, b in zip(errors, sizes, strict=True)))
    share = energy_share(
        state.mass,
        taken(state.mass, partner),
        V,
        mu,
        inverse,
        energy[:, None],
        aim[:, None],
        noise[:, None],
    )
    worst = xp.max(where(alone, 0.0, share * over), axis=1)
    offset = place - place.mean(axis=1)[:, None]
    drift = wrong.time[:, None, None] * speed.mean(axis=1)[:, None]
    shift = wrong.displacement - drift
    whole = root(
        (shift * shift).sum(axis=-1).sum(axis=-1) / (offset * offset).sum(axis=-1).sum(axis=-1)
    )
    return clamp(maximum(worst, whole - noise), 0.0, math.inf)
