"""Who a node directory is (`identity.json`), and the lock that lets one process at a time use it.

The incarnation is drawn when a directory is made, so that an emptied or replaced directory is never taken
for the node that it was. The epoch is the newest that this node has seen; it is durable before anything is
done in it, and it never goes back, or a fenced primary could acknowledge again after a restart.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from pathlib import Path
from typing import Self

import msgspec

from ftwallet import platform
from ftwallet.errors import BrokenInvariant, DiskFault, ExitCode, Refused
from ftwallet.platform import ProcessIdentity

FORMAT_VERSION = 1

_IDENTITY_FILE = "identity.json"
_LOCK_FILE = "lock"
_NAMING_TRIES = 20
_NAMING_PAUSE_S = 0.01


class _Content(msgspec.Struct, frozen=True):
    """`identity.json`, key for key."""

    format_version: int
    cluster_id: str
    node: str
    incarnation: str
    epoch: int
    boot: int
    state_sync: bool = False


class _Version(msgspec.Struct):
    format_version: int


class Identity:
    """The durable identity of one node. One thread at a time."""

    def __init__(self, node_dir: Path, content: _Content) -> None:
        self._path = node_dir / _IDENTITY_FILE
        self._content = content

    @classmethod
    def exists(cls, node_dir: Path) -> bool:
        """Tell whether the directory has an identity."""
        return (node_dir / _IDENTITY_FILE).exists()

    @classmethod
    def create(cls, node_dir: Path, cluster_id: str, node: str) -> Self:
        """Make a directory into a node with a new incarnation, durably.

        Raises Refused if it is a node already, DiskFault if it cannot be written.
        """
        if cls.exists(node_dir):
            raise Refused(f"{node_dir} holds a node already; nothing was changed", ExitCode.WRONG_DIRECTORY)
        identity = cls(node_dir, _Content(FORMAT_VERSION, cluster_id, node, new_incarnation(), 0, 0))
        try:
            platform.make_directory(node_dir)
        except OSError as error:
            raise DiskFault(f"{node_dir} could not be made: {error.strerror}") from error
        identity._save(identity._content)
        return identity

    @classmethod
    def load(cls, node_dir: Path) -> Self:
        """Read the identity of a node's directory.

        Raises Refused if it is missing, unreadable or from the future.
        """
        path = node_dir / _IDENTITY_FILE
        try:
            text = path.read_bytes()
        except OSError as error:
            raise Refused(
                f"{path} cannot be read: {error.strerror}. Put the file back, or rebuild the node from its "
                "partner (docs/operations.md)",
                ExitCode.WRONG_DIRECTORY,
            ) from error
        return cls(node_dir, _decode(path, text))

    @property
    def cluster_id(self) -> str:
        """The cluster that the node belongs to."""
        return self._content.cluster_id

    @property
    def node(self) -> str:
        """The node's name, `a` or `b`."""
        return self._content.node

    @property
    def incarnation(self) -> str:
        """The id drawn when this directory was made, or when it last gave up its history for a state sync."""
        return self._content.incarnation

    @property
    def format_version(self) -> int:
        """The version of the directory's layout."""
        return self._content.format_version

    @property
    def epoch(self) -> int:
        """The newest epoch that this node has made durable; 0 before the first."""
        return self._content.epoch

    @property
    def boot(self) -> int:
        """The newest start of this node that the witness counted; 0 before the first."""
        return self._content.boot

    @property
    def state_sync(self) -> bool:
        """Whether this incarnation was drawn for a state sync that is not over: it never stood in the in-sync set."""
        return self._content.state_sync

    def record_epoch(self, epoch: int) -> None:
        """Make a newer epoch durable; the same one again costs nothing.

        Raises BrokenInvariant if asked to go back, DiskFault if it cannot be written; it is not adopted then.
        """
        if epoch < self.epoch:
            raise BrokenInvariant(f"node {self.node} was to go back from epoch {self.epoch} to {epoch}")
        if epoch > self.epoch:
            self._save(msgspec.structs.replace(self._content, epoch=epoch))

    def record_boot(self, boot: int) -> None:
        """Make the boot number that the witness gave durable.

        Raises BrokenInvariant if it goes back, DiskFault.
        """
        if boot < self.boot:
            raise BrokenInvariant(f"node {self.node} was to go back from boot {self.boot} to {boot}")
        if boot > self.boot:
            self._save(msgspec.structs.replace(self._content, boot=boot))

    def renew_incarnation(self, *, for_state_sync: bool = False) -> str:
        """Become another node to the witness, durably, and return the new incarnation.

        Comes before a state sync, which is marked together with it: the old incarnation may stand in the
        in-sync set, and from now on this directory no longer holds what that promises. Raises DiskFault.
        """
        self._save(msgspec.structs.replace(self._content, incarnation=new_incarnation(), state_sync=for_state_sync))
        return self.incarnation

    def end_state_sync(self) -> None:
        """This incarnation may join the in-sync set from now on, so it counts for no other state sync.

        Raises DiskFault.
        """
        if self.state_sync:
            self._save(msgspec.structs.replace(self._content, state_sync=False))

    def _save(self, content: _Content) -> None:
        text = msgspec.json.format(msgspec.json.encode(content)) + b"\n"
        try:
            platform.write_atomically(self._path, text)
        except OSError as error:
            raise DiskFault(f"{self._path} could not be written: {error.strerror}") from error
        self._content = content


def new_incarnation() -> str:
    """Draw an id that no other directory has."""
    return secrets.token_hex(8)


def _decode(path: Path, text: bytes) -> _Content:
    try:
        version = msgspec.json.decode(text, type=_Version).format_version
        if version > FORMAT_VERSION:
            raise Refused(
                f"{path} has format version {version}, this program knows up to {FORMAT_VERSION}: "
                "run the newer program",
                ExitCode.WRONG_DIRECTORY,
            )
        return msgspec.json.decode(text, type=_Content)
    except msgspec.MsgspecError as error:
        raise Refused(
            f"{path} is damaged: {error}. Put a sound copy of the file back, or rebuild the node from "
            "its partner (docs/operations.md)",
            ExitCode.WRONG_DIRECTORY,
        ) from error


class DirectoryLock:
    """The right to use a node's directory, until `release` or the end of the process, whatever ends it."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def release(self) -> None:
        """Give the directory up; again does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()


def lock_directory(node_dir: Path) -> DirectoryLock:
    """Take the directory for this process, and write down who has it.

    Raises Refused, naming the pid of the process that holds it.
    """
    fd = os.open(node_dir / _LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _write_holder(fd)
    except BlockingIOError:
        os.close(fd)
        raise Refused(_held_sentence(node_dir), ExitCode.WRONG_DIRECTORY) from None
    except BaseException:
        os.close(fd)
        raise
    return DirectoryLock(fd)


def lock_holder(node_dir: Path) -> ProcessIdentity | None:
    """Name the living process that holds the directory, or None."""
    try:
        pid, start_time = (node_dir / _LOCK_FILE).read_text().split()
        holder = ProcessIdentity(int(pid), int(start_time))
    except (OSError, ValueError):
        return None
    return holder if platform.same_process(*holder) else None


def _write_holder(fd: int) -> None:
    """For people and for `up` alone; the lock itself is the kernel's, so nothing here needs to be durable."""
    pid, start_time = platform.process_identity(os.getpid())
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{pid} {start_time}\n".encode(), 0)


def _held_sentence(node_dir: Path) -> str:
    for _ in range(_NAMING_TRIES):  # the holder may have locked and not yet written its name
        holder = lock_holder(node_dir)
        if holder is not None:
            return f"{node_dir} is in use by the process with pid {holder.pid}"
        time.sleep(_NAMING_PAUSE_S)
    return f"{node_dir} is in use by another process that has not said its pid"
