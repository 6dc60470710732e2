"""The same pair under a real supervisor, with failover: who leads changes, and every process is somebody else's child.

The checker takes it as it takes a `Pair`. Its processes are found by what the supervisor says of them, each time anew.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM, Signals
from typing import Any

import grpc
import psutil

from ftwallet.errors import Refused
from ftwallet.supervisor.client import SupervisorClient
from ftwallet.supervisor.verify import verify
from tests.faults.checker import Client
from tests.faults.dying_node import order
from tests.faults.harness import PATIENCE_S, PROJECT, Controlled, Pair, temporary_root, until
from tests.faults.link import Link, linked
from tests.faults.moving_clock import CLOCK_VARIABLE, set_clock
from tests.faults.moving_clock import MODULE as MOVING_CLOCK
from tests.faults.supervise import LINK_VARIABLE
from tests.faults.supervise import MODULE as SUPERVISE
from tests.faults.wire import Answer, Rest

NAMES = ("a", "b")
HUNG_AFTER_S = 1.0
_BETWEEN_TWO_S = 0.02
SUPERVISED: dict[str, object] = {
    "ack_timeout_s": 0.5,
    "hung_after_s": HUNG_AFTER_S,
    "restart_backoff_s": 0.05,
    "restart_backoff_max_s": 0.2,
    "crash_loop_deaths": 50,
}


class Attached(Controlled):
    """Node `a` or `b`, in whatever process the supervisor runs it now."""

    def __init__(self, cluster: Supervised, name: str) -> None:
        super().__init__(name, cluster.data_dir / name)
        self._cluster = cluster

    @property
    def pid(self) -> int | None:
        document = self._cluster.document()
        return next(node["pid"] for node in document["nodes"] if node["node"] == self.name) if document else None

    @property
    def alive(self) -> bool:
        return self.pid is not None

    @property
    def stopped(self) -> bool:
        pid = self.pid
        with contextlib.suppress(psutil.Error):
            return pid is not None and psutil.Process(pid).status() == psutil.STATUS_STOPPED
        return False

    def disarm(self) -> None:
        with contextlib.suppress(grpc.RpcError):  # its process has just ended, and took what was armed with it
            super().disarm()

    def send_signal(self, number: Signals) -> int:
        """Signal its process of now; return the pid."""
        pid = until(lambda: self.pid, f"node {self.name} has a process", told=self._cluster.told)
        send(pid, number)
        return int(pid)

    def resume(self) -> None:
        self.send_signal(SIGCONT)

    def pause(self) -> int:
        pid = self.send_signal(SIGSTOP)
        until(lambda: _stopped_or_gone(pid), f"node {self.name} stops")
        return pid

    def kill(self) -> int:
        """SIGKILL, and wait until that process is gone; return its pid."""
        pid = self.send_signal(SIGKILL)
        self.ends(pid)
        return pid

    def ends(self, pid: int) -> None:
        """Wait until this process of it is gone."""
        until(lambda: gone(pid), f"pid {pid} of node {self.name} ends", told=self._cluster.told)


class Supervised(Pair):
    """Both nodes below a supervisor of their own; with a `link`, the primary reaches its backup through that.

    Nodes that `can_die` do so where dying_node.py is told; with a `clock` a test moves the wall clock of all three.
    Where nothing of that is wanted, the supervisor is what `ftwallet-run up` starts.
    """

    def __init__(self, root: Path, can_die: bool = False, clock: bool = False, **settings: object) -> None:
        super().__init__(root, **SUPERVISED | settings)
        self.link: Link | None = None
        self.can_die = can_die
        self._clock = root / "clock" if clock else None
        self.supervisor: subprocess.Popen[bytes] | None = None
        self.nodes: dict[str, Attached] = {name: Attached(self, name) for name in NAMES}
        self._exports = 0

    # ---- Life

    def start_supervisor(self, output: int | None = None) -> subprocess.Popen[bytes]:
        """Start one in the foreground; its output goes to a file unless another descriptor is given."""
        with (self.root / "up.log").open("ab") as log:
            self.supervisor = subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=log if output is None else output,
                stderr=log if output is None else output,
                cwd=PROJECT,
                env=self.environment(),
            )
        return self.supervisor

    def _command(self) -> list[str]:
        if self.link is None and not self.can_die and self._clock is None:
            return [str(Path(sys.executable).with_name("ftwallet-run")), "up"]
        modules = [SUPERVISE] if self._clock is None else [MOVING_CLOCK, SUPERVISE]
        return [sys.executable, "-m", *modules]

    def environment(self) -> dict[str, str]:
        environment = super().environment()
        if self.link is not None:
            environment[LINK_VARIABLE] = str(self.link.port)
        if self._clock is not None:
            environment[CLOCK_VARIABLE] = str(self._clock)
        return environment

    def set_clock(self, ahead_s: float) -> None:
        """Set the wall clock of supervisor and nodes to so many seconds after the true one."""
        assert self._clock is not None, "this cluster has the true clock"
        set_clock(self._clock, ahead_s)

    @property
    def supervisor_lives(self) -> bool:
        return self.supervisor is not None and self.supervisor.poll() is None

    def start_both(self) -> None:
        """Continue or start the supervisor, and wait until it has made the pair whole; nobody helps it."""
        if self.link is not None:
            self.link.restore()
        if self._clock is not None:
            self.set_clock(0.0)
        if self.supervisor_lives:
            assert self.supervisor is not None
            self.supervisor.send_signal(SIGCONT)
        else:
            self.start_supervisor()
        self.wait_paired()

    def lead_over_the_link(self) -> None:
        """Have a primary that was started as one: a backup that was promoted does without the link."""
        if "primary" not in psutil.Process(self.primary.pid).cmdline():
            self.stop()
            self.start_both()

    def kill_supervisor(self) -> None:
        """SIGKILL, and wait until neither it nor a node of it is left."""
        assert self.supervisor is not None
        pids = [pid for node in self.nodes.values() if (pid := node.pid)]
        self.supervisor.kill()
        self.supervisor.wait(PATIENCE_S)
        until(lambda: all(gone(pid) for pid in pids), f"no orphan of {pids} is left")

    def stop(self) -> None:
        """SIGTERM to the supervisor, which stops both nodes in order."""
        if self.supervisor_lives:
            assert self.supervisor is not None
            self.supervisor.send_signal(SIGCONT)
            self.supervisor.send_signal(SIGTERM)
            self.supervisor.wait(PATIENCE_S)

    def close(self) -> None:
        try:
            self.stop()
        finally:
            if self.supervisor_lives:
                self.kill_supervisor()
            for node in self.nodes.values():
                node.close()
            super().close()

    # ---- What is seen

    def document(self) -> dict[str, Any] | None:
        """What `status` says; None while no supervisor answers."""
        if not self.supervisor_lives:
            return None
        with contextlib.suppress(Refused), SupervisorClient(self.data_dir) as supervisor:
            return supervisor.status()
        return None

    @property
    def leads(self) -> str:
        """The node that the register names as primary."""
        return self.register().primary

    @property
    def primary(self) -> Attached:
        return self.nodes[self.leads]

    @property
    def backup(self) -> Attached:
        return next(node for name, node in self.nodes.items() if name != self.leads)

    def mode(self) -> str:
        document = self.document()
        return (document["mode"] or "") if document else ""

    def wait_ready(self) -> None:
        self.until(self.rest.healthy, "the primary serves")

    def wait_mode(self, mode: str) -> None:
        self.until(lambda: self.mode() == mode, f"the primary is {mode}")

    def wait_paired(self) -> None:
        self.until(self._is_paired, "the nodes are paired", 2 * PATIENCE_S)
        self.wait_ready()  # by a connection to who leads now

    def _is_paired(self) -> bool:
        document = self.document()
        if document is None:
            assert self.supervisor_lives, f"the supervisor has ended\n{self.told()}"
            return False
        if not document["ready"] or document["mode"] != "paired" or document["in_sync"] != list(NAMES):
            return False
        states = [node.status() for node in self.nodes.values()]
        return all(state is not None for state in states) and {state.role for state in states} == {"primary", "backup"}

    def told(self) -> str:
        files = [self.root / "up.log", self.data_dir / "events.jsonl", *(self.data_dir / "logs").glob("*.log")]
        tails = [f"--- {file.name}:\n" + _tail(file) for file in files if file.exists()]
        return "\n".join([*tails, str(self.document())])

    # ---- What only a whole pair has

    def agree(self) -> None:
        """`verify` finds nothing, and both nodes export the same files."""
        report = verify(self.data_dir)
        assert report["ok"], report
        self._exports += 1
        a, b = (node.export(self.root / f"export-{self._exports}-{name}") for name, node in self.nodes.items())
        assert a == b
        assert a


class Load:
    """Clients that each send one of their ids again and again until it is answered for good, then the next."""

    def __init__(self, client: Client, ids: list[list[str]]) -> None:
        self.answers: list[Answer] = []
        self._client = client
        self._errors: list[BaseException] = []
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(some,), daemon=True) for some in ids]
        for thread in self._threads:
            thread.start()

    def all(self) -> list[Answer]:
        """Wait until every id has its answer."""
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive(), f"a request is never answered\n{self._client.pair.told()}"
        if self._errors:
            raise self._errors[0]
        return self.answers

    def stop(self) -> None:
        """Let each client finish the request that it is at, and no more."""
        self._over.set()
        self.all()

    def until(self, more: int) -> None:
        """Wait until there are so many answers more."""
        enough = len(self.answers) + more
        self._client.pair.until(
            lambda: len(self.answers) >= enough or not any(thread.is_alive() for thread in self._threads),
            "answers come",
        )

    def _run(self, ids: list[str]) -> None:
        rest = Rest(self._client.pair.ports["http_port"])
        try:
            for transaction_id in ids:
                if self._over.is_set():
                    return
                self.answers.append(self._answer(rest, transaction_id))
                self._over.wait(_BETWEEN_TWO_S)
        except BaseException as error:
            self._errors.append(error)
        finally:
            rest.close()

    def _answer(self, rest: Rest, transaction_id: str) -> Answer:
        for _ in range(2_000):
            answer = self._client.send("deposit", "user123", "0.01", transaction_id, rest)
            if answer is not None and answer.final:
                return answer
            time.sleep(_BETWEEN_TWO_S)  # as a client that backs off does
        raise AssertionError(f"{transaction_id} is never answered")


def loaded(client: Client, clients: int = 2, each: int = 5_000) -> Load:
    """Clients with more to send than any test waits for."""
    return Load(client, [[client.new_id(f"load{number}") for _ in range(each)] for number in range(clients)])


def dies_at_a_file(client: Client, cluster: Supervised, victim: str, when: str, suffix: str) -> None:
    """Under load a node dies right before or after it names such a file; the pair heals by itself."""
    node: Attached = getattr(cluster, victim)
    pid = node.pid
    order(cluster.data_dir, node.name, when, suffix)
    load = loaded(client)
    node.ends(pid)
    load.until(10)
    load.stop()
    cluster.wait_paired()


@contextlib.contextmanager
def running_supervised(link: bool = False, **settings: object) -> Iterator[Supervised]:
    """A paired cluster on a new data directory; no process of it outlives the block."""
    with contextlib.ExitStack() as stack:
        root = stack.enter_context(temporary_root())
        cluster = Supervised(root, **settings)
        if link:
            cluster.link = stack.enter_context(linked(cluster.ports["backup_grpc_port"]))
        stack.enter_context(contextlib.closing(cluster))
        cluster.start_both()
        yield cluster


def sample(seed: int, population: list[Any], count: int) -> list[Any]:
    """Some of them by this seed, or all under CAMPAIGN=full."""
    return population if os.environ.get("CAMPAIGN") == "full" else random.Random(seed).sample(population, count)


def send(pid: int, number: Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def gone(pid: int) -> bool:
    """Whether a process has ended, be it reaped or not."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _stopped_or_gone(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE)
    return True


def _tail(file: Path) -> str:
    return "\n".join(file.read_text(errors="replace").splitlines()[-40:])
