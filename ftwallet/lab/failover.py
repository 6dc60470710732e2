"""Suite `failover`: the primary is killed again and again under load, and what clients noticed is counted.

With a past the cluster has so many ids and accounts before its first start, made in bulk (`preload`).
The cluster is a whole one, with its supervisor, and the load comes from a process of its own. At the end each deposit
that was answered is looked for in the journal, balances are held against the sums of what was answered, and both nodes
against each other.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

from ftwallet.errors import Refused
from ftwallet.lab import machine, processes
from ftwallet.lab.attempts import REFUSED, WATCHED_S, Attempts, Kill, Seen, parse
from ftwallet.lab.clients import LAST_ANSWERS_S, PAUSE_S
from ftwallet.lab.cluster import Cluster, signal_pid, temporary_cluster
from ftwallet.lab.kept import Kept, kept
from ftwallet.lab.plan import Plan, middle, progress
from ftwallet.lab.preload import preload
from ftwallet.lab.report import Grid, Report, document
from ftwallet.supervisor.processes import Child

CONNECTIONS = 16
ASKED_MEDIAN_MS = 50.0
ASKED_WORST_MS = 200.0
ASKED_SILENCE_MS = 200.0
ASKED_PAIRED_S = 3.0
ASKED_HUNG_MS = 2_000.0

_FIRST_LOAD_S = 1.0
_PAUSE_S = (0.3, 0.8)  # beyond the watched time, so that a kill finds the pair at any moment of its work


class Line(NamedTuple):
    """One row of the table: a measure of all kills, and what was asked of it."""

    name: str
    figures: Sequence[float | None]
    unit: str
    asked: str
    met: bool

    def document(self) -> dict[str, Any]:
        """Say it to a program."""
        known = self.known
        shown = {"median": middle(known), "p95": p95(known), "worst": max(known)} if known else {}
        figures = {name: round(figure, 3) for name, figure in shown.items()}
        return {"measure": self.name, "unit": self.unit, **figures, "asked": self.asked, "met": self.met}

    def cells(self) -> list[str]:
        """Say it in a table."""
        known = self.known
        figures = [f"{one:,.1f} {self.unit}" for one in (middle(known), p95(known), max(known))] if known else [""] * 3
        return [self.name, *figures, self.asked, "met" if self.met else "NOT MET"]

    @property
    def known(self) -> list[float]:
        """The figures of those kills that have one."""
        return [figure for figure in self.figures if figure is not None]


def p95(figures: Sequence[float]) -> float:
    """Return the figure that 95 of 100 do not exceed (nearest rank)."""
    return sorted(figures)[ceil(0.95 * len(figures)) - 1]


def measure(plan: Plan) -> Report:
    """Run the suite. Raises Refused when something cannot be measured."""
    past = partial(preload, past=plan.past, accounts=plan.accounts) if plan.past else None
    with temporary_cluster(plan.directory, plan.settings, past) as cluster:
        notes = plan.directory / "attempts"
        with _load(cluster, notes) as clients:
            time.sleep(_FIRST_LOAD_S)
            killed = list(_kills(cluster, clients, signal.SIGKILL, plan.kills))
            hung = list(_kills(cluster, clients, signal.SIGSTOP, plan.hung))
            cluster.wait_until_paired()
        with notes.open() as lines:
            attempts = Attempts(parse(lines))
        found = kept(cluster, attempts)
    return _report(plan, killed, hung, attempts, found)


@contextmanager
def _load(cluster: Cluster, notes: Path) -> Iterator[Child]:
    """Keep the connections busy; at the end all that is under way is answered first."""
    port = cluster.config.http_port
    log = notes.with_name("clients.log")
    arguments = [str(port), str(CONNECTIONS), str(notes), str(os.getpid())]
    clients = processes.start_python("ftwallet.lab.clients", arguments, log)
    try:
        yield clients
        clients.send(signal.SIGTERM)
        processes.wait_until_dead(clients, LAST_ANSWERS_S + 10.0)
        if clients.returncode != 0:
            raise Refused(f"the load did not end in order: {processes.last_line(log)}")
    finally:
        processes.end_at_once(clients)


def _kills(cluster: Cluster, clients: Child, number: int, count: int) -> Iterator[Kill]:
    verb = "killed" if number == signal.SIGKILL else "stopped where it is"
    for one in range(1, count + 1):
        cluster.wait_until_paired()
        if clients.returncode is not None:
            raise Refused(f"the load has ended by itself, with exit code {clients.returncode}")
        primary = cluster.primary()
        before, after = signal_pid(primary["pid"], number)
        led = cluster.wait_until_led_by_another(primary["pid"])
        paired = cluster.wait_until_paired()
        progress(f"Node {primary['node']} was {verb} ({one} of {count}): paired again after {paired - before:.2f} s")
        yield Kill(primary["node"], before, after, paired)
        time.sleep(max(0.0, led + WATCHED_S - time.monotonic()) + random.uniform(*_PAUSE_S))


def _report(plan: Plan, killed: Sequence[Kill], hung: Sequence[Kill], attempts: Attempts, found: Kept) -> Report:
    facts = machine.facts(plan.directory, plan.wrk)
    ends = [*[kill.before_s for kill in (*killed, *hung)][1:], float("inf")]
    seen = [attempts.seen(kill, until) for kill, until in zip((*killed, *hung), ends, strict=True)]
    killed_seen, hung_seen = seen[: len(killed)], seen[len(killed) :]
    asked_ms = ASKED_WORST_MS if plan.past else ASKED_MEDIAN_MS
    lines = [*_killed_lines(killed, killed_seen, asked_ms), *_hung_lines(hung, hung_seen)]
    refused = attempts.errors[REFUSED]
    settings = {"kills": plan.kills, "hung": plan.hung, "connections": CONNECTIONS, "pause_s": PAUSE_S}
    settings |= {"past": plan.past, "accounts": plan.accounts}
    ratio = _ratio(lines[0], attempts)
    return Report(
        document(
            "failover",
            facts,
            settings,
            measures=[line.document() for line in lines],
            kills=[_kill_document(*one) for one in zip(killed, killed_seen, strict=True)],
            hung=[_kill_document(*one) for one in zip(hung, hung_seen, strict=True)],
            usual_ms=round(attempts.usual_ms, 3),
            ratio=round(ratio, 2),
            refused=refused,
            errors=dict(attempts.errors),
            verified=found.document(),
        ),
        [_grid(plan, lines, refused, found)],
        [
            *machine.warnings(facts),
            f"The median of kill to first 200 is {ratio:,.1f} times that of all answers, {attempts.usual_ms:.2f} ms",
            _errors(attempts.errors),
            found.sentence(),
        ],
        found.ok and refused == 0,
    )


def _ratio(first_200: Line, attempts: Attempts) -> float:
    """How many usual answers a failover lasts for who waits for the first one; 0 when nothing was answered."""
    known = first_200.known
    return middle(known) / attempts.usual_ms if known and attempts.usual_ms else 0.0


def _killed_lines(kills: Sequence[Kill], seen: Sequence[Seen], asked_ms: float) -> list[Line]:
    firsts = [one.first_ms for one in seen]
    everybody = [one.all_ms for one in seen]
    silences = [one.silence_ms for one in seen]
    paired = [kill.paired_s - kill.before_s for kill in kills]
    known = [first for first in firsts if first is not None]
    quick = len(known) == len(firsts) and middle(known) <= asked_ms and max(known) <= ASKED_WORST_MS
    return [
        Line(
            "kill to the first 200",
            firsts,
            "ms",
            f"median ≤ {asked_ms:.0f} ms, worst ≤ {ASKED_WORST_MS:.0f} ms",
            quick,
        ),
        Line("kill to an answer on every connection", everybody, "ms", "", all(one is not None for one in everybody)),
        Line(
            "longest silence after it", silences, "ms", f"≤ {ASKED_SILENCE_MS:.0f} ms", _all(silences, ASKED_SILENCE_MS)
        ),
        Line(
            "kill to paired", paired, "s", f"< {ASKED_PAIRED_S:.0f} s each", all(one < ASKED_PAIRED_S for one in paired)
        ),
    ]


def _hung_lines(kills: Sequence[Kill], seen: Sequence[Seen]) -> list[Line]:
    if not kills:
        return []
    firsts = [one.first_ms for one in seen]
    return [Line("SIGSTOP to the first 200", firsts, "ms", f"≤ {ASKED_HUNG_MS:,.0f} ms", _all(firsts, ASKED_HUNG_MS))]


def _all(figures: Sequence[float | None], most: float) -> bool:
    return all(figure is not None and figure <= most for figure in figures)


def _kill_document(kill: Kill, seen: Seen) -> dict[str, Any]:
    return {
        "node": kill.node,
        "first_200_ms": None if seen.first_ms is None else round(seen.first_ms, 1),
        "every_connection_ms": None if seen.all_ms is None else round(seen.all_ms, 1),
        "silence_ms": None if seen.silence_ms is None else round(seen.silence_ms, 1),
        "paired_s": round(kill.paired_s - kill.before_s, 3),
        "errors": dict(seen.errors),
    }


def _grid(plan: Plan, lines: Sequence[Line], refused: int, found: Kept) -> Grid:
    counts = [("connections refused", refused), ("answered and lost", found.lost), ("done twice", found.doubled)]
    rows = [line.cells() for line in lines]
    rows += [[name, "", "", f"{count:,}", "0", "met" if count == 0 else "NOT MET"] for name, count in counts]
    past = f" with {plan.past:,} past ids and {plan.accounts:,} accounts" if plan.past else ""
    title = (
        f"SIGKILLs of the primary{past}: {plan.kills:,}, then SIGSTOPs: {plan.hung:,}, under deposits from "
        f"{CONNECTIONS} keep-alive connections, each with {1000 * PAUSE_S:.0f} ms between an answer and its next"
    )
    return Grid(title, ("what", "median", "p95", "worst", "asked", "verdict"), rows)


def _errors(errors: Counter[str]) -> str:
    if not errors:
        return "No attempt failed"
    counts = ", ".join(f"{outcome} {count:,}" for outcome, count in errors.most_common())
    return f"Attempts that failed and were retried with the same id: {counts}"
