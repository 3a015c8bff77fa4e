import os
import signal
import subprocess
import sys
import threading
from collections import namedtuple

import numba
import numpy as np
import pytest
import torch
from numba import njit
from numba.core.errors import TypingError

from nbcore.errors import InputError
from nbcore.physics import scenarios
from nbcore.physics.fields import TidalField
from nbcore.physics.integrators import INTEGRATORS, Hermite, Splitting
from nbcore.simulation import compiled_engine
from nbcore.simulation.kernels import forces
from nbcore.simulation.kernels import general as of_states
from nbcore.simulation.kernels import learned as of_pairs
from nbcore.simulation.kernels.general import KNOWN
from nbcore.simulation.simulate import simulate
from nbcore.simulation.status import Status
from nbcore.simulation.trajectory import Trajectory
from nbcore.stepping.criteria import CRITERIA
from nbcore.stepping.features import FEATURES, SCALE_FREE
from nbcore.stepping.models import ACTIVATIONS
from nbcore.stepping.policies import (
    Criterion,
    Crowd,
    FixedStep,
    LearnedPolicy,
    PolicySpec,
    trainable,
)

RULE = Criterion("boekholt", 0.1)
SIX, X = (1.0,) * 6, np.arange(1.0, 10.0).reshape(3, 3) ** 2
SUMS = ((SIX, SIX, SIX[:4]), SIX[:4])  # of pairs, as `weigh` takes them
MXVA = (X[0], X, X, X)


def few(n_systems=3, n_bodies=3, softening=0.0, **kind):
    state = scenarios.make("few_body", n_systems=n_systems, n_bodies=n_bodies, seed=1, **kind)
    return state.replace(softening=softening)


def both(state, t_end, policy, **options):
    """The same run by both engines, too short for encounters to amplify the rounding of 1e-16."""
    return [simulate(state, t_end, policy, engine=e, **options) for e in ("torch", "compiled")]


def assert_same(torch_run, compiled_run):
    assert compiled_run.n_steps.tolist() == torch_run.n_steps.tolist()
    assert compiled_run.n_force_evaluations.tolist() == torch_run.n_force_evaluations.tolist()
    assert compiled_run.status.tolist() == torch_run.status.tolist()
    for name in ("position", "velocity", "time", "dt"):
        there, here = getattr(torch_run, name), getattr(compiled_run, name)
        np.testing.assert_allclose(here, there, rtol=1e-12, atol=1e-13)
    for name in ("energy_error", "momentum_error", "angular_momentum_error"):
        there, here = getattr(torch_run, name), getattr(compiled_run, name)
        np.testing.assert_allclose(here, there, rtol=1e-9, atol=1e-13)
    for k in range(3):
        name = ("energy", "momentum", "angular_momentum")[k]
        there, here = (getattr(run, f"max_{name}_error") for run in (torch_run, compiled_run))
        np.testing.assert_allclose(here, there, rtol=1e-9, atol=1e-13)


def same_records(a, b):
    return all(
        np.array_equal(getattr(a, name), getattr(b, name), equal_nan=True)
        for name in ("time", "dt", "position", "velocity", "energy_error")
    )


# Parity with torch


COMPILED = {k: row for k, row in INTEGRATORS.items() if isinstance(row, (Splitting, Hermite))}
WAYS = [(name, "plain") for name in COMPILED]
WAYS += [(name, "reversible") for name, row in COMPILED.items() if row.reversible]


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize(("integrator", "stepping"), WAYS)
@pytest.mark.filterwarnings("ignore:.*MAX_STEPS")
def test_every_criterion_and_integrator_agrees_with_torch(integrator, criterion, stepping):
    softening = 0.05 if criterion == "softened_acceleration" else 0.0
    # the one of the criteria whose dt goes as √η
    eta = 0.01**2 if softening else 0.01
    state, policy = few(softening=softening), Criterion(criterion, eta)
    options = {"integrator": integrator, "stepping": stepping}
    assert_same(*both(state, 100.0, policy, max_steps=100, **options))


@pytest.mark.parametrize("stepping", ["plain", "reversible"])
@pytest.mark.parametrize("kind", [{"dimensions": 2}, {"n_bodies": 2}, {"n_bodies": 9}])
@pytest.mark.parametrize("softening", [0.0, 0.1])
@pytest.mark.filterwarnings("ignore:.*MAX_STEPS")
def test_other_dimensions_and_numbers_of_bodies_agree_with_torch(kind, softening, stepping):
    state = few(softening=softening, **kind)
    for criterion in ("boekholt", "tidal", "aarseth85"):
        policy = Criterion(criterion, 0.01)
        assert_same(*both(state, 100.0, policy, max_steps=50, stepping=stepping))


def learned(seed=0, **spec):
    """A policy that corrects by something; in float64, so that rounding is that of the engines."""
    torch.manual_seed(seed)
    policy = trainable(PolicySpec(precision="float64", **spec))
    for layer in policy.network.layers:
        if isinstance(layer, torch.nn.Linear):
            torch.nn.init.normal_(layer.weight, 0.0, 0.3)
            torch.nn.init.normal_(layer.bias, 0.0, 0.3)
    policy.network.mean.normal_()
    policy.network.deviation.uniform_(0.5, 2.0)
    return policy


@pytest.mark.parametrize("stepping", ["plain", "reversible"])
@pytest.mark.parametrize("shape", [{"dimensions": 2}, {"n_bodies": 2}, {"n_bodies": 9}])
@pytest.mark.parametrize(
    "spec",
    [
        *({"activation": name} for name in ACTIVATIONS),
        *({"features": (name,)} for name in SCALE_FREE if name in KNOWN),
        {"hidden": ()},
        {"hidden": (3, 40, 5), "predict_error": True},
        {"largest_correction": 1.1},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:.*MAX_STEPS")
def test_learned_policies_agree_with_torch(spec, shape, stepping):
    tolerance = [1e-12, 1e-10, 1e-9]
    options = {"stepping": stepping, "tolerance": tolerance, "max_steps": 50}
    assert_same(*both(few(**shape), 100.0, learned(**spec), **options))


@pytest.mark.filterwarnings("ignore:.*MAX_STEPS")
def test_a_network_in_single_precision_agrees_to_single_precision():
    policy = learned()
    policy.network.layers.float()
    torch_run, compiled_run = both(few(), 100.0, policy, tolerance=1e-10, max_steps=50)
    # a few roundings of 6e-8 in the logarithm of the step
    np.testing.assert_allclose(compiled_run.dt, torch_run.dt, rtol=2e-6)


@pytest.mark.parametrize("shape", [{"dimensions": 2}, {"n_bodies": 20, "dimensions": 3}], ids=str)
@pytest.mark.parametrize(
    "spec",
    [
        {"features": ("basic", "virial")},
        {"features": ("rich", "rms_separation"), "normalisation": "automatic"},
        {"features": ("scale_free", "delta_mag"), "history": 3},
        {
            "features": ("delta_mag",),
            "history": 2,
            "history_padding": "oldest",
            "normalisation": "manual",
            "velocity_scale": 2.0,
        },
        {"fourier_features": 4, "fourier_scale": 0.1},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:.*MAX_STEPS")
def test_statistics_history_and_fourier_features_agree_with_torch(spec, shape):
    state = few(**shape).replace(softening=0.05)
    assert_same(*both(state, 100.0, learned(**spec), tolerance=1e-10, max_steps=50))


@pytest.mark.filterwarnings("ignore:.*MAX_STEPS")
def test_the_networks_of_a_crowd_step_their_shares_as_in_torch():
    networks = [learned(seed).network for seed in range(3)]
    for network in networks[1:]:
        network.mean.copy_(networks[0].mean)
        network.deviation.copy_(networks[0].deviation)
    crowd = Crowd(learned(), networks)
    torch_run, compiled_run = both(few(), 100.0, crowd, tolerance=1e-10, max_steps=50)
    assert_same(torch_run, compiled_run)
    assert len(set(torch_run.final.time.tolist())) == 3


@pytest.mark.filterwarnings("ignore:.*MAX_STEPS")
def test_every_feature_that_is_known_here_is_the_one_of_that_name_in_torch():
    assert KNOWN[0] == "log_tolerance"
    assert set(KNOWN[1:]) <= set(FEATURES)
    policy = learned(features=KNOWN[1:])
    assert_same(*both(few().replace(softening=0.05), 100.0, policy, tolerance=1e-10, max_steps=5))


@pytest.mark.parametrize(
    ("module", "kind", "function", "arguments"),
    [
        (of_pairs, "Seen", "weigh", ((0, 0), 3, 0.0, *[1.0] * 3, SUMS)),
        (of_states, "Described", "describe", ((0,) * 3, (0,) * 2, X[0], *MXVA, 0.1)),
    ],
    ids=["of pairs", "statistics"],
)
def test_a_name_without_a_number_does_not_compile(module, kind, function, arguments, monkeypatch):
    law = getattr(module, function).py_func
    found = njit(law)(*arguments)
    fields = getattr(module, kind)._fields
    assert fields in (getattr(found, "_fields", ()), getattr(found[-1], "_fields", ()))
    monkeypatch.setattr(module, kind, namedtuple(kind, [*fields, "of_mine"]))
    with pytest.raises((TypingError, TypeError), match="of_mine"):
        njit(law)(*arguments)


def test_a_feature_that_is_not_known_here_runs_in_torch_by_itself(monkeypatch):
    def tenth(measures):
        return 0.1 * measures.pairs.r2.mean(axis=1)

    monkeypatch.setitem(FEATURES, "tenth", tenth)
    policy = learned(features=("pairs", "tenth"))
    options = {"tolerance": 1e-6, "max_steps": 3}
    with pytest.warns(RuntimeWarning, match="MAX_STEPS"):
        assert simulate(few(), 1.0, policy, **options).about["engine"] == "torch"
    with pytest.raises(InputError, match=r"does not take the feature 'tenth'; use engine='torch'"):
        simulate(few(), 1.0, policy, engine="compiled", **options)


class MyCriterion(Criterion):
    """Half the step of the criterion."""

    def __call__(self, state, tolerance, memory=None):
        return 0.5 * super().__call__(state, tolerance, memory)


class MyPolicy(LearnedPolicy):
    """Half the step of the learned one."""

    def __call__(self, state, tolerance, memory=None):
        return 0.5 * super().__call__(state, tolerance, memory)


class MyTide(TidalField):
    """Its own force."""


@pytest.mark.parametrize(
    ("policy", "field", "told"),
    [
        (MyCriterion("boekholt", 0.1), None, "the policy 'boekholt'"),
        (MyPolicy(PolicySpec()), None, "the policy 'untrained'"),
        (RULE, MyTide(1.0, (30.0, 0.0)), "the field 'MyTide'"),
    ],
    ids=["criterion", "learned", "field"],
)
def test_what_is_derived_from_a_known_class_is_not_taken_for_it(policy, field, told):
    state = few().replace(field=field)
    assert simulate(state, 0.01, policy, tolerance=1e-3).about["engine"] == "torch"
    with pytest.raises(InputError, match=told):
        simulate(state, 0.01, policy, engine="compiled")


@pytest.mark.parametrize("criterion", ["boekholt", "aarseth85", "tidal"])
def test_hermite_refuses_the_work_of_a_moving_field(criterion):
    state, policy = few(dimensions=3).replace(field=MOVING), Criterion(criterion, 0.01)
    with pytest.raises(InputError, match="work of a moving field"):
        simulate(state, 100.0, policy, engine="compiled", integrator="hermite4")


@pytest.mark.filterwarnings("ignore:.*MAX_STEPS")
def test_what_is_derived_from_a_learned_policy_steps_by_its_own_law():
    mine, theirs = (
        simulate(few(), 1.0, kind(PolicySpec()), tolerance=1e-8, engine="torch", max_steps=1)
        for kind in (MyPolicy, LearnedPolicy)
    )
    np.testing.assert_allclose(mine.dt[:, 1], 0.5 * theirs.dt[:, 1], rtol=1e-12)


STILL = TidalField(mass=5.0, position=(4.0, -3.0))
MOVING = TidalField(mass=5.0, position=(4.0, -3.0, 2.0), velocity=(-0.3, 0.2, 0.1))


# Each integrator, each criterion and each field: not each with each, as every loop is compiled.
@pytest.mark.parametrize(
    ("integrator", "criterion", "field", "dimensions"),
    [
        ("suzuki4", "boekholt", STILL, 2),
        ("suzuki4", "boekholt", MOVING, 3),
        ("suzuki4", "aarseth85", STILL, 2),
        ("suzuki4", "tidal", MOVING, 3),
        ("hermite4", "aarseth85", STILL, 2),
        ("hermite4", "tidal", STILL, 2),
    ],
)
@pytest.mark.filterwarnings("ignore:.*MAX_STEPS")
def test_a_tidal_field_agrees_with_torch(integrator, criterion, field, dimensions):
    state = few(dimensions=dimensions).replace(field=field)
    policy, options = Criterion(criterion, 0.01), {"max_steps": 60, "integrator": integrator}
    torch_run, compiled_run = both(state, 100.0, policy, **options)
    assert_same(torch_run, compiled_run)
    np.testing.assert_allclose(
        compiled_run.final.work, torch_run.final.work, rtol=1e-12, atol=1e-14
    )


@pytest.mark.filterwarnings("ignore:.*MAX_STEPS")
def test_cores_that_share_a_system_find_what_one_core_finds():
    state = scenarios.make("plummer", n_bodies=forces.SHARED, seed=1)
    options = {"max_steps": 3, "record": "ends"}
    torch_run, together = both(state, 1.0, FixedStep(1e-3), **options)
    np.testing.assert_allclose(together.position, torch_run.position, rtol=1e-12, atol=1e-14)
    cores = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        alone = simulate(state, 1.0, FixedStep(1e-3), engine="compiled", **options)
    finally:
        numba.set_num_threads(cores)
    assert same_records(alone, together)


@pytest.mark.parametrize("n_bodies", [3, 9])
def test_a_body_without_mass_feels_and_does_not_act(n_bodies):
    state = few(n_bodies=n_bodies)
    mass = state.mass.copy()
    mass[:, 1] = 0.0
    torch_run, compiled_run = both(state.replace(mass=mass), 0.1, RULE)
    assert_same(torch_run, compiled_run)


@pytest.mark.parametrize("record", [None, 1, 7, "ends", np.linspace(0, 0.1, 23), [0.02, 0.07]])
@pytest.mark.parametrize("stepping", ["plain", "reversible"])
def test_records_agree_with_torch(record, stepping):
    assert_same(*both(few(), 0.1, RULE, record=record, stepping=stepping))


def test_every_system_has_its_own_end_step_and_eta():
    ends, number = [0.1, 0.3, 0.2], [0.01, 0.02, 0.05]
    for policy in (FixedStep(number), Criterion("boekholt", number)):
        torch_run, compiled_run = both(few(), ends, policy)
        assert_same(torch_run, compiled_run)
        assert np.array_equal(compiled_run.final.time, ends)


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"max_steps": 5}, Status.MAX_STEPS),
        ({"collision_distance": 0.5}, Status.COLLISION),
        ({"escape_distance": 1.1}, Status.ESCAPE),
    ],
)
@pytest.mark.filterwarnings("ignore:.*did not reach")
def test_statuses_agree_with_torch(options, status):
    torch_run, compiled_run = both(few(8), 0.2, RULE, **options)
    assert status in compiled_run.status
    assert_same(torch_run, compiled_run)


@pytest.mark.filterwarnings("ignore:.*did not reach")
def test_a_step_that_underflows_or_fails_ends_its_system_alone():
    state = few(3)
    velocity = state.velocity.copy()
    velocity[2, 0] = 1e306  # overflows within the step
    torch_run, compiled_run = both(
        state.replace(velocity=velocity, time=state.time + 1.0),
        1e4,
        FixedStep([1e-3, 1e-30, 1e3]),
        max_steps=4,
    )
    expected = [Status.MAX_STEPS, Status.DT_UNDERFLOW, Status.NON_FINITE]
    assert compiled_run.status.tolist() == torch_run.status.tolist() == expected
    assert np.array_equal(compiled_run.final.position[2], state.position[2])


# What must not change a step


@pytest.mark.parametrize("record", [3, "ends", np.linspace(0, 0.9, 7)])
def test_the_choice_of_records_changes_no_step(record):
    every, chosen = (
        simulate(few(), 1.0, RULE, record=r, engine="compiled") for r in (None, record)
    )
    assert np.array_equal(every.final.position, chosen.final.position)
    assert every.n_steps.tolist() == chosen.n_steps.tolist()
    assert every.max_energy_error.tolist() == chosen.max_energy_error.tolist()


@pytest.mark.parametrize("turn", [0.0, 1e-4, 1.0])
def test_the_length_of_a_turn_changes_nothing(monkeypatch, turn):
    expected = simulate(few(), 1.0, RULE, engine="compiled")
    monkeypatch.setattr(compiled_engine, "TURN", turn)
    assert same_records(simulate(few(), 1.0, RULE, engine="compiled"), expected)


@pytest.mark.parametrize("record", [None, np.linspace(0, 2.9, 50)])
def test_the_size_of_a_chunk_and_the_disk_change_nothing(monkeypatch, tmp_path, record):
    # members of very different lengths, so that some have ended when the rows of others are stored
    def run(**options):
        ends = np.linspace(0.1, 3.0, 5) if record is None else 3.0
        return simulate(few(5), ends, RULE, engine="compiled", record=record, **options)

    expected = run()
    monkeypatch.setattr("nbcore.simulation.storage.CHUNK_BYTES", 1)
    here, stored = run(), run(path=tmp_path / "run")
    assert same_records(here, expected)
    assert same_records(stored, expected)
    assert same_records(Trajectory.load(tmp_path / "run"), expected)


def test_the_number_of_cores_changes_nothing():
    cores = numba.get_num_threads()
    together = simulate(few(16), 1.0, RULE, engine="compiled")
    numba.set_num_threads(1)
    try:
        alone = simulate(few(16), 1.0, RULE, engine="compiled")
    finally:
        numba.set_num_threads(cores)
    assert same_records(alone, together)


def test_a_batch_runs_as_its_members_do():
    batch = simulate(few(4), 0.5, RULE, engine="compiled")
    for k in range(4):
        alone = simulate(few(4).select([k]), 0.5, RULE, engine="compiled")
        assert np.array_equal(alone.final.position[0], batch.final.position[k])


# Which engine


def test_auto_takes_the_compiled_engine_where_it_can():
    state = few()
    assert simulate(state, 0.01, RULE).about["engine"] == "compiled"
    assert simulate(state, 0.01, lambda s, t: 0.01 + 0 * s.time).about["engine"] == "torch"


def test_what_the_engine_can_not_do_is_named():
    def rule(state, tolerance):
        return 0.01 + 0 * state.time

    with pytest.raises(InputError, match=r"compiled engine does not take .*rule.*engine='torch'"):
        simulate(few(), 0.01, rule, engine="compiled")


# Interrupts

ENDLESS = """
import warnings; warnings.simplefilter("ignore")
import nbcore as nb
state = nb.scenarios.make("few_body", n_systems=2, seed=1)
print("starts", flush=True)
run = nb.simulate(state, 1e9, nb.Criterion("boekholt", 1e-3), path={path!r}, engine="compiled")
print(run.status.tolist(), flush=True)
"""


def test_control_c_ends_a_run_and_keeps_what_was_recorded(tmp_path):
    code = ENDLESS.format(path=str(tmp_path / "run"))
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env={**os.environ}
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "starts\n"
    # the first chunk on disk shows that the loop runs
    records = tmp_path / "run" / "position" / "c"
    stop = threading.Event()
    while not records.exists() and process.poll() is None:
        stop.wait(0.05)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate()
    assert out == f"[{Status.INTERRUPTED:d}, {Status.INTERRUPTED:d}]\n"
    run = Trajectory.load(tmp_path / "run")
    assert run.n_records.tolist() == (run.summary["n_steps"] + 1).tolist()
    np.testing.assert_array_equal(run.system(0).position[-1], run.final.position[0])


# Without numba

WITHOUT_NUMBA = """
import sys, warnings; warnings.simplefilter("ignore")
import numpy as np
import nbcore as nb
from nbcore.physics.integrators import INTEGRATORS, Hermite, Splitting
from nbcore.stepping.criteria import CRITERIA

policies = {name: nb.Criterion(name, 1e-4 if name == "softened_acceleration" else 0.01)
            for name in CRITERIA}
spec = {"precision": "float64", "tolerance": 1e-8}
more = {"features": ("rich", "delta_mag"), "history": 2, "fourier_features": 3}
policies["learned"] = nb.LearnedPolicy(nb.PolicySpec(precision="float64"))
policies["general"] = nb.LearnedPolicy(nb.PolicySpec(precision="float64", **more))
worst = 0.0
for n, d in ((3, 2), (5, 3), (20, 3)):
    state = nb.scenarios.make("few_body", n_systems=2, n_bodies=n, dimensions=d, seed=1)
    state = state.replace(softening=0.01)
    runs = [(policy, "suzuki4") for policy in policies.values()]
    runs += [(nb.FixedStep(1e-3), name) for name, row in INTEGRATORS.items()
             if isinstance(row, (Splitting, Hermite))]
    for field in (None, nb.TidalField(2.0, (3.0,) * d)):
        for policy, integrator in runs[:: 1 if field is None else 4]:
            ends = [nb.simulate(state.replace(field=field), 100.0, policy, engine=engine,
                                integrator=integrator, tolerance=1e-8, max_steps=10,
                                record=[1e-4]).final for engine in ("compiled", "torch")]
            worst = max(worst, np.abs(ends[0].position - ends[1].position).max())
print(worst)
"""


@pytest.mark.long
def test_without_numba_the_loop_does_the_same():
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_NUMBA], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 1e-12
