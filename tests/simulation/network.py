"""The network of the simulated world: what gRPC and TCP would do between the nodes, and what goes wrong with it.

A stream keeps its messages in order and may be late, cut for a while, or broken for good. Who dies by a signal leaves a
reset behind; who loses power leaves nothing, and is noticed by the keepalive alone. The shells on both ends are the
shipped ones: `ReplicationStream` writes into a call of this network, `WalletBackupServicer` reads from it.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections import deque
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any

import grpc.aio

from ftwallet.rpc.clients import ReplicationStream
from ftwallet.rpc.servicers import BackupPort, WalletBackupServicer
from ftwallet.wallet import Wallet

if TYPE_CHECKING:
    from tests.simulation.world import SimNode, World

KEEPALIVE_S = 4.0
WORLD_CONTEXT = contextvars.Context()  # of what happens whoever lives or dies


class Network:
    """Delays and cuts of each direction between two names."""

    def __init__(self, world: World, random: Random) -> None:
        self.world = world
        self.random = random
        self.cut_until: dict[tuple[str, str], float] = {}
        self.clogged_until: dict[tuple[str, str], float] = {}
        self.streams: list[Stream] = []

    def delay(self, source: str, target: str) -> float:
        now = self.world.loop.time()
        if self.clogged_until.get((source, target), 0.0) > now:
            return self.random.uniform(0.3, 2.0)
        return self.random.uniform(0.0002, 0.002) if self.random.random() < 0.97 else self.random.uniform(0.01, 0.2)

    def is_cut(self, source: str, target: str) -> bool:
        return self.cut_until.get((source, target), 0.0) > self.world.loop.time()

    def cut(self, source: str, target: str, seconds: float) -> None:
        until = self.world.loop.time() + seconds
        self.cut_until[source, target] = max(until, self.cut_until.get((source, target), 0.0))
        if seconds > KEEPALIVE_S:
            for stream in self.streams:
                if {stream.source, stream.target} == {source, target}:
                    self.later(KEEPALIVE_S, stream.broken, "keepalive: no answer")

    def break_streams(self) -> None:
        """Every connection between the nodes is reset."""
        for stream in self.streams:
            stream.broken("connection reset")

    def heal(self) -> None:
        self.cut_until.clear()
        self.clogged_until.clear()

    def later(self, seconds: float, act: Callable[..., Any], *args: Any) -> None:
        """Something that happens in the world, whoever lives or dies."""
        WORLD_CONTEXT.run(self.world.loop.call_later, seconds, act, *args)

    def open_stream(self, source: SimNode, target: SimNode) -> Stream:
        self.streams = [stream for stream in self.streams if stream.open][-20:]
        stream = Stream(self, source.name, target)
        self.streams.append(stream)
        return stream

    def died(self, name: str, power: bool) -> None:
        """The streams of a process that is gone."""
        for stream in self.streams:
            if name in (stream.source, stream.target):
                self.later(KEEPALIVE_S if power else self.delay(name, "other"), stream.broken, "connection reset")


class End:
    """One end of a stream: what has arrived, and whoever waits for it."""

    def __init__(self) -> None:
        self.arrived: deque[Any] = deque()
        self.waiter: asyncio.Future[None] | None = None

    def put(self, what: Any) -> None:
        self.arrived.append(what)
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    async def get(self) -> Any:
        while not self.arrived:
            self.waiter = asyncio.get_running_loop().create_future()
            await self.waiter
        return self.arrived.popleft()


class Stream:
    """A bidirectional gRPC call: the client's side of it (`read`, `write`, `cancel`), and the backup's handler."""

    def __init__(self, network: Network, source: str, target: SimNode) -> None:
        self._network = network
        self.source, self.target = source, target.name
        self.open = True
        self._client, self._server = End(), End()
        self._last = {source: 0.0, target.name: 0.0}
        self._under_way: dict[str, deque[Any]] = {source: deque(), target.name: deque()}
        self._handler: asyncio.Task[None] | None = None
        self._cancelled = False
        self._held_back: int | None = None  # messages of the client's that have come so far, and wait
        self._reading: asyncio.Task[Any] | None = None
        network.later(network.delay(source, target.name), self._accept, target)

    @property
    def under_way(self) -> int:
        """Messages that were sent and not taken yet, in both directions."""
        ends = len(self._client.arrived) + len(self._server.arrived)
        return ends + sum(len(queue) for queue in self._under_way.values())

    # ---- The primary's side

    async def read(self) -> Any:
        self._reading = asyncio.current_task()
        if self._cancelled:
            raise asyncio.CancelledError
        got = await self._client.get()
        if isinstance(got, BaseException):
            raise got
        return got

    async def write(self, message: Any) -> None:
        if not self.open:
            raise asyncio.InvalidStateError("the stream has ended")
        self._send(self.source, self.target, self._server, message)
        await asyncio.sleep(0)

    def cancel(self) -> None:
        if self._cancelled or not self.open:
            return
        self._cancelled = True
        self.open = False
        self._client.put(asyncio.CancelledError())
        self._send(self.source, self.target, self._server, grpc.aio.EOF, self._cancel_handler)

    # ---- The network between

    def _send(self, source: str, target: str, end: End, what: Any, then: Callable[[], None] | None = None) -> None:
        network = self._network
        due = max(network.world.loop.time() + network.delay(source, target), self._last[source])
        self._last[source] = due
        self._under_way[source].append((end, what, then))
        network.later(due - network.world.loop.time(), self._deliver, source, target)

    def _deliver(self, source: str, target: str) -> None:
        network = self._network
        if source == self.source and self._held_back is not None:
            self._held_back += 1
            return
        if network.is_cut(source, target):  # sent again until it gets through
            wait = network.cut_until[source, target] - network.world.loop.time() + 1e-6
            network.later(wait, self._deliver, source, target)
            return
        end, what, then = self._under_way[source].popleft()  # in order, however late each is
        end.put(what)
        if then is not None:
            then()

    def hold_back(self) -> None:
        """What the client sends arrives when it is let through."""
        self._held_back = 0

    @property
    def holds(self) -> bool:
        """Whether anything is held back."""
        return bool(self._held_back)

    def let_through(self) -> None:
        """All that was held back arrives, in order."""
        held, self._held_back = self._held_back or 0, None
        for _ in range(held):
            self._deliver(self.source, self.target)

    def broken(self, reason: str) -> None:
        """Both ends notice that there is nobody any more."""
        if self.open:
            self.open = False
            self._client.put(grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, None, None, reason))  # type: ignore[arg-type]
        self._cancel_handler()

    # ---- The backup's side

    def _accept(self, target: SimNode) -> None:
        face, process = target.backup_face, target.process
        if face is None or process is None or process.dead or not self.open:
            self.broken("connection refused")
            return
        if self._network.is_cut(self.source, self.target):
            self._network.later(KEEPALIVE_S, self.broken, "no route")
            return
        loop = self._network.world.loop
        self._handler = loop.create_task(self._handle(face), context=process.context.copy())

    async def _handle(self, face: WalletBackupServicer) -> None:
        end: Any = grpc.aio.EOF
        try:
            await face.Replicate(None, _Context(self))  # type: ignore[arg-type]
        except _Aborted as aborted:
            end = grpc.aio.AioRpcError(aborted.code, None, None, str(aborted))  # type: ignore[arg-type]
        except Exception as error:
            end = grpc.aio.AioRpcError(grpc.StatusCode.UNKNOWN, None, None, str(error))  # type: ignore[arg-type]
        if self.open:
            self._send(self.target, self.source, self._client, end, self._ended)

    def _ended(self) -> None:
        self.open = False

    def _cancel_handler(self) -> None:
        if self._handler is not None and not self._handler.done():
            self._handler.cancel()

    def reply(self, message: Any) -> None:
        self._send(self.target, self.source, self._client, message)

    async def next_message(self) -> Any:
        return await self._server.get()


class _Aborted(Exception):
    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(details)
        self.code = code


class _Context:
    """What the backup's servicer sees of its call."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    async def read(self) -> Any:
        return await self._stream.next_message()

    async def write(self, message: Any) -> None:
        self._stream.reply(message)
        await asyncio.sleep(0)

    async def abort(self, code: grpc.StatusCode, details: str) -> None:
        raise _Aborted(code, details)


class _Stub:
    """What `ReplicationStream` opens its call with."""

    def __init__(self, open_stream: Callable[[], Stream]) -> None:
        self.Replicate = open_stream


class SimPartner:
    """`Partner`: the backup, as its primary reaches it."""

    def __init__(self, world: World, node: SimNode) -> None:
        self._world, self._node = world, node
        self.address = f"the backup of {node.name}"

    async def is_serving(self, timeout_s: float) -> bool:
        world, node, peer = self._world, self._node, self._world.partner(self._node)
        await asyncio.sleep(world.network.delay(node.name, peer.name))
        if world.network.is_cut(node.name, peer.name) or world.network.is_cut(peer.name, node.name) or peer.paused:
            await asyncio.sleep(timeout_s)
            return False
        return peer.alive and peer.backup_face is not None

    def open_stream(self) -> ReplicationStream:
        peer = self._world.partner(self._node)
        return ReplicationStream(_Stub(lambda: self._world.network.open_stream(self._node, peer)))  # type: ignore[arg-type]

    async def reconnect(self) -> None:
        pass

    async def close(self) -> None:
        pass


class SimPrimaryPorts:
    """`PrimaryPorts`: whoever serves REST has the clients."""

    def __init__(self, world: World, node: SimNode) -> None:
        self._node = node
        self.partner = SimPartner(world, node)
        self._wallet: Wallet | None = None
        self._over = asyncio.Event()

    def offer(self, wallet: Wallet, status: Callable[[], Any]) -> None:
        self._wallet = wallet

    async def open_grpc(self) -> None:
        await asyncio.sleep(0.001)

    async def serve_rest(self) -> None:
        self._node.wallet = self._wallet
        with contextlib.suppress(asyncio.CancelledError):
            await self._over.wait()
        self._node.wallet = None

    async def serve(self) -> None:
        pass

    async def hold(self) -> None:
        self._node.wallet = None

    def go_on(self) -> None:
        self._node.wallet = self._wallet

    async def pass_on(self) -> None:
        await asyncio.sleep(0.1)

    async def leave(self) -> None:
        self._over.set()
        await asyncio.sleep(0)

    async def close(self) -> None:
        self._node.wallet = None


class SimBackupPorts:
    """`BackupPorts`."""

    def __init__(self, world: World, node: SimNode) -> None:
        self._world, self._node = world, node

    async def open(self, backup: BackupPort, status: Callable[[], Any]) -> None:
        self._node.backup_face = WalletBackupServicer(backup, status)
        await asyncio.sleep(0)

    async def leave(self) -> None:
        await self.close()

    async def close(self) -> None:
        self._node.backup_face = None
        for stream in self._world.network.streams:
            if stream.target == self._node.name:
                stream.broken("the server stops")
        await asyncio.sleep(0.001)


class SimPorts:
    """`Ports` of one process."""

    def __init__(self, world: World, node: SimNode) -> None:
        self._world, self._node = world, node

    def primary(self) -> SimPrimaryPorts:
        return SimPrimaryPorts(self._world, self._node)

    def backup(self) -> SimBackupPorts:
        return SimBackupPorts(self._world, self._node)
