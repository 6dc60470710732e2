"""The readable files: written exactly, read strictly, and an import that is whole or not begun."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ftwallet.errors import ClientError
from ftwallet.ledger.holds import capture, hold, release
from ftwallet.ledger.ledger import Ledger
from ftwallet.ledger.legs import leg, transfer
from ftwallet.ledger.operations import Body, Kind, Operation, asked, group, operation, rolled_back
from ftwallet.ledger.outcomes import OutcomeCode, first_difference
from ftwallet.ledger.rules import Rules
from ftwallet.ledger.state import WORLD, MemoryState
from ftwallet.node.readable import collect, read_files, write_files

NOON_US = 1_763_985_600_000_000
_NOON = "2025-11-24T12:00:00Z"
_DONE = {"status": "COMMITTED", "success": True}
_HELD = {**_DONE, "type": "hold", "account_id": "a", "amount": 1}


def ledger_of(*operations: Operation, rules: Rules | None = None) -> Ledger:
    ledger = Ledger(rules or Rules(), MemoryState())
    if operations:
        ledger.apply(1, 1, list(operations))
    return ledger


def move(kind: Kind, transaction_id: str, amount: int, account_id: str = "user123") -> Operation:
    return operation(kind, transaction_id, account_id, amount, NOON_US)


def files(directory: Path, wallets: str, transactions: dict[str, Any] | None = None) -> tuple[Path, Path]:
    paths = directory / "wallets.json", directory / "transactions.json"
    paths[0].write_text(wallets)
    paths[1].write_text(json.dumps(transactions or {}))
    return paths


def test_what_is_written_is_read_back_with_every_id_outcome_balance_and_time(tmp_path: Path) -> None:
    before = ledger_of(
        move(Kind.DEPOSIT, "t1", 900_719_925_474_099_301),
        move(Kind.WITHDRAW, "t2", 10**18),
        move(Kind.WITHDRAW, "t3", 5, "nobody"),
        rolled_back("t4", None, NOON_US),
        move(Kind.WITHDRAW, 'quoted "ü"', 1),
        group(2, NOON_US),
        move(Kind.DEPOSIT, "t5", 5),
        move(Kind.WITHDRAW, "t6", 5, "nobody"),
        asked(transfer([leg("user123", "bob", 5), leg("bob", "user123", 5)]), "t7", NOON_US),
        asked(transfer([leg("user123", "bob", 10**18), leg("bob", "user123", 5)]), "t8", NOON_US),
        asked(transfer([leg("user123", "bob", 5), leg("bob", "user123", 6)]), "t9", NOON_US),
    )
    written = write_files(tmp_path, "primary", collect(before))
    assert [path.name for path in written] == ["primary_wallets.json", "primary_transactions.json"]
    assert written[0].read_text() == '{\n  "user123": 9007199254740993.0,\n  "bob": 0.0\n}\n'
    operations, imported = read_files(*written, before.rules)
    assert imported == (2, 10)
    after = ledger_of(*operations)
    assert dict(after.export_accounts()) == dict(before.export_accounts())
    for was, now in zip(before.transactions(), after.transactions(), strict=True):
        if was.transaction_id != "t4":
            assert now._replace(lsn=was.lsn, epoch=was.epoch) == was
        assert (now.transaction_id, now.status, now.time_us) == (was.transaction_id, was.status, was.time_us)
    after.check()


def test_holds_are_written_and_read_back_and_what_they_held_comes_in_as_available(tmp_path: Path) -> None:
    before = ledger_of(
        move(Kind.DEPOSIT, "t1", 5_000),
        asked(hold("user123", 1_000), "h1", NOON_US),
        asked(hold("user123", 3_000, 600), "h2", NOON_US),
        asked(hold("user123", 3_000, 60), "h3", NOON_US),
        asked(capture("h2", 500, "shop"), "c1", NOON_US),
        asked(capture("h2", 0, WORLD, release_rest=True), "c2", NOON_US + 1),
        asked(capture("h1", 1_001, "shop"), "c3", NOON_US),
        asked(capture("h3", 0, "shop"), "c4", NOON_US),
        asked(release("h2"), "r1", NOON_US),
        asked(hold("user123", 100), "h4", NOON_US),
        asked(release("h4"), "r2", NOON_US),
    )
    assert dict(before.export_accounts()) == {"user123": 1_000, "shop": 500}
    written = write_files(tmp_path, "primary", collect(before))
    assert written[0].read_text() == '{\n  "user123": 20.0,\n  "shop": 5.0\n}\n'
    operations, imported = read_files(*written, before.rules)
    assert imported == (2, 11)
    after = ledger_of(*operations)
    assert dict(after.export_accounts()) == {"user123": 2_000, "shop": 500}
    assert after.hold("h1") is None
    for was, now in zip(before.transactions(), after.transactions(), strict=True):
        assert now._replace(lsn=was.lsn, epoch=was.epoch) == was._replace(limit=None)
        body = Body(was.kind or Kind.DEPOSIT, was.account_id or "", was.amount or 0, was.extra)
        assert first_difference(now, body) is None
    after.check()
    again = write_files(tmp_path, "backup", collect(after))
    assert read_files(*again, before.rules)[1] == imported


def test_an_empty_ledger_makes_empty_files(tmp_path: Path) -> None:
    ledger = ledger_of()
    assert list(ledger.transactions()) == []
    assert [path.read_text() for path in write_files(tmp_path, "backup", collect(ledger))] == ["{}\n", "{}\n"]


def test_the_transactions_may_be_left_out(tmp_path: Path) -> None:
    wallets, _ = files(tmp_path, '{"user123": 1000.50, "empty": 0, "text": "0.00"}')
    operations, imported = read_files(wallets, None, Rules())
    assert imported == (3, 0)
    assert dict(ledger_of(*operations).export_accounts()) == {"user123": 100_050, "empty": 0, "text": 0}


def test_a_balance_that_the_ledger_would_refuse_refuses_the_import(tmp_path: Path) -> None:
    rules = Rules(max_amount=5_000, max_balance=10_000)
    wallets, _ = files(tmp_path, '{"fits": 100, "rich": 100.01}')
    with pytest.raises(ClientError, match=r"the balance of 'rich' is over the limit of 100\.0: raise max_balance"):
        read_files(wallets, None, rules)


def test_a_transaction_without_its_body_matches_by_id_alone(tmp_path: Path) -> None:
    past = {
        "bare": {"status": "COMMITTED", "success": True},
        "poor": {"status": "COMMITTED", "success": False, "message": "Insufficient balance"},
        "odd": {"status": "COMMITTED", "success": False, "message": "the moon was full"},
    }
    operations, _ = read_files(*files(tmp_path, "{}", past), Rules())
    ledger = ledger_of(*operations)
    found = {one.transaction_id: one for one in ledger.transactions()}
    assert {name: one.kind for name, one in found.items()} == dict.fromkeys(past)
    assert {name: one.code for name, one in found.items()} == {
        "bare": OutcomeCode.OK,
        "poor": OutcomeCode.INSUFFICIENT_BALANCE,
        "odd": OutcomeCode.REFUSED_BEFORE_IMPORT,
    }


@pytest.mark.parametrize(
    ("wallets", "says"),
    [
        ("[]", "must hold one JSON object"),
        ("{", "is not a readable file of this kind"),
        ('{"a": 1, "a": 1}', "the key 'a' stands twice"),
        ('{"@world": 1}', "must not start with '@'"),
        ('{"": 1}', "must not be empty"),
        ('{"a": 0.001}', "'a': Amount has more than 2 decimal places"),
        ('{"a": -1}', "'a': Amount must be positive"),
        ('{"a": null}', "'a' must have an amount"),
        ('{"a": true}', "'a' must have an amount"),
        ('{"a": [1]}', "'a' must have an amount"),
    ],
)
def test_wallets_that_are_none_are_refused_with_file_and_account(tmp_path: Path, wallets: str, says: str) -> None:
    path, _ = files(tmp_path, wallets)
    with pytest.raises(ClientError) as refused:
        read_files(path, None, Rules())
    assert str(path) in str(refused.value)
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({}, "must have the keys status and success"),
        ("COMMITTED", "must have the keys status and success"),
        ({"status": "PENDING", "success": None}, "only what is done can come in"),
        ({"status": "COMMITTED", "success": True, "time": "noon"}, "has a time that is not RFC 3339"),
        ({"status": "COMMITTED", "success": True, "type": "gift", "account_id": "a", "amount": 1}, "has type 'gift'"),
        (
            {"status": "COMMITTED", "success": True, "type": "deposit", "account_id": "a", "amount": 0.001},
            "Amount has more than 2 decimal places",
        ),
        (
            {"status": "COMMITTED", "success": True, "type": "transfer"},
            "has legs that are none: a transfer has 1 to 32",
        ),
        ({**_DONE, "type": "hold", "account_id": "a", "amount": 1, "expires_at": _NOON}, "must expire a whole number"),
        ({**_HELD, "time": _NOON, "expires_at": _NOON}, "must expire a whole number of seconds, 1 to 316224000"),
        ({**_HELD, "time": _NOON, "expires_at": "2025-11-24T12:00:00.5Z"}, "must expire a whole number of seconds"),
        ({**_HELD, "expires_at": "soon"}, "has a time that is not RFC 3339: 'soon'"),
        ({**_DONE, "type": "capture", "hold_id": "h", "to_account_id": "a"}, "must have an amount, not None"),
        ({**_DONE, "type": "release", "hold_id": "h", "moved": 1, "captured": 0}, "must have an amount, not None"),
        ({**_DONE, "type": ["hold"]}, "has type ['hold']"),
        ({"status": "COMMITTED", "success": True, "type": "transfer", "legs": [5]}, "must be an array of objects"),
        (
            {"status": "COMMITTED", "success": True, "type": "transfer", "legs": [{"amount": 1}]},
            "a leg from 'None' to itself",
        ),
    ],
)
def test_a_transaction_that_is_none_is_refused_with_file_and_id(tmp_path: Path, document: Any, says: str) -> None:
    wallets, transactions = files(tmp_path, "{}", {"txn-1": document})
    with pytest.raises(ClientError) as refused:
        read_files(wallets, transactions, Rules())
    assert str(transactions) in str(refused.value)
    assert "'txn-1'" in str(refused.value)
    assert says in str(refused.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ClientError, match=r"nowhere\.json cannot be read"):
        read_files(tmp_path / "nowhere.json", None, Rules())
