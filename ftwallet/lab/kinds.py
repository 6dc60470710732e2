"""Suite `kinds`: what each kind of transaction costs beside a deposit, in turn on one pair, durable on both nodes.

A transfer is one leg between two accounts that are there and have enough, and every second request of holds captures an
older one into another account, so what they cost more is their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from ftwallet.lab import machine
from ftwallet.lab.filling import fill
from ftwallet.lab.pair import Measured, Pair, temporary_pair
from ftwallet.lab.plan import Plan, progress
from ftwallet.lab.proof import Proof, prove
from ftwallet.lab.report import Grid, Report, document
from ftwallet.lab.scripts import ACCOUNTS, Requests
from ftwallet.lab.single import ASKED_AT_CONNECTIONS, Figures
from ftwallet.lab.wrk import Order

KINDS: Final = (Requests.DEPOSITS, Requests.TRANSFERS, Requests.HOLDS)
"""In the order in which they are measured; all are held against the first."""

ASKED_RATIO = 0.8


class Line(NamedTuple):
    """One number of connections, with the figures of each kind."""

    connections: int
    figures: dict[Requests, Figures]

    def ratio(self, kind: Requests) -> float:
        """Transactions of a kind a second, as a share of deposits."""
        deposits = self.figures[Requests.DEPOSITS].per_second
        return self.figures[kind].per_second / deposits if deposits else 0.0


def measure(plan: Plan) -> Report:
    """Run the suite. Raises Refused when something cannot be measured."""
    with temporary_pair(plan.directory, plan.settings) as pair:
        fill(plan, pair, 2 * ACCOUNTS)  # every account is there, and has enough for what it gives before it gets
        for kind in KINDS if plan.warm_up_s else ():
            pair.load(plan.wrk, Order(pair.port, plan.connections[0], plan.warm_up_s, requests=kind))
        lines = [_measure_at(plan, connections, pair) for connections in plan.connections]
        progress("Verifying both journals")
        proof = prove(pair)
    return report_of(plan, lines, proof)


def _measure_at(plan: Plan, connections: int, pair: Pair) -> Line:
    rounds: dict[Requests, list[Measured]] = {kind: [] for kind in KINDS}
    for number in range(1, plan.rounds + 1):
        for kind in KINDS:
            order = Order(pair.port, connections, plan.seconds, requests=kind)
            rounds[kind].append(pair.load(plan.wrk, order))
        rates = ", ".join(f"{kind} {rounds[kind][-1].load.per_second:,.0f}/s" for kind in KINDS)
        progress(f"Connections {connections}, round {number} of {plan.rounds}: {rates}")
    return Line(connections, {kind: Figures.of(measured) for kind, measured in rounds.items()})


def report_of(plan: Plan, lines: Sequence[Line], proof: Proof) -> Report:
    """Put the report together."""
    facts = machine.facts(plan.directory, plan.wrk)
    return Report(
        document(
            "kinds", facts, plan.of_load(), lines=[_line_document(line) for line in lines], verified=proof.document()
        ),
        [_grid(plan, lines)],
        [*machine.warnings(facts), *_verdicts(lines), proof.sentence()],
        proof.ok,
    )


def _line_document(line: Line) -> dict[str, Any]:
    figures: dict[str, Any] = {str(kind): line.figures[kind].document() for kind in KINDS}
    ratios = {str(kind): round(line.ratio(kind), 3) for kind in KINDS[1:]}
    return {"connections": line.connections, **figures, "ratios": ratios}


def _grid(plan: Plan, lines: Sequence[Line]) -> Grid:
    columns = ("connections", "what", "requests/s", "p50 ms", "p99 ms", "errors", "primary", "backup", "wrk", "ratio")
    rows: list[list[str]] = []
    for line in lines:
        for kind in KINDS:
            first = kind is KINDS[0]
            cells = line.figures[kind].cells("primary", "backup", "wrk")
            ratio = "" if first else f"{line.ratio(kind):.2f}"
            rows.append([str(line.connections) if first else "", str(kind), *cells, ratio])
    title = (
        "Kinds of transactions, one a request, durable on both nodes before the answer "
        f"({plan.rounds} x {plan.seconds} s in turn, medians; CPU in percent of a core)"
    )
    return Grid(title, columns, rows)


def _verdicts(lines: Sequence[Line]) -> list[str]:
    verdicts: list[str] = []
    for line in lines:
        for kind in KINDS[1:] if line.connections == ASKED_AT_CONNECTIONS else ():
            verdict = "met" if line.ratio(kind) >= ASKED_RATIO else "NOT MET"
            verdicts.append(
                f"Asked at {line.connections} connections: {kind} at {ASKED_RATIO:g} of deposits; {verdict}"
            )
    return verdicts
