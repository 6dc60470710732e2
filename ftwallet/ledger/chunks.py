"""A checkpoint of the ledger as a sequence of small encoded chunks: a head, accounts, transactions, records, an end.

Slices are small so that whoever encodes or loads them may pause in between. The end counts what has come, so
that a checkpoint that lacks something is noticed. The form is permanent; `format` names it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final, TypeVar

import msgspec

FORMAT: Final = 3
_READ_FORMATS: Final = (2, FORMAT)
"""Format 2 has no records; nothing else has changed since."""

_SLICE: Final = 1000

Item = TypeVar("Item")


class HeadChunk(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True, tag=0):
    """Where the state stands; `time_us` is the time of its last operation, microseconds since 1970 UTC."""

    applied_lsn: int
    digest: bytes
    rules: bytes
    time_us: int
    format: int = FORMAT


class AccountsChunk(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True, tag=1):
    """Accounts, `@world` among them; balances are decimal digits of minor units."""

    names: list[str]
    balances: list[str]


class TransactionsChunk(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True, tag=2):
    """Transactions by their ids."""

    ids: list[str]
    packed: list[bytes]


class RecordsChunk(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True, tag=4):
    """Records by their keys."""

    keys: list[str]
    packed: list[bytes]


class EndChunk(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True, tag=3):
    """How many accounts, transactions and records there were."""

    accounts: int
    transactions: int
    records: int = 0


Chunk = HeadChunk | AccountsChunk | TransactionsChunk | RecordsChunk | EndChunk


def encode_chunk(chunk: Chunk) -> bytes:
    """One chunk's bytes."""
    return _encoder.encode(chunk)


def decode_chunk(encoded: bytes) -> Chunk:
    """Read one chunk; raises ValueError on what `encode_chunk` does not write, a newer format too."""
    chunk = _decoder.decode(encoded)
    if isinstance(chunk, HeadChunk) and chunk.format not in _READ_FORMATS:
        raise ValueError(f"a checkpoint of format {chunk.format}; this program reads formats 2 and {FORMAT}")
    return chunk


def chunks(
    head: HeadChunk,
    accounts: Iterable[tuple[str, int]],
    transactions: Iterable[tuple[str, bytes]],
    records: Iterable[tuple[str, bytes]],
) -> Iterator[bytes]:
    """Encode a whole checkpoint, a slice at a time as it is drawn."""
    yield encode_chunk(head)
    counts = [0, 0, 0]
    for slice_ in _slices(accounts):
        counts[0] += len(slice_)
        names, balances = zip(*slice_, strict=True)
        yield encode_chunk(AccountsChunk(list(names), [str(balance) for balance in balances]))
    for part in _slices(transactions):
        counts[1] += len(part)
        ids, packed = zip(*part, strict=True)
        yield encode_chunk(TransactionsChunk(list(ids), list(packed)))
    for part in _slices(records):
        counts[2] += len(part)
        keys, packed = zip(*part, strict=True)
        yield encode_chunk(RecordsChunk(list(keys), list(packed)))
    yield encode_chunk(EndChunk(*counts))


def _slices(items: Iterable[Item]) -> Iterator[list[Item]]:
    drawn = iter(items)
    while taken := list(islice(drawn, _SLICE)):
        yield taken


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final[msgspec.msgpack.Decoder[Chunk]] = msgspec.msgpack.Decoder(Chunk)
