"""The peer's tables and statements: one round trip and one transaction a request.

A transaction's row holds what was asked (so that another body under the same id is noticed) and what was answered (so
that a retry gets the same). Each statement finds a row that is there, or moves the money and writes the row. Two
requests with one id at the same time: the later one waits for the earlier one's row, fails on the primary key, changes
nothing, and is sent again by the application, to find the row.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

DEPOSIT, WITHDRAW = 1, 2
MAX_MINOR: Final = 10**18
"""Limit of an amount and of a balance, in minor units."""


class Verdict(IntEnum):
    """How a transaction ended; the numbers are in the table."""

    DONE = 0
    INSUFFICIENT = 1
    NOT_FOUND = 2
    OVER_LIMIT = 3


# Room is left in the pages of accounts, so that a new version of a row stays beside the old one and no index changes.
SCHEMA: Final = """
CREATE TABLE accounts (
    account_id text PRIMARY KEY,
    balance bigint NOT NULL CHECK (balance >= 0)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);
CREATE TABLE transactions (
    transaction_id text PRIMARY KEY,
    account_id text NOT NULL,
    amount bigint NOT NULL CHECK (amount > 0),
    new_balance bigint,
    kind smallint NOT NULL,
    verdict smallint NOT NULL,
    made_at timestamptz NOT NULL DEFAULT now()
);
"""

_KNOWN = """
WITH known AS MATERIALIZED (
    SELECT kind, account_id, amount, verdict, new_balance FROM transactions WHERE transaction_id = $1
)"""

_ANSWER = """
SELECT false AS replayed, noted.* FROM noted UNION ALL SELECT true, known.* FROM known
"""

# $1 transaction id, $2 account id, $3 amount in minor units
DEPOSIT_SQL: Final = (
    _KNOWN
    + f""", changed AS (
    INSERT INTO accounts AS account (account_id, balance)
    SELECT $2, $3::bigint WHERE NOT EXISTS (SELECT FROM known)
    ON CONFLICT (account_id) DO UPDATE SET balance = account.balance + excluded.balance
        WHERE account.balance + excluded.balance <= {MAX_MINOR}
    RETURNING balance
), noted AS (
    INSERT INTO transactions (transaction_id, kind, account_id, amount, verdict, new_balance)
    SELECT $1, {DEPOSIT}, $2, $3,
        CASE WHEN found.balance IS NULL THEN {Verdict.OVER_LIMIT} ELSE {Verdict.DONE} END, found.balance
    FROM (SELECT (SELECT balance FROM changed) AS balance) AS found
    WHERE NOT EXISTS (SELECT FROM known)
    RETURNING kind, account_id, amount, verdict, new_balance
)"""
    + _ANSWER
)

WITHDRAW_SQL: Final = (
    _KNOWN
    + f""", changed AS (
    UPDATE accounts SET balance = balance - $3::bigint
    WHERE account_id = $2 AND balance >= $3 AND NOT EXISTS (SELECT FROM known)
    RETURNING balance
), noted AS (
    INSERT INTO transactions (transaction_id, kind, account_id, amount, verdict, new_balance)
    SELECT $1, {WITHDRAW}, $2, $3,
        CASE WHEN found.balance IS NOT NULL THEN {Verdict.DONE}
             WHEN EXISTS (SELECT FROM accounts WHERE account_id = $2) THEN {Verdict.INSUFFICIENT}
             ELSE {Verdict.NOT_FOUND} END, found.balance
    FROM (SELECT (SELECT balance FROM changed) AS balance) AS found
    WHERE NOT EXISTS (SELECT FROM known)
    RETURNING kind, account_id, amount, verdict, new_balance
)"""
    + _ANSWER
)

BALANCE_SQL: Final = "SELECT balance FROM accounts WHERE account_id = $1"
