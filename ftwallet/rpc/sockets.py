"""The unix sockets of one data directory, the supervisor's and each node's, and channels to them.

`channels.py` has the servers, and the channels that stay open as long as their process.
"""

from __future__ import annotations

import os
from pathlib import Path

import grpc

from ftwallet.errors import Refused

SUPERVISOR_SOCKET = "supervisor.sock"
NODE_SOCKET = "control.sock"
_LONGEST_PATH = 107  # bytes, of a unix socket; the kernel's limit

# A node's socket comes and goes with its process. gRPC would wait longer and longer between its tries, and would
# share that memory between the channels of one process.
_CHANNEL_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 20),
    ("grpc.min_reconnect_backoff_ms", 20),
    ("grpc.max_reconnect_backoff_ms", 100),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
)


def address(path: Path) -> str:
    """Return the gRPC target of a unix socket."""
    return f"unix:{path}"


def open_channel(path: Path) -> grpc.aio.Channel:
    """Return a channel for the event loop; it connects when it is used."""
    return grpc.aio.insecure_channel(address(path), options=_CHANNEL_OPTIONS)


def open_blocking_channel(path: Path) -> grpc.Channel:
    """Return a channel for a program without an event loop, such as the command line."""
    return grpc.insecure_channel(address(path), options=_CHANNEL_OPTIONS)


def check_socket_paths(data_dir: Path) -> None:
    """Raise Refused when a unix socket in this data directory would have a path that the kernel cannot take."""
    for path in (data_dir / SUPERVISOR_SOCKET, data_dir / "a" / NODE_SOCKET):
        if problem := socket_path_problem(path):
            raise Refused(f"{problem}: choose a data directory with a shorter path (--data-dir)")


def socket_path_problem(path: Path) -> str:
    """Return in words why a unix socket cannot have this path; empty when it can."""
    length = len(os.fsencode(path))
    if length <= _LONGEST_PATH:
        return ""
    return f"the path of the socket {path} has {length} bytes, and a unix socket's may have {_LONGEST_PATH}"
