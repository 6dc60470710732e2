"""The crash points of one process, compiled into the path of every transaction as one cheap check.

The path asks `if injector.armed` and nothing more. Armed, the process counts new transactions, takes the
N-th for its target, and sends itself a real signal when that one reaches the stage: never an exception,
which would run the cleanup that a crash does not.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from signal import SIGKILL, Signals
from typing import NamedTuple

from ftwallet.faults.crash import Crash, forget_crash, write_crash
from ftwallet.faults.stages import Stage


class Arming(NamedTuple):
    """What is armed: `signal` at `stage` of the `after`-th new transaction from now, counted from 1."""

    stage: Stage
    after: int
    signal: Signals


def _signal_own_process(signal: Signals) -> None:
    os.kill(os.getpid(), signal)


def _wall_clock_us() -> int:
    return time.time_ns() // 1000


class Injector:
    """One process's armed crash, if any; it lives in the memory of the process and dies with it.

    `armed` is what the path checks. `arming` and `target`, the id that the crash waits for, are None until
    there is one.
    """

    def __init__(
        self,
        node_dir: Path,
        strike: Callable[[Signals], None] = _signal_own_process,
        now_us: Callable[[], int] = _wall_clock_us,
    ) -> None:
        self.armed = False
        self.arming: Arming | None = None
        self.target: str | None = None
        self._seen = 0
        self._node_dir = node_dir
        self._strike = strike
        self._now_us = now_us

    def arm(self, stage: Stage, after: int = 1, signal: Signals = SIGKILL) -> None:
        """Arm one crash, in place of an earlier one; the note of an earlier crash is removed.

        Raises ValueError when `after` is below 1.
        """
        if after < 1:
            raise ValueError(f"a crash is armed for the 1st new transaction or a later one, not for number {after}")
        self.disarm()
        forget_crash(self._node_dir)
        self.arming = Arming(stage, after, signal)
        self.armed = True

    def disarm(self) -> None:
        """Forget what was armed; nothing happens when nothing was."""
        self.armed = False
        self.arming = None
        self.target = None
        self._seen = 0

    def saw_new(self, transaction_id: str) -> None:
        """Count a transaction that is new to this process: not a retry of one that is known or under way."""
        if self.arming is None or self.target is not None:
            return
        self._seen += 1
        if self._seen == self.arming.after:
            self.target = transaction_id

    def reached(self, stage: Stage, ids: Iterable[str], first_lsn: int | None = None) -> None:
        """Crash here if this is the armed stage and the target is among the ids that just completed it.

        `first_lsn` is that of the first id, where the ids are a block in order of lsn: the note that is left
        for the supervisor then says the target's own. Does not return after SIGKILL.
        """
        arming, target = self.arming, self.target
        if arming is None or arming.stage != stage or target is None:
            return
        place = next((place for place, transaction_id in enumerate(ids) if transaction_id == target), None)
        if place is not None:
            # Disarmed first: a signal that the process survives (SIGSTOP, then SIGCONT) must not strike again.
            self.disarm()
            self._leave_note(arming, target, None if first_lsn is None else first_lsn + place)
            self._strike(arming.signal)

    def _leave_note(self, arming: Arming, target: str, lsn: int | None) -> None:
        crash = Crash(
            stage=arming.stage,
            transaction_id=target,
            lsn=lsn,
            signal=arming.signal,
            pid=os.getpid(),
            time_us=self._now_us(),
        )
        # On a full disk the note is lost; the crash that was asked for still happens.
        with suppress(OSError):
            write_crash(self._node_dir, crash)
