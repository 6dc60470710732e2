"""Small logs to try the journal on."""

from __future__ import annotations

import os
from pathlib import Path

from ftwallet.journal import Block, Journal, encode_block

CLUSTER = "cluster-1"

_opened: list[Journal] = []


def next_block(journal: Journal, size: int = 30, count: int = 1, epoch: int = 1) -> Block:
    """A block that continues the journal, with a payload of `size` bytes that no other block has."""
    lsn = journal.durable_lsn + 1
    payload = (b"%d|" % lsn).ljust(size, b"x")[:size] if size else b""
    return encode_block(epoch, lsn, count, journal.commit_lsn, journal.chain, payload)


def grow(journal: Journal, *sizes: int, epoch: int = 1) -> list[Block]:
    """Append a block for each size, of one, two and three records in turn."""
    blocks = []
    for number, size in enumerate(sizes):
        block = next_block(journal, size, 1 + number % 3, epoch)
        journal.append(block)
        blocks.append(block)
    return blocks


def open_log(directory: Path, segment_bytes: int = 1 << 20) -> Journal:
    """Open the journal of a node directory; it is closed at the end of the test at the latest."""
    _opened.append(Journal.open(directory / "journal", CLUSTER, segment_bytes))
    return _opened[-1]


def close_logs() -> None:
    """Close every journal that was opened."""
    while _opened:
        _opened.pop().close()


def make_log(directory: Path, *sizes: int, segment_bytes: int = 1 << 20, prepared: bool = False) -> list[Block]:
    """Make a journal with blocks of these sizes and close it; unless `prepared`, without zeros behind its end."""
    journal = open_log(directory, segment_bytes)
    blocks = grow(journal, *sizes)
    journal.close()
    if not prepared:
        path = segment_files(directory)[-1]
        os.truncate(path, path.read_bytes().rindex(blocks[-1].raw) + len(blocks[-1].raw))
    return blocks


def segment_files(directory: Path) -> list[Path]:
    """The segment files of a node directory, oldest first."""
    return sorted((directory / "journal").glob("*.journal"))


def quarantined(directory: Path) -> list[bytes]:
    """What finished copies in quarantine hold, in the order of their making and of the log."""
    copies = sorted(path.parent for path in directory.glob("quarantine/*/about.json"))
    return [path.read_bytes() for copy in copies for path in sorted(copy.glob("*.frames"))]


def bytes_of(blocks: list[Block]) -> bytes:
    """The blocks as they stand in the file."""
    return b"".join(block.raw for block in blocks)
