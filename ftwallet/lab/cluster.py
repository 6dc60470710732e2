"""A whole cluster to break: a supervisor over two nodes on free ports, in a directory that is removed at the end.

It may have a past that was there before its first start (`preload`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ftwallet import platform
from ftwallet.config import Config
from ftwallet.errors import ExitCode, Refused
from ftwallet.lab import processes
from ftwallet.lab.pair import Past, own_config, write_config
from ftwallet.rpc.sockets import check_socket_paths
from ftwallet.supervisor.client import SupervisorClient
from ftwallet.supervisor.processes import Child

_LOOK_EVERY_S = 0.02
_WHOLE_WITHIN_S = 60.0
_STOP_WITHIN_S = 300.0


class Cluster:
    """One supervised pair. Made by `temporary_cluster`, paired and serving; it was born with `past` transactions."""

    def __init__(self, config: Config, past: int, supervisor: Child, client: SupervisorClient, log: Path) -> None:
        self.config = config
        self.past = past
        self._supervisor = supervisor
        self._client = client
        self._log = log

    def status(self) -> dict[str, Any]:
        """Return the status document. Raises Refused when the supervisor has ended or does not answer."""
        if self._supervisor.returncode is not None:
            raise Refused(f"the supervisor under test has ended: {processes.last_line(self._log)}")
        return self._client.status()

    def primary(self) -> dict[str, Any]:
        """Return what the status says of the primary. Raises Refused when there is none."""
        found = _primary(self.status())
        if found is None:
            raise Refused("there is no primary to end")
        return found

    def wait_until_led_by_another(self, pid: int) -> float:
        """Return when the status first showed another process than `pid` serving. Raises Refused."""
        self._wait(lambda status: bool(status["ready"]) and (_primary(status) or {"pid": pid})["pid"] != pid)
        return time.monotonic()

    def wait_until_paired(self) -> float:
        """Return when the status showed the pair whole. Raises Refused when it does not come to be."""
        self._wait(lambda status: status["mode"] == "paired")
        return time.monotonic()

    def stop(self) -> None:
        """Stop everything in order. Raises Refused when it does not end well."""
        self._supervisor.send(signal.SIGTERM)
        processes.wait_until_dead(self._supervisor, _STOP_WITHIN_S)
        if self._supervisor.returncode != ExitCode.OK:
            raise Refused(f"the cluster did not stop in order: {processes.last_line(self._log)}")

    def _wait(self, done: Callable[[dict[str, Any]], bool]) -> None:
        give_up_at = time.monotonic() + _WHOLE_WITHIN_S
        while not done(status := self.status()):
            if time.monotonic() > give_up_at:
                raise Refused(f"the pair is not whole again after {_WHOLE_WITHIN_S:.0f} s: {_standing(status)}")
            time.sleep(_LOOK_EVERY_S)


def signal_pid(pid: int, number: int) -> tuple[float, float]:
    """Send a signal to a process; returns the moments before and after. Raises Refused when it has ended by itself."""
    try:
        identity = platform.process_identity(pid)
    except ProcessLookupError as error:
        raise Refused(f"the process {pid} that was to be signalled has ended by itself") from error
    before = time.monotonic()
    platform.send_signal(identity, number, None)
    return before, time.monotonic()


@contextlib.contextmanager
def temporary_cluster(directory: Path, settings: Config, past: Past | None = None) -> Iterator[Cluster]:
    """Start a cluster that promotes, with these settings, in an empty directory; end it, in whatever state.

    `past` makes a data directory with so many transactions in it before the start.
    """
    (http_port,) = processes.free_ports(1)
    config = own_config(directory, settings, http_port).model_copy(update={"on_primary_death": "promote"})
    check_socket_paths(config.data_dir)
    file, log = write_config(directory / "config.toml", config), directory / "supervisor.log"
    written = past(config.data_dir) if past else 0
    child = processes.start_python("ftwallet.lab.supervised", [str(file), str(os.getpid())], log)
    try:
        processes.wait_for(lambda: _paired(config.data_dir), child, log, _LOOK_EVERY_S)
        with SupervisorClient(config.data_dir) as client:
            yield Cluster(config, written, child, client, log)
    finally:
        processes.end_at_once(child)  # its nodes end with it


def _paired(data_dir: Path) -> bool:
    try:
        with SupervisorClient(data_dir) as client:
            return bool(client.status()["mode"] == "paired")
    except Refused:  # it is just starting
        return False


def _primary(status: dict[str, Any]) -> dict[str, Any] | None:
    return next((node for node in status["nodes"] if node["role"] == "primary"), None)


def _standing(status: dict[str, Any]) -> str:
    return ", ".join(f"node {node['node']} {node['role']} {node['state']}" for node in status["nodes"])
