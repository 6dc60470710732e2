"""A cluster is made once, by whoever comes first, and its parts are checked before every later start."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ftwallet import platform
from ftwallet.errors import DiskFault, Refused
from ftwallet.journal.identity import Identity
from ftwallet.replication.register import Proposal, ProposalKind, Register
from ftwallet.witness.bootstrap import ensure_cluster
from ftwallet.witness.file import FileWitness

MAKING_PROCESS = """
import sys
from pathlib import Path
from ftwallet.witness.bootstrap import ensure_cluster
print(ensure_cluster(Path(sys.argv[1])))
"""


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


def contents(data_dir: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in data_dir.rglob("*") if path.is_file() and path.name != "cluster.lock"}


def lived(data_dir: Path, solo: bool = False) -> Register:
    """Make a cluster whose primary has started, and has gone solo."""
    register = ensure_cluster(data_dir)
    witness = FileWitness(data_dir / "cluster.json")
    register = witness.propose(Proposal(ProposalKind.START, "a", register.in_sync["a"], 0)).register
    if solo:
        register = witness.propose(Proposal(ProposalKind.SHRINK, "a", register.in_sync["a"], 1)).register
    Identity.load(data_dir / "a").record_epoch(register.epoch)
    return register


def refused_unchanged(data_dir: Path, words: str) -> None:
    before = contents(data_dir)
    with pytest.raises(Refused, match=words):
        ensure_cluster(data_dir)
    assert contents(data_dir) == before


def test_an_empty_directory_becomes_a_cluster_with_both_in_sync(data_dir: Path) -> None:
    register = ensure_cluster(data_dir)
    identities = {node: Identity.load(data_dir / node) for node in ("a", "b")}
    assert (register.epoch, register.primary, register.boots) == (0, "a", {})
    assert register.in_sync == {node: identity.incarnation for node, identity in identities.items()}
    assert {identity.cluster_id for identity in identities.values()} == {register.cluster_id}
    assert ensure_cluster(data_dir) == register


def test_two_processes_that_race_make_one_cluster(data_dir: Path) -> None:
    command = [sys.executable, "-c", MAKING_PROCESS, str(data_dir)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert len({process.communicate()[0] for process in processes}) == 1
    assert [process.returncode for process in processes] == [0, 0, 0]


@pytest.mark.parametrize("crash_at_file", range(3))
def test_c9_a_crash_in_the_first_making_is_finished_by_the_next_start(
    data_dir: Path, crash_at_file: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = platform.write_atomically
    written: list[str] = []

    def crash(path: Path, data: bytes) -> None:
        if len(written) == crash_at_file:
            raise OSError(28, "No space left on device")
        written.append(path.name)
        real(path, data)

    with monkeypatch.context() as patched:
        patched.setattr(platform, "write_atomically", crash)
        with pytest.raises(DiskFault, match="No space left on device"):
            ensure_cluster(data_dir)
    register = ensure_cluster(data_dir)
    assert register.in_sync == {node: Identity.load(data_dir / node).incarnation for node in ("a", "b")}


def test_d8_a_record_missing_beside_nodes_that_have_lived_is_not_made_anew(data_dir: Path) -> None:
    lived(data_dir)
    (data_dir / "cluster.json").unlink()
    refused_unchanged(data_dir, r"cluster\.json is missing; .*Put the newest copy")


def test_d8_a_record_missing_beside_a_journal_is_not_made_anew(data_dir: Path) -> None:
    segment = data_dir / "b" / "journal" / "00000000000000000001.journal"
    segment.parent.mkdir(parents=True)
    segment.write_bytes(b"records")
    refused_unchanged(data_dir, r"cluster\.json is missing")


def test_d8_a_record_older_than_a_node_is_refused(data_dir: Path) -> None:
    ensure_cluster(data_dir)
    old = (data_dir / "cluster.json").read_bytes()
    lived(data_dir, solo=True)
    (data_dir / "cluster.json").write_bytes(old)
    refused_unchanged(data_dir, "stands at epoch 0, but node a has seen epoch 2: it is an old copy")


def test_i1_an_emptied_directory_comes_back_as_another_node(data_dir: Path) -> None:
    register = lived(data_dir)
    shutil.rmtree(data_dir / "b")
    assert ensure_cluster(data_dir) == register
    assert Identity.load(data_dir / "b").incarnation != register.in_sync["b"]
    assert Identity.load(data_dir / "b").cluster_id == register.cluster_id


def test_i1_without_the_only_node_in_sync_nobody_may_lead(data_dir: Path) -> None:
    lived(data_dir, solo=True)
    shutil.rmtree(data_dir / "a")
    refused_unchanged(data_dir, "data/a alone, which is not there any more as it was: put that directory back")


def test_i1_a_journal_without_its_identity_is_refused(data_dir: Path) -> None:
    lived(data_dir)
    (data_dir / "b" / "journal").mkdir()
    (data_dir / "b" / "journal" / "00000000000000000001.journal").write_bytes(b"records")
    (data_dir / "b" / "identity.json").unlink()
    refused_unchanged(data_dir, r"holds a journal and no identity\.json")


def test_i2_a_node_of_another_cluster_is_refused_with_both_ids(data_dir: Path, tmp_path: Path) -> None:
    ours, theirs = ensure_cluster(data_dir), ensure_cluster(tmp_path / "other")
    shutil.rmtree(data_dir / "b")
    shutil.copytree(tmp_path / "other" / "b", data_dir / "b")
    refused_unchanged(data_dir, f"belongs to cluster {theirs.cluster_id}, .* to cluster {ours.cluster_id}")


def test_i2_two_nodes_with_one_name_are_refused(data_dir: Path) -> None:
    ensure_cluster(data_dir)
    shutil.rmtree(data_dir / "b")
    shutil.copytree(data_dir / "a", data_dir / "b")
    refused_unchanged(data_dir, "data/b is the directory of node a, not of node b")


def test_i2_a_node_of_a_newer_program_is_refused(data_dir: Path) -> None:
    ensure_cluster(data_dir)
    identity = data_dir / "b" / "identity.json"
    identity.write_text(identity.read_text().replace('"format_version": 1', '"format_version": 2'))
    refused_unchanged(data_dir, "has format version 2, this program knows up to 1")


def test_a_data_directory_that_is_a_file_is_refused(data_dir: Path) -> None:
    data_dir.write_text("a file")
    with pytest.raises(Refused, match="cannot be used as data directory"):
        ensure_cluster(data_dir)
