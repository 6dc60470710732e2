"""Holds while a node dies, at each of its stages: placed, captured, released or expired once, on both nodes.

Each test ends healed and checked by `checker.check`, which replays both logs.
"""

from __future__ import annotations

import time
from itertools import product
from typing import Any

import pytest

from ftwallet.faults.stages import BACKUP_STAGES, PRIMARY_STAGES, Stage
from tests.faults.checker import Client, Request, Sending
from tests.faults.held import AskedCapture, AskedHold, AskedRelease
from tests.faults.supervised import sample

SEED = 20_251_126
STAGES = [*product(["a"], PRIMARY_STAGES), *product(["b"], BACKUP_STAGES)]
HOLD = AskedHold("user123", "4.5")
SOON = AskedHold("user123", "1.75", 2)
EXPIRES = [(node, stage) for node, stage in STAGES if stage is not Stage.REPLIED]  # nobody is told of an expiry


def placed(client: Client, asked: AskedHold = HOLD) -> str:
    client.deposit()
    hold_id = client.new_id("hold")
    answer = client.ask(asked, hold_id)
    assert answer is not None, client.pair.told()
    assert answer.status == 200, answer
    return hold_id


def shown(client: Client, hold_id: str) -> dict[str, Any]:
    answer = client.pair.rest.call("GET", f"/holds/{hold_id}")
    return dict(answer.document) if answer is not None and answer.status == 200 else {}


def dies_and_returns(client: Client, node: str, stage: Stage) -> None:
    pair = client.pair
    pair.nodes[node].crashes(stage)
    if node == "b":
        pair.wait_mode("solo")
    pair.start(node)
    pair.wait_paired()


def done_once(client: Client, asked: Request, node: str, stage: Stage) -> None:
    pair, transaction_id = client.pair, client.new_id(stage)
    pair.nodes[node].arm(stage)
    sending = Sending(client, transaction_id, asked=asked)
    dies_and_returns(client, node, stage)
    sending.answer()
    answer = client.again(transaction_id)
    assert answer is not None, pair.told()
    assert answer.status == 200, answer
    client.answered_again(transaction_id)


@pytest.mark.parametrize(("node", "stage"), sample(SEED, STAGES, 2))
def test_C1_C2_C3_C4_C5_a_node_dies_at_each_stage_of_a_hold(client: Client, node: str, stage: Stage) -> None:
    client.deposit()
    done_once(client, HOLD, node, stage)


@pytest.mark.parametrize(("node", "stage"), sample(SEED + 1, STAGES, 2))
def test_C1_C2_C3_C4_C5_a_node_dies_at_each_stage_of_a_capture(client: Client, node: str, stage: Stage) -> None:
    hold_id = placed(client)
    done_once(client, AskedCapture(hold_id, "user123", "1.25", "shop"), node, stage)
    known = shown(client, hold_id)
    assert (known["status"], known["captured"], known["left"]) == ("open", 1.25, 3.25)


@pytest.mark.parametrize(("node", "stage"), sample(SEED + 2, STAGES, 1))
def test_C1_C2_C3_C4_C5_a_node_dies_at_each_stage_of_a_release(client: Client, node: str, stage: Stage) -> None:
    hold_id = placed(client)
    done_once(client, AskedRelease(hold_id, "user123", "4.5"), node, stage)
    assert shown(client, hold_id)["status"] == "released"


@pytest.mark.parametrize(("node", "stage"), sample(SEED + 3, EXPIRES, 2))
def test_C1_C2_C3_C4_C5_a_node_dies_at_each_stage_of_an_expiry(client: Client, node: str, stage: Stage) -> None:
    hold_id = placed(client, SOON)
    client.pair.nodes[node].arm(stage)
    dies_and_returns(client, node, stage)
    client.pair.until(lambda: shown(client, hold_id).get("status") == "expired", "it has expired")
    client.unasked.append(SOON.given_back)
    refused = client.ask(AskedCapture(hold_id, "user123", "1.75", "shop"), client.new_id("late"))
    assert refused is not None
    assert (refused.status, refused.document["detail"]) == (409, "The hold has expired")


@pytest.mark.parametrize(("of_primary", "of_backup"), sample(SEED, list(product(PRIMARY_STAGES, BACKUP_STAGES)), 1))
def test_C6_both_die_at_each_stage_of_a_capture(client: Client, of_primary: Stage, of_backup: Stage) -> None:
    hold_id, pair, transaction_id = placed(client), client.pair, client.new_id("both")
    pair.a.arm(of_primary)
    pair.b.arm(of_backup)
    sending = Sending(client, transaction_id, asked=AskedCapture(hold_id, "user123", "1.25", "shop"))
    pair.until(lambda: not (pair.a.alive and pair.b.alive), "one has died")
    pair.a.kill()
    pair.b.kill()
    sending.answer()
    pair.start_both()
    answer = client.again(transaction_id)
    assert answer is not None
    assert answer.status == 200


def test_holds_of_more_than_there_is_and_captures_that_race(client: Client) -> None:
    """Six holds of 1,000 on 5,000, and four captures of 600 of one of them."""
    client.deposit("5000", account_id="racer")
    holds = [client.new_id("race") for _ in range(6)]
    placing = [Sending(client, hold_id, asked=AskedHold("racer", "1000")) for hold_id in holds]
    statuses = {sending.transaction_id: _status(sending) for sending in placing}
    assert sorted(statuses.values()) == [200] * 5 + [400]
    refused = next(hold_id for hold_id, status in statuses.items() if status == 400)
    late = client.ask(AskedCapture(refused, "racer", "1000", "shop"), client.new_id("rejected"))
    assert late is not None
    assert late.status == 404
    hold_id = next(one for one in holds if one != refused)
    captures = [
        Sending(client, client.new_id("capture"), asked=AskedCapture(hold_id, "racer", "600", "shop")) for _ in range(4)
    ]
    assert sorted(_status(one) for one in captures) == [200, 400, 400, 400]


def _status(sending: Sending) -> int:
    answer = sending.answer()
    assert answer is not None
    return answer.status


def test_a_hold_expires_at_its_time(client: Client) -> None:
    began = time.monotonic()
    hold_id = placed(client, SOON)
    client.pair.until(lambda: shown(client, hold_id).get("status") == "expired", "it has expired")
    client.unasked.append(SOON.given_back)
    assert time.monotonic() - began >= SOON.expires_in_s
