"""Promotion: when the primary has died, the backup in sync takes its place, if the witness grants it.

The order is what keeps money safe. The old primary is dead first (it was reaped: it cannot answer any more), then the
witness has the new primary on record, durably, and only then is the backup told to lead. A supervisor that dies in
between leaves a record that the next `up` acts upon. Where the backup cannot take over, the primary is started again in
place.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable
from typing import NamedTuple, TypeVar

import grpc

from ftwallet.errors import DiskFault, Refused
from ftwallet.replication.register import Decision, Proposal, ProposalKind, Register
from ftwallet.rpc.mapping import register_to_wire
from ftwallet.rpc.v1.control_pb2 import GoOnRequest, PassOnRequest, ResignRequest
from ftwallet.rpc.v1.wallet_pb2 import NodeStatus, StatusRequest
from ftwallet.supervisor.slots import Phase, Run, Slot
from ftwallet.witness.file import FileWitness

Reply = TypeVar("Reply")

_RESIGN_DEADLINE_S = 5.0
_PASS_ON_DEADLINE_S = 5.0
_PROMOTE_DEADLINE_S = 5.0
_STATUS_DEADLINE_S = 1.0


class Failover(NamedTuple):
    """One failover: `gap_ms` is None until clients are served again."""

    at: str
    origin: str
    heir: str
    cause: str
    gap_ms: float | None = None


def why_not(slot: Slot, register: Register) -> str | None:
    """Return why this backup cannot be promoted, or None when it can."""
    status = slot.status
    if slot.run is None or status is None or not slot.up:
        return f"node {slot.node} does not run"
    if slot.phase is not Phase.RUNNING:
        return f"node {slot.node} is {slot.phase}"
    if slot.run.killed or slot.paused:
        return f"node {slot.node} is {'being killed' if slot.run.killed else 'paused'}"
    if register.in_sync.get(slot.node) != status.incarnation:
        return f"node {slot.node} is not in sync: {status.reason}"
    return None


async def record(witness: FileWitness, heir: Slot, register: Register) -> tuple[Proposal, Decision | None, str]:
    """Have the witness record the promotion; the decision is None, with a reason, when it could not be made."""
    incarnation = register.in_sync[heir.node]
    proposal = Proposal(ProposalKind.PROMOTE, heir.node, incarnation, register.epoch)
    try:
        return proposal, await asyncio.to_thread(witness.propose, proposal), ""
    except (DiskFault, Refused) as error:
        return proposal, await _as_it_stands(witness, str(error)), str(error)


async def _as_it_stands(witness: FileWitness, problem: str) -> Decision | None:
    """A record that could not be made durable may stand all the same, and then the old primary must not be started."""
    try:
        return Decision(False, problem, await asyncio.to_thread(witness.read))
    except Refused:
        return None


async def tell(run: Run, register: Register) -> tuple[NodeStatus | None, str]:
    """Tell the backup to lead; returns its status when it does, else why it does not."""
    try:
        reply = await _answer(run.control.Promote(register_to_wire(register), timeout=_PROMOTE_DEADLINE_S))
        if not reply.promoted:
            return None, reply.reason
        return await _answer(run.control.GetStatus(StatusRequest(), timeout=_STATUS_DEADLINE_S)), ""
    except _NoAnswer as silence:
        return None, str(silence)


async def have_resign(run: Run) -> str:
    """Have the primary resign; returns why it does not, or nothing when it does."""
    try:
        reply = await _answer(run.control.Resign(ResignRequest(), timeout=_RESIGN_DEADLINE_S))
    except _NoAnswer as silence:
        return str(silence)
    return "" if reply.resigned else reply.reason


async def have_go_on(run: Run) -> None:
    """Tell a primary that nobody else leads after all; one that does not hear it has heartbeats to miss."""
    with contextlib.suppress(_NoAnswer):
        await _answer(run.control.GoOn(GoOnRequest(), timeout=_PASS_ON_DEADLINE_S))


async def have_pass_on(run: Run) -> None:
    """Have the old primary pass on what it holds; where it cannot, its clients learn that their request is in doubt."""
    with contextlib.suppress(_NoAnswer):
        await _answer(run.control.PassOn(PassOnRequest(), timeout=_PASS_ON_DEADLINE_S))


class _NoAnswer(Exception):
    """A node did not answer."""


async def _answer(call: Awaitable[Reply]) -> Reply:
    """Wait for a node's answer. Raises _NoAnswer, also when the node dies: its channel is closed then."""
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        raise _NoAnswer(error.details() or error.code().name) from None
    except grpc.aio.UsageError:
        raise _NoAnswer("its process has ended") from None
    except asyncio.CancelledError:  # gRPC ends the calls of a closed channel so
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise _NoAnswer("its process has ended") from None
