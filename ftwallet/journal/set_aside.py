"""Reading what lies in quarantine: tails that were cut from a log, and whole logs that were damaged.

It believes nothing but whole frames. Where one does not decode it says so and goes on with the next that does, so that
as much as can be read is told. It changes nothing, and needs neither the rest of the log nor a running node.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

from ftwallet.errors import DiskFault, Refused
from ftwallet.journal.damage import disk_errors
from ftwallet.journal.frames import Block, End, judge, next_whole_frame, whole_frame
from ftwallet.journal.segments import SUFFIX, frames_begin_at

_NAME = re.compile(r"(\d{8}T\d{6})(?:\.(\d{6}))?Z-(?:(\d+)|damaged)\+*")
_TAIL = re.compile(r"(\d+)-from-byte-(\d+)\.frames")
_UNFINISHED = "not recorded: the copy was never finished, and nothing was cut then"
_NO_REASON = "not recorded: the node ended before it could write the reason"


class Copy(NamedTuple):
    """One directory in quarantine. `last_lsn_kept`: the last record that stayed in the log; None for a whole log.

    `at` is None, and `why` says so, for a directory that no node has made.
    """

    path: Path
    at: datetime | None
    why: str
    last_lsn_kept: int | None

    @property
    def size(self) -> int:
        """Bytes of all its files. Raises DiskFault."""
        with disk_errors(self.path, "read"):
            return sum(path.stat().st_size for path in self.path.rglob("*") if path.is_file())

    def files(self) -> list[Path]:
        """Return the files with frames, in the order of the log. Raises DiskFault."""
        with disk_errors(self.path, "read"):
            return sorted(self.path.glob("*.frames")) or sorted(self.path.glob(f"journal/*{SUFFIX}"))


def copies(quarantine: Path) -> list[Copy]:
    """Return all copies, oldest first; none where the directory does not exist. Raises DiskFault."""
    if not quarantine.exists():
        return []
    with disk_errors(quarantine, "read"):
        found = [_copy(path) for path in quarantine.iterdir() if path.is_dir()]
    return sorted(found, key=lambda copy: copy.path.name)


class Blocks:
    """One pass over the blocks of a copy; `problems` says afterwards, in sentences, what could not be read."""

    def __init__(self, copy: Copy) -> None:
        self.problems: list[str] = []
        self._copy = copy

    def __iter__(self) -> Iterator[Block]:
        """Yield each block that is whole."""
        for path in self._files():
            try:
                yield from self._blocks(path)
            except (DiskFault, Refused) as error:
                self.problems.append(str(error))

    def _files(self) -> list[Path]:
        try:
            return self._copy.files()
        except DiskFault as error:
            self.problems.append(str(error))
            return []

    def _blocks(self, path: Path) -> Iterator[Block]:
        cut_at = int(tail[2]) if (tail := _TAIL.fullmatch(path.name)) else 0
        place = 0 if cut_at else frames_begin_at(path)  # what was not cut in the middle has its segment's header
        with disk_errors(path, "read"):
            content = path.read_bytes()
        while place < len(content):
            frame = whole_frame(content, place)
            if isinstance(frame, Block):
                yield frame
            place = self._pass_over(path, content, place, cut_at) if frame is None else place + len(frame.raw)

    def _pass_over(self, path: Path, content: bytes, place: int, cut_at: int) -> int:
        """Say what is not readable from `place` on, and return where something is again, or the end."""
        verdict = judge(content, place, cut_at)
        if isinstance(verdict, End):
            return len(content)
        found = next_whole_frame(content, place + 1)
        until = len(content) if found is None else found
        self.problems.append(f"{path}: {until - place:,} bytes from byte {place:,} on: {verdict.why}")
        return until


def _copy(path: Path) -> Copy:
    name = _NAME.fullmatch(path.name)
    if name is None:
        return Copy(path, None, "unknown: a node gives its copies other names", None)
    at = datetime.strptime(f"{name[1]}.{name[2] or 0}", "%Y%m%dT%H%M%S.%f").replace(tzinfo=UTC)
    if name[3] is None:
        return Copy(path, at, _text(path / "why.txt").strip() or _NO_REASON, None)
    return Copy(path, at, _why_cut(path / "about.json"), int(name[3]))


def _why_cut(about: Path) -> str:
    text = _text(about)
    if not text:
        return _UNFINISHED
    try:
        return str(msgspec.json.decode(text, type=dict[str, object])["why"])
    except (msgspec.DecodeError, KeyError):
        return f"unknown: {about} is damaged"


def _text(path: Path) -> str:
    if not path.exists():
        return ""
    with disk_errors(path, "read"):
        return path.read_text(errors="replace")
