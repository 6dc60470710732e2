"""Runs a module with a wall clock that a test moves: `python -m tests.faults.moving_clock MODULE ARGUMENTS`.

The clock is a file that every process maps into its memory, so all of them jump at once. Monotonic clocks stand apart,
as they do when an operator, or a time server, sets the clock of a machine.
"""

from __future__ import annotations

import datetime
import mmap
import os
import runpy
import struct
import sys
import time
from pathlib import Path
from typing import Any

MODULE = "tests.faults.moving_clock"
CLOCK_VARIABLE = "CLOCK_FILE"
_SHIFT = struct.Struct("d")
_Real = datetime.datetime


def set_clock(file: Path, ahead_s: float) -> None:
    """Set the wall clock to so many seconds after the true one, for everybody who runs with this file."""
    if not file.exists():
        file.write_bytes(bytes(_SHIFT.size))
    with file.open("r+b", buffering=0) as clock:  # in place: a new file would not be the one that is mapped
        clock.write(_SHIFT.pack(ahead_s))


def _ahead_s() -> float:
    return float(_SHIFT.unpack_from(_mapped)[0])


def _asked_by_grpc() -> bool:
    """gRPC's Python half hands times to its other half, which asks the kernel: both must see the same clock."""
    return str(sys._getframe(2).f_globals["__name__"]).startswith("grpc.")


def _move_time() -> None:
    true_time, true_time_ns = time.time, time.time_ns

    def moved_time() -> float:
        return true_time() + (0.0 if _asked_by_grpc() else _ahead_s())

    def moved_time_ns() -> int:
        return true_time_ns() + round(_ahead_s() * 1e9)

    time.time, time.time_ns = moved_time, moved_time_ns


class _Moved(_Real):
    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> Any:
        return _Real.now(tz) + datetime.timedelta(seconds=_ahead_s())


if __name__ == "__main__":
    with open(os.environ[CLOCK_VARIABLE], "rb") as _clock:
        _mapped = mmap.mmap(_clock.fileno(), _SHIFT.size, access=mmap.ACCESS_READ)
    _move_time()
    datetime.datetime = _Moved  # type: ignore[misc]
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
