"""`ftwallet-run pause`, `resume`, `restart`, `switchover` and `stop`."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import rich_click as click

from ftwallet import platform
from ftwallet.cli.options import as_json, load_settings, role_argument, settings
from ftwallet.cli.terminal import say, say_json
from ftwallet.errors import Refused
from ftwallet.journal.identity import lock_holder
from ftwallet.supervisor.client import SupervisorClient

_GONE_WITHIN_S = 10.0


@click.command()
@role_argument
@settings
@as_json
def pause(role: str, as_json: bool) -> None:
    """Stop a node where it is (SIGSTOP), as a hang would.

    A paused backup stays so until `resume`: the primary goes on alone. A paused primary is what a hang looks like:
    unless resumed at once it is killed after hung_after_s (1 s), and its backup takes over, because clients wait.
    """
    with SupervisorClient(load_settings().data_dir) as supervisor:
        _tell(supervisor.signal(role, signal.SIGSTOP), as_json)


@click.command()
@role_argument
@settings
@as_json
def resume(role: str, as_json: bool) -> None:
    """Let a paused node go on (SIGCONT)."""
    with SupervisorClient(load_settings().data_dir) as supervisor:
        _tell(supervisor.signal(role, signal.SIGCONT), as_json)


@click.command()
@role_argument
@settings
@as_json
def restart(role: str, as_json: bool) -> None:
    """Stop a node in order and start it again; also starts one that is down or failed."""
    with SupervisorClient(load_settings().data_dir) as supervisor:
        _tell(supervisor.restart(role), as_json)


@click.command()
@settings
@as_json
def switchover(as_json: bool) -> None:
    """Have the backup take the primary's place, in order and without a failed request.

    The old primary finishes what is under way, the backup leads, requests that came meanwhile are answered by it, and
    the old primary starts again as backup. Returns when the pair is paired again.
    """
    with SupervisorClient(load_settings().data_dir) as supervisor:
        _tell(supervisor.switchover(), as_json)


@click.command()
@settings
@as_json
def stop(as_json: bool) -> None:
    """Stop everything in order: the primary, its backup, the supervisor."""
    data_dir = load_settings().data_dir
    with SupervisorClient(data_dir) as supervisor:
        document = stop_and_wait(supervisor, data_dir)
    _tell(document, as_json)


def stop_and_wait(supervisor: SupervisorClient, data_dir: Path) -> dict[str, Any]:
    """Stop everything and return when the supervisor's process has ended, too."""
    holder = lock_holder(data_dir)
    document = supervisor.stop()
    give_up = time.monotonic() + _GONE_WITHIN_S
    while holder is not None and platform.same_process(*holder):
        if time.monotonic() > give_up:
            raise Refused(f"both nodes have stopped, but the supervisor with pid {holder.pid} does not end")
        time.sleep(0.02)
    return document


def _tell(document: dict[str, Any], as_json: bool) -> None:
    if as_json:
        say_json(document)
    else:
        say(document["sentence"])
