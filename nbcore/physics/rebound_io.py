"""States from and to simulations of REBOUND."""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nbcore.errors import InputError
from nbcore.physics.arrays import to_numpy
from nbcore.physics.state import State

if TYPE_CHECKING:
    import rebound

__all__ = ["from_rebound", "import_peer", "one_system", "to_rebound"]

Array = NDArray[np.float64]


def from_rebound(sim: rebound.Simulation) -> State:
    """Make a state of one system, in 3 dimensions, from a simulation of REBOUND.

    Mass, position, velocity, G, softening and time are carried over bit for bit. What only steps,
    watches or labels stays behind: the integrator with its settings, a heartbeat, an energy_offset,
    the names and radii of particles.

    With softening, sim.energy() of REBOUND 5.2 is not the energy that its forces conserve: it
    leaves the softening out.

    Raises
    ------
    InputError
        REBOUND is not installed, the simulation has something that moves or stops its particles
        and has no place in a state (all of it is named), or State.from_arrays rejects the values.
    """
    rebound = import_peer("rebound")
    if not isinstance(sim, rebound.Simulation):
        raise InputError(f"a rebound.Simulation was expected, not {type(sim).__name__!r}")
    found = [f"{name} ({remedy})" for name, (used, remedy) in _FOREIGN.items() if used(sim)]
    if found:
        raise InputError(f"a state can't hold what the simulation has: {'; '.join(found)}")
    mass, position, velocity = np.empty(sim.N), np.empty((sim.N, 3)), np.empty((sim.N, 3))
    sim.serialize_particle_data(m=mass, xyz=position, vxvyvz=velocity)
    return State.from_arrays(mass, position, velocity, sim.G, sim.softening, time=sim.t)


def to_rebound(state: State) -> rebound.Simulation:
    """Make a simulation of REBOUND, with its default integrator, from one system.

    The inverse of `from_rebound`; a planar system gets z = 0.

    Raises
    ------
    InputError
        REBOUND is not installed, the state has several systems, or an external field.
    """
    sim = import_peer("rebound").Simulation()
    mass, position, velocity = one_system(state)
    sim.G, sim.softening, sim.t = state.G, state.softening, float(state.time[0])
    for m, (x, y, z), (vx, vy, vz) in zip(mass, position, velocity, strict=True):
        sim.add(m=m, x=x, y=y, z=z, vx=vx, vy=vy, vz=vz)
    return sim


def one_system(state: State) -> tuple[Array, Array, Array]:
    """Mass (N,), position and velocity (N, 3) for a code that has point masses alone.

    Raises
    ------
    InputError
        The state has several systems, or an external field.
    """
    if state.n_systems != 1:
        raise InputError(
            f"the state has {state.n_systems} systems and other codes take one; "
            "pass one at a time, such as state.select([0])"
        )
    if state.field is not None:
        raise InputError(
            f"other codes don't know the external field {state.field}; pass a state without one"
        )
    depth = ((0, 0), (0, 3 - state.n_dimensions))
    mass, position, velocity = (
        to_numpy(value[0]) for value in (state.mass, state.position, state.velocity)
    )
    return mass.copy(), np.pad(position, depth), np.pad(velocity, depth)


def import_peer(package: str) -> ModuleType:
    """Import an optional package, or raise an InputError that says how to install it."""
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise InputError(
            f'package {package!r} is not installed; pip install "aitimestepper[peers]"'
        ) from None


def _other_odes(sim: Any) -> bool:
    """Whether there are differential equations beside the one that the BS integrator makes."""
    library = import_peer("rebound").clibrebound
    own = _address(library.reb_integrator_bs_nbody_derivatives)
    odes = (sim._odes[k].contents for k in range(sim._N_odes))
    return any(_address(ode._derivatives) != own for ode in odes)


def _address(function: Any) -> int | None:
    return ctypes.cast(function, ctypes.c_void_p).value


def _massive_test_particles(sim: Any) -> bool:
    return any(particle.m != 0 for particle in list(sim.particles)[sim.N_active :])


def _whfast512(sim: Any, setting: str, plain: int) -> bool:
    return str(sim.integrator) == "whfast512" and getattr(sim.integrator, setting) != plain


def _callback(name: str) -> tuple[Callable[[Any], bool], str]:
    return lambda sim: bool(getattr(sim, f"_{name}")), _COPY


_COPY = "sim.copy() is without"
_FOREIGN: dict[str, tuple[Callable[[Any], bool], str]] = {
    "additional_forces": _callback("additional_forces"),
    "pre_timestep_modifications": _callback("pre_timestep_modifications"),
    "post_timestep_modifications": _callback("post_timestep_modifications"),
    "extras such as REBOUNDx": (lambda sim: bool(sim.extras), _COPY),
    "ODEs": (_other_odes, _COPY),
    "gravity": (
        lambda sim: sim.gravity not in ("basic", "compensated"),
        "set sim.gravity = 'basic'",
    ),
    "collision": (
        lambda sim: sim.collision != "none",
        "set sim.collision = 'none'; simulate(collision_distance=…) stops a run",
    ),
    "boundary": (lambda sim: sim.boundary != "none", "set sim.boundary = 'none'"),
    "N_ghost": (
        lambda sim: any((sim.N_ghost_x, sim.N_ghost_y, sim.N_ghost_z)),
        "set N_ghost_x, N_ghost_y, N_ghost_z to 0",
    ),
    "exit_min_distance": (
        lambda sim: sim.exit_min_distance != 0,
        "set it to 0; simulate(collision_distance=…) stops a run",
    ),
    "exit_max_distance": (
        lambda sim: sim.exit_max_distance != 0,
        "set it to 0; simulate(escape_distance=…) stops a run",
    ),
    "variational particles": (
        lambda sim: sim.N_var != 0,
        "add the particles alone to a new rebound.Simulation",
    ),
    "MEGNO": (
        lambda sim: sim._calculate_megno != 0,
        "add the particles alone to a new rebound.Simulation",
    ),
    "N_active, test particles with mass": (
        _massive_test_particles,
        "give them mass 0, or set sim.N_active = -1",
    ),
    "dt < 0, time that runs backward": (
        lambda sim: sim.dt < 0,
        "set sim.dt > 0; to go backward, reverse all velocities, too, and count the time up",
    ),
    "integrator none, bodies that stand still": (
        lambda sim: str(sim.integrator) == "none",
        "set another integrator",
    ),
    "integrator sei, a rotating frame": (
        lambda sim: str(sim.integrator) == "sei",
        "set another integrator, if the frame is inertial",
    ),
    "gr_potential": (
        lambda sim: _whfast512(sim, "gr_potential", 0),
        "set sim.integrator.gr_potential = 0",
    ),
    "N_systems": (
        lambda sim: _whfast512(sim, "N_systems", 1),
        "make a simulation of each system",
    ),
    "unsynchronized particles": (
        lambda sim: not sim.is_synchronized,
        "call sim.synchronize() first",
    ),
}
