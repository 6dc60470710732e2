"""How long a failover left clients without a primary: told as it was, not as the next heartbeat found it."""

from __future__ import annotations

import signal

import pytest

from ftwallet.config import Config
from ftwallet.supervisor.slots import DeathNote
from tests.supervisor.conftest import Cluster


@pytest.fixture
def config(config: Config) -> Config:
    slow_heart = {"on_primary_death": "promote", "heartbeat_interval_s": 3.0, "hung_after_s": 8.0}
    return config.model_copy(update=slow_heart)


async def test_a_promoted_node_that_is_ready_between_two_heartbeats_is_heard_of_at_once(cluster: Cluster) -> None:
    cluster.behave("b", "slow")
    await cluster.whole()
    await cluster.until(lambda: cluster.supervisor.backup.up)
    supervisor = cluster.supervisor
    await supervisor.ask(lambda: supervisor.fleet.signal(supervisor.primary, signal.SIGKILL, DeathNote.KILL))
    await cluster.until(lambda: supervisor.failovers.last is not None and supervisor.failovers.last.gap_ms is not None)
    assert supervisor.failovers.last is not None
    assert supervisor.failovers.last.gap_ms is not None
    assert 50 < supervisor.failovers.last.gap_ms < 1000
