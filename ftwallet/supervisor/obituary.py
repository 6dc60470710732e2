"""What a node leaves behind when it ends: `exit.json` (a fatal error, one sentence), `crash.json` (an armed crash)."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from ftwallet.errors import EXIT_FILE
from ftwallet.faults.crash import Crash, forget_crash, read_crash

_LAST_WORDS_BYTES = 4096


def forget(node_dir: Path) -> None:
    """Remove what an earlier process left, so that it is not taken for the next one's."""
    with contextlib.suppress(OSError):
        forget_crash(node_dir)
        (node_dir / EXIT_FILE).unlink(missing_ok=True)


def last_sentence(node_dir: Path) -> str:
    """Return the sentence with which the node ended, empty if it left none."""
    return str(_read(node_dir / EXIT_FILE).get("sentence", ""))


def last_line(log: Path, code: int) -> str:
    """Return the last line of a node's log when the node ended by an error of its own; empty for a signal."""
    if code <= 0:
        return ""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _LAST_WORDS_BYTES))
            lines = file.read().decode(errors="replace").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def armed_crash(node_dir: Path) -> Crash | None:
    """Return the armed crash that ended the node, None if something else did."""
    try:
        return read_crash(node_dir)
    except (OSError, ValueError):
        return None


def _read(path: Path) -> dict[str, Any]:
    try:
        fields = json.loads(path.read_bytes())
    except (OSError, ValueError):  # not there, or torn: the process died while it wrote
        return {}
    return fields if isinstance(fields, dict) else {}
