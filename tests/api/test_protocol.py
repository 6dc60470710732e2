"""The server's short cut to the hot path: answers as FastAPI gives them, and who it is not for takes uvicorn's way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable

import pytest
import uvicorn
from uvicorn.server import ServerState

from ftwallet.api.app import Application, build_app
from ftwallet.api.protocol import WalletProtocol
from ftwallet.wallet import Unavailable
from tests.api.cases import GOOD, MAX_BODY, movement
from tests.api.hot_requests import hot_requests
from tests.api.stand_ins import Got, MemoryWallet, ask

DATE = (b"date", b"Tue, 24 Nov 2026 12:00:00 GMT")


class Wire(asyncio.Transport):
    """The client's end of one connection: what was written to it, and whether it was closed."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.writes = 0
        self.closed = False
        self.paused = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)
        self.writes += 1

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def get_extra_info(self, name: str, default: object = None) -> object:
        return default

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


class Connection:
    """A protocol over a wire, without sockets."""

    def __init__(self, app: Application, timeout_keep_alive: int = 75) -> None:
        config = uvicorn.Config(app, lifespan="off", ws="none", log_config=None, timeout_keep_alive=timeout_keep_alive)
        self.state = ServerState()
        self.state.default_headers = [DATE]
        self.wire = Wire()
        self.protocol = WalletProtocol(config, self.state, {}, asyncio.get_running_loop())
        self.protocol.connection_made(self.wire)

    def send(self, *parts: bytes) -> None:
        for part in parts:
            self.protocol.data_received(part)

    async def until(self, done: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not done():
                await asyncio.sleep(0)

    async def answers(self, count: int = 1) -> list[Got]:
        """So many answers, and nothing else but them; what was written is forgotten then."""
        await self.until(lambda: len(_answers(self.wire.written)) >= count)
        found, self.wire.written = _answers(self.wire.written), b""
        assert len(found) == count
        return found


def _answers(written: bytes) -> list[Got]:
    found = []
    while b"\r\n\r\n" in written:
        head, _, rest = written.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = [(name, value) for name, _, value in (line.partition(": ") for line in lines)]
        length = next(int(value) for name, value in headers if name == "content-length")
        if len(rest) < length:
            break
        found.append(Got(int(first.split()[1]), headers, rest[:length]))
        written = rest[length:]
    return found


def request(path: str, body: bytes, headers: Iterable[tuple[str, str]] = (), version: str = "1.1") -> bytes:
    lines = [f"POST {path} HTTP/{version}", "Host: x", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join([*lines, "\r\n"]).encode("utf-8", "surrogateescape") + body


@pytest.fixture
def app(wallet: MemoryWallet) -> Application:
    return build_app(wallet, max_body_bytes=MAX_BODY)


@pytest.fixture
async def connection(app: Application) -> Connection:
    return Connection(app)


@pytest.fixture
def no_asgi(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object) -> None:
        raise AssertionError("went through ASGI")

    monkeypatch.setattr(WalletProtocol, "_start_asgi_task", unreachable)


async def test_every_case_gets_the_answer_that_fastapi_gives() -> None:
    direct, asgi = MemoryWallet(), MemoryWallet()
    connection = Connection(build_app(direct, max_body_bytes=MAX_BODY))
    app = build_app(asgi, max_body_bytes=MAX_BODY)
    for number, (path, body, headers) in enumerate(hot_requests()):
        for wallet in (direct, asgi):
            wallet.mode = "solo" if number % 3 == 0 else "paired"
            wallet.fault = Unavailable("Too busy", in_doubt=number % 2 == 0) if number % 11 == 0 else None
        connection.send(request(path, body, headers))
        (got,) = await connection.answers()
        there = await ask(app, "POST", path, body, headers)
        assert got.headers[0] == (DATE[0].decode(), DATE[1].decode())
        assert got._replace(headers=got.headers[1:]) == there
    assert direct.applied_lsn == asgi.applied_lsn > 0
    assert direct.ledger.digest == asgi.ledger.digest


@pytest.mark.usefixtures("no_asgi")
@pytest.mark.parametrize(
    "path",
    [
        "/deposit",
        "/withdraw",
        "/transfer",
        "/holds",
        "/holds/a/b/capture",
        "/holds/h1/release",
        "/balance",
        "/transactions",
    ],
)
async def test_a_plain_request_is_answered_in_one_write_and_without_asgi(connection: Connection, path: str) -> None:
    connection.send(request(path, GOOD))
    assert (await connection.answers())[0].status in {200, 404, 422}
    assert connection.wire.writes == 1


@pytest.mark.usefixtures("no_asgi")
async def test_a_request_may_come_byte_by_byte(connection: Connection) -> None:
    whole = request("/deposit", GOOD)
    connection.send(*(whole[at : at + 1] for at in range(len(whole))))
    assert (await connection.answers())[0].status == 200


@pytest.mark.parametrize(
    "request_bytes",
    [
        request("/deposit?x=1", GOOD),
        request("/deposit", GOOD, version="1.0"),
        b"POST /deposit HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(GOOD), GOOD),
        request("/deposit", GOOD, [("Connection", "close")]),
    ],
    ids=["query", "HTTP/1.0", "chunked", "close"],
)
async def test_a_request_that_is_not_plain_is_answered_as_well(connection: Connection, request_bytes: bytes) -> None:
    connection.send(request_bytes)
    (got,) = await connection.answers()
    assert (got.status, json.loads(got.body)["success"]) == (200, True)


async def test_a_client_that_wants_to_be_asked_is_asked(connection: Connection) -> None:
    head, _, body = request("/deposit", GOOD, [("Expect", "100-continue")]).partition(b"\r\n\r\n")
    connection.send(head + b"\r\n\r\n")
    await connection.until(lambda: bool(connection.wire.written))
    assert connection.wire.written == b"HTTP/1.1 100 Continue\r\n\r\n"
    connection.wire.written = b""
    connection.send(body)
    assert (await connection.answers())[0].status == 200


async def test_the_connection_ends_with_the_answer_when_the_client_asks_for_that(connection: Connection) -> None:
    connection.send(request("/deposit", GOOD, [("Connection", "close")]))
    (got,) = await connection.answers()
    assert got.header("connection") == "close"
    assert connection.wire.closed


async def test_pipelined_requests_are_answered_in_their_order(connection: Connection, wallet: MemoryWallet) -> None:
    wallet.gate = asyncio.Event()
    paths = ["/deposit", "/balance", "/nowhere", "/deposit", "/balance"]
    connection.send(b"".join(request(path, _body(path, at)) for at, path in enumerate(paths)))
    await connection.until(lambda: bool(wallet.under_way))
    assert connection.wire.paused
    wallet.gate.set()
    answers = await connection.answers(len(paths))
    assert [got.status for got in answers] == [200, 200, 404, 200, 200]
    assert json.loads(answers[4].body)["balance"] == 2 * json.loads(answers[1].body)["balance"]
    assert not connection.wire.paused


def _body(path: str, at: int) -> bytes:
    return b'{"account_id":"user123"}' if path == "/balance" else movement(transaction_id=b'"p%d"' % at)


async def test_a_client_that_is_gone_is_sent_nothing(connection: Connection, wallet: MemoryWallet) -> None:
    wallet.gate = asyncio.Event()
    connection.send(request("/deposit", GOOD))
    await connection.until(lambda: bool(wallet.under_way))
    connection.protocol.connection_lost(None)
    wallet.gate.set()
    await connection.until(lambda: not connection.state.tasks)
    assert wallet.applied_lsn == 1
    assert connection.wire.written == b""
    assert not connection.state.connections


async def test_a_server_that_stops_closes_with_the_answer(connection: Connection, wallet: MemoryWallet) -> None:
    wallet.gate = asyncio.Event()
    connection.send(request("/deposit", GOOD))
    await connection.until(lambda: bool(wallet.under_way))
    connection.protocol.shutdown()
    assert not connection.wire.closed
    wallet.gate.set()
    (got,) = await connection.answers()
    assert (got.status, got.header("connection")) == (200, "close")
    assert connection.wire.closed


async def test_an_answer_waits_while_the_client_does_not_read(connection: Connection) -> None:
    connection.protocol.pause_writing()
    connection.send(request("/deposit", GOOD))
    for _ in range(10):
        await asyncio.sleep(0)
    assert connection.wire.written == b""
    connection.protocol.resume_writing()
    assert (await connection.answers())[0].status == 200


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"POST /depo",
        request("/deposit", GOOD)[:-1],
        request("/deposit", GOOD, version="1.0")[:-1],
        b"POST /deposit HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
    ],
    ids=["nothing", "half a line", "half a body", "half a body on the long way", "chunks without an end"],
)
async def test_a_request_that_does_not_come_to_its_end_is_not_waited_for(app: Application, begun: bytes) -> None:
    connection = Connection(app, timeout_keep_alive=1)
    connection.send(begun)
    began = asyncio.get_running_loop().time()
    async with asyncio.timeout(10):
        while not connection.wire.closed:
            await asyncio.sleep(0.02)
    assert asyncio.get_running_loop().time() - began > 0.9


async def test_an_answer_may_take_longer_than_the_keep_alive(app: Application, wallet: MemoryWallet) -> None:
    wallet.gate = asyncio.Event()
    connection = Connection(app, timeout_keep_alive=1)
    connection.send(request("/deposit", GOOD))
    await asyncio.sleep(1.5)
    assert not connection.wire.closed
    wallet.gate.set()
    assert (await connection.answers())[0].status == 200


async def test_a_bug_is_a_problem_document_and_the_connection_lives_on(
    connection: Connection, wallet: MemoryWallet
) -> None:
    wallet.fault = RuntimeError("boom")
    connection.send(request("/deposit", GOOD))
    (got,) = await connection.answers()
    assert (got.status, json.loads(got.body)["title"]) == (500, "Internal error")
    wallet.fault = None
    connection.send(request("/deposit", GOOD))
    assert (await connection.answers())[0].status == 200
