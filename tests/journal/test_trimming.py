"""A log whose oldest segments are removed: it goes on like any other, and is never taken for one that has lost them."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest

from ftwallet import platform
from ftwallet.errors import BrokenInvariant, DiskFault, Refused
from ftwallet.journal import Block, Corruption, Journal, recovery, trimming
from ftwallet.journal.head import Head
from ftwallet.journal.reader import BeforeFirst
from ftwallet.journal.recovery import find_segments, look
from ftwallet.journal.segments import Segment
from ftwallet.journal.trimming import NAME, read_mark
from tests.journal.logs import CLUSTER, grow, open_log, segment_files
from tests.journal.test_crashes import Story, crash_everywhere, goes_on

_SEGMENT_BYTES = 900
_SIZES = (300,) * 12
pytestmark = pytest.mark.usefixtures("no_syncs")


def make(directory: Path) -> tuple[Journal, list[Block]]:
    """A log of several segments, all of it committed."""
    journal = open_log(directory, _SEGMENT_BYTES)
    blocks = grow(journal, *_SIZES)
    journal.append_mark(journal.durable_lsn)
    assert len(segment_files(directory)) >= 5
    return journal, blocks


def trim_all(journal: Journal, lsn: int) -> None:
    while journal.first_lsn <= journal.whole_until(lsn):
        journal.trim(lsn)


def boundaries(directory: Path) -> list[int]:
    """The last record before each segment."""
    return [int(path.stem) - 1 for path in segment_files(directory)]


def test_whole_segments_go_and_the_rest_is_read_and_continued(tmp_path: Path) -> None:
    journal, blocks = make(tmp_path)
    lsn = boundaries(tmp_path)[2]
    journal.trim(lsn + 1)  # in the middle of a segment, which stays
    assert journal.first_lsn == lsn + 1
    assert boundaries(tmp_path)[0] == lsn
    kept = [block for block in blocks if block.first_lsn > lsn]
    assert list(journal.blocks()) == kept
    assert journal.chain_at(lsn) == next(block.chain for block in blocks if block.last_lsn == lsn)
    with pytest.raises(BeforeFirst, match="begins with lsn"):
        journal.read(lsn, 1)
    more = grow(journal, 300, 300, 300, epoch=2)
    end = journal.durable_lsn, journal.chain, journal.history
    journal.close()
    again = open_log(tmp_path, _SEGMENT_BYTES)
    assert (again.durable_lsn, again.chain, again.history) == end
    assert list(again.blocks()) == kept + more


def test_the_newest_segment_stays(tmp_path: Path) -> None:
    journal, _ = make(tmp_path)
    trim_all(journal, journal.durable_lsn)
    assert len(segment_files(tmp_path)) == 1
    journal.trim(journal.durable_lsn)
    goes_on_from(journal, tmp_path)


def goes_on_from(journal: Journal, directory: Path) -> None:
    grow(journal, 300, 300, 300, 300)
    end = journal.durable_lsn
    journal.close()
    assert open_log(directory, _SEGMENT_BYTES).durable_lsn == end


def test_what_is_not_committed_stays(tmp_path: Path) -> None:
    journal = open_log(tmp_path, _SEGMENT_BYTES)
    grow(journal, *_SIZES)
    with pytest.raises(BrokenInvariant, match="committed up to 0"):
        journal.trim(3)
    assert journal.first_lsn == 1


def test_how_much_may_go(tmp_path: Path) -> None:
    journal, _ = make(tmp_path)
    size = sum(path.stat().st_size for path in segment_files(tmp_path))
    assert journal.spare_until(size) == 0
    assert journal.spare_until(size * 2 // 3 + 2) == 0  # half as much again is not there
    keep = size // 2
    lsn = journal.spare_until(keep)
    trim_all(journal, lsn)
    left = [path.stat().st_size for path in segment_files(tmp_path)]
    assert lsn > 0
    assert sum(left) >= keep > sum(left) - left[0]
    assert journal.spare_until(1) == boundaries(tmp_path)[-1]


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_lost_segment_is_missed_all_the_same(tmp_path: Path, lost: int) -> None:
    journal, _ = make(tmp_path)
    journal.trim(boundaries(tmp_path)[2])
    journal.close()
    segment_files(tmp_path)[lost].unlink()
    with pytest.raises(Corruption, match="missing"):
        open_log(tmp_path, _SEGMENT_BYTES)


def test_without_its_mark_a_trimmed_log_is_a_damaged_one(tmp_path: Path) -> None:
    journal, _ = make(tmp_path)
    journal.trim(boundaries(tmp_path)[2])
    journal.close()
    mark = tmp_path / "journal" / NAME
    whole = mark.read_bytes()
    for at in range(len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 4
        mark.write_bytes(bytes(damaged))
        with pytest.raises((Corruption, Refused)):
            open_log(tmp_path, _SEGMENT_BYTES)
    mark.write_bytes(whole[:9])
    with pytest.raises(Corruption, match="trimmed log begins, is damaged"):
        open_log(tmp_path, _SEGMENT_BYTES)
    mark.unlink()
    with pytest.raises(Corruption, match="segments before this one are missing"):
        open_log(tmp_path, _SEGMENT_BYTES)
    mark.write_bytes(whole)
    open_log(tmp_path, _SEGMENT_BYTES)


def test_a_damaged_mark_of_a_log_that_lacks_nothing_is_nothing(tmp_path: Path) -> None:
    journal, blocks = make(tmp_path)
    journal.close()
    (tmp_path / "journal" / NAME).write_bytes(b"x")
    assert list(open_log(tmp_path, _SEGMENT_BYTES).blocks()) == blocks
    assert not (tmp_path / "journal" / NAME).exists()


def test_a_mark_of_a_log_that_was_replaced_is_forgotten(tmp_path: Path) -> None:
    """Else a log that grows past the place, in the same records, would begin there again."""
    journal, blocks = make(tmp_path)
    journal.trim(boundaries(tmp_path)[2])
    mark = (tmp_path / "journal" / NAME).read_bytes()
    last = blocks[-1]
    journal.begin_after(Head(last.last_lsn, last.chain, last.epoch, last.last_lsn, ()))
    assert not (tmp_path / "journal" / NAME).exists()
    journal.close()
    (tmp_path / "journal" / NAME).write_bytes(mark)  # a crash right before it was removed
    assert open_log(tmp_path, _SEGMENT_BYTES).first_lsn == last.last_lsn + 1
    assert not (tmp_path / "journal" / NAME).exists()


def test_C8_D5_trimming(tmp_path: Path) -> None:
    done = _crash_in_every_step(tmp_path)
    assert done.count("remove") >= 3


def _remove_before_the_mark(patch: pytest.MonkeyPatch) -> None:
    """The mark is written as the last thing, and an open finds none to finish."""
    held: list[tuple[Path, Segment]] = []
    remove_older = recovery.remove_older

    def remove_then_mark(first: Path) -> None:
        remove_older(first)
        while held:
            trimming.write_mark(*held.pop())

    patch.setattr(recovery, "remove_older", remove_then_mark)
    patch.setattr("ftwallet.journal.journal.write_mark", lambda directory, first: held.append((directory, first)))


def _mark_without_a_sync(patch: pytest.MonkeyPatch) -> None:
    def write(directory: Path, first: Segment) -> None:
        sync, platform_sync = platform.fsync_directory, platform.fdatasync
        platform.fsync_directory = platform.fdatasync = lambda _: None  # type: ignore[assignment]
        try:
            trimming.write_mark(directory, first)
        finally:
            platform.fsync_directory, platform.fdatasync = sync, platform_sync

    patch.setattr("ftwallet.journal.journal.write_mark", write)


BREAKS = {"mark-after-removal": _remove_before_the_mark, "mark-unsynced": _mark_without_a_sync}
"""Rules of a trimming that are broken on purpose: the crashes must find each."""


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_rule_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    BREAKS[name](monkeypatch)
    with pytest.raises(Corruption, match=r"segments before this one are missing|damaged"):
        _crash_in_every_step(tmp_path)


def _crash_in_every_step(tmp_path: Path) -> list[str]:
    _, reference = make(tmp_path / "reference")
    wanted = boundaries(tmp_path / "reference")[3]

    def trim(node: Path, _: Story) -> None:
        journal = open_log(node, _SEGMENT_BYTES)
        journal.trim(boundaries(node)[1])
        trim_all(journal, wanted)

    def check(node: Path, story: Story) -> None:
        journal = open_log(node, _SEGMENT_BYTES)
        assert list(journal.blocks()) == [block for block in reference if block.first_lsn >= journal.first_lsn]
        assert boundaries(node)[0] == journal.first_lsn - 1 <= wanted
        if story.done:
            assert journal.first_lsn == wanted + 1
        trim_all(journal, wanted)
        assert journal.first_lsn == wanted + 1
        journal.close()
        goes_on(node, _SEGMENT_BYTES)

    return crash_everywhere(tmp_path, lambda node: make(node)[0].close(), trim, check)


def test_C8_D5_a_state_sync_after_a_trimming(tmp_path: Path) -> None:
    _, reference = make(tmp_path / "reference")
    last = reference[-1]
    head = Head(last.last_lsn + 20, bytes(range(32)), 2, last.last_lsn + 20, ((1, last.last_lsn),))

    def prepare(node: Path) -> None:
        journal, _ = make(node)
        journal.trim(boundaries(node)[2])
        journal.close()

    def check(node: Path, story: Story) -> None:
        journal = open_log(node, _SEGMENT_BYTES)
        begun = (journal.first_lsn, journal.durable_lsn) == (head.lsn + 1, head.lsn)
        assert begun or list(journal.blocks()) == [one for one in reference if one.first_lsn >= journal.first_lsn]
        assert begun or not story.done
        assert read_mark(node / "journal").trimmed is None or not begun
        journal.close()
        goes_on(node, _SEGMENT_BYTES)

    crash_everywhere(tmp_path, prepare, lambda node, _: open_log(node, _SEGMENT_BYTES).begin_after(head), check)


def test_D1_a_full_disk_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal, blocks = make(tmp_path)

    def refuse(fd: int, data: bytes, offset: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(platform, "write_all", refuse)
        with pytest.raises(DiskFault, match="could not be trimmed: No space left"):
            journal.trim(boundaries(tmp_path)[2])
    assert list(journal.blocks()) == blocks
    grow(journal, 300)
    journal.trim(boundaries(tmp_path)[2])
    goes_on_from(journal, tmp_path)


def test_appends_and_reads_go_on_meanwhile(tmp_path: Path) -> None:
    journal, blocks = make(tmp_path)
    over = threading.Event()

    def trim() -> None:
        while not over.is_set():
            trim_all(journal, journal.commit_lsn)

    trimmer = threading.Thread(target=trim)
    trimmer.start()
    try:
        for _ in range(100):
            blocks += grow(journal, 300, 300)
            journal.append_mark(journal.durable_lsn)
            assert journal.read(journal.durable_lsn, 1) == blocks[-1:]
    finally:
        over.set()
        trimmer.join()
    assert journal.first_lsn > 1
    first_lsn, end = journal.first_lsn, journal.durable_lsn
    journal.close()
    again = open_log(tmp_path, _SEGMENT_BYTES)
    assert (again.first_lsn, again.durable_lsn) == (first_lsn, end)
    assert list(again.blocks()) == [block for block in blocks if block.first_lsn >= first_lsn]


def test_a_look_from_outside_finds_a_log_that_is_trimmed_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, _ = make(tmp_path)
    lsn = boundaries(tmp_path)[2]
    looks = 0

    def find(directory: Path, cluster_id: str) -> object:
        nonlocal looks
        looks += 1
        if looks == 1:
            journal.trim(lsn)
            raise Corruption(directory, 0, "the segments before this one are missing")
        return find_segments(directory, cluster_id)

    monkeypatch.setattr("ftwallet.journal.recovery.find_segments", find)
    assert look(tmp_path / "journal", CLUSTER).first_lsn == lsn + 1


def test_a_copy_of_the_directory_is_trimmed_too(tmp_path: Path) -> None:
    journal, blocks = make(tmp_path / "a")
    journal.trim(boundaries(tmp_path / "a")[2])
    journal.close()
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    copied = open_log(tmp_path / "b", _SEGMENT_BYTES)
    assert list(copied.blocks()) == [block for block in blocks if block.first_lsn >= copied.first_lsn]
