"""A log that begins after a checkpoint: read, continued and opened like any other."""

from __future__ import annotations

from pathlib import Path

import pytest

from ftwallet.journal import Block
from ftwallet.journal.damage import Corruption
from ftwallet.journal.frames import next_chain
from ftwallet.journal.head import Head
from tests.journal.logs import grow, next_block, open_log, segment_files

HEAD = Head(100, next_chain(bytes(32), 1, 1, 100, b"before"), 3, 100, ((1, 40), (2, 70)))


def begun(directory: Path, segment_bytes: int = 1 << 20, *sizes: int) -> list[Block]:
    """A log with a past that is replaced by one that begins after HEAD."""
    journal = open_log(directory, segment_bytes)
    grow(journal, 300, 300, 300)
    journal.begin_after(HEAD)
    blocks = grow(journal, *sizes, epoch=4)
    journal.close()
    return blocks


def test_it_stands_where_the_checkpoint_stands(tmp_path: Path) -> None:
    begun(tmp_path, 400)
    journal = open_log(tmp_path)
    assert [path.stem for path in segment_files(tmp_path)] == ["00000000000000000101"]
    assert (journal.first_lsn, journal.durable_lsn, journal.commit_lsn) == (101, 100, 100)
    assert (journal.chain, journal.epoch, journal.torn) == (HEAD.chain, 3, None)
    assert journal.history == [(1, 40), (2, 70), (3, 100)]
    assert list(journal.blocks()) == list(journal.blocks(101)) == []
    assert journal.holds(100, HEAD.chain)
    assert not journal.holds(100, bytes(32))


@pytest.mark.parametrize("segment_bytes", [400, 1 << 20])
def test_it_goes_on_and_is_read_from_its_beginning(tmp_path: Path, segment_bytes: int) -> None:
    blocks = begun(tmp_path, segment_bytes, 300, 300, 300)
    journal = open_log(tmp_path, segment_bytes)
    assert list(journal.blocks()) == blocks
    assert journal.history == [(1, 40), (2, 70), (3, 100), (4, 106)]
    assert journal.chain_at(100) == HEAD.chain
    assert journal.chain_at(blocks[0].last_lsn) == blocks[0].chain
    assert journal.read(102, 1) == [blocks[1]]


@pytest.mark.parametrize("lsn", [0, 1, 40, 99])
def test_what_is_before_its_beginning_is_not_there(tmp_path: Path, lsn: int) -> None:
    begun(tmp_path, 1 << 20, 300)
    journal = open_log(tmp_path)
    with pytest.raises(KeyError):
        journal.chain_at(lsn)
    assert not journal.holds(lsn, bytes(32))
    with pytest.raises(ValueError, match="begins with lsn 101"):
        journal.read(max(lsn, 1), 1)
    with pytest.raises(KeyError):
        journal.cut(lsn, "never")
    assert journal.durable_lsn == 101
    journal.append(next_block(journal, epoch=4))


def test_it_can_be_cut_to_its_beginning(tmp_path: Path) -> None:
    blocks = begun(tmp_path, 400, 300, 300, 300)
    journal = open_log(tmp_path, 400)
    assert journal.cut(100, "not common") == blocks
    assert (journal.durable_lsn, journal.chain, list(journal.blocks())) == (100, HEAD.chain, [])
    grow(journal, 30, epoch=5)
    journal.close()
    assert open_log(tmp_path, 400).durable_lsn == 101


def test_its_first_segment_is_missed_like_any(tmp_path: Path) -> None:
    begun(tmp_path, 400, 300, 300, 300)
    segment_files(tmp_path)[0].unlink()
    with pytest.raises(Corruption, match="segments before this one are missing"):
        open_log(tmp_path, 400)
