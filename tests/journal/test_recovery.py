"""Opening a log whose files were damaged: what is cut, what is refused, and what is left alone."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ftwallet.errors import DiskFault, ExitCode, Refused
from ftwallet.journal import Block, Corruption, Journal
from ftwallet.journal.frames import SECTOR_BYTES
from ftwallet.journal.segments import FORMAT_VERSION
from tests.journal.logs import (
    CLUSTER,
    bytes_of,
    close_logs,
    grow,
    make_log,
    next_block,
    open_log,
    quarantined,
    segment_files,
)

pytestmark = pytest.mark.usefixtures("no_syncs")


def last_frame(directory: Path, blocks: list[Block]) -> tuple[Path, int, int]:
    """The newest segment, and where its last frame begins and ends."""
    path = segment_files(directory)[-1]
    end = path.stat().st_size
    return path, end - len(blocks[-1].raw), end


def copy(source: Path, target: Path) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    return target


def files_of(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.mark.parametrize("sizes", [(30, 200, 60), (700, 900), (40,)])
def test_D3_a_tail_torn_at_every_byte_is_cut_and_kept(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    blocks = make_log(tmp_path / "whole", *sizes)
    _, start, end = last_frame(tmp_path / "whole", blocks)
    for length in range(start, end):
        torn = copy(tmp_path / "whole", tmp_path / "torn")
        path = segment_files(torn)[-1]
        with path.open("r+b") as file:
            file.truncate(length)
        close_logs()
        journal = open_log(torn)
        assert list(journal.blocks()) == blocks[:-1]
        assert quarantined(torn) == ([blocks[-1].raw[: length - start]] if length > start else [])
        assert (journal.torn is not None) == (length > start)
        if journal.torn is not None:
            assert (journal.torn.path, journal.torn.offset, journal.torn.size) == (
                path,
                start,
                length - start,
            )
            assert journal.torn.quarantine.parent == torn / "quarantine"
        assert grow(journal, 5)[0].first_lsn == blocks[-1].first_lsn
        journal.close()
        assert open_log(torn).torn is None


@pytest.mark.parametrize("after", [0, 4000])
def test_D3_a_last_frame_with_unwritten_sectors_is_cut_and_kept(tmp_path: Path, after: int) -> None:
    """With zeros behind it, as in preallocated space, and without."""
    blocks = make_log(tmp_path / "whole", 30, 1800)
    _, start, end = last_frame(tmp_path / "whole", blocks)
    for sector in range(start // SECTOR_BYTES, (end - 1) // SECTOR_BYTES + 1):
        torn = copy(tmp_path / "whole", tmp_path / "torn")
        path = segment_files(torn)[-1]
        low, high = max(start, sector * SECTOR_BYTES), min(end, (sector + 1) * SECTOR_BYTES)
        content = path.read_bytes()
        path.write_bytes(content[:low] + bytes(high - low) + content[high:] + bytes(after))
        journal = open_log(torn)
        assert list(journal.blocks()) == blocks[:-1]
        assert journal.torn is not None
        assert len(quarantined(torn)[0]) == end - start + after
        assert path.stat().st_size == start
        journal.close()


@pytest.mark.parametrize("damaged", [-1, 0])
def test_D4_a_flipped_bit_in_a_complete_frame_is_refused_and_nothing_is_cut(tmp_path: Path, damaged: int) -> None:
    blocks = make_log(tmp_path, 30, 200)
    path = segment_files(tmp_path)[0]
    whole = path.read_bytes()
    start = whole.index(blocks[damaged].raw)
    for at in range(len(blocks[damaged].raw)):
        flipped = bytearray(whole)
        flipped[start + at] ^= 1 << at % 8
        path.write_bytes(flipped)
        before = files_of(tmp_path)
        with pytest.raises(Corruption, match=f"{path.name} is corrupt at byte {start}: ") as corruption:
            open_log(tmp_path)
        assert (corruption.value.path, corruption.value.offset) == (path, start)
        assert files_of(tmp_path) == before


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_D4_whatever_is_written_over_a_log_no_wrong_record_is_read(tmp_path: Path, data: st.DataObject) -> None:
    """Opening ends with a prefix of the log or with a sentence, whatever bytes were put into its file."""
    shutil.rmtree(tmp_path)
    blocks = make_log(tmp_path, 30, 700, 60, 300)
    path = segment_files(tmp_path)[0]
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content)))
        content[at : at + data.draw(st.integers(0, 40))] = data.draw(st.binary(max_size=40))
    path.write_bytes(content)
    try:
        read = list(open_log(tmp_path).blocks())
    except (Corruption, Refused):
        return
    assert read == blocks[: len(read)]


def test_D4_a_broken_frame_before_another_is_corruption_however_it_is_broken(tmp_path: Path) -> None:
    blocks = make_log(tmp_path, 700, 30)
    path = segment_files(tmp_path)[0]
    whole = path.read_bytes()
    start = whole.index(blocks[0].raw)
    for low, high in (
        (start, start + 512),
        (start + 512, start + 700),
        (start, start + 784),
        (start + 80, start + 81),
    ):
        path.write_bytes(whole[:low] + bytes(high - low) + whole[high:])
        with pytest.raises(Corruption):
            open_log(tmp_path)


def test_D4_damage_in_an_older_segment_is_found_when_it_is_read(tmp_path: Path) -> None:
    blocks = make_log(tmp_path, *[300] * 10, segment_bytes=900)
    path = segment_files(tmp_path)[1]
    content = bytearray(path.read_bytes())
    content[-60] ^= 4
    path.write_bytes(content)
    journal = open_log(tmp_path, 900)
    with pytest.raises(Corruption, match=path.name):
        list(journal.blocks())
    assert list(journal.blocks(blocks[-1].first_lsn)) == blocks[-1:]


@pytest.mark.parametrize("change", ["shorter", "zeroed"])
def test_D4_an_older_segment_that_lost_its_end_is_corrupt_not_torn(tmp_path: Path, change: str) -> None:
    make_log(tmp_path, *[300] * 10, segment_bytes=900)
    path = segment_files(tmp_path)[1]
    content = path.read_bytes()
    path.write_bytes(content[:-350] + (bytes(350) if change == "zeroed" else b""))
    journal = open_log(tmp_path, 900)
    with pytest.raises(Corruption, match=path.name):
        list(journal.blocks())


@pytest.mark.parametrize("missing", [0, 1])
def test_D4_a_missing_segment_is_noticed(tmp_path: Path, missing: int) -> None:
    make_log(tmp_path, *[300] * 10, segment_bytes=900)
    segment_files(tmp_path)[missing].unlink()
    with pytest.raises(Corruption, match=r"missing"):
        open_log(tmp_path, 900)


def test_D4_any_flipped_bit_in_the_header_of_a_segment_is_refused(tmp_path: Path) -> None:
    blocks = make_log(tmp_path, 10)
    path = segment_files(tmp_path)[0]
    whole = path.read_bytes()
    for at in range(whole.index(blocks[0].raw)):
        flipped = bytearray(whole)
        flipped[at] ^= 1 << at % 8
        path.write_bytes(flipped)
        with pytest.raises(Corruption, match="at byte 0"):
            open_log(tmp_path)


def test_D4_a_segment_under_another_name_is_refused(tmp_path: Path) -> None:
    make_log(tmp_path, 10)
    path = segment_files(tmp_path)[0]
    path.rename(path.with_name("00000000000000000007.journal"))
    with pytest.raises(Corruption, match="begins with lsn 1"):
        open_log(tmp_path)


def test_D4_an_emptied_segment_is_corrupt(tmp_path: Path) -> None:
    make_log(tmp_path, 10)
    segment_files(tmp_path)[0].write_bytes(b"")
    with pytest.raises(Corruption, match="header of the segment is missing"):
        open_log(tmp_path)


@pytest.mark.parametrize("zeros", [1, 79, 84, 511, 512, 100_000])
def test_D6_preallocated_zeros_are_the_end_and_are_written_over(tmp_path: Path, zeros: int) -> None:
    blocks = make_log(tmp_path, 30, 700)
    path = segment_files(tmp_path)[0]
    content = path.read_bytes()
    path.write_bytes(content + bytes(zeros))
    journal = open_log(tmp_path)
    assert journal.torn is None
    assert list(journal.blocks()) == blocks
    more = grow(journal, 60)
    journal.close()
    assert path.read_bytes().startswith(content + more[0].raw)
    assert list(open_log(tmp_path).blocks()) == blocks + more


def test_D3_D6_what_a_torn_frame_left_in_prepared_space_is_gone_before_the_next(tmp_path: Path) -> None:
    """Its end was written, its beginning not: a shorter frame in its place must not have that behind it."""
    blocks = make_log(tmp_path, 30, 2000, prepared=True)
    path = segment_files(tmp_path)[0]
    content = path.read_bytes()
    start = content.index(blocks[1].raw)
    path.write_bytes(content[:start] + bytes(600) + content[start + 600 :])
    journal = open_log(tmp_path)
    assert journal.torn is not None
    more = grow(journal, 30)
    journal.close()
    assert path.read_bytes().rstrip(b"\0").endswith(blocks[0].raw + more[0].raw)
    assert list(open_log(tmp_path).blocks()) == [blocks[0], *more]


@pytest.mark.parametrize("zeros_after", [0, 7, 5000])
def test_D3_D6_a_prepared_tail_torn_at_every_byte_is_cut_and_kept(tmp_path: Path, zeros_after: int) -> None:
    blocks = make_log(tmp_path / "whole", 30, 200)
    _, start, end = last_frame(tmp_path / "whole", blocks)
    for written in range(start + 1, end):
        torn = copy(tmp_path / "whole", tmp_path / "torn")
        path = segment_files(torn)[-1]
        content = path.read_bytes()
        path.write_bytes(content[:written] + bytes(end - written + zeros_after))
        journal = open_log(torn)
        assert (list(journal.blocks()), journal.torn is None) == (blocks[:-1], False)
        assert [kept.rstrip(b"\0") for kept in quarantined(torn)] == [content[start:written].rstrip(b"\0")]
        assert path.stat().st_size == start
        journal.close()


def test_D6_only_zeros_behind_the_header_are_an_empty_log(tmp_path: Path) -> None:
    open_log(tmp_path).close()
    with segment_files(tmp_path)[0].open("ab") as file:
        file.write(bytes(9000))
    assert open_log(tmp_path).durable_lsn == 0


def test_I2_another_clusters_journal_is_refused_with_both_named(tmp_path: Path) -> None:
    make_log(tmp_path, 10)
    before = files_of(tmp_path)
    with pytest.raises(Refused, match=r"belongs to cluster cluster-1, this node to cluster other") as refused:
        Journal.open(tmp_path / "journal", "other")
    assert refused.value.code == ExitCode.WRONG_DIRECTORY
    assert files_of(tmp_path) == before


def test_I2_a_journal_from_the_future_is_refused_with_both_versions_named(tmp_path: Path) -> None:
    make_log(tmp_path, 10)
    path = segment_files(tmp_path)[0]
    content = bytearray(path.read_bytes())
    future = FORMAT_VERSION + 7
    content[8:12] = future.to_bytes(2, "little") + (future ^ 0xFFFF).to_bytes(2, "little")
    path.write_bytes(content)
    with pytest.raises(Refused, match=r"version 8, this program knows up to 1"):
        open_log(tmp_path)


def test_I1_a_directory_without_its_journal_is_refused_where_there_was_one(tmp_path: Path) -> None:
    for options in ({"create": False}, {"read_only": True}):
        with pytest.raises(Refused, match="holds no journal"):
            Journal.open(tmp_path / "journal", CLUSTER, **options)


def test_verify_reads_a_log_that_is_being_written_and_changes_nothing(tmp_path: Path) -> None:
    writer = open_log(tmp_path, 900)
    blocks = grow(writer, *[300] * 5)
    coming = next_block(writer, 300)
    path = segment_files(tmp_path)[-1]
    content = path.read_bytes()
    end = content.index(blocks[-1].raw) + len(blocks[-1].raw)
    path.write_bytes((content[:end] + coming.raw[:200]).ljust(len(content), b"\0"))
    before = files_of(tmp_path)
    reader = Journal.open(tmp_path / "journal", CLUSTER, read_only=True)
    assert list(reader.blocks()) == blocks
    assert reader.torn is None
    assert files_of(tmp_path) == before
    writer.append(coming)
    assert list(reader.blocks()) == blocks
    assert list(Journal.open(tmp_path / "journal", CLUSTER, read_only=True).blocks()) == [*blocks, coming]


def test_verify_looks_again_at_a_frame_that_is_being_written_over_zeros(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a write under way any part may be seen, here its end before its beginning."""
    writer = open_log(tmp_path)
    blocks = grow(writer, 30)
    coming = next_block(writer, 30)
    path = segment_files(tmp_path)[0]
    before = path.read_bytes()
    end = len(before.rstrip(b"\0"))
    path.write_bytes(before[:end] + bytes(20) + coming.raw[20:] + before[end + len(coming.raw) :])
    with pytest.raises(Corruption):
        Journal.open(tmp_path / "journal", CLUSTER, read_only=True)
    monkeypatch.setattr("time.sleep", lambda _: writer.append(coming) if writer.durable_lsn == 1 else None)
    assert list(Journal.open(tmp_path / "journal", CLUSTER, read_only=True).blocks()) == [*blocks, coming]


def test_a_file_that_cannot_be_read_is_the_disks_fault(tmp_path: Path) -> None:
    blocks = make_log(tmp_path, *[300] * 6, segment_bytes=900)
    journal = open_log(tmp_path, 900)
    path = segment_files(tmp_path)[0]
    path.unlink()
    path.mkdir()
    with pytest.raises(DiskFault, match=f"{path.name} could not be read: Is a directory"):
        list(journal.blocks())
    assert bytes_of(journal.read(blocks[-1].first_lsn, 1)) == blocks[-1].raw


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 1500), min_size=1, max_size=6), st.randoms(), st.integers(0, 3000))
def test_D3_any_mixture_of_written_and_unwritten_sectors_is_cut(
    tmp_path: Path, sizes: list[int], choice: random.Random, preallocated: int
) -> None:
    shutil.rmtree(tmp_path)
    blocks = make_log(tmp_path, *sizes)
    path, start, end = last_frame(tmp_path, blocks)
    content = bytearray(path.read_bytes() + bytes(preallocated))
    for sector in range(start // SECTOR_BYTES, end // SECTOR_BYTES + 1):
        if choice.random() < 0.5:
            low, high = max(start, sector * SECTOR_BYTES), min(end, (sector + 1) * SECTOR_BYTES)
            content[low:high] = bytes(max(0, high - low))
    if not preallocated and choice.random() < 0.5:
        del content[choice.randrange(start, end) :]
    path.write_bytes(content)
    journal = open_log(tmp_path)
    assert list(journal.blocks()) in (blocks, blocks[:-1])
    grow(journal, 10)
    journal.close()
    assert open_log(tmp_path).torn is None
