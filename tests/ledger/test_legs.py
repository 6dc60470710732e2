"""Transfers: several legs that move together or not at all."""

from __future__ import annotations

import msgspec
import pytest

from ftwallet.errors import BrokenInvariant
from ftwallet.ledger.ledger import Ledger
from ftwallet.ledger.legs import MAX_LEGS, Leg, accounts_of, decode_legs, leg, transfer
from ftwallet.ledger.money import MAX_STORED
from ftwallet.ledger.operations import Body, Kind, Operation, asked, operation
from ftwallet.ledger.outcomes import Outcome, OutcomeCode, first_difference, message, sentence
from ftwallet.ledger.rules import Rules
from ftwallet.ledger.state import WORLD, MemoryState

NOW = 7
LIMIT = 10_000


def ledger(**balances: int) -> Ledger:
    made = Ledger(Rules(2, LIMIT, LIMIT), MemoryState())
    made.apply(1, 1, [operation(Kind.DEPOSIT, f"to {name}", name, minor, NOW) for name, minor in balances.items()])
    return made


def apply(made: Ledger, *operations: Operation) -> list[Outcome]:
    return made.apply(made.applied_lsn + 1, 1, operations)


def balances(made: Ledger) -> dict[str, int]:
    made.check()
    return dict(made.export_accounts())


def move(*legs: Leg, transaction_id: str = "t") -> Operation:
    return asked(transfer(legs), transaction_id, NOW)


def test_what_one_gives_the_other_gets() -> None:
    made = ledger(alice=500)
    assert apply(made, move(leg("alice", "bob", 200))) == [Outcome(OutcomeCode.OK, figures=(300, 200))]
    assert balances(made) == {"alice": 300, "bob": 200}


def test_money_leaves_for_the_world_in_the_block_in_which_it_came() -> None:
    came = [operation(Kind.DEPOSIT, f"to {name}", name, LIMIT, NOW) for name in ("alice", "bob")]
    left = move(leg("alice", WORLD, LIMIT), leg("bob", WORLD, LIMIT))
    made, other = ledger(), ledger()
    apply(made, *came, left)
    for one in (*came, left):
        apply(other, one)
    for each in (made, other):
        assert balances(each) == {"alice": 0, "bob": 0}


def test_a_payment_is_split_and_its_fee_taken_in_one_go() -> None:
    made = ledger(alice=500)
    legs = [leg("alice", "shop", 300), leg("shop", "fees", 9), leg("shop", WORLD, 100), leg(WORLD, "alice", 1)]
    assert apply(made, move(*legs)) == [Outcome(OutcomeCode.OK, figures=(201, 191, 9))]
    assert balances(made) == {"alice": 201, "shop": 191, "fees": 9}
    assert accounts_of(legs) == ["alice", "shop", "fees"]


@pytest.mark.parametrize(
    ("legs", "outcome"),
    [
        ([leg("alice", "bob", 501)], Outcome(OutcomeCode.INSUFFICIENT_BALANCE, leg=0)),
        ([leg("nobody", "bob", 1)], Outcome(OutcomeCode.ACCOUNT_NOT_FOUND, leg=0)),
        ([leg("alice", "bob", 500), leg("alice", "bob", 1)], Outcome(OutcomeCode.INSUFFICIENT_BALANCE, leg=1)),
        ([leg("alice", "bob", 1), leg("bob", "carl", 2)], Outcome(OutcomeCode.INSUFFICIENT_BALANCE, leg=1)),
        (
            [leg("alice", "bob", 1), leg(WORLD, "bob", LIMIT)],
            Outcome(OutcomeCode.BALANCE_OVER_LIMIT, limit=LIMIT, leg=1),
        ),
    ],
)
def test_a_refused_leg_leaves_everything_as_it_was(legs: list[Leg], outcome: Outcome) -> None:
    made = ledger(alice=500)
    assert apply(made, move(*legs)) == [outcome]
    assert balances(made) == {"alice": 500}
    assert apply(made, operation(Kind.DEPOSIT, "more", "alice", 500, NOW))[0].new_balance == 1000
    assert apply(made, move(*legs)) == [outcome], "its id keeps the refusal"
    assert made.duplicates == 1


def test_an_id_keeps_its_outcome_whatever_kind_asks_again() -> None:
    made = ledger(alice=500)
    first = apply(made, move(leg("alice", "bob", 200)))
    assert apply(made, move(leg("alice", "bob", 300)), operation(Kind.DEPOSIT, "t", "bob", 1, NOW)) == first * 2
    assert balances(made) == {"alice": 300, "bob": 200}


ONE = [leg("alice", "bob", 200)]
TWO = [*ONE, leg("bob", "carl", 5)]


@pytest.mark.parametrize(
    ("was", "body", "differs"),
    [
        (ONE, transfer(ONE), None),
        (ONE, Body(Kind.DEPOSIT, "alice", 200), "type"),
        (ONE, transfer([leg("carl", "bob", 200)]), "from_account_id"),
        (ONE, transfer([leg("alice", "carl", 200)]), "to_account_id"),
        (ONE, transfer([leg("alice", "bob", 201)]), "amount"),
        (ONE, transfer(TWO), "legs"),
        (TWO, transfer([ONE[0], leg("bob", "carl", 6)]), "legs[1].amount"),
    ],
)
def test_the_first_field_that_differs_is_named(was: list[Leg], body: Body, differs: str | None) -> None:
    made = ledger(alice=500)
    apply(made, move(*was))
    known = made.find("t")
    assert known is not None
    assert first_difference(known, body) == differs


def test_sentences() -> None:
    made = ledger(alice=500)
    apply(made, move(*ONE), move(*TWO, transaction_id="u"), move(leg("alice", "bob", 900), transaction_id="v"))
    found = [made.find(name) for name in "tuv"]
    assert [sentence(one, 2) for one in found if one] == [
        "Transferred 2.0",
        "Transferred 2 legs",
        "Insufficient balance",
    ]
    assert (
        message(transfer(TWO), Outcome(OutcomeCode.BALANCE_OVER_LIMIT, limit=LIMIT, leg=1), 2)
        == "Balance would be over the limit of 100.0 (legs[1])"
    )


@pytest.mark.parametrize(
    "extra",
    [
        b"",
        b"\x90",
        msgspec.msgpack.encode([["a", "a", 1, 0]]),
        msgspec.msgpack.encode([["a", "b", 0, 0]]),
        msgspec.msgpack.encode([["a", "b", 1, 0]] * (MAX_LEGS + 1)),
    ],
    ids=["nothing", "no leg", "to itself", "no amount", "too many"],
)
def test_legs_that_no_primary_writes_stop_the_node(extra: bytes) -> None:
    with pytest.raises(BrokenInvariant, match="no primary writes"):
        apply(ledger(), operation(Kind.TRANSFER, "t", "", 0, NOW, extra))


def test_legs_keep_128_bits() -> None:
    legs = [leg("a", "b", MAX_STORED), leg("b", "ü", 2**64)]
    assert [one.amount for one in decode_legs(transfer(legs).extra)] == [MAX_STORED, 2**64]


@pytest.mark.parametrize(("source", "target", "amount"), [("a", "a", 1), ("a", "b", 0), ("a", "b", 2**128)])
def test_a_leg_that_no_ledger_takes(source: str, target: str, amount: int) -> None:
    with pytest.raises(ValueError, match=r"itself|fit"):
        leg(source, target, amount)


@pytest.mark.parametrize("count", [0, MAX_LEGS + 1])
def test_a_transfer_has_some_legs_and_not_too_many(count: int) -> None:
    with pytest.raises(ValueError, match="legs"):
        transfer([leg("a", "b", 1)] * count)


def test_the_form_on_disk_is_permanent() -> None:
    assert transfer([leg("a", "ü", 2**64 + 5)]).extra.hex() == "9194a161a2c3bc0501"
