"""`POST /transactions`: each operation is answered as the single call would, or all of them stand and fall together."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftwallet.api import batch_body
from ftwallet.api.app import build_app
from ftwallet.api.batch_body import decode_batch
from ftwallet.api.decode import Malformed
from ftwallet.ledger.operations import operation
from ftwallet.ledger.rules import Rules
from ftwallet.wallet import MAX_BATCH_OPERATIONS, Unavailable
from tests.api.cases import GOOD, MALFORMED_MOVEMENTS, REFUSED_AMOUNTS
from tests.api.stand_ins import Got, MemoryWallet, ask

PATH = "/transactions"
# Cases whose body is no JSON object at all cannot stand in a batch's array.
FORM_ERRORS = [case for case in (*MALFORMED_MOVEMENTS, *REFUSED_AMOUNTS) if not case.headers and case.field != "body"]
NO_JSON = {
    "NaN",
    "Infinity",
    "-Infinity",
    "account_id is NaN",
    "account_id has a lone surrogate",
    "transaction_id has a lone surrogate",
    "an unknown field that cannot be encoded",
}
"""The parser of whole batches refuses these before it knows where operations begin and end."""


def op(transaction_id: str, amount: object = 1, kind: str = "deposit", account_id: str = "user123") -> dict[str, Any]:
    return {"kind": kind, "account_id": account_id, "amount": amount, "transaction_id": transaction_id}


def batch(*operations: object, **fields: object) -> bytes:
    return json.dumps({**fields, "operations": operations}).encode()


ONE_LEG = {"from_account_id": "user123", "to_account_id": "bob", "amount": 1}


def moved(transaction_id: str, amount: object = 1, source: str = "user123", target: str = "bob") -> dict[str, Any]:
    ends = {"from_account_id": source, "to_account_id": target}
    return {"kind": "transfer", **ends, "amount": amount, "transaction_id": transaction_id}


async def send(wallet: MemoryWallet, body: bytes) -> Got:
    return await ask(build_app(wallet), "POST", PATH, body)


async def test_transfers_are_answered_to_the_byte_as_single_calls() -> None:
    fee = {"from_account_id": "bob", "to_account_id": "fees", "amount": "0.1"}
    several = {"kind": "transfer", "legs": [ONE_LEG, fee], "transaction_id": "l"}
    malformed = {**moved("m"), "to_account_id": "user123"}
    story = [
        op("t1", 10.5),
        moved("t2", "4.25"),
        several,
        moved("t3", 100),
        moved("t2", "4.25"),
        malformed,
        moved("n", 0),
    ]
    story += [moved("t2", 1), {**moved("u"), "kind": "gift"}, {**moved("v"), "fee": 1}, op("w", 1, "withdraw", "bob")]
    together, alone = MemoryWallet(), MemoryWallet()
    document = json.loads((await send(together, batch(*story))).body)
    for one, told in zip(story, document["results"], strict=True):
        if one["kind"] == "gift":
            assert told["answer"]["detail"] == "kind must be deposit, withdraw, transfer, hold, capture or release"
            continue
        got = await single(alone, one)
        assert (told["status"], told["answer"]) == (got.status, json.loads(got.body)), one
    assert together.ledger.digest == alone.ledger.digest
    assert (document["done"], document["replayed"], document["operations"]) == (5, 2, 11)


async def test_holds_are_answered_to_the_byte_as_single_calls() -> None:
    def of_hold(kind: str, hold_id: str, transaction_id: str, **fields: object) -> dict[str, Any]:
        return {"kind": kind, "hold_id": hold_id, "transaction_id": transaction_id, **fields}

    story = [
        op("t1", 100),
        {**op("h1", 30, "hold"), "expires_in": 600},
        op("h2", 71, "hold"),
        op("h3", 70, "hold"),
        of_hold("capture", "h1", "c1", amount="10.5", to_account_id="shop"),
        of_hold("capture", "h1", "c2", amount=20),
        of_hold("capture", "h2", "c3"),
        of_hold("capture", "h1", "c4", amount=1, release_rest=True),
        of_hold("release", "h1", "r1"),
        of_hold("release", "h3", "r2"),
        of_hold("release", "h3", "r2"),
        of_hold("capture", "h3", "r2"),
        of_hold("capture", "", "m1"),
        of_hold("capture", "h3", "m2", amount=0),
        of_hold("release", "h3", "m3", amount=1),
        {**op("m4", 1, "hold"), "expires_in": 1.5},
        op("m5", 1, "hold", "@x"),
    ]
    together, alone = MemoryWallet(), MemoryWallet()
    document = json.loads((await send(together, batch(*story))).body)
    for one, told in zip(story, document["results"], strict=True):
        body = {name: value for name, value in one.items() if name not in {"kind", "hold_id"}}
        paths = {"hold": "/holds", "deposit": "/deposit"}
        path = paths.get(one["kind"], f"/holds/{one.get('hold_id')}/{one['kind']}")
        if one["transaction_id"] != "m1":  # no path has an empty id
            got = await ask(build_app(alone), "POST", path, json.dumps(body).encode())
            assert (told["status"], told["answer"]) == (got.status, json.loads(got.body)), one
    assert document["results"][12]["answer"]["detail"] == "hold_id must not be empty"
    assert together.ledger.digest == alone.ledger.digest
    assert [told["status"] for told in document["results"]] == [
        *[200, 200, 400, 200, 200, 400, 404, 200, 409, 200, 200, 422],
        *[422, 400, 422, 422, 422],
    ]


async def test_a_hold_and_its_capture_in_one_batch_that_is_all_or_nothing() -> None:
    wallet = MemoryWallet()
    held = op("h1", 30, "hold")
    captured = {"kind": "capture", "hold_id": "h1", "transaction_id": "c1", "to_account_id": "shop"}
    got = await send(wallet, batch(op("t1", 30), held, captured, mode="all_or_nothing"))
    assert (got.status, wallet.balance("user123"), wallet.balance("shop")) == (200, 0, 3_000)
    again = {**captured, "transaction_id": "c2"}
    got = await send(wallet, batch(op("t2", 30), again, mode="all_or_nothing"))
    assert (got.status, wallet.balance("user123")) == (400, 0)


async def test_a_group_of_transfers_names_the_leg_that_refused_it() -> None:
    wallet = MemoryWallet()
    await send(wallet, batch(op("t1", 5)))
    fee = {"from_account_id": "bob", "to_account_id": "fees", "amount": 5}
    several = {"kind": "transfer", "legs": [ONE_LEG, fee], "transaction_id": "l"}
    got = await send(wallet, batch(moved("t2", 3), several, moved("t3", 2), mode="all_or_nothing"))
    assert got.status == 400, got.body
    assert "Insufficient balance (legs[1])" in json.loads(got.body)["detail"]
    assert wallet.balance("user123") == 500


def one_leg(amount: str) -> dict[str, str]:
    return {"from_account_id": "a", "to_account_id": "b", "amount": amount}


@pytest.mark.parametrize(
    ("one", "field"),
    [
        (moved("t", "2.501"), "operations[1].amount"),
        (
            {"kind": "transfer", "legs": [one_leg("1"), one_leg("2.501")], "transaction_id": "t"},
            "operations[1].legs[1].amount",
        ),
    ],
)
async def test_an_amount_that_breaks_a_rule_is_named_where_it_stands(one: dict[str, Any], field: str) -> None:
    got = await send(MemoryWallet(), batch(op("d"), one, mode="all_or_nothing"))
    assert (got.status, json.loads(got.body)["errors"][0]["field"]) == (400, field)


async def single(wallet: MemoryWallet, one: dict[str, Any]) -> Got:
    body = {name: value for name, value in one.items() if name != "kind"}
    return await ask(build_app(wallet), "POST", f"/{one['kind']}", json.dumps(body).encode())


async def test_each_operation_is_answered_to_the_byte_as_the_single_call() -> None:
    story = [
        op("t1", 10.5),
        op("t2", "4.25", "withdraw"),
        op("t3", 100, "withdraw"),
        op("t4", 1, "withdraw", "nobody"),
        op("t5", 0),
        op("t6", 1.005),
        op("", 1),
        op("t1", 10.5),
        op("t1", 11),
        op("t3", 100, "withdraw"),
        op("t7", "0.01", "deposit", "ü"),
        {**op("t8"), "memo": 1},
    ]
    alone, together = MemoryWallet(), MemoryWallet()
    expected = [await single(alone, one) for one in story]
    got = await send(together, batch(*story))
    whole = json.loads(got.body)
    assert got.status == 200
    assert [one["status"] for one in whole["results"]] == [one.status for one in expected]
    for one, answer in zip(whole["results"], expected, strict=True):
        assert json.dumps(one["answer"], separators=(",", ":"), ensure_ascii=False).encode() == answer.body
        assert one["lsn"] == (
            None if answer.header("FTWallet-LSN") is None else int(answer.header("FTWallet-LSN") or 0)
        )
        assert one["replayed"] == (answer.header("Idempotent-Replayed") is not None)
    assert (whole["success"], whole["operations"], whole["done"], whole["replayed"]) == (False, 12, 4, 3)
    assert got.header("FTWallet-LSN") == str(together.applied_lsn)
    assert got.header("FTWallet-Durability") == "replicated"
    assert got.header("Idempotent-Replayed") is None
    assert together.ledger.digest == alone.ledger.digest


@pytest.mark.parametrize("case", FORM_ERRORS, ids=lambda case: case.name)
async def test_a_form_error_is_told_as_by_the_single_call_and_stops_no_other(case: Any) -> None:
    wallet = MemoryWallet()
    bad = b'{"kind":"deposit",' + case.body[1:] if case.body != b"{}" else b'{"kind":"deposit"}'
    body = b'{"operations":[%b,%b]}' % (bad, json.dumps(op("good")).encode())
    got = await send(wallet, body)
    if case.name in NO_JSON:
        assert got.status == 422
        assert wallet.applied_lsn == 0
        return
    refused, good = json.loads(got.body)["results"]
    assert (refused["status"], refused["answer"]["detail"]) == (case.status, case.detail)
    assert good["status"] == 200
    assert wallet.applied_lsn == 1


@pytest.mark.parametrize("case", FORM_ERRORS, ids=lambda case: case.name)
async def test_a_form_error_refuses_an_all_or_nothing_batch_whole_and_names_where(case: Any) -> None:
    wallet = MemoryWallet()
    bad = b'{"kind":"deposit",' + case.body[1:] if case.body != b"{}" else b'{"kind":"deposit"}'
    body = b'{"mode":"all_or_nothing","operations":[%b,%b]}' % (json.dumps(op("good")).encode(), bad)
    got = await send(wallet, body)
    assert got.status == case.status
    if case.name not in NO_JSON:
        assert json.loads(got.body)["errors"][0]["field"].startswith("operations[1].")
    assert wallet.applied_lsn == 0


async def test_the_compact_reply_tells_only_what_is_not_done() -> None:
    wallet = MemoryWallet()
    await single(wallet, op("old"))
    operations = [op("t1"), op("old"), op("t2", 500, "withdraw"), op("old", 2), op("t4", -1)]
    whole = json.loads((await send(wallet, batch(*operations, reply="compact"))).body)
    assert [(one["index"], one["status"], one["replayed"]) for one in whole["exceptions"]] == [
        (2, 400, False),
        (3, 422, False),
        (4, 400, False),
    ]
    assert {name: whole[name] for name in ("success", "operations", "done", "replayed")} == {
        "success": False,
        "operations": 5,
        "done": 2,
        "replayed": 2,
    }
    done = await send(wallet, batch(op("t5"), op("t6"), reply="compact"))
    assert done.body == b'{"success":true,"operations":2,"done":2,"replayed":0,"exceptions":[]}'


async def test_a_retry_of_a_batch_replays_it() -> None:
    wallet = MemoryWallet()
    body = batch(op("t1", 5), op("t2", 7, "withdraw"), op("t3"))
    first, again = await send(wallet, body), await send(wallet, body)
    before, now = json.loads(first.body)["results"], json.loads(again.body)["results"]
    assert [{**one, "replayed": False} for one in now] == before
    assert all(one["replayed"] for one in now)
    assert again.header("Idempotent-Replayed") == "true"
    assert wallet.applied_lsn == 3


# ---- All or nothing


async def test_all_or_nothing_does_all() -> None:
    wallet = MemoryWallet()
    body = batch(op("t1", 5), op("t2", 3, "withdraw"), op("t2", 3, "withdraw"), mode="all_or_nothing")
    whole = json.loads((await send(wallet, body)).body)
    assert [one["answer"]["new_balance"] for one in whole["results"]] == [5, 2, 2]
    assert wallet.balance("user123") == 200
    again = await send(wallet, body)
    assert again.header("Idempotent-Replayed") == "true"
    assert json.loads(again.body)["done"] == 3
    assert wallet.balance("user123") == 200


async def test_all_or_nothing_does_nothing_when_one_is_refused_and_says_so_for_ever() -> None:
    wallet = MemoryWallet()
    operations = [op("t1", 5), op("t2", 6, "withdraw"), op("t3", 1, "withdraw", "nobody")]
    first = await send(wallet, batch(*operations, mode="all_or_nothing"))
    problem = json.loads(first.body)
    assert (first.status, problem["type"]) == (400, "urn:ftwallet:problem:batch-refused")
    assert problem["detail"] == "Operation 1 was refused, and with it the whole batch: Insufficient balance"
    assert problem["transaction_id"] == "t2"
    assert problem["errors"][0]["field"] == "operations[1]"
    assert wallet.balance("user123") is None
    await single(wallet, op("more", 1000))
    again = await send(wallet, batch(*operations, mode="all_or_nothing"))
    assert (again.status, again.body) == (first.status, first.body)
    assert again.header("Idempotent-Replayed") == "true"
    alone = await single(wallet, operations[0])
    assert (alone.status, json.loads(alone.body)["type"]) == (400, "urn:ftwallet:problem:batch-refused")


@pytest.mark.parametrize(
    ("operations", "status", "field"),
    [
        ([op("old"), op("new")], 409, "operations[0].transaction_id"),
        ([op("new"), op("old")], 409, "operations[1].transaction_id"),
        ([op("new"), op("old", 2)], 409, "operations[1].transaction_id"),
        ([op("old", 2)], 422, "operations[0].amount"),
        ([op("new"), op("new", 2)], 422, "operations[1].amount"),
        ([op("new"), op("new", 1, "withdraw")], 422, "operations[1].type"),
        ([op("old"), op("refused", 999, "withdraw")], 409, "operations[1].transaction_id"),
    ],
)
async def test_an_all_or_nothing_batch_of_used_and_new_ids_is_refused(
    operations: list[dict[str, Any]], status: int, field: str
) -> None:
    wallet = MemoryWallet()
    await send(wallet, batch(op("old"), op("refused", 999, "withdraw")))
    got = await send(wallet, batch(*operations, mode="all_or_nothing"))
    assert got.status == status
    assert json.loads(got.body)["errors"][0]["field"] == field
    assert wallet.applied_lsn == 2


# ---- The body around the operations


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"", "body is empty"),
        (b"[]", "body must be a JSON object"),
        (b"{", "body is not JSON at byte 1"),
        (b'{"operations":[' + GOOD + b"]", "body is not JSON at byte 78"),
        (b'{"operations":[' + GOOD + b"]}x", "body is not JSON at byte 80"),
        (b"[" * 5000, "body must be a JSON object"),
        (b'{"operations":' + b"[" * 5000 + b"}", "body is nested too deep"),
        (b"{}", "operations is missing"),
        (b'{"operations":[]}', "operations must hold at least one operation"),
        (b'{"operations":{}}', "operations must be an array"),
        (b'{"operations":"\xff"}', "operations must be an array"),
        (batch(op("t1"), mode="some"), "mode must be independent or all_or_nothing"),
        (batch(op("t1"), reply=7), "reply must be full or compact"),
        (batch(op("t1"), colour="red"), "colour is not a field of this request"),
        (b'{"mode":"independent",' + batch(op("t1"), mode="independent")[1:], "body has a field more than once"),
        (batch(op("t1"))[:-1] + b',"operations":[]}', "operations must hold at least one operation"),
        (batch(op("t1\n"))[:-1] + b',"operations":[' + json.dumps(op("t")).encode() + b"]}", "body has a field more"),
        (
            batch(*[op("t1")] * (MAX_BATCH_OPERATIONS + 1)),
            "operations must hold at most 8192 operations",
        ),
    ],
)
async def test_a_body_that_is_no_batch_is_refused_whole(body: bytes, detail: str) -> None:
    wallet = MemoryWallet()
    got = await send(wallet, body)
    assert got.status == 422
    assert detail in json.loads(got.body)["detail"]
    assert wallet.applied_lsn == 0


@pytest.mark.parametrize("one", [b"7", b"{}", b'""', b"[1,2]"])
def test_a_million_elements_are_refused_without_a_look_at_each(one: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_body, "_decode_list", pytest.fail)
    with pytest.raises(Malformed, match="operations must hold at most 8192 operations"):
        decode_batch(b'{"operations":[' + b",".join([one] * 1_000_000) + b"]}")


@pytest.mark.parametrize("end", [b"}", b',"operations":[' + GOOD + b"]}"])
def test_a_million_fields_are_refused_without_a_look_at_each(end: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_body, "_decode_around", pytest.fail)
    with pytest.raises(Malformed, match=r"body has [0-9]+ bytes beside its operations, and may have 16384"):
        decode_batch(b"{" + b",".join(b'"%d":1' % number for number in range(1_000_000)) + end)


def test_white_space_around_the_operations_is_no_field() -> None:
    wide, space = json.dumps(op("\t")).encode(), b" \t\r\n" * 10_000
    body = b"%b{%b" % (space, space) + b'"operations"%b:%b[%b,%b]%b}' % (space, space, wide, GOOD, space)
    assert decode_batch(body).count == 2


@pytest.mark.parametrize("one", [b"null", b"7", b'"deposit"', b"[]", b'{"kind":"transfer"}', b'{"kind":7}'])
async def test_what_is_no_operation_is_told_alone(one: bytes) -> None:
    wallet = MemoryWallet()
    got = await send(wallet, b'{"operations":[%b,%b]}' % (one, json.dumps(op("t1")).encode()))
    assert [each["status"] for each in json.loads(got.body)["results"]] == [422, 200]


async def test_a_batch_has_a_limit_of_its_own() -> None:
    wallet = MemoryWallet()
    app = build_app(wallet, max_body_bytes=100, max_batch_body_bytes=2_000)
    assert (await ask(app, "POST", PATH, batch(*[op(f"t{number}") for number in range(10)]))).status == 200
    too_long = await ask(app, "POST", PATH, batch(*[op(f"t{number}") for number in range(50)]))
    assert too_long.status == 413
    assert b"limit of 2000 bytes" in too_long.body


async def test_no_operation_may_be_longer_than_a_request() -> None:
    wallet = MemoryWallet()
    got = await send(wallet, batch({**op("t1"), "memo": "x" * 20_000}, op("t2")))
    refused, good = json.loads(got.body)["results"]
    assert refused["answer"]["detail"] == "operation is longer than the limit of 16384 bytes"
    assert good["status"] == 200


# ---- What the wallet cannot do


@pytest.mark.parametrize(("in_doubt", "kind"), [(True, "in-doubt"), (False, "unavailable")])
async def test_no_outcome_is_503_for_the_whole(in_doubt: bool, kind: str) -> None:
    wallet = MemoryWallet()
    wallet.fault = Unavailable("Too busy", in_doubt=in_doubt)
    got = await send(wallet, batch(op("t1")))
    assert (got.status, got.header("Retry-After")) == (503, "1")
    assert json.loads(got.body)["type"] == f"urn:ftwallet:problem:{kind}"


async def test_a_lowered_limit_hides_no_recorded_outcome() -> None:
    wallet = MemoryWallet(Rules(2, 10**6, 10**18))
    operations = [op("t1", 9_000), op("t2", 9_000)]
    await send(wallet, batch(operations[0]))
    lowered = MemoryWallet(Rules(2, 10**3, 10**18))
    lowered.ledger.apply(1, 1, [*_as_written(wallet)])
    first, second = json.loads((await send(lowered, batch(*operations))).body)["results"]
    assert (first["status"], first["replayed"]) == (200, True)
    assert second["answer"]["detail"] == "Amount is over the limit of 10.0"


def _as_written(wallet: MemoryWallet) -> Any:
    for known in wallet.ledger.transactions():
        assert known.kind is not None
        yield operation(known.kind, known.transaction_id, known.account_id or "", known.amount or 0, known.time_us)


# ---- The fast way and the slow one, and slices


_TEXTS = st.sampled_from(
    [
        '"user123"',
        '"a@b"',
        '"ü"',
        '"@world"',
        '""',
        '"a\u007fb"',
        '"a\u200bb"',
        "7",
        "null",
        '"a"',
        f'"{"x" * 129}"',
        "[]",
    ]
)
_AMOUNTS = st.sampled_from(
    [
        "1",
        "1.5",
        '"1.50"',
        '"x"',
        "0",
        "-1",
        "1e1",
        "1.005",
        "1e99",
        '"ü"',
        "true",
        "{}",
        '{"a":"b"}',
        '"1_0"',
        '" 1"',
        '"1\\n2"',
        '["1"]',
        "[1]",
        '""',
        "0.07",
    ]
)


@given(
    st.lists(st.tuples(st.sampled_from(['"deposit"', '"withdraw"', '"x"', "1"]), _TEXTS, _AMOUNTS, _TEXTS), max_size=5),
    st.sampled_from(["", ',"amount":1', ',"memo":1', ',"kind":"deposit"']),
    st.booleans(),
)
def test_the_fast_way_takes_what_the_slow_way_takes(
    fields: list[tuple[str, str, str, str]], extra: str, good_first: bool
) -> None:
    texts = [
        f'{{"kind":{kind},"account_id":{account},"amount":{amount},"transaction_id":{name}{extra}}}'
        for kind, account, amount, name in fields
    ]
    good = '{"kind":"deposit","account_id":"a","amount":1,"transaction_id":"t"}'
    texts = [good, *texts] if good_first else [*texts, good]
    body = f'{{"operations":[{",".join(texts)}]}}'.encode()
    whichever, slow = decode_batch(body), batch_body._decode_slowly(body)
    movements = [
        [movement for some in each.slices(Rules(), lambda _: False) for movement in some] for each in (whichever, slow)
    ]
    assert movements[0] == movements[1]
    assert whichever.indices == slow.indices
    assert {at: str(error) for at, error in whichever.errors.items()} == {
        at: str(error) for at, error in slow.errors.items()
    }


async def test_a_long_reply_lets_others_have_their_turn() -> None:
    wallet = MemoryWallet()
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    operations = [op(f"t{number}") for number in range(MAX_BATCH_OPERATIONS)]
    got = await send(wallet, batch(*operations))
    task.cancel()
    assert json.loads(got.body)["done"] == MAX_BATCH_OPERATIONS
    assert turns >= MAX_BATCH_OPERATIONS // 256
