"""A supervisor over two fake nodes, in the test's own event loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from ftwallet.config import Config
from ftwallet.errors import ExitCode
from ftwallet.supervisor.events import Event, EventLog, read_events
from ftwallet.supervisor.loop import Supervisor
from ftwallet.supervisor.ports import claim_http
from ftwallet.supervisor.processes import Launch, node_launch
from ftwallet.witness.bootstrap import CLUSTER_FILE, ensure_cluster
from ftwallet.witness.file import FileWitness

FAKE_NODE = Path(__file__).with_name("fake_node.py")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def fake_launch(config: Config, http_fd: int, node: str, role: str) -> Launch:
    return node_launch(config, http_fd, node, role, (sys.executable, str(FAKE_NODE)))


class Cluster:
    """A supervisor that runs, and what a test wants to know of it."""

    def __init__(self, config: Config, supervisor: Supervisor, events: EventLog) -> None:
        self.config = config
        self.supervisor = supervisor
        self.events = events
        self.running: asyncio.Task[ExitCode] | None = None

    def start(self) -> None:
        self.running = asyncio.ensure_future(self.supervisor.run())

    async def until(self, true: Callable[[], bool], timeout_s: float = 10.0) -> None:
        assert await self.supervisor.until(true, timeout_s), self.history()

    async def whole(self) -> None:
        self.start()
        await self.until(lambda: self.supervisor.paired)

    async def stop(self) -> ExitCode:
        assert self.running is not None
        if not self.running.done():
            await self.supervisor.ask(self.supervisor.stop)
        return await self.running

    def behave(self, node: str, behaviour: str) -> None:
        (self.config.node_dir(node) / "behaviour").write_text(behaviour)

    def history(self) -> list[Event]:
        return list(read_events(self.config.data_dir / "events.jsonl"))

    def kinds(self) -> list[str]:
        return [event.kind for event in self.history()]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(
        data_dir=tmp_path / "d",
        http_port=free_port(),
        primary_grpc_port=free_port(),
        backup_grpc_port=free_port(),
        on_primary_death="restart",  # the fake nodes take no promotion; the tests of it say otherwise
        hung_after_s=0.6,
        heartbeat_interval_s=0.1,
        start_timeout_s=5.0,
        stop_timeout_s=1.0,
        restart_backoff_s=0.05,
        restart_backoff_max_s=0.2,
        crash_loop_deaths=3,
    )


@pytest.fixture
async def cluster(config: Config) -> AsyncIterator[Cluster]:
    register = ensure_cluster(config.data_dir)
    (config.data_dir / "logs").mkdir()
    events = EventLog(config.data_dir / "events.jsonl", config.data_dir / "logs" / "supervisor.log")
    listener = claim_http(config)
    supervisor = Supervisor(
        config, register, listener, events, FileWitness(config.data_dir / CLUSTER_FILE), fake_launch
    )
    cluster = Cluster(config, supervisor, events)
    yield cluster
    if cluster.running is not None:
        with contextlib.suppress(Exception):
            await cluster.stop()
    await supervisor.end_all_at_once()
    events.close()
    listener.close()
