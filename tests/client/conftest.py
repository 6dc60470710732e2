"""A tiny HTTP server that answers as a script says: the ways in which a network and a server misbehave."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import pytest

Step = Callable[["Handler"], None]
"""What is done with one request, after it has been read."""


class Seen(NamedTuple):
    """One request as it arrived."""

    path: str
    body: str

    @property
    def transaction_id(self) -> str:
        return str(json.loads(self.body)["transaction_id"])


class Handler(BaseHTTPRequestHandler):
    """Read a request, note it, and do the next step of the script; the last step goes on for ever."""

    protocol_version = "HTTP/1.1"
    server: ScriptedServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        self.server.next_step(Seen(self.path, body))(self)

    do_GET = do_POST

    def log_message(self, format: str, *arguments: Any) -> None:
        """Keep standard error clean."""

    def send(self, status: int, body: str, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())


class ScriptedServer(ThreadingHTTPServer):
    """Listens on a free port of 127.0.0.1. `release` ends what hangs."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list[Step] = []
        self.seen: list[Seen] = []
        self.release = threading.Event()
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def next_step(self, seen: Seen) -> Step:
        with self._lock:
            self.seen.append(seen)
            return self.script.pop(0) if len(self.script) > 1 else self.script[0]

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that gave up is what some of the tests are about."""


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    server = ScriptedServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.release.set()
    server.shutdown()
    thread.join()
    server.server_close()
