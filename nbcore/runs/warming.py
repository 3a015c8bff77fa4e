"""Compiling the loops of the usual runs ahead, on all cores.

Run as a module, with an engine and a number of bodies and of dimensions, it compiles those of one
kind.
"""

from __future__ import annotations

import subprocess
import sys
import time
import warnings
from collections.abc import Callable

import numpy as np

from nbcore.surroundings import cores

__all__ = ["warm"]

Kind = tuple[str, int, int]  # what is compiled, for how many bodies and dimensions

USUAL: tuple[Kind, ...] = (
    ("gbs", 3, 3),
    ("gbs", 3, 2),
    ("planets", 3, 3),
    *(("wisdom_holman", n, 3) for n in (3, 5, 9)),
    ("any_number", 2, 3),
    *(("compiled", n, d) for n in (3, 2, 4, 5, 6, 7, 8, 16) for d in (2, 3)),
)


def warm(say: Callable[[str], None], kinds: tuple[Kind, ...] = USUAL) -> bool:
    """Compile what is missing of the loops for the shipped policies; whether all is there now.

    Parameters
    ----------
    say
        Takes a line for each kind that is done.
    """
    waiting, running = list(kinds), dict[subprocess.Popen[str], tuple[Kind, float]]()
    failed = 0
    try:
        while waiting or running:
            while waiting and len(running) < cores():
                kind = waiting.pop(0)
                running[_begun(kind)] = kind, time.monotonic()
            for process in [each for each in running if each.poll() is not None]:
                kind, begun = running.pop(process)
                failed += process.returncode != 0
                _, told = process.communicate()
                last = told.strip().rpartition("\n")[2] if process.returncode else "ready"
                say(f"{_words(kind)}: {last}, {time.monotonic() - begun:.0f} s")
            time.sleep(0.05)
    finally:
        for process in running:
            process.kill()
            process.communicate()
    return not failed


def _begun(kind: Kind) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", __name__, *map(str, kind)]
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, process_group=0
    )


def _words(kind: Kind) -> str:
    what, n_bodies, n_dimensions = kind
    if what == "any_number":
        return "any number of bodies"
    if what == "wisdom_holman":
        return f"planets, {n_bodies} bodies"
    if what == "planets":
        return "planets, any number of bodies"
    number = "gbs, any number of bodies" if what == "gbs" else f"{n_bodies} bodies"
    return f"{number}, {'planar' if n_dimensions == 2 else 'spatial'}"


def compile_kind(what: str, n_bodies: int, n_dimensions: int) -> None:
    """Compile the loops of one kind: gbs, planets, or those of an engine with shipped policies."""
    import nbcore as nb
    from nbcore.stepping.suites import Suite

    if what in ("planets", "wisdom_holman"):
        sizes = 2.0 ** np.arange(n_bodies - 1)
        nothing = np.zeros(n_bodies - 1)
        place = np.stack([sizes, nothing, nothing], axis=1)[:, :n_dimensions]
        speed = np.stack([nothing, sizes**-0.5, nothing], axis=1)[:, :n_dimensions]
        star = np.zeros((1, n_dimensions))
        state = nb.State.from_arrays(
            [1.0, *[1e-9] * (n_bodies - 1)], np.r_[star, place], np.r_[star, speed]
        )
        engine = "any_number" if what == "planets" else "compiled"
        nb.simulate(state, 1.0, nb.FixedStep(0.1), integrator="wisdom_holman", engine=engine)
        return
    suite = nb.load_policy("default")
    assert isinstance(suite, Suite)
    angle = np.linspace(0, 2 * np.pi, n_bodies, endpoint=False)
    position = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=-1)[:, :n_dimensions]
    state = nb.State.from_arrays(np.ones(n_bodies), position, 0 * position)
    integrators = [member.spec.integrator for member in suite.members]
    engine = "compiled" if what == "gbs" else what
    for integrator in ["gbs"] if what == "gbs" else integrators:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it ends after a step
            nb.simulate(state, 1.0, integrator=integrator, engine=engine, max_steps=1)


if __name__ == "__main__":
    compile_kind(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
