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
from ftwallet.ledger.operations import MOVEMENTS, Kind, Operation, decode_operations, encode_operations, rolled_back

ROLLBACKS_FILE = "rollbacks.msgpack"
_ASKED = MOVEMENTS | {Kind.ROLLED_BACK}
"""What somebody may ask about again, or had been told of; other records of a node's own are made anew when due."""


class Rollbacks:
    """The file `path` holds the cut operations; no file, no rollbacks to record."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def remember(self, operations: Sequence[Operation]) -> None:
        """Make them durable, beside those that an earlier recovery left. Raises DiskFault."""
        asked = [*self._load(), *(one for one in operations if one.kind in _ASKED)]
        by_id = {one.transaction_id: one for one in asked}  # a crash before the cut has it remembered once more
        await asyncio.to_thread(self._write, encode_operations(list(by_id.values())))

    def operations(self, ledger: Ledger, time_us: int) -> list[Operation]:
        """The ROLLED_BACK records still to be written: an id that the log knows of needs none."""
        return [rollback_record(one, time_us) for one in self._load() if ledger.find(one.transaction_id) is None]

    async def unreported(self, ledger: Ledger) -> bytes:
        """Those that no log has yet, encoded, for the primary to put on record; what is known of is forgotten."""
        unknown = [one for one in self._load() if ledger.find(one.transaction_id) is None]
        if not unknown:
            await self.forget()
        return encode_operations(unknown) if unknown else b""

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


def rollback_record(one: Operation, time_us: int) -> Operation:
    """The record that says of a cut operation that it was rolled back."""
    if one.kind in MOVEMENTS:
        return rolled_back(one.transaction_id, one, time_us)
    return one  # an earlier ROLLED_BACK: it is simply written again
