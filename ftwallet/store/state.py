"""The ledger's State over a table on disk.

    accounts, transactions,  what has changed since the last freeze, and what blocks need: they execute here
    records
    frozen                   what had changed before: on its way to the table
    clean                    accounts as the table has them, a bounded number
    recalled, found          transactions and records read from the table since the last write, a bounded number
    absent                   what is not there
    known                    which keys the table may hold at all

Looked up in this order. What is frozen is of one lsn, so the table, once it is written, is of that lsn too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence, Set
from heapq import merge
from itertools import islice
from operator import itemgetter
from typing import Final, NamedTuple, TypeVar

import msgspec

from ftwallet.errors import BrokenInvariant, ExitCode, Refused
from ftwallet.journal.checkpoints import CheckpointMeta
from ftwallet.ledger.chunks import AccountsChunk, EndChunk, HeadChunk, RecordsChunk, TransactionsChunk, chunks
from ftwallet.ledger.needs import accounts_behind, needs
from ftwallet.ledger.operations import MOVEMENTS, Operation
from ftwallet.ledger.rules import decode_rules, encode_rules
from ftwallet.ledger.state import NOTHING, WORLD, Found, Loading, Standing, Unread
from ftwallet.store.known import Known
from ftwallet.store.table import Table, account_key, id_of, record_key, transaction_key, transaction_keys

Value = TypeVar("Value", int, bytes)

FORMAT_VERSION: Final = 1

_PAGE: Final = 1_000
_MOST_READ: Final = 100_000  # transactions, or records, that are kept because they were asked for: some 20 MB


class Frozen(NamedTuple):
    """What has changed up to a lsn, and where the state stood there."""

    standing: Standing
    accounts: dict[str, int]
    transactions: dict[str, bytes]
    records: dict[str, bytes]


class _Prepared(NamedTuple):
    operations: Sequence[Operation]
    new: bool
    unread: Unread


class StoreState:
    """A State. All of it runs where the ledger does, but `fetch`, `write` and loading, which read or write the disk."""

    on_disk = True

    def __init__(self, table: Table, known: Known, standing: Standing | None, cached_accounts: int) -> None:
        self.standing = standing
        self.accounts: dict[str, int] = {WORLD: table.accounts([WORLD])[WORLD] or 0}
        self.transactions: dict[str, bytes] = {}
        self.records: dict[str, bytes] = {}
        self.table = table
        self.known = known
        self._cached_accounts = cached_accounts
        self._frozen: Frozen | None = None
        self._clean: dict[str, int] = {}
        self._recalled: dict[str, bytes] = {}
        self._found: dict[str, bytes] = {}
        self._absent: set[bytes] = set()
        self._prepared: deque[_Prepared] = deque()
        self._generation = 0
        self._loading = Loading()

    def stand(self, standing: Standing) -> None:
        """The block is whole: the state now stands here."""
        self.standing = standing

    # ---- What blocks need

    def prepare(self, operations: Sequence[Operation], *, new: bool) -> Unread:
        """A block comes; returns what must be read for it. `new`: the ids of its transactions are known to be so."""
        unread = self._pull(operations, new)
        self._prepared.append(_Prepared(operations, new, unread))
        return unread

    def begin(self, operations: Sequence[Operation]) -> None:
        """The next block is executed now. Reads the disk if it was not prepared."""
        prepared = self._take_prepared(operations)
        if prepared and not prepared.unread:
            return
        new = prepared.new if prepared else False
        while unread := self._pull(operations, new):
            self.take(self.fetch(unread))

    def _take_prepared(self, operations: Sequence[Operation]) -> _Prepared | None:
        for index, prepared in enumerate(self._prepared):
            if prepared.operations is operations:
                for _ in range(index + 1):  # those before it were cut from the log
                    self._prepared.popleft()
                return prepared
        return None

    def _pull(self, operations: Sequence[Operation], new: bool) -> Unread:
        """Bring in what memory has; returns what it has not."""
        accounts, records = needs(operations, self.record)
        accounts = accounts.difference(self.accounts)  # in place, Python would walk all accounts that there are
        records = records.difference(self.records)
        ids = [one.transaction_id for one in operations if not new or one.kind not in MOVEMENTS]
        unread = self.unread(accounts, ids, records)
        for key in records:
            record = self._kept_record(key)
            if record is not None:
                self.records[key] = record
        for account_id in accounts:
            balance = self._kept_account(account_id)
            if balance is not None:
                self.accounts[account_id] = balance
        for kept in (self._frozen.transactions if self._frozen else {}, self._recalled):  # the newer one first
            for transaction_id in [one for one in ids if one in kept] if kept else ():
                if transaction_id not in self.transactions:
                    self.transactions[transaction_id] = kept[transaction_id]
        return unread

    def _kept_account(self, account_id: str) -> int | None:
        frozen = self._frozen
        balance = frozen.accounts.get(account_id) if frozen else None
        return self._clean.get(account_id) if balance is None else balance

    def _kept_transaction(self, transaction_id: str) -> bytes | None:
        frozen = self._frozen
        packed = frozen.transactions.get(transaction_id) if frozen else None
        return self._recalled.get(transaction_id) if packed is None else packed

    def _kept_record(self, key: str) -> bytes | None:
        frozen = self._frozen
        record = frozen.records.get(key) if frozen else None
        return self._found.get(key) if record is None else record

    # ---- Look-ups

    def account(self, account_id: str) -> int | None:
        """Balance of an account that is not unread, None when there is none."""
        balance = self.accounts.get(account_id)
        return self._kept_account(account_id) if balance is None else balance

    def transaction(self, transaction_id: str) -> bytes | None:
        """A packed transaction that is not unread, None when there is none."""
        packed = self.transactions.get(transaction_id)
        return self._kept_transaction(transaction_id) if packed is None else packed

    def record(self, key: str) -> bytes | None:
        """A record that is not unread, None when there is none."""
        record = self.records.get(key)
        return (self._kept_record(key) if record is None else record) or None

    def transactions_of(self, transaction_ids: Set[str]) -> dict[str, bytes]:
        """The packed transactions that there are of these, none of which is unread."""
        found: dict[str, bytes] = {}
        for layer in (self._recalled, self._frozen.transactions if self._frozen else {}, self.transactions):
            found.update((one, layer[one]) for one in layer.keys() & transaction_ids)
        return found

    def unread(
        self, account_ids: Iterable[str], transaction_ids: Iterable[str], record_keys: Iterable[str] = ()
    ) -> Unread:
        """What of this may be on disk only."""
        if not self.known:
            return NOTHING
        absent = self._absent
        keys = [account_key(one) for one in account_ids if self.account(one) is None]
        accounts = [id_of(key) for key in self.known.among(keys) if key not in absent]
        found = self.known.among(transaction_keys(transaction_ids))  # they are new as a rule
        transactions = [id_of(key) for key in found if key not in absent and self.transaction(id_of(key)) is None]
        known = self.known.among([record_key(one) for one in record_keys if not self._holds_record(one)])
        records = [id_of(key) for key in known if key not in absent]
        return Unread(accounts, transactions, records) if accounts or transactions or records else NOTHING

    def _holds_record(self, key: str) -> bool:
        """Whether memory knows of it, also that it is none any more."""
        return key in self.records or self._kept_record(key) is not None

    def is_unread(self, transaction_id: str) -> bool:
        """Whether this transaction may be on disk only; on the path of every request."""
        return transaction_key(transaction_id) in self.known and bool(self.unread((), (transaction_id,)))

    def fetch(self, unread: Unread) -> Found:
        """Read the disk; for any thread. Raises DiskFault."""
        generation = self._generation
        records = self.table.records(unread.records)
        accounts = {*unread.accounts, *accounts_behind(records.values())}
        return Found(self.table.accounts(accounts), self.table.transactions(unread.transactions), records, generation)

    def page(self, after: str) -> Found:
        """Read some accounts after this one, for any thread; none when enough are in memory. Raises DiskFault."""
        generation = self._generation
        if len(self._clean) >= self._cached_accounts:
            return Found({}, {}, {}, generation)
        return Found(dict(islice(self.table.all_accounts(after + "\0"), _PAGE)), {}, {}, generation)

    def take(self, found: Found) -> bool:
        """Bring in what was read; returns False when the table was written meanwhile: it has to be read anew."""
        if found.generation != self._generation:
            return False
        for account_id, balance in found.accounts.items():
            if balance is None:
                self._absent.add(account_key(account_id))
            elif account_id != WORLD:  # that is always at hand
                self._clean.pop(account_id, None)
                self._clean[account_id] = balance
        for transaction_id, packed in found.transactions.items():
            if packed is None:
                self._absent.add(transaction_key(transaction_id))
            else:
                self._recalled.pop(transaction_id, None)
                self._recalled[transaction_id] = packed
        for key, record in found.records.items():
            if record is None:
                self._absent.add(record_key(key))
            else:
                self._found.pop(key, None)
                self._found[key] = record
        # Here, too, because a node that is only read never writes. What was just asked for stays.
        _forget_oldest(self._clean, max(self._cached_accounts, len(found.accounts)))
        _forget_oldest(self._recalled, max(_MOST_READ, len(found.transactions)))
        _forget_oldest(self._found, max(_MOST_READ, len(found.records)))
        return True

    # ---- To the table and from it

    def freeze(self) -> None:
        """What has changed up to here is to be written; one at a time."""
        if self._frozen or self.standing is None:
            raise BrokenInvariant("the state is frozen before the write before is over")
        self._frozen = Frozen(self.standing, self.accounts, self.transactions, self.records)
        self.accounts, self.transactions, self.records = {WORLD: self.accounts[WORLD]}, {}, {}
        for prepared in self._prepared:
            self._pull(prepared.operations, prepared.new)

    def write(self, meta: CheckpointMeta) -> None:
        """Write what is frozen, which `meta` is of, durably; in one background thread. Raises DiskFault."""
        frozen = self._frozen
        if frozen is None or frozen.standing.applied_lsn != meta.lsn:
            raise BrokenInvariant(f"what is frozen is not of lsn {meta.lsn}")
        self.known.add(map(account_key, frozen.accounts))
        self.known.add(map(transaction_key, frozen.transactions))
        self.known.add(map(record_key, frozen.records))
        self.table.begin()
        self.table.put(frozen.accounts, frozen.transactions, frozen.records)
        self.table.finish(describe(meta, frozen.standing))

    def written(self) -> None:
        """The table is as of what was frozen."""
        if self._frozen:
            self._clean.update(self._frozen.accounts)
            del self._clean[WORLD]
        self._frozen = None
        self._generation += 1
        self._recalled, self._found, self._absent = {}, {}, set()
        for account_id in list(islice(self._clean, max(0, len(self._clean) - self._cached_accounts))):
            del self._clean[account_id]

    def thaw(self) -> None:
        """Nobody will say that what is frozen was written: it counts as changed again."""
        if self._frozen:
            self.accounts = self._frozen.accounts | self.accounts
            self.transactions = self._frozen.transactions | self.transactions
            self.records = self._frozen.records | self.records
            self._frozen = None

    def export_accounts(self) -> Iterator[tuple[str, int]]:
        """All accounts as they are at this call, in order of their ids."""
        changed = (self._frozen.accounts if self._frozen else {}) | self.accounts
        return _merged(changed, self.table.all_accounts())

    def export_transactions(self) -> Iterator[tuple[str, bytes]]:
        """All transactions as they are at this call, in order of their ids."""
        changed = (self._frozen.transactions if self._frozen else {}) | self.transactions
        return _merged(changed, self.table.all_transactions())

    def export_records(self, prefix: str = "") -> Iterator[tuple[str, bytes]]:
        """All records whose key begins so, in order of their keys, as they are at this call."""
        changed = (self._frozen.records if self._frozen else {}) | self.records
        these = {key: record for key, record in changed.items() if key.startswith(prefix)}
        return (pair for pair in _merged(these, self.table.all_records(prefix)) if pair[1])

    def load_chunk(self, chunk: bytes) -> None:
        """Take the next chunk of a checkpoint into an empty table; `loaded` makes it whole. Raises ValueError."""
        match self._loading.next(chunk, fresh=self.standing is None):
            case AccountsChunk(names, digits):
                balances = dict(zip(names, map(int, digits), strict=True))
                self.accounts[WORLD] = balances.get(WORLD, self.accounts[WORLD])
                self._load(balances, {}, {})
            case TransactionsChunk(ids, packed):
                self._load({}, dict(zip(ids, packed, strict=True)), {})
            case RecordsChunk(keys, packed):
                self._load({}, {}, dict(zip(keys, packed, strict=True)))
            case EndChunk():
                self.standing = self._loading.end()
            case _:
                self.table.begin()

    def _load(self, accounts: dict[str, int], transactions: dict[str, bytes], records: dict[str, bytes]) -> None:
        self.known.add(map(account_key, accounts))
        self.known.add(map(transaction_key, transactions))
        self.known.add(map(record_key, records))
        self.table.put(accounts, transactions, records)

    def loaded(self, meta: CheckpointMeta) -> None:
        """All chunks have come: the table is whole, durably. Raises DiskFault."""
        if self.standing is None:
            raise BrokenInvariant("a checkpoint ends early")
        self.table.finish(describe(meta, self.standing))


def _forget_oldest(kept: dict[str, Value], most: int) -> None:
    """Once an eighth too many are there, in one go: in a dictionary whose first keys have gone the next is far."""
    if len(kept) > most + most // 8:
        for key in list(islice(kept, len(kept) - most)):
            del kept[key]


def _merged(changed: dict[str, Value], kept: Iterator[tuple[str, Value]]) -> Iterator[tuple[str, Value]]:
    """Both in order of the ids, as every node has them, however much it has written; Python orders text as UTF-8 is."""
    unchanged = (pair for pair in kept if pair[0] not in changed)
    return merge(sorted(changed.items()), unchanged, key=itemgetter(0))


class _Description(msgspec.Struct, frozen=True):
    meta: CheckpointMeta
    rules: bytes
    time_us: int
    format_version: int = FORMAT_VERSION


def describe(meta: CheckpointMeta, standing: Standing) -> bytes:
    """What a table says of itself."""
    return msgspec.msgpack.encode(_Description(meta, encode_rules(standing.rules), standing.time_us))


def described(description: bytes) -> tuple[CheckpointMeta, Standing]:
    """Read what `describe` wrote; raises ValueError on anything else, Refused on what a newer program wrote."""
    read = msgspec.msgpack.decode(description, type=_Description)
    if read.format_version > FORMAT_VERSION:
        raise Refused(
            f"the store has format version {read.format_version}, this program knows up to {FORMAT_VERSION}: "
            "run the newer program",
            ExitCode.WRONG_DIRECTORY,
        )
    return read.meta, Standing(read.meta.lsn, read.meta.digest, decode_rules(read.rules), read.time_us)


def table_chunks(table: Table, standing: Standing) -> Iterator[bytes]:
    """All of a table as the chunks of a checkpoint; `standing` is where the table stands."""
    lsn, digest, rules, time_us = standing
    head = HeadChunk(lsn, digest, encode_rules(rules), time_us)
    return chunks(head, table.all_accounts(), table.all_transactions(), table.all_records())
