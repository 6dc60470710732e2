"""The stages of a transaction's life, which are also the points where a crash can be armed.

A stage is reached once it is complete and before anything of the next one has begun: after PENDING the
record is durable on this node and nothing has been sent.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Stage(StrEnum):
    """A named point on a transaction's way."""

    RECEIVED = "received"
    PENDING = "pending"
    SYNCED = "synced"
    EXECUTED = "executed"
    COMMITTED = "committed"
    REPLIED = "replied"
    ACKED = "acked"


PRIMARY_STAGES: Final = (
    Stage.RECEIVED,
    Stage.PENDING,
    Stage.SYNCED,
    Stage.EXECUTED,
    Stage.COMMITTED,
    Stage.REPLIED,
)
"""What a primary passes, in order; SYNCED only while paired."""

BACKUP_STAGES: Final = (Stage.RECEIVED, Stage.PENDING, Stage.EXECUTED, Stage.ACKED)
"""What a backup passes, in order."""
