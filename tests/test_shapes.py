"""Scratch of the compiled loops: what they read and never wrote is zero."""

import numpy as np
import pytest
from numba import njit

from nbcore.simulation.kernels.shapes import Many, scratch, vectors


@njit
def spoil(bodies):
    """Leave the stack full of NaN."""
    here = scratch(bodies, 7, 0.0)
    here[:] = np.nan
    return here.sum()


@njit
def padding(bodies, like):
    """What lies beyond N in fresh scratch, of numbers of two kinds."""
    n = len(bodies)
    return vectors(bodies)[:, n:].copy(), scratch(bodies, 2, like)[:, n:].copy()


@pytest.mark.parametrize("n_bodies", [1, 3, 5, 17])
@pytest.mark.parametrize("like", [np.float64(0), np.float32(0)])
def test_the_padding_of_scratch_is_zero_whatever_was_on_the_stack(n_bodies, like):
    bodies = (0,) * n_bodies
    for made in (padding, padding.py_func):
        assert np.isnan(spoil(bodies))
        ours, theirs = made(bodies, like)
        assert ours.shape[1] == theirs.shape[1] > 0
        assert (ours.dtype, theirs.dtype) == (float, like.dtype)
        assert not ours.any()
        assert not theirs.any()


def test_scratch_of_a_number_that_the_compiler_does_not_know_has_no_padding():
    assert vectors(Many(5, 5)).shape == njit(lambda bodies: vectors(bodies))(Many(5, 5)).shape
