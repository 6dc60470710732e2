"""A node in the role of backup: the parts wired together, and their orderly end."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from ftwallet.config import Config
from ftwallet.errors import BrokenInvariant, ClientError, DiskFault
from ftwallet.faults.injector import Injector
from ftwallet.journal import Block
from ftwallet.journal.checkpoints import FORMAT_VERSION
from ftwallet.ledger.ledger import Ledger
from ftwallet.ledger.outcomes import Transaction
from ftwallet.ledger.rules import Rules
from ftwallet.node import readable
from ftwallet.node.checkpointing import Checkpointer
from ftwallet.node.disk import Disk
from ftwallet.node.following import Following
from ftwallet.node.offering import forget_offered
from ftwallet.node.outage import Outage
from ftwallet.node.ports import BackupPorts
from ftwallet.node.receiving import partial
from ftwallet.node.storage import Storage
from ftwallet.node.tail import Tail
from ftwallet.node.trimming import EVERYTHING, Trimmer
from ftwallet.replication.backup import Backup
from ftwallet.replication.messages import EpochEnd, Identity, ToBackup, ToPrimary
from ftwallet.replication.register import Register
from ftwallet.replication.states import BackupState
from ftwallet.rpc.v1 import wallet_pb2

_CHECKPOINT_TICK_S = 1.0


class BackupNode:
    """Follows from `start` until `stop`."""

    role = "backup"

    def __init__(
        self,
        config: Config,
        storage: Storage,
        register: Register,
        injector: Injector,
        outage: Outage,
        ports: BackupPorts,
    ) -> None:
        identity, journal = storage.identity, storage.journal
        node_dir = config.node_dir(identity.node)
        self._config = config
        self._boot = register.boots.get(identity.node, 0)
        self._outage = outage
        self._disk = Disk(journal, identity)
        self._core = Backup(
            Identity(identity.cluster_id, identity.node, identity.incarnation),
            epoch=max(identity.epoch, register.epoch),
            durable_lsn=journal.durable_lsn,
            commit_lsn=storage.ledger.applied_lsn,
            history=tuple(EpochEnd(*end) for end in journal.history),
            state_sync=identity.state_sync,
            partial=partial(node_dir),
            reads_format=FORMAT_VERSION,
        )
        self._base = storage.base
        self._following = Following(
            self._core,
            storage.ledger,
            self._disk,
            storage.tail,
            node_dir,
            storage.base,
            injector,
            self._applied,
            self._other_ledger,
        )
        self._checkpointer = Checkpointer(
            storage.base,
            lambda: self._following.ledger,
            self._disk,
            lambda: self._core.history,
            every=config.checkpoint_records,
            last_lsn=storage.checkpoint_lsn,
        )
        self._trimmer = Trimmer(
            storage.base, self._disk, config.journal_keep_bytes, lambda: EVERYTHING, lambda first_lsn: None
        )
        self._ports = ports
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def ledger(self) -> Ledger:
        """The ledger as this node has executed it."""
        return self._following.ledger

    # ---- Life

    async def start(self) -> None:
        """Open the port and wait for the primary. Raises Refused."""
        await self._disk.record_epoch(self._core.epoch)
        await asyncio.to_thread(forget_offered, self._config.node_dir(self._core.identity.node))  # of a time as primary
        await self._ports.open(_Watched(self._following, self._outage), self.status)
        self._tasks = [asyncio.create_task(self._tick()), asyncio.create_task(self._trimmer.run())]
        for task in self._tasks:
            task.add_done_callback(self._task_ended)

    async def stop(self) -> None:
        """Leave a checkpoint and the readable files."""
        await self._ports.leave()
        await self._checkpointer.at_stop(self._core.commit_lsn)
        await readable.write_at_stop(self._config, self.role, self.ledger)
        await self.abandon()

    async def hand_over(self) -> Storage:
        """Stop following, and give up directory and ledger to the primary that this process becomes.

        What was appended here and not executed yet is its tail.
        """
        self._cancel_tasks()
        await self._ports.close()
        background = await asyncio.to_thread(self._disk.release)  # a block may still be on its way to the disk
        journal, ledger = self._disk.journal, self.ledger
        self._base.hand_over(ledger)
        tail = await asyncio.to_thread(lambda: Tail(list(journal.blocks(ledger.applied_lsn + 1))))
        return Storage(self._disk.identity, journal, ledger, tail, self._checkpointer.last_lsn, self._base, background)

    async def abandon(self) -> None:
        """Let go of everything at once, in whatever state it is."""
        self._cancel_tasks()
        await self._ports.close()
        self._disk.close()
        self._base.close()

    # ---- What others ask

    def status(self) -> wallet_pb2.NodeStatus:
        """How this node stands."""
        core, journal = self._core, self._disk.journal
        following = core.state is BackupState.FOLLOWING
        return wallet_pb2.NodeStatus(
            cluster_id=core.identity.cluster_id,
            node=core.identity.node,
            incarnation=core.identity.incarnation,
            role=self.role,
            state="in-sync" if following and core.in_sync else "catching-up",
            reason=core.reason,
            epoch=core.epoch,
            ready=True,
            durable_lsn=journal.durable_lsn,
            commit_lsn=core.commit_lsn,
            applied_lsn=self.ledger.applied_lsn,
            digest=self.ledger.digest,
            chain=journal.chain,
            pid=os.getpid(),
            boot=self._boot,
            counters={
                "refused": core.refused,
                "duplicates": self.ledger.duplicates,
                "behind": core.behind,
                "first_lsn": journal.first_lsn,
            },
        )

    def find(self, transaction_id: str) -> Transaction | None:
        """The latest attempt under an id that this node knows, PENDING where the handshake has not settled it."""
        return self._following.find(transaction_id)

    async def import_files(self, wallets: Path, transactions: Path | None) -> readable.Imported:
        """Not on a backup: everything comes to it from the primary."""
        raise ClientError("files are imported through the primary")

    # ---- Inside

    def _applied(self, block: Block) -> None:
        self._checkpointer.applied(block)

    def _other_ledger(self, lsn: int) -> None:
        self._checkpointer.stands_at(lsn)

    async def _tick(self) -> None:
        await self._disk.warm(self.ledger.state)
        while True:
            await asyncio.sleep(_CHECKPOINT_TICK_S)
            await self._checkpointer.tick(self._core.commit_lsn)

    def _cancel_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            self._outage.failed(error)


class _Watched:
    """The backup as gRPC sees it: a fault in it ends the node, where gRPC would only end the stream."""

    def __init__(self, following: Following, outage: Outage) -> None:
        self._following = following
        self._outage = outage
        self.balance = following.balance
        self.sent = following.sent

    @property
    def rules(self) -> Rules:
        return self._following.rules

    @property
    def applied_lsn(self) -> int:
        return self._following.applied_lsn

    async def handle(self, message: ToBackup) -> tuple[list[ToPrimary], bool]:
        # gRPC cancels a handler when its stream ends. What is on its way to the disk must be taken in all the same, or
        # the next session would be told of an epoch that is not durable yet, and of a log that has gone on meanwhile.
        handling = asyncio.ensure_future(self._handle(message))
        handling.add_done_callback(_seen)
        return await asyncio.shield(handling)

    async def _handle(self, message: ToBackup) -> tuple[list[ToPrimary], bool]:
        try:
            return await self._following.handle(message)
        except (DiskFault, BrokenInvariant) as error:
            self._outage.failed(error)
            raise

    async def session_ended(self, session: int, reason: str) -> None:
        await self._following.session_ended(session, reason)


def _seen(handling: asyncio.Future[tuple[list[ToPrimary], bool]]) -> None:
    """Nobody waits for it when its stream has ended: what had to be told of its error has been."""
    if not handling.cancelled():
        handling.exception()
