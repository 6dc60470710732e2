"""`ftwallet-run status`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import rich_click as click

from ftwallet.cli.options import as_json, load_settings, settings
from ftwallet.cli.terminal import console, say, say_json
from ftwallet.config import MEBIBYTE
from ftwallet.errors import ExitCode
from ftwallet.supervisor.client import SupervisorClient
from ftwallet.supervisor.events import EVENTS_FILE, read_events

_MINUTE_S = 60
_DIGEST_SHOWN = 12
_STATE_STYLES = {"serving": "green", "in-sync": "green", "down": "red", "failed": "bold red"}
_TROUBLES = frozenset({"node-failed", "node-died", "node-paused", "node-backoff"})
_COLUMNS = ("node", "role", "state", "pid", "up for", "durable", "commit", "restarts", "cpu, memory")  # 80 characters


@click.command()
@settings
@as_json
def status(as_json: bool) -> None:
    """Show roles, pids, ports, uptime, epoch, in-sync set, lsns and digests, restarts, CPU and memory.

    Exits 0 when paired and serving, 3 when solo, starting or not serving, 4 without a supervisor.
    """
    data_dir = load_settings().data_dir
    with SupervisorClient(data_dir) as supervisor:
        document = supervisor.status()
    if as_json:
        say_json(document)
    else:
        show(document)
        for sentence in _troubles(document, data_dir / EVENTS_FILE):
            say(sentence)
    paired = document["mode"] == "paired" and document["ready"]
    raise SystemExit(ExitCode.OK if paired else ExitCode.NOT_SERVING)


def show(document: dict[str, Any]) -> None:
    """Print a status document for people."""
    out = console()
    serving = "serving" if document["ready"] else "not serving"
    in_sync = ", ".join(document["in_sync"])
    out.print(f"[bold]{document['mode'] or 'no primary'}[/], {serving}; epoch {document['epoch']}, in sync: {in_sync}")
    supervisor = document["supervisor"]
    out.print(
        f"cluster {document['cluster_id']}, supervisor pid {supervisor['pid']}, up {_duration(supervisor['uptime_s'])}"
    )
    out.print(_table(document["nodes"]))
    for node in document["nodes"]:
        faces = ", ".join(face for face in (node["http"], f"gRPC {node['grpc']}") if face)
        out.print(f"node {node['node']}: {faces}, digest {node['digest'][:_DIGEST_SHOWN] or 'unknown'}")
        if why := _why(node):
            out.print(f"node {node['node']}: {why}", markup=False)
    if last := document["last_failover"]:
        out.print(_failover(last), markup=False)


def _why(node: dict[str, Any]) -> str:
    """Return why a node is what it is, and whether it could take over."""
    standing = {True: "promotable", False: "not promotable", None: node["state"]}[node["promotable"]]
    return f"{standing}: {node['reason']}" if node["reason"] else ""


def _failover(last: dict[str, Any]) -> str:
    gap = "" if last["gap_ms"] is None else f", {last['gap_ms']:,.0f} ms without a primary"
    return f"last failover: {last['at']}, from {last['from']} to {last['to']}{gap}: {last['cause']}"


def _troubles(document: dict[str, Any], history: Path) -> list[str]:
    """Return for each node that is down or given up what the history says last of its end."""
    down = {node["node"] for node in document["nodes"] if node["state"] in ("failed", "down")}
    newest = {
        event.node: event.sentence
        for event in (read_events(history) if down else ())
        if event.node in down and event.kind in _TROUBLES
    }
    return list(newest.values())


def _table(nodes: list[dict[str, Any]]) -> Any:
    from rich.table import Table  # noqa: PLC0415  (`--json` does without rich)

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for column in _COLUMNS:
        table.add_column(column, no_wrap=True)
    for node in nodes:
        style = _STATE_STYLES.get(node["state"], "yellow")
        table.add_row(
            node["node"],
            node["role"],
            f"[{style}]{node['state']}[/]",
            str(node["pid"] or "-"),
            _duration(node["uptime_s"]),
            str(node["durable_lsn"]),
            str(node["commit_lsn"]),
            str(node["restarts"]),
            f"{node['cpu_percent']:.0f} %, {node['rss_bytes'] / MEBIBYTE:.0f} MiB",
        )
    return table


def _duration(seconds: float) -> str:
    if seconds < _MINUTE_S:
        return f"{seconds:.1f} s"
    minutes = int(seconds / _MINUTE_S)
    return f"{minutes} min" if minutes < _MINUTE_S else f"{minutes // 60} h {minutes % 60} m"
