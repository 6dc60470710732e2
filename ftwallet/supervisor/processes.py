"""Child processes: started, watched through a pidfd, signalled through it, and never confused with a stranger.

A child's output goes straight to its log file, never through a pipe that could fill up and block it (fault G5).
Children are started from the main thread, which lives as long as the supervisor: the kernel kills them when it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ftwallet import platform
from ftwallet.config import Config
from ftwallet.platform import ProcessIdentity
from ftwallet.rpc.sockets import SUPERVISOR_SOCKET

NO_CONFIG_FILE = "/dev/null"  # a config.toml that appears later must not give one node other settings than its partner

SUPERVISOR_LOG = "supervisor"
"""The name of the supervisor's own log, beside those of nodes `a` and `b`."""


class Launch(NamedTuple):
    """How to start one process: its output goes to the end of `log`, and it inherits `descriptors` alone."""

    arguments: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    descriptors: tuple[int, ...] = ()


class Child:
    """One child process. `returncode` is None while it lives, negative for a signal."""

    def __init__(self, process: subprocess.Popen[bytes], pidfd: int | None) -> None:
        self._process = process
        self._pidfd = pidfd
        self._watched_by: asyncio.AbstractEventLoop | None = None
        self.started_at = time.monotonic()
        self.identity = _identity(process.pid)

    @classmethod
    def start(cls, launch: Launch) -> Child:
        """Start a process in a session of its own, so that Ctrl-C in the terminal reaches the supervisor alone."""
        log = os.open(launch.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            process = subprocess.Popen(
                launch.arguments,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(launch.environment),
                pass_fds=launch.descriptors,
                start_new_session=True,
            )
        finally:
            os.close(log)
        return cls(process, platform.open_pidfd(process.pid))

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """How it ended, None while it lives. Reaps it."""
        return self._process.poll()

    def watch(self, died: Callable[[], None]) -> None:
        """Call `died` once when the process has ended; without pidfds (macOS) the caller looks at `returncode`."""
        if self._pidfd is None:
            return
        self._watched_by = asyncio.get_running_loop()
        self._watched_by.add_reader(self._pidfd, self._ended, died)

    def send(self, signal_number: int) -> bool:
        """Send it a signal; False when it has ended."""
        return platform.send_signal(self.identity, signal_number, self._pidfd)

    def close(self) -> None:
        """Give back the descriptor; again does nothing."""
        self._unwatch()
        if self._pidfd is not None:
            with contextlib.suppress(OSError):
                os.close(self._pidfd)
            self._pidfd = None

    def _ended(self, died: Callable[[], None]) -> None:
        self._unwatch()
        died()

    def _unwatch(self) -> None:
        if self._watched_by is not None and self._pidfd is not None:
            self._watched_by.remove_reader(self._pidfd)
            self._watched_by = None


_OUR_NODE = (sys.executable, "-P", "-m", "ftwallet", "node")


def node_launch(config: Config, http_fd: int, node: str, role: str, program: Sequence[str] = _OUR_NODE) -> Launch:
    """Return how a node is started; it inherits the listening socket `http_fd`: a backup may be promoted."""
    arguments = [*program, role, "--node", node]
    arguments += ["--config", str(config.config_file or NO_CONFIG_FILE), "--data-dir", str(config.data_dir)]
    arguments += ["--supervisor-socket", str(config.data_dir / SUPERVISOR_SOCKET), "--parent-pid", str(os.getpid())]
    arguments += ["--http-fd", str(http_fd)]
    return Launch(arguments, node_environment(config), log_path(config.data_dir, node), (http_fd,))


def node_environment(config: Config) -> dict[str, str]:
    """Return a node's environment: ours, and log lines for people, since `up` and `logs` show them to people."""
    environment = dict(os.environ)
    if config.log_format == "auto":
        environment["FTWALLET_LOG_FORMAT"] = "text"
    return environment


def log_path(data_dir: Path, name: str) -> Path:
    """Return the log file of node `a` or `b`, or of the supervisor."""
    return data_dir / "logs" / f"{name}.log"


def _identity(pid: int) -> ProcessIdentity:
    try:
        return platform.process_identity(pid)
    except ProcessLookupError:  # it has ended already and waits to be reaped by us: nobody else can have its pid
        return ProcessIdentity(pid, -1)
