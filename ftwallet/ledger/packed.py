"""What is remembered under a transaction's id, packed into one `bytes`.

A node remembers every id for ever, so this form decides how much memory a million of them take. Common
transactions fit 29 bytes, which CPython stores in 64; figures past 32 bits take 47, past 64 bits 63. The
packing is canonical: one content has one form, so a digest over packed bytes compares contents.
"""

from __future__ import annotations

import struct
from struct import Struct
from typing import Final, NamedTuple

from ftwallet.ledger.outcomes import OutcomeCode

# Each form: form, kind, code, account number, lsn, epoch, time, amount, figure; the widest has two halves
# of the last two.
_SMALL: Final = Struct("<BBBIIHQII")
_WIDE: Final = Struct("<BBBIQQQQQ")
_HUGE: Final = Struct("<BBBIQQQQQQQ")
_SMALL_FORM, _WIDE_FORM, _HUGE_FORM = 0, 1, 2
_NO_FIGURE: Final = 0x80
_CODE_AT: Final = 2
_TIME: Final = Struct("<Q")
_SMALL_TIME_AT, _WIDE_TIME_AT = 13, 23
_LOW: Final = 2**64 - 1
_ROLLED_BACK: Final = int(OutcomeCode.ROLLED_BACK)

UNKNOWN_BODY: Final = 0
"""In the place of a kind: the id is known, what it asked is not."""


class Packed(NamedTuple):
    """A packed transaction taken apart; `figure` is the new balance, or the limit that refused it."""

    kind: int
    code: int
    account_number: int
    lsn: int
    epoch: int
    time_us: int
    amount: int
    figure: int | None


def pack(
    kind: int,
    code: int,
    account_number: int,
    lsn: int,
    epoch: int,
    time_us: int,
    amount: int,
    figure: int | None,
) -> bytes:
    """Pack one transaction; raises struct.error when a number is negative or past its width."""
    flag = 0
    if figure is None:
        figure, flag = 0, _NO_FIGURE
    if not ((amount | figure | lsn) >> 32 or epoch >> 16):
        return _SMALL.pack(flag, kind, code, account_number, lsn, epoch, time_us, amount, figure)
    if not (amount | figure) >> 64:
        form = _WIDE_FORM | flag
        return _WIDE.pack(form, kind, code, account_number, lsn, epoch, time_us, amount, figure)
    halves = (amount & _LOW, figure & _LOW, amount >> 64, figure >> 64)
    return _HUGE.pack(_HUGE_FORM | flag, kind, code, account_number, lsn, epoch, time_us, *halves)


def unpack(packed: bytes) -> Packed:
    """Take a packed transaction apart; raises ValueError when it is not one."""
    try:
        return _unpack(packed)
    except (IndexError, struct.error) as error:
        raise ValueError(f"{len(packed)} bytes that are no packed transaction") from error


def _unpack(packed: bytes) -> Packed:
    form = packed[0] & ~_NO_FIGURE
    if form == _HUGE_FORM:
        *head, low, figure_low, high, figure_high = _HUGE.unpack(packed)
        amount, figure = high << 64 | low, figure_high << 64 | figure_low
    elif form in (_SMALL_FORM, _WIDE_FORM):
        *head, amount, figure = (_WIDE if form else _SMALL).unpack(packed)
    else:
        raise ValueError(f"a packed transaction of the unknown form {form}")
    _, kind, code, number, lsn, epoch, time_us = head
    known = None if packed[0] & _NO_FIGURE else figure
    return Packed(kind, code, number, lsn, epoch, time_us, amount, known)


def time_us(packed: bytes) -> int:
    """When a packed transaction was made, without taking the rest of it apart."""
    return int(
        _TIME.unpack_from(packed, _SMALL_TIME_AT if packed[0] & ~_NO_FIGURE == _SMALL_FORM else _WIDE_TIME_AT)[0]
    )


def is_rolled_back(packed: bytes) -> bool:
    """Whether recovery undid it, so that its id may be used once more; on the path of every operation."""
    return packed[_CODE_AT] == _ROLLED_BACK
