"""Answers 503 on the REST port while nobody is primary, on the listening socket that the primary inherits.

For the first second clients just wait in the socket's backlog; then they are told, with Retry-After, so that none of
them waits without end. `Connection: close` sends each of them back to the backlog, and so to the next primary.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from http import HTTPStatus

from ftwallet.api.answers import INITIALIZING
from ftwallet.api.problems import ProblemType, problem
from ftwallet.api.reply import JSON, framed
from ftwallet.supervisor.ports import BACKLOG

_RETRY_AFTER_S = 1
_REQUEST_DEADLINE_S = 2.0  # for a client to have sent its request; it is answered anyway
_LONGEST_HEAD = 65_536
_LONGEST_BODY = 1 << 20  # bytes read away, so that the answer is not lost to a reset connection
_CHUNK = 65_536
_DETAIL = "No primary is serving right now; retrying with the same transaction_id is safe"


class StandIn:
    """A small HTTP server that knows one answer."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._server: asyncio.Server | None = None

    @property
    def standing_in(self) -> bool:
        """Whether it accepts now."""
        return self._server is not None

    async def begin(self) -> None:
        """Start to accept; again does nothing."""
        if self._server is None:
            # The backlog is the socket's own, and so the next primary's too: it must not shrink to asyncio's default.
            self._server = await asyncio.start_server(
                self._serve, sock=self._listener.dup(), limit=_LONGEST_HEAD, backlog=BACKLOG
            )

    def end(self) -> None:
        """Stop to accept, at once; those that were accepted are answered still."""
        server, self._server = self._server, None
        if server is not None:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = b""
        try:
            with contextlib.suppress(TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                async with asyncio.timeout(_REQUEST_DEADLINE_S):
                    head = await reader.readuntil(b"\r\n\r\n")
                    await _read_away(reader, _body_length(head))
            writer.write(answer(head))
            await writer.drain()
        except ConnectionError:
            pass  # the client has gone; there is nobody to tell
        finally:
            writer.close()


def answer(head: bytes) -> bytes:
    """Return the whole answer to a request with this head."""
    if head.startswith((b"GET /health ", b"HEAD /health ")):
        reply = framed(503, JSON, INITIALIZING, [(b"retry-after", b"%d" % _RETRY_AFTER_S)])
    else:
        reply = problem(ProblemType.UNAVAILABLE, _DETAIL, retry_after=_RETRY_AFTER_S)
    status, headers, body = reply
    lines = [b"%s: %s" % header for header in [*headers, (b"connection", b"close")]]
    start = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}".encode()
    return b"\r\n".join([start, *lines, b"", b"" if head.startswith(b"HEAD ") else body])


def _body_length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length" and value.strip().isdigit():
            return min(int(value), _LONGEST_BODY)
    return 0


async def _read_away(reader: asyncio.StreamReader, length: int) -> None:
    while length > 0:
        chunk = await reader.read(min(length, _CHUNK))
        if not chunk:
            return
        length -= len(chunk)
