"""Which keys a table may hold, in memory: an id that was never seen, the usual case, is told without the disk.

Bloom filters, each four times as large as the one before, so that any number of keys fits: about two bytes a key, and
one look-up in a thousand is sent to the disk in vain. The file is only ever behind the table: keys that came later are
added again from the journal.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Final
from zlib import crc32

import msgspec
from rbloom import Bloom
from xxhash import xxh3_64_intdigest

from ftwallet import platform
from ftwallet.journal.damage import disk_errors
from ftwallet.store.table import PAUSE_S

_FIRST_KEYS: Final = 1_000_000
_GROWTH: Final = 4
_SLICE: Final = 2_000
_FALSE_POSITIVES: Final = 0.0005


class _Content(msgspec.Struct, frozen=True):
    lsn: int
    counts: list[int]
    filters: list[bytes]
    checksum: int


class Known:
    """Answers `key in known`: False for a key that was never added, True for all that were."""

    def __init__(self, first_keys: int = _FIRST_KEYS) -> None:
        self._first_keys = first_keys
        self._counts: list[int] = []
        self._filters: list[Bloom] = []
        self._grow()

    def __contains__(self, key: bytes) -> bool:
        for one in self._filters:  # noqa: SIM110  (a generator costs twice as much, on the path of every request)
            if key in one:
                return True
        return False

    def __bool__(self) -> bool:
        """Whether any key was ever added: until then a replay need not ask for each."""
        return self._counts != [0]

    def among(self, keys: list[bytes]) -> list[bytes]:
        """Those of these keys that may have been added."""
        if len(self._filters) == 1:
            newest = self._filters[0]
            return [key for key in keys if key in newest]
        return [key for key in keys if any(key in one for one in self._filters)]

    def add(self, keys: Iterable[bytes]) -> None:
        """Add keys; one that is added again takes room again."""
        drawn = iter(keys)
        while some := list(islice(drawn, min(_SLICE, self._room() or self._grow()))):
            self._filters[-1].update(some)
            self._counts[-1] += len(some)
            time.sleep(PAUSE_S)

    def _room(self) -> int:
        return int(self._first_keys * _GROWTH ** (len(self._counts) - 1)) - self._counts[-1]

    def _grow(self) -> int:
        self._filters.append(
            Bloom(self._first_keys * _GROWTH ** len(self._filters), _FALSE_POSITIVES, xxh3_64_intdigest)
        )
        self._counts.append(0)
        return self._room()

    def save(self, path: Path, lsn: int) -> None:
        """Write it durably, as of the table at `lsn`. Raises DiskFault."""
        filters = [one.save_bytes() for one in self._filters]
        content = _Content(lsn, self._counts, filters, _checksum(filters))
        with disk_errors(path, "written"):
            platform.write_atomically(path, msgspec.msgpack.encode(content))

    @classmethod
    def load(cls, path: Path, first_keys: int = _FIRST_KEYS) -> tuple[Known, int] | None:
        """What was saved, and the lsn that it is of; None when there is nothing, or nothing sound."""
        try:
            content = msgspec.msgpack.decode(path.read_bytes(), type=_Content)
        except (OSError, ValueError):
            return None
        if content.checksum != _checksum(content.filters):
            return None
        known = cls(first_keys)
        known._counts = content.counts
        known._filters = [Bloom.load_bytes(one, xxh3_64_intdigest) for one in content.filters]
        return known, content.lsn


def _checksum(filters: list[bytes]) -> int:
    checksum = 0
    for one in filters:
        checksum = crc32(one, checksum)
    return checksum
