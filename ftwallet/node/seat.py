"""A node's seat: the directory that a process has opened, and the role that it has in it, which a promotion changes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import NamedTuple

import structlog

from ftwallet.config import Config
from ftwallet.errors import ExitCode, Refused
from ftwallet.faults.injector import Injector
from ftwallet.journal import Corruption
from ftwallet.journal.identity import Identity
from ftwallet.node.backup import BackupNode
from ftwallet.node.base import Base, base_of
from ftwallet.node.outage import Outage
from ftwallet.node.ports import Ports
from ftwallet.node.primary import PrimaryNode
from ftwallet.node.storage import Storage, open_storage, set_damaged_aside
from ftwallet.node.witness import WitnessPort, announce_start
from ftwallet.replication.register import ProposalKind, Register
from ftwallet.witness.bootstrap import CLUSTER_FILE
from ftwallet.witness.file import FileWitness


class Start(NamedTuple):
    """How a node is started; by hand without `supervisor_socket`: own sockets, the cluster record as witness."""

    role: str
    node: str
    config: Config
    supervisor_socket: Path | None = None
    parent_pid: int | None = None
    http_fd: int | None = None


class Seat:
    """Opens the node in the role that it was started in, and changes it once, from backup to primary."""

    def __init__(self, start: Start, witness: WitnessPort, injector: Injector, outage: Outage, ports: Ports) -> None:
        self._start = start
        self._witness = witness
        self._injector = injector
        self._outage = outage
        self._ports = ports

    async def open(self) -> PrimaryNode | BackupNode:
        """Open the directory and the ports. Raises Refused, DiskFault, Corruption."""
        if self._start.role == "primary":
            return await self._open_primary()
        storage = await asyncio.to_thread(_open_backup_storage, self._start)
        register = await announce_start(self._witness, ProposalKind.BOOT, storage.identity)
        node = BackupNode(self._start.config, storage, register, self._injector, self._outage, self._ports.backup())
        await node.start()
        return node

    async def promote(self, node: BackupNode, register: Register) -> PrimaryNode:
        """Lead with what the backup has, in the epoch that the witness has granted it."""
        self._injector.disarm()  # an armed crash belongs to the role that it was armed in
        storage = await node.hand_over()
        await asyncio.to_thread(storage.identity.record_epoch, register.epoch)
        primary = await self._new_primary(storage, register)
        await primary.take_over()
        return primary

    async def _open_primary(self) -> PrimaryNode:
        storage = await asyncio.to_thread(_open_primary_storage, self._start)
        register = await announce_start(self._witness, ProposalKind.START, storage.identity)
        # The new epoch is durable here before anything is done in it, so that an older record is recognised later.
        await asyncio.to_thread(storage.identity.record_epoch, register.epoch)
        node = await self._new_primary(storage, register)
        await node.start()
        return node

    async def _new_primary(self, storage: Storage, register: Register) -> PrimaryNode:
        ports, config = self._ports.primary(), self._start.config
        witness, injector, outage = self._witness, self._injector, self._outage
        return PrimaryNode(config, storage, register, witness, injector, outage, ports)


def _open_primary_storage(start: Start) -> Storage:
    """Open a primary's directory, unless it is an old copy: its log may lack what was acknowledged since."""
    node_dir = start.config.node_dir(start.node)
    old = _old_copy(node_dir, FileWitness(start.config.data_dir / CLUSTER_FILE).read())
    if old:
        raise Refused(f"{old}: it must not lead. Put the newest copy of {node_dir} back", ExitCode.WRONG_DIRECTORY)
    return open_storage(node_dir, start.config.segment_bytes, _base(start))


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
        return open_storage(node_dir, segment_bytes, _base(start), may_be_empty=not in_sync)
    except Corruption as damage:
        log = structlog.get_logger()
        log.error(f"{damage}. Nothing is cut")
        aside = set_damaged_aside(node_dir, Identity.load(node_dir), damage)
        log.warning(f"The damaged log is kept in {aside}; this node is rebuilt from its partner")
        return open_storage(node_dir, segment_bytes, _base(start), may_be_empty=True)


def _base(start: Start) -> Base:
    return base_of(start.config.node_dir(start.node), start.config)


def _old_copy(node_dir: Path, register: Register) -> str | None:
    """Say that a directory is not the newest, or None: the witness has counted a start that it does not know of.

    Believed, it would take acknowledged transactions with it. That holds out of the in-sync set, too: its primary may
    count the acks of the directory that it was, and have it join by them.
    """
    identity = Identity.load(node_dir)
    counted = register.boots.get(identity.node, 0)
    in_sync = register.in_sync.get(identity.node) == identity.incarnation
    if in_sync and identity.state_sync:  # in sync it has not been since before that was over
        return f"{node_dir} is an old copy, made in the middle of a state sync"
    if identity.boot >= counted:
        return None
    if identity.boot == 0 and not in_sync:  # a copy of a directory that had just been made looks the same
        return f"{node_dir} has had no start, where node {identity.node} has had {counted}: it was made anew"
    return f"{node_dir} is an old copy, of start {identity.boot} where node {identity.node} has had {counted} starts"
