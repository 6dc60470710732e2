"""The JSON documents that the supervisor answers with; `status` has exactly the keys of the outside contract."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import psutil

from ftwallet.rpc.sockets import SUPERVISOR_SOCKET
from ftwallet.supervisor.promotion import Failover, explained, hindrance
from ftwallet.supervisor.roles import PRIMARY
from ftwallet.supervisor.schema import SCHEMA, Document
from ftwallet.supervisor.slots import Phase, Slot

if TYPE_CHECKING:
    from ftwallet.config import Config
    from ftwallet.supervisor.loop import Supervisor


def status(supervisor: Supervisor) -> Document:
    """Return the cluster's status; see docs for each key."""
    config, register = supervisor.config, supervisor.register
    return {
        "schema": SCHEMA,
        "cluster_id": register.cluster_id,
        "epoch": register.epoch,
        "mode": supervisor.mode or None,
        "in_sync": sorted(register.in_sync),
        "ready": supervisor.ready,
        "supervisor": {
            "pid": os.getpid(),
            "uptime_s": round(time.monotonic() - supervisor.started_at, 3),
            "control": str(config.data_dir / SUPERVISOR_SOCKET),
            "dashboard": None,
        },
        "nodes": [_node(supervisor, slot) for slot in supervisor.slots.values()],
        "last_failover": _failover(supervisor.failovers.last),
    }


def _failover(last: Failover | None) -> Document | None:
    if last is None:
        return None
    return {"at": last.at, "from": last.origin, "to": last.heir, "cause": last.cause, "gap_ms": last.gap_ms}


def reason(supervisor: Supervisor, slot: Slot) -> str:
    """Return why a node is what it is, empty when there is nothing to say."""
    if supervisor.fleet.role(slot) != PRIMARY and (what := hindrance(slot, supervisor.register)) is not None:
        return explained(slot, what)
    if slot.paused:
        return "it is paused"
    if slot.run is None:
        return slot.reason
    return slot.run.status.reason if slot.run.status is not None else ""


def _node(supervisor: Supervisor, slot: Slot) -> Document:
    config, role, seen = supervisor.config, supervisor.fleet.role(slot), slot.last
    running = slot.run is not None
    rss_bytes, cpu_percent = _usage(slot)
    return {
        "node": slot.node,
        "role": role if running else "down",
        "state": _state(supervisor, slot),
        "pid": slot.run.child.pid if slot.run is not None else None,
        "http": http_url(config) if running and role == PRIMARY else None,
        "grpc": f"{config.grpc_host}:{config.primary_grpc_port if role == PRIMARY else config.backup_grpc_port}",
        "first_lsn": seen.counters.get("first_lsn", 0) if seen else 0,
        "durable_lsn": seen.durable_lsn if seen else 0,
        "commit_lsn": seen.commit_lsn if seen else 0,
        "digest": seen.digest.hex() if seen else "",
        "restarts": slot.restarts,
        "uptime_s": round(slot.uptime_s(), 3),
        "rss_bytes": rss_bytes,
        "cpu_percent": cpu_percent,
        "promotable": None if role == PRIMARY else hindrance(slot, supervisor.register) is None,
        "reason": reason(supervisor, slot),
    }


def _state(supervisor: Supervisor, slot: Slot) -> str:
    if slot.phase is Phase.FAILED:
        return "failed"
    if slot.run is None:
        return "down"
    if slot.run.status is None:
        return "recovering"
    if slot.run.pulse is not None and slot.run.pulse.silent_s(time.monotonic()) > supervisor.config.hung_after_s:
        return "down"  # it has a process that does not answer
    return str(slot.run.status.state)


def http_url(config: Config) -> str:
    """Return where REST is served."""
    host = f"[{config.http_host}]" if ":" in config.http_host else config.http_host
    return f"http://{host}:{config.http_port}"


def _usage(slot: Slot) -> tuple[int, float]:
    if slot.run is None or slot.run.usage is None:
        return 0, 0.0
    try:
        with slot.run.usage.oneshot():
            return slot.run.usage.memory_info().rss, slot.run.usage.cpu_percent()
    except psutil.Error:
        return 0, 0.0
