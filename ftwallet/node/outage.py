"""Why a node ends: one place that the first reason is told to, and that the process waits on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ftwallet.errors import BrokenInvariant, DiskFault, ExitCode, Refused
from ftwallet.journal import Corruption


class Outage:
    """`reason` is set once; later ones are consequences of it."""

    def __init__(self, end_at_once: Callable[[], None] = lambda: None) -> None:
        self._end_at_once = end_at_once
        self._over = asyncio.Event()
        self.code = ExitCode.OK
        self.sentence = ""

    async def wait(self) -> None:
        """Return when the node has to end."""
        await self._over.wait()

    @property
    def over(self) -> bool:
        """Whether the node has to end."""
        return self._over.is_set()

    @property
    def orderly(self) -> bool:
        """Whether somebody asked for the end."""
        return self.code is ExitCode.OK

    def asked(self) -> None:
        """Somebody asked for an orderly stop."""
        self._end(ExitCode.OK, "")

    def stop_for(self, reason: str, fenced: bool) -> None:
        """The protocol ended it."""
        self._end(ExitCode.FENCED if fenced else ExitCode.FAILED, reason)

    def failed(self, error: BaseException) -> None:
        """A part of the node failed. A broken invariant ends the process on the spot: nothing more is answered."""
        self._end(exit_code(error), str(error) or type(error).__name__)
        if isinstance(error, BrokenInvariant):
            self._end_at_once()

    def _end(self, code: ExitCode, sentence: str) -> None:
        if not self._over.is_set():
            self.code, self.sentence = code, sentence
            self._over.set()


def exit_code(error: BaseException) -> ExitCode:
    """The exit code that tells the supervisor what kind of end it was."""
    if isinstance(error, Refused):
        return error.code
    if isinstance(error, Corruption):
        return ExitCode.CORRUPTION
    if isinstance(error, DiskFault):
        return ExitCode.DISK_FAULT
    if isinstance(error, BrokenInvariant):
        return ExitCode.BROKEN_INVARIANT
    return ExitCode.FAILED
