"""What to cite of a run: the references that stand in the docstrings of what it was made with."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from nbcore.physics.integrators import INTEGRATORS
from nbcore.physics.scenarios import SCENARIOS
from nbcore.stepping import control
from nbcore.stepping.criteria import CRITERIA, boekholt

__all__ = ["citations", "references_of"]

LEARNED = ("learned", "untrained")  # what a learned policy calls itself


def citations(about: Mapping[str, Any]) -> list[str]:
    """References, each once, of how a run was made; see `Trajectory.about`."""
    from nbcore import __version__

    used: list[Any] = [INTEGRATORS.get(about["integrator"])]
    if about["stepping"] == "reversible":
        used.append(control.reversible)
    row = CRITERIA.get(about["policy"])
    used.append(row and (row.pair or row.body or row.time_scale))
    used.append(boekholt if about["policy"] in LEARNED else None)
    used.append(SCENARIOS.get(about.get("scenario") or ""))
    found = [line for each in used if each is not None for line in references_of(each)]
    return [f"AITimeStepper {__version__}, see its CITATION.cff", *dict.fromkeys(found)]


def references_of(thing: Any) -> list[str]:
    """References of a function or an object: its own `reference`, or those in its docstring."""
    own = getattr(thing, "reference", "")
    if own:
        return [own]
    documented = thing if inspect.isroutine(thing) else type(thing)
    lines = (inspect.getdoc(documented) or "").splitlines()
    if "References" not in lines:
        return []
    section = lines[lines.index("References") + 2 :]
    end = section.index("") if "" in section else len(section)
    return [" ".join(section[:end]).removesuffix(".")]
