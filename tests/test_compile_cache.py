"""Compiled code that is kept: what it depends on, and what it does not."""

import os
import shutil
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import numba
import pytest
from filelock import FileLock, Timeout
from numba.core import event
from numba.core.caching import IndexDataCacheFile
from typer.testing import CliRunner

import nbcore
from nbcore.runs.cli import app
from nbcore.simulation import compile_cache, compiled_engine
from nbcore.simulation.compile_cache import CompileCache, what_is_compiled
from nbcore.stepping import control

KEY = "from nbcore.simulation.compiled_engine import CACHE; print(CACHE.folder.name)"


@pytest.fixture
def copy(tmp_path):
    """A copy of the package, and the key that it has."""
    target = tmp_path / "copy/nbcore"
    shutil.copytree(Path(nbcore.__file__).parent, target, ignore=shutil.ignore_patterns("__pyc*"))

    def key():
        env = {**os.environ, "PYTHONPATH": str(target.parent), "XDG_CACHE_HOME": str(tmp_path)}
        made = subprocess.run(
            [sys.executable, "-c", KEY], cwd=tmp_path, env=env, capture_output=True, text=True
        )
        assert made.returncode == 0, made.stderr
        return made.stdout.strip()

    return target, key


def edited(path, before, after):
    text = path.read_text()
    assert text.count(before) >= 1
    path.write_text(text.replace(before, after))


@pytest.mark.long
def test_what_is_never_compiled_does_not_drop_what_was(copy):
    package, key = copy
    assert key() == compiled_engine.CACHE.folder.name
    edited(package / "simulation/kernels/loop.py", '"""The loop: one', '"""THE loop: one')
    edited(package / "physics/pair_law.py", '"""1/r³ from r²."""', '"""One over r³."""  # a remark')
    edited(
        package / "stepping/features.py",
        "def state_features(",
        "UNUSED = 1\n\n\ndef state_features(",
    )
    assert key() == compiled_engine.CACHE.folder.name


@pytest.mark.long
@pytest.mark.parametrize(
    ("file", "before", "after"),
    [
        ("physics/pair_law.py", "return -inverse_root(r2)", "return -2 * inverse_root(r2)"),
        ("simulation/kernels/loop.py", "n_steps += 1", "n_steps += 2"),
        ("simulation/kernels/planetary.py", "TOUCHED = 1e-12", "TOUCHED = 1e-11"),
        ("stepping/layers.py", "LARGEST_INPUT = 8.0", "LARGEST_INPUT = 9.0"),
        ("simulation/status.py", "NON_FINITE = 4", "NON_FINITE = 14"),
        (
            "stepping/criteria.py",
            '    "free_fall": of_pairs(free_fall),\n    "huayno": of_pairs(huayno),\n',
            '    "huayno": of_pairs(huayno),\n    "free_fall": of_pairs(free_fall),\n',
        ),
    ],
)
def test_what_is_compiled_drops_what_was_before(copy, file, before, after):
    package, key = copy
    edited(package / file, before, after)
    assert key() != compiled_engine.CACHE.folder.name


def test_a_constant_of_a_law_is_part_of_the_key(monkeypatch):
    before = what_is_compiled()
    monkeypatch.setattr(control, "ROUNDING", 1e-9)
    assert what_is_compiled() != before
    monkeypatch.undo()
    assert what_is_compiled() == before


def compilations(function, *arguments):
    with event.install_recorder("numba:compile") as seen:
        answer = function(*arguments)
    return len(seen.buffer), answer


def twice(x):
    return 2 * x


def test_what_was_compiled_is_loaded_by_the_next_process(tmp_path):
    for first in (True, False):
        function = numba.njit(twice)
        CompileCache(tmp_path).keep(function)
        made, answer = compilations(function, 2.0)
        assert answer == 4.0
        assert (made > 0) == first
    assert CompileCache(tmp_path).usage().kernels == 1


def compiled_for(folder, value):
    """Cache of a function that was compiled before it, and what is to be saved there."""
    function = numba.njit(twice)
    function(value)
    CompileCache(folder).keep(function)
    ((signature, result),) = function.overloads.items()
    return partial(function._cache.save_overload, signature, result)


def test_two_that_compile_at_once_lose_nothing(tmp_path, monkeypatch):
    """The second comes when the first has read the index and not yet added to it."""
    one, other = compiled_for(tmp_path, 2.0), compiled_for(tmp_path, 2)
    second, came = threading.Thread(target=other), threading.Event()
    load = IndexDataCacheFile._load_index

    class Told(FileLock):
        def acquire(self, *arguments, **named):
            try:
                return super().acquire(timeout=0)
            except Timeout:
                came.set()
                return super().acquire(*arguments, **named)

    def load_index(file):
        found = load(file)
        if threading.current_thread() is second:
            came.set()
        else:
            second.start()
            assert came.wait(300)  # until it has read the same index, or waits for the lock
        return found

    monkeypatch.setattr(compile_cache, "FileLock", Told)
    monkeypatch.setattr(IndexDataCacheFile, "_load_index", load_index)
    one()
    second.join(60)
    monkeypatch.undo()
    third = numba.njit(twice)
    CompileCache(tmp_path).keep(third)
    assert compilations(third, 2)[0] == compilations(third, 2.0)[0] == 0


def test_a_folder_that_nobody_used_for_long_goes_and_others_stay(tmp_path, monkeypatch):
    for name in ("engine-old", "engine-new", "mine"):
        (tmp_path / name).mkdir()
    os.utime(tmp_path / "engine-old", (0, 0))
    os.utime(tmp_path / "mine", (0, 0))
    CompileCache(tmp_path).keep(numba.njit(twice))
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"engine-new", "mine", "keys", CompileCache(tmp_path).folder.name}


def test_a_folder_that_is_in_use_stays_however_old_it_is(tmp_path):
    cache, another = CompileCache(tmp_path), CompileCache(tmp_path)
    another.folder = tmp_path / "engine-another"
    cache.folder.mkdir(exist_ok=True)
    kept = cache.folder / "kept.nbc"
    kept.write_text("")
    os.utime(cache.folder, (0, 0))
    for each in (cache, another):
        each.keep(numba.njit(twice))
    assert kept.exists()


def test_a_folder_that_can_t_be_written_is_told_and_the_function_still_works(tmp_path):
    (tmp_path / "file").write_text("")
    function = numba.njit(twice)
    with pytest.warns(RuntimeWarning, match="set XDG_CACHE_HOME"):
        CompileCache(tmp_path / "file").keep(function)
    assert function(1.0) == 2.0


def test_the_command_shows_the_cache_and_drops_it(tmp_path, monkeypatch):
    cache = CompileCache(tmp_path)
    function = numba.njit(twice)
    cache.keep(function)
    function(1.0)
    monkeypatch.setattr(compiled_engine, "CACHE", cache)
    shown = CliRunner().invoke(app, ["cache"])
    assert shown.exit_code == 0
    assert str(cache.folder) in shown.stdout
    assert "1 compiled loops" in shown.stdout
    assert CliRunner().invoke(app, ["cache", "--clear"]).exit_code == 0
    assert cache.usage() == compile_cache.Usage(0, 0.0, 0, 0.0)
    function(1)  # goes on, though nothing can be kept
