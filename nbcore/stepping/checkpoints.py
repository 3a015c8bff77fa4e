"""Policies and training states on disk: one safetensors file each, with JSON in its header.

A file is written beside its target and then renamed, so that it is whole or not there. Nothing is
ever unpickled.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import os
import platform
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from safetensors.numpy import save as to_bytes

from nbcore.atomic import replacing
from nbcore.errors import InputError, unknown_name
from nbcore.physics.arrays import is_tensor, to_numpy
from nbcore.physics.fields import field_from, field_to_store
from nbcore.physics.state import State
from nbcore.stepping.budget import LAW, Law
from nbcore.stepping.calibration import Calibration
from nbcore.stepping.models import ArrayNetwork
from nbcore.stepping.policies import LearnedPolicy, OwnStep
from nbcore.stepping.spec import PolicySpec
from nbcore.stepping.suites import Suite

__all__ = [
    "POLICY_FILE",
    "load_policy",
    "load_tree",
    "model_card",
    "policy_tree",
    "save_policy",
    "save_tree",
    "shipped_policies",
    "shipped_policy",
    "training_systems",
]

VERSION = 2
POLICY_FILE = "policy.safetensors"  # in a run folder
SHIPPED = Path(__file__).resolve().parent / "pretrained"


def save_policy(
    policy: LearnedPolicy | Suite | OwnStep,
    path: str | Path,
    *,
    config: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    systems: State | None = None,
) -> Path:
    """Write a policy, or a suite of them, with everything that is needed to use it.

    Of `OwnStep` that is the law by which runs of gbs spend their tolerance.

    Parameters
    ----------
    path
        Name it *.safetensors; its folder is made.
    config, metrics
        Plain values that are kept beside the weights.
    systems
        The initial conditions that it was trained on.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    return save_tree(policy_tree(policy, config, metrics, systems), path, kind="policy")


def policy_tree(
    policy: LearnedPolicy | Suite | OwnStep,
    config: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    systems: State | None = None,
) -> dict[str, Any]:
    """What `save_policy` writes of the same arguments."""
    if isinstance(policy, OwnStep):
        made: dict[str, Any] = {"law": (policy.law or LAW)._asdict()}
    else:
        members = policy.members if isinstance(policy, Suite) else (policy,)
        made = {
            "suite": isinstance(policy, Suite),
            "members": [_tree_of(member) for member in members],
        }
    tree: dict[str, Any] = {
        **made,
        "config": dict(config or {}),
        "metrics": dict(metrics or {}),
        "versions": {name: version(name) for name in ("numpy", "torch")}
        | {"python": platform.python_version()},
    }
    if systems is not None:
        batch = ("mass", "position", "velocity", "time")
        tree["systems"] = {name: getattr(systems, name) for name in batch} | {
            "G": systems.G,
            "softening": systems.softening,
            "field": field_to_store(systems.field),
        }
    return tree


def _tree_of(policy: LearnedPolicy) -> dict[str, Any]:
    known = policy.calibration
    return {
        "spec": dataclasses.asdict(policy.spec),
        "calibration": None if known is None else known._asdict(),
        "weights": policy.weights(),
    }


def load_policy(path: str | Path) -> LearnedPolicy | Suite | OwnStep:
    """Read a policy or a suite of them, or the law by which runs of gbs spend their tolerance.

    Parameters
    ----------
    path
        Of a checkpoint or of a run folder that holds one, or a shipped name.

    Raises
    ------
    InputError
        There is none, or it is truncated, of another version, a pickle, or has a weight that is
        not finite.
    """
    found = _find(path)
    if found.parent == SHIPPED:
        return copy.deepcopy(_read_once(found, found.stat().st_mtime_ns))
    return _read(found, path)


def shipped_policy(name: str) -> LearnedPolicy | Suite:
    """A shipped policy that is shared by all who ask for it, and must not be changed."""
    found = _find(name)
    policy = _read_once(found, found.stat().st_mtime_ns)
    assert not isinstance(policy, OwnStep)
    return policy


@lru_cache(maxsize=8)
def _read_once(path: Path, _changed: int) -> LearnedPolicy | Suite | OwnStep:
    return _read(path, path.stem)


def _read(found: Path, path: str | Path) -> LearnedPolicy | Suite | OwnStep:
    tree = load_tree(found, kind="policy")
    try:
        if "law" in tree:
            return OwnStep(law=_law_of(tree["law"]))
        members = tuple(_policy_of(member) for member in tree["members"])
        policy = Suite(members) if tree["suite"] else members[0]
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        words = " ".join(str(error).split())
        raise InputError(
            f"policy {str(path)!r} can't be used: {words}; take another copy, or train it again"
        ) from None
    return policy


def _law_of(numbers: Mapping[str, Any]) -> Law:
    law = Law(**{name: float(value) for name, value in numbers.items()})
    if not all(math.isfinite(value) for value in law):
        raise ValueError("its law holds a number that is not finite")
    positive = ("goal", "limit", "largest", "excess", "weight", "least_excess", "most_excess")
    for name in positive:
        if not getattr(law, name) > 0:
            raise ValueError(f"{name} of its law is {getattr(law, name)}, and must be positive")
    return law


def _policy_of(tree: Mapping[str, Any]) -> LearnedPolicy:
    spec = tree["spec"]
    known = {f.name for f in dataclasses.fields(PolicySpec)}
    for name in spec:
        if name not in known:
            raise ValueError(f"the setting {name!r} is unknown here")
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in spec.items()}
    values["features"] = [f for name in spec["features"] for f in OLD_SETS.get(name, (name,))]
    spec = PolicySpec(**values)
    for name, value in tree["weights"].items():
        # The range of what was seen in training is infinite before there was any.
        allowed = ~np.isnan(value) if name.endswith(("least", "most")) else np.isfinite(value)
        if not allowed.all():
            raise ValueError(f"{name} holds a value that is not finite")
    weights = {name.removeprefix("network."): value for name, value in tree["weights"].items()}
    network = ArrayNetwork.of(weights, spec.activation)
    policy = LearnedPolicy(spec, network)
    network.check(spec)
    if tree["calibration"] is not None:
        policy.calibration = Calibration(**tree["calibration"])
    return policy


def training_systems(path: str | Path) -> State:
    """Initial conditions that a policy was trained on, as a batch."""
    tree = load_tree(_find(path), kind="policy")
    if "systems" not in tree:
        raise InputError(
            f"policy {str(path)!r} was stored without its training systems; "
            "name a scenario or a file instead"
        )
    systems = dict(tree["systems"])
    systems["field"] = field_from(systems.get("field"))
    return State.from_arrays(**systems)


def shipped_policies() -> dict[str, Path]:
    """Files of the policies that come with the package, by name."""
    return {file.stem: file for file in sorted(SHIPPED.glob("*.safetensors"))}


def model_card(name: str = "default", section: str | None = None) -> str:
    """What a shipped policy was trained on, what it gains and where it loses, in Markdown.

    Parameters
    ----------
    section
        Heading of the part that is wanted; without it the whole card.

    Raises
    ------
    InputError
        There is no such policy, or no such part.
    """
    cards = {file.stem: file for file in SHIPPED.glob("*.md")}
    if name not in cards:
        raise unknown_name("shipped policy", name, cards)
    text = cards[name].read_text(encoding="utf-8")
    if section is None:
        return text
    parts = dict(part.split("\n", 1) for part in text.split("\n## ")[1:])
    if section not in parts:
        raise unknown_name("section", section, parts)
    return parts[section].strip()


def _find(path: str | Path) -> Path:
    if not isinstance(path, (str, os.PathLike)):
        raise InputError(
            f"a policy is read from a path or by a shipped name such as 'default', and this is a "
            f"{type(path).__name__}; a policy that is at hand needs no reading"
        )
    found = Path(path)
    if found.is_dir():
        found = found / POLICY_FILE
    if found.exists():
        return found
    if found.suffix or len(found.parts) > 1:
        raise InputError(f"there is no policy at {str(path)!r}; train one, or check the path")
    shipped = shipped_policies()
    if str(path) not in shipped:
        raise InputError(
            f"{unknown_name('policy', str(path), shipped)}; "
            "or give the path of a checkpoint or of a run's folder"
        )
    return shipped[str(path)]


def save_tree(tree: Mapping[str, Any], path: str | Path, kind: str) -> Path:
    """Write nested dicts, lists and tuples of numbers, text and arrays, whole or not at all.

    The folder has to be there: one that was removed under a run is not to come back.
    """
    arrays: dict[str, np.ndarray] = {}
    header = {"kind": kind, "version": VERSION, "tree": _pack(tree, arrays)}
    data = to_bytes(arrays, metadata={"nbcore": json.dumps(header)})
    with replacing(path) as part:
        part.write_bytes(data)
    return Path(path)


def load_tree(path: str | Path, kind: str) -> dict[str, Any]:
    """Read what `save_tree` wrote, with NumPy arrays, or raise InputError with what is wrong."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no {kind} at {str(path)!r}; check the path")
    with open(path, "rb") as file:
        start = file.read(9)
    # The length of a safetensors header comes first, and may happen to look like a pickle's start.
    if start[8:] != b"{" and (start[:1] == b"\x80" or start[:2] == b"PK"):
        raise InputError(
            f"{str(path)!r} is a pickle, which could run any code and is never read; "
            "save the policy with nb.save_policy"
        )
    try:
        with safetensors.safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name).copy() for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as error:
        words = " ".join(str(error).split())
        raise InputError(
            f"{str(path)!r} is truncated or not a {kind} ({words}); take another copy"
        ) from None
    try:
        header = json.loads(metadata["nbcore"])
        found, version, packed = header["kind"], header["version"], header["tree"]
    except (KeyError, TypeError, json.JSONDecodeError):
        raise InputError(
            f"{str(path)!r} was not written by nbcore, so it is no {kind}; check the path"
        ) from None
    if found != kind:
        raise InputError(f"{str(path)!r} holds a {found}, not a {kind}; check the path")
    if version != VERSION:
        raise InputError(
            f"{str(path)!r} is of version {version}, and this build reads {VERSION}; "
            "train it again, or install the version that wrote it"
        )
    try:
        return _unpack(packed, arrays)
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{str(path)!r} is damaged; take another copy") from None


def _pack(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(value, np.ndarray) or is_tensor(value):
        name = str(len(arrays))
        arrays[name] = np.ascontiguousarray(to_numpy(value)).reshape(value.shape)
        return {"tensor": name}
    if isinstance(value, Mapping):
        return {"items": [[_pack(k, arrays), _pack(v, arrays)] for k, v in value.items()]}
    if isinstance(value, tuple):
        return {"tuple": [_pack(v, arrays) for v in value]}
    if isinstance(value, list):
        return [_pack(v, arrays) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"{type(value)} can't be stored")


def _unpack(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(value, list):
        return [_unpack(v, arrays) for v in value]
    if isinstance(value, dict):
        if "tensor" in value:
            return arrays[value["tensor"]]
        if "float" in value:
            return float(value["float"])
        if "tuple" in value:
            return tuple(_unpack(v, arrays) for v in value["tuple"])
        return {_unpack(k, arrays): _unpack(v, arrays) for k, v in value["items"]}
    return value


_PAIRS = ("fly_by", "binding", "radial", "heaviness", "asymmetry")
_FOUR = ("mean", "min", "max", "rms")
# What the names of sets stood for when policies were stored by them. Today's hold their features
# one by one, so that this table stays as it is.
OLD_SETS: dict[str, tuple[str, ...]] = {
    "scale_free": (
        *_PAIRS,
        *("crowding", "rate_contrast", "depth", "compactness", "virial", "perturbation"),
    ),
    "pairs": (*_PAIRS, "perturbation"),
    "basic": (
        *("n_bodies", "n_dimensions", "total_mass", "mean_distance", "max_distance"),
        *("mean_speed", "max_speed", "mean_acceleration", "max_acceleration"),
        *("min_separation", "mean_separation"),
    ),
    "rich": (
        *("n_bodies", "n_dimensions", "total_mass"),
        *(f"{k}_{w}" for w in ("mass", "distance", "speed", "acceleration") for k in _FOUR),
        *("mean_separation", "min_separation", "max_separation", "softening"),
    ),
}
