"""The register on disk: durable before it is granted, one decision at a time, refused rather than guessed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ftwallet import platform
from ftwallet.errors import DiskFault, Refused
from ftwallet.replication.register import Decision, Proposal, ProposalKind, Register
from ftwallet.witness.file import FileWitness

IN_SYNC = {"a": "aa", "b": "bb"}
START = Proposal(ProposalKind.START, "a", "aa", 0, boot=1)
BOOTING_PROCESS = """
import os
import sys
from pathlib import Path
from ftwallet.replication.register import Proposal, ProposalKind
from ftwallet.witness.file import FileWitness
witness = FileWitness(Path(sys.argv[1]))
for number in range(10):
    witness.propose(Proposal(ProposalKind.BOOT, f"node {number} of {os.getpid()}", "bb", 0, boot=1))
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cluster.json"


@pytest.fixture
def witness(path: Path) -> FileWitness:
    witness = FileWitness(path)
    witness.create("c1", IN_SYNC)
    return witness


def test_a_new_record_reads_back_and_is_readable(witness: FileWitness, path: Path) -> None:
    assert witness.read() == Register("c1", 0, "a", IN_SYNC, {})
    record = json.loads(path.read_text())
    assert (record["format_version"], record["cluster_id"], record["in_sync"]) == (1, "c1", IN_SYNC)


def test_a_record_is_never_created_over_another(witness: FileWitness) -> None:
    with pytest.raises(Refused, match="is there already"):
        witness.create("c2", IN_SYNC)
    assert witness.read().cluster_id == "c1"


def test_what_is_granted_is_there_for_the_next_process(witness: FileWitness, path: Path) -> None:
    assert witness.propose(START).granted
    shrunk = witness.propose(Proposal(ProposalKind.SHRINK, "a", "aa", 1))
    assert shrunk.granted
    assert FileWitness(path).read() == shrunk.register == Register("c1", 2, "a", {"a": "aa"}, {"a": 1})


def test_what_is_refused_changes_nothing(witness: FileWitness, path: Path) -> None:
    before = path.read_bytes()
    decision = witness.propose(START._replace(expected_epoch=7))
    assert not decision.granted
    assert "epoch 0, not 7" in decision.reason
    assert path.read_bytes() == before


def test_of_two_proposals_at_one_epoch_one_wins(witness: FileWitness) -> None:
    with ThreadPoolExecutor(8) as threads:
        decisions: list[Decision] = list(threads.map(witness.propose, [START] * 8))
    assert [decision.granted for decision in decisions].count(True) == 1
    assert witness.read().epoch == 1


def test_no_decision_of_several_processes_is_lost(witness: FileWitness, path: Path) -> None:
    commands = [sys.executable, "-c", BOOTING_PROCESS, str(path)]
    processes = [subprocess.Popen(commands) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert len(witness.read().boots) == 30


@pytest.mark.parametrize(("step", "renamed"), [("fdatasync", False), ("rename", False), ("fsync_directory", True)])
def test_d8_a_crash_while_writing_leaves_the_old_record_or_the_new_one_and_grants_nothing(
    witness: FileWitness, monkeypatch: pytest.MonkeyPatch, step: str, renamed: bool
) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(platform, step, fail)
        with pytest.raises(DiskFault, match=r"cluster\.json could not be written: Input/output error"):
            witness.propose(START)
    assert witness.read().epoch == (1 if renamed else 0)


def test_the_record_is_synced_before_its_rename_and_the_directory_after(
    witness: FileWitness, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []

    def noted(name: str, real: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: object) -> None:
            steps.append(name)
            real(*arguments)

        return call

    for name in ("fdatasync", "rename", "fsync_directory"):
        monkeypatch.setattr(platform, name, noted(name, getattr(platform, name)))
    witness.propose(START)
    assert steps == ["fdatasync", "rename", "fsync_directory"]


def test_d8_a_record_whose_write_failed_is_durable_before_anybody_is_told_of_it(
    witness: FileWitness, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[bytes] = []

    def fail_once(directory: Path) -> None:
        monkeypatch.setattr(platform, "fsync_directory", lambda _: synced.append(path.read_bytes()))
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(platform, "fsync_directory", fail_once)
    with pytest.raises(DiskFault):
        witness.propose(START)
    assert witness.read().epoch == 1, "the new record can be read, and would be gone after a loss of power"
    decision = witness.propose(START)
    assert not decision.granted
    assert decision.register.epoch == 1
    assert synced == [path.read_bytes()]


def test_d8_a_lost_record_is_refused_with_what_to_do(witness: FileWitness, path: Path) -> None:
    path.unlink()
    with pytest.raises(Refused, match=r"cluster\.json is missing; .* Put the newest copy") as caught:
        witness.propose(START)
    assert f"ftwallet-run verify --data-dir {path.parent}" in str(caught.value)
    assert not path.exists()


def test_a_lost_data_directory_grants_nothing(tmp_path: Path) -> None:
    witness = FileWitness(tmp_path / "gone" / "cluster.json")
    with pytest.raises(Refused, match="is missing"):
        witness.read()
    with pytest.raises(DiskFault, match=r"cluster\.lock could not be opened: No such file"):
        witness.propose(START)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: b"",
        lambda text: text[: len(text) // 2],
        lambda text: text.replace(b'"epoch": 0', b'"epoch": "none"'),
        lambda text: text.replace(b'"epoch": 0', b'"epoch": -1'),
        lambda text: text.replace(b'"primary": "a"', b'"primary": "c"'),
        lambda text: b"\xff" * len(text),
        lambda text: b"\0" * len(text),
    ],
)
def test_d8_a_damaged_record_is_refused_and_left_as_it_is(
    witness: FileWitness, path: Path, damage: Callable[[bytes], bytes]
) -> None:
    path.write_bytes(damage(path.read_bytes()))
    before = path.read_bytes()
    with pytest.raises(Refused, match=r"cluster\.json is damaged: .*Put the newest copy"):
        witness.propose(START)
    assert path.read_bytes() == before


def test_i2_a_record_of_a_newer_program_is_refused_with_both_versions(witness: FileWitness, path: Path) -> None:
    path.write_text(path.read_text().replace('"format_version": 1', '"format_version": 9'))
    with pytest.raises(Refused, match="format version 9, this program knows up to 1"):
        witness.read()
