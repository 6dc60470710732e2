"""`verify` over journals that are written here, without any process."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ftwallet.errors import Refused
from ftwallet.journal import Journal, encode_block
from ftwallet.journal.checkpoints import CheckpointMeta, write_checkpoint
from ftwallet.journal.head import Head
from ftwallet.journal.identity import Identity
from ftwallet.ledger.ledger import Ledger
from ftwallet.ledger.operations import Kind, decode_operations, encode_operations, operation
from ftwallet.ledger.rules import Rules
from ftwallet.ledger.state import MemoryState, checkpoint_chunks
from ftwallet.node.base import StoreBase
from ftwallet.replication.register import Proposal, ProposalKind
from ftwallet.supervisor import verify as verification
from ftwallet.supervisor.verify import verify
from ftwallet.witness.bootstrap import CLUSTER_FILE, ensure_cluster
from ftwallet.witness.file import FileWitness

SEGMENT_BYTES = 1 << 20


def deposit(name: str, amount: int = 100) -> bytes:
    return encode_operations([operation(Kind.DEPOSIT, name, "user123", amount, 1_000_000)])


def append(journal: Journal, payload: bytes, commit_lsn: int) -> None:
    lsn = journal.durable_lsn + 1
    journal.append(encode_block(1, lsn, 1, min(commit_lsn, lsn - 1), journal.chain, payload))


def open_journal(data_dir: Path, node: str) -> Journal:
    identity = Identity.load(data_dir / node)
    return Journal.open(data_dir / node / "journal", identity.cluster_id, SEGMENT_BYTES, create=True)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    ensure_cluster(tmp_path)
    return tmp_path


def write(data_dir: Path, node: str, payloads: list[bytes]) -> Path:
    journal = open_journal(data_dir, node)
    for payload in payloads:
        append(journal, payload, journal.durable_lsn)
    journal.close()
    return next((data_dir / node / "journal").glob("*.journal"))


def test_equal_logs_agree(data_dir: Path) -> None:
    for node in ("a", "b"):
        write(data_dir, node, [deposit("t1"), deposit("t2"), deposit("t3")])
    report = verify(data_dir)
    assert report["ok"], report
    assert (report["records_compared"], report["accounts"], report["transactions"]) == (3, 1, 3)
    assert report["balances_add_up_to_zero"]
    first, second = report["nodes"]
    assert first["digest"] == second["digest"] != ""
    assert (first["chain"], first["running"]) == (second["chain"], False)


def test_a_tail_that_only_one_node_has_is_no_difference_before_its_commit(data_dir: Path) -> None:
    write(data_dir, "a", [deposit("t1"), deposit("t2"), deposit("t3")])
    write(data_dir, "b", [deposit("t1"), deposit("t2")])
    report = verify(data_dir)
    assert report["ok"], report
    assert (report["records_compared"], report["records_executed"]) == (2, 3)


def test_what_was_committed_must_be_on_every_node_in_sync(data_dir: Path) -> None:
    write(data_dir, "a", [deposit("t1"), deposit("t2"), deposit("t3")])
    write(data_dir, "b", [deposit("t1")])
    report = verify(data_dir)
    assert report["differences"] == ["node b is in the in-sync set and its log ends at lsn 1, but lsn 2 was committed"]


def test_another_record_at_one_lsn_is_a_difference(data_dir: Path) -> None:
    write(data_dir, "a", [deposit("t1"), deposit("t2"), deposit("t3")])
    write(data_dir, "b", [deposit("t1"), deposit("t2", 101), deposit("t3")])
    report = verify(data_dir)
    assert report["differences"] == ["the logs of both nodes differ from lsn 2 on"]
    assert report["records_compared"] == 1


def test_logs_that_part_beyond_the_commit_are_noted(data_dir: Path) -> None:
    write(data_dir, "a", [deposit("t1"), deposit("t2")])
    write(data_dir, "b", [deposit("t1"), deposit("t3")])
    report = verify(data_dir)
    assert report["ok"], report
    assert report["notes"] == ["the logs part at lsn 2, beyond the last commit, lsn 1"]


def test_D4_a_flipped_bit_is_told_with_file_and_offset_and_nothing_is_changed(data_dir: Path) -> None:
    for node in ("a", "b"):
        path = write(data_dir, node, [deposit("t1"), deposit("t2")])
    content = bytearray(path.read_bytes())
    content[len(content.rstrip(b"\0")) - 20] ^= 1
    path.write_bytes(content)
    report = verify(data_dir)
    assert not report["ok"]
    assert str(path) in report["differences"][0]
    assert "corrupt at byte" in report["differences"][0]
    assert path.read_bytes() == content


def test_a_torn_tail_is_left_as_it_is_and_is_no_difference(data_dir: Path) -> None:
    for node in ("a", "b"):
        path = write(data_dir, node, [deposit("t1"), deposit("t2")])
    content = path.read_bytes().rstrip(b"\0")  # without the space that was prepared behind the last frame
    path.write_bytes(content[:-10])
    report = verify(data_dir)
    assert report["ok"], report
    assert report["records_compared"] == 1
    assert path.read_bytes() == content[:-10]


def test_D8_a_lost_cluster_record_is_told_beside_what_each_node_holds(data_dir: Path) -> None:
    for node in ("a", "b"):
        write(data_dir, node, [deposit("t1")])
    (data_dir / "cluster.json").unlink()
    report = verify(data_dir)
    assert not report["ok"]
    assert "cluster.json is missing" in report["differences"][0]
    assert [node["durable_lsn"] for node in report["nodes"]] == [1, 1]


def test_a_cluster_that_was_never_started_agrees(data_dir: Path) -> None:
    report = verify(data_dir)
    assert report["ok"], report
    assert report["records_compared"] == 0


def test_no_cluster_at_all(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="holds no cluster"):
        verify(tmp_path / "nothing")


# ---- Logs that begin after a checkpoint


def begin_later(data_dir: Path, node: str, lsn: int) -> None:
    """Let a node with a whole log have had a state sync at `lsn`; it keeps the records after that."""
    journal = open_journal(data_dir, node)
    ledger, later = Ledger(Rules(), MemoryState()), list(journal.blocks(lsn + 1))
    for block in journal.blocks():
        if block.last_lsn <= lsn:
            ledger.apply(block.first_lsn, block.epoch, decode_operations(block.payload))
    head = Head(lsn, journal.chain_at(lsn), 1, lsn, ())
    meta = CheckpointMeta(lsn, 1, head.chain, ledger.digest, head.history)
    write_checkpoint(data_dir / node / "checkpoints", meta, checkpoint_chunks(ledger.state))
    journal.begin_after(head)
    for block in later:
        journal.append(block)
    journal.close()


def write_both(data_dir: Path) -> None:
    for node in ("a", "b"):
        write(data_dir, node, [deposit(f"t{number}") for number in range(6)])


def test_a_log_that_begins_later_is_compared_from_there(data_dir: Path) -> None:
    write_both(data_dir)
    begin_later(data_dir, "b", 2)
    report = verify(data_dir)
    assert report["ok"], report
    assert (report["records_compared"], report["blocks_compared"], report["records_executed"]) == (4, 4, 6)
    (note,) = report["notes"]
    assert note.startswith("node b's log begins with lsn 3: what was before came with a state sync or was trimmed")
    first, second = report["nodes"]
    assert first["digest"] == second["digest"] != ""


def test_where_both_begin_later_it_executes_from_the_checkpoint_of_the_longer(data_dir: Path) -> None:
    write_both(data_dir)
    begin_later(data_dir, "a", 2)
    begin_later(data_dir, "b", 4)
    report = verify(data_dir)
    assert report["ok"], report
    assert (report["records_compared"], report["records_executed"], report["transactions"]) == (2, 4, 6)
    assert any(note.startswith("executed from the checkpoint of node a at lsn 2 on") for note in report["notes"])
    assert report["executed_from_lsn"] == 3
    assert [node["first_lsn"] for node in report["nodes"]] == [3, 5]
    first, second = report["nodes"]
    assert first["digest"] == second["digest"] != ""


def test_a_log_that_only_is_its_checkpoint_agrees(data_dir: Path) -> None:
    write_both(data_dir)
    for node in ("a", "b"):
        begin_later(data_dir, node, 6)
    report = verify(data_dir)
    assert report["ok"], report
    assert [node["durable_lsn"] for node in report["nodes"]] == [6, 6]
    assert report["nodes"][0]["digest"] == report["nodes"][1]["digest"] != ""


def test_a_log_without_a_record_after_its_checkpoint_is_compared_there(data_dir: Path) -> None:
    write_both(data_dir)
    begin_later(data_dir, "b", 6)
    report = verify(data_dir)
    assert report["ok"], report
    assert (report["records_compared"], report["records_executed"]) == (0, 6)
    first, second = report["nodes"]
    assert first["digest"] == second["digest"] != ""


def test_another_past_of_a_log_without_a_record_is_found(data_dir: Path) -> None:
    write(data_dir, "a", [deposit(f"t{number}") for number in range(6)])
    write(data_dir, "b", [deposit(f"t{number}", 100 + (number == 4)) for number in range(6)])
    begin_later(data_dir, "b", 6)
    assert verify(data_dir)["differences"] == ["the logs of both nodes differ at or before lsn 6"]


def test_a_difference_after_the_checkpoint_is_found(data_dir: Path) -> None:
    write(data_dir, "a", [deposit(f"t{number}") for number in range(6)])
    write(data_dir, "b", [deposit(f"t{number}", 100 + (number == 4)) for number in range(6)])
    begin_later(data_dir, "b", 2)
    assert verify(data_dir)["differences"] == ["the logs of both nodes differ from lsn 5 on"]


def test_another_past_before_the_checkpoint_is_found_by_the_chain(data_dir: Path) -> None:
    write(data_dir, "a", [deposit(f"t{number}") for number in range(6)])
    write(data_dir, "b", [deposit(f"t{number}", 100 + (number == 0)) for number in range(6)])
    begin_later(data_dir, "b", 2)
    assert verify(data_dir)["differences"] == ["the logs of both nodes differ from lsn 3 on"]


def _damage_checkpoint(data_dir: Path, node: str) -> None:
    (checkpoint,) = (data_dir / node / "checkpoints").glob("*.checkpoint")
    checkpoint.write_bytes(checkpoint.read_bytes()[:-1])


def test_D7_one_sound_checkpoint_of_two_is_enough(data_dir: Path) -> None:
    write_both(data_dir)
    for node in ("a", "b"):
        begin_later(data_dir, node, 3)
    _damage_checkpoint(data_dir, "a")
    report = verify(data_dir)
    assert report["ok"], report
    assert any(note.startswith("executed from the checkpoint of node b at lsn 3 on") for note in report["notes"])


def test_D7_a_store_is_enough_and_is_not_changed(data_dir: Path) -> None:
    write_both(data_dir)
    for node in ("a", "b"):
        begin_later(data_dir, node, 3)
    base = StoreBase(data_dir / "b", 1_000)
    with closing(open_journal(data_dir, "b")) as journal:
        base.open(journal)  # from the checkpoint
        for node in ("a", "b"):
            _damage_checkpoint(data_dir, node)
        table = data_dir / "b" / "store" / "table"
        before = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in table.iterdir()}
        report = verify(data_dir)  # beside its owner, which has it open
        assert {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in table.iterdir()} == before
        base.close()
    assert report["ok"], report
    assert any(note.startswith("executed from the store of node b at lsn 3 on") for note in report["notes"])
    assert (report["records_executed"], report["transactions"]) == (3, 6)
    assert verify(data_dir)["ok"]


def test_D7_without_any_state_logs_that_begin_later_cannot_be_verified(data_dir: Path) -> None:
    write_both(data_dir)
    for node in ("a", "b"):
        begin_later(data_dir, node, 3)
        _damage_checkpoint(data_dir, node)
    assert verify(data_dir)["differences"] == [
        "the logs begin later, node a's with lsn 4 and node b's with lsn 4, and no node has a sound state to go on from"
    ]


def test_a_log_that_ends_before_the_other_begins_is_no_difference(data_dir: Path) -> None:
    write(data_dir, "a", [deposit(f"t{number}") for number in range(6)])
    write(data_dir, "b", [deposit("t0"), deposit("t1")])
    begin_later(data_dir, "a", 4)
    witness = FileWitness(data_dir / CLUSTER_FILE)
    register = witness.read()
    witness.propose(Proposal(ProposalKind.SHRINK, "a", register.in_sync["a"], register.epoch))
    report = verify(data_dir)
    assert report["ok"], report
    assert any("ends with lsn 2, before node a's begins" in note for note in report["notes"])
    assert (report["records_compared"], report["records_executed"]) == (0, 2)


def test_a_log_that_is_trimmed_meanwhile_is_read_again(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_both(data_dir)
    looks = iter([["1"], ["2"], ["2"], ["2"]])
    asked: list[int] = []
    run = verification._Verification.run

    def missing_at_first(self: verification._Verification) -> dict[str, Any]:
        asked.append(1)
        report = run(self)
        return report if len(asked) > 1 else report | {"ok": False}

    monkeypatch.setattr(verification, "_oldest_segments", lambda data_dir: next(looks))
    monkeypatch.setattr(verification._Verification, "run", missing_at_first)
    assert verify(data_dir)["ok"]
    assert len(asked) == 2
