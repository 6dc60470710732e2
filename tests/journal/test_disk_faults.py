"""A disk that refuses: the journal is poisoned, and the file is not touched again."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ftwallet import platform
from ftwallet.errors import DiskFault
from ftwallet.journal import Journal
from tests.journal.logs import grow, make_log, next_block, open_log, quarantined, segment_files

EIO = OSError(errno.EIO, os.strerror(errno.EIO))
ENOSPC = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def refuse(patch: pytest.MonkeyPatch, operation: str, error: OSError = EIO) -> list[str]:
    """Make one file operation fail from now on; the list tells how often it was tried."""
    tried: list[str] = []

    def fail(*_: object) -> None:
        tried.append(operation)
        raise error

    patch.setattr(platform, operation, fail)
    return tried


def forbid_all(patch: pytest.MonkeyPatch) -> None:
    """Make any further touch of a file an error that nothing turns into a DiskFault."""

    def touched(*_: object) -> None:
        raise AssertionError("a poisoned file was touched")

    for operation in (
        "write_all",
        "fdatasync",
        "create_file",
        "rename",
        "truncate",
        "remove",
        "fsync_directory",
    ):
        patch.setattr(platform, operation, touched)


@pytest.mark.parametrize("operation", ["write_all", "fdatasync"])
@pytest.mark.parametrize("error", [EIO, ENOSPC])
def test_D2_a_failed_write_or_sync_poisons_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str, error: OSError
) -> None:
    journal = open_log(tmp_path)
    blocks = grow(journal, 30, 30)
    with monkeypatch.context() as patch:
        refuse(patch, operation, error)
        with pytest.raises(DiskFault, match=rf"0001\.journal could not be written: {error.strerror}"):
            grow(journal, 30)
    assert (journal.durable_lsn, journal.chain) == (3, blocks[-1].chain)
    forbid_all(monkeypatch)
    for again in (
        lambda: journal.append(next_block(journal)),
        lambda: journal.append_mark(1),
        lambda: journal.cut(1, "a test"),
    ):
        with pytest.raises(DiskFault, match=str(error.strerror)):
            again()
    assert journal.fault is not None
    assert list(journal.blocks()) == blocks


@pytest.mark.parametrize("operation", ["write_all", "fdatasync"])
def test_D2_a_mark_that_fails_poisons_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    journal = open_log(tmp_path)
    grow(journal, 30)
    refuse(monkeypatch, operation)
    with pytest.raises(DiskFault):
        journal.append_mark(1)
    assert journal.commit_lsn == 0
    forbid_all(monkeypatch)
    with pytest.raises(DiskFault):
        grow(journal, 30)


@pytest.mark.parametrize("operation", ["create_file", "write_all", "fdatasync", "rename", "fsync_directory"])
def test_D2_a_segment_that_cannot_be_made_poisons_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    journal = open_log(tmp_path, 600)
    blocks = grow(journal, 700)
    with monkeypatch.context() as patch:
        refuse(patch, operation)
        with pytest.raises(DiskFault):
            grow(journal, 30)
    with monkeypatch.context() as patch:
        forbid_all(patch)
        with pytest.raises(DiskFault):
            grow(journal, 30)
    again = open_log(tmp_path, 600)
    assert list(again.blocks()) == blocks
    grow(again, 30)


@pytest.mark.parametrize(
    "operation", ["create_file", "write_all", "fdatasync", "rename", "fsync_directory", "remove", "truncate"]
)
def test_D2_a_cut_that_fails_poisons_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    journal = open_log(tmp_path, 600)
    blocks = grow(journal, 300, 300, 300, 300)
    with monkeypatch.context() as patch:
        tried = refuse(patch, operation)
        with pytest.raises(DiskFault):
            journal.cut(1, "a test")
        assert len(tried) == 1
    with monkeypatch.context() as patch:
        forbid_all(patch)
        with pytest.raises(DiskFault):
            journal.append_mark(1)
    again = open_log(tmp_path, 600)
    read = list(again.blocks())
    assert read == blocks[: len(read)]
    assert read


@pytest.mark.parametrize("operation", ["fdatasync", "fsync_directory"])
def test_D2_a_log_that_cannot_be_synced_is_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    make_log(tmp_path, 30)
    refuse(monkeypatch, operation)
    with pytest.raises(DiskFault, match="Input/output error"):
        open_log(tmp_path)


def test_D3_a_torn_tail_that_cannot_be_kept_is_not_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_log(tmp_path, 30, 30)
    path = segment_files(tmp_path)[0]
    os.truncate(path, path.stat().st_size - 5)
    torn = path.read_bytes()
    with monkeypatch.context() as patch:
        refuse(patch, "create_file", ENOSPC)
        with pytest.raises(DiskFault, match=r"quarantine.* could not be written: No space left"):
            open_log(tmp_path)
    assert path.read_bytes() == torn
    journal = open_log(tmp_path)
    assert journal.torn is not None
    assert journal.durable_lsn == 1


def test_D1_a_write_that_stops_half_way_leaves_a_torn_tail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = open_log(tmp_path)
    blocks = grow(journal, 30)
    whole = next_block(journal)
    pwrite = os.pwrite

    def until_full(fd: int, data: bytes, offset: int) -> int:
        if len(data) < 100:
            raise ENOSPC
        return pwrite(fd, bytes(data[:77]), offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", until_full)
        with pytest.raises(DiskFault, match="No space left"):
            journal.append(whole)
    again = open_log(tmp_path)
    assert again.torn is not None
    (kept,) = quarantined(tmp_path)
    assert (len(kept), kept.rstrip(b"\0")) == (again.torn.size, whole.raw[:77].rstrip(b"\0"))
    assert list(again.blocks()) == blocks


@pytest.mark.parametrize("room", [0, 100, 600])
def test_D1_where_there_is_no_room_for_zeros_the_log_grows_frame_by_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    """`room`: bytes of a frame and its zeros that are written before the disk says that it is full."""
    journal = open_log(tmp_path)
    write_all = platform.write_all

    def write(fd: int, data: bytes, offset: int) -> None:
        if len(data) > 1000:
            write_all(fd, data[:room], offset)
            raise ENOSPC
        write_all(fd, data, offset)

    with monkeypatch.context() as patch:
        patch.setattr(platform, "write_all", write)
        blocks = grow(journal, 30, 300, 30)
    assert journal.fault is None
    blocks += grow(journal, 30, 30)
    journal.close()
    again = open_log(tmp_path)
    assert (again.torn, list(again.blocks())) == (None, blocks)


def test_D2_a_disk_that_fails_while_zeros_are_written_poisons_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = open_log(tmp_path)
    tried = refuse(monkeypatch, "write_all", EIO)
    with pytest.raises(DiskFault):
        grow(journal, 30)
    assert len(tried) == 1
    assert journal.fault is not None


def test_anything_that_interrupts_a_write_poisons_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal: Journal = open_log(tmp_path)

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(platform, "fdatasync", interrupt)
        with pytest.raises(KeyboardInterrupt):
            grow(journal, 30)
    with pytest.raises(DiskFault, match="in the middle of a write"):
        grow(journal, 30)
