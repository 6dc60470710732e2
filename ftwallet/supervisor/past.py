"""The last change of primary. It stands in the durable history, so a supervisor that starts again knows of it."""

from __future__ import annotations

from pathlib import Path

from ftwallet.replication.register import ProposalKind
from ftwallet.supervisor.events import Event, EventLog, read_events
from ftwallet.supervisor.promotion import Failover
from ftwallet.supervisor.roles import partner

_KIND = "failover"
_NOT_RECORDED = "not recorded: the supervisor ended before clients were served again"


class Failovers:
    """The last change of primary, until the next one; its gap is recorded when clients are served again."""

    def __init__(self, events: EventLog, history: Path) -> None:
        self._events = events
        self.last = last_failover(history)
        self._unserved: Failover | None = None

    def unserved(self, failover: Failover) -> None:
        """Clients are not served yet: `served` tells when they are."""
        self.last = self._unserved = failover

    def served(self, gap_ms: float) -> None:
        """Clients are served again after so long a gap."""
        if self._unserved is not None:
            self.served_after(self._unserved, gap_ms)

    def served_after(self, failover: Failover, gap_ms: float) -> Failover:
        """Record a failover with its gap, and return it so."""
        self.last, self._unserved = failover._replace(gap_ms=gap_ms), None
        _record(self._events, self.last)
        return self.last


def _record(events: EventLog, failover: Failover) -> None:
    waited = "" if failover.gap_ms is None else f" after {failover.gap_ms:,.0f} ms"
    sentence = f"Node {failover.heir} serves in place of node {failover.origin}{waited}: {failover.cause}"
    events.record(
        _KIND,
        sentence,
        failover.heir,
        begun_at=failover.at,
        origin=failover.origin,
        heir=failover.heir,
        cause=failover.cause,
        gap_ms=failover.gap_ms,
    )


def last_failover(history: Path) -> Failover | None:
    """Return the newest change of primary that the history knows of.

    A promotion that no gap was recorded for counts too: what came before it is not the last one any more.
    """
    last: Failover | None = None
    for event in read_events(history):
        last = _failover(event) or last
    return last


def _failover(event: Event) -> Failover | None:
    known = event.details
    try:
        if event.kind == _KIND:
            return Failover(known["begun_at"], known["origin"], known["heir"], known["cause"], known["gap_ms"])
        if event.kind == "epoch" and known["proposal"] == ProposalKind.PROMOTE and event.node is not None:
            return Failover(event.at, partner(event.node), event.node, _NOT_RECORDED)
    except (KeyError, TypeError):  # a line that was damaged, or that an older version wrote
        return None
    return None
