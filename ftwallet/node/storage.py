"""Opening a node's directory: the identity, the log, the newest checkpoint, and the replay of what follows it."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import structlog

from ftwallet import platform
from ftwallet.journal import Block, Corruption, Journal
from ftwallet.journal.checkpoints import CheckpointMeta, load_newest
from ftwallet.journal.identity import Identity
from ftwallet.ledger.ledger import Ledger
from ftwallet.ledger.operations import decode_operations
from ftwallet.ledger.rules import Rules
from ftwallet.ledger.state import MemoryState
from ftwallet.node.tail import Tail

DEFAULT_RULES = Rules()
"""A new ledger begins with these; others come into force by a record in the log, so that every replay agrees."""


class Storage(NamedTuple):
    """`tail`: blocks beyond the commit that the log knows of, not executed. `checkpoint_lsn`: where replay began.

    `background`: of a node that had the directory before in this process, maybe with a checkpoint under way.
    """

    identity: Identity
    journal: Journal
    ledger: Ledger
    tail: Tail
    checkpoint_lsn: int
    background: ThreadPoolExecutor | None = None

    def newest_time_us(self) -> int:
        """When the log's last record was made, microseconds since 1970 UTC; times must not go back behind it."""
        return max(self.ledger.time_us, self.tail.newest_time_us)


def open_storage(node_dir: Path, segment_bytes: int, *, may_be_empty: bool = False) -> Storage:
    """Open a node's directory and bring its ledger to the commit.

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
    ledger = _from_checkpoint(node_dir / "checkpoints", journal)
    checkpoint_lsn = ledger.applied_lsn
    tail = replay(ledger, journal)
    seconds = time.monotonic() - began
    log.info(
        f"Recovered to lsn {ledger.applied_lsn} in {seconds:.2f} s: checkpoint at lsn {checkpoint_lsn}, "
        f"{ledger.applied_lsn - checkpoint_lsn} records replayed, {tail.count} PENDING"
    )
    return Storage(identity, journal, ledger, tail, checkpoint_lsn)


def replay(ledger: Ledger, journal: Journal) -> Tail:
    """Execute the log from where the ledger stands up to the log's commit; returns the blocks beyond."""
    tail: list[Block] = []
    for block in journal.blocks(ledger.applied_lsn + 1):
        if block.last_lsn <= journal.commit_lsn:
            ledger.apply(block.first_lsn, block.epoch, decode_operations(block.payload))
        else:
            tail.append(block)
    return Tail(tail)


def rebuild(node_dir: Path, journal: Journal) -> tuple[Ledger, Tail]:
    """A ledger that stands at the log's commit, from disk alone; and the blocks beyond."""
    ledger = _from_checkpoint(node_dir / "checkpoints", journal)
    return ledger, replay(ledger, journal)


def _from_checkpoint(directory: Path, journal: Journal) -> Ledger:
    """The ledger of the newest checkpoint that this log still holds, else a new one: the log has all of it.

    Raises Corruption when the log begins after a checkpoint and there is none: nothing has the records before it.
    """
    log = structlog.get_logger()
    unfit: set[int] = set()
    while loaded := load_newest(directory, lambda meta: meta.lsn not in unfit and holds(journal, meta), log.warning):
        meta, chunks = loaded
        try:
            return Ledger.restore(chunks)
        except ValueError as error:
            log.warning(f"The checkpoint at lsn {meta.lsn} is passed over: {error}")
            unfit.add(meta.lsn)
    if journal.first_lsn > 1:
        why = (
            f"the log begins with lsn {journal.first_lsn}, after a checkpoint, and {directory} holds no sound "
            "checkpoint of it; rebuild this node from its partner (docs/operations.md)"
        )
        raise Corruption(journal.directory, 0, why)
    return Ledger(DEFAULT_RULES, MemoryState())


def holds(journal: Journal, meta: CheckpointMeta) -> bool:
    """Tell whether a checkpoint is of this log and of nothing that may still be cut. Raises Corruption, DiskFault."""
    return meta.lsn <= journal.commit_lsn and journal.holds(meta.lsn, meta.chain)


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
    for name in ("checkpoints", "journal"):
        if (node_dir / name).exists():
            platform.rename(node_dir / name, aside / name)
    platform.fsync_directory(aside)
    platform.fsync_directory(node_dir)
    return aside
