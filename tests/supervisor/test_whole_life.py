"""One real wallet, by the command line alone: up, broken, verified, stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ftwallet import platform
from tests.supervisor.conftest import free_port

COMMAND = (sys.executable, "-m", "ftwallet")


class CommandLine:
    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.environment = os.environ | {
            "FTWALLET_DATA_DIR": str(data_dir),
            "FTWALLET_HTTP_PORT": str(free_port()),
            "FTWALLET_PRIMARY_GRPC_PORT": str(free_port()),
            "FTWALLET_BACKUP_GRPC_PORT": str(free_port()),
        }

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*COMMAND, *arguments], env=self.environment, capture_output=True, text=True, timeout=60)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        return subprocess.Popen([*COMMAND, *arguments], env=self.environment, stdout=pipe, stderr=pipe, text=True)

    def status(self) -> dict:
        return json.loads(self.run("status", "--json").stdout)


@pytest.fixture
def wallet(tmp_path: Path) -> Iterator[CommandLine]:
    wallet = CommandLine(tmp_path / "d")
    yield wallet
    wallet.run("stop")


def wait_until_gone(pids: list[int], within_s: float = 5.0) -> None:
    give_up = time.monotonic() + within_s
    while time.monotonic() < give_up:
        if not any(alive(pid) for pid in pids):
            return
        time.sleep(0.02)
    raise AssertionError(f"{[pid for pid in pids if alive(pid)]} still live")


def alive(pid: int) -> bool:
    try:
        platform.process_identity(pid)
    except ProcessLookupError:
        return False
    return True


def test_up_break_verify_stop(wallet: CommandLine) -> None:
    up = wallet.run("up", "-d")
    assert (up.returncode, up.stderr) == (0, "")
    assert "FT-Wallet is up: http://127.0.0.1:" in up.stdout
    again = wallet.run("up")
    assert again.returncode == 0
    assert "is up already" in again.stdout

    status = wallet.run("status")
    assert (status.returncode, "\x1b" in status.stdout) == (0, False)
    killed = wallet.run("kill", "primary", "--at", "pending", "--probe", "--json")
    assert killed.returncode == 0, killed.stderr
    story = json.loads(killed.stdout)
    assert (story["stage"], story["role"], story["node"]) == ("pending", "primary", "a")
    assert story["held_when_it_died"] == {"a": True, "b": False}
    assert story["after_recovery"] == "ROLLED_BACK"
    assert {fate["status"] for fate in story["transaction"].values()} == {"COMMITTED"}
    assert story["digests"]["equal"] is True
    assert (story["probe"]["status"], story["probe"]["tries"] > 1) == (200, True)

    verified = wallet.run("verify", "--json")
    assert verified.returncode == 0, verified.stdout
    assert [node["running_agrees"] for node in json.loads(verified.stdout)["nodes"]] == [True, True]

    document = wallet.status()
    pids = [document["supervisor"]["pid"], *(node["pid"] for node in document["nodes"])]
    assert wallet.run("stop").returncode == 0
    assert not any(alive(pid) for pid in pids)
    assert wallet.run("status").returncode == 4
    assert wallet.run("verify").returncode == 0
    assert "Node a (primary)" in wallet.run("events").stdout


def test_C9_nothing_outlives_a_supervisor_that_is_killed_and_up_recovers(wallet: CommandLine) -> None:
    assert wallet.run("up", "-d").returncode == 0
    document = wallet.status()
    supervisor, nodes = document["supervisor"]["pid"], [node["pid"] for node in document["nodes"]]
    assert wallet.run("pause", "backup").returncode == 0
    os.kill(supervisor, signal.SIGKILL)
    wait_until_gone([supervisor, *nodes])
    up = wallet.run("up", "-d")
    assert up.returncode == 0, up.stderr
    assert wallet.status()["mode"] == "paired"


def test_up_in_the_foreground_shows_logs_by_role_and_stops_in_order(wallet: CommandLine) -> None:
    up = wallet.start("up")
    give_up = time.monotonic() + 30
    while wallet.run("status").returncode != 0 and time.monotonic() < give_up:
        time.sleep(0.1)
    up.send_signal(signal.SIGINT)
    output, errors = up.communicate(timeout=30)
    assert (up.returncode, errors) == (0, "")
    assert "Backup server listening on" in output
    assert {line.split(" | ")[0].strip() for line in output.splitlines()} == {"primary", "backup", "supervisor"}
    assert "\x1b" not in output


def test_up_that_gives_up_leaves_nothing_running(wallet: CommandLine) -> None:
    up = wallet.run("up", "-d", "--timeout", "0.3")
    assert up.returncode == 1
    assert up.stderr.startswith("Error: not paired and serving within 0.3 s, everything was stopped again")
    assert wallet.run("status").returncode == 4
