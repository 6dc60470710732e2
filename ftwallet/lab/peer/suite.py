"""Suite `peer`: deposits and batches, FT-Wallet and the peer in turn in one run.

Both stand side by side, each idle while the other is measured, round after round, so that whatever else the machine
does hits both. Both have one process for HTTP, on uvicorn, uvloop and httptools, and both answer when two disks have
it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ftwallet.lab import machine
from ftwallet.lab.batches import PATH, BatchLoad, has_batches
from ftwallet.lab.pair import Measured, Pair, temporary_pair
from ftwallet.lab.peer.server import Kept, Peer, require_peer, temporary_peer
from ftwallet.lab.plan import Plan, middle, progress
from ftwallet.lab.proof import Proof, prove
from ftwallet.lab.report import Grid, Report, document
from ftwallet.lab.single import Figures
from ftwallet.lab.wrk import Order

ASKED_RATE_RATIO = 8.0
ASKED_AT_CONNECTIONS = 64
ASKED_P50_RATIO = 0.6
ASKED_BATCH_RATIO = 3.0

OUR_BATCHES = (1_000, 8_000)
PEER_BATCH = 1_000
NO_BATCHES = f"FT-Wallet's batches are not there yet: it does not know POST {PATH}"

_WARM_UP_CONNECTIONS = 16


class Line(NamedTuple):
    """One number of connections."""

    connections: int
    ours: Figures
    peer: Figures

    @property
    def rate_ratio(self) -> float:
        """How many times the peer's deposits a second ours are."""
        return self.ours.per_second / self.peer.per_second if self.peer.per_second else 0.0

    @property
    def p50_ratio(self) -> float:
        """Our median latency, as a share of the peer's."""
        return self.ours.p50_ms / self.peer.p50_ms if self.peer.p50_ms else 0.0

    def document(self) -> dict[str, Any]:
        """Say it to a program."""
        return {
            "connections": self.connections,
            "ours": self.ours.document(),
            "peer": self.peer.document(),
            "rate_ratio": round(self.rate_ratio, 3),
            "p50_ratio": round(self.p50_ratio, 3),
        }


class BatchFigures(NamedTuple):
    """The medians over all rounds at one size."""

    size: int
    per_second: float
    p50_ms: float

    @classmethod
    def of(cls, rounds: Sequence[BatchLoad]) -> BatchFigures:
        """Make them from the rounds."""
        return cls(rounds[0].size, middle([one.per_second for one in rounds]), middle([one.p50_ms for one in rounds]))

    def document(self) -> dict[str, Any]:
        """Say it to a program."""
        return {
            "size": self.size,
            "operations_per_s": round(self.per_second, 1),
            "p50_ms": round(self.p50_ms, 3),
        }


class Batches(NamedTuple):
    """Those of both sides; `ours` is empty where they are not known."""

    ours: list[BatchFigures]
    peer: BatchFigures

    def ratio(self, ours: BatchFigures) -> float:
        """How many times the peer's operations a second ours are."""
        return ours.per_second / self.peer.per_second if self.peer.per_second else 0.0

    def document(self) -> dict[str, Any]:
        """Say it to a program."""
        ours = [one.document() | {"ratio": round(self.ratio(one), 3)} for one in self.ours]
        return {"ours": ours, "peer": self.peer.document()}


def measure(plan: Plan) -> Report:
    """Run the suite. Raises Refused when something cannot be measured."""
    require_peer()  # before anything is started
    with temporary_pair(plan.directory, plan.settings) as pair, temporary_peer(plan.directory / "peer") as peer:
        if plan.warm_up_s:
            progress(f"Warming up for {plan.warm_up_s} s each")
            for side in (pair, peer):
                side.load(plan.wrk, Order(side.port, _WARM_UP_CONNECTIONS, plan.warm_up_s))
        lines = [_measure_at(plan, connections, pair, peer) for connections in plan.connections]
        batches = _measure_batches(plan, pair, peer)
        kept, proof = peer.kept(), prove(pair)
    return report_of(plan, lines, batches, proof, kept)


def _measure_at(plan: Plan, connections: int, pair: Pair, peer: Peer) -> Line:
    ours: list[Measured] = []
    others: list[Measured] = []
    for number in range(1, plan.rounds + 1):
        ours.append(pair.load(plan.wrk, Order(pair.port, connections, plan.seconds)))
        others.append(peer.load(plan.wrk, Order(peer.port, connections, plan.seconds)))
        progress(
            f"Connections {connections}, round {number} of {plan.rounds}: FT-Wallet "
            f"{ours[-1].load.per_second:,.0f}/s, PostgreSQL {others[-1].load.per_second:,.0f}/s"
        )
    return Line(connections, Figures.of(ours), Figures.of(others))


def _measure_batches(plan: Plan, pair: Pair, peer: Peer) -> Batches:
    sizes = OUR_BATCHES if has_batches(pair.url) else ()
    ours: dict[int, list[BatchLoad]] = {size: [] for size in sizes}
    others: list[BatchLoad] = []
    for number in range(1, plan.rounds + 1):
        for size, loads in ours.items():
            loads.append(pair.batches(size, plan.seconds))
            progress(f"Batches of {size:,}, round {number} of {plan.rounds}: FT-Wallet {loads[-1].per_second:,.0f}/s")
        others.append(peer.batches(PEER_BATCH, plan.seconds))
        progress(
            f"Batches of {PEER_BATCH:,}, round {number} of {plan.rounds}: PostgreSQL {others[-1].per_second:,.0f}/s"
        )
    return Batches([BatchFigures.of(loads) for loads in ours.values()], BatchFigures.of(others))


def report_of(plan: Plan, lines: Sequence[Line], batches: Batches, proof: Proof, kept: Kept) -> Report:
    """Put the report together."""
    facts = machine.facts(plan.directory, plan.wrk)
    verified = {"ours": proof.document(), "peer": kept.document()}
    found = {"lines": [line.document() for line in lines], "batches": batches.document(), "verified": verified}
    return Report(
        document("peer", facts, plan.of_load(), **found),
        [_grid(plan, lines), _batch_grid(plan, batches)],
        [
            *machine.warnings(facts),
            *_single_remarks(lines),
            *_batch_remarks(batches),
            proof.sentence(),
            kept.sentence(),
        ],
        proof.ok and not kept.problems,
    )


def _grid(plan: Plan, lines: Sequence[Line]) -> Grid:
    columns = (
        "connections",
        "what",
        "requests/s",
        "p50 ms",
        "p99 ms",
        "errors",
        "server",
        "backup",
        "databases",
        "wrk",
    )
    rows: list[list[str]] = []
    for line in lines:
        peer = line.peer.cells("server", "backup", "databases", "wrk")
        ours = line.ours.cells("primary", "backup", "databases", "wrk")
        rows.append([str(line.connections), "PostgreSQL", *peer, "", ""])
        rows.append(["", "FT-Wallet", *ours, f"{line.rate_ratio:.2f}", f"{line.p50_ratio:.2f}"])
    title = (
        "POST /deposit, on two disks before the answer, against the same wallet on FastAPI, asyncpg and PostgreSQL "
        f"with one synchronous standby ({plan.rounds} x {plan.seconds} s in turn, medians; CPU in percent of a core)"
    )
    return Grid(title, (*columns, "rate", "p50"), rows)


def _batch_grid(plan: Plan, batches: Batches) -> Grid:
    sides = [
        ("PostgreSQL", batches.peer, ""),
        *(("FT-Wallet", one, f"{batches.ratio(one):.2f}") for one in batches.ours),
    ]
    rows = [[what, f"{one.size:,}", f"{one.per_second:,.0f}", f"{one.p50_ms:.2f}", ratio] for what, one, ratio in sides]
    title = f"POST {PATH}, one connection ({plan.rounds} x {plan.seconds} s in turn, medians)"
    return Grid(title, ("what", "batch", "operations/s", "p50 ms", "rate"), rows)


def _single_remarks(lines: Sequence[Line]) -> list[str]:
    remarks = []
    for line in lines:
        if line.connections == ASKED_AT_CONNECTIONS:
            met = line.rate_ratio >= ASKED_RATE_RATIO
            remarks.append(
                f"Asked at {line.connections} connections: {ASKED_RATE_RATIO:.0f} times as many deposits a second; "
                + _verdict(met)
            )
        if line.connections == 1:
            met = line.p50_ratio <= ASKED_P50_RATIO
            remarks.append(f"Asked at 1 connection: a p50 of at most {ASKED_P50_RATIO} times; {_verdict(met)}")
    return remarks


def _batch_remarks(batches: Batches) -> list[str]:
    if not batches.ours:
        return [NO_BATCHES]
    asked = f"{ASKED_BATCH_RATIO:.0f} times as many operations a second as in the peer's"
    return [
        f"Asked in batches of {one.size:,}: {asked}; {_verdict(batches.ratio(one) >= ASKED_BATCH_RATIO)}"
        for one in batches.ours
    ]


def _verdict(met: bool) -> str:
    return "met" if met else "NOT MET"
