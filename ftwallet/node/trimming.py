"""Removes the oldest segments of a node's log, past as many bytes as are to be kept. On both nodes, each by itself.

A record may go when it is committed, when two sound copies on this disk hold what it did, so that damage to one costs a
start its speed and no money, and when no backup is being sent it. A backup that comes back later, from further behind,
is sent a checkpoint. All of it happens off the event loop; a read that comes too late is told so.
"""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import Callable
from typing import Final

import structlog

from ftwallet.errors import DiskFault
from ftwallet.node.base import Base
from ftwallet.node.disk import Disk

EVERYTHING: Final = 2**63
"""Nobody needs any record."""

_LOOK_EVERY_S = 1.0
_PAUSE_SHARE = 10.0  # of the time that a try took: to look for two copies may mean to read them
_FULL_DISK_PAUSE_S = 60.0
_FULL = (errno.ENOSPC, errno.EDQUOT)


class Trimmer:
    """`needed_after`: the last record that nobody but this node may need. `before`: told where the log will begin."""

    def __init__(
        self, base: Base, disk: Disk, keep_bytes: int, needed_after: Callable[[], int], before: Callable[[int], None]
    ) -> None:
        self._base = base
        self._disk = disk
        self._keep_bytes = keep_bytes
        self._needed_after = needed_after
        self._before = before
        self._log = structlog.get_logger()

    async def run(self) -> None:
        """Trim whenever something may go, until cancelled; at once over when everything is kept. Raises DiskFault."""
        while self._keep_bytes:
            await asyncio.sleep(_LOOK_EVERY_S)
            began = time.monotonic()
            try:
                await self._trim()
            except DiskFault as fault:
                if not _is_full(fault):
                    raise
                self._log.warning(f"The log is not trimmed: {fault}")
                await asyncio.sleep(_FULL_DISK_PAUSE_S)
            else:
                await asyncio.sleep(_PAUSE_SHARE * (time.monotonic() - began))

    async def _trim(self) -> None:
        journal = self._disk.journal
        spare = await self._disk.spare_until(self._keep_bytes)
        wanted = journal.whole_until(min(spare, journal.commit_lsn, self._needed_after()))
        if wanted < journal.first_lsn:
            return
        held = await self._disk.in_background(lambda: self._base.hold_twice(wanted, journal))
        lsn = journal.whole_until(min(wanted, held, self._needed_after()))  # a backup may have come meanwhile
        if lsn < journal.first_lsn:
            return
        self._before(lsn + 1)
        while journal.first_lsn <= lsn:
            await self._disk.trim(lsn)
        self._log.info(f"Journal: trimmed, it begins with lsn {lsn + 1} now")


def _is_full(fault: DiskFault) -> bool:
    """A full disk refuses the checkpoint or the mark that goes before, and nothing has been removed then."""
    return isinstance(fault.__cause__, OSError) and fault.__cause__.errno in _FULL
