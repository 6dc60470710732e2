"""A crash before every single file operation, of the process alone and of the whole machine."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from ftwallet.journal import NO_CHAIN, Block
from ftwallet.journal.checkpoints import CheckpointMeta, load_newest, write_checkpoint
from ftwallet.journal.identity import Identity
from tests.journal.crash_disk import Crash, CrashDisk
from tests.journal.logs import close_logs, grow, make_log, next_block, open_log, quarantined

POWER_LOSSES = 5
"""How many of the disks that a power loss may leave are tried for each operation."""

pytestmark = pytest.mark.usefixtures("no_syncs")  # CrashDisk has its own


class Story:
    """What a scenario had been promised by the time it was ended."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.durable = 0
        self.done = False


def crash_everywhere(
    tmp_path: Path,
    prepare: Callable[[Path], None],
    scenario: Callable[[Path, Story], None],
    check: Callable[[Path, Story], None],
) -> list[str]:
    """Run the scenario, ended before its first operation, its second …; check what each leaves.

    Return the operations.
    """
    for crash_at in range(1000):
        node, after, story = tmp_path / f"{crash_at}" / "a", tmp_path / f"{crash_at}" / "after", Story()
        node.mkdir(parents=True)
        prepare(node)
        with pytest.MonkeyPatch.context() as patch:
            disk = CrashDisk(node, tmp_path / f"{crash_at}" / "shadow", patch, crash_at)
            with contextlib.suppress(Crash):
                scenario(node, story)
                story.done = True
        shutil.copytree(node, after)
        check(after, story)
        for seed in range(POWER_LOSSES):
            shutil.rmtree(after)
            disk.after_power_loss(after, Random(f"{crash_at} {seed}"))
            check(after, story)
        shutil.rmtree(tmp_path / f"{crash_at}")
        close_logs()
        if story.done:
            return disk.done
    raise AssertionError("the scenario never ended")


def goes_on(node: Path, segment_bytes: int) -> None:
    """The log can be written and opened again."""
    journal = open_log(node, segment_bytes)
    more = grow(journal, 40, 400, 400, epoch=7)
    lsn, chain = journal.durable_lsn, journal.chain
    journal.close()
    again = open_log(node, segment_bytes)
    assert (again.durable_lsn, again.chain, again.torn) == (lsn, chain, None)
    assert list(again.blocks(more[0].first_lsn)) == more
    again.close()


def append_all(node: Path, story: Story) -> None:
    journal = open_log(node, 900)
    story.durable = journal.durable_lsn
    for size in (100, 700, 30, 400, 1100):
        block = next_block(journal, size)
        story.blocks.append(block)
        journal.append(block)
        story.durable = journal.durable_lsn
        journal.append_mark(journal.durable_lsn)


def holds_what_was_promised(node: Path, story: Story) -> None:
    journal = open_log(node, 900)
    read = list(journal.blocks())
    assert read == story.blocks[: len(read)]
    assert journal.durable_lsn >= story.durable
    assert journal.commit_lsn <= journal.durable_lsn
    journal.close()
    goes_on(node, 900)


def test_C8_D5_appending_and_changing_segments(tmp_path: Path) -> None:
    done = crash_everywhere(tmp_path, lambda _: None, append_all, holds_what_was_promised)
    assert done.count("rename") >= 3


def append_and_cut(node: Path, story: Story) -> None:
    """Most frames come to where zeros were prepared, and one in two places where others were cut."""
    journal = open_log(node, 4096)
    for size in (10, 200, 700, 30, 100):
        story.blocks.append(next_block(journal, size))
        journal.append(story.blocks[-1])
        story.durable = journal.durable_lsn
    story.durable = 2
    journal.cut(2, "not common")
    del story.blocks[2:]
    for size in (20, 900):
        story.blocks.append(next_block(journal, size, epoch=2))
        journal.append(story.blocks[-1])
        story.durable = journal.durable_lsn


def holds_all_that_was_not_cut(node: Path, story: Story) -> None:
    journal = open_log(node, 4096)
    read = list(journal.blocks())
    assert read[:2] == story.blocks[: min(len(read), 2)]
    assert journal.durable_lsn >= story.durable
    if len(story.blocks) > 2 and story.blocks[2].epoch == 2 and len(read) > 2:
        assert read == story.blocks[: len(read)]
    journal.close()
    goes_on(node, 4096)


def test_C8_D6_appending_where_zeros_were_prepared_and_others_were_cut(tmp_path: Path) -> None:
    crash_everywhere(tmp_path, lambda _: None, append_and_cut, holds_all_that_was_not_cut)


WHOLE = (300, 300, 300, 300, 300, 300, 300)


def prepare_whole(node: Path) -> None:
    make_log(node, *WHOLE, segment_bytes=900)


@pytest.mark.parametrize("kept", [0, 3, 4])
def test_C8_D5_cutting_across_segments(tmp_path: Path, kept: int) -> None:
    reference = make_log(tmp_path / "reference", *WHOLE, segment_bytes=900)
    lsn = reference[kept - 1].last_lsn if kept else 0

    def cut(node: Path, _: Story) -> None:
        open_log(node, 900).cut(lsn, "not common")

    def check(node: Path, story: Story) -> None:
        journal = open_log(node, 900)
        read = list(journal.blocks())
        assert read == reference[: len(read)]
        assert len(read) >= kept
        if story.done:
            assert len(read) == kept
        if len(read) < len(reference):
            copies = quarantined(node)
            assert all(any(block.raw in copy for copy in copies) for block in reference[kept:])
        journal.cut(lsn, "again")
        journal.close()
        goes_on(node, 900)
        assert list(open_log(node, 900).blocks())[:kept] == reference[:kept]

    crash_everywhere(tmp_path, prepare_whole, cut, check)


def test_C8_D3_cutting_a_torn_tail(tmp_path: Path) -> None:
    reference = make_log(tmp_path / "reference", 300, 300, 700)

    def prepare(node: Path) -> None:
        make_log(node, 300, 300, 700)
        path = next((node / "journal").glob("*.journal"))
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size - 100)

    def check(node: Path, _: Story) -> None:
        journal = open_log(node)
        assert list(journal.blocks()) == reference[:2]
        assert reference[2].raw[:-100] in quarantined(node)
        journal.close()
        goes_on(node, 900)

    crash_everywhere(tmp_path, prepare, lambda node, _: open_log(node).close(), check)


def checkpoint_of(lsn: int) -> CheckpointMeta:
    return CheckpointMeta(lsn, 1, NO_CHAIN, bytes(32), [(1, lsn)])


def test_C8_D5_writing_a_checkpoint(tmp_path: Path) -> None:
    chunks = [b"x" * 600, b"y" * 40]

    def prepare(node: Path) -> None:
        for lsn in (1, 2):
            write_checkpoint(node / "checkpoints", checkpoint_of(lsn), chunks)

    def check(node: Path, story: Story) -> None:
        loaded = load_newest(node / "checkpoints")
        assert loaded is not None
        assert loaded[0] in ([checkpoint_of(3)] if story.done else [checkpoint_of(2), checkpoint_of(3)])
        assert list(loaded[1]) == chunks
        write_checkpoint(node / "checkpoints", checkpoint_of(4), chunks)
        names = sorted(path.name for path in (node / "checkpoints").iterdir())
        assert len(names) == 2
        assert names[-1].startswith("00000000000000000004")

    def write(node: Path, _: Story) -> None:
        write_checkpoint(node / "checkpoints", checkpoint_of(3), chunks)

    crash_everywhere(tmp_path, prepare, write, check)


def test_C8_D5_recording_an_epoch(tmp_path: Path) -> None:
    def prepare(node: Path) -> None:
        Identity.create(node, "cluster-1", "a").record_epoch(4)

    def check(node: Path, story: Story) -> None:
        assert Identity.load(node).epoch in ([5] if story.done else [4, 5])

    crash_everywhere(tmp_path, prepare, lambda node, _: Identity.load(node).record_epoch(5), check)


def test_D5_what_the_next_process_promises_holds_after_a_kill_and_a_power_loss(tmp_path: Path) -> None:
    """A process is killed before each of its operations, the next appends, and then the power fails."""
    for killed_at in range(1000):
        node, after, story = tmp_path / f"{killed_at}" / "a", tmp_path / f"{killed_at}" / "after", Story()
        node.mkdir(parents=True)
        with pytest.MonkeyPatch.context() as patch:
            disk = CrashDisk(node, tmp_path / f"{killed_at}" / "shadow", patch, killed_at)
            with contextlib.suppress(Crash):
                append_all(node, story)
                story.done = True
            disk.live_on()
            journal = open_log(node, 900)
            story.blocks = [*journal.blocks(), *grow(journal, 50)]
            story.durable = journal.durable_lsn
        for seed in range(POWER_LOSSES):
            disk.after_power_loss(after, Random(f"{killed_at} {seed}"))
            holds_what_was_promised(after, story)
            shutil.rmtree(after)
        close_logs()
        if story.done:
            return
