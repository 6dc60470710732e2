"""Warming a backup's REST application by real requests, so that its first clients do not wait for what is done once.

A primary over a scratch ledger, in a directory of its own that is removed again, serves a few requests on a port of the
loopback: sockets, parser, application, pipeline, journal and answers are all those that a promotion will use; only the
ledger is not. The log stays silent about it.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ftwallet.api.app import Application
from ftwallet.api.server import HttpServer
from ftwallet.config import Config
from ftwallet.errors import DiskFault, Refused
from ftwallet.faults.injector import Injector
from ftwallet.node import logs
from ftwallet.node.outage import Outage
from ftwallet.node.ports import SessionStream, Status
from ftwallet.node.primary import PrimaryNode
from ftwallet.node.storage import open_storage
from ftwallet.replication.register import Decision, Proposal, Register
from ftwallet.wallet import NO_WALLET, Wallet
from ftwallet.witness.bootstrap import ensure_cluster

_DIRECTORY = "warm-up"
_REQUESTS = 40
_WITHIN_S = 5.0
_READY_POLL_S = 0.005


async def warm_up(application: Application, config: Config, node_dir: Path) -> None:
    """Serve some requests of a scratch ledger; whatever goes wrong with that costs only the warmth."""
    scratch = node_dir / _DIRECTORY
    with logs.silence(), suppress(OSError, TimeoutError, DiskFault, Refused):
        await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)  # a crash may have left it
        try:
            async with asyncio.timeout(_WITHIN_S):
                await _serve_scratch(application, config.model_copy(update={"data_dir": scratch}))
        finally:
            application.serve(NO_WALLET)
            await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)


async def _serve_scratch(application: Application, config: Config) -> None:
    made = await asyncio.to_thread(ensure_cluster, config.data_dir)
    alone = Register(made.cluster_id, 1, "a", {"a": made.in_sync["a"]}, {"a": 1})
    storage = await asyncio.to_thread(open_storage, config.node_dir("a"), config.segment_bytes)
    with _loopback() as listener:
        ports = _ScratchPorts(application, listener)
        node = PrimaryNode(config, storage, alone, _NoWitness(), Injector(config.node_dir("a")), Outage(), ports)
        await node.start()
        try:
            while not node.status().ready:
                await asyncio.sleep(_READY_POLL_S)
            await _send_requests(listener.getsockname()[1])
        finally:
            await ports.leave()  # before the socket is closed here, or the server would listen on whatever comes next
            await node.abandon()


@contextmanager
def _loopback() -> Iterator[socket.socket]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)
        yield listener


async def _send_requests(port: int) -> None:
    """Every kind of answer that clients get all the time, by a connection that is kept alive."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for number in range(_REQUESTS):
            for path, body in (
                ("/deposit", f'{{"account_id":"warm","amount":"1","transaction_id":"d{number}"}}'),
                ("/deposit", f'{{"account_id":"warm","amount":"1","transaction_id":"d{number}"}}'),
                ("/withdraw", f'{{"account_id":"warm","amount":"{number}","transaction_id":"w{number}"}}'),
                ("/balance", '{"account_id":"warm"}'),
            ):
                await _ask(reader, writer, f"POST {path}", body)
        await _ask(reader, writer, "GET /health", "")
    finally:
        writer.close()


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, what: str, body: str) -> None:
    headers = f"host: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    writer.write(f"{what} HTTP/1.1\r\n{headers}\r\n\r\n{body}".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    await reader.readexactly(int(length.partition(b":")[2]))


class _ScratchPorts:
    """REST alone: the scratch ledger has no gRPC and no partner."""

    def __init__(self, application: Application, listener: socket.socket) -> None:
        self.partner = _NoPartner()
        self._application = application
        self._listener = listener
        self._http = HttpServer(application)

    def offer(self, wallet: Wallet, status: Status) -> None:
        self._application.serve(wallet)

    async def open_grpc(self) -> None:
        return

    async def serve_rest(self) -> None:
        await self._http.serve(sockets=[self._listener])

    async def serve(self) -> None:
        return

    async def hold(self) -> None:
        return

    def go_on(self) -> None:
        return

    async def pass_on(self) -> None:
        return

    async def leave(self) -> None:
        self._http.should_exit = True
        await self._http.stopped.wait()

    async def close(self) -> None:
        return


class _NoPartner:
    """The scratch ledger's backup, which does not exist."""

    address = "nowhere"

    async def is_serving(self, timeout_s: float) -> bool:
        await asyncio.sleep(timeout_s)
        return False

    def open_stream(self) -> SessionStream:
        raise NotImplementedError("a backup that never serves is never connected to")

    async def reconnect(self) -> None:
        return

    async def close(self) -> None:
        return


class _NoWitness:
    """The scratch ledger's witness: a primary that is alone from the start asks it nothing."""

    async def read(self) -> Register | None:
        return None

    async def propose(self, proposal: Proposal) -> Decision | None:
        return None

    async def close(self) -> None:
        return
