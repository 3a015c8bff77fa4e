"""Going on with a stored run, bit for bit as if it had never stopped.

Beside its records a stored run keeps two files. One is written at its start and holds what was
asked for, the policy among it. The other says where the engine stands: all the arrays by which it
goes on, and the next row of every system. It is replaced as a whole every few seconds and at the
end; records are always on disk before it speaks of them, and those beyond it are made again alike.

A system that has ended goes on where its end is moved. As its last step was cut short, or the next
one was never chosen, it goes back to where it stood a little before its end; that is kept, too.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
import warnings
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from nbcore.errors import InputError
from nbcore.physics.arrays import Array, PerSystem, is_tensor, namespace, to_numpy
from nbcore.physics.clocks import CLOCKS, Clock, get_clock
from nbcore.physics.fields import field_from, field_to_store
from nbcore.physics.integrators import (
    INTEGRATORS,
    Integrator,
    Splitting,
    get_integrator,
    name_of,
)
from nbcore.physics.state import State
from nbcore.physics.transformed import Transformed
from nbcore.simulation.status import Status
from nbcore.stepping.budget import Law
from nbcore.stepping.checkpoints import load_policy, load_tree, save_policy, save_tree
from nbcore.stepping.criteria import CRITERIA
from nbcore.stepping.policies import Criterion, FixedStep, LearnedPolicy, OwnStep, Policy

__all__ = [
    "Begun",
    "Keeper",
    "begin",
    "code_version",
    "equal",
    "is_begun",
    "refuse",
    "splitting_to_store",
]

VERSION = 4
FOLDER = "resume"  # in the group; a group of its own, which readers of the records pass over
START, STANDING, POLICY = "start.safetensors", "standing.safetensors", "policy.safetensors"
ROOMS = ("physics", "stepping", "simulation")  # of the package, that numbers come from
SECONDS = 3.0  # between two times that is kept where the run stands,
LARGEST_SHARE = 0.05  # unless that took longer than this share of them

_OF_STATE = ("mass", "position", "velocity", "time", "work")

Arrays = dict[str, Any]


@cache
def code_version() -> str:
    """Digest of the sources that numbers depend on."""
    package = Path(__file__).parents[1]
    sources = sorted(p for room in ROOMS for p in (package / room).rglob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]


def is_begun(path: str | Path) -> bool:
    """Whether a run was begun at a path that can be gone on with."""
    return (Path(path) / FOLDER / START).is_file()


def begin(path: Path, state: State, policy: Policy, asked: Mapping[str, Any]) -> None:
    """Keep what was asked for of a run that begins.

    Parameters
    ----------
    path
        Of its group.
    state
        Its initial state.
    asked
        The other arguments of `simulate`, as they were understood.
    """
    import zarr

    zarr.create_group(path / FOLDER)
    tree = {
        "version": VERSION,
        "code": code_version(),
        "state": {name: getattr(state, name) for name in _OF_STATE}
        | {name: getattr(state, name) for name in ("G", "softening", "batched", "scenario")}
        | {"field": field_to_store(state.field)},
        "device": str(state.time.device) if is_tensor(state.time) else None,
        "policy": _described(policy),
        **asked,
    }
    if type(policy) is LearnedPolicy:
        save_policy(policy, path / FOLDER / POLICY)
    save_tree(tree, path / FOLDER / START, kind="start of a run")


def splitting_to_store(integrator: Integrator) -> dict[str, Any] | None:
    """Coefficients of a splitting that is not in the table of integrators."""
    integrator = integrator.splitting if isinstance(integrator, Transformed) else integrator
    if type(integrator) is not Splitting or name_of(integrator) in INTEGRATORS:
        return None
    return dataclasses.asdict(integrator)


def _described(policy: Policy) -> dict[str, Any]:
    kind = type(policy)
    if isinstance(policy, FixedStep) and kind is FixedStep:
        return {"kind": "FixedStep", "dt": policy.dt}
    if isinstance(policy, OwnStep):
        law = policy.law
        return {"kind": "OwnStep", "law": None if law is None else law._asdict()}
    if isinstance(policy, Criterion):
        # A row of the table is as good as its name; what is derived from the class may do anything.
        if kind is Criterion and CRITERIA.get(policy.name) == policy.row:
            return {"kind": "Criterion", "criterion": policy.name, "eta": policy.eta}
        name = str(policy) if kind is Criterion else f"{kind.__name__} {policy}"
        return {"kind": "other", "name": name, "eta": policy.eta}
    return {"kind": "learned" if kind is LearnedPolicy else "other", "name": str(policy)}


class Begun:
    """A stored run that can be gone on with.

    Attributes
    ----------
    path
        Of its group.
    asked
        What was asked for at its start, with `t_end` and `max_steps` as of the last time.
    state
        Its initial state.

    Raises
    ------
    InputError
        There is none, or it was written by another version, or its files are damaged.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        folder = self.path / FOLDER
        if not self.path.exists():
            raise InputError(f"there is no trajectory at {str(path)!r}; check the path")
        if not is_begun(path):
            raise InputError(
                f"{str(path)!r} can't be gone on with: it does not say where its engine stood (an "
                "older version wrote it, or `save`); begin a run at another path"
            )
        self.asked = load_tree(folder / START, kind="start of a run")
        self._check_version(self.asked.get("version"))
        values = self.asked["state"]
        self.state = State(**{**values, "field": field_from(values["field"])})
        if self.asked["device"] is not None:
            self.state = self.state.to(_device(self.asked["device"]))
        self._now: dict[str, np.ndarray] = {}
        self._before: dict[str, np.ndarray] = {}
        if (folder / STANDING).is_file():
            standing = load_tree(folder / STANDING, kind="standing of a run")
            self._check_version(standing.get("version"))
            self.asked |= {name: standing[name] for name in ("t_end", "max_steps")}
            self._now, self._before = standing["now"], standing["before"]
        if self.asked["code"] != code_version():
            warnings.warn(
                f"the run at {str(path)!r} was begun by other code than this: it goes on, and may "
                "differ in the last digits from one that was never stopped",
                RuntimeWarning,
                stacklevel=3,
            )

    def _check_version(self, version: object) -> None:
        if version != VERSION:
            raise InputError(
                f"the run at {str(self.path)!r} was stored by version {version} of what a run is "
                f"gone on by, and this build reads {VERSION}; go on with the build that wrote it"
            )

    def policy(self, given: Policy | None) -> Policy:
        """What chooses its steps.

        Raises
        ------
        InputError
            Another one is given, or none where it could not be stored.
        """
        known = self.asked["policy"]
        if known["kind"] == "other":
            if given is None:
                raise InputError(
                    f"the policy {known['name']!r} of the run at {str(self.path)!r} can't be "
                    "stored; give it again, by policy="
                )
            stored = given
        elif known["kind"] == "learned":
            stored = load_policy(self.path / FOLDER / POLICY)
            assert isinstance(stored, LearnedPolicy)
        else:
            values = {name: value for name, value in known.items() if name != "kind"}
            if values.get("law") is not None:
                values["law"] = Law(**values["law"])
            kinds = {"FixedStep": FixedStep, "Criterion": Criterion, "OwnStep": OwnStep}
            stored = kinds[known["kind"]](**values)
        if given is not None and not _alike(known, stored, given):
            refuse(self.path, "policy", _words(stored, known), _words(given))
        return stored

    def integrator(self, given: str | Integrator | None) -> str | Integrator:
        """What makes its steps.

        Raises
        ------
        InputError
            Another one is given, or none where it could not be stored.
        """
        name, parts = self.asked["integrator"], self.asked["splitting"]
        stored = name if parts is None else Splitting(**parts)
        own = None if given is None else get_integrator(given)
        if own is not None and (name_of(own) != name or (parts is not None and own != stored)):
            refuse(self.path, "integrator", name, name_of(own))
        if parts is not None or name in INTEGRATORS:
            return stored
        if own is None:
            raise InputError(
                f"the integrator {name!r} of the run at {str(self.path)!r} can't be stored; give "
                "it again, by integrator="
            )
        return own

    def clock(self, given: str | Clock | None) -> Clock | None:
        """In whose time its steps are; None where it was not asked for.

        Raises
        ------
        InputError
            Another one is given, or none where it could not be stored.
        """
        name = self.asked.get("clock")
        own = None if given is None else get_clock(given)
        if own is not None and str(own) != name:
            refuse(self.path, "clock", name, own)
        if own is None and name is not None and name not in CLOCKS:
            raise InputError(
                f"the clock {name!r} of the run at {str(self.path)!r} can't be stored; give it "
                "again, by clock="
            )
        return own if name is None or own is not None else CLOCKS[name]

    @property
    def has_ended(self) -> bool:
        """Whether every system reached its end."""
        return bool(self._now) and bool((self._now["status"] != Status.RUNNING).all())

    def stays(self, t_end: PerSystem, max_steps: int) -> bool:
        """Whether its end is where it was."""
        before = self.asked["t_end"], self.asked["max_steps"]
        return np.array_equal(to_numpy(t_end), before[0]) and max_steps == before[1]

    @property
    def before(self) -> Arrays:
        """Where systems that have ended stood a little before."""
        return self._before

    def arrays(self, t_end: np.ndarray, max_steps: int) -> dict[str, np.ndarray]:
        """Where every system goes on, by names of the engine; empty at the start.

        Parameters
        ----------
        t_end, max_steps
            Where it shall end.

        Raises
        ------
        InputError
            A system is beyond that already.
        """
        if not self._now:
            return {}
        end, now = t_end, self._now
        if (late := now["time"] > end).any():
            raise InputError(
                f"t_end is {end[late][0]} and the run at {str(self.path)!r} is at time "
                f"{now['time'][late][0]} already; t_end must be later"
            )
        if max_steps < (most := int(now["n_steps"].max())):
            raise InputError(
                f"max_steps is {max_steps} and the run at {str(self.path)!r} has made {most} "
                "already; give more"
            )
        moved = end > self.asked["t_end"]
        moved |= max_steps > self.asked["max_steps"]
        again = moved & (now["status"] != Status.RUNNING)
        return _merged(again, self._before, now) if again.any() else now


def _device(name: str) -> str:
    import torch

    if name.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(
            f"the run was begun on {name!r}, and there is no GPU; go on where there is"
        )
    return name


def refuse(path: Path, name: str, stored: object, given: object) -> None:
    """Raise InputError, because a run was begun with another value."""
    raise InputError(
        f"the run at {str(path)!r} was begun with {name} = {stored}, not {given}; go on with the "
        "same, or begin a run at another path"
    )


def _alike(known: Mapping[str, Any], stored: Policy, given: Policy) -> bool:
    if type(given) is not type(stored):
        return False
    if isinstance(stored, LearnedPolicy) and isinstance(given, LearnedPolicy):
        ours, theirs = stored.numpy().weights(), given.numpy().weights()
        return (
            (stored.spec, stored.calibration) == (given.spec, given.calibration)
            and list(ours) == list(theirs)
            and all(np.array_equal(value, theirs[name]) for name, value in ours.items())
        )
    mine = _described(given)
    return all(equal(value, mine.get(name)) for name, value in known.items())


def equal(one: Any, other: Any) -> bool:
    """Whether two values are the same, arrays or not."""
    if any(isinstance(each, np.ndarray) or is_tensor(each) for each in (one, other)):
        return np.array_equal(to_numpy(one), to_numpy(other))
    return one == other


def _words(policy: Policy, known: Mapping[str, Any] | None = None) -> str:
    values = dict(_described(policy) if known is None else known)
    kind, name = values.pop("kind"), values.pop("name", str(policy))
    text = ", ".join(f"{name} = {value}" for name, value in values.items())
    return f"{name} ({text})" if text else name if kind == "other" else f"{name} policy"


class Keeper:
    """Keeps where a run stands.

    Parameters
    ----------
    path
        Of its group.
    limits
        `t_end` and `max_steps` of the run.
    known
        Where it goes on; empty at the start.
    before
        Where systems that have ended stood a little before.
    write_records
        Puts all records so far on disk.
    beside
        Gives what else must be known to go on, by name, (B, …) each, not to be changed any more.
    """

    def __init__(
        self,
        path: Path,
        limits: Mapping[str, Any],
        begun: Begun | None,
        known: Mapping[str, np.ndarray],
        write_records: Callable[[], None],
        beside: Callable[[], Arrays],
    ) -> None:
        self._path, self._limits, self.known = path, limits, known
        self._write_records, self._beside = write_records, beside
        self._now: Arrays = {}
        self._before: Arrays = {} if begun is None else begun.before
        self._due = time.monotonic() + SECONDS

    def restore(self, arrays: Arrays) -> None:
        """Put what is known into the arrays of an engine, and note where it stands.

        Raises
        ------
        InputError
            The run was stored by an engine with other arrays.
        """
        if self.known:
            for name, array in arrays.items():
                if name not in self.known or self.known[name].shape != array.shape:
                    self._refuse_arrays(name)
                array[...] = self.known[name]
        self.note(arrays)

    def beside(self, like: Array) -> dict[str, Array]:
        """What is known, as arrays of a kind and on its device."""
        xp = namespace(like)
        return {name: xp.asarray(value, device=like.device) for name, value in self.known.items()}

    def _refuse_arrays(self, name: str) -> None:
        raise InputError(
            f"the run at {str(self._path)!r} was stored by another version of the engine ({name!r} "
            "is not as it is here); go on with the build that wrote it"
        )

    def note(self, arrays: Arrays) -> None:
        """Take note of where the engine stands between two steps, and keep it now and then.

        Parameters
        ----------
        arrays
            All that it goes on by, (B, …) each; NumPy arrays may change later, tensors may not.
        """
        now = {k: v.copy() if isinstance(v, np.ndarray) else v for k, v in arrays.items()}
        now |= self._beside()
        if self._now:
            status, last = (to_numpy(each["status"]) for each in (now, self._now))
            ended = (status != Status.RUNNING) & (last == Status.RUNNING)
            if ended.any():
                self._before = _merged(ended, _numpy(self._now), self._before)
        self._now = now
        if time.monotonic() >= self._due:
            self.save()

    def save(self, records: bool = True) -> None:
        """Keep where the run stands, as a whole or not at all.

        Parameters
        ----------
        records
            Whether records have to be put on disk first.
        """
        if not self._now:
            return
        begun = time.monotonic()
        if records:
            self._write_records()
        tree = {
            "version": VERSION,
            "now": self._now,
            "before": self._before,
            **self._limits,
        }
        save_tree(tree, self._path / FOLDER / STANDING, kind="standing of a run")
        spent = time.monotonic() - begun
        self._due = time.monotonic() + max(SECONDS, spent / LARGEST_SHARE)


def _merged(chosen: np.ndarray, here: Arrays, there: Arrays) -> Arrays:
    """Of the chosen systems (B,) the values from here, of all others those from there."""
    if not there:
        return dict(here)
    return {
        name: np.where(chosen.reshape(-1, *[1] * (here[name].ndim - 1)), here[name], there[name])
        for name in here
        if name in there
    }


def _numpy(arrays: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {name: to_numpy(value) for name, value in arrays.items()}
