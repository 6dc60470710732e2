"""The backup's side of a state sync: the part of a checkpoint's file that has come, and its installation.

The part is named after the fingerprint of the whole, so that it is only ever gone on with for the same file. Nothing
of it counts before it is whole, sound, and just what was offered; the log and its checkpoints stay as they are until
then. The installation may end anywhere: this directory has left the in-sync set before, and what stands there then is
the old log, which simply syncs again, or the new one.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path

from ftwallet import platform
from ftwallet.errors import BrokenInvariant, Refused
from ftwallet.journal.checkpoints import DamagedCheckpoint, adopt_file, drop_others, load_file
from ftwallet.journal.damage import disk_errors
from ftwallet.journal.head import Head
from ftwallet.journal.journal import Journal
from ftwallet.ledger.ledger import Ledger
from ftwallet.node.base import Base
from ftwallet.node.disk import Disk
from ftwallet.replication.messages import SLICE_BYTES, CheckpointFile

_PART_SUFFIX = ".part"


class NotAsOffered(Exception):
    """The file is whole, and is not what the primary offered; says why."""


def partial(node_dir: Path) -> str:
    """The fingerprint of the checkpoint that a node's directory holds a part of, empty for none."""
    return next((path.stem for path in (node_dir / "checkpoints").glob(f"*{_PART_SUFFIX}")), "")


class Receiving:
    """The part of one file. One call at a time; all but reading raise DiskFault."""

    def __init__(self, node_dir: Path, disk: Disk, base: Base) -> None:
        self._directory = node_dir / "checkpoints"
        self._disk = disk
        self._base = base
        self._fingerprint = ""
        self._held = 0

    async def find(self, file: CheckpointFile) -> int:
        """How many bytes of this file are durable here; parts of others are dropped."""
        if file.fingerprint != self._fingerprint:
            self._held = await asyncio.to_thread(_prepare, self._directory, self._path(file.fingerprint))
            self._fingerprint = file.fingerprint
        return self._held

    async def keep(self, offset: int, data: bytes) -> int:
        """Write a slice; returns how many bytes are durable then."""
        await asyncio.to_thread(_write, self._part, data, offset)
        self._held = offset + len(data)
        return self._held

    async def take_fingerprint(self) -> str:
        """The fingerprint of what has come, as the disk holds it."""
        return await asyncio.to_thread(_fingerprint_of, self._part)

    async def drop(self) -> None:
        """Forget the part."""
        part, self._fingerprint = self._part, ""
        await asyncio.to_thread(_drop, part)

    async def forget(self) -> None:
        """Drop parts of any file: the state sync is over."""
        self._fingerprint = ""
        await asyncio.to_thread(_drop_all, self._directory)

    async def install(self, file: CheckpointFile) -> Ledger:
        """Begin the log anew after the checkpoint, durably; returns its ledger.

        Raises NotAsOffered, and has dropped the part then.
        """
        try:
            # Where checkpoints are written: one of the old log must not come in between, or after.
            ledger = await self._disk.in_background(
                lambda: install(self._part, self._directory, self._disk.journal, file, self._base)
            )
        except NotAsOffered:
            await self.drop()
            raise
        self._fingerprint = ""
        return ledger

    @property
    def _part(self) -> Path:
        return self._path(self._fingerprint)

    def _path(self, fingerprint: str) -> Path:
        return self._directory / f"{fingerprint}{_PART_SUFFIX}"


def install(part: Path, directory: Path, journal: Journal, file: CheckpointFile, base: Base) -> Ledger:
    """Check a whole part, and replace a log and the checkpoints in `directory` by it; returns the ledger.

    Raises NotAsOffered with nothing changed, DiskFault.
    """
    ledger = _checked(part, file, base)
    *ended, last = file.history
    head = Head(file.lsn, file.chain, last.epoch, file.lsn, tuple((end.epoch, end.last_lsn) for end in ended))
    adopt_file(part, directory, file.lsn)  # durable before the log begins after it
    journal.begin_after(head)
    drop_others(directory, file.lsn)
    base.adopt(ledger)
    return ledger


def _checked(part: Path, file: CheckpointFile, base: Base) -> Ledger:
    try:
        with disk_errors(part, "read"):
            meta, chunks = load_file(part)
        ledger = base.load(meta, chunks)
    except (DamagedCheckpoint, ValueError, BrokenInvariant, Refused) as error:
        raise NotAsOffered(f"the checkpoint at lsn {file.lsn} cannot be used: {error}") from error
    of_file = (meta.lsn, meta.chain, meta.digest, [tuple(end) for end in meta.history])
    offered = (file.lsn, file.chain, file.digest, [tuple(end) for end in file.history])
    if of_file != offered or (ledger.applied_lsn, ledger.digest) != (file.lsn, file.digest):
        raise NotAsOffered(f"the file that was offered as the checkpoint at lsn {file.lsn} holds another state")
    return ledger


def _prepare(directory: Path, part: Path) -> int:
    with disk_errors(part, "prepared"):
        platform.make_directory(directory)
        for other in set(directory.glob(f"*{_PART_SUFFIX}")) - {part}:
            platform.remove(other)
        fd = os.open(part, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            # The last slice may have been on its way to the disk when the machine failed; those before were synced.
            held = max(0, os.fstat(fd).st_size - SLICE_BYTES)
            platform.truncate(fd, held)
            platform.fdatasync(fd)
        finally:
            os.close(fd)
        platform.fsync_directory(directory)
    return held


def _write(part: Path, data: bytes, offset: int) -> None:
    with disk_errors(part, "written"):
        fd = os.open(part, os.O_RDWR)
        try:
            platform.write_all(fd, data, offset)
            platform.fdatasync(fd)
        finally:
            os.close(fd)


def _fingerprint_of(part: Path) -> str:
    with disk_errors(part, "read"), part.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _drop(part: Path) -> None:
    with disk_errors(part, "removed"):
        platform.remove(part)
        platform.fsync_directory(part.parent)


def _drop_all(directory: Path) -> None:
    for part in directory.glob(f"*{_PART_SUFFIX}"):
        _drop(part)
