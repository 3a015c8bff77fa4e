"""What shows only after many steps: drift, reversibility, and runs that are cut off."""

import errno
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

from nbcore.errors import InputError
from nbcore.physics import scenarios
from nbcore.physics.orbits import two_body_period
from nbcore.simulation import storage
from nbcore.simulation.simulate import simulate
from nbcore.simulation.status import Status
from nbcore.simulation.trajectory import Trajectory
from nbcore.stepping.policies import Criterion, FixedStep

RULE = Criterion("boekholt", 0.02)


def eccentric(e=0.9):
    state = scenarios.make("kepler", eccentricity=e)
    return state, float(two_body_period(state))


def out_and_back(stepping):
    """Distance from the start after 100 orbits, all velocities reversed, and 100 orbits back."""
    state, period = eccentric()
    options = {"stepping": stepping, "record": "ends", "engine": "compiled"}
    out = simulate(state, 100 * period, RULE, **options).final
    turned = out.replace(velocity=-out.velocity, time=state.time)
    back = simulate(turned, 100 * period, RULE, **options).final
    return float((back.position - state.position).abs().max())


def test_reversible_steps_lead_back_to_the_start_and_plain_ones_do_not():
    assert out_and_back("reversible") < 1e-9
    assert out_and_back("plain") > 1e-6


@pytest.mark.long
def test_the_energy_error_of_a_million_reversible_steps_has_no_trend():
    state, period = eccentric()
    steps = len(simulate(state, 10 * period, RULE, stepping="reversible").time) // 10
    orbits = 1_000_000 // steps
    run = simulate(
        state,
        orbits * period,
        RULE,
        stepping="reversible",
        record=np.arange(1, orbits) * period,  # at the same phase of every orbit
    )
    assert run.n_steps > 900_000
    from_start, to_end = np.array_split(run.energy_error, 2)
    # What changes from half to half is less than the scatter within an orbit by far.
    assert abs(from_start.mean() - to_end.mean()) < 1e-3 * run.max_energy_error


@pytest.mark.long
def test_rounding_does_not_add_up_over_ten_million_evaluations():
    """Compensated sums keep the energy where bare ones walk off by 3e-13."""
    state, period = eccentric(0.1)
    run = simulate(
        state, 600 * period, FixedStep(period / 1000), integrator="kahan_li8", record="ends"
    )
    assert run.max_energy_error < 5e-15


ENDLESS = """
import warnings; warnings.simplefilter("ignore")
import nbcore as nb
state = nb.scenarios.make("few_body", n_systems=2, seed=1)
nb.simulate(state, 1e9, nb.Criterion("boekholt", 1e-3), path={path!r}, engine="compiled")
"""


@pytest.mark.long
def test_a_killed_run_opens_up_to_its_last_complete_chunk(tmp_path):
    path = tmp_path / "run"
    process = subprocess.Popen([sys.executable, "-c", ENDLESS.format(path=str(path))])
    wait = threading.Event()
    while not (path / "position" / "c" / "0" / "1").exists() and process.poll() is None:
        wait.wait(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    run = Trajectory.load(path)
    assert set(run.status) == {Status.INTERRUPTED}
    assert run.n_records.min() > 0
    first = run.system(0)
    assert np.isfinite(first.position).all()
    assert (np.diff(first.time) > 0).all()


def test_a_full_disk_is_named_and_what_was_stored_opens(monkeypatch, tmp_path):
    append, calls = storage.Store.append, []

    def fills_up(store, block):
        calls.append(len(calls))
        if len(calls) > 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        append(store, block)

    monkeypatch.setattr(storage, "CHUNK_BYTES", 1)  # of 16 records
    monkeypatch.setattr(storage.Store, "append", fills_up)
    state, period = eccentric()
    with pytest.raises(InputError, match=r"No space left .* first 32 records .* Trajectory.load"):
        simulate(state, period, RULE, path=tmp_path / "run", engine="compiled")
    kept = Trajectory.load(tmp_path / "run")
    assert len(kept.time) == 32
    assert kept.status == Status.INTERRUPTED
