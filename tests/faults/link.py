"""A TCP link that a test can cut, hold in one direction, clog, or let vanish without a word."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from enum import StrEnum

_TICK_S = 0.02
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with a reset, whatever is under way


class Direction(StrEnum):
    """Which way bytes go: from who connects, or to it."""

    THERE = "there"
    BACK = "back"


class _Connection:
    """One connection through the link. `lost`: nothing passes any more, and neither end is told."""

    def __init__(self, link: Link, near: socket.socket, far: socket.socket) -> None:
        self.lost = False
        self.over = False
        self._link = link
        self._near, self._far = near, far
        for source, target, direction in ((near, far, Direction.THERE), (far, near, Direction.BACK)):
            source.settimeout(_TICK_S)
            threading.Thread(target=self._pump, args=(source, target, direction), daemon=True).start()

    def close(self) -> None:
        self.over = True
        for end in (self._near, self._far):
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _pump(self, source: socket.socket, target: socket.socket, direction: Direction) -> None:
        """Bytes that may not pass are not read: they stay in the kernel's buffers, as on a wire that is full."""
        while not self.over:
            size = self._link.allowance(direction)
            if not size or self.lost:
                time.sleep(_TICK_S)
                continue
            try:
                content = source.recv(size)
            except TimeoutError:
                continue
            except OSError:
                content = b""
            while not self.lost and not self.over and content and not self._link.allowance(direction):
                time.sleep(_TICK_S)  # held between the question and the bytes
            if self.lost:
                continue
            if not content:
                self.close()
                return
            try:
                target.setblocking(True)
                target.sendall(content)
                target.settimeout(_TICK_S)
            except OSError:
                self.close()


class Link:
    """Listens on `port` of this machine, and carries every connection on to `target_port`."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._connections: list[_Connection] = []
        self._held: set[Direction] = set()
        self._bytes_a_tick: int | None = None
        self._is_cut = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    # ---- Faults

    def restore(self) -> None:
        """Everything passes; connections that have vanished stay so."""
        self._is_cut, self._bytes_a_tick = False, None
        self._held.clear()

    def cut(self) -> None:
        """Reset every connection, and every new one."""
        self._is_cut = True
        self._close_all()

    def hold(self, direction: Direction) -> None:
        """Nothing passes in one direction."""
        self._held.add(direction)

    def clog(self, bytes_a_second: int) -> None:
        self._bytes_a_tick = max(1, round(bytes_a_second * _TICK_S))

    def lose(self) -> None:
        """The connections of now carry nothing any more, and nobody is told; new ones are as good as ever."""
        for connection in self._connections:
            connection.lost = True

    def close(self) -> None:
        self._listener.close()
        self._close_all()

    # ---- Carrying

    def allowance(self, direction: Direction) -> int:
        """How many bytes may pass now in this direction."""
        if direction in self._held:
            return 0
        if self._bytes_a_tick is None:
            return 65_536
        time.sleep(_TICK_S)
        return self._bytes_a_tick

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                if self._is_cut:
                    raise ConnectionRefusedError
                far = socket.create_connection(("127.0.0.1", self._target_port))
            except OSError:
                near.close()
                continue
            for end in (near, far):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connections.append(_Connection(self, near, far))
            if self._is_cut:
                self._close_all()

    def _close_all(self) -> None:
        while self._connections:
            self._connections.pop().close()


@contextlib.contextmanager
def linked(target_port: int) -> Iterator[Link]:
    with contextlib.closing(Link(target_port)) as link:
        yield link
