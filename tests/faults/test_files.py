"""The readable files of a real pair: left by a clean stop, and imported into a new one."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

from tests.faults.checker import Client
from tests.faults.harness import Pair, running_pair


def _read(path: Path) -> Any:
    return json.loads(path.read_text(), parse_float=Decimal)


_HOLDS = (
    ("/holds", b'{"account_id":"user123","amount":300,"expires_in":600,"transaction_id":"hold/1"}'),
    ("/holds/hold/1/capture", b'{"amount":100,"to_account_id":"shop","transaction_id":"part"}'),
)
"""200 of 1000.5 are on hold at the end, and come in as available."""


def test_files_of_a_clean_stop_are_imported_with_every_id(new_root: Callable[[], Path]) -> None:
    with running_pair() as pair:
        client = Client(pair)
        client.deposit("1000.5", transaction_id="first")
        client.deposit("9007199254740993.01", "exact", "second")
        client.send("withdraw", "user123", "5000", "refused")
        for path, body in _HOLDS:
            held = pair.rest.call("POST", path, body)
            assert held is not None
            assert held.status == 200
        pair.a.stop()
        pair.b.stop()
        wallets, transactions = (pair.data_dir / f"primary_{kind}.json" for kind in ("wallets", "transactions"))
        assert _read(wallets) == {"user123": Decimal("900.5"), "shop": 100, "exact": Decimal("9007199254740993.01")}
        assert set(_read(transactions)) == {"first", "second", "refused", "hold/1", "part"}
        for kind in ("wallets", "transactions"):
            assert _read(pair.data_dir / f"backup_{kind}.json") == _read(pair.data_dir / f"primary_{kind}.json")
        with closing(Pair(new_root())) as other:
            other.start_both()
            assert other.a.import_files(wallets, transactions) == {"accounts": 3, "transactions": 5}
            _answers_as_before(client, other)
            other.a.kill()
            other.start_both()
            _answers_as_before(client, other)


def _answers_as_before(client: Client, pair: Pair) -> None:
    for transaction_id, answer in client.answers.items():
        again = pair.rest.call("POST", *client.asked[transaction_id].request(transaction_id))
        assert again is not None
        assert (again.status, again.body, again.replayed) == (answer.status, answer.body, True)
    for path, body in _HOLDS:
        held = pair.rest.call("POST", path, body)
        assert held is not None
        assert (held.status, held.replayed) == (200, True)
    account = pair.rest.call("GET", "/accounts/user123")
    assert account is not None
    assert account.body == b'{"account_id":"user123","balance":900.5,"held":0.0,"total":900.5}'
    other_body = pair.rest.move("deposit", "user123", "1", "first")
    assert other_body is not None
    assert other_body.status == 422
    balance = pair.rest.call("POST", "/balance", b'{"account_id":"exact"}')
    assert balance is not None
    assert b'"balance":9007199254740993.01' in balance.body


def test_files_of_the_first_design_are_imported(tmp_path: Path) -> None:
    (tmp_path / "w").write_text('{"user123": 1000.5}')
    (tmp_path / "t").write_text('{"txn_id": {"status": "COMMITTED", "success": true}}')
    with running_pair() as pair:
        pair.a.import_files(tmp_path / "w", tmp_path / "t")
        again = pair.rest.move("deposit", "anybody", "7", "txn_id")  # known by its id alone
        assert again is not None
        assert (again.status, again.replayed) == (200, True)
        new = pair.rest.move("withdraw", "user123", "0.5", "new")
        assert new is not None
        assert b'"new_balance":1000.0' in new.body
