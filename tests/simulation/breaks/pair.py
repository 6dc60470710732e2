"""Rules of the pair broken: whose log counts, who leads, and when an answer may be given."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest import mock

from ftwallet.journal import quarantine
from ftwallet.journal.identity import Identity
from ftwallet.ledger.operations import Kind
from ftwallet.node import backup as backup_node
from ftwallet.node import seat
from ftwallet.node.disk import Disk
from ftwallet.node.following import Following
from ftwallet.node.service import PrimaryWalletService
from ftwallet.replication import effects as fx
from ftwallet.replication import register as register_module
from ftwallet.replication.primary import Primary
from ftwallet.replication.register import Decision, Proposal, ProposalKind, Register
from ftwallet.replication.states import PrimaryState
from ftwallet.supervisor import promotion
from ftwallet.witness import file as witness_file
from tests.replication import breaks as protocol
from tests.simulation import moments, supervisor
from tests.simulation.breaks.breaking import Break, Patch, deciding, instead, method, together
from tests.simulation.moments import scenario


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
        return register_module.decide(register, proposal)

    _hindrance = promotion.hindrance
    return together(
        mock.patch.object(supervisor, "hindrance", hindrance),
        mock.patch.object(supervisor, "record", record),
        deciding(decide),
    )


def start_in_the_same_epoch() -> Patch:
    def decide(register: Register, proposal: Proposal) -> Decision:
        if proposal.kind is ProposalKind.START and register.primary == proposal.node and register.epoch > 0:
            granted = register_module.decide(register, proposal)
            epoch = register.epoch
            return granted._replace(register=register_module._granted(register, proposal, epoch, register.in_sync)[2])
        return register_module.decide(register, proposal)

    return deciding(decide)


def settle_unfenced() -> Patch:
    """Two rules guard this: the fence, and that Begin has all cut which is beyond the common prefix."""
    return together(protocol.settle_unfenced(), mock.patch.object(Following, "_cut", _cut_nothing))


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


def damaged_log_keeps_its_incarnation() -> Patch:
    def replace(whole: Any) -> Any:
        def set_aside(node_dir: Any, owner: Identity, damage: Any) -> Any:
            with mock.patch.object(owner, "renew_incarnation", mock.Mock(return_value="")):
                return whole(node_dir, owner, damage)

        return set_aside

    return method(seat, "set_damaged_aside", replace)


def start_not_counted() -> Patch:
    return mock.patch.object(Identity, "record_boot", mock.Mock())


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


def unshielded() -> Patch:
    async def handle(self: Any, message: Any) -> Any:
        return await self._handle(message)

    return mock.patch.object(backup_node._Watched, "handle", handle)


async def _cut_nothing(self: Following, lsn: int) -> None:
    pass


PAIR = (
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
        "dirty-reads",
        "a read shows what is not committed",
        dirty_reads,
        moment=moments.account_is_read_while_its_deposit_is_not_on_the_backup,
    ),
    Break(
        "unshielded",
        "a message's handling ends with its stream",
        unshielded,
        moment=moments.session_breaks_while_a_checkpoint_is_installed,
    ),
)
