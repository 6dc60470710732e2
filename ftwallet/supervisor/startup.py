"""Everything that is checked and claimed before the first process is started, so that a refusal changes nothing."""

from __future__ import annotations

import contextlib
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

import psutil

from ftwallet import platform
from ftwallet.config import Config
from ftwallet.errors import Refused
from ftwallet.journal.identity import DirectoryLock, lock_directory, lock_holder
from ftwallet.platform import ProcessIdentity
from ftwallet.replication.register import Register
from ftwallet.rpc.sockets import SUPERVISOR_SOCKET, check_socket_paths
from ftwallet.supervisor.ports import PortTaken, check_grpc_free, claim_http
from ftwallet.witness.bootstrap import CLUSTER_FILE, NODES, ensure_cluster
from ftwallet.witness.file import FileWitness

T = TypeVar("T")

_LEFT_OVER_S = 5.0
_OURS = "--supervisor-socket"  # on the command line of a node that a supervisor has started


class Ground(NamedTuple):
    """What a supervisor stands on; all of it goes with its process."""

    lock: DirectoryLock
    listener: socket.socket
    register: Register
    witness: FileWitness
    ended: list[ProcessIdentity]


class AlreadyRunning(Refused):
    """Another supervisor has the data directory; `pid` is its process."""

    def __init__(self, data_dir: Path, pid: int) -> None:
        super().__init__(f"the supervisor with pid {pid} has the data directory {data_dir}")
        self.pid = pid


def prepare(config: Config) -> Ground:
    """Lock the data directory, end left-overs, claim the ports, check or make the cluster.

    Raises:
        AlreadyRunning: another supervisor has the data directory.
        Refused: anything else that stands in the way, in one sentence.
    """
    check_socket_paths(config.data_dir)
    with contextlib.ExitStack() as undo:
        known = config.data_dir.is_dir()
        if known:
            lock = undo.enter_context(_lock(config.data_dir))
        ended = _end_left_overs(config) if known else []
        listener = undo.enter_context(_once_left(config, known, claim_http))
        _once_left(config, known, check_grpc_free)
        if not known:
            _make_data_dir(config.data_dir)
            lock = undo.enter_context(_lock(config.data_dir))
        register = ensure_cluster(config.data_dir)
        config.data_dir.chmod(0o700)  # whoever can open the control socket can kill and read everything
        (config.data_dir / "logs").mkdir(mode=0o700, exist_ok=True)
        undo.pop_all()
    return Ground(lock, listener, register, FileWitness(config.data_dir / CLUSTER_FILE), ended)


def _once_left(config: Config, known: bool, claim: Callable[[Config], T]) -> T:
    """Claim ports that the nodes of a supervisor that was just killed may have still: they end with it, a moment later.

    Raises Refused, at once where somebody else has them.
    """
    give_up = time.monotonic() + _LEFT_OVER_S
    while True:
        try:
            return claim(config)
        except PortTaken as taken:
            if not known or time.monotonic() > give_up or not _is_leaving(config, taken.port):
                raise
        time.sleep(0.02)


def _is_leaving(config: Config, port: int) -> bool:
    holder = platform.port_holder_pid(port)
    if holder is None:  # in the middle of its end a process shows neither its files nor its command line
        return True
    try:
        return str(config.data_dir / SUPERVISOR_SOCKET) in psutil.Process(holder).cmdline()
    except psutil.Error:
        return True


def _make_data_dir(data_dir: Path) -> None:
    try:
        platform.make_directory(data_dir)
    except OSError as error:
        raise Refused(f"{data_dir} cannot be made into the data directory: {error.strerror}") from None


def _lock(data_dir: Path) -> DirectoryLock:
    try:
        return lock_directory(data_dir)
    except OSError as error:
        raise Refused(f"{data_dir} cannot be used as data directory: {error.strerror}") from None
    except Refused as refusal:
        holder = lock_holder(data_dir)
        if holder is None:
            raise Refused(str(refusal)) from None
        raise AlreadyRunning(data_dir, holder.pid) from None


def _end_left_overs(config: Config) -> list[ProcessIdentity]:
    """End node processes that outlived their supervisor; by pid and start time, so never a stranger."""
    ended = []
    for node in NODES:
        node_dir = config.node_dir(node)
        if not node_dir.is_dir() or _free(node_dir):
            continue
        holder = lock_holder(node_dir)
        if holder is not None and not _started_by_supervisor(holder):
            raise Refused(f"node {node} runs by hand (pid {holder.pid}) on {node_dir}: stop it first")
        if holder is not None and platform.send_signal(holder, signal.SIGKILL):
            ended.append(holder)
        _wait_until_free(node_dir)
    return ended


def _free(node_dir: Path) -> bool:
    try:
        lock_directory(node_dir).release()
    except Refused:
        return False
    return True


def _wait_until_free(node_dir: Path) -> None:
    give_up = time.monotonic() + _LEFT_OVER_S
    while not _free(node_dir):
        if time.monotonic() > give_up:
            raise Refused(f"{node_dir} is held by a process that does not end: see `fuser {node_dir / 'lock'}`")
        time.sleep(0.02)


def _started_by_supervisor(holder: ProcessIdentity) -> bool:
    with contextlib.suppress(psutil.Error):
        return _OURS in psutil.Process(holder.pid).cmdline()
    return True  # it has ended meanwhile
