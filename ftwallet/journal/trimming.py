"""The mark beside a log's segments that says where the log begins since older ones were removed on purpose.

It is durable before the first of them goes, and a log begins with the segment that it names from then on, whatever of
the older ones is still there. So a log that has lost its first segment never passes for one that was trimmed, and a
crash in between leaves nothing undecided. Only a segment with just this hash before it counts: the mark is of one log.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import msgspec

from ftwallet import platform
from ftwallet.errors import ExitCode, Refused
from ftwallet.journal.damage import disk_errors
from ftwallet.journal.segments import Segment

FORMAT_VERSION = 1
NAME = "trimmed"

_MAGIC = b"FTWTRIM\xa5"
_PREFIX = struct.Struct("<8sHHI")  # magic, version, its complement, CRC of the rest
_VERSION_MASK = 0xFFFF


class Trimmed(msgspec.Struct, array_like=True, frozen=True):
    """The last record that was removed, and the hash (32 bytes) over all records up to it."""

    lsn: int
    chain: bytes

    def precedes(self, segment: Segment) -> bool:
        """Whether the log begins with this segment."""
        head = segment.start.head
        return (head.lsn, head.chain) == (self.lsn, self.chain)


class Mark(NamedTuple):
    """What stands on disk: `trimmed` is None when there is no mark, or when it is damaged, which `damage` says."""

    trimmed: Trimmed | None = None
    damage: str = ""

    def precedes(self, segment: Segment) -> bool:
        """Whether the log was trimmed to begin with this segment."""
        return self.trimmed is not None and self.trimmed.precedes(segment)


def read_mark(directory: Path) -> Mark:
    """Read the mark of the log in `directory`. Raises Refused if a newer program wrote it, DiskFault."""
    path = directory / NAME
    with disk_errors(path, "read"):
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return Mark()
    damage = f"{path}, which says where a trimmed log begins, is damaged"
    if len(data) < _PREFIX.size:
        return Mark(None, damage)
    magic, version, complement, crc = _PREFIX.unpack_from(data)
    content = data[_PREFIX.size :]
    if magic != _MAGIC or version ^ complement != _VERSION_MASK:
        return Mark(None, damage)
    if version > FORMAT_VERSION:
        raise Refused(
            f"{path} has format version {version}, this program knows up to {FORMAT_VERSION}: run the newer program",
            ExitCode.WRONG_DIRECTORY,
        )
    if crc32(content) != crc:
        return Mark(None, damage)
    return Mark(msgspec.msgpack.decode(content, type=Trimmed))


def write_mark(directory: Path, first: Segment) -> None:
    """Have the log begin with this segment, durably. Raises OSError; the log begins where it did, or there, then."""
    head = first.start.head
    content = msgspec.msgpack.encode(Trimmed(head.lsn, head.chain))
    prefix = _PREFIX.pack(_MAGIC, FORMAT_VERSION, FORMAT_VERSION ^ _VERSION_MASK, crc32(content))
    platform.write_atomically(directory / NAME, prefix + content)


def remove_mark(directory: Path) -> None:
    """Forget durably where a log began that is not the one here: one that grows past there must not begin anew.

    Raises OSError.
    """
    if (directory / NAME).exists():
        platform.remove(directory / NAME)
        platform.fsync_directory(directory)
