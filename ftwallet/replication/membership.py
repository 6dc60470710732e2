"""Who must hold a transaction before it is answered: the in-sync set, as the witness has recorded it.

A commit is given only for what is durable on every node of that set. A primary that has lost its backup has the set
shrunk first and answers alone then; a backup is let in again only when it holds all that was answered alone.
"""

from __future__ import annotations

from ftwallet.replication.effects import Became, Commit, Effect, Propose, RecordEpoch, Send, Stop
from ftwallet.replication.messages import CommitMark, EpochEnd, Identity
from ftwallet.replication.register import Proposal, ProposalKind, Register
from ftwallet.replication.sending import Limits, Sending, Session
from ftwallet.replication.states import NEEDS_BOTH, PrimaryState, check_primary_move


class Membership(Sending):
    """A primary's state, and the set that its commits need."""

    def __init__(
        self,
        identity: Identity,
        register: Register,
        *,
        durable_lsn: int,
        commit_lsn: int,
        first_lsn: int,
        history: tuple[EpochEnd, ...],
        limits: Limits,
    ) -> None:
        super().__init__(identity, register.epoch, durable_lsn, first_lsn, history, limits)
        self.in_sync = dict(register.in_sync)
        self.commit_lsn = commit_lsn  # commit_lsn <= durable_lsn; while both are needed also <= session.acked_lsn
        self._ask_again_at: float | None = None
        alone = self.in_sync == {identity.node: identity.incarnation}
        self.state = PrimaryState.SOLO if alone else PrimaryState.RECOVERING
        self.reason = (
            "the in-sync set is this node alone" if alone else "waiting for the backup to settle the log's tail"
        )

    def _is_in_sync(self, peer: Identity) -> bool:
        return self.in_sync.get(peer.node) == peer.incarnation

    def _counts(self, peer: Identity) -> bool:
        """Whether to tell it that it is in sync: one that is on its way out of the set comes back by a join alone."""
        return self.state is PrimaryState.PAIRED and self._is_in_sync(peer)

    def _mark(self, session: Session) -> Send:
        in_sync = session.peer is not None and self._counts(session.peer)
        return Send(CommitMark(session.number, self.epoch, self.commit_lsn, in_sync))

    # ---- Committing

    def _commit(self) -> list[Effect]:
        if self.state is PrimaryState.SOLO:
            reached = self.durable_lsn
        elif self.state in NEEDS_BOTH and self.session and self.session.streaming:
            reached = min(self.durable_lsn, self.session.acked_lsn)
        else:
            return []
        if reached <= self.commit_lsn:
            return []
        self.commit_lsn = reached
        return [Commit(reached)]

    # ---- Shrinking and joining

    def _lose_session(self, reason: str) -> list[Effect]:
        self.session = None
        if self.state in (PrimaryState.PAIRED, PrimaryState.JOINING):
            return self._shrink(reason)
        if self.state is PrimaryState.CLOSING_IN:
            return self._become(PrimaryState.SOLO, reason) + self._commit()
        return []

    def _welcome(self, session: Session, common_lsn: int) -> list[Effect]:
        """Greet the backup; one that is to have a checkpoint only when it is out of the in-sync set for certain.

        It takes a new incarnation for that. If this primary died while the record still named the one before, the
        record would have an heir that is none any more, and a promotion that goes by it would leave nobody to lead.
        """
        greet = self._greet(session, common_lsn)
        if greet.checkpoint is not None and self.state is PrimaryState.SHRINKING:
            session.postponed = common_lsn
            return []
        return [greet]

    def _go_on_with(self, session: Session) -> list[Effect]:
        if session.postponed is not None:
            common_lsn, session.postponed = session.postponed, None
            return self._welcome(session, common_lsn)
        return self._read_on(session) + (self._approach(session) if session.streaming else [])

    def _approach(self, session: Session) -> list[Effect]:
        """Catch up before growing: stop answering alone when little is under way, ask for the join when it is gone."""
        effects: list[Effect] = []
        near = session.sent_lsn == self.durable_lsn and len(session.waiting) <= self._limits.near
        if self.state is PrimaryState.SOLO and near:
            effects += self._become(PrimaryState.CLOSING_IN, "the backup has nearly caught up")
        if self.state is PrimaryState.CLOSING_IN and session.acked_lsn >= self.commit_lsn:
            effects += self._become(PrimaryState.JOINING, "the backup holds all that was answered alone")
            effects += self._ask()
        return effects

    def _shrink(self, reason: str) -> list[Effect]:
        return self._become(PrimaryState.SHRINKING, reason) + self._ask()

    def _ask(self) -> list[Effect]:
        me = self.identity
        if self.state is PrimaryState.SHRINKING:
            return [Propose(Proposal(ProposalKind.SHRINK, me.node, me.incarnation, self.epoch))]
        if self.state is PrimaryState.JOINING and self.session and self.session.peer:
            peer = self.session.peer
            return [
                Propose(Proposal(ProposalKind.GROW, me.node, me.incarnation, self.epoch, peer.node, peer.incarnation))
            ]
        return []

    def _learn(self, register: Register) -> list[Effect]:
        """Adopt what the register says: our proposal granted, an older one whose answer was lost, or our end."""
        me = self.identity
        if register.primary != me.node or register.in_sync.get(me.node) != me.incarnation:
            return [
                Stop(
                    f"the witness says that node {register.primary} leads in epoch {register.epoch}",
                    fenced=True,
                )
            ]
        effects: list[Effect] = []
        if register.epoch != self.epoch:
            self.epoch, self.in_sync = register.epoch, dict(register.in_sync)
            effects.append(RecordEpoch(self.epoch))
        return effects + self._act_on_in_sync()

    def _act_on_in_sync(self) -> list[Effect]:
        alone = len(self.in_sync) == 1
        if self.state is PrimaryState.SHRINKING and alone:
            effects = self._become(PrimaryState.SOLO, f"{self.reason}; the witness recorded in_sync = itself")
            return effects + self._commit() + (self._go_on_with(self.session) if self.session else [])
        peer = self.session.peer if self.session else None
        if self.state is PrimaryState.JOINING and self.session and peer and self._is_in_sync(peer):
            return [
                *self._become(PrimaryState.PAIRED, "the backup joined the in-sync set"),
                self._mark(self.session),
            ]
        return self._ask()

    def _become(self, state: PrimaryState, reason: str) -> list[Effect]:
        check_primary_move(self.state, state)
        self.state, self.reason, self._ask_again_at = state, reason, None
        return [Became(state, reason)]
