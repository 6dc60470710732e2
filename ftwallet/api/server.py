"""The HTTP server under the application: uvicorn on uvloop and httptools, stopped by its node and not by signals."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from ftwallet import platform
from ftwallet.api.protocol import Direct, WalletProtocol
from ftwallet.errors import ExitCode, Refused

_BACKLOG = 2048


class HttpServer(uvicorn.Server):
    """Serves until `should_exit` is set; `stopped` is set when it has ended."""

    def __init__(self, app: ASGIApp) -> None:
        config = uvicorn.Config(
            app,
            loop="none",
            http=WalletProtocol if isinstance(app, Direct) else "httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # nothing here depends on who asks
            timeout_graceful_shutdown=2,  # uvicorn waits for open connections without end unless told
            timeout_keep_alive=75,
        )
        super().__init__(config)
        self.stopped = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take no signals: the node stops this server in its own order."""
        yield

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve on listening sockets."""
        try:
            await super().serve(sockets)
        finally:
            self.stopped.set()

    def stop_accepting(self) -> None:
        """Leave new connections to whoever else listens on the same socket; those that stand go on."""
        for server in self.servers:
            server.close()

    @property
    def connections(self) -> int:
        """How many connections stand."""
        return len(self.server_state.connections)


def open_listener(host: str, port: int, inherited_fd: int | None) -> socket.socket:
    """The listening socket: the supervisor's, or our own. Raises Refused when the port is taken."""
    if inherited_fd is not None:
        return socket.socket(fileno=inherited_fd)
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise _unbound(host, port, error) from None
    listener.listen(_BACKLOG)
    listener.setblocking(False)
    return listener


def _unbound(host: str, port: int, error: OSError) -> Refused:
    if error.errno != errno.EADDRINUSE:
        return Refused(f"{host}:{port} cannot be listened on: {error.strerror}")
    holder = platform.port_holder(port) or "a process that cannot be seen from here"
    return Refused(f"{host}:{port} is taken by {holder}: stop that, or set http_port", ExitCode.PORT_TAKEN)
