"""A batch in one transaction, set by set: four statements however many operations there are.

The accounts are locked in the order of their ids, so two batches never wait for each other in a circle. Outcomes are
worked out here, in the order of the operations, since whether a withdrawal may be done depends on those before it; then
all new rows go in with one COPY (faster than INSERT from arrays), and all balances with one statement from arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from ftwallet.lab.peer.schema import DEPOSIT, MAX_MINOR, Verdict
from ftwallet.lab.peer.store import RACES, Asked, Recorded, Store

_TRIES = 5
_COLUMNS: Final = ("transaction_id", "kind", "account_id", "amount", "verdict", "new_balance", "made_at")

_KNOWN: Final = """
SELECT transaction_id, account_id, kind, amount, verdict, new_balance
FROM transactions WHERE transaction_id = ANY ($1::text[])
"""
_FIND: Final = """
SELECT account_id, balance FROM accounts WHERE account_id = ANY ($1::text[]) ORDER BY account_id FOR NO KEY UPDATE
"""
_OPEN: Final = """
INSERT INTO accounts (account_id, balance) SELECT account_id, 0 FROM unnest($1::text[]) AS missing (account_id)
ON CONFLICT DO NOTHING RETURNING account_id
"""
_CLOSE: Final = "DELETE FROM accounts WHERE account_id = ANY ($1::text[])"
_CHANGE: Final = """
UPDATE accounts SET balance = changed.balance
FROM unnest($1::text[], $2::bigint[]) AS changed (account_id, balance)
WHERE accounts.account_id = changed.account_id
"""


class Operation(NamedTuple):
    """One operation of a batch."""

    transaction_id: str
    asked: Asked


async def run_batch(store: Store, operations: Sequence[Operation]) -> list[Recorded]:
    """Do what was not done before; returns what each operation's id stands for, in their order."""
    for _ in range(_TRIES):
        try:
            async with store.pool.acquire() as connection, connection.transaction():
                return await _run(connection, operations)
        except RACES:
            continue
    raise TimeoutError(f"a batch was in somebody's way {_TRIES} times")


async def _run(connection: Any, operations: Sequence[Operation]) -> list[Recorded]:
    # The locks come first: what is read after them is what was committed by all that had these accounts before.
    balances, opened = await _lock(connection, operations)
    before = dict(balances)
    known = {
        row[0]: Recorded(True, Asked(row[2], row[1], row[3]), Verdict(row[4]), row[5])
        for row in await connection.fetch(_KNOWN, [operation.transaction_id for operation in operations])
    }
    recorded, new = work_out(operations, known, balances)
    if new:
        now = datetime.now(UTC)
        rows = [(key, *row.asked, int(row.verdict), row.new_balance, now) for key, row in new.items()]
        await connection.copy_records_to_table("transactions", records=rows, columns=_COLUMNS)
    if changed := {account: balance for account, balance in balances.items() if before.get(account) != balance}:
        await connection.execute(_CHANGE, list(changed), list(changed.values()))
    if unused := opened - balances.keys():
        await connection.execute(_CLOSE, list(unused))
    return recorded


async def _lock(connection: Any, operations: Sequence[Operation]) -> tuple[dict[str, int], set[str]]:
    """Lock all accounts; returns the balances of those that exist, and which rows were made for those that may come.

    An account that a deposit may open needs a row first: nobody else could otherwise be kept from opening it, too.
    """
    accounts = sorted({operation.asked.account_id for operation in operations})
    balances: dict[str, int] = dict(await connection.fetch(_FIND, accounts))
    deposited = {operation.asked.account_id for operation in operations if operation.asked.kind == DEPOSIT}
    missing = sorted(deposited - balances.keys())
    if not missing:
        return balances, set()
    opened = {row[0] for row in await connection.fetch(_OPEN, missing)}
    if others := [account for account in missing if account not in opened]:  # opened by others just now
        balances |= dict(await connection.fetch(_FIND, others))
    return balances, opened


def work_out(
    operations: Sequence[Operation], known: dict[str, Recorded], balances: dict[str, int]
) -> tuple[list[Recorded], dict[str, Recorded]]:
    """Execute the operations on `balances`; returns what each id stands for, and the rows that are new."""
    recorded: list[Recorded] = []
    new: dict[str, Recorded] = {}
    for transaction_id, asked in operations:
        row = known.get(transaction_id)
        if row is None:
            verdict = _judge(asked, balances)
            row = new[transaction_id] = Recorded(
                False, asked, verdict, balances[asked.account_id] if verdict == Verdict.DONE else None
            )
            known[transaction_id] = row._replace(replayed=True)  # for the same id later in the batch
        recorded.append(row)
    return recorded, new


def _judge(asked: Asked, balances: dict[str, int]) -> Verdict:
    """Move the money, or say why not."""
    kind, account_id, amount = asked
    balance = balances.get(account_id)
    if kind == DEPOSIT:
        if (balance or 0) + amount > MAX_MINOR:
            return Verdict.OVER_LIMIT
        balances[account_id] = (balance or 0) + amount
        return Verdict.DONE
    if balance is None:
        return Verdict.NOT_FOUND
    if balance < amount:
        return Verdict.INSUFFICIENT
    balances[account_id] = balance - amount
    return Verdict.DONE
