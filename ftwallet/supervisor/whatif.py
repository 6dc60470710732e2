"""What would happen if a node were killed now, by the decisions that a real death would meet, and nothing is done.

Whether the backup would be promoted and what would become of the dead node is asked of the very functions that the loop
asks; here their answers are only put into words.
"""

from __future__ import annotations

import signal
from typing import NamedTuple

from ftwallet.supervisor.loop import Supervisor
from ftwallet.supervisor.policy import GiveUp, Restart, Stay, Verdict
from ftwallet.supervisor.roles import PRIMARY, partner, resolve
from ftwallet.supervisor.schema import SCHEMA, Document
from ftwallet.supervisor.slots import Phase, Slot


class Foretold(NamedTuple):
    """`heir`: who would lead instead, empty if nobody; `why_not`: why nobody would. `verdict` is on the dead node."""

    heir: str
    why_not: str | None
    verdict: Verdict
    sentences: list[str]


def killed(supervisor: Supervisor, role: str) -> Document:
    """Return what a SIGKILL of a node would bring about. Raises Refused if `role` is none."""
    slot = supervisor.slots[resolve(role, supervisor.register.primary)]
    document: Document = {
        "schema": SCHEMA,
        "node": slot.node,
        "role": supervisor.fleet.role(slot),
        "pid": slot.run.child.pid if slot.run is not None else None,
    }
    foretold = _foretold(supervisor, slot)
    return document | {
        "promoted": foretold.heir or None,
        "why_not_promoted": foretold.why_not,
        "dead_node": _verdict_document(foretold.verdict),
        "deaths_before_ready": slot.early_deaths,
        "sentences": foretold.sentences,
        "sentence": "; ".join(foretold.sentences),
    }


def _foretold(supervisor: Supervisor, slot: Slot) -> Foretold:
    verdict = supervisor.fleet.foretold(slot, -signal.SIGKILL, stopping=supervisor.stopping)
    if slot.run is None:
        why = slot.reason or ("it is about to be started" if slot.phase is Phase.WAITING else f"it is {slot.phase}")
        return Foretold("", None, verdict, [f"nothing would happen: node {slot.node} has no process: {why}"])
    if slot is not supervisor.primary:
        return Foretold(
            "", None, verdict, [*_without_backup(supervisor, slot), *_afterwards(supervisor, slot, verdict)]
        )
    if isinstance(verdict, Stay):
        return Foretold("", None, verdict, _afterwards(supervisor, slot, verdict))
    why_not = supervisor.why_not_replaced(slot)
    if why_not is None:
        heir = supervisor.slots[partner(slot.node)]
        return Foretold(heir.node, None, verdict, _promoted(supervisor, slot, heir))
    sentences = [f"node {partner(slot.node)} would not be promoted: {why_not}", *_afterwards(supervisor, slot, verdict)]
    return Foretold("", why_not, verdict, [*sentences, *_meanwhile(supervisor, slot, verdict)])


def _promoted(supervisor: Supervisor, slot: Slot, heir: Slot) -> list[str]:
    last = supervisor.failovers.last
    known = "" if last is None or last.gap_ms is None else f" (last failover: {last.gap_ms:,.0f} ms)"
    behind = _behind(slot, heir)
    records = f"{behind:,} record{'' if behind == 1 else 's'} behind"
    unanswered = ", and what it lacks was never answered" if behind else ""
    return [
        f"node {heir.node} would be promoted: it is in sync, {records}{unanswered}",
        f"clients would wait some tens of milliseconds{known}",
        f"node {slot.node} would be started again at once, as the backup, and join when it has caught up",
    ]


def _meanwhile(supervisor: Supervisor, slot: Slot, verdict: Verdict) -> list[str]:
    if isinstance(verdict, Restart):
        return [
            _serves_again(supervisor, slot),
            "until then requests wait, and when that takes more than 1 s they are answered 503",
        ]
    if supervisor.config.on_primary_death != "promote":
        return ["nobody would serve: requests are answered 503 until somebody acts"]
    heir = partner(slot.node)
    return [
        f"requests are answered 503 until somebody acts, or until node {heir} runs and is in sync: a primary that was "
        "given up is then replaced by it"
    ]


def _serves_again(supervisor: Supervisor, slot: Slot) -> str:
    other = partner(slot.node)
    if other not in supervisor.register.in_sync:
        return "it would serve as soon as it has started, for it alone is in the in-sync set"
    wait_s = supervisor.config.settle_timeout_s
    return (
        f"it would serve when node {other}, which is in the in-sync set, has told what it holds, or without it after "
        f"{wait_s:g} s"
    )


def _behind(slot: Slot, heir: Slot) -> int:
    if slot.last is None or heir.last is None:
        return 0
    return max(0, int(slot.last.durable_lsn) - int(heir.last.durable_lsn))


def _without_backup(supervisor: Supervisor, slot: Slot) -> list[str]:
    if supervisor.stopping:
        return []
    if supervisor.changing_roles or supervisor.register.primary == slot.node:
        return ["who leads is just being decided"]
    primary = supervisor.primary.node
    if supervisor.primary.paused:
        hung_s = supervisor.config.hung_after_s
        return [
            f"node {primary} is paused and serves nobody: unless it is resumed within {hung_s:g} s, it is killed too"
        ]
    if slot.node not in supervisor.register.in_sync:
        return [f"clients would not notice: node {primary} answers alone already"]
    if not supervisor.ready:
        wait_s = supervisor.config.settle_timeout_s
        return [
            f"node {primary} does not serve now; it would wait for its backup for {wait_s:g} s at most, and then go on "
            "alone once the witness has recorded it"
        ]
    return [
        f"the primary, node {primary}, would go solo once the witness has recorded it",
        "what is under way waits until then and is answered",
    ]


def _afterwards(supervisor: Supervisor, slot: Slot, verdict: Verdict) -> list[str]:
    match verdict:
        case Stay():
            return [f"node {slot.node} would stay stopped: it was told to stop"]
        case GiveUp(reason):
            return [f"node {slot.node} would be given up, and not be started again: {reason}"]
        case Restart(delay_s, early_deaths):
            return [_restarted(supervisor, slot, delay_s, early_deaths)]


def _restarted(supervisor: Supervisor, slot: Slot, delay_s: float, early_deaths: int) -> str:
    when = f"in about {delay_s:.1f} s" if delay_s else "at once"
    what = f"node {slot.node} would be started again {when}"
    if supervisor.fleet.role(slot) == PRIMARY:
        what = f"node {slot.node} would be restarted in place {when}"
    if early_deaths:
        most = supervisor.config.crash_loop_deaths
        what += f" (death {early_deaths:,} in a row before it was ready; at {most:,} it is given up)"
    return what


def _verdict_document(verdict: Verdict) -> Document:
    match verdict:
        case Stay():
            return {"verdict": "stay", "delay_s": None, "reason": None}
        case GiveUp(reason):
            return {"verdict": "give-up", "delay_s": None, "reason": reason}
        case Restart(delay_s, _):
            return {"verdict": "restart", "delay_s": round(delay_s, 3), "reason": None}
