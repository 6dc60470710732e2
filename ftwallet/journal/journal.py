"""The write-ahead log of one node.

One thread appends and cuts (the disk thread); any thread reads; one trims. One frame is written and synced at a time,
and `durable_lsn` moves when the sync has returned: so at most the last frame can be unfinished after a
crash, and whatever a reader was shown is on the disk. The first write or sync that fails poisons the
journal: what the kernel did with the data is not known, so the file is never touched again, and the node is
to stop.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Self

from ftwallet import platform
from ftwallet.errors import BrokenInvariant, DiskFault, PeerViolation
from ftwallet.journal import quarantine, reader, recovery
from ftwallet.journal.damage import disk_errors
from ftwallet.journal.frames import Block, encode_mark
from ftwallet.journal.head import Head, NotNext
from ftwallet.journal.recovery import Log, TornTail
from ftwallet.journal.segments import Point, create_segment, read_segment, segment_name
from ftwallet.journal.trimming import remove_mark, write_mark

SEGMENT_BYTES = 64 << 20
PREPARED_BYTES = 1 << 20
"""Most zeros that are written ahead of the log's end at once, so that few have to be read when it is opened."""
_PREPARED_FRAMES = 128
_SMALL_FRAME_BYTES = 1 << 16
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_ITERATION_BYTES = 1 << 20
_TRIMMED_AT_ONCE = 4  # segments: reads wait for as many removals at most


class Journal:
    """An open log. Made by `Journal.open`."""

    def __init__(self, directory: Path, cluster_id: str, segment_bytes: int, log: Log) -> None:
        self.directory = directory
        self.torn: TornTail | None = None
        self._cluster_id = cluster_id
        self._segment_bytes = segment_bytes
        self._log = log  # replaced whole, so that a reader in another thread sees segments and end that fit
        self._fd: int | None = None
        self._prepared = 0  # the size of the newest file, all zeros behind the end of the log
        self._fault: str | None = None
        self._stays = threading.Lock()  # held while reading, so that a cut takes no bytes from under a reader
        self._changing = threading.Lock()  # held for a moment: writes change one end of the log, a trimming the other

    @classmethod
    def open(
        cls,
        directory: Path,
        cluster_id: str,
        segment_bytes: int = SEGMENT_BYTES,
        *,
        create: bool = True,
        read_only: bool = False,
    ) -> Self:
        """Open a node's log and recover it from whatever crash came before.

        A torn last frame is cut off after a copy has gone to `quarantine/` beside the directory; `torn`
        tells. With `read_only` nothing is changed, and the log is what it was when it was opened, for files
        that a running node writes. With `create` false a directory without a journal is refused: its log
        was lost.

        Raises Refused (another cluster, a newer format), Corruption (with file and offset), DiskFault.
        """
        if read_only:
            return cls(directory, cluster_id, segment_bytes, recovery.look(directory, cluster_id))
        log, torn = recovery.recover(directory, cluster_id, create)
        journal = cls(directory, cluster_id, segment_bytes, log)
        journal.torn = torn
        journal._open_newest()
        return journal

    def close(self) -> None:
        """Close the file; nothing is lost, all was synced."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    @property
    def first_lsn(self) -> int:
        """The first record, or the first to come: greater than 1 after a state sync or a trimming."""
        return self._log.first_lsn

    @property
    def durable_lsn(self) -> int:
        """The last record that is synced on this node's disk, `first_lsn - 1` if there is none."""
        return self._log.end.head.lsn

    @property
    def commit_lsn(self) -> int:
        """The newest commit_lsn on this disk, never past `durable_lsn`; more may be committed by now."""
        return self._log.end.head.commit_lsn

    @property
    def chain(self) -> bytes:
        """The hash (32 bytes) over all records up to `durable_lsn`."""
        return self._log.end.head.chain

    @property
    def epoch(self) -> int:
        """The epoch of the last record; 0 if there is none."""
        return self._log.end.head.epoch

    @property
    def history(self) -> list[tuple[int, int]]:
        """The epochs of the log as (epoch, last lsn in it), oldest first."""
        return self._log.end.head.history

    @property
    def fault(self) -> str | None:
        """Why the journal is poisoned; None while it is not."""
        return self._fault

    def free_bytes(self) -> int:
        """Bytes that may still be written on the journal's file system."""
        return platform.free_bytes(self.directory)

    def append(self, block: Block) -> None:
        """Write one block and sync it. Disk thread.

        Raises PeerViolation if the block does not continue the log (nothing is written then), DiskFault if
        the disk refuses it or refused anything before.
        """
        try:
            head = self._log.end.head.after_block(block)
        except NotNext as error:
            raise PeerViolation(f"a block of epoch {block.epoch} is refused: {error}") from error
        with self._poisoned_until_done():
            if self._log.end.offset >= self._segment_bytes and self.durable_lsn >= self._log.segments[-1].first_lsn:
                self._start_segment()  # never before the newest has a record: both would have one name
            self._write(block.raw, head)

    def append_mark(self, commit_lsn: int) -> None:
        """Write that `commit_lsn` moved while no block was due, and sync it; a known one costs nothing.

        Disk thread. Raises BrokenInvariant if it is past `durable_lsn`, DiskFault.
        """
        head = self._log.end.head
        if commit_lsn > head.lsn:
            raise BrokenInvariant(f"commit_lsn {commit_lsn} was to be recorded in a log that ends at {head.lsn}")
        if commit_lsn > head.commit_lsn:
            mark = encode_mark(head.epoch, head.lsn + 1, commit_lsn, head.chain)
            with self._poisoned_until_done():
                self._write(mark.raw, head.after_mark(mark))

    def read(self, from_lsn: int, max_bytes: int) -> list[Block]:
        """Read durable blocks in order, the first of them the one that holds `from_lsn`.

        As many as fit into `max_bytes`, but at least one; none if `from_lsn` is past `durable_lsn`. Any
        thread; may read for as long as the disk takes. Raises BeforeFirst if `from_lsn` is below `first_lsn`,
        Corruption, DiskFault.
        """
        blocks: list[Block] = []
        left = max_bytes
        with self._stays, closing(reader.blocks(self._log, from_lsn)) as found:
            for block in found:
                left -= len(block.raw)
                if left < 0 and blocks:
                    break
                blocks.append(block)
        return blocks

    def blocks(self, from_lsn: int | None = None) -> Iterator[Block]:
        """Read all blocks that were durable when asked for each, from the one that holds `from_lsn`, or all.

        As `read`.
        """
        from_lsn = self.first_lsn if from_lsn is None else from_lsn
        while blocks := self.read(from_lsn, _ITERATION_BYTES):
            yield from blocks
            from_lsn = blocks[-1].last_lsn + 1

    def chain_at(self, lsn: int) -> bytes:
        """The hash (32 bytes) over all records up to `lsn`, which is `first_lsn - 1` or the last of a block.

        Any thread; the first look into an old segment reads it. Raises KeyError if no block of this log ends
        there, Corruption, DiskFault.
        """
        head = self._log.end.head
        if lsn == head.lsn:
            return head.chain
        with self._stays:
            return reader.place_after(self._log, lsn)[1].head.chain

    def holds(self, lsn: int, chain: bytes) -> bool:
        """Tell whether the log up to `lsn` is the one that has this hash. Raises Corruption, DiskFault."""
        try:
            return self.chain_at(lsn) == chain
        except KeyError:
            return False

    def whole_until(self, lsn: int) -> int:
        """The last record of the newest older segment that has none after `lsn`; `first_lsn - 1` if all have."""
        ends = [segment.start.head.lsn for segment in self._log.segments]
        return max(end for end in ends if end <= max(lsn, ends[0]))

    def spare_until(self, keep_bytes: int) -> int:
        """Up to which record the log may go, for `keep_bytes` to stay; `first_lsn - 1` until half as many are too many.

        Any thread. Raises DiskFault.
        """
        segments = self._log.segments
        with disk_errors(self.directory, "read"):
            sizes = [segment.path.stat().st_size for segment in segments]
        left = sum(sizes)
        if left < keep_bytes + keep_bytes // 2:
            return segments[0].start.head.lsn
        for index, size in enumerate(sizes[:-1]):
            left -= size
            if left < keep_bytes:
                return segments[index].start.head.lsn
        return segments[-1].start.head.lsn

    def trim(self, lsn: int) -> None:
        """Remove the oldest segments, a few of those that have no record after `lsn`, while others append and read.

        In one thread at a time. A crash on the way leaves the log as it was, or one that begins later. Whether these
        records may go is the caller's to know. Raises BrokenInvariant if they are not known to be committed, DiskFault.
        """
        with self._stays, disk_errors(self.directory, "trimmed"):
            if lsn > self.commit_lsn:
                raise BrokenInvariant(
                    f"lsn {lsn} was to be trimmed away, and the log is committed up to {self.commit_lsn}"
                )
            whole = sum(1 for one in self._log.segments[1:] if one.start.head.lsn <= lsn)
            kept = min(whole, _TRIMMED_AT_ONCE)
            if kept == 0:
                return
            first = self._log.segments[kept]
            write_mark(self.directory, first)  # before any is removed: else nothing tells the log from a damaged one
            with self._changing:
                self._log = Log(self._log.segments[kept:], self._log.end)
            recovery.remove_older(first.path)

    def cut(self, lsn: int, why: str) -> list[Block]:
        """Remove every record after `lsn`, and return their blocks. Disk thread.

        A copy goes to `quarantine/` first. A crash on the way leaves the log as it was, or shorter by some
        of its newest segments, or cut. Whether these records may go is the caller's to know. Raises
        KeyError if no block ends at `lsn`, Corruption and DiskFault.
        """
        if lsn == self.durable_lsn:
            return []
        with self._stays:
            log = self._log
            kept, place = reader.place_after(log, lsn)
            blocks = list(reader.blocks(log, lsn + 1))
            with self._poisoned_until_done():
                quarantine.keep(recovery.quarantine_of(self.directory), lsn, why, _tails(log, kept, place.offset))
                self._remove_after(kept, place.offset)
        self.append_mark(min(log.end.head.commit_lsn, lsn))  # what was cut may have told it: states on disk rely on it
        return blocks

    def begin_after(self, head: Head) -> None:
        """Remove every record and begin anew after `head`, whose state a checkpoint holds. Disk thread.

        No copy is kept: the caller knows that the state at `head` has all of them in it. A crash on the way
        leaves the log as it was, or the new one: that is there as soon as its segment is, and what is older
        than a segment that begins a log is no part of it. Raises DiskFault.
        """
        name = segment_name(head.lsn + 1)
        with self._stays, self._poisoned_until_done():
            self.close()
            # What is newer than the new segment would seem to go on from it. Only a log that reaches past `head` has
            # such: it is cut first, durable one by one.
            for segment in reversed([one for one in self._log.segments if one.path.name > name]):
                platform.remove(segment.path)
                platform.fsync_directory(self.directory)
            only = create_segment(self.directory, self._cluster_id, 0, head)
            recovery.remove_older(only.path)
            remove_mark(self.directory)
            self._log = Log((only,), only.start)
            self._open_newest()

    def _remove_after(self, kept: int, length: int) -> None:
        """Newest first, each durable before the next: a crash leaves a shorter log, never one with a hole."""
        segments = self._log.segments
        self.close()
        for later in reversed(segments[kept + 1 :]):
            platform.remove(later.path)
            platform.fsync_directory(self.directory)
        recovery.truncate_file(segments[kept].path, length)
        newest = read_segment(segments[kept].path, self._cluster_id)
        end, _ = recovery.survey(newest)
        self._log = Log((*segments[:kept], newest), end)
        self._open_newest()

    def _start_segment(self) -> None:
        segments, end = self._log
        newest = create_segment(self.directory, self._cluster_id, segments[-1].first_lsn, end.head)
        self.close()
        with self._changing:
            self._log = Log((*self._log.segments, newest), newest.start)
        self._open_newest()

    def _open_newest(self) -> None:
        """Open the newest file for writing; its content up to the end of the log and its zeros were surveyed."""
        self._fd = os.open(self._log.segments[-1].path, os.O_RDWR)
        self._prepared = os.fstat(self._fd).st_size

    def _write(self, raw: bytes, head: Head) -> None:
        segments, (offset, _) = self._log
        if offset + len(raw) <= self._prepared:
            platform.write_all(self._writable(), raw, offset)
        else:
            self._write_and_prepare(raw, offset)
        platform.fdatasync(self._writable())
        end = Point(offset + len(raw), head)
        segments[-1].note(end)
        with self._changing:
            self._log = Log(self._log.segments, end)

    def _write_and_prepare(self, raw: bytes, offset: int) -> None:
        """Write a frame that the file must grow for, with zeros behind it for those to come.

        A sync is far cheaper where neither the size nor the blocks of the file change. The zeros are real: of blocks
        that are only reserved the first write would change their state, and so cost the same. They need no sync of
        their own and no order: whatever of them a crash loses was zero or not there before.
        """
        end = offset + len(raw)
        ahead = min(_PREPARED_FRAMES * len(raw), PREPARED_BYTES, max(0, self._segment_bytes - end))
        if len(raw) > _SMALL_FRAME_BYTES:  # the sync is the smaller part of its cost, and the zeros would double it
            ahead = 0
        try:
            platform.write_all(self._writable(), raw + bytes(ahead), offset)
        except OSError as error:
            if error.errno not in _NO_ROOM or not ahead:
                raise
            ahead = 0  # nothing was synced yet, so the frame may be written again; there may be room for it alone
            platform.write_all(self._writable(), raw, offset)
        self._prepared = end + ahead

    def _writable(self) -> int:
        if self._fd is None:
            raise BrokenInvariant(f"{self.directory} was to be written, and is not open for that")
        return self._fd

    @contextmanager
    def _poisoned_until_done(self) -> Iterator[None]:
        """Whatever ends the work early, the disk's refusal or anything else, leaves the journal poisoned."""
        if self._fault is not None:
            raise DiskFault(self._fault)
        self._writable()
        self._fault = f"{self.directory} was left in the middle of a write"
        try:
            with disk_errors(self._log.segments[-1].path, "written"):
                yield
        except DiskFault as error:
            self._fault = str(error)
            raise
        self._fault = None


def _tails(log: Log, kept: int, offset: int) -> list[quarantine.Tail]:
    """All of a log from `offset` of its segment `kept` on, without the zeros behind its end."""
    paths = [segment.path for segment in log.segments[kept:]]
    ends = [*(path.stat().st_size for path in paths[:-1]), log.end.offset]
    begins = [offset, *(0 for _ in paths[1:])]
    return [quarantine.Tail(*one) for one in zip(paths, begins, ends, strict=True)]
