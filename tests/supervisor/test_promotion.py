"""Failover: real processes, the primary killed at every stage, and its backup in its place."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.supervisor.test_whole_life import CommandLine

STAGES = ("received", "pending", "synced", "executed", "committed", "replied")


class Wallet(CommandLine):
    def __init__(self, data_dir: Path) -> None:
        super().__init__(data_dir)
        self.url = f"http://127.0.0.1:{self.environment['FTWALLET_HTTP_PORT']}"

    def deposit(self, transaction_id: str, amount: str = "10.5", timeout_s: float = 10.0) -> requests.Response:
        body = {"account_id": "user123", "amount": amount, "transaction_id": transaction_id}
        return requests.post(f"{self.url}/deposit", json=body, timeout=timeout_s)

    def find(self, transaction_id: str) -> dict:
        return requests.get(f"{self.url}/transactions/{transaction_id}", timeout=10).json()

    def retried(self, transaction_id: str, within_s: float = 20.0) -> requests.Response:
        give_up = time.monotonic() + within_s
        while True:
            try:
                answer = self.deposit(transaction_id)
                if answer.status_code == 200:
                    return answer
            except requests.RequestException:
                pass
            assert time.monotonic() < give_up, self.run("events").stdout
            time.sleep(0.02)

    def until(self, **wanted: object) -> dict:
        give_up = time.monotonic() + 20
        while True:
            status = self.status()
            if all(status[key] == value for key, value in wanted.items()):
                return status
            assert time.monotonic() < give_up, f"{status}\n{self.run('events').stdout}"
            time.sleep(0.05)

    def roles(self) -> dict[str, str]:
        return {node["node"]: node["role"] for node in self.status()["nodes"]}

    def agrees(self) -> None:
        self.until(mode="paired")
        verified = self.run("verify")
        assert verified.returncode == 0, verified.stdout


@pytest.fixture
def wallet(tmp_path: Path) -> Iterator[Wallet]:
    wallet = Wallet(tmp_path / "d")
    up = wallet.run("up", "-d")
    assert up.returncode == 0, up.stderr
    yield wallet
    wallet.run("stop")


def test_C4_the_backup_takes_over_from_a_primary_that_dies_at_any_stage(wallet: Wallet) -> None:
    for number, stage in enumerate(STAGES, 1):
        primary, backup = ("a", "b") if number % 2 else ("b", "a")
        assert wallet.run("kill", "primary", "--at", stage, "--no-wait").returncode == 0
        with contextlib.suppress(requests.RequestException):
            wallet.deposit(stage)
        answer = wallet.retried(stage)
        assert answer.json()["new_balance"] == 10.5 * number, stage
        again = wallet.deposit(stage)
        assert (again.status_code, again.content, again.headers["Idempotent-Replayed"]) == (200, answer.content, "true")
        failover = wallet.until(mode="paired")["last_failover"]
        assert (failover["from"], failover["to"]) == (primary, backup)
        assert failover["gap_ms"] > 0
        assert wallet.roles() == {primary: "backup", backup: "primary"}
    wallet.agrees()


def test_C2_a_tail_that_only_the_dead_primary_had_is_kept_and_on_record_as_rolled_back(wallet: Wallet) -> None:
    assert wallet.run("kill", "primary", "--at", "pending", "--no-wait").returncode == 0
    with pytest.raises(requests.RequestException):
        wallet.deposit("lost")
    wallet.agrees()
    assert wallet.find("lost")["status"] == "ROLLED_BACK"
    kept = list((wallet.data_dir / "a" / "quarantine").glob("*/about.json"))
    assert len(kept) == 1
    assert "never answered" in json.loads(kept[0].read_bytes())["why"]
    assert wallet.deposit("lost").json()["new_balance"] == 10.5
    wallet.agrees()


def test_G1_a_hung_primary_is_killed_before_its_backup_is_promoted(wallet: Wallet) -> None:
    assert wallet.deposit("before").status_code == 200
    assert wallet.run("pause", "primary").returncode == 0
    assert wallet.retried("after").json()["new_balance"] == 21.0
    assert wallet.roles()["b"] == "primary"
    events = [json.loads(line)["sentence"] for line in (wallet.data_dir / "events.jsonl").read_text().splitlines()]
    died = next(at for at, sentence in enumerate(events) if "Node a (primary)" in sentence and "died" in sentence)
    promoted = next(at for at, sentence in enumerate(events) if "node b is promoted" in sentence)
    assert died < promoted
    wallet.agrees()


def test_O1_a_backup_that_is_not_in_sync_is_never_promoted(wallet: Wallet) -> None:
    assert wallet.run("pause", "backup").returncode == 0
    assert wallet.retried("alone").headers["FTWallet-Durability"] == "solo"
    assert wallet.run("kill", "primary", "--no-wait").returncode == 0
    assert wallet.retried("alone").headers["Idempotent-Replayed"] == "true"
    assert wallet.roles()["a"] == "primary"
    assert wallet.run("resume", "backup").returncode == 0
    wallet.agrees()


def test_O2_each_takes_over_from_the_other_in_turn(wallet: Wallet) -> None:
    for number in range(4):
        assert wallet.run("kill", "primary").returncode == 0
        assert wallet.retried(f"t{number}").json()["new_balance"] == 10.5 * (number + 1)
        wallet.until(mode="paired")
    assert wallet.roles() == {"a": "primary", "b": "backup"}
    wallet.agrees()


def test_D4_a_primary_with_a_damaged_log_is_replaced_and_rebuilt_as_backup(wallet: Wallet) -> None:
    for number in range(3):
        assert wallet.deposit(f"t{number}").status_code == 200
    assert wallet.run("stop").returncode == 0
    segment = next((wallet.data_dir / "a" / "journal").glob("*.journal"))
    content = bytearray(segment.read_bytes())
    content[content.index(b"t1") + 1] ^= 1
    segment.write_bytes(content)
    for checkpoint in (wallet.data_dir / "a" / "checkpoints").glob("*"):
        checkpoint.unlink()
    up = wallet.run("up", "-d")
    assert up.returncode == 0, up.stderr
    assert wallet.roles() == {"a": "backup", "b": "primary"}
    assert wallet.deposit("t1").headers["Idempotent-Replayed"] == "true"
    assert list((wallet.data_dir / "a" / "quarantine").glob("*-damaged/why.txt"))
    wallet.agrees()


def test_C2_the_story_of_a_kill_tells_the_first_attempt_from_the_retry_on_the_promoted_backup(wallet: Wallet) -> None:
    for number, (stage, backup_had, made) in enumerate(
        [("pending", False, "ROLLED_BACK"), ("synced", True, "COMMITTED"), ("received", False, "UNKNOWN")]
    ):
        killed = wallet.run("kill", "primary", "--at", stage, "--probe", "--json")
        assert killed.returncode == 0, killed.stderr
        story = json.loads(killed.stdout)
        primary, backup = ("b", "a") if number % 2 else ("a", "b")
        assert story["held_when_it_died"] == {primary: stage != "received", backup: backup_had}, stage
        assert story["after_recovery"] == made, stage
        assert story["probe"]["status"] == 200
    wallet.agrees()
