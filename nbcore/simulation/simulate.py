"""`simulate`, the one entry point to a run."""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbcore.errors import InputError, unknown_name
from nbcore.physics.arrays import PerSystem
from nbcore.physics.clocks import Clock
from nbcore.physics.extrapolation import Extrapolation
from nbcore.physics.integrators import Hermite, Integrator
from nbcore.physics.state import State
from nbcore.physics.transformed import Transformed
from nbcore.physics.wisdom_holman import WisdomHolman
from nbcore.simulation.arguments import (
    BOUND,
    CHOICES,
    READY,
    agreed,
    by_law,
    check_keep,
    plan_of,
    rows_of,
)
from nbcore.simulation.engine import CLOSE_BY, DEAR, Engine, Outcome
from nbcore.simulation.inputs import (
    check_kinds,
    state_of,
    warn_of_untrained,
    why_no_step,
)
from nbcore.simulation.missed import warn_of_bound, warn_of_error
from nbcore.simulation.novelty import warn_of_novelty
from nbcore.simulation.passes import Asked, as_given
from nbcore.simulation.resumption import Begun, equal, refuse, splitting_to_store
from nbcore.simulation.status import Status
from nbcore.simulation.trajectory import Trajectory
from nbcore.stepping.policies import LearnedPolicy, OwnStep, Policy

__all__ = ["ENGINES", "check", "simulate"]

DEFAULT_MAX_STEPS = 10_000_000


def simulate(
    state: State | Any = None,
    t_end: float | Any = None,
    policy: object = None,
    *,
    integrator: str | Integrator | None = None,
    tolerance: float | Any = None,
    stepping: str | None = None,
    clock: str | Clock | None = None,
    engine: str = "auto",
    record: int | str | Any | None = None,
    max_steps: int | None = None,
    collision_distance: float | None = None,
    escape_distance: float | None = None,
    guard: bool | None = None,
    keep: str | None = None,
    follow: bool | None = None,
    progress: bool = False,
    path: str | Path | None = None,
    stop: Callable[[], bool] | None = None,
    resume: str | Path | None = None,
) -> Trajectory:
    """Integrate every system of a state to its end.

    Parameters
    ----------
    state
        Initial state, single or a batch; or the name of a scenario, a function that makes one, the
        path of a file of initial conditions, a rebound.Simulation, (mass, position, velocity), or a
        dict of the arguments of `State.from_arrays`.
    t_end
        End of the run [T], one number or (B,); reached exactly. inf with `max_steps`.
    policy
        What chooses the steps: FixedStep, Criterion, a learned policy or a suite of them, or a
        plain function (state, tolerance) -> dt, one number or (B,). By name: a criterion, with the
        η of the configuration; a shipped policy; "untrained"; the path of a checkpoint or of a
        run's folder. None takes the shipped suite "default", or, with a warning, an untrained
        policy where that has none for the integrator. "auto" leaves the method to the run. A law by
        which gbs spends its tolerance, `OwnStep(law=…)` or that of a training of gbs, means
        integrator="gbs" and keep="aim", unless keep="bound" is asked for.
    integrator
        Name in the table of integrators, or an `Integrator` of your own. None takes the one that
        the policy was trained for, otherwise suzuki4; of a suite, None and "auto" take the cheapest
        for the tolerance, of a batch for the strictest one. "gbs" chooses its own steps, and takes
        no policy. "wisdom_holman" makes equal steps for planets about one star, by the tolerance
        or of a FixedStep; where two bodies come near each other gbs goes on until they are apart,
        with a warning, in the compiled engine alone. "auto" without a policy takes what costs least
        for these systems at this tolerance: the steps of planets where these stay apart, gbs, or,
        for planets that don't at loose tolerances, for more than six bodies at all but strict ones,
        and for very long runs, the shipped suite.
    tolerance
        Relative error that is accepted, in (0, 1), of the energy and of every body's orbit (see
        `Trajectory.body_error`); one number or (B,); 1e-6 unless given. Learned policies aim at it
        with the maximum over every step; other policies don't heed it.
    stepping
        "plain" or "reversible"; None takes what a learned policy was trained for, otherwise plain.
    clock
        Transformed time, in which steps are made that shorten where bodies are close: "regularised"
        or another name in the table of clocks, or a `Clock`; None is physical time, save for
        integrator "gbs", whose steps are always in that of a clock. Other steps are then equal in
        transformed time, ds = Ω dt: the policy says how long the first one is, dt at the start, and
        nothing of those that follow; None is boekholt with the η of the configuration. They run
        backward the way they came, so that errors of the energy don't grow in long runs, and heed
        no tolerance. It takes compositions of leapfrogs: leapfrog, suzuki4, yoshida4,
        sofroniou_spaletta6, kahan_li6 and kahan_li8.
    engine
        "compiled", "torch", or "auto", which is the compiled one where it can do the run, and
        otherwise says why it can't. Its first run of a kind with so many bodies is compiled, for
        some ten seconds. "ready" is "auto" that does not wait: where only the loop for any number
        of bodies is compiled it takes that, "any_number", and has theirs made beside, for the next
        process; results of the two differ by rounding, and `trajectory.about` says which it was.
    record
        None: every step, and of gbs, whose steps may be a third of an orbit long, points on its
        way as well; n: every n-th step and both ends; array: these times; "ends": start and end
        only. What lies within a step is found by a step of part length aside, so that the steps do
        not change.
    max_steps
        Most steps of each system; 10 million unless given.
    collision_distance, escape_distance
        Stop a system where two bodies come closer, or one is farther from the centre of mass [L]:
        at that time, also within a step, where the step then ends and is recorded like the end of
        a run; and before the first step where it is so at the start. Which bodies, when and how far
        is `Trajectory.events`. Two bodies without mass don't see each other, and so don't meet.
    guard
        Redo, once, a step that changes the energy, or a body's orbit, by more than ten tolerances,
        with a step of the smooth pair criterion; where that happens often, that criterion makes
        all further steps. Evaluations of what is redone count. None guards learned policies alone.
    keep
        "aim" has a run of gbs err by about its tolerance, neither much more nor much less, by
        steps that are chosen by what it has erred by so far and by how much is to come; it needs
        an end and `follow`. "bound" has every body stay below the tolerance, and the energy, too:
        systems that don't are gone over with a smaller one, up to five times, and a warning tells
        of those that still don't. That is of gbs, wisdom_holman and learned policies; all runs
        count, and `trajectory.about["inner_tolerance"]` is what it took. None gives every step the
        same share of the tolerance.
    follow
        Follow the orbit of every body. Without that, which saves a tenth to a third of the time of
        a few bodies, `body_error` is NaN, `kept_tolerance` None, and the guard sees the energy
        alone.
    progress
        Show a progress bar.
    path
        Stream the records to a Zarr group here, so that memory does not grow with the run.
    stop
        Asked between steps, by the compiled engine some twenty times a second; where it says so,
        the run ends as by Ctrl-C: INTERRUPTED, with what was recorded. For runs on a thread, which
        Ctrl-C does not reach.
    resume
        Path of a stored run to go on with, bit for bit as if it had never stopped: interrupted,
        killed or at its end. All that is not given is taken from there, and what is given must
        agree, save t_end and max_steps, which may be later, engine="auto", progress and stop; a
        policy of your own has to be given again. With a state, and nothing at the path yet, the run
        begins there, so that a script that is run again goes on.

    Returns
    -------
    Trajectory

    Raises
    ------
    InputError
        An argument can't be used. A system that fails while it is integrated is a status, and a
        warning names how many there are.
    """
    check_kinds(
        stepping=stepping,
        engine=engine,
        max_steps=max_steps,
        collision_distance=collision_distance,
        escape_distance=escape_distance,
        guard=guard,
        keep=keep,
        follow=follow,
        progress=progress,
        path=path,
        resume=resume,
        stop=stop,
    )
    state = None if state is None else state_of(state)
    begun = None
    if resume is not None:
        if path is not None:
            raise InputError(
                f"resume is {str(resume)!r} and path {str(path)!r}; a run goes on where it is "
                "stored: leave path out"
            )
        path = resume
        begun = Begun(resume) if state is None or Path(resume).exists() else None
    policy, integrator, keep = by_law(policy, integrator, keep)
    untold = policy is None and begun is None
    if begun is not None:
        given = (state, policy, integrator, tolerance, stepping, engine, record, clock)
        limits = (collision_distance, escape_distance, guard, follow, keep)
        asked = agreed(begun, given, limits)
        state, policy, integrator, tolerance, stepping, engine, record, clock = asked[:8]
        collision_distance, escape_distance, guard, follow, keep = asked[8:]
        t_end = begun.asked["t_end"] if t_end is None else t_end
        max_steps = begun.asked["max_steps"] if max_steps is None else max_steps
    if state is None:
        raise InputError("give a state and t_end, or resume= with the path of a stored run")
    follow = follow is not False
    # No other engine looks out for encounters.
    watched = not guard and engine != "torch"
    how = policy, integrator, tolerance, stepping, max_steps, clock, watched, keep
    plan = plan_of(state, t_end, *how)
    check_keep(keep, plan, follow)
    if begun is not None and keep is not None and not equal(plan.t_end, begun.asked["t_end"]):
        # What was left of its tolerance was for the steps up to there.
        refuse(begun.path, "t_end", begun.asked["t_end"], plan.t_end)
    end, accepted, chosen, learned, stepping, name, scheme = plan
    if untold:
        warn_of_untrained(chosen, name)
    for what, limit in (("collision", collision_distance), ("escape", escape_distance)):
        if limit is not None and not limit > 0:
            raise InputError(f"{what}_distance is {limit}; it must be positive, or None")
    engine, run = _engine(engine, state, chosen, scheme)
    if learned:
        _check_calibrated(learned, accepted, stepping)
    guarded = learned is not None if guard is None else guard
    if guarded:
        _check_guard(scheme)
    most = max_steps or DEFAULT_MAX_STEPS
    # A block: as a decorator it would be a frame of its own, which the warnings would point to.
    with np.errstate(all="ignore"):  # what is no number is told by the status
        recorded = rows_of(record, state, end, scheme)
        if begun is not None and begun.has_ended and begun.stays(end, most):
            return as_given(Trajectory.load(begun.path), state)
        if isinstance(scheme, WisdomHolman):
            scheme.check(state)
            if engine == "torch":
                _say(
                    "nbcore: the torch engine watches neither encounters nor the orbits of bodies "
                    "where Wisdom and Holman's steps are made; use engine='compiled'"
                )
        stored = {
            "integrator": name,
            "splitting": splitting_to_store(scheme),
            "stepping": stepping,
            "clock": None if clock is None else str(plan.clock),
            "record": recorded,
            "max_steps": most,
            "t_end": end,
            "collision_distance": collision_distance,
            "escape_distance": escape_distance,
            "guard": guarded,
            "follow": follow,
            "keep": keep,
        }
        asked = Asked(
            plan=plan,
            engine=engine,
            run=run,
            record=recorded,
            max_steps=most,
            collision_distance=collision_distance,
            escape_distance=escape_distance,
            stop=stop,
            guarded=guarded,
            follow=follow,
            progress=progress,
            keep=keep,
        )
        where = None if path is None else Path(path)
        if keep == BOUND:
            made = asked.below(state, where, begun, stored)
        else:
            made = asked.go(state, end, accepted, where, begun, stored)
        trajectory, outcome = made.trajectory, made.outcome
        status = trajectory.summary["status"]
        failed = (status == Status.NON_FINITE) | (status == Status.DT_UNDERFLOW)
        _warn_of_encounters(outcome)
        _warn(status, why_no_step(made.task.policy, outcome.state, made.task.tolerance, failed))
        if keep == BOUND:
            warn_of_bound(trajectory)
        elif guarded or isinstance(chosen, OwnStep):
            warn_of_error(trajectory)
        if learned:
            warn_of_novelty(learned, state.detach(), trajectory)
        return trajectory


def check(
    state: State,
    t_end: float | Any,
    policy: object = None,
    *,
    integrator: str | Integrator | None = None,
    tolerance: float | Any = None,
    stepping: str | None = None,
    clock: str | Clock | None = None,
    guard: bool | None = None,
    engine: str = "auto",
    record: int | str | Any | None = None,
    max_steps: int | None = None,
    keep: str | None = None,
    follow: bool | None = None,
    **_: Any,
) -> None:
    """Raise InputError where `simulate` would refuse to run; nothing is compiled or run."""
    watched = not guard and engine != "torch"
    policy, integrator, keep = by_law(policy, integrator, keep)
    how = policy, integrator, tolerance, stepping, max_steps, clock, watched, keep
    plan = plan_of(state, t_end, *how)
    check_keep(keep, plan, follow is not False)
    scheme = plan.scheme
    if guard:
        _check_guard(scheme)
    if isinstance(scheme, (Extrapolation, Hermite, Transformed, WisdomHolman)):
        scheme.check(state)
    if state.field is not None:
        state.field.acceleration(state.position, state.time, state.G)  # which asks for dimensions
    rows_of(record, state, plan.t_end, scheme)
    if engine not in CHOICES:  # which always find one, and to look for it imports the compiler
        _engine(engine, state, plan.policy, scheme)


def _check_guard(scheme: Integrator) -> None:
    if isinstance(scheme, Transformed):
        raise InputError(
            "guard is True and a clock is given, whose equal steps would not be equal if some were "
            "redone; leave one of the two out"
        )
    if isinstance(scheme, WisdomHolman):
        raise InputError(
            "guard is True and the steps of 'wisdom_holman' are equal, which they would not be if "
            "some were redone; leave guard out, or use another integrator"
        )


def _check_calibrated(policy: LearnedPolicy, tolerance: PerSystem, stepping: str) -> None:
    known = policy.calibration
    if known is None:
        return
    if stepping != policy.spec.stepping:
        warnings.warn(
            f"the policy was calibrated with {policy.spec.stepping} steps; with {stepping} ones "
            "the error may miss the tolerance",
            RuntimeWarning,
            stacklevel=3,
        )
    for value in (float(tolerance.min()), float(tolerance.max())):
        if not known.covers(value):
            least, most = known.range
            warnings.warn(
                f"tolerance {value:.1e} lies outside the range {least:.1e} to {most:.1e} that the "
                f"policy for {policy.spec.integrator!r} was calibrated for; the error may miss it",
                RuntimeWarning,
                stacklevel=3,
            )
            return


def _warn(status: NDArray[np.int64], why: str = "") -> None:
    """Warn of systems that did not reach their end, and of the remedy for most of them."""
    counts = Counter(Status(int(s)) for s in status if s != Status.SUCCESS)
    if not counts:
        return
    what = ", ".join(sorted(f"{count} {kind.name}" for kind, count in counts.items()))
    remedies = (kind.remedy for kind, _ in counts.most_common() if kind.remedy)
    remedy = next(remedies, "")
    warnings.warn(
        f"{counts.total()} of {len(status)} systems did not reach t_end: {what}; "
        f"see trajectory.status{why or (f'; {remedy}' if remedy else '')}",
        RuntimeWarning,
        stacklevel=3,
    )


def _warn_of_encounters(outcome: Outcome) -> None:
    """Warn of systems that equal steps did not take to their end, and say who did."""
    if outcome.handed_over is None or outcome.why_handed_over is None:
        return
    met, dear = outcome.why_handed_over == CLOSE_BY, outcome.why_handed_over == DEAR
    words = []
    if met.any():
        words.append(
            f"in {met.sum()} of {len(met)} systems two bodies come too near each other for Wisdom "
            f"and Holman's steps, first at t = {outcome.handed_over[met].min():.6g}; 'gbs' makes "
            "the encounters (trajectory.about['handed_over'] says when)"
        )
    if dear.any():
        words.append(
            f"in {dear.sum()} of {len(met)} systems equal steps would be so short that 'gbs' costs "
            "less, and makes them; a policy nb.FixedStep(dt) makes equal steps anyway"
        )
    for text in words:
        warnings.warn(text, RuntimeWarning, stacklevel=3)


def _engine(name: str, state: State, policy: Policy, integrator: Integrator) -> tuple[str, Engine]:
    """Engine by its name, or the one that can do the run; and its name."""
    if name not in ENGINES:
        raise unknown_name("engine", name, ENGINES)
    if name == "torch":
        return name, _torch_engine()
    from nbcore.simulation import compiled_engine

    obstacle = compiled_engine.obstacle(state, policy, integrator)
    if obstacle is None and isinstance(integrator, WisdomHolman):
        from nbcore.simulation import planetary_engine as engine
    else:
        engine = compiled_engine
    if obstacle is None and name == "any_number":
        return name, engine.integrate_any_number
    if obstacle is None:
        return READY if name == READY else "compiled", engine.integrate
    if name not in CHOICES:
        raise InputError(f"the compiled engine does not take {obstacle}; use engine='torch'")
    _say(f"nbcore: {obstacle} runs in the torch engine, which is slower than the compiled one")
    return "torch", _torch_engine()


@cache
def _say(line: str) -> None:
    """Print a line, once in a process."""
    print(line, file=sys.stderr, flush=True)


def _torch_engine() -> Engine:
    from nbcore.simulation.torch_engine import integrate

    return integrate


ENGINES = (*CHOICES, "compiled", "any_number", "torch")
