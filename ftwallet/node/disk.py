"""The disk of a node, off the event loop: a stalled disk stalls neither heartbeats nor reads.

Appends, marks, cuts and the identity's epoch go through one thread, in the order asked; reads of old blocks have their
own, so that a backup that catches up does not wait for the appends, nor they for it; so have look-ups in the ledger's
state, and long work, for which none of them waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from ftwallet.journal import Block, Journal
from ftwallet.journal.identity import Identity
from ftwallet.ledger.state import State, Unread

Arguments = ParamSpec("Arguments")
Returned = TypeVar("Returned")


_PAUSE_S = 0.002


class Disk:
    """Every call raises DiskFault when the disk failed; the node must stop then."""

    def __init__(self, journal: Journal, identity: Identity, background: ThreadPoolExecutor | None = None) -> None:
        self.journal = journal
        self.identity = identity
        self._writer = ThreadPoolExecutor(1, "disk-writer")
        self._reader = ThreadPoolExecutor(1, "disk-reader")
        self._lookups = ThreadPoolExecutor(1, "disk-lookups")
        self._background = background or ThreadPoolExecutor(1, "disk-background")

    async def append(self, block: Block) -> None:
        """Append one block; durable when this returns."""
        await self._write(self.journal.append, block)

    async def append_all(self, blocks: Sequence[Block]) -> None:
        """Append blocks in order, one sync each; all durable when this returns."""
        await self._write(self._append_each, blocks)

    async def append_mark(self, commit_lsn: int) -> None:
        """Record how far the commit has come."""
        await self._write(self.journal.append_mark, commit_lsn)

    def append_mark_now(self, commit_lsn: int) -> None:
        """The same, waiting on the spot: for the moment before an armed crash."""
        self._writer.submit(self.journal.append_mark, commit_lsn).result()

    async def cut(self, lsn: int, why: str) -> list[Block]:
        """Cut the log to `lsn` after a copy has gone to quarantine; returns what was cut."""
        return await self._write(self.journal.cut, lsn, why)

    async def record_epoch(self, epoch: int) -> None:
        """Make the newest seen epoch durable."""
        await self._write(self.identity.record_epoch, epoch)

    async def renew_incarnation(self) -> str:
        """Become another node to the witness, for a state sync; returns the new incarnation."""
        return await self._write(lambda: self.identity.renew_incarnation(for_state_sync=True))

    async def end_state_sync(self) -> None:
        """Forget durably that a state sync is under way."""
        await self._write(self.identity.end_state_sync)

    async def read(self, from_lsn: int, max_bytes: int) -> list[Block]:
        """Blocks from `from_lsn` on, at least one if there is one, else up to `max_bytes`."""
        return await self._run(self._reader, self.journal.read, from_lsn, max_bytes)

    async def spare_until(self, keep_bytes: int) -> int:
        """Up to which record the log may go, for so many bytes to stay; see `Journal.spare_until`."""
        return await self._run(self._reader, self.journal.spare_until, keep_bytes)

    async def trim(self, lsn: int) -> None:
        """Remove a few of the oldest segments, between two reads of blocks; none goes after `release`."""
        await self._run(self._reader, self.journal.trim, lsn)

    async def chain_at(self, lsn: int) -> bytes:
        """The hash chain at `lsn`. Raises KeyError when no block ends there."""
        return await self._run(self._reader, self.journal.chain_at, lsn)

    async def in_background(self, work: Callable[[], Returned]) -> Returned:
        """Run long work (writing a checkpoint), one piece at a time."""
        return await self._run(self._background, work)

    async def bring_in(self, state: State, unread: Iterable[Unread]) -> None:
        """Have in memory what is on disk only; at once when nothing is."""
        for one in unread:
            while one and not state.take(await self._run(self._lookups, state.fetch, one)):
                pass

    async def look_up(self, work: Callable[[], Returned]) -> Returned:
        """Read a little of the ledger's state on disk, among the look-ups of requests."""
        return await self._run(self._lookups, work)

    async def warm(self, state: State) -> None:
        """Have as many accounts in memory as there is room for, a few at a time, before anybody asks for them."""
        if not state.on_disk:
            return
        after = ""
        while (found := await self._run(self._lookups, state.page, after)).accounts:
            if state.take(found):
                after = max(found.accounts)
            await asyncio.sleep(_PAUSE_S)

    def close(self) -> None:
        """Wait for what is under way, then close the journal."""
        self.release().shutdown(wait=True)
        self.journal.close()

    def release(self) -> ThreadPoolExecutor:
        """Wait for reads and writes, and leave the journal open for somebody else; returns who does the long work.

        That may go on: whoever follows must not wait for a checkpoint, and must not write another beside it.
        """
        self._writer.shutdown(wait=True)
        self._reader.shutdown(wait=True)
        self._lookups.shutdown(wait=True)
        return self._background

    def _append_each(self, blocks: Sequence[Block]) -> None:
        for block in blocks:
            self.journal.append(block)

    async def _write(
        self, work: Callable[Arguments, Returned], *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Returned:
        return await self._run(self._writer, work, *args, **kwargs)

    @staticmethod
    async def _run(
        executor: ThreadPoolExecutor,
        work: Callable[Arguments, Returned],
        *args: Arguments.args,
        **kwargs: Arguments.kwargs,
    ) -> Returned:
        return await asyncio.get_running_loop().run_in_executor(executor, lambda: work(*args, **kwargs))
