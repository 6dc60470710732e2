"""One node process from its start to its exit code. `ftwallet-run node` and the supervisor both come in here."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import msgspec
import structlog
import uvloop

from ftwallet import platform
from ftwallet.api.server import open_listener
from ftwallet.config import Config
from ftwallet.errors import EXIT_FILE, BrokenInvariant, DiskFault, ExitCode, Refused
from ftwallet.faults.injector import Injector
from ftwallet.journal import Corruption
from ftwallet.journal.identity import Identity, lock_directory, lock_holder
from ftwallet.node import logs
from ftwallet.node.backup import BackupNode
from ftwallet.node.control import NodeControlServicer
from ftwallet.node.outage import Outage
from ftwallet.node.primary import PrimaryNode
from ftwallet.node.storage import Storage, open_storage, set_damaged_aside
from ftwallet.node.witness import WitnessPort, announce_start, open_witness
from ftwallet.replication.register import ProposalKind, Register
from ftwallet.rpc.channels import Health, bind, new_server
from ftwallet.rpc.sockets import NODE_SOCKET, address
from ftwallet.rpc.v1 import control_pb2_grpc, wallet_pb2
from ftwallet.witness.bootstrap import CLUSTER_FILE, ensure_cluster
from ftwallet.witness.file import FileWitness


class Start(NamedTuple):
    """How a node is started; by hand without `supervisor_socket`: own sockets, the cluster record as witness."""

    role: str
    node: str
    config: Config
    supervisor_socket: Path | None = None
    parent_pid: int | None = None
    http_fd: int | None = None


def run(start: Start) -> int:
    """Run a node until it is stopped or has to end; returns the exit code, and leaves its reason in `exit.json`."""
    if start.parent_pid is not None:
        platform.die_with_parent(start.parent_pid)
    logs.configure(start.config.log_level, start.config.log_format, role=start.role, node=start.node)
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
    control = NodeControlServicer(injector, lambda: _starting(start))
    server = new_server()
    control_pb2_grpc.add_NodeControlServicer_to_server(control, server)
    health = Health(server, [])
    socket_path = node_dir / NODE_SOCKET
    socket_path.unlink(missing_ok=True)  # of a process that was killed; the directory's lock is ours
    bind(server, address(socket_path))
    await server.start()
    witness = open_witness(start.config.data_dir, start.supervisor_socket)
    try:
        await _until_over(start, witness, injector, control, health, outage)
    except (Refused, DiskFault, BrokenInvariant) as error:
        outage.failed(error)
    finally:
        await server.stop(grace=None)
        await witness.close()
    return outage


async def _until_over(
    start: Start,
    witness: WitnessPort,
    injector: Injector,
    control: NodeControlServicer,
    health: Health,
    outage: Outage,
) -> None:
    opening = asyncio.create_task(_open_node(start, witness, injector, outage))
    ending = asyncio.create_task(outage.wait())
    await asyncio.wait({opening, ending}, return_when=asyncio.FIRST_COMPLETED)
    if not opening.done():
        opening.cancel()
        return
    control.node = node = opening.result()
    await health.serve()
    # What lives until the end need not be looked at by the collector again: its full passes cost tens of milliseconds.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    await ending
    if outage.orderly:
        await node.stop()
    else:
        await node.abandon()


async def _open_node(
    start: Start, witness: WitnessPort, injector: Injector, outage: Outage
) -> PrimaryNode | BackupNode:
    if start.role == "primary":
        listener = open_listener(start.config.http_host, start.config.http_port, start.http_fd)
        return await _open_primary(start, witness, injector, outage, listener)
    storage = await asyncio.to_thread(_open_backup_storage, start)
    register = await announce_start(witness, ProposalKind.BOOT, storage.identity)
    node = BackupNode(start.config, storage, register, injector, outage)
    await node.start()
    return node


async def _open_primary(
    start: Start, witness: WitnessPort, injector: Injector, outage: Outage, listener: socket.socket
) -> PrimaryNode:
    storage = await asyncio.to_thread(_open_primary_storage, start)
    register = await announce_start(witness, ProposalKind.START, storage.identity)
    # The new epoch is durable here before anything is done in it, so that an older record is recognised later.
    await asyncio.to_thread(storage.identity.record_epoch, register.epoch)
    node = PrimaryNode(start.config, storage, register, witness, injector, outage, listener)
    await node.start()
    return node


def _open_primary_storage(start: Start) -> Storage:
    """Open a primary's directory, unless it is an old copy: its log may lack what was acknowledged since."""
    node_dir = start.config.node_dir(start.node)
    old = _old_copy(node_dir, FileWitness(start.config.data_dir / CLUSTER_FILE).read())
    if old:
        raise Refused(f"{old}: it must not lead. Put the newest copy of {node_dir} back", ExitCode.WRONG_DIRECTORY)
    return open_storage(node_dir, start.config.segment_bytes)


def _open_backup_storage(start: Start) -> Storage:
    """Open a backup's directory; a damaged log is set aside, and the node rebuilt from its partner."""
    node_dir, segment_bytes = start.config.node_dir(start.node), start.config.segment_bytes
    register = FileWitness(start.config.data_dir / CLUSTER_FILE).read()
    old = _old_copy(node_dir, register)
    if old:
        Identity.load(node_dir).renew_incarnation()
        structlog.get_logger().warning(f"{old}: it is not in sync until it has caught up")
    in_sync = register.in_sync.get(start.node) == Identity.load(node_dir).incarnation
    try:
        # Out of the in-sync set an empty log is no loss: it is what a crash leaves in the middle of setting one aside.
        return open_storage(node_dir, segment_bytes, may_be_empty=not in_sync)
    except Corruption as damage:
        log = structlog.get_logger()
        log.error(f"{damage}. Nothing is cut")
        aside = set_damaged_aside(node_dir, Identity.load(node_dir), damage)
        log.warning(f"The damaged log is kept in {aside}; this node is rebuilt from its partner")
        return open_storage(node_dir, segment_bytes, may_be_empty=True)


def _old_copy(node_dir: Path, register: Register) -> str | None:
    """Say that a directory in sync is an old copy, or None: the witness has counted a start that it does not know of.

    Believed, it would take acknowledged transactions with it. Out of the in-sync set its log counts for nothing anyway.
    """
    identity = Identity.load(node_dir)
    counted = register.boots.get(identity.node, 0)
    if identity.boot >= counted or register.in_sync.get(identity.node) != identity.incarnation:
        return None
    return f"{node_dir} is an old copy, of start {identity.boot} where node {identity.node} has had {counted} starts"


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
