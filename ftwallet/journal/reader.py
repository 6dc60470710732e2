"""Reading a log that stands still, or that only grows behind the end that is given.

Every frame is checked on its way: what is returned continues the log from its first record.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Generator
from contextlib import closing

from ftwallet.journal.damage import Corruption
from ftwallet.journal.frames import Block, End
from ftwallet.journal.recovery import Log
from ftwallet.journal.segments import Point, Scan, reading


class BeforeFirst(ValueError):
    """A record that the log does not have any more, or never had."""


def blocks(log: Log, from_lsn: int) -> Generator[Block, None, None]:
    """Yield the blocks from the one that holds `from_lsn` to the end of the log.

    Raises BeforeFirst if `from_lsn` is before the log's first record, Corruption, DiskFault.
    """
    if from_lsn < log.first_lsn:
        raise BeforeFirst(f"the log begins with lsn {log.first_lsn}, and lsn {from_lsn} was asked for")
    if from_lsn <= log.end.head.lsn:
        for index in range(_segment_with(log, from_lsn), len(log.segments)):
            for _, block in _segment_blocks(log, index, from_lsn):
                yield block


def place_after(log: Log, lsn: int) -> tuple[int, Point]:
    """Find where the block after `lsn` begins: the index of its segment, and the place in it.

    Raises KeyError if no block begins there, or if the log begins later, Corruption, DiskFault.
    """
    if log.first_lsn - 1 <= lsn < log.end.head.lsn:
        index = _segment_with(log, lsn + 1)
        with closing(_segment_blocks(log, index, lsn + 1)) as found:
            place, block = next(found)
        if block.first_lsn == lsn + 1:
            return index, place
    raise KeyError(f"no block ends at lsn {lsn}")


def holds(log: Log, lsn: int, chain: bytes) -> bool:
    """Tell whether the log up to `lsn` is the one that has this hash. Raises Corruption, DiskFault."""
    end = log.end.head
    try:
        return (end.chain if lsn == end.lsn else place_after(log, lsn)[1].head.chain) == chain
    except KeyError:
        return False


def _segment_with(log: Log, lsn: int) -> int:
    return bisect_right(log.segments, lsn, key=lambda segment: segment.first_lsn) - 1


def _segment_blocks(log: Log, index: int, from_lsn: int) -> Generator[tuple[Point, Block], None, None]:
    """Yield the blocks of one segment from the one that holds `from_lsn`, each with its place."""
    segment = log.segments[index]
    sealed = index + 1 < len(log.segments)
    last = log.segments[index + 1].start.head if sealed else log.end.head
    with reading(segment.path) as fd:
        limit = os.fstat(fd).st_size if sealed else log.end.offset
        place = segment.point_before(from_lsn)
        scan = Scan(segment.path, fd, place, limit)
        for frame in scan:
            if isinstance(frame, Block) and frame.last_lsn >= from_lsn:
                yield place, frame
            place = scan.point
            if sealed:  # the writer notes the places of the newest
                segment.note(place)
            if place.head.lsn >= last.lsn:
                break
    if (place.head.lsn, place.head.chain) != (last.lsn, last.chain):
        why = f"the log ends at lsn {place.head.lsn} here, and went on to lsn {last.lsn}"
        raise Corruption(segment.path, place.offset, why if isinstance(scan.verdict, End) else scan.verdict.why)
