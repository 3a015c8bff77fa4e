"""1/√ of lanes, by root and division and by the processor's estimates, and loops over blocks."""

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from numba import njit
from numba.core.registry import cpu_target

from nbcore.physics.compiled import LAW
from nbcore.simulation.kernels import forces, lanes, learned
from nbcore.simulation.kernels.blocks import BLOCK, block, others
from nbcore.simulation.kernels.estimates import has_estimates
from nbcore.simulation.kernels.lanes import load, store, total
from nbcore.simulation.kernels.shapes import Many

OPTIONS = {name: LAW[name] for name in ("error_model", "fastmath")}
SPECIAL = np.array([0.0, np.inf, np.nan, -1.0, 5e-324, 1e-310, 1.7e308, 4.0])


def by_lanes(numbers, width):
    """1/√ of numbers, so many at a time; compiled anew, since a test may change by what."""
    bodies = (0,) * width

    @njit(**OPTIONS)
    def function(numbers, made):
        for k in range(len(numbers)):
            store(bodies, made, k, lanes._inverse_root(load(bodies, numbers, k)))

    rows = np.resize(numbers, (-(-len(numbers) // width), width))
    made = np.empty_like(rows)
    function(rows, made)
    return made.ravel()[: len(numbers)]


@pytest.fixture(params=["as the processor can", "by root and division"])
def way(request, monkeypatch):
    if "division" in request.param:
        monkeypatch.setattr(lanes, "has_estimates", lambda: False)


@pytest.mark.parametrize("width", [4, 8, 16])
def test_an_inverse_root_is_good_to_the_last_bit_but_one(width, way):
    random = np.random.default_rng(width)
    numbers = np.concatenate([4 ** random.random(40_000), 10 ** random.uniform(-307, 308, 40_000)])
    exact = 1 / np.sqrt(numbers.astype(np.longdouble))
    error = (by_lanes(numbers, width) - exact) / exact
    # Root and division round twice: ¼ + ½ of 2^-52.
    assert np.abs(error).max() < 0.8 * np.finfo(float).eps
    assert np.abs(error.mean()) < 0.02 * np.finfo(float).eps


@pytest.mark.parametrize("width", [4, 8, 16])
def test_nothing_the_infinite_and_the_least_numbers_have_their_inverse_roots(width, way):
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = 1 / np.sqrt(SPECIAL)
    np.testing.assert_allclose(by_lanes(SPECIAL, width), expected, rtol=3e-16)


def test_estimates_are_known_by_what_tells_processors_apart_in_the_cache():
    target: Any = cpu_target.target_context
    *_, features = target.codegen().magic_tuple()
    assert has_estimates() == ("+avx512vl" in features)
    # A processor of before then, as numba is told of it.
    environment = {**os.environ, "NUMBA_CPU_NAME": "nehalem", "NUMBA_CPU_FEATURES": "+sse4.2"}
    code = f"from {has_estimates.__module__} import has_estimates; print(has_estimates())"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@njit(**OPTIONS)
def of_block(array, row, first, count, i):
    lanes = block(array, row, first, count)
    return total(others(lanes, i, first, count, 100.0)), total(lanes)


@pytest.mark.parametrize(("first", "count", "i"), [(0, 8, 3), (8, 8, 3), (8, 5, 12), (16, 0, 2)])
def test_a_block_holds_the_bodies_from_one_on_and_nothing_else(first, count, i):
    array = np.arange(1.0, 49.0).reshape(2, 24)
    plain = block(array, 1, first, count)
    np.testing.assert_array_equal(plain[:count], array[1, first : first + count])
    expected = others(plain, i, first, count, 100.0).sum(), plain.sum()
    assert of_block(array, 1, first, count, i) == expected
    assert expected[0] >= 100.0 * (BLOCK - count)


@pytest.mark.parametrize(("n", "n_active"), [(3, 1), (9, 2), (16, 16), (21, 21), (24, 23)])
def test_blocks_of_bodies_pull_as_they_do_one_by_one(n, n_active):
    random = np.random.default_rng(n)
    mass, position = random.random(n), random.normal(size=(3, n))
    position[:, -1] = 1e200  # whose squared distance is infinite
    (a, phi), (plain_a, plain_phi) = (
        pulled(loop, mass, position, n_active) for loop in (forces._in_blocks, forces._one_by_one)
    )
    assert np.isfinite(a).all()
    np.testing.assert_allclose(a, plain_a, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(phi, plain_phi, rtol=1e-13)  # of which the last is w r² = 0 ∞


def pulled(loop, mass, position, n_active):
    """Accelerations of all bodies, and Σ m/r."""

    @njit(**OPTIONS)
    def function(m, x, a, phi):
        for i in range(len(m)):
            phi[i] = loop(i, n_active, m, x, 2.0, 0.0, a)

    a, phi = np.empty_like(position), np.empty_like(mass)
    function(mass, position, a, phi)
    return a, phi


@pytest.mark.parametrize(("n", "n_active"), [(3, 1), (21, 20)])
def test_sums_of_blocks_of_pairs_are_those_of_pairs_one_by_one(n, n_active):
    random = np.random.default_rng(n)
    mass = np.where(np.arange(n) < n_active, random.random(n), 0.0)
    x, v, a = random.normal(size=(3, 3, n))
    blocks, plain = (
        sums_over_pairs(loop, Many(n, n_active), mass, x, v, a)
        for loop in (learned._sums_in_blocks, learned._sums_of_pairs)
    )
    np.testing.assert_allclose(blocks, plain, rtol=1e-12)


def sums_over_pairs(loop, bodies, *state):
    @njit(**OPTIONS)
    def function(bodies, m, x, v, a):
        return loop(bodies, (0, 0, 0), (6, 2.0, 3.0), m, x, v, a, 1.0, 2.0, 0.01)

    (parts, wholes, rates), means = function(bodies, *state)
    return [*parts, *wholes, *rates, *means]
