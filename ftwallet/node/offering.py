"""The primary's side of a state sync: which checkpoint is offered, and its file until the backup has it.

The file keeps a second name in `offered/` of the node's directory: newer checkpoints come and go meanwhile, and after a
crash of either node the backup goes on with the part that it has.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import structlog

from ftwallet import platform
from ftwallet.journal.checkpoints import CheckpointMeta, find_newest
from ftwallet.node.base import Base
from ftwallet.node.disk import Disk
from ftwallet.replication.effects import Wanted
from ftwallet.replication.messages import CheckpointFile, EpochEnd

OFFERED = "offered"


class Offering:
    """`hurry`: has a checkpoint made at the next opportunity."""

    def __init__(self, node_dir: Path, disk: Disk, base: Base, hurry: Callable[[], None]) -> None:
        self._checkpoints = node_dir / "checkpoints"
        self._offered = node_dir / OFFERED
        self._disk = disk
        self._base = base
        self._hurry = hurry
        self._file: CheckpointFile | None = None
        self._fd = -1
        self._log = structlog.get_logger()

    async def find(self, wanted: Wanted) -> CheckpointFile | None:
        """The checkpoint to offer, ready to be read; None when there is none yet. Raises DiskFault for the log."""
        try:
            # Where checkpoints are written, so that none is removed while it is looked at.
            found = await self._disk.in_background(lambda: self._find(wanted))
        except OSError as error:
            self._log.error(f"No checkpoint can be offered to the backup: {error.filename}: {error.strerror}")
            return None
        if found is None and wanted.required:
            self._hurry()
        return found

    async def read(self, file: CheckpointFile, offset: int, size: int) -> bytes:
        """At most `size` bytes of the offered file; none when it is not to be had any more."""
        if file != self._file:
            return b""
        try:
            return await asyncio.to_thread(os.pread, self._fd, size, offset)
        except OSError as error:  # the next search passes a damaged file over
            self._log.error(f"The checkpoint at lsn {file.lsn} cannot be read: {error.strerror}")
            return b""

    async def forget(self) -> None:
        """Nobody needs the file any more."""
        await self._disk.in_background(self._forget)

    def close(self) -> None:
        """Close the file; after a restart it can be gone on with."""
        fd, self._fd, self._file = self._fd, -1, None
        if fd >= 0:
            os.close(fd)

    def _find(self, wanted: Wanted) -> CheckpointFile | None:
        if wanted.fingerprint:
            kept = find_newest(self._offered, self._is_of_this_log)
            file = _describe(*kept) if kept else None
            if kept and file and file.fingerprint == wanted.fingerprint and file.lsn >= wanted.from_lsn:
                return self._open(file, kept[1])
        found = self._newest(wanted.from_lsn)
        if found is None:
            self._base.need_file(wanted.from_lsn, self._is_of_this_log)
            found = self._newest(wanted.from_lsn)
        if found is None:
            return None
        meta, path = found
        self._forget()
        self._keep(path)
        return self._open(_describe(meta, path), path)

    def _newest(self, from_lsn: int) -> tuple[CheckpointMeta, Path] | None:
        return find_newest(self._checkpoints, lambda meta: meta.lsn >= from_lsn and self._is_of_this_log(meta))

    def _keep(self, path: Path) -> None:
        try:
            platform.make_directory(self._offered)
            os.link(path, self._offered / path.name)
        except OSError as error:  # a file system without such names: what is open can be read all the same
            self._log.warning(f"{path} cannot be kept for a state sync that is broken off: {error.strerror}")

    def _is_of_this_log(self, meta: CheckpointMeta) -> bool:
        return self._disk.journal.holds(meta.lsn, meta.chain)

    def _open(self, file: CheckpointFile, path: Path) -> CheckpointFile:
        self.close()
        self._fd, self._file = os.open(path, os.O_RDONLY), file
        return file

    def _forget(self) -> None:
        self.close()
        forget_offered(self._offered.parent)


def forget_offered(node_dir: Path) -> None:
    """Remove the second name of a checkpoint that was offered; what cannot be removed only costs its space."""
    with contextlib.suppress(OSError):
        for path in (node_dir / OFFERED).glob("*"):
            platform.remove(path)


def _describe(meta: CheckpointMeta, path: Path) -> CheckpointFile:
    with path.open("rb") as content:
        fingerprint = hashlib.file_digest(content, "sha256").hexdigest()
        size = os.fstat(content.fileno()).st_size
    history = tuple(EpochEnd(*end) for end in meta.history)
    return CheckpointFile(meta.lsn, meta.chain, meta.digest, history, size, fingerprint, meta.format_version)
