"""Suite `overload`: far more connections than the wallet lets wait, and how fast it is before and after that.

The line before the journal is made short, so that what a large machine would need thousands of clients for happens
with one. Who finds it full is answered 503 with `Retry-After` at once; nothing of that may be in a journal, no request
may wait for its time-out, and memory must not grow with the number of refusals. A few deposits are timed one by one
meanwhile (`probing`). What counts is the rate after, as a share of the rate before, in turn in one run.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, NamedTuple

from ftwallet.config import MEBIBYTE
from ftwallet.lab import machine
from ftwallet.lab.pair import PRIMARY, Measured, Pair, temporary_pair
from ftwallet.lab.plan import Plan, middle, progress
from ftwallet.lab.probing import BROKEN, Probe, probing
from ftwallet.lab.processes import anonymous_bytes
from ftwallet.lab.proof import Proof, prove
from ftwallet.lab.report import Grid, Report, document
from ftwallet.lab.single import Figures
from ftwallet.lab.wrk import Order

USUAL_CONNECTIONS = 64
MAX_QUEUE = 64
MAX_BATCH = 64
_WARM_UP_CONNECTIONS = 16
_LOOK_EVERY_S = 0.1
_SETTLING_S = 1.0


class Memory(NamedTuple):
    """Anonymous memory of the primary in bytes: before any overload, the most during one, after each."""

    before: int
    most: int
    after: Sequence[int]

    def sentence(self) -> str:
        """Say it to a person."""
        after = ", ".join(f"{one / MEBIBYTE:,.1f}" for one in self.after)
        return (
            f"Memory of the primary: {self.before / MEBIBYTE:,.1f} MiB before, at most "
            f"{self.most / MEBIBYTE:,.1f} MiB meanwhile, after each round {after} MiB"
        )


class Line(NamedTuple):
    """One number of connections that is too many, the medians of its rounds, and all probes."""

    connections: int
    before: Figures
    during: Figures
    after: Figures
    taken_per_s: float
    refused_per_s: float
    probes: Sequence[Probe]
    memory: Memory

    @property
    def ratio(self) -> float:
        """Deposits a second after an overload, as a share of those before it."""
        return self.after.per_second / self.before.per_second if self.before.per_second else 0.0

    def with_status(self, status: int) -> list[Probe]:
        """The probes that were answered with it."""
        return [probe for probe in self.probes if probe.status == status]

    @property
    def problems(self) -> list[str]:
        """What an overload must not do to a client."""
        late = self.during.errors.total - self.during.errors.non_200
        silent = sum(not probe.told_when for probe in self.with_status(HTTPStatus.SERVICE_UNAVAILABLE))
        counts = {
            "connections broke or requests timed out": late + len(self.with_status(BROKEN)),
            "of the timed 503s had no Retry-After": silent,
            "requests of the usual load were refused": self.before.errors.total + self.after.errors.total,
        }
        return [f"{count:,} {what}" for what, count in counts.items() if count]


def measure(plan: Plan) -> Report:
    """Run the suite. Raises Refused when something cannot be measured."""
    settings = plan.settings.model_copy(update={"max_queue": MAX_QUEUE, "max_batch": MAX_BATCH})
    with temporary_pair(plan.directory, settings) as pair:
        if plan.warm_up_s:
            pair.load(plan.wrk, Order(pair.port, _WARM_UP_CONNECTIONS, plan.warm_up_s))
        lines = [_measure_at(plan, connections, pair) for connections in plan.connections]
        progress("Verifying both journals")
        return report_of(plan, lines, prove(pair))


def _measure_at(plan: Plan, connections: int, pair: Pair) -> Line:
    rounds: list[tuple[Measured, Measured, Measured]] = []
    probes: list[Probe] = []
    held: list[int] = []
    pid = pair.nodes[PRIMARY].pid
    first, most = anonymous_bytes(pid), 0
    for number in range(1, plan.rounds + 1):
        before = _usual(plan, pair)
        with _most_held(pid) as seen, probing(pair.port) as probed:
            during = pair.overload(plan.wrk, Order(pair.port, connections, plan.seconds))
        after = _usual(plan, pair)
        pair.answered += len(probed.with_status(HTTPStatus.OK))
        pair.cut_off += len(probed.with_status(BROKEN))
        rounds.append((before, during, after))
        probes += probed.all
        time.sleep(_SETTLING_S)
        held.append(anonymous_bytes(pid))
        most = max(most, *seen)
        progress(
            f"Connections {connections}, round {number} of {plan.rounds}: {before.load.per_second:,.0f}/s before, "
            f"{after.load.per_second:,.0f}/s after {during.load.errors.non_200:,} refusals"
        )
    overloads = [during.load for _, during, _ in rounds]
    return Line(
        connections,
        before=Figures.of([before for before, _, _ in rounds]),
        during=Figures.of([during for _, during, _ in rounds]),
        after=Figures.of([after for _, _, after in rounds]),
        taken_per_s=middle([load.done / load.seconds for load in overloads]),
        refused_per_s=middle([load.errors.non_200 / load.seconds for load in overloads]),
        probes=probes,
        memory=Memory(first, most, held),
    )


def _usual(plan: Plan, pair: Pair) -> Measured:
    """The load that is never refused, once all is answered that others had sent when they hung up."""
    pair.agreed()
    return pair.load(plan.wrk, Order(pair.port, USUAL_CONNECTIONS, plan.seconds))


@contextmanager
def _most_held(pid: int) -> Iterator[list[int]]:
    """Look at a process's memory again and again while the block runs."""
    seen, stop = [anonymous_bytes(pid)], threading.Event()

    def look() -> None:
        while not stop.wait(_LOOK_EVERY_S):
            seen.append(anonymous_bytes(pid))

    looking = threading.Thread(target=look, name="memory")
    looking.start()
    try:
        yield seen
    finally:
        stop.set()
        looking.join()


def report_of(plan: Plan, lines: Sequence[Line], proof: Proof) -> Report:
    """Put the report together."""
    facts = machine.facts(plan.directory, plan.wrk)
    settings = plan.of_load() | {"max_queue": MAX_QUEUE, "max_batch": MAX_BATCH}
    problems = [f"With {line.connections} connections {problem}" for line in lines for problem in line.problems]
    return Report(
        document(
            "overload",
            facts,
            settings,
            lines=[_line_document(line) for line in lines],
            problems=problems,
            verified=proof.document(),
        ),
        [_grid(plan, lines), _probes_grid(lines)],
        [
            *machine.warnings(facts),
            *(line.memory.sentence() for line in lines),
            *problems,
            proof.sentence(),
        ],
        proof.ok and not problems,
    )


def _line_document(line: Line) -> dict[str, Any]:
    return {
        "connections": line.connections,
        "before": line.before.document(),
        "overload": line.during.document()
        | {"taken_per_s": round(line.taken_per_s, 1), "refused_per_s": round(line.refused_per_s, 1)},
        "after": line.after.document(),
        "ratio": round(line.ratio, 3),
        "probes": {str(status): _probes_document(line.with_status(status)) for status in _statuses(line)},
        "primary_anonymous_bytes": line.memory._asdict(),
    }


def _statuses(line: Line) -> list[int]:
    return sorted({int(probe.status) for probe in line.probes})


def _probes_document(probes: Sequence[Probe]) -> dict[str, Any]:
    p50, p99, worst = _quantiles(probes)
    return {"count": len(probes), "p50_ms": round(p50, 3), "p99_ms": round(p99, 3), "worst_ms": round(worst, 3)}


def _quantiles(probes: Sequence[Probe]) -> tuple[float, float, float]:
    times = sorted(probe.ms for probe in probes)
    return times[len(times) // 2], times[99 * len(times) // 100], times[-1]


def _grid(plan: Plan, lines: Sequence[Line]) -> Grid:
    rows: list[list[str]] = []
    for line in lines:
        for what, figures in (("before", line.before), ("overload", line.during), ("after", line.after)):
            overloaded = figures is line.during
            connections = line.connections if overloaded else USUAL_CONNECTIONS
            taken = line.taken_per_s if overloaded else figures.per_second
            refused = f"{line.refused_per_s:,.0f}" if overloaded else ""
            cells = figures.cells("primary", "backup", "wrk")[1:]
            ratio = f"{line.ratio:.2f}" if what == "after" else ""
            rows.append([what, str(connections), f"{taken:,.0f}", refused, *cells, ratio])
    title = (
        f"POST /deposit before, during and after an overload; at most {MAX_QUEUE} wait for the journal "
        f"({plan.rounds} x {plan.seconds} s in turn, medians; CPU in percent of a core)"
    )
    columns = ("what", "connections", "200s/s", "503s/s", "p50 ms", "p99 ms", "errors")
    return Grid(title, (*columns, "primary", "backup", "wrk", "ratio"), rows)


def _probes_grid(lines: Sequence[Line]) -> Grid:
    rows = []
    for line in lines:
        for status in _statuses(line):
            probes = line.with_status(status)
            name = "none" if status == BROKEN else str(status)
            figures = [f"{one:.2f}" for one in _quantiles(probes)]
            rows.append([name, str(line.connections), f"{len(probes):,}", *figures])
    title = "Deposits timed one by one during the overload, by their answer"
    return Grid(title, ("answer", "connections beside", "count", "p50 ms", "p99 ms", "worst ms"), rows)
