"""The primary's half of the pair, sans-I/O: events in, effects out. Node and simulator drive this same object.

What it promises: a `Commit(lsn)` is returned only for records that are durable on every node of the in-sync set of this
primary's epoch; it goes alone only after the witness has recorded so; it lets the backup in only when that holds
everything that was answered alone. `now` is in seconds of any clock that never goes back.

Here is every event, and how a restarted primary settles its log's tail. What a session may be sent is in sending.py,
the in-sync set and what may be committed with it in membership.py, the states and the moves between them in states.py.
"""

from __future__ import annotations

from typing import NamedTuple

from ftwallet.errors import PeerViolation
from ftwallet.replication.effects import (
    Became,
    Commit,
    Effect,
    EndSession,
    RecordEpoch,
    RecordRollbacks,
    Send,
    SettleTail,
    Stop,
)
from ftwallet.replication.membership import Membership
from ftwallet.replication.messages import (
    Ack,
    Begin,
    CheckpointFile,
    CutReport,
    EpochEnd,
    Held,
    Hello,
    HelloReply,
    Identity,
    LoggedBlock,
    Refusal,
    Slice,
    ToPrimary,
    common_prefix,
    cut_history,
    stranger,
)
from ftwallet.replication.register import Decision, Proposal, Register
from ftwallet.replication.sending import Limits, Session, Transfer
from ftwallet.replication.states import ANSWERING, NEEDS_BOTH, PrimaryState


class Timing(NamedTuple):
    """Seconds. `ack`: a later ack ends the session. `settle`: how long a restarted primary waits for its backup.

    `install_bytes_per_s`: how fast a slow machine installs a checkpoint; the backup is given so much time more.
    """

    ack: float = 1.0
    settle: float = 10.0
    witness_retry: float = 0.25
    install_bytes_per_s: float = 1e6


class Primary(Membership):
    """A node that the witness's register names as primary; build it from the register that granted its start."""

    def __init__(
        self,
        identity: Identity,
        register: Register,
        *,
        durable_lsn: int,
        commit_lsn: int,
        history: tuple[EpochEnd, ...],
        now: float,
        first_lsn: int = 1,
        timing: Timing | None = None,
        limits: Limits | None = None,
    ) -> None:
        super().__init__(
            identity,
            register,
            durable_lsn=durable_lsn,
            commit_lsn=commit_lsn,
            first_lsn=first_lsn,
            history=history,
            limits=limits or Limits(),
        )
        self._timing = timing or Timing()
        self._settle_until = now + self._timing.settle
        self._settling_with = 0  # the session whose backup has told the log that the tail is settled by

    # ---- What the shell may ask

    @property
    def answering(self) -> bool:
        """Whether new transactions may be appended."""
        return self.state in ANSWERING

    @property
    def followed(self) -> bool:
        """Whether a backup is catching up, block by block, with what is answered alone."""
        return self.state is PrimaryState.SOLO and self.session is not None and self.session.streaming

    @property
    def mode(self) -> str:
        """Either "paired" or "solo"; empty while nothing is answered."""
        if self.state is PrimaryState.PAIRED:
            return "paired"
        return "solo" if self.answering else ""

    @property
    def backup_lsn(self) -> int:
        """What the backup has acked in this session."""
        return self.session.acked_lsn if self.session else 0

    @property
    def needed_after(self) -> int | None:
        """The last record that the backup of this session needs no more; None without one, which may be sent any."""
        return self.session.acked_lsn if self.session else None

    # ---- Events

    def trimmed(self, first_lsn: int) -> None:
        """Our log is about to begin with this record: a backup that needs older ones is sent a checkpoint."""
        self.first_lsn = max(self.first_lsn, first_lsn)

    def started(self) -> list[Effect]:
        """Once, before any other event."""
        return [RecordEpoch(self.epoch), Became(self.state, self.reason), *self._commit()]

    def durable(self, block: LoggedBlock, now: float) -> list[Effect]:
        """A block that was appended in an answering state is durable on this node's disk."""
        self.durable_lsn = block.last_lsn
        self._remember_epoch(block.epoch, block.last_lsn)
        effects: list[Effect] = []
        session = self.session
        live = session is not None and session.streaming and not session.reading
        if session and live and session.sent_lsn == block.first_lsn - 1 and self._may_send(session):
            effects += self._send_blocks(session, (block,), now)
        elif session and live:
            effects += self._read_on(session)
        return effects + self._commit()

    def blocks_read(self, number: int, blocks: tuple[LoggedBlock, ...], now: float) -> list[Effect]:
        """The answer to ReadBlocks; late ones of an older session are ignored."""
        session = self.session
        if session is None or session.number != number:
            return []
        session.reading = False
        effects = self._send_blocks(session, blocks, now) if blocks else []
        return effects + self._read_on(session)

    def session_opened(self, number: int, now: float) -> list[Effect]:
        """The stream to the backup stands; `number` grows with every stream of this process."""
        self.session = Session(number, now)
        return [Send(Hello(number, self.epoch, self.identity))]

    def session_lost(self, number: int, reason: str) -> list[Effect]:
        """The stream broke, or FailoverManager gave it up."""
        if self.session is None or self.session.number != number:
            return []
        return self._lose_session(reason)

    def received(self, message: ToPrimary, now: float) -> list[Effect]:
        """A message of the backup; those of an older session are ignored. Raises PeerViolation."""
        session = self.session
        if session is None or message.session != session.number:
            return []
        if isinstance(message, Ack):
            return self._acked(session, message.durable_lsn)
        if isinstance(message, Held):
            return self._held(session, message.size, now)
        if isinstance(message, HelloReply):
            return self._met(session, message)
        if isinstance(message, CutReport):
            return [RecordRollbacks(message.operations)]
        return self._refused(message)

    def greeted(
        self, number: int, common_lsn: int, chain: bytes, now: float, checkpoint: CheckpointFile | None = None
    ) -> list[Effect]:
        """The answer to Greet: the stream of blocks may start after `common_lsn`, or after the checkpoint."""
        session = self.session
        if session is None or session.number != number or session.peer is None:
            return []
        if checkpoint is None and common_lsn + 1 < self.first_lsn:
            why = f"our log begins with lsn {self.first_lsn}, and there is no checkpoint for the backup yet"
            return [EndSession(number, why), *self._lose_session(why)]
        session.sent_lsn = common_lsn
        session.transfer = Transfer(checkpoint) if checkpoint else None
        session.waiting.append((0 if checkpoint else common_lsn, now))
        counts = self._counts(session.peer)
        return [Send(Begin(number, self.epoch, common_lsn, chain, counts, self.durable_lsn, checkpoint))]

    def slice_read(self, number: int, data: bytes, now: float) -> list[Effect]:
        """The answer to ReadSlice; without data the file cannot be read any more."""
        session = self.session
        if session is None or session.number != number or session.transfer is None:
            return []
        transfer = session.transfer
        transfer.reading = False
        if not data:
            why = f"the checkpoint at lsn {transfer.file.lsn} cannot be read any more"
            return [EndSession(number, why), *self._lose_session(why)]
        offset, transfer.sent = transfer.sent, transfer.sent + len(data)
        session.waiting.append((transfer.sent, now))
        return [Send(Slice(number, self.epoch, offset, data, self.durable_lsn)), *self._read_slices(session, transfer)]

    def tail_settled(self, common_lsn: int) -> list[Effect]:
        """The answer to SettleTail: our log ends at `common_lsn` now."""
        self.durable_lsn = common_lsn
        self.history = cut_history(self.history, common_lsn)
        effects = self._become(PrimaryState.PAIRED, f"settled with the backup at lsn {common_lsn}")
        self.commit_lsn = max(self.commit_lsn, common_lsn)
        effects.append(Commit(self.commit_lsn))
        if self.session is None or self.session.number != self._settling_with:  # who came since has been greeted
            return effects + self._shrink("the backup went away while the tail was settled")
        return [*effects, self._greet(self.session, common_lsn)]

    def witness_answered(self, proposal: Proposal, decision: Decision | None, now: float) -> list[Effect]:
        """The witness's decision on our proposal; None when it did not answer in time (it may have been granted)."""
        if proposal.expected_epoch != self.epoch:
            return []  # the register has been learnt since, by the answer to a later question
        if decision is None:
            self._ask_again_at = now + self._timing.witness_retry
            return []
        return self._learn(decision.register)

    def tick(self, now: float) -> list[Effect]:
        """Time has passed; call it every 50 ms or so."""
        effects: list[Effect] = []
        session = self.session
        if session and session.waiting and now - session.waiting[0][1] > self._patience():
            effects += [EndSession(session.number, "late"), *self._lose_session("the backup's ack is late")]
        if self.state is PrimaryState.RECOVERING and now >= self._settle_until:
            effects += self._shrink("the backup did not come back in time")
        if self._ask_again_at is not None and now >= self._ask_again_at:
            self._ask_again_at = None
            effects += self._ask()
        return effects

    def idle_mark(self) -> list[Effect]:
        """Nothing is under way: tell the backup how far the commit has come."""
        if self.session is None or not self.session.streaming:
            return []
        return [self._mark(self.session)]

    # ---- The session

    def _met(self, session: Session, reply: HelloReply) -> list[Effect]:
        refusal = stranger(self.identity, reply.sender)
        if refusal:
            raise PeerViolation(refusal)
        if session.peer is not None:
            raise PeerViolation("the backup said hello twice in one session")
        session.peer, session.partial = reply.sender, reply.partial
        session.waiting.clear()
        common = common_prefix(self.history, reply.history)
        if self.state is PrimaryState.RECOVERING:
            return self._settle(session, reply, common)
        return self._welcome(session, common)

    def _settle(self, session: Session, reply: HelloReply, common: int) -> list[Effect]:
        if not self._is_in_sync(reply.sender):
            shrunk = self._shrink(
                f"node {reply.sender.node} came back with another data directory than the one in sync"
            )
            return [*shrunk, *self._welcome(session, common)]
        if reply.durable_lsn > common:
            return [Stop(_lost_records(reply, common), fenced=False)]
        if common < self.commit_lsn:
            # In sync by name alone: an old copy put back, or a disk that has lost what it had synced. It catches up.
            shrunk = self._shrink(
                f"node {reply.sender.node} has lost records that were committed: its log ends at lsn "
                f"{reply.durable_lsn}, the commit had come to lsn {self.commit_lsn}"
            )
            return [*shrunk, *self._welcome(session, common)]
        self._settling_with = session.number
        return [
            *self._become(PrimaryState.SETTLING, f"both logs are the same up to lsn {common}"),
            SettleTail(common),
        ]

    def _acked(self, session: Session, durable_lsn: int) -> list[Effect]:
        if durable_lsn > session.sent_lsn:
            raise PeerViolation(f"the backup acked lsn {durable_lsn}, and only {session.sent_lsn} was sent to it")
        if session.transfer:
            if not session.transfer.whole or durable_lsn != session.transfer.file.lsn:
                raise PeerViolation(f"the backup acked lsn {durable_lsn} in the middle of a state sync")
            session.transfer = None
            session.waiting.clear()
        session.streaming = True
        session.took(durable_lsn)
        return self._commit() + self._go_on_with(session)

    def _held(self, session: Session, size: int, now: float) -> list[Effect]:
        transfer = session.transfer
        if transfer is None or size > (transfer.sent if transfer.begun else transfer.file.size):
            raise PeerViolation(f"the backup says that it holds {size} bytes of a checkpoint that it was not sent")
        if not transfer.begun:
            transfer.begun, transfer.sent = True, size
            session.waiting.clear()
            session.waiting.append((size, now))
        transfer.held = size
        session.no_longer_waiting(min(size, transfer.file.size - 1))  # the end is acked by the lsn
        return self._read_slices(session, transfer)

    def _refused(self, refusal: Refusal) -> list[Effect]:
        ended = EndSession(refusal.session, refusal.reason)
        return [ended, *self._lose_session(f"the backup refused: {refusal.reason}")]

    def _patience(self) -> float:
        # Only an ack that answers wait for is urgent; catching up alone may take its time on a slow disk.
        patience = self._timing.ack if self.state in NEEDS_BOTH else 5 * self._timing.ack
        transfer = self.session.transfer if self.session else None
        if transfer and transfer.whole:  # it checks the file and builds its state from it before it answers
            patience += transfer.file.size / self._timing.install_bytes_per_s
        return patience


def _lost_records(reply: HelloReply, common: int) -> str:
    return (
        f"node {reply.sender.node} holds records up to lsn {reply.durable_lsn}, and this primary's log has lost those "
        f"after lsn {common}: it must not lead. Nothing was changed; keep both data directories and repair this one"
    )
