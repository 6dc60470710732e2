"""Damage on the disk of real nodes: what a torn write can leave is cut, all else is never decoded and never cut."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ftwallet.errors import ExitCode
from ftwallet.journal import Journal, encode_block
from ftwallet.journal.identity import Identity
from ftwallet.ledger.operations import Kind, encode_operations, operation
from tests.faults.checker import Client, bytes_of, check
from tests.faults.harness import Pair, running_pair

SEED = 20_251_124
_FULL = os.environ.get("CAMPAIGN") == "full"
_FRAME_MAGIC = b"\xf7\x57\x4a\xb5"
_HEADER_BYTES = 84
_NAMES = ("a", "b")


def _some_bytes_of(size: int, count: int) -> list[int]:
    """The first and the last of `size` byte numbers, and as many of the others as the campaign allows."""
    wanted = 4 * count if _FULL else count
    return sorted({0, size - 1, *random.Random(SEED).sample(range(size), wanted)})


def _unfinished_frame(pair: Pair, name: str, transaction_id: str) -> bytes:
    """The next block of a node's log, which it has never written."""
    directory = pair.data_dir / name
    log = Journal.open(directory / "journal", Identity.load(directory).cluster_id, read_only=True)
    content = encode_operations([operation(Kind.DEPOSIT, transaction_id, "user123", 12_345, 1)])
    return encode_block(log.epoch, log.durable_lsn + 1, 1, log.commit_lsn, log.chain, content).raw


def _flip(path: Path, offset: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 0x10
    path.write_bytes(content)


def _last_frame(path: Path) -> range:
    content = path.read_bytes()
    return range(content.rindex(_FRAME_MAGIC), len(content.rstrip(b"\0")))  # a frame ends with its trailer


@pytest.mark.parametrize("name", _NAMES)
def test_D3_torn_tail_is_cut_and_kept_in_quarantine(client: Client, name: str) -> None:
    pair = client.pair
    client.deposit()
    pair.nodes[name].kill()
    frame = _unfinished_frame(pair, name, "torn")
    for written in _some_bytes_of(len(frame), 2):
        segment, kept_before = pair.newest_segment(name), pair.quarantined(name)
        prepared = segment.read_bytes()
        whole = prepared.rstrip(b"\0")
        segment.write_bytes((whole + frame[: written or 1]).ljust(len(prepared), b"\0"))
        node = pair.start(name)
        pair.wait_paired()
        assert "Journal: cut a torn tail" in node.said()
        (kept,) = pair.quarantined(name) - kept_before
        assert frame[: written or 1].rstrip(b"\0") in [copy.rstrip(b"\0") for copy in bytes_of(kept).values()]
        assert segment.read_bytes()[: len(whole)] == whole
        assert client.known("torn") is None
        node.kill()


def test_D3_backup_whose_last_frame_is_torn_catches_up(client: Client) -> None:
    pair = client.pair
    client.deposit()
    pair.b.kill()
    pair.wait_mode("solo")
    segment = pair.newest_segment("b")
    frame = _last_frame(segment)
    os.truncate(segment, frame.start + len(frame) // 2)
    pair.start("b")
    pair.wait_paired()
    assert "Journal: cut a torn tail" in pair.b.said()


@pytest.mark.parametrize("place", ["in the last frame", "in an older frame"])
def test_D4_backup_with_a_flipped_bit_is_rebuilt_from_its_partner(client: Client, place: str) -> None:
    pair = client.pair
    for _ in range(3):
        client.deposit()
    before, kept_before = Identity.load(pair.data_dir / "b").incarnation, pair.quarantined("b")
    pair.b.kill()
    segment = pair.newest_segment("b")
    frame = _last_frame(segment)
    offset = frame[_HEADER_BYTES // 2] if place == "in the last frame" else frame.start - 10
    _flip(segment, offset)
    damaged = segment.read_bytes()
    pair.start("b")
    pair.wait_paired()
    (kept,) = pair.quarantined("b") - kept_before
    assert kept.name.endswith("-damaged")
    assert damaged in bytes_of(kept).values()
    assert segment.name in (kept / "why.txt").read_text()
    assert Identity.load(pair.data_dir / "b").incarnation != before
    assert client.deposit().durability == "replicated"


def test_D4_primary_with_a_flipped_bit_does_not_start_and_cuts_nothing(client: Client) -> None:
    pair = client.pair
    client.deposit()
    pair.a.kill()
    segment = pair.newest_segment("a")
    frame = _last_frame(segment)
    for place in _some_bytes_of(len(frame), 2):
        _flip(segment, frame[place])
        files = bytes_of(segment.parent)
        node = pair.start("a")
        assert node.ends() == ExitCode.CORRUPTION
        reason = node.reason()
        assert reason["code"] == ExitCode.CORRUPTION
        assert str(segment) in reason["sentence"]
        assert str(frame.start) in reason["sentence"]
        assert reason["sentence"] in node.said()
        assert bytes_of(segment.parent) == files
        _flip(segment, frame[place])


def test_D6_zeros_behind_the_last_frame_are_no_records(client: Client) -> None:
    pair = client.pair
    client.deposit()
    lsn = pair.until(lambda: pair.wait_up("a").commit_lsn, "something is committed")
    for name in _NAMES:
        pair.nodes[name].kill()
    for name in _NAMES:
        segment = pair.newest_segment(name)
        segment.write_bytes(segment.read_bytes() + bytes(5_000))
    pair.start_both()
    assert pair.wait_up("a").durable_lsn == lsn
    assert "torn" not in pair.a.said() + pair.b.said()


@pytest.fixture
def in_memory() -> Iterator[Client]:
    """A client of a pair that keeps its state in memory and in checkpoints."""
    with running_pair(state="memory") as pair:
        client = Client(pair)
        yield client
        check(client)


def _remove(checkpoint: Path) -> None:
    checkpoint.unlink()


def _halve(checkpoint: Path) -> None:
    os.truncate(checkpoint, checkpoint.stat().st_size // 2)


def _flip_middle(checkpoint: Path) -> None:
    _flip(checkpoint, checkpoint.stat().st_size // 2)


@pytest.mark.parametrize("damage", [_remove, _halve, _flip_middle])
def test_D7_checkpoint_missing_or_corrupt(in_memory: Client, damage: Callable[[Path], None]) -> None:
    client, pair = in_memory, in_memory.pair
    client.deposit()
    assert pair.a.stop() == ExitCode.OK
    assert pair.b.stop() == ExitCode.OK
    for name in _NAMES:
        newest = max((pair.data_dir / name / "checkpoints").glob("*.checkpoint"))
        assert (
            int(newest.stem)
            == Journal.open(
                pair.data_dir / name / "journal", Identity.load(pair.data_dir / name).cluster_id, read_only=True
            ).durable_lsn
        )
        damage(newest)
    pair.start_both()
    for node in pair.nodes.values():
        assert ("is passed over" in node.said()) == (damage is not _remove)
        assert ", 0 records replayed" not in node.said()


def test_D7_all_checkpoints_missing(in_memory: Client) -> None:
    client, pair = in_memory, in_memory.pair
    client.deposit()
    for name in _NAMES:
        pair.nodes[name].stop()
        for checkpoint in (pair.data_dir / name / "checkpoints").glob("*"):
            checkpoint.unlink()
    pair.start_both()
    assert "checkpoint at lsn 0" in pair.a.said()
    assert "checkpoint at lsn 0" in pair.b.said()


# ---- D7: the store, with state = "disk"


def _tables(pair: Pair, name: str) -> list[Path]:
    return sorted((pair.data_dir / name / "store" / "table").glob("*.sst"))


def _remove_all(pair: Pair, name: str) -> None:
    shutil.rmtree(pair.data_dir / name / "store")


def _remove_tables(pair: Pair, name: str) -> None:
    for path in _tables(pair, name):
        path.unlink()


def _flip_all(pair: Pair, name: str) -> None:
    for path in _tables(pair, name):
        for offset in range(0, path.stat().st_size, 16):
            _flip(path, offset)


def _forget_names(pair: Pair, name: str) -> None:
    (pair.data_dir / name / "store" / "table" / "CURRENT").write_text("")


@pytest.mark.parametrize("damage", [_remove_all, _remove_tables, _flip_all, _forget_names])
def test_D7_store_missing_or_corrupt_is_made_anew_from_the_log(
    client: Client, damage: Callable[[Pair, str], None]
) -> None:
    pair = client.pair
    client.deposit()
    for name in _NAMES:
        assert pair.nodes[name].stop() == ExitCode.OK
        assert _tables(pair, name)
        damage(pair, name)
    pair.start_both()
    for node in pair.nodes.values():
        assert ", 0 records replayed" not in node.said()
    client.deposit()


def test_D7_damage_in_the_store_that_is_found_late_stops_the_node_which_then_begins_anew(client: Client) -> None:
    pair = client.pair
    early = client.deposit()
    for name in _NAMES:
        assert pair.nodes[name].stop() == ExitCode.OK
    pair.start_both()
    for path in _tables(pair, "a"):
        _flip_all(pair, "a")
        assert path.exists()
    pair.rest.close()
    pair.rest.move("deposit", "user123", "1.5", early.document["transaction_id"])  # must be read from the disk
    if pair.a.process.poll() is None:  # RocksDB had it in memory: nothing was read that is damaged
        pair.a.kill()
    pair.start("a")
    pair.wait_paired()
    client.deposit()
