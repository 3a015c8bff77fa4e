"""Where the presets and notebooks lie that come with the package, and where runs go."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["CHECKOUT", "OUTPUTS", "SHIPPED", "needs_checkout"]

_PACKAGE = Path(__file__).resolve().parent

# The folder of the sources, where it is these that run; None for a package that was installed.
CHECKOUT = _PACKAGE.parent if (_PACKAGE.parent / "pyproject.toml").is_file() else None
# Holds configs/ and notebooks/; a wheel carries them inside.
SHIPPED = CHECKOUT or _PACKAGE / "shipped"


def _outputs() -> Path:
    chosen = os.environ.get("NBCORE_OUTPUTS")
    return Path(chosen).expanduser().absolute() if chosen else (CHECKOUT or Path.cwd()) / "outputs"


# Where runs go: where the environment says; else in the checkout, or where an installed one runs.
OUTPUTS = _outputs()


def needs_checkout(what: str) -> None:
    """End a program that writes to the sources where there are none."""
    if CHECKOUT is None:
        raise SystemExit(f"error: {what} needs a checkout of the sources; clone the repository")
