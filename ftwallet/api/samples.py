"""Answers of a wallet as the OpenAPI document shows them, framed by the code that answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from ftwallet.api import problems
from ftwallet.api.decode import AmountRefused, FieldError, Malformed
from ftwallet.api.reply import Reply
from ftwallet.ledger.legs import Leg
from ftwallet.ledger.legs import transfer as moving
from ftwallet.ledger.money import AmountError, AmountProblem
from ftwallet.ledger.operations import Body, Kind
from ftwallet.ledger.outcomes import OutcomeCode, Status, Transaction
from ftwallet.wallet import Answer, Unavailable

Examples = Mapping[str, Reply]
"""Replies, each under its name."""

ID: Final = "3b241101-e2bb-4255-8caf-4136c566a962"
EXPONENT: Final = 2
_OVER: Final = AmountError(AmountProblem.OVER_LIMIT, "Amount is over the limit of 10000000000000000.0")


def hold_refusals(body: Body) -> Examples:
    """What happens to who comes too late to a hold."""
    codes = {
        "Unknown hold": OutcomeCode.HOLD_NOT_FOUND,
        "Captured before": OutcomeCode.HOLD_CAPTURED,
        "Released before": OutcomeCode.HOLD_RELEASED,
        "Expired": OutcomeCode.HOLD_EXPIRED,
    }
    return {name: problems.refused(asked(body, code), EXPONENT) for name, code in codes.items()}


def amount_refusals() -> Examples:
    """What an amount may not be."""
    errors = {
        "Zero or negative": AmountError(AmountProblem.NOT_POSITIVE, "Amount must be positive"),
        "Too many decimals": AmountError(AmountProblem.TOO_MANY_DECIMALS, "Amount has more than 2 decimal places"),
        "Amount over the limit": _OVER,
    }
    return {name: problems.amount_refused(AmountRefused(error, ID)) for name, error in errors.items()}


def malformed(field: str, detail: str) -> Examples:
    """One field that is wrong, as `detail` says."""
    return {"Malformed": problems.malformed(Malformed([FieldError(field, detail)]))}


def read_faults() -> Examples:
    """What a read may meet."""
    return {
        "Not serving": problems.unavailable(
            Unavailable("The wallet is starting, recovering or without a primary", in_doubt=False), None
        ),
        "A bug": problems.internal_error(),
    }


def answer(kind: Kind, amount: int, code: OutcomeCode, limit: int | None = None) -> Answer:
    """The answer to a movement of user123's account."""
    transaction = Transaction(
        ID, kind, "user123", amount, code, None, 12, 3, 1_700_000_000_123_456, Status.COMMITTED, limit
    )
    return Answer(transaction, replayed=False, mode="paired")


def asked(body: Body, code: OutcomeCode = OutcomeCode.OK, limit: int | None = None) -> Answer:
    """The answer to whoever asked this."""
    one = answer(body.kind, body.amount, code, limit)
    return one._replace(transaction=one.transaction._replace(account_id=body.account_id, extra=body.extra))


def transferred(
    legs: Sequence[Leg], code: OutcomeCode = OutcomeCode.OK, balances: tuple[int, ...] = (), at: int | None = None
) -> Answer:
    """The answer to a transfer; `at` is the place of the leg that refused it."""
    body = moving(legs)
    one = answer(body.kind, body.amount, code)
    transaction = one.transaction._replace(account_id="", extra=body.extra, figures=balances, leg=at)
    return one._replace(transaction=transaction)


def done(kind: Kind, amount: int, new_balance: int) -> Transaction:
    """A movement that was done."""
    return answer(kind, amount, OutcomeCode.OK).transaction._replace(new_balance=new_balance)
