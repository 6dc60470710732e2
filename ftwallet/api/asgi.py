"""From ASGI to a handler and back: the body, within its limit, and whatever the handler does as a reply.

A body longer than the limit is refused before it is parsed, by its Content-Length or while it streams in; the server
throws away what still comes, so that the client can finish sending and read the answer.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable

from starlette.types import Receive

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


async def answered(handler: Handler, headers: Headers, receive: Receive, max_body_bytes: int) -> Reply | None:
    """Read the body and ask the handler; None when the client went away before its body was whole."""
    try:
        body = await read_body(headers, receive, max_body_bytes)
    except ClientGone:
        return None
    except BodyTooLong:
        return problems.body_too_long(max_body_bytes)
    return await guarded(handler(headers, body))


async def guarded(call: Awaitable[Reply]) -> Reply:
    """The reply of a call; a bug becomes a problem document, and the connection lives on."""
    try:
        return await call
    except Exception:
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
