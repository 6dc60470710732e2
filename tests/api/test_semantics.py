"""What holds for everything that moves money: the order of checks, what uses an id up, and the limit of each field."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from starlette.types import ASGIApp

from ftwallet.api.app import build_app
from ftwallet.ledger.holds import MAX_EXPIRES_IN_S
from ftwallet.ledger.legs import MAX_LEGS
from ftwallet.ledger.rules import Rules
from ftwallet.wallet import Unavailable
from tests.api.stand_ins import Got, MemoryWallet, ask

RULES = Rules(max_amount=1_000_000, max_balance=1_000_000)
LIMIT = 10_000
"""That of amounts and balances, in whole units."""

MAX_BODY = 8_000


class Call(NamedTuple):
    """A call that can be done: alice has 100, bob 1, and `h1` holds 30 of alice's."""

    path: str
    body: dict[str, Any]

    def but(self, **changed: Any) -> Call:
        return self._replace(body={**self.body, **changed})


CALLS = {
    "deposit": Call("/deposit", {"account_id": "alice", "amount": 1}),
    "withdraw": Call("/withdraw", {"account_id": "alice", "amount": 1}),
    "transfer": Call("/transfer", {"from_account_id": "alice", "to_account_id": "bob", "amount": 1}),
    "hold": Call("/holds", {"account_id": "alice", "amount": 1}),
    "capture": Call("/holds/h1/capture", {"amount": 1}),
    "release": Call("/holds/h1/release", {}),
}
REFUSED = {
    "deposit": [("balance-over-limit", CALLS["deposit"].but(amount=LIMIT))],
    "withdraw": [
        ("account-not-found", CALLS["withdraw"].but(account_id="nobody", amount=LIMIT)),
        ("insufficient-balance", CALLS["withdraw"].but(amount=LIMIT)),
    ],
    "transfer": [
        ("account-not-found", CALLS["transfer"].but(from_account_id="nobody", amount=LIMIT)),
        ("insufficient-balance", CALLS["transfer"].but(amount=LIMIT)),
        ("balance-over-limit", CALLS["transfer"].but(from_account_id="@world", amount=LIMIT)),
    ],
    "hold": [
        ("account-not-found", CALLS["hold"].but(account_id="nobody", amount=LIMIT)),
        ("insufficient-balance", CALLS["hold"].but(amount=LIMIT)),
    ],
    "capture": [
        ("hold-not-found", CALLS["capture"].but(amount=LIMIT, to_account_id="rich")._replace(path="/holds/h9/capture")),
        ("hold-ended", CALLS["capture"].but(amount=LIMIT, to_account_id="rich")._replace(path="/holds/h2/capture")),
        ("over-hold", CALLS["capture"].but(amount=LIMIT, to_account_id="rich")),
        ("balance-over-limit", CALLS["capture"].but(to_account_id="rich")),
    ],
    "release": [
        ("hold-not-found", CALLS["release"]._replace(path="/holds/h9/release")),
        ("hold-ended", CALLS["release"]._replace(path="/holds/h2/release")),
    ],
}
"""What the ledger may refuse, in the order in which it looks: each breaks what comes after it as well, if it can."""


@pytest.fixture
def wallet() -> MemoryWallet:
    return MemoryWallet(RULES)


@pytest.fixture
async def app(wallet: MemoryWallet) -> ASGIApp:
    app = build_app(wallet, max_body_bytes=MAX_BODY)
    before = [
        CALLS["deposit"].but(amount=131),
        CALLS["transfer"],
        CALLS["deposit"].but(account_id="rich", amount=LIMIT),
        CALLS["hold"].but(amount=30),
        CALLS["hold"].but(amount=5),
        Call("/holds/h2/release", {}),
    ]
    for call, transaction_id in zip(before, ["d1", "x1", "d2", "h1", "h2", "r2"], strict=True):
        assert (await send(app, call, transaction_id)).status == 200
    return app


async def send(app: ASGIApp, call: Call, transaction_id: str = "t") -> Got:
    return await ask(app, "POST", call.path, json.dumps({**call.body, "transaction_id": transaction_id}).encode())


def problem(got: Got) -> str:
    return "done" if got.status == 200 else str(json.loads(got.body)["type"]).rpartition(":")[2]


each_kind = pytest.mark.parametrize("kind", CALLS)
each_refusal = pytest.mark.parametrize(
    ("kind", "name", "call"),
    [pytest.param(kind, name, call, id=f"{kind} {name}") for kind, some in REFUSED.items() for name, call in some],
)


@each_kind
async def test_checks_come_in_one_order_for_every_kind(app: ASGIApp, wallet: MemoryWallet, kind: str) -> None:
    """A request that is wrong in every respect is told the first; what is put right lets the next be seen."""
    refused, call = REFUSED[kind][0]
    used = call.but(memo="x", amount=0)
    wallet.fault = Unavailable("Too busy", in_doubt=True)
    assert (await ask(app, "PUT", call.path, b"{" * (MAX_BODY + 1))).status == 405
    assert problem(await ask(app, "POST", call.path, b"{" * (MAX_BODY + 1))) == "body-too-long"
    assert problem(await send(app, used, "d1")) == "malformed-request"
    if "amount" in call.body:
        assert problem(await send(app, call.but(amount=0), "d1")) == "amount-not-positive"
    assert problem(await send(app, call, "d1")) == "in-doubt"
    wallet.fault = None
    assert problem(await send(app, call.but(**_other(kind)), "d1")) == "transaction-id-reused"
    assert problem(await send(app, call, "new")) == refused


def _other(kind: str) -> dict[str, Any]:
    """Something in which the request differs from what `d1` was used for, where its kind is the same."""
    return {"amount": 7} if kind == "deposit" else {}


@each_refusal
async def test_the_ledger_refuses_in_one_order_and_a_refusal_uses_the_id_up(
    app: ASGIApp, wallet: MemoryWallet, kind: str, name: str, call: Call
) -> None:
    got = await send(app, call)
    assert problem(got) == name
    assert json.loads(got.body)["transaction_id"] == "t"
    shown = json.loads((await ask(app, "GET", "/transactions/t")).body)
    assert (shown["status"], shown["success"], shown["type"]) == ("COMMITTED", False, kind)
    await send(app, CALLS["deposit"].but(amount=500), "more")
    again = await send(app, call)
    assert (again.status, again.body, again.header("Idempotent-Replayed")) == (got.status, got.body, "true")
    good = CALLS[kind]
    if good != call:
        assert problem(await send(app, good)) == "transaction-id-reused"
    assert problem(await send(app, good, "another")) == "done"


@each_kind
async def test_what_the_ledger_never_saw_uses_no_id_up(app: ASGIApp, wallet: MemoryWallet, kind: str) -> None:
    call = CALLS[kind]
    assert problem(await send(app, call.but(memo="x"))) == "malformed-request"
    if "amount" in call.body:
        for amount, name in (
            (0, "amount-not-positive"),
            ("0.001", "too-many-decimals"),
            (LIMIT + 1, "amount-over-limit"),
        ):
            assert problem(await send(app, call.but(amount=amount))) == name
    assert problem(await send(app, call.but(memo="x" * MAX_BODY))) == "body-too-long"
    wallet.fault = Unavailable("Too busy", in_doubt=False)
    assert problem(await send(app, call)) == "unavailable"
    wallet.fault = None
    assert (await ask(app, "GET", "/transactions/t")).status == 404
    assert problem(await send(app, call)) == "done"


@each_kind
async def test_an_id_has_one_kind_whatever_asks_again(app: ASGIApp, kind: str) -> None:
    assert problem(await send(app, CALLS[kind])) == "done"
    for other, call in CALLS.items():
        got = await send(app, call)
        if other == kind:
            assert got.header("Idempotent-Replayed") == "true"
        else:
            assert json.loads(got.body)["errors"][0]["field"] == "type"


# ---- Limits


LONG = "x" * 128


def _ids() -> Iterator[Any]:
    """A call with an id of this length in each place that one has."""
    for kind, call in CALLS.items():
        yield pytest.param(call, "transaction_id", id=f"{kind} transaction_id")
        for field in ("account_id", "from_account_id", "to_account_id"):
            if field in call.body or (kind, field) == ("capture", "to_account_id"):
                yield pytest.param(call, field, id=f"{kind} {field}")
    yield pytest.param(CALLS["capture"], "hold_id", id="capture hold_id")
    yield pytest.param(CALLS["release"], "hold_id", id="release hold_id")


@pytest.mark.parametrize(("call", "field"), list(_ids()))
async def test_an_id_of_128_characters_is_taken_and_one_more_is_too_long(app: ASGIApp, call: Call, field: str) -> None:
    await send(app, CALLS["deposit"].but(account_id=LONG, amount=5), "d3")
    await send(app, CALLS["hold"].but(account_id=LONG), LONG)
    for value, status in ((LONG, 200), (LONG + "x", 422)):
        if field == "hold_id":
            got = await send(app, call._replace(path=call.path.replace("h1", value)))
        elif field == "transaction_id":
            got = await send(app, call, "t" + value[1:])
        else:
            got = await send(app, call.but(**{field: value}), "t" + value[100:])
        assert got.status == status
        if status != 200:
            assert [one["field"] for one in json.loads(got.body)["errors"]] == [field]


@pytest.mark.parametrize("kind", ["deposit", "withdraw", "transfer", "hold", "capture"])
async def test_an_amount_at_the_limit_is_taken_and_a_cent_more_is_not(app: ASGIApp, kind: str) -> None:
    assert problem(await send(app, CALLS[kind].but(amount=f"{LIMIT}.00"))) != "amount-over-limit"
    assert problem(await send(app, CALLS[kind].but(amount=f"{LIMIT}.01"), "u")) == "amount-over-limit"


async def test_a_balance_at_the_limit_is_taken_and_a_cent_more_is_not(app: ASGIApp) -> None:
    assert problem(await send(app, CALLS["deposit"].but(amount=f"{LIMIT - 100}.01"))) == "balance-over-limit"
    assert problem(await send(app, CALLS["deposit"].but(amount=LIMIT - 100), "u")) == "done"


async def test_money_that_comes_back_from_a_hold_is_never_over_the_limit(app: ASGIApp) -> None:
    await send(app, CALLS["deposit"].but(amount=LIMIT - 100))
    assert problem(await send(app, CALLS["release"], "u")) == "done"
    known = json.loads((await ask(app, "GET", "/accounts/alice")).body)
    assert known == {"account_id": "alice", "balance": LIMIT + 30, "held": 0, "total": LIMIT + 30}
    assert problem(await send(app, CALLS["deposit"].but(amount="0.01"), "v")) == "balance-over-limit"


async def test_a_hold_expires_in_up_to_ten_years(app: ASGIApp) -> None:
    for seconds, name in ((1, "done"), (MAX_EXPIRES_IN_S, "done"), (0, "malformed-request")):
        assert problem(await send(app, CALLS["hold"].but(expires_in=seconds), f"t{seconds}")) == name
    assert problem(await send(app, CALLS["hold"].but(expires_in=MAX_EXPIRES_IN_S + 1))) == "malformed-request"


async def test_a_transfer_has_up_to_32_legs(app: ASGIApp) -> None:
    one = CALLS["transfer"].body
    assert problem(await send(app, Call("/transfer", {"legs": [one] * MAX_LEGS}))) == "done"
    assert problem(await send(app, Call("/transfer", {"legs": [one] * (MAX_LEGS + 1)}), "u")) == "malformed-request"
