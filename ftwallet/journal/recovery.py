"""Opening a log after any crash: find its segments and its end, and cut an unfinished last frame.

Cut, after a copy, is only what `frames.judge` calls torn, in the newest segment. Anything else that is
wrong is Corruption and is left as it is. Older segments are vouched for by the header of the one after
them, and checked frame by frame when they are read.
"""

from __future__ import annotations

import os
import time
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from ftwallet import platform
from ftwallet.errors import DiskFault, ExitCode, Refused
from ftwallet.journal import quarantine
from ftwallet.journal.damage import Corruption, disk_errors
from ftwallet.journal.frames import Corrupt, Torn, Verdict
from ftwallet.journal.head import EMPTY
from ftwallet.journal.segments import (
    DRAFT_SUFFIX,
    SUFFIX,
    Point,
    Scan,
    Segment,
    create_segment,
    read_segment,
    reading,
)
from ftwallet.journal.trimming import read_mark, remove_mark

_LOOKS = 10  # at a log that another process trims meanwhile

_PAUSES_S = (0.01, 0.1)
"""Pauses before a log that is maybe being written is read again; a frame's bytes are in the file in far less."""


class Log(NamedTuple):
    """The segments, oldest first, and the place in the newest behind the last frame."""

    segments: tuple[Segment, ...]
    end: Point

    @property
    def first_lsn(self) -> int:
        """The lsn of its first record, or of the first to come: greater than 1 after a state sync or a trimming."""
        return self.segments[0].first_lsn


class TornTail(NamedTuple):
    """What an open cut off: `size` bytes from `offset` of a segment, kept in the directory `quarantine`."""

    path: Path
    offset: int
    size: int
    why: str
    quarantine: Path


def quarantine_of(directory: Path) -> Path:
    """The directory beside the journal's that keeps what is cut from it."""
    return directory.parent / "quarantine"


def recover(directory: Path, cluster_id: str, create: bool) -> tuple[Log, TornTail | None]:
    """Open a log for writing: all of it is durable when this returns.

    Raises Refused (another cluster, a newer format, no journal where `create` is false), Corruption,
    DiskFault.
    """
    with disk_errors(directory, "prepared"):
        platform.make_directory(directory)
        for draft in directory.glob(f"*{DRAFT_SUFFIX}"):  # the creation of a segment that did not finish
            platform.remove(draft)
        platform.fsync_directory(directory)  # the newest segment may have got its name right before a crash
        segments = find_segments(directory, cluster_id)
        if not segments and create:
            segments = (create_segment(directory, cluster_id, 0, EMPTY),)
    if not segments:
        raise _no_journal(directory)
    with disk_errors(directory, "tidied"):
        if not read_mark(directory).precedes(segments[0]):
            remove_mark(directory)  # of a log that was replaced
        remove_older(segments[0].path)  # what a crash has kept `Journal.begin_after` or `Journal.trim` from removing
    newest = segments[-1]
    _make_durable(newest.path)
    end, verdict = survey(newest)
    torn = _cut_torn(newest, end, verdict.why) if isinstance(verdict, Torn) else None
    return Log(segments, end), torn


def _no_journal(directory: Path) -> Refused:
    return Refused(
        f"{directory} holds no journal, and this node has had one: put it back, or rebuild the node from its partner "
        "(docs/operations.md)",
        ExitCode.WRONG_DIRECTORY,
    )


def look(directory: Path, cluster_id: str) -> Log:
    """Read a log that another process may be writing; an unfinished last frame is its end. Changes nothing.

    Raises Refused (as `recover`, or if there is no journal), Corruption, DiskFault.
    """
    for _ in range(_LOOKS):
        mark = read_mark(directory)
        try:
            segments = find_segments(directory, cluster_id)
            if not segments:
                raise _no_journal(directory)
            return Log(segments, _end_while_written(segments[-1]))
        except DiskFault as fault:
            if read_mark(directory) == mark:
                raise
            trimmed = fault  # segments were removed between two looks at the directory
    raise trimmed


def find_segments(directory: Path, cluster_id: str) -> tuple[Segment, ...]:
    """Read the headers of all segments, oldest first, none missing in between.

    The log begins with the newest segment that has nothing before it, or that it was trimmed to begin with: older ones
    are of a log that this one has replaced, or on their way out. Raises Refused, Corruption, DiskFault.
    """
    mark = read_mark(directory)
    segments: list[Segment] = []
    for path in sorted(directory.glob(f"*{SUFFIX}"), reverse=True):
        segments.insert(0, read_segment(path, cluster_id))
        if segments[0].before == 0 or mark.precedes(segments[0]):
            break
    if segments and segments[0].before != 0 and not mark.precedes(segments[0]):
        why = "the segments before this one are missing"
        raise Corruption(segments[0].path, 0, f"{why}: {mark.damage}" if mark.damage else why)
    for older, newer in pairwise(segments):
        if newer.before != older.first_lsn:
            raise Corruption(newer.path, 0, f"the segment before it, of lsn {newer.before}, is missing")
    return tuple(segments)


def remove_older(first: Path) -> None:
    """Remove the segments that are older than the first one of the log, oldest first. Raises OSError.

    Each durably, before the next: should the mark of a trimming be damaged later, no hole is between what is left.
    """
    for path in sorted(path for path in first.parent.glob(f"*{SUFFIX}") if path.name < first.name):
        platform.remove(path)
        platform.fsync_directory(first.parent)


def survey(segment: Segment) -> tuple[Point, Verdict]:
    """Read all frames of the newest segment; return its end, and whether it is torn.

    Raises Corruption, DiskFault.
    """
    with reading(segment.path) as fd:
        scan = Scan(segment.path, fd, segment.start, os.fstat(fd).st_size)
        for _ in scan:
            segment.note(scan.point)
    if isinstance(scan.verdict, Corrupt):
        raise Corruption(segment.path, scan.point.offset, scan.verdict.why)
    return scan.point, scan.verdict


def _end_while_written(segment: Segment) -> Point:
    """Read all frames of a segment that another process may be writing; return its end.

    While a frame is written over zeros a reader may see any part of it, which can look like damage: only what looks
    like that again and again is. Raises Corruption, DiskFault.
    """
    for pause_s in _PAUSES_S:
        try:
            return survey(segment)[0]
        except Corruption:
            time.sleep(pause_s)
    return survey(segment)[0]


def _make_durable(path: Path) -> None:
    """Sync what a killed process wrote and never synced, before anybody is told that it is durable.

    If that process ended because its sync failed, the kernel may still show pages that never reached the
    disk: they are dropped, so that what is read next is what is there.
    """
    with disk_errors(path, "synced"):
        fd = os.open(path, os.O_RDWR)
        try:
            platform.fdatasync(fd)
            platform.drop_cache(fd)
        finally:
            os.close(fd)


def _cut_torn(segment: Segment, end: Point, why: str) -> TornTail:
    path, offset = segment.path, end.offset
    with disk_errors(path, "cut"):
        until = path.stat().st_size
        kept = quarantine.keep(quarantine_of(path.parent), end.head.lsn, why, [quarantine.Tail(path, offset, until)])
        truncate_file(path, offset)
    return TornTail(path, offset, until - offset, why, kept)


def truncate_file(path: Path, length: int) -> None:
    """Cut a file to `length` bytes, durably. Raises OSError."""
    fd = os.open(path, os.O_RDWR)
    try:
        platform.truncate(fd, length)
        platform.fdatasync(fd)
    finally:
        os.close(fd)
