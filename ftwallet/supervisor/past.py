"""The last change of primary, read from the durable history: a supervisor that starts again knows of it."""

from __future__ import annotations

from pathlib import Path

from ftwallet.replication.register import ProposalKind
from ftwallet.supervisor.events import Event, EventLog, read_events
from ftwallet.supervisor.promotion import Failover
from ftwallet.supervisor.roles import partner

_KIND = "failover"
_NOT_RECORDED = "not recorded: the supervisor ended before clients were served again"


def record_failover(events: EventLog, failover: Failover) -> None:
    """Record a change of primary whose gap is known."""
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
