"""Who returns first after several deaths, and what `ftwallet-run up` makes of what a dead supervisor has left."""

from __future__ import annotations

import time
from functools import partial

import pytest

from tests.faults.checker import Client
from tests.faults.supervised import Attached, Supervised, gone, loaded, running_supervised

_ALONE = 10
_WHILE_S = 1.5
"""Longer than the supervisor takes to replace a primary."""
_HELD_S = 60.0

running = partial(running_supervised, hung_after_s=_HELD_S)


def _killed_and_held(cluster: Supervised, node: Attached) -> None:
    """Kill a node, and stop its next process before it can be of any use."""
    dead = node.kill()
    cluster.until(lambda: node.pid not in (None, dead), "the supervisor starts it again")
    node.pause()


def test_O2_the_old_primary_that_returns_first_does_not_lead(client: Client, cluster: Supervised) -> None:
    old, heir = cluster.primary, cluster.backup
    _killed_and_held(cluster, old)
    cluster.until(lambda: cluster.leads == heir.name, "the backup is promoted")
    cluster.wait_ready()
    alone = [client.new_id("alone") for _ in range(_ALONE)]
    for transaction_id in alone:
        assert client.deposit(transaction_id=transaction_id).durability == "solo"
    _killed_and_held(cluster, heir)
    old.resume()
    cluster.wait_up(old.name)
    began = time.monotonic()
    while time.monotonic() - began < _WHILE_S:
        answer = client.again(alone[0])
        assert answer is None or answer.status == 503, "somebody leads who lacks what was answered alone"
    status = old.status()
    assert status is not None
    assert status.role == "backup"
    assert cluster.register().in_sync.keys() == {heir.name}
    heir.resume()
    cluster.wait_paired()
    assert cluster.leads == heir.name
    for transaction_id in alone:
        client.answered_again(transaction_id)


@pytest.mark.parametrize("held", [None, "primary", "backup"])
def test_C9_up_after_the_supervisor_was_killed_under_load(
    client: Client, cluster: Supervised, held: str | None
) -> None:
    acknowledged = client.new_id("before")
    client.deposit(transaction_id=acknowledged)
    load = loaded(client)
    load.until(20)
    assert cluster.supervisor is not None
    assert "ftwallet-run" in " ".join(map(str, cluster.supervisor.args)), "it is what an operator starts"
    pids = [pid for node in cluster.nodes.values() if (pid := node.pid)]
    if held is not None:
        getattr(cluster, held).pause()
    cluster.supervisor.kill()
    cluster.supervisor.wait()
    cluster.start_supervisor()  # at once, as a service manager does: what is left has no time to go by itself
    cluster.until(lambda: all(gone(pid) for pid in pids), f"no orphan of {pids} is left")
    cluster.wait_paired()
    load.until(20)
    load.stop()
    client.answered_again(acknowledged)
