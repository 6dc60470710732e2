"""What the ledger knows, behind an interface that a store on disk fits as well.

An account's id is kept once: everything else names it by its number, dense in order of first appearance.
Number 0 is `@world`, against which all money moves. A refused operation gives its account a number too, but
no balance: an account exists when its balance is not None.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping, MutableSequence
from typing import Final, NamedTuple, Protocol

from ftwallet.ledger.chunks import (
    AccountsChunk,
    Chunk,
    HeadChunk,
    TransactionsChunk,
    account_chunks,
    decode_chunk,
    encode_chunk,
    transaction_chunks,
)
from ftwallet.ledger.rules import Rules, decode_rules, encode_rules

WORLD: Final = "@world"
WORLD_NUMBER: Final = 0


class Standing(NamedTuple):
    """Where a state stands: the last lsn in it, the digest of all outcomes so far, the rules in force."""

    applied_lsn: int
    digest: bytes
    rules: Rules


class State(Protocol):
    """The ledger's memory. Its collections are written in place, and `stand` ends a block.

    A store that must outlive its process gathers the writes of a block and makes them durable together in
    `stand`.
    """

    @property
    def standing(self) -> Standing | None:
        """Where it stands; None while it is new, or not loaded to the end."""

    @property
    def numbers(self) -> MutableMapping[str, int]:
        """Account id to number."""

    @property
    def names(self) -> MutableSequence[str]:
        """Account number to id."""

    @property
    def balances(self) -> MutableSequence[int | None]:
        """Account number to balance in minor units; None for an account that does not exist."""

    @property
    def transactions(self) -> MutableMapping[str, bytes]:
        """Transaction id to packed transaction."""

    def stand(self, standing: Standing) -> None:
        """The block is whole: the state now stands here."""

    def export_chunks(self) -> Iterator[bytes]:
        """The state as it is at this call, as chunks of a checkpoint; the ledger may go on at once."""

    def load_chunk(self, chunk: bytes) -> None:
        """Take in the next chunk of an export; raises ValueError when it is not that."""


class MemoryState:
    """A State in dictionaries and lists; about 230 bytes an id and 260 an account (ids of 36 characters)."""

    def __init__(self) -> None:
        self.standing: Standing | None = None
        self.numbers: dict[str, int] = {WORLD: WORLD_NUMBER}
        self.names: list[str] = [WORLD]
        self.balances: list[int | None] = [0]
        self.transactions: dict[str, bytes] = {}
        self._loading: HeadChunk | None = None

    def stand(self, standing: Standing) -> None:
        """The block is whole: the state now stands here."""
        self.standing = standing

    def export_chunks(self) -> Iterator[bytes]:
        """The state as it is at this call, as chunks of a checkpoint.

        Copies at once, without encoding (tens of milliseconds for a million ids); the iterator then encodes
        in slices, and may be drawn from in a thread while the ledger goes on. Raises ValueError while
        nothing was ever applied.
        """
        if self.standing is None:
            raise ValueError("an empty state has no checkpoint")
        applied_lsn, digest, rules = self.standing
        balances, transactions = list(self.balances), dict(self.transactions)
        head = HeadChunk(applied_lsn, digest, encode_rules(rules), len(balances), len(transactions))
        # Names are only ever appended, so a slice of the living list is as good as a copy.
        return self._encode_copies(head, self.names, balances, transactions)

    @staticmethod
    def _encode_copies(
        head: HeadChunk, names: list[str], balances: list[int | None], transactions: dict[str, bytes]
    ) -> Iterator[bytes]:
        yield encode_chunk(head)
        yield from account_chunks(names, balances)
        yield from transaction_chunks(transactions)

    def load_chunk(self, chunk: bytes) -> None:
        """Take in the next chunk of an export, in order; `standing` is set by the last one.

        Raises ValueError when the chunk does not follow the one before, or is not a chunk at all.
        """
        self._take(decode_chunk(chunk))
        head = self._loading
        if head and (len(self.names), len(self.transactions)) == (head.accounts, head.transactions):
            self.standing = Standing(head.applied_lsn, head.digest, decode_rules(head.rules))
            self._loading = None

    def _take(self, chunk: Chunk) -> None:
        if isinstance(chunk, HeadChunk):
            self._begin_loading(chunk)
        elif self._loading is None:
            raise ValueError("a chunk of a checkpoint outside of its head and its end")
        elif isinstance(chunk, AccountsChunk):
            self._take_accounts(chunk)
        else:
            self._take_transactions(chunk)

    def _begin_loading(self, head: HeadChunk) -> None:
        if self.standing or self._loading or self.transactions:
            raise ValueError("a checkpoint can only be loaded into an empty state")
        self._loading = head
        self.numbers.clear()
        self.names.clear()
        self.balances.clear()

    def _take_accounts(self, chunk: AccountsChunk) -> None:
        if chunk.first != len(self.names) or len(chunk.names) != len(chunk.balances):
            raise ValueError(f"accounts from number {chunk.first} do not follow {len(self.names)} accounts")
        self.numbers.update(zip(chunk.names, range(chunk.first, chunk.first + len(chunk.names)), strict=True))
        self.names.extend(chunk.names)
        self.balances.extend(None if digits is None else int(digits) for digits in chunk.balances)

    def _take_transactions(self, chunk: TransactionsChunk) -> None:
        if chunk.first != len(self.transactions) or len(chunk.ids) != len(chunk.packed):
            raise ValueError(f"transactions from {chunk.first} do not follow {len(self.transactions)} others")
        self.transactions.update(zip(chunk.ids, chunk.packed, strict=True))
