"""Suite `batch`: operations a second in batches from one client, and what single deposits feel of them meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from ftwallet.lab import machine
from ftwallet.lab.batches import BatchLoad, run_batches
from ftwallet.lab.pair import Measured, Pair, temporary_pair
from ftwallet.lab.plan import Plan, middle, progress
from ftwallet.lab.proof import Proof, prove
from ftwallet.lab.report import Grid, Report, document
from ftwallet.lab.single import Figures
from ftwallet.lab.wrk import Order

SIZES = (1_000, 8_000)
ASKED_P99_RATIO = 6.0
_BESIDE = 8_000


class Sized(NamedTuple):
    """Batches of one size: operations a second and milliseconds a batch, medians over the rounds."""

    size: int
    per_second: float
    p50_ms: float

    @classmethod
    def of(cls, loads: Sequence[BatchLoad]) -> Sized:
        """Put rounds together."""
        return cls(loads[0].size, middle([one.per_second for one in loads]), middle([one.p50_ms for one in loads]))


class Beside(NamedTuple):
    """Single deposits at so many connections, without batches and with them, and what the batches did meanwhile."""

    connections: int
    without: Figures
    beside: Figures
    batches: Sized

    @property
    def p99_ratio(self) -> float:
        """How many times longer the slowest in a hundred take."""
        return self.beside.p99_ms / self.without.p99_ms if self.without.p99_ms else 0.0


def measure(plan: Plan) -> Report:
    """Run the suite. Raises Refused when something cannot be measured."""
    with temporary_pair(plan.directory, plan.settings) as pair:
        if plan.warm_up_s:
            pair.batches(SIZES[0], plan.warm_up_s)
        sized = [_measure_size(plan, pair, size) for size in SIZES]
        beside = [_measure_beside(plan, pair, connections) for connections in plan.connections]
        progress("Verifying both journals")
        return report_of(plan, sized, beside, prove(pair))


def ratio_to_singles(sized: Sized, beside: Sequence[Beside]) -> float:
    """Operations a second in batches, as a multiple of single deposits at the first number of connections."""
    singles = beside[0].without.per_second if beside else 0.0
    return sized.per_second / singles if singles else 0.0


def _measure_size(plan: Plan, pair: Pair, size: int) -> Sized:
    found = Sized.of([pair.batches(size, plan.seconds) for _ in range(plan.rounds)])
    progress(f"Batches of {size:,}: {found.per_second:,.0f} operations/s")
    return found


def _measure_beside(plan: Plan, pair: Pair, connections: int) -> Beside:
    order = Order(pair.port, connections, plan.seconds)
    without: list[Measured] = []
    beside: list[Measured] = []
    batches: list[BatchLoad] = []
    with ThreadPoolExecutor(1, "batches") as client:
        for number in range(1, plan.rounds + 1):
            without.append(pair.load(plan.wrk, order))
            under_way = client.submit(run_batches, pair.url, _BESIDE, plan.seconds + 1.0)
            beside.append(pair.load(plan.wrk, order))
            batches.append(under_way.result())
            pair.answered += batches[-1].operations
            progress(f"Connections {connections}, round {number} of {plan.rounds}")
    return Beside(connections, Figures.of(without), Figures.of(beside), Sized.of(batches))


def report_of(plan: Plan, sized: Sequence[Sized], beside: Sequence[Beside], proof: Proof) -> Report:
    """Put the report together."""
    facts = machine.facts(plan.directory, plan.wrk)
    remarks = machine.warnings(facts)
    for line in beside:
        verdict = "met" if line.p99_ratio <= ASKED_P99_RATIO else "NOT MET"
        remarks.append(f"Asked at {line.connections} connections: a p99 at most {ASKED_P99_RATIO:g} times; {verdict}")
    return Report(
        document(
            "batch",
            facts,
            plan.of_load(),
            sizes=[one._asdict() | {"ratio": round(ratio_to_singles(one, beside), 2)} for one in sized],
            beside=[_beside_document(line) for line in beside],
            verified=proof.document(),
        ),
        [_sizes_grid(plan, sized, beside), _beside_grid(plan, beside)],
        [*remarks, proof.sentence()],
        proof.ok,
    )


def _beside_document(line: Beside) -> dict[str, Any]:
    figures = {"without": line.without.document(), "beside": line.beside.document()}
    batches = line.batches._asdict()
    return {"connections": line.connections, **figures, "batches": batches, "p99_ratio": round(line.p99_ratio, 3)}


def _sizes_grid(plan: Plan, sized: Sequence[Sized], beside: Sequence[Beside]) -> Grid:
    rows = [
        [f"{one.size:,}", f"{one.per_second:,.0f}", f"{one.p50_ms:.1f}", f"{ratio_to_singles(one, beside):.1f}"]
        for one in sized
    ]
    title = (
        f"POST /transactions from one connection ({plan.rounds} x {plan.seconds} s, medians; ratio to the single "
        f"deposits a second at {plan.connections[0]} connections below)"
    )
    return Grid(title, ("operations a batch", "operations/s", "p50 ms a batch", "ratio"), rows)


def _beside_grid(plan: Plan, beside: Sequence[Beside]) -> Grid:
    rows: list[list[str]] = []
    for line in beside:
        rows.append([str(line.connections), "alone", *line.without.cells("primary", "backup", "wrk"), "", ""])
        cells = line.beside.cells("primary", "backup", "wrk")
        rows.append(["", "beside batches", *cells, f"{line.batches.per_second:,.0f}", f"{line.p99_ratio:.1f}"])
    title = (
        f"POST /deposit alone, and beside batches of {_BESIDE:,} without pause "
        f"({plan.rounds} x {plan.seconds} s in turn, medians; CPU in percent of a core)"
    )
    common = ("requests/s", "p50 ms", "p99 ms", "errors")
    last = ("batched operations/s", "p99 ratio")
    return Grid(title, ("connections", "what", *common, "primary", "backup", "wrk", *last), rows)
