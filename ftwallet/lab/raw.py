"""The floor that deposits are measured against: an ASGI function that reads the body and answers a constant.

It runs in a process of its own, on the same event loop and under the same uvicorn as a primary's REST, so what a
deposit costs more than this is what validation, log, replication and ledger cost.

`python -m ftwallet.lab.raw FD PID` serves on the listening socket FD until it is stopped, and ends with its parent PID.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from typing import Final

import uvloop
from starlette.types import Receive, Scope, Send

from ftwallet import platform
from ftwallet.api.server import HttpServer
from ftwallet.node.collector import spare_what_lives

ANSWER: Final = b'{"success":true,"message":"Deposited 1.25","new_balance":123.75,"transaction_id":"0123abcd-1-12345"}'
"""As long as the usual answer to one of the bench's deposits."""

_HEADERS: Final = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(ANSWER))]


async def raw_endpoint(scope: Scope, receive: Receive, send: Send) -> None:
    """Read the whole body, whatever the path, and answer 200."""
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": ANSWER})


async def _serve(listener: socket.socket) -> None:
    server = HttpServer(raw_endpoint)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.handle_exit, signal.SIGTERM, None)
    spare_what_lives()  # as a node does
    await server.serve(sockets=[listener])


def main() -> None:
    """Serve on the descriptor that the command line names."""
    fd, parent_pid = map(int, sys.argv[1:3])
    platform.die_with_parent(parent_pid)
    uvloop.run(_serve(socket.socket(fileno=fd)))


if __name__ == "__main__":
    main()
