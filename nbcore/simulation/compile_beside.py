"""Compiling a loop in a process of its own, which a later process loads it from.

The process takes what is left of the machine, compiles one loop after the others that were asked
for, and outlives whoever asked; a process of its own, because threads of Python would take turns
with the run.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__ = ["compile_beside"]

LEAST = 19  # niceness: only what nobody else wants


def compile_beside(types: tuple[Any, ...], folder: Path) -> None:
    """Have the loop compiled for numba types of its arguments, beside all else.

    Parameters
    ----------
    folder
        Of the cache that shall hold it.
    """
    STARTED[:] = [each for each in STARTED if each.poll() is None]
    package = str(Path(__file__).parents[2])
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    with suppress(OSError):  # where there is no room for it, a later run waits
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(folder)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the run
        )
        STARTED.append(process)
        assert process.stdin is not None
        with process.stdin as asked:
            asked.write(pickle.dumps(types))


def _compile(folder: str) -> None:
    os.nice(LEAST)
    asked = sys.stdin.buffer.read()
    from filelock import FileLock

    # One at a time; what compiles is imported once it is its turn.
    with FileLock(Path(folder) / ".beside"):
        from nbcore.simulation.compiled_engine import compile_for

        compile_for(pickle.loads(asked))


STARTED: list[subprocess.Popen[bytes]] = []  # held, or each would be told of as running yet

if __name__ == "__main__":
    _compile(sys.argv[1])
