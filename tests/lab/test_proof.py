"""The proof of a load reads a log of any beginning."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace

import pytest

from ftwallet.lab.proof import _replayed
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
