"""What the protocol's objects ask their shell to do; it performs effects in order and reports back with events."""

from __future__ import annotations

from typing import NamedTuple

from ftwallet.replication.messages import ToBackup, ToPrimary
from ftwallet.replication.register import Proposal


class RecordEpoch(NamedTuple):
    """Make `epoch` durable in this node's identity before the next effect is performed."""

    epoch: int


class Send(NamedTuple):
    """Put a message on the stream of its session; a stream that is gone swallows it."""

    message: ToBackup | ToPrimary


class ReadBlocks(NamedTuple):
    """Read the journal from `from_lsn` on, a bounded amount, and report `blocks_read` for this session."""

    session: int
    from_lsn: int


class Propose(NamedTuple):
    """Ask the witness and report `witness_answered`; an unreachable witness is reported as None."""

    proposal: Proposal


class Commit(NamedTuple):
    """Everything up to `lsn` may be executed and answered."""

    lsn: int


class SettleTail(NamedTuple):
    """Primary: cut our log to `common_lsn` after a copy has gone to quarantine, then report `tail_settled`."""

    common_lsn: int


class RecordRollbacks(NamedTuple):
    """Primary: append ROLLED_BACK for those of these encoded operations whose ids it does not have."""

    operations: bytes


class Greet(NamedTuple):
    """Primary: look up the chain of our log at `common_lsn` and report `greeted` with it."""

    session: int
    common_lsn: int


class Align(NamedTuple):
    """Backup: prove the chain at `common_lsn`, cut what goes beyond it, execute up to it, then report `aligned`."""

    session: int
    common_lsn: int
    chain: bytes


class AppendBlocks(NamedTuple):
    """Backup: append, sync and execute these blocks, then report `executed`."""

    session: int
    blocks: tuple[object, ...]


class EndSession(NamedTuple):
    """Close the stream of this session."""

    session: int
    reason: str


class Became(NamedTuple):
    """The state changed; `reason` is for a person."""

    state: str
    reason: str


class Stop(NamedTuple):
    """This node must not go on; `fenced` when the witness says that another node leads."""

    reason: str
    fenced: bool


Effect = (
    RecordEpoch
    | Send
    | ReadBlocks
    | Propose
    | Commit
    | SettleTail
    | RecordRollbacks
    | Greet
    | Align
    | AppendBlocks
    | EndSession
    | Became
    | Stop
)
