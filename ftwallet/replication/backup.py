"""The backup's half of the pair, sans-I/O: events in, effects out.

What it promises: it refuses every message of an epoch older than the newest that it has made durable; it acks only what
it has made durable and executed; it cuts nothing but what the primary's log is proven not to have.
"""

from __future__ import annotations

from ftwallet.errors import PeerViolation
from ftwallet.replication.effects import (
    Align,
    AppendBlocks,
    Became,
    Commit,
    Effect,
    EndSession,
    RecordEpoch,
    Send,
)
from ftwallet.replication.messages import (
    Ack,
    Begin,
    Blocks,
    CommitMark,
    CutReport,
    EpochEnd,
    Hello,
    HelloReply,
    Identity,
    LoggedBlock,
    Refusal,
    ToBackup,
    cut_history,
    stranger,
)
from ftwallet.replication.states import BackupState, check_backup_move


class Backup:
    """A node that is not the primary. The shell hands it one message at a time, and the next when that one is done."""

    def __init__(
        self,
        identity: Identity,
        *,
        epoch: int,
        durable_lsn: int,
        commit_lsn: int,
        history: tuple[EpochEnd, ...],
    ) -> None:
        self.identity = identity
        self.epoch = epoch  # durable: the newest seen
        self.durable_lsn = durable_lsn
        self.commit_lsn = commit_lsn  # as the primary told: commit_lsn <= durable_lsn
        self.history = history
        self.in_sync = False  # as the primary told last
        self.session = 0
        self.state = BackupState.WAITING
        self.reason = "waiting for the primary"
        self.refused = 0  # messages of an older epoch or session

    def received(self, message: ToBackup) -> list[Effect]:
        """A message of a primary. Raises PeerViolation for what the protocol does not allow."""
        if message.epoch < self.epoch:
            self.refused += 1
            why = f"epoch {message.epoch} is over: node {self.identity.node} has seen epoch {self.epoch}"
            return [Send(Refusal(message.session, why, True, self.epoch)), EndSession(message.session, why)]
        if isinstance(message, Hello):
            return self._hello(message)
        if message.session != self.session or self.state is BackupState.WAITING:
            self.refused += 1
            return [EndSession(message.session, "another session has begun since")]
        return self._adopt(message.epoch) + self._in_session(message)

    def aligned(self, session: int, common_lsn: int, cut: bytes = b"") -> list[Effect]:
        """The answer to Align: our log is the primary's up to `common_lsn`, ends there, and is executed.

        `cut`: encoded operations that were cut, now or in an earlier session, and are not on record yet.
        """
        self.durable_lsn = common_lsn
        self.history = cut_history(self.history, common_lsn)
        following = self._become(BackupState.FOLLOWING, f"following from lsn {common_lsn}")
        report: list[Effect] = [Send(CutReport(session, cut))] if cut else []
        return [*following, Send(Ack(session, common_lsn)), *report]

    def divergent(self, session: int, common_lsn: int) -> list[Effect]:
        """The answer to Align when the hash chains differ: one of the logs is damaged, and nothing may be cut."""
        why = f"the logs differ at or before lsn {common_lsn}, where their histories say that they are the same"
        return [
            Send(Refusal(session, why, False, self.epoch)),
            EndSession(session, why),
            *self._become(BackupState.WAITING, why),
        ]

    def appended(self, block: LoggedBlock) -> None:
        """A block of AppendBlocks is durable and executed."""
        self.durable_lsn = block.last_lsn
        kept = self.history[:-1] if self.history and self.history[-1].epoch == block.epoch else self.history
        self.history = (*kept, EpochEnd(block.epoch, block.last_lsn))
        self.commit_lsn = max(self.commit_lsn, min(block.commit_lsn, self.durable_lsn))

    def executed(self, session: int) -> list[Effect]:
        """All of AppendBlocks is done."""
        return [Commit(self.commit_lsn), Send(Ack(session, self.durable_lsn))]

    def session_lost(self, session: int, reason: str) -> list[Effect]:
        """The stream of `session` ended."""
        if session != self.session or self.state is BackupState.WAITING:
            return []
        return self._become(BackupState.WAITING, reason)

    def _hello(self, hello: Hello) -> list[Effect]:
        refusal = stranger(self.identity, hello.sender)
        if refusal:
            return [
                Send(Refusal(hello.session, refusal, False, self.epoch)),
                EndSession(hello.session, refusal),
            ]
        # The epoch is durable before the primary learns what we have: from here on an older primary gets no ack.
        effects = self._adopt(hello.epoch)
        self.session, self.in_sync = hello.session, False
        effects += self._become(BackupState.GREETED, f"node {hello.sender.node} leads in epoch {hello.epoch}")
        effects.append(Send(HelloReply(hello.session, self.identity, self.durable_lsn, self.history)))
        return effects

    def _adopt(self, epoch: int) -> list[Effect]:
        if epoch == self.epoch:
            return []
        self.epoch = epoch
        return [RecordEpoch(epoch)]

    def _in_session(self, message: Begin | Blocks | CommitMark) -> list[Effect]:
        if isinstance(message, Blocks):
            return self._blocks(message)
        self.in_sync = message.in_sync
        if isinstance(message, CommitMark):
            self.commit_lsn = max(self.commit_lsn, min(message.commit_lsn, self.durable_lsn))
            return [Commit(self.commit_lsn)]
        return self._begin(message)

    def _begin(self, begin: Begin) -> list[Effect]:
        if self.state is not BackupState.GREETED:
            raise PeerViolation("the primary began twice in one session")
        if begin.common_lsn > self.durable_lsn:
            raise PeerViolation(
                f"the primary takes lsn {begin.common_lsn} as common, and our log ends at {self.durable_lsn}"
            )
        effects = self._become(BackupState.ALIGNING, f"proving the log up to lsn {begin.common_lsn}")
        return [*effects, Align(begin.session, begin.common_lsn, begin.chain)]

    def _blocks(self, message: Blocks) -> list[Effect]:
        if self.state is not BackupState.FOLLOWING:
            raise PeerViolation("the primary sent blocks before the logs were aligned")
        new = tuple(b for b in message.blocks if b.first_lsn > self.durable_lsn)  # a repeated block is acked again
        expected = self.durable_lsn + 1
        for block in new:
            if block.first_lsn != expected:
                raise PeerViolation(f"a block starts at lsn {block.first_lsn}, and lsn {expected} is next")
            expected = block.last_lsn + 1
        return [AppendBlocks(message.session, new)]

    def _become(self, state: BackupState, reason: str) -> list[Effect]:
        check_backup_move(self.state, state)
        self.state, self.reason = state, reason
        return [Became(state, reason)]
