"""Clients that retry, change their mind or go away, and a backup that hangs."""

from __future__ import annotations

import random
import socket
import threading
import time
from signal import SIGKILL

import psutil
import pytest

from ftwallet.faults.stages import Stage
from tests.faults.checker import Asked, Client, Sending
from tests.faults.harness import ACK_TIMEOUT_S, Pair
from tests.faults.wire import Answer, Rest, movement

SEED = 20_251_124
_SLACK_S = 1.0
_RETRY_PAUSE_S = 0.02


class _Retrying:
    """Threads that each send one of `ids` again and again, each on a connection of its own, until all have answers."""

    def __init__(self, client: Client, ids: list[str]) -> None:
        self.answers: list[tuple[str, Answer]] = []
        self._client = client
        self._errors: list[BaseException] = []
        self._threads = [threading.Thread(target=self._run, args=(one,), daemon=True) for one in ids]
        for thread in self._threads:
            thread.start()

    def _run(self, transaction_id: str) -> None:
        rest = Rest(self._client.pair.ports["http_port"])
        try:
            self.answers.append((transaction_id, self._until_answered(rest, transaction_id)))
        except BaseException as error:
            self._errors.append(error)
        finally:
            rest.close()

    def _until_answered(self, rest: Rest, transaction_id: str) -> Answer:
        ends_at = time.monotonic() + 60
        while time.monotonic() < ends_at:
            answer = self._client.send("deposit", "user123", "0.01", transaction_id, rest)
            if answer is not None and answer.final:
                return answer
            time.sleep(_RETRY_PAUSE_S)  # as a client that backs off does
        raise AssertionError("never answered")

    def all(self) -> list[tuple[str, Answer]]:
        for thread in self._threads:
            thread.join(60)
        assert not self._errors, self._errors
        assert len(self.answers) == len(self._threads)
        return self.answers


@pytest.mark.parametrize("stage", [Stage.PENDING, Stage.EXECUTED])
def test_K1_retries_of_one_id_from_100_connections_while_the_primary_dies(client: Client, stage: Stage) -> None:
    pair, transaction_id = client.pair, client.new_id("k1")
    client.deposit()
    pair.a.arm(stage)
    retrying = _Retrying(client, [transaction_id] * 100)
    pair.a.crashes(stage)
    pair.start("a")
    answers = [answer for _, answer in retrying.all()]
    assert {(answer.status, answer.body) for answer in answers} == {(200, answers[0].body)}
    assert sum(not answer.replayed for answer in answers) == (1 if stage is Stage.PENDING else 0)


def test_K1_retries_of_many_ids_while_the_primary_dies_again_and_again(client: Client) -> None:
    pair, pick = client.pair, random.Random(SEED)
    ids = [client.new_id("k1") for _ in range(60)]
    retrying = _Retrying(client, [one for one in ids for _ in range(2)])
    for _ in range(3):
        enough = len(retrying.answers) + pick.randrange(1, 15)
        pair.until(lambda enough=enough: len(retrying.answers) >= enough or _all_answered(retrying), "answers come")
        pair.a.kill()
        pair.start("a")
        pair.wait_ready()
    assert {one for one, answer in retrying.all() if answer.status == 200} == set(ids)


def _all_answered(retrying: _Retrying) -> bool:
    return len(retrying.answers) == 120


# ---- K2


@pytest.mark.parametrize("again", ["1.5", "1.50", '"1.5"', '"1.500"', "15e-1", "0.15E1"])
def test_K2_the_same_body_written_otherwise(client: Client, again: str) -> None:
    transaction_id = client.new_id("k2")
    first = client.deposit("1.5", transaction_id=transaction_id)
    answer = client.pair.rest.move("deposit", "user123", again, transaction_id)
    assert answer is not None
    assert (answer.status, answer.body, answer.replayed) == (200, first.body, True)


_OTHER_BODIES = [
    ("withdraw", "user123", "1.5", "type"),
    ("deposit", "user124", "1.5", "account_id"),
    ("deposit", "user123", "1.51", "amount"),
    ("withdraw", "user124", "2", "type"),
]


@pytest.mark.parametrize(("kind", "account_id", "amount", "field"), _OTHER_BODIES)
def test_K2_one_id_with_another_body(client: Client, kind: str, account_id: str, amount: str, field: str) -> None:
    transaction_id = client.new_id("k2")
    client.deposit("1.5", transaction_id=transaction_id)
    answer = client.pair.rest.move(kind, account_id, amount, transaction_id)
    assert answer is not None
    assert answer.status == 422
    assert answer.document["detail"] == f"Transaction id was used with different parameters: {field}"


def test_K2_another_body_waits_for_the_first_one_under_way(client: Client) -> None:
    pair, transaction_id = client.pair, client.new_id("k2")
    client.deposit()
    before = pair.wait_up("a").durable_lsn
    pair.b.pause()
    first = Sending(client, transaction_id, "1.5")
    pair.until(lambda: pair.wait_up("a").durable_lsn > before, "the first is under way")
    other: list[Answer | None] = []
    rest = Rest(pair.ports["http_port"])
    second = threading.Thread(target=lambda: other.append(rest.move("deposit", "user123", "99", transaction_id)))
    second.start()
    second.join(ACK_TIMEOUT_S / 10)
    assert second.is_alive(), "it was answered before the first one's outcome was known"
    pair.b.resume()
    second.join()
    rest.close()
    answer = first.answer()
    assert answer is not None
    assert answer.status == 200
    assert other[0] is not None
    assert other[0].status == 422
    assert other[0].document["detail"].endswith("different parameters: amount")


def test_K2_a_refusal_that_depends_on_state_is_final(client: Client) -> None:
    pair = client.pair
    account, unknown, too_much = client.new_id("account"), client.new_id("k2"), client.new_id("k2")
    answer = client.send("withdraw", account, "5", unknown)
    assert answer is not None
    assert (answer.status, answer.document["detail"]) == (404, "Account not found")
    client.deposit("3", account)
    answer = client.send("withdraw", account, "5", too_much)
    assert answer is not None
    assert (answer.status, answer.document["detail"]) == (400, "Insufficient balance")
    client.deposit("100", account)
    pair.a.kill()
    pair.start("a")
    pair.wait_ready()
    for transaction_id in (unknown, too_much):
        answer = client.again(transaction_id)  # compares with the first answer
        assert answer is not None
        assert answer.replayed


# ---- K3


def _leave(pair: Pair, sent: bytes) -> None:
    """Open a connection, send these bytes, and go away."""
    with socket.create_connection(("127.0.0.1", pair.ports["http_port"])) as connection:
        connection.sendall(sent)


def _request(body: bytes, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return b"POST /deposit HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % size + body


def test_K3_client_gives_up_and_the_outcome_is_that_of_the_log(client: Client) -> None:
    pair, transaction_id = client.pair, client.new_id("k3")
    client.deposit()
    before = pair.wait_up("a").durable_lsn
    pair.b.pause()
    client.asked[transaction_id] = Asked("deposit", "user123", "4.25")
    _leave(pair, _request(movement("user123", "4.25", transaction_id)))
    pair.until(lambda: pair.wait_up("a").durable_lsn > before, "it is under way")
    known = client.known(transaction_id)
    assert known is not None
    assert (known["status"], known["success"]) == ("PENDING", None)
    pair.b.resume()
    pair.until(lambda: (client.known(transaction_id) or {})["status"] == "COMMITTED", "it is done all the same")
    answer = client.again(transaction_id)
    assert answer is not None
    assert answer.replayed


def test_K3_client_disconnects_in_the_middle_of_its_body_and_nothing_leaks(client: Client) -> None:
    pair, transaction_id = client.pair, client.new_id("k3")
    client.deposit()
    client.absent.add(transaction_id)
    process = psutil.Process(pair.a.pid)
    open_before, lsn = process.num_fds(), pair.wait_up("a").durable_lsn
    body = movement("user123", "4.25", transaction_id)
    for length in range(0, len(body), 2):
        _leave(pair, _request(body[:length], len(body)))
        _leave(pair, _request(body)[: length + 1])
    pair.until(lambda: process.num_fds() <= open_before, "all connections are closed")
    assert pair.wait_up("a").durable_lsn == lsn
    assert client.known(transaction_id) is None


# ---- G2


def test_G2_backup_hangs_and_answers_are_late_once(client: Client) -> None:
    pair = client.pair
    client.deposit()
    pair.b.pause()
    late, began = client.deposit(), time.monotonic()
    assert late.durability == "solo"
    assert client.deposit().durability == "solo"
    assert time.monotonic() - began < _SLACK_S
    pair.b.resume()
    pair.wait_paired()
    assert client.deposit().durability == "replicated"


def test_G2_a_late_answer_is_no_later_than_the_ack_timeout(client: Client) -> None:
    pair = client.pair
    client.deposit()
    pair.b.pause()
    began = time.monotonic()
    client.deposit()
    assert ACK_TIMEOUT_S - 0.1 < time.monotonic() - began < ACK_TIMEOUT_S + _SLACK_S


def test_G2_backup_hangs_for_less_than_the_timeout_and_stays_in_sync(client: Client) -> None:
    pair = client.pair
    client.deposit()
    epoch = pair.register().epoch
    pair.b.pause()
    sending = Sending(client, client.new_id("g2"))
    pair.until(lambda: _is_ahead(pair), "it is durable on a alone")
    pair.b.resume()
    answer = sending.answer()
    assert answer is not None
    assert answer.durability == "replicated"
    assert pair.register().epoch == epoch


def _is_ahead(pair: Pair) -> bool:
    status = pair.wait_up("a")
    return bool(status.durable_lsn > status.commit_lsn)


def test_G2_backup_that_hangs_is_killed_and_returns(client: Client) -> None:
    pair = client.pair
    client.deposit()
    pair.b.pause()
    client.deposit()
    pair.b.send_signal(SIGKILL)
    assert pair.b.ends() == -SIGKILL
    pair.start("b")
    pair.wait_paired()
