"""What is remembered under a transaction's id, packed into one `bytes`.

A node remembers every id for ever, so this form decides how much room a million of them take: 25 bytes and
the account's id for common transactions, 43 where figures pass 32 bits, 59 past 64 bits. What has more in its
body (a transfer, a hold), or a figure past 128 bits, has a form of its own, whose rest is msgpack. The packing is
canonical: one content has one form, so a digest over packed bytes compares contents.
"""

from __future__ import annotations

import struct
from struct import Struct
from typing import Final, NamedTuple

import msgspec

from ftwallet.ledger.operations import Body, Kind, Operation
from ftwallet.ledger.outcomes import Outcome, OutcomeCode, Status, Transaction

# Each form: form, kind, code, lsn, epoch, time, amount, figure; the widest has two halves of the last two.
# What follows is the account's id.
_SMALL: Final = Struct("<BBBIHQII")
_WIDE: Final = Struct("<BBBQQQQQ")
_HUGE: Final = Struct("<BBBQQQQQQQ")
_SMALL_FORM, _WIDE_FORM, _HUGE_FORM, _OTHER_FORM = 0, 1, 2, 3
_OTHER: Final = Struct("<BBBQQQ")  # form, kind, code, lsn, epoch, time
_FORMS: Final = {_SMALL_FORM: _SMALL, _WIDE_FORM: _WIDE, _HUGE_FORM: _HUGE}
_NO_FIGURE: Final = 0x80
_CODE_AT: Final = 2
_LOW: Final = 2**64 - 1
_HUGE_BITS: Final = 128
_ROLLED_BACK: Final = int(OutcomeCode.ROLLED_BACK)

UNKNOWN_BODY: Final = 0
"""In the place of a kind: the id is known, what it asked is not."""


class Packed(NamedTuple):
    """A packed transaction taken apart; `figure` is the new balance, or the limit that refused it."""

    kind: int
    code: int
    account_id: str
    lsn: int
    epoch: int
    time_us: int
    amount: int
    figure: int | None
    extra: bytes = b""
    figures: tuple[int, ...] = ()
    leg: int | None = None


class _Rest(msgspec.Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """What follows in the other form; figures are decimal digits, because msgpack's integers end at 64 bits."""

    extra: bytes
    account_id: str = ""
    amount: str = "0"
    figure: str | None = None
    figures: list[str] = []
    leg: int | None = None


def pack(
    kind: int,
    code: int,
    account_id: str,
    lsn: int,
    epoch: int,
    time_us: int,
    amount: int,
    figure: int | None,
) -> bytes:
    """Pack one transaction; raises struct.error when a number is negative, or one but the figure past its width."""
    flag = 0
    if figure is None:
        figure, flag = 0, _NO_FIGURE
    account = account_id.encode()
    if not ((amount | figure | lsn) >> 32 or epoch >> 16):
        return _SMALL.pack(flag, kind, code, lsn, epoch, time_us, amount, figure) + account
    if not (amount | figure) >> 64:
        return _WIDE.pack(_WIDE_FORM | flag, kind, code, lsn, epoch, time_us, amount, figure) + account
    if figure >> _HUGE_BITS:  # what holds give back may lift a balance over every limit
        rest = _Rest(b"", account_id, str(amount), str(figure))
        return _OTHER.pack(_OTHER_FORM, kind, code, lsn, epoch, time_us) + _encode(rest)
    halves = (amount & _LOW, figure & _LOW, amount >> 64, figure >> 64)
    return _HUGE.pack(_HUGE_FORM | flag, kind, code, lsn, epoch, time_us, *halves) + account


def remember(body: Body | None, outcome: Outcome, lsn: int, epoch: int, time_us: int) -> bytes:
    """Pack a transaction that asked `body`, None where that is not known, and had this outcome."""
    kind, account_id, amount, extra = body or (UNKNOWN_BODY, "", 0, b"")
    figure = outcome.new_balance if outcome.limit is None else outcome.limit
    if not extra:
        return pack(kind, outcome.code, account_id, lsn, epoch, time_us, amount, figure)
    digits, more = None if figure is None else str(figure), [str(one) for one in outcome.figures]
    rest = _Rest(extra, account_id, str(amount), digits, more, outcome.leg)
    return _OTHER.pack(_OTHER_FORM, kind, outcome.code, lsn, epoch, time_us) + _encode(rest)


def unpack(packed: bytes) -> Packed:
    """Take a packed transaction apart; raises ValueError when it is not one."""
    try:
        return _unpack(packed)
    except (IndexError, struct.error, UnicodeDecodeError, msgspec.MsgspecError) as error:
        raise ValueError(f"{len(packed)} bytes that are no packed transaction") from error


def _unpack(packed: bytes) -> Packed:
    form = packed[0] & ~_NO_FIGURE
    if form == _OTHER_FORM:
        _, kind, code, lsn, epoch, time_us = _OTHER.unpack_from(packed)
        rest = _decode(packed[_OTHER.size :])
        return Packed(
            kind,
            code,
            rest.account_id,
            lsn,
            epoch,
            time_us,
            int(rest.amount),
            None if rest.figure is None else int(rest.figure),
            rest.extra,
            tuple(map(int, rest.figures)),
            rest.leg,
        )
    if form not in _FORMS:
        raise ValueError(f"a packed transaction of the unknown form {form}")
    layout = _FORMS[form]
    _, kind, code, lsn, epoch, time_us, amount, figure, *high = layout.unpack_from(packed)
    if high:
        amount, figure = high[0] << 64 | amount, high[1] << 64 | figure
    known = None if packed[0] & _NO_FIGURE else figure
    return Packed(kind, code, packed[layout.size :].decode(), lsn, epoch, time_us, amount, known)


def is_rolled_back(packed: bytes) -> bool:
    """Whether recovery undid it, so that its id may be used once more; on the path of every operation."""
    return packed[_CODE_AT] == _ROLLED_BACK


def remember_movement(one: Operation, outcome: Outcome, lsn: int, epoch: int) -> bytes:
    """Pack a movement with its outcome; those that have no more in their body are the most, and taken the short way."""
    if one.extra:
        return remember(one.body, outcome, lsn, epoch, one.time_us)
    figure = outcome.new_balance if outcome.limit is None else outcome.limit
    return pack(one.kind, outcome.code, one.account_id, lsn, epoch, one.time_us, one.amount, figure)


def recorded_transaction(transaction_id: str, packed: bytes) -> Transaction:
    """What is remembered under this id; raises ValueError when `packed` is no packed transaction."""
    known = unpack(packed)
    outcome = _outcome(known)
    has_body = known.kind != UNKNOWN_BODY
    return Transaction(
        transaction_id,
        kind=Kind(known.kind) if has_body else None,
        account_id=known.account_id if has_body else None,
        amount=known.amount if has_body else None,
        code=outcome.code,
        new_balance=outcome.new_balance,
        lsn=known.lsn,
        epoch=known.epoch,
        time_us=known.time_us,
        status=Status.ROLLED_BACK if is_rolled_back(packed) else Status.COMMITTED,
        limit=outcome.limit,
        extra=known.extra,
        figures=known.figures,
        leg=known.leg,
    )


def recorded_outcome(packed: bytes) -> Outcome:
    """The outcome that a remembered transaction had."""
    return _outcome(unpack(packed))


def _outcome(known: Packed) -> Outcome:
    code = OutcomeCode(known.code)
    limited = code in (OutcomeCode.BALANCE_OVER_LIMIT, OutcomeCode.OVER_HOLD)
    return Outcome(code, None if limited else known.figure, known.figure if limited else None, known.figures, known.leg)


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(_Rest).decode
