"""The planned change of roles: the primary resigns, its backup leads, and the old primary starts again as backup.

Until the witness has the heir on record the primary can be told to go on, and the roles stay as they are.
"""

from __future__ import annotations

import asyncio
import signal
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ftwallet.errors import Refused
from ftwallet.replication.register import Register
from ftwallet.supervisor.events import rfc3339
from ftwallet.supervisor.promotion import Failover, have_go_on, have_pass_on, have_resign, record, tell, why_not
from ftwallet.supervisor.role_change import RoleChange
from ftwallet.supervisor.slots import DeathNote, Run, Slot
from ftwallet.witness.file import FileWitness

if TYPE_CHECKING:
    from ftwallet.supervisor.loop import Supervisor

_LEADS_WITHIN_S = 5.0  # for a new primary to be ready, so that the gap can be told


class Switchover:
    """Carries out a switchover when asked to."""

    def __init__(self, supervisor: Supervisor, change: RoleChange, witness: FileWitness) -> None:
        self._supervisor = supervisor
        self._change = change
        self._witness = witness

    async def carry_out(self) -> Failover:
        """Have the backup lead and the primary start again as backup. Raises Refused when the roles stay."""
        # Whoever asked for it may go away; what is begun is finished all the same.
        return await asyncio.shield(await self._supervisor.ask(self._begin))

    def _begin(self) -> asyncio.Task[Failover]:
        supervisor = self._supervisor
        old, heir = supervisor.primary, supervisor.backup
        reason = self._why_not(old, heir)
        if reason is not None:
            raise Refused(f"the roles stay as they are: {reason}")
        self._change.forget_obstacle()
        supervisor.events.record("switchover", f"Switchover: node {old.node} is asked to resign", old.node)
        return self._change.begin(self._switch(old, heir))

    def _why_not(self, old: Slot, heir: Slot) -> str | None:
        supervisor = self._supervisor
        if supervisor.stopping:
            return "FT-Wallet is stopping"
        reason = "the roles are just being changed" if self._change.under_way else why_not(heir, supervisor.register)
        if reason is None and (old.run is None or not supervisor.ready):
            return "no primary is serving"
        return reason

    async def _switch(self, old: Slot, heir: Slot) -> Failover:
        began, at, leading, run = time.monotonic(), rfc3339(datetime.now(UTC)), old.run, heir.run
        if leading is None or run is None:
            raise Refused("the roles stay as they are: a node has just died")
        register = await self._have_resigned(old, leading, heir)
        status, problem = await tell(run, register)
        supervisor, done = self._supervisor, Failover(at, old.node, heir.node, "switchover")
        supervisor.failovers.last = done
        if status is None:
            supervisor.failovers.unserved(done)
            supervisor.events.record("not-promoted", f"Node {heir.node} could not take over: {problem}", heir.node)
        else:
            self._change.leads(heir, run, status)
            done = await self._switched(done, began)
        await have_pass_on(leading)
        return done  # the old primary is none any more: `end_whoever_differs` has it start again as backup

    async def _switched(self, done: Failover, began: float) -> Failover:
        supervisor = self._supervisor
        if not await supervisor.until(lambda: supervisor.ready, _LEADS_WITHIN_S):
            supervisor.failovers.unserved(done)
            return done
        # Not only from the record on: requests have waited longer.
        return supervisor.failovers.served_after(done, round((time.monotonic() - began) * 1000, 1))

    async def _have_resigned(self, old: Slot, leading: Run, heir: Slot) -> Register:
        """Have the primary resign and the witness record its heir. Raises Refused; the primary goes on then."""
        supervisor = self._supervisor
        reason = await have_resign(leading)
        if reason:
            reason = f"node {old.node} did not resign: {reason}"
        else:
            proposal, decision, problem = await record(self._witness, heir, supervisor.register)
            if decision is not None:
                supervisor.decided(proposal, decision)
                if decision.register.primary == heir.node:
                    return decision.register
            reason = problem if decision is None else decision.reason
        if supervisor.register.primary != old.node or not await have_go_on(leading):
            # Resigned it may be, for ever: its next start, or its heir, leads as the record says.
            await supervisor.ask(lambda: supervisor.fleet.signal(old, signal.SIGKILL, DeathNote.NOT_RESIGNED))
        raise Refused(f"the roles stay as they are: {reason}")
