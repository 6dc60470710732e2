"""Checkpoints: the state at one lsn, so that a start replays only what came after.

Each can be made again from the log, unless that begins after a checkpoint (a state sync). A file appears
under its name only when it is whole and synced. The newest two are kept, so that a damaged one costs a
longer replay and nothing else. A checkpoint says how far it got (lsn and chain), and counts only for a log
that holds just that: `Journal.holds`.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO
from zlib import crc32

import msgspec

from ftwallet import platform
from ftwallet.errors import DiskFault, ExitCode, Refused
from ftwallet.journal.damage import disk_errors

FORMAT_VERSION = 1

_SUFFIX = ".checkpoint"
_DRAFT_SUFFIX = ".draft"
_MAGIC = b"FTWCKPT\xa5"
_PREFIX = struct.Struct("<8sHHII")  # magic, version, its complement, length of the meta, its CRC
_CHUNK = struct.Struct("<II")  # length, CRC; after the last chunk _END and how many there were
_END = 0xFFFFFFFF
_VERSION_MASK = 0xFFFF


class CheckpointMeta(msgspec.Struct, frozen=True):
    """What a checkpoint is of: the log up to `lsn`, whose hash is `chain` (32 bytes).

    `digest` (32 bytes) is that of the state; `history` lists (epoch, last lsn in it), oldest first.
    """

    lsn: int
    epoch: int
    chain: bytes
    digest: bytes
    history: list[tuple[int, int]]
    format_version: int = FORMAT_VERSION


class DamagedCheckpoint(DiskFault):
    """Why a checkpoint cannot be used."""


def write_checkpoint(directory: Path, meta: CheckpointMeta, chunks: Iterable[bytes]) -> Path:
    """Write a checkpoint, durably, and drop all but it and the one before; return its file.

    A crash or a fault at any point leaves the older ones as they were. Takes as long as `chunks` do; any
    thread, one at a time. Raises DiskFault.
    """
    path = directory / f"{meta.lsn:020d}{_SUFFIX}"
    draft = path.with_suffix(_DRAFT_SUFFIX)
    with disk_errors(path, "written"):
        platform.make_directory(directory)
        try:
            _write_draft(draft, meta, chunks)
        except OSError:
            with contextlib.suppress(OSError):
                platform.remove(draft)  # a full disk must not stay full of half a checkpoint
            raise
        platform.rename(draft, path)
        platform.fsync_directory(directory)  # before the older ones go: or a crash could leave none
        _prune(directory, path)
    return path


def load_newest(
    directory: Path,
    usable: Callable[[CheckpointMeta], bool] = lambda _: True,
    report: Callable[[str], None] = lambda _: None,
) -> tuple[CheckpointMeta, Iterator[bytes]] | None:
    """Find the newest checkpoint that is whole and `usable`; return what it is of, and its chunks.

    The file is checked to its end before it is returned. `report` gets a sentence for each that was passed
    over. Raises Refused if one was written by a newer program.
    """
    found = find_newest(directory, usable, report)
    return (found[0], _chunks(found[1])) if found else None


def find_newest(
    directory: Path,
    usable: Callable[[CheckpointMeta], bool] = lambda _: True,
    report: Callable[[str], None] = lambda _: None,
) -> tuple[CheckpointMeta, Path] | None:
    """As `load_newest`, and return the file itself."""
    for path in reversed(list_files(directory)):
        try:
            meta = _check(path)
        except (DamagedCheckpoint, OSError) as error:
            report(f"{path} is passed over: {error}")
            continue
        if usable(meta):
            return meta, path
        report(f"{path} is passed over: it is not of this log")
    return None


def list_files(directory: Path) -> list[Path]:
    """The checkpoints of a directory by their names, oldest first; whether they are sound is not known."""
    return sorted(directory.glob(f"*{_SUFFIX}"))


def lsn_of(path: Path) -> int:
    """What the name of a checkpoint's file says that it is of."""
    return int(path.stem)


def load_file(path: Path) -> tuple[CheckpointMeta, Iterator[bytes]]:
    """Check a file to its end; return what it is of, and its chunks.

    Raises DamagedCheckpoint, Refused if it was written by a newer program, OSError.
    """
    return _check(path), _chunks(path)


def adopt_file(file: Path, directory: Path, lsn: int) -> None:
    """Give a checkpoint that was made elsewhere, whole and synced, its name among ours, durably. Raises DiskFault."""
    path = directory / f"{lsn:020d}{_SUFFIX}"
    with disk_errors(path, "written"):
        platform.make_directory(directory)
        platform.rename(file, path)
        platform.fsync_directory(directory)


def drop_others(directory: Path, lsn: int) -> None:
    """Remove every checkpoint but that at `lsn`. Raises DiskFault."""
    kept = directory / f"{lsn:020d}{_SUFFIX}"
    with disk_errors(directory, "tidied"):
        for path in {*directory.glob(f"*{_SUFFIX}"), *directory.glob(f"*{_DRAFT_SUFFIX}")} - {kept}:
            platform.remove(path)
        platform.fsync_directory(directory)


def _write_draft(draft: Path, meta: CheckpointMeta, chunks: Iterable[bytes]) -> None:
    fd = platform.create_file(draft)
    try:
        offset = 0
        for piece in _pieces(meta, chunks):
            platform.write_all(fd, piece, offset)
            offset += len(piece)
        platform.fdatasync(fd)
    finally:
        os.close(fd)


def _pieces(meta: CheckpointMeta, chunks: Iterable[bytes]) -> Iterator[bytes]:
    content = msgspec.msgpack.encode(meta)
    version = meta.format_version
    yield _PREFIX.pack(_MAGIC, version, version ^ _VERSION_MASK, len(content), crc32(content)) + content
    count = 0
    for chunk in chunks:
        yield _CHUNK.pack(len(chunk), crc32(chunk)) + chunk
        count += 1
    yield _CHUNK.pack(_END, count)


def _prune(directory: Path, newest: Path) -> None:
    """Keep two.

    One with a higher lsn than the newest is of a tail that was cut, and would only be in the way.
    """
    older = sorted(path for path in directory.glob(f"*{_SUFFIX}") if path < newest)
    stale = set(directory.glob(f"*{_SUFFIX}")) - {newest, *older[-1:]}
    for path in (*stale, *directory.glob(f"*{_DRAFT_SUFFIX}")):
        platform.remove(path)


def _check(path: Path) -> CheckpointMeta:
    """Read all of a file. Raises DamagedCheckpoint, Refused, OSError."""
    with path.open("rb") as file:
        meta = _read_meta(path, file)
        for _ in _read_chunks(file):
            pass
    return meta


def _chunks(path: Path) -> Iterator[bytes]:
    with disk_errors(path, "read"), path.open("rb") as file:
        _read_meta(path, file)
        yield from _read_chunks(file)


def _read_meta(path: Path, file: BinaryIO) -> CheckpointMeta:
    magic, version, complement, size, crc = _PREFIX.unpack(_exactly(file, _PREFIX.size))
    if magic != _MAGIC or version ^ complement != _VERSION_MASK:
        raise DamagedCheckpoint("it does not begin like a checkpoint")
    if version > FORMAT_VERSION:
        raise Refused(
            f"{path} has format version {version}, this program knows up to {FORMAT_VERSION}: run the newer program",
            ExitCode.WRONG_DIRECTORY,
        )
    content = _exactly(file, size)
    if crc32(content) != crc:
        raise DamagedCheckpoint("its description does not match its checksum")
    return msgspec.msgpack.decode(content, type=CheckpointMeta)


def _read_chunks(file: BinaryIO) -> Iterator[bytes]:
    count = 0
    while True:
        offset = file.tell()
        size, crc = _CHUNK.unpack(_exactly(file, _CHUNK.size))
        if size == _END:
            break
        chunk = _exactly(file, size)
        if crc32(chunk) != crc:
            raise DamagedCheckpoint(f"the chunk at byte {offset} does not match its checksum")
        yield chunk
        count += 1
    if count != crc or file.read(1):
        raise DamagedCheckpoint("it does not end where it should")


def _exactly(file: BinaryIO, size: int) -> bytes:
    if size > os.fstat(file.fileno()).st_size - file.tell():  # asked first: a damaged size may be gigabytes
        raise DamagedCheckpoint("it ends too early")
    return file.read(size)
