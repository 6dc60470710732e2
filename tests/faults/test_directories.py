"""Directories that are not what they should be: lost, old, of others, in use. Refusals change nothing."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Callable, Iterator
from os import getpid
from pathlib import Path

import pytest

from ftwallet.errors import ExitCode
from ftwallet.journal import Journal
from ftwallet.journal.identity import Identity
from tests.faults.checker import Client, bytes_of, check
from tests.faults.harness import Pair, running_pair, temporary_root

NewRoot = Callable[[], Path]
_LEFT_BY_A_REFUSED_START = ("exit.json", "lock", "cluster.lock")


@pytest.fixture(scope="module")
def stopped() -> Iterator[Pair]:
    """A pair that has answered, stopped in order; tests take copies of it."""
    with running_pair() as pair:
        client = Client(pair)
        client.deposit()
        client.deposit()
        pair.a.stop()
        pair.b.stop()
        yield pair


@pytest.fixture
def copy(stopped: Pair, new_root: NewRoot) -> Iterator[Pair]:
    pair = stopped.copy_to(new_root())
    yield pair
    pair.close()


def _edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _content(directory: Path) -> dict[str, bytes]:
    files = bytes_of(directory)
    return {name: content for name, content in files.items() if Path(name).name not in _LEFT_BY_A_REFUSED_START}


def _refused(pair: Pair, *words: str, names: str = "ab", code: int = ExitCode.FAILED) -> None:
    """Start both nodes: each ends at once with a sentence that holds these words, and nothing is changed."""
    before = _content(pair.data_dir)
    for name in names:
        pair.start(name)
    for name in names:
        node = pair.nodes[name]
        assert node.ends() == code, node.tail()
        (line,) = [line for line in node.said().splitlines() if f"ode {name} stops: " in line]
        for word in words:
            assert word in line
    assert _content(pair.data_dir) == before


# ---- D8: the cluster record


def test_D8_cluster_record_lost(copy: Pair) -> None:
    (copy.data_dir / "cluster.json").unlink()
    _refused(copy, "cluster.json is missing", "Put the newest copy of cluster.json back", "ftwallet-run verify")


@pytest.mark.parametrize("content", [b"", b"{", b'{"format_version": 1}', b"\xff\xfe"])
def test_D8_cluster_record_corrupt(copy: Pair, content: bytes) -> None:
    (copy.data_dir / "cluster.json").write_bytes(content)
    _refused(copy, "cluster.json is damaged", "Put the newest copy of cluster.json back")


def test_D8_cluster_record_older_than_a_nodes_epoch(copy: Pair) -> None:
    epoch = copy.register().epoch
    _edit(copy.data_dir / "cluster.json", epoch=epoch - 1)
    _refused(copy, f"stands at epoch {epoch - 1}", f"has seen epoch {epoch}", "Put the newest copy")


def test_D8_cluster_record_older_than_a_nodes_start(copy: Pair) -> None:
    """Starts of a backup raise no epoch; the boot numbers tell all the same."""
    _edit(copy.data_dir / "b" / "identity.json", boot=7)
    _refused(copy, "start 1 of node b", "start 7", "Put the newest copy")


def test_D8_cluster_record_lost_while_they_run_means_no_solo(client: Client) -> None:
    """Without its witness a primary that loses its backup answers nothing, stays alive, and goes on when it is back."""
    pair = client.pair
    client.deposit()
    record = pair.data_dir / "cluster.json"
    content = record.read_bytes()
    record.unlink()
    pair.b.kill()
    answer = client.send("deposit", "user123", "3", client.new_id("no-witness"))
    assert answer is not None
    assert answer.status == 503
    assert "retry-after" in answer.headers
    assert pair.mode() == ""
    record.write_bytes(content)
    pair.wait_mode("solo")
    assert client.deposit().durability == "solo"


# ---- I1: emptied, or an old copy


def test_I1_emptied_backup_directory_is_another_node(client: Client) -> None:
    pair = client.pair
    client.deposit()
    before = Identity.load(pair.data_dir / "b").incarnation
    pair.b.kill()
    shutil.rmtree(pair.data_dir / "b")
    pair.start("b")
    pair.wait_paired()
    assert pair.register().in_sync["b"] == Identity.load(pair.data_dir / "b").incarnation != before


def test_I1_backup_directory_emptied_while_both_are_down(client: Client) -> None:
    pair = client.pair
    client.deposit()
    pair.a.kill()
    pair.b.kill()
    shutil.rmtree(pair.data_dir / "b")
    pair.start_both()
    assert "came back with another data directory" in pair.a.said()


def test_I1_emptied_primary_directory_does_not_lead(client: Client, new_root: NewRoot) -> None:
    pair = client.pair
    client.deposit()
    pair.a.kill()
    aside = new_root() / "a"
    shutil.move(pair.data_dir / "a", aside)
    node = pair.start("a")
    assert node.ends() > 0
    assert "it was made anew: it must not lead" in node.said()
    shutil.rmtree(pair.data_dir / "a")
    shutil.move(aside, pair.data_dir / "a")


def test_I1_old_copy_of_the_backup_directory(client: Client, new_root: NewRoot) -> None:
    """Both are down and the copy names the incarnation in sync: believed, it would have the primary's tail cut."""
    pair = client.pair
    client.deposit()
    pair.b.kill()
    old = new_root() / "b"
    shutil.copytree(pair.data_dir / "b", old, ignore=shutil.ignore_patterns("control.sock"))
    pair.start("b")
    pair.wait_paired()
    acknowledged = [client.deposit() for _ in range(3)]
    assert {answer.durability for answer in acknowledged} == {"replicated"}
    pair.a.kill()
    pair.b.kill()
    shutil.rmtree(pair.data_dir / "b")
    shutil.copytree(old, pair.data_dir / "b")
    pair.start_both()
    check(client)
    assert "old copy" in pair.b.said()


def test_I1_old_copy_of_the_backup_directory_from_the_same_start(client: Client, new_root: NewRoot) -> None:
    """No number tells it apart, but the primary's log knows how far the commit had come."""
    pair = client.pair
    client.deposit()
    old = new_root() / "b"
    shutil.copytree(pair.data_dir / "b", old, ignore=shutil.ignore_patterns("control.sock"))
    for _ in range(3):
        client.deposit()
    journal, cluster_id = pair.data_dir / "a" / "journal", pair.register().cluster_id
    pair.until(lambda: _all_marked(Journal.open(journal, cluster_id, read_only=True)), "the mark is on a's disk")
    pair.a.kill()
    pair.b.kill()
    shutil.rmtree(pair.data_dir / "b")
    shutil.copytree(old, pair.data_dir / "b")
    pair.start_both()
    check(client)
    assert "node b has lost records that were committed" in pair.a.said()


def _all_marked(log: Journal) -> bool:
    return log.commit_lsn == log.durable_lsn


def test_I1_old_copy_of_everything_meets_a_living_backup(client: Client, new_root: NewRoot) -> None:
    """A second primary on an old copy of the whole data directory: fenced by its epoch, it disturbs nobody."""
    pair = client.pair
    client.deposit()
    pair.a.kill()
    pair.b.kill()
    impostor = pair.copy_to(new_root())
    impostor.ports["backup_grpc_port"] = pair.ports["backup_grpc_port"]
    for _ in range(3):
        pair.start_both()
        pair.a.kill()
    pair.start_both()
    epoch = pair.register().epoch
    try:
        impostor.start("a")
        impostor.until(lambda: f"node b has seen epoch {epoch}" in impostor.a.said(), "the backup refuses it")
        assert client.deposit().durability == "replicated"
        assert pair.register().epoch == epoch
    finally:
        impostor.close()


def test_I1_old_copy_of_the_primary_directory_does_not_lead(client: Client, new_root: NewRoot) -> None:
    pair = client.pair
    client.deposit()
    pair.a.kill()
    old, newest = new_root() / "a", new_root() / "a"
    shutil.copytree(pair.data_dir / "a", old, ignore=shutil.ignore_patterns("control.sock"))
    pair.start("a")
    pair.wait_paired()
    client.deposit()
    pair.a.kill()
    shutil.move(pair.data_dir / "a", newest)
    shutil.copytree(old, pair.data_dir / "a")
    node = pair.start("a")
    assert node.ends() == ExitCode.WRONG_DIRECTORY
    assert "old copy" in node.said()
    shutil.rmtree(pair.data_dir / "a")
    shutil.move(newest, pair.data_dir / "a")


# ---- I2: of another cluster, another node, another time


def test_I2_node_directory_of_another_cluster(copy: Pair) -> None:
    _edit(copy.data_dir / "b" / "identity.json", cluster_id="0123456789abcdef")
    _refused(copy, "0123456789abcdef", copy.register().cluster_id)


def test_I2_two_nodes_with_one_name(copy: Pair) -> None:
    _edit(copy.data_dir / "b" / "identity.json", node="a")
    _refused(copy, "is the directory of node a, not of node b")


@pytest.mark.parametrize("file", ["cluster.json", "b/identity.json"])
def test_I2_format_from_the_future(copy: Pair, file: str) -> None:
    _edit(copy.data_dir / file, format_version=99)
    code = ExitCode.FAILED if file == "cluster.json" else ExitCode.WRONG_DIRECTORY
    _refused(copy, "format version 99", "this program knows up to 1", code=code)


def _make_newer(pair: Pair, files: str) -> None:
    for name in "ab":
        newest = max((pair.data_dir / name).glob(files))
        content = bytearray(newest.read_bytes())
        content[8:12] = (99).to_bytes(2, "little") + (99 ^ 0xFFFF).to_bytes(2, "little")
        newest.write_bytes(content)


def test_I2_journal_from_the_future(copy: Pair) -> None:
    _make_newer(copy, "journal/*.journal")
    _refused(copy, "format version 99", "this program knows up to 1", code=ExitCode.WRONG_DIRECTORY)


def test_I2_checkpoint_from_the_future() -> None:
    with running_pair(state="memory") as pair:
        Client(pair).deposit()
        for node in pair.nodes.values():
            assert node.stop() == ExitCode.OK
        _make_newer(pair, "checkpoints/*.checkpoint")
        _refused(pair, "format version 99", "this program knows up to 1", code=ExitCode.WRONG_DIRECTORY)


def test_I2_journal_of_another_cluster(copy: Pair) -> None:
    with temporary_root() as root:
        other = Pair(root)
        try:
            other.start("b")
            other.wait_up("b")
        finally:
            other.close()
        shutil.rmtree(copy.data_dir / "b" / "journal")
        shutil.copytree(other.data_dir / "b" / "journal", copy.data_dir / "b" / "journal")
        words = (other.register().cluster_id, copy.register().cluster_id)
    _refused(copy, *words, names="b", code=ExitCode.WRONG_DIRECTORY)


def test_I2_backup_of_another_cluster_answers_on_the_port(copy: Pair, new_root: NewRoot) -> None:
    copy.settings["settle_timeout_s"] = 1
    other = Pair(new_root())
    other.ports["backup_grpc_port"] = copy.ports["backup_grpc_port"]
    try:
        other.start("b")
        other.wait_up("b")
        copy.start("a")
        ids = (other.register().cluster_id, copy.register().cluster_id)
        copy.until(lambda: all(one in copy.a.said() for one in ids), "the primary's log names both clusters")
        copy.wait_ready()
        assert copy.mode() == "solo"
        assert other.wait_up("b").durable_lsn == 0
    finally:
        other.close()


def test_I2_two_nodes_with_one_name_meet(copy: Pair, new_root: NewRoot) -> None:
    copy.settings["settle_timeout_s"] = 1
    other = copy.copy_to(new_root())
    other.ports["backup_grpc_port"] = copy.ports["backup_grpc_port"]
    try:
        other.start("a", role="backup")
        other.wait_up("a")
        copy.start("a")
        copy.until(lambda: "both nodes call themselves a" in copy.a.said(), "the primary's log names both")
        assert copy.a.said().count(Identity.load(copy.data_dir / "a").incarnation) >= 2
    finally:
        other.close()


# ---- I3: in use


@pytest.mark.parametrize(("name", "role"), [("a", "primary"), ("b", "backup"), ("a", "backup")])
def test_I3_second_process_on_one_directory(client: Client, name: str, role: str) -> None:
    pair = client.pair
    client.deposit()
    first = pair.nodes[name]
    second = pair.start(name, role)
    assert second.ends() == ExitCode.WRONG_DIRECTORY
    assert f"{second.directory} is in use by the process with pid {first.pid}" in second.said()
    assert not (second.directory / "exit.json").exists()
    pair.nodes[name] = first
    assert client.deposit().durability == "replicated"


@pytest.mark.parametrize("key", ["http_port", "primary_grpc_port", "backup_grpc_port"])
def test_I3_port_taken(copy: Pair, key: str) -> None:
    with socket.create_server(("127.0.0.1", copy.ports[key])):
        node = copy.start("b" if key == "backup_grpc_port" else "a")
        assert node.ends() == ExitCode.PORT_TAKEN
        assert str(copy.ports[key]) in node.reason()["sentence"]
        assert f"pid {getpid()}" in node.reason()["sentence"]


def test_I3_directory_whose_path_is_too_long_for_a_socket(new_root: NewRoot) -> None:
    root = new_root() / ("long" * 25)
    root.mkdir()
    pair = Pair(root)
    try:
        node = pair.start("b")
        assert node.ends() == ExitCode.FAILED
        assert "a unix socket's may have 107" in node.said()
    finally:
        pair.close()
