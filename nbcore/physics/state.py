"""The state of a batch of N-body systems."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nbcore.errors import InputError
from nbcore.physics.arrays import Array, beside, is_tensor, namespace, to_numpy
from nbcore.physics.elementwise import where
from nbcore.physics.external import check_field
from nbcore.physics.fields import LostField, TidalField
from nbcore.physics.plain import check_plain

if TYPE_CHECKING:
    from nbcore.physics.external import Field

__all__ = ["State"]


# Powers of distances, rates, masses and energies must stay below 1e290 and above 1e-290, which
# leaves room for encounters a hundred times closer and bodies that fly apart.
LARGEST_EXPONENT = 290
MOST_PAIRED = 256  # bodies up to which the closest pair is looked for

_PER_SYSTEM = ("mass", "position", "velocity", "time", "work", "acceleration", "jerk", "pace")


@dataclass(frozen=True, eq=False)
class State:
    """A batch of B systems of N point masses in D dimensions, in any consistent units.

    Make one with `State.from_arrays`, which checks its input, or with a scenario. It holds NumPy
    arrays, or tensors of torch if it was made of them or lies in a field of one's own.

    Attributes
    ----------
    mass
        (B, N) [M], not negative; a body of mass zero feels and does not act.
    position, velocity
        (B, N, D) [L], [L/T].
    time
        (B,) [T]; every system keeps its own time.
    G
        Gravitational constant [L³/(M T²)].
    softening
        Plummer softening length [L].
    field
        External field, or None.
    work
        (B,) [E] energy that a moving external field has put in since the start.
    acceleration, jerk
        (B, N, D) as far as they are known at this position (and velocity), otherwise None.
    pace
        (B,) W of a clock in a run that is made in its time (see `clocks`), otherwise None.
    batched
        False for a single system that was given without a leading B.
    scenario
        Name of the scenario that it was made by, if any.
    """

    mass: Array
    position: Array
    velocity: Array
    time: Array
    G: float
    softening: float
    field: Field | None
    work: Array
    acceleration: Array | None = None
    jerk: Array | None = None
    pace: Array | None = None
    batched: bool = True
    scenario: str | None = None

    def __post_init__(self) -> None:
        # Fields of one's own are written for tensors; see `external.Field`.
        if self.field is None or type(self.field) in (TidalField, LostField):
            return
        for name in _PER_SYSTEM:
            value = getattr(self, name)
            if value is not None and not is_tensor(value):
                object.__setattr__(self, name, _tensor(value))

    @classmethod
    def from_arrays(
        cls,
        mass: Any,
        position: Any,
        velocity: Any,
        G: float = 1.0,
        softening: float = 0.0,
        field: Field | None = None,
        time: Any = 0.0,
    ) -> State:
        """Make a state from arrays, lists or tensors; tensors keep their gradients.

        Parameters
        ----------
        mass
            (N,) or (B, N).
        position, velocity
            (N, D) or (B, N, D), D = 2 or 3.
        G, softening, field
            As in the class.
        time
            One number, or (B,).

        Raises
        ------
        InputError
            Shapes don't match, N < 2, D is not 2 or 3, a value carries a unit or a mask or is not
            finite, a mass is negative, all masses are zero, two bodies coincide at softening 0
            and one of them has mass, the units are so extreme that powers of them leave the
            range of numbers, or the field is none.
        """
        named = {"mass": mass, "position": position, "velocity": velocity, "time": time}
        mass, position, velocity, time = _of_one_kind(
            [doubles(name, value) for name, value in named.items()]
        )
        batched = position.ndim == 3
        if not batched:
            mass, position, velocity = mass[None], position[None], velocity[None]
        _check_shapes(mass, position, velocity, batched)
        if time.shape not in ((), (len(mass),)):
            raise InputError(
                f"time has shape {tuple(time.shape)}; it must be one number, or ({len(mass)},)"
            )
        time = namespace(time).broadcast_to(time, (len(mass),)) + 0
        values = [to_numpy(each) for each in (mass, position, velocity, time)]
        _check_values(values[0], values[1], values[2], values[3], G, softening)
        check_field(field)
        return cls(
            mass=mass,
            position=position,
            velocity=velocity,
            time=time,
            G=float(G),
            softening=float(softening),
            field=field,
            work=0 * time,
            batched=batched,
        )

    @property
    def n_systems(self) -> int:
        """B, the number of systems."""
        return self.position.shape[0]

    @property
    def n_bodies(self) -> int:
        """N, the number of bodies of each system."""
        return self.position.shape[1]

    @property
    def n_dimensions(self) -> int:
        """D, 2 or 3."""
        return self.position.shape[2]

    def replace(self, **changes: Any) -> State:
        """Copy with some attributes replaced; the caller clears what became out of date."""
        return dataclasses.replace(self, **changes)

    def _map(self, function: Any) -> State:
        values = {name: getattr(self, name) for name in _PER_SYSTEM}
        return self.replace(**{k: None if v is None else function(v) for k, v in values.items()})

    def detach(self) -> State:
        """Copy without gradients and without shared memory, fit to be stored."""
        return self._map(lambda value: value.detach().clone() if is_tensor(value) else value.copy())

    def to(self, device: Any) -> State:
        """The same as tensors of torch on a device, such as "cpu" or "cuda"."""
        return self._map(lambda value: _tensor(value).to(device))

    def numpy(self) -> State:
        """The same as NumPy arrays, without gradients; in a field of one's own, as tensors.

        The arrays are those that are here, or share their memory with tensors on the CPU.
        """
        return self._map(to_numpy)

    def select(self, index: Any) -> State:
        """Take the systems at an index or mask (B,), or one by its number, as a batch.

        A slice shares its memory with this state.
        """
        if not isinstance(index, slice) and not (is_tensor(index) and is_tensor(self.time)):
            index = np.atleast_1d(to_numpy(index))
        return self._map(lambda value: value[index]).replace(batched=True)

    def where(self, condition: Array, other: State) -> State:
        """Take each system from here where the condition (B,) holds, otherwise from the other."""

        def choose(name: str) -> Array | None:
            here, there = getattr(self, name), getattr(other, name)
            if here is None or there is None:
                return None
            return where(condition.reshape(-1, *[1] * (here.ndim - 1)), here, there)

        return self.replace(**{name: choose(name) for name in _PER_SYSTEM})

    @staticmethod
    def concatenate(states: Sequence[State]) -> State:
        """Join batches of the same N, D, G, softening and field along B.

        Raises
        ------
        InputError
            They differ in one of these, or are no states.
        """
        is_list = isinstance(states, Sequence)
        if not (is_list and states and all(isinstance(state, State) for state in states)):
            found = [type(each).__name__ for each in states] if is_list else type(states).__name__
            raise InputError(f"states is {found}; give a list of one State or more")
        first = states[0]
        for state in states[1:]:
            for name in ("n_bodies", "n_dimensions", "G", "softening", "field"):
                if getattr(state, name) != getattr(first, name):
                    raise InputError(
                        f"states with {name}={getattr(first, name)!r} and {getattr(state, name)!r} "
                        "can't be joined in one batch; run them one after the other"
                    )

        def join(name: str) -> Array | None:
            parts = [getattr(state, name) for state in states]
            if any(part is None for part in parts):
                return None
            parts = _of_one_kind(parts)
            return namespace(parts[0]).concat(parts)

        scenarios = {state.scenario for state in states}
        return first.replace(
            **{name: join(name) for name in _PER_SYSTEM},
            batched=True,
            scenario=first.scenario if len(scenarios) == 1 else None,
        )

    def repeat(self, times: int) -> State:
        """Repeat the whole batch, system by system in the same order."""
        return State.concatenate([self] * times)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """NumPy copies of mass, position, velocity and time; without B for a single system."""
        arrays = {
            name: to_numpy(getattr(self, name)).copy()
            for name in ("mass", "position", "velocity", "time")
        }
        return arrays if self.batched else {name: value[0] for name, value in arrays.items()}


def doubles(name: str, value: Any) -> Array:
    """Float64, because float32 would put a floor of 1e-5 under the energy error."""
    check_plain(name, value)
    if value is None:  # which NumPy reads as NaN
        raise InputError(f"{name} is None; give an array or a list of numbers")
    if is_tensor(value):
        return value.double()
    try:
        return np.array(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise InputError(
            f"{name} can't be read as an array of numbers ({error}); "
            "give one row of equal length for each body"
        ) from None


def _tensor(value: Array) -> Array:
    if is_tensor(value):
        return value
    import torch

    return torch.from_numpy(np.array(value))


def _of_one_kind(arrays: list[Array]) -> list[Array]:
    """Tensors, on the device of the first, if any of them is one."""
    tensors = [each for each in arrays if is_tensor(each)]
    if not tensors:
        return arrays
    return [beside(each, tensors[0]) for each in arrays]


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and bool(np.isfinite(value))


def _check_shapes(mass: Array, position: Array, velocity: Array, batched: bool) -> None:
    def seen(value: Array) -> tuple[int, ...]:
        return tuple(value.shape if batched else value.shape[1:])

    expected = "(B, N, D)" if batched else "(N, D)"
    if position.ndim != 3:
        raise InputError(f"position has shape {seen(position)}; it must be (N, D) or (B, N, D)")
    n_systems, n_bodies, n_dimensions = position.shape
    if velocity.shape != position.shape:
        raise InputError(
            f"velocity has shape {seen(velocity)} and position {seen(position)}; "
            f"both must be {expected}"
        )
    if n_systems < 1:
        raise InputError("the batch is empty (B = 0); give at least one system")
    if n_bodies < 2:
        raise InputError(f"N = {n_bodies}; a system needs at least 2 bodies")
    if n_dimensions not in (2, 3):
        raise InputError(f"D = {n_dimensions}; positions and velocities must have 2 or 3 columns")
    if mass.shape != (n_systems, n_bodies):
        raise InputError(
            f"mass has shape {seen(mass)} for {n_bodies} bodies; it must be "
            f"{seen(position)[:-1]}, one mass a body"
        )


def _check_values(
    mass: np.ndarray,
    position: np.ndarray,
    velocity: np.ndarray,
    time: np.ndarray,
    G: float,
    softening: float,
) -> None:
    named = (("mass", mass), ("position", position), ("velocity", velocity), ("time", time))
    for name, value in named:
        if (bad := ~np.isfinite(value)).any():
            index = np.argwhere(bad)[0].tolist()
            raise InputError(
                f"{name}{index} is {value[tuple(index)]}; every value must be a finite number"
            )
    if (mass < 0).any():
        index = np.argwhere(mass < 0)[0].tolist()
        raise InputError(f"mass{index} is {mass[tuple(index)]}; masses must be zero or positive")
    massless = ~(mass > 0).any(axis=1)
    if massless.any():
        raise InputError(
            f"all masses of system {int(massless.argmax())} are zero; at least one must act"
        )
    check_plain("G", G)
    check_plain("softening", softening)
    if not (_is_finite(G) and G > 0):
        raise InputError(f"G is {G!r}; it must be a positive number")
    if not (_is_finite(softening) and softening >= 0):
        raise InputError(f"softening is {softening!r}; it must be a number, zero or positive")
    if softening == 0:
        _check_apart(mass, position)
    _check_range(mass, position, velocity, G, softening)


def _check_apart(mass: np.ndarray, position: np.ndarray) -> None:
    """Refuse bodies at one place if one of them has mass; massless ones exert nothing."""
    n_systems, n_bodies, _ = position.shape
    masses, places = mass.ravel(), position.reshape(n_systems * n_bodies, -1)
    systems = np.arange(len(places)) // n_bodies
    order = np.lexsort([*places.T, systems])
    same = (places[order][1:] == places[order][:-1]).all(axis=1)
    same &= systems[order][1:] == systems[order][:-1]
    group = np.cumsum(np.r_[True, ~same])
    crowded = np.r_[same, False] | np.r_[False, same]
    clash = crowded & (np.bincount(group, masses[order] > 0)[group] > 0)
    if clash.any():
        together = np.sort(order[group == group[clash.argmax()]])
        massive = together[(masses[together] > 0).argmax()]
        first, second = sorted([massive, together[together != massive][0]])
        raise InputError(
            f"bodies {first % n_bodies} and {second % n_bodies} of system {first // n_bodies} "
            "are at the same place; move one of them or set softening > 0"
        )


@np.errstate(all="ignore")
def _check_range(
    mass: np.ndarray, position: np.ndarray, velocity: np.ndarray, G: float, softening: float
) -> None:
    """Refuse units so extreme that the powers which a run takes of them are no numbers."""
    total = mass.sum(axis=1)
    spread, speed = (
        np.linalg.norm(value - value.mean(axis=1, keepdims=True), axis=2).max(axis=1)
        for value in (position, velocity)
    )
    far = np.hypot(spread, softening)
    near = _closest(mass, position, softening) if mass.shape[1] <= MOST_PAIRED else far
    rate = np.sqrt(G * total / near) / near
    powers = {
        "the size": (far, 6),
        "the smallest distance": (near, 6),
        "the total mass": (total, 2),
        "the smallest mass that is not zero": (np.where(mass > 0, mass, np.inf).min(axis=1), 2),
        "G times the total mass": (G * total, 2),
        "√(G M/r³) of the closest bodies": (rate, 4),
        "G M²/r of the closest bodies": (G * total / near * total, 1),
    }
    # Speeds may be zero, so these are only too large.
    fast = {
        "the speed": (speed, 4),
        "the speed over the smallest distance": (speed / near, 4),
        "M v²": (total * speed * speed, 1),
    }
    for name, (value, power) in {**powers, **fast}.items():
        exponent = power * np.log10(value)
        bad = ~(exponent < LARGEST_EXPONENT)
        if name in powers:
            bad |= ~(exponent > -LARGEST_EXPONENT)
        if bad.any():
            system = int(bad.argmax())
            raise InputError(
                f"{name} of system {system} is {value[system]:.2g}, of which powers leave the "
                "range of numbers; choose units in which lengths, masses and times are nearer to "
                "1, and G in them"
            )


def _closest(mass: np.ndarray, position: np.ndarray, softening: float) -> np.ndarray:
    """Smallest distance (B,) of two bodies of which one has mass, softened."""
    closest = np.full(len(mass), np.inf)
    for i in range(mass.shape[1] - 1):
        apart = np.linalg.norm(position[:, i + 1 :] - position[:, i, None], axis=2)
        acting = (mass[:, i + 1 :] > 0) | (mass[:, i, None] > 0)
        closest = np.minimum(closest, np.where(acting, apart, np.inf).min(axis=1))
    return np.hypot(closest, softening)
