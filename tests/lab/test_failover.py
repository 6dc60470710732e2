"""What a failover looked like to clients, computed from made-up attempts, and one short run over real processes."""

from __future__ import annotations

import json
from pathlib import Path

import psutil

from ftwallet.config import Config
from ftwallet.lab import failover
from ftwallet.lab.attempts import ANSWERED, REFUSED, Attempt, Attempts, Kill, parse
from ftwallet.lab.failover import Line, p95
from ftwallet.lab.kept import Kept
from ftwallet.lab.pair import temporary_directory
from ftwallet.lab.plan import Plan
from tests.lab.test_bench import place as place

KILL = Kill("a", 10.0, 10.001, 11.5)


def answer(began_s: float, ended_s: float, number: int = 1) -> Attempt:
    return Attempt(began_s, ended_s, 0, number, ANSWERED)


def test_an_answer_of_the_dead_that_arrives_late_is_not_the_first() -> None:
    attempts = Attempts([answer(9.99, 10.002), answer(10.01, 10.05), answer(10.06, 12.5)])
    seen = attempts.seen(KILL, 20.0)
    assert seen.first_ms is not None
    assert round(seen.first_ms, 3) == 50


def test_everybody_is_served_again_when_the_last_connection_is() -> None:
    others = [Attempt(10.01, 10.05, 1, 1, ANSWERED), Attempt(9.9, 10.4, 2, 1, ANSWERED)]
    attempts = [answer(10.01, 10.03), answer(10.03, 10.5), *others]
    assert Attempts(attempts).seen(KILL, 20.0).all_ms is None
    seen = Attempts([*attempts, Attempt(10.5, 10.6, 2, 2, ANSWERED)]).seen(KILL, 20.0)
    assert seen.all_ms is not None
    assert round(seen.all_ms, 3) == 600


def test_a_silence_that_begins_while_it_is_watched_counts_to_its_end() -> None:
    attempts = Attempts([answer(10.01, 10.1), answer(10.1, 10.2), answer(10.2, 11.9), answer(11.9, 13.9)])
    silence_ms = attempts.seen(KILL, 20.0).silence_ms
    assert silence_ms is not None
    assert round(silence_ms, 3) == 2000


def test_no_answer_at_all_is_no_figure_and_not_met() -> None:
    seen = Attempts([answer(9.0, 9.1), Attempt(10.1, 10.2, 0, 2, "503")]).seen(KILL, 20.0)
    assert (seen.first_ms, seen.all_ms, seen.silence_ms, seen.errors) == (None, None, None, {"503": 1})
    assert not failover._all([seen.first_ms, 1.0], 200.0)
    assert Line("x", [None], "ms", "0", met=False).cells() == ["x", "", "", "", "0", "NOT MET"]


def test_the_usual_answer_is_the_median_of_those_that_came() -> None:
    attempts = Attempts([answer(1.0, 1.002), answer(2.0, 2.004), answer(3.0, 3.1), Attempt(4.0, 9.0, 0, 9, "503")])
    assert round(attempts.usual_ms, 3) == 4
    assert Attempts([]).usual_ms == 0


def test_errors_belong_to_the_kill_before_them() -> None:
    attempts = Attempts(Attempt(at, at, 0, 1, REFUSED) for at in (9.9, 10.5, 14.0))
    assert attempts.seen(KILL, 13.0).errors == {REFUSED: 1}
    assert attempts.errors == {REFUSED: 3}


def test_what_is_written_is_read_but_for_a_line_cut_short() -> None:
    attempts = [answer(1.0, 2.0), Attempt(2.0, 3.5, 7, 9, "reset")]
    lines = [attempt.line() for attempt in attempts]
    assert parse(lines) == attempts
    assert parse([*lines, "1.0 2.0 3 4 20"]) == attempts


def test_the_95th_percentile_is_the_nearest_rank() -> None:
    assert p95([float(one) for one in range(100, 0, -1)]) == 95.0
    assert p95([7.0]) == 7.0


def test_what_is_lost_or_doubled_is_said_and_not_ok() -> None:
    assert Kept(5, 0, 0, []).ok
    for kept in (Kept(5, 1, 0, []), Kept(5, 0, 1, []), Kept(5, 0, 0, ["the money does not add up"])):
        assert not kept.ok
        assert kept.sentence().startswith("NOT VERIFIED: ")
        assert not kept.document()["ok"]


def test_O2_two_kills_under_load_lose_nothing_double_nothing_and_refuse_nobody(place: Path) -> None:
    with temporary_directory(place) as directory:
        found = failover.measure(Plan("", directory, Config(), kills=2, hung=0))
    assert found.ok, found.lines
    document = json.loads(json.dumps(found.document))
    assert [kill["node"] for kill in document["kills"]] == ["a", "b"]
    assert document["refused"] == 0
    assert document["hung"] == []
    assert document["verified"]["answered"] > 100
    assert (document["verified"]["lost"], document["verified"]["doubled"]) == (0, 0)
    for kill in document["kills"]:
        assert 0 < kill["first_200_ms"] <= kill["every_connection_ms"]
        assert kill["silence_ms"] > 0
        assert kill["paired_s"] > 0
    assert [line["measure"] for line in document["measures"]] == [
        "kill to the first 200",
        "kill to an answer on every connection",
        "longest silence after it",
        "kill to paired",
    ]
    assert not list(place.iterdir())
    assert [child for child in psutil.Process().children() if "ftwallet" in " ".join(child.cmdline())] == []


def test_O2_a_kill_with_a_past_loses_nothing_of_what_is_new(place: Path) -> None:
    with temporary_directory(place) as directory:
        found = failover.measure(Plan("", directory, Config(), kills=1, hung=0, past=20_003, accounts=5_000))
    assert found.ok, found.lines
    verified = found.document["verified"]
    assert 100 < verified["answered"] < 20_003
    assert found.document["ratio"] > 0
    assert found.document["measures"][0]["asked"] == "median ≤ 200 ms, worst ≤ 200 ms"
