"""The durable history of the cluster: `events.jsonl`, one JSON object a line, and what the supervisor logs of it.

Lines are written and synced by a thread of their own, in order: a stalled disk must not stall the one loop, or it would
take healthy nodes for hung. A crash can tear the last line; readers leave it out and the next start cuts it off.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from ftwallet import platform

EVENTS_FILE = "events.jsonl"
SCHEMA = 1


class Event(NamedTuple):
    """One line of the history. `at` is RFC 3339 in UTC; `node` is None when it concerns the whole cluster."""

    at: str
    kind: str
    node: str | None
    sentence: str
    details: dict[str, Any]


class EventLog:
    """Appends events to the file and a line for people to the supervisor's log."""

    def __init__(self, path: Path, log: Path, log_format: str = "text") -> None:
        self._path = path
        self._log = log
        self._as_json = log_format == "json"
        self._lines: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        cut_torn_line(path)
        self._newest = _newest_time(path)
        self._writer = threading.Thread(target=self._write_all, name="events", daemon=True)
        self._writer.start()

    def record(self, kind: str, sentence: str, node: str | None = None, **details: Any) -> Event:
        """Record an event; it is on disk soon after, and surely after `close`. Never blocks."""
        self._newest = max(self._newest, datetime.now(UTC))  # a clock set back must not turn the history round
        event = Event(rfc3339(self._newest), kind, node, sentence, details)
        self._lines.put(event)
        return event

    def close(self, timeout_s: float = 2.0) -> None:
        """Write what is queued; gives up after `timeout_s` seconds on a stalled disk."""
        self._lines.put(None)
        self._writer.join(timeout_s)

    def _write_all(self) -> None:
        while (event := self._lines.get()) is not None:
            try:
                self._write(event)
            except OSError as error:  # a full disk must not end the supervisor: the nodes live on
                print(f"the event {event.sentence!r} could not be written: {error.strerror}", file=sys.stderr)

    def _write(self, event: Event) -> None:
        _append(self._log, self._log_line(event), durable=False)
        _append(self._path, encode(event), durable=True)

    def _log_line(self, event: Event) -> bytes:
        if self._as_json:
            line = {"timestamp": event.at, "level": "info", "event": event.sentence, "kind": event.kind}
            return json.dumps(line | {"node": event.node}, ensure_ascii=False).encode() + b"\n"
        return f"{event.at} [info] {event.sentence}\n".encode()


def encode(event: Event) -> bytes:
    """Return the event as one line of JSON."""
    return json.dumps({"schema": SCHEMA, **event._asdict()}, ensure_ascii=False).encode() + b"\n"


def decode(line: bytes) -> Event:
    """Return the event in a line of JSON; a line that is none becomes an event that says so."""
    try:
        fields = json.loads(line)
        return Event(fields["at"], fields["kind"], fields["node"], fields["sentence"], fields["details"])
    except (ValueError, KeyError, TypeError):
        return Event("", "unreadable", None, f"a line of the history cannot be read: {line[:80]!r}", {})


def read_events(path: Path) -> Iterator[Event]:
    """Return a history's events, oldest first; a torn last line is left out, a missing file is an empty history."""
    if not path.exists():
        return
    with path.open("rb") as lines:
        for line in lines:
            if line.endswith(b"\n"):
                yield decode(line)


def _newest_time(path: Path) -> datetime:
    """The clock may have been set back while nobody ran: what is recorded next is no older than what is on file."""
    newest = datetime.fromtimestamp(0, UTC)
    for event in read_events(path):
        with contextlib.suppress(ValueError, TypeError):  # a line that was damaged
            newest = max(newest, datetime.fromisoformat(event.at))
    return newest


def cut_torn_line(path: Path) -> None:
    """Cut off a last line that has no end: it was never whole, and the next one must not be glued to it."""
    if not path.exists():
        return
    with path.open("r+b") as file:
        content = file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            file.truncate(whole)


def rfc3339(moment: datetime) -> str:
    """Return a moment as RFC 3339 in UTC with milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def clock(moment: datetime) -> str:
    """Return a moment for a sentence: the time of day in UTC, with the date unless it is today's."""
    utc = moment.astimezone(UTC)
    return f"{utc:%H:%M:%S}Z" if utc.date() == datetime.now(UTC).date() else f"{utc:%Y-%m-%d %H:%M:%S}Z"


def _append(path: Path, line: bytes, *, durable: bool) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(fd, line)
        if durable:
            platform.fdatasync(fd)
    finally:
        os.close(fd)
