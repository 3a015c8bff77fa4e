"""Wisdom–Holman runs, of one system in the lanes and of systems side by side."""

import functools
import itertools
import math

import numpy as np
import pytest
from numba import njit
from symmetries import OF_SPACE

from nbcore.errors import InputError
from nbcore.physics import gravity, scenarios
from nbcore.physics.arrays import is_tensor
from nbcore.physics.compiled import LAW
from nbcore.physics.elementwise import inverse_root
from nbcore.physics.fields import TidalField
from nbcore.physics.kepler import drift
from nbcore.physics.orbits import orbit
from nbcore.physics.rebound_io import to_rebound
from nbcore.physics.state import State
from nbcore.physics.wisdom_holman import SETTINGS, WisdomHolman, jacobi_order
from nbcore.simulation import compiled_engine, planetary_engine, storage
from nbcore.simulation.kernels import kepler
from nbcore.simulation.kernels.beside import SYSTEMS, WIDTH
from nbcore.simulation.kernels.lanes import load, store
from nbcore.simulation.simulate import check, simulate
from nbcore.simulation.status import Status
from nbcore.simulation.storage import RECORDED, SUMMARY
from nbcore.stepping.policies import Criterion, FixedStep

KERNELS = pytest.mark.parametrize("engine", ["compiled", "any_number"])
EVERY = pytest.mark.parametrize("setting", SETTINGS)
ENDS_EARLY = pytest.mark.filterwarnings("ignore:.*did not reach")
YEAR = 2 * math.pi
JUPITER = 3.0  # a step in the outer Solar System, 1/25 of the shortest period


def run(state, t_end, dt=JUPITER, setting="plain", record="ends", **options):
    scheme = WisdomHolman(setting)
    return simulate(state, t_end, FixedStep(dt), integrator=scheme, record=record, **options)


def outer():
    """The Sun and four planets, which are in Jacobi order."""
    return scenarios.make("outer_solar_system")


def four(n_systems=1, mass=(1e-4, 1e-3), seed=1, dimensions=3):
    """Stars with four planets, which are in Jacobi order."""
    shape = {"inclination": 3.0} if dimensions == 3 else {"inclination": 0.0}
    shape |= {"spacing": 12.0, "eccentricity": 0.04, "planet_mass": mass}
    return scenarios.make(
        "planetary_system", n_systems=n_systems, seed=seed, dimensions=dimensions, **shape
    )


def about_a_star(mass, size, eccentricity, star=1.0, **kind):
    """A star and bodies on orbits about it, at phases of their own."""
    position, velocity = [np.zeros(3)], [np.zeros(3)]
    for k, (a, e) in enumerate(zip(size, eccentricity, strict=True)):
        place, speed = orbit(star, a, e, 0.21 + 0.37 * k, 4.0 * k)
        position.append(place)
        velocity.append(speed)
    return State.from_arrays([star, *mass], position, velocity, **kind)


def many(n_planets, **kind):
    """A star and light planets, every third of them without mass, the outer ones first."""
    mass = [0.0 if k % 3 == 2 else 1e-4 for k in range(n_planets)]
    size = [1.3**k for k in range(n_planets)][::-1]
    return about_a_star(mass, size, [0.03 * (k % 3) for k in range(n_planets)], **kind)


def mixed():
    """Two planets that are not in their order, a body without mass and, last, the star."""
    state = about_a_star([2e-3, 0.0, 1e-3, 5e-4], [3.0, 1.0, 5.5, 1.7], [0.1, 0.5, 0.05, 0.0])
    last = [1, 2, 3, 4, 0]
    speed = math.sqrt(1.7)  # as G is
    return State.from_arrays(
        state.mass[0, last], state.position[0, last], speed * state.velocity[0, last], G=1.7
    )


def two(**parameters):
    return scenarios.make("kepler", dimensions=3, inclination=40.0, **parameters)


def apart(state, first=0):
    """Places relative to a body."""
    return state.position - state.position[:, first : first + 1]


def some_of(state, bodies):
    chosen = {name: getattr(state, name)[:, bodies] for name in ("mass", "position", "velocity")}
    return state.replace(**chosen)


def stepped(state, dt, n_steps, setting):
    """The same by steps of arrays, each with a corrector of its own."""
    scheme = WisdomHolman(setting).with_order(jacobi_order(state))
    for _ in range(n_steps):
        state = scheme.step(state, dt + 0 * state.time)
    return state


def exact(state, t_end):
    """Places (B, N, 3) at the end, by IAS15 of REBOUND."""
    places = np.empty((state.n_systems, state.n_bodies, 3))
    for k, place in enumerate(places):
        sim = to_rebound(state.select([k]))
        sim.integrator = "ias15"
        sim.integrate(t_end)
        sim.serialize_particle_data(xyz=place)
    return places


def assert_same(one, other, but=()):
    for name in set(RECORDED) - {*but}:
        assert np.array_equal(getattr(one, name), getattr(other, name), equal_nan=True), name
    for name in set(SUMMARY) - {*but}:
        assert np.array_equal(one.summary[name], other.summary[name], equal_nan=True), name
    assert_same_end(one, other)


def assert_same_end(one, other):
    for name in ("position", "velocity", "time"):
        assert np.array_equal(getattr(one.final, name), getattr(other.final, name)), name
    assert np.array_equal(one.n_steps, other.n_steps)


def assert_close(one, other, rounding=1e-12):
    """Two states, to so much of the largest place and velocity."""
    for name in ("position", "velocity"):
        known = getattr(other, name)
        size = rounding * np.abs(known).max()
        np.testing.assert_allclose(getattr(one, name), known, rtol=0, atol=size, err_msg=name)


# What a drift is


@njit(error_model="numpy", fastmath=LAW["fastmath"])
def _drifted(start, made):
    """Rows of μ, place, velocity and time, and those of the changes."""
    for k in range(len(start)):
        row = start[k]
        x0, x1, x2 = load(SYSTEMS, row, 1), load(SYSTEMS, row, 2), load(SYSTEMS, row, 3)
        r2 = x0 * x0 + x1 * x1 + x2 * x2
        changes = kepler.drift(
            load(SYSTEMS, row, 0), r2 * inverse_root(r2), inverse_root(r2), x0, x1, x2,
            load(SYSTEMS, row, 4), load(SYSTEMS, row, 5), load(SYSTEMS, row, 6),
            load(SYSTEMS, row, 7),
        )  # fmt: skip
        store(SYSTEMS, made[k], 0, changes[0])
        store(SYSTEMS, made[k], 1, changes[1])
        store(SYSTEMS, made[k], 2, changes[2])
        store(SYSTEMS, made[k], 3, changes[3])
        store(SYSTEMS, made[k], 4, changes[4])
        store(SYSTEMS, made[k], 5, changes[5])


def drifted(mu, position, velocity, h):
    """As `physics.kepler.drift`, in groups of lanes; all (n, …)."""
    rows = np.concatenate([mu[:, None], position, velocity, h[:, None]], axis=1)
    groups = -(-len(rows) // WIDTH)
    start = np.resize(rows, (groups, WIDTH, 8)).transpose(0, 2, 1).copy()
    made = np.empty((groups, 6, WIDTH))
    _drifted(start, made)
    made = made.transpose(0, 2, 1).reshape(-1, 6)[: len(rows)]
    return position + made[:, :3], velocity + made[:, 3:]


def conics(eccentricities, anomalies, times):
    """Orbits all by all, as `on_conics` makes them."""
    return on_conics(*np.array(list(itertools.product(eccentricities, anomalies, times))).T)


def on_conics(e, part, h):
    """Orbits of pericentre 1, at a part of the largest anomaly; μ, place, velocity, h, periods."""
    mu, anomaly = 1.3, part * np.arccos(-1 / np.maximum(e, 1))
    r, speed = (1 + e) / (1 + e * np.cos(anomaly)), np.sqrt(mu / (1 + e))
    position = r * np.array([np.cos(anomaly), 0.6 * np.sin(anomaly), 0.8 * np.sin(anomaly)])
    forward = speed * (e + np.cos(anomaly))
    velocity = np.array([-speed * np.sin(anomaly), 0.6 * forward, 0.8 * forward])
    periods = np.abs(h) * np.sqrt(mu * np.maximum(1 - e, 0) ** 3) / YEAR
    return np.full(len(h), mu), position.T.copy(), velocity.T.copy(), h, periods


SHAPES = [0, 0.01, 0.3, 0.9, 0.99, 0.9999, 1, 1.0001, 1.5, 20]


def test_a_drift_in_the_lanes_is_that_of_arrays_whatever_is_beside_it():
    *start, periods = conics(SHAPES, [0, 0.4, -0.4, 0.8, -0.8], [1e-9, 0.01, -0.3, 2.0, -9, 300])
    found = drifted(*start)
    for one, other in zip(found, drift(*start), strict=True):
        off = np.linalg.norm(one - other, axis=1) / np.linalg.norm(other, axis=1)
        assert (off < 1e-13 * (1 + periods)).all()
    order = np.random.default_rng(1).permutation(len(periods))
    for one, other in zip(found, drifted(*(each[order] for each in start)), strict=True):
        assert np.array_equal(one[order], other)


def test_no_drift_of_many_is_off():
    """Among them hyperbolas from afar to beyond the pericentre, and orbits that are nearly so."""
    random = np.random.default_rng(2)
    n = 200_000
    kinds = [
        random.uniform(0, 1, n),
        1 - 10 ** random.uniform(-8, 0, n),
        1 + 10 ** random.uniform(-8, 1.5, n),
        np.ones(n),
    ]
    e = np.choose(random.integers(0, 4, n), kinds)
    h = np.sinh(random.uniform(-8, 8, n)) * 10 ** random.uniform(-6, 0, n)
    *start, periods = on_conics(e, random.uniform(-0.97, 0.97, n), h)
    known, found = drift(*start), drifted(*start)
    mu, position, velocity, h = start
    other = drift(mu, position * (1 + 4e-16), velocity, h)
    for one, right, shifted in zip(found, known, other, strict=True):
        size = np.linalg.norm(right, axis=1)
        off, rounding = (np.linalg.norm(each - right, axis=1) / size for each in (one, shifted))
        assert (off < 2e-13 * (1 + periods) + 20 * rounding).all()


def test_a_drift_for_no_time_changes_nothing():
    mu, position, velocity, h, _ = conics(SHAPES, [0.4, -0.8], [0.0])
    for one, other in zip(drifted(mu, position, velocity, h), (position, velocity), strict=True):
        assert np.array_equal(one, other)


# Against other codes


@functools.cache
def by_torch(setting):
    return run(mixed(), 2.0, 0.1, setting, record=TIMES, engine="torch")


TIMES = np.array([0.0, 0.03, 0.05, 0.4, 1.01, 1.05, 2.0])


@KERNELS
@EVERY
def test_both_engines_go_the_same_way(engine, setting):
    known, made = by_torch(setting), run(mixed(), 2.0, 0.1, setting, record=TIMES, engine=engine)
    assert made.n_steps == known.n_steps == 20
    assert made.time.tolist() == TIMES.tolist()
    assert_close(made.final, known.final)
    assert_close(made, known)
    assert made.dt[1:] == pytest.approx(known.dt[1:], rel=1e-14)
    assert made.energy_error == pytest.approx(known.energy_error, rel=1e-6, abs=1e-14)
    assert np.abs(made.final.position - mixed().position).max() > 1
    ends = run(mixed(), 2.0, 0.1, setting, record="ends", engine=engine)
    corrections = 0 if setting == "plain" else 2 * 32  # at both ends
    assert ends.n_force_evaluations == 20 * (2 if setting == "lazy" else 1) + corrections


@pytest.mark.parametrize("n_bodies", [3, 4, 5, 6, 7, 8, 9, 17, 18, 20])
def test_steps_of_any_number_of_planets_are_those_of_arrays(n_bodies):
    """From 17 planets on there are not enough lanes for a system, whatever is asked for."""
    state = many(n_bodies - 1, G=0.8)
    engine = "compiled" if n_bodies > 17 else "any_number"
    for setting in ("plain", "lazy"):
        made = run(state, 0.5, 0.1, setting, engine=engine)
        assert_close(made.final, stepped(state, 0.1, 5, setting))


@pytest.mark.long
@pytest.mark.parametrize("n_bodies", [2, 3, 7, 9, 17])
def test_steps_in_the_lanes_are_those_of_any_number(n_bodies):
    """Of which each number is compiled on its own: of even and odd rings, full lanes and not."""
    state = many(n_bodies - 1, G=0.8)
    for setting in ("plain", "lazy"):
        one, other = (
            run(state, 10.0, 0.1, setting, engine=engine) for engine in ("compiled", "any_number")
        )
        assert_close(one.final, other.final)


@KERNELS
@pytest.mark.parametrize("order", [0, 17])
@pytest.mark.parametrize("start", [outer, four], ids=["outer", "random"])
def test_steps_are_those_of_whfast(start, order, engine):
    state, dt = start(), JUPITER if start is outer else 0.2
    assert np.array_equal(jacobi_order(state), [range(5)])
    sim = to_rebound(state)
    sim.integrator, sim.dt = "whfast", dt
    sim.integrator.corrector, sim.integrator.safe_mode = order, 0
    sim.steps(400)
    sim.synchronize()
    theirs = np.empty((5, 3))
    sim.serialize_particle_data(xyz=theirs)
    setting = "corrected" if order else "plain"
    ours = run(state, 400 * dt, dt, setting, engine=engine).final.position[0]
    right = exact(state, 400 * dt)[0]
    off, error = np.linalg.norm(ours - theirs, axis=1), np.linalg.norm(theirs - right, axis=1)
    size = np.linalg.norm(theirs, axis=1).max()
    assert off.max() < 1e-11 * size
    assert off.max() < 1e-3 * error.max()


# What it gets wrong


@KERNELS
@EVERY
def test_errors_shrink_with_the_step_as_the_setting_says(engine, setting):
    """With its square; those of lazy kicks, of which the square is taken away, with more."""
    state, t_end = outer(), 600.0
    right, steps = exact(state, t_end), {"plain": (100, 200), "corrected": (150, 300)}
    few, many = steps.get(setting, (120, 240))
    errors = [
        np.linalg.norm(run(state, t_end, t_end / n, setting, engine=engine).final.position - right)
        for n in (few, many)
    ]
    order = math.log2(errors[0] / errors[1])
    assert order > 2.7 if setting == "lazy" else order == pytest.approx(2, abs=0.3)


@pytest.mark.parametrize(("setting", "power"), [("plain", 1), ("corrected", 2)])
def test_errors_grow_with_the_masses_of_the_planets(setting, power):
    """The median of some systems, where the errors of one may cancel."""
    heavy, t_end = four(6, (1e-4, 1e-4), seed=3), 30.0
    light = heavy.replace(mass=heavy.mass * np.array([1, 0.1, 0.1, 0.1, 0.1]))
    errors = []
    for state in (light, heavy):
        right = state.replace(position=exact(state, t_end))
        off = apart(run(state, t_end, 0.25, setting).final) - apart(right)
        errors.append(np.linalg.norm(off, axis=2).max(axis=1))
    assert errors[0].min() > 1e-11
    assert math.log10(np.median(errors[1] / errors[0])) == pytest.approx(power, abs=0.2)


@KERNELS
@EVERY
def test_errors_of_the_energy_do_not_grow(engine, setting):
    """In 12 000 years; the median, as they oscillate."""
    made = run(outer(), 25_000 * JUPITER, setting=setting, record=50, engine=engine)
    early, late = made.energy_error[1:126], made.energy_error[-125:]
    assert np.median(late) < 2 * np.median(early) + 2e-15
    assert made.max_energy_error < {"plain": 5e-6, "corrected": 2e-9, "lazy": 5e-11}[setting]
    assert made.summary["max_momentum_error"] < 1e-13
    assert made.summary["max_angular_momentum_error"] < 1e-13


# Two bodies


@KERNELS
@EVERY
@pytest.mark.parametrize("mass_ratio", [0.5, 1e-3, 0.0])
def test_two_bodies_go_along_their_orbit_at_any_step(mass_ratio, setting, engine):
    """Each step rounds the energy off at the pericentre, and by that the phase.

    On 60 orbits drawn at random it was up to 6e-13. With a corrector there are 128 drifts more, the
    longest of three steps.
    """
    rounding = 1e-12 if setting == "plain" else 3e-12
    for e in (0.0, 0.5, 0.9, 0.99):
        state = two(eccentricity=e, mass_ratio=mass_ratio, phase=0.1)
        known = two(eccentricity=e, mass_ratio=mass_ratio, phase=0.1 + 10.3)
        for dt in (0.03, 0.37 * YEAR, 4 * YEAR):
            made = run(state, 10.3 * YEAR, dt, setting, engine=engine)
            off = np.linalg.norm(apart(made.final) - apart(known))
            assert off < rounding / (1 - e) ** 1.5, (e, dt)
            assert made.status is Status.SUCCESS


@KERNELS
@EVERY
def test_two_bodies_go_along_a_hyperbola(setting, engine):
    mu, position, velocity, _, _ = conics([1.0, 1.2, 5.0], [-0.7], [0.0])
    for k in range(3):
        zero = np.zeros(3)
        state = State.from_arrays([1.3, 0.0], [zero, position[k]], [zero, velocity[k]])
        after = drift(mu[k], position[k], velocity[k], np.array(30.0))
        made = run(state, 30.0, 0.7, setting, engine=engine)
        for one, other in zip((made.final.position, made.final.velocity), after, strict=True):
            assert one[0, 1] == pytest.approx(other, rel=1e-12, abs=1e-12)


# Bodies without mass


def crowd(n_clones=2):
    """A star, two planets and bodies without mass, of which some are at the same place."""
    size = [1.0, 3.0, 0.5, 1.8, 6.0, *[9.0] * n_clones]
    state = about_a_star([1e-3, 2e-3, *[0.0] * (3 + n_clones)], size, [0.05] * len(size))
    for values in (state.position, state.velocity):
        values[0, 6:] = values[0, 6]
    return state


@KERNELS
@EVERY
def test_a_body_without_mass_moves_nothing_and_goes_its_own_way(engine, setting):
    made = run(crowd(), 20.0, 0.1, setting, engine=engine)
    assert made.status is Status.SUCCESS
    assert made.final.position[0, 6] == pytest.approx(made.final.position[0, 7], abs=1e-12)
    massive = run(some_of(crowd(), [0, 1, 2]), 20.0, 0.1, setting, engine=engine)
    assert made.final.position[:, :3] == pytest.approx(massive.final.position, abs=1e-13)
    for k in range(3, 7):
        alone = run(some_of(crowd(), [0, 1, 2, k]), 20.0, 0.1, setting, engine="any_number")
        assert made.final.position[0, k] == pytest.approx(alone.final.position[0, 3], abs=1e-12)


@KERNELS
@EVERY
def test_planets_without_mass_keep_their_orbits(engine, setting):
    state = about_a_star([0.0] * 4, [1.0, 2.0, 2.0, 4.0], [0.3, 0.0, 0.9, 0.6])
    made = run(state, 40.0, 0.5, setting, engine=engine)
    known = drift(np.ones(4), state.position[0, 1:], state.velocity[0, 1:], np.full(4, 40.0))
    assert made.final.position[0, 1:] == pytest.approx(known[0], abs=5e-12)
    assert made.final.velocity[0, 1:] == pytest.approx(known[1], abs=5e-12)
    assert np.array_equal(made.final.position[0, 0], np.zeros(3))


# What physics must not depend on


@KERNELS
@EVERY
@pytest.mark.parametrize("name", OF_SPACE)
def test_runs_depend_on_no_frame_no_order_and_no_unit(name, setting, engine):
    change, factor = OF_SPACE[name]
    state, t_end, dt = four(), 20.0, 0.2
    one = run(state, t_end, dt, setting, engine=engine)
    other = run(change(state), t_end * factor, dt * factor, setting, engine=engine)
    assert other.n_steps == one.n_steps
    assert other.max_energy_error == pytest.approx(one.max_energy_error, rel=1e-5, abs=1e-14)
    # The frame's own motion takes digits, which is why places are relative to the star.
    star = int(np.argmax(other.final.mass))
    known, found = apart(change(one.final), star), apart(other.final, star)
    assert found == pytest.approx(known, abs=1e-12 * np.abs(known).max())


@KERNELS
@EVERY
def test_a_plane_is_a_part_of_space(engine, setting):
    flat, deep = (four(dimensions=d) for d in (2, 3))
    deep = deep.replace(
        **{
            name: np.pad(getattr(flat, name), ((0, 0), (0, 0), (0, 1)))
            for name in ("position", "velocity")
        }
    )
    made, known = (run(each, 20.0, 0.2, setting, engine=engine) for each in (flat, deep))
    assert made.final.position == pytest.approx(known.final.position[..., :2], abs=1e-13)
    assert np.array_equal(known.final.position[..., 2], np.zeros((1, 5)))
    assert made.max_energy_error == pytest.approx(known.max_energy_error, rel=1e-4, abs=1e-14)


@KERNELS
@EVERY
def test_out_and_back_is_the_start(engine, setting):
    for state in (mixed(), State.concatenate([mixed()] * 5)):
        out = run(state, 50.0, 0.11, setting, engine=engine).final
        back = out.replace(velocity=-out.velocity, time=0 * out.time)
        back = run(back, 50.0, 0.11, setting, engine=engine).final
        assert np.abs(out.position - state.position).max() > 1
        assert back.position == pytest.approx(state.position, abs=3e-12)
        assert back.velocity == pytest.approx(-state.velocity, abs=3e-12)


# Records


AT = {
    "every step": 1,
    "every third": 3,
    "all": None,
    "equal": np.linspace(0.0, 60.0, 13),
    "several within a step": np.array([0.5, 1.0, 2.0, 31.0, 31.5, 32.9, 59.0, 59.9]),
    "close": 15.0 + np.array([-1e-9, 0.0, 1e-12, 1e-9, 1e-4]),
    "start": np.array([0.0]),
    "end": np.array([60.0]),
    "many": np.sort(np.random.default_rng(1).uniform(0, 60.0, 300)),
}


@KERNELS
@EVERY
@pytest.mark.parametrize("name", AT)
def test_records_change_no_step_and_are_ends_of_a_part_of_one(name, setting, engine):
    ends, made = (
        run(outer(), 60.0, setting=setting, record=each, engine=engine)
        for each in ("ends", AT[name])
    )
    assert ends.time.tolist() == [0, 60]
    assert_same_end(ends, made)
    every = run(outer(), 60.0, setting=setting, record=1, engine=engine)
    assert every.time == pytest.approx(np.arange(0, 61, 3), abs=1e-13)
    if not isinstance(AT[name], np.ndarray):
        some = every.time[:: AT[name] or 1]
        some = some if some[-1] == 60 else [*some, 60.0]
        assert made.time.tolist() == list(some)
    else:
        assert made.time.tolist() == AT[name].tolist()
    picked = range(0, len(made.time), max(1, len(made.time) // 12))
    for k in picked:
        before = min(int(made.time[k] / JUPITER + 1e-6), 19)
        begun = outer().replace(
            position=every.position[[before]], velocity=every.velocity[[before]]
        )
        at = stepped(begun, made.time[k] - every.time[before], 1, setting)
        assert made.position[k] == pytest.approx(at.position[0], abs=1e-12 * 30)
        assert made.velocity[k] == pytest.approx(at.velocity[0], abs=1e-12)


def test_errors_at_a_record_are_those_of_what_is_recorded():
    made = run(outer(), 60.0, record=AT["many"])
    states = State.concatenate([outer()] * 300)
    states = states.replace(position=made.position, velocity=made.velocity)
    energy = gravity.energy(states)
    known = np.abs(energy / gravity.energy(outer()) - 1)
    assert known.max() > 1e-7
    assert made.energy_error == pytest.approx(known, abs=1e-13)
    assert made.max_energy_error >= made.energy_error.max()


# Turns, ends, and going on


@pytest.fixture
def many_turns(monkeypatch):
    """Small chunks, and an engine that looks around every step or two."""
    monkeypatch.setattr(storage, "CHUNK_BYTES", 1)
    monkeypatch.setattr(compiled_engine, "FIRST_PAIRS", 1)
    monkeypatch.setattr(compiled_engine, "TURN", 0.0)


def batch_of(n_systems):
    """Systems of steps, and ends, of their own."""
    k = np.arange(n_systems)
    return four(n_systems), 5.0 + 0.37 * k, 0.1 + 0.03 * (k % 4)


RECORDS = [1, 3, None, "ends", np.linspace(0, 5.0, 17)]


@pytest.mark.parametrize("n_systems", [1, 2, 10])
@pytest.mark.parametrize("setting", ["plain", "lazy"])
@pytest.mark.parametrize("record", RECORDS, ids=str)
def test_a_run_in_many_turns_is_that_in_one(many_turns, monkeypatch, record, setting, n_systems):
    state, t_end, dt = batch_of(n_systems)
    turned = run(state, t_end, dt, setting, record=record)
    monkeypatch.undo()
    assert_same(turned, run(state, t_end, dt, setting, record=record))


@KERNELS
def test_records_that_share_a_step_have_room_one_by_one(many_turns, monkeypatch, engine):
    times = np.r_[15 + np.array([-1e-9, 0, 1e-10, 2e-10]), 60 - np.array([1e-9, 5e-10, 1e-10, 0])]
    turned = run(outer(), 60.0, record=times, engine=engine)
    monkeypatch.undo()
    whole = run(outer(), 60.0, record=times, engine=engine)
    assert turned.time.tolist() == whole.time.tolist() == times.tolist()
    assert turned.position == pytest.approx(whole.position, abs=1e-12)
    assert_same_end(turned, whole)


def after(n):
    """Stop at the n-th time of asking."""
    calls = itertools.count(1)
    return lambda: next(calls) >= n


@pytest.mark.parametrize("n_systems", [1, 5])
@pytest.mark.parametrize("setting", ["plain", "lazy"])
@pytest.mark.parametrize("record", RECORDS, ids=str)
@ENDS_EARLY
def test_interruptions_leave_no_trace(many_turns, record, setting, n_systems, tmp_path):
    state, t_end, dt = batch_of(n_systems)
    path, scheme = tmp_path / "run.zarr", WisdomHolman(setting)
    run(state, t_end, dt, setting, record=record, path=path, stop=after(3))
    simulate(resume=path, integrator=scheme, stop=after(2))
    made = simulate(resume=path, integrator=scheme)
    assert (made.summary["status"] == Status.SUCCESS).all()
    assert_same(made, run(state, t_end, dt, setting, record=record))


@pytest.mark.parametrize("n_systems", [1, 5])
@pytest.mark.parametrize("record", ["ends", 3, np.linspace(0, 5.0, 17)], ids=str)
@ENDS_EARLY
def test_an_interrupted_run_ends_where_its_steps_have_led(many_turns, record, n_systems):
    state, t_end, dt = batch_of(n_systems)
    made = run(state, t_end, dt, "corrected", record=record, stop=after(5))
    assert (made.summary["status"] == Status.INTERRUPTED).all()
    for k in range(n_systems):
        step = t_end[k] / math.ceil(t_end[k] / dt[k])
        n_steps = int(made.summary["n_steps"][k])
        assert n_steps > 3
        assert made.final.time[k] == pytest.approx(n_steps * step, rel=1e-14)
        alone = run(state.select([k]), t_end[k], dt[k], "corrected", record=1)
        assert made.final.position[k] == pytest.approx(alone.position[0, n_steps], abs=1e-12)


@KERNELS
@ENDS_EARLY
@pytest.mark.parametrize("record", RECORDS[:-1], ids=str)
def test_a_later_end_is_gone_on_to(engine, record, tmp_path):
    """At which the steps are as they were, if they are as many as it takes."""
    path, given = tmp_path / "run.zarr", {"record": record, "engine": engine}
    run(outer(), 30.0, path=path, **given)
    made = simulate(resume=path, integrator=WisdomHolman("plain"), t_end=60.0)
    assert_same(
        made, run(outer(), 60.0, **given), but=("body_error", "max_body_error", "worst_body")
    )


@KERNELS
@ENDS_EARLY
def test_more_steps_are_gone_on_to(engine, tmp_path):
    path, given = tmp_path / "run.zarr", {"setting": "lazy", "record": 1, "engine": engine}
    made = run(outer(), 60.0, path=path, max_steps=7, **given)
    assert (made.status, made.n_steps, made.final.time) == (Status.MAX_STEPS, 7, 21.0)
    whole = run(outer(), 60.0, **given)
    assert np.array_equal(made.position, whole.position[:8])
    made = simulate(resume=path, integrator=WisdomHolman("lazy"), max_steps=100)
    assert_same(made, whole)


def test_an_integrator_with_a_setting_is_given_again(tmp_path):
    path = tmp_path / "run.zarr"
    run(outer(), 30.0, path=path)
    with pytest.raises(InputError, match="give it again, by integrator="):
        simulate(resume=path)
    with pytest.raises(InputError, match="was begun with integrator"):
        simulate(resume=path, integrator=WisdomHolman("lazy"))
    path = tmp_path / "own.zarr"
    made = simulate(outer(), 30.0, integrator="wisdom_holman", path=path)
    assert_same(simulate(resume=path), made)


@KERNELS
@ENDS_EARLY
def test_a_run_without_an_end_stops_at_its_last_step(engine):
    made = run(outer(), math.inf, max_steps=1500, engine=engine)
    assert (made.status, made.n_steps) == (Status.MAX_STEPS, 1500)
    assert made.final.time == 4500
    assert_same_end(made, run(outer(), 6000.0, max_steps=1500, engine=engine))
    own = simulate(outer(), math.inf, integrator="wisdom_holman", max_steps=10, engine=engine)
    assert (own.status, own.n_steps) == (Status.MAX_STEPS, 10)


@KERNELS
@EVERY
@pytest.mark.parametrize(("t_end", "n_steps"), [(1e-9, 1), (2.9, 1), (3.1, 2), (61.7, 21)])
def test_the_end_is_reached_exactly_by_whole_steps(t_end, n_steps, setting, engine):
    made = run(outer(), t_end, setting=setting, engine=engine)
    assert (made.final.time, made.n_steps, made.status) == (t_end, n_steps, Status.SUCCESS)
    known = stepped(outer(), t_end / n_steps, n_steps, setting)
    assert_close(made.final, known)


@KERNELS
def test_a_whole_number_of_steps_is_not_one_more(engine):
    """Whatever rounding makes of it."""
    for n_steps in (3, 7, 49, 1000):
        assert run(outer(), 0.1 * n_steps, 0.1, engine=engine).n_steps == n_steps


@KERNELS
def test_time_may_begin_late_and_before_zero(engine):
    for begin in (-7.3, 1e6):
        begun = outer().replace(time=np.array([begin]))
        made = run(begun, begin + 30, record=[begin, begin + 4.5, begin + 30], engine=engine)
        assert made.final.time == begin + 30
        known = run(outer(), 30.0, record=[0, 4.5, 30.0], engine=engine)
        assert_close(made, known)
        # A step that is shorter than times are apart, where they are so large.
        assert run(begun, begin + 1e-6, 1e-10, engine=engine).status is Status.SUCCESS


def test_a_long_run_ends_though_times_are_rounded():
    """By more than a billionth of a step."""
    begin, t_end, n_steps = 0.06471895115742501, 1.6153851114812539, 9_603_561
    dt = (t_end - begin) / n_steps
    assert abs(begin + n_steps * dt - t_end) > 1e-9 * dt
    state = two(mass_ratio=1e-3).replace(time=np.array([begin]))
    made = run(state, t_end, dt)
    assert (made.status, made.n_steps, made.final.time) == (Status.SUCCESS, n_steps, t_end)


@ENDS_EARLY
def test_steps_beyond_number_end_with_a_status():
    made = run(outer(), 1.0, 1e-30, max_steps=300)
    assert (made.status, made.n_steps) == (Status.MAX_STEPS, 300)
    assert made.final.time == pytest.approx(3e-28)


# Batches


@EVERY
def test_a_batch_is_made_of_its_systems(setting):
    state, t_end, dt = batch_of(20)
    t_end[3] = 50.0  # goes on alone when the others of its group have ended
    times = np.array([0.0, 1.0, 1.01, 4.9])
    alone = [
        run(state.select([k]), t_end[k], dt[k], setting, record=times, engine="compiled")
        for k in range(20)
    ]
    assert len({int(each.n_steps[0]) for each in alone}) > 10
    whole = run(state, t_end, dt, setting, record=times)
    for n in range(1, 21):
        some = state.select(range(n))
        made = run(some, t_end[:n], dt[:n], setting, record=times)
        assert made.final.time.tolist() == t_end[:n].tolist()
        for k in range(n):
            assert made.summary["n_steps"][k] == alone[k].n_steps
            assert made.final.position[k] == pytest.approx(alone[k].final.position[0], abs=1e-12)
            assert made.position[k] == pytest.approx(alone[k].position[0], abs=1e-12)
        if n > 4:  # side by side
            assert np.array_equal(made.final.position, whole.final.position[:n])
            assert np.array_equal(made.position, whole.position[:n])


def test_tensors_and_batches_of_one_come_back_as_they_are():
    made = run(outer().to("cpu"), 30.0)
    assert is_tensor(made.final.position)
    one = State.concatenate([outer()])
    assert run(one, 30.0).position.shape == run(one, 30.0, engine="torch").position.shape


# What fails


def falling():
    """A planet at rest that falls onto its star, and another one."""
    place = [[0, 0, 0], [1.0, 0, 0], [0, 3.0, 0]]
    return State.from_arrays([1.0, 1e-4, 1e-4], place, [[0, 0, 0], [0, 0, 0], [0.55, 0, 0]])


def outcome(*given, **options):
    """Status, or what is refused."""
    try:
        return simulate(*given, integrator="wisdom_holman", max_steps=3000, **options).status
    except InputError:
        return "refused"


@pytest.mark.parametrize("policy", [None, FixedStep(0.05), FixedStep(math.pi / math.sqrt(2) / 4)])
@KERNELS
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_fall_from_rest_ends(engine, policy):
    ends = outcome(falling(), 20.0, policy, engine=engine)
    assert ends in ("refused", Status.SUCCESS, Status.NON_FINITE, Status.DT_UNDERFLOW)


@KERNELS
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_planet_falls_through_its_star(engine):
    """The limit of orbits of e = 1: it is back after a period, which takes no step to see."""
    state = some_of(falling(), [0, 1])
    period = YEAR * math.sqrt(0.5**3 / 1.0001)
    made = run(state, 3 * period, 0.17, engine=engine)
    assert made.status is Status.SUCCESS
    assert apart(made.final) == pytest.approx(apart(state), abs=1e-6)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("n_systems", [1, 3, 9])
def test_a_system_that_fails_fails_alone(n_systems):
    """Of which a planet is so quick that the square of its speed is no number."""
    state = four(n_systems)
    state.velocity[0, 2] = 1e200
    made = run(state, 5.0, 0.1)
    statuses = np.atleast_1d(made.summary["status"])
    assert statuses.tolist() == [Status.NON_FINITE] + [Status.SUCCESS] * (n_systems - 1)
    for k in range(1, n_systems):
        alone = run(state.select([k]), 5.0, 0.1)
        assert made.final.position[k] == pytest.approx(alone.final.position[0], abs=1e-12)


def softened():
    return outer().replace(softening=0.1)


REFUSED = {
    "policy is 'boekholt'.*leave the policy out, or give nb.FixedStep": {
        "policy": Criterion("boekholt", 0.1)
    },
    "policy is 'untrained'.*leave the policy out, or give nb.FixedStep": {"policy": "untrained"},
    "policy is '<function.*leave the policy out": {"policy": lambda state, tolerance: 0.1},
    "'wisdom_holman' can't run in the time of a clock.*leave the clock out": {
        "clock": "regularised"
    },
    "stepping is 'reversible'.*leave stepping out": {"stepping": "reversible"},
    "guard is True.*leave guard out": {"guard": True},
    "softening is 0.1.*set it to 0": {"state": softened()},
    "field.*leave it out": {"state": outer().replace(field=TidalField(1.0, (99.0, 0.0, 0.0)))},
    "has 0.417 of its mass.*use another integrator": {"state": scenarios.make("pythagorean")},
    "dt has shape": {"policy": FixedStep([0.1, 0.2])},
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_can_not_be_is_refused_with_a_remedy(words):
    given = {"state": outer(), "t_end": 1.0, "policy": None, "integrator": "wisdom_holman"}
    given |= REFUSED[words]
    for refuses in (simulate, check):
        if refuses is check and "shape" in words:
            continue  # which is seen when the steps are made
        with pytest.raises(InputError, match=words):
            refuses(**given)


# Which engine it is


def test_few_systems_are_in_the_lanes_and_many_side_by_side(monkeypatch):
    taken = []
    go = planetary_engine.planetary.run
    monkeypatch.setattr(
        planetary_engine.planetary,
        "run",
        lambda shape, *rest: taken.append(type(shape).__name__) or go(shape, *rest),
    )

    def kind(*given, **options):
        taken.clear()
        run(*given, **options)
        return set(taken)

    assert kind(four(4), 1.0, 0.1) == {"tuple"}
    assert kind(four(5), 1.0, 0.1) == {"Many"}
    assert kind(four(9), 1.0, 0.1) == {"Many"}
    for n_systems, n_bodies, pays in ((2, 2, True), (10, 8, False), (16, 8, True), (10, 5, True)):
        assert planetary_engine._pays_side_by_side(n_systems, n_bodies) is pays
    assert kind(many(17), 1.0, 0.1) == {"Many"}
    assert kind(four(), 1.0, 0.1, engine="any_number") == {"Many"}


def test_a_run_tells_of_itself():
    made = simulate(outer(), 30.0, integrator="wisdom_holman", record="ends")
    assert (made.integrator, made.about["engine"]) == ("wisdom_holman", "compiled")
    assert "Wisdom & Holman (1991)" in made.cite()
    assert made.max_energy_error < 1e-6
    other = run(outer(), 30.0, engine="any_number")
    assert other.about["engine"] == "any_number"


def test_its_loop_is_kept_on_disk():
    assert compiled_engine.CACHE.keeps(planetary_engine.planetary.run)
