"""Disks of the simulated world: real files in a scratch directory, and what of them would survive the loss of power.

The operations of `ftwallet.platform` are replaced; each goes to the disk that the file is on. A disk knows what was
synced. At a loss of power everything else is kept, lost, or torn, sector by sector and name by name, as the seed says,
or as a directed world wants it (`Loss`). A killed process alone loses nothing: the kernel still writes what it had been
given.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

from ftwallet import platform
from ftwallet.journal.identity import Identity
from ftwallet.journal.recovery import find_segments
from ftwallet.journal.segments import segment_name
from tests.journal.unsynced import OPERATIONS, REAL, SECTOR, Loss, UnsyncedFiles, unsynced_sectors
from tests.simulation.loop import PROCESS, Killed

PLENTY = 1 << 40

_real = {**REAL, **{name: getattr(platform, name) for name in ("free_bytes", "drop_cache")}}


class SimDisk(UnsyncedFiles):
    """The files below `root`."""

    def __init__(self, root: Path, shadow: Path, random: Random) -> None:
        self.prefix = str(root)
        self.random = random
        self.free = PLENTY
        self.crash_after: int | None = None  # operations until the process is killed in the middle of one
        self.crash_keeps_power = False  # then the kernel has, and shows, what was written and never synced
        self.fail_after: int | None = None  # operations until one fails with EIO, once
        self.on_crash = lambda: None
        self.done = 0
        self.flipped = False  # a bit of the log or a checkpoint: the node may call it damaged
        self._kept = (root / "journal", root / "checkpoints")
        self._dropped: dict[int, set[int]] = {}  # sectors that the page cache has and a failed sync has lost
        super().__init__(root, shadow)

    def has(self, path: str) -> bool:
        return path.startswith(self.prefix)

    def operate(self, name: str, *args: Any) -> object:
        return getattr(self, name)(*args)

    # ---- Faults

    def lose_power(self, loss: Loss = Loss.ANY) -> None:
        """Leave what a disk may show when power is back."""
        aside = self.root.with_name(f"{self.root.name}.before")
        self.root.rename(aside)
        self.rebuild(self.root, self.random, loss)
        shutil.rmtree(aside)
        self._take_as_synced()

    def wipe(self) -> None:
        """An empty directory where the node's was."""
        shutil.rmtree(self.root)
        self.root.mkdir()
        self.flipped = False
        self._take_as_synced()

    def copy_to(self, target: Path) -> None:
        shutil.copytree(self.root, target)

    def put_back(self, copy: Path) -> None:
        """An old copy in the place of the directory."""
        shutil.rmtree(self.root)
        shutil.copytree(copy, self.root)
        self._take_as_synced()

    def flip(self, pattern: str, within: bytes = b"") -> bool:
        """Flip one bit of a frame in the newest file that matches, or of `within` in it; False if there is none.

        Older files are read only when somebody needs them, and `verify` reads them all.
        """
        files = sorted(path for path in self.root.glob(pattern) if path.stat().st_size > SECTOR + 64)
        if not files:
            return False
        path = files[-1]
        content = bytearray(path.read_bytes())
        place = self._place_to_flip(content, within)
        if place < 0:
            return False
        content[place] ^= 1 << (0 if within else self.random.randrange(8))
        path.write_bytes(bytes(content))
        self.flipped |= not pattern.endswith(".part")
        if path.stat().st_ino in self._synced:
            self._synced[path.stat().st_ino] = bytes(content)
        return True

    def _place_to_flip(self, content: bytearray, within: bytes) -> int:
        if within:
            return content.find(within)
        end = len(content.rstrip(b"\0"))
        return -1 if end <= SECTOR + 64 else self.random.randrange(SECTOR, end)

    def has_whole_log(self) -> bool:
        """Whether the log begins with lsn 1, so that a checkpoint can be made again from it."""
        journal = self.root / "journal"
        if not (journal / segment_name(1)).exists():
            return False
        segments = find_segments(journal, Identity.load(self.root).cluster_id)  # a crash may have left an older log's
        return segments[0].first_lsn == 1

    def holds(self, needle: bytes) -> bool:
        """Whether something synced, under a synced name, contains these bytes: the log or a whole checkpoint."""
        return any(self._has(directory, needle) for directory in self._kept)

    def keeps_copy(self, needle: bytes) -> bool:
        """Whether something synced in quarantine contains these bytes."""
        return any(self._has(path, needle) for path in (self.root / "quarantine").glob("*"))

    def _has(self, directory: Path, needle: bytes) -> bool:
        names = reversed(self._names.get(directory, {}).items())  # the newest first: what is asked for is new as a rule
        counts = (
            inode for name, inode in names if not name.endswith(".part")
        )  # a part is nothing until it is installed
        return any(needle in self._synced.get(inode, b"") for inode in counts)

    def _take_as_synced(self) -> None:
        super()._take_as_synced()
        self._dropped.clear()

    # ---- Operations

    def _step(self, name: str, fd: int = -1) -> None:
        if PROCESS.get().dead:
            raise Killed
        self.done += 1
        if PROCESS.get().name != self.root.name:  # a start makes its partner's directory anew when that is empty
            return
        if self.crash_after is not None:
            self.crash_after -= 1
            if self.crash_after < 0:
                self.crash_after = None
                self.on_crash()
                raise Killed
        if self.fail_after is not None and name in ("write_all", "fdatasync"):
            self.fail_after -= 1
            if self.fail_after < 0:
                self.fail_after = None
                if name == "fdatasync":
                    self._drop(fd)
                raise OSError(errno.EIO, os.strerror(errno.EIO))
        if self.free <= 0 and name in ("write_all", "create_file"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def write_all(self, fd: int, data: bytes, offset: int) -> None:
        super().write_all(fd, data, offset)
        lost = self._dropped.get(os.fstat(fd).st_ino)
        if lost:  # written again, it is to be synced again
            lost.difference_update(range(offset // SECTOR, (offset + len(data)) // SECTOR + 1))

    def truncate(self, fd: int, length: int) -> None:
        super().truncate(fd, length)
        lost = self._dropped.get(os.fstat(fd).st_ino, set())
        lost.difference_update({sector for sector in lost if sector * SECTOR >= length})

    def drop_cache(self, fd: int) -> None:
        """Where a sync has failed the page cache may show what the disk never got."""
        inode = os.fstat(fd).st_ino
        if self._dropped.pop(inode, None):
            (self._shadow / str(inode)).write_bytes(self._synced.get(inode, b""))

    def _on_disk(self, inode: int) -> bytes:
        """All of the file, but for the sectors that a failed sync has left for clean, and nobody wrote since."""
        on_disk = bytearray(super()._on_disk(inode))
        synced = self._synced.get(inode, b"").ljust(len(on_disk), b"\0")
        for sector in self._dropped.get(inode, ()):
            place = slice(sector * SECTOR, (sector + 1) * SECTOR)
            on_disk[place] = synced[place][: len(on_disk[place])]
        return bytes(on_disk)

    def _drop(self, fd: int) -> None:
        """A sync fails: the kernel takes the pages for clean all the same, though the disk never got them."""
        inode = os.fstat(fd).st_ino
        seen = (self._shadow / str(inode)).read_bytes()
        dropped = {at // SECTOR for at in unsynced_sectors(self._synced.get(inode, b""), seen)}
        self._dropped.setdefault(inode, set()).update(dropped)


class RecordDisk:
    """The disk of the cluster record: an operation of it may fail, or be the supervisor's last."""

    def __init__(self, record: Path, random: Random) -> None:
        self.prefix = str(record)
        self.free = PLENTY
        self.fail_after: int | None = None
        self.crash_after: int | None = None
        self.on_crash = lambda: None
        self._directory = str(record.parent)
        self._record = record
        self._random = random
        self._durable: bytes | None = None  # the record before a rename that is not synced yet
        self._draft_is_synced = self._is_synced = True

    def has(self, path: str) -> bool:
        return path.startswith(self.prefix) or path == self._directory

    def lose_power(self, loss: Loss = Loss.ANY) -> None:
        """A rename that was not synced may be lost, and so may what was renamed and not synced."""
        if self._durable is not None and self._loses(loss, Loss.NAMES):
            self._record.write_bytes(self._durable)
        elif not self._is_synced and self._loses(loss, Loss.CONTENT):
            self._record.write_bytes(b"")
        self._durable, self._is_synced = None, True

    def _loses(self, loss: Loss, what: Loss) -> bool:
        return self._random.random() < 0.5 if loss is Loss.ANY else loss in (Loss.ALL, what)

    def operate(self, name: str, *args: Any) -> object:
        if PROCESS.get().dead:
            raise Killed
        if self.crash_after is not None:
            self.crash_after -= 1
            if self.crash_after < 0:
                self.crash_after = None
                self.on_crash()
                raise Killed
        if self.fail_after is not None:
            self.fail_after -= 1
            if self.fail_after < 0:
                self.fail_after = None
                raise OSError(errno.EIO, os.strerror(errno.EIO))
        if name == "rename":
            self._durable = self._durable or self._record.read_bytes()
            self._is_synced = self._draft_is_synced
        done = _real[name](*args)
        if name in ("write_all", "fdatasync"):
            self._draft_is_synced = name == "fdatasync"
        if name == "fsync_directory":
            self._durable = None
        return done


@contextmanager
def disks_in_place(disks: Sequence[SimDisk | RecordDisk]) -> Iterator[None]:
    """Have `ftwallet.platform` use the disk that a file is on; whatever is on none of them is real."""

    def disk_of(what: object) -> SimDisk | RecordDisk | None:
        path = os.readlink(f"/proc/self/fd/{what}") if isinstance(what, int) else str(what)
        return next((disk for disk in disks if disk.has(path)), None)

    def routed(name: str) -> object:
        real = _real[name]

        def operation(*args: object) -> object:
            disk = disk_of(args[0])
            return real(*args) if disk is None else disk.operate(name, *args)

        return operation

    def free_bytes(path: Path) -> int:
        disk = disk_of(path)
        return PLENTY if disk is None else disk.free

    for name in OPERATIONS:
        setattr(platform, name, routed(name))

    def drop_cache(fd: int) -> None:
        disk = disk_of(fd)
        if disk is not None:
            disk.drop_cache(fd)

    platform.free_bytes, platform.drop_cache = free_bytes, drop_cache
    try:
        yield
    finally:
        for name, real in _real.items():
            setattr(platform, name, real)
