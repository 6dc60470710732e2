"""Holds over REST: set aside, captured and released; paths with every kind of id; what is on record of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import ASGIApp

from ftwallet.api.app import Application, build_app
from ftwallet.api.decode import AmountRefused, Malformed
from ftwallet.api.hold_body import (
    decode_capture_fast,
    decode_capture_slowly,
    decode_hold_fast,
    decode_hold_slowly,
    decode_release_fast,
    decode_release_slowly,
)
from ftwallet.ledger.holds import expire
from ftwallet.ledger.operations import Body, Kind, operation, rolled_back
from ftwallet.ledger.rules import Rules
from tests.api.cases import (
    MALFORMED_CAPTURES,
    MALFORMED_HOLDS,
    MALFORMED_RELEASES,
    Case,
    hold,
    movement,
    of_hold,
)
from tests.api.stand_ins import NOON_US, Got, MemoryWallet, ask
from tests.api.test_protocol import Connection, request

SECOND_US = 1_000_000


@pytest.fixture
async def funded(wallet: MemoryWallet) -> Application:
    """A wallet in which user123 has 50."""
    app = build_app(wallet)
    assert (await ask(app, "POST", "/deposit", movement(amount=b"50"))).status == 200
    return app


@pytest.fixture
async def held(funded: Application) -> Application:
    """30 of them are on hold, as h1."""
    assert (await place(funded)).status == 200
    return funded


async def place(app: ASGIApp, body: bytes = hold(), **headers: str) -> Got:
    return await ask(app, "POST", "/holds", body, _headers(headers))


async def capture(app: ASGIApp, body: bytes = of_hold(), hold_id: str = "h1", **headers: str) -> Got:
    return await ask(app, "POST", f"/holds/{hold_id}/capture", body, _headers(headers))


async def release(app: ASGIApp, body: bytes = of_hold(b'"r1"'), hold_id: str = "h1", **headers: str) -> Got:
    return await ask(app, "POST", f"/holds/{hold_id}/release", body, _headers(headers))


async def state_of(app: ASGIApp, hold_id: str = "h1") -> dict[str, object]:
    got = await ask(app, "GET", f"/holds/{hold_id}")
    assert got.status == 200
    return dict(json.loads(got.body))


async def shown(app: ASGIApp, transaction_id: str) -> dict[str, object]:
    return dict(json.loads((await ask(app, "GET", f"/transactions/{transaction_id}")).body))


async def account(app: ASGIApp, account_id: str = "user123") -> tuple[float, float, float]:
    known = json.loads((await ask(app, "GET", f"/accounts/{account_id}")).body)
    return known["balance"], known["held"], known["total"]


def _headers(named: dict[str, str]) -> list[tuple[str, str]]:
    return [(name.replace("_", "-"), value) for name, value in named.items()]


def detail(got: Got) -> str:
    return str(json.loads(got.body)["detail"])


# ---- What is done


async def test_a_hold_byte_for_byte(funded: Application) -> None:
    got = await place(funded, hold(amount=b'"30.00"'))
    assert (got.status, got.body) == (
        200,
        b'{"success":true,"message":"Held 30.0","new_balance":20.0,"expires_at":null,"transaction_id":"h1"}',
    )
    assert (got.header("FTWallet-LSN"), got.header("FTWallet-Durability")) == ("2", "replicated")
    read = await ask(funded, "GET", "/holds/h1")
    assert read.body == (
        b'{"hold_id":"h1","account_id":"user123","amount":30.0,"captured":0.0,"left":30.0,"status":"open",'
        b'"expires_at":null}'
    )
    assert (read.header("FTWallet-LSN"), read.header("FTWallet-Epoch")) == ("2", "3")


async def test_a_hold_that_expires_says_when(funded: Application) -> None:
    got = await place(funded, hold(more=b',"expires_in":600'))
    assert json.loads(got.body)["expires_at"] == "2025-11-24T12:10:00.000000Z"
    assert (await state_of(funded))["expires_at"] == "2025-11-24T12:10:00.000000Z"
    assert (await shown(funded, "h1"))["expires_at"] == "2025-11-24T12:10:00.000000Z"


async def test_money_on_hold_cannot_be_spent(held: Application) -> None:
    known = await ask(held, "GET", "/accounts/user123")
    assert known.body == b'{"account_id":"user123","balance":20.0,"held":30.0,"total":50.0}'
    assert known.header("FTWallet-LSN") == "2"
    read = await ask(held, "POST", "/balance", b'{"account_id":"user123"}')
    assert json.loads(read.body)["balance"] == 20
    spent = await ask(held, "POST", "/withdraw", movement(amount=b"20.01", transaction_id=b'"w"'))
    assert detail(spent) == "Insufficient balance"


async def test_a_capture_in_parts_byte_for_byte(held: Application) -> None:
    first = await capture(held, of_hold(more=b',"amount":10,"to_account_id":"shop"'))
    assert (first.status, first.body) == (
        200,
        b'{"success":true,"message":"Captured 10.0","captured":10.0,"left":20.0,"transaction_id":"c1"}',
    )
    rest = await capture(held, of_hold(b'"c2"'))
    assert rest.body == (b'{"success":true,"message":"Captured 20.0","captured":30.0,"left":0.0,"transaction_id":"c2"}')
    assert await account(held) == (20, 0, 20)
    assert await account(held, "shop") == (10, 0, 10)
    assert (await state_of(held))["status"] == "captured"


async def test_a_capture_that_releases_the_rest(held: Application) -> None:
    got = await capture(held, of_hold(more=b',"amount":"10","to_account_id":"@world","release_rest":true'))
    assert got.body == (b'{"success":true,"message":"Captured 10.0","captured":10.0,"left":0.0,"transaction_id":"c1"}')
    assert await account(held) == (40, 0, 40)


async def test_a_release_byte_for_byte(held: Application) -> None:
    await capture(held, of_hold(more=b',"amount":10'))
    got = await release(held)
    assert (got.status, got.body) == (
        200,
        b'{"success":true,"message":"Released 20.0","captured":10.0,"left":0.0,"transaction_id":"r1"}',
    )
    assert await account(held) == (40, 0, 40)
    assert {key: (await state_of(held))[key] for key in ("amount", "captured", "left", "status")} == {
        "amount": 30.0,
        "captured": 10.0,
        "left": 0.0,
        "status": "released",
    }


async def test_the_idempotency_key_stands_in_everywhere(funded: Application) -> None:
    placed = await place(funded, b'{"account_id":"user123","amount":30}', Idempotency_Key="h1")
    assert json.loads(placed.body)["transaction_id"] == "h1"
    assert json.loads((await capture(funded, b'{"amount":1}', Idempotency_Key="c1")).body)["transaction_id"] == "c1"
    assert json.loads((await release(funded, b"{}", Idempotency_Key="r1")).body)["transaction_id"] == "r1"
    assert detail(await release(funded, of_hold(b'"r2"'), Idempotency_Key="r3")) == (
        "transaction_id differs from the Idempotency-Key header"
    )


async def test_a_retry_gets_the_same_answer_and_moves_nothing(funded: Application, wallet: MemoryWallet) -> None:
    """Also after the hold has ended: what an id was answered stays."""
    calls: list[Callable[[], Awaitable[Got]]] = [
        lambda: place(funded, hold(more=b',"expires_in":5')),
        lambda: capture(funded, of_hold(more=b',"amount":10,"to_account_id":"shop"')),
        lambda: release(funded),
        lambda: capture(funded, of_hold(b'"c2"')),
    ]
    first = [await call() for call in calls]
    before = wallet.ledger.digest, await account(funded)
    for call, was in zip(calls, first, strict=True):
        again = await call()
        assert (again.status, again.body) == (was.status, was.body)
        assert (again.header("Idempotent-Replayed"), again.header("FTWallet-LSN")) == (
            "true",
            was.header("FTWallet-LSN"),
        )
    assert (wallet.ledger.digest, await account(funded)) == before
    assert [got.status for got in first] == [200, 200, 200, 409]


# ---- What is refused


async def test_holds_never_overspend(funded: Application) -> None:
    """Six holds of 10 on 50: one is refused, and what was refused can never be captured."""
    placed = [await place(funded, hold(amount=b"10", transaction_id=b'"h%d"' % number)) for number in range(6)]
    assert [got.status for got in placed] == [200] * 5 + [400]
    assert detail(placed[5]) == "Insufficient balance"
    refused = await capture(funded, hold_id="h5")
    assert (refused.status, json.loads(refused.body)["type"]) == (404, "urn:ftwallet:problem:hold-not-found")
    await ask(funded, "POST", "/deposit", movement(amount=b"50", transaction_id=b'"more"'))
    assert (await capture(funded, of_hold(b'"c2"'), hold_id="h5")).status == 404
    assert (await place(funded, hold(amount=b"10", transaction_id=b'"h5"'))).status == 400
    assert await account(funded) == (50, 50, 100)


async def test_a_hold_needs_an_account(funded: Application) -> None:
    got = await place(funded, hold(account_id=b'"nobody"'))
    assert (got.status, detail(got)) == (404, "Account not found")


@pytest.mark.parametrize("end", ["captured", "released", "expired"])
async def test_an_ended_hold_stays_so_and_says_how_it_ended(
    funded: Application, wallet: MemoryWallet, end: str
) -> None:
    await place(funded, hold(more=b',"expires_in":5'))
    if end == "captured":
        await capture(funded, of_hold(b'"e"'))
    elif end == "released":
        await release(funded, of_hold(b'"e"'))
    else:
        wallet.apply(expire("h1", NOON_US + 5 * SECOND_US))
    assert (await state_of(funded))["status"] == end
    sentence = {"expired": "The hold has expired"}.get(end, f"The hold is {end} already")
    before = await account(funded)
    for number, call in enumerate((capture, release)):
        got = await call(funded, of_hold(b'"x%d"' % number))
        assert (got.status, detail(got)) == (409, sentence)
        assert json.loads(got.body)["type"] == "urn:ftwallet:problem:hold-ended"
        assert json.loads(got.body)["transaction_id"] == f"x{number}"
        again = await call(funded, of_hold(b'"x%d"' % number))
        assert (again.body, again.header("Idempotent-Replayed")) == (got.body, "true")
    assert await account(funded) == before


async def test_a_capture_of_more_than_is_left_says_how_much_that_is(held: Application) -> None:
    got = await capture(held, of_hold(more=b',"amount":30.01'))
    assert (got.status, detail(got)) == (400, "The hold has only 30.0 left")
    assert json.loads(got.body)["type"] == "urn:ftwallet:problem:over-hold"
    assert (await state_of(held))["left"] == 30.0
    assert (await capture(held, of_hold(b'"c2"', b',"amount":30'))).status == 200
    again = await capture(held, of_hold(more=b',"amount":30.01'))
    assert again.body == got.body, "a refusal keeps its words"


async def test_a_hold_that_is_not_there(funded: Application) -> None:
    for got in (await capture(funded, hold_id="t1"), await release(funded, hold_id="t1")):
        assert (got.status, detail(got)) == (404, "Hold not found"), "a deposit is no hold"
    read = await ask(funded, "GET", "/holds/t1")
    assert (read.status, read.body) == (
        404,
        b'{"type":"urn:ftwallet:problem:hold-not-found","title":"Hold not found","status":404,'
        b'"detail":"Hold not found"}',
    )
    assert read.header("FTWallet-LSN") == "3"


async def test_an_account_that_is_not_there(funded: Application) -> None:
    got = await ask(funded, "GET", "/accounts/nobody")
    assert (got.status, detail(got)) == (404, "Account not found")
    got = await ask(funded, "GET", "/accounts/@held/user123")
    assert (got.status, detail(got)) == (
        422,
        "account_id must not start with '@': such accounts belong to the ledger",
    )


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (hold(account_id=b'"carl"'), "account_id"),
        (hold(amount=b"29"), "amount"),
        (hold(more=b',"expires_in":1'), "expires_in"),
    ],
)
async def test_an_id_used_for_another_hold_names_what_differs(held: Application, body: bytes, field: str) -> None:
    got = await place(held, body)
    assert (got.status, detail(got)) == (422, f"Transaction id was used with different parameters: {field}")


@pytest.mark.parametrize(
    ("body", "hold_id", "field"),
    [
        (of_hold(), "h1", "amount"),
        (of_hold(more=b',"amount":10'), "h2", "hold_id"),
        (of_hold(more=b',"amount":10,"to_account_id":"shop"'), "h1", "to_account_id"),
        (of_hold(more=b',"amount":10,"release_rest":true'), "h1", "release_rest"),
    ],
)
async def test_an_id_used_for_another_capture_names_what_differs(
    held: Application, body: bytes, hold_id: str, field: str
) -> None:
    await capture(held, of_hold(more=b',"amount":10'))
    got = await capture(held, body, hold_id)
    assert (got.status, detail(got)) == (422, f"Transaction id was used with different parameters: {field}")
    got = await release(held, of_hold(), "h1")
    assert detail(got) == "Transaction id was used with different parameters: type"


async def test_a_release_of_another_hold_names_the_hold(held: Application) -> None:
    await release(held)
    got = await release(held, hold_id="h2")
    assert detail(got) == "Transaction id was used with different parameters: hold_id"


@pytest.mark.parametrize("case", MALFORMED_HOLDS, ids=lambda case: case.name)
async def test_a_malformed_hold_names_the_field_and_uses_up_no_id(
    held: Application, wallet: MemoryWallet, case: Case
) -> None:
    _refused_as(await place(held, case.body), case)
    assert wallet.applied_lsn == 2


@pytest.mark.parametrize("case", MALFORMED_CAPTURES, ids=lambda case: case.name)
async def test_a_malformed_capture_names_the_field_and_uses_up_no_id(
    held: Application, wallet: MemoryWallet, case: Case
) -> None:
    _refused_as(await capture(held, case.body), case)
    assert wallet.applied_lsn == 2


@pytest.mark.parametrize("case", MALFORMED_RELEASES, ids=lambda case: case.name)
async def test_a_malformed_release_names_the_field_and_uses_up_no_id(
    held: Application, wallet: MemoryWallet, case: Case
) -> None:
    _refused_as(await release(held, case.body), case)
    assert wallet.applied_lsn == 2


def _refused_as(got: Got, case: Case) -> None:
    document = json.loads(got.body)
    assert (got.status, document["detail"]) == (case.status, case.detail)
    assert [error["field"] for error in document["errors"]] == [case.field]


async def test_all_that_is_wrong_is_told_at_once(held: Application) -> None:
    got = await capture(held, b'{"amount":"x","release_rest":1}', "%00")
    assert [error["field"] for error in json.loads(got.body)["errors"]] == [
        "transaction_id",
        "hold_id",
        "amount",
        "release_rest",
    ]


async def test_an_amount_that_breaks_a_rule(held: Application, wallet: MemoryWallet) -> None:
    for got in (await place(held, hold(amount=b"0")), await capture(held, of_hold(more=b',"amount":0'))):
        assert (got.status, detail(got)) == (400, "Amount must be positive")
    assert wallet.applied_lsn == 2


# ---- Paths


@pytest.mark.parametrize(
    ("hold_id", "path"),
    [
        ("plain", "plain"),
        ("with/slashes/in/it", "with/slashes/in/it"),
        ("with/slashes", "with%2Fslashes"),
        ("capture", "capture"),
        ("capture/release", "capture/release"),
        ("a/capture", "a/capture"),
        ("/", "/"),
        ("50%41", "50%2541"),
        ("ü ", "%C3%BC%20"),
        ("?#", "%3F%23"),
        ("a?b", "a%3Fb"),
        ("x:@!$&'()*+,;=~._-", "x:@!$&'()*+,;=~._-"),
    ],
)
async def test_the_last_segment_of_a_path_is_the_verb_and_all_before_it_the_id(
    funded: Application, hold_id: str, path: str
) -> None:
    await place(funded, hold(transaction_id=json.dumps(hold_id).encode()))
    assert (await state_of(funded, path))["hold_id"] == hold_id
    assert (await state_of(funded, quote(hold_id, safe="")))["hold_id"] == hold_id
    assert json.loads((await capture(funded, of_hold(more=b',"amount":10'), path)).body)["left"] == 20.0
    connection = Connection(funded)
    connection.send(request(f"/holds/{path}/release", of_hold(b'"r1"')))
    (got,) = await connection.answers()
    assert json.loads(got.body)["message"] == "Released 20.0"
    assert (await shown(funded, "r1"))["hold_id"] == hold_id


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/holds/", 405),
        ("POST", "/holds/h1", 405),
        ("POST", "/holds/capture", 405),
        ("POST", "/holds/h1/capture/", 405),
        ("POST", "/holds//capture", 422),
        ("GET", "/holds", 405),
        ("GET", "/holds/", 422),
        ("GET", "/holds/%FF", 422),
        ("GET", "/holds/" + "x" * 129, 422),
        ("PUT", "/holds/h1/release", 405),
        ("GET", "/accounts/", 422),
        ("GET", "/accounts", 404),
        ("POST", "/accounts/user123", 405),
        ("POST", "/holds/%FF/capture", 422),
    ],
)
async def test_other_paths_and_methods(held: Application, method: str, path: str, status: int) -> None:
    assert (await ask(held, method, path, of_hold())).status == status


@pytest.mark.parametrize(
    ("path", "direct"),
    [
        (b"/holds", True),
        (b"/holds/h1/capture", True),
        (b"/holds/a/b/release", True),
        (b"/holds/h%31/capture", False),
        (b"/holds/h1/capture?x", False),
        (b"/holds/h1#/capture", False),
        (b"/holds/\xc3\xbc/capture", False),
        (b"/holds/h1/captured", False),
        (b"/holds//capture", False),
        (b"/holds/h1", False),
        (b"/accounts/h1/capture", False),
    ],
)
def test_only_a_path_that_means_itself_takes_the_short_cut(app: Application, path: bytes, direct: bool) -> None:
    assert (app.direct(path) is not None) == direct


# ---- What is on record


async def test_what_is_on_record(held: Application) -> None:
    await capture(held, of_hold(more=b',"amount":10,"to_account_id":"shop"'))
    await release(held)
    await capture(held, of_hold(b'"c2"'))
    rows = {one: await shown(held, one) for one in ("h1", "c1", "r1", "c2")}
    common = ("type", "success", "account_id", "amount", "new_balance")
    assert [tuple(row[key] for key in common) for row in rows.values()] == [
        ("hold", True, "user123", 30.0, 20.0),
        ("capture", True, None, 10.0, None),
        ("release", True, None, None, None),
        ("capture", False, None, None, None),
    ]
    after = {one: dict(list(row.items())[11:]) for one, row in rows.items()}
    assert after == {
        "h1": {"expires_at": None},
        "c1": {
            "hold_id": "h1",
            "to_account_id": "shop",
            "release_rest": False,
            "moved": 10.0,
            "captured": 10.0,
            "left": 20.0,
        },
        "r1": {"hold_id": "h1", "moved": 20.0, "captured": 10.0, "left": 0.0},
        "c2": {
            "hold_id": "h1",
            "to_account_id": "@world",
            "release_rest": False,
            "moved": None,
            "captured": None,
            "left": None,
        },
    }


async def test_a_capture_that_was_rolled_back_shows_what_it_asked(held: Application, wallet: MemoryWallet) -> None:
    await capture(held, hold_id="nowhere")
    recorded = wallet.ledger.find("c1")
    assert recorded is not None
    undone = operation(Kind.CAPTURE, "c9", "", 0, NOON_US, recorded.extra)
    wallet.apply(rolled_back("c9", undone, NOON_US))
    row = await shown(held, "c9")
    assert (row["status"], row["hold_id"], row["moved"]) == ("ROLLED_BACK", "nowhere", None)


async def test_a_hold_under_way_is_no_hold_yet(funded: Application, wallet: MemoryWallet) -> None:
    wallet.gate = asyncio.Event()
    waits = asyncio.create_task(place(funded, hold(more=b',"expires_in":5')))
    while not wallet.under_way:
        await asyncio.sleep(0)
    row = await shown(funded, "h1")
    assert (row["status"], row["type"], row["expires_at"]) == ("PENDING", "hold", "2025-11-24T12:00:05.000000Z")
    assert (await ask(funded, "GET", "/holds/h1")).status == 404
    assert await account(funded) == (50, 0, 50)
    wallet.gate.set()
    assert (await waits).status == 200
    assert await account(funded) == (20, 30, 50)


async def test_a_hold_whose_time_is_over_is_open_until_that_is_on_record(
    funded: Application, wallet: MemoryWallet
) -> None:
    """`status`, `left` and the account agree: all of them are what the log has executed."""
    await place(funded, hold(more=b',"expires_in":5'))
    wallet.apply(expire("other", NOON_US + 6 * SECOND_US))
    assert (await state_of(funded))["status"] == "open"
    assert await account(funded) == (20, 30, 50)
    wallet.apply(expire("h1", NOON_US + 6 * SECOND_US))
    assert (await state_of(funded))["status"] == "expired"
    assert await account(funded) == (50, 0, 50)


async def test_nothing_is_read_from_a_wallet_that_does_not_serve(held: Application, wallet: MemoryWallet) -> None:
    wallet.ready = False
    for path in ("/holds/h1", "/accounts/user123"):
        assert (await ask(held, "GET", path)).status == 503


# ---- Both ways through


ids = st.sampled_from([b'"user123"', b'"@world"', b'"@x"', b'""', b'"b\\u0062"', b"1", b"null", b'"\xc3\xbc"'])
amounts = st.sampled_from([b"1", b'"2.50"', b"0", b"0.001", b"1e18", b"true", b'"x"', b"-1", b"null"])
holds = st.builds(
    hold,
    ids,
    amounts,
    ids,
    st.sampled_from(
        [b"", b',"expires_in":60', b',"expires_in":6e1', b',"expires_in":-0', b',"expires_in":"6"', b',"x":1']
    ),
)
members = st.lists(
    st.one_of(
        st.builds(b',"amount":%b'.__mod__, amounts),
        st.builds(b',"to_account_id":%b'.__mod__, ids),
        st.builds(b',"release_rest":%b'.__mod__, st.sampled_from([b"true", b"false", b"null", b"1", b'""'])),
        st.just(b',"x":1'),
    ),
    max_size=3,
)
ends = st.builds(lambda one, some: of_hold(one, b"".join(some)), ids, members) | st.just(b"{}")
keys = st.sampled_from([None, "user123", "k", ""])
hold_ids = st.sampled_from(["h1", "", "\udcff", "x" * 129])


def agree(fast: tuple[Body, str] | None, slowly: Callable[[], tuple[Body, str]], body: bytes) -> None:
    slow = None
    with contextlib.suppress(Malformed, AmountRefused):
        slow = slowly()
    assert fast is None or fast == slow
    if slow is not None and b"\\" not in body:
        assert fast == slow


@given(holds, keys)
def test_a_hold_is_read_alike_in_both_ways(body: bytes, key: str | None) -> None:
    agree(decode_hold_fast(body, key, Rules()), lambda: decode_hold_slowly(body, key, Rules()), body)


@given(hold_ids, ends, keys)
def test_a_capture_is_read_alike_in_both_ways(hold_id: str, body: bytes, key: str | None) -> None:
    fast = decode_capture_fast(hold_id, body, key, Rules())
    agree(fast, lambda: decode_capture_slowly(hold_id, body, key, Rules()), body)


@given(hold_ids, ends, keys)
def test_a_release_is_read_alike_in_both_ways(hold_id: str, body: bytes, key: str | None) -> None:
    agree(decode_release_fast(hold_id, body, key), lambda: decode_release_slowly(hold_id, body, key, Rules()), body)
