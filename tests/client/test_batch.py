"""Batches of the client: split, told how far they are, and tried again under the same ids."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from ftwallet import client as client_module
from ftwallet.client import WORLD, BatchInDoubt, Leg, Operation, Rejected, Transfer, WalletClient

if TYPE_CHECKING:
    from tests.client.conftest import Handler, ScriptedServer, Step


@pytest.fixture(autouse=True)
def small_and_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "MAX_BATCH_OPERATIONS", 4)
    monkeypatch.setattr(client_module, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(client_module, "LONGEST_PAUSE_S", 0.01)


@pytest.fixture
def wallet(server: ScriptedServer) -> Iterator[WalletClient]:
    with WalletClient(server.url, timeout=0.5, deadline=5.0, max_retries=3) as wallet:
        yield wallet


def asked(body: str) -> list[dict[str, Any]]:
    return list(json.loads(body)["operations"])


def done(server: ScriptedServer, *refused: int, replayed: int = 0) -> Step:
    """All operations of the request, but those at these places."""

    def step(handler: Handler) -> None:
        count = len(asked(server.seen[-1].body))
        problem = {"status": 400, "detail": "Insufficient balance"}
        exceptions = [
            {"index": index, "status": 400, "lsn": 5, "replayed": False, "answer": problem} for index in refused
        ]
        counts = {"operations": count, "done": count - len(refused), "replayed": replayed}
        body = {"success": not refused, **counts, "exceptions": exceptions}
        handler.send(200, json.dumps(body), FTWallet_LSN=str(10 * len(server.seen)), FTWallet_Durability="replicated")

    return step


def refuses(status: int) -> Step:
    return lambda handler: handler.send(status, json.dumps({"status": status, "detail": "no"}), Retry_After="0")


def deposits(count: int) -> list[Operation]:
    return [Operation.deposit(f"user{number}", 1) for number in range(count)]


def test_operations_are_sent_exactly(server: ScriptedServer, wallet: WalletClient) -> None:
    server.script = [done(server)]
    operations = [Operation("deposit", 'ü"', Decimal("9007199254740993.01"), "t1"), Operation.withdraw("b", 0.1)]
    wallet.batch(operations, all_or_nothing=True)
    path, body = server.seen[0]
    assert path == "/transactions"
    assert body.startswith(
        '{"mode":"all_or_nothing","reply":"compact","operations":['
        '{"kind":"deposit","account_id":"ü\\"","amount":9007199254740993.01,"transaction_id":"t1"},'
        '{"kind":"withdraw","account_id":"b","amount":0.1,"transaction_id":"'
    )
    assert asked(body)[1]["transaction_id"] == operations[1].transaction_id


def test_a_long_batch_is_split_and_tells_how_far_it_is(server: ScriptedServer, wallet: WalletClient) -> None:
    server.script = [done(server), done(server, 1, 3), done(server, replayed=2)]
    operations, told = deposits(10), list[tuple[int, int]]()
    receipt = wallet.batch(operations, progress=lambda known, total: told.append((known, total)))
    assert told == [(4, 10), (8, 10), (10, 10)]
    sent = [one["transaction_id"] for seen in server.seen for one in asked(seen.body)]
    assert sent == [one.transaction_id for one in operations]
    assert (receipt.operations, receipt.replayed, receipt.lsn, receipt.durability) == (10, 2, 30, "replicated")
    assert [(one.index, one.operation, one.status, one.detail) for one in receipt.refused] == [
        (5, operations[5], 400, "Insufficient balance"),
        (7, operations[7], 400, "Insufficient balance"),
    ]
    assert not receipt.success


def test_k1_a_part_without_an_answer_is_sent_again_with_the_same_ids(
    server: ScriptedServer, wallet: WalletClient
) -> None:
    server.script = [done(server), refuses(503), refuses(500), done(server, replayed=2)]
    receipt = wallet.batch(deposits(6))
    assert server.seen[1] == server.seen[2] == server.seen[3]
    assert (receipt.operations, receipt.replayed, receipt.success) == (6, 2, True)


def test_k1_a_part_that_never_gets_an_answer_is_in_doubt_with_all_after_it(
    server: ScriptedServer, wallet: WalletClient
) -> None:
    server.script = [done(server), refuses(503)]
    operations = deposits(10)
    with pytest.raises(BatchInDoubt, match="6 operations") as in_doubt:
        wallet.batch(operations)
    assert in_doubt.value.rest == operations[4:]
    assert in_doubt.value.receipt.operations == 4
    server.script = [done(server)]
    assert wallet.batch(in_doubt.value.rest).success
    assert [one["transaction_id"] for one in asked(server.seen[5].body)] == [
        one.transaction_id for one in operations[4:8]
    ]


def test_a_part_that_is_too_long_is_halved(server: ScriptedServer, wallet: WalletClient) -> None:
    server.script = [refuses(413), done(server), refuses(413), done(server), done(server), done(server)]
    operations, told = deposits(7), list[int]()
    receipt = wallet.batch(operations, progress=lambda known, _: told.append(known))
    assert told == [2, 3, 4, 7]
    answered = [at for at in range(6) if at not in (0, 2)]
    sent = [one["transaction_id"] for at in answered for one in asked(server.seen[at].body)]
    assert sent == [one.transaction_id for one in operations]
    assert receipt.operations == 7


def test_one_operation_that_is_too_long_is_rejected(server: ScriptedServer, wallet: WalletClient) -> None:
    server.script = [refuses(413)]
    with pytest.raises(Rejected):
        wallet.batch(deposits(4))


def test_all_or_nothing_is_never_split(server: ScriptedServer, wallet: WalletClient) -> None:
    server.script = [refuses(413)]
    with pytest.raises(ValueError, match="at most 4"):
        wallet.batch(deposits(5), all_or_nothing=True)
    assert server.seen == []
    with pytest.raises(Rejected):
        wallet.batch(deposits(4), all_or_nothing=True)
    assert len(server.seen) == 1


@pytest.mark.parametrize("status", [400, 409, 422])
def test_a_refused_batch_is_rejected(server: ScriptedServer, wallet: WalletClient, status: int) -> None:
    server.script = [refuses(status)]
    with pytest.raises(Rejected) as rejected:
        wallet.batch(deposits(2), all_or_nothing=True)
    assert rejected.value.status == status


def test_a_bad_amount_sends_nothing(server: ScriptedServer, wallet: WalletClient) -> None:
    with pytest.raises(ValueError, match="finite"):
        wallet.batch([*deposits(5), Operation.deposit("a", float("nan"))])
    assert server.seen == []


def test_an_empty_batch_asks_nothing(server: ScriptedServer, wallet: WalletClient) -> None:
    assert wallet.batch([]).success
    assert server.seen == []


def test_transfers_go_in_a_batch_with_their_legs(server: ScriptedServer, wallet: WalletClient) -> None:
    server.script = [done(server, 1)]
    legs = (Leg('ä"', "shop", Decimal("0.10")), Leg("shop", WORLD, "2"))
    receipt = wallet.batch([Operation.deposit("ä", 1), transfer := Transfer(legs)])
    assert [one.operation for one in receipt.refused] == [transfer]
    assert '{"from_account_id":"ä\\"","to_account_id":"shop","amount":0.10}' in server.seen[0].body
    assert asked(server.seen[0].body)[1] == {
        "kind": "transfer",
        "legs": [
            {"from_account_id": 'ä"', "to_account_id": "shop", "amount": 0.1},
            {"from_account_id": "shop", "to_account_id": "@world", "amount": "2"},
        ],
        "transaction_id": transfer.transaction_id,
    }


def test_a_transfer_of_one_leg_is_spelled_out_and_every_operation_takes_an_id_of_the_callers(
    server: ScriptedServer, wallet: WalletClient
) -> None:
    server.script = [done(server)]
    operations = [
        Operation.deposit("ann", 1, "d-1"),
        Operation.withdraw("ann", 1, "w-1"),
        Transfer.between("ann", "shop", 1, "t-1"),
        Transfer.between("ann", "shop", 1),
    ]
    wallet.batch(operations)
    sent = asked(server.seen[0].body)
    assert [one["transaction_id"] for one in sent] == ["d-1", "w-1", "t-1", operations[3].transaction_id]
    assert sent[2] == {
        "kind": "transfer",
        "from_account_id": "ann",
        "to_account_id": "shop",
        "amount": 1,
        "transaction_id": "t-1",
    }


def test_a_transfer_in_doubt_is_sent_again_as_it_was(server: ScriptedServer, wallet: WalletClient) -> None:
    server.script = [refuses(503)]
    transfer = Transfer((Leg("ann", "shop", 1),))
    with pytest.raises(BatchInDoubt) as caught:
        wallet.batch([transfer], all_or_nothing=True)
    server.script = [done(server, replayed=1)]
    assert wallet.batch(caught.value.rest, all_or_nothing=True).success
    assert len({seen.body for seen in server.seen}) == 1
