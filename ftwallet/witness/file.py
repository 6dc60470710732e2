"""The witness as a file: `cluster.json`, the one durable copy of the register.

A granted decision is on the medium before the caller hears of it; a crash at any point leaves the old record
or the new one. Decisions of several processes come one after the other, by a lock on `cluster.lock` beside
the record (on the record itself it would be lost with every rename). The rules of a decision are
`ftwallet.replication.register`.

A record that is lost, damaged or from a newer program is never guessed: no other file knows which node may
hold transactions that were acknowledged alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from ftwallet import platform
from ftwallet.errors import DiskFault, Refused
from ftwallet.replication.register import Decision, Proposal, Register, decide

FORMAT_VERSION = 1
_LOCK_FILE = "cluster.lock"


class _Version(msgspec.Struct):
    format_version: int


class FileWitness:
    """The register in the file `path`. Any number of processes and threads may ask at the same time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._in_question = False  # a write failed: what can be read may be gone after a loss of power

    @property
    def exists(self) -> bool:
        """Whether there is a record, sound or not."""
        return self._path.exists()

    def read(self) -> Register:
        """Return the register as it stands.

        Raises:
            Refused: the record is missing, damaged, or from a newer program; the sentence says what to do.
        """
        try:
            text = self._path.read_bytes()
        except FileNotFoundError:
            raise Refused(missing_sentence(self._path)) from None
        except OSError as error:
            raise Refused(f"{self._path} cannot be read: {error.strerror}; {_what_to_do(self._path)}") from error
        return _decode(self._path, text)

    def propose(self, proposal: Proposal) -> Decision:
        """Decide on `proposal`; what is granted is durable when this returns.

        Raises:
            Refused: as `read`; nothing was changed.
            DiskFault: the record could not be written. Nothing is granted, though the new record may be there.
        """
        with self.locked():
            if self._in_question:  # or a refusal would tell of a record that a loss of power takes back
                self._write(self.read())
            decision = decide(self.read(), proposal)
            if decision.granted:
                self._write(decision.register)
            return decision

    def create(self, cluster_id: str, in_sync: dict[str, str], primary: str = "a") -> Register:
        """Write the record of a new cluster, at epoch 0, before any node has started; durable on return.

        `in_sync` maps each node's name to its incarnation. Call it inside `locked`, or where nobody else can.

        Raises:
            Refused: there is a record already.
            DiskFault: it could not be written.
        """
        if self.exists:
            raise Refused(f"{self._path} is there already; nothing was changed")
        register = Register(cluster_id, 0, primary, in_sync, {})
        self._write(register)
        return register

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep every other process and thread from deciding; not to be nested.

        Raises:
            DiskFault: the lock file cannot be opened.
        """
        lock_file = self._path.with_name(_LOCK_FILE)
        try:
            fd = os.open(lock_file, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise DiskFault(f"{lock_file} could not be opened: {error.strerror}") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _write(self, register: Register) -> None:
        record = {"format_version": FORMAT_VERSION, **msgspec.structs.asdict(register)}
        self._in_question = True
        try:
            platform.write_atomically(self._path, msgspec.json.format(msgspec.json.encode(record)) + b"\n")
        except OSError as error:
            raise DiskFault(f"{self._path} could not be written: {error.strerror}") from error
        self._in_question = False


def missing_sentence(path: Path) -> str:
    """Return what an operator is told when the record at `path` is gone."""
    return f"{path} is missing; {_what_to_do(path)}"


def _what_to_do(path: Path) -> str:
    return (
        "without it nobody may lead, because it alone says which node holds all that was acknowledged. "
        f"Put the newest copy of {path.name} back; "
        f"`ftwallet-run verify --data-dir {path.parent}` shows what each node holds"
    )


def _decode(path: Path, text: bytes) -> Register:
    try:
        version = msgspec.json.decode(text, type=_Version).format_version
        if version > FORMAT_VERSION:
            raise Refused(
                f"{path} has format version {version}, this program knows up to {FORMAT_VERSION}: run the newer program"
            )
        register = msgspec.json.decode(text, type=Register)
    except ValueError as error:  # msgspec's errors, and bytes that are no UTF-8
        raise Refused(f"{path} is damaged: {error}; {_what_to_do(path)}") from error
    if register.epoch < 0 or register.primary not in register.in_sync:
        raise Refused(f"{path} is damaged: it contradicts itself; {_what_to_do(path)}")
    return register
