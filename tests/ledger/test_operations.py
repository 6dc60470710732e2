"""Blocks of operations: what is written is read back, and nothing else is read at all."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftwallet.ledger.imports import imported_balance, imported_outcome, imported_transaction
from ftwallet.ledger.money import MAX_STORED
from ftwallet.ledger.operations import (
    Body,
    Kind,
    Operation,
    decode_operations,
    encode_operations,
    operation,
    rolled_back,
    rolled_back_body,
)
from ftwallet.ledger.outcomes import OutcomeCode
from ftwallet.ledger.rules import Rules, changed_rules, decode_rules, encode_rules

NOW = 1_795_000_000_000_000

ids = st.text(st.characters(exclude_categories=["Cs"]), max_size=128)
amounts = st.one_of(st.integers(0, MAX_STORED), st.sampled_from([0, 1, 2**63, 2**64 - 1, 2**64, MAX_STORED]))
operations = st.builds(
    operation, st.sampled_from(Kind), ids, ids, amounts, st.integers(0, 2**63), st.binary(max_size=40)
)


@given(st.lists(operations, max_size=50))
def test_a_block_is_read_back_as_it_was_written(block: list[Operation]) -> None:
    encoded = encode_operations(block)
    assert decode_operations(encoded) == block
    assert encode_operations(tuple(block)) == encoded


@given(amounts)
def test_an_amount_of_128_bits_stays_exact(amount: int) -> None:
    block = [operation(Kind.DEPOSIT, "t", "a", amount, NOW)]
    assert decode_operations(encode_operations(block))[0].amount == amount


@pytest.mark.parametrize("amount", [-1, MAX_STORED + 1])
def test_an_amount_that_does_not_fit_is_refused(amount: int) -> None:
    with pytest.raises(ValueError, match="does not fit the journal"):
        operation(Kind.DEPOSIT, "t", "a", amount, NOW)


GOOD = [1, "t", "a", 5, 0, NOW, b""]


@pytest.mark.parametrize(
    "fields",
    [
        [0, *GOOD[1:]],
        [13, *GOOD[1:]],
        ["1", *GOOD[1:]],
        [True, *GOOD[1:]],
        [1, 2, *GOOD[2:]],
        [1, "t", None, *GOOD[3:]],
        [1, "t", "a", -5, 0, NOW, b""],
        [1, "t", "a", 5.0, 0, NOW, b""],
        [1, "t", "a", 5, 0, -1, b""],
        [1, "t", "a", 5, 0, NOW, "text"],
        [*GOOD, "one more"],
        GOOD[:5],
    ],
)
def test_an_operation_of_another_form_is_refused(fields: list[object]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        decode_operations(msgspec.msgpack.encode([fields]))


@pytest.mark.parametrize(
    "payload", [b"", b"\xc0", b"\x91", b"{}", b"\x91\xa5ab", b"\x91\x97\x01\xa1\xff\xa1a\x05\x00\x00\xc4\x00"]
)
def test_bytes_that_are_no_block_are_refused(payload: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        decode_operations(payload)


@given(st.lists(operations, min_size=1, max_size=5), st.data())
def test_a_block_cut_short_is_refused(block: list[Operation], data: st.DataObject) -> None:
    encoded = encode_operations(block)
    with pytest.raises(ValueError, match=r".+"):
        decode_operations(encoded[: data.draw(st.integers(0, len(encoded) - 1))])


def test_the_form_on_disk_is_permanent() -> None:
    block = [operation(Kind.WITHDRAW, "t1", "ü", 2**64 + 7, 9)]
    assert encode_operations(block).hex() == "919702a27431a2c3bc070109c400"
    assert [f"{kind.name}={kind.value}" for kind in Kind] == [
        "DEPOSIT=1",
        "WITHDRAW=2",
        "ROLLED_BACK=3",
        "IMPORTED_BALANCE=4",
        "IMPORTED_TRANSACTION=5",
        "CHANGED_RULES=6",
        "GROUP=7",
        "TRANSFER=8",
        "HOLD=9",
        "CAPTURE=10",
        "RELEASE=11",
        "EXPIRE=12",
    ]


def test_a_rollback_carries_what_it_undid() -> None:
    undone = operation(Kind.WITHDRAW, "t", "a", 2**100, NOW)
    record = rolled_back("t", undone, NOW + 1)
    assert (record.kind, record.account_id, record.amount) == (Kind.ROLLED_BACK, "a", 2**100)
    assert rolled_back_body(record) == Body(Kind.WITHDRAW, "a", 2**100)
    assert rolled_back_body(rolled_back("t", None, NOW)) is None


@given(st.sampled_from(OutcomeCode), st.none() | amounts)
def test_an_imported_transaction_carries_its_outcome(code: OutcomeCode, new_balance: int | None) -> None:
    body = Body(Kind.DEPOSIT, "a", 5)
    known = imported_outcome(imported_transaction("t", code, NOW, body, new_balance))
    assert (known.kind, known.code, known.new_balance) == (Kind.DEPOSIT, code, new_balance)
    assert imported_outcome(imported_transaction("t", code, NOW)).kind == 0


def test_imported_balances_and_rules_take_no_id() -> None:
    assert imported_balance("a", 5, NOW).transaction_id == ""
    assert changed_rules(Rules(), NOW).transaction_id == ""


@given(st.builds(Rules, st.integers(0, 18), st.integers(1, MAX_STORED), st.integers(1, MAX_STORED)))
def test_rules_are_read_back_as_they_were_written(rules: Rules) -> None:
    assert decode_rules(encode_rules(rules)) == rules


@pytest.mark.parametrize(
    "rules", [Rules(-1), Rules(19), Rules(2, 0), Rules(2, 1, 0), Rules(2, MAX_STORED + 1), Rules(2, 1, 2**128)]
)
def test_rules_that_no_ledger_can_hold_are_refused(rules: Rules) -> None:
    with pytest.raises(ValueError, match=r"decimals|limits"):
        changed_rules(rules, NOW)
