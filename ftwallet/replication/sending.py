"""What a primary knows of its backup within one stream, and what it sends it: blocks, or a checkpoint's slices.

No more is under way than the limits say, and only what is durable here is sent, so that the backup's log is always a
prefix of this node's durable one. Who must hold a record before it is answered is not known here.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from ftwallet.replication.effects import Effect, Greet, ReadBlocks, ReadSlice, Send, Wanted
from ftwallet.replication.messages import SLICE_BYTES, Blocks, CheckpointFile, EpochEnd, Identity, LoggedBlock


class Limits(NamedTuple):
    """Counts of messages under way to the backup, which acks each.

    `outstanding`: at most. `reading`: at most while it catches up from our journal; it syncs every block of them, so
    few keep its acks timely. `near`: with all that we have sent and no more than these not acked, it may join.
    `slices`: at most in a state sync, each of at most `slice_bytes`; that is the way of a backup to which a checkpoint
    brings more than `state_sync_records` records.
    """

    outstanding: int = 32
    reading: int = 2
    near: int = 4
    slices: int = 4
    slice_bytes: int = SLICE_BYTES
    state_sync_records: int = 200_000


class Transfer:
    """A checkpoint's file on its way to the backup, in bytes: held <= sent <= file.size."""

    def __init__(self, file: CheckpointFile) -> None:
        self.file = file
        self.begun = False  # by the backup, which tells how much it has already
        self.reading = False
        self.sent = 0
        self.held = 0

    @property
    def whole(self) -> bool:
        """Whether all has been sent."""
        return self.begun and self.sent == self.file.size


class Session:
    """What the primary knows of the backup within one stream. `acked_lsn <= sent_lsn <= durable_lsn`."""

    def __init__(self, number: int, opened_at: float) -> None:
        self.number = number
        self.peer: Identity | None = None
        self.partial = ""  # fingerprint of the checkpoint that the backup holds a part of
        self.streaming = False
        self.reading = False
        self.transfer: Transfer | None = None
        self.postponed: int | None = None  # the common prefix of a backup that is not greeted yet
        self.sent_lsn = 0
        self.acked_lsn = 0
        # (last lsn, sent at) of what is not acked yet; bytes in the place of lsns while a file is on its way
        self.waiting: deque[tuple[int, float]] = deque([(0, opened_at)])

    def took(self, durable_lsn: int) -> None:
        """An ack arrived."""
        self.acked_lsn = max(self.acked_lsn, durable_lsn)
        self.no_longer_waiting(durable_lsn)

    def no_longer_waiting(self, up_to: int) -> None:
        """What was sent up to this lsn, or byte, is acked."""
        while self.waiting and self.waiting[0][0] <= up_to:
            self.waiting.popleft()


class Sending:
    """The log of a primary and the session in which it is sent."""

    def __init__(
        self,
        identity: Identity,
        epoch: int,
        durable_lsn: int,
        first_lsn: int,
        history: tuple[EpochEnd, ...],
        limits: Limits,
    ) -> None:
        self.identity = identity
        self.epoch = epoch
        self.durable_lsn = durable_lsn  # of our own log
        self.first_lsn = first_lsn  # of our own log: greater than 1 after a state sync or a trimming
        self.history = history
        self.session: Session | None = None
        self._limits = limits

    def _greet(self, session: Session, common_lsn: int) -> Greet:
        """Look for a checkpoint as well where blocks would be too many, or where our log does not have them."""
        saved = self._limits.state_sync_records + 1
        if common_lsn + 1 < self.first_lsn:
            return Greet(session.number, common_lsn, Wanted(self.first_lsn - 1, session.partial, required=True))
        if self.durable_lsn - common_lsn < saved:
            return Greet(session.number, common_lsn)
        return Greet(session.number, common_lsn, Wanted(common_lsn + saved, session.partial, required=False))

    def _may_send(self, session: Session) -> bool:
        return len(session.waiting) < self._limits.outstanding

    def _send_blocks(self, session: Session, blocks: tuple[LoggedBlock, ...], now: float) -> list[Effect]:
        session.sent_lsn = blocks[-1].last_lsn
        session.waiting.append((session.sent_lsn, now))
        return [Send(Blocks(session.number, self.epoch, blocks, self.durable_lsn))]

    def _read_on(self, session: Session) -> list[Effect]:
        behind = session.streaming and session.sent_lsn < self.durable_lsn
        if not behind or session.reading or len(session.waiting) >= self._limits.reading:
            return []
        session.reading = True
        return [ReadBlocks(session.number, session.sent_lsn + 1)]

    def _read_slices(self, session: Session, transfer: Transfer) -> list[Effect]:
        if transfer.whole:
            session.sent_lsn = transfer.file.lsn  # the next ack is for that
            return []
        if transfer.reading or len(session.waiting) >= self._limits.slices:
            return []
        transfer.reading = True
        return [ReadSlice(session.number, transfer.file, transfer.sent, self._limits.slice_bytes)]

    def _remember_epoch(self, epoch: int, last_lsn: int) -> None:
        kept = self.history[:-1] if self.history and self.history[-1].epoch == epoch else self.history
        self.history = (*kept, EpochEnd(epoch, last_lsn))
