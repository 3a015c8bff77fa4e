"""What to cite of a run: the references of the very objects that it was made with.

They are read where these are at hand and kept with the run, for a name alone does not tell a
method of one's own from one in a table.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import partial
from typing import Any

from nbcore.physics.integrators import INTEGRATORS, Integrator, name_of
from nbcore.physics.scenarios import SCENARIOS
from nbcore.physics.state import State
from nbcore.physics.transformed import Transformed
from nbcore.stepping import control
from nbcore.stepping.criteria import boekholt
from nbcore.stepping.policies import Criterion, Custom, LearnedPolicy, Policy

__all__ = ["citations", "references", "references_of"]


def citations(about: Mapping[str, Any]) -> list[str]:
    """What to cite, each once, of how a run was made; see `Trajectory.about`."""
    from nbcore import __version__

    found = about.get("references")
    if found is None:
        made = (about.get(name) for name in ("integrator", "policy", "scenario"))
        names = ", ".join(repr(name) for name in made if name) or "what it was made with"
        found = [f"(no references were stored with this run; see those of {names})"]
    return [f"AITimeStepper {__version__}, see its CITATION.cff", *found]


def references(integrator: Integrator, policy: Policy, stepping: str, initial: State) -> list[str]:
    """References, each once, of all that a run is made with."""
    in_s = isinstance(integrator, Transformed)
    used: list[Any] = [integrator] if in_s else []
    integrator = integrator.splitting if in_s else integrator
    known = INTEGRATORS.get(name_of(integrator))  # of coefficients that are given without theirs
    used.append(integrator if references_of(integrator) else known)
    used.append(control.reversible if stepping == "reversible" and not in_s else None)
    if isinstance(policy, LearnedPolicy):
        used.append(boekholt)
    elif isinstance(policy, Criterion):
        used.append(policy.row.pair or policy.row.body or policy.row.time_scale)
    else:
        used.append(policy.rule if isinstance(policy, Custom) else policy)
    used += [SCENARIOS.get(initial.scenario or ""), initial.field]
    return list(dict.fromkeys(line for each in used for line in references_of(each)))


def references_of(thing: Any) -> list[str]:
    """References of a function or an object: its own `reference`, or those in its docstring."""
    while isinstance(thing, partial):
        thing = thing.func
    own = getattr(thing, "reference", "")
    if own and isinstance(own, str):
        return [own]
    documented = thing if inspect.isroutine(thing) else type(thing)
    lines = (inspect.getdoc(documented) or "").splitlines()
    if "References" not in lines:
        return []
    section = lines[lines.index("References") + 2 :]
    end = section.index("") if "" in section else len(section)
    return [" ".join(section[:end]).removesuffix(".")]
