"""The ledger's rules, one story a test; test_against_a_model.py holds long histories against a naive ledger."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import pytest

from ftwallet.errors import BrokenInvariant
from ftwallet.ledger.imports import imported_balance, imported_transaction
from ftwallet.ledger.ledger import Ledger
from ftwallet.ledger.operations import Body, Kind, Operation, operation, rolled_back
from ftwallet.ledger.outcomes import Outcome, OutcomeCode, Status, Transaction, first_difference, message
from ftwallet.ledger.rules import Rules, changed_rules
from ftwallet.ledger.state import WORLD, MemoryState

NOW = 1_795_000_000_000_000
EPOCH = 3
LIMIT = 10**18

ids = (f"t{number}" for number in count(1))


def deposit(account_id: str, amount: int, transaction_id: str | None = None) -> Operation:
    return operation(Kind.DEPOSIT, transaction_id or next(ids), account_id, amount, NOW)


def withdraw(account_id: str, amount: int, transaction_id: str | None = None) -> Operation:
    return operation(Kind.WITHDRAW, transaction_id or next(ids), account_id, amount, NOW)


def run(ledger: Ledger, *operations: Operation) -> list[Outcome]:
    """Apply as one block, then hold the invariants."""
    outcomes = ledger.apply(ledger.applied_lsn + 1, EPOCH, operations)
    ledger.check()
    return outcomes


def remembered(ledger: Ledger, transaction_id: str) -> Transaction:
    transaction = ledger.find(transaction_id)
    assert transaction is not None
    return transaction


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(Rules(), MemoryState())


def test_the_readmes_story(ledger: Ledger) -> None:
    outcomes = run(ledger, deposit("user123", 100050), withdraw("user123", 25050))
    assert outcomes == [Outcome(OutcomeCode.OK, 100050), Outcome(OutcomeCode.OK, 75000)]
    assert ledger.balance("user123") == 75000
    assert ledger.balance(WORLD) == -75000


def test_a_new_ledger_is_empty(ledger: Ledger) -> None:
    assert ledger.applied_lsn == 0
    assert ledger.digest == bytes(32)
    assert ledger.balance(WORLD) == 0
    assert ledger.balance("user123") is None
    assert ledger.find("t") is None
    assert not list(ledger.export_accounts())
    assert not list(ledger.transactions())
    ledger.check()


def test_a_withdrawal_may_empty_an_account_but_not_overdraw_it(ledger: Ledger) -> None:
    run(ledger, deposit("a", 5))
    assert run(ledger, withdraw("a", 6)) == [Outcome(OutcomeCode.INSUFFICIENT_BALANCE)]
    assert run(ledger, withdraw("a", 5)) == [Outcome(OutcomeCode.OK, 0)]
    assert run(ledger, withdraw("a", 1)) == [Outcome(OutcomeCode.INSUFFICIENT_BALANCE)]
    assert ledger.balance("a") == 0


def test_a_refused_withdrawal_opens_no_account(ledger: Ledger) -> None:
    assert run(ledger, withdraw("a", 1)) == [Outcome(OutcomeCode.ACCOUNT_NOT_FOUND)]
    assert ledger.balance("a") is None
    assert not list(ledger.export_accounts())
    assert run(ledger, deposit("a", 1)) == [Outcome(OutcomeCode.OK, 1)]


def test_a_balance_may_reach_its_limit_but_not_pass_it(ledger: Ledger) -> None:
    assert run(ledger, deposit("a", LIMIT), deposit("a", 1)) == [
        Outcome(OutcomeCode.OK, LIMIT),
        Outcome(OutcomeCode.BALANCE_OVER_LIMIT, limit=LIMIT),
    ]
    assert run(ledger, withdraw("a", 1), deposit("a", 1))[1].new_balance == LIMIT


def test_balances_may_need_128_bits() -> None:
    most = 2**128 - 1
    ledger = Ledger(Rules(2, most, most), MemoryState())
    run(ledger, deposit("a", most, "t"), deposit("b", most), deposit("c", 2**64))
    assert ledger.balance("a") == most
    assert ledger.balance(WORLD) == -2 * most - 2**64
    transaction = remembered(ledger, "t")
    assert (transaction.amount, transaction.new_balance) == (most, most)


@pytest.mark.parametrize("request_for", [deposit, withdraw])
def test_nobody_moves_the_worlds_own_money(ledger: Ledger, request_for: Callable[[str, int], Operation]) -> None:
    run(ledger, deposit("a", 10))
    assert run(ledger, request_for(WORLD, 5)) == [Outcome(OutcomeCode.ACCOUNT_NOT_FOUND)]
    assert run(ledger, imported_balance(WORLD, 5, NOW)) == [Outcome(OutcomeCode.ACCOUNT_EXISTS)]
    assert ledger.balance(WORLD) == -10


def test_a_success_is_found_under_its_id(ledger: Ledger) -> None:
    run(ledger, deposit("a", 5), deposit("a", 7, "mine"))
    assert ledger.find("mine") == Transaction(
        transaction_id="mine",
        kind=Kind.DEPOSIT,
        account_id="a",
        amount=7,
        code=OutcomeCode.OK,
        new_balance=12,
        lsn=2,
        epoch=EPOCH,
        time_us=NOW,
        status=Status.COMMITTED,
    )
    assert remembered(ledger, "mine").success


@pytest.mark.parametrize(
    ("refused", "code", "limit"),
    [
        (withdraw("a", 6, "mine"), OutcomeCode.INSUFFICIENT_BALANCE, None),
        (withdraw("b", 1, "mine"), OutcomeCode.ACCOUNT_NOT_FOUND, None),
        (deposit("a", LIMIT, "mine"), OutcomeCode.BALANCE_OVER_LIMIT, LIMIT),
    ],
)
def test_a_refusal_is_recorded_under_its_id_and_replayed(
    ledger: Ledger, refused: Operation, code: OutcomeCode, limit: int | None
) -> None:
    run(ledger, deposit("a", 5))
    assert run(ledger, refused) == [Outcome(code, limit=limit)]
    found = remembered(ledger, "mine")
    assert (found.status, found.success, found.code, found.limit) == (Status.COMMITTED, False, code, limit)
    assert (found.new_balance, found.account_id, found.amount) == (None, refused.account_id, refused.amount)
    # What it was refused for is gone; its answer stays.
    run(ledger, deposit("b", 100), withdraw("a", 5), deposit("a", 50))
    assert run(ledger, refused) == [Outcome(code, limit=limit)]


def test_an_id_moves_money_once_whatever_body_comes_with_it(ledger: Ledger) -> None:
    first = run(ledger, deposit("a", 5, "mine"), deposit("a", 5, "mine"))
    assert first == [Outcome(OutcomeCode.OK, 5), Outcome(OutcomeCode.OK, 5)]
    assert run(ledger, withdraw("a", 1, "mine"), deposit("b", 9, "mine")) == first
    assert run(ledger, rolled_back("mine", None, NOW)) == first[:1]
    assert ledger.duplicates == 4
    assert ledger.applied_lsn == 5
    assert ledger.balance("a") == 5
    assert ledger.balance("b") is None
    found = remembered(ledger, "mine")
    assert (found.lsn, found.status) == (1, Status.COMMITTED)


def test_a_rolled_back_id_is_on_record_and_executes_once_when_retried(ledger: Ledger) -> None:
    undone = deposit("a", 5, "mine")
    assert run(ledger, rolled_back("mine", undone, NOW)) == [Outcome(OutcomeCode.ROLLED_BACK)]
    found = remembered(ledger, "mine")
    assert (found.status, found.success, found.kind, found.amount) == (Status.ROLLED_BACK, False, Kind.DEPOSIT, 5)
    assert ledger.balance("a") is None
    assert run(ledger, undone, undone) == [Outcome(OutcomeCode.OK, 5)] * 2
    assert ledger.balance("a") == 5
    found = remembered(ledger, "mine")
    assert (found.status, found.lsn) == (Status.COMMITTED, 2)
    assert len(list(ledger.transactions())) == 1


def test_a_rollback_of_an_unknown_body_has_none(ledger: Ledger) -> None:
    run(ledger, rolled_back("mine", None, NOW), rolled_back("mine", None, NOW + 1))
    found = remembered(ledger, "mine")
    assert (found.kind, found.account_id, found.amount, found.lsn) == (None, None, None, 2)


def test_an_imported_balance_is_money_from_the_world(ledger: Ledger) -> None:
    assert run(ledger, imported_balance("a", 75000, NOW), imported_balance("b", 0, NOW)) == [
        Outcome(OutcomeCode.OK, 75000),
        Outcome(OutcomeCode.OK, 0),
    ]
    assert run(ledger, imported_balance("a", 1, NOW)) == [Outcome(OutcomeCode.ACCOUNT_EXISTS)]
    assert run(ledger, imported_balance("c", LIMIT + 1, NOW)) == [Outcome(OutcomeCode.BALANCE_OVER_LIMIT, limit=LIMIT)]
    assert list(ledger.export_accounts()) == [("a", 75000), ("b", 0)]
    assert not list(ledger.transactions())


def test_an_imported_transaction_moves_no_money_and_bars_its_id(ledger: Ledger) -> None:
    imported = imported_transaction("old", OutcomeCode.OK, NOW, Body(Kind.WITHDRAW, "a", 5), new_balance=2**70)
    assert run(ledger, imported) == [Outcome(OutcomeCode.OK, 2**70)]
    assert ledger.balance("a") is None
    assert run(ledger, withdraw("a", 5, "old")) == [Outcome(OutcomeCode.OK, 2**70)]
    found = remembered(ledger, "old")
    assert (found.kind, found.account_id, found.amount) == (Kind.WITHDRAW, "a", 5)


def test_an_import_without_a_body_matches_by_id_alone(ledger: Ledger) -> None:
    run(ledger, imported_transaction("old", OutcomeCode.REFUSED_BEFORE_IMPORT, NOW))
    found = remembered(ledger, "old")
    assert (found.kind, found.account_id, found.amount, found.success) == (None, None, None, False)
    assert first_difference(found, Body(Kind.DEPOSIT, "anyone", 1)) is None


def test_the_first_field_that_differs_is_named(ledger: Ledger) -> None:
    run(ledger, deposit("a", 5, "mine"))
    found = remembered(ledger, "mine")
    assert first_difference(found, Body(Kind.DEPOSIT, "a", 5)) is None
    assert first_difference(found, Body(Kind.WITHDRAW, "b", 6)) == "type"
    assert first_difference(found, Body(Kind.DEPOSIT, "b", 6)) == "account_id"
    assert first_difference(found, Body(Kind.DEPOSIT, "a", 6)) == "amount"
    run(ledger, rolled_back("gone", deposit("a", 5, "gone"), NOW))
    gone = remembered(ledger, "gone")
    assert first_difference(gone, Body(Kind.WITHDRAW, "b", 6)) is None


def test_rules_change_by_the_log_and_old_refusals_keep_their_limit(ledger: Ledger) -> None:
    run(ledger, deposit("a", LIMIT + 1, "mine"))
    assert run(ledger, changed_rules(Rules(2, 50, 100), NOW), deposit("a", 100), deposit("a", 1)) == [
        Outcome(OutcomeCode.OK),
        Outcome(OutcomeCode.OK, 100),
        Outcome(OutcomeCode.BALANCE_OVER_LIMIT, limit=100),
    ]
    assert ledger.rules == Rules(2, 50, 100)
    found = remembered(ledger, "mine")
    assert found.limit == LIMIT


def test_a_balance_over_a_lowered_limit_can_still_be_withdrawn_from(ledger: Ledger) -> None:
    run(ledger, deposit("a", 100), changed_rules(Rules(2, 50, 50), NOW))
    assert run(ledger, withdraw("a", 1)) == [Outcome(OutcomeCode.OK, 99)]
    assert run(ledger, deposit("a", 1)) == [Outcome(OutcomeCode.BALANCE_OVER_LIMIT, limit=50)]


def test_decimals_are_fixed_once_there_is_money(ledger: Ledger) -> None:
    assert run(ledger, changed_rules(Rules(3), NOW)) == [Outcome(OutcomeCode.OK)]
    run(ledger, deposit("a", 1))
    assert run(ledger, changed_rules(Rules(2), NOW)) == [Outcome(OutcomeCode.CURRENCY_FIXED)]
    assert ledger.rules.exponent == 3


@pytest.mark.parametrize("first_lsn", [0, 1, 3])
def test_a_block_that_does_not_follow_is_refused(ledger: Ledger, first_lsn: int) -> None:
    run(ledger, deposit("a", 1))
    with pytest.raises(BrokenInvariant, match=f"from lsn {first_lsn} cannot follow lsn 1"):
        ledger.apply(first_lsn, EPOCH, [deposit("a", 1)])
    assert ledger.balance("a") == 1


@pytest.mark.parametrize("kind", [Kind.IMPORTED_TRANSACTION, Kind.CHANGED_RULES])
def test_a_record_that_no_primary_writes_is_refused(ledger: Ledger, kind: Kind) -> None:
    with pytest.raises(BrokenInvariant, match="lsn 1 holds what no primary writes"):
        ledger.apply(1, EPOCH, [operation(kind, "t", "a", 1, NOW, extra=b"?")])


def test_an_empty_block_changes_nothing(ledger: Ledger) -> None:
    assert ledger.apply(1, EPOCH, []) == []
    assert (ledger.applied_lsn, ledger.digest) == (0, bytes(32))


def test_the_digest_tells_executions_apart(ledger: Ledger) -> None:
    other = Ledger(Rules(max_balance=4), MemoryState())
    block = [deposit("a", 5)]
    run(ledger, *block)
    run(other, *block)
    assert ledger.digest != other.digest
    assert len(ledger.digest) == 32


def test_the_digest_of_a_block_is_permanent(ledger: Ledger) -> None:
    run(ledger, deposit("a", 5, "t"), withdraw("a", 6, "u"))
    assert ledger.digest.hex() == "bcbb5bc48260f1a573de208d230924af265b839df131b5b3132498216462768a"


@pytest.mark.parametrize(
    ("damage", "said"),
    [({"@world": -9}, "add up to 1 minor"), ({"a": -5, "b": 15}, "account 'a' has -5 minor")],
)
def test_damaged_balances_are_noticed(damage: dict[str, int], said: str) -> None:
    state = MemoryState()
    ledger = Ledger(Rules(), state)
    run(ledger, deposit("a", 5), deposit("b", 5))
    state.accounts.update(damage)
    with pytest.raises(BrokenInvariant, match=said):
        ledger.check()


def test_exports_show_the_moment_of_the_call(ledger: Ledger) -> None:
    run(ledger, deposit("a", 5, "t"))
    accounts, transactions = ledger.export_accounts(), ledger.transactions()
    run(ledger, deposit("a", 5), deposit("b", 5))
    assert list(accounts) == [("a", 5)]
    assert [transaction.transaction_id for transaction in transactions] == ["t"]


def test_rules_that_cannot_be_held_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match="limits must be positive"):
        Ledger(Rules(2, 0, 0), MemoryState())


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (message(Body(Kind.DEPOSIT, "a", 100050), Outcome(OutcomeCode.OK), 2), "Deposited 1000.5"),
        (message(Body(Kind.WITHDRAW, "a", 25050), Outcome(OutcomeCode.OK), 2), "Withdrew 250.5"),
        (message(Body(Kind.IMPORTED_BALANCE, "a", 5), Outcome(OutcomeCode.OK), 0), "Imported 5"),
        (message(None, Outcome(OutcomeCode.OK), 2), "Done"),
        (message(Body(Kind.WITHDRAW, "a", 5), Outcome(OutcomeCode.INSUFFICIENT_BALANCE), 2), "Insufficient balance"),
        (message(Body(Kind.WITHDRAW, "a", 5), Outcome(OutcomeCode.ACCOUNT_NOT_FOUND), 2), "Account not found"),
        (
            message(Body(Kind.DEPOSIT, "a", 5), Outcome(OutcomeCode.BALANCE_OVER_LIMIT, limit=LIMIT), 2),
            "Balance would be over the limit of 10000000000000000.0",
        ),
    ],
)
def test_sentences(said: str, sentence: str) -> None:
    assert said == sentence


def test_every_outcome_has_a_number_for_ever_and_a_sentence() -> None:
    assert [f"{code.name}={code.value}" for code in OutcomeCode] == [
        "OK=0",
        "INSUFFICIENT_BALANCE=1",
        "ACCOUNT_NOT_FOUND=2",
        "BALANCE_OVER_LIMIT=3",
        "ROLLED_BACK=4",
        "ACCOUNT_EXISTS=5",
        "CURRENCY_FIXED=6",
        "REFUSED_BEFORE_IMPORT=7",
        "GROUP_REFUSED=8",
        "HOLD_NOT_FOUND=9",
        "HOLD_CAPTURED=10",
        "HOLD_RELEASED=11",
        "HOLD_EXPIRED=12",
        "OVER_HOLD=13",
    ]
    assert all(message(Body(Kind.DEPOSIT, "a", 1), Outcome(code), 2) for code in OutcomeCode)
