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
from enum import StrEnum
from typing import NamedTuple, TypeVar

import grpc

from ftwallet.errors import DiskFault, Refused
from ftwallet.replication.register import Decision, Proposal, ProposalKind, Register
from ftwallet.rpc.mapping import register_to_wire
from ftwallet.rpc.v1.control_pb2 import GoOnRequest, PassOnRequest, ResignRequest
from ftwallet.rpc.v1.wallet_pb2 import NodeStatus, StatusRequest
from ftwallet.supervisor.events import clock
from ftwallet.supervisor.slots import Phase, Run, Slot
from ftwallet.witness.file import FileWitness

Reply = TypeVar("Reply")

_RESIGN_DEADLINE_S = 5.0
_PASS_ON_DEADLINE_S = 5.0
_PROMOTE_DEADLINE_S = 5.0
_STATUS_DEADLINE_S = 1.0


class Failover(NamedTuple):
    """One change of primary: `gap_ms` is None until clients are served again, and where nobody knows it any more."""

    at: str
    origin: str
    heir: str
    cause: str
    gap_ms: float | None = None


class Hindrance(StrEnum):
    """What keeps a backup from being promoted, as it is said of "it"."""

    DOWN = "it does not run"
    STARTING = "it is starting"
    ENDING = "it is stopping"
    KILLED = "it is being killed"
    PAUSED = "it is paused"
    OUT_OF_SYNC = "it is not in sync"


def hindrance(slot: Slot, register: Register) -> Hindrance | None:
    """Return what keeps this backup from being promoted now, or None when nothing does."""
    status = slot.status
    if slot.run is None:
        return Hindrance.DOWN
    if slot.phase is not Phase.RUNNING:
        return Hindrance.ENDING
    if slot.run.killed or slot.paused:
        return Hindrance.KILLED if slot.run.killed else Hindrance.PAUSED
    if status is None or not slot.up:
        return Hindrance.STARTING
    if register.in_sync.get(slot.node) != status.incarnation:
        return Hindrance.OUT_OF_SYNC
    return None


def explained(slot: Slot, what: Hindrance) -> str:
    """Return a hindrance in words, with what the node itself says of it."""
    if what is Hindrance.DOWN and slot.reason:
        return f"{what}: {slot.reason}"
    if what is not Hindrance.OUT_OF_SYNC or slot.status is None:
        return str(what)
    since = "" if slot.hindered_since is None else f" since {clock(slot.hindered_since)}"
    return f"{what}: resyncing{since}, {slot.status.reason}"


def why_not(slot: Slot, register: Register) -> str | None:
    """Return why this backup cannot be promoted, with its name, or None when it can."""
    what = hindrance(slot, register)
    return None if what is None else f"node {slot.node} is not promotable: {explained(slot, what)}"


def why_not_replaced(policy: str, changing_roles: bool, heir: Slot, register: Register) -> str | None:
    """Return why a primary that dies now is not replaced by its backup ("it"), or None when it is."""
    if policy != "promote":
        return f'on_primary_death is "{policy}"'
    if changing_roles:
        return "the roles are just being changed"
    what = hindrance(heir, register)
    return None if what is None else explained(heir, what)


async def record(witness: FileWitness, heir: Slot, register: Register) -> tuple[Proposal, Decision | None, str]:
    """Have the witness record the promotion; the decision is None, with a reason, when it could not be made.

    What the heir said last may be old: it is asked once more, because a record of an incarnation that it has given up
    for a state sync would leave nobody to lead.
    """
    incarnation = register.in_sync.get(heir.node, "")  # out of the set by now, perhaps: the witness refuses then
    proposal = Proposal(ProposalKind.PROMOTE, heir.node, incarnation, register.epoch)
    problem = await _not_as_recorded(heir, incarnation)
    if problem:
        return proposal, None, problem
    try:
        return proposal, await asyncio.to_thread(witness.propose, proposal), ""
    except (DiskFault, Refused) as error:
        problem = f"the witness could not record it: {error}"
        return proposal, await _as_it_stands(witness, problem), problem


async def _not_as_recorded(heir: Slot, incarnation: str) -> str:
    """Return why the heir is not the node that the record names as in sync, or nothing when it is."""
    if heir.run is None:
        return f"node {heir.node} does not run any more"
    try:
        status = await _answer(heir.run.control.GetStatus(StatusRequest(), timeout=_STATUS_DEADLINE_S))
    except _NoAnswer as silence:
        return f"node {heir.node} does not answer: {silence}"
    if status.incarnation == incarnation:
        return ""
    return (
        f"node {heir.node} has incarnation {status.incarnation or 'none'} by now, and the one in sync is "
        f"{incarnation or 'none'}: it may lack transactions, and must catch up first"
    )


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


async def have_go_on(run: Run) -> bool:
    """Tell a primary that nobody else leads after all; False when it does not answer."""
    try:
        await _answer(run.control.GoOn(GoOnRequest(), timeout=_PASS_ON_DEADLINE_S))
    except _NoAnswer:
        return False
    return True


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
