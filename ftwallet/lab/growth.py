"""Suite `growth`: deposits with millions of past ids and accounts, against an empty ledger, in turn in one run.

Whatever grows with the past shows here: look-ups, memory and its caches, checkpoints.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from ftwallet.config import MEBIBYTE
from ftwallet.lab import machine
from ftwallet.lab.pair import ROLES, Measured, Pair, temporary_pair
from ftwallet.lab.plan import Plan, progress
from ftwallet.lab.preload import preload
from ftwallet.lab.processes import anonymous_bytes
from ftwallet.lab.proof import Proof, prove
from ftwallet.lab.report import Grid, Report, document
from ftwallet.lab.scripts import ACCOUNTS
from ftwallet.lab.single import Figures
from ftwallet.lab.wrk import Order

ASKED_RATIO = 0.9
ASKED_AT_CONNECTIONS = 64
ASKED_READY_S = 3.0
ASKED_ANONYMOUS_BYTES = 1 << 30
_WARM_UP_CONNECTIONS = 16


class Line(NamedTuple):
    """One number of connections."""

    connections: int
    empty: Figures
    grown: Figures

    @property
    def ratio(self) -> float:
        """Deposits a second with a past, as a share of those without."""
        return self.grown.per_second / self.empty.per_second if self.empty.per_second else 0.0

    def document(self) -> dict[str, Any]:
        """Say it to a program."""
        figures = {"empty": self.empty.document(), "grown": self.grown.document()}
        return {"connections": self.connections, **figures, "ratio": round(self.ratio, 3)}


class Found(NamedTuple):
    """All that was found. `ready_s`: from the start of the grown pair's processes until it was in sync and served.

    `anonymous_bytes`: what each of its nodes held at the end, by role. `proofs`: of the empty and of the grown pair.
    """

    lines: Sequence[Line]
    ready_s: float
    anonymous_bytes: dict[str, int]
    proofs: Sequence[Proof]


def measure(plan: Plan) -> Report:
    """Run the suite. Raises Refused when something cannot be measured."""
    began = 0.0
    with ExitStack() as pairs:

        def past(data_dir: Path) -> int:
            nonlocal began
            written = preload(data_dir, plan.past, plan.accounts)
            began = time.monotonic()
            return written

        grown = pairs.enter_context(temporary_pair(_made(plan, "grown"), plan.settings, past))
        ready_s = time.monotonic() - began
        progress(f"Ready after {ready_s:.1f} s")
        empty = pairs.enter_context(temporary_pair(_made(plan, "empty"), plan.settings))
        _warm_up(plan, empty, grown)
        lines = [_measure_at(plan, connections, empty, grown) for connections in plan.connections]
        held = {role: anonymous_bytes(grown.nodes[node].pid) for node, role in ROLES.items()}
        progress("Verifying both journals of both pairs")
        found = Found(lines, ready_s, held, [prove(empty), prove(grown, stop=False)])
    return report_of(plan, found)


def _made(plan: Plan, name: str) -> Path:
    directory = plan.directory / name
    directory.mkdir()
    return directory


def _warm_up(plan: Plan, empty: Pair, grown: Pair) -> None:
    if plan.warm_up_s:
        for pair, accounts in ((empty, ACCOUNTS), (grown, plan.accounts)):
            pair.load(plan.wrk, Order(pair.port, _WARM_UP_CONNECTIONS, plan.warm_up_s, accounts=accounts))


def _measure_at(plan: Plan, connections: int, empty: Pair, grown: Pair) -> Line:
    without: list[Measured] = []
    with_past: list[Measured] = []
    for number in range(1, plan.rounds + 1):
        without.append(empty.load(plan.wrk, Order(empty.port, connections, plan.seconds)))
        order = Order(grown.port, connections, plan.seconds, accounts=plan.accounts)
        with_past.append(grown.load(plan.wrk, order))
        progress(
            f"Connections {connections}, round {number} of {plan.rounds}: empty {without[-1].load.per_second:,.0f}/s, "
            f"with a past {with_past[-1].load.per_second:,.0f}/s"
        )
    return Line(connections, Figures.of(without), Figures.of(with_past))


def report_of(plan: Plan, found: Found) -> Report:
    """Put the report together."""
    facts = machine.facts(plan.directory, plan.wrk)
    settings = plan.of_load() | {"past": plan.past, "accounts": plan.accounts}
    return Report(
        document(
            "growth",
            facts,
            settings,
            lines=[line.document() for line in found.lines],
            ready_s=round(found.ready_s, 3),
            anonymous_bytes=found.anonymous_bytes,
            verified={name: one.document() for name, one in zip(("empty", "grown"), found.proofs, strict=True)},
        ),
        [_grid(plan, found.lines)],
        [*machine.warnings(facts), *_remarks(found), *(proof.sentence() for proof in found.proofs)],
        all(proof.ok for proof in found.proofs),
    )


def _grid(plan: Plan, lines: Sequence[Line]) -> Grid:
    rows: list[list[str]] = []
    for line in lines:
        rows.append([str(line.connections), "empty", *line.empty.cells("primary", "backup", "wrk"), ""])
        rows.append(["", "with a past", *line.grown.cells("primary", "backup", "wrk"), f"{line.ratio:.2f}"])
    title = (
        f"POST /deposit with {plan.past:,} past ids and {plan.accounts:,} accounts, against an empty ledger "
        f"({plan.rounds} x {plan.seconds} s in turn, medians; CPU in percent of a core)"
    )
    common = ("requests/s", "p50 ms", "p99 ms", "errors")
    return Grid(title, ("connections", "what", *common, "primary", "backup", "wrk", "ratio"), rows)


def _remarks(found: Found) -> list[str]:
    remarks: list[str] = []
    for line in found.lines:
        if line.connections == ASKED_AT_CONNECTIONS:
            verdict = "met" if line.ratio >= ASKED_RATIO else "NOT MET"
            remarks.append(f"Asked at {line.connections} connections: a ratio of at least {ASKED_RATIO}; {verdict}")
    held = ", ".join(f"{role} {size / MEBIBYTE:,.0f} MiB" for role, size in found.anonymous_bytes.items())
    ready = "met" if found.ready_s <= ASKED_READY_S else "NOT MET"
    small = "met" if max(found.anonymous_bytes.values()) <= ASKED_ANONYMOUS_BYTES else "NOT MET"
    return [
        *remarks,
        f"In sync with its past {found.ready_s:.1f} s after its start; asked: {ASKED_READY_S:.0f} s at most; {ready}",
        f"Memory at the end: {held}; asked: {ASKED_ANONYMOUS_BYTES // MEBIBYTE:,} MiB at most; {small}",
    ]
