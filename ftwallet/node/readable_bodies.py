"""What a transaction of the readable files asked, and the figures of its outcome: keys that some kinds alone have."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

from ftwallet.errors import ClientError
from ftwallet.ledger.holds import MAX_EXPIRES_IN_S, capture, hold, release
from ftwallet.ledger.legs import leg, transfer
from ftwallet.ledger.money import AmountError, parse_amount
from ftwallet.ledger.operations import Body, Kind

_ZERO: Final = re.compile(r"0(\.0+)?")
_BEGINNING_OF_TIME: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND_US: Final = 1_000_000


class Entry(NamedTuple):
    """One transaction of a file, for what is said of it when something is wrong; numbers are text."""

    path: Path
    transaction_id: str
    document: dict[str, Any]
    exponent: int

    def minor(self, key: str) -> int:
        """The amount under a key in minor units; raises ClientError when there is none."""
        return minor(self.path, self.transaction_id, self.document.get(key), self.exponent)

    def refuse(self, what: str) -> ClientError:
        """That something is wrong with it."""
        return ClientError(f"{self.path}: {self.transaction_id!r} {what}")


def minor(path: Path, where: str, text: object, exponent: int) -> int:
    """An amount, which may be 0, in minor units; raises ClientError when it is none."""
    if not isinstance(text, str):
        raise ClientError(f"{path}: {where!r} must have an amount, not {text!r}")
    if _ZERO.fullmatch(text):
        return 0
    try:
        return parse_amount(text, exponent)
    except AmountError as error:
        raise ClientError(f"{path}: {where!r}: {error.detail}") from error


def body_of(entry: Entry) -> Body | None:
    """What it asked, None where the file does not hold that. Raises ClientError."""
    kind = entry.document.get("type")
    if kind is None:
        return None
    read = _READERS.get(kind) if isinstance(kind, str) else None
    if read is None:
        raise entry.refuse(f"has type {kind!r}; known are {', '.join(_READERS)}")
    return read(entry)


def figures_of(entry: Entry, body: Body | None) -> list[int]:
    """Further figures of its outcome, as in an `Outcome`. Raises ClientError."""
    kind = body.kind if body else None
    if kind in (Kind.CAPTURE, Kind.RELEASE) and entry.document["success"] is True:
        return [entry.minor(key) for key in ("moved", "captured", "left")]
    return [
        minor(entry.path, entry.transaction_id, fields.get("new_balance"), entry.exponent)
        for fields in _objects(entry, "balances")
    ]


def time_us_of(entry: Entry, key: str) -> int:
    """The moment under a key in microseconds since 1970 UTC, 0 where there is none. Raises ClientError."""
    text = entry.document.get(key)
    if text is None:
        return 0
    try:
        moment = datetime.fromisoformat(str(text)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise entry.refuse(f"has a time that is not RFC 3339: {text!r}") from None
    if moment < _BEGINNING_OF_TIME:
        raise entry.refuse(f"has a time before 1970: {text!r}")
    return (moment - _BEGINNING_OF_TIME) // timedelta(microseconds=1)  # a float of seconds would lose the last digit


def _movement(entry: Entry, kind: Kind) -> Body | None:
    account_id, amount = entry.document.get("account_id"), entry.document.get("amount")
    return None if account_id is None or amount is None else Body(kind, str(account_id), entry.minor("amount"))


def _hold(entry: Entry) -> Body | None:
    asked = _movement(entry, Kind.HOLD)
    expires_us = time_us_of(entry, "expires_at")
    if asked is None or not expires_us:
        return asked and hold(asked.account_id, asked.amount)
    seconds, rest = divmod(expires_us - time_us_of(entry, "time"), _SECOND_US)
    if rest or not 1 <= seconds <= MAX_EXPIRES_IN_S:
        raise entry.refuse(f"must expire a whole number of seconds, 1 to {MAX_EXPIRES_IN_S}, after its time")
    return hold(asked.account_id, asked.amount, seconds)


def _capture(entry: Entry) -> Body | None:
    hold_id, target = entry.document.get("hold_id"), entry.document.get("to_account_id")
    if hold_id is None or target is None:
        return None
    amount = 0 if entry.document.get("amount") is None else entry.minor("amount")
    return capture(str(hold_id), amount, str(target), release_rest=entry.document.get("release_rest") is True)


def _release(entry: Entry) -> Body | None:
    hold_id = entry.document.get("hold_id")
    return None if hold_id is None else release(str(hold_id))


def _transfer(entry: Entry) -> Body:
    try:
        return transfer(
            [
                leg(
                    str(fields.get("from_account_id")),
                    str(fields.get("to_account_id")),
                    minor(entry.path, entry.transaction_id, fields.get("amount"), entry.exponent),
                )
                for fields in _objects(entry, "legs")
            ]
        )
    except ValueError as error:
        raise entry.refuse(f"has legs that are none: {error}") from error


def _objects(entry: Entry, key: str) -> list[dict[str, Any]]:
    found = entry.document.get(key, [])
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise ClientError(f"{entry.path}: {key} of {entry.transaction_id!r} must be an array of objects")
    return found


_READERS: Final[dict[str, Callable[[Entry], Body | None]]] = {
    "deposit": lambda entry: _movement(entry, Kind.DEPOSIT),
    "withdraw": lambda entry: _movement(entry, Kind.WITHDRAW),
    "transfer": _transfer,
    "hold": _hold,
    "capture": _capture,
    "release": _release,
}
