"""What a timing was made on and with, and on how many threads."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numba
import torch

from nbcore.places import CHECKOUT

__all__ = ["machine", "on_threads"]

PACKAGES = ("aitimestepper", "numpy", "numba", "torch", "rebound", "heyoka", "scipy")


@contextmanager
def on_threads(count: int) -> Iterator[None]:
    """Let numba and torch use so many threads; as it was, afterwards."""
    before = numba.get_num_threads(), torch.get_num_threads()
    numba.set_num_threads(count)
    torch.set_num_threads(count)
    try:
        yield
    finally:
        numba.set_num_threads(before[0])
        torch.set_num_threads(before[1])


def machine() -> dict[str, Any]:
    """Processor, cores that this process may use, versions, commit, and date.

    Returns
    -------
    dict of plain values; a package that is not installed has the version None, and so has the
    commit where the sources are not in a git repository. `uncommitted` tells whether the sources
    differ from the commit.
    """
    commit = _git("rev-parse", "HEAD")
    return {
        "processor": _processor(),
        "cores": _cores(),
        "system": platform.platform(terse=True),
        "versions": {
            "python": platform.python_version(),
            **{name: _version(name) for name in PACKAGES},
        },
        "commit": commit,
        "uncommitted": None if commit is None else bool(_git("status", "--porcelain")),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _cores() -> int | None:
    """That this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git(*arguments: str) -> str | None:
    """What git says of the sources, or None where it has nothing to say."""
    if CHECKOUT is None:  # what git says is of a repository that happens to lie around
        return None
    quiet = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    command = ["git", "-C", str(CHECKOUT), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=quiet)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
