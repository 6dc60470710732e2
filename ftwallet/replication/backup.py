"""The backup's half of the pair, sans-I/O: events in, effects out.

What it promises: it refuses every message of an epoch older than the newest that it has made durable; it acks only what
it has made durable and executed; it cuts nothing but what the primary's log is proven not to have. Before a state sync
it takes a new incarnation, and with that leaves the in-sync set by itself, whatever happens next; an incarnation that
has once followed is renewed before another state sync, because it may stand in that set.
"""

from __future__ import annotations

from ftwallet.errors import PeerViolation
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
    Begin,
    Blocks,
    CheckpointFile,
    CommitMark,
    CutReport,
    EpochEnd,
    Held,
    Hello,
    HelloReply,
    Identity,
    LoggedBlock,
    Refusal,
    Slice,
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
        state_sync: bool = False,
        partial: str = "",
        reads_format: int = 1,
    ) -> None:
        self.identity = identity
        self._reads_format = reads_format  # the newest format version of a checkpoint that this program can read
        self.state_sync = state_sync  # durable: this incarnation was made for one, and has never followed
        self.partial = partial  # fingerprint of the checkpoint that the disk holds a part of
        self.epoch = epoch  # durable: the newest seen
        self.durable_lsn = durable_lsn
        self.commit_lsn = commit_lsn  # as the primary told: commit_lsn <= durable_lsn
        self.history = history
        self.in_sync = False  # as the primary told last
        self.session = 0
        self.end_lsn = 0  # of the primary's log, as it told last
        self.offer: CheckpointFile | None = None  # of this session
        self.held = 0  # bytes of the offered file that are durable: held <= offer.size
        self.state = BackupState.WAITING
        self.refused = 0  # messages of an older epoch or session
        self._reason = "waiting for the primary"

    @property
    def reason(self) -> str:
        """Why the state is what it is, for a person."""
        if self.offer and self.state is BackupState.RECEIVING:
            megabytes = f"{self.held // 1_000_000} of {max(1, round(self.offer.size / 1e6))} MB"
            return f"state sync of the checkpoint at lsn {self.offer.lsn}: {megabytes}"
        if self.behind and self.state is BackupState.FOLLOWING and not self.in_sync:
            return f"{self._reason}, {self.behind:,} records behind"
        return self._reason

    @property
    def behind(self) -> int:
        """Records of the primary's log that are not durable here, as far as it has told."""
        return max(0, self.end_lsn - self.durable_lsn)

    def received(self, message: ToBackup) -> list[Effect]:
        """A message of a primary. Raises PeerViolation for what the protocol does not allow."""
        if message.epoch < self.epoch:
            self.refused += 1
            why = f"epoch {message.epoch} is over: node {self.identity.node} has seen epoch {self.epoch}"
            return [Send(Refusal(message.session, why)), EndSession(message.session, why)]
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
        report: list[Effect] = [Send(CutReport(session, cut))] if cut else []
        offer = self.offer
        if offer is None:
            return [*self._follow(session, common_lsn), *report]
        if self.state_sync:
            return [*self._become(BackupState.RECEIVING, ""), *report, FindPart(session, offer)]
        why = f"a new incarnation is taken for a state sync of the checkpoint at lsn {offer.lsn}"
        return [*self._become(BackupState.WAITING, why), RenewIncarnation(session), EndSession(session, why)]

    def renewed(self, incarnation: str) -> None:
        """The answer to RenewIncarnation."""
        self.identity = self.identity._replace(incarnation=incarnation)
        self.state_sync = True

    def part_found(self, session: int, size: int) -> list[Effect]:
        """The answer to FindPart: the first `size` bytes of the offered file are durable here."""
        assert self.offer is not None
        self.partial = self.offer.fingerprint
        return self._hold(session, size)

    def slice_kept(self, session: int, size: int) -> list[Effect]:
        """The answer to KeepSlice: as many bytes of the file are durable now."""
        return self._hold(session, size)

    def fingerprint_taken(self, session: int, fingerprint: str) -> list[Effect]:
        """The answer to TakeFingerprint."""
        assert self.offer is not None
        if fingerprint != self.offer.fingerprint:
            why = f"the checkpoint at lsn {self.offer.lsn} did not arrive as it was offered: its fingerprint differs"
            return [DropPart(session), *self.not_installed(session, why)]
        installing = self._become(
            BackupState.INSTALLING, f"state sync of the checkpoint at lsn {self.offer.lsn}: it is being installed"
        )
        return [*installing, Install(session, self.offer)]

    def installed(self, session: int) -> list[Effect]:
        """The answer to Install: log and ledger begin with the offered checkpoint, durably."""
        assert self.offer is not None
        self.durable_lsn, self.history = self.offer.lsn, self.offer.history
        self.commit_lsn = self.offer.lsn
        return self._follow(session, self.offer.lsn)

    def not_installed(self, session: int, why: str) -> list[Effect]:
        """The answer to Install: the file is not what was offered, and was dropped."""
        self.partial = ""
        refusal = Send(Refusal(session, why))
        return [*self._become(BackupState.WAITING, why), refusal, EndSession(session, why)]

    def divergent(self, session: int, common_lsn: int) -> list[Effect]:
        """The answer to Align when the hash chains differ: one of the logs is damaged, and nothing may be cut."""
        why = f"the logs differ at or before lsn {common_lsn}, where their histories say that they are the same"
        return [
            Send(Refusal(session, why)),
            EndSession(session, why),
            *self._become(BackupState.WAITING, why),
        ]

    def appended(self, block: LoggedBlock) -> None:
        """A block of AppendBlocks is durable; the shell executes it before anything else happens."""
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
                Send(Refusal(hello.session, refusal)),
                EndSession(hello.session, refusal),
            ]
        # The epoch is durable before the primary learns what we have: from here on an older primary gets no ack.
        effects = self._adopt(hello.epoch)
        self.session, self.in_sync, self.offer, self.held = hello.session, False, None, 0
        effects += self._become(BackupState.GREETED, f"node {hello.sender.node} leads in epoch {hello.epoch}")
        effects.append(Send(HelloReply(hello.session, self.identity, self.durable_lsn, self.history, self.partial)))
        return effects

    def _adopt(self, epoch: int) -> list[Effect]:
        if epoch == self.epoch:
            return []
        self.epoch = epoch
        return [RecordEpoch(epoch)]

    def _in_session(self, message: Begin | Blocks | Slice | CommitMark) -> list[Effect]:
        if isinstance(message, Blocks):
            return self._blocks(message)
        if isinstance(message, Slice):
            return self._slice(message)
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
        if not begin.chain and begin.checkpoint is None:
            raise PeerViolation(f"the primary has no proof of its log at lsn {begin.common_lsn}, and no checkpoint")
        if begin.checkpoint is not None and begin.checkpoint.format_version > self._reads_format:
            return self._refuse_format(begin.session, begin.checkpoint)
        self.offer, self.end_lsn = begin.checkpoint, begin.end_lsn
        effects = self._become(BackupState.ALIGNING, f"proving the log up to lsn {begin.common_lsn}")
        return [*effects, Align(begin.session, begin.common_lsn, begin.chain)]

    def _refuse_format(self, session: int, file: CheckpointFile) -> list[Effect]:
        """Refuse a checkpoint before anything is fetched, cut or given up for it: it could not be read."""
        why = (
            f"the checkpoint at lsn {file.lsn} has format version {file.format_version}, and node {self.identity.node} "
            f"reads up to {self._reads_format}: upgrade node {self.identity.node} to the primary's program"
        )
        refusal = Send(Refusal(session, why))
        return [*self._become(BackupState.WAITING, why), refusal, EndSession(session, why)]

    def _blocks(self, message: Blocks) -> list[Effect]:
        if self.state is not BackupState.FOLLOWING:
            raise PeerViolation("the primary sent blocks before the logs were aligned")
        self.end_lsn = message.end_lsn
        new = tuple(b for b in message.blocks if b.first_lsn > self.durable_lsn)  # a repeated block is acked again
        expected = self.durable_lsn + 1
        for block in new:
            if block.first_lsn != expected:
                raise PeerViolation(f"a block starts at lsn {block.first_lsn}, and lsn {expected} is next")
            expected = block.last_lsn + 1
        return [AppendBlocks(message.session, new)]

    def _slice(self, message: Slice) -> list[Effect]:
        if self.state is not BackupState.RECEIVING or self.offer is None:
            raise PeerViolation("the primary sent a slice of a checkpoint that this node does not take in")
        self.end_lsn = message.end_lsn
        end = message.offset + len(message.data)
        if end <= self.held:  # a repeated slice is acked again
            return [Send(Held(message.session, self.held))]
        if message.offset != self.held or end > self.offer.size:
            raise PeerViolation(f"a slice of bytes {message.offset} to {end} came, and byte {self.held} is next")
        return [KeepSlice(message.session, message.offset, message.data)]

    def _hold(self, session: int, size: int) -> list[Effect]:
        assert self.offer is not None
        self.held = size
        whole = size == self.offer.size
        return [Send(Held(session, size)), *([TakeFingerprint(session)] if whole else [])]

    def _follow(self, session: int, lsn: int) -> list[Effect]:
        """From the Ack on this incarnation may be let into the in-sync set, so the mark of a state sync goes first."""
        ended: list[Effect] = [EndStateSync()] if self.state_sync else []
        self.state_sync, self.offer, self.partial = False, None, ""
        return [*ended, *self._become(BackupState.FOLLOWING, f"following from lsn {lsn}"), Send(Ack(session, lsn))]

    def _become(self, state: BackupState, reason: str) -> list[Effect]:
        check_backup_move(self.state, state)
        self.state, self._reason = state, reason
        return [Became(state, self.reason)]
