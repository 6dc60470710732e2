"""What the peer takes and answers, as FastAPI's documentation has it: pydantic models."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

MAX_BATCH = 8_192

Id = Annotated[str, Field(min_length=1, max_length=128)]


class Question(BaseModel):
    """`POST /balance`."""

    model_config = ConfigDict(extra="forbid")

    account_id: Id


class Movement(Question):
    """`POST /deposit` and `POST /withdraw`."""

    amount: Decimal
    transaction_id: Id


class Moved(BaseModel):
    """Their answer."""

    success: bool = True
    message: str
    new_balance: float
    transaction_id: str


class Balance(BaseModel):
    """The answer to a question."""

    success: bool = True
    balance: float
    message: str = "Balance retrieved"


class BatchOperation(Movement):
    """One operation of a batch."""

    kind: Literal["deposit", "withdraw"]


class Batch(BaseModel):
    """`POST /transactions`: operations with an outcome each."""

    model_config = ConfigDict(extra="forbid")

    mode: Literal["independent"]
    reply: Literal["compact"]
    operations: Annotated[list[BatchOperation], Field(min_length=1, max_length=MAX_BATCH)]


class Refusal(BaseModel):
    """An operation that was not done."""

    index: int
    detail: str


class BatchDone(BaseModel):
    """How many operations were done now and before, and which were refused, by their place."""

    done: int
    replayed: int
    refused: list[Refusal]
