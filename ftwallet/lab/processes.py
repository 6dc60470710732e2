"""Processes under measurement: started on sockets of ours, waited for by their health, stopped, and their use of CPU.

They are started from the main thread and die with it, so a bench that is killed leaves none behind.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import psutil

from ftwallet.config import ENVIRONMENT_PREFIX
from ftwallet.errors import Refused
from ftwallet.supervisor.processes import Child, Launch

HOST = "127.0.0.1"
PYTHON = sys.executable
_BACKLOG = 2048
# Below the ports that the kernel gives to outgoing connections, of which a load makes many.
_PORTS = range(20_000, 32_000)
PAUSE_S = 0.002
_LONGEST_ANSWER_S = 30.0
_START_TIMEOUT_S = 300.0  # with millions of past transactions a start takes its time


def listen() -> socket.socket:
    """Return a listening socket on a port of the kernel's choice; children inherit it, so nobody can take the port."""
    listener = socket.create_server((HOST, 0), backlog=_BACKLOG)
    listener.setblocking(False)
    return listener


def port_of(listener: socket.socket) -> int:
    """Return the port of a listening socket."""
    port: int = listener.getsockname()[1]
    return port


def free_ports(count: int) -> list[int]:
    """Return ports that are free now. Raises Refused when there are not so many."""
    found: list[int] = []
    for port in random.sample(_PORTS, len(_PORTS)):
        if len(found) == count:
            return found
        with contextlib.suppress(OSError), socket.create_server((HOST, port)):
            found.append(port)
    raise Refused(f"no {count} free ports between {_PORTS.start} and {_PORTS.stop}")


def environment() -> dict[str, str]:
    """Return our environment without the settings in it, which would overrule those of the bench's own file."""
    return {name: value for name, value in os.environ.items() if not name.upper().startswith(ENVIRONMENT_PREFIX)}


def start_python(module: str, arguments: list[str], log: Path, descriptors: tuple[int, ...] = ()) -> Child:
    """Start a module of ours as a process; its output goes to `log`."""
    command = [PYTHON, "-P", "-m", module, *arguments]
    return Child.start(Launch(command, environment(), log, descriptors))


@contextlib.contextmanager
def raw_server(log: Path) -> Iterator[tuple[int, Child]]:
    """Serve the raw endpoint (`raw.py`) in a process of its own; gives its port and the process."""
    with listen() as listener:
        fd = listener.fileno()
        child = start_python("ftwallet.lab.raw", [str(fd), str(os.getpid())], log, (fd,))
        try:
            wait_for(lambda: healthy(port_of(listener)), child, log)
            yield port_of(listener), child
        finally:
            end_at_once(child)


def healthy(port: int) -> bool:
    """Ask `GET /health` once; waits for the answer while nobody accepts on the socket yet."""
    connection = http.client.HTTPConnection(HOST, port, timeout=_LONGEST_ANSWER_S)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def wait_for(done: Callable[[], bool], child: Child, log: Path, pause_s: float = PAUSE_S) -> None:
    """Return when `done()`; look every `pause_s` seconds. Raises Refused when the child ends, or takes minutes."""
    give_up_at = time.monotonic() + _START_TIMEOUT_S
    while not done():
        if child.returncode is not None:
            raise Refused(f"a process that was to be measured has ended: {last_line(log)}")
        if time.monotonic() > give_up_at:
            raise Refused(f"a process that was to be measured is not ready: {last_line(log)}")
        time.sleep(pause_s)


def last_line(log: Path) -> str:
    """Return the last thing that a process said."""
    lines = log.read_text(errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), "it said nothing")


def wait_until_dead(child: Child, timeout_s: float) -> bool:
    """Wait for its end; False when it has not come within `timeout_s` seconds."""
    give_up_at = time.monotonic() + timeout_s
    while child.returncode is None and time.monotonic() < give_up_at:
        time.sleep(PAUSE_S)
    return child.returncode is not None


def end_at_once(child: Child) -> None:
    """Kill it if it lives, and wait for its end."""
    child.send(signal.SIGKILL)
    wait_until_dead(child, 10.0)
    child.close()


class CpuMeter:
    """CPU of processes from here on, in percent of one core; by the names to report them under.

    The processes that they have started count with them.
    """

    def __init__(self, pids: Mapping[str, Sequence[int]]) -> None:
        self._processes = {name: list(map(psutil.Process, several)) for name, several in pids.items()}
        self._began = time.monotonic()
        self._before = self._seconds()

    def percent(self) -> dict[str, float]:
        """Return what they have used since, by name."""
        passed = time.monotonic() - self._began
        return {name: 100 * (now - self._before[name]) / passed for name, now in self._seconds().items()}

    def _seconds(self) -> dict[str, float]:
        return {name: sum(map(_used_s, several)) for name, several in self._processes.items()}


def _used_s(process: psutil.Process) -> float:
    used = 0.0
    for one in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):  # a child that has just ended
            times = one.cpu_times()
            used += times.user + times.system
    return used


def anonymous_bytes(pid: int) -> int:
    """Return the memory that is a process's own (RssAnon on Linux, else what psutil calls unique), in bytes."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    unique: int = psutil.Process(pid).memory_full_info().uss
    return unique
