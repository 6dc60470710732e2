"""The client against a server that misbehaves: one id for all tries, exact amounts, doubt told apart from refusal."""

from __future__ import annotations

import email.utils
import json
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from ftwallet import client as client_module
from ftwallet.client import (
    WORLD,
    Account,
    Amount,
    Balance,
    HoldReceipt,
    HoldRecord,
    InDoubt,
    Leg,
    Receipt,
    Rejected,
    SettlementReceipt,
    TransactionRecord,
    TransferReceipt,
    Unreachable,
    WalletClient,
)

if TYPE_CHECKING:
    from tests.client.conftest import Handler, ScriptedServer, Step


def answer(status: int, body: str, **headers: str) -> Step:
    return lambda handler: handler.send(status, body, **headers)


def problem(status: int, detail: str, **headers: str) -> Step:
    return answer(status, json.dumps({"status": status, "detail": detail}), **headers)


def hang_up(handler: Handler) -> None:
    handler.connection.shutdown(socket.SHUT_RDWR)
    handler.close_connection = True


def hang(handler: Handler) -> None:
    handler.server.release.wait(10)
    handler.close_connection = True


def break_off(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"success":true,')
    hang_up(handler)


DEPOSITED = answer(
    200,
    '{"success":true,"message":"Deposited 1000.5","new_balance":9007199254740993.01,"transaction_id":"t"}',
    FTWallet_LSN="12",
    FTWallet_Epoch="3",
    FTWallet_Durability="replicated",
)
REPLAYED = answer(
    200,
    '{"success":true,"message":"Deposited 7","new_balance":7,"transaction_id":"t"}',
    Idempotent_Replayed="true",
)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(client_module, "LONGEST_PAUSE_S", 0.01)


@pytest.fixture
def wallet(server: ScriptedServer) -> Iterator[WalletClient]:
    with WalletClient(server.url, timeout=0.2, deadline=5.0) as wallet:
        yield wallet


def test_a_deposit_is_sent_exactly_and_its_receipt_is_exact(server: ScriptedServer, wallet: WalletClient) -> None:
    server.script = [DEPOSITED]
    receipt = wallet.deposit('us"er', Decimal("9007199254740993.01"), "t")
    assert server.seen == [("/deposit", '{"account_id":"us\\"er","amount":9007199254740993.01,"transaction_id":"t"}')]
    exact = Decimal("9007199254740993.01")
    assert receipt == Receipt("t", "Deposited 1000.5", exact, 12, 3, "replicated", False)


def test_a_replayed_answer_and_missing_headers_are_told(server: ScriptedServer, wallet: WalletClient) -> None:
    server.script = [REPLAYED]
    receipt = wallet.withdraw("user", 7, "t")
    assert server.seen[0].path == "/withdraw"
    assert (receipt.replayed, receipt.lsn, receipt.epoch, receipt.durability) == (True, None, None, None)
    assert receipt.new_balance == 7
    assert isinstance(receipt.new_balance, Decimal)


def test_an_imported_id_may_have_no_balance(server: ScriptedServer, wallet: WalletClient) -> None:
    server.script = [answer(200, '{"success":true,"message":"Done","new_balance":null,"transaction_id":"t"}')]
    assert wallet.deposit("user", 7, "t").new_balance is None


@pytest.mark.parametrize(
    "misbehaviour",
    [
        problem(503, "no primary", Retry_After="0"),
        problem(500, "broken"),
        problem(429, "slow down"),
        answer(502, "<html>bad gateway</html>"),
        answer(200, "<html>a captive portal</html>"),
        answer(200, "[1]"),
        answer(200, '{"hello":"world"}'),
        answer(302, "", Location="http://127.0.0.1:9/"),
        hang_up,
        hang,
        break_off,
    ],
)
def test_k1_whatever_goes_wrong_the_same_id_is_sent_until_there_is_an_answer(
    server: ScriptedServer, wallet: WalletClient, misbehaviour: Step
) -> None:
    server.script = [misbehaviour, misbehaviour, DEPOSITED]
    receipt = wallet.deposit("user", "1000.50")
    assert [seen.transaction_id for seen in server.seen] == [receipt.transaction_id] * 3
    assert len({seen.body for seen in server.seen}) == 1


TRANSFERRED = answer(
    200,
    '{"success":true,"message":"Transferred 0.1","balances":[{"account_id":"ann","new_balance":9007199254740993.01},'
    '{"account_id":"shop","new_balance":0.1}],"transaction_id":"t"}',
    FTWallet_LSN="12",
    FTWallet_Epoch="3",
    FTWallet_Durability="replicated",
)


def test_a_transfer_is_sent_exactly_and_its_receipt_is_exact(server: ScriptedServer, wallet: WalletClient) -> None:
    server.script = [TRANSFERRED]
    receipt = wallet.transfer('a"nn', "shop", Decimal("0.10"), "t")
    body = '{"from_account_id":"a\\"nn","to_account_id":"shop","amount":0.10,"transaction_id":"t"}'
    assert server.seen == [("/transfer", body)]
    balances = {"ann": Decimal("9007199254740993.01"), "shop": Decimal("0.1")}
    assert receipt == TransferReceipt("t", "Transferred 0.1", balances, 12, 3, "replicated", False)
    assert list(receipt.balances) == ["ann", "shop"]


def test_the_legs_of_a_transfer_are_sent_in_their_order(server: ScriptedServer, wallet: WalletClient) -> None:
    server.script = [TRANSFERRED]
    wallet.transfer_legs([Leg(WORLD, "ann", "10"), Leg("ann", "shop", 7.5), Leg("shop", WORLD, 1)])
    legs = json.loads(server.seen[0].body)["legs"]
    assert [tuple(one.values()) for one in legs] == [
        ("@world", "ann", "10"),
        ("ann", "shop", 7.5),
        ("shop", "@world", 1),
    ]


def test_k1_a_transfer_is_tried_again_under_its_id(server: ScriptedServer, wallet: WalletClient) -> None:
    server.script = [hang_up, problem(503, "no primary", Retry_After="0"), answer(200, "[1]"), TRANSFERRED]
    receipt = wallet.transfer("ann", "shop", 1)
    assert [seen.transaction_id for seen in server.seen] == [receipt.transaction_id] * 4
    assert len({seen.body for seen in server.seen}) == 1
    assert wallet.transfer("ann", "shop", 1).transaction_id != receipt.transaction_id


def test_a_refused_transfer_is_told_apart_from_one_in_doubt(server: ScriptedServer, wallet: WalletClient) -> None:
    server.script = [problem(400, "Insufficient balance (legs[1])"), problem(503, "no primary")]
    legs = [Leg("ann", "shop", 1), Leg("shop", "fees", 2)]
    with pytest.raises(Rejected, match=r"^Insufficient balance \(legs\[1\]\)$") as refusal:
        wallet.transfer_legs(legs, "t")
    assert refusal.value.transaction_id == "t"
    with WalletClient(server.url, max_retries=1) as impatient, pytest.raises(InDoubt) as doubt:
        impatient.transfer_legs(legs, "u")
    assert doubt.value.transaction_id == "u"


def test_a_leg_with_an_amount_that_is_no_number_is_never_sent(server: ScriptedServer, wallet: WalletClient) -> None:
    with pytest.raises(ValueError, match="must be finite"):
        wallet.transfer_legs([Leg("ann", "shop", 1), Leg("ann", "shop", float("nan"))])
    assert server.seen == []


def test_a_transfer_that_is_looked_up_has_its_legs_and_balances(server: ScriptedServer, wallet: WalletClient) -> None:
    server.script = [
        answer(
            200,
            '{"transaction_id":"t","status":"COMMITTED","success":true,"message":"m","type":"transfer","account_id":null,'
            '"amount":null,"new_balance":null,"lsn":1,"epoch":2,"time":null,'
            '"legs":[{"from_account_id":"ann","to_account_id":"shop","amount":0.1}],'
            '"balances":[{"account_id":"ann","new_balance":5},{"account_id":"shop","new_balance":0.1}]}',
        )
    ]
    known = wallet.transaction("t")
    assert (known.type, known.amount, known.legs) == ("transfer", None, (Leg("ann", "shop", Decimal("0.1")),))
    assert known.balances == {"ann": 5, "shop": Decimal("0.1")}
    assert len({known, known}) == 1


HELD = answer(
    200,
    '{"success":true,"message":"Held 0.1","new_balance":9007199254740993.01,"expires_at":"2026-11-24T12:10:00.250000Z",'
    '"transaction_id":"h"}',
    FTWallet_LSN="12",
    FTWallet_Epoch="3",
    FTWallet_Durability="replicated",
)
CAPTURED = answer(
    200, '{"success":true,"message":"Captured 0.1","captured":0.3,"left":9007199254740993.01,"transaction_id":"c"}'
)
TEN_PAST = datetime(2026, 11, 24, 12, 10, 0, 250_000, UTC)


def test_a_hold_is_sent_exactly_and_its_receipt_is_exact(server: ScriptedServer, wallet: WalletClient) -> None:
    server.script = [HELD]
    receipt = wallet.hold('a"nn', Decimal("0.10"), 600, "h")
    wallet.hold("ann", "7", transaction_id="i")
    assert server.seen == [
        ("/holds", '{"account_id":"a\\"nn","amount":0.10,"expires_in":600,"transaction_id":"h"}'),
        ("/holds", '{"account_id":"ann","amount":"7","transaction_id":"i"}'),
    ]
    exact = Decimal("9007199254740993.01")
    assert receipt == HoldReceipt("h", "Held 0.1", exact, TEN_PAST, 12, 3, "replicated", False)


def test_captures_and_releases_are_sent_exactly(server: ScriptedServer, wallet: WalletClient) -> None:
    server.script = [CAPTURED]
    receipt = wallet.capture("h/ü?", Decimal("0.10"), "shop", True, "c")
    assert receipt == SettlementReceipt(
        "c", "Captured 0.1", Decimal("0.3"), Decimal("9007199254740993.01"), None, None, None, False
    )
    wallet.capture("h", transaction_id="d")
    wallet.release("h", "r")
    assert server.seen == [
        (
            "/holds/h%2F%C3%BC%3F/capture",
            '{"amount":0.10,"to_account_id":"shop","release_rest":true,"transaction_id":"c"}',
        ),
        ("/holds/h/capture", '{"transaction_id":"d"}'),
        ("/holds/h/release", '{"transaction_id":"r"}'),
    ]


def test_k1_a_capture_is_tried_again_under_its_id(server: ScriptedServer, wallet: WalletClient) -> None:
    for call in (lambda: wallet.capture("h", 1), lambda: wallet.release("h"), lambda: wallet.hold("ann", 1)):
        server.seen.clear()
        server.script = [hang_up, problem(503, "no primary", Retry_After="0"), answer(200, "[1]"), CAPTURED_OR_HELD]
        transaction_id = call().transaction_id
        assert [seen.transaction_id for seen in server.seen] == [transaction_id] * 4
        assert call().transaction_id != transaction_id


CAPTURED_OR_HELD = answer(200, '{"success":true,"message":"Done","new_balance":null,"transaction_id":"imported"}')


def test_a_capture_of_a_hold_that_has_ended_is_rejected(server: ScriptedServer, wallet: WalletClient) -> None:
    server.script = [problem(409, "The hold has expired")]
    with pytest.raises(Rejected, match=r"^The hold has expired$") as refusal:
        wallet.capture("h", transaction_id="c")
    assert (refusal.value.status, refusal.value.transaction_id) == (409, "c")


def test_a_hold_is_read(server: ScriptedServer, wallet: WalletClient) -> None:
    body = (
        '{"hold_id":"h/1","account_id":"ann","amount":9007199254740993.01,"captured":0.1,"left":0.0,'
        '"status":"released","expires_at":"2026-11-24T12:10:00.250000Z"}'
    )
    server.script = [answer(200, '{"success":true}'), answer(200, body, FTWallet_LSN="5", FTWallet_Epoch="2")]
    found = wallet.get_hold("h/1")
    amounts = Decimal("9007199254740993.01"), Decimal("0.1"), Decimal(0)
    assert found == HoldRecord("h/1", "ann", *amounts, "released", TEN_PAST, 5, 2)
    assert [seen.path for seen in server.seen] == ["/holds/h%2F1"] * 2, "what is no answer of a wallet is asked again"


def test_an_account_is_read(server: ScriptedServer, wallet: WalletClient) -> None:
    server.script = [
        answer(200, '{"account_id":"a n","balance":0.1,"held":9007199254740993.01,"total":9007199254740993.11}')
    ]
    exact = Decimal("0.1"), Decimal("9007199254740993.01"), Decimal("9007199254740993.11")
    assert wallet.account("a n") == Account("a n", *exact, None, None)
    assert server.seen[0].path == "/accounts/a%20n"
    server.script = [problem(404, "Account not found")]
    with pytest.raises(Rejected):
        wallet.account("nobody")


def test_holds_that_are_looked_up_have_their_own_keys(server: ScriptedServer, wallet: WalletClient) -> None:
    common = '"status":"COMMITTED","success":true,"message":"m","account_id":null,"amount":null,"new_balance":null'
    common += ',"lsn":1,"epoch":2,"time":null'
    server.script = [
        answer(200, f'{{"transaction_id":"h","type":"hold",{common},"expires_at":"2026-11-24T12:10:00.250000Z"}}'),
        answer(
            200,
            f'{{"transaction_id":"c","type":"capture",{common},"hold_id":"h","to_account_id":"shop","release_rest":true,'
            '"moved":0.1,"captured":0.3,"left":0.0}',
        ),
    ]
    assert wallet.transaction("h").expires_at == TEN_PAST
    found = wallet.transaction("c")
    assert (found.hold_id, found.to_account_id, found.release_rest) == ("h", "shop", True)
    assert (found.moved, found.captured, found.left) == (Decimal("0.1"), Decimal("0.3"), 0)


def test_every_call_draws_an_id_of_its_own(server: ScriptedServer, wallet: WalletClient) -> None:
    server.script = [DEPOSITED]
    assert wallet.deposit("user", 1).transaction_id != wallet.deposit("user", 1).transaction_id


@pytest.mark.parametrize(
    "asked",
    ["1", email.utils.format_datetime(datetime.fromtimestamp(time.time() + 3600, UTC), usegmt=True)],
    ids=["seconds", "date"],  # a date would be another one in each of pytest's workers
)
def test_retry_after_is_honoured_or_the_call_ends_at_once(server: ScriptedServer, asked: str) -> None:
    server.script = [problem(503, "no primary", Retry_After=asked), DEPOSITED]
    with WalletClient(server.url, deadline=0.5) as wallet:
        begin = time.monotonic()
        with pytest.raises(InDoubt):
            wallet.deposit("user", 1)
        assert time.monotonic() - begin < 0.4  # it does not wait for a try that it may not make
    assert len(server.seen) == 1


def test_a_pause_lasts_as_long_as_retry_after_says(server: ScriptedServer, wallet: WalletClient) -> None:
    server.script = [problem(503, "no primary", Retry_After="1"), DEPOSITED]
    begin = time.monotonic()
    wallet.deposit("user", 1)
    assert time.monotonic() - begin >= 1


@pytest.mark.parametrize("status", [400, 401, 404, 413, 422])
def test_a_refusal_is_told_once_with_its_problem(server: ScriptedServer, wallet: WalletClient, status: int) -> None:
    server.script = [problem(status, "Insufficient balance")]
    with pytest.raises(Rejected, match=r"^Insufficient balance$") as caught:
        wallet.withdraw("user", 1, "t")
    refusal = caught.value
    assert (refusal.status, refusal.detail, refusal.transaction_id) == (status, "Insufficient balance", "t")
    assert refusal.problem == {"status": status, "detail": "Insufficient balance"}
    assert len(server.seen) == 1


def test_a_refusal_that_is_no_problem_document_still_has_a_sentence(
    server: ScriptedServer, wallet: WalletClient
) -> None:
    server.script = [answer(404, "<html>")]
    with pytest.raises(Rejected, match="Not Found") as caught:
        wallet.balance("user")
    assert (caught.value.problem, caught.value.transaction_id) == ({}, None)


def test_the_deadline_ends_in_doubt_with_the_id(server: ScriptedServer) -> None:
    server.script = [hang]
    with WalletClient(server.url, timeout=0.1, deadline=0.4) as wallet:
        begin = time.monotonic()
        with pytest.raises(InDoubt) as caught:
            wallet.deposit("user", 1)
        assert time.monotonic() - begin < 1.5
    assert caught.value.transaction_id == server.seen[0].transaction_id
    assert "no answer in time" in str(caught.value)
    assert "send it again with the same id, never with a new one" in str(caught.value)
    assert 2 <= len(server.seen) <= 5


def test_the_last_try_gets_only_the_time_that_is_left(server: ScriptedServer) -> None:
    server.script = [hang]
    with WalletClient(server.url, timeout=9.0, deadline=0.2) as wallet:
        begin = time.monotonic()
        with pytest.raises(InDoubt):
            wallet.deposit("user", 1)
        assert time.monotonic() - begin < 1.0


def test_tries_are_bounded(server: ScriptedServer) -> None:
    server.script = [problem(503, "no primary")]
    with WalletClient(server.url, max_retries=2) as wallet, pytest.raises(InDoubt, match=r"3 tries .*503: no primary"):
        wallet.deposit("user", 1)
    assert len(server.seen) == 3


def test_nothing_that_listens_is_in_doubt_for_a_write_and_unreachable_for_a_read() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with WalletClient(f"http://127.0.0.1:{port}", max_retries=1) as wallet:
        with pytest.raises(InDoubt, match="nothing listens there"):
            wallet.deposit("user", 1)
        with pytest.raises(Unreachable, match="after 2 tries: nothing listens there"):
            wallet.balance("user")
        with pytest.raises(Unreachable, match=f"no wallet answers at http://127.0.0.1:{port}: nothing listens"):
            wallet.health()


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (1000.00, "1000.0"),
        (0.1, "0.1"),
        (1e22, "1e+22"),
        (10**30, "1" + "0" * 30),
        (Decimal("1.50"), "1.50"),
        (Decimal("1E+3"), "1E+3"),
        ("1.50", '"1.50"'),
        ("one", '"one"'),
        (-5, "-5"),
    ],
)
def test_an_amount_is_sent_with_its_own_digits(
    server: ScriptedServer, wallet: WalletClient, amount: Amount, text: str
) -> None:
    server.script = [DEPOSITED]
    wallet.deposit("user", amount, "t")
    assert f'"amount":{text},' in server.seen[0].body


@given(st.decimals(allow_nan=False, allow_infinity=False) | st.floats(allow_nan=False, allow_infinity=False))
def test_every_finite_amount_is_written_as_a_json_number_of_the_same_value(amount: Decimal | float) -> None:
    text = client_module._amount_json(amount)
    assert json.loads(text, parse_float=Decimal, parse_int=Decimal) == Decimal(str(amount))


@pytest.mark.parametrize("amount", [float("nan"), float("inf"), Decimal("NaN"), Decimal("-Infinity")])
def test_an_amount_that_is_no_number_is_never_sent(
    server: ScriptedServer, wallet: WalletClient, amount: Amount
) -> None:
    with pytest.raises(ValueError, match="must be finite"):
        wallet.deposit("user", amount)
    assert server.seen == []


@pytest.mark.parametrize("amount", [True, None, b"1", [1]])
def test_what_is_no_amount_is_never_sent(server: ScriptedServer, wallet: WalletClient, amount: Any) -> None:
    with pytest.raises(TypeError, match="an amount is an int, float, str or Decimal"):
        wallet.deposit("user", amount)
    assert server.seen == []


def test_a_balance_is_exact(server: ScriptedServer, wallet: WalletClient) -> None:
    server.script = [hang_up, answer(200, '{"success":true,"balance":0.1,"message":"m"}', FTWallet_LSN="5")]
    assert wallet.balance("user") == Balance("user", Decimal("0.1"), "m", 5, None)
    assert server.seen[-1] == ("/balance", '{"account_id":"user"}')


def test_health_asks_once_and_says_what_the_wallet_says(server: ScriptedServer, wallet: WalletClient) -> None:
    server.script = [answer(503, '{"status":"initializing"}'), answer(200, '{"status":"healthy"}'), answer(200, "hi")]
    assert wallet.health() == "initializing"
    assert wallet.health() == "healthy"
    with pytest.raises(Unreachable, match="is no wallet"):
        wallet.health()


def test_a_transaction_is_looked_up_by_its_id_whatever_it_contains(
    server: ScriptedServer, wallet: WalletClient
) -> None:
    server.script = [
        answer(
            200,
            '{"transaction_id":"a/b?","status":"COMMITTED","success":true,"message":"m","type":"deposit","account_id":"u",'
            '"amount":1000.5,"new_balance":1000.5,"lsn":1,"epoch":2,"time":"2026-11-24T05:44:00.000001Z"}',
        ),
        answer(
            200,
            '{"transaction_id":"t","status":"PENDING","success":null,"message":null,"type":null,"account_id":null,'
            '"amount":null,"new_balance":null,"lsn":null,"epoch":null,"time":null}',
        ),
    ]
    at = datetime(2026, 11, 24, 5, 44, 0, 1, UTC)
    exact = Decimal("1000.5")
    assert wallet.transaction("a/b?") == TransactionRecord(
        "a/b?", "COMMITTED", True, "m", "deposit", "u", exact, exact, 1, 2, at
    )
    assert server.seen[0].path == "/transactions/a%2Fb%3F"
    assert wallet.transaction("t").amount is None


def test_a_session_of_ones_own_is_used_and_left_open(server: ScriptedServer) -> None:
    server.script = [DEPOSITED]
    with requests.Session() as session:
        session.headers["X-Mine"] = "yes"
        with WalletClient(server.url + "/", session=session) as wallet:
            wallet.deposit("user", 1)
        assert session.get(server.url + "/").status_code == 200


def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    server.script = [DEPOSITED]
    with WalletClient(server.url, max_retries=0) as wallet:
        wallet.deposit("user", 1)


@pytest.mark.parametrize("arguments", [{"timeout": 0}, {"deadline": 0}, {"max_retries": -1}])
def test_senseless_limits_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be above 0"):
        WalletClient(**arguments)


def test_an_address_that_is_none_is_an_error_of_the_program_not_a_doubt() -> None:
    with WalletClient("127.0.0.1:8000") as wallet, pytest.raises(requests.exceptions.InvalidSchema):
        wallet.deposit("user", 1)
