"""The loop over two fake nodes, which are real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest

from ftwallet.errors import ExitCode, Refused
from ftwallet.supervisor import commands, documents
from ftwallet.supervisor.order import Order
from ftwallet.supervisor.slots import Phase
from ftwallet.supervisor.story import Story
from tests.supervisor.conftest import Cluster

STATUS_KEYS = ["schema", "cluster_id", "epoch", "mode", "in_sync", "ready", "supervisor", "nodes", "last_failover"]
NODE_KEYS = [
    *("node", "role", "state", "pid", "http", "grpc", "first_lsn", "durable_lsn", "commit_lsn", "digest"),
    *("restarts", "uptime_s", "rss_bytes", "cpu_percent", "promotable", "reason"),
]


def pid(cluster: Cluster, node: str) -> int:
    run = cluster.supervisor.slots[node].run
    assert run is not None
    return run.child.pid


async def test_the_backup_is_up_before_the_primary_is_started(cluster: Cluster) -> None:
    await cluster.whole()
    await cluster.stop()
    cluster.events.close()
    told = [(event.kind, event.node) for event in cluster.history()]
    assert told.index(("node-up", "b")) < told.index(("node-started", "a"))


async def test_a_backup_that_does_not_come_up_does_not_keep_the_primary_from_serving(cluster: Cluster) -> None:
    cluster.behave("b", "exit 71 bad byte")
    cluster.start()
    await cluster.until(lambda: cluster.supervisor.ready)
    assert cluster.supervisor.backup.phase is Phase.FAILED
    assert cluster.supervisor.backup.runs == 1
    assert cluster.supervisor.backup.reason == "bad byte"


async def test_status_has_exactly_the_keys_of_the_contract(cluster: Cluster) -> None:
    await cluster.whole()
    status = documents.status(cluster.supervisor)
    assert list(status) == STATUS_KEYS
    assert list(status["supervisor"]) == ["pid", "uptime_s", "control", "dashboard"]
    assert [list(node) for node in status["nodes"]] == [NODE_KEYS, NODE_KEYS]
    assert (status["mode"], status["ready"], status["in_sync"]) == ("paired", True, ["a", "b"])
    first, second = status["nodes"]
    assert (first["role"], first["state"], first["http"]) == ("primary", "serving", documents.http_url(cluster.config))
    assert (second["role"], second["state"], second["http"]) == ("backup", "in-sync", None)
    assert (second["durable_lsn"], second["digest"]) == (7, "00" * 32)


async def test_a_killed_node_is_started_again_at_once(cluster: Cluster) -> None:
    await cluster.whole()
    for node in ("a", "b", "a"):
        killed = pid(cluster, node)
        os.kill(killed, signal.SIGKILL)
        slot = cluster.supervisor.slots[node]
        await cluster.until(lambda slot=slot, killed=killed: slot.up and slot.run.child.pid != killed)
    assert [slot.restarts for slot in cluster.supervisor.slots.values()] == [2, 1]
    assert "node-backoff" not in cluster.kinds()


async def test_C10_a_crash_loop_ends_in_failed_and_the_other_node_goes_on(cluster: Cluster) -> None:
    cluster.behave("b", "die")
    cluster.start()
    await cluster.until(lambda: cluster.supervisor.backup.phase is Phase.FAILED)
    assert cluster.supervisor.backup.runs == 3
    assert "3 times in a row before it was ready" in cluster.supervisor.backup.reason
    await cluster.until(lambda: cluster.supervisor.ready)
    nodes = {node["node"]: node for node in documents.status(cluster.supervisor)["nodes"]}
    assert (nodes["b"]["role"], nodes["b"]["state"], nodes["b"]["pid"]) == ("down", "failed", None)


async def test_I3_a_taken_port_is_named_and_tried_again(cluster: Cluster) -> None:
    cluster.behave("b", "exit 75 taken")
    cluster.start()
    await cluster.until(lambda: cluster.supervisor.backup.runs >= 5)
    assert f"port {cluster.config.backup_grpc_port}" in cluster.supervisor.backup.reason
    cluster.behave("b", "")
    await cluster.until(lambda: cluster.supervisor.backup.up)


async def test_G1_a_hung_primary_is_killed_and_started_again(cluster: Cluster) -> None:
    await cluster.whole()
    hung = pid(cluster, "a")
    began = time.monotonic()
    document = await commands.signal_node(cluster.supervisor, "primary", signal.SIGSTOP)
    assert "taken for hung" in document["sentence"]
    await cluster.until(lambda: not cluster.supervisor.ready)
    assert 0.5 < time.monotonic() - began < 3
    await cluster.until(lambda: cluster.supervisor.ready and pid(cluster, "a") != hung)
    assert cluster.supervisor.service.last_gap_s > 0.6


async def test_a_hung_backup_is_killed_unless_it_was_paused_on_purpose(cluster: Cluster) -> None:
    await cluster.whole()
    paused = pid(cluster, "b")
    await commands.signal_node(cluster.supervisor, "backup", signal.SIGSTOP)
    await asyncio.sleep(2 * cluster.config.hung_after_s)  # what must not happen gives no sign when it has not
    assert pid(cluster, "b") == paused
    assert documents.status(cluster.supervisor)["nodes"][1]["state"] == "down"
    document = await commands.signal_node(cluster.supervisor, "backup", signal.SIGCONT)
    assert document["sentence"].endswith(f"pid {paused}")
    await cluster.until(lambda: documents.status(cluster.supervisor)["nodes"][1]["state"] == "in-sync")
    assert pid(cluster, "b") == paused
    document = await commands.signal_node(cluster.supervisor, "backup", signal.SIGCONT)
    assert document["sentence"].endswith("; it was not paused")
    os.kill(paused, signal.SIGSTOP)
    await cluster.until(lambda: cluster.supervisor.backup.up and pid(cluster, "b") != paused)


async def test_a_node_that_never_answers_is_killed_after_the_start_timeout(cluster: Cluster) -> None:
    cluster.supervisor.config = cluster.config.model_copy(update={"start_timeout_s": 1.0})
    cluster.behave("b", "mute")
    cluster.start()
    await cluster.until(lambda: cluster.supervisor.backup.early_deaths == 1)
    assert cluster.supervisor.backup.ending.code == -signal.SIGKILL


async def test_an_orderly_stop_takes_the_primary_first(cluster: Cluster) -> None:
    await cluster.whole()
    assert await cluster.stop() is ExitCode.OK
    cluster.events.close()
    stopped = [event.node for event in cluster.history() if event.kind == "node-stopped"]
    assert stopped == ["a", "b"]
    assert all(slot.phase is Phase.STOPPED for slot in cluster.supervisor.slots.values())


async def test_a_paused_node_hears_the_orderly_stop(cluster: Cluster) -> None:
    await cluster.whole()
    await commands.signal_node(cluster.supervisor, "backup", signal.SIGSTOP)
    began = time.monotonic()
    assert await cluster.stop() is ExitCode.OK
    assert time.monotonic() - began < 0.9  # not by the time-out
    assert cluster.supervisor.backup.ending.code == 0


async def test_a_node_that_does_not_hear_the_stop_is_killed_after_the_timeout(cluster: Cluster) -> None:
    cluster.behave("b", "deaf")
    await cluster.whole()
    assert await cluster.stop() is ExitCode.OK
    assert cluster.supervisor.backup.ending.code == -signal.SIGKILL


async def test_the_first_signal_stops_in_order_the_second_at_once(cluster: Cluster) -> None:
    cluster.behave("a", "deaf")
    await cluster.whole()
    os.kill(os.getpid(), signal.SIGINT)
    await cluster.until(lambda: cluster.supervisor.stopping)
    os.kill(os.getpid(), signal.SIGINT)
    assert await cluster.running is ExitCode.INTERRUPTED
    assert cluster.supervisor.cut_short == ["node a (primary)", "node b (backup)"]
    await cluster.supervisor.end_all_at_once()
    assert cluster.supervisor.all_ended


async def test_restart_is_orderly_and_revives_a_failed_node(cluster: Cluster) -> None:
    await cluster.whole()
    document = await commands.restart(cluster.supervisor, "backup")
    assert (document["node"], document["pid"]) == ("b", pid(cluster, "b"))
    assert cluster.supervisor.backup.ending.code == 0
    cluster.behave("a", "exit 71 bad byte")
    with pytest.raises(Refused, match="did not come back: bad byte"):
        await commands.restart(cluster.supervisor, "primary")
    cluster.behave("a", "")
    await commands.restart(cluster.supervisor, "a")
    assert cluster.supervisor.ready


async def test_kill_tells_who_was_restarted_and_how_long_it_took(cluster: Cluster) -> None:
    await cluster.whole()
    order = Order("primary", "", 1, signal.SIGKILL, no_wait=False, probe=False, timeout_s=5.0)
    steps = [step async for step in Story(cluster.supervisor, order).tell()]
    assert [step["step"] for step in steps] == ["killed", "died", "restarted", "story"]
    story = steps[-1]
    assert (story["node"], story["role"], story["death"]) == ("a", "primary", "killed by SIGKILL")
    assert story["digests"] == {"lsn": 7, "equal": True}
    assert 0 < story["gap_s"] <= story["restart_s"] + 0.5
    assert story["ok"]


async def test_an_armed_crash_that_nothing_reaches_is_disarmed(cluster: Cluster) -> None:
    await cluster.whole()
    order = Order("backup", "acked", 1, signal.SIGKILL, no_wait=False, probe=False, timeout_s=0.3)
    story = Story(cluster.supervisor, order).tell()
    assert (await anext(story))["step"] == "armed"
    assert "curl -X POST" in (await anext(story))["sentence"]
    with pytest.raises(Refused, match=r"no new transaction reached acked .* within 0\.3 s, so it was disarmed"):
        await anext(story)
    await cluster.stop()
    cluster.events.close()
    assert "disarmed" in cluster.kinds()


async def test_a_stage_of_the_other_role_is_refused(cluster: Cluster) -> None:
    await cluster.whole()
    order = Order("primary", "acked", 1, signal.SIGKILL, no_wait=True, probe=False, timeout_s=1.0)
    with pytest.raises(Refused, match="a primary has no stage acked"):
        await anext(Story(cluster.supervisor, order).tell())


async def test_what_has_no_process_cannot_be_killed_or_paused(cluster: Cluster) -> None:
    cluster.behave("b", "exit 71 bad byte")
    cluster.start()
    await cluster.until(lambda: cluster.supervisor.ready)
    order = Order("backup", "", 1, signal.SIGKILL, no_wait=True, probe=False, timeout_s=1.0)
    with pytest.raises(Refused, match=r"node b is failed and has no process to kill \(bad byte\)"):
        Story(cluster.supervisor, order)
    with pytest.raises(Refused, match="has no process"):
        await commands.signal_node(cluster.supervisor, "b", signal.SIGSTOP)


async def test_without_a_primary_for_a_second_the_supervisor_answers_503(cluster: Cluster) -> None:
    await cluster.whole()
    cluster.behave("a", "exit 71 bad byte")
    began = time.monotonic()
    os.kill(pid(cluster, "a"), signal.SIGKILL)
    await cluster.until(lambda: cluster.supervisor.primary.phase is Phase.FAILED)
    reader, writer = await asyncio.open_connection(cluster.config.http_host, cluster.config.http_port)
    writer.write(b"GET /health HTTP/1.1\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    assert answer.startswith(b"HTTP/1.1 503")
    assert time.monotonic() - began > 0.9  # it waited first, in the socket's backlog
    assert documents.status(cluster.supervisor)["mode"] is None
