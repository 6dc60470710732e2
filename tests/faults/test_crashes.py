"""Real processes killed at every stage of both nodes. Each row ends healed and checked by `checker.check`."""

from __future__ import annotations

import os
import random
from itertools import product
from signal import SIGSTOP

import pytest

from ftwallet.faults.stages import BACKUP_STAGES, PRIMARY_STAGES, Stage
from tests.faults.checker import Client, Sending
from tests.faults.harness import Pair

SEED = 20_251_124
_FULL = os.environ.get("CAMPAIGN") == "full"
_BEFORE_THE_ACK = (Stage.RECEIVED, Stage.PENDING)
_PAIRS_OF_STAGES = list(product(PRIMARY_STAGES, BACKUP_STAGES))
_SAMPLE = _PAIRS_OF_STAGES if _FULL else random.Random(SEED).sample(_PAIRS_OF_STAGES, 5)


def _crash_primary(client: Client, stage: Stage) -> str:
    """Kill the primary at this stage of a new transaction; return the id, whose answer nobody has got."""
    pair, transaction_id = client.pair, client.new_id(stage)
    client.deposit()
    pair.a.arm(stage)
    answer = client.send("deposit", "user123", "7.25", transaction_id)
    pair.a.crashes(stage)
    assert (answer is None) == (stage is not Stage.REPLIED)
    return transaction_id


def _restart_primary(pair: Pair) -> None:
    pair.start("a")
    pair.wait_paired()


def test_C1_primary_dies_at_received(client: Client) -> None:
    transaction_id = _crash_primary(client, Stage.RECEIVED)
    _restart_primary(client.pair)
    assert client.known(transaction_id) is None
    answer = client.again(transaction_id)
    assert answer is not None
    assert answer.status == 200
    assert not answer.replayed


def test_C2_primary_dies_at_pending(client: Client) -> None:
    pair = client.pair
    transaction_id = _crash_primary(client, Stage.PENDING)
    kept_before = pair.quarantined("a")
    _restart_primary(pair)
    assert "WAL: Found 1 PENDING transactions to settle" in pair.a.said()
    assert len(pair.quarantined("a") - kept_before) == 1
    for known in (client.known(transaction_id), pair.until(lambda: pair.b.find(transaction_id), "b has the record")):
        assert known is not None
        assert (known["status"], known["success"], known["new_balance"]) == ("ROLLED_BACK", False, None)
        assert (known["type"], known["amount"]) == ("deposit", 7.25)
    answer = client.again(transaction_id)
    assert answer is not None
    assert answer.status == 200
    assert not answer.replayed
    known = client.known(transaction_id)
    assert known is not None
    assert known["status"] == "COMMITTED"


def test_C2_primary_dies_again_before_the_rollback_is_on_record(client: Client) -> None:
    """The cut is done, the backup does not come back: ROLLED_BACK must not be forgotten over two more crashes."""
    pair = client.pair
    transaction_id = _crash_primary(client, Stage.PENDING)
    pair.start("a")
    pair.until(lambda: "is paired in epoch" in pair.a.said() or pair.quarantined("a"), "the tail is settled")
    pair.a.kill()
    _restart_primary(pair)
    known = client.known(transaction_id)
    assert known is not None
    assert known["status"] == "ROLLED_BACK"


def test_C3_primary_dies_after_the_backup_executed_and_before_its_ack(client: Client) -> None:
    pair, transaction_id = client.pair, client.new_id("c3")
    client.deposit()
    pair.b.arm(Stage.EXECUTED, signal=SIGSTOP)
    sending = Sending(client, transaction_id)
    pair.until(lambda: pair.b.stopped, "b is held at executed")
    pair.a.kill()
    assert sending.answer() is None
    pair.b.resume()
    assert pair.until(lambda: pair.b.find(transaction_id), "b has it")["success"]
    _restart_primary(pair)
    known = client.known(transaction_id)
    assert known is not None
    assert known["status"] == "COMMITTED"
    answer = client.again(transaction_id)
    assert answer is not None
    assert answer.status == 200
    assert answer.replayed
    assert answer.document["new_balance"] == known["new_balance"]


@pytest.mark.parametrize("stage", [Stage.SYNCED, Stage.EXECUTED, Stage.COMMITTED, Stage.REPLIED])
def test_C4_primary_dies_after_the_ack(client: Client, stage: Stage) -> None:
    pair = client.pair
    transaction_id = _crash_primary(client, stage)
    on_backup = pair.b.find(transaction_id)
    assert on_backup is not None
    assert on_backup["success"]
    _restart_primary(pair)
    known = client.known(transaction_id)
    assert known == on_backup
    answer = client.again(transaction_id)
    assert answer is not None
    assert (answer.status, answer.replayed) == (200, True)
    assert answer.document["new_balance"] == on_backup["new_balance"]


@pytest.mark.parametrize("stage", BACKUP_STAGES)
def test_C5_backup_dies(client: Client, stage: Stage) -> None:
    pair = client.pair
    client.deposit()
    pair.b.arm(stage)
    first, epoch = client.deposit(transaction_id=client.new_id(stage)), pair.register().epoch
    pair.b.crashes(stage)
    if stage is not Stage.ACKED:  # with the ack on its way the answer may still be "replicated"
        assert first.durability == "solo"
        assert int(first.headers["ftwallet-epoch"]) <= epoch
    pair.wait_mode("solo")
    assert set(pair.register().in_sync) == {"a"}
    assert client.deposit().durability == "solo"
    pair.start("b")
    pair.wait_paired()
    assert set(pair.register().in_sync) == {"a", "b"}
    assert client.deposit().durability == "replicated"


@pytest.mark.parametrize(("of_primary", "of_backup"), _SAMPLE)
def test_C6_both_die(client: Client, of_primary: Stage, of_backup: Stage) -> None:
    client.deposit()
    if of_primary in _BEFORE_THE_ACK:
        _both_die_with_the_backup_behind(client, of_primary, of_backup)
    else:
        _both_die_with_the_backup_ahead(client, of_primary, of_backup)


def _both_die_with_the_backup_behind(client: Client, of_primary: Stage, of_backup: Stage) -> None:
    """The backup is held at its stage of one transaction while the primary dies at its own of the next."""
    pair, first, second = client.pair, client.new_id(of_backup), client.new_id(of_primary)
    pair.b.arm(of_backup, signal=SIGSTOP)
    pair.a.arm(of_primary, after=2)
    sending = [Sending(client, first)]
    pair.until(lambda: pair.b.stopped, "b is held")
    sending.append(Sending(client, second))
    pair.a.crashes(of_primary)
    pair.b.kill()
    answered = [one.answer() for one in sending]
    assert answered[1] is None
    assert answered[0] is None or of_backup is Stage.ACKED
    pair.start_both()
    known = client.known(first)
    assert known is not None
    assert known["status"] == ("ROLLED_BACK" if of_backup is Stage.RECEIVED else "COMMITTED")
    known = client.known(second)
    assert (known and known["status"]) == (None if of_primary is Stage.RECEIVED else "ROLLED_BACK")


def _both_die_with_the_backup_ahead(client: Client, of_primary: Stage, of_backup: Stage) -> None:
    """The primary is held at its stage of one transaction while the backup dies at its own of the next."""
    pair, first, second = client.pair, client.new_id(of_primary), client.new_id(of_backup)
    before = pair.wait_up("a").durable_lsn
    pair.a.arm(of_primary, signal=SIGSTOP)
    pair.b.arm(of_backup, after=2)
    pair.b.pause()
    sending = []
    for number, transaction_id in enumerate((first, second), 1):  # one block each, both on their way to the backup
        sending.append(Sending(client, transaction_id))
        pair.until(lambda number=number: pair.wait_up("a").durable_lsn == before + number, "it is durable on a")
    pair.wait_up("a")  # once more around its loop: what was durable has been sent
    pair.b.resume()
    pair.until(lambda: pair.a.stopped, "a is held")
    pair.b.crashes(of_backup)
    pair.a.kill()
    answered = [one.answer() for one in sending]
    assert (answered[0] is not None) == (of_primary is Stage.REPLIED)
    assert answered[1] is None
    pair.start_both()
    known = client.known(first)
    assert known is not None
    assert known["status"] == "COMMITTED"
    known = client.known(second)
    assert known is not None
    assert known["status"] == ("ROLLED_BACK" if of_backup is Stage.RECEIVED else "COMMITTED")


def test_O1_primary_that_answered_alone_dies_and_the_backup_returns_first(client: Client) -> None:
    pair = client.pair
    client.deposit()
    pair.b.kill()
    alone = client.deposit(transaction_id=client.new_id("alone"))
    assert alone.durability == "solo"
    pair.a.kill()
    pair.start("b")
    assert pair.wait_up("b").state == "catching-up"
    assert pair.rest.move("deposit", "user123", "1", "nobody-takes-this") is None  # nothing listens
    pair.b.stop()
    pair.start("b", role="primary")
    assert pair.b.ends() > 0
    assert "not in the in-sync set ['a']" in pair.b.reason()["sentence"]
    pair.start("b")
    pair.start("a")
    pair.wait_paired()
    answer = client.again(next(reversed(client.asked)))
    assert answer is not None
    assert answer.replayed
    assert answer.body == alone.body
