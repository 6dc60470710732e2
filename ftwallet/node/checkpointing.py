"""Checkpoints of the ledger, so that a start does not replay all history and nothing waits while one is written.

The state is copied on the event loop, at a block's end; encoding and writing happen in a thread. A backup executes
ahead of the commit, so its copy is kept until the commit has reached it: a checkpoint never holds what might be cut.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import structlog

from ftwallet.journal import Block
from ftwallet.journal.checkpoints import CheckpointMeta
from ftwallet.ledger.ledger import Ledger
from ftwallet.node.base import Base, Snapshot
from ftwallet.node.disk import Disk
from ftwallet.replication.messages import EpochEnd, cut_history

History = Callable[[], tuple[EpochEnd, ...]]


class _Waiting(NamedTuple):
    snapshot: Snapshot
    meta: CheckpointMeta


class Checkpointer:
    """Writes one checkpoint every `every` records, at most one at a time.

    `ledger` and `history` are asked each time: a cut gives a backup another ledger.
    """

    def __init__(
        self, base: Base, ledger: Callable[[], Ledger], disk: Disk, history: History, *, every: int, last_lsn: int
    ) -> None:
        self._base = base
        self._ledger = ledger
        self._disk = disk
        self._history = history
        self._every = every
        self._last_lsn = last_lsn
        self._waiting: _Waiting | None = None
        self._in_a_hurry = False
        self._log = structlog.get_logger()

    @property
    def last_lsn(self) -> int:
        """Where the newest checkpoint stands, or will stand."""
        return self._last_lsn

    def applied(self, block: Block) -> None:
        """A block was executed; the ledger stands right after it."""
        due = self._in_a_hurry or block.last_lsn - self._last_lsn >= self._every
        if self._waiting is None and due:
            self._take(block.epoch, block.chain)

    def hurry(self) -> None:
        """Somebody needs a checkpoint: take one now if the ledger stands at the log's end, else at the next block's."""
        journal = self._disk.journal
        self._in_a_hurry = True
        if self._waiting is None and 0 < self._ledger().applied_lsn == journal.durable_lsn:
            self._take(journal.history[-1][0], journal.chain)

    def stands_at(self, lsn: int) -> None:
        """The node has another ledger, from what the disk has at `lsn`; a copy of what it had before is for nobody."""
        self._waiting, self._last_lsn = None, lsn

    def _take(self, epoch: int, chain: bytes) -> None:
        ledger = self._ledger()
        lsn = ledger.applied_lsn
        ends = [(end.epoch, end.last_lsn) for end in cut_history(self._history(), lsn)]
        meta = CheckpointMeta(lsn=lsn, epoch=epoch, chain=chain, digest=ledger.digest, history=ends)
        self._waiting = _Waiting(self._base.snapshot(ledger), meta)
        self._last_lsn, self._in_a_hurry = lsn, False

    async def tick(self, commit_lsn: int) -> None:
        """Write the copy that waits, once the commit has reached it. Raises DiskFault."""
        waiting = self._waiting
        if waiting is None or waiting.meta.lsn > commit_lsn:
            return
        if waiting.meta.lsn > self._disk.journal.commit_lsn:  # a start believes no state that the log does not reach
            await self._disk.append_mark(waiting.meta.lsn)
            if self._waiting is not waiting:
                return
        written = await self._disk.in_background(lambda: self._write(waiting))
        if self._waiting is waiting:  # else a state sync has ended meanwhile, and another copy may wait by now
            self._waiting = None
        if written:
            waiting.snapshot.written()
            self._log.info(f"{self._base.called.capitalize()} written at lsn {waiting.meta.lsn}")

    def _write(self, waiting: _Waiting) -> bool:
        if not self._disk.journal.holds(waiting.meta.lsn, waiting.meta.chain):  # the log was cut since the copy
            return False
        waiting.snapshot.write(waiting.meta)
        return True

    async def at_stop(self, commit_lsn: int) -> None:
        """Write one for the next start, if the ledger stands at the log's end and the commit has reached it."""
        await self.tick(commit_lsn)
        journal = self._disk.journal
        lsn = self._ledger().applied_lsn
        if lsn > self._last_lsn and lsn == journal.durable_lsn == commit_lsn:
            self._take(journal.history[-1][0], journal.chain)
            await self.tick(commit_lsn)
