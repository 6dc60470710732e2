"""The backup's shell around the pure protocol: one message at a time, in order, each done before the next.

It executes first: a block is appended, synced and executed here before the ack leaves, so the primary never answers
what its backup could not take over.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from pathlib import Path

import structlog

from ftwallet.errors import PeerViolation
from ftwallet.faults.injector import Injector
from ftwallet.faults.stages import Stage
from ftwallet.journal import Block
from ftwallet.ledger.ledger import Ledger
from ftwallet.ledger.operations import Operation, decode_operations
from ftwallet.ledger.outcomes import Transaction
from ftwallet.ledger.rules import Rules
from ftwallet.node.base import Base
from ftwallet.node.disk import Disk
from ftwallet.node.receiving import NotAsOffered, Receiving
from ftwallet.node.rollbacks import ROLLBACKS_FILE, Rollbacks
from ftwallet.node.storage import replay
from ftwallet.node.tail import Tail
from ftwallet.node.transaction_log import TransactionLog
from ftwallet.replication.backup import Backup
from ftwallet.replication.effects import (
    Align,
    AppendBlocks,
    Became,
    Commit,
    DropPart,
    Effect,
    EndSession,
    EndStateSync,
    FindPart,
    Install,
    KeepSlice,
    RecordEpoch,
    RenewIncarnation,
    Send,
    TakeFingerprint,
)
from ftwallet.replication.messages import (
    Ack,
    CheckpointFile,
    CommitMark,
    CutReport,
    Held,
    HelloReply,
    Refusal,
    ToBackup,
    ToPrimary,
)


class Following:
    """Implements `ftwallet.rpc.servicers.BackupPort`. All of it runs on the event loop."""

    def __init__(
        self,
        core: Backup,
        ledger: Ledger,
        disk: Disk,
        tail: Tail,
        node_dir: Path,
        base: Base,
        injector: Injector,
        on_applied: Callable[[Block], None],
        on_other_ledger: Callable[[int], None],
    ) -> None:
        self.core = core
        self.ledger = ledger
        self._disk = disk
        self._tail = tail
        self._base = base
        self._rollbacks = Rollbacks(node_dir / ROLLBACKS_FILE)
        self._injector = injector
        self._on_applied = on_applied
        self._on_other_ledger = on_other_ledger
        self._receiving = Receiving(node_dir, disk, base)
        self._one_at_a_time = asyncio.Lock()
        self._unacked_ids: list[str] = []
        self._said: list[str] = []
        self._marked_lsn = disk.journal.commit_lsn
        self._log = structlog.get_logger()
        self._executed = TransactionLog("WAL: Executed transaction", "WAL: Executed transactions")

    # ---- What the gRPC face asks

    @property
    def rules(self) -> Rules:
        """The rules in force."""
        return self.ledger.rules

    @property
    def applied_lsn(self) -> int:
        """The lsn that reads are made at."""
        return self.ledger.applied_lsn

    def balance(self, account_id: str) -> int | None:
        """Minor units, None when the account is unknown."""
        return self.ledger.balance(account_id)

    def find(self, transaction_id: str) -> Transaction | None:
        """The latest attempt under an id that this node has."""
        return self._tail.find(transaction_id) or self.ledger.find(transaction_id)

    async def handle(self, message: ToBackup) -> tuple[list[ToPrimary], bool]:
        """Return the replies, and whether the session is over. Raises PeerViolation, DiskFault."""
        async with self._one_at_a_time:
            replies, over = await self._perform(self.core.received(message))
            if isinstance(message, CommitMark):
                await self._mark()
            return replies, over

    def sent(self, reply: ToPrimary) -> None:
        """A reply has gone out."""
        if self._injector.armed and isinstance(reply, Ack):
            self._injector.reached(Stage.ACKED, self._unacked_ids)
        self._unacked_ids = []

    async def session_ended(self, session: int, reason: str) -> None:
        """The stream of a session is over."""
        async with self._one_at_a_time:
            await self._perform(self.core.session_lost(session, reason))

    # ---- Effects

    async def _perform(self, effects: list[Effect]) -> tuple[list[ToPrimary], bool]:
        replies: list[ToPrimary] = []
        over = False
        todo = deque(effects)
        while todo:
            effect = todo.popleft()
            match effect:
                case RecordEpoch(epoch):
                    await self._disk.record_epoch(epoch)
                case Send(message):
                    if isinstance(message, HelloReply | Ack | Held | CutReport | Refusal):
                        replies.append(message)
                case Align(session, common_lsn, chain):
                    todo.extend(await self._align(session, common_lsn, chain))
                case AppendBlocks(session, blocks):
                    todo.extend(await self._append(session, [b for b in blocks if isinstance(b, Block)]))
                case Became(state, reason):
                    self._say(f"Backup is {state}: {reason}")
                case EndSession():
                    over = True
                case Commit():
                    pass  # executed already; `core.commit_lsn` is what checkpoints wait for
                case _:
                    todo.extend(await self._sync_state(effect))
        return replies, over

    def _say(self, sentence: str) -> None:
        """Say it once, not at every try of a primary that greets this node and is refused again and again."""
        if sentence not in self._said[-2:]:
            self._log.info(sentence)
            self._said = [*self._said[-1:], sentence]

    async def _sync_state(self, effect: Effect) -> list[Effect]:
        """Perform an effect of a state sync."""
        match effect:
            case RenewIncarnation():
                self.core.renewed(await self._disk.renew_incarnation())
            case FindPart(session, file):
                held = await self._receiving.find(file)
                self._log.info(f"State sync: {held} of {file.size} bytes of the checkpoint at lsn {file.lsn} are here")
                return self.core.part_found(session, held)
            case KeepSlice(session, offset, data):
                return self.core.slice_kept(session, await self._receiving.keep(offset, data))
            case TakeFingerprint(session):
                return self.core.fingerprint_taken(session, await self._receiving.take_fingerprint())
            case DropPart():
                await self._receiving.drop()
            case Install(session, file):
                return await self._install(session, file)
            case EndStateSync():
                await self._receiving.forget()
                await self._disk.end_state_sync()
        return []

    async def _install(self, session: int, file: CheckpointFile) -> list[Effect]:
        try:
            self.ledger = await self._receiving.install(file)
        except NotAsOffered as error:
            self._log.error(f"State sync: {error}")
            return self.core.not_installed(session, str(error))
        self._tail = Tail([])
        self._marked_lsn = file.lsn
        self._on_other_ledger(file.lsn)
        self._log.info(f"State sync: installed the checkpoint at lsn {file.lsn}")
        return self.core.installed(session)

    async def _align(self, session: int, common_lsn: int, chain: bytes) -> list[Effect]:
        journal = self._disk.journal
        try:
            ours = await self._disk.chain_at(common_lsn)
        except KeyError:
            raise PeerViolation(f"no block of this log ends at lsn {common_lsn}") from None
        if chain and ours != chain:
            self._log.error(f"The hash chains differ at lsn {common_lsn}: one of the logs is damaged; nothing is cut")
            return self.core.divergent(session, common_lsn)
        if journal.durable_lsn > common_lsn:
            await self._cut(common_lsn)
        for block in self._tail.take(common_lsn):
            self._execute_operations(block, decode_operations(block.payload))
        return self.core.aligned(session, common_lsn, await self._rollbacks.unreported(self.ledger))

    async def _cut(self, lsn: int) -> None:
        journal = self._disk.journal
        beyond = await asyncio.to_thread(lambda: list(journal.blocks(lsn + 1)))
        operations = [one for block in beyond for one in decode_operations(block.payload)]
        await self._rollbacks.remember(operations)  # before the cut: the primary is told, also after another crash
        await self._disk.cut(lsn, "the primary does not have it, so it was never answered")
        for one in operations:
            self._log.warning(f"WAL: Cut PENDING transaction {one.transaction_id}: the primary does not have it")
        if self.ledger.applied_lsn > lsn:
            await self._rebuild()
        else:
            self._tail.cut(lsn)

    async def _rebuild(self) -> None:
        """The ledger has executed what is cut: begin from what the disk has of the log that is left."""
        journal = self._disk.journal
        self._on_other_ledger(journal.durable_lsn)  # a copy that waits would be written under the ledger that is opened
        # Where checkpoints are written: the disk must not change in between.
        ledger = await self._disk.in_background(lambda: self._base.open(journal))
        self._on_other_ledger(ledger.applied_lsn)
        self._tail = await self._disk.in_background(lambda: replay(ledger, journal, self._base))
        self.ledger = ledger

    async def _append(self, session: int, blocks: list[Block]) -> list[Effect]:
        operations = [decode_operations(block.payload) for block in blocks]
        ids = [one.transaction_id for block in operations for one in block] if self._injector.armed else []
        for transaction_id in ids:
            self._injector.saw_new(transaction_id)
        first_lsn = blocks[0].first_lsn if blocks else None
        self._injector.reached(Stage.RECEIVED, ids, first_lsn)
        unread = [self.ledger.state.prepare(content, new=False) for content in operations]
        await asyncio.gather(self._disk.append_all(blocks), self._disk.bring_in(self.ledger.state, unread))
        self._injector.reached(Stage.PENDING, ids, first_lsn)
        for block, content in zip(blocks, operations, strict=True):
            self.core.appended(block)  # first: a checkpoint taken at this block has its history from the core
            self._execute_operations(block, content)
        self._injector.reached(Stage.EXECUTED, ids, first_lsn)
        self._unacked_ids = ids
        return self.core.executed(session)

    def _execute_operations(self, block: Block, operations: list[Operation]) -> None:
        self.ledger.apply(block.first_lsn, block.epoch, operations)
        self._on_applied(block)
        self._executed.said((one.transaction_id for one in operations), len(operations))

    async def _mark(self) -> None:
        """The primary is idle: note how far its commit has come, so that a start finds less that is PENDING."""
        if self.core.commit_lsn > self._marked_lsn:
            self._marked_lsn = self.core.commit_lsn
            await self._disk.append_mark(self.core.commit_lsn)
            self._executed.flush()
