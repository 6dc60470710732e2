"""Hangs are noticed by heartbeats: a node that lets `hung_after_s` pass without an answer is hung.

The kernel accepts connections for a stopped process, so the node's program itself is asked (NodeControl.GetStatus).
A watcher that slept itself (stopped, swapped out) has no right to call a node hung: `Pulse` then starts anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import grpc

from ftwallet.rpc.v1.wallet_pb2 import NodeStatus, StatusRequest

if TYPE_CHECKING:
    from ftwallet.rpc.v1.control_pb2_grpc import NodeControlAsyncStub

_UNREACHABLE_PAUSE_S = 0.03  # while its socket is not there yet: a starting node is to be seen soon


class Pulse:
    """When a node was last heard. Times are seconds of one monotonic clock, given by the caller. Pure."""

    def __init__(self, hung_after_s: float, now: float) -> None:
        self._hung_after_s = hung_after_s
        self._heard_at = now
        self._looked_at = now

    def answered(self, now: float) -> None:
        """The node answered, or has a fresh start for another reason (it was let go on)."""
        self._heard_at = max(self._heard_at, now)

    def silent_s(self, now: float) -> float:
        """Seconds since it was last heard."""
        return now - self._heard_at

    def hung(self, now: float) -> bool:
        """Tell whether it has been silent for too long; call it often, several times in `hung_after_s`."""
        slept = now - self._looked_at > self._hung_after_s / 2
        self._looked_at = now
        if slept:
            self.answered(now)
        return self.silent_s(now) > self._hung_after_s


async def beat(
    stub: NodeControlAsyncStub,
    deadline_s: float,
    pause: Callable[[], Awaitable[None]],
    heard: Callable[[NodeStatus], None],
) -> None:
    """Ask the node for its status for ever: `heard` gets each answer, `pause()` lies between two questions."""
    while True:
        try:
            status = await stub.GetStatus(StatusRequest(), timeout=deadline_s)
        except grpc.aio.AioRpcError:
            await asyncio.sleep(_UNREACHABLE_PAUSE_S)
            continue
        heard(status)
        await pause()
