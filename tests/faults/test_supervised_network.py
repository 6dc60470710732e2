"""The link between two supervised nodes is cut, held, clogged, or vanishes. Both reach the witness all the time."""

from __future__ import annotations

import time
from functools import partial

import psutil
import pytest

from tests.faults.checker import Client, Sending
from tests.faults.link import Direction, Link
from tests.faults.supervised import Supervised, running_supervised

_SOON_S = 3.0
"""Enough for an ack timeout and the witness's answer, on a busy machine too."""
_MOST_GROWTH = 64 * 1024 * 1024
_STREAM_BYTES_A_SECOND = 50

running = partial(running_supervised, link=True)


def _alone(client: Client, cluster: Supervised) -> None:
    """The next answer is late at most, and given alone; from then on they are at once."""
    pids = [node.pid for node in cluster.nodes.values()]
    began = time.monotonic()
    assert client.deposit().durability == "solo"
    assert time.monotonic() - began < _SOON_S
    assert client.deposit().durability == "solo"
    assert cluster.register().in_sync.keys() == {cluster.leads}
    assert [node.pid for node in cluster.nodes.values()] == pids, "nobody was taken for dead"


def test_N1_the_link_is_cut_and_the_backup_is_refused_until_it_has_caught_up(
    client: Client, cluster: Supervised, link: Link
) -> None:
    link.cut()
    _alone(client, cluster)
    leads = cluster.leads
    cluster.primary.kill()
    cluster.wait_ready()
    assert cluster.leads == leads, "a backup that is not in sync is not promoted"
    assert client.deposit().durability == "solo"
    link.restore()
    cluster.wait_paired()
    assert client.deposit().durability == "replicated"


@pytest.mark.parametrize("direction", Direction)
def test_N3_one_direction_is_held_and_there_are_never_two_writers(
    client: Client, cluster: Supervised, link: Link, direction: Direction
) -> None:
    link.hold(direction)
    leads = cluster.leads
    _alone(client, cluster)
    assert cluster.leads == leads
    states = {name: node.status() for name, node in cluster.nodes.items()}
    assert [name for name, state in states.items() if state is not None and state.role == "primary"] == [leads]
    link.restore()
    cluster.wait_paired()


def test_N4_a_connection_that_vanished_without_a_word_is_ended(client: Client, cluster: Supervised, link: Link) -> None:
    """New connections are as good as ever; so they are paired again only once the lost one has been given up."""
    link.lose()
    _alone(client, cluster)
    cluster.wait_paired()
    assert client.deposit().durability == "replicated"


def test_N6_a_link_of_a_few_bytes_a_second_keeps_queues_bounded_and_ends_in_solo(
    client: Client, cluster: Supervised, link: Link
) -> None:
    process = psutil.Process(cluster.primary.pid)
    memory, files = process.memory_info().rss, process.num_fds()
    link.clog(_STREAM_BYTES_A_SECOND)
    sending = [Sending(client, client.new_id("n6")) for _ in range(20)]
    for one in sending:
        answer = one.answer()
        assert answer is not None
        assert answer.status == 200
    for _ in range(100):
        assert client.deposit().durability == "solo"
    assert process.memory_info().rss - memory < _MOST_GROWTH
    cluster.until(lambda: process.num_fds() <= files + 4, "the clients' connections are closed")
    link.restore()
    cluster.wait_paired()
