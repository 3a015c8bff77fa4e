"""Massless and light bodies: their orbits are right, and massless ones don't see each other."""

import numpy as np
import pytest

from nbcore.analysis import peers
from nbcore.physics import scenarios
from nbcore.physics.orbits import orbit
from nbcore.physics.state import State
from nbcore.simulation.simulate import simulate
from nbcore.simulation.status import Status
from nbcore.stepping.criteria import CRITERIA
from nbcore.stepping.policies import Criterion, FixedStep, untrained

INTEGRATORS = ["blanes_moan4", "blanes_moan6", "hermite4"]


def swarm(count, heavy=1e-3, seed=0):
    """A star with a giant planet, and massless bodies in between, in a plane, shuffled."""
    rng = np.random.default_rng(seed)
    a, e, phase, where = rng.uniform((0.3, 0, 0, 0), (0.6, 0.2, 1, 360), (count, 4)).T
    near, far = orbit(1.0, a, e, phase, 0.0, where), orbit(1 + heavy, 1.0, 0.0, 0.0)
    vectors = [
        np.concatenate([np.zeros((1, 2)), p[None, :2], s[:, :2]])
        for s, p in zip(near, far, strict=True)
    ]
    mass, order = np.array([1, heavy, *np.zeros(count)]), rng.permutation(count + 2)
    return State.from_arrays(mass[order], vectors[0][order], vectors[1][order])


def flown_by(mass, distance, velocity, turn):
    """A massless body that passes a planet (mass) at t = 1.5, and where both are right at t = 3."""
    place = np.array([np.cos(turn), np.sin(turn)])
    along = np.array([-place[1], place[0]])
    x = np.array([0 * place, place, (1 + distance) * place])
    v = np.array([0 * along, along, velocity[0] * along + velocity[1] * place])
    ends = []
    for way in (-1, 1):
        # From the encounter, where steps are short, to either side.
        state = State.from_arrays([1, mass, 0], x, way * v)
        ends.append(peers.PEERS["ias15 prs23"].prepare(state, 1.5, 1e-9).measure(100_000))
    before, after = ends
    start = State.from_arrays([1, mass, 0], before.position, -before.velocity)
    return start, after.position[2]


@pytest.mark.parametrize("turn", [0.3, 1.9, 4.1])
@pytest.mark.parametrize(
    ("mass", "distance", "velocity", "most"),
    [
        (3e-6, 1e-3, (-1.2, 0.3), 10),  # retrograde, past an Earth
        (3e-6, 1e-3, (1.1, 0.5), 1000),  # of which the encounter makes 200 times what it was
        (1e-3, 1e-2, (-1.0, 0.5), 300),  # past a Jupiter
        (1e-8, 1e-4, (1.02, 0.08), 1000),
    ],
)
@pytest.mark.parametrize("tolerance", [1e-4, 1e-6])
def test_a_body_that_passes_a_planet_fast_is_not_stepped_over(
    mass, distance, velocity, most, turn, tolerance
):
    start, right = flown_by(mass, distance, velocity, turn)
    run = simulate(start, 3.0, tolerance=tolerance, record="ends")
    assert np.linalg.norm(run.final.position[0, 2] - right) < most * tolerance


def opposite():
    """Two massless bodies on one circle, in opposite senses: they meet every half turn."""
    return State.from_arrays([1, 0, 0], [[0, 0], [1, 0], [1, 0]], [[0, 0], [0, 1], [0, -1]])


RULES = [None, *sorted(set(CRITERIA) - {"softened_acceleration"})]
# The laws are the same in both engines, and each takes a loop of its own: so a few are compiled.
COMPILED = [(rule, "compiled") for rule in (None, "aarseth85", "boekholt")]


@pytest.mark.parametrize(("policy", "engine"), [*((rule, "torch") for rule in RULES), *COMPILED])
def test_massless_bodies_pass_through_each_other(policy, engine):
    options = {"engine": engine, "max_steps": 3000}
    if policy is not None:
        options |= {"integrator": "blanes_moan4", "policy": Criterion(policy, 0.05)}
    run = simulate(opposite(), 2 * np.pi, **options)
    assert run.status is Status.SUCCESS
    np.testing.assert_allclose(run.position[-1], run.position[0], atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(run.position[:, 1:], axis=-1), 1, atol=1e-4)


@pytest.mark.parametrize("engine", ["compiled", "torch"])
def test_clones_at_one_place_move_as_one(engine):
    one, two = ([1, 0.1, *[0] * n] for n in (1, 9))
    x, v = [[0, 0], [1, 0], [0.3, 0.1]], [[0, 0], [0, 1], [0.1, 1.7]]
    alone = simulate(State.from_arrays(one, x, v), 5.0, tolerance=1e-6, engine=engine)
    clones = State.from_arrays(two, x + 8 * x[2:], v + 8 * v[2:])
    together = simulate(clones, 5.0, tolerance=1e-6, engine=engine)
    assert together.status is Status.SUCCESS
    assert (together.position[:, 2:] == together.position[:, 2:3]).all()
    assert together.max_body_error < 1e-4
    assert alone.max_body_error < 1e-4


@pytest.mark.parametrize("count", [3, 20])
@pytest.mark.parametrize("integrator", INTEGRATORS)
def test_a_swarm_moves_as_each_of_it_would_alone(integrator, count):
    state = swarm(count)
    run = simulate(state, 2.0, FixedStep(0.01), integrator=integrator)
    heavy = state.mass[0] > 0
    for body in np.flatnonzero(~heavy)[:4]:
        few = heavy.copy()
        few[body] = True
        one = State.from_arrays(state.mass[0, few], state.position[0, few], state.velocity[0, few])
        alone = simulate(one, 2.0, FixedStep(0.01), integrator=integrator)
        np.testing.assert_allclose(run.position[:, few], alone.position, atol=1e-12)
        np.testing.assert_allclose(run.body_error[:, few], alone.body_error, rtol=1e-4, atol=1e-13)


@pytest.mark.parametrize("policy", ["learned", "boekholt", "free_fall", "aarseth85", "tidal"])
def test_both_engines_step_a_swarm_alike(policy):
    state = swarm(6)
    chosen = untrained("blanes_moan4") if policy == "learned" else Criterion(policy, 0.05)
    runs = [
        simulate(state, 1.0, chosen, integrator="blanes_moan4", engine=engine, max_steps=200)
        for engine in ("compiled", "torch")
    ]
    assert runs[0].n_steps == runs[1].n_steps
    np.testing.assert_allclose(runs[0].dt, runs[1].dt, rtol=1e-9)
    np.testing.assert_allclose(runs[0].position, runs[1].position, atol=1e-10)


def test_numbers_of_massless_bodies_may_differ_within_a_batch():
    batch = State.concatenate([swarm(6, seed=k) for k in range(2)])
    mass = batch.mass.copy()
    mass[1, np.flatnonzero(mass[1] == 0)[0]] = 1e-9
    batch = batch.replace(mass=mass)
    runs = [simulate(batch, 1.0, FixedStep(0.01), engine=e) for e in ("compiled", "torch")]
    np.testing.assert_allclose(runs[0].position, runs[1].position, atol=1e-12)
    np.testing.assert_allclose(runs[0].body_error, runs[1].body_error, rtol=1e-4, atol=1e-13)


@pytest.mark.parametrize("mass_ratio", [1e-3, 1e-6, 1e-9, 1e-12, 0.0])
@pytest.mark.parametrize("integrator", ["blanes_moan4", "blanes_moan6"])
def test_the_law_steps_alike_down_to_no_mass(integrator, mass_ratio):
    policy = untrained(integrator, stepping="reversible")
    runs = [
        simulate(
            scenarios.make("kepler", eccentricity=0.7, mass_ratio=ratio),
            20 * np.pi,
            policy,
            integrator=integrator,
            tolerance=1e-5,
            record="ends",
        )
        for ratio in (1e-2, mass_ratio)
    ]
    # The pair's own energy, which counts beside that of the system, is all that a massless one has.
    assert 0.75 < runs[1].n_steps / runs[0].n_steps < 1.1
    assert runs[1].max_body_error < 1e-4
    assert runs[0].max_body_error < 1e-4


ECCENTRICITIES = [0.0, 0.3, 0.5, 0.7, 0.9, 0.97, 0.99]


@pytest.mark.parametrize("tolerance", [1e-4, 1e-6, 1e-8, 1e-10])
@pytest.mark.parametrize("eccentricity", ECCENTRICITIES)
def test_a_massless_body_comes_back_to_its_start(eccentricity, tolerance):
    state = scenarios.make("kepler", mass_ratio=0.0, eccentricity=eccentricity)
    run = simulate(state, 20 * np.pi, tolerance=tolerance, record="ends")
    assert np.linalg.norm(run.position[-1, 1] - run.position[0, 1]) < 100 * tolerance
    assert run.kept_tolerance


@pytest.mark.parametrize("engine", ["compiled", "torch"])
def test_a_star_at_rest_with_massless_bodies_has_finite_errors(engine):
    state = scenarios.make("kepler", mass_ratio=0.0, eccentricity=0.5)
    run = simulate(state, 60.0, engine=engine)
    assert run.status is Status.SUCCESS
    assert (run.energy_error == 0).all()
    assert 0 < run.max_body_error < 1e-5
    back = np.linalg.norm(run.position[:, 1], axis=1)
    assert back.max() == pytest.approx(1.5, abs=1e-4)


def test_a_thousand_massless_bodies_keep_their_jacobi_constants():
    state = swarm(1000, heavy=1e-3)
    run = simulate(state, 2 * np.pi, tolerance=1e-6, record="ends")
    assert run.status is Status.SUCCESS
    assert run.max_body_error < 1e-5
    mass, star, planet = run.mass, int(run.mass.argmax()), int(np.argsort(run.mass)[-2])

    def jacobi(k):
        share = mass[:, None] / mass.sum()
        x, v = (u - (share * u).sum(axis=0) for u in (run.position[k], run.velocity[k]))
        spin = np.sqrt(1 + 1e-3)
        potential = -sum(
            mass[j] / np.linalg.norm(x - x[j], axis=1)[mass == 0] for j in (star, planet)
        )
        x, v = x[mass == 0], v[mass == 0]
        spun = x[:, 0] * v[:, 1] - x[:, 1] * v[:, 0]
        return (v * v).sum(axis=1) / 2 + potential - spin * spun

    np.testing.assert_allclose(jacobi(-1), jacobi(0), rtol=1e-5)
