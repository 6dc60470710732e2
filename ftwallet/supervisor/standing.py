"""Whether the backup could take over, followed from moment to moment: the history tells each change and its reason."""

from __future__ import annotations

from datetime import UTC, datetime

from ftwallet.replication.register import Register
from ftwallet.supervisor.events import EventLog
from ftwallet.supervisor.promotion import Hindrance, explained, hindrance
from ftwallet.supervisor.slots import Slot


class Standing:
    """Compares what hinders the backup with what hindered it before; how far behind it is makes no difference."""

    def __init__(self, events: EventLog) -> None:
        self._events = events
        self._before: tuple[str, Hindrance | None] | None = None

    def observe(self, backup: Slot, register: Register) -> None:
        """Look at the node that would be promoted, and record what has changed."""
        what = hindrance(backup, register)
        if (backup.node, what) == self._before:
            return
        self._before = (backup.node, what)
        backup.hindered_since = None if what is None else datetime.now(UTC)
        if what is None:
            sentence = f"Node {backup.node} is promotable: it is in sync in epoch {register.epoch}"
            self._events.record("promotable", sentence, backup.node)
        else:
            reason = explained(backup, what)
            sentence = f"Node {backup.node} is not promotable: {reason}"
            self._events.record("not-promotable", sentence, backup.node, reason=reason)
