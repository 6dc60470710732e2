"""The peer under measurement: its REST in one process of ours, its two databases, and how much it has answered.

At the end the rows of both databases are held against what was answered, as both journals of ours are.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ftwallet.errors import Refused
from ftwallet.lab import processes
from ftwallet.lab.batches import BatchLoad, run_batches
from ftwallet.lab.pair import Measured
from ftwallet.lab.peer.postgres import PRIMARY_PORT, STANDBY_PORT, Postgres, find_programs, temporary_postgres
from ftwallet.lab.processes import CpuMeter
from ftwallet.lab.scripts import AMOUNT_MINOR
from ftwallet.lab.wrk import Order, run_wrk
from ftwallet.supervisor.processes import Child

_MODULE = "ftwallet.lab.peer.serve"
_COUNT = (
    "SELECT (SELECT count(*) FROM transactions WHERE verdict = 0), (SELECT coalesce(sum(amount), 0) FROM transactions "
    "WHERE verdict = 0), (SELECT coalesce(sum(balance), 0) FROM accounts)"
)
_AGREE_WITHIN_S = 30.0
_LOOK_EVERY_S = 0.1


class Rows(NamedTuple):
    """What one database holds: deposits, what they brought, and all balances together, in minor units."""

    deposits: int
    brought: int
    balances: int


class Kept(NamedTuple):
    """What was found at the end; `problems` is empty when everything fits."""

    answered: int
    rows: dict[str, Rows]
    problems: list[str]

    def sentence(self) -> str:
        """Say it to a person."""
        if self.problems:
            return "The peer is NOT VERIFIED: " + "; ".join(self.problems)
        return (
            f"The peer is verified: {self.answered:,} deposits were answered, {self.rows['primary'].deposits:,} are in "
            "each of both databases, and all money adds up"
        )

    def document(self) -> dict[str, Any]:
        """Say it to a program."""
        rows = {name: one.deposits for name, one in self.rows.items()}
        return {"ok": not self.problems, "answered": self.answered, "records": rows, "problems": self.problems}


class Peer:
    """Made by `temporary_peer`. `answered` and `cut_off` as those of `Pair`."""

    def __init__(self, postgres: Postgres, server: Child, port: int, log: Path) -> None:
        self.port = port
        self.answered = 0
        self.cut_off = 0
        self.postgres = postgres
        self._server = server
        self._log = log

    def meter(self) -> CpuMeter:
        """Measure the CPU from here on: of the server, and of both databases together."""
        return CpuMeter({"server": [self._server.pid], "databases": list(self.postgres.pids.values())})

    def load(self, wrk: str, order: Order) -> Measured:
        """Put deposits on it, and count what is answered. Raises Refused when wrk fails or a process has ended."""
        meter = self.meter()
        load = run_wrk(wrk, order)
        cpu_percent = meter.percent()
        self.refuse_dead()
        self.answered += load.fresh - load.undone
        self.cut_off += load.undone
        return Measured(load, cpu_percent)

    def batches(self, size: int, seconds: float) -> BatchLoad:
        """Put batches of deposits on it, and count their operations. Raises Refused as `load`."""
        load = run_batches(f"http://{processes.HOST}:{self.port}", size, seconds)
        self.refuse_dead()
        self.answered += load.operations
        return load

    def refuse_dead(self) -> None:
        """Raise Refused when a process of it has ended."""
        if self._server.returncode is not None:
            raise Refused(f"the peer ended under load: {processes.last_line(self._log)}")
        self.postgres.refuse_dead()

    def kept(self) -> Kept:
        """Hold both databases against what was answered, once the standby shows what the primary does."""
        give_up_at = time.monotonic() + _AGREE_WITHIN_S
        while (rows := self._rows())["primary"] != rows["standby"] and time.monotonic() < give_up_at:
            time.sleep(_LOOK_EVERY_S)
        return Kept(self.answered, rows, problems(rows, self.answered, self.cut_off))

    def _rows(self) -> dict[str, Rows]:
        ports = {"primary": PRIMARY_PORT, "standby": STANDBY_PORT}
        return {name: Rows(*map(int, self.postgres.query(_COUNT, port).split("|"))) for name, port in ports.items()}


def problems(rows: dict[str, Rows], answered: int, cut_off: int) -> list[str]:
    """Say what does not fit."""
    found = [] if len(set(rows.values())) == 1 else ["both databases differ"]
    for name, (deposits, brought, balances) in rows.items():
        if not answered <= deposits <= answered + cut_off:
            found.append(f"{answered:,} to {answered + cut_off:,} deposits were asked, and {name} has {deposits:,}")
        if not balances == brought == deposits * AMOUNT_MINOR:
            found.append(f"{name} has {balances:,} minor units from {deposits:,} deposits that brought {brought:,}")
    return found


def require_peer() -> None:
    """Raise Refused, with a sentence what to install, where the peer cannot run."""
    find_programs()
    if importlib.util.find_spec("asyncpg") is None:
        raise Refused("the suite peer needs asyncpg: pip install 'ftwallet[bench]'")


@contextlib.contextmanager
def temporary_peer(directory: Path) -> Iterator[Peer]:
    """Start databases and REST in a new directory; end them, in whatever state. Raises Refused."""
    require_peer()
    with temporary_postgres(directory) as postgres, processes.listen() as listener:
        fd, log = listener.fileno(), directory / "server.log"
        server = processes.start_python(_MODULE, [str(fd), str(os.getpid()), str(directory)], log, (fd,))
        try:
            port = processes.port_of(listener)
            processes.wait_for(lambda: processes.healthy(port), server, log)
            yield Peer(postgres, server, port, log)
        finally:
            processes.end_at_once(server)
