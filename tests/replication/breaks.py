"""Each rule of the protocol, broken on purpose in the shipped code, and the world that finds money lost without it.

python -m tests.replication.breaks            # runs every break; prints the seed, the steps and the invariant
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from unittest import mock

from ftwallet.errors import BrokenInvariant
from ftwallet.replication import effects as fx
from ftwallet.replication import register as register_module
from ftwallet.replication.backup import Backup
from ftwallet.replication.messages import Ack, Blocks
from ftwallet.replication.primary import Primary
from ftwallet.replication.register import Decision, Proposal, ProposalKind, Register
from ftwallet.replication.states import BackupState, PrimaryState
from tests.replication import world
from tests.replication.world import Violated, run

Patch = contextlib.AbstractContextManager[Any]


class Break(NamedTuple):
    name: str
    rule: str
    patch: Callable[[], Patch]


def _method(owner: Any, name: str, replace: Callable[[Any], Any]) -> Patch:
    return mock.patch.object(owner, name, replace(getattr(owner, name)))


def ack_alone() -> Patch:
    def replace(whole: Any) -> Any:
        def commit(self: Primary) -> list[Any]:
            if self.state is PrimaryState.SHRINKING and self.durable_lsn > self.commit_lsn:
                self.commit_lsn = self.durable_lsn
                return [fx.Commit(self.commit_lsn)]
            return whole(self)

        return commit

    return _method(Primary, "_commit", replace)


@contextlib.contextmanager
def _deciding(decide: Callable[[Register, Proposal], Decision]) -> Iterator[None]:
    with mock.patch.object(world, "decide", decide), mock.patch.object(register_module, "decide", decide):
        yield


def promote_any() -> Patch:
    def decide(register: Register, proposal: Proposal) -> Decision:
        if proposal.kind is ProposalKind.PROMOTE and proposal.expected_epoch == register.epoch:
            return register_module._granted(
                register, proposal, register.epoch + 1, {proposal.node: proposal.incarnation}
            )
        return _decide(register, proposal)

    return _deciding(decide)


def emptied_directory_leads() -> Patch:
    def decide(register: Register, proposal: Proposal) -> Decision:
        if proposal.node in register.in_sync:
            register = Register(
                register.cluster_id,
                register.epoch,
                register.primary,
                register.in_sync | {proposal.node: proposal.incarnation},
                register.boots,
            )
        return _decide(register, proposal)

    return _deciding(decide)


_decide = register_module.decide


def _take_old(self: Backup, message: Any) -> list[Any]:
    """Take blocks of an older session as if they were of this one, where they continue the log."""
    blocks = tuple(block for block in message.blocks if block.first_lsn > self.durable_lsn)
    follows = blocks and blocks[0].first_lsn == self.durable_lsn + 1
    return [fx.AppendBlocks(message.session, blocks)] if follows else []


def no_fence() -> Patch:
    def replace(whole: Any) -> Any:
        def received(self: Backup, message: Any) -> list[Any]:
            old = message.epoch < self.epoch or message.session < self.session
            return _take_old(self, message) if old and isinstance(message, Blocks) else whole(self, message)

        return received

    return _method(Backup, "received", replace)


def settle_unfenced() -> Patch:
    def replace(whole: Any) -> Any:
        def received(self: Backup, message: Any) -> list[Any]:
            old = message.epoch < self.epoch or message.session < self.session
            unfenced = self.state in (BackupState.GREETED, BackupState.ALIGNING)
            if old and unfenced and isinstance(message, Blocks):
                return _take_old(self, message)
            return whole(self, message)

        return received

    return _method(Backup, "received", replace)


def naive_rollback() -> Patch:
    def replace(whole: Any) -> Any:
        def settle(self: Primary, session: Any, reply: Any, common: int) -> list[Any]:
            return whole(self, session, reply._replace(durable_lsn=0), min(common, self.commit_lsn))

        return settle

    return _method(Primary, "_settle", replace)


def rollback_alone() -> Patch:
    def replace(whole: Any) -> Any:
        def shrink(self: Primary, reason: str) -> list[Any]:
            if self.state is PrimaryState.RECOVERING and self.durable_lsn > self.commit_lsn:
                return [fx.SettleTail(self.commit_lsn)] if self._settling() else []
            return whole(self, reason)

        return shrink

    def settling(self: Primary) -> bool:
        self.state = PrimaryState.SETTLING
        return True

    stack = contextlib.ExitStack()
    stack.enter_context(mock.patch.object(Primary, "_settling", settling, create=True))
    stack.enter_context(_method(Primary, "_shrink", replace))
    return stack


def join_early() -> Patch:
    def replace(whole: Any) -> Any:
        def approach(self: Primary, session: Any) -> list[Any]:
            effects = whole(self, session)
            if self.state is PrimaryState.CLOSING_IN:
                effects += [*self._become(PrimaryState.JOINING, "early"), *self._ask()]
            return effects

        return approach

    return _method(Primary, "_approach", replace)


def join_acks_alone() -> Patch:
    def replace(whole: Any) -> Any:
        def commit(self: Primary) -> list[Any]:
            alone = self.state in (PrimaryState.JOINING, PrimaryState.CLOSING_IN)
            if alone and self.durable_lsn > self.commit_lsn:
                self.commit_lsn = self.durable_lsn
                return [fx.Commit(self.commit_lsn)]
            return whole(self)

        return commit

    return _method(Primary, "_commit", replace)


def acks_of_old_sessions() -> Patch:
    def replace(whole: Any) -> Any:
        def received(self: Primary, message: Any, now: float) -> list[Any]:
            number = self.session.number if self.session else message.session
            return whole(self, message._replace(session=number), now)

        return received

    return _method(Primary, "received", replace)


def start_in_the_same_epoch() -> Patch:
    def decide(register: Register, proposal: Proposal) -> Decision:
        if proposal.kind is ProposalKind.START and register.primary == proposal.node and register.epoch > 0:
            return Decision(True, "", register)
        return _decide(register, proposal)

    return _deciding(decide)


def backup_keeps_its_tail() -> Patch:
    def replace(whole: Any) -> Any:
        def aligned(self: Backup, session: int, common_lsn: int, cut: bytes = b"") -> list[Any]:
            return whole(self, session, max(common_lsn, self.durable_lsn), cut)

        return aligned

    return _method(Backup, "aligned", replace)


def gaps_are_taken() -> Patch:
    def replace(whole: Any) -> Any:
        def read_on(self: Primary, session: Any) -> list[Any]:
            session.sent_lsn = max(session.sent_lsn, self.commit_lsn)
            return whole(self, session)

        return read_on

    return _method(Primary, "_read_on", replace)


def shrink_without_asking() -> Patch:
    def replace(whole: Any) -> Any:
        def shrink(self: Primary, reason: str) -> list[Any]:
            effects = whole(self, reason)
            self.in_sync = {self.identity.node: self.identity.incarnation}
            return effects + self._act_on_in_sync()

        return shrink

    return _method(Primary, "_shrink", replace)


def state_sync_keeps_its_incarnation() -> Patch:
    def replace(whole: Any) -> Any:
        def aligned(self: Backup, *args: Any) -> list[Any]:
            self.state_sync = True
            return whole(self, *args)

        return aligned

    return _method(Backup, "aligned", replace)


def mark_of_a_state_sync_stays() -> Patch:
    def replace(whole: Any) -> Any:
        def follow(self: Backup, session: int, lsn: int) -> list[Any]:
            marked = self.state_sync
            effects = [effect for effect in whole(self, session, lsn) if not isinstance(effect, fx.EndStateSync)]
            self.state_sync = marked
            return effects

        return follow

    return _method(Backup, "_follow", replace)


def fingerprint_unchecked() -> Patch:
    def replace(whole: Any) -> Any:
        def taken(self: Backup, session: int, fingerprint: str) -> list[Any]:
            assert self.offer is not None
            return whole(self, session, self.offer.fingerprint)

        return taken

    return _method(Backup, "fingerprint_taken", replace)


def blocks_before_the_checkpoint() -> Patch:
    def replace(whole: Any) -> Any:
        def taken(self: Backup, session: int, fingerprint: str) -> list[Any]:
            effects = whole(self, session, fingerprint)
            if self.state is BackupState.INSTALLING and self.offer is not None:
                effects.insert(0, fx.Send(Ack(session, self.offer.lsn)))
            return effects

        return taken

    return _method(Backup, "fingerprint_taken", replace)


def part_of_another_file_counts() -> Patch:
    def replace(whole: Any) -> Any:
        def hold(self: Primary, session: Any, size: int, now: float) -> list[Any]:
            return whole(self, session, size if session.transfer.begun else session.transfer.file.size // 2, now)

        return hold

    return _method(Primary, "_held", replace)


def checkpoint_not_required() -> Patch:
    def replace(whole: Any) -> Any:
        def greet(self: Primary, session: Any, common_lsn: int) -> Any:
            begins = whole(self, session, common_lsn)
            return begins._replace(checkpoint=None) if begins.checkpoint and begins.checkpoint.required else begins

        return greet

    return _method(Primary, "_greet", replace)


BREAKS = (
    Break("ack-alone", "the primary answers alone before the witness has shrunk the in-sync set", ack_alone),
    Break("shrink-unasked", "the primary goes solo without the witness", shrink_without_asking),
    Break("promote-any", "a backup that is not in the in-sync set is promoted", promote_any),
    Break("emptied-leads", "an emptied directory counts as the node that it was", emptied_directory_leads),
    Break("no-fence", "a backup takes messages of an older epoch", no_fence),
    Break("settle-unfenced", "the tail is settled before the backup has made the new epoch durable", settle_unfenced),
    Break("naive-rollback", "a restarted primary rolls back all that is pending", naive_rollback),
    Break("rollback-alone", "a primary whose backup is not back rolls back instead of forward", rollback_alone),
    Break("join-early", "the backup joins before it holds all that was answered alone", join_early),
    Break("join-acks-alone", "the primary goes on answering alone while it asks for the join", join_acks_alone),
    Break("same-epoch", "a primary starts again in the epoch that it had", start_in_the_same_epoch),
    Break("old-acks", "acks of an older session count", acks_of_old_sessions),
    Break("keep-tail", "a backup keeps what the primary does not have", backup_keeps_its_tail),
    Break("gaps", "the primary skips records that the backup does not have", gaps_are_taken),
    Break("sync-in-set", "a node that needs state sync keeps its incarnation", state_sync_keeps_its_incarnation),
    Break("mark-stays", "a node that has joined may sync its state again unrenewed", mark_of_a_state_sync_stays),
    Break("unchecked", "a checkpoint is installed without checking its fingerprint", fingerprint_unchecked),
    Break("blocks-first", "blocks begin before the checkpoint is durable", blocks_before_the_checkpoint),
    Break("other-part", "a state sync goes on with what the backup does not have", part_of_another_file_counts),
    Break(
        "log-from-1",
        "a backup gets no checkpoint, and the primary's log begins too late for it",
        checkpoint_not_required,
    ),
)


def find(broken: Break, seeds: int, steps: int) -> tuple[int, str] | None:
    """The first seed in which the break is found, and by which invariant; None when it is not."""
    with broken.patch():
        for seed in range(seeds):
            try:
                run(seed, steps)
            except (Violated, BrokenInvariant) as violated:
                return seed, str(violated)
    return None


def main(seeds: int = 3000, steps: int = 400) -> int:
    missed = 0
    for broken in BREAKS:
        found = find(broken, seeds, steps)
        missed += found is None
        print(f"{broken.name:16} {f'seed {found[0]}: {found[1]}' if found else 'NOT FOUND'}"[:150], flush=True)
    print(f"{len(BREAKS) - missed} of {len(BREAKS)} breaks found")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
