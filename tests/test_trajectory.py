import dataclasses
import signal
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import xarray
import zarr

from nbcore.analysis.diagnostics import metrics
from nbcore.errors import InputError
from nbcore.physics import gravity, scenarios
from nbcore.physics.fields import TidalField
from nbcore.simulation import storage as module
from nbcore.simulation.simulate import simulate
from nbcore.simulation.status import Status
from nbcore.simulation.storage import RECORDED, SUMMARY
from nbcore.simulation.trajectory import Trajectory
from nbcore.stepping.policies import Criterion, FixedStep

RULE = Criterion("boekholt", 0.1)
SMALLEST_CHUNK = 16  # rows


@pytest.fixture
def tiny_chunks(monkeypatch):
    monkeypatch.setattr(module, "CHUNK_BYTES", 1)


def single(**options):
    return simulate(
        scenarios.make("kepler", eccentricity=0.5), 3.0, Criterion("boekholt", 0.04), **options
    )


def batch(**options):
    state = scenarios.make("few_body", n_systems=3, seed=1, softening=0.01, G=1.5)
    return simulate(state, [0.5, 1.0, 1.5], RULE, **options)


def assert_same(one, other):
    for name in RECORDED:
        assert np.array_equal(getattr(one, name), getattr(other, name), equal_nan=True), name
    for name in SUMMARY:
        assert np.array_equal(one.summary[name], other.summary[name], equal_nan=True), name
    for name in ("mass", "position", "velocity", "time", "work"):
        assert np.array_equal(getattr(one.final, name), getattr(other.final, name)), name
    for name in ("G", "softening", "field", "batched"):
        assert getattr(one.final, name) == getattr(other.final, name), name
    for name in ("integrator", "policy", "stepping"):
        assert getattr(one, name) == getattr(other, name)
    assert np.array_equal(one.tolerance, other.tolerance)


# Storage


@pytest.mark.parametrize("make", [single, batch])
def test_what_is_saved_is_loaded(make, tmp_path):
    run = make()
    path = run.save(tmp_path / "deep" / "run.zarr")
    assert path == tmp_path / "deep" / "run.zarr"
    assert_same(Trajectory.load(path), run)
    assert [p.name for p in path.parent.iterdir()] == ["run.zarr"]


@pytest.mark.parametrize("make", [single, batch])
@pytest.mark.parametrize(
    "record", [None, 3, "ends", np.linspace(0.0, 0.5, 20)], ids=["every", "third", "ends", "times"]
)
@pytest.mark.usefixtures("tiny_chunks")
def test_streaming_writes_what_memory_holds(make, record, tmp_path):
    path = tmp_path / "run.zarr"
    streamed, kept = make(record=record, path=path), make(record=record)
    assert_same(streamed, kept)
    assert_same(Trajectory.load(path), kept)


@pytest.mark.usefixtures("tiny_chunks")
def test_a_run_of_many_chunks_is_saved_chunk_by_chunk(tmp_path):
    run = single()
    assert run.n_steps > 4 * SMALLEST_CHUNK
    assert_same(Trajectory.load(run.save(tmp_path / "run.zarr")), run)
    chunks = zarr.open_group(tmp_path / "run.zarr", mode="r")["position"].chunks
    assert chunks == (1, SMALLEST_CHUNK, 2, 2)


def test_the_work_of_a_moving_field_is_kept(tmp_path):
    field = TidalField(5.0, (4.0, 3.0), (-1.0, 0.4))
    run = simulate(scenarios.make("kepler", field=field), 2.0, FixedStep(0.1))
    final = Trajectory.load(run.save(tmp_path / "run.zarr")).final
    assert abs(final.work.item()) > 1e-3
    assert final.field == field
    assert gravity.energy(final).item() == gravity.energy(run.final).item()


def test_records_are_read_when_they_are_asked_for(tmp_path):
    loaded = Trajectory.load(batch().save(tmp_path / "run.zarr"))
    assert all(isinstance(values, zarr.Array) for values in loaded.arrays.values())
    assert isinstance(loaded.position, np.ndarray)


def test_a_loaded_trajectory_can_be_saved_again(tmp_path):
    run = batch()
    once = Trajectory.load(run.save(tmp_path / "once.zarr"))
    assert_same(Trajectory.load(once.save(tmp_path / "again.zarr")), run)


@pytest.mark.parametrize("make", [single, batch])
def test_xarray_opens_it_with_names_for_its_dimensions(make, tmp_path):
    run = make()
    data = xarray.open_zarr(run.save(tmp_path / "run.zarr"), consolidated=False)
    assert data.position.dims == ("system", "record", "body", "axis")
    assert data.energy_error.dims == ("system", "record")
    assert data.mass.dims == ("system", "body")
    assert data.n_steps.dims == ("system",)
    width = int(run.n_records.max())
    expected = np.asarray(run.arrays["position"])[:, :width]
    assert np.array_equal(data.position.values, expected, equal_nan=True)


def test_to_xarray_holds_the_same_names():
    run = batch()
    data = run.to_xarray()
    assert dict(data.sizes) == {"system": 3, "record": run.n_records.max(), "body": 3, "axis": 2}
    assert data.attrs == {
        "G": 1.5,
        "integrator": "suzuki4",
        "policy": "boekholt",
        "stepping": "plain",
        "engine": "compiled",
        "scenario": "few_body",
    }
    assert np.array_equal(data.velocity.values, run.velocity, equal_nan=True)
    assert data.max_energy_error.values.tolist() == run.max_energy_error.tolist()


# What can't be written or read


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_nothing_is_overwritten(kind, tmp_path):
    path = tmp_path / "there"
    path.mkdir() if kind == "folder" else path.write_text("precious")
    with pytest.raises(InputError, match="there' exists already"):
        single(path=path)
    with pytest.raises(InputError, match="there' exists already"):
        single().save(path)
    assert kind == "folder" or path.read_text() == "precious"


def test_a_missing_trajectory_is_an_error(tmp_path):
    with pytest.raises(InputError, match=r"there is no trajectory at .*nowhere"):
        Trajectory.load(tmp_path / "nowhere")
    (tmp_path / "file").write_text("text")
    (tmp_path / "folder").mkdir()
    for name in ("file", "folder"):
        with pytest.raises(InputError, match=f"there is no trajectory at .*{name}"):
            Trajectory.load(tmp_path / name)


def test_something_else_in_zarr_is_an_error(tmp_path):
    zarr.create_group(tmp_path / "group")
    zarr.create_array(tmp_path / "array", shape=(3,), dtype="float64")
    for name in ("group", "array"):
        with pytest.raises(InputError, match=f"{name}' is not a trajectory|no trajectory at"):
            Trajectory.load(tmp_path / name)


def test_another_version_is_an_error(tmp_path):
    path = single().save(tmp_path / "run.zarr")
    zarr.open_group(path).attrs["nbcore_trajectory"] = 99
    with pytest.raises(InputError, match=r"not a trajectory of version 3 \(it says 99\)"):
        Trajectory.load(path)


# Runs that were cut off

KILLED = """
import os, signal, sys
from nbcore.physics import scenarios
from nbcore.simulation import storage
from nbcore.simulation.simulate import simulate

storage.CHUNK_BYTES = 1
calls = iter(range(10**6))

def rule(state, tolerance):
    if next(calls) == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    return 0.01

simulate(scenarios.make("few_body", n_systems=2, seed=1), 10.0, rule, path=sys.argv[1])
"""


def killed(path, call):
    done = subprocess.run([sys.executable, "-c", KILLED, str(path), str(call)], check=False)
    assert done.returncode == -signal.SIGKILL


@pytest.mark.long
def test_a_killed_run_leaves_every_complete_chunk(tmp_path):
    path = tmp_path / "run.zarr"
    killed(path, 50)  # after 50 steps and the start, 51 records
    run = Trajectory.load(path)
    rows = 51 // SMALLEST_CHUNK * SMALLEST_CHUNK
    state = scenarios.make("few_body", n_systems=2, seed=1)
    whole = simulate(state, 1.0, FixedStep(0.01))
    assert run.n_records.tolist() == [rows, rows]
    assert np.array_equal(run.time, whole.time[:, :rows])
    assert run.position == pytest.approx(whole.position[:, :rows], abs=1e-12)
    assert run.status.tolist() == [Status.INTERRUPTED] * 2
    assert run.final.time.tolist() == run.time[:, -1].tolist()
    assert np.isnan(run.max_energy_error).all()
    # It can be looked at, stored, and gone on from.
    assert run.system(0).status is Status.INTERRUPTED
    assert Trajectory.load(run.save(tmp_path / "saved.zarr")).n_records.tolist() == [rows, rows]
    assert simulate(run.final, 1.0, FixedStep(0.01)).status.tolist() == [Status.SUCCESS] * 2


@pytest.mark.long
def test_a_run_killed_before_its_first_chunk_says_so(tmp_path):
    path = tmp_path / "run.zarr"
    killed(path, 5)
    with pytest.raises(InputError, match="cut off before its first chunk"):
        Trajectory.load(path)


@pytest.mark.parametrize("write", ["create_array", "update_attributes"])
def test_who_reads_while_it_is_written_finds_complete_records_or_is_told(
    write, tmp_path, monkeypatch
):
    path, made, found = tmp_path / "run", getattr(zarr.Group, write), []

    def then_read(group, *args, **options):
        result = made(group, *args, **options)
        try:
            found.append(int(Trajectory.load(path).n_records.min()))
        except InputError:
            found.append(0)
        return result

    monkeypatch.setattr(module, "CHUNK_BYTES", 1)
    monkeypatch.setattr(zarr.Group, write, then_read)
    whole = simulate(scenarios.make("kepler"), 1.0, FixedStep(0.01), path=path)
    assert found == sorted(found)
    assert found[0] == 0
    assert found[-1] > 0.8 * whole.n_records.min()


@pytest.mark.usefixtures("tiny_chunks")
def test_a_run_killed_while_it_writes_a_chunk_loads_up_to_the_one_before(tmp_path, monkeypatch):
    path = tmp_path / "run.zarr"
    append, calls = module.Store.append, []

    def halfway(store, block):
        calls.append(block)
        if len(calls) == 3:
            half = dict(list(block.items())[:4])
            store.arrays = {name: store.arrays[name] for name in half}
            attributes = store.group.attrs
            store.group = dataclasses.make_dataclass("Detached", ["attrs"])(dict(attributes))
            append(store, half)
            raise MemoryError
        append(store, block)

    monkeypatch.setattr(module.Store, "append", halfway)
    with pytest.raises(MemoryError):
        single(path=path)
    assert Trajectory.load(path).n_records.tolist() == [2 * SMALLEST_CHUNK]


def peak_memory(n_steps, path):
    state = scenarios.make("few_body", n_systems=256, seed=1, softening=0.1)
    tracemalloc.start()
    simulate(state, 1.0, FixedStep(1 / n_steps), integrator="leapfrog", path=path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


@pytest.mark.long
@pytest.mark.usefixtures("tiny_chunks")
def test_memory_does_not_grow_with_a_streamed_run(tmp_path):
    peak_memory(50, tmp_path / "warm")
    short, long = (peak_memory(n, tmp_path / str(n)) for n in (40, 400))
    # 256 systems of 3 bodies in 2 dimensions, and 17 numbers a record.
    records = 8 * 17 * 256 * 360
    assert long - short < 0.05 * records


# One system of many


def test_a_system_of_a_batch_comes_without_its_padding():
    run = batch()
    shortest = int(run.n_records.argmin())
    one = run.system(shortest)
    assert run.n_records.min() < run.n_records.max()
    assert one.position.shape == (run.n_records[shortest], 3, 2)
    assert np.isfinite(one.position).all()
    assert np.isnan(run.position[shortest, run.n_records[shortest] :]).all()
    assert one.n_steps == run.n_steps[shortest]
    assert one.tolerance == 1e-6
    assert one.final.batched is False
    assert np.array_equal(one.final.position[0], run.final.position[shortest])
    assert_same(run.system(shortest - 3), one)


@pytest.mark.parametrize("index", [3, -4])
def test_a_system_that_is_not_there_is_an_error(index):
    with pytest.raises(InputError, match=f"system {index} is not among the 3 systems"):
        batch().system(index)


def test_a_status_reads_as_its_name():
    assert str(Status.DT_UNDERFLOW) == "DT_UNDERFLOW"
    assert str(single().status) == "SUCCESS"
    assert Status(batch().status[0]).name == "SUCCESS"
    # Zero is good, so that any() asks whether one failed.
    assert Status.SUCCESS == 0


def test_a_run_that_can_not_begin_leaves_nothing_at_its_path(tmp_path):
    path = tmp_path / "run.zarr"
    needs_softening = Criterion("softened_acceleration", 0.1)
    with pytest.raises(InputError, match="softening > 0"):
        simulate(scenarios.make("pythagorean"), 1.0, needs_softening, path=path)
    assert not path.exists()
    assert simulate(scenarios.make("pythagorean"), 0.1, RULE, path=path).status is Status.SUCCESS


def test_a_trajectory_says_in_a_line_what_it_is():
    assert repr(single()).count("\n") == 0
    assert "boekholt" in repr(single())


@pytest.mark.parametrize("stored", [False, True])
def test_some_records_of_one_system_are_taken_from_memory_or_disk(stored, tmp_path):
    run = batch(path=tmp_path / "run.zarr") if stored else batch()
    whole, chosen = run.system(1), np.array([0, 2, 5])
    some = run.take(chosen, 1)
    assert not some.batched
    for name in RECORDED:
        np.testing.assert_array_equal(getattr(some, name), getattr(whole, name)[chosen])
    assert some.n_steps == whole.n_steps
    with pytest.raises(InputError, match="system 9 is not among the 3"):
        run.take(chosen, 9)


def of_errors(energy, body, tolerance=1e-6):
    """A run of a batch with these largest errors."""
    orbits = scenarios.make("few_body", n_systems=len(energy))
    run = simulate(orbits, 0.01, FixedStep(0.01), tolerance=tolerance, record="ends")
    run.summary |= {"max_energy_error": np.array(energy), "max_body_error": np.array(body)}
    return run


def test_a_tolerance_is_neither_kept_nor_missed_where_an_error_is_unknown():
    nan = np.nan
    run = of_errors([1e-6, 1e-6, 1e-4, 1e-6, 1e-4, nan], [1e-6, 1e-4, 1e-6, nan, nan, 1e-6])
    assert run.kept_tolerance.tolist() == [True, False, False, None, False, None]
    assert [run.system(k).kept_tolerance for k in range(6)] == run.kept_tolerance.tolist()
    assert [k for k in range(6) if run.system(k).worst_body is None] == [3, 4]
    assert not np.all(run.kept_tolerance)
    assert "kept_tolerance" not in metrics(run)
    known = of_errors([1e-6, 1e-4], [1e-6, 1e-6])
    assert known.kept_tolerance.dtype == bool
    assert metrics(known)["kept_tolerance"] == 0.5


def test_of_a_run_that_made_no_step_it_is_unknown_whether_it_kept_its_tolerance():
    with pytest.warns(RuntimeWarning, match="DT_UNDERFLOW"):
        run = simulate("figure_eight", 1.0, lambda state, tolerance: -0.1)
    assert (run.n_steps, run.kept_tolerance) == (0, None)
