"""The supervisor's gRPC face on `<data_dir>/supervisor.sock`: commands for people, the witness for nodes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NoReturn

import grpc

from ftwallet.errors import DiskFault, PeerViolation, Refused
from ftwallet.replication.register import Decision, Proposal
from ftwallet.rpc.mapping import decision_to_wire, proposal_from_wire
from ftwallet.rpc.sockets import SUPERVISOR_SOCKET, address
from ftwallet.rpc.v1 import control_pb2 as pb
from ftwallet.rpc.v1.control_pb2_grpc import (
    SupervisorServicer,
    WitnessServicer,
    add_SupervisorServicer_to_server,
    add_WitnessServicer_to_server,
)
from ftwallet.rpc.v1.wallet_pb2 import StatusRequest
from ftwallet.supervisor import commands, documents, whatif
from ftwallet.supervisor.loop import Supervisor
from ftwallet.supervisor.order import Order
from ftwallet.supervisor.schema import Document
from ftwallet.supervisor.story import Story
from ftwallet.witness.file import FileWitness

Context = grpc.aio.ServicerContext[Any, Any]


async def serve(supervisor: Supervisor, witness: FileWitness) -> grpc.aio.Server:
    """Start both services on the unix socket, which only this user can open. Raises Refused if it cannot be made."""
    path = supervisor.config.data_dir / SUPERVISOR_SOCKET
    path.unlink(missing_ok=True)  # left by a supervisor that was killed; the data directory's lock is ours
    server = grpc.aio.server()
    add_SupervisorServicer_to_server(Commands(supervisor), server)
    add_WitnessServicer_to_server(WitnessFace(supervisor, witness), server)
    _bind(server, path)
    await server.start()
    return server


class WitnessFace(WitnessServicer):
    """The witness for nodes. A decision is durable before it is answered; the file is written in a thread."""

    def __init__(self, supervisor: Supervisor, witness: FileWitness) -> None:
        self._supervisor = supervisor
        self._witness = witness

    async def Read(self, request: pb.WitnessRead, context: Context) -> pb.WitnessReply:
        """Return the register."""
        async with _refusals(context):
            register = await asyncio.to_thread(self._witness.read)
            return decision_to_wire(Decision(True, "", register))

    async def Propose(self, request: pb.WitnessProposal, context: Context) -> pb.WitnessReply:
        """Decide on a proposal."""
        async with _refusals(context):
            try:
                proposal = proposal_from_wire(request)
            except PeerViolation as violation:
                raise Refused(str(violation)) from violation
            # gRPC cancels this when the node does not wait any longer; what is granted then must be known all the same.
            deciding = asyncio.ensure_future(self._decide(proposal))
            deciding.add_done_callback(_seen)
            return decision_to_wire(await asyncio.shield(deciding))

    async def _decide(self, proposal: Proposal) -> Decision:
        decision = await asyncio.to_thread(self._witness.propose, proposal)
        self._supervisor.decided(proposal, decision)
        return decision


class Commands(SupervisorServicer):
    """What `ftwallet-run` asks of a running supervisor."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    async def GetStatus(self, request: StatusRequest, context: Context) -> pb.Document:
        """Return the status document."""
        return _document(documents.status(self._supervisor))

    async def Kill(self, request: pb.KillRequest, context: Context) -> AsyncIterator[pb.Document]:
        """Kill, or arm a crash; a stream of steps, the last of which is the whole story."""
        async with _refusals(context):
            order = Order(
                request.role,
                request.stage,
                max(1, request.after),
                request.signal,
                request.no_wait,
                request.probe,
                request.timeout_s,
            )
            async for step in Story(self._supervisor, order).tell():
                yield _document(step)

    async def Signal(self, request: pb.SignalRequest, context: Context) -> pb.Document:
        """Pause a node (SIGSTOP) or let it go on (SIGCONT)."""
        async with _refusals(context):
            return _document(await commands.signal_node(self._supervisor, request.role, request.signal))

    async def Restart(self, request: pb.RoleRequest, context: Context) -> pb.Document:
        """Stop a node in order and start it again."""
        async with _refusals(context):
            return _document(await commands.restart(self._supervisor, request.role))

    async def WhatIfKilled(self, request: pb.RoleRequest, context: Context) -> pb.Document:
        """Say what would happen if a node were killed now."""
        async with _refusals(context):
            return _document(await self._supervisor.ask(lambda: whatif.killed(self._supervisor, request.role)))

    async def Switchover(self, request: pb.SwitchoverRequest, context: Context) -> pb.Document:
        """Have the backup take the primary's place, without a failed request."""
        async with _refusals(context):
            return _document(await commands.switchover(self._supervisor))

    async def Stop(self, request: pb.StopRequest, context: Context) -> pb.Document:
        """Stop both nodes, then the supervisor itself."""
        async with _refusals(context):
            return _document(await commands.stop(self._supervisor))

    async def Export(self, request: pb.ExportRequest, context: Context) -> pb.Document:
        """Have every node that is up write its readable files."""
        async with _refusals(context):
            return _document(await commands.export(self._supervisor, request))

    async def Import(self, request: pb.ImportRequest, context: Context) -> pb.Document:
        """Have the primary take readable files into its empty ledger."""
        async with _refusals(context):
            return _document(await commands.import_files(self._supervisor, request))


def _seen(deciding: asyncio.Future[Decision]) -> None:
    """An error that nobody waits for any more: the node asks again."""
    if not deciding.cancelled():
        deciding.exception()


def _bind(server: grpc.aio.Server, path: Path) -> None:
    before = os.umask(0o077)
    try:
        server.add_insecure_port(address(path))
    except RuntimeError as error:
        raise Refused(f"the control socket {path} cannot be made: {error}") from None
    finally:
        os.umask(before)


@contextlib.asynccontextmanager
async def _refusals(context: Context) -> AsyncIterator[None]:
    """A refusal reaches the caller as its sentence."""
    try:
        yield
    except Refused as refusal:
        await _abort(context, grpc.StatusCode.FAILED_PRECONDITION, str(refusal))
    except DiskFault as fault:
        await _abort(context, grpc.StatusCode.UNAVAILABLE, str(fault))


async def _abort(context: Context, code: grpc.StatusCode, sentence: str) -> NoReturn:
    await context.abort(code, sentence)


def _document(document: Document) -> pb.Document:
    return pb.Document(json=json.dumps(document, ensure_ascii=False))
