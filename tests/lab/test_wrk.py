"""The load and what is read from it; wrk itself is not needed here."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from ftwallet.cli.commands import ftwallet_run
from ftwallet.errors import Refused
from ftwallet.lab.scripts import Requests, lua
from ftwallet.lab.wrk import Errors, Load, Order, find_wrk, parse, run_wrk, transaction_id

TEXT = """Running 5s test @ http://127.0.0.1:18000
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency    12.52ms    4.11ms  41.06ms   80.31%
    Req/Sec     5.04k   512.11     6.10k    70.00%
  25220 requests in 5.00s, 5.43MB read
  Non-2xx or 3xx responses: 7
Requests/sec:   5044.00
Transfer/sec:      1.09MB
"""
COUNTS = (
    'ftwallet-load {"requests":25220,"sent":25285,"fresh":20000,"seconds":5.000000,"p50_ms":12.520,"p99_ms":41.060,'
    '"non_200":7,"connect":1,"read":2,"write":3,"timeout":4}\n'
)


def test_the_counts_are_read_from_the_scripts_line() -> None:
    load = parse(TEXT + COUNTS)
    assert load == Load(25_220, 25_285, 20_000, 5.0, 12.52, 41.06, Errors(7, 1, 2, 3, 4))
    assert load.per_second == 5_044
    assert (load.done, load.undone) == (25_213, 72)
    assert (load.errors.total, load.errors.sockets) == (17, 6)


def test_a_load_without_time_has_no_rate() -> None:
    assert Load(0, 0, 0, 0.0, 0.0, 0.0, Errors()).per_second == 0.0


@pytest.mark.parametrize(("output", "said"), [("", "it said nothing"), ("a\nscript error: b\n", "script error: b")])
def test_wrk_without_its_counts_is_refused_with_its_last_words(output: str, said: str) -> None:
    with pytest.raises(Refused, match=said):
        parse(output)


@pytest.mark.parametrize("requests", Requests)
def test_the_script_holds_no_placeholders_and_its_amounts_in_decimals(requests: Requests) -> None:
    script = lua(requests)
    assert not any(word in script for word in ("DEPOSITED", "WITHDRAWN", "TRANSFERRED", "LINE"))
    own = {Requests.DEPOSITS: "1.25", Requests.TRANSFERS: "0.01", Requests.HOLDS: "0.01", Requests.MIX: "0.25"}[
        requests
    ]
    assert f'"amount":{own},' in script


def test_ids_name_run_thread_and_number() -> None:
    assert transaction_id("0123abcd", 7) == "0123abcd-1-7"


def test_without_wrk_one_sentence_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Refused, match=r"apt install wrk .*brew install wrk"):
        find_wrk()
    ended = CliRunner().invoke(ftwallet_run, ["bench", "--data-dir", str(tmp_path / "data")])
    assert (ended.exit_code, ended.stdout) == (1, "")
    assert len(ended.stderr.splitlines()) == 1
    assert "apt install wrk" in ended.stderr
    assert not list(tmp_path.iterdir())


def test_a_wrk_that_fails_is_refused_with_its_last_words(tmp_path: Path) -> None:
    broken = tmp_path / "wrk"
    broken.write_text("#!/bin/sh\necho unable to connect >&2\nexit 1\n")
    broken.chmod(0o700)
    with pytest.raises(Refused, match="wrk failed: unable to connect"):
        run_wrk(str(broken), Order(1, 1, 1))
