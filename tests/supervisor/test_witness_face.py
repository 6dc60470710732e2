"""The witness as a node sees it, while the cluster record's disk is slow."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ftwallet import platform
from ftwallet.replication.register import Decision, Proposal, ProposalKind
from ftwallet.rpc.clients import WitnessClient
from ftwallet.supervisor import control
from ftwallet.witness.bootstrap import CLUSTER_FILE, ensure_cluster
from ftwallet.witness.file import FileWitness
from tests.faults.harness import temporary_root


async def test_the_supervisor_hears_of_a_grant_for_which_the_node_did_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    with temporary_root() as root:
        register = ensure_cluster(root)
        writes = threading.Event()
        whole = platform.write_atomically

        def slow(path: Path, data: bytes) -> None:
            writes.wait(5)
            whole(path, data)

        monkeypatch.setattr(platform, "write_atomically", slow)
        heard: asyncio.Queue[Decision] = asyncio.Queue()
        supervisor: Any = SimpleNamespace(
            config=SimpleNamespace(data_dir=root), decided=lambda _, decision: heard.put_nowait(decision)
        )
        server = await control.serve(supervisor, FileWitness(root / CLUSTER_FILE))
        client = WitnessClient(f"unix:{root / 'supervisor.sock'}", timeout_s=0.2)
        try:
            asked = Proposal(ProposalKind.START, "a", register.in_sync["a"], register.epoch)
            assert await client.propose(asked) is None
            await asyncio.sleep(0.1)  # the call is cancelled on the supervisor's side too
            writes.set()
            decision = await asyncio.wait_for(heard.get(), 5)
            assert (decision.granted, decision.register.epoch) == (True, 1)
        finally:
            writes.set()
            await client.close()
            await server.stop(None)
