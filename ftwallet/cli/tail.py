"""Shows log files as they grow, each line with the role of its process.

It runs in a thread of its own that nothing waits for: a terminal that is not read (Ctrl-S, a full pipe) blocks this
thread and nothing else; answers, heartbeats and restarts go on.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from ftwallet.cli.terminal import ROLE_STYLES, console

_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[.,\d]*")
_LOOK_EVERY_S = 0.1
_FINISH_WITHIN_S = 1.0
_LABEL_WIDTH = max(len(name) for name in ROLE_STYLES)


class Growing:
    """Reads the whole lines that have been added to a file."""

    def __init__(self, path: Path, offset: int) -> None:
        self._path = path
        self._offset = offset

    def new_lines(self) -> list[str]:
        """Return the lines that are whole and have not been returned yet."""
        try:
            with self._path.open("rb") as file:
                if os.fstat(file.fileno()).st_size < self._offset:  # it was begun anew
                    self._offset = 0
                file.seek(self._offset)
                added = file.read()
        except FileNotFoundError:
            return []
        whole = added[: added.rfind(b"\n") + 1]
        self._offset += len(whole)
        return whole.decode(errors="replace").splitlines()


class Tail:
    """Prints what is added to log files from now on; `label` says whose a file is at that moment."""

    def __init__(self, logs: dict[str, Path], label: Callable[[str], str]) -> None:
        self._growing = {name: Growing(path, _size(path)) for name, path in logs.items()}
        self._label = label
        self._print = printer()
        self._finish = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tail", daemon=True)

    def start(self) -> None:
        """Begin to print."""
        self._thread.start()

    def finish(self) -> bool:
        """Print what is there still; False when nobody reads it, and the thread hangs in the terminal."""
        self._finish.set()
        self._thread.join(_FINISH_WITHIN_S)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            while not self._finish.wait(_LOOK_EVERY_S):
                self._show()
            self._show()
        except BrokenPipeError:  # nobody reads any more, which is no reason to stop the wallet
            pass

    def _show(self) -> None:
        for name, line in merged({name: growing.new_lines() for name, growing in self._growing.items()}):
            self._print(self._label(name), line)


def merged(lines: dict[str, list[str]]) -> list[tuple[str, str]]:
    """Merge lines of several files by the time that each begins with; one without stays behind its predecessor."""
    stamped = []
    for name, said in lines.items():
        newest = ""
        for number, line in enumerate(said):
            match = _TIMESTAMP.search(line[:64])
            newest = match.group().replace(" ", "T").replace(",", ".") if match else newest
            stamped.append((newest, name, number, line))
    return [(name, line) for _, name, _, line in sorted(stamped)]


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
