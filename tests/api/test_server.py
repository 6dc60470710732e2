"""Over a real uvicorn with httptools: what depends on how the server and the application share a connection."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator

import pytest
import uvicorn

from ftwallet.api.app import build_app
from ftwallet.api.server import HttpServer
from tests.api.cases import GOOD
from tests.api.stand_ins import MemoryWallet

LIMIT = 16_384


@pytest.fixture(params=["short cut", "ASGI alone"])
async def port(wallet: MemoryWallet, request: pytest.FixtureRequest) -> AsyncIterator[int]:
    listener = socket.create_server(("127.0.0.1", 0))
    app = build_app(wallet, max_body_bytes=LIMIT)
    if request.param == "short cut":
        server: uvicorn.Server = HttpServer(app)
    else:
        server = uvicorn.Server(
            uvicorn.Config(app, http="httptools", lifespan="off", log_config=None, ws="none", server_header=False)
        )
    serving = asyncio.create_task(server.serve([listener]))
    while not server.started:
        await asyncio.sleep(0.01)
    yield listener.getsockname()[1]
    server.should_exit = True
    await serving


class Connection:
    """One keep-alive connection; requests are written as bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def response(self) -> tuple[int, bytes]:
        head = await self.reader.readuntil(b"\r\n\r\n")
        lines = head.decode().lower().split("\r\n")
        length = next(int(line.split(":")[1]) for line in lines if line.startswith("content-length:"))
        return int(lines[0].split()[1]), await self.reader.readexactly(length)

    async def post(self, path: str, *parts: bytes, headers: str = "") -> tuple[int, bytes]:
        length = sum(map(len, parts))
        self.writer.write(f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n{headers}\r\n".encode())
        for part in parts:
            self.writer.write(part)
            await self.writer.drain()
        return await self.response()


@pytest.fixture
async def connection(port: int) -> AsyncIterator[Connection]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    yield Connection(reader, writer)
    writer.close()
    await writer.wait_closed()


async def test_a2_a_body_over_the_limit_is_answered_and_the_connection_lives_on(
    connection: Connection, wallet: MemoryWallet
) -> None:
    for size in (LIMIT + 1, 3_000_000):
        status, body = await connection.post("/deposit", b"[" * size)
        assert (status, json.loads(body)["status"]) == (413, 413)
    assert wallet.applied_lsn == 0
    assert (await connection.post("/deposit", GOOD))[0] == 200


async def test_a2_a_streamed_body_over_the_limit_is_answered_before_its_end(connection: Connection) -> None:
    head = b"POST /deposit HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    connection.writer.write(head + b"4001\r\n" + b"[" * 0x4001 + b"\r\n")
    assert (await connection.response())[0] == 413
    connection.writer.write(b"0\r\n\r\n")
    assert (await connection.post("/deposit", GOOD))[0] == 200


async def test_a2_a_client_that_asks_first_is_refused_before_it_sends(connection: Connection) -> None:
    head = f"POST /deposit HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: {LIMIT + 1}\r\n\r\n"
    connection.writer.write(head.encode())
    assert (await connection.response())[0] == 413


async def test_k3_clients_that_hang_up_in_their_bodies_leave_nothing(port: int, wallet: MemoryWallet) -> None:
    before = len(asyncio.all_tasks())
    for cut in (0, 10, len(GOOD) - 1):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /deposit HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(GOOD) + GOOD[:cut])
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.close()
        await writer.wait_closed()
    async with asyncio.timeout(5):
        while len(asyncio.all_tasks()) > before:
            await asyncio.sleep(0.01)
    assert wallet.applied_lsn == 0


async def test_k3_a_client_that_gives_up_finds_the_outcome_under_its_id(
    port: int, connection: Connection, wallet: MemoryWallet
) -> None:
    wallet.gate = asyncio.Event()
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST /deposit HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(GOOD) + GOOD)
    async with asyncio.timeout(5):
        while not wallet.under_way:
            await asyncio.sleep(0.01)
    writer.close()
    await writer.wait_closed()
    wallet.gate.set()
    status, body = await connection.post("/deposit", GOOD)
    assert (status, json.loads(body)["new_balance"]) == (200, 1000.5)
    assert wallet.applied_lsn == 1


async def test_a_bug_in_a_read_is_a_problem_document_too(
    connection: Connection, wallet: MemoryWallet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(transaction_id: str) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr(wallet, "find", broken)
    connection.writer.write(b"GET /transactions/t1 HTTP/1.1\r\nhost: x\r\n\r\n")
    status, body = await connection.response()
    assert (status, json.loads(body)["title"]) == (500, "Internal error")
    assert (await connection.post("/deposit", GOOD))[0] == 200


async def test_the_wire_has_the_contracts_headers(connection: Connection) -> None:
    connection.writer.write(b"POST /deposit HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(GOOD) + GOOD)
    head = (await connection.reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
    assert head[0] == "http/1.1 200 ok"
    assert {"ftwallet-lsn: 1", "ftwallet-epoch: 3", "ftwallet-durability: replicated"} <= set(head)


async def test_head_has_the_headers_of_get_and_no_body(connection: Connection) -> None:
    connection.writer.write(b"HEAD /health HTTP/1.1\r\nhost: x\r\n\r\n")
    head = await connection.reader.readuntil(b"\r\n\r\n")
    assert b"content-length: 20" in head
    assert (await connection.post("/deposit", GOOD))[0] == 200
