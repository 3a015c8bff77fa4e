"""What may import what, read from the sources: also where it is done late or for types alone."""

import ast
import inspect
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import nbcore
from nbcore import config
from nbcore.stepping.spec import PolicySpec
from nbcore.views import movies

PACKAGE = Path(nbcore.__file__).parent
GROUND = (
    "errors",
    "atomic",
    "places",
    "surroundings",
    "jsonfiles",
    "tables",
    "interrupts",
    "config",
)
ROOMS = ("physics", "stepping", "simulation", "learning", "analysis", "views", "runs")
WITH_TORCH = {
    "physics.state",  # State.to
    "stepping.torch_models",
    "simulation.torch_engine",
    "simulation.threads",
    "simulation.resumption",  # whether the GPU is there that a run was begun on
    "analysis.timing",
}
KNOW_KERNELS = {
    "simulation.compiled_engine",
    "simulation.planetary_engine",
    "simulation.loops_at_hand",
}


@cache
def modules():
    """Source files by their names in the package."""
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
        for path in PACKAGE.rglob("*.py")
        if path.name != "__init__.py"
    }


@cache
def imports(name):
    """Modules of the package, and others, that one imports."""
    found = set()
    for node in ast.walk(ast.parse(modules()[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            whole = (f"{node.module}.{alias.name}" for alias in node.names)
            found |= {w if w.removeprefix("nbcore.") in modules() else node.module for w in whole}
    return {each.removeprefix("nbcore.") for each in found}


def room(name):
    return name.partition(".")[0]


@pytest.mark.parametrize("name", sorted(modules()))
def test_a_module_imports_from_rooms_before_its_own(name):
    known = {each for each in imports(name) if each in modules()}
    if room(name) in GROUND:
        assert {room(each) for each in known} <= set(GROUND)
        return
    before = (*GROUND, *ROOMS[: ROOMS.index(room(name)) + 1])
    assert {room(each) for each in known} <= set(before)


def test_there_is_no_circle():
    left = {name: imports(name) & set(modules()) for name in modules()}
    while free := [name for name, needed in left.items() if not needed & set(left)]:
        for name in free:
            del left[name]
    assert not left


def test_no_engine_knows_another_and_only_compiled_ones_know_kernels():
    for name in modules():
        if name.startswith("simulation.kernels"):
            assert not imports(name) & {"simulation.torch_engine", "simulation.compiled_engine"}
        else:
            kernels = {each for each in imports(name) if each.startswith("simulation.kernels")}
            assert not kernels or name in KNOW_KERNELS, name
    assert "simulation.torch_engine" not in imports("simulation.compiled_engine")
    assert "simulation.compiled_engine" not in imports("simulation.torch_engine")


def test_torch_is_imported_where_something_is_trained_or_run_in_torch():
    users = {name for name in modules() if {"torch"} & {room(i) for i in imports(name)}}
    assert {name for name in users if room(name) != "learning"} == WITH_TORCH


FIRST_RESULT = """
import sys
import nbcore as nb
nb.simulate("figure_eight", 1.0)
nb.simulate(nb.State.from_arrays([1.0, 0.0], [[0, 0], [1, 0]], [[0, 0], [0, 1]]), 1.0, "boekholt")
loaded = {"torch", "zarr", "pandas", "matplotlib", "tqdm", "scipy.linalg"} & set(sys.modules)
print(sorted(loaded))
"""


def test_a_simulation_loads_nothing_heavy():
    made = subprocess.run([sys.executable, "-c", FIRST_RESULT], capture_output=True, text=True)
    assert made.stdout.strip() == "[]", made.stderr


def defaults(function):
    """Of a function's parameters, those that have one."""
    parameters = inspect.signature(function).parameters.values()
    return {each.name: each.default for each in parameters if each.default is not each.empty}


def test_what_a_config_repeats_of_a_signature_it_repeats_rightly():
    # Twice, because pydantic takes as long to import as numpy, and who simulates needs neither.
    network, movie = config.Network().model_dump(), config.Movie().model_dump()
    spec = defaults(PolicySpec)
    assert network == {name: spec[name] for name in network}
    assert movie == {name: defaults(movies.movie)[name] for name in movie}
