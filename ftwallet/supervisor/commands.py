"""The commands that a running supervisor carries out, apart from `kill` (`story.py`). Each returns a JSON document."""

from __future__ import annotations

import json
import signal
import time

import grpc

from ftwallet.errors import Refused
from ftwallet.rpc.v1.control_pb2 import ExportRequest, ImportRequest
from ftwallet.supervisor.loop import Supervisor
from ftwallet.supervisor.policy import signal_name
from ftwallet.supervisor.roles import PRIMARY, resolve
from ftwallet.supervisor.schema import SCHEMA, Document
from ftwallet.supervisor.slots import Phase, Slot

_FILES_DEADLINE_S = 600.0
_STOP_SLACK_S = 5.0


async def signal_node(supervisor: Supervisor, role: str, number: int) -> Document:
    """Pause or resume a node. Raises Refused if it has no process."""
    slot = _slot(supervisor, role)
    act = supervisor.fleet.resume if number == signal.SIGCONT else supervisor.fleet.pause
    name, was_paused = supervisor.fleet.name(slot), slot.paused
    if not await supervisor.ask(lambda: act(slot)) or slot.run is None:
        raise Refused(f"{name} has no process: `ftwallet-run status` tells why")
    return {
        "schema": SCHEMA,
        "node": slot.node,
        "role": slot.run.role,
        "pid": slot.run.child.pid,
        "signal": signal_name(number),
        "sentence": f"Sent {signal_name(number)} to {name}, pid {slot.run.child.pid}"
        + _what_follows(supervisor, slot, was_paused),
    }


def _what_follows(supervisor: Supervisor, slot: Slot, was_paused: bool) -> str:
    if not slot.paused:
        return "" if was_paused else "; it was not paused"
    if supervisor.fleet.role(slot) == PRIMARY:
        return f"; unless resumed, it is taken for hung after {supervisor.config.hung_after_s:g} s and killed"
    return f"; the primary goes on alone, and it stays paused until `ftwallet-run resume {slot.node}`"


async def restart(supervisor: Supervisor, role: str) -> Document:
    """Stop a node in order and start it again; returns when it is back. Also starts one that is down or failed."""
    slot = _slot(supervisor, role)
    runs, began = slot.runs, time.monotonic()

    def begin() -> None:
        if supervisor.stopping:
            raise Refused("FT-Wallet is stopping")
        supervisor.fleet.terminate(slot, time.monotonic(), start_again=True)

    await supervisor.ask(begin)
    limit_s = supervisor.config.stop_timeout_s + supervisor.config.start_timeout_s
    await supervisor.until(
        lambda: slot.phase is Phase.FAILED or (slot.runs > runs and _settled(supervisor, slot)), limit_s
    )
    name = supervisor.fleet.name(slot)
    if slot.run is None or not slot.up:
        within = "" if slot.phase is Phase.FAILED else f" within {limit_s:g} s"
        raise Refused(f"{name} did not come back{within}: {slot.reason or 'see `ftwallet-run events`'}")
    took = time.monotonic() - began
    return {
        "schema": SCHEMA,
        "node": slot.node,
        "role": slot.run.role,
        "pid": slot.run.child.pid,
        "took_s": round(took, 3),
        "sentence": f"Restarted {name} in {took:.2f} s, pid {slot.run.child.pid}",
    }


def _settled(supervisor: Supervisor, slot: Slot) -> bool:
    if supervisor.fleet.role(slot) == PRIMARY:
        return supervisor.ready
    return slot.up and (supervisor.paired or not supervisor.ready)  # without a primary a backup can but wait


async def switchover(supervisor: Supervisor) -> Document:
    """Have the backup take the primary's place; returns when the pair is paired again."""
    began = time.monotonic()
    done = await supervisor.switchover.carry_out()
    limit_s = supervisor.config.stop_timeout_s + supervisor.config.start_timeout_s
    if not await supervisor.until(lambda: supervisor.paired, limit_s):
        raise Refused(
            f"node {done.heir} leads now, and node {done.origin} has not joined as its backup within {limit_s:g} s: "
            "see `ftwallet-run status`"
        )
    took_s = time.monotonic() - began
    waited = "" if done.gap_ms is None else f"requests waited at most {done.gap_ms:.0f} ms, and "
    return {
        "schema": SCHEMA,
        "from": done.origin,
        "to": done.heir,
        "gap_ms": done.gap_ms,
        "took_s": round(took_s, 3),
        "sentence": f"Node {done.heir} is the primary now, node {done.origin} its backup; {waited}"
        f"the pair was paired again after {took_s:.2f} s",
    }


async def stop(supervisor: Supervisor) -> Document:
    """Stop both nodes in order; the supervisor ends right after this has been answered."""
    await supervisor.ask(supervisor.stop)
    await supervisor.until(lambda: supervisor.all_ended, 2 * supervisor.config.stop_timeout_s + _STOP_SLACK_S)
    still = supervisor.still_running()
    if still:
        raise Refused(f"{' and '.join(still)} did not stop: see `ftwallet-run logs`")
    return {"schema": SCHEMA, "sentence": "FT-Wallet has stopped in order"}


async def export(supervisor: Supervisor, request: ExportRequest) -> Document:
    """Write the readable files of every node that is up into a directory."""
    written = {}
    for slot in supervisor.slots.values():
        if slot.run is not None and slot.up:
            try:
                reply = await slot.run.control.Export(request, timeout=_FILES_DEADLINE_S)
            except grpc.aio.AioRpcError as error:
                raise Refused(f"{supervisor.fleet.name(slot)} could not export: {error.details()}") from None
            written[slot.node] = json.loads(reply.json or "{}")
    if not written:
        raise Refused("no node is up that could export: see `ftwallet-run status`")
    return {"schema": SCHEMA, "directory": request.directory, "nodes": written}


async def import_files(supervisor: Supervisor, request: ImportRequest) -> Document:
    """Have the primary import readable files."""
    slot = supervisor.primary
    if slot.run is None or not supervisor.ready:
        raise Refused("no primary is serving, so nothing can be imported: see `ftwallet-run status`")
    try:
        reply = await slot.run.control.Import(request, timeout=_FILES_DEADLINE_S)
    except grpc.aio.AioRpcError as error:
        raise Refused(f"the import was refused: {error.details()}") from None
    return {"schema": SCHEMA, **json.loads(reply.json or "{}")}


def _slot(supervisor: Supervisor, role: str) -> Slot:
    return supervisor.slots[resolve(role, supervisor.register.primary)]
