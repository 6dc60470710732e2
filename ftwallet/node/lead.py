"""The primary's shell around the pure protocol: performs its effects in order and reports back with events.

Effects that change the disk hold back those behind them, so that, say, an epoch is durable before anything is sent in
it; all others are done on the spot, because answers wait for them. What is only read is reported when it has been.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Coroutine
from typing import Protocol

from ftwallet.journal import Block
from ftwallet.journal.reader import BeforeFirst
from ftwallet.node.disk import Disk
from ftwallet.node.ports import SessionStream
from ftwallet.node.witness import WitnessPort
from ftwallet.replication.effects import (
    Became,
    Commit,
    Effect,
    EndSession,
    Greet,
    Propose,
    ReadBlocks,
    ReadSlice,
    RecordEpoch,
    RecordRollbacks,
    Send,
    SettleTail,
    Stop,
    Wanted,
)
from ftwallet.replication.messages import Begin, Blocks, CheckpointFile, CommitMark, Hello, Slice, ToPrimary
from ftwallet.replication.primary import Primary
from ftwallet.replication.register import Proposal
from ftwallet.replication.states import PrimaryState

READ_BYTES = 64 * 1024
"""How much of the journal one message takes to a backup that catches up, in bytes."""


class LeadListener(Protocol):
    """Who hears what the protocol has decided."""

    def committed(self, lsn: int) -> None:
        """Everything up to `lsn` may be executed and answered."""

    def became(self, state: str, reason: str) -> None:
        """The primary's state has changed."""

    async def before_cut(self, lsn: int) -> None:
        """What our log has beyond `lsn` was never answered and is about to be cut."""

    def after_cut(self) -> None:
        """It is cut."""

    def backup_cut(self, operations: bytes) -> None:
        """The backup has cut these encoded operations, which were never answered."""

    def must_stop(self, reason: str, fenced: bool) -> None:
        """This node must not go on."""

    def failed(self, error: BaseException) -> None:
        """An effect could not be performed."""


class Checkpoints(Protocol):
    """The checkpoints that a backup too far behind may be sent."""

    async def find(self, wanted: Wanted) -> CheckpointFile | None:
        """The one to offer, None when there is none yet."""

    async def read(self, file: CheckpointFile, offset: int, size: int) -> bytes:
        """At most `size` bytes of it; none when it is not to be had any more."""

    async def forget(self) -> None:
        """Nobody needs it any more."""

    def close(self) -> None:
        """Close what is open."""


class Lead:
    """Drives one `Primary`."""

    def __init__(
        self, core: Primary, disk: Disk, witness: WitnessPort, listener: LeadListener, checkpoints: Checkpoints
    ) -> None:
        self.core = core
        self._disk = disk
        self._checkpoints = checkpoints
        self._witness = witness
        self._listener = listener
        self._streams: dict[int, SessionStream] = {}
        self._effects: deque[Effect] = deque()
        self._blocked = False
        self._tasks: set[asyncio.Task[None]] = set()

    # ---- Events

    def start(self) -> None:
        """Begin to lead."""
        self._perform(self.core.started())

    def durable(self, block: Block) -> None:
        """A new block is durable here."""
        self._perform(self.core.durable(block, time.monotonic()))

    def session_opened(self, number: int, stream: SessionStream) -> None:
        """A stream to the backup stands."""
        self._streams[number] = stream
        self._perform(self.core.session_opened(number, time.monotonic()))

    def session_lost(self, number: int, reason: str) -> None:
        """The stream ended."""
        self._streams.pop(number, None)
        self._perform(self.core.session_lost(number, reason))

    def received(self, message: ToPrimary) -> None:
        """The backup said something. Raises PeerViolation, which ends the stream."""
        self._perform(self.core.received(message, time.monotonic()))

    def tick(self) -> None:
        """Time has passed."""
        self._perform(self.core.tick(time.monotonic()))

    def idle_mark(self) -> None:
        """Tell the backup how far the commit has come."""
        self._perform(self.core.idle_mark())

    @property
    def settled(self) -> bool:
        """Whether every effect so far has been performed."""
        return not self._blocked

    async def close(self) -> None:
        """Stop what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._checkpoints.close()

    # ---- Effects

    def _perform(self, effects: list[Effect]) -> None:
        self._effects.extend(effects)
        if not self._blocked:
            self._drain()

    def _drain(self) -> None:
        while self._effects:
            effect = self._effects.popleft()
            if isinstance(effect, RecordEpoch | SettleTail):
                self._blocked = True
                self._spawn(self._perform_slowly(effect))
                return
            self._perform_at_once(effect)

    def _perform_at_once(self, effect: Effect) -> None:  # noqa: C901  (one case for each effect)
        match effect:
            case Send(message):
                stream = self._streams.get(message.session)
                if stream and isinstance(message, Hello | Begin | Blocks | Slice | CommitMark):
                    stream.send(message)
            case Commit(lsn):
                self._listener.committed(lsn)
            case ReadBlocks(session, from_lsn):
                self._spawn(self._read_blocks(session, from_lsn))
            case ReadSlice(session, file, offset, size):
                self._spawn(self._read_slice(session, file, offset, size))
            case Greet(session, common_lsn, wanted):
                self._spawn(self._greet(session, common_lsn, wanted))
            case Propose(proposal):
                self._spawn(self._propose(proposal))
            case EndSession(session, reason):
                self._end_session(session, reason)
            case RecordRollbacks(operations):
                self._listener.backup_cut(operations)
            case Became(state, reason):
                if state == PrimaryState.PAIRED:
                    self._spawn(self._checkpoints.forget())
                self._listener.became(state, reason)
            case Stop(reason, fenced):
                self._listener.must_stop(reason, fenced)

    def _end_session(self, session: int, reason: str) -> None:
        stream = self._streams.pop(session, None)
        if stream:
            stream.end(reason)

    async def _perform_slowly(self, effect: RecordEpoch | SettleTail) -> None:
        match effect:
            case RecordEpoch(epoch):
                await self._disk.record_epoch(epoch)
                reported: list[Effect] = []
            case SettleTail(common_lsn):
                reported = await self._settle(common_lsn)
        self._blocked = False
        self._perform(reported)

    async def _settle(self, common_lsn: int) -> list[Effect]:
        if self._disk.journal.durable_lsn > common_lsn:
            await self._listener.before_cut(common_lsn)
            await self._disk.cut(common_lsn, "the backup in sync never had it, so it was never answered")
            self._listener.after_cut()
        return self.core.tail_settled(common_lsn)

    async def _greet(self, session: int, common_lsn: int, wanted: Wanted | None) -> None:
        begins_later = common_lsn + 1 < self.core.first_lsn
        try:
            chain = b"" if begins_later else await self._disk.chain_at(common_lsn)
        except KeyError:
            if self._is_over(session):  # since then the log may have been trimmed
                return
            raise
        checkpoint = await self._checkpoints.find(wanted) if wanted else None
        self._perform(self.core.greeted(session, common_lsn, chain, time.monotonic(), checkpoint))

    async def _read_slice(self, session: int, file: CheckpointFile, offset: int, size: int) -> None:
        data = await self._checkpoints.read(file, offset, size)
        self._perform(self.core.slice_read(session, data, time.monotonic()))

    async def _read_blocks(self, session: int, from_lsn: int) -> None:
        try:
            blocks = await self._disk.read(from_lsn, READ_BYTES)
        except BeforeFirst:
            if self._is_over(session):  # as above
                return
            raise
        self._perform(self.core.blocks_read(session, tuple(blocks), time.monotonic()))

    def _is_over(self, session: int) -> bool:
        return self.core.session is None or self.core.session.number != session

    async def _propose(self, proposal: Proposal) -> None:
        decision = await self._witness.propose(proposal)
        self._perform(self.core.witness_answered(proposal, decision, time.monotonic()))

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self._listener.failed(error)
