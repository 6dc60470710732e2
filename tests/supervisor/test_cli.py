"""The command line as far as it goes without a running wallet: usage, exit codes, one line on stderr."""

from __future__ import annotations

import errno
import importlib
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest
from click.testing import CliRunner, Result

from ftwallet.cli.commands import COMMANDS, ftwallet_run
from ftwallet.cli.detach import stop_line
from ftwallet.cli.kill import story_lines
from ftwallet.cli.options import SignalType
from ftwallet.cli.tail import Growing, merged
from ftwallet.config import load
from ftwallet.witness.bootstrap import ensure_cluster
from tests.supervisor.conftest import free_port

NEEDS_A_SUPERVISOR = (
    ["status"],
    ["kill", "primary"],
    ["pause", "backup"],
    ["resume", "a"],
    ["restart", "b"],
    ["stop"],
    ["export"],
)
BUILT_HERE = [name for name, entry in COMMANDS.items() if entry.place.startswith("ftwallet.cli.")]


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(ftwallet_run, [str(argument) for argument in arguments])


@pytest.mark.parametrize("command", NEEDS_A_SUPERVISOR, ids=lambda command: command[0])
def test_without_a_supervisor_the_exit_code_is_4_and_the_sentence_says_how_to_start_it(
    command: list[str], tmp_path: Path
) -> None:
    result = run(*command, "--data-dir", tmp_path / "d")
    assert result.exit_code == 4
    assert result.stdout == ""
    assert result.stderr == (
        f"Error: no supervisor answers for the data directory {tmp_path / 'd'}: start it with `ftwallet-run up -d`, "
        "or name another directory with --data-dir\n"
    )
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-command"],
        ["status", "--no-such-option"],
        ["kill"],
        ["kill", "witness"],
        ["kill", "primary", "--at", "lunch"],
        ["kill", "primary", "--after", "0"],
        ["kill", "primary", "--timeout", "0"],
        ["kill", "primary", "--signal", "SIGNOTHING"],
        ["kill", "primary", "--probe"],
        ["kill", "primary", "--at", "pending", "--probe", "--no-wait"],
        ["pause", "everybody"],
        ["node", "witness"],
        ["import"],
        ["up", "--timeout", "-1"],
    ],
    ids=" ".join,
)
def test_usage_errors_are_2(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert result.stderr.endswith("--help`\n")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("name", BUILT_HERE)
def test_every_command_has_help_and_takes_config_and_data_dir(name: str) -> None:
    result = run(name, "--help")
    assert result.exit_code == 0
    assert "--config" in result.output
    assert "--data-dir" in result.output


@pytest.mark.parametrize("name", BUILT_HERE)
def test_the_table_of_commands_points_at_commands(name: str) -> None:
    module, _, attribute = COMMANDS[name].place.partition(":")
    assert getattr(importlib.import_module(module), attribute).name == name


def test_help_is_quick_because_it_imports_no_command() -> None:
    program = (
        "import sys; from ftwallet.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'grpc', 'fastapi', 'pydantic', 'psutil'} & set(sys.modules)))"
    )
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert output.splitlines()[-1] == "[]"
    assert "verify" in output


def test_a_bad_setting_is_one_line_and_changes_nothing(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("http_prot = 1\n")
    result = run("up", "--config", config)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {config}: unknown key 'http_prot'")
    assert result.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == [config]


def test_I2_a_damaged_identity_is_refused_with_exit_code_1(tmp_path: Path) -> None:
    ensure_cluster(tmp_path / "d")
    (tmp_path / "d" / "a" / "identity.json").write_text("{}")
    environment = {f"FTWALLET_{key}_PORT": str(free_port()) for key in ("HTTP", "PRIMARY_GRPC", "BACKUP_GRPC")}
    result = CliRunner(env=environment).invoke(ftwallet_run, ["up", "--data-dir", str(tmp_path / "d")])
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "identity.json is damaged" in result.stderr


@pytest.mark.parametrize("command", ["logs", "events", "verify"])
def test_what_reads_files_says_when_there_are_none(command: str, tmp_path: Path) -> None:
    result = run(command, "--data-dir", tmp_path / "d")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert "ftwallet-run up" in result.stderr


@pytest.mark.parametrize("command", ["logs", "events", "verify"])
def test_a_directory_that_may_not_be_read_is_one_line(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **options: object) -> NoReturn:
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "d"))  # root may read everything

    monkeypatch.setattr(Path, "exists", refuse)
    monkeypatch.setattr(Path, "is_dir", refuse)
    result = run(command, "--data-dir", tmp_path / "d")
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "Permission denied; run this as the user to whom the data directory belongs" in result.stderr


def test_a_node_by_hand_makes_nothing_where_its_socket_cannot_be(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 120)
    result = run("node", "backup", "--data-dir", deep)
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "choose a data directory with a shorter path" in result.stderr
    assert not deep.exists()


def test_up_in_the_background_says_how_this_wallet_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert stop_line(load()) == "ftwallet-run stop"
    assert stop_line(load(None, tmp_path / "my wallet")) == f"ftwallet-run stop --data-dir '{tmp_path / 'my wallet'}'"


def test_events_and_logs_are_read_without_a_supervisor(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    event = {"at": "2026-01-01T00:00:00.000Z", "kind": "solo", "node": "a", "sentence": "It is solo", "details": {}}
    (tmp_path / "events.jsonl").write_text(json.dumps(event) + "\n" + '{"torn')
    (tmp_path / "logs" / "a.log").write_text("2026-01-01T00:00:02Z later\n")
    (tmp_path / "logs" / "b.log").write_text("2026-01-01T00:00:01Z earlier\n  its second line\n")
    assert run("events", "--data-dir", tmp_path).stdout == "2026-01-01T00:00:00.000Z  It is solo\n"
    assert json.loads(run("events", "--json", "--data-dir", tmp_path).stdout) == {"schema": 1, **event}
    lines = run("logs", "--data-dir", tmp_path).stdout.splitlines()
    assert [line.split(" | ")[1] for line in lines] == [
        "2026-01-01T00:00:01Z earlier",
        "  its second line",
        "2026-01-01T00:00:02Z later",
    ]
    assert run("logs", "b", "-n", "1", "--json", "--data-dir", tmp_path).stdout == (
        '{"schema": 1, "role": "node b", "line": "  its second line"}\n'
    )


def test_a_growing_file_gives_whole_lines_once(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    growing = Growing(path, 0)
    assert growing.new_lines() == []
    path.write_bytes(b"one\ntw")
    assert growing.new_lines() == ["one"]
    with path.open("ab") as file:
        file.write(b"o\n\xff\n")
    assert growing.new_lines() == ["two", "\ufffd"]


def test_lines_are_merged_by_time() -> None:
    lines = {"a": ["2026-01-01T00:00:03Z x", "no time"], "b": ["2026-01-01 00:00:02,5 y"]}
    assert [line for _, line in merged(lines)] == ["2026-01-01 00:00:02,5 y", "2026-01-01T00:00:03Z x", "no time"]


@pytest.mark.parametrize("text", ["SIGTERM", "term", "15", 15])
def test_a_signal_by_name_or_number(text: str | int) -> None:
    assert SignalType().convert(text, None, None) == signal.SIGTERM


def test_the_end_of_a_story_in_sentences() -> None:
    lsns = {"a": {"durable_lsn": 1, "commit_lsn": 0}, "b": {"durable_lsn": 0, "commit_lsn": 0}}
    story = {
        "node": "a",
        "role": "primary",
        "restart_s": 0.5,
        "gap_s": 0.6,
        "before": lsns,
        "after": lsns,
        "transaction_id": "t",
        "after_recovery": "ROLLED_BACK",
        "transaction": {"a": {"status": "COMMITTED"}, "b": {"status": "COMMITTED"}},
        "digests": {"lsn": 2, "equal": True},
        "probe": {"status": 200, "body": {"message": "Deposited 0.01"}, "tries": 2, "waited_s": 0.7},
        "mode": "paired",
    }
    assert story_lines(story) == [
        "Node a took 0.50 s from its death until it was up again",
        "Clients were without a primary for 0.60 s",
        "Node a: durable lsn 1 when last heard before, 1 after; commit lsn 0 and 0",
        "Node b: durable lsn 0 when last heard before, 0 after; commit lsn 0 and 0",
        "Transaction t: ROLLED_BACK after recovery; now COMMITTED, as a retry with the same id has executed it once",
        "Both nodes have the same digest at lsn 2",
        "The probe waited 0.70 s and needed 2 tries with one id: 200 Deposited 0.01",
        "The pair is paired",
    ]
