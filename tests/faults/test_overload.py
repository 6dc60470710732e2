"""More than the wallet lets wait: who finds no room is told so at once, and everybody else is answered, each once.

The backup is held by SIGSTOP, and the primary waits for it, so nothing leaves the line and it is full for certain.
"""

from __future__ import annotations

import json
from contextlib import AbstractContextManager

from tests.faults.checker import Client, Sending
from tests.faults.harness import Pair, running_pair
from tests.faults.test_batches import Batch
from tests.faults.wire import Answer

MAX_QUEUE = 4
IN_FLIGHT = 2  # blocks at most, with one operation each, and one may be on its way out of the line


def running() -> AbstractContextManager[Pair]:
    return running_pair(max_batch=1, max_queue=MAX_QUEUE, ack_timeout_s=60, request_timeout_s=60)


def assert_refused_at_once(answer: Answer | None) -> None:
    assert answer is not None
    assert answer.status == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.document["type"].endswith("unavailable"), "nothing was begun, so nothing is in doubt"
    assert answer.document["detail"].startswith("The wallet is overloaded")


def fill(client: Client) -> tuple[list[Sending], str]:
    """Send deposits that wait until one is refused; returns those that wait and the id of the one that was refused."""
    waiting: list[Sending] = []
    while len(waiting) <= MAX_QUEUE + IN_FLIGHT + 1:
        sent = Sending(client, client.new_id("crowd"))
        client.pair.until(lambda sent=sent: _settled(client, sent), "it waits or is refused")
        if not sent.waiting:
            assert_refused_at_once(sent.answer())
            return waiting, sent.transaction_id
        waiting.append(sent)
    raise AssertionError(f"{len(waiting)} wait, and none is refused")


def _settled(client: Client, sent: Sending) -> bool:
    """Whether a deposit has its answer, or is known to the primary as one that waits."""
    return not sent.waiting or client.known(sent.transaction_id) is not None


def test_who_finds_no_room_is_refused_at_once_and_nothing_is_lost(client: Client) -> None:
    pair = client.pair
    done = client.new_id("before")
    client.deposit(transaction_id=done)
    pair.b.pause()
    waiting, refused = fill(client)
    assert len(waiting) >= MAX_QUEUE

    assert client.known(refused) is None, "a refusal has left a trace"
    assert_refused_at_once(client.again(refused))
    assert_refused_at_once(Batch(client, "independent", 3).send())
    assert_refused_at_once(Batch(client, "all_or_nothing", 3).send())
    client.answered_again(done)
    body = json.dumps({"account_id": "user123"}).encode()
    balance = pair.rest.call("POST", "/balance", body)
    assert balance is not None
    assert balance.status == 200
    assert pair.rest.healthy()
    assert all(one.waiting for one in waiting), "the line was not full all the time"

    pair.b.resume()
    for one in waiting:
        answer = one.answer()
        assert answer is not None
        assert (answer.status, answer.durability, answer.replayed) == (200, "replicated", False)
    again = client.again(refused)
    assert again is not None
    assert (again.status, again.replayed) == (200, False), "what was refused had been begun"
