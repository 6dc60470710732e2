"""Files, and what of them would survive the loss of power: the real file system, and a record of what was synced.

The methods of `UnsyncedFiles` stand in for the operations of `ftwallet.platform`. What was synced is there when power
is back; of the rest any part, sector by sector for content, name by name for directories, or what a test says (`Loss`).
"""

from __future__ import annotations

import os
from enum import Enum, auto
from pathlib import Path
from random import Random
from typing import NamedTuple

from ftwallet import platform

SECTOR = 512
OPERATIONS = ("create_file", "write_all", "fdatasync", "fsync_directory", "rename", "truncate", "remove")
DIRECTORY = -1

REAL = {name: getattr(platform, name) for name in OPERATIONS}

Names = dict[str, int]


class Loss(Enum):
    """What of all that was never synced is lost with the power: any part of it, or just this."""

    ANY = auto()
    ALL = auto()
    CONTENT = auto()  # of every file; all names are there
    NAMES = auto()  # what came has not come, what was removed is there again; all content is there
    MIDDLE = auto()  # of every file all unsynced sectors but the first and the last; all names are there


class Change(NamedTuple):
    """A name that came or went and is not synced yet."""

    removed: str | None
    added: str | None
    inode: int


class UnsyncedFiles:
    """The files below `root`."""

    def __init__(self, root: Path, shadow: Path) -> None:
        self.root = root
        self._shadow = shadow  # a second link to every file, so that no inode number is used twice
        self._synced: dict[int, bytes] = {}
        self._names: dict[Path, Names] = {}
        self._changes: dict[Path, list[Change]] = {}
        shadow.mkdir(parents=True, exist_ok=True)
        root.mkdir(parents=True, exist_ok=True)
        self._take_as_synced()

    def rebuild(self, target: Path, random: Random, loss: Loss = Loss.ANY) -> None:
        """Make the files that may be there when power is back."""
        self._rebuild(target, self.root, random, loss)

    def _take_as_synced(self) -> None:
        self._synced.clear()
        self._names.clear()
        self._changes.clear()
        for directory in [self.root, *(path for path in self.root.rglob("*") if path.is_dir())]:
            self._names[directory] = self._seen(directory)
        for path in self.root.rglob("*"):
            if path.is_file():
                self._watch(path)
                self._synced[path.stat().st_ino] = path.read_bytes()

    def _rebuild(self, target: Path, directory: Path, random: Random, loss: Loss) -> None:
        target.mkdir()
        names = dict(self._names.get(directory, {}))
        for change in _kept(self._changes.get(directory, []), random, loss):
            if change.removed is not None:
                names.pop(change.removed, None)
            if change.added is not None:
                names[change.added] = change.inode
        for name, inode in sorted(names.items()):
            if inode == DIRECTORY:
                self._rebuild(target / name, directory / name, random, loss)
            else:
                seen = (self._shadow / str(inode)).read_bytes()
                (target / name).write_bytes(_after(self._synced.get(inode, b""), seen, random, loss))

    def _seen(self, directory: Path) -> Names:
        names = {}
        for path in sorted(directory.iterdir()):
            names[path.name] = DIRECTORY if path.is_dir() else path.stat().st_ino
            if names[path.name] != DIRECTORY:
                self._watch(path)
        return names

    def _watch(self, path: Path) -> None:
        link = self._shadow / str(path.stat().st_ino)
        if not link.exists():
            os.link(path, link)

    def _change(self, directory: Path, removed: str | None, added: str | None, inode: int) -> None:
        self._changes.setdefault(directory, []).append(Change(removed, added, inode))

    def _know(self, fd: int, inode: int) -> None:
        """A file that was opened for writing without `create_file`: its name is not synced."""
        if not (self._shadow / str(inode)).exists():
            path = Path(os.readlink(f"/proc/self/fd/{fd}"))
            self._watch(path)
            self._change(path.parent, None, path.name, inode)

    def _on_disk(self, inode: int) -> bytes:
        """What a sync makes durable."""
        return (self._shadow / str(inode)).read_bytes()

    # ---- Operations

    def _step(self, name: str, fd: int = -1) -> None:
        """Before every operation; `fd` is told for a sync. May end the process, or fail with OSError."""
        raise NotImplementedError

    def create_file(self, path: Path) -> int:
        self._step("create_file")
        fd: int = REAL["create_file"](path)
        self._watch(path)
        self._change(path.parent, None, path.name, os.fstat(fd).st_ino)
        return fd

    def write_all(self, fd: int, data: bytes, offset: int) -> None:
        self._step("write_all")
        REAL["write_all"](fd, data, offset)

    def fdatasync(self, fd: int) -> None:
        inode = os.fstat(fd).st_ino
        self._know(fd, inode)
        self._step("fdatasync", fd)
        self._synced[inode] = self._on_disk(inode)

    def fsync_directory(self, path: Path) -> None:
        self._step("fsync_directory")
        self._names[path] = self._seen(path)
        self._changes.pop(path, None)

    def rename(self, source: Path, target: Path) -> None:
        self._step("rename")
        REAL["rename"](source, target)
        inode = DIRECTORY if target.is_dir() else target.stat().st_ino
        if inode == DIRECTORY:
            self._move(source, target)
        elif source.parent == target.parent:
            self._change(target.parent, source.name, target.name, inode)
        else:
            self._change(source.parent, source.name, None, 0)
            self._change(target.parent, None, target.name, inode)

    def _move(self, source: Path, target: Path) -> None:
        """A directory's rename is taken as durable at once: its content moves with it, whatever the names say."""
        for table in (self._names, self._changes):
            for path in [path for path in table if path == source or source in path.parents]:
                table[target / path.relative_to(source)] = table.pop(path)  # type: ignore[index, assignment]
        self._names.get(source.parent, {}).pop(source.name, None)
        self._names.setdefault(target.parent, {})[target.name] = DIRECTORY

    def truncate(self, fd: int, length: int) -> None:
        self._step("truncate")
        REAL["truncate"](fd, length)

    def remove(self, path: Path) -> None:
        self._step("remove")
        REAL["remove"](path)
        self._change(path.parent, path.name, None, 0)


def _kept(changes: list[Change], random: Random, loss: Loss) -> list[Change]:
    if loss is not Loss.ANY:
        return [] if loss in (Loss.ALL, Loss.NAMES) else changes
    kept = random.choice([0, len(changes), random.randint(0, len(changes))])
    return changes[:kept] if random.random() < 0.5 else random.sample(changes, kept)


def _after(synced: bytes, seen: bytes, random: Random, loss: Loss) -> bytes:
    """What a file may hold when power is back."""
    if synced == seen or loss is Loss.NAMES:
        return seen
    if loss in (Loss.ALL, Loss.CONTENT):
        return synced
    if loss is Loss.MIDDLE:
        return _mixed(synced, seen, set(unsynced_sectors(synced, seen)[1:-1]))
    mixed = _mixed(synced, seen, {at for at in range(0, len(seen), SECTOR) if random.random() < 0.5})
    shorter = mixed[: random.randint(min(len(synced), len(seen)), len(seen))]
    return random.choice([synced, seen, mixed, shorter])


def unsynced_sectors(synced: bytes, seen: bytes) -> list[int]:
    """Where the sectors begin that a sync would write."""
    old = synced.ljust(len(seen), b"\0")
    return [at for at in range(0, len(seen), SECTOR) if seen[at : at + SECTOR] != old[at : at + SECTOR]]


def _mixed(synced: bytes, seen: bytes, lost: set[int]) -> bytes:
    """What is seen, but for the sectors at the places that are lost."""
    mixed = bytearray(seen)
    for start in lost:
        old = synced[start : start + SECTOR]
        mixed[start : start + SECTOR] = old.ljust(len(mixed[start : start + SECTOR]), b"\0")
    return bytes(mixed)
