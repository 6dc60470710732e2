"""What the operating system does for us, one small named function for each thing.

Two promises. What is Linux's own (pidfd, fdatasync, death with the parent) stands here alone, with a
fallback for macOS that nobody has tested there. And every operation that changes durable files goes through
a function of this module, called as `platform.NAME(...)`, so that a test can make exactly one of them fail
or stop the world right before it.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import psutil

_PR_SET_PDEATHSIG = 1
_DEAD_STATES = (b"Z", b"X", b"x")


class ProcessIdentity(NamedTuple):
    """One process and no other: the kernel reuses a pid, but not together with its start time.

    start_time counts clock ticks since the machine's boot on Linux, so a change of the wall clock never
    alters it; it is only good for comparing.
    """

    pid: int
    start_time: int


# Durable files --------------------------------------------------------------------------------------------


def write_all(fd: int, data: bytes, offset: int) -> None:
    """Write all of `data` at `offset` bytes into the file. Raises OSError; what was written by then stays."""
    written = os.pwrite(fd, data, offset)
    while written < len(data):
        written += os.pwrite(fd, memoryview(data)[written:], offset + written)


def fdatasync(fd: int) -> None:
    """Return when content and length are on the medium.

    Raises OSError; the file is not to be trusted then.
    """
    if sys.platform == "darwin":  # fsync leaves the data in the drive's cache there
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
    else:
        os.fdatasync(fd)


def drop_cache(fd: int) -> None:
    """Forget what the kernel has cached of a synced file, so that it is read from the medium. Linux only."""
    if sys.platform == "linux":
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


def fsync_directory(path: Path) -> None:
    """Make the names in a directory durable; before this a crash may lose a new file or a rename.

    Raises OSError.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def create_file(path: Path) -> int:
    """Open a new empty file for reading and writing; one of that name is emptied. Raises OSError."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)


def rename(source: Path, target: Path) -> None:
    """Give a file its final name, replacing what had it. Raises OSError."""
    source.replace(target)


def truncate(fd: int, length: int) -> None:
    """Cut a file to `length` bytes. Raises OSError."""
    os.ftruncate(fd, length)


def remove(path: Path) -> None:
    """Unlink a file. Raises OSError."""
    path.unlink()


def make_directory(path: Path) -> None:
    """Create a directory and what is missing above it, durably; one that is there is made durable again.

    Raises OSError.
    """
    if not path.is_dir():
        if not path.parent.is_dir():
            make_directory(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)
    fsync_directory(path.parent)  # also for one that was there: a crash may have come right before this line


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a small file; see `write_pieces_atomically`."""
    write_pieces_atomically(path, (data,))


def write_pieces_atomically(path: Path, pieces: Iterable[bytes]) -> None:
    """Replace a file by one that is written as it is drawn; a crash at any point leaves the old content or the new one.

    One writer at a time. Raises OSError; the old content is then still there, or the new one if only the
    last sync failed.
    """
    draft = path.with_name(path.name + ".tmp")
    fd = create_file(draft)
    try:
        offset = 0
        for piece in pieces:
            write_all(fd, piece, offset)
            offset += len(piece)
        fdatasync(fd)  # before the rename: or a crash could show the new name with nothing in it
    finally:
        os.close(fd)
    rename(draft, path)
    fsync_directory(path.parent)


def free_bytes(path: Path) -> int:
    """Bytes that an unprivileged process may still write on the file system that holds `path`."""
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize


# Processes ------------------------------------------------------------------------------------------------


def process_identity(pid: int) -> ProcessIdentity:
    """Identify a living process.

    Raises ProcessLookupError if there is none, or if it has ended and only waits to be reaped.
    """
    start_time = _start_time(pid)
    if start_time is None:
        raise ProcessLookupError(f"no process has the pid {pid}")
    return ProcessIdentity(pid, start_time)


def same_process(pid: int, start_time: int) -> bool:
    """Tell whether the process that was identified so still lives; a stranger with its pid does not count."""
    return _start_time(pid) == start_time


def open_pidfd(pid: int) -> int | None:
    """Open a descriptor that becomes readable when the process ends; the caller closes it.

    None where the system has no such thing (macOS): ask `same_process` from time to time there. Raises
    ProcessLookupError if the process is gone.
    """
    if sys.platform == "linux":
        return os.pidfd_open(pid)
    return None


def send_signal(identity: ProcessIdentity, number: int, pidfd: int | None = None) -> bool:
    """Send a signal to this very process, by its pidfd if the caller holds one. False if it has ended."""
    with contextlib.suppress(ProcessLookupError):
        if pidfd is not None:
            signal.pidfd_send_signal(pidfd, number)
            return True
        return _signal_checked(identity, number)
    return False


def port_holder(port: int) -> str | None:
    """Return who has a TCP port, such as "nginx (pid 12)"; None when nobody has, or it is not ours to see."""
    pid = port_holder_pid(port)
    return None if pid is None else _program(pid)


def port_holder_pid(port: int) -> int | None:
    """Return which process has a TCP port; None as for `port_holder`."""
    with contextlib.suppress(psutil.Error):
        holders = [
            connection.pid
            for connection in psutil.net_connections(kind="tcp")
            if connection.laddr and connection.laddr.port == port and connection.pid is not None
        ]
        return holders[0] if holders else None
    return None


def die_with_parent(expected_ppid: int) -> bool:
    """Have the kernel kill this process (SIGKILL) when the parent *thread* that started it ends.

    If the parent is gone already the signal would never come, so the process ends at once, the same way.
    False where the system cannot do it (macOS): watch a pipe from the parent there, which is right on Linux
    too.
    """
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    if os.getppid() != expected_ppid:
        os.kill(os.getpid(), signal.SIGKILL)
    return True


def _program(pid: int) -> str:
    try:
        process = psutil.Process(pid)
        words = process.cmdline()
        if not any("ftwallet" in word for word in words):
            return f"{process.name()} (pid {pid})"
        if "--parent-pid" in words[:-1]:  # a node that its supervisor would only start again
            pid = int(words[words.index("--parent-pid") + 1])
        return f"another FT-Wallet (pid {pid})"
    except psutil.Error:
        return f"the process with pid {pid}"


def _signal_checked(identity: ProcessIdentity, number: int) -> bool:
    """Open first, then compare: a pid that changes hands in between cannot lead to a stranger."""
    pidfd = open_pidfd(identity.pid)
    try:
        if not same_process(*identity):
            return False
        if pidfd is None:
            os.kill(identity.pid, number)
        else:
            signal.pidfd_send_signal(pidfd, number)
        return True
    finally:
        if pidfd is not None:
            os.close(pidfd)


def _start_time(pid: int) -> int | None:
    if sys.platform == "linux":
        return _linux_start_time(pid)
    return _psutil_start_time(pid)


def _linux_start_time(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat[stat.rindex(b")") + 2 :].split()  # the name before it may hold blanks and parentheses
    state, start_time = fields[0], int(fields[19])
    return None if state in _DEAD_STATES else start_time


def _psutil_start_time(pid: int) -> int | None:
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return int(process.create_time() * 100)
    except psutil.NoSuchProcess:
        return None
