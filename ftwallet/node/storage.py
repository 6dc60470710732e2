"""Opening a node's directory: the identity, the log, the newest checkpoint, and the replay of what follows it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import structlog

from ftwallet import platform
from ftwallet.journal import Block, Corruption, Journal
from ftwallet.journal.checkpoints import CheckpointMeta
from ftwallet.journal.identity import Identity
from ftwallet.ledger.ledger import Ledger
from ftwallet.ledger.operations import decode_operations
from ftwallet.node.base import Base, FileBase
from ftwallet.node.tail import Tail
from ftwallet.replication.messages import EpochEnd, cut_history


class Storage(NamedTuple):
    """`tail`: blocks beyond the commit that the log knows of, not executed. `checkpoint_lsn`: where replay began.

    `background`: of a node that had the directory before in this process, maybe with a checkpoint under way.
    """

    identity: Identity
    journal: Journal
    ledger: Ledger
    tail: Tail
    checkpoint_lsn: int
    base: Base
    background: ThreadPoolExecutor | None = None

    def newest_time_us(self) -> int:
        """When the log's last record was made, microseconds since 1970 UTC; times must not go back behind it."""
        return max(self.ledger.time_us, self.tail.newest_time_us)


def open_storage(
    node_dir: Path, segment_bytes: int, base: Base | None = None, *, may_be_empty: bool = False
) -> Storage:
    """Open a node's directory and bring its ledger, in memory and checkpoints without a `base`, to the commit.

    A node that has lived and has no log is refused, unless it `may_be_empty`, because it was just set aside. Raises
    Refused, DiskFault, Corruption.
    """
    identity = Identity.load(node_dir)
    create = may_be_empty or identity.epoch == 0
    journal = Journal.open(node_dir / "journal", identity.cluster_id, segment_bytes, create=create)
    log = structlog.get_logger()
    if journal.torn:
        log.warning(f"Journal: cut a torn tail: {journal.torn}")
    began = time.monotonic()
    base = base or FileBase(node_dir)
    try:
        ledger = base.open(journal)
        checkpoint_lsn = ledger.applied_lsn
        tail = replay(ledger, journal, base)
    except BaseException:
        base.close()
        raise
    seconds = time.monotonic() - began
    log.info(
        f"Recovered to lsn {ledger.applied_lsn} in {seconds:.2f} s: {base.called} at lsn {checkpoint_lsn}, "
        f"{ledger.applied_lsn - checkpoint_lsn} records replayed, {tail.count} PENDING"
    )
    return Storage(identity, journal, ledger, tail, checkpoint_lsn, base)


def replay(ledger: Ledger, journal: Journal, base: Base) -> Tail:
    """Execute the log from where the ledger stands up to the log's commit; returns the blocks beyond."""
    tail: list[Block] = []
    written_lsn = ledger.applied_lsn
    for block in journal.blocks(ledger.applied_lsn + 1):
        if block.last_lsn > journal.commit_lsn:
            tail.append(block)
            continue
        ledger.apply(block.first_lsn, block.epoch, decode_operations(block.payload))
        if block.last_lsn - written_lsn >= base.replayed_at_most:
            written_lsn = block.last_lsn
            snapshot = base.snapshot(ledger)
            snapshot.write(describe(ledger, block, cut_history(_history(journal), block.last_lsn)))
            snapshot.written()
    return Tail(tail)


def _history(journal: Journal) -> tuple[EpochEnd, ...]:
    return tuple(EpochEnd(*end) for end in journal.history)


def describe(ledger: Ledger, block: Block, history: Iterable[EpochEnd]) -> CheckpointMeta:
    """What a checkpoint is of that is taken after a block, the last one that the ledger has executed."""
    ends = [(end.epoch, end.last_lsn) for end in history]
    return CheckpointMeta(lsn=block.last_lsn, epoch=block.epoch, chain=block.chain, digest=ledger.digest, history=ends)


def set_damaged_aside(node_dir: Path, identity: Identity, damage: Corruption) -> Path:
    """Keep a damaged log and its checkpoints in quarantine and leave an empty node, to be rebuilt from the partner.

    The new incarnation comes first: from then on this directory is not in the in-sync set, whatever happens next.
    """
    identity.renew_incarnation()
    aside = node_dir / "quarantine" / f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-damaged"
    while aside.exists():  # twice within a second
        aside = aside.with_name(aside.name + "+")
    platform.make_directory(aside)
    (aside / "why.txt").write_text(f"{damage}\n")
    for name in ("checkpoints", "journal", "store"):
        if (node_dir / name).exists():
            platform.rename(node_dir / name, aside / name)
    platform.fsync_directory(aside)
    platform.fsync_directory(node_dir)
    return aside
