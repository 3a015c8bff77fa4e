"""Compositions of leapfrogs in the time s of a clock, reversible and for long runs.

All steps are equal in s. Each leapfrog of length γ drifts for γ/2, kicks for γ and drifts for γ/2:
drift first, which alone keeps every two-body orbit but for its phase. Drifts take dt = ds/W and
kicks dt = ds/Ω(x), see `clocks`. Time is one of the variables, and so a step that is to end at a
time is one of another length in s, found by Newton's method.

W goes on from step to step. It is not set to Ω anew, from which it differs by the error of the
steps: then they would not lead back the way they came.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from nbcore.errors import InputError
from nbcore.physics import gravity
from nbcore.physics.arrays import PerSystem, dot
from nbcore.physics.body_errors import StepErrors
from nbcore.physics.clocks import Clock, slowness, term
from nbcore.physics.elementwise import where
from nbcore.physics.external import answer_of
from nbcore.physics.extrapolation import Advance
from nbcore.physics.integrators import ROUNDING, Splitting, name_of
from nbcore.physics.state import State

__all__ = ["ENDS", "LANDED", "LANDINGS", "Transformed", "is_composition", "not_composed"]

ENDS = 1e-12  # of what is left of a run, and no more of it, is not worth a step of its own
LANDED = 4e-15  # of the way to the time that a step is to end at
LANDINGS = 64  # lengths to try for such a step


def is_composition(splitting: Splitting) -> bool:
    """Whether a splitting is a symmetric composition of leapfrogs."""
    middles = ((a + b) / 2 for a, b in pairwise((0.0, *splitting.drifts, 0.0)))
    pairs = zip(splitting.kicks, middles, strict=True)
    return splitting.reversible and all(abs(a - b) < ROUNDING for a, b in pairs)


def not_composed(name: str) -> InputError:
    """Error for an integrator that is none of these."""
    return InputError(
        f"integrator {name!r} can't run in the time of a clock, which takes symmetric "
        "compositions of leapfrogs alone; use 'kahan_li8', 'sofroniou_spaletta6' or 'gbs', or "
        "leave the clock out"
    )


@dataclass(frozen=True)
class Transformed:
    """A composition of leapfrogs, drift-kick-drift, in the time of a clock.

    Attributes
    ----------
    splitting
        The composition, written as one of kick-drift-kick.
    clock
        Transformation of time.

    Raises
    ------
    InputError
        The splitting is no symmetric composition of leapfrogs.

    References
    ----------
    Mikkola & Aarseth (2002), Celest. Mech. Dyn. Astron. 84, 343.
    """

    splitting: Splitting
    clock: Clock

    evaluations_at_start = 0
    reversible = True

    def __post_init__(self) -> None:
        if not is_composition(self.splitting):
            raise not_composed(name_of(self.splitting))

    def __str__(self) -> str:
        return f"{name_of(self.splitting)} in time {self.clock}"

    @property
    def order(self) -> int:
        """As in physical time."""
        return self.splitting.order

    @property
    def evaluations(self) -> int:
        """One for each leapfrog."""
        return len(self.kicks)

    @property
    def kicks(self) -> tuple[float, ...]:
        """Fractions of a step in s: the leapfrogs."""
        return self.splitting.drifts

    @property
    def drifts(self) -> tuple[float, ...]:
        """Likewise, one more than kicks."""
        return self.splitting.kicks

    def check(self, state: State) -> None:
        """Raise InputError for a state that can't be gone on from."""
        self.clock.weights(state.mass)

    def begin(self, state: State) -> State:
        """State at the start of a run, where W is Ω."""
        return state.replace(pace=self.clock.rate(state))

    def step(self, state: State, dt: PerSystem, errors: StepErrors | None = None) -> State:
        """Advance by dt (B,) [T], in one step in s."""
        state = state if state.pace is not None else self.begin(state)
        ds, _ = self._landing(state, dt, dt * state.pace, dt != 0)
        after, _ = self.composed(state, ds, errors)
        return after.replace(time=state.time + dt)

    def advance(
        self,
        state: State,
        ds: PerSystem,
        remaining: PerSystem,
        tolerance: PerSystem | None = None,
        errors: StepErrors | None = None,
    ) -> Advance:
        """Advance every system by ds in s, or by one step that ends `remaining` later.

        Parameters
        ----------
        ds
            (B,).
        remaining
            (B,) [T]; systems with 0 are left alone.
        tolerance
            Plays no part.
        errors
            Told of the kicks.

        Returns
        -------
        Advance
            Its evaluations are those beyond the ones of a step. Systems that could make none, with
            a dt that is not positive or no number, are as they were.
        """
        going = remaining > 0
        made = where(going, ds, 0.0)
        after, dt = self.composed(state, made, errors)
        ends, evaluations = going & (dt >= remaining * (1 - ENDS)), 0 * ds
        if bool(ends.any()):
            part, tries = self._landing(state, remaining, ds * (remaining / dt), ends)
            made, evaluations = where(ends, part, made), self.evaluations * tries
            if errors is not None:
                errors.forget()
            after, _ = self.composed(state, made, errors)
            dt = where(ends, where(made == made, remaining, math.nan), dt)
        after = after.where(state.time + dt > state.time, state.replace(acceleration=None))
        return Advance(after, dt, ds, ds, evaluations)

    def _landing(
        self, state: State, length: PerSystem, ds: PerSystem, systems: PerSystem
    ) -> tuple[PerSystem, PerSystem]:
        """Steps in s (B,) that end at a time, and how many it took to find them.

        Parameters
        ----------
        length
            Until then (B,) [T], forward or back.
        ds
            Steps to begin with.
        systems
            Mask (B,) of the systems; the others make no step.
        """
        ds = where(systems, ds, 0.0)
        back = where(length < 0, -1.0, 1.0 + 0 * ds)
        low, high, tries, open_ = 0 * ds, 0 * ds + math.inf, 0 * ds, systems
        for _ in range(LANDINGS):
            after, t = self.composed(state, ds)
            tries, rest = tries + open_, back * (length - t)
            open_ = open_ & ~(abs(rest) <= LANDED * abs(length))
            if not bool(open_.any()):
                return ds, tries
            part = back * ds
            short = rest > 0  # false for NaN: it went too far
            low, high = where(short, part, low), where(short, high, part)
            ahead = part + rest * after.pace
            between = where(high < math.inf, (low + high) / 2, 2 * low)
            part = where((low < ahead) & (ahead < high), ahead, between)
            ds = where(open_, back * part, ds)
        return where(open_, math.nan, ds), tries

    def composed(
        self, state: State, ds: PerSystem, errors: StepErrors | None = None
    ) -> tuple[State, PerSystem]:
        """Advance by ds (B,) in s, forward or back; and by how much time that was."""
        mass, G, softening, field = state.mass, state.G, state.softening, state.field
        clock, weights = self.clock, self.clock.weights(state.mass)
        state = state if state.pace is not None else self.begin(state)
        x, v, W, work, t = state.position, state.velocity, state.pace, state.work, 0 * ds
        i, j = gravity.pair_indices(state.n_bodies, x)
        for k, drift in enumerate(self.drifts):
            dt = drift * ds / W
            t, x = t + dt, x + dt[:, None, None] * v
            if k == len(self.kicks):
                break
            a, terms, slope = clock.pull(x[:, j] - x[:, i], mass, weights, G, softening)
            slow, h = slowness(clock.roots, terms), self.kicks[k] * ds
            dt = h * slow
            if field is not None:
                a = a + answer_of(field, "acceleration", a, x, state.time + t, G)
                if field.moving:
                    work = work + dt * answer_of(field, "power", work, x, mass, state.time + t, G)
            kick = dt[:, None, None] * a
            mean = v + kick / 2
            W = W + h * term(clock.roots, slow) * dot(mean, slope).sum(axis=1)
            v = v + kick
            if errors is not None:
                errors.kick(x, mean, dt)
        if errors is not None:
            errors.end(x)
        after = state.replace(
            position=x,
            velocity=v,
            time=state.time + t,
            work=work,
            pace=W,
            acceleration=None,
            jerk=None,
        )
        return after, t
