"""Shows log files as they grow, each line with the role of its process.

It runs in a thread of its own that nothing waits for: a terminal that is not read (Ctrl-S, a full pipe) blocks this
thread and nothing else; answers, heartbeats and restarts go on.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ftwallet.cli.terminal import ROLE_STYLES, console

_LOOK_EVERY_S = 0.1
_FINISH_WITHIN_S = 1.0
_LABEL_WIDTH = max(len(name) for name in ROLE_STYLES)


class Source(NamedTuple):
    """A log file, and what its lines are labelled with at this moment."""

    path: Path
    label: Callable[[], str]


class Growing:
    """Reads the whole lines that have been added to a file."""

    def __init__(self, path: Path, offset: int) -> None:
        self._path = path
        self._offset = offset

    def new_lines(self) -> list[str]:
        """Return the lines that are whole and have not been returned yet."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                added = file.read()
        except FileNotFoundError:
            return []
        whole = added[: added.rfind(b"\n") + 1]
        self._offset += len(whole)
        return whole.decode(errors="replace").splitlines()


class Tail:
    """Prints what is added to the sources from now on."""

    def __init__(self, sources: list[Source]) -> None:
        self._sources = [(source, Growing(source.path, _size(source.path))) for source in sources]
        self._print = printer()
        self._finish = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tail", daemon=True)

    def start(self) -> None:
        """Begin to print."""
        self._thread.start()

    def finish(self) -> None:
        """Print what is there still; gives up when nobody reads it."""
        self._finish.set()
        self._thread.join(_FINISH_WITHIN_S)

    def _run(self) -> None:
        try:
            while not self._finish.wait(_LOOK_EVERY_S):
                self._show()
            self._show()
        except BrokenPipeError:  # nobody reads any more, which is no reason to stop the wallet
            pass

    def _show(self) -> None:
        for source, growing in self._sources:
            for line in growing.new_lines():
                self._print(source.label(), line)


def printer() -> Callable[[str, str], None]:
    """Return a function that prints a labelled line, with a colour for each role in a terminal."""
    if not sys.stdout.isatty():
        return lambda label, line: print(f"{label:<{_LABEL_WIDTH}} | {line}", flush=True)
    out = console()

    def show(label: str, line: str) -> None:
        out.print(f"{label:<{_LABEL_WIDTH}} | ", style=ROLE_STYLES.get(label, ""), end="", markup=False)
        out.print(line, markup=False, highlight=False)

    return show


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
