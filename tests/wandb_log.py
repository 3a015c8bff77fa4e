"""What W&B has kept of a run offline, read without W&B's server and without nbcore."""

import json
import struct
from pathlib import Path
from typing import Any, NamedTuple

from wandb.proto import wandb_internal_pb2


class Attempt(NamedTuple):
    """What one file holds; the exit code is None if it was cut off."""

    run: Any
    config: dict[str, Any]
    rows: list[dict[str, Any]]
    summary: dict[str, Any]
    artifacts: list[Any]
    exit_code: int | None


def attempts(folder: Path) -> list[Attempt]:
    """Of a run, in the order of time."""
    return [_attempt(path) for path in sorted((folder / "wandb").glob("offline-run-*/*.wandb"))]


def _attempt(path: Path) -> Attempt:
    run, exit_code = None, None
    config, summary, rows, artifacts = {}, {}, [], []
    for data in _messages(path.read_bytes()):
        record = wandb_internal_pb2.Record.FromString(data)
        match record.WhichOneof("record_type"):
            case "run":
                run = record.run
                config |= _table(record.run.config.update)
            case "config":
                config |= _table(record.config.update)
            case "history":
                rows.append(_table(record.history.item))
            case "summary":
                summary |= _table(record.summary.update)
            case "artifact":
                artifacts.append(record.artifact)
            case "exit":
                exit_code = record.exit.exit_code
    return Attempt(run, config, rows, summary, artifacts, exit_code)


def _table(items: Any) -> dict[str, Any]:
    return {".".join(i.nested_key) or i.key: json.loads(i.value_json) for i in items}


def _messages(data: bytes):
    """Reassemble what is cut into blocks of 32 KiB; the file's own head is in the first."""
    assert data[:4] == b":W&B"
    message = b""
    for start in range(0, len(data), 32768):
        block = data[start : start + 32768]
        at = 0 if start else 7
        while at + 7 <= len(block):
            _, length, kind = struct.unpack_from("<IHB", block, at)
            piece = block[at + 7 : at + 7 + length]
            if kind == 0 or len(piece) < length:
                break
            message = message + piece if kind in (3, 4) else piece
            at += 7 + length
            if kind in (1, 4):
                yield message
