"""One HTTP connection: uvicorn's protocol, with a short cut for the calls of the hot path.

For every request uvicorn builds an ASGI scope, an event, and a cycle of messages, which cost more than all that a
wallet does for a deposit. A request that is plain (POST to a hot path, HTTP/1.1, its length declared and within the
limit, nothing pipelined before it) needs none of them: its body goes to the handler, and the reply leaves in one
write. Everything else takes uvicorn's way, through ASGI and FastAPI's routing, to the same handlers (`app.py`).

A request has to arrive whole within the keep-alive time-out: uvicorn alone would wait without end for the rest of one.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, Protocol, runtime_checkable

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from ftwallet.api.handlers import Hot
from ftwallet.api.reply import Reply


@runtime_checkable
class Direct(Protocol):
    """An application that can be asked without ASGI."""

    def direct(self, path: bytes) -> Hot | None:
        """The call that POST to this path is, None where ASGI must be used."""

    @property
    def leaving(self) -> bool:
        """Whether connections are to end with their next answer."""

    async def answer(self, hot: Hot, path: bytes, headers: list[tuple[bytes, bytes]], body: bytes) -> Reply:
        """The reply to one request; raises nothing."""


class _NobodyWaits:
    """In place of the event that wakes an ASGI application: uvicorn sets it when the connection is lost."""

    def set(self) -> None:
        """Wake nobody."""


_NOBODY_WAITS: Final = _NobodyWaits()


class _Exchange:
    """A request on the short cut, and its answer; uvicorn looks at the names that it has in common with its cycle."""

    __slots__ = ("disconnected", "hot", "keep_alive", "message_event", "more_body", "parts", "response_complete")

    def __init__(self, hot: Hot, keep_alive: bool) -> None:
        self.hot = hot
        self.keep_alive = keep_alive
        self.parts: list[bytes] = []
        self.more_body = True
        self.disconnected = False
        self.response_complete = False
        self.message_event = _NOBODY_WAITS


class WalletProtocol(HttpToolsProtocol):
    """See the module. `timeout_keep_alive` seconds may pass without a whole request."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._direct: Direct = config.app  # type: ignore[assignment]
        self._exchange: _Exchange | None = None
        self._waiting_since = 0.0
        self._patience: asyncio.TimerHandle | None = None

    # ---- What arrives

    def on_message_begin(self) -> None:
        """A request begins; its scope is built when it is known to be needed."""
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._exchange = None
        self._waiting_since = self.loop.time()

    def on_headers_complete(self) -> None:
        """The way of this request is decided."""
        hot = self._direct.direct(self.url) if self._is_plain() else None
        if hot is not None and self._body_bytes() <= hot.max_body_bytes:
            self.cycle = self._exchange = _Exchange(hot, self.parser.should_keep_alive())  # type: ignore[assignment]
            return
        url, headers, expect = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expect
        self.headers += headers
        super().on_headers_complete()

    def _is_plain(self) -> bool:
        parser, before = self.parser, self.cycle
        return (
            (before is None or before.response_complete)
            and not self.expect_100_continue
            and parser.get_method() == b"POST"
            and parser.get_http_version() == "1.1"
            and not parser.should_upgrade()
        )

    def _body_bytes(self) -> float:
        """The declared length of the body, infinite where it is not declared."""
        for name, value in self.headers:
            if name == b"content-length":
                return int(value)
        return float("inf")

    def on_body(self, body: bytes) -> None:
        """Some of the body; never more than was declared."""
        exchange = self._exchange
        if exchange is None:
            super().on_body(body)
        else:
            exchange.parts.append(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        exchange = self._exchange
        if exchange is None:
            super().on_message_complete()
            return
        self._exchange = None
        exchange.more_body = False
        task = self.loop.create_task(self._answer(exchange, self.url, self.headers))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    # ---- What leaves

    async def _answer(self, exchange: _Exchange, url: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        status, answer_headers, body = await self._direct.answer(exchange.hot, url, headers, b"".join(exchange.parts))
        if exchange.disconnected:
            return
        if self.flow.write_paused:
            await self.flow.drain()
        if self._direct.leaving:
            exchange.keep_alive = False
        lines = [STATUS_LINE[status]]
        for name, value in self.server_state.default_headers:
            lines += name, b": ", value, b"\r\n"
        for name, value in answer_headers:
            lines += name, b": ", value, b"\r\n"
        lines.append(b"\r\n" if exchange.keep_alive else b"connection: close\r\n\r\n")
        lines.append(body)
        self.transport.write(b"".join(lines))
        exchange.response_complete = True
        if not exchange.keep_alive:
            self.transport.close()
        self.on_response_complete()

    # ---- Patience

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The first request has its time, too."""
        super().connection_made(transport)
        self._waiting_since = self.loop.time()
        self._patience = self.loop.call_later(self.timeout_keep_alive, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody is there any more."""
        super().connection_lost(exc)
        if self._patience is not None:
            self._patience.cancel()

    def on_response_complete(self) -> None:
        """As uvicorn does it, but for its timer: a new one for each response costs more than looking now and then."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self._waiting_since = self.loop.time()
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)

    def _look(self) -> None:
        cycle, left_s = self.cycle, float(self.timeout_keep_alive)
        if cycle is None or cycle.more_body or cycle.response_complete:
            left_s += self._waiting_since - self.loop.time()
        if left_s <= 0:
            self.timeout_keep_alive_handler()
        else:
            self._patience = self.loop.call_later(left_s, self._look)
