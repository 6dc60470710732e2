"""The hot path: an ASGI function in front of FastAPI that serves the calls worth a detour around its routing.

Routing in FastAPI costs more than all else that Python does for a request, so POST to a hot path goes straight from the
server to its handler; everything else is passed on. Most of them do not even come here: `protocol.py` takes what is
plain before it is ASGI. FastAPI declares the same calls over the same handlers (`app.py`).
A body longer than the limit is refused before it is parsed, by its Content-Length or while it streams in; the server
throws away what still comes, so that the client can finish sending and read the answer.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Mapping
from typing import NamedTuple

from starlette.types import ASGIApp, Receive, Scope, Send

from ftwallet.api import problems
from ftwallet.api.decode import Headers
from ftwallet.api.handlers import Handler
from ftwallet.api.reply import Reply
from ftwallet.errors import ClientError

_log = logging.getLogger(__name__)


class BodyTooLong(ClientError):
    """The request's body is over the limit."""


class ClientGone(ClientError):
    """The client disconnected in the middle of its body: nothing was asked, and nobody waits for an answer."""


class Hot(NamedTuple):
    """A call of the hot path and the longest body that it takes."""

    handler: Handler
    max_body_bytes: int


def with_hot_path(rest: ASGIApp, hot: Mapping[str, Hot]) -> ASGIApp:
    """Serve POST to the paths of `hot` from their handlers, and everything else from `rest`."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] not in hot:
            await rest(scope, receive, send)
            return
        handler, max_body_bytes = hot[scope["path"]]
        reply = await answered(handler, scope["headers"], receive, max_body_bytes)
        if reply is not None:
            status, headers, body = reply
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": body})

    return app


async def answered(handler: Handler, headers: Headers, receive: Receive, max_body_bytes: int) -> Reply | None:
    """Read the body and ask the handler; None when the client went away before its body was whole."""
    try:
        return await handler(headers, await read_body(headers, receive, max_body_bytes))
    except ClientGone:
        return None
    except BodyTooLong:
        return problems.body_too_long(max_body_bytes)
    except Exception:
        return _bug()


async def guarded(call: Awaitable[Reply]) -> Reply:
    """The reply of a call without a body; a bug becomes a problem document, and the connection lives on."""
    try:
        return await call
    except Exception:
        return _bug()


def _bug() -> Reply:
    _log.exception("A request ended in an internal error")
    return problems.internal_error()


async def read_body(headers: Headers, receive: Receive, limit: int) -> bytes:
    """Read a body of at most `limit` bytes; raises BodyTooLong or ClientGone."""
    for name, value in headers:
        if name == b"content-length" and int(value) > limit:
            raise BodyTooLong
    message = await receive()
    body: bytes = message.get("body", b"")
    if message["type"] == "http.request" and not message.get("more_body") and len(body) <= limit:
        return body
    parts = bytearray(body)
    while True:
        if message["type"] == "http.disconnect":
            raise ClientGone
        if len(parts) > limit:
            raise BodyTooLong
        if not message.get("more_body"):
            return bytes(parts)
        message = await receive()
        parts += message.get("body", b"")
