"""Which loops are compiled, and which one a run takes that shall begin at once.

The loop is compiled for every number of bodies up to 16 on its own, and once for any number, which
takes twice the time for a step. Their results differ by rounding. So a run takes its own loop,
whoever has to wait for it, unless it is asked for with the engine "ready".
"""

from __future__ import annotations

import math
import sys
from typing import Any

from nbcore.physics.wisdom_holman import WisdomHolman
from nbcore.simulation import compile_beside, compiled_engine, planetary_engine
from nbcore.simulation.engine import Engine, Observer, Task
from nbcore.simulation.kernels import loop, planetary
from nbcore.simulation.kernels.events import Unwatched
from nbcore.simulation.kernels.fields import NoField
from nbcore.simulation.kernels.shapes import Many, Shared, is_known

__all__ = ["kept_loops", "ready"]

OWN, ANY_NUMBER = "compiled", "any_number"


def ready(task: Task, observer: Observer) -> tuple[str, Engine]:
    """Engine that can begin a run at once, and its name; see `simulate`.

    What is missing is compiled beside. A process takes the same engine for all runs of a kind, so
    that a run that is made again has the same bits.
    """
    is_planetary = isinstance(task.integrator, WisdomHolman)
    of = planetary_engine if is_planetary else compiled_engine
    own = of.types_of(task, observer)
    if own not in CHOSEN:
        CHOSEN[own] = _chosen(own, of.types_of(task, observer, any_number=True))
    name = CHOSEN[own]
    return name, of.integrate if name == OWN else of.integrate_any_number


def _chosen(own: Any, any_number: Any) -> str:
    cache, run = compiled_engine.CACHE, compiled_engine.loop_of(own)
    if not cache.keeps(run) or cache.holds(run, own) or own == any_number:
        return OWN
    there = cache.holds(run, any_number)
    compile_beside.compile_beside(own if there else any_number, cache.folder)
    if not there:
        return OWN
    print(
        f"nbcore: {_number(own)} bodies run at once in the loop for any number, at half the speed; "
        "their own is compiled beside it, for the next process",
        file=sys.stderr,
        flush=True,
    )
    return ANY_NUMBER


def kept_loops() -> list[str]:
    """What the loops on disk are for: the bodies and axes that they know, and how steps are made.

    Some are alike in that, and differ in the width of a network.
    """
    cache = compiled_engine.CACHE
    found = sorted(cache.signatures(loop.run), key=lambda each: (*map(_known, each[:2]), str(each)))
    of_planets = sorted(cache.signatures(planetary.run), key=lambda each: _known(each[0]))
    return [*map(described, found), *map(_described_of_planets, of_planets)]


def described(signature: Any) -> str:
    """What a loop with such types of arguments is for."""
    bodies, axes, _, scheme, field, settings, rule, *_ = signature
    number = f"{len(bodies)} bodies" if is_known(bodies) else WORDS[bodies.instance_class]
    made = [scheme, rule, field, settings.types[settings.fields.index("watch")]]
    names = [each.instance_class for each in made if each.instance_class not in USUAL]
    kinds = ", ".join(name.__name__.removesuffix("Steps").lower() for name in names)
    return f"{number}, {'planar' if len(axes) == 2 else 'spatial'}: {kinds}"


def _number(signature: Any) -> int:
    """Bodies that a loop knows."""
    return len(signature[0]) + (compiled_engine.loop_of(signature) is planetary.run)


def _described_of_planets(signature: Any) -> str:
    shape = signature[0]
    number = f"{len(shape) + 1} bodies" if is_known(shape) else WORDS[Many]
    return f"{number}: Wisdom–Holman"


def _known(shape: Any) -> float:
    return len(shape) if is_known(shape) else math.inf


WORDS = {Many: "any number of bodies", Shared: "any number of bodies on all cores"}
USUAL = (NoField, Unwatched)
CHOSEN: dict[Any, str] = {}
