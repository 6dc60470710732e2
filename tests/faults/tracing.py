"""strace on a running process, attached by pid: as a parent it would break the pid and the death with the parent."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.faults.harness import skip_outside_the_gate, until


@contextlib.contextmanager
def strace(pid: int, *options: str) -> Iterator[None]:
    """Trace every thread of a process while the block runs."""
    if shutil.which("strace") is None:
        skip_outside_the_gate("strace is not installed, and nothing else reaches into a system call")
    process = subprocess.Popen(["strace", *options, "-p", str(pid)], stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        first = process.stderr.readline()
        if "Operation not permitted" in first:
            skip_outside_the_gate("tracing another process is not permitted here")
        assert "attached" in first, first
        threads = len(os.listdir(f"/proc/{pid}/task"))
        until(lambda: _traced_threads(pid) >= threads, "strace follows every thread")
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=10)


def _traced_threads(pid: int) -> int:
    count = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        with contextlib.suppress(OSError):
            count += "TracerPid:\t0\n" not in status.read_text()
    return count
