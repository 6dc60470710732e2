"""Money from one account to another by the rules: everything of a transfer takes effect, or nothing."""

from __future__ import annotations

from collections.abc import Sequence

from ftwallet.ledger.kept import Kept
from ftwallet.ledger.legs import Leg
from ftwallet.ledger.outcomes import Outcome, OutcomeCode
from ftwallet.ledger.rules import Rules
from ftwallet.ledger.state import WORLD


def move(accounts: Kept[int], rules: Rules, legs: Sequence[Leg]) -> Outcome:
    """Move all of them, or none: `changed` is written down when the last leg has found its money, and not before."""
    changed: dict[str, int] = {}  # in the order of `accounts_of`, as every end of a leg changes
    for place, one in enumerate(legs):
        refused = _move_one(changed, accounts, rules, one)
        if refused is not None:
            limit = rules.max_balance if refused is OutcomeCode.BALANCE_OVER_LIMIT else None
            return Outcome(refused, limit=limit, leg=place)
    for account_id, balance in changed.items():
        accounts[account_id] = balance
    changed.pop(WORLD, None)
    return Outcome(OutcomeCode.OK, figures=tuple(changed.values()))


def _move_one(changed: dict[str, int], accounts: Kept[int], rules: Rules, one: Leg) -> OutcomeCode | None:
    source, target, amount = one.source, one.target, one.amount
    balance = changed[source] if source in changed else accounts.get(source)
    if balance is None:
        return OutcomeCode.ACCOUNT_NOT_FOUND
    if balance < amount and source != WORLD:
        return OutcomeCode.INSUFFICIENT_BALANCE
    grown = (changed[target] if target in changed else accounts.get(target) or 0) + amount
    if grown > rules.max_balance and target != WORLD:  # of the world what deposits of its block took may still be due
        return OutcomeCode.BALANCE_OVER_LIMIT
    changed[source] = balance - amount
    changed[target] = grown
    return None
