"""A pair of nodes to measure: fresh, on free ports, in a directory that is removed at the end.

There is no supervisor between the bench and its nodes: the bench itself holds the listening socket of REST, starts the
nodes as two terminals would, and counts what they answered, so that it can be held against their journals afterwards.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import grpc

from ftwallet.config import Config
from ftwallet.errors import ExitCode, Refused
from ftwallet.lab import processes
from ftwallet.lab.batches import BatchLoad, run_batches
from ftwallet.lab.processes import CpuMeter
from ftwallet.lab.wrk import Load, Order, run_wrk
from ftwallet.rpc.sockets import NODE_SOCKET, check_socket_paths, open_blocking_channel
from ftwallet.rpc.v1 import control_pb2_grpc, wallet_pb2
from ftwallet.supervisor.processes import Child, log_path

PRIMARY, BACKUP = "a", "b"
"""Which node has which role in a new cluster; it stays so, as nobody promotes here."""

ROLES = {PRIMARY: "primary", BACKUP: "backup"}

# The load's amounts are of a currency with two decimals, and an account must be able to take all of it.
_NOT_TAKEN_OVER = {"http_host", "grpc_host", "currency_exponent", "max_amount", "max_balance"}
_STATUS_TIMEOUT_S = 2.0
_STATUS_PAUSE_S = 0.02
_AGREE_PAUSE_S = 0.25
_AGREE_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 300.0  # with millions of transactions the readable files take their time


Past = Callable[[Path], int]


class Measured(NamedTuple):
    """One load on a pair: what wrk saw, and the CPU of each role in percent of a core."""

    load: Load
    cpu_percent: dict[str, float]


class Pair:
    """Two nodes, and how much they have answered. Made by `temporary_pair`, paired and serving.

    `answered`: new transactions of which at least so many were answered with 200. `cut_off`: at most so many more were
    asked; they may be done without anybody having been told. `restarts`: nodes killed and started again. `first_epoch`:
    the one in which both were in sync at the beginning; without restarts, a later one says that the primary was alone
    for a time.
    """

    def __init__(self, config: Config, config_file: Path, listener: socket.socket) -> None:
        self.config = config
        self.port = processes.port_of(listener)
        self.nodes: dict[str, Child] = {}
        self.answered = 0
        self.cut_off = 0
        self.restarts = 0
        self.first_epoch = 0
        self._config_file = config_file
        self._listener = listener

    def start(self, node: str) -> None:
        """Start one node's process; it is not ready yet."""
        arguments = ["node", ROLES[node], "--node", node, "--config", str(self._config_file)]
        arguments += ["--parent-pid", str(os.getpid())]
        descriptors: tuple[int, ...] = ()
        if node == PRIMARY:
            descriptors = (self._listener.fileno(),)
            arguments += ["--http-fd", str(self._listener.fileno())]
        self.nodes[node] = processes.start_python("ftwallet", arguments, self._log(node), descriptors)

    def wait_until_serving(self) -> None:
        """Return when `GET /health` is answered with 200. Raises Refused."""
        self._wait(PRIMARY, lambda: processes.healthy(self.port))

    def wait_until_backup_in_sync(self) -> None:
        """Return when the backup says that it holds all that the primary answered. Raises Refused."""
        self._wait(BACKUP, lambda: self._status(BACKUP).state == "in-sync", _STATUS_PAUSE_S)

    def wait_until_in_sync(self) -> None:
        """Return when the backup follows and the primary answers nothing without it. Raises Refused."""
        self.wait_until_backup_in_sync()
        self._wait(PRIMARY, lambda: self._status(PRIMARY).mode == "paired", _STATUS_PAUSE_S)

    def kill(self, node: str) -> None:
        """Kill a node's process (SIGKILL) and start it again as soon as it is dead."""
        processes.end_at_once(self.nodes[node])
        self.restarts += 1
        self.start(node)

    def load(self, wrk: str, order: Order) -> Measured:
        """Put a load on it, and count what is answered. Raises Refused when wrk fails, or a node ends meanwhile."""
        meter = CpuMeter({role: [self.nodes[node].pid] for node, role in ROLES.items()})
        load = run_wrk(wrk, order)
        cpu_percent = meter.percent()
        for node in self.nodes:
            self._refuse_dead(node)
        # Which of the requests without an answer were to move money nobody has counted: maybe all, maybe none.
        self.answered += load.fresh - load.undone
        self.cut_off += load.undone
        return Measured(load, cpu_percent)

    def overload(self, wrk: str, order: Order) -> Measured:
        """The same with more than it takes: what was answered with an error must not be in a journal."""
        measured = self.load(wrk, order)
        self.cut_off -= measured.load.errors.non_200
        return measured

    def batches(self, size: int, seconds: float) -> BatchLoad:
        """Put batches of deposits on it, and count their operations. Raises Refused as `load`."""
        load = run_batches(self.url, size, seconds)
        for node in self.nodes:
            self._refuse_dead(node)
        self.answered += load.operations
        return load

    @property
    def url(self) -> str:
        """Where its REST is."""
        return f"http://{processes.HOST}:{self.port}"

    def agreed(self) -> dict[str, wallet_pb2.NodeStatus]:
        """Return how both stand, once nothing is under way any more. Raises Refused when they do not come to agree."""
        give_up_at = time.monotonic() + _AGREE_TIMEOUT_S
        before: set[int] = set()
        while time.monotonic() < give_up_at:
            statuses = {node: self._status(node) for node in ROLES}
            lsns = {lsn for one in statuses.values() for lsn in (one.durable_lsn, one.applied_lsn)}
            if len(lsns) == 1 and lsns == before:  # twice: between two blocks all agree while requests still wait
                return statuses
            before = lsns
            time.sleep(_AGREE_PAUSE_S)
        raise Refused(f"the nodes did not come to stand at one lsn within {_AGREE_TIMEOUT_S:.0f} s after the load")

    def stop(self) -> None:
        """Stop both in order, the primary first. Raises Refused when one does not end well."""
        for node in (PRIMARY, BACKUP):
            child = self.nodes[node]
            child.send(signal.SIGTERM)
            processes.wait_until_dead(child, _STOP_TIMEOUT_S)
            if child.returncode != ExitCode.OK:
                raise Refused(f"the {ROLES[node]} did not stop in order: {processes.last_line(self._log(node))}")

    def end_at_once(self) -> None:
        """Kill what still lives."""
        for child in self.nodes.values():
            processes.end_at_once(child)

    def _status(self, node: str) -> wallet_pb2.NodeStatus:
        """Ask a node how it stands; one that does not answer stands nowhere."""
        with open_blocking_channel(self.config.node_dir(node) / NODE_SOCKET) as channel:
            stub = control_pb2_grpc.NodeControlStub(channel)
            try:
                return stub.GetStatus(wallet_pb2.StatusRequest(), timeout=_STATUS_TIMEOUT_S)
            except grpc.RpcError:
                return wallet_pb2.NodeStatus()

    def _wait(self, node: str, done: Callable[[], bool], pause_s: float = processes.PAUSE_S) -> None:
        processes.wait_for(done, self.nodes[node], self._log(node), pause_s)

    def _refuse_dead(self, node: str) -> None:
        if self.nodes[node].returncode is not None:
            code = self.nodes[node].returncode
            raise Refused(
                f"the {ROLES[node]} ended under load (exit code {code}): {processes.last_line(self._log(node))}"
            )

    def _log(self, node: str) -> Path:
        return log_path(self.config.data_dir, node)


@contextmanager
def temporary_directory(beside: Path) -> Iterator[Path]:
    """Make a directory on the file system that the ledger itself would be on, and remove it at the end.

    Not in /tmp, which often is in memory: an fdatasync costs nothing there. Raises Refused when there is no room.
    """
    try:
        directory = tempfile.TemporaryDirectory(prefix="ftwallet-bench-", dir=beside, ignore_cleanup_errors=True)
    except OSError as error:
        raise Refused(f"{beside}: no directory can be made there: {error.strerror}; name another data_dir") from error
    with directory as path:
        yield Path(path)


@contextmanager
def temporary_pair(directory: Path, settings: Config, past: Past | None = None) -> Iterator[Pair]:
    """Start a pair with these settings on free ports in an empty directory; end it, in whatever state, at the end.

    `past` makes a data directory with so many transactions in it before the start, which count as answered.
    """
    with processes.listen() as listener:
        config = own_config(directory, settings, processes.port_of(listener))
        check_socket_paths(config.data_dir)
        log_path(config.data_dir, PRIMARY).parent.mkdir(parents=True)
        pair = Pair(config, write_config(directory / "config.toml", config), listener)
        if past:
            pair.answered = past(config.data_dir)
        try:
            pair.start(BACKUP)
            pair.start(PRIMARY)
            pair.wait_until_serving()
            pair.wait_until_in_sync()
            pair.first_epoch = pair.agreed()[PRIMARY].epoch
            yield pair
        finally:
            pair.end_at_once()


def own_config(directory: Path, settings: Config, http_port: int) -> Config:
    """Return the settings of a pair in a directory: those that are given, but for places, ports and the currency."""
    primary_port, backup_port = processes.free_ports(2)
    own = {
        "data_dir": directory / "data",
        "http_port": http_port,
        "primary_grpc_port": primary_port,
        "backup_grpc_port": backup_port,
        "log_format": "json",
    }
    return Config.model_validate(settings.model_dump(exclude=_NOT_TAKEN_OVER) | own)


def write_config(path: Path, config: Config) -> Path:
    """Write settings as TOML, in which numbers and strings look as in JSON; returns the path."""
    values = config.model_dump(mode="json")
    path.write_text("".join(f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in values.items()))
    return path
