"""What the ledger is asked to do, and its form in journal blocks and on the wire.

A block is one msgpack array of operations. It is encoded once, and the same bytes go to both disks and to
the partner, so the order and meaning of the fields and the numbers of `Kind` are permanent.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta

from ftwallet.ledger.money import MAX_STORED

_LOW: Final = 2**64 - 1


class Kind(IntEnum):
    """What an operation does. The numbers are permanent."""

    DEPOSIT = 1
    WITHDRAW = 2
    ROLLED_BACK = 3
    IMPORTED_BALANCE = 4
    IMPORTED_TRANSACTION = 5
    CHANGED_RULES = 6
    GROUP = 7
    TRANSFER = 8
    HOLD = 9
    CAPTURE = 10
    RELEASE = 11
    EXPIRE = 12


MOVEMENTS: Final = frozenset({Kind.DEPOSIT, Kind.WITHDRAW, Kind.TRANSFER, Kind.HOLD, Kind.CAPTURE, Kind.RELEASE})
"""What somebody may ask for, alone or in a batch; the others are records of a node's own."""


class Body(NamedTuple):
    """What a transaction asks, beside its id.

    A deposit or a withdrawal of `amount` minor units; what other kinds ask beside that stands encoded in `extra`.
    """

    kind: Kind
    account_id: str
    amount: int
    extra: bytes = b""


class Operation(msgspec.Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """One thing asked of the ledger; `time_us` is microseconds since 1970 UTC as the primary read them.

    The amount, in minor units, is kept as two halves of 64 bits, because msgpack has no greater integer.
    """

    kind: Annotated[int, Meta(ge=1, le=12)]
    transaction_id: str
    account_id: str
    low: Annotated[int, Meta(ge=0)]
    high: Annotated[int, Meta(ge=0)]
    time_us: Annotated[int, Meta(ge=0)]
    extra: bytes = b""

    @property
    def amount(self) -> int:
        """Amount in minor units."""
        return self.high << 64 | self.low

    @property
    def body(self) -> Body:
        """What it asks; raises ValueError when its kind is none."""
        return Body(Kind(self.kind), self.account_id, self.amount, self.extra)


def operation(
    kind: Kind, transaction_id: str, account_id: str, amount: int, time_us: int, extra: bytes = b""
) -> Operation:
    """An operation of `amount` minor units; raises ValueError when that is negative or over 128 bits."""
    if not 0 <= amount <= MAX_STORED:
        raise ValueError(f"an amount of {amount} minor units does not fit the journal")
    return Operation(int(kind), transaction_id, account_id, amount & _LOW, amount >> 64, time_us, extra)


def asked(body: Body, transaction_id: str, time_us: int) -> Operation:
    """The operation that asks this body."""
    kind, account_id, amount, extra = body
    return operation(kind, transaction_id, account_id, amount, time_us, extra)


def rolled_back(transaction_id: str, body: Operation | None, time_us: int) -> Operation:
    """The record that recovery undid a transaction; `body` is what it asked, if more than its id is known."""
    if body is None:
        return operation(Kind.ROLLED_BACK, transaction_id, "", 0, time_us)
    extra = bytes((body.kind,)) + body.extra
    return operation(Kind.ROLLED_BACK, transaction_id, body.account_id, body.amount, time_us, extra)


def rolled_back_body(record: Operation) -> Body | None:
    """What the transaction that a ROLLED_BACK record undid had asked; None where the record does not hold it."""
    if not record.extra:
        return None
    return Body(Kind(record.extra[0]), record.account_id, record.amount, record.extra[1:])


def group(count: int, time_us: int) -> Operation:
    """The record that makes one of the next `count` movements in its block: all of them take effect, or none.

    It takes an lsn and no id.
    """
    return operation(Kind.GROUP, "", "", count, time_us)


def encode_operations(operations: Sequence[Operation]) -> bytes:
    """One block's payload."""
    return _encoder.encode(operations)


def decode_operations(payload: bytes) -> list[Operation]:
    """Read a block's payload; raises ValueError on anything that `encode_operations` does not write."""
    return _decoder.decode(payload)


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(list[Operation])
