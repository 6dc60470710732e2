"""The peer's database behind a pool of connections: each request is one prepared statement, one commit."""

from __future__ import annotations

from typing import Any, NamedTuple

import asyncpg

from ftwallet.lab.peer.schema import BALANCE_SQL, DEPOSIT, DEPOSIT_SQL, WITHDRAW_SQL, Verdict

POOL_SIZE = 32
_TRIES = 5

RACES = (asyncpg.UniqueViolationError, asyncpg.DeadlockDetectedError)
"""What two requests with one id at the same time come to; sent again, the later one finds the earlier one's row."""


class Asked(NamedTuple):
    """What a transaction asks; the amount in minor units."""

    kind: int
    account_id: str
    amount: int


class Recorded(NamedTuple):
    """A transaction's row, and whether it was there before."""

    replayed: bool
    asked: Asked
    verdict: Verdict
    new_balance: int | None


class Store:
    """Made by `open_store`."""

    def __init__(self, pool: asyncpg.Pool[Any]) -> None:
        self.pool = pool

    async def move(self, transaction_id: str, asked: Asked) -> Recorded:
        """Do it, or find what was done under this id."""
        statement = DEPOSIT_SQL if asked.kind == DEPOSIT else WITHDRAW_SQL
        for _ in range(_TRIES):
            try:
                row = await self.pool.fetchrow(statement, transaction_id, asked.account_id, asked.amount)
            except RACES:
                continue
            if row is not None:
                replayed, kind, account_id, amount, verdict, new_balance = row
                return Recorded(replayed, Asked(kind, account_id, amount), Verdict(verdict), new_balance)
        raise TimeoutError(f"transaction {transaction_id} was in somebody's way {_TRIES} times")

    async def balance(self, account_id: str) -> int | None:
        """Return the balance in minor units, None where there is no such account."""
        found: int | None = await self.pool.fetchval(BALANCE_SQL, account_id)
        return found


async def open_store(socket_directory: str, port: int, user: str, database: str) -> Store:
    """Connect, with all connections of the pool open from the beginning."""
    pool = await asyncpg.create_pool(
        host=socket_directory,
        port=port,
        user=user,
        database=database,
        min_size=POOL_SIZE,
        max_size=POOL_SIZE,
        max_inactive_connection_lifetime=0,
        reset=_keep,
    )
    return Store(pool)


async def _keep(connection: object) -> None:
    """Spare a round trip a request: no statement here leaves anything in its session that was to be reset."""
