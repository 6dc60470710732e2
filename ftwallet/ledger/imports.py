"""Operations that bring a ledger in from readable files.

An imported balance is money against `@world` like any deposit, so that the balances still add up to zero.
An imported transaction moves none: it makes an id known with the outcome that its file gives, so that a
late retry is not run again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from ftwallet.ledger.operations import Body, Kind, Operation, operation
from ftwallet.ledger.outcomes import OutcomeCode


class ImportedOutcome(msgspec.Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """What an imported transaction carries; `kind` is 0 where its file does not hold the body."""

    kind: Annotated[int, Meta(ge=0, le=11)]
    code: OutcomeCode
    digits: str | None
    extra: bytes = b""
    more_digits: list[str] = []
    leg: int | None = None

    @property
    def new_balance(self) -> int | None:
        """Balance after it in minor units; kept as digits because msgpack's integers end at 64 bits."""
        return None if self.digits is None else int(self.digits)

    @property
    def figures(self) -> tuple[int, ...]:
        """Further figures of the outcome."""
        return tuple(map(int, self.more_digits))


def imported_balance(account_id: str, amount: int, time_us: int) -> Operation:
    """Open an account with a balance of `amount` minor units. It takes no transaction id."""
    return operation(Kind.IMPORTED_BALANCE, "", account_id, amount, time_us)


def imported_transaction(
    transaction_id: str,
    code: OutcomeCode,
    time_us: int,
    body: Body | None = None,
    new_balance: int | None = None,
    figures: Sequence[int] = (),
    leg: int | None = None,
) -> Operation:
    """Make an id known with its outcome; without a body the id will match any body.

    `figures` and `leg` are as in an Outcome.
    """
    kind, account_id, amount, rest = body or (0, "", 0, b"")
    digits = None if new_balance is None else str(new_balance)
    outcome = ImportedOutcome(int(kind), code, digits, rest, [str(one) for one in figures], leg)
    extra = msgspec.msgpack.encode(outcome)
    return operation(Kind.IMPORTED_TRANSACTION, transaction_id, account_id, amount, time_us, extra)


def imported_outcome(imported: Operation) -> ImportedOutcome:
    """What an IMPORTED_TRANSACTION carries; raises ValueError on bad content."""
    return _decoder.decode(imported.extra)


_decoder: Final = msgspec.msgpack.Decoder(ImportedOutcome)
