"""`python -m ftwallet.lab.peer.serve FD PID DIRECTORY`: the peer's REST, one process on uvicorn, uvloop and httptools.

It serves on the listening socket FD with the database whose socket is in DIRECTORY, and ends with its parent PID.
"""

from __future__ import annotations

import socket
import sys

import uvicorn

from ftwallet import platform
from ftwallet.lab.peer.app import create_app
from ftwallet.lab.peer.postgres import DATABASE, PRIMARY_PORT, USER
from ftwallet.lab.peer.store import Store, open_store
from ftwallet.node.collector import spare_what_lives


def main() -> None:
    """Serve until a signal comes."""
    fd, parent_pid, directory = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    platform.die_with_parent(parent_pid)

    async def connect() -> Store:
        store = await open_store(directory, PRIMARY_PORT, USER, DATABASE)
        spare_what_lives()  # as a node of ours does: both have the same of it
        return store

    config = uvicorn.Config(
        create_app(connect),
        loop="uvloop",
        http="httptools",
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
    )
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=fd)])


if __name__ == "__main__":
    main()
