"""Accounts and transactions on disk, in RocksDB, all as of one lsn.

RocksDB, because ids come in no order: a sorted tree would have to rewrite a page for each of them. Its own log is off,
since the journal has everything: what was written is durable by a flush of its memory, which makes one new file and
names it, or does not. So a write is whole if RocksDB never flushes in the middle of it: its buffer is larger than any
write can be. A mark stands in the buffer as long as a write is not whole, in case it does after all.

Calls hold Python's lock only while they work in memory; look-ups that may read the disk go through the call that takes
many keys, which lets go of it.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Final, cast

from rocksdict import (
    AccessType,
    BlockBasedOptions,
    Cache,
    DbClosedError,
    Options,
    Rdict,
    WriteBatch,
    WriteOptions,
)

from ftwallet import platform
from ftwallet.errors import DiskFault

_ACCOUNT: Final = b"a"
_TRANSACTION: Final = b"t"
_RECORD: Final = b"r"
_DESCRIPTION: Final = b"d"
_UNFINISHED: Final = b"u"
_SLICE: Final = 500  # keys written in one go, under Python's lock: about half a millisecond
PAUSE_S: Final = 0.0001
"""Seconds between two slices of long work: time for the event loop to take Python's lock, when it waits for it."""
_CACHE_BYTES: Final = 64 * 1024 * 1024
_BUFFER_BYTES: Final = 16 * 1024**3  # a limit, not a reservation: more than one write ever holds
_FILTER_BITS: Final = 10
_OWNERS: Final = ("LOCK", "LOG", "rocksdict-config")  # files that are written by whoever opens a table
_DAMAGE: Final = ("Corruption", "IO error: No such file")


class Table:
    """One directory. Reads in any thread, writes in one at a time. Every call raises DiskFault.

    Damage is found by a checksum when it is read, at the start or later; it is marked, and the next table is empty.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._write_options = WriteOptions()
        self._write_options.disable_wal = True  # type: ignore[assignment,method-assign]  # a property, whatever the stub says
        self._damaged = directory.with_name(directory.name + ".damaged")
        if self._damaged.exists():
            shutil.rmtree(directory, ignore_errors=True)
            self._damaged.unlink()
        self._db = self._open()
        if self._one(_UNFINISHED) is not None:
            self.clear()

    @property
    def description(self) -> bytes:
        """What it is of, as it was given to `finish`; empty while it is new."""
        return self._one(_DESCRIPTION) or b""

    def accounts(self, ids: Iterable[str]) -> dict[str, int | None]:
        """Balances of these accounts, None for those that are not there."""
        asked = list(ids)
        return {
            name: None if value is None else int.from_bytes(value, "little", signed=True)
            for name, value in zip(asked, self._many([account_key(name) for name in asked]), strict=True)
        }

    def transactions(self, ids: Iterable[str]) -> dict[str, bytes | None]:
        """These transactions as they are packed, None for those that are not there."""
        asked = list(ids)
        return dict(zip(asked, self._many([transaction_key(one) for one in asked]), strict=True))

    def records(self, keys: Iterable[str]) -> dict[str, bytes | None]:
        """These records, None for those that are not there."""
        asked = list(keys)
        return dict(zip(asked, self._many([record_key(one) for one in asked]), strict=True))

    def all_accounts(self, since: str = "") -> Iterator[tuple[str, int]]:
        """Every account as it is at this call, from the id `since` on."""
        found = self._all(_ACCOUNT, since.encode())
        return ((key.decode(), int.from_bytes(value, "little", signed=True)) for key, value in found)

    def all_transactions(self) -> Iterator[tuple[str, bytes]]:
        """Every transaction as it is at this call."""
        return ((key.decode(), value) for key, value in self._all(_TRANSACTION))

    def all_records(self, prefix: str = "") -> Iterator[tuple[str, bytes]]:
        """Every record whose key begins so, as it is at this call."""
        return ((key.decode(), value) for key, value in self._all(_RECORD + prefix.encode()))

    # ---- Writing

    def begin(self) -> None:
        """From here on until `finish` the table is not whole; a crash in between leaves it as it was, or empty."""
        self._put([(_UNFINISHED, b"")])

    def put(self, accounts: Mapping[str, int], transactions: Mapping[str, bytes], records: Mapping[str, bytes]) -> None:
        """Write over these; an empty record is removed."""
        self._put((account_key(name), _balance(minor)) for name, minor in accounts.items())
        self._put((transaction_key(one), packed) for one, packed in transactions.items())
        self._put((record_key(one), packed) for one, packed in records.items())

    def finish(self, description: bytes) -> None:
        """The table is whole, and durable when this returns."""
        with self._faults():
            batch = WriteBatch(raw_mode=True)
            batch.put(_DESCRIPTION, description)
            batch.delete(_UNFINISHED)
            self._db.write(batch, self._write_options)
            self._db.flush(True)

    def clear(self) -> None:
        """Begin anew, empty."""
        self.close()
        with self._faults():
            shutil.rmtree(self._directory)
        self._db = self._open()

    def move(self, directory: Path) -> None:
        """Give the directory another name."""
        self.close()
        with self._faults():
            platform.make_directory(directory.parent)
            platform.rename(self._directory, directory)
            platform.fsync_directory(directory.parent)
        self._directory = directory
        self._db = self._open()

    def close(self) -> None:
        """Let go of the directory."""
        with self._faults():
            self._db.close()

    # ---- Inside

    def _open(self) -> Rdict:
        with self._faults():
            self._directory.mkdir(parents=True, exist_ok=True)
            return Rdict(str(self._directory), _options())

    def _one(self, key: bytes) -> bytes | None:
        return self._many([key])[0]

    def _many(self, keys: list[bytes]) -> list[bytes | None]:
        with self._faults():
            return list(self._db.get(cast("Any", keys)) or ())

    def _all(self, prefix: bytes, since: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        with self._faults():
            items = self._db.items(from_key=prefix + since)  # sees what is there now
        return self._drawn(prefix, items)

    def _drawn(self, prefix: bytes, items: Iterable[tuple[Any, Any]]) -> Iterator[tuple[bytes, bytes]]:
        with self._faults():
            for key, value in items:
                if not key.startswith(prefix):
                    break
                yield key[1:], value

    def _put(self, items: Iterable[tuple[bytes, bytes]]) -> None:
        drawn = iter(items)
        with self._faults():
            while part := list(islice(drawn, _SLICE)):
                batch = WriteBatch(raw_mode=True)
                for key, value in part:
                    if value or key[:1] != _RECORD:
                        batch.put(key, value)
                    else:
                        batch.delete(key)
                self._db.write(batch, self._write_options)
                time.sleep(PAUSE_S)

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except DbClosedError:
            raise DiskFault(f"{self._directory} was closed while it was in use") from None
        except (GeneratorExit, DiskFault):
            raise
        except Exception as error:  # RocksDB's errors have no type of their own
            if str(error).startswith(_DAMAGE):
                with contextlib.suppress(OSError):  # the next start begins a new one, made from the log
                    self._damaged.touch()
            raise DiskFault(f"{self._directory} cannot be used: {error}") from error


class Glimpse(Table):
    """A table as it was last written, whoever has it open. Nothing of it is changed: it is read by other names.

    Those stand in the directory `beside`, which is the caller's to remove. For reading alone.
    """

    def __init__(self, directory: Path, beside: Path) -> None:
        names = beside / "table"
        self._directory = directory
        self._damaged = beside / "damaged"  # to say so is for its owner
        with self._faults():
            names.mkdir()
            for path in directory.iterdir():
                if not path.name.startswith(_OWNERS):
                    (names / path.name).symlink_to(path.absolute())
            self._db = Rdict(str(names), _options(), access_type=AccessType.read_only())
        if self._one(_UNFINISHED) is not None:
            raise DiskFault(f"{directory} is being written")


def account_key(account_id: str) -> bytes:
    """The key that an account has."""
    return _ACCOUNT + account_id.encode()


def transaction_key(transaction_id: str) -> bytes:
    """The key that a transaction has."""
    return _TRANSACTION + transaction_id.encode()


def transaction_keys(ids: Iterable[str]) -> list[bytes]:
    """The keys of many transactions; a call for each would cost as much as the key."""
    return [_TRANSACTION + one.encode() for one in ids]


def record_key(key: str) -> bytes:
    """The key that a record has."""
    return _RECORD + key.encode()


def id_of(key: bytes) -> str:
    """The id in a key."""
    return key[1:].decode()


def _balance(minor: int) -> bytes:
    return minor.to_bytes(minor.bit_length() // 8 + 1, "little", signed=True)


def _options() -> Options:
    blocks = BlockBasedOptions()
    blocks.set_bloom_filter(_FILTER_BITS, False)
    blocks.set_block_cache(Cache(_CACHE_BYTES))
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_block_based_table_factory(blocks)
    options.set_write_buffer_size(_BUFFER_BYTES)
    options.set_max_background_jobs(2)
    # A write never waits for a compaction: it would wait under Python's lock, and the node with it.
    options.set_level_zero_slowdown_writes_trigger(2**30)
    options.set_level_zero_stop_writes_trigger(2**30)
    options.set_soft_pending_compaction_bytes_limit(0)
    options.set_hard_pending_compaction_bytes_limit(0)
    options.set_max_log_file_size(1024 * 1024)
    options.set_keep_log_file_num(1)
    return options
