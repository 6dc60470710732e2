"""One node process from its start to its exit code. `ftwallet-run node` and the supervisor both come in here."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Coroutine
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import structlog
import uvloop

from ftwallet import platform
from ftwallet.api.app import Application
from ftwallet.errors import EXIT_FILE, BrokenInvariant, DiskFault, Refused
from ftwallet.faults.injector import Injector
from ftwallet.journal.identity import lock_directory, lock_holder
from ftwallet.node import logs
from ftwallet.node.collector import spare_what_lives
from ftwallet.node.control import Node, NodeControlServicer
from ftwallet.node.outage import Outage
from ftwallet.node.ports import NetworkPorts
from ftwallet.node.seat import Seat, Start
from ftwallet.node.warmup import warm_up
from ftwallet.node.witness import open_witness
from ftwallet.rpc.channels import Health, bind, new_server
from ftwallet.rpc.sockets import NODE_SOCKET, address
from ftwallet.rpc.v1 import control_pb2_grpc, wallet_pb2
from ftwallet.witness.bootstrap import ensure_cluster

_SWITCH_S = 0.0005
"""After so long a thread that waits for Python's lock asks for it.

With the usual 5 ms an append waits until the event loop has read all of a batch: the loop gives the lock up again and
again meanwhile, but has it back before anybody else wakes.
"""


def run(start: Start) -> int:
    """Run a node until it is stopped or has to end; returns the exit code, and leaves its reason in `exit.json`."""
    if start.parent_pid is not None:
        platform.die_with_parent(start.parent_pid)
    logs.configure(start.config.log_level, start.config.log_format, role=start.role, node=start.node)
    sys.setswitchinterval(_SWITCH_S)
    node_dir = start.config.node_dir(start.node)
    try:
        ensure_cluster(start.config.data_dir)
        with lock_directory(node_dir):
            (node_dir / EXIT_FILE).unlink(missing_ok=True)
            outage = uvloop.run(_live(start, node_dir))
    except (Refused, DiskFault, BrokenInvariant) as error:
        outage = Outage()
        outage.failed(error)
    if not outage.orderly:
        _tell_reason(start, node_dir, outage)
    return outage.code


async def _live(start: Start, node_dir: Path) -> Outage:
    def end_at_once() -> None:
        _tell_reason(start, node_dir, outage)
        os._exit(outage.code)

    outage = Outage(end_at_once)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, outage.asked)
    injector = Injector(node_dir)
    witness = open_witness(start.config.data_dir, start.supervisor_socket)
    ports = NetworkPorts(start.config, start.http_fd)
    seat = Seat(start, witness, injector, outage, ports)
    control = NodeControlServicer(injector, lambda: _starting(start), seat, outage)
    server = new_server()
    control_pb2_grpc.add_NodeControlServicer_to_server(control, server)
    health = Health(server, [])
    socket_path = node_dir / NODE_SOCKET
    socket_path.unlink(missing_ok=True)  # of a process that was killed; the directory's lock is ours
    bind(server, address(socket_path))
    await server.start()
    try:
        await _until_over(_open(start, seat, ports.application), control, health, outage)
    except (Refused, DiskFault, BrokenInvariant) as error:
        outage.failed(error)
    finally:
        await server.stop(grace=None)
        await witness.close()
    return outage


async def _open(start: Start, seat: Seat, application: Application) -> Node:
    """Open the node. A backup that may be promoted warms up first: later, its primary would wait for its acks."""
    if start.role == "backup" and start.supervisor_socket is not None:
        await warm_up(application, start.config, start.config.node_dir(start.node))
    return await seat.open()


async def _until_over(
    opened: Coroutine[None, None, Node], control: NodeControlServicer, health: Health, outage: Outage
) -> None:
    opening = asyncio.create_task(opened)
    ending = asyncio.create_task(outage.wait())
    await asyncio.wait({opening, ending}, return_when=asyncio.FIRST_COMPLETED)
    if not opening.done():
        opening.cancel()
        return
    control.node = opening.result()
    await health.serve()
    spare_what_lives()
    await ending
    node = control.node
    if node is None:  # it ended in the middle of a promotion
        return
    if outage.orderly:
        await node.stop()
    else:
        await node.abandon()


def _starting(start: Start) -> wallet_pb2.NodeStatus:
    return wallet_pb2.NodeStatus(
        node=start.node, role=start.role, state="recovering", reason="the node is starting", pid=os.getpid()
    )


def _tell_reason(start: Start, node_dir: Path, outage: Outage) -> None:
    if start.supervisor_socket is None:
        print(f"Error: node {start.node} stops: {outage.sentence}", file=sys.stderr)
    else:
        structlog.get_logger().error(f"Node {start.node} stops: {outage.sentence}")
    reason = {"code": int(outage.code), "sentence": outage.sentence, "at": datetime.now(UTC)}
    holder = lock_holder(node_dir)
    if node_dir.is_dir() and (holder is None or holder.pid == os.getpid()):  # another's directory is not ours to write
        (node_dir / EXIT_FILE).write_bytes(msgspec.json.encode(reason))
