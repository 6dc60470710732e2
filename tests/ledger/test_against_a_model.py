"""Long histories: the ledger against a naive one that keeps whole dictionaries and thinks of nothing but the rules.

Ids and accounts are few, so that histories are full of retries, of ids used with another body, of rollbacks and of
limits reached.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from ftwallet.ledger.ledger import Ledger
from ftwallet.ledger.legs import decode_legs, leg, transfer
from ftwallet.ledger.operations import (
    Kind,
    Operation,
    asked,
    decode_operations,
    encode_operations,
    operation,
    rolled_back,
)
from ftwallet.ledger.outcomes import Outcome, OutcomeCode, Status
from ftwallet.ledger.rules import Rules
from ftwallet.ledger.state import WORLD, MemoryState

RULES = Rules(2, 2**70, 2**70)
ACCOUNTS = ["alice", "b\u00f6b", "\u674e", "@world"]

accounts = st.sampled_from(ACCOUNTS)
transaction_ids = st.sampled_from([f"t{number}" for number in range(12)])
amounts = st.one_of(st.integers(1, 9), st.sampled_from([2**31, 2**32, 2**64, 2**69, 2**70, 2**70 + 1, 2**127]))
times = st.integers(0, 2**50)
movements = st.builds(
    operation, st.sampled_from([Kind.DEPOSIT, Kind.WITHDRAW]), transaction_ids, accounts, amounts, times
)
ends = st.lists(accounts, min_size=2, max_size=2, unique=True)
legs = st.builds(lambda both, amount: leg(*both, amount), ends, amounts)
transfers = st.builds(asked, st.lists(legs, min_size=1, max_size=4).map(transfer), transaction_ids, times)
payments = st.one_of(movements, movements, transfers)
rollbacks = st.builds(rolled_back, transaction_ids, st.none() | payments, times)
histories = st.lists(st.one_of(payments, payments, payments, rollbacks), max_size=60)


class Remembered(NamedTuple):
    status: Status
    kind: int | None
    account_id: str | None
    amount: int | None
    outcome: Outcome
    lsn: int
    extra: bytes = b""


class NaiveLedger:
    """The rules again, in the plainest words."""

    def __init__(self) -> None:
        self.balances: dict[str, int] = {}
        self.remembered: dict[str, Remembered] = {}
        self.lsn = 0

    def apply(self, one: Operation) -> Outcome:
        self.lsn += 1
        known = self.remembered.get(one.transaction_id)
        if known is not None and known.status is Status.COMMITTED:
            return known.outcome
        if one.kind == Kind.ROLLED_BACK:
            outcome = Outcome(OutcomeCode.ROLLED_BACK)
            undone = Remembered(Status.ROLLED_BACK, None, None, None, outcome, self.lsn)
            if one.extra:
                undone = undone._replace(
                    kind=one.extra[0], account_id=one.account_id, amount=one.amount, extra=one.extra[1:]
                )
            self.remembered[one.transaction_id] = undone
            return outcome
        outcome = self._transfer(one) if one.kind == Kind.TRANSFER else self._pay(one)
        if outcome.code is OutcomeCode.OK and outcome.new_balance is not None:
            self.balances[one.account_id] = outcome.new_balance
        self.remembered[one.transaction_id] = Remembered(
            Status.COMMITTED, one.kind, one.account_id, one.amount, outcome, self.lsn, one.extra
        )
        return outcome

    def _transfer(self, one: Operation) -> Outcome:
        moved, named = dict(self.balances), []
        for place, moves in enumerate(decode_legs(one.extra)):
            source, target, amount = moves.source, moves.target, moves.amount
            if source != WORLD and source not in moved:
                return Outcome(OutcomeCode.ACCOUNT_NOT_FOUND, leg=place)
            if source != WORLD and moved[source] < amount:
                return Outcome(OutcomeCode.INSUFFICIENT_BALANCE, leg=place)
            for end, change in ((source, -amount), (target, amount)):
                if end != WORLD:
                    moved[end] = moved.get(end, 0) + change
                    named += [] if end in named else [end]
            if moved.get(target, 0) > RULES.max_balance:
                return Outcome(OutcomeCode.BALANCE_OVER_LIMIT, limit=RULES.max_balance, leg=place)
        self.balances = moved
        return Outcome(OutcomeCode.OK, figures=tuple(moved[end] for end in named))

    def _pay(self, one: Operation) -> Outcome:
        balance = self.balances.get(one.account_id)
        if one.account_id == WORLD or (one.kind == Kind.WITHDRAW and balance is None):
            return Outcome(OutcomeCode.ACCOUNT_NOT_FOUND)
        new_balance = (balance or 0) + (one.amount if one.kind == Kind.DEPOSIT else -one.amount)
        if new_balance < 0:
            return Outcome(OutcomeCode.INSUFFICIENT_BALANCE)
        if one.kind == Kind.DEPOSIT and new_balance > RULES.max_balance:
            return Outcome(OutcomeCode.BALANCE_OVER_LIMIT, limit=RULES.max_balance)
        return Outcome(OutcomeCode.OK, new_balance)


def remembered(ledger: Ledger) -> dict[str, Remembered]:
    return {
        known.transaction_id: Remembered(
            known.status,
            known.kind,
            known.account_id,
            known.amount,
            Outcome(known.code, known.new_balance, known.limit, known.figures, known.leg),
            known.lsn,
            known.extra,
        )
        for known in ledger.transactions()
    }


def in_blocks(history: Sequence[Operation], sizes: Sequence[int]) -> Ledger:
    """Apply a history in blocks of these sizes, and what is left in one more."""
    ledger = Ledger(RULES, MemoryState())
    done = 0
    for size in [*sizes, len(history)]:
        ledger.apply(done + 1, 1, history[done : done + size])
        done = ledger.applied_lsn
    return ledger


@given(histories)
def test_the_ledger_does_what_the_naive_one_does(history: list[Operation]) -> None:
    ledger, naive = Ledger(RULES, MemoryState()), NaiveLedger()
    for lsn, one in enumerate(history, 1):
        assert ledger.apply(lsn, 1, [one]) == [naive.apply(one)]
        ledger.check()
    assert dict(ledger.export_accounts()) == naive.balances
    assert remembered(ledger) == naive.remembered
    assert ledger.balance(WORLD) == -sum(naive.balances.values())
    assert all(ledger.balance(account_id) == naive.balances.get(account_id) for account_id in ACCOUNTS[:-1])


@given(histories, st.lists(st.integers(1, 10), max_size=20))
def test_any_split_into_blocks_gives_the_same(history: list[Operation], sizes: list[int]) -> None:
    whole, split = in_blocks(history, []), in_blocks(history, sizes)
    assert whole.applied_lsn == split.applied_lsn == len(history)
    assert list(whole.export_accounts()) == list(split.export_accounts())
    assert list(whole.transactions()) == list(split.transactions())
    assert whole.duplicates == split.duplicates


@given(histories, st.lists(st.integers(1, 10), max_size=20))
def test_two_nodes_that_apply_the_same_blocks_hold_the_same_digest(history: list[Operation], sizes: list[int]) -> None:
    sent = decode_operations(encode_operations(history))
    assert in_blocks(sent, sizes).digest == in_blocks(history, sizes).digest


@given(histories, st.data())
def test_a_retry_of_everything_changes_nothing(history: list[Operation], data: st.DataObject) -> None:
    ledger = in_blocks(history, [])
    before = dict(ledger.export_accounts())
    settled = [known.transaction_id for known in ledger.transactions() if known.status is Status.COMMITTED]
    retries = [operation(Kind.DEPOSIT, transaction_id, data.draw(accounts), 1, 0) for transaction_id in settled]
    ledger.apply(ledger.applied_lsn + 1, 2, retries)
    assert dict(ledger.export_accounts()) == before
