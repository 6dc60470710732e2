from __future__ import annotations

import asyncio
import json
import socket
import struct
import sys
from collections.abc import AsyncIterator

import pytest

from ftwallet.supervisor.ports import BACKLOG
from ftwallet.supervisor.stand_in import StandIn


@pytest.fixture
async def listener() -> AsyncIterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield listener


async def ask(listener: socket.socket, request: bytes) -> tuple[dict[str, str], bytes]:
    reader, writer = await asyncio.open_connection(*listener.getsockname())
    writer.write(request)
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    start, *lines = head.decode().split("\r\n")
    assert start == "HTTP/1.1 503 Service Unavailable"
    return dict(line.split(": ", 1) for line in lines), body


async def test_without_a_primary_the_answer_is_503_with_retry_after(listener: socket.socket) -> None:
    stand_in = StandIn(listener)
    await stand_in.begin()
    body = b'{"account_id":"u","amount":1,"transaction_id":"t"}'
    request = b"POST /deposit HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    headers, answer = await ask(listener, request)
    assert headers["retry-after"] == "1"
    assert headers["connection"] == "close"
    assert headers["content-type"] == "application/problem+json"
    problem = json.loads(answer)
    assert (problem["status"], problem["retry_after"]) == (503, 1)
    assert "same transaction_id" in problem["detail"]
    stand_in.end()


async def test_health_says_initializing(listener: socket.socket) -> None:
    stand_in = StandIn(listener)
    await stand_in.begin()
    headers, answer = await ask(listener, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer == b'{"status":"initializing"}'
    headers, answer = await ask(listener, b"HEAD /health HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (headers["content-length"], answer) == ("25", b"")
    stand_in.end()


@pytest.mark.parametrize("request_", [b"\r\n\r\n", b"nonsense", b"x" * 100_000])
async def test_what_is_no_request_is_answered_too(listener: socket.socket, request_: bytes) -> None:
    stand_in = StandIn(listener)
    await stand_in.begin()
    headers, _ = await ask(listener, request_)
    assert headers["connection"] == "close"
    stand_in.end()


async def test_after_its_end_the_next_primary_gets_the_connections(listener: socket.socket) -> None:
    stand_in = StandIn(listener)
    await stand_in.begin()
    await ask(listener, b"GET / HTTP/1.1\r\n\r\n")
    stand_in.end()
    assert not stand_in.standing_in
    _, writer = await asyncio.open_connection(*listener.getsockname())
    accepted, _ = await asyncio.wait_for(asyncio.get_running_loop().sock_accept(listener), 5)
    accepted.close()
    writer.close()
    await stand_in.begin()
    await ask(listener, b"GET / HTTP/1.1\r\n\r\n")
    stand_in.end()


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel for the length of the queue")
async def test_it_leaves_the_queue_of_waiting_connections_as_long_as_it_was(listener: socket.socket) -> None:
    listener.listen(BACKLOG)
    before = _longest_queue(listener)
    stand_in = StandIn(listener)
    await stand_in.begin()
    stand_in.end()
    assert _longest_queue(listener) == before > 100


def _longest_queue(listener: socket.socket) -> int:
    """`tcpi_sacked`, which for a listening socket is the length of its accept queue at most."""
    return int(struct.unpack_from("=8x6I", listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32))[5])
