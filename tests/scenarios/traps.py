"""Faults that wait for their moment: one operation of one disk, and messages that come too late."""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.simulation.loop import PROCESS, Killed

if TYPE_CHECKING:
    from tests.simulation.network import Network, Stream
    from tests.simulation.world import SimNode, World

KEPT = 50


class Trap:
    """`before`, `after` or `at`, an operation of `SimDisk`, `of`, a part of the file's path: springs once."""

    def __init__(self, world: World, node: SimNode, where: tuple[str, ...]) -> None:
        self.when, self.operation, _, self.part = where
        self.strike: Callable[[], None] = lambda: None
        self.least = 0  # bytes that a write must have, without the zeros behind them
        self._node = node
        self._world = world
        self._real: Callable[..., Any] = getattr(node.disk, self.operation)
        setattr(node.disk, self.operation, self._operate)

    def fail(self) -> None:
        def strike() -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        self.strike = strike

    def _operate(self, *args: Any) -> Any:
        if not self._is_meant(args):
            return self._real(*args)
        delattr(self._node.disk, self.operation)
        if self.when != "after":
            self._spring()
        done = self._real(*args)
        if self.when == "after":
            self._spring()
        return done

    def _is_meant(self, args: tuple[Any, ...]) -> bool:
        target = args[0] if len(args) == 1 or isinstance(args[0], int) else args[1]
        path = os.readlink(f"/proc/self/fd/{target}") if isinstance(target, int) else str(target)
        below = path.removeprefix(self._node.disk.prefix)
        large = self.operation != "write_all" or len(args[1].rstrip(b"\0")) >= self.least
        return PROCESS.get().name == self._node.name and self.part in below and large

    def _spring(self) -> None:
        self.strike()
        if PROCESS.get().dead:
            raise Killed


class Streams:
    """Every stream's messages, so that those of a session that is over can arrive once more."""

    def __init__(self) -> None:
        self._sent: deque[tuple[Stream, str, Any]] = deque(maxlen=KEPT)
        self._newest: Stream | None = None

    def opened(self, stream: Stream) -> Stream:
        send = stream._send
        self._newest = stream

        def recording(source: str, target: str, end: Any, what: Any, then: Any = None) -> None:
            if then is None and not isinstance(what, BaseException):
                self._sent.append((stream, source, what))
            send(source, target, end, what, then)

        stream._send = recording  # type: ignore[method-assign]
        return stream

    def replay(self, source: str) -> int:
        now = self._newest
        assert now is not None
        end = now._server if source == now.source else now._client
        old = [what for stream, sender, what in self._sent if stream is not now and sender == source]
        for what in old:
            end.put(what)
        return len(old)


def record_streams(network: Network) -> Streams:
    streams, open_stream = Streams(), network.open_stream
    network.open_stream = lambda source, target: streams.opened(open_stream(source, target))  # type: ignore[method-assign]
    return streams
