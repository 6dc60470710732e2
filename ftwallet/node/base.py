"""What a start goes on from, so that it need not replay all of the log: the ledger as it was at one lsn, on disk.

Either checkpoints, files that are each written whole, with the ledger in memory; or a table that holds what memory does
not, and is written behind. With a table, a checkpoint is only written where a partner needs a file (a state sync).
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from itertools import takewhile
from pathlib import Path
from typing import Final, NamedTuple, Protocol

import structlog

from ftwallet.config import Config
from ftwallet.errors import DiskFault
from ftwallet.journal import Corruption, Journal
from ftwallet.journal.checkpoints import CheckpointMeta, find_newest, list_files, load_newest, lsn_of, write_checkpoint
from ftwallet.ledger.ledger import Ledger
from ftwallet.ledger.needs import made_by
from ftwallet.ledger.operations import decode_operations
from ftwallet.ledger.rules import Rules
from ftwallet.ledger.state import MemoryState, State, checkpoint_chunks
from ftwallet.store.known import Known
from ftwallet.store.state import StoreState, described, table_chunks
from ftwallet.store.table import Table, account_key, record_key, transaction_key

DEFAULT_RULES: Final = Rules()
"""A new ledger begins with these; others come into force by a record in the log, so that every replay agrees."""

_SAVE_KNOWN_EVERY: Final = 500_000  # records: as many take half a second to be read again


class Snapshot(NamedTuple):
    """The ledger as it was at one block's end. `write` may take long, in a thread; `written` follows on the loop."""

    write: Callable[[CheckpointMeta], None]
    written: Callable[[], None]


Usable = Callable[[CheckpointMeta], bool]


class Base(Protocol):
    """One node's. All raise DiskFault. A replay writes down where it is every `replayed_at_most` records.

    `called`: what holds the state, in a sentence.
    """

    replayed_at_most: int
    called: str

    def open(self, journal: Journal) -> Ledger:
        """The ledger that the disk has of this log; a new one when that has all of it. Raises Corruption."""

    def snapshot(self, ledger: Ledger) -> Snapshot:
        """The ledger as it is now, to be written; one at a time."""

    def need_file(self, from_lsn: int, usable: Usable) -> None:
        """A partner needs a checkpoint's file from `from_lsn` on: write one, if what the disk has is that far on."""

    def hold_twice(self, lsn: int, journal: Journal) -> int:
        """Make sure that two sound copies on this disk hold the state at `lsn` or later; returns up to where they do.

        Where snapshots are written. As long as it likes; 0 when there are no two.
        """

    def hand_over(self, ledger: Ledger) -> None:
        """Another role goes on with the ledger, and knows of no snapshot."""

    def load(self, meta: CheckpointMeta, chunks: Iterator[bytes]) -> Ledger:
        """A ledger from a checkpoint that came, beside the one that is there. Raises ValueError, BrokenInvariant."""

    def adopt(self, ledger: Ledger) -> None:
        """What was loaded is the node's now."""

    def close(self) -> None:
        """Let go of the directory."""


class FileBase:
    """The ledger in memory, and in checkpoints."""

    replayed_at_most = 2**63  # all is in memory anyway
    called = "checkpoint"

    def __init__(self, node_dir: Path) -> None:
        self._checkpoints = node_dir / "checkpoints"

    def open(self, journal: Journal) -> Ledger:
        """The ledger of the newest checkpoint that this log still holds, else a new one."""
        found = _newest(self._checkpoints, journal, lambda meta, chunks: Ledger.restore(chunks))
        return found or _new(journal, self._checkpoints, MemoryState())

    def snapshot(self, ledger: Ledger) -> Snapshot:
        """A copy of the ledger."""
        chunks = checkpoint_chunks(ledger.state)
        return Snapshot(lambda meta: _write_file(self._checkpoints, meta, chunks), _nothing)

    def need_file(self, from_lsn: int, usable: Usable) -> None:
        """All that the disk has is files already."""

    def hold_twice(self, lsn: int, journal: Journal) -> int:
        """The older of the two newest checkpoints has it."""
        lsns = [0, 0, *(lsn_of(path) for path in list_files(self._checkpoints))]
        lsn = journal.whole_until(min(lsn, lsns[-2]))
        newest = (
            find_newest(self._checkpoints, lambda meta: _holds(journal, meta)) if lsn >= journal.first_lsn else None
        )
        if newest is None:
            return 0
        older = find_newest(self._checkpoints, lambda meta: meta.lsn < newest[0].lsn and _holds(journal, meta))
        return min(lsn, older[0].lsn) if older else 0

    def hand_over(self, ledger: Ledger) -> None:
        """A copy that nobody writes costs nothing."""

    def load(self, meta: CheckpointMeta, chunks: Iterator[bytes]) -> Ledger:
        """In memory."""
        return Ledger.restore(chunks)

    def adopt(self, ledger: Ledger) -> None:
        """Nothing is on disk but the file, which is there already."""

    def close(self) -> None:
        """Nothing is open."""


class StoreBase:
    """The ledger in a table, with `cached_accounts` in memory beside what is new."""

    replayed_at_most = _SAVE_KNOWN_EVERY
    called = "store"

    def __init__(self, node_dir: Path, cached_accounts: int) -> None:
        self._checkpoints = node_dir / "checkpoints"
        self._directory = node_dir / "store"
        self._beside = node_dir / "store.new"
        self._cached_accounts = cached_accounts
        self._table: Table | None = None
        self._known = Known()
        self._known_lsn = 0
        self._lsn = 0

    def open(self, journal: Journal) -> Ledger:
        """The ledger as the table has it; where that is not of this log, made anew from a checkpoint or the log."""
        first = self._table is None
        table = self._table = self._table or self._open_table()
        with contextlib.suppress(ValueError):
            meta, standing = described(table.description)
            if _holds(journal, meta):
                if first:
                    self._find_known(table, journal, meta.lsn)
                return Ledger(DEFAULT_RULES, StoreState(table, self._known, standing, self._cached_accounts))
        found = _newest(self._checkpoints, journal, self._loaded)
        return found or _new(journal, self._checkpoints, self._emptied(table))

    def _open_table(self) -> Table:
        try:
            return Table(self._directory / "table")
        except DiskFault as fault:
            structlog.get_logger().warning(
                f"{fault}. If that is damage, the store is made anew, from a checkpoint or the log"
            )
            return Table(self._directory / "table")

    def _loaded(self, meta: CheckpointMeta, chunks: Iterator[bytes]) -> Ledger:
        assert self._table is not None
        state = self._emptied(self._table)
        ledger = Ledger.restore(chunks, state)
        state.loaded(meta)
        self._lsn = meta.lsn
        return ledger

    def _emptied(self, table: Table) -> StoreState:
        (self._directory / "known").unlink(missing_ok=True)
        table.clear()
        self._known, self._known_lsn, self._lsn = Known(), 0, 0
        return StoreState(table, self._known, None, self._cached_accounts)

    def _find_known(self, table: Table, journal: Journal, lsn: int) -> None:
        """Which keys the table has: what was saved and what came after that; else all of it is read."""
        saved = Known.load(self._directory / "known")
        self._lsn = lsn
        if saved and journal.first_lsn - 1 <= saved[1] <= lsn:
            self._known, self._known_lsn = saved
            for block in takewhile(lambda block: block.last_lsn <= lsn, journal.blocks(self._known_lsn + 1)):
                operations = decode_operations(block.payload)
                accounts, records = made_by(operations)  # one that is left out would be money that nobody finds
                self._known.add(map(account_key, accounts))
                self._known.add(transaction_key(one.transaction_id) for one in operations)
                self._known.add(map(record_key, records))
            return
        structlog.get_logger().info(f"{self._directory} is read in full: which ids it has is not on record")
        self._known.add(account_key(name) for name, _ in table.all_accounts())
        self._known.add(transaction_key(one) for one, _ in table.all_transactions())
        self._known.add(record_key(one) for one, _ in table.all_records())

    def snapshot(self, ledger: Ledger) -> Snapshot:
        """What has changed since the last one."""
        state = _of_table(ledger)
        state.freeze()

        def write(meta: CheckpointMeta) -> None:
            state.write(meta)
            self._lsn = meta.lsn
            if meta.lsn - self._known_lsn >= _SAVE_KNOWN_EVERY:
                self._save_known()

        return Snapshot(write, state.written)

    def need_file(self, from_lsn: int, usable: Usable) -> None:
        """Write all of the table into a file."""
        if self._table is None:
            return
        with contextlib.suppress(ValueError):
            meta, standing = described(self._table.description)
            if meta.lsn >= from_lsn and usable(meta):
                _write_file(self._checkpoints, meta, table_chunks(self._table, standing))

    def hold_twice(self, lsn: int, journal: Journal) -> int:
        """The table has it, and a checkpoint, which is written for this."""
        if self._table is None:
            return 0
        with contextlib.suppress(ValueError):
            meta, standing = described(self._table.description)
            lsn = journal.whole_until(min(lsn, meta.lsn))
            if lsn < journal.first_lsn or not _holds(journal, meta):
                return 0
            if find_newest(self._checkpoints, lambda found: found.lsn >= lsn and _holds(journal, found)) is None:
                _write_file(self._checkpoints, meta, table_chunks(self._table, standing))
            if self._known_lsn < lsn:  # or a start would have to read all keys: the records between are not there
                self._save_known()
            return lsn
        return 0

    def hand_over(self, ledger: Ledger) -> None:
        """What has changed since the last snapshot that was written is in the next one."""
        _of_table(ledger).thaw()

    def load(self, meta: CheckpointMeta, chunks: Iterator[bytes]) -> Ledger:
        """Into a table beside."""
        shutil.rmtree(self._beside, ignore_errors=True)
        state = StoreState(Table(self._beside), Known(), None, self._cached_accounts)
        try:
            ledger = Ledger.restore(chunks, state)
            state.loaded(meta)
        except BaseException:
            state.table.close()
            shutil.rmtree(self._beside, ignore_errors=True)
            raise
        return ledger

    def adopt(self, ledger: Ledger) -> None:
        """The table beside takes the place of the one that was there.

        A crash in between leaves one that is not of this log, which is made anew from the checkpoint.
        """
        state = _of_table(ledger)
        if self._table:
            self._table.close()
        shutil.rmtree(self._directory, ignore_errors=True)
        state.table.move(self._directory / "table")
        self._table, self._known = state.table, state.known
        self._known_lsn, self._lsn = 0, ledger.applied_lsn

    def close(self) -> None:
        """Save which keys there are, and close the table."""
        if self._table is None:
            return
        if self._lsn > self._known_lsn:
            self._save_known()
        self._table.close()
        self._table = None

    def _save_known(self) -> None:
        self._known.save(self._directory / "known", self._lsn)
        self._known_lsn = self._lsn


def base_of(node_dir: Path, config: Config) -> Base:
    """The base that the configuration asks for."""
    if config.state == "memory":
        return FileBase(node_dir)
    return StoreBase(node_dir, config.cached_accounts)


def _of_table(ledger: Ledger) -> StoreState:
    state = ledger.state
    if not isinstance(state, StoreState):
        raise TypeError("a ledger in memory has no table")
    return state


def _newest(
    directory: Path, journal: Journal, load: Callable[[CheckpointMeta, Iterator[bytes]], Ledger]
) -> Ledger | None:
    """What can be loaded from the newest checkpoint that this log still holds."""
    log = structlog.get_logger()
    unfit: set[int] = set()
    while found := load_newest(directory, lambda meta: meta.lsn not in unfit and _holds(journal, meta), log.warning):
        meta, chunks = found
        try:
            return load(meta, chunks)
        except ValueError as error:
            log.warning(f"The checkpoint at lsn {meta.lsn} is passed over: {error}")
            unfit.add(meta.lsn)
    return None


def _new(journal: Journal, directory: Path, state: State) -> Ledger:
    """An empty ledger. Raises Corruption when the log begins later: nothing has the records before it."""
    if journal.first_lsn > 1:
        why = (
            f"the log begins with lsn {journal.first_lsn}, and neither the node's store nor {directory} holds a sound "
            "state of it to go on from; rebuild this node from its partner (docs/operations.md)"
        )
        raise Corruption(journal.directory, 0, why)
    return Ledger(DEFAULT_RULES, state)


def _holds(journal: Journal, meta: CheckpointMeta) -> bool:
    """Whether the disk's state is of this log and of nothing that may still be cut. Raises Corruption, DiskFault."""
    return meta.lsn <= journal.commit_lsn and journal.holds(meta.lsn, meta.chain)


def _write_file(directory: Path, meta: CheckpointMeta, chunks: Iterator[bytes]) -> None:
    write_checkpoint(directory, meta, chunks)


def _nothing() -> None:
    """Nobody waits for the write of a copy."""
