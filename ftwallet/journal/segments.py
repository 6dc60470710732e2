"""The files of the journal: one segment each, a header and then frames.

A segment is named after its first lsn. Its header says which cluster it belongs to, what stands before it
(so that a start reads the newest segment alone), and the name of the segment before (so that a missing one
is noticed). It is written under another name and synced before it gets its own: a segment with a damaged
header is corrupt, never torn.

Frames are read with `pread`, never through a mapping: a bad sector then is an error that can be told, not a
SIGBUS.
"""

from __future__ import annotations

import os
import struct
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import msgspec

from ftwallet import platform
from ftwallet.errors import ExitCode, Refused
from ftwallet.journal.damage import Corruption, disk_errors
from ftwallet.journal.frames import SECTOR_BYTES, Block, End, Mark, Verdict, judge, whole_frame
from ftwallet.journal.head import Head, NotNext

FORMAT_VERSION = 1
SUFFIX = ".journal"
DRAFT_SUFFIX = ".draft"

_MAGIC = b"FTWJRNL\xa5"
_PREFIX = struct.Struct("<8sHHI")  # magic, version, its complement, length of the body
_CRC_BYTES = 4
_WINDOW_BYTES = 1 << 20
_POINT_EVERY_BYTES = 1 << 16
_VERSION_MASK = 0xFFFF


class _Body(msgspec.Struct, array_like=True, frozen=True):
    """The rest of a segment's header, in its order on disk."""

    cluster_id: str
    before: int
    lsn: int
    chain: bytes
    epoch: int
    commit_lsn: int
    ended: tuple[tuple[int, int], ...]


class Point(NamedTuple):
    """A place in a segment where a frame begins, and the head of the log before that frame."""

    offset: int
    head: Head


class Segment:
    """One file. `before` is the first lsn of the segment before it, 0 for the first."""

    def __init__(self, path: Path, before: int, start: Point) -> None:
        self.path = path
        self.before = before
        self.first_lsn = start.head.lsn + 1
        self._points = [start]

    @property
    def start(self) -> Point:
        """Where the frames begin."""
        return self._points[0]

    def note(self, point: Point) -> None:
        """Remember a place well past the last one, so that a later look-up need not read all before it."""
        if point.offset - self._points[-1].offset >= _POINT_EVERY_BYTES:
            self._points.append(point)

    def point_before(self, lsn: int) -> Point:
        """The last place noted at which the record `lsn` is still to come; the start for one of an older segment."""
        after = bisect_right(self._points, lsn - 1, key=lambda point: point.head.lsn)
        return self._points[max(after, 1) - 1]


def segment_name(first_lsn: int) -> str:
    """The file name of the segment that begins with this lsn."""
    return f"{first_lsn:020d}{SUFFIX}"


def create_segment(directory: Path, cluster_id: str, before: int, head: Head) -> Segment:
    """Create the segment that continues the log after `head`, durable under its name. Raises OSError.

    A crash before the rename leaves a draft, which an open removes; after it, a whole segment without frames.
    """
    path = directory / segment_name(head.lsn + 1)
    header = _encode_header(_Body(cluster_id, before, *head))
    draft = path.with_suffix(DRAFT_SUFFIX)
    fd = platform.create_file(draft)
    try:
        platform.write_all(fd, header, 0)
        platform.fdatasync(fd)
    finally:
        os.close(fd)
    platform.rename(draft, path)
    platform.fsync_directory(directory)  # before any frame: or a synced frame could vanish with its file
    return Segment(path, before, Point(len(header), head))


def read_segment(path: Path, cluster_id: str) -> Segment:
    """Read a segment's header.

    Raises Refused if it belongs to another cluster or to a newer program, Corruption if it is damaged,
    DiskFault if it cannot be read.
    """
    with reading(path) as fd:
        body, length = _read_header(path, fd)
    if body.cluster_id != cluster_id:
        raise Refused(
            f"{path} belongs to cluster {body.cluster_id}, this node to cluster {cluster_id}",
            ExitCode.WRONG_DIRECTORY,
        )
    head = Head(body.lsn, body.chain, body.epoch, body.commit_lsn, body.ended)
    if path.name != segment_name(body.lsn + 1):
        raise Corruption(path, 0, f"the header says that the segment begins with lsn {body.lsn + 1}")
    return Segment(path, body.before, Point(length, head))


def frames_begin_at(path: Path) -> int:
    """Return where the frames begin in a segment or a copy of one, of whatever cluster, in bytes.

    Raises Refused if it belongs to a newer program, Corruption if the header is damaged, DiskFault.
    """
    with reading(path) as fd:
        return _read_header(path, fd)[1]


@contextmanager
def reading(path: Path) -> Iterator[int]:
    """Open a file for reading; what goes wrong inside is a DiskFault."""
    with disk_errors(path, "read"):
        fd = os.open(path, os.O_RDONLY)
        try:
            yield fd
        finally:
            os.close(fd)


class Scan:
    """One pass over the frames of a file, each checked against its checksums and against the log before it.

    After the iteration `point` is the place behind the last good frame, and `verdict` says what stands there.
    """

    def __init__(self, path: Path, fd: int, start: Point, limit: int) -> None:
        self.point = start
        self.verdict: Verdict = End()
        self._path = path
        self._fd = fd
        self._limit = limit

    def __iter__(self) -> Iterator[Block | Mark]:
        """Yield the frames that begin before `limit` (bytes).

        Raises Corruption if one does not continue the log.
        """
        offset, head = self.point
        base, window = offset, b""
        while True:
            frame = whole_frame(window, offset - base)
            if frame is None:
                base, window, frame = self._refill(offset)
                if frame is None:
                    self.verdict = judge(window, 0, base)
                    return
            head = self._after(head, frame, offset)
            offset += len(frame.raw)
            self.point = Point(offset, head)
            yield frame

    def _refill(self, offset: int) -> tuple[int, bytes, Block | Mark | None]:
        """Read a window from `offset` on; all up to the limit if no whole frame begins it."""
        for size in (_WINDOW_BYTES, self._limit - offset):
            window = _read(self._fd, offset, min(size, self._limit - offset))
            frame = whole_frame(window, 0)
            if frame is not None or len(window) == self._limit - offset:
                break
        return offset, window, frame

    def _after(self, head: Head, frame: Block | Mark, offset: int) -> Head:
        try:
            return head.after(frame)
        except NotNext as error:
            raise Corruption(self._path, offset, f"the frame does not continue the log: {error}") from error


def _read(fd: int, offset: int, size: int) -> bytes:
    """Read `size` bytes, or fewer where the file ends."""
    data = os.pread(fd, size, offset)
    while len(data) < size:
        more = os.pread(fd, size - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data


def _encode_header(body: _Body) -> bytes:
    """Prefix, body, zeros to fill a whole number of sectors, and the CRC of it all in the last four bytes."""
    content = msgspec.msgpack.encode(body)
    prefix = _PREFIX.pack(_MAGIC, FORMAT_VERSION, FORMAT_VERSION ^ _VERSION_MASK, len(content))
    header = (prefix + content).ljust(_header_bytes(len(content)) - _CRC_BYTES, b"\0")
    return header + crc32(header).to_bytes(_CRC_BYTES, "little")


def _header_bytes(body_bytes: int) -> int:
    length = _PREFIX.size + body_bytes + _CRC_BYTES
    return length + -length % SECTOR_BYTES


def _read_header(path: Path, fd: int) -> tuple[_Body, int]:
    """Return the header and its length, where the frames begin."""
    prefix = _read(fd, 0, _PREFIX.size)
    if len(prefix) < _PREFIX.size:
        raise Corruption(path, 0, "the header of the segment is missing")
    magic, version, complement, body_bytes = _PREFIX.unpack(prefix)
    if magic != _MAGIC or version ^ complement != _VERSION_MASK:
        raise Corruption(path, 0, "this is not the header of a segment")
    if version > FORMAT_VERSION:
        raise Refused(
            f"{path} has format version {version}, this program knows up to {FORMAT_VERSION}: run the newer program",
            ExitCode.WRONG_DIRECTORY,
        )
    header = _read(fd, 0, _header_bytes(body_bytes))
    if crc32(header[:-_CRC_BYTES]).to_bytes(_CRC_BYTES, "little") != header[-_CRC_BYTES:]:
        raise Corruption(path, 0, "the header of the segment does not match its checksum")
    content = header[_PREFIX.size : _PREFIX.size + body_bytes]
    return msgspec.msgpack.decode(content, type=_Body), len(header)
