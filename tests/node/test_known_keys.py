"""After a crash a store knows of every key that it holds: one that it did not know of would be money lost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from ftwallet.journal import Block, Journal, encode_block
from ftwallet.ledger.holds import capture, hold
from ftwallet.ledger.imports import imported_balance
from ftwallet.ledger.legs import leg, transfer
from ftwallet.ledger.operations import Body, Kind, Operation, asked, encode_operations, group, operation
from ftwallet.ledger.state import WORLD
from ftwallet.node.base import StoreBase
from ftwallet.node.storage import describe, replay
from ftwallet.replication.messages import EpochEnd

_TIME_US = 1_000_000


def _asked(transaction_id: str, body: Body) -> Operation:
    return asked(body, transaction_id, _TIME_US)


def _deposit(transaction_id: str, account_id: str) -> Operation:
    return operation(Kind.DEPOSIT, transaction_id, account_id, 1_000, _TIME_US)


class Node:
    """A store over a log in `directory`, whose node dies and starts again."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.journal = Journal.open(directory / "journal", "cluster-1")
        self._start()

    def _start(self) -> None:
        self._base = StoreBase(self._directory, 1_000)
        self.ledger = self._base.open(self.journal)
        replay(self.ledger, self.journal, self._base)

    def write(self, operations: Sequence[Operation]) -> None:
        """A block is executed, and the store written."""
        lsn = self.journal.durable_lsn
        payload = encode_operations(operations)
        block = encode_block(1, lsn + 1, len(operations), lsn, self.journal.chain, payload)
        self.journal.append(block)
        self.journal.append_mark(block.last_lsn)
        self.ledger.apply(block.first_lsn, 1, list(operations))
        self._write_store(block)

    def _write_store(self, block: Block) -> None:
        snapshot = self._base.snapshot(self.ledger)
        snapshot.write(describe(self.ledger, block, [EpochEnd(1, block.last_lsn)]))
        snapshot.written()

    def stop(self) -> None:
        """In order: which keys there are is on record then. Starts again."""
        self._base.close()
        self._start()

    def crash(self) -> None:
        """Start again with what the disk has: which keys there are was put on record before the last blocks."""
        assert self._base._table is not None
        self._base._table.close()
        self._start()

    def close(self) -> None:
        self._base.close()
        self.journal.close()


_BLOCKS: dict[str, tuple[list[Operation], dict[str, int]]] = {
    "deposit": ([_deposit("t1", "bob")], {"bob": 1_000}),
    "import": ([imported_balance("bob", 70, _TIME_US)], {"bob": 70}),
    "transfer": ([_asked("t1", transfer([leg("ann", "bob", 300)]))], {"ann": 700, "bob": 300}),
    "legs": (
        [_asked("t1", transfer([leg("ann", "bob", 300), leg(WORLD, "carl", 5)]))],
        {"ann": 700, "bob": 300, "carl": 5},
    ),
    "group": (
        [group(2, _TIME_US), _asked("t1", transfer([leg("ann", "bob", 300)])), _deposit("t2", "carl")],
        {"ann": 700, "bob": 300, "carl": 1_000},
    ),
    "hold": ([_asked("h1", hold("ann", 400))], {"ann": 600, "@held/ann": 400}),
    "capture": (
        [_asked("h1", hold("ann", 400)), _asked("t1", capture("h1", 100, "bob"))],
        {"ann": 600, "@held/ann": 300, "bob": 100},
    ),
}


@pytest.mark.parametrize("name", _BLOCKS)
def test_C8_what_came_after_the_keys_were_put_on_record_is_found_after_a_crash(name: str, tmp_path: Path) -> None:
    operations, balances = _BLOCKS[name]
    node = Node(tmp_path)
    node.write([_deposit("t0", "ann")])
    node.stop()
    node.write(operations)
    node.crash()
    assert {account_id: node.ledger.balance(account_id) for account_id in balances} == balances
    for one in operations:
        assert not one.transaction_id or node.ledger.find(one.transaction_id)
        assert one.kind != Kind.HOLD or node.ledger.hold(one.transaction_id)
    node.ledger.check()
    node.close()
