"""A disk that loses power: the real file system below, and a record of what was synced above it.

`CrashDisk` stands in for the file operations of `ftwallet.platform`. It ends the world right before the
operation with a given number; `after_power_loss` then makes the files that a disk may show afterwards: what
was synced is there, and of the rest any part, sector by sector for content, operation by operation for
names.
"""

from __future__ import annotations

import os
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest

from ftwallet import platform

SECTOR = 512
OPERATIONS = ("create_file", "write_all", "fdatasync", "fsync_directory", "rename", "truncate", "remove")
DIRECTORY = -1

Names = dict[str, int]


class Crash(BaseException):
    """The process is gone; nothing may catch this."""


class NameChange(NamedTuple):
    """A change of a directory, not synced yet: `removed` loses its name, `added` gets the inode."""

    removed: str | None
    added: str | None
    inode: int


class CrashDisk:
    """Files below `root`, which a test then uses through `ftwallet.platform`."""

    def __init__(self, root: Path, shadow: Path, patch: pytest.MonkeyPatch, crash_at: int) -> None:
        self.root = root
        self.done: list[str] = []
        self._shadow = shadow  # a second link to every file, so that no inode number is used twice
        self._crash_at = crash_at
        self._content: dict[int, bytes] = {}
        self._names: dict[Path, Names] = {}
        self._changes: dict[Path, list[NameChange]] = {}
        self._real = {name: getattr(platform, name) for name in OPERATIONS}
        shadow.mkdir()
        for directory in [root, *(path for path in root.rglob("*") if path.is_dir())]:
            self._names[directory] = self._seen_names(directory)
        for path in root.rglob("*"):
            if path.is_file():
                self._watch(path)
                self._content[path.stat().st_ino] = path.read_bytes()
        for name in OPERATIONS:
            patch.setattr(platform, name, getattr(self, f"_{name}"))

    def live_on(self) -> None:
        """Only the process ended: another uses the same files, and nothing ends it."""
        self._crash_at = -1

    def after_power_loss(self, target: Path, choice: Random) -> None:
        """Make the files that may be there when power is back."""
        self._rebuild(self.root, target, choice)

    def _rebuild(self, directory: Path, target: Path, choice: Random) -> None:
        target.mkdir()
        names = dict(self._names.get(directory, {}))
        changes = self._changes.get(directory, [])
        kept = choice.choice([0, len(changes), choice.randint(0, len(changes))])
        for change in changes[:kept] if choice.random() < 0.5 else choice.sample(changes, kept):
            _apply(names, change)
        for name, inode in names.items():
            if inode == DIRECTORY:
                self._rebuild(directory / name, target / name, choice)
            else:
                (target / name).write_bytes(self._content_after(inode, choice))

    def _content_after(self, inode: int, choice: Random) -> bytes:
        synced = self._content.get(inode, b"")
        seen = (self._shadow / str(inode)).read_bytes()
        mixed = bytearray(seen)
        for start in range(0, len(mixed), SECTOR):
            if choice.random() < 0.5:
                old = synced[start : start + SECTOR]
                mixed[start : start + SECTOR] = old.ljust(len(mixed[start : start + SECTOR]), b"\0")
        shorter = bytes(mixed[: choice.randint(min(len(synced), len(seen)), len(seen))])
        return choice.choice([synced, seen, bytes(mixed), shorter])

    def _seen_names(self, directory: Path) -> Names:
        return {path.name: DIRECTORY if path.is_dir() else path.stat().st_ino for path in directory.iterdir()}

    def _watch(self, path: Path) -> None:
        link = self._shadow / str(path.stat().st_ino)
        if not link.exists():
            os.link(path, link)

    def _step(self, name: str) -> None:
        if len(self.done) == self._crash_at:
            raise Crash(f"before operation {self._crash_at}, {name}")
        self.done.append(name)

    def _change(self, directory: Path, removed: str | None, added: str | None, inode: int) -> None:
        self._changes.setdefault(directory, []).append(NameChange(removed, added, inode))

    def _create_file(self, path: Path) -> int:
        self._step("create_file")
        fd: int = self._real["create_file"](path)
        self._watch(path)
        self._change(path.parent, None, path.name, path.stat().st_ino)
        return fd

    def _write_all(self, fd: int, data: bytes, offset: int) -> None:
        self._step("write_all")
        self._real["write_all"](fd, data, offset)

    def _fdatasync(self, fd: int) -> None:
        self._step("fdatasync")
        inode = os.fstat(fd).st_ino
        self._content[inode] = (self._shadow / str(inode)).read_bytes()

    def _fsync_directory(self, path: Path) -> None:
        self._step("fsync_directory")
        self._names[path] = self._seen_names(path)
        self._changes.pop(path, None)

    def _rename(self, source: Path, target: Path) -> None:
        self._step("rename")
        self._real["rename"](source, target)
        self._change(target.parent, source.name, target.name, target.stat().st_ino)

    def _truncate(self, fd: int, length: int) -> None:
        self._step("truncate")
        self._real["truncate"](fd, length)

    def _remove(self, path: Path) -> None:
        self._step("remove")
        self._real["remove"](path)
        self._change(path.parent, path.name, None, 0)


def _apply(names: Names, change: NameChange) -> None:
    if change.removed is not None:
        names.pop(change.removed, None)
    if change.added is not None:
        names[change.added] = change.inode
