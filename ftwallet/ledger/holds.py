"""Holds: money set aside in an account, to be captured or released later.

A hold has the id of the transaction that made it. Its money stands in an account of its own beside the holder's, so
the holder's balance is what is available, and all balances still add up to zero. What is known of a hold, also after
its end, is a record; a second record stands for as long as it is open and will expire, in order of time.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from ftwallet.ledger.operations import Body, Kind, Operation, operation

HELD: Final = "@held/"
"""What the account begins with that has an account's money on hold."""

EXPIRIES: Final = "expiry/"
"""What the keys begin with that are in order of the time at which open holds expire."""

MAX_EXPIRES_IN_S: Final = 10 * 366 * 86_400
_HOLD: Final = "hold/"
_MICROSECONDS: Final = 1_000_000


class HoldState(IntEnum):
    """Where a hold stands; all but OPEN are for ever. The numbers are permanent."""

    OPEN = 0
    CAPTURED = 1
    RELEASED = 2
    EXPIRED = 3


class Hold(msgspec.Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """What is remembered of a hold; figures are decimal digits of minor units, because msgpack ends at 64 bits.

    `expires_us` is the time from which on it cannot be captured, microseconds since 1970 UTC; 0 for never.
    """

    account_id: str
    amount_digits: str
    left_digits: str
    expires_us: int
    state: HoldState = HoldState.OPEN
    captured_digits: str = "0"

    @property
    def amount(self) -> int:
        """What was set aside, in minor units."""
        return int(self.amount_digits)

    @property
    def left(self) -> int:
        """What still is, in minor units."""
        return int(self.left_digits)

    @property
    def captured(self) -> int:
        """What was captured of it, in minor units."""
        return int(self.captured_digits)

    def has_expired(self, time_us: int) -> bool:
        """Whether it cannot be captured any more at this time."""
        return 0 < self.expires_us <= time_us


def hold_key(hold_id: str) -> str:
    """Key of a hold's record."""
    return _HOLD + hold_id


def expiry_key(hold_id: str, expires_us: int) -> str:
    """Key of the record that a hold is open and expires at this time."""
    return f"{EXPIRIES}{expires_us:020d}/{hold_id}"


def expiry_of(key: str) -> tuple[int, str]:
    """Time in microseconds since 1970 UTC, and hold, of a key that `expiry_key` has made."""
    time_us, _, hold_id = key.removeprefix(EXPIRIES).partition("/")
    return int(time_us), hold_id


def encode_hold(hold: Hold) -> bytes:
    """A hold's record."""
    return _encode(hold)


def decode_hold(record: bytes) -> Hold:
    """Read a hold's record; raises ValueError on anything else."""
    return _decode_hold(record)


# ---- What is asked


class HoldTerms(msgspec.Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """Beside account and amount: in how many seconds it expires, counted from the transaction's time; 0 for never."""

    expires_in_s: Annotated[int, Meta(ge=0, le=MAX_EXPIRES_IN_S)] = 0


class CaptureTerms(msgspec.Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """Beside the amount (0 for all that is left): which hold, to whom, and whether what is left then is released."""

    hold_id: str
    target: str
    release_rest: bool = False


class ReleaseTerms(msgspec.Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """Which hold."""

    hold_id: str


def hold(account_id: str, amount: int, expires_in_s: int = 0) -> Body:
    """The body of a hold of `amount` minor units."""
    return Body(Kind.HOLD, account_id, amount, _encode(HoldTerms(expires_in_s)))


def capture(hold_id: str, amount: int, target: str, *, release_rest: bool = False) -> Body:
    """The body of a capture of `amount` minor units, 0 for all that is left."""
    return Body(Kind.CAPTURE, "", amount, _encode(CaptureTerms(hold_id, target, release_rest)))


def release(hold_id: str) -> Body:
    """The body of a release."""
    return Body(Kind.RELEASE, "", 0, _encode(ReleaseTerms(hold_id)))


def expire(hold_id: str, time_us: int) -> Operation:
    """The record that a hold has expired, at the latest at `time_us`. It takes no id."""
    return operation(Kind.EXPIRE, "", "", 0, time_us, _encode(ReleaseTerms(hold_id)))


def hold_terms(extra: bytes) -> HoldTerms:
    """The rest of a hold's body; raises ValueError on anything else."""
    return _decode_hold_terms(extra)


def capture_terms(extra: bytes) -> CaptureTerms:
    """The rest of a capture's body; raises ValueError on anything else."""
    return _decode_capture_terms(extra)


def release_terms(extra: bytes) -> ReleaseTerms:
    """The rest of a release's or an expiry's body; raises ValueError on anything else."""
    return _decode_release_terms(extra)


def first_different_term(kind: Kind, recorded: bytes, asked: bytes) -> str:
    """Name of the first field, as a request has it, in which the rests of two bodies of this kind differ."""
    if kind is Kind.HOLD:
        return "expires_in"
    if kind is Kind.RELEASE:
        return "hold_id"
    was, now = capture_terms(recorded), capture_terms(asked)
    if was.hold_id != now.hold_id:
        return "hold_id"
    return "to_account_id" if was.target != now.target else "release_rest"


_encode: Final = msgspec.msgpack.Encoder().encode
_decode_hold: Final = msgspec.msgpack.Decoder(Hold).decode
_decode_hold_terms: Final = msgspec.msgpack.Decoder(HoldTerms).decode
_decode_capture_terms: Final = msgspec.msgpack.Decoder(CaptureTerms).decode
_decode_release_terms: Final = msgspec.msgpack.Decoder(ReleaseTerms).decode


def expires_us(terms: HoldTerms, time_us: int) -> int:
    """When a hold asked for at `time_us` expires; 0 for never."""
    return time_us + terms.expires_in_s * _MICROSECONDS if terms.expires_in_s else 0
