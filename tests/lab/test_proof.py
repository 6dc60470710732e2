"""The proof of a load reads a log of any beginning."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace

import pytest

from ftwallet.lab.proof import _look_at_transfers, _replayed
from ftwallet.lab.scripts import TRANSFERRED_MINOR
from ftwallet.ledger.legs import Leg, leg, transfer
from ftwallet.ledger.operations import Operation, asked
from ftwallet.node.storage import open_storage
from tests.node.test_receiving import BLOCKS, SEGMENT_BYTES, take_checkpoint, two_checkpoints, write_log


def test_a_log_that_begins_after_a_checkpoint_is_replayed_from_there(tmp_path: Path) -> None:
    node = tmp_path / "b"
    content, file = take_checkpoint(tmp_path / "partner", write_log(tmp_path / "partner", BLOCKS))
    assert hashlib.sha256(content).hexdigest() == file.fingerprint
    older, newer = two_checkpoints(node, (content, file))
    pair = SimpleNamespace(config=SimpleNamespace(node_dir=lambda name: tmp_path / name))
    storage = open_storage(node, SEGMENT_BYTES)
    storage.journal.close()
    replayed = _replayed(pair, "b")  # type: ignore[arg-type]
    assert (replayed.deposits, replayed.withdrawals, replayed.lsn) == (2 * BLOCKS + 1, 0, 2 * BLOCKS + 1)
    assert replayed.digest == storage.ledger.digest
    assert replayed.total == 5 * (2 * BLOCKS + 1)
    for path in (older, newer):
        path.unlink()
    with pytest.raises(ValueError, match="no sound checkpoint of it"):
        _replayed(pair, "b")  # type: ignore[arg-type]


def test_a_transfer_is_one_that_the_load_asks_for() -> None:
    asked_for = [transferred("t1", leg("ann", "bob", TRANSFERRED_MINOR))]
    _look_at_transfers(asked_for)
    for strange in (
        transferred("t2", leg("ann", "bob", TRANSFERRED_MINOR + 1)),
        transferred("t2", leg("@world", "bob", TRANSFERRED_MINOR)),
        transferred("t2", leg("ann", "bob", TRANSFERRED_MINOR), leg("bob", "ann", TRANSFERRED_MINOR)),
    ):
        with pytest.raises(ValueError, match="t2 is a transfer that nobody asked for"):
            _look_at_transfers([*asked_for, strange])


def transferred(transaction_id: str, *legs: Leg) -> Operation:
    return asked(transfer(legs), transaction_id, 1)
