"""What W&B keeps of a run on this machine, read without W&B's own private readers.

Each attempt has a folder with a file .wandb: records of protobuf in the log format of LevelDB.
https://github.com/google/leveldb/blob/main/doc/log_format.md
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

__all__ = ["mark_sent", "n_rows", "unsent"]

MAGIC = b":W&B"
FILE_HEADER = 7
BLOCK = 32 * 1024
HEADER = 7  # checksum, 4 bytes; length, 2; kind, 1
WHOLE, LAST = 1, 4  # kinds of a piece that ends a record


def n_rows(folder: Path) -> int:
    """Rows that are kept: one more than the largest step, over all attempts."""
    return 1 + max((step for path in _files(folder) for step in _steps(path)), default=-1)


def unsent(folder: Path) -> list[Path]:
    """Files of attempts without a connection that `wandb sync` has not sent."""
    return [
        path
        for path in _files(folder)
        if path.parent.name.startswith("offline-") and not _mark(path).exists()
    ]


def mark_sent(folder: Path) -> None:
    """Keep `wandb sync` from sending rows once more that W&B got otherwise."""
    for path in unsent(folder):
        _mark(path).touch()


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*run-*/run-*.wandb"))


def _mark(path: Path) -> Path:
    return path.with_name(f"{path.name}.synced")


def _steps(path: Path) -> Iterator[int]:
    """Steps of the rows, up to where a kill cut the file off."""
    from google.protobuf.message import DecodeError

    Record: Any = import_module("wandb.proto.wandb_internal_pb2").Record  # made as it is imported
    for data in _records(path.read_bytes()):
        try:
            record = Record.FromString(data)
        except DecodeError:
            return
        if record.WhichOneof("record_type") == "history":
            yield record.history.step.num


def _records(data: bytes) -> Iterator[bytes]:
    if not data.startswith(MAGIC):
        return
    at, record = FILE_HEADER, b""
    while at + HEADER <= len(data):
        if BLOCK - at % BLOCK < HEADER:
            at += BLOCK - at % BLOCK
            continue
        length = int.from_bytes(data[at + 4 : at + 6], "little")
        kind = data[at + 6]
        at += HEADER
        record += data[at : at + length]
        at += length
        if kind == 0 or at > len(data):
            return
        if kind in (WHOLE, LAST):
            yield record
            record = b""
