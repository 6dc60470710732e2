"""POST /transfer: one leg or several, refusals that name the leg, replays, and what is on record of it."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import ASGIApp

from ftwallet.api.app import build_app
from ftwallet.api.decode import AmountRefused, Malformed
from ftwallet.api.transfer_body import decode_transfer_fast, decode_transfer_slowly
from ftwallet.ledger.operations import Body
from ftwallet.ledger.rules import Rules
from tests.api.cases import GOOD, GOOD_TRANSFER, MALFORMED_TRANSFERS, Case, leg, legs, transfer
from tests.api.stand_ins import Got, MemoryWallet, ask


@pytest.fixture
async def funded(wallet: MemoryWallet) -> ASGIApp:
    """A wallet in which user123 has 1000.5."""
    app = build_app(wallet)
    assert (await ask(app, "POST", "/deposit", GOOD)).status == 200
    return app


async def send(app: ASGIApp, body: bytes, **headers: str) -> Got:
    return await ask(
        app, "POST", "/transfer", body, [(name.replace("_", "-"), value) for name, value in headers.items()]
    )


async def test_one_leg(funded: ASGIApp) -> None:
    got = await send(funded, transfer(amount=b'"250.50"'))
    assert got.status == 200
    assert got.body == (
        b'{"success":true,"message":"Transferred 250.5","balances":[{"account_id":"user123","new_balance":750.0},'
        b'{"account_id":"bob","new_balance":250.5}],"transaction_id":"x1"}'
    )
    assert (got.header("FTWallet-LSN"), got.header("FTWallet-Durability")) == ("2", "replicated")


async def test_several_legs_with_the_outside_at_both_ends(funded: ASGIApp) -> None:
    body = legs(
        leg(source=b'"@world"', target=b'"shop"', amount=b"100"),
        leg(source=b'"shop"', target=b'"fees"', amount=b"2.9"),
        leg(source=b'"shop"', target=b'"@world"', amount=b"97.1"),
    )
    got = await send(funded, body)
    assert json.loads(got.body) == {
        "success": True,
        "message": "Transferred 3 legs",
        "balances": [{"account_id": "shop", "new_balance": 0.0}, {"account_id": "fees", "new_balance": 2.9}],
        "transaction_id": "x1",
    }


async def test_a_retry_gets_the_same_answer_and_moves_nothing(funded: ASGIApp, wallet: MemoryWallet) -> None:
    first = await send(funded, GOOD_TRANSFER)
    again = await send(funded, leg(), Idempotency_Key="x1")
    assert (again.status, again.body) == (first.status, first.body)
    assert again.header("Idempotent-Replayed") == "true"
    assert (await send(funded, legs(leg()))).body == first.body, "one leg in an array is the same transfer"
    assert wallet.balance("bob") == 100


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (transfer(source=b'"carl"'), "from_account_id"),
        (transfer(target=b'"carl"'), "to_account_id"),
        (transfer(amount=b"2"), "amount"),
        (legs(leg(), leg()), "legs"),
    ],
)
async def test_an_id_used_for_another_transfer_names_what_differs(funded: ASGIApp, body: bytes, field: str) -> None:
    await send(funded, GOOD_TRANSFER)
    got = await send(funded, body)
    assert (got.status, json.loads(got.body)["detail"]) == (
        422,
        f"Transaction id was used with different parameters: {field}",
    )


async def test_an_id_has_one_kind(funded: ASGIApp) -> None:
    got = await send(funded, transfer(transaction_id=b'"t1"'))
    assert json.loads(got.body)["detail"] == "Transaction id was used with different parameters: type"


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        (transfer(amount=b"1000.51"), 400, "Insufficient balance"),
        (transfer(source=b'"nobody"'), 404, "Account not found"),
        (legs(leg(), leg(source=b'"bob"', target=b'"carl"', amount=b"1.01")), 400, "Insufficient balance (legs[1])"),
        (legs(leg(), leg(source=b'"nobody"')), 404, "Account not found (legs[1])"),
    ],
)
async def test_a_refusal_moves_nothing_and_keeps_its_id(
    funded: ASGIApp, wallet: MemoryWallet, body: bytes, status: int, detail: str
) -> None:
    got = await send(funded, body)
    assert (got.status, json.loads(got.body)["detail"]) == (status, detail)
    assert (wallet.balance("user123"), wallet.balance("bob")) == (100_050, None)
    again = await send(funded, body)
    assert (again.status, again.body, again.header("Idempotent-Replayed")) == (got.status, got.body, "true")
    shown = await ask(funded, "GET", "/transactions/x1")
    assert (json.loads(shown.body)["success"], json.loads(shown.body)["balances"]) == (False, [])


@pytest.mark.parametrize("case", MALFORMED_TRANSFERS, ids=lambda case: case.name)
async def test_a_malformed_transfer_names_the_field_and_uses_up_no_id(
    funded: ASGIApp, wallet: MemoryWallet, case: Case
) -> None:
    got = await send(funded, case.body)
    document = json.loads(got.body)
    assert (got.status, document["detail"]) == (case.status, case.detail)
    assert [error["field"] for error in document["errors"]] == [case.field]
    assert wallet.applied_lsn == 1


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (transfer(amount=b"0"), "Amount must be positive"),
        (transfer(amount=b"0.001"), "Amount has more than 2 decimal places"),
        (legs(leg(), leg(amount=b"-5")), "Amount must be positive (legs[1])"),
    ],
)
async def test_an_amount_that_breaks_a_rule(funded: ASGIApp, wallet: MemoryWallet, body: bytes, detail: str) -> None:
    got = await send(funded, body)
    assert (got.status, json.loads(got.body)["detail"]) == (400, detail)
    assert wallet.applied_lsn == 1


async def test_what_is_on_record(funded: ASGIApp) -> None:
    await send(funded, legs(leg(), leg(source=b'"bob"', target=b'"fees"', amount=b"0.25")))
    shown = json.loads((await ask(funded, "GET", "/transactions/x1")).body)
    assert {key: shown[key] for key in ("type", "message", "account_id", "amount", "new_balance")} == {
        "type": "transfer",
        "message": "Transferred 2 legs",
        "account_id": None,
        "amount": None,
        "new_balance": None,
    }
    assert shown["legs"] == [
        {"from_account_id": "user123", "to_account_id": "bob", "amount": 1.0},
        {"from_account_id": "bob", "to_account_id": "fees", "amount": 0.25},
    ]
    assert [one["account_id"] for one in shown["balances"]] == ["user123", "bob", "fees"]


texts = st.sampled_from(
    [b'"user123"', b'"bob"', b'"@world"', b'"@x"', b'""', b'"b\\u0062"', b"1", b"null", b'"\xc3\xbc"']
)
amounts = st.sampled_from([b"1", b'"2.50"', b"0", b"0.001", b"1e18", b"true", b'"x"', b"-1"])
leg_texts = st.builds(leg, texts, texts, amounts)
bodies = st.one_of(
    st.builds(transfer, texts, texts, amounts, texts),
    st.builds(lambda several, one: legs(*several, transaction_id=one), st.lists(leg_texts, max_size=3), texts),
    st.builds(
        lambda body, more: body[:-1] + more, st.builds(transfer), st.sampled_from([b',"amount":2}', b',"x":1}', b""])
    ),
)


@given(bodies, st.sampled_from([None, "user123", "k"]))
def test_what_the_fast_way_takes_the_slow_way_takes_as_well(body: bytes, key: str | None) -> None:
    fast = decode_transfer_fast(body, key, Rules())
    slow: tuple[Body, str] | None = None
    with contextlib.suppress(Malformed, AmountRefused):
        slow = decode_transfer_slowly(body, key, Rules())
    assert fast is None or fast == slow
    if slow is not None and b"\\" not in body:
        assert fast == slow
