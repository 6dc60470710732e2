"""The node's own unix socket: status, armed crashes, look-ups, readable files; for the supervisor and the CLI."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from signal import SIGKILL, Signals
from typing import Any

import grpc.aio
import msgspec

from ftwallet.errors import ClientError, DiskFault
from ftwallet.faults.injector import Injector
from ftwallet.faults.stages import BACKUP_STAGES, PRIMARY_STAGES, Stage
from ftwallet.node import readable
from ftwallet.node.backup import BackupNode
from ftwallet.node.outage import Outage
from ftwallet.node.primary import PrimaryNode
from ftwallet.node.seat import Seat
from ftwallet.rpc.mapping import register_from_wire
from ftwallet.rpc.v1 import control_pb2, control_pb2_grpc, wallet_pb2

Context = grpc.aio.ServicerContext[Any, Any]


Node = PrimaryNode | BackupNode


class NodeControlServicer(control_pb2_grpc.NodeControlServicer):
    """`node` is None while the node starts, and while it changes its role."""

    def __init__(
        self,
        injector: Injector,
        starting: Callable[[], wallet_pb2.NodeStatus],
        seat: Seat,
        outage: Outage,
    ) -> None:
        self.node: Node | None = None
        self._injector = injector
        self._starting = starting
        self._seat = seat
        self._outage = outage

    async def Promote(self, request: control_pb2.Register, context: Context) -> control_pb2.PromoteReply:
        """Lead in the epoch that the witness has recorded; answers when this node does, or why it does not."""
        node, register = self.node, register_from_wire(request)
        if self._outage.over:
            return control_pb2.PromoteReply(reason="this node is stopping")
        if isinstance(node, PrimaryNode) and node.epoch >= register.epoch:
            return control_pb2.PromoteReply(promoted=True)  # asked again, because the first answer was lost
        if not isinstance(node, BackupNode) or node.status().incarnation != register.in_sync.get(register.primary):
            return control_pb2.PromoteReply(reason="this node is not the backup that the witness has promoted")
        self.node = None
        try:
            self.node = await self._seat.promote(node, register)
        except (Exception, asyncio.CancelledError) as error:  # half a change of role is none
            self._outage.failed(error)
            raise
        return control_pb2.PromoteReply(promoted=True)

    async def Resign(self, request: control_pb2.ResignRequest, context: Context) -> control_pb2.ResignReply:
        """Answer nothing any more, as the first step of a switchover; or say why not."""
        if not isinstance(self.node, PrimaryNode) or self._outage.over:
            return control_pb2.ResignReply(reason="this node does not lead")
        reason = await self.node.resign()
        return control_pb2.ResignReply(resigned=not reason, reason=reason)

    async def PassOn(self, request: control_pb2.PassOnRequest, context: Context) -> control_pb2.PassOnReply:
        """Have the new primary answer what is held here."""
        if isinstance(self.node, PrimaryNode):
            await self.node.pass_on()
        return control_pb2.PassOnReply()

    async def GoOn(self, request: control_pb2.GoOnRequest, context: Context) -> control_pb2.GoOnReply:
        """Serve as before: the switchover was called off before anybody else could lead."""
        if isinstance(self.node, PrimaryNode):
            self.node.go_on()
        return control_pb2.GoOnReply()

    async def GetStatus(self, request: wallet_pb2.StatusRequest, context: Context) -> wallet_pb2.NodeStatus:
        """Tell how this node stands; also the heartbeat."""
        return self.node.status() if self.node else self._starting()

    async def Arm(self, request: control_pb2.ArmRequest, context: Context) -> control_pb2.ArmReply:
        """Arm a crash at a stage for the N-th new transaction from now."""
        stages = PRIMARY_STAGES if self.node and self.node.role == "primary" else BACKUP_STAGES
        if self.node is None:
            return control_pb2.ArmReply(armed=False, reason="the node is starting; try again when it is ready")
        if request.stage not in stages:
            reason = f"a {self.node.role} has no stage {request.stage!r}; it has {', '.join(stages)}"
            return control_pb2.ArmReply(armed=False, reason=reason)
        self._injector.arm(Stage(request.stage), after=request.after or 1, signal=Signals(request.signal or SIGKILL))
        return control_pb2.ArmReply(armed=True)

    async def Disarm(self, request: control_pb2.DisarmRequest, context: Context) -> control_pb2.ArmReply:
        """Take an armed crash back."""
        self._injector.disarm()
        return control_pb2.ArmReply(armed=False)

    async def FindTransaction(self, request: control_pb2.FindRequest, context: Context) -> control_pb2.Document:
        """Look a transaction up; `null` when this node does not know the id."""
        node = await self._running(context)
        found = node.find(request.transaction_id)
        document = readable.transaction_document(found, node.ledger.rules.exponent) if found else None
        return control_pb2.Document(json=msgspec.json.encode(document).decode())

    async def Export(self, request: control_pb2.ExportRequest, context: Context) -> control_pb2.Document:
        """Write the readable files of this node's role."""
        node = await self._running(context)
        content = readable.collect(node.ledger)
        try:
            files = await asyncio.to_thread(readable.write_files, Path(request.directory), node.role, content)
        except DiskFault as error:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        return control_pb2.Document(json=msgspec.json.encode([str(file) for file in files]).decode())

    async def Import(self, request: control_pb2.ImportRequest, context: Context) -> control_pb2.Document:
        """Take readable files into an empty ledger; answers when they are durable on both nodes."""
        node = await self._running(context)
        transactions = Path(request.transactions_path) if request.transactions_path else None
        try:
            imported = await node.import_files(Path(request.wallets_path), transactions)
        except ClientError as error:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        return control_pb2.Document(json=msgspec.json.encode(imported._asdict()).decode())

    async def _running(self, context: Context) -> Node:
        if self.node is None:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the node is starting; try again when it is ready")
        return self.node
