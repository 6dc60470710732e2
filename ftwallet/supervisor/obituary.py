"""What a node leaves behind when it ends: `exit.json` (a fatal error, one sentence), `crash.json` (an armed crash)."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any, NamedTuple

_EXIT_FILE = "exit.json"
_CRASH_FILE = "crash.json"


class Crash(NamedTuple):
    """The armed crash that a process carried out on itself; `transaction_id` is empty if it did not say."""

    stage: str
    transaction_id: str
    at: str


def forget(node_dir: Path) -> None:
    """Remove what an earlier process left, so that it is not taken for the next one's."""
    for name in (_EXIT_FILE, _CRASH_FILE):
        with contextlib.suppress(OSError):
            (node_dir / name).unlink(missing_ok=True)


def last_sentence(node_dir: Path) -> str:
    """Return the sentence with which the node ended, empty if it left none."""
    return str(_read(node_dir / _EXIT_FILE).get("sentence", ""))


def armed_crash(node_dir: Path) -> Crash | None:
    """Return the armed crash that ended the node, None if something else did."""
    fields = _read(node_dir / _CRASH_FILE)
    if "stage" not in fields:
        return None
    return Crash(str(fields["stage"]), str(fields.get("transaction_id", "")), str(fields.get("at", "")))


def _read(path: Path) -> dict[str, Any]:
    try:
        fields = json.loads(path.read_bytes())
    except (OSError, ValueError):  # not there, or torn: the process died while it wrote
        return {}
    return fields if isinstance(fields, dict) else {}
