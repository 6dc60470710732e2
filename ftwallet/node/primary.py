"""A node in the role of primary: the parts wired together, and their orderly end."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Sequence
from pathlib import Path

import structlog

from ftwallet.config import Config
from ftwallet.errors import BrokenInvariant, ClientError, Refused
from ftwallet.faults.injector import Injector
from ftwallet.journal import Block
from ftwallet.ledger.ledger import Ledger
from ftwallet.ledger.operations import Operation
from ftwallet.ledger.outcomes import Transaction
from ftwallet.ledger.rules import Rules
from ftwallet.node import readable
from ftwallet.node.checkpointing import Checkpointer
from ftwallet.node.disk import Disk
from ftwallet.node.expiries import Expiries
from ftwallet.node.failover import FailoverManager
from ftwallet.node.lead import Lead
from ftwallet.node.offering import Offering
from ftwallet.node.outage import Outage
from ftwallet.node.ports import PrimaryPorts
from ftwallet.node.rollbacks import ROLLBACKS_FILE, Rollbacks
from ftwallet.node.service import PrimaryWalletService, Settings
from ftwallet.node.storage import Storage
from ftwallet.node.trimming import EVERYTHING, Trimmer
from ftwallet.node.witness import WitnessPort
from ftwallet.replication.messages import EpochEnd, Identity
from ftwallet.replication.primary import Primary, Timing
from ftwallet.replication.register import Register
from ftwallet.replication.sending import Limits
from ftwallet.replication.states import PrimaryState
from ftwallet.rpc.v1 import wallet_pb2

_TICK_S = 0.05
_GRPC_RETRY_S = 0.5
_TICKS_A_SECOND = 20
_SESSIONS_AN_EPOCH = 1_000_000


class PrimaryNode:
    """Leads from `start` until `stop`."""

    role = "primary"

    def __init__(
        self,
        config: Config,
        storage: Storage,
        register: Register,
        witness: WitnessPort,
        injector: Injector,
        outage: Outage,
        ports: PrimaryPorts,
    ) -> None:
        self.ledger: Ledger = storage.ledger
        self._config = config
        self._boot = register.boots.get(storage.identity.node, 0)
        self._outage = outage
        self._ports = ports
        self._resigned = False
        self._rest_follows = False  # REST is to be served as soon as the wallet is open
        self._base = storage.base
        self._disk = Disk(storage.journal, storage.identity, storage.background)
        self._service = self._new_service(storage, injector)
        self._expiries = Expiries(storage.ledger, self._disk, self._service)
        self._core = _new_core(config, storage, register)
        self._checkpointer = Checkpointer(
            storage.base,
            lambda: storage.ledger,
            self._disk,
            lambda: self._core.history,
            every=config.checkpoint_records,
            last_lsn=storage.checkpoint_lsn,
        )
        self._trimmer = Trimmer(
            storage.base, self._disk, config.journal_keep_bytes, self._needed_after, self._core.trimmed
        )
        offering = Offering(config.node_dir(storage.identity.node), self._disk, storage.base, self._checkpointer.hurry)
        self._lead = Lead(self._core, self._disk, witness, self, offering)
        self._service.lead_with(self._lead)
        self._ports.offer(self._service, self.status)
        self._tasks: list[asyncio.Task[None]] = []
        self._log = structlog.get_logger()

    def _new_service(self, storage: Storage, injector: Injector) -> PrimaryWalletService:
        config = self._config
        settings = Settings(
            rules=Rules(config.currency_exponent, config.max_amount, config.max_balance),
            max_batch=config.max_batch,
            max_queue=config.max_queue,
            min_free_bytes=config.min_free_bytes,
            request_timeout_s=config.request_timeout_s,
        )
        rollbacks = Rollbacks(config.node_dir(storage.identity.node) / ROLLBACKS_FILE)
        return PrimaryWalletService(
            storage.ledger,
            self._disk,
            storage.tail,
            rollbacks,
            injector,
            settings,
            self._applied,
            storage.newest_time_us(),
        )

    # ---- Life

    async def start(self) -> None:
        """Open the ports, lead, and return; `ready` follows when the log is settled. Raises Refused."""
        await self._ports.open_grpc()
        self._spawn(self._ports.serve_rest())
        self._begin()

    async def take_over(self) -> None:
        """Lead after a promotion: REST first, clients wait for it; gRPC follows, also if its port is not free yet.

        REST accepts only when there is a wallet to answer from: until then clients are better off in the socket's
        backlog than with a 503, after which they would stay away for the second that it tells them to.
        """
        self._rest_follows = True
        self._begin()
        self._spawn(self._keep_opening_grpc())

    async def _keep_opening_grpc(self) -> None:
        while True:
            try:
                await self._ports.open_grpc()
            except Refused as refused:  # a stranger's outgoing connection may have the port for a while
                self._log.warning(f"{refused}; trying again")
                await asyncio.sleep(_GRPC_RETRY_S)
                continue
            if self._service.opened:
                await self._ports.serve()
            return

    def _begin(self) -> None:
        self._service.recover_pending_transactions()
        self._spawn(self._service.run())
        self._spawn(self._tick())
        self._spawn(self._keep_house())
        self._spawn(self._disk.warm(self.ledger.state))
        self._spawn(self._trimmer.run())
        self._spawn(self._expiries.run())
        self._lead.start()
        failover = FailoverManager(
            self._ports.partner,
            self._lead,
            health_interval_s=self._config.health_interval_s,
            first_session=self._core.epoch * _SESSIONS_AN_EPOCH,
        )
        self._spawn(failover.run())

    async def stop(self) -> None:
        """Refuse what is new, finish what is under way, leave a checkpoint and the readable files."""
        self._service.stop()
        await self._service.drained(self._config.request_timeout_s)
        self._service.fail_all()
        await self._ports.leave()
        if self._core.commit_lsn > self._disk.journal.commit_lsn:
            await self._disk.append_mark(self._core.commit_lsn)
        self._lead.idle_mark()
        await self._checkpointer.at_stop(self._core.commit_lsn)
        if not self._resigned:  # else these files are the new primary's to write
            await readable.write_at_stop(self._config, self.role, self.ledger)
        await self.abandon()

    async def resign(self) -> str:
        """Answer and read nothing any more, so that the backup may lead; returns why not, or nothing when it is so.

        All that was answered is on the backup then. What comes is held until `pass_on` or `go_on`.
        """
        if self._core.state is not PrimaryState.PAIRED or not self._service.ready:
            return f"this primary is {self._core.state}: {self._core.reason}"
        self._resigned = True
        try:
            await self._ports.hold()
            self._service.stop()
            finished = await self._service.drained(self._config.ack_timeout_s)
        except BaseException:  # nobody waits for the answer any more, so nobody will say how it goes on
            self.go_on()
            raise
        if not finished or self._core.state is not PrimaryState.PAIRED:
            self.go_on()
            return "what was under way could not be finished on both nodes in time"
        self._lead.idle_mark()
        self._log.info("Primary has resigned: it answers nothing any more, so that its backup may lead")
        return ""

    def go_on(self) -> None:
        """Nobody else leads after all."""
        self._resigned = False
        self._service.go_on()
        self._ports.go_on()

    async def pass_on(self) -> None:
        """The new primary serves: have it answer what is held here."""
        await self._ports.pass_on()

    async def abandon(self) -> None:
        """Let go of everything at once, in whatever state it is; who waits is told that the outcome is not known."""
        self._service.stop()
        self._service.fail_all()
        await asyncio.sleep(_TICK_S)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._lead.close()
        await self._ports.close()
        self._disk.close()
        self._base.close()

    # ---- What others ask

    def status(self) -> wallet_pb2.NodeStatus:
        """How this node stands."""
        core, journal = self._core, self._disk.journal
        return wallet_pb2.NodeStatus(
            cluster_id=core.identity.cluster_id,
            node=core.identity.node,
            incarnation=core.identity.incarnation,
            role=self.role,
            state="serving" if self._service.opened else "recovering",
            reason=core.reason,
            mode=core.mode,
            epoch=core.epoch,
            in_sync=sorted(core.in_sync),
            ready=self._service.ready,
            durable_lsn=journal.durable_lsn,
            commit_lsn=core.commit_lsn,
            applied_lsn=self.ledger.applied_lsn,
            digest=self.ledger.digest,
            chain=journal.chain,
            pid=os.getpid(),
            boot=self._boot,
            counters={
                "backup_lsn": core.backup_lsn,
                "duplicates": self.ledger.duplicates,
                "first_lsn": journal.first_lsn,
            },
        )

    @property
    def epoch(self) -> int:
        """The epoch that it leads in."""
        return self._core.epoch

    def find(self, transaction_id: str) -> Transaction | None:
        """The latest attempt under an id."""
        return self._service.find(transaction_id)

    async def import_files(self, wallets: Path, transactions: Path | None) -> readable.Imported:
        """Take readable files into an empty ledger; returns when that is durable wherever it must be."""
        if not self._service.ready:
            raise ClientError("the wallet is starting or recovering; try again when it is ready")
        operations, imported = await asyncio.to_thread(readable.read_files, wallets, transactions, self.ledger.rules)
        missing = readable.missing(self.ledger, operations)
        await asyncio.gather(*self._service.append(missing))
        return imported

    # ---- LeadListener

    def committed(self, lsn: int) -> None:
        """Everything up to `lsn` may be executed and answered."""
        try:
            self._service.committed(lsn)
        except BrokenInvariant as error:
            self._outage.failed(error)
            raise

    def became(self, state: str, reason: str) -> None:
        """The protocol's state has changed."""
        self._log.info(f"Primary is {state} in epoch {self._core.epoch}: {reason}")
        if PrimaryState(state) in (PrimaryState.PAIRED, PrimaryState.SOLO):
            self._spawn(self._open())
        self._service.wake()

    async def before_cut(self, lsn: int) -> None:
        """Our log is about to be cut to `lsn`."""
        await self._service.before_cut(lsn)

    def after_cut(self) -> None:
        """It is cut."""
        self._service.after_cut()

    def backup_cut(self, operations: bytes) -> None:
        """The backup led before us and had these, which were never answered."""
        self._service.backup_cut(operations)

    def must_stop(self, reason: str, fenced: bool) -> None:
        """The protocol says that this node must not go on. Resigned, it is known, and there are requests to pass on."""
        if self._resigned:
            return
        self._outage.stop_for(reason, fenced)

    def failed(self, error: BaseException) -> None:
        """A part of this node failed."""
        self._outage.failed(error)

    # ---- Inside

    async def _open(self) -> None:
        await self._service.open()
        if not self._service.opened:  # an earlier change of state has begun it, and says so when it is over
            return
        if self._rest_follows:
            self._rest_follows = False
            self._spawn(self._ports.serve_rest())
        await self._ports.serve()

    def _applied(self, block: Block, operations: Sequence[Operation]) -> None:
        self._expiries.applied(operations)  # first: a snapshot takes what the block has changed out of their sight
        self._checkpointer.applied(block)

    def _needed_after(self) -> int:
        """What a backup may be sent of the log: nothing before it has acked, and all while the tail is not settled."""
        if not self._core.answering:
            return 0
        acked = self._core.needed_after
        return EVERYTHING if acked is None else acked

    async def _tick(self) -> None:
        """The clock of the protocol and of those who wait: it goes on while a disk stalls."""
        while True:
            for _ in range(_TICKS_A_SECOND):
                self._lead.tick()
                self._service.tick()
                await asyncio.sleep(_TICK_S)
            self._service.watch_disk()

    async def _keep_house(self) -> None:
        """What waits for the disk, and is waited for by nobody."""
        while True:
            for _ in range(_TICKS_A_SECOND):
                await self._service.mark_when_idle()
                await asyncio.sleep(_TICK_S)
            await self._checkpointer.tick(self._core.commit_lsn)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.append(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.remove(task)
        if not task.cancelled() and (error := task.exception()):
            self.failed(error)


def _new_core(config: Config, storage: Storage, register: Register) -> Primary:
    identity, journal = storage.identity, storage.journal
    return Primary(
        Identity(identity.cluster_id, identity.node, identity.incarnation),
        register,
        durable_lsn=journal.durable_lsn,
        commit_lsn=storage.ledger.applied_lsn,
        history=tuple(EpochEnd(*end) for end in journal.history),
        now=asyncio.get_running_loop().time(),
        first_lsn=journal.first_lsn,
        timing=Timing(ack=config.ack_timeout_s, settle=config.settle_timeout_s),
        limits=Limits(state_sync_records=config.state_sync_records),
    )
