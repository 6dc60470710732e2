"""Processes that hang, output that nobody reads, and clients in the middle of a failover, under the real supervisor."""

from __future__ import annotations

import os
import socket
import time
from functools import partial
from signal import SIGCONT, SIGSTOP

import psutil
import pytest

from ftwallet.faults.stages import Stage
from tests.faults.checker import Asked, Client, Sending
from tests.faults.supervised import HUNG_AFTER_S, Load, Supervised, loaded, running_supervised, sample
from tests.faults.tracing import strace
from tests.faults.wire import movement

SEED = 20_251_124
_SLACK_S = 2.0
_ACK_TIMEOUT_S = 0.3
_STALL_S = 5
_CONNECTIONS = 100

running = partial(running_supervised, ack_timeout_s=_ACK_TIMEOUT_S, request_timeout_s=_STALL_S + _SLACK_S)


def test_G1_a_stopped_primary_that_would_go_on_is_dead_before_its_backup_leads(
    client: Client, cluster: Supervised
) -> None:
    primary, heir = cluster.primary, cluster.backup
    pid = primary.pause()
    sending = Sending(client, client.new_id("g1"))  # into the socket of a process that does not run
    primary.ends(pid)
    cluster.until(lambda: cluster.leads == heir.name, "the backup is promoted")
    sending.answer()
    cluster.wait_paired()


def test_G2_a_stopped_backup_makes_an_answer_late_once_and_is_replaced(client: Client, cluster: Supervised) -> None:
    pid = cluster.backup.pause()
    began = time.monotonic()
    assert client.deposit().durability == "solo"
    assert time.monotonic() - began < _ACK_TIMEOUT_S + _SLACK_S
    cluster.backup.ends(pid)
    cluster.wait_paired()
    assert client.deposit().durability == "replicated"


def test_G3_N2_answers_go_on_while_the_supervisor_is_stopped_but_none_is_given_alone(
    client: Client, cluster: Supervised
) -> None:
    pids = {name: node.pid for name, node in cluster.nodes.items()}
    backup = cluster.backup.name
    assert cluster.supervisor is not None
    cluster.supervisor.send_signal(SIGSTOP)
    began = time.monotonic()
    while time.monotonic() - began < 1.5 * HUNG_AFTER_S:  # longer than a node may be silent
        assert client.deposit().durability == "replicated"
    os.kill(pids[backup], SIGSTOP)
    sending = Sending(client, client.new_id("g3"))
    cluster.until(lambda: cluster.register().in_sync.keys() == {"a", "b"} and sending.waiting, "it waits")
    answer = sending.answer()
    assert answer is not None
    assert answer.status == 503, "it was answered alone, and the witness was asleep"
    assert cluster.register().in_sync.keys() == {"a", "b"}
    os.kill(pids[backup], SIGCONT)
    cluster.supervisor.send_signal(SIGCONT)
    cluster.wait_paired()
    assert {name: node.pid for name, node in cluster.nodes.items()} == pids, "a supervisor that slept calls nobody hung"


@pytest.mark.parametrize("role", ["primary", "backup"])
def test_G4_a_disk_that_takes_5_seconds_to_sync_is_no_death(client: Client, cluster: Supervised, role: str) -> None:
    """A stalled primary answers late; one whose backup stalls answers alone; the supervisor hears all of them."""
    leads, pids = cluster.leads, {name: node.pid for name, node in cluster.nodes.items()}
    answered = client.new_id("g4")
    client.deposit(transaction_id=answered)
    stall = f"inject=fdatasync:delay_enter={_STALL_S}s:when=1"
    late_s = 0.0
    with strace(pids[getattr(cluster, role).name], "-f", "-o", "/dev/null", "-e", "trace=fdatasync", "-e", stall):
        sending, asked = Sending(client, client.new_id("g4")), time.monotonic()
        while time.monotonic() - asked < _STALL_S + 0.5 or sending.waiting:
            client.answered_again(answered)  # asks the ledger, and needs no disk
            late_s = time.monotonic() - asked if sending.waiting else late_s
            time.sleep(0.05)
    answer = sending.answer()
    assert answer is not None
    assert answer.status == 200
    if role == "primary":
        assert late_s > HUNG_AFTER_S, "its disk did not stall"
        assert answer.durability == "replicated"
    else:
        assert late_s < _ACK_TIMEOUT_S + _SLACK_S
        assert answer.durability == "solo"
    cluster.wait_paired()
    assert cluster.leads == leads
    assert {name: node.pid for name, node in cluster.nodes.items()} == pids, "a slow disk was taken for a death"


def test_G5_answers_go_on_when_nobody_reads_the_output(client: Client, cluster: Supervised) -> None:
    """The pipe is full from the beginning: whoever waits for it waits for ever."""
    cluster.stop()
    unread, output = os.pipe()
    try:
        os.set_blocking(output, False)
        _fill(output)
        os.set_blocking(output, True)
        supervisor = cluster.start_supervisor(output)
        cluster.wait_paired()
        assert client.deposit().durability == "replicated"
        cluster.primary.kill()
        cluster.wait_paired()
        assert client.deposit().durability == "replicated"
        cluster.stop()
        assert supervisor.returncode is not None
    finally:
        os.close(unread)
        os.close(output)


def _fill(pipe: int) -> None:
    for size in (4_096, 1):
        while True:
            try:
                os.write(pipe, b"." * size)
            except BlockingIOError:
                break


# ---- Clients


@pytest.mark.parametrize("stage", sample(SEED, [Stage.RECEIVED, Stage.PENDING, Stage.SYNCED, Stage.EXECUTED], 2))
def test_K1_100_connections_send_one_id_through_a_failover(client: Client, cluster: Supervised, stage: Stage) -> None:
    primary, transaction_id = cluster.primary, client.new_id("k1")
    pid, name = primary.pid, cluster.leads
    primary.arm(stage)
    load = Load(client, [[transaction_id]] * _CONNECTIONS)
    primary.ends(pid)
    answers = load.all()
    assert {(answer.status, answer.body) for answer in answers} == {(200, answers[0].body)}
    applied_before = stage in (Stage.SYNCED, Stage.EXECUTED)
    assert sum(not answer.replayed for answer in answers) == (0 if applied_before else 1)
    assert cluster.leads != name
    cluster.wait_paired()


def test_K3_clients_give_up_or_leave_in_their_bodies_during_a_failover(client: Client, cluster: Supervised) -> None:
    ids = [client.new_id("k3") for _ in range(20)]
    halves = [client.new_id("k3") for _ in range(20)]
    client.absent.update(halves)
    load = loaded(client)
    load.until(10)
    pid = cluster.primary.send_signal(SIGSTOP)
    for whole, half in zip(ids[:10], halves[:10], strict=True):  # into the listening socket that outlives the primary
        _leaves(client, cluster, whole, half)
    cluster.primary.ends(pid)
    for whole, half in zip(ids[10:], halves[10:], strict=True):
        _leaves(client, cluster, whole, half)
    load.stop()
    cluster.wait_paired()
    process = psutil.Process(cluster.primary.pid)
    files = process.num_fds()
    for transaction_id in halves:
        assert client.known(transaction_id) is None
    cluster.until(lambda: process.num_fds() <= files, "nothing leaks")


def _leaves(client: Client, cluster: Supervised, whole: str, half: str) -> None:
    """One client sends all of its request and one a half of it; neither waits for an answer."""
    client.asked[whole] = Asked("deposit", "user123", "4.25")
    for transaction_id, part in ((whole, 1.0), (half, 0.5)):
        body = movement("user123", "4.25", transaction_id)
        head = b"POST /deposit HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body)
        with socket.create_connection(("127.0.0.1", cluster.ports["http_port"])) as connection:
            connection.sendall(head + body[: int(len(body) * part)])
