"""Rules of what is on the disk broken: damage, torn tails, and disks that fail."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

from msgspec import structs

from ftwallet import platform
from ftwallet.errors import DiskFault
from ftwallet.journal import checkpoints, frames, recovery, segments
from ftwallet.journal.damage import disk_errors
from ftwallet.journal.head import Head
from ftwallet.journal.journal import Journal
from ftwallet.node.outage import Outage
from ftwallet.replication.backup import Backup
from tests.simulation import moments_disk as disk
from tests.simulation.breaks.breaking import Break, Patch, method, together, without


def corrupt_taken_for_torn() -> Patch:
    def judge(buffer: bytes, offset: int, base: int) -> Any:
        verdict = frames.judge(buffer, offset, base)
        return frames.Torn(verdict.why) if isinstance(verdict, frames.Corrupt) else verdict

    return mock.patch.object(segments, "judge", judge)


def torn_taken_for_corrupt() -> Patch:
    def judge(buffer: bytes, offset: int, base: int) -> Any:
        verdict = frames.judge(buffer, offset, base)
        return frames.Corrupt(verdict.why) if isinstance(verdict, frames.Torn) else verdict

    return mock.patch.object(segments, "judge", judge)


def zeros_taken_for_damage() -> Patch:
    """The space that was prepared for frames to come."""

    def judge(buffer: bytes, offset: int, base: int) -> Any:
        verdict = frames.judge(buffer, offset, base)
        zeros = isinstance(verdict, frames.End) and len(buffer) > offset
        return frames.Corrupt("zeros are no frame") if zeros else verdict

    return mock.patch.object(segments, "judge", judge)


def torn_taken_as_whole() -> Patch:
    """Neither checksum nor hash chain is looked at: what a frame's header promises is believed."""

    def after(self: Head, block: Any) -> Head:
        return _after(self, structs.replace(block, chain=frames.next_chain(self.chain, *_hashed(block))))

    def _hashed(block: Any) -> Any:
        return block.epoch, block.first_lsn, block.count, block.payload

    _after = Head.after_block
    return together(
        mock.patch.object(frames, "crc32", mock.Mock(return_value=0)), mock.patch.object(Head, "after_block", after)
    )


def retry_after_a_failed_sync() -> Patch:
    """As if a second sync told of the first one's data."""

    def replace(whole: Any) -> Any:
        def write(self: Journal, raw: bytes, head: Head) -> None:
            fdatasync = platform.fdatasync

            def again(fd: int) -> None:
                try:
                    fdatasync(fd)
                except OSError:
                    fdatasync(fd)

            with mock.patch.object(platform, "fdatasync", again):
                whole(self, raw, head)

        return write

    return method(Journal, "_write", replace)


def goes_on_after_a_failed_write() -> Patch:
    """Neither is the journal poisoned, nor does the node end."""

    @contextlib.contextmanager
    def unpoisoned(self: Journal) -> Iterator[None]:
        with disk_errors(self.directory, "written"):
            yield

    def replace(whole: Any) -> Any:
        def failed(self: Outage, error: BaseException) -> None:
            if type(error) is not DiskFault:
                whole(self, error)

        return failed

    return together(mock.patch.object(Journal, "_poisoned_until_done", unpoisoned), method(Outage, "failed", replace))


def checkpoints_unchecked() -> Patch:
    return mock.patch.object(checkpoints, "crc32", mock.Mock(return_value=0))


def history_after_execution() -> Patch:
    """A backup's protocol learns of blocks when all of a message are executed: checkpoints are taken before."""

    def appended(self: Backup, block: Any) -> None:
        late.append(block)

    def replace(whole: Any) -> Any:
        def executed(self: Backup, session: int) -> Any:
            for block in late:
                _appended(self, block)
            late.clear()
            return whole(self, session)

        return executed

    late: list[Any] = []
    _appended = Backup.appended
    return together(mock.patch.object(Backup, "appended", appended), method(Backup, "executed", replace))


DISK = (
    Break(
        "corrupt-is-torn",
        "a damaged frame is cut off like a torn one",
        corrupt_taken_for_torn,
        ("flip-unseen",),
        hint=1,
    ),
    Break(
        "torn-is-corrupt",
        "a torn frame is taken for damage",
        torn_taken_for_corrupt,
        moment=disk.power_fails_in_a_block,
    ),
    Break("zeros-are-damage", "prepared space is taken for damage", zeros_taken_for_damage),
    Break(
        "torn-stays",
        "of a torn frame all is left in the file, and written over",
        without("truncate", (recovery, "_cut_torn")),
        moment=disk.shorter_block_comes_where_a_torn_one_was,
    ),
    Break("torn-is-whole", "a torn frame is taken as whole", torn_taken_as_whole, moment=disk.power_fails_in_a_block),
    Break("sync-again", "a failed sync is tried again", retry_after_a_failed_sync, moment=disk.a_sync_fails),
    Break(
        "cache-kept",
        "after a failed sync the page cache is believed",
        without("drop_cache", (recovery, "_make_durable")),
        moment=disk.a_sync_fails,
    ),
    Break(
        "not-poisoned",
        "after a failed sync the journal is written on, and the node goes on",
        goes_on_after_a_failed_write,
        moment=disk.a_sync_fails_and_the_backup_leads,
    ),
    Break(
        "checkpoint-unchecked",
        "a checkpoint's checksums are not looked at",
        checkpoints_unchecked,
        moment=disk.a_bit_of_a_checkpoint_is_flipped,
    ),
    Break("late-history", "a backup's checkpoint has the history of the block before", history_after_execution),
)
