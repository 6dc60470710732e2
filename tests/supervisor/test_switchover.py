"""`switchover`: real processes, clients that keep their connections, and not one failed request."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
import requests

from ftwallet.rpc.sockets import SUPERVISOR_SOCKET, open_blocking_channel
from ftwallet.rpc.v1.control_pb2 import SwitchoverRequest
from ftwallet.rpc.v1.control_pb2_grpc import SupervisorStub
from tests.supervisor.test_promotion import Wallet
from tests.supervisor.test_whole_life import wait_until_gone

CLIENTS = 8


@pytest.fixture
def wallet(tmp_path: Path) -> Iterator[Wallet]:
    wallet = Wallet(tmp_path / "d")
    up = wallet.run("up", "-d")
    assert up.returncode == 0, up.stderr
    try:
        yield wallet
    finally:
        wallet.run("stop")


class Load:
    """Deposits of 1.00 by connections that are kept alive; whatever is not a 200 is a failure."""

    def __init__(self, wallet: Wallet) -> None:
        self._url = wallet.url
        self._over = threading.Event()
        self.failures: list[str] = []
        self.answered = [0] * CLIENTS
        self._threads = [threading.Thread(target=self._client, args=(number,)) for number in range(CLIENTS)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        time.sleep(0.5)
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _client(self, number: int) -> None:
        with requests.Session() as session:
            while not self._over.is_set():
                body = {
                    "account_id": f"user{number}",
                    "amount": 1,
                    "transaction_id": f"{number}-{self.answered[number]}",
                }
                try:
                    answer = session.post(f"{self._url}/deposit", json=body, timeout=10)
                except requests.RequestException as error:
                    self.failures.append(repr(error))
                    return
                if answer.status_code != 200:
                    self.failures.append(answer.text)
                    return
                self.answered[number] += 1


def test_a_switchover_fails_no_request_and_loses_nothing(wallet: Wallet) -> None:
    with Load(wallet) as load:
        for old, new in (("a", "b"), ("b", "a")):
            switched = wallet.run("switchover", "--json")
            assert switched.returncode == 0, switched.stderr
            document = json.loads(switched.stdout)
            assert (document["from"], document["to"]) == (old, new)
            assert wallet.roles() == {new: "primary", old: "backup"}
            assert wallet.status()["last_failover"]["cause"] == "switchover"
    assert load.failures == []
    for number, answered in enumerate(load.answered):
        balance = requests.post(f"{wallet.url}/balance", json={"account_id": f"user{number}"}, timeout=10).json()
        assert balance["balance"] == answered
    wallet.agrees()


def test_a_request_by_an_old_connection_is_answered_by_the_new_primary(wallet: Wallet) -> None:
    with requests.Session() as session:
        first = session.post(f"{wallet.url}/deposit", json={"account_id": "u", "amount": 1, "transaction_id": "t1"})
        held: list[requests.Response] = []

        def ask() -> None:
            for number in range(200):
                body = {"account_id": "u", "amount": 1, "transaction_id": f"held-{number}"}
                held.append(session.post(f"{wallet.url}/deposit", json=body, timeout=10))

        asking = threading.Thread(target=ask)
        asking.start()
        assert wallet.run("switchover").returncode == 0
        asking.join()
    assert {answer.status_code for answer in held} == {200}
    closing = [answer for answer in held if answer.headers.get("connection") == "close"]
    assert len(closing) <= 1
    epochs = [int(answer.headers["ftwallet-epoch"]) for answer in (first, *held)]
    assert epochs == sorted(epochs)


def test_a_switchover_to_a_backup_that_is_not_in_sync_is_refused_and_serving_goes_on(wallet: Wallet) -> None:
    assert wallet.run("pause", "backup").returncode == 0
    assert wallet.retried("t1").status_code == 200
    switched = wallet.run("switchover")
    assert switched.returncode == 1
    assert "the roles stay as they are: node b" in switched.stderr
    assert wallet.roles()["a"] == "primary"
    assert wallet.retried("t2").status_code == 200
    assert wallet.run("resume", "backup").returncode == 0
    wallet.agrees()


@pytest.mark.parametrize("victim", ["a", "b"])
def test_O3_a_node_that_dies_in_a_switchover_costs_nothing_that_was_answered(wallet: Wallet, victim: str) -> None:
    assert wallet.retried("before").status_code == 200
    pid = next(node["pid"] for node in wallet.status()["nodes"] if node["node"] == victim)
    os.kill(pid, signal.SIGSTOP)  # so that it is sure to be in the middle of it
    switching = wallet.start("switchover")
    time.sleep(0.3)
    os.kill(pid, signal.SIGKILL)
    try:
        switching.communicate(timeout=30)
    except subprocess.TimeoutExpired:
        pytest.fail(f"{wallet.status()}\n{wallet.run('events').stdout}\n{wallet.run('logs').stdout[-3000:]}")
    assert wallet.retried("after").status_code == 200
    assert wallet.retried("before").headers["Idempotent-Replayed"] == "true"
    wallet.agrees()


def test_C9_a_supervisor_that_dies_in_a_switchover_leaves_a_cluster_that_up_finishes(wallet: Wallet) -> None:
    assert wallet.retried("before").status_code == 200
    nodes = {node["node"]: node["pid"] for node in wallet.status()["nodes"]}
    os.kill(nodes["b"], signal.SIGSTOP)  # the primary has resigned, the witness has recorded, nobody leads
    switching = wallet.start("switchover")
    time.sleep(0.3)
    supervisor = wallet.status()["supervisor"]["pid"]
    os.kill(supervisor, signal.SIGKILL)
    switching.communicate(timeout=30)
    wait_until_gone([supervisor, *nodes.values()])
    up = wallet.run("up", "-d")
    assert up.returncode == 0, up.stderr
    assert wallet.retried("before").headers["Idempotent-Replayed"] == "true"
    wallet.agrees()


@pytest.mark.parametrize("after_s", [0.005, 0.03, 0.1, 0.4])
def test_a_switchover_whose_caller_goes_away_is_finished_all_the_same(wallet: Wallet, after_s: float) -> None:
    assert wallet.retried("before").status_code == 200
    with open_blocking_channel(wallet.data_dir / SUPERVISOR_SOCKET) as channel, pytest.raises(grpc.RpcError):
        SupervisorStub(channel).Switchover(SwitchoverRequest(), timeout=after_s)
    assert wallet.retried("after").status_code == 200
    wallet.until(mode="paired")
    assert sorted(wallet.roles().values()) == ["backup", "primary"]
    wallet.agrees()
