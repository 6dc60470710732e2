"""The load: wrk (https://github.com/wg/wrk) with a script of ours (`scripts.py`), and what it counted.

wrk is a program of its own, in C: a load made in Python would measure itself.
"""

from __future__ import annotations

import json
import resource
import secrets
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from ftwallet.errors import Refused
from ftwallet.lab.scripts import ACCOUNTS, LINE, Requests, lua

_LONGEST_ANSWER_S = 10
_START_AND_END_S = 30.0


class Errors(NamedTuple):
    """How many went wrong. `non_200`: answers with an error's status; the others: sockets, and answers too late."""

    non_200: int = 0
    connect: int = 0
    read: int = 0
    write: int = 0
    timeout: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self)

    @property
    def sockets(self) -> int:
        """Connections that broke, each with at most one request that was never answered."""
        return self.connect + self.read + self.write


class Load(NamedTuple):
    """What one run of wrk saw; latencies in ms.

    `requests` are all that were answered, whatever the status, `sent` all that were made, `fresh` those of them that
    asked for a transaction with an id never used before.
    """

    requests: int
    sent: int
    fresh: int
    seconds: float
    p50_ms: float
    p99_ms: float
    errors: Errors
    cpu_percent: float = 0.0

    @property
    def per_second(self) -> float:
        """Answers a second."""
        return self.requests / self.seconds if self.seconds else 0.0

    @property
    def done(self) -> int:
        """Answers with status 200."""
        return self.requests - self.errors.non_200

    @property
    def undone(self) -> int:
        """Requests without such an answer, among them those under way when wrk hung up: nobody knows their outcome."""
        return self.sent - self.done


class Order(NamedTuple):
    """A load on 127.0.0.1 for `seconds`: deposits or other requests, on so many accounts.

    Nothing more is asked once `limit` answers have come, if that is not 0.
    """

    port: int
    connections: int
    seconds: int
    limit: int = 0
    requests: Requests = Requests.DEPOSITS
    accounts: int = ACCOUNTS


def find_wrk() -> str:
    """Return the path of wrk. Raises Refused with a sentence how to get it."""
    found = shutil.which("wrk")
    if found is None:
        raise Refused(
            "the bench needs wrk, which is not on the PATH: apt install wrk (Debian), or brew install wrk (macOS)"
        )
    return found


def run_wrk(wrk: str, order: Order) -> Load:
    """Put the load on and return what it saw. Raises Refused when wrk could not do it."""
    with tempfile.NamedTemporaryFile("w", prefix="ftwallet-", suffix=".lua") as script:
        script.write(lua(order.requests))
        script.flush()
        used, began = _children_cpu_s(), time.monotonic()
        ended = _run(_command(wrk, order, Path(script.name)), order.seconds + _START_AND_END_S)
        cpu = 100 * (_children_cpu_s() - used) / (time.monotonic() - began)
    if ended.returncode != 0:
        raise Refused(f"wrk failed: {_last_line(ended.stderr or ended.stdout)}")
    return parse(ended.stdout)._replace(cpu_percent=cpu)


def parse(output: str) -> Load:
    """Read what the script printed. Raises Refused when it did not come to its end."""
    lines = [line for line in output.splitlines() if line.startswith(LINE)]
    if not lines:
        raise Refused(f"wrk ended without its counts: {_last_line(output)}")
    counts = json.loads(lines[-1].removeprefix(LINE))
    errors = Errors(*(counts[name] for name in Errors._fields))
    figures = {name: counts[name] for name in ("requests", "sent", "fresh", "seconds", "p50_ms", "p99_ms")}
    return Load(**figures, errors=errors)


def transaction_id(prefix: str, number: int) -> str:
    """Return the `number`-th id of a run, as the script makes it."""
    return f"{prefix}-1-{number}"


def new_prefix() -> str:
    """Return what tells the ids of one run from those of all others."""
    return secrets.token_hex(4)


def _command(wrk: str, order: Order, script: Path) -> list[str]:
    return [
        wrk,
        *("--threads", "1", "--connections", str(order.connections), "--duration", f"{order.seconds}s"),
        *("--timeout", f"{_LONGEST_ANSWER_S}s", "--script", str(script)),
        f"http://127.0.0.1:{order.port}",
        *("--", new_prefix(), str(order.limit), str(order.accounts)),
    ]


def _run(command: list[str], timeout_s: float) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        raise Refused(f"wrk did not end within {timeout_s:.0f} s: is the server stopped?") from None


def _children_cpu_s() -> float:
    """CPU seconds of all children that have ended; between two looks around one run, those of that run."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "it said nothing"
