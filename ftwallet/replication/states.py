"""The states of a primary and of a backup, and every move between them. A move that is not listed here is a bug."""

from __future__ import annotations

from enum import StrEnum

from ftwallet.errors import BrokenInvariant


class PrimaryState(StrEnum):
    """What a primary may do in each state stands beside it."""

    RECOVERING = "recovering"  # started with both in sync: nothing is appended or answered until the tail is settled
    SETTLING = "settling"  # the backup's log is known: our tail beyond it is being cut
    PAIRED = "paired"  # answers what is durable on both
    SHRINKING = "shrinking"  # lost its backup and has asked the witness to go alone; answers nothing
    SOLO = "solo"  # in_sync is itself alone: answers what is durable here
    CLOSING_IN = "closing-in"  # the backup has nearly caught up: answers nothing alone any more
    JOINING = "joining"  # has asked the witness to add the backup; answers what is durable on both


P = PrimaryState

PRIMARY_MOVES: dict[tuple[PrimaryState, PrimaryState], str] = {
    (P.RECOVERING, P.SETTLING): "the backup in sync has made the new epoch durable and told its log",
    (P.RECOVERING, P.SHRINKING): "the backup is not back within settle_timeout, or is not the one in sync",
    (P.SETTLING, P.PAIRED): "what the backup has is rolled forward, the rest is cut",
    (P.PAIRED, P.SHRINKING): "the session broke or an ack is late",
    (P.SHRINKING, P.SOLO): "the witness recorded in_sync = itself",
    (P.SOLO, P.CLOSING_IN): "the backup has been sent everything and little is under way",
    (P.CLOSING_IN, P.SOLO): "the session broke before the witness was asked",
    (P.CLOSING_IN, P.JOINING): "the backup holds all that was answered alone: ask for the join",
    (P.JOINING, P.PAIRED): "the witness recorded the join",
    (P.JOINING, P.SHRINKING): "the session broke while the join was asked: have the witness call it off",
}

ANSWERING = frozenset({P.PAIRED, P.SOLO, P.CLOSING_IN, P.JOINING})
"""States in which new transactions are appended."""

NEEDS_BOTH = frozenset({P.PAIRED, P.CLOSING_IN, P.JOINING})
"""States in which a transaction is answered only when the backup has acked it."""


class BackupState(StrEnum):
    """A backup's part of a session."""

    WAITING = "waiting"  # no session: keeps its tail PENDING
    GREETED = "greeted"  # has told its log; waits for the common prefix
    ALIGNING = "aligning"  # is proving the common prefix and cutting what goes beyond it
    RECEIVING = "receiving"  # state sync: takes in the slices of a checkpoint's file, in an incarnation made for that
    INSTALLING = "installing"  # state sync: the file is whole; its log and ledger are being replaced by it
    FOLLOWING = "following"  # appends, executes, acks


B = BackupState

BACKUP_MOVES: dict[tuple[BackupState, BackupState], str] = {
    (B.WAITING, B.GREETED): "a primary of this cluster said hello in an epoch that is not older",
    (B.GREETED, B.GREETED): "it said hello again, in a new session",
    (B.ALIGNING, B.GREETED): "it said hello again, in a new session",
    (B.FOLLOWING, B.GREETED): "it said hello again, in a new session",
    (B.GREETED, B.ALIGNING): "the primary told the common prefix",
    (B.ALIGNING, B.FOLLOWING): "the common prefix is proven and the rest cut",
    (B.ALIGNING, B.RECEIVING): "a checkpoint is offered, and this incarnation was made for a state sync",
    (B.RECEIVING, B.INSTALLING): "the file is whole and is the one that was offered",
    (B.INSTALLING, B.FOLLOWING): "log and ledger begin with the checkpoint, durably",
    (B.RECEIVING, B.GREETED): "it said hello again, in a new session",
    (B.RECEIVING, B.WAITING): "the session ended, or the file is not the one that was offered",
    (B.INSTALLING, B.WAITING): "the file is damaged, or is not what was offered",
    (B.GREETED, B.WAITING): "the session ended",
    (B.ALIGNING, B.WAITING): "the session ended, or a new incarnation is taken for a state sync",
    (B.FOLLOWING, B.WAITING): "the session ended",
}


def check_primary_move(before: PrimaryState, after: PrimaryState) -> None:
    """Raise BrokenInvariant for a move that the table does not have."""
    if (before, after) not in PRIMARY_MOVES:
        raise BrokenInvariant(f"a primary cannot move from {before} to {after}")


def check_backup_move(before: BackupState, after: BackupState) -> None:
    """Raise BrokenInvariant for a move that the table does not have."""
    if (before, after) not in BACKUP_MOVES:
        raise BrokenInvariant(f"a backup cannot move from {before} to {after}")
