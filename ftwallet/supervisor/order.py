"""What `kill` was asked, as the command line and the supervisor both see it."""

from __future__ import annotations

from typing import NamedTuple


class Order(NamedTuple):
    """What `kill` was asked. `stage` is empty for at once; `after` counts new transactions from 1."""

    role: str
    stage: str
    after: int
    signal: int
    no_wait: bool
    probe: bool
    timeout_s: float
