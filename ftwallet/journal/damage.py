"""What can be wrong with a file, and how it is told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ftwallet.errors import DiskFault


class Corruption(DiskFault):
    """A file holds at `offset` (bytes) what was never written there.

    Nothing from there on is believed, and nothing is cut: it may have been acknowledged.
    """

    def __init__(self, path: Path, offset: int, why: str) -> None:
        super().__init__(f"{path} is corrupt at byte {offset}: {why}")
        self.path = path
        self.offset = offset
        self.why = why


@contextmanager
def disk_errors(path: Path, doing: str) -> Iterator[None]:
    """Turn an OSError into a DiskFault with the sentence "PATH could not be DOING: WHY"."""
    try:
        yield
    except OSError as error:
        raise DiskFault(f"{path} could not be {doing}: {error.strerror or error}") from error
