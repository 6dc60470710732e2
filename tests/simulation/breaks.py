"""Each rule that the shipped nodes keep, broken on purpose, and the simulated world that notices.

    python -m tests.simulation.breaks                       every break, until the worlds catch it
    python -m tests.simulation.breaks no-fence --seeds 500  these alone

Most show in random worlds; where several things must go wrong in one order, `moments.py` has a directed one.
Shipped code is patched in this process alone. The first word of a violation names the invariant that caught the break.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple
from unittest import mock

from msgspec import structs

from ftwallet import platform
from ftwallet.errors import DiskFault
from ftwallet.journal import checkpoints, frames, quarantine, recovery, segments
from ftwallet.journal import journal as journal_module
from ftwallet.journal.damage import disk_errors
from ftwallet.journal.head import Head
from ftwallet.journal.identity import Identity
from ftwallet.journal.journal import Journal
from ftwallet.ledger import ledger as ledger_module
from ftwallet.ledger.ledger import Ledger
from ftwallet.ledger.operations import Body, Kind
from ftwallet.node import backup as backup_node
from ftwallet.node import receiving, seat
from ftwallet.node.disk import Disk
from ftwallet.node.following import Following
from ftwallet.node.outage import Outage
from ftwallet.node.rollbacks import Rollbacks
from ftwallet.node.service import PrimaryWalletService
from ftwallet.replication import effects as fx
from ftwallet.replication import register as register_module
from ftwallet.replication.backup import Backup
from ftwallet.replication.primary import Primary
from ftwallet.replication.register import Decision, Proposal, ProposalKind, Register
from ftwallet.replication.states import PrimaryState
from ftwallet.supervisor import promotion
from ftwallet.witness import file as witness_file
from ftwallet.witness.file import FileWitness
from tests.replication import breaks as protocol
from tests.simulation import moments, plan, runner, supervisor
from tests.simulation import moments_disk as disk
from tests.simulation.moments import Moment, scenario

SEEDS = 400
Patch = contextlib.AbstractContextManager[Any]


class Break(NamedTuple):
    """`kinds`: of faults, in whose worlds it shows soonest; without any, in all. `hint`: a seed that has caught it.

    `moment`: a directed world, in the place of random ones.
    """

    name: str
    rule: str
    patch: Callable[[], Patch]
    kinds: tuple[str, ...] = ()
    hint: int = 0
    moment: Moment | None = None


class Caught(NamedTuple):
    """`violation` is None when no world noticed. `world`: the moment, or the seed."""

    name: str
    violation: str | None
    world: str = "-"
    steps: int = 0
    faults: int = 0


# ---- How to break things


def method(owner: Any, name: str, replace: Callable[[Any], Any]) -> Patch:
    return mock.patch.object(owner, name, replace(getattr(owner, name)))


@contextlib.contextmanager
def together(*patches: Patch) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for patch in patches:
            stack.enter_context(patch)
        yield


def without(operation: str, *places: tuple[Any, str]) -> Callable[[], Patch]:
    """Leave out an operation of the disk while these functions run."""

    def left_out(whole: Any) -> Any:
        def broken(*args: Any, **kwargs: Any) -> Any:
            with mock.patch.object(platform, operation, mock.Mock()):
                return whole(*args, **kwargs)

        return broken

    return lambda: together(*(method(owner, name, left_out) for owner, name in places))


def deciding(decide: Callable[[Register, Proposal], Decision]) -> Patch:
    return mock.patch.object(witness_file, "decide", decide)


def instead(owner: Any, name: str, new: Any) -> Callable[[], Patch]:
    return lambda: mock.patch.object(owner, name, new)


_decide = register_module.decide


# ---- The pair


def commit_without_backup() -> Patch:
    def commit(self: Primary) -> list[Any]:
        if not self.answering or self.durable_lsn <= self.commit_lsn:
            return []
        self.commit_lsn = self.durable_lsn
        return [fx.Commit(self.commit_lsn)]

    return mock.patch.object(Primary, "_commit", commit)


def solo_when_witness_is_silent() -> Patch:
    def replace(whole: Any) -> Any:
        def answered(self: Primary, proposal: Proposal, decision: Decision | None, now: float) -> list[Any]:
            if decision is not None or self.state is not PrimaryState.SHRINKING:
                return whole(self, proposal, decision, now)
            self.in_sync = {self.identity.node: self.identity.incarnation}
            return self._act_on_in_sync()

        return answered

    return method(Primary, "witness_answered", replace)


def ack_before_durable() -> Patch:
    async def append_all(self: Disk, blocks: Any) -> None:
        asyncio.get_running_loop().run_in_executor(self._writer, self._append_each, blocks)

    return mock.patch.object(Disk, "append_all", append_all)


def send_before_durable() -> Patch:
    async def append(self: Disk, block: Any) -> None:
        asyncio.get_running_loop().run_in_executor(self._writer, self.journal.append, block)

    return mock.patch.object(Disk, "append", append)


def join_names_an_older_incarnation() -> Patch:
    def replace(whole: Any) -> Any:
        def decide(register: Register, proposal: Proposal) -> Decision:
            first = _first.setdefault((register.cluster_id, proposal.peer), proposal.peer_incarnation)
            return whole(register, proposal._replace(peer_incarnation=first))

        return decide

    _first: dict[tuple[str, str], str] = {}
    return method(witness_file, "decide", replace)


def any_incarnation_promoted() -> Patch:
    """Whoever bears the name is taken for the node that it was, when the supervisor looks and when it asks it anew."""

    def hindrance(slot: Any, register: Register) -> Any:
        hindered = _hindrance(slot, register)
        out_of_sync = hindered is promotion.Hindrance.OUT_OF_SYNC and slot.node in register.in_sync
        return None if out_of_sync else hindered

    _hindrance = promotion.hindrance
    return together(
        mock.patch.object(supervisor, "hindrance", hindrance),
        mock.patch.object(promotion, "_not_as_recorded", mock.AsyncMock(return_value="")),
    )


def any_backup_promoted() -> Patch:
    def hindrance(slot: Any, register: Register) -> Any:
        hindered = _hindrance(slot, register)
        return None if hindered is promotion.Hindrance.OUT_OF_SYNC else hindered

    async def record(witness: Any, heir: Any, register: Register) -> Any:
        proposal = Proposal(ProposalKind.PROMOTE, heir.node, heir.status.incarnation, register.epoch)
        return proposal, witness.propose(proposal), ""

    def decide(register: Register, proposal: Proposal) -> Decision:
        if proposal.kind is ProposalKind.PROMOTE and proposal.expected_epoch == register.epoch:
            alone = {proposal.node: proposal.incarnation}
            return register_module._granted(register, proposal, register.epoch + 1, alone)
        return _decide(register, proposal)

    _hindrance = promotion.hindrance
    return together(
        mock.patch.object(supervisor, "hindrance", hindrance),
        mock.patch.object(supervisor, "record", record),
        deciding(decide),
    )


def start_in_the_same_epoch() -> Patch:
    def decide(register: Register, proposal: Proposal) -> Decision:
        if proposal.kind is ProposalKind.START and register.primary == proposal.node and register.epoch > 0:
            granted = _decide(register, proposal)
            epoch = register.epoch
            return granted._replace(register=register_module._granted(register, proposal, epoch, register.in_sync)[2])
        return _decide(register, proposal)

    return deciding(decide)


def settle_unfenced() -> Patch:
    """Two rules guard this: the fence, and that Begin has all cut which is beyond the common prefix."""
    return together(protocol.settle_unfenced(), mock.patch.object(Following, "_cut", _cut_nothing))


def damaged_log_keeps_its_incarnation() -> Patch:
    def replace(whole: Any) -> Any:
        def set_aside(node_dir: Any, owner: Identity, damage: Any) -> Any:
            with mock.patch.object(owner, "renew_incarnation", mock.Mock(return_value="")):
                return whole(node_dir, owner, damage)

        return set_aside

    return method(seat, "set_damaged_aside", replace)


def dirty_reads() -> Patch:
    """A balance as if all that is under way had been executed."""

    def balance(self: PrimaryWalletService, account_id: str) -> int | None:
        known = self._ledger.balance(account_id)
        for batch in self._inflight:
            for one in batch.operations:
                if one.account_id == account_id:
                    known = (known or 0) + (one.amount if one.kind == Kind.DEPOSIT else -one.amount)
        return known

    return mock.patch.object(PrimaryWalletService, "balance", balance)


# ---- What recovery does with a PENDING tail


def roll_forward_unacked() -> Patch:
    def replace(whole: Any) -> Any:
        def settle(self: Primary, session: Any, reply: Any, common: int) -> list[Any]:
            effects = whole(self, session, reply, common)
            return [fx.SettleTail(self.durable_lsn) if isinstance(one, fx.SettleTail) else one for one in effects]

        return settle

    return method(Primary, "_settle", replace)


def cut_below_the_commit() -> Patch:
    def replace(whole: Any) -> Any:
        def settle(self: Primary, session: Any, reply: Any, common: int) -> list[Any]:
            committed, self.commit_lsn = self.commit_lsn, 0
            effects = whole(self, session, reply, common)
            self.commit_lsn = min(committed, common)
            return effects

        return settle

    return method(Primary, "_settle", replace)


def any_incarnation_settles() -> Patch:
    """Two rules guard this: the incarnation, and that a log which lacks what was committed settles nothing."""

    def is_in_sync(self: Primary, peer: Any) -> bool:
        return peer.node in self.in_sync

    return together(mock.patch.object(Primary, "_is_in_sync", is_in_sync), cut_below_the_commit())


def roll_back_alone_at_start() -> Patch:
    """A primary that is in sync alone cuts what is PENDING, where it may have been answered."""

    def replace(whole: Any) -> Any:
        def started(self: Primary) -> list[Any]:
            if self.state is not PrimaryState.SOLO or self.durable_lsn == self.commit_lsn:
                return whole(self)
            self.state = PrimaryState.SETTLING
            return [fx.RecordEpoch(self.epoch), fx.SettleTail(self.commit_lsn)]

        return started

    return method(Primary, "started", replace)


def rollback_bars_the_id() -> Patch:
    return mock.patch.object(ledger_module, "is_rolled_back", mock.Mock(return_value=False))


# ---- Requests


def no_dedup() -> Patch:
    def submit(self: Any, kind: Any, account_id: str, amount: int, transaction_id: str) -> Any:
        body = Body(kind, account_id, amount)
        pending = self._underway.get(transaction_id) or self._begin(body, transaction_id)
        return self._underway.wait(pending, body, time.monotonic())

    return mock.patch.object(PrimaryWalletService, "submit", submit)


def execute_twice() -> Patch:
    def replace(whole: Any) -> Any:
        def apply(self: Any, first_lsn: int, epoch: int, operations: Any) -> Any:
            for one in operations:
                self.state.transactions.pop(one.transaction_id, None)
            return whole(self, first_lsn, epoch, operations)

        return apply

    return together(no_dedup(), method(Ledger, "apply", replace))


def decide_each_alone() -> Patch:
    def decide(self: Any, movements: Any) -> Any:
        moves = {Kind.DEPOSIT: self._deposit, Kind.WITHDRAW: self._withdraw}
        accounts = self.state.accounts
        return True, [moves[Kind(one.kind)](accounts, one.account_id, one.amount) for one in movements]

    return mock.patch.object(Ledger, "_decide", decide)


def answer_before_execution() -> Patch:
    """On its own disk is enough: executed and answered before the protocol says so."""

    def replace(whole: Any) -> Any:
        async def record(self: PrimaryWalletService, transactions: Any) -> None:
            await whole(self, transactions)
            self.committed(self._next_lsn - 1)

        return record

    return method(PrimaryWalletService, "_record_transaction_wal", replace)


# ---- The disk


def corrupt_taken_for_torn() -> Patch:
    def judge(buffer: bytes, offset: int, base: int) -> Any:
        verdict = frames.judge(buffer, offset, base)
        return frames.Torn(verdict.why) if isinstance(verdict, frames.Corrupt) else verdict

    return mock.patch.object(segments, "judge", judge)


def torn_taken_for_corrupt() -> Patch:
    def judge(buffer: bytes, offset: int, base: int) -> Any:
        verdict = frames.judge(buffer, offset, base)
        return frames.Corrupt(verdict.why) if isinstance(verdict, frames.Torn) else verdict

    return mock.patch.object(segments, "judge", judge)


def torn_taken_as_whole() -> Patch:
    """Neither checksum nor hash chain is looked at: what a frame's header promises is believed."""

    def after(self: Head, block: Any) -> Head:
        return _after(self, structs.replace(block, chain=frames.next_chain(self.chain, *_hashed(block))))

    def _hashed(block: Any) -> Any:
        return block.epoch, block.first_lsn, block.count, block.payload

    _after = Head.after_block
    return together(
        mock.patch.object(frames, "crc32", mock.Mock(return_value=0)), mock.patch.object(Head, "after_block", after)
    )


def retry_after_a_failed_sync() -> Patch:
    """As if a second sync told of the first one's data."""

    def replace(whole: Any) -> Any:
        def write(self: Journal, raw: bytes, head: Head) -> None:
            fdatasync = platform.fdatasync

            def again(fd: int) -> None:
                try:
                    fdatasync(fd)
                except OSError:
                    fdatasync(fd)

            with mock.patch.object(platform, "fdatasync", again):
                whole(self, raw, head)

        return write

    return method(Journal, "_write", replace)


def goes_on_after_a_failed_write() -> Patch:
    """Neither is the journal poisoned, nor does the node end."""

    @contextlib.contextmanager
    def unpoisoned(self: Journal) -> Iterator[None]:
        with disk_errors(self.directory, "written"):
            yield

    def replace(whole: Any) -> Any:
        def failed(self: Outage, error: BaseException) -> None:
            if type(error) is not DiskFault:
                whole(self, error)

        return failed

    return together(mock.patch.object(Journal, "_poisoned_until_done", unpoisoned), method(Outage, "failed", replace))


def checkpoints_unchecked() -> Patch:
    return mock.patch.object(checkpoints, "crc32", mock.Mock(return_value=0))


def state_sync_unchecked() -> Patch:
    """Neither the fingerprint of what has come nor the checksums inside."""
    return together(protocol.fingerprint_unchecked(), checkpoints_unchecked())


def ack_before_the_installation() -> Patch:
    """Two rules guard this: the protocol's, and that a node says nothing before all of a message is done."""

    def replace(whole: Any) -> Any:
        async def sync_state(self: Following, effect: Any) -> Any:
            if not isinstance(effect, fx.Install):
                return await whole(self, effect)
            self._installing = asyncio.create_task(install(self, effect))  # type: ignore[attr-defined]
            return []

        async def install(self: Following, effect: Any) -> None:
            async with self._one_at_a_time:
                await self._perform(await whole(self, effect))

        return sync_state

    return together(protocol.blocks_before_the_checkpoint(), method(Following, "_sync_state", replace))


def unshielded() -> Patch:
    async def handle(self: Any, message: Any) -> Any:
        return await self._handle(message)

    return mock.patch.object(backup_node._Watched, "handle", handle)


def history_after_execution() -> Patch:
    """A backup's protocol learns of blocks when all of a message are executed: checkpoints are taken before."""

    def appended(self: Backup, block: Any) -> None:
        late.append(block)

    def replace(whole: Any) -> Any:
        def executed(self: Backup, session: int) -> Any:
            for block in late:
                _appended(self, block)
            late.clear()
            return whole(self, session)

        return executed

    late: list[Any] = []
    _appended = Backup.appended
    return together(mock.patch.object(Backup, "appended", appended), method(Backup, "executed", replace))


def start_not_counted() -> Patch:
    return mock.patch.object(Identity, "record_boot", mock.Mock())


async def _no_report(self: Rollbacks, ledger: Ledger) -> bytes:
    return b""


async def _cut_nothing(self: Following, lsn: int) -> None:
    pass


async def _remember_nothing(self: Rollbacks, operations: Any) -> None:
    pass


BREAKS = (
    # The pair
    Break(
        "no-fence",
        "a backup takes messages of an older epoch",
        protocol.no_fence,
        moment=moments.old_message_comes_after_the_tail_is_settled,
    ),
    Break(
        "settle-unfenced",
        "a backup that has told its log still takes older messages, and Begin does not cut what they brought",
        settle_unfenced,
        moment=moments.old_message_comes_while_the_tail_is_settled,
    ),
    Break("ack-early", "a backup acks before its disk has it", ack_before_durable),
    Break("send-early", "a primary sends and counts before its own disk has it", send_before_durable),
    Break("commit-alone", "a primary answers without its backup", commit_without_backup),
    Break(
        "ack-alone",
        "it answers alone before the witness has shrunk the set",
        protocol.ack_alone,
        moment=moments.record_is_durable_while_the_witness_is_asked,
    ),
    Break("shrink-unasked", "it goes solo without asking the witness", protocol.shrink_without_asking, hint=1),
    Break(
        "silent-witness",
        "it goes solo when the witness does not answer",
        solo_when_witness_is_silent,
        ("witness-silent", "cut"),
        hint=1,
    ),
    Break(
        "join-early",
        "a backup joins before it holds all that was answered alone",
        protocol.join_early,
        moment=moments.backup_is_slow_to_catch_up,
    ),
    Break(
        "join-acks-alone",
        "a primary answers alone while it asks for the join",
        protocol.join_acks_alone,
        moment=moments.transactions_come_while_the_join_is_asked,
    ),
    Break(
        "join-other",
        "a join names another incarnation than the one that acked",
        join_names_an_older_incarnation,
        moment=moments.backup_that_joins_is_another_directory_than_before,
    ),
    Break(
        "promote-name",
        "an emptied or damaged node is promoted by its name",
        any_incarnation_promoted,
        ("wipe-unseen", "flip-unseen"),
    ),
    Break("promote-any", "a backup out of the in-sync set is promoted", any_backup_promoted, ("kill", "cut"), hint=1),
    Break(
        "settle-any",
        "a tail is settled with another incarnation than the one in sync",
        any_incarnation_settles,
        ("wipe-unseen", "flip-unseen"),
    ),
    Break(
        "same-epoch",
        "a primary starts again in the epoch that it had",
        start_in_the_same_epoch,
        moment=moments.old_message_comes_after_the_tail_is_settled,
    ),
    Break(
        "keep-tail",
        "a backup keeps what the primary does not have",
        instead(Following, "_cut", _cut_nothing),
        moment=scenario("C2_primary_dies_at_pending"),
    ),
    Break(
        "gaps",
        "the primary skips records that the backup does not have",
        protocol.gaps_are_taken,
        moment=scenario("N1_link_between_the_nodes_is_cut"),
    ),
    Break("no-copy", "what is cut is not copied first", instead(quarantine, "keep", lambda *_: quarantine), hint=6),
    Break(
        "old-copies",
        "an old copy of a directory is taken for the node",
        instead(seat, "_old_copy", lambda *_: None),
        ("copy-unseen", "kill"),
    ),
    Break(
        "starts-uncounted",
        "a node does not keep the number of its start",
        start_not_counted,
        moment=scenario("C2_primary_dies_at_pending_policy_restart"),
    ),
    Break(
        "damaged-stays",
        "a damaged log is set aside under the old incarnation",
        damaged_log_keeps_its_incarnation,
        ("flip-unseen",),
    ),
    Break(
        "log-from-1",
        "a backup gets no checkpoint, and the log begins too late",
        protocol.checkpoint_not_required,
        moment=moments.log_that_begins_after_a_checkpoint_leads,
    ),
    Break(
        "blocks-first",
        "a checkpoint is acked, and the ack sent, before it is installed",
        ack_before_the_installation,
        moment=moments.backup_is_slow_to_install_a_checkpoint,
    ),
    Break(
        "other-part",
        "a state sync goes on with what the backup does not have",
        protocol.part_of_another_file_counts,
        moment=scenario("C7_backup_dies_in_a_state_sync"),
    ),
    Break(
        "sync-unchecked",
        "a checkpoint that came is installed unchecked",
        state_sync_unchecked,
        moment=scenario("D7_flipped_bit_in_a_checkpoint"),
    ),
    Break("dirty-reads", "a read shows what is not committed", dirty_reads, hint=1),
    Break(
        "unshielded",
        "a message's handling ends with its stream",
        unshielded,
        moment=moments.session_breaks_while_a_checkpoint_is_installed,
    ),
    # Recovery
    Break(
        "naive-rollback",
        "a restarted primary rolls back all that is pending",
        protocol.naive_rollback,
        ("kill",),
        hint=2,
    ),
    Break(
        "rollback-alone",
        "a primary whose backup is not back rolls back",
        protocol.rollback_alone,
        moment=moments.primary_starts_again_and_its_backup_is_cut_off,
    ),
    Break(
        "rollback-solo",
        "a primary in sync alone rolls back at its start",
        roll_back_alone_at_start,
        ("kill", "both"),
        hint=7,
    ),
    Break(
        "forward-unacked",
        "what the backup does not have is rolled forward",
        roll_forward_unacked,
        moment=moments.rolled_back_transaction_is_asked_again_at_once,
    ),
    Break(
        "no-rollbacks",
        "a primary puts no ROLLED_BACK on record",
        instead(Rollbacks, "operations", lambda *_: []),
        moment=moments.primary_rolls_back_and_nobody_asks_again,
    ),
    Break(
        "no-report",
        "a backup does not report what it cut",
        instead(Rollbacks, "unreported", _no_report),
        moment=moments.old_primary_cuts_and_nobody_asks_again,
    ),
    Break(
        "cut-forgotten",
        "what is cut is not remembered",
        instead(Rollbacks, "remember", _remember_nothing),
        moment=moments.old_primary_dies_between_its_cut_and_the_report,
    ),
    Break(
        "barred",
        "an id that was rolled back is never executed",
        rollback_bars_the_id,
        moment=moments.rolled_back_transaction_is_asked_again,
    ),
    # Requests
    Break("no-dedup", "a retry is taken for a new transaction", no_dedup),
    Break("group-apart", "each movement of a group is decided alone", decide_each_alone),
    Break("twice", "an id is executed twice", execute_twice),
    Break("answer-early", "a transaction is executed and answered when its own disk has it", answer_before_execution),
    # What is synced
    Break(
        "unsynced-record",
        "the witness's record is not synced",
        without("fdatasync", (FileWitness, "_write")),
        moment=disk.power_fails_and_the_record_was_just_written,
    ),
    Break("unsynced-append", "a block is not synced", without("fdatasync", (Journal, "_write"))),
    Break(
        "unsynced-segment",
        "a new segment's header is not synced",
        without("fdatasync", (journal_module, "create_segment"), (recovery, "create_segment")),
        moment=disk.power_fails_when_a_segment_is_named,
    ),
    Break(
        "unsynced-name",
        "a new segment's name is not synced",
        without("fsync_directory", (journal_module, "create_segment"), (recovery, "create_segment")),
        ("power",),
    ),
    Break(
        "unsynced-identity",
        "identity.json is not synced",
        without("fdatasync", (Identity, "_save")),
        moment=disk.power_fails_and_the_identity_was_just_written,
    ),
    Break(
        "unsynced-incarnation",
        "identity.json's name is not synced",
        without("fsync_directory", (Identity, "_save")),
        moment=disk.power_fails_and_a_name_is_lost,
    ),
    Break(
        "unsynced-checkpoint",
        "a checkpoint is not synced",
        without("fdatasync", (checkpoints, "_write_draft")),
        moment=disk.power_fails_after_two_checkpoints,
    ),
    Break(
        "unsynced-cut",
        "a cut is not synced",
        without("fdatasync", (recovery, "truncate_file")),
        moment=disk.power_fails_in_the_block_after_a_cut,
    ),
    Break(
        "unsynced-removal",
        "removed segments come back",
        without("fsync_directory", (Journal, "_remove_after")),
        moment=disk.power_fails_in_a_cut_of_two_segments,
    ),
    Break(
        "unsynced-start",
        "a start does not sync what it found",
        without("fdatasync", (recovery, "_make_durable")),
        moment=disk.killed_before_a_sync,
    ),
    Break(
        "unsynced-part",
        "slices of a checkpoint are not synced",
        without("fdatasync", (receiving, "_write")),
        moment=disk.power_fails_when_a_state_sync_is_installed,
    ),
    Break(
        "unsynced-rollbacks",
        "rollbacks are not synced",
        without("fdatasync", (Rollbacks, "_write")),
        moment=disk.power_fails_after_a_cut,
    ),
    Break(
        "unsynced-copy",
        "the copy of what is cut is not synced",
        without("fdatasync", (quarantine, "_copy")),
        moment=disk.power_fails_after_a_cut,
    ),
    # What is on the disk
    Break(
        "corrupt-is-torn",
        "a damaged frame is cut off like a torn one",
        corrupt_taken_for_torn,
        ("flip-unseen",),
        hint=1,
    ),
    Break(
        "torn-is-corrupt",
        "a torn frame is taken for damage",
        torn_taken_for_corrupt,
        moment=disk.power_fails_in_a_block,
    ),
    Break("torn-is-whole", "a torn frame is taken as whole", torn_taken_as_whole, moment=disk.power_fails_in_a_block),
    Break("sync-again", "a failed sync is tried again", retry_after_a_failed_sync, moment=disk.a_sync_fails),
    Break(
        "cache-kept",
        "after a failed sync the page cache is believed",
        without("drop_cache", (recovery, "_make_durable")),
        moment=disk.a_sync_fails,
    ),
    Break(
        "not-poisoned",
        "after a failed sync the journal is written on, and the node goes on",
        goes_on_after_a_failed_write,
        moment=disk.a_sync_fails_and_the_backup_leads,
    ),
    Break(
        "checkpoint-unchecked",
        "a checkpoint's checksums are not looked at",
        checkpoints_unchecked,
        moment=disk.a_bit_of_a_checkpoint_is_flipped,
    ),
    Break("late-history", "a backup's checkpoint has the history of the block before", history_after_execution),
)


def find(broken: Break, seeds: int) -> Caught:
    """The directed world, or else the first random one that notices, the one of the hint first."""
    if broken.moment is not None:
        return _find_in_its_moment(broken, broken.moment)
    for seed in (broken.hint, *range(seeds)):
        todo = plan.make(seed, broken.kinds)
        with broken.patch():
            result = runner.run(todo)
        if result.violation is not None:
            whole = runner.run(todo).violation
            if whole is not None:
                _say_that_it_fails_whole(f"seed {seed} of {broken.kinds}", whole)
                continue
            return Caught(broken.name, result.violation, str(seed), result.steps, len(todo.faults))
    return Caught(broken.name, None)


def _find_in_its_moment(broken: Break, moment: Moment) -> Caught:
    with broken.patch():
        told = moment.play()
    if told.violation is not None and (whole := moment.play().violation) is not None:
        _say_that_it_fails_whole(moment.name, whole)
        return Caught(broken.name, None, moment.name)
    return Caught(broken.name, told.violation, moment.name, told.steps, told.faults)


def _say_that_it_fails_whole(world: str, violation: str) -> None:
    print(f"{world} fails with nothing broken: {violation}", file=sys.stderr, flush=True)


def _find(name: str, seeds: int) -> Caught:
    return find(next(one for one in BREAKS if one.name == name), seeds)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.breaks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="of a break; without any, all of them")
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"worlds to search each in ({SEEDS})")
    parser.add_argument("--jobs", type=int, default=2, help="processes (2)")
    told = parser.parse_args()
    unknown = set(told.names) - {broken.name for broken in BREAKS}
    if unknown:
        parser.error(f"there is no break named {', '.join(sorted(unknown))}")
    chosen = [broken for broken in BREAKS if broken.name in told.names or not told.names]
    print(f"{'break':20} {'seed or moment':50} {'steps':>6} {'faults':>6}  caught by")
    missed = 0
    with ProcessPoolExecutor(told.jobs) as pool:
        for caught in pool.map(_find, [one.name for one in chosen], [told.seeds] * len(chosen)):
            missed += caught.violation is None
            where = f"{caught.name:20} {caught.world:50} {caught.steps:6} {caught.faults:6}"
            print(f"{where}  {caught.violation or 'NOT CAUGHT'}"[:170], flush=True)
    print(f"{len(chosen) - missed} of {len(chosen)} breaks are caught")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
