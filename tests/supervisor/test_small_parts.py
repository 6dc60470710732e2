"""The pure and small parts: roles, pulse, service, history, what a dead node left behind."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ftwallet.errors import Refused
from ftwallet.replication.register import Proposal, ProposalKind
from ftwallet.rpc.channels import bind, new_server
from ftwallet.rpc.sockets import address, check_socket_paths
from ftwallet.supervisor import obituary
from ftwallet.supervisor.events import Event, EventLog, encode, read_events, rfc3339
from ftwallet.supervisor.heartbeat import Pulse
from ftwallet.supervisor.roles import partner, resolve, role_of
from ftwallet.supervisor.sentences import cut_short_sentence, refused_sentence
from ftwallet.supervisor.service import Resumed, Service
from ftwallet.supervisor.story import after_recovery
from ftwallet.supervisor.traces import journal_mentions


def test_a_role_is_resolved_when_it_is_used() -> None:
    assert [resolve(role, "a") for role in ("primary", "backup", "a", "b")] == ["a", "b", "a", "b"]
    assert [resolve(role, "b") for role in ("primary", "backup", "a", "b")] == ["b", "a", "a", "b"]
    assert (role_of("a", "b"), partner("a"), partner("b")) == ("backup", "b", "a")
    with pytest.raises(Refused, match="'witness' is neither a role nor a node"):
        resolve("witness", "a")


def test_a_silent_node_is_hung_after_the_limit() -> None:
    pulse = Pulse(1.0, now=10.0)
    assert [pulse.hung(10.0 + tenths / 10) for tenths in range(1, 12)] == [False] * 10 + [True]


def test_an_answer_makes_it_alive_again() -> None:
    pulse = Pulse(1.0, now=0.0)
    pulse.answered(0.8)
    assert not any(pulse.hung(tenths / 10) for tenths in range(1, 18))
    assert pulse.hung(1.9)


def test_G3_a_watcher_that_slept_calls_nobody_hung() -> None:
    pulse = Pulse(1.0, now=0.0)
    assert not pulse.hung(0.1)
    assert not pulse.hung(60.0)
    assert not any(pulse.hung(60.0 + tenths / 10) for tenths in range(1, 10))
    assert pulse.hung(61.1)


def test_service_measures_the_gap() -> None:
    service = Service(now=0.0)
    assert service.observe(False, 1.0) is None
    assert service.observe(True, 2.0) == Resumed(2.0, first=True)
    assert service.observe(True, 3.0) is None
    assert service.observe(False, 5.0) is None
    assert service.noticed_s(5.5) == 0.5
    assert service.observe(True, 6.0) == Resumed(1.0, first=False)
    assert service.outages == 1


def test_service_counts_a_hang_from_the_last_answer() -> None:
    service = Service(now=0.0)
    service.observe(True, 1.0)
    service.observe(False, 5.0, silent_s=1.1)
    assert service.noticed_s(5.25) == 0.25
    resumed = service.observe(True, 6.0)
    assert resumed is not None
    assert resumed.gap_s == pytest.approx(2.1)


def test_events_are_durable_lines_in_order(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl", tmp_path / "supervisor.log")
    for number in range(50):
        log.record("test", f"event {number} of ä", "a", number=number)
    log.close()
    events = list(read_events(tmp_path / "events.jsonl"))
    assert [event.details["number"] for event in events] == list(range(50))
    assert sorted(event.at for event in events) == [event.at for event in events]
    first = json.loads((tmp_path / "events.jsonl").read_text().splitlines()[0])
    assert list(first) == ["schema", "at", "kind", "node", "sentence", "details"]
    assert "[info] event 49 of ä" in (tmp_path / "supervisor.log").read_text()


def test_a_torn_last_line_is_left_out_and_cut_off_by_the_next_start(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    log = EventLog(path, tmp_path / "log")
    log.record("one", "first")
    log.close()
    with path.open("ab") as file:
        file.write(b'{"schema": 1, "at": "2026')
    assert [event.kind for event in read_events(path)] == ["one"]
    log = EventLog(path, tmp_path / "log")
    log.record("two", "second")
    log.close()
    assert [event.kind for event in read_events(path)] == ["one", "two"]


def test_a_damaged_line_is_told_and_hides_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"nonsense\n" + b'{"at":"t","kind":"k","node":null,"sentence":"s","details":{}}\n')
    assert [event.kind for event in read_events(path)] == ["unreadable", "k"]


def test_T1_a_clock_set_back_while_no_supervisor_ran_does_not_turn_the_history_round(tmp_path: Path) -> None:
    path, tomorrow = tmp_path / "events.jsonl", rfc3339(datetime.now(UTC) + timedelta(days=1))
    damaged = [encode(Event(at, "damaged", None, "a sentence", {})) for at in ("", "no time", "2999-01-01T00:00:00")]
    path.write_bytes(encode(Event(tomorrow, "before", None, "a sentence", {})) + b"".join(damaged) + b"no event\n")
    log = EventLog(path, tmp_path / "log")
    log.record("after", "a sentence")
    log.close()
    assert [event.at for event in read_events(path) if event.kind in ("before", "after")] == [tomorrow, tomorrow]


def test_a_history_that_is_missing_is_empty(tmp_path: Path) -> None:
    assert list(read_events(tmp_path / "events.jsonl")) == []


def test_what_a_dead_node_left_is_not_taken_for_its_successors(tmp_path: Path) -> None:
    (tmp_path / "exit.json").write_text('{"code": 71, "sentence": "bad byte"}')
    (tmp_path / "crash.json").write_text('{"stage": "pen')
    assert obituary.last_sentence(tmp_path) == "bad byte"
    assert obituary.armed_crash(tmp_path) is None
    obituary.forget(tmp_path)
    assert obituary.last_sentence(tmp_path) == ""


def test_the_last_line_of_the_log_speaks_for_a_node_that_left_no_sentence(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("Traceback:\n  somewhere\nValueError: no such thing\n\n")
    assert obituary.last_line(log, 1) == "ValueError: no such thing"
    assert obituary.last_line(log, -9) == ""
    assert obituary.last_line(tmp_path / "none.log", 1) == ""


def test_a_journal_is_searched_without_being_opened(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    journal.mkdir()
    (journal / "00000000000000000001.journal").write_bytes(b"\0" * 5_000 + b"txn-1" + b"\0" * 100)
    (journal / "00000000000000000009.journal").touch()
    assert journal_mentions(tmp_path, "txn-1")
    assert not journal_mentions(tmp_path, "txn-2")
    assert not journal_mentions(tmp_path, "")


@pytest.mark.parametrize(
    ("fate", "held", "made"),
    [
        (None, {"a": True, "b": False}, "UNKNOWN"),
        ({"status": "ROLLED_BACK", "epoch": 6}, {"a": True, "b": False}, "ROLLED_BACK"),
        ({"status": "COMMITTED", "epoch": 5}, {"a": True, "b": True}, "COMMITTED"),
        ({"status": "COMMITTED", "epoch": 6}, {"a": True, "b": False}, "ROLLED_BACK"),
        ({"status": "COMMITTED", "epoch": 6}, {"a": False, "b": False}, "UNKNOWN"),
    ],
)
def test_what_recovery_did_is_told_even_when_a_retry_came_first(
    fate: dict[str, object] | None, held: dict[str, bool], made: str
) -> None:
    assert after_recovery(fate, held, epoch=5) == made


def test_who_was_cut_short_in_words() -> None:
    assert cut_short_sentence(["node a"]) == "node a was still stopping and had to be killed"
    assert cut_short_sentence(["node a", "node b"]) == "node a and node b were still stopping and had to be killed"
    assert cut_short_sentence([]) == "both nodes had ended"


def test_a_data_directory_too_deep_for_a_unix_socket_is_one_sentence() -> None:
    check_socket_paths(Path("/tmp/short"))
    with pytest.raises(Refused, match=r"has 125 bytes, and a unix socket's may have 107: choose"):
        check_socket_paths(Path("/" + "x" * 108))


@pytest.mark.parametrize(
    ("directory", "sentence"),
    [("x" * 108, "may have 107: use a shorter data_dir"), ("missing", "see that .*missing is a directory")],
)
async def test_a_socket_that_cannot_be_listened_on_says_why(tmp_path: Path, directory: str, sentence: str) -> None:
    with pytest.raises(Refused, match=sentence):
        bind(new_server(), address(tmp_path / directory / "control.sock"))


def test_a_deposed_primary_that_is_refused_is_told_beside_who_leads() -> None:
    asked = Proposal(ProposalKind.SHRINK, "a", "1a", 7)
    refused = "The witness refused node a's shrink: the register stands at epoch 8, not 7"
    assert refused_sentence(asked, "the register stands at epoch 8, not 7", "b") == f"{refused}; node b leads by now"
    assert refused_sentence(asked, "the register stands at epoch 8, not 7", "a") == refused
