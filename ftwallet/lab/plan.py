"""What a bench is asked to do, and the little that all suites share."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from ftwallet.config import Config


class Plan(NamedTuple):
    """What to measure, and how long.

    `wrk` is empty for a suite that needs none. `directory` is empty and on the file system to measure. `seconds` are of
    one run of wrk; `warm_up_s` may be 0; `hung` counts the SIGSTOPs that follow the kills, `records` those of the log
    that is replayed. `past` ids of `accounts` accounts are there before `growth` and `failover` begin, if any.
    """

    wrk: str
    directory: Path
    settings: Config
    seconds: int = 5
    rounds: int = 3
    connections: Sequence[int] = (1, 16, 64, 256)
    transactions: int = 100_000
    kills: int = 5
    past: int = 0
    accounts: int = 0
    hung: int = 3
    records: int = 1_000_000
    profile: bool = False
    warm_up_s: int = 1

    def of_load(self) -> dict[str, Any]:
        """What a report says of the load, among its settings."""
        return {"seconds": self.seconds, "rounds": self.rounds, "connections": list(self.connections)}


def progress(line: str) -> None:
    """Say how far it has come, on stderr: stdout may be somebody's JSON."""
    print(line, file=sys.stderr, flush=True)


def middle(figures: Sequence[float]) -> float:
    """Return the median: one noisy round does not move it."""
    return float(median(figures))
