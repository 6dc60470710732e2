"""The roots of every error: whose fault it was decides what happens next.

A caller's fault is answered, a peer's ends the session, the disk's ends the process. A refused command or start is a
sentence and an exit code. Beside these only a wallet's `Unavailable` goes from one package to another, and the client,
which stands alone, has errors of its own.
"""

from __future__ import annotations

from enum import IntEnum

EXIT_FILE = "exit.json"
"""In a node's directory: the exit code and the sentence of a node that ended by itself."""


class ExitCode(IntEnum):
    """Exit codes of `ftwallet-run` (below 70, and 130) and of node processes (from 70 on)."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_SERVING = 3
    NO_SUPERVISOR = 4
    DISK_FAULT = 70
    CORRUPTION = 71
    BROKEN_INVARIANT = 72
    FENCED = 73
    WRONG_DIRECTORY = 74
    PORT_TAKEN = 75
    INTERRUPTED = 130


class ClientError(Exception):
    """The caller asked for something that cannot be done; the answer is a sentence, and nothing was recorded."""


class PeerViolation(Exception):
    """The partner sent what the protocol does not allow; the session ends."""


class DiskFault(Exception):
    """A write, a sync or a read failed; the file is never touched again and the node stops."""


class Refused(Exception):
    """A command or a start is refused with one sentence; nothing was changed."""

    def __init__(self, sentence: str, code: ExitCode = ExitCode.FAILED) -> None:
        super().__init__(sentence)
        self.code = code


class BrokenInvariant(Exception):
    """State contradicts the ledger's rules; the process ends at once, before anything is answered from it."""
