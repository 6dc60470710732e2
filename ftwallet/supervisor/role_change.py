"""One change of roles at a time, a replacement or a switchover: what is common to both, and what is left of half a one.

Whatever became of a change, the register says who leads: `end_whoever_differs` ends a node that plays another role, and
its next start has the right one.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from ftwallet.rpc.v1.wallet_pb2 import NodeStatus
from ftwallet.supervisor.roles import PRIMARY
from ftwallet.supervisor.slots import DeathNote, Phase, Run, Slot

if TYPE_CHECKING:
    from ftwallet.supervisor.loop import Supervisor

T = TypeVar("T")


class RoleChange:
    """The change that is under way, if any."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._task: asyncio.Task[Any] | None = None
        self._obstacle = ""  # to the change that is tried, as it was told last

    @property
    def under_way(self) -> bool:
        """Whether the roles are just being changed."""
        return self._task is not None

    def begin(self, change: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Carry out a change; to be called when none is under way."""
        task = asyncio.ensure_future(change)
        self._task = task
        task.add_done_callback(self._over)
        return task

    def is_new(self, obstacle: str) -> bool:
        """Tell whether this was not what kept the change from being made the last time that it was tried."""
        before, self._obstacle = self._obstacle, obstacle
        return obstacle != before

    def forget_obstacle(self) -> None:
        """Another change begins, not another try of the last one."""
        self._obstacle = ""

    def leads(self, heir: Slot, run: Run, status: NodeStatus) -> None:
        """The heir has become primary; when it is ready is to be known at once."""
        run.role = PRIMARY
        self._supervisor.heard(heir.node, run.number, status)
        self._supervisor.fleet.hurry(heir)

    def end_whoever_differs(self, now: float) -> None:
        """End, between two changes, a process whose role is not what the register has on record."""
        if not self.under_way and not self._supervisor.stopping:
            self._end_heir_that_does_not_lead()
            self._end_primary_that_was_replaced(now)

    def _end_heir_that_does_not_lead(self) -> None:
        """Whatever state a backup is in that the witness has as primary: its next start leads in place."""
        slot = self._supervisor.primary
        if slot.run is not None and not slot.run.killed and slot.run.role != PRIMARY:
            self._supervisor.fleet.signal(slot, signal.SIGKILL, DeathNote.NOT_PROMOTED)

    def _end_primary_that_was_replaced(self, now: float) -> None:
        """After a switchover, however far it came: whom the witness does not have as primary starts again as backup."""
        slot = self._supervisor.backup
        if slot.run is not None and slot.run.role == PRIMARY and slot.phase is Phase.RUNNING:
            self._supervisor.fleet.terminate(slot, now, start_again=True)

    def _over(self, task: asyncio.Task[Any]) -> None:
        self._task = None
        self._supervisor.look_again()  # the dead node may be started now
        if not task.cancelled() and (error := task.exception()):
            self._supervisor.events.record("not-promoted", f"The roles were not changed: {error}")
