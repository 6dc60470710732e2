"""A backup that has executed what it must cut begins anew from its store, and nothing else writes that meanwhile."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from ftwallet.journal import Block, Journal, encode_block
from ftwallet.journal.identity import Identity
from ftwallet.ledger.operations import Kind, Operation, encode_operations, operation
from ftwallet.node import following
from ftwallet.node.base import StoreBase
from ftwallet.node.checkpointing import Checkpointer
from ftwallet.node.disk import Disk
from ftwallet.node.following import Following
from ftwallet.node.storage import replay
from ftwallet.node.tail import Tail
from ftwallet.replication.messages import EpochEnd


def _deposit(lsn: int) -> list[Operation]:
    return [operation(Kind.DEPOSIT, f"t{lsn}", "ann", 100, lsn)]


class Node:
    """A backup's store, written at lsn 1, and due to be written again at lsn 2; executed is what is in the log."""

    def __init__(self, directory: Path) -> None:
        self.journal = Journal.open(directory / "journal", "cluster-1")
        base = StoreBase(directory, 1_000)
        self.disk = Disk(self.journal, Identity.create(directory, "cluster-1", "a"))
        ledger = base.open(self.journal)
        nothing: Any = None
        self.following = Following(
            nothing, ledger, self.disk, Tail([]), directory, base, nothing, self._applied, self._other_ledger
        )
        self.checkpointer = Checkpointer(
            base, lambda: self.following.ledger, self.disk, lambda: (EpochEnd(1, 99),), every=1, last_lsn=0
        )
        self._base = base

    def _applied(self, block: Block) -> None:
        self.checkpointer.applied(block)

    def _other_ledger(self, lsn: int) -> None:
        self.checkpointer.stands_at(lsn)

    def execute(self, lsn: int) -> None:
        operations = _deposit(lsn)
        block = encode_block(1, lsn, 1, 0, self.journal.chain, encode_operations(operations))
        self.journal.append(block)
        self.following._execute_operations(block, operations)

    def close(self) -> None:
        self.disk.close()
        self._base.close()


async def test_C8_no_older_copy_is_written_under_the_ledger_that_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = Node(tmp_path)
    node.execute(1)
    await node.checkpointer.tick(1)
    for lsn in (2, 3):
        node.execute(lsn)
    node.journal.cut(2, "the primary does not have it")
    node.journal.append_mark(2)
    ticked = threading.Event()

    def replay_later(*args: Any) -> Tail:
        ticked.wait(5)
        return replay(*args)

    monkeypatch.setattr(following, "replay", replay_later)
    rebuilding = asyncio.create_task(node.following._rebuild())
    await asyncio.sleep(0)
    await node.checkpointer.tick(2)
    ticked.set()
    await rebuilding
    assert node.following.ledger.applied_lsn == 2
    assert node.following.ledger.balance("ann") == 200
    node.following.ledger.check()
    assert not node.following.ledger.duplicates
    node.close()


async def test_C8_a_store_is_written_after_the_log_says_that_it_is_committed(tmp_path: Path) -> None:
    node = Node(tmp_path)
    node.execute(1)
    node.execute(2)
    assert node.journal.commit_lsn == 0
    await node.checkpointer.tick(1)
    assert node.journal.commit_lsn == 1
    node.close()
    journal = Journal.open(tmp_path / "journal", "cluster-1")
    base = StoreBase(tmp_path, 1_000)
    assert base.open(journal).applied_lsn == 1
    base.close()
    journal.close()
