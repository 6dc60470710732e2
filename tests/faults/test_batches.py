"""Real processes killed in the middle of a batch: each id is done once, and what is all or nothing is so on both."""

from __future__ import annotations

import json
import threading
from contextlib import AbstractContextManager
from itertools import product

import pytest

from ftwallet.faults.stages import BACKUP_STAGES, PRIMARY_STAGES, Stage
from tests.faults.checker import Asked, AskedTransfer, Client
from tests.faults.harness import Pair, running_pair
from tests.faults.supervised import sample
from tests.faults.wire import Answer, Rest

COUNT = 120
SEED = 20_251_124
MODES = ("independent", "all_or_nothing")
MIDDLE = COUNT // 2


def running() -> AbstractContextManager[Pair]:
    """Slices of eight, so that a batch is many blocks long."""
    return running_pair(max_batch=16)


class Batch:
    """Deposits and transfers that are sent together until they are answered, and then are the client's to check.

    Every fourth is a transfer of what the one before it has brought.
    """

    def __init__(self, client: Client, mode: str, count: int = COUNT) -> None:
        self.client = client
        self.ids = [client.new_id("batch") for _ in range(count)]
        self._asked = [_one_of_a_batch(at) for at in range(count)]
        requests = [asked.request(name) for name, asked in zip(self.ids, self._asked, strict=True)]
        operations = [{"kind": path.strip("/")} | json.loads(body) for path, body in requests]
        self._body = json.dumps({"mode": mode, "reply": "compact", "operations": operations}).encode()

    def send(self) -> Answer | None:
        rest = Rest(self.client.pair.ports["http_port"])
        try:
            return rest.call("POST", "/transactions", self._body)
        finally:
            rest.close()

    def settle(self) -> None:
        """Again, on a pair that serves: all of it must be done, and done once; the checker asks for each id alone."""
        answer = self.send()
        assert answer is not None, self.client.pair.told()
        assert answer.status == 200, answer.body[:500]
        assert (answer.document["success"], answer.document["exceptions"]) == (True, [])
        again = self.send()
        assert again is not None
        assert again.document["replayed"] == len(self.ids)
        assert again.replayed
        self.client.asked |= dict(zip(self.ids, self._asked, strict=True))


def _one_of_a_batch(at: int) -> Asked | AskedTransfer:
    if at % 4 == 3:
        return AskedTransfer(((f"user{(at - 1) % 10}", "shop", "1.25"), ("shop", "fees", "0.25")))
    return Asked("deposit", f"user{at % 10}", "1.25")


def known(client: Client, transaction_id: str) -> str | None:
    found = client.known(transaction_id)
    return None if found is None else str(found["status"])


@pytest.mark.parametrize(("stage", "mode"), sample(SEED, list(product(PRIMARY_STAGES, MODES)), 4))
def test_C1_C2_C3_C4_primary_dies_in_the_middle_of_a_batch(client: Client, stage: Stage, mode: str) -> None:
    pair, batch = client.pair, Batch(client, mode)
    client.deposit()
    pair.a.arm(stage, after=MIDDLE)
    answer = batch.send()
    pair.a.crashes(stage)
    assert (answer is None) == (stage is not Stage.REPLIED)
    pair.start("a")
    pair.wait_paired()
    statuses = [known(client, batch.ids[at]) for at in (0, MIDDLE, COUNT - 1)]
    if mode == "all_or_nothing":
        assert len(set(statuses)) == 1, "a part of it is done"
        expected = {Stage.RECEIVED: None, Stage.PENDING: "ROLLED_BACK"}
        assert statuses[0] == expected.get(stage, "COMMITTED")
    batch.settle()


@pytest.mark.parametrize(("stage", "mode"), sample(SEED, list(product(BACKUP_STAGES, MODES)), 3))
def test_C5_backup_dies_in_the_middle_of_a_batch(client: Client, stage: Stage, mode: str) -> None:
    pair, batch = client.pair, Batch(client, mode)
    client.deposit()
    pair.b.arm(stage, after=MIDDLE)
    answer = batch.send()
    assert answer is not None
    assert answer.status == 200
    pair.b.crashes(stage)
    pair.wait_mode("solo")
    pair.start("b")
    pair.wait_paired()
    batch.settle()


def test_C2_all_or_nothing_that_was_refused_stays_so_when_the_primary_dies(client: Client) -> None:
    pair = client.pair
    client.deposit(amount="10", account_id="poor")
    ids = [client.new_id("refused") for _ in range(3)]
    movements = [("deposit", "rich"), ("withdraw", "poor"), ("deposit", "rich")]
    operations = [
        {"kind": kind, "account_id": account_id, "amount": 11, "transaction_id": name}
        for (kind, account_id), name in zip(movements, ids, strict=True)
    ]
    body = json.dumps({"mode": "all_or_nothing", "operations": operations}).encode()
    first = pair.rest.call("POST", "/transactions", body)
    pair.a.kill()
    pair.start("a")
    pair.wait_paired()
    again = pair.rest.call("POST", "/transactions", body)
    assert first is not None
    assert again is not None
    assert (first.status, first.body) == (again.status, again.body)
    assert first.document["detail"] == "Operation 1 was refused, and with it the whole batch: Insufficient balance"
    for (kind, account_id), name in zip(movements, ids, strict=True):
        answer = client.send(kind, account_id, "11", name)
        assert answer is not None
        assert answer.status == 400


def test_singles_and_health_are_answered_while_batches_run(client: Client) -> None:
    """Each of them goes into the next block, whatever waits there of the batches."""
    pair, stop = client.pair, threading.Event()
    batches: list[Batch] = []

    def run() -> None:
        while not stop.is_set():
            batches.append(Batch(client, "independent"))
            batches[-1].send()

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        pair.until(lambda: len(batches) > 2, "batches run")
        for _ in range(30):
            client.deposit()
            assert pair.rest.healthy()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    for batch in batches:
        batch.settle()
