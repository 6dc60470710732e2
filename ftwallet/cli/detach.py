"""`up -d`: a supervisor with a session of its own and none of the caller's descriptors, waited for until it serves."""

from __future__ import annotations

import contextlib
import shlex
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from typing import Any

from ftwallet.cli.terminal import busy, say
from ftwallet.config import Config, load
from ftwallet.errors import ExitCode, Refused
from ftwallet.journal.identity import lock_holder
from ftwallet.supervisor.client import SupervisorClient
from ftwallet.supervisor.documents import http_url
from ftwallet.supervisor.events import EVENTS_FILE, read_events, rfc3339
from ftwallet.supervisor.processes import NO_CONFIG_FILE

_LOOK_EVERY_S = 0.05
_STOP_SLACK_S = 5.0
_TELLING = frozenset({"node-failed", "node-died", "node-state", "node-up", "refused"})


def up(config: Config, limit_s: float) -> ExitCode:
    """Start a supervisor and return when it is paired and serving. Raises Refused, and leaves nothing running then."""
    began = datetime.now(UTC)
    child = _spawn(config)
    try:
        with busy("starting both nodes"):
            pid = _wait(config, child, limit_s, began)
    except BaseException:  # Ctrl-C too: what the caller does not get must not stay behind
        _end(config, child)
        raise
    say(f"FT-Wallet is up: {http_url(config)}, supervisor pid {pid}; stop it with `{stop_line(config)}`")
    return ExitCode.OK


def stop_line(config: Config) -> str:
    """Return what stops this wallet when it is typed here, which needs the directory unless it is found without."""
    try:
        found = load().data_dir == config.data_dir
    except Refused:
        found = False
    return "ftwallet-run stop" if found else f"ftwallet-run stop --data-dir {shlex.quote(str(config.data_dir))}"


def _spawn(config: Config) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-P", "-m", "ftwallet", "up", "--detached-child"]
    arguments += ["--config", str(config.config_file or NO_CONFIG_FILE), "--data-dir", str(config.data_dir)]
    return subprocess.Popen(
        arguments,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def _wait(config: Config, child: subprocess.Popen[str], limit_s: float, began: datetime) -> int:
    """Return the pid of the supervisor that serves: our child, or the one that was started at the same time."""
    give_up = time.monotonic() + limit_s
    while time.monotonic() < give_up:
        pid = child.pid if child.poll() is None else _rival(config, child)
        document: dict[str, Any] = {}
        with contextlib.suppress(Refused), SupervisorClient(config.data_dir) as supervisor:
            document = supervisor.status()
        if document and document["supervisor"]["pid"] == pid:
            if document["ready"] and document["mode"] == "paired":
                return pid
            if any(node["state"] == "failed" for node in document["nodes"]):
                raise Refused(f"not paired and serving, everything was stopped again; {_why(config, began)}")
        time.sleep(_LOOK_EVERY_S)
    raise Refused(f"not paired and serving within {limit_s:g} s, everything was stopped again; {_why(config, began)}")


def _rival(config: Config, child: subprocess.Popen[str]) -> int:
    """Our child has ended: because another has the data directory, or for a reason that it has said."""
    holder = lock_holder(config.data_dir)
    if holder is None:
        raise Refused(_last_words(child))
    return holder.pid


def _last_words(child: subprocess.Popen[str]) -> str:
    output = child.stdout.read().strip() if child.stdout else ""
    return output.removeprefix("Error: ") or f"the supervisor ended at once with exit code {child.returncode}"


def _why(config: Config, began: datetime) -> str:
    """Return the last that this start says of itself; what an earlier one said explains nothing."""
    history, since = config.data_dir / EVENTS_FILE, rfc3339(began)
    told = [event.sentence for event in read_events(history) if event.kind in _TELLING and event.at >= since]
    return f"last: {told[-1]}" if told else f"see {config.data_dir / 'logs'}"


def _end(config: Config, child: subprocess.Popen[str]) -> None:
    child.send_signal(signal.SIGTERM)
    try:
        child.wait(2 * config.stop_timeout_s + _STOP_SLACK_S)
    except subprocess.TimeoutExpired:
        child.kill()  # its nodes die with it
        child.wait()
