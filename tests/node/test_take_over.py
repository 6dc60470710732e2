"""A promoted backup accepts on the REST port when it can answer, and not a moment before."""

from __future__ import annotations

import asyncio
from pathlib import Path

import uvloop

from ftwallet.api.app import Application
from ftwallet.config import Config
from ftwallet.faults.injector import Injector
from ftwallet.node import warmup
from ftwallet.node.outage import Outage
from ftwallet.node.primary import PrimaryNode
from ftwallet.node.storage import open_storage
from ftwallet.replication.register import Register
from ftwallet.witness.bootstrap import ensure_cluster


class Watched(warmup._ScratchPorts):
    """Remembers the node's state whenever REST begins to accept."""

    node: PrimaryNode | None = None

    async def serve_rest(self) -> None:
        assert self.node is not None
        self.states = [*getattr(self, "states", []), self.node.status().state]
        await super().serve_rest()


async def began_to_accept(directory: Path, *, promoted: bool) -> list[str]:
    config = Config(data_dir=directory)
    made = ensure_cluster(config.data_dir)
    alone = Register(made.cluster_id, 1, "a", {"a": made.in_sync["a"]}, {"a": 1})
    storage = open_storage(config.node_dir("a"), config.segment_bytes)
    with warmup._loopback() as listener:
        ports = Watched(Application(), listener)
        injector = Injector(config.node_dir("a"))
        ports.node = node = PrimaryNode(config, storage, alone, warmup._NoWitness(), injector, Outage(), ports)
        await (node.take_over() if promoted else node.start())
        try:
            async with asyncio.timeout(10):
                while not node.status().ready or not hasattr(ports, "states"):
                    await asyncio.sleep(0.01)
                await warmup._send_requests(listener.getsockname()[1])
        finally:
            await ports.leave()
            await node.abandon()
    return ports.states


def test_C4_rest_waits_for_the_wallet_after_a_promotion_so_that_nobody_is_told_to_stay_away(tmp_path: Path) -> None:
    assert uvloop.run(began_to_accept(tmp_path / "d", promoted=True)) == ["serving"]


def test_rest_answers_while_a_started_primary_recovers(tmp_path: Path) -> None:
    assert uvloop.run(began_to_accept(tmp_path / "d", promoted=False)) == ["recovering"]
