"""The transactions whose records recovery cuts, kept in a file until ROLLED_BACK stands in the log for each.

Without it a crash between the cut and the record would leave ids that nobody remembers to have been asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from ftwallet import platform
from ftwallet.errors import DiskFault
from ftwallet.ledger.ledger import Ledger
from ftwallet.ledger.operations import Kind, Operation, decode_operations, encode_operations, rolled_back
from ftwallet.ledger.outcomes import Status


class Rollbacks:
    """The file `path` holds the cut operations; no file, no rollbacks to record."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def remember(self, operations: Sequence[Operation]) -> None:
        """Make them durable, beside those that an earlier recovery left. Raises DiskFault."""
        content = encode_operations([*self._load(), *operations])
        await asyncio.to_thread(self._write, content)

    def operations(self, ledger: Ledger, time_us: int) -> list[Operation]:
        """The records still to be written: an id that was executed after all needs none.

        Rules come from the configuration at every start; those of an earlier one must not return over it.
        """
        cut = (one for one in self._load() if one.kind != Kind.CHANGED_RULES)
        return [_record(one, time_us) for one in cut if not _executed(ledger, one)]

    async def forget(self) -> None:
        """They stand in the log now."""
        await asyncio.to_thread(self._path.unlink, missing_ok=True)

    def _load(self) -> list[Operation]:
        try:
            return decode_operations(self._path.read_bytes())
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            raise DiskFault(f"{self._path} cannot be read: {error}") from error

    def _write(self, content: bytes) -> None:
        try:
            platform.write_atomically(self._path, content)
        except OSError as error:
            raise DiskFault(f"{self._path} cannot be written: {error.strerror}") from error


def _record(one: Operation, time_us: int) -> Operation:
    if one.kind in (Kind.DEPOSIT, Kind.WITHDRAW):
        return rolled_back(one.transaction_id, one, time_us)
    return one  # a record of our own, such as an earlier ROLLED_BACK: it is simply written again


def _executed(ledger: Ledger, one: Operation) -> bool:
    known = ledger.find(one.transaction_id)
    return known is not None and known.status is Status.COMMITTED
