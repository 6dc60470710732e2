"""The primary's transactions, from the request to the answer: dedup, group commit, execution.

    received   `submit`: the request has its form; duplicates of what is under way or done are joined or replayed
    pending    `_record_transaction_wal`: all that has arrived meanwhile goes into one block, one fdatasync
    synced     the pair's protocol says `committed`: the block is durable, and executed on the backup first
    executed   `_commit_transaction`: the ledger moves; only now can a reader see it
    committed  the mark rides in the next block's header, or goes out alone when idle
    replied    everybody who waits has the answer

While one block waits for the disks, the next is being filled; blocks are answered in the order of the log.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import NamedTuple

import structlog

from ftwallet.errors import ExitCode, Refused
from ftwallet.faults.injector import Injector
from ftwallet.faults.stages import Stage
from ftwallet.journal import Block, encode_block
from ftwallet.ledger.holds import Hold, hold_key
from ftwallet.ledger.ledger import Ledger
from ftwallet.ledger.operations import (
    Body,
    Kind,
    Operation,
    asked,
    decode_operations,
    encode_operations,
)
from ftwallet.ledger.outcomes import Status, Transaction, first_difference
from ftwallet.ledger.rules import Rules, changed_rules
from ftwallet.node.batches import Batches, Standing
from ftwallet.node.disk import Disk
from ftwallet.node.lead import Lead
from ftwallet.node.line import Line, Load
from ftwallet.node.log_clock import LogClock
from ftwallet.node.rollbacks import Rollbacks, rollback_record
from ftwallet.node.tail import Tail, pending_transaction
from ftwallet.node.transaction_log import TransactionLog
from ftwallet.node.underway import Pending, Underway
from ftwallet.wallet import Answer, BatchAnswer, Movement, Unavailable

MAX_INFLIGHT_BLOCKS = 3
"""Blocks on their way to the backup: it has one, the next is there when that is done, the last becomes durable here."""

_INFLIGHT_WHILE_FILLING = 2  # the third waits, and so fills, unless a slice of a batch has filled it already

_IDLE_MARK_AFTER_S = 0.1
_DRAIN_POLL_S = 0.002
_FOLLOWER_SHARE = 2.0  # of the time that a block took here
_FOLLOWER_WAIT_S = 0.02


class Settings(NamedTuple):
    """From the configuration: counts of operations, seconds, bytes."""

    rules: Rules
    max_batch: int
    max_queue: int
    min_free_bytes: int
    request_timeout_s: float


class _Batch(NamedTuple):
    block: Block
    load: Load
    operations: list[Operation]


class PrimaryWalletService:
    """Implements `ftwallet.wallet.Wallet` on a primary. All of it runs on the event loop."""

    def __init__(
        self,
        ledger: Ledger,
        disk: Disk,
        tail: Tail,
        rollbacks: Rollbacks,
        injector: Injector,
        settings: Settings,
        on_applied: Callable[[Block, Sequence[Operation]], None],
        newest_time_us: int,
    ) -> None:
        self._ledger = ledger
        self._disk = disk
        self._tail = tail
        self._rollbacks = rollbacks
        self._injector = injector
        self._settings = settings
        self._on_applied = on_applied
        self._lead: Lead | None = None
        self._underway = Underway(settings.request_timeout_s)
        self._queue = Line(settings.max_batch)
        self._inflight: deque[_Batch] = deque()
        self._work = asyncio.Event()
        self._opened = False
        self._serving = False
        self._stopping = False
        self._disk_is_full = False
        self._chain = disk.journal.chain
        self._next_lsn = disk.journal.durable_lsn + 1
        self._commit_lsn = ledger.applied_lsn
        self._marked_lsn = disk.journal.commit_lsn
        self._committed_at = 0.0
        self.now_us = LogClock(newest_time_us).now_us
        self._log = structlog.get_logger()
        self._batches = Batches(
            ledger,
            self._underway,
            self._queue,
            injector,
            standing=lambda: Standing(self.ready, self.epoch, self._durability),
            bring_in=self._bring_in,
            refuse=self._refuse,
            now_us=self.now_us,
            wake=self._work.set,
        )
        self._recorded = TransactionLog("WAL: Recorded PENDING transaction", "WAL: Recorded PENDING transactions")
        self._committed = TransactionLog("WAL: Committed transaction", "WAL: Committed transactions")

    def lead_with(self, lead: Lead) -> None:
        """Set the protocol's shell; once, before anything else."""
        self._lead = lead

    # ---- The wallet, as REST and gRPC see it

    @property
    def rules(self) -> Rules:
        """The rules in force."""
        return self._ledger.rules

    @property
    def ready(self) -> bool:
        """Whether this primary has recovered and serves."""
        return self._serving and not self._stopping

    @property
    def opened(self) -> bool:
        """Whether recovery is over, also while it stops."""
        return self._serving

    @property
    def takes_records(self) -> bool:
        """Whether it serves, and has room for records of its own that can wait."""
        return self.ready and not self._disk_is_full

    @property
    def mode(self) -> str:
        """Either "paired" or "solo"; empty while nothing is answered."""
        return self._lead.core.mode if self._lead else ""

    @property
    def _durability(self) -> str:
        """Either "paired" or "solo", by the in-sync set: what is answered is durable on every node of it."""
        return "paired" if self._lead and len(self._lead.core.in_sync) > 1 else "solo"

    @property
    def epoch(self) -> int:
        """The epoch that this primary leads in."""
        return self._lead.core.epoch if self._lead else 0

    @property
    def applied_lsn(self) -> int:
        """The lsn that reads are made at."""
        return self._ledger.applied_lsn

    def deposit(self, account_id: str, amount: int, transaction_id: str) -> Awaitable[Answer]:
        """Put `amount` minor units into an account; see `submit`."""
        return self.submit(Kind.DEPOSIT, account_id, amount, transaction_id)

    def withdraw(self, account_id: str, amount: int, transaction_id: str) -> Awaitable[Answer]:
        """Take `amount` minor units out of an account; see `submit`."""
        return self.submit(Kind.WITHDRAW, account_id, amount, transaction_id)

    def get_balance(self, account_id: str) -> int | None:
        """Balance in minor units, None when the account is unknown."""
        return self._ledger.balance(account_id)

    balance = get_balance

    def submit(
        self, kind: Kind, account_id: str, amount: int, transaction_id: str, extra: bytes = b""
    ) -> Awaitable[Answer]:
        """Begin a transaction, join the one under way, or replay what is recorded. Raises Unavailable."""
        if not self.ready:
            raise Unavailable("The wallet is starting or recovering", in_doubt=True)
        body = Body(kind, account_id, amount, extra)
        pending = self._underway.get(transaction_id)
        if pending is None:
            if self._ledger.state.is_unread(transaction_id):
                return self._submit_when_read(body, transaction_id)
            known = self._ledger.recall(transaction_id)
            if known is not None and known.status is Status.COMMITTED:
                return self._replay(known, body)
            pending = self._begin(body, transaction_id)
        return self._underway.wait(pending, body, time.monotonic())

    def submit_batch(
        self, slices: Iterable[Sequence[Movement]], count: int, *, all_or_nothing: bool
    ) -> Awaitable[BatchAnswer]:
        """Begin, join or replay many transactions; see `Wallet.submit_batch`."""
        return self._batches.submit(slices, count, all_or_nothing=all_or_nothing)

    async def _submit_when_read(self, body: Body, transaction_id: str) -> Answer:
        await self._bring_in((transaction_id,))
        return await self.submit(body.kind, body.account_id, body.amount, transaction_id, body.extra)

    async def bring_in(self, account_ids: Sequence[str] = (), transaction_id: str = "", hold_id: str = "") -> None:
        """Have what is to be asked next in memory."""
        transaction_ids = (transaction_id,) if transaction_id else ()
        await self._bring_in(transaction_ids, account_ids, (hold_key(hold_id),) if hold_id else ())

    async def _bring_in(
        self, transaction_ids: Sequence[str], account_ids: Sequence[str] = (), record_keys: Sequence[str] = ()
    ) -> None:
        state = self._ledger.state
        await self._disk.bring_in(state, (state.unread(account_ids, transaction_ids, record_keys),))

    def hold(self, hold_id: str) -> Hold | None:
        """A hold as it stands."""
        return self._ledger.hold(hold_id)

    def find(self, transaction_id: str) -> Transaction | None:
        """The latest attempt under an id, PENDING while it is under way."""
        pending = self._underway.get(transaction_id)
        if pending is not None:
            return pending_transaction(pending.operation, pending.lsn, pending.epoch)
        return self._tail.find(transaction_id) or self._ledger.find(transaction_id)

    # ---- The pipeline

    async def run(self) -> None:
        """Turn what waits into blocks, one at a time, until cancelled. Raises DiskFault."""
        while True:
            await self._work.wait()
            await self._let_come()
            load = self._take_load()
            if not load.transactions and not load.slices:
                self._work.clear()
                continue
            began = time.monotonic()
            await self._record_transaction_wal(load)
            await self._wait_for_follower(time.monotonic() - began)

    async def _let_come(self) -> None:
        """What has arrived already belongs into this block: else its first requests go alone, and the others wait."""
        waiting = 0
        while waiting < len(self._queue) < self._settings.max_batch:
            waiting = len(self._queue)
            await asyncio.sleep(0)

    async def _wait_for_follower(self, took_s: float) -> None:
        """Let a backup that catches up gain on us, which syncs as many blocks as we do: else it never gets near.

        Alone we are quicker than with it. So this costs no answer more than the pair will, once it is paired again.
        """
        if self._lead is not None and self._lead.core.followed:
            await asyncio.sleep(min(_FOLLOWER_SHARE * took_s, _FOLLOWER_WAIT_S))

    def append(self, operations: list[Operation]) -> list[asyncio.Future[Answer]]:
        """Put records of our own (rollbacks, rules, imports) into the log like any transaction."""
        records = [Pending(one) for one in operations]
        if self._injector.arming and self._injector.arming.stage is not Stage.REPLIED:  # nobody is told of these
            ids = [one.transaction_id for one in operations]
            for transaction_id in ids:
                self._injector.saw_new(transaction_id)
            self._injector.reached(Stage.RECEIVED, ids)
        self._queue.extend(records)
        self._work.set()
        return [self._underway.wait_for_record(record) for record in records]

    def _begin(self, body: Body, transaction_id: str) -> Pending:
        self._refuse(1)
        pending = self._underway.add(asked(body, transaction_id, self.now_us()))
        if self._injector.armed:
            self._inject_at_the_ends(transaction_id)
        self._queue.add(pending)
        self._work.set()
        return pending

    def _refuse(self, operations: int) -> None:
        """Raise Unavailable when there is no room for so many; an empty line takes any batch."""
        waiting = len(self._queue)
        if waiting and waiting + operations > self._settings.max_queue:
            raise Unavailable("The wallet is overloaded", in_doubt=False)
        if self._disk_is_full:
            raise Unavailable(
                "The disk is nearly full: no transaction is begun until there is room", in_doubt=False, retry_after_s=5
            )

    def _inject_at_the_ends(self, transaction_id: str) -> None:
        """The two stages outside of the pipeline: before it, and after the task that answers this request is done."""
        self._injector.saw_new(transaction_id)
        self._injector.reached(Stage.RECEIVED, (transaction_id,))
        task = asyncio.current_task()
        if task is not None:
            task.add_done_callback(lambda _: self._injector.reached(Stage.REPLIED, (transaction_id,)))

    def _replay(self, known: Transaction, body: Body) -> asyncio.Future[Answer]:
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        future.set_result(Answer(known, True, self._durability, first_difference(known, body)))
        return future

    def _take_load(self) -> Load:
        lead = self._lead
        may_append = lead is not None and lead.core.answering and lead.settled
        most = MAX_INFLIGHT_BLOCKS if self._queue.has_slices else _INFLIGHT_WHILE_FILLING
        if not may_append or len(self._inflight) >= most:
            return Load([], [])
        return self._queue.take()

    async def _record_transaction_wal(self, load: Load) -> None:
        """Make the PENDING records of a block durable here; nothing of it has been sent before."""
        assert self._lead is not None
        operations = load.operations()
        epoch, first_lsn = self._lead.core.epoch, self._next_lsn
        block = encode_block(
            epoch, first_lsn, len(operations), self._commit_lsn, self._chain, encode_operations(operations)
        )
        for lsn, pending in enumerate(load.transactions, first_lsn):
            pending.lsn, pending.epoch = lsn, epoch
        next_lsn = first_lsn + len(load.transactions)
        for one in load.slices:
            next_lsn = one.recorded(next_lsn, epoch)
        self._next_lsn, self._chain = block.last_lsn + 1, block.chain
        unread = self._ledger.state.prepare(operations, new=True)
        if unread:
            await asyncio.gather(self._disk.append(block), self._disk.bring_in(self._ledger.state, (unread,)))
        else:
            await self._disk.append(block)
        self._recorded.said((one.transaction_id for one in operations), len(operations))
        if self._injector.armed:
            self._injector.reached(Stage.PENDING, [one.transaction_id for one in operations], first_lsn)
        self._marked_lsn = block.commit_lsn
        self._inflight.append(_Batch(block, load, operations))
        self._lead.durable(block)

    def committed(self, lsn: int) -> None:
        """The pair's protocol: everything up to `lsn` may be executed and answered."""
        self._commit_lsn = max(self._commit_lsn, lsn)
        self._committed_at = time.monotonic()
        for block in self._tail.take(lsn):
            self._execute(block)
        while self._inflight and self._inflight[0].block.last_lsn <= lsn:
            self._commit_transaction(self._inflight.popleft())
        if self._queue:
            self._work.set()

    def _execute(self, block: Block) -> None:
        operations = decode_operations(block.payload)
        self._ledger.apply(block.first_lsn, block.epoch, operations)
        self._on_applied(block, operations)

    def _commit_transaction(self, batch: _Batch) -> None:
        """Execute a batch that is durable wherever it must be, and answer it."""
        block, load, operations = batch
        armed = self._injector.armed
        ids = [one.transaction_id for one in operations] if armed else []
        if armed and self.mode == "paired":
            self._injector.reached(Stage.SYNCED, ids, block.first_lsn)
        outcomes = self._ledger.apply(block.first_lsn, block.epoch, operations)
        if armed:
            self._injector.reached(Stage.EXECUTED, ids, block.first_lsn)
            if self._injector.arming and self._injector.arming.stage is Stage.COMMITTED:
                self._disk.append_mark_now(block.last_lsn)
            self._injector.reached(Stage.COMMITTED, ids, block.first_lsn)
        self._on_applied(block, operations)
        mode = self._durability
        for pending, outcome in zip(load.transactions, outcomes, strict=False):  # those of slices follow
            self._underway.answer(pending, outcome, mode)
        for one in load.slices:
            begins = one.lsn - block.first_lsn
            self._underway.answer_slice(one, outcomes[begins : begins + len(one.operations)], mode)
        self._committed.said((one.transaction_id for one in operations), len(operations))

    # ---- Recovery

    def recover_pending_transactions(self) -> None:
        """Say how many PENDING records recovery found; the protocol settles them, forward or back."""
        if self._tail.count:
            self._log.info(f"WAL: Found {self._tail.count} PENDING transactions to settle")

    async def before_cut(self, lsn: int) -> None:
        """What the log has beyond `lsn` was never answered: remember it, so that ROLLED_BACK goes on record."""
        cut = self._tail.beyond(lsn)
        await self._rollbacks.remember(cut)
        for one in cut:
            self._log.warning(f"WAL: Rolling back PENDING transaction {one.transaction_id}: the backup never had it")

    def after_cut(self) -> None:
        """The log ends earlier now."""
        journal = self._disk.journal
        self._tail.cut(journal.durable_lsn)
        self._chain, self._next_lsn = journal.chain, journal.durable_lsn + 1

    def backup_cut(self, encoded: bytes) -> None:
        """Put ROLLED_BACK on record for what the backup has cut and this log does not have; nobody waits for it."""
        operations = [one for one in decode_operations(encoded) if self._is_unknown(one.transaction_id)]
        for one in operations:
            self._log.warning(f"WAL: Rolled back transaction {one.transaction_id}: only the backup had it, and cut it")
        for record in self.append([rollback_record(one, self.now_us()) for one in operations]):
            record.add_done_callback(lambda done: done.exception())  # told, when the node stops before it is durable

    def _is_unknown(self, transaction_id: str) -> bool:
        return self._underway.get(transaction_id) is None and self._ledger.find(transaction_id) is None

    async def open(self) -> None:
        """The log is settled: put rollbacks and changed rules on record, then serve. Raises Refused."""
        if self._opened:
            return
        self._opened = True
        _refuse_other_decimals(self._settings.rules, self._ledger)
        self.watch_disk()
        records = self._rollbacks.operations(self._ledger, self.now_us())
        if self._settings.rules != self._ledger.rules:
            records.append(changed_rules(self._settings.rules, self.now_us()))
        await asyncio.gather(*self.append(records))
        await self._rollbacks.forget()
        self._serving = True
        self._log.info("Primary service initialized with failover support")

    # ---- Housekeeping

    def tick(self) -> None:
        """Every 50 ms or so: time-outs. It waits for no disk, or nobody would be answered while one stalls."""
        self._underway.expire(time.monotonic())
        if self._queue:
            self._work.set()

    async def mark_when_idle(self) -> None:
        """Put on record how far the commit has come, when no block will carry it. Raises DiskFault."""
        quiet = time.monotonic() - self._committed_at > _IDLE_MARK_AFTER_S
        idle = quiet and not self._inflight and not self._queue
        if idle and self._commit_lsn > self._marked_lsn and self._lead and self._lead.core.answering:
            self._marked_lsn = self._commit_lsn
            self._lead.idle_mark()
            await self._disk.append_mark(self._commit_lsn)
            self._committed.flush()
            self._recorded.flush()

    def watch_disk(self) -> None:
        """Every second or so: refuse new transactions before the disk is full, never in the middle of one."""
        full = self._disk.journal.free_bytes() < self._settings.min_free_bytes
        if full != self._disk_is_full:
            self._disk_is_full = full
            self._log.warning("The disk is nearly full: writes are refused" if full else "The disk has room again")

    def stop(self) -> None:
        """Refuse what is new; what is under way goes on."""
        self._stopping = True

    def go_on(self) -> None:
        """Take what is new again."""
        self._stopping = False

    async def drained(self, timeout_s: float) -> bool:
        """Wait until nothing is under way, at most `timeout_s` seconds; tells whether that has come."""
        until = time.monotonic() + timeout_s
        while self._is_busy and time.monotonic() < until:
            await asyncio.sleep(_DRAIN_POLL_S)
        return not self._is_busy

    @property
    def _is_busy(self) -> bool:
        """Records of our own count as well: what a backup that is to lead has not got would be cut from this log."""
        return bool(len(self._underway) or self._inflight or self._queue.is_waited_for)

    def fail_all(self) -> None:
        """Tell everybody who waits that the outcome is not known."""
        self._underway.fail_all("The wallet stops")

    def wake(self) -> None:
        """The protocol's state has changed: look again whether blocks may be appended."""
        self._work.set()


def _refuse_other_decimals(configured: Rules, ledger: Ledger) -> None:
    """Decimals are the meaning of every balance; a ledger that kept its own in silence would not be what was meant."""
    in_force = ledger.rules.exponent
    if configured.exponent != in_force and any(ledger.export_accounts()):
        raise Refused(
            f"currency_exponent is {configured.exponent}, and this ledger's balances have {in_force} decimals: set it "
            f"to {in_force}, or export the ledger and import it into a new data directory",
            ExitCode.WRONG_DIRECTORY,
        )
