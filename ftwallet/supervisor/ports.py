"""Ports: claimed or found free before anything is started, and who holds one that is taken."""

from __future__ import annotations

import errno
import socket

from ftwallet import platform
from ftwallet.config import Config
from ftwallet.errors import Refused


class PortTaken(Refused):
    """Somebody has the port."""

    def __init__(self, sentence: str, port: int) -> None:
        super().__init__(sentence)
        self.port = port


BACKLOG = 2048  # clients that connect while a primary restarts wait here instead of being refused


def claim_http(config: Config) -> socket.socket:
    """Bind the listening socket of REST; it outlives every primary. Raises Refused, naming who holds the port."""
    return _listen(config.http_host, config.http_port, "http_port")


def check_grpc_free(config: Config) -> None:
    """Raise Refused, naming the holder, if a gRPC port of a role is taken."""
    for key in ("primary_grpc_port", "backup_grpc_port"):
        _listen(config.grpc_host, getattr(config, key), key).close()


def taken_sentence(host: str, port: int, key: str) -> str:
    """Return what an operator is told about a port that is taken."""
    holder = platform.port_holder(port) or "a process that cannot be seen from here"
    return f"port {port} on {host} is taken by {holder}: end it, or set {key} to a free port"


def _listen(host: str, port: int, key: str) -> socket.socket:
    try:
        return _bound(host, port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortTaken(taken_sentence(host, port, key), port) from None
        raise Refused(f"{host}:{port} cannot be bound: {error.strerror}; set another host or {key}") from None


def _bound(host: str, port: int) -> socket.socket:
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener
