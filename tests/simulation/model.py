"""A wallet as naive as can be, which the checker holds the worlds' outcomes against.

It executes what the clients asked, in order of the lsns that it got, by rules in words of its own: nothing of the
shipped ledger is in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from ftwallet.ledger.operations import Kind
from ftwallet.ledger.outcomes import OutcomeCode, Transaction

if TYPE_CHECKING:
    from tests.simulation.clients import Call

OUTSIDE = "@world"

Balances = dict[str, list[tuple[int, int]]]
"""By account: lsns, and the balance from each on."""


class Came(NamedTuple):
    """What must become of a call; `leg` is the place of the move that cannot be made, `balances` those it changes."""

    code: OutcomeCode
    leg: int | None
    balances: dict[str, int]


def executed(settled: Iterable[tuple[Transaction, Call]]) -> tuple[Balances, list[str]]:
    """All that has its outcome: the balances over time, and each outcome that is not what it must be, in words."""
    balances: dict[str, int] = {}
    after: Balances = {}
    differences: list[str] = []
    for done, call in sorted(settled, key=lambda pair: pair[0].lsn):
        if call.group is not None and done.code != OutcomeCode.OK:
            continue  # refused with its batch: it has moved nothing
        came = attempt(balances, moves_of(call))
        if (difference := _difference(done, call, came)) is not None:
            differences.append(f"{call.transaction_id} at lsn {done.lsn} {difference}")
        balances |= came.balances
        for account, balance in came.balances.items():
            after.setdefault(account, []).append((done.lsn, balance))
    return after, differences


def moves_of(call: Call) -> list[tuple[str, str, int]]:
    """From where, to where, how much."""
    if call.kind is Kind.DEPOSIT:
        return [(OUTSIDE, call.account, call.amount)]
    if call.kind is Kind.WITHDRAW:
        return [(call.account, OUTSIDE, call.amount)]
    return [(one.source, one.target, one.amount) for one in call.legs]


def attempt(balances: dict[str, int], moves: list[tuple[str, str, int]]) -> Came:
    """All of the moves, one after the other, or none."""
    changed: dict[str, int] = {}
    for place, (source, target, amount) in enumerate(moves):
        if source != OUTSIDE:
            balance = changed.get(source, balances.get(source))
            if balance is None:
                return Came(OutcomeCode.ACCOUNT_NOT_FOUND, place, {})
            if balance < amount:
                return Came(OutcomeCode.INSUFFICIENT_BALANCE, place, {})
            changed[source] = balance - amount
        if target != OUTSIDE:
            changed[target] = changed.get(target, balances.get(target, 0)) + amount
    return Came(OutcomeCode.OK, None, changed)


def _difference(done: Transaction, call: Call, came: Came) -> str | None:
    if done.code != came.code:
        return f"came to {OutcomeCode(done.code).name}, and by all that was done before it must be {came.code.name}"
    if call.kind is Kind.TRANSFER:
        told, expected = (done.figures, done.leg), (tuple(came.balances.values()), came.leg)
    else:
        told, expected = ((done.new_balance,), None), (tuple(came.balances.values()) or (None,), None)
    return None if told == expected else f"was told {told}, and by all that was done before it must be {expected}"
