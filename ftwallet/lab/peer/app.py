"""The peer's routes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal

from fastapi import FastAPI, HTTPException, Response

from ftwallet.lab.peer.batch import Operation, run_batch
from ftwallet.lab.peer.models import Balance, Batch, BatchDone, Moved, Movement, Question, Refusal
from ftwallet.lab.peer.schema import DEPOSIT, MAX_MINOR, WITHDRAW, Verdict
from ftwallet.lab.peer.store import Asked, Recorded, Store

_STATUS = {Verdict.INSUFFICIENT: 400, Verdict.NOT_FOUND: 404, Verdict.OVER_LIMIT: 400}
_DETAIL = {
    Verdict.INSUFFICIENT: "Insufficient balance",
    Verdict.NOT_FOUND: "Account not found",
    Verdict.OVER_LIMIT: f"Balance would pass the limit of {MAX_MINOR} minor units",
}
_VERB = {DEPOSIT: "Deposited", WITHDRAW: "Withdrew"}
_KINDS = {"deposit": DEPOSIT, "withdraw": WITHDRAW}


def create_app(connect: Callable[[], Awaitable[Store]]) -> FastAPI:
    """Return the application; `connect` is called when it starts."""
    store: Store

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        nonlocal store
        store = await connect()
        yield
        await store.pool.close()

    app = FastAPI(lifespan=lifespan)

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "healthy"}

    @app.post("/deposit")
    async def deposit(movement: Movement, response: Response) -> Moved:
        asked = Asked(DEPOSIT, movement.account_id, minor_units(movement.amount))
        return answer(await store.move(movement.transaction_id, asked), asked, movement.transaction_id, response)

    @app.post("/withdraw")
    async def withdraw(movement: Movement, response: Response) -> Moved:
        asked = Asked(WITHDRAW, movement.account_id, minor_units(movement.amount))
        return answer(await store.move(movement.transaction_id, asked), asked, movement.transaction_id, response)

    @app.post("/balance")
    async def balance(question: Question) -> Balance:
        found = await store.balance(question.account_id)
        if found is None:
            raise HTTPException(404, "Account not found")
        return Balance(balance=found / 100)

    @app.post("/transactions")
    async def transactions(batch: Batch) -> BatchDone:
        operations = [
            Operation(one.transaction_id, Asked(_KINDS[one.kind], one.account_id, minor_units(one.amount)))
            for one in batch.operations
        ]
        return summary(operations, await run_batch(store, operations))

    return app


def minor_units(amount: Decimal) -> int:
    """Return cents. Raises HTTPException when it is no amount."""
    if amount <= 0:
        raise HTTPException(400, "Amount must be positive")
    minor = amount * 100
    if minor > MAX_MINOR:  # asked before it becomes an integer, which may have a million digits
        raise HTTPException(400, f"Amount is past the limit of {MAX_MINOR} minor units")
    if minor != int(minor):
        raise HTTPException(400, "Amount has more than 2 decimal places")
    return int(minor)


def refusal(recorded: Recorded, asked: Asked) -> str | None:
    """Return why it was not done, None when it was."""
    for name, known, value in zip(Asked._fields, recorded.asked, asked, strict=True):
        if known != value:
            return f"Transaction id was used with different parameters: {name}"
    return _DETAIL.get(recorded.verdict)


def summary(operations: Sequence[Operation], recorded: Sequence[Recorded]) -> BatchDone:
    """Return the compact answer to a batch."""
    refused: list[Refusal] = []
    replayed = 0
    for index, (operation, row) in enumerate(zip(operations, recorded, strict=True)):
        detail = refusal(row, operation.asked)
        if detail is not None:
            refused.append(Refusal(index=index, detail=detail))
        elif row.replayed:
            replayed += 1
    return BatchDone(done=len(recorded) - replayed - len(refused), replayed=replayed, refused=refused)


def answer(recorded: Recorded, asked: Asked, transaction_id: str, response: Response) -> Moved:
    """Return the answer. Raises HTTPException when it was refused."""
    detail = refusal(recorded, asked)
    if recorded.asked != asked:
        raise HTTPException(422, detail)
    headers = {"Idempotent-Replayed": "true"} if recorded.replayed else {}
    if recorded.new_balance is None:
        raise HTTPException(_STATUS[recorded.verdict], detail, headers)
    response.headers.update(headers)
    return Moved(
        message=f"{_VERB[asked.kind]} {asked.amount / 100}",
        new_balance=recorded.new_balance / 100,
        transaction_id=transaction_id,
    )
