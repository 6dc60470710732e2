"""Checkpoints: the newest good one is used, and the older is there when it is not."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftwallet import platform
from ftwallet.errors import DiskFault, Refused
from ftwallet.journal.checkpoints import CheckpointMeta, load_newest, write_checkpoint

CHUNKS = [b"one" * 50, b"", b"three"]


def meta_of(lsn: int) -> CheckpointMeta:
    return CheckpointMeta(lsn, 2, bytes(range(32)), b"d" * 32, [(1, 1), (2, lsn)])


def newest(directory: Path) -> tuple[int, list[str]]:
    """The lsn of the checkpoint that is used, 0 for none, and why others were not."""
    reasons: list[str] = []
    loaded = load_newest(directory, report=reasons.append)
    if loaded is None:
        return 0, reasons
    meta, chunks = loaded
    assert meta == meta_of(meta.lsn)
    assert list(chunks) == CHUNKS
    return meta.lsn, reasons


def test_a_checkpoint_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, meta_of(7), iter(CHUNKS))
    assert newest(tmp_path) == (7, [])


@given(st.lists(st.binary(max_size=300), max_size=8))
@settings(max_examples=30, deadline=None)
def test_any_chunks_come_back(tmp_path_factory: pytest.TempPathFactory, chunks: list[bytes]) -> None:
    directory = tmp_path_factory.mktemp("checkpoints")
    write_checkpoint(directory, meta_of(1), chunks)
    loaded = load_newest(directory)
    assert loaded is not None
    assert list(loaded[1]) == chunks


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
    assert newest(tmp_path / "none") == (0, [])
    for lsn in (9, 100, 20):  # 100 was of a tail that has been cut since
        write_checkpoint(tmp_path, meta_of(lsn), CHUNKS)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "00000000000000000009.checkpoint",
        "00000000000000000020.checkpoint",
    ]
    assert newest(tmp_path)[0] == 20


def test_D7_a_newest_checkpoint_with_any_byte_changed_is_passed_over_with_a_reason(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, meta_of(3), CHUNKS)
    path = write_checkpoint(tmp_path, meta_of(8), CHUNKS)
    whole = path.read_bytes()
    for at in range(len(whole)):
        flipped = bytearray(whole)
        flipped[at] ^= 1 << at % 8
        path.write_bytes(flipped)
        lsn, reasons = newest(tmp_path)
        assert lsn == 3
        assert len(reasons) == 1
        assert reasons[0].startswith(f"{path} is passed over: ")


def test_D7_a_newest_checkpoint_cut_anywhere_or_too_long_is_passed_over(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, meta_of(3), CHUNKS)
    path = write_checkpoint(tmp_path, meta_of(8), CHUNKS)
    whole = path.read_bytes()
    for content in (*(whole[:length] for length in range(len(whole))), whole + b"\0"):
        path.write_bytes(content)
        assert newest(tmp_path)[0] == 3


def test_D7_a_missing_newest_or_none_that_is_good(tmp_path: Path) -> None:
    for lsn in (3, 8):
        write_checkpoint(tmp_path, meta_of(lsn), CHUNKS)
    paths = sorted(tmp_path.iterdir())
    paths[1].unlink()
    assert newest(tmp_path) == (3, [])
    paths[0].write_bytes(b"")
    assert newest(tmp_path) == (0, [f"{paths[0]} is passed over: it ends too early"])


def test_D7_a_checkpoint_of_another_log_is_passed_over(tmp_path: Path) -> None:
    for lsn in (3, 8):
        write_checkpoint(tmp_path, meta_of(lsn), CHUNKS)
    reasons: list[str] = []
    loaded = load_newest(tmp_path, lambda meta: meta.lsn <= 5, reasons.append)
    assert loaded is not None
    assert loaded[0].lsn == 3
    assert reasons[0].endswith("0008.checkpoint is passed over: it is not of this log")


def test_I2_a_checkpoint_from_the_future_is_refused_with_both_versions_named(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, CheckpointMeta(1, 1, b"", b"", [], format_version=5), CHUNKS)
    with pytest.raises(Refused, match="version 5, this program knows up to 1"):
        load_newest(tmp_path)


@pytest.mark.parametrize("operation", ["create_file", "write_all", "fdatasync", "rename", "fsync_directory"])
def test_D1_D2_a_disk_that_refuses_leaves_the_older_one_and_no_half_written_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    write_checkpoint(tmp_path, meta_of(3), CHUNKS)

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(platform, operation, refuse)
        with pytest.raises(DiskFault, match=r"0008\.checkpoint could not be written: No space left"):
            write_checkpoint(tmp_path, meta_of(8), CHUNKS)
    assert newest(tmp_path)[0] in (3, 8)
    if operation in ("write_all", "fdatasync"):
        assert [path.name for path in tmp_path.iterdir()] == ["00000000000000000003.checkpoint"]
    write_checkpoint(tmp_path, meta_of(9), CHUNKS)
    assert newest(tmp_path)[0] == 9


def test_chunks_that_fail_leave_the_older_one(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, meta_of(3), CHUNKS)

    def breaking() -> Iterator[bytes]:
        yield b"one"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_checkpoint(tmp_path, meta_of(8), breaking())
    assert newest(tmp_path) == (3, [])
