"""What is cut from a log is kept: a copy of its bytes, durable before the first of them is removed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

from ftwallet import platform
from ftwallet.journal.damage import disk_errors

_CHUNK_BYTES = 1 << 20


class Tail(NamedTuple):
    """A file from byte `offset` to before byte `until`; what is behind, where there is anything, is zero."""

    path: Path
    offset: int
    until: int


def keep(quarantine: Path, last_lsn: int, why: str, tails: Sequence[Tail]) -> Path:
    """Copy tails into a new directory `<quarantine>/<utc>-<last_lsn>/`, durably, and return it.

    `last_lsn` is the last record that stays in the log. `about.json` is written last: a copy without one was
    never finished, and nothing was cut then. Raises DiskFault.
    """
    now = datetime.fromtimestamp(time.time(), UTC)
    with disk_errors(quarantine, "written"):
        directory = _new_directory(quarantine / f"{now:%Y%m%dT%H%M%S.%fZ}-{last_lsn}")
        kept = [_copy(tail, directory) for tail in tails]
        about = {"format_version": 1, "at": now, "why": why, "last_lsn_kept": last_lsn, "files": kept}
        platform.write_atomically(directory / "about.json", msgspec.json.format(msgspec.json.encode(about)) + b"\n")
    return directory


def _new_directory(path: Path) -> Path:
    while path.exists():  # a clock that stands still or was set back
        path = path.with_name(path.name + "+")
    platform.make_directory(path)
    return path


def _copy(tail: Tail, directory: Path) -> dict[str, object]:
    target = directory / f"{tail.path.stem}-from-byte-{tail.offset}.frames"
    size = 0
    fd = platform.create_file(target)
    try:
        for chunk in _chunks(tail):
            platform.write_all(fd, chunk, size)
            size += len(chunk)
        platform.fdatasync(fd)
    finally:
        os.close(fd)
    return {"file": target.name, "segment": tail.path.name, "offset": tail.offset, "bytes": size}


def _chunks(tail: Tail) -> Iterator[bytes]:
    with tail.path.open("rb") as source:
        source.seek(tail.offset)
        while chunk := source.read(min(_CHUNK_BYTES, tail.until - source.tell())):
            yield chunk
