"""Money from one account to another by the rules: everything of a transfer takes effect, or nothing."""

from __future__ import annotations

from collections.abc import Sequence

from ftwallet.ledger.legs import Leg, accounts_of
from ftwallet.ledger.outcomes import Outcome, OutcomeCode
from ftwallet.ledger.overlay import Kept, Overlay
from ftwallet.ledger.rules import Rules
from ftwallet.ledger.state import WORLD


def move(accounts: Kept[int], rules: Rules, legs: Sequence[Leg]) -> Outcome:
    """Move all of them, or none."""
    moved = Overlay(accounts)
    for place, one in enumerate(legs):
        refused = _move_one(moved, rules, one)
        if refused is not None:
            limit = rules.max_balance if refused is OutcomeCode.BALANCE_OVER_LIMIT else None
            return Outcome(refused, limit=limit, leg=place)
    moved.keep()
    balances = tuple(moved[account_id] for account_id in accounts_of(legs))
    return Outcome(OutcomeCode.OK, figures=balances)


def _move_one(accounts: Overlay[int], rules: Rules, one: Leg) -> OutcomeCode | None:
    source, target, amount = one.source, one.target, one.amount
    balance = accounts.get(source)
    if balance is None:
        return OutcomeCode.ACCOUNT_NOT_FOUND
    if balance < amount and source != WORLD:
        return OutcomeCode.INSUFFICIENT_BALANCE
    accounts[source] = balance - amount
    grown = (accounts.get(target) or 0) + amount
    if grown > rules.max_balance:
        return OutcomeCode.BALANCE_OVER_LIMIT
    accounts[target] = grown
    return None
