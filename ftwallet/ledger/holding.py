"""The rules of holds: what is held is never spent twice, and a hold that has ended stays so."""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from ftwallet.ledger.holds import (
    HELD,
    CaptureTerms,
    Hold,
    HoldState,
    decode_hold,
    encode_hold,
    expires_us,
    expiry_key,
    hold_key,
    hold_terms,
)
from ftwallet.ledger.kept import Kept
from ftwallet.ledger.operations import Operation
from ftwallet.ledger.outcomes import Outcome, OutcomeCode
from ftwallet.ledger.rules import Rules
from ftwallet.ledger.state import WORLD

_OK: Final = OutcomeCode.OK
_ENDED: Final = {
    HoldState.CAPTURED: Outcome(OutcomeCode.HOLD_CAPTURED),
    HoldState.RELEASED: Outcome(OutcomeCode.HOLD_RELEASED),
    HoldState.EXPIRED: Outcome(OutcomeCode.HOLD_EXPIRED),
}
_NOT_FOUND: Final = Outcome(OutcomeCode.HOLD_NOT_FOUND)
_THERE: Final = b"\x01"


class Book(NamedTuple):
    """What movements change: balances in minor units by account, and records by key."""

    accounts: Kept[int]
    records: Kept[bytes]


def place_hold(book: Book, one: Operation) -> Outcome:
    """Set money aside. Raises ValueError on a bad operation."""
    account_id, amount = one.account_id, one.amount
    balance = book.accounts.get(account_id)
    if balance is None or account_id == WORLD:
        return Outcome(OutcomeCode.ACCOUNT_NOT_FOUND)
    if balance < amount:
        return Outcome(OutcomeCode.INSUFFICIENT_BALANCE)
    if not amount:
        raise ValueError("a hold of nothing")
    expires = expires_us(hold_terms(one.extra), one.time_us)
    _shift(book.accounts, account_id, HELD + account_id, amount)
    _keep(book, one.transaction_id, Hold(account_id, str(amount), str(amount), expires))
    return Outcome(_OK, balance - amount)


def capture_hold(book: Book, rules: Rules, terms: CaptureTerms, amount: int, time_us: int) -> Outcome:
    """Pay out of a hold, all that is left where `amount` is 0."""
    found = _open_hold(book, terms.hold_id, time_us)
    if isinstance(found, Outcome):
        return found
    amount = amount or found.left
    if amount > found.left:
        return Outcome(OutcomeCode.OVER_HOLD, limit=found.left)
    target = terms.target
    if target != WORLD and (book.accounts.get(target) or 0) + amount > rules.max_balance:
        return Outcome(OutcomeCode.BALANCE_OVER_LIMIT, limit=rules.max_balance)
    _shift(book.accounts, HELD + found.account_id, target, amount)
    left, captured = found.left - amount, found.captured + amount
    if left and terms.release_rest:
        _shift(book.accounts, HELD + found.account_id, found.account_id, left)
        left = 0
    changed = msgspec.structs.replace(found, left_digits=str(left), captured_digits=str(captured))
    _keep(book, terms.hold_id, changed if left else _end(book, terms.hold_id, changed, HoldState.CAPTURED))
    return Outcome(_OK, figures=(amount, captured, left))


def release_hold(book: Book, hold_id: str, time_us: int) -> Outcome:
    """Give back what is left of a hold."""
    found = _open_hold(book, hold_id, time_us)
    if isinstance(found, Outcome):
        return found
    return _give_back(book, hold_id, found, HoldState.RELEASED)


def expire_hold(book: Book, hold_id: str, time_us: int) -> Outcome:
    """Give back what is left of a hold whose time is over; one that is not open any more stays as it is."""
    found = _find(book, hold_id)
    if found is None or found.state is not HoldState.OPEN or not found.has_expired(time_us):
        return Outcome(_OK, figures=(0, 0, 0))
    return _give_back(book, hold_id, found, HoldState.EXPIRED)


def _open_hold(book: Book, hold_id: str, time_us: int) -> Hold | Outcome:
    """The hold, or why nothing can be done with it. Its time may be over before that is on record."""
    found = _find(book, hold_id)
    if found is None:
        return _NOT_FOUND
    if found.state is not HoldState.OPEN:
        return _ENDED[found.state]
    return _ENDED[HoldState.EXPIRED] if found.has_expired(time_us) else found


def _find(book: Book, hold_id: str) -> Hold | None:
    record = book.records.get(hold_key(hold_id))
    return decode_hold(record) if record else None


def _give_back(book: Book, hold_id: str, found: Hold, state: HoldState) -> Outcome:
    released = found.left
    _shift(book.accounts, HELD + found.account_id, found.account_id, released)
    changed = msgspec.structs.replace(found, left_digits="0")
    _keep(book, hold_id, _end(book, hold_id, changed, state))
    return Outcome(_OK, figures=(released, found.captured, 0))


def _end(book: Book, hold_id: str, found: Hold, state: HoldState) -> Hold:
    if found.expires_us:
        book.records[expiry_key(hold_id, found.expires_us)] = b""
    return msgspec.structs.replace(found, state=state)


def _keep(book: Book, hold_id: str, changed: Hold) -> None:
    book.records[hold_key(hold_id)] = encode_hold(changed)
    if changed.expires_us and changed.state is HoldState.OPEN:
        book.records[expiry_key(hold_id, changed.expires_us)] = _THERE


def _shift(accounts: Kept[int], source: str, target: str, amount: int) -> None:
    accounts[source] = accounts[source] - amount
    accounts[target] = (accounts.get(target) or 0) + amount
