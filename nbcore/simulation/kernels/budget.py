"""How the error that a run may make is spent; see `stepping.budget`."""

from __future__ import annotations

from numba import njit

from nbcore.physics import extrapolation
from nbcore.physics.compiled import PLAIN, compiled
from nbcore.simulation.kernels.chains import ExtrapolatedSteps
from nbcore.simulation.kernels.orbits import WORST
from nbcore.simulation.kernels.shapes import either, is_a, size
from nbcore.stepping import budget
from nbcore.stepping.budget import Own

__all__ = ["spend"]

shares, retargeted = compiled(budget.shares, PLAIN), compiled(extrapolation.retargeted, PLAIN)


@njit(**PLAIN)
def _spend(bodies, scheme, b, off, error, n_steps, time, t_end, ahead):
    of = scheme.budget
    tolerance, gone = of.tolerance[b], time - of.begun[b]
    if not (tolerance > 0 and gone > 0):
        return ahead
    for i in range(size(bodies)):
        error = max(error, off[WORST, i])
    before, due = of.target[b], n_steps * (t_end - time) / gone
    own = Own(of.own.goal[b], of.own.excess[b], of.own.by_length[b])
    of.target[b], of.aim[b] = shares(of.law, own, tolerance, of.least[b], error, of.spent[b], due)
    return retargeted(ahead, before, of.target[b], scheme.columns[b])


@njit(**PLAIN)
def _save(bodies, scheme, b, off, error, n_steps, time, t_end, ahead):
    return ahead


# Say how large an error of the next step may be, after so many with such an error of the run.
#
# Returns
# -------
# The next step in s, from what it was to be.
spend = either(is_a(ExtrapolatedSteps), _spend, _save, place=1, options=PLAIN)
