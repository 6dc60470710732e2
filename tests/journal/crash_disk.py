"""A disk that loses power: it ends the world right before the operation with a given number.

`after_power_loss` then makes the files that a disk may show afterwards, by the rules of `unsynced.py`.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from ftwallet import platform
from tests.journal.unsynced import OPERATIONS, UnsyncedFiles


class Crash(BaseException):
    """The process is gone; nothing may catch this."""


class CrashDisk(UnsyncedFiles):
    """Files below `root`, which a test then uses through `ftwallet.platform`."""

    def __init__(self, root: Path, shadow: Path, patch: pytest.MonkeyPatch, crash_at: int) -> None:
        super().__init__(root, shadow)
        self.done: list[str] = []
        self._crash_at = crash_at
        for name in OPERATIONS:
            patch.setattr(platform, name, getattr(self, name))

    def live_on(self) -> None:
        """Only the process ended: another uses the same files, and nothing ends it."""
        self._crash_at = -1

    def after_power_loss(self, target: Path, choice: Random) -> None:
        """Make the files that may be there when power is back."""
        self.rebuild(target, choice)

    def _step(self, name: str, fd: int = -1) -> None:
        if len(self.done) == self._crash_at:
            raise Crash(f"before operation {self._crash_at}, {name}")
        self.done.append(name)
