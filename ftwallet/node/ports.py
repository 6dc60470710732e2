"""How a node is reached and reaches its partner: REST, gRPC, health. A node knows these protocols, and not the network.

The simulator puts a network of its own in their place, so that everything else of a node is what runs in it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable
from typing import Protocol

import structlog

from ftwallet.api.app import Application
from ftwallet.api.relay import Relay
from ftwallet.api.server import HttpServer, open_listener
from ftwallet.config import Config
from ftwallet.replication.messages import ToBackup, ToPrimary
from ftwallet.rpc.channels import MAX_MESSAGE_BYTES, Health, add_reflection, bind, new_server
from ftwallet.rpc.clients import PrimaryWalletClient
from ftwallet.rpc.servicers import (
    BACKUP_SERVICE,
    PRIMARY_SERVICE,
    BackupPort,
    PrimaryWalletServicer,
    WalletBackupServicer,
)
from ftwallet.rpc.v1 import wallet_pb2, wallet_pb2_grpc
from ftwallet.wallet import Wallet

Status = Callable[[], wallet_pb2.NodeStatus]

_GRPC_GRACE_S = 1.0
_BACKUP_GRPC_GRACE_S = 0.5
_REST_STOPS_WITHIN_S = 2.0
_ANSWERED_WITHIN_S = 1.0
_LINGER_S = 1.0
_POLL_S = 0.01


class SessionStream(Protocol):
    """One session's stream to the backup."""

    def send(self, message: ToBackup) -> None:
        """Queue a message; messages go out in order."""

    def end(self, reason: str) -> None:
        """Close the stream at once; `run` then returns this reason."""

    async def run(self, receive: Callable[[ToPrimary], None]) -> str:
        """Hand every message of the backup to `receive` until the stream ends; returns why it ended."""


class Partner(Protocol):
    """The backup, as its primary reaches it."""

    @property
    def address(self) -> str:
        """Where it is, for a person."""

    async def is_serving(self, timeout_s: float) -> bool:
        """Whether the backup's health says SERVING within `timeout_s` seconds."""

    def open_stream(self) -> SessionStream:
        """Begin a stream; call it when the backup serves."""

    async def reconnect(self) -> None:
        """Give up the connection, with what runs on it, and take a new one for what comes."""

    async def close(self) -> None:
        """Close everything that runs to it."""


class PrimaryPorts(Protocol):
    """What a primary offers to the world, and its way to the backup."""

    @property
    def partner(self) -> Partner:
        """The backup."""

    def offer(self, wallet: Wallet, status: Status) -> None:
        """Offer this wallet; once, before anything is opened."""

    async def open_grpc(self) -> None:
        """Open gRPC; its health says NOT_SERVING until `serve`. Raises Refused when the port is taken."""

    async def serve_rest(self) -> None:
        """Serve REST until stopped."""

    async def serve(self) -> None:
        """Say in gRPC's health that the wallet serves."""

    async def hold(self) -> None:
        """Hold every REST request that comes from now on; returns when those that came before are answered."""

    def go_on(self) -> None:
        """Serve what is held, and what comes, here after all."""

    async def pass_on(self) -> None:
        """Have the new primary answer what is held, and what still comes here; returns when little more will come."""

    async def leave(self) -> None:
        """Say in gRPC's health that it serves no more, then let what is under way end, and close both."""

    async def close(self) -> None:
        """Close everything at once."""


class BackupPorts(Protocol):
    """What a backup offers to its primary."""

    async def open(self, backup: BackupPort, status: Status) -> None:
        """Open the port. Raises Refused when it is taken."""

    async def leave(self) -> None:
        """Say in the health that it serves no more, then let what is under way end, and close."""

    async def close(self) -> None:
        """Close at once."""


class PrimaryNetwork:
    """`PrimaryPorts` on the network; REST on a socket that listens already, by an application that is built already."""

    def __init__(self, config: Config, listener: socket.socket, application: Application) -> None:
        self.partner = PrimaryWalletClient(f"{config.grpc_host}:{config.backup_grpc_port}")
        self._config = config
        self._grpc_address = f"{config.grpc_host}:{config.primary_grpc_port}"
        self._listener = listener
        self._application = application
        self._http = HttpServer(application)
        self._relay: Relay | None = None
        self._grpc = new_server(max_message_bytes=config.max_body_bytes)
        self._health = Health(self._grpc, [PRIMARY_SERVICE])
        self._log = structlog.get_logger()

    def offer(self, wallet: Wallet, status: Status) -> None:
        """Offer this wallet; once, before anything is opened."""
        self._application.serve(wallet)
        wallet_pb2_grpc.add_PrimaryWalletServicer_to_server(PrimaryWalletServicer(wallet, status), self._grpc)
        add_reflection(self._grpc, [PRIMARY_SERVICE])

    async def open_grpc(self) -> None:
        """Open gRPC; its health says NOT_SERVING until `serve`. Raises Refused when the port is taken."""
        await self._health.wait()
        bind(self._grpc, self._grpc_address)
        await self._grpc.start()
        self._log.info(f"Primary gRPC server listening on {self._grpc_address}")

    async def serve_rest(self) -> None:
        """Serve REST until stopped."""
        self._log.info(f"REST server listening on http://{self._config.http_host}:{self._config.http_port}")
        await self._http.serve(sockets=[self._listener])

    async def serve(self) -> None:
        """Say in gRPC's health that the wallet serves."""
        await self._health.serve()

    async def hold(self) -> None:
        """Hold every REST request that comes from now on; returns when those that came before are answered."""
        config = self._config
        self._relay = Relay(
            config.http_host,
            config.http_port,
            timeout_s=config.request_timeout_s,
            max_body_bytes=max(config.max_body_bytes, config.max_batch_body_bytes),
        )
        await self._application.hold(self._relay, _ANSWERED_WITHIN_S)

    def go_on(self) -> None:
        """Serve what is held, and what comes, here after all."""
        self._application.go_on()
        if self._relay is not None:
            self._relay.decide(False)

    async def pass_on(self) -> None:
        """Have the new primary answer what is held, and what still comes here; returns when little more will come."""
        self._http.stop_accepting()
        if self._relay is not None:
            self._relay.decide(True)
        await self._grpc.stop(grace=None)  # its port is the new primary's
        give_up = time.monotonic() + _LINGER_S
        while self._http.connections and time.monotonic() < give_up:  # each is closed with its next answer
            await asyncio.sleep(_POLL_S)

    async def leave(self) -> None:
        """Say in gRPC's health that it serves no more, then let what is under way end, and close both."""
        await self._health.leave()
        self._http.should_exit = True
        await self._grpc.stop(grace=_GRPC_GRACE_S)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._http.stopped.wait(), _REST_STOPS_WITHIN_S)

    async def close(self) -> None:
        """Close everything at once; REST ends with the task that serves it."""
        await self.partner.close()
        await self._grpc.stop(grace=None)


class BackupNetwork:
    """`BackupPorts` on the network."""

    def __init__(self, config: Config) -> None:
        self._address = f"{config.grpc_host}:{config.backup_grpc_port}"
        self._grpc = new_server(max_message_bytes=MAX_MESSAGE_BYTES)
        self._health = Health(self._grpc, [BACKUP_SERVICE])

    async def open(self, backup: BackupPort, status: Status) -> None:
        """Open the port. Raises Refused when it is taken."""
        wallet_pb2_grpc.add_WalletBackupServicer_to_server(WalletBackupServicer(backup, status), self._grpc)
        add_reflection(self._grpc, [BACKUP_SERVICE])
        bind(self._grpc, self._address)
        await self._grpc.start()
        await self._health.serve()
        structlog.get_logger().info(f"Backup server listening on {self._address}")

    async def leave(self) -> None:
        """Say in the health that it serves no more, then let what is under way end, and close."""
        await self._health.leave()
        await self._grpc.stop(grace=_BACKUP_GRPC_GRACE_S)

    async def close(self) -> None:
        """Close at once."""
        await self._grpc.stop(grace=None)


class Ports(Protocol):
    """Makes the ports of a node for the role that it is to have."""

    def primary(self) -> PrimaryPorts:
        """Ports of a primary. Raises Refused when the REST port is taken."""

    def backup(self) -> BackupPorts:
        """Ports of a backup."""


class NetworkPorts:
    """`Ports` on the network: of our own sockets, or REST on the one that the supervisor has handed down."""

    def __init__(self, config: Config, http_fd: int | None) -> None:
        self.application = Application(config.max_body_bytes, config.max_batch_body_bytes)
        self._config = config
        self._http_fd = http_fd

    def primary(self) -> PrimaryPorts:
        """Ports of a primary. Raises Refused when the REST port is taken."""
        config = self._config
        listener = open_listener(config.http_host, config.http_port, self._http_fd)
        return PrimaryNetwork(config, listener, self.application)

    def backup(self) -> BackupPorts:
        """Ports of a backup."""
        return BackupNetwork(self._config)
