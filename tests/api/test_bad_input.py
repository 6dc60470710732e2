"""A1 and A2: what is malformed is refused with the field named, leaves no record, and uses up no id."""

from __future__ import annotations

import json

import pytest
from starlette.types import ASGIApp

from ftwallet.api.app import build_app
from tests.api.cases import (
    GOOD,
    MALFORMED_BALANCES,
    MALFORMED_MOVEMENTS,
    MAX_BODY,
    MOVEMENTS,
    REFUSED_AMOUNTS,
    Case,
)
from tests.api.stand_ins import Got, MemoryWallet, NothingSent, ask

_CASES = [
    *((path, case) for path in MOVEMENTS for case in (*MALFORMED_MOVEMENTS, *REFUSED_AMOUNTS)),
    *(("/balance", case) for case in MALFORMED_BALANCES),
]


def _named(got: Got) -> list[str]:
    return [error["field"] for error in json.loads(got.body).get("errors", [])]


@pytest.mark.parametrize(("path", "case"), _CASES, ids=lambda each: each if isinstance(each, str) else each.name)
async def test_a1_malformed_input_is_refused_by_name_and_leaves_no_record(
    app: ASGIApp, wallet: MemoryWallet, path: str, case: Case
) -> None:
    got = await ask(app, "POST", path, case.body, case.headers)
    assert (got.status, json.loads(got.body)["detail"]) == (case.status, case.detail)
    assert got.header("Content-Type") == "application/problem+json"
    assert case.field is None or case.field in _named(got)
    assert wallet.applied_lsn == 0
    again = await ask(app, "POST", "/deposit", GOOD)
    assert (again.status, again.header("Idempotent-Replayed")) == (200, None), "the id must not be used up"


async def test_a1_fifty_thousand_brackets_are_too_deep(wallet: MemoryWallet) -> None:
    roomy = build_app(wallet, max_body_bytes=1_000_000)
    for body in (b"[" * 50_000, b'{"a":' * 50_000, GOOD.replace(b"1000.5", b"[" * 50_000 + b"]" * 50_000)):
        got = await ask(roomy, "POST", "/deposit", body)
        assert (got.status, json.loads(got.body)["detail"]) == (422, "body is nested too deep")


async def test_a1_a_path_as_an_account_is_harmless(app: ASGIApp) -> None:
    got = await ask(app, "POST", "/deposit", GOOD.replace(b"user123", b"../../etc/passwd"))
    assert got.status == 200
    balance = await ask(app, "POST", "/balance", b'{"account_id":"../../etc/passwd"}')
    assert balance.body == b'{"success":true,"balance":1000.5,"message":"Balance retrieved"}'


async def test_a1_many_unknown_fields_do_not_swell_the_answer(wallet: MemoryWallet) -> None:
    roomy = build_app(wallet, max_body_bytes=1_000_000)
    body = json.dumps({f"field{number}{'x' * 100}": 1 for number in range(5_000)}).encode()
    got = await ask(roomy, "POST", "/deposit", body)
    assert got.status == 422
    assert len(got.body) < 4_000
    assert {"account_id", "amount", "transaction_id"} <= set(_named(got))


@pytest.mark.parametrize("path", [*MOVEMENTS, "/balance"])
@pytest.mark.parametrize("declare_length", [True, False])
async def test_a2_a_body_over_the_limit_is_refused_before_it_is_parsed(
    app: ASGIApp, wallet: MemoryWallet, path: str, declare_length: bool
) -> None:
    too_long = b"[" * (MAX_BODY + 1)
    for body in (too_long, [too_long], [too_long[:600], too_long[600:]], [b"[" * 600] * 1_000):
        got = await ask(app, "POST", path, body, declare_length=declare_length)
        assert got.status == 413
        assert json.loads(got.body)["detail"] == f"Body is longer than the limit of {MAX_BODY} bytes"
    assert wallet.applied_lsn == 0


@pytest.mark.parametrize("declare_length", [True, False])
async def test_a2_a_body_at_the_limit_is_read_however_it_is_cut(app: ASGIApp, declare_length: bool) -> None:
    body = GOOD + b" " * (MAX_BODY - len(GOOD))
    for parts in ([body], [body[:10], body[10:]], [*(body[i : i + 1] for i in range(MAX_BODY)), b""]):
        got = await ask(app, "POST", "/deposit", parts, declare_length=declare_length)
        assert got.status == 200


@pytest.mark.parametrize("path", [*MOVEMENTS, "/transfer", "/holds", "/holds/h1/capture", "/balance", "/transactions"])
@pytest.mark.parametrize("parts", [[GOOD], [GOOD[:10], GOOD[10:]], [GOOD, b""]])
async def test_k3_a_client_that_hangs_up_in_its_body_asked_for_nothing(
    app: ASGIApp, wallet: MemoryWallet, path: str, parts: list[bytes]
) -> None:
    with pytest.raises(NothingSent):
        await ask(app, "POST", path, parts, hang_up=True)
    assert wallet.applied_lsn == 0
