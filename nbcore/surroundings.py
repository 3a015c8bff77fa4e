"""What a run or a timing was made with: the code, the machine, the versions of packages."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from nbcore.places import CHECKOUT

__all__ = ["code", "cores", "machine", "versions"]


def code() -> dict[str, Any]:
    """`commit` of the code that runs, and whether it differs from that, `dirty`.

    What git does not know counts in the package alone: notebooks and configs of one's own may lie
    beside it. Both are None where git can't say.
    """
    commit, changed = _git("rev-parse", "HEAD"), _git("status", "--porcelain")
    known = None if changed is None else changed.splitlines()
    dirty = known and any(line[:2] != "??" or line[3:].startswith("nbcore/") for line in known)
    return {"commit": commit, "dirty": None if known is None else bool(dirty)}


def machine() -> dict[str, Any]:
    """`processor`, `cores` that this process may use, and `system`."""
    return {
        "processor": _processor(),
        "cores": cores(),
        "system": platform.platform(terse=True),
    }


def versions(packages: Iterable[str]) -> dict[str, str | None]:
    """Of Python and of packages; None for one that is not installed."""
    return {"python": platform.python_version(), **{name: _version(name) for name in packages}}


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=10, check=True, env=quiet
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
