"""The note that a process leaves before it kills itself, from which the supervisor tells the story.

It is written for a reader on the same machine that outlives the process, so it is not fsynced: the death of
a process loses nothing that it has written.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from ftwallet.faults.stages import Stage

FILE_NAME: Final = "crash.json"


class Crash(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which transaction was at which stage; `lsn` is None before it has one, `time_us` microseconds since 1970 UTC."""

    stage: Stage
    transaction_id: str
    lsn: int | None
    signal: int
    pid: int
    time_us: int


def write_crash(node_dir: Path, crash: Crash) -> None:
    """Leave the note in a node's directory, whole or not at all; raises OSError."""
    unfinished = node_dir / (FILE_NAME + ".tmp")
    unfinished.write_bytes(msgspec.json.encode(crash))
    unfinished.replace(node_dir / FILE_NAME)


def read_crash(node_dir: Path) -> Crash | None:
    """The note of the last armed crash, None when there is none; raises ValueError when it is not such a note."""
    try:
        return msgspec.json.decode((node_dir / FILE_NAME).read_bytes(), type=Crash)
    except FileNotFoundError:
        return None


def forget_crash(node_dir: Path) -> None:
    """Remove the note, if there is one."""
    (node_dir / FILE_NAME).unlink(missing_ok=True)
