"""What the ledger knows, behind an interface that a store on disk fits as well.

Blocks execute against dictionaries alone: what of the state is on disk has to be in them before. So a block costs no
look-up more than it must, and reading the disk can happen where nobody waits for it: `prepare` says what has to be
read, `fetch` reads it in any thread, `take` brings it in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableMapping, Sequence, Set
from heapq import merge
from typing import Final, NamedTuple, Protocol

from ftwallet.ledger.chunks import (
    AccountsChunk,
    Chunk,
    EndChunk,
    HeadChunk,
    RecordsChunk,
    TransactionsChunk,
    chunks,
    decode_chunk,
)
from ftwallet.ledger.operations import Operation
from ftwallet.ledger.rules import Rules, decode_rules, encode_rules

WORLD: Final = "@world"
_RUN: Final = 10_000


class Standing(NamedTuple):
    """Where a state stands.

    That is: the last lsn in it, the digest of all outcomes so far, the rules in force, and the time of the last
    operation in microseconds since 1970 UTC.
    """

    applied_lsn: int
    digest: bytes
    rules: Rules
    time_us: int = 0


class Unread(NamedTuple):
    """What may be on disk and is not in memory."""

    accounts: Sequence[str] = ()
    transactions: Sequence[str] = ()
    records: Sequence[str] = ()

    def __bool__(self) -> bool:
        return bool(self.accounts or self.transactions or self.records)


class Found(NamedTuple):
    """What was read of an Unread, and when, counted in writes of the disk; None for what is not there."""

    accounts: dict[str, int | None]
    transactions: dict[str, bytes | None]
    records: dict[str, bytes | None]
    generation: int


NOTHING: Final = Unread()


class State(Protocol):
    """The ledger's memory. `accounts`, `transactions` and `records` are written in place, and `stand` ends a block.

    They hold at least what the blocks prepared last need.
    """

    on_disk: bool
    """Whether it may hold more than is in memory."""

    @property
    def standing(self) -> Standing | None:
        """Where it stands; None while it is new, or not loaded to the end."""

    @property
    def accounts(self) -> MutableMapping[str, int]:
        """Account id to balance in minor units, `@world` included."""

    @property
    def transactions(self) -> MutableMapping[str, bytes]:
        """Transaction id to packed transaction."""

    @property
    def records(self) -> MutableMapping[str, bytes]:
        """What else there is to remember (holds), by keys of `needs.py`; an empty one is none."""

    def stand(self, standing: Standing) -> None:
        """The block is whole: the state now stands here."""

    def begin(self, operations: Sequence[Operation]) -> None:
        """The next block is executed now: what it needs must be in memory. Reads the disk if that was not prepared."""

    def prepare(self, operations: Sequence[Operation], *, new: bool) -> Unread:
        """A block comes; returns what must be read for it. `new`: the ids of its transactions are known to be so."""

    def unread(
        self, account_ids: Iterable[str], transaction_ids: Iterable[str], record_keys: Iterable[str] = ()
    ) -> Unread:
        """What of this may be on disk only."""

    def is_unread(self, transaction_id: str) -> bool:
        """Whether this transaction may be on disk only; on the path of every request."""

    def fetch(self, unread: Unread) -> Found:
        """Read the disk; for any thread."""

    def page(self, after: str) -> Found:
        """Read some accounts after this one, in order of their ids, for any thread; none when enough are in memory."""

    def take(self, found: Found) -> bool:
        """Bring in what was read; returns whether it was still what the disk holds. If not, it has to be read anew."""

    def account(self, account_id: str) -> int | None:
        """Balance of an account that is not unread, None when there is none."""

    def transaction(self, transaction_id: str) -> bytes | None:
        """A packed transaction that is not unread, None when there is none."""

    def record(self, key: str) -> bytes | None:
        """A record that is not unread, None when there is none."""

    def transactions_of(self, transaction_ids: Set[str]) -> dict[str, bytes]:
        """The packed transactions that there are of these, none of which is unread."""

    def export_accounts(self) -> Iterator[tuple[str, int]]:
        """All accounts as they are at this call; the ledger may go on at once."""

    def export_transactions(self) -> Iterator[tuple[str, bytes]]:
        """All transactions as they are at this call."""

    def export_records(self, prefix: str = "") -> Iterator[tuple[str, bytes]]:
        """All records whose key begins so, in order of their keys, as they are at this call."""

    def load_chunk(self, chunk: bytes) -> None:
        """Take in the next chunk of a checkpoint; raises ValueError when it is not that."""


class MemoryState:
    """A State in dictionaries; about 230 bytes an id and 200 an account (ids of 36 characters)."""

    on_disk = False

    def __init__(self) -> None:
        self.standing: Standing | None = None
        self.accounts: dict[str, int] = {WORLD: 0}
        self.transactions: dict[str, bytes] = {}
        self.records: dict[str, bytes] = _Records()
        self._loading = Loading()

    def stand(self, standing: Standing) -> None:
        """The block is whole: the state now stands here."""
        self.standing = standing

    def begin(self, operations: Sequence[Operation]) -> None:
        """All is in memory."""

    def prepare(self, operations: Sequence[Operation], *, new: bool) -> Unread:
        """All is in memory."""
        return NOTHING

    def unread(
        self, account_ids: Iterable[str], transaction_ids: Iterable[str], record_keys: Iterable[str] = ()
    ) -> Unread:
        """All is in memory."""
        return NOTHING

    def is_unread(self, transaction_id: str) -> bool:
        """All is in memory."""
        return False

    def fetch(self, unread: Unread) -> Found:
        """All is in memory."""
        return Found({}, {}, {}, 0)

    def page(self, after: str) -> Found:
        """All is in memory."""
        return Found({}, {}, {}, 0)

    def take(self, found: Found) -> bool:
        """All is in memory."""
        return True

    def account(self, account_id: str) -> int | None:
        """Balance of an account."""
        return self.accounts.get(account_id)

    def transaction(self, transaction_id: str) -> bytes | None:
        """A packed transaction."""
        return self.transactions.get(transaction_id)

    def record(self, key: str) -> bytes | None:
        """A record, None when there is none."""
        return self.records.get(key)

    def transactions_of(self, transaction_ids: Set[str]) -> dict[str, bytes]:
        """The packed transactions that there are of these."""
        return {one: self.transactions[one] for one in self.transactions.keys() & transaction_ids}

    def export_accounts(self) -> Iterator[tuple[str, int]]:
        """All accounts, copied at this call, in the order in which they came to be."""
        return iter(dict(self.accounts).items())

    def export_transactions(self) -> Iterator[tuple[str, bytes]]:
        """All transactions, copied at this call (tens of milliseconds for a million), in order of first appearance."""
        return iter(dict(self.transactions).items())

    def export_records(self, prefix: str = "") -> Iterator[tuple[str, bytes]]:
        """All records whose key begins so, copied at this call, in order of their keys."""
        return _in_order(dict(self.records), prefix)

    def load_chunk(self, chunk: bytes) -> None:
        """Take in the next chunk of a checkpoint, in order; `standing` is set by the last one.

        Raises ValueError when the chunk does not follow the one before, or is not a chunk at all.
        """
        match self._loading.next(chunk, fresh=self.standing is None and not self.transactions):
            case HeadChunk():
                self.accounts.clear()
            case AccountsChunk(names, balances):
                self.accounts.update(zip(names, map(int, balances), strict=True))
            case TransactionsChunk(ids, packed):
                self.transactions.update(zip(ids, packed, strict=True))
            case RecordsChunk(keys, packed):
                self.records.update(zip(keys, packed, strict=True))
            case EndChunk():
                self.standing = self._loading.end()


def _in_order(records: dict[str, bytes], prefix: str) -> Iterator[tuple[str, bytes]]:
    """Sorted when they are drawn, in any thread, in pieces: a sort of millions in one would stop all other threads."""
    chosen = [key for key in records if key.startswith(prefix)]
    for key in merge(*(sorted(chosen[at : at + _RUN]) for at in range(0, len(chosen), _RUN))):
        yield key, records[key]


class _Records(dict[str, bytes]):
    """Records by their keys; an empty one is none."""

    def __setitem__(self, key: str, value: bytes) -> None:
        if value:
            super().__setitem__(key, value)
        else:
            self.pop(key, None)


class Loading:
    """The order that the chunks of a checkpoint come in."""

    def __init__(self) -> None:
        self._head: HeadChunk | None = None
        self._accounts = 0
        self._transactions = 0
        self._records = 0

    def next(self, encoded: bytes, *, fresh: bool) -> Chunk:
        """The next chunk; raises ValueError when it does not follow, or when the state is not `fresh` at the first."""
        chunk = decode_chunk(encoded)
        if isinstance(chunk, HeadChunk):
            if self._head or not fresh:
                raise ValueError("a checkpoint can only be loaded into an empty state")
            self._head = chunk
        elif self._head is None:
            raise ValueError("a chunk of a checkpoint outside of its head and its end")
        elif isinstance(chunk, AccountsChunk):
            self._accounts += len(chunk.names)
        elif isinstance(chunk, TransactionsChunk):
            self._transactions += len(chunk.ids)
        elif isinstance(chunk, RecordsChunk):
            self._records += len(chunk.keys)
        else:
            self._count(chunk)
        return chunk

    def _count(self, end: EndChunk) -> None:
        found = (self._accounts, self._transactions, self._records)
        announced = (end.accounts, end.transactions, end.records)
        if found != announced:
            sentence = "{} accounts, {} transactions and {} records do not follow where {}, {} and {} are announced"
            raise ValueError(sentence.format(*found, *announced))

    def end(self) -> Standing:
        """Where the state stands; raises ValueError when nothing has come."""
        head, self._head = self._head, None
        if head is None:
            raise ValueError("a checkpoint without a head")
        return Standing(head.applied_lsn, head.digest, decode_rules(head.rules), head.time_us)


def checkpoint_chunks(state: State) -> Iterator[bytes]:
    """The state as it is at this call, as chunks of a checkpoint; encoded in slices as they are drawn, in any thread.

    Raises ValueError while nothing was ever applied.
    """
    if state.standing is None:
        raise ValueError("an empty state has no checkpoint")
    applied_lsn, digest, rules, time_us = state.standing
    head = HeadChunk(applied_lsn, digest, encode_rules(rules), time_us)
    return chunks(head, state.export_accounts(), state.export_transactions(), state.export_records())
