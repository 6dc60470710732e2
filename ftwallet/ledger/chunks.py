"""A checkpoint of the ledger as a sequence of small encoded chunks: a head, then accounts, then transactions.

Slices are small so that whoever encodes or loads them may pause in between. The head counts what must
follow, so that a checkpoint that ends early is noticed. The form is permanent; `format` names it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final

import msgspec

FORMAT: Final = 1
_SLICE: Final = 1000


class HeadChunk(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True, tag=0):
    """Where the state stands, and how many accounts (`@world` included) and transactions follow."""

    applied_lsn: int
    digest: bytes
    rules: bytes
    accounts: int
    transactions: int
    format: int = FORMAT


class AccountsChunk(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True, tag=1):
    """Accounts from number `first` on; balances are decimal digits of minor units, None where none exists."""

    first: int
    names: list[str]
    balances: list[str | None]


class TransactionsChunk(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True, tag=2):
    """Transactions after the first `first` ones, in order of first appearance."""

    first: int
    ids: list[str]
    packed: list[bytes]


Chunk = HeadChunk | AccountsChunk | TransactionsChunk


def encode_chunk(chunk: Chunk) -> bytes:
    """One chunk's bytes."""
    return _encoder.encode(chunk)


def decode_chunk(encoded: bytes) -> Chunk:
    """Read one chunk; raises ValueError on what `encode_chunk` does not write, a newer format too."""
    chunk = _decoder.decode(encoded)
    if isinstance(chunk, HeadChunk) and chunk.format != FORMAT:
        raise ValueError(f"a checkpoint of format {chunk.format}; this program reads format {FORMAT}")
    return chunk


def account_chunks(names: list[str], balances: list[int | None]) -> Iterator[bytes]:
    """Encode as many accounts as there are balances; `names` may be longer, and may be growing."""
    for first in range(0, len(balances), _SLICE):
        digits = [None if balance is None else str(balance) for balance in balances[first : first + _SLICE]]
        yield encode_chunk(AccountsChunk(first, names[first : first + len(digits)], digits))


def transaction_chunks(transactions: dict[str, bytes]) -> Iterator[bytes]:
    """Encode all transactions of a dictionary that nobody writes any more."""
    items = iter(transactions.items())
    for first in range(0, len(transactions), _SLICE):
        ids, packed = zip(*islice(items, _SLICE), strict=True)
        yield encode_chunk(TransactionsChunk(first, list(ids), list(packed)))


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final[msgspec.msgpack.Decoder[Chunk]] = msgspec.msgpack.Decoder(Chunk)
