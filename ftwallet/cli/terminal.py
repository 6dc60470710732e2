"""What people see: colours and tables in a terminal, the same words plainly when piped. Results go to stdout."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

_PIPED_WIDTH = 240  # a pipe has no width; long lines are for whatever reads it

ROLE_STYLES = {"primary": "cyan", "backup": "magenta", "supervisor": "green"}


def console() -> Console:
    """Return a console on stdout; without colours and of ample width when piped."""
    from rich.console import Console  # noqa: PLC0415  (rich takes a while, and `--json` does without)

    return Console(highlight=False, width=None if sys.stdout.isatty() else _PIPED_WIDTH, soft_wrap=True)


@contextlib.contextmanager
def busy(doing: str) -> Iterator[None]:
    """Show in a terminal that something is going on; nothing when piped."""
    out = console()
    with out.status(doing) if out.is_terminal else contextlib.nullcontext():
        yield


def say(line: str) -> None:
    """Print a line of a result."""
    print(line, flush=True)


def note(line: str) -> None:
    """Print a line about the progress, on stderr: stdout may be somebody's JSON."""
    print(line, file=sys.stderr, flush=True)


def complain(sentence: str) -> None:
    """Print why a command failed: one line on stderr."""
    print("Error: " + " ".join(sentence.split("\n")), file=sys.stderr, flush=True)


def say_json(document: dict[str, Any]) -> None:
    """Print one JSON document on a line of its own."""
    print(json.dumps(document, ensure_ascii=False), flush=True)
