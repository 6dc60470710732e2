"""The contract of the calls, byte for byte: bodies, headers, replays, K2."""

from __future__ import annotations

import asyncio
import json
from urllib.parse import quote

import pytest
from starlette.types import ASGIApp

from ftwallet.api.app import build_app
from ftwallet.api.problems import PROBLEM_OF_OUTCOME
from ftwallet.ledger.operations import Kind, operation, rolled_back
from ftwallet.ledger.outcomes import OutcomeCode
from ftwallet.ledger.rules import Rules
from ftwallet.wallet import Unavailable
from tests.api.stand_ins import NOON_US, Got, MemoryWallet, ask


async def move(app: ASGIApp, call: str, amount: str, transaction_id: str, account_id: str = "user123") -> Got:
    body = f'{{"account_id":"{account_id}","amount":{amount},"transaction_id":"{transaction_id}"}}'
    return await ask(app, "POST", f"/{call}", body.encode())


async def balance(app: ASGIApp, account_id: str = "user123") -> Got:
    return await ask(app, "POST", "/balance", json.dumps({"account_id": account_id}).encode())


def detail(got: Got) -> str:
    return str(json.loads(got.body)["detail"])


async def test_the_contracts_examples_byte_for_byte(app: ASGIApp) -> None:
    deposit = await move(app, "deposit", "1000.50", "t1")
    assert deposit.status == 200
    assert deposit.body == (b'{"success":true,"message":"Deposited 1000.5","new_balance":1000.5,"transaction_id":"t1"}')
    withdraw = await move(app, "withdraw", "250.50", "t2")
    assert withdraw.body == (b'{"success":true,"message":"Withdrew 250.5","new_balance":750.0,"transaction_id":"t2"}')
    assert (await balance(app)).body == b'{"success":true,"balance":750.0,"message":"Balance retrieved"}'


async def test_headers_tell_where_an_answer_stands(app: ASGIApp, wallet: MemoryWallet) -> None:
    await move(app, "deposit", "1", "t1")
    got = await move(app, "deposit", "2", "t2")
    assert got.headers == [
        ("content-type", "application/json"),
        ("content-length", str(len(got.body))),
        ("ftwallet-lsn", "2"),
        ("ftwallet-epoch", "3"),
        ("ftwallet-durability", "replicated"),
    ]
    wallet.mode, wallet.epoch = "solo", 4
    replay = await move(app, "deposit", "1", "t1")
    assert replay.headers[2:] == [
        ("ftwallet-lsn", "1"),
        ("ftwallet-epoch", "3"),
        ("ftwallet-durability", "solo"),
        ("idempotent-replayed", "true"),
    ]
    read = await balance(app)
    assert read.headers[2:] == [("ftwallet-lsn", "2"), ("ftwallet-epoch", "4"), ("ftwallet-durability", "solo")]


@pytest.mark.parametrize(
    ("amount", "digits"),
    [
        ("0.01", "0.01"),
        ("1", "1.0"),
        ("1.000", "1.0"),
        ("1.50", "1.5"),
        ('"1.50"', "1.5"),
        ('"\\u0031.5"', "1.5"),
        ("1e2", "100.0"),
        ('"1E-2"', "0.01"),
        ("9007199254740993.01", "9007199254740993.01"),
        ("10000000000000000.00", "10000000000000000.0"),
    ],
)
async def test_amounts_are_exact(app: ASGIApp, amount: str, digits: str) -> None:
    got = await move(app, "deposit", amount, "t1")
    assert got.body == (
        f'{{"success":true,"message":"Deposited {digits}","new_balance":{digits},"transaction_id":"t1"}}'.encode()
    )


async def test_a_tenth_and_two_tenths_are_three_tenths(app: ASGIApp) -> None:
    await move(app, "deposit", "0.1", "t1")
    await move(app, "deposit", "0.2", "t2")
    assert b'"balance":0.3,' in (await balance(app)).body


async def test_a_currency_without_decimals() -> None:
    app = build_app(MemoryWallet(Rules(exponent=0)))
    assert b'"new_balance":1000,' in (await move(app, "deposit", "1000.0", "t1")).body
    assert detail(await move(app, "deposit", "0.5", "t2")) == "Amount has more than 0 decimal places"


async def test_refusals_that_depend_on_state_are_recorded_and_replayed(app: ASGIApp) -> None:
    unknown = await move(app, "withdraw", "5", "t1")
    assert unknown.status == 404
    assert unknown.body == (
        b'{"type":"urn:ftwallet:problem:account-not-found","title":"Account not found","status":404,'
        b'"detail":"Account not found","transaction_id":"t1"}'
    )
    await move(app, "deposit", "1", "t2")
    short = await move(app, "withdraw", "5", "t3")
    assert (short.status, detail(short)) == (400, "Insufficient balance")
    assert short.header("Content-Type") == "application/problem+json"
    assert (short.header("FTWallet-LSN"), short.header("Idempotent-Replayed")) == ("3", None)
    await move(app, "deposit", "100", "t4")
    for first, transaction_id in ((unknown, "t1"), (short, "t3")):
        again = await move(app, "withdraw", "5", transaction_id)
        assert (again.status, again.body) == (first.status, first.body)
        assert again.header("Idempotent-Replayed") == "true"
        assert again.header("FTWallet-LSN") == first.header("FTWallet-LSN")


async def test_a_balance_past_the_limit_is_refused_and_says_the_limit() -> None:
    wallet = MemoryWallet(Rules(max_balance=10_000))
    app = build_app(wallet)
    first = await move(app, "deposit", "100.01", "t1")
    assert (first.status, detail(first)) == (400, "Balance would be over the limit of 100.0")
    again = await move(app, "deposit", "100.01", "t1")
    assert (again.body, again.header("Idempotent-Replayed")) == (first.body, "true")


async def test_k2_the_same_body_written_otherwise_is_the_same_request(app: ASGIApp, wallet: MemoryWallet) -> None:
    first = await move(app, "deposit", "1.50", "t1")
    for amount in ("1.5", '"1.5"', "1.500", "15e-1", '"0.15e1"'):
        again = await move(app, "deposit", amount, "t1")
        assert (again.status, again.body, again.header("Idempotent-Replayed")) == (200, first.body, "true")
    shuffled = b' {\n"transaction_id" : "t1", "amount" : 1.5,"account_id":"user\\u0031\\u00323"}\n'
    assert (await ask(app, "POST", "/deposit", shuffled)).body == first.body
    assert wallet.applied_lsn == 1


@pytest.mark.parametrize(
    ("call", "amount", "account_id", "field"),
    [
        ("withdraw", "1.5", "user123", "type"),
        ("withdraw", "9", "other", "type"),
        ("deposit", "1.5", "other", "account_id"),
        ("deposit", "1.51", "user123", "amount"),
    ],
)
async def test_k2_one_id_with_another_body(
    app: ASGIApp, wallet: MemoryWallet, call: str, amount: str, account_id: str, field: str
) -> None:
    first = await move(app, "deposit", "1.5", "t1")
    got = await move(app, call, amount, "t1", account_id)
    assert got.status == 422
    assert json.loads(got.body) == {
        "type": "urn:ftwallet:problem:transaction-id-reused",
        "title": "Transaction id was used with different parameters",
        "status": 422,
        "detail": f"Transaction id was used with different parameters: {field}",
        "transaction_id": "t1",
        "errors": [{"field": field, "detail": "differs from what the transaction id was used for"}],
    }
    assert wallet.applied_lsn == 1
    assert (await move(app, "deposit", "1.5", "t1")).body == first.body


async def test_the_idempotency_key_stands_in_for_the_transaction_id(app: ASGIApp) -> None:
    headers = [("Idempotency-Key", "schlüssel-1")]
    bare = b'{"account_id":"user123","amount":5}'
    first = await ask(app, "POST", "/deposit", bare, headers)
    assert json.loads(first.body)["transaction_id"] == "schlüssel-1"
    both = await ask(app, "POST", "/deposit", bare[:-1] + ',"transaction_id":"schlüssel-1"}'.encode(), headers)
    alone = await ask(app, "POST", "/deposit", bare[:-1] + ',"transaction_id":"schlüssel-1"}'.encode())
    assert both.body == alone.body == first.body
    assert both.header("Idempotent-Replayed") == alone.header("Idempotent-Replayed") == "true"


async def test_an_idempotency_key_is_taken_raw(app: ASGIApp) -> None:
    got = await ask(app, "POST", "/deposit", b'{"account_id":"a","amount":5}', [("Idempotency-Key", '"k 1"')])
    assert json.loads(got.body)["transaction_id"] == '"k 1"'


async def test_ids_are_told_apart_to_the_last_character(app: ASGIApp) -> None:
    for account_id in ("a", "A", "a ", "ä", "a\u0308", "x" * 128, "🙂" * 128, "\\\\", '\\"', "\ufffd"):
        assert (await move(app, "deposit", "1", f"t-{account_id[:9]}", account_id)).status == 200
        raw = f'{{"account_id":"{account_id}"}}'.encode()
        assert b'"balance":1.0,' in (await ask(app, "POST", "/balance", raw)).body


async def test_an_unknown_account_has_no_balance(app: ASGIApp) -> None:
    got = await balance(app)
    assert (got.status, detail(got)) == (404, "Account not found")
    assert got.header("FTWallet-LSN") == "0"


async def test_nothing_is_read_from_a_node_that_does_not_serve(app: ASGIApp, wallet: MemoryWallet) -> None:
    wallet.ready, wallet.mode = False, ""
    for got in (await balance(app), await ask(app, "GET", "/transactions/t1")):
        assert (got.status, got.header("Retry-After")) == (503, "1")
        assert detail(got) == (
            "The wallet is starting, recovering or without a primary. Nothing was changed; ask again"
        )


@pytest.mark.parametrize("in_doubt", [True, False])
async def test_no_outcome_is_503_and_never_a_refusal(app: ASGIApp, wallet: MemoryWallet, in_doubt: bool) -> None:
    wallet.fault = Unavailable("The backup is silent.", in_doubt=in_doubt, retry_after_s=2)
    got = await move(app, "deposit", "1", "t1")
    document = json.loads(got.body)
    assert (got.status, got.header("Retry-After"), document["retry_after"]) == (503, "2", 2)
    assert document["transaction_id"] == "t1"
    assert document["detail"].startswith("The backup is silent. ")
    assert "with the same transaction id" in document["detail"]
    assert ("may or may not have happened" in document["detail"]) is in_doubt
    assert got.header("FTWallet-LSN") is None


async def test_a_bug_is_a_problem_document_in_doubt(
    app: ASGIApp, wallet: MemoryWallet, caplog: pytest.LogCaptureFixture
) -> None:
    wallet.fault = RuntimeError("boom")
    got = await move(app, "deposit", "1", "t1")
    assert (got.status, got.header("Content-Type")) == (500, "application/problem+json")
    assert b"boom" not in got.body
    assert "may or may not have happened" in detail(got)
    assert "boom" in caplog.text


async def test_every_outcome_has_its_problem() -> None:
    assert set(PROBLEM_OF_OUTCOME) == set(OutcomeCode) - {OutcomeCode.OK}


async def test_what_became_of_a_transaction(app: ASGIApp) -> None:
    await move(app, "deposit", "1000.5", "t1")
    got = await ask(app, "GET", "/transactions/t1")
    assert got.status == 200
    assert got.body == (
        b'{"transaction_id":"t1","status":"COMMITTED","success":true,"message":"Deposited 1000.5","type":"deposit",'
        b'"account_id":"user123","amount":1000.5,"new_balance":1000.5,"lsn":1,"epoch":3,'
        b'"time":"2025-11-24T12:00:00.000000Z"}'
    )
    assert (got.header("FTWallet-LSN"), got.header("FTWallet-Durability")) == ("1", "replicated")


async def test_what_became_of_a_refused_one(app: ASGIApp) -> None:
    await move(app, "withdraw", "5", "t1")
    document = json.loads((await ask(app, "GET", "/transactions/t1")).body)
    assert (document["status"], document["success"]) == ("COMMITTED", False)
    assert (document["message"], document["new_balance"]) == ("Account not found", None)


async def test_a_transaction_under_way_is_pending(app: ASGIApp, wallet: MemoryWallet) -> None:
    wallet.gate = asyncio.Event()
    begun = asyncio.create_task(move(app, "deposit", "1", "t1"))
    await asyncio.sleep(0)
    document = json.loads((await ask(app, "GET", "/transactions/t1")).body)
    assert (document["status"], document["success"], document["message"]) == ("PENDING", None, None)
    assert (document["amount"], document["lsn"], document["epoch"]) == (1.0, None, None)
    wallet.gate.set()
    assert (await begun).status == 200


async def test_a_rolled_back_id_is_told_and_may_be_used_again(app: ASGIApp, wallet: MemoryWallet) -> None:
    wallet.apply(rolled_back("t1", operation(Kind.DEPOSIT, "t1", "user123", 100, NOON_US), NOON_US))
    document = json.loads((await ask(app, "GET", "/transactions/t1")).body)
    assert (document["status"], document["success"]) == ("ROLLED_BACK", False)
    assert "retry with the same transaction id" in document["message"]
    assert (await move(app, "deposit", "1", "t1")).status == 200
    assert json.loads((await ask(app, "GET", "/transactions/t1")).body)["status"] == "COMMITTED"


@pytest.mark.parametrize("transaction_id", ["a/b", "a//b/", "..", "%41", "ä b", "?x=1", "#", "🙂", "\ufffd", "a+b"])
async def test_an_id_in_a_path_is_percent_decoded_once(app: ASGIApp, transaction_id: str) -> None:
    await move(app, "deposit", "1", transaction_id)
    got = await ask(app, "GET", "/transactions/" + quote(transaction_id, safe=""))
    assert (got.status, json.loads(got.body)["transaction_id"]) == (200, transaction_id)


async def test_an_id_in_a_path_that_is_not_utf8_is_not_taken_for_another(app: ASGIApp) -> None:
    await move(app, "deposit", "1", "\ufffd")
    got = await ask(app, "GET", "/transactions/%FF")
    assert (got.status, detail(got)) == (422, "transaction_id must have printable characters only")


async def test_an_unknown_transaction(app: ASGIApp) -> None:
    got = await ask(app, "GET", "/transactions/t1")
    assert (got.status, detail(got)) == (404, "Transaction not found")


async def test_health(app: ASGIApp, wallet: MemoryWallet) -> None:
    got = await ask(app, "GET", "/health")
    assert (got.status, got.body) == (200, b'{"status":"healthy"}')
    wallet.ready = False
    got = await ask(app, "GET", "/health")
    assert (got.status, got.body, got.header("Retry-After")) == (503, b'{"status":"initializing"}', "1")


async def test_the_index_points_at_the_document(app: ASGIApp) -> None:
    assert json.loads((await ask(app, "GET", "/")).body)["openapi"] == "/openapi.json"


@pytest.mark.parametrize("path", ["/nothing", "/deposit/", "/docs", "//deposit", "/DEPOSIT"])
async def test_no_such_path_is_a_problem_document(app: ASGIApp, path: str) -> None:
    got = await ask(app, "POST", path, b"{}")
    assert (got.status, got.header("Content-Type")) == (404, "application/problem+json")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/deposit", "POST, OPTIONS"),
        ("HEAD", "/deposit", "POST, OPTIONS"),
        ("PUT", "/balance", "POST, OPTIONS"),
        ("POST", "/health", "GET, HEAD, OPTIONS"),
        ("DELETE", "/transactions/t1", "GET, HEAD, OPTIONS"),
    ],
)
async def test_another_method_is_refused_with_those_that_are_allowed(
    app: ASGIApp, method: str, path: str, allow: str
) -> None:
    got = await ask(app, method, path)
    assert (got.status, got.header("Allow")) == (405, allow)
    assert got.header("Content-Type") == "application/problem+json"


async def test_options_and_head(app: ASGIApp) -> None:
    options = await ask(app, "OPTIONS", "/deposit")
    assert (options.status, options.header("Allow"), options.body) == (204, "POST, OPTIONS", b"")
    get, head = await ask(app, "GET", "/health"), await ask(app, "HEAD", "/health")
    assert (head.status, head.headers, head.body) == (get.status, get.headers, b"")
