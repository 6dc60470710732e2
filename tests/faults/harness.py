"""A pair of real node processes, started by hand, killed for real, and always cleaned up.

Nothing here sleeps and hopes: `until` waits for a condition and fails with the nodes' logs.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM, Signals
from typing import Any, NoReturn

import grpc
import psutil
import pytest

from ftwallet.faults.crash import read_crash
from ftwallet.faults.stages import Stage
from ftwallet.replication.register import Register
from ftwallet.rpc.channels import CHANNEL_OPTIONS
from ftwallet.rpc.v1 import control_pb2, control_pb2_grpc, wallet_pb2
from ftwallet.witness.file import FileWitness
from tests.faults.wire import Rest

PROJECT = Path(__file__).resolve().parents[2]
BREAK_VARIABLE = "BREAK"
PATIENCE_S = 20.0
ACK_TIMEOUT_S = 2.0
ROLES = {"a": "primary", "b": "backup"}

_DEADLINE_S = 2.0
_POLL_S = 0.005
_LOG_TAIL = 30


def free_ports(count: int) -> list[int]:
    """Ports that nobody has, below those of outgoing connections, so that none is lost while a node is down."""
    found: list[int] = []
    while len(found) < count:
        port = random.SystemRandom().randrange(12_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.append(port)
    return found


def until(condition: Callable[[], Any], what: str, timeout_s: float = PATIENCE_S, told: Callable[[], str] = str) -> Any:
    """Return the condition's first true value; fail with `what` (and what `told` says) when it stays false."""
    ends_at = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > ends_at:
            raise AssertionError(f"not within {timeout_s} s: {what}\n{told()}")
        time.sleep(_POLL_S)


def skip_outside_the_gate(why: str) -> NoReturn:
    """Skip a test that this machine cannot run; where CI is set it fails, since the gate must not pass by skipping."""
    if os.environ.get("CI"):
        pytest.fail(why)
    pytest.skip(why)


class Ended(AssertionError):
    """A node process ended while it was waited for."""


class Controlled:
    """A node as its control socket shows it, whoever started its process."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.directory = directory
        self._channel = grpc.insecure_channel(f"unix:{directory / 'control.sock'}", options=CHANNEL_OPTIONS)
        self._control = control_pb2_grpc.NodeControlStub(self._channel)

    def status(self) -> wallet_pb2.NodeStatus | None:
        """None while it does not answer."""
        with contextlib.suppress(grpc.RpcError):
            return self._control.GetStatus(wallet_pb2.StatusRequest(), timeout=_DEADLINE_S)
        return None

    def find(self, transaction_id: str) -> dict[str, Any] | None:
        request = control_pb2.FindRequest(transaction_id=transaction_id)
        return json.loads(self._control.FindTransaction(request, timeout=_DEADLINE_S).json)

    def arm(self, stage: Stage, after: int = 1, signal: Signals = SIGKILL) -> None:
        request = control_pb2.ArmRequest(stage=stage, after=after, signal=signal)
        reply = self._control.Arm(request, timeout=_DEADLINE_S)
        assert reply.armed, reply.reason

    def disarm(self) -> None:
        self._control.Disarm(control_pb2.DisarmRequest(), timeout=_DEADLINE_S)

    def import_files(self, wallets: Path, transactions: Path) -> dict[str, int]:
        request = control_pb2.ImportRequest(wallets_path=str(wallets), transactions_path=str(transactions))
        return dict(json.loads(self._control.Import(request, timeout=PATIENCE_S).json))

    def export(self, directory: Path) -> dict[str, bytes]:
        """Have it write the readable files into a directory; return them by their names without the role."""
        directory.mkdir()
        self._control.Export(control_pb2.ExportRequest(directory=str(directory)), timeout=PATIENCE_S)
        return {path.name.partition("_")[2]: path.read_bytes() for path in directory.iterdir()}

    def close(self) -> None:
        self._channel.close()


class Node(Controlled):
    """One process of a node, from its start to its end."""

    def __init__(self, pair: Pair, name: str, role: str) -> None:
        super().__init__(name, pair.data_dir / name)
        self.role = role
        self.log = pair.root / f"{name}.log"
        self._began = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*_program(), "node", role, "--node", name, "--parent-pid", str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=pair.root,
                env=pair.environment(),
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    @property
    def stopped(self) -> bool:
        """Whether it is held by SIGSTOP."""
        return self.alive and psutil.Process(self.pid).status() == psutil.STATUS_STOPPED

    def said(self) -> str:
        """What this process has logged."""
        with self.log.open("rb") as log:
            log.seek(self._began)
            return log.read().decode(errors="replace")

    def tail(self) -> str:
        return f"--- {self.name}, {self.role}:\n" + "\n".join(self.said().splitlines()[-_LOG_TAIL:])

    def reason(self) -> dict[str, Any]:
        """Its `exit.json`."""
        return dict(json.loads((self.directory / "exit.json").read_bytes()))

    # ---- Its end

    def send_signal(self, number: Signals) -> None:
        self.process.send_signal(number)

    def pause(self) -> None:
        self.send_signal(SIGSTOP)
        until(lambda: self.stopped, f"node {self.name} stops")

    def resume(self) -> None:
        self.send_signal(SIGCONT)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.process.kill()
        self.process.wait(PATIENCE_S)

    def stop(self) -> int:
        """SIGTERM; return the exit code."""
        self.send_signal(SIGTERM)
        return self.ends()

    def ends(self, timeout_s: float = PATIENCE_S) -> int:
        """Wait for its end; return the exit code, negative for a signal."""
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"node {self.name} did not end\n{self.tail()}") from None

    def crashes(self, stage: Stage) -> None:
        """Wait for an armed SIGKILL, and check that it came at this stage."""
        code = self.ends()
        assert code == -SIGKILL, f"ended with {code}\n{self.tail()}"
        note = read_crash(self.directory)
        assert note is not None
        assert (note.stage, note.pid) == (stage, self.pid)

    def close(self) -> None:
        if self.alive:
            self.process.kill()
        self.process.wait(PATIENCE_S)
        super().close()


class Pair:
    """Node `a` as primary and node `b` as backup on one data directory; `settings` are keys of the configuration."""

    def __init__(self, root: Path, **settings: object) -> None:
        self.root = root
        self.data_dir = root / "d"
        self.ports = dict(zip(("http_port", "primary_grpc_port", "backup_grpc_port"), free_ports(3), strict=True))
        self.settings: dict[str, object] = {"ack_timeout_s": ACK_TIMEOUT_S, "log_format": "text"} | settings
        self.nodes: dict[str, Node] = {}
        self.rest = Rest(self.ports["http_port"])
        self._all: list[Node] = []

    # ---- Life

    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("FTWALLET_")}
        keys = self.settings | self.ports | {"data_dir": self.data_dir}
        return (
            kept | {f"FTWALLET_{key.upper()}": str(value) for key, value in keys.items()} | {"PYTHONPATH": str(PROJECT)}
        )

    def start(self, name: str, role: str | None = None) -> Node:
        """Start a node's process; by default in the role that it has from the beginning."""
        node = Node(self, name, role or ROLES[name])
        self._all.append(node)
        self.nodes[name] = node
        return node

    def start_both(self) -> None:
        """Start whichever node is down, and wait until the pair is paired."""
        for name in ("b", "a"):
            if name not in self.nodes or not self.nodes[name].alive:
                self.start(name)
        self.wait_paired()

    @property
    def a(self) -> Node:
        return self.nodes["a"]

    @property
    def b(self) -> Node:
        return self.nodes["b"]

    def close(self) -> None:
        """Leave no process behind."""
        self.rest.close()
        for node in self._all:
            node.close()

    # ---- Waiting

    def until(self, condition: Callable[[], Any], what: str, timeout_s: float = PATIENCE_S) -> Any:
        return until(condition, what, timeout_s, self.told)

    def told(self) -> str:
        return "\n".join(f"{node.tail()}\n{node.status() if node.alive else 'down'}" for node in self.nodes.values())

    def wait_ready(self) -> None:
        """Wait until the primary serves."""
        self.until(lambda: self._lives("a") and self.rest.healthy(), "the primary serves")

    def wait_up(self, name: str) -> wallet_pb2.NodeStatus:
        """Wait until a node's control socket says that it is up, in whatever state."""
        return self.until(lambda: self._lives(name) and _up(self.nodes[name].status()), f"node {name} is up")

    def wait_mode(self, mode: str) -> None:
        self.until(lambda: self._lives("a") and self.mode() == mode, f"the primary is {mode}")

    def wait_paired(self) -> None:
        self.wait_ready()
        self.until(self._is_paired, "the nodes are paired")

    def mode(self) -> str:
        status = self.a.status()
        return status.mode if status else ""

    def _is_paired(self) -> bool:
        if not (self._lives("a") and self._lives("b")) or self.mode() != "paired":
            return False
        status = self.b.status()
        return status is not None and status.state == "in-sync"

    def _lives(self, name: str) -> bool:
        node = self.nodes[name]
        if not node.alive:
            raise Ended(f"node {name} ended with {node.process.returncode}\n{self.told()}")
        return True

    # ---- What is on disk

    def register(self) -> Register:
        return FileWitness(self.data_dir / "cluster.json").read()

    def newest_segment(self, name: str) -> Path:
        return max((self.data_dir / name / "journal").glob("*.journal"))

    def quarantined(self, name: str) -> set[Path]:
        """The directories in a node's quarantine."""
        return set((self.data_dir / name / "quarantine").glob("*"))

    def copy_to(self, root: Path) -> Pair:
        """A pair on a copy of the data directory; both nodes must be down."""
        shutil.copytree(self.data_dir, root / "d", ignore=shutil.ignore_patterns("control.sock"))
        return Pair(root, **self.settings)


@contextlib.contextmanager
def temporary_root() -> Iterator[Path]:
    """A directory with a short path: that of a unix socket holds 107 bytes."""
    root = Path(tempfile.mkdtemp(prefix="ftw-", dir="/tmp"))
    try:
        yield root
    finally:
        shutil.rmtree(root)


@contextlib.contextmanager
def running_pair(**settings: object) -> Iterator[Pair]:
    """A paired pair on a new data directory; no process of it outlives the block."""
    with temporary_root() as root, contextlib.closing(Pair(root, **settings)) as pair:
        pair.start_both()
        yield pair


def _program() -> list[str]:
    """`python -m ftwallet`, or the same with one rule of it broken on purpose (see breaks.py)."""
    if os.environ.get(BREAK_VARIABLE):
        return [sys.executable, "-m", "tests.faults.broken_node"]
    return [sys.executable, "-m", "ftwallet"]


def _up(status: wallet_pb2.NodeStatus | None) -> wallet_pb2.NodeStatus | None:
    return status if status is not None and status.cluster_id else None
