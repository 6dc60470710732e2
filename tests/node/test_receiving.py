"""A checkpoint's file on a backup: gone on with after any crash, and installed whole, sound and as offered, or not."""

from __future__ import annotations

import hashlib
from contextlib import closing
from pathlib import Path

import pytest

from ftwallet.journal import Corruption, Journal, encode_block
from ftwallet.journal.checkpoints import CheckpointMeta, list_files, write_checkpoint
from ftwallet.journal.identity import Identity
from ftwallet.ledger.ledger import Ledger
from ftwallet.ledger.operations import Kind, encode_operations, operation
from ftwallet.ledger.state import MemoryState, checkpoint_chunks
from ftwallet.node.base import DEFAULT_RULES, FileBase
from ftwallet.node.disk import Disk
from ftwallet.node.receiving import NotAsOffered, Receiving, install, partial
from ftwallet.node.storage import open_storage
from ftwallet.replication.messages import SLICE_BYTES, CheckpointFile, EpochEnd
from tests.journal.test_crashes import Story, crash_everywhere

CLUSTER = "cluster"
SEGMENT_BYTES = 4_096
BLOCKS = 6


def write_log(node_dir: Path, blocks: int, epoch: int = 1) -> Ledger:
    """A node's log of two deposits a block; returns the ledger that it gives."""
    if not Identity.exists(node_dir):
        Identity.create(node_dir, CLUSTER, node_dir.name).record_epoch(1)
    ledger = Ledger(DEFAULT_RULES, MemoryState())
    with closing(Journal.open(node_dir / "journal", CLUSTER, SEGMENT_BYTES)) as journal:
        for number in range(blocks):
            lsn = journal.durable_lsn + 1
            deposits = [operation(Kind.DEPOSIT, f"t{lsn}{x}" + "x" * 500, f"w{number}", 5, lsn) for x in "ab"]
            journal.append(encode_block(epoch, lsn, 2, lsn - 1, journal.chain, encode_operations(deposits)))
            ledger.apply(lsn, epoch, deposits)
        journal.append_mark(journal.durable_lsn)
    return ledger


def take_checkpoint(node_dir: Path, ledger: Ledger) -> tuple[bytes, CheckpointFile]:
    """Write a checkpoint of a whole log; returns the file's bytes, and what it is offered as."""
    with closing(Journal.open(node_dir / "journal", CLUSTER, SEGMENT_BYTES)) as journal:
        meta = CheckpointMeta(journal.durable_lsn, journal.epoch, journal.chain, ledger.digest, journal.history)
    content = write_checkpoint(node_dir / "checkpoints", meta, checkpoint_chunks(ledger.state)).read_bytes()
    history = tuple(EpochEnd(*end) for end in meta.history)
    print_of = hashlib.sha256(content).hexdigest()
    return content, CheckpointFile(meta.lsn, meta.chain, meta.digest, history, len(content), print_of)


@pytest.fixture
def offered(tmp_path: Path) -> tuple[bytes, CheckpointFile]:
    """The checkpoint of a partner that is far ahead."""
    return take_checkpoint(tmp_path / "partner", write_log(tmp_path / "partner", BLOCKS))


def open_journal(node_dir: Path) -> Journal:
    return Journal.open(node_dir / "journal", CLUSTER, SEGMENT_BYTES)


async def receive(node_dir: Path, file: CheckpointFile, content: bytes) -> tuple[int, int]:
    """Take in a file from what is held of it; returns how many bytes were held before, and are after."""
    disk = Disk(open_journal(node_dir), Identity.load(node_dir))
    receiving = Receiving(node_dir, disk, FileBase(node_dir))
    held = first = await receiving.find(file)
    while held < len(content):
        held = await receiving.keep(held, content[held : held + SLICE_BYTES])
    disk.close()
    return first, held


def large(size: int) -> tuple[bytes, CheckpointFile]:
    content = b"".join(b"%08d" % number for number in range(size // 8))
    return content, CheckpointFile(9, bytes(32), bytes(32), (), size, hashlib.sha256(content).hexdigest())


async def test_a_part_is_gone_on_with_but_for_its_last_slice(tmp_path: Path) -> None:
    write_log(tmp_path / "b", 1)
    content, file = large(5 * SLICE_BYTES)
    assert partial(tmp_path / "b") == ""
    await receive(tmp_path / "b", file, content[: 3 * SLICE_BYTES])
    assert partial(tmp_path / "b") == file.fingerprint
    assert await receive(tmp_path / "b", file, content) == (2 * SLICE_BYTES, 5 * SLICE_BYTES)
    (part,) = (tmp_path / "b" / "checkpoints").glob("*.part")
    assert part.read_bytes() == content


async def test_a_part_of_another_file_counts_for_nothing_and_is_dropped(tmp_path: Path) -> None:
    write_log(tmp_path / "b", 1)
    content, file = large(3 * SLICE_BYTES)
    await receive(tmp_path / "b", file, content)
    other, another = large(2 * SLICE_BYTES)
    assert (await receive(tmp_path / "b", another, other))[0] == 0
    assert partial(tmp_path / "b") == another.fingerprint


async def test_what_was_installed_is_opened_from_the_checkpoint(
    tmp_path: Path, offered: tuple[bytes, CheckpointFile]
) -> None:
    content, file = offered
    node = tmp_path / "b"
    write_log(node, 2)
    disk = Disk(open_journal(node), Identity.load(node))
    receiving = Receiving(node, disk, FileBase(node))
    await receiving.find(file)
    await receiving.keep(0, content)
    assert await receiving.take_fingerprint() == file.fingerprint
    ledger = await receiving.install(file)
    disk.close()
    assert (ledger.applied_lsn, ledger.digest) == (file.lsn, file.digest)
    storage = open_storage(node, SEGMENT_BYTES)
    storage.journal.close()
    assert (storage.journal.first_lsn, storage.checkpoint_lsn) == (file.lsn + 1, file.lsn)
    assert storage.ledger.digest == file.digest
    assert storage.newest_time_us() == file.lsn - 1  # the first lsn of the last block, see write_log
    assert partial(node) == ""


def _put_part(node: Path, content: bytes) -> Path:
    (node / "checkpoints").mkdir(exist_ok=True)
    part = node / "checkpoints" / "f.part"
    part.write_bytes(content)
    return part


def test_what_is_not_as_offered_changes_nothing(tmp_path: Path, offered: tuple[bytes, CheckpointFile]) -> None:
    content, file = offered
    node = tmp_path / "b"
    write_log(node, 2)
    changed = bytearray(content)
    changed[len(content) // 2] ^= 1
    wrong = [
        (bytes(changed), file),
        (content[:-1], file),
        (content, file._replace(lsn=file.lsn + 1)),
        (content, file._replace(chain=bytes(32))),
        (content, file._replace(digest=bytes(32))),
        (content, file._replace(history=(EpochEnd(2, file.lsn),))),
    ]
    for bad, described in wrong:
        part = _put_part(node, bad)
        with closing(open_journal(node)) as journal:
            with pytest.raises(NotAsOffered):
                install(part, node / "checkpoints", journal, described, FileBase(node))
            assert (journal.first_lsn, journal.durable_lsn) == (1, 4)
            assert list_files(node / "checkpoints") == []


def test_C7_C8_D5_a_crash_at_any_point_of_an_installation(
    tmp_path: Path, offered: tuple[bytes, CheckpointFile]
) -> None:
    """What is left starts: it is the old log, whole, or the checkpoint."""
    content, file = offered
    reference = [block.chain for block in _old_blocks(tmp_path / "old")]

    def prepare(node: Path) -> None:
        take_checkpoint(node, write_log(node, 3))
        _put_part(node, content)

    def scenario(node: Path, _: Story) -> None:
        with closing(open_journal(node)) as journal:
            install(node / "checkpoints" / "f.part", node / "checkpoints", journal, file, FileBase(node))

    def check(node: Path, story: Story) -> None:
        storage = open_storage(node, SEGMENT_BYTES)
        storage.journal.close()
        assert storage.ledger.applied_lsn == storage.journal.durable_lsn
        if storage.journal.first_lsn > 1:
            assert (storage.journal.first_lsn, storage.ledger.digest) == (file.lsn + 1, file.digest)
        else:
            assert not story.done
            assert [block.chain for block in storage.journal.blocks()] == reference
        with closing(open_journal(node)) as journal:  # the same again
            _put_part(node, content)
            ledger = install(node / "checkpoints" / "f.part", node / "checkpoints", journal, file, FileBase(node))
            assert (journal.durable_lsn, ledger.digest) == (file.lsn, file.digest)

    done = crash_everywhere(tmp_path, prepare, scenario, check)
    assert {"rename", "remove", "create_file", "fsync_directory"} <= set(done)


def test_C7_C8_D5_a_crash_at_any_point_of_a_second_installation(
    tmp_path: Path, offered: tuple[bytes, CheckpointFile]
) -> None:
    """A log that begins after a checkpoint and has several segments, and whose own checkpoints stand near its end."""
    content, file = offered
    further, newest = take_checkpoint(tmp_path / "further", write_log(tmp_path / "further", 4 * BLOCKS))

    def prepare(node: Path) -> None:
        write_log(node, 1)
        part = _put_part(node, content)
        with closing(open_journal(node)) as journal:
            grown = install(part, node / "checkpoints", journal, file, FileBase(node))
        for _ in range(2):  # so many that none is left of where the log begins
            _grow(node, grown, BLOCKS)
            take_checkpoint(node, grown)
        assert all(int(path.stem) > file.lsn for path in list_files(node / "checkpoints"))
        assert len(list((node / "journal").iterdir())) > 2
        _put_part(node, further)

    def scenario(node: Path, _: Story) -> None:
        with closing(open_journal(node)) as journal:
            install(node / "checkpoints" / "f.part", node / "checkpoints", journal, newest, FileBase(node))

    def check(node: Path, story: Story) -> None:
        storage = open_storage(node, SEGMENT_BYTES)
        storage.journal.close()
        assert storage.ledger.applied_lsn == storage.journal.durable_lsn
        stands = (storage.journal.first_lsn, storage.journal.durable_lsn)
        after = (newest.lsn + 1, newest.lsn)
        assert stands == after or (stands == (file.lsn + 1, file.lsn + 2 * BLOCKS) and not story.done)
        if stands == after:
            assert len(list((node / "journal").iterdir())) == 1

    crash_everywhere(tmp_path, prepare, scenario, check)


def _grow(node: Path, ledger: Ledger, blocks: int) -> None:
    """Deposit more, in a log that begins after a checkpoint."""
    with closing(open_journal(node)) as journal:
        for _ in range(blocks):
            lsn = journal.durable_lsn + 1
            deposits = [operation(Kind.DEPOSIT, f"g{lsn}" + "x" * 900, "w", 5, lsn)]
            journal.append(encode_block(2, lsn, 1, lsn - 1, journal.chain, encode_operations(deposits)))
            ledger.apply(lsn, 2, deposits)
        journal.append_mark(journal.durable_lsn)


def _old_blocks(node: Path) -> list[object]:
    write_log(node, 3)
    with closing(open_journal(node)) as journal:
        return list(journal.blocks())


# ---- D7, where the log alone is not enough


def two_checkpoints(node: Path, offered: tuple[bytes, CheckpointFile]) -> list[Path]:
    """A node that has had a state sync and has made a checkpoint since; returns its files, oldest first."""
    content, file = offered
    write_log(node, 1)
    part = _put_part(node, content)
    with closing(open_journal(node)) as journal:
        ledger = install(part, node / "checkpoints", journal, file, FileBase(node))
        deposits = [operation(Kind.DEPOSIT, "later", "w", 5, 99)]
        lsn = file.lsn + 1
        journal.append(encode_block(2, lsn, 1, file.lsn, journal.chain, encode_operations(deposits)))
        journal.append_mark(lsn)
        ledger.apply(lsn, 2, deposits)
    take_checkpoint(node, ledger)
    return list_files(node / "checkpoints")


def _damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)


def test_D7_the_older_checkpoint_of_a_log_that_begins_later_is_enough(
    tmp_path: Path, offered: tuple[bytes, CheckpointFile]
) -> None:
    older, newer = two_checkpoints(tmp_path / "b", offered)
    for damaged in (newer, None):
        if damaged:
            _damage(damaged)
        storage = open_storage(tmp_path / "b", SEGMENT_BYTES)
        storage.journal.close()
        assert storage.ledger.applied_lsn == 2 * BLOCKS + 1
        assert storage.ledger.find("later") is not None
        assert storage.checkpoint_lsn == int(older.stem)


def test_D7_without_a_checkpoint_a_log_that_begins_later_is_corrupt(
    tmp_path: Path, offered: tuple[bytes, CheckpointFile]
) -> None:
    for path in two_checkpoints(tmp_path / "b", offered):
        _damage(path)
    with pytest.raises(Corruption, match=f"begins with lsn {2 * BLOCKS + 1}, and neither .*rebuild this node"):
        open_storage(tmp_path / "b", SEGMENT_BYTES)


def test_identity_keeps_the_mark_with_the_incarnation(tmp_path: Path) -> None:
    identity = Identity.create(tmp_path / "b", CLUSTER, "b")
    first = identity.incarnation
    renewed = identity.renew_incarnation(for_state_sync=True)
    again = Identity.load(tmp_path / "b")
    assert (again.incarnation, again.state_sync) == (renewed, True)
    assert renewed != first
    again.end_state_sync()
    assert not Identity.load(tmp_path / "b").state_sync
    assert again.renew_incarnation() != renewed
    assert not Identity.load(tmp_path / "b").state_sync
