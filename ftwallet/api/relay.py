"""Requests that come while the primary's role passes to another node: held, then answered by that node.

A switchover must fail no request, also none that comes by a connection that is kept alive to the old primary. So the
old primary, which answers nothing itself any more, passes such requests on and closes the connection with the answer;
the client's next connection is the new primary's.
"""

from __future__ import annotations

import asyncio
import http.client
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from starlette.types import Receive, Scope, Send

from ftwallet.api import problems
from ftwallet.api.asgi import BodyTooLong, ClientGone, read_body
from ftwallet.api.reply import Header, Reply
from ftwallet.wallet import Unavailable

_AT_ONCE = 32
"""Requests that are passed on at the same time; more wait for their turn, and their own deadlines go on."""

_CLOSE: Final[Header] = (b"connection", b"close")
_OF_ONE_CONNECTION: Final = frozenset(
    {b"connection", b"keep-alive", b"transfer-encoding", b"te", b"trailer", b"upgrade"}
)
_OURS_TO_SET: Final = _OF_ONE_CONNECTION | {b"content-length", b"host"}


class Relay:
    """To the primary at `host` and `port`; a request is answered within `timeout_s` seconds of its arrival.

    It has threads of its own: those of the event loop's default executor are the disk's, which must not wait for a
    primary that does not answer.
    """

    def __init__(self, host: str, port: int, *, timeout_s: float, max_body_bytes: int) -> None:
        self._host = host
        self._port = port
        self._timeout_s = timeout_s
        self._max_body_bytes = max_body_bytes
        self._threads = ThreadPoolExecutor(_AT_ONCE, "relay")
        self._passed: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def decide(self, passed: bool) -> None:
        """The role was passed on, or stays here after all."""
        if not self._passed.done():
            self._passed.set_result(passed)
        if not passed:
            self._threads.shutdown(wait=False)

    @property
    def has_passed(self) -> bool:
        """Whether it is decided that the role is passed on."""
        return self._passed.done() and self._passed.result()

    def deadline(self) -> float:
        """When a request that arrives now is to be answered, by the event loop's clock."""
        return asyncio.get_running_loop().time() + self._timeout_s

    async def passed(self, deadline: float) -> bool:
        """Wait for that decision; a request that waits too long is treated as passed on, and told so."""
        try:
            async with asyncio.timeout_at(deadline):
                return await asyncio.shield(self._passed)
        except TimeoutError:
            return True

    async def answer(self, scope: Scope, receive: Receive, send: Send, deadline: float) -> None:
        """Have the new primary answer one request, and end its connection."""
        try:
            async with asyncio.timeout_at(deadline):
                body = await read_body(scope["headers"], receive, self._max_body_bytes)
            status, headers, content = await self.reply(scope, body, deadline)
        except ClientGone:
            return
        except BodyTooLong:
            status, headers, content = problems.body_too_long(self._max_body_bytes)
        except TimeoutError:
            status, headers, content = self._unavailable()
        await send({"type": "http.response.start", "status": status, "headers": [*headers, _CLOSE]})
        await send({"type": "http.response.body", "body": content})

    async def reply(self, scope: Scope, body: bytes, deadline: float) -> Reply:
        """The new primary's answer to one request; of `scope` only what HTTP itself has is looked at."""
        try:
            async with asyncio.timeout_at(deadline):
                return await self._ask(scope, body, deadline)
        except TimeoutError:
            return self._unavailable()

    async def _ask(self, scope: Scope, body: bytes, deadline: float) -> Reply:
        loop = asyncio.get_running_loop()
        if self._passed.done():
            give_up = time.monotonic() + deadline - loop.time()
            try:
                return await loop.run_in_executor(self._threads, self._exchange, scope, body, give_up)
            except TimeoutError:
                raise
            except (OSError, http.client.HTTPException):
                pass  # what it did with the request is not known: the client's retry will learn it
        return self._unavailable()

    def _unavailable(self) -> Reply:
        return problems.unavailable(
            Unavailable("The primary's role passes to the other node", in_doubt=self._passed.done()), None
        )

    def _exchange(self, scope: Scope, body: bytes, give_up: float) -> Reply:
        left_s = max(give_up - time.monotonic(), 0.001)  # a thread waits for less than a socket's timeout no longer
        connection = http.client.HTTPConnection(self._host, self._port, timeout=left_s)
        try:
            path = scope["raw_path"].decode("latin-1")
            query = scope["query_string"].decode("latin-1")
            headers = {
                name.decode("latin-1"): value.decode("latin-1")
                for name, value in scope["headers"]
                if name not in _OURS_TO_SET
            }
            connection.request(scope["method"], f"{path}?{query}" if query else path, body, headers)
            answer = connection.getresponse()
            kept = [
                (name.lower().encode("latin-1"), value.encode("latin-1"))
                for name, value in answer.getheaders()
                if name.lower().encode("latin-1") not in _OF_ONE_CONNECTION | {b"date"}
            ]
            return answer.status, kept, answer.read()
        finally:
            connection.close()
