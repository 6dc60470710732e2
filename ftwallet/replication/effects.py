"""What the protocol's objects ask their shell to do; it performs effects in order and reports back with events."""

from __future__ import annotations

from typing import NamedTuple

from ftwallet.replication.messages import CheckpointFile, ToBackup, ToPrimary
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


class Wanted(NamedTuple):
    """A checkpoint to offer: one at `from_lsn` or later, if it can be the one with this fingerprint (empty: any).

    `required`: the backup cannot do without, so make one if there is none.
    """

    from_lsn: int
    fingerprint: str
    required: bool


class Greet(NamedTuple):
    """Primary: look up the chain of our log at `common_lsn`, and the checkpoint if any, and report `greeted` with both.

    Where our log begins after `common_lsn` the chain is reported empty.
    """

    session: int
    common_lsn: int
    checkpoint: Wanted | None = None


class ReadSlice(NamedTuple):
    """Primary: read at most `size` bytes of the offered file from `offset` on, and report `slice_read`."""

    session: int
    file: CheckpointFile
    offset: int
    size: int


class Align(NamedTuple):
    """Backup: prove the chain at `common_lsn`, cut what goes beyond it, execute up to it, then report `aligned`.

    An empty chain proves nothing and need not: what is left of the log is about to be replaced.
    """

    session: int
    common_lsn: int
    chain: bytes


class AppendBlocks(NamedTuple):
    """Backup: append, sync and execute these blocks, then report `executed`."""

    session: int
    blocks: tuple[object, ...]


class RenewIncarnation(NamedTuple):
    """Backup: make a new incarnation durable, marked as that of a state sync, then report `renewed` with it."""

    session: int


class FindPart(NamedTuple):
    """Backup: report with `part_found` how many bytes of just this file are durable here; drop parts of others."""

    session: int
    file: CheckpointFile


class KeepSlice(NamedTuple):
    """Backup: write these bytes of the file, sync them, then report `slice_kept`."""

    session: int
    offset: int
    data: bytes


class TakeFingerprint(NamedTuple):
    """Backup: the file is whole; report `fingerprint_taken`, of what its disk holds."""

    session: int


class DropPart(NamedTuple):
    """Backup: forget the file: it is not the one that was offered."""

    session: int


class Install(NamedTuple):
    """Backup: check the file for damage and for being what was offered, then begin the log and the ledger anew with it.

    Durable when `installed` is reported; `not_installed` when it is not what was offered, with all as it was.
    """

    session: int
    file: CheckpointFile


class EndStateSync(NamedTuple):
    """Backup: forget parts of files, and clear the mark of RenewIncarnation durably: this incarnation may join then."""


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
    | ReadSlice
    | Align
    | AppendBlocks
    | RenewIncarnation
    | FindPart
    | KeepSlice
    | TakeFingerprint
    | DropPart
    | Install
    | EndStateSync
    | EndSession
    | Became
    | Stop
)
