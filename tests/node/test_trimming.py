"""What a node lets go of its log, and what it keeps for whoever may need it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from ftwallet.errors import DiskFault
from ftwallet.journal import Journal, encode_block
from ftwallet.journal.checkpoints import CheckpointMeta, write_checkpoint
from ftwallet.journal.identity import Identity
from ftwallet.ledger.ledger import Ledger
from ftwallet.ledger.operations import Kind, Operation, encode_operations, operation
from ftwallet.ledger.rules import Rules
from ftwallet.ledger.state import MemoryState, checkpoint_chunks
from ftwallet.node import trimming
from ftwallet.node.base import FileBase, StoreBase
from ftwallet.node.disk import Disk
from ftwallet.node.trimming import EVERYTHING, Trimmer

_SEGMENT_BYTES = 900
_RECORDS = 40


class Node:
    """A directory with a log of `_RECORDS` deposits, one a block, committed up to `commit_lsn`."""

    def __init__(self, directory: Path, commit_lsn: int = _RECORDS) -> None:
        self.directory = directory
        self.journal = Journal.open(directory / "journal", "cluster-1", _SEGMENT_BYTES)
        self.ledger = Ledger(Rules(), MemoryState())
        for lsn in range(1, _RECORDS + 1):
            payload = encode_operations([_deposit(lsn)])
            self.journal.append(encode_block(1, lsn, 1, min(commit_lsn, lsn - 1), self.journal.chain, payload))
        self.journal.append_mark(commit_lsn)
        self.told: list[int] = []

    def checkpoint(self, lsn: int) -> None:
        for one in range(self.ledger.applied_lsn + 1, lsn + 1):
            self.ledger.apply(one, 1, [_deposit(one)])
        meta = CheckpointMeta(lsn, 1, self.journal.chain_at(lsn), self.ledger.digest, [(1, lsn)])
        write_checkpoint(self.directory / "checkpoints", meta, checkpoint_chunks(self.ledger.state))

    def trim(self, keep_bytes: int = 1, needed_after: Callable[[], int] = lambda: EVERYTHING) -> int:
        """Let it trim as far as it may; returns where the log begins then."""
        disk = Disk(self.journal, Identity.create(self.directory, "cluster-1", "a"))
        base = FileBase(self.directory)
        trimmer = Trimmer(base, disk, keep_bytes, needed_after, self.told.append)
        asyncio.run(trimmer._trim())
        disk.close()
        return self.journal.first_lsn


def _deposit(number: int) -> Operation:
    return operation(Kind.DEPOSIT, f"t{number}", "user123", 100, 1_000_000 + number)


def test_the_log_goes_as_far_as_two_checkpoints_hold_it(tmp_path: Path) -> None:
    node = Node(tmp_path)
    node.checkpoint(20)
    node.checkpoint(30)
    begins = node.trim()
    assert 20 - 6 <= begins - 1 <= 20  # whole segments, of some five records each
    assert node.told == [begins]


@pytest.mark.parametrize("lsns", [(), (30,)])
def test_nothing_goes_that_is_not_held_twice(tmp_path: Path, lsns: tuple[int, ...]) -> None:
    node = Node(tmp_path)
    for lsn in lsns:
        node.checkpoint(lsn)
    assert node.trim() == 1
    assert node.told == []


@pytest.mark.parametrize("damaged", [20, 30])
def test_D7_a_damaged_checkpoint_holds_nothing(tmp_path: Path, damaged: int) -> None:
    node = Node(tmp_path)
    for lsn in (20, 30):
        node.checkpoint(lsn)
    path = next((tmp_path / "checkpoints").glob(f"*{damaged}.checkpoint"))
    path.write_bytes(path.read_bytes()[:-1])
    assert node.trim() == 1


def uncommitted_stays(directory: Path) -> None:
    node = Node(directory, commit_lsn=12)
    node.checkpoint(30)
    node.checkpoint(35)
    assert node.trim() - 1 <= 12, "what is not committed was trimmed"


def test_nothing_goes_that_is_not_committed(tmp_path: Path) -> None:
    uncommitted_stays(tmp_path)


def unacked_stays(directory: Path) -> None:
    node = Node(directory)
    node.checkpoint(30)
    node.checkpoint(35)
    assert 1 < node.trim(needed_after=lambda: 15) <= 16, "what the backup needs was trimmed"


def test_nothing_goes_that_the_backup_has_not(tmp_path: Path) -> None:
    unacked_stays(tmp_path)


def test_a_backup_that_comes_meanwhile_is_seen(tmp_path: Path) -> None:
    node = Node(tmp_path)
    node.checkpoint(30)
    node.checkpoint(35)
    answers = iter([EVERYTHING, 0])
    assert node.trim(needed_after=lambda: next(answers)) == 1


def test_with_a_store_the_checkpoint_is_written_for_it(tmp_path: Path) -> None:
    node = Node(tmp_path)
    node.checkpoint(30)
    base = StoreBase(tmp_path, 1_000)
    with closing(node.journal):
        base.open(node.journal)
        for path in (tmp_path / "checkpoints").glob("*.checkpoint"):
            path.unlink()
        held = base.hold_twice(25, node.journal)
        assert held == node.journal.whole_until(25)
        assert [int(path.stem) for path in (tmp_path / "checkpoints").glob("*.checkpoint")] == [30]
        assert (tmp_path / "store" / "known").exists()
        assert base.hold_twice(_RECORDS, node.journal) == node.journal.whole_until(30)
        base.close()


def test_D1_a_full_disk_only_postpones_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trimming, "_LOOK_EVERY_S", 0.0)
    monkeypatch.setattr(trimming, "_FULL_DISK_PAUSE_S", 0.0)
    tries: list[int] = []

    async def refuse(self: Trimmer) -> None:
        tries.append(1)
        raise DiskFault("there is no room") from OSError(28 if len(tries) < 3 else 5, "it says so")

    monkeypatch.setattr(Trimmer, "_trim", refuse)
    trimmer = Trimmer(FileBase(tmp_path), None, 1, lambda: 0, lambda lsn: None)  # type: ignore[arg-type]
    with pytest.raises(DiskFault):
        asyncio.run(trimmer.run())
    assert len(tries) == 3


def _hold_all(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(FileBase, "hold_twice", lambda self, lsn, journal: lsn)


def _commit_all(patch: pytest.MonkeyPatch) -> None:
    _hold_all(patch)
    patch.setattr(Journal, "commit_lsn", property(lambda self: self.durable_lsn))


def _need_nothing(patch: pytest.MonkeyPatch) -> None:
    init = Trimmer.__init__

    def deaf(self: Trimmer, base: object, disk: object, keep: int, needed: object, before: object) -> None:
        init(self, base, disk, keep, lambda: EVERYTHING, before)  # type: ignore[arg-type]

    patch.setattr(Trimmer, "__init__", deaf)


BREAKS = {
    "trim-uncommitted": (_commit_all, uncommitted_stays),
    "trim-unacked": (_need_nothing, unacked_stays),
}
"""Rules that are broken on purpose, and what must notice; trim-unheld is among those of real nodes."""


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_rule_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    breaks, check = BREAKS[name]
    breaks(monkeypatch)
    with pytest.raises(AssertionError, match="was trimmed"):
        check(tmp_path)
