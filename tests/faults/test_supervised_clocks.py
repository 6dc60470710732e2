"""Supervisor and nodes while the wall clock of their machine jumps; what they measure with does not."""

from __future__ import annotations

import time
from functools import partial
from itertools import pairwise

import pytest

from ftwallet.supervisor.events import EVENTS_FILE, read_events
from tests.faults.checker import Client
from tests.faults.supervised import HUNG_AFTER_S, Supervised, loaded, running_supervised

_DAY_S = 86_400.0

running = partial(running_supervised, clock=True)


@pytest.mark.parametrize("ahead_s", [_DAY_S, -_DAY_S])
def test_T1_the_wall_clock_jumps_a_day_and_nobody_is_taken_for_dead(
    client: Client, cluster: Supervised, ahead_s: float
) -> None:
    began = time.monotonic()
    epoch, pids = cluster.register().epoch, [node.pid for node in cluster.nodes.values()]
    load = loaded(client)
    load.until(10)
    cluster.set_clock(ahead_s)
    while time.monotonic() - began < 2 * HUNG_AFTER_S:
        assert client.deposit().durability == "replicated"
    load.stop()
    assert cluster.register().epoch == epoch
    assert [node.pid for node in cluster.nodes.values()] == pids
    _never_back(client, cluster)


@pytest.mark.parametrize("ahead_s", [_DAY_S, -_DAY_S])
def test_T1_times_never_go_back_when_primaries_die_before_and_after_the_clock_is_put_right(
    client: Client, cluster: Supervised, ahead_s: float
) -> None:
    for shown_s in (ahead_s, 0.0):
        cluster.set_clock(shown_s)
        heir = cluster.backup.name
        cluster.primary.kill()
        cluster.wait_paired()
        assert cluster.leads == heir
        client.deposit()
    _never_back(client, cluster)


def _never_back(client: Client, cluster: Supervised) -> None:
    """The records, in the order of the log, and the history of the cluster."""
    records = [record for transaction_id in client.asked if (record := client.known(transaction_id))]
    records.sort(key=lambda record: record["lsn"])
    assert len(records) == len(client.asked)
    for earlier, later in pairwise(records):
        assert earlier["time"] <= later["time"], f"lsn {later['lsn']} is before lsn {earlier['lsn']}"
    events = list(read_events(cluster.data_dir / EVENTS_FILE))
    assert [event.at for event in events] == sorted(event.at for event in events)
