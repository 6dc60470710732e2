"""The peer of the bench keeps the contract on a real PostgreSQL: a faster one that does not would be no comparison."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from typing import Any

import psutil
import pytest

from ftwallet.config import Config
from ftwallet.errors import Refused
from ftwallet.lab import processes
from ftwallet.lab.batches import BatchTemplate, has_batches
from ftwallet.lab.pair import temporary_directory
from ftwallet.lab.peer import postgres as servers
from ftwallet.lab.peer import suite
from ftwallet.lab.peer.batch import Operation, work_out
from ftwallet.lab.peer.schema import DEPOSIT, WITHDRAW, Verdict
from ftwallet.lab.peer.server import Peer, Rows, problems, temporary_peer
from ftwallet.lab.peer.store import Asked, Recorded
from ftwallet.lab.plan import Plan
from tests.lab.test_bench import needs_wrk
from tests.lab.test_bench import place as place


def _installed() -> bool:
    try:
        servers.find_programs()
    except Refused:
        return False
    return True


needs_postgres = pytest.mark.skipif(
    not _installed(), reason="PostgreSQL is not installed, which the bench compares with: apt install postgresql"
)


@pytest.fixture(scope="module")
def peer() -> Iterator[Peer]:
    # The socket's path must be short, and another user must be able to reach it.
    with tempfile.TemporaryDirectory(prefix="ftw-") as path, temporary_peer(Path(path) / "peer") as peer:
        yield peer


def ask(peer: Peer, path: str, **body: Any) -> tuple[int, dict[str, Any], bool]:
    connection = http.client.HTTPConnection(processes.HOST, peer.port, timeout=30)
    try:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, json.loads(response.read()), response.getheader("Idempotent-Replayed") == "true"
    finally:
        connection.close()


def operation(kind: str, account_id: str, amount: float, transaction_id: str) -> dict[str, Any]:
    return {"kind": kind, "account_id": account_id, "amount": amount, "transaction_id": transaction_id}


def batch(peer: Peer, *operations: dict[str, Any]) -> dict[str, Any]:
    status, answer, _ = ask(peer, "/transactions", mode="independent", reply="compact", operations=operations)
    assert status == HTTPStatus.OK
    return answer


@needs_postgres
def test_the_peer_commits_on_both_servers_before_it_answers(peer: Peer) -> None:
    assert peer.postgres.query("SELECT application_name, sync_state FROM pg_stat_replication") == "standby|sync"
    asked = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}
    for name, value in asked.items():
        for port in (servers.PRIMARY_PORT, servers.STANDBY_PORT):
            assert peer.postgres.query(f"SHOW {name}", port) == value


@needs_postgres
def test_a_retry_at_the_peer_has_the_first_answer_and_moves_nothing(peer: Peer) -> None:
    body = {"account_id": "retry", "amount": 1000.5, "transaction_id": "retry-1"}
    first = ask(peer, "/deposit", **body)
    message = {"success": True, "message": "Deposited 1000.5", "new_balance": 1000.5, "transaction_id": "retry-1"}
    assert first == (200, message, False)
    assert ask(peer, "/withdraw", account_id="retry", amount=250.5, transaction_id="retry-2")[0] == 200
    assert ask(peer, "/deposit", **body) == (200, message, True)
    assert ask(peer, "/balance", account_id="retry")[1]["balance"] == 750.0


@needs_postgres
def test_the_peer_refuses_an_id_with_another_body(peer: Peer) -> None:
    body = {"account_id": "other", "amount": 2, "transaction_id": "other-1"}
    assert ask(peer, "/deposit", **body)[0] == 200
    for path, changed in (("/deposit", {"amount": 3}), ("/deposit", {"account_id": "else"}), ("/withdraw", {})):
        status, answer, _ = ask(peer, path, **(body | changed))
        assert status == 422
        assert "different parameters" in answer["detail"]
    assert ask(peer, "/balance", account_id="other")[1]["balance"] == 2.0


@needs_postgres
def test_the_peer_refuses_an_overdraft_for_ever(peer: Peer) -> None:
    assert ask(peer, "/withdraw", account_id="poor", amount=1, transaction_id="poor-1")[:1] == (404,)
    assert ask(peer, "/deposit", account_id="poor", amount=1, transaction_id="poor-2")[0] == 200
    refused = ask(peer, "/withdraw", account_id="poor", amount=1.01, transaction_id="poor-3")
    assert refused == (400, {"detail": "Insufficient balance"}, False)
    assert ask(peer, "/deposit", account_id="poor", amount=5, transaction_id="poor-4")[0] == 200
    assert ask(peer, "/withdraw", account_id="poor", amount=1.01, transaction_id="poor-3") == (*refused[:2], True)
    assert ask(peer, "/withdraw", account_id="poor", amount=1, transaction_id="poor-1")[0] == 404


@needs_postgres
@pytest.mark.parametrize(
    ("amount", "status"), [(0, 400), (-1, 400), (1.234, 400), (10**17, 400), ("1E+99999", 400), ("NaN", 422)]
)
def test_the_peer_refuses_what_is_no_amount(peer: Peer, amount: Any, status: int) -> None:
    assert ask(peer, "/deposit", account_id="bad", amount=amount, transaction_id="bad")[0] == status


@needs_postgres
def test_one_id_from_many_at_once_moves_money_once(peer: Peer) -> None:
    def deposit(_: int) -> tuple[int, dict[str, Any], bool]:
        return ask(peer, "/deposit", account_id="crowd", amount=1, transaction_id="crowd-1")

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(deposit, range(64)))
    assert {(status, answer["new_balance"]) for status, answer, _ in answers} == {(200, 1.0)}
    assert [replayed for *_, replayed in answers].count(False) == 1


@needs_postgres
def test_a_batch_at_the_peer_has_an_outcome_for_each_operation(peer: Peer) -> None:
    operations = [
        operation("withdraw", "set", 1, "set-1"),
        operation("deposit", "set", 5, "set-2"),
        operation("withdraw", "set", 6, "set-3"),
        operation("withdraw", "set", 2, "set-4"),
        operation("deposit", "set", 5, "set-2"),
        operation("deposit", "never", 7, "set-2"),
    ]
    other_body = {"index": 5, "detail": "Transaction id was used with different parameters: account_id"}
    refused = [
        {"index": 0, "detail": "Account not found"},
        {"index": 2, "detail": "Insufficient balance"},
        other_body,
    ]
    assert batch(peer, *operations) == {"done": 2, "replayed": 1, "refused": refused}
    assert batch(peer, *operations) == {"done": 0, "replayed": 3, "refused": refused}
    assert ask(peer, "/balance", account_id="set")[1]["balance"] == 3.0
    assert ask(peer, "/balance", account_id="never")[0] == 404


@needs_postgres
def test_batches_and_single_requests_at_once_lose_no_money(peer: Peer) -> None:
    def work(number: int) -> None:
        if number % 4:
            assert (
                ask(peer, "/deposit", account_id=f"busy-{number % 7}", amount=1, transaction_id=f"b-{number}")[0] == 200
            )
        else:
            ids = [f"b-{number}-{index}" for index in range(50)]
            batch(peer, *(operation("deposit", f"busy-{index % 7}", 1, one) for index, one in enumerate(ids)))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(64)))
    balances = [ask(peer, "/balance", account_id=f"busy-{number}")[1]["balance"] for number in range(7)]
    assert sum(balances) == 48 + 16 * 50


@needs_postgres
def test_the_load_of_batches_is_taken_and_repeats_no_id(peer: Peer) -> None:
    url = f"http://{processes.HOST}:{peer.port}"
    assert has_batches(url)
    load = peer.batches(100, 0.2)
    assert load.operations == 100 * load.batches > 0
    deposits = peer.postgres.query("SELECT count(*) FROM transactions WHERE amount = 125 AND verdict = 0")
    assert int(deposits) == load.operations


def test_bodies_of_batches_differ_in_their_ids_alone() -> None:
    template = BatchTemplate(3)
    first, second = (json.loads(template.body(number))["operations"] for number in (0, 12_345_678))
    ids = {one.pop("transaction_id") for one in (*first, *second)}
    assert len(ids) == 6
    assert first == second


def test_a_batch_is_worked_out_in_order() -> None:
    old = Recorded(True, Asked(DEPOSIT, "a", 1), Verdict.DONE, 1)
    balances = {"a": 10}
    operations = [
        Operation("1", Asked(WITHDRAW, "a", 11)),
        Operation("2", Asked(DEPOSIT, "a", 1)),
        Operation("3", Asked(WITHDRAW, "a", 11)),
        Operation("old", Asked(DEPOSIT, "a", 1)),
        Operation("3", Asked(WITHDRAW, "a", 11)),
    ]
    recorded, new = work_out(operations, {"old": old}, balances)
    verdicts = [Verdict.INSUFFICIENT, Verdict.DONE, Verdict.DONE, Verdict.DONE, Verdict.DONE]
    assert [row.verdict for row in recorded] == verdicts
    assert [row.replayed for row in recorded] == [False, False, False, True, True]
    assert set(new) == {"1", "2", "3"}
    assert balances == {"a": 0}


@pytest.mark.parametrize(
    ("primary", "standby", "complaints"),
    [
        (Rows(10, 1_250, 1_250), Rows(10, 1_250, 1_250), 0),
        (Rows(9, 1_125, 1_125), Rows(9, 1_125, 1_125), 2),
        (Rows(13, 1_625, 1_625), Rows(13, 1_625, 1_625), 2),
        (Rows(10, 1_250, 1_000), Rows(10, 1_250, 1_250), 2),
    ],
    ids=["kept", "lost", "many", "money"],
)
def test_what_the_peers_databases_lack_is_told(primary: Rows, standby: Rows, complaints: int) -> None:
    assert len(problems({"primary": primary, "standby": standby}, answered=10, cut_off=2)) == complaints


@needs_wrk
@needs_postgres
def test_a_short_comparison_is_measured_and_verified(place: Path) -> None:
    place.chmod(0o711)
    with temporary_directory(place) as directory:
        found = suite.measure(Plan("wrk", directory, Config(), seconds=1, rounds=1, connections=(2,), warm_up_s=0))
    assert found.ok, found.lines
    assert not list(place.iterdir())
    (line,) = found.document["lines"]
    assert line["rate_ratio"] > 0
    assert line["p50_ratio"] > 0
    for side in ("ours", "peer"):
        assert not any(line[side]["errors"].values())
        assert found.document["verified"][side]["ok"]
    assert set(line["peer"]["cpu_percent"]) == {"server", "databases", "wrk"}
    assert found.document["batches"]["peer"]["operations_per_s"] > 0


@needs_wrk
@needs_postgres
def test_an_interrupted_comparison_leaves_nothing(place: Path) -> None:
    place.chmod(0o711)
    command = [sys.executable, "-P", "-m", "ftwallet", "bench", "--suite", "peer", "--data-dir", str(place / "data")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as bench:
        assert bench.stderr is not None
        assert "Warming up" in bench.stderr.readline()
        bench.send_signal(signal.SIGINT)
        bench.communicate(timeout=60)
    assert bench.returncode != 0
    assert not list(place.iterdir())
    mine = [one.pid for one in psutil.process_iter(["cmdline"]) if str(place) in " ".join(one.info["cmdline"] or ())]
    assert mine == []


def test_without_postgresql_one_sentence_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(servers, "_DEBIAN", tmp_path)
    with pytest.raises(Refused, match="apt install postgresql"):
        servers.find_programs()


@needs_postgres
def test_a_place_whose_socket_would_have_too_long_a_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="107"), temporary_peer(tmp_path / ("d" * 100)):
        pass
