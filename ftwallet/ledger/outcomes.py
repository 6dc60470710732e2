"""How the ledger answers: outcomes, what is remembered under an id, and the sentence for a person.

Refusals that depend on state are values with permanent numbers, recorded like successes and found again
under their id. Whether an answer is HTTP 200 or 404 is decided in the API.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Final, NamedTuple

import msgspec

from ftwallet.ledger.holds import first_different_term
from ftwallet.ledger.legs import decode_legs, first_different_leg
from ftwallet.ledger.money import format_amount
from ftwallet.ledger.operations import Body, Kind


class OutcomeCode(IntEnum):
    """What became of an operation. The numbers are permanent: they stand in checkpoints and files."""

    OK = 0
    INSUFFICIENT_BALANCE = 1
    ACCOUNT_NOT_FOUND = 2
    BALANCE_OVER_LIMIT = 3
    ROLLED_BACK = 4
    ACCOUNT_EXISTS = 5
    CURRENCY_FIXED = 6
    REFUSED_BEFORE_IMPORT = 7
    GROUP_REFUSED = 8
    HOLD_NOT_FOUND = 9
    HOLD_CAPTURED = 10
    HOLD_RELEASED = 11
    HOLD_EXPIRED = 12
    OVER_HOLD = 13


class Status(StrEnum):
    """Where a transaction stands; a refused one is COMMITTED too, with a code other than OK."""

    PENDING = "PENDING"
    COMMITTED = "COMMITTED"
    ROLLED_BACK = "ROLLED_BACK"


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """Answer to one operation, in minor units: `new_balance` where money moved, `limit` where that refused it.

    Of a transfer `figures` are the balances of all accounts that it touched, in the order of `legs.accounts_of`, and
    `leg` is the place of the one that refused it. Of a capture or a release they are what it moved, what is captured of
    the hold by then, and what is left of it.
    A struct and not a tuple, because thousands are made in a block and the garbage collector need not follow them.
    """

    code: OutcomeCode
    new_balance: int | None = None
    limit: int | None = None
    figures: tuple[int, ...] = ()
    leg: int | None = None


class Transaction(NamedTuple):
    """What is remembered under a transaction's id.

    Amounts are in minor units, times in microseconds since 1970 UTC. `kind`, `account_id` and `amount` are
    None together, where the body is not known (an import, or a rollback of which only the id was reported). `extra`
    is the rest of the body. `limit` is the limit that refused it, as it was then; `figures` and `leg` are as in its
    Outcome. While it is PENDING, `code` is OK and says nothing yet.
    """

    transaction_id: str
    kind: Kind | None
    account_id: str | None
    amount: int | None
    code: OutcomeCode
    new_balance: int | None
    lsn: int
    epoch: int
    time_us: int
    status: Status
    limit: int | None = None
    extra: bytes = b""
    figures: tuple[int, ...] = ()
    leg: int | None = None

    @property
    def success(self) -> bool:
        """Whether it has done what it was asked to."""
        return self.status is Status.COMMITTED and self.code == OutcomeCode.OK


def first_difference(transaction: Transaction, body: Body) -> str | None:
    """Name of the first parameter in which `body` differs from what the id was used for, or None.

    A body that is not known differs from none, and so does one that was rolled back: it was never answered.
    """
    if transaction.kind is None or transaction.status is Status.ROLLED_BACK:
        return None
    recorded = (transaction.kind, transaction.account_id, transaction.amount)
    asked = (body.kind, body.account_id, body.amount)
    different = next((name for name, was, now in zip(_PARAMETERS, recorded, asked, strict=True) if was != now), None)
    if different is not None or transaction.extra == body.extra:
        return different
    if body.kind is Kind.TRANSFER:
        return first_different_leg(transaction.extra, body.extra)
    return first_different_term(body.kind, transaction.extra, body.extra)


def message(body: Body | None, outcome: Outcome, exponent: int) -> str:
    """The sentence of an outcome, amounts with `exponent` decimals; `body` is None where it is not known."""
    legs = decode_legs(body.extra) if body and body.kind is Kind.TRANSFER else []
    if outcome.code != OutcomeCode.OK:
        where = f" (legs[{outcome.leg}])" if outcome.leg is not None and len(legs) > 1 else ""
        return _refusal(outcome, exponent) + where
    if len(legs) > 1:
        return f"Transferred {len(legs)} legs"
    if body is None or body.kind not in _DONE:
        return "Done"
    amount = body.amount
    if legs:
        amount = legs[0].amount
    elif outcome.figures:  # a capture or a release may leave its amount to the ledger
        amount = outcome.figures[0]
    return f"{_DONE[body.kind]} {format_amount(amount, exponent)}"


def sentence(transaction: Transaction, exponent: int) -> str:
    """The sentence of a transaction that has its outcome."""
    one = transaction
    body = None
    if one.kind is not None:
        body = Body(one.kind, one.account_id or "", one.amount or 0, one.extra)
    return message(body, outcome_of(one), exponent)


def outcome_of(transaction: Transaction) -> Outcome:
    """What its operation was answered."""
    one = transaction
    return Outcome(one.code, one.new_balance, one.limit, one.figures, one.leg)


def _refusal(outcome: Outcome, exponent: int) -> str:
    if outcome.code == OutcomeCode.BALANCE_OVER_LIMIT and outcome.limit is not None:
        return f"Balance would be over the limit of {format_amount(outcome.limit, exponent)}"
    if outcome.code == OutcomeCode.OVER_HOLD and outcome.limit is not None:
        return f"The hold has only {format_amount(outcome.limit, exponent)} left"
    return _REFUSALS[outcome.code]


_PARAMETERS: Final = ("type", "account_id", "amount")

_DONE: Final = {
    Kind.DEPOSIT: "Deposited",
    Kind.WITHDRAW: "Withdrew",
    Kind.IMPORTED_BALANCE: "Imported",
    Kind.TRANSFER: "Transferred",
    Kind.HOLD: "Held",
    Kind.CAPTURE: "Captured",
    Kind.RELEASE: "Released",
}

_REFUSALS: Final = {
    OutcomeCode.INSUFFICIENT_BALANCE: "Insufficient balance",
    OutcomeCode.ACCOUNT_NOT_FOUND: "Account not found",
    OutcomeCode.BALANCE_OVER_LIMIT: "Balance would be over the limit",
    OutcomeCode.ROLLED_BACK: "Rolled back by recovery: retry with the same transaction id",
    OutcomeCode.ACCOUNT_EXISTS: "Account exists already",
    OutcomeCode.CURRENCY_FIXED: "The currency's decimals cannot change once the ledger has accounts",
    OutcomeCode.REFUSED_BEFORE_IMPORT: "Refused before it was imported, for a reason that is not on file",
    OutcomeCode.GROUP_REFUSED: "Refused because another operation of its all_or_nothing batch was refused",
    OutcomeCode.HOLD_NOT_FOUND: "Hold not found",
    OutcomeCode.HOLD_CAPTURED: "The hold is captured already",
    OutcomeCode.HOLD_RELEASED: "The hold is released already",
    OutcomeCode.HOLD_EXPIRED: "The hold has expired",
    OutcomeCode.OVER_HOLD: "The hold has less left",
}
