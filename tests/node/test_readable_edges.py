"""Readable files at their edges: times to the microsecond, zeros that are none, exact amounts."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftwallet.errors import ClientError
from ftwallet.ledger.ledger import Ledger
from ftwallet.ledger.operations import Kind, decode_operations, encode_operations, operation
from ftwallet.ledger.rules import Rules
from ftwallet.ledger.state import MemoryState
from ftwallet.node.readable import collect, read_files, write_files

SEED = 20_251_124


def test_every_microsecond_comes_back(tmp_path: Path) -> None:
    pick = random.Random(SEED)
    times = {f"t{number}": pick.randrange(1, 4 * 10**15) for number in range(500)}
    ledger = Ledger(Rules(), MemoryState())
    ledger.apply(1, 1, [operation(Kind.DEPOSIT, name, "user123", 1, time_us) for name, time_us in times.items()])
    operations, _ = read_files(*write_files(tmp_path, "primary", collect(ledger)), Rules())
    assert {one.transaction_id: one.time_us for one in operations if one.transaction_id} == times


@given(balances=st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 10**18)), exponent=st.integers(0, 18))
def test_every_amount_comes_back(
    tmp_path_factory: pytest.TempPathFactory, balances: dict[str, int], exponent: int
) -> None:
    rules = Rules(exponent=exponent)
    directory = tmp_path_factory.mktemp("files")
    ledger = Ledger(rules, MemoryState())
    if moves := [operation(Kind.DEPOSIT, name, name, minor, 1) for name, minor in balances.items() if minor]:
        ledger.apply(1, 1, moves)
    wallets, transactions = write_files(directory, "backup", collect(ledger))
    operations, _ = read_files(wallets, transactions, rules)
    again = Ledger(rules, MemoryState())
    again.apply(1, 1, decode_operations(encode_operations(operations)))
    assert dict(again.export_accounts()) == dict(ledger.export_accounts())
    again.check()


@pytest.mark.parametrize("zero", ["0", "0.0", "0.00", '"0"', '"0.00"'])
def test_a_zero_is_a_zero(tmp_path: Path, zero: str) -> None:
    (tmp_path / "w").write_text(f'{{"user123": {zero}}}')
    operations, _ = read_files(tmp_path / "w", None, Rules())
    assert [one.amount for one in operations] == [0]


@pytest.mark.parametrize("text", ["", ".", "...", "00", "0.", ".0", " 0", "-0", "0x0", "\u0660"])
def test_what_looks_like_a_zero_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "w").write_text(json.dumps({"user123": text}))
    with pytest.raises(ClientError, match="'user123'"):
        read_files(tmp_path / "w", None, Rules())


@pytest.mark.parametrize("time", ["1969-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_a_time_that_the_log_cannot_hold_is_refused(tmp_path: Path, time: str) -> None:
    (tmp_path / "w").write_text("{}")
    (tmp_path / "t").write_text(json.dumps({"txn-1": {"status": "COMMITTED", "success": True, "time": time}}))
    with pytest.raises(ClientError, match="'txn-1' has a time"):
        read_files(tmp_path / "w", tmp_path / "t", Rules())


def test_the_first_designs_shape(tmp_path: Path) -> None:
    (tmp_path / "w").write_text('{"user123": 1000.5, "user456": 9007199254740993.01}')
    (tmp_path / "t").write_text('{"txn_id": {"status": "COMMITTED", "success": true, "message": "Deposited 1000.5"}}')
    operations, imported = read_files(tmp_path / "w", tmp_path / "t", Rules())
    assert imported == (2, 1)
    assert [one.amount for one in operations] == [100_050, 900_719_925_474_099_301, 0]
