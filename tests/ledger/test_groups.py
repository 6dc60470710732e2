"""Groups: all movements of one take effect or none does, on every node and in every replay."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftwallet.errors import BrokenInvariant
from ftwallet.ledger.ledger import Ledger
from ftwallet.ledger.operations import (
    Kind,
    Operation,
    decode_operations,
    encode_operations,
    group,
    operation,
    rolled_back,
)
from ftwallet.ledger.outcomes import Outcome, OutcomeCode, Status
from ftwallet.ledger.state import MemoryState
from tests.ledger.test_against_a_model import (
    RULES,
    NaiveLedger,
    Remembered,
    amounts,
    payments,
    remembered,
    rollbacks,
    transaction_ids,
)

NOW = 7
OK, REFUSED = OutcomeCode.OK, OutcomeCode.GROUP_REFUSED

groups = st.lists(payments, max_size=6)
histories = st.lists(st.one_of(payments, rollbacks, groups, groups), max_size=25)
"""An operation alone, or the movements of a group."""


class NaiveGroups(NaiveLedger):
    """A group is tried on a copy; the copy counts only if all of it was done."""

    def apply_group(self, members: Sequence[Operation]) -> list[Outcome]:
        self.lsn += 1
        trial, fresh = NaiveLedger(), self._fresh(members)
        trial.balances, trial.remembered = dict(self.balances), dict(self.remembered)
        tried = {one.transaction_id: trial.apply(one) for one in fresh}
        first = next((name for name, outcome in tried.items() if outcome.code is not OK), None)
        if first is not None:
            tried = {name: outcome if name == first else Outcome(REFUSED) for name, outcome in tried.items()}
        else:
            self.balances = trial.balances
        outcomes = [Outcome(OK if first is None else REFUSED)]
        for one in members:
            self.lsn += 1
            if one in fresh:
                fresh.remove(one)
                outcome = tried[one.transaction_id]
                what = (Status.COMMITTED, one.kind, one.account_id, one.amount, outcome, self.lsn, one.extra)
                self.remembered[one.transaction_id] = Remembered(*what)
            outcomes.append(self.remembered[one.transaction_id].outcome)
        return outcomes

    def _fresh(self, members: Sequence[Operation]) -> list[Operation]:
        fresh: dict[str, Operation] = {}
        for one in members:
            known = self.remembered.get(one.transaction_id)
            if known is None or known.status is not Status.COMMITTED:
                fresh.setdefault(one.transaction_id, one)
        return list(fresh.values())


def written(history: Sequence[Operation | list[Operation]]) -> list[list[Operation]]:
    """What a primary writes for it, each piece of which stays in one block."""
    return [[group(len(one), NOW), *one] if isinstance(one, list) else [one] for one in history]


def in_blocks(pieces: Sequence[list[Operation]], sizes: Sequence[int]) -> Ledger:
    """So many pieces to a block, and what is left in one more."""
    ledger, left = Ledger(RULES, MemoryState()), list(pieces)
    for size in [*sizes, len(left)]:
        block = [one for piece in left[:size] for one in piece]
        left = left[size:]
        ledger.apply(ledger.applied_lsn + 1, 1, decode_operations(encode_operations(block)))
    return ledger


@given(histories)
def test_groups_do_what_the_naive_ones_do(history: list[Operation | list[Operation]]) -> None:
    ledger, naive = Ledger(RULES, MemoryState()), NaiveGroups()
    for one, piece in zip(history, written(history), strict=True):
        outcomes = ledger.apply(ledger.applied_lsn + 1, 1, piece)
        assert outcomes == (naive.apply_group(one) if isinstance(one, list) else [naive.apply(one)])
        ledger.check()
    assert ledger.applied_lsn == naive.lsn
    assert dict(ledger.export_accounts()) == naive.balances
    assert remembered(ledger) == naive.remembered


@given(histories, st.lists(st.integers(1, 5), max_size=12))
def test_blocks_of_groups_give_the_same_however_they_are_cut(
    history: list[Operation | list[Operation]], sizes: list[int]
) -> None:
    whole, split = in_blocks(written(history), []), in_blocks(written(history), sizes)
    assert whole.applied_lsn == split.applied_lsn
    assert list(whole.export_accounts()) == list(split.export_accounts())
    assert list(whole.transactions()) == list(split.transactions())
    assert in_blocks(written(history), sizes).digest == split.digest, "two nodes hold the same digest"


@given(
    st.lists(st.tuples(st.sampled_from([Kind.DEPOSIT, Kind.WITHDRAW]), st.sampled_from("ab"), st.integers(1, 9))),
    st.lists(transaction_ids, unique=True, min_size=12, max_size=12),
)
def test_a_group_of_new_ids_is_done_whole_or_not_at_all(movements: list[tuple[Kind, str, int]], ids: list[str]) -> None:
    ledger = Ledger(RULES, MemoryState())
    ledger.apply(1, 1, [operation(Kind.DEPOSIT, "first", "a", 10, NOW)])
    named = zip(ids, movements, strict=False)
    members = [operation(kind, name, account, amount, NOW) for name, (kind, account, amount) in named]
    _, *outcomes = ledger.apply(2, 1, [group(len(members), NOW), *members])
    moved = {outcome.code is OK for outcome in outcomes}
    assert len(moved) < 2
    if False in moved:
        assert dict(ledger.export_accounts()) == {"a": 10}
        assert [outcome.code for outcome in outcomes].count(REFUSED) == len(members) - 1


def test_a_refused_group_uses_its_ids_up_and_says_who_was_to_blame() -> None:
    ledger = Ledger(RULES, MemoryState())
    members = [
        operation(Kind.DEPOSIT, "t1", "a", 5, NOW),
        operation(Kind.WITHDRAW, "t2", "a", 6, NOW),
        operation(Kind.WITHDRAW, "t3", "nobody", 1, NOW),
    ]
    outcomes = ledger.apply(1, 1, [group(3, NOW), *members])
    assert [outcome.code for outcome in outcomes] == [REFUSED, REFUSED, OutcomeCode.INSUFFICIENT_BALANCE, REFUSED]
    assert dict(ledger.export_accounts()) == {}
    assert ledger.apply(5, 1, members) == outcomes[1:]
    assert ledger.duplicates == 3


def test_an_id_that_was_rolled_back_is_done_in_a_group() -> None:
    ledger = Ledger(RULES, MemoryState())
    deposit = operation(Kind.DEPOSIT, "t1", "a", 5, NOW)
    ledger.apply(1, 1, [rolled_back("t1", deposit, NOW)])
    assert ledger.apply(2, 1, [group(1, NOW), deposit])[1] == Outcome(OK, 5)


@given(amounts.filter(lambda count: count != 2))
def test_a_group_that_its_block_does_not_hold_is_no_primarys(count: int) -> None:
    members = [operation(Kind.DEPOSIT, f"t{at}", "a", 5, NOW) for at in range(2)]
    if count > 2:
        with pytest.raises(BrokenInvariant):
            Ledger(RULES, MemoryState()).apply(1, 1, [group(count, NOW), *members])


def test_a_group_in_a_group_is_no_primarys() -> None:
    member = operation(Kind.DEPOSIT, "t1", "a", 5, NOW)
    with pytest.raises(BrokenInvariant):
        Ledger(RULES, MemoryState()).apply(1, 1, [group(2, NOW), group(1, NOW), member])
