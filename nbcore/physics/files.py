"""Initial conditions in files."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from nbcore.atomic import replacing
from nbcore.errors import InputError, unknown_name
from nbcore.physics.columns import VECTORS, by_name
from nbcore.physics.external import Field
from nbcore.physics.plain import check_plain
from nbcore.physics.state import State
from nbcore.physics.text import LAYOUT, read_table

__all__ = ["load", "save"]

_ARRAYS = ("mass", "position", "velocity")
_NUMBERS = ("G", "softening")
_AXES = {"position": ("x", "y", "z"), "velocity": ("vx", "vy", "vz")}


def load(
    path: str | Path,
    *,
    G: float | None = None,
    softening: float | None = None,
    field: Field | None = None,
) -> State:
    """Read a state from a file.

    Parameters
    ----------
    path
        .txt, .csv, .dat, .tsv: one row a body. A row of names, which may be a comment as NumPy
        writes it, says which columns are mass, x, y, z, vx, vy, vz (and time), in any order and
        in common spellings; without names there are 5 or 7 columns in the order mass, position,
        velocity. «#» starts a comment, in which «G = 1», «softening: 0.1» (or eps), «time = 0»
        (or t) count.
        .npy: such rows as an array (N, 5|7) or (B, N, 5|7), or fields of these names. .npz,
        .json: arrays mass, position, velocity and optionally G, softening, time.
    G, softening
        None takes the file's, or 1 and 0 where it has none.
    field
        External field.

    Raises
    ------
    InputError
        The file can't be read, names of its columns are unknown, incomplete, doubled, carry a
        unit or are orbital elements, a comment seems to name them otherwise than they are read, it
        names units and there is no G, or it holds another G or softening than asked for.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise InputError(f"path is {path!r}; give the path of a file")
    path = Path(path)
    read = _format(path)[0]
    if not path.is_file():
        raise InputError(f"file {str(path)!r} does not exist; check the path")
    try:
        content = read(path.read_bytes())
        hints = content.pop("hints", {})
        for name, asked in (("G", G), ("softening", softening)):
            if name in hints and asked is None and name not in content:
                raise InputError(
                    f"a comment says {hints[name]!r} and there is no {name} that can be read; "
                    f"add the comment «# {name} = …» with a number in the file's units, or give "
                    f"{name} beside the file"
                )
        numbers = {
            name: _choose(name, asked, content.pop(name, None), default)
            for name, asked, default in (("G", G, 1.0), ("softening", softening, 0.0))
        }
        return State.from_arrays(**content, **numbers, field=field)
    except InputError as error:
        raise InputError(f"file {str(path)!r}: {error}") from None


def save(state: State, path: str | Path) -> None:
    """Write a state so that `load` reads it back, all or nothing.

    The external field is not stored; .npy stores the rows alone, without G, softening and time.

    Raises
    ------
    InputError
        The suffix is unknown, the folder does not exist, or a batch goes to text.
    """
    path = Path(path)
    content = _format(path)[1](state)
    if not path.parent.is_dir():
        raise InputError(f"folder {str(path.parent)!r} does not exist; make it first")
    with replacing(path) as part:
        part.write_bytes(content)


def _format(path: Path) -> tuple[_Read, _Write]:
    suffix = path.suffix.lower()
    if suffix not in _FORMATS:
        raise unknown_name(f"suffix of file {str(path)!r}", suffix, _FORMATS)
    return _FORMATS[suffix]


def _choose(name: str, asked: float | None, stored: Any, default: float) -> float:
    check_plain(name, asked)
    if stored is None:
        return default if asked is None else asked
    value = np.asarray(stored)
    if value.ndim or value.dtype.kind not in "iuf":
        raise InputError(f"{name} is {stored!r}; it must be one number")
    if asked is not None and asked != value:
        raise InputError(f"it holds {name}={value}, not {name}={asked}; ask for {value}")
    return float(value)


def _from_rows(rows: np.ndarray) -> dict[str, Any]:
    if rows.ndim not in (2, 3) or rows.shape[-1] not in (5, 7):
        raise InputError(f"the shape is {rows.shape}; rows must have {LAYOUT}")
    split = (rows.shape[-1] + 1) // 2
    return {
        "mass": rows[..., 0],
        "position": rows[..., 1:split],
        "velocity": rows[..., split:],
    }


def _to_rows(state: State) -> np.ndarray:
    arrays = state.to_arrays()
    return np.concatenate([arrays["mass"][..., None], arrays["position"], arrays["velocity"]], -1)


def _from_table(table: Mapping[str, Any]) -> dict[str, Any]:
    known = (*_ARRAYS, *_NUMBERS, "time")
    for key in table:
        if key not in known:
            raise unknown_name("key", key, known)
    for key in _ARRAYS:
        if key not in table:
            raise InputError(f"key {key!r} is missing; it must hold {', '.join(_ARRAYS)}")
    return dict(table)


def _to_table(state: State) -> dict[str, Any]:
    return {**state.to_arrays(), "G": state.G, "softening": state.softening}


def _read_text(content: bytes) -> dict[str, Any]:
    return read_table(_decode(content))


def _decode(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError("it is not UTF-8 text; a binary array needs the suffix .npy") from None


def _write_text(separator: str) -> Callable[[State], bytes]:
    def write(state: State) -> bytes:
        if state.batched:
            raise InputError(
                f"a batch of {state.n_systems} systems can't be written as text; "
                "use .npy, .npz or .json"
            )
        axes = "xyz"[: state.n_dimensions]
        header = ["mass", *axes, *(f"v{axis}" for axis in axes)]
        numbers = {"G": state.G, "softening": state.softening, "time": float(state.time[0])}
        lines = [f"# {name} = {value!r}" for name, value in numbers.items()]
        lines.append(separator.join(header))
        lines += [separator.join(map(repr, row)) for row in _to_rows(state).tolist()]
        return ("\n".join(lines) + "\n").encode()

    return write


def _numeric(name: str, value: np.ndarray) -> np.ndarray:
    if value.dtype.kind not in "iuf":
        raise InputError(f"{name} holds {value.dtype}, not real numbers; save it as float64")
    return value


def _read_numpy(content: bytes) -> Any:
    if not content:
        raise InputError("it is empty; save an array with numpy first")
    try:
        loaded = np.load(BytesIO(content), allow_pickle=False)
        return dict(loaded) if isinstance(loaded, np.lib.npyio.NpzFile) else loaded
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise InputError(
            f"numpy can't read it ({error}); save plain number arrays, for pickled objects are "
            "not opened"
        ) from None


def _read_npy(content: bytes) -> dict[str, Any]:
    rows = _read_numpy(content)
    if isinstance(rows, dict):
        raise InputError("it is an .npz archive; rename it")
    if rows.dtype.names:
        return _from_fields(rows)
    return _from_rows(_numeric("the array", rows))


def _from_fields(rows: np.ndarray) -> dict[str, Any]:
    """Arrays from one with named fields, numbers or vectors."""
    columns: list[tuple[str, str, tuple[int, ...]]] = []
    for name in rows.dtype.names or ():
        width = rows[name].shape[rows.ndim :]
        if not width:
            columns.append((name, name, ()))
        elif len(width) == 1 and name.lower() in VECTORS and width[0] in (2, 3):
            axes = _AXES[VECTORS[name.lower()]]
            columns += [(axis, name, (k,)) for k, axis in enumerate(axes[: width[0]])]
        else:
            raise InputError(f"field {name!r} has shape {width}; give mass, position, velocity")

    def column(k: int) -> np.ndarray:
        _, name, place = columns[k]
        return _numeric(f"field {name!r}", rows[name])[(..., *place)]

    return by_name([name for name, _, _ in columns], column)


def _write_npy(state: State) -> bytes:
    buffer = BytesIO()
    np.save(buffer, _to_rows(state), allow_pickle=False)
    return buffer.getvalue()


def _read_npz(content: bytes) -> dict[str, Any]:
    table = _read_numpy(content)
    if not isinstance(table, dict):
        raise InputError("it is a single .npy array; rename it")
    return _from_table({name: _numeric(name, value) for name, value in table.items()})


def _write_npz(state: State) -> bytes:
    buffer = BytesIO()
    np.savez(buffer, **_to_table(state))
    return buffer.getvalue()


def _read_json(content: bytes) -> dict[str, Any]:
    try:
        table = json.loads(_decode(content), object_pairs_hook=_without_doubles)
    except json.JSONDecodeError as error:
        raise InputError(f"line {error.lineno} is not JSON: {error.msg}; mend it") from None
    if not isinstance(table, dict):
        raise InputError(f"it holds no object; give one with {', '.join(_ARRAYS)}")
    return _from_table(table)


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        keys = [key for key, _ in pairs]
        double = next(key for key in keys if keys.count(key) > 1)
        raise InputError(f"key {double!r} stands there twice; leave one of them")
    return table


def _write_json(state: State) -> bytes:
    table = {name: np.asarray(value).tolist() for name, value in _to_table(state).items()}
    return (json.dumps(table, indent=1) + "\n").encode()


_Read = Callable[[bytes], dict[str, Any]]
_Write = Callable[[State], bytes]
_FORMATS: dict[str, tuple[_Read, _Write]] = {
    ".npy": (_read_npy, _write_npy),
    ".npz": (_read_npz, _write_npz),
    ".txt": (_read_text, _write_text(" ")),
    ".csv": (_read_text, _write_text(",")),
    ".dat": (_read_text, _write_text(" ")),
    ".tsv": (_read_text, _write_text("\t")),
    ".json": (_read_json, _write_json),
}
