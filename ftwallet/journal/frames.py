"""The frame, the unit of writing: how a block or a mark looks as bytes, on disk and wire alike. No I/O.

A frame is a header with a CRC of its own (so that its length can be trusted), a payload with its CRC, and a
trailer. A block carries records and continues the hash chain; a mark only moves `commit_lsn` and takes no
lsn.

What is not a whole frame is judged here too. One frame is written at a time and synced before the next,
over bytes that do not exist yet or are zero, and a disk writes sectors whole. So an unfinished write can
only look like this: the file ends inside the last frame, or whole sectors of it are still zero (where a
frame shares its first or last sector with a neighbour, its own part of the sector), or it is zero from some
byte on, because the process was killed while the kernel took its bytes. That is torn. Everything else that
does not decode is corrupt: it may have been acknowledged, and is not ours to cut. First and last bytes of a
frame have several bits set, so that no single flipped bit makes the part of a shared sector, or the end of
a frame, look unwritten.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum
from hashlib import sha256
from typing import NamedTuple
from zlib import crc32

import msgspec

from ftwallet.errors import PeerViolation

FORMAT_VERSION = 1
SECTOR_BYTES = 512
NO_CHAIN = bytes(32)
"""The chain before the first record."""

_MAGIC = b"\xf7\x57\x4a\xb5"
_TRAILER = b"\xa5\x5a\xc3\x96"
_HEADER_BEFORE_CRC = struct.Struct("<4sBBHIQQIQ32sI")
_HEADER = struct.Struct(_HEADER_BEFORE_CRC.format + "I")
_HEADER_CRC_AT = _HEADER_BEFORE_CRC.size
_CHAINED = struct.Struct("<QQI")
_SMALLEST = _HEADER.size + len(_TRAILER)
_ZERO_RUN = bytes(128)  # shorter ones leave several bytes in any sector: no single bit empties it


class FrameKind(IntEnum):
    """What a frame holds; the numbers are on disk for ever."""

    BLOCK = 1
    MARK = 2


class Block(msgspec.Struct, frozen=True, gc=False):
    """Records with the dense lsns `first_lsn` … `last_lsn`, as they stand on disk and wire (`raw`).

    `commit_lsn` is what was committed when the block was made, always before `first_lsn`; `chain` (32
    bytes) is the hash over all records up to and with this block.
    """

    epoch: int
    first_lsn: int
    count: int
    commit_lsn: int
    chain: bytes
    payload: bytes
    raw: bytes

    @property
    def last_lsn(self) -> int:
        """The lsn of the last record in the block."""
        return self.first_lsn + self.count - 1


class Mark(NamedTuple):
    """A `commit_lsn` that moved while no block was written; the next block will have `first_lsn`."""

    epoch: int
    first_lsn: int
    commit_lsn: int
    chain: bytes
    raw: bytes


class Torn(NamedTuple):
    """An unfinished write at the end of the file."""

    why: str


class Corrupt(NamedTuple):
    """Bytes that are no frame and that no unfinished write explains."""

    why: str


class End(NamedTuple):
    """Nothing more: the file ends here, or only preallocated zeros follow."""


Verdict = Torn | Corrupt | End


class _Header(NamedTuple):
    """The fields of a header, in their order."""

    magic: bytes
    format_version: int
    kind: int
    flags: int
    payload_bytes: int
    epoch: int
    first_lsn: int
    record_count: int
    commit_lsn: int
    chain: bytes
    payload_crc: int
    header_crc: int


def next_chain(previous: bytes, epoch: int, first_lsn: int, count: int, payload: bytes) -> bytes:
    """Continue the hash chain by one block: sha256 over the chain before it and all that the block says."""
    return sha256(previous + _CHAINED.pack(epoch, first_lsn, count) + payload).digest()


def encode_block(
    epoch: int, first_lsn: int, count: int, commit_lsn: int, previous_chain: bytes, payload: bytes
) -> Block:
    """Frame `count` records for the disk and the wire.

    Raises ValueError if there is no record, or if the payload has 128 zero bytes in a row, so that it could
    be taken for a sector that was never written.
    """
    if count < 1:
        raise ValueError("a block holds at least one record")
    if _ZERO_RUN in payload:
        raise ValueError("a payload must not hold 128 zero bytes in a row")
    chain = next_chain(previous_chain, epoch, first_lsn, count, payload)
    raw = _encode(FrameKind.BLOCK, epoch, first_lsn, count, commit_lsn, chain, payload)
    return Block(epoch, first_lsn, count, commit_lsn, chain, payload, raw)


def encode_mark(epoch: int, next_lsn: int, commit_lsn: int, chain: bytes) -> Mark:
    """Frame a move of `commit_lsn`; epoch, next lsn and chain are those at which the log stands."""
    raw = _encode(FrameKind.MARK, epoch, next_lsn, 0, commit_lsn, chain, b"")
    return Mark(epoch, next_lsn, commit_lsn, chain, raw)


def decode_block(raw: bytes) -> Block:
    """Decode a block that came from the partner.

    Raises PeerViolation if it is not exactly one whole block.
    """
    frame = whole_frame(raw, 0)
    if not isinstance(frame, Block) or len(frame.raw) != len(raw):
        raise PeerViolation("the partner sent a block that does not decode")
    if _ZERO_RUN in frame.payload:
        raise PeerViolation("the partner sent a block that could be taken for unwritten")
    return frame


def whole_frame(buffer: bytes, offset: int) -> Block | Mark | None:
    """Decode the frame at `offset`; None if what is there is not a whole and undamaged frame."""
    if len(buffer) - offset < _SMALLEST:
        return None
    magic, version, kind, _, size, epoch, first_lsn, count, commit_lsn, chain, payload_crc, header_crc = (
        _HEADER.unpack_from(buffer, offset)
    )
    payload_at = offset + _HEADER.size
    trailer_at = payload_at + size
    end = trailer_at + len(_TRAILER)
    if (
        magic != _MAGIC
        or crc32(buffer[offset : offset + _HEADER_CRC_AT]) != header_crc
        or buffer[trailer_at:end] != _TRAILER  # shorter, and so different, where the buffer ends before
        or version != FORMAT_VERSION
    ):
        return None
    payload = buffer[payload_at:trailer_at]
    if crc32(payload) != payload_crc:
        return None
    raw = buffer[offset:end]
    if kind == FrameKind.BLOCK and count > 0:
        return Block(epoch, first_lsn, count, commit_lsn, chain, payload, raw)
    if kind == FrameKind.MARK and count == size == 0:
        return Mark(epoch, first_lsn, commit_lsn, chain, raw)
    return None


def next_whole_frame(buffer: bytes, offset: int) -> int | None:
    """Return where the next frame begins, from `offset` on, that is whole and undamaged; None if there is none."""
    at = buffer.find(_MAGIC, offset)
    while at >= 0:
        if whole_frame(buffer, at) is not None:
            return at
        at = buffer.find(_MAGIC, at + 1)
    return None


def judge(buffer: bytes, offset: int, base: int) -> Verdict:
    """Say what bytes are that `whole_frame` does not decode: torn, corrupt, or nothing but the end.

    `buffer` holds the file from its byte `base` to its end; sectors are counted from the file's first byte.
    """
    if _is_zero(buffer, offset, len(buffer)):
        return End()
    if len(buffer) - offset < _HEADER.size:
        return _judge_part_of_header(buffer, offset, base)
    header = _Header._make(_HEADER.unpack_from(buffer, offset))
    if header.magic != _MAGIC or header.header_crc != crc32(buffer[offset : offset + _HEADER_CRC_AT]):
        return _judge_without_header(buffer, offset, base)
    end = offset + _SMALLEST + header.payload_bytes
    if end > len(buffer):
        return Torn("the file ends inside its last frame")
    stopped_inside = buffer[end - 1] == 0
    if not stopped_inside and not _has_zero_part(buffer, offset, end, base):
        return Corrupt(_damage(header))
    if not _is_zero(buffer, end, len(buffer)):
        return Corrupt("a part of the frame is empty, and it is not the last frame")
    return Torn("a part of the last frame was never written")


def _encode(
    kind: FrameKind, epoch: int, first_lsn: int, count: int, commit_lsn: int, chain: bytes, payload: bytes
) -> bytes:
    payload_crc = crc32(payload)
    fields = (kind, 0, len(payload), epoch, first_lsn, count, commit_lsn, chain, payload_crc)
    header = _HEADER_BEFORE_CRC.pack(_MAGIC, FORMAT_VERSION, *fields)
    return b"".join((header, crc32(header).to_bytes(4, "little"), payload, _TRAILER))


def _judge_part_of_header(buffer: bytes, offset: int, base: int) -> Verdict:
    """Judge less than a header at the end of the file: a frame's beginning, or nothing that we wrote."""
    first_part = next(_parts(offset, len(buffer), base))
    if not _is_zero(buffer, *first_part) and not _begins_like_a_frame(buffer[offset:]):
        return Corrupt("these bytes begin no frame")
    return Torn("the file ends inside the header of its last frame")


def _judge_without_header(buffer: bytes, offset: int, base: int) -> Verdict:
    """Judge a frame of unknown length; an intact header later proves that it was not the last one."""
    content_at = offset + _HEADER.size
    if _is_zero(buffer, content_at, len(buffer)) and _begins_like_a_frame(buffer[offset:content_at]):
        return Torn("only a part of the last frame's header was written")  # a whole frame has its trailer behind it
    header_end = base + content_at
    sector_end = min(header_end + -header_end % SECTOR_BYTES - base, len(buffer))
    if not _has_zero_part(buffer, offset, sector_end, base):
        return Corrupt("the header of the frame is damaged")
    if _header_follows(buffer, offset):
        return Corrupt("the header of the frame is empty, and it is not the last frame")
    return Torn("the sector with the header of the last frame was never written")


def _begins_like_a_frame(data: bytes) -> bool:
    """Tell whether this may be the beginning of a frame, of any length, with zeros behind it."""
    return _MAGIC.startswith(data[: len(_MAGIC)].rstrip(b"\0"))


def _header_follows(buffer: bytes, offset: int) -> bool:
    at = buffer.find(_MAGIC, offset + 1)
    while at >= 0:
        crc = buffer[at + _HEADER_CRC_AT : at + _HEADER.size]
        if crc32(buffer[at : at + _HEADER_CRC_AT]).to_bytes(4, "little") == crc:
            return True
        at = buffer.find(_MAGIC, at + 1)
    return False


def _has_zero_part(buffer: bytes, start: int, end: int, base: int) -> bool:
    return any(_is_zero(buffer, *part) for part in _parts(start, end, base))


def _parts(start: int, end: int, base: int) -> Iterator[tuple[int, int]]:
    """Cut buffer[start:end] where the file's sectors begin."""
    while start < end:
        boundary = start + SECTOR_BYTES - (base + start) % SECTOR_BYTES
        yield start, min(boundary, end)
        start = boundary


def _is_zero(buffer: bytes, start: int, end: int) -> bool:
    return buffer[start:end] == bytes(end - start)


def _damage(header: _Header) -> str:
    if header.format_version != FORMAT_VERSION:
        return f"the frame has format version {header.format_version}, this program knows {FORMAT_VERSION}"
    return "the frame does not match its checksums"
