"""Figures, tables and JSON, from loads that were made up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from ftwallet.cli.commands import ftwallet_run
from ftwallet.lab import growth, kinds, machine, overload, report, single
from ftwallet.lab.bench import ConnectionsType
from ftwallet.lab.pair import Measured
from ftwallet.lab.peer import suite
from ftwallet.lab.peer.server import Kept, Rows
from ftwallet.lab.peer.suite import Batches, BatchFigures
from ftwallet.lab.probing import BROKEN, Probe
from ftwallet.lab.proof import Proof, counted
from ftwallet.lab.report import Report
from ftwallet.lab.scripts import Requests
from ftwallet.lab.single import Figures, Line
from ftwallet.lab.wrk import Errors
from tests.lab.figures import FACTS, deposits, load, plan, raw

REAL = Proof(1_000, 64, {"primary": 1_010, "backup": 1_010}, [])
FALSE = Proof(1_000, 64, {"primary": 999, "backup": 1_010}, ["the nodes differ in deposits"])


@pytest.fixture
def facts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "facts", lambda directory, wrk: FACTS)


def single_report(directory: Path, proof: Proof = REAL) -> Report:
    lines = [
        Line(64, Figures.of([raw(20_000), raw(1_000), raw(22_000)]), Figures.of([deposits(5_000)] * 3)),
    ]
    return single.report_of(plan(directory), single.SINGLE, lines, proof)


def test_a_noisy_round_does_not_move_the_median_and_errors_add_up() -> None:
    rounds = [deposits(5_000, 3.0), deposits(100, 90.0, Errors(non_200=2)), deposits(5_100, 2.0, Errors(timeout=1))]
    figures = Figures.of(rounds)
    assert (figures.per_second, figures.p50_ms, figures.p99_ms) == (5_000, 3.0, 6.0)
    assert figures.errors == Errors(non_200=2, timeout=1)
    assert figures.cpu_percent == {"primary": 80.0, "backup": 40.0, "wrk": 10.0}


def test_the_ratio_is_of_deposits_to_the_raw_endpoint() -> None:
    assert Line(1, Figures.of([raw(20_000)]), Figures.of([deposits(5_000)])).ratio == 0.25
    assert Line(1, Figures.of([raw(0)]), Figures.of([deposits(0)])).ratio == 0.0


def test_json_is_one_object_on_one_line(facts: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report.print_json(single_report(tmp_path))
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    document = json.loads(said)
    assert (document["schema"], document["suite"], document["machine"]) == (1, "single", FACTS)
    assert document["settings"] == {"seconds": 1, "rounds": 3, "connections": [1, 16, 64, 256]}
    (line,) = document["lines"]
    assert (line["connections"], line["ratio"]) == (64, 0.25)
    assert set(line["raw"]["cpu_percent"]) == {"server", "wrk"}
    assert set(line["deposit"]["cpu_percent"]) == {"primary", "backup", "wrk"}
    assert line["deposit"]["errors"] == Errors()._asdict()
    assert document["verified"]["ok"] is True
    assert document["verified"]["records"] == {"primary": 1_010, "backup": 1_010}


def test_the_table_is_plain_when_piped(facts: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report.print_tables(single_report(tmp_path))
    said = capsys.readouterr().out
    assert said.isascii()
    assert "\x1b" not in said
    rows = [line.split() for line in said.splitlines()]
    assert ["64", "raw", "ASGI", "20,000", "1.00", "2.00", "0", "90", "%", "10", "%"] in rows
    assert ["deposit", "5,000", "1.00", "2.00", "0", "80", "%", "40", "%", "10", "%", "0.25"] in rows
    assert "Asked at 64 connections: a ratio of at least 0.4; NOT MET" in said
    assert (
        "Verified: 1,000 transactions were answered, 1,010 are in each of both journals (10 may have been under way"
        in said
    )


def test_what_does_not_fit_is_said_and_fails(facts: None, tmp_path: Path) -> None:
    found = single_report(tmp_path, FALSE)
    assert not found.ok
    assert found.lines[-1] == "NOT VERIFIED: the nodes differ in deposits"
    assert found.document["verified"]["problems"] == ["the nodes differ in deposits"]


@pytest.mark.parametrize(("transfers", "verdict"), [(4_000, "met"), (3_990, "NOT MET")])
def test_every_kind_is_held_against_deposits(
    facts: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], transfers: int, verdict: str
) -> None:
    figures = {
        Requests.DEPOSITS: Figures.of([deposits(5_000)]),
        Requests.TRANSFERS: Figures.of([deposits(transfers, 2.0)]),
        Requests.HOLDS: Figures.of([deposits(5_000, 2.0)]),
    }
    found = kinds.report_of(plan(tmp_path), [kinds.Line(16, figures), kinds.Line(64, figures)], REAL)
    assert [one for one in found.lines if one.startswith("Asked")] == [
        f"Asked at 64 connections: transfers at 0.8 of deposits; {verdict}",
        "Asked at 64 connections: holds at 0.8 of deposits; met",
    ]
    assert found.document["lines"][0]["ratios"] == {"transfers": transfers / 5_000, "holds": 1.0}
    report.print_tables(found)
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["16", "deposits", "5,000", "1.00", "2.00", "0", "80", "%", "40", "%", "10", "%"] in rows
    assert found.ok


def postgres(requests: int, p50_ms: float) -> Measured:
    return Measured(load(requests, p50_ms), {"server": 50.0, "databases": 90.0})


def peer_report(directory: Path, ours: int, batches: list[BatchFigures]) -> Report:
    lines = [
        suite.Line(1, Figures.of([deposits(ours, 0.5)]), Figures.of([postgres(1_000, 1.0)])),
        suite.Line(64, Figures.of([deposits(ours, 5.0)]), Figures.of([postgres(1_000, 40.0)])),
    ]
    rows = Rows(2_000, 250_000, 250_000)
    kept = Kept(2_000, {"primary": rows, "standby": rows}, [])
    return suite.report_of(plan(directory), lines, Batches(batches, BatchFigures(1_000, 50_000.0, 20.0)), REAL, kept)


def test_the_comparison_has_ratios_and_verdicts(
    facts: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = peer_report(tmp_path, 8_000, [BatchFigures(1_000, 100_000.0, 10.0), BatchFigures(8_000, 150_000.0, 50.0)])
    report.print_tables(found)
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["1", "PostgreSQL", "1,000", "1.00", "2.00", "0", "50", "%", "90", "%", "10", "%"] in rows
    assert ["FT-Wallet", "8,000", "0.50", "1.00", "0", "80", "%", "40", "%", "10", "%", "8.00", "0.50"] in rows
    assert ["FT-Wallet", "8,000", "150,000", "50.00", "3.00"] in rows
    assert [line.rpartition("; ")[2] for line in found.lines if line.startswith("Asked")] == [
        *("met", "met"),
        *("NOT MET", "met"),
    ]
    assert found.ok
    assert [one["ratio"] for one in found.document["batches"]["ours"]] == [2.0, 3.0]


def test_batches_that_are_not_there_are_told(facts: None, tmp_path: Path) -> None:
    found = peer_report(tmp_path, 7_900, [])
    assert suite.NO_BATCHES in found.lines
    assert "Asked at 64 connections: 8 times as many deposits a second; NOT MET" in found.lines


@pytest.mark.parametrize(("grown", "verdict"), [(4_500, "met"), (4_499, "NOT MET")])
def test_a_past_costs_at_most_a_tenth(facts: None, tmp_path: Path, grown: int, verdict: str) -> None:
    lines = [growth.Line(64, Figures.of([deposits(5_000)]), Figures.of([deposits(grown)]))]
    memory = {"primary": 1 << 30, "backup": 1 << 20}
    found = growth.report_of(plan(tmp_path), growth.Found(lines, 2.5, memory, [REAL, FALSE]))
    assert f"Asked at 64 connections: a ratio of at least 0.9; {verdict}" in found.lines
    assert "In sync with its past 2.5 s after its start; asked: 3 s at most; met" in found.lines
    assert "Memory at the end: primary 1,024 MiB, backup 1 MiB; asked: 1,024 MiB at most; met" in found.lines
    assert not found.ok


@pytest.mark.parametrize(
    ("records", "fits"),
    [(999, False), (1_000, True), (1_064, True), (1_065, False)],
    ids=["lost", "all", "cut", "many"],
)
def test_records_are_all_that_was_answered_and_at_most_what_was_cut_off(records: int, fits: bool) -> None:
    assert (counted(records, answered=1_000, cut_off=64) == []) is fits


def test_a_file_system_in_memory_is_warned_of() -> None:
    assert machine.warnings(FACTS) == []
    assert "costs nothing there" in str(machine.warnings(FACTS | {"filesystem": "tmpfs"}))


def test_the_facts_of_this_machine(tmp_path: Path) -> None:
    facts = machine.facts(tmp_path, "/nonexistent/wrk")
    assert facts.keys() == FACTS.keys()
    assert facts["wrk"] is None
    assert facts["cores"] >= 1
    assert "Python" in machine.sentence(facts)


def test_connections_are_numbers_with_commas() -> None:
    assert ConnectionsType().convert("1, 16,64", None, None) == (1, 16, 64)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--connections", "1,,2"],
        ["--connections", "0"],
        ["--connections", "many"],
        ["--connections", "1001"],
        ["--suite", "nothing"],
        ["--seconds", "0"],
        ["--kills", "3"],
        ["--suite", "memory", "--profile"],
        ["--transactions", "10"],
        ["--past", "10"],
        ["--suite", "growth", "--past", "10", "--accounts", "11"],
        ["--suite", "failover", "--rounds", "2"],
        ["--suite", "failover", "--accounts", "2"],
        ["--suite", "failover", "--past", "10", "--accounts", "11"],
        ["--suite", "growth", "--records", "10"],
    ],
)
def test_what_makes_no_sense_is_a_usage_error(arguments: list[str]) -> None:
    assert CliRunner().invoke(ftwallet_run, ["bench", *arguments]).exit_code == 2


def overloaded(during: Errors, probes: list[Probe], after: Errors | None = None) -> overload.Line:
    usual, crowd = Figures.of([deposits(5_000)]), Figures.of([deposits(9_000, errors=during)])
    later = Figures.of([deposits(4_500, errors=after)])
    return overload.Line(
        1_000, usual, crowd, later, 1_000.0, 8_000.0, probes, overload.Memory(1 << 20, 3 << 20, [2 << 20])
    )


def test_an_overload_is_measured_by_the_rate_after_it(facts: None, tmp_path: Path) -> None:
    line = overloaded(Errors(non_200=8_000), [Probe(200, 9.0, told_when=False), Probe(503, 1.0, told_when=True)])
    assert (line.ratio, line.problems) == (0.9, [])
    found = overload.report_of(plan(tmp_path), [line], REAL)
    assert found.ok
    (document,) = found.document["lines"]
    assert document["probes"]["503"] == {"count": 1, "p50_ms": 1.0, "p99_ms": 1.0, "worst_ms": 1.0}
    assert found.grids[0].rows[1][:4] == ["overload", "1000", "1,000", "8,000"]
    assert found.grids[0].rows[2][-1] == "0.90"
    assert "Memory of the primary: 1.0 MiB before, at most 3.0 MiB meanwhile, after each round 2.0 MiB" in found.lines


def test_what_an_overload_must_not_do_is_said_and_not_ok(facts: None, tmp_path: Path) -> None:
    probes = [Probe(503, 1.0, told_when=False), Probe(BROKEN, 9_000.0, told_when=False)]
    line = overloaded(Errors(non_200=5, timeout=2), probes, after=Errors(non_200=1))
    found = overload.report_of(plan(tmp_path), [line], REAL)
    assert not found.ok
    assert found.document["problems"] == [
        "With 1000 connections 3 connections broke or requests timed out",
        "With 1000 connections 1 of the timed 503s had no Retry-After",
        "With 1000 connections 1 requests of the usual load were refused",
    ]
