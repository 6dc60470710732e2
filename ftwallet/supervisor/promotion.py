"""Promotion: when the primary has died, the backup in sync takes its place, if the witness grants it.

The order is what keeps money safe. The old primary is dead first (it was reaped: it cannot answer any more), then the
witness has the new primary on record, durably, and only then is the backup told to lead. A supervisor that dies in
between leaves a record that the next `up` acts upon. Where the backup cannot take over, the primary is started again in
place.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import grpc

from ftwallet.errors import DiskFault, Refused
from ftwallet.replication.register import Decision, Proposal, ProposalKind, Register
from ftwallet.rpc.mapping import register_to_wire
from ftwallet.rpc.v1.wallet_pb2 import NodeStatus, StatusRequest
from ftwallet.supervisor.slots import Phase, Run, Slot
from ftwallet.witness.file import FileWitness

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
        reply = await run.control.Promote(register_to_wire(register), timeout=_PROMOTE_DEADLINE_S)
        if not reply.promoted:
            return None, reply.reason
        return await run.control.GetStatus(StatusRequest(), timeout=_STATUS_DEADLINE_S), ""
    except grpc.aio.AioRpcError as error:
        return None, error.details() or error.code().name
