"""What happens to a hold at failover: it is there, and whoever leads when its time is over puts that on record."""

from __future__ import annotations

import time
from functools import partial

import pytest

from tests.faults.checker import Client
from tests.faults.held import AskedCapture, AskedHold
from tests.faults.supervised import Supervised, running_supervised
from tests.faults.test_holds import placed, shown

SOON = AskedHold("user123", "2.25", 3)
_DAY_S = 86_400.0
_SOON_S = 2.0  # how much later than its time it may be seen to be open, on a machine that has other work

running = partial(running_supervised, clock=True)


def until_expired(client: Client, hold_id: str) -> None:
    client.pair.until(lambda: shown(client, hold_id).get("status") == "expired", "it has expired")
    client.unasked.append(SOON.given_back)
    late = client.ask(AskedCapture(hold_id, "user123", "2.25", "shop"), client.new_id("late"))
    assert late is not None
    assert (late.status, late.document["detail"]) == (409, "The hold has expired")


def test_C4_a_hold_of_the_primary_that_died_expires_on_the_new_one_in_time(client: Client, cluster: Supervised) -> None:
    leads = cluster.leads
    lasting = placed(client, AskedHold("user123", "1.5"))
    hold_id = placed(client, SOON)
    began = time.monotonic()
    cluster.primary.kill()
    cluster.wait_ready()
    assert cluster.leads != leads
    served_at = time.monotonic() - began
    if served_at < SOON.expires_in_s / 2:
        assert shown(client, hold_id)["status"] == "open"
    until_expired(client, hold_id)
    took = time.monotonic() - began
    assert took <= max(SOON.expires_in_s, served_at) + _SOON_S
    captured = client.ask(AskedCapture(lasting, "user123", "1.5", "shop"), client.new_id("capture"))
    assert captured is not None
    assert captured.status == 200


@pytest.mark.parametrize("ahead_s", [_DAY_S, -_DAY_S])
def test_T1_a_hold_expires_on_a_new_primary_with_another_clock(
    client: Client, cluster: Supervised, ahead_s: float
) -> None:
    """Behind the log, its time goes on at half the speed."""
    hold_id = placed(client, SOON)
    began = time.monotonic()
    cluster.set_clock(ahead_s)
    cluster.primary.kill()
    cluster.wait_ready()
    served_at = time.monotonic() - began
    until_expired(client, hold_id)
    assert time.monotonic() - began <= served_at + 2 * SOON.expires_in_s + _SOON_S
