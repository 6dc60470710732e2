"""How our gRPC servers and channels are set up: one place for limits, keepalive and ports."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from ftwallet import platform
from ftwallet.errors import ExitCode, Refused
from ftwallet.rpc.sockets import socket_path_problem

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
_KEEPALIVE_MS = 2_000

# A stream whose peer vanished without a word ends after two keepalives; the server must allow as many pings.
CHANNEL_OPTIONS: Sequence[tuple[str, int]] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", _KEEPALIVE_MS),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 100),
    ("grpc.enable_http_proxy", 0),
)

SERVER_OPTIONS: Sequence[tuple[str, int]] = (
    ("grpc.so_reuseport", 0),  # or two servers would share a port without a word
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", _KEEPALIVE_MS),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", _KEEPALIVE_MS // 2),
    ("grpc.http2.max_ping_strikes", 0),
)


def open_channel(target: str) -> grpc.aio.Channel:
    """A channel to `host:port` or `unix:PATH`; nothing is sent before the first call."""
    return grpc.aio.insecure_channel(target, options=CHANNEL_OPTIONS)


def new_server(max_message_bytes: int = MAX_MESSAGE_BYTES) -> grpc.aio.Server:
    """A server without services; bound later, so that a taken port can be told apart from everything else."""
    limit = ("grpc.max_receive_message_length", max_message_bytes)
    options = [option for option in SERVER_OPTIONS if option[0] != limit[0]]
    return grpc.aio.server(options=[*options, limit])


def bind(server: grpc.aio.Server, address: str) -> None:
    """Bind a server to `host:port` or `unix:PATH`. Raises Refused when that is taken, naming who has it."""
    try:
        server.add_insecure_port(address)
    except RuntimeError:
        raise _unbound(address) from None


def _unbound(address: str) -> Refused:
    if address.startswith("unix:"):
        path = Path(address.removeprefix("unix:"))
        problem = socket_path_problem(path)
        if problem:
            return Refused(f"{problem}: use a shorter data_dir")
        return Refused(f"{path} cannot be listened on: see that {path.parent} is a directory that can be written to")
    holder = platform.port_holder(int(address.rpartition(":")[2])) or "a process that cannot be seen from here"
    return Refused(f"{address} is taken by {holder}: stop that, or set another port", ExitCode.PORT_TAKEN)


class Health:
    """`grpc.health.v1` for a server: SERVING from `serve` until `leave`, for the whole server and each service."""

    def __init__(self, server: grpc.aio.Server, services: Sequence[str]) -> None:
        self._names = ("", *services)
        self._servicer = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)

    async def serve(self) -> None:
        """Say SERVING."""
        for name in self._names:
            await self._servicer.set(name, health_pb2.HealthCheckResponse.SERVING)

    async def wait(self) -> None:
        """Say NOT_SERVING: starting, or recovering."""
        for name in self._names:
            await self._servicer.set(name, health_pb2.HealthCheckResponse.NOT_SERVING)

    async def leave(self) -> None:
        """Say NOT_SERVING for good, so that watchers turn away before the server stops."""
        await self._servicer.enter_graceful_shutdown()


def add_reflection(server: grpc.aio.Server, services: Sequence[str]) -> None:
    """Let clients such as grpcurl list and describe the services."""
    names = (*services, "grpc.health.v1.Health", reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)


async def is_serving(channel: grpc.aio.Channel, timeout_s: float) -> bool:
    """Ask `grpc.health.v1` whether the other end serves; False also when it does not answer in time."""
    stub: Any = health_pb2_grpc.HealthStub(channel)  # the package's stubs do not know its methods
    try:
        reply = await stub.Check(health_pb2.HealthCheckRequest(service=""), timeout=timeout_s)
    except grpc.aio.AioRpcError:
        return False
    return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)
