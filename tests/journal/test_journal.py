"""The journal against a list, and what it refuses."""

from __future__ import annotations

import random
import threading
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftwallet import platform
from ftwallet.errors import BrokenInvariant, DiskFault, PeerViolation
from ftwallet.journal import NO_CHAIN, Block, Journal, encode_block, segments
from tests.journal.logs import (
    CLUSTER,
    bytes_of,
    grow,
    make_log,
    next_block,
    open_log,
    quarantined,
    segment_files,
)

STEPS = st.one_of(
    st.tuples(st.just("append"), st.integers(0, 900)),
    st.tuples(st.just("epoch"), st.integers(1, 3)),
    st.tuples(st.just("mark"), st.integers(0, 100)),
    st.tuples(st.just("cut"), st.integers(0, 100)),
    st.tuples(st.just("reopen"), st.just(0)),
)


class Model:
    """The journal as a list."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.epoch = 1

    @property
    def lsn(self) -> int:
        return self.blocks[-1].last_lsn if self.blocks else 0

    def boundaries(self) -> dict[int, bytes]:
        return {0: NO_CHAIN} | {block.last_lsn: block.chain for block in self.blocks}

    def history(self) -> list[tuple[int, int]]:
        return list({block.epoch: block.last_lsn for block in self.blocks}.items())


def play(directory: Path, model: Model, steps: list[tuple[str, int]], segment_bytes: int) -> Journal:
    journal = open_log(directory, segment_bytes)
    for action, number in steps:
        if action == "append":
            model.blocks.append(next_block(journal, number, 1 + number % 3, model.epoch))
            journal.append(model.blocks[-1])
        elif action == "epoch":
            model.epoch += number
        elif action == "mark":
            journal.append_mark(min(number, model.lsn))
        elif action == "cut":
            lsn = [*model.boundaries()][number % len(model.boundaries())]
            gone = [block for block in model.blocks if block.first_lsn > lsn]
            assert journal.cut(lsn, "a test") == gone
            model.blocks = [block for block in model.blocks if block.last_lsn <= lsn]
        else:
            before = journal.commit_lsn
            journal.close()
            journal = open_log(directory, segment_bytes)
            assert journal.commit_lsn == before
        assert journal.durable_lsn == model.lsn
        assert journal.commit_lsn <= model.lsn
    return journal


@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, max_size=25), st.sampled_from([600, 1500, 1 << 20]), st.randoms())
def test_the_journal_is_a_list(steps: list[tuple[str, int]], segment_bytes: int, choice: random.Random) -> None:
    # Places are noted often here, so that every look-up has some to begin from.
    with TemporaryDirectory() as name, mock.patch.object(segments, "_POINT_EVERY_BYTES", 200):
        model = Model()
        journal = play(Path(name), model, steps, segment_bytes)
        boundaries = model.boundaries()
        for lsn in range(model.lsn + 2):
            following = [block for block in model.blocks if block.last_lsn >= max(lsn, 1)]
            assert list(journal.blocks(max(lsn, 1))) == following
            if lsn in boundaries:
                assert journal.chain_at(lsn) == boundaries[lsn]
            else:
                with pytest.raises(KeyError):
                    journal.chain_at(lsn)
        assert journal.history == model.history()
        assert journal.chain == boundaries[model.lsn]
        limit = choice.randrange(1, 3000)
        read = journal.read(1, limit)
        assert read == model.blocks[: len(read)]
        assert len(read) <= 1 or len(bytes_of(read)) <= limit
        journal.close()
        again = open_log(Path(name), segment_bytes)
        assert (again.chain, again.history, again.torn) == (journal.chain, journal.history, None)
        again.close()


def test_an_empty_journal(tmp_path: Path) -> None:
    journal = open_log(tmp_path)
    assert (journal.durable_lsn, journal.commit_lsn, journal.epoch, journal.chain) == (0, 0, 0, NO_CHAIN)
    assert journal.history == []
    assert list(journal.blocks()) == []
    assert journal.read(1, 100) == []
    assert journal.chain_at(0) == NO_CHAIN
    assert journal.cut(0, "nothing") == []
    assert journal.free_bytes() > 0


def test_a_block_that_does_not_continue_the_log_is_never_written(tmp_path: Path) -> None:
    journal = open_log(tmp_path)
    grow(journal, 10, 10, epoch=5)
    lsn, chain = journal.durable_lsn, journal.chain
    size = segment_files(tmp_path)[0].stat().st_size
    wrong = {
        "lsn 5, and 4 is next": encode_block(5, lsn + 2, 1, 0, chain, b"x"),
        "lsn 3, and 4 is next": encode_block(5, lsn, 1, 0, chain, b"x"),
        "epoch 4 is older": encode_block(4, lsn + 1, 1, 0, chain, b"x"),
        "commit_lsn 4": encode_block(5, lsn + 1, 1, lsn + 1, chain, b"x"),
        "hash chain breaks": encode_block(5, lsn + 1, 1, 0, NO_CHAIN, b"x"),
    }
    for why, block in wrong.items():
        with pytest.raises(PeerViolation, match=why):
            journal.append(block)
    assert segment_files(tmp_path)[0].stat().st_size == size
    grow(journal, 10, epoch=5)


def test_a_mark_past_the_end_is_a_broken_invariant(tmp_path: Path) -> None:
    journal = open_log(tmp_path)
    grow(journal, 10)
    with pytest.raises(BrokenInvariant, match=r"commit_lsn 2 .* ends at 1"):
        journal.append_mark(2)
    journal.append_mark(1)
    size = segment_files(tmp_path)[0].stat().st_size
    journal.append_mark(1)
    assert segment_files(tmp_path)[0].stat().st_size == size


def test_marks_take_no_lsn_and_their_commit_lsn_is_durable(tmp_path: Path) -> None:
    journal = open_log(tmp_path)
    grow(journal, 10, 10)
    journal.append_mark(2)
    grow(journal, 10)
    journal.append_mark(3)
    journal.close()
    again = open_log(tmp_path)
    assert (again.durable_lsn, again.commit_lsn) == (4, 3)
    assert [block.first_lsn for block in again.blocks()] == [1, 2, 4]


def test_only_bytes_that_are_synced_are_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = open_log(tmp_path)
    seen: list[tuple[int, int]] = []
    monkeypatch.setattr(platform, "fdatasync", lambda fd: seen.append((journal.durable_lsn, len(journal.read(1, 99)))))
    grow(journal, 10, 10)
    assert seen == [(0, 0), (1, 1)]


def test_a_block_larger_than_what_is_read_at_once(tmp_path: Path) -> None:
    journal = open_log(tmp_path, 64 << 20)
    blocks = grow(journal, 100, 3 << 20, 100, (1 << 20) + 5, 7)
    assert list(journal.blocks()) == blocks
    journal.close()
    again = open_log(tmp_path)
    assert list(again.blocks()) == blocks
    assert again.read(2, 10) == blocks[1:2]


def test_lsns_begin_at_1(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="begins with lsn 1"):
        open_log(tmp_path).read(0, 10)


def test_holds_tells_this_log_from_another(tmp_path: Path) -> None:
    journal = open_log(tmp_path)
    blocks = grow(journal, 10, 20, 30)
    assert journal.holds(1, blocks[0].chain)
    assert not journal.holds(1, blocks[1].chain)
    assert not journal.holds(2, blocks[1].chain)
    assert not journal.holds(99, blocks[1].chain)


def test_a_segment_is_closed_when_it_is_full_and_the_log_goes_on(tmp_path: Path) -> None:
    blocks = make_log(tmp_path, *[300] * 20, segment_bytes=1500)
    names = [path.name for path in segment_files(tmp_path)]
    assert len(names) > 3
    assert names[0] == "00000000000000000001.journal"
    firsts = {f"{block.first_lsn:020d}.journal" for block in blocks}
    assert set(names) <= firsts
    journal = open_log(tmp_path, 1500)
    assert list(journal.blocks()) == blocks


def test_D6_frames_come_where_zeros_were_prepared_and_the_file_does_not_grow(tmp_path: Path) -> None:
    journal = open_log(tmp_path, 10_000)
    grow(journal, 30)
    path = segment_files(tmp_path)[0]
    assert path.stat().st_size == 10_000
    blocks = grow(journal, *[300] * 20)
    journal.close()
    assert (path.stat().st_size, len(segment_files(tmp_path))) == (10_000, 1)
    journal = open_log(tmp_path, 10_000)
    blocks += grow(journal, 300)
    assert path.stat().st_size == 10_000
    assert journal.cut(blocks[0].last_lsn, "a test") == blocks[1:]
    assert path.stat().st_size == len(path.read_bytes().rstrip(b"\0"))
    blocks[1:] = grow(journal, 20, epoch=2)
    assert path.read_bytes().rstrip(b"\0").endswith(bytes_of(blocks))


def test_D6_ahead_of_the_end_is_little_and_of_a_large_frame_nothing(tmp_path: Path) -> None:
    journal = open_log(tmp_path, 64 << 20)
    path = segment_files(tmp_path)[0]
    for size, most in ((30, 128 * 200), (30_000, 1 << 20), (1_500_000, 0)):
        grow(journal, size)
        content = path.read_bytes()
        assert 0 <= len(content) - len(content.rstrip(b"\0")) <= most


def test_cut_at_every_boundary_across_segments(tmp_path: Path) -> None:
    for number in range(12):
        directory = tmp_path / str(number)
        journal = open_log(directory, 1200)
        blocks = grow(journal, *[300] * 12)
        journal.append_mark(journal.durable_lsn)
        lsn = blocks[number - 1].last_lsn if number else 0
        assert journal.cut(lsn, "not common") == blocks[number:]
        assert list(journal.blocks()) == blocks[:number]
        assert bytes_of(blocks[number:])[:300] in b"".join(quarantined(directory))
        assert grow(journal, 50, epoch=9)[0].first_lsn == lsn + 1
        journal.close()
        again = open_log(directory, 1200)
        assert again.chain == journal.chain
        assert again.commit_lsn == journal.commit_lsn <= again.durable_lsn


def test_every_block_is_read_across_segments_with_many_places_noted(tmp_path: Path) -> None:
    journal = open_log(tmp_path, 300_000)
    blocks = grow(journal, *([3_000] * 400))
    assert len(segment_files(tmp_path)) > 3
    assert list(journal.blocks(1)) == blocks
    journal.close()
    assert list(open_log(tmp_path, 300_000).blocks(1)) == blocks


def test_a_cut_keeps_all_that_it_removes(tmp_path: Path) -> None:
    journal = open_log(tmp_path, 1 << 20)
    blocks = grow(journal, 100, 700, 10)
    journal.cut(1, "the partner does not have it")
    assert quarantined(tmp_path) == [bytes_of(blocks[1:])]
    about = next(tmp_path.glob("quarantine/*/about.json")).read_text()
    assert '"the partner does not have it"' in about
    assert '"last_lsn_kept": 1' in about


def test_a_cut_inside_a_block_is_refused(tmp_path: Path) -> None:
    journal = open_log(tmp_path)
    blocks = grow(journal, 10, 10, 10)
    for lsn in (2, 4, 5, 99, -1):
        with pytest.raises(KeyError):
            journal.cut(lsn, "wrong")
    assert list(journal.blocks()) == blocks
    assert not (tmp_path / "quarantine").exists()


def test_a_log_opened_for_reading_is_not_written(tmp_path: Path) -> None:
    make_log(tmp_path, 10, 10)
    journal = Journal.open(tmp_path / "journal", CLUSTER, 1, read_only=True)
    with pytest.raises(BrokenInvariant, match="not open for that"):
        journal.append(next_block(journal))
    assert len(segment_files(tmp_path)) == 1


def test_a_closed_journal_is_not_written(tmp_path: Path) -> None:
    journal = open_log(tmp_path)
    journal.close()
    journal.close()
    with pytest.raises(BrokenInvariant):
        grow(journal, 10)


def test_readers_in_other_threads_see_only_whole_durable_blocks(tmp_path: Path) -> None:
    journal = open_log(tmp_path, 20_000)
    faults: list[BaseException] = []
    done = threading.Event()

    def read_all() -> None:
        try:
            while not done.is_set():
                # In one read: between two the log may be cut, and have other blocks in the place of those seen.
                lsns = [block.first_lsn for block in journal.read(1, 1 << 30)]
                assert lsns == sorted(set(lsns))
                assert lsns[:1] in ([], [1])
                assert journal.chain_at(0) == NO_CHAIN
        except BaseException as error:
            faults.append(error)

    readers = [threading.Thread(target=read_all) for _ in range(2)]
    for reader in readers:
        reader.start()
    for round_number in range(30):
        blocks = grow(journal, *[500] * 20, epoch=round_number + 1)
        if round_number % 3 == 2:
            journal.cut(blocks[7].last_lsn, "a test")
    done.set()
    for reader in readers:
        reader.join(20)
    assert faults == []
    assert next(journal.blocks()).first_lsn == 1


def test_D2_a_poisoned_journal_still_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = open_log(tmp_path)
    blocks = grow(journal, 10, 10)

    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(platform, "fdatasync", fail)
    with pytest.raises(DiskFault):
        grow(journal, 10)
    assert list(journal.blocks()) == blocks
    assert journal.durable_lsn == blocks[-1].last_lsn


def test_a_cut_forgets_no_commit_that_only_the_cut_blocks_told(tmp_path: Path) -> None:
    journal = open_log(tmp_path)
    for lsn, commit_lsn in enumerate((0, 0, 1, 3), 1):
        journal.append(encode_block(1, lsn, 1, commit_lsn, journal.chain, b"x"))
    journal.cut(3, "not common")
    assert journal.commit_lsn == 3
    journal.cut(2, "not common, though it was committed")
    assert (journal.durable_lsn, journal.commit_lsn) == (2, 2)
    journal.close()
    assert open_log(tmp_path).commit_lsn == 2
