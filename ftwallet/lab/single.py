"""Suites `single` and `mixed`: one deposit, or one of all that clients ask, a request, against a raw endpoint.

Both are under the same uvicorn with the same settings, and what moves money is durable on both nodes before its answer.
The mix is of ten requests five deposits, two withdrawals, two looks at a balance, and a retry of a deposit made before.

Both stand side by side and are measured in turn, round after round, so that whatever else the machine does hits both;
what counts is their ratio within one run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ftwallet.lab import machine
from ftwallet.lab.filling import fill
from ftwallet.lab.pair import Measured, Pair, temporary_pair
from ftwallet.lab.plan import Plan, middle, progress
from ftwallet.lab.processes import CpuMeter, raw_server
from ftwallet.lab.profiling import Profiled, layers_grid, profile_under_load
from ftwallet.lab.proof import Proof, prove
from ftwallet.lab.report import Grid, Report, document
from ftwallet.lab.scripts import ACCOUNTS, Requests
from ftwallet.lab.wrk import Errors, Order, run_wrk
from ftwallet.supervisor.processes import Child

ASKED_AT_CONNECTIONS = 64
_WARM_UP_CONNECTIONS = 16


class Suite(NamedTuple):
    """What tells both suites apart; `asked` is the least ratio at 64 connections, 0 where none is asked."""

    name: str
    what: str
    title: str
    asked: float


SINGLE = Suite("single", "deposit", "POST /deposit", 0.4)
MIXED = Suite("mixed", "mix", "Of ten requests 5 deposits, 2 withdrawals, 2 balances and a retry", 0.0)


class Figures(NamedTuple):
    """The medians over all rounds at one number of connections; errors are added up."""

    per_second: float
    p50_ms: float
    p99_ms: float
    errors: Errors
    cpu_percent: dict[str, float]

    @classmethod
    def of(cls, rounds: Sequence[Measured]) -> Figures:
        """Make them from the rounds."""
        loads = [measured.load for measured in rounds]
        cpu = [measured.cpu_percent | {"wrk": measured.load.cpu_percent} for measured in rounds]
        return cls(
            middle([load.per_second for load in loads]),
            middle([load.p50_ms for load in loads]),
            middle([load.p99_ms for load in loads]),
            Errors(*(sum(counts) for counts in zip(*(load.errors for load in loads), strict=True))),
            {name: middle([used[name] for used in cpu]) for name in cpu[0]},
        )

    def document(self) -> dict[str, Any]:
        """Say it to a program."""
        return {
            "requests_per_s": round(self.per_second, 1),
            "p50_ms": round(self.p50_ms, 3),
            "p99_ms": round(self.p99_ms, 3),
            "errors": self.errors._asdict(),
            "cpu_percent": {name: round(used, 1) for name, used in self.cpu_percent.items()},
        }

    def cells(self, *processes: str) -> list[str]:
        """Say it in a table, with the CPU of these processes; one that has no part in it has an empty cell."""
        cpu = [f"{self.cpu_percent[name]:.0f} %" if name in self.cpu_percent else "" for name in processes]
        return [f"{self.per_second:,.0f}", f"{self.p50_ms:.2f}", f"{self.p99_ms:.2f}", str(self.errors.total), *cpu]


class Line(NamedTuple):
    """One number of connections."""

    connections: int
    raw: Figures
    wallet: Figures

    @property
    def ratio(self) -> float:
        """Requests a second, as a share of what the raw endpoint does."""
        return self.wallet.per_second / self.raw.per_second if self.raw.per_second else 0.0


def measure(plan: Plan) -> Report:
    """Run the suite `single`. Raises Refused when something cannot be measured."""
    profiled: list[Profiled] = []
    with temporary_pair(plan.directory, plan.settings) as pair, raw_server(plan.directory / "raw.log") as (port, raw):
        _warm_up(plan, pair, port)
        lines = [_measure_at(plan, connections, pair, port, raw) for connections in plan.connections]
        if plan.profile:
            profiled = profile_under_load(plan, pair)
        proof = prove(pair)
    return report_of(plan, SINGLE, lines, proof, profiled)


def measure_mixed(plan: Plan) -> Report:
    """Run the suite `mixed`. Raises Refused when something cannot be measured."""
    with temporary_pair(plan.directory, plan.settings) as pair, raw_server(plan.directory / "raw.log") as (port, raw):
        _warm_up(plan, pair, port)
        fill(plan, pair, ACCOUNTS)  # so that every account is there and has enough for its first withdrawals
        lines = [_measure_at(plan, connections, pair, port, raw, Requests.MIX) for connections in plan.connections]
        proof = prove(pair)
    return report_of(plan, MIXED, lines, proof)


def _warm_up(plan: Plan, pair: Pair, port: int) -> None:
    if plan.warm_up_s:
        progress(f"Warming up for {plan.warm_up_s} s each")
        run_wrk(plan.wrk, Order(port, _WARM_UP_CONNECTIONS, plan.warm_up_s))
        pair.load(plan.wrk, Order(pair.port, _WARM_UP_CONNECTIONS, plan.warm_up_s))


def _measure_at(
    plan: Plan, connections: int, pair: Pair, port: int, raw: Child, requests: Requests = Requests.DEPOSITS
) -> Line:
    raws: list[Measured] = []
    loads: list[Measured] = []
    for number in range(1, plan.rounds + 1):
        meter = CpuMeter({"server": [raw.pid]})
        load = run_wrk(plan.wrk, Order(port, connections, plan.seconds, requests=requests))
        raws.append(Measured(load, meter.percent()))
        loads.append(pair.load(plan.wrk, Order(pair.port, connections, plan.seconds, requests=requests)))
        progress(
            f"Connections {connections}, round {number} of {plan.rounds}: raw {load.per_second:,.0f}/s, "
            f"FT-Wallet {loads[-1].load.per_second:,.0f}/s"
        )
    return Line(connections, Figures.of(raws), Figures.of(loads))


def report_of(
    plan: Plan, suite: Suite, lines: Sequence[Line], proof: Proof, profiled: Sequence[Profiled] = ()
) -> Report:
    """Put the report together."""
    facts = machine.facts(plan.directory, plan.wrk)
    found: dict[str, Any] = {"lines": [_line_document(suite, line) for line in lines]}
    if profiled:
        found["profile"] = {one.role: one.document() for one in profiled}
    return Report(
        document(suite.name, facts, plan.of_load(), **found, verified=proof.document()),
        [_grid(plan, suite, lines), *_profile_grids(profiled)],
        [*machine.warnings(facts), *_remarks(suite, lines), proof.sentence()],
        proof.ok,
    )


def _profile_grids(profiled: Sequence[Profiled]) -> list[Grid]:
    return [layers_grid(profiled), *(one.grid() for one in profiled)] if profiled else []


def _line_document(suite: Suite, line: Line) -> dict[str, Any]:
    return {
        "connections": line.connections,
        "raw": line.raw.document(),
        suite.what: line.wallet.document(),
        "ratio": round(line.ratio, 3),
    }


def _grid(plan: Plan, suite: Suite, lines: Sequence[Line]) -> Grid:
    common = ("requests/s", "p50 ms", "p99 ms", "errors")
    columns = ("connections", "what", *common, "server", "backup", "wrk", "ratio")
    rows: list[list[str]] = []
    for line in lines:
        rows.append([str(line.connections), "raw ASGI", *line.raw.cells("server", "backup", "wrk"), ""])
        rows.append(["", suite.what, *line.wallet.cells("primary", "backup", "wrk"), f"{line.ratio:.2f}"])
    title = (
        f"{suite.title}, durable on both nodes before the answer, against a raw ASGI endpoint under the same server "
        f"({plan.rounds} x {plan.seconds} s, medians; CPU in percent of a core)"
    )
    return Grid(title, columns, rows)


def _remarks(suite: Suite, lines: Sequence[Line]) -> list[str]:
    remarks: list[str] = []
    for line in lines:
        if suite.asked and line.connections == ASKED_AT_CONNECTIONS:
            verdict = "met" if line.ratio >= suite.asked else "NOT MET"
            remarks.append(f"Asked at {line.connections} connections: a ratio of at least {suite.asked}; {verdict}")
    return remarks
