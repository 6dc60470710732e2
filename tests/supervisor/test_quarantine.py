"""What lies in quarantine: copies that are made here, without any process, and those of real nodes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import requests
from click.testing import CliRunner, Result

from ftwallet.cli.commands import ftwallet_run
from ftwallet.errors import Refused
from ftwallet.journal import Corruption, Journal, encode_block
from ftwallet.journal.identity import Identity
from ftwallet.ledger.holds import capture, expire, hold, release
from ftwallet.ledger.imports import imported_transaction
from ftwallet.ledger.legs import leg, transfer
from ftwallet.ledger.operations import Kind, Operation, asked, encode_operations, operation, rolled_back
from ftwallet.ledger.outcomes import OutcomeCode
from ftwallet.node.storage import set_damaged_aside
from ftwallet.supervisor.quarantine import listed, shown
from ftwallet.witness.bootstrap import ensure_cluster
from tests.supervisor.test_promotion import Wallet, wallet

__all__ = ["wallet"]

SEGMENT_BYTES = 800  # a few blocks, so that a log has several segments


def deposit(name: str, amount: int = 1_050) -> Operation:
    return operation(Kind.DEPOSIT, name, "user123", amount, 1_000_000)


def write(data_dir: Path, node: str, *blocks: list[Operation]) -> Journal:
    identity = Identity.load(data_dir / node)
    journal = Journal.open(data_dir / node / "journal", identity.cluster_id, SEGMENT_BYTES, create=True)
    for block in blocks:
        lsn = journal.durable_lsn + 1
        payload = encode_operations(block)
        journal.append(encode_block(3, lsn, len(block), 0, journal.chain, payload))
    return journal


def ids(document: dict) -> list[str]:
    return [one["transaction_id"] for one in document["transactions"]]


def run(data_dir: Path, *arguments: str) -> Result:
    return CliRunner().invoke(ftwallet_run, ["quarantine", *arguments, "--data-dir", str(data_dir)])


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    ensure_cluster(tmp_path)
    return tmp_path


def cut(data_dir: Path, node: str, keep: int = 1, count: int = 12) -> str:
    journal = write(data_dir, node, *([deposit(f"t{number}")] for number in range(1, count + 1)))
    journal.cut(keep, "never answered")
    journal.close()
    return listed(data_dir)["copies"][-1]["name"]


def damage(data_dir: Path, node: str) -> Path:
    node_dir = data_dir / node
    return set_damaged_aside(
        node_dir, Identity.load(node_dir), Corruption(node_dir / "journal", 7, "a bit has flipped")
    )


def test_a_cut_over_several_segments_is_listed_and_every_transaction_in_it_named(data_dir: Path) -> None:
    name = cut(data_dir, "a")
    assert len(list((data_dir / name.replace("/", "/quarantine/")).glob("*.frames"))) > 1
    (copy,) = listed(data_dir)["copies"]
    assert (copy["node"], copy["why"], copy["whole_log"], copy["from_lsn"]) == ("a", "never answered", False, 2)
    assert (copy["transaction_count"], copy["problems"]) == (11, [])
    document = shown(data_dir, name, 2)
    assert ids(document) == [f"t{number}" for number in range(2, 13)]
    first = document["transactions"][0]
    assert (first["type"], first["account_id"], first["amount"], first["lsn"], first["epoch"]) == (
        "deposit",
        "user123",
        "10.5",
        2,
        3,
    )
    assert (document["asked"], first["became"]) == (None, None)


def test_records_that_are_no_transactions_count_as_records_and_are_not_shown(data_dir: Path) -> None:
    rules = operation(Kind.CHANGED_RULES, "", "", 0, 1)
    journal = write(data_dir, "b", [deposit("t1")], [rules, deposit("t2"), rolled_back("t3", deposit("t3"), 1)])
    journal.cut(1, "never answered")
    journal.close()
    (copy,) = listed(data_dir)["copies"]
    transactions = shown(data_dir, copy["name"], 2)["transactions"]
    assert [(one["transaction_id"], one["lsn"], one["type"]) for one in transactions] == [
        ("t2", 3, "deposit"),
        ("t3", 4, "rolled_back"),
    ]


def test_what_each_kind_of_transaction_asked_is_told_in_its_own_terms(data_dir: Path) -> None:
    moved = transfer([leg("alice", "shop", 10_000), leg("shop", "fees", 290)])
    block = [
        asked(moved, "t2", 1),
        asked(hold("alice", 500, 60), "h1", 1),
        asked(capture("h1", 0, "shop"), "c1", 1),
        asked(capture("h1", 200, "shop"), "c2", 1),
        asked(release("h1"), "r1", 1),
        expire("h1", 1),  # a record of the node's own, under no id
        rolled_back("t3", asked(moved, "t3", 1), 1),
        rolled_back("t4", None, 1),
        imported_transaction("t5", OutcomeCode.OK, 1, moved),
    ]
    journal = write(data_dir, "b", [deposit("t1")], block)
    journal.cut(1, "never answered")
    journal.close()
    (copy,) = listed(data_dir)["copies"]
    transactions = shown(data_dir, copy["name"], 2)["transactions"]
    legs = [
        {"from_account_id": "alice", "to_account_id": "shop", "amount": "100.0"},
        {"from_account_id": "shop", "to_account_id": "fees", "amount": "2.9"},
    ]
    assert [one.get("legs") for one in transactions] == [legs, None, None, None, None, legs, None, legs]
    lines = run(data_dir, "show", copy["name"]).stdout.splitlines()[2:-1]
    assert [line.partition(": ")[2].removesuffix(": not known") for line in lines] == [
        "transfer t2, 100.0 from alice to shop, 2.9 from shop to fees",
        "hold h1, 5.0, account alice",
        "capture c1, all that is left of hold h1 to shop",
        "capture c2, 2.0 of hold h1 to shop",
        "release r1, all that is left of hold h1",
        "rolled_back t3, 100.0 from alice to shop, 2.9 from shop to fees",
        "rolled_back t4",
        "imported_transaction t5, 100.0 from alice to shop, 2.9 from shop to fees",
    ]


def test_D4_of_a_damaged_log_that_was_set_aside_everything_but_the_damaged_record_is_shown(data_dir: Path) -> None:
    write(data_dir, "b", *([deposit(f"t{number}")] for number in range(1, 13))).close()
    segment = sorted((data_dir / "b" / "journal").glob("*.journal"))[1]
    content = bytearray(segment.read_bytes())
    lost = int(segment.stem)
    content[content.index(b"t%d" % lost)] ^= 1
    segment.write_bytes(content)
    damage(data_dir, "b")
    (copy,) = listed(data_dir)["copies"]
    assert (copy["whole_log"], copy["from_lsn"], copy["transaction_count"]) == (True, 1, 11)
    assert "a bit has flipped" in copy["why"]
    (problem,) = copy["problems"]
    assert "does not match its checksums" in problem
    assert ids(shown(data_dir, copy["name"], 2)) == [f"t{number}" for number in range(1, 13) if number != lost]


def test_D4_a_segment_with_a_damaged_header_is_told_and_the_others_are_read(data_dir: Path) -> None:
    write(data_dir, "b", *([deposit(f"t{number}")] for number in range(1, 13))).close()
    segments = sorted((data_dir / "b" / "journal").glob("*.journal"))
    segments[0].write_bytes(b"\0" * 700)
    damage(data_dir, "b")
    (copy,) = listed(data_dir)["copies"]
    assert copy["from_lsn"] == int(segments[1].stem)
    assert "not the header of a segment" in copy["problems"][0]


def test_D3_a_torn_tail_has_no_transaction_and_says_why(data_dir: Path) -> None:
    journal = write(data_dir, "a", [deposit("t1")], [deposit("t2")])
    path = next(journal.directory.glob("*.journal"))
    journal.close()
    path.write_bytes(path.read_bytes().rstrip(b"\0")[:-10])
    write(data_dir, "a").close()
    (copy,) = listed(data_dir)["copies"]
    assert (copy["from_lsn"], copy["transaction_count"]) == (2, 0)
    assert "the file ends inside its last frame" in copy["problems"][0]


def test_a_copy_that_was_not_finished_and_a_strange_directory_are_shown_as_what_they_are(data_dir: Path) -> None:
    name = cut(data_dir, "a")
    (data_dir / "a" / "quarantine" / name[2:] / "about.json").unlink()
    (data_dir / "a" / "quarantine" / "mine").mkdir()
    strange, unfinished = listed(data_dir)["copies"]
    assert "nothing was cut then" in unfinished["why"]
    assert (strange["name"], strange["at"], strange["transaction_count"]) == ("a/mine", None, 0)


def test_a_name_is_refused_that_nobody_has_or_that_both_have(data_dir: Path) -> None:
    name = cut(data_dir, "a")
    with pytest.raises(Refused, match="quarantine list"):
        shown(data_dir, "b/" + name[2:], 2)
    (data_dir / "b" / "quarantine").mkdir()
    (data_dir / "a" / "quarantine" / name[2:]).rename(data_dir / "b" / "quarantine" / name[2:])
    assert shown(data_dir, name[2:], 2)["node"] == "b"
    (data_dir / "a" / "quarantine" / name[2:]).mkdir()
    with pytest.raises(Refused, match="both nodes"):
        shown(data_dir, name[2:], 2)


def test_the_command_line_without_a_cluster_with_nothing_to_show_and_with_a_copy(data_dir: Path) -> None:
    assert "holds no cluster" in run(data_dir / "nothing", "list").stderr
    assert run(data_dir, "list").stdout.startswith("Nothing is in quarantine")
    name = cut(data_dir, "a")
    assert f"{name}: what was cut from lsn 2 on, 11 transactions" in run(data_dir, "list").stdout
    text = run(data_dir, "show", name).stdout
    assert "lsn 2, epoch 3: deposit t2, 10.5, account user123: not known" in text
    assert "The cluster is not running" in text
    assert [run(data_dir, *wrong).exit_code for wrong in (["show"], ["list", name])] == [2, 2]


def test_C2_what_became_of_a_cut_transaction_is_asked_of_the_running_cluster(wallet: Wallet) -> None:
    assert wallet.run("kill", "primary", "--at", "pending", "--no-wait").returncode == 0
    with pytest.raises(requests.RequestException):
        wallet.deposit("lost")
    wallet.agrees()
    (copy,) = json.loads(wallet.run("quarantine", "list", "--json").stdout)["copies"]
    assert copy["transaction_count"] == 1
    text = wallet.run("quarantine", "show", copy["name"]).stdout
    assert "deposit lost, 10.5, account user123: ROLLED_BACK at lsn" in text
    assert wallet.deposit("lost").status_code == 200
    document = json.loads(wallet.run("quarantine", "show", copy["name"], "--json").stdout)
    (one,) = document["transactions"]
    assert document["asked"] == "b"
    assert one["became"]["status"] == "COMMITTED"
    assert one["became"]["lsn"] > one["lsn"]
