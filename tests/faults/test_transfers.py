"""A transfer under way when a node dies, at each of its stages: all legs, once, on both nodes, or none of them.

Each test ends healed and checked by `checker.check`, which replays both logs.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from ftwallet.faults.stages import BACKUP_STAGES, PRIMARY_STAGES, Stage
from tests.faults.checker import AskedTransfer, Client, Sending
from tests.faults.supervised import sample

SEED = 20_251_125
SPLIT = AskedTransfer((("user123", "shop", "5.25"), ("shop", "fees", "0.25"), ("@world", "user123", "1.5")))
TOO_MUCH = AskedTransfer((("user123", "shop", "5.25"), ("nobody-ever", "fees", "0.25")))
LEGS = [
    {"from_account_id": source, "to_account_id": target, "amount": float(amount)}
    for source, target, amount in SPLIT.moves
]
ACCOUNTS = ["user123", "shop", "fees"]


def known(client: Client, transaction_id: str) -> tuple[str | None, Any]:
    """The status that `GET /transactions/{id}` shows, and the document, whose legs are as they were asked."""
    document = client.known(transaction_id)
    if document is None:
        return None, None
    assert (document["type"], document["legs"]) == ("transfer", LEGS)
    return document["status"], document


def executed_once(client: Client, transaction_id: str, *, replayed: bool) -> None:
    """Asked again, it is done; asked once more, it has that answer, on record with the balances of all its accounts."""
    answer = client.again(transaction_id)
    assert answer is not None, client.pair.told()
    assert (answer.status, answer.replayed) == (200, replayed), answer
    client.answered_again(transaction_id)
    status, document = known(client, transaction_id)
    assert (status, document["success"]) == ("COMMITTED", True)
    assert [one["account_id"] for one in document["balances"]] == ACCOUNTS
    assert document["balances"] == answer.document["balances"]


def crash_primary(client: Client, stage: Stage) -> str:
    """Kill the primary at this stage of a transfer and start it again; return the transfer's id."""
    pair, transaction_id = client.pair, client.new_id(stage)
    client.deposit()
    pair.a.arm(stage)
    answer = client.ask(SPLIT, transaction_id)
    pair.a.crashes(stage)
    assert (answer is None) == (stage is not Stage.REPLIED)
    pair.start("a")
    pair.wait_paired()
    return transaction_id


def test_C2_a_transfer_that_is_rolled_back_shows_its_legs_and_is_executed_once(client: Client) -> None:
    transaction_id = crash_primary(client, Stage.PENDING)
    status, document = known(client, transaction_id)
    assert (status, document["success"], document["balances"]) == ("ROLLED_BACK", False, [])
    assert client.pair.until(lambda: client.pair.b.find(transaction_id), "b has the record") == document
    executed_once(client, transaction_id, replayed=False)


@pytest.mark.parametrize("stage", sample(SEED, [one for one in PRIMARY_STAGES if one is not Stage.PENDING], 2))
def test_C1_C3_C4_primary_dies_at_each_stage_of_a_transfer(client: Client, stage: Stage) -> None:
    transaction_id = crash_primary(client, stage)
    begun = stage is not Stage.RECEIVED
    assert known(client, transaction_id)[0] == ("COMMITTED" if begun else None)
    executed_once(client, transaction_id, replayed=begun)


@pytest.mark.parametrize("stage", sample(SEED, list(BACKUP_STAGES), 1))
def test_C5_backup_dies_at_each_stage_of_a_transfer(client: Client, stage: Stage) -> None:
    pair, transaction_id = client.pair, client.new_id(stage)
    client.deposit()
    pair.b.arm(stage)
    answer = client.ask(SPLIT, transaction_id)
    assert answer is not None
    assert answer.status == 200
    pair.b.crashes(stage)
    pair.wait_mode("solo")
    executed_once(client, transaction_id, replayed=True)
    pair.start("b")
    pair.wait_paired()
    executed_once(client, transaction_id, replayed=True)


@pytest.mark.parametrize(("of_primary", "of_backup"), sample(SEED, list(product(PRIMARY_STAGES, BACKUP_STAGES)), 1))
def test_C6_both_die_at_each_stage_of_a_transfer(client: Client, of_primary: Stage, of_backup: Stage) -> None:
    pair, transaction_id = client.pair, client.new_id("both")
    client.deposit()
    pair.a.arm(of_primary)
    pair.b.arm(of_backup)
    sending = Sending(client, transaction_id, asked=SPLIT)
    pair.until(lambda: not (pair.a.alive and pair.b.alive), "one has died")
    pair.a.kill()
    pair.b.kill()
    sending.answer()
    pair.start_both()
    begun = known(client, transaction_id)[0] == "COMMITTED"
    executed_once(client, transaction_id, replayed=begun)


@pytest.mark.parametrize("stage", sample(SEED, [Stage.SYNCED, Stage.EXECUTED, Stage.COMMITTED, Stage.REPLIED], 1))
def test_C4_a_transfer_that_is_refused_stays_refused(client: Client, stage: Stage) -> None:
    pair, transaction_id = client.pair, client.new_id("refused")
    client.deposit()
    pair.a.arm(stage)
    client.ask(TOO_MUCH, transaction_id)
    pair.a.crashes(stage)
    pair.start("a")
    pair.wait_paired()
    answer = client.again(transaction_id)
    assert answer is not None
    assert (answer.status, answer.replayed, answer.document["detail"]) == (404, True, "Account not found (legs[1])")
