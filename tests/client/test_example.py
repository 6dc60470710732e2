"""The example tells its story to the end, and says in a sentence what is missing when nothing listens."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.client.conftest import Handler, ScriptedServer, Step

ROOT = Path(__file__).parent.parent.parent


def run_example(url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "example_client.py", url], cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=60
    )


def answered(new_balance: str, message: str, **headers: str) -> Step:
    body = {"success": True, "message": message, "new_balance": float(new_balance), "transaction_id": "t"}
    return lambda handler: handler.send(200, json.dumps(body), **headers)


def healthy(handler: Handler) -> None:
    handler.send(200, '{"status":"healthy"}')


def balance(handler: Handler) -> None:
    handler.send(200, '{"success":true,"balance":749.5,"message":"Balance retrieved"}')


def insufficient(handler: Handler) -> None:
    handler.send(400, '{"status":400,"detail":"Insufficient balance"}')


def transferred(handler: Handler) -> None:
    balances = [{"account_id": "user123", "new_balance": 650.0}, {"account_id": "user456", "new_balance": 99.5}]
    body = {"success": True, "message": "Transferred 99.5", "balances": balances, "transaction_id": "t"}
    handler.send(200, json.dumps(body), FTWallet_LSN="3", FTWallet_Durability="replicated")


def test_the_story_is_told_to_its_end(server: ScriptedServer) -> None:
    server.script = [
        healthy,
        answered("1000.0", "Deposited 1000.0", FTWallet_LSN="1", FTWallet_Durability="replicated"),
        answered("749.5", "Withdrew 250.5", FTWallet_LSN="2", FTWallet_Durability="replicated"),
        balance,
        insufficient,
        answered("749.5", "Withdrew 250.5", FTWallet_LSN="2", Idempotent_Replayed="true"),
        balance,
        transferred,
    ]
    run = run_example(server.url)
    assert (run.returncode, run.stderr) == (0, "")
    for words in (
        "is healthy.",
        "Deposited 1000.0; the balance is 1000.0",
        "lsn 1, replicated",
        "Withdrew 250.5; the balance is 749.5",
        "the balance of user123 is 749.5",
        "refused: Insufficient balance (HTTP 400); nothing moved",
        "(the answer of the first time)",
        "Transferred 99.5; user123 has 650.0, user456 has 99.5",
    ):
        assert words in run.stdout
    assert '"amount":750.5' in server.seen[4].body
    assert server.seen[2].body == server.seen[5].body


def test_without_a_wallet_one_sentence_says_how_to_start_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    run = run_example(url)
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr == f"no wallet answers at {url}: nothing listens there. Start one with: ftwallet-run up\n"
