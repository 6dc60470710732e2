"""Requests that are passed on in a switchover: answered by the other primary, and always in time."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from ftwallet.api.app import Application, build_app
from ftwallet.api.relay import Relay
from tests.api.stand_ins import MemoryWallet
from tests.api.test_protocol import Connection, request

TIMEOUT_S = 0.6
SLACK_S = 0.5
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


@asynccontextmanager
async def other_primary(answers: bool) -> AsyncIterator[int]:
    """Yield the port of a primary that answers `{}`, or accepts and never answers."""

    conversations: list[Any] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conversations.append(asyncio.current_task())
        with suppress(asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            if answers:
                writer.write(ANSWER)
                await writer.drain()
            else:
                await reader.read()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=500)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        await asyncio.sleep(0.3)  # connections that were given up before they were accepted
        server.close()
        await asyncio.wait_for(asyncio.gather(*conversations), 5)


async def held(port: int) -> tuple[Application, Relay]:
    application = Application()
    relay = Relay("127.0.0.1", port, timeout_s=TIMEOUT_S, max_body_bytes=1000)
    await application.hold(relay, 0.1)
    return application, relay


def _body(after_s: float) -> Callable[[], Awaitable[Any]]:
    async def receive() -> Any:
        await asyncio.sleep(after_s)
        return {"type": "http.request", "body": b"{}", "more_body": False}

    return receive


async def ask(application: Application, body_after_s: float = 0.0) -> tuple[int, float]:
    """Send one request; returns the status and after how many seconds it came."""
    messages: list[Any] = []

    async def send(message: Any) -> None:
        messages.append(message)

    scope = {"type": "http", "method": "POST", "raw_path": b"/deposit", "path": "/deposit", "query_string": b""}
    began = time.monotonic()
    await application({**scope, "headers": [(b"content-length", b"2")]}, _body(body_after_s), send)
    assert (b"connection", b"close") in messages[0]["headers"]
    return messages[0]["status"], time.monotonic() - began


async def test_what_is_held_is_answered_by_the_other_primary_though_the_disk_s_threads_are_busy() -> None:
    over = threading.Event()
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(1))
    busy = loop.run_in_executor(None, over.wait)
    async with other_primary(answers=True) as port:
        application, relay = await held(port)
        asked = asyncio.create_task(ask(application))
        await asyncio.sleep(0.05)
        assert not asked.done()
        relay.decide(True)
        try:
            assert (await asked)[0] == 200
        finally:
            over.set()
            await busy


async def test_waiting_for_the_role_and_for_the_answer_have_one_deadline() -> None:
    async with other_primary(answers=False) as port:
        application, relay = await held(port)
        asked = asyncio.create_task(ask(application))
        await asyncio.sleep(0.8 * TIMEOUT_S)
        relay.decide(True)
        status, took_s = await asked
        assert status == 503
        assert 0.9 * TIMEOUT_S < took_s < 1.5 * TIMEOUT_S


async def test_more_requests_than_threads_are_all_answered_in_time() -> None:
    async with other_primary(answers=False) as port:
        application, relay = await held(port)
        relay.decide(True)
        answered = await asyncio.gather(*(ask(application) for _ in range(100)))
        assert {status for status, _ in answered} == {503}
        assert max(took_s for _, took_s in answered) < TIMEOUT_S + SLACK_S


async def test_a_body_that_never_comes_holds_no_request_for_longer() -> None:
    async with other_primary(answers=True) as port:
        application, relay = await held(port)
        relay.decide(True)
        status, took_s = await ask(application, body_after_s=10 * TIMEOUT_S)
        assert status == 503
        assert took_s < TIMEOUT_S + SLACK_S


@pytest.mark.parametrize("passed", [True, False])
@pytest.mark.parametrize("arrived", ["headers", "all but the last byte", "all"])
async def test_what_has_begun_to_arrive_by_the_short_cut_is_held_as_well(arrived: str, passed: bool) -> None:
    wallet = MemoryWallet()
    async with other_primary(answers=True) as port:
        application = build_app(wallet)
        connection = Connection(application)
        asked = request("/deposit", b'{"account_id": "ann", "amount": 5, "transaction_id": "t1"}')
        cut = {"headers": asked.index(b"{"), "all but the last byte": len(asked) - 1, "all": len(asked)}[arrived]
        connection.send(asked[:cut])
        relay = Relay("127.0.0.1", port, timeout_s=5, max_body_bytes=1000)
        await application.hold(relay, 0.1)  # returns at once: nothing is being answered
        connection.send(asked[cut:])
        await asyncio.sleep(0.05)
        assert not connection.wire.written
        if not passed:
            application.go_on()
        relay.decide(passed)
        got = (await connection.answers())[0]
        assert got.status == 200
        assert connection.wire.closed is passed
        assert wallet.applied_lsn == (0 if passed else 1)
