"""The primary puts on record which holds have expired, so that both nodes and every replay agree.

What is due next is kept in memory, the nearest first. It is read from the ledger's state when this node begins to
serve, because whoever led before may have died with holds that were due; from then on executed blocks add to it.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right, insort
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Final, Protocol, TypeVar

import structlog

from ftwallet.ledger.holds import (
    EXPIRIES,
    HoldState,
    decode_hold,
    expire,
    expires_us,
    expiry_of,
    hold_key,
    hold_terms,
)
from ftwallet.ledger.ledger import Ledger
from ftwallet.ledger.operations import Kind, Operation
from ftwallet.ledger.state import State, Unread
from ftwallet.wallet import Answer

Returned = TypeVar("Returned")

KEPT: Final = 100_000
"""Most that are kept in memory (about 20 MB): of more, the nearest; the others are read when it is their turn."""

_AT_ONCE: Final = 256  # in one block: requests do not wait for more
_LOOK_EVERY_S: Final = 0.05  # a timer of the event loop would not see a wall clock that is set
_SLICE: Final = 1_000
_PAUSE_S: Final = 0.002
_NEVER: Final = 1 << 63
_HOLD: Final = int(Kind.HOLD)


class Log(Protocol):
    """The log that a primary writes."""

    @property
    def takes_records(self) -> bool:
        """Whether the node serves, and has room for records of its own."""

    def now_us(self) -> int:
        """The time that a record of now gets, microseconds since 1970 UTC."""

    def append(self, operations: list[Operation]) -> list[asyncio.Future[Answer]]:
        """Put records of the node's own into the log."""


class LookUps(Protocol):
    """Reads of the ledger's state, off the event loop (a `Disk`)."""

    async def look_up(self, work: Callable[[], Returned]) -> Returned:
        """Read a little."""

    async def bring_in(self, state: State, unread: Iterable[Unread]) -> None:
        """Have in memory what is on disk only."""


class Expiries:
    """Holds by the time at which they expire; `run` puts each on record soon after that, never before."""

    def __init__(self, ledger: Ledger, disk: LookUps, log: Log, *, kept: int = KEPT, at_once: int = _AT_ONCE) -> None:
        self._ledger = ledger
        self._disk = disk
        self._log = log
        self._kept = kept
        self._at_once = at_once
        self._nearest: list[tuple[int, str]] = []
        self._unread_from_us = 0  # what expires before is in `_nearest`; the rest has to be read
        self._events = structlog.get_logger()

    def applied(self, operations: Sequence[Operation]) -> None:
        """These are executed. A hold that was refused, or ends early, is found out when it would be due."""
        if not self._ledger.state.records:  # nobody uses holds: large blocks need not be looked through
            return
        for one in operations:
            if one.kind == _HOLD and (time_us := expires_us(hold_terms(one.extra), one.time_us)):
                self._add(time_us, one.transaction_id)

    async def run(self) -> None:
        """Until cancelled. Raises DiskFault."""
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            if self._log.takes_records:
                await self.look()

    async def look(self) -> None:
        """Put on record what is due. Of more than are kept, the rest has its turn at the next look."""
        now_us = self._log.now_us()
        if self._unread_from_us <= now_us:
            await self._read()
        while due := self._take_due(self._log.now_us()):
            if not await self._put_on_record(due):
                return

    def _add(self, time_us: int, hold_id: str) -> None:
        if time_us > self._unread_from_us:
            return
        insort(self._nearest, (time_us, hold_id))
        if len(self._nearest) > self._kept:
            self._unread_from_us = self._nearest.pop()[0]

    async def _read(self) -> None:
        """All there are, bit by bit, at most as many as are kept. Holds placed meanwhile come by executed blocks."""
        self._nearest.clear()
        self._unread_from_us = _NEVER
        records = self._ledger.state.export_records(EXPIRIES)
        while found := await self._disk.look_up(lambda: _some(records)):
            for time_us, hold_id in found:
                self._add(time_us, hold_id)
            if found[-1][0] > self._unread_from_us:
                return
            await asyncio.sleep(_PAUSE_S)

    def _take_due(self, now_us: int) -> list[str]:
        count = min(self._at_once, bisect_right(self._nearest, now_us, key=lambda one: one[0]))
        due = self._nearest[:count]
        del self._nearest[:count]
        return [hold_id for _, hold_id in due]

    async def _put_on_record(self, due: list[str]) -> bool:
        """Those of these that are still open; tells whether to go on."""
        state = self._ledger.state
        keys = [hold_key(hold_id) for hold_id in due]
        while unread := state.unread((), (), keys):  # what was in memory may have gone to disk meanwhile
            await self._disk.bring_in(state, (unread,))
        still_open = [hold_id for hold_id, key in zip(due, keys, strict=True) if _is_open(state.record(key))]
        if not self._log.takes_records:
            self._unread_from_us = 0  # it stops, or the disk is full: if it goes on, all is read again
            return False
        if still_open:
            now_us = self._log.now_us()
            await asyncio.gather(*self._log.append([expire(hold_id, now_us) for hold_id in still_open]))
            self._events.info(f"Holds that have expired: {len(still_open)}")
        return True


def _some(records: Iterator[tuple[str, bytes]]) -> list[tuple[int, str]]:
    return [expiry_of(key) for key, _ in islice(records, _SLICE)]


def _is_open(record: bytes | None) -> bool:
    return record is not None and decode_hold(record).state is HoldState.OPEN
