"""A primary that has died is replaced by its backup, where that may lead; where not, it is started again in place."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ftwallet.supervisor.events import rfc3339
from ftwallet.supervisor.promotion import Failover, record, tell, why_not, why_not_replaced
from ftwallet.supervisor.role_change import RoleChange
from ftwallet.supervisor.roles import partner
from ftwallet.supervisor.slots import Phase, Slot
from ftwallet.witness.file import FileWitness

if TYPE_CHECKING:
    from ftwallet.supervisor.loop import Supervisor

_AGAIN_AFTER_S = 1.0


class Replacement:
    """Decides on a death whether there is an heir, and carries out that it leads."""

    def __init__(self, supervisor: Supervisor, change: RoleChange, witness: FileWitness) -> None:
        self._supervisor = supervisor
        self._change = change
        self._witness = witness

    def why_not(self, dead: Slot) -> str | None:
        """Return why this primary, if it dies now, is started again in place; None when its backup is promoted."""
        supervisor = self._supervisor
        heir = supervisor.slots[partner(dead.node)]
        return why_not_replaced(supervisor.config.on_primary_death, self._change.under_way, heir, supervisor.register)

    def heir_of(self, dead: Slot) -> Slot | None:
        """Return who is to lead in place of this primary, which has died, or None; the history tells why nobody."""
        heir = self._supervisor.slots[partner(dead.node)]
        reason = self.why_not(dead)
        if reason is not None:
            sentence = f"Node {dead.node} is not replaced by its backup, node {heir.node}: {reason}"
            self._supervisor.events.record("not-promoted", sentence, heir.node, reason=reason)
            return None
        return heir

    def begin(self, dead: Slot, heir: Slot) -> None:
        """Begin to have the heir lead."""
        self._change.forget_obstacle()
        self._change.begin(self._replace(dead, heir))

    def of_failed_primary(self, now: float) -> None:
        """A primary that was given up while its backup did not run is replaced as soon as that does."""
        supervisor = self._supervisor
        failed, heir = supervisor.primary, supervisor.backup
        may = supervisor.config.on_primary_death == "promote" and not self._change.under_way and not supervisor.stopping
        due = failed.phase is Phase.FAILED and now >= failed.start_at
        if may and due and why_not(heir, supervisor.register) is None:
            failed.start_at = now + _AGAIN_AFTER_S  # should the witness not be able to record it
            self._change.begin(self._replace(failed, heir))

    async def _replace(self, dead: Slot, heir: Slot) -> None:
        supervisor, run = self._supervisor, heir.run
        proposal, decision, problem = await record(self._witness, heir, supervisor.register)
        if decision is not None:
            supervisor.decided(proposal, decision)
        elif self._change.is_new(problem):
            supervisor.events.record("not-promoted", f"Node {heir.node} is not promoted: {problem}", heir.node)
        if decision is None or not decision.granted:
            await supervisor.ask(lambda: self._start_in_place(dead))
            return
        if run is None or supervisor.stopping:
            return
        cause = dead.ending.cause if dead.ending else "it died"
        supervisor.failovers.unserved(Failover(rfc3339(datetime.now(UTC)), dead.node, heir.node, cause))
        status, problem = await tell(run, decision.register)
        if status is None:
            supervisor.events.record("not-promoted", f"Node {heir.node} could not take over: {problem}", heir.node)
            return
        self._change.leads(heir, run, status)

    def _start_in_place(self, dead: Slot) -> None:
        if dead is self._supervisor.primary and not self._supervisor.stopping:
            self._supervisor.fleet.not_replaced(dead, time.monotonic())
